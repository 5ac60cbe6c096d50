// SPDX-License-Identifier: GPL-2.0-only
//! UFFDIO_CONTINUE makes no pages.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "continue-invents-nothing",
    promise: "UFFDIO_CONTINUE maps what the file holds; a hole is EFAULT, not a new page.",
    symptom: "a hole that was punched between the fault and its resolution comes back as a zero page",
    when: When::Answer,
    finds: &["F08"],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    if a.before.fill != Fill::Continue {
        return;
    }
    for p in a.filled().iter().filter(|p| p.hole && !p.past_eof) {
        out.push(Broken::new(&RULE, format!("UFFDIO_CONTINUE succeeded at {:#x}, where the file has a hole", p.addr)));
    }
}
