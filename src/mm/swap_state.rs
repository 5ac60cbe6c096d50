// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swap_state.c`: the swap cache. A slot's page stands in the slot itself (`SwapSlot::cache`).

use crate::VM_BUG_ON;
use crate::errno::*;
use crate::event::Symptom;
use crate::kernel::*;
use crate::mm::locking::{__SetPageLocked, trylock_page, unlock_page};
use crate::mm::page::*;
use crate::mm::page_alloc::alloc_page;
use crate::mm::page_io::swap_readpage;
use crate::mm::swapfile::{__swap_count, get_swap_device, get_swap_page, put_swap_page, swapcache_prepare, try_to_free_swap};
use crate::point::{Touch, point, spin};

/// `find_get_page(swap_address_space(entry), ..)`: the page in the swap cache, with a reference.
pub(crate) fn find_get_swap_page(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    let page = k.s().swap.get(entry.0 as usize).and_then(|slot| slot.cache)?;
    get_page(k, page);
    Some(page)
}

/// Put a page into the swap cache under a slot that has SWAP_HAS_CACHE for it. The cache takes a reference.
///
/// Kernel:   mm/swap_state.c:add_to_swap_cache @ v5.14
/// Fidelity: TRIMMED(shadow entries, huge pages)
/// Locks:    page lock held
/// Errors:   ENOMEM; nothing has changed then
pub fn add_to_swap_cache(k: &Kernel, page: PageId, entry: SwpEntry) -> KResult {
    let _f = k.enter("add_to_swap_cache", || format!("{page} {entry:?}"));
    VM_BUG_ON!(k, !PageLocked(k, page));
    VM_BUG_ON!(k, PageSwapCache(k, page));
    VM_BUG_ON!(k, !PageSwapBacked(k, page));

    get_page(k, page);
    SetPageSwapCache(k, page);
    if k.should_fail("add_to_swap_cache") {
        ClearPageSwapCache(k, page);
        put_page(k, page);
        return Err(ENOMEM);
    }
    k.page_mut(page).private = Some(entry);
    let old = k.sm().swap.get_mut(entry.0 as usize).and_then(|slot| slot.cache.replace(page));
    VM_BUG_ON!(k, old.is_some());
    Ok(())
}

/// Empty the page's slot of the swap cache. The cache's reference and the slot's SWAP_HAS_CACHE are the caller's.
///
/// Kernel:   mm/swap_state.c:__delete_from_swap_cache @ v5.14
/// Fidelity: TRIMMED(shadow entries, huge pages)
/// Locks:    page lock held
/// Errors:   none
pub(crate) fn __delete_from_swap_cache(k: &Kernel, page: PageId, entry: SwpEntry) {
    VM_BUG_ON!(k, !PageLocked(k, page));
    VM_BUG_ON!(k, !PageSwapCache(k, page));
    VM_BUG_ON!(k, PageWriteback(k, page));
    let old = k.sm().swap.get_mut(entry.0 as usize).and_then(|slot| slot.cache.take());
    VM_BUG_ON!(k, old != Some(page));
    k.page_mut(page).private = None;
    ClearPageSwapCache(k, page);
}

/// Give an anonymous page a swap slot and put it into the swap cache, dirty. False: no slot, or out of memory.
///
/// Kernel:   mm/swap_state.c:add_to_swap @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    page lock held
/// Errors:   false
pub async fn add_to_swap(k: &Kernel, page: PageId) -> bool {
    let _f = k.enter("add_to_swap", || format!("{page}"));
    VM_BUG_ON!(k, !PageLocked(k, page));
    VM_BUG_ON!(k, !PageUptodate(k, page));

    point(k, Touch::Alloc).await;
    let Some(entry) = get_swap_page(k) else {
        k.branch("no swap slot");
        return false;
    };
    if add_to_swap_cache(k, page, entry).is_err() {
        put_swap_page(k, entry);
        return false;
    }
    // Even if the PTE is clean: the page may have been read from a slot that it has lost since.
    set_page_dirty(k, page);
    true
}

/// Take a page out of the swap cache. The slot is freed if no PTE and no page-cache slot names it. PG_dirty and the mapping stay.
///
/// Kernel:   mm/swap_state.c:delete_from_swap_cache @ v5.14
/// Fidelity: MIRROR
/// Locks:    page lock held; the caller has a reference of its own
/// Errors:   none
pub fn delete_from_swap_cache(k: &Kernel, page: PageId) {
    let Some(entry) = k.page(page).private else {
        k.report(Symptom::BadSwapCount, || format!("delete_from_swap_cache of {page}, which is in no slot"));
        return;
    };
    __delete_from_swap_cache(k, page, entry);
    put_swap_page(k, entry);
    put_page(k, page);
}

/// Free the swap slot of a page that nobody maps any more, if the page can be locked at once.
///
/// Kernel:   mm/swap_state.c:free_swap_cache @ v5.14
/// Fidelity: MIRROR
/// Locks:    none needed; tries the page lock
/// Errors:   none
pub(crate) fn free_swap_cache(k: &Kernel, page: PageId) {
    if PageSwapCache(k, page) && !page_mapped(k, page) && trylock_page(k, page) {
        try_to_free_swap(k, page);
        unlock_page(k, page);
    }
}

/// As [`free_swap_cache`], and drop a reference.
///
/// Kernel:   mm/swap_state.c:free_page_and_swap_cache @ v5.14
/// Fidelity: MIRROR
/// Locks:    none needed; tries the page lock
/// Errors:   none
pub fn free_page_and_swap_cache(k: &Kernel, page: PageId) {
    free_swap_cache(k, page);
    put_page(k, page);
}

/// The page of a slot, if it is in the swap cache; with a reference.
///
/// Kernel:   mm/swap_state.c:lookup_swap_cache @ v5.14
/// Fidelity: TRIMMED(readahead statistics)
/// Locks:    none
/// Errors:   none
pub fn lookup_swap_cache(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    if !get_swap_device(k, entry) {
        return None;
    }
    find_get_swap_page(k, entry)
}

/// The page of a slot, from the swap cache or newly allocated, locked and put there. The flag says which.
///
/// Kernel:   mm/swap_state.c:__read_swap_cache_async @ v5.14
/// Fidelity: TRIMMED(memcg, shadow entries; the swap slot cache counts as enabled also during swapoff)
/// Locks:    none on entry; a new page comes back locked
/// Errors:   None: out of memory, or nobody uses the slot any more
async fn __read_swap_cache_async(k: &Kernel, entry: SwpEntry) -> Option<(PageId, bool)> {
    let page = loop {
        if !get_swap_device(k, entry) {
            return None;
        }
        if let Some(page) = find_get_swap_page(k, entry) {
            return Some((page, false));
        }
        if __swap_count(k, entry) == 0 {
            k.branch("the slot is not in use any more");
            return None;
        }

        let Some(page) = alloc_page(k, "swap cache page").await else { return None };
        // While memory was found somebody else may have freed the slot, or begun to read it.
        match swapcache_prepare(k, entry) {
            Ok(()) => break page,
            Err(err) => {
                put_page(k, page);
                if err != EEXIST {
                    return None;
                }
            }
        }
        k.branch("another task is reading the slot, or has just read it");
        // schedule_timeout_uninterruptible(1)
        spin(k, "__read_swap_cache_async").await;
    };

    __SetPageLocked(k, page);
    __SetPageSwapBacked(k, page);
    if k.should_fail("mem_cgroup_swapin_charge_page") || add_to_swap_cache(k, page, entry).is_err() {
        put_swap_page(k, entry);
        unlock_page(k, page);
        put_page(k, page);
        return None;
    }
    lru_cache_add(k, page);
    Some((page, true))
}

/// The page of a slot, read into the swap cache if it is not there; with a reference. It may still be locked by its reader, and a
/// failed read shows only in its flags.
///
/// Kernel:   mm/swap_state.c:read_swap_cache_async @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   None: out of memory, or nobody uses the slot any more
pub async fn read_swap_cache_async(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    let _f = k.enter("read_swap_cache_async", || format!("{entry:?}"));
    let Some((page, page_was_allocated)) = __read_swap_cache_async(k, entry).await else { return None };
    if page_was_allocated {
        swap_readpage(k, page).await;
    }
    Some(page)
}

/// Read a slot that somebody waits for.
///
/// Kernel:   mm/swap_state.c:swapin_readahead @ v5.14
/// Fidelity: TRIMMED(neighbouring slots are not read along, and so the pagevec is not drained: what a window of one page does)
/// Locks:    none
/// Errors:   None: out of memory, or nobody uses the slot any more
pub async fn swapin_readahead(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    read_swap_cache_async(k, entry).await
}
