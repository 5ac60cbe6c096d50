// SPDX-License-Identifier: GPL-2.0-only
//! `struct page`: flag accessors (`include/linux/page-flags.h`), references (`include/linux/mm.h`) and the per-CPU batch through
//! which pages reach the LRU (`mm/swap.c`).

use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::{Kernel, MmCounter, PageId, PageMapping, VmaId};
use crate::mm::page_alloc::free_unref_page;

macro_rules! page_flags {
    ($($flag:ident: $test:ident $set:ident $clear:ident $test_set:ident $test_clear:ident;)*) => { $(
        #[doc = concat!("Is ", stringify!($flag), " set?")]
        #[inline]
        pub fn $test(k: &Kernel, page: PageId) -> bool {
            k.page(page).flags.contains($flag)
        }
        #[doc = concat!("Set ", stringify!($flag), ".")]
        #[inline]
        pub fn $set(k: &Kernel, page: PageId) {
            $test_set(k, page);
        }
        #[doc = concat!("Clear ", stringify!($flag), ".")]
        #[inline]
        pub fn $clear(k: &Kernel, page: PageId) {
            $test_clear(k, page);
        }
        #[doc = concat!("Set ", stringify!($flag), " and say whether it was set before.")]
        #[inline]
        pub fn $test_set(k: &Kernel, page: PageId) -> bool {
            let was = k.page(page).flags.contains($flag);
            if !was {
                k.page_mut(page).flags.insert($flag);
                k.trace(|| Event::Flag { page, flag: $flag, set: true });
            }
            was
        }
        #[doc = concat!("Clear ", stringify!($flag), " and say whether it was set before.")]
        #[inline]
        pub fn $test_clear(k: &Kernel, page: PageId) -> bool {
            let was = k.page(page).flags.contains($flag);
            if was {
                k.page_mut(page).flags.remove($flag);
                k.trace(|| Event::Flag { page, flag: $flag, set: false });
            }
            was
        }
    )* };
}

/// One function per flag and operation, under the kernel's names.
#[allow(non_snake_case)]
mod accessors {
    use super::*;
    page_flags! {
        PG_referenced: PageReferenced SetPageReferenced ClearPageReferenced TestSetPageReferenced TestClearPageReferenced;
        PG_uptodate: PageUptodate SetPageUptodate ClearPageUptodate TestSetPageUptodate TestClearPageUptodate;
        PG_dirty: PageDirty __SetPageDirty ClearPageDirty TestSetPageDirty TestClearPageDirty;
        PG_lru: PageLRU SetPageLRU ClearPageLRU TestSetPageLRU TestClearPageLRU;
        PG_active: PageActive SetPageActive ClearPageActive TestSetPageActive TestClearPageActive;
        PG_unevictable: PageUnevictable SetPageUnevictable ClearPageUnevictable TestSetPageUnevictable TestClearPageUnevictable;
        PG_mlocked: PageMlocked SetPageMlocked ClearPageMlocked TestSetPageMlocked TestClearPageMlocked;
        PG_swapbacked: PageSwapBacked SetPageSwapBacked ClearPageSwapBacked TestSetPageSwapBacked TestClearPageSwapBacked;
        PG_swapcache: PageSwapCache SetPageSwapCache ClearPageSwapCache TestSetPageSwapCache TestClearPageSwapCache;
        PG_writeback: PageWriteback SetPageWriteback ClearPageWriteback TestSetPageWriteback TestClearPageWriteback;
        PG_hwpoison: PageHWPoison SetPageHWPoison ClearPageHWPoison TestSetPageHWPoison TestClearPageHWPoison;
        PG_error: PageError SetPageError ClearPageError TestSetPageError TestClearPageError;
        PG_anon_exclusive: PageAnonExclusive SetPageAnonExclusive ClearPageAnonExclusive TestSetPageAnonExclusive TestClearPageAnonExclusive;
    }
    /// Set PG_dirty. Of a page in the page cache only under its lock: once it is unlocked and clean, reclaim may drop it
    /// (`set_page_dirty` may be called without: it goes by a PTE, under that one's lock).
    pub fn SetPageDirty(k: &Kernel, page: PageId) {
        if matches!(k.page(page).mapping, PageMapping::Inode(_)) && !PageLocked(k, page) {
            k.report(Symptom::Unlocked, || format!("PG_dirty of {page} set without its page lock"));
        }
        __SetPageDirty(k, page);
    }
    /// Is PG_locked set?
    pub fn PageLocked(k: &Kernel, page: PageId) -> bool {
        k.page(page).flags.contains(PG_locked)
    }
    /// Does `page->mapping` have the ANON bit?
    pub fn PageAnon(k: &Kernel, page: PageId) -> bool {
        matches!(k.page(page).mapping, PageMapping::Anon(_))
    }
    /// `__SetPageUptodate`, on a page nobody else sees yet.
    pub fn __SetPageUptodate(k: &Kernel, page: PageId) {
        SetPageUptodate(k, page);
    }
    /// `__SetPageSwapBacked`, on a page nobody else sees yet.
    pub fn __SetPageSwapBacked(k: &Kernel, page: PageId) {
        SetPageSwapBacked(k, page);
    }
}
pub use accessors::*;

/// `page_count`.
pub fn page_count(k: &Kernel, page: PageId) -> i32 {
    k.page(page).refcount as i32
}

/// `page_mapcount`.
pub fn page_mapcount(k: &Kernel, page: PageId) -> i32 {
    k.page(page).mapcount as i32
}

/// `page_mapped`.
pub fn page_mapped(k: &Kernel, page: PageId) -> bool {
    k.page(page).mapcount > 0
}

/// `get_page`: one more reference.
#[inline]
pub fn get_page(k: &Kernel, page: PageId) {
    let now = {
        let mut p = k.page_mut(page);
        p.refcount += 1;
        p.refcount as i32
    };
    k.trace(|| Event::Ref { page, delta: 1, now });
}

/// `put_page`: one reference less; the last one frees the page.
pub fn put_page(k: &Kernel, page: PageId) {
    let now = {
        let mut p = k.page_mut(page);
        p.refcount -= 1;
        p.refcount as i32
    };
    k.trace(|| Event::Ref { page, delta: -1, now });
    if now == 0 {
        __put_page(k, page);
    }
}

/// The last reference is gone: leave the LRU and give the frame back.
///
/// Kernel:   mm/swap.c:__put_single_page @ v5.14
/// Fidelity: TRIMMED(memcg, zone device)
/// Locks:    none needed
/// Errors:   none; "Bad page state" is reported by free_unref_page
fn __put_page(k: &Kernel, page: PageId) {
    let mlocked_is_left = k.has(crate::delta::Delta::MLOCK_RMAP);
    {
        let mut p = k.sm();
        let Some(p) = p.mem_map.get_mut(page.pfn as usize) else { return };
        // __page_cache_release: off the LRU list. A page on none keeps its flags, and is complained about.
        if p.flags.contains(PG_lru) {
            p.flags.remove(PG_lru | PG_active | PG_unevictable);
        }
        // MLOCK_RMAP: the last to unmap it may have been no VM_LOCKED VMA.
        if mlocked_is_left {
            p.flags.remove(PG_mlocked);
        }
    }
    free_unref_page(k, page);
}

/// `mm_counter`: which resident counter a mapped page is charged to.
#[inline]
pub fn mm_counter(k: &Kernel, page: PageId) -> MmCounter {
    let p = k.page(page);
    match p.mapping {
        PageMapping::Anon(_) => MmCounter::MM_ANONPAGES,
        _ if p.flags.contains(PG_swapbacked) => MmCounter::MM_SHMEMPAGES,
        _ => MmCounter::MM_FILEPAGES,
    }
}

/// `mm_counter_file`: as [`mm_counter`], for a page known not to be anonymous.
#[inline]
pub fn mm_counter_file(k: &Kernel, page: PageId) -> MmCounter {
    if PageSwapBacked(k, page) { MmCounter::MM_SHMEMPAGES } else { MmCounter::MM_FILEPAGES }
}

/// `add_mm_counter`.
#[inline]
pub fn add_mm_counter(k: &Kernel, mm: crate::kernel::MmId, counter: MmCounter, delta: i32) {
    if delta != 0 {
        k.mm_mut(mm).rss_stat[counter as usize] += delta;
        k.trace(|| Event::Rss { mm, counter, delta });
    }
}

/// `inc_mm_counter`.
#[inline]
pub fn inc_mm_counter(k: &Kernel, mm: crate::kernel::MmId, counter: MmCounter) {
    add_mm_counter(k, mm, counter, 1);
}

/// `dec_mm_counter`.
pub fn dec_mm_counter(k: &Kernel, mm: crate::kernel::MmId, counter: MmCounter) {
    add_mm_counter(k, mm, counter, -1);
}

/// What `page_mapping()` answers: where a page can be found, now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MappingOf {
    /// NULL: anonymous, or on its own.
    None,
    /// An inode's page cache.
    Inode(crate::kernel::InodeId),
    /// The swap cache.
    SwapCache,
}

/// `page_mapping()`.
pub fn page_mapping(k: &Kernel, page: PageId) -> MappingOf {
    let p = k.page(page);
    if p.flags.contains(PG_swapcache) {
        return MappingOf::SwapCache;
    }
    match p.mapping {
        PageMapping::Inode(i) => MappingOf::Inode(i),
        _ => MappingOf::None,
    }
}

/// How many pages the per-CPU batch holds (`PAGEVEC_SIZE`).
pub const PAGEVEC_SIZE: usize = 15;

/// Park a page in this CPU's batch for the LRU. The batch holds a reference until it is drained.
///
/// Kernel:   mm/swap.c:lru_cache_add @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn lru_cache_add(k: &Kernel, page: PageId) {
    crate::VM_BUG_ON!(k, PageActive(k, page) && PageUnevictable(k, page));
    crate::VM_BUG_ON!(k, PageLRU(k, page));
    get_page(k, page);
    k.sm().lru_pvec.push(page);
    if k.s().lru_pvec.len() == PAGEVEC_SIZE {
        lru_add_drain(k);
    }
}

/// As [`lru_cache_add`], after marking the page mlocked if the VMA is VM_LOCKED.
///
/// Kernel:   mm/swap.c:lru_cache_add_inactive_or_unevictable @ v5.14
/// Fidelity: MIRROR
/// Locks:    ptl held
/// Errors:   none
pub fn lru_cache_add_inactive_or_unevictable(k: &Kernel, page: PageId, vma: VmaId) {
    crate::VM_BUG_ON!(k, PageLRU(k, page));
    if k.vma(vma).vm_flags.contains(VM_LOCKED) {
        TestSetPageMlocked(k, page);
    }
    lru_cache_add(k, page);
}

/// Move the batch to the LRU lists and drop its references.
///
/// Kernel:   mm/swap.c:lru_add_drain @ v5.14
/// Fidelity: TRIMMED(other pagevecs)
/// Locks:    none
/// Errors:   none
pub fn lru_add_drain(k: &Kernel) {
    if k.s().lru_pvec.is_empty() {
        return;
    }
    let batch = std::mem::take(&mut k.sm().lru_pvec);
    for page in batch {
        __pagevec_lru_add_fn(k, page);
        put_page(k, page);
    }
}

fn __pagevec_lru_add_fn(k: &Kernel, page: PageId) {
    SetPageLRU(k, page);
    if page_evictable(k, page) {
        ClearPageUnevictable(k, page);
    } else {
        ClearPageActive(k, page);
        SetPageUnevictable(k, page);
    }
}

/// `page_evictable`: neither mlocked nor in an unevictable mapping.
pub fn page_evictable(k: &Kernel, page: PageId) -> bool {
    let locked_mapping = match page_mapping(k, page) {
        MappingOf::Inode(inode) => k.inode(inode).unevictable,
        _ => false,
    };
    !locked_mapping && !PageMlocked(k, page)
}

/// `mark_page_accessed`: inactive and referenced becomes active.
///
/// Kernel:   mm/swap.c:mark_page_accessed @ v5.14
/// Fidelity: TRIMMED(workingset)
/// Locks:    none
/// Errors:   none
pub fn mark_page_accessed(k: &Kernel, page: PageId) {
    if !PageReferenced(k, page) {
        SetPageReferenced(k, page);
    } else if !PageUnevictable(k, page) && !PageActive(k, page) {
        // On no list: __lru_cache_activate_page looks for it in the batch. An isolated page is left as it is.
        if PageLRU(k, page) || k.s().lru_pvec.contains(&page) {
            SetPageActive(k, page);
        }
        ClearPageReferenced(k, page);
    }
}

/// Set PG_dirty; says whether it was newly set. Shmem, swap cache and unowned pages do no writeback accounting.
///
/// Kernel:   mm/page-writeback.c:set_page_dirty, __set_page_dirty_no_writeback @ v5.14
/// Fidelity: MIRROR
/// Locks:    none (callers on shared pages hold the page lock or ptl)
/// Errors:   none
pub fn set_page_dirty(k: &Kernel, page: PageId) -> bool {
    if page_mapping(k, page) != MappingOf::None && k.page(page).flags.contains(PG_reclaim) {
        // It will not be free soon.
        k.page_mut(page).flags.remove(PG_reclaim);
        k.trace(|| Event::Flag { page, flag: PG_reclaim, set: false });
    }
    !TestSetPageDirty(k, page)
}

/// `clear_page_dirty_for_io`: clear PG_dirty; says whether it was set. PTEs are not looked at.
pub fn clear_page_dirty_for_io(k: &Kernel, page: PageId) -> bool {
    TestClearPageDirty(k, page)
}

/// `cancel_dirty_page`.
pub fn cancel_dirty_page(k: &Kernel, page: PageId) {
    ClearPageDirty(k, page);
}

/// Fill a page with zeroes (`clear_highpage`, `clear_user_highpage`).
pub fn clear_highpage(k: &Kernel, page: PageId) {
    k.page_mut(page).cells = crate::kernel::ZERO_CELLS;
}

/// Report "Bad page state".
pub(crate) fn bad_page(k: &Kernel, page: PageId, why: &str) {
    k.report(Symptom::BadPageState, || format!("Bad page state: pfn {}: {why}", page.pfn));
}

/// Use what a page-cache lookup returned as a `struct page *` without asking whether it is one. A swap value is no pointer:
/// the task dies of a general protection fault, with the locks it holds.
pub async fn xa_entry_as_page(k: &Kernel, entry: crate::kernel::SlotVal) -> PageId {
    match entry {
        crate::kernel::SlotVal::Page(page) => page,
        crate::kernel::SlotVal::Swap(swap) => {
            k.report(Symptom::BugOn, || {
                format!("general protection fault: the swap value {} used as a struct page pointer", swap.0)
            });
            crate::point::die(k).await;
            PageId::ZERO
        }
    }
}
