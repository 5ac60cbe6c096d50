// SPDX-License-Identifier: GPL-2.0-only
//! The page cache and swap never both hold the contents of a file page.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::PG_swapcache;
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "cached-or-swapped",
    promise: "A file page is in the page cache or in swap, never in both.",
    symptom: "old contents come back from swap after a store",
    when: When::Settled,
    finds: &["F01", "F02"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if !v.quiescent {
        return; // shmem_swapin_page and shmem_writepage pass through such a state
    }
    for (id, page, h) in used_pages(s, v) {
        if h.slots > 0 && (h.swap_cache > 0 || page.flags.contains(PG_swapcache)) {
            out.push(Broken::new(&RULE, format!("{id} is in the page cache and in the swap cache")));
        }
    }
}
