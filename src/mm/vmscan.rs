// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vmscan.c`: reclaim of isolated pages. Nobody runs short of memory in the model: reclaim comes from MADV_PAGEOUT, and from
//! the operation that does to one page what kswapd would.

use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::filemap::__delete_from_page_cache;
use crate::mm::locking::{trylock_page, unlock_page};
use crate::mm::page::*;
use crate::mm::page_io::swap_writepage;
use crate::mm::rmap::{TtuFlags, page_referenced, try_to_unmap};
use crate::mm::swap_state::{__delete_from_swap_cache, add_to_swap};
use crate::mm::swapfile::{get_nr_swap_pages, mem_cgroup_swap_full, put_swap_page, try_to_free_swap};
use crate::point::{Touch, point};
use crate::shmem::cache::{WritepageResult, shmem_writepage};
use crate::{BUG_ON, VM_BUG_ON, ladder};

/// `SetPageReclaim`, `ClearPageReclaim`.
fn set_page_reclaim(k: &Kernel, page: PageId, set: bool) {
    if k.page(page).flags.contains(PG_reclaim) != set {
        k.page_mut(page).flags.set(PG_reclaim, set);
        k.trace(|| Event::Flag { page, flag: PG_reclaim, set });
    }
}

/// What pageout() did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PageoutT {
    /// PAGE_KEEP: could not be written, still locked.
    Keep,
    /// PAGE_ACTIVATE: still locked.
    Activate,
    /// PAGE_SUCCESS: writing has begun, unlocked.
    Success,
    /// PAGE_CLEAN: somebody else has cleaned it, still locked.
    Clean,
}

/// Nothing but the cache and the one who isolated it refers to the page.
fn is_page_cache_freeable(k: &Kernel, page: PageId) -> bool {
    page_count(k, page) == 1 + 1
}

/// Start to write a dirty page.
///
/// Kernel:   mm/vmscan.c:pageout @ v5.14
/// Fidelity: TRIMMED(buffers, congestion, throttling)
/// Locks:    page lock held; dropped when the answer is Success
/// Errors:   see PageoutT
async fn pageout(k: &Kernel, page: PageId, mapping: MappingOf) -> PageoutT {
    let _f = k.enter("pageout", || format!("{page}"));
    if !is_page_cache_freeable(k, page) {
        k.branch("somebody else refers to the page");
        return PageoutT::Keep;
    }
    if mapping == MappingOf::None {
        // Truncated while somebody still held a reference.
        k.branch("orphaned page");
        return PageoutT::Keep;
    }

    if clear_page_dirty_for_io(k, page) {
        set_page_reclaim(k, page, true);
        let res = match mapping {
            MappingOf::SwapCache => {
                let _ = swap_writepage(k, page).await;
                WritepageResult::Written
            }
            _ => shmem_writepage(k, page, true).await,
        };
        if res == WritepageResult::Activate {
            set_page_reclaim(k, page, false);
            return PageoutT::Activate;
        }
        if !PageWriteback(k, page) {
            // The I/O was synchronous.
            set_page_reclaim(k, page, false);
        }
        return PageoutT::Success;
    }
    PageoutT::Clean
}

/// Take a page out of its cache, if it is clean and nobody else has a reference. The cache's reference is dropped.
///
/// Kernel:   mm/vmscan.c:__remove_mapping @ v5.14
/// Fidelity: TRIMMED(memcg, shadow entries, freepage; the count is compared and the page removed in one step, where the kernel
///           freezes the count at 0)
/// Locks:    page lock held
/// Errors:   false
async fn __remove_mapping(k: &Kernel, mapping: MappingOf, page: PageId) -> bool {
    BUG_ON!(k, !PageLocked(k, page));
    BUG_ON!(k, mapping != page_mapping(k, page));

    match mapping {
        MappingOf::Inode(inode) => point(k, Touch::WriteSlot(inode, k.page(page).index)).await,
        _ => point(k, Touch::WritePage(page)).await,
    }
    // A lookup may have found the page meanwhile. References first, PG_dirty after: whoever makes it dirty has a reference, and
    // sets the bit before he drops it.
    if page_count(k, page) != 1 + 1 {
        k.branch("somebody else refers to the page");
        return false;
    }
    if PageDirty(k, page) {
        k.branch("made dirty meanwhile");
        return false;
    }

    match (mapping, k.page(page).private) {
        (MappingOf::SwapCache, Some(swap)) => {
            __delete_from_swap_cache(k, page, swap);
            put_swap_page(k, swap);
        }
        (MappingOf::Inode(inode), _) => __delete_from_page_cache(k, inode, page),
        _ => return false,
    }
    put_page(k, page);
    true
}

/// What the references to a page say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PageReferences {
    /// PAGEREF_RECLAIM.
    Reclaim,
    /// PAGEREF_RECLAIM_CLEAN: only if it need not be written.
    ReclaimClean,
    /// PAGEREF_KEEP: another round on the inactive list.
    Keep,
    /// PAGEREF_ACTIVATE.
    Activate,
}

/// Has the page been used since reclaim saw it last?
///
/// Kernel:   mm/vmscan.c:page_check_references @ v5.14
/// Fidelity: TRIMMED(memcg, executable file pages)
/// Locks:    page lock held
/// Errors:   none
async fn page_check_references(k: &Kernel, page: PageId) -> PageReferences {
    let (referenced_ptes, vm_locked) = page_referenced(k, page).await;
    let referenced_page = TestClearPageReferenced(k, page);

    if vm_locked {
        // try_to_unmap will move it to the unevictable list.
        return PageReferences::Reclaim;
    }
    if referenced_ptes > 0 {
        // Every page starts out with a young PTE: one more round tells whether it is used again.
        SetPageReferenced(k, page);
        if referenced_page || referenced_ptes > 1 {
            return PageReferences::Activate;
        }
        return PageReferences::Keep;
    }
    if referenced_page && !PageSwapBacked(k, page) {
        return PageReferences::ReclaimClean;
    }
    PageReferences::Reclaim
}

/// Try to free isolated pages. Those that are left stay in `page_list`; returns how many are gone.
///
/// Kernel:   mm/vmscan.c:shrink_page_list @ v5.14
/// Fidelity: TRIMMED(memcg, huge pages, demotion, buffers, MADV_FREE pages, congestion and its statistics; a GFP_KERNEL caller
///           who may unmap, write and swap; page_maybe_dma_pinned, as there are no long pins)
/// Locks:    none on entry; tries page locks, and drops them
/// Errors:   none
pub async fn shrink_page_list(k: &Kernel, page_list: &mut Vec<PageId>, ignore_references: bool) -> usize {
    let _f = k.enter("shrink_page_list", || format!("{page_list:?}"));
    let mut ret_pages = Vec::new();
    let mut nr_reclaimed = 0;

    'next: for page in std::mem::take(page_list) {
        point(k, Touch::WritePage(page)).await;
        ladder! {
            {
                if !trylock_page(k, page) {
                    k.branch("page is locked by somebody else");
                    break 'keep;
                }
                VM_BUG_ON!(k, PageActive(k, page));

                if !page_evictable(k, page) {
                    k.branch("unevictable");
                    break 'activate_locked;
                }
                if PageWriteback(k, page) {
                    // Wait for the I/O by way of another round over the list.
                    set_page_reclaim(k, page, true);
                    break 'activate_locked;
                }

                let mut references = PageReferences::Reclaim;
                if !ignore_references {
                    references = page_check_references(k, page).await;
                }
                match references {
                    PageReferences::Activate => {
                        k.branch("used again: activate");
                        break 'activate_locked;
                    }
                    PageReferences::Keep => {
                        k.branch("used once: keep");
                        break 'keep_locked;
                    }
                    PageReferences::Reclaim | PageReferences::ReclaimClean => {}
                }

                // An anonymous page needs a place to go to, before its PTEs can name it.
                if PageAnon(k, page) && PageSwapBacked(k, page) && !PageSwapCache(k, page) && !add_to_swap(k, page).await {
                    break 'activate_locked;
                }
                let mut mapping = page_mapping(k, page);

                if page_mapped(k, page) {
                    try_to_unmap(k, page, TtuFlags { batch_flush: true, ..TtuFlags::default() }).await;
                    if page_mapped(k, page) {
                        k.branch("could not be unmapped everywhere");
                        break 'activate_locked;
                    }
                }

                if PageDirty(k, page) {
                    if references == PageReferences::ReclaimClean {
                        break 'keep_locked;
                    }
                    match pageout(k, page, mapping).await {
                        PageoutT::Keep => break 'keep_locked,
                        PageoutT::Activate => break 'activate_locked,
                        PageoutT::Success => {
                            if PageWriteback(k, page) {
                                break 'keep;
                            }
                            if PageDirty(k, page) {
                                break 'keep;
                            }
                            // A synchronous write: the page can go right now, if nobody else has taken it.
                            if !trylock_page(k, page) {
                                break 'keep;
                            }
                            if PageDirty(k, page) || PageWriteback(k, page) {
                                break 'keep_locked;
                            }
                            mapping = page_mapping(k, page);
                        }
                        PageoutT::Clean => {}
                    }
                }

                if mapping == MappingOf::None || !__remove_mapping(k, mapping, page).await {
                    break 'keep_locked;
                }

                unlock_page(k, page);
                // free_it: the last reference is the one of the isolation.
                nr_reclaimed += 1;
                put_page(k, page);
                continue 'next;
            }
            'activate_locked: {
                // It stays, so its slot may serve another page.
                if PageSwapCache(k, page) && (mem_cgroup_swap_full(k) || PageMlocked(k, page)) {
                    try_to_free_swap(k, page);
                }
                VM_BUG_ON!(k, PageActive(k, page));
                if !PageMlocked(k, page) {
                    SetPageActive(k, page);
                }
            }
            'keep_locked: {
                unlock_page(k, page);
            }
            'keep: {
                ret_pages.push(page);
                VM_BUG_ON!(k, PageLRU(k, page) || PageUnevictable(k, page));
            }
        }
    }
    *page_list = ret_pages;
    nr_reclaimed
}

/// Take a page off the LRU, with a reference.
///
/// Kernel:   mm/vmscan.c:isolate_lru_page @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EBUSY the page is on no LRU list: isolated, or still in the per-CPU batch
pub fn isolate_lru_page(k: &Kernel, page: PageId) -> KResult {
    if TestClearPageLRU(k, page) {
        get_page(k, page);
        return Ok(());
    }
    Err(EBUSY)
}

/// Give an isolated page back to the LRU: through the per-CPU batch, which decides the list when it is drained.
///
/// Kernel:   mm/vmscan.c:putback_lru_page @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn putback_lru_page(k: &Kernel, page: PageId) {
    lru_cache_add(k, page);
    put_page(k, page);
}

/// Put what shrink_page_list has left straight back on the LRU.
///
/// Kernel:   mm/vmscan.c:move_pages_to_lru @ v5.14
/// Fidelity: TRIMMED(list statistics)
/// Locks:    none
/// Errors:   none
fn move_pages_to_lru(k: &Kernel, list: Vec<PageId>) {
    for page in list {
        VM_BUG_ON!(k, PageLRU(k, page));
        if !page_evictable(k, page) {
            putback_lru_page(k, page);
            continue;
        }
        SetPageLRU(k, page);
        // Frees the page if everybody else has let go of it meanwhile.
        put_page(k, page);
    }
}

/// Reclaim isolated pages (MADV_PAGEOUT). Leftovers go back to the LRU.
///
/// Kernel:   mm/vmscan.c:reclaim_pages @ v5.14
/// Fidelity: TRIMMED(NUMA)
/// Locks:    none taken on entry (the caller holds mmap_lock); see shrink_page_list
/// Errors:   none
pub async fn reclaim_pages(k: &Kernel, page_list: Vec<PageId>) -> usize {
    let mut page_list = page_list;
    for &page in &page_list {
        ClearPageActive(k, page);
    }
    let nr_reclaimed = shrink_page_list(k, &mut page_list, false).await;
    for page in page_list {
        putback_lru_page(k, page);
    }
    nr_reclaimed
}

/// Do to one page of a file what kswapd does to it once it has aged. True: the page is gone from memory.
///
/// As shrink_node would: shmem pages are scanned only while free swap exists, and the unevictable list is not scanned.
///
/// Kernel:   mm/vmscan.c:shrink_inactive_list @ v5.14
/// Fidelity: MODEL (one chosen page, aged: neither PG_active nor references protect it)
/// Locks:    none; see shrink_page_list
/// Errors:   false
pub async fn reclaim_one(k: &Kernel, inode: InodeId, index: u64) -> bool {
    let _f = k.enter("shrink_inactive_list", || format!("{inode} index={index}"));
    lru_add_drain(k);
    if get_nr_swap_pages(k) == 0 {
        // get_scan_count: SCAN_FILE
        k.branch("no free swap: pages that need it are not scanned");
        return false;
    }

    point(k, Touch::ReadSlot(inode, index)).await;
    let slot = u32::try_from(index).ok().and_then(|index| k.inode(inode).i_pages.get(index));
    let Some(SlotVal::Page(page)) = slot else { return false };
    if PageUnevictable(k, page) {
        k.branch("on the unevictable list");
        return false;
    }
    if isolate_lru_page(k, page).is_err() {
        k.branch("on no LRU list");
        return false;
    }
    ClearPageActive(k, page);

    let mut page_list = vec![page];
    let nr_reclaimed = shrink_page_list(k, &mut page_list, true).await;
    move_pages_to_lru(k, page_list);
    nr_reclaimed == 1
}
