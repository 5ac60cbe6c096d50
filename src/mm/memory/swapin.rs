// SPDX-License-Identifier: GPL-2.0-only
//! An entry that is not present: it names a swap slot, where an anonymous page was swapped out to, or it is a marker.

use super::{VmFaultCtx, cow::do_wp_page, do_pte_missing, pte_needs_soft_dirty_wp, vma_is_anonymous};
use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::flags::*;
use crate::kernel::*;
use crate::ladder;
use crate::mm::filemap::lock_page_or_retry;
use crate::mm::locking::{ptl_lock, ptl_unlock, unlock_page};
use crate::mm::mlock::mlock_vma_folio;
use crate::mm::page::*;
use crate::mm::pgtable::*;
use crate::mm::rmap::do_page_add_anon_rmap;
use crate::mm::swap_state::{lookup_swap_cache, swapin_readahead};
use crate::mm::swapfile::{get_swap_device, mem_cgroup_swap_full, reuse_swap_page, swap_free, try_to_free_swap};
use crate::point::{Touch, point};
use crate::uffd::vma::{userfaultfd_pte_wp, userfaultfd_wp};

/// Is the entry still what was read without the lock?
///
/// Kernel:   mm/memory.c:pte_unmap_same @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops the PTE lock
/// Errors:   none
async fn pte_unmap_same(k: &Kernel, pte: PteRef, orig_pte: PteVal) -> bool {
    ptl_lock(k, pte.table).await;
    let same = ptep_get(k, pte) == orig_pte;
    ptl_unlock(k, pte.table);
    same
}

/// Nobody asks about this marker any more: take it away.
///
/// Kernel:   mm/memory.c:pte_marker_clear @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held; takes and drops the PTE lock
/// Errors:   none: the access is tried again
async fn pte_marker_clear(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("pte_marker_clear", || format!("addr={:#x}", vmf.address));
    let Some(pmd) = vmf.pmd else { return VM_FAULT_OOM };
    let pte = pte_offset_map_lock(k, pmd, vmf.address).await;
    vmf.pte = Some(pte);
    // Another marker may have taken its place.
    if ptep_get(k, pte) == vmf.orig_pte {
        set_pte_at(k, k.vma(vmf.vma).vm_mm, vmf.address, pte, PteVal::None);
    }
    pte_unmap_unlock(k, pte);
    VmFault::empty()
}

/// A page that was write-protected and then unmapped, or protected before there was one: bring it in as any missing one, and
/// keep the protection.
///
/// Kernel:   mm/memory.c:pte_marker_handle_uffd_wp @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   those of do_pte_missing
async fn pte_marker_handle_uffd_wp(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let unpopulated = k.has(Delta::UFFD_FEATURE_WP_UNPOPULATED);
    if !userfaultfd_wp(k, vmf.vma) || (!unpopulated && vma_is_anonymous(k, vmf.vma)) {
        k.branch("a marker that was left behind: it goes");
        return pte_marker_clear(k, vmf).await;
    }
    do_pte_missing(k, vmf).await
}

/// What the marker says. UFFDIO_POISON and MADV_GUARD have brought others.
///
/// Kernel:   mm/memory.c:handle_pte_marker @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   HWPOISON, SIGSEGV as the marker says; SIGBUS one that no marker should say
async fn handle_pte_marker(k: &Kernel, vmf: &mut VmFaultCtx, marker: PteMarker) -> VmFault {
    let _f = k.enter("handle_pte_marker", || format!("addr={:#x} {marker:?}", vmf.address));
    // is_swapin_error_entry(): do_swap_page() itself answers, before it asks for markers.
    if marker.contains(SWP_SWAPIN_ERROR) {
        return VM_FAULT_SIGBUS;
    }
    let anonymous = !k.has(Delta::UFFD_FEATURE_WP_UNPOPULATED) && vma_is_anonymous(k, vmf.vma);
    if WARN_ON_ONCE!(k, anonymous || marker.is_empty()) {
        return VM_FAULT_SIGBUS;
    }
    if k.has(Delta::UFFDIO_POISON) && marker.contains(PTE_MARKER_POISONED) {
        return VM_FAULT_HWPOISON;
    }
    if k.has(Delta::MADV_GUARD) && marker.contains(PTE_MARKER_GUARD) {
        return VM_FAULT_SIGSEGV;
    }
    if marker.contains(PTE_MARKER_UFFD_WP) {
        return pte_marker_handle_uffd_wp(k, vmf).await;
    }
    VM_FAULT_SIGBUS
}

/// Is what the slot holds not worth keeping once the page is back?
///
/// Kernel:   mm/memory.c:should_try_to_free_swap @ v5.19
/// Fidelity: TRIMMED(KSM)
/// Locks:    page lock held
/// Errors:   none
fn should_try_to_free_swap(k: &Kernel, page: PageId, vma: &Vma, fault_flags: FaultFlags) -> bool {
    if !PageSwapCache(k, page) {
        return false;
    }
    if mem_cgroup_swap_full(k) || vma.vm_flags.contains(VM_LOCKED) || PageMlocked(k, page) {
        return true;
    }
    // To use the page as it is, its cache reference must go.
    fault_flags.contains(FAULT_FLAG_WRITE) && page_count(k, page) == 2
}

/// Bring a swapped anonymous page back, or do what a marker says.
///
/// PG_ANON_EXCLUSIVE: the entry says whether the page is its alone; SWAPIN_WRITABLE: such a page is mapped writable by a load too.
///
/// Kernel:   mm/memory.c:do_swap_page @ v5.14
/// Fidelity: TRIMMED(migration, device and poison entries, KSM, SWP_SYNCHRONOUS_IO: the page always passes through the swap
///           cache, memcg)
/// Locks:    mmap_lock held; takes and drops the page lock and the PTE lock; drops mmap_lock when the answer has RETRY
/// Errors:   VM_FAULT_OOM without a page; SIGBUS when it could not be read; RETRY when its lock had to be waited for; those of
///           handle_pte_marker
pub(super) async fn do_swap_page(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_swap_page", || format!("addr={:#x} pte={:?}", vmf.address, vmf.orig_pte));
    let vma = k.vma(vmf.vma);
    let mm = vma.vm_mm;
    let mut ret = VmFault::empty();
    let (Some(pmd), Some(pte)) = (vmf.pmd, vmf.pte) else { return VM_FAULT_OOM };

    if !pte_unmap_same(k, pte, vmf.orig_pte).await {
        return ret;
    }
    let (entry, swp_flags) = match vmf.orig_pte {
        PteVal::Swap { entry, flags } => (entry, flags),
        PteVal::Marker(marker) => return handle_pte_marker(k, vmf, marker).await,
        _ => return ret,
    };
    // swapoff is on its way: it will put the page back by itself.
    if !get_swap_device(k, entry) {
        return ret;
    }

    point(k, Touch::SwapIo(entry)).await;
    let page = match lookup_swap_cache(k, entry) {
        Some(page) => {
            if PageHWPoison(k, page) {
                put_page(k, page);
                return VM_FAULT_HWPOISON;
            }
            page
        }
        None => match swapin_readahead(k, entry).await {
            Some(page) => {
                ret = VM_FAULT_MAJOR;
                page
            }
            None => {
                // Out of memory, or somebody else brought it in and freed the slot.
                let pte = pte_offset_map_lock(k, pmd, vmf.address).await;
                vmf.pte = Some(pte);
                if ptep_get(k, pte) == vmf.orig_pte {
                    ret = VM_FAULT_OOM;
                }
                pte_unmap_unlock(k, pte);
                return ret;
            }
        },
    };

    ladder! {
        {
            if !lock_page_or_retry(k, page, mm, vmf.flags).await {
                ret |= VM_FAULT_RETRY;
                break 'out_release;
            }
            // Before it was locked the page may have left the swap cache, or moved to another slot.
            if !PageSwapCache(k, page) || k.page(page).private != Some(entry) {
                k.branch("page left the swap cache meanwhile");
                break 'out_page;
            }
            let anon_exclusive = k.has(Delta::PG_ANON_EXCLUSIVE);
            if anon_exclusive && vmf.flags.contains(FAULT_FLAG_WRITE) && !PageLRU(k, page) {
                // The batch's reference would look like another user's.
                lru_add_drain(k);
            }

            let pte = pte_offset_map_lock(k, pmd, vmf.address).await;
            vmf.pte = Some(pte);
            if ptep_get(k, pte) != vmf.orig_pte {
                k.branch("pte changed meanwhile");
                break 'out_nomap;
            }
            if !PageUptodate(k, page) {
                ret = VM_FAULT_SIGBUS;
                break 'out_nomap;
            }

            if anon_exclusive {
                swap_free(k, entry);
                if should_try_to_free_swap(k, page, &vma, vmf.flags) {
                    try_to_free_swap(k, page);
                }
            }
            inc_mm_counter(k, mm, MmCounter::MM_ANONPAGES);
            dec_mm_counter(k, mm, MmCounter::MM_SWAPENTS);
            let mut exclusive = false;
            let mut new = mk_pte(page, vma.vm_page_prot);
            if swp_flags.contains(_PAGE_SOFT_DIRTY) {
                new = pte_mksoft_dirty(new);
            }
            if anon_exclusive {
                // As do_wp_page() decides, and known without its detours where nobody else can have seen the page.
                exclusive = pte_swp_exclusive(vmf.orig_pte) || page_count(k, page) == 1;
            } else if vmf.flags.contains(FAULT_FLAG_WRITE) && reuse_swap_page(k, page) {
                exclusive = true;
            }
            let uffd_wp = swp_flags.contains(_PAGE_UFFD_WP);
            if k.has(Delta::SWAPIN_WRITABLE) {
                if uffd_wp {
                    new = pte_wrprotect(pte_mkuffd_wp(new));
                }
                let noticed = userfaultfd_pte_wp(k, vmf.vma, new) || pte_needs_soft_dirty_wp(k, &vma, new);
                if exclusive && vma.vm_flags.contains(VM_WRITE) && !noticed {
                    new = pte_mkwrite(new);
                    if vmf.flags.contains(FAULT_FLAG_WRITE) {
                        new = pte_mkdirty(new);
                        vmf.flags.remove(FAULT_FLAG_WRITE);
                    }
                }
            } else {
                if exclusive && vmf.flags.contains(FAULT_FLAG_WRITE) {
                    new = maybe_mkwrite(pte_mkdirty(new), &vma);
                    vmf.flags.remove(FAULT_FLAG_WRITE);
                    ret |= VM_FAULT_WRITE;
                }
                if uffd_wp {
                    new = pte_wrprotect(pte_mkuffd_wp(new));
                }
            }
            set_pte_at(k, mm, vmf.address, pte, new);
            vmf.orig_pte = ptep_get(k, pte);
            let new = k.has(Delta::SWAPIN_NEW_RMAP) && !PageAnon(k, page);
            do_page_add_anon_rmap(k, page, vmf.vma, vmf.address, exclusive);
            if !new {
                mlock_vma_folio(k, page, vmf.vma);
            }

            if !anon_exclusive {
                swap_free(k, entry);
                if mem_cgroup_swap_full(k) || vma.vm_flags.contains(VM_LOCKED) || PageMlocked(k, page) {
                    try_to_free_swap(k, page);
                }
            }
            unlock_page(k, page);

            if vmf.flags.contains(FAULT_FLAG_WRITE) {
                ret |= do_wp_page(k, vmf).await;
                if ret.intersects(VM_FAULT_ERROR) {
                    ret &= VM_FAULT_ERROR;
                }
                return ret;
            }
            pte_unmap_unlock(k, pte);
            return ret;
        }
        'out_nomap: {
            if let Some(pte) = vmf.pte {
                pte_unmap_unlock(k, pte);
            }
        }
        'out_page: {
            unlock_page(k, page);
        }
        'out_release: {
            put_page(k, page);
            ret
        }
    }
}
