// SPDX-License-Identifier: GPL-2.0-only
//! `mm/gup.c`: the kernel looks at user memory through the page tables.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FollFlags: u32 { const FOLL_WRITE = 1; const FOLL_TOUCH = 2; const FOLL_GET = 4; const FOLL_FORCE = 0x10; const FOLL_NOWAIT = 0x20; const FOLL_POPULATE = 0x40; const FOLL_TRIED = 0x800; const FOLL_REMOTE = 0x2000; const FOLL_COW = 0x4000; const FOLL_MLOCK = 0x1000; }
}
pub async fn __get_user_page(k: &Kernel, mm: MmId, start: u64, gup_flags: FollFlags, locked: Option<&mut bool>) -> KResult<Option<PageId>> {
    todo!()
}
pub async fn access_remote_vm(k: &Kernel, mm: MmId, addr: u64, cells: &mut [Option<Cell>], len: u64, write: bool) -> u64 {
    todo!()
}
pub async fn populate_vma_page_range(k: &Kernel, vma: VmaId, start: u64, end: u64, locked: &mut bool) -> KResult<u64> {
    todo!()
}
pub async fn faultin_vma_page_range(k: &Kernel, vma: VmaId, start: u64, end: u64, write: bool, locked: &mut bool) -> KResult<u64> {
    todo!()
}
