// SPDX-License-Identifier: GPL-2.0-only
//! Kernel objects after everybody has gone.

use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::{InodeKind, State};

pub(super) static RULE: Rule = Rule {
    name: "no-object-leaked",
    promise: "When every process has exited and every file is closed, no address space, VMA, context or unlinked inode is left.",
    symptom: "slab memory grows with each run (kmemleak)",
    when: When::Exit,
    finds: &[],
};

pub(super) fn check(s: &State, _: &View, out: &mut Vec<Broken>) {
    let left = [
        ("mm_struct", s.mms.len()),
        ("vm_area_struct", s.vmas.len()),
        ("page table", s.tables.len()),
        ("file", s.files.len()),
        ("anon_vma", s.anon_vmas.len()),
        ("userfaultfd_ctx", s.ctxs.len()),
        ("userfaultfd_wait_queue", s.uwqs.len()),
        ("unlinked inode", s.inodes.iter().filter(|(_, i)| i.kind == InodeKind::Shmem && i.i_nlink == 0).count()),
        ("held lock", s.held.len()),
    ];
    for (what, n) in left {
        if n > 0 {
            out.push(Broken::new(&RULE, format!("{n} x {what} left")));
        }
    }
}
