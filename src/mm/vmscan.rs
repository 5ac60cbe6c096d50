// SPDX-License-Identifier: GPL-2.0-only
//! `mm/vmscan.c`: reclaim of isolated pages.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub fn isolate_lru_page(k: &Kernel, page: PageId) -> KResult {
    todo!()
}
pub fn putback_lru_page(k: &Kernel, page: PageId) {
    todo!()
}
pub async fn shrink_page_list(k: &Kernel, page_list: Vec<PageId>, ignore_references: bool) -> usize {
    todo!()
}
pub async fn reclaim_pages(k: &Kernel, page_list: Vec<PageId>) -> usize {
    todo!()
}
pub async fn reclaim_one(k: &Kernel, inode: InodeId, index: u64) -> bool {
    todo!()
}
