// SPDX-License-Identifier: GPL-2.0-only
//! Nothing is mapped behind the monitor's back.

use super::view::View;
use super::watch::{Ran, Registered, Seen};
use super::{Broken, Rule, When};
use crate::flags::*;
use crate::kernel::PAGE_SIZE;
use crate::mm::pgtable::pte_present;
use crate::syscall::{Advice, FallocMode, Op, UserBuf};

pub(super) static RULE: Rule = Rule {
    name: "monitor-sees-every-fault",
    promise: "Only the monitor fills an empty entry of a registered range: MINOR where the file holds the page, else MISSING.",
    symptom: "live migration: the guest runs on a page that was never validated or never arrived",
    when: When::Settled,
    finds: &["F02", "F03", "F12"],
};

fn changes_registration(op: &Op) -> bool {
    matches!(
        op,
        Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mremap { .. }
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::Close { .. }
            | Op::Exit
            | Op::Kill { .. }
    )
}

fn empties_files(op: &Op) -> bool {
    matches!(
        op,
        Op::Ftruncate { .. }
            | Op::Fallocate { mode: FallocMode::PUNCH_HOLE, .. }
            | Op::Madvise { advice: Advice::MADV_REMOVE | Advice::MADV_PAGEOUT, .. }
            | Op::Reclaim { .. }
    )
}

/// Operations that fill nothing by themselves.
fn idle(op: &Op) -> bool {
    matches!(op, Op::UffdZeropage { .. } | Op::UffdContinue { .. } | Op::UffdWake { .. } | Op::UffdRead { .. } | Op::Poll { .. })
}

/// May the operation fill the registered file without a fault of its own in the registered range?
fn may_fill(r: &Ran, was: &Registered) -> bool {
    let directly = matches!(r.op, Op::Pwrite { .. } | Op::Fallocate { .. } | Op::UffdCopy { .. } | Op::UffdZeropage { .. });
    // What it touches; beyond the registered range it may fill the file through another mapping.
    let touched = match r.op {
        Op::Madvise { addr, len, .. } | Op::Mlock { addr, len } => Some((addr, len)),
        Op::Pread { buf: UserBuf::Addr(addr), count, .. } | Op::Pwrite { buf: UserBuf::Addr(addr), count, .. } => {
            Some((addr, count))
        }
        Op::UffdCopy { src: UserBuf::Addr(addr), len, .. } => Some((addr, len)),
        _ => None,
    };
    (directly && r.inode == was.inode)
        || touched.is_some_and(|(addr, len)| addr < was.start || addr.saturating_add(len) > was.end)
}

pub(super) fn check(v: &View, seen: &Seen, ran: &[Ran], out: &mut Vec<Broken>) {
    if seen.registered.is_empty() || ran.iter().any(|r| changes_registration(&r.op)) {
        return;
    }
    let emptied = ran.iter().any(|r| empties_files(&r.op));
    let mut busy = ran.iter().filter(|r| !idle(&r.op));
    let alone = busy.next().is_none() || busy.next().is_none();
    let mut old = seen.entries.iter().peekable();
    for line in &v.lines {
        let key = (line.mm, line.addr);
        while old.next_if(|o| **o < key).is_some() {}
        if old.peek() == Some(&&key) || !pte_present(line.pte) {
            continue;
        }
        let Some(area) = v.area(line).filter(|a| a.vma.ctx.is_some()) else { continue };
        let Some(was) = seen.registered.iter().find(|r| r.mm == line.mm && r.start <= line.addr && line.addr < r.end) else {
            continue;
        };
        if ran.iter().any(|r| r.filling.is_some_and(|(mm, start, end)| mm == line.mm && start <= line.addr && line.addr < end)) {
            continue; // the monitor's
        }
        let flags = area.vma.vm_flags & was.flags;
        let index = was.pgoff + (line.addr - was.start) / PAGE_SIZE;
        let had = was.inode.is_some_and(|i| seen.slots.binary_search(&(i, index as u32)).is_ok());
        if flags.contains(VM_UFFD_MINOR) && had && !emptied {
            out.push(Broken::new(
                &RULE,
                format!("{} {:#x} was mapped without a MINOR event: the file held page {index}", line.mm, line.addr),
            ));
        }
        // Somebody else may fill the hole of a file: then there is nothing missing any more.
        let filled_file = was.inode.is_some() && (!alone || ran.iter().any(|r| may_fill(r, was)));
        if flags.contains(VM_UFFD_MISSING) && !had && !filled_file {
            out.push(Broken::new(&RULE, format!("{} {:#x} was mapped without a MISSING event", line.mm, line.addr)));
        }
    }
}
