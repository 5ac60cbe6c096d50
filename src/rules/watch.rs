// SPDX-License-Identifier: GPL-2.0-only
//! What has to be remembered between two looks at a kernel.

use super::ioctl::{Before, bytes_done, fill_of};
use super::registration_keeps_mappings::Mapped;
use super::view::{View, asleep, task_mm};
use super::*;
use crate::flags::*;
use crate::kernel::*;
use crate::spec::bytes::Sure;
use crate::spec::visible::{Place, place};
use crate::spec::{Done, Mismatch, Spec, Subject, fd_of};
use crate::syscall::{MODE_DONTWAKE, Op, Outcome, UserBuf};
use smallvec::SmallVec;

/// An operation that has begun and not returned.
#[derive(Clone, Debug)]
struct Active {
    task: TaskId,
    op: Op,
    mm: Option<MmId>,
    subject: Subject,
    old_size: u64,
    /// It ran together with another one.
    overlapped: bool,
    /// Others ran while it slept.
    disturbed: bool,
    /// Fallible calls made before it.
    fallible: u32,
    before: Option<Before>,
    mapped: Mapped,
    inode: Option<InodeId>,
    filling: Option<(MmId, u64, u64)>,
    /// It is in the list of what ran since the kernel had settled last.
    listed: bool,
}

/// An operation that ran since the kernel had settled last.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub op: Op,
    /// The file that it may fill.
    pub inode: Option<InodeId>,
    /// What a COPY, ZEROPAGE or CONTINUE works on.
    pub filling: Option<(MmId, u64, u64)>,
}

/// A range that a monitor filled, with wake-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub ctx: CtxId,
    pub start: u64,
    pub end: u64,
}

/// A registered range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registered {
    pub mm: MmId,
    pub start: u64,
    pub end: u64,
    pub pgoff: u64,
    pub flags: VmFlags,
    pub inode: Option<InodeId>,
}

/// What was seen when the kernel had settled last.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    /// PTEs that were not none, sorted.
    pub entries: Vec<(MmId, u64)>,
    /// VMAs registered with MISSING or MINOR.
    pub registered: SmallVec<[Registered; 4]>,
    /// Page-cache slots of the files behind them that were not empty, sorted.
    pub slots: Vec<(InodeId, u32)>,
    /// Waiters.
    pub waiters: SmallVec<[UwqId; 4]>,
    /// Entries that userfaultfd write-protects, sorted.
    pub protected: Vec<(MmId, u64)>,
}

impl Seen {
    fn look(&mut self, s: &State, v: &View) {
        self.registered.clear();
        self.slots.clear();
        self.entries.clear();
        self.waiters.clear();
        self.protected.clear();
        write_protection_is_kept::look(s, v, &mut self.protected);
        for area in &v.areas {
            let flags = area.vma.vm_flags & (VM_UFFD_MISSING | VM_UFFD_MINOR);
            if area.vma.ctx.is_none() || flags.is_empty() {
                continue;
            }
            self.registered.push(Registered {
                mm: area.vma.vm_mm,
                start: area.vma.vm_start,
                end: area.vma.vm_end,
                pgoff: area.vma.vm_pgoff,
                flags,
                inode: area.inode,
            });
        }
        if self.registered.is_empty() {
            return;
        }
        self.entries.extend(v.lines.iter().map(|l| (l.mm, l.addr)));
        for (id, inode) in s.inodes.iter() {
            if self.registered.iter().any(|r| r.inode == Some(id)) {
                self.slots.extend(inode.i_pages.iter().map(|(index, _)| (id, index)));
            }
        }
        self.waiters.extend(s.uwqs.iter().map(|(id, _)| id));
    }
}

/// Watches one run of a kernel, from [`Watch::new`] to [`Watch::finish`].
///
/// Tell it when an operation begins and when it returns (possibly much later, with others in between), and each time nothing
/// can go on. It clones with the kernel, so a search can go back to a state and take another way.
#[derive(Clone, Debug)]
pub struct Watch {
    spec: Spec,
    view: View,
    seen: Seen,
    active: SmallVec<[Active; 1]>,
    ran: SmallVec<[Ran; 1]>,
    resolved: SmallVec<[Resolved; 1]>,
    found: Vec<Mismatch>,
    /// Something has returned whose effects cannot be told any more.
    vague: bool,
}

impl Watch {
    /// From this state on. What the kernel shows now is taken to be as it should be.
    pub fn new(k: &Kernel) -> Watch {
        let s = k.s();
        let mut watch = Watch {
            spec: Spec::new(&s),
            view: View::default(),
            seen: Seen::default(),
            active: SmallVec::new(),
            ran: SmallVec::new(),
            resolved: SmallVec::new(),
            found: Vec::new(),
            vague: false,
        };
        watch.view.read(&s);
        watch.seen.look(&s, &watch.view);
        watch
    }

    /// `op` is about to start in `task`.
    pub fn begin(&mut self, k: &Kernel, task: TaskId, op: &Op) {
        let s = k.s();
        // A task runs one operation at a time; one that was killed never returned.
        self.active.retain(|a| a.task != task && s.tasks.get(a.task).is_some_and(|t| t.state != TaskState::Dead));
        let together = self.active.iter().any(|a| !asleep(&s, a.task));
        if together {
            self.spec.join_group(op);
        } else {
            self.spec.new_group();
            self.spec.join_group(op);
            for a in &self.active {
                self.spec.join_group(&a.op);
            }
        }
        for a in &mut self.active {
            if asleep(&s, a.task) {
                a.disturbed = true;
            } else {
                a.overlapped = true;
            }
        }
        let mm = task_mm(&s, task);
        let subject = Subject::of(&s, task, op);
        let filling = match (filled_by(op), subject) {
            (Some((start, len, _)), Subject::Uffd(_, Some(mm))) => Some((mm, start, start.saturating_add(len))),
            _ => None,
        };
        let inode = match (subject, filling) {
            (Subject::File(inode), _) => Some(inode),
            (_, Some((mm, start, _))) => match place(&s, mm, start) {
                Place::File(inode, _) => Some(inode),
                _ => None,
            },
            _ => None,
        };
        self.active.push(Active {
            task,
            op: *op,
            mm,
            subject,
            old_size: inode.and_then(|i| s.inodes.get(i)).map_or(0, |i| i.i_size),
            overlapped: together,
            disturbed: false,
            fallible: k.run.fallible.get(),
            before: Before::of(&s, task, mm, subject, op),
            mapped: Mapped::of(&s, subject, op),
            inode,
            filling,
            listed: true,
        });
        self.ran.push(Ran { op: *op, inode, filling });
    }

    /// `op` returned in `task`.
    pub fn end(&mut self, k: &Kernel, task: TaskId, op: &Op, outcome: &Outcome) -> Vec<Broken> {
        let mut out = Vec::new();
        let s = k.s();
        // After a call that was killed its task exits, which nobody has announced.
        let Some(at) = self.active.iter().position(|a| a.task == task && a.op == *op) else { return out };
        let mut a = self.active.remove(at);
        // Woken by another operation that has not returned yet, it ran together with that one.
        for other in self.active.iter_mut().filter(|o| !asleep(&s, o.task)) {
            other.overlapped = true;
            a.overlapped = true;
        }
        if !a.listed {
            self.ran.push(Ran { op: *op, inode: a.inode, filling: a.filling });
        }
        let instruction = matches!(op, Op::Load { .. } | Op::Store { .. });
        let sure = if a.disturbed && !instruction {
            // It may have done a part before the others, which may have ended before this group began.
            Sure::Perhaps
        } else if a.overlapped {
            Sure::Overlapped(self.spec.group())
        } else {
            Sure::Yes
        };
        self.found.clear();
        let done = Done { op, outcome, mm: a.mm, subject: a.subject, old_size: a.old_size, sure };
        let gone = a.mm.is_some_and(|mm| s.mms.get(mm).is_none());
        let moved = by_address(op) && (gone || (a.overlapped && self.spec.group_remaps()));
        if moved || (a.overlapped && self.spec.group_reopens() && fd_of(op).is_some()) {
            // What was at the address or behind the descriptor is there no more, or was not there yet.
            self.vague |= stores(op);
        }
        if !(by_address(op) && gone) {
            self.spec.apply(&s, &done, &mut self.found);
        }
        report_memory(&self.found, &mut out);
        out_field_matches::check(op, outcome, &mut out);
        if !(a.overlapped && self.spec.group_remaps()) {
            registration_keeps_mappings::check(&a.mapped, &s, &mut out);
        }
        let filled = bytes_done(outcome);
        if let (Some((start, _, mode)), Subject::Uffd(ctx, _)) = (filled_by(op), a.subject)
            && filled > 0
            && mode & MODE_DONTWAKE == 0
        {
            self.resolved.push(Resolved { ctx, start, end: start.saturating_add(filled) });
        }
        let killed = s.tasks.get(task).is_none_or(|t| t.fatal_signal_pending);
        if let (Some(before), Sure::Yes, false) = (&a.before, sure, killed) {
            if filled == 0 && outcome.ret.is_err() {
                self.view.read(&s);
                failed_call_changes_nothing::check(before, &s, &self.view, &mut out);
            }
            let answer = before.answer(outcome);
            if !answer.filled().is_empty() {
                self.view.read(&s);
                filled_page_is_writable::check(before, &answer, &s, &self.view, &mut out);
            }
            if !injected(k, a.fallible) {
                continue_finds_the_page::check(&answer, &mut out);
                continue_invents_nothing::check(&answer, &mut out);
                efault_exactly_past_eof::check(&answer, &mut out);
                eexist_exactly_when_populated::check(&answer, &mut out);
                enomem_only_when_refused::check(&answer, &mut out);
                errno_as_documented::check(&answer, &mut out);
            }
        }
        out
    }

    /// Nothing can go on without a new operation.
    pub fn settled(&mut self, k: &Kernel) -> Vec<Broken> {
        let s = k.s();
        let mut out = Vec::new();
        self.view.read(&s);
        check_structure(&s, &self.view, &mut out);
        self.found.clear();
        // A fork, mremap, munmap that waits for its event to be read has done its work already.
        let mut lenient = std::mem::take(&mut self.vague);
        let dead = |a: &Active| s.tasks.get(a.task).is_none_or(|t| t.state == TaskState::Dead);
        // One that was killed has done a part as well; an instruction is done or not.
        let instruction = |a: &Active| matches!(a.op, Op::Load { .. } | Op::Store { .. });
        let in_kernel = |a: &Active| s.tasks.get(a.task).is_none_or(|t| t.blocked.is_none());
        for a in self.active.iter().filter(|a| if dead(a) { !instruction(a) } else { in_kernel(a) }) {
            lenient |= stores(&a.op);
            if !a.listed {
                // It may have gone on for a while and slept again.
                self.ran.push(Ran { op: a.op, inode: a.inode, filling: a.filling });
            }
            match (&a.op, a.mm) {
                (Op::Fork, Some(mm)) => self.spec.fork(&s, mm, Sure::Perhaps),
                (Op::Mremap { .. } | Op::Munmap { .. } | Op::Mmap { .. }, Some(mm)) => self.spec.resynchronise(mm),
                _ => {}
            }
        }
        self.spec.settle(&s, &self.view, lenient, &mut self.found);
        report_memory(&self.found, &mut out);
        monitor_sees_every_fault::check(&self.view, &self.seen, &self.ran, &mut out);
        write_protection_is_kept::check(&self.view, &self.seen, &self.ran, &mut out);
        let unmapped = self.ran.iter().any(|r| unmaps(&r.op));
        every_resolved_waiter_wakes::check(&s, &self.view, &self.seen, &self.resolved, unmapped, &mut out);
        self.seen.look(&s, &self.view);
        self.ran.clear();
        self.resolved.clear();
        self.active.retain(|a| !dead(a));
        for a in &mut self.active {
            a.listed = false;
        }
        out
    }

    /// Every process has exited and every file is closed.
    pub fn finish(&mut self, k: &Kernel) -> Vec<Broken> {
        let mut out = self.settled(k);
        let s = k.s();
        check_exit(&s, &self.view, &mut out);
        out
    }
}

fn report_memory(found: &[Mismatch], out: &mut Vec<Broken>) {
    if !found.is_empty() {
        no_data_lost::check(found, out);
        no_private_leak::check(found, out);
        no_stale_bytes::check(found, out);
    }
}

/// Was a call made to fail since so many had been made?
fn injected(k: &Kernel, since: u32) -> bool {
    let now = k.run.fallible.get();
    k.run.fail_at.borrow().iter().any(|at| (since..now).contains(at))
}

/// The range and the mode of an ioctl that fills pages, or moves them there.
fn filled_by(op: &Op) -> Option<(u64, u64, u64)> {
    match *op {
        Op::UffdMove { dst, len, mode, .. } => Some((dst, len, mode)),
        _ => fill_of(op).map(|(_, start, len, mode)| (start, len, mode)),
    }
}

/// May the operation have stored something when it sleeps half done?
fn stores(op: &Op) -> bool {
    matches!(
        op,
        Op::Pread { .. }
            | Op::Pwrite { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::Madvise { .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdMove { .. }
            | Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mremap { .. }
            | Op::Fork
            | Op::Exit
            | Op::Store { .. }
    )
}

/// Does what the operation does depend on what is at an address?
fn by_address(op: &Op) -> bool {
    matches!(
        op,
        Op::Store { .. }
            | Op::Madvise { .. }
            | Op::Pread { buf: UserBuf::Addr(_), .. }
            | Op::Pwrite { buf: UserBuf::Addr(_), .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdMove { .. }
    )
}

/// May the operation take page-table entries away?
fn unmaps(op: &Op) -> bool {
    matches!(
        op,
        Op::Madvise { .. }
            | Op::Munmap { .. }
            | Op::Mmap { .. }
            | Op::Mremap { .. }
            | Op::UffdMove { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::Reclaim { .. }
            | Op::Swapoff
            | Op::Exit
    )
}
