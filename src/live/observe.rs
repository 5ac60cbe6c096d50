// SPDX-License-Identifier: GPL-2.0-only
//! What is seen of the running kernel after an operation, without disturbing it.
//!
//! Pages are looked at through `/proc/PID/pagemap` and the frame tables, files through a mapping that nobody touches. Contents are
//! read only where a page is there to be read. `fstat` recounts the blocks of a file, which matters where the mount has a limit:
//! there it is left out.

use super::sys::{self, Eye};
use super::worker::{Stopped, Tested};
use crate::errno::Errno;
use crate::flags::{PROT_EXEC, PROT_READ, PROT_WRITE, Prot};
use crate::kernel::{CELL_AT, PAGE_SIZE};
use crate::observe::*;
use crate::scenario::Scenario;
use crate::syscall::{Fd, Op, Outcome};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Mappings of the tested process from here on are its own, not the scenario's.
pub(super) const END: u64 = 0x5000_0000_0000;
/// Where files are looked through, and how much room each has.
const EYES: u64 = 0x10_0000_0000;
const EYE_LEN: u64 = 64 << 20;

/// A file as it is looked at.
struct Watched {
    /// The inode's number.
    id: u64,
    file: File,
    eye: Eye,
}

/// The frame tables, open.
pub(super) struct Frames {
    flags: File,
    count: File,
}

impl Frames {
    /// Open them.
    pub fn open() -> std::io::Result<Frames> {
        Ok(Frames { flags: File::open("/proc/kpageflags")?, count: File::open("/proc/kpagecount")? })
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

impl Entry {
    /// From the first line of an entry. None if it is another line.
    fn begin(line: &str) -> Option<Entry> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |t: &str| u64::from_str_radix(t, 16).ok();
        let (start, end, perms) = (number(start)?, number(end)?, words.next()?);
        let mut prot = Prot::empty();
        for (letter, right) in [('r', PROT_READ), ('w', PROT_WRITE), ('x', PROT_EXEC)] {
            prot.set(right, perms.contains(letter));
        }
        let offset = number(words.next()?)?;
        let _device = words.next()?;
        let seen = VmaSeen::plain(start, end, prot, perms.ends_with('s'));
        Some(Entry { seen, offset, id: words.next()?.parse().ok()? })
    }

    /// A later line of the entry.
    fn add(&mut self, line: &str) {
        let Some((field, value)) = line.split_once(':') else { return };
        let pages = || value.split_ascii_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) >> 2;
        let v = &mut self.seen;
        let mut kind = |n: usize| {
            if let Envelope::Is(kinds) = &mut v.kinds {
                kinds[n] = pages();
            }
        };
        match field {
            "Rss" => v.rss = pages(),
            "Anonymous" => v.anonymous = pages(),
            "Swap" => v.swap = pages(),
            "Shared_Clean" => kind(0),
            "Shared_Dirty" => kind(1),
            "Private_Clean" => kind(2),
            "Private_Dirty" => kind(3),
            "VmFlags" => {
                for flag in value.split_ascii_whitespace() {
                    match flag {
                        "um" => v.missing = true,
                        "uw" => v.wp = true,
                        "ui" => v.minor = true,
                        "lo" => v.locked = true,
                        "ac" => v.accounted = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// The entries of smaps that begin in `from..end`. They are read only so far, a piece at a time: the kernel counts the pages of
/// every mapping that it prints.
fn smaps(file: &mut File, from: u64, end: u64) -> Option<Vec<Entry>> {
    file.rewind().ok()?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut pending = Vec::new();
    let mut wanted = false;
    let mut buffer = [0u8; 1024];
    loop {
        let n = file.read(&mut buffer).ok()?;
        pending.extend_from_slice(&buffer[..n]);
        let whole = pending.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        for line in std::str::from_utf8(&pending[..whole]).ok()?.lines() {
            // Fields begin with a capital letter, addresses with a digit or a small one.
            if line.starts_with(|c: char| c.is_ascii_uppercase()) {
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
        pending.drain(..whole);
        if n == 0 {
            return Some(entries);
        }
    }
}

/// A process, with what it is looked at through.
struct Subject {
    pid: u32,
    smaps: File,
    pagemap: File,
    memory: File,
}

impl Subject {
    fn open(pid: u32) -> Option<Subject> {
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).ok();
        Some(Subject { pid, smaps: open("smaps")?, pagemap: open("pagemap")?, memory: open("mem")? })
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

/// May this operation open or close files of the first process?
fn touches_descriptors(op: &Op) -> bool {
    matches!(
        op,
        Op::MemfdCreate { .. } | Op::Open { .. } | Op::Close { .. } | Op::Userfaultfd { .. } | Op::UffdRead { .. } | Op::Exit
    )
}

/// The inode of a file that a process has open, by number; None for what has none of its own, such as a userfaultfd, and for
/// devices. Not with stat(2), which recounts blocks.
fn inode_of(pid: u32, fd: Fd) -> Option<u64> {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let ino = info.lines().find_map(|l| l.strip_prefix("ino:")?.trim().parse().ok())?;
    (target.is_absolute() && !target.starts_with("/proc") && !target.starts_with("/dev")).then_some(ino)
}

/// Does any operation name an address where the tested process has mappings of its own?
fn goes_high(scenario: &Scenario) -> bool {
    scenario.calls().any(|c| matches!(c.op, Op::Mmap { addr, .. } | Op::Mremap { new: Some(addr), .. } if addr >= END))
}

/// Looks at a tested process, step after step.
pub(super) struct Observer<'f> {
    frames: &'f Frames,
    subjects: Vec<Subject>,
    own_smaps: Option<File>,
    files: BTreeMap<Fd, Watched>,
    open: Vec<(Fd, u64)>,
    /// Some mount has a limit, so that recounting blocks could be noticed.
    limited: bool,
    /// Where the tested process had mappings before the scenario began, if that matters.
    own: Option<Vec<(u64, u64)>>,
}

impl<'f> Observer<'f> {
    /// The tested process is about to begin.
    pub fn new(frames: &'f Frames, scenario: &Scenario, tested: &Tested<'_>) -> Observer<'f> {
        let limited = scenario.calls().any(|c| matches!(c.op, Op::Mount { size } if size > 0));
        let own = goes_high(scenario).then(|| {
            let mut subject = Subject::open(tested.pid);
            let all = subject.as_mut().and_then(|s| smaps(&mut s.smaps, 0, u64::MAX)).unwrap_or_default();
            all.iter().map(|e| (e.seen.start, e.seen.end)).collect()
        });
        let own_smaps = File::open("/proc/self/smaps").ok();
        Observer { frames, subjects: Vec::new(), own_smaps, files: BTreeMap::new(), open: Vec::new(), limited, own }
    }

    /// Where the process is looked at, in `subjects`.
    fn subject(&mut self, pid: u32) -> Option<usize> {
        if let Some(at) = self.subjects.iter().position(|s| s.pid == pid) {
            return Some(at);
        }
        self.subjects.push(Subject::open(pid)?);
        Some(self.subjects.len() - 1)
    }

    /// The scenario's mappings.
    fn mappings(&mut self, pid: u32) -> Option<Vec<Entry>> {
        let at = self.subject(pid)?;
        let file = &mut self.subjects[at].smaps;
        let Some(own) = &self.own else { return smaps(file, 0, END) };
        let mut all = smaps(file, 0, u64::MAX)?;
        // Its own may have grown since.
        all.retain(|e| !own.iter().any(|&(start, end)| start < e.seen.end && e.seen.start < end));
        Some(all)
    }

    /// Look, after this operation. None is after no operation in particular.
    pub fn look(&mut self, tested: &Tested<'_>, op: Option<&Op>) -> Observation {
        let mut seen = Observation::default();
        // The model has no batch of munlocked pages: it is done with them at once.
        sys::drain_batches();
        for (who, pid) in tested.processes() {
            let Some(entries) = self.mappings(pid) else { continue };
            if who == 0 {
                if op.is_none_or(touches_descriptors) {
                    self.descriptors(pid);
                }
                self.remember_files(pid, &entries);
                let inode_locked =
                    tested.blocked().any(|(_, op)| matches!(op, Op::Pwrite { .. } | Op::Fallocate { .. } | Op::Ftruncate { .. }));
                for (&fd, watched) in &self.files {
                    watched.look(fd, self.limited, inode_locked, self.own_smaps.as_mut(), &mut seen.0);
                }
            }
            self.process(tested, who as Who, pid, &entries, &mut seen.0);
        }
        seen
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
            let (Some(entries), Some(at)) = (self.mappings(pid), self.subject(pid)) else { continue };
            for e in entries.iter().filter(|e| e.id == id) {
                let place = (index * PAGE_SIZE).checked_sub(e.offset).map(|at| e.seen.start + at);
                let Some(place) = place.filter(|&place| place < e.seen.end) else { continue };
                let mut word = [0u8; 8];
                if self.subjects[at].pagemap.read_exact_at(&mut word, place / PAGE_SIZE * 8).is_err() {
                    continue;
                }
                let seen = self.page(u64::from_ne_bytes(word));
                if seen.present && seen.file {
                    mapped.push((pid, place, e.seen.locked));
                    // Nobody knows a child yet whose fork(2) waits for its event.
                    elsewhere |= seen.frame.is_some_and(|f| f.mapcount > 1);
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
            [] => sys::pageout(file.as_fd(), index).map_err(|e| not(&format!("MADV_PAGEOUT: {e}")))?,
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

    fn process(&mut self, tested: &Tested<'_>, who: Who, pid: u32, entries: &[Entry], seen: &mut BTreeMap<Key, Seen>) {
        let unseen = RssSeen { anon: Envelope::Unseen, shmem: Envelope::Unseen, swap: Envelope::Unseen };
        seen.insert(Key::Rss(who), Seen::Rss(unseen));
        seen.insert(Key::Vmas(who), Seen::Vmas(entries.iter().map(|e| e.seen.clone()).collect()));
        let Some(at) = self.subject(pid) else { return };
        let Subject { pagemap, memory, .. } = &self.subjects[at];
        for VmaSeen { start, end, prot, .. } in entries.iter().map(|e| &e.seen) {
            let (pages, count) = (start / PAGE_SIZE..end / PAGE_SIZE, ((end - start) / PAGE_SIZE) as usize);
            let small = count as u64 <= 2 * EDGE;
            let incore = (who == 0 && small).then(|| tested.mincore(*start, count)).flatten();
            let mut words = vec![0u8; if small { count * 8 } else { 0 }];
            if small && pagemap.read_exact_at(&mut words, pages.start * 8).is_err() {
                continue;
            }
            for page in looked_at(pages.clone()) {
                let mut word = [0u8; 8];
                if small {
                    let at = (page - pages.start) as usize * 8;
                    word.copy_from_slice(&words[at..at + 8]);
                } else if pagemap.read_exact_at(&mut word, page * 8).is_err() {
                    continue;
                }
                let mut p = self.page(u64::from_ne_bytes(word));
                if let Some(incore) = &incore {
                    p.mincore = Envelope::Is(incore[(page - pages.start) as usize]);
                }
                let addr = page * PAGE_SIZE;
                // Not with process_vm_readv: that pins pages, which unshares anonymous ones.
                let mut bytes = [0u8; PAGE_SIZE as usize];
                if p.present && prot.contains(PROT_READ) && memory.read_exact_at(&mut bytes, addr).is_ok() {
                    p.bytes = Envelope::Is(Bytes(CELL_AT.map(|at| Some(bytes[at as usize]))));
                }
                seen.insert(Key::Page(who, addr), Seen::Page(p));
            }
        }
    }

    fn page(&self, word: u64) -> PageSeen {
        let has = |bit: u32| word >> bit & 1 != 0;
        let present = has(63);
        PageSeen {
            present,
            swap: has(62),
            file: has(61),
            guard: has(58),
            uffd_wp: has(57),
            exclusive: has(56),
            frame: if present { self.frames.of(word & ((1 << 55) - 1)) } else { None },
            mincore: Envelope::Unseen,
            bytes: Envelope::Unseen,
        }
    }
}

impl Watched {
    fn look(&self, fd: Fd, limited: bool, inode_locked: bool, own_smaps: Option<&mut File>, seen: &mut BTreeMap<Key, Seen>) {
        let Ok(size) = sys::size(self.file.as_fd()) else { return };
        let stat = (!limited).then(|| self.file.metadata().ok()).flatten();
        let blocks = stat.map_or(Envelope::Unseen, |stat| Envelope::Is(stat.blocks() as i64));
        let swapped = own_smaps
            .and_then(|file| Some(smaps(file, self.eye.at(), self.eye.at() + 1)?.first()?.seen.swap))
            .map_or(Envelope::Unseen, Envelope::Is);
        seen.insert(Key::File(fd), Seen::File(FileSeen { size, blocks, swapped }));
        let pages = size.div_ceil(PAGE_SIZE);
        let incore = self.eye.mincore(pages.min(EYE_LEN / PAGE_SIZE) as usize).unwrap_or_default();
        for index in looked_at(0..pages) {
            let at = index * PAGE_SIZE;
            let cached = match sys::cachestat(self.file.as_fd(), at, PAGE_SIZE) {
                Ok((0, 0)) => Envelope::Is(Cached::Hole),
                Ok((_, 0)) => Envelope::Is(Cached::Cached),
                Ok(_) => Envelope::Is(Cached::Swapped),
                Err(_) => Envelope::Unseen,
            };
            let data = if inode_locked {
                Envelope::Unseen
            } else {
                Envelope::Is(sys::seek_data(self.file.as_fd(), at).is_ok_and(|found| found == at))
            };
            let mut bytes = Envelope::Unseen;
            let mut page = [0u8; PAGE_SIZE as usize];
            // What cannot be told from a swapped page is not read: that would bring it in.
            if cached == Envelope::Is(Cached::Cached)
                && let Ok(n) = self.file.read_at(&mut page, at)
            {
                bytes = Envelope::Is(Bytes(CELL_AT.map(|c| page[..n].get(c as usize).copied())));
            }
            let mincore = incore.get(index as usize).map_or(Envelope::Unseen, |&b| Envelope::Is(b));
            seen.insert(Key::FilePage(fd, index), Seen::FilePage(FilePageSeen { cached, data, mincore, bytes }));
        }
    }
}
