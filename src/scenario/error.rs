// SPDX-License-Identifier: GPL-2.0-only
//! Saying where a scenario is wrong, and what was probably meant.

use std::fmt;

/// Something in a scenario that cannot be understood.
///
/// Displayed as
/// ```text
/// error: unknown system call `ftruncat`
///   --> minor.scn:7:1
///    |
///  7 | ftruncat(3, 8192) = 0
///    | ^^^^^^^^ did you mean `ftruncate`?
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The file, as given.
    pub path: String,
    /// Line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// How many characters are wrong.
    pub width: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant; stands behind the `^^^`.
    pub note: Option<String>,
    /// How the operation is written.
    pub usage: Option<String>,
}

impl Error {
    /// An error at a word of a text, for callers that check names which this module does not know.
    pub fn at(path: &str, text: &str, word: &super::Word, message: String, note: Option<String>) -> Error {
        Error {
            path: path.to_owned(),
            line: word.line,
            column: word.column,
            width: word.text.chars().count(),
            text: text.lines().nth(word.line.wrapping_sub(1)).unwrap_or_default().to_owned(),
            message,
            note,
            usage: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        if self.line == 0 {
            write!(f, "  --> {}", self.path)?;
            if let Some(note) = &self.note {
                write!(f, "\n   = {note}")?;
            }
            return Ok(());
        }
        let number = self.line.to_string();
        let margin = number.len().max(2);
        writeln!(f, "{:margin$}--> {}:{}:{}", "", self.path, self.line, self.column)?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{number:>margin$} | {}", self.text.trim_end())?;
        // Tabs are kept, so that the underline stands below what it means however wide the terminal makes them.
        let before: String = self.text.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "{:margin$} | {before}{}", "", "^".repeat(self.width.max(1)))?;
        if let Some(note) = &self.note {
            write!(f, " {note}")?;
        }
        if let Some(usage) = &self.usage {
            write!(f, "\n{:margin$} = usage: {usage}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Everything that is wrong with a scenario; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The candidate that was probably meant by a word that is none of them.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let worst = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let c = candidate.to_ascii_lowercase();
            // MINOR for UFFDIO_REGISTER_MODE_MINOR; only whole words, for a tail of a letter or two fits everything.
            if lower.len() >= 2 && c.strip_suffix(&lower).is_some_and(|rest| rest.ends_with(['_', '-'])) {
                return Some((1, candidate));
            }
            // `length` for `len`.
            if lower.len().min(c.len()) >= 3 && (c.starts_with(&lower) || lower.starts_with(&c)) {
                return Some((2, candidate));
            }
            let distance = strsim::damerau_levenshtein(&lower, &c);
            (distance <= worst).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The answer to a name that is none of those that are known.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = match did_you_mean(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    format!("error: unknown {what} `{name}`; {hint}")
}

/// The note behind the `^^^` for a word that is none of the candidates.
pub(super) fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    did_you_mean(word, candidates).map(|c| format!("did you mean `{c}`?"))
}

/// A part of a line, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub at: usize,
    pub len: usize,
}

/// An error within a line.
#[derive(Debug)]
pub(super) struct Bad {
    pub span: Span,
    pub message: String,
    pub note: Option<String>,
    pub usage: Option<&'static str>,
}

impl Bad {
    pub fn new(span: Span, message: impl Into<String>) -> Bad {
        Bad { span, message: message.into(), note: None, usage: None }
    }
    pub fn note(mut self, note: impl Into<Option<String>>) -> Bad {
        self.note = note.into();
        self
    }
    /// With the rest of what is needed to show it.
    pub fn within(self, path: &str, line: usize, text: &str) -> Error {
        let at = self.span.at.min(text.len());
        let end = (at + self.span.len).min(text.len());
        Error {
            path: path.to_owned(),
            line,
            column: text[..at].chars().count() + 1,
            width: text[at..end].chars().count(),
            text: text.to_owned(),
            message: self.message,
            note: self.note,
            usage: self.usage.map(str::to_owned),
        }
    }
}
