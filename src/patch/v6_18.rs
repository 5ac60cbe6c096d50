// SPDX-License-Identifier: GPL-2.0-only
//! One release. Where it comes from is in the table of `patch/mod.rs`; read it by `diff` against its neighbour.

use crate::patch::prelude::*;

/// The page of a shmem file at `index`: found in the page cache, read from swap, or newly allocated, as `sgp` allows.
///
/// Kernel:   mm/shmem.c:shmem_get_folio_gfp @ v6.18
/// Fidelity: TRIMMED(huge pages, the shrinklist)
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
    let error;

    if index > MAX_LFS_FILESIZE >> PAGE_SHIFT {
        return Err(EFBIG);
    }
    'repeat: loop {
        if k.endless("shmem_getpage_gfp") {
            return Err(EINVAL);
        }
        if sgp <= SGP_CACHE && index << PAGE_SHIFT >= i_size_read(k, inode).await {
            return Err(EINVAL);
        }
        let mut alloced = false;

        // Referenced, but not locked: the page may be truncated or written to swap from here on.
        let entry = find_get_entry(k, mapping, index).await;
        if let Some(entry) = entry && vma.is_some_and(|vma| userfaultfd_minor(k, vma)) {
            if let SlotVal::Page(page) = entry {
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
                if let Some(p) = page {
                    lock_page(k, p).await;

                    // Truncated or swapped out?
                    if k.page(p).mapping != PageMapping::Inode(mapping) {
                        k.branch("page left the cache before it was locked: look up again");
                        unlock_page(k, p);
                        put_page(k, p);
                        continue 'repeat;
                    }
                    if sgp == SGP_WRITE {
                        mark_page_accessed(k, p);
                    }
                    if PageUptodate(k, p) {
                        break 'out;
                    }
                    // A page that fallocate left behind holds nothing yet.
                    if sgp != SGP_READ {
                        break 'clear;
                    }
                    unlock_page(k, p);
                    put_page(k, p);
                }

                // SGP_READ: a hole is no page, and the caller reads zeroes. SGP_NOALLOC: fail on hole.
                *pagep = None;
                if sgp == SGP_READ {
                    return Ok(());
                }
                if sgp == SGP_NOALLOC {
                    return Err(ENOENT);
                }

                if let Some(vma) = vma && userfaultfd_missing(k, vma) {
                    if let Some(vmf) = vmf {
                        *fault_type = handle_userfault(k, vmf, VM_UFFD_MISSING).await;
                    }
                    return Ok(());
                }

                match shmem_alloc_and_add_folio(k, inode, index).await {
                    Ok(folio) => page = Some(folio),
                    Err(EEXIST) => continue 'repeat,
                    Err(e) => {
                        page = None;
                        error = e;
                        break 'unlock;
                    }
                }
                alloced = true;
                if sgp == SGP_WRITE {
                    SetPageReferenced(k, page.unwrap_or(PageId::ZERO));
                }
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
                    error = EINVAL;
                    break 'unlock;
                }
            }
            'out: {
                *pagep = page;
                return Ok(());
            }
            'unlock: {
                if let Some(page) = page && alloced {
                    delete_from_page_cache(k, page).await;
                }
                info_lock(k, inode).await;
                shmem_recalc_inode(k, inode);
                info_unlock(k, inode);
                if let Some(page) = page {
                    unlock_page(k, page);
                    put_page(k, page);
                }
                return Err(error);
            }
        }
    }
}

/// Allocate a page, put it into the page cache, and only then charge a block for it: it comes back locked, with a reference.
///
/// Kernel:   mm/shmem.c:shmem_alloc_and_add_folio @ v6.18
/// Fidelity: TRIMMED(huge pages; a failed memcg charge is part of shmem_add_to_page_cache)
/// Locks:    none on entry; the page comes back locked; takes and drops info->lock
/// Errors:   ENOMEM; EEXIST the slot is taken; ENOSPC the block cannot be charged
async fn shmem_alloc_and_add_folio(k: &Kernel, inode: InodeId, index: u64) -> KResult<PageId> {
    let _f = k.enter("shmem_alloc_and_add_folio", || format!("{inode} index={index}"));
    let mapping = inode;
    let error;

    let Some(folio) = shmem_alloc_page(k).await else {
        return Err(ENOMEM);
    };
    __SetPageLocked(k, folio);
    __SetPageSwapBacked(k, folio);

    ladder! {
        {
            if let Err(e) = shmem_add_to_page_cache(k, folio, mapping, index, None).await {
                error = e;
                break 'unlock;
            }

            if !shmem_inode_acct_block(k, inode, 1) {
                // Clean pages that reclaim dropped may still be charged: give their blocks back and try once more. Our page is
                // in the cache and not counted yet.
                info_lock(k, inode).await;
                alloced_add(k, inode, 1);
                shmem_recalc_inode(k, inode);
                alloced_add(k, inode, -1);
                info_unlock(k, inode);
                if !shmem_inode_acct_block(k, inode, 1) {
                    error = ENOSPC;
                    delete_from_page_cache(k, folio).await;
                    break 'unlock;
                }
            }

            info_lock(k, inode).await;
            alloced_add(k, inode, 1);
            blocks_add(k, inode, BLOCKS_PER_PAGE);
            shmem_recalc_inode(k, inode);
            info_unlock(k, inode);
            lru_cache_add(k, folio);
            return Ok(folio);
        }
        'unlock: {
            unlock_page(k, folio);
            put_page(k, folio);
            Err(error)
        }
    }
}

/// Fill the page of a shared shmem file for UFFDIO_COPY or UFFDIO_ZEROPAGE, and map it.
///
/// Kernel:   mm/shmem.c:shmem_mfill_atomic_pte @ v6.18
/// Fidelity: TRIMMED(memcg)
/// Locks:    mmap_lock held for read; takes and drops the page lock, the PTE lock and info->lock
/// Errors:   ENOMEM accounting, allocation or page cache; ENOENT retry with the page in `foliop`; EFAULT past i_size;
///           EEXIST the slot or the PTE is populated
async fn shmem_mfill_atomic_pte(
    k: &Kernel,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    flags: UffdFlags,
    foliop: &mut Option<PageId>,
) -> KResult {
    let _f = k.enter("shmem_mfill_atomic_pte", || format!("dst_addr={dst_addr:#x}, {flags:?}"));
    let inode = vma_inode(k, dst_vma);
    let mapping = inode;
    let pgoff = linear_page_index(k, dst_vma, dst_addr);
    let folio;
    let mut ret;

    if !shmem_inode_acct_block(k, inode, 1) {
        // The mount filled up since the first attempt: the page that was kept for this one is not needed any more.
        if let Some(folio) = foliop.take() {
            put_page(k, folio);
        }
        return Err(ENOMEM);
    }

    ladder! {
        {
            if foliop.is_none() {
                ret = Err(ENOMEM);
                folio = match shmem_alloc_page(k).await {
                    Some(folio) => folio,
                    None => break 'out_unacct_blocks,
                };

                if uffd_flags_mode_is(flags, MCOPY_ATOMIC_NORMAL) {
                    pagefault_disable(k);
                    let left = copy_from_user(k, folio, 0, src_addr, PAGE_SIZE).await;
                    pagefault_enable(k);

                    // The copy faulted: hand the page out, to be filled without mmap_lock.
                    if left != 0 {
                        *foliop = Some(folio);
                        ret = Err(ENOENT);
                        break 'out_unacct_blocks;
                    }
                } else {
                    clear_highpage(k, folio);
                }
            } else {
                folio = foliop.take().unwrap_or(PageId::ZERO);
            }

            VM_BUG_ON!(k, PageLocked(k, folio));
            VM_BUG_ON!(k, PageSwapBacked(k, folio));
            __SetPageLocked(k, folio);
            __SetPageSwapBacked(k, folio);
            __SetPageUptodate(k, folio);

            ret = Err(EFAULT);
            if pgoff >= max_off(i_size_read(k, inode).await) {
                break 'out_release;
            }

            ret = shmem_add_to_page_cache(k, folio, mapping, pgoff, None).await;
            if ret.is_err() {
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_pmd, dst_vma, dst_addr, folio, true, flags).await;
            if ret.is_err() {
                break 'out_delete_from_cache;
            }

            info_lock(k, inode).await;
            alloced_add(k, inode, 1);
            blocks_add(k, inode, BLOCKS_PER_PAGE);
            shmem_recalc_inode(k, inode);
            info_unlock(k, inode);

            unlock_page(k, folio);
            return Ok(());
        }
        'out_delete_from_cache: {
            delete_from_page_cache(k, folio).await;
        }
        'out_release: {
            unlock_page(k, folio);
            put_page(k, folio);
        }
        'out_unacct_blocks: {
            shmem_inode_unacct_blocks(k, inode, 1);
            ret
        }
    }
}

/// Does the address lie past the end of the file? Asked of whatever file stands behind the VMA, and be it /dev/zero.
///
/// Kernel:   mm/userfaultfd.c:mfill_file_over_size @ v6.18
/// Fidelity: MIRROR
/// Locks:    PTE lock held: truncate zaps under it after it has written i_size
/// Errors:   none
async fn mfill_file_over_size(k: &Kernel, dst_vma: VmaId, dst_addr: u64) -> bool {
    let Some(file) = k.vma(dst_vma).vm_file else {
        return false;
    };
    let inode = file_inode(k, file);
    let offset = linear_page_index(k, dst_vma, dst_addr);
    offset >= max_off(i_size_read(k, inode).await)
}

/// Install a PTE that maps `page` at `dst_addr`.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_install_pte @ v6.18
/// Fidelity: TRIMMED(-EAGAIN where the page table went away: nothing frees one under mmap_lock here)
/// Locks:    mmap_lock held for read; the page lock if the page is in the page cache; takes and drops the PTE lock
/// Errors:   EFAULT past the end of any file; EEXIST the PTE is populated, with more than a marker
async fn mfill_atomic_install_pte(
    k: &Kernel,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    page: PageId,
    newly_allocated: bool,
    flags: UffdFlags,
) -> KResult {
    let _f = k.enter("mfill_atomic_install_pte", || format!("dst_addr={dst_addr:#x}, {page}, newly_allocated={newly_allocated:?}"));
    let mut ret;
    let dst_mm = k.vma(dst_vma).vm_mm;
    let vm_shared = k.vma(dst_vma).vm_flags.contains(VM_SHARED);
    let page_in_cache = page_mapping(k, page) != MappingOf::None;

    let mut _dst_pte = mk_pte(page, k.vma(dst_vma).vm_page_prot);
    _dst_pte = pte_mkdirty(_dst_pte);
    let mut writable = k.vma(dst_vma).vm_flags.contains(VM_WRITE);
    if page_in_cache && !vm_shared {
        writable = false;
    }
    if writable {
        _dst_pte = pte_mkwrite(_dst_pte);
    }
    // pte_mkuffd_wp() takes the write bit away itself, whoever has set it.
    if flags.wp {
        _dst_pte = pte_wrprotect(pte_mkuffd_wp(_dst_pte));
    }

    let dst_pte = pte_offset_map_lock(k, dst_pmd, dst_addr).await;

    ladder! {
        {
            if mfill_file_over_size(k, dst_vma, dst_addr).await {
                ret = Err(EFAULT);
                break 'out_unlock;
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
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte_copy @ v6.18
/// Fidelity: TRIMMED(memcg is a charge that may fail)
/// Locks:    mmap_lock held for read; takes and drops the PTE lock
/// Errors:   ENOMEM allocation or charge; ENOENT retry with the page in `foliop`; EFAULT past the end of any file; EEXIST the
///           PTE is populated
async fn mfill_atomic_pte_copy(
    k: &Kernel,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    flags: UffdFlags,
    foliop: &mut Option<PageId>,
) -> KResult {
    let _f = k.enter("mfill_atomic_pte_copy", || format!("dst_addr={dst_addr:#x}"));
    let folio;
    let mut ret;

    ladder! {
        {
            if foliop.is_none() {
                ret = Err(ENOMEM);
                folio = match alloc_page(k, "mcopy_atomic_pte").await {
                    Some(folio) => folio,
                    None => break 'out,
                };

                pagefault_disable(k);
                let left = copy_from_user(k, folio, 0, src_addr, PAGE_SIZE).await;
                pagefault_enable(k);

                // The copy faulted: hand the page out, to be filled without mmap_lock.
                if left != 0 {
                    ret = Err(ENOENT);
                    *foliop = Some(folio);
                    break 'out;
                }
            } else {
                folio = foliop.take().unwrap_or(PageId::ZERO);
            }

            // The contents are complete before the PTE makes them visible.
            __SetPageUptodate(k, folio);

            ret = Err(ENOMEM);
            if k.should_fail("mem_cgroup_charge") {
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_pmd, dst_vma, dst_addr, folio, true, flags).await;
            if ret.is_err() {
                break 'out_release;
            }
            break 'out;
        }
        'out_release: {
            put_page(k, folio);
        }
        'out: {
            ret
        }
    }
}

/// Map the shared zero page, where memory is anonymous or a private mapping of a file.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte_zeropage @ v6.18
/// Fidelity: TRIMMED(an mm that may not have zero pages, which s390 knows; -EAGAIN where the page table went away)
/// Locks:    mmap_lock held for read; takes and drops the PTE lock
/// Errors:   EFAULT past the end of any file; EEXIST the PTE is populated, and be it with a marker
async fn mfill_atomic_pte_zeropage(k: &Kernel, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64) -> KResult {
    let _f = k.enter("mfill_atomic_pte_zeropage", || format!("dst_addr={dst_addr:#x}"));
    let mut ret;
    let dst_mm = k.vma(dst_vma).vm_mm;
    let _dst_pte = zero_pte(k.vma(dst_vma).vm_page_prot);
    let dst_pte = pte_offset_map_lock(k, dst_pmd, dst_addr).await;

    ladder! {
        {
            if mfill_file_over_size(k, dst_vma, dst_addr).await {
                ret = Err(EFAULT);
                break 'out_unlock;
            }
            ret = Err(EEXIST);
            if !pte_none(ptep_get(k, dst_pte)) {
                break 'out_unlock;
            }
            set_pte_at(k, dst_mm, dst_addr, dst_pte, _dst_pte);
            ret = Ok(());
        }
        'out_unlock: {
            pte_unmap_unlock(k, dst_pte);
            ret
        }
    }
}

/// Map the page that the page cache holds, for UFFDIO_CONTINUE.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte_continue @ v6.18
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for read; takes and drops the page lock
/// Errors:   EFAULT no page; EINVAL past i_size; EIO swap read or memory error; EEXIST the PTE is populated
async fn mfill_atomic_pte_continue(k: &Kernel, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64, flags: UffdFlags) -> KResult {
    let _f = k.enter("mfill_atomic_pte_continue", || format!("dst_addr={dst_addr:#x}"));
    let inode = vma_inode(k, dst_vma);
    let pgoff = linear_page_index(k, dst_vma, dst_addr);
    let folio;
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
            folio = match found {
                Some(folio) => folio,
                None => {
                    ret = Err(EFAULT);
                    break 'out;
                }
            };

            if PageHWPoison(k, folio) {
                ret = Err(EIO);
                break 'out_release;
            }

            ret = mfill_atomic_install_pte(k, dst_pmd, dst_vma, dst_addr, folio, false, flags).await;
            if ret.is_err() {
                break 'out_release;
            }

            unlock_page(k, folio);
            ret = Ok(());
            break 'out;
        }
        'out_release: {
            unlock_page(k, folio);
            put_page(k, folio);
        }
        'out: {
            ret
        }
    }
}

/// Put a marker where the next access is to raise SIGBUS, for UFFDIO_POISON. What the file holds there does not matter.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte_poison @ v6.18
/// Fidelity: TRIMMED(-EAGAIN where the page table went away)
/// Locks:    mmap_lock held for read; takes and drops the PTE lock
/// Errors:   EFAULT past the end of any file; EEXIST the PTE is populated, and be it with a marker
async fn mfill_atomic_pte_poison(k: &Kernel, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64) -> KResult {
    let _f = k.enter("mfill_atomic_pte_poison", || format!("dst_addr={dst_addr:#x}"));
    let mut ret;
    let dst_mm = k.vma(dst_vma).vm_mm;
    let _dst_pte = make_pte_marker(PTE_MARKER_POISONED);
    let dst_pte = pte_offset_map_lock(k, dst_pmd, dst_addr).await;

    ladder! {
        {
            if mfill_file_over_size(k, dst_vma, dst_addr).await {
                ret = Err(EFAULT);
                break 'out_unlock;
            }
            ret = Err(EEXIST);
            if !pte_none(ptep_get(k, dst_pte)) {
                break 'out_unlock;
            }
            set_pte_at(k, dst_mm, dst_addr, dst_pte, _dst_pte);
            ret = Ok(());
        }
        'out_unlock: {
            pte_unmap_unlock(k, dst_pte);
            ret
        }
    }
}

/// Fill, map or poison one page of the destination.
///
/// Kernel:   mm/userfaultfd.c:mfill_atomic_pte @ v6.18
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for read
/// Errors:   as the function called
pub async fn mfill_atomic_pte(
    k: &Kernel,
    _dst_mm: MmId,
    dst_pmd: Pmd,
    dst_vma: VmaId,
    dst_addr: u64,
    src_addr: u64,
    foliop: &mut Option<PageId>,
    mode: McopyAtomicMode,
    wp: bool,
) -> KResult {
    let _f = k.enter("mfill_atomic_pte", || format!("dst_addr={dst_addr:#x}, {mode:?}"));
    let flags = UffdFlags { mode, wp };
    if uffd_flags_mode_is(flags, MCOPY_ATOMIC_CONTINUE) {
        return mfill_atomic_pte_continue(k, dst_pmd, dst_vma, dst_addr, flags).await;
    } else if uffd_flags_mode_is(flags, MCOPY_ATOMIC_POISON) {
        return mfill_atomic_pte_poison(k, dst_pmd, dst_vma, dst_addr).await;
    }

    // Private: the new page is anonymous and the page cache is left alone. Shared: the page goes into the page cache.
    if !k.vma(dst_vma).vm_flags.contains(VM_SHARED) {
        if uffd_flags_mode_is(flags, MCOPY_ATOMIC_NORMAL) {
            mfill_atomic_pte_copy(k, dst_pmd, dst_vma, dst_addr, src_addr, flags, foliop).await
        } else {
            mfill_atomic_pte_zeropage(k, dst_pmd, dst_vma, dst_addr).await
        }
    } else {
        shmem_mfill_atomic_pte(k, dst_pmd, dst_vma, dst_addr, src_addr, flags, foliop).await
    }
}
