// SPDX-License-Identifier: GPL-2.0-only
//! Page tables against the VMA list.

use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "pte-inside-vma",
    promise: "Every page-table entry lies inside a VMA.",
    symptom: "memory stays allocated after munmap; BUG: Bad rss-counter state at exit",
    when: When::Settled,
    finds: &[],
};

pub(super) fn check(_: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        if v.area(line).is_none() {
            out.push(Broken::new(&RULE, format!("{} {:#x}: {:?} outside every VMA", line.mm, line.addr, line.pte)));
        }
    }
}
