// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: a fault waits for the monitor.
//!
//! A fault from user mode that must sleep is left behind as data ([`BlockedFault`]): its waiter stays queued, and when somebody
//! has woken the task, [`finish_wait`] ends the wait and the instruction starts over. A fault from kernel mode really sleeps.

use crate::BUG_ON;
use crate::VM_BUG_ON;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, mmap_read_unlock, release};
use crate::mm::memory::VmFaultCtx;
use crate::mm::pgtable::{mm_find_pmd, pmd_none, pte_none_mostly, pte_offset_map, pte_write, ptep_get_lockless};
use crate::point::{Touch, point, schedule};
use crate::uffd::ctx::{userfaultfd_ctx_get, userfaultfd_ctx_put};

/// The range whose waiters are woken (`struct userfaultfd_wake_range`). A length of 0 means all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserfaultfdWakeRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Wake one waiter if its address is in the range.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_wake_function @ v5.14
/// Fidelity: MIRROR
/// Locks:    fault_pending_wqh.lock held
/// Errors:   none; true if it woke the task
fn userfaultfd_wake_function(k: &Kernel, uwq: UwqId, range: UserfaultfdWakeRange) -> bool {
    let q = *k.uwq(uwq);
    let UserfaultfdWakeRange { start, len } = range;
    if let Some(UffdMsg::Pagefault { address, .. }) = q.msg
        && len != 0
        && (start > address || start.wrapping_add(len) <= address)
    {
        return false;
    }
    k.uwq_mut(uwq).waken = true;
    let ret = wake_up_state(k, q.task);
    if ret {
        // The waiter is off the queue before it runs; one that is awake already takes itself off.
        unlink(k, q.ctx, uwq);
        k.trace(|| Event::Queue { ctx: q.ctx, what: format!("{uwq} woken and taken off the queue") });
    }
    ret
}

/// `list_del` of a waiter, from whichever queue holds it; false if none does.
fn unlink(k: &Kernel, ctx: CtxId, uwq: UwqId) -> bool {
    let mut c = k.ctx_mut(ctx);
    let before = c.fault_pending_wqh.len() + c.fault_wqh.len() + c.event_wqh.len();
    c.fault_pending_wqh.retain(|q| *q != uwq);
    c.fault_wqh.retain(|q| *q != uwq);
    c.event_wqh.retain(|q| *q != uwq);
    before != c.fault_pending_wqh.len() + c.fault_wqh.len() + c.event_wqh.len()
}

/// What the monitor will read about a fault. The address is to the byte if that was asked for.
///
/// Kernel:   fs/userfaultfd.c:userfault_msg @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn userfault_msg(k: &Kernel, address: u64, flags: FaultFlags, reason: VmFlags, features: UffdFeatures) -> UffdMsg {
    let mut msg_flags = UffdPagefaultFlags::empty();
    if flags.contains(FAULT_FLAG_WRITE) {
        msg_flags |= UFFD_PAGEFAULT_FLAG_WRITE;
    }
    if reason.contains(VM_UFFD_WP) {
        msg_flags |= UFFD_PAGEFAULT_FLAG_WP;
    }
    if reason.contains(VM_UFFD_MINOR) {
        msg_flags |= UFFD_PAGEFAULT_FLAG_MINOR;
    }
    let address = if features.contains(UFFD_FEATURE_EXACT_ADDRESS) { address } else { page_align_down(address) };
    let ptid = if features.contains(UFFD_FEATURE_THREAD_ID) { Some(k.current()) } else { None };
    UffdMsg::Pagefault { address, flags: msg_flags, ptid }
}

/// Is the fault still unresolved? Looked up without the PTE lock, after the waiter was queued: a resolver sets the entry before
/// it looks at the queue, so one of the two sees the other.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_must_wait @ v5.14
/// Fidelity: TRIMMED(huge and migrating pmds were tested, the model has none)
/// Locks:    mmap_lock held
/// Errors:   none
pub async fn userfaultfd_must_wait(k: &Kernel, ctx: CtxId, address: u64, reason: VmFlags) -> bool {
    let _f = k.enter("userfaultfd_must_wait", || format!("address={address:#x}"));
    let Some(mm) = k.ctx(ctx).mm else { return true };
    // The upper levels are read without a lock as well.
    let pgd = k.mm(mm).pgd;
    let seen = mm_find_pmd(k, mm, address);
    match (seen, pgd) {
        (Some(pmd), _) => point(k, Touch::ReadPte(pmd.table, pmd.idx as u64)).await,
        (None, Some(pgd)) => point(k, Touch::ReadPte(pgd, (address >> 39) & 511)).await,
        (None, None) => return true,
    }

    let Some(pmd) = mm_find_pmd(k, mm, address) else {
        k.branch("no page table: wait");
        return true;
    };
    if pmd_none(k, pmd) {
        k.branch("pmd is none: wait");
        return true;
    }
    let mut ret = false;
    let Some(pte) = pte_offset_map(k, pmd, address) else { return true };
    let val = ptep_get_lockless(k, pte).await;
    // Lockless is an argument about none entries, and about those that become none.
    if pte_none_mostly(val) {
        ret = true;
    }
    // On x86 the write bit of a swap entry is its soft-dirty bit.
    let write = match val {
        PteVal::Swap { flags, .. } => flags.contains(_PAGE_SOFT_DIRTY),
        _ => pte_write(val),
    };
    if !write && reason.contains(VM_UFFD_WP) {
        ret = true;
    }
    k.branch(if ret { "entry still asks for the monitor: wait" } else { "entry was filled meanwhile: do not wait" });
    ret
}

/// How deep the fault sleeps.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_get_blocking_state @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn userfaultfd_get_blocking_state(flags: FaultFlags) -> TaskState {
    if flags.contains(FAULT_FLAG_INTERRUPTIBLE) {
        return TaskState::Interruptible;
    }
    if flags.contains(FAULT_FLAG_KILLABLE) {
        return TaskState::Killable;
    }
    TaskState::Uninterruptible
}

/// Hand a fault to the monitor: queue it, drop mmap_lock, sleep until woken. The fault is then tried again from the top.
///
/// Kernel:   fs/userfaultfd.c:handle_userfault @ v5.14
/// Fidelity: MIRROR (a sleep from user mode is left in `task.blocked`, see the module)
/// Locks:    mmap_lock read held; dropped when VM_FAULT_RETRY is returned, unless RETRY_NOWAIT
/// Errors:   SIGBUS while exiting, without a context, with UFFD_FEATURE_SIGBUS, from kernel mode on a user-mode-only context,
///           or when the fault may not be retried; NOPAGE when the context is released; else RETRY
pub async fn handle_userfault(k: &Kernel, vmf: &mut VmFaultCtx, reason: VmFlags) -> VmFault {
    let _f = k.enter("handle_userfault", || format!("address={:#x} reason={reason:?}", vmf.address));
    let current = k.current();
    let vma = k.vma(vmf.vma);
    let mm = vma.vm_mm;
    let mut ret = VM_FAULT_SIGBUS;

    'out: {
        // An exiting task could not be woken by a signal any more.
        if k.task(current).exiting {
            k.branch("task is exiting: SIGBUS");
            break 'out;
        }

        let Some(ctx) = vma.ctx else {
            k.branch("no userfaultfd context: SIGBUS");
            break 'out;
        };
        BUG_ON!(k, k.ctx(ctx).mm != Some(mm));

        VM_BUG_ON!(k, !(reason - __VM_UFFD_FLAGS).is_empty());
        VM_BUG_ON!(k, reason.bits().count_ones() != 1);

        if k.ctx(ctx).features.contains(UFFD_FEATURE_SIGBUS) {
            k.branch("UFFD_FEATURE_SIGBUS: SIGBUS");
            break 'out;
        }
        if !vmf.flags.contains(FAULT_FLAG_USER) && k.ctx(ctx).user_mode_only {
            k.branch("kernel-mode fault on a user-mode-only userfaultfd: SIGBUS");
            break 'out;
        }

        // The file is being closed: release will clear the VMA flags as soon as it gets mmap_lock, so let the access go round.
        if k.ctx(ctx).released {
            k.branch("context is released: NOPAGE");
            ret = VM_FAULT_NOPAGE;
            break 'out;
        }

        // A caller that cannot retry cannot wait.
        if !vmf.flags.contains(FAULT_FLAG_ALLOW_RETRY) {
            BUG_ON!(k, vmf.flags.contains(FAULT_FLAG_RETRY_NOWAIT));
            k.branch("fault may not be retried: SIGBUS");
            break 'out;
        }

        ret = VM_FAULT_RETRY;
        if vmf.flags.contains(FAULT_FLAG_RETRY_NOWAIT) {
            k.branch("RETRY_NOWAIT: no message, mmap_lock stays held");
            break 'out;
        }

        // Before mmap_lock goes: only the VMA keeps the context alive so far.
        userfaultfd_ctx_get(k, ctx);

        let features = k.ctx(ctx).features;
        let msg = userfault_msg(k, vmf.real_address, vmf.flags, reason, features);
        let uwq = k.sm().uwqs.insert(Uwq { msg: Some(msg), waken: false, task: current, ctx });
        let blocking_state = userfaultfd_get_blocking_state(vmf.flags);

        acquire(k, LockId::FaultPending(ctx), LockMode::Write).await;
        // From here on the monitor can see the fault.
        k.ctx_mut(ctx).fault_pending_wqh.insert(0, uwq);
        k.trace(|| Event::Queue { ctx, what: format!("{uwq} pending: {msg:?}") });
        // The state is set before the entry is looked at, so that no wake-up in between is lost.
        k.task_mut(current).state = blocking_state;
        release(k, LockId::FaultPending(ctx), LockMode::Write);

        let must_wait = userfaultfd_must_wait(k, ctx, vmf.address, reason).await;
        mmap_read_unlock(k, mm);

        point(k, Touch::ReadCtx(ctx)).await;
        if must_wait && !k.ctx(ctx).released {
            wake_up_poll(k, ctx);
            if vmf.flags.contains(FAULT_FLAG_USER) {
                if !prepare_to_schedule(k, current) {
                    k.branch("asleep in user mode until woken");
                    // Which instruction it was is known to the fault loop only.
                    let access = UserAccess {
                        addr: vmf.address,
                        store: if vmf.flags.contains(FAULT_FLAG_WRITE) { Some(0) } else { None },
                    };
                    k.task_mut(current).blocked = Some(BlockedFault { uwq, access, flags: vmf.flags });
                    k.trace(|| Event::Sleep);
                    break 'out;
                }
            } else if !prepare_to_schedule(k, current) {
                schedule(k).await;
            }
        } else {
            k.branch("nothing to wait for");
        }

        finish_wait(k, uwq);
    }
    ret
}

/// The end of a wait: the tail of `handle_userfault` after the task has slept (or has found that it need not).
///
/// Kernel:   fs/userfaultfd.c:handle_userfault, from the wake-up on @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; the kernel takes fault_pending_wqh.lock if the waiter is still queued, which is one atomic step here
/// Errors:   none
pub fn finish_wait(k: &Kernel, uwq: UwqId) {
    let Uwq { task, ctx, .. } = *k.uwq(uwq);
    k.task_mut(task).state = TaskState::Running;
    if unlink(k, ctx, uwq) {
        k.trace(|| Event::Queue { ctx, what: format!("{uwq} takes itself off the queue") });
    }
    k.sm().uwqs.remove(uwq);
    userfaultfd_ctx_put(k, ctx);
}

/// Wake the waiters whose address lies in the range, if there may be any.
///
/// Kernel:   fs/userfaultfd.c:wake_userfault @ v5.14
/// Fidelity: TRIMMED(refile_seq guarded against a fault that is between the two queues; refiling is one step in the model)
/// Locks:    takes and drops fault_pending_wqh.lock
/// Errors:   none
pub async fn wake_userfault(k: &Kernel, ctx: CtxId, start: u64, len: u64) {
    let _f = k.enter("wake_userfault", || format!("start={start:#x} len={len:#x}"));
    // The full barrier of the kernel: the entry was set before, the queues are looked at after.
    point(k, Touch::ReadCtx(ctx)).await;
    let need_wakeup = {
        let ctx = k.ctx(ctx);
        !ctx.fault_pending_wqh.is_empty() || !ctx.fault_wqh.is_empty()
    };
    if need_wakeup {
        __wake_userfault(k, ctx, UserfaultfdWakeRange { start, len }).await;
    } else {
        k.branch("nobody waits");
    }
}

/// Walk both fault queues, newest first, and wake who waits for the range.
///
/// Kernel:   fs/userfaultfd.c:__wake_userfault @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops fault_pending_wqh.lock
/// Errors:   none
pub(crate) async fn __wake_userfault(k: &Kernel, ctx: CtxId, range: UserfaultfdWakeRange) {
    acquire(k, LockId::FaultPending(ctx), LockMode::Write).await;
    let fault_pending_wqh = k.ctx(ctx).fault_pending_wqh.clone();
    for uwq in fault_pending_wqh {
        userfaultfd_wake_function(k, uwq, range);
    }
    let fault_wqh = k.ctx(ctx).fault_wqh.clone();
    for uwq in fault_wqh {
        userfaultfd_wake_function(k, uwq, range);
    }
    release(k, LockId::FaultPending(ctx), LockMode::Write);
}

/// Wake the tasks that sleep in read(2) of this userfaultfd. They stay in fd_wqh until they run.
///
/// Kernel:   include/linux/wait.h:wake_up_poll @ v5.14
/// Fidelity: TRIMMED(poll waiters: poll(2) does not sleep in the model)
/// Locks:    none
/// Errors:   none
pub(crate) fn wake_up_poll(k: &Kernel, ctx: CtxId) {
    let fd_wqh = k.ctx(ctx).fd_wqh.clone();
    for task in fd_wqh {
        wake_up_state(k, task);
    }
}

/// Would `schedule()` return at once: because the task has been woken since it set its state, or because a signal is pending
/// that ends a sleep of this depth? In the second case the state becomes Running.
fn prepare_to_schedule(k: &Kernel, task: TaskId) -> bool {
    let t = k.task(task).clone();
    let signal_pending_state = match t.state {
        TaskState::Interruptible => t.signal_pending || t.fatal_signal_pending,
        TaskState::Killable => t.fatal_signal_pending,
        _ => false,
    };
    if signal_pending_state {
        k.branch("a signal is pending: do not sleep");
        k.task_mut(task).state = TaskState::Running;
    }
    signal_pending_state || t.state == TaskState::Running
}

/// Make a sleeping task runnable; true if it was asleep.
///
/// Kernel:   kernel/sched/core.c:wake_up_state(TASK_NORMAL) @ v5.14
/// Fidelity: MODEL(the state is all there is to a scheduler here)
/// Locks:    none
/// Errors:   none
pub(crate) fn wake_up_state(k: &Kernel, task: TaskId) -> bool {
    let asleep = matches!(k.task(task).state, TaskState::Interruptible | TaskState::Killable | TaskState::Uninterruptible);
    if asleep {
        k.task_mut(task).state = TaskState::Running;
        k.trace(|| Event::Wake(task));
    }
    asleep
}

/// Make a sleeping task runnable.
///
/// Kernel:   kernel/sched/core.c:wake_up_process @ v5.14
/// Fidelity: MODEL(the state is all there is to a scheduler here)
/// Locks:    none
/// Errors:   none
pub fn wake_up_task(k: &Kernel, task: TaskId) {
    wake_up_state(k, task);
}

/// A signal for one task. It ends an interruptible sleep; a fatal one ends a killable sleep too.
///
/// Kernel:   kernel/signal.c:signal_wake_up @ v5.14
/// Fidelity: MODEL(no queue of signals, no thread groups: a fatal signal for a process is one for each of its tasks)
/// Locks:    none
/// Errors:   none
pub fn send_signal(k: &Kernel, task: TaskId, fatal: bool) {
    let state = {
        let mut t = k.task_mut(task);
        t.signal_pending = true;
        t.fatal_signal_pending |= fatal;
        t.state
    };
    match state {
        TaskState::Interruptible => wake_up_task(k, task),
        TaskState::Killable if fatal => wake_up_task(k, task),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::*;
    use crate::mm::locking::mmap_read_lock;
    use crate::syscall::{Msg, Out};
    use crate::uffd::ctx::{userfaultfd_api, userfaultfd_ctx_read, userfaultfd_poll, userfaultfd_wake};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const A: u64 = 0x10_0000;

    fn poll<T>(f: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        f.poll(&mut Context::from_waker(Waker::noop()))
    }
    fn now<T>(f: impl Future<Output = T>) -> T {
        match poll(pin!(f)) {
            Poll::Ready(v) => v,
            Poll::Pending => panic!("sleeps"),
        }
    }

    /// One process with two threads and a monitor, a VMA of four pages without page tables, registered.
    fn scene() -> (Kernel, CtxId, VmaId, [TaskId; 3]) {
        let k = Kernel::default();
        let mm = k.sm().mms.insert(MmStruct { mm_users: 1, mm_count: 2, ..MmStruct::default() });
        let group = k.sm().procs.insert(Process { mm: Some(mm), ..Process::default() });
        let tasks = [0; 3].map(|_| k.sm().tasks.insert(Task { group, ..Task::default() }));
        let ctx = k.sm().ctxs.insert(UserfaultfdCtx { mm: Some(mm), refcount: 1, ..UserfaultfdCtx::default() });
        let vma = k.sm().vmas.insert(Vma {
            vm_start: A,
            vm_end: A + 4 * PAGE_SIZE,
            vm_mm: mm,
            vm_flags: VM_READ | VM_WRITE | VM_MAYWRITE | VM_UFFD_MISSING,
            ctx: Some(ctx),
            ..Vma::default()
        });
        k.mm_mut(mm).mmap.push(vma);
        (k, ctx, vma, tasks)
    }

    fn armed() -> (Kernel, CtxId, VmaId, [TaskId; 3]) {
        let (k, ctx, vma, tasks) = scene();
        k.run.current.set(Some(tasks[2]));
        now(userfaultfd_api(&k, ctx, 0xaa, 0));
        (k, ctx, vma, tasks)
    }

    fn vmf(vma: VmaId, address: u64, flags: FaultFlags) -> VmFaultCtx {
        VmFaultCtx {
            vma,
            flags: flags | FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE,
            pgoff: 0,
            address,
            real_address: address,
            pmd: None,
            pte: None,
            orig_pte: PteVal::None,
            page: None,
            cow_page: None,
            prealloc_pte: false,
        }
    }

    fn user_fault(k: &Kernel, task: TaskId, vma: VmaId, address: u64) {
        k.run.current.set(Some(task));
        let mm = k.vma(vma).vm_mm;
        now(mmap_read_lock(k, mm));
        let ret = now(handle_userfault(k, &mut vmf(vma, address, FAULT_FLAG_USER), VM_UFFD_MISSING));
        assert_eq!(ret, VM_FAULT_RETRY);
        assert!(k.s().held.is_empty());
    }

    #[test]
    fn api_answers_once_and_zeroes_on_a_bad_request() {
        let (k, ctx, _, tasks) = scene();
        k.run.current.set(Some(tasks[2]));
        let zero = Out::Api { features: 0, ioctls: 0 };
        let bad = now(userfaultfd_api(&k, ctx, 0xab, 0));
        assert_eq!((bad.ret, bad.out), (Err(EINVAL), zero.clone()));
        let fork = now(userfaultfd_api(&k, ctx, 0xaa, UFFD_FEATURE_EVENT_FORK.bits()));
        assert_eq!((fork.ret, fork.out), (Err(EPERM), zero));
        assert_eq!(now(userfaultfd_wake(&k, ctx, A, PAGE_SIZE)).ret, Err(EINVAL));
        assert_eq!(now(userfaultfd_ctx_read(&k, ctx, true)), Err(EINVAL));
        let good = now(userfaultfd_api(&k, ctx, 0xaa, 0));
        assert_eq!((good.ret, good.out), (Ok(0), Out::Api { features: 0x7ff, ioctls: 0x8000000000000003 }));
        let again = now(userfaultfd_api(&k, ctx, 0xaa, 0));
        assert_eq!((again.ret, again.out), (Err(EINVAL), Out::None));
    }

    #[test]
    fn the_oldest_fault_is_read_first_and_only_its_range_is_woken() {
        let (k, ctx, vma, [t0, t1, monitor]) = armed();
        user_fault(&k, t0, vma, A);
        user_fault(&k, t1, vma, A + PAGE_SIZE);
        assert!(k.task(t0).blocked.is_some() && k.task(t1).blocked.is_some());
        assert_eq!(k.ctx(ctx).refcount, 3);

        k.run.current.set(Some(monitor));
        assert_eq!(userfaultfd_poll(&k, ctx, true), (true, false));
        let first = Msg::Pagefault { address: A, flags: UffdPagefaultFlags::empty(), ptid: None };
        assert_eq!(now(userfaultfd_ctx_read(&k, ctx, true)), Ok(first));
        assert_eq!((k.ctx(ctx).fault_pending_wqh.len(), k.ctx(ctx).fault_wqh.len()), (1, 1));

        assert_eq!(now(userfaultfd_wake(&k, ctx, A + PAGE_SIZE, PAGE_SIZE)).ret, Ok(0));
        assert_eq!(k.task(t0).state, TaskState::Interruptible);
        assert_eq!(k.task(t1).state, TaskState::Running);
        assert!(k.ctx(ctx).fault_pending_wqh.is_empty());

        let uwq = k.task(t1).blocked.map(|b| b.uwq).unwrap();
        finish_wait(&k, uwq);
        assert_eq!((k.ctx(ctx).refcount, k.s().uwqs.len()), (2, 1));
        assert_eq!(now(userfaultfd_ctx_read(&k, ctx, true)), Err(EAGAIN));
        assert!(k.run.findings.borrow().is_empty());
    }

    #[test]
    fn a_signal_leaves_the_waiter_queued_until_it_takes_itself_off() {
        let (k, ctx, vma, [t0, ..]) = armed();
        user_fault(&k, t0, vma, A);
        send_signal(&k, t0, false);
        assert_eq!(k.task(t0).state, TaskState::Running);
        assert_eq!(k.ctx(ctx).fault_pending_wqh.len(), 1);
        let uwq = k.task(t0).blocked.map(|b| b.uwq).unwrap();
        finish_wait(&k, uwq);
        assert!(k.ctx(ctx).fault_pending_wqh.is_empty());
        assert_eq!(k.ctx(ctx).refcount, 1);

        // With the signal still pending the next fault does not sleep at all.
        k.task_mut(t0).blocked = None;
        user_fault(&k, t0, vma, A);
        assert!(k.task(t0).blocked.is_none());
        assert_eq!((k.ctx(ctx).refcount, k.s().uwqs.len()), (1, 0));
    }

    #[test]
    fn a_kernel_mode_fault_sleeps_until_woken_and_wakes_the_reader() {
        let (k, ctx, vma, [t0, _, monitor]) = armed();
        let mut read = pin!(userfaultfd_ctx_read(&k, ctx, false));
        assert!(poll(read.as_mut()).is_pending());
        assert_eq!(k.task(monitor).state, TaskState::Interruptible);

        k.run.current.set(Some(t0));
        let mm = k.vma(vma).vm_mm;
        now(mmap_read_lock(&k, mm));
        let mut f = vmf(vma, A, FAULT_FLAG_WRITE);
        let mut fault = pin!(handle_userfault(&k, &mut f, VM_UFFD_MISSING));
        assert!(poll(fault.as_mut()).is_pending());

        k.run.current.set(Some(monitor));
        let msg = Msg::Pagefault { address: A, flags: UFFD_PAGEFAULT_FLAG_WRITE, ptid: None };
        assert_eq!(poll(read.as_mut()), Poll::Ready(Ok(msg)));
        assert!(k.ctx(ctx).fd_wqh.is_empty());
        now(userfaultfd_wake(&k, ctx, A, PAGE_SIZE));

        k.run.current.set(Some(t0));
        assert_eq!(poll(fault.as_mut()), Poll::Ready(VM_FAULT_RETRY));
        assert_eq!((k.ctx(ctx).refcount, k.s().uwqs.len()), (1, 0));
        assert!(k.run.findings.borrow().is_empty());
    }
}
