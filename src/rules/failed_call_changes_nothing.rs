// SPDX-License-Identifier: GPL-2.0-only
//! A call that failed has not happened.

use super::ioctl::Before;
use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "failed-call-changes-nothing",
    promise: "A COPY, ZEROPAGE or CONTINUE that did nothing leaves contents, mappings and accounting as they were.",
    symptom: "a second CONTINUE (EEXIST) destroys the page; free blocks shrink with every failure",
    when: When::Answer,
    finds: &["F18", "F19"],
};

pub(super) fn check(before: &Before, s: &State, v: &View, out: &mut Vec<Broken>) {
    for change in before.changes(s, v) {
        out.push(Broken::new(&RULE, change));
    }
}
