// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: contexts from userfaultfd(2) to close(2), the API handshake, read and poll.

use crate::BUG_ON;
use crate::VM_BUG_ON;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::*;
use crate::mm::exit::{mmdrop, mmget_not_zero, mmgrab, mmput};
use crate::mm::locking::{mmap_write_lock, mmap_write_unlock};
use crate::mm::mmap::{vma_merge, vma_next, vma_set_page_prot, with_sticky};
use crate::point::{Touch, point, schedule};
use crate::syscall::{Msg, Out, Outcome};
use crate::uffd::handle::{__wake_userfault, UserfaultfdWakeRange, wake_up_poll, wake_up_state};
use crate::uffd::mcopy::uffd_wp_range;
use crate::uffd::vma::userfaultfd_wp;
use crate::vfs::fd_install;

pub use crate::uffd::ioctl::{
    userfaultfd_continue, userfaultfd_copy, userfaultfd_poison, userfaultfd_wake, userfaultfd_writeprotect, userfaultfd_zeropage,
};
pub use crate::uffd::register::{userfaultfd_register, userfaultfd_unregister};

/// `UFFD_API`: the only version there has ever been.
pub const UFFD_API: u64 = 0xaa;
/// `UFFD_API_FEATURES` of v5.14.
const UFFD_API_FEATURES: UffdFeatures = UffdFeatures::from_bits_truncate((1 << 11) - 1);
/// What came later, with the delta that each came by.
const LATER_FEATURES: [(Delta, UffdFeatures); 6] = [
    (Delta::UFFD_FEATURE_EXACT_ADDRESS, UFFD_FEATURE_EXACT_ADDRESS),
    (Delta::PTE_MARKER_UFFD_WP, UFFD_FEATURE_WP_HUGETLBFS_SHMEM),
    (Delta::UFFD_FEATURE_WP_UNPOPULATED, UFFD_FEATURE_WP_UNPOPULATED),
    (Delta::UFFDIO_POISON, UFFD_FEATURE_POISON),
    (Delta::UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_ASYNC),
    (Delta::UFFD_FEATURE_MOVE, UFFD_FEATURE_MOVE),
];

/// `UFFD_API_FEATURES`: what this kernel supports.
pub fn uffd_api_features(k: &Kernel) -> UffdFeatures {
    LATER_FEATURES.iter().filter(|(delta, _)| k.has(*delta)).fold(UFFD_API_FEATURES, |all, (_, feature)| all | *feature)
}
/// `UFFD_API_IOCTLS`: REGISTER, UNREGISTER and API.
pub const UFFD_API_IOCTLS: u64 = 1 | 1 << 1 | 1 << 0x3f;

/// One more reference.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_ctx_get @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; the caller knows that the context is alive
/// Errors:   none; a count of zero is a BUG
pub fn userfaultfd_ctx_get(k: &Kernel, ctx: CtxId) {
    let was = {
        let mut c = k.ctx_mut(ctx);
        c.refcount += 1;
        c.refcount - 1
    };
    if was <= 0 {
        k.report(Symptom::BugOn, || format!("reference taken on {ctx}, which has none left"));
    }
}

/// One reference less; the last one frees the context.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_ctx_put @ v5.14
/// Fidelity: MIRROR
/// Locks:    none of the context's own
/// Errors:   none
pub fn userfaultfd_ctx_put(k: &Kernel, ctx: CtxId) {
    let now = {
        let mut c = k.ctx_mut(ctx);
        c.refcount -= 1;
        c.refcount
    };
    if now < 0 {
        k.report(Symptom::WarnOn, || format!("refcount_t: underflow; use-after-free. ({ctx})"));
    }
    if now == 0 {
        VM_BUG_ON!(k, !k.ctx(ctx).fault_pending_wqh.is_empty());
        VM_BUG_ON!(k, !k.ctx(ctx).event_wqh.is_empty());
        VM_BUG_ON!(k, !k.ctx(ctx).fault_wqh.is_empty());
        VM_BUG_ON!(k, !k.ctx(ctx).fd_wqh.is_empty());
        let mm = k.ctx(ctx).mm;
        k.sm().ctxs.remove(ctx);
        if let Some(mm) = mm {
            mmdrop(k, mm);
        }
    }
}

/// May the running task do what CAP_SYS_PTRACE allows?
fn capable_sys_ptrace(k: &Kernel) -> bool {
    let group = k.task(k.current()).group;
    k.process(group).privileged
}

/// userfaultfd(2): a new context for current->mm, and the file that stands for it. The caller installs the descriptor.
///
/// Kernel:   fs/userfaultfd.c:SYSCALL_DEFINE1(userfaultfd) @ v5.14
/// Fidelity: TRIMMED(unknown flags were -EINVAL, there are none here; vm.unprivileged_userfaultfd is 0, the default)
/// Locks:    none
/// Errors:   EPERM unprivileged and not UFFD_USER_MODE_ONLY; ENOMEM
pub fn sys_userfaultfd(k: &Kernel, nonblock: bool, user_mode_only: bool) -> KResult<FileId> {
    let _f = k.enter("sys_userfaultfd", || format!("nonblock={nonblock} user_mode_only={user_mode_only}"));
    if !user_mode_only && !capable_sys_ptrace(k) {
        k.branch("kernel-mode faults need CAP_SYS_PTRACE: -EPERM");
        return Err(EPERM);
    }
    let Some(mm) = k.current_mm() else {
        k.report(Symptom::BugOn, || "BUG_ON(!current->mm)".to_string());
        return Err(ESRCH);
    };
    if k.should_fail("userfaultfd_ctx") {
        return Err(ENOMEM);
    }
    let ctx = k.sm().ctxs.insert(UserfaultfdCtx {
        state: UffdState::WaitApi,
        features: UffdFeatures::empty(),
        user_mode_only,
        nonblock,
        released: false,
        mmap_changing: 0,
        mm: Some(mm),
        refcount: 1,
        ..UserfaultfdCtx::default()
    });
    // The mm struct must outlive the context; its users need not.
    mmgrab(k, mm);
    Ok(anon_inode_file(k, ctx, nonblock))
}

/// The file of a context (`anon_inode_getfile` with `userfaultfd_fops`). It takes over one reference of the context.
fn anon_inode_file(k: &Kernel, ctx: CtxId, nonblock: bool) -> FileId {
    let f_mode_write = !k.has(Delta::UFFD_RDONLY);
    k.sm().files.insert(File {
        kind: FileKind::Userfaultfd(ctx),
        f_count: 1,
        f_mode_read: true,
        f_mode_write,
        nonblock,
        ..File::default()
    })
}

/// The last descriptor is closed: disarm the address space and wake everybody.
/// UFFD_WP_RESET_ON_CLOSE: the write protection of the pages goes with the registration.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_release @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops mmap_lock for writing, then fault_pending_wqh.lock
/// Errors:   none
pub async fn userfaultfd_release(k: &Kernel, ctx: CtxId) {
    let _f = k.enter("userfaultfd_release", || format!("{ctx}"));
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);

    point(k, Touch::WriteCtx(ctx)).await;
    k.ctx_mut(ctx).released = true;

    'wakeup: {
        if !mmget_not_zero(k, mm) {
            k.branch("the address space is gone: only wake");
            break 'wakeup;
        }

        // Faults that come while released is set and the flags are not cleared yet go round without a message. The flags are
        // cleared under mmap_lock for writing, and a waiter is queued under it for reading, so nobody is overlooked below.
        mmap_write_lock(k, mm).await;
        let mut prev: Option<VmaId> = None;
        let mut next = k.mm(mm).mmap.first().copied();
        while let Some(mut vma) = next {
            let v = k.vma(vma);
            BUG_ON!(k, v.ctx.is_some() != v.vm_flags.intersects(__VM_UFFD_FLAGS));
            if v.ctx != Some(ctx) {
                prev = Some(vma);
                next = vma_next(k, vma);
                continue;
            }
            if k.has(Delta::UFFD_WP_RESET_ON_CLOSE) && userfaultfd_wp(k, vma) {
                let _ = uffd_wp_range(k, vma, v.vm_start, v.vm_end - v.vm_start, false).await;
            }
            let mut new_flags = v.vm_flags - __VM_UFFD_FLAGS;
            // Boxed: a merge may drop a file and end here again.
            prev =
                Box::pin(vma_merge(k, mm, prev, v.vm_start, v.vm_end, new_flags, v.anon_vma, v.vm_file, v.vm_pgoff, None)).await;
            match prev {
                Some(merged) => {
                    vma = merged;
                    new_flags = with_sticky(k, vma, new_flags);
                }
                None => prev = Some(vma),
            }
            disarm(k, vma, new_flags);
            next = vma_next(k, vma);
        }
        mmap_write_unlock(k, mm);
        // Boxed: the last user's mmput closes the files it maps.
        Box::pin(mmput(k, mm)).await;
    }

    // No address: all of them.
    __wake_userfault(k, ctx, UserfaultfdWakeRange { start: 0, len: 0 }).await;

    // Events that nobody will read any more.
    let event_wqh = k.ctx(ctx).event_wqh.clone();
    for ewq in event_wqh {
        let task = k.uwq(ewq).task;
        wake_up_state(k, task);
    }

    wake_up_poll(k, ctx);
    userfaultfd_ctx_put(k, ctx);
}

/// Give a VMA other flags. UFFD_WP_WRITENOTIFY: with VM_UFFD_WP coming or going, those of a shared one say something else about
/// the write bit of new entries.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_set_vm_flags @ v6.12
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub(crate) fn userfaultfd_set_vm_flags(k: &Kernel, vma: VmaId, flags: VmFlags) {
    let v = k.vma(vma);
    let uffd_wp_changed = (v.vm_flags ^ flags).contains(VM_UFFD_WP);
    k.vma_mut(vma).vm_flags = flags;
    if k.has(Delta::UFFD_WP_WRITENOTIFY) && v.vm_flags.contains(VM_SHARED) && uffd_wp_changed {
        vma_set_page_prot(k, vma);
    }
}

/// Take the context and the flags off a VMA. mmap_lock is held for writing.
pub(crate) fn disarm(k: &Kernel, vma: VmaId, new_flags: VmFlags) {
    userfaultfd_set_vm_flags(k, vma, new_flags);
    k.vma_mut(vma).ctx = None;
    k.trace(|| Event::Vma { vma, what: "userfaultfd context taken off".to_string() });
}

/// The API handshake: agree on a version, learn what the kernel can, say what is wanted.
///
/// UFFDIO_API_CMPXCHG: state and features are one word, which is set once, after everything else has been checked.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_api @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied)
/// Locks:    none: two calls at once may both find WAIT_API
/// Errors:   EINVAL not the first call (nothing written; with UFFDIO_API_CMPXCHG zeroed); EINVAL version or feature unknown,
///           EPERM EVENT_FORK without CAP_SYS_PTRACE (the structure is zeroed)
pub async fn userfaultfd_api(k: &Kernel, ctx: CtxId, api: u64, features: u64) -> Outcome {
    let _f = k.enter("userfaultfd_api", || format!("api={api:#x} features={features:#x}"));
    let ret;
    'err_out: {
        point(k, Touch::ReadCtx(ctx)).await;
        let cmpxchg = k.has(Delta::UFFDIO_API_CMPXCHG);
        if !cmpxchg && k.ctx(ctx).state != UffdState::WaitApi {
            k.branch("not the first UFFDIO_API: -EINVAL");
            return Outcome::err(EINVAL);
        }
        let supported = uffd_api_features(k);
        let wanted = UffdFeatures::from_bits(features).filter(|f| api == UFFD_API && supported.contains(*f));
        let Some(mut wanted) = wanted else {
            k.branch("unknown version or feature: zero the structure, -EINVAL");
            ret = EINVAL;
            break 'err_out;
        };
        if wanted.contains(UFFD_FEATURE_EVENT_FORK) && !capable_sys_ptrace(k) {
            k.branch("EVENT_FORK needs CAP_SYS_PTRACE: zero the structure, -EPERM");
            ret = EPERM;
            break 'err_out;
        }
        // Whoever resolves its faults without asking must have the marks that say where.
        if wanted.contains(UFFD_FEATURE_WP_ASYNC) {
            wanted |= UFFD_FEATURE_WP_UNPOPULATED;
        }
        // The answer is copied out before the state changes.
        point(k, Touch::WriteCtx(ctx)).await;
        if cmpxchg && k.ctx(ctx).state != UffdState::WaitApi {
            k.branch("not the first UFFDIO_API: zero the structure, -EINVAL");
            ret = EINVAL;
            break 'err_out;
        }
        k.ctx_mut(ctx).state = UffdState::Running;
        // What was asked for, not what there is.
        k.ctx_mut(ctx).features = wanted;
        return Outcome::ok(0).with(Out::Api { features: supported.bits(), ioctls: UFFD_API_IOCTLS });
    }
    Outcome::err(ret).with(Out::Api { features: 0, ioctls: 0 })
}

/// The oldest fault that was not read yet.
///
/// Kernel:   fs/userfaultfd.c:find_userfault @ v5.14
/// Fidelity: MIRROR
/// Locks:    fault_pending_wqh.lock held
/// Errors:   none
fn find_userfault(k: &Kernel, ctx: CtxId) -> Option<UwqId> {
    k.ctx(ctx).fault_pending_wqh.last().copied()
}

/// The oldest event that was not read yet.
///
/// Kernel:   fs/userfaultfd.c:find_userfault_evt @ v5.14
/// Fidelity: MIRROR
/// Locks:    event_wqh.lock held
/// Errors:   none
fn find_userfault_evt(k: &Kernel, ctx: CtxId) -> Option<UwqId> {
    k.ctx(ctx).event_wqh.last().copied()
}

/// An event was read: let the task that caused it go on.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_event_complete @ v5.14
/// Fidelity: MIRROR
/// Locks:    event_wqh.lock held
/// Errors:   none
fn userfaultfd_event_complete(k: &Kernel, ctx: CtxId, ewq: UwqId) {
    k.uwq_mut(ewq).msg = None;
    // All of them: the others find their message unread and sleep again.
    let event_wqh = k.ctx(ctx).event_wqh.clone();
    for waiter in event_wqh {
        let task = k.uwq(waiter).task;
        wake_up_state(k, task);
    }
    k.ctx_mut(ctx).event_wqh.retain(|q| *q != ewq);
    k.trace(|| Event::Queue { ctx, what: format!("event {ewq} completed") });
}

/// Give the monitor a descriptor for the child's context.
///
/// Kernel:   fs/userfaultfd.c:resolve_userfault_fork @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EMFILE and whatever else a new descriptor can fail with
fn resolve_userfault_fork(k: &Kernel, new: CtxId) -> KResult<u8> {
    let nonblock = k.ctx(new).nonblock;
    let file = anon_inode_file(k, new, nonblock);
    match fd_install(k, file) {
        Ok(fd) => Ok(fd),
        Err(e) => {
            // The kernel reserves the number before it makes the file, so the file's release must not run.
            k.sm().files.remove(file);
            Err(e)
        }
    }
}

/// Read one message: the oldest pending fault, else the oldest event, else sleep.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_ctx_read, userfaultfd_read @ v5.14
/// Fidelity: TRIMMED(one message a call, the buffer can always be written)
/// Locks:    none on entry; fd_wqh.lock, fault_pending_wqh.lock and event_wqh.lock are one atomic step for each look
/// Errors:   EINVAL before UFFDIO_API; EAGAIN nothing there and O_NONBLOCK; ERESTARTSYS a signal; EMFILE for a fork event
pub async fn userfaultfd_ctx_read(k: &Kernel, ctx: CtxId, nonblock: bool) -> KResult<Msg> {
    let _f = k.enter("userfaultfd_ctx_read", || format!("{ctx}"));
    let current = k.current();
    if k.ctx(ctx).state == UffdState::WaitApi {
        k.branch("UFFDIO_API has not been called: -EINVAL");
        return Err(EINVAL);
    }

    let mut fork_nctx: Option<(CtxId, UwqId)> = None;
    let mut ret: KResult<UffdMsg>;

    k.ctx_mut(ctx).fd_wqh.insert(0, current);
    loop {
        point(k, Touch::WriteCtx(ctx)).await;
        // Set before the queues are looked at, so that a fault that comes after the look wakes us.
        k.task_mut(current).state = TaskState::Interruptible;
        if let Some(uwq) = find_userfault(k, ctx) {
            // From pending to read in one step: a waker that looks meanwhile must not miss it between the queues.
            {
                let mut c = k.ctx_mut(ctx);
                c.fault_pending_wqh.pop();
                c.fault_wqh.insert(0, uwq);
            }
            k.trace(|| Event::Queue { ctx, what: format!("{uwq} read") });
            ret = k.uwq(uwq).msg.ok_or(EINVAL);
            break;
        }

        if let Some(uwq) = find_userfault_evt(k, ctx) {
            let msg = k.uwq(uwq).msg;
            ret = msg.ok_or(EINVAL);
            if let Some(UffdMsg::Fork { ctx: new }) = msg {
                // Nobody else may read it while the descriptor is made; the forking task may still give up meanwhile, and
                // takes its reference with it.
                k.ctx_mut(ctx).event_wqh.retain(|q| *q != uwq);
                userfaultfd_ctx_get(k, new);
                fork_nctx = Some((new, uwq));
                break;
            }
            userfaultfd_event_complete(k, ctx, uwq);
            break;
        }

        if k.task(current).signal_pending {
            k.branch("a signal is pending: -ERESTARTSYS");
            ret = Err(ERESTARTSYS);
            break;
        }
        if nonblock {
            k.branch("nothing to read: -EAGAIN");
            ret = Err(EAGAIN);
            break;
        }
        schedule(k).await;
    }
    {
        let mut c = k.ctx_mut(ctx);
        if let Some(at) = c.fd_wqh.iter().position(|t| *t == current) {
            c.fd_wqh.remove(at);
        }
    }
    k.task_mut(current).state = TaskState::Running;

    let mut ufd = 0;
    if let Some((fork_nctx, uwq)) = fork_nctx {
        point(k, Touch::Alloc).await;
        let resolved = resolve_userfault_fork(k, fork_nctx);
        // A forking task that gave up has freed its event.
        let aborted = k.s().uwqs.get(uwq).is_none();
        if !aborted {
            // The task's own reference is the one that the new file keeps.
            userfaultfd_ctx_put(k, fork_nctx);
            k.ctx_mut(ctx).event_wqh.insert(0, uwq);
            // Without a descriptor the event stays, to be read again.
            if resolved.is_ok() {
                userfaultfd_event_complete(k, ctx, uwq);
            }
        } else if resolved.is_err() {
            k.branch("fork gave up, and so do we: the child's context goes");
            userfaultfd_ctx_put(k, fork_nctx);
        }
        match resolved {
            Ok(fd) => ufd = fd,
            Err(e) => ret = Err(e),
        }
    }

    match ret {
        Ok(msg) => Ok(match msg {
            UffdMsg::Pagefault { address, flags, ptid } => {
                Msg::Pagefault { address, flags, ptid: ptid.map(|t| t.number() as u8) }
            }
            UffdMsg::Fork { .. } => Msg::Fork { ufd },
            UffdMsg::Remap { from, to, len } => Msg::Remap { from, to, len },
            UffdMsg::Remove { start, end } => Msg::Remove { start, end },
            UffdMsg::Unmap { start, end } => Msg::Unmap { start, end },
        }),
        Err(e) => Err(e),
    }
}

/// poll(2): (POLLIN, POLLERR).
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_poll @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; POLLERR before UFFDIO_API and for a descriptor that is not O_NONBLOCK
pub fn userfaultfd_poll(k: &Kernel, ctx: CtxId, nonblock: bool) -> (bool, bool) {
    let state = k.ctx(ctx).state;
    match state {
        UffdState::WaitApi => (false, true),
        UffdState::Running => {
            // poll on a blocking descriptor would promise a read that need not return.
            if !nonblock {
                return (false, true);
            }
            let pollin = !k.ctx(ctx).fault_pending_wqh.is_empty() || !k.ctx(ctx).event_wqh.is_empty();
            (pollin, false)
        }
    }
}
