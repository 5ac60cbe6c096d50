// SPDX-License-Identifier: GPL-2.0-only
//! What keeps a page's contents alive at reclaim.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::*;
use crate::kernel::{PageMapping, State};

pub(super) static RULE: Rule = Rule {
    name: "written-page-is-dirty",
    promise: "A page that holds data is marked so, in its flags or in a page-table entry, unless swap holds a copy.",
    symptom: "memory pressure turns data into zeroes",
    when: When::Settled,
    finds: &["F05", "F20", "F22", "F26"],
};

// A page that is all zeroes may be dropped: reading it again gives zeroes.
pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for (id, page, h) in used_pages(s, v) {
        let anon = h.ptes > 0 && matches!(page.mapping, PageMapping::Anon(_));
        if (h.slots == 0 && !anon)
            || page.flags.contains(PG_dirty)
            || h.dirty_pte
            || !page.flags.contains(PG_uptodate)
            || (anon && page.flags.contains(PG_swapcache))
        {
            continue;
        }
        if page.cells.iter().any(|c| c.byte() != 0) {
            let what = if anon { "anonymous" } else { "cached" };
            out.push(Broken::new(&RULE, format!("{what} {id} holds {:?}, but neither PG_dirty nor a dirty PTE", page.cells)));
        }
    }
}
