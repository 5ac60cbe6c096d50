// SPDX-License-Identifier: GPL-2.0-only
//! Blocks of a file and of a mount.

use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::{InodeKind, SlotVal, State};

pub(super) static RULE: Rule = Rule {
    name: "blocks-accounted",
    promise: "A file is charged for the pages it holds in memory and swap, and a mount for those of its files.",
    symptom: "df shows a full tmpfs without files; ENOSPC or SIGBUS although there is room; st_blocks is wrong",
    when: When::Settled,
    finds: &["F18", "F19"],
};

pub(super) fn check(s: &State, _: &View, out: &mut Vec<Broken>) {
    for (id, inode) in s.inodes.iter() {
        if inode.kind != InodeKind::Shmem {
            continue;
        }
        let swapped = inode.i_pages.iter().filter(|(_, v)| matches!(v, SlotVal::Swap(_))).count() as i64;
        let pages = inode.i_pages.len() as i64 - swapped;
        let info = &inode.info;
        if inode.nrpages != pages || info.swapped != swapped {
            out.push(Broken::new(
                &RULE,
                format!("{id}: nrpages {} and swapped {}, the cache holds {pages} and {swapped}", inode.nrpages, info.swapped),
            ));
        }
        // More is legal: the next shmem_recalc_inode() gives back what reclaim dropped without telling shmem.
        if info.alloced < pages + swapped {
            out.push(Broken::new(
                &RULE,
                format!("{id}: alloced {}, but it holds {pages} pages + {swapped} swapped", info.alloced),
            ));
        }
        if inode.i_blocks != 8 * info.alloced {
            out.push(Broken::new(&RULE, format!("{id}: i_blocks {}, alloced {} pages", inode.i_blocks, info.alloced)));
        }
    }
    for (id, sb) in s.sbs.iter() {
        let alloced: i64 = s.inodes.iter().filter(|(_, i)| i.i_sb == Some(id)).map(|(_, i)| i.info.alloced).sum();
        let due = if sb.max_blocks == 0 { 0 } else { alloced };
        if sb.used_blocks != due {
            out.push(Broken::new(&RULE, format!("{id}: used_blocks {}, its files are charged for {due}", sb.used_blocks)));
        }
    }
}
