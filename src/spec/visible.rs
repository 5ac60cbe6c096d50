// SPDX-License-Identifier: GPL-2.0-only
//! What user space would see in a state, without touching it.

use crate::flags::PG_uptodate;
use crate::kernel::*;
use crate::mm::pgtable::vm_normal_page;
use crate::rules::view::{live_page, shmem_inode};

/// The bytes behind a swap slot: of the page in the swap cache if it is valid, else of the device.
pub fn swap_cells(s: &State, entry: SwpEntry) -> Cells {
    let Some(slot) = s.swap.get(entry.0 as usize) else { return ZERO_CELLS };
    match slot.cache.and_then(|p| live_page(s, p)) {
        Some(p) if p.flags.contains(PG_uptodate) => p.cells,
        _ => slot.disk.unwrap_or(ZERO_CELLS),
    }
}

/// What read(2) gives for a page of a file: holes and pages that are not Uptodate read as zeroes.
pub fn file_cells(s: &State, inode: InodeId, index: u64) -> Cells {
    match s.inodes.get(inode).and_then(|i| i.i_pages.get(index as u32)) {
        None => ZERO_CELLS,
        Some(slot) => slot_cells(s, slot),
    }
}

/// As [`file_cells`], of a page-cache slot.
pub fn slot_cells(s: &State, slot: SlotVal) -> Cells {
    match slot {
        SlotVal::Page(page) => match live_page(s, page) {
            Some(p) if p.flags.contains(PG_uptodate) => p.cells,
            _ => ZERO_CELLS,
        },
        SlotVal::Swap(entry) => swap_cells(s, entry),
    }
}

/// What a load through a page-table entry gives; None if it would have to be faulted in first.
pub fn pte_cells(s: &State, pte: PteVal) -> Option<Cells> {
    match pte {
        PteVal::None | PteVal::Marker(_) => None,
        PteVal::Swap { entry, .. } => Some(swap_cells(s, entry)),
        PteVal::Present { .. } => match vm_normal_page(pte) {
            None => Some(ZERO_CELLS),
            Some(page) => s.mem_map.get(page.pfn as usize).map(|p| p.cells),
        },
    }
}

/// The page-table entry at an address.
pub fn pte_of(s: &State, mm: MmId, addr: u64) -> PteVal {
    let mut table = s.mms.get(mm).and_then(|m| m.pgd);
    for level in (1..=4u64).rev() {
        let entry =
            table.and_then(|t| s.tables.get(t)).and_then(|t| t.entries.get(((addr >> (12 + 9 * (level - 1))) & 511) as u32));
        match entry {
            Some(PtEntry::Table(next)) => table = Some(next),
            Some(PtEntry::Pte(pte)) => return pte,
            None => return PteVal::None,
        }
    }
    PteVal::None
}

/// The VMA around an address.
pub fn vma_at(s: &State, mm: MmId, addr: u64) -> Option<&Vma> {
    let mm = s.mms.get(mm)?;
    mm.mmap.iter().filter_map(|&v| s.vmas.get(v)).find(|v| v.vm_start <= addr && addr < v.vm_end)
}

/// Where the bytes of an address live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing is mapped there.
    Nowhere,
    /// In a file: stores reach it.
    File(InodeId, u64),
    /// In this address space alone, once stored to; until then in the file, or zero.
    Private(Option<(InodeId, u64)>),
}

/// Where the bytes of an address live.
pub fn place(s: &State, mm: MmId, addr: u64) -> Place {
    let Some(vma) = vma_at(s, mm, addr) else { return Place::Nowhere };
    let index = vma.vm_pgoff + (addr - vma.vm_start) / PAGE_SIZE;
    match shmem_inode(s, vma) {
        Some(inode) if vma.vm_flags.contains(crate::flags::VM_SHARED) => Place::File(inode, index),
        inode => Place::Private(inode.map(|i| (i, index))),
    }
}

/// What a load of this page would give, faulting included.
pub fn memory_cells(s: &State, mm: MmId, addr: u64) -> Cells {
    pte_cells(s, pte_of(s, mm, addr)).unwrap_or_else(|| match place(s, mm, addr) {
        Place::File(inode, index) | Place::Private(Some((inode, index))) => file_cells(s, inode, index),
        _ => ZERO_CELLS,
    })
}
