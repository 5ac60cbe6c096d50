// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mincore.c`: which pages of a range need no I/O.

use crate::errno::{EAGAIN, EFAULT, EINVAL, ENOMEM, KResult};
use crate::kernel::{
    FileKind, InodeId, InodeKind, Kernel, MmId, PAGE_SHIFT, PAGE_SIZE, PageId, PteVal, SlotVal, TASK_SIZE, VmaId,
};
use crate::mm::filemap::find_get_entry;
use crate::mm::locking::{mmap_read_lock, mmap_read_unlock};
use crate::mm::mmap::find_vma;
use crate::mm::page::{PageUptodate, put_page};
use crate::mm::pgtable::{Pmd, pte_none_mostly, pte_offset_map_lock, pte_unmap_unlock};
use crate::mm::rmap::linear_page_index;
use crate::mm::swap_state::lookup_swap_cache;
use crate::mm::swapfile::get_swap_device;
use crate::mm::zap::{next_pte, next_pte_table, pmd_addr_end};
use crate::point::{Touch, point};

/// How many bytes the program's own vector holds: one for each page of 4 GiB.
const VEC_LEN: u64 = 1 << 20;

/// Is this page valid? Drops the lookup's reference.
fn uptodate_and_put(k: &Kernel, page: Option<PageId>) -> bool {
    let Some(page) = page else { return false };
    let present = PageUptodate(k, page);
    put_page(k, page);
    present
}

/// Does a file have this page in memory, in its page cache or on the way to or from swap?
///
/// Kernel:   mm/mincore.c:mincore_page, mm/swap_state.c:find_get_incore_page @ v5.14
/// Fidelity: MIRROR
/// Locks:    none needed; ptl may be held
/// Errors:   none
pub async fn mincore_page(k: &Kernel, mapping: InodeId, index: u64) -> bool {
    let page = match find_get_entry(k, mapping, index).await {
        None => None,
        Some(SlotVal::Page(page)) => Some(page),
        Some(SlotVal::Swap(swp)) => {
            let kind = k.inode(mapping).kind;
            if kind != InodeKind::Shmem {
                return false;
            }
            // swapoff may have begun.
            if !get_swap_device(k, swp) {
                return false;
            }
            lookup_swap_cache(k, swp)
        }
    };
    uptodate_and_put(k, page)
}

/// Nothing is mapped in the range: the page cache answers.
///
/// Kernel:   mm/mincore.c:__mincore_unmapped_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held; ptl may be held
/// Errors:   none
async fn __mincore_unmapped_range(k: &Kernel, addr: u64, end: u64, vma: VmaId, vec: &mut Vec<bool>) {
    let nr = (end - addr) >> PAGE_SHIFT;
    let mapping = match k.vma(vma).vm_file.map(|file| k.file(file).kind) {
        Some(FileKind::Inode(mapping)) => mapping,
        _ => {
            vec.resize(vec.len() + nr as usize, false);
            return;
        }
    };
    let pgoff = linear_page_index(k, vma, addr);
    for i in 0..nr {
        let present = mincore_page(k, mapping, pgoff + i).await;
        vec.push(present);
    }
}

/// One PTE table.
///
/// Kernel:   mm/mincore.c:mincore_pte_range @ v5.14
/// Fidelity: TRIMMED(huge entries, migration entries)
/// Locks:    mmap_lock held; takes and drops the PTE lock
/// Errors:   none
async fn mincore_pte_range(k: &Kernel, pmd: Pmd, mut addr: u64, end: u64, vma: VmaId, vec: &mut Vec<bool>) {
    let ptep = pte_offset_map_lock(k, pmd, addr).await;
    let mut next = ptep;
    while addr != end {
        let Some((at, this, pte)) = next_pte(k, next, addr, end) else {
            __mincore_unmapped_range(k, addr, end, vma, vec).await;
            break;
        };
        __mincore_unmapped_range(k, addr, at, vma, vec).await;
        match pte {
            // A marker says nothing about a page.
            none if pte_none_mostly(none) => __mincore_unmapped_range(k, at, at + PAGE_SIZE, vma, vec).await,
            PteVal::Swap { entry, .. } => vec.push(uptodate_and_put(k, lookup_swap_cache(k, entry))),
            // A page, or what stands for one that could not be read.
            PteVal::Present { .. } | PteVal::Marker(_) | PteVal::None => vec.push(true),
        }
        addr = at + PAGE_SIZE;
        next = this.next();
    }
    pte_unmap_unlock(k, ptep);
}

/// Answer for up to `pages` pages from `addr` on, as far as one VMA goes; says how many.
///
/// Kernel:   mm/mincore.c:do_mincore, can_do_mincore @ v5.14
/// Fidelity: TRIMMED(the caller may read every file's residency: he owns them, or is root)
/// Locks:    mmap_lock read held
/// Errors:   ENOMEM nothing is mapped at `addr`
async fn do_mincore(k: &Kernel, mm: MmId, addr: u64, pages: u64, vec: &mut Vec<bool>) -> KResult<u64> {
    let vma = match find_vma(k, mm, addr) {
        Some(vma) if addr >= k.vma(vma).vm_start => vma,
        _ => return Err(ENOMEM),
    };
    let end = k.vma(vma).vm_end.min(addr + (pages << PAGE_SHIFT));

    let mut at = addr;
    while at < end {
        let Some((table_at, pmd)) = next_pte_table(k, mm, at, end) else {
            __mincore_unmapped_range(k, at, end, vma, vec).await;
            break;
        };
        __mincore_unmapped_range(k, at, table_at, vma, vec).await;
        let next = pmd_addr_end(table_at, end);
        mincore_pte_range(k, pmd, table_at, next, vma, vec).await;
        at = next;
    }
    Ok((end - addr) >> PAGE_SHIFT)
}

/// mincore(2): one answer a page.
///
/// Kernel:   mm/mincore.c:SYSCALL_DEFINE3(mincore) @ v5.14
/// Fidelity: MODEL (the vector is the program's own memory, of limited length)
/// Locks:    takes and drops mmap_lock for reading, for each VMA and for each 4096 pages
/// Errors:   EINVAL start is not page aligned; ENOMEM outside user space, or not wholly mapped; EFAULT more pages than the vector
///           holds; EAGAIN no memory for a buffer
pub async fn sys_mincore(k: &Kernel, start: u64, len: u64) -> KResult<Vec<bool>> {
    let _f = k.enter("mincore", || format!("{start:#x} len={len:#x}"));
    let Some(mm) = k.current_mm() else { return Err(ENOMEM) };
    let mut start = start;
    let mut vec = Vec::new();

    if start & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    // access_ok
    if len > TASK_SIZE || start > TASK_SIZE - len {
        return Err(ENOMEM);
    }
    let mut pages = len.div_ceil(PAGE_SIZE);
    if pages > VEC_LEN {
        return Err(EFAULT);
    }

    point(k, Touch::Alloc).await;
    if k.should_fail("mincore buffer") {
        return Err(EAGAIN);
    }

    while pages > 0 {
        mmap_read_lock(k, mm).await;
        let retval = do_mincore(k, mm, start, pages.min(PAGE_SIZE), &mut vec).await;
        mmap_read_unlock(k, mm);

        match retval {
            Err(error) => return Err(error),
            Ok(done) => {
                pages -= done;
                start += done << PAGE_SHIFT;
            }
        }
    }
    Ok(vec)
}
