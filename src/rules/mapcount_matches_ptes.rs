// SPDX-License-Identifier: GPL-2.0-only
//! `page->_mapcount` against a recount of the page tables.

use super::view::{View, live_page, used_pages};
use super::{Broken, Rule, When};
use crate::kernel::State;
use crate::mm::pgtable::vm_normal_page;

pub(super) static RULE: Rule = Rule {
    name: "mapcount-matches-ptes",
    promise: "A page's mapcount is the number of page-table entries that map it, and no entry maps a free page.",
    symptom: "reclaim skips the page or frees it while mapped; BUG: Bad page state (nonzero mapcount)",
    when: When::Settled,
    finds: &["F19", "F30"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        if let Some(page) = vm_normal_page(line.pte)
            && live_page(s, page).is_none()
        {
            out.push(Broken::new(&RULE, format!("{} {:#x} maps {page}, which was freed", line.mm, line.addr)));
        }
    }
    for (id, page, holders) in used_pages(s, v) {
        if page.mapcount as i32 != holders.ptes as i32 {
            out.push(Broken::new(&RULE, format!("{id}: mapcount {}, but {} PTEs map it", page.mapcount, holders.ptes)));
        }
    }
}
