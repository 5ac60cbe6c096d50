// SPDX-License-Identifier: GPL-2.0-only
//! UFFDIO_CONTINUE can resolve what a minor fault reported.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "continue-finds-the-page",
    promise: "UFFDIO_CONTINUE maps any page that the file holds, in memory, in swap or fallocated, shared or private.",
    symptom: "the fault that was reported cannot be resolved: the guest hangs, or the VMM gives up",
    when: When::Answer,
    finds: &["F01", "F17", "F18", "F23", "F25"],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    if a.before.fill != Fill::Continue {
        return;
    }
    if let Some(p) = a.failed_page()
        && !p.excused()
    {
        let how = a.errno().map_or("stopped short".to_string(), |e| format!("answered {e}"));
        let page = if p.fallocated { "that page, fallocated and not written to" } else { "that page" };
        out.push(Broken::new(&RULE, format!("UFFDIO_CONTINUE {how} at {:#x}, but the file holds {page}", p.addr)));
    }
}
