// SPDX-License-Identifier: GPL-2.0-only
//! Page-table entries and the four-level walk (`include/linux/pgtable.h`, `arch/x86/include/asm/pgtable.h`, table allocation
//! from `mm/memory.c`).

use crate::event::Event;
use crate::flags::*;
use crate::kernel::{Kernel, MmId, PageId, PageProt, PageTable, PtEntry, PteVal, TableId, Vma};
use crate::mm::locking::{LockId, LockMode, assert_held, ptl_lock, release};
use crate::point::{Touch, point};

/// Entries in a table.
pub const PTRS_PER_PTE: u64 = 512;
/// Page tables that the machine has memory for.
const MAX_TABLES: usize = 256;
/// Bytes that one PTE table maps.
pub const PMD_SIZE: u64 = 1 << 21;

/// `pmd_t *`: an entry of a level-2 table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pmd {
    /// The level-2 table.
    pub table: TableId,
    /// Which entry.
    pub idx: u32,
}

/// `pte_t *`: an entry of a level-1 table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PteRef {
    /// The level-1 table; its lock is the PTE lock.
    pub table: TableId,
    /// Which entry.
    pub idx: u32,
}

impl PteRef {
    /// The next entry of the same table (`pte + 1`).
    pub fn next(self) -> PteRef {
        PteRef { table: self.table, idx: self.idx + 1 }
    }
}

fn index_at(addr: u64, level: u8) -> u32 {
    ((addr >> (12 + 9 * (level as u64 - 1))) & 511) as u32
}

// ---- entries ------------------------------------------------------------------------------------------------------------

/// `mk_pte`: a young, clean entry with the protection's write bit.
pub fn mk_pte(page: PageId, prot: PageProt) -> PteVal {
    PteVal::Present { page, flags: prot.flags }
}

/// `pte_none`.
pub fn pte_none(pte: PteVal) -> bool {
    matches!(pte, PteVal::None)
}
/// `pte_present` (true for PROT_NONE entries too).
pub fn pte_present(pte: PteVal) -> bool {
    matches!(pte, PteVal::Present { .. })
}
/// `pte_none_mostly`: none, or a marker.
pub fn pte_none_mostly(pte: PteVal) -> bool {
    match pte {
        PteVal::None => true,
        PteVal::Marker(marker) => !marker.contains(SWP_SWAPIN_ERROR),
        _ => false,
    }
}
/// `pte_marker_get`: what the marker says; empty if the entry is none.
pub fn pte_marker_get(pte: PteVal) -> PteMarker {
    match pte {
        PteVal::Marker(marker) => marker,
        _ => PteMarker::empty(),
    }
}
/// `pte_marker_uffd_wp`: a marker that says write-protected.
pub fn pte_marker_uffd_wp(pte: PteVal) -> bool {
    pte_marker_get(pte).contains(PTE_MARKER_UFFD_WP)
}
/// `make_pte_marker`. None says nothing, so it is no marker.
pub fn make_pte_marker(marker: PteMarker) -> PteVal {
    if marker.is_empty() { PteVal::None } else { PteVal::Marker(marker) }
}
/// A swap entry. The kernel's `is_swap_pte` is true of markers too, and callers sort them out one by one.
pub fn is_swap_pte(pte: PteVal) -> bool {
    matches!(pte, PteVal::Swap { .. })
}
/// The entry's bits; empty for none.
pub fn pte_flags(pte: PteVal) -> PteFlags {
    match pte {
        PteVal::None | PteVal::Marker(_) => PteFlags::empty(),
        PteVal::Present { flags, .. } | PteVal::Swap { flags, .. } => flags,
    }
}
/// The entry with other bits.
pub fn pte_with(pte: PteVal, set: PteFlags, clear: PteFlags) -> PteVal {
    match pte {
        PteVal::None | PteVal::Marker(_) => pte,
        PteVal::Present { page, flags } => PteVal::Present { page, flags: (flags - clear) | set },
        PteVal::Swap { entry, flags } => PteVal::Swap { entry, flags: (flags - clear) | set },
    }
}
/// The frame that a present entry maps (`pte_page`; the zero page has no struct page).
pub fn pte_page(pte: PteVal) -> Option<PageId> {
    match pte {
        PteVal::Present { page, .. } => Some(page),
        _ => None,
    }
}
/// `vm_normal_page`: the mapped page, None for special entries.
pub fn vm_normal_page(pte: PteVal) -> Option<PageId> {
    match pte {
        PteVal::Present { page, flags } if !flags.contains(_PAGE_SPECIAL) => Some(page),
        _ => None,
    }
}

macro_rules! pte_bits {
    ($($test:ident $mk:ident $un:ident $flag:ident;)*) => { $(
        #[doc = concat!("Has the entry ", stringify!($flag), "?")]
        pub fn $test(pte: PteVal) -> bool { pte_flags(pte).contains($flag) }
        #[doc = concat!("The entry with ", stringify!($flag), ".")]
        pub fn $mk(pte: PteVal) -> PteVal { pte_with(pte, $flag, PteFlags::empty()) }
        #[doc = concat!("The entry without ", stringify!($flag), ".")]
        pub fn $un(pte: PteVal) -> PteVal { pte_with(pte, PteFlags::empty(), $flag) }
    )* };
}
pte_bits! {
    pte_write pte_mkwrite pte_wrprotect _PAGE_RW;
    pte_young pte_mkyoung pte_mkold _PAGE_ACCESSED;
    pte_uffd_wp pte_mkuffd_wp pte_clear_uffd_wp _PAGE_UFFD_WP;
    pte_special pte_mkspecial pte_clear_special _PAGE_SPECIAL;
    pte_soft_dirty pte_mksoft_dirty pte_clear_soft_dirty _PAGE_SOFT_DIRTY;
    pte_protnone pte_mkprotnone pte_clear_protnone _PAGE_PROTNONE;
    pte_swp_exclusive pte_swp_mkexclusive pte_swp_clear_exclusive _PAGE_SWP_EXCLUSIVE;
}

/// `pte_dirty`.
pub fn pte_dirty(pte: PteVal) -> bool {
    pte_flags(pte).contains(_PAGE_DIRTY)
}
/// `pte_mkdirty`: x86 sets the soft-dirty bit along with it.
pub fn pte_mkdirty(pte: PteVal) -> PteVal {
    pte_with(pte, _PAGE_DIRTY | _PAGE_SOFT_DIRTY, PteFlags::empty())
}
/// `pte_mkclean`.
pub fn pte_mkclean(pte: PteVal) -> PteVal {
    pte_with(pte, PteFlags::empty(), _PAGE_DIRTY)
}
/// `maybe_mkwrite`: writable if the VMA is.
pub fn maybe_mkwrite(pte: PteVal, vma: &Vma) -> PteVal {
    if vma.vm_flags.contains(VM_WRITE) { pte_mkwrite(pte) } else { pte }
}
/// `pte_modify`: a new protection; dirty, young, soft-dirty, uffd-wp and special stay.
pub fn pte_modify(pte: PteVal, prot: PageProt) -> PteVal {
    let keep = _PAGE_DIRTY | _PAGE_ACCESSED | _PAGE_SOFT_DIRTY | _PAGE_UFFD_WP | _PAGE_SPECIAL;
    match pte {
        PteVal::Present { page, flags } => {
            PteVal::Present { page, flags: (flags & keep) | (prot.flags & !(_PAGE_DIRTY | _PAGE_ACCESSED)) }
        }
        other => other,
    }
}
/// `pfn_pte` of the shared zero page, special.
pub fn zero_pte(prot: PageProt) -> PteVal {
    pte_mkspecial(PteVal::Present { page: PageId::ZERO, flags: prot.flags })
}

// ---- the walk -----------------------------------------------------------------------------------------------------------

#[inline(always)]
fn child(k: &Kernel, table: TableId, idx: u32) -> Option<TableId> {
    match k.table(table).entries.get(idx) {
        Some(PtEntry::Table(t)) => Some(t),
        _ => None,
    }
}

/// `mm_find_pmd`: the level-2 entry that maps `addr`, if the upper levels are present.
pub fn mm_find_pmd(k: &Kernel, mm: MmId, addr: u64) -> Option<Pmd> {
    let pgd = k.mm(mm).pgd?;
    // One look at the state for all levels.
    let s = k.s();
    let child = |table: TableId, idx: u32| match s.tables.get(table).map(|t| t.entries.get(idx)) {
        Some(Some(PtEntry::Table(t))) => Some(t),
        Some(_) => None,
        // Reports the use of a freed table.
        None => child(k, table, idx),
    };
    let pud = child(pgd, index_at(addr, 4))?;
    let table = child(pud, index_at(addr, 3))?;
    Some(Pmd { table, idx: index_at(addr, 2) })
}

/// `pmd_none`.
#[inline]
pub fn pmd_none(k: &Kernel, pmd: Pmd) -> bool {
    child(k, pmd.table, pmd.idx).is_none()
}

async fn alloc_table(k: &Kernel, mm: MmId, parent: TableId, idx: u32, level: u8, site: &'static str) -> Option<TableId> {
    point(k, Touch::Alloc).await;
    if k.should_fail(site) {
        return None;
    }
    // Another thread may have installed one meanwhile: __pte_alloc and friends look again under page_table_lock.
    if let Some(t) = child(k, parent, idx) {
        return Some(t);
    }
    if too_many_tables(k) {
        return None;
    }
    Some(install_table(k, mm, parent, idx, level))
}

/// Page tables are not made of the model's frames. Without any limit, populating a huge mapping with the zero page would take all
/// memory of the machine that runs the model.
fn too_many_tables(k: &Kernel) -> bool {
    k.s().tables.len() >= MAX_TABLES
}

fn install_table(k: &Kernel, mm: MmId, parent: TableId, idx: u32, level: u8) -> TableId {
    let table = k.sm().tables.insert(PageTable { level, ..PageTable::default() });
    k.table_mut(parent).entries.set(idx, Some(PtEntry::Table(table)));
    k.mm_mut(mm).pgtables += 1;
    table
}

/// The level-2 entry for `addr`, making the upper tables. None: out of memory.
///
/// Kernel:   mm/userfaultfd.c:mm_alloc_pmd, and the head of mm/memory.c:__handle_mm_fault @ v5.14
/// Fidelity: MIRROR (p4d is folded on four levels)
/// Locks:    mmap_lock held
/// Errors:   None is -ENOMEM
pub async fn mm_alloc_pmd(k: &Kernel, mm: MmId, addr: u64) -> Option<Pmd> {
    // Most often nothing has to be made.
    if let Some(pmd) = mm_find_pmd(k, mm, addr) {
        return Some(pmd);
    }
    let pgd = k.mm(mm).pgd?;
    let pud = match child(k, pgd, index_at(addr, 4)) {
        Some(t) => t,
        None => alloc_table(k, mm, pgd, index_at(addr, 4), 3, "pud_alloc").await?,
    };
    let pmd = match child(k, pud, index_at(addr, 3)) {
        Some(t) => t,
        None => alloc_table(k, mm, pud, index_at(addr, 3), 2, "pmd_alloc").await?,
    };
    Some(Pmd { table: pmd, idx: index_at(addr, 2) })
}

/// `__pte_alloc`: make the PTE table of an entry that is none. False: out of memory.
pub async fn pte_alloc(k: &Kernel, mm: MmId, pmd: Pmd) -> bool {
    match child(k, pmd.table, pmd.idx) {
        Some(_) => true,
        None => alloc_table(k, mm, pmd.table, pmd.idx, 1, "pte_alloc").await.is_some(),
    }
}

/// `pte_alloc_one`: memory for a PTE table that stands nowhere yet. False: out of memory.
pub async fn pte_alloc_one(k: &Kernel) -> bool {
    point(k, Touch::Alloc).await;
    !k.should_fail("pte_alloc") && !too_many_tables(k)
}

/// `pmd_populate`: the table that [`pte_alloc_one`] has given.
pub fn pmd_populate(k: &Kernel, mm: MmId, pmd: Pmd) {
    install_table(k, mm, pmd.table, pmd.idx, 1);
}

/// `pte_offset_map`: no lock taken. None if there is no PTE table.
#[inline]
pub fn pte_offset_map(k: &Kernel, pmd: Pmd, addr: u64) -> Option<PteRef> {
    child(k, pmd.table, pmd.idx).map(|table| PteRef { table, idx: index_at(addr, 1) })
}

/// `pte_offset_map_lock`: the entry, with the PTE lock of its table taken. The table must exist.
pub async fn pte_offset_map_lock(k: &Kernel, pmd: Pmd, addr: u64) -> PteRef {
    let pte = pte_offset_map(k, pmd, addr).unwrap_or(PteRef { table: TableId::DANGLING, idx: 0 });
    ptl_lock(k, pte.table).await;
    pte
}

/// `pte_unmap_unlock`.
#[inline]
pub fn pte_unmap_unlock(k: &Kernel, pte: PteRef) {
    release(k, LockId::Ptl(pte.table), LockMode::Write);
}

/// Read an entry.
#[inline]
pub fn ptep_get(k: &Kernel, pte: PteRef) -> PteVal {
    match k.table(pte.table).entries.get(pte.idx) {
        Some(PtEntry::Pte(v)) => v,
        _ => PteVal::None,
    }
}

/// Read an entry without its lock: another CPU may change it before or after.
pub async fn ptep_get_lockless(k: &Kernel, pte: PteRef) -> PteVal {
    point(k, Touch::ReadPte(pte.table, pte.idx as u64)).await;
    ptep_get(k, pte)
}

/// `set_pte_at`. The PTE lock is held.
#[inline]
pub fn set_pte_at(k: &Kernel, mm: MmId, addr: u64, pte: PteRef, val: PteVal) {
    assert_held(k, LockId::Ptl(pte.table), "a page-table entry");
    native_set_pte(k, mm, addr, pte, val);
}

/// Store an entry, with no lock: the processor does that when it sets the accessed or the dirty bit (`native_set_pte`).
#[inline]
pub fn native_set_pte(k: &Kernel, mm: MmId, addr: u64, pte: PteRef, val: PteVal) {
    // Without soft-dirty tracking the bit does not exist.
    let val = if k.s().config.soft_dirty { val } else { pte_clear_soft_dirty(val) };
    let entry = if pte_none(val) { None } else { Some(PtEntry::Pte(val)) };
    let old = k.table_mut(pte.table).entries.set(pte.idx, entry);
    k.trace(|| Event::Pte {
        mm,
        addr,
        old: match old {
            Some(PtEntry::Pte(v)) => v,
            _ => PteVal::None,
        },
        new: val,
    });
}

/// `ptep_get_and_clear`.
pub fn ptep_get_and_clear(k: &Kernel, mm: MmId, addr: u64, pte: PteRef) -> PteVal {
    let old = ptep_get(k, pte);
    set_pte_at(k, mm, addr, pte, PteVal::None);
    old
}

/// What the page tables say about `addr`, for observers: no lock, no event.
pub fn lookup(k: &Kernel, mm: MmId, addr: u64) -> PteVal {
    mm_find_pmd(k, mm, addr).and_then(|pmd| pte_offset_map(k, pmd, addr)).map_or(PteVal::None, |pte| ptep_get(k, pte))
}

/// Every PTE of an mm that is not none, with its address; for rules and rmap audits.
pub fn all_ptes(k: &Kernel, mm: MmId) -> Vec<(u64, PteRef, PteVal)> {
    fn walk(k: &Kernel, table: TableId, base: u64, out: &mut Vec<(u64, PteRef, PteVal)>) {
        let t = k.table(table);
        let shift = 12 + 9 * (t.level as u64 - 1);
        for (idx, entry) in t.entries.iter() {
            let addr = base + ((idx as u64) << shift);
            match entry {
                PtEntry::Table(child) => walk(k, child, addr, out),
                PtEntry::Pte(val) => out.push((addr, PteRef { table, idx }, val)),
            }
        }
    }
    let mut out = Vec::new();
    if let Some(pgd) = k.mm(mm).pgd {
        walk(k, pgd, 0, &mut out);
    }
    out
}

/// Free the tables that map nothing outside `[floor, ceiling)`: all of whose range lies between the neighbours of what was
/// unmapped. `ceiling` 0 means the end of the address space.
///
/// Kernel:   mm/memory.c:free_pgd_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held (or last user of the mm); the VMAs are unlinked from rmap
/// Errors:   none
pub fn free_pgd_range(k: &Kernel, mm: MmId, floor: u64, ceiling: u64) {
    fn walk(k: &Kernel, mm: MmId, table: TableId, base: u64, floor: u64, end: u64) {
        let level = k.table(table).level;
        let span = 1u64 << (12 + 9 * (level as u64 - 1));
        let children: Vec<(u32, TableId)> = k
            .table(table)
            .entries
            .iter()
            .filter_map(|(i, e)| if let PtEntry::Table(t) = e { Some((i, t)) } else { None })
            .collect();
        for (idx, childt) in children {
            let start = base + idx as u64 * span;
            let stop = start + span;
            if stop <= floor || start >= end {
                continue;
            }
            if level > 2 {
                walk(k, mm, childt, start, floor, end);
            }
            // A table may go only when its whole span lies between floor and ceiling.
            if start >= floor && stop <= end {
                k.sm().tables.remove(childt);
                k.table_mut(table).entries.set(idx, None);
                k.mm_mut(mm).pgtables -= 1;
            }
        }
    }
    let Some(pgd) = k.mm(mm).pgd else { return };
    let end = if ceiling == 0 { 1u64 << 48 } else { ceiling };
    walk(k, mm, pgd, 0, floor, end);
}
