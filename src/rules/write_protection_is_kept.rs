// SPDX-License-Identifier: GPL-2.0-only
//! Who asked for write protection is asked.

use super::view::View;
use super::watch::{Ran, Seen};
use super::{Broken, Rule, When};
use crate::flags::*;
use crate::kernel::{MmId, PteVal, State, VmOps};
use crate::mm::pgtable::{pte_marker_uffd_wp, pte_uffd_wp, pte_write};
use crate::syscall::{Advice, Op};

pub(super) static RULE: Rule = Rule {
    name: "write-protection-is-kept",
    promise: "What userfaultfd write-protects stays so until the monitor takes that off, or the memory goes.",
    symptom: "a snapshot or a migration misses a store: the page was written to and nobody was told",
    when: When::Settled,
    finds: &[],
};

/// Does the entry let no store through without a WP event?
fn protects(pte: PteVal) -> bool {
    (pte_uffd_wp(pte) && !pte_write(pte)) || pte_marker_uffd_wp(pte)
}

/// The entries of `v` that do, in mappings whose faults are not resolved by themselves, sorted.
pub(super) fn look(s: &State, v: &View, out: &mut Vec<(MmId, u64)>) {
    let asked = |ctx| s.ctxs.get(ctx).is_some_and(|c| !c.features.contains(UFFD_FEATURE_WP_ASYNC));
    let lines = v.lines.iter().filter(|line| {
        protects(line.pte)
            && v.area(line).is_some_and(|area| area.vma.vm_flags.contains(VM_UFFD_WP) && area.vma.ctx.is_some_and(asked))
    });
    out.extend(lines.map(|line| (line.mm, line.addr)));
}

/// Operations that say for themselves what is protected afterwards, or change which memory there is.
fn takes_off(op: &Op) -> bool {
    matches!(
        op,
        Op::UffdWriteprotect { .. }
            | Op::UffdCopy { .. }
            | Op::UffdZeropage { .. }
            | Op::UffdContinue { .. }
            | Op::UffdMove { .. }
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::Close { .. }
            | Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Mremap { .. }
            | Op::Exit
            | Op::Kill { .. }
    )
}

/// Operations that take pages of a file away. What a fault brings back meanwhile goes with all that is known of it.
fn empties_files(op: &Op) -> bool {
    matches!(op, Op::Ftruncate { .. } | Op::Fallocate { .. } | Op::Madvise { advice: Advice::MADV_REMOVE, .. })
}

/// Operations that take anonymous memory away.
fn drops(op: &Op) -> bool {
    matches!(
        op,
        Op::Madvise { advice: Advice::MADV_DONTNEED | Advice::MADV_DONTNEED_LOCKED | Advice::MADV_GUARD_INSTALL, .. }
    )
}

pub(super) fn check(v: &View, seen: &Seen, ran: &[Ran], out: &mut Vec<Broken>) {
    if seen.protected.is_empty() || ran.iter().any(|r| takes_off(&r.op)) {
        return;
    }
    if ran.len() > 1 && ran.iter().any(|r| empties_files(&r.op)) {
        return;
    }
    let by = if ran.iter().any(|r| r.op == Op::Swapoff) { ", brought back by swapoff" } else { "" };
    let dropped = ran.iter().any(|r| drops(&r.op));
    for &(mm, addr) in &seen.protected {
        let Some(area) = v.area_at(mm, addr).filter(|a| a.vma.vm_flags.contains(VM_UFFD_WP)) else { continue };
        if dropped && area.vma.vm_ops == VmOps::None {
            continue;
        }
        let pte = v.pte_at(mm, addr);
        if !protects(pte) {
            out.push(Broken::new(&RULE, format!("{mm} {addr:#x} was write-protected and is not any more: {pte:?}{by}")));
        }
    }
}
