// SPDX-License-Identifier: GPL-2.0-only
//! What user space is promised of its memory: a flat reference, without page tables, page cache or swap.
//!
//! A file is the bytes that were stored to it; a private page is the bytes that one address space stored there and nobody
//! else sees. [`Spec`] follows the operations by their arguments and by what they *reported*, and compares: each load and
//! read with what it must give, and the whole of what user space could see with what it was promised, whenever the kernel
//! has settled. Only watched bytes are followed. Mappings are read from the kernel: no revision touches how they are made.
//!
//! What it takes over from the kernel, because the promise leaves it open:
//! * whether a private page *exists* (populate, mlock and a failed call may or may not have copied it); its bytes are then
//!   those that the file had, as far as the reference knows;
//! * a private page past the end of a file survives truncation while it is in swap (before v5.18);
//! * the zero page, where UFFDIO_ZEROPAGE put it over a private mapping of a file, goes when a hole is punched beneath;
//! * after mremap, munmap, mmap, fork or exit that failed part way, or overlapped with something else, or sleeps half done, and
//!   after mremap of several mappings: the private pages of that address space (*re-synchronised*);
//! * the bytes that a system call which sleeps half done has already written, and those of a write to /proc/PID/mem that failed.
//!
//! Operations overlap when one began before another ended and neither slept. A byte written by one of them may then have any
//! of the values that some order gives ([`bytes::Values`]), until the kernel has settled.

pub mod bytes;
pub mod visible;

use crate::entry;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{pte_marker_get, pte_present, vm_normal_page};
use crate::rules::view::{View, fd_file, live_page, used_pages};
use crate::syscall::{Advice, FallocMode, Fd, Op, Out, Outcome, UserBuf};
use bytes::{RefCells, Sure, Values};
use smallvec::SmallVec;
use visible::*;

/// How promised and visible memory differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What was stored last is gone.
    Lost,
    /// What was stored privately is visible elsewhere.
    Leaked,
    /// A previous owner's bytes are visible.
    Stale,
}

/// A difference between promised and visible memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// How they differ.
    pub kind: Kind,
    /// Where.
    pub detail: String,
}

/// What the descriptor of an operation refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Nothing that matters here.
    None,
    /// A file.
    File(InodeId),
    /// A userfaultfd, and the address space that it works on.
    Uffd(CtxId, Option<MmId>),
    /// The memory of a process.
    Mem(MmId),
}

impl Subject {
    /// What `op` works on.
    pub fn of(s: &State, task: crate::kernel::TaskId, op: &Op) -> Subject {
        let Some(file) = fd_of(op).and_then(|fd| fd_file(s, task, fd)) else { return Subject::None };
        match file.kind {
            FileKind::Inode(inode) => Subject::File(inode),
            FileKind::Userfaultfd(ctx) => Subject::Uffd(ctx, s.ctxs.get(ctx).and_then(|c| c.mm)),
            FileKind::ProcMem(mm) => Subject::Mem(mm),
        }
    }
}

/// The descriptor of an operation.
pub fn fd_of(op: &Op) -> Option<Fd> {
    match *op {
        Op::Close { fd } => Some(fd),
        Op::Mmap { fd, .. } => fd,
        ref op => entry::fd_of(op),
    }
}

/// An operation that returned.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// What it was.
    pub op: &'a Op,
    /// What it returned.
    pub outcome: &'a Outcome,
    /// The caller's address space when it began.
    pub mm: Option<MmId>,
    /// What it worked on.
    pub subject: Subject,
    /// The size of the file when it began.
    pub old_size: u64,
    /// How it stands to the operations around it.
    pub sure: Sure,
}

#[derive(Clone, Copy, Debug)]
struct FilePage {
    inode: InodeId,
    index: u64,
    cells: RefCells,
}

#[derive(Clone, Copy, Debug)]
struct PrivatePage {
    mm: MmId,
    addr: u64,
    cells: RefCells,
    /// It may also not exist: then the file shows through.
    maybe: bool,
    /// It was the zero page when it was seen last.
    zero_page: bool,
}

/// What the operations of a group may store, for loads that overlap with them.
#[derive(Clone, Copy, Default, Debug)]
struct Group {
    number: u32,
    bytes: [u64; 4],
    any: bool,
    zeroing: bool,
    /// Mappings change.
    remaps: bool,
    /// Descriptors change.
    reopens: bool,
}

impl Group {
    fn add(&mut self, byte: u8) {
        self.bytes[byte as usize / 64] |= 1 << (byte % 64);
    }
    fn may_write(&self, byte: u8) -> bool {
        self.any || self.bytes[byte as usize / 64] & 1 << (byte % 64) != 0
    }
    fn writes(&self) -> bool {
        self.any || self.bytes != [0; 4]
    }
}

/// Where stored bytes come from.
#[derive(Clone, Copy)]
enum Source {
    Const(u8),
    /// From memory at `base`, for the destination that begins at `start`.
    Mem {
        mm: MmId,
        base: u64,
        start: u64,
    },
    /// From a file at `base`.
    File {
        inode: InodeId,
        base: u64,
        start: u64,
    },
    Any,
}

/// The reference memory.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Sorted by inode and index; absent pages are zero.
    files: Vec<FilePage>,
    /// Sorted by mm and address.
    private: Vec<PrivatePage>,
    /// Address spaces that are known.
    mms: SmallVec<[MmId; 4]>,
    /// Address spaces to be taken over from the kernel when it is quiescent.
    resync: SmallVec<[MmId; 2]>,
    group: Group,
}

/// Most pages of one range that are followed.
const MOST: u64 = 256;

impl Spec {
    /// The reference for a kernel that runs already: all it shows is as it should be.
    pub fn new(s: &State) -> Spec {
        let mut spec = Spec {
            files: Vec::new(),
            private: Vec::new(),
            mms: SmallVec::new(),
            resync: SmallVec::new(),
            group: Group { number: 1, ..Group::default() },
        };
        for (inode, i) in s.inodes.iter() {
            for (index, slot) in i.i_pages.iter() {
                let cells = slot_cells(s, slot);
                if cells != ZERO_CELLS {
                    spec.files.push(FilePage { inode, index: index as u64, cells: RefCells::seen(&cells) });
                }
            }
        }
        spec.files.sort_by_key(|p| (p.inode, p.index));
        let mms: SmallVec<[MmId; 4]> = s.mms.iter().map(|(mm, _)| mm).collect();
        let mut view = View::default();
        view.read(s);
        for mm in mms {
            spec.mms.push(mm);
            spec.take_over(s, &view, mm);
        }
        spec
    }

    // ---- groups ---------------------------------------------------------------------------------------------------------

    /// An operation begins while no other runs.
    pub fn new_group(&mut self) {
        self.group = Group { number: self.group.number.wrapping_add(1).max(1), ..Group::default() };
    }

    /// The number of the group of operations that run now.
    pub fn group(&self) -> u32 {
        self.group.number
    }

    /// May an operation of the group put something else at an address?
    pub fn group_remaps(&self) -> bool {
        self.group.remaps
    }

    /// May an operation of the group put something else behind a descriptor?
    pub fn group_reopens(&self) -> bool {
        self.group.reopens
    }

    /// An operation joins the group: what might it store?
    pub fn join_group(&mut self, op: &Op) {
        self.group.reopens |= matches!(
            op,
            Op::Open { .. } | Op::Close { .. } | Op::MemfdCreate { .. } | Op::Userfaultfd { .. } | Op::UffdRead { .. }
        );
        match *op {
            Op::Store { value, .. } => self.group.add(value),
            Op::Pwrite { buf: UserBuf::Fill(b), .. } | Op::UffdCopy { src: UserBuf::Fill(b), .. } => {
                self.group.add(b);
                self.group.add(0);
            }
            Op::Pread { buf: UserBuf::Fill(_), .. } => {}
            Op::Pwrite { .. } | Op::UffdCopy { .. } | Op::Pread { .. } => self.group.any = true,
            Op::UffdZeropage { .. } => self.group.add(0),
            Op::Ftruncate { .. }
            | Op::Fallocate { mode: FallocMode::PUNCH_HOLE, .. }
            | Op::Madvise { advice: Advice::MADV_REMOVE, .. } => {
                self.group.add(0);
                self.group.zeroing = true;
            }
            Op::Madvise { advice: Advice::MADV_DONTNEED | Advice::MADV_DONTNEED_LOCKED | Advice::MADV_GUARD_INSTALL, .. } => {
                self.group.any = true;
            }
            Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mremap { .. }
            | Op::UffdMove { .. }
            | Op::Fork
            | Op::Exit
            | Op::Kill { .. } => {
                self.group.any = true;
                self.group.remaps = true;
            }
            _ => {}
        }
    }

    // ---- lookups --------------------------------------------------------------------------------------------------------

    fn file(&self, inode: InodeId, index: u64) -> RefCells {
        match self.files.binary_search_by_key(&(inode, index), |p| (p.inode, p.index)) {
            Ok(i) => self.files[i].cells,
            Err(_) => RefCells::ZERO,
        }
    }

    fn file_mut(&mut self, inode: InodeId, index: u64) -> &mut RefCells {
        let i = match self.files.binary_search_by_key(&(inode, index), |p| (p.inode, p.index)) {
            Ok(i) => i,
            Err(i) => {
                self.files.insert(i, FilePage { inode, index, cells: RefCells::ZERO });
                i
            }
        };
        &mut self.files[i].cells
    }

    fn find_private(&self, mm: MmId, addr: u64) -> Result<usize, usize> {
        self.private.binary_search_by_key(&(mm, addr), |p| (p.mm, p.addr))
    }

    fn beneath(&self, file: Option<(InodeId, u64)>) -> RefCells {
        file.map_or(RefCells::ZERO, |(inode, index)| self.file(inode, index))
    }

    /// What a page of memory holds.
    fn value(&self, s: &State, mm: MmId, page: u64) -> RefCells {
        match place(s, mm, page) {
            Place::Nowhere => RefCells::ZERO,
            Place::File(inode, index) => self.file(inode, index),
            Place::Private(file) => match self.find_private(mm, page) {
                Ok(i) => {
                    let mut cells = self.private[i].cells;
                    if self.private[i].maybe {
                        cells.join(&self.beneath(file));
                    }
                    cells
                }
                Err(_) => self.beneath(file),
            },
        }
    }

    /// The private page, made from what shows through if it is not there.
    fn private_mut(&mut self, mm: MmId, page: u64, file: Option<(InodeId, u64)>, sure: Sure) -> &mut PrivatePage {
        let beneath = self.beneath(file);
        let i = match self.find_private(mm, page) {
            Ok(i) => {
                if sure == Sure::Yes && self.private[i].maybe {
                    self.private[i].maybe = false;
                    self.private[i].cells.join(&beneath);
                }
                i
            }
            Err(i) => {
                let mut cells = beneath;
                if let Sure::Overlapped(_) = sure
                    && file.is_some()
                    && self.group.writes()
                {
                    // The copy may have been taken before or after what the others store to the file.
                    for v in cells.now.iter_mut().chain(&mut cells.before) {
                        *v = Values::any();
                    }
                }
                self.private.insert(i, PrivatePage { mm, addr: page, cells, maybe: sure != Sure::Yes, zero_page: false });
                i
            }
        };
        &mut self.private[i]
    }

    fn source_value(&self, s: &State, source: Source, at: u64, sure: Sure) -> Values {
        let cells = match (source, sure) {
            (Source::Const(b), _) => return Values::one(b),
            (Source::Any, _) | (_, Sure::Overlapped(_)) => return Values::any(),
            (Source::Mem { mm, base, start }, _) => {
                let addr = base.wrapping_add(at - start);
                cell_at(addr % PAGE_SIZE).map(|i| self.value(s, mm, page_align_down(addr)).now[i])
            }
            (Source::File { inode, base, start }, _) => {
                let pos = base.wrapping_add(at - start);
                cell_at(pos % PAGE_SIZE).map(|i| self.file(inode, pos / PAGE_SIZE).now[i])
            }
        };
        cells.unwrap_or(Values::any())
    }

    // ---- effects --------------------------------------------------------------------------------------------------------

    /// Bytes `[from, to)` of an address space are stored to.
    fn store(&mut self, s: &State, mm: MmId, from: u64, to: u64, source: Source, sure: Sure) {
        if from >= to {
            return; // nothing was stored, not even where a page would have been copied for it
        }
        // Where mappings changed meanwhile, it may have gone to what was there before.
        let sure = if matches!(sure, Sure::Overlapped(_)) && self.group.remaps { Sure::Perhaps } else { sure };
        let mut page = page_align_down(from);
        let last = to.min(page.saturating_add(MOST * PAGE_SIZE));
        while page < last {
            let mut new = [None; CELLS];
            for (i, at) in CELL_AT.iter().map(|c| page + c).enumerate() {
                if from <= at && at < to {
                    let mut v = self.source_value(s, source, at, sure);
                    if self.group.zeroing && matches!(sure, Sure::Overlapped(_)) {
                        v.add(0);
                    }
                    new[i] = Some(v);
                }
            }
            let cells = match place(s, mm, page) {
                Place::Nowhere => None,
                Place::File(inode, index) => Some(self.file_mut(inode, index)),
                Place::Private(file) => Some(&mut self.private_mut(mm, page, file, sure).cells),
            };
            if let Some(cells) = cells {
                for (i, v) in new.into_iter().enumerate().filter_map(|(i, v)| Some((i, v?))) {
                    cells.set(i, v, sure);
                }
            }
            page = page.saturating_add(PAGE_SIZE);
        }
    }

    /// Bytes `[from, to)` of a file are written.
    fn write_file(&mut self, s: &State, inode: InodeId, from: u64, to: u64, source: Source, sure: Sure) {
        let mut pos = page_align_down(from);
        let last = to.min(pos.saturating_add(MOST * PAGE_SIZE));
        while pos < last {
            for (i, at) in CELL_AT.iter().map(|c| pos + c).enumerate() {
                if from <= at && at < to {
                    let mut v = self.source_value(s, source, at, sure);
                    if self.group.zeroing && matches!(sure, Sure::Overlapped(_)) {
                        v.add(0);
                    }
                    self.file_mut(inode, pos / PAGE_SIZE).set(i, v, sure);
                }
            }
            pos = pos.saturating_add(PAGE_SIZE);
        }
    }

    /// Bytes `[from, to)` of a file become zero.
    fn zero_file(&mut self, inode: InodeId, from: u64, to: u64, sure: Sure) {
        for p in self.files.iter_mut().filter(|p| p.inode == inode) {
            for (i, at) in CELL_AT.iter().enumerate() {
                let pos = p.index * PAGE_SIZE + at;
                if from <= pos && pos < to {
                    p.cells.set(i, Values::one(0), sure);
                }
            }
        }
    }

    /// A hole is punched. Private copies over it stay, but not the zero page: its entries are cleared along with the file's.
    fn punch(&mut self, s: &State, inode: InodeId, from: u64, to: u64, sure: Sure) {
        self.zero_file(inode, from, to, sure);
        let whole = from.div_ceil(PAGE_SIZE)..to / PAGE_SIZE;
        self.private.retain(|p| {
            let over = matches!(place(s, p.mm, p.addr), Place::Private(Some((i, index))) if i == inode && whole.contains(&index));
            !(over && p.cells.is_zero() && pte_of(s, p.mm, p.addr) == PteVal::None)
        });
    }

    /// Private pages in `[from, to)` go away.
    fn drop_private(&mut self, mm: MmId, from: u64, to: u64, sure: Sure) {
        let inside = |p: &PrivatePage| p.mm == mm && from <= p.addr && p.addr < to;
        if sure == Sure::Yes {
            self.private.retain(|p| !inside(p));
        } else {
            self.private.iter_mut().filter(|p| inside(p)).for_each(|p| p.maybe = true);
        }
    }

    fn truncate(&mut self, s: &State, inode: InodeId, size: u64, old_size: u64, sure: Sure) {
        if size > old_size && sure == Sure::Yes {
            return;
        }
        self.zero_file(inode, size, u64::MAX, sure);
        if old_size <= page_align(size) && sure == Sure::Yes {
            return;
        }
        // Private copies past the end die with the file's pages (even_cows), unless they are in swap.
        self.private.retain_mut(|p| {
            let past = matches!(place(s, p.mm, p.addr), Place::Private(Some((i, index))) if i == inode && index >= max_off(size));
            if !past || matches!(pte_of(s, p.mm, p.addr), PteVal::Swap { .. }) {
                return true;
            }
            p.maybe = true;
            sure != Sure::Yes
        });
    }

    fn mremap(&mut self, mm: MmId, old: u64, old_len: u64, new_len: u64, new: Option<u64>) {
        let (old_len, new_len) = (page_align(old_len), page_align(new_len));
        if old_len == 0 {
            return; // a second mapping of the same file; nothing moves
        }
        if new_len < old_len {
            self.drop_private(mm, old.wrapping_add(new_len), old.wrapping_add(old_len), Sure::Yes);
        }
        let Some(new) = new else { return };
        self.drop_private(mm, new, new.wrapping_add(new_len), Sure::Yes);
        for p in self.private.iter_mut().filter(|p| p.mm == mm && p.addr >= old && p.addr - old < old_len) {
            p.addr = new.wrapping_add(p.addr - old);
        }
        self.private.sort_by_key(|p| (p.mm, p.addr));
    }

    /// A child has been forked.
    pub fn fork(&mut self, s: &State, parent: MmId, sure: Sure) {
        for (child, _) in s.mms.iter() {
            if self.mms.contains(&child) {
                continue;
            }
            self.mms.push(child);
            if sure != Sure::Yes {
                self.resync.push(child);
            }
            let pages: Vec<PrivatePage> = self.private.iter().copied().filter(|p| p.mm == parent).collect();
            for p in pages {
                if vma_at(s, child, p.addr).is_some_and(|v| !v.vm_flags.contains(VM_WIPEONFORK)) {
                    self.private.push(PrivatePage { mm: child, ..p });
                }
            }
        }
        self.private.sort_by_key(|p| (p.mm, p.addr));
    }

    /// From now on, trust the kernel for the private pages of an address space.
    pub fn resynchronise(&mut self, mm: MmId) {
        if !self.resync.contains(&mm) {
            self.resync.push(mm);
        }
    }

    fn take_over(&mut self, s: &State, v: &View, mm: MmId) {
        self.private.retain(|p| p.mm != mm);
        for line in v.lines.iter().filter(|l| l.mm == mm) {
            if v.area(line).is_some_and(|a| !a.shared())
                && (is_private_entry(s, line.pte) || is_zero_page(line.pte))
                && let Some(cells) = pte_cells(s, line.pte)
            {
                self.private.push(PrivatePage {
                    mm,
                    addr: line.addr,
                    cells: RefCells::seen(&cells),
                    maybe: false,
                    zero_page: false,
                });
            }
        }
        self.private.sort_by_key(|p| (p.mm, p.addr));
    }

    /// An operation returned: check what it gave, and do to the reference what it reported.
    pub fn apply(&mut self, s: &State, d: &Done<'_>, out: &mut Vec<Mismatch>) {
        let sure = d.sure;
        let ok = d.outcome.ret.ok().filter(|_| !matches!(d.outcome.out, Out::Signal { .. }));
        let source = |buf: UserBuf, start: u64| match (buf, d.mm) {
            (UserBuf::Fill(b), _) => Source::Const(b),
            (UserBuf::Addr(base), Some(mm)) => Source::Mem { mm, base, start },
            _ => Source::Any,
        };
        let filled = match d.outcome.out {
            Out::Done(n) if n > 0 => n as u64,
            _ => 0,
        };
        match (d.op, d.mm) {
            (&Op::Load { addr }, Some(mm)) => {
                if let (Some(_), Out::Byte(Some(cell))) = (ok, &d.outcome.out) {
                    self.check_byte(s, mm, addr, *cell, sure, out);
                }
            }
            (&Op::Store { addr, value }, Some(mm)) if ok.is_some() => {
                self.store(s, mm, addr, addr + 1, Source::Const(value), sure);
            }
            (&Op::Pread { buf, count, offset, .. }, mm) => {
                if let Out::Data(data) = &d.outcome.out {
                    for (i, cell) in data.iter().enumerate().filter_map(|(i, c)| Some((i, (*c)?))) {
                        let at = offset.wrapping_add(CELL_AT[i]);
                        match d.subject {
                            Subject::File(inode) => self.check_file_byte(s, inode, at, cell, sure, out),
                            Subject::Mem(mm) => self.check_byte(s, mm, at, cell, sure, out),
                            _ => {}
                        }
                    }
                }
                if let (UserBuf::Addr(to), Some(mm)) = (buf, mm) {
                    // A read that failed may have copied a part.
                    let (n, sure) = match ok {
                        Some(n) if n as u64 == count => (n as u64, sure),
                        _ => (count, Sure::Perhaps),
                    };
                    let from = match d.subject {
                        // A file that is copied into itself reads what it wrote.
                        Subject::File(inode) if sure == Sure::Yes && !maps_file(s, mm, to, n, inode) => {
                            Source::File { inode, base: offset, start: to }
                        }
                        _ => Source::Any,
                    };
                    self.store(s, mm, to, to.saturating_add(n), from, sure);
                }
            }
            (&Op::Pwrite { buf, count, offset, .. }, _) => {
                if let (None, Subject::Mem(mm)) = (ok, d.subject) {
                    // Where the buffer ends short, mem_rw() forgets how much it has written.
                    return self.store(s, mm, offset, offset.saturating_add(count), Source::Any, Sure::Perhaps);
                }
                let Some(n) = ok.filter(|n| *n > 0) else { return };
                let to = offset.saturating_add(n as u64);
                match d.subject {
                    Subject::File(inode) => {
                        let own = matches!((buf, d.mm), (UserBuf::Addr(a), Some(mm)) if maps_file(s, mm, a, n as u64, inode));
                        let from = if own { Source::Any } else { source(buf, offset) };
                        self.write_file(s, inode, offset, to, from, sure);
                    }
                    Subject::Mem(mm) => self.store(s, mm, offset, to, source(buf, offset), sure),
                    _ => {}
                }
            }
            (&Op::UffdCopy { dst, src, .. }, _) => {
                if let Subject::Uffd(_, Some(mm)) = d.subject {
                    self.store(s, mm, dst, dst.saturating_add(filled), source(src, dst), sure);
                }
            }
            (&Op::UffdZeropage { start, .. }, _) => {
                if let Subject::Uffd(_, Some(mm)) = d.subject {
                    self.store(s, mm, start, start.saturating_add(filled), Source::Const(0), sure);
                }
            }
            (&Op::Ftruncate { length, .. }, _) if ok.is_some() => {
                if let Subject::File(inode) = d.subject {
                    self.truncate(s, inode, length, d.old_size, sure);
                }
            }
            (&Op::Fallocate { mode: FallocMode::PUNCH_HOLE, offset, len, .. }, _) if ok.is_some() => {
                if let Subject::File(inode) = d.subject {
                    self.punch(s, inode, offset, offset.saturating_add(len), sure);
                }
            }
            (
                &Op::Madvise {
                    addr,
                    len,
                    advice: Advice::MADV_DONTNEED | Advice::MADV_DONTNEED_LOCKED | Advice::MADV_GUARD_INSTALL,
                },
                Some(mm),
            ) => {
                // With holes in the range it does the rest and says ENOMEM.
                let sure = if ok.is_some() { sure } else { Sure::Perhaps };
                self.drop_private(mm, addr, addr.saturating_add(page_align(len)), sure);
            }
            (&Op::Madvise { addr, len, advice: Advice::MADV_REMOVE }, Some(mm)) => {
                let sure = if ok.is_some() { sure } else { Sure::Perhaps };
                let end = addr.saturating_add(page_align(len));
                let Some(m) = s.mms.get(mm) else { return };
                for vma in m.mmap.iter().filter_map(|&v| s.vmas.get(v)) {
                    let (from, to) = (addr.max(vma.vm_start), end.min(vma.vm_end));
                    if from < to
                        && let Place::File(inode, index) = place(s, mm, from)
                    {
                        self.punch(s, inode, index * PAGE_SIZE, index * PAGE_SIZE + (to - from), sure);
                    }
                }
            }
            (&Op::Munmap { addr, len } | &Op::Mmap { addr, len, .. }, Some(mm)) => {
                if ok.is_some() && sure == Sure::Yes {
                    self.drop_private(mm, addr, addr.saturating_add(page_align(len)), sure);
                } else {
                    self.resynchronise(mm);
                }
            }
            (&Op::Mremap { old, old_len, new_len, new, .. }, Some(mm)) => {
                // Where several mappings are moved at once (v6.17), what is mapped behind the gaps between them stays.
                let end = |new: u64| new.saturating_add(page_align(new_len));
                let whole = new.is_none_or(|new| vma_at(s, mm, new).is_some_and(|v| v.vm_end >= end(new)));
                if ok.is_some() && sure == Sure::Yes && whole {
                    self.mremap(mm, old, old_len, new_len, new);
                } else {
                    self.resynchronise(mm);
                }
            }
            (&Op::UffdMove { dst, src, .. }, _) => {
                let Subject::Uffd(_, Some(mm)) = d.subject else { return };
                if sure == Sure::Yes {
                    // One by one: a page that has come may be the next to go.
                    for at in (0..filled.min(MOST * PAGE_SIZE)).step_by(PAGE_SIZE as usize) {
                        self.mremap(mm, src + at, PAGE_SIZE, PAGE_SIZE, Some(dst + at));
                    }
                } else {
                    self.resynchronise(mm);
                }
            }
            (Op::Fork, Some(mm)) => self.fork(s, mm, sure),
            _ => {}
        }
    }

    // ---- checks ---------------------------------------------------------------------------------------------------------

    fn allowed(&self, cells: &RefCells, i: usize, byte: u8, sure: Sure) -> bool {
        match sure {
            Sure::Yes => cells.now[i].has(byte),
            Sure::Overlapped(_) => cells.now[i].has(byte) || cells.before[i].has(byte) || self.group.may_write(byte),
            Sure::Perhaps => true,
        }
    }

    fn check_byte(&self, s: &State, mm: MmId, addr: u64, cell: Cell, sure: Sure, out: &mut Vec<Mismatch>) {
        let place = place(s, mm, addr);
        if place == Place::Nowhere {
            return; // unmapped since
        }
        let what = || format!("a load from {mm} {addr:#x}");
        let file = match place {
            Place::File(inode, index) | Place::Private(Some((inode, index))) => Some((inode, index)),
            _ => None,
        };
        let cells = self.value(s, mm, page_align_down(addr));
        self.judge(s, file, &cells, addr % PAGE_SIZE, cell, sure, what, out);
    }

    fn check_file_byte(&self, s: &State, inode: InodeId, pos: u64, cell: Cell, sure: Sure, out: &mut Vec<Mismatch>) {
        let index = pos / PAGE_SIZE;
        let cells = self.file(inode, index);
        self.judge(s, Some((inode, index)), &cells, pos % PAGE_SIZE, cell, sure, || format!("a read of {inode} at {pos}"), out);
    }

    fn judge(
        &self,
        s: &State,
        file: Option<(InodeId, u64)>,
        cells: &RefCells,
        offset: u64,
        cell: Cell,
        sure: Sure,
        what: impl Fn() -> String,
        out: &mut Vec<Mismatch>,
    ) {
        if cell.is_stale() {
            out.push(Mismatch { kind: Kind::Stale, detail: format!("{} gave {cell:?}, left by the frame's last owner", what()) });
            return;
        }
        let Some(i) = cell_at(offset) else { return };
        if !self.allowed(cells, i, cell.byte(), sure) {
            let kind = self.blame(s, file, i, cell.byte());
            out.push(Mismatch { kind, detail: format!("{} gave {cell:?}, promised {:?}", what(), cells.now[i]) });
        }
    }

    /// Did a byte that should not be in a file come from a private page over it?
    fn blame(&self, s: &State, file: Option<(InodeId, u64)>, i: usize, byte: u8) -> Kind {
        let Some(file) = file else { return Kind::Lost };
        let from_private =
            |p: &PrivatePage| byte != 0 && p.cells.now[i].is(byte) && place(s, p.mm, p.addr) == Place::Private(Some(file));
        if self.private.iter().any(from_private) { Kind::Leaked } else { Kind::Lost }
    }

    /// Compare all that user space can see. `lenient`: a system call sleeps half done and may have stored already.
    pub fn settle(&mut self, s: &State, v: &View, lenient: bool, out: &mut Vec<Mismatch>) {
        let certain = v.quiescent && !lenient;
        // Stale bytes first: they are reported as such only.
        for (id, page, h) in used_pages(s, v) {
            if page.cells.iter().any(|c| c.is_stale()) && (h.ptes > 0 || (h.slots > 0 && page.flags.contains(PG_uptodate))) {
                let how = if h.ptes > 0 { "mapped" } else { "cached" };
                out.push(Mismatch {
                    kind: Kind::Stale,
                    detail: format!("{how} {id} shows {:?} of the frame's last owner", page.cells),
                });
            }
        }
        // Address spaces that came, went, or cannot be followed.
        self.mms.retain(|mm| s.mms.get(*mm).is_some());
        let new: SmallVec<[MmId; 2]> = s.mms.iter().map(|(mm, _)| mm).filter(|mm| !self.mms.contains(mm)).collect();
        for mm in new {
            self.mms.push(mm);
            self.resync.push(mm);
        }
        for mm in self.resync.clone() {
            self.take_over(s, v, mm);
        }
        if certain {
            self.resync.clear();
        }
        self.files.retain(|p| s.inodes.get(p.inode).is_some());
        self.settle_private(s, v, lenient, certain, out);
        self.settle_files(s, lenient, certain, out);
    }

    fn settle_private(&mut self, s: &State, v: &View, lenient: bool, certain: bool, out: &mut Vec<Mismatch>) {
        for line in &v.lines {
            let Some(area) = v.area(line) else { continue };
            let file = area.inode.map(|i| (i, area.index(line.addr)));
            let known = !area.shared() && self.find_private(line.mm, line.addr).is_ok();
            if known {
                continue; // compared below
            }
            if !area.shared() && is_private_entry(s, line.pte) {
                // Copied by something that does not say so: the bytes are those of the file, before or after what overlapped.
                let mut cells = self.beneath(file);
                if cells.group == self.group.number {
                    let before = cells.before;
                    cells.now.iter_mut().zip(before).for_each(|(now, before)| now.join(before));
                }
                if let Err(at) = self.find_private(line.mm, line.addr) {
                    self.private.insert(at, PrivatePage { mm: line.mm, addr: line.addr, cells, maybe: false, zero_page: false });
                }
                continue;
            }
            // A page of the file: what the page cache holds is compared below, once.
            let cached = file.and_then(|(i, index)| s.inodes.get(i)?.i_pages.get(index as u32));
            let page = vm_normal_page(line.pte);
            if !pte_present(line.pte) || (page.is_some() && cached == page.map(SlotVal::Page)) {
                continue;
            }
            let Some(cells) = pte_cells(s, line.pte) else { continue };
            let promised = self.beneath(file);
            if !lenient && !admits(&promised, &cells) {
                let detail = format!("{} {:#x} shows {cells:?}, promised {:?}", line.mm, line.addr, promised.now);
                out.push(Mismatch { kind: Kind::Lost, detail });
            }
        }
        let mut i = 0;
        while i < self.private.len() {
            let p = self.private[i];
            let Place::Private(file) = place(s, p.mm, p.addr) else {
                self.private.remove(i);
                continue;
            };
            let pte = pte_of(s, p.mm, p.addr);
            // Swap could not be read: the bytes are lost, and every access says so.
            if pte_marker_get(pte).intersects(PTE_MARKER_POISONED | SWP_SWAPIN_ERROR) {
                self.private.remove(i);
                continue;
            }
            let exists = is_private_entry(s, pte) || is_zero_page(pte);
            // A page that is neither anonymous nor the file's: other rules say what is wrong with it, its bytes may be right.
            let cached = file.and_then(|(inode, index)| s.inodes.get(inode)?.i_pages.get(index as u32));
            let stray = !exists && pte_present(pte) && cached != vm_normal_page(pte).map(SlotVal::Page);
            if p.maybe && certain && !exists && !stray {
                self.private.remove(i);
                continue;
            }
            let cells =
                pte_cells(s, pte).unwrap_or_else(|| file.map_or(ZERO_CELLS, |(inode, index)| file_cells(s, inode, index)));
            let mut promised = p.cells;
            // Dropped meanwhile, and perhaps copied anew.
            if p.maybe {
                promised.join(&self.beneath(file));
            }
            if admits(&promised, &cells) {
                if certain && !stray && p.maybe {
                    self.private[i].maybe = false;
                    self.private[i].cells = RefCells::seen(&cells);
                } else if certain && !stray {
                    self.private[i].cells.settle(&cells);
                }
            } else if lenient {
                self.private[i].cells.join(&RefCells::seen(&cells));
            } else {
                let gone = p.zero_page && !is_zero_page(pte) && !is_private_entry(s, pte);
                let why = if gone { ": the zero page that covered the file is gone" } else { "" };
                let detail = format!("{} {:#x} shows {cells:?}, promised {:?}{why}", p.mm, p.addr, promised.now);
                out.push(Mismatch { kind: Kind::Lost, detail });
                if gone {
                    self.private.remove(i);
                    continue;
                }
                self.private[i].cells = RefCells::seen(&cells);
            }
            if is_zero_page(pte) || is_private_entry(s, pte) {
                self.private[i].zero_page = is_zero_page(pte);
            }
            i += 1;
        }
    }

    fn settle_files(&mut self, s: &State, lenient: bool, certain: bool, out: &mut Vec<Mismatch>) {
        for (inode, node) in s.inodes.iter() {
            for (index, slot) in node.i_pages.iter() {
                let cells = slot_cells(s, slot);
                self.settle_file_page(s, inode, index as u64, &cells, lenient, certain, out);
            }
        }
        let mut i = 0;
        while i < self.files.len() {
            let p = self.files[i];
            if s.inodes.get(p.inode).is_some_and(|n| n.i_pages.get(p.index as u32).is_none()) {
                self.settle_file_page(s, p.inode, p.index, &ZERO_CELLS, lenient, certain, out);
            }
            i += 1;
        }
        self.files.retain(|p| !p.cells.is_zero() || p.cells.now != p.cells.before);
    }

    fn settle_file_page(
        &mut self,
        s: &State,
        inode: InodeId,
        index: u64,
        cells: &Cells,
        lenient: bool,
        certain: bool,
        out: &mut Vec<Mismatch>,
    ) {
        let promised = self.file(inode, index);
        if admits(&promised, cells) {
            if certain && !(promised.is_zero() && promised.before == promised.now) {
                self.file_mut(inode, index).settle(cells);
            }
            return;
        }
        if lenient {
            self.file_mut(inode, index).join(&RefCells::seen(cells));
            return;
        }
        let wrong = |i: &usize| !promised.now[*i].has(cells[*i].byte());
        let leaked = (0..CELLS).filter(wrong).any(|i| self.blame(s, Some((inode, index)), i, cells[i].byte()) == Kind::Leaked);
        let kind = if leaked { Kind::Leaked } else { Kind::Lost };
        let detail = format!("{inode} page {index} holds {cells:?}, promised {:?}", promised.now);
        out.push(Mismatch { kind, detail });
        *self.file_mut(inode, index) = RefCells::seen(cells);
    }
}

/// As [`RefCells::admits`], but a previous owner's bytes are another matter.
fn admits(promised: &RefCells, cells: &Cells) -> bool {
    promised.now.iter().zip(cells).all(|(v, c)| c.is_stale() || v.has(c.byte()))
}

/// Does this entry hold a page of this address space alone?
fn is_private_entry(s: &State, pte: PteVal) -> bool {
    match pte {
        PteVal::None | PteVal::Marker(_) => false,
        PteVal::Swap { .. } => true,
        PteVal::Present { .. } => {
            vm_normal_page(pte).and_then(|p| live_page(s, p)).is_some_and(|p| matches!(p.mapping, PageMapping::Anon(_)))
        }
    }
}

/// The shared zero page: where UFFDIO_ZEROPAGE put it over a file, it hides the file.
fn is_zero_page(pte: PteVal) -> bool {
    pte_present(pte) && vm_normal_page(pte).is_none()
}

/// Does some page of the range map the file?
fn maps_file(s: &State, mm: MmId, addr: u64, len: u64, inode: InodeId) -> bool {
    let (mut page, end) = (page_align_down(addr), addr.saturating_add(len));
    let mut pages = 0;
    while page < end && pages < MOST {
        match place(s, mm, page) {
            Place::File(i, _) | Place::Private(Some((i, _))) if i == inode => return true,
            _ => {}
        }
        page += PAGE_SIZE;
        pages += 1;
    }
    false
}
