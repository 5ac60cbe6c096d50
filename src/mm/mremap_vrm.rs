// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mremap.c` as v6.17 wrote it anew: a call is a structure that is checked first and then carried out. Below move_vma nothing
//! is different for user space.
//!
//! What is: nothing is unmapped at the new place until all else has been checked, and several VMAs can be moved at once.

use crate::WARN_ON_ONCE;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{mmap_read_unlock, mmap_write_lock, mmap_write_unlock};
use crate::mm::memory::vma_is_shmem;
use crate::mm::mlock::mm_populate;
use crate::mm::mmap::{
    __do_munmap, UfList, do_munmap, find_vma, get_unmapped_area, mm_unacct_memory, security_vm_enough_memory_mm,
};
use crate::mm::mremap::{MremapFlags, extend_vma, move_vma, vma_expandable, vma_lookup};
use crate::uffd::events::{VmUserfaultfdCtx, mremap_userfaultfd_complete, mremap_userfaultfd_fail, userfaultfd_unmap_complete};

/// What a call does to the length (`enum mremap_type`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
enum MremapType {
    MREMAP_NO_RESIZE,
    MREMAP_SHRINK,
    MREMAP_EXPAND,
}
use MremapType::*;

/// `struct vma_remap_struct`.
struct VmaRemapStruct {
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: MremapFlags,
    new_addr: u64,
    uf: VmUserfaultfdCtx,
    uf_unmap_early: UfList,
    uf_unmap: UfList,
    vma: Option<VmaId>,
    remap_type: MremapType,
    mmap_locked: bool,
    populate_expand: bool,
}

impl VmaRemapStruct {
    /// `vrm->delta`.
    fn delta(&self) -> u64 {
        self.old_len.abs_diff(self.new_len)
    }

    /// `vrm_implies_new_addr`.
    fn implies_new_addr(&self) -> bool {
        self.flags.fixed || self.flags.dontunmap
    }

    /// `vrm_overlaps`.
    fn overlaps(&self) -> bool {
        self.addr.wrapping_add(self.old_len) > self.new_addr && self.new_addr + self.new_len > self.addr
    }
}

/// Is the call well-formed, whatever is mapped?
///
/// Kernel:   mm/mremap.c:check_mremap_params @ v6.17
/// Fidelity: TRIMMED(unknown flags; MREMAP_FIXED without MREMAP_MAYMOVE)
/// Locks:    none
/// Errors:   EINVAL
fn check_mremap_params(vrm: &VmaRemapStruct) -> KResult {
    if vrm.addr & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    if vrm.new_len == 0 {
        return Err(EINVAL);
    }
    if vrm.new_len > TASK_SIZE {
        return Err(EINVAL);
    }
    if !vrm.implies_new_addr() {
        return Ok(());
    }
    if vrm.new_addr > TASK_SIZE - vrm.new_len {
        return Err(EINVAL);
    }
    if vrm.new_addr & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    // MREMAP_MAYMOVE comes with MREMAP_FIXED, or not at all.
    if !vrm.flags.fixed {
        return Err(EINVAL);
    }
    if vrm.flags.dontunmap && vrm.old_len != vrm.new_len {
        return Err(EINVAL);
    }
    if vrm.overlaps() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Can the VMA be resized or moved as asked?
///
/// Kernel:   mm/mremap.c:check_prep_vma @ v6.17
/// Fidelity: TRIMMED(mseal, hugetlb, VM_DONTEXPAND, VM_PFNMAP, mlock and address-space limits)
/// Locks:    mmap_lock held for writing
/// Errors:   EFAULT nothing is mapped at addr, or the range leaves the VMA; EINVAL old_len 0 of a private mapping, or the
///           offset wraps
fn check_prep_vma(k: &Kernel, vrm: &mut VmaRemapStruct) -> KResult {
    let Some(vma) = vrm.vma else {
        return Err(EFAULT);
    };
    let v = k.vma(vma);
    let mut old_len = vrm.old_len;
    let new_len = vrm.new_len;

    vrm.remap_type = match vrm.old_len.cmp(&vrm.new_len) {
        std::cmp::Ordering::Equal => MREMAP_NO_RESIZE,
        std::cmp::Ordering::Less => MREMAP_EXPAND,
        std::cmp::Ordering::Greater => MREMAP_SHRINK,
    };
    if !vrm.implies_new_addr() {
        vrm.new_addr = vrm.addr;
    }

    // vrm_will_map_new()
    if vrm.remap_type != MREMAP_EXPAND && !vrm.implies_new_addr() {
        return Ok(());
    }

    if old_len == 0 && !v.vm_flags.intersects(VM_SHARED | VM_MAYSHARE) {
        return Err(EINVAL);
    }

    // What is shrunk away may lie behind the VMA.
    if vrm.remap_type == MREMAP_SHRINK {
        old_len = new_len;
    }
    if old_len > v.vm_end - vrm.addr {
        return Err(EFAULT);
    }

    if new_len == old_len {
        return Ok(());
    }

    if v.vm_flags.contains(VM_LOCKED) {
        vrm.populate_expand = true;
    }
    let pgoff = ((vrm.addr - v.vm_start) >> PAGE_SHIFT) + v.vm_pgoff;
    if pgoff.checked_add(new_len >> PAGE_SHIFT).is_none() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Charge what the mapping grows by, then move it.
///
/// Kernel:   mm/mremap.c:vrm_calc_charge, move_vma @ v6.17
/// Fidelity: MIRROR (what MREMAP_DONTUNMAP charges is charged by move_vma)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
async fn charge_and_move(k: &Kernel, mm: MmId, vrm: &mut VmaRemapStruct) -> KResult<u64> {
    let Some(vma) = vrm.vma else {
        return Err(EFAULT);
    };
    let mut charged = 0;
    if k.vma(vma).vm_flags.contains(VM_ACCOUNT) && !vrm.flags.dontunmap {
        charged = (vrm.delta() >> PAGE_SHIFT) as i64;
        if security_vm_enough_memory_mm(k, mm, charged).is_err() {
            return Err(ENOMEM);
        }
    }
    let mut locked = false;
    let ret = move_vma(
        k,
        vma,
        vrm.addr,
        vrm.old_len,
        vrm.new_len,
        vrm.new_addr,
        &mut locked,
        vrm.flags,
        &mut vrm.uf,
        &mut vrm.uf_unmap,
    )
    .await;
    if ret.is_err() {
        mm_unacct_memory(k, mm, charged);
    }
    ret
}

/// Move to an address of the caller's choice.
///
/// Kernel:   mm/mremap.c:mremap_to @ v6.17
/// Fidelity: TRIMMED(address-space limit)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM; EFAULT the VMA was at the new place itself
async fn mremap_to(k: &Kernel, mm: MmId, vrm: &mut VmaRemapStruct) -> KResult<u64> {
    if vrm.flags.fixed {
        let err = do_munmap(k, mm, vrm.new_addr, vrm.new_len, &mut vrm.uf_unmap_early).await;
        vrm.vma = None;
        if let Err(err) = err {
            return Err(err);
        }
        // Another part of the same VMA may have been unmapped.
        vrm.vma = vma_lookup(k, mm, vrm.addr);
        if vrm.vma.is_none() {
            return Err(EFAULT);
        }
    }

    if vrm.remap_type == MREMAP_SHRINK {
        if let Err(err) = do_munmap(k, mm, vrm.addr.wrapping_add(vrm.new_len), vrm.delta(), &mut vrm.uf_unmap).await {
            return Err(err);
        }
        vrm.old_len = vrm.new_len;
    }

    // vrm_set_new_addr()
    match get_unmapped_area(vrm.new_addr, vrm.new_len) {
        Ok(found) => vrm.new_addr = found,
        Err(err) => return Err(err),
    }
    charge_and_move(k, mm, vrm).await
}

/// Resize where it is.
///
/// Kernel:   mm/mremap.c:mremap_at, expand_vma, shrink_vma @ v6.17
/// Fidelity: TRIMMED(MREMAP_MAYMOVE without MREMAP_FIXED)
/// Locks:    mmap_lock held for writing; dropped where something was unmapped
/// Errors:   ENOMEM no room behind, or out of memory
async fn mremap_at(k: &Kernel, mm: MmId, vrm: &mut VmaRemapStruct) -> KResult<u64> {
    let Some(vma) = vrm.vma else {
        return Err(EFAULT);
    };
    match vrm.remap_type {
        MREMAP_NO_RESIZE => Ok(vrm.addr),
        MREMAP_SHRINK => {
            let from = vrm.addr.wrapping_add(vrm.new_len);
            match __do_munmap(k, mm, from, vrm.delta(), &mut vrm.uf_unmap, true).await {
                Ok(downgraded) => {
                    if downgraded {
                        mmap_read_unlock(k, mm);
                    } else {
                        mmap_write_unlock(k, mm);
                    }
                    vrm.mmap_locked = false;
                    Ok(vrm.addr)
                }
                Err(err) => Err(err),
            }
        }
        MREMAP_EXPAND => {
            if vrm.old_len != k.vma(vma).vm_end - vrm.addr || !vma_expandable(k, vma, vrm.delta()) {
                return Err(ENOMEM);
            }
            let mut charged = 0;
            if k.vma(vma).vm_flags.contains(VM_ACCOUNT) {
                charged = (vrm.delta() >> PAGE_SHIFT) as i64;
                if security_vm_enough_memory_mm(k, mm, charged).is_err() {
                    return Err(ENOMEM);
                }
            }
            k.branch("there is room behind: grown in place");
            if extend_vma(k, mm, vma, vrm.addr, vrm.old_len, vrm.new_len).await.is_err() {
                mm_unacct_memory(k, mm, charged);
                return Err(ENOMEM);
            }
            Ok(vrm.addr)
        }
    }
}

/// Can the VMA be one of several that are moved? The monitor would have to be told of each, without mmap_lock.
///
/// Kernel:   mm/mremap.c:vma_multi_allowed @ v6.17
/// Fidelity: TRIMMED(hugetlb; files that choose addresses themselves)
/// Locks:    mmap_lock held for writing
/// Errors:   none
fn vma_multi_allowed(k: &Kernel, vma: VmaId) -> bool {
    let v = k.vma(vma);
    if v.vm_flags.intersects(__VM_UFFD_FLAGS) {
        return false;
    }
    // /dev/zero has a get_unmapped_area of its own.
    v.vm_file.is_none() || vma_is_shmem(k, vma)
}

/// Move every VMA in the range, with the holes between them.
///
/// Kernel:   mm/mremap.c:remap_move @ v6.17
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   EFAULT the range begins in a hole, or one of several VMAs is registered; those of check_prep_vma and mremap_to, with
///           the VMAs before it moved
async fn remap_move(k: &Kernel, mm: MmId, vrm: &mut VmaRemapStruct) -> KResult<u64> {
    let start = vrm.addr;
    let end = vrm.addr.wrapping_add(vrm.old_len);
    let new_addr = vrm.new_addr;
    let mut target_addr = new_addr;
    let mut res = Err(EFAULT);
    let mut last_end = start;
    let mut seen_vma = false;

    while let Some(vma) = find_vma(k, mm, last_end).filter(|&vma| k.vma(vma).vm_start < end) {
        let v = k.vma(vma);
        let addr = v.vm_start.max(start);
        let len = end.min(v.vm_end) - addr;

        if !seen_vma && start < v.vm_start {
            k.branch("the range begins in a hole: -EFAULT");
            return Err(EFAULT);
        }

        let offset = if seen_vma { v.vm_start - last_end } else { 0 };
        last_end = v.vm_end;

        vrm.vma = Some(vma);
        vrm.addr = addr;
        vrm.new_addr = target_addr + offset;
        vrm.old_len = len;
        vrm.new_len = len;

        let multi_allowed = vma_multi_allowed(k, vma);
        if !multi_allowed {
            if seen_vma {
                return Err(EFAULT);
            }
            if v.vm_end < end {
                k.branch("registered, and more VMAs follow: -EFAULT");
                return Err(EFAULT);
            }
        }

        let res_vma = match check_prep_vma(k, vrm) {
            Ok(()) => mremap_to(k, mm, vrm).await,
            Err(err) => Err(err),
        };
        let Ok(moved) = res_vma else {
            return res_vma;
        };

        if !seen_vma {
            WARN_ON_ONCE!(k, multi_allowed && moved != new_addr);
            res = Ok(moved);
        }
        WARN_ON_ONCE!(k, vrm.populate_expand);

        seen_vma = true;
        target_addr = moved + vrm.new_len;
    }
    res
}

/// mremap(2).
///
/// Kernel:   mm/mremap.c:do_mremap, notify_uffd @ v6.17
/// Fidelity: TRIMMED(max_map_count; the lock is not killable)
/// Locks:    takes and drops mmap_lock for writing; then for reading, to fault in what a locked mapping grew by
/// Errors:   those of check_mremap_params, check_prep_vma, mremap_to, mremap_at, remap_move
pub(crate) async fn do_mremap(
    k: &Kernel,
    mm: MmId,
    addr: u64,
    old_len: u64,
    new_len: u64,
    new_addr: u64,
    flags: MremapFlags,
) -> KResult<u64> {
    let mut vrm = VmaRemapStruct {
        addr,
        old_len: page_align(old_len),
        new_len: page_align(new_len),
        flags,
        new_addr,
        uf: None,
        uf_unmap_early: UfList::new(),
        uf_unmap: UfList::new(),
        vma: None,
        remap_type: MREMAP_NO_RESIZE,
        mmap_locked: false,
        populate_expand: false,
    };

    if let Err(err) = check_mremap_params(&vrm) {
        return Err(err);
    }

    mmap_write_lock(k, mm).await;
    vrm.mmap_locked = true;

    // vrm_move_only()
    let res = if flags.fixed && vrm.old_len == vrm.new_len {
        remap_move(k, mm, &mut vrm).await
    } else {
        vrm.vma = vma_lookup(k, mm, vrm.addr);
        match check_prep_vma(k, &mut vrm) {
            Ok(()) if vrm.implies_new_addr() => mremap_to(k, mm, &mut vrm).await,
            Ok(()) => mremap_at(k, mm, &mut vrm).await,
            Err(err) => Err(err),
        }
    };
    let failed = res.is_err();

    if vrm.mmap_locked {
        mmap_write_unlock(k, mm);
    }

    if !failed && vrm.populate_expand {
        mm_populate(k, vrm.new_addr + vrm.old_len, vrm.delta()).await;
    }

    // notify_uffd()
    userfaultfd_unmap_complete(k, mm, vrm.uf_unmap_early).await;
    if failed {
        mremap_userfaultfd_fail(k, vrm.uf);
    } else {
        mremap_userfaultfd_complete(k, vrm.uf, vrm.addr, Ok(vrm.new_addr), vrm.old_len).await;
    }
    userfaultfd_unmap_complete(k, mm, vrm.uf_unmap).await;
    res
}
