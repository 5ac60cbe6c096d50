// SPDX-License-Identifier: GPL-2.0-only
//! Locks: one table of who holds what, instead of a lock word in each object.
//!
//! The table is what lockdep would know: it notices a lock taken against the order, a sleeping lock taken under a spin lock,
//! a lock released by somebody else, and a lock still held on return to user mode. Lock words would tell none of that.

use crate::arena::ArenaId;
use crate::event::{Event, Symptom};
use crate::flags::PG_locked;
use crate::kernel::{AnonVmaId, CtxId, InodeId, Kernel, MmId, PageId, TableId, TaskId};
use crate::point::Pause;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A lock, by the object it protects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LockKind {
    /// `inode->i_rwsem` (`inode_lock`), sleeping.
    Inode(InodeId),
    /// `mm->mmap_lock`, sleeping, readers and writer.
    Mmap(MmId),
    /// The page lock (PG_locked), sleeping.
    Page(PageId),
    /// `shmem_swaplist_mutex`, sleeping.
    ShmemSwaplist,
    /// `mapping->i_mmap_rwsem`, sleeping, readers and writer.
    IMmap(InodeId),
    /// `anon_vma->root->rwsem`, sleeping, readers and writer.
    AnonVma(AnonVmaId),
    /// The page-table lock of one page-table page, spinning.
    Ptl(TableId),
    /// `info->lock` of a shmem inode, spinning.
    Info(InodeId),
    /// `inode->i_lock`, spinning.
    ILock(InodeId),
    /// `ctx->fault_pending_wqh.lock`, spinning.
    FaultPending(CtxId),
}

/// A [`LockKind`] in one word, since locks are compared all the time: its rank, its kind, its object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "LockKind", from = "LockKind")]
pub struct LockId(u64);

/// Each under the name that it has in [`LockKind`].
#[allow(non_snake_case, non_upper_case_globals)]
impl LockId {
    /// See [`LockKind::Inode`].
    #[inline]
    pub fn Inode(inode: InodeId) -> LockId {
        LockId::new(10, 0, inode.bits())
    }
    /// See [`LockKind::Mmap`].
    #[inline]
    pub fn Mmap(mm: MmId) -> LockId {
        LockId::new(20, 1, mm.bits())
    }
    /// See [`LockKind::Page`].
    #[inline]
    pub fn Page(page: PageId) -> LockId {
        LockId::new(30, 2, page.bits())
    }
    /// See [`LockKind::ShmemSwaplist`].
    pub const ShmemSwaplist: LockId = LockId::new(35, 3, 0);
    /// See [`LockKind::IMmap`].
    #[inline]
    pub fn IMmap(inode: InodeId) -> LockId {
        LockId::new(40, 4, inode.bits())
    }
    /// See [`LockKind::AnonVma`].
    #[inline]
    pub fn AnonVma(anon_vma: AnonVmaId) -> LockId {
        LockId::new(50, 5, anon_vma.bits())
    }
    /// See [`LockKind::Ptl`].
    #[inline]
    pub fn Ptl(table: TableId) -> LockId {
        LockId::new(60, 6, table.bits())
    }
    /// See [`LockKind::Info`].
    #[inline]
    pub fn Info(inode: InodeId) -> LockId {
        LockId::new(70, 7, inode.bits())
    }
    /// See [`LockKind::ILock`].
    #[inline]
    pub fn ILock(inode: InodeId) -> LockId {
        LockId::new(70, 8, inode.bits())
    }
    /// See [`LockKind::FaultPending`].
    #[inline]
    pub fn FaultPending(ctx: CtxId) -> LockId {
        LockId::new(70, 9, ctx.bits())
    }
}

impl LockId {
    /// `rank` is the position in the order of section "Lock ordering" of `mm/filemap.c` and `mm/rmap.c`: a lock may be taken only
    /// while locks of lower rank (or the same, where nesting is annotated) are held.
    const fn new(rank: u8, kind: u8, object: u32) -> LockId {
        LockId((rank as u64) << 40 | (kind as u64) << 32 | object as u64)
    }

    /// See [`LockId::new`].
    #[inline]
    fn rank(self) -> u64 {
        self.0 >> 40
    }

    /// Which lock it is.
    pub fn kind(self) -> LockKind {
        match (self.0 >> 32) as u8 {
            0 => LockKind::Inode(self.object()),
            1 => LockKind::Mmap(self.object()),
            2 => LockKind::Page(PageId::from_bits(self.0 as u32)),
            3 => LockKind::ShmemSwaplist,
            4 => LockKind::IMmap(self.object()),
            5 => LockKind::AnonVma(self.object()),
            6 => LockKind::Ptl(self.object()),
            7 => LockKind::Info(self.object()),
            8 => LockKind::ILock(self.object()),
            _ => LockKind::FaultPending(self.object()),
        }
    }

    fn object<I: ArenaId>(self) -> I {
        I::from_parts((self.0 >> 16) as u16, NonZeroU16::new(self.0 as u16).unwrap_or(NonZeroU16::MIN))
    }

    /// The page, if it is a page lock.
    #[inline]
    fn page(self) -> Option<PageId> {
        if (self.0 >> 32) as u8 == 2 { Some(PageId::from_bits(self.0 as u32)) } else { None }
    }

    /// A spin lock: no sleeping while it is held.
    #[inline]
    pub fn spins(self) -> bool {
        self.rank() >= 60
    }
}

impl From<LockId> for LockKind {
    fn from(lock: LockId) -> LockKind {
        lock.kind()
    }
}

impl From<LockKind> for LockId {
    fn from(kind: LockKind) -> LockId {
        match kind {
            LockKind::Inode(inode) => LockId::Inode(inode),
            LockKind::Mmap(mm) => LockId::Mmap(mm),
            LockKind::Page(page) => LockId::Page(page),
            LockKind::ShmemSwaplist => LockId::ShmemSwaplist,
            LockKind::IMmap(inode) => LockId::IMmap(inode),
            LockKind::AnonVma(anon_vma) => LockId::AnonVma(anon_vma),
            LockKind::Ptl(table) => LockId::Ptl(table),
            LockKind::Info(inode) => LockId::Info(inode),
            LockKind::ILock(inode) => LockId::ILock(inode),
            LockKind::FaultPending(ctx) => LockId::FaultPending(ctx),
        }
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// How a lock is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LockMode {
    /// Together with other readers.
    Read,
    /// Alone. Mutexes, spin locks and the page lock have only this.
    Write,
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Which lock.
    pub lock: LockId,
    /// By whom.
    pub task: TaskId,
    /// How.
    pub mode: LockMode,
}

/// A task that waits for a lock. A waiting writer keeps new readers out, as in `rwsem`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// Which lock.
    pub lock: LockId,
    /// Who.
    pub task: TaskId,
    /// How.
    pub mode: LockMode,
}

/// Could `task` take the lock now?
pub fn is_free(k: &Kernel, lock: LockId, mode: LockMode, task: TaskId) -> bool {
    let s = k.s();
    if let Some(page) = lock.page() {
        return s.mem_map.get(page.pfn as usize).is_none_or(|p| !p.flags.contains(PG_locked));
    }
    let conflicts = |m: LockMode| m == LockMode::Write || mode == LockMode::Write;
    if s.held.iter().any(|h| h.lock == lock && conflicts(h.mode)) {
        return false;
    }
    if mode == LockMode::Read {
        // Queue fairness: a reader that comes after a waiting writer waits behind it.
        let writer = s.waiting.iter().position(|w| w.lock == lock && w.mode == LockMode::Write);
        let me = s.waiting.iter().position(|w| w.lock == lock && w.task == task);
        match (writer, me) {
            (Some(w), Some(m)) if w < m => return false,
            (Some(_), None) => return false,
            _ => {}
        }
    }
    true
}

/// Take a lock where one look at the table tells that nothing stands in the way: there is room, nobody waits for any lock, and
/// every lock that is held, by whomever, has a lower rank. Then nobody holds this one, it is in order, and (spin locks having the
/// highest ranks) no sleeping lock is taken under a spin lock. False: look closer, with [`check_order`] and [`is_free`].
#[inline]
fn take_clear(k: &Kernel, lock: LockId, mode: LockMode, task: TaskId) -> bool {
    let s = &mut *k.sm_without_vmas();
    if !s.waiting.is_empty() || s.held.len() == s.held.capacity() {
        return false;
    }
    if s.held.iter().any(|h| h.lock.rank() >= lock.rank()) {
        return false;
    }
    let page = match lock.page() {
        Some(page) => match s.mem_map.get_mut(page.pfn as usize) {
            Some(p) if p.generation == page.generation && p.refcount > 0 && !p.flags.contains(PG_locked) => Some(p),
            _ => return false,
        },
        None => None,
    };
    s.held.push(Held { lock, task, mode });
    if let Some(p) = page {
        p.flags.insert(PG_locked);
    }
    true
}

fn take(k: &Kernel, lock: LockId, mode: LockMode) {
    let task = k.current();
    if let Some(page) = lock.page() {
        k.page_mut(page).flags.insert(PG_locked);
    }
    let mut s = k.sm();
    s.held.push(Held { lock, task, mode });
    if !s.waiting.is_empty() {
        s.waiting.retain(|w| !(w.lock == lock && w.task == task));
    }
    drop(s);
    k.trace(|| Event::Lock(lock, mode));
}

fn check_order(k: &Kernel, lock: LockId) {
    let task = k.current();
    let s = k.s();
    let mut bad = None;
    for h in s.held.iter().filter(|h| h.task == task) {
        // For reading too: behind a writer that waits in between, the second one never gets it.
        if h.lock == lock {
            bad = Some((Symptom::LockOrder, h.lock));
        } else if h.lock.rank() > lock.rank() {
            bad = Some((if h.lock.spins() && !lock.spins() { Symptom::SleepInAtomic } else { Symptom::LockOrder }, h.lock));
        } else if h.lock.spins() && !lock.spins() {
            bad = Some((Symptom::SleepInAtomic, h.lock));
        }
    }
    drop(s);
    if let Some((symptom, other)) = bad {
        k.report(symptom, || format!("{lock:?} taken while holding {other:?}"));
    }
}

/// `lockdep_assert_held()`: report if the task does not hold the lock that guards what it is about to change.
#[inline]
pub fn assert_held(k: &Kernel, lock: LockId, what: &str) {
    // Without a task there is nobody to race with.
    let Some(task) = k.run.current.get() else { return };
    // The lock that guards a change is usually the one taken last.
    if !k.s().held.iter().rev().any(|h| h.lock == lock && h.task == task) {
        k.report(Symptom::Unlocked, || format!("{what} changed without {lock:?}"));
    }
}

/// `might_sleep()`: report if the task holds a spin lock.
pub fn might_sleep(k: &Kernel) {
    let task = k.current();
    let spin = k.s().held.iter().find(|h| h.task == task && h.lock.spins()).map(|h| h.lock);
    if let Some(lock) = spin {
        k.report(Symptom::SleepInAtomic, || format!("sleeping function called while holding {lock:?}"));
    }
}

/// See [`acquire`].
#[must_use = "a lock is not taken unless awaited"]
pub struct Acquire<'k> {
    k: &'k Kernel,
    lock: LockId,
    mode: LockMode,
    begun: bool,
    waited: bool,
}

/// Take a lock, waiting if need be.
#[inline]
pub fn acquire(k: &Kernel, lock: LockId, mode: LockMode) -> Acquire<'_> {
    Acquire { k, lock, mode, begun: false, waited: false }
}

impl Future for Acquire<'_> {
    type Output = ();
    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let k = self.k;
        let plain = !self.begun && !k.run.preempt.get() && !k.run.tracing.get();
        if plain && take_clear(k, self.lock, self.mode, k.current()) {
            return Poll::Ready(());
        }
        self.poll_closely()
    }
}

impl Acquire<'_> {
    /// With every look, and every event.
    #[inline(never)]
    fn poll_closely(&mut self) -> Poll<()> {
        let k = self.k;
        if !self.begun {
            self.begun = true;
            check_order(k, self.lock);
            if k.run.preempt.get() {
                k.run.pause.set(Some(Pause::BeforeLock(self.lock, self.mode)));
                return Poll::Pending;
            }
        }
        let task = k.current();
        if is_free(k, self.lock, self.mode, task) {
            take(k, self.lock, self.mode);
            return Poll::Ready(());
        }
        if !self.waited {
            self.waited = true;
            k.sm().waiting.push(Waiting { lock: self.lock, task, mode: self.mode });
            let (lock, mode) = (self.lock, self.mode);
            k.trace(|| Event::LockWait(lock, mode));
        }
        k.run.pause.set(Some(Pause::Lock(self.lock, self.mode)));
        Poll::Pending
    }
}

/// Take a lock if nobody holds it. Never sleeps.
pub fn try_acquire(k: &Kernel, lock: LockId, mode: LockMode) -> bool {
    let free = is_free(k, lock, mode, k.current());
    if free {
        take(k, lock, mode);
    }
    free
}

/// Release a lock. For the page lock the holder may be another task, as in the kernel.
#[inline]
pub fn release(k: &Kernel, lock: LockId, mode: LockMode) {
    if k.run.tracing.get() || !release_last(k, Held { lock, task: k.current(), mode }) {
        release_any(k, lock, mode);
    }
}

/// Release the lock that was taken last, if it is this one.
#[inline]
fn release_last(k: &Kernel, held: Held) -> bool {
    let s = &mut *k.sm_without_vmas();
    if s.held.last() != Some(&held) {
        return false;
    }
    if let Some(page) = held.lock.page() {
        match s.mem_map.get_mut(page.pfn as usize) {
            Some(p) if p.generation == page.generation && p.refcount > 0 => p.flags.remove(PG_locked),
            _ => return false,
        }
    }
    s.held.pop();
    true
}

#[inline(never)]
fn release_any(k: &Kernel, lock: LockId, mode: LockMode) {
    let task = k.current();
    let mut s = k.sm();
    let mine = s.held.iter().rposition(|h| h.lock == lock && h.mode == mode && h.task == task);
    let at = match mine {
        None if lock.page().is_some() => s.held.iter().rposition(|h| h.lock == lock),
        other => other,
    };
    if let Some(at) = at {
        s.held.remove(at);
    }
    drop(s);
    if let Some(page) = lock.page() {
        k.page_mut(page).flags.remove(PG_locked);
    }
    if at.is_none() {
        k.report(Symptom::BadUnlock, || format!("{lock:?} released but not held"));
    }
    k.trace(|| Event::Unlock(lock, mode));
}

/// `down_write` to `down_read` without letting go.
pub fn downgrade(k: &Kernel, lock: LockId) {
    let task = k.current();
    let mut s = k.sm();
    match s.held.iter_mut().rev().find(|h| h.lock == lock && h.task == task && h.mode == LockMode::Write) {
        Some(h) => h.mode = LockMode::Read,
        None => {
            drop(s);
            k.report(Symptom::BadUnlock, || format!("{lock:?} downgraded but not held for writing"));
        }
    }
}

/// Does the running task hold the lock (in any mode)?
pub fn holds(k: &Kernel, lock: LockId) -> bool {
    let task = k.current();
    k.s().held.iter().any(|h| h.lock == lock && h.task == task)
}

/// `mmap_read_lock`.
#[inline]
pub fn mmap_read_lock(k: &Kernel, mm: MmId) -> Acquire<'_> {
    acquire(k, LockId::Mmap(mm), LockMode::Read)
}
/// `mmap_read_unlock`.
#[inline]
pub fn mmap_read_unlock(k: &Kernel, mm: MmId) {
    release(k, LockId::Mmap(mm), LockMode::Read);
}
/// `mmap_write_lock`.
pub fn mmap_write_lock(k: &Kernel, mm: MmId) -> Acquire<'_> {
    acquire(k, LockId::Mmap(mm), LockMode::Write)
}
/// `mmap_write_unlock`.
pub fn mmap_write_unlock(k: &Kernel, mm: MmId) {
    release(k, LockId::Mmap(mm), LockMode::Write);
}
/// `mmap_write_downgrade`.
pub fn mmap_write_downgrade(k: &Kernel, mm: MmId) {
    downgrade(k, LockId::Mmap(mm));
}
/// `inode_lock`.
pub fn inode_lock(k: &Kernel, inode: InodeId) -> Acquire<'_> {
    acquire(k, LockId::Inode(inode), LockMode::Write)
}
/// `inode_unlock`.
pub fn inode_unlock(k: &Kernel, inode: InodeId) {
    release(k, LockId::Inode(inode), LockMode::Write);
}
/// `spin_lock_irq(&info->lock)` of a shmem inode.
pub fn info_lock(k: &Kernel, inode: InodeId) -> Acquire<'_> {
    acquire(k, LockId::Info(inode), LockMode::Write)
}
/// `spin_unlock_irq(&info->lock)`.
pub fn info_unlock(k: &Kernel, inode: InodeId) {
    release(k, LockId::Info(inode), LockMode::Write);
}
/// `spin_lock(ptl)` of one page-table page.
#[inline]
pub fn ptl_lock(k: &Kernel, table: TableId) -> Acquire<'_> {
    acquire(k, LockId::Ptl(table), LockMode::Write)
}
/// `spin_unlock(ptl)`.
pub fn ptl_unlock(k: &Kernel, table: TableId) {
    release(k, LockId::Ptl(table), LockMode::Write);
}
/// `lock_page`: sleeps until the page lock is free.
#[inline]
pub fn lock_page(k: &Kernel, page: PageId) -> Acquire<'_> {
    acquire(k, LockId::Page(page), LockMode::Write)
}
/// `trylock_page`.
pub fn trylock_page(k: &Kernel, page: PageId) -> bool {
    try_acquire(k, LockId::Page(page), LockMode::Write)
}
/// `unlock_page`.
#[inline]
pub fn unlock_page(k: &Kernel, page: PageId) {
    crate::VM_BUG_ON!(k, !k.page(page).flags.contains(PG_locked));
    release(k, LockId::Page(page), LockMode::Write);
}
/// `__SetPageLocked`: the page is not visible to anybody else yet, so it need not be waited for.
#[allow(non_snake_case)]
pub fn __SetPageLocked(k: &Kernel, page: PageId) {
    take(k, LockId::Page(page), LockMode::Write);
}
