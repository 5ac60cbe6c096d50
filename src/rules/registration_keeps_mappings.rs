// SPDX-License-Identifier: GPL-2.0-only
//! What an address shows does not depend on who watches it.

use super::view::shmem_inode;
use super::{Broken, Rule, When};
use crate::kernel::*;
use crate::spec::Subject;
use crate::syscall::Op;

pub(super) static RULE: Rule = Rule {
    name: "registration-keeps-mappings",
    promise: "UFFDIO_REGISTER and UNREGISTER leave every address mapped to the page of the file that it was mapped to.",
    symptom: "after unregistering, a mapping shows other pages of its file; reclaim and truncate miss its entries",
    when: When::Answer,
    finds: &[],
};

/// A piece of an address space, and which page of which file its first address shows.
type Piece = (u64, u64, Option<InodeId>, u64);

/// What was mapped where, before a registration changed; nothing before any other operation.
#[derive(Clone, Default, Debug)]
pub(super) struct Mapped {
    mm: Option<MmId>,
    pieces: Vec<Piece>,
}

impl Mapped {
    pub fn of(s: &State, subject: Subject, op: &Op) -> Mapped {
        match (op, subject) {
            (Op::UffdRegister { .. } | Op::UffdUnregister { .. }, Subject::Uffd(_, Some(mm))) => {
                Mapped { mm: Some(mm), pieces: pieces(s, mm) }
            }
            _ => Mapped::default(),
        }
    }
}

fn pieces(s: &State, mm: MmId) -> Vec<Piece> {
    let vmas = s.mms.get(mm).into_iter().flat_map(|m| &m.mmap).filter_map(|&v| s.vmas.get(v));
    vmas.map(|v| (v.vm_start, v.vm_end, shmem_inode(s, v), v.vm_pgoff)).collect()
}

pub(super) fn check(was: &Mapped, s: &State, out: &mut Vec<Broken>) {
    let Some(mm) = was.mm.filter(|mm| s.mms.get(*mm).is_some()) else { return };
    let is = pieces(s, mm);
    for &(start, end, inode, pgoff) in &was.pieces {
        for &(s, e, i, p) in is.iter().filter(|n| n.0 < end && start < n.1) {
            let addr = start.max(s);
            let (before, now) = (pgoff + (addr - start) / PAGE_SIZE, p + (addr - s) / PAGE_SIZE);
            if (inode, before) != (i, now) {
                let what = format!("{mm} {addr:#x}-{:#x} showed page {before} and shows page {now}", end.min(e));
                out.push(Broken::new(&RULE, what));
            }
        }
    }
}
