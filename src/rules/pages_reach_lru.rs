// SPDX-License-Identifier: GPL-2.0-only
//! Reclaim must be able to find every page.

use super::view::{View, used_pages};
use super::{Broken, Rule, When};
use crate::flags::PG_lru;
use crate::kernel::{PageMapping, State};

pub(super) static RULE: Rule = Rule {
    name: "pages-reach-lru",
    promise: "Every page of a file or of a process is on an LRU list or on its way there, once.",
    symptom: "memory that reclaim never sees; or a corrupted list",
    when: When::Settled,
    finds: &[],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if !v.quiescent {
        return; // isolated by a reclaim that is under way
    }
    for (id, page, h) in used_pages(s, v) {
        let lru = page.flags.contains(PG_lru);
        let owned = h.slots > 0 || h.swap_cache > 0 || (h.ptes > 0 && matches!(page.mapping, PageMapping::Anon(_)));
        if owned && !lru && h.lru_pvec == 0 {
            out.push(Broken::new(&RULE, format!("{id} is on no LRU list and not in the batch")));
        } else if lru as u16 + h.lru_pvec > 1 {
            out.push(Broken::new(&RULE, format!("{id}: PG_lru {lru}, {} times in the batch", h.lru_pvec)));
        }
    }
}
