// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmap.c`: VMAs, their merging and splitting, mmap and munmap.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use smallvec::SmallVec;
use crate::uffd::events::UserfaultfdUnmapCtx;

/// The contexts that want to know of an unmapping (`struct list_head *uf`).
pub type UfList = SmallVec<[UserfaultfdUnmapCtx; 2]>;

pub fn find_vma(k: &Kernel, mm: MmId, addr: u64) -> Option<VmaId> {
    todo!()
}
pub fn find_vma_prev(k: &Kernel, mm: MmId, addr: u64) -> (Option<VmaId>, Option<VmaId>) {
    todo!()
}
pub fn vma_next(k: &Kernel, vma: VmaId) -> Option<VmaId> {
    todo!()
}
pub fn vma_prev(k: &Kernel, vma: VmaId) -> Option<VmaId> {
    todo!()
}
pub fn find_vma_intersection(k: &Kernel, mm: MmId, start: u64, end: u64) -> Option<VmaId> {
    todo!()
}
pub fn vm_get_page_prot(flags: VmFlags) -> PageProt {
    todo!()
}
pub fn vma_wants_writenotify(k: &Kernel, vma: VmaId, prot: PageProt) -> bool {
    todo!()
}
pub fn vma_set_page_prot(k: &Kernel, vma: VmaId) {
    todo!()
}
pub async fn vma_merge(k: &Kernel, mm: MmId, prev: Option<VmaId>, addr: u64, end: u64, vm_flags: VmFlags, anon_vma: Option<AnonVmaId>, file: Option<FileId>, pgoff: u64, ctx: Option<CtxId>) -> Option<VmaId> {
    todo!()
}
pub async fn split_vma(k: &Kernel, mm: MmId, vma: VmaId, addr: u64, new_below: bool) -> KResult {
    todo!()
}
pub async fn copy_vma(k: &Kernel, vma: VmaId, addr: u64, len: u64, pgoff: u64) -> Option<VmaId> {
    todo!()
}
pub async fn insert_vm_struct(k: &Kernel, mm: MmId, vma: VmaId) -> KResult {
    todo!()
}
pub async fn remove_vma(k: &Kernel, vma: VmaId) {
    todo!()
}
pub async fn unlink_file_vma(k: &Kernel, vma: VmaId) {
    todo!()
}
pub async fn free_pgtables(k: &Kernel, mm: MmId, vmas: &[VmaId], floor: u64, ceiling: u64) {
    todo!()
}
pub async fn __do_munmap(k: &Kernel, mm: MmId, start: u64, len: u64, uf: &mut UfList, downgrade: bool) -> KResult<bool> {
    todo!()
}
pub fn vm_enough_memory(k: &Kernel, pages: i64) -> KResult {
    todo!()
}
pub fn vm_unacct_memory(k: &Kernel, pages: i64) {
    todo!()
}
pub async fn sys_mmap(k: &Kernel, addr: u64, len: u64, prot: Prot, flags: MapFlags, file: Option<FileId>, offset: u64) -> KResult<i64> {
    todo!()
}
pub async fn sys_munmap(k: &Kernel, addr: u64, len: u64) -> KResult {
    todo!()
}
