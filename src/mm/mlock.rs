// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mlock.c`, `mm/rmap.c:page_mlock`, and the populate loop of `mm/gup.c`.

use crate::delta::Delta;
use crate::errno::{EFAULT, EINVAL, ENOMEM, Errno, KResult};
use crate::event::Event;
use crate::flags::*;
use crate::kernel::{Kernel, MmId, PAGE_SHIFT, PAGE_SIZE, PageId, PageMapping, VmaId, page_align};
use crate::mm::gup::populate_vma_page_range;
use crate::mm::locking::{
    LockId, LockMode, acquire, lock_page, mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock, release,
    unlock_page,
};
use crate::mm::mmap::{find_vma, split_vma, vma_merge, vma_next, vma_prev, with_sticky};
use crate::mm::page::{
    ClearPageUnevictable, PageLRU, PageLocked, SetPageLRU, TestClearPageLRU, TestClearPageMlocked, TestSetPageMlocked, get_page,
    lru_add_drain, page_evictable, page_mapcount, page_mapped, put_page,
};
use crate::mm::pgtable::{
    lookup, mm_find_pmd, pmd_none, pte_offset_map_lock, pte_page, pte_unmap_unlock, ptep_get, vm_normal_page,
};
use crate::mm::rmap::vma_address;
use crate::mm::vmscan::{isolate_lru_page, putback_lru_page};
use crate::mm::zap::{next_pte, next_pte_table, pmd_addr_end};
use crate::point::{Touch, point, spin};
use crate::{BUG_ON, VM_BUG_ON};

// ---- pages --------------------------------------------------------------------------------------------------------------

/// Mark a page as mapped by a VM_LOCKED VMA and keep it off the evictable lists.
///
/// Kernel:   mm/mlock.c:mlock_vma_page @ v5.14
/// Fidelity: TRIMMED(statistics)
/// Locks:    page lock held; ptl may be held
/// Errors:   none
pub async fn mlock_vma_page(k: &Kernel, page: PageId) {
    BUG_ON!(k, !PageLocked(k, page));
    if !TestSetPageMlocked(k, page) && isolate_lru_page(k, page).is_ok() {
        // It goes to the list that it belongs to by now.
        putback_lru_page(k, page);
    }
}

/// Finish munlocking an isolated page: another VM_LOCKED VMA may map it too.
///
/// Kernel:   mm/mlock.c:__munlock_isolated_page @ v5.14
/// Fidelity: TRIMMED(statistics)
/// Locks:    page lock held
/// Errors:   none
async fn __munlock_isolated_page(k: &Kernel, page: PageId) {
    // Mapped once: that is the mapping which is being munlocked.
    if page_mapcount(k, page) > 1 {
        page_mlock(k, page).await;
    }
    putback_lru_page(k, page);
}

/// Take a page out of mlock, unless another VM_LOCKED VMA maps it.
///
/// Kernel:   mm/mlock.c:munlock_vma_page @ v5.14
/// Fidelity: TRIMMED(huge pages, statistics)
/// Locks:    page lock held
/// Errors:   none
pub async fn munlock_vma_page(k: &Kernel, page: PageId) {
    BUG_ON!(k, !PageLocked(k, page));
    if !TestClearPageMlocked(k, page) {
        return;
    }
    if isolate_lru_page(k, page).is_ok() {
        __munlock_isolated_page(k, page).await;
    } else {
        // Whoever has it isolated, or the batch that it waits in, puts it where it belongs.
        k.branch("munlock: the page is not on the LRU");
    }
}

/// How many VM_LOCKED VMAs map the page.
fn locked_mappings(k: &Kernel, page: PageId) -> usize {
    let s = k.s();
    let maps = |vma: VmaId| {
        let Some(address) = vma_address(k, page, vma) else { return false };
        let mm = k.vma(vma).vm_mm;
        s.mms.get(mm).is_some_and(|m| m.mmap.contains(&vma)) && pte_page(lookup(k, mm, address)) == Some(page)
    };
    s.vmas.iter().filter(|(id, v)| v.vm_flags.contains(VM_LOCKED) && maps(*id)).count()
}

/// A VM_LOCKED VMA maps the page.
///
/// Kernel:   mm/mlock.c:mlock_page @ v5.19, mlock_folio @ v6.18
/// Fidelity: TRIMMED(the batch of a CPU, statistics)
/// Locks:    ptl held
/// Errors:   none
fn mlock_folio(k: &Kernel, page: PageId) {
    if !TestSetPageMlocked(k, page) && isolate_lru_page(k, page).is_ok() {
        putback_lru_page(k, page);
    }
}

/// A VM_LOCKED VMA maps the page no longer.
///
/// The kernel puts this off until a CPU's batch is full or flushed. A page that a VM_LOCKED VMA maps again before that loses the mark
/// that it has just got, and keeps that of before if nobody does: which of the two is seen depends on who else runs on that CPU.
///
/// Kernel:   mm/mlock.c:munlock_page, __munlock_page @ v5.19, munlock_folio, __munlock_folio @ v6.18
/// Fidelity: MODEL(without the batch of a CPU; mlock_count is counted anew, where the kernel may lose it)
/// Locks:    ptl held
/// Errors:   none
fn munlock_folio(k: &Kernel, page: PageId) {
    if locked_mappings(k, page) > 0 {
        k.branch("munlock: another locked mapping");
        return;
    }
    if TestClearPageMlocked(k, page) && isolate_lru_page(k, page).is_ok() {
        putback_lru_page(k, page);
    }
}

/// An entry has come to map the page in this VMA. MLOCK_RMAP only: before, whoever populates the memory marks it.
///
/// Kernel:   mm/internal.h:mlock_vma_page @ v5.19, mlock_vma_folio @ v6.18
/// Fidelity: TRIMMED(VM_SPECIAL, huge pages)
/// Locks:    ptl held
/// Errors:   none
pub fn mlock_vma_folio(k: &Kernel, page: PageId, vma: VmaId) {
    if k.has(Delta::MLOCK_RMAP) && k.vma(vma).vm_flags.contains(VM_LOCKED) {
        mlock_folio(k, page);
    }
}

/// An entry of this VMA maps the page no longer. MLOCK_RMAP only.
///
/// Kernel:   mm/internal.h:munlock_vma_page @ v5.19, munlock_vma_folio @ v6.18
/// Fidelity: TRIMMED(huge pages)
/// Locks:    ptl held
/// Errors:   none
pub fn munlock_vma_folio(k: &Kernel, page: PageId, vma: VmaId) {
    if k.has(Delta::MLOCK_RMAP) && k.vma(vma).vm_flags.contains(VM_LOCKED) {
        munlock_folio(k, page);
    }
}

/// Give a range of a VMA the flag or take it away, and the pages that it maps the mark.
///
/// Kernel:   mm/mlock.c:mlock_vma_pages_range, mlock_pte_range @ v5.19
/// Fidelity: TRIMMED(VM_IO against concurrent rmap walks, huge pages)
/// Locks:    mmap_lock held for writing; takes and drops the PTE lock
/// Errors:   none
async fn mlock_vma_pages_range(k: &Kernel, vma: VmaId, start: u64, end: u64, newflags: VmFlags) {
    let _f = k.enter("mlock_vma_pages_range", || format!("{vma} {start:#x}-{end:#x} {newflags:?}"));
    let mm = k.vma(vma).vm_mm;
    k.vma_mut(vma).vm_flags = newflags;
    lru_add_drain(k);
    let mut at = start;
    while let Some((table_at, pmd)) = next_pte_table(k, mm, at, end) {
        let next = pmd_addr_end(table_at, end);
        let first = pte_offset_map_lock(k, pmd, table_at).await;
        let (mut addr, mut pte) = (table_at, first);
        while addr != next {
            let Some((found, this, val)) = next_pte(k, pte, addr, next) else { break };
            if let Some(page) = vm_normal_page(val) {
                if newflags.contains(VM_LOCKED) {
                    mlock_folio(k, page);
                } else {
                    munlock_folio(k, page);
                }
            }
            (addr, pte) = (found + PAGE_SIZE, this.next());
        }
        pte_unmap_unlock(k, first);
        at = next;
    }
    lru_add_drain(k);
}

/// Find the page mlocked again if a VMA that maps it is VM_LOCKED.
///
/// Kernel:   mm/rmap.c:page_mlock, page_mlock_one, rmap_walk @ v5.14
/// Fidelity: TRIMMED(huge pages, KSM; the lists are walked whole, where the kernel uses interval trees)
/// Locks:    page lock held; takes and drops the i_mmap or anon_vma lock for reading, and the PTE lock
/// Errors:   none
async fn page_mlock(k: &Kernel, page: PageId) {
    let _f = k.enter("page_mlock", || format!("{page}"));
    VM_BUG_ON!(k, !PageLocked(k, page) || PageLRU(k, page));
    let (lock, owner) = match k.page(page).mapping {
        PageMapping::None => return,
        PageMapping::Inode(mapping) => (LockId::IMmap(mapping), PageMapping::Inode(mapping)),
        PageMapping::Anon(anon_vma) => {
            // page_lock_anon_vma_read: an unmapped page's anon_vma may be gone.
            if !page_mapped(k, page) {
                return;
            }
            let root = k.anon_vma(anon_vma).root;
            (LockId::AnonVma(root.unwrap_or(anon_vma)), PageMapping::Anon(anon_vma))
        }
    };
    acquire(k, lock, LockMode::Read).await;
    let vmas = match owner {
        PageMapping::Inode(mapping) => k.inode(mapping).i_mmap.clone(),
        PageMapping::Anon(anon_vma) => k.anon_vma(anon_vma).vmas.clone(),
        PageMapping::None => Default::default(),
    };
    for vma in vmas {
        let Some(address) = vma_address(k, page, vma) else { continue };
        if !k.vma(vma).vm_flags.contains(VM_LOCKED) {
            continue;
        }
        let pmd = match mm_find_pmd(k, k.vma(vma).vm_mm, address) {
            Some(pmd) if !pmd_none(k, pmd) => pmd,
            _ => continue,
        };
        let pte = pte_offset_map_lock(k, pmd, address).await;
        let mapped = pte_page(ptep_get(k, pte)) == Some(page);
        // munlock clears the flag before it looks at the entries: it is asked again where the entry cannot change.
        let mlocked = mapped && k.vma(vma).vm_flags.contains(VM_LOCKED);
        if mlocked {
            k.branch("another locked mapping: mlocked again");
            mlock_vma_page(k, page).await;
        }
        pte_unmap_unlock(k, pte);
        // page_not_mapped, or found what was looked for
        if mlocked || !page_mapped(k, page) {
            break;
        }
    }
    release(k, lock, LockMode::Read);
}

/// The first page that a VMA maps in `[start, end)`, with its address and a reference; never the zero page.
///
/// Kernel:   mm/gup.c:follow_page with FOLL_GET|FOLL_DUMP, mm/mlock.c:__munlock_pagevec_fill @ v5.14
/// Fidelity: TRIMMED(address by address, up to 15 pages at a time)
/// Locks:    mmap_lock held, or the last user of the mm; takes and drops the PTE lock
/// Errors:   None: no further page
async fn follow_next_page(k: &Kernel, vma: VmaId, mut start: u64, end: u64) -> Option<(u64, PageId)> {
    let mm = k.vma(vma).vm_mm;
    while let Some((at, pmd)) = next_pte_table(k, mm, start, end) {
        let next = pmd_addr_end(at, end);
        let first = pte_offset_map_lock(k, pmd, at).await;
        let (mut addr, mut pte) = (at, first);
        while addr != next {
            let Some((found, this, val)) = next_pte(k, pte, addr, next) else { break };
            if let Some(page) = vm_normal_page(val) {
                get_page(k, page);
                pte_unmap_unlock(k, first);
                return Some((found, page));
            }
            (addr, pte) = (found + PAGE_SIZE, this.next());
        }
        pte_unmap_unlock(k, first);
        start = next;
    }
    None
}

/// Munlock one page and drop the caller's reference.
///
/// Kernel:   mm/mlock.c:__munlock_pagevec, __putback_lru_fast_prepare, __putback_lru_fast @ v5.14
/// Fidelity: TRIMMED(batches of one page, statistics)
/// Locks:    takes and drops the page lock
/// Errors:   none
async fn __munlock_pagevec(k: &Kernel, page: PageId) {
    // Isolation. The reference that the walk took stands for the one that isolate_lru_page would take.
    point(k, Touch::WritePage(page)).await;
    if !(TestClearPageMlocked(k, page) && TestClearPageLRU(k, page)) {
        k.branch("not mlocked, or not on the LRU: left alone");
        // pagevec_release
        lru_add_drain(k);
        put_page(k, page);
        return;
    }

    lock_page(k, page).await;
    if page_mapcount(k, page) <= 1 && page_evictable(k, page) {
        VM_BUG_ON!(k, PageLRU(k, page));
        ClearPageUnevictable(k, page);
        unlock_page(k, page);
        // __pagevec_lru_add: the reference goes with it.
        SetPageLRU(k, page);
        put_page(k, page);
    } else {
        get_page(k, page);
        __munlock_isolated_page(k, page).await;
        unlock_page(k, page);
        put_page(k, page);
    }
}

/// Take a range of a VMA out of mlock: the flag first, then the pages.
///
/// Kernel:   mm/mlock.c:munlock_vma_pages_range @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    mmap_lock held for writing, or the last user of the mm; takes and drops PTE and page locks
/// Errors:   none
pub async fn munlock_vma_pages_range(k: &Kernel, vma: VmaId, mut start: u64, end: u64) {
    let _f = k.enter("munlock_vma_pages_range", || format!("{vma} {start:#x}-{end:#x}"));
    k.vma_mut(vma).vm_flags -= VM_LOCKED;
    while start < end {
        let Some((at, page)) = follow_next_page(k, vma, start, end).await else { break };
        __munlock_pagevec(k, page).await;
        start = at + PAGE_SIZE;
    }
}

// ---- ranges -------------------------------------------------------------------------------------------------------------

/// Lock or unlock `[start, end)` of one VMA: merge or split, set the flag; unlocking also lets the pages go. MLOCK_RMAP: locking
/// also marks those that are there.
///
/// Kernel:   mm/mlock.c:mlock_fixup @ v5.14
/// Fidelity: TRIMMED(VM_SPECIAL, gate area, DAX, secretmem, locked_vm)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM no memory to split
async fn mlock_fixup(
    k: &Kernel,
    mut vma: VmaId,
    prev: &mut Option<VmaId>,
    start: u64,
    end: u64,
    mut newflags: VmFlags,
) -> KResult {
    let _f = k.enter("mlock_fixup", || format!("{vma} {start:#x}-{end:#x} {newflags:?}"));
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let lock = newflags.contains(VM_LOCKED);
    let mut ret = Ok(());

    'out: {
        if newflags == v.vm_flags {
            break 'out;
        }

        'success: {
            let pgoff = v.vm_pgoff + ((start - v.vm_start) >> PAGE_SHIFT);
            *prev = vma_merge(k, mm, *prev, start, end, newflags, v.anon_vma, v.vm_file, pgoff, v.ctx).await;
            if let Some(merged) = *prev {
                vma = merged;
                newflags = with_sticky(k, vma, newflags);
                break 'success;
            }

            if start != v.vm_start {
                ret = split_vma(k, mm, vma, start, true).await;
                if ret.is_err() {
                    break 'out;
                }
            }

            if end != k.vma(vma).vm_end {
                ret = split_vma(k, mm, vma, end, false).await;
                if ret.is_err() {
                    break 'out;
                }
            }
        }

        if k.has(Delta::MLOCK_RMAP) {
            if lock && v.vm_flags.contains(VM_LOCKED) {
                k.vma_mut(vma).vm_flags = newflags;
            } else {
                mlock_vma_pages_range(k, vma, start, end, newflags).await;
            }
            break 'out;
        }

        // success: reclaim may still unmap a page that it looked at before; populating brings it back.
        if lock {
            k.vma_mut(vma).vm_flags = newflags;
        } else {
            munlock_vma_pages_range(k, vma, start, end).await;
        }
        k.trace(|| Event::Vma { vma, what: format!("vm_flags {:?} -> {newflags:?}", v.vm_flags) });
    }
    *prev = Some(vma);
    ret
}

/// Give every VMA in a range the flag, or take it away. What was done before an error stays done.
///
/// Kernel:   mm/mlock.c:apply_vma_lock_flags @ v5.14
/// Fidelity: TRIMMED(VM_LOCKONFAULT)
/// Locks:    mmap_lock held for writing
/// Errors:   EINVAL the range wraps; ENOMEM it is not wholly mapped, or no memory to split
async fn apply_vma_lock_flags(k: &Kernel, mm: MmId, start: u64, len: u64, flags: VmFlags) -> KResult {
    VM_BUG_ON!(k, start & (PAGE_SIZE - 1) != 0);
    VM_BUG_ON!(k, len != page_align(len));
    let end = start.wrapping_add(len);
    if end < start {
        return Err(EINVAL);
    }
    if end == start {
        return Ok(());
    }
    let mut vma = match find_vma(k, mm, start) {
        Some(vma) if k.vma(vma).vm_start <= start => vma,
        _ => return Err(ENOMEM),
    };

    let mut prev = vma_prev(k, vma);
    if start > k.vma(vma).vm_start {
        prev = Some(vma);
    }

    let mut nstart = start;
    loop {
        // Here vm_start <= nstart < vm_end.
        let v = k.vma(vma);
        let newflags = (v.vm_flags - VM_LOCKED) | flags;
        let tmp = v.vm_end.min(end);
        if let Err(error) = mlock_fixup(k, vma, &mut prev, nstart, tmp, newflags).await {
            return Err(error);
        }
        nstart = tmp;
        // A merge may have taken the next VMA in.
        let Some(p) = prev else { return Ok(()) };
        let prev_end = k.vma(p).vm_end;
        if nstart < prev_end {
            nstart = prev_end;
        }
        if nstart >= end {
            return Ok(());
        }

        match vma_next(k, p) {
            Some(next) if k.vma(next).vm_start == nstart => vma = next,
            _ => {
                k.branch("gap in the range");
                return Err(ENOMEM);
            }
        }
    }
}

/// What POSIX wants mlock to say when the pages cannot be had.
///
/// Kernel:   mm/mlock.c:__mlock_posix_error_return @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EFAULT becomes ENOMEM, ENOMEM becomes EAGAIN
fn __mlock_posix_error_return(error: Errno) -> Errno {
    match error {
        EFAULT => ENOMEM,
        ENOMEM => crate::errno::EAGAIN,
        other => other,
    }
}

/// mlock(2).
///
/// Kernel:   mm/mlock.c:do_mlock @ v5.14
/// Fidelity: TRIMMED(RLIMIT_MEMLOCK, a fatal signal while waiting for the lock)
/// Locks:    takes and drops mmap_lock for writing, then for reading
/// Errors:   ENOMEM the range is not wholly mapped, a page is past the end of its file, or no memory to split; EINVAL the range
///           wraps; EAGAIN no memory for the pages; EINTR a fatal signal
pub async fn sys_mlock(k: &Kernel, start: u64, len: u64) -> KResult {
    let _f = k.enter("do_mlock", || format!("{start:#x} len={len:#x}"));
    let Some(mm) = k.current_mm() else { return Err(ENOMEM) };
    let len = page_align(len.wrapping_add(start & (PAGE_SIZE - 1)));
    let start = start & !(PAGE_SIZE - 1);

    mmap_write_lock(k, mm).await;
    let error = apply_vma_lock_flags(k, mm, start, len, VM_LOCKED).await;
    mmap_write_unlock(k, mm);
    if error.is_err() {
        return error;
    }

    // The lock was dropped, so that faults may sleep: the mapping may be another one by now, and an error leaves VM_LOCKED set.
    match __mm_populate(k, start, len, false).await {
        Ok(()) => Ok(()),
        Err(error) => Err(__mlock_posix_error_return(error)),
    }
}

/// munlock(2).
///
/// Kernel:   mm/mlock.c:SYSCALL_DEFINE2(munlock) @ v5.14
/// Fidelity: TRIMMED(a fatal signal while waiting for the lock)
/// Locks:    takes and drops mmap_lock for writing
/// Errors:   ENOMEM the range is not wholly mapped, or no memory to split; EINVAL it wraps
pub async fn sys_munlock(k: &Kernel, start: u64, len: u64) -> KResult {
    let _f = k.enter("munlock", || format!("{start:#x} len={len:#x}"));
    let Some(mm) = k.current_mm() else { return Err(ENOMEM) };
    let len = page_align(len.wrapping_add(start & (PAGE_SIZE - 1)));
    let start = start & !(PAGE_SIZE - 1);

    mmap_write_lock(k, mm).await;
    let ret = apply_vma_lock_flags(k, mm, start, len, VmFlags::empty()).await;
    mmap_write_unlock(k, mm);
    ret
}

// ---- populate -----------------------------------------------------------------------------------------------------------

/// Fault in a range, for mmap(2) with MAP_POPULATE or MAP_LOCKED and for mremap(2); what cannot be had is left out.
///
/// Kernel:   include/linux/mm.h:mm_populate @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops mmap_lock for reading
/// Errors:   none
pub async fn mm_populate(k: &Kernel, start: u64, len: u64) {
    let _ = __mm_populate(k, start, len, true).await;
}

/// Fault in the pages of a range. Holes are skipped. With `ignore_errors` a VMA that gives an error is left for the next one.
///
/// Kernel:   mm/gup.c:__mm_populate @ v5.14
/// Fidelity: TRIMMED(VM_IO, VM_PFNMAP)
/// Locks:    takes and drops mmap_lock for reading; dropped and taken again where a fault had to wait
/// Errors:   EFAULT, ENOMEM, EINTR
pub async fn __mm_populate(k: &Kernel, start: u64, len: u64, ignore_errors: bool) -> KResult {
    let _f = k.enter("__mm_populate", || format!("{start:#x} len={len:#x}"));
    let Some(mm) = k.current_mm() else { return Ok(()) };
    let end = start.wrapping_add(len);
    let mut ret = Ok(());
    let mut locked = false;
    let mut vma: Option<VmaId> = None;
    let mut retries = 0;

    let mut nstart = start;
    while nstart < end {
        if !locked {
            locked = true;
            mmap_read_lock(k, mm).await;
            vma = find_vma(k, mm, nstart);
        } else if let Some(v) = vma
            && nstart >= k.vma(v).vm_end
        {
            vma = vma_next(k, v);
        }
        let here = match vma {
            Some(vma) if k.vma(vma).vm_start < end => vma,
            _ => break,
        };
        let nend = end.min(k.vma(here).vm_end);
        nstart = nstart.max(k.vma(here).vm_start);
        match populate_vma_page_range(k, here, nstart, nend, Some(&mut locked)).await {
            Err(error) => {
                if !ignore_errors {
                    ret = Err(error);
                    break;
                }
                k.branch("populate: error ignored, on to the next VMA");
                nstart = nend;
            }
            Ok(pages) => {
                nstart += pages * PAGE_SIZE;
                if pages == 0 {
                    retries += 1;
                    if retries > 8 {
                        spin(k, "__mm_populate").await;
                    }
                }
            }
        }
    }
    if locked {
        mmap_read_unlock(k, mm);
    }
    ret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::{EAGAIN, EINTR};
    use crate::kernel::{MmStruct, PageProt, PageTable, State, Task, Vma};
    use crate::mm::page::{SetPageMlocked, lru_cache_add, page_count};
    use crate::mm::page_alloc::alloc_page;
    use crate::mm::pgtable::{mk_pte, mm_alloc_pmd, native_set_pte, pte_alloc, pte_offset_map, zero_pte};
    use crate::point::run_through as run;

    #[test]
    fn posix_has_its_own_names_for_what_went_wrong() {
        assert_eq!([EFAULT, ENOMEM, EINTR].map(__mlock_posix_error_return), [ENOMEM, EAGAIN, EINTR]);
    }

    #[test]
    fn munlock_makes_a_singly_mapped_page_evictable_and_keeps_its_references() {
        let k = Kernel::new(State::default());
        let task = k.sm().tasks.insert(Task::default());
        k.run.current.set(Some(task));
        let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm = k.sm().mms.insert(MmStruct { pgd: Some(pgd), ..MmStruct::default() });
        let vma = Vma { vm_start: 0, vm_end: 1 << 30, vm_mm: mm, vm_flags: VM_READ | VM_LOCKED, ..Vma::default() };
        let vma = k.sm().vmas.insert(vma);
        let page = run(alloc_page(&k, "test")).unwrap();
        let prot = PageProt { flags: _PAGE_ACCESSED };
        for (addr, val) in [(0x1000, zero_pte(prot)), (0x20_0000, mk_pte(page, prot))] {
            let pmd = run(mm_alloc_pmd(&k, mm, addr)).unwrap();
            assert!(run(pte_alloc(&k, mm, pmd)));
            native_set_pte(&k, mm, addr, pte_offset_map(&k, pmd, addr).unwrap(), val);
        }
        k.page_mut(page).mapcount = 1;
        SetPageMlocked(&k, page);
        lru_cache_add(&k, page);
        lru_add_drain(&k);
        assert_eq!(k.page(page).flags, PG_mlocked | PG_lru | PG_unevictable);

        run(munlock_vma_pages_range(&k, vma, 0, 1 << 30));
        assert_eq!(k.page(page).flags, PG_lru);
        assert_eq!(page_count(&k, page), 1);
        assert_eq!(k.vma(vma).vm_flags, VM_READ);
        run(munlock_vma_pages_range(&k, vma, 0, 1 << 30));
        assert_eq!((k.page(page).flags, page_count(&k, page)), (PG_lru, 1));
        assert!(k.s().held.is_empty() && k.run.findings.borrow().is_empty());
    }
}
