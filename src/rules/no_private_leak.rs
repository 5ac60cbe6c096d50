// SPDX-License-Identifier: GPL-2.0-only
//! Private stores stay private.

use super::{Broken, Rule, When};
use crate::spec::{Kind, Mismatch};

pub(super) static RULE: Rule = Rule {
    name: "no-private-leak",
    promise: "A store through a private mapping reaches neither the file nor anybody else.",
    symptom: "copy on write is broken: a store shows up in the file",
    when: When::Settled,
    finds: &["F04", "F21"],
};

/// What the reference memory says (see `crate::spec`), at every return and whenever the kernel has settled.
pub(super) fn check(found: &[Mismatch], out: &mut Vec<Broken>) {
    out.extend(found.iter().filter(|m| m.kind == Kind::Leaked).map(|m| Broken::new(&RULE, m.detail.clone())));
}
