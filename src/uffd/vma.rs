// SPDX-License-Identifier: GPL-2.0-only
//! `include/linux/userfaultfd_k.h`: what a VMA is registered for.

use crate::delta::Delta;
use crate::flags::*;
use crate::kernel::{Kernel, VmaId};
use crate::mm::memory::vma_is_anonymous;

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
/// Has the userfaultfd that watches the VMA asked for the feature?
fn has_feature(k: &Kernel, vma: VmaId, feature: UffdFeatures) -> bool {
    k.vma(vma).ctx.is_some_and(|ctx| k.ctx(ctx).features.contains(feature))
}
/// `userfaultfd_wp_unpopulated` (v6.4): write protection marks anonymous memory where no page is mapped.
pub fn userfaultfd_wp_unpopulated(k: &Kernel, vma: VmaId) -> bool {
    has_feature(k, vma, UFFD_FEATURE_WP_UNPOPULATED)
}
/// `userfaultfd_wp_async` (v6.7): write-protect faults resolve themselves.
pub fn userfaultfd_wp_async(k: &Kernel, vma: VmaId) -> bool {
    has_feature(k, vma, UFFD_FEATURE_WP_ASYNC)
}
/// `userfaultfd_wp_use_markers`: does write protection leave markers where nothing is mapped? In files always (v5.19), in anonymous
/// memory with the feature.
pub fn userfaultfd_wp_use_markers(k: &Kernel, vma: VmaId) -> bool {
    if !k.has(Delta::PTE_MARKER_UFFD_WP) || !userfaultfd_wp(k, vma) {
        return false;
    }
    !vma_is_anonymous(k, vma) || userfaultfd_wp_unpopulated(k, vma)
}
