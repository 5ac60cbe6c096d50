// SPDX-License-Identifier: GPL-2.0-only
//! Nothing that is there is filled again.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};
use crate::errno::EEXIST;

pub(super) static RULE: Rule = Rule {
    name: "eexist-exactly-when-populated",
    promise: "EEXIST comes exactly when the page-table entry is populated or (shared COPY, ZEROPAGE) the file holds the page.",
    symptom: "data that arrived meanwhile is overwritten; or a missing page cannot be filled",
    when: When::Answer,
    finds: &[],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    for p in a.filled().iter().filter(|p| p.pte || p.slot) {
        out.push(Broken::new(&RULE, format!("{} succeeded at {:#x}, which was populated", a.before.fill, p.addr)));
    }
    if let (Some(EEXIST), Some(p)) = (a.errno(), a.failed_page())
        && a.before.fill != Fill::Continue
        && a.before.source_sure
        && !(p.pte || p.slot)
    {
        out.push(Broken::new(&RULE, format!("{} answered EEXIST at {:#x}, which was empty", a.before.fill, p.addr)));
    }
}
