// SPDX-License-Identifier: GPL-2.0-only
//! The resident counters against a recount of the page tables.

use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::flags::PG_swapbacked;
use crate::kernel::{MmCounter, PageMapping, PteVal, State};
use crate::mm::pgtable::vm_normal_page;

pub(super) static RULE: Rule = Rule {
    name: "rss-matches-ptes",
    promise: "An address space's resident counters are what its page tables hold, each page under its kind.",
    symptom: "RssFile, RssAnon, RssShmem of /proc/PID/status are wrong; BUG: Bad rss-counter state at exit",
    when: When::Settled,
    finds: &["F10", "F19"],
};

const NAMES: [&str; 4] = ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES"];

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    let mut lines = v.lines.iter().peekable();
    for (id, mm) in s.mms.iter() {
        let mut count = [0i32; 4];
        while let Some(line) = lines.next_if(|l| l.mm == id) {
            let kind = match line.pte {
                PteVal::None | PteVal::Marker(_) => continue,
                PteVal::Swap { .. } => MmCounter::MM_SWAPENTS,
                PteVal::Present { .. } => match vm_normal_page(line.pte).and_then(|p| live_page(s, p)) {
                    None => continue,
                    Some(p) if matches!(p.mapping, PageMapping::Anon(_)) => MmCounter::MM_ANONPAGES,
                    Some(p) if p.flags.contains(PG_swapbacked) => MmCounter::MM_SHMEMPAGES,
                    Some(_) => MmCounter::MM_FILEPAGES,
                },
            };
            count[kind as usize] += 1;
        }
        for i in 0..4 {
            if mm.rss_stat[i] != count[i] {
                out.push(Broken::new(
                    &RULE,
                    format!("{id}: {} is {}, the page tables hold {}", NAMES[i], mm.rss_stat[i], count[i]),
                ));
            }
        }
    }
}
