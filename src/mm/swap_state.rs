// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swap_state.c`: the swap cache.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub fn add_to_swap_cache(k: &Kernel, page: PageId, entry: SwpEntry) -> KResult {
    todo!()
}
pub fn delete_from_swap_cache(k: &Kernel, page: PageId) {
    todo!()
}
pub fn lookup_swap_cache(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    todo!()
}
pub async fn add_to_swap(k: &Kernel, page: PageId) -> bool {
    todo!()
}
pub async fn swapin_readahead(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    todo!()
}
pub async fn read_swap_cache_async(k: &Kernel, entry: SwpEntry) -> Option<PageId> {
    todo!()
}
pub fn free_page_and_swap_cache(k: &Kernel, page: PageId) {
    todo!()
}
