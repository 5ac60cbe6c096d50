// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: read, write, seek, seals, stat; memfd_create.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::UserBuf;

pub async fn sys_memfd_create(k: &Kernel, sealing: bool) -> KResult<FileId> {
    todo!()
}
pub async fn shmem_file_read_iter(k: &Kernel, file: FileId, buf: u64, count: u64, pos: u64, data: &mut [Option<Cell>; CELLS]) -> KResult<i64> {
    todo!()
}
pub async fn shmem_file_write_iter(k: &Kernel, file: FileId, buf: u64, count: u64, pos: u64) -> KResult<i64> {
    todo!()
}
pub async fn shmem_file_llseek(k: &Kernel, file: FileId, offset: u64, data: bool) -> KResult<i64> {
    todo!()
}
pub async fn memfd_add_seals(k: &Kernel, file: FileId, seals: Seals) -> KResult {
    todo!()
}
pub async fn shmem_getattr(k: &Kernel, inode: InodeId) -> (u64, i64) {
    todo!()
}
pub fn shmem_statfs(k: &Kernel, inode: InodeId) -> (i64, i64) {
    todo!()
}
