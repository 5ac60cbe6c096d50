// SPDX-License-Identifier: GPL-2.0-only
//! `mm/rmap.c`: who maps a page, and taking those mappings away.
//!
//! An anon_vma lists its VMAs (`AnonVma::vmas`), and a VMA's `anon_vma_chain` is the same relation read the other way: all
//! anon_vmas that list it. Trees are walked in the order of the file or linear offset, as an interval tree would be.

use crate::delta::Delta;
use crate::errno::*;
use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{LockId, LockMode, acquire, ptl_lock, release};
use crate::mm::memory::vma_is_anonymous;
use crate::mm::mlock::mlock_vma_page;
use crate::mm::mmap::{vma_next, vma_prev};
use crate::mm::page::*;
use crate::mm::pgtable::*;
use crate::mm::swapfile::swap_duplicate;
use crate::mm::vmscan::{isolate_lru_page, putback_lru_page};
use crate::point::{Touch, point};
use crate::uffd::vma::{userfaultfd_armed, userfaultfd_wp};
use crate::{VM_BUG_ON, WARN_ON_ONCE, ladder};
use smallvec::SmallVec;

/// `enum ttu_flags`: how try_to_unmap goes about it.
#[derive(Clone, Copy, Default, Debug)]
pub struct TtuFlags {
    /// TTU_IGNORE_MLOCK: unmap from VM_LOCKED VMAs too.
    pub ignore_mlock: bool,
    /// TTU_BATCH_FLUSH: the TLB is flushed later (there is no TLB in the model).
    pub batch_flush: bool,
}

// ---- anon_vma -----------------------------------------------------------------------------------------------------------

/// `vma->anon_vma_chain`: the anon_vmas that list this VMA.
pub(crate) fn anon_vma_chain(k: &Kernel, vma: VmaId) -> SmallVec<[AnonVmaId; 4]> {
    k.s().anon_vmas.iter().filter(|(_, av)| av.vmas.contains(&vma)).map(|(id, _)| id).collect()
}

/// `anon_vma_alloc`: an anon_vma that is its own root. None: out of memory.
///
/// Kernel:   mm/rmap.c:anon_vma_alloc @ v5.14
/// Fidelity: TRIMMED(degree and refcount: an anon_vma lives as long as a VMA or a child's root pointer names it)
/// Locks:    none; may sleep
/// Errors:   None is -ENOMEM
async fn anon_vma_alloc(k: &Kernel) -> Option<AnonVmaId> {
    point(k, Touch::Alloc).await;
    if k.should_fail("anon_vma_alloc") {
        return None;
    }
    let anon_vma = k.sm().anon_vmas.insert(AnonVma::default());
    k.anon_vma_mut(anon_vma).root = Some(anon_vma);
    Some(anon_vma)
}

/// `put_anon_vma`: free an anon_vma that nothing names any more, then its root if that was kept only for this one.
///
/// A page may outlive the anon_vma it was mapped through, unmapped: its ANON bit stays, and the rest of `page->mapping` is a
/// pointer that nobody may follow (page_lock_anon_vma_read looks at page_mapped first). Such pages get the dangling id here.
///
/// Kernel:   mm/rmap.c:__put_anon_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn put_anon_vma(k: &Kernel, anon_vma: AnonVmaId) {
    let Some(root) = k.s().anon_vmas.get(anon_vma).map(|av| av.root) else { return };
    let used = !k.anon_vma(anon_vma).vmas.is_empty()
        || k.s().anon_vmas.iter().any(|(id, av)| id != anon_vma && av.root == Some(anon_vma));
    if used {
        return;
    }
    {
        let mut s = k.sm();
        s.anon_vmas.remove(anon_vma);
        for page in s.mem_map.iter_mut().filter(|p| p.refcount > 0 && p.mapping == PageMapping::Anon(anon_vma)) {
            page.mapping = PageMapping::Anon(AnonVmaId::DANGLING);
        }
    }
    if let Some(root) = root
        && root != anon_vma
    {
        put_anon_vma(k, root);
    }
}

/// `anon_vma->root`, whose lock stands for the whole family.
fn anon_vma_root(k: &Kernel, anon_vma: AnonVmaId) -> AnonVmaId {
    k.anon_vma(anon_vma).root.unwrap_or(anon_vma)
}

/// `anon_vma_lock_write`.
async fn anon_vma_lock_write(k: &Kernel, anon_vma: AnonVmaId) -> AnonVmaId {
    let root = anon_vma_root(k, anon_vma);
    acquire(k, LockId::AnonVma(root), LockMode::Write).await;
    root
}

/// `anon_vma_unlock_write`, of the root that was locked.
fn anon_vma_unlock_write(k: &Kernel, root: AnonVmaId) {
    release(k, LockId::AnonVma(root), LockMode::Write);
}

/// `lock_anon_vma_root`: the whole chain of a VMA has one root, so it is locked once.
async fn lock_anon_vma_root(k: &Kernel, root: Option<AnonVmaId>, anon_vma: AnonVmaId) -> Option<AnonVmaId> {
    let new_root = anon_vma_root(k, anon_vma);
    if root == Some(new_root) {
        return root;
    }
    if let Some(root) = root {
        let _ = WARN_ON_ONCE!(k, true);
        anon_vma_unlock_write(k, root);
    }
    acquire(k, LockId::AnonVma(new_root), LockMode::Write).await;
    Some(new_root)
}

/// `unlock_anon_vma_root`.
fn unlock_anon_vma_root(k: &Kernel, root: Option<AnonVmaId>) {
    if let Some(root) = root {
        anon_vma_unlock_write(k, root);
    }
}

/// `anon_vma_chain_link`. The chain is derived from the tree, so only the tree is written.
fn anon_vma_chain_link(k: &Kernel, vma: VmaId, anon_vma: AnonVmaId) {
    let mut av = k.anon_vma_mut(anon_vma);
    if !av.vmas.contains(&vma) {
        av.vmas.push(vma);
    }
}

/// Could the two neighbours become one VMA, but for their protection?
///
/// Kernel:   mm/mmap.c:anon_vma_compatible @ v5.14
/// Fidelity: TRIMMED(memory policy)
/// Locks:    mmap_lock held
/// Errors:   none
fn anon_vma_compatible(k: &Kernel, a: VmaId, b: VmaId) -> bool {
    let (a, b) = (k.vma(a), k.vma(b));
    a.vm_end == b.vm_start
        && a.vm_file == b.vm_file
        && ((a.vm_flags ^ b.vm_flags) - (VM_READ | VM_WRITE | VM_EXEC | VM_IGNORE_MERGE)).is_empty()
        && b.vm_pgoff == a.vm_pgoff + ((b.vm_start - a.vm_start) >> PAGE_SHIFT)
}

/// The anon_vma of `old`, if it may serve its neighbour too: only one that did not come from a fork.
///
/// Kernel:   mm/mmap.c:reusable_anon_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn reusable_anon_vma(k: &Kernel, old: VmaId, a: VmaId, b: VmaId) -> Option<AnonVmaId> {
    if anon_vma_compatible(k, a, b) {
        let anon_vma = k.vma(old).anon_vma;
        if anon_vma.is_some() && anon_vma_chain(k, old).len() == 1 {
            return anon_vma;
        }
    }
    None
}

/// An anon_vma of a neighbour that `vma` could share, so that the two can be merged later.
///
/// Kernel:   mm/mmap.c:find_mergeable_anon_vma @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock held
/// Errors:   none
fn find_mergeable_anon_vma(k: &Kernel, vma: VmaId) -> Option<AnonVmaId> {
    if let Some(next) = vma_next(k, vma)
        && let Some(anon_vma) = reusable_anon_vma(k, next, vma, next)
    {
        return Some(anon_vma);
    }
    if let Some(prev) = vma_prev(k, vma) {
        return reusable_anon_vma(k, prev, prev, vma);
    }
    None
}

/// Give the VMA an anon_vma before private pages may appear in it.
///
/// Kernel:   mm/rmap.c:__anon_vma_prepare @ v5.14
/// Fidelity: TRIMMED(page_table_lock: the test and the link are one step)
/// Locks:    mmap_lock held (read is enough); takes and drops the anon_vma lock
/// Errors:   ENOMEM
pub async fn anon_vma_prepare(k: &Kernel, vma: VmaId) -> KResult {
    if k.vma(vma).anon_vma.is_some() {
        return Ok(());
    }
    let _f = k.enter("__anon_vma_prepare", || format!("{vma}"));

    if k.should_fail("anon_vma_chain_alloc") {
        return Err(ENOMEM);
    }
    let mut allocated = None;
    let anon_vma = match find_mergeable_anon_vma(k, vma) {
        Some(anon_vma) => anon_vma,
        None => match anon_vma_alloc(k).await {
            Some(anon_vma) => {
                allocated = Some(anon_vma);
                anon_vma
            }
            None => return Err(ENOMEM),
        },
    };

    let root = anon_vma_lock_write(k, anon_vma).await;
    // Another thread that faults in this VMA may have been faster.
    if k.vma(vma).anon_vma.is_none() {
        k.vma_mut(vma).anon_vma = Some(anon_vma);
        anon_vma_chain_link(k, vma, anon_vma);
        allocated = None;
    }
    anon_vma_unlock_write(k, root);

    if let Some(allocated) = allocated {
        k.branch("another thread has set vma->anon_vma");
        put_anon_vma(k, allocated);
    }
    Ok(())
}

/// Link `dst` to every anon_vma that lists `src`.
///
/// Kernel:   mm/rmap.c:anon_vma_clone @ v5.14
/// Fidelity: TRIMMED(an anon_vma of degree below 2 is not taken over as dst's own)
/// Locks:    mmap_lock of both write held; takes and drops the anon_vma lock
/// Errors:   ENOMEM; dst is then linked to nothing
pub async fn anon_vma_clone(k: &Kernel, dst: VmaId, src: VmaId) -> KResult {
    let mut root = None;

    for anon_vma in anon_vma_chain(k, src) {
        if k.should_fail("anon_vma_chain_alloc") {
            unlock_anon_vma_root(k, root);
            // Else unlink_anon_vmas would take dst for one that has its own anon_vma.
            k.vma_mut(dst).anon_vma = None;
            unlink_anon_vmas(k, dst).await;
            return Err(ENOMEM);
        }
        root = lock_anon_vma_root(k, root, anon_vma).await;
        anon_vma_chain_link(k, dst, anon_vma);
    }
    unlock_anon_vma_root(k, root);
    Ok(())
}

/// Link a child's VMA to the parent's anon_vmas, and give it one of its own for the pages that it will copy.
///
/// Kernel:   mm/rmap.c:anon_vma_fork @ v5.14
/// Fidelity: TRIMMED(no anon_vma is reused, see anon_vma_clone)
/// Locks:    mmap_lock of both write held; takes and drops the anon_vma lock
/// Errors:   ENOMEM; the child's VMA is then linked to nothing
pub async fn anon_vma_fork(k: &Kernel, vma: VmaId, pvma: VmaId) -> KResult {
    let Some(panon_vma) = k.vma(pvma).anon_vma else { return Ok(()) };

    k.vma_mut(vma).anon_vma = None;
    // Pages that the child maps now belong to the parent's anon_vmas.
    if let Err(error) = anon_vma_clone(k, vma, pvma).await {
        return Err(error);
    }

    ladder! {
        {
            let Some(anon_vma) = anon_vma_alloc(k).await else { break 'out_error };
            if k.should_fail("anon_vma_chain_alloc") {
                put_anon_vma(k, anon_vma);
                break 'out_error;
            }
            let root = anon_vma_root(k, panon_vma);
            k.anon_vma_mut(anon_vma).root = Some(root);
            k.vma_mut(vma).anon_vma = Some(anon_vma);
            let root = anon_vma_lock_write(k, anon_vma).await;
            anon_vma_chain_link(k, vma, anon_vma);
            anon_vma_unlock_write(k, root);
            return Ok(());
        }
        'out_error: {
            unlink_anon_vmas(k, vma).await;
            Err(ENOMEM)
        }
    }
}

/// Unlink the VMA from its anon_vmas, and free those that list no VMA any more.
///
/// Kernel:   mm/rmap.c:unlink_anon_vmas @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock write held, or the last user of the mm; takes and drops the anon_vma lock
/// Errors:   none
pub async fn unlink_anon_vmas(k: &Kernel, vma: VmaId) {
    let mut root = None;
    let chain = anon_vma_chain(k, vma);

    for &anon_vma in &chain {
        root = lock_anon_vma_root(k, root, anon_vma).await;
        k.anon_vma_mut(anon_vma).vmas.retain(|v| *v != vma);
    }
    k.vma_mut(vma).anon_vma = None;
    unlock_anon_vma_root(k, root);

    // Freed outside the lock: the last of them may be the root, in which the lock lives.
    for &anon_vma in &chain {
        put_anon_vma(k, anon_vma);
    }
}

/// Lock the anon_vma of a page, if the page is mapped. Returns the anon_vma and the root that was locked.
///
/// Kernel:   mm/rmap.c:page_lock_anon_vma_read @ v5.14
/// Fidelity: TRIMMED(RCU and the trylock before the sleeping attempt)
/// Locks:    takes the anon_vma lock for reading
/// Errors:   None: not an anonymous page, or not mapped
async fn page_lock_anon_vma_read(k: &Kernel, page: PageId) -> Option<(AnonVmaId, AnonVmaId)> {
    let PageMapping::Anon(anon_vma) = k.page(page).mapping else { return None };
    // An anon_vma is only good as long as a PTE holds it.
    if !page_mapped(k, page) {
        return None;
    }
    let root = k.anon_vma(anon_vma).root;
    // None only of an anon_vma that has been freed, which the line above has reported.
    let Some(root) = root else { return None };
    acquire(k, LockId::AnonVma(root), LockMode::Read).await;
    if !page_mapped(k, page) {
        k.branch("page was unmapped meanwhile");
        release(k, LockId::AnonVma(root), LockMode::Read);
        return None;
    }
    Some((anon_vma, root))
}

// ---- where a page is mapped ---------------------------------------------------------------------------------------------

/// `linear_page_index`: the offset of an address in the VMA's file, or in the anonymous address space, in pages.
#[inline]
pub fn linear_page_index(k: &Kernel, vma: VmaId, address: u64) -> u64 {
    let v = k.vma(vma);
    (address.wrapping_sub(v.vm_start) >> PAGE_SHIFT).wrapping_add(v.vm_pgoff)
}

/// The address at which the VMA would map the page; None if it lies outside.
///
/// Kernel:   mm/internal.h:vma_address @ v5.14
/// Fidelity: TRIMMED(compound pages)
/// Locks:    the rmap lock of the page held
/// Errors:   None is -EFAULT
pub fn vma_address(k: &Kernel, page: PageId, vma: VmaId) -> Option<u64> {
    let pgoff = k.page(page).index;
    let v = k.vma(vma);
    if pgoff < v.vm_pgoff {
        return None;
    }
    let address = v.vm_start.wrapping_add((pgoff - v.vm_pgoff) << PAGE_SHIFT);
    // Beyond the end, or wrapped.
    if address < v.vm_start || address >= v.vm_end { None } else { Some(address) }
}

/// The PTE at `address` if it is present and maps just this page, with its lock held; None with no lock held.
///
/// Kernel:   mm/page_vma_mapped.c:page_vma_mapped_walk @ v5.14
/// Fidelity: TRIMMED(compound pages, migration entries, PVMW_SYNC: an entry that is not present is passed over without its lock)
/// Locks:    the rmap lock of the page held; returns with the PTE lock held
/// Errors:   none
async fn page_vma_mapped_walk(k: &Kernel, page: PageId, vma: VmaId, address: u64) -> Option<PteRef> {
    let Some(pmd) = mm_find_pmd(k, k.vma(vma).vm_mm, address) else { return None };
    let Some(pte) = pte_offset_map(k, pmd, address) else { return None };
    if !pte_present(ptep_get_lockless(k, pte).await) {
        return None;
    }
    ptl_lock(k, pte.table).await;
    if vm_normal_page(ptep_get(k, pte)) == Some(page) {
        return Some(pte);
    }
    pte_unmap_unlock(k, pte);
    None
}

/// What a reverse map walk found out, and what it has locked.
struct RmapWalk {
    /// The lock that is held during the walk.
    lock: LockId,
    /// VMAs that cover the page, in tree order, with the page's address there.
    vmas: SmallVec<[(VmaId, u64); 4]>,
}

/// The head of rmap_walk: find the tree of the page, lock it for reading, list the VMAs that cover the page.
///
/// Kernel:   mm/rmap.c:rmap_walk, rmap_walk_anon, rmap_walk_file @ v5.14
/// Fidelity: TRIMMED(KSM)
/// Locks:    page lock held (a file page must be); takes the anon_vma lock or i_mmap_rwsem for reading: rmap_walk_end drops it
/// Errors:   None: there is nothing to walk
async fn rmap_walk_begin(k: &Kernel, page: PageId) -> Option<RmapWalk> {
    let (lock, mut tree): (LockId, SmallVec<[VmaId; 4]>) = if PageAnon(k, page) {
        let Some((anon_vma, root)) = page_lock_anon_vma_read(k, page).await else { return None };
        (LockId::AnonVma(root), k.anon_vma(anon_vma).vmas.clone())
    } else {
        // Else page->mapping could go away during the walk.
        VM_BUG_ON!(k, !PageLocked(k, page));
        // The swap cache has no i_mmap, a page that has left its cache no mapping.
        let MappingOf::Inode(mapping) = page_mapping(k, page) else { return None };
        acquire(k, LockId::IMmap(mapping), LockMode::Read).await;
        (LockId::IMmap(mapping), k.inode(mapping).i_mmap.clone())
    };
    tree.sort_by_key(|vma| k.vma(*vma).vm_pgoff);
    let vmas = tree.iter().filter_map(|&vma| vma_address(k, page, vma).map(|address| (vma, address))).collect();
    Some(RmapWalk { lock, vmas })
}

/// The end of a walk: let go of the tree.
fn rmap_walk_end(k: &Kernel, walk: RmapWalk) {
    release(k, walk.lock, LockMode::Read);
}

/// How many VMAs have accessed the page since this was last asked (young bits are cleared), and whether a VM_LOCKED one maps it.
///
/// Kernel:   mm/rmap.c:page_referenced, page_referenced_one @ v5.14
/// Fidelity: TRIMMED(memcg, idle tracking, VM_SEQ_READ)
/// Locks:    page lock held; takes and drops the rmap lock and PTE locks
/// Errors:   none
pub async fn page_referenced(k: &Kernel, page: PageId) -> (u32, bool) {
    let _f = k.enter("page_referenced", || format!("{page}"));
    let mut referenced = 0;
    let mut vm_locked = false;
    let mut mapcount = page_mapcount(k, page);

    if mapcount == 0 {
        return (0, false);
    }
    let Some(walk) = rmap_walk_begin(k, page).await else { return (0, false) };
    for &(vma, address) in &walk.vmas {
        if let Some(pte) = page_vma_mapped_walk(k, page, vma, address).await {
            let v = k.vma(vma);
            if v.vm_flags.contains(VM_LOCKED) {
                pte_unmap_unlock(k, pte);
                vm_locked = true;
                break;
            }
            let pteval = ptep_get(k, pte);
            if pte_young(pteval) {
                set_pte_at(k, v.vm_mm, address, pte, pte_mkold(pteval));
                referenced += 1;
            }
            mapcount -= 1;
            pte_unmap_unlock(k, pte);
        }
        if mapcount == 0 {
            break;
        }
    }
    rmap_walk_end(k, walk);
    (referenced, vm_locked)
}

// ---- adding and removing a mapping --------------------------------------------------------------------------------------

/// How many PTEs map the page now, and that this changes.
#[inline]
fn mapcount_change(k: &Kernel, page: PageId, change: impl FnOnce(i16) -> i16) -> i16 {
    let (was, now) = {
        let mut p = k.page_mut(page);
        let was = p.mapcount;
        p.mapcount = change(was);
        (was, p.mapcount)
    };
    k.trace(|| Event::Map { page, delta: i32::from(now - was), now: now.into() });
    now
}

/// Make the page an anonymous one of this VMA, unless it is anonymous already.
///
/// Kernel:   mm/rmap.c:__page_set_anon_rmap @ v5.14
/// Fidelity: MIRROR (without an anon_vma the kernel stops in BUG_ON; here that is reported and nothing is set)
/// Locks:    ptl held; the page is locked or new
/// Errors:   none
fn __page_set_anon_rmap(k: &Kernel, page: PageId, vma: VmaId, address: u64, exclusive: bool) {
    if exclusive && k.has(Delta::PG_ANON_EXCLUSIVE) {
        SetPageAnonExclusive(k, page);
    }
    let Some(mut anon_vma) = k.vma(vma).anon_vma else {
        k.report(Symptom::BugOn, || format!("BUG_ON(!anon_vma): {page} mapped at {address:#x} of {vma}"));
        return;
    };
    if PageAnon(k, page) {
        return;
    }
    // Who else has it is not known: the oldest anon_vma of the family lists every VMA that could.
    if !exclusive {
        anon_vma = anon_vma_root(k, anon_vma);
    }
    let index = linear_page_index(k, vma, address);
    let mut p = k.page_mut(page);
    p.mapping = PageMapping::Anon(anon_vma);
    p.index = index;
}

/// One more PTE maps an anonymous page (swap-in). `exclusive`: no other process can have it.
///
/// Kernel:   mm/rmap.c:do_page_add_anon_rmap @ v5.14
/// Fidelity: TRIMMED(compound pages, KSM, statistics)
/// Locks:    ptl held, page locked
/// Errors:   none
pub fn do_page_add_anon_rmap(k: &Kernel, page: PageId, vma: VmaId, address: u64, exclusive: bool) {
    VM_BUG_ON!(k, !PageLocked(k, page));
    let now = mapcount_change(k, page, |was| was + 1);
    if now == 1 {
        __page_set_anon_rmap(k, page, vma, address, exclusive);
    } else {
        // __page_check_anon_rmap
        let family = |anon_vma| anon_vma_root(k, anon_vma);
        if let (PageMapping::Anon(theirs), Some(ours)) = (k.page(page).mapping, k.vma(vma).anon_vma) {
            VM_BUG_ON!(k, family(theirs) != family(ours));
        }
        VM_BUG_ON!(k, k.page(page).index != linear_page_index(k, vma, address));
    }
}

/// The page has turned out to be this VMA's alone, whoever it came from.
///
/// Kernel:   mm/rmap.c:page_move_anon_rmap @ v5.19
/// Fidelity: TRIMMED(compound pages)
/// Locks:    ptl held, page locked
/// Errors:   none
pub fn page_move_anon_rmap(k: &Kernel, page: PageId, vma: VmaId) {
    VM_BUG_ON!(k, !PageLocked(k, page));
    let Some(anon_vma) = k.vma(vma).anon_vma else {
        k.report(Symptom::BugOn, || format!("VM_BUG_ON(!anon_vma): {page} moved to {vma}"));
        return;
    };
    k.page_mut(page).mapping = PageMapping::Anon(anon_vma);
    SetPageAnonExclusive(k, page);
}

/// The first PTE maps a new anonymous page.
///
/// Kernel:   mm/rmap.c:page_add_new_anon_rmap @ v5.14
/// Fidelity: TRIMMED(compound pages, statistics)
/// Locks:    ptl held; the page is visible to nobody else
/// Errors:   none
pub fn page_add_new_anon_rmap(k: &Kernel, page: PageId, vma: VmaId, address: u64) {
    let v = k.vma(vma);
    VM_BUG_ON!(k, address < v.vm_start || address >= v.vm_end);
    __SetPageSwapBacked(k, page);
    // Stored, not incremented: a page that was mapped already loses its count here.
    mapcount_change(k, page, |_| 1);
    __page_set_anon_rmap(k, page, vma, address, true);
}

/// One more PTE maps a page-cache page.
///
/// Kernel:   mm/rmap.c:page_add_file_rmap @ v5.14
/// Fidelity: TRIMMED(compound pages, statistics)
/// Locks:    ptl held
/// Errors:   none
#[inline]
pub fn page_add_file_rmap(k: &Kernel, page: PageId) {
    mapcount_change(k, page, |was| was + 1);
}

/// One more PTE maps the page: fork copies one.
///
/// Kernel:   include/linux/mm.h:page_dup_rmap @ v5.14
/// Fidelity: MIRROR
/// Locks:    ptl held
/// Errors:   none
pub fn page_dup_rmap(k: &Kernel, page: PageId) {
    mapcount_change(k, page, |was| was + 1);
}

/// One PTE less maps the page. `page->mapping` and `index` stay: a page that becomes free needs no cleaning, and one that is
/// swapped in again belongs where it belonged.
///
/// Kernel:   mm/rmap.c:page_remove_rmap @ v5.14
/// Fidelity: TRIMMED(compound pages, statistics)
/// Locks:    ptl held
/// Errors:   none
pub fn page_remove_rmap(k: &Kernel, page: PageId) {
    let now = mapcount_change(k, page, |was| was - 1);
    if now > 0 {
        return;
    }
    // MLOCK_RMAP: the VMAs that lock it have said so themselves.
    if PageMlocked(k, page) && !k.has(Delta::MLOCK_RMAP) {
        clear_page_mlock(k, page);
    }
}

/// The last mapping of an mlocked page is gone: it may be reclaimed again.
///
/// Kernel:   mm/mlock.c:clear_page_mlock @ v5.14
/// Fidelity: TRIMMED(statistics)
/// Locks:    ptl held, or the page lock
/// Errors:   none
pub(crate) fn clear_page_mlock(k: &Kernel, page: PageId) {
    if !TestClearPageMlocked(k, page) {
        return;
    }
    if isolate_lru_page(k, page).is_ok() {
        putback_lru_page(k, page);
    }
}

// ---- unmapping ----------------------------------------------------------------------------------------------------------

/// An entry of a file mapping is gone that was write-protected for userfaultfd: leave a marker, so that the protection stays.
/// Anonymous memory comes back as zeroes, and needs none.
///
/// Kernel:   include/linux/mm_inline.h:pte_install_uffd_wp_if_needed @ v5.19
/// Fidelity: MIRROR
/// Locks:    ptl held
/// Errors:   none
pub(crate) fn pte_install_uffd_wp_if_needed(k: &Kernel, vma: VmaId, addr: u64, pte: PteRef, pteval: PteVal) {
    if !k.has(Delta::PTE_MARKER_UFFD_WP) {
        return;
    }
    let _ = WARN_ON_ONCE!(k, !pte_none(ptep_get(k, pte)));
    if vma_is_anonymous(k, vma) || !userfaultfd_wp(k, vma) {
        return;
    }
    // Of a present entry, of a swap entry, of a marker.
    if pte_uffd_wp(pteval) || pte_marker_uffd_wp(pteval) {
        k.branch("a marker keeps the write protection");
        set_pte_at(k, k.vma(vma).vm_mm, addr, pte, make_pte_marker(PTE_MARKER_UFFD_WP));
    }
}

/// Take the mapping of the page away from one VMA. False ends the walk. PTE_MARKER_UFFD_WP: an entry of a file that was
/// write-protected leaves a marker. PG_ANON_EXCLUSIVE: what the page knew, the swap entry knows.
///
/// Kernel:   mm/rmap.c:try_to_unmap_one @ v5.14
/// Fidelity: TRIMMED(huge pages, MADV_FREE pages, hwpoison entries, mmu notifiers, TLB, pte_unused of s390)
/// Locks:    page lock and the rmap lock held; takes and drops the PTE lock
/// Errors:   false: the VMA is VM_LOCKED, or the swap slot cannot take another reference
async fn try_to_unmap_one(k: &Kernel, page: PageId, vma: VmaId, address: u64, flags: TtuFlags) -> bool {
    let v = k.vma(vma);
    let mm = v.vm_mm;
    let Some(pte) = page_vma_mapped_walk(k, page, vma, address).await else { return true };

    if !flags.ignore_mlock && v.vm_flags.contains(VM_LOCKED) {
        k.branch("mapped by a VM_LOCKED VMA");
        mlock_vma_page(k, page).await;
        pte_unmap_unlock(k, pte);
        return false;
    }

    let pteval = ptep_get_and_clear(k, mm, address, pte);
    // Before the entry is rewritten, so that nobody sees a page that is clean everywhere.
    if pte_dirty(pteval) {
        set_page_dirty(k, page);
    }

    if PageAnon(k, page) {
        let entry = match k.page(page).private {
            Some(entry) if PageSwapBacked(k, page) == PageSwapCache(k, page) => entry,
            _ => {
                // The PTE stays cleared, as in the kernel.
                let _ = WARN_ON_ONCE!(k, true);
                pte_unmap_unlock(k, pte);
                return false;
            }
        };
        if swap_duplicate(k, entry).is_err() {
            set_pte_at(k, mm, address, pte, pteval);
            pte_unmap_unlock(k, pte);
            return false;
        }
        dec_mm_counter(k, mm, MmCounter::MM_ANONPAGES);
        inc_mm_counter(k, mm, MmCounter::MM_SWAPENTS);
        let mut swp_pte = PteVal::Swap { entry, flags: PteFlags::empty() };
        if pte_soft_dirty(pteval) {
            swp_pte = pte_mksoft_dirty(swp_pte);
        }
        if pte_uffd_wp(pteval) {
            swp_pte = pte_mkuffd_wp(swp_pte);
        }
        // page_try_share_anon_rmap: in the slot it is the entry that knows.
        if TestClearPageAnonExclusive(k, page) {
            swp_pte = pte_swp_mkexclusive(swp_pte);
        }
        set_pte_at(k, mm, address, pte, swp_pte);
    } else {
        // A file page leaves nothing behind but its write protection: the next access faults, and finds it in the cache or in swap.
        if userfaultfd_armed(k, vma) {
            k.branch("a VMA with userfaultfd loses its entry");
        }
        pte_install_uffd_wp_if_needed(k, vma, address, pte, pteval);
        dec_mm_counter(k, mm, mm_counter_file(k, page));
    }
    page_remove_rmap(k, page);
    put_page(k, page);
    pte_unmap_unlock(k, pte);
    true
}

/// Take all mappings of a page away. The caller looks at page_mapped() for the result.
///
/// Kernel:   mm/rmap.c:try_to_unmap @ v5.14
/// Fidelity: TRIMMED(KSM, TTU_RMAP_LOCKED, TTU_SYNC)
/// Locks:    page lock held; takes and drops the rmap lock and PTE locks
/// Errors:   none
pub async fn try_to_unmap(k: &Kernel, page: PageId, flags: TtuFlags) {
    let _f = k.enter("try_to_unmap", || format!("{page}"));
    let Some(walk) = rmap_walk_begin(k, page).await else { return };
    for &(vma, address) in &walk.vmas {
        if !try_to_unmap_one(k, page, vma, address, flags).await {
            break;
        }
        // page_not_mapped
        if !page_mapped(k, page) {
            break;
        }
    }
    rmap_walk_end(k, walk);
}
