// SPDX-License-Identifier: GPL-2.0-only
//! Preemption points: the places where another CPU may run before this one goes on.
//!
//! `.await` in a mirrored function means exactly that. There are four flavours: a plain point before something that other
//! CPUs can see or change ([`point`]), a lock that may have to be waited for (`mm::locking`), spinning ([`spin`]), and sleeping
//! ([`schedule`]). Each says what it is about to touch, so that a search over schedules can tell which ones commute.

use crate::event::Event;
use crate::kernel::{CtxId, InodeId, Kernel, MmId, PageId, SwpEntry, TableId, TaskState};
use crate::mm::locking::{LockId, LockMode};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a step is about to touch without a lock that would order it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Touch {
    /// i_size is read locklessly.
    ReadSize(InodeId),
    /// i_size is written.
    WriteSize(InodeId),
    /// A page-cache slot is looked up.
    ReadSlot(InodeId, u64),
    /// The first entry at or after the first index, up to the last one, is looked for.
    ReadSlots(InodeId, u64, u64),
    /// A page-cache slot is changed.
    WriteSlot(InodeId, u64),
    /// A PTE is looked at without its lock.
    ReadPte(TableId, u64),
    /// A page flag or count that lockless readers can see is changed.
    WritePage(PageId),
    /// Memory is allocated.
    Alloc,
    /// User memory is copied from or to.
    UserCopy(MmId, u64),
    /// `mmap_changing` and the queues of a context are looked at.
    ReadCtx(CtxId),
    /// They are changed.
    WriteCtx(CtxId),
    /// A swap slot is read or written.
    SwapIo(SwpEntry),
    /// i_private (the fallocate that is going on) is looked at.
    ReadFalloc(InodeId),
}

/// Why a future is Pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// At a preemption point: it can go on at any time.
    Point(Touch),
    /// About to take a lock that may be free: it can go on at any time.
    BeforeLock(LockId, LockMode),
    /// Waits for a lock.
    Lock(LockId, LockMode),
    /// Asleep until its task state is Running.
    Sleep,
    /// Goes round in this loop until others have changed something: it can go on when anybody has made a step.
    Spin(&'static str),
    /// Died of a BUG_ON; never goes on.
    Dead,
}

/// See [`point`].
#[must_use = "a preemption point does nothing unless awaited"]
pub struct Point<'k> {
    k: &'k Kernel,
    touch: Touch,
    passed: bool,
}

/// Another CPU may run here, before `touch` takes effect.
#[inline]
pub fn point(k: &Kernel, touch: Touch) -> Point<'_> {
    Point { k, touch, passed: false }
}

impl Future for Point<'_> {
    type Output = ();
    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.passed || !self.k.run.preempt.get() {
            return Poll::Ready(());
        }
        self.preempted();
        Poll::Pending
    }
}

impl Point<'_> {
    #[cold]
    fn preempted(&mut self) {
        self.passed = true;
        self.k.run.pause.set(Some(Pause::Point(self.touch)));
    }
}

/// See [`point_then`].
#[must_use = "a preemption point does nothing unless awaited"]
pub struct PointThen<'k, F> {
    point: Point<'k>,
    then: F,
}

/// A [`point`], and what is done there at once: a look that takes no lock.
#[inline]
pub fn point_then<'k, T, F: Fn() -> T + Unpin>(k: &'k Kernel, touch: Touch, then: F) -> PointThen<'k, F> {
    PointThen { point: point(k, touch), then }
}

impl<T, F: Fn() -> T + Unpin> Future for PointThen<'_, F> {
    type Output = T;
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.point).poll(cx) {
            Poll::Ready(()) => Poll::Ready((self.then)()),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// See [`if_any`].
#[must_use = "what is to be done is not done unless awaited"]
pub struct IfAny<F>(Option<F>);

/// What is seldom to be done, if it is.
#[inline]
pub fn if_any<F: Future<Output = ()> + Unpin>(seldom: Option<F>) -> IfAny<F> {
    IfAny(seldom)
}

impl<F: Future<Output = ()> + Unpin> Future for IfAny<F> {
    type Output = ();
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            None => Poll::Ready(()),
            Some(seldom) => Pin::new(seldom).poll(cx),
        }
    }
}

/// See [`schedule`].
#[must_use = "sleeping does nothing unless awaited"]
pub struct Schedule<'k> {
    k: &'k Kernel,
    slept: bool,
}

/// `schedule()`: sleep until somebody sets the task's state to Running. The caller has set the state it sleeps in.
pub fn schedule(k: &Kernel) -> Schedule<'_> {
    Schedule { k, slept: false }
}

impl Future for Schedule<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.k.task(self.k.current()).state == TaskState::Running {
            return Poll::Ready(());
        }
        if !self.slept {
            self.slept = true;
            self.k.trace(|| Event::Sleep);
        }
        self.k.run.pause.set(Some(Pause::Sleep));
        Poll::Pending
    }
}

/// See [`spin`].
#[must_use = "spinning does nothing unless awaited"]
pub struct Spin<'k> {
    k: &'k Kernel,
    what: &'static str,
    passed: bool,
}

/// Once round a loop that somebody else must end. The others run meanwhile; when none of them can make a step, the machine is
/// at rest although one of its CPUs is not, and the loop is reported as endless.
pub fn spin<'k>(k: &'k Kernel, what: &'static str) -> Spin<'k> {
    Spin { k, what, passed: false }
}

impl Future for Spin<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.passed {
            return Poll::Ready(());
        }
        self.passed = true;
        self.k.run.pause.set(Some(Pause::Spin(self.what)));
        Poll::Pending
    }
}

/// See [`rest`].
#[must_use = "resting does nothing unless awaited"]
pub struct Rest {
    rested: bool,
}

/// Let go of the CPU between two operations: no mirrored function is under way.
pub fn rest() -> Rest {
    Rest { rested: false }
}

impl Future for Rest {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.rested, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The task stops here for ever, with all that it holds (after a BUG_ON).
pub fn die(k: &Kernel) -> Die<'_> {
    Die { k }
}

/// See [`die`].
#[must_use = "dying does nothing unless awaited"]
pub struct Die<'k> {
    k: &'k Kernel,
}

impl Future for Die<'_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.k.run.pause.set(Some(Pause::Dead));
        Poll::Pending
    }
}

/// For unit tests: run a mirrored function to its end. It must not have to wait for anybody.
#[cfg(test)]
pub(crate) fn run_through<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it had to wait"),
    }
}
