// SPDX-License-Identifier: GPL-2.0-only
//! An empty entry with a file behind it.

use super::{VmFaultCtx, copy_user_highpage, vmf_orig_pte_uffd_wp, vmf_pte_changed};
use crate::delta::Delta;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::filemap::{fault_flag_allow_retry_first, filemap_map_pages};
use crate::mm::locking::{lock_page, mmap_read_unlock, unlock_page};
use crate::mm::mlock::mlock_vma_folio;
use crate::mm::page::*;
use crate::mm::page_alloc::alloc_page;
use crate::mm::pgtable::*;
use crate::mm::rmap::{anon_vma_prepare, page_add_file_rmap, page_add_new_anon_rmap};
use crate::shmem::fault::shmem_fault;
use crate::vfs::{fput, get_file};
use crate::{BUG_ON, VM_BUG_ON};

/// The answers after which there is no page to map.
const NO_PAGE: VmFault = VM_FAULT_ERROR.union(VM_FAULT_NOPAGE).union(VM_FAULT_RETRY);

/// Let go of mmap_lock before something slow, if this fault may still be retried. Returns the file that keeps the inode alive.
///
/// Kernel:   mm/internal.h:maybe_unlock_mmap_for_io @ v5.14
/// Fidelity: MIRROR
/// Locks:    drops mmap_lock when it returns a file
/// Errors:   none
fn maybe_unlock_mmap_for_io(k: &Kernel, vmf: &VmFaultCtx) -> Option<FileId> {
    if fault_flag_allow_retry_first(vmf.flags) && !vmf.flags.contains(FAULT_FLAG_RETRY_NOWAIT) {
        let vma = k.vma(vmf.vma);
        if let Some(file) = vma.vm_file {
            get_file(k, file);
            mmap_read_unlock(k, vma.vm_mm);
            return Some(file);
        }
    }
    None
}

/// A shared page is about to be written through a PTE: PG_dirty, and throttle the writer.
///
/// From v6.0 on (d92725256b4f) the answer is VM_FAULT_COMPLETED, and the fault is not entered again. That makes no difference that
/// could be modelled: the second attempt finds the entry as the first has left it, or begins afresh, as the access itself would;
/// only which counter of faults is raised differs, and those are not compared between releases.
///
/// Kernel:   mm/memory.c:fault_dirty_shared_page @ v5.14
/// Fidelity: TRIMMED(page_mkwrite, file times; throttling returns at once for shmem)
/// Locks:    page lock held on entry, dropped; mmap_lock dropped when the answer is RETRY
/// Errors:   VM_FAULT_RETRY when the page was clean and this is the fault's first attempt: the entry is installed all the same
pub(super) async fn fault_dirty_shared_page(k: &Kernel, vmf: &VmFaultCtx, page: PageId) -> VmFault {
    let dirtied = set_page_dirty(k, page);
    VM_BUG_ON!(k, PageAnon(k, page));
    // Read under the page lock: afterwards truncation may clear it.
    let mapping = k.page(page).mapping;
    unlock_page(k, page);
    if dirtied && mapping != PageMapping::None {
        let fpin = maybe_unlock_mmap_for_io(k, vmf);
        if let Some(file) = fpin {
            k.branch("newly dirty: drop mmap_lock to throttle, retry");
            fput(k, file).await;
            return VM_FAULT_RETRY;
        }
    }
    VmFault::empty()
}

/// Have a PTE table ready before the fault handler takes page locks.
///
/// Kernel:   mm/memory.c:__do_fault and do_fault_around, "prealloc_pte" @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   false is VM_FAULT_OOM at the caller
async fn prealloc_pte(k: &Kernel, vmf: &mut VmFaultCtx) -> bool {
    let Some(pmd) = vmf.pmd else { return false };
    if pmd_none(k, pmd) && !vmf.prealloc_pte {
        vmf.prealloc_pte = pte_alloc_one(k).await;
        return vmf.prealloc_pte;
    }
    true
}

/// Let the table that was allocated before be the one of this entry, if there is still none (`pmd_install`).
pub(crate) fn install_prealloc_pte(k: &Kernel, vmf: &mut VmFaultCtx, pmd: Pmd) {
    if pmd_none(k, pmd) {
        pmd_populate(k, k.vma(vmf.vma).vm_mm, pmd);
        vmf.prealloc_pte = false;
    }
}

/// Ask the file for the page: vmf.page comes back locked, with a reference.
///
/// Kernel:   mm/memory.c:__do_fault @ v5.14
/// Fidelity: MIRROR (->fault is shmem_fault)
/// Locks:    mmap_lock held, or dropped when the answer has RETRY; returns with the page lock held
/// Errors:   VM_FAULT_OOM, HWPOISON, and those of shmem_fault
async fn __do_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    if !prealloc_pte(k, vmf).await {
        return VM_FAULT_OOM;
    }
    let ret = shmem_fault(k, vmf).await;
    if ret.intersects(NO_PAGE | VM_FAULT_DONE_COW) {
        return ret;
    }
    let Some(page) = vmf.page else {
        // A handler that says it has a page and has none: the kernel follows a NULL pointer here.
        BUG_ON!(k, true);
        return VM_FAULT_SIGBUS;
    };
    if PageHWPoison(k, page) {
        if ret.contains(VM_FAULT_LOCKED) {
            unlock_page(k, page);
        }
        put_page(k, page);
        vmf.page = None;
        return VM_FAULT_HWPOISON;
    }
    if !ret.contains(VM_FAULT_LOCKED) {
        lock_page(k, page).await;
    } else {
        VM_BUG_ON!(k, !PageLocked(k, page));
    }
    ret
}

/// Install the entry for `page` at `addr`, which vmf.pte stands for. A private write maps the copy as an anonymous page;
/// everything else maps the page-cache page. The caller's reference becomes the entry's. PTE_MARKER_UFFD_WP: where a marker stood that
/// says so, the entry is write-protected.
///
/// From v6.16 on (4e92030c05dc) a load maps a dirty page with a dirty entry, if the entry is writable. Nobody can tell: smaps asks the
/// page as well, unmapping marks a page dirty that is, and after UFFDIO_WRITEPROTECT has let go of a page only a fault without a
/// message is saved. The young bit is set on x86 in all releases.
///
/// Kernel:   mm/memory.c:do_set_pte @ v5.14
/// Fidelity: MIRROR (x86: prefaulted entries are young)
/// Locks:    PTE lock held; page lock held unless it is a private copy
/// Errors:   none
pub async fn do_set_pte(k: &Kernel, vmf: &mut VmFaultCtx, page: PageId, addr: u64) {
    let vma = k.vma(vmf.vma);
    let Some(pte) = vmf.pte else {
        BUG_ON!(k, true);
        return;
    };
    let write = vmf.flags.contains(FAULT_FLAG_WRITE);
    let mut entry = mk_pte(page, vma.vm_page_prot);
    if write {
        entry = maybe_mkwrite(pte_mkdirty(entry), &vma);
    }
    if vmf_orig_pte_uffd_wp(vmf) {
        entry = pte_wrprotect(pte_mkuffd_wp(entry));
    }
    if write && !vma.vm_flags.contains(VM_SHARED) {
        // Copy on write.
        inc_mm_counter(k, vma.vm_mm, MmCounter::MM_ANONPAGES);
        page_add_new_anon_rmap(k, page, vmf.vma, addr);
        lru_cache_add_inactive_or_unevictable(k, page, vmf.vma);
    } else {
        inc_mm_counter(k, vma.vm_mm, mm_counter_file(k, page));
        page_add_file_rmap(k, page);
        mlock_vma_folio(k, page, vmf.vma);
    }
    set_pte_at(k, vma.vm_mm, addr, pte, entry);
}

/// Map what the fault handler gave, if the entry is still what it was.
///
/// Kernel:   mm/memory.c:finish_fault @ v5.14
/// Fidelity: TRIMMED(OOM reaper, huge pages)
/// Locks:    mmap_lock and the page lock held; takes and drops the PTE lock
/// Errors:   NOPAGE when somebody else filled the entry; OOM without a table
async fn finish_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let vma = k.vma(vmf.vma);
    let page = if vmf.flags.contains(FAULT_FLAG_WRITE) && !vma.vm_flags.contains(VM_SHARED) { vmf.cow_page } else { vmf.page };
    let (Some(page), Some(pmd)) = (page, vmf.pmd) else {
        BUG_ON!(k, true);
        return VM_FAULT_SIGBUS;
    };
    if pmd_none(k, pmd) {
        if vmf.prealloc_pte {
            install_prealloc_pte(k, vmf, pmd);
        } else if !pte_alloc(k, vma.vm_mm, pmd).await {
            return VM_FAULT_OOM;
        }
    }
    let pte = pte_offset_map_lock(k, pmd, vmf.address).await;
    vmf.pte = Some(pte);
    let mut ret = VmFault::empty();
    if !vmf_pte_changed(k, vmf, pte) {
        do_set_pte(k, vmf, page, vmf.address).await;
    } else {
        k.branch("somebody else was faster");
        ret = VM_FAULT_NOPAGE;
    }
    pte_unmap_unlock(k, pte);
    ret
}

/// Map the cached neighbours of a read fault along with it.
///
/// Kernel:   mm/memory.c:do_fault_around @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   VM_FAULT_OOM without a table; those of filemap_map_pages
async fn do_fault_around(k: &Kernel, vmf: &mut VmFaultCtx, nr_pages: u64) -> VmFault {
    let vma = k.vma(vmf.vma);
    let mut start_pgoff = vmf.pgoff;
    let mask = !(nr_pages * PAGE_SIZE - 1);
    let address = (vmf.address & mask).max(vma.vm_start);
    let off = ((vmf.address - address) >> PAGE_SHIFT) & (PTRS_PER_PTE - 1);
    start_pgoff -= off;

    // The end of the page table, of the VMA, or of the window, whichever comes first.
    let to_table_end = PTRS_PER_PTE - 1 - ((address >> PAGE_SHIFT) & (PTRS_PER_PTE - 1));
    let vma_pages = (vma.vm_end - vma.vm_start) >> PAGE_SHIFT;
    let end_pgoff = (start_pgoff + to_table_end).min(vma_pages + vma.vm_pgoff - 1).min(start_pgoff + nr_pages - 1);

    if !prealloc_pte(k, vmf).await {
        return VM_FAULT_OOM;
    }
    filemap_map_pages(k, vmf, start_pgoff, end_pgoff).await
}

/// `fault_around_bytes / PAGE_SIZE`; debugfs rounds it down to a power of two, and up to 1, and takes no more than a table.
fn fault_around_pages(k: &Kernel) -> u64 {
    let pages = k.s().config.fault_around_pages.min(PTRS_PER_PTE);
    if pages <= 1 { 1 } else { 1 << pages.ilog2() }
}

/// Must each page of the VMA have a fault of its own? Mapping neighbours would hide their minor faults from the monitor.
/// PTE_MARKER_UFFD_WP: and overlook their markers.
///
/// Kernel:   include/linux/userfaultfd_k.h:uffd_disable_fault_around @ v5.19 (a test for VM_UFFD_MINOR before)
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn uffd_disable_fault_around(k: &Kernel, vma: &Vma) -> bool {
    if !k.has(Delta::PTE_MARKER_UFFD_WP) {
        return vma.vm_flags.contains(VM_UFFD_MINOR);
    }
    vma.vm_flags.intersects(VM_UFFD_WP | VM_UFFD_MINOR)
}

/// A load.
///
/// Kernel:   mm/memory.c:do_read_fault @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held; the page lock is dropped
/// Errors:   those of __do_fault and finish_fault
async fn do_read_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_read_fault", || format!("pgoff={}", vmf.pgoff));
    let vma = k.vma(vmf.vma);
    let mut ret;

    let nr_pages = fault_around_pages(k);
    if nr_pages > 1 && !uffd_disable_fault_around(k, &vma) {
        ret = do_fault_around(k, vmf, nr_pages).await;
        if !ret.is_empty() {
            return ret;
        }
    }

    ret = __do_fault(k, vmf).await;
    if ret.intersects(NO_PAGE) {
        return ret;
    }
    ret |= finish_fault(k, vmf).await;
    if let Some(page) = vmf.page {
        unlock_page(k, page);
        if ret.intersects(NO_PAGE) {
            put_page(k, page);
        }
    }
    ret
}

/// A store through a private mapping: a copy of the file's page.
///
/// Kernel:   mm/memory.c:do_cow_fault @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held; the page lock is dropped
/// Errors:   VM_FAULT_OOM; those of __do_fault and finish_fault
async fn do_cow_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_cow_fault", || format!("pgoff={}", vmf.pgoff));
    let mut ret;
    if anon_vma_prepare(k, vmf.vma).await.is_err() {
        return VM_FAULT_OOM;
    }
    vmf.cow_page = alloc_page(k, "do_cow_fault: alloc").await;
    let Some(cow_page) = vmf.cow_page else {
        return VM_FAULT_OOM;
    };
    if k.should_fail("do_cow_fault: mem_cgroup_charge") {
        put_page(k, cow_page);
        return VM_FAULT_OOM;
    }

    'uncharge_out: {
        ret = __do_fault(k, vmf).await;
        if ret.intersects(NO_PAGE) {
            break 'uncharge_out;
        }
        if ret.contains(VM_FAULT_DONE_COW) {
            return ret;
        }
        let Some(page) = vmf.page else { break 'uncharge_out };
        copy_user_highpage(k, cow_page, page).await;
        __SetPageUptodate(k, cow_page);

        ret |= finish_fault(k, vmf).await;
        unlock_page(k, page);
        put_page(k, page);
        if ret.intersects(NO_PAGE) {
            break 'uncharge_out;
        }
        return ret;
    }
    put_page(k, cow_page);
    ret
}

/// A store through a shared mapping: it reaches the file.
///
/// Kernel:   mm/memory.c:do_shared_fault @ v5.14
/// Fidelity: TRIMMED(page_mkwrite)
/// Locks:    mmap_lock held, or dropped when the answer has RETRY; the page lock is dropped
/// Errors:   those of __do_fault, finish_fault and fault_dirty_shared_page
async fn do_shared_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_shared_fault", || format!("pgoff={}", vmf.pgoff));
    let mut ret = __do_fault(k, vmf).await;
    if ret.intersects(NO_PAGE) {
        return ret;
    }
    let Some(page) = vmf.page else { return ret };
    ret |= finish_fault(k, vmf).await;
    if ret.intersects(NO_PAGE) {
        unlock_page(k, page);
        put_page(k, page);
        return ret;
    }
    ret |= fault_dirty_shared_page(k, vmf, page).await;
    ret
}

/// An empty entry of a file mapping.
///
/// Kernel:   mm/memory.c:do_fault @ v5.14
/// Fidelity: MIRROR (the only vm_ops have a fault handler)
/// Locks:    mmap_lock held, or dropped when the answer has RETRY
/// Errors:   those of the three ways
pub(super) async fn do_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let ret = if !vmf.flags.contains(FAULT_FLAG_WRITE) {
        do_read_fault(k, vmf).await
    } else if !k.vma(vmf.vma).vm_flags.contains(VM_SHARED) {
        do_cow_fault(k, vmf).await
    } else {
        do_shared_fault(k, vmf).await
    };
    // A table that nobody needed is freed.
    vmf.prealloc_pte = false;
    ret
}
