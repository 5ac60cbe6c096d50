// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, the unmapping half: zap_pte_range and everything that leads to it.
//!
//! The kernel walks every address of a range, level by level. Here the walk steps from one existing entry to the next
//! ([`next_pte_table`], [`next_pte`]): the same entries in the same order, whatever the size of the mapping.

use crate::delta::Delta;
use crate::event::Symptom;
use crate::flags::*;
use crate::kernel::{
    InodeId, Kernel, MmCounter, MmId, PAGE_SHIFT, PAGE_SIZE, PageId, PageMapping, PtEntry, PteVal, TableId, VmaId,
};
use crate::mm::locking::{LockId, LockMode, acquire, release};
use crate::mm::memory::vma_is_anonymous;
use crate::mm::mmap::vma_next;
use crate::mm::page::{PageAnon, PageLocked, add_mm_counter, lru_add_drain, mark_page_accessed, mm_counter};
use crate::mm::page::{page_mapcount, set_page_dirty};
use crate::mm::pgtable::{PMD_SIZE, Pmd, PteRef, ptep_get_and_clear, set_pte_at, vm_normal_page};
use crate::mm::pgtable::{pte_dirty, pte_offset_map_lock, pte_unmap_unlock, pte_young};
use crate::mm::rmap::{page_remove_rmap, pte_install_uffd_wp_if_needed};
use crate::mm::swap_state::free_page_and_swap_cache;
use crate::mm::swapfile::free_swap_and_cache;
use crate::point::{Touch, point};
use smallvec::SmallVec;

/// `struct zap_details`: that there is one at all made [`zap_pte_range`] leave swap entries alone, before ZAP_EVEN_COWS.
#[derive(Clone, Copy, Debug)]
pub struct ZapDetails {
    /// Unmap only pages of this page cache, and keep private copies. None unmaps both.
    pub check_mapping: Option<InodeId>,
    /// ZAP_FLAG_DROP_MARKER (v5.19): markers go too.
    pub drop_marker: bool,
}

/// `should_zap_cows`: private copies too, in memory or in swap?
fn should_zap_cows(k: &Kernel, details: Option<&ZapDetails>) -> bool {
    match details {
        None => true,
        Some(details) => k.has(Delta::ZAP_EVEN_COWS) && details.check_mapping.is_none(),
    }
}

/// `zap_drop_markers`.
fn zap_drop_markers(details: Option<&ZapDetails>) -> bool {
    details.is_some_and(|details| details.drop_marker)
}

/// Leave a marker for a write-protected entry that was cleared, unless markers are to go.
///
/// Kernel:   mm/memory.c:zap_install_uffd_wp_if_needed @ v5.19
/// Fidelity: MIRROR
/// Locks:    ptl held
/// Errors:   none
fn zap_install_uffd_wp_if_needed(k: &Kernel, vma: VmaId, addr: u64, pte: PteRef, details: Option<&ZapDetails>, pteval: PteVal) {
    if zap_drop_markers(details) {
        return;
    }
    pte_install_uffd_wp_if_needed(k, vma, addr, pte, pteval);
}

/// `struct mmu_gather`: pages whose entries are gone and whose references are dropped after the TLB flush.
#[derive(Debug)]
struct MmuGather {
    mm: MmId,
    pages: SmallVec<[PageId; 8]>,
}

/// Start to gather.
///
/// Kernel:   mm/mmu_gather.c:tlb_gather_mmu @ v5.14
/// Fidelity: TRIMMED(no TLB, batches without limit)
/// Locks:    none
/// Errors:   none
fn tlb_gather_mmu(mm: MmId) -> MmuGather {
    MmuGather { mm, pages: SmallVec::new() }
}

/// Drop the references of what was gathered so far.
///
/// Kernel:   mm/mmu_gather.c:tlb_flush_mmu, mm/swap_state.c:free_pages_and_swap_cache @ v5.14
/// Fidelity: TRIMMED(no TLB)
/// Locks:    no spin lock held; try-locks pages that are in the swap cache
/// Errors:   none
async fn tlb_flush_mmu(k: &Kernel, tlb: &mut MmuGather) {
    if tlb.pages.is_empty() {
        return;
    }
    lru_add_drain(k);
    for page in std::mem::take(&mut tlb.pages) {
        // Until here others see a reference more than there are mappings.
        point(k, Touch::WritePage(page)).await;
        free_page_and_swap_cache(k, page);
    }
}

/// Finish: everything that was gathered is let go.
///
/// Kernel:   mm/mmu_gather.c:tlb_finish_mmu @ v5.14
/// Fidelity: TRIMMED(no TLB)
/// Locks:    no spin lock held
/// Errors:   none
async fn tlb_finish_mmu(k: &Kernel, mut tlb: MmuGather) {
    tlb_flush_mmu(k, &mut tlb).await;
}

/// Changes of the resident counters that are added in one go.
pub(crate) type RssVec = [i32; 4];

/// Add batched changes of the resident counters.
///
/// Kernel:   mm/memory.c:add_mm_rss_vec @ v5.14
/// Fidelity: TRIMMED(counters are never cached per task)
/// Locks:    ptl held
/// Errors:   none
pub(crate) fn add_mm_rss_vec(k: &Kernel, mm: MmId, rss: &RssVec) {
    for counter in [MmCounter::MM_FILEPAGES, MmCounter::MM_ANONPAGES, MmCounter::MM_SWAPENTS, MmCounter::MM_SHMEMPAGES] {
        add_mm_counter(k, mm, counter, rss[counter as usize]);
    }
}

/// The end of the PTE table that holds `addr`, or `end` if that comes first.
pub(crate) fn pmd_addr_end(addr: u64, end: u64) -> u64 {
    (addr.wrapping_add(PMD_SIZE) & !(PMD_SIZE - 1)).min(end)
}

/// The first PTE table that maps something in `[addr, end)`: the lowest address it is asked for, and the entry that points to it.
pub(crate) fn next_pte_table(k: &Kernel, mm: MmId, addr: u64, end: u64) -> Option<(u64, Pmd)> {
    // The next entry of one table; moves `addr` up to it, or to the end of the table when there is none.
    fn step(k: &Kernel, table: TableId, level: u8, addr: &mut u64) -> Option<(u32, TableId)> {
        let shift = PAGE_SHIFT as u64 + 9 * (level as u64 - 1);
        let idx = ((*addr >> shift) & 511) as u32;
        let base = *addr >> (shift + 9);
        match k.table(table).entries.next_from(idx) {
            Some((i, PtEntry::Table(child))) => {
                if i > idx {
                    *addr = (base << 9 | i as u64) << shift;
                }
                Some((i, child))
            }
            _ => {
                *addr = (base + 1) << (shift + 9);
                None
            }
        }
    }
    let pgd = k.mm(mm).pgd?;
    let mut addr = addr;
    while addr < end {
        let (_, pud) = step(k, pgd, 4, &mut addr)?;
        let Some((_, pmd)) = step(k, pud, 3, &mut addr) else { continue };
        let Some((idx, _)) = step(k, pmd, 2, &mut addr) else { continue };
        return if addr < end { Some((addr, Pmd { table: pmd, idx })) } else { None };
    }
    None
}

/// The first entry in `[addr, end)` that is not none; `pte` is the entry for `addr`, and both ends lie in one table.
pub(crate) fn next_pte(k: &Kernel, pte: PteRef, addr: u64, end: u64) -> Option<(u64, PteRef, PteVal)> {
    let last = pte.idx as u64 + ((end - addr) >> PAGE_SHIFT);
    match k.table(pte.table).entries.next_from(pte.idx) {
        Some((idx, PtEntry::Pte(val))) if (idx as u64) < last => {
            Some((addr + (((idx - pte.idx) as u64) << PAGE_SHIFT), PteRef { table: pte.table, idx }, val))
        }
        _ => None,
    }
}

/// "BUG: Bad page map".
///
/// Kernel:   mm/memory.c:print_bad_pte @ v5.14
/// Fidelity: MODEL (a finding instead of a log entry)
/// Locks:    ptl held
/// Errors:   none
fn print_bad_pte(k: &Kernel, vma: VmaId, addr: u64, pte: PteVal, page: Option<PageId>) {
    k.report(Symptom::BadPageMap, || match page {
        Some(page) => {
            let mapcount = page_mapcount(k, page);
            format!("Bad page map: {vma} addr {addr:#x} {pte:?}, {page} mapcount {mapcount}")
        }
        None => format!("Bad page map: {vma} addr {addr:#x} {pte:?}"),
    });
}

/// `page_rmapping(page) == mapping`: is this the page cache whose pages shall go? (A private copy has its anon_vma there, and
/// a page that has left the cache has nothing.)
fn page_rmapping_is(k: &Kernel, page: PageId, mapping: InodeId) -> bool {
    k.page(page).mapping == PageMapping::Inode(mapping)
}

/// Take away the entries of one PTE table in `[addr, end)`.
///
/// PTE_MARKER_UFFD_WP: of a file mapping the write protection stays as a marker. ZAP_EVEN_COWS: swap entries are private copies.
///
/// Kernel:   mm/memory.c:zap_pte_range @ v5.14
/// Fidelity: TRIMMED(migration and device entries, VM_SEQ_READ, rescheduling, full batches)
/// Locks:    mmap_lock or the i_mmap lock held; takes and drops the PTE lock
/// Errors:   none
async fn zap_pte_range(
    k: &Kernel,
    tlb: &mut MmuGather,
    vma: VmaId,
    pmd: Pmd,
    mut addr: u64,
    end: u64,
    details: Option<&ZapDetails>,
) {
    let _f = k.enter("zap_pte_range", || format!("{vma} {addr:#x}-{end:#x}"));
    let mm = tlb.mm;
    let mut force_flush = false;
    let mut rss: RssVec = [0; 4];

    let start_pte = pte_offset_map_lock(k, pmd, addr).await;
    let mut pte = start_pte;
    while addr != end {
        let Some((at, this, ptent)) = next_pte(k, pte, addr, end) else { break };
        addr = at + PAGE_SIZE;
        pte = this.next();
        match ptent {
            PteVal::None => continue,
            PteVal::Marker(marker) => {
                // Anonymous memory had no use for uffd-wp markers before WP_UNPOPULATED, and loses them with its pages since.
                let anon = k.has(Delta::UFFD_FEATURE_WP_UNPOPULATED) && vma_is_anonymous(k, vma);
                let goes = if marker.contains(PTE_MARKER_UFFD_WP) {
                    anon || zap_drop_markers(details)
                } else if marker.contains(PTE_MARKER_GUARD) {
                    zap_drop_markers(details)
                } else {
                    should_zap_cows(k, details)
                };
                if !goes {
                    k.branch("marker left in place");
                    continue;
                }
                set_pte_at(k, mm, at, this, PteVal::None);
                zap_install_uffd_wp_if_needed(k, vma, at, this, details, ptent);
            }
            PteVal::Present { .. } => {
                let page = vm_normal_page(ptent);
                if let (Some(details), Some(page)) = (details, page) {
                    // Truncation takes the file's pages only, and leaves private copies in place, unless it was told otherwise.
                    if let Some(mapping) = details.check_mapping
                        && !page_rmapping_is(k, page, mapping)
                    {
                        k.branch("not a page of this file: left in place");
                        continue;
                    }
                }
                let ptent = ptep_get_and_clear(k, mm, at, this);
                zap_install_uffd_wp_if_needed(k, vma, at, this, details, ptent);
                let Some(page) = page else { continue };
                if !PageAnon(k, page) {
                    if pte_dirty(ptent) {
                        // Flushed before the lock is dropped: no store may go through a stale entry after the page looks clean.
                        force_flush = true;
                        set_page_dirty(k, page);
                    }
                    if pte_young(ptent) {
                        mark_page_accessed(k, page);
                    }
                }
                rss[mm_counter(k, page) as usize] -= 1;
                page_remove_rmap(k, page);
                if page_mapcount(k, page) < 0 {
                    print_bad_pte(k, vma, at, ptent, Some(page));
                }
                tlb.pages.push(page);
            }
            PteVal::Swap { entry, .. } => {
                // Before ZAP_EVEN_COWS any details at all protect swap entries, also when private copies were to be unmapped.
                if !should_zap_cows(k, details) {
                    k.branch("swap entry left in place");
                    continue;
                }
                rss[MmCounter::MM_SWAPENTS as usize] -= 1;
                if !free_swap_and_cache(k, entry) {
                    print_bad_pte(k, vma, at, ptent, None);
                }
                set_pte_at(k, mm, at, this, PteVal::None);
                zap_install_uffd_wp_if_needed(k, vma, at, this, details, ptent);
            }
        }
    }

    add_mm_rss_vec(k, mm, &rss);
    pte_unmap_unlock(k, start_pte);
    if force_flush {
        tlb_flush_mmu(k, tlb).await;
    }
}

/// Take away the entries of a VMA in `[addr, end)`, table by table.
///
/// Kernel:   mm/memory.c:unmap_page_range, zap_p4d_range, zap_pud_range, zap_pmd_range @ v5.14
/// Fidelity: TRIMMED(huge entries)
/// Locks:    mmap_lock or the i_mmap lock held
/// Errors:   none
async fn unmap_page_range(k: &Kernel, tlb: &mut MmuGather, vma: VmaId, mut addr: u64, end: u64, details: Option<&ZapDetails>) {
    let mm = k.vma(vma).vm_mm;
    crate::BUG_ON!(k, addr >= end);
    while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
        let next = pmd_addr_end(at, end);
        zap_pte_range(k, tlb, vma, pmd, at, next, details).await;
        addr = next;
    }
}

/// Take away the entries of a VMA as far as it lies in the range.
///
/// Kernel:   mm/memory.c:unmap_single_vma @ v5.14
/// Fidelity: TRIMMED(uprobes, PFN maps, hugetlb)
/// Locks:    mmap_lock or the i_mmap lock held
/// Errors:   none
async fn unmap_single_vma(
    k: &Kernel,
    tlb: &mut MmuGather,
    vma: VmaId,
    start_addr: u64,
    end_addr: u64,
    details: Option<&ZapDetails>,
) {
    let v = k.vma(vma);
    let start = v.vm_start.max(start_addr);
    if start >= v.vm_end {
        return;
    }
    let end = v.vm_end.min(end_addr);
    if end <= v.vm_start {
        return;
    }
    if start != end {
        unmap_page_range(k, tlb, vma, start, end, details).await;
    }
}

/// Unmap a list of VMAs of one mm, in address order, as far as they lie in the range; swap entries and markers go too.
///
/// Kernel:   mm/memory.c:unmap_vmas @ v5.14
/// Fidelity: TRIMMED(the gather belongs to the caller, who frees the page tables before the pages; here the pages go first)
/// Locks:    mmap_lock held (read is enough once the VMAs are detached), or last user of the mm
/// Errors:   none
pub async fn unmap_vmas(k: &Kernel, vmas: &[VmaId], start: u64, end: u64) {
    let Some(&first) = vmas.first() else { return };
    let _f = k.enter("unmap_vmas", || format!("{start:#x}-{end:#x}"));
    let mut tlb = tlb_gather_mmu(k.vma(first).vm_mm);
    let details = k.has(Delta::PTE_MARKER_UFFD_WP).then_some(ZapDetails { check_mapping: None, drop_marker: true });
    for &vma in vmas {
        if k.vma(vma).vm_start >= end {
            break;
        }
        unmap_single_vma(k, &mut tlb, vma, start, end, details.as_ref()).await;
    }
    tlb_finish_mmu(k, tlb).await;
}

/// Unmap a range that may span VMAs; swap entries go too.
///
/// Kernel:   mm/memory.c:zap_page_range @ v5.14
/// Fidelity: TRIMMED(mmu notifiers)
/// Locks:    mmap_lock held
/// Errors:   none
pub async fn zap_page_range(k: &Kernel, vma: VmaId, start: u64, size: u64) {
    let _f = k.enter("zap_page_range", || format!("{vma} {start:#x} size={size:#x}"));
    let end = start + size;
    lru_add_drain(k);
    let mut tlb = tlb_gather_mmu(k.vma(vma).vm_mm);
    let mut next = Some(vma);
    while let Some(vma) = next {
        if k.vma(vma).vm_start >= end {
            break;
        }
        unmap_single_vma(k, &mut tlb, vma, start, end, None).await;
        next = vma_next(k, vma);
    }
    tlb_finish_mmu(k, tlb).await;
}

/// Unmap a range of one VMA.
///
/// Kernel:   mm/memory.c:zap_page_range_single @ v5.14
/// Fidelity: TRIMMED(mmu notifiers)
/// Locks:    mmap_lock or the i_mmap lock held
/// Errors:   none
pub async fn zap_page_range_single(k: &Kernel, vma: VmaId, address: u64, size: u64, details: Option<ZapDetails>) {
    let _f = k.enter("zap_page_range_single", || format!("{vma} {address:#x} size={size:#x}"));
    lru_add_drain(k);
    let mut tlb = tlb_gather_mmu(k.vma(vma).vm_mm);
    unmap_single_vma(k, &mut tlb, vma, address, address + size, details.as_ref()).await;
    tlb_finish_mmu(k, tlb).await;
}

/// Unmap file pages `first_index` to `last_index` from every VMA that maps some of them.
///
/// Kernel:   mm/memory.c:unmap_mapping_range_tree, unmap_mapping_range_vma @ v5.14
/// Fidelity: MIRROR (the interval tree is a list that is sorted here)
/// Locks:    i_mmap write lock held
/// Errors:   none
async fn unmap_mapping_range_tree(k: &Kernel, mapping: InodeId, first_index: u64, last_index: u64, details: ZapDetails) {
    let mut vmas = k.inode(mapping).i_mmap.clone();
    vmas.sort_by_key(|&vma| {
        let v = k.vma(vma);
        (v.vm_pgoff, v.vm_start)
    });
    for vma in vmas {
        let v = k.vma(vma);
        let vba = v.vm_pgoff;
        let vea = vba + ((v.vm_end - v.vm_start) >> PAGE_SHIFT) - 1;
        if vba > last_index || vea < first_index {
            continue;
        }
        let zba = first_index.max(vba);
        let zea = last_index.min(vea);
        let start_addr = ((zba - vba) << PAGE_SHIFT) + v.vm_start;
        let end_addr = ((zea - vba + 1) << PAGE_SHIFT) + v.vm_start;
        zap_page_range_single(k, vma, start_addr, end_addr - start_addr, Some(details)).await;
    }
}

/// Unmap one page-cache page from everywhere; private copies and swap entries stay.
///
/// Kernel:   mm/memory.c:unmap_mapping_page @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    page lock held; takes and drops the i_mmap write lock
/// Errors:   none
pub async fn unmap_mapping_page(k: &Kernel, page: PageId) {
    let _f = k.enter("unmap_mapping_page", || format!("{page}"));
    crate::VM_BUG_ON!(k, !PageLocked(k, page));
    let p = k.page(page);
    let PageMapping::Inode(mapping) = p.mapping else {
        // The kernel would follow a NULL or anon_vma pointer here.
        crate::VM_BUG_ON!(k, true);
        return;
    };
    let details = ZapDetails { check_mapping: Some(mapping), drop_marker: true };
    let index = p.index;

    acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
    unmap_mapping_range_tree(k, mapping, index, index, details).await;
    release(k, LockId::IMmap(mapping), LockMode::Write);
}

/// Unmap `nr` file pages from `start` on from everywhere. `nr` 0 or too large: to the end.
///
/// Kernel:   mm/memory.c:unmap_mapping_pages @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops the i_mmap write lock
/// Errors:   none
pub async fn unmap_mapping_pages(k: &Kernel, mapping: InodeId, start: u64, nr: u64, even_cows: bool) {
    let details = ZapDetails { check_mapping: if even_cows { None } else { Some(mapping) }, drop_marker: false };
    let mut last_index = start.wrapping_add(nr).wrapping_sub(1);
    if last_index < start {
        last_index = u64::MAX;
    }

    acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
    unmap_mapping_range_tree(k, mapping, start, last_index, details).await;
    release(k, LockId::IMmap(mapping), LockMode::Write);
}

/// Unmap the pages of a byte range of a file from everywhere: all that the range touches. `holelen` 0: to the end.
///
/// Kernel:   mm/memory.c:unmap_mapping_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops the i_mmap write lock
/// Errors:   none
pub async fn unmap_mapping_range(k: &Kernel, mapping: InodeId, holebegin: u64, holelen: u64, even_cows: bool) {
    let _f = k.enter("unmap_mapping_range", || format!("{mapping} {holebegin:#x} len={holelen:#x} even_cows={even_cows}"));
    let hba = holebegin >> PAGE_SHIFT;
    let hlen = holelen.wrapping_add(PAGE_SIZE - 1) >> PAGE_SHIFT;
    unmap_mapping_pages(k, mapping, hba, hlen, even_cows).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{_PAGE_ACCESSED, _PAGE_DIRTY};
    use crate::kernel::{MmStruct, PageProt, PageTable, State, Task, Vma};
    use crate::mm::pgtable::native_set_pte;
    use crate::mm::pgtable::{all_ptes, mm_alloc_pmd, pte_alloc, pte_offset_map, zero_pte};
    use crate::point::run_through as run;

    const ZERO: PageProt = PageProt { flags: _PAGE_ACCESSED.union(_PAGE_DIRTY) };
    /// In five tables that share none, some, or all of their upper levels.
    const ADDRS: [u64; 7] = [0x1000, 0x2000, 0x1f_f000, 0x20_0000, 0x4000_0000, 0x80_0000_0000, 0x7fff_ffff_e000];

    fn mapped(vmas: &[(u64, u64)]) -> (Kernel, MmId, Vec<VmaId>) {
        let k = Kernel::new(State::default());
        let task = k.sm().tasks.insert(Task::default());
        k.run.current.set(Some(task));
        let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm = k.sm().mms.insert(MmStruct { pgd: Some(pgd), ..MmStruct::default() });
        for addr in ADDRS {
            let pmd = run(mm_alloc_pmd(&k, mm, addr)).unwrap();
            assert!(run(pte_alloc(&k, mm, pmd)));
            native_set_pte(&k, mm, addr, pte_offset_map(&k, pmd, addr).unwrap(), zero_pte(ZERO));
        }
        let ids = vmas.iter().map(|&(vm_start, vm_end)| {
            let v = k.sm().vmas.insert(Vma { vm_start, vm_end, vm_mm: mm, ..Vma::default() });
            k.mm_mut(mm).mmap.push(v);
            v
        });
        let ids = ids.collect();
        (k, mm, ids)
    }

    fn walk(k: &Kernel, mm: MmId, mut addr: u64, end: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
            let next = pmd_addr_end(at, end);
            let (mut at, mut pte) = (at, pte_offset_map(k, pmd, at).unwrap());
            while let Some((found, this, _)) = next_pte(k, pte, at, next) {
                seen.push(found);
                (at, pte) = (found + PAGE_SIZE, this.next());
            }
            addr = next;
        }
        seen
    }

    #[test]
    fn the_walk_meets_every_entry_of_the_range_in_order() {
        let (k, mm, _) = mapped(&[]);
        assert_eq!(walk(&k, mm, 0, 1 << 47), ADDRS);
        for (i, &lo) in ADDRS.iter().enumerate() {
            for (j, &hi) in ADDRS.iter().enumerate().skip(i) {
                assert_eq!(walk(&k, mm, lo, hi + PAGE_SIZE), ADDRS[i..=j], "{lo:#x} to {hi:#x}");
                assert_eq!(walk(&k, mm, lo, hi), ADDRS[i..j], "{lo:#x} up to {hi:#x}");
                if lo < hi {
                    assert_eq!(walk(&k, mm, lo + PAGE_SIZE, hi), ADDRS[i + 1..j], "past {lo:#x} up to {hi:#x}");
                }
            }
        }
    }

    #[test]
    fn the_zero_page_goes_without_accounting() {
        let (k, mm, vmas) = mapped(&[(0, 0x20_0000), (0x20_0000, 1 << 47)]);
        run(unmap_vmas(&k, &vmas, 0x2000, 0x80_0000_0000));
        let left: Vec<u64> = all_ptes(&k, mm).iter().map(|e| e.0).collect();
        assert_eq!(left, [0x1000, 0x80_0000_0000, 0x7fff_ffff_e000]);
        run(unmap_vmas(&k, &vmas, 0, u64::MAX));
        assert!(all_ptes(&k, mm).is_empty());
        assert_eq!(k.mm(mm).rss_stat, [0; 4]);
        assert!(k.s().held.is_empty() && k.run.findings.borrow().is_empty());
    }

    #[test]
    fn a_single_vma_is_clipped_and_swap_entries_survive_details() {
        let (k, mm, vmas) = mapped(&[(0x1000, 0x2000)]);
        let pte = next_pte_table(&k, mm, 0x1000, 0x2000).and_then(|(_, pmd)| pte_offset_map(&k, pmd, 0x1000)).unwrap();
        let swap = PteVal::Swap { entry: crate::kernel::SwpEntry(1), flags: crate::flags::PteFlags::empty() };
        native_set_pte(&k, mm, 0x1000, pte, swap);
        run(zap_page_range_single(&k, vmas[0], 0, 1 << 40, Some(ZapDetails { check_mapping: None, drop_marker: false })));
        assert_eq!(walk(&k, mm, 0, 1 << 47), ADDRS);
    }
}
