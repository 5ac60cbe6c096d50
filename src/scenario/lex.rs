// SPDX-License-Identifier: GPL-2.0-only
//! Tokens of an operation line, and words of the other lines.

use super::error::{Bad, Span};

/// A token of an operation line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tok<'a> {
    /// A name.
    Word(&'a str),
    /// Decimal or 0x.
    Num(u64),
    /// A string in double quotes, unescaped.
    Str(Vec<u8>),
    /// A byte in single quotes.
    Char(u8),
    /// `( ) { } [ ] , = | ? - : <<`
    Punct(&'static str),
    /// `<unfinished ...>`
    Unfinished,
    /// `<... resumed>`
    Resumed,
    /// `(INJECTED: sites)`, with what stands behind the colon, and where.
    Injected(&'a str, Span),
}

const PUNCT: [&str; 13] = ["<<", "(", ")", "{", "}", "[", "]", ",", "=", "|", "?", "-", ":"];

/// Cut the part of a line from byte `from` on into tokens; a `#` outside of quotes ends it.
pub(super) fn tokens(text: &str, from: usize) -> Result<Vec<(Tok<'_>, Span)>, Bad> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = from;
    while at < bytes.len() {
        let rest = &text[at..];
        let c = bytes[at];
        if c == b'#' {
            break;
        }
        if c.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (tok, len) = if c.is_ascii_alphabetic() || c == b'_' {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            (Tok::Word(&rest[..len]), len)
        } else if c.is_ascii_digit() {
            let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            (Tok::Num(number(&rest[..len], Span { at, len })?), len)
        } else if c == b'"' {
            let (bytes, len) = quoted(rest, at)?;
            (Tok::Str(bytes), len)
        } else if c == b'\'' {
            let (bytes, len) = quoted(rest, at)?;
            match bytes[..] {
                [byte] => (Tok::Char(byte), len),
                _ => return Err(Bad::new(Span { at, len }, "single quotes hold one byte")),
            }
        } else if rest.starts_with("(INJECTED") {
            let len = rest.find(')').map_or(rest.trim_end().len(), |i| i + 1);
            let inside = rest[..len].strip_suffix(')').and_then(|r| r.strip_prefix("(INJECTED:"));
            match inside {
                Some(sites) => (Tok::Injected(sites, Span { at: at + "(INJECTED:".len(), len: sites.len() }), len),
                None => {
                    return Err(Bad::new(Span { at, len }, "which call fails?")
                        .note("write `(INJECTED: SITE)`, for instance (INJECTED: shmem_alloc_page)".to_owned()));
                }
            }
        } else if let Some(p) = PUNCT.into_iter().find(|&p| rest.starts_with(p)) {
            (Tok::Punct(p), p.len())
        } else if c == b'<' {
            let len = rest.find('>').map_or(rest.trim_end().len(), |i| i + 1);
            // Without the `>` it is nothing.
            let inside = rest[1..len].strip_suffix('>').unwrap_or("");
            let tok = match inside.strip_prefix("...") {
                _ if inside == "unfinished ..." => Tok::Unfinished,
                // strace repeats the call's name here.
                Some(more) if more.split_whitespace().next_back() == Some("resumed") => Tok::Resumed,
                _ => {
                    return Err(Bad::new(Span { at, len }, format!("`{}` means nothing", &rest[..len]))
                        .note("write `<unfinished ...>` or `<... resumed>`".to_owned()));
                }
            };
            (tok, len)
        } else {
            let c = rest.chars().next().unwrap_or(' ');
            return Err(Bad::new(Span { at, len: c.len_utf8() }, format!("`{c}` has no meaning here")));
        };
        out.push((tok, Span { at, len }));
        at += len;
    }
    Ok(out)
}

/// A number as C writes it, but not octal.
pub(super) fn number(text: &str, span: Span) -> Result<u64, Bad> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Bad::new(span, format!("`{text}` is not a number")).note("decimal, or hexadecimal with 0x".to_owned()));
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| Bad::new(span, format!("`{text}` does not fit into 64 bits")))?;
    if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
        let octal = u64::from_str_radix(digits, 8).map_or(String::new(), |octal| format!(", or {octal} if octal was meant"));
        return Err(Bad::new(span, "octal numbers are not used here").note(format!("write {value}{octal}")));
    }
    Ok(value)
}

/// A quoted string with C escapes; gives the length with the quotes.
fn quoted(rest: &str, at: usize) -> Result<(Vec<u8>, usize), Bad> {
    let bytes = rest.as_bytes();
    let quote = bytes[0];
    let mut out = Vec::new();
    let mut i = 1;
    while i < bytes.len() {
        match bytes[i] {
            c if c == quote => return Ok((out, i + 1)),
            b'\\' => {
                let (byte, len) = match bytes.get(i + 1) {
                    Some(b'0') => (0, 2),
                    Some(b'n') => (b'\n', 2),
                    Some(b't') => (b'\t', 2),
                    Some(b'r') => (b'\r', 2),
                    Some(&c @ (b'\\' | b'"' | b'\'')) => (c, 2),
                    Some(b'x') => match rest.get(i + 2..i + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                        Some(byte) => (byte, 4),
                        None => return Err(Bad::new(Span { at: at + i, len: 2 }, "\\x needs two hexadecimal digits")),
                    },
                    _ => {
                        return Err(Bad::new(Span { at: at + i, len: 1 }, "unknown escape")
                            .note("known are \\0 \\n \\t \\r \\\\ \\\" \\' \\xHH".to_owned()));
                    }
                };
                out.push(byte);
                i += len;
            }
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    Err(Bad::new(Span { at, len: rest.trim_end().len() }, "the closing quote is missing"))
}

/// Cut the part of a line from byte `from` on at white space; a word that begins with `#` ends it.
pub(super) fn words(text: &str, from: usize) -> Vec<(&str, Span)> {
    let mut out = Vec::new();
    let mut at = from;
    while let Some(skip) = text[at..].find(|c: char| !c.is_whitespace()) {
        at += skip;
        let len = text[at..].find(char::is_whitespace).unwrap_or(text.len() - at);
        if text[at..].starts_with('#') {
            break;
        }
        out.push((&text[at..at + len], Span { at, len }));
        at += len;
    }
    out
}
