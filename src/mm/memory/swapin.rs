// SPDX-License-Identifier: GPL-2.0-only
//! An entry that names a swap slot: an anonymous page that was swapped out.

use super::{VmFaultCtx, cow::do_wp_page};
use crate::flags::*;
use crate::kernel::*;
use crate::ladder;
use crate::mm::filemap::lock_page_or_retry;
use crate::mm::locking::{ptl_lock, ptl_unlock, unlock_page};
use crate::mm::page::*;
use crate::mm::pgtable::*;
use crate::mm::rmap::do_page_add_anon_rmap;
use crate::mm::swap_state::{lookup_swap_cache, swapin_readahead};
use crate::mm::swapfile::{get_swap_device, mem_cgroup_swap_full, reuse_swap_page, swap_free, try_to_free_swap};
use crate::point::{Touch, point};

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

/// Bring a swapped anonymous page back.
///
/// Kernel:   mm/memory.c:do_swap_page @ v5.14
/// Fidelity: TRIMMED(migration, device and poison entries, KSM, SWP_SYNCHRONOUS_IO: the page always passes through the swap
///           cache, memcg)
/// Locks:    mmap_lock held; takes and drops the page lock and the PTE lock; drops mmap_lock when the answer has RETRY
/// Errors:   VM_FAULT_OOM without a page; SIGBUS when it could not be read; RETRY when its lock had to be waited for
pub(super) async fn do_swap_page(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_swap_page", || format!("addr={:#x} pte={:?}", vmf.address, vmf.orig_pte));
    let vma = k.vma(vmf.vma);
    let mm = vma.vm_mm;
    let mut ret = VmFault::empty();
    let PteVal::Swap { entry, flags: swp_flags } = vmf.orig_pte else { return ret };
    let (Some(pmd), Some(pte)) = (vmf.pmd, vmf.pte) else { return VM_FAULT_OOM };

    if !pte_unmap_same(k, pte, vmf.orig_pte).await {
        return ret;
    }
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

            inc_mm_counter(k, mm, MmCounter::MM_ANONPAGES);
            dec_mm_counter(k, mm, MmCounter::MM_SWAPENTS);
            let mut exclusive = false;
            let mut new = mk_pte(page, vma.vm_page_prot);
            if vmf.flags.contains(FAULT_FLAG_WRITE) && reuse_swap_page(k, page) {
                new = maybe_mkwrite(pte_mkdirty(new), &vma);
                vmf.flags.remove(FAULT_FLAG_WRITE);
                ret |= VM_FAULT_WRITE;
                exclusive = true;
            }
            if swp_flags.contains(_PAGE_SOFT_DIRTY) {
                new = pte_mksoft_dirty(new);
            }
            if swp_flags.contains(_PAGE_UFFD_WP) {
                new = pte_wrprotect(pte_mkuffd_wp(new));
            }
            set_pte_at(k, mm, vmf.address, pte, new);
            vmf.orig_pte = ptep_get(k, pte);
            do_page_add_anon_rmap(k, page, vmf.vma, vmf.address, exclusive);

            swap_free(k, entry);
            if mem_cgroup_swap_full(k) || vma.vm_flags.contains(VM_LOCKED) || PageMlocked(k, page) {
                try_to_free_swap(k, page);
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
