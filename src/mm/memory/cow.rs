// SPDX-License-Identifier: GPL-2.0-only
//! A store through an entry that is present but not writable.

use super::{VmFaultCtx, copy_user_highpage, file::fault_dirty_shared_page, ptep_set_access_flags};
use crate::BUG_ON;
use crate::delta::Delta;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{lock_page, trylock_page, unlock_page};
use crate::mm::mlock::munlock_vma_page;
use crate::mm::page::*;
use crate::mm::page_alloc::{alloc_page, alloc_zeroed_page};
use crate::mm::pgtable::*;
use crate::mm::rmap::{anon_vma_prepare, page_add_new_anon_rmap, page_move_anon_rmap, page_remove_rmap};
use crate::mm::swapfile::try_to_free_swap;
use crate::point::{Touch, point};
use crate::uffd::handle::handle_userfault;
use crate::uffd::vma::userfaultfd_wp_async;

/// Let the store through: the page is the faulter's alone, or shared on purpose. PG_dirty is not touched, nor is the uffd-wp bit.
///
/// Kernel:   mm/memory.c:wp_page_reuse @ v5.14
/// Fidelity: TRIMMED(NUMA, TLB)
/// Locks:    PTE lock held on entry, dropped
/// Errors:   none
fn wp_page_reuse(k: &Kernel, vmf: &VmFaultCtx) {
    let _f = k.enter("wp_page_reuse", || format!("addr={:#x}", vmf.address));
    let vma = k.vma(vmf.vma);
    let Some(pte) = vmf.pte else { return };
    let mut entry = pte_mkyoung(vmf.orig_pte);
    entry = maybe_mkwrite(pte_mkdirty(entry), &vma);
    ptep_set_access_flags(k, vma.vm_mm, vmf.address, pte, entry, true);
    pte_unmap_unlock(k, pte);
}

/// Fill the private copy.
///
/// Kernel:   mm/memory.c:cow_user_page @ v5.14
/// Fidelity: TRIMMED(sources without a struct page: the zero page does not come here)
/// Locks:    mmap_lock held
/// Errors:   none
async fn cow_user_page(k: &Kernel, dst: PageId, src: PageId) {
    copy_user_highpage(k, dst, src).await;
}

/// Drop the swap slot of a page that nobody maps any more.
///
/// Kernel:   mm/swap_state.c:free_swap_cache @ v5.14
/// Fidelity: MIRROR
/// Locks:    tries the page lock
/// Errors:   none
async fn free_swap_cache(k: &Kernel, page: PageId) {
    point(k, Touch::WritePage(page)).await;
    if PageSwapCache(k, page) && !page_mapped(k, page) && trylock_page(k, page) {
        try_to_free_swap(k, page);
        unlock_page(k, page);
    }
}

/// Break copy on write: map a private copy in place of the old page.
///
/// Kernel:   mm/memory.c:wp_page_copy @ v5.14
/// Fidelity: TRIMMED(mmu notifiers, TLB)
/// Locks:    mmap_lock held; PTE lock not held; takes and drops it. Consumes the reference to vmf.page that do_wp_page took
/// Errors:   VM_FAULT_OOM; 0 when the entry changed meanwhile; else VM_FAULT_WRITE
async fn wp_page_copy(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("wp_page_copy", || format!("addr={:#x} old={:?}", vmf.address, vmf.page));
    let vma = k.vma(vmf.vma);
    let mm = vma.vm_mm;
    let old_page = vmf.page;
    let mut page_copied = false;
    'oom: {
        if anon_vma_prepare(k, vmf.vma).await.is_err() {
            break 'oom;
        }
        let new_page = match old_page {
            None => match alloc_zeroed_page(k, "wp_page_copy: alloc zeroed").await {
                Some(page) => page,
                None => break 'oom,
            },
            Some(old) => match alloc_page(k, "wp_page_copy: alloc").await {
                Some(page) => {
                    cow_user_page(k, page, old).await;
                    page
                }
                None => break 'oom,
            },
        };
        if k.should_fail("wp_page_copy: mem_cgroup_charge") {
            put_page(k, new_page);
            break 'oom;
        }
        __SetPageUptodate(k, new_page);

        // Take the lock again and see whether it is still the same entry.
        let Some(pmd) = vmf.pmd else { break 'oom };
        let pte = pte_offset_map_lock(k, pmd, vmf.address).await;
        vmf.pte = Some(pte);
        if ptep_get(k, pte) == vmf.orig_pte {
            match old_page {
                Some(old) if !PageAnon(k, old) => {
                    dec_mm_counter(k, mm, mm_counter_file(k, old));
                    inc_mm_counter(k, mm, MmCounter::MM_ANONPAGES);
                }
                Some(_) => {}
                None => inc_mm_counter(k, mm, MmCounter::MM_ANONPAGES),
            }
            let mut entry = mk_pte(new_page, vma.vm_page_prot);
            entry = maybe_mkwrite(pte_mkdirty(entry), &vma);
            // The old translation goes first, so that no CPU reads the old page after another has written the new one.
            ptep_get_and_clear(k, mm, vmf.address, pte);
            page_add_new_anon_rmap(k, new_page, vmf.vma, vmf.address);
            lru_cache_add_inactive_or_unevictable(k, new_page, vmf.vma);
            set_pte_at(k, mm, vmf.address, pte, entry);
            if let Some(old) = old_page {
                page_remove_rmap(k, old);
                // The PTE's reference.
                put_page(k, old);
            }
            page_copied = true;
        } else {
            k.branch("pte changed while the page was copied");
            put_page(k, new_page);
        }
        pte_unmap_unlock(k, pte);

        if let Some(old) = old_page {
            // The old page was locked in memory by this VMA.
            if page_copied && vma.vm_flags.contains(VM_LOCKED) {
                lock_page(k, old).await;
                if PageMlocked(k, old) {
                    munlock_vma_page(k, old).await;
                }
                unlock_page(k, old);
            }
            if page_copied {
                free_swap_cache(k, old).await;
            }
            put_page(k, old);
        }
        return if page_copied { VM_FAULT_WRITE } else { VmFault::empty() };
    }
    // oom:
    if let Some(old) = old_page {
        put_page(k, old);
    }
    VM_FAULT_OOM
}

/// A store through a shared writable mapping to an entry without a struct page.
///
/// Kernel:   mm/memory.c:wp_pfn_shared @ v5.14
/// Fidelity: TRIMMED(pfn_mkwrite)
/// Locks:    PTE lock held on entry, dropped
/// Errors:   none
fn wp_pfn_shared(k: &Kernel, vmf: &VmFaultCtx) -> VmFault {
    wp_page_reuse(k, vmf);
    VM_FAULT_WRITE
}

/// A store through a shared writable mapping: it reaches the file.
///
/// Kernel:   mm/memory.c:wp_page_shared @ v5.14
/// Fidelity: TRIMMED(page_mkwrite)
/// Locks:    PTE lock held on entry, dropped; takes and drops the page lock
/// Errors:   VM_FAULT_RETRY with the entry already writable, when the page was clean and mmap_lock may be dropped
async fn wp_page_shared(k: &Kernel, vmf: &mut VmFaultCtx, page: PageId) -> VmFault {
    let mut ret = VM_FAULT_WRITE;
    get_page(k, page);
    wp_page_reuse(k, vmf);
    lock_page(k, page).await;
    ret |= fault_dirty_shared_page(k, vmf, page).await;
    put_page(k, page);
    ret
}

/// Is nobody left who might share the anonymous page?
///
/// Kernel:   mm/memory.c:do_wp_page @ v5.19, wp_can_reuse_anon_folio @ v6.6
/// Fidelity: TRIMMED(KSM, huge pages)
/// Locks:    PTE lock held; tries the page lock
/// Errors:   false
async fn wp_can_reuse_anon_page(k: &Kernel, page: PageId, vma: VmaId) -> bool {
    point(k, Touch::WritePage(page)).await;
    // The entry, the swap cache, the batch: more than these are somebody.
    if page_count(k, page) > 3 {
        return false;
    }
    if !PageLRU(k, page) {
        lru_add_drain(k);
    }
    if page_count(k, page) > 1 + i32::from(PageSwapCache(k, page)) {
        return false;
    }
    if !trylock_page(k, page) {
        return false;
    }
    if PageSwapCache(k, page) {
        try_to_free_swap(k, page);
    }
    if page_count(k, page) != 1 {
        unlock_page(k, page);
        return false;
    }
    k.branch("nobody else refers to the page: exclusive from now on");
    page_move_anon_rmap(k, page, vma);
    unlock_page(k, page);
    true
}

/// A store hit an entry that is present and not writable: report it, reuse the page, or copy it.
/// UFFD_FEATURE_WP_ASYNC: what is to be asked about may be taken as answered. PG_ANON_EXCLUSIVE: a page that is known to be the
/// faulter's alone is his whoever looks at it meanwhile; of another one the references are counted, the swap cache's apart.
///
/// Kernel:   mm/memory.c:do_wp_page @ v5.14
/// Fidelity: TRIMMED(KSM, TLB)
/// Locks:    mmap_lock and PTE lock held on entry; the PTE lock is dropped
/// Errors:   VM_FAULT_OOM; what handle_userfault answers
pub(super) async fn do_wp_page(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_wp_page", || format!("addr={:#x}", vmf.address));
    let vma = k.vma(vmf.vma);
    let Some(pte) = vmf.pte else {
        BUG_ON!(k, true);
        return VM_FAULT_SIGBUS;
    };

    if vma.vm_flags.contains(VM_UFFD_WP) && pte_uffd_wp(ptep_get(k, pte)) {
        if !userfaultfd_wp_async(k, vmf.vma) {
            k.branch("write-protected by userfaultfd");
            pte_unmap_unlock(k, pte);
            return handle_userfault(k, vmf, VM_UFFD_WP).await;
        }
        k.branch("write-protected by userfaultfd: the bit goes, and nobody is asked");
        let unprotected = pte_clear_uffd_wp(ptep_get(k, pte));
        set_pte_at(k, vma.vm_mm, vmf.address, pte, unprotected);
        vmf.orig_pte = unprotected;
    }

    let shared_writable = vma.vm_flags.contains(VM_WRITE | VM_SHARED);
    vmf.page = vm_normal_page(vmf.orig_pte);
    let Some(page) = vmf.page else {
        if shared_writable {
            return wp_pfn_shared(k, vmf);
        }
        pte_unmap_unlock(k, pte);
        return wp_page_copy(k, vmf).await;
    };

    'copy: {
        if PageAnon(k, page) {
            if k.has(Delta::PG_ANON_EXCLUSIVE) {
                if !PageAnonExclusive(k, page) && !wp_can_reuse_anon_page(k, page, vmf.vma).await {
                    break 'copy;
                }
                wp_page_reuse(k, vmf);
                return VM_FAULT_WRITE;
            }
            // Anybody else's reference makes it a copy: a pin, the LRU batch, isolation, the swap cache.
            point(k, Touch::WritePage(page)).await;
            if page_count(k, page) != 1 {
                break 'copy;
            }
            if !trylock_page(k, page) {
                break 'copy;
            }
            if page_mapcount(k, page) != 1 || page_count(k, page) != 1 {
                unlock_page(k, page);
                break 'copy;
            }
            // The only map and the only reference: reuse it.
            unlock_page(k, page);
            wp_page_reuse(k, vmf);
            return VM_FAULT_WRITE;
        } else if shared_writable {
            return wp_page_shared(k, vmf, page).await;
        }
    }
    // Copy: keep the old page while the lock is dropped.
    get_page(k, page);
    pte_unmap_unlock(k, pte);
    wp_page_copy(k, vmf).await
}
