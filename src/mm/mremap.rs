// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mremap.c`: moving and resizing mappings.

use crate::delta::Delta;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{
    LockId, LockMode, acquire, mmap_read_unlock, mmap_write_lock, mmap_write_unlock, ptl_lock, ptl_unlock, release,
};
use crate::mm::mlock::mm_populate;
use crate::mm::mmap::{
    __do_munmap, UfList, copy_vma, do_munmap, find_vma, get_unmapped_area, mm_acct_memory, mm_unacct_memory,
    security_vm_enough_memory_mm, vma_next,
};
use crate::mm::mremap_vrm::do_mremap;
use crate::mm::pgtable::{
    PMD_SIZE, Pmd, mm_alloc_pmd, mm_find_pmd, pmd_none, pte_alloc, pte_clear_uffd_wp, pte_marker_uffd_wp, pte_mksoft_dirty,
    pte_none, pte_offset_map, pte_offset_map_lock, pte_unmap_unlock, ptep_get, ptep_get_and_clear, set_pte_at,
};
use crate::mm::rmap::unlink_anon_vmas;
use crate::mm::vma_merge::{anon_vma_lock, vma_adjust, vma_merge, vma_pages};
use crate::uffd::events::{VmUserfaultfdCtx, mremap_userfaultfd_complete, mremap_userfaultfd_prep, userfaultfd_unmap_complete};
use crate::vfs::f_mapping;

/// Bytes that one level-2 table maps.
const PUD_SIZE: u64 = 1 << 30;

/// `MREMAP_*`, as far as the model passes them on.
#[derive(Clone, Copy)]
pub(super) struct MremapFlags {
    /// MREMAP_FIXED.
    pub(super) fixed: bool,
    /// MREMAP_DONTUNMAP.
    pub(super) dontunmap: bool,
}

/// Will the mapping not be watched any more once it has moved?
///
/// Kernel:   include/linux/userfaultfd_k.h:vma_has_uffd_without_event_remap @ v6.13
/// Fidelity: MIRROR (with UFFD_WP_RESET_ON_MREMAP; else nobody asks)
/// Locks:    mmap_lock held
/// Errors:   none
fn vma_has_uffd_without_event_remap(k: &Kernel, vma: VmaId) -> bool {
    let ctx = k.vma(vma).ctx;
    k.has(Delta::UFFD_WP_RESET_ON_MREMAP) && ctx.is_some_and(|ctx| !k.ctx(ctx).features.contains(UFFD_FEATURE_EVENT_REMAP))
}

/// Hide a moving entry from truncation and the reverse map.
///
/// Kernel:   mm/mremap.c:take_rmap_locks @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes i_mmap_rwsem and the anon_vma lock of the VMA
/// Errors:   none
async fn take_rmap_locks(k: &Kernel, vma: VmaId) {
    let v = k.vma(vma);
    if let Some(mapping) = v.vm_file.and_then(|file| f_mapping(k, file)) {
        acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
    }
    if let Some(anon_vma) = v.anon_vma {
        acquire(k, anon_vma_lock(k, anon_vma), LockMode::Write).await;
    }
}

/// Undo [`take_rmap_locks`].
///
/// Kernel:   mm/mremap.c:drop_rmap_locks @ v5.14
/// Fidelity: MIRROR
/// Locks:    drops what take_rmap_locks took
/// Errors:   none
fn drop_rmap_locks(k: &Kernel, vma: VmaId) {
    let v = k.vma(vma);
    if let Some(anon_vma) = v.anon_vma {
        release(k, anon_vma_lock(k, anon_vma), LockMode::Write);
    }
    if let Some(mapping) = v.vm_file.and_then(|file| f_mapping(k, file)) {
        release(k, LockId::IMmap(mapping), LockMode::Write);
    }
}

/// Move the entries of `[old_addr, old_end)`, which lie in one table, to `new_addr`, in one table too. UFFD_WP_RESET_ON_MREMAP: without
/// their write protection, if the mapping will not be watched there.
///
/// Kernel:   mm/mremap.c:move_ptes @ v5.14
/// Fidelity: TRIMMED(TLB)
/// Locks:    mmap_lock held for writing; takes and drops both PTE locks, with `need_rmap_locks` the rmap locks around them
/// Errors:   none
async fn move_ptes(
    k: &Kernel,
    vma: VmaId,
    old_pmd: Pmd,
    mut old_addr: u64,
    old_end: u64,
    new_pmd: Pmd,
    mut new_addr: u64,
    need_rmap_locks: bool,
) {
    let mm = k.vma(vma).vm_mm;
    let need_clear_uffd_wp = vma_has_uffd_without_event_remap(k, vma);
    if need_rmap_locks {
        take_rmap_locks(k, vma).await;
    }
    let mut old_pte = pte_offset_map_lock(k, old_pmd, old_addr).await;
    let old_ptl = old_pte;
    let Some(mut new_pte) = pte_offset_map(k, new_pmd, new_addr) else {
        // The caller has just made the table, and only holders of mmap_lock take one away.
        crate::VM_BUG_ON!(k, true);
        pte_unmap_unlock(k, old_ptl);
        return;
    };
    let new_ptl = new_pte.table;
    if new_ptl != old_ptl.table {
        ptl_lock(k, new_ptl).await;
    }
    while old_addr < old_end {
        if !pte_none(ptep_get(k, old_pte)) {
            let pte = ptep_get_and_clear(k, mm, old_addr, old_pte);
            // move_soft_dirty_pte; the rest of the entry stays as it is.
            let mut pte = pte_mksoft_dirty(pte);
            if need_clear_uffd_wp {
                pte = if pte_marker_uffd_wp(pte) { PteVal::None } else { pte_clear_uffd_wp(pte) };
            }
            set_pte_at(k, mm, new_addr, new_pte, pte);
        }
        old_pte = old_pte.next();
        new_pte = new_pte.next();
        old_addr += PAGE_SIZE;
        new_addr += PAGE_SIZE;
    }
    if new_ptl != old_ptl.table {
        ptl_unlock(k, new_ptl);
    }
    pte_unmap_unlock(k, old_ptl);
    if need_rmap_locks {
        drop_rmap_locks(k, vma);
    }
}

/// Move a whole PTE table. False: there is one at the new place already.
///
/// Kernel:   mm/mremap.c:move_normal_pmd, move_pgt_entry @ v5.14
/// Fidelity: TRIMMED(TLB; no event for each moved entry)
/// Locks:    mmap_lock held for writing; takes and drops the rmap locks and the locks of both level-2 tables
/// Errors:   none
async fn move_normal_pmd(k: &Kernel, vma: VmaId, old_pmd: Pmd, new_pmd: Pmd) -> bool {
    if vma_has_uffd_without_event_remap(k, vma) {
        k.branch("the entries must be looked at one by one");
        return false;
    }
    take_rmap_locks(k, vma).await;
    let mut moved = false;
    // The caller has asked for room: something left behind there would be lost.
    if !crate::WARN_ON_ONCE!(k, !pmd_none(k, new_pmd)) {
        ptl_lock(k, old_pmd.table).await;
        if new_pmd.table != old_pmd.table {
            ptl_lock(k, new_pmd.table).await;
        }
        k.branch("a whole page table moves");
        let pmd = k.table_mut(old_pmd.table).entries.set(old_pmd.idx, None);
        k.table_mut(new_pmd.table).entries.set(new_pmd.idx, pmd);
        if new_pmd.table != old_pmd.table {
            ptl_unlock(k, new_pmd.table);
        }
        ptl_unlock(k, old_pmd.table);
        moved = true;
    }
    drop_rmap_locks(k, vma);
    moved
}

/// How far one step may go: to the next boundary of `size`, old or new, or to the end.
///
/// Kernel:   mm/mremap.c:get_extent @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn get_extent(size: u64, old_addr: u64, old_end: u64, new_addr: u64) -> u64 {
    let mask = !(size - 1);
    let extent = ((old_addr + size) & mask) - old_addr;
    let extent = extent.min(old_end - old_addr);
    extent.min(((new_addr + size) & mask) - new_addr)
}

/// Move the entries of `[old_addr, old_addr + len)` to `new_addr`. Returns how many bytes were done before memory ran out.
///
/// Kernel:   mm/mremap.c:move_page_tables @ v5.14
/// Fidelity: TRIMMED(huge pages; 1 GiB parts are moved table by table; mmu notifiers)
/// Locks:    mmap_lock held for writing; takes and drops PTE locks, perhaps the rmap locks
/// Errors:   none; a short count is -ENOMEM at the caller
async fn move_page_tables(
    k: &Kernel,
    vma: VmaId,
    mut old_addr: u64,
    new_vma: VmaId,
    mut new_addr: u64,
    len: u64,
    need_rmap_locks: bool,
) -> u64 {
    let _f = k.enter("move_page_tables", || format!("old_addr={old_addr:#x} new_addr={new_addr:#x} len={len:#x}"));
    let mm = k.vma(new_vma).vm_mm;
    let old_end = old_addr + len;
    while old_addr < old_end {
        let mut extent = get_extent(PUD_SIZE, old_addr, old_end, new_addr);
        'next: {
            // get_old_pud, get_old_pmd
            let Some(old_pmd) = mm_find_pmd(k, mm, old_addr) else {
                if extent != PUD_SIZE {
                    extent = get_extent(PMD_SIZE, old_addr, old_end, new_addr);
                }
                break 'next;
            };
            extent = get_extent(PMD_SIZE, old_addr, old_end, new_addr);
            if pmd_none(k, old_pmd) {
                break 'next;
            }
            // alloc_new_pmd
            let Some(new_pmd) = mm_alloc_pmd(k, mm, new_addr).await else {
                return len + old_addr - old_end;
            };
            if extent == PMD_SIZE && move_normal_pmd(k, vma, old_pmd, new_pmd).await {
                break 'next;
            }
            if !pte_alloc(k, mm, new_pmd).await {
                return len + old_addr - old_end;
            }
            move_ptes(k, vma, old_pmd, old_addr, old_addr + extent, new_pmd, new_addr, need_rmap_locks).await;
        }
        old_addr += extent;
        new_addr += extent;
    }
    len
}

/// Move the mapping of `[old_addr, old_addr + old_len)` to `new_addr` with a new length.
///
/// Kernel:   mm/mremap.c:move_vma @ v5.14
/// Fidelity: TRIMMED(max_map_count, KSM, vm_ops->mremap, PFN maps)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM; the entries are back at the old place then
pub(super) async fn move_vma(
    k: &Kernel,
    mut vma: VmaId,
    mut old_addr: u64,
    mut old_len: u64,
    new_len: u64,
    new_addr: u64,
    locked: &mut bool,
    flags: MremapFlags,
    uf: &mut VmUserfaultfdCtx,
    uf_unmap: &mut UfList,
) -> KResult<u64> {
    let _f = k.enter("move_vma", || format!("{vma} old_addr={old_addr:#x} new_addr={new_addr:#x} new_len={new_len:#x}"));
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let vm_flags = v.vm_flags;
    let new_pages = (new_len >> PAGE_SHIFT) as i64;
    let mut excess = 0;
    let mut split = false;
    let mut need_rmap_locks = false;
    let mut ret = Ok(new_addr);

    if flags.dontunmap && vm_flags.contains(VM_ACCOUNT) && security_vm_enough_memory_mm(k, mm, new_pages).is_err() {
        return Err(ENOMEM);
    }

    let new_pgoff = v.vm_pgoff + ((old_addr - v.vm_start) >> PAGE_SHIFT);
    let Some(new_vma) = copy_vma(k, &mut vma, new_addr, new_len, new_pgoff, &mut need_rmap_locks).await else {
        if flags.dontunmap && vm_flags.contains(VM_ACCOUNT) {
            mm_unacct_memory(k, mm, new_pages);
        }
        return Err(ENOMEM);
    };

    let moved_len = move_page_tables(k, vma, old_addr, new_vma, new_addr, old_len, need_rmap_locks).await;
    let err = moved_len < old_len;
    if err {
        k.branch("no memory for page tables: moving back");
        move_page_tables(k, new_vma, new_addr, vma, old_addr, moved_len, true).await;
        // The new place is unmapped below instead of the old one.
        vma = new_vma;
        old_len = new_len;
        old_addr = new_addr;
        ret = Err(ENOMEM);
    } else {
        mremap_userfaultfd_prep(k, new_vma, uf);
    }

    // The charge moves along: unmapping the old place must not give it back.
    if vm_flags.contains(VM_ACCOUNT) && !flags.dontunmap {
        k.vma_mut(vma).vm_flags -= VM_ACCOUNT;
        let v = k.vma(vma);
        excess = v.vm_end - v.vm_start - old_len;
        if old_addr > v.vm_start && old_addr + old_len < v.vm_end {
            split = true;
        }
    }

    if !err && flags.dontunmap {
        k.vma_mut(vma).vm_flags -= VM_LOCKED;
        let v = k.vma(vma);
        // Nothing anonymous is left there.
        if new_vma != vma && v.vm_start == old_addr && v.vm_end == old_addr + old_len {
            unlink_anon_vmas(k, vma).await;
        }
        return ret;
    }

    if do_munmap(k, mm, old_addr, old_len, uf_unmap).await.is_err() {
        k.branch("the old place stays mapped: out of memory");
        if vm_flags.contains(VM_ACCOUNT) && !flags.dontunmap {
            mm_acct_memory(k, mm, new_pages);
        }
        excess = 0;
    }

    if vm_flags.contains(VM_LOCKED) {
        *locked = true;
    }

    // One or two pieces of the old VMA are left, and are charged as before.
    if excess != 0 {
        k.vma_mut(vma).vm_flags |= VM_ACCOUNT;
        if split && let Some(next) = vma_next(k, vma) {
            k.vma_mut(next).vm_flags |= VM_ACCOUNT;
        }
    }
    ret
}

/// Which VMA is to be resized, and may it be? Charges what it grows by.
///
/// Kernel:   mm/mremap.c:vma_to_resize @ v5.14
/// Fidelity: TRIMMED(hugetlb, VM_DONTEXPAND, mlock and address-space limits)
/// Locks:    mmap_lock held for writing
/// Errors:   EFAULT nothing is mapped at addr, or the range leaves the VMA; EINVAL old_len 0 of a private mapping, or the
///           offset wraps; ENOMEM commit limit
fn vma_to_resize(k: &Kernel, mm: MmId, addr: u64, old_len: u64, new_len: u64, p: &mut i64) -> KResult<VmaId> {
    let vma = match find_vma(k, mm, addr) {
        Some(vma) if k.vma(vma).vm_start <= addr => vma,
        _ => return Err(EFAULT),
    };
    let v = k.vma(vma);
    if old_len == 0 && !v.vm_flags.intersects(VM_SHARED | VM_MAYSHARE) {
        return Err(EINVAL);
    }
    if old_len > v.vm_end - addr {
        return Err(EFAULT);
    }
    if new_len == old_len {
        return Ok(vma);
    }
    let pgoff = ((addr - v.vm_start) >> PAGE_SHIFT) + v.vm_pgoff;
    if pgoff.checked_add(new_len >> PAGE_SHIFT).is_none() {
        return Err(EINVAL);
    }
    if v.vm_flags.contains(VM_ACCOUNT) {
        let charged = (new_len.wrapping_sub(old_len) >> PAGE_SHIFT) as i64;
        if security_vm_enough_memory_mm(k, mm, charged).is_err() {
            return Err(ENOMEM);
        }
        *p = charged;
    }
    Ok(vma)
}

/// mremap to an address of the caller's choice.
///
/// Kernel:   mm/mremap.c:mremap_to @ v5.14
/// Fidelity: TRIMMED(max_map_count, address-space limit)
/// Locks:    mmap_lock held for writing
/// Errors:   EINVAL the new place is unaligned, outside the address space, or overlaps the old one; ENOMEM; those of
///           vma_to_resize (the new place has been unmapped by then)
async fn mremap_to(
    k: &Kernel,
    mm: MmId,
    addr: u64,
    mut old_len: u64,
    mut new_addr: u64,
    new_len: u64,
    locked: &mut bool,
    flags: MremapFlags,
    uf: &mut VmUserfaultfdCtx,
    uf_unmap_early: &mut UfList,
    uf_unmap: &mut UfList,
) -> KResult<u64> {
    let mut charged = 0;
    if new_addr & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    if new_len > TASK_SIZE || new_addr > TASK_SIZE - new_len {
        return Err(EINVAL);
    }
    if addr.wrapping_add(old_len) > new_addr && new_addr + new_len > addr {
        return Err(EINVAL);
    }
    if flags.fixed
        && let Err(error) = do_munmap(k, mm, new_addr, new_len, uf_unmap_early).await
    {
        return Err(error);
    }
    if old_len >= new_len {
        let ret = do_munmap(k, mm, addr.wrapping_add(new_len), old_len - new_len, uf_unmap).await;
        if let Err(error) = ret
            && old_len != new_len
        {
            return Err(error);
        }
        old_len = new_len;
    }
    let vma = match vma_to_resize(k, mm, addr, old_len, new_len, &mut charged) {
        Ok(vma) => vma,
        Err(error) => return Err(error),
    };
    let mut ret = get_unmapped_area(new_addr, new_len);
    if let Ok(found) = ret {
        if !flags.fixed {
            new_addr = found;
        }
        ret = move_vma(k, vma, addr, old_len, new_len, new_addr, locked, flags, uf, uf_unmap).await;
    }
    if ret.is_err() {
        mm_unacct_memory(k, mm, charged);
    }
    ret
}

/// Is there room behind a VMA?
///
/// Kernel:   mm/mremap.c:vma_expandable @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
pub(super) fn vma_expandable(k: &Kernel, vma: VmaId, delta: u64) -> bool {
    let v = k.vma(vma);
    let end = v.vm_end.wrapping_add(delta);
    if end < v.vm_end {
        return false;
    }
    if vma_next(k, vma).is_some_and(|next| k.vma(next).vm_start < end) {
        return false;
    }
    if get_unmapped_area(v.vm_start, end - v.vm_start).is_err() {
        return false;
    }
    true
}

/// `vma_lookup`: the VMA that covers the address.
pub(super) fn vma_lookup(k: &Kernel, mm: MmId, addr: u64) -> Option<VmaId> {
    find_vma(k, mm, addr).filter(|&vma| k.vma(vma).vm_start <= addr)
}

/// Let a VMA grow in place. MREMAP_EXTEND_MERGES: if it reaches the next one, and fits, they become one.
///
/// Kernel:   mm/mremap.c:mremap (the part in place) @ v5.14, vma_merge_extend @ v6.6
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
pub(super) async fn extend_vma(k: &Kernel, mm: MmId, vma: VmaId, addr: u64, old_len: u64, new_len: u64) -> KResult {
    let v = k.vma(vma);
    if !k.has(Delta::MREMAP_EXTEND_MERGES) {
        let ret = vma_adjust(k, vma, v.vm_start, addr + new_len, v.vm_pgoff, None).await;
        crate::VM_BUG_ON!(k, ret.is_ok() && vma_pages(&k.vma(vma)) < new_len >> PAGE_SHIFT);
        return ret;
    }
    let start = addr + old_len;
    let pgoff = v.vm_pgoff + ((start - v.vm_start) >> PAGE_SHIFT);
    match vma_merge(k, mm, Some(vma), start, addr + new_len, v.vm_flags, v.anon_vma, v.vm_file, pgoff, v.ctx).await {
        Some(_) => Ok(()),
        None => Err(ENOMEM),
    }
}

/// mremap(2). With `new`: MREMAP_MAYMOVE|MREMAP_FIXED, perhaps with MREMAP_DONTUNMAP; without: no flags, in place or not at all.
/// MREMAP_LOOKS_FIRST: something must be mapped there. MREMAP_SEVERAL: as `mremap_vrm` has it.
///
/// Kernel:   mm/mremap.c:mremap @ v5.14
/// Fidelity: TRIMMED(MREMAP_MAYMOVE without MREMAP_FIXED; the lock is not killable)
/// Locks:    takes and drops mmap_lock for writing; then for reading, to fault in what a locked mapping grew by
/// Errors:   EINVAL, EFAULT see mremap_to and vma_to_resize; ENOMEM no room behind, or out of memory
pub async fn sys_mremap(k: &Kernel, old: u64, old_len: u64, new_len: u64, new: Option<u64>, dontunmap: bool) -> KResult<i64> {
    let _f = k.enter("mremap", || format!("addr={old:#x} old_len={old_len:#x} new_len={new_len:#x} new_addr={new:#x?}"));
    let Some(mm) = k.current_mm() else {
        return Err(EFAULT);
    };
    let addr = old;
    let maymove = new.is_some();
    let flags = MremapFlags { fixed: new.is_some(), dontunmap };
    if k.has(Delta::MREMAP_SEVERAL) {
        let ret = do_mremap(k, mm, addr, old_len, new_len, new.unwrap_or(0), flags).await;
        return ret.map(|addr| addr as i64);
    }
    let mut locked = false;
    let mut downgraded = false;
    let mut charged = 0;
    let mut uf: VmUserfaultfdCtx = None;
    let mut uf_unmap_early = UfList::new();
    let mut uf_unmap = UfList::new();

    if dontunmap && (!maymove || old_len != new_len) {
        return Err(EINVAL);
    }
    if addr & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    let old_len = page_align(old_len);
    let new_len = page_align(new_len);
    if new_len == 0 {
        return Err(EINVAL);
    }

    mmap_write_lock(k, mm).await;
    let mut new_addr = new.unwrap_or(0);
    let ret: KResult<u64> = 'out: {
        if k.has(Delta::MREMAP_LOOKS_FIRST) && vma_lookup(k, mm, addr).is_none() {
            break 'out Err(EFAULT);
        }
        if flags.fixed || flags.dontunmap {
            break 'out mremap_to(
                k,
                mm,
                addr,
                old_len,
                new_addr,
                new_len,
                &mut locked,
                flags,
                &mut uf,
                &mut uf_unmap_early,
                &mut uf_unmap,
            )
            .await;
        }

        // Shrinking is always possible: what is behind goes.
        if old_len >= new_len {
            let retval = __do_munmap(k, mm, addr.wrapping_add(new_len), old_len - new_len, &mut uf_unmap, true).await;
            match retval {
                Err(error) if old_len != new_len => break 'out Err(error),
                Ok(true) => downgraded = true,
                _ => {}
            }
            break 'out Ok(addr);
        }

        let vma = match vma_to_resize(k, mm, addr, old_len, new_len, &mut charged) {
            Ok(vma) => vma,
            Err(error) => break 'out Err(error),
        };
        let v = k.vma(vma);
        if old_len == v.vm_end - addr && vma_expandable(k, vma, new_len - old_len) {
            k.branch("there is room behind: grown in place");
            if extend_vma(k, mm, vma, addr, old_len, new_len).await.is_err() {
                break 'out Err(ENOMEM);
            }
            if v.vm_flags.contains(VM_LOCKED) {
                locked = true;
                new_addr = addr;
            }
            break 'out Ok(addr);
        }
        Err(ENOMEM)
    };
    if ret.is_err() {
        if charged != 0 {
            mm_unacct_memory(k, mm, charged);
        }
        locked = false;
    }
    if downgraded {
        mmap_read_unlock(k, mm);
    } else {
        mmap_write_unlock(k, mm);
    }
    if locked && new_len > old_len {
        mm_populate(k, new_addr + old_len, new_len - old_len).await;
    }
    userfaultfd_unmap_complete(k, mm, uf_unmap_early).await;
    mremap_userfaultfd_complete(k, uf, addr, ret, old_len).await;
    userfaultfd_unmap_complete(k, mm, uf_unmap).await;
    ret.map(|addr| addr as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::pgtable::native_set_pte;
    use crate::mm::pgtable::{PteRef, all_ptes, free_pgd_range, lookup, pte_mkuffd_wp};
    use crate::mm::vma_merge::{mm_alloc_pgd, vm_area_alloc, vma_link};
    use crate::point::run_through as run;

    fn scene(start: u64, end: u64) -> (Kernel, MmId, VmaId) {
        let mut s = State::default();
        s.config.soft_dirty = true;
        let mm = s.mms.insert(MmStruct { mm_users: 1, mm_count: 1, ..MmStruct::default() });
        let group = s.procs.insert(Process { mm: Some(mm), ..Process::default() });
        let task = s.tasks.insert(Task { group, ..Task::default() });
        let k = Kernel::new(s);
        k.run.current.set(Some(task));
        mm_alloc_pgd(&k, mm);
        let Some(vma) = vm_area_alloc(&k, mm) else { panic!("no memory") };
        {
            let mut v = k.vma_mut(vma);
            v.vm_start = start;
            v.vm_end = end;
        }
        run(vma_link(&k, mm, vma));
        (k, mm, vma)
    }

    fn map(k: &Kernel, mm: MmId, addr: u64) -> PteVal {
        let pte = run(async {
            let Some(pmd) = mm_alloc_pmd(k, mm, addr).await else { panic!("no memory") };
            assert!(pte_alloc(k, mm, pmd).await);
            let Some(pte) = pte_offset_map(k, pmd, addr) else { panic!("no table") };
            pte
        });
        let pte: PteRef = pte;
        let val = pte_mkuffd_wp(PteVal::Swap { entry: SwpEntry((addr >> PAGE_SHIFT) as u16), flags: PteFlags::empty() });
        native_set_pte(k, mm, addr, pte, val);
        val
    }

    #[test]
    fn entries_move_and_become_soft_dirty() {
        let (old, new) = (0x30_0000, 0x5f_f000);
        let (k, mm, vma) = scene(old, old + 4 * PAGE_SIZE);
        let first = map(&k, mm, old);
        let third = map(&k, mm, old + 2 * PAGE_SIZE);
        assert_eq!(run(move_page_tables(&k, vma, old, vma, new, 4 * PAGE_SIZE, true)), 4 * PAGE_SIZE);
        assert_eq!(lookup(&k, mm, new), pte_mksoft_dirty(first));
        assert_eq!(lookup(&k, mm, new + 2 * PAGE_SIZE), pte_mksoft_dirty(third));
        assert_eq!(all_ptes(&k, mm).len(), 2);
        assert!(k.s().held.is_empty());
        free_pgd_range(&k, mm, 0, 0);
        assert_eq!(k.mm(mm).pgtables, 0);
    }

    #[test]
    fn aligned_parts_move_as_whole_tables() {
        let (old, new) = (0x20_0000, 0x8000_0000);
        let (k, mm, vma) = scene(old, old + 2 * PMD_SIZE + PAGE_SIZE);
        let whole = map(&k, mm, old + PAGE_SIZE);
        let part = map(&k, mm, old + 2 * PMD_SIZE);
        let table = mm_find_pmd(&k, mm, old).and_then(|pmd| pte_offset_map(&k, pmd, old)).map(|pte| pte.table);
        let len = 2 * PMD_SIZE + PAGE_SIZE;
        assert_eq!(run(move_page_tables(&k, vma, old, vma, new, len, false)), len);
        assert_eq!(mm_find_pmd(&k, mm, new).and_then(|pmd| pte_offset_map(&k, pmd, new)).map(|pte| pte.table), table);
        // Moved with its table, so the bit is not touched.
        assert_eq!(lookup(&k, mm, new + PAGE_SIZE), whole);
        assert_eq!(lookup(&k, mm, new + 2 * PMD_SIZE), pte_mksoft_dirty(part));
        assert_eq!(all_ptes(&k, mm).len(), 2);
        assert_eq!(*k.run.findings.borrow(), []);
        free_pgd_range(&k, mm, 0, 0);
        assert_eq!(k.mm(mm).pgtables, 0);
    }

    #[test]
    fn running_out_of_memory_gives_a_short_count() {
        let (old, new) = (0x20_0000, 0x8010_0000);
        let (k, mm, vma) = scene(old, old + PMD_SIZE);
        map(&k, mm, old);
        map(&k, mm, old + PMD_SIZE / 2);
        let n = k.run.fallible.get();
        // pud, pmd and pte tables of the first part; the second part needs one more pte table.
        k.run.fail_at.borrow_mut().push(n + 2);
        assert_eq!(run(move_page_tables(&k, vma, old, vma, new, PMD_SIZE, false)), PMD_SIZE / 2);
        assert_eq!(run(move_page_tables(&k, vma, new, vma, old, PMD_SIZE / 2, true)), PMD_SIZE / 2);
        assert_eq!(all_ptes(&k, mm).iter().map(|pte| pte.0).collect::<Vec<_>>(), [old, old + PMD_SIZE / 2]);
    }

    #[test]
    fn extents_stop_at_either_boundary() {
        assert_eq!(get_extent(PMD_SIZE, 0x20_0000, 0x80_0000, 0x40_0000), PMD_SIZE);
        assert_eq!(get_extent(PMD_SIZE, 0x2f_f000, 0x80_0000, 0x40_0000), 0x10_1000);
        assert_eq!(get_extent(PMD_SIZE, 0x20_0000, 0x80_0000, 0x5f_f000), PAGE_SIZE);
        assert_eq!(get_extent(PMD_SIZE, 0x20_0000, 0x20_1000, 0x40_0000), PAGE_SIZE);
    }
}
