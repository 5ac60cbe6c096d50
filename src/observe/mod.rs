// SPDX-License-Identifier: GPL-2.0-only
//! What user space can see of the kernel after an operation, apart from what the operation itself answered.
//!
//! An observation is a map from things ([`Key`]) to what is seen of them ([`Seen`]). The model and the running kernel fill it
//! in alike. It holds only what repeats from run to run on one kernel. What does not is left out of the type, by name:
//! PG_lru, PG_active, PG_referenced and the counters derived from them; frame numbers; soft-dirty, which depends on the
//! configuration. What is exact only sometimes is an [`Envelope`].

mod compare;
mod model;

pub use compare::{Difference, compare, compare_one, compare_seen};
pub use model::{Observer, Subject};

use crate::flags::{PROT_EXEC, PROT_READ, PROT_WRITE, Prot};
use crate::kernel::{CELLS, Cells};
pub use crate::syscall::Fd;
use crate::syscall::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many pages of a VMA or a file are looked at from either end. Of a larger one the middle is not seen.
pub const EDGE: u64 = 64;

/// The pages of this range that are looked at.
pub fn looked_at(pages: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
    let head = pages.end.min(pages.start.saturating_add(EDGE));
    let tail = head.max(pages.end.saturating_sub(EDGE));
    (pages.start..head).chain(tail..pages.end)
}

/// A process: its number is that of its first task in the scenario.
pub type Who = u16;

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// A file, by the descriptor under which the first process opened it first, as long as that process has it open or mapped.
    /// A descriptor that is used again belongs to the new file.
    File(Fd),
    /// A page of it, by index. Pages past the end of the file are not looked at, nor those in the middle ([`EDGE`]).
    FilePage(Fd, u64),
    /// The mappings of a process (`/proc/PID/smaps`), lowest first.
    Vmas(Who),
    /// A page of a process, by address. Only pages inside mappings are looked at, not those in the middle of one ([`EDGE`]).
    Page(Who, u64),
    /// The resident counters of a process (`/proc/PID/status`).
    Rss(Who),
}

/// What is seen of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Seen {
    /// Of a file.
    File(FileSeen),
    /// Of a page of a file.
    FilePage(FilePageSeen),
    /// Of a process.
    Vmas(Vec<VmaSeen>),
    /// Of an address.
    Page(PageSeen),
    /// Of a process.
    Rss(RssSeen),
}

/// A fact that is not always one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Envelope<T> {
    /// Exactly this.
    Is(T),
    /// Not to be seen without disturbing it, or not on this kernel.
    #[default]
    Unseen,
    /// Seen, but any value is right: the swap backend, a per-CPU batch or the order of two tasks decides.
    Any,
}

impl<T: PartialEq> Envelope<T> {
    /// Can both be true of one kernel?
    pub fn agrees(&self, other: &Envelope<T>) -> bool {
        match (self, other) {
            (Envelope::Is(a), Envelope::Is(b)) => a == b,
            _ => true,
        }
    }
}

/// `fstat` and the observer's smaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSeen {
    /// st_size in bytes.
    pub size: u64,
    /// st_blocks, in units of 512 bytes. fstat(2) recounts them, which disturbs a mount that has a limit.
    pub blocks: Envelope<i64>,
    /// Pages in swap (`Swap:` of an untouched mapping of the whole file, in pages).
    pub swapped: Envelope<u64>,
}

/// Where a page of a file is (cachestat(2); 6.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cached {
    /// Nowhere.
    Hole,
    /// In the page cache.
    Cached,
    /// In swap.
    Swapped,
}

/// A page of a file, through an observer's mapping that is never touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FilePageSeen {
    /// cachestat(2).
    pub cached: Envelope<Cached>,
    /// SEEK_DATA finds it.
    pub data: Envelope<bool>,
    /// mincore(2).
    pub mincore: Envelope<bool>,
    /// Read with pread(2), when it is cached.
    pub bytes: Envelope<Bytes>,
}

/// The contents of a page, at the places that the model watches ([`CELL_AT`](crate::kernel::CELL_AT)). None: not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bytes(pub [Option<u8>; CELLS]);

impl Bytes {
    /// Of a page of the model.
    pub fn of(cells: Cells) -> Bytes {
        Bytes(cells.map(|c| Some(c.byte())))
    }

    /// Can both be the contents of one page?
    pub fn agrees(&self, other: &Bytes) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.is_none() || b.is_none() || a == b)
    }
}

impl From<[u8; CELLS]> for Bytes {
    fn from(bytes: [u8; CELLS]) -> Bytes {
        Bytes(bytes.map(Some))
    }
}

/// A mapping.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VmaSeen {
    /// First byte.
    pub start: u64,
    /// First byte past it.
    pub end: u64,
    /// The rights.
    pub prot: Prot,
    /// `s` instead of `p` (VM_MAYSHARE).
    pub shared: bool,
    /// What only smaps tells. Writing smaps takes the kernel long: unseen where nobody needs it.
    pub smaps: Envelope<SmapsSeen>,
}

/// VmFlags and counters of a mapping in `/proc/PID/smaps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SmapsSeen {
    /// VmFlags `um`.
    pub missing: bool,
    /// VmFlags `uw`.
    pub wp: bool,
    /// VmFlags `ui`.
    pub minor: bool,
    /// VmFlags `lo`.
    pub locked: bool,
    /// VmFlags `ac`.
    pub accounted: bool,
    /// Rss, in pages.
    pub rss: u64,
    /// Anonymous, in pages.
    pub anonymous: u64,
    /// Shared_Clean, Shared_Dirty, Private_Clean, Private_Dirty, in pages. Which of clean and dirty an anonymous page is after
    /// it was swapped in is the swap backend's affair.
    pub kinds: Envelope<[u64; 4]>,
    /// Swap, in pages.
    pub swap: u64,
}

impl Default for SmapsSeen {
    /// Not registered, not locked, not accounted, with no page.
    fn default() -> SmapsSeen {
        SmapsSeen {
            missing: false,
            wp: false,
            minor: false,
            locked: false,
            accounted: false,
            rss: 0,
            anonymous: 0,
            kinds: Envelope::Is([0; 4]),
            swap: 0,
        }
    }
}

/// As `/proc/PID/maps` prints it: `rw-s`.
pub fn rights(prot: Prot, shared: bool) -> String {
    let bit = |right: Prot, letter: char| if prot.contains(right) { letter } else { '-' };
    [bit(PROT_READ, 'r'), bit(PROT_WRITE, 'w'), bit(PROT_EXEC, 'x'), if shared { 's' } else { 'p' }].iter().collect()
}

/// A page-table entry and the page behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PageSeen {
    /// Bit 63 of `/proc/PID/pagemap`.
    pub present: bool,
    /// Bit 62: swapped, or a marker.
    pub swap: bool,
    /// Bit 61: a page of a file or of shared memory.
    pub file: bool,
    /// Bit 58: a guard marker (6.14).
    pub guard: bool,
    /// Bit 57: write-protected by userfaultfd.
    pub uffd_wp: bool,
    /// Bit 56: mapped here only.
    pub exclusive: bool,
    /// `/proc/kpageflags` and `/proc/kpagecount`; None if nothing is mapped, or where they are not looked at.
    pub frame: Option<FrameSeen>,
    /// mincore(2).
    pub mincore: Envelope<bool>,
    /// A plain load, where a page is mapped and may be read.
    pub bytes: Envelope<Bytes>,
}

/// A frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FrameSeen {
    /// KPF_UPTODATE.
    pub uptodate: bool,
    /// KPF_DIRTY; of an anonymous page after swap-in, any.
    pub dirty: Envelope<bool>,
    /// KPF_MMAP.
    pub mmap: bool,
    /// KPF_ANON.
    pub anon: bool,
    /// KPF_SWAPCACHE; of an anonymous page after swap-in, any.
    pub swapcache: Envelope<bool>,
    /// KPF_SWAPBACKED.
    pub swapbacked: bool,
    /// KPF_UNEVICTABLE; of an mlocked page that waits in a CPU's batch for its list any.
    pub unevictable: Envelope<bool>,
    /// KPF_MLOCKED. Where munlocking waits in a CPU's batch, the kernel must be made to do it before it is looked at.
    pub mlocked: Envelope<bool>,
    /// KPF_ZERO_PAGE. That page is the kernel's own: the other flags and the count say nothing about it.
    pub zero_page: bool,
    /// `/proc/kpagecount`.
    pub mapcount: u64,
}

/// RssAnon, RssShmem, VmSwap in pages, as differences from the start of the scenario. Any where the kernel does not sum the
/// counters up exactly ([`Delta::RSS_SUMMED`](crate::delta::Delta)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RssSeen {
    /// RssAnon.
    pub anon: Envelope<i64>,
    /// RssShmem.
    pub shmem: Envelope<i64>,
    /// VmSwap.
    pub swap: Envelope<i64>,
}

/// All that is seen after an operation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Observation(pub BTreeMap<Key, Seen>);

/// What one step of a scenario led to, on either side. The same scenario gives as many moments as it has steps. An operation that
/// neither ended nor is blocked was ended by a fatal signal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Moment {
    /// How the step's own operation ended; None while it is blocked, and for a step that starts none.
    pub outcome: Option<Outcome>,
    /// Operations that were blocked before and have ended now, by thread (its place in the scenario's list); of a race all that
    /// have ended.
    pub resumed: Vec<(usize, Outcome)>,
    /// Threads that are blocked when nothing moves any more.
    pub blocked: Vec<usize>,
    /// What is seen then.
    pub seen: Observation,
}
