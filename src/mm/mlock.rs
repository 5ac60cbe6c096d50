// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mlock.c`, and `mm/gup.c:populate_vma_page_range`.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub async fn sys_mlock(k: &Kernel, start: u64, len: u64) -> KResult {
    todo!()
}
pub async fn sys_munlock(k: &Kernel, start: u64, len: u64) -> KResult {
    todo!()
}
pub async fn munlock_vma_pages_range(k: &Kernel, vma: VmaId, start: u64, end: u64) {
    todo!()
}
pub async fn mlock_vma_page(k: &Kernel, page: PageId) {
    todo!()
}
pub async fn munlock_vma_page(k: &Kernel, page: PageId) {
    todo!()
}
pub async fn mm_populate(k: &Kernel, start: u64, len: u64) {
    todo!()
}
pub async fn __mm_populate(k: &Kernel, start: u64, len: u64, ignore_errors: bool) -> KResult {
    todo!()
}
