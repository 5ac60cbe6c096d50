// SPDX-License-Identifier: GPL-2.0-only
//! Frames are cleared or filled before anybody sees them.

use super::{Broken, Rule, When};
use crate::spec::{Kind, Mismatch};

pub(super) static RULE: Rule = Rule {
    name: "no-stale-bytes",
    promise: "No load, read or mapped page shows what the frame's previous owner left.",
    symptom: "another process's memory is disclosed",
    when: When::Settled,
    finds: &["F30"],
};

/// What the reference memory says (see `crate::spec`), at every return and whenever the kernel has settled.
pub(super) fn check(found: &[Mismatch], out: &mut Vec<Broken>) {
    out.extend(found.iter().filter(|m| m.kind == Kind::Stale).map(|m| Broken::new(&RULE, m.detail.clone())));
}
