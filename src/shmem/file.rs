// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`: files on the internal mount, read, write, seek, stat; `mm/memfd.c`: memfd_create and seals.

use crate::delta::Delta;
use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{info_lock, info_unlock, inode_lock, inode_unlock, unlock_page};
use crate::mm::page::*;
use crate::mm::uaccess::{copy_from_user, copy_to_user, fault_in_pages_readable, pagefault_disable, pagefault_enable};
use crate::patch::{SGP_READ, SGP_WRITE};
use crate::point::{Touch, point};
use crate::shmem::cache::xas_find;
use crate::shmem::fault::shmem_getpage;
use crate::shmem::inode::{
    file_inode, i_size_read, i_size_write, shmem_acct_size, shmem_get_inode, shmem_kernel_mount, shmem_recalc_inode,
};
use crate::shmem::truncate::zero_user_segment;

// ---- files on the internal mount ----------------------------------------------------------------------------------------

/// Make an unlinked file of a given size on the kernel-internal mount, open for reading and writing.
///
/// Kernel:   mm/shmem.c:__shmem_file_setup @ v5.14
/// Fidelity: TRIMMED(names; the allocations of the inode and the file do not fail)
/// Locks:    none
/// Errors:   EINVAL too large; ENOMEM over the commit limit
fn __shmem_file_setup(k: &Kernel, size: u64, flags: VmFlags) -> KResult<FileId> {
    if size > MAX_LFS_FILESIZE {
        return Err(EINVAL);
    }

    if shmem_acct_size(k, flags, size).is_err() {
        return Err(ENOMEM);
    }

    let sb = shmem_kernel_mount(k);
    let inode = shmem_get_inode(k, sb, flags);
    {
        let mut i = k.inode_mut(inode);
        i.i_size = size;
        // clear_nlink()
        i.i_nlink = 0;
    }

    // alloc_file_pseudo(): the file takes over the reference.
    let file = File { kind: FileKind::Inode(inode), f_count: 1, f_mode_read: true, f_mode_write: true, ..File::default() };
    Ok(k.sm().files.insert(file))
}

/// A file for the kernel's own use (shared anonymous memory).
///
/// Kernel:   mm/shmem.c:shmem_kernel_file_setup @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   ENOMEM over the commit limit
pub(crate) fn shmem_kernel_file_setup(k: &Kernel, size: u64, flags: VmFlags) -> KResult<FileId> {
    __shmem_file_setup(k, size, flags)
}

/// A file for user space (memfd).
///
/// Kernel:   mm/shmem.c:shmem_file_setup @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   ENOMEM over the commit limit
fn shmem_file_setup(k: &Kernel, size: u64, flags: VmFlags) -> KResult<FileId> {
    __shmem_file_setup(k, size, flags)
}

/// `memfd_create`: an empty unlinked file. The caller installs the descriptor.
///
/// Kernel:   mm/memfd.c:SYSCALL_DEFINE2(memfd_create) @ v5.14
/// Fidelity: TRIMMED(names, MFD_HUGETLB; the descriptor is the caller's)
/// Locks:    none
/// Errors:   none in practice (the file is empty)
pub async fn sys_memfd_create(k: &Kernel, sealing: bool) -> KResult<FileId> {
    let _f = k.enter("memfd_create", || format!("sealing={sealing}"));
    let file = match shmem_file_setup(k, 0, VM_NORESERVE) {
        Ok(file) => file,
        Err(error) => return Err(error),
    };

    if sealing {
        let inode = file_inode(k, file);
        k.inode_mut(inode).info.seals -= F_SEAL_SEAL;
        k.file_mut(file).sealable = true;
    }
    Ok(file)
}

// ---- read ---------------------------------------------------------------------------------------------------------------

/// Read into user memory, without any lock. `data` gets the watched bytes of the first page from `pos` on, as far as they were
/// read: `data[i]` is the byte at `pos + CELL_AT[i]`.
///
/// Kernel:   mm/shmem.c:shmem_file_read_iter @ v5.14
/// Fidelity: TRIMMED(readers other than read(2))
/// Locks:    none held over the copy; takes and drops page locks
/// Errors:   EFAULT nothing could be copied; ENOMEM, EIO from swap-in
pub async fn shmem_file_read_iter(
    k: &Kernel,
    file: FileId,
    buf: u64,
    count: u64,
    pos: u64,
    data: &mut [Option<Cell>; CELLS],
) -> KResult<i64> {
    let _f = k.enter("shmem_file_read_iter", || format!("{file} pos={pos} count={count}"));
    let inode = file_inode(k, file);
    let mut error = Ok(());
    let mut retval: u64 = 0;

    let mut index = pos >> PAGE_SHIFT;
    let mut offset = pos & (PAGE_SIZE - 1);

    loop {
        let mut page = None;

        let mut i_size = i_size_read(k, inode).await;
        let mut end_index = i_size >> PAGE_SHIFT;
        if index > end_index {
            break;
        }
        if index == end_index {
            let nr = i_size & (PAGE_SIZE - 1);
            if nr <= offset {
                break;
            }
        }

        if let Err(e) = shmem_getpage(k, inode, index, &mut page, SGP_READ).await {
            if e != EINVAL {
                error = Err(e);
            }
            break;
        }
        if let Some(page) = page {
            unlock_page(k, page);
        }

        // Look at the size again after the page: a reader is not protected against truncation.
        let mut nr = PAGE_SIZE;
        i_size = i_size_read(k, inode).await;
        end_index = i_size >> PAGE_SHIFT;
        if index == end_index {
            nr = i_size & (PAGE_SIZE - 1);
            if nr <= offset {
                k.branch("the file was truncated meanwhile");
                if let Some(page) = page {
                    put_page(k, page);
                }
                break;
            }
        }
        nr -= offset;

        // A hole is copied from the zero page.
        if let Some(page) = page
            && offset == 0
        {
            mark_page_accessed(k, page);
        }

        // copy_page_to_iter()
        let n = nr.min(count - retval);
        // page_copy_sane()
        crate::VM_BUG_ON!(k, offset + n > PAGE_SIZE);
        let ret = n - copy_to_user(k, buf.wrapping_add(retval), page, offset, n).await;
        let cells = page.map_or(ZERO_CELLS, |page| k.page(page).cells);
        for (cell, at) in data.iter_mut().zip(CELL_AT) {
            // at - retval is where in this chunk the byte stands.
            if let Some(i) = at.checked_sub(retval).filter(|&d| d < ret).and_then(|d| cell_at(offset + d)) {
                *cell = Some(cells[i]);
            }
        }
        retval += ret;
        offset += ret;
        index += offset >> PAGE_SHIFT;
        offset &= PAGE_SIZE - 1;

        if let Some(page) = page {
            put_page(k, page);
        }
        if retval == count {
            break;
        }
        if ret < nr {
            error = Err(EFAULT);
            break;
        }
    }

    if retval != 0 { Ok(retval as i64) } else { error.map(|()| 0) }
}

// ---- write --------------------------------------------------------------------------------------------------------------

/// Get the page that a write goes to: locked and with a reference.
///
/// Kernel:   mm/shmem.c:shmem_write_begin @ v5.14
/// Fidelity: MIRROR
/// Locks:    inode lock held; the page comes back locked
/// Errors:   EPERM sealed; ENOSPC; ENOMEM; EIO; EFBIG
async fn shmem_write_begin(k: &Kernel, inode: InodeId, pos: u64, len: u64, pagep: &mut Option<PageId>) -> KResult {
    let index = pos >> PAGE_SHIFT;
    let seals = k.inode(inode).info.seals;

    if seals.intersects(F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) {
        if seals.intersects(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) {
            k.branch("sealed against writing");
            return Err(EPERM);
        }
        if seals.contains(F_SEAL_GROW) && pos + len > k.inode(inode).i_size {
            k.branch("sealed against growing");
            return Err(EPERM);
        }
    }

    shmem_getpage(k, inode, index, pagep, SGP_WRITE).await
}

/// Finish the write to one page: size, the rest of a new page, flags; unlock and put it.
///
/// Kernel:   mm/shmem.c:shmem_write_end @ v5.14
/// Fidelity: TRIMMED(huge pages)
/// Locks:    inode lock held; page lock held on entry, dropped
/// Errors:   none; the number of bytes that count
async fn shmem_write_end(k: &Kernel, inode: InodeId, pos: u64, copied: u64, page: PageId) -> u64 {
    if pos + copied > k.inode(inode).i_size {
        i_size_write(k, inode, pos + copied).await;
    }

    if !PageUptodate(k, page) {
        if copied < PAGE_SIZE {
            let from = pos & (PAGE_SIZE - 1);
            zero_user_segment(k, page, 0, from).await;
            zero_user_segment(k, page, from + copied, PAGE_SIZE).await;
        }
        SetPageUptodate(k, page);
    }
    set_page_dirty(k, page);
    unlock_page(k, page);
    put_page(k, page);

    copied
}

/// Write page by page. The source must not fault while the destination page is locked, since it may be that very page: it is
/// faulted in first, and copied with page faults disabled; what could not be copied then is tried again.
/// WRITE_FAULTS_IN_AFTER: it is faulted in only when nothing could be copied, with the page in the cache and unlocked by then.
///
/// Kernel:   mm/filemap.c:generic_perform_write @ v5.14
/// Fidelity: TRIMMED(dirty page balancing)
/// Locks:    inode lock held; page locks as write_begin and write_end
/// Errors:   EFAULT the source cannot be read; EINTR a fatal signal; those of write_begin
async fn generic_perform_write(k: &Kernel, inode: InodeId, from: u64, count: u64, mut pos: u64) -> KResult<i64> {
    let _f = k.enter("generic_perform_write", || format!("{inode} pos={pos} count={count}"));
    let fault_in_after = k.has(Delta::WRITE_FAULTS_IN_AFTER);
    let mut status = Ok(0);
    let mut written: u64 = 0;

    'out: loop {
        let offset = pos & (PAGE_SIZE - 1);
        let mut bytes = (PAGE_SIZE - offset).min(count - written);

        let copied = 'again: loop {
            let src = from.wrapping_add(written);
            if !fault_in_after && fault_in_pages_readable(k, src, bytes).await.is_err() {
                status = Err(EFAULT);
                break 'out;
            }

            if k.task(k.current()).fatal_signal_pending {
                status = Err(EINTR);
                break 'out;
            }

            let mut page = None;
            if let Err(error) = shmem_write_begin(k, inode, pos, bytes, &mut page).await {
                status = Err(error);
                break 'out;
            }
            let Some(page) = page else {
                // SGP_WRITE gives a page or an error; a NULL pointer would be dereferenced next.
                crate::BUG_ON!(k, true);
                break 'out;
            };

            // copy_page_from_iter_atomic()
            pagefault_disable(k);
            // page_copy_sane()
            crate::VM_BUG_ON!(k, offset + bytes > PAGE_SIZE);
            let copied = bytes - copy_from_user(k, page, offset, src, bytes).await;
            pagefault_enable(k);

            let copied = shmem_write_end(k, inode, pos, copied, page).await;
            if copied != 0 {
                break 'again copied;
            }
            k.branch("nothing was copied with page faults disabled: again");
            if k.endless("generic_perform_write") {
                status = Err(EFAULT);
                break 'out;
            }
            if fault_in_after && fault_in_pages_readable(k, src, bytes).await.is_err() {
                status = Err(EFAULT);
                break 'out;
            }
            bytes = (PAGE_SIZE - offset).min(count - written);
        };
        pos += copied;
        written += copied;
        if written == count {
            break;
        }
    }

    if written != 0 { Ok(written as i64) } else { status }
}

/// Write from user memory.
///
/// Kernel:   mm/filemap.c:generic_file_write_iter, fs/read_write.c:generic_write_checks @ v5.14
/// Fidelity: TRIMMED(O_APPEND, O_DIRECT, RLIMIT_FSIZE, privileges, times)
/// Locks:    takes and drops the inode lock
/// Errors:   EFBIG at the largest size; those of generic_perform_write
pub async fn shmem_file_write_iter(k: &Kernel, file: FileId, buf: u64, count: u64, pos: u64) -> KResult<i64> {
    let _f = k.enter("generic_file_write_iter", || format!("{file} pos={pos} count={count}"));
    let inode = file_inode(k, file);

    inode_lock(k, inode).await;
    let ret = if count == 0 {
        Ok(0)
    } else if pos >= MAX_LFS_FILESIZE {
        Err(EFBIG)
    } else {
        generic_perform_write(k, inode, buf, count.min(MAX_LFS_FILESIZE - pos), pos).await
    };
    inode_unlock(k, inode);
    ret
}

// ---- seek ---------------------------------------------------------------------------------------------------------------

/// Find the next data, or the next hole, from `start` on. A swapped page is data; a page that fallocate added is a hole.
///
/// Kernel:   mm/filemap.c:mapping_seek_hole_data, page_seek_hole_data @ v5.14
/// Fidelity: TRIMMED(huge pages, partially valid pages)
/// Locks:    none needed (RCU); the caller holds the inode lock
/// Errors:   ENXIO past the end, or no data up to the end
async fn mapping_seek_hole_data(k: &Kernel, mapping: InodeId, start: u64, end: u64, seek_data: bool) -> KResult<u64> {
    let mut start = start;
    if end <= start {
        return Err(ENXIO);
    }
    let max = (end - 1) >> PAGE_SHIFT;
    let mut index = start >> PAGE_SHIFT;

    'unlock: {
        loop {
            point(k, Touch::ReadSlots(mapping, index, max)).await;
            let Some((at, entry)) = xas_find(k, mapping, index, max) else {
                break;
            };
            let mut pos = at << PAGE_SHIFT;

            if start < pos {
                if !seek_data {
                    break 'unlock;
                }
                start = pos;
            }

            pos += PAGE_SIZE;
            let data = match entry {
                SlotVal::Swap(_) => true,
                SlotVal::Page(page) => PageUptodate(k, page),
            };
            start = if data == seek_data { start } else { pos };
            if start < pos {
                break 'unlock;
            }
            if start >= end {
                break;
            }
            index = at + 1;
        }
        if seek_data {
            return Err(ENXIO);
        }
    }
    if start > end {
        return Ok(end);
    }
    Ok(start)
}

/// `lseek` with SEEK_DATA or SEEK_HOLE.
///
/// Kernel:   mm/shmem.c:shmem_file_llseek @ v5.14
/// Fidelity: TRIMMED(the other whences)
/// Locks:    takes and drops the inode lock
/// Errors:   ENXIO past the end, or no data up to the end
pub async fn shmem_file_llseek(k: &Kernel, file: FileId, offset: u64, data: bool) -> KResult<i64> {
    let _f = k.enter("shmem_file_llseek", || format!("{file} offset={offset} data={data}"));
    let inode = file_inode(k, file);

    if (offset as i64) < 0 {
        return Err(ENXIO);
    }

    inode_lock(k, inode).await;
    let i_size = k.inode(inode).i_size;
    let offset = mapping_seek_hole_data(k, inode, offset, i_size, data).await;
    if let Ok(offset) = offset {
        // vfs_setpos()
        k.file_mut(file).f_pos = offset;
    }
    inode_unlock(k, inode);
    offset.map(|offset| offset as i64)
}

// ---- seals --------------------------------------------------------------------------------------------------------------

/// How often pinned pages are looked at before giving up, counted from 0.
const LAST_SCAN: u32 = 4;

/// Has somebody a reference besides the page cache and the PTEs?
fn pinned(k: &Kernel, page: PageId) -> bool {
    page_count(k, page) - page_mapcount(k, page) != 1
}

/// Find pages that somebody has a reference to, who may write to them later.
///
/// Kernel:   mm/memfd.c:memfd_tag_pins @ v5.14
/// Fidelity: MODEL(the marks of the xarray are a list)
/// Locks:    inode lock held; xa_lock is one step
/// Errors:   none
fn memfd_tag_pins(k: &Kernel, mapping: InodeId) -> Vec<u64> {
    lru_add_drain(k);

    let slots: Vec<_> = k.inode(mapping).i_pages.iter().collect();
    let mut tagged = Vec::new();
    for (index, entry) in slots {
        if let SlotVal::Page(page) = entry
            && page_count(k, page) - page_mapcount(k, page) > 1
        {
            tagged.push(index as u64);
        }
    }
    tagged
}

/// Wait a while for references to go away.
///
/// Kernel:   mm/memfd.c:memfd_wait_for_pins @ v5.14
/// Fidelity: MODEL(the delays are preemption points)
/// Locks:    inode lock held; xa_lock is one step
/// Errors:   EBUSY a reference stays
async fn memfd_wait_for_pins(k: &Kernel, mapping: InodeId) -> KResult {
    let mut tagged = memfd_tag_pins(k, mapping);

    let mut error = Ok(());
    let mut scan = 0;
    while scan <= LAST_SCAN {
        let Some(&first) = tagged.first() else {
            break;
        };

        // schedule_timeout_killable(), from the second time on.
        point(k, Touch::ReadSlots(mapping, first, u64::MAX)).await;
        if scan == 0 {
            lru_add_drain(k);
        } else if k.task(k.current()).fatal_signal_pending {
            scan = LAST_SCAN;
        }

        let mut left = Vec::new();
        for index in tagged {
            // A slot that is empty by now, or holds a swap value, is not marked any more, or passed over.
            let Some((_, SlotVal::Page(page))) = xas_find(k, mapping, index, index) else {
                continue;
            };
            if pinned(k, page) {
                if scan == LAST_SCAN {
                    k.branch("a page is still pinned");
                    error = Err(EBUSY);
                } else {
                    left.push(index);
                }
            }
        }
        tagged = left;
        scan += 1;
    }
    error
}

/// `mapping_deny_writable`: from now on no shared writable mapping, if there is none now.
fn mapping_deny_writable(k: &Kernel, mapping: InodeId) -> KResult {
    let mut i = k.inode_mut(mapping);
    if i.i_mmap_writable > 0 {
        return Err(EBUSY);
    }
    i.i_mmap_writable -= 1;
    Ok(())
}

/// `mapping_allow_writable`.
fn mapping_allow_writable(k: &Kernel, mapping: InodeId) {
    k.inode_mut(mapping).i_mmap_writable += 1;
}

/// `fcntl(F_ADD_SEALS)`.
///
/// Kernel:   mm/memfd.c:memfd_add_seals @ v5.14
/// Fidelity: TRIMMED(hugetlbfs)
/// Locks:    takes and drops the inode lock
/// Errors:   EPERM not open for writing, or no more seals; EINVAL not a shmem file; EBUSY mapped writable, or pinned
pub async fn memfd_add_seals(k: &Kernel, file: FileId, seals: Seals) -> KResult {
    let _f = k.enter("memfd_add_seals", || format!("{file} {seals:?}"));
    let inode = file_inode(k, file);
    let mut error: KResult;

    if !k.file(file).f_mode_write {
        return Err(EPERM);
    }

    if seals.bits() & !Seals::all().bits() != 0 {
        return Err(EINVAL);
    }

    // The kernel asks under the inode lock; what the model has no inode for has no lock either.
    let is_shmem = matches!(k.file(file).kind, FileKind::Inode(i) if k.inode(i).kind == InodeKind::Shmem);
    if !is_shmem {
        return Err(EINVAL);
    }

    inode_lock(k, inode).await;

    'unlock: {
        let file_seals = k.inode(inode).info.seals;
        if file_seals.contains(F_SEAL_SEAL) {
            error = Err(EPERM);
            break 'unlock;
        }

        if seals.contains(F_SEAL_WRITE) && !file_seals.contains(F_SEAL_WRITE) {
            error = mapping_deny_writable(k, inode);
            if error.is_err() {
                k.branch("there is a shared writable mapping");
                break 'unlock;
            }

            error = memfd_wait_for_pins(k, inode).await;
            if error.is_err() {
                mapping_allow_writable(k, inode);
                break 'unlock;
            }
        }

        k.inode_mut(inode).info.seals |= seals;
        error = Ok(());
    }
    inode_unlock(k, inode);
    error
}

// ---- stat ---------------------------------------------------------------------------------------------------------------

/// `fstat`: size in bytes, blocks of 512 bytes.
///
/// Kernel:   mm/shmem.c:shmem_getattr @ v5.14
/// Fidelity: TRIMMED(the other attributes)
/// Locks:    takes and drops info->lock
/// Errors:   none
pub async fn shmem_getattr(k: &Kernel, inode: InodeId) -> (u64, i64) {
    let unbalanced = {
        let i = k.inode(inode);
        i.info.alloced - i.info.swapped != i.nrpages
    };
    if unbalanced {
        info_lock(k, inode).await;
        shmem_recalc_inode(k, inode);
        info_unlock(k, inode);
    }
    let i_size = i_size_read(k, inode).await;
    let i_blocks = k.inode(inode).i_blocks;
    (i_size, i_blocks)
}

/// `fstatfs`: all blocks and free blocks of the mount, in pages; zeroes without a limit.
///
/// Kernel:   mm/shmem.c:shmem_statfs @ v5.14
/// Fidelity: TRIMMED(inodes)
/// Locks:    none
/// Errors:   none
pub fn shmem_statfs(k: &Kernel, inode: InodeId) -> (i64, i64) {
    let Some(sb) = k.inode(inode).i_sb else {
        return (0, 0);
    };
    let sb = k.sb(sb);
    if sb.max_blocks == 0 {
        return (0, 0);
    }
    (sb.max_blocks, sb.max_blocks - sb.used_blocks)
}
