// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`: a fault waits for the monitor.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::mm::memory::VmFaultCtx;

pub async fn handle_userfault(k: &Kernel, vmf: &mut VmFaultCtx, reason: VmFlags) -> VmFault {
    todo!()
}
pub async fn userfaultfd_must_wait(k: &Kernel, ctx: CtxId, address: u64, reason: VmFlags) -> bool {
    todo!()
}
pub fn finish_wait(k: &Kernel, uwq: UwqId) {
    todo!()
}
pub async fn wake_userfault(k: &Kernel, ctx: CtxId, start: u64, len: u64) {
    todo!()
}
pub fn wake_up_task(k: &Kernel, task: TaskId) {
    todo!()
}
pub fn send_signal(k: &Kernel, task: TaskId, fatal: bool) {
    todo!()
}
