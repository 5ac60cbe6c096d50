// SPDX-License-Identifier: GPL-2.0-only
//! What can be told about shmem without page tables: accounting, the page cache, seeking.

use crate::errno::*;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, holds, info_lock, info_unlock};
use crate::mm::page::*;
use crate::mm::page_alloc::alloc_page;
use crate::point::run_through as run;
use crate::shmem::acct::{BLOCKS_PER_PAGE, alloced_add, blocks_add};
use crate::shmem::cache::{shmem_add_to_page_cache, shmem_alloc_and_acct_page, shmem_delete_from_page_cache};
use crate::shmem::file::{shmem_file_llseek, shmem_getattr, shmem_statfs};
use crate::shmem::inode::*;
use crate::shmem::truncate::zero_user_segment;

/// Run to the end: nothing here may have to wait.
/// A kernel with a task, a mount of `max_blocks` pages, and an inode on it that was charged as a whole.
fn kernel(max_blocks: i64) -> (Kernel, InodeId, FileId) {
    let k = Kernel::default();
    let group = k.sm().procs.insert(Process::default());
    let task = k.sm().tasks.insert(Task { group, ..Task::default() });
    k.run.current.set(Some(task));
    let sb = k.sm().sbs.insert(SuperBlock { max_blocks, ..SuperBlock::default() });
    k.sm().mnt = Some(sb);
    let inode = shmem_get_inode(&k, sb, VmFlags::empty());
    let file = k.sm().files.insert(File { kind: FileKind::Inode(inode), f_count: 1, ..File::default() });
    (k, inode, file)
}

/// What shmem_getpage_gfp does with a hole.
async fn add_page(k: &Kernel, inode: InodeId, index: u64) -> KResult<PageId> {
    let page = match shmem_alloc_and_acct_page(k, inode).await {
        Ok(page) => page,
        Err(error) => return Err(error),
    };
    if let Err(error) = shmem_add_to_page_cache(k, page, inode, index, None).await {
        shmem_inode_unacct_blocks(k, inode, 1);
        crate::mm::locking::unlock_page(k, page);
        put_page(k, page);
        return Err(error);
    }
    info_lock(k, inode).await;
    alloced_add(k, inode, 1);
    blocks_add(k, inode, BLOCKS_PER_PAGE);
    shmem_recalc_inode(k, inode);
    info_unlock(k, inode);
    crate::mm::locking::unlock_page(k, page);
    put_page(k, page);
    Ok(page)
}

#[test]
fn a_full_mount_refuses_blocks_and_recalc_finds_dropped_ones() {
    let (k, inode, _) = kernel(2);
    let page = run(add_page(&k, inode, 0)).unwrap();
    run(add_page(&k, inode, 1)).unwrap();
    assert_eq!(run(add_page(&k, inode, 2)), Err(ENOSPC));
    assert_eq!(shmem_statfs(&k, inode), (2, 0));
    assert_eq!(run(shmem_getattr(&k, inode)), (0, 16));

    // Reclaim drops a clean page behind the file's back; stat notices.
    k.inode_mut(inode).i_pages.set(0, None);
    k.inode_mut(inode).nrpages -= 1;
    k.page_mut(page).mapping = PageMapping::None;
    put_page(&k, page);
    assert_eq!(run(shmem_getattr(&k, inode)), (0, 8));
    assert_eq!(shmem_statfs(&k, inode), (2, 1));
    assert!(!holds(&k, LockId::Info(inode)));
    assert!(k.run.findings.borrow().is_empty());
}

#[test]
fn an_occupied_slot_is_left_alone() {
    let (k, inode, _) = kernel(0);
    let page = run(add_page(&k, inode, 3)).unwrap();
    assert_eq!(run(add_page(&k, inode, 3)), Err(EEXIST));
    assert_eq!(k.inode(inode).i_pages.get(3), Some(SlotVal::Page(page)));
    assert_eq!(k.inode(inode).nrpages, 1);
    assert_eq!(page_count(&k, page), 1);

    // Out to swap and back: only the expected value lets a page in.
    run(shmem_delete_from_page_cache(&k, page, SwpEntry(7)));
    assert_eq!(k.inode(inode).i_pages.get(3), Some(SlotVal::Swap(SwpEntry(7))));
    let back = run(alloc_page(&k, "test")).unwrap();
    crate::mm::locking::__SetPageLocked(&k, back);
    __SetPageSwapBacked(&k, back);
    assert_eq!(run(shmem_add_to_page_cache(&k, back, inode, 3, Some(SwpEntry(8)))), Err(EEXIST));
    assert_eq!((k.page(back).mapping, page_count(&k, back)), (PageMapping::None, 1));
    assert_eq!(run(shmem_add_to_page_cache(&k, back, inode, 3, Some(SwpEntry(7)))), Ok(()));
    assert_eq!((k.page(back).mapping, page_count(&k, back)), (PageMapping::Inode(inode), 2));
    assert!(k.run.findings.borrow().is_empty());
}

#[test]
fn seek_takes_fallocated_pages_for_holes_and_swap_for_data() {
    let (k, inode, file) = kernel(0);
    k.inode_mut(inode).i_size = 5 * PAGE_SIZE - 100;
    let page = run(add_page(&k, inode, 1)).unwrap();
    SetPageUptodate(&k, page);
    run(add_page(&k, inode, 2)).unwrap();
    k.inode_mut(inode).i_pages.set(3, Some(SlotVal::Swap(SwpEntry(0))));
    let seek = |offset, data| run(shmem_file_llseek(&k, file, offset, data));
    assert_eq!(seek(0, true), Ok(4096));
    assert_eq!(seek(0, false), Ok(0));
    assert_eq!(seek(5000, true), Ok(5000));
    assert_eq!(seek(5000, false), Ok(8192));
    assert_eq!(seek(8192, true), Ok(3 * 4096));
    assert_eq!(seek(3 * 4096, false), Ok(4 * 4096));
    assert_eq!(seek(4 * 4096, true), Err(ENXIO));
    assert_eq!(seek(5 * 4096 - 100, false), Err(ENXIO));
    k.inode_mut(inode).i_pages.set(4, Some(SlotVal::Swap(SwpEntry(1))));
    assert_eq!(seek(4 * 4096, false), Ok(5 * 4096 - 100));
}

#[test]
fn zeroing_hits_the_bytes_of_its_range() {
    let (k, _, _) = kernel(0);
    let page = run(alloc_page(&k, "test")).unwrap();
    k.page_mut(page).cells = [Cell::new(9); CELLS];
    run(zero_user_segment(&k, page, 1, 4095));
    assert_eq!(k.page(page).cells.map(Cell::byte), [9, 0, 0, 9]);
}
