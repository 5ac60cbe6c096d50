// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmap.c`: finding VMAs, their protection, accounting, mmap and munmap. Merging and splitting are in
//! [`vma_merge`](crate::mm::vma_merge).

use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{mmap_read_unlock, mmap_write_downgrade, mmap_write_lock, mmap_write_unlock};
use crate::mm::mlock::{mm_populate, munlock_vma_pages_range};
use crate::mm::page::lru_add_drain;
use crate::mm::pgtable::free_pgd_range;
use crate::mm::rmap::unlink_anon_vmas;
use crate::mm::vma_merge::{
    __split_vma, find_vma_links, is_shared_maywrite, mapping_map_writable, mapping_unmap_writable, vm_area_alloc, vm_area_free,
    vma_link, vma_pages,
};
use crate::mm::zap::unmap_vmas;
use crate::shmem::fault::{shmem_mmap, shmem_zero_setup};
use crate::uffd::events::{UserfaultfdUnmapCtx, userfaultfd_unmap_complete, userfaultfd_unmap_prep};
use crate::vfs::{f_mapping, fput, get_file};
use smallvec::SmallVec;

pub(crate) use crate::mm::vma_merge::with_sticky;
pub use crate::mm::vma_merge::{copy_vma, insert_vm_struct, split_vma, unlink_file_vma, vma_merge};

/// The contexts that want to know of an unmapping (`struct list_head *uf`).
pub type UfList = SmallVec<[UserfaultfdUnmapCtx; 2]>;

// ---- finding ------------------------------------------------------------------------------------------------------------

/// The first VMA that ends after `addr`. It need not contain `addr`.
///
/// Kernel:   mm/mmap.c:find_vma @ v5.14
/// Fidelity: TRIMMED(rbtree, vmacache)
/// Locks:    mmap_lock held
/// Errors:   none
#[inline]
pub fn find_vma(k: &Kernel, mm: MmId, addr: u64) -> Option<VmaId> {
    let s = k.s();
    let Some(m) = s.mms.get(mm) else { return k.mm(mm).mmap.first().copied() };
    m.mmap.iter().copied().find(|&vma| addr < s.vmas.get(vma).map_or_else(|| k.vma_ref(vma).vm_end, |v| v.vm_end))
}

/// As [`find_vma`], and the VMA before it: `(vma, prev)`. Without a VMA, `prev` is the last one.
///
/// Kernel:   mm/mmap.c:find_vma_prev @ v5.14
/// Fidelity: TRIMMED(rbtree)
/// Locks:    mmap_lock held
/// Errors:   none
pub fn find_vma_prev(k: &Kernel, mm: MmId, addr: u64) -> (Option<VmaId>, Option<VmaId>) {
    match find_vma(k, mm, addr) {
        Some(vma) => (Some(vma), vma_prev(k, vma)),
        None => (None, k.mm(mm).mmap.last().copied()),
    }
}

/// `vma->vm_next`.
pub fn vma_next(k: &Kernel, vma: VmaId) -> Option<VmaId> {
    let mm = k.mm(k.vma(vma).vm_mm);
    let at = mm.mmap.iter().position(|&v| v == vma)?;
    mm.mmap.get(at + 1).copied()
}

/// `vma->vm_prev`.
pub fn vma_prev(k: &Kernel, vma: VmaId) -> Option<VmaId> {
    let mm = k.mm(k.vma(vma).vm_mm);
    let at = mm.mmap.iter().position(|&v| v == vma)?;
    mm.mmap.get(at.checked_sub(1)?).copied()
}

/// The first VMA that has a byte in `[start, end)`.
///
/// Kernel:   include/linux/mm.h:find_vma_intersection @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
pub fn find_vma_intersection(k: &Kernel, mm: MmId, start: u64, end: u64) -> Option<VmaId> {
    let vma = find_vma(k, mm, start)?;
    if end <= k.vma(vma).vm_start { None } else { Some(vma) }
}

// ---- protections --------------------------------------------------------------------------------------------------------

/// What entries of a mapping with these flags may do: x86's `protection_map`.
///
/// Kernel:   mm/mmap.c:vm_get_page_prot @ v5.14
/// Fidelity: TRIMMED(NX, protection keys)
/// Locks:    none
/// Errors:   none
pub fn vm_get_page_prot(flags: VmFlags) -> PageProt {
    let bits = if !flags.intersects(VM_READ | VM_WRITE | VM_EXEC) {
        _PAGE_PROTNONE
    } else if flags.contains(VM_WRITE | VM_SHARED) {
        _PAGE_RW
    } else {
        PteFlags::empty()
    };
    PageProt { flags: bits | _PAGE_ACCESSED }
}

/// The protection for new flags; accessed and dirty bits of the old one stay (`pgprot_modify`).
fn vm_pgprot_modify(oldprot: PageProt, vm_flags: VmFlags) -> PageProt {
    let keep = _PAGE_ACCESSED | _PAGE_DIRTY;
    PageProt { flags: (oldprot.flags & keep) | (vm_get_page_prot(vm_flags).flags - keep) }
}

/// Must the first store to a page be noticed, so that entries are made without the write bit?
/// UFFD_WP_WRITENOTIFY: where userfaultfd write-protects, too.
///
/// Kernel:   mm/mmap.c:vma_wants_writenotify @ v5.14
/// Fidelity: TRIMMED(page_mkwrite, PFN maps, files with writeback: shmem has none)
/// Locks:    mmap_lock held
/// Errors:   none
pub fn vma_wants_writenotify(k: &Kernel, vma: VmaId, prot: PageProt) -> bool {
    let vm_flags = k.vma(vma).vm_flags;
    if !vm_flags.contains(VM_WRITE | VM_SHARED) {
        return false;
    }
    // A protection that does not follow from the flags is somebody's choice, and is left alone.
    if prot != vm_pgprot_modify(prot, vm_flags) {
        return false;
    }
    if k.s().config.soft_dirty && !vm_flags.contains(VM_SOFTDIRTY) {
        return true;
    }
    if k.has(Delta::UFFD_WP_WRITENOTIFY) && vm_flags.contains(VM_UFFD_WP) {
        return true;
    }
    false
}

/// Derive vm_page_prot from vm_flags.
///
/// Kernel:   mm/mmap.c:vma_set_page_prot @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub fn vma_set_page_prot(k: &Kernel, vma: VmaId) {
    let mut vm_flags = k.vma(vma).vm_flags;
    let mut vm_page_prot = vm_pgprot_modify(k.vma(vma).vm_page_prot, vm_flags);
    if vma_wants_writenotify(k, vma, vm_page_prot) {
        vm_flags -= VM_SHARED;
        vm_page_prot = vm_pgprot_modify(vm_page_prot, vm_flags);
    }
    k.vma_mut(vma).vm_page_prot = vm_page_prot;
}

// ---- accounting ---------------------------------------------------------------------------------------------------------

/// `vm_acct_memory`: charge pages, whatever the limit says.
fn vm_acct_memory(k: &Kernel, pages: i64) {
    if pages != 0 {
        let now = {
            let mut s = k.sm();
            s.vm_committed_as += pages;
            s.vm_committed_as
        };
        k.trace(|| Event::Acct { what: "vm_committed_as", delta: pages, now });
    }
}

/// Charge pages to the commit limit, which exists when overcommit is forbidden (`vm.overcommit_memory=2`).
///
/// Kernel:   mm/util.c:__vm_enough_memory @ v5.14
/// Fidelity: MODEL (the limit is a setting; without one nothing is refused)
/// Locks:    none
/// Errors:   ENOMEM
pub fn vm_enough_memory(k: &Kernel, pages: i64) -> KResult {
    if k.should_fail("vm_enough_memory") {
        return Err(ENOMEM);
    }
    vm_acct_memory(k, pages);
    let over = {
        let s = k.s();
        s.config.commit_limit.is_some_and(|limit| s.vm_committed_as > limit)
    };
    if over {
        k.branch("over the commit limit");
        vm_unacct_memory(k, pages);
        return Err(ENOMEM);
    }
    Ok(())
}

/// Give charged pages back.
///
/// Kernel:   include/linux/mman.h:vm_unacct_memory @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn vm_unacct_memory(k: &Kernel, pages: i64) {
    vm_acct_memory(k, -pages);
}

/// [`vm_enough_memory`] for the VM_ACCOUNT mappings of an mm.
///
/// Kernel:   security/security.c:security_vm_enough_memory_mm @ v5.14
/// Fidelity: MIRROR (the model also remembers what each mm holds)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
pub fn security_vm_enough_memory_mm(k: &Kernel, mm: MmId, pages: i64) -> KResult {
    if let Err(error) = vm_enough_memory(k, pages) {
        return Err(error);
    }
    k.mm_mut(mm).total_charged += pages;
    Ok(())
}

/// Give back what VM_ACCOUNT mappings of an mm held.
pub(crate) fn mm_unacct_memory(k: &Kernel, mm: MmId, pages: i64) {
    vm_unacct_memory(k, pages);
    k.mm_mut(mm).total_charged -= pages;
}

/// Charge an mm whatever the limit says.
pub(crate) fn mm_acct_memory(k: &Kernel, mm: MmId, pages: i64) {
    mm_unacct_memory(k, mm, -pages);
}

/// Are pages of such a mapping charged? Private writable memory is, unless MAP_NORESERVE.
///
/// Kernel:   mm/mmap.c:accountable_mapping @ v5.14
/// Fidelity: TRIMMED(hugetlb)
/// Locks:    none
/// Errors:   none
fn accountable_mapping(vm_flags: VmFlags) -> bool {
    vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE
}

// ---- mmap ---------------------------------------------------------------------------------------------------------------

/// Check the place that a caller asks for.
///
/// Kernel:   mm/mmap.c:get_unmapped_area, security/commoncap.c:cap_mmap_addr @ v5.14
/// Fidelity: TRIMMED(the search: the model maps only at given addresses; CAP_SYS_RAWIO: nobody maps below mmap_min_addr)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM outside the address space; EINVAL not aligned; EPERM below mmap_min_addr
pub(crate) fn get_unmapped_area(addr: u64, len: u64) -> KResult<u64> {
    if len > TASK_SIZE {
        return Err(ENOMEM);
    }
    if addr > TASK_SIZE - len {
        return Err(ENOMEM);
    }
    if addr & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    if addr < MMAP_MIN_ADDR {
        return Err(EPERM);
    }
    Ok(addr)
}

/// `->mmap` of a file. The kernel's answer for a file without that method is ENODEV.
///
/// Kernel:   include/linux/fs.h:call_mmap; drivers/char/mem.c:mmap_zero @ v5.14
/// Fidelity: MODEL (dispatch by the kind of the inode)
/// Locks:    mmap_lock held for writing
/// Errors:   see shmem_mmap and shmem_zero_setup
async fn call_mmap(k: &Kernel, file: FileId, mapping: InodeId, vma: VmaId) -> KResult {
    let kind = k.inode(mapping).kind;
    match kind {
        InodeKind::Shmem => shmem_mmap(k, file, vma),
        InodeKind::DevZero => {
            if k.vma(vma).vm_flags.contains(VM_SHARED) {
                return shmem_zero_setup(k, vma).await;
            }
            // vma_set_anonymous. vm_file stays, which makes this VMA neither quite anonymous nor quite a file's.
            k.vma_mut(vma).vm_ops = VmOps::None;
            Ok(())
        }
    }
}

/// Make room for a mapping and find the VMA before it.
///
/// Kernel:   mm/mmap.c:munmap_vma_range @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
async fn munmap_vma_range(k: &Kernel, mm: MmId, start: u64, len: u64, uf: &mut UfList) -> KResult<Option<VmaId>> {
    loop {
        if let Ok(prev) = find_vma_links(k, mm, start, start + len) {
            return Ok(prev);
        }
        if do_munmap(k, mm, start, len, uf).await.is_err() {
            return Err(ENOMEM);
        }
    }
}

/// Map `[addr, addr + len)`, after everything has been checked.
///
/// Kernel:   mm/mmap.c:mmap_region @ v5.14
/// Fidelity: TRIMMED(address-space limit, hugetlb, arch_validate_flags, uprobes, perf)
/// Locks:    mmap_lock held for writing; takes and drops i_mmap_rwsem
/// Errors:   ENOMEM; EPERM the file is sealed against writing; those of ->mmap
async fn mmap_region(
    k: &Kernel,
    file: Option<FileId>,
    mut addr: u64,
    len: u64,
    mut vm_flags: VmFlags,
    pgoff: u64,
    uf: &mut UfList,
) -> KResult<u64> {
    let _f = k.enter("mmap_region", || format!("addr={addr:#x} len={len:#x} {vm_flags:?} pgoff={pgoff}"));
    let Some(mm) = k.current_mm() else {
        return Err(ENOMEM);
    };
    let mapping = file.and_then(|file| f_mapping(k, file));
    let mut charged = 0i64;

    let prev = match munmap_vma_range(k, mm, addr, len, uf).await {
        Ok(prev) => prev,
        Err(error) => return Err(error),
    };

    if accountable_mapping(vm_flags) {
        charged = (len >> PAGE_SHIFT) as i64;
        if security_vm_enough_memory_mm(k, mm, charged).is_err() {
            return Err(ENOMEM);
        }
        vm_flags |= VM_ACCOUNT;
    }

    let error;
    crate::ladder! {
        {
            let vma = 'out: {
                if let Some(vma) = vma_merge(k, mm, prev, addr, addr + len, vm_flags, None, file, pgoff, None).await {
                    break 'out vma;
                }

                let Some(mut vma) = vm_area_alloc(k, mm) else {
                    error = ENOMEM;
                    break 'unacct_error;
                };
                {
                    let mut v = k.vma_mut(vma);
                    v.vm_start = addr;
                    v.vm_end = addr + len;
                    v.vm_flags = vm_flags;
                    v.vm_page_prot = vm_get_page_prot(vm_flags);
                    v.vm_pgoff = pgoff;
                }

                'unmap_writable: {
                    if let (Some(file), Some(mapping)) = (file, mapping) {
                        if is_shared_maywrite(k, vm_flags)
                            && let Err(e) = mapping_map_writable(k, mapping)
                        {
                            error = e;
                            vm_area_free(k, vma);
                            break 'unacct_error;
                        }
                        get_file(k, file);
                        k.vma_mut(vma).vm_file = Some(file);
                        if let Err(e) = call_mmap(k, file, mapping, vma).await {
                            k.branch("->mmap refused");
                            let vm_file = k.vma(vma).vm_file;
                            if let Some(vm_file) = vm_file {
                                fput(k, vm_file).await;
                            }
                            k.vma_mut(vma).vm_file = None;
                            unmap_region(k, mm, &[vma], prev, addr, addr + len).await;
                            if is_shared_maywrite(k, vm_flags) {
                                mapping_unmap_writable(k, mapping);
                            }
                            error = e;
                            vm_area_free(k, vma);
                            break 'unacct_error;
                        }
                        let v = k.vma(vma);
                        WARN_ON_ONCE!(k, addr != v.vm_start);
                        addr = v.vm_start;

                        // ->mmap took a flag away: perhaps now a neighbour fits.
                        if vm_flags != v.vm_flags && prev.is_some() {
                            let merge =
                                vma_merge(k, mm, prev, v.vm_start, v.vm_end, v.vm_flags, None, v.vm_file, v.vm_pgoff, None).await;
                            if let Some(merge) = merge {
                                if let Some(vm_file) = v.vm_file {
                                    fput(k, vm_file).await;
                                }
                                vm_area_free(k, vma);
                                vma = merge;
                                vm_flags = k.vma(vma).vm_flags;
                                break 'unmap_writable;
                            }
                        }
                        vm_flags = v.vm_flags;
                    } else if vm_flags.contains(VM_SHARED) {
                        if let Err(e) = shmem_zero_setup(k, vma).await {
                            error = e;
                            vm_area_free(k, vma);
                            break 'unacct_error;
                        }
                    } else {
                        // vma_set_anonymous
                        k.vma_mut(vma).vm_ops = VmOps::None;
                    }
                    vma_link(k, mm, vma).await;
                }
                // The VMA counts for itself now.
                if let (Some(mapping), true) = (mapping, is_shared_maywrite(k, vm_flags)) {
                    mapping_unmap_writable(k, mapping);
                }
                vma
            };
            if k.s().config.soft_dirty {
                k.vma_mut(vma).vm_flags |= VM_SOFTDIRTY;
            }
            vma_set_page_prot(k, vma);
            return Ok(addr);
        }
        'unacct_error: {
            if charged != 0 {
                mm_unacct_memory(k, mm, charged);
            }
            Err(error)
        }
    }
}

/// Does a seal against writing permit the mapping? Shared and read-only it may exist, and never become writable.
///
/// Kernel:   mm/memfd.c:memfd_check_seals_mmap, check_write_seal @ v6.13
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   EPERM shared and writable
fn memfd_check_seals_mmap(k: &Kernel, file: FileId, vm_flags: &mut VmFlags) -> KResult {
    let Some(mapping) = f_mapping(k, file) else { return Ok(()) };
    if !k.inode(mapping).info.seals.intersects(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) {
        return Ok(());
    }
    if !vm_flags.contains(VM_SHARED) {
        return Ok(());
    }
    if vm_flags.contains(VM_WRITE) {
        k.branch("sealed against writing: -EPERM");
        return Err(EPERM);
    }
    k.branch("read-only mapping of a sealed file: not VM_MAYWRITE");
    *vm_flags -= VM_MAYWRITE;
    Ok(())
}

/// Check an mmap call and carry it out. `populate` says how many bytes are to be faulted in when the lock is dropped.
///
/// Kernel:   mm/mmap.c:do_mmap @ v5.14
/// Fidelity: TRIMMED(the search for a place, mlock limits, noexec mounts, swap files, file locks, MAP_SHARED_VALIDATE)
/// Locks:    mmap_lock held for writing
/// Errors:   EINVAL len 0, neither shared nor private, or not aligned; ENOMEM too long or outside the address space;
///           EOVERFLOW the offset wraps; EEXIST MAP_FIXED_NOREPLACE and occupied; EACCES the descriptor's rights; ENODEV the
///           file can't be mapped; EPERM below mmap_min_addr or sealed
async fn do_mmap(
    k: &Kernel,
    file: Option<FileId>,
    mut addr: u64,
    mut len: u64,
    prot: Prot,
    mut flags: MapFlags,
    mut pgoff: u64,
    populate: &mut u64,
    uf: &mut UfList,
) -> KResult<u64> {
    let _f = k.enter("do_mmap", || format!("addr={addr:#x} len={len:#x} {prot:?} {flags:?} pgoff={pgoff}"));
    *populate = 0;
    let Some(mm) = k.current_mm() else {
        return Err(ENOMEM);
    };
    if len == 0 {
        return Err(EINVAL);
    }
    if flags.contains(MAP_FIXED_NOREPLACE) {
        flags |= MAP_FIXED;
    }
    len = page_align(len);
    if len == 0 {
        return Err(ENOMEM);
    }
    if pgoff.checked_add(len >> PAGE_SHIFT).is_none() {
        return Err(EOVERFLOW);
    }
    // The model does not search for a place.
    if !flags.contains(MAP_FIXED) {
        return Err(EINVAL);
    }
    addr = match get_unmapped_area(addr, len) {
        Ok(addr) => addr,
        Err(error) => return Err(error),
    };
    if flags.contains(MAP_FIXED_NOREPLACE) && find_vma_intersection(k, mm, addr, addr + len).is_some() {
        return Err(EEXIST);
    }

    let mut vm_flags = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
    for (p, vm) in [(PROT_READ, VM_READ), (PROT_WRITE, VM_WRITE), (PROT_EXEC, VM_EXEC)] {
        if prot.contains(p) {
            vm_flags |= vm;
        }
    }
    if flags.contains(MAP_LOCKED) {
        vm_flags |= VM_LOCKED;
    }

    let map_type = flags & (MAP_SHARED | MAP_PRIVATE);
    if let Some(file) = file {
        let f = k.file(file);
        // file_mmap_ok: offsets are signed 64-bit bytes.
        if let Some(mapping) = f_mapping(k, file)
            && k.inode(mapping).kind == InodeKind::Shmem
            && (len > i64::MAX as u64 || pgoff > (i64::MAX as u64 - len) >> PAGE_SHIFT)
        {
            return Err(EOVERFLOW);
        }
        if map_type == MAP_SHARED {
            if prot.contains(PROT_WRITE) && !f.f_mode_write {
                return Err(EACCES);
            }
            vm_flags |= VM_SHARED | VM_MAYSHARE;
            if !f.f_mode_write {
                k.branch("shared mapping of a read-only descriptor: not VM_SHARED");
                vm_flags -= VM_MAYWRITE | VM_SHARED;
            }
        } else if map_type != MAP_PRIVATE {
            return Err(EINVAL);
        }
        if !f.f_mode_read {
            return Err(EACCES);
        }
        // No ->mmap.
        if !matches!(f.kind, FileKind::Inode(_)) {
            return Err(ENODEV);
        }
        // Before anything is unmapped, and whether or not the mapping is merged with one that was made before the seal.
        if k.has(Delta::MEMFD_SEALED_READONLY) {
            let err = memfd_check_seals_mmap(k, file, &mut vm_flags);
            if err.is_err() {
                return err.map(|()| 0);
            }
        }
    } else if map_type == MAP_SHARED {
        pgoff = 0;
        vm_flags |= VM_SHARED | VM_MAYSHARE;
    } else if map_type == MAP_PRIVATE {
        pgoff = addr >> PAGE_SHIFT;
    } else {
        return Err(EINVAL);
    }

    // With overcommit forbidden MAP_NORESERVE is not honoured.
    if flags.contains(MAP_NORESERVE) && k.s().config.commit_limit.is_none() {
        vm_flags |= VM_NORESERVE;
    }

    let ret = mmap_region(k, file, addr, len, vm_flags, pgoff, uf).await;
    if ret.is_ok() && (vm_flags.contains(VM_LOCKED) || flags.contains(MAP_POPULATE)) {
        *populate = len;
    }
    ret
}

/// mmap(2). Takes a reference to the file for as long as it lasts.
///
/// Kernel:   arch/x86/kernel/sys_x86_64.c:mmap, mm/mmap.c:ksys_mmap_pgoff, mm/util.c:vm_mmap_pgoff @ v5.14
/// Fidelity: TRIMMED(hugetlb; the lock is not killable; only MAP_FIXED and MAP_FIXED_NOREPLACE, the rest is EINVAL)
/// Locks:    takes and drops mmap_lock for writing; faults in under it for reading
/// Errors:   EINVAL the offset is not aligned; EBADF no file and not MAP_ANONYMOUS; those of do_mmap
pub async fn sys_mmap(
    k: &Kernel,
    addr: u64,
    len: u64,
    prot: Prot,
    flags: MapFlags,
    file: Option<FileId>,
    offset: u64,
) -> KResult<i64> {
    if offset & (PAGE_SIZE - 1) != 0 {
        return Err(EINVAL);
    }
    let file = if flags.contains(MAP_ANONYMOUS) {
        None
    } else if file.is_none() {
        return Err(EBADF);
    } else {
        file
    };
    let Some(mm) = k.current_mm() else {
        return Err(ENOMEM);
    };
    if let Some(file) = file {
        get_file(k, file);
    }
    let mut populate = 0;
    let mut uf = UfList::new();
    mmap_write_lock(k, mm).await;
    let ret = do_mmap(k, file, addr, len, prot, flags, offset >> PAGE_SHIFT, &mut populate, &mut uf).await;
    mmap_write_unlock(k, mm);
    userfaultfd_unmap_complete(k, mm, uf).await;
    if let (Ok(start), true) = (ret, populate != 0) {
        mm_populate(k, start, populate).await;
    }
    if let Some(file) = file {
        fput(k, file).await;
    }
    ret.map(|addr| addr as i64)
}

// ---- munmap -------------------------------------------------------------------------------------------------------------

/// Close and free a VMA that nothing finds any more.
///
/// Kernel:   mm/mmap.c:remove_vma @ v5.14
/// Fidelity: TRIMMED(vm_ops->close, mempolicy; the kernel's last fput runs a little later, on the way back to user mode)
/// Locks:    mmap_lock held, or the last user of the mm
/// Errors:   none
pub async fn remove_vma(k: &Kernel, vma: VmaId) {
    let vm_file = k.vma(vma).vm_file;
    if let Some(vm_file) = vm_file {
        fput(k, vm_file).await;
    }
    vm_area_free(k, vma);
}

/// Give back what unmapped VMAs held: accounting, files, the VMAs themselves.
///
/// Kernel:   mm/mmap.c:remove_vma_list @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
async fn remove_vma_list(k: &Kernel, mm: MmId, vmas: &[VmaId]) {
    let mut nr_accounted = 0;
    for &vma in vmas {
        let v = k.vma(vma);
        if v.vm_flags.contains(VM_ACCOUNT) {
            nr_accounted += vma_pages(&v) as i64;
        }
        remove_vma(k, vma).await;
    }
    mm_unacct_memory(k, mm, nr_accounted);
}

/// Hide VMAs from the reverse map and free the page tables that only they used. Until here truncation and reclaim could find
/// them, as their entries had to be findable.
///
/// Kernel:   mm/memory.c:free_pgtables @ v5.14
/// Fidelity: MIRROR (all VMAs leave the reverse map first, then one walk frees the tables)
/// Locks:    mmap_lock held, or the last user of the mm; takes and drops anon_vma locks and i_mmap_rwsem
/// Errors:   none
pub async fn free_pgtables(k: &Kernel, mm: MmId, vmas: &[VmaId], floor: u64, ceiling: u64) {
    for &vma in vmas {
        unlink_anon_vmas(k, vma).await;
        unlink_file_vma(k, vma).await;
    }
    free_pgd_range(k, mm, floor, ceiling);
}

/// Drop the entries of VMAs that have left the mm's list, and the page tables between their neighbours.
///
/// Kernel:   mm/mmap.c:unmap_region @ v5.14
/// Fidelity: TRIMMED(TLB gathering)
/// Locks:    mmap_lock held
/// Errors:   none
async fn unmap_region(k: &Kernel, mm: MmId, vmas: &[VmaId], prev: Option<VmaId>, start: u64, end: u64) {
    let next = match prev {
        Some(prev) => vma_next(k, prev),
        None => k.mm(mm).mmap.first().copied(),
    };
    lru_add_drain(k);
    unmap_vmas(k, vmas, start, end).await;
    let floor = prev.map_or(0, |prev| k.vma(prev).vm_end);
    let ceiling = next.map_or(0, |next| k.vma(next).vm_start);
    free_pgtables(k, mm, vmas, floor, ceiling).await;
}

/// Unmap `[start, start + len)`. True: the lock has been downgraded to reading. `uf` collects the contexts that want an UNMAP
/// event.
///
/// Kernel:   mm/mmap.c:__do_munmap @ v5.14
/// Fidelity: TRIMMED(max_map_count, arch_unmap, stacks that grow)
/// Locks:    mmap_lock held for writing, with `downgrade` afterwards perhaps for reading only
/// Errors:   EINVAL not aligned, empty or outside the address space; ENOMEM no memory to split (one split may stay)
pub async fn __do_munmap(k: &Kernel, mm: MmId, start: u64, len: u64, uf: &mut UfList, downgrade: bool) -> KResult<bool> {
    let _f = k.enter("__do_munmap", || format!("start={start:#x} len={len:#x}"));
    if start & (PAGE_SIZE - 1) != 0 || start > TASK_SIZE || len > TASK_SIZE - start {
        return Err(EINVAL);
    }
    let len = page_align(len);
    let end = start + len;
    if len == 0 {
        return Err(EINVAL);
    }

    let Some(vma) = find_vma_intersection(k, mm, start, end) else {
        return Ok(false);
    };
    let mut prev = vma_prev(k, vma);

    if start > k.vma(vma).vm_start {
        if let Err(error) = __split_vma(k, mm, vma, start, false).await {
            return Err(error);
        }
        prev = Some(vma);
    }
    if let Some(last) = find_vma(k, mm, end)
        && end > k.vma(last).vm_start
        && let Err(error) = __split_vma(k, mm, last, end, true).await
    {
        return Err(error);
    }

    let mut vmas: SmallVec<[VmaId; 8]> = SmallVec::new();
    for &vma in &k.mm(mm).mmap {
        let v = k.vma_ref(vma);
        if v.vm_start >= start && v.vm_start < end {
            vmas.push(vma);
        }
    }

    // Fails after the splits: they stay.
    if let Some(&vma) = vmas.first()
        && let Err(error) = userfaultfd_unmap_prep(k, vma, start, end, uf)
    {
        return Err(error);
    }

    unlock_range(k, &vmas).await;

    // detach_vmas_to_be_unmapped: faults do not find them any more, the reverse map still does.
    k.mm_mut(mm).mmap.retain(|vma| !vmas.contains(vma));
    if downgrade {
        mmap_write_downgrade(k, mm);
    }
    unmap_region(k, mm, &vmas, prev, start, end).await;
    remove_vma_list(k, mm, &vmas).await;
    Ok(downgrade)
}

/// munlock those of the VMAs that are mlocked. MLOCK_RMAP: each page is, when it is unmapped.
///
/// Kernel:   mm/mmap.c:__do_munmap (its munlock loop), exit_mmap @ v5.14
/// Fidelity: TRIMMED(locked_vm)
/// Locks:    mmap_lock held for writing, or the last user of the mm
/// Errors:   none
pub(crate) async fn unlock_range(k: &Kernel, vmas: &[VmaId]) {
    if k.has(Delta::MLOCK_RMAP) {
        return;
    }
    for &vma in vmas {
        let v = k.vma(vma);
        if v.vm_flags.contains(VM_LOCKED) {
            munlock_vma_pages_range(k, vma, v.vm_start, v.vm_end).await;
        }
    }
}

/// `__do_munmap` with the lock kept for writing.
///
/// Kernel:   mm/mmap.c:do_munmap @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   as __do_munmap
pub(crate) async fn do_munmap(k: &Kernel, mm: MmId, start: u64, len: u64, uf: &mut UfList) -> KResult {
    __do_munmap(k, mm, start, len, uf, false).await.map(|_| ())
}

/// munmap(2).
///
/// Kernel:   mm/mmap.c:__vm_munmap @ v5.14
/// Fidelity: TRIMMED(the lock is not killable)
/// Locks:    takes and drops mmap_lock for writing
/// Errors:   as __do_munmap
pub async fn sys_munmap(k: &Kernel, addr: u64, len: u64) -> KResult {
    let Some(mm) = k.current_mm() else {
        return Err(EINVAL);
    };
    let mut uf = UfList::new();
    mmap_write_lock(k, mm).await;
    let ret = __do_munmap(k, mm, addr, len, &mut uf, true).await;
    if ret == Ok(true) {
        mmap_read_unlock(k, mm);
    } else {
        mmap_write_unlock(k, mm);
    }
    userfaultfd_unmap_complete(k, mm, uf).await;
    ret.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections_of_x86() {
        let none = PageProt { flags: _PAGE_PROTNONE | _PAGE_ACCESSED };
        let ro = PageProt { flags: _PAGE_ACCESSED };
        let rw = PageProt { flags: _PAGE_ACCESSED | _PAGE_RW };
        for shared in [VmFlags::empty(), VM_SHARED] {
            assert_eq!(vm_get_page_prot(shared | VM_MAYREAD | VM_MAYWRITE), none);
            assert_eq!(vm_get_page_prot(shared | VM_READ), ro);
            assert_eq!(vm_get_page_prot(shared | VM_EXEC), ro);
        }
        // A private page is copied at the first store, so no entry is made writable; VM_MAYSHARE does not count.
        assert_eq!(vm_get_page_prot(VM_READ | VM_WRITE | VM_MAYSHARE), ro);
        assert_eq!(vm_get_page_prot(VM_WRITE | VM_SHARED), rw);
        assert_eq!(vm_get_page_prot(VM_READ | VM_WRITE | VM_SHARED), rw);
    }

    #[test]
    fn soft_dirty_tracking_takes_the_write_bit() {
        for (soft_dirty, armed, writable) in [(false, true, true), (true, false, true), (true, true, false)] {
            let mut s = State::default();
            s.config.soft_dirty = soft_dirty;
            let mut vm_flags = VM_READ | VM_WRITE | VM_SHARED;
            if !armed {
                vm_flags |= VM_SOFTDIRTY;
            }
            let vma = s.vmas.insert(Vma { vm_flags, vm_page_prot: vm_get_page_prot(vm_flags), ..Vma::default() });
            let k = Kernel::new(s);
            vma_set_page_prot(&k, vma);
            assert_eq!(k.vma(vma).vm_page_prot.flags.contains(_PAGE_RW), writable);
            // mprotect asks with the protection from before: one that does not fit the flags is left alone.
            assert!(!vma_wants_writenotify(&k, vma, vm_get_page_prot(VM_READ)));
        }
    }

    #[test]
    fn places_that_may_be_mapped() {
        assert_eq!(get_unmapped_area(MMAP_MIN_ADDR, PAGE_SIZE), Ok(MMAP_MIN_ADDR));
        assert_eq!(get_unmapped_area(MMAP_MIN_ADDR - PAGE_SIZE, PAGE_SIZE), Err(EPERM));
        assert_eq!(get_unmapped_area(MMAP_MIN_ADDR + 1, PAGE_SIZE), Err(EINVAL));
        assert_eq!(get_unmapped_area(TASK_SIZE - PAGE_SIZE, PAGE_SIZE), Ok(TASK_SIZE - PAGE_SIZE));
        assert_eq!(get_unmapped_area(TASK_SIZE, PAGE_SIZE), Err(ENOMEM));
        assert_eq!(get_unmapped_area(MMAP_MIN_ADDR, TASK_SIZE + PAGE_SIZE), Err(ENOMEM));
    }

    #[test]
    fn the_commit_limit() {
        let mut s = State::default();
        s.config.commit_limit = Some(10);
        let mm = s.mms.insert(MmStruct::default());
        let k = Kernel::new(s);
        assert_eq!(security_vm_enough_memory_mm(&k, mm, 10), Ok(()));
        assert_eq!(security_vm_enough_memory_mm(&k, mm, 1), Err(ENOMEM));
        assert_eq!((k.s().vm_committed_as, k.mm(mm).total_charged), (10, 10));
        mm_unacct_memory(&k, mm, 10);
        k.run.fail_at.borrow_mut().push(2);
        assert_eq!(vm_enough_memory(&k, 1), Err(ENOMEM));
        assert_eq!((k.s().vm_committed_as, k.mm(mm).total_charged), (0, 0));
    }
}
