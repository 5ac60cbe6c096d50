// SPDX-License-Identifier: GPL-2.0-only
//! An empty entry in anonymous memory.

use super::{VmFaultCtx, vmf_orig_pte_uffd_wp, vmf_pte_changed};
use crate::flags::*;
use crate::kernel::*;
use crate::ladder;
use crate::mm::page::*;
use crate::mm::page_alloc::alloc_zeroed_page;
use crate::mm::pgtable::*;
use crate::mm::rmap::{anon_vma_prepare, page_add_new_anon_rmap};
use crate::uffd::handle::handle_userfault;

/// Give an empty anonymous entry a zeroed page, or for a read the shared zero page. UFFD_FEATURE_WP_UNPOPULATED: a marker that stood
/// there goes on as the uffd-wp bit of the entry.
///
/// Kernel:   mm/memory.c:do_anonymous_page @ v5.14
/// Fidelity: TRIMMED(OOM reaper, huge entries, swap throttling)
/// Locks:    mmap_lock held; takes and drops the PTE lock. MISSING is tested under it, after the entry was seen to be empty
/// Errors:   SIGBUS a shared VMA without vm_ops; OOM; what handle_userfault answers
pub(super) async fn do_anonymous_page(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let _f = k.enter("do_anonymous_page", || format!("addr={:#x}", vmf.address));
    let vma = k.vma(vmf.vma);
    let mm = vma.vm_mm;

    // A file mapping without ->fault.
    if vma.vm_flags.contains(VM_SHARED) {
        return VM_FAULT_SIGBUS;
    }
    let uffd_wp = vmf_orig_pte_uffd_wp(vmf);
    let Some(pmd) = vmf.pmd else { return VM_FAULT_OOM };
    if !pte_alloc(k, mm, pmd).await {
        return VM_FAULT_OOM;
    }

    let mut entry;
    let pte;
    ladder! {
        {
            if !vmf.flags.contains(FAULT_FLAG_WRITE) {
                entry = zero_pte(vma.vm_page_prot);
                pte = pte_offset_map_lock(k, pmd, vmf.address).await;
                vmf.pte = Some(pte);
                if vmf_pte_changed(k, vmf, pte) {
                    break 'unlock;
                }
                if vma.vm_flags.contains(VM_UFFD_MISSING) {
                    pte_unmap_unlock(k, pte);
                    return handle_userfault(k, vmf, VM_UFFD_MISSING).await;
                }
                k.branch("read of a hole: the zero page");
                break 'setpte;
            }

            if anon_vma_prepare(k, vmf.vma).await.is_err() {
                return VM_FAULT_OOM;
            }
            let Some(page) = alloc_zeroed_page(k, "do_anonymous_page: alloc").await else {
                return VM_FAULT_OOM;
            };
            if k.should_fail("do_anonymous_page: mem_cgroup_charge") {
                put_page(k, page);
                return VM_FAULT_OOM;
            }
            __SetPageUptodate(k, page);

            entry = mk_pte(page, vma.vm_page_prot);
            if vma.vm_flags.contains(VM_WRITE) {
                entry = pte_mkwrite(pte_mkdirty(entry));
            }

            pte = pte_offset_map_lock(k, pmd, vmf.address).await;
            vmf.pte = Some(pte);
            if vmf_pte_changed(k, vmf, pte) {
                k.branch("somebody else was faster");
                put_page(k, page);
                break 'unlock;
            }
            if vma.vm_flags.contains(VM_UFFD_MISSING) {
                pte_unmap_unlock(k, pte);
                put_page(k, page);
                return handle_userfault(k, vmf, VM_UFFD_MISSING).await;
            }
            inc_mm_counter(k, mm, MmCounter::MM_ANONPAGES);
            page_add_new_anon_rmap(k, page, vmf.vma, vmf.address);
            lru_cache_add_inactive_or_unevictable(k, page, vmf.vma);
        }
        'setpte: {
            if uffd_wp {
                entry = pte_wrprotect(pte_mkuffd_wp(entry));
            }
            set_pte_at(k, mm, vmf.address, pte, entry);
        }
        'unlock: {
            pte_unmap_unlock(k, pte);
            VmFault::empty()
        }
    }
}
