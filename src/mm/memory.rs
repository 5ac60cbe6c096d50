// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, the fault family: what a missing, swapped or write-protected entry leads to.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

/// `struct vm_fault`.
#[derive(Clone, Debug)]
pub struct VmFaultCtx {
    pub vma: VmaId,
    pub flags: FaultFlags,
    pub pgoff: u64,
    /// Page-aligned fault address.
    pub address: u64,
    pub pmd: Option<Pmd>,
    pub pte: Option<PteRef>,
    pub orig_pte: PteVal,
    pub page: Option<PageId>,
    pub cow_page: Option<PageId>,
}

pub async fn handle_mm_fault(k: &Kernel, vma: VmaId, address: u64, flags: FaultFlags) -> VmFault {
    todo!()
}
pub fn vma_is_anonymous(k: &Kernel, vma: VmaId) -> bool {
    todo!()
}
pub fn vma_is_shmem(k: &Kernel, vma: VmaId) -> bool {
    todo!()
}
pub async fn do_set_pte(k: &Kernel, vmf: &mut VmFaultCtx, page: PageId, addr: u64) {
    todo!()
}
