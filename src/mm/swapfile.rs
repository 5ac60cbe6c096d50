// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swapfile.c`: swap slots and their counts, swapon and swapoff.
//!
//! A byte of the kernel's `swap_map` is `SwapSlot::count` and `SwapSlot::has_cache`; the slot is free when both are zero. What a
//! free slot holds cannot be seen by anybody, so it is forgotten.

use crate::VM_BUG_ON;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::Symptom;
use crate::flags::{PTE_MARKER_POISONED, SWP_SWAPIN_ERROR};
use crate::kernel::*;
use crate::mm::exit::{mmget_not_zero, mmput};
use crate::mm::filemap::wait_on_page_writeback;
use crate::mm::locking::{lock_page, mmap_read_lock, mmap_read_unlock, trylock_page, unlock_page};
use crate::mm::mlock::mlock_vma_folio;
use crate::mm::mmap::{vm_enough_memory, vm_unacct_memory};
use crate::mm::page::*;
use crate::mm::pgtable::*;
use crate::mm::rmap::do_page_add_anon_rmap;
use crate::mm::swap_state::{delete_from_swap_cache, find_get_swap_page, lookup_swap_cache, swapin_readahead};
use crate::mm::zap::{next_pte_table, pmd_addr_end};
use crate::point::spin;
use crate::shmem::cache::shmem_unuse;

/// `SWAP_MAP_MAX`: what a count of the swap map can hold. A higher one goes on in a continuation page.
pub const SWAP_MAP_MAX: u16 = 0x3e;
/// What a continuation page adds.
const SWAP_CONT_MAX: u16 = 0x7f + 1;

// ---- slots --------------------------------------------------------------------------------------------------------------

/// `__swap_info_get`, `_swap_info_get`: does the entry name a slot that is in use? If not, that is what the kernel log gets.
fn _swap_info_get(k: &Kernel, entry: SwpEntry, caller: &str) -> bool {
    let slot = k.s().swap.get(entry.0 as usize).copied();
    match slot {
        None => {
            k.report(Symptom::BadSwapCount, || format!("{caller}: Bad swap offset entry {}", entry.0));
            false
        }
        Some(slot) if slot.count == 0 && !slot.has_cache => {
            k.report(Symptom::BadSwapCount, || format!("{caller}: Unused swap offset entry {}", entry.0));
            false
        }
        Some(_) => true,
    }
}

fn slot(k: &Kernel, entry: SwpEntry) -> SwapSlot {
    k.s().swap.get(entry.0 as usize).copied().unwrap_or_default()
}

/// `swap_entry_free`, once nothing uses the slot.
fn free_slot_if_unused(k: &Kernel, entry: SwpEntry) {
    let mut s = k.sm();
    if let Some(slot) = s.swap.get_mut(entry.0 as usize)
        && slot.count == 0
        && !slot.has_cache
    {
        slot.disk = None;
    }
}

/// `get_nr_swap_pages`: free slots. A device that swapoff is emptying counts for nothing.
pub fn get_nr_swap_pages(k: &Kernel) -> usize {
    let s = k.s();
    if s.swap_on { s.swap.iter().filter(|slot| slot.count == 0 && !slot.has_cache).count() } else { 0 }
}

/// `mem_cgroup_swap_full`: more than half of the swap space is in use.
pub fn mem_cgroup_swap_full(k: &Kernel) -> bool {
    let total_swap_pages = if k.s().swap_on { k.s().swap.len() } else { 0 };
    get_nr_swap_pages(k) * 2 < total_swap_pages
}

/// `si->inuse_pages`.
fn inuse_pages(k: &Kernel) -> usize {
    k.s().swap.iter().filter(|slot| slot.count != 0 || slot.has_cache).count()
}

/// A free slot, marked as having a page in the swap cache and no users. None: swap is full, or off.
///
/// Kernel:   mm/swap_slots.c:get_swap_page @ v5.14
/// Fidelity: MODEL (the lowest free slot; no per-CPU slot caches, no clusters, no memcg limit)
/// Locks:    none
/// Errors:   None
pub fn get_swap_page(k: &Kernel) -> Option<SwpEntry> {
    let mut s = k.sm();
    if !s.swap_on {
        return None;
    }
    let free = s.swap.iter_mut().enumerate().find(|(_, slot)| slot.count == 0 && !slot.has_cache);
    free.map(|(offset, slot)| {
        *slot = SwapSlot { has_cache: true, ..SwapSlot::default() };
        SwpEntry(offset as u16)
    })
}

/// The slot has no page in the swap cache any more; free it if it has no users either.
///
/// Kernel:   mm/swapfile.c:put_swap_page @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    none
/// Errors:   none
pub fn put_swap_page(k: &Kernel, entry: SwpEntry) {
    if !_swap_info_get(k, entry, "put_swap_page") {
        return;
    }
    if !slot(k, entry).has_cache {
        k.report(Symptom::BadSwapCount, || format!("VM_BUG_ON(!has_cache): put_swap_page of slot {}", entry.0));
        return;
    }
    if let Some(slot) = k.sm().swap.get_mut(entry.0 as usize) {
        slot.has_cache = false;
    }
    free_slot_if_unused(k, entry);
}

/// Is the entry's device still there?
///
/// Kernel:   mm/swapfile.c:get_swap_device @ v5.14
/// Fidelity: MODEL (there is no reference to put: swapoff removes the device in one step, after the last slot was freed)
/// Locks:    none
/// Errors:   false
pub fn get_swap_device(k: &Kernel, entry: SwpEntry) -> bool {
    (entry.0 as usize) < k.s().swap.len()
}

/// What `__swap_duplicate` adds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// 1: a PTE.
    Pte,
    /// SWAP_MAP_SHMEM: a page-cache slot.
    Shmem,
    /// SWAP_HAS_CACHE.
    Cache,
}

/// Add a user to a slot.
///
/// Kernel:   mm/swapfile.c:__swap_duplicate @ v5.14
/// Fidelity: TRIMMED(continuation pages: the count is wide enough, but where one would have to be allocated, that may fail)
/// Locks:    none
/// Errors:   EINVAL no such slot, or one of a page cache; ENOENT the slot is free; EEXIST has a page in the swap cache; ENOMEM
///           a continuation page is needed
fn __swap_duplicate(k: &Kernel, entry: SwpEntry, usage: Usage) -> KResult {
    let count = slot(k, entry).count;
    let continues = count >= SWAP_MAP_MAX && count != SWAP_MAP_SHMEM && (count - SWAP_MAP_MAX).is_multiple_of(SWAP_CONT_MAX);
    if usage == Usage::Pte && continues && k.should_fail("add_swap_count_continuation") {
        return Err(ENOMEM);
    }
    let mut s = k.sm();
    let Some(slot) = s.swap.get_mut(entry.0 as usize) else { return Err(EINVAL) };
    if usage == Usage::Cache {
        if !slot.has_cache && slot.count != 0 {
            slot.has_cache = true;
        } else if slot.has_cache {
            return Err(EEXIST);
        } else {
            return Err(ENOENT);
        }
    } else if slot.count != 0 || slot.has_cache {
        match slot.count.checked_add(if usage == Usage::Shmem { SWAP_MAP_SHMEM } else { 1 }) {
            Some(count) => slot.count = count,
            // The marker is no count, and can stand only where there is none.
            None => return Err(EINVAL),
        }
    } else {
        return Err(ENOENT);
    }
    Ok(())
}

/// One more PTE names the slot.
///
/// Kernel:   mm/swapfile.c:swap_duplicate @ v5.14
/// Fidelity: TRIMMED(continuation pages, see __swap_duplicate)
/// Locks:    none; may not sleep
/// Errors:   ENOMEM no memory to count on; a bad entry goes unnoticed by the caller, as in the kernel, and is reported here
pub fn swap_duplicate(k: &Kernel, entry: SwpEntry) -> KResult {
    match __swap_duplicate(k, entry, Usage::Pte) {
        Err(ENOMEM) => Err(ENOMEM),
        Err(err) => {
            k.report(Symptom::BadSwapCount, || format!("swap_duplicate of slot {}: {err}", entry.0));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// A page-cache slot names the slot from now on.
///
/// Kernel:   mm/swapfile.c:swap_shmem_alloc @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; a slot that has users already is reported
pub fn swap_shmem_alloc(k: &Kernel, entry: SwpEntry) {
    if slot(k, entry).count != 0 {
        k.report(Symptom::BadSwapCount, || format!("swap_shmem_alloc of slot {}, which has users", entry.0));
        return;
    }
    if let Err(err) = __swap_duplicate(k, entry, Usage::Shmem) {
        k.report(Symptom::BadSwapCount, || format!("swap_shmem_alloc of slot {}: {err}", entry.0));
    }
}

/// `swapcache_prepare`: claim SWAP_HAS_CACHE of a slot that has users, to read it.
///
/// Kernel:   mm/swapfile.c:swapcache_prepare @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EEXIST somebody else has claimed it; ENOENT it has no users; EINVAL no such slot
pub(crate) fn swapcache_prepare(k: &Kernel, entry: SwpEntry) -> KResult {
    __swap_duplicate(k, entry, Usage::Cache)
}

/// Take one user off a slot. Says what is left: the count, and whether it has a page in the swap cache.
///
/// Kernel:   mm/swapfile.c:__swap_entry_free, __swap_entry_free_locked @ v5.14
/// Fidelity: TRIMMED(continuation pages)
/// Locks:    none
/// Errors:   none; a count below zero is reported, and stays zero
fn __swap_entry_free(k: &Kernel, entry: SwpEntry) -> (u16, bool) {
    let mut underflow = false;
    let left = {
        let mut s = k.sm();
        match s.swap.get_mut(entry.0 as usize) {
            Some(slot) => {
                if slot.count == SWAP_MAP_SHMEM {
                    // Only one user, and so no count.
                    slot.count = 0;
                } else if slot.count == 0 {
                    underflow = true;
                } else {
                    slot.count -= 1;
                }
                (slot.count, slot.has_cache)
            }
            None => (0, false),
        }
    };
    if underflow {
        k.report(Symptom::BadSwapCount, || format!("swap_free: slot {} has no users", entry.0));
    }
    free_slot_if_unused(k, entry);
    left
}

/// One user less names the slot.
///
/// Kernel:   mm/swapfile.c:swap_free @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; reports "Unused swap offset entry"
pub fn swap_free(k: &Kernel, entry: SwpEntry) {
    if _swap_info_get(k, entry, "swap_free") {
        __swap_entry_free(k, entry);
    }
}

/// `page_swapcount`: the users of the slot in whose cache the page is.
fn page_swapcount(k: &Kernel, page: PageId) -> u16 {
    k.page(page).private.map_or(0, |entry| slot(k, entry).count)
}

/// `__swap_count`: users of the slot; [`SWAP_MAP_SHMEM`] for a page-cache slot.
pub fn __swap_count(k: &Kernel, entry: SwpEntry) -> u16 {
    slot(k, entry).count
}

/// `page_swapped`: does anything but the swap cache still need the slot?
fn page_swapped(k: &Kernel, page: PageId) -> bool {
    page_swapcount(k, page) != 0
}

/// May a write fault use the page as it is, because nobody else can see it? Takes it out of the swap cache if so.
///
/// Kernel:   mm/swapfile.c:reuse_swap_page @ v5.14
/// Fidelity: TRIMMED(KSM, huge pages, devices that need stable pages during writeback)
/// Locks:    page lock held; ptl held
/// Errors:   none
pub fn reuse_swap_page(k: &Kernel, page: PageId) -> bool {
    VM_BUG_ON!(k, !PageLocked(k, page));
    let mut count = page_mapcount(k, page);
    if PageSwapCache(k, page) {
        count += page_swapcount(k, page) as i32;
    }
    if count == 1 && PageSwapCache(k, page) && !PageWriteback(k, page) {
        delete_from_swap_cache(k, page);
        SetPageDirty(k, page);
    }
    count <= 1
}

/// Take a page out of the swap cache if no PTE and no page-cache slot names its slot: what the device has is not needed any more.
///
/// Kernel:   mm/swapfile.c:try_to_free_swap @ v5.14
/// Fidelity: TRIMMED(suspend)
/// Locks:    page lock held
/// Errors:   none
pub fn try_to_free_swap(k: &Kernel, page: PageId) -> bool {
    VM_BUG_ON!(k, !PageLocked(k, page));
    if !PageSwapCache(k, page) {
        return false;
    }
    if PageWriteback(k, page) {
        return false;
    }
    if page_swapped(k, page) {
        return false;
    }
    delete_from_swap_cache(k, page);
    // Memory is the only place now that has the contents.
    SetPageDirty(k, page);
    true
}

/// Take a slot's page out of the swap cache, if nobody maps it or swap space is short.
///
/// Kernel:   mm/swapfile.c:__try_to_reclaim_swap @ v5.14
/// Fidelity: TRIMMED(flags: always TTRS_UNMAPPED | TTRS_FULL)
/// Locks:    tries the page lock (the caller may hold ptl)
/// Errors:   none
fn __try_to_reclaim_swap(k: &Kernel, entry: SwpEntry) {
    let Some(page) = find_get_swap_page(k, entry) else { return };
    if trylock_page(k, page) {
        if !page_mapped(k, page) || mem_cgroup_swap_full(k) {
            try_to_free_swap(k, page);
        }
        unlock_page(k, page);
    }
    put_page(k, page);
}

/// One user less names the slot; if that was the last, the page in the swap cache goes too. False: not a valid slot.
///
/// Kernel:   mm/swapfile.c:free_swap_and_cache @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    none needed; tries the page lock
/// Errors:   none; reports "Unused swap offset entry"
pub fn free_swap_and_cache(k: &Kernel, entry: SwpEntry) -> bool {
    let p = _swap_info_get(k, entry, "free_swap_and_cache");
    if p {
        let count = __swap_entry_free(k, entry);
        if count == (0, true) {
            __try_to_reclaim_swap(k, entry);
        }
    }
    p
}

// ---- swapoff ------------------------------------------------------------------------------------------------------------

/// Map the page in place of the swap entry. False: the entry is not there any more. UNUSE_PTE_KEEPS_BITS: with the entry's bits.
/// SWAPIN_ERROR: if the page could be read; else an entry that says that it could not.
///
/// Kernel:   mm/swapfile.c:unuse_pte @ v5.14
/// Fidelity: TRIMMED(KSM)
/// Locks:    mmap_lock read and the page lock held; takes and drops the PTE lock
/// Errors:   false
async fn unuse_pte(k: &Kernel, vma: VmaId, pmd: Pmd, addr: u64, entry: SwpEntry, page: PageId) -> bool {
    let v = k.vma(vma);
    let mut ret = true;

    let pte = pte_offset_map_lock(k, pmd, addr).await;
    'out: {
        // pte_same_as_swp: neither the soft-dirty nor the uffd-wp bit counts.
        let old = ptep_get(k, pte);
        if !matches!(old, PteVal::Swap { entry: e, .. } if e == entry) {
            k.branch("pte changed meanwhile");
            ret = false;
            break 'out;
        }
        if k.has(Delta::SWAPIN_ERROR) && !PageUptodate(k, page) {
            k.branch("the page could not be read");
            dec_mm_counter(k, v.vm_mm, MmCounter::MM_SWAPENTS);
            let error = if k.has(Delta::UFFDIO_POISON) { PTE_MARKER_POISONED } else { SWP_SWAPIN_ERROR };
            set_pte_at(k, v.vm_mm, addr, pte, make_pte_marker(error));
            swap_free(k, entry);
            ret = false;
            break 'out;
        }
        dec_mm_counter(k, v.vm_mm, MmCounter::MM_SWAPENTS);
        inc_mm_counter(k, v.vm_mm, MmCounter::MM_ANONPAGES);
        get_page(k, page);
        // Not dirty, not writable, and what the entry's soft-dirty and uffd-wp bits said is lost.
        let mut new_pte = pte_mkold(mk_pte(page, v.vm_page_prot));
        if k.has(Delta::UNUSE_PTE_KEEPS_BITS) {
            if pte_soft_dirty(old) {
                new_pte = pte_mksoft_dirty(new_pte);
            }
            if pte_uffd_wp(old) {
                new_pte = pte_wrprotect(pte_mkuffd_wp(new_pte));
            }
        }
        set_pte_at(k, v.vm_mm, addr, pte, new_pte);
        let new = k.has(Delta::SWAPIN_NEW_RMAP) && !PageAnon(k, page);
        do_page_add_anon_rmap(k, page, vma, addr, pte_swp_exclusive(old));
        if !new {
            mlock_vma_folio(k, page, vma);
        }
        swap_free(k, entry);
    }
    pte_unmap_unlock(k, pte);
    ret
}

/// Bring back what the PTEs of one table name.
///
/// Kernel:   mm/swapfile.c:unuse_pte_range @ v5.14
/// Fidelity: TRIMMED(frontswap)
/// Locks:    mmap_lock read held; takes and drops page locks and PTE locks
/// Errors:   ENOMEM
async fn unuse_pte_range(k: &Kernel, vma: VmaId, pmd: Pmd, start: u64, end: u64) -> KResult {
    let mut addr = start;
    while addr < end {
        let Some(pte) = pte_offset_map(k, pmd, addr) else { break };
        let PteVal::Swap { entry, .. } = ptep_get_lockless(k, pte).await else {
            // To the next entry that is not none.
            let next = k.table(pte.table).entries.next_from(pte.idx + 1).map(|(idx, _)| idx);
            match next {
                Some(idx) => addr += (idx - pte.idx) as u64 * PAGE_SIZE,
                None => break,
            }
            continue;
        };

        let mut page = lookup_swap_cache(k, entry);
        if page.is_none() {
            page = swapin_readahead(k, entry).await;
        }
        match page {
            None => {
                let slot = slot(k, entry);
                if slot.count != 0 || slot.has_cache {
                    return Err(ENOMEM);
                }
                k.branch("the slot was freed meanwhile");
            }
            Some(page) => {
                lock_page(k, page).await;
                wait_on_page_writeback(k, page).await;
                unuse_pte(k, vma, pmd, addr, entry, page).await;
                try_to_free_swap(k, page);
                unlock_page(k, page);
                put_page(k, page);
            }
        }
        addr += PAGE_SIZE;
    }
    Ok(())
}

/// Bring back what the VMA has in swap.
///
/// Kernel:   mm/swapfile.c:unuse_vma, unuse_p4d_range, unuse_pud_range, unuse_pmd_range @ v5.14
/// Fidelity: MIRROR (tables that do not exist are stepped over at once)
/// Locks:    mmap_lock read held
/// Errors:   ENOMEM
async fn unuse_vma(k: &Kernel, vma: VmaId) -> KResult {
    let v = k.vma(vma);
    let mut addr = v.vm_start;
    while let Some((at, pmd)) = next_pte_table(k, v.vm_mm, addr, v.vm_end) {
        let next = pmd_addr_end(at, v.vm_end);
        if let Err(ret) = unuse_pte_range(k, vma, pmd, at, next).await {
            return Err(ret);
        }
        addr = next;
    }
    Ok(())
}

/// Bring back what the address space has in swap. Only VMAs with an anon_vma can have anything there.
///
/// Kernel:   mm/swapfile.c:unuse_mm @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops mmap_lock for reading
/// Errors:   ENOMEM
async fn unuse_mm(k: &Kernel, mm: MmId) -> KResult {
    let _f = k.enter("unuse_mm", || format!("{mm}"));
    let mut ret = Ok(());
    mmap_read_lock(k, mm).await;
    let vmas = k.mm(mm).mmap.clone();
    for vma in vmas {
        if k.vma(vma).anon_vma.is_some() {
            ret = unuse_vma(k, vma).await;
            if ret.is_err() {
                break;
            }
        }
    }
    mmap_read_unlock(k, mm);
    ret
}

/// `find_next_to_unuse`: the first slot from `start` on that is in use.
fn find_next_to_unuse(k: &Kernel, start: usize) -> Option<usize> {
    k.s().swap.iter().enumerate().skip(start).find(|(_, slot)| slot.count != 0 || slot.has_cache).map(|(i, _)| i)
}

/// Empty the device: shmem files first, then every address space, then what is only in the swap cache; over and over until it is.
///
/// Kernel:   mm/swapfile.c:try_to_unuse @ v5.14
/// Fidelity: TRIMMED(frontswap; the mmlist is every mm that has swap entries)
/// Locks:    takes and drops shmem_swaplist_mutex, mmap_lock, page locks, PTE locks
/// Errors:   ENOMEM; EINTR a signal is pending
pub(crate) async fn try_to_unuse(k: &Kernel) -> KResult {
    let _f = k.enter("try_to_unuse", String::new);
    if inuse_pages(k) == 0 {
        return Ok(());
    }
    let signal_pending = || k.task(k.current()).signal_pending;

    loop {
        if let Err(retval) = shmem_unuse(k).await {
            return Err(retval);
        }

        let mut prev_mm: Option<MmId> = None;
        let mmlist: Vec<MmId> = k.s().mms.iter().map(|(mm, _)| mm).collect();
        for mm in mmlist {
            if inuse_pages(k) == 0 || signal_pending() {
                break;
            }
            // An mm that is gone meanwhile is not on the list any more.
            let swapents = k.s().mms.get(mm).map_or(0, |m| m.rss_stat[MmCounter::MM_SWAPENTS as usize]);
            if swapents == 0 || !mmget_not_zero(k, mm) {
                continue;
            }
            if let Some(prev_mm) = prev_mm.replace(mm) {
                mmput(k, prev_mm).await;
            }
            if let Err(retval) = unuse_mm(k, mm).await {
                mmput(k, mm).await;
                return Err(retval);
            }
        }
        if let Some(prev_mm) = prev_mm {
            mmput(k, prev_mm).await;
        }

        let mut i = 0;
        while inuse_pages(k) != 0 && !signal_pending() {
            let Some(offset) = find_next_to_unuse(k, i) else { break };
            i = offset + 1;
            let Some(page) = find_get_swap_page(k, SwpEntry(offset as u16)) else { continue };
            // Whoever swapped it out while the scan went by has put it into the swap cache: wait for him.
            lock_page(k, page).await;
            wait_on_page_writeback(k, page).await;
            try_to_free_swap(k, page);
            unlock_page(k, page);
            put_page(k, page);
        }

        if inuse_pages(k) == 0 {
            return Ok(());
        }
        if signal_pending() {
            return Err(EINTR);
        }
        k.branch("slots are still in use: start over");
        if k.endless("try_to_unuse") {
            return Err(EINTR);
        }
        // An address space on its way out still names them, or somebody is about to swap out more.
        spin(k, "try_to_unuse").await;
    }
}

/// Empty the swap device and take it away.
///
/// Kernel:   mm/swapfile.c:sys_swapoff @ v5.14
/// Fidelity: TRIMMED(CAP_SYS_ADMIN, priorities, the device itself)
/// Locks:    see try_to_unuse
/// Errors:   EINVAL swap is not on; ENOMEM memory cannot hold what is in swap; EINTR
pub async fn swapoff(k: &Kernel) -> KResult {
    let _f = k.enter("sys_swapoff", String::new);
    // SWP_WRITEOK
    if !k.s().swap_on {
        return Err(EINVAL);
    }
    let pages = k.s().swap.len() as i64;
    if vm_enough_memory(k, pages).is_err() {
        return Err(ENOMEM);
    }
    vm_unacct_memory(k, pages);
    k.sm().swap_on = false;

    let err = try_to_unuse(k).await;
    if err.is_err() {
        // reinsert_swap_info
        k.sm().swap_on = true;
        return err;
    }

    k.sm().swap.clear();
    Ok(())
}

/// Start swapping to a device of so many slots.
///
/// Kernel:   mm/swapfile.c:sys_swapon @ v5.14
/// Fidelity: MODEL (one device, no header)
/// Locks:    none
/// Errors:   EBUSY it is in use already; EINVAL it is empty
pub fn swapon(k: &Kernel, slots: u16) -> KResult {
    let _f = k.enter("sys_swapon", || format!("{slots} slots"));
    // Also while swapoff is emptying it.
    if k.s().swap_on || !k.s().swap.is_empty() {
        return Err(EBUSY);
    }
    if slots == 0 {
        return Err(EINVAL);
    }
    let mut s = k.sm();
    s.swap = vec![SwapSlot::default(); slots as usize];
    s.swap_on = true;
    Ok(())
}
