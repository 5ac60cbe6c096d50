// SPDX-License-Identifier: GPL-2.0-only
//! Who was resolved goes on.

use super::view::{View, asleep};
use super::watch::{Resolved, Seen};
use super::{Broken, Rule, When};
use crate::flags::UFFD_PAGEFAULT_FLAG_WP;
use crate::kernel::{State, UffdMsg, page_align_down};
use crate::mm::pgtable::{pte_none_mostly, pte_write};

pub(super) static RULE: Rule = Rule {
    name: "every-resolved-waiter-wakes",
    promise: "A task that waits for a page wakes when the monitor has filled it, unless it asked for no wake-up.",
    symptom: "a guest CPU hangs for ever although its page is there (lost wake-up)",
    when: When::Settled,
    finds: &[],
};

pub(super) fn check(s: &State, v: &View, seen: &Seen, resolved: &[Resolved], unmapped: bool, out: &mut Vec<Broken>) {
    if resolved.is_empty() {
        return;
    }
    for (id, uwq) in s.uwqs.iter() {
        let Some(UffdMsg::Pagefault { address, flags, .. }) = uwq.msg else { continue };
        let Some(mm) = s.ctxs.get(uwq.ctx).and_then(|c| c.mm) else { continue };
        let page = page_align_down(address);
        if uwq.waken || !asleep(s, uwq.task) || !resolved.iter().any(|r| r.ctx == uwq.ctx && r.start <= page && page < r.end) {
            continue;
        }
        // A waiter that is new may have come after the entry was taken away again.
        if unmapped && !seen.waiters.contains(&id) {
            continue;
        }
        let pte = v.pte_at(mm, page);
        let may_go_on = if flags.contains(UFFD_PAGEFAULT_FLAG_WP) { pte_write(pte) } else { !pte_none_mostly(pte) };
        if may_go_on {
            out.push(Broken::new(&RULE, format!("{} sleeps for {page:#x} of {mm}, which was filled: {pte:?}", uwq.task)));
        }
    }
}
