// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/exit.c`, `mm/mmap.c:exit_mmap`, `kernel/fork.c:mmput, mmdrop`: the end of a task and of an address space.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub fn mmget_not_zero(k: &Kernel, mm: MmId) -> bool {
    todo!()
}
pub fn mmgrab(k: &Kernel, mm: MmId) {
    todo!()
}
pub async fn mmput(k: &Kernel, mm: MmId) {
    todo!()
}
pub fn mmdrop(k: &Kernel, mm: MmId) {
    todo!()
}
pub async fn exit_mmap(k: &Kernel, mm: MmId) {
    todo!()
}
pub async fn sys_exit_group(k: &Kernel) {
    todo!()
}
