// SPDX-License-Identifier: GPL-2.0-only
//! What a revision may call: the same names in every file, so that a diff between two revisions shows the patch and nothing else.

pub(crate) use super::{McopyAtomicMode, McopyAtomicMode::*, SgpType, SgpType::*, UffdFlags, uffd_flags_mode_is};
pub(crate) use crate::errno::*;
pub(crate) use crate::flags::*;
pub(crate) use crate::kernel::*;
pub(crate) use crate::mm::filemap::{delete_from_page_cache, find_get_entry, find_lock_entry, find_lock_page};
pub(crate) use crate::mm::locking::{__SetPageLocked, info_lock, info_unlock, lock_page, unlock_page};
pub(crate) use crate::mm::memory::{VmFaultCtx, vma_is_anonymous, vma_is_shmem};
pub(crate) use crate::mm::mlock::mlock_vma_folio;
pub(crate) use crate::mm::page::*;
pub(crate) use crate::mm::page_alloc::alloc_page;
pub(crate) use crate::mm::pgtable::*;
pub(crate) use crate::mm::rmap::{linear_page_index, page_add_file_rmap, page_add_new_anon_rmap};
pub(crate) use crate::mm::uaccess::{copy_from_user, pagefault_disable, pagefault_enable};
pub(crate) use crate::shmem::acct::{BLOCKS_PER_PAGE, alloced_add, blocks_add, vma_inode};
pub(crate) use crate::shmem::cache::{shmem_add_to_page_cache, shmem_alloc_and_acct_page, shmem_alloc_page, shmem_swapin_page};
pub(crate) use crate::shmem::fault::shmem_getpage;
pub(crate) use crate::shmem::inode::{
    file_inode, i_size_read, shmem_inode_acct_block, shmem_inode_unacct_blocks, shmem_recalc_inode, shmem_uncharge,
};
pub(crate) use crate::uffd::handle::handle_userfault;
pub(crate) use crate::uffd::mcopy::mfill_zeropage_pte;
pub(crate) use crate::uffd::vma::{userfaultfd_minor, userfaultfd_missing};
pub(crate) use crate::{VM_BUG_ON, WARN_ON_ONCE, ladder};
