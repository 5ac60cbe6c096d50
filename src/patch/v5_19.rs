// SPDX-License-Identifier: GPL-2.0-only
//! One release. Where it comes from is in the table of `patch/mod.rs`; read it by `diff` against its neighbour.

use crate::patch::prelude::*;

/// The page of a shmem file at `index`: found in the page cache, read from swap, or newly allocated, as `sgp` allows.
///
/// Kernel:   mm/shmem.c:shmem_getpage_gfp @ v5.19
/// Fidelity: TRIMMED(huge pages, the shrinklist, memcg)
/// Locks:    none held; returns with the page locked and referenced. With a vma: its mmap_lock held, dropped by a userfault
/// Errors:   EFBIG index too large; EINVAL past i_size; ENOSPC mount full or over the commit limit; ENOMEM; EIO swap read;
///           ENOENT a hole, with SGP_NOALLOC
pub async fn shmem_getpage_gfp(
    k: &Kernel,
    inode: InodeId,
    index: u64,
    pagep: &mut Option<PageId>,
    mut sgp: SgpType,
    vma: Option<VmaId>,
    vmf: Option<&mut VmFaultCtx>,
    fault_type: &mut VmFault,
) -> KResult {
    let _f = k.enter("shmem_getpage_gfp", || format!("index={index}, sgp={sgp:?}"));
    let mapping = inode;
    let mut once = 0;
    let mut error;

    if index > MAX_LFS_FILESIZE >> PAGE_SHIFT {
        return Err(EFBIG);
    }
    'repeat: loop {
        if k.endless("shmem_getpage_gfp") {
            return Err(EINVAL);
        }
        let mut alloced = false;
        if sgp <= SGP_CACHE && index << PAGE_SHIFT >= i_size_read(k, inode).await {
            return Err(EINVAL);
        }

        let entry = find_lock_entry(k, mapping, index).await;
        if let Some(entry) = entry && vma.is_some_and(|vma| userfaultfd_minor(k, vma)) {
            if let SlotVal::Page(page) = entry {
                unlock_page(k, page);
                put_page(k, page);
            }
            if let Some(vmf) = vmf {
                *fault_type = handle_userfault(k, vmf, VM_UFFD_MINOR).await;
            }
            return Ok(());
        }
        if let Some(SlotVal::Swap(swap)) = entry {
            let mut page = None;
            let ret = shmem_swapin_page(k, inode, index, &mut page, swap, sgp, vma, Some(&mut *fault_type)).await;
            if ret == Err(EEXIST) {
                continue 'repeat;
            }
            *pagep = page;
            return ret;
        }
        let mut page = match entry {
            Some(SlotVal::Page(page)) => Some(page),
            _ => None,
        };
        ladder! {
            {
                if let Some(page) = page && sgp == SGP_WRITE {
                    mark_page_accessed(k, page);
                }

                // A page that fallocate left behind holds nothing yet.
                if let Some(p) = page && !PageUptodate(k, p) {
                    if sgp != SGP_READ {
                        break 'clear;
                    }
                    unlock_page(k, p);
                    put_page(k, p);
                    page = None;
                }
                if page.is_some() || sgp == SGP_READ {
                    break 'out;
                }

                // SGP_NOALLOC: fail on hole.
                if sgp == SGP_NOALLOC {
                    return Err(ENOENT);
                }

                if let Some(vma) = vma && userfaultfd_missing(k, vma) {
                    if let Some(vmf) = vmf {
                        *fault_type = handle_userfault(k, vmf, VM_UFFD_MISSING).await;
                    }
                    return Ok(());
                }

                match shmem_alloc_and_acct_page(k, inode).await {
                    Ok(newpage) => page = Some(newpage),
                    Err(e) => {
                        error = e;
                        break 'unlock;
                    }
                }
                let newpage = page.unwrap_or(PageId::ZERO);
                if sgp == SGP_WRITE {
                    SetPageReferenced(k, newpage);
                }
                if let Err(e) = shmem_add_to_page_cache(k, newpage, mapping, index, None).await {
                    error = e;
                    break 'unacct;
                }
                lru_cache_add(k, newpage);

                info_lock(k, inode).await;
                alloced_add(k, inode, 1);
                blocks_add(k, inode, BLOCKS_PER_PAGE);
                shmem_recalc_inode(k, inode);
                info_unlock(k, inode);
                alloced = true;

                // What fallocate allocates is left to be cleared by whoever uses it first.
                if sgp == SGP_FALLOC {
                    sgp = SGP_WRITE;
                }
            }
            'clear: {
                let p = page.unwrap_or(PageId::ZERO);
                if sgp != SGP_WRITE && !PageUptodate(k, p) {
                    clear_highpage(k, p);
                    SetPageUptodate(k, p);
                }

                // The file may have been truncated since i_size was looked at.
                if sgp <= SGP_CACHE && index << PAGE_SHIFT >= i_size_read(k, inode).await {
                    k.branch("truncated meanwhile");
                    if alloced {
                        ClearPageDirty(k, p);
                        delete_from_page_cache(k, p).await;
                        info_lock(k, inode).await;
                        shmem_recalc_inode(k, inode);
                        info_unlock(k, inode);
                    }
                    error = EINVAL;
                    break 'unlock;
                }
            }
            'out: {
                *pagep = page;
                return Ok(());
            }
            'unacct: {
                shmem_inode_unacct_blocks(k, inode, 1);
            }
            'unlock: {
                if let Some(page) = page {
                    unlock_page(k, page);
                    put_page(k, page);
                }
                if error == ENOSPC && once == 0 {
                    // Clean pages that reclaim dropped may still be charged: give their blocks back and try once more.
                    once = 1;
                    info_lock(k, inode).await;
                    shmem_recalc_inode(k, inode);
                    info_unlock(k, inode);
                    continue 'repeat;
                }
                if error == EEXIST {
                    continue 'repeat;
                }
                return Err(error);
            }
        }
    }
}

/// Fill the page of a shared shmem file for UFFDIO_COPY or UFFDIO_ZEROPAGE, and map it.
///
/// Kernel:   mm/shmem.c:shmem_mfill_atomic_pte @ v5.19
/// Fidelity: TRIMMED(memcg)
/// Locks:    mmap_lock held for read; takes and drops the page lock, the PTE lock and info->lock
/// Errors:   ENOMEM accounting, allocation or page cache; ENOENT retry with the page in `pagep`; EFAULT past i_size;
///           EEXIST the slot or the PTE is populated
async fn shmem_mfill_atomic_pte(
    k: &Kernel,
    dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    zeropage: bool,
    wp_copy: bool,
    pagep: &mut Option<PageId>,
) -> KResult {
    let _f = k.enter("shmem_mfill_atomic_pte", || format!("dst_addr={dst_addr:#x}, zeropage={zeropage:?}"));
    let inode = vma_inode(k, dst_vma);
    let mapping = inode;
    let pgoff = linear_page_index(k, dst_vma, dst_addr);
    let page;
    let mut ret;

    if !shmem_inode_acct_block(k, inode, 1) {
        // The mount filled up since the first attempt: the page that was kept for this one is not needed any more.
        if let Some(page) = pagep.take() {
            put_page(k, page);
        }
        return Err(ENOMEM);
    }

    ladder! {
        {
            ret = Err(ENOMEM);
            if pagep.is_none() {
                page = match shmem_alloc_page(k).await {
                    Some(page) => page,
                    None => break 'out_unacct_blocks,
                };

                if !zeropage {
                    pagefault_disable(k);
                    let left = copy_from_user(k, page, 0, src_addr, PAGE_SIZE).await;
                    pagefault_enable(k);

                    // The copy faulted: hand the page out, to be filled without mmap_lock.
                    if left != 0 {
                        *pagep = Some(page);
                        ret = Err(ENOENT);
                        break 'out_unacct_blocks;
                    }
                } else {
                    clear_highpage(k, page);
                }
            } else {
                page = pagep.take().unwrap_or(PageId::ZERO);
            }

            VM_BUG_ON!(k, PageSwapBacked(k, page));
            VM_BUG_ON!(k, PageLocked(k, page));
            __SetPageLocked(k, page);
            __SetPageSwapBacked(k, page);
            __SetPageUptodate(k, page);

            ret = Err(EFAULT);
            if pgoff >= max_off(i_size_read(k, inode).await) {
                break 'out_release;
            }

            ret = shmem_add_to_page_cache(k, page, mapping, pgoff, None).await;
            if ret.is_err() {
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, page, true, wp_copy).await;
            if ret.is_err() {
                break 'out_delete_from_cache;
            }

            info_lock(k, inode).await;
            alloced_add(k, inode, 1);
            blocks_add(k, inode, BLOCKS_PER_PAGE);
            shmem_recalc_inode(k, inode);
            info_unlock(k, inode);

            unlock_page(k, page);
            return Ok(());
        }
        'out_delete_from_cache: {
            delete_from_page_cache(k, page).await;
        }
        'out_release: {
            unlock_page(k, page);
            put_page(k, page);
        }
        'out_unacct_blocks: {
            shmem_inode_unacct_blocks(k, inode, 1);
            ret
        }
    }
}

/// Install a PTE that maps `page` at `dst_addr`.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_install_pte @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for read; the page lock if the page is in the page cache; takes and drops the PTE lock
/// Errors:   EFAULT past i_size; EEXIST the PTE is populated, with more than a marker
async fn mfill_atomic_install_pte(
    k: &Kernel,
    dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    page: PageId,
    newly_allocated: bool,
    wp_copy: bool,
) -> KResult {
    let _f = k.enter("mfill_atomic_install_pte", || format!("dst_addr={dst_addr:#x}, {page}, newly_allocated={newly_allocated:?}"));
    let mut ret;
    let vm_shared = k.vma(dst_vma).vm_flags.contains(VM_SHARED);
    let page_in_cache = k.page(page).mapping != PageMapping::None;

    let mut _dst_pte = mk_pte(page, k.vma(dst_vma).vm_page_prot);
    _dst_pte = pte_mkdirty(_dst_pte);
    let mut writable = k.vma(dst_vma).vm_flags.contains(VM_WRITE);
    if page_in_cache && !vm_shared {
        writable = false;
    }
    // Whatever the VMA allows: mprotect may allow more later.
    if wp_copy {
        _dst_pte = pte_mkuffd_wp(_dst_pte);
        writable = false;
    }
    if writable {
        _dst_pte = pte_mkwrite(_dst_pte);
    } else {
        // The protection of a shared VMA may have the write bit in it already.
        _dst_pte = pte_wrprotect(_dst_pte);
    }

    let dst_pte = pte_offset_map_lock(k, dst_pmd, dst_addr).await;

    ladder! {
        {
            if vma_is_shmem(k, dst_vma) {
                // Serialises with truncate, which zaps under the PTE lock after it has written i_size.
                let inode = vma_inode(k, dst_vma);
                let offset = linear_page_index(k, dst_vma, dst_addr);
                ret = Err(EFAULT);
                if offset >= max_off(i_size_read(k, inode).await) {
                    break 'out_unlock;
                }
            }

            // A marker may be overwritten: registered for MISSING and WP, a hole may be protected first and filled then.
            ret = Err(EEXIST);
            if !pte_none_mostly(ptep_get(k, dst_pte)) {
                break 'out_unlock;
            }

            if page_in_cache {
                // What was in the cache before is on the LRU.
                if newly_allocated {
                    lru_cache_add(k, page);
                }
                page_add_file_rmap(k, page);
                mlock_vma_folio(k, page, dst_vma);
            } else {
                page_add_new_anon_rmap(k, page, dst_vma, dst_addr);
                lru_cache_add_inactive_or_unevictable(k, page, dst_vma);
            }

            inc_mm_counter(k, dst_mm, mm_counter(k, page));

            set_pte_at(k, dst_mm, dst_addr, dst_pte, _dst_pte);
            ret = Ok(());
        }
        'out_unlock: {
            pte_unmap_unlock(k, dst_pte);
            ret
        }
    }
}

/// Fill an anonymous page for UFFDIO_COPY, in anonymous memory or a private mapping of a file, and map it.
///
/// Kernel:   mm/userfaultfd.c:mcopy_atomic_pte @ v5.19
/// Fidelity: TRIMMED(memcg is a charge that may fail)
/// Locks:    mmap_lock held for read; takes and drops the PTE lock
/// Errors:   ENOMEM allocation or charge; ENOENT retry with the page in `pagep`; EFAULT past i_size; EEXIST the PTE is populated
async fn mcopy_atomic_pte(
    k: &Kernel,
    dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    pagep: &mut Option<PageId>,
    wp_copy: bool,
) -> KResult {
    let _f = k.enter("mcopy_atomic_pte", || format!("dst_addr={dst_addr:#x}"));
    let page;
    let mut ret;

    ladder! {
        {
            if pagep.is_none() {
                ret = Err(ENOMEM);
                page = match alloc_page(k, "mcopy_atomic_pte").await {
                    Some(page) => page,
                    None => break 'out,
                };

                pagefault_disable(k);
                let left = copy_from_user(k, page, 0, src_addr, PAGE_SIZE).await;
                pagefault_enable(k);

                // The copy faulted: hand the page out, to be filled without mmap_lock.
                if left != 0 {
                    ret = Err(ENOENT);
                    *pagep = Some(page);
                    break 'out;
                }
            } else {
                page = pagep.take().unwrap_or(PageId::ZERO);
            }

            // The contents are complete before the PTE makes them visible.
            __SetPageUptodate(k, page);

            ret = Err(ENOMEM);
            if k.should_fail("mem_cgroup_charge") {
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, page, true, wp_copy).await;
            if ret.is_err() {
                break 'out_release;
            }
            break 'out;
        }
        'out_release: {
            put_page(k, page);
        }
        'out: {
            ret
        }
    }
}

/// Map the page that the page cache holds, for UFFDIO_CONTINUE.
///
/// Kernel:   mm/userfaultfd.c:mcontinue_atomic_pte @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for read; takes and drops the page lock
/// Errors:   EFAULT no page; EINVAL past i_size; EIO swap read or memory error; EEXIST the PTE is populated
async fn mcontinue_atomic_pte(
    k: &Kernel,
    dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    wp_copy: bool,
) -> KResult {
    let _f = k.enter("mcontinue_atomic_pte", || format!("dst_addr={dst_addr:#x}"));
    let inode = vma_inode(k, dst_vma);
    let pgoff = linear_page_index(k, dst_vma, dst_addr);
    let page;
    let mut ret;

    ladder! {
        {
            let mut found = None;
            ret = shmem_getpage(k, inode, pgoff, &mut found, SGP_NOALLOC).await;
            // The caller wants -EFAULT where there is no page.
            if ret == Err(ENOENT) {
                ret = Err(EFAULT);
            }
            if ret.is_err() {
                break 'out;
            }
            page = match found {
                Some(page) => page,
                None => {
                    ret = Err(EFAULT);
                    break 'out;
                }
            };

            if PageHWPoison(k, page) {
                ret = Err(EIO);
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, page, false, wp_copy).await;
            if ret.is_err() {
                break 'out_release;
            }

            unlock_page(k, page);
            ret = Ok(());
            break 'out;
        }
        'out_release: {
            unlock_page(k, page);
            put_page(k, page);
        }
        'out: {
            ret
        }
    }
}

/// Fill or map one page of the destination.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte @ v5.19
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for read
/// Errors:   as the function called
pub async fn mfill_atomic_pte(
    k: &Kernel,
    dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    page: &mut Option<PageId>,
    mode: McopyAtomicMode,
    wp_copy: bool,
) -> KResult {
    let _f = k.enter("mfill_atomic_pte", || format!("dst_addr={dst_addr:#x}, {mode:?}"));
    if mode == MCOPY_ATOMIC_CONTINUE {
        return mcontinue_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, wp_copy).await;
    }

    // Private: the new page is anonymous and the page cache is left alone. Shared: the page goes into the page cache.
    if !k.vma(dst_vma).vm_flags.contains(VM_SHARED) {
        match mode {
            MCOPY_ATOMIC_NORMAL => mcopy_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, src_addr, page, wp_copy).await,
            _ => mfill_zeropage_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr).await,
        }
    } else {
        let zeropage = mode != MCOPY_ATOMIC_NORMAL;
        shmem_mfill_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, src_addr, zeropage, wp_copy, page).await
    }
}
