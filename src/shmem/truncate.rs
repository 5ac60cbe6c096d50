// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c:shmem_undo_range` and `mm/truncate.c`.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub async fn shmem_undo_range(k: &Kernel, inode: InodeId, lstart: u64, lend: i64, unfalloc: bool) {
    todo!()
}
pub async fn shmem_truncate_range(k: &Kernel, inode: InodeId, lstart: u64, lend: i64) {
    todo!()
}
pub async fn truncate_inode_page(k: &Kernel, mapping: InodeId, page: PageId) -> KResult {
    todo!()
}
pub async fn shmem_fallocate(k: &Kernel, file: FileId, mode: crate::syscall::FallocMode, offset: u64, len: u64) -> KResult {
    todo!()
}
