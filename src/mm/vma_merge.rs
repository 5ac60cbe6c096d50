// SPDX-License-Identifier: GPL-2.0-only
//! `mm/mmap.c`, the half that gives a VMA its shape: linking, growing, merging, splitting and copying.
//!
//! A merge decides by comparing the neighbours of a range; `__vma_adjust` then moves the boundaries. Page tables are not touched
//! by either: which VMA an entry belongs to is only a matter of its address.

use crate::WARN_ON_ONCE;
use crate::delta::Delta;
use crate::errno::*;
use crate::event::Event;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, release};
use crate::mm::memory::vma_is_anonymous;
use crate::mm::mmap::{find_vma, find_vma_intersection, security_vm_enough_memory_mm, vma_next, vma_prev};
use crate::mm::rmap::{anon_vma_clone, unlink_anon_vmas};
use crate::vfs::{f_mapping, fput, get_file};

/// The kernel's `vma_pages`.
pub(crate) fn vma_pages(vma: &Vma) -> u64 {
    (vma.vm_end - vma.vm_start) >> PAGE_SHIFT
}

fn trace_vma(k: &Kernel, vma: VmaId, what: &str) {
    k.trace(|| {
        let v = k.vma(vma);
        Event::Vma { vma, what: format!("{what} [{:#x}, {:#x}) {:?}", v.vm_start, v.vm_end, v.vm_flags) }
    });
}

/// A new VMA in no list. None: out of memory.
///
/// Kernel:   kernel/fork.c:vm_area_alloc @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   None is -ENOMEM
pub(crate) fn vm_area_alloc(k: &Kernel, mm: MmId) -> Option<VmaId> {
    if k.should_fail("vma alloc") {
        return None;
    }
    Some(k.sm().vmas.insert(Vma { vm_mm: mm, ..Vma::default() }))
}

/// A copy of a VMA, in no list and in no anon_vma.
///
/// Kernel:   kernel/fork.c:vm_area_dup @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   None is -ENOMEM
pub(crate) fn vm_area_dup(k: &Kernel, orig: VmaId) -> Option<VmaId> {
    if k.should_fail("vma alloc") {
        return None;
    }
    let copy = k.vma(orig);
    Some(k.sm().vmas.insert(copy))
}

/// Free a VMA that is in no list any more.
///
/// Kernel:   kernel/fork.c:vm_area_free @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub(crate) fn vm_area_free(k: &Kernel, vma: VmaId) {
    trace_vma(k, vma, "freed");
    k.sm().vmas.remove(vma);
}

/// The top page table of an mm: made with its first mapping.
///
/// Kernel:   kernel/fork.c:mm_alloc_pgd @ v5.14
/// Fidelity: MODEL (the kernel does it in mm_init; an mm without mappings needs none)
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub(crate) fn mm_alloc_pgd(k: &Kernel, mm: MmId) {
    let pgd = k.mm(mm).pgd;
    if pgd.is_none() {
        let pgd = k.sm().tables.insert(PageTable { level: 4, ..PageTable::default() });
        k.mm_mut(mm).pgd = Some(pgd);
    }
}

/// Where a new VMA for `[addr, end)` would go: the VMA before it. An error says that the range is not free.
///
/// Kernel:   mm/mmap.c:find_vma_links @ v5.14
/// Fidelity: TRIMMED(rbtree)
/// Locks:    mmap_lock held
/// Errors:   ENOMEM something is mapped there
pub(crate) fn find_vma_links(k: &Kernel, mm: MmId, addr: u64, end: u64) -> KResult<Option<VmaId>> {
    if find_vma_intersection(k, mm, addr, end).is_some() {
        return Err(ENOMEM);
    }
    match find_vma(k, mm, addr) {
        Some(next) => Ok(vma_prev(k, next)),
        None => Ok(k.mm(mm).mmap.last().copied()),
    }
}

/// Put a VMA into the mm's list (`__vma_link`), at the place its address asks for.
///
/// Kernel:   mm/mmap.c:__insert_vm_struct @ v5.14
/// Fidelity: TRIMMED(rbtree, gaps)
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub(crate) fn __insert_vm_struct(k: &Kernel, mm: MmId, vma: VmaId) {
    mm_alloc_pgd(k, mm);
    let start = k.vma(vma).vm_start;
    let at = k.mm(mm).mmap.iter().filter(|&&v| k.vma_ref(v).vm_start < start).count();
    k.mm_mut(mm).mmap.insert(at, vma);
    trace_vma(k, vma, "linked");
}

/// Put a VMA into its file's list, where truncation and the reverse map look for it.
///
/// Kernel:   mm/mmap.c:__vma_link_file @ v5.14
/// Fidelity: MIRROR
/// Locks:    i_mmap_rwsem held for writing
/// Errors:   none
pub(crate) fn __vma_link_file(k: &Kernel, vma: VmaId) {
    let v = k.vma(vma);
    if let Some(mapping) = v.vm_file.and_then(|file| f_mapping(k, file)) {
        if is_shared_maywrite(k, v.vm_flags) {
            mapping_allow_writable(k, mapping);
        }
        k.inode_mut(mapping).i_mmap.push(vma);
    }
}

/// Link a VMA into its mm and its file.
///
/// Kernel:   mm/mmap.c:vma_link @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing; takes and drops i_mmap_rwsem
/// Errors:   none
pub(crate) async fn vma_link(k: &Kernel, mm: MmId, vma: VmaId) {
    let mapping = k.vma(vma).vm_file.and_then(|file| f_mapping(k, file));
    if let Some(mapping) = mapping {
        acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
    }
    __insert_vm_struct(k, mm, vma);
    __vma_link_file(k, vma);
    if let Some(mapping) = mapping {
        release(k, LockId::IMmap(mapping), LockMode::Write);
    }
}

/// Does a VMA with these flags count as one that may write to the file? MEMFD_SEALED_READONLY: only if it may ever be made writable.
///
/// Kernel:   include/linux/mm.h:is_shared_maywrite @ v6.7 (VM_SHARED alone before)
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub(crate) fn is_shared_maywrite(k: &Kernel, vm_flags: VmFlags) -> bool {
    let mask = if k.has(Delta::MEMFD_SEALED_READONLY) { VM_SHARED | VM_MAYWRITE } else { VM_SHARED };
    vm_flags.contains(mask)
}

/// `mapping_map_writable`: one more VM_SHARED mapping, unless F_SEAL_WRITE denies them.
///
/// Kernel:   include/linux/fs.h:mapping_map_writable @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   EPERM the file is sealed against writing
pub(crate) fn mapping_map_writable(k: &Kernel, mapping: InodeId) -> KResult {
    let mut inode = k.inode_mut(mapping);
    if inode.i_mmap_writable < 0 {
        return Err(EPERM);
    }
    inode.i_mmap_writable += 1;
    Ok(())
}

/// `mapping_unmap_writable`: one VM_SHARED mapping less.
///
/// Kernel:   include/linux/fs.h:mapping_unmap_writable @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub(crate) fn mapping_unmap_writable(k: &Kernel, mapping: InodeId) {
    k.inode_mut(mapping).i_mmap_writable -= 1;
}

/// `mapping_allow_writable`: one more, for a caller who knows that there is one already.
///
/// Kernel:   include/linux/fs.h:mapping_allow_writable @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub(crate) fn mapping_allow_writable(k: &Kernel, mapping: InodeId) {
    k.inode_mut(mapping).i_mmap_writable += 1;
}

/// Take a VMA out of its file's list.
///
/// Kernel:   mm/mmap.c:__remove_shared_vm_struct @ v5.14
/// Fidelity: MIRROR
/// Locks:    i_mmap_rwsem held for writing
/// Errors:   none
fn __remove_shared_vm_struct(k: &Kernel, vma: VmaId, mapping: InodeId) {
    if is_shared_maywrite(k, k.vma(vma).vm_flags) {
        mapping_unmap_writable(k, mapping);
    }
    k.inode_mut(mapping).i_mmap.retain(|v| *v != vma);
}

/// Take a VMA out of its file's list: from here on truncation and the reverse map do not find it.
///
/// Kernel:   mm/mmap.c:unlink_file_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    takes and drops i_mmap_rwsem
/// Errors:   none
pub async fn unlink_file_vma(k: &Kernel, vma: VmaId) {
    let mapping = k.vma(vma).vm_file.and_then(|file| f_mapping(k, file));
    if let Some(mapping) = mapping {
        acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
        __remove_shared_vm_struct(k, vma, mapping);
        release(k, LockId::IMmap(mapping), LockMode::Write);
    }
}

/// The lock of an anon_vma: that of its root.
pub(crate) fn anon_vma_lock(k: &Kernel, anon_vma: AnonVmaId) -> LockId {
    LockId::AnonVma(k.anon_vma(anon_vma).root.unwrap_or(anon_vma))
}

/// Leave the anon_vmas of a VMA that has been merged into `vma`.
///
/// Kernel:   include/linux/rmap.h:anon_vma_merge @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing; takes and drops anon_vma locks
/// Errors:   none
async fn anon_vma_merge(k: &Kernel, vma: VmaId, next: VmaId) {
    crate::VM_BUG_ON!(k, k.vma(vma).anon_vma != k.vma(next).anon_vma);
    unlink_anon_vmas(k, next).await;
}

/// Move the boundaries of `vma` to `[start, end)`, and its neighbour's with them. `insert` is the other half of a split;
/// `expand` is the VMA that a merge lets grow; VMAs that it grows over are freed.
///
/// Kernel:   mm/mmap.c:__vma_adjust @ v5.14
/// Fidelity: TRIMMED(rbtree gaps, uprobes, huge pages, mempolicy)
/// Locks:    mmap_lock held for writing; takes and drops i_mmap_rwsem and the anon_vma lock
/// Errors:   ENOMEM the growing VMA could not join the other's anon_vmas; nothing has changed then
pub(crate) async fn __vma_adjust(
    k: &Kernel,
    mut vma: VmaId,
    start: u64,
    mut end: u64,
    pgoff: u64,
    insert: Option<VmaId>,
    expand: Option<VmaId>,
) -> KResult {
    let _f = k.enter("__vma_adjust", || format!("{vma} start={start:#x} end={end:#x} pgoff={pgoff}"));
    let mm = k.vma(vma).vm_mm;
    let mut next = vma_next(k, vma);
    let file = k.vma(vma).vm_file;
    let mapping = file.and_then(|file| f_mapping(k, file));
    let mut adjust_next: i64 = 0;
    let mut remove_next = 0u8;

    if let (Some(mut nx), None) = (next, insert) {
        let mut exporter = None;
        let mut importer = vma;

        if end >= k.vma(nx).vm_end {
            // All of next is grown over, and perhaps the one after it too.
            if Some(nx) == expand {
                k.branch("next grows down over vma (case 8)");
                WARN_ON_ONCE!(k, end != k.vma(nx).vm_end);
                remove_next = 3;
                WARN_ON_ONCE!(k, file != k.vma(nx).vm_file);
                std::mem::swap(&mut vma, &mut nx);
            } else {
                WARN_ON_ONCE!(k, expand != Some(vma));
                remove_next = 1 + (end > k.vma(nx).vm_end) as u8;
                WARN_ON_ONCE!(k, remove_next == 2 && Some(end) != vma_next(k, nx).map(|after| k.vma(after).vm_end));
                // The first of two rounds when two VMAs go.
                end = k.vma(nx).vm_end;
            }
            exporter = Some(nx);
            importer = vma;
            // Without an anon_vma in the middle, it is the last one's that has to be taken over.
            if remove_next == 2 && k.vma(nx).anon_vma.is_none() {
                exporter = vma_next(k, nx);
            }
        } else if end > k.vma(nx).vm_start {
            k.branch("boundary to next moves up (case 5)");
            adjust_next = (end - k.vma(nx).vm_start) as i64;
            exporter = Some(nx);
            importer = vma;
            WARN_ON_ONCE!(k, expand != Some(importer));
        } else if end < k.vma(vma).vm_end {
            k.branch("boundary to next moves down (case 4)");
            adjust_next = -((k.vma(vma).vm_end - end) as i64);
            exporter = Some(vma);
            importer = nx;
            WARN_ON_ONCE!(k, expand != Some(importer));
        }
        next = Some(nx);

        // Anonymous pages that change hands must be found through the VMA that gets them.
        if let Some(exporter) = exporter
            && k.vma(exporter).anon_vma.is_some()
            && k.vma(importer).anon_vma.is_none()
        {
            let anon_vma = k.vma(exporter).anon_vma;
            k.vma_mut(importer).anon_vma = anon_vma;
            if let Err(error) = anon_vma_clone(k, importer, exporter).await {
                return Err(error);
            }
        }
    }

    loop {
        if let Some(mapping) = mapping {
            acquire(k, LockId::IMmap(mapping), LockMode::Write).await;
            if let Some(insert) = insert {
                __vma_link_file(k, insert);
            }
        }
        let mut anon_vma = k.vma(vma).anon_vma;
        if anon_vma.is_none() && adjust_next != 0 {
            anon_vma = next.and_then(|next| k.vma(next).anon_vma);
        }
        let anon_lock = anon_vma.map(|anon_vma| anon_vma_lock(k, anon_vma));
        if let Some(lock) = anon_lock {
            if let (Some(next), true) = (next, adjust_next != 0) {
                let next_anon = k.vma(next).anon_vma;
                WARN_ON_ONCE!(k, next_anon.is_some() && anon_vma != next_anon);
            }
            acquire(k, lock, LockMode::Write).await;
        }

        {
            let mut v = k.vma_mut(vma);
            v.vm_start = start;
            v.vm_end = end;
            v.vm_pgoff = pgoff;
        }
        trace_vma(k, vma, "adjusted to");
        if let (Some(next), true) = (next, adjust_next != 0) {
            {
                let mut n = k.vma_mut(next);
                n.vm_start = n.vm_start.wrapping_add_signed(adjust_next);
                n.vm_pgoff = n.vm_pgoff.wrapping_add_signed(adjust_next >> PAGE_SHIFT);
            }
            trace_vma(k, next, "adjusted to");
        }

        if let (Some(next), true) = (next, remove_next != 0) {
            k.mm_mut(mm).mmap.retain(|v| *v != next);
            if let Some(mapping) = mapping {
                __remove_shared_vm_struct(k, next, mapping);
            }
        } else if let Some(insert) = insert {
            __insert_vm_struct(k, mm, insert);
        }

        if let Some(lock) = anon_lock {
            release(k, lock, LockMode::Write);
        }
        if let Some(mapping) = mapping {
            release(k, LockId::IMmap(mapping), LockMode::Write);
        }

        if let (Some(gone), true) = (next, remove_next != 0) {
            if let Some(file) = file {
                fput(k, file).await;
            }
            if k.vma(gone).anon_vma.is_some() {
                anon_vma_merge(k, vma, gone).await;
            }
            vm_area_free(k, gone);
            next = if remove_next != 3 { vma_next(k, vma) } else { Some(vma) };
            if let (Some(second), 2) = (next, remove_next) {
                k.branch("the VMA after next goes too (case 6)");
                remove_next = 1;
                end = k.vma(second).vm_end;
                continue;
            }
        }
        break;
    }
    Ok(())
}

/// `__vma_adjust` without a VMA to expand.
///
/// Kernel:   include/linux/mm.h:vma_adjust @ v5.14
/// Fidelity: MIRROR
/// Locks:    as __vma_adjust
/// Errors:   as __vma_adjust
pub(crate) async fn vma_adjust(k: &Kernel, vma: VmaId, start: u64, end: u64, pgoff: u64, insert: Option<VmaId>) -> KResult {
    __vma_adjust(k, vma, start, end, pgoff, insert, None).await
}

/// May a range with these attributes become part of `vma`, its place and anonymous pages aside?
///
/// Kernel:   mm/mmap.c:is_mergeable_vma @ v5.14
/// Fidelity: TRIMMED(vm_ops->close: shmem has none)
/// Locks:    mmap_lock held
/// Errors:   none
fn is_mergeable_vma(k: &Kernel, vma: VmaId, file: Option<FileId>, vm_flags: VmFlags, ctx: Option<CtxId>) -> bool {
    let vma = k.vma(vma);
    if !((vma.vm_flags ^ vm_flags) - VM_IGNORE_MERGE).is_empty() {
        return false;
    }
    if vma.vm_file != file {
        return false;
    }
    // is_mergeable_vm_userfaultfd_ctx
    if vma.ctx != ctx {
        return false;
    }
    true
}

/// Has the VMA exactly one anon_vma on its chain? (Then it was not inherited from a parent.)
fn chain_is_singular(k: &Kernel, vma: VmaId) -> bool {
    k.s().anon_vmas.iter().filter(|(_, anon_vma)| anon_vma.vmas.contains(&vma)).count() == 1
}

/// Were pages of the VMA shared with a parent before they were written to?
///
/// Kernel:   mm/vma.c:vma_had_uncowed_parents @ v6.18
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn vma_had_uncowed_parents(k: &Kernel, vma: Option<VmaId>) -> bool {
    vma.is_some_and(|vma| k.vma(vma).anon_vma.is_some() && !chain_is_singular(k, vma))
}

/// Can the anonymous pages of both be found through one VMA? `vma` is the neighbour that `anon_vma2` belongs to, `middle` the
/// VMA that the range is in, if any: `anon_vma1` is its own.
///
/// Kernel:   mm/mmap.c:is_mergeable_anon_vma @ v5.14; mm/vma.c:is_mergeable_anon_vma @ v6.18
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn is_mergeable_anon_vma(
    k: &Kernel,
    anon_vma1: Option<AnonVmaId>,
    anon_vma2: Option<AnonVmaId>,
    vma: Option<VmaId>,
    middle: Option<VmaId>,
) -> bool {
    if k.has(Delta::VMA_MERGE_UNFAULTED) && vma.is_some() {
        // Of a VMA that is only about to be made nothing can be known.
        if anon_vma2.is_none() && anon_vma1.is_some() {
            return !vma_had_uncowed_parents(k, middle);
        }
        if anon_vma2.is_some() && anon_vma1.is_none() {
            return !vma_had_uncowed_parents(k, vma);
        }
        return anon_vma1 == anon_vma2;
    }
    if (anon_vma1.is_none() || anon_vma2.is_none()) && vma.is_none_or(|vma| chain_is_singular(k, vma)) {
        return true;
    }
    anon_vma1 == anon_vma2
}

/// May the range be put in front of `vma`?
///
/// Kernel:   mm/mmap.c:can_vma_merge_before @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn can_vma_merge_before(
    k: &Kernel,
    vma: VmaId,
    vm_flags: VmFlags,
    anon_vma: Option<AnonVmaId>,
    file: Option<FileId>,
    vm_pgoff: u64,
    ctx: Option<CtxId>,
    middle: Option<VmaId>,
) -> bool {
    is_mergeable_vma(k, vma, file, vm_flags, ctx)
        && is_mergeable_anon_vma(k, anon_vma, k.vma(vma).anon_vma, Some(vma), middle)
        && k.vma(vma).vm_pgoff == vm_pgoff
}

/// May the range be put behind `vma`?
///
/// Kernel:   mm/mmap.c:can_vma_merge_after @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn can_vma_merge_after(
    k: &Kernel,
    vma: VmaId,
    vm_flags: VmFlags,
    anon_vma: Option<AnonVmaId>,
    file: Option<FileId>,
    vm_pgoff: u64,
    ctx: Option<CtxId>,
    middle: Option<VmaId>,
) -> bool {
    is_mergeable_vma(k, vma, file, vm_flags, ctx)
        && is_mergeable_anon_vma(k, anon_vma, k.vma(vma).anon_vma, Some(vma), middle)
        && k.vma(vma).vm_pgoff + vma_pages(&k.vma(vma)) == vm_pgoff
}

/// Give `[addr, end)`, which is about to have these attributes, to a neighbour that has them already. `prev` is the VMA before
/// `addr`, or the one that contains it. Returns the VMA that covers the range afterwards; None: no neighbour fits (or, as the
/// kernel does not tell apart, memory was out).
///
/// ```text
///            the range                         the range
///   PPPPPP...NNNNNN   4: PPPP|NNNN      PPPPPP|aaaa|NNNNNN   6: P over both
///   1: P over N  2: P grows  3: N grows        7: P over a   8: N over a       5: the end of P moves up into a
/// ```
///
/// Kernel:   mm/mmap.c:vma_merge @ v5.14; mm/vma.c:vma_merge_existing_range, vma_expand @ v6.19 (VM_STICKY)
/// Fidelity: TRIMMED(VM_SPECIAL, mempolicy, khugepaged)
/// Locks:    mmap_lock held for writing
/// Errors:   none (None)
pub async fn vma_merge(
    k: &Kernel,
    mm: MmId,
    prev: Option<VmaId>,
    addr: u64,
    end: u64,
    vm_flags: VmFlags,
    anon_vma: Option<AnonVmaId>,
    file: Option<FileId>,
    pgoff: u64,
    ctx: Option<CtxId>,
) -> Option<VmaId> {
    vma_merge_range(k, mm, prev, addr, end, vm_flags, anon_vma, file, pgoff, ctx, None).await
}

/// Let `dst` be found from the anonymous pages of `src`, if it has none of its own. True: it was not before.
///
/// Kernel:   mm/vma.c:dup_anon_vma @ v6.18
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing; takes and drops the anon_vma lock
/// Errors:   ENOMEM
async fn dup_anon_vma(k: &Kernel, dst: VmaId, src: VmaId) -> KResult<bool> {
    let src_anon = k.vma(src).anon_vma;
    if src_anon.is_none() || k.vma(dst).anon_vma.is_some() {
        return Ok(false);
    }
    k.vma_mut(dst).anon_vma = src_anon;
    match anon_vma_clone(k, dst, src).await {
        Ok(()) => Ok(true),
        Err(error) => Err(error),
    }
}

/// As [`vma_merge`], where the range is to be a copy of `copied_from`: whoever takes it in gets its anonymous pages.
///
/// Kernel:   mm/mmap.c:vma_merge @ v5.14; mm/vma.c:vma_merge_copied_range @ v6.19, v6.18 stable
/// Fidelity: TRIMMED(VM_SPECIAL, mempolicy, khugepaged)
/// Locks:    mmap_lock held for writing
/// Errors:   none (None)
async fn vma_merge_range(
    k: &Kernel,
    mm: MmId,
    prev: Option<VmaId>,
    addr: u64,
    end: u64,
    vm_flags: VmFlags,
    anon_vma: Option<AnonVmaId>,
    file: Option<FileId>,
    pgoff: u64,
    ctx: Option<CtxId>,
    copied_from: Option<VmaId>,
) -> Option<VmaId> {
    let _f = k.enter("vma_merge", || format!("addr={addr:#x} end={end:#x} {vm_flags:?} pgoff={pgoff} ctx={ctx:?}"));
    let pglen = (end - addr) >> PAGE_SHIFT;
    let mut sticky = vm_flags & VM_STICKY;

    let mut next = match prev {
        Some(prev) => vma_next(k, prev),
        None => k.mm(mm).mmap.first().copied(),
    };
    let mut area = next;
    if let Some(a) = area
        && k.vma(a).vm_end == end
    {
        next = vma_next(k, a);
    }
    let middle =
        [prev, area].into_iter().flatten().find(|&v| (k.vma(v).vm_start..k.vma(v).vm_end).contains(&addr)).or(copied_from);
    WARN_ON_ONCE!(k, prev.is_some_and(|prev| addr <= k.vma(prev).vm_start));
    WARN_ON_ONCE!(k, area.is_some_and(|area| end > k.vma(area).vm_end));
    WARN_ON_ONCE!(k, addr >= end);

    if let Some(prev) = prev
        && k.vma(prev).vm_end == addr
        && can_vma_merge_after(k, prev, vm_flags, anon_vma, file, pgoff, ctx, middle)
    {
        let dup = match copied_from {
            Some(from) if k.has(Delta::VMA_MERGE_UNFAULTED) => match dup_anon_vma(k, prev, from).await {
                Ok(dup) => dup,
                Err(_) => return None,
            },
            _ => false,
        };
        let p = k.vma(prev);
        let err = if let Some(next) = next
            && end == k.vma(next).vm_start
            && can_vma_merge_before(k, next, vm_flags, anon_vma, file, pgoff + pglen, ctx, middle)
            && is_mergeable_anon_vma(k, p.anon_vma, k.vma(next).anon_vma, None, None)
        {
            k.branch("previous and next VMA become one (case 1 or 6)");
            sticky |= k.vma(next).vm_flags & VM_STICKY;
            __vma_adjust(k, prev, p.vm_start, k.vma(next).vm_end, p.vm_pgoff, None, Some(prev)).await
        } else {
            k.branch("the previous VMA grows (case 2, 5 or 7)");
            __vma_adjust(k, prev, p.vm_start, end, p.vm_pgoff, None, Some(prev)).await
        };
        if err.is_err() {
            if dup {
                unlink_anon_vmas(k, prev).await;
            }
            return None;
        }
        k.vma_mut(prev).vm_flags |= sticky;
        return Some(prev);
    }

    if let Some(next) = next
        && end == k.vma(next).vm_start
        && can_vma_merge_before(k, next, vm_flags, anon_vma, file, pgoff + pglen, ctx, middle)
    {
        let dup = match copied_from {
            Some(from) if k.has(Delta::VMA_MERGE_UNFAULTED) => match dup_anon_vma(k, next, from).await {
                Ok(dup) => dup,
                Err(_) => return None,
            },
            _ => false,
        };
        let err = if let Some(prev) = prev
            && addr < k.vma(prev).vm_end
        {
            k.branch("the next VMA takes the end of the previous one (case 4)");
            let p = k.vma(prev);
            __vma_adjust(k, prev, p.vm_start, addr, p.vm_pgoff, None, Some(next)).await
        } else {
            k.branch("the next VMA grows down (case 3 or 8)");
            let n = k.vma(next);
            let err =
                __vma_adjust(k, area.unwrap_or(next), addr, n.vm_end, n.vm_pgoff.wrapping_sub(pglen), None, Some(next)).await;
            // In case 8 area is gone, in case 3 it is next anyway.
            area = Some(next);
            err
        };
        if err.is_err() {
            if dup {
                unlink_anon_vmas(k, next).await;
            }
            return None;
        }
        k.vma_mut(next).vm_flags |= sticky;
        return area;
    }
    None
}

/// The flags that a VMA is to have after a merge that succeeded: those that were asked for, and those that stick to it.
///
/// Kernel:   mm/vma.c:vma_modify_flags @ v6.19 (what it leaves in `*vm_flags_ptr`)
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing
/// Errors:   none
pub(crate) fn with_sticky(k: &Kernel, vma: VmaId, vm_flags: VmFlags) -> VmFlags {
    vm_flags | (k.vma(vma).vm_flags & VM_STICKY)
}

/// Split a VMA at `addr`. The new VMA is the lower half (`new_below`) or the upper one.
///
/// Kernel:   mm/mmap.c:__split_vma @ v5.14
/// Fidelity: TRIMMED(vm_ops->may_split, open and close; mempolicy)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
pub(crate) async fn __split_vma(k: &Kernel, _mm: MmId, vma: VmaId, addr: u64, new_below: bool) -> KResult {
    let _f = k.enter("__split_vma", || format!("{vma} addr={addr:#x} new_below={new_below}"));
    let Some(new) = vm_area_dup(k, vma) else {
        return Err(ENOMEM);
    };
    let v = k.vma(vma);
    if new_below {
        k.vma_mut(new).vm_end = addr;
    } else {
        let mut n = k.vma_mut(new);
        n.vm_start = addr;
        n.vm_pgoff += (addr - v.vm_start) >> PAGE_SHIFT;
    }
    let mut err = anon_vma_clone(k, new, vma).await;
    'out_free_vma: {
        if err.is_err() {
            break 'out_free_vma;
        }
        if let Some(file) = v.vm_file {
            get_file(k, file);
        }
        if new_below {
            let pgoff = v.vm_pgoff + ((addr - v.vm_start) >> PAGE_SHIFT);
            err = vma_adjust(k, vma, addr, v.vm_end, pgoff, Some(new)).await;
        } else {
            err = vma_adjust(k, vma, v.vm_start, addr, v.vm_pgoff, Some(new)).await;
        }
        if err.is_ok() {
            return Ok(());
        }
        if let Some(file) = v.vm_file {
            fput(k, file).await;
        }
        unlink_anon_vmas(k, new).await;
    }
    vm_area_free(k, new);
    err
}

/// As `__split_vma`, for callers who may not exceed the number of VMAs that a process may have.
///
/// Kernel:   mm/mmap.c:split_vma @ v5.14
/// Fidelity: TRIMMED(max_map_count)
/// Locks:    mmap_lock held for writing
/// Errors:   ENOMEM
pub async fn split_vma(k: &Kernel, mm: MmId, vma: VmaId, addr: u64, new_below: bool) -> KResult {
    __split_vma(k, mm, vma, addr, new_below).await
}

/// A copy of `*vmap` for mremap, `len` bytes at `addr`: a neighbour that grows, or a new VMA. `*vmap` is replaced when the
/// source itself was merged into it. `need_rmap_locks`: the reverse map may visit the new place before the old one, so moved
/// entries have to be hidden from it.
///
/// Kernel:   mm/mmap.c:copy_vma @ v5.14
/// Fidelity: TRIMMED(mempolicy, vm_ops->open)
/// Locks:    mmap_lock held for writing; takes and drops i_mmap_rwsem and anon_vma locks
/// Errors:   None is -ENOMEM
pub async fn copy_vma(
    k: &Kernel,
    vmap: &mut VmaId,
    addr: u64,
    len: u64,
    mut pgoff: u64,
    need_rmap_locks: &mut bool,
) -> Option<VmaId> {
    let mut vma = *vmap;
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let mut faulted_in_anon_vma = true;

    // Nothing faulted in yet: the offset is free to follow the new place, which makes a merge there more likely.
    if vma_is_anonymous(k, vma) && v.anon_vma.is_none() {
        pgoff = addr >> PAGE_SHIFT;
        faulted_in_anon_vma = false;
    }

    let Ok(prev) = find_vma_links(k, mm, addr, addr + len) else {
        return None;
    };
    let end = addr + len;
    match vma_merge_range(k, mm, prev, addr, end, v.vm_flags, v.anon_vma, v.vm_file, pgoff, v.ctx, Some(vma)).await {
        Some(new_vma) => {
            let n = k.vma(new_vma);
            if v.vm_start >= n.vm_start && v.vm_start < n.vm_end {
                k.branch("the source was merged into the copy");
                crate::VM_BUG_ON!(k, faulted_in_anon_vma);
                vma = new_vma;
                *vmap = vma;
            }
            *need_rmap_locks = n.vm_pgoff <= k.vma(vma).vm_pgoff;
            Some(new_vma)
        }
        None => {
            let new_vma = vm_area_dup(k, vma)?;
            {
                let mut n = k.vma_mut(new_vma);
                n.vm_start = addr;
                n.vm_end = addr + len;
                n.vm_pgoff = pgoff;
            }
            if anon_vma_clone(k, new_vma, vma).await.is_err() {
                vm_area_free(k, new_vma);
                return None;
            }
            if let Some(file) = v.vm_file {
                get_file(k, file);
            }
            vma_link(k, mm, new_vma).await;
            *need_rmap_locks = false;
            Some(new_vma)
        }
    }
}

/// Link a VMA that somebody else has filled in.
///
/// Kernel:   mm/mmap.c:insert_vm_struct @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held for writing; takes and drops i_mmap_rwsem
/// Errors:   ENOMEM something is mapped there, or the commit limit is reached
pub async fn insert_vm_struct(k: &Kernel, mm: MmId, vma: VmaId) -> KResult {
    let v = k.vma(vma);
    if find_vma_links(k, mm, v.vm_start, v.vm_end).is_err() {
        return Err(ENOMEM);
    }
    if v.vm_flags.contains(VM_ACCOUNT) && security_vm_enough_memory_mm(k, mm, vma_pages(&v) as i64).is_err() {
        return Err(ENOMEM);
    }
    if vma_is_anonymous(k, vma) {
        crate::BUG_ON!(k, v.anon_vma.is_some());
        k.vma_mut(vma).vm_pgoff = v.vm_start >> PAGE_SHIFT;
    }
    vma_link(k, mm, vma).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Symptom;
    use crate::mm::locking::is_free;
    use crate::point::run_through as run;
    use smallvec::SmallVec;

    /// One thread, no preemption: a future that does not finish at once is a deadlock.
    const RW: VmFlags = VM_READ.union(VM_WRITE);
    const RO: VmFlags = VM_READ;
    /// Page 16 is the lowest that may be mapped.
    const BASE: u64 = MMAP_MIN_ADDR;

    struct Scene {
        k: Kernel,
        mm: MmId,
        file: Option<FileId>,
    }

    impl Scene {
        /// VMAs of anonymous memory or of one file, offset like address: `(first page, end page, flags)`.
        fn new(with_file: bool, vmas: &[(u64, u64, VmFlags)]) -> Scene {
            let mut s = State::default();
            let mm = s.mms.insert(MmStruct { mm_users: 1, mm_count: 1, ..MmStruct::default() });
            let group = s.procs.insert(Process { mm: Some(mm), ..Process::default() });
            let task = s.tasks.insert(Task { group, ..Task::default() });
            let file = with_file.then(|| {
                let inode = s.inodes.insert(Inode { i_count: 1, ..Inode::default() });
                s.files.insert(File { kind: FileKind::Inode(inode), f_count: 1, ..File::default() })
            });
            let k = Kernel::new(s);
            k.run.current.set(Some(task));
            for &(start, end, vm_flags) in vmas {
                let Some(vma) = vm_area_alloc(&k, mm) else { panic!("no memory") };
                {
                    let mut v = k.vma_mut(vma);
                    v.vm_start = BASE + start * PAGE_SIZE;
                    v.vm_end = BASE + end * PAGE_SIZE;
                    v.vm_pgoff = v.vm_start >> PAGE_SHIFT;
                    v.vm_flags = vm_flags;
                    v.vm_file = file;
                }
                if let Some(file) = file {
                    get_file(&k, file);
                }
                run(vma_link(&k, mm, vma));
            }
            Scene { k, mm, file }
        }

        fn vma(&self, n: usize) -> VmaId {
            self.k.mm(self.mm).mmap[n]
        }

        /// `vma_merge` of pages `[start, end)` with these flags.
        fn merge(&self, prev: Option<usize>, start: u64, end: u64, flags: VmFlags) -> Option<VmaId> {
            let (addr, end) = (BASE + start * PAGE_SIZE, BASE + end * PAGE_SIZE);
            let prev = prev.map(|n| self.vma(n));
            run(vma_merge(&self.k, self.mm, prev, addr, end, flags, None, self.file, addr >> PAGE_SHIFT, None))
        }

        fn layout(&self) -> Vec<(u64, u64, VmFlags)> {
            let page = |addr: u64| (addr - BASE) / PAGE_SIZE;
            let mmap = self.k.mm(self.mm).mmap.clone();
            let layout: Vec<_> = mmap
                .iter()
                .map(|&vma| {
                    let v = self.k.vma(vma);
                    assert_eq!(v.vm_pgoff, v.vm_start >> PAGE_SHIFT, "the offset moves with the start");
                    (page(v.vm_start), page(v.vm_end), v.vm_flags)
                })
                .collect();
            // Whatever is left is linked into the file once and holds one reference; nothing else does.
            assert_eq!(self.k.s().vmas.len(), mmap.len());
            if let Some(file) = self.file {
                assert_eq!(self.k.file(file).f_count as usize, 1 + mmap.len());
                let Some(inode) = f_mapping(&self.k, file) else { panic!("no inode") };
                let i_mmap: std::collections::BTreeSet<_> = self.k.inode(inode).i_mmap.iter().copied().collect();
                assert_eq!(i_mmap, mmap.iter().copied().collect());
                assert_eq!(self.k.inode(inode).i_mmap.len(), mmap.len());
            }
            assert!(self.k.s().held.is_empty());
            assert_eq!(*self.k.run.findings.borrow(), []);
            layout
        }
    }

    /// Both for anonymous memory and for a file: before, the range with its new flags, what is returned (by position
    /// beforehand), after.
    fn check(
        before: &[(u64, u64, VmFlags)],
        prev: Option<usize>,
        range: (u64, u64, VmFlags),
        returned: Option<usize>,
        after: &[(u64, u64, VmFlags)],
    ) {
        for with_file in [false, true] {
            let scene = Scene::new(with_file, before);
            let returned = returned.map(|n| scene.vma(n));
            assert_eq!(scene.merge(prev, range.0, range.1, range.2), returned);
            assert_eq!(scene.layout(), after);
        }
    }

    #[test]
    fn case_1_a_hole_is_filled_and_three_become_one() {
        check(&[(0, 2, RW), (4, 6, RW)], Some(0), (2, 4, RW), Some(0), &[(0, 6, RW)]);
    }

    #[test]
    fn case_2_the_previous_one_grows() {
        check(&[(0, 2, RW), (4, 6, RO)], Some(0), (2, 4, RW), Some(0), &[(0, 4, RW), (4, 6, RO)]);
        check(&[(0, 2, RW), (5, 6, RW)], Some(0), (2, 4, RW), Some(0), &[(0, 4, RW), (5, 6, RW)]);
    }

    #[test]
    fn case_3_the_next_one_grows_down() {
        check(&[(0, 2, RO), (4, 6, RW)], Some(0), (2, 4, RW), Some(1), &[(0, 2, RO), (2, 6, RW)]);
        check(&[(4, 6, RW)], None, (2, 4, RW), Some(0), &[(2, 6, RW)]);
    }

    #[test]
    fn case_4_the_end_of_the_previous_one_goes_to_the_next() {
        check(&[(0, 4, RO), (4, 6, RW)], Some(0), (2, 4, RW), Some(1), &[(0, 2, RO), (2, 6, RW)]);
    }

    #[test]
    fn case_5_the_start_of_the_next_one_goes_to_the_previous() {
        check(&[(0, 2, RW), (2, 6, RO)], Some(0), (2, 4, RW), Some(0), &[(0, 4, RW), (4, 6, RO)]);
    }

    #[test]
    fn case_6_one_in_the_middle_disappears_and_three_become_one() {
        check(&[(0, 2, RW), (2, 4, RO), (4, 6, RW)], Some(0), (2, 4, RW), Some(0), &[(0, 6, RW)]);
    }

    #[test]
    fn case_7_the_previous_one_grows_over_one() {
        check(&[(0, 2, RW), (2, 4, RO), (4, 6, VM_EXEC)], Some(0), (2, 4, RW), Some(0), &[(0, 4, RW), (4, 6, VM_EXEC)]);
    }

    #[test]
    fn case_8_the_next_one_grows_over_one() {
        check(&[(0, 2, VM_EXEC), (2, 4, RO), (4, 6, RW)], Some(0), (2, 4, RW), Some(2), &[(0, 2, VM_EXEC), (2, 6, RW)]);
    }

    #[test]
    fn soft_dirty_does_not_keep_neighbours_apart() {
        check(&[(0, 2, RW | VM_SOFTDIRTY)], Some(0), (2, 4, RW), Some(0), &[(0, 4, RW | VM_SOFTDIRTY)]);
    }

    #[test]
    fn what_differs_stays_apart() {
        let apart = [(0, 2, RW), (4, 6, RW)];
        check(&apart, Some(0), (2, 4, RO), None, &apart);
        let scene = Scene::new(false, &apart);
        // Another userfaultfd.
        let ctx = scene.k.sm().ctxs.insert(UserfaultfdCtx::default());
        let (addr, end) = (BASE + 2 * PAGE_SIZE, BASE + 4 * PAGE_SIZE);
        let pgoff = addr >> PAGE_SHIFT;
        let merge = |pgoff, ctx| run(vma_merge(&scene.k, scene.mm, Some(scene.vma(0)), addr, end, RW, None, None, pgoff, ctx));
        assert_eq!(merge(pgoff, Some(ctx)), None);
        // Another offset.
        assert_eq!(merge(pgoff + 1, None), None);
        assert_eq!(scene.layout(), apart);
    }

    #[test]
    fn anonymous_pages_keep_inherited_vmas_apart() {
        let scene = Scene::new(false, &[(0, 2, RW)]);
        let (k, vma) = (&scene.k, scene.vma(0));
        let first = k.sm().anon_vmas.insert(AnonVma { root: None, vmas: SmallVec::from_slice(&[vma]) });
        k.anon_vma_mut(first).root = Some(first);
        // One anon_vma on the chain: a range without one may join.
        assert!(is_mergeable_anon_vma(k, None, Some(first), Some(vma), None));
        let second = k.sm().anon_vmas.insert(AnonVma { root: Some(first), vmas: SmallVec::from_slice(&[vma]) });
        assert!(!is_mergeable_anon_vma(k, None, Some(first), Some(vma), None));
        assert!(!is_mergeable_anon_vma(k, Some(second), Some(first), Some(vma), None));
        assert!(is_mergeable_anon_vma(k, Some(first), Some(first), Some(vma), None));
        // An empty chain is not a chain of one: a neighbour without anonymous pages does not take a range that has some.
        k.anon_vma_mut(first).vmas.clear();
        k.anon_vma_mut(second).vmas.clear();
        assert!(!is_mergeable_anon_vma(k, Some(first), None, Some(vma), None));
        assert!(is_mergeable_anon_vma(k, None, None, Some(vma), None));
    }

    #[test]
    fn shared_mappings_are_counted_and_seals_deny_them() {
        let scene = Scene::new(true, &[(0, 2, RW | VM_SHARED), (2, 4, RO | VM_SHARED), (4, 6, RW | VM_SHARED)]);
        let Some(inode) = scene.file.and_then(|file| f_mapping(&scene.k, file)) else { panic!("no inode") };
        assert_eq!(scene.k.inode(inode).i_mmap_writable, 3);
        assert!(scene.merge(Some(0), 2, 4, RW | VM_SHARED).is_some());
        assert_eq!(scene.k.inode(inode).i_mmap_writable, 1);
        run(unlink_file_vma(&scene.k, scene.vma(0)));
        assert_eq!(scene.k.inode(inode).i_mmap_writable, 0);
        assert!(scene.k.inode(inode).i_mmap.is_empty());
        scene.k.inode_mut(inode).i_mmap_writable = -1;
        assert_eq!(mapping_map_writable(&scene.k, inode), Err(EPERM));
        assert!(is_free(&scene.k, LockId::IMmap(inode), LockMode::Write, scene.k.current()));
    }

    #[test]
    fn a_freed_vma_is_noticed_when_used() {
        let scene = Scene::new(false, &[(0, 2, RW), (2, 4, RO)]);
        let gone = scene.vma(1);
        assert!(scene.merge(Some(0), 2, 4, RW).is_some());
        scene.k.vma(gone);
        assert_eq!(scene.k.run.findings.borrow()[0].symptom, Symptom::UseAfterFree);
    }
}
