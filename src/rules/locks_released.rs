// SPDX-License-Identifier: GPL-2.0-only
//! Back in user mode, no lock is held.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::PG_locked;
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "locks-released",
    promise: "A lock is released by who took it, before the system call returns.",
    symptom: "BUG: bad unlock balance; lock held when returning to user space; later, tasks hang",
    when: When::Settled,
    finds: &["F09", "F30"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if !v.quiescent {
        return;
    }
    for held in &s.held {
        out.push(Broken::new(&RULE, format!("{} still holds {:?}", held.task, held.lock)));
    }
    for (id, page, _) in used_pages(s, v) {
        if page.flags.contains(PG_locked) {
            out.push(Broken::new(&RULE, format!("{id} is still locked")));
        }
    }
}
