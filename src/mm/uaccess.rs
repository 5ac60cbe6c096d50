// SPDX-License-Identifier: GPL-2.0-only
//! `copy_from_user` and its family: the kernel reads and writes user memory by address.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::UserBuf;

pub fn user_addr(buf: UserBuf) -> u64 {
    todo!()
}
pub async fn copy_from_user(k: &Kernel, to: PageId, to_offset: u64, from: u64, n: u64) -> u64 {
    todo!()
}
pub async fn copy_to_user(k: &Kernel, to: u64, from: Option<PageId>, from_offset: u64, n: u64) -> u64 {
    todo!()
}
pub async fn fault_in_pages_readable(k: &Kernel, uaddr: u64, size: u64) -> KResult {
    todo!()
}
pub fn pagefault_disable(k: &Kernel) {
    todo!()
}
pub fn pagefault_enable(k: &Kernel) {
    todo!()
}
