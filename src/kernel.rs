// SPDX-License-Identifier: GPL-2.0-only
//! All state that a kernel would hold, as plain data.
//!
//! [`State`] is the kernel: it can be cloned, compared, hashed and written out. [`Kernel`] is a state with what is needed to
//! run it (who is `current`, what is recorded, which allocations shall fail); that part is not state and starts afresh in a clone.
//! Mirrored functions get `k: &Kernel`, read with copies (`k.page(p).index`) and write with short-lived guards
//! (`k.page_mut(p).index = 3`). No guard may live across an `.await`.

use crate::arena::{Arena, ArenaId, Sparse};
use crate::define_id;
use crate::event::{Event, Finding, Record, Symptom};
use crate::flags::*;
use crate::mm::locking::{Held, Waiting};
use crate::patch::Revision;
use crate::point::Pause;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::cell::{Cell as StdCell, Ref, RefCell, RefMut};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// First address past user space.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
/// Lowest address that user space may map.
pub const MMAP_MIN_ADDR: u64 = 65536;

/// Round an address or length down to a page boundary.
pub const fn page_align_down(x: u64) -> u64 {
    x & !(PAGE_SIZE - 1)
}
/// `PAGE_ALIGN`: round up (wraps as in C).
pub const fn page_align(x: u64) -> u64 {
    x.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}
/// Largest file, in bytes.
pub const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;
/// The largest position in a file of a filesystem that says nothing of it, such as /proc.
pub const MAX_NON_LFS: u64 = i32::MAX as u64;

/// `DIV_ROUND_UP(bytes, PAGE_SIZE)`: the number of pages that hold `bytes`.
pub const fn max_off(i_size: u64) -> u64 {
    i_size.div_ceil(PAGE_SIZE)
}

define_id!(/// A VMA. 
    VmaId "vma");
define_id!(/// An address space (`mm_struct`). 
    MmId "mm");
define_id!(/// An inode. 
    InodeId "inode");
define_id!(/// An open file description (`struct file`). 
    FileId "file");
define_id!(/// A mounted tmpfs (`super_block`). 
    SbId "sb");
define_id!(/// An `anon_vma`. 
    AnonVmaId "anon_vma");
define_id!(/// A page-table page of any level. 
    TableId "table");
define_id!(/// A `userfaultfd_ctx`. 
    CtxId "uffd");
define_id!(/// A waiter on a userfaultfd (`userfaultfd_wait_queue`). 
    UwqId "uwq");
define_id!(/// A task (thread). 
    TaskId "task");
define_id!(/// A process (thread group): open files, mm, credentials. 
    ProcId "proc");

/// A page frame in a given life of it: freeing the frame raises the generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageId {
    /// The frame number.
    pub pfn: u16,
    /// Which life of the frame.
    pub generation: u16,
}

impl PageId {
    /// The shared zero page. It has no `struct page` in the model: PTEs that map it are special.
    pub const ZERO: PageId = PageId { pfn: u16::MAX, generation: 0 };

    /// Frame and generation in one word.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        (self.generation as u32) << 16 | self.pfn as u32
    }

    /// The page with these [`bits`](PageId::bits).
    #[inline]
    pub(crate) fn from_bits(bits: u32) -> PageId {
        PageId { pfn: bits as u16, generation: (bits >> 16) as u16 }
    }
}
impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == PageId::ZERO { f.write_str("zero_page") } else { write!(f, "page{}", self.pfn) }
    }
}
impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How many bytes of a page the model watches.
pub const CELLS: usize = 4;
/// Which bytes of a page are watched. Byte 0 and byte 4095 see every partial zeroing, whichever end it starts from.
pub const CELL_AT: [u64; CELLS] = [0, 1024, 2048, 4095];

/// A watched byte: its value, and whether it is left over from the frame's previous owner (the frame was never cleared or
/// written since it was allocated).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell(u16);

impl Cell {
    /// A byte that somebody wrote.
    pub const fn new(byte: u8) -> Cell {
        Cell(byte as u16)
    }
    /// The value.
    pub const fn byte(self) -> u8 {
        self.0 as u8
    }
    /// Left over from a previous owner.
    pub const fn is_stale(self) -> bool {
        self.0 & 0x100 != 0
    }
    /// The same byte, as the next owner of an uncleared frame finds it.
    pub const fn stale(self) -> Cell {
        Cell(self.0 | 0x100)
    }
}
impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stale() { write!(f, "stale:{:02x}", self.byte()) } else { write!(f, "{:02x}", self.byte()) }
    }
}

/// The watched bytes of a page.
pub type Cells = [Cell; CELLS];
/// A page of zeroes.
pub const ZERO_CELLS: Cells = [Cell::new(0); CELLS];

/// Set the watched bytes in `[from, to)` of a page.
pub fn fill_cells(cells: &mut Cells, from: u64, to: u64, value: Cell) {
    for (cell, at) in cells.iter_mut().zip(CELL_AT) {
        if (from..to).contains(&at) {
            *cell = value;
        }
    }
}

/// Which watched byte stands at this offset of a page, if any.
pub fn cell_at(offset_in_page: u64) -> Option<usize> {
    CELL_AT.iter().position(|&at| at == offset_in_page)
}

/// `page->mapping`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum PageMapping {
    /// NULL.
    #[default]
    None,
    /// The page cache of an inode.
    Inode(InodeId),
    /// An anon_vma, with the ANON bit.
    Anon(AnonVmaId),
}

/// A slot of a swap device. There is one device, so the type field of `swp_entry_t` is left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SwpEntry(pub u16);

/// `struct page` and what the frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Flags.
    pub flags: PageFlags,
    /// References; 0 is free.
    pub refcount: i16,
    /// PTEs that map it (the kernel stores this minus one).
    pub mapcount: i16,
    /// Owner.
    pub mapping: PageMapping,
    /// Offset in the owner, in pages.
    pub index: u64,
    /// The swap slot while in the swap cache.
    pub private: Option<SwpEntry>,
    /// Contents.
    pub cells: Cells,
    /// Life of the frame.
    pub generation: u16,
}

impl Default for Page {
    fn default() -> Self {
        Page {
            flags: PageFlags::empty(),
            refcount: 0,
            mapcount: 0,
            mapping: PageMapping::None,
            index: 0,
            private: None,
            cells: ZERO_CELLS,
            generation: 0,
        }
    }
}

impl Hash for Page {
    fn hash<H: Hasher>(&self, h: &mut H) {
        let (kind, id) = match self.mapping {
            PageMapping::None => (0u64, 0u64),
            PageMapping::Inode(i) => (1, i.bits() as u64),
            PageMapping::Anon(a) => (2, a.bits() as u64),
        };
        h.write_u64(self.flags.bits() as u64 | (self.refcount as u16 as u64) << 32 | (self.mapcount as u16 as u64) << 48);
        h.write_u64(kind | id << 2);
        h.write_u64(self.index);
        h.write_u64(self.cells.iter().fold(0u64, |a, c| a << 16 | c.0 as u64));
        h.write_u64(self.generation as u64 | self.private.map_or(0, |e| 1 << 32 | (e.0 as u64) << 16));
    }
}

/// A page-cache slot that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SlotVal {
    /// A page.
    Page(PageId),
    /// A swap value (`xa_is_value`): the page was written to swap.
    Swap(SwpEntry),
}

/// A page-table entry of the lowest level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum PteVal {
    /// Empty.
    #[default]
    None,
    /// Maps a frame.
    Present {
        /// The frame.
        page: PageId,
        /// Its bits.
        flags: PteFlags,
    },
    /// The page is in a swap slot. Flags: _PAGE_SOFT_DIRTY, _PAGE_UFFD_WP and _PAGE_SWP_EXCLUSIVE only.
    Swap {
        /// The slot.
        entry: SwpEntry,
        /// Its bits.
        flags: PteFlags,
    },
    /// A PTE marker (v5.19): says something about the address, not about a page. Never empty.
    Marker(PteMarker),
}

impl Hash for PteVal {
    fn hash<H: Hasher>(&self, h: &mut H) {
        h.write_u64(match *self {
            PteVal::None => 0,
            PteVal::Present { page, flags } => {
                1 | (flags.bits() as u64) << 8 | (page.pfn as u64) << 16 | (page.generation as u64) << 32
            }
            PteVal::Swap { entry, flags } => 2 | (flags.bits() as u64) << 8 | (entry.0 as u64) << 16,
            PteVal::Marker(marker) => 3 | (marker.bits() as u64) << 8,
        });
    }
}

/// An entry of a page table of any level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PtEntry {
    /// The next lower table.
    Table(TableId),
    /// A PTE (level 1 only; never `PteVal::None`).
    Pte(PteVal),
}

/// A page-table page. Level 4 is the pgd, 1 holds PTEs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PageTable {
    /// 4, 3, 2 or 1.
    pub level: u8,
    /// The entries that are not none.
    pub entries: Sparse<PtEntry>,
}

/// What kind of memory a VMA maps (`vm_ops`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum VmOps {
    /// NULL: anonymous.
    #[default]
    None,
    /// `shmem_vm_ops`.
    Shmem,
}

/// `vma->vm_page_prot`, as far as it decides what a PTE made from it may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PageProt {
    /// Bits that `mk_pte` puts into an entry: _PAGE_RW, _PAGE_ACCESSED, _PAGE_PROTNONE.
    pub flags: PteFlags,
}

/// `struct vm_area_struct`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Vma {
    /// First byte.
    pub vm_start: u64,
    /// First byte past it.
    pub vm_end: u64,
    /// Whose it is.
    pub vm_mm: MmId,
    /// Flags.
    pub vm_flags: VmFlags,
    /// What PTEs made here may do.
    pub vm_page_prot: PageProt,
    /// Offset of vm_start in the file, in pages.
    pub vm_pgoff: u64,
    /// The file, if any (also for a private mapping of /dev/zero).
    pub vm_file: Option<FileId>,
    /// None for anonymous memory.
    pub vm_ops: VmOps,
    /// Set once private pages may exist here.
    pub anon_vma: Option<AnonVmaId>,
    /// `vm_userfaultfd_ctx`.
    pub ctx: Option<CtxId>,
}

impl Default for Vma {
    fn default() -> Self {
        Vma {
            vm_start: 0,
            vm_end: 0,
            vm_mm: MmId::DANGLING,
            vm_flags: VmFlags::empty(),
            vm_page_prot: PageProt::default(),
            vm_pgoff: 0,
            vm_file: None,
            vm_ops: VmOps::None,
            anon_vma: None,
            ctx: None,
        }
    }
}

/// The resident counters of an mm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(non_camel_case_types)]
pub enum MmCounter {
    /// Resident file pages.
    MM_FILEPAGES,
    /// Resident anonymous pages.
    MM_ANONPAGES,
    /// Anonymous pages in swap.
    MM_SWAPENTS,
    /// Resident shmem pages.
    MM_SHMEMPAGES,
}

/// `struct mm_struct`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct MmStruct {
    /// Users of the address space (tasks, mmget).
    pub mm_users: i32,
    /// References to the struct (1 for all users together, 1 for each userfaultfd context).
    pub mm_count: i32,
    /// Top page table; None before the first mapping and after exit.
    pub pgd: Option<TableId>,
    /// VMAs in address order.
    pub mmap: SmallVec<[VmaId; 8]>,
    /// Indexed by [`MmCounter`].
    pub rss_stat: [i32; 4],
    /// Page-table pages below the pgd.
    pub pgtables: i32,
    /// Pages charged to the commit limit by VM_ACCOUNT mappings.
    pub total_charged: i64,
}

/// The fallocate or punch that is going on in an inode (`struct shmem_falloc`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ShmemFalloc {
    /// A hole punch (faults wait for it); else an allocation.
    pub waitq: bool,
    /// Tasks asleep on that queue.
    pub waiters: SmallVec<[TaskId; 2]>,
    /// First index.
    pub start: u64,
    /// Next index to be done.
    pub next: u64,
    /// Pages newly allocated.
    pub nr_falloced: u64,
    /// Pages that reclaim wrote out meanwhile.
    pub nr_unswapped: u64,
}

/// `struct shmem_inode_info`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ShmemInodeInfo {
    /// Blocks charged to the inode, in pages.
    pub alloced: i64,
    /// Of these, in swap.
    pub swapped: i64,
    /// VM_NORESERVE, VM_LOCKED (SHM_LOCK).
    pub flags: VmFlags,
    /// Seals.
    pub seals: Seals,
    /// On shmem_swaplist.
    pub swaplist: bool,
    /// swapoff scanners at work.
    pub stop_eviction: u32,
    /// The task that waits for them to finish before it goes on evicting the inode.
    pub evict_waiter: Option<TaskId>,
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum InodeKind {
    /// A tmpfs or memfd file.
    #[default]
    Shmem,
    /// The character device /dev/zero: i_size 0, no page cache.
    DevZero,
}

/// `struct inode` with its address_space and shmem part.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Inode {
    /// What it is.
    pub kind: InodeKind,
    /// References (open files, lookups).
    pub i_count: i32,
    /// Links; 0 means it is evicted with the last reference.
    pub i_nlink: u32,
    /// Size in bytes.
    pub i_size: u64,
    /// In units of 512 bytes.
    pub i_blocks: i64,
    /// The mount.
    pub i_sb: Option<SbId>,
    /// Page cache: page or swap value per index.
    pub i_pages: Sparse<SlotVal>,
    /// Pages in it (not swap values).
    pub nrpages: i64,
    /// A fallocate or punch that is going on.
    pub i_private: Option<ShmemFalloc>,
    /// VMAs that map it.
    pub i_mmap: SmallVec<[VmaId; 4]>,
    /// VM_SHARED mappings that could be written (negative: denied by F_SEAL_WRITE).
    pub i_mmap_writable: i32,
    /// `mapping_unevictable` (SHM_LOCK).
    pub unevictable: bool,
    /// The shmem part.
    pub info: ShmemInodeInfo,
}

/// A tmpfs mount.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SuperBlock {
    /// `size=` in pages; 0 is unlimited.
    pub max_blocks: i64,
    /// Used, in pages (a percpu_counter in the kernel).
    pub used_blocks: i64,
    /// Directory entries: one lowercase letter each.
    pub names: SmallVec<[(u8, InodeId); 2]>,
}

/// What a file descriptor refers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum FileKind {
    /// A file on tmpfs, a memfd, or /dev/zero.
    Inode(InodeId),
    /// A userfaultfd.
    Userfaultfd(CtxId),
    /// /proc/PID/mem.
    ProcMem(MmId),
}

/// `struct file`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct File {
    /// What it refers to.
    pub kind: FileKind,
    /// References: descriptors and VMAs.
    pub f_count: i32,
    /// FMODE_READ.
    pub f_mode_read: bool,
    /// FMODE_WRITE.
    pub f_mode_write: bool,
    /// O_NONBLOCK.
    pub nonblock: bool,
    /// Position of read(2) and write(2).
    pub f_pos: u64,
    /// Made by memfd_create(MFD_ALLOW_SEALING).
    pub sealable: bool,
}

impl Default for File {
    fn default() -> Self {
        File {
            kind: FileKind::ProcMem(MmId::DANGLING),
            f_count: 0,
            f_mode_read: false,
            f_mode_write: false,
            nonblock: false,
            f_pos: 0,
            sealable: false,
        }
    }
}

/// `struct anon_vma`: the VMAs in which its pages may be mapped. `anon_vma_chain` is the same relation read the other way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct AnonVma {
    /// The anon_vma of the process that all forked from; itself for the first.
    pub root: Option<AnonVmaId>,
    /// VMAs linked to it.
    pub vmas: SmallVec<[VmaId; 4]>,
}

/// `enum userfaultfd_state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum UffdState {
    /// UFFDIO_API has not been called.
    #[default]
    WaitApi,
    /// In service.
    Running,
}

/// `struct userfaultfd_ctx`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct UserfaultfdCtx {
    /// API handshake done?
    pub state: UffdState,
    /// Requested features.
    pub features: UffdFeatures,
    /// UFFD_USER_MODE_ONLY.
    pub user_mode_only: bool,
    /// O_NONBLOCK was given to userfaultfd(2).
    pub nonblock: bool,
    /// The file is closed.
    pub released: bool,
    /// Non-zero: a non-cooperative event waits to be read. A bool up to v5.14, from then on (MMAP_CHANGING_ATOMIC) how many.
    pub mmap_changing: i16,
    /// Holds one mm_count of it.
    pub mm: Option<MmId>,
    /// References: the file, each registered VMA's chain is *not* counted, each waiter and event is.
    pub refcount: i32,
    /// Faults not read yet; new ones go to the front, readers take the back.
    pub fault_pending_wqh: SmallVec<[UwqId; 4]>,
    /// Faults read and not yet woken; newest in front.
    pub fault_wqh: SmallVec<[UwqId; 4]>,
    /// Events not read yet; newest in front.
    pub event_wqh: SmallVec<[UwqId; 2]>,
    /// Tasks asleep in read(2).
    pub fd_wqh: SmallVec<[TaskId; 2]>,
}

/// `struct uffd_msg`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum UffdMsg {
    /// UFFD_EVENT_PAGEFAULT.
    Pagefault {
        /// Page-aligned address.
        address: u64,
        /// How and why.
        flags: UffdPagefaultFlags,
        /// The faulting task, with UFFD_FEATURE_THREAD_ID.
        ptid: Option<TaskId>,
    },
    /// UFFD_EVENT_FORK: the new descriptor's context.
    Fork {
        /// The child's context.
        ctx: CtxId,
    },
    /// UFFD_EVENT_REMAP.
    Remap {
        /// Old address.
        from: u64,
        /// New address.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// UFFD_EVENT_REMOVE.
    Remove {
        /// First byte.
        start: u64,
        /// First byte past it.
        end: u64,
    },
    /// UFFD_EVENT_UNMAP.
    Unmap {
        /// First byte.
        start: u64,
        /// First byte past it.
        end: u64,
    },
}

/// `struct userfaultfd_wait_queue`: a fault or an event that waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Uwq {
    /// What the monitor will read; None once an event has been completed (`msg.event = 0`).
    pub msg: Option<UffdMsg>,
    /// A waker found it.
    pub waken: bool,
    /// Who waits.
    pub task: TaskId,
    /// On which context.
    pub ctx: CtxId,
}

impl Default for Uwq {
    fn default() -> Self {
        Uwq { msg: None, waken: false, task: TaskId::DANGLING, ctx: CtxId::DANGLING }
    }
}

/// `task->state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum TaskState {
    /// Running or ready to.
    #[default]
    Running,
    /// Asleep; any signal wakes it.
    Interruptible,
    /// Asleep; a fatal signal wakes it.
    Killable,
    /// Asleep until woken.
    Uninterruptible,
    /// Exited.
    Dead,
}

/// What a user-mode instruction does to memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct UserAccess {
    /// Byte address.
    pub addr: u64,
    /// None loads a byte, Some stores it.
    pub store: Option<u8>,
}

/// A user-mode fault that sleeps in `handle_userfault`: data, not a stack. When woken it starts over from the top.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BlockedFault {
    /// Where it waits.
    pub uwq: UwqId,
    /// The instruction that will be executed again.
    pub access: UserAccess,
    /// The flags it will be retried with.
    pub flags: FaultFlags,
}

/// `struct task_struct`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Thread group.
    pub group: ProcId,
    /// Asleep or not.
    pub state: TaskState,
    /// A signal is pending.
    pub signal_pending: bool,
    /// A fatal one.
    pub fatal_signal_pending: bool,
    /// PF_EXITING.
    pub exiting: bool,
    /// The userfault it sleeps in.
    pub blocked: Option<BlockedFault>,
    /// How deep `pagefault_disable` is nested.
    pub pagefault_disabled: u8,
    /// Inside the kernel: its continuation is held by the machine, so the state is not quiescent. A fault that sleeps as data
    /// (`blocked`) is not.
    pub in_syscall: bool,
}

impl Default for Task {
    fn default() -> Self {
        Task {
            group: ProcId::DANGLING,
            state: TaskState::Running,
            signal_pending: false,
            fatal_signal_pending: false,
            exiting: false,
            blocked: None,
            pagefault_disabled: 0,
            in_syscall: false,
        }
    }
}

/// A process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its address space; None after exit.
    pub mm: Option<MmId>,
    /// Descriptors from [`FIRST_FD`] on.
    pub fds: SmallVec<[Option<FileId>; 8]>,
    /// May do what root may.
    pub privileged: bool,
}

/// The first descriptor that a process gets: 0 to 2 are taken.
pub const FIRST_FD: u8 = 3;

impl Process {
    /// The open file behind a descriptor.
    pub fn file(&self, fd: u8) -> Option<FileId> {
        self.fds.get(fd.checked_sub(FIRST_FD)? as usize).copied().flatten()
    }
}

/// A slot of the swap device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SwapSlot {
    /// swap_map count: PTEs that name the slot; [`SWAP_MAP_SHMEM`] for a page-cache slot.
    pub count: u16,
    /// SWAP_HAS_CACHE.
    pub has_cache: bool,
    /// The page in the swap cache.
    pub cache: Option<PageId>,
    /// What is on the device; None before the first write.
    pub disk: Option<Cells>,
}

/// `SWAP_MAP_SHMEM`: the slot belongs to a page-cache slot. (0xbf in the kernel, whose counts go on in continuation pages.)
pub const SWAP_MAP_SHMEM: u16 = u16::MAX;

/// What stays the same while a kernel runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Page frames; an allocation beyond them fails.
    pub nr_frames: u16,
    /// vm_committed_as may not exceed this many pages, if set.
    pub commit_limit: Option<i64>,
    /// `fault_around_bytes / PAGE_SIZE`.
    pub fault_around_pages: u64,
    /// Soft-dirty tracking is compiled in (x86 with CONFIG_MEM_SOFT_DIRTY).
    pub soft_dirty: bool,
    /// A poisoned page is told from other reasons for SIGBUS (CONFIG_MEMORY_FAILURE).
    pub memory_failure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { nr_frames: 256, commit_limit: None, fault_around_pages: 16, soft_dirty: false, memory_failure: true }
    }
}

/// Everything a kernel holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Page frames by number.
    pub mem_map: Vec<Page>,
    /// Address spaces.
    pub mms: Arena<MmId, MmStruct>,
    /// VMAs.
    pub vmas: Arena<VmaId, Vma>,
    /// Page tables.
    pub tables: Arena<TableId, PageTable>,
    /// Inodes.
    pub inodes: Arena<InodeId, Inode>,
    /// Mounts; the first is the kernel-internal one behind memfd and shared anonymous memory.
    pub sbs: Arena<SbId, SuperBlock>,
    /// What is mounted on /mnt.
    pub mnt: Option<SbId>,
    /// Open files.
    pub files: Arena<FileId, File>,
    /// anon_vmas.
    pub anon_vmas: Arena<AnonVmaId, AnonVma>,
    /// userfaultfd contexts.
    pub ctxs: Arena<CtxId, UserfaultfdCtx>,
    /// Waiters of them.
    pub uwqs: Arena<UwqId, Uwq>,
    /// Tasks.
    pub tasks: Arena<TaskId, Task>,
    /// Processes.
    pub procs: Arena<ProcId, Process>,
    /// The swap device's slots; empty without swap.
    pub swap: Vec<SwapSlot>,
    /// swapon done and swapoff not begun.
    pub swap_on: bool,
    /// The lru_cache_add pagevec of the one CPU that the model's tasks are pinned to.
    pub lru_pvec: SmallVec<[PageId; 15]>,
    /// `vm_committed_as`, in pages.
    pub vm_committed_as: i64,
    /// Locks held.
    pub held: Vec<Held>,
    /// Tasks that wait for a lock.
    pub waiting: SmallVec<[Waiting; 2]>,
    /// Fixed settings.
    pub config: Config,
    /// The patch revision that runs.
    pub revision: Revision,
}

/// A call that shall fail: the one after `skip` others of this task at this site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Injection {
    /// Whose calls count.
    pub task: TaskId,
    /// As the site is called in [`SITES`].
    pub site: String,
    /// So many calls succeed first.
    pub skip: u16,
}

/// The calls that may fail: allocations, charges, user copies and I/O.
pub const SITES: &[&str] = &[
    "add_swap_count_continuation",
    "add_to_swap_cache",
    "allocate_mm",
    "anon_vma_alloc",
    "anon_vma_chain_alloc",
    "copy_from_user",
    "copy_to_user",
    "do_anonymous_page: alloc",
    "do_anonymous_page: mem_cgroup_charge",
    "do_cow_fault: alloc",
    "do_cow_fault: mem_cgroup_charge",
    "dup_task_struct",
    "mcopy_atomic_pte",
    "mem_cgroup_charge",
    "mem_cgroup_swapin_charge_page",
    "mem_rw",
    "mincore buffer",
    "pmd_alloc",
    "pte_alloc",
    "pud_alloc",
    "shmem_add_to_page_cache",
    "shmem_alloc_page",
    "shmem_inode_acct_block",
    "swap cache page",
    "swap read",
    "swap write",
    "userfaultfd_ctx",
    "userfaultfd_fork_ctx",
    "userfaultfd_unmap_ctx",
    "vm_area_dup",
    "vm_enough_memory",
    "vma alloc",
    "wp_page_copy: alloc",
    "wp_page_copy: alloc zeroed",
    "wp_page_copy: mem_cgroup_charge",
];

/// What is needed to run a state and is not part of it.
#[derive(Default)]
pub struct Run {
    /// Who runs.
    pub current: StdCell<Option<TaskId>>,
    /// Stop at every preemption point.
    pub preempt: StdCell<bool>,
    /// Why the running future returned Pending.
    pub pause: StdCell<Option<Pause>>,
    /// Record events.
    pub tracing: StdCell<bool>,
    /// The record.
    pub trace: RefCell<Vec<Record>>,
    /// Symptoms reported so far.
    pub findings: RefCell<Vec<Finding>>,
    /// Decisions for [`Kernel::choose`], in order; 0 when they run out.
    pub choices: RefCell<Vec<u8>>,
    /// Decisions taken so far, with the number of alternatives each had.
    pub chosen: RefCell<Vec<(u8, u8)>>,
    /// How many calls that may fail have been made.
    pub fallible: StdCell<u32>,
    /// Which of them shall fail (counted from 0), and which did because of `inject`.
    pub fail_at: RefCell<Vec<u32>>,
    /// Which others shall fail, by site; each goes when it has happened.
    pub inject: RefCell<Vec<Injection>>,
    /// What the allocation, user copy and I/O sites were called, in order (kept only while tracing).
    pub fail_sites: RefCell<Vec<&'static str>>,
    /// The function nesting of each task, by task slot (kept only while tracing).
    pub stacks: RefCell<Vec<Vec<&'static str>>>,
    /// Where a write to a page that does not exist goes.
    pub nowhere: RefCell<Page>,
    /// Loop guard: rounds of the current system call.
    pub rounds: StdCell<u32>,
}

/// A kernel: a state, and what is needed to run it.
#[derive(Default)]
pub struct Kernel {
    s: RefCell<State>,
    /// A copy of the VMA that was read last, for most calls look at one VMA many times. Gone with every way of writing to a VMA.
    last_vma: StdCell<Option<(VmaId, Vma)>>,
    /// A copy of [`State::revision`], which does not change.
    revision: Revision,
    /// Not state.
    pub run: Run,
}

impl Clone for Kernel {
    fn clone(&self) -> Self {
        Kernel::new(self.s.borrow().clone())
    }
}
impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        *self.s.borrow() == *other.s.borrow()
    }
}
impl Eq for Kernel {}
impl Hash for Kernel {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.s.borrow().hash(h);
    }
}
impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.s.borrow().fmt(f)
    }
}
impl Serialize for Kernel {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.s.borrow().serialize(s)
    }
}
impl<'de> Deserialize<'de> for Kernel {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Kernel::new(State::deserialize(d)?))
    }
}

/// So many rounds of a loop are never too many. See [`Kernel::endless`].
const FEW_ROUNDS: u32 = 1000;

macro_rules! accessors {
    ($($arena:ident: $id:ident => $T:ident, $get:ident, $get_mut:ident, $what:literal;)*) => { $(
        #[doc = concat!("The ", $what, "; a stale id is reported as a use after free and reads as an empty one.")]
        #[inline]
        pub fn $get(&self, id: $id) -> Ref<'_, $T> {
            match Ref::filter_map(self.s.borrow(), |s| s.$arena.get(id)) {
                Ok(live) => return live,
                Err(borrow) => drop(borrow),
            }
            self.stale($what, id.number(), |s| s.$arena.tomb())
        }
        #[doc = concat!("The ", $what, " for writing; a stale id is reported as a use after free, and the write is lost.")]
        #[inline]
        pub fn $get_mut(&self, id: $id) -> RefMut<'_, $T> {
            match RefMut::filter_map(self.s.borrow_mut(), |s| s.$arena.get_mut(id)) {
                Ok(live) => return live,
                Err(borrow) => drop(borrow),
            }
            self.stale_mut($what, id.number(), |s| s.$arena.tomb_mut())
        }
    )* };
}

impl Kernel {
    /// A kernel that is about to run `state`.
    pub fn new(state: State) -> Kernel {
        Kernel { revision: state.revision, s: RefCell::new(state), last_vma: StdCell::new(None), run: Run::default() }
    }

    /// The whole state.
    #[inline]
    pub fn s(&self) -> Ref<'_, State> {
        self.s.borrow()
    }

    /// The revision that runs.
    #[inline]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The whole state, for writing.
    #[inline]
    pub fn sm(&self) -> RefMut<'_, State> {
        self.last_vma.set(None);
        self.s.borrow_mut()
    }

    /// The whole state, for writing to anything but VMAs.
    #[inline]
    pub(crate) fn sm_without_vmas(&self) -> RefMut<'_, State> {
        self.s.borrow_mut()
    }

    accessors! {
        mms: MmId => MmStruct, mm, mm_mut, "mm_struct";
        tables: TableId => PageTable, table, table_mut, "page table";
        inodes: InodeId => Inode, inode, inode_mut, "inode";
        sbs: SbId => SuperBlock, sb, sb_mut, "super_block";
        files: FileId => File, file_ref, file_mut, "file";
        anon_vmas: AnonVmaId => AnonVma, anon_vma, anon_vma_mut, "anon_vma";
        ctxs: CtxId => UserfaultfdCtx, ctx, ctx_mut, "userfaultfd_ctx";
        uwqs: UwqId => Uwq, uwq, uwq_mut, "userfaultfd_wait_queue";
        tasks: TaskId => Task, task, task_mut, "task_struct";
        procs: ProcId => Process, process, process_mut, "process";
    }

    /// The VMA; a stale id is reported as a use after free and reads as an empty one.
    #[inline]
    pub fn vma_ref(&self, id: VmaId) -> Ref<'_, Vma> {
        match Ref::filter_map(self.s.borrow(), |s| s.vmas.get(id)) {
            Ok(live) => return live,
            Err(borrow) => drop(borrow),
        }
        self.stale("vm_area_struct", id.number(), |s| s.vmas.tomb())
    }

    /// The VMA for writing; a stale id is reported as a use after free, and the write is lost.
    #[inline]
    pub fn vma_mut(&self, id: VmaId) -> RefMut<'_, Vma> {
        match RefMut::filter_map(self.sm(), |s| s.vmas.get_mut(id)) {
            Ok(live) => return live,
            Err(borrow) => drop(borrow),
        }
        self.stale_mut("vm_area_struct", id.number(), |s| s.vmas.tomb_mut())
    }

    /// A copy of the VMA.
    #[inline]
    pub fn vma(&self, id: VmaId) -> Vma {
        match self.last_vma.get() {
            Some((last, vma)) if last == id => vma,
            _ => self.read_vma(id),
        }
    }

    fn read_vma(&self, id: VmaId) -> Vma {
        let live = self.s.borrow().vmas.get(id).copied();
        match live {
            Some(vma) => {
                self.last_vma.set(Some((id, vma)));
                vma
            }
            None => *self.vma_ref(id),
        }
    }

    /// A copy of the file.
    #[inline]
    pub fn file(&self, id: FileId) -> File {
        *self.file_ref(id)
    }

    /// A copy of the page. A stale id is reported, and reads the frame's next owner, as it would in a kernel.
    #[inline]
    pub fn page(&self, id: PageId) -> Page {
        let page = self.s.borrow().mem_map.get(id.pfn as usize).copied().unwrap_or_default();
        if page.generation != id.generation || page.refcount <= 0 {
            self.use_after_free("page", id.pfn);
        }
        page
    }

    /// The page, for writing. A stale id is reported, and writes to the frame's next owner, as it would in a kernel.
    #[inline]
    pub fn page_mut(&self, id: PageId) -> RefMut<'_, Page> {
        let live = RefMut::filter_map(self.s.borrow_mut(), |s| {
            s.mem_map.get_mut(id.pfn as usize).filter(|p| p.generation == id.generation && p.refcount > 0)
        });
        match live {
            Ok(live) => return live,
            Err(borrow) => drop(borrow),
        }
        self.stale_page_mut(id)
    }

    #[cold]
    fn stale_page_mut(&self, id: PageId) -> RefMut<'_, Page> {
        self.use_after_free("page", id.pfn);
        match RefMut::filter_map(self.s.borrow_mut(), |s| s.mem_map.get_mut(id.pfn as usize)) {
            Ok(next_owner) => next_owner,
            Err(_) => self.run.nowhere.borrow_mut(),
        }
    }

    #[cold]
    fn stale<T>(&self, what: &str, number: u16, tomb: impl FnOnce(&State) -> &T) -> Ref<'_, T> {
        self.use_after_free(what, number);
        Ref::map(self.s.borrow(), tomb)
    }

    #[cold]
    fn stale_mut<T>(&self, what: &str, number: u16, tomb: impl FnOnce(&mut State) -> &mut T) -> RefMut<'_, T> {
        self.use_after_free(what, number);
        RefMut::map(self.s.borrow_mut(), tomb)
    }

    #[cold]
    fn use_after_free(&self, what: &str, number: u16) {
        self.report(Symptom::UseAfterFree, || match number {
            u16::MAX => format!("NULL pointer dereference: no {what}"),
            _ => format!("use after free of {what} {number}"),
        });
    }

    /// The running task.
    #[inline]
    pub fn current(&self) -> TaskId {
        self.run.current.get().expect("a mirrored function runs in a task")
    }

    /// `current->mm`.
    pub fn current_mm(&self) -> Option<MmId> {
        self.process(self.task(self.current()).group).mm
    }

    /// Report a symptom.
    #[cold]
    pub fn report(&self, symptom: Symptom, detail: impl FnOnce() -> String) {
        let task = self.run.current.get().unwrap_or(TaskId::DANGLING);
        let stack = self.run.stacks.borrow().get(task.idx()).map_or(Vec::new(), |s| s.iter().map(|f| f.to_string()).collect());
        // The text may come upon more to report.
        let detail = detail();
        self.run.findings.borrow_mut().push(Finding { symptom, detail, task, stack });
        self.trace(|| Event::Finding(symptom));
    }

    /// Record an event, if anybody wants to read it.
    #[inline]
    pub fn trace(&self, event: impl FnOnce() -> Event) {
        if self.run.tracing.get() {
            self.record(event);
        }
    }

    #[cold]
    fn record(&self, event: impl FnOnce() -> Event) {
        let task = self.run.current.get().unwrap_or(TaskId::DANGLING);
        let event = event();
        self.run.trace.borrow_mut().push(Record { task, event });
    }

    /// Record a branch: `k.branch("page was truncated meanwhile")`.
    #[inline]
    pub fn branch(&self, text: &str) {
        self.trace(|| Event::Branch(text.to_string()));
    }

    /// Say that a mirrored function is entered; the guard says when it is left. First line of every mirrored function of interest:
    /// `let _f = k.enter("shmem_fault", || format!("pgoff={pgoff}"));`
    #[inline]
    pub fn enter(&self, func: &'static str, args: impl FnOnce() -> String) -> Entered<'_> {
        Entered(if self.run.tracing.get() { Some(self.enter_traced(func, args)) } else { None })
    }

    #[cold]
    fn enter_traced(&self, func: &'static str, args: impl FnOnce() -> String) -> Frame<'_> {
        let task = self.run.current.get().unwrap_or(TaskId::DANGLING);
        let args = args();
        self.run.trace.borrow_mut().push(Record { task, event: Event::Enter { func, args } });
        let mut stacks = self.run.stacks.borrow_mut();
        let slot = if task == TaskId::DANGLING { 0 } else { task.idx() };
        if stacks.len() <= slot {
            stacks.resize(slot + 1, Vec::new());
        }
        stacks[slot].push(func);
        Frame { k: self, task, func }
    }

    /// Take one of `of` alternatives where C leaves the outcome undefined. Which one is decided outside (all are explored).
    pub fn choose(&self, what: &'static str, of: u8) -> u8 {
        let n = self.run.chosen.borrow().len();
        let taken = self.run.choices.borrow().get(n).copied().unwrap_or(0).min(of - 1);
        self.run.chosen.borrow_mut().push((taken, of));
        self.trace(|| Event::Choice { what, taken, of });
        taken
    }

    /// Shall this allocation, charge, copy or I/O fail?
    #[inline]
    pub fn should_fail(&self, site: &'static str) -> bool {
        let n = self.run.fallible.get();
        self.run.fallible.set(n + 1);
        if self.run.tracing.get() {
            self.run.fail_sites.borrow_mut().push(site);
        }
        let fail = !self.run.fail_at.borrow().is_empty() && self.run.fail_at.borrow().contains(&n);
        let fail = fail || !self.run.inject.borrow().is_empty() && self.injected(site, n);
        if fail {
            self.trace(|| Event::Fail(site));
        }
        fail
    }

    #[cold]
    fn injected(&self, site: &'static str, n: u32) -> bool {
        let task = self.run.current.get();
        let mut fail = false;
        self.run.inject.borrow_mut().retain_mut(|i| {
            let here = Some(i.task) == task && i.site == site;
            if here && i.skip == 0 {
                fail = true;
                return false;
            }
            i.skip -= here as u16;
            true
        });
        if fail {
            self.run.fail_at.borrow_mut().push(n);
        }
        fail
    }

    /// Count a round of a `retry:` or `repeat:` loop; after very many the loop is reported as endless and the task stops.
    /// Returns true when it is time to give up.
    #[inline]
    pub fn endless(&self, what: &'static str) -> bool {
        let n = self.run.rounds.get().saturating_add(1);
        self.run.rounds.set(n);
        n >= FEW_ROUNDS && self.too_many(n, what)
    }

    #[cold]
    fn too_many(&self, n: u32, what: &'static str) -> bool {
        // A call may go over every page there is, and some count a round for each.
        let limit = FEW_ROUNDS + 4 * u32::from(self.s.borrow().config.nr_frames);
        if n == limit {
            self.report(Symptom::EndlessLoop, || format!("{what} went round {limit} times"));
        }
        n >= limit
    }

    /// No task is inside a system call and no lock is held: the state can be cloned, hashed and resumed.
    pub fn is_quiescent(&self) -> bool {
        let s = self.s.borrow();
        s.held.is_empty() && s.waiting.is_empty() && s.tasks.iter().all(|(_, t)| !t.in_syscall)
    }
}

/// Says when a mirrored function is left. Empty unless tracing was on when it was entered.
pub struct Entered<'k>(Option<Frame<'k>>);

/// A mirrored function that was entered and is to be traced.
struct Frame<'k> {
    k: &'k Kernel,
    task: TaskId,
    func: &'static str,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(frame) = &self.0 {
            frame.left();
        }
    }
}

impl Frame<'_> {
    #[cold]
    fn left(&self) {
        let Frame { k, task, func } = *self;
        k.run.trace.borrow_mut().push(Record { task, event: Event::Exit { func } });
        let slot = if task == TaskId::DANGLING { 0 } else { task.idx() };
        if let Some(stack) = k.run.stacks.borrow_mut().get_mut(slot) {
            stack.pop();
        }
    }
}
