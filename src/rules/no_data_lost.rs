// SPDX-License-Identifier: GPL-2.0-only
//! Stored bytes stay.

use super::{Broken, Rule, When};
use crate::spec::{Kind, Mismatch};

pub(super) static RULE: Rule = Rule {
    name: "no-data-lost",
    promise: "What was stored last is what is read, through memory, swap and failed calls.",
    symptom: "memory corruption: stored bytes turn into zeroes or older bytes",
    when: When::Settled,
    finds: &["F18", "F19", "F20", "F22"],
};

/// What the reference memory says (see `crate::spec`), at every return and whenever the kernel has settled.
pub(super) fn check(found: &[Mismatch], out: &mut Vec<Broken>) {
    out.extend(found.iter().filter(|m| m.kind == Kind::Lost).map(|m| Broken::new(&RULE, m.detail.clone())));
}
