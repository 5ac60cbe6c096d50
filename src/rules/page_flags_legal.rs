// SPDX-License-Identifier: GPL-2.0-only
//! Page flags that fit the page's kind.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::*;
use crate::kernel::{PageMapping, State};

pub(super) static RULE: Rule = Rule {
    name: "page-flags-legal",
    promise: "A page's flags fit what it is: anonymous and shmem pages are swap-backed, an exclusive one has one user, a free page none.",
    symptom: "the page is counted as a file page, sits on the wrong LRU list, is never written out",
    when: When::Settled,
    finds: &["F30"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for (pfn, page) in s.mem_map.iter().enumerate() {
        let dirty_remains =
            page.refcount == 0 && (!page.flags.is_empty() || page.mapping != PageMapping::None || page.mapcount != 0);
        if dirty_remains || page.refcount < 0 {
            out.push(Broken::new(
                &RULE,
                format!(
                    "free page{pfn}: refcount {} mapcount {} {:?} {:?}",
                    page.refcount, page.mapcount, page.mapping, page.flags
                ),
            ));
        }
    }
    for (id, page, h) in used_pages(s, v) {
        let flags = page.flags;
        let anon = matches!(page.mapping, PageMapping::Anon(_));
        if (anon || h.slots > 0 || flags.contains(PG_swapcache)) && !flags.contains(PG_swapbacked) {
            out.push(Broken::new(&RULE, format!("{id} is not PG_swapbacked: {flags:?}")));
        }
        if flags.contains(PG_active | PG_unevictable) {
            out.push(Broken::new(&RULE, format!("{id} is PG_active and PG_unevictable")));
        }
        if anon && !flags.contains(PG_uptodate) && h.ptes > 0 {
            out.push(Broken::new(&RULE, format!("{id} is anonymous and mapped but not PG_uptodate")));
        }
        if flags.contains(PG_anon_exclusive) && (!anon || h.ptes > 1) {
            out.push(Broken::new(&RULE, format!("{id} is PG_anon_exclusive and mapped by {} entries: {:?}", h.ptes, page.mapping)));
        }
        if flags.contains(PG_swapcache) != page.private.is_some() {
            out.push(Broken::new(&RULE, format!("{id}: private {:?}, {flags:?}", page.private)));
        }
    }
}
