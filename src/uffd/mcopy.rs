// SPDX-License-Identifier: GPL-2.0-only
//! `mm/userfaultfd.c`: the loop around one page, and what no revision of the series touches.

use crate::BUG_ON;
use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{mmap_read_lock, mmap_read_unlock};
use crate::mm::memory::{vma_is_anonymous, vma_is_shmem};
use crate::mm::mmap::{find_vma, vm_get_page_prot, vma_next};
use crate::mm::mprotect::{CpFlags, change_protection, vma_wants_manual_pte_write_upgrade};
use crate::mm::page::put_page;
use crate::mm::pgtable::{
    Pmd, mm_alloc_pmd, pmd_none, pte_alloc, pte_none, pte_offset_map_lock, pte_unmap_unlock, ptep_get, set_pte_at, zero_pte,
};
use crate::mm::rmap::{anon_vma_prepare, linear_page_index};
use crate::mm::uaccess::copy_from_user;
use crate::patch::McopyAtomicMode::{self, *};
use crate::patch::mfill_atomic_pte;
use crate::point::{Touch, point};
use crate::shmem::inode::{file_inode, i_size_read};
use crate::uffd::ioctl::UFFDIO_COPY_MODE_WP;
use crate::uffd::vma::userfaultfd_wp;

/// The VMA that contains the whole range, if it has a userfaultfd context (any).
///
/// Kernel:   mm/userfaultfd.c:find_dst_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
#[inline]
fn find_dst_vma(k: &Kernel, dst_mm: MmId, dst_start: u64, len: u64) -> Option<VmaId> {
    let dst_vma = find_vma(k, dst_mm, dst_start)?;
    let v = k.vma(dst_vma);
    // Registered at all: a range that is not watched must not be filled behind its owner's back.
    v.ctx?;
    if dst_start < v.vm_start || dst_start.wrapping_add(len) > v.vm_end {
        return None;
    }
    Some(dst_vma)
}

/// Map the shared zero page, where memory is anonymous or a private mapping of a file.
///
/// Kernel:   mm/userfaultfd.c:mfill_zeropage_pte @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; takes and drops the PTE lock
/// Errors:   EFAULT past i_size; EEXIST the PTE is populated
pub async fn mfill_zeropage_pte(k: &Kernel, dst_mm: MmId, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64) -> KResult {
    let _f = k.enter("mfill_zeropage_pte", || format!("dst_addr={dst_addr:#x}"));
    let mut ret: KResult;
    let v = k.vma(dst_vma);
    let _dst_pte = zero_pte(v.vm_page_prot);
    let dst_pte = pte_offset_map_lock(k, dst_pmd, dst_addr).await;
    'out_unlock: {
        // A file that stands behind private memory too, and be it /dev/zero, whose size is 0.
        if let Some(file) = v.vm_file {
            let inode = file_inode(k, file);
            let offset = linear_page_index(k, dst_vma, dst_addr);
            let max_off = max_off(i_size_read(k, inode).await);
            ret = Err(EFAULT);
            if offset >= max_off {
                k.branch("beyond i_size: -EFAULT");
                break 'out_unlock;
            }
        }
        ret = Err(EEXIST);
        if !pte_none(ptep_get(k, dst_pte)) {
            k.branch("PTE is populated: -EEXIST");
            break 'out_unlock;
        }
        set_pte_at(k, dst_mm, dst_addr, dst_pte, _dst_pte);
        ret = Ok(());
    }
    pte_unmap_unlock(k, dst_pte);
    ret
}

/// Fill a range page by page until an error; what was done counts for more than the error. UFFD_MFILL_LOCK: the VMA is looked for
/// before mmap_changing is, and gets its anon_vma, if it is private, before anything else.
///
/// Kernel:   mm/userfaultfd.c:__mcopy_atomic @ v5.14
/// Fidelity: TRIMMED(hugetlb and huge pmds; the VMA lock and map_changing_lock of v6.9: mmap_lock stands for both)
/// Locks:    takes and drops mmap_lock for reading, again for each page that has to be copied outside of it
/// Errors:   only if nothing was done: EAGAIN mmap_changing; ENOENT no single registered VMA; EINVAL this VMA cannot; ENOMEM page
///           tables or anon_vma; EFAULT source unreadable; the rest from mfill_atomic_pte
pub async fn __mcopy_atomic(
    k: &Kernel,
    dst_mm: MmId,
    ctx: CtxId,
    dst_start: u64,
    src_start: u64,
    len: u64,
    mcopy_mode: McopyAtomicMode,
    mode: u64,
) -> KResult<u64> {
    let _f = k.enter("__mcopy_atomic", || format!("dst_start={dst_start:#x} len={len:#x} {mcopy_mode:?}"));
    let mut err: KResult;

    BUG_ON!(k, !dst_start.is_multiple_of(PAGE_SIZE));
    BUG_ON!(k, !len.is_multiple_of(PAGE_SIZE));
    BUG_ON!(k, src_start.wrapping_add(len) <= src_start);
    BUG_ON!(k, dst_start.wrapping_add(len) <= dst_start);

    let mut src_addr = src_start;
    let mut dst_addr = dst_start;
    let mut copied: u64 = 0;
    let mut page: Option<PageId> = None;
    let mut seen = u64::MAX;

    'out: {
        'retry: loop {
            // One retry for each page is what a source that is not resident takes.
            let stuck = std::mem::replace(&mut seen, copied) == copied;
            if stuck && k.endless("__mcopy_atomic retry") {
                err = Err(EINTR);
                break 'out;
            }
            mmap_read_lock(k, dst_mm).await;

            'out_unlock: {
                // uffd_mfill_lock: a private VMA can be locked alone only once it has an anon_vma. It gets one whether or not
                // anything comes of the call. What is not there any more is told as that, not as a change under way.
                let mut locked = None;
                if k.has(Delta::UFFD_MFILL_LOCK) {
                    if let Some(vma) = find_vma(k, dst_mm, dst_start)
                        && k.vma(vma).vm_start <= dst_start
                        && !k.vma(vma).vm_flags.contains(VM_SHARED)
                        && anon_vma_prepare(k, vma).await.is_err()
                    {
                        err = Err(ENOMEM);
                        break 'out_unlock;
                    }
                    locked = find_dst_vma(k, dst_mm, dst_start, len);
                    if locked.is_none() {
                        k.branch("no single registered VMA holds the range: -ENOENT");
                        err = Err(ENOENT);
                        break 'out_unlock;
                    }
                }

                // A fork, mremap, munmap or madvise has begun, and the monitor does not know it yet: what it asks for may be
                // wrong by now.
                point(k, Touch::ReadCtx(ctx)).await;
                err = Err(EAGAIN);
                if k.ctx(ctx).mmap_changing != 0 {
                    k.branch("mmap_changing: -EAGAIN");
                    break 'out_unlock;
                }

                // The whole range again, also on a retry with part of it done.
                err = Err(ENOENT);
                let Some(dst_vma) = locked.or_else(|| find_dst_vma(k, dst_mm, dst_start, len)) else {
                    k.branch("no single registered VMA holds the range: -ENOENT");
                    break 'out_unlock;
                };
                let vm_flags = k.vma(dst_vma).vm_flags;

                // Shared anonymous memory is a shmem file and has its vm_ops.
                err = Err(EINVAL);
                if WARN_ON_ONCE!(k, vma_is_anonymous(k, dst_vma) && vm_flags.contains(VM_SHARED)) {
                    break 'out_unlock;
                }

                let wp_copy = mode & UFFDIO_COPY_MODE_WP != 0;
                if wp_copy && !vm_flags.contains(VM_UFFD_WP) {
                    k.branch("write-protect asked for, but not registered: -EINVAL");
                    break 'out_unlock;
                }

                if !vma_is_anonymous(k, dst_vma) && !vma_is_shmem(k, dst_vma) {
                    break 'out_unlock;
                }
                if !vma_is_shmem(k, dst_vma) && mcopy_mode == MCOPY_ATOMIC_CONTINUE {
                    k.branch("CONTINUE on memory without a page cache: -EINVAL");
                    break 'out_unlock;
                }

                // Private pages will be mapped, and the reverse map must find them.
                err = Err(ENOMEM);
                if !vm_flags.contains(VM_SHARED) && anon_vma_prepare(k, dst_vma).await.is_err() {
                    break 'out_unlock;
                }

                while src_addr < src_start.wrapping_add(len) {
                    BUG_ON!(k, dst_addr >= dst_start.wrapping_add(len));

                    let Some(dst_pmd) = mm_alloc_pmd(k, dst_mm, dst_addr).await else {
                        err = Err(ENOMEM);
                        break;
                    };
                    if pmd_none(k, dst_pmd) && !pte_alloc(k, dst_mm, dst_pmd).await {
                        err = Err(ENOMEM);
                        break;
                    }
                    BUG_ON!(k, pmd_none(k, dst_pmd));

                    err = mfill_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, src_addr, &mut page, mcopy_mode, wp_copy).await;

                    if err == Err(ENOENT) {
                        // The source could not be read with page faults disabled: copy with all locks dropped, then start over.
                        mmap_read_unlock(k, dst_mm);
                        BUG_ON!(k, page.is_none());
                        let Some(kaddr) = page else { break 'out };
                        k.branch("source not present: copy it with mmap_lock dropped");
                        let left = copy_from_user(k, kaddr, 0, src_addr, PAGE_SIZE).await;
                        if left != 0 {
                            k.branch("source unreadable: -EFAULT");
                            err = Err(EFAULT);
                            break 'out;
                        }
                        continue 'retry;
                    } else {
                        BUG_ON!(k, page.is_some());
                    }

                    if err.is_ok() {
                        dst_addr += PAGE_SIZE;
                        src_addr += PAGE_SIZE;
                        copied += PAGE_SIZE;

                        if k.task(k.current()).fatal_signal_pending {
                            k.branch("a fatal signal is pending: -EINTR");
                            err = Err(EINTR);
                        }
                    }
                    if err.is_err() {
                        break;
                    }
                }
            }
            mmap_read_unlock(k, dst_mm);
            break 'retry;
        }
    }
    if let Some(page) = page {
        put_page(k, page);
    }
    BUG_ON!(k, copied == 0 && err.is_ok());
    // An error after partial success is not lost: the caller is told to go on, and meets it again.
    if copied != 0 {
        return Ok(copied);
    }
    match err {
        Ok(()) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Write-protect part of a VMA for userfaultfd, or take that away.
///
/// UFFD_WP_RANGE_PROT: the protection of the VMA says already that entries are made without the write bit. Where the
/// protection is taken away, entries that need not fault for another reason get it back; of a shared VMA none does, since its
/// protection does not follow from its flags.
///
/// Kernel:   mm/userfaultfd.c:uffd_wp_range @ v6.1 (part of mwriteprotect_range before)
/// Fidelity: TRIMMED(TLB flush)
/// Locks:    mmap_lock held
/// Errors:   ENOMEM no page table for markers
pub async fn uffd_wp_range(k: &Kernel, dst_vma: VmaId, start: u64, len: u64, enable_wp: bool) -> KResult {
    let _f = k.enter("uffd_wp_range", || format!("{dst_vma} start={start:#x} len={len:#x} enable_wp={enable_wp}"));
    let v = k.vma(dst_vma);
    let mut cp_flags = CpFlags { uffd_wp: enable_wp, uffd_wp_resolve: !enable_wp, ..CpFlags::default() };
    let newprot = if k.has(Delta::UFFD_WP_RANGE_PROT) {
        cp_flags.try_change_writable = !enable_wp && vma_wants_manual_pte_write_upgrade(k, dst_vma);
        v.vm_page_prot
    } else if enable_wp {
        vm_get_page_prot(v.vm_flags - VM_WRITE)
    } else {
        vm_get_page_prot(v.vm_flags)
    };
    match change_protection(k, dst_vma, start, start + len, newprot, cp_flags).await {
        Err(e) if k.has(Delta::UFFD_WP_ENOMEM) => Err(e),
        _ => Ok(()),
    }
}

/// Write-protect a range for userfaultfd, or take that away. PTE_MARKER_UFFD_WP: of files too. UFFDIO_WRITEPROTECT_VMAS: of as
/// many VMAs as there are, one after the other.
///
/// Kernel:   mm/userfaultfd.c:mwriteprotect_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops mmap_lock for reading
/// Errors:   EAGAIN mmap_changing; ENOENT no single VMA, or one that is shared, not anonymous or not registered for it; ENOMEM no
///           page table for markers
pub async fn mwriteprotect_range(k: &Kernel, dst_mm: MmId, ctx: CtxId, start: u64, len: u64, enable_wp: bool) -> KResult {
    let _f = k.enter("mwriteprotect_range", || format!("start={start:#x} len={len:#x} enable_wp={enable_wp}"));
    let mut err: KResult;

    BUG_ON!(k, !start.is_multiple_of(PAGE_SIZE));
    BUG_ON!(k, !len.is_multiple_of(PAGE_SIZE));
    BUG_ON!(k, start.wrapping_add(len) <= start);

    mmap_read_lock(k, dst_mm).await;
    'out_unlock: {
        point(k, Touch::ReadCtx(ctx)).await;
        err = Err(EAGAIN);
        if k.ctx(ctx).mmap_changing != 0 {
            k.branch("mmap_changing: -EAGAIN");
            break 'out_unlock;
        }

        err = Err(ENOENT);
        if k.has(Delta::UFFDIO_WRITEPROTECT_VMAS) {
            let end = start + len;
            let mut next = find_vma(k, dst_mm, start);
            while let Some(dst_vma) = next {
                let v = k.vma(dst_vma);
                if v.vm_start >= end {
                    break;
                }
                if !userfaultfd_wp(k, dst_vma) {
                    k.branch("a VMA that is not registered for WP: -ENOENT, those before it are done");
                    err = Err(ENOENT);
                    break;
                }
                let _start = v.vm_start.max(start);
                let _end = v.vm_end.min(end);
                err = uffd_wp_range(k, dst_vma, _start, _end - _start, enable_wp).await;
                if err.is_err() {
                    break;
                }
                next = vma_next(k, dst_vma);
            }
            break 'out_unlock;
        }
        let Some(dst_vma) = find_dst_vma(k, dst_mm, start, len) else {
            k.branch("no single registered VMA holds the range: -ENOENT");
            break 'out_unlock;
        };
        let markers = k.has(Delta::PTE_MARKER_UFFD_WP);
        if !markers && k.vma(dst_vma).vm_flags.contains(VM_SHARED) {
            break 'out_unlock;
        }
        if !userfaultfd_wp(k, dst_vma) {
            break 'out_unlock;
        }
        if !markers && !vma_is_anonymous(k, dst_vma) {
            break 'out_unlock;
        }

        err = uffd_wp_range(k, dst_vma, start, len, enable_wp).await;
    }
    mmap_read_unlock(k, dst_mm);
    err
}
