// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mprotect.c`.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};

#[derive(Clone, Copy, Default, Debug)]
pub struct CpFlags { pub dirty_acct: bool, pub uffd_wp: bool, pub uffd_wp_resolve: bool }
pub async fn change_protection(k: &Kernel, vma: VmaId, start: u64, end: u64, newprot: PageProt, cp_flags: CpFlags) -> u64 {
    todo!()
}
pub async fn mprotect_fixup(k: &Kernel, vma: VmaId, pprev: &mut Option<VmaId>, start: u64, end: u64, newflags: VmFlags) -> KResult {
    todo!()
}
pub async fn sys_mprotect(k: &Kernel, start: u64, len: u64, prot: Prot) -> KResult {
    todo!()
}
