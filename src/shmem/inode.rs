// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: block accounting, inodes, mounts, sizes, eviction.

use crate::errno::*;
use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, holds, info_lock, info_unlock, release};
use crate::mm::mmap::{vm_enough_memory, vm_unacct_memory};
use crate::mm::zap::unmap_mapping_range;
use crate::point::{Touch, point, point_then, schedule};
use crate::shmem::acct::{BLOCKS_PER_PAGE, alloced_add, blocks_add};
use crate::shmem::truncate::shmem_truncate_range;
use crate::{BUG_ON, VM_BUG_ON, WARN_ON_ONCE};

/// `VM_ACCT`: pages that `size` bytes are charged as.
#[allow(non_snake_case)]
const fn VM_ACCT(size: u64) -> i64 {
    (page_align(size) >> PAGE_SHIFT) as i64
}

// ---- charging: the commit limit and the mount's size --------------------------------------------------------------------

/// Charge a whole object to the commit limit when it is made, unless it reserves nothing.
///
/// Kernel:   mm/shmem.c:shmem_acct_size @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   ENOMEM over the commit limit
pub fn shmem_acct_size(k: &Kernel, flags: VmFlags, size: u64) -> KResult {
    if flags.contains(VM_NORESERVE) { Ok(()) } else { vm_enough_memory(k, VM_ACCT(size)) }
}

/// Give back what [`shmem_acct_size`] took.
///
/// Kernel:   mm/shmem.c:shmem_unacct_size @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn shmem_unacct_size(k: &Kernel, flags: VmFlags, size: u64) {
    if !flags.contains(VM_NORESERVE) {
        vm_unacct_memory(k, VM_ACCT(size));
    }
}

/// Adjust the charge of a whole object to a new size.
///
/// Kernel:   mm/shmem.c:shmem_reacct_size @ v5.14
/// Fidelity: MIRROR
/// Locks:    inode lock held
/// Errors:   ENOMEM over the commit limit
fn shmem_reacct_size(k: &Kernel, flags: VmFlags, oldsize: u64, newsize: u64) -> KResult {
    if !flags.contains(VM_NORESERVE) {
        if VM_ACCT(newsize) > VM_ACCT(oldsize) {
            return vm_enough_memory(k, VM_ACCT(newsize) - VM_ACCT(oldsize));
        } else if VM_ACCT(newsize) < VM_ACCT(oldsize) {
            vm_unacct_memory(k, VM_ACCT(oldsize) - VM_ACCT(newsize));
        }
    }
    Ok(())
}

/// Charge pages of an object that reserved nothing to the commit limit, as they are allocated.
///
/// Kernel:   mm/shmem.c:shmem_acct_block @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   ENOMEM over the commit limit
pub fn shmem_acct_block(k: &Kernel, flags: VmFlags, pages: i64) -> KResult {
    if !flags.contains(VM_NORESERVE) {
        return Ok(());
    }
    vm_enough_memory(k, pages * VM_ACCT(PAGE_SIZE))
}

/// Give back what [`shmem_acct_block`] took.
///
/// Kernel:   mm/shmem.c:shmem_unacct_blocks @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn shmem_unacct_blocks(k: &Kernel, flags: VmFlags, pages: i64) {
    if flags.contains(VM_NORESERVE) {
        vm_unacct_memory(k, pages * VM_ACCT(PAGE_SIZE));
    }
}

/// The mount of an inode, and its limit (0 is unlimited).
fn sbinfo(k: &Kernel, inode: InodeId) -> (Option<SbId>, i64) {
    let i_sb = k.inode(inode).i_sb;
    (i_sb, i_sb.map_or(0, |sb| k.sb(sb).max_blocks))
}

/// `percpu_counter_add(&sbinfo->used_blocks, delta)`.
fn used_blocks_add(k: &Kernel, sb: Option<SbId>, delta: i64) {
    let Some(sb) = sb else { return };
    let now = {
        let mut sb = k.sb_mut(sb);
        sb.used_blocks += delta;
        sb.used_blocks
    };
    k.trace(|| Event::Acct { what: "used_blocks", delta, now });
}

/// Charge pages to the commit limit and to the mount. False: one of the two is full, and nothing is charged.
///
/// Kernel:   mm/shmem.c:shmem_inode_acct_block @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   false is -ENOSPC or -ENOMEM at the caller
pub fn shmem_inode_acct_block(k: &Kernel, inode: InodeId, pages: i64) -> bool {
    let flags = k.inode(inode).info.flags;
    let (sb, max_blocks) = sbinfo(k, inode);

    // An object that was charged as a whole, on a mount without a limit, cannot fail here.
    if (flags.contains(VM_NORESERVE) || max_blocks != 0) && k.should_fail("shmem_inode_acct_block") {
        return false;
    }
    if shmem_acct_block(k, flags, pages).is_err() {
        k.branch("commit limit reached");
        return false;
    }

    'unacct: {
        if max_blocks != 0 {
            let used_blocks = sb.map_or(0, |sb| k.sb(sb).used_blocks);
            if used_blocks > max_blocks - pages {
                k.branch("the mount is full");
                break 'unacct;
            }
            used_blocks_add(k, sb, pages);
        }
        return true;
    }
    shmem_unacct_blocks(k, flags, pages);
    false
}

/// Give back what [`shmem_inode_acct_block`] took.
///
/// Kernel:   mm/shmem.c:shmem_inode_unacct_blocks @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn shmem_inode_unacct_blocks(k: &Kernel, inode: InodeId, pages: i64) {
    let flags = k.inode(inode).info.flags;
    let (sb, max_blocks) = sbinfo(k, inode);

    if max_blocks != 0 {
        used_blocks_add(k, sb, -pages);
    }
    shmem_unacct_blocks(k, flags, pages);
}

// ---- counters of one inode ----------------------------------------------------------------------------------------------

/// Notice pages that mm dropped without telling (clean holes, truncated pages), and give their blocks back. A negative
/// difference is left alone: somebody is between adding a page and counting it.
///
/// Kernel:   mm/shmem.c:shmem_recalc_inode @ v5.14
/// Fidelity: MIRROR
/// Locks:    info->lock held
/// Errors:   none
pub fn shmem_recalc_inode(k: &Kernel, inode: InodeId) {
    let freed = {
        let i = k.inode(inode);
        i.info.alloced - i.info.swapped - i.nrpages
    };
    if freed > 0 {
        alloced_add(k, inode, -freed);
        blocks_add(k, inode, -freed * BLOCKS_PER_PAGE);
        shmem_inode_unacct_blocks(k, inode, freed);
    }
}

/// Account for pages that are in the page cache already (huge page collapse).
///
/// Kernel:   mm/shmem.c:shmem_charge @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops info->lock
/// Errors:   false when the blocks cannot be charged
pub async fn shmem_charge(k: &Kernel, inode: InodeId, pages: i64) -> bool {
    let _f = k.enter("shmem_charge", || format!("{inode} pages={pages}"));
    if !shmem_inode_acct_block(k, inode, pages) {
        return false;
    }

    // nrpages goes first, so that recalc sees a balance.
    k.inode_mut(inode).nrpages += pages;

    info_lock(k, inode).await;
    alloced_add(k, inode, pages);
    blocks_add(k, inode, pages * BLOCKS_PER_PAGE);
    shmem_recalc_inode(k, inode);
    info_unlock(k, inode);
    true
}

/// Take back the accounting of pages that have left the page cache.
///
/// Kernel:   mm/shmem.c:shmem_uncharge @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops info->lock
/// Errors:   none
pub async fn shmem_uncharge(k: &Kernel, inode: InodeId, pages: i64) {
    let _f = k.enter("shmem_uncharge", || format!("{inode} pages={pages}"));
    info_lock(k, inode).await;
    alloced_add(k, inode, -pages);
    blocks_add(k, inode, -pages * BLOCKS_PER_PAGE);
    shmem_recalc_inode(k, inode);
    info_unlock(k, inode);

    shmem_inode_unacct_blocks(k, inode, pages);
}

// ---- size ---------------------------------------------------------------------------------------------------------------

/// `i_size_read`: whoever does not hold the inode lock gets the size of this moment.
#[inline]
pub fn i_size_read(k: &Kernel, inode: InodeId) -> impl Future<Output = u64> {
    point_then(k, Touch::ReadSize(inode), move || k.inode(inode).i_size)
}

/// `i_size_write`, under the inode lock.
pub async fn i_size_write(k: &Kernel, inode: InodeId, size: u64) {
    point(k, Touch::WriteSize(inode)).await;
    k.inode_mut(inode).i_size = size;
    k.trace(|| Event::Size { inode, size });
}

/// Change the size: what ftruncate(2) comes down to.
///
/// Kernel:   mm/shmem.c:shmem_setattr @ v5.14
/// Fidelity: TRIMMED(modes, owners, times, ACLs)
/// Locks:    inode lock held by the caller (do_truncate)
/// Errors:   EPERM sealed against this change; ENOMEM over the commit limit
pub async fn shmem_setattr(k: &Kernel, inode: InodeId, newsize: u64) -> KResult {
    let _f = k.enter("shmem_setattr", || format!("{inode} newsize={newsize}"));
    // notify_change(), through which every caller comes, warns of this.
    WARN_ON_ONCE!(k, !holds(k, LockId::Inode(inode)));
    let info = k.inode(inode).info.clone();
    let oldsize = k.inode(inode).i_size;

    if (newsize < oldsize && info.seals.contains(F_SEAL_SHRINK)) || (newsize > oldsize && info.seals.contains(F_SEAL_GROW)) {
        k.branch("sealed");
        return Err(EPERM);
    }

    if newsize != oldsize {
        let error = shmem_reacct_size(k, info.flags, oldsize, newsize);
        if error.is_err() {
            return error;
        }
        i_size_write(k, inode, newsize).await;
    }
    if newsize <= oldsize {
        let holebegin = page_align(newsize);
        if oldsize > holebegin {
            unmap_mapping_range(k, inode, holebegin, 0, true).await;
        }
        if k.inode(inode).info.alloced != 0 {
            shmem_truncate_range(k, inode, newsize, -1).await;
        }
        // Once more: a private page may have been copied from the file after the first round and before the truncation.
        if oldsize > holebegin {
            unmap_mapping_range(k, inode, holebegin, 0, true).await;
        }
    }
    Ok(())
}

// ---- inodes and mounts --------------------------------------------------------------------------------------------------

/// Drop all pages and swap of an inode that nobody can reach any more.
///
/// Kernel:   mm/shmem.c:shmem_evict_inode @ v5.14
/// Fidelity: TRIMMED(huge-page shrink list, xattrs, inode number quota; AS_EXITING, which shmem sets only since v5.18)
/// Locks:    none held that order before the page lock; takes and drops shmem_swaplist_mutex
/// Errors:   none; blocks that are left over are reported
pub async fn shmem_evict_inode(k: &Kernel, inode: InodeId) {
    let _f = k.enter("shmem_evict_inode", || format!("{inode}"));
    if k.inode(inode).kind == InodeKind::Shmem {
        let (flags, i_size) = {
            let i = k.inode(inode);
            (i.info.flags, i.i_size)
        };
        shmem_unacct_size(k, flags, i_size);
        k.inode_mut(inode).i_size = 0;
        k.trace(|| Event::Size { inode, size: 0 });
        shmem_truncate_range(k, inode, 0, -1).await;
        while k.inode(inode).info.swaplist {
            // shmem_unuse() may be scanning this inode without the mutex: wait until it has finished.
            while k.inode(inode).info.stop_eviction != 0 {
                k.branch("swapoff is scanning the inode");
                let current = k.current();
                k.inode_mut(inode).info.evict_waiter = Some(current);
                k.task_mut(current).state = TaskState::Uninterruptible;
                schedule(k).await;
            }
            acquire(k, LockId::ShmemSwaplist, LockMode::Write).await;
            // It may have begun again between the look and the mutex.
            if k.inode(inode).info.stop_eviction == 0 {
                k.inode_mut(inode).info.swaplist = false;
            }
            release(k, LockId::ShmemSwaplist, LockMode::Write);
        }
    }

    let i_blocks = k.inode(inode).i_blocks;
    if i_blocks != 0 {
        k.report(Symptom::EvictBlocks, || format!("WARN_ON(inode->i_blocks): {inode} has i_blocks {i_blocks}"));
    }
}

/// Make an inode on a mount, with one link and one reference, which belongs to the caller.
///
/// Kernel:   mm/shmem.c:shmem_get_inode @ v5.14
/// Fidelity: TRIMMED(modes, inode numbers and their limit, memory policy, directories)
/// Locks:    none
/// Errors:   none (the kernel's ENOSPC is the inode limit of the mount)
pub fn shmem_get_inode(k: &Kernel, sb: SbId, flags: VmFlags) -> InodeId {
    k.sm().inodes.insert(Inode {
        kind: InodeKind::Shmem,
        i_count: 1,
        i_nlink: 1,
        i_sb: Some(sb),
        // Nothing can be sealed unless memfd_create takes this one away.
        info: ShmemInodeInfo { seals: F_SEAL_SEAL, flags: flags & VM_NORESERVE, ..ShmemInodeInfo::default() },
        ..Inode::default()
    })
}

/// Drop a reference to an inode. The last one of an inode without links evicts it.
///
/// Kernel:   fs/inode.c:iput, iput_final, evict @ v5.14
/// Fidelity: TRIMMED(no inode cache: an inode with links stays)
/// Locks:    none held that order before the page lock
/// Errors:   none
pub async fn iput(k: &Kernel, inode: InodeId) {
    let (i_count, i_nlink) = {
        let mut i = k.inode_mut(inode);
        i.i_count -= 1;
        (i.i_count, i.i_nlink)
    };
    VM_BUG_ON!(k, i_count < 0);
    if i_count > 0 || i_nlink > 0 {
        return;
    }
    shmem_evict_inode(k, inode).await;
    // clear_inode()
    BUG_ON!(k, k.inode(inode).nrpages != 0);
    k.sm().inodes.remove(inode);
}

/// `shm_mnt`: the kernel-internal mount behind memfd and shared anonymous memory. It has no limit. Made when first needed.
pub fn shmem_kernel_mount(k: &Kernel) -> SbId {
    let internal = {
        let s = k.s();
        s.sbs.iter().map(|(id, _)| id).find(|&id| Some(id) != s.mnt)
    };
    match internal {
        Some(sb) => sb,
        None => k.sm().sbs.insert(SuperBlock::default()),
    }
}

/// `file_inode`. A userfaultfd and /proc/PID/mem have no inode in the model: the answer is then the dangling id.
pub fn file_inode(k: &Kernel, file: FileId) -> InodeId {
    match k.file(file).kind {
        FileKind::Inode(inode) => inode,
        FileKind::Userfaultfd(_) | FileKind::ProcMem(_) => InodeId::DANGLING,
    }
}
