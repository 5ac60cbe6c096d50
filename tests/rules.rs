// SPDX-License-Identifier: GPL-2.0-only
//! Every rule, once where it holds and once on a kernel that was broken by hand.

use faultline::errno::*;
use faultline::event::{Finding, Symptom};
use faultline::flags::*;
use faultline::kernel::*;
use faultline::mm::locking::{Held, LockId, LockMode};
use faultline::rules::{Broken, Watch, When, all, by_name, from_finding};
use faultline::syscall::*;

const SHARED: u64 = 0x10_0000;
const PRIVATE: u64 = 0x20_0000;
const ANON: u64 = 0x30_0000;
const WATCHED: u64 = 0x40_0000;
const WATCHED_ANON: u64 = 0x50_0000;
const MEMFD: Fd = 3;
const UFFD: Fd = 4;
/// Pages of the file.
const PAGES: u64 = 4;

fn cells(byte: u8) -> Cells {
    [Cell::new(byte); CELLS]
}

fn page(flags: PageFlags, mapping: PageMapping, index: u32, byte: u8) -> Page {
    let (refcount, mapcount) = (1, 0);
    Page { flags, refcount, mapcount, mapping, index: index.into(), private: None, cells: cells(byte), generation: 0 }
}

fn id(pfn: u16) -> PageId {
    PageId { pfn, generation: 0 }
}

fn present(pfn: u16, flags: PteFlags) -> PteVal {
    PteVal::Present { page: id(pfn), flags }
}

fn the_mm(s: &State) -> MmId {
    s.mms.iter().next().unwrap().0
}
fn the_file(s: &State) -> InodeId {
    s.inodes.iter().next().unwrap().0
}
fn the_task(s: &State) -> TaskId {
    s.tasks.iter().next().unwrap().0
}
fn the_ctx(s: &State) -> CtxId {
    s.ctxs.iter().next().unwrap().0
}
fn vma_at(s: &State, addr: u64) -> VmaId {
    s.vmas.iter().find(|(_, v)| v.vm_start == addr).unwrap().0
}
fn file_mut(s: &mut State) -> &mut Inode {
    let inode = the_file(s);
    s.inodes.get_mut(inode).unwrap()
}
fn mm_mut(s: &mut State) -> &mut MmStruct {
    let mm = the_mm(s);
    s.mms.get_mut(mm).unwrap()
}

/// Store an entry, making tables on the way. Counts, references and mapcounts are the caller's.
fn set_pte(s: &mut State, addr: u64, pte: PteVal) {
    let mut table = mm_mut(s).pgd.unwrap();
    for level in (2..=4u8).rev() {
        let idx = ((addr >> (12 + 9 * (level as u64 - 1))) & 511) as u32;
        table = match s.tables.get(table).unwrap().entries.get(idx) {
            Some(PtEntry::Table(t)) => t,
            _ => {
                let t = s.tables.insert(PageTable { level: level - 1, ..Default::default() });
                s.tables.get_mut(table).unwrap().entries.set(idx, Some(PtEntry::Table(t)));
                mm_mut(s).pgtables += 1;
                t
            }
        };
    }
    let entry = if pte == PteVal::None { None } else { Some(PtEntry::Pte(pte)) };
    s.tables.get_mut(table).unwrap().entries.set(((addr >> 12) & 511) as u32, entry);
}

/// Map a page as the kernel would: entry, reference, mapcount, counter.
fn map(s: &mut State, addr: u64, pfn: u16, flags: PteFlags, counter: MmCounter) {
    set_pte(s, addr, present(pfn, flags));
    s.mem_map[pfn as usize].refcount += 1;
    s.mem_map[pfn as usize].mapcount += 1;
    mm_mut(s).rss_stat[counter as usize] += 1;
}

fn mmap(s: &mut State, start: u64, pages: u64, flags: VmFlags, file: Option<FileId>, ctx: Option<CtxId>) -> VmaId {
    let mm = the_mm(s);
    let vma = Vma {
        vm_start: start,
        vm_end: start + pages * PAGE_SIZE,
        vm_mm: mm,
        vm_flags: flags | VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE,
        vm_pgoff: if file.is_some() { 0 } else { start / PAGE_SIZE },
        vm_file: file,
        vm_ops: if file.is_some() { VmOps::Shmem } else { VmOps::None },
        ctx,
        ..Vma::default()
    };
    let id = s.vmas.insert(vma);
    s.mms.get_mut(mm).unwrap().mmap.push(id);
    if file.is_some() {
        file_mut(s).i_mmap.push(id);
    }
    id
}

/// A process with a memfd of four pages (0x41 mapped, zero and clean, 0x43 in swap, a hole), a userfaultfd, and mappings:
/// shared, private and shared-registered ones of the file, anonymous memory with a page and a swapped page, and registered
/// anonymous memory. A mount with a size limit holds an empty file with a name.
fn small_world() -> Kernel {
    let mut s = State::default();
    let kernel_sb = s.sbs.insert(SuperBlock::default());
    let file_flags = PG_uptodate | PG_swapbacked | PG_lru;
    let inode = s.inodes.insert(Inode {
        i_count: 1,
        i_size: PAGES * PAGE_SIZE,
        i_blocks: 24,
        i_sb: Some(kernel_sb),
        nrpages: 2,
        info: ShmemInodeInfo { alloced: 3, swapped: 1, flags: VM_NORESERVE, swaplist: true, ..Default::default() },
        ..Default::default()
    });
    s.mem_map.push(page(file_flags | PG_dirty, PageMapping::Inode(inode), 0, 0x41));
    s.mem_map.push(page(file_flags, PageMapping::Inode(inode), 1, 0));
    let slots = &mut s.inodes.get_mut(inode).unwrap().i_pages;
    slots.set(0, Some(SlotVal::Page(id(0))));
    slots.set(1, Some(SlotVal::Page(id(1))));
    slots.set(2, Some(SlotVal::Swap(SwpEntry(0))));
    s.swap = vec![
        SwapSlot { count: SWAP_MAP_SHMEM, disk: Some(cells(0x43)), ..Default::default() },
        SwapSlot { count: 1, disk: Some(cells(0x62)), ..Default::default() },
        SwapSlot::default(),
    ];
    s.swap_on = true;

    let mnt = s.sbs.insert(SuperBlock { max_blocks: 2, ..Default::default() });
    let named = s.inodes.insert(Inode {
        i_nlink: 1,
        i_sb: Some(mnt),
        info: ShmemInodeInfo { flags: VM_NORESERVE, ..Default::default() },
        ..Default::default()
    });
    s.sbs.get_mut(mnt).unwrap().names.push((b'a', named));

    let pgd = s.tables.insert(PageTable { level: 4, ..Default::default() });
    let mm = s.mms.insert(MmStruct { mm_users: 1, mm_count: 2, pgd: Some(pgd), ..Default::default() });
    let ctx = s.ctxs.insert(UserfaultfdCtx { state: UffdState::Running, mm: Some(mm), refcount: 1, ..Default::default() });
    let memfd = File { kind: FileKind::Inode(inode), f_count: 4, f_mode_read: true, f_mode_write: true, ..Default::default() };
    let memfd = s.files.insert(memfd);
    let uffd = s.files.insert(File { kind: FileKind::Userfaultfd(ctx), f_count: 1, ..Default::default() });
    let mut process = Process { mm: Some(mm), ..Default::default() };
    process.fds.extend([Some(memfd), Some(uffd)]);
    let group = s.procs.insert(process);
    s.tasks.insert(Task { group, ..Default::default() });

    mmap(&mut s, SHARED, PAGES, VM_SHARED, Some(memfd), None);
    mmap(&mut s, PRIVATE, PAGES, VmFlags::empty(), Some(memfd), None);
    let anon = mmap(&mut s, ANON, 2, VM_ACCOUNT, None, None);
    mmap(&mut s, WATCHED, PAGES + 1, VM_SHARED | VM_UFFD_MISSING | VM_UFFD_MINOR, Some(memfd), Some(ctx));
    mmap(&mut s, WATCHED_ANON, 2, VM_UFFD_MISSING, None, Some(ctx));
    let anon_vma = s.anon_vmas.insert(AnonVma { vmas: [anon].into_iter().collect(), ..Default::default() });
    s.anon_vmas.get_mut(anon_vma).unwrap().root = Some(anon_vma);
    s.vmas.get_mut(anon).unwrap().anon_vma = Some(anon_vma);

    map(&mut s, SHARED, 0, _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED, MmCounter::MM_SHMEMPAGES);
    s.mem_map.push(page(file_flags, PageMapping::Anon(anon_vma), (ANON / PAGE_SIZE) as u32, 0x61));
    s.mem_map[2].refcount = 0;
    map(&mut s, ANON, 2, _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED, MmCounter::MM_ANONPAGES);
    set_pte(&mut s, ANON + PAGE_SIZE, PteVal::Swap { entry: SwpEntry(1), flags: PteFlags::empty() });
    let mm = mm_mut(&mut s);
    mm.rss_stat[MmCounter::MM_SWAPENTS as usize] += 1;
    mm.total_charged = 2;
    s.vm_committed_as = 5;
    Kernel::new(s)
}

/// What is left of it when the process has exited: the file with a name.
fn after_exit() -> Kernel {
    let mut s = State::default();
    s.sbs.insert(SuperBlock::default());
    let mnt = s.sbs.insert(SuperBlock { max_blocks: 8, used_blocks: 1, ..Default::default() });
    let inode = s.inodes.insert(Inode {
        i_nlink: 1,
        i_size: PAGE_SIZE,
        i_blocks: 8,
        i_sb: Some(mnt),
        nrpages: 1,
        info: ShmemInodeInfo { alloced: 1, flags: VM_NORESERVE, ..Default::default() },
        ..Default::default()
    });
    s.mem_map.push(page(PG_uptodate | PG_swapbacked | PG_lru | PG_dirty, PageMapping::Inode(inode), 0, 0x41));
    s.inodes.get_mut(inode).unwrap().i_pages.set(0, Some(SlotVal::Page(id(0))));
    s.vm_committed_as = 1;
    s.swap = vec![SwapSlot::default()];
    Kernel::new(s)
}

type Change = fn(&mut State);

/// The small world with a change that no operation explains.
fn changed(change: Change) -> Vec<Broken> {
    let k = small_world();
    let mut watch = Watch::new(&k);
    change(&mut k.sm());
    watch.settled(&k)
}

/// As [`changed`], but the change came first: what the memory holds is then as it should be.
fn was_changed(change: Change) -> Vec<Broken> {
    let k = small_world();
    change(&mut k.sm());
    Watch::new(&k).settled(&k)
}

fn exited(change: Change) -> Vec<Broken> {
    let k = after_exit();
    change(&mut k.sm());
    Watch::new(&k).finish(&k)
}

/// One operation in a world prepared by `before`; it does `change` and returns `outcome`.
fn ran(before: Change, op: Op, change: Change, outcome: Outcome) -> Vec<Broken> {
    let k = small_world();
    before(&mut k.sm());
    let task = the_task(&k.s());
    let mut watch = Watch::new(&k);
    watch.begin(&k, task, &op);
    change(&mut k.sm());
    let mut out = watch.end(&k, task, &op, &outcome);
    out.extend(watch.settled(&k));
    out
}

fn nothing(_: &mut State) {}

/// As [`ran`], over a page of the watched mapping that is write-protected.
fn was_protected(op: Op, change: Change) -> Vec<Broken> {
    let protect = |s: &mut State| {
        let watched = vma_at(s, WATCHED);
        s.vmas.get_mut(watched).unwrap().vm_flags |= VM_UFFD_WP;
        map(s, WATCHED, 0, _PAGE_ACCESSED | _PAGE_UFFD_WP, MmCounter::MM_SHMEMPAGES);
    };
    ran(protect, op, change, Outcome::ok(0))
}

fn ok(done: u64) -> Outcome {
    Outcome::ok(0).with(Out::Done(done as i64))
}
fn err(e: Errno) -> Outcome {
    Outcome::err(e).with(Out::Done(-e.num()))
}
fn byte(b: u8) -> Outcome {
    Outcome::ok(0).with(Out::Byte(Some(Cell::new(b))))
}
fn cont(start: u64, pages: u64) -> Op {
    Op::UffdContinue { fd: UFFD, start, len: pages * PAGE_SIZE, mode: 0 }
}
fn copy(dst: u64, b: u8) -> Op {
    Op::UffdCopy { fd: UFFD, dst, src: UserBuf::Fill(b), len: PAGE_SIZE, mode: 0 }
}
fn zeropage(start: u64) -> Op {
    Op::UffdZeropage { fd: UFFD, start, len: PAGE_SIZE, mode: 0 }
}

fn unregister(start: u64) -> Op {
    Op::UffdUnregister { fd: UFFD, start, len: PAGE_SIZE }
}

/// The watched mapping shows other pages of its file than before.
fn shift(s: &mut State) {
    let watched = s.vmas.iter().find(|(_, v)| v.vm_start == WATCHED).map(|(id, _)| id).unwrap();
    s.vmas.get_mut(watched).unwrap().vm_pgoff += 1;
}

/// A new page of the file at the hole (index 3), mapped at `addr`.
fn fill_hole(s: &mut State, addr: u64, b: u8) {
    let inode = the_file(s);
    let pfn = s.mem_map.len() as u16;
    s.mem_map.push(page(PG_uptodate | PG_swapbacked | PG_lru | PG_dirty, PageMapping::Inode(inode), 3, b));
    let file = file_mut(s);
    file.i_pages.set(3, Some(SlotVal::Page(id(pfn))));
    file.nrpages += 1;
    file.info.alloced += 1;
    file.i_blocks += 8;
    s.vm_committed_as += 1;
    map(s, addr, pfn, _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED, MmCounter::MM_SHMEMPAGES);
}

/// A zero pte in registered anonymous memory.
fn zero_pte(s: &mut State) {
    set_pte(s, WATCHED_ANON, PteVal::Present { page: PageId::ZERO, flags: _PAGE_SPECIAL | _PAGE_ACCESSED });
}

/// Mapped by CONTINUE, as it should be.
fn continued(s: &mut State) {
    map(s, WATCHED, 0, _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED, MmCounter::MM_SHMEMPAGES);
}

/// A task that waits for a page of the watched mapping.
fn waiter(s: &mut State) {
    let (ctx, task) = (the_ctx(s), the_task(s));
    let group = s.tasks.get(task).unwrap().group;
    let access = UserAccess { addr: WATCHED, store: None };
    let other = s.tasks.insert(Task { group, state: TaskState::Interruptible, ..Default::default() });
    let msg = Some(UffdMsg::Pagefault { address: WATCHED, flags: UFFD_PAGEFAULT_FLAG_MINOR, ptid: None });
    let uwq = s.uwqs.insert(Uwq { msg, waken: false, task: other, ctx });
    s.tasks.get_mut(other).unwrap().blocked = Some(BlockedFault { uwq, access, flags: FaultFlags::empty() });
    let c = s.ctxs.get_mut(ctx).unwrap();
    c.refcount += 1;
    c.fault_wqh.push(uwq);
}

fn wake(s: &mut State) {
    for (uwq, task) in s.uwqs.iter().map(|(u, w)| (u, w.task)).collect::<Vec<_>>() {
        s.uwqs.get_mut(uwq).unwrap().waken = true;
        s.tasks.get_mut(task).unwrap().state = TaskState::Running;
    }
}

/// The page of the file that nobody maps leaves the page cache with its data.
fn lose_page_1(s: &mut State) {
    let file = file_mut(s);
    file.i_pages.set(1, None);
    file.nrpages -= 1;
    s.mem_map[1] = Page { flags: PageFlags::empty(), refcount: 0, mapping: PageMapping::None, ..s.mem_map[1] };
}

fn data_in_page_1(s: &mut State) {
    s.mem_map[1].cells = cells(0x42);
    s.mem_map[1].flags |= PG_dirty;
}

/// The private copy of page 1, with a byte stored to it.
fn private_copy(s: &mut State, b: u8) {
    let vma = vma_at(s, PRIVATE);
    let anon_vma = s.anon_vmas.insert(AnonVma { vmas: [vma].into_iter().collect(), ..Default::default() });
    s.vmas.get_mut(vma).unwrap().anon_vma = Some(anon_vma);
    let pfn = s.mem_map.len() as u16;
    s.mem_map.push(page(PG_uptodate | PG_swapbacked | PG_lru, PageMapping::Anon(anon_vma), 1, 0));
    s.mem_map[pfn as usize].cells[0] = Cell::new(b);
    s.mem_map[pfn as usize].refcount = 0;
    map(s, PRIVATE + PAGE_SIZE, pfn, _PAGE_RW | _PAGE_DIRTY, MmCounter::MM_ANONPAGES);
}

fn reported(symptom: Symptom) -> Vec<Broken> {
    vec![from_finding(&Finding { symptom, detail: String::new(), task: TaskId::DANGLING, stack: Vec::new() })]
}

struct Case {
    rule: &'static str,
    holds: fn() -> Vec<Broken>,
    breaks: fn() -> Vec<Broken>,
}

macro_rules! cases {
    ($($rule:literal: $holds:expr, $breaks:expr;)*) => {
        &[$(Case { rule: $rule, holds: || $holds, breaks: || $breaks }),*]
    };
}

static CASES: &[Case] = cases! {
    // ---- structure
    "mapcount-matches-ptes": changed(nothing), changed(|s| s.mem_map[0].mapcount = 2);
    "rmap-finds-every-pte": changed(nothing), changed(|s| s.mem_map[2].index += 1);
    "references-accounted": changed(nothing), changed(|s| s.mem_map[1].refcount += 1);
    "rss-matches-ptes": changed(nothing), changed(|s| {
        // Counted before the reverse map made it anonymous.
        let rss = &mut mm_mut(s).rss_stat;
        rss[MmCounter::MM_ANONPAGES as usize] -= 1;
        rss[MmCounter::MM_FILEPAGES as usize] += 1;
    });
    "no-writable-private-pagecache-pte":
        changed(|s| map(s, PRIVATE, 0, _PAGE_ACCESSED, MmCounter::MM_SHMEMPAGES)),
        changed(|s| map(s, PRIVATE, 0, _PAGE_ACCESSED | _PAGE_RW, MmCounter::MM_SHMEMPAGES));
    "no-pte-past-eof": changed(nothing), changed(|s| {
        file_mut(s).i_size = 0;
    });
    "pte-inside-vma": changed(nothing), changed(|s| {
        set_pte(s, 0x70_0000, PteVal::Present { page: PageId::ZERO, flags: _PAGE_SPECIAL });
    });
    "mapped-page-is-cached": changed(nothing), changed(|s| {
        // A failed CONTINUE took the mapped page out of the cache.
        file_mut(s).i_pages.set(0, None);
    });
    "blocks-accounted": changed(nothing), changed(|s| {
        let mnt = s.sbs.iter().last().unwrap().0;
        s.sbs.get_mut(mnt).unwrap().used_blocks += 1;
    });
    "commit-accounted": changed(nothing), changed(|s| s.vm_committed_as += 1);
    "swap-counts-match": changed(nothing), changed(|s| s.swap[1].count = 2);
    "cached-page-knows-its-place": changed(nothing), changed(|s| s.mem_map[1].index = 3);
    "cached-or-swapped": changed(nothing), changed(|s| {
        s.mem_map[1].flags |= PG_swapcache;
        s.mem_map[1].private = Some(SwpEntry(2));
        s.mem_map[1].refcount += 1;
        s.swap[2] = SwapSlot { count: 0, has_cache: true, cache: Some(id(1)), disk: None };
    });
    "page-flags-legal": changed(nothing), changed(|s| s.mem_map[0].flags -= PG_swapbacked);
    "pages-reach-lru": changed(|s| {
        s.mem_map[1].flags -= PG_lru;
        s.mem_map[1].refcount += 1;
        s.lru_pvec.push(id(1));
    }), changed(|s| s.mem_map[1].flags -= PG_lru);
    "written-page-is-dirty": was_changed(data_in_page_1), was_changed(|s| {
        data_in_page_1(s);
        s.mem_map[1].flags -= PG_dirty;
    });
    "locks-released": changed(nothing), changed(|s| {
        let (task, inode) = (the_task(s), the_file(s));
        s.held.push(Held { lock: LockId::Info(inode), task, mode: LockMode::Write });
    });
    "uffd-references-counted": was_changed(waiter), was_changed(|s| {
        let ctx = the_ctx(s);
        s.ctxs.get_mut(ctx).unwrap().refcount += 1;
    });
    // ---- memory as promised
    "no-data-lost":
        ran(nothing, Op::Load { addr: SHARED }, nothing, byte(0x41)),
        ran(data_in_page_1, Op::Reclaim { fd: MEMFD, offset: PAGE_SIZE }, lose_page_1, Outcome::ok(0));
    "no-private-leak":
        ran(nothing, Op::Store { addr: PRIVATE + PAGE_SIZE, value: 7 }, |s| private_copy(s, 7), Outcome::ok(0)),
        ran(nothing, Op::Store { addr: PRIVATE + PAGE_SIZE, value: 7 }, |s| {
            map(s, PRIVATE + PAGE_SIZE, 1, _PAGE_RW | _PAGE_DIRTY, MmCounter::MM_SHMEMPAGES);
            s.mem_map[1].cells[0] = Cell::new(7);
        }, Outcome::ok(0));
    "no-stale-bytes":
        changed(|s| {
            // A fallocated page that nobody has written or mapped.
            s.mem_map[1].flags -= PG_uptodate;
            s.mem_map[1].cells = [Cell::new(0xaa).stale(); CELLS];
        }),
        changed(|s| {
            s.mem_map[1].flags -= PG_uptodate;
            s.mem_map[1].cells = [Cell::new(0xaa).stale(); CELLS];
            map(s, SHARED + PAGE_SIZE, 1, _PAGE_RW, MmCounter::MM_SHMEMPAGES);
        });
    // ---- answers
    "failed-call-changes-nothing":
        ran(continued, cont(WATCHED, 1), nothing, err(EEXIST)),
        ran(continued, cont(WATCHED, 1), |s| { file_mut(s).i_pages.set(0, None); }, err(EEXIST));
    "continue-finds-the-page":
        ran(nothing, cont(WATCHED, 1), continued, ok(PAGE_SIZE)),
        ran(nothing, cont(WATCHED + 2 * PAGE_SIZE, 1), nothing, err(EFAULT));
    "continue-invents-nothing":
        ran(nothing, cont(WATCHED + 3 * PAGE_SIZE, 1), nothing, err(EFAULT)),
        ran(nothing, cont(WATCHED + 3 * PAGE_SIZE, 1), |s| fill_hole(s, WATCHED + 3 * PAGE_SIZE, 0), ok(PAGE_SIZE));
    "efault-exactly-past-eof":
        ran(nothing, cont(WATCHED + 4 * PAGE_SIZE, 1), nothing, err(EINVAL)),
        ran(nothing, zeropage(WATCHED_ANON), nothing, err(EFAULT));
    "eexist-exactly-when-populated":
        ran(nothing, copy(WATCHED + PAGE_SIZE, 9), nothing, err(EEXIST)),
        ran(nothing, copy(WATCHED + 3 * PAGE_SIZE, 9), nothing, err(EEXIST));
    "enomem-only-when-refused":
        ran(|s| s.config.commit_limit = Some(s.vm_committed_as), copy(WATCHED + 3 * PAGE_SIZE, 9), nothing, err(ENOMEM)),
        ran(nothing, copy(WATCHED + 3 * PAGE_SIZE, 9), nothing, err(ENOMEM));
    "errno-as-documented":
        ran(nothing, copy(WATCHED + 3 * PAGE_SIZE, 9), |s| fill_hole(s, WATCHED + 3 * PAGE_SIZE, 9), ok(PAGE_SIZE)),
        ran(nothing, cont(WATCHED + 3 * PAGE_SIZE, 1), nothing, err(ENOSPC));
    "out-field-matches":
        ran(continued, cont(WATCHED, 2), nothing, err(EEXIST)),
        ran(continued, cont(WATCHED, 2), nothing, Outcome::err(EEXIST).with(Out::Done(0)));
    "filled-page-is-writable":
        ran(nothing, copy(WATCHED + 3 * PAGE_SIZE, 9), |s| fill_hole(s, WATCHED + 3 * PAGE_SIZE, 9), ok(PAGE_SIZE)),
        ran(nothing, copy(WATCHED + 3 * PAGE_SIZE, 9), |s| {
            fill_hole(s, WATCHED + 3 * PAGE_SIZE, 9);
            let pfn = s.mem_map.len() as u16 - 1;
            set_pte(s, WATCHED + 3 * PAGE_SIZE, present(pfn, _PAGE_ACCESSED | _PAGE_DIRTY));
        }, ok(PAGE_SIZE));
    "registration-keeps-mappings":
        ran(nothing, unregister(WATCHED), nothing, Outcome::ok(0)),
        ran(nothing, unregister(WATCHED), shift, Outcome::ok(0));
    // ---- faults and progress
    "monitor-sees-every-fault":
        ran(nothing, zeropage(WATCHED_ANON), zero_pte, ok(PAGE_SIZE)),
        ran(nothing, Op::Load { addr: WATCHED }, continued, byte(0x41));
    "every-resolved-waiter-wakes":
        ran(waiter, cont(WATCHED, 1), |s| { continued(s); wake(s) }, ok(PAGE_SIZE)),
        ran(waiter, cont(WATCHED, 1), continued, ok(PAGE_SIZE));
    "write-protection-is-kept":
        was_protected(Op::Poll { fd: UFFD }, nothing),
        was_protected(Op::Poll { fd: UFFD }, |s| set_pte(s, WATCHED, present(0, _PAGE_RW | _PAGE_UFFD_WP)));
    // ---- exit
    "no-page-leaked": exited(nothing), exited(|s| s.mem_map.push(page(PageFlags::empty(), PageMapping::None, 0, 0)));
    "no-object-leaked": exited(nothing), exited(|s| {
        s.inodes.insert(Inode::default());
    });
    "counters-return-to-zero": exited(nothing), exited(|s| s.vm_committed_as += 1);
    // ---- reported
    "no-bug": Vec::new(), reported(Symptom::VmBugOn);
    "no-warning": Vec::new(), reported(Symptom::WarnOn);
    "rss-counters-balance": Vec::new(), reported(Symptom::BadRssCounter);
    "page-tables-balance": Vec::new(), reported(Symptom::NonZeroPgtables);
    "no-bad-page-state": Vec::new(), reported(Symptom::BadPageState);
    "no-bad-page-map": Vec::new(), reported(Symptom::BadPageMap);
    "no-bad-page-cache": Vec::new(), reported(Symptom::BadPageCache);
    "no-use-after-free": Vec::new(), reported(Symptom::UseAfterFree);
    "no-sleep-in-atomic": Vec::new(), reported(Symptom::SleepInAtomic);
    "lock-order": Vec::new(), reported(Symptom::LockOrder);
    "guarded-by-lock": Vec::new(), reported(Symptom::Unlocked);
    "no-dead-wait": Vec::new(), reported(Symptom::DeadWait);
    "no-endless-loop": Vec::new(), reported(Symptom::EndlessLoop);
    "evicted-inode-is-empty": Vec::new(), reported(Symptom::EvictBlocks);
    "swap-counts-valid": Vec::new(), reported(Symptom::BadSwapCount);
};

#[test]
fn every_rule_has_a_case() {
    for rule in all() {
        assert!(CASES.iter().any(|c| c.rule == rule.name), "no case for {}", rule.name);
        assert_eq!(by_name(rule.name).map(|r| r.name), Some(rule.name), "two rules are named {}", rule.name);
    }
    for case in CASES {
        assert!(by_name(case.rule).is_some(), "no rule {}", case.rule);
    }
}

#[test]
fn rules_hold_where_nothing_is_wrong() {
    for case in CASES {
        let broken = (case.holds)();
        assert!(broken.is_empty(), "{} should hold: {broken:?}", case.rule);
    }
}

#[test]
fn rules_break_on_a_broken_kernel() {
    for case in CASES {
        let broken = (case.breaks)();
        assert!(broken.iter().any(|b| b.rule == case.rule), "{} did not fire: {broken:?}", case.rule);
    }
}

#[test]
fn rules_say_what_they_promise() {
    for rule in all() {
        assert!(rule.promise.ends_with('.') && !rule.symptom.is_empty(), "{}", rule.name);
        assert!(rule.finds.iter().all(|f| f.len() == 3 && f.starts_with('F')), "{}", rule.name);
        assert!(rule.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.name);
    }
    assert!(all().iter().any(|r| r.when == When::Answer));
}

mod memory {
    //! The reference memory, operation by operation.
    use super::*;

    /// Operations in order, each with what it does to the kernel and what it returned.
    fn story(steps: &[(Op, Change, Outcome)]) -> Vec<Broken> {
        let k = small_world();
        let task = the_task(&k.s());
        let mut watch = Watch::new(&k);
        let mut out = Vec::new();
        for (op, change, outcome) in steps {
            watch.begin(&k, task, op);
            change(&mut k.sm());
            out.extend(watch.end(&k, task, op, outcome));
            out.extend(watch.settled(&k));
        }
        out
    }

    fn names(broken: &[Broken]) -> Vec<&str> {
        let mut names: Vec<&str> = broken.iter().map(|b| b.rule).collect();
        names.dedup();
        names
    }

    fn store(addr: u64, value: u8) -> Op {
        Op::Store { addr, value }
    }

    #[test]
    fn a_store_through_one_mapping_is_read_through_another() {
        let steps = [
            (store(SHARED + 1024, 5), (|s: &mut State| s.mem_map[0].cells[1] = Cell::new(5)) as Change, Outcome::ok(0)),
            (Op::Load { addr: PRIVATE + 1024 }, nothing, byte(5)),
            (Op::Load { addr: PRIVATE + 1024 }, nothing, byte(0x41)),
        ];
        assert_eq!(names(&story(&steps)), ["no-data-lost"]);
    }

    #[test]
    fn dontneed_ends_a_private_copy() {
        let drop_copy = |s: &mut State| {
            set_pte(s, PRIVATE + PAGE_SIZE, PteVal::None);
            mm_mut(s).rss_stat[MmCounter::MM_ANONPAGES as usize] -= 1;
            let p = s.mem_map.pop().unwrap();
            assert_eq!(p.refcount, 1);
        };
        let dontneed = Op::Madvise { addr: PRIVATE, len: 2 * PAGE_SIZE, advice: Advice::MADV_DONTNEED };
        let load = |b| (Op::Load { addr: PRIVATE + PAGE_SIZE }, nothing as Change, byte(b));
        let stored = (store(PRIVATE + PAGE_SIZE, 7), (|s: &mut State| private_copy(s, 7)) as Change, Outcome::ok(0));
        let steps = [stored.clone(), load(7), (dontneed, drop_copy, Outcome::ok(0)), load(0)];
        assert_eq!(story(&steps), []);
        // Without the call, the copy may not go.
        assert_eq!(names(&story(&[stored, load(7), (Op::Poll { fd: UFFD }, drop_copy, Outcome::ok(0))])), ["no-data-lost"]);
    }

    #[test]
    fn a_private_copy_does_not_follow_the_file() {
        let steps = [
            (store(PRIVATE + PAGE_SIZE, 7), (|s: &mut State| private_copy(s, 7)) as Change, Outcome::ok(0)),
            (
                Op::Pwrite { fd: MEMFD, buf: UserBuf::Fill(9), count: PAGE_SIZE, offset: PAGE_SIZE },
                |s: &mut State| {
                    s.mem_map[1].cells = cells(9);
                    s.mem_map[1].flags |= PG_dirty;
                },
                Outcome::ok(PAGE_SIZE as i64),
            ),
            (Op::Load { addr: PRIVATE + PAGE_SIZE }, nothing, byte(7)),
            (Op::Load { addr: SHARED + PAGE_SIZE }, nothing, byte(9)),
        ];
        assert_eq!(story(&steps), []);
    }

    #[test]
    fn truncation_zeroes_the_rest_of_the_last_page() {
        let truncate = |s: &mut State| {
            for cell in &mut s.mem_map[0].cells[2..] {
                *cell = Cell::new(0);
            }
            let file = file_mut(s);
            file.i_size = 2000;
            file.i_pages.set(1, None);
            file.i_pages.set(2, None);
            file.nrpages = 1;
            file.info.alloced = 1;
            file.info.swapped = 0;
            file.i_blocks = 8;
            s.vm_committed_as -= 2;
            s.swap[0] = SwapSlot::default();
            s.mem_map[1] = Page { flags: PageFlags::empty(), refcount: 0, mapping: PageMapping::None, ..s.mem_map[1] };
        };
        let steps = [(Op::Ftruncate { fd: MEMFD, length: 2000 }, truncate as Change, Outcome::ok(0))];
        assert_eq!(story(&steps), []);
        // The same without the call.
        assert_eq!(names(&story(&[(Op::Poll { fd: UFFD }, truncate, Outcome::ok(0))])), ["no-data-lost"]);
    }

    #[test]
    fn overlapping_stores_leave_either_value_and_no_other() {
        let outcome = |value: u8, seen: u8| {
            let k = small_world();
            let first = the_task(&k.s());
            let group = k.task(first).group;
            let second = k.sm().tasks.insert(Task { group, ..Default::default() });
            let mut watch = Watch::new(&k);
            let ops = [store(SHARED, 5), store(SHARED, 6)];
            watch.begin(&k, first, &ops[0]);
            watch.begin(&k, second, &ops[1]);
            k.sm().mem_map[0].cells[0] = Cell::new(value);
            let mut out = watch.end(&k, first, &ops[0], &Outcome::ok(0));
            out.extend(watch.end(&k, second, &ops[1], &Outcome::ok(0)));
            out.extend(watch.settled(&k));
            let load = Op::Load { addr: SHARED };
            watch.begin(&k, first, &load);
            out.extend(watch.end(&k, first, &load, &byte(seen)));
            names(&out).len()
        };
        assert_eq!(outcome(5, 5), 0);
        assert_eq!(outcome(6, 6), 0);
        assert_eq!(outcome(0x41, 0x41), 1, "one of the stores must have reached memory");
        assert_eq!(outcome(6, 5), 1, "after the kernel has settled, memory stays as it is");
    }

    #[test]
    fn bytes_of_a_page_that_belongs_to_nobody_may_be_right() {
        // COPY into the private mapping, mapped as if it were the file's; a load that waited for it runs before all has settled.
        let stray = |s: &mut State| {
            private_copy(s, 7);
            let page = s.mem_map.last_mut().unwrap();
            page.mapping = PageMapping::None;
            page.cells = cells(7);
        };
        let k = small_world();
        let first = the_task(&k.s());
        let group = k.task(first).group;
        let second = k.sm().tasks.insert(Task { group, ..Default::default() });
        let mut watch = Watch::new(&k);
        let ops = [Op::Load { addr: PRIVATE + PAGE_SIZE }, copy(PRIVATE + PAGE_SIZE, 7)];
        watch.begin(&k, second, &ops[0]);
        watch.begin(&k, first, &ops[1]);
        stray(&mut k.sm());
        let mut out = watch.end(&k, first, &ops[1], &ok(PAGE_SIZE));
        out.extend(watch.end(&k, second, &ops[0], &byte(7)));
        out.extend(watch.settled(&k));
        out.extend(watch.settled(&k));
        assert!(names(&out).contains(&"rmap-finds-every-pte"));
        assert!(!names(&out).contains(&"no-data-lost"), "{out:?}");
        // Its bytes are watched all the same.
        k.sm().mem_map.last_mut().unwrap().cells = cells(8);
        assert!(names(&watch.settled(&k)).contains(&"no-data-lost"));
    }

    /// UFFDIO_ZEROPAGE over the private mapping; then the entry goes and the file is written to.
    fn zero_page_goes(by: Op) -> Vec<Broken> {
        let over_file = |s: &mut State| {
            set_pte(s, PRIVATE + PAGE_SIZE, PteVal::Present { page: PageId::ZERO, flags: _PAGE_SPECIAL | _PAGE_ACCESSED });
        };
        let clear = |s: &mut State| set_pte(s, PRIVATE + PAGE_SIZE, PteVal::None);
        let write = |s: &mut State| {
            s.mem_map[1].cells = cells(9);
            s.mem_map[1].flags |= PG_dirty;
        };
        let pwrite = Op::Pwrite { fd: MEMFD, buf: UserBuf::Fill(9), count: PAGE_SIZE, offset: PAGE_SIZE };
        story(&[
            (zeropage(PRIVATE + PAGE_SIZE), over_file as Change, ok(PAGE_SIZE)),
            (by, clear, Outcome::ok(0)),
            (pwrite, write, Outcome::ok(PAGE_SIZE as i64)),
        ])
    }

    #[test]
    fn a_punched_hole_takes_the_zero_page_over_it_along() {
        let punch = Op::Fallocate { fd: MEMFD, mode: FallocMode::PUNCH_HOLE, offset: PAGE_SIZE, len: PAGE_SIZE };
        assert_eq!(zero_page_goes(punch), []);
        assert_eq!(names(&zero_page_goes(Op::Poll { fd: UFFD })), ["no-data-lost"]);
    }

    #[test]
    fn what_was_filled_through_another_mapping_is_not_missing() {
        let both = |s: &mut State| {
            fill_hole(s, SHARED + 3 * PAGE_SIZE, 0);
            let pfn = (s.mem_map.len() - 1) as u16;
            map(s, WATCHED + 3 * PAGE_SIZE, pfn, _PAGE_RW | _PAGE_ACCESSED, MmCounter::MM_SHMEMPAGES);
        };
        let write = Op::Pwrite { fd: MEMFD, buf: UserBuf::Fill(0), count: PAGE_SIZE, offset: 3 * PAGE_SIZE };
        let done = Outcome::ok(PAGE_SIZE as i64);
        assert_eq!(ran(nothing, write, both, done), []);
        let load = Op::Load { addr: WATCHED + 3 * PAGE_SIZE };
        assert_eq!(names(&ran(nothing, load, both, byte(0))), ["monitor-sees-every-fault"]);
    }

    #[test]
    fn mremap_takes_private_pages_along() {
        let moved = |s: &mut State| {
            let vma = vma_at(s, ANON);
            let v = s.vmas.get_mut(vma).unwrap();
            v.vm_start = 0x60_0000;
            v.vm_end = 0x60_2000;
            let mm = mm_mut(s);
            mm.mmap.retain(|m| *m != vma);
            mm.mmap.push(vma);
            set_pte(s, ANON, PteVal::None);
            set_pte(s, ANON + PAGE_SIZE, PteVal::None);
            set_pte(s, 0x60_0000, present(2, _PAGE_RW | _PAGE_DIRTY));
            set_pte(s, 0x60_1000, PteVal::Swap { entry: SwpEntry(1), flags: PteFlags::empty() });
        };
        let len = 2 * PAGE_SIZE;
        let mremap = Op::Mremap { old: ANON, old_len: len, new_len: len, new: Some(0x60_0000), dontunmap: false };
        let steps = [
            (mremap, moved as Change, Outcome::ok(0x60_0000)),
            (Op::Load { addr: 0x60_0000 }, nothing, byte(0x61)),
            (Op::Load { addr: 0x60_1000 }, nothing, byte(0x62)),
        ];
        assert_eq!(story(&steps), []);
    }
}

#[test]
#[ignore = "prints a time"]
fn how_long_settled_takes() {
    let k = small_world();
    let mut watch = Watch::new(&k);
    let n = 100_000;
    let start = std::time::Instant::now();
    for _ in 0..n {
        assert!(watch.settled(&k).is_empty());
    }
    println!("settled: {:?}", start.elapsed() / n);
    let (task, op) = (the_task(&k.s()), cont(WATCHED + 3 * PAGE_SIZE, 1));
    let start = std::time::Instant::now();
    for _ in 0..n {
        watch.begin(&k, task, &op);
        assert!(watch.end(&k, task, &op, &err(EFAULT)).is_empty());
        watch.settled(&k);
    }
    println!("begin, end, settled: {:?}", start.elapsed() / n);
    let start = std::time::Instant::now();
    for _ in 0..n {
        std::hint::black_box(watch.clone());
    }
    println!("clone: {:?}", start.elapsed() / n);
}
