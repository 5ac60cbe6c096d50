// SPDX-License-Identifier: GPL-2.0-only
//! The end of the file bounds what can be filled.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};
use crate::errno::EFAULT;

pub(super) static RULE: Rule = Rule {
    name: "efault-exactly-past-eof",
    promise: "Filling a page past the end of a file fails; COPY and ZEROPAGE answer EFAULT only for that or their source.",
    symptom: "memory appears past the end of a file; or anonymous memory cannot be filled",
    when: When::Answer,
    finds: &["F23", "F24", "F27", "F28"],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    for p in a.filled().iter().filter(|p| p.past_eof) {
        out.push(Broken::new(&RULE, format!("{} succeeded at {:#x}, past the end of the file", a.before.fill, p.addr)));
    }
    if let (Some(EFAULT), Some(p)) = (a.errno(), a.failed_page())
        && a.before.fill != Fill::Continue
        && !p.past_eof
        && a.before.source_sure
    {
        out.push(Broken::new(&RULE, format!("{} answered EFAULT at {:#x}, which is not past an end", a.before.fill, p.addr)));
    }
}
