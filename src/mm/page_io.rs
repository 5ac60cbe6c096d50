// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_io.c`: reading and writing swap.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub async fn swap_writepage(k: &Kernel, page: PageId) -> KResult {
    todo!()
}
pub async fn swap_readpage(k: &Kernel, page: PageId) {
    todo!()
}
