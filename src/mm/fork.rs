// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/fork.c` and `mm/memory.c:copy_page_range`: a copy of an address space, and the process that runs in it.

use crate::delta::Delta;
use crate::errno::{EINTR, ENOMEM, Errno, KResult};
use crate::event::Event;
use crate::flags::*;
use crate::kernel::{
    CtxId, Kernel, MmCounter, MmId, MmStruct, PAGE_SHIFT, PAGE_SIZE, PageTable, ProcId, Process, PteVal, Task, TaskId, VmaId,
};
use crate::ladder;
use crate::mm::exit::mmput;
use crate::mm::locking::{LockId, LockMode, acquire, mmap_write_lock, mmap_write_unlock, ptl_lock, ptl_unlock, release};
use crate::mm::memory::is_cow_mapping;
use crate::mm::mmap::{vm_enough_memory, vm_unacct_memory};
use crate::mm::page::{ClearPageAnonExclusive, get_page, mm_counter};
use crate::mm::pgtable::{Pmd, PteRef, mm_alloc_pmd, pte_alloc, pte_clear_uffd_wp, pte_mkclean, pte_mkold, pte_offset_map};
use crate::mm::pgtable::{make_pte_marker, pte_swp_clear_exclusive, pte_swp_exclusive, ptep_get};
use crate::mm::pgtable::{pte_offset_map_lock, pte_unmap_unlock, pte_write, pte_wrprotect, set_pte_at, vm_normal_page};
use crate::mm::rmap::{anon_vma_fork, page_dup_rmap};
use crate::mm::swapfile::swap_duplicate;
use crate::mm::vma_merge::is_shared_maywrite;
use crate::mm::zap::{RssVec, add_mm_rss_vec, next_pte, next_pte_table, pmd_addr_end};
use crate::point::{Touch, point};
use crate::shmem::inode::file_inode;
use crate::uffd::events::{dup_userfaultfd, dup_userfaultfd_complete, dup_userfaultfd_fail};
use crate::uffd::vma::userfaultfd_wp;
use crate::vfs::{fput, get_file};

// ---- mm/memory.c --------------------------------------------------------------------------------------------------------

/// What the child gets of a marker: poison and guards always, write protection if it is watched too.
///
/// Kernel:   include/linux/mm_inline.h:copy_pte_marker @ v6.6
/// Fidelity: MIRROR (before, there was write protection only: copy_nonpresent_pte asked for it)
/// Locks:    both PTE locks held
/// Errors:   none
fn copy_pte_marker(k: &Kernel, srcm: PteMarker, dst_vma: VmaId) -> PteMarker {
    // Always copy error entries, and guards.
    let mut dstm = srcm & (PTE_MARKER_POISONED | PTE_MARKER_GUARD | SWP_SWAPIN_ERROR);
    if srcm.contains(PTE_MARKER_UFFD_WP) && userfaultfd_wp(k, dst_vma) {
        dstm |= PTE_MARKER_UFFD_WP;
    }
    dstm
}

/// Copy a swap entry, or a marker. PG_ANON_EXCLUSIVE: the slot is shared from now on.
///
/// Kernel:   mm/memory.c:copy_nonpresent_pte @ v5.14
/// Fidelity: TRIMMED(migration and device entries)
/// Locks:    both PTE locks held
/// Errors:   EIO no memory to count the slot's users: the caller allocates it and tries again
fn copy_nonpresent_pte(
    k: &Kernel,
    dst_mm: MmId,
    src_mm: MmId,
    dst_pte: PteRef,
    src_pte: PteRef,
    dst_vma: VmaId,
    addr: u64,
    rss: &mut RssVec,
) -> KResult {
    let mut pte = ptep_get(k, src_pte);
    match pte {
        PteVal::Swap { entry, .. } => {
            if swap_duplicate(k, entry).is_err() {
                return Err(Errno::EIO);
            }
            if pte_swp_exclusive(pte) {
                pte = pte_swp_clear_exclusive(pte);
                set_pte_at(k, src_mm, addr, src_pte, pte);
            }
            rss[MmCounter::MM_SWAPENTS as usize] += 1;
        }
        PteVal::Marker(marker) => {
            let marker = copy_pte_marker(k, marker, dst_vma);
            if !marker.is_empty() {
                set_pte_at(k, dst_mm, addr, dst_pte, make_pte_marker(marker));
            }
            return Ok(());
        }
        _ => {}
    }
    if !userfaultfd_wp(k, dst_vma) {
        pte = pte_clear_uffd_wp(pte);
    }
    set_pte_at(k, dst_mm, addr, dst_pte, pte);
    Ok(())
}

/// Copy a present entry: the page is shared from now on, and write-protected on both sides if it must be copied on a store.
/// PG_ANON_EXCLUSIVE: and is nobody's alone.
///
/// Kernel:   mm/memory.c:copy_present_pte @ v5.14
/// Fidelity: TRIMMED(pinned pages, which are copied at once)
/// Locks:    both PTE locks held
/// Errors:   none
fn copy_present_pte(
    k: &Kernel,
    dst_vma: VmaId,
    src_vma: VmaId,
    dst_pte: PteRef,
    src_pte: PteRef,
    mut pte: PteVal,
    addr: u64,
    rss: &mut RssVec,
) {
    let src_mm = k.vma(src_vma).vm_mm;
    let vm_flags = k.vma(src_vma).vm_flags;
    if let Some(page) = vm_normal_page(pte) {
        get_page(k, page);
        page_dup_rmap(k, page);
        // page_try_dup_anon_rmap
        ClearPageAnonExclusive(k, page);
        rss[mm_counter(k, page) as usize] += 1;
    }

    if is_cow_mapping(vm_flags) && pte_write(pte) {
        // ptep_set_wrprotect: the dirty bit stays, so "dirty and not writable" is common from here on.
        set_pte_at(k, src_mm, addr, src_pte, pte_wrprotect(pte));
        pte = pte_wrprotect(pte);
    }

    // The parent's entry still says that a shared page is dirty.
    if vm_flags.contains(VM_SHARED) {
        pte = pte_mkclean(pte);
    }
    pte = pte_mkold(pte);

    if !userfaultfd_wp(k, dst_vma) {
        pte = pte_clear_uffd_wp(pte);
    }

    set_pte_at(k, k.vma(dst_vma).vm_mm, addr, dst_pte, pte);
}

/// Copy the entries of one PTE table in `[addr, end)`.
///
/// Kernel:   mm/memory.c:copy_pte_range @ v5.14
/// Fidelity: TRIMMED(pinned pages, rescheduling)
/// Locks:    both mmap_locks held for write; takes and drops the child's, then the parent's PTE lock
/// Errors:   ENOMEM no page table, or no room for a swap count
async fn copy_pte_range(
    k: &Kernel,
    dst_vma: VmaId,
    src_vma: VmaId,
    dst_pmd: Pmd,
    src_pmd: Pmd,
    mut addr: u64,
    end: u64,
) -> KResult {
    let _f = k.enter("copy_pte_range", || format!("{src_vma} -> {dst_vma} {addr:#x}-{end:#x}"));
    let dst_mm = k.vma(dst_vma).vm_mm;
    let src_mm = k.vma(src_vma).vm_mm;
    loop {
        // again:
        let mut ret = Ok(());
        let mut rss: RssVec = [0; 4];
        if !pte_alloc(k, dst_mm, dst_pmd).await {
            return Err(ENOMEM);
        }
        let orig_dst_pte = pte_offset_map_lock(k, dst_pmd, addr).await;
        let Some(orig_src_pte) = pte_offset_map(k, src_pmd, addr) else {
            pte_unmap_unlock(k, orig_dst_pte);
            return Ok(());
        };
        ptl_lock(k, orig_src_pte.table).await;

        let mut src_pte = orig_src_pte;
        while addr != end {
            let Some((at, this, pte)) = next_pte(k, src_pte, addr, end) else {
                addr = end;
                break;
            };
            let dst_pte = PteRef { table: orig_dst_pte.table, idx: this.idx };
            // On an error `addr` stays at the entry that is to be tried again.
            addr = at;
            src_pte = this;
            match pte {
                PteVal::None => {}
                PteVal::Swap { .. } | PteVal::Marker(_) => {
                    ret = copy_nonpresent_pte(k, dst_mm, src_mm, dst_pte, src_pte, dst_vma, addr, &mut rss);
                    if ret.is_err() {
                        break;
                    }
                }
                PteVal::Present { .. } => copy_present_pte(k, dst_vma, src_vma, dst_pte, src_pte, pte, addr, &mut rss),
            }
            addr += PAGE_SIZE;
            src_pte = src_pte.next();
        }

        ptl_unlock(k, orig_src_pte.table);
        add_mm_rss_vec(k, dst_mm, &rss);
        pte_unmap_unlock(k, orig_dst_pte);

        if ret.is_err() {
            k.branch("no memory to count the swap slot's users: allocate where that may sleep");
            point(k, Touch::Alloc).await;
            if k.should_fail("add_swap_count_continuation") {
                return Err(ENOMEM);
            }
        }
        if addr == end {
            return Ok(());
        }
    }
}

/// Is there anything in the page tables that faults cannot bring back? PTE_MARKER_UFFD_WP: what is write-protected for userfaultfd.
///
/// VM_MAYBE_GUARD: guards.
///
/// Kernel:   mm/memory.c:vma_needs_copy @ v5.19 (part of copy_page_range before), v6.19
/// Fidelity: TRIMMED(PFN maps)
/// Locks:    both mmap_locks held for write
/// Errors:   none
fn vma_needs_copy(k: &Kernel, dst_vma: VmaId, src_vma: VmaId) -> bool {
    if k.has(Delta::PTE_MARKER_UFFD_WP) && userfaultfd_wp(k, dst_vma) {
        return true;
    }
    if k.vma(src_vma).vm_flags.contains(VM_MAYBE_GUARD) {
        return true;
    }
    // Else, if no private page was ever here, the file has everything. (A private mapping that UFFDIO_CONTINUE filled has an
    // anon_vma, although it may hold cache pages only.)
    k.vma(src_vma).anon_vma.is_some()
}

/// Copy the entries of a VMA to its twin in the child, unless faults will bring them back just as well.
///
/// Kernel:   mm/memory.c:copy_page_range, copy_p4d_range, copy_pud_range, copy_pmd_range @ v5.14
/// Fidelity: TRIMMED(huge entries, PFN maps, mmu notifiers, upper tables of the parent that hold no PTE table)
/// Locks:    both mmap_locks held for write
/// Errors:   ENOMEM no page table, or no room for a swap count; what was copied stays
pub async fn copy_page_range(k: &Kernel, dst_vma: VmaId, src_vma: VmaId) -> KResult {
    let _f = k.enter("copy_page_range", || format!("{src_vma} -> {dst_vma}"));
    let v = k.vma(src_vma);
    if !vma_needs_copy(k, dst_vma, src_vma) {
        k.branch("nothing copied: the child will fault the pages in");
        return Ok(());
    }

    let dst_mm = k.vma(dst_vma).vm_mm;
    let mut addr = v.vm_start;
    let end = v.vm_end;
    while let Some((at, src_pmd)) = next_pte_table(k, v.vm_mm, addr, end) {
        let next = pmd_addr_end(at, end);
        let Some(dst_pmd) = mm_alloc_pmd(k, dst_mm, at).await else { return Err(ENOMEM) };
        if copy_pte_range(k, dst_vma, src_vma, dst_pmd, src_pmd, at, next).await.is_err() {
            return Err(ENOMEM);
        }
        addr = next;
    }
    Ok(())
}

// ---- kernel/fork.c ------------------------------------------------------------------------------------------------------

/// An empty address space with one user.
///
/// Kernel:   kernel/fork.c:mm_alloc, mm_init @ v5.14
/// Fidelity: TRIMMED(everything but counts and page tables; its allocations fail in dup_mm only)
/// Locks:    none
/// Errors:   none
pub fn mm_alloc(k: &Kernel) -> MmId {
    let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
    k.sm().mms.insert(MmStruct { mm_users: 1, mm_count: 1, pgd: Some(pgd), ..MmStruct::default() })
}

/// Copy the VMAs of `oldmm`, and the page tables where that is needed, into the empty `mm`.
///
/// On an error the VMAs copied so far stay in `mm`, for the caller to tear down. Monitors that asked for fork events are told
/// in any case, and have read the message when this returns. DUP_USERFAULTFD_FAIL: only if there is no error.
///
/// Kernel:   kernel/fork.c:dup_mmap @ v5.14
/// Fidelity: TRIMMED(uprobes, mempolicy, hugetlb, vm_ops->open, a fatal signal while waiting for the lock)
/// Locks:    takes and drops both mmap_locks for write, and inside them i_mmap of the mapped files; sleeps until fork events
///           are read
/// Errors:   ENOMEM over the commit limit, or no memory; EINTR a fatal signal
async fn dup_mmap(k: &Kernel, mm: MmId, oldmm: MmId) -> KResult {
    let _f = k.enter("dup_mmap", || format!("{oldmm} -> {mm}"));
    let mut retval = Ok(());
    let mut uf: Vec<(CtxId, CtxId)> = Vec::new();
    let mut charge;
    let mut tmp;

    mmap_write_lock(k, oldmm).await;
    mmap_write_lock(k, mm).await;

    let mpnts = k.mm(oldmm).mmap.clone();
    ladder! {
        {
            for mpnt in mpnts {
                let v = k.vma(mpnt);
                if v.vm_flags.contains(VM_DONTCOPY) {
                    k.branch("VM_DONTCOPY: skipped");
                    continue;
                }
                charge = 0;
                // Copying a large address space takes long enough to be killed in it.
                if k.task(k.current()).fatal_signal_pending {
                    retval = Err(EINTR);
                    break 'out;
                }
                if v.vm_flags.contains(VM_ACCOUNT) {
                    let len = ((v.vm_end - v.vm_start) >> PAGE_SHIFT) as i64;
                    if vm_enough_memory(k, len).is_err() {
                        break 'fail_nomem;
                    }
                    charge = len;
                    k.mm_mut(mm).total_charged += charge;
                }
                point(k, Touch::Alloc).await;
                if k.should_fail("vm_area_dup") {
                    break 'fail_nomem;
                }
                tmp = k.sm().vmas.insert(v);
                k.vma_mut(tmp).vm_mm = mm;
                if dup_userfaultfd(k, tmp, &mut uf).is_err() {
                    break 'fail_nomem_anon_vma_fork;
                }
                if k.vma(tmp).vm_flags.contains(VM_WIPEONFORK) {
                    // Nothing will be copied, so the first fault prepares an anon_vma of its own.
                    k.vma_mut(tmp).anon_vma = None;
                } else if anon_vma_fork(k, tmp, mpnt).await.is_err() {
                    break 'fail_nomem_anon_vma_fork;
                }
                k.vma_mut(tmp).vm_flags.remove(VM_LOCKED);
                if let Some(file) = k.vma(tmp).vm_file {
                    let mapping = file_inode(k, file);
                    get_file(k, file);
                    acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
                    let vm_flags = k.vma(tmp).vm_flags;
                    if is_shared_maywrite(k, vm_flags) {
                        // mapping_allow_writable
                        k.inode_mut(mapping).i_mmap_writable += 1;
                    }
                    // Right behind the parent's, so that a walk meets the parent first.
                    let behind = k.inode(mapping).i_mmap.iter().position(|&v| v == mpnt).map(|i| i + 1);
                    let mut inode = k.inode_mut(mapping);
                    let at = behind.unwrap_or(inode.i_mmap.len());
                    inode.i_mmap.insert(at, tmp);
                    drop(inode);
                    release(k, LockId::IMmap(mapping), LockMode::Write);
                }
                k.mm_mut(mm).mmap.push(tmp);
                k.trace(|| Event::Vma { vma: tmp, what: format!("copy of {mpnt} in {mm}") });
                if !k.vma(tmp).vm_flags.contains(VM_WIPEONFORK) {
                    retval = copy_page_range(k, tmp, mpnt).await;
                }
                if retval.is_err() {
                    break 'out;
                }
            }
            break 'out;
        }
        'fail_nomem_anon_vma_fork: {
            // vm_area_free
            k.sm().vmas.remove(tmp);
        }
        'fail_nomem: {
            retval = Err(ENOMEM);
            vm_unacct_memory(k, charge);
            k.mm_mut(mm).total_charged -= charge;
        }
        'out: {
            mmap_write_unlock(k, mm);
            mmap_write_unlock(k, oldmm);
            if retval.is_err() && k.has(Delta::DUP_USERFAULTFD_FAIL) {
                dup_userfaultfd_fail(k, &uf);
            } else {
                dup_userfaultfd_complete(k, &uf).await;
            }
            retval
        }
    }
}

/// A copy of an address space, or none.
///
/// Kernel:   kernel/fork.c:dup_mm @ v5.14
/// Fidelity: TRIMMED(binfmt, hiwater marks)
/// Locks:    as dup_mmap
/// Errors:   ENOMEM whatever went wrong
pub async fn dup_mm(k: &Kernel, oldmm: MmId) -> KResult<MmId> {
    let _f = k.enter("dup_mm", || format!("{oldmm}"));
    point(k, Touch::Alloc).await;
    if k.should_fail("allocate_mm") {
        return Err(ENOMEM);
    }
    let mm = mm_alloc(k);
    if dup_mmap(k, mm, oldmm).await.is_err() {
        // free_pt:
        mmput(k, mm).await;
        return Err(ENOMEM);
    }
    Ok(mm)
}

/// The child shares every open file description of the parent.
///
/// Kernel:   kernel/fork.c:copy_files, fs/file.c:dup_fd @ v5.14
/// Fidelity: TRIMMED(CLONE_FILES, close-on-exec)
/// Locks:    none
/// Errors:   none
fn copy_files(k: &Kernel, p: ProcId) {
    let group = k.task(k.current()).group;
    let fds = k.process(group).fds.clone();
    for file in fds.iter().flatten() {
        get_file(k, *file);
    }
    k.process_mut(p).fds = fds;
}

/// Drop the file descriptions of a child that will not be.
///
/// Kernel:   kernel/exit.c:exit_files @ v5.14
/// Fidelity: TRIMMED(only for a process that never ran)
/// Locks:    none
/// Errors:   none
async fn exit_files(k: &Kernel, p: ProcId) {
    let fds = std::mem::take(&mut k.process_mut(p).fds);
    for file in fds.into_iter().flatten() {
        fput(k, file).await;
    }
}

/// A new process with one task, which does not run before this has returned.
///
/// Kernel:   kernel/fork.c:copy_process @ v5.14
/// Fidelity: TRIMMED(everything but files and memory; signals other than fatal ones are delivered before a call begins)
/// Locks:    as dup_mmap
/// Errors:   ENOMEM no memory; EINTR a fatal signal
async fn copy_process(k: &Kernel) -> KResult<TaskId> {
    let group = k.task(k.current()).group;
    let oldmm = k.current_mm();
    let privileged = k.process(group).privileged;
    let retval;

    point(k, Touch::Alloc).await;
    if k.should_fail("dup_task_struct") {
        return Err(ENOMEM);
    }
    let p = k.sm().procs.insert(Process { privileged, ..Process::default() });

    ladder! {
        {
            copy_files(k, p);
            // copy_mm
            if let Some(oldmm) = oldmm {
                match dup_mm(k, oldmm).await {
                    Ok(mm) => k.process_mut(p).mm = Some(mm),
                    Err(e) => {
                        retval = Err(e);
                        break 'bad_fork_cleanup_files;
                    }
                }
            }
            // A parent that was killed while it waited must not leave a child behind.
            if k.task(k.current()).fatal_signal_pending {
                retval = Err(EINTR);
                break 'bad_fork_cleanup_mm;
            }
            let task = k.sm().tasks.insert(Task { group: p, ..Task::default() });
            return Ok(task);
        }
        'bad_fork_cleanup_mm: {
            let mm = k.process_mut(p).mm.take();
            if let Some(mm) = mm {
                mmput(k, mm).await;
            }
        }
        'bad_fork_cleanup_files: {
            exit_files(k, p).await;
            k.sm().procs.remove(p);
            retval
        }
    }
}

/// fork(2): the new process's first task.
///
/// Kernel:   kernel/fork.c:kernel_clone @ v5.14
/// Fidelity: TRIMMED(clone flags, tracing, vfork)
/// Locks:    as dup_mmap; sleeps until fork events are read
/// Errors:   ENOMEM no memory, or over the commit limit; EINTR a fatal signal
pub async fn sys_fork(k: &Kernel) -> KResult<TaskId> {
    let _f = k.enter("kernel_clone", String::new);
    copy_process(k).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{AnonVmaId, PageProt, State, Vma};
    use crate::mm::pgtable::native_set_pte;
    use crate::mm::pgtable::{lookup, pte_young, zero_pte};
    use crate::point::run_through as run;

    fn two_mms() -> (Kernel, VmaId, VmaId) {
        let k = Kernel::new(State::default());
        let task = k.sm().tasks.insert(Task::default());
        k.run.current.set(Some(task));
        let vma = |vm_start| {
            let vm_mm = mm_alloc(&k);
            let v = k.sm().vmas.insert(Vma { vm_start, vm_end: vm_start + 0x40_0000, vm_mm, ..Vma::default() });
            k.mm_mut(vm_mm).mmap.push(v);
            v
        };
        let (src, dst) = (vma(0x10_0000), vma(0x10_0000));
        let mm = k.vma(src).vm_mm;
        let pmd = run(mm_alloc_pmd(&k, mm, 0x30_0000)).unwrap();
        assert!(run(pte_alloc(&k, mm, pmd)));
        let pte = pte_offset_map(&k, pmd, 0x30_0000).unwrap();
        native_set_pte(&k, mm, 0x30_0000, pte, zero_pte(PageProt { flags: _PAGE_ACCESSED }));
        (k, src, dst)
    }

    #[test]
    fn a_vma_without_anon_vma_is_left_to_faults() {
        let (k, src, dst) = two_mms();
        assert_eq!(run(copy_page_range(&k, dst, src)), Ok(()));
        assert_eq!(k.mm(k.vma(dst).vm_mm).pgtables, 0);
    }

    #[test]
    fn the_zero_page_is_copied_old_and_uncounted() {
        let (k, src, dst) = two_mms();
        k.vma_mut(src).anon_vma = Some(AnonVmaId::DANGLING);
        assert_eq!(run(copy_page_range(&k, dst, src)), Ok(()));
        let mm = k.vma(dst).vm_mm;
        let copy = lookup(&k, mm, 0x30_0000);
        assert!(matches!(copy, PteVal::Present { .. }) && !pte_young(copy));
        assert_eq!(k.mm(mm).rss_stat, [0; 4]);
        assert!(k.s().held.is_empty() && k.run.findings.borrow().is_empty());
    }

    #[test]
    fn no_page_table_is_enomem() {
        let (k, src, dst) = two_mms();
        k.vma_mut(src).anon_vma = Some(AnonVmaId::DANGLING);
        let before = k.run.fallible.get();
        for n in 0..3 {
            k.run.fallible.set(before);
            *k.run.fail_at.borrow_mut() = vec![before + n];
            let fresh = mm_alloc(&k);
            k.vma_mut(dst).vm_mm = fresh;
            assert_eq!(run(copy_page_range(&k, dst, src)), Err(ENOMEM), "allocation {n}");
            assert!(k.s().held.is_empty());
        }
    }
}
