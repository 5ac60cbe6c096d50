// SPDX-License-Identifier: GPL-2.0-only
//! References of userfaultfd contexts and address spaces.

use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::{FileKind, State};

pub(super) static RULE: Rule = Rule {
    name: "uffd-references-counted",
    promise: "A userfaultfd lives as long as its file and its waiters, an address space as long as its users and contexts.",
    symptom: "use after free when the last of them goes; or memory that stays after exit",
    when: When::Settled,
    finds: &[],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if !v.quiescent {
        return;
    }
    for (id, ctx) in s.ctxs.iter() {
        let files = s.files.iter().filter(|(_, f)| f.kind == FileKind::Userfaultfd(id)).count();
        let waiters = s.uwqs.iter().filter(|(_, u)| u.ctx == id).count();
        if ctx.refcount as usize != files + waiters {
            out.push(Broken::new(&RULE, format!("{id}: refcount {}, but {files} files and {waiters} waiters", ctx.refcount)));
        }
    }
    for (id, mm) in s.mms.iter() {
        let least = (mm.mm_users > 0) as usize + s.ctxs.iter().filter(|(_, c)| c.mm == Some(id)).count();
        // An open /proc/PID/mem may hold one more.
        let most = least + s.files.iter().filter(|(_, f)| f.kind == FileKind::ProcMem(id)).count();
        if !(least as i32..=most as i32).contains(&mm.mm_count) {
            out.push(Broken::new(&RULE, format!("{id}: mm_count {}, but {least} hold it", mm.mm_count)));
        }
    }
}
