// SPDX-License-Identifier: GPL-2.0-only
//! Memory management: one file per kernel file, functions in the kernel's order.

pub mod exit;
pub mod fault;
pub mod filemap;
pub mod fork;
pub mod gup;
pub mod locking;
pub mod madvise;
pub mod memory;
pub mod mincore;
pub mod mlock;
pub mod mmap;
pub mod mprotect;
pub mod mremap;
mod mremap_vrm;
pub mod page;
pub mod page_alloc;
pub mod page_io;
pub mod pgtable;
pub mod rmap;
pub mod swap_state;
pub mod swapfile;
pub mod uaccess;
pub mod vma_merge;
pub mod vmscan;
pub mod zap;
