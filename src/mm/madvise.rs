// SPDX-License-Identifier: GPL-2.0-only
//! `mm/madvise.c`.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::syscall::Advice;

pub async fn sys_madvise(k: &Kernel, start: u64, len: u64, behavior: Advice) -> KResult {
    todo!()
}
