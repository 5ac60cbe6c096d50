// SPDX-License-Identifier: GPL-2.0-only
//! The counters of a shmem inode, written one at a time as the kernel does, and reported as they change.

use crate::event::Event;
use crate::kernel::{FileKind, InodeId, Kernel, VmaId};
use crate::mm::locking::{LockId, assert_held};

/// Blocks of 512 bytes in a page.
pub const BLOCKS_PER_PAGE: i64 = 8;

/// `info->alloced += n`.
pub fn alloced_add(k: &Kernel, inode: InodeId, n: i64) {
    assert_held(k, LockId::Info(inode), "info->alloced");
    let now = {
        let mut i = k.inode_mut(inode);
        i.info.alloced += n;
        i.info.alloced
    };
    k.trace(|| Event::Acct { what: "alloced", delta: n, now });
}

/// `info->swapped += n`.
pub fn swapped_add(k: &Kernel, inode: InodeId, n: i64) {
    assert_held(k, LockId::Info(inode), "info->swapped");
    let now = {
        let mut i = k.inode_mut(inode);
        i.info.swapped += n;
        i.info.swapped
    };
    k.trace(|| Event::Acct { what: "swapped", delta: n, now });
}

/// `inode->i_blocks += n`.
pub fn blocks_add(k: &Kernel, inode: InodeId, n: i64) {
    assert_held(k, LockId::Info(inode), "inode->i_blocks");
    let now = {
        let mut i = k.inode_mut(inode);
        i.i_blocks += n;
        i.i_blocks
    };
    k.trace(|| Event::Acct { what: "i_blocks", delta: n, now });
}

/// `file_inode(vma->vm_file)`. A VMA without a file has none: the dangling id is then reported when it is used.
#[inline]
pub fn vma_inode(k: &Kernel, vma: VmaId) -> InodeId {
    match k.vma(vma).vm_file.map(|f| k.file(f).kind) {
        Some(FileKind::Inode(inode)) => inode,
        _ => InodeId::DANGLING,
    }
}
