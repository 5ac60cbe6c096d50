// SPDX-License-Identifier: GPL-2.0-only
//! UFFDIO_MOVE (v6.8): pages of private anonymous memory go from one address to another of the same address space, without a copy.
//!
//! The releases that have it are modelled as their stable series are: v6.12's first form marked every moved entry dirty and left a
//! page in the swap cache where it was; both were mended there.

use crate::VM_BUG_ON;
use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::exit::{mmget_not_zero, mmput};
use crate::mm::locking::{LockId, LockMode, acquire, lock_page, mmap_read_lock, mmap_read_unlock, ptl_lock, ptl_unlock};
use crate::mm::locking::{release, try_acquire, trylock_page, unlock_page};
use crate::mm::memory::vma_is_anonymous;
use crate::mm::mmap::find_vma;
use crate::mm::page::{PageAnon, PageAnonExclusive, PageSwapCache, get_page, put_page};
use crate::mm::pgtable::{
    Pmd, PteRef, mk_pte, mm_alloc_pmd, mm_find_pmd, pmd_none, pte_alloc, pte_dirty, pte_mkdirty, pte_mksoft_dirty, pte_mkwrite,
    pte_none, pte_offset_map, pte_swp_exclusive, ptep_get, ptep_get_and_clear, set_pte_at, vm_normal_page, zero_pte,
};
use crate::mm::rmap::{anon_vma_prepare, linear_page_index, page_move_anon_rmap};
use crate::mm::swap_state::lookup_swap_cache;
use crate::mm::swapfile::get_swap_device;
use crate::point::{Touch, point, spin};
use crate::syscall::{Answer, Out};
use crate::uffd::handle::wake_userfault;
use crate::uffd::ioctl::{again, in_wait_api, mmap_changing};
use crate::uffd::register::validate_range;

/// `UFFDIO_MOVE_MODE_DONTWAKE`.
pub const UFFDIO_MOVE_MODE_DONTWAKE: u64 = 1;
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`.
pub const UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES: u64 = 1 << 1;

/// UFFDIO_MOVE: resolve faults with pages that the process has elsewhere. A kernel without it knows no such number.
///
/// Kernel:   fs/userfaultfd.c:userfaultfd_move @ v6.12
/// Fidelity: TRIMMED(the argument always can be copied in and out)
/// Locks:    takes and drops mmap_lock for reading, then fault_pending_wqh.lock
/// Errors:   EINVAL before UFFDIO_API, unknown to the kernel, another process's memory, bad range or mode; EAGAIN an event is pending,
///           or part was done; ESRCH the mm is gone; the rest from move_pages
pub async fn userfaultfd_move(k: &Kernel, ctx: CtxId, dst: u64, src: u64, len: u64, mode: u64, out: &Answer) -> KResult {
    let _f = k.enter("userfaultfd_move", || format!("dst={dst:#x} src={src:#x} len={len:#x} mode={mode:#x}"));
    if in_wait_api(k, ctx) {
        return Err(EINVAL);
    }
    if !k.has(Delta::UFFD_FEATURE_MOVE) {
        k.branch("no such ioctl: -EINVAL");
        return Err(EINVAL);
    }
    if mmap_changing(k, ctx).await {
        return again(k, out);
    }
    let mm = k.ctx(ctx).mm.unwrap_or(MmId::DANGLING);
    if Some(mm) != k.current_mm() {
        k.branch("the memory of another process: -EINVAL");
        return Err(EINVAL);
    }
    if let Err(e) = validate_range(k, dst, len) {
        return Err(e);
    }
    if let Err(e) = validate_range(k, src, len) {
        return Err(e);
    }
    if mode & !(UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES | UFFDIO_MOVE_MODE_DONTWAKE) != 0 {
        return Err(EINVAL);
    }
    if !mmget_not_zero(k, mm) {
        return Err(ESRCH);
    }
    let ret = move_pages(k, ctx, mm, dst, src, len, mode).await;
    mmput(k, mm).await;

    let done = match ret {
        Ok(done) => done,
        Err(e) => {
            out.put_user(Out::Done(-e.num()));
            return Err(e);
        }
    };
    out.put_user(Out::Done(done as i64));
    // A length of 0 would wake everybody.
    VM_BUG_ON!(k, done == 0);
    if mode & UFFDIO_MOVE_MODE_DONTWAKE == 0 {
        wake_userfault(k, ctx, dst, done).await;
    }
    if done == len {
        Ok(())
    } else {
        k.branch("part of the range was done: -EAGAIN");
        Err(EAGAIN)
    }
}

/// The VMA around an address.
fn vma_lookup(k: &Kernel, mm: MmId, addr: u64) -> Option<VmaId> {
    find_vma(k, mm, addr).filter(|&vma| k.vma(vma).vm_start <= addr)
}

/// Both VMAs; that of the destination with an anon_vma, whatever comes of the call.
///
/// Kernel:   mm/userfaultfd.c:uffd_move_lock, find_vmas_mm_locked @ v6.12
/// Fidelity: TRIMMED(the locks of single VMAs: mmap_lock stands for them)
/// Locks:    mmap_lock read held
/// Errors:   ENOENT nothing is mapped at one of the starts; ENOMEM no anon_vma
async fn find_vmas_mm_locked(k: &Kernel, mm: MmId, dst_start: u64, src_start: u64) -> KResult<(VmaId, VmaId)> {
    let Some(dst_vma) = vma_lookup(k, mm, dst_start) else { return Err(ENOENT) };
    if !k.vma(dst_vma).vm_flags.contains(VM_SHARED) && anon_vma_prepare(k, dst_vma).await.is_err() {
        return Err(ENOMEM);
    }
    let Some(src_vma) = vma_lookup(k, mm, src_start) else { return Err(ENOENT) };
    Ok((dst_vma, src_vma))
}

/// May pages go from the one VMA to the other?
///
/// Kernel:   mm/userfaultfd.c:validate_move_areas @ v6.12
/// Fidelity: TRIMMED(kinds of memory that there are none of)
/// Locks:    mmap_lock held
/// Errors:   EINVAL
fn validate_move_areas(k: &Kernel, ctx: CtxId, src_vma: VmaId, dst_vma: VmaId) -> KResult {
    let (src, dst) = (k.vma(src_vma), k.vma(dst_vma));
    let access = VM_READ | VM_WRITE | VM_EXEC;
    if src.vm_flags & access != dst.vm_flags & access || src.vm_page_prot != dst.vm_page_prot {
        k.branch("not the same protection: -EINVAL");
        return Err(EINVAL);
    }
    if src.vm_flags & VM_LOCKED != dst.vm_flags & VM_LOCKED {
        k.branch("one of them is locked: -EINVAL");
        return Err(EINVAL);
    }
    if !src.vm_flags.contains(VM_WRITE) {
        k.branch("not writable: -EINVAL");
        return Err(EINVAL);
    }
    if dst.ctx != Some(ctx) {
        k.branch("the destination is not registered with this userfaultfd: -EINVAL");
        return Err(EINVAL);
    }
    if !vma_is_anonymous(k, src_vma) || !vma_is_anonymous(k, dst_vma) {
        k.branch("not anonymous memory: -EINVAL");
        return Err(EINVAL);
    }
    Ok(())
}

/// Move a range page by page until an error; what was done counts for more than the error.
///
/// Kernel:   mm/userfaultfd.c:move_pages @ v6.12
/// Fidelity: TRIMMED(huge pages; map_changing_lock: mmap_lock stands for it)
/// Locks:    takes and drops mmap_lock for reading
/// Errors:   only if nothing was done: ENOENT nothing is mapped at a start, or the source is a hole; EAGAIN mmap_changing; EINVAL
///           these VMAs cannot, or do not hold the range; ENOMEM page tables or anon_vma; EINTR a fatal signal; the rest from
///           move_pages_pte
async fn move_pages(k: &Kernel, ctx: CtxId, mm: MmId, dst_start: u64, src_start: u64, len: u64, mode: u64) -> KResult<u64> {
    let _f = k.enter("move_pages", || format!("dst_start={dst_start:#x} src_start={src_start:#x} len={len:#x}"));
    let holes = mode & UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES != 0;
    let mut err: KResult;
    let mut moved = 0;

    mmap_read_lock(k, mm).await;
    'out_unlock: {
        let (dst_vma, src_vma) = match find_vmas_mm_locked(k, mm, dst_start, src_start).await {
            Ok(vmas) => vmas,
            Err(e) => {
                k.branch("nothing is mapped at one of the starts");
                err = Err(e);
                break 'out_unlock;
            }
        };

        // Once more: an event may have come since.
        point(k, Touch::ReadCtx(ctx)).await;
        err = Err(EAGAIN);
        if k.ctx(ctx).mmap_changing != 0 {
            k.branch("mmap_changing: -EAGAIN");
            break 'out_unlock;
        }
        err = Err(EINVAL);
        let (src, dst) = (k.vma(src_vma), k.vma(dst_vma));
        if src.vm_flags.contains(VM_SHARED) || src_start + len > src.vm_end {
            break 'out_unlock;
        }
        if dst.vm_flags.contains(VM_SHARED) || dst_start + len > dst.vm_end {
            break 'out_unlock;
        }
        err = validate_move_areas(k, ctx, src_vma, dst_vma);
        if err.is_err() {
            break 'out_unlock;
        }

        while moved < len {
            let (src_addr, dst_addr) = (src_start + moved, dst_start + moved);
            let src_pmd = match mm_find_pmd(k, mm, src_addr) {
                Some(pmd) => pmd,
                None => {
                    if !holes {
                        k.branch("no page table at the source: -ENOENT");
                        err = Err(ENOENT);
                        break;
                    }
                    let Some(pmd) = mm_alloc_pmd(k, mm, src_addr).await else {
                        err = Err(ENOMEM);
                        break;
                    };
                    pmd
                }
            };
            let Some(dst_pmd) = mm_alloc_pmd(k, mm, dst_addr).await else {
                err = Err(ENOMEM);
                break;
            };
            if pmd_none(k, src_pmd) {
                if !holes {
                    k.branch("no page table at the source: -ENOENT");
                    err = Err(ENOENT);
                    break;
                }
                if !pte_alloc(k, mm, src_pmd).await {
                    err = Err(ENOMEM);
                    break;
                }
            }
            if !pte_alloc(k, mm, dst_pmd).await {
                err = Err(ENOMEM);
                break;
            }

            err = move_pages_pte(k, mm, dst_pmd, src_pmd, dst_vma, dst_addr, src_addr, holes).await;

            if k.task(k.current()).fatal_signal_pending {
                k.branch("a fatal signal is pending: -EINTR");
                if err.is_ok() || err == Err(EAGAIN) {
                    err = Err(EINTR);
                }
                break;
            }
            if err == Err(EAGAIN) {
                k.branch("something changed meanwhile: this page again");
                if k.endless("move_pages") {
                    err = Err(EINTR);
                    break;
                }
                spin(k, "move_pages").await;
                continue;
            }
            if err.is_err() {
                break;
            }
            moved += PAGE_SIZE;
        }
    }
    mmap_read_unlock(k, mm);
    VM_BUG_ON!(k, moved == 0 && err.is_ok());
    if moved != 0 {
        return Ok(moved);
    }
    err.map(|()| 0)
}

/// Both PTE locks, in the order of the tables; one if they are the same.
///
/// Kernel:   mm/userfaultfd.c:double_pt_lock @ v6.12
/// Fidelity: MIRROR
/// Locks:    takes both
/// Errors:   none
async fn double_pt_lock(k: &Kernel, ptl1: TableId, ptl2: TableId) {
    let (ptl1, ptl2) = if ptl1 > ptl2 { (ptl2, ptl1) } else { (ptl1, ptl2) };
    ptl_lock(k, ptl1).await;
    if ptl1 != ptl2 {
        ptl_lock(k, ptl2).await;
    }
}

/// Kernel:   mm/userfaultfd.c:double_pt_unlock @ v6.12
/// Fidelity: MIRROR
/// Locks:    drops both
/// Errors:   none
fn double_pt_unlock(k: &Kernel, ptl1: TableId, ptl2: TableId) {
    ptl_unlock(k, ptl1);
    if ptl1 != ptl2 {
        ptl_unlock(k, ptl2);
    }
}

/// One entry at both ends of a move: where it is, and what it was when it was looked at.
#[derive(Clone, Copy)]
struct End {
    addr: u64,
    pte: PteRef,
    orig: PteVal,
}

/// Are both entries what they were?
///
/// Kernel:   mm/userfaultfd.c:is_pte_pages_stable @ v6.18
/// Fidelity: TRIMMED(page tables that are taken away under mmap_lock)
/// Locks:    both PTE locks held
/// Errors:   none
fn is_pte_pages_stable(k: &Kernel, dst: End, src: End) -> bool {
    ptep_get(k, src.pte) == src.orig && ptep_get(k, dst.pte) == dst.orig
}

/// Move a page that is mapped.
///
/// Kernel:   mm/userfaultfd.c:move_present_pte @ v6.12
/// Fidelity: TRIMMED(large folios, pinned pages, TLB; v6.18 goes on with the pages behind it while their locks are free)
/// Locks:    the page lock and the anon_vma lock held; takes and drops both PTE locks
/// Errors:   EAGAIN an entry changed; EBUSY somebody else may have the page too
async fn move_present_pte(k: &Kernel, mm: MmId, dst_vma: VmaId, dst: End, src: End, src_folio: PageId) -> KResult {
    double_pt_lock(k, dst.pte.table, src.pte.table).await;
    let mut err = Ok(());
    'out: {
        if !is_pte_pages_stable(k, dst, src) {
            err = Err(EAGAIN);
            break 'out;
        }
        if !PageAnonExclusive(k, src_folio) {
            err = Err(EBUSY);
            break 'out;
        }
        let orig_src_pte = ptep_get_and_clear(k, mm, src.addr, src.pte);
        page_move_anon_rmap(k, src_folio, dst_vma);
        let index = linear_page_index(k, dst_vma, dst.addr);
        k.page_mut(src_folio).index = index;

        // Write protection stays behind; the soft-dirty bit says that something came.
        let mut orig_dst_pte = pte_mksoft_dirty(mk_pte(src_folio, k.vma(dst_vma).vm_page_prot));
        if pte_dirty(orig_src_pte) {
            orig_dst_pte = pte_mkdirty(orig_dst_pte);
        }
        set_pte_at(k, mm, dst.addr, dst.pte, pte_mkwrite(orig_dst_pte));
    }
    double_pt_unlock(k, dst.pte.table, src.pte.table);
    err
}

/// Move a swap entry, with its bits; a page that is in the swap cache still goes along.
///
/// Kernel:   mm/userfaultfd.c:move_swap_pte @ v6.18
/// Fidelity: MIRROR
/// Locks:    the page lock held, if there is a page; takes and drops both PTE locks
/// Errors:   EAGAIN an entry or the swap cache changed
async fn move_swap_pte(
    k: &Kernel,
    mm: MmId,
    dst_vma: VmaId,
    dst: End,
    src: End,
    src_folio: Option<PageId>,
    entry: SwpEntry,
) -> KResult {
    if let Some(folio) = src_folio
        && (!PageSwapCache(k, folio) || k.page(folio).private != Some(entry))
    {
        return Err(EAGAIN);
    }
    double_pt_lock(k, dst.pte.table, src.pte.table).await;
    if !is_pte_pages_stable(k, dst, src) {
        double_pt_unlock(k, dst.pte.table, src.pte.table);
        return Err(EAGAIN);
    }
    match src_folio {
        Some(folio) => {
            page_move_anon_rmap(k, folio, dst_vma);
            let index = linear_page_index(k, dst_vma, dst.addr);
            k.page_mut(folio).index = index;
        }
        None => {
            // It may have come into the swap cache before the entry was locked.
            if let Some(page) = lookup_swap_cache(k, entry) {
                double_pt_unlock(k, dst.pte.table, src.pte.table);
                put_page(k, page);
                return Err(EAGAIN);
            }
        }
    }
    let orig_src_pte = ptep_get_and_clear(k, mm, src.addr, src.pte);
    set_pte_at(k, mm, dst.addr, dst.pte, pte_mksoft_dirty(orig_src_pte));
    double_pt_unlock(k, dst.pte.table, src.pte.table);
    Ok(())
}

/// The shared zero page does not move: it is taken away here and mapped there.
///
/// Kernel:   mm/userfaultfd.c:move_zeropage_pte @ v6.12
/// Fidelity: TRIMMED(TLB)
/// Locks:    takes and drops both PTE locks
/// Errors:   EAGAIN an entry changed
async fn move_zeropage_pte(k: &Kernel, mm: MmId, dst_vma: VmaId, dst: End, src: End) -> KResult {
    double_pt_lock(k, dst.pte.table, src.pte.table).await;
    if !is_pte_pages_stable(k, dst, src) {
        double_pt_unlock(k, dst.pte.table, src.pte.table);
        return Err(EAGAIN);
    }
    let zero_pte = zero_pte(k.vma(dst_vma).vm_page_prot);
    ptep_get_and_clear(k, mm, src.addr, src.pte);
    set_pte_at(k, mm, dst.addr, dst.pte, zero_pte);
    double_pt_unlock(k, dst.pte.table, src.pte.table);
    Ok(())
}

/// Move one page, wherever it is.
///
/// Kernel:   mm/userfaultfd.c:move_pages_pte @ v6.12
/// Fidelity: TRIMMED(huge pages and large folios, migration entries, mmu notifiers; the anon_vma's reference: its VMA cannot go)
/// Locks:    mmap_lock read held; takes and drops the page lock, the anon_vma lock and PTE locks
/// Errors:   EEXIST there is something at the destination; ENOENT there is nothing at the source; EBUSY somebody else may have the
///           page too; EFAULT a marker; EAGAIN something changed: try again
async fn move_pages_pte(
    k: &Kernel,
    mm: MmId,
    dst_pmd: Pmd,
    src_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    holes: bool,
) -> KResult {
    let _f = k.enter("move_pages_pte", || format!("{src_addr:#x} -> {dst_addr:#x}"));
    // The page at the source, and the entry that was there when it was taken hold of.
    let mut src_folio: Option<(PageId, PteVal)> = None;
    let mut src_anon_vma: Option<LockId> = None;

    let ret = 'retry: loop {
        let (Some(dst_pte), Some(src_pte)) = (pte_offset_map(k, dst_pmd, dst_addr), pte_offset_map(k, src_pmd, src_addr)) else {
            break Err(EAGAIN);
        };

        ptl_lock(k, dst_pte.table).await;
        let dst = End { addr: dst_addr, pte: dst_pte, orig: ptep_get(k, dst_pte) };
        ptl_unlock(k, dst_pte.table);
        if !pte_none(dst.orig) {
            k.branch("the destination is not empty: -EEXIST");
            break Err(EEXIST);
        }

        ptl_lock(k, src_pte.table).await;
        let src = End { addr: src_addr, pte: src_pte, orig: ptep_get(k, src_pte) };
        ptl_unlock(k, src_pte.table);

        // If the entry changed after the page was locked, start over.
        if src_folio.is_some_and(|(_, then)| then != src.orig) && !pte_none(src.orig) {
            break Err(EAGAIN);
        }

        match src.orig {
            PteVal::None => {
                if holes {
                    k.branch("nothing to move");
                    break Ok(());
                }
                k.branch("a hole at the source: -ENOENT");
                break Err(ENOENT);
            }
            PteVal::Present { .. } => {
                let Some(page) = vm_normal_page(src.orig) else {
                    break move_zeropage_pte(k, mm, dst_vma, dst, src).await;
                };
                if src_folio.is_none() {
                    // Taken hold of under the lock, so that it is not freed meanwhile.
                    ptl_lock(k, src_pte.table).await;
                    if ptep_get(k, src_pte) != src.orig {
                        ptl_unlock(k, src_pte.table);
                        break Err(EAGAIN);
                    }
                    if !PageAnonExclusive(k, page) {
                        ptl_unlock(k, src_pte.table);
                        k.branch("the page is not this process's alone: -EBUSY");
                        break Err(EBUSY);
                    }
                    let locked = trylock_page(k, page);
                    get_page(k, page);
                    src_folio = Some((page, src.orig));
                    ptl_unlock(k, src_pte.table);
                    if !locked {
                        lock_page(k, page).await;
                        continue 'retry;
                    }
                    if WARN_ON_ONCE!(k, !PageAnon(k, page)) {
                        break Err(EBUSY);
                    }
                }
                if src_anon_vma.is_none() {
                    // folio_get_anon_vma: reclaim walks the page's reverse map, and must not meet it half moved.
                    let PageMapping::Anon(anon_vma) = k.page(page).mapping else { break Err(EAGAIN) };
                    let root = LockId::AnonVma(k.anon_vma(anon_vma).root.unwrap_or(anon_vma));
                    src_anon_vma = Some(root);
                    if !try_acquire(k, root, LockMode::Write) {
                        acquire(k, root, LockMode::Write).await;
                        continue 'retry;
                    }
                }
                break move_present_pte(k, mm, dst_vma, dst, src, page).await;
            }
            PteVal::Swap { entry, .. } => {
                if !pte_swp_exclusive(src.orig) {
                    k.branch("the slot is not this process's alone: -EBUSY");
                    break Err(EBUSY);
                }
                if !get_swap_device(k, entry) {
                    break Err(EAGAIN);
                }
                point(k, Touch::SwapIo(entry)).await;
                if src_folio.is_none()
                    && let Some(folio) = lookup_swap_cache(k, entry)
                {
                    src_folio = Some((folio, src.orig));
                    if !trylock_page(k, folio) {
                        lock_page(k, folio).await;
                        continue 'retry;
                    }
                }
                break move_swap_pte(k, mm, dst_vma, dst, src, src_folio.map(|(folio, _)| folio), entry).await;
            }
            PteVal::Marker(_) => {
                k.branch("a marker at the source: -EFAULT");
                break Err(EFAULT);
            }
        }
    };

    if let Some(root) = src_anon_vma {
        release(k, root, LockMode::Write);
    }
    if let Some((folio, _)) = src_folio {
        unlock_page(k, folio);
        put_page(k, folio);
    }
    ret
}
