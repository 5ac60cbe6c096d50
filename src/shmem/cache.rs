// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: pages into and out of the page cache, and swap.

use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::filemap::wait_on_page_writeback;
use crate::mm::locking::{__SetPageLocked, LockId, LockMode, acquire, info_lock, info_unlock, lock_page, release, unlock_page};
use crate::mm::page::*;
use crate::mm::page_alloc::alloc_page;
use crate::mm::page_io::swap_writepage;
use crate::mm::swap_state::{add_to_swap_cache, delete_from_swap_cache, lookup_swap_cache, swapin_readahead};
use crate::mm::swapfile::{free_swap_and_cache, get_swap_page, put_swap_page, swap_free, swap_shmem_alloc};
use crate::patch::{SGP_CACHE, SGP_WRITE, SgpType};
use crate::point::{Touch, point};
use crate::shmem::acct::swapped_add;
use crate::shmem::inode::{shmem_inode_acct_block, shmem_inode_unacct_blocks, shmem_recalc_inode};
use crate::uffd::handle::wake_up_task;
use crate::{BUG_ON, VM_BUG_ON, WARN_ON_ONCE};
use smallvec::SmallVec;

/// How writepage left the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritepageResult {
    /// 0: the page is unlocked; it was written, or is dirty again.
    Written,
    /// AOP_WRITEPAGE_ACTIVATE: the page is dirty again, still locked, and belongs on the active list.
    Activate,
}

// ---- slots --------------------------------------------------------------------------------------------------------------

/// The first entry in `[index, max]` (`xas_find`), without a preemption point and without a reference.
pub(crate) fn xas_find(k: &Kernel, mapping: InodeId, index: u64, max: u64) -> Option<(u64, SlotVal)> {
    let key = u32::try_from(index).ok()?;
    let (at, entry) = k.inode(mapping).i_pages.next_from(key)?;
    let at = at as u64;
    if at > max { None } else { Some((at, entry)) }
}

/// `xa_load`, without a preemption point.
fn xa_load(k: &Kernel, mapping: InodeId, index: u64) -> Option<SlotVal> {
    let key = u32::try_from(index).ok()?;
    k.inode(mapping).i_pages.get(key)
}

/// `xas_store`, traced.
fn xas_store(k: &Kernel, mapping: InodeId, index: u64, new: Option<SlotVal>) {
    let Ok(key) = u32::try_from(index) else { return };
    let old = k.inode_mut(mapping).i_pages.set(key, new);
    k.trace(|| Event::Cache { inode: mapping, index, old, new });
}

/// Put a locked page into the page cache, where nothing is expected, or the swap value that the page was read from.
///
/// Kernel:   mm/shmem.c:shmem_add_to_page_cache @ v5.14
/// Fidelity: TRIMMED(huge pages; memcg is "the charge may fail"; an index past 32 bits is too big)
/// Locks:    page lock held; xa_lock is one step
/// Errors:   EEXIST another entry is there; ENOMEM charge or node allocation; EFBIG
pub async fn shmem_add_to_page_cache(
    k: &Kernel,
    page: PageId,
    mapping: InodeId,
    index: u64,
    expected: Option<SwpEntry>,
) -> KResult {
    let _f = k.enter("shmem_add_to_page_cache", || format!("{page} {mapping} index={index} expected={expected:?}"));
    VM_BUG_ON!(k, !PageLocked(k, page));
    VM_BUG_ON!(k, !PageSwapBacked(k, page));
    if u32::try_from(index).is_err() {
        return Err(EFBIG);
    }

    let error = 'error: {
        get_page(k, page);
        {
            let mut p = k.page_mut(page);
            p.mapping = PageMapping::Inode(mapping);
            p.index = index;
        }

        // A page from the swap cache was charged when it entered that, and the slot of its swap value needs no node.
        if !PageSwapCache(k, page) && k.should_fail("shmem_add_to_page_cache") {
            break 'error ENOMEM;
        }

        point(k, Touch::WriteSlot(mapping, index)).await;
        let entry = xa_load(k, mapping, index);
        if entry != expected.map(SlotVal::Swap) {
            k.branch("the slot holds something else");
            break 'error EEXIST;
        }
        xas_store(k, mapping, index, Some(SlotVal::Page(page)));
        k.inode_mut(mapping).nrpages += 1;
        return Ok(());
    };
    k.page_mut(page).mapping = PageMapping::None;
    put_page(k, page);
    Err(error)
}

/// Replace a page in the page cache by the swap value it is being written to.
///
/// Kernel:   mm/shmem.c:shmem_delete_from_page_cache, shmem_replace_entry @ v5.14
/// Fidelity: MIRROR
/// Locks:    page lock held; xa_lock is one step
/// Errors:   none (BUG if the page is not in its slot)
pub async fn shmem_delete_from_page_cache(k: &Kernel, page: PageId, radswap: SwpEntry) {
    let _f = k.enter("shmem_delete_from_page_cache", || format!("{page} {radswap:?}"));
    let index = k.page(page).index;
    let PageMapping::Inode(mapping) = k.page(page).mapping else {
        BUG_ON!(k, true);
        return;
    };

    point(k, Touch::WriteSlot(mapping, index)).await;
    let error = xa_load(k, mapping, index) != Some(SlotVal::Page(page));
    if !error {
        xas_store(k, mapping, index, Some(SlotVal::Swap(radswap)));
    }
    k.page_mut(page).mapping = PageMapping::None;
    k.inode_mut(mapping).nrpages -= 1;
    put_page(k, page);
    BUG_ON!(k, error);
}

/// Remove a swap value from the page cache and free its swap slot.
///
/// Kernel:   mm/shmem.c:shmem_free_swap @ v5.14
/// Fidelity: MIRROR
/// Locks:    none; xa_lock is one step
/// Errors:   ENOENT the slot holds something else by now
pub async fn shmem_free_swap(k: &Kernel, mapping: InodeId, index: u64, radswap: SwpEntry) -> KResult {
    point(k, Touch::WriteSlot(mapping, index)).await;
    if xa_load(k, mapping, index) != Some(SlotVal::Swap(radswap)) {
        k.branch("the swap value was replaced meanwhile");
        return Err(ENOENT);
    }
    xas_store(k, mapping, index, None);
    free_swap_and_cache(k, radswap);
    Ok(())
}

/// Does the slot still hold this swap value?
///
/// Kernel:   mm/shmem.c:shmem_confirm_swap @ v5.14
/// Fidelity: MIRROR
/// Locks:    none (RCU); the answer holds as long as the page lock of the swap cache page is held
/// Errors:   none
async fn shmem_confirm_swap(k: &Kernel, mapping: InodeId, index: u64, swap: SwpEntry) -> bool {
    point(k, Touch::ReadSlot(mapping, index)).await;
    xa_load(k, mapping, index) == Some(SlotVal::Swap(swap))
}

// ---- swap out -----------------------------------------------------------------------------------------------------------

/// Move a page from the page cache to the swap cache and start to write it to swap.
///
/// Kernel:   mm/shmem.c:shmem_writepage @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    page lock held on entry; takes and drops i_lock, shmem_swaplist_mutex and info->lock under it
/// Errors:   Activate: redirtied and still locked
pub async fn shmem_writepage(k: &Kernel, page: PageId, for_reclaim: bool) -> WritepageResult {
    let _f = k.enter("shmem_writepage", || format!("{page}"));
    BUG_ON!(k, !PageLocked(k, page));
    let PageMapping::Inode(inode) = k.page(page).mapping else {
        // page->mapping->host of NULL: pageout() has checked page_mapping().
        BUG_ON!(k, true);
        return WritepageResult::Activate;
    };
    let index = k.page(page).index;

    'redirty: {
        if k.inode(inode).info.flags.contains(VM_LOCKED) {
            k.branch("SHM_LOCK");
            break 'redirty;
        }
        // total_swap_pages
        if !k.s().swap_on {
            k.branch("no swap");
            break 'redirty;
        }

        // Writing out for another purpose than reclaim would gain nothing, and should not happen.
        if !for_reclaim {
            WARN_ON_ONCE!(k, true);
            break 'redirty;
        }

        // A page that fallocate added and nobody wrote yet. While that fallocate is going on, let it know that it is outrunning
        // memory, and keep the page, so that it can still be told from written ones. Else its contents have to become zeroes now.
        if !PageUptodate(k, page) {
            point(k, Touch::ReadFalloc(inode)).await;
            if k.inode(inode).i_private.is_some() {
                acquire(k, LockId::ILock(inode), LockMode::Write).await;
                let mut found = false;
                if let Some(shmem_falloc) = &mut k.inode_mut(inode).i_private
                    && !shmem_falloc.waitq
                    && index >= shmem_falloc.start
                    && index < shmem_falloc.next
                {
                    shmem_falloc.nr_unswapped += 1;
                    found = true;
                }
                release(k, LockId::ILock(inode), LockMode::Write);
                if found {
                    k.branch("inside a fallocate that is going on");
                    break 'redirty;
                }
            }
            clear_highpage(k, page);
            SetPageUptodate(k, page);
        }

        let Some(swap) = get_swap_page(k) else {
            k.branch("swap is full");
            break 'redirty;
        };

        // On the list before the swap value is in the cache, else swapoff could pass this inode by. The mutex keeps swapoff from
        // taking an inode off whose `swapped` is still zero.
        acquire(k, LockId::ShmemSwaplist, LockMode::Write).await;
        k.inode_mut(inode).info.swaplist = true;

        if add_to_swap_cache(k, page, swap).is_ok() {
            info_lock(k, inode).await;
            shmem_recalc_inode(k, inode);
            swapped_add(k, inode, 1);
            info_unlock(k, inode);

            swap_shmem_alloc(k, swap);
            shmem_delete_from_page_cache(k, page, swap).await;

            release(k, LockId::ShmemSwaplist, LockMode::Write);
            BUG_ON!(k, page_mapped(k, page));
            let _ = swap_writepage(k, page).await;
            return WritepageResult::Written;
        }

        release(k, LockId::ShmemSwaplist, LockMode::Write);
        put_swap_page(k, swap);
    }
    set_page_dirty(k, page);
    if for_reclaim {
        return WritepageResult::Activate;
    }
    unlock_page(k, page);
    WritepageResult::Written
}

// ---- allocation ---------------------------------------------------------------------------------------------------------

/// Allocate a page for a file. It is not cleared.
///
/// Kernel:   mm/shmem.c:shmem_alloc_page @ v5.14
/// Fidelity: TRIMMED(memory policy)
/// Locks:    none; may sleep
/// Errors:   None when memory is out
pub async fn shmem_alloc_page(k: &Kernel) -> Option<PageId> {
    alloc_page(k, "shmem_alloc_page").await
}

/// Charge a block and allocate a page for it: locked, swap backed, one reference.
///
/// Kernel:   mm/shmem.c:shmem_alloc_and_acct_page @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    none on entry; the page comes back locked
/// Errors:   ENOSPC the block cannot be charged; ENOMEM
pub async fn shmem_alloc_and_acct_page(k: &Kernel, inode: InodeId) -> KResult<PageId> {
    let _f = k.enter("shmem_alloc_and_acct_page", || format!("{inode}"));
    let mut err = ENOSPC;

    'failed: {
        if !shmem_inode_acct_block(k, inode, 1) {
            break 'failed;
        }
        if let Some(page) = shmem_alloc_page(k).await {
            __SetPageLocked(k, page);
            __SetPageSwapBacked(k, page);
            return Ok(page);
        }
        err = ENOMEM;
        shmem_inode_unacct_blocks(k, inode, 1);
    }
    Err(err)
}

// ---- swap in ------------------------------------------------------------------------------------------------------------

/// Bring the page of a swap value back into the page cache. It comes back locked and with a reference.
///
/// Kernel:   mm/shmem.c:shmem_swapin_page @ v5.14
/// Fidelity: TRIMMED(replacing a page in an unfit zone, memcg; from v5.19 on, 6cec2b95dadf, a value that could not be read gives
///           way to an error entry, and its slot is free: here it stays, and swapoff goes over it for ever as before)
/// Locks:    none on entry; takes the page lock (held on success), takes and drops info->lock
/// Errors:   EEXIST the slot changed meanwhile, look again; ENOMEM; EIO the read failed
pub async fn shmem_swapin_page(
    k: &Kernel,
    inode: InodeId,
    index: u64,
    pagep: &mut Option<PageId>,
    swap: SwpEntry,
    sgp: SgpType,
    _vma: Option<VmaId>,
    fault_type: Option<&mut VmFault>,
) -> KResult {
    let _f = k.enter("shmem_swapin_page", || format!("{inode} index={index} {swap:?}"));
    let mapping = inode;
    let mut error;

    *pagep = None;

    let mut page = lookup_swap_cache(k, swap);
    'unlock: {
        'failed: {
            if page.is_none() {
                if let Some(fault_type) = fault_type {
                    *fault_type |= VM_FAULT_MAJOR;
                }
                page = swapin_readahead(k, swap).await;
            }
            let Some(page) = page else {
                error = ENOMEM;
                break 'failed;
            };

            // Whatever was seen so far counts only once the page is locked.
            lock_page(k, page).await;
            if !PageSwapCache(k, page) || k.page(page).private != Some(swap) || !shmem_confirm_swap(k, mapping, index, swap).await
            {
                k.branch("the swap value was resolved meanwhile");
                error = EEXIST;
                break 'unlock;
            }
            if !PageUptodate(k, page) {
                k.branch("the read had failed");
                error = EIO;
                break 'failed;
            }
            wait_on_page_writeback(k, page).await;

            if let Err(e) = shmem_add_to_page_cache(k, page, mapping, index, Some(swap)).await {
                error = e;
                break 'failed;
            }

            info_lock(k, inode).await;
            swapped_add(k, inode, -1);
            shmem_recalc_inode(k, inode);
            info_unlock(k, inode);

            if sgp == SGP_WRITE {
                mark_page_accessed(k, page);
            }

            delete_from_swap_cache(k, page);
            set_page_dirty(k, page);
            swap_free(k, swap);

            *pagep = Some(page);
            return Ok(());
        }
        if !shmem_confirm_swap(k, mapping, index, swap).await {
            error = EEXIST;
        }
    }
    if let Some(page) = page {
        unlock_page(k, page);
        put_page(k, page);
    }
    Err(error)
}

// ---- swapoff ------------------------------------------------------------------------------------------------------------

/// Entries that one round of a scan collects.
type SwapEntries = SmallVec<[(u64, SwpEntry); PAGEVEC_SIZE]>;

/// Collect swap values from `start` on.
///
/// Kernel:   mm/shmem.c:shmem_find_swap_entries @ v5.14
/// Fidelity: TRIMMED(frontswap; one device)
/// Locks:    none (RCU)
/// Errors:   none
async fn shmem_find_swap_entries(k: &Kernel, mapping: InodeId, start: u64) -> SwapEntries {
    let mut entries = SwapEntries::new();
    let mut index = start;
    loop {
        point(k, Touch::ReadSlots(mapping, index, u64::MAX)).await;
        let Some((at, entry)) = xas_find(k, mapping, index, u64::MAX) else {
            break;
        };
        index = at + 1;
        let SlotVal::Swap(entry) = entry else {
            continue;
        };
        entries.push((at, entry));
        if entries.len() == PAGEVEC_SIZE {
            break;
        }
    }
    entries
}

/// Swap the collected values in. The number of successes, which may be zero.
///
/// Kernel:   mm/shmem.c:shmem_unuse_swap_entries @ v5.14
/// Fidelity: MIRROR
/// Locks:    none held; see shmem_swapin_page
/// Errors:   ENOMEM; every other failure is passed over
async fn shmem_unuse_swap_entries(k: &Kernel, inode: InodeId, entries: &SwapEntries) -> KResult<u32> {
    let mut ret = 0;
    for &(index, swap) in entries {
        let mut page = None;
        let error = shmem_swapin_page(k, inode, index, &mut page, swap, SGP_CACHE, None, None).await;
        if error.is_ok()
            && let Some(page) = page
        {
            unlock_page(k, page);
            put_page(k, page);
            ret += 1;
        }
        if error == Err(ENOMEM) {
            return Err(ENOMEM);
        }
    }
    Ok(ret)
}

/// Swap in all that an inode has in swap. A value that cannot be read is tried for ever.
///
/// Kernel:   mm/shmem.c:shmem_unuse_inode @ v5.14
/// Fidelity: TRIMMED(frontswap)
/// Locks:    none held
/// Errors:   ENOMEM
async fn shmem_unuse_inode(k: &Kernel, inode: InodeId) -> KResult {
    let _f = k.enter("shmem_unuse_inode", || format!("{inode}"));
    let mut start = 0;
    loop {
        let entries = shmem_find_swap_entries(k, inode, start).await;
        let Some(&(last, _)) = entries.last() else {
            return Ok(());
        };
        if let Err(error) = shmem_unuse_swap_entries(k, inode, &entries).await {
            return Err(error);
        }
        start = last;
        if k.endless("shmem_unuse_inode") {
            return Err(ENOMEM);
        }
    }
}

/// The inode after `after` on shmem_swaplist. The model's list has the order of the arena.
fn list_next_entry(k: &Kernel, after: Option<InodeId>) -> Option<InodeId> {
    let s = k.s();
    let found = s.inodes.iter().find(|(id, i)| i.info.swaplist && after.is_none_or(|a| id.number() > a.number()));
    found.map(|(id, _)| id)
}

/// Swap in all that any shmem inode has in swap, for swapoff.
///
/// Kernel:   mm/shmem.c:shmem_unuse @ v5.14
/// Fidelity: TRIMMED(frontswap; the list is in arena order)
/// Locks:    takes shmem_swaplist_mutex, drops it while it scans an inode
/// Errors:   ENOMEM
pub async fn shmem_unuse(k: &Kernel) -> KResult {
    let _f = k.enter("shmem_unuse", String::new);
    let mut error = Ok(());

    if list_next_entry(k, None).is_none() {
        return Ok(());
    }

    acquire(k, LockId::ShmemSwaplist, LockMode::Write).await;
    let mut next = list_next_entry(k, None);
    while let Some(inode) = next {
        if k.inode(inode).info.swapped == 0 {
            next = list_next_entry(k, Some(inode));
            k.inode_mut(inode).info.swaplist = false;
            continue;
        }
        // Without the mutex the inode could be evicted under the scan: this count holds that up, without a reference.
        k.inode_mut(inode).info.stop_eviction += 1;
        release(k, LockId::ShmemSwaplist, LockMode::Write);

        error = shmem_unuse_inode(k, inode).await;

        acquire(k, LockId::ShmemSwaplist, LockMode::Write).await;
        next = list_next_entry(k, Some(inode));
        let evict_waiter = {
            let mut i = k.inode_mut(inode);
            if i.info.swapped == 0 {
                i.info.swaplist = false;
            }
            i.info.stop_eviction -= 1;
            if i.info.stop_eviction == 0 { i.info.evict_waiter.take() } else { None }
        };
        if let Some(task) = evict_waiter {
            wake_up_task(k, task);
        }
        if error.is_err() {
            break;
        }
    }
    release(k, LockId::ShmemSwaplist, LockMode::Write);
    error
}
