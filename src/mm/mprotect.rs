// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mprotect.c`.

use crate::delta::Delta;
use crate::errno::{EACCES, EINVAL, ENOMEM, KResult};
use crate::event::Event;
use crate::flags::*;
use crate::kernel::{Kernel, PAGE_SHIFT, PAGE_SIZE, PageProt, PteVal, VmaId, page_align};
use crate::mm::gup::populate_vma_page_range;
use crate::mm::locking::{mmap_write_lock, mmap_write_unlock};
use crate::mm::memory::{pte_needs_soft_dirty_wp, vma_is_anonymous};
use crate::mm::mmap::{
    find_vma, mm_unacct_memory, split_vma, vm_enough_memory, vm_unacct_memory, vma_merge, vma_next, vma_prev, with_sticky,
};
use crate::mm::mmap::{vma_set_page_prot, vma_wants_writenotify};
use crate::mm::page::{PageAnon, PageAnonExclusive};
use crate::mm::pgtable::{Pmd, pte_clear_uffd_wp, pte_dirty, pte_mkuffd_wp, pte_mkwrite, pte_modify, pte_offset_map_lock};
use crate::mm::pgtable::{make_pte_marker, mm_alloc_pmd, pte_alloc, pte_marker_uffd_wp, ptep_get};
use crate::mm::pgtable::{pte_protnone, pte_soft_dirty, pte_unmap_unlock, pte_write, pte_wrprotect, set_pte_at, vm_normal_page};
use crate::mm::zap::{next_pte, next_pte_table, pmd_addr_end};
use crate::uffd::vma::{userfaultfd_pte_wp, userfaultfd_wp_use_markers};

/// `MM_CP_*`: why a protection is changed.
#[derive(Clone, Copy, Default, Debug)]
pub struct CpFlags {
    /// MM_CP_DIRTY_ACCT: entries that are dirty already may become writable.
    pub dirty_acct: bool,
    /// MM_CP_TRY_CHANGE_WRITABLE (v6.0): entries that need no write fault become writable.
    pub try_change_writable: bool,
    /// MM_CP_UFFD_WP: write-protect for userfaultfd.
    pub uffd_wp: bool,
    /// MM_CP_UFFD_WP_RESOLVE: take that away.
    pub uffd_wp_resolve: bool,
}

/// May entries of this VMA be looked at one by one, to make those writable that need no fault?
///
/// Kernel:   include/linux/mm.h:vma_wants_manual_pte_write_upgrade @ v6.12
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
pub fn vma_wants_manual_pte_write_upgrade(k: &Kernel, vma: VmaId) -> bool {
    let v = k.vma(vma);
    if v.vm_flags.contains(VM_SHARED) {
        return vma_wants_writenotify(k, vma, v.vm_page_prot);
    }
    v.vm_flags.contains(VM_WRITE)
}

/// Need no store through this entry be noticed? CHANGE_CLEAN_WRITABLE: of a private page it does not matter whether it is dirty.
///
/// Kernel:   mm/mprotect.c:can_change_pte_writable @ v6.0
/// Fidelity: TRIMMED(NUMA hinting)
/// Locks:    PTE lock held
/// Errors:   none
fn can_change_pte_writable(k: &Kernel, vma: VmaId, pte: PteVal) -> bool {
    let v = k.vma(vma);
    if !v.vm_flags.contains(VM_WRITE) || pte_protnone(pte) {
        return false;
    }
    if !k.has(Delta::CHANGE_CLEAN_WRITABLE) && !pte_dirty(pte) {
        return false;
    }
    if pte_needs_soft_dirty_wp(k, &v, pte) {
        return false;
    }
    if userfaultfd_pte_wp(k, vma, pte) {
        return false;
    }
    if !v.vm_flags.contains(VM_SHARED) {
        return vm_normal_page(pte).is_some_and(|page| PageAnon(k, page) && PageAnonExclusive(k, page));
    }
    pte_dirty(pte)
}

/// Change the entries of one PTE table; says how many. PTE_MARKER_UFFD_WP: userfaultfd's write protection leaves markers in entries
/// that are none, and takes them away again.
///
/// Kernel:   mm/mprotect.c:change_pte_range @ v5.14
/// Fidelity: TRIMMED(NUMA hinting, migration and device entries)
/// Locks:    mmap_lock held; takes and drops the PTE lock
/// Errors:   none
async fn change_pte_range(
    k: &Kernel,
    vma: VmaId,
    pmd: Pmd,
    mut addr: u64,
    end: u64,
    newprot: PageProt,
    cp_flags: CpFlags,
) -> u64 {
    let _f = k.enter("change_pte_range", || format!("{vma} {addr:#x}-{end:#x}"));
    let v = k.vma(vma);
    // Without soft-dirty tracking VM_SOFTDIRTY is 0.
    let vm_softdirty = v.vm_flags.contains(VM_SOFTDIRTY) && k.s().config.soft_dirty;
    let markers = cp_flags.uffd_wp && userfaultfd_wp_use_markers(k, vma);
    let mut pages = 0;

    let first = pte_offset_map_lock(k, pmd, addr).await;
    let mut pte = first;
    while addr != end {
        // Entries that are none matter to markers only.
        let entry = if markers { Some((addr, pte, ptep_get(k, pte))) } else { next_pte(k, pte, addr, end) };
        let Some((at, this, oldpte)) = entry else { break };
        addr = at + PAGE_SIZE;
        pte = this.next();
        match oldpte {
            PteVal::None => {
                if markers {
                    set_pte_at(k, v.vm_mm, at, this, make_pte_marker(PTE_MARKER_UFFD_WP));
                    pages += 1;
                }
            }
            PteVal::Marker(_) => {
                // Poisoned and guarded ones say more than this could.
                if cp_flags.uffd_wp_resolve && pte_marker_uffd_wp(oldpte) {
                    set_pte_at(k, v.vm_mm, at, this, PteVal::None);
                    pages += 1;
                }
            }
            PteVal::Present { .. } => {
                let mut ptent = pte_modify(oldpte, newprot);
                if cp_flags.uffd_wp {
                    ptent = pte_wrprotect(ptent);
                    ptent = pte_mkuffd_wp(ptent);
                } else if cp_flags.uffd_wp_resolve {
                    // Whether it becomes writable is left to the fault handler, which knows about copy on write.
                    ptent = pte_clear_uffd_wp(ptent);
                }
                // A page known to be dirty need not fault just to be noticed.
                if cp_flags.dirty_acct && pte_dirty(ptent) && (pte_soft_dirty(ptent) || !vm_softdirty) {
                    k.branch("dirty already: made writable");
                    ptent = pte_mkwrite(ptent);
                }
                if cp_flags.try_change_writable && !pte_write(ptent) && can_change_pte_writable(k, vma, ptent) {
                    k.branch("nothing to notice: made writable");
                    ptent = pte_mkwrite(ptent);
                }
                set_pte_at(k, v.vm_mm, at, this, ptent);
                pages += 1;
            }
            PteVal::Swap { .. } => {
                let mut newpte = oldpte;
                if cp_flags.uffd_wp {
                    newpte = pte_mkuffd_wp(newpte);
                } else if cp_flags.uffd_wp_resolve {
                    newpte = pte_clear_uffd_wp(newpte);
                }
                if newpte != oldpte {
                    set_pte_at(k, v.vm_mm, at, this, newpte);
                    pages += 1;
                }
            }
        }
    }
    pte_unmap_unlock(k, first);
    pages
}

/// Change the entries of a range, table by table; says how many. PTE_MARKER_UFFD_WP: markers need tables, which are made first.
///
/// Kernel:   mm/mprotect.c:change_protection_range, change_p4d_range, change_pud_range, change_pmd_range @ v5.14
/// Fidelity: TRIMMED(huge entries, TLB flush)
/// Locks:    mmap_lock held
/// Errors:   ENOMEM no table for markers
async fn change_protection_range(
    k: &Kernel,
    vma: VmaId,
    mut addr: u64,
    end: u64,
    newprot: PageProt,
    cp_flags: CpFlags,
) -> KResult<u64> {
    let mm = k.vma(vma).vm_mm;
    let mut pages = 0;
    crate::BUG_ON!(k, addr >= end);
    if cp_flags.uffd_wp && userfaultfd_wp_use_markers(k, vma) {
        while addr != end {
            // change_prepare, change_pmd_prepare
            let Some(pmd) = mm_alloc_pmd(k, mm, addr).await else { return Err(ENOMEM) };
            if !pte_alloc(k, mm, pmd).await {
                return Err(ENOMEM);
            }
            let next = pmd_addr_end(addr, end);
            pages += change_pte_range(k, vma, pmd, addr, next, newprot, cp_flags).await;
            addr = next;
        }
        return Ok(pages);
    }
    while let Some((at, pmd)) = next_pte_table(k, mm, addr, end) {
        let next = pmd_addr_end(at, end);
        pages += change_pte_range(k, vma, pmd, at, next, newprot, cp_flags).await;
        addr = next;
    }
    Ok(pages)
}

/// Give the entries of a range another protection, or set or clear their userfaultfd write protection; says how many changed.
///
/// Kernel:   mm/mprotect.c:change_protection @ v5.14
/// Fidelity: TRIMMED(hugetlb)
/// Locks:    mmap_lock held (for write by mprotect, for read by UFFDIO_WRITEPROTECT)
/// Errors:   ENOMEM no table for markers
pub async fn change_protection(
    k: &Kernel,
    vma: VmaId,
    start: u64,
    end: u64,
    newprot: PageProt,
    cp_flags: CpFlags,
) -> KResult<u64> {
    let _f = k.enter("change_protection", || format!("{vma} {start:#x}-{end:#x} {newprot:?} {cp_flags:?}"));
    crate::BUG_ON!(k, cp_flags.uffd_wp && cp_flags.uffd_wp_resolve);
    change_protection_range(k, vma, start, end, newprot, cp_flags).await
}

/// Give `[start, end)` of one VMA other flags: charge, merge or split, change the entries.
///
/// Kernel:   mm/mprotect.c:mprotect_fixup @ v5.14
/// Fidelity: TRIMMED(PFN maps, address-space limits)
/// Locks:    mmap_lock held for write
/// Errors:   ENOMEM over the commit limit, or no memory to split (a first split stays)
pub async fn mprotect_fixup(
    k: &Kernel,
    mut vma: VmaId,
    pprev: &mut Option<VmaId>,
    start: u64,
    end: u64,
    mut newflags: VmFlags,
) -> KResult {
    let _f = k.enter("mprotect_fixup", || format!("{vma} {start:#x}-{end:#x} {newflags:?}"));
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let oldflags = v.vm_flags;
    let nrpages = ((end - start) >> PAGE_SHIFT) as i64;
    let mut charged = 0;

    if newflags == oldflags {
        *pprev = Some(vma);
        return Ok(());
    }

    // Private memory that becomes writable counts from now on, whether or not it is ever stored to.
    if newflags.contains(VM_WRITE) && !oldflags.intersects(VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE) {
        charged = nrpages;
        if vm_enough_memory(k, charged).is_err() {
            return Err(ENOMEM);
        }
        k.mm_mut(mm).total_charged += charged;
        newflags |= VM_ACCOUNT;
    } else if !newflags.contains(VM_WRITE)
        && oldflags.contains(VM_ACCOUNT)
        && vma_is_anonymous(k, vma)
        && v.anon_vma.is_none()
        && k.has(Delta::MPROTECT_UNACCOUNT)
    {
        newflags -= VM_ACCOUNT;
    }

    'success: {
        let error;
        'fail: {
            let pgoff = v.vm_pgoff + ((start - v.vm_start) >> PAGE_SHIFT);
            *pprev = vma_merge(k, mm, *pprev, start, end, newflags, v.anon_vma, v.vm_file, pgoff, v.ctx).await;
            if let Some(merged) = *pprev {
                vma = merged;
                crate::WARN_ON_ONCE!(k, !((k.vma(vma).vm_flags ^ newflags) - VM_IGNORE_MERGE).is_empty());
                newflags = with_sticky(k, vma, newflags);
                break 'success;
            }

            *pprev = Some(vma);

            if start != v.vm_start
                && let Err(e) = split_vma(k, mm, vma, start, true).await
            {
                error = e;
                break 'fail;
            }

            if end != k.vma(vma).vm_end
                && let Err(e) = split_vma(k, mm, vma, end, false).await
            {
                error = e;
                break 'fail;
            }
            break 'success;
        }
        // fail:
        vm_unacct_memory(k, charged);
        k.mm_mut(mm).total_charged -= charged;
        return Err(error);
    }

    // success: mmap_lock is held for write, so flags and protection change together for whoever faults.
    k.vma_mut(vma).vm_flags = newflags;
    // Asked with the old protection: where it differs from what the new flags give, the answer is no.
    let mut cp_flags = CpFlags::default();
    if k.has(Delta::MM_CP_TRY_CHANGE_WRITABLE) {
        cp_flags.try_change_writable = vma_wants_manual_pte_write_upgrade(k, vma);
    } else {
        cp_flags.dirty_acct = vma_wants_writenotify(k, vma, k.vma(vma).vm_page_prot);
    }
    vma_set_page_prot(k, vma);
    k.trace(|| Event::Vma { vma, what: format!("vm_flags {oldflags:?} -> {newflags:?}") });

    let newprot = k.vma(vma).vm_page_prot;
    let _ = change_protection(k, vma, start, end, newprot, cp_flags).await;

    if oldflags.contains(VM_ACCOUNT) && !newflags.contains(VM_ACCOUNT) {
        mm_unacct_memory(k, mm, nrpages);
    }

    // A locked private mapping that becomes writable gets its own copies now, so that no later store has to wait.
    if oldflags & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED && newflags.contains(VM_WRITE) {
        k.branch("locked private mapping became writable: populated");
        // What cannot be had now is left to faults.
        let _ = populate_vma_page_range(k, vma, start, end, None).await;
    }
    Ok(())
}

/// `calc_vm_prot_bits`.
fn calc_vm_prot_bits(prot: Prot) -> VmFlags {
    let mut flags = VmFlags::empty();
    flags.set(VM_READ, prot.contains(PROT_READ));
    flags.set(VM_WRITE, prot.contains(PROT_WRITE));
    flags.set(VM_EXEC, prot.contains(PROT_EXEC));
    flags
}

/// mprotect(2). What was done before an error stays done.
///
/// Kernel:   mm/mprotect.c:do_mprotect_pkey @ v5.14
/// Fidelity: TRIMMED(protection keys, PROT_GROWS*, READ_IMPLIES_EXEC, security hooks, a fatal signal while waiting for the lock)
/// Locks:    takes and drops mmap_lock for write
/// Errors:   EINVAL start is not page aligned; ENOMEM the range wraps, is not wholly mapped, over the commit limit, or no memory;
///           EACCES a right that the mapping may not have
pub async fn sys_mprotect(k: &Kernel, start: u64, len: u64, prot: Prot) -> KResult {
    let _f = k.enter("do_mprotect_pkey", || format!("{start:#x} len={len:#x} {prot:?}"));
    let Some(mm) = k.current_mm() else { return Err(ENOMEM) };
    if start & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let len = page_align(len);
    let end = start.wrapping_add(len);
    if end <= start {
        return Err(ENOMEM);
    }

    mmap_write_lock(k, mm).await;

    let mut error = Err(ENOMEM);
    'out: {
        let Some(mut vma) = find_vma(k, mm, start) else { break 'out };
        let mut prev = vma_prev(k, vma);
        let vm_start = k.vma(vma).vm_start;
        if vm_start > start {
            break 'out;
        }
        if start > vm_start {
            prev = Some(vma);
        }

        let mut nstart = start;
        loop {
            // Here vm_start <= nstart < vm_end.
            let v = k.vma(vma);
            let newflags = calc_vm_prot_bits(prot) | (v.vm_flags - (VM_READ | VM_WRITE | VM_EXEC));

            // Each MAY* bit stands four above the right it allows.
            let allowed = VmFlags::from_bits_truncate(newflags.bits() >> 4);
            if (newflags - allowed).intersects(VM_READ | VM_WRITE | VM_EXEC) {
                error = Err(EACCES);
                break 'out;
            }

            let tmp = v.vm_end.min(end);
            error = mprotect_fixup(k, vma, &mut prev, nstart, tmp, newflags).await;
            if error.is_err() {
                break 'out;
            }

            nstart = tmp;
            // A merge may have taken the next VMA in.
            let Some(p) = prev else { break 'out };
            let prev_end = k.vma(p).vm_end;
            if nstart < prev_end {
                nstart = prev_end;
            }
            if nstart >= end {
                break 'out;
            }

            match vma_next(k, p) {
                Some(next) if k.vma(next).vm_start == nstart => vma = next,
                _ => {
                    k.branch("gap in the range");
                    error = Err(ENOMEM);
                    break 'out;
                }
            }
        }
    }
    mmap_write_unlock(k, mm);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{MmId, MmStruct, PageId, PageTable, State, SwpEntry, Task, Vma};
    use crate::mm::pgtable::native_set_pte;
    use crate::mm::pgtable::{lookup, mm_alloc_pmd, pte_alloc, pte_flags, pte_offset_map};
    use crate::point::run_through as run;

    const RO: PageProt = PageProt { flags: _PAGE_ACCESSED };
    const RW: PageProt = PageProt { flags: _PAGE_ACCESSED.union(_PAGE_RW) };

    fn vma_of(ptes: &[(u64, PteVal)]) -> (Kernel, VmaId, MmId) {
        let k = Kernel::new(State::default());
        let task = k.sm().tasks.insert(Task::default());
        k.run.current.set(Some(task));
        let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm = k.sm().mms.insert(MmStruct { pgd: Some(pgd), ..MmStruct::default() });
        let vma = k.sm().vmas.insert(Vma { vm_start: 0, vm_end: 1 << 30, vm_mm: mm, ..Vma::default() });
        for &(addr, val) in ptes {
            let pmd = run(mm_alloc_pmd(&k, mm, addr)).unwrap();
            assert!(run(pte_alloc(&k, mm, pmd)));
            native_set_pte(&k, mm, addr, pte_offset_map(&k, pmd, addr).unwrap(), val);
        }
        (k, vma, mm)
    }

    fn present(flags: PteFlags) -> PteVal {
        PteVal::Present { page: PageId { pfn: 0, generation: 0 }, flags }
    }

    #[test]
    fn the_write_bit_comes_from_the_new_protection_and_the_rest_stays() {
        let dirty = _PAGE_ACCESSED | _PAGE_DIRTY | _PAGE_UFFD_WP;
        let (k, vma, mm) = vma_of(&[(0x20_0000, present(dirty | _PAGE_RW)), (0x20_1000, present(dirty | _PAGE_RW))]);
        assert_eq!(run(change_protection(&k, vma, 0, 0x20_1000, RO, CpFlags::default())), Ok(1));
        assert_eq!(pte_flags(lookup(&k, mm, 0x20_0000)), dirty);
        assert_eq!(pte_flags(lookup(&k, mm, 0x20_1000)), dirty | _PAGE_RW);
        assert_eq!(run(change_protection(&k, vma, 0, 1 << 30, RW, CpFlags::default())), Ok(2));
        assert_eq!(pte_flags(lookup(&k, mm, 0x20_0000)), dirty | _PAGE_RW);
        assert!(k.s().held.is_empty());
    }

    #[test]
    fn only_dirty_entries_become_writable_when_dirt_is_accounted() {
        let acct = CpFlags { dirty_acct: true, ..CpFlags::default() };
        let (k, vma, mm) = vma_of(&[(0x1000, present(_PAGE_DIRTY)), (0x2000, present(_PAGE_ACCESSED))]);
        assert_eq!(run(change_protection(&k, vma, 0, 0x10000, RO, acct)), Ok(2));
        assert!(pte_flags(lookup(&k, mm, 0x1000)).contains(_PAGE_RW));
        assert!(!pte_flags(lookup(&k, mm, 0x2000)).contains(_PAGE_RW));
    }

    #[test]
    fn soft_dirty_tracking_keeps_clean_entries_read_only() {
        let acct = CpFlags { dirty_acct: true, ..CpFlags::default() };
        for (tracked, vm_softdirty, bit, writable) in
            [(false, true, false, true), (true, false, false, true), (true, true, false, false), (true, true, true, true)]
        {
            let (k, vma, mm) = vma_of(&[]);
            k.sm().config.soft_dirty = tracked;
            k.vma_mut(vma).vm_flags.set(VM_SOFTDIRTY, vm_softdirty);
            let pmd = run(mm_alloc_pmd(&k, mm, 0)).unwrap();
            assert!(run(pte_alloc(&k, mm, pmd)));
            let mut flags = _PAGE_DIRTY;
            flags.set(_PAGE_SOFT_DIRTY, bit);
            native_set_pte(&k, mm, 0, pte_offset_map(&k, pmd, 0).unwrap(), present(flags));
            assert_eq!(run(change_protection(&k, vma, 0, 0x1000, RO, acct)), Ok(1));
            assert_eq!(pte_flags(lookup(&k, mm, 0)).contains(_PAGE_RW), writable, "{tracked} {vm_softdirty} {bit}");
        }
    }

    #[test]
    fn write_protection_reaches_swap_entries_and_resolving_leaves_the_write_bit_to_faults() {
        let swap = PteVal::Swap { entry: SwpEntry(1), flags: PteFlags::empty() };
        let (k, vma, mm) = vma_of(&[(0x1000, present(_PAGE_RW)), (0x2000, swap)]);
        let wp = CpFlags { uffd_wp: true, ..CpFlags::default() };
        assert_eq!(run(change_protection(&k, vma, 0, 0x10000, RW, wp)), Ok(2));
        assert_eq!(pte_flags(lookup(&k, mm, 0x1000)), _PAGE_UFFD_WP);
        assert_eq!(pte_flags(lookup(&k, mm, 0x2000)), _PAGE_UFFD_WP);
        // Protected already: a swap entry counts only when it changes.
        assert_eq!(run(change_protection(&k, vma, 0, 0x10000, RW, wp)), Ok(1));
        let resolve = CpFlags { uffd_wp_resolve: true, ..CpFlags::default() };
        assert_eq!(run(change_protection(&k, vma, 0, 0x10000, RO, resolve)), Ok(2));
        assert_eq!(pte_flags(lookup(&k, mm, 0x1000)), PteFlags::empty());
        assert_eq!(lookup(&k, mm, 0x2000), swap);
        // A protection change leaves swap entries alone.
        assert_eq!(run(change_protection(&k, vma, 0, 0x10000, RW, CpFlags::default())), Ok(1));
    }

    #[test]
    fn rights_stand_four_bits_below_what_allows_them() {
        for (right, may) in [(VM_READ, VM_MAYREAD), (VM_WRITE, VM_MAYWRITE), (VM_EXEC, VM_MAYEXEC)] {
            assert_eq!(right.bits(), may.bits() >> 4);
        }
    }
}
