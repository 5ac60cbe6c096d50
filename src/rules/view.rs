// SPDX-License-Identifier: GPL-2.0-only
//! One walk over the state, which all structural rules then read: every PTE with the VMA it lies in, and who holds each frame.

use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{pte_dirty, vm_normal_page};

/// A page-table entry that is not none.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Whose page table.
    pub mm: MmId,
    /// At which address.
    pub addr: u64,
    /// The entry.
    pub pte: PteVal,
    /// Index into [`View::areas`] of the VMA around it.
    area: u16,
}

/// A VMA.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Its id.
    pub id: VmaId,
    /// A copy of it.
    pub vma: Vma,
    /// The shmem file it maps.
    pub inode: Option<InodeId>,
}

impl Area {
    /// `linear_page_index`: the page of the file (or of the anonymous memory) at an address of the VMA.
    pub fn index(&self, addr: u64) -> u64 {
        self.vma.vm_pgoff + (addr - self.vma.vm_start) / PAGE_SIZE
    }

    /// VM_SHARED.
    pub fn shared(&self) -> bool {
        self.vma.vm_flags.contains(VM_SHARED)
    }
}

/// Who holds a frame.
#[derive(Clone, Copy, Default, Debug)]
pub struct Holders {
    /// Present PTEs.
    pub ptes: u16,
    /// Page-cache slots.
    pub slots: u16,
    /// Swap-cache slots.
    pub swap_cache: u16,
    /// Places in the LRU batch.
    pub lru_pvec: u16,
    /// One of the PTEs is dirty.
    pub dirty_pte: bool,
}

/// Who names a swap slot.
#[derive(Clone, Copy, Default, Debug)]
pub struct Users {
    /// Swap PTEs.
    pub ptes: u16,
    /// Page-cache slots.
    pub slots: u16,
}

const NOWHERE: u16 = u16::MAX;

/// See the module text.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// No task is inside a system call and none waits for a lock.
    pub quiescent: bool,
    /// All PTEs that are not none, by mm and address.
    pub lines: Vec<Line>,
    /// All VMAs, by mm and address.
    pub areas: Vec<Area>,
    /// By frame number.
    pub holders: Vec<Holders>,
    /// By swap slot.
    pub users: Vec<Users>,
    /// A swap value that no slot of the device answers to.
    pub lost_entry: Option<SwpEntry>,
}

impl View {
    /// Look at the state afresh.
    pub fn read(&mut self, s: &State) {
        self.quiescent = s.waiting.is_empty() && s.tasks.iter().all(|(_, t)| !t.in_syscall);
        self.lines.clear();
        self.areas.clear();
        self.holders.clear();
        self.holders.resize(s.mem_map.len(), Holders::default());
        self.users.clear();
        self.users.resize(s.swap.len(), Users::default());
        self.lost_entry = None;
        for (mm_id, mm) in s.mms.iter() {
            let mut area = self.areas.len();
            for &id in &mm.mmap {
                if let Some(vma) = s.vmas.get(id) {
                    self.areas.push(Area { id, vma: *vma, inode: shmem_inode(s, vma) });
                }
            }
            let mut line = self.lines.len();
            if let Some(pgd) = mm.pgd {
                walk(s, pgd, mm_id, 0, &mut self.lines);
            }
            while let Some(l) = self.lines.get_mut(line) {
                while self.areas.get(area).is_some_and(|a| a.vma.vm_end <= l.addr) {
                    area += 1;
                }
                if self.areas.get(area).is_some_and(|a| a.vma.vm_start <= l.addr) {
                    l.area = area as u16;
                }
                match l.pte {
                    PteVal::None | PteVal::Marker(_) => {}
                    PteVal::Present { .. } => {
                        if let Some(page) = vm_normal_page(l.pte)
                            && live_page(s, page).is_some()
                        {
                            let h = &mut self.holders[page.pfn as usize];
                            h.ptes += 1;
                            h.dirty_pte |= pte_dirty(l.pte);
                        }
                    }
                    PteVal::Swap { entry, .. } => match self.users.get_mut(entry.0 as usize) {
                        Some(u) => u.ptes += 1,
                        None => self.lost_entry = Some(entry),
                    },
                }
                line += 1;
            }
        }
        for (_, inode) in s.inodes.iter() {
            for (_, slot) in inode.i_pages.iter() {
                match slot {
                    SlotVal::Page(page) => {
                        if live_page(s, page).is_some() {
                            self.holders[page.pfn as usize].slots += 1;
                        }
                    }
                    SlotVal::Swap(entry) => match self.users.get_mut(entry.0 as usize) {
                        Some(u) => u.slots += 1,
                        None => self.lost_entry = Some(entry),
                    },
                }
            }
        }
        for slot in &s.swap {
            if let Some(page) = slot.cache
                && live_page(s, page).is_some()
            {
                self.holders[page.pfn as usize].swap_cache += 1;
            }
        }
        for &page in &s.lru_pvec {
            if live_page(s, page).is_some() {
                self.holders[page.pfn as usize].lru_pvec += 1;
            }
        }
    }

    /// The VMA around a PTE.
    pub fn area(&self, line: &Line) -> Option<&Area> {
        self.areas.get(line.area as usize)
    }

    /// The VMA around an address.
    pub fn area_at(&self, mm: MmId, addr: u64) -> Option<&Area> {
        self.areas.iter().find(|a| a.vma.vm_mm == mm && a.vma.vm_start <= addr && addr < a.vma.vm_end)
    }

    /// The PTE at an address.
    pub fn pte_at(&self, mm: MmId, addr: u64) -> PteVal {
        self.lines.iter().find(|l| l.mm == mm && l.addr == addr).map_or(PteVal::None, |l| l.pte)
    }
}

fn walk(s: &State, table: TableId, mm: MmId, base: u64, lines: &mut Vec<Line>) {
    let Some(t) = s.tables.get(table) else { return };
    let shift = 12 + 9 * (t.level.clamp(1, 4) as u64 - 1);
    for (idx, entry) in t.entries.iter() {
        let addr = base + ((idx as u64) << shift);
        match entry {
            PtEntry::Table(child) if t.level > 1 => walk(s, child, mm, addr, lines),
            PtEntry::Table(_) => {}
            PtEntry::Pte(pte) => lines.push(Line { mm, addr, pte, area: NOWHERE }),
        }
    }
}

/// The shmem file that a VMA maps.
pub fn shmem_inode(s: &State, vma: &Vma) -> Option<InodeId> {
    if vma.vm_ops != VmOps::Shmem {
        return None;
    }
    match s.files.get(vma.vm_file?)?.kind {
        FileKind::Inode(inode) => Some(inode),
        _ => None,
    }
}

/// The page, if the id is not stale and the frame is in use.
pub fn live_page(s: &State, id: PageId) -> Option<&Page> {
    s.mem_map.get(id.pfn as usize).filter(|p| p.generation == id.generation && p.refcount > 0)
}

/// The frames in use, with their holders.
pub fn used_pages<'a>(s: &'a State, v: &'a View) -> impl Iterator<Item = (PageId, &'a Page, &'a Holders)> + 'a {
    s.mem_map
        .iter()
        .zip(&v.holders)
        .enumerate()
        .filter(|(_, (p, _))| p.refcount != 0)
        .map(|(pfn, (p, h))| (PageId { pfn: pfn as u16, generation: p.generation }, p, h))
}

/// The file that a descriptor of a task refers to.
pub fn fd_file(s: &State, task: TaskId, fd: u8) -> Option<File> {
    let proc = s.procs.get(s.tasks.get(task)?.group)?;
    s.files.get(proc.file(fd)?).copied()
}

/// The address space of a task.
pub fn task_mm(s: &State, task: TaskId) -> Option<MmId> {
    s.procs.get(s.tasks.get(task)?.group)?.mm
}

/// The task sleeps: in a userfault of user mode, or inside a system call.
pub fn asleep(s: &State, task: TaskId) -> bool {
    s.tasks.get(task).is_none_or(|t| t.blocked.is_some() || t.state != TaskState::Running)
}
