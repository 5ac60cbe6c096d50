// SPDX-License-Identifier: GPL-2.0-only
//! `page->_refcount` against all who hold one.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "references-accounted",
    promise: "When no system call is under way, every reference of a page belongs to a page table, a cache or the LRU batch.",
    symptom: "memory leaks (MemFree falls with every fault), or is freed while in use",
    when: When::Settled,
    finds: &["F31", "F19", "F30"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if !v.quiescent {
        return; // a sleeping system call may hold references
    }
    for (id, page, h) in used_pages(s, v) {
        let held = h.ptes + h.slots + h.swap_cache + h.lru_pvec;
        if page.refcount as i32 != held as i32 {
            out.push(Broken::new(
                &RULE,
                format!(
                    "{id}: refcount {}, but {} PTEs + {} page cache + {} swap cache + {} LRU batch",
                    page.refcount, h.ptes, h.slots, h.swap_cache, h.lru_pvec
                ),
            ));
        }
    }
}
