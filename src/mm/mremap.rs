// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mremap.c`.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub async fn sys_mremap(k: &Kernel, old: u64, old_len: u64, new_len: u64, new: Option<u64>, dontunmap: bool) -> KResult<i64> {
    todo!()
}
