// SPDX-License-Identifier: GPL-2.0-only
//! `mm/userfaultfd.c`: the loop around one page, and what no revision of the series touches.

#![allow(unused)] // skeleton: remove this line when the file is filled in
#![allow(missing_docs)] // skeleton

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{Pmd, PteRef};
use crate::patch::McopyAtomicMode;

pub async fn __mcopy_atomic(k: &Kernel, dst_mm: MmId, ctx: CtxId, dst_start: u64, src_start: u64, len: u64, mcopy_mode: McopyAtomicMode, mode: u64) -> KResult<u64> {
    todo!()
}
pub async fn mfill_zeropage_pte(k: &Kernel, dst_mm: MmId, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64) -> KResult {
    todo!()
}
pub async fn mwriteprotect_range(k: &Kernel, dst_mm: MmId, ctx: CtxId, start: u64, len: u64, enable_wp: bool) -> KResult {
    todo!()
}
