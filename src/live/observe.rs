// SPDX-License-Identifier: GPL-2.0-only
//! What is seen of the running kernel after an operation, without disturbing it.
//!
//! Pages are looked at through `/proc/PID/pagemap` and the frame tables, files through a mapping that nobody touches. Contents are
//! read only where a page is there to be read. `fstat` recounts the blocks of a file, which matters where the mount has a limit:
//! there it is left out.
//!
//! Every look sees everything anew, but for what only smaps tells, which may be left out where an operation changed pages and no
//! mappings ([`Depth`]). Only what is the same question is asked once: a frame that is mapped at several addresses has one set of
//! flags, one count and one content; if cachestat finds all pages of a file in the cache, or none, that is the answer for each; and
//! what lies before the next data that SEEK_DATA has found is a hole.

use super::sys::{self, Eye};
use super::worker::{Stopped, Tested};
use crate::errno::Errno;
use crate::flags::{PROT_EXEC, PROT_READ, PROT_WRITE, Prot};
use crate::kernel::{CELL_AT, PAGE_SIZE};
use crate::observe::*;
use crate::scenario::Scenario;
use crate::syscall::{Advice, Fd, Msg, Op, Out, Outcome};
use memchr::memchr;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Mappings of the tested process from here on are its own, not the scenario's.
pub(super) const END: u64 = 0x5000_0000_0000;
/// Where files are looked through, and how much room each has.
const EYES: u64 = 0x10_0000_0000;
const EYE_LEN: u64 = 64 << 20;
/// How much of a file is read by one call.
const ROOM: usize = 16 << 12;

/// A file as it is looked at.
struct Watched {
    /// The inode's number.
    id: u64,
    file: File,
    eye: Eye,
}

/// What does not belong to any tested process: the frame tables, and where files are looked through, open.
pub(super) struct Frames {
    flags: File,
    count: File,
    own_smaps: File,
    own_pagemap: File,
}

impl Frames {
    /// Open them.
    pub fn open() -> std::io::Result<Frames> {
        let open = File::open;
        Ok(Frames {
            flags: open("/proc/kpageflags")?,
            count: open("/proc/kpagecount")?,
            own_smaps: open("/proc/self/smaps")?,
            own_pagemap: open("/proc/self/pagemap")?,
        })
    }

    /// How many times the page at this address of our own is mapped.
    fn own_mapcount(&self, addr: u64) -> Option<u64> {
        let mut word = [0u8; 8];
        self.own_pagemap.read_exact_at(&mut word, addr / PAGE_SIZE * 8).ok()?;
        Some(self.of(u64::from_ne_bytes(word) & ((1 << 55) - 1))?.mapcount)
    }

    fn of(&self, pfn: u64) -> Option<FrameSeen> {
        let word = |file: &File| {
            let mut word = [0u8; 8];
            file.read_exact_at(&mut word, pfn * 8).ok()?;
            Some(u64::from_ne_bytes(word))
        };
        let (flags, mapcount) = (word(&self.flags)?, word(&self.count)?);
        let has = |bit: u32| flags >> bit & 1 != 0;
        let zero_page = has(24);
        if zero_page {
            // Its other flags and its count say nothing of this mapping.
            let no = Envelope::Is(false);
            return Some(FrameSeen { zero_page, dirty: no, swapcache: no, unevictable: no, mlocked: no, ..FrameSeen::default() });
        }
        Some(FrameSeen {
            uptodate: has(3),
            dirty: Envelope::Is(has(4)),
            mmap: has(11),
            anon: has(12),
            swapcache: Envelope::Is(has(13)),
            swapbacked: has(14),
            unevictable: Envelope::Is(has(18)),
            mlocked: Envelope::Is(has(33)),
            zero_page,
            mapcount,
        })
    }
}

/// An entry of smaps.
#[derive(Clone, Debug)]
struct Entry {
    seen: VmaSeen,
    offset: u64,
    /// The inode's number.
    id: u64,
}

/// The next word, and what comes behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = text.iter().position(|b| *b != b' ')?;
    let text = &text[begin..];
    Some(text.split_at(text.iter().position(|b| *b == b' ').unwrap_or(text.len())))
}

/// Digits of this base, and nothing else.
fn number(text: &[u8], base: u32) -> Option<u64> {
    text.iter().try_fold(0u64, |n, &b| Some(n * u64::from(base) + u64::from(char::from(b).to_digit(base)?)))
}

impl Entry {
    /// From the first line of an entry. None if it is another line.
    fn begin(line: &[u8]) -> Option<Entry> {
        let (range, rest) = word(line)?;
        let (perms, rest) = word(rest)?;
        let (offset, rest) = word(rest)?;
        let (_device, rest) = word(rest)?;
        let (id, _) = word(rest)?;
        let dash = range.iter().position(|b| *b == b'-')?;
        let (start, end) = (number(&range[..dash], 16)?, number(&range[dash + 1..], 16)?);
        let mut prot = Prot::empty();
        for (letter, right) in [(b'r', PROT_READ), (b'w', PROT_WRITE), (b'x', PROT_EXEC)] {
            prot.set(right, perms.contains(&letter));
        }
        let smaps = Envelope::Is(SmapsSeen::default());
        let seen = VmaSeen { start, end, prot, shared: perms.contains(&b's'), smaps };
        Some(Entry { seen, offset: number(offset, 16)?, id: number(id, 10)? })
    }

    /// A later line of the entry.
    fn add(&mut self, line: &[u8]) {
        // No other field is of interest.
        if !matches!(line[0], b'R' | b'A' | b'S' | b'P' | b'V') {
            return;
        }
        let Some(colon) = memchr(b':', line) else { return };
        let (field, value) = (&line[..colon], &line[colon + 1..]);
        let pages = || word(value).and_then(|(kb, _)| number(kb, 10)).unwrap_or(0) >> 2;
        let Envelope::Is(v) = &mut self.seen.smaps else { return };
        let mut kind = |n: usize| {
            if let Envelope::Is(kinds) = &mut v.kinds {
                kinds[n] = pages();
            }
        };
        match field {
            b"Rss" => v.rss = pages(),
            b"Anonymous" => v.anonymous = pages(),
            b"Swap" => v.swap = pages(),
            b"Shared_Clean" => kind(0),
            b"Shared_Dirty" => kind(1),
            b"Private_Clean" => kind(2),
            b"Private_Dirty" => kind(3),
            b"VmFlags" => {
                for flag in value.split(|b| *b == b' ') {
                    match flag {
                        b"um" => v.missing = true,
                        b"uw" => v.wp = true,
                        b"ui" => v.minor = true,
                        b"lo" => v.locked = true,
                        b"ac" => v.accounted = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// The mappings below `end`, without what only smaps tells. None if the kernel cannot be asked like that.
fn mappings_below(maps: &File, end: u64) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut from = 0;
    while let Some(m) = sys::mapping_from(maps.as_fd(), from).ok()?.filter(|m| m.vma_start < end) {
        let prot = [PROT_READ, PROT_WRITE, PROT_EXEC].into_iter().enumerate();
        let prot = prot.filter(|(bit, _)| m.vma_flags >> bit & 1 != 0).map(|(_, right)| right).collect();
        let shared = m.vma_flags >> 3 & 1 != 0;
        let seen = VmaSeen { start: m.vma_start, end: m.vma_end, prot, shared, smaps: Envelope::Unseen };
        entries.push(Entry { seen, offset: m.vma_offset, id: m.inode });
        from = m.vma_end;
    }
    Some(entries)
}

/// How much of smaps is read at once: less than an entry, so that the kernel does not write the next one, for which it would have
/// to count pages, before it is asked for.
const PIECE: usize = 600;

/// The entries of smaps that begin in `from..end`. They are read only so far.
fn smaps(file: &File, from: u64, end: u64) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut pending: Vec<u8> = Vec::with_capacity(2 * PIECE);
    let mut wanted = false;
    let mut offset = 0;
    loop {
        let rest = pending.len();
        pending.resize(rest + PIECE, 0);
        let n = file.read_at(&mut pending[rest..], offset).ok()?;
        pending.truncate(rest + n);
        offset += n as u64;
        if n == 0 {
            return Some(entries);
        }
        let mut at = 0;
        while let Some(len) = memchr(b'\n', &pending[at..]) {
            let line = &pending[at..at + len];
            at += len + 1;
            // Fields begin with a capital letter, addresses with a digit or a small one.
            if line.first().is_some_and(u8::is_ascii_uppercase) {
                if let (true, Some(entry)) = (wanted, entries.last_mut()) {
                    entry.add(line);
                }
                continue;
            }
            let entry = Entry::begin(line)?;
            if entry.seen.start >= end {
                return Some(entries);
            }
            wanted = entry.seen.start >= from;
            if wanted {
                entries.push(entry);
            }
        }
        pending.drain(..at);
    }
}

/// Is every page of it looked at?
fn is_small(v: &VmaSeen) -> bool {
    v.pages() <= 2 * EDGE
}

impl VmaSeen {
    fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE_SIZE
    }

    /// `Swap:` of it.
    fn swap(&self) -> Envelope<u64> {
        match self.smaps {
            Envelope::Is(smaps) => Envelope::Is(smaps.swap),
            _ => Envelope::Unseen,
        }
    }
}

/// `Swap:` of the mapping at this address, in pages. Nothing behind that line is read.
fn swapped(file: &File, eye: u64) -> Option<Envelope<u64>> {
    let mut text = [0u8; PIECE];
    let n = file.read_at(&mut text, 0).ok()?;
    let mut lines = text[..n].split(|b| *b == b'\n');
    let mut entry = Entry::begin(lines.next()?)?;
    if entry.seen.start == eye {
        for line in lines {
            // The last one may be cut off.
            if line.starts_with(b"Swap:") && line.ends_with(b"kB") {
                entry.add(line);
                return Some(entry.seen.swap());
            }
        }
    }
    // It is not the first mapping.
    Some(smaps(file, eye, eye + 1)?.first()?.seen.swap())
}

/// A process, with what it is looked at through.
pub(super) struct Subject {
    pid: u32,
    maps: File,
    smaps: File,
    pagemap: File,
    memory: File,
}

impl Subject {
    fn open(pid: u32) -> Option<Subject> {
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).ok();
        Some(Subject { pid, maps: open("maps")?, smaps: open("smaps")?, pagemap: open("pagemap")?, memory: open("mem")? })
    }
}

/// Is there a free page of swap?
fn swap_is_free() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().skip(1).any(|line| {
        let mut numbers = line.split_ascii_whitespace().skip(2).map(|n| n.parse::<u64>().unwrap_or(0));
        let (size, used) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        used < size
    })
}

/// May this operation, or one that has ended since, have opened or closed files of the first process?
fn touches_descriptors(op: &Op, moment: &Moment) -> bool {
    let opens = |outcome: &Outcome| matches!(outcome.out, Out::Msg(Msg::Fork { .. }));
    matches!(op, Op::MemfdCreate { .. } | Op::Open { .. } | Op::Close { .. } | Op::Userfaultfd { .. } | Op::Exit)
        || moment.outcome.iter().chain(moment.resumed.iter().map(|(_, outcome)| outcome)).any(opens)
}

/// May this operation change what only smaps tells of mappings, but for the counters that follow from their pages? (One that it
/// lets go on, such as a fork whose event is read, is for whoever looks to see.)
fn touches_mappings(op: &Op) -> bool {
    use Advice::*;
    match op {
        Op::Madvise { advice, .. } => match advice {
            MADV_DONTFORK | MADV_DOFORK | MADV_WIPEONFORK | MADV_KEEPONFORK | MADV_GUARD_INSTALL | MADV_GUARD_REMOVE => true,
            MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_REMOVE | MADV_PAGEOUT | MADV_COLD | MADV_WILLNEED => false,
            MADV_POPULATE_READ | MADV_POPULATE_WRITE => false,
        },
        Op::Mmap { .. }
        | Op::Munmap { .. }
        | Op::Mprotect { .. }
        | Op::Mremap { .. }
        | Op::Mlock { .. }
        | Op::Munlock { .. }
        | Op::UffdRegister { .. }
        | Op::UffdUnregister { .. }
        // What was registered with it is registered no more.
        | Op::Close { .. }
        | Op::Fork
        | Op::Exit
        | Op::Kill { .. } => true,
        Op::Mount { .. }
        | Op::MemfdCreate { .. }
        | Op::Open { .. }
        | Op::Ftruncate { .. }
        | Op::Fallocate { .. }
        | Op::Pread { .. }
        | Op::Pwrite { .. }
        | Op::Lseek { .. }
        | Op::AddSeals { .. }
        | Op::Unlink { .. }
        | Op::Fstat { .. }
        | Op::Fstatfs { .. }
        | Op::Load { .. }
        | Op::Store { .. }
        | Op::Mincore { .. }
        | Op::Userfaultfd { .. }
        | Op::UffdApi { .. }
        | Op::UffdRead { .. }
        | Op::UffdWake { .. }
        | Op::UffdCopy { .. }
        | Op::UffdZeropage { .. }
        | Op::UffdContinue { .. }
        | Op::UffdPoison { .. }
        | Op::UffdMove { .. }
        | Op::UffdWriteprotect { .. }
        | Op::Poll { .. }
        | Op::Reclaim { .. }
        | Op::Swapon { .. }
        | Op::Swapoff => false,
    }
}

/// How closely an [`Observer`] looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// Everything.
    Whole,
    /// What smaps tells only where it may have changed in itself: not when a step changed no more than pages.
    Pages,
}

/// The inode of a file that a process has open, by number; None for what has none of its own, such as a userfaultfd, and for
/// devices. Not with stat(2), which recounts blocks.
fn inode_of(pid: u32, fd: Fd) -> Option<u64> {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    if !target.is_absolute() || target.starts_with("/proc") || target.starts_with("/dev") {
        return None;
    }
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|l| l.strip_prefix("ino:")?.trim().parse().ok())
}

/// Does any operation name an address where the tested process has mappings of its own?
fn goes_high(scenario: &Scenario) -> bool {
    scenario.calls().any(|c| matches!(c.op, Op::Mmap { addr, .. } | Op::Mremap { new: Some(addr), .. } if addr >= END))
}

/// A frame, at one moment.
#[derive(Clone, Copy)]
struct Met {
    pfn: u64,
    seen: FrameSeen,
    bytes: Option<Bytes>,
}

/// Looks at a tested process, step after step.
pub(super) struct Observer<'f> {
    frames: &'f Frames,
    subjects: Vec<Subject>,
    /// Where pages are read to.
    room: Vec<u8>,
    /// Frames that were looked at in this look already, with what is in them: many are mapped more than once.
    met: Vec<Met>,
    files: BTreeMap<Fd, Watched>,
    open: Vec<(Fd, u64)>,
    /// Some mount has a limit, so that recounting blocks could be noticed.
    limited: bool,
    /// Where the tested process had mappings before the scenario began, if that matters.
    own: Option<Vec<(u64, u64)>>,
}

impl<'f> Observer<'f> {
    /// The tested process is about to begin.
    pub fn new(frames: &'f Frames, scenario: &Scenario, tested: &mut Tested<'_>) -> Observer<'f> {
        let limited = scenario.calls().any(|c| matches!(c.op, Op::Mount { size } if size > 0));
        let own = goes_high(scenario).then(|| {
            let all = Subject::open(tested.pid).and_then(|s| smaps(&s.smaps, 0, u64::MAX)).unwrap_or_default();
            all.iter().map(|e| (e.seen.start, e.seen.end)).collect()
        });
        let subjects = tested.subject().into_iter().collect();
        Observer {
            frames,
            subjects,
            room: vec![0; ROOM],
            met: Vec::new(),
            files: BTreeMap::new(),
            open: Vec::new(),
            limited,
            own,
        }
    }

    /// What this process was looked at through, for who looks next.
    pub fn into_subject(mut self, pid: u32) -> Option<Subject> {
        let at = self.subjects.iter().position(|s| s.pid == pid)?;
        Some(self.subjects.swap_remove(at))
    }

    /// Where the process is looked at, in `subjects`.
    fn subject(&mut self, pid: u32) -> Option<usize> {
        if let Some(at) = self.subjects.iter().position(|s| s.pid == pid) {
            return Some(at);
        }
        self.subjects.push(Subject::open(pid)?);
        Some(self.subjects.len() - 1)
    }

    /// The scenario's mappings; with what only smaps tells, or perhaps without.
    fn mappings(&mut self, pid: u32, depth: Depth) -> Option<Vec<Entry>> {
        let at = self.subject(pid)?;
        let file = &self.subjects[at].smaps;
        if depth == Depth::Pages
            && self.own.is_none()
            && let Some(entries) = mappings_below(&self.subjects[at].maps, END)
        {
            return Some(entries);
        }
        let Some(own) = &self.own else { return smaps(file, 0, END) };
        let mut all = smaps(file, 0, u64::MAX)?;
        // Its own may have grown since.
        all.retain(|e| !own.iter().any(|&(start, end)| start < e.seen.end && e.seen.start < end));
        Some(all)
    }

    /// Look, after this operation and what it led to. None is after no operation in particular. `ranges` become those of which
    /// mincore(2) is asked, the next time perhaps as well.
    pub fn look(
        &mut self,
        tested: &Tested<'_>,
        op: Option<&Op>,
        moment: &Moment,
        depth: Depth,
        ranges: &mut Vec<(u64, u64)>,
    ) -> Observation {
        let quick = op.is_some_and(|op| !touches_mappings(op)) && moment.resumed.is_empty();
        let depth = if quick { depth } else { Depth::Whole };
        // The model has no batch of munlocked pages: it is done with them at once.
        sys::drain_batches();
        let mut seen = Vec::with_capacity(64);
        self.met.clear();
        for (who, pid) in tested.processes() {
            let Some(entries) = self.mappings(pid, depth) else { continue };
            if who == 0 {
                if op.is_none_or(|op| touches_descriptors(op, moment)) {
                    self.descriptors(pid);
                }
                self.remember_files(pid, &entries);
                let inode_locked =
                    tested.blocked().any(|(_, op)| matches!(op, Op::Pwrite { .. } | Op::Fallocate { .. } | Op::Ftruncate { .. }));
                let smaps = (depth == Depth::Whole).then_some(&self.frames.own_smaps);
                for (&fd, watched) in &self.files {
                    watched.look(fd, self.limited, inode_locked, smaps, &mut self.room, &mut seen);
                }
            }
            let small = |v: &&VmaSeen| who == 0 && is_small(v);
            let asked: Vec<(u64, u64)> = entries.iter().map(|e| &e.seen).filter(small).map(|v| (v.start, v.pages())).collect();
            self.process(who as Who, pid, &entries, tested.mincore(&asked), &mut seen);
            if who == 0 {
                *ranges = asked;
            }
        }
        Observation(seen.into_iter().collect())
    }

    /// What kswapd would do to a page of a file, which this thread has open, once it has aged. By advice on a mapping of our own, or on
    /// behalf of the one process that maps it; more mappings than one keep a page from that.
    pub fn reclaim(&mut self, tested: &Tested<'_>, thread: usize, fd: Fd, offset: u64) -> Result<Outcome, Stopped> {
        let not = |what: &str| Stopped::Machine(format!("reclaim({fd}, {offset:#x}): {what}"));
        let pid = tested.pid_of(thread);
        let path = format!("/proc/{pid}/fd/{fd}");
        if std::fs::read_link(&path).is_err() {
            return Ok(Outcome::err(Errno::EBADF));
        }
        let file = inode_of(pid, fd).and_then(|id| Some((id, File::open(path).ok()?)));
        let Some((id, file)) = file.filter(|(_, file)| sys::is_tmpfs(file.as_fd())) else {
            return Ok(Outcome::err(Errno::EINVAL));
        };
        let index = offset / PAGE_SIZE;
        let (mut mapped, mut elsewhere) = (Vec::new(), false);
        for (_, pid) in tested.processes() {
            let (Some(entries), Some(at)) = (self.mappings(pid, Depth::Whole), self.subject(pid)) else { continue };
            for e in entries.iter().filter(|e| e.id == id) {
                let place = (index * PAGE_SIZE).checked_sub(e.offset).map(|at| e.seen.start + at);
                let Some(place) = place.filter(|&place| place < e.seen.end) else { continue };
                let mut word = [0u8; 8];
                if self.subjects[at].pagemap.read_exact_at(&mut word, place / PAGE_SIZE * 8).is_err() {
                    continue;
                }
                let word = u64::from_ne_bytes(word);
                if word >> 63 & 1 != 0 && word >> 61 & 1 != 0 {
                    let locked = matches!(e.seen.smaps, Envelope::Is(SmapsSeen { locked: true, .. }));
                    mapped.push((pid, place, locked));
                    // Nobody knows a child yet whose fork(2) waits for its event.
                    elsewhere |= self.frames.of(word & ((1 << 55) - 1)).is_some_and(|f| f.mapcount > 1);
                }
            }
        }
        let cached = || {
            let (cached, _) =
                sys::cachestat(file.as_fd(), index * PAGE_SIZE, PAGE_SIZE).map_err(|e| not(&format!("cachestat: {e}")))?;
            Ok(cached > 0)
        };
        if !swap_is_free() || !cached()? {
            return Ok(Outcome::ok(0));
        }
        match mapped[..] {
            [] => {
                let alone = |addr| self.frames.own_mapcount(addr) == Some(1);
                match sys::pageout(file.as_fd(), index, alone) {
                    Ok(true) => {}
                    Ok(false) => return Err(not("the page is mapped by a process that nobody knows yet")),
                    Err(e) => return Err(not(&format!("MADV_PAGEOUT: {e}"))),
                }
            }
            // Mlocked pages are on the unevictable list, which is not scanned.
            [(_, _, true)] => {}
            [(pid, at, false)] if !elsewhere => {
                let done = sys::pidfd(pid).and_then(|fd| sys::pageout_of(fd.as_fd(), at));
                done.map_err(|e| not(&format!("process_madvise: {e}")))?;
            }
            _ => return Err(not("the page is mapped more than once, and only advice on single mappings can be given")),
        }
        Ok(Outcome::ok(i64::from(!cached()?)))
    }

    fn descriptors(&mut self, pid: u32) {
        self.open.clear();
        let Ok(dir) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return };
        let numbers = dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<Fd>().ok()).filter(|&fd| fd >= 3);
        self.open.extend(numbers.filter_map(|fd| Some((fd, inode_of(pid, fd)?))));
        self.open.sort_unstable();
    }

    /// As the model's observer has it: see [`Key::File`].
    fn remember_files(&mut self, pid: u32, entries: &[Entry]) {
        let open = &self.open;
        self.files.retain(|_, w| entries.iter().any(|e| e.id == w.id) || open.iter().any(|(_, id)| *id == w.id));
        for &(fd, id) in open {
            if self.files.values().any(|w| w.id == id) {
                continue;
            }
            let Ok(file) = File::open(format!("/proc/{pid}/fd/{fd}")) else { continue };
            if !sys::is_tmpfs(file.as_fd()) {
                continue;
            }
            // An old file of that number goes first: both would be looked through at the same place.
            self.files.remove(&fd);
            let Ok(eye) = Eye::open(file.as_fd(), EYES + u64::from(fd) * EYE_LEN, EYE_LEN) else { continue };
            self.files.insert(fd, Watched { id, file, eye });
        }
    }

    fn process(&mut self, who: Who, pid: u32, entries: &[Entry], incore: Vec<u8>, seen: &mut Vec<(Key, Seen)>) {
        let unseen = RssSeen { anon: Envelope::Unseen, shmem: Envelope::Unseen, swap: Envelope::Unseen };
        seen.push((Key::Rss(who), Seen::Rss(unseen)));
        seen.push((Key::Vmas(who), Seen::Vmas(entries.iter().map(|e| e.seen.clone()).collect())));
        let Some(at) = self.subject(pid) else { return };
        let pages_of = |v: &VmaSeen| v.start / PAGE_SIZE..v.end / PAGE_SIZE;
        let mut incore = incore.into_iter();
        for v in entries.iter().map(|e| &e.seen) {
            let (pages, small) = (pages_of(v), is_small(v));
            let count = v.pages() as usize;
            let incore: Vec<u8> = incore.by_ref().take(if who == 0 && small { count } else { 0 }).collect();
            let mut words = [0u8; 2 * EDGE as usize * 8];
            let Subject { pagemap, .. } = &self.subjects[at];
            if small && pagemap.read_exact_at(&mut words[..count * 8], pages.start * 8).is_err() {
                continue;
            }
            for page in looked_at(pages.clone()) {
                let mut word = [0u8; 8];
                if small {
                    let at = (page - pages.start) as usize * 8;
                    word.copy_from_slice(&words[at..at + 8]);
                } else if self.subjects[at].pagemap.read_exact_at(&mut word, page * 8).is_err() {
                    continue;
                }
                let addr = page * PAGE_SIZE;
                let mut p = self.page(at, addr, v.prot.contains(PROT_READ), u64::from_ne_bytes(word));
                if let Some(&byte) = incore.get((page - pages.start) as usize).filter(|byte| **byte != sys::UNKNOWN) {
                    p.mincore = Envelope::Is(byte & 1 != 0);
                }
                seen.push((Key::Page(who, addr), Seen::Page(p)));
            }
        }
    }

    /// An entry of pagemap, the frame that it names, and what is in it.
    fn page(&mut self, subject: usize, addr: u64, readable: bool, word: u64) -> PageSeen {
        let has = |bit: u32| word >> bit & 1 != 0;
        let present = has(63);
        let mut seen = PageSeen {
            present,
            swap: has(62),
            file: has(61),
            guard: has(58),
            uffd_wp: has(57),
            exclusive: has(56),
            ..PageSeen::default()
        };
        if !present {
            return seen;
        }
        let pfn = word & ((1 << 55) - 1);
        let at = match self.met.iter().position(|m| m.pfn == pfn) {
            Some(at) => at,
            None => {
                let Some(seen) = self.frames.of(pfn) else { return seen };
                self.met.push(Met { pfn, seen, bytes: None });
                self.met.len() - 1
            }
        };
        let met = &mut self.met[at];
        seen.frame = Some(met.seen);
        if readable && met.bytes.is_none() {
            // Not with process_vm_readv: that pins pages, which unshares anonymous ones.
            let page = &mut self.room[..PAGE_SIZE as usize];
            if self.subjects[subject].memory.read_exact_at(page, addr).is_ok() {
                met.bytes = Some(Bytes(CELL_AT.map(|at| Some(page[at as usize]))));
            }
        }
        if readable {
            seen.bytes = met.bytes.map_or(Envelope::Unseen, Envelope::Is);
        }
        seen
    }
}

impl Watched {
    fn look(
        &self,
        fd: Fd,
        limited: bool,
        inode_locked: bool,
        own_smaps: Option<&File>,
        room: &mut [u8],
        seen: &mut Vec<(Key, Seen)>,
    ) {
        let Ok(size) = sys::size(self.file.as_fd()) else { return };
        let stat = (!limited).then(|| self.file.metadata().ok()).flatten();
        let blocks = stat.map_or(Envelope::Unseen, |stat| Envelope::Is(stat.blocks() as i64));
        let swapped = own_smaps.and_then(|smaps| swapped(smaps, self.eye.at())).unwrap_or_default();
        seen.push((Key::File(fd), Seen::File(FileSeen { size, blocks, swapped })));
        let pages = size.div_ceil(PAGE_SIZE);
        let incore = self.eye.mincore(pages.min(EYE_LEN / PAGE_SIZE) as usize).unwrap_or_default();
        let stat = |at: u64, len: u64| sys::cachestat(self.file.as_fd(), at, len);
        let place = |stat: io::Result<(u64, u64)>, pages: u64| match stat {
            Ok((0, 0)) => Envelope::Is(Cached::Hole),
            Ok((cached, 0)) if cached == pages => Envelope::Is(Cached::Cached),
            Ok(_) => Envelope::Is(Cached::Swapped),
            Err(_) => Envelope::Unseen,
        };
        let total = stat(0, pages * PAGE_SIZE);
        // What is in swap is not read: that would bring it in. Where nothing is, one call reads all pages.
        let at_once = pages * PAGE_SIZE <= room.len() as u64 && matches!(total, Ok((1.., 0)));
        let whole = at_once.then(|| self.file.read_at(&mut room[..(pages * PAGE_SIZE) as usize], 0).ok()).flatten();
        // If there is one answer for all pages together, it is that of each.
        let all = match place(total, pages) {
            Envelope::Is(Cached::Swapped) => None,
            same => (pages > 0).then_some(same),
        };
        // Where the next data is: what lies before that has none.
        let mut next: Option<u64> = None;
        for index in looked_at(0..pages) {
            let at = index * PAGE_SIZE;
            let cached = all.unwrap_or_else(|| place(stat(at, PAGE_SIZE), 1));
            let data = if inode_locked {
                Envelope::Unseen
            } else {
                let found = match next {
                    Some(found) if at <= found => found,
                    _ => sys::seek_data(self.file.as_fd(), at).unwrap_or(u64::MAX),
                };
                next = Some(found);
                Envelope::Is(found == at)
            };
            let mut bytes = Envelope::Unseen;
            // What cannot be told from a swapped page is not read.
            if cached == Envelope::Is(Cached::Cached) {
                let page = match whole {
                    Some(n) => room.get(at as usize..n.min((at + PAGE_SIZE) as usize)),
                    None => self.file.read_at(&mut room[..PAGE_SIZE as usize], at).ok().map(|n| &room[..n]),
                };
                if let Some(page) = page {
                    bytes = Envelope::Is(Bytes(CELL_AT.map(|c| page.get(c as usize).copied())));
                }
            }
            let mincore = incore.get(index as usize).map_or(Envelope::Unseen, |&b| Envelope::Is(b));
            seen.push((Key::FilePage(fd, index), Seen::FilePage(FilePageSeen { cached, data, mincore, bytes })));
        }
    }
}
