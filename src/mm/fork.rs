// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/fork.c:dup_mmap` and `mm/memory.c:copy_page_range`: a copy of an address space.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub fn mm_alloc(k: &Kernel) -> MmId {
    todo!()
}
pub async fn dup_mm(k: &Kernel, oldmm: MmId) -> KResult<(MmId, Vec<(CtxId, CtxId)>)> {
    todo!()
}
pub async fn copy_page_range(k: &Kernel, dst_vma: VmaId, src_vma: VmaId) -> KResult {
    todo!()
}
pub async fn sys_fork(k: &Kernel) -> KResult<TaskId> {
    todo!()
}
