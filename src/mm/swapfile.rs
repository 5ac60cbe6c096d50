// SPDX-License-Identifier: GPL-2.0-only
//! `mm/swapfile.c`: swap slots and their counts, swapon and swapoff.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

pub fn swapon(k: &Kernel, slots: u16) -> KResult {
    todo!()
}
pub async fn swapoff(k: &Kernel) -> KResult {
    todo!()
}
pub fn get_nr_swap_pages(k: &Kernel) -> usize {
    todo!()
}
pub fn get_swap_page(k: &Kernel) -> Option<SwpEntry> {
    todo!()
}
pub fn put_swap_page(k: &Kernel, entry: SwpEntry) {
    todo!()
}
pub fn get_swap_device(k: &Kernel, entry: SwpEntry) -> bool {
    todo!()
}
pub fn swap_duplicate(k: &Kernel, entry: SwpEntry) -> KResult {
    todo!()
}
pub fn swap_shmem_alloc(k: &Kernel, entry: SwpEntry) {
    todo!()
}
pub fn swap_free(k: &Kernel, entry: SwpEntry) {
    todo!()
}
pub fn free_swap_and_cache(k: &Kernel, entry: SwpEntry) -> bool {
    todo!()
}
pub fn try_to_free_swap(k: &Kernel, page: PageId) -> bool {
    todo!()
}
pub fn reuse_swap_page(k: &Kernel, page: PageId) -> bool {
    todo!()
}
pub fn __swap_count(k: &Kernel, entry: SwpEntry) -> u8 {
    todo!()
}
pub fn mem_cgroup_swap_full(k: &Kernel) -> bool {
    todo!()
}
