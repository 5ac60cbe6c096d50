// SPDX-License-Identifier: GPL-2.0-only
//! `mm/filemap.c`: looking pages up in a page cache, taking them out, fault-around.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::mm::memory::VmFaultCtx;

pub async fn find_get_entry(k: &Kernel, mapping: InodeId, index: u64) -> Option<SlotVal> {
    todo!()
}
pub async fn find_lock_entry(k: &Kernel, mapping: InodeId, index: u64) -> Option<SlotVal> {
    todo!()
}
pub async fn find_lock_page(k: &Kernel, mapping: InodeId, index: u64) -> Option<PageId> {
    todo!()
}
pub async fn delete_from_page_cache(k: &Kernel, page: PageId) {
    todo!()
}
pub async fn filemap_map_pages(k: &Kernel, vmf: &mut VmFaultCtx, start_pgoff: u64, end_pgoff: u64) -> VmFault {
    todo!()
}
pub async fn wait_on_page_writeback(k: &Kernel, page: PageId) {
    todo!()
}
