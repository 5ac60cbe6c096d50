// SPDX-License-Identifier: GPL-2.0-only
//! Committed_AS.

use super::view::View;
use super::{Broken, Rule, When};
use crate::flags::VM_NORESERVE;
use crate::kernel::{InodeKind, State, max_off};

pub(super) static RULE: Rule = Rule {
    name: "commit-accounted",
    promise: "vm_committed_as is what files and private mappings are charged for.",
    symptom: "Committed_AS of /proc/meminfo grows for ever; with strict overcommit, ENOMEM",
    when: When::Settled,
    finds: &["F18"],
};

/// What all files are charged for: page by page, or (SysV shm, shared anonymous memory) their size at once.
pub(super) fn charged_to_files(s: &State) -> i64 {
    let charge = |i: &crate::kernel::Inode| {
        if i.kind != InodeKind::Shmem {
            0
        } else if i.info.flags.contains(VM_NORESERVE) {
            i.info.alloced
        } else {
            max_off(i.i_size) as i64
        }
    };
    s.inodes.iter().map(|(_, i)| charge(i)).sum()
}

pub(super) fn check(s: &State, _: &View, out: &mut Vec<Broken>) {
    let files = charged_to_files(s);
    let mappings: i64 = s.mms.iter().map(|(_, m)| m.total_charged).sum();
    if s.vm_committed_as != files + mappings {
        out.push(Broken::new(
            &RULE,
            format!("vm_committed_as {}, but files are charged {files} and mappings {mappings}", s.vm_committed_as),
        ));
    }
}
