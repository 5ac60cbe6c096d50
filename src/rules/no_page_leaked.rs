// SPDX-License-Identifier: GPL-2.0-only
//! Memory after everybody has gone.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::PG_locked;
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "no-page-leaked",
    promise: "When every process has exited and every file is closed, all pages are free but those of files with a name.",
    symptom: "MemFree falls with each run and never comes back",
    when: When::Exit,
    finds: &["F31"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for (id, page, h) in used_pages(s, v) {
        // The LRU batch may hold the last reference until it is drained.
        let batch_only = h.lru_pvec > 0 && page.refcount as u16 == h.lru_pvec;
        let of_a_file = h.slots > 0 || (h.swap_cache > 0 && page.private.is_some_and(|e| v.users[e.0 as usize].slots > 0));
        if !batch_only && !of_a_file {
            let idle = h.swap_cache > 0
                && page.refcount as u16 == h.swap_cache + h.lru_pvec
                && !page.flags.contains(PG_locked)
                && page.private.is_some_and(|e| s.swap.get(e.0 as usize).is_some_and(|slot| slot.count == 0));
            let only = if idle { ", only the swap cache holds it" } else { "" };
            out.push(Broken::new(&RULE, format!("{id} is still in use: refcount {}{only}", page.refcount)));
        }
    }
}
