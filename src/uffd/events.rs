// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: non-cooperative events. Whoever changes the address space tells the monitor and waits until it has read
//! that; until then `mmap_changing` keeps the monitor from filling pages at addresses that mean something else by now.

use crate::VM_BUG_ON;
use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::exit::mmgrab;
use crate::mm::locking::{mmap_read_unlock, mmap_write_lock, mmap_write_unlock};
use crate::mm::mmap::{UfList, vma_next};
use crate::point::{Touch, point, schedule};
use crate::uffd::ctx::{disarm, userfaultfd_ctx_get, userfaultfd_ctx_put, userfaultfd_set_vm_flags};
use crate::uffd::handle::wake_up_poll;

/// `struct userfaultfd_unmap_ctx`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserfaultfdUnmapCtx {
    /// Whom to tell; holds a reference.
    pub ctx: CtxId,
    /// First byte.
    pub start: u64,
    /// First byte past it.
    pub end: u64,
}

/// `struct vm_userfaultfd_ctx` of the mapping that mremap moved.
pub type VmUserfaultfdCtx = Option<CtxId>;

/// Queue an event and sleep until the monitor has read it. Takes over the caller's reference on the context.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_event_wait_completion @ v5.14
/// Fidelity: MIRROR
/// Locks:    none on entry; event_wqh.lock is one atomic step for each look; may take the child's mmap_lock for writing
/// Errors:   none
async fn userfaultfd_event_wait_completion(k: &Kernel, ctx: CtxId, msg: UffdMsg) {
    let _f = k.enter("userfaultfd_event_wait_completion", || format!("{ctx} {msg:?}"));
    let current = k.current();
    let mut release_new_ctx: Option<CtxId> = None;

    'out: {
        if WARN_ON_ONCE!(k, k.task(current).exiting) {
            break 'out;
        }

        let ewq = k.sm().uwqs.insert(Uwq { msg: Some(msg), waken: false, task: current, ctx });

        point(k, Touch::WriteCtx(ctx)).await;
        // From here on read and poll see the event.
        k.ctx_mut(ctx).event_wqh.insert(0, ewq);
        k.trace(|| Event::Queue { ctx, what: format!("event {ewq}: {msg:?}") });
        loop {
            k.task_mut(current).state = TaskState::Killable;
            if k.uwq(ewq).msg.is_none() {
                k.branch("the monitor has read the event");
                break;
            }
            if k.ctx(ctx).released || k.task(current).fatal_signal_pending {
                k.branch("released or killed: give up");
                // A reader may have it on a list of its own at the moment; then it finds it gone.
                k.ctx_mut(ctx).event_wqh.retain(|q| *q != ewq);
                if let Some(UffdMsg::Fork { ctx: new }) = k.uwq(ewq).msg {
                    release_new_ctx = Some(new);
                }
                break;
            }
            wake_up_poll(k, ctx);
            schedule(k).await;
            point(k, Touch::ReadCtx(ctx)).await;
        }
        k.task_mut(current).state = TaskState::Running;
        k.sm().uwqs.remove(ewq);

        if let Some(release_new_ctx) = release_new_ctx {
            let mm = k.ctx(release_new_ctx).mm.unwrap_or(MmId::DANGLING);
            // The child's VMAs still point to a context that nobody will ever serve.
            mmap_write_lock(k, mm).await;
            let vmas = k.mm(mm).mmap.clone();
            for vma in vmas {
                let v = k.vma(vma);
                if v.ctx == Some(release_new_ctx) {
                    disarm(k, vma, v.vm_flags - __VM_UFFD_FLAGS);
                }
            }
            mmap_write_unlock(k, mm);

            userfaultfd_ctx_put(k, release_new_ctx);
        }
    }
    point(k, Touch::WriteCtx(ctx)).await;
    mmap_changing_dec(k, ctx);
    userfaultfd_ctx_put(k, ctx);
}

/// `ctx->mmap_changing = true`; MMAP_CHANGING_ATOMIC: `atomic_inc(&ctx->mmap_changing)`.
fn mmap_changing_inc(k: &Kernel, ctx: CtxId) {
    let atomic = k.has(Delta::MMAP_CHANGING_ATOMIC);
    let mut c = k.ctx_mut(ctx);
    c.mmap_changing = if atomic { c.mmap_changing + 1 } else { 1 };
}

/// `ctx->mmap_changing = false`, whoever else still waits with an event of his own; MMAP_CHANGING_ATOMIC: `atomic_dec`.
fn mmap_changing_dec(k: &Kernel, ctx: CtxId) {
    if !k.has(Delta::MMAP_CHANGING_ATOMIC) {
        k.ctx_mut(ctx).mmap_changing = 0;
        return;
    }
    k.ctx_mut(ctx).mmap_changing -= 1;
    VM_BUG_ON!(k, k.ctx(ctx).mmap_changing < 0);
}

/// Fork copies a VMA: with EVENT_FORK the copy gets a child context, one per context of the parent; else it gets none.
///
/// Kernel:   fs/userfaultfd.c:dup_userfaultfd @ v5.14
/// Fidelity: MIRROR
/// Locks:    both mmap_locks held for writing
/// Errors:   ENOMEM
pub fn dup_userfaultfd(k: &Kernel, vma: VmaId, fcs: &mut Vec<(CtxId, CtxId)>) -> KResult {
    let _f = k.enter("dup_userfaultfd", || format!("{vma}"));
    let v = k.vma(vma);
    let octx = match v.ctx {
        Some(octx) if k.ctx(octx).features.contains(UFFD_FEATURE_EVENT_FORK) => octx,
        _ => {
            if v.ctx.is_some() {
                k.branch("no EVENT_FORK: the child is not watched");
            }
            k.vma_mut(vma).ctx = None;
            // The parent's protection may have been chosen for write protection.
            userfaultfd_set_vm_flags(k, vma, v.vm_flags - __VM_UFFD_FLAGS);
            return Ok(());
        }
    };

    let ctx = match fcs.iter().find(|(orig, _)| *orig == octx) {
        Some(&(_, new)) => new,
        None => {
            if k.should_fail("userfaultfd_fork_ctx") {
                return Err(ENOMEM);
            }
            if k.should_fail("userfaultfd_ctx") {
                return Err(ENOMEM);
            }
            let parent = k.ctx(octx).clone();
            let ctx = k.sm().ctxs.insert(UserfaultfdCtx {
                state: UffdState::Running,
                features: parent.features,
                user_mode_only: parent.user_mode_only,
                nonblock: parent.nonblock,
                released: false,
                mmap_changing: 0,
                mm: Some(v.vm_mm),
                refcount: 1,
                ..UserfaultfdCtx::default()
            });
            mmgrab(k, v.vm_mm);

            userfaultfd_ctx_get(k, octx);
            mmap_changing_inc(k, octx);
            fcs.push((octx, ctx));
            ctx
        }
    };

    k.vma_mut(vma).ctx = Some(ctx);
    Ok(())
}

/// Tell one parent context of the child.
///
/// Kernel:   fs/userfaultfd.c:dup_fctx @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
async fn dup_fctx(k: &Kernel, orig: CtxId, new: CtxId) {
    userfaultfd_event_wait_completion(k, orig, UffdMsg::Fork { ctx: new }).await;
}

/// Fork is done: tell every context that has a child.
///
/// Kernel:   fs/userfaultfd.c:dup_userfaultfd_complete @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; sleeps
/// Errors:   none
pub async fn dup_userfaultfd_complete(k: &Kernel, fcs: &[(CtxId, CtxId)]) {
    for &(orig, new) in fcs {
        dup_fctx(k, orig, new).await;
    }
}

/// Fork has failed: nobody is told, and the contexts of the child go. Its VMAs still name them until its address space is torn down,
/// which looks at none.
///
/// Kernel:   fs/userfaultfd.c:dup_userfaultfd_fail @ v6.12
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn dup_userfaultfd_fail(k: &Kernel, fcs: &[(CtxId, CtxId)]) {
    let _f = k.enter("dup_userfaultfd_fail", || format!("{fcs:?}"));
    for &(octx, ctx) in fcs {
        mmap_changing_dec(k, octx);
        userfaultfd_ctx_put(k, octx);
        userfaultfd_ctx_put(k, ctx);
    }
}

/// mremap has moved a mapping: with EVENT_REMAP the new VMA stays watched and the monitor will be told; else its context goes.
///
/// Kernel:   fs/userfaultfd.c:mremap_userfaultfd_prep @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub fn mremap_userfaultfd_prep(k: &Kernel, vma: VmaId, vm_ctx: &mut VmUserfaultfdCtx) {
    let v = k.vma(vma);
    let Some(ctx) = v.ctx else { return };
    if k.ctx(ctx).features.contains(UFFD_FEATURE_EVENT_REMAP) {
        *vm_ctx = Some(ctx);
        userfaultfd_ctx_get(k, ctx);
        mmap_changing_inc(k, ctx);
    } else {
        k.branch("no EVENT_REMAP: the moved mapping is not watched");
        disarm(k, vma, v.vm_flags - __VM_UFFD_FLAGS);
    }
}

/// mremap is done: tell the monitor where the mapping went. `to` is mremap's return value, which may be an error.
///
/// Kernel:   fs/userfaultfd.c:mremap_userfaultfd_complete @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; sleeps
/// Errors:   none
pub async fn mremap_userfaultfd_complete(k: &Kernel, vm_ctx: VmUserfaultfdCtx, from: u64, to: KResult<u64>, len: u64) {
    let Some(ctx) = vm_ctx else { return };
    let to = match to {
        Ok(to) if to.is_multiple_of(PAGE_SIZE) => to,
        _ => {
            // mmap_changing stays as it is.
            k.branch("mremap failed: no event");
            userfaultfd_ctx_put(k, ctx);
            return;
        }
    };
    userfaultfd_event_wait_completion(k, ctx, UffdMsg::Remap { from, to, len }).await;
}

/// mremap has failed after the monitor was to be told: it will not be.
///
/// Kernel:   fs/userfaultfd.c:mremap_userfaultfd_fail @ v6.17
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn mremap_userfaultfd_fail(k: &Kernel, vm_ctx: VmUserfaultfdCtx) {
    let Some(ctx) = vm_ctx else { return };
    mmap_changing_dec(k, ctx);
    userfaultfd_ctx_put(k, ctx);
}

/// madvise is about to drop a range. True: nobody wants to know, mmap_lock is still held. False: the monitor was told, and
/// mmap_lock was dropped for that.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_remove @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; dropped if false is returned
/// Errors:   none
pub async fn userfaultfd_remove(k: &Kernel, vma: VmaId, start: u64, end: u64) -> bool {
    let _f = k.enter("userfaultfd_remove", || format!("start={start:#x} end={end:#x}"));
    let v = k.vma(vma);
    let ctx = match v.ctx {
        Some(ctx) if k.ctx(ctx).features.contains(UFFD_FEATURE_EVENT_REMOVE) => ctx,
        _ => return true,
    };

    userfaultfd_ctx_get(k, ctx);
    point(k, Touch::WriteCtx(ctx)).await;
    mmap_changing_inc(k, ctx);
    mmap_read_unlock(k, v.vm_mm);

    userfaultfd_event_wait_completion(k, ctx, UffdMsg::Remove { start, end }).await;
    false
}

/// Is this unmapping noted already for the context?
///
/// Kernel:   fs/userfaultfd.c:has_unmap_ctx @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn has_unmap_ctx(ctx: CtxId, unmaps: &UfList, start: u64, end: u64) -> bool {
    unmaps.contains(&UserfaultfdUnmapCtx { ctx, start, end })
}

/// munmap is about to unmap a range, `vma` being the first VMA in it: note which contexts want to be told.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_unmap_prep @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM; what was noted before stays noted
pub fn userfaultfd_unmap_prep(k: &Kernel, vma: VmaId, start: u64, end: u64, unmaps: &mut UfList) -> KResult {
    let mut next = Some(vma);
    while let Some(vma) = next {
        let v = k.vma(vma);
        if v.vm_start >= end {
            break;
        }
        next = vma_next(k, vma);
        let ctx = match v.ctx {
            Some(ctx) if k.ctx(ctx).features.contains(UFFD_FEATURE_EVENT_UNMAP) => ctx,
            _ => continue,
        };
        if has_unmap_ctx(ctx, unmaps, start, end) {
            continue;
        }

        if k.should_fail("userfaultfd_unmap_ctx") {
            return Err(ENOMEM);
        }

        userfaultfd_ctx_get(k, ctx);
        mmap_changing_inc(k, ctx);
        unmaps.push(UserfaultfdUnmapCtx { ctx, start, end });
    }
    Ok(())
}

/// munmap is done: tell the contexts that were noted.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_unmap_complete @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; sleeps
/// Errors:   none
pub async fn userfaultfd_unmap_complete(k: &Kernel, _mm: MmId, uf: UfList) {
    for UserfaultfdUnmapCtx { ctx, start, end } in uf {
        userfaultfd_event_wait_completion(k, ctx, UffdMsg::Unmap { start, end }).await;
    }
}
