// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: faults, mmap, and the getpage wrapper.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::mm::memory::VmFaultCtx;
use crate::patch::SgpType;

pub async fn shmem_getpage(k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, sgp: SgpType) -> KResult {
    todo!()
}
pub async fn shmem_fault(k: &Kernel, vmf: &mut VmFaultCtx) -> VmFault {
    todo!()
}
pub fn shmem_mmap(k: &Kernel, file: FileId, vma: VmaId) -> KResult {
    todo!()
}
pub async fn shmem_zero_setup(k: &Kernel, vma: VmaId) -> KResult {
    todo!()
}
