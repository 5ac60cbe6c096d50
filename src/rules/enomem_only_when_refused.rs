// SPDX-License-Identifier: GPL-2.0-only
//! ENOMEM has a reason.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};
use crate::errno::ENOMEM;

pub(super) static RULE: Rule = Rule {
    name: "enomem-only-when-refused",
    promise: "COPY and ZEROPAGE answer ENOMEM exactly when a limit or the allocator refuses the page.",
    symptom: "a tmpfs takes more than its size; or filling fails although there is room",
    when: When::Answer,
    finds: &["F18"],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    if a.before.fill == Fill::Continue || !a.before.source_sure {
        return;
    }
    for p in a.filled().iter().filter(|p| p.refused) {
        out.push(Broken::new(&RULE, format!("{} succeeded at {:#x}, past the limit", a.before.fill, p.addr)));
    }
    if let (Some(ENOMEM), Some(p)) = (a.errno(), a.failed_page())
        && !(p.refused || p.no_frame)
    {
        out.push(Broken::new(&RULE, format!("{} answered ENOMEM at {:#x}, but nothing is short", a.before.fill, p.addr)));
    }
}
