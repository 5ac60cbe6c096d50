// SPDX-License-Identifier: GPL-2.0-only
//! What UFFDIO_COPY, ZEROPAGE and CONTINUE should answer, worked out from the state before they ran.
//!
//! Only for calls whose arguments are in order (a valid range inside one registered VMA of the right kind), so that every
//! answer is about a page. For each page, the conditions that a refusal can name; none means that the page must be filled.

use super::view::{View, live_page, shmem_inode};
use crate::errno::Errno;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::pgtable::{pte_none, pte_none_mostly, pte_present, pte_protnone};
use crate::spec::visible::{file_cells, memory_cells, pte_of, vma_at};
use crate::spec::{Subject, bytes::RefCells};
use crate::syscall::{COPY_MODE_WP, MODE_DONTWAKE, Op, Out, Outcome, UserBuf};
use smallvec::SmallVec;
use std::fmt;

/// Which ioctl.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fill {
    Copy,
    Zeropage,
    Continue,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fill::Copy => "UFFDIO_COPY",
            Fill::Zeropage => "UFFDIO_ZEROPAGE",
            Fill::Continue => "UFFDIO_CONTINUE",
        })
    }
}

/// The conditions of one page, and what user space sees of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageBefore {
    pub addr: u64,
    /// At or past the last page of the file.
    pub past_eof: bool,
    /// CONTINUE: the file holds nothing there.
    pub hole: bool,
    /// The file holds a page that nothing was written to yet, as fallocate() makes it.
    pub fallocated: bool,
    /// The PTE holds something.
    pub pte: bool,
    /// COPY and ZEROPAGE of a shared mapping: the file holds something there.
    pub slot: bool,
    /// Accounting cannot allow a page more.
    pub refused: bool,
    /// No page frame may be left.
    pub no_frame: bool,
    memory: Cells,
    file: Cells,
}

impl PageBefore {
    /// Is there a reason to refuse the page?
    pub fn excused(&self) -> bool {
        self.past_eof || self.hole || self.pte || self.slot || self.refused || self.no_frame
    }
}

impl fmt::Display for PageBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.past_eof, "past the end of the file"),
            (self.hole, "a hole"),
            (self.fallocated, "fallocated and not written to"),
            (self.pte, "mapped already"),
            (self.slot, "in the file already"),
            (self.refused, "over the limit"),
            (self.no_frame, "no page frame free"),
        ];
        let mut said = false;
        for (_, what) in all.iter().filter(|a| a.0) {
            write!(f, "{}{what}", if said { ", " } else { "" })?;
            said = true;
        }
        if said { Ok(()) } else { f.write_str("nothing in the way") }
    }
}

/// What was found when the ioctl began.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    pub fill: Fill,
    pub mm: MmId,
    inode: Option<InodeId>,
    pub pages: SmallVec<[PageBefore; 2]>,
    /// The source of COPY is certain to be readable without a fault.
    pub source_sure: bool,
    /// COPY with write protection.
    pub write_protect: bool,
    shared: bool,
    i_blocks: i64,
    used_blocks: i64,
    vm_committed_as: i64,
}

/// The page-wise answer.
pub(crate) struct Answer<'a> {
    pub before: &'a Before,
    /// Pages that the ioctl reported as done.
    pub done: usize,
    /// It stopped at a page, with this errno if it was the first one.
    pub stopped: Option<Option<Errno>>,
}

impl Answer<'_> {
    /// The page it stopped at.
    pub fn failed_page(&self) -> Option<&PageBefore> {
        self.stopped.and_then(|_| self.before.pages.get(self.done))
    }
    /// The errno of the first page.
    pub fn errno(&self) -> Option<Errno> {
        self.stopped.flatten()
    }
    /// The pages that were filled.
    pub fn filled(&self) -> &[PageBefore] {
        &self.before.pages[..self.done.min(self.before.pages.len())]
    }
}

/// Most pages of one call that are looked at.
const MOST: u64 = 32;

/// The range, mode and kind of a filling ioctl.
pub(crate) fn fill_of(op: &Op) -> Option<(Fill, u64, u64, u64)> {
    match *op {
        Op::UffdCopy { dst, len, mode, .. } => Some((Fill::Copy, dst, len, mode)),
        Op::UffdZeropage { start, len, mode, .. } => Some((Fill::Zeropage, start, len, mode)),
        Op::UffdContinue { start, len, mode, .. } => Some((Fill::Continue, start, len, mode)),
        _ => None,
    }
}

/// Bytes that a filling ioctl reported as done.
pub(crate) fn bytes_done(outcome: &Outcome) -> u64 {
    match outcome.out {
        Out::Done(n) if n > 0 => n as u64,
        _ => 0,
    }
}

/// `validate_range`.
fn valid_range(start: u64, len: u64) -> bool {
    start.is_multiple_of(PAGE_SIZE)
        && len.is_multiple_of(PAGE_SIZE)
        && len != 0
        && (MMAP_MIN_ADDR..TASK_SIZE).contains(&start)
        && len <= TASK_SIZE - start
}

impl Before {
    /// Look at the state; None when the call will be turned down for its arguments, or is none of the three.
    pub fn of(s: &State, task: TaskId, mm: Option<MmId>, subject: Subject, op: &Op) -> Option<Before> {
        let (fill, start, len, mode) = fill_of(op)?;
        let Subject::Uffd(ctx, Some(dst_mm)) = subject else { return None };
        let ctx = s.ctxs.get(ctx)?;
        let known = if fill == Fill::Copy { MODE_DONTWAKE | COPY_MODE_WP } else { MODE_DONTWAKE };
        let live = s.mms.get(dst_mm).is_some_and(|m| m.mm_users > 0);
        let killed = s.tasks.get(task).is_none_or(|t| t.fatal_signal_pending);
        if ctx.state != UffdState::Running
            || ctx.mmap_changing != 0
            || !live
            || killed
            || mode & !known != 0
            || !valid_range(start, len)
        {
            return None;
        }
        let vma = vma_at(s, dst_mm, start)?;
        let wp = fill == Fill::Copy && mode & COPY_MODE_WP != 0;
        let anonymous = vma.vm_ops == VmOps::None;
        if start + len > vma.vm_end
            || vma.ctx.is_none()
            || (wp && !vma.vm_flags.contains(VM_UFFD_WP))
            || (anonymous && (vma.vm_flags.contains(VM_SHARED) || fill == Fill::Continue))
        {
            return None;
        }
        let source_sure = match *op {
            Op::UffdCopy { src: UserBuf::Addr(src), len, .. } => {
                src.checked_add(len)?;
                readable(s, mm?, src, len)
            }
            _ => true,
        };
        let inode = shmem_inode(s, vma);
        let node = inode.and_then(|i| s.inodes.get(i));
        let sb = node.and_then(|n| n.i_sb).and_then(|b| s.sbs.get(b));
        let shared = vma.vm_flags.contains(VM_SHARED);
        let free =
            s.config.nr_frames as usize - s.mem_map.iter().filter(|p| p.refcount != 0).count().min(s.config.nr_frames as usize);
        // Blocks of clean pages that reclaim dropped: shmem_recalc_inode() gives them back behind the first page that is charged.
        let dropped = node.map_or(0, |n| n.info.alloced - n.info.swapped - n.nrpages).max(0);
        let mut pages = SmallVec::new();
        let mut swap_ins = 0;
        for i in 0..(len / PAGE_SIZE).min(MOST) {
            let addr = start + i * PAGE_SIZE;
            let index = vma.vm_pgoff + (addr - vma.vm_start) / PAGE_SIZE;
            let slot = node.and_then(|n| n.i_pages.get(index as u32));
            let charged = shared && fill != Fill::Continue;
            let swapped = matches!(slot, Some(SlotVal::Swap(_)));
            swap_ins += swapped as usize;
            let frames = match fill {
                Fill::Continue => swap_ins,
                Fill::Zeropage if !shared => 0,
                _ => i as usize + 1,
            };
            // Strict overcommit counts for files that are charged page by page.
            let commit = node.is_some_and(|n| n.info.flags.contains(VM_NORESERVE))
                && s.config.commit_limit.is_some_and(|l| s.vm_committed_as + i as i64 >= l);
            let given_back = if i > 0 { dropped } else { 0 };
            let full = sb.is_some_and(|b| b.max_blocks > 0 && b.used_blocks + i as i64 - given_back >= b.max_blocks);
            pages.push(PageBefore {
                addr,
                past_eof: node.is_some_and(|n| index >= max_off(n.i_size)),
                hole: fill == Fill::Continue && slot.is_none(),
                fallocated: matches!(slot, Some(SlotVal::Page(p))
                    if live_page(s, p).is_some_and(|p| !p.flags.contains(PG_uptodate))),
                pte: populated(fill, shared, pte_of(s, dst_mm, addr)),
                slot: charged && slot.is_some(),
                refused: charged && (commit || full),
                no_frame: frames > free && (fill != Fill::Continue || swapped),
                memory: memory_cells(s, dst_mm, addr),
                file: inode.map_or(ZERO_CELLS, |i| file_cells(s, i, index)),
            });
        }
        Some(Before {
            fill,
            mm: dst_mm,
            inode,
            pages,
            source_sure,
            write_protect: wp,
            shared,
            i_blocks: node.map_or(0, |n| n.i_blocks),
            used_blocks: sb.map_or(0, |b| b.used_blocks),
            vm_committed_as: s.vm_committed_as,
        })
    }

    /// The call came back having done nothing: is everything that user space can see as before?
    pub fn changes(&self, s: &State, v: &View) -> Vec<String> {
        let mut found = Vec::new();
        for p in &self.pages {
            // A source that had to be faulted in may lie in the same memory or file.
            if !self.source_sure {
                continue;
            }
            let pte = populated(self.fill, self.shared, v.pte_at(self.mm, p.addr));
            if pte != p.pte {
                found.push(format!("{:#x} was {}mapped and is {}mapped", p.addr, un(p.pte), un(pte)));
            }
            let memory = memory_cells(s, self.mm, p.addr);
            if memory != p.memory {
                found.push(format!("{:#x} held {:?} and holds {memory:?}", p.addr, p.memory));
            }
            if let (Some(inode), Some(vma)) = (self.inode, vma_at(s, self.mm, p.addr)) {
                let index = vma.vm_pgoff + (p.addr - vma.vm_start) / PAGE_SIZE;
                let file = file_cells(s, inode, index);
                if file != p.file && !RefCells::seen(&file).admits(&p.file) {
                    found.push(format!("{inode} page {index} held {:?} and holds {file:?}", p.file));
                }
            }
        }
        if let Some(inode) = self.inode.filter(|_| self.source_sure) {
            let node = s.inodes.get(inode);
            let sb = node.and_then(|n| n.i_sb).and_then(|b| s.sbs.get(b));
            let now = [
                ("st_blocks", self.i_blocks, node.map_or(0, |n| n.i_blocks)),
                ("used_blocks", self.used_blocks, sb.map_or(0, |b| b.used_blocks)),
                ("vm_committed_as", self.vm_committed_as, s.vm_committed_as),
            ];
            // Less is legal: pages that reclaim dropped are noticed whenever the file is next accounted.
            found.extend(now.iter().filter(|n| n.2 > n.1).map(|n| format!("{} was {} and is {}", n.0, n.1, n.2)));
        }
        found
    }

    /// What was answered, page by page.
    pub fn answer(&self, outcome: &Outcome) -> Answer<'_> {
        let done = (bytes_done(outcome) / PAGE_SIZE) as usize;
        let stopped = match outcome.ret {
            Ok(_) => None,
            Err(e) => Some(if done == 0 { Some(e) } else { None }),
        };
        Answer { before: self, done, stopped }
    }
}

/// Does what stands in the PTE forbid to fill it? A marker does so to the zero page only.
fn populated(fill: Fill, shared: bool, pte: PteVal) -> bool {
    if fill == Fill::Zeropage && !shared { !pte_none(pte) } else { !pte_none_mostly(pte) }
}

fn un(mapped: bool) -> &'static str {
    if mapped { "" } else { "un" }
}

/// Every page of the range can be read without a fault.
fn readable(s: &State, mm: MmId, from: u64, len: u64) -> bool {
    let mut page = page_align_down(from);
    while page < from.saturating_add(len) {
        let pte = pte_of(s, mm, page);
        let vma = vma_at(s, mm, page);
        if !pte_present(pte) || pte_protnone(pte) || vma.is_none_or(|v| !v.vm_flags.contains(VM_READ)) {
            return false;
        }
        page += PAGE_SIZE;
    }
    true
}
