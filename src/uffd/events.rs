// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: non-cooperative events.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::mm::mmap::UfList;

/// `struct userfaultfd_unmap_ctx`.
#[derive(Clone, Copy, Debug)]
pub struct UserfaultfdUnmapCtx { pub ctx: CtxId, pub start: u64, pub end: u64 }
/// `struct vm_userfaultfd_ctx` of the mapping that mremap moved.
pub type VmUserfaultfdCtx = Option<CtxId>;
pub fn dup_userfaultfd(k: &Kernel, vma: VmaId, fcs: &mut Vec<(CtxId, CtxId)>) -> KResult {
    todo!()
}
pub async fn dup_userfaultfd_complete(k: &Kernel, fcs: &[(CtxId, CtxId)]) {
    todo!()
}
pub fn mremap_userfaultfd_prep(k: &Kernel, vma: VmaId, vm_ctx: &mut VmUserfaultfdCtx) {
    todo!()
}
pub async fn mremap_userfaultfd_complete(k: &Kernel, vm_ctx: VmUserfaultfdCtx, from: u64, to: KResult<u64>, len: u64) {
    todo!()
}
pub async fn userfaultfd_remove(k: &Kernel, vma: VmaId, start: u64, end: u64) -> bool {
    todo!()
}
pub fn userfaultfd_unmap_prep(k: &Kernel, vma: VmaId, start: u64, end: u64, unmaps: &mut UfList) -> KResult {
    todo!()
}
pub async fn userfaultfd_unmap_complete(k: &Kernel, mm: MmId, uf: UfList) {
    todo!()
}
