// SPDX-License-Identifier: GPL-2.0-only
//! swap_map against all who name a slot, and the swap cache against its pages.

use super::view::{View, live_page, used_pages};
use super::{Broken, Rule, When};
use crate::flags::PG_swapcache;
use crate::kernel::{SWAP_MAP_SHMEM, State, SwpEntry};

pub(super) static RULE: Rule = Rule {
    name: "swap-counts-match",
    promise: "A swap slot's count is the number of page-table entries that name it, or the mark of one page-cache slot.",
    symptom: "swap space leaks, or a slot is reused while somebody still reads it; swap_free: Bad swap file entry",
    when: When::Settled,
    finds: &["F02"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    if let Some(e) = v.lost_entry {
        out.push(Broken::new(&RULE, format!("swap slot {} is named but does not exist", e.0)));
    }
    for (n, (slot, users)) in s.swap.iter().zip(&v.users).enumerate() {
        let wanted = match (users.ptes, users.slots) {
            (ptes, 0) => Some(ptes),
            (0, 1) => Some(SWAP_MAP_SHMEM),
            _ => None,
        };
        if wanted != Some(slot.count) {
            out.push(Broken::new(
                &RULE,
                format!(
                    "swap slot {n}: count {:#x}, but {} PTEs and {} page-cache slots name it",
                    slot.count, users.ptes, users.slots
                ),
            ));
        }
        if slot.has_cache != slot.cache.is_some() {
            // Claimed by a reader that has not put its page in yet: only while it runs.
            if v.quiescent {
                out.push(Broken::new(&RULE, format!("swap slot {n}: has_cache {}, page {:?}", slot.has_cache, slot.cache)));
            }
        }
        if let Some(id) = slot.cache {
            let fits = live_page(s, id).is_some_and(|p| p.flags.contains(PG_swapcache) && p.private == Some(SwpEntry(n as u16)));
            if !fits {
                out.push(Broken::new(&RULE, format!("swap slot {n}: {id} in its swap cache does not know it")));
            }
        }
    }
    for (id, page, h) in used_pages(s, v) {
        if page.flags.contains(PG_swapcache) && h.swap_cache != 1 {
            out.push(Broken::new(&RULE, format!("{id} has PG_swapcache, but is in {} slots of the swap cache", h.swap_cache)));
        }
    }
}
