// SPDX-License-Identifier: GPL-2.0-only
//! `mm/rmap.c`: who maps a page, and taking those mappings away.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

#[derive(Clone, Copy, Default, Debug)]
pub struct TtuFlags { pub ignore_mlock: bool, pub batch_flush: bool }
pub fn page_add_file_rmap(k: &Kernel, page: PageId) {
    todo!()
}
pub fn page_add_new_anon_rmap(k: &Kernel, page: PageId, vma: VmaId, address: u64) {
    todo!()
}
pub fn do_page_add_anon_rmap(k: &Kernel, page: PageId, vma: VmaId, address: u64, exclusive: bool) {
    todo!()
}
pub fn page_dup_rmap(k: &Kernel, page: PageId) {
    todo!()
}
pub fn page_remove_rmap(k: &Kernel, page: PageId) {
    todo!()
}
pub fn linear_page_index(k: &Kernel, vma: VmaId, address: u64) -> u64 {
    todo!()
}
pub fn vma_address(k: &Kernel, page: PageId, vma: VmaId) -> Option<u64> {
    todo!()
}
pub async fn anon_vma_prepare(k: &Kernel, vma: VmaId) -> KResult {
    todo!()
}
pub async fn anon_vma_clone(k: &Kernel, dst: VmaId, src: VmaId) -> KResult {
    todo!()
}
pub async fn anon_vma_fork(k: &Kernel, vma: VmaId, pvma: VmaId) -> KResult {
    todo!()
}
pub async fn unlink_anon_vmas(k: &Kernel, vma: VmaId) {
    todo!()
}
pub async fn page_referenced(k: &Kernel, page: PageId) -> (u32, bool) {
    todo!()
}
pub async fn try_to_unmap(k: &Kernel, page: PageId, flags: TtuFlags) {
    todo!()
}
