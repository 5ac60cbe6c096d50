// SPDX-License-Identifier: GPL-2.0-only
//! `fs/`: open files and descriptors.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::{Op, Outcome, Path};

pub fn get_file(k: &Kernel, file: FileId) {
    todo!()
}
pub async fn fput(k: &Kernel, file: FileId) {
    todo!()
}
pub fn fd_install(k: &Kernel, file: FileId) -> KResult<u8> {
    todo!()
}
pub fn fget(k: &Kernel, fd: u8) -> KResult<FileId> {
    todo!()
}
pub async fn sys_close(k: &Kernel, fd: u8) -> KResult {
    todo!()
}
pub fn sys_mount(k: &Kernel, size: u64) -> KResult {
    todo!()
}
pub async fn sys_open(k: &Kernel, path: Path, read: bool, write: bool, creat: bool) -> KResult<FileId> {
    todo!()
}
pub async fn sys_unlink(k: &Kernel, name: u8) -> KResult {
    todo!()
}
