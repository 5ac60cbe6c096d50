// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: pages into and out of the page cache, and swap.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::patch::SgpType;

pub async fn shmem_alloc_page(k: &Kernel) -> Option<PageId> {
    todo!()
}
pub async fn shmem_alloc_and_acct_page(k: &Kernel, inode: InodeId) -> KResult<PageId> {
    todo!()
}
pub async fn shmem_add_to_page_cache(k: &Kernel, page: PageId, mapping: InodeId, index: u64, expected: Option<SwpEntry>) -> KResult {
    todo!()
}
pub async fn shmem_delete_from_page_cache(k: &Kernel, page: PageId, radswap: SwpEntry) {
    todo!()
}
pub async fn shmem_free_swap(k: &Kernel, mapping: InodeId, index: u64, radswap: SwpEntry) -> KResult {
    todo!()
}
pub async fn shmem_swapin_page(k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, swap: SwpEntry, sgp: SgpType, vma: Option<VmaId>, fault_type: Option<&mut VmFault>) -> KResult {
    todo!()
}
pub async fn shmem_writepage(k: &Kernel, page: PageId, for_reclaim: bool) -> WritepageResult {
    todo!()
}
pub async fn shmem_unuse(k: &Kernel) -> KResult {
    todo!()
}
/// How writepage left the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritepageResult { Written, Activate }
