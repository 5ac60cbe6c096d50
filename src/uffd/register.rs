// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: which VMAs are watched, and for what.

use crate::BUG_ON;
use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::exit::{mmget_not_zero, mmput};
use crate::mm::locking::{mmap_write_lock, mmap_write_unlock};
use crate::mm::memory::{vma_is_anonymous, vma_is_shmem};
use crate::mm::mmap::{find_vma_prev, split_vma, vma_merge, vma_next, with_sticky};
use crate::syscall::{Out, Outcome};
use crate::uffd::ctx::{disarm, userfaultfd_set_vm_flags};
use crate::uffd::handle::wake_userfault;
use crate::uffd::ioctl::{_UFFDIO_CONTINUE, _UFFDIO_WRITEPROTECT, in_wait_api, uffd_api_range_ioctls};
use crate::uffd::mcopy::uffd_wp_range;
use crate::uffd::vma::userfaultfd_wp;

/// `UFFDIO_REGISTER_MODE_MISSING`.
pub const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`.
pub const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
/// `UFFDIO_REGISTER_MODE_MINOR`.
pub const UFFDIO_REGISTER_MODE_MINOR: u64 = 1 << 2;
/// `UFFD_API_REGISTER_MODES`.
pub const UFFD_API_REGISTER_MODES: u64 = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR;

/// Is the range made of whole pages of user space?
///
/// Kernel:   fs/userfaultfd.c:validate_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EINVAL
pub(crate) fn validate_range(k: &Kernel, start: u64, len: u64) -> KResult {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    validate_unaligned_range(k, start, len)
}

/// Is the range a whole number of pages long, and in user space? UFFD_BELOW_MMAP_MIN_ADDR: all of user space.
///
/// Kernel:   fs/userfaultfd.c:validate_unaligned_range @ v6.6 (the rest of validate_range before)
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EINVAL
pub(crate) fn validate_unaligned_range(k: &Kernel, start: u64, len: u64) -> KResult {
    let task_size = TASK_SIZE;
    if !len.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    if len == 0 {
        return Err(EINVAL);
    }
    if !k.has(Delta::UFFD_BELOW_MMAP_MIN_ADDR) && start < MMAP_MIN_ADDR {
        return Err(EINVAL);
    }
    if start >= task_size {
        return Err(EINVAL);
    }
    if len > task_size - start {
        return Err(EINVAL);
    }
    Ok(())
}

/// Can this VMA be watched with these flags? PTE_MARKER_UFFD_WP: a file for WP too. UFFD_FEATURE_WP_ASYNC: anything, for WP only.
///
/// Kernel:   fs/userfaultfd.c:vma_can_userfault @ v5.14
/// Fidelity: TRIMMED(hugetlb)
/// Locks:    mmap_lock held
/// Errors:   none
pub(crate) fn vma_can_userfault(k: &Kernel, vma: VmaId, vm_flags: VmFlags, wp_async: bool) -> bool {
    if !k.has(Delta::PTE_MARKER_UFFD_WP) && vm_flags.contains(VM_UFFD_WP) && vma_is_shmem(k, vma) {
        return false;
    }
    if wp_async && vm_flags & __VM_UFFD_FLAGS == VM_UFFD_WP {
        return true;
    }
    if vm_flags.contains(VM_UFFD_MINOR) && !vma_is_shmem(k, vma) {
        return false;
    }
    vma_is_anonymous(k, vma) || vma_is_shmem(k, vma)
}

/// The offset that vma_merge is told for the part of a VMA from `start` on: of the whole VMA, although it belongs to vm_start.
/// UFFD_MERGE_PGOFF: of the part.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_register, userfaultfd_unregister (vma_pgoff) @ v6.4
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   none
fn merge_pgoff(k: &Kernel, vma: &Vma, start: u64) -> u64 {
    if k.has(Delta::UFFD_MERGE_PGOFF) {
        return vma.vm_pgoff + ((start - vma.vm_start) >> PAGE_SHIFT);
    }
    vma.vm_pgoff
}

/// UFFDIO_REGISTER: watch every VMA in the range; holes between them do not matter.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_register @ v5.14
/// Fidelity: TRIMMED(hugetlb; the argument always can be copied)
/// Locks:    takes and drops mmap_lock for writing
/// Errors:   EINVAL before UFFDIO_API, bad mode or range, no VMA below the end, a VMA that cannot be watched so; ENOMEM the mm is
///           gone, no VMA above the start, a split failed (VMAs before it stay registered); EPERM without VM_MAYWRITE; EBUSY
///           watched by another context
pub async fn userfaultfd_register(k: &Kernel, ctx: CtxId, start: u64, len: u64, mode: u64) -> Outcome {
    let _f = k.enter("userfaultfd_register", || format!("start={start:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Outcome::err(EINVAL);
    }
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);
    let wp_async = k.ctx(ctx).features.contains(UFFD_FEATURE_WP_ASYNC);

    if mode == 0 {
        return Outcome::err(EINVAL);
    }
    if mode & !UFFD_API_REGISTER_MODES != 0 {
        return Outcome::err(EINVAL);
    }
    let mut vm_flags = VmFlags::empty();
    if mode & UFFDIO_REGISTER_MODE_MISSING != 0 {
        vm_flags |= VM_UFFD_MISSING;
    }
    if mode & UFFDIO_REGISTER_MODE_WP != 0 {
        vm_flags |= VM_UFFD_WP;
    }
    if mode & UFFDIO_REGISTER_MODE_MINOR != 0 {
        vm_flags |= VM_UFFD_MINOR;
    }

    if let Err(e) = validate_range(k, start, len) {
        k.branch("bad range: -EINVAL");
        return Outcome::err(e);
    }

    let mut start = start;
    let end = start + len;

    if !mmget_not_zero(k, mm) {
        k.branch("the address space is gone: -ENOMEM");
        return Outcome::err(ENOMEM);
    }

    let mut ret: KResult = Err(ENOMEM);
    mmap_write_lock(k, mm).await;
    'out_unlock: {
        let (vma, mut prev) = find_vma_prev(k, mm, start);
        let Some(mut vma) = vma else {
            k.branch("no VMA at or above the start: -ENOMEM");
            break 'out_unlock;
        };

        ret = Err(EINVAL);
        if k.vma(vma).vm_start >= end {
            k.branch("no VMA in the range: -EINVAL");
            break 'out_unlock;
        }

        // First look at all of them: a registration that cannot succeed changes nothing.
        let mut found = false;
        let mut next = Some(vma);
        while let Some(cur) = next {
            let v = k.vma(cur);
            if v.vm_start >= end {
                break;
            }
            BUG_ON!(k, v.ctx.is_some() != v.vm_flags.intersects(__VM_UFFD_FLAGS));

            ret = Err(EINVAL);
            if !vma_can_userfault(k, cur, vm_flags, wp_async) {
                k.branch("a VMA cannot be watched in this mode: -EINVAL");
                break 'out_unlock;
            }

            // Resolving a fault writes to the file or the page, whatever the VMA's own rights: the file's must allow it.
            ret = Err(EPERM);
            if !v.vm_flags.contains(VM_MAYWRITE) {
                k.branch("a VMA that may never be written: -EPERM");
                break 'out_unlock;
            }

            ret = Err(EBUSY);
            if v.ctx.is_some() && v.ctx != Some(ctx) {
                k.branch("watched by another userfaultfd: -EBUSY");
                break 'out_unlock;
            }
            found = true;
            next = vma_next(k, cur);
        }
        BUG_ON!(k, !found);

        if k.vma(vma).vm_start < start {
            prev = Some(vma);
        }

        ret = Ok(());
        loop {
            let v = k.vma(vma);
            'skip: {
                BUG_ON!(k, !vma_can_userfault(k, vma, vm_flags, wp_async));
                BUG_ON!(k, v.ctx.is_some() && v.ctx != Some(ctx));
                WARN_ON_ONCE!(k, !v.vm_flags.contains(VM_MAYWRITE));

                // More than asked for is fine too: MISSING on a VMA with MISSING and MINOR changes nothing.
                if v.ctx == Some(ctx) && v.vm_flags.contains(vm_flags) {
                    k.branch("registered already");
                    break 'skip;
                }

                if v.vm_start > start {
                    start = v.vm_start;
                }
                let vma_end = end.min(v.vm_end);

                // The modes are replaced, not added to.
                let mut new_flags = (v.vm_flags - __VM_UFFD_FLAGS) | vm_flags;
                'next: {
                    let pgoff = merge_pgoff(k, &v, start);
                    prev = vma_merge(k, mm, prev, start, vma_end, new_flags, v.anon_vma, v.vm_file, pgoff, Some(ctx)).await;
                    if let Some(merged) = prev {
                        vma = merged;
                        new_flags = with_sticky(k, vma, new_flags);
                        break 'next;
                    }
                    if v.vm_start < start {
                        ret = split_vma(k, mm, vma, start, true).await;
                        if ret.is_err() {
                            break 'out_unlock;
                        }
                    }
                    if v.vm_end > end {
                        ret = split_vma(k, mm, vma, end, false).await;
                        if ret.is_err() {
                            break 'out_unlock;
                        }
                    }
                }
                userfaultfd_set_vm_flags(k, vma, new_flags);
                k.vma_mut(vma).ctx = Some(ctx);
                k.trace(|| Event::Vma { vma, what: format!("registered with {ctx}, {vm_flags:?}") });
            }
            prev = Some(vma);
            start = k.vma(vma).vm_end;
            match vma_next(k, vma) {
                Some(n) if k.vma(n).vm_start < end => vma = n,
                _ => break,
            }
        }
    }
    mmap_write_unlock(k, mm);
    mmput(k, mm).await;
    match ret {
        Ok(()) => {
            let mut ioctls_out = uffd_api_range_ioctls(k);
            if mode & UFFDIO_REGISTER_MODE_WP == 0 {
                ioctls_out &= !(1 << _UFFDIO_WRITEPROTECT);
            }
            if mode & UFFDIO_REGISTER_MODE_MINOR == 0 {
                ioctls_out &= !(1 << _UFFDIO_CONTINUE);
            }
            Outcome::ok(0).with(Out::Ioctls(ioctls_out))
        }
        Err(e) => Outcome::err(e),
    }
}

/// UFFDIO_UNREGISTER: stop watching, whichever context watches. UFFDIO_UNREGISTER_OWN: only if it is this one.
/// UFFD_WP_RESET_ON_UNREGISTER: the write protection of the pages goes with the registration.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_unregister @ v5.14
/// Fidelity: TRIMMED(hugetlb; the argument always can be copied)
/// Locks:    takes and drops mmap_lock for writing
/// Errors:   EINVAL before UFFDIO_API, bad range, no VMA below the end, a VMA that can never be watched; ENOMEM the mm is gone,
///           no VMA above the start, a split failed (VMAs before it stay unregistered)
pub async fn userfaultfd_unregister(k: &Kernel, ctx: CtxId, start: u64, len: u64) -> Outcome {
    let _f = k.enter("userfaultfd_unregister", || format!("start={start:#x} len={len:#x}"));
    if in_wait_api(k, ctx) {
        return Outcome::err(EINVAL);
    }
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);
    let wp_async = k.ctx(ctx).features.contains(UFFD_FEATURE_WP_ASYNC);

    if let Err(e) = validate_range(k, start, len) {
        k.branch("bad range: -EINVAL");
        return Outcome::err(e);
    }

    let mut start = start;
    let end = start + len;

    if !mmget_not_zero(k, mm) {
        k.branch("the address space is gone: -ENOMEM");
        return Outcome::err(ENOMEM);
    }

    let mut ret: KResult = Err(ENOMEM);
    mmap_write_lock(k, mm).await;
    'out_unlock: {
        let (vma, mut prev) = find_vma_prev(k, mm, start);
        let Some(mut vma) = vma else {
            k.branch("no VMA at or above the start: -ENOMEM");
            break 'out_unlock;
        };

        ret = Err(EINVAL);
        if k.vma(vma).vm_start >= end {
            k.branch("no VMA in the range: -EINVAL");
            break 'out_unlock;
        }

        let mut found = false;
        let mut next = Some(vma);
        while let Some(cur) = next {
            let v = k.vma(cur);
            if v.vm_start >= end {
                break;
            }
            BUG_ON!(k, v.ctx.is_some() != v.vm_flags.intersects(__VM_UFFD_FLAGS));

            if k.has(Delta::UFFDIO_UNREGISTER_OWN) && v.ctx.is_some() && v.ctx != Some(ctx) {
                k.branch("watched by another userfaultfd: -EINVAL");
                break 'out_unlock;
            }

            // Such a VMA cannot have been registered; said all the same, so that user space sees its mistake.
            if !vma_can_userfault(k, cur, v.vm_flags, wp_async) {
                k.branch("a VMA that can never be watched: -EINVAL");
                break 'out_unlock;
            }
            found = true;
            next = vma_next(k, cur);
        }
        BUG_ON!(k, !found);

        if k.vma(vma).vm_start < start {
            prev = Some(vma);
        }

        ret = Ok(());
        loop {
            let v = k.vma(vma);
            'skip: {
                BUG_ON!(k, !vma_can_userfault(k, vma, v.vm_flags, wp_async));

                // Nothing to take off.
                let Some(vma_ctx) = v.ctx else { break 'skip };
                WARN_ON_ONCE!(k, !v.vm_flags.contains(VM_MAYWRITE));

                if v.vm_start > start {
                    start = v.vm_start;
                }
                let vma_end = end.min(v.vm_end);

                if v.vm_flags.contains(VM_UFFD_MISSING) {
                    // Who waits for a page here would wait for ever: nobody can be asked for it any more.
                    wake_userfault(k, vma_ctx, start, vma_end - start).await;
                } else {
                    k.branch("not MISSING: waiters are not woken");
                }

                if k.has(Delta::UFFD_WP_RESET_ON_UNREGISTER) && userfaultfd_wp(k, vma) {
                    let _ = uffd_wp_range(k, vma, start, vma_end - start, false).await;
                }

                let mut new_flags = v.vm_flags - __VM_UFFD_FLAGS;
                'next: {
                    let pgoff = merge_pgoff(k, &v, start);
                    prev = vma_merge(k, mm, prev, start, vma_end, new_flags, v.anon_vma, v.vm_file, pgoff, None).await;
                    if let Some(merged) = prev {
                        vma = merged;
                        new_flags = with_sticky(k, vma, new_flags);
                        break 'next;
                    }
                    if v.vm_start < start {
                        ret = split_vma(k, mm, vma, start, true).await;
                        if ret.is_err() {
                            break 'out_unlock;
                        }
                    }
                    if v.vm_end > end {
                        ret = split_vma(k, mm, vma, end, false).await;
                        if ret.is_err() {
                            break 'out_unlock;
                        }
                    }
                }
                disarm(k, vma, new_flags);
            }
            prev = Some(vma);
            start = k.vma(vma).vm_end;
            match vma_next(k, vma) {
                Some(n) if k.vma(n).vm_start < end => vma = n,
                _ => break,
            }
        }
    }
    mmap_write_unlock(k, mm);
    mmput(k, mm).await;
    match ret {
        Ok(()) => Outcome::ok(0),
        Err(e) => Outcome::err(e),
    }
}
