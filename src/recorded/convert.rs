// SPDX-License-Identifier: GPL-2.0-only
//! A recorded sequence as a scenario: the operations in the text format, with what the kernel answered and what could be seen
//! then as the promised results.

use super::Case;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const PAGE: u64 = 4096;
/// Windows `m0`, `m1` ... of the recordings: fixed addresses so far apart that nothing merges.
const WINDOWS: u64 = 0x1000_0000;
const WINDOW: u64 = 0x100_0000;
/// Where the recordings have a window whose mmap failed.
const FAILED: &str = "0xdead";
/// The sixteen source pages of UFFDIO_COPY.
const SOURCE: u64 = 0x6000_0000;
const SOURCE_PAGES: u64 = 16;
/// Where a page is mapped for the moment that it takes to swap it out.
const SCRATCH: u64 = 0x5800_0000;
/// Who does what the recording's coordinator did: sets up, reads messages.
const COORDINATOR: &str = "mon";

/// An operation that a scenario cannot say, by its name and why.
pub type NotCovered = (String, String);
type Result<T> = std::result::Result<T, NotCovered>;

fn not_covered<T>(what: impl Into<String>, why: &str) -> Result<T> {
    Err((what.into(), why.to_owned()))
}

#[derive(Default)]
struct Converter {
    out: String,
    windows: BTreeMap<String, u64>,
    names: BTreeMap<String, u8>,
    /// Files by name, with the descriptor under which they were opened first.
    files: BTreeMap<String, u8>,
    /// Their sizes, as last seen.
    sizes: BTreeMap<String, u64>,
    /// What children do not get: of a page that is not mapped there, only `-` is on record.
    not_forked: Vec<std::ops::Range<u64>>,
    used: Vec<u8>,
    children: usize,
    pending: BTreeMap<String, String>,
    source: Option<(u64, Option<u8>)>,
    pipe: Option<u8>,
}

/// The scenario's text.
pub fn convert(case: &Case) -> Result<String> {
    let mut c = Converter::default();
    for n in 0..4 {
        c.window(&format!("m{n}"));
    }
    let words = |s: &Value| s["op"].as_str().unwrap_or("").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if case.steps.iter().any(|s| words(s).first().is_some_and(|w| w == "kread" || w == "kwrite")) {
        // A pipe is a file that holds a byte: the copy from and to user memory is the same.
        let fd = c.open("pipe");
        c.pipe = Some(fd);
        c.line(COORDINATOR, &format!("memfd_create(\"\", 0) = {fd}"));
        c.line(COORDINATOR, &format!("pwrite64({fd}, \"Z\", 4096, 0) = 4096"));
    }
    for step in &case.steps {
        c.step(step)?;
    }
    let mut head = String::from("# SPDX-License-Identifier: GPL-2.0-only\n");
    let _ = writeln!(head, "question: {}", case.id);
    let memory_failure = if case.memory_failure { "" } else { " memory-failure=off" };
    let _ = writeln!(head, "machine: swap=64 frames=512{memory_failure}\nthreads: t0 t1 t2 t3 mon\n");
    Ok(head + &c.out)
}

fn number(s: &str) -> Result<u64> {
    let parsed = match s.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => s.parse(),
    };
    parsed.or_else(|_| not_covered(format!("number `{s}`"), "not understood"))
}

/// `3` pages, `100b` bytes, `1+100` both; `4p` in answers.
fn amount(s: &str) -> Result<u64> {
    let mut total = 0u64;
    for (i, part) in s.split('+').enumerate() {
        total = total.wrapping_add(match part.strip_suffix('b') {
            Some(bytes) => number(bytes)?,
            None if i == 0 => number(part.trim_end_matches('p'))?.wrapping_mul(PAGE),
            None => number(part)?,
        });
    }
    Ok(total)
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
}

fn bits(text: &str, table: &[(&str, u64)]) -> Result<u64> {
    if text.is_empty() || text == "-" {
        return Ok(0);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return number(text);
    }
    text.split(',').try_fold(0, |all, word| match table.iter().find(|(name, _)| *name == word) {
        Some((_, bit)) => Ok(all | bit),
        None => not_covered(format!("`{word}`"), "not understood"),
    })
}

const FEATURES: &[(&str, u64)] = &[
    ("wpfault", 1),
    ("fork", 1 << 1),
    ("remap", 1 << 2),
    ("remove", 1 << 3),
    ("miss_shmem", 1 << 5),
    ("unmap", 1 << 6),
    ("sigbus", 1 << 7),
    ("tid", 1 << 8),
    ("minor_shmem", 1 << 10),
    ("exact", 1 << 11),
    ("wp_shmem", 1 << 12),
    ("wp_unpop", 1 << 13),
    ("poison", 1 << 14),
    ("wp_async", 1 << 15),
    ("move", 1 << 16),
];
const IOCTLS: &[(&str, u64)] = &[
    ("register", 1),
    ("unregister", 1 << 1),
    ("wake", 1 << 2),
    ("copy", 1 << 3),
    ("zeropage", 1 << 4),
    ("move", 1 << 5),
    ("writeprotect", 1 << 6),
    ("continue", 1 << 7),
    ("poison", 1 << 8),
    ("api", 1 << 63),
];

fn protection(s: &str) -> String {
    let names: Vec<&str> = [('r', "PROT_READ"), ('w', "PROT_WRITE"), ('x', "PROT_EXEC")]
        .iter()
        .filter(|(c, _)| s != "none" && s.contains(*c))
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() { "PROT_NONE".to_owned() } else { names.join("|") }
}

/// `kf=` letters, and those of page-types.
const KPF: [(char, char); 9] =
    [('U', 'U'), ('D', 'D'), ('M', 'M'), ('a', 'a'), ('C', 's'), ('B', 'b'), ('u', 'u'), ('k', 'm'), ('Z', 'z')];

/// `b=42`: every byte; `b=77~42`: not all alike, the first and the last; `b=77~`: the first. So many of them were read.
fn contents(text: &str, read: u64) -> Result<String> {
    let byte = |hex: &str| match u8::from_str_radix(hex, 16) {
        Ok(byte) => Ok(Some(format!("{byte:#04x}"))),
        Err(_) if hex.is_empty() => Ok(None),
        Err(_) => not_covered(format!("contents {text}"), "not understood"),
    };
    let (first, last, all) = match text.split_once('~') {
        None => (byte(text)?, byte(text)?, byte(text)?),
        Some((first, last)) => (byte(first)?, byte(last)?, None),
    };
    let at = |at: u64| match at {
        _ if at >= read => None,
        0 => first.clone(),
        _ if at + 1 == read => last.clone(),
        _ => all.clone(),
    };
    let cells = crate::kernel::CELL_AT.map(|offset| at(offset).unwrap_or_else(|| "-".to_owned()));
    Ok(format!("[{}]", cells.join(" ")))
}

fn file_seen(words: &[&str]) -> Result<String> {
    let field = |name| number(option(words, name).unwrap_or("").trim_end_matches('k'));
    Ok(format!("size={} blocks={} swapped={}", field("size")?, field("blk")?, field("swp")? / 4))
}

/// `left` bytes of the file from the page's first on.
fn file_page_seen(value: &str, left: u64) -> Result<String> {
    if left == 0 {
        return Ok("gone".to_owned());
    }
    let (mut facts, mut bytes) = (Vec::new(), String::new());
    for word in value.split_whitespace() {
        facts.push(match word.split_once('=').unwrap_or((word, "")) {
            ("cs", ".") => "cachestat=hole".to_owned(),
            ("cs", "c") => "cachestat=cached".to_owned(),
            ("cs", "s") => "cachestat=swapped".to_owned(),
            ("sk", "D") => "seek_data=1".to_owned(),
            ("sk", "h") => "seek_data=0".to_owned(),
            // Not to be had on that kernel, or not then.
            ("cs", "?") | ("sk", "-") => continue,
            ("mi", bit) => format!("mincore={bit}"),
            ("b", text) => {
                bytes = contents(text, left.min(PAGE))?;
                continue;
            }
            _ => return not_covered(format!("`{word}` of a file's page"), "not understood"),
        });
    }
    Ok(format!("{} {bytes}", facts.join(" ")))
}

fn page_seen(value: &str) -> Result<String> {
    if value == "unmapped" {
        return Ok("gone".to_owned());
    }
    let (mut bits, mut facts, mut bytes) = (Vec::new(), Vec::new(), String::new());
    let mut words = value.split_whitespace();
    for letter in words.next().unwrap_or("").chars() {
        bits.push(match letter {
            'p' => "present",
            's' => "swap",
            'f' => "file",
            'w' => "uffd_wp",
            'x' => "exclusive",
            'g' => "guard",
            // Soft-dirty is the configuration's affair.
            '-' | 'd' => continue,
            _ => return not_covered(format!("entry `{value}`"), "not understood"),
        });
    }
    if bits.is_empty() {
        bits.push("none");
    }
    let mut count = None;
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            // The same frame as elsewhere.
            ("", _) => {}
            ("Z", _) => facts.push("kpf=z".to_owned()),
            ("mc", n) => count = Some(format!("count={n}")),
            ("kf", letters) => {
                let flags: String =
                    letters.chars().map(|c| KPF.iter().find(|(theirs, _)| *theirs == c).map_or('?', |(_, ours)| *ours)).collect();
                facts.push(format!("kpf={flags}"));
                facts.extend(count.take());
            }
            ("mi", bit) => facts.push(format!("mincore={bit}")),
            ("b", text) => bytes = contents(text, PAGE)?,
            _ => return not_covered(format!("`{word}` of a page"), "not understood"),
        }
    }
    Ok(format!("{} {} {bytes}", bits.join(" "), facts.join(" ")))
}

/// `[0-4 rw-s u=mwiAL rss=1 an=0 sc=0 sd=0 pc=0 pd=1 sw=0]`, for each mapping.
fn maps_seen(base: u64, value: &str) -> Result<String> {
    let mut all = Vec::new();
    for one in value.split(']').map(|one| one.trim().trim_start_matches('[')).filter(|one| !one.is_empty() && *one != "gone") {
        let words: Vec<&str> = one.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap_or((words[0], ""));
        let (start, end) = (base + number(start)? * PAGE, base + number(end)? * PAGE);
        let mut text = format!("{start:#x}-{end:#x} {}", words.get(1).unwrap_or(&""));
        for letter in option(&words, "u").unwrap_or("").chars().filter(|c| *c != '-') {
            let flag = match letter {
                'm' => "um",
                'w' => "uw",
                'i' => "ui",
                'A' => "ac",
                'L' => "lo",
                _ => return not_covered(format!("mapping `{one}`"), "not understood"),
            };
            let _ = write!(text, " {flag}");
        }
        let fields = [
            ("rss", "rss"),
            ("an", "anonymous"),
            ("sw", "swap"),
            ("sc", "shared_clean"),
            ("sd", "shared_dirty"),
            ("pc", "private_clean"),
            ("pd", "private_dirty"),
        ];
        for (theirs, ours) in fields {
            match number(option(&words, theirs).unwrap_or(""))? {
                0 => {}
                n => {
                    let _ = write!(text, " {ours}={n}");
                }
            }
        }
        all.push(text);
    }
    Ok(if all.is_empty() { "none".to_owned() } else { all.join(", ") })
}

impl Converter {
    fn line(&mut self, who: &str, text: &str) {
        let _ = writeln!(self.out, "{who}: {text}");
    }

    fn window(&mut self, name: &str) -> u64 {
        let next = WINDOWS + self.windows.len() as u64 * WINDOW;
        *self.windows.entry(name.to_owned()).or_insert(next)
    }

    fn address(&mut self, s: &str) -> Result<u64> {
        if s.starts_with("0x") {
            return number(s);
        }
        let (name, rest) = s.split_once('.').unwrap_or((s, "0"));
        let base = if name == "src" { SOURCE } else { self.window(name) };
        let (page, bytes) = rest.split_once('+').unwrap_or((rest, "0"));
        Ok(base.wrapping_add(number(page)?.wrapping_mul(PAGE)).wrapping_add(number(bytes)?))
    }

    /// The lowest free descriptor.
    fn open(&mut self, name: &str) -> u8 {
        let fd = (3..u8::MAX).find(|fd| !self.used.contains(fd)).unwrap_or(u8::MAX);
        self.used.push(fd);
        self.names.insert(name.to_owned(), fd);
        fd
    }

    fn fd(&self, name: &str) -> Result<u8> {
        self.names.get(name).copied().map_or_else(|| not_covered(format!("descriptor `{name}`"), "never opened"), Ok)
    }

    fn step(&mut self, step: &Value) -> Result<()> {
        let text = step["op"].as_str().unwrap_or("").to_owned();
        let who = step["x"].as_str().unwrap_or(COORDINATOR).to_owned();
        let waits_for_reader = self.operation(&who, &text, step)?;
        for message in step["ev"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.message(message)?;
        }
        if waits_for_reader {
            let result = self.result(&text, step)?;
            self.line(&who, format!("<... resumed> {result}").trim_end());
        }
        for late in step["late"].as_array().into_iter().flatten() {
            let who = late["x"].as_str().unwrap_or("").to_owned();
            let Some(text) = self.pending.remove(&who) else { return not_covered("late", "of no operation") };
            let result = self.result(&text, late)?;
            let result = if result.is_empty() { String::new() } else { format!(" {result}") };
            self.line(&who, &format!("<... resumed>{result}"));
        }
        for (key, value) in step["d"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or("");
            if key == "~st" {
                // Of the counters RssAnon is the recording program's own, too.
                let words: Vec<&str> = value.split_whitespace().collect();
                let field = |name| option(&words, name).unwrap_or("0");
                let _ = writeln!(self.out, "| rss: shmem={} swap={}", field("shm"), field("swap"));
            } else if !key.starts_with('~') {
                // The others that begin so do not repeat from run to run.
                self.seen(key, value)?;
            }
        }
        Ok(())
    }

    /// What was seen of one thing: `f` a file, `f.2` its page, `m0` a window, `m0.2` its page, `c0.m0.2` a child's.
    fn seen(&mut self, key: &str, value: &str) -> Result<()> {
        let (who, key) = match key.split_once('.') {
            Some((child, rest)) if child.starts_with('c') => (format!("{child} "), rest),
            _ => (String::new(), key),
        };
        let (name, page) = match key.split_once('.') {
            Some((name, page)) => (name, Some(number(page)?)),
            None => (key, None),
        };
        let line = match (self.files.get(name).copied(), page) {
            (Some(fd), None) => {
                let words: Vec<&str> = value.split_whitespace().collect();
                self.sizes.insert(name.to_owned(), number(option(&words, "size").unwrap_or(""))?);
                format!("| {fd}: {}", file_seen(&words)?)
            }
            (Some(fd), Some(page)) => {
                let size = self.sizes.get(name).copied().unwrap_or(0);
                format!("| {fd}[{page}]: {}", file_page_seen(value, size.saturating_sub(page * PAGE))?)
            }
            (None, Some(page)) => {
                let addr = self.window(name) + page * PAGE;
                let gone = !who.is_empty() && value == "-" && self.not_forked.iter().any(|range| range.contains(&addr));
                format!("| {who}{addr:#x}: {}", if gone { "gone".to_owned() } else { page_seen(value)? })
            }
            (None, None) => {
                let base = self.window(name);
                format!("| {who}maps {base:#x}-{:#x}: {}", base + WINDOW, maps_seen(base, value)?)
            }
        };
        self.out += line.trim_end();
        self.out.push('\n');
        Ok(())
    }

    /// The line of an operation. True: its end is to be told after the messages that it causes.
    fn operation(&mut self, who: &str, text: &str, step: &Value) -> Result<bool> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let w = |i: usize| words.get(i).copied().unwrap_or("");
        let ok = step["r"] == 0;
        match w(0) {
            // Messages are read as they were recorded, and nothing waits.
            "read" | "sleep" => return Ok(false),
            "memfd" => {
                let fd = self.open(w(1));
                self.files.insert(w(1).to_owned(), fd);
                self.line(who, &format!("memfd_create(\"\", MFD_ALLOW_SEALING) = {fd}"));
                if words.len() > 2 {
                    self.line(who, &format!("ftruncate({fd}, {}) = 0", amount(w(2))?));
                }
                return Ok(false);
            }
            "tmpfs" => {
                let size = option(&words, "size").and_then(|s| s.strip_suffix('k')).unwrap_or("");
                let size = number(size)? * 1024;
                self.line(who, &format!("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, \"size={size}\") = 0"));
                return Ok(false);
            }
            "tmpfile" => {
                let fd = self.open(w(1));
                self.files.insert(w(1).to_owned(), fd);
                self.line(who, &format!("open(\"/mnt/{}\", O_RDWR|O_CREAT) = {fd}", (b'a' + fd % 26) as char));
                self.line(who, &format!("ftruncate({fd}, {}) = 0", amount(w(3))?));
                return Ok(false);
            }
            "rdonly" => {
                let of = self.fd(w(2))?;
                let fd = self.open(w(1));
                self.line(who, &format!("open(\"/proc/self/fd/{of}\", O_RDONLY) = {fd}"));
                return Ok(false);
            }
            "uffd" => {
                let fd = self.open(w(1));
                let flags = option(&words, "flags").unwrap_or("");
                let user = if flags.split(',').any(|f| f == "user") { "|UFFD_USER_MODE_ONLY" } else { "" };
                self.line(who, &format!("userfaultfd(O_NONBLOCK{user}) = {fd}"));
                if !words.iter().any(|x| x.contains("noapi")) {
                    let features = bits(w(2), FEATURES)?;
                    let result = self.result("api", step)?;
                    self.line(who, &format!("ioctl({fd}, UFFDIO_API, {{api=0xaa, features={features:#x}}}) {result}"));
                }
                return Ok(false);
            }
            "swapout" => {
                let (fd, page, pages) = (self.fd(w(1))?, number(w(2))?, number(w(3))?);
                let len = pages * PAGE;
                let from = page * PAGE;
                self.line(
                    COORDINATOR,
                    &format!("mmap({SCRATCH:#x}, {len}, PROT_READ, MAP_SHARED|MAP_FIXED, {fd}, {from}) = {SCRATCH:#x}"),
                );
                self.line(COORDINATOR, &format!("madvise({SCRATCH:#x}, {len}, MADV_POPULATE_READ)"));
                self.line(COORDINATOR, &format!("madvise({SCRATCH:#x}, {len}, MADV_PAGEOUT)"));
                self.line(COORDINATOR, &format!("munmap({SCRATCH:#x}, {len}) = 0"));
                return Ok(false);
            }
            _ => {}
        }
        let call = self.call(who, &words)?;
        if w(0) == "close" && ok {
            let fd = self.fd(w(1))?;
            self.used.retain(|&f| f != fd);
        }
        // Whoever causes an event waits until it is read; the recording's coordinator had read it before it looked.
        let is_event = |m: &Value| m.as_str().is_some_and(|m| !m.contains(":PF "));
        let told = step["ev"].as_array().is_some_and(|ev| ev.iter().any(is_event));
        if step["r"] == "BLOCKED" {
            self.pending.insert(who.to_owned(), text.to_owned());
        }
        if step["r"] == "BLOCKED" || told {
            self.line(who, &format!("{call} <unfinished ...>"));
            return Ok(told && step["r"] != "BLOCKED");
        }
        let end = self.result(text, step)?;
        self.line(who, format!("{call} {end}").trim_end());
        Ok(false)
    }

    /// The source of UFFDIO_COPY: a page of one byte, or the sixteen source pages, each of its own.
    fn copy_source(&mut self, words: &[&str], len: u64) -> Result<String> {
        let byte = option(words, "v").map(number).transpose()?.map(|b| b as u8);
        let valid = option(words, "valid").map_or(Ok(SOURCE_PAGES), number)?;
        if let Some(src) = option(words, "src") {
            if src.starts_with("src") {
                self.fill_source(SOURCE_PAGES, Some(0xab))?;
            }
            return Ok(format!("{:#x}", self.address(src)?));
        }
        if valid == SOURCE_PAGES && (byte.is_some() || len <= PAGE) {
            return Ok(format!("\"\\x{:02x}\"", byte.unwrap_or(0xc0)));
        }
        self.fill_source(valid, byte)?;
        Ok(format!("{SOURCE:#x}"))
    }

    fn fill_source(&mut self, valid: u64, byte: Option<u8>) -> Result<()> {
        if self.source == Some((valid, byte)) {
            return Ok(());
        }
        self.source = Some((valid, byte));
        self.line(COORDINATOR, &format!("munmap({SOURCE:#x}, {}) = 0", SOURCE_PAGES * PAGE));
        if valid > 0 {
            let len = valid * PAGE;
            let flags = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED";
            self.line(COORDINATOR, &format!("mmap({SOURCE:#x}, {len}, PROT_READ|PROT_WRITE, {flags}, -1, 0) = {SOURCE:#x}"));
        }
        for page in 0..valid.min(4) {
            for at in crate::kernel::CELL_AT {
                let value = byte.unwrap_or(0xc0 + page as u8);
                self.line(COORDINATOR, &format!("store({:#x}, {value:#04x}) = 0", SOURCE + page * PAGE + at));
            }
        }
        Ok(())
    }

    fn call(&mut self, who: &str, words: &[&str]) -> Result<String> {
        let w = |i: usize| words.get(i).copied().unwrap_or("");
        let simple = |c: &mut Converter, name: &str| Ok(format!("{name}({:#x}, {})", c.address(w(1))?, amount(w(2))?));
        let mode = |table: &[(&str, u64)]| option(words, "mode").map_or(Ok(0), |m| bits(m, table));
        let fill = &[("dontwake", 1), ("wp", 2)];
        let ranged = |c: &mut Converter, name: &str, mode: u64| {
            let (fd, start, len) = (c.fd(w(1))?, c.address(w(2))?, amount(w(3))?);
            Ok(format!("ioctl({fd}, {name}, {{start={start:#x}, len={len:#x}, mode={mode:#x}}})"))
        };
        let unmoded = |c: &mut Converter, name: &str| {
            let (fd, start, len) = (c.fd(w(1))?, c.address(w(2))?, amount(w(3))?);
            Ok(format!("ioctl({fd}, {name}, {{start={start:#x}, len={len:#x}}})"))
        };
        let byte = |i: usize, default: u8| words.get(i).map_or(Ok(default), |x| number(x).map(|n| n as u8));
        match w(0) {
            "api" => {
                let api = option(words, "api").map_or(Ok(0xaa), number)?;
                Ok(format!("ioctl({}, UFFDIO_API, {{api={api:#x}, features={:#x}}})", self.fd(w(1))?, bits(w(2), FEATURES)?))
            }
            "close" => Ok(format!("close({})", self.fd(w(1))?)),
            "poll" => Ok(format!("poll({})", self.fd(w(1))?)),
            "seal" => {
                let seals: Vec<String> = w(2).split(',').map(|s| format!("F_SEAL_{}", s.to_uppercase())).collect();
                Ok(format!("fcntl({}, F_ADD_SEALS, {})", self.fd(w(1))?, seals.join("|")))
            }
            "mmap" => {
                if let Some(at) = option(words, "at") {
                    let at = self.address(at)?;
                    self.windows.insert(w(1).to_owned(), at);
                }
                let addr = self.window(w(1));
                let (kind, fd) = match w(2) {
                    "shared" => ("MAP_SHARED", self.fd(w(3))?.to_string()),
                    "private" => ("MAP_PRIVATE", self.fd(w(3))?.to_string()),
                    "anon" => ("MAP_PRIVATE|MAP_ANONYMOUS", "-1".to_owned()),
                    _ => ("MAP_SHARED|MAP_ANONYMOUS", "-1".to_owned()),
                };
                let mut flags = format!("{kind}|MAP_FIXED");
                for f in option(words, "flags").into_iter().flat_map(|f| f.split(',')) {
                    let _ = write!(flags, "|MAP_{}", f.to_uppercase());
                }
                Ok(format!("mmap({addr:#x}, {}, {}, {flags}, {fd}, {})", amount(w(5))?, protection(w(6)), amount(w(4))?))
            }
            "munmap" | "mlock" | "munlock" | "mincore" => simple(self, w(0)),
            "mprotect" => Ok(format!("mprotect({:#x}, {}, {})", self.address(w(1))?, amount(w(2))?, protection(w(3)))),
            "mremap" => {
                let (old, old_len, new_len) = (self.address(w(1))?, amount(w(2))?, amount(w(3))?);
                let keep = if words.contains(&"dontunmap") { "|MREMAP_DONTUNMAP" } else { "" };
                match option(words, "to") {
                    Some(to) => {
                        let to = self.address(to)?;
                        Ok(format!("mremap({old:#x}, {old_len}, {new_len}, MREMAP_MAYMOVE|MREMAP_FIXED{keep}, {to:#x})"))
                    }
                    None if keep.is_empty() => Ok(format!("mremap({old:#x}, {old_len}, {new_len}, 0)")),
                    None => not_covered("mremap dontunmap", "the kernel chose the address"),
                }
            }
            "madvise" => match w(3) {
                "free" | "hugepage" | "collapse" => {
                    not_covered(format!("madvise {}", w(3)), "lazily freed and huge pages are not modelled")
                }
                "dontfork" => {
                    let (addr, len) = (self.address(w(1))?, amount(w(2))?);
                    self.not_forked.push(addr..addr + len);
                    Ok(format!("madvise({addr:#x}, {len}, MADV_DONTFORK)"))
                }
                advice => Ok(format!("madvise({:#x}, {}, MADV_{})", self.address(w(1))?, amount(w(2))?, advice.to_uppercase())),
            },
            "ftruncate" => Ok(format!("ftruncate({}, {})", self.fd(w(1))?, amount(w(2))?)),
            "fallocate" => {
                let mode = match w(2) {
                    "0" => "0",
                    "keep" => "FALLOC_FL_KEEP_SIZE",
                    "punch" => "FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE",
                    "zero" => "FALLOC_FL_ZERO_RANGE",
                    other => return not_covered(format!("fallocate {other}"), "not understood"),
                };
                Ok(format!("fallocate({}, {mode}, {}, {})", self.fd(w(1))?, amount(w(3))?, amount(w(4))?))
            }
            "pwrite" => {
                Ok(format!("pwrite64({}, \"\\x{:02x}\", {}, {})", self.fd(w(1))?, byte(4, 0x42)?, amount(w(3))?, amount(w(2))?))
            }
            "pwritem" => {
                let (fd, from) = (self.fd(w(1))?, self.address(w(3))?);
                Ok(format!("pwrite64({fd}, {from:#x}, {}, {})", amount(w(4))?, amount(w(2))?))
            }
            "pread" => Ok(format!("pread64({}, \"\", {}, {})", self.fd(w(1))?, amount(w(3))?, amount(w(2))?)),
            "kread" => Ok(format!("pwrite64({}, {:#x}, 1, 0)", self.pipe.unwrap_or(0), self.address(w(1))?)),
            "kwrite" => Ok(format!("pread64({}, {:#x}, 1, 0)", self.pipe.unwrap_or(0), self.address(w(1))?)),
            "lseek" => Ok(format!("lseek({}, {}, SEEK_{})", self.fd(w(1))?, amount(w(2))?, w(3).to_uppercase())),
            "register" => {
                let mode = bits(w(4), &[("missing", 1), ("wp", 2), ("minor", 4)])?;
                ranged(self, "UFFDIO_REGISTER", mode)
            }
            "unregister" => unmoded(self, "UFFDIO_UNREGISTER"),
            "wake" => unmoded(self, "UFFDIO_WAKE"),
            "copy" => {
                let (fd, dst, len) = (self.fd(w(1))?, self.address(w(2))?, amount(w(3))?);
                let src = self.copy_source(words, len)?;
                Ok(format!("ioctl({fd}, UFFDIO_COPY, {{dst={dst:#x}, src={src}, len={len:#x}, mode={:#x}}})", mode(fill)?))
            }
            "zeropage" => ranged(self, "UFFDIO_ZEROPAGE", mode(fill)?),
            "continue" => ranged(self, "UFFDIO_CONTINUE", mode(fill)?),
            "poison" => ranged(self, "UFFDIO_POISON", mode(fill)?),
            "move" => {
                let (fd, dst, src, len) = (self.fd(w(1))?, self.address(w(2))?, self.address(w(3))?, amount(w(4))?);
                let mode = mode(&[("dontwake", 1), ("holes", 2)])?;
                Ok(format!("ioctl({fd}, UFFDIO_MOVE, {{dst={dst:#x}, src={src:#x}, len={len:#x}, mode={mode:#x}}})"))
            }
            "wp" => {
                let mode = bits(w(4), &[("wp", 1), ("clear", 0), ("dontwake", 2)])?;
                ranged(self, "UFFDIO_WRITEPROTECT", mode)
            }
            "touch" => {
                let addr = self.address(w(2))?;
                Ok(if w(1) == "r" { format!("load({addr:#x})") } else { format!("store({addr:#x}, {:#04x})", byte(3, 0x77)?) })
            }
            "fork" => {
                self.children += 1;
                Ok(format!("fork() as c{}", self.children - 1))
            }
            "exit" => Ok("exit_group(0)".to_owned()),
            "vmread" | "vmwrite" => not_covered("process_vm_readv and process_vm_writev", "not modelled"),
            "pmscan" => not_covered("PAGEMAP_SCAN", "not modelled"),
            "ordfile" => not_covered("an ordinary file", "only shmem is modelled"),
            other => not_covered(format!("{other} of {who}"), "not understood"),
        }
    }

    /// `= result`; empty where nothing is compared.
    fn result(&mut self, text: &str, step: &Value) -> Result<String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let name = words.first().copied().unwrap_or("");
        let out = step["o"].as_str().unwrap_or("");
        if step["r"] == "KILLED" || name == "exit" {
            return Ok(String::new());
        }
        let ret = match (step["r"].as_i64(), step["e"].as_str()) {
            (Some(-1), Some(errno)) if !errno.is_empty() => format!("= -1 {errno}"),
            (Some(n), _) => format!("= {n}"),
            (None, _) => return not_covered(format!("answer {}", step["r"]), "not understood"),
        };
        Ok(match name {
            "api" => {
                let field = |name: &str| out.split_whitespace().find_map(|w| w.strip_prefix(name)).unwrap_or("");
                let features = number(field("features="))?;
                format!("{ret} {{features={features:#x}, ioctls={:#x}}}", bits(field("ioctls="), IOCTLS)?)
            }
            "register" if out == "untouched" => format!("{ret} {{}}"),
            "register" => format!("{ret} {{ioctls={:#x}}}", bits(out, IOCTLS)?),
            "copy" | "zeropage" | "continue" | "poison" | "move" => {
                let field = match name {
                    "copy" => "copy",
                    "zeropage" => "zeropage",
                    "continue" => "mapped",
                    "move" => "move",
                    _ => "updated",
                };
                match out {
                    "untouched" => format!("{ret} {{}}"),
                    errno if errno.starts_with('-') => format!("{ret} {{{field}={errno}}}"),
                    done => format!("{ret} {{{field}={}}}", amount(done)?),
                }
            }
            "touch" if out.starts_with("SIG") => {
                let (signal, addr) = out.split_once('@').unwrap_or((out, "0x0"));
                let addr = if addr.starts_with(FAILED) { words.get(2).copied().unwrap_or("") } else { addr };
                let signal = match signal {
                    "SIGBUS/2" => "SIGBUS",
                    "SIGBUS/4" => "SIGBUS_MCEERR_AR",
                    "SIGSEGV/1" => "SIGSEGV_MAPERR",
                    _ => "SIGSEGV_ACCERR",
                };
                format!("= {signal} {{si_addr={:#x}}}", self.address(addr)?)
            }
            "touch" if words.get(1) == Some(&"r") => format!("= 0x{out}"),
            "touch" => "= 0".to_owned(),
            "mmap" if step["r"] == 0 => format!("= {:#x}", self.window(words.get(1).copied().unwrap_or(""))),
            "mremap" if step["r"] == 0 => format!("= {:#x}", self.address(out)?),
            "fork" if step["r"] == 0 => format!("= {}", out.trim_start_matches('@')),
            "poll" => match number(out.trim_start_matches("revents="))? {
                0 => "= 0".to_owned(),
                1 => "= POLLIN".to_owned(),
                8 => "= POLLERR".to_owned(),
                _ => "= POLLIN|POLLERR".to_owned(),
            },
            "mincore" if step["r"] == 0 => {
                let pages: Vec<String> = out.chars().map(|c| c.to_string()).collect();
                format!("= 0 [{}]", pages.join(" "))
            }
            _ => ret,
        })
    }

    fn message(&mut self, text: &str) -> Result<()> {
        let (uffd, what) = text.split_once(':').unwrap_or(("", text));
        let fd = self.fd(uffd)?;
        let words: Vec<&str> = what.split_whitespace().collect();
        let w = |i: usize| words.get(i).copied().unwrap_or("");
        let message = match w(0) {
            "PF" => {
                let (page, bytes) = w(1).split_once('+').unwrap_or((w(1), "0"));
                let address = self.address(page)? + number(bytes)?;
                let flags = match words.get(2).filter(|f| !f.starts_with("tid")) {
                    Some(f) => (*f).to_owned(),
                    None => "0".to_owned(),
                };
                let ptid = match option(&words, "tid").and_then(|t| t.strip_prefix('t')) {
                    Some(thread) => format!(", ptid={thread}"),
                    None => String::new(),
                };
                format!("{{PAGEFAULT, address={address:#x}, flags={flags}{ptid}}}")
            }
            "FORK" => {
                let ufd = self.open(w(2));
                format!("{{FORK, ufd={ufd}}}")
            }
            "REMAP" => {
                let (from, to) = w(1).split_once("->").unwrap_or((w(1), ""));
                let (from, to, len) = (self.address(from)?, self.address(to)?, amount(option(&words, "len").unwrap_or(""))?);
                format!("{{REMAP, from={from:#x}, to={to:#x}, len={len}}}")
            }
            event => {
                let start = self.address(w(1))?;
                let end = start + amount(option(&words, "len").unwrap_or(""))?;
                format!("{{{event}, start={start:#x}, end={end:#x}}}")
            }
        };
        self.line(COORDINATOR, &format!("read({fd}) = {message}"));
        Ok(())
    }
}
