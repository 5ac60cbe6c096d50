// SPDX-License-Identifier: GPL-2.0-only
//! Reading one line: an operation and its result.

use super::ast::{Expect, Expected, ExpectedRet, Injected};
use super::error::{Bad, Span, meant};
use super::lex::{self, Tok};
use super::names;
use crate::errno::Errno;
use crate::flags::{MapFlags, Prot, Seals, UffdPagefaultFlags};
use crate::kernel::{CELLS, Cell, SITES};
use crate::syscall::{Fd, Msg, Op, Out, Path, UserBuf};

/// The operation part of a line, as tokens.
pub(super) struct Line<'a> {
    text: &'a str,
    pub toks: Vec<(Tok<'a>, Span)>,
    pub at: usize,
    threads: &'a [String],
}

impl<'a> Line<'a> {
    pub fn new(text: &'a str, from: usize, threads: &'a [String]) -> Result<Line<'a>, Bad> {
        let toks = lex::tokens(text, from)?;
        if toks.is_empty() {
            return Err(Bad::new(Span { at: text.len(), len: 1 }, "an operation is missing here"));
        }
        Ok(Line { text, toks, at: 0, threads })
    }

    // Tokens.

    pub fn peek(&self) -> Option<&Tok<'a>> {
        self.toks.get(self.at).map(|t| &t.0)
    }

    /// The next token; behind the last one at the end of the line.
    pub fn here(&self) -> Span {
        match (self.toks.get(self.at), self.toks.last()) {
            (Some(&(_, span)), _) => span,
            (None, Some(&(_, span))) => Span { at: span.at + span.len, len: 1 },
            (None, None) => Span { at: self.text.len(), len: 1 },
        }
    }

    /// From this token to the last one read.
    fn since(&self, first: usize) -> Span {
        match (self.toks.get(first), self.at.checked_sub(1).and_then(|i| self.toks.get(i))) {
            (Some((_, a)), Some((_, b))) if b.at >= a.at => Span { at: a.at, len: b.at + b.len - a.at },
            _ => self.here(),
        }
    }

    fn found(&self) -> String {
        match self.toks.get(self.at) {
            Some((_, Span { at, len })) => format!("`{}`", &self.text[*at..at + len]),
            None => "the end of the line".to_owned(),
        }
    }

    /// The text itself.
    pub fn source(&self, span: Span) -> &'a str {
        &self.text[span.at..(span.at + span.len).min(self.text.len())]
    }

    /// From here to the next space or comma, whatever it is.
    pub fn raw(&mut self) -> (&'a str, Span) {
        let at = self.here().at.min(self.text.len());
        let len = self.text[at..].find(|c: char| c.is_whitespace() || c == ',').unwrap_or(self.text.len() - at);
        while self.toks.get(self.at).is_some_and(|(_, span)| span.at < at + len) {
            self.at += 1;
        }
        (&self.text[at..at + len], Span { at, len: len.max(1) })
    }

    pub fn expected(&self, what: &str) -> Bad {
        Bad::new(self.here(), format!("expected {what}, found {}", self.found()))
    }

    pub fn eat(&mut self, tok: &Tok<'_>) -> bool {
        let yes = self.peek() == Some(tok);
        self.at += yes as usize;
        yes
    }

    pub fn eat_punct(&mut self, p: &'static str) -> bool {
        self.eat(&Tok::Punct(p))
    }

    pub fn punct(&mut self, p: &'static str) -> Result<(), Bad> {
        if self.eat_punct(p) { Ok(()) } else { Err(self.expected(&format!("`{p}`"))) }
    }

    /// Between two arguments.
    fn comma(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(Tok::Punct(")")) => Err(Bad::new(self.here(), "an argument is missing")),
            _ => self.punct(","),
        }
    }

    /// After the last argument.
    fn close(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(Tok::Punct(",")) => Err(Bad::new(self.here(), "an argument too many")),
            _ => self.punct(")"),
        }
    }

    pub fn end(&mut self, of: &str) -> Result<(), Bad> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Bad::new(self.here(), format!("{} follows {of}", self.found()))),
        }
    }

    pub fn word(&mut self, what: &str) -> Result<&'a str, Bad> {
        match self.peek() {
            Some(&Tok::Word(w)) => {
                self.at += 1;
                Ok(w)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A word that must be one of these.
    pub fn one_of<T: Copy>(&mut self, what: &str, all: &[(&str, T)]) -> Result<T, Bad> {
        let span = self.here();
        let word = self.word(what)?;
        all.iter().find(|(name, _)| *name == word).map(|&(_, value)| value).ok_or_else(|| {
            let names = all.iter().map(|&(name, _)| name);
            Bad::new(span, format!("`{word}` is not {what}")).note(meant(word, names.clone()).or_else(|| listed(names)))
        })
    }

    pub fn number(&mut self, what: &str) -> Result<u64, Bad> {
        match self.peek() {
            Some(&Tok::Num(n)) => {
                self.at += 1;
                Ok(n)
            }
            Some(Tok::Punct("-")) => Err(Bad::new(self.here(), format!("{what} cannot be negative"))),
            _ => Err(self.expected(what)),
        }
    }

    fn limited(&mut self, what: &str, max: u64) -> Result<u64, Bad> {
        let span = self.here();
        let n = self.number(what)?;
        if n > max {
            return Err(Bad::new(span, format!("{n} is too large for {what}")).note(format!("at most {max}")));
        }
        Ok(n)
    }

    fn fd(&mut self) -> Result<Fd, Bad> {
        Ok(self.limited("a descriptor", Fd::MAX.into())? as Fd)
    }

    fn byte(&mut self) -> Result<u8, Bad> {
        if let Some(&Tok::Char(c)) = self.peek() {
            self.at += 1;
            return Ok(c);
        }
        Ok(self.limited("a byte", 255)? as u8)
    }

    /// A number that fits the signed result of a call.
    fn signed(&mut self, what: &str) -> Result<i64, Bad> {
        Ok(self.limited(what, i64::MAX as u64)? as i64)
    }

    fn string(&mut self, what: &str) -> Result<Vec<u8>, Bad> {
        match self.peek() {
            Some(Tok::Str(s)) => {
                let s = s.clone();
                self.at += 1;
                Ok(s)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A string that can only be one.
    fn exactly(&mut self, s: &str) -> Result<(), Bad> {
        let span = self.here();
        if self.string(&format!("\"{s}\""))? == s.as_bytes() {
            return Ok(());
        }
        Err(Bad::new(span, format!("only \"{s}\" can stand here")))
    }

    fn zero(&mut self) -> Result<(), Bad> {
        let span = self.here();
        match self.number("0")? {
            0 => Ok(()),
            _ => Err(Bad::new(span, "only 0 can stand here")),
        }
    }

    /// Flags joined by `|`. Numbers are taken too; `known` says that they must be made of known bits.
    fn mask(&mut self, what: &str, table: &[(&'static str, u64)], known: bool) -> Result<u64, Bad> {
        let mut bits = 0;
        loop {
            let span = self.here();
            match self.peek() {
                Some(&Tok::Num(1)) if self.toks.get(self.at + 1).is_some_and(|t| t.0 == Tok::Punct("<<")) => {
                    self.at += 2;
                    if !table.iter().any(|t| t.0.starts_with("1<<")) {
                        return Err(Bad::new(self.since(self.at - 2), format!("a shift is not {what}"))
                            .note("only masks of ioctls are written so".to_owned()));
                    }
                    let span = self.here();
                    let word = self.word("the number of an ioctl")?;
                    let full = format!("1<<{word}");
                    bits |= lookup(&full, what, table, span).map_err(|mut bad| {
                        bad.message = format!("`{word}` is not the number of an ioctl");
                        bad
                    })?;
                }
                Some(&Tok::Num(n)) => {
                    self.at += 1;
                    let all = table.iter().fold(0, |a, t| a | t.1);
                    if known && n & !all != 0 {
                        return Err(Bad::new(span, format!("{:#x} is not {what}", n & !all)));
                    }
                    bits |= n;
                }
                Some(&Tok::Word(word)) => {
                    self.at += 1;
                    bits |= lookup(word, what, table, span)?;
                }
                _ => return Err(self.expected(what)),
            }
            if !self.eat_punct("|") {
                return Ok(bits);
            }
        }
    }

    fn protection(&mut self) -> Result<Prot, Bad> {
        Ok(Prot::from_bits_truncate(self.mask("a protection", &names::prot(), true)? as u8))
    }

    /// An address, or (for a source) a byte in quotes, or (for a destination) empty quotes.
    fn buffer(&mut self, source: bool) -> Result<UserBuf, Bad> {
        let span = self.here();
        match self.peek() {
            Some(Tok::Str(_)) => {
                match (source, &self.string("")?[..]) {
                    (true, &[byte]) => Ok(UserBuf::Fill(byte)),
                    (false, &[]) => Ok(UserBuf::Fill(0)),
                    (true, _) => {
                        Err(Bad::new(span, "the source is one byte, which is repeated").note("for instance \"A\"".to_owned()))
                    }
                    (false, _) => Err(Bad::new(span, "the destination says nothing")
                        .note("write \"\"; what was read stands behind `=`".to_owned())),
                }
            }
            Some(Tok::Num(_)) => Ok(UserBuf::Addr(self.number("an address")?)),
            _ => Err(self.expected(if source { "an address or a byte like \"A\"" } else { "an address or \"\"" })),
        }
    }

    /// `name=value, ...}` in any order; the `{` has been read. Fields that are not required are 0.
    fn fields<const N: usize>(
        &mut self,
        of: &str,
        names: [&'static str; N],
        required: usize,
        mut value: impl FnMut(&mut Self, usize) -> Result<u64, Bad>,
    ) -> Result<[u64; N], Bad> {
        let mut values = [None; N];
        loop {
            if self.peek() == Some(&Tok::Punct("}")) {
                break;
            }
            let span = self.here();
            let word = self.word(&format!("a field of {of}"))?;
            let Some(i) = names.iter().position(|&n| n == word) else {
                let note = meant(word, names).unwrap_or_else(|| format!("the fields are {}", names.join(", ")));
                return Err(Bad::new(span, format!("{of} has no field `{word}`")).note(note));
            };
            self.punct("=")?;
            if values[i].replace(value(self, i)?).is_some() {
                return Err(Bad::new(span, format!("`{word}` is given twice")));
            }
            if !self.eat_punct(",") {
                break;
            }
            if self.peek() == Some(&Tok::Punct("}")) {
                return Err(Bad::new(self.here(), "a field is missing after the comma"));
            }
        }
        if self.peek() != Some(&Tok::Punct("}")) {
            return Err(self.expected("`,` or `}`"));
        }
        if let Some(i) = (0..required).find(|&i| values[i].is_none()) {
            return Err(Bad::new(self.here(), format!("{of} lacks `{}=`", names[i])));
        }
        self.at += 1;
        Ok(values.map(Option::unwrap_or_default))
    }

    // Operations.

    pub fn call(&mut self) -> Result<Op, Bad> {
        let span = self.here();
        let name = match self.peek() {
            Some(Tok::Unfinished | Tok::Resumed) => {
                return Err(
                    Bad::new(span, "no operation stands before this").note("`NAME: <... resumed>` needs the thread".to_owned())
                );
            }
            _ => self.word("a system call")?,
        };
        let Some(&(_, usage)) = names::CALLS.iter().find(|c| c.0 == name) else {
            let calls = names::CALLS.iter().map(|c| c.0);
            let note = match name {
                "kill" | "tgkill" => Some("did you mean `tkill`?".to_owned()),
                "pread" | "pwrite" => Some(format!("did you mean `{name}64`?")),
                "write" => Some("did you mean `pwrite64`?".to_owned()),
                "openat" => Some("did you mean `open`?".to_owned()),
                "exit" => Some("did you mean `exit_group`?".to_owned()),
                _ if name.starts_with("UFFDIO_") => Some(format!("write `ioctl(fd, {name}, ...)`")),
                _ => meant(name, calls),
            };
            return Err(Bad::new(span, format!("unknown system call `{name}`")).note(note));
        };
        self.arguments(name).map_err(|bad| Bad { usage: bad.usage.or(Some(usage)), ..bad })
    }

    fn arguments(&mut self, name: &str) -> Result<Op, Bad> {
        self.punct("(")?;
        let op = match name {
            "memfd_create" => {
                self.exactly("")?;
                self.comma()?;
                Op::MemfdCreate { sealing: self.mask("a flag of memfd_create", names::MFD, true)? != 0 }
            }
            "mount" => {
                for s in ["tmpfs", "/mnt", "tmpfs"] {
                    self.exactly(s)?;
                    self.comma()?;
                }
                self.zero()?;
                self.comma()?;
                Op::Mount { size: self.mount_size()? }
            }
            "open" => {
                let path = self.path()?;
                self.comma()?;
                let first = self.at;
                let flags = self.mask("a flag of open", names::OPEN, true)?;
                let (read, write) = match flags & 15 {
                    1 => (true, false),
                    2 => (false, true),
                    4 => (true, true),
                    8 => (false, false),
                    _ => return Err(Bad::new(self.since(first), "one of O_RDONLY, O_WRONLY and O_RDWR is needed")),
                };
                Op::Open { path, read, write, creat: flags & 16 != 0 }
            }
            "unlink" => {
                let span = self.here();
                match self.path()? {
                    Path::Mnt(name) => Op::Unlink { name },
                    _ => return Err(Bad::new(span, "only files on /mnt can be unlinked")),
                }
            }
            "close" => Op::Close { fd: self.fd()? },
            "ftruncate" => {
                let fd = self.fd()?;
                self.comma()?;
                Op::Ftruncate { fd, length: self.number("a length")? }
            }
            "fallocate" => {
                let fd = self.fd()?;
                self.comma()?;
                let first = self.at;
                let bits = self.mask("a mode of fallocate", names::FALLOC, true)?;
                let Some(mode) = names::FALLOC_MODES.iter().copied().find(|&m| names::mask_of::falloc(m) == bits) else {
                    return Err(Bad::new(self.since(first), "this mode of fallocate is not modelled").note(
                        "0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE or FALLOC_FL_ZERO_RANGE".to_owned(),
                    ));
                };
                self.comma()?;
                let offset = self.number("an offset")?;
                self.comma()?;
                Op::Fallocate { fd, mode, offset, len: self.number("a length")? }
            }
            "pread64" | "pwrite64" => {
                let fd = self.fd()?;
                self.comma()?;
                let buf = self.buffer(name == "pwrite64")?;
                self.comma()?;
                let count = self.number("a count")?;
                self.comma()?;
                let offset = self.number("an offset")?;
                if name == "pread64" { Op::Pread { fd, buf, count, offset } } else { Op::Pwrite { fd, buf, count, offset } }
            }
            "lseek" => {
                let fd = self.fd()?;
                self.comma()?;
                let offset = self.number("an offset")?;
                self.comma()?;
                Op::Lseek { fd, offset, data: self.one_of("a direction of lseek", &[("SEEK_DATA", true), ("SEEK_HOLE", false)])? }
            }
            "fcntl" => {
                let fd = self.fd()?;
                self.comma()?;
                self.one_of("a command of fcntl", &[("F_ADD_SEALS", ())])?;
                self.comma()?;
                Op::AddSeals { fd, seals: Seals::from_bits_truncate(self.mask("a seal", &names::seals(), true)? as u8) }
            }
            "fstat" => Op::Fstat { fd: self.fd()? },
            "fstatfs" => Op::Fstatfs { fd: self.fd()? },
            "mmap" => {
                let (addr, len) = self.range()?;
                self.comma()?;
                let prot = self.protection()?;
                self.comma()?;
                let flags = MapFlags::from_bits_truncate(self.mask("a flag of mmap", &names::map_flags(), true)? as u32);
                self.comma()?;
                let fd = if self.eat_punct("-") {
                    let span = self.here();
                    if self.number("1")? != 1 {
                        return Err(Bad::new(span, "a descriptor cannot be negative").note("-1 is no file".to_owned()));
                    }
                    None
                } else {
                    Some(self.fd()?)
                };
                self.comma()?;
                Op::Mmap { addr, len, prot, flags, fd, offset: self.number("an offset")? }
            }
            "munmap" | "mlock" | "munlock" | "mincore" => {
                let (addr, len) = self.range()?;
                match name {
                    "munmap" => Op::Munmap { addr, len },
                    "mlock" => Op::Mlock { addr, len },
                    "munlock" => Op::Munlock { addr, len },
                    _ => Op::Mincore { addr, len },
                }
            }
            "mprotect" => {
                let (addr, len) = self.range()?;
                self.comma()?;
                Op::Mprotect { addr, len, prot: self.protection()? }
            }
            "mremap" => {
                let (old, old_len) = self.range()?;
                self.comma()?;
                let new_len = self.number("a length")?;
                self.comma()?;
                let first = self.at;
                let flags = self.mask("a flag of mremap", names::MREMAP, true)?;
                let span = self.since(first);
                let new = if self.eat_punct(",") { Some(self.number("an address")?) } else { None };
                if flags & 3 != names::mask_of::mremap(new.is_some(), false) {
                    return Err(Bad::new(span, "MREMAP_MAYMOVE|MREMAP_FIXED and a new address come together, or not at all"));
                }
                Op::Mremap { old, old_len, new_len, new, dontunmap: flags & 4 != 0 }
            }
            "madvise" => {
                let (addr, len) = self.range()?;
                self.comma()?;
                let all: Vec<_> = names::ADVICE.iter().map(|&a| (names::variant(a), a)).collect();
                let all: Vec<_> = all.iter().map(|(n, a)| (n.as_str(), *a)).collect();
                Op::Madvise { addr, len, advice: self.one_of("an advice", &all)? }
            }
            "load" => Op::Load { addr: self.number("an address")? },
            "store" => {
                let addr = self.number("an address")?;
                self.comma()?;
                Op::Store { addr, value: self.byte()? }
            }
            "userfaultfd" => {
                let flags = self.mask("a flag of userfaultfd", names::UFFD, true)?;
                Op::Userfaultfd { nonblock: flags & 1 != 0, user_mode_only: flags & 2 != 0 }
            }
            "ioctl" => {
                let fd = self.fd()?;
                self.comma()?;
                self.ioctl(fd)?
            }
            "read" => Op::UffdRead { fd: self.fd()? },
            "poll" => Op::Poll { fd: self.fd()? },
            "fork" => Op::Fork,
            "exit_group" => {
                self.zero()?;
                Op::Exit
            }
            "tkill" => {
                let span = self.here();
                let task = match self.peek() {
                    Some(&Tok::Word(word)) => {
                        self.at += 1;
                        self.threads.iter().position(|t| t == word).ok_or_else(|| {
                            let note = meant(word, self.threads.iter().map(String::as_str));
                            Bad::new(span, format!("there is no thread `{word}`")).note(note)
                        })? as u8
                    }
                    Some(Tok::Num(_)) => self.limited("a thread", 255)? as u8,
                    _ => return Err(self.expected("a thread")),
                };
                self.comma()?;
                Op::Kill { task, fatal: self.one_of("a signal", &[("SIGKILL", true), ("SIGUSR1", false)])? }
            }
            "reclaim" => {
                let fd = self.fd()?;
                self.comma()?;
                Op::Reclaim { fd, offset: self.number("an offset")? }
            }
            "swapon" => Op::Swapon { slots: self.limited("a number of slots", u16::MAX.into())? as u16 },
            _ => Op::Swapoff,
        };
        self.close()?;
        Ok(op)
    }

    fn range(&mut self) -> Result<(u64, u64), Bad> {
        let addr = self.number("an address")?;
        self.comma()?;
        Ok((addr, self.number("a length")?))
    }

    fn mount_size(&mut self) -> Result<u64, Bad> {
        let span = self.here();
        let options = self.string("\"size=BYTES\"")?;
        let wrong =
            || Bad::new(span, "the only mount option is size").note("\"size=8192\", \"size=8k\"; size=0 is unlimited".to_owned());
        let digits = std::str::from_utf8(&options).ok().and_then(|o| o.strip_prefix("size=")).ok_or_else(wrong)?;
        let (digits, shift) = match digits.as_bytes().last() {
            Some(b'k' | b'K') => (&digits[..digits.len() - 1], 10),
            Some(b'm' | b'M') => (&digits[..digits.len() - 1], 20),
            _ => (digits, 0),
        };
        let n = lex::number(digits, span)?;
        n.checked_mul(1 << shift).ok_or_else(|| Bad::new(span, "the size does not fit into 64 bits"))
    }

    fn path(&mut self) -> Result<Path, Bad> {
        let span = self.here();
        let bytes = self.string("a path")?;
        let path = String::from_utf8_lossy(&bytes);
        let wrong = |note: &str| Bad::new(span, "no such file").note(note.to_owned());
        match &*path {
            "/dev/zero" => Ok(Path::DevZero),
            "/proc/self/mem" => Ok(Path::ProcSelfMem),
            p => {
                if let Some(fd) = p.strip_prefix("/proc/self/fd/") {
                    return fd.parse().map(Path::ProcSelfFd).map_err(|_| wrong("/proc/self/fd/ and a descriptor up to 255"));
                }
                match p.strip_prefix("/mnt/").map(str::as_bytes) {
                    Some(&[name @ b'a'..=b'z']) => Ok(Path::Mnt(name)),
                    Some(_) => Err(wrong("files on /mnt are called a to z")),
                    None => Err(wrong("there are /mnt/a to /mnt/z, /dev/zero, /proc/self/mem and /proc/self/fd/N")),
                }
            }
        }
    }

    fn ioctl(&mut self, fd: Fd) -> Result<Op, Bad> {
        let requests: Vec<_> = names::IOCTLS.iter().map(|&(name, usage)| (name, (name, usage))).collect();
        let (request, usage) = self.one_of("a request of userfaultfd", &requests)?;
        self.request(fd, request).map_err(|bad| Bad { usage: Some(usage), ..bad })
    }

    fn request(&mut self, fd: Fd, request: &str) -> Result<Op, Bad> {
        self.comma()?;
        self.punct("{")?;
        let num = |line: &mut Self, i: usize| line.number(if i == 0 { "an address" } else { "a length" });
        let moded = |line: &mut Self, table: &[(&'static str, u64)]| {
            line.fields(request, ["start", "len", "mode"], 2, |line, i| match i {
                2 => line.mask(&format!("a mode of {request}"), table, false),
                _ => num(line, i),
            })
        };
        Ok(match request {
            "UFFDIO_API" => {
                let table = names::features();
                let [api, features] = self.fields(request, ["api", "features"], 1, |line, i| match i {
                    0 => line.number("a number"),
                    _ => line.mask("a feature", &table, false),
                })?;
                Op::UffdApi { fd, api, features }
            }
            "UFFDIO_REGISTER" => {
                let [start, len, mode] = moded(self, names::REGISTER)?;
                Op::UffdRegister { fd, start, len, mode }
            }
            "UFFDIO_UNREGISTER" => {
                let [start, len] = self.fields(request, ["start", "len"], 2, num)?;
                Op::UffdUnregister { fd, start, len }
            }
            "UFFDIO_WAKE" => {
                let [start, len] = self.fields(request, ["start", "len"], 2, num)?;
                Op::UffdWake { fd, start, len }
            }
            "UFFDIO_COPY" => {
                let mut src = UserBuf::Fill(0);
                let [dst, _, len, mode] = self.fields(request, ["dst", "src", "len", "mode"], 3, |line, i| match i {
                    1 => line.buffer(true).map(|buf| {
                        src = buf;
                        0
                    }),
                    3 => line.mask("a mode of UFFDIO_COPY", names::COPY, false),
                    _ => num(line, i),
                })?;
                Op::UffdCopy { fd, dst, src, len, mode }
            }
            "UFFDIO_ZEROPAGE" => {
                let [start, len, mode] = moded(self, names::ZEROPAGE)?;
                Op::UffdZeropage { fd, start, len, mode }
            }
            "UFFDIO_CONTINUE" => {
                let [start, len, mode] = moded(self, names::CONTINUE)?;
                Op::UffdContinue { fd, start, len, mode }
            }
            "UFFDIO_POISON" => {
                let [start, len, mode] = moded(self, names::POISON)?;
                Op::UffdPoison { fd, start, len, mode }
            }
            "UFFDIO_MOVE" => {
                let [dst, src, len, mode] = self.fields(request, ["dst", "src", "len", "mode"], 3, |line, i| match i {
                    3 => line.mask("a mode of UFFDIO_MOVE", names::MOVE, false),
                    _ => num(line, i),
                })?;
                Op::UffdMove { fd, dst, src, len, mode }
            }
            _ => {
                let [start, len, mode] = moded(self, names::WRITEPROTECT)?;
                Op::UffdWriteprotect { fd, start, len, mode }
            }
        })
    }

    /// `(INJECTED: SITE, SITE#2)`, if it stands here.
    pub fn injected(&mut self) -> Result<Vec<Injected>, Bad> {
        let Some(&Tok::Injected(text, span)) = self.peek() else { return Ok(Vec::new()) };
        self.at += 1;
        let mut all: Vec<Injected> = Vec::new();
        let mut at = span.at;
        for part in text.split(',') {
            let trimmed = part.trim();
            let here = Span { at: at + part.len() - part.trim_start().len(), len: trimmed.len().max(1) };
            at += part.len() + 1;
            let (site, nth) = trimmed.split_once('#').map_or((trimmed, None), |(site, n)| (site.trim_end(), Some(n)));
            if !SITES.contains(&site) {
                return Err(Bad::new(here, format!("`{site}` is not a call that may fail"))
                    .note(meant(site, SITES.iter().copied()).unwrap_or_else(|| format!("there are {}", SITES.join(", ")))));
            }
            let nth = match nth.map(str::parse) {
                None => 1,
                Some(Ok(n)) if n > 0 => n,
                Some(_) => return Err(Bad::new(here, "which call of it? 1 is the first").note(format!("{site}#2"))),
            };
            let one = Injected { site: site.to_owned(), nth };
            if all.contains(&one) {
                return Err(Bad::new(here, format!("`{trimmed}` is named twice")));
            }
            all.push(one);
        }
        Ok(all)
    }

    // Results.

    /// What follows an operation, up to the end of the line.
    pub fn expectation(&mut self, op: &Op, child: Option<&str>) -> Result<Expect, Bad> {
        let expect = match self.peek() {
            None => return Ok(Expect::Any),
            Some(Tok::Unfinished) => {
                self.at += 1;
                Expect::Blocked
            }
            Some(Tok::Punct("=")) => {
                self.at += 1;
                Expect::Is(self.result(op, child)?)
            }
            Some(Tok::Injected(..)) => {
                return Err(Bad::new(self.here(), "(INJECTED: ...) stands between the call and its result, once"));
            }
            Some(_) => return Err(self.expected("`= result` or `<unfinished ...>`")),
        };
        self.end("the result")?;
        Ok(expect)
    }

    pub fn result(&mut self, op: &Op, child: Option<&str>) -> Result<Expected, Bad> {
        let is = |n| ExpectedRet::Is(Ok(n));
        let span = self.here();
        if self.eat_punct("-") {
            if let Some(&Tok::Word(word)) = self.peek()
                && Errno::from_name(word).is_some()
            {
                let whole = Span { at: span.at, len: word.len() + 1 };
                return Err(Bad::new(whole, "an error is written as user space sees it").note(format!("write `-1 {word}`")));
            }
            if self.number("1")? != 1 {
                return Err(Bad::new(span, "a result cannot be negative, but for -1 with an errno"));
            }
            let errnos: Vec<_> = Errno::ALL.iter().map(|&e| (e.name(), e)).collect();
            let errno = match self.peek() {
                Some(Tok::Word(_)) => self.one_of("an errno", &errnos)?,
                _ => return Err(self.expected("an errno")),
            };
            return Ok(Expected { ret: ExpectedRet::Is(Err(errno)), out: self.by_reference(op)? });
        }
        let value = |ret, out| Ok(Expected { ret, out: Some(out) });
        match op {
            Op::Load { addr } | Op::Store { addr, .. } => {
                if let Some(&Tok::Word(word)) = self.peek()
                    && word != "stale"
                {
                    let out = self.signal(word, *addr)?;
                    return value(ExpectedRet::Any, out);
                }
                if matches!(op, Op::Store { .. }) {
                    if self.number("0 or a signal")? != 0 {
                        return Err(Bad::new(span, "a store gives 0 or a signal"));
                    }
                    return Ok(Expected { ret: is(0), out: None });
                }
                if self.eat_punct("?") {
                    return value(ExpectedRet::Any, Out::Byte(None));
                }
                let cell = self.cell("a byte, `?` or a signal")?;
                value(ExpectedRet::Any, Out::Byte(Some(cell)))
            }
            Op::UffdRead { .. } => {
                if matches!(self.peek(), Some(Tok::Num(_))) {
                    // Bytes of a file that is no userfaultfd.
                    return value(is(self.signed("a result")?), Out::None);
                }
                if self.peek() != Some(&Tok::Punct("{")) {
                    return Err(self.expected("a message like {PAGEFAULT, ...}"));
                }
                let msg = self.message()?;
                value(ExpectedRet::Any, Out::Msg(msg))
            }
            Op::Poll { .. } => {
                let bits = self.mask("an event of poll", names::POLL, true)?;
                value(ExpectedRet::Any, Out::Poll { pollin: bits & 1 != 0, pollerr: bits & 2 != 0 })
            }
            Op::Fork => match (self.peek(), child) {
                (Some(&Tok::Word(word)), Some(child)) if word == child => {
                    self.at += 1;
                    Ok(Expected { ret: ExpectedRet::Success, out: None })
                }
                (_, Some(child)) => Err(self.expected(&format!("`{child}` or `-1` and an errno"))),
                (_, None) => {
                    self.number("the number of a task")?;
                    Ok(Expected { ret: ExpectedRet::Success, out: None })
                }
            },
            _ => {
                if let Some(&Tok::Word(word)) = self.peek() {
                    let bad = self.expected("a number, or `-1` and an errno");
                    return Err(match Errno::from_name(word) {
                        Some(_) => bad.note(format!("write `-1 {word}`")),
                        None => bad,
                    });
                }
                let ret = self.signed("a result")?;
                Ok(Expected { ret: is(ret), out: self.by_reference(op)? })
            }
        }
    }

    fn signal(&mut self, word: &str, addr: u64) -> Result<Out, Bad> {
        let span = self.here();
        let Some(&sig) = names::SIGNALS.iter().find(|&&s| names::variant(s) == word) else {
            let bad = self.expected("a value or a signal");
            if word == "SIGSEGV" {
                return Err(Bad::new(span, "which SIGSEGV?")
                    .note("SIGSEGV_MAPERR: nothing is mapped; SIGSEGV_ACCERR: the mapping forbids it".to_owned()));
            }
            let signals: Vec<_> = names::SIGNALS.iter().map(|&s| names::variant(s)).collect();
            return Err(bad.note(meant(word, signals.iter().map(String::as_str))));
        };
        self.at += 1;
        let addr = if self.eat_punct("{") {
            let [addr] = self.fields("a signal", ["si_addr"], 1, |line, _| line.number("an address"))?;
            addr
        } else {
            addr
        };
        Ok(Out::Signal { sig, addr })
    }

    fn cell(&mut self, what: &str) -> Result<Cell, Bad> {
        if self.eat(&Tok::Word("stale")) {
            self.punct(":")?;
            return Ok(Cell::new(self.byte()?).stale());
        }
        match self.peek() {
            Some(Tok::Num(_) | Tok::Char(_)) => Ok(Cell::new(self.byte()?)),
            _ => Err(self.expected(what)),
        }
    }

    fn message(&mut self) -> Result<Msg, Bad> {
        self.punct("{")?;
        let span = self.here();
        let word = self.word("an event")?;
        let short = word.strip_prefix("UFFD_EVENT_").unwrap_or(word);
        if !names::EVENTS.contains(&short) {
            let note = meant(short, names::EVENTS).unwrap_or_else(|| names::EVENTS.join(" "));
            return Err(Bad::new(span, format!("`{word}` is not an event")).note(note));
        }
        if self.peek() != Some(&Tok::Punct("}")) {
            self.punct(",")?;
        }
        let num = |line: &mut Self, _: usize| line.number("an address");
        Ok(match short {
            "PAGEFAULT" => {
                let mut ptid = None;
                let [address, flags, _] = self.fields(short, ["address", "flags", "ptid"], 2, |line, i| match i {
                    0 => line.number("an address"),
                    1 => line.pagefault_flags(),
                    _ => {
                        let task = match line.peek() {
                            Some(Tok::Word(word)) if line.threads.iter().any(|t| t == word) => {
                                let word = line.word("")?;
                                line.threads.iter().position(|t| t == word).unwrap_or(0) as u64
                            }
                            _ => line.limited("a task", 255)?,
                        };
                        ptid = Some(task as u8);
                        Ok(0)
                    }
                })?;
                Msg::Pagefault { address, flags: UffdPagefaultFlags::from_bits_truncate(flags as u8), ptid }
            }
            "FORK" => {
                let [ufd] = self.fields(short, ["ufd"], 1, |line, _| line.fd().map(u64::from))?;
                Msg::Fork { ufd: ufd as Fd }
            }
            "REMAP" => {
                let [from, to, len] = self.fields(short, ["from", "to", "len"], 3, num)?;
                Msg::Remap { from, to, len }
            }
            "REMOVE" => {
                let [start, end] = self.fields(short, ["start", "end"], 2, num)?;
                Msg::Remove { start, end }
            }
            _ => {
                let [start, end] = self.fields(short, ["start", "end"], 2, num)?;
                Msg::Unmap { start, end }
            }
        })
    }

    /// Short names, or the kernel's long ones.
    fn pagefault_flags(&mut self) -> Result<u64, Bad> {
        let mut table = names::pagefault_flags();
        let long = [("UFFD_PAGEFAULT_FLAG_WRITE", 1), ("UFFD_PAGEFAULT_FLAG_WP", 2), ("UFFD_PAGEFAULT_FLAG_MINOR", 4)];
        table.extend(long);
        self.mask("a flag of a page fault", &table, true)
    }

    /// What stands behind the return value. None if nothing does.
    fn by_reference(&mut self, op: &Op) -> Result<Option<Out>, Bad> {
        if self.peek().is_none() {
            return Ok(None);
        }
        if let (Some(Tok::Punct("{")), Some((Tok::Punct("}"), _))) = (self.peek(), self.toks.get(self.at + 1)) {
            self.at += 2;
            return Ok(Some(Out::None));
        }
        let out = match op {
            Op::UffdCopy { .. } => self.done("UFFDIO_COPY", "copy")?,
            Op::UffdZeropage { .. } => self.done("UFFDIO_ZEROPAGE", "zeropage")?,
            Op::UffdContinue { .. } => self.done("UFFDIO_CONTINUE", "mapped")?,
            Op::UffdPoison { .. } => self.done("UFFDIO_POISON", "updated")?,
            Op::UffdMove { .. } => self.done("UFFDIO_MOVE", "move")?,
            Op::UffdRegister { .. } => {
                self.punct("{")?;
                let [ioctls] =
                    self.fields("UFFDIO_REGISTER", ["ioctls"], 1, |line, _| line.mask("an ioctl", names::IOCTL_BITS, false))?;
                Out::Ioctls(ioctls)
            }
            Op::UffdApi { .. } => {
                self.punct("{")?;
                let table = names::features();
                let [features, ioctls] = self.fields("UFFDIO_API", ["features", "ioctls"], 2, |line, i| match i {
                    0 => line.mask("a feature", &table, false),
                    _ => line.mask("an ioctl", names::IOCTL_BITS, false),
                })?;
                Out::Api { features, ioctls }
            }
            Op::Fstat { .. } => {
                self.punct("{")?;
                let [size, blocks] = self.fields("fstat", ["st_size", "st_blocks"], 2, |line, i| match i {
                    0 => line.number("a size"),
                    _ => line.integer("a number of blocks"),
                })?;
                Out::Stat { size, blocks: blocks as i64 }
            }
            Op::Fstatfs { .. } => {
                self.punct("{")?;
                let [blocks, bfree] =
                    self.fields("fstatfs", ["f_blocks", "f_bfree"], 2, |line, _| line.integer("a number of blocks"))?;
                Out::Statfs { blocks: blocks as i64, bfree: bfree as i64 }
            }
            Op::Pread { .. } => Out::Data(self.data()?),
            Op::Mincore { .. } => {
                self.punct("[")?;
                let mut pages = Vec::new();
                while !self.eat_punct("]") {
                    let span = self.here();
                    pages.push(match self.number("0, 1 or `]`")? {
                        n @ 0..=1 => n == 1,
                        _ => return Err(Bad::new(span, "a page is in core (1) or not (0)")),
                    });
                }
                Out::Mincore(pages)
            }
            _ => return Err(Bad::new(self.here(), format!("{} follows the result", self.found()))),
        };
        Ok(Some(out))
    }

    /// A number with a sign; the model may count below zero.
    pub fn integer(&mut self, what: &str) -> Result<u64, Bad> {
        let negative = self.eat_punct("-");
        let n = self.signed(what)?;
        Ok(if negative { -n } else { n } as u64)
    }

    fn done(&mut self, of: &str, field: &'static str) -> Result<Out, Bad> {
        self.punct("{")?;
        let [n] = self.fields(of, [field], 1, |line, _| {
            let negative = line.eat_punct("-");
            if let (true, Some(Tok::Word(_))) = (negative, line.peek()) {
                let errnos: Vec<_> = Errno::ALL.iter().map(|&e| (e.name(), e)).collect();
                return Ok(-line.one_of("an errno", &errnos)?.num() as u64);
            }
            let n = line.signed("a number of bytes, or an errno like -EFAULT")?;
            Ok(if negative { -n } else { n } as u64)
        })?;
        Ok(Out::Done(n as i64))
    }

    pub fn data(&mut self) -> Result<[Option<Cell>; CELLS], Bad> {
        let span = self.here();
        if let Some(Tok::Str(_)) = self.peek() {
            return match self.string("")?[..] {
                [byte] => Ok([Some(Cell::new(byte)); CELLS]),
                _ => Err(Bad::new(span, "contents are one byte, or a list").note("\"A\", or [0x41 0x41 0x00 0x00]".to_owned())),
            };
        }
        if !self.eat_punct("[") {
            return Err(self.expected("contents like \"A\" or [0x41 0x41 0x00 0x00]"));
        }
        let mut cells = Vec::new();
        while !self.eat_punct("]") {
            cells.push(if self.eat_punct("-") { None } else { Some(self.cell("a byte, `-` or `]`")?) });
        }
        let n = cells.len();
        cells.try_into().map_err(|_| {
            let end = self.toks[self.at - 1].1;
            Bad::new(
                Span { at: span.at, len: end.at + end.len - span.at },
                format!("{n} bytes, but {CELLS} of a page are watched"),
            )
        })
    }
}

fn lookup(word: &str, what: &str, table: &[(&'static str, u64)], span: Span) -> Result<u64, Bad> {
    if let Some(&(_, bits)) = table.iter().find(|t| t.0 == word) {
        return Ok(bits);
    }
    let names = table.iter().map(|t| t.0).filter(|n| n.contains('_') || !word.contains('_'));
    Err(Bad::new(span, format!("`{word}` is not {what}")).note(meant(word, names.clone()).or_else(|| listed(names))))
}

/// All there are, if they are few.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    match names[..] {
        [] => None,
        [one] => Some(format!("there is only {one}")),
        _ => Some(format!("there are {}", names.join(" "))).filter(|text| text.len() <= 100),
    }
}
