// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, the fault family: what a missing, swapped or write-protected entry leads to.
//!
//! [`handle_mm_fault`] walks to the entry; `handle_pte_fault` looks at it and goes on to one of four places:
//! `cow` (present, but not writable), `swapin` (in swap), `anon` (empty, no file) and `file` (empty, a file behind it).

mod anon;
mod cow;
mod file;
mod swapin;

pub use file::do_set_pte;
pub(crate) use file::install_prealloc_pte;

use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::ptl_lock;
use crate::mm::pgtable::*;
use crate::mm::rmap::linear_page_index;
use crate::point::{Touch, point};

/// `struct vm_fault`.
#[derive(Clone, Debug)]
pub struct VmFaultCtx {
    /// The VMA that covers the address.
    pub vma: VmaId,
    /// How the fault came about.
    pub flags: FaultFlags,
    /// Offset of the address in the file (or, without one, in the address space), in pages.
    pub pgoff: u64,
    /// Page-aligned fault address.
    pub address: u64,
    /// The fault address to the byte.
    pub real_address: u64,
    /// The entry that names the PTE table; the upper tables exist once it is set.
    pub pmd: Option<Pmd>,
    /// The PTE, once it was looked up; whether its lock is held is a matter of the function.
    pub pte: Option<PteRef>,
    /// What the PTE was when the fault was taken.
    pub orig_pte: PteVal,
    /// The page that ->fault returned, or that a write fault is about.
    pub page: Option<PageId>,
    /// The private copy that a write to a private file mapping makes.
    pub cow_page: Option<PageId>,
    /// There is memory for a PTE table, which stands nowhere yet.
    pub prealloc_pte: bool,
}

/// Resolve a fault at `address`, which lies in `vma`.
///
/// Kernel:   mm/memory.c:handle_mm_fault @ v5.14
/// Fidelity: TRIMMED(protection keys, hugetlb, memcg OOM, statistics)
/// Locks:    mmap_lock held; dropped when the answer has RETRY (unless RETRY_NOWAIT was asked for)
/// Errors:   VM_FAULT_OOM, VM_FAULT_SIGBUS, VM_FAULT_RETRY
pub async fn handle_mm_fault(k: &Kernel, vma: VmaId, address: u64, flags: FaultFlags) -> VmFault {
    let _f = k.enter("handle_mm_fault", || format!("addr={address:#x} flags={flags:?}"));
    k.task_mut(k.current()).state = TaskState::Running;
    __handle_mm_fault(k, vma, address, flags).await
}

/// `vma_is_anonymous`: no vm_ops. True for a private mapping of /dev/zero too, which has a file.
pub fn vma_is_anonymous(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_ops == VmOps::None
}

/// `vma_is_shmem`.
pub fn vma_is_shmem(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_ops == VmOps::Shmem
}

/// Walk to the PTE table's entry, making the upper tables.
///
/// Kernel:   mm/memory.c:__handle_mm_fault @ v5.14
/// Fidelity: TRIMMED(huge entries)
/// Locks:    mmap_lock held
/// Errors:   VM_FAULT_OOM without memory for a table
async fn __handle_mm_fault(k: &Kernel, vma: VmaId, address: u64, flags: FaultFlags) -> VmFault {
    let mut vmf = VmFaultCtx {
        vma,
        flags,
        pgoff: linear_page_index(k, vma, address),
        address: page_align_down(address),
        real_address: address,
        pmd: None,
        pte: None,
        orig_pte: PteVal::None,
        page: None,
        cow_page: None,
        prealloc_pte: false,
    };
    let mm = k.vma(vma).vm_mm;
    vmf.pmd = mm_alloc_pmd(k, mm, vmf.address).await;
    if vmf.pmd.is_none() {
        return VM_FAULT_OOM;
    }
    handle_pte_fault(k, &mut vmf).await
}

/// Is the entry, under its lock, another than the one that the fault was taken for? Without a table there was none.
///
/// Kernel:   mm/memory.c:vmf_pte_changed @ v5.19 (a test for none before: there were no markers)
/// Fidelity: MIRROR
/// Locks:    PTE lock held
/// Errors:   none
fn vmf_pte_changed(k: &Kernel, vmf: &VmFaultCtx, pte: PteRef) -> bool {
    ptep_get(k, pte) != vmf.orig_pte
}

/// `vmf_orig_pte_uffd_wp`: was there a marker that says write-protected?
fn vmf_orig_pte_uffd_wp(vmf: &VmFaultCtx) -> bool {
    pte_marker_uffd_wp(vmf.orig_pte)
}

/// An entry that maps nothing and names no slot: empty, or a marker.
///
/// Kernel:   mm/memory.c:do_pte_missing @ v6.4 (part of handle_pte_fault before)
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   those of the two ways
async fn do_pte_missing(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    if vma_is_anonymous(k, vmf.vma) { anon::do_anonymous_page(k, vmf).await } else { file::do_fault(k, vmf).await }
}

/// Look at the entry without its lock, and hand over to who can deal with what stands there.
///
/// Kernel:   mm/memory.c:handle_pte_fault @ v5.14
/// Fidelity: TRIMMED(NUMA hinting, huge entries, TLB)
/// Locks:    mmap_lock held; takes and drops the PTE lock
/// Errors:   those of the four ways
async fn handle_pte_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    let Some(pmd) = vmf.pmd else { return VM_FAULT_OOM };
    vmf.pte = None;
    if let Some(pte) = pte_offset_map(k, pmd, vmf.address) {
        vmf.orig_pte = ptep_get_lockless(k, pte).await;
        if !pte_none(vmf.orig_pte) {
            vmf.pte = Some(pte);
        }
    }

    let Some(pte) = vmf.pte else {
        return do_pte_missing(k, vmf).await;
    };

    if !pte_present(vmf.orig_pte) {
        return swapin::do_swap_page(k, vmf).await;
    }

    ptl_lock(k, pte.table).await;
    let mut entry = vmf.orig_pte;
    'unlock: {
        if ptep_get(k, pte) != entry {
            k.branch("pte changed meanwhile");
            break 'unlock;
        }
        if vmf.flags.contains(FAULT_FLAG_WRITE) {
            if !pte_write(entry) {
                return cow::do_wp_page(k, vmf).await;
            }
            entry = pte_mkdirty(entry);
        }
        entry = pte_mkyoung(entry);
        let dirty = vmf.flags.contains(FAULT_FLAG_WRITE);
        ptep_set_access_flags(k, k.vma(vmf.vma).vm_mm, vmf.address, pte, entry, dirty);
    }
    pte_unmap_unlock(k, pte);
    VmFault::empty()
}

/// Give an entry more rights. x86 leaves a read fault to the hardware, which sets the accessed bit by itself.
///
/// Kernel:   arch/x86/mm/pgtable.c:ptep_set_access_flags @ v5.14
/// Fidelity: TRIMMED(TLB)
/// Locks:    PTE lock held
/// Errors:   none
fn ptep_set_access_flags(k: &Kernel, mm: MmId, address: u64, ptep: PteRef, entry: PteVal, dirty: bool) {
    let changed = ptep_get(k, ptep) != entry;
    if changed && dirty {
        set_pte_at(k, mm, address, ptep, entry);
    }
}

/// `pte_needs_soft_dirty_wp`: must the next store be noticed, for soft-dirty tracking?
pub(crate) fn pte_needs_soft_dirty_wp(k: &Kernel, vma: &Vma, pte: PteVal) -> bool {
    k.s().config.soft_dirty && !vma.vm_flags.contains(VM_SOFTDIRTY) && !pte_soft_dirty(pte)
}

/// `is_cow_mapping`: private, and may become writable.
pub(crate) fn is_cow_mapping(flags: VmFlags) -> bool {
    flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
}

/// Copy a page's contents (`copy_user_highpage`); the source is read in one step.
async fn copy_user_highpage(k: &Kernel, to: PageId, from: PageId) {
    // Stores through other mappings of the source are not kept out while it is copied.
    point(k, Touch::WritePage(from)).await;
    let cells = if from == PageId::ZERO { ZERO_CELLS } else { k.page(from).cells };
    k.page_mut(to).cells = cells;
}
