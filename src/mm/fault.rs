// SPDX-License-Identifier: GPL-2.0-only
//! `arch/x86/mm/fault.c`: an instruction meets the page tables.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::Signal;

/// How a user-mode access ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessResult { Done(Option<Cell>), Signal(Signal), Blocked, Killed }

pub async fn user_access(k: &Kernel, access: UserAccess, flags: FaultFlags) -> AccessResult {
    todo!()
}
pub async fn resume_blocked_fault(k: &Kernel) -> AccessResult {
    todo!()
}
pub async fn kernel_mode_fault(k: &Kernel, addr: u64, write: bool) -> bool {
    todo!()
}
