// SPDX-License-Identifier: GPL-2.0-only
//! `mm/madvise.c`.

use crate::delta::Delta;
use crate::errno::{EACCES, EAGAIN, EFAULT, EFBIG, EHWPOISON, EINTR, EINVAL, ENOMEM, ERESTARTNOINTR, KResult};
use crate::event::Event;
use crate::flags::*;
use crate::kernel::{
    FileKind, InodeId, InodeKind, Kernel, MAX_LFS_FILESIZE, MmId, PAGE_SHIFT, PAGE_SIZE, PageId, PteVal, SlotVal, VmaId,
    page_align,
};
use crate::mm::gup::faultin_vma_page_range;
use crate::mm::locking::{mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock};
use crate::mm::memory::vma_is_anonymous;
use crate::mm::mmap::{find_vma, find_vma_prev, split_vma, vma_merge, vma_next, with_sticky};
use crate::mm::page::{
    ClearPageActive, ClearPageReferenced, PageActive, PageLRU, PageUnevictable, lru_add_drain, page_mapcount, put_page,
};
use crate::mm::pgtable::{
    Pmd, pte_mkold, pte_offset_map_lock, pte_unmap_unlock, pte_young, ptep_get_and_clear, set_pte_at, vm_normal_page,
};
use crate::mm::pgtable::{make_pte_marker, mm_alloc_pmd, pte_alloc, pte_marker_get, pte_none, ptep_get};
use crate::mm::rmap::{anon_vma_prepare, linear_page_index};
use crate::mm::swap_state::read_swap_cache_async;
use crate::mm::vmscan::{isolate_lru_page, putback_lru_page, reclaim_pages};
use crate::mm::zap::{next_pte, next_pte_table, pmd_addr_end, zap_page_range_single};
use crate::point::{Touch, point, spin};
use crate::shmem::truncate::shmem_fallocate;
use crate::syscall::{Advice, FallocMode};
use crate::uffd::events::userfaultfd_remove;
use crate::vfs::{fput, get_file};

/// Which advice changes VMAs and therefore needs mmap_lock for writing.
///
/// Kernel:   mm/madvise.c:madvise_need_mmap_write @ v5.14
/// Fidelity: TRIMMED(MADV_FREE)
/// Locks:    none
/// Errors:   none
fn madvise_need_mmap_write(behavior: Advice) -> bool {
    use Advice::*;
    match behavior {
        MADV_REMOVE | MADV_WILLNEED | MADV_DONTNEED | MADV_COLD | MADV_PAGEOUT | MADV_POPULATE_READ | MADV_POPULATE_WRITE => {
            false
        }
        MADV_DONTNEED_LOCKED | MADV_GUARD_INSTALL | MADV_GUARD_REMOVE => false,
        MADV_DONTFORK | MADV_DOFORK | MADV_WIPEONFORK | MADV_KEEPONFORK => true,
    }
}

/// Advice that is a flag of the VMA: merge or split, then set it.
///
/// Kernel:   mm/madvise.c:madvise_behavior @ v5.14
/// Fidelity: TRIMMED(the other flags, the limit on VMAs)
/// Locks:    mmap_lock held for writing
/// Errors:   EINVAL MADV_WIPEONFORK of anything but private anonymous memory; EAGAIN no memory to split (a first split stays)
async fn madvise_behavior(
    k: &Kernel,
    mut vma: VmaId,
    prev: &mut Option<VmaId>,
    start: u64,
    end: u64,
    behavior: Advice,
) -> KResult {
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let mut error = Ok(());
    let mut new_flags = v.vm_flags;

    match behavior {
        Advice::MADV_DONTFORK => new_flags |= VM_DONTCOPY,
        Advice::MADV_DOFORK => new_flags -= VM_DONTCOPY,
        Advice::MADV_WIPEONFORK => {
            if v.vm_file.is_some() || v.vm_flags.contains(VM_SHARED) {
                return Err(EINVAL);
            }
            new_flags |= VM_WIPEONFORK;
        }
        Advice::MADV_KEEPONFORK => new_flags -= VM_WIPEONFORK,
        _ => {}
    }

    if new_flags == v.vm_flags {
        *prev = Some(vma);
        return Ok(());
    }

    'out_convert_errno: {
        'success: {
            let pgoff = v.vm_pgoff + ((start - v.vm_start) >> PAGE_SHIFT);
            *prev = vma_merge(k, mm, *prev, start, end, new_flags, v.anon_vma, v.vm_file, pgoff, v.ctx).await;
            if let Some(merged) = *prev {
                vma = merged;
                new_flags = with_sticky(k, vma, new_flags);
                break 'success;
            }

            *prev = Some(vma);

            if start != v.vm_start {
                error = split_vma(k, mm, vma, start, true).await;
                if error.is_err() {
                    break 'out_convert_errno;
                }
            }

            if end != k.vma(vma).vm_end {
                error = split_vma(k, mm, vma, end, false).await;
                if error.is_err() {
                    break 'out_convert_errno;
                }
            }
        }

        // success: mmap_lock is held for writing, so nobody looks at the flags meanwhile.
        k.vma_mut(vma).vm_flags = new_flags;
        k.trace(|| Event::Vma { vma, what: format!("vm_flags {:?} -> {new_flags:?}", v.vm_flags) });
    }
    // madvise(2) says EAGAIN where the kernel itself is out of memory; ENOMEM means a hole.
    if error == Err(ENOMEM) {
        error = Err(EAGAIN);
    }
    error
}

/// Read the swapped pages of one PTE table into the swap cache.
///
/// Kernel:   mm/madvise.c:swapin_walk_pmd_entry @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; takes and drops the PTE lock for each entry
/// Errors:   none
async fn swapin_walk_pmd_entry(k: &Kernel, pmd: Pmd, start: u64, end: u64) {
    let mut index = start;
    while index != end {
        let pte = pte_offset_map_lock(k, pmd, index).await;
        let found = next_pte(k, pte, index, end);
        pte_unmap_unlock(k, pte);
        let Some((at, _, val)) = found else { break };
        index = at + PAGE_SIZE;
        let PteVal::Swap { entry, .. } = val else { continue };
        if let Some(page) = read_swap_cache_async(k, entry).await {
            put_page(k, page);
        }
    }
}

/// Read the swapped pages of a shmem file's range into the swap cache.
///
/// The last index is that of `end` itself, so a page behind the range is read too. SHMEM_SWAPIN_RANGE: it is that of the last page.
///
/// Kernel:   mm/madvise.c:force_shm_swapin_readahead @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held
/// Errors:   none
async fn force_shm_swapin_readahead(k: &Kernel, vma: VmaId, start: u64, end: u64, mapping: InodeId) {
    let mut index = linear_page_index(k, vma, start);
    let last = if k.has(Delta::SHMEM_SWAPIN_RANGE) { end.wrapping_sub(1) } else { end.wrapping_add(PAGE_SIZE - 1) };
    let end_index = linear_page_index(k, vma, last);
    while index <= end_index && index <= u32::MAX as u64 {
        let next = k.inode(mapping).i_pages.next_from(index as u32);
        let at = match next {
            Some((at, _)) if at as u64 <= end_index => at,
            _ => break,
        };
        index = at as u64 + 1;
        point(k, Touch::ReadSlot(mapping, at as u64)).await;
        let page = k.inode(mapping).i_pages.get(at);
        let Some(SlotVal::Swap(swap)) = page else { continue };
        if let Some(page) = read_swap_cache_async(k, swap).await {
            put_page(k, page);
        }
    }
    // Push the new pages onto the LRU.
    lru_add_drain(k);
}

/// Read ahead what was swapped out.
///
/// Kernel:   mm/madvise.c:madvise_willneed @ v5.14
/// Fidelity: TRIMMED(DAX, files with readahead: a character device has none)
/// Locks:    mmap_lock read held; dropped and taken again for a file that is not shmem (`*prev` None)
/// Errors:   none
async fn madvise_willneed(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start: u64, end: u64) -> KResult {
    let v = k.vma(vma);
    let mm = v.vm_mm;
    *prev = Some(vma);
    let Some(file) = v.vm_file else {
        let mut addr = start;
        while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
            let next = pmd_addr_end(at, end);
            swapin_walk_pmd_entry(k, pmd, at, next).await;
            addr = next;
        }
        lru_add_drain(k);
        return Ok(());
    };

    if let FileKind::Inode(mapping) = k.file(file).kind {
        let kind = k.inode(mapping).kind;
        if kind == InodeKind::Shmem {
            // Also for a private mapping: its own copies are not read.
            force_shm_swapin_readahead(k, vma, start, end, mapping).await;
            return Ok(());
        }
    }

    *prev = None;
    get_file(k, file);
    mmap_read_unlock(k, mm);
    // vfs_fadvise: nothing to read, and its answer is not looked at.
    fput(k, file).await;
    mmap_read_lock(k, mm).await;
    Ok(())
}

/// Why [`madvise_cold_or_pageout_pte_range`] walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MadviseWalk {
    /// Deactivate.
    Cold,
    /// Reclaim.
    Pageout,
}

/// Move a page to the inactive list.
///
/// Kernel:   mm/swap.c:deactivate_page, lru_deactivate_fn @ v5.14
/// Fidelity: TRIMMED(done at once instead of through a per-CPU batch)
/// Locks:    none; ptl may be held
/// Errors:   none
fn deactivate_page(k: &Kernel, page: PageId) {
    if PageLRU(k, page) && PageActive(k, page) && !PageUnevictable(k, page) {
        ClearPageActive(k, page);
        ClearPageReferenced(k, page);
    }
}

/// Deactivate or reclaim the pages that one PTE table maps and nobody else does. False ends the walk.
///
/// Kernel:   mm/madvise.c:madvise_cold_or_pageout_pte_range @ v5.14
/// Fidelity: TRIMMED(huge pages, TLB, idle tracking)
/// Locks:    mmap_lock read held; takes and drops the PTE lock
/// Errors:   none that user space sees: a fatal signal ends the walk
async fn madvise_cold_or_pageout_pte_range(k: &Kernel, mm: MmId, pmd: Pmd, mut addr: u64, end: u64, walk: MadviseWalk) -> bool {
    let _f = k.enter("madvise_cold_or_pageout_pte_range", || format!("{addr:#x}-{end:#x} {walk:?}"));
    let mut page_list = Vec::new();

    let fatal = k.task(k.current()).fatal_signal_pending;
    if fatal {
        return false;
    }

    let orig_pte = pte_offset_map_lock(k, pmd, addr).await;
    let mut pte = orig_pte;
    while addr < end {
        let Some((at, this, ptent)) = next_pte(k, pte, addr, end) else { break };
        addr = at + PAGE_SIZE;
        pte = this.next();

        let Some(page) = vm_normal_page(ptent) else { continue };
        if page_mapcount(k, page) != 1 {
            k.branch("mapped elsewhere too: left alone");
            continue;
        }
        if pte_young(ptent) {
            let ptent = ptep_get_and_clear(k, mm, at, this);
            set_pte_at(k, mm, at, this, pte_mkold(ptent));
        }
        // Without this, shrink_page_list would activate what was used lately.
        ClearPageReferenced(k, page);
        match walk {
            MadviseWalk::Pageout => {
                if isolate_lru_page(k, page).is_ok() {
                    if PageUnevictable(k, page) {
                        putback_lru_page(k, page);
                    } else {
                        page_list.push(page);
                    }
                } else {
                    k.branch("not on the LRU: left alone");
                }
            }
            MadviseWalk::Cold => deactivate_page(k, page),
        }
    }
    pte_unmap_unlock(k, orig_pte);
    if walk == MadviseWalk::Pageout {
        reclaim_pages(k, page_list).await;
    }
    true
}

/// Walk the PTE tables of a range for MADV_COLD or MADV_PAGEOUT.
///
/// Kernel:   mm/madvise.c:madvise_cold_page_range, madvise_pageout_page_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held
/// Errors:   none
async fn madvise_walk_page_range(k: &Kernel, vma: VmaId, mut addr: u64, end: u64, walk: MadviseWalk) {
    let mm = k.vma(vma).vm_mm;
    while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
        let next = pmd_addr_end(at, end);
        if !madvise_cold_or_pageout_pte_range(k, mm, pmd, at, next, walk).await {
            break;
        }
        addr = next;
    }
}

/// `can_madv_lru_vma`: pages of a locked mapping are not to be taken.
fn can_madv_lru_vma(k: &Kernel, vma: VmaId) -> bool {
    !k.vma(vma).vm_flags.contains(VM_LOCKED)
}

/// MADV_COLD.
///
/// Kernel:   mm/madvise.c:madvise_cold @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held
/// Errors:   EINVAL the VMA is mlocked
async fn madvise_cold(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start_addr: u64, end_addr: u64) -> KResult {
    *prev = Some(vma);
    if !can_madv_lru_vma(k, vma) {
        return Err(EINVAL);
    }
    lru_add_drain(k);
    madvise_walk_page_range(k, vma, start_addr, end_addr, MadviseWalk::Cold).await;
    Ok(())
}

/// May the caller see, by paging out, who else uses the pages?
///
/// Kernel:   mm/madvise.c:can_do_pageout @ v5.14
/// Fidelity: TRIMMED(inode_owner_or_capable: the caller owns the file, or is root)
/// Locks:    mmap_lock held
/// Errors:   none
fn can_do_pageout(k: &Kernel, vma: VmaId) -> bool {
    if vma_is_anonymous(k, vma) {
        return true;
    }
    if k.vma(vma).vm_file.is_none() {
        return false;
    }
    true
}

/// MADV_PAGEOUT.
///
/// Kernel:   mm/madvise.c:madvise_pageout @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; takes and drops PTE locks, and page locks in reclaim
/// Errors:   EINVAL the VMA is mlocked
async fn madvise_pageout(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start_addr: u64, end_addr: u64) -> KResult {
    *prev = Some(vma);
    if !can_madv_lru_vma(k, vma) {
        return Err(EINVAL);
    }
    if !can_do_pageout(k, vma) {
        return Ok(());
    }
    lru_add_drain(k);
    madvise_walk_page_range(k, vma, start_addr, end_addr, MadviseWalk::Pageout).await;
    Ok(())
}

/// May entries of the VMA be dropped? MADV_DONTNEED_LOCKED: mlocked ones too, if that was asked for.
///
/// Kernel:   mm/madvise.c:madvise_dontneed_free_valid_vma @ v5.18 (can_madv_lru_vma before)
/// Fidelity: TRIMMED(hugetlb, PFN maps)
/// Locks:    mmap_lock held
/// Errors:   false is EINVAL
fn madvise_dontneed_free_valid_vma(k: &Kernel, vma: VmaId, behavior: Advice) -> bool {
    behavior == Advice::MADV_DONTNEED_LOCKED || can_madv_lru_vma(k, vma)
}

/// MADV_DONTNEED: drop the entries; what they meant comes back from the file, or as zeroes.
///
/// Kernel:   mm/madvise.c:madvise_dontneed_free, madvise_dontneed_single_vma @ v5.14
/// Fidelity: TRIMMED(MADV_FREE)
/// Locks:    mmap_lock read held; dropped and taken again if a monitor had to be told (`*prev` None)
/// Errors:   EINVAL the VMA is mlocked; ENOMEM it is gone after the monitor was told
async fn madvise_dontneed_free(
    k: &Kernel,
    mut vma: VmaId,
    prev: &mut Option<VmaId>,
    start: u64,
    range_end: &mut u64,
    behavior: Advice,
) -> KResult {
    let mm = k.vma(vma).vm_mm;
    let mut end = *range_end;

    *prev = Some(vma);
    if !madvise_dontneed_free_valid_vma(k, vma, behavior) {
        return Err(EINVAL);
    }

    if !userfaultfd_remove(k, vma, start, end).await {
        *prev = None;

        mmap_read_lock(k, mm).await;
        vma = match find_vma(k, mm, start) {
            Some(vma) => vma,
            None => return Err(ENOMEM),
        };
        let v = k.vma(vma);
        if start < v.vm_start {
            // The monitor, or whoever came first, has unmapped it meanwhile.
            k.branch("unmapped while the monitor was told");
            return Err(ENOMEM);
        }
        if !madvise_dontneed_free_valid_vma(k, vma, behavior) {
            return Err(EINVAL);
        }
        if end > v.vm_end {
            // The VMA was split meanwhile. Doing less is no error: the rest is not looked at again, or comes next, and the monitor
            // is told of it once more.
            k.branch("VMA shorter than before: range clipped");
            end = v.vm_end;
            if k.has(Delta::MADV_DONTNEED_REST) {
                *range_end = end;
            }
        }
        crate::WARN_ON_ONCE!(k, start >= end);
    }
    // zap_page_range; the range lies in one VMA.
    zap_page_range_single(k, vma, start, end - start, None).await;
    Ok(())
}

/// MADV_POPULATE_READ and MADV_POPULATE_WRITE: fault in, as a load or store would. MADV_POPULATE_WHOLE: it is not called for one
/// VMA after the other, holes passed over, but once, without a VMA, and a hole ends it.
///
/// Kernel:   mm/madvise.c:madvise_populate @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; dropped and taken again where a fault had to wait (`*prev` None)
/// Errors:   EINVAL not with the VMA's rights; EFAULT a load or store would raise a signal; ENOMEM a hole, or no memory; EINTR
///           a fatal signal
async fn madvise_populate(
    k: &Kernel,
    mm: MmId,
    mut vma: Option<VmaId>,
    prev: &mut Option<VmaId>,
    mut start: u64,
    end: u64,
    behavior: Advice,
) -> KResult {
    let write = behavior == Advice::MADV_POPULATE_WRITE;
    let mut locked = true;
    let mut retries = 0;

    *prev = vma;

    while start < end {
        let here = match vma {
            Some(vma) if start < k.vma(vma).vm_end => vma,
            _ => match find_vma(k, mm, start) {
                // vma_lookup
                Some(found) if k.vma(found).vm_start <= start => found,
                _ => return Err(ENOMEM),
            },
        };
        vma = Some(here);

        let tmp_end = end.min(k.vma(here).vm_end);
        let pages = faultin_vma_page_range(k, here, start, tmp_end, write, &mut locked).await;
        if !locked {
            mmap_read_lock(k, mm).await;
            locked = true;
            *prev = None;
            vma = None;
        }
        match pages {
            Err(error @ (EINTR | EINVAL | EFAULT | EHWPOISON)) => return Err(error),
            Err(_) => return Err(ENOMEM),
            Ok(pages) => {
                start += pages * PAGE_SIZE;
                if pages == 0 {
                    retries += 1;
                    if retries > 8 {
                        spin(k, "madvise_populate").await;
                    }
                }
            }
        }
    }
    Ok(())
}

/// MADV_REMOVE: punch a hole into the file behind the range.
///
/// Kernel:   mm/madvise.c:madvise_remove @ v5.14
/// Fidelity: TRIMMED(those checks of vfs_fallocate that a writable shared mapping has passed)
/// Locks:    mmap_lock read held; dropped and taken again (`*prev` None); takes and drops the inode lock
/// Errors:   EINVAL the VMA is mlocked or has no file; EACCES it is not shared and writable (MADV_REMOVE_MAYWRITE: and never can
///           be); those of fallocate(2)
async fn madvise_remove(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start: u64, end: u64) -> KResult {
    let v = k.vma(vma);
    let mm = v.vm_mm;

    *prev = None;

    if v.vm_flags.contains(VM_LOCKED) {
        return Err(EINVAL);
    }

    let Some(f) = v.vm_file else { return Err(EINVAL) };

    // vma_is_shared_maywrite()
    let needed = if k.has(Delta::MADV_REMOVE_MAYWRITE) { VM_SHARED | VM_MAYWRITE } else { VM_SHARED | VM_WRITE };
    if !v.vm_flags.contains(needed) {
        return Err(EACCES);
    }

    let offset = (start - v.vm_start) + (v.vm_pgoff << PAGE_SHIFT);

    // The inode lock comes before mmap_lock, so the punch runs without it; from here on the VMA may be gone, the file may not.
    get_file(k, f);
    if userfaultfd_remove(k, vma, start, end).await {
        mmap_read_unlock(k, mm);
    }
    // vfs_fallocate: a mapping that mremap let grow may reach beyond what a file can be.
    let error = if offset > MAX_LFS_FILESIZE {
        Err(EINVAL)
    } else if offset + (end - start) > MAX_LFS_FILESIZE {
        Err(EFBIG)
    } else {
        shmem_fallocate(k, f, FallocMode::PUNCH_HOLE, offset, end - start).await
    };
    fput(k, f).await;
    mmap_read_lock(k, mm).await;
    error
}

/// How often MADV_GUARD_INSTALL tries before it lets go of mmap_lock.
const MAX_MADVISE_GUARD_RETRIES: u32 = 3;

/// May the VMA have guards? They are installed by taking entries away, which is not done to locked pages.
///
/// Kernel:   mm/madvise.c:is_valid_guard_vma @ v6.15
/// Fidelity: TRIMMED(special mappings, hugetlb)
/// Locks:    mmap_lock held
/// Errors:   false is EINVAL
fn is_valid_guard_vma(k: &Kernel, vma: VmaId, allow_locked: bool) -> bool {
    allow_locked || !k.vma(vma).vm_flags.contains(VM_LOCKED)
}

/// `is_guard_pte_marker`.
fn is_guard_pte_marker(pte: PteVal) -> bool {
    pte_marker_get(pte).contains(PTE_MARKER_GUARD)
}

/// Put guards into the entries of one table that are none. False: some other entry stands in the way; those before it are done.
///
/// Kernel:   mm/madvise.c:guard_install_pte_entry, guard_install_set_pte, mm/pagewalk.c:walk_pte_range @ v6.15
/// Fidelity: TRIMMED(huge entries)
/// Locks:    mmap_lock read held; takes and drops the PTE lock
/// Errors:   none
async fn guard_install_pte_range(k: &Kernel, mm: MmId, pmd: Pmd, mut addr: u64, end: u64) -> bool {
    let first = pte_offset_map_lock(k, pmd, addr).await;
    let mut pte = first;
    let mut clear = true;
    while addr != end {
        let ptent = ptep_get(k, pte);
        if pte_none(ptent) {
            set_pte_at(k, mm, addr, pte, make_pte_marker(PTE_MARKER_GUARD));
        } else if !is_guard_pte_marker(ptent) {
            clear = false;
            break;
        }
        addr += PAGE_SIZE;
        pte = pte.next();
    }
    pte_unmap_unlock(k, first);
    clear
}

/// MADV_GUARD_INSTALL: from now on an access raises SIGSEGV. What is mapped there is unmapped first.
///
/// A uffd-wp marker, and a file's write-protected page that leaves one, is nothing that unmapping takes away: over it this goes round
/// for ever.
///
/// Kernel:   mm/madvise.c:madvise_guard_install @ v6.15, v6.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; takes and drops PTE locks
/// Errors:   EINVAL the VMA is mlocked; ENOMEM no page table or anon_vma; ERESTARTNOINTR somebody, or a marker, was always faster
async fn madvise_guard_install(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start: u64, end: u64) -> KResult {
    let mm = k.vma(vma).vm_mm;
    *prev = Some(vma);
    if !is_valid_guard_vma(k, vma, false) {
        return Err(EINVAL);
    }
    // Fork copies the page tables of a VMA that has the flag, or an anon_vma.
    let maybe_guard = k.has(Delta::VM_MAYBE_GUARD);
    if maybe_guard {
        k.vma_mut(vma).vm_flags |= VM_MAYBE_GUARD;
    }
    if (!maybe_guard || vma_is_anonymous(k, vma))
        && let Err(e) = anon_vma_prepare(k, vma).await
    {
        return Err(e);
    }

    for _ in 0..MAX_MADVISE_GUARD_RETRIES {
        let mut clear = true;
        let mut addr = start;
        while addr != end && clear {
            let Some(pmd) = mm_alloc_pmd(k, mm, addr).await else { return Err(ENOMEM) };
            if !pte_alloc(k, mm, pmd).await {
                return Err(ENOMEM);
            }
            let next = pmd_addr_end(addr, end);
            clear = guard_install_pte_range(k, mm, pmd, addr, next).await;
            addr = next;
        }
        if clear {
            return Ok(());
        }
        // Guards stay.
        zap_page_range_single(k, vma, start, end - start, None).await;
    }
    k.branch("something is always there: start the system call over");
    Err(ERESTARTNOINTR)
}

/// MADV_GUARD_REMOVE: take the guards away, and nothing else.
///
/// Kernel:   mm/madvise.c:madvise_guard_remove, guard_remove_pte_entry @ v6.15
/// Fidelity: TRIMMED(huge entries)
/// Locks:    mmap_lock read held; takes and drops PTE locks
/// Errors:   none
async fn madvise_guard_remove(k: &Kernel, vma: VmaId, prev: &mut Option<VmaId>, start: u64, end: u64) -> KResult {
    let mm = k.vma(vma).vm_mm;
    *prev = Some(vma);
    if !is_valid_guard_vma(k, vma, true) {
        return Err(EINVAL);
    }
    let mut addr = start;
    while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
        let next = pmd_addr_end(at, end);
        let first = pte_offset_map_lock(k, pmd, at).await;
        let (mut at, mut pte) = (at, first);
        while let Some((found, this, ptent)) = next_pte(k, pte, at, next) {
            if is_guard_pte_marker(ptent) {
                set_pte_at(k, mm, found, this, PteVal::None);
            }
            (at, pte) = (found + PAGE_SIZE, this.next());
        }
        pte_unmap_unlock(k, first);
        addr = next;
    }
    Ok(())
}

/// Apply the advice to a range of one VMA. `*prev` is the VMA that was worked on, or None if mmap_lock was let go meanwhile.
///
/// Kernel:   mm/madvise.c:madvise_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held as madvise_need_mmap_write says
/// Errors:   those of the advice
async fn madvise_vma(
    k: &Kernel,
    vma: VmaId,
    prev: &mut Option<VmaId>,
    start: u64,
    range_end: &mut u64,
    behavior: Advice,
) -> KResult {
    let end = *range_end;
    let _f = k.enter("madvise_vma", || format!("{vma} {start:#x}-{end:#x} {behavior:?}"));
    match behavior {
        Advice::MADV_REMOVE => madvise_remove(k, vma, prev, start, end).await,
        Advice::MADV_WILLNEED => madvise_willneed(k, vma, prev, start, end).await,
        Advice::MADV_COLD => madvise_cold(k, vma, prev, start, end).await,
        Advice::MADV_PAGEOUT => madvise_pageout(k, vma, prev, start, end).await,
        Advice::MADV_DONTNEED | Advice::MADV_DONTNEED_LOCKED => {
            madvise_dontneed_free(k, vma, prev, start, range_end, behavior).await
        }
        Advice::MADV_POPULATE_READ | Advice::MADV_POPULATE_WRITE => {
            madvise_populate(k, k.vma(vma).vm_mm, Some(vma), prev, start, end, behavior).await
        }
        Advice::MADV_GUARD_INSTALL => madvise_guard_install(k, vma, prev, start, end).await,
        Advice::MADV_GUARD_REMOVE => madvise_guard_remove(k, vma, prev, start, end).await,
        Advice::MADV_DONTFORK | Advice::MADV_DOFORK | Advice::MADV_WIPEONFORK | Advice::MADV_KEEPONFORK => {
            madvise_behavior(k, vma, prev, start, end, behavior).await
        }
    }
}

/// Does this kernel know the advice?
///
/// Kernel:   mm/madvise.c:madvise_behavior_valid @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   false is EINVAL
fn madvise_behavior_valid(k: &Kernel, behavior: Advice) -> bool {
    match behavior {
        Advice::MADV_DONTNEED_LOCKED => k.has(Delta::MADV_DONTNEED_LOCKED),
        Advice::MADV_GUARD_INSTALL | Advice::MADV_GUARD_REMOVE => k.has(Delta::MADV_GUARD),
        _ => true,
    }
}

/// madvise(2).
///
/// Kernel:   mm/madvise.c:SYSCALL_DEFINE3(madvise) @ v5.14
/// Fidelity: MIRROR (a system call that is to be restarted is, here)
/// Locks:    see do_madvise
/// Errors:   those of do_madvise; EINTR a fatal signal
pub async fn sys_madvise(k: &Kernel, start: u64, len: u64, behavior: Advice) -> KResult {
    loop {
        let ret = do_madvise(k, start, len, behavior).await;
        if ret != Err(ERESTARTNOINTR) {
            return ret;
        }
        if k.task(k.current()).fatal_signal_pending {
            return Err(EINTR);
        }
        spin(k, "madvise, started over and over,").await;
    }
}

/// Apply the advice VMA by VMA. Holes are passed over and reported at the end; an error ends the walk, and what was done stays done.
///
/// Kernel:   mm/madvise.c:do_madvise @ v5.14
/// Fidelity: TRIMMED(address tags, poisoning, block plugging, a fatal signal while waiting for the lock)
/// Locks:    takes and drops mmap_lock, for writing if VMAs may change
/// Errors:   EINVAL no such advice, start is not page aligned, or the range wraps; ENOMEM part of it is not mapped; those of the
///           advice
async fn do_madvise(k: &Kernel, start: u64, len: u64, behavior: Advice) -> KResult {
    let _f = k.enter("do_madvise", || format!("{start:#x} len={len:#x} {behavior:?}"));
    let Some(mm) = k.current_mm() else { return Err(ENOMEM) };
    let mut start = start;
    let mut unmapped_error = Ok(());

    if !madvise_behavior_valid(k, behavior) {
        return Err(EINVAL);
    }

    if start & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    let len_in = len;
    let len = page_align(len_in);
    // A small negative length was rounded up to zero.
    if len_in != 0 && len == 0 {
        return Err(EINVAL);
    }
    let end = start.wrapping_add(len);
    if end < start {
        return Err(EINVAL);
    }
    if end == start {
        return Ok(());
    }

    let write = madvise_need_mmap_write(behavior);
    if write {
        mmap_write_lock(k, mm).await;
    } else {
        mmap_read_lock(k, mm).await;
    }

    if k.has(Delta::MADV_POPULATE_WHOLE) && matches!(behavior, Advice::MADV_POPULATE_READ | Advice::MADV_POPULATE_WRITE) {
        let error = madvise_populate(k, mm, None, &mut None, start, end, behavior).await;
        mmap_read_unlock(k, mm);
        return error;
    }

    let (mut vma, mut prev) = find_vma_prev(k, mm, start);
    if let Some(v) = vma
        && start > k.vma(v).vm_start
    {
        prev = vma;
    }

    let error = loop {
        // Here start < end.
        let Some(here) = vma else { break Err(ENOMEM) };

        let v = k.vma(here);
        if start < v.vm_start {
            k.branch("gap in the range: passed over");
            unmapped_error = Err(ENOMEM);
            start = v.vm_start;
            if start >= end {
                break Err(ENOMEM);
            }
        }

        // Here vm_start <= start < min(end, vm_end).
        let mut tmp = v.vm_end.min(end);
        let error = madvise_vma(k, here, &mut prev, start, &mut tmp, behavior).await;
        if error.is_err() {
            break error;
        }
        start = tmp;
        if let Some(p) = prev {
            start = start.max(k.vma(p).vm_end);
        }
        if start >= end {
            break unmapped_error;
        }
        vma = match prev {
            Some(p) => vma_next(k, p),
            // mmap_lock was dropped.
            None => find_vma(k, mm, start),
        };
    };

    if write {
        mmap_write_unlock(k, mm);
    } else {
        mmap_read_unlock(k, mm);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{MmStruct, PageProt, PageTable, Process, State, Task, Vma};
    use crate::mm::page::{SetPageActive, SetPageReferenced, lru_cache_add};
    use crate::mm::page_alloc::alloc_page;
    use crate::mm::pgtable::native_set_pte;
    use crate::mm::pgtable::{lookup, mk_pte, mm_alloc_pmd, pte_alloc, pte_flags, pte_offset_map};
    use crate::point::run_through as run;

    fn machine() -> (Kernel, MmId) {
        let k = Kernel::new(State::default());
        let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm = k.sm().mms.insert(MmStruct { pgd: Some(pgd), ..MmStruct::default() });
        let group = k.sm().procs.insert(Process { mm: Some(mm), ..Process::default() });
        let task = k.sm().tasks.insert(Task { group, ..Task::default() });
        k.run.current.set(Some(task));
        (k, mm)
    }

    #[test]
    fn the_arguments_are_looked_at_before_the_mappings() {
        let (k, _) = machine();
        let madvise = |start, len| run(sys_madvise(&k, start, len, Advice::MADV_DONTNEED));
        assert_eq!(madvise(0x1001, 0), Err(EINVAL));
        assert_eq!(madvise(0x1000, u64::MAX), Err(EINVAL));
        assert_eq!(madvise(0x1000, u64::MAX - PAGE_SIZE + 1), Err(EINVAL));
        assert_eq!(madvise(0x1000, 0), Ok(()));
        assert!(k.s().held.is_empty());
    }

    #[test]
    fn cold_ages_what_is_mapped_here_only() {
        let (k, mm) = machine();
        let vma = k.sm().vmas.insert(Vma { vm_start: 0, vm_end: 1 << 30, vm_mm: mm, ..Vma::default() });
        let mut pages = Vec::new();
        for (addr, mapcount) in [(0x1000, 1), (0x2000, 2)] {
            let page = run(alloc_page(&k, "test")).unwrap();
            k.page_mut(page).mapcount = mapcount;
            lru_cache_add(&k, page);
            lru_add_drain(&k);
            SetPageActive(&k, page);
            SetPageReferenced(&k, page);
            let pmd = run(mm_alloc_pmd(&k, mm, addr)).unwrap();
            assert!(run(pte_alloc(&k, mm, pmd)));
            let pte = mk_pte(page, PageProt { flags: _PAGE_ACCESSED });
            native_set_pte(&k, mm, addr, pte_offset_map(&k, pmd, addr).unwrap(), pte);
            pages.push(page);
        }
        let mut prev = None;
        assert_eq!(run(madvise_cold(&k, vma, &mut prev, 0, 1 << 30)), Ok(()));
        assert_eq!(prev, Some(vma));
        assert_eq!(k.page(pages[0]).flags, PG_lru);
        assert_eq!(k.page(pages[1]).flags, PG_lru | PG_active | PG_referenced);
        assert_eq!(pte_flags(lookup(&k, mm, 0x1000)), PteFlags::empty());
        assert_eq!(pte_flags(lookup(&k, mm, 0x2000)), _PAGE_ACCESSED);

        k.vma_mut(vma).vm_flags = VM_LOCKED;
        assert_eq!(run(madvise_cold(&k, vma, &mut prev, 0, 1 << 30)), Err(EINVAL));
        assert!(k.s().held.is_empty() && k.run.findings.borrow().is_empty());
    }
}
