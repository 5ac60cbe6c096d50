// SPDX-License-Identifier: GPL-2.0-only
//! What the primitives report while the kernel runs. Nothing is rendered here: `report/` does that.

use crate::flags::PageFlags;
use crate::kernel::{CtxId, InodeId, MmCounter, MmId, PageId, PteVal, SlotVal, TaskId, VmaId};
use crate::mm::locking::{LockId, LockMode};

/// One step of the control flow, as the primitives saw it.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A mirrored function was entered.
    Enter {
        /// Its kernel name.
        func: &'static str,
        /// Its arguments, as far as they help to read the trace.
        args: String,
    },
    /// The function entered last by this task returned.
    Exit {
        /// Its kernel name.
        func: &'static str,
    },
    /// A branch worth reading was taken, or an error chosen.
    Branch(String),
    /// A lock was taken.
    Lock(LockId, LockMode),
    /// A lock had to be waited for.
    LockWait(LockId, LockMode),
    /// A lock was released.
    Unlock(LockId, LockMode),
    /// A page flag changed.
    Flag {
        /// The page.
        page: PageId,
        /// The flag.
        flag: PageFlags,
        /// Set or cleared.
        set: bool,
    },
    /// A page's reference count changed.
    Ref {
        /// The page.
        page: PageId,
        /// By how much.
        delta: i32,
        /// To what.
        now: i32,
    },
    /// A page's map count changed.
    Map {
        /// The page.
        page: PageId,
        /// By how much.
        delta: i32,
        /// To what.
        now: i32,
    },
    /// A page-table entry changed.
    Pte {
        /// In this mm.
        mm: MmId,
        /// At this address.
        addr: u64,
        /// What stood there.
        old: PteVal,
        /// What stands there now.
        new: PteVal,
    },
    /// A resident counter changed.
    Rss {
        /// Of this mm.
        mm: MmId,
        /// Which one.
        counter: MmCounter,
        /// By how many pages.
        delta: i32,
    },
    /// A page-cache slot changed.
    Cache {
        /// Of this inode.
        inode: InodeId,
        /// At this page index.
        index: u64,
        /// What stood there.
        old: Option<SlotVal>,
        /// What stands there now.
        new: Option<SlotVal>,
    },
    /// A counter of a file, a mount or the machine changed: alloced, swapped, i_blocks, used_blocks, vm_committed_as.
    Acct {
        /// The counter's kernel name.
        what: &'static str,
        /// By how much.
        delta: i64,
        /// To what.
        now: i64,
    },
    /// i_size was written.
    Size {
        /// Of this inode.
        inode: InodeId,
        /// The new size in bytes.
        size: u64,
    },
    /// A message or waiter was queued on a userfaultfd.
    Queue {
        /// The userfaultfd context.
        ctx: CtxId,
        /// What was queued.
        what: String,
    },
    /// The task went to sleep.
    Sleep,
    /// Another task was woken.
    Wake(TaskId),
    /// A VMA was changed, made or removed.
    Vma {
        /// Which.
        vma: VmaId,
        /// How.
        what: String,
    },
    /// A value that C leaves undefined was chosen.
    Choice {
        /// What it decides.
        what: &'static str,
        /// The alternative taken.
        taken: u8,
        /// Out of how many.
        of: u8,
    },
    /// An allocation or I/O was made to fail.
    Fail(&'static str),
    /// A finding was reported here.
    Finding(Symptom),
    /// A system call, load or store began.
    OpBegin(String),
    /// It ended.
    OpEnd(String),
}

/// What a kernel log, a debug kernel or a sanitizer would have shown. Each belongs to a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub enum Symptom {
    /// `VM_BUG_ON` of a debug kernel.
    VmBugOn,
    /// `BUG_ON`.
    BugOn,
    /// `WARN_ON_ONCE`.
    WarnOn,
    /// "BUG: Bad rss-counter state".
    BadRssCounter,
    /// "BUG: non-zero pgtables_bytes on freeing mm".
    NonZeroPgtables,
    /// "BUG: Bad page state".
    BadPageState,
    /// "BUG: Bad page map" (negative mapcount).
    BadPageMap,
    /// "BUG: Bad page cache" (a mapped page left the page cache).
    BadPageCache,
    /// An object was used after it was freed.
    UseAfterFree,
    /// "BUG: sleeping function called from invalid context".
    SleepInAtomic,
    /// A lock was taken against the order.
    LockOrder,
    /// Something was changed without the lock that guards it.
    Unlocked,
    /// A lock was released that was not held, or taken twice.
    BadUnlock,
    /// A task returned to user mode with a lock held.
    LockHeldAtReturn,
    /// Tasks wait for each other for ever.
    DeadWait,
    /// A system call goes round without end.
    EndlessLoop,
    /// An inode was evicted with i_blocks left (`WARN_ON(inode->i_blocks)`).
    EvictBlocks,
    /// swap_map went below zero or above its limit ("swap_free: Bad swap file entry").
    BadSwapCount,
}

/// One reported symptom.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// Its kind.
    pub symptom: Symptom,
    /// What exactly, in the words of a kernel log.
    pub detail: String,
    /// The task that was running.
    pub task: TaskId,
    /// The mirrored functions it was in, outermost first (empty unless tracing was on).
    pub stack: Vec<String>,
}

/// A recorded event and the task that caused it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Who ran.
    pub task: TaskId,
    /// What happened.
    pub event: Event,
}
