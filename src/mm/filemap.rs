// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: looking pages up in a page cache, taking them out, fault-around, waiting for a page.

use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{lock_page, mmap_read_unlock, trylock_page, unlock_page};
use crate::mm::memory::{VmFaultCtx, do_set_pte, install_prealloc_pte};
use crate::mm::page::*;
use crate::mm::pgtable::{PteRef, pmd_none, pte_none, pte_offset_map_lock, pte_unmap_unlock, ptep_get};
use crate::point::{Touch, die, point, point_then, spin};
use crate::shmem::inode::{file_inode, i_size_read};
use crate::{BUG_ON, VM_BUG_ON, WARN_ON_ONCE};

/// `xas_load`: what the slot holds now.
fn xas_load(k: &Kernel, mapping: InodeId, index: u64) -> Option<SlotVal> {
    u32::try_from(index).ok().and_then(|index| k.inode(mapping).i_pages.get(index))
}

/// Take a page out of its slot: account, clear the slot and `page->mapping`. The index stays.
///
/// Kernel:   mm/filemap.c:__delete_from_page_cache, unaccount_page_cache_page, page_cache_delete @ v5.14
/// Fidelity: TRIMMED(cleancache, huge pages, node statistics, shadow entries, writeback accounting; the mapcount of a page whose
///           mapping has AS_EXITING is reset, which shmem never sets in v5.14)
/// Locks:    page lock held; the xarray change is one step
/// Errors:   reports "Bad page cache" for a mapped page, warns about a dirty one
pub(crate) fn __delete_from_page_cache(k: &Kernel, mapping: InodeId, page: PageId) {
    if page_mapped(k, page) {
        k.report(Symptom::BadPageCache, || {
            format!("Bad page cache: pfn {} leaves {mapping} while {} PTEs map it", page.pfn, page_mapcount(k, page))
        });
    }
    // The bit stays set: the page may be found dirty by whoever holds a reference.
    let _ = WARN_ON_ONCE!(k, PageDirty(k, page));

    let index = k.page(page).index;
    let old = {
        let mut inode = k.inode_mut(mapping);
        inode.nrpages -= 1;
        u32::try_from(index).ok().and_then(|key| inode.i_pages.set(key, None))
    };
    VM_BUG_ON!(k, old != Some(SlotVal::Page(page)));
    k.page_mut(page).mapping = PageMapping::None;
    k.trace(|| Event::Cache { inode: mapping, index, old, new: None });
}

/// Take a page out of the page cache and drop the cache's reference. PTEs, rss and block accounting are the caller's.
///
/// Kernel:   mm/filemap.c:delete_from_page_cache @ v5.14
/// Fidelity: TRIMMED(huge pages, ->freepage)
/// Locks:    page lock held
/// Errors:   BUG when the page is not locked or in no page cache
pub async fn delete_from_page_cache(k: &Kernel, page: PageId) {
    let _f = k.enter("delete_from_page_cache", || format!("{page}"));
    BUG_ON!(k, !PageLocked(k, page));
    let p = k.page(page);
    let PageMapping::Inode(mapping) = p.mapping else {
        // The kernel follows a NULL pointer here.
        BUG_ON!(k, true);
        return;
    };
    point(k, Touch::WriteSlot(mapping, p.index)).await;
    __delete_from_page_cache(k, mapping, page);
    put_page(k, page);
}

/// Wait until the page is written out.
///
/// Kernel:   mm/page-writeback.c:wait_on_page_writeback @ v5.14
/// Fidelity: MODEL (the writer is never asleep, so this looks again when he has got further, instead of sleeping on the bit)
/// Locks:    none needed; may sleep
/// Errors:   none
pub async fn wait_on_page_writeback(k: &Kernel, page: PageId) {
    while PageWriteback(k, page) {
        if k.endless("wait_on_page_writeback") {
            die(k).await;
        }
        spin(k, "wait_on_page_writeback").await;
    }
}

/// Lock a page during a fault. Rather than wait with mmap_lock held, a first attempt lets go of it, waits and answers false.
///
/// Kernel:   mm/filemap.c:__lock_page_or_retry @ v5.14
/// Fidelity: TRIMMED(a killable waiter is not woken by its signal: whoever holds the page lock gives it up without user space)
/// Locks:    mmap_lock read held; dropped when the answer is false (not with RETRY_NOWAIT)
/// Errors:   false is VM_FAULT_RETRY at the caller
pub(crate) async fn lock_page_or_retry(k: &Kernel, page: PageId, mm: MmId, flags: FaultFlags) -> bool {
    // lock_page_or_retry tries first.
    point(k, Touch::WritePage(page)).await;
    if trylock_page(k, page) {
        return true;
    }
    if fault_flag_allow_retry_first(flags) {
        if flags.contains(FAULT_FLAG_RETRY_NOWAIT) {
            return false;
        }
        k.branch("page is locked: drop mmap_lock and wait");
        mmap_read_unlock(k, mm);
        // wait_on_page_locked: being able to take the lock is how the model notices that it was released.
        lock_page(k, page).await;
        unlock_page(k, page);
        return false;
    }
    lock_page(k, page).await;
    if flags.contains(FAULT_FLAG_KILLABLE) && k.task(k.current()).fatal_signal_pending {
        unlock_page(k, page);
        mmap_read_unlock(k, mm);
        return false;
    }
    true
}

/// `fault_flag_allow_retry_first`: may retry, and has not yet.
pub(crate) fn fault_flag_allow_retry_first(flags: FaultFlags) -> bool {
    flags.contains(FAULT_FLAG_ALLOW_RETRY) && !flags.contains(FAULT_FLAG_TRIED)
}

/// What the slot holds; a page comes with a reference.
///
/// Kernel:   mm/filemap.c:mapping_get_entry @ v5.14 (find_get_entry before)
/// Fidelity: TRIMMED(the speculative reference: loading the slot and taking the reference are one step, which is what the
///           kernel's re-read of the slot amounts to)
/// Locks:    none (RCU)
/// Errors:   none
#[inline]
pub fn find_get_entry(k: &Kernel, mapping: InodeId, index: u64) -> impl Future<Output = Option<SlotVal>> {
    point_then(k, Touch::ReadSlot(mapping, index), move || {
        let page = xas_load(k, mapping, index);
        if let Some(SlotVal::Page(page)) = page {
            get_page(k, page);
        }
        page
    })
}

/// What the slot holds; a page comes locked, with a reference, and is still in this mapping.
///
/// Kernel:   mm/filemap.c:pagecache_get_page(FGP_ENTRY | FGP_LOCK) @ v5.14
/// Fidelity: TRIMMED(huge pages, FGP_CREAT, FGP_ACCESSED)
/// Locks:    returns with the page lock held
/// Errors:   none
pub async fn find_lock_entry(k: &Kernel, mapping: InodeId, index: u64) -> Option<SlotVal> {
    let _f = k.enter("find_lock_entry", || format!("{mapping} index={index}"));
    // repeat:
    loop {
        let page = match find_get_entry(k, mapping, index).await {
            Some(SlotVal::Page(page)) => page,
            value_or_none => return value_or_none,
        };
        lock_page(k, page).await;
        // Truncated or swapped out while we waited?
        let (its_mapping, its_index) = {
            let p = k.page(page);
            (p.mapping, p.index)
        };
        if its_mapping != PageMapping::Inode(mapping) {
            k.branch("page left the cache before it was locked: look up again");
            unlock_page(k, page);
            put_page(k, page);
            if k.endless("find_lock_entry") {
                die(k).await;
            }
            continue;
        }
        VM_BUG_ON!(k, its_index != index);
        return Some(SlotVal::Page(page));
    }
}

/// As [`find_lock_entry`], with swap values taken for holes.
///
/// Kernel:   include/linux/pagemap.h:find_lock_page @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    returns with the page lock held
/// Errors:   none
pub async fn find_lock_page(k: &Kernel, mapping: InodeId, index: u64) -> Option<PageId> {
    match find_lock_entry(k, mapping, index).await {
        Some(SlotVal::Page(page)) => Some(page),
        _ => None,
    }
}

/// Make sure there is a PTE table to map into.
///
/// Kernel:   mm/filemap.c:filemap_map_pmd @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    mmap_lock read held
/// Errors:   true would be VM_FAULT_NOPAGE at the caller
fn filemap_map_pmd(k: &Kernel, vmf: &mut VmFaultCtx) -> bool {
    let Some(pmd) = vmf.pmd else { return true };
    if pmd_none(k, pmd) {
        install_prealloc_pte(k, vmf, pmd);
    }
    false
}

/// The next page of `[*xa_index, end_pgoff]` that can be mapped without waiting: locked, Uptodate, within i_size, with a
/// reference. `*xa_index` is left on it; the caller steps on.
///
/// Kernel:   mm/filemap.c:next_uptodate_page @ v5.14
/// Fidelity: TRIMMED(huge pages, PG_readahead: shmem never sets it)
/// Locks:    returns with the page lock held; only tries it
/// Errors:   none
async fn next_uptodate_page(k: &Kernel, mapping: InodeId, xa_index: &mut u64, end_pgoff: u64) -> Option<PageId> {
    while *xa_index <= end_pgoff {
        let index = *xa_index;
        point(k, Touch::ReadSlot(mapping, index)).await;
        'next: {
            // A hole, or a value: in swap.
            let Some(SlotVal::Page(page)) = xas_load(k, mapping, index) else { break 'next };
            if PageLocked(k, page) {
                k.branch("fault-around: page is locked, skipped");
                break 'next;
            }
            get_page(k, page);
            point(k, Touch::WritePage(page)).await;
            'skip: {
                // Has the page moved or been split?
                if xas_load(k, mapping, index) != Some(SlotVal::Page(page)) {
                    break 'skip;
                }
                if !PageUptodate(k, page) {
                    break 'skip;
                }
                if PageHWPoison(k, page) {
                    break 'skip;
                }
                if !trylock_page(k, page) {
                    break 'skip;
                }
                'unlock: {
                    if k.page(page).mapping != PageMapping::Inode(mapping) {
                        break 'unlock;
                    }
                    if !PageUptodate(k, page) {
                        break 'unlock;
                    }
                    let max_idx = max_off(i_size_read(k, mapping).await);
                    if index >= max_idx {
                        k.branch("fault-around: page is beyond i_size, skipped");
                        break 'unlock;
                    }
                    return Some(page);
                }
                unlock_page(k, page);
            }
            put_page(k, page);
        }
        *xa_index += 1;
    }
    None
}

/// Fault-around: map, for reading, what the page cache holds of `[start_pgoff, end_pgoff]` and is ready.
///
/// Kernel:   mm/filemap.c:filemap_map_pages @ v5.14
/// Fidelity: TRIMMED(huge pages, readahead statistics)
/// Locks:    mmap_lock read held; page locks are only tried; the PTE lock is held over the whole loop
/// Errors:   NOPAGE when the faulting address itself is mapped now; 0 else
pub async fn filemap_map_pages(k: &Kernel, vmf: &mut VmFaultCtx, start_pgoff: u64, end_pgoff: u64) -> VmFault {
    let _f = k.enter("filemap_map_pages", || format!("pgoff={start_pgoff}..={end_pgoff}"));
    let vma = k.vma(vmf.vma);
    let mut ret = VmFault::empty();
    let Some(file) = vma.vm_file else { return ret };
    let mapping = file_inode(k, file);

    let mut xa_index = start_pgoff;
    let Some(first) = next_uptodate_page(k, mapping, &mut xa_index, end_pgoff).await else { return ret };
    let mut page = first;

    if filemap_map_pmd(k, vmf) {
        unlock_page(k, page);
        put_page(k, page);
        return VM_FAULT_NOPAGE;
    }
    let Some(pmd) = vmf.pmd else { return VM_FAULT_NOPAGE };

    let start = vma.vm_start + ((start_pgoff - vma.vm_pgoff) << PAGE_SHIFT);
    let first_pte = pte_offset_map_lock(k, pmd, start).await;
    loop {
        'unlock: {
            'skip: {
                if PageHWPoison(k, page) {
                    break 'skip;
                }
                let addr = start + ((xa_index - start_pgoff) << PAGE_SHIFT);
                let pte = PteRef { table: first_pte.table, idx: first_pte.idx + (xa_index - start_pgoff) as u32 };
                vmf.pte = Some(pte);
                if !pte_none(ptep_get(k, pte)) {
                    break 'skip;
                }
                // The fault itself is being handled.
                if vmf.address == addr {
                    ret = VM_FAULT_NOPAGE;
                }
                do_set_pte(k, vmf, page, addr).await;
                unlock_page(k, page);
                // The reference is the PTE's now.
                break 'unlock;
            }
            unlock_page(k, page);
            put_page(k, page);
        }
        xa_index += 1;
        match next_uptodate_page(k, mapping, &mut xa_index, end_pgoff).await {
            Some(next) => page = next,
            None => break,
        }
    }
    pte_unmap_unlock(k, first_pte);
    ret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::fault::tests::{boot, run};
    use crate::mm::page_alloc::alloc_page;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn cached(k: &Kernel, index: u32) -> (InodeId, PageId) {
        let mapping = k.sm().inodes.insert(Inode::default());
        let page = run(alloc_page(k, "test")).unwrap();
        {
            let mut p = k.page_mut(page);
            p.mapping = PageMapping::Inode(mapping);
            p.index = index as u64;
        }
        k.inode_mut(mapping).i_pages.set(index, Some(SlotVal::Page(page)));
        k.inode_mut(mapping).nrpages = 1;
        (mapping, page)
    }

    #[test]
    fn a_page_that_was_truncated_while_its_lock_was_waited_for_is_not_returned() {
        let (k, _) = boot();
        let (mapping, page) = cached(&k, 3);
        let truncating = k.current();
        let looking = k.sm().tasks.insert(Task::default());
        run(lock_page(&k, page));
        let mut lookup = pin!(find_lock_entry(&k, mapping, 3));
        let mut cx = Context::from_waker(Waker::noop());
        k.run.current.set(Some(looking));
        assert!(lookup.as_mut().poll(&mut cx).is_pending());
        k.run.current.set(Some(truncating));
        assert_eq!(page_count(&k, page), 2);
        run(delete_from_page_cache(&k, page));
        unlock_page(&k, page);
        k.run.current.set(Some(looking));
        assert_eq!(lookup.as_mut().poll(&mut cx), std::task::Poll::Ready(None));
        assert_eq!(k.s().mem_map[page.pfn as usize].refcount, 0);
        assert_eq!(k.inode(mapping).nrpages, 0);
        assert!(k.s().held.is_empty());
        assert!(k.run.findings.borrow().is_empty());
    }

    #[test]
    fn a_mapped_or_dirty_page_that_leaves_the_cache_is_reported() {
        let (k, _) = boot();
        let (_, page) = cached(&k, 0);
        get_page(&k, page);
        k.page_mut(page).mapcount = 1;
        run(lock_page(&k, page));
        SetPageDirty(&k, page);
        run(delete_from_page_cache(&k, page));
        let symptoms: Vec<Symptom> = k.run.findings.borrow().iter().map(|f| f.symptom).collect();
        assert_eq!(symptoms, [Symptom::BadPageCache, Symptom::WarnOn]);
        assert!(PageDirty(&k, page));
        assert_eq!(k.page(page).mapcount, 1);
    }

    #[test]
    fn values_are_returned_as_they_are_and_find_lock_page_takes_them_for_holes() {
        let (k, _) = boot();
        let (mapping, _) = cached(&k, 0);
        k.inode_mut(mapping).i_pages.set(1, Some(SlotVal::Swap(SwpEntry(5))));
        assert_eq!(run(find_get_entry(&k, mapping, 1)), Some(SlotVal::Swap(SwpEntry(5))));
        assert_eq!(run(find_lock_page(&k, mapping, 1)), None);
        // An index that no file reaches.
        assert_eq!(run(find_get_entry(&k, mapping, 1 << 40)), None);
    }
}
