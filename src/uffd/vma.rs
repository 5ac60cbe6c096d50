// SPDX-License-Identifier: GPL-2.0-only
//! `include/linux/userfaultfd_k.h`: what a VMA is registered for.

use crate::flags::*;
use crate::kernel::{Kernel, VmaId};

/// `userfaultfd_missing`.
pub fn userfaultfd_missing(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_flags.contains(VM_UFFD_MISSING)
}
/// `userfaultfd_wp`.
pub fn userfaultfd_wp(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_flags.contains(VM_UFFD_WP)
}
/// `userfaultfd_minor`.
pub fn userfaultfd_minor(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_flags.contains(VM_UFFD_MINOR)
}
/// `userfaultfd_armed`.
pub fn userfaultfd_armed(k: &Kernel, vma: VmaId) -> bool {
    k.vma(vma).vm_flags.intersects(__VM_UFFD_FLAGS)
}
/// `userfaultfd_pte_wp`.
pub fn userfaultfd_pte_wp(k: &Kernel, vma: VmaId, pte: crate::kernel::PteVal) -> bool {
    userfaultfd_wp(k, vma) && crate::mm::pgtable::pte_uffd_wp(pte)
}
