// SPDX-License-Identifier: GPL-2.0-only
//! `mm/gup.c`: the kernel looks at user memory through the page tables, faulting in what is missing.
//!
//! A caller that gives a `locked` pointer allows mmap_lock to be dropped: a userfault then waits, and the caller retakes the
//! lock and goes on. Without it a userfault ends in SIGBUS, which is -EFAULT here.

use crate::BUG_ON;
use crate::VM_BUG_ON;
use crate::delta::Delta;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::fault::{read_frame, write_frame};
use crate::mm::locking::{lock_page, mmap_read_lock, mmap_read_unlock, trylock_page, unlock_page};
use crate::mm::memory::{handle_mm_fault, is_cow_mapping, pte_needs_soft_dirty_wp};
use crate::mm::mlock::mlock_vma_page;
use crate::mm::mmap::find_vma;
use crate::mm::page::*;
use crate::mm::pgtable::*;
use crate::point::{Touch, point, spin};
use crate::uffd::vma::userfaultfd_pte_wp;

bitflags::bitflags! {
    /// `FOLL_*`: what the caller of get_user_pages wants.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FollFlags: u32 {
        /// The page will be written.
        const FOLL_WRITE = 1;
        /// Mark it accessed, and for FOLL_WRITE dirty.
        const FOLL_TOUCH = 2;
        /// Take a reference.
        const FOLL_GET = 4;
        /// Ignore the VMA's protection as far as a debugger may.
        const FOLL_FORCE = 0x10;
        /// Do not wait.
        const FOLL_NOWAIT = 0x20;
        /// Tell a poisoned page from other reasons.
        const FOLL_HWPOISON = 0x100;
        /// Fault pages in.
        const FOLL_POPULATE = 0x40;
        /// Retried at least once.
        const FOLL_TRIED = 0x800;
        /// mlock the page if the VMA is VM_LOCKED.
        const FOLL_MLOCK = 0x1000;
        /// For another mm than current's.
        const FOLL_REMOTE = 0x2000;
        /// Copy on write was broken in a VMA that is not writable (internal).
        const FOLL_COW = 0x4000;
    }
}

/// May a page be written through this entry? A forced write to a read-only private mapping may, once it has its own copy:
/// the entry stays read-only then, and its dirty bit shows that the copy was made. FOLL_FORCE_EXCLUSIVE: that the page is exclusive
/// shows it.
///
/// Kernel:   mm/gup.c:can_follow_write_pte @ v5.14
/// Fidelity: MIRROR
/// Locks:    PTE lock held
/// Errors:   none
fn can_follow_write_pte(k: &Kernel, pte: PteVal, vma: VmaId, flags: FollFlags) -> bool {
    if k.has(Delta::FOLL_FORCE_EXCLUSIVE) {
        if pte_write(pte) {
            return true;
        }
        let v = k.vma(vma);
        // FOLL_FORCE has no effect on shared mappings, private ones that may never be written, and ones that need a write fault only.
        if !flags.contains(FollFlags::FOLL_FORCE)
            || v.vm_flags.intersects(VM_MAYSHARE | VM_SHARED)
            || !v.vm_flags.contains(VM_MAYWRITE)
            || v.vm_flags.contains(VM_WRITE)
        {
            return false;
        }
        if !vm_normal_page(pte).is_some_and(|page| PageAnon(k, page) && PageAnonExclusive(k, page)) {
            return false;
        }
        // A write fault for another reason is still due.
        return !pte_needs_soft_dirty_wp(k, &v, pte) && !userfaultfd_pte_wp(k, vma, pte);
    }
    pte_write(pte) || (flags.contains(FollFlags::FOLL_FORCE | FollFlags::FOLL_COW) && pte_dirty(pte))
}

/// The page behind an address, if its entry permits what the flags want. The zero page comes without a reference.
///
/// Kernel:   mm/gup.c:follow_page_mask, follow_page_pte @ v5.14
/// Fidelity: TRIMMED(huge entries, migration, FOLL_PIN, FOLL_DUMP, FOLL_NUMA: only a VMA that check_vma_flags refuses has
///           PROT_NONE entries, unless FOLL_FORCE is given)
/// Locks:    mmap_lock held; takes and drops the PTE lock
/// Errors:   None means that a fault is needed
async fn follow_page_mask(k: &Kernel, vma: VmaId, address: u64, flags: FollFlags) -> Option<PageId> {
    let _f = k.enter("follow_page_mask", || format!("addr={address:#x} flags={flags:?}"));
    let mm = k.vma(vma).vm_mm;
    let pmd = match mm_find_pmd(k, mm, address) {
        Some(pmd) if !pmd_none(k, pmd) => pmd,
        // no_page_table:
        _ => return None,
    };

    let ptep = pte_offset_map_lock(k, pmd, address).await;
    let pte = ptep_get(k, ptep);
    let mut ret = None;
    'no_page: {
        if !pte_present(pte) {
            break 'no_page;
        }
        if flags.contains(FollFlags::FOLL_WRITE) && !can_follow_write_pte(k, pte, vma, flags) {
            break 'no_page;
        }
        let Some(page) = vm_normal_page(pte) else {
            // The zero page. Its struct page is not modelled, so there is nothing to count or mark.
            ret = pte_page(pte);
            break 'no_page;
        };
        ret = Some(page);
        // try_grab_page
        if flags.contains(FollFlags::FOLL_GET) {
            get_page(k, page);
        }
        if flags.contains(FollFlags::FOLL_TOUCH) {
            if flags.contains(FollFlags::FOLL_WRITE) && !pte_dirty(pte) && !PageDirty(k, page) {
                set_page_dirty(k, page);
            }
            mark_page_accessed(k, page);
        }
        if flags.contains(FollFlags::FOLL_MLOCK) && k.vma(vma).vm_flags.contains(VM_LOCKED) && !k.has(Delta::MLOCK_RMAP) {
            point(k, Touch::WritePage(page)).await;
            if k.page(page).mapping != PageMapping::None && trylock_page(k, page) {
                // Off the batch and onto the LRU, from where mlock can isolate it.
                lru_add_drain(k);
                if k.page(page).mapping != PageMapping::None {
                    mlock_vma_page(k, page).await;
                }
                unlock_page(k, page);
            }
        }
    }
    pte_unmap_unlock(k, ptep);
    ret
}

/// What a failed fault means to a caller of get_user_pages.
///
/// Kernel:   include/linux/mm.h:vm_fault_to_errno @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   ENOMEM, EHWPOISON, EFAULT
fn vm_fault_to_errno(vm_fault: VmFault, foll_flags: FollFlags) -> Option<Errno> {
    if vm_fault.contains(VM_FAULT_OOM) {
        return Some(ENOMEM);
    }
    if vm_fault.contains(VM_FAULT_HWPOISON) {
        return Some(if foll_flags.contains(FollFlags::FOLL_HWPOISON) { EHWPOISON } else { EFAULT });
    }
    if vm_fault.intersects(VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV) {
        return Some(EFAULT);
    }
    None
}

/// Fault one page in.
///
/// Kernel:   mm/gup.c:faultin_page @ v5.14
/// Fidelity: TRIMMED(VM_LOCKONFAULT)
/// Locks:    mmap_lock held; dropped, with `*locked` false, when the answer is EBUSY (unless FOLL_NOWAIT)
/// Errors:   EBUSY retry; ENOMEM; EFAULT
async fn faultin_page(k: &Kernel, vma: VmaId, address: u64, flags: &mut FollFlags, locked: &mut Option<&mut bool>) -> KResult {
    let _f = k.enter("faultin_page", || format!("addr={address:#x} flags={flags:?}"));
    let mut fault_flags = FaultFlags::empty();
    if flags.contains(FollFlags::FOLL_WRITE) {
        fault_flags |= FAULT_FLAG_WRITE;
    }
    if flags.contains(FollFlags::FOLL_REMOTE) {
        fault_flags |= FAULT_FLAG_REMOTE;
    }
    if locked.is_some() {
        fault_flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
    }
    if flags.contains(FollFlags::FOLL_NOWAIT) {
        fault_flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT;
    }
    if flags.contains(FollFlags::FOLL_TRIED) {
        fault_flags |= FAULT_FLAG_TRIED;
    }

    let ret = Box::pin(handle_mm_fault(k, vma, address, fault_flags)).await;
    if ret.intersects(VM_FAULT_ERROR) {
        if let Some(err) = vm_fault_to_errno(ret, *flags) {
            return Err(err);
        }
        BUG_ON!(k, true);
    }
    if ret.contains(VM_FAULT_RETRY) {
        if let Some(locked) = locked
            && !fault_flags.contains(FAULT_FLAG_RETRY_NOWAIT)
        {
            **locked = false;
        }
        return Err(EBUSY);
    }
    // The copy on write was broken although the VMA is not writable: the next look may take the dirty bit for the write bit.
    // Should the copy be lost before that, the fault has to be taken again, so the request stays a write.
    let dirty_tells = !k.has(Delta::FOLL_FORCE_EXCLUSIVE);
    if dirty_tells && ret.contains(VM_FAULT_WRITE) && !k.vma(vma).vm_flags.contains(VM_WRITE) {
        flags.insert(FollFlags::FOLL_COW);
    }
    Ok(())
}

/// Does the VMA permit what the flags want?
///
/// Kernel:   mm/gup.c:check_vma_flags @ v5.14
/// Fidelity: TRIMMED(VM_IO, VM_PFNMAP, FOLL_ANON, FOLL_LONGTERM, protection keys)
/// Locks:    mmap_lock held
/// Errors:   EFAULT
fn check_vma_flags(vma: &Vma, gup_flags: FollFlags) -> KResult {
    let vm_flags = vma.vm_flags;
    if gup_flags.contains(FollFlags::FOLL_WRITE) {
        if !vm_flags.contains(VM_WRITE) {
            if !gup_flags.contains(FollFlags::FOLL_FORCE) {
                return Err(EFAULT);
            }
            // A debugger may write to a private copy, never to the file behind a read-only mapping.
            if !is_cow_mapping(vm_flags) {
                return Err(EFAULT);
            }
        }
    } else if !vm_flags.contains(VM_READ) {
        if !gup_flags.contains(FollFlags::FOLL_FORCE) {
            return Err(EFAULT);
        }
        // Is there a way at all to read it?
        if !vm_flags.contains(VM_MAYREAD) {
            return Err(EFAULT);
        }
    }
    Ok(())
}

/// `find_extend_vma`: the VMA that covers the address (stacks do not grow in the model).
fn find_extend_vma(k: &Kernel, mm: MmId, addr: u64) -> Option<VmaId> {
    find_vma(k, mm, addr).filter(|&vma| k.vma(vma).vm_start <= addr)
}

/// Walk `nr_pages` pages from `start`, fault in what is missing, and collect the pages if `pages` is given. Returns how many
/// were done; an error counts only if none were.
///
/// Kernel:   mm/gup.c:__get_user_pages @ v5.14
/// Fidelity: TRIMMED(gate area, hugetlb, FOLL_LONGTERM)
/// Locks:    mmap_lock held; dropped when `*locked` comes back false
/// Errors:   EFAULT no VMA, not with its rights, or SIGBUS; ENOMEM; EINTR a fatal signal; 0 pages with `*locked` false: retry
async fn __get_user_pages(
    k: &Kernel,
    mm: MmId,
    start: u64,
    nr_pages: u64,
    gup_flags: FollFlags,
    mut pages: Option<&mut Vec<PageId>>,
    mut locked: Option<&mut bool>,
) -> KResult<u64> {
    let mut ret = Ok(());
    let mut i = 0;
    let mut start = start;
    let mut nr_pages = nr_pages;
    let mut vma: Option<VmaId> = None;
    if nr_pages == 0 {
        return Ok(0);
    }
    VM_BUG_ON!(k, pages.is_some() != gup_flags.contains(FollFlags::FOLL_GET));

    'out: loop {
        let mut foll_flags = gup_flags;
        // The first page, or past the VMA's end.
        let here = match vma {
            Some(vma) if start < k.vma(vma).vm_end => vma,
            _ => match find_extend_vma(k, mm, start) {
                None => {
                    ret = Err(EFAULT);
                    break 'out;
                }
                Some(found) => {
                    vma = Some(found);
                    ret = check_vma_flags(&k.vma(found), gup_flags);
                    if ret.is_err() {
                        break 'out;
                    }
                    found
                }
            },
        };
        let mut tries = 0;
        // retry:
        let page = loop {
            let fatal = k.task(k.current()).fatal_signal_pending;
            if fatal {
                ret = Err(EINTR);
                break 'out;
            }
            if let Some(page) = follow_page_mask(k, here, start, foll_flags).await {
                break page;
            }
            match faultin_page(k, here, start, &mut foll_flags, &mut locked).await {
                Ok(()) => {}
                Err(EBUSY) => {
                    ret = Ok(());
                    break 'out;
                }
                Err(err) => {
                    ret = Err(err);
                    break 'out;
                }
            }
            tries += 1;
            if tries > 8 {
                spin(k, "__get_user_pages").await;
            }
        };
        if let Some(pages) = pages.as_deref_mut() {
            pages.push(page);
        }
        i += 1;
        start += PAGE_SIZE;
        nr_pages -= 1;
        if nr_pages == 0 {
            break;
        }
    }
    match ret {
        Err(err) if i == 0 => Err(err),
        _ => Ok(i),
    }
}

/// One page of user memory, with a reference (the zero page has none). None: without FOLL_GET it is only faulted in; or
/// `*locked` came back false: take mmap_lock again and retry with FOLL_TRIED.
///
/// Kernel:   mm/gup.c:__get_user_pages @ v5.14
/// Fidelity: TRIMMED(one page)
/// Locks:    mmap_lock held; dropped when `*locked` comes back false
/// Errors:   EFAULT, ENOMEM, EINTR
pub async fn __get_user_page(
    k: &Kernel,
    mm: MmId,
    start: u64,
    gup_flags: FollFlags,
    locked: Option<&mut bool>,
) -> KResult<Option<PageId>> {
    let _f = k.enter("__get_user_pages", || format!("start={start:#x} flags={gup_flags:?}"));
    let mut pages = Vec::new();
    let wanted = gup_flags.contains(FollFlags::FOLL_GET).then_some(&mut pages);
    match __get_user_pages(k, mm, start, 1, gup_flags, wanted, locked).await {
        Ok(_) => Ok(pages.first().copied()),
        Err(err) => Err(err),
    }
}

/// Read or write another process's memory, or one's own through /proc/self/mem, as a debugger does: not more than a page's worth of
/// bytes, which may lie in two pages. Returns bytes done.
///
/// `cells[i]` is the byte of the range that is the `CELL_AT[i]`th of its page.
///
/// Kernel:   mm/memory.c:__access_remote_vm, mm/gup.c:get_user_pages_remote @ v5.14
/// Fidelity: TRIMMED(VM_IO mappings, vm_ops->access; watched bytes)
/// Locks:    takes and drops mmap_lock for reading, held throughout: no `locked`, so a userfault is not waited for
/// Errors:   a short count where a page cannot be had
pub async fn access_remote_vm(k: &Kernel, mm: MmId, addr: u64, cells: &mut [Option<Cell>; CELLS], len: u64, write: bool) -> u64 {
    let _f = k.enter("access_remote_vm", || format!("addr={addr:#x} len={len} write={write}"));
    let mut gup_flags = FollFlags::FOLL_FORCE | FollFlags::FOLL_TOUCH | FollFlags::FOLL_REMOTE | FollFlags::FOLL_GET;
    gup_flags.set(FollFlags::FOLL_WRITE, write);

    // mmap_read_lock_killable
    mmap_read_lock(k, mm).await;
    let fatal = k.task(k.current()).fatal_signal_pending;
    if fatal {
        mmap_read_unlock(k, mm);
        return 0;
    }
    VM_BUG_ON!(k, len > PAGE_SIZE);
    let mut done = 0;
    while done < len {
        let here = addr.wrapping_add(done);
        let Ok(Some(page)) = __get_user_page(k, mm, here, gup_flags, None).await else {
            k.branch("page cannot be had: the transfer ends short");
            break;
        };
        let offset = here & (PAGE_SIZE - 1);
        let bytes = (len - done).min(PAGE_SIZE - offset);
        point(k, Touch::UserCopy(mm, page_align_down(here))).await;
        if write {
            for (i, at) in CELL_AT.into_iter().enumerate() {
                if (offset..offset + bytes).contains(&at)
                    && let Some(value) = cells[i]
                {
                    write_frame(k, page, i, value);
                }
            }
            if page != PageId::ZERO {
                // set_page_dirty_lock
                lock_page(k, page).await;
                set_page_dirty(k, page);
                unlock_page(k, page);
            }
        } else {
            let frame = read_frame(k, page);
            for (i, at) in CELL_AT.into_iter().enumerate() {
                if (offset..offset + bytes).contains(&at) {
                    cells[i] = Some(frame[i]);
                }
            }
        }
        if page != PageId::ZERO {
            put_page(k, page);
        }
        done += bytes;
    }
    mmap_read_unlock(k, mm);
    done
}

/// Fault in and mlock the pages of a range within one VMA. Returns pages done. Without `locked` a fault that would have to
/// wait fails.
///
/// Kernel:   mm/gup.c:populate_vma_page_range @ v5.14
/// Fidelity: TRIMMED(VM_LOCKONFAULT)
/// Locks:    mmap_lock held; dropped when `*locked` comes back false
/// Errors:   EFAULT, ENOMEM, EINTR
pub async fn populate_vma_page_range(k: &Kernel, vma: VmaId, start: u64, end: u64, locked: Option<&mut bool>) -> KResult<u64> {
    let _f = k.enter("populate_vma_page_range", || format!("{start:#x}..{end:#x}"));
    let v = k.vma(vma);
    let nr_pages = (end - start) / PAGE_SIZE;
    VM_BUG_ON!(k, start & (PAGE_SIZE - 1) != 0 || end & (PAGE_SIZE - 1) != 0);
    VM_BUG_ON!(k, start < v.vm_start || end > v.vm_end);

    let mut gup_flags = FollFlags::FOLL_TOUCH | FollFlags::FOLL_POPULATE | FollFlags::FOLL_MLOCK;
    // Break copy on write now, except in shared mappings: they would be dirtied for nothing.
    if v.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE {
        gup_flags |= FollFlags::FOLL_WRITE;
    }
    // mlock is to succeed in a write-only mapping too; a PROT_NONE one fails.
    if v.vm_flags.intersects(VM_READ | VM_WRITE | VM_EXEC) {
        gup_flags |= FollFlags::FOLL_FORCE;
    }
    __get_user_pages(k, v.vm_mm, start, nr_pages, gup_flags, None, locked).await
}

/// Fault in the pages of a range within one VMA for MADV_POPULATE_READ and MADV_POPULATE_WRITE. Returns pages done.
///
/// Kernel:   mm/gup.c:faultin_vma_page_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock read held; dropped when `*locked` comes back false
/// Errors:   EINVAL the VMA does not permit it; EFAULT, EHWPOISON, ENOMEM, EINTR
pub async fn faultin_vma_page_range(
    k: &Kernel,
    vma: VmaId,
    start: u64,
    end: u64,
    write: bool,
    locked: &mut bool,
) -> KResult<u64> {
    let _f = k.enter("faultin_vma_page_range", || format!("{start:#x}..{end:#x} write={write}"));
    let v = k.vma(vma);
    let nr_pages = (end - start) / PAGE_SIZE;
    VM_BUG_ON!(k, start & (PAGE_SIZE - 1) != 0 || end & (PAGE_SIZE - 1) != 0);
    VM_BUG_ON!(k, start < v.vm_start || end > v.vm_end);

    let mut gup_flags = FollFlags::FOLL_TOUCH | FollFlags::FOLL_POPULATE | FollFlags::FOLL_MLOCK | FollFlags::FOLL_HWPOISON;
    if write {
        gup_flags |= FollFlags::FOLL_WRITE;
    }
    // A permission problem is the caller's mistake: EINVAL, not EFAULT.
    if check_vma_flags(&v, gup_flags).is_err() {
        return Err(EINVAL);
    }
    __get_user_pages(k, v.vm_mm, start, nr_pages, gup_flags, None, Some(locked)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(vm_flags: VmFlags) -> Vma {
        Vma { vm_flags, ..Vma::default() }
    }

    #[test]
    fn a_forced_write_needs_a_cow_mapping() {
        let force = FollFlags::FOLL_WRITE | FollFlags::FOLL_FORCE;
        let ro_private = vma(VM_READ | VM_MAYREAD | VM_MAYWRITE);
        let ro_shared = vma(VM_READ | VM_MAYREAD | VM_MAYWRITE | VM_SHARED | VM_MAYSHARE);
        // A shared mapping of a read-only descriptor is neither VM_SHARED nor VM_MAYWRITE.
        let ro_file = vma(VM_READ | VM_MAYREAD | VM_MAYSHARE);
        assert_eq!(check_vma_flags(&ro_private, FollFlags::FOLL_WRITE), Err(EFAULT));
        assert_eq!(check_vma_flags(&ro_private, force), Ok(()));
        assert_eq!(check_vma_flags(&ro_shared, force), Err(EFAULT));
        assert_eq!(check_vma_flags(&ro_file, force), Err(EFAULT));
    }

    #[test]
    fn the_dirty_bit_stands_for_the_write_bit_only_after_cow() {
        let k = Kernel::default();
        let page = PageId { pfn: 0, generation: 0 };
        let dirty = PteVal::Present { page, flags: _PAGE_DIRTY | _PAGE_ACCESSED };
        let force = FollFlags::FOLL_WRITE | FollFlags::FOLL_FORCE;
        assert!(!can_follow_write_pte(&k, dirty, VmaId::DANGLING, force));
        assert!(can_follow_write_pte(&k, dirty, VmaId::DANGLING, force | FollFlags::FOLL_COW));
        assert!(!can_follow_write_pte(&k, pte_mkclean(dirty), VmaId::DANGLING, force | FollFlags::FOLL_COW));
        assert!(can_follow_write_pte(&k, pte_mkwrite(dirty), VmaId::DANGLING, FollFlags::FOLL_WRITE));
    }
}
