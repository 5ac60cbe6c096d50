// SPDX-License-Identifier: GPL-2.0-only
//! base skeleton
#![allow(unused, missing_docs)]
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::memory::VmFaultCtx;
use crate::mm::pgtable::Pmd;
use crate::patch::{McopyAtomicMode, SgpType};
pub async fn shmem_getpage_gfp(k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, sgp: SgpType, vma: Option<VmaId>, vmf: Option<&mut VmFaultCtx>, fault_type: &mut VmFault) -> KResult { todo!() }
pub async fn mfill_atomic_pte(k: &Kernel, dst_mm: MmId, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64, src_addr: u64, page: &mut Option<PageId>, mode: McopyAtomicMode, wp_copy: bool) -> KResult { todo!() }
