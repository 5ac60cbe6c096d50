// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c:shmem_undo_range`, the page-cache scans of `mm/filemap.c` that it is made of, and `mm/truncate.c`.

use crate::VM_BUG_ON;
use crate::errno::*;
use crate::kernel::*;
use crate::mm::filemap::delete_from_page_cache;
use crate::mm::locking::{info_lock, info_unlock, lock_page, trylock_page, unlock_page};
use crate::mm::page::*;
use crate::mm::zap::unmap_mapping_page;
use crate::patch::SGP_READ;
use crate::point::{Touch, point};
use crate::shmem::acct::swapped_add;
use crate::shmem::cache::{shmem_free_swap, xas_find};
pub use crate::shmem::fallocate::shmem_fallocate;
use crate::shmem::fault::shmem_getpage;
use crate::shmem::inode::shmem_recalc_inode;
use smallvec::SmallVec;

/// `struct pagevec` together with the indices: what one round of a scan found. Pages in it have a reference.
#[derive(Default)]
struct Pagevec {
    pages: SmallVec<[(u64, SlotVal); PAGEVEC_SIZE]>,
    percpu_pvec_drained: bool,
}

/// `pagevec_remove_exceptionals` and `pagevec_release`: drop the references, and empty it. The first time that there are any,
/// this CPU's LRU batch is drained as well.
fn pagevec_release(k: &Kernel, pvec: &mut Pagevec) {
    let entries = std::mem::take(&mut pvec.pages);
    let mut pages = entries.iter().filter_map(|&(_, entry)| if let SlotVal::Page(page) = entry { Some(page) } else { None });
    let Some(first) = pages.next() else {
        return;
    };
    if !pvec.percpu_pvec_drained {
        lru_add_drain(k);
        pvec.percpu_pvec_drained = true;
    }
    put_page(k, first);
    for page in pages {
        put_page(k, page);
    }
}

/// The entries in `[start, end]`, at most a batch of them; pages come with a reference.
///
/// Kernel:   mm/filemap.c:find_get_entries @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    none (RCU); each step of the scan is one step
/// Errors:   none; 0 when there is nothing
async fn find_get_entries(k: &Kernel, mapping: InodeId, start: u64, end: u64, pvec: &mut Pagevec) -> usize {
    let mut index = start;
    loop {
        point(k, Touch::ReadSlots(mapping, index, end)).await;
        let Some((at, entry)) = xas_find(k, mapping, index, end) else {
            break;
        };
        if let SlotVal::Page(page) = entry {
            get_page(k, page);
        }
        pvec.pages.push((at, entry));
        if pvec.pages.len() == PAGEVEC_SIZE {
            break;
        }
        index = at + 1;
    }
    pvec.pages.len()
}

/// As [`find_get_entries`], but pages come locked, and those that are locked by others or under writeback are left out.
///
/// Kernel:   mm/filemap.c:find_lock_entries @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    none on entry; every page of the batch comes back locked
/// Errors:   none; 0 when there is nothing
async fn find_lock_entries(k: &Kernel, mapping: InodeId, start: u64, end: u64, pvec: &mut Pagevec) -> usize {
    let mut index = start;
    loop {
        point(k, Touch::ReadSlots(mapping, index, end)).await;
        let Some((at, entry)) = xas_find(k, mapping, index, end) else {
            break;
        };
        index = at + 1;
        if let SlotVal::Page(page) = entry {
            get_page(k, page);
            if !trylock_page(k, page) {
                k.branch("somebody else holds the page lock: not in this pass");
                put_page(k, page);
                continue;
            }
            if k.page(page).mapping != PageMapping::Inode(mapping) || PageWriteback(k, page) {
                unlock_page(k, page);
                put_page(k, page);
                continue;
            }
        }
        pvec.pages.push((at, entry));
        if pvec.pages.len() == PAGEVEC_SIZE {
            break;
        }
    }
    pvec.pages.len()
}

/// `zero_user_segment`: zero the bytes `[start, end)` of a page. The page may be mapped, so others may see it at once.
pub(crate) async fn zero_user_segment(k: &Kernel, page: PageId, start: u64, end: u64) {
    if start >= end {
        return;
    }
    point(k, Touch::WritePage(page)).await;
    fill_cells(&mut k.page_mut(page).cells, start, end, Cell::new(0));
}

/// Unmap a page wherever it is mapped, and make it clean, because it is about to leave the page cache.
///
/// Kernel:   mm/truncate.c:truncate_cleanup_page @ v5.14
/// Fidelity: TRIMMED(private data of file systems)
/// Locks:    page lock held
/// Errors:   none
async fn truncate_cleanup_page(k: &Kernel, page: PageId) {
    if page_mapped(k, page) {
        unmap_mapping_page(k, page).await;
    }
    cancel_dirty_page(k, page);
}

/// Unmap a page and take it out of the page cache.
///
/// Kernel:   mm/truncate.c:truncate_inode_page @ v5.14
/// Fidelity: MIRROR
/// Locks:    page lock held throughout
/// Errors:   EIO the page belongs to somebody else
pub async fn truncate_inode_page(k: &Kernel, mapping: InodeId, page: PageId) -> KResult {
    let _f = k.enter("truncate_inode_page", || format!("{mapping} {page} index={}", k.page(page).index));
    if k.page(page).mapping != PageMapping::Inode(mapping) {
        return Err(EIO);
    }
    truncate_cleanup_page(k, page).await;
    delete_from_page_cache(k, page).await;
    Ok(())
}

/// Remove pages and swap values from `lstart` to `lend` (both included; -1 is the end of the file), and zero the parts of the
/// pages at the edges. With `unfalloc`, only the pages that a failed fallocate added.
///
/// Kernel:   mm/shmem.c:shmem_undo_range @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    inode lock held (not by evict); takes and drops page locks and info->lock
/// Errors:   none
pub async fn shmem_undo_range(k: &Kernel, inode: InodeId, lstart: u64, lend: i64, unfalloc: bool) {
    let _f = k.enter("shmem_undo_range", || format!("{inode} lstart={lstart} lend={lend} unfalloc={unfalloc}"));
    let mapping = inode;
    let lend_next = lend.wrapping_add(1) as u64;
    let start = lstart.div_ceil(PAGE_SIZE);
    let mut end = lend_next >> PAGE_SHIFT;
    let partial_start = lstart & (PAGE_SIZE - 1);
    let mut partial_end = lend_next & (PAGE_SIZE - 1);
    let mut pvec = Pagevec::default();
    let mut nr_swaps_freed = 0;

    if lend == -1 {
        end = u64::MAX;
    }

    // First pass: what can be had without waiting.
    let mut index = start;
    while index < end && find_lock_entries(k, mapping, index, end - 1, &mut pvec).await != 0 {
        for (at, entry) in pvec.pages.clone() {
            index = at;
            match entry {
                SlotVal::Swap(swap) => {
                    if unfalloc {
                        continue;
                    }
                    nr_swaps_freed += shmem_free_swap(k, mapping, index, swap).await.is_ok() as i64;
                }
                SlotVal::Page(page) => {
                    if !unfalloc || !PageUptodate(k, page) {
                        let _ = truncate_inode_page(k, mapping, page).await;
                    }
                    unlock_page(k, page);
                }
            }
        }
        pagevec_release(k, &mut pvec);
        index += 1;
    }

    if partial_start != 0 {
        let mut page = None;
        let _ = shmem_getpage(k, inode, start - 1, &mut page, SGP_READ).await;
        if let Some(page) = page {
            let mut top = PAGE_SIZE;
            if start > end {
                // Both edges are in this page.
                top = partial_end;
                partial_end = 0;
            }
            zero_user_segment(k, page, partial_start, top).await;
            set_page_dirty(k, page);
            unlock_page(k, page);
            put_page(k, page);
        }
    }
    if partial_end != 0 {
        let mut page = None;
        let _ = shmem_getpage(k, inode, end, &mut page, SGP_READ).await;
        if let Some(page) = page {
            zero_user_segment(k, page, 0, partial_end).await;
            set_page_dirty(k, page);
            unlock_page(k, page);
            put_page(k, page);
        }
    }
    if start >= end {
        return;
    }

    // Second pass: wait for whatever is left.
    index = start;
    while index < end {
        if find_get_entries(k, mapping, index, end - 1, &mut pvec).await == 0 {
            // A punch and an unfalloc are done after one pass. A truncation is done when a whole pass found nothing.
            if index == start || end != u64::MAX {
                break;
            }
            if k.endless("shmem_undo_range restart") {
                break;
            }
            k.branch("truncation: start over until a whole pass finds nothing");
            index = start;
            continue;
        }
        for (at, entry) in pvec.pages.clone() {
            index = at;
            match entry {
                SlotVal::Swap(swap) => {
                    if unfalloc {
                        continue;
                    }
                    if shmem_free_swap(k, mapping, index, swap).await.is_err() {
                        k.branch("swap was replaced by a page: retry");
                        index = index.wrapping_sub(1);
                        break;
                    }
                    nr_swaps_freed += 1;
                }
                SlotVal::Page(page) => {
                    lock_page(k, page).await;

                    if !unfalloc || !PageUptodate(k, page) {
                        if page_mapping(k, page) != MappingOf::Inode(mapping) {
                            k.branch("the page was replaced by swap: retry");
                            unlock_page(k, page);
                            index = index.wrapping_sub(1);
                            break;
                        }
                        VM_BUG_ON!(k, PageWriteback(k, page));
                        let _ = truncate_inode_page(k, mapping, page).await;
                    }
                    unlock_page(k, page);
                }
            }
        }
        pagevec_release(k, &mut pvec);
        index = index.wrapping_add(1);
        if k.endless("shmem_undo_range") {
            break;
        }
    }

    info_lock(k, inode).await;
    swapped_add(k, inode, -nr_swaps_freed);
    shmem_recalc_inode(k, inode);
    info_unlock(k, inode);
}

/// Remove what lies from `lstart` to `lend` (both included; -1 is the end of the file).
///
/// Kernel:   mm/shmem.c:shmem_truncate_range @ v5.14
/// Fidelity: TRIMMED(times)
/// Locks:    as shmem_undo_range
/// Errors:   none
pub async fn shmem_truncate_range(k: &Kernel, inode: InodeId, lstart: u64, lend: i64) {
    shmem_undo_range(k, inode, lstart, lend, false).await;
}
