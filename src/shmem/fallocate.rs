// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c:shmem_fallocate`: preallocation and hole punching.

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, inode_lock, inode_unlock, release, unlock_page};
use crate::mm::page::*;
use crate::mm::zap::unmap_mapping_range;
use crate::patch::SGP_FALLOC;
use crate::shmem::fault::shmem_getpage;
use crate::shmem::inode::{file_inode, i_size_write};
use crate::shmem::truncate::{shmem_truncate_range, shmem_undo_range};
use crate::syscall::FallocMode;
use crate::uffd::handle::wake_up_task;
use smallvec::SmallVec;

/// `spin_lock(&inode->i_lock); inode->i_private = value; spin_unlock(&inode->i_lock);`
async fn publish(k: &Kernel, inode: InodeId, value: Option<ShmemFalloc>) {
    acquire(k, LockId::ILock(inode), LockMode::Write).await;
    k.inode_mut(inode).i_private = value;
    release(k, LockId::ILock(inode), LockMode::Write);
}

/// Look at the fallocate that this task has published, without a lock: in the kernel it is on its stack.
fn with_falloc(k: &Kernel, inode: InodeId, then: impl FnOnce(&mut ShmemFalloc)) {
    if let Some(f) = &mut k.inode_mut(inode).i_private {
        then(f);
    }
}

/// Preallocate a range, or punch a hole.
///
/// Kernel:   mm/shmem.c:shmem_fallocate @ v5.14
/// Fidelity: TRIMMED(RLIMIT_FSIZE, times); the checks of vfs_fallocate are its caller's
/// Locks:    takes and drops the inode lock; i_lock, page locks and the locks of unmapping under it
/// Errors:   EOPNOTSUPP unknown mode; EPERM sealed; ENOSPC more than the mount has; EINTR; ENOMEM; EFBIG
pub async fn shmem_fallocate(k: &Kernel, file: FileId, mode: FallocMode, offset: u64, len: u64) -> KResult {
    let _f = k.enter("shmem_fallocate", || format!("{file} {mode:?} offset={offset} len={len}"));
    let inode = file_inode(k, file);
    let mapping = inode;
    let sb = k.inode(inode).i_sb;
    let max_blocks = sb.map_or(0, |sb| k.sb(sb).max_blocks);
    let mut error: KResult;

    if mode == FallocMode::ZERO_RANGE {
        return Err(EOPNOTSUPP);
    }

    inode_lock(k, inode).await;

    'out: {
        let seals = k.inode(inode).info.seals;
        if mode == FallocMode::PUNCH_HOLE {
            let unmap_start = page_align(offset);
            let unmap_end = page_align_down(offset.wrapping_add(len)).wrapping_sub(1) as i64;

            if seals.intersects(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) {
                k.branch("sealed");
                error = Err(EPERM);
                break 'out;
            }

            // Faults in the range are made to wait from here on: they could otherwise refill the hole as fast as it is punched.
            let shmem_falloc = ShmemFalloc {
                waitq: true,
                waiters: SmallVec::new(),
                start: unmap_start >> PAGE_SHIFT,
                next: (unmap_end.wrapping_add(1) >> PAGE_SHIFT) as u64,
                nr_falloced: 0,
                nr_unswapped: 0,
            };
            publish(k, inode, Some(shmem_falloc)).await;

            if unmap_end as u64 > unmap_start {
                let holelen = (unmap_end as u64).wrapping_add(1).wrapping_sub(unmap_start);
                unmap_mapping_range(k, mapping, unmap_start, holelen, false).await;
            }
            shmem_truncate_range(k, inode, offset, offset.wrapping_add(len).wrapping_sub(1) as i64).await;
            // No second unmapping: unlike a truncation, a punch leaves private copies alone.

            acquire(k, LockId::ILock(inode), LockMode::Write).await;
            let shmem_falloc = k.inode_mut(inode).i_private.take();
            for task in shmem_falloc.map_or(SmallVec::new(), |f| f.waiters) {
                wake_up_task(k, task);
            }
            release(k, LockId::ILock(inode), LockMode::Write);
            error = Ok(());
            break 'out;
        }

        let new_end = offset.wrapping_add(len);
        if seals.contains(F_SEAL_GROW) && new_end > k.inode(inode).i_size {
            k.branch("sealed against growing");
            error = Err(EPERM);
            break 'out;
        }

        let start = offset >> PAGE_SHIFT;
        let end = new_end.wrapping_add(PAGE_SIZE - 1) >> PAGE_SHIFT;
        // A range that cannot fit is not worth swapping for.
        if max_blocks != 0 && end.wrapping_sub(start) > max_blocks as u64 {
            k.branch("more than the mount has");
            error = Err(ENOSPC);
            break 'out;
        }

        let fresh = ShmemFalloc { waitq: false, waiters: SmallVec::new(), start, next: start, nr_falloced: 0, nr_unswapped: 0 };
        publish(k, inode, Some(fresh)).await;

        'undone: {
            let mut index = start;
            while index < end {
                let mut page = None;
                let mut outrun = false;
                with_falloc(k, inode, |f| outrun = f.nr_unswapped > f.nr_falloced);
                if k.task(k.current()).signal_pending {
                    error = Err(EINTR);
                } else if outrun {
                    k.branch("reclaim writes out more than is allocated");
                    error = Err(ENOMEM);
                } else {
                    error = shmem_getpage(k, inode, index, &mut page, SGP_FALLOC).await;
                }
                if error.is_err() {
                    // Take back the pages that were added, which are those that are not Uptodate.
                    if index > start {
                        shmem_undo_range(k, inode, start << PAGE_SHIFT, (index << PAGE_SHIFT) as i64 - 1, true).await;
                    }
                    break 'undone;
                }
                let Some(page) = page else {
                    // SGP_FALLOC gives a page or an error; a NULL pointer would be dereferenced next.
                    crate::BUG_ON!(k, true);
                    break 'undone;
                };

                // Tell writepage how far this has come. The page lock is enough for that.
                let uptodate = PageUptodate(k, page);
                with_falloc(k, inode, |f| {
                    f.next += 1;
                    if !uptodate {
                        f.nr_falloced += 1;
                    }
                });

                // A new page stays not Uptodate, so that it can be told apart if this has to be undone, but reclaim shall write
                // it out and not drop it.
                set_page_dirty(k, page);
                unlock_page(k, page);
                put_page(k, page);
                index += 1;
            }
            error = Ok(());

            if mode != FallocMode::KEEP_SIZE && new_end > k.inode(inode).i_size {
                i_size_write(k, inode, new_end).await;
            }
        }
        publish(k, inode, None).await;
    }
    inode_unlock(k, inode);
    error
}
