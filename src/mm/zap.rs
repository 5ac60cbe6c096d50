// SPDX-License-Identifier: GPL-2.0-only
//! `mm/memory.c`, the unmapping half: zap_pte_range and everything that leads to it.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

/// `struct zap_details`.
#[derive(Clone, Copy, Debug)]
pub struct ZapDetails { pub check_mapping: Option<InodeId> }

pub async fn zap_page_range(k: &Kernel, vma: VmaId, start: u64, size: u64) {
    todo!()
}
pub async fn zap_page_range_single(k: &Kernel, vma: VmaId, address: u64, size: u64, details: Option<ZapDetails>) {
    todo!()
}
pub async fn unmap_vmas(k: &Kernel, vmas: &[VmaId], start: u64, end: u64) {
    todo!()
}
pub async fn unmap_mapping_range(k: &Kernel, mapping: InodeId, holebegin: u64, holelen: u64, even_cows: bool) {
    todo!()
}
pub async fn unmap_mapping_page(k: &Kernel, page: PageId) {
    todo!()
}
