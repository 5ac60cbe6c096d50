// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: the ioctls that resolve faults. Arguments come in decoded; the fills put their out field in the call's [`Answer`].

use crate::BUG_ON;
use crate::VM_BUG_ON;
use crate::delta::Delta;
use crate::errno::*;
use crate::kernel::*;
use crate::mm::exit::{mmget_not_zero, mmput};
use crate::patch::McopyAtomicMode::{self, *};
use crate::point::{Touch, point_then};
use crate::syscall::{Answer, Out, Outcome};
use crate::uffd::handle::wake_userfault;
use crate::uffd::mcopy::{__mcopy_atomic, mwriteprotect_range};
use crate::uffd::register::{validate_range, validate_unaligned_range};

/// Number of UFFDIO_WAKE.
pub const _UFFDIO_WAKE: u32 = 2;
/// Number of UFFDIO_COPY.
pub const _UFFDIO_COPY: u32 = 3;
/// Number of UFFDIO_ZEROPAGE.
pub const _UFFDIO_ZEROPAGE: u32 = 4;
/// Number of UFFDIO_WRITEPROTECT.
pub const _UFFDIO_WRITEPROTECT: u32 = 6;
/// Number of UFFDIO_CONTINUE.
pub const _UFFDIO_CONTINUE: u32 = 7;
/// Number of UFFDIO_MOVE.
pub const _UFFDIO_MOVE: u32 = 5;
/// Number of UFFDIO_POISON.
pub const _UFFDIO_POISON: u32 = 8;
/// `UFFD_API_RANGE_IOCTLS` of v5.14.
const UFFD_API_RANGE_IOCTLS: u64 =
    1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY | 1 << _UFFDIO_ZEROPAGE | 1 << _UFFDIO_WRITEPROTECT | 1 << _UFFDIO_CONTINUE;

/// `UFFD_API_RANGE_IOCTLS`: what may work on a registered range.
pub(crate) fn uffd_api_range_ioctls(k: &Kernel) -> u64 {
    let mut ioctls = UFFD_API_RANGE_IOCTLS;
    if k.has(Delta::UFFDIO_POISON) {
        ioctls |= 1 << _UFFDIO_POISON;
    }
    if k.has(Delta::UFFD_FEATURE_MOVE) {
        ioctls |= 1 << _UFFDIO_MOVE;
    }
    ioctls
}

/// `UFFDIO_COPY_MODE_DONTWAKE`.
pub const UFFDIO_COPY_MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`.
pub const UFFDIO_COPY_MODE_WP: u64 = 1 << 1;
/// `UFFDIO_ZEROPAGE_MODE_DONTWAKE`.
pub const UFFDIO_ZEROPAGE_MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_CONTINUE_MODE_DONTWAKE`.
pub const UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_CONTINUE_MODE_WP` (v6.4), the same bit as that of COPY.
pub const UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;
/// `UFFDIO_POISON_MODE_DONTWAKE`.
pub const UFFDIO_POISON_MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_WRITEPROTECT_MODE_WP`.
pub const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1;
/// `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`.
pub const UFFDIO_WRITEPROTECT_MODE_DONTWAKE: u64 = 1 << 1;

/// Every ioctl but UFFDIO_API is refused with EINVAL before UFFDIO_API.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_ioctl @ v5.14
/// Fidelity: TRIMMED(the dispatch by number, which whoever calls the ioctls has done)
/// Locks:    none
/// Errors:   none; true means EINVAL
pub(crate) fn in_wait_api(k: &Kernel, ctx: CtxId) -> bool {
    let wait_api = k.ctx(ctx).state == UffdState::WaitApi;
    if wait_api {
        k.branch("UFFDIO_API has not been called: -EINVAL");
    }
    wait_api
}

/// The look at mmap_changing before an ioctl does anything.
#[inline]
pub(crate) fn mmap_changing(k: &Kernel, ctx: CtxId) -> impl Future<Output = bool> {
    point_then(k, Touch::ReadCtx(ctx), move || {
        let changing = k.ctx(ctx).mmap_changing != 0;
        if changing {
            k.branch("an event waits to be read: -EAGAIN");
        }
        changing
    })
}

/// The answer of a fill then. UFFDIO_EAGAIN_OUT: in the out field too, so that a monitor that looks there first sees it.
pub(crate) fn again(k: &Kernel, out: &Answer) -> KResult {
    if k.has(Delta::UFFDIO_EAGAIN_OUT) {
        out.put_user(Out::Done(-EAGAIN.num()));
    }
    Err(EAGAIN)
}

/// UFFDIO_WAKE: wake who waits in the range, without resolving anything.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_wake @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied)
/// Locks:    takes and drops fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, bad range
pub async fn userfaultfd_wake(k: &Kernel, ctx: CtxId, start: u64, len: u64) -> Outcome {
    let _f = k.enter("userfaultfd_wake", || format!("start={start:#x} len={len:#x}"));
    if in_wait_api(k, ctx) {
        return Outcome::err(EINVAL);
    }
    if let Err(e) = validate_range(k, start, len) {
        return Outcome::err(e);
    }
    // A length of 0 would wake everybody.
    VM_BUG_ON!(k, len == 0);
    wake_userfault(k, ctx, start, len).await;
    Outcome::ok(0)
}

/// What COPY, ZEROPAGE, CONTINUE and POISON have in common once their arguments are checked: fill, report in the out field, wake.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_copy, userfaultfd_zeropage, userfaultfd_continue (second halves) @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   ESRCH the mm is gone (out field untouched); EAGAIN part of it was done; whatever the fill fails with
async fn fill_and_wake(
    k: &Kernel,
    ctx: CtxId,
    dst: u64,
    src: u64,
    len: u64,
    mcopy_mode: McopyAtomicMode,
    mode: u64,
    dontwake: bool,
    out: &Answer,
) -> KResult {
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);
    if !mmget_not_zero(k, mm) {
        k.branch("the address space is gone: -ESRCH");
        return Err(ESRCH);
    }
    let ret = __mcopy_atomic(k, mm, ctx, dst, src, len, mcopy_mode, mode).await;
    mmput(k, mm).await;

    let done = match ret {
        Ok(done) => done,
        Err(e) => {
            out.put_user(Out::Done(-e.num()));
            return Err(e);
        }
    };
    out.put_user(Out::Done(done as i64));
    BUG_ON!(k, done == 0);
    // Only what was done is woken, and never with a length of 0, which would wake everybody.
    if !dontwake {
        wake_userfault(k, ctx, dst, done).await;
    }
    if done == len {
        Ok(())
    } else {
        k.branch("part of the range was done: -EAGAIN");
        Err(EAGAIN)
    }
}

/// UFFDIO_COPY: fill missing pages with a copy of the monitor's. UFFDIO_COPY_SRC: the source must lie in user space.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_copy @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied in and out)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, bad range or mode, source wraps; EAGAIN an event is pending, or part was done; ESRCH the
///           mm is gone; the rest from __mcopy_atomic
pub async fn userfaultfd_copy(k: &Kernel, ctx: CtxId, dst: u64, src: u64, len: u64, mode: u64, out: &Answer) -> KResult {
    let _f = k.enter("userfaultfd_copy", || format!("dst={dst:#x} src={src:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return again(k, out);
    }
    if let Err(e) = validate_range(k, dst, len) {
        return Err(e);
    }
    // The source is the monitor's business, but it must not wrap.
    if src.wrapping_add(len) <= src {
        return Err(EINVAL);
    }
    if k.has(Delta::UFFDIO_COPY_SRC)
        && let Err(e) = validate_unaligned_range(k, src, len)
    {
        return Err(e);
    }
    if mode & !(UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP) != 0 {
        return Err(EINVAL);
    }
    fill_and_wake(k, ctx, dst, src, len, MCOPY_ATOMIC_NORMAL, mode, mode & UFFDIO_COPY_MODE_DONTWAKE != 0, out).await
}

/// UFFDIO_ZEROPAGE: fill missing pages with zeroes.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_zeropage @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied in and out)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, bad range or mode; EAGAIN an event is pending, or part was done; ESRCH the mm is gone; the
///           rest from __mcopy_atomic
pub async fn userfaultfd_zeropage(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64, out: &Answer) -> KResult {
    let _f = k.enter("userfaultfd_zeropage", || format!("start={start:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return again(k, out);
    }
    if let Err(e) = validate_range(k, start, len) {
        return Err(e);
    }
    if mode & !UFFDIO_ZEROPAGE_MODE_DONTWAKE != 0 {
        return Err(EINVAL);
    }
    fill_and_wake(k, ctx, start, 0, len, MCOPY_ATOMIC_ZEROPAGE, 0, mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE != 0, out).await
}

/// UFFDIO_CONTINUE: map the pages that the file has already. UFFDIO_CONTINUE_MODE_WP: write-protected, if wanted.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_continue @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied in and out)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, bad range or mode; EAGAIN an event is pending, or part was done; ESRCH the mm is gone; the
///           rest from __mcopy_atomic
pub async fn userfaultfd_continue(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64, out: &Answer) -> KResult {
    let _f = k.enter("userfaultfd_continue", || format!("start={start:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return again(k, out);
    }
    if let Err(e) = validate_range(k, start, len) {
        return Err(e);
    }
    if start.wrapping_add(len) <= start {
        return Err(EINVAL);
    }
    let wp = if k.has(Delta::UFFDIO_CONTINUE_MODE_WP) { UFFDIO_CONTINUE_MODE_WP } else { 0 };
    if mode & !(UFFDIO_CONTINUE_MODE_DONTWAKE | wp) != 0 {
        return Err(EINVAL);
    }
    fill_and_wake(k, ctx, start, 0, len, MCOPY_ATOMIC_CONTINUE, mode & wp, mode & UFFDIO_CONTINUE_MODE_DONTWAKE != 0, out).await
}

/// UFFDIO_POISON: make the next accesses raise SIGBUS. A kernel without it knows no such number.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_poison @ v6.6
/// Fidelity: TRIMMED(the argument always can be copied in and out)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, unknown to the kernel, bad range or mode; EAGAIN an event is pending, or part was done;
///           ESRCH the mm is gone; the rest from __mcopy_atomic
pub async fn userfaultfd_poison(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64, out: &Answer) -> KResult {
    let _f = k.enter("userfaultfd_poison", || format!("start={start:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Err(EINVAL);
    }
    if !k.has(Delta::UFFDIO_POISON) {
        k.branch("no such ioctl: -EINVAL");
        return Err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return again(k, out);
    }
    if let Err(e) = validate_range(k, start, len) {
        return Err(e);
    }
    if mode & !UFFDIO_POISON_MODE_DONTWAKE != 0 {
        return Err(EINVAL);
    }
    fill_and_wake(k, ctx, start, 0, len, MCOPY_ATOMIC_POISON, 0, mode & UFFDIO_POISON_MODE_DONTWAKE != 0, out).await
}

/// UFFDIO_WRITEPROTECT: protect pages against stores, or let them be stored to again. UFFDIO_WRITEPROTECT_MMGET: in an address
/// space that is held, and is still there.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_writeprotect @ v5.14
/// Fidelity: TRIMMED(the argument always can be copied)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock; the mm is not pinned in v5.14
/// Errors:   EINVAL before UFFDIO_API, bad range or mode, WP with DONTWAKE; EAGAIN an event is pending; ENOENT no such VMA; ESRCH
///           the mm is gone
pub async fn userfaultfd_writeprotect(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    let _f = k.enter("userfaultfd_writeprotect", || format!("start={start:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Outcome::err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return Outcome::err(EAGAIN);
    }
    if let Err(e) = validate_range(k, start, len) {
        return Outcome::err(e);
    }
    if mode & !(UFFDIO_WRITEPROTECT_MODE_DONTWAKE | UFFDIO_WRITEPROTECT_MODE_WP) != 0 {
        return Outcome::err(EINVAL);
    }
    let mode_wp = mode & UFFDIO_WRITEPROTECT_MODE_WP != 0;
    let mode_dontwake = mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE != 0;
    if mode_wp && mode_dontwake {
        return Outcome::err(EINVAL);
    }
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);
    let ret = if !k.has(Delta::UFFDIO_WRITEPROTECT_MMGET) {
        mwriteprotect_range(k, mm, ctx, start, len, mode_wp).await
    } else if mmget_not_zero(k, mm) {
        let ret = mwriteprotect_range(k, mm, ctx, start, len, mode_wp).await;
        mmput(k, mm).await;
        ret
    } else {
        k.branch("the address space is gone: -ESRCH");
        Err(ESRCH)
    };
    if let Err(e) = ret {
        return Outcome::err(e);
    }
    if !mode_wp && !mode_dontwake {
        wake_userfault(k, ctx, start, len).await;
    }
    Outcome::ok(0)
}
