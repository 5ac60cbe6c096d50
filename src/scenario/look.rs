// SPDX-License-Identifier: GPL-2.0-only
//! Lines that begin with `|`: what can be seen after an operation.

use super::ast::{Look, Place};
use super::error::{Bad, Span, meant};
use super::lex::Tok;
use super::line::Line;
use super::print;
use crate::flags::{PROT_EXEC, PROT_READ, PROT_WRITE, Prot};
use crate::kernel::{CELLS, Cell};
use crate::observe::*;
use std::fmt::Write;

/// `/proc/kpageflags` as page-types(8) abbreviates it: the letter, the flag, and whether it may be anything (`D?`).
const KPF: [(char, &str); 9] = [
    ('U', "UPTODATE"),
    ('D', "DIRTY"),
    ('M', "MMAP"),
    ('a', "ANON"),
    ('s', "SWAPCACHE"),
    ('b', "SWAPBACKED"),
    ('u', "UNEVICTABLE"),
    ('m', "MLOCKED"),
    ('z', "ZERO_PAGE"),
];
/// What is looked at by a word of its own.
pub(super) const WORDS: [&str; 2] = ["maps", "rss"];
const FILE: &[&str] = &["size", "blocks", "swapped"];
const FILE_PAGE: &[&str] = &["cachestat", "seek_data", "mincore"];
const PAGE: &[&str] = &["none", "present", "swap", "file", "guard", "uffd_wp", "exclusive", "kpf", "count", "mincore"];
const MAP: &[&str] = &[
    "um",
    "uw",
    "ui",
    "lo",
    "ac",
    "rss",
    "anonymous",
    "swap",
    "shared_clean",
    "shared_dirty",
    "private_clean",
    "private_dirty",
    "kinds",
    "smaps",
];
const KINDS: [&str; 4] = ["shared_clean", "shared_dirty", "private_clean", "private_dirty"];
const RSS: &[&str] = &["anon", "shmem", "swap"];
const CACHED: &[(&str, Cached)] = &[("hole", Cached::Hole), ("cached", Cached::Cached), ("swapped", Cached::Swapped)];

// ---- print --------------------------------------------------------------------------------------------------------------

/// The line, without its end.
pub fn print(look: &Look, threads: &[String]) -> String {
    let who = if look.thread == 0 { String::new() } else { format!("{} ", print::thread_name(look.thread, threads)) };
    let place = match look.place {
        Place::File(fd) => fd.to_string(),
        Place::FilePage(fd, index) => format!("{fd}[{index}]"),
        Place::Page(addr) => format!("{addr:#x}"),
        Place::Maps(None) => "maps".to_owned(),
        Place::Maps(Some((from, to))) => format!("maps {from:#x}-{to:#x}"),
        Place::Rss => "rss".to_owned(),
    };
    format!("| {who}{place}: {}", look.seen.as_ref().map_or("gone".to_owned(), seen))
}

/// What is seen, without what it is seen of.
pub fn seen(seen: &Seen) -> String {
    let mut out = Words(String::new());
    match seen {
        Seen::File(f) => {
            out.value("size", f.size);
            out.envelope("blocks", f.blocks);
            out.envelope("swapped", f.swapped);
        }
        Seen::FilePage(p) => {
            out.envelope("cachestat", map(p.cached, |c| CACHED.iter().find(|(_, this)| *this == c).map_or("", |(name, _)| name)));
            out.envelope("seek_data", map(p.data, u8::from));
            out.envelope("mincore", map(p.mincore, u8::from));
            out.bytes(p.bytes);
        }
        Seen::Page(p) => page(&mut out, p),
        Seen::Vmas(all) if all.is_empty() => out.word("none"),
        Seen::Vmas(all) => return all.iter().map(vma).collect::<Vec<_>>().join(", "),
        Seen::Rss(r) => {
            out.envelope("anon", r.anon);
            out.envelope("shmem", r.shmem);
            out.envelope("swap", r.swap);
        }
    }
    out.0
}

struct Words(String);

impl Words {
    fn word(&mut self, word: &str) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(word);
    }

    fn when(&mut self, yes: bool, word: &str) {
        if yes {
            self.word(word);
        }
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        self.word(&format!("{key}={value}"));
    }

    fn envelope<T: std::fmt::Display>(&mut self, key: &str, value: Envelope<T>) {
        match value {
            Envelope::Is(value) => self.value(key, value),
            Envelope::Any => self.value(key, "?"),
            Envelope::Unseen => {}
        }
    }

    fn bytes(&mut self, bytes: Envelope<Bytes>) {
        if let Envelope::Is(bytes) = bytes {
            self.word(&print::data(&bytes.0.map(|b| b.map(Cell::new))));
        }
    }
}

fn map<T, U>(value: Envelope<T>, how: impl FnOnce(T) -> U) -> Envelope<U> {
    match value {
        Envelope::Is(value) => Envelope::Is(how(value)),
        Envelope::Any => Envelope::Any,
        Envelope::Unseen => Envelope::Unseen,
    }
}

fn page(out: &mut Words, p: &PageSeen) {
    let bits = [p.present, p.swap, p.file, p.guard, p.uffd_wp, p.exclusive];
    out.when(!bits.contains(&true), "none");
    for (bit, word) in bits.into_iter().zip(&PAGE[1..]) {
        out.when(bit, word);
    }
    if let Some(frame) = &p.frame {
        out.value("kpf", kpf(frame));
        if !frame.zero_page {
            out.value("count", frame.mapcount);
        }
    }
    out.envelope("mincore", map(p.mincore, u8::from));
    out.bytes(p.bytes);
}

fn kpf(f: &FrameSeen) -> String {
    let is = Envelope::Is;
    let values = [
        is(f.uptodate),
        f.dirty,
        is(f.mmap),
        is(f.anon),
        f.swapcache,
        is(f.swapbacked),
        f.unevictable,
        f.mlocked,
        is(f.zero_page),
    ];
    let mut out = String::new();
    for (value, (letter, _)) in values.into_iter().zip(KPF) {
        match value {
            Envelope::Is(false) => {}
            Envelope::Is(true) => out.push(letter),
            Envelope::Any | Envelope::Unseen => {
                let _ = write!(out, "{letter}?");
            }
        }
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

fn vma(v: &VmaSeen) -> String {
    let mut out = Words(format!("{:#x}-{:#x} {}", v.start, v.end, rights(v.prot, v.shared)));
    let Envelope::Is(v) = v.smaps else {
        out.value("smaps", "?");
        return out.0;
    };
    for (is, word) in [v.missing, v.wp, v.minor, v.locked, v.accounted].into_iter().zip(MAP) {
        out.when(is, word);
    }
    let mut some = |key: &str, n: u64| {
        if n != 0 {
            out.value(key, n);
        }
    };
    some("rss", v.rss);
    some("anonymous", v.anonymous);
    some("swap", v.swap);
    match v.kinds {
        Envelope::Is(kinds) => KINDS.iter().zip(kinds).for_each(|(key, n)| some(key, n)),
        Envelope::Any | Envelope::Unseen => out.value("kinds", "?"),
    }
    out.0
}

// ---- parse --------------------------------------------------------------------------------------------------------------

/// Read the line from behind the `|` on. Threads are known by name.
pub(super) fn parse(line: &mut Line<'_>, number: usize, threads: &[String]) -> Result<Look, Bad> {
    let mut thread = 0;
    if let Some(&Tok::Word(word)) = line.peek()
        && !WORDS.contains(&word)
    {
        thread = threads.iter().position(|t| t == word).ok_or_else(|| {
            let known = threads.iter().map(String::as_str).chain(WORDS);
            Bad::new(line.here(), format!("`{word}` is neither a thread nor something to look at"))
                .note(meant(word, known).unwrap_or_else(|| "look at FD, FD[INDEX], ADDRESS, maps or rss".to_owned()))
        })?;
        line.at += 1;
    }
    let place = place(line)?;
    if thread != 0 && matches!(place, Place::File(_) | Place::FilePage(..)) {
        let span = line.toks[0].1;
        return Err(Bad::new(span, "files are seen by the first process").note("leave the name out".to_owned()));
    }
    line.punct(":")?;
    let seen = if line.eat(&Tok::Word("gone")) {
        None
    } else {
        Some(match place {
            Place::File(_) => Seen::File(file(line)?),
            Place::FilePage(..) => Seen::FilePage(file_page(line)?),
            Place::Page(_) => Seen::Page(read_page(line)?),
            Place::Maps(_) => Seen::Vmas(vmas(line)?),
            Place::Rss => Seen::Rss(rss(line)?),
        })
    };
    line.end("what is seen")?;
    Ok(Look { line: number, thread, place, seen })
}

fn place(line: &mut Line<'_>) -> Result<Place, Bad> {
    if line.eat(&Tok::Word("rss")) {
        return Ok(Place::Rss);
    }
    if line.eat(&Tok::Word("maps")) {
        return Ok(Place::Maps(match line.peek() {
            Some(Tok::Num(_)) => Some(range(line)?),
            _ => None,
        }));
    }
    let span = line.here();
    let hex = line.source(span).starts_with("0x");
    let n = line.number("FD, FD[INDEX], ADDRESS, maps or rss")?;
    if hex {
        if n % crate::kernel::PAGE_SIZE != 0 {
            return Err(Bad::new(span, "pages begin at multiples of 4096"));
        }
        return Ok(Place::Page(n));
    }
    let fd = Fd::try_from(n).map_err(|_| {
        Bad::new(span, format!("{n} is too large for a descriptor")).note("addresses are written with 0x".to_owned())
    })?;
    if !line.eat_punct("[") {
        return Ok(Place::File(fd));
    }
    let index = line.number("the index of a page")?;
    line.punct("]")?;
    Ok(Place::FilePage(fd, index))
}

fn range(line: &mut Line<'_>) -> Result<(u64, u64), Bad> {
    let from = line.number("an address")?;
    line.punct("-")?;
    Ok((from, line.number("an address")?))
}

/// The next fact: its word, which must be one of these and not have come before. None at the end, or at contents.
fn fact<'a>(line: &mut Line<'a>, all: &[&'static str], had: &mut Vec<&'static str>) -> Result<Option<&'static str>, Bad> {
    let span = line.here();
    let Some(&Tok::Word(word)) = line.peek() else { return Ok(None) };
    let Some(known) = all.iter().copied().find(|k| *k == word) else {
        let note = meant(word, all.iter().copied()).unwrap_or_else(|| format!("there are {}", all.join(" ")));
        return Err(Bad::new(span, format!("`{word}` cannot be seen here")).note(note));
    };
    if had.contains(&known) {
        return Err(Bad::new(span, format!("`{word}` is said twice")));
    }
    had.push(known);
    line.at += 1;
    Ok(Some(known))
}

fn value<'a, T>(line: &mut Line<'a>, read: impl FnOnce(&mut Line<'a>) -> Result<T, Bad>) -> Result<Envelope<T>, Bad> {
    line.punct("=")?;
    if line.eat_punct("?") { Ok(Envelope::Any) } else { read(line).map(Envelope::Is) }
}

fn exact<'a, T>(line: &mut Line<'a>, read: impl FnOnce(&mut Line<'a>) -> Result<T, Bad>) -> Result<T, Bad> {
    line.punct("=")?;
    read(line)
}

fn count(line: &mut Line<'_>) -> Result<u64, Bad> {
    line.number("a number")
}

fn signed(line: &mut Line<'_>) -> Result<i64, Bad> {
    line.integer("a number").map(|n| n as i64)
}

fn bit(line: &mut Line<'_>) -> Result<bool, Bad> {
    let span = line.here();
    match line.number("0 or 1")? {
        n @ 0..=1 => Ok(n == 1),
        _ => Err(Bad::new(span, "either 0 or 1")),
    }
}

fn contents(line: &mut Line<'_>) -> Result<Envelope<Bytes>, Bad> {
    match line.peek() {
        Some(Tok::Str(_) | Tok::Punct("[")) => {
            let cells: [Option<Cell>; CELLS] = line.data()?;
            Ok(Envelope::Is(Bytes(cells.map(|c| c.map(Cell::byte)))))
        }
        _ => Ok(Envelope::Unseen),
    }
}

fn file(line: &mut Line<'_>) -> Result<FileSeen, Bad> {
    let (mut size, mut blocks, mut swapped) = (None, Envelope::Unseen, Envelope::Unseen);
    let mut had = Vec::new();
    while let Some(word) = fact(line, FILE, &mut had)? {
        match word {
            "size" => size = Some(exact(line, count)?),
            "blocks" => blocks = value(line, signed)?,
            _ => swapped = value(line, count)?,
        }
    }
    let Some(size) = size else { return Err(line.expected("`size=`")) };
    Ok(FileSeen { size, blocks, swapped })
}

fn file_page(line: &mut Line<'_>) -> Result<FilePageSeen, Bad> {
    use Envelope::Unseen;
    let mut seen = FilePageSeen { cached: Unseen, data: Unseen, mincore: Unseen, bytes: Unseen };
    let mut had = Vec::new();
    while let Some(word) = fact(line, FILE_PAGE, &mut had)? {
        match word {
            "cachestat" => seen.cached = value(line, |l| l.one_of("hole, cached or swapped", CACHED))?,
            "seek_data" => seen.data = value(line, bit)?,
            _ => seen.mincore = value(line, bit)?,
        }
    }
    seen.bytes = contents(line)?;
    Ok(seen)
}

fn read_page(line: &mut Line<'_>) -> Result<PageSeen, Bad> {
    let mut seen = PageSeen::default();
    let mut had = Vec::new();
    let first = line.here();
    while let Some(word) = fact(line, PAGE, &mut had)? {
        match word {
            "none" => {}
            "present" => seen.present = true,
            "swap" => seen.swap = true,
            "file" => seen.file = true,
            "guard" => seen.guard = true,
            "uffd_wp" => seen.uffd_wp = true,
            "exclusive" => seen.exclusive = true,
            "kpf" => {
                line.punct("=")?;
                let mapcount = seen.frame.map_or(0, |f| f.mapcount);
                seen.frame = Some(FrameSeen { mapcount, ..read_kpf(line)? });
            }
            "count" => {
                let mapcount = exact(line, count)?;
                match &mut seen.frame {
                    Some(frame) => frame.mapcount = mapcount,
                    None => return Err(Bad::new(line.here(), "`count` of which page?").note("`kpf=` comes first".to_owned())),
                }
            }
            _ => seen.mincore = value(line, bit)?,
        }
    }
    seen.bytes = contents(line)?;
    let bits = [seen.present, seen.swap, seen.file, seen.guard, seen.uffd_wp, seen.exclusive];
    if had.contains(&"none") == bits.contains(&true) {
        return Err(Bad::new(first, "the entry is none, or it is not")
            .note("`none`, or some of present swap file guard uffd_wp exclusive".to_owned()));
    }
    Ok(seen)
}

fn read_kpf(line: &mut Line<'_>) -> Result<FrameSeen, Bad> {
    let (text, span) = line.raw();
    let mut values = [Envelope::Is(false); KPF.len()];
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if text == "-" {
            break;
        }
        let here = Span { at: span.at + at, len: letter.len_utf8() };
        let Some(flag) = KPF.iter().position(|(l, _)| *l == letter) else {
            let all = KPF.map(|(l, name)| format!("{l} {name}")).join(", ");
            return Err(Bad::new(here, format!("`{letter}` is no page flag")).note(all));
        };
        let any = letters.next_if(|&(_, c)| c == '?').is_some();
        if any && !['D', 's', 'u', 'm'].contains(&letter) {
            return Err(Bad::new(here, format!("{} is always one or the other", KPF[flag].1))
                .note("only D, s, u and m may be anything".to_owned()));
        }
        values[flag] = if any { Envelope::Any } else { Envelope::Is(true) };
    }
    let [uptodate, dirty, mmap, anon, swapcache, swapbacked, unevictable, mlocked, zero_page] = values;
    let is = |value: Envelope<bool>| value == Envelope::Is(true);
    Ok(FrameSeen {
        uptodate: is(uptodate),
        dirty,
        mmap: is(mmap),
        anon: is(anon),
        swapcache,
        swapbacked: is(swapbacked),
        unevictable,
        mlocked,
        zero_page: is(zero_page),
        mapcount: 0,
    })
}

fn vmas(line: &mut Line<'_>) -> Result<Vec<VmaSeen>, Bad> {
    let mut all = Vec::new();
    if line.eat(&Tok::Word("none")) {
        return Ok(all);
    }
    loop {
        all.push(read_vma(line)?);
        if !line.eat_punct(",") {
            return Ok(all);
        }
    }
}

fn read_vma(line: &mut Line<'_>) -> Result<VmaSeen, Bad> {
    let (start, end) = range(line)?;
    let (text, span) = line.raw();
    let mut prot = Prot::empty();
    let letters: Vec<char> = text.chars().collect();
    let rights = [('r', PROT_READ), ('w', PROT_WRITE), ('x', PROT_EXEC)];
    let legal = letters.len() == 4
        && rights.iter().zip(&letters).all(|((l, _), c)| c == l || *c == '-')
        && (letters[3] == 's' || letters[3] == 'p');
    if !legal {
        return Err(Bad::new(span, format!("`{text}` are no rights")).note("for instance rw-s or r--p".to_owned()));
    }
    for ((letter, right), c) in rights.into_iter().zip(&letters) {
        prot.set(right, *c == letter);
    }
    let mut v = SmapsSeen::default();
    let mut unseen = false;
    let mut kinds = [0; 4];
    let mut had = Vec::new();
    while let Some(word) = fact(line, MAP, &mut had)? {
        match word {
            "um" => v.missing = true,
            "uw" => v.wp = true,
            "ui" => v.minor = true,
            "lo" => v.locked = true,
            "ac" => v.accounted = true,
            "rss" => v.rss = exact(line, count)?,
            "anonymous" => v.anonymous = exact(line, count)?,
            "swap" => v.swap = exact(line, count)?,
            "smaps" => {
                line.punct("=")?;
                line.punct("?")?;
                unseen = true;
            }
            "kinds" => {
                line.punct("=")?;
                line.punct("?")?;
                v.kinds = Envelope::Any;
            }
            kind => {
                let n = exact(line, count)?;
                if let Some(at) = KINDS.iter().position(|k| *k == kind) {
                    kinds[at] = n;
                }
            }
        }
    }
    if v.kinds != Envelope::Any {
        v.kinds = Envelope::Is(kinds);
    }
    let smaps = match (unseen, had.len()) {
        (true, 2..) => return Err(Bad::new(line.here(), "`smaps=?` says that nothing else was seen of this mapping".to_owned())),
        (true, _) => Envelope::Unseen,
        (false, _) => Envelope::Is(v),
    };
    Ok(VmaSeen { start, end, prot, shared: letters[3] == 's', smaps })
}

fn rss(line: &mut Line<'_>) -> Result<RssSeen, Bad> {
    use Envelope::Unseen;
    let mut seen = RssSeen { anon: Unseen, shmem: Unseen, swap: Unseen };
    let mut had = Vec::new();
    while let Some(word) = fact(line, RSS, &mut had)? {
        match word {
            "anon" => seen.anon = value(line, signed)?,
            "shmem" => seen.shmem = value(line, signed)?,
            _ => seen.swap = value(line, signed)?,
        }
    }
    Ok(seen)
}
