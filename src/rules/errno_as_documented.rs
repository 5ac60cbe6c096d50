// SPDX-License-Identifier: GPL-2.0-only
//! Every other errno, and stopping without one.

use super::ioctl::{Answer, Fill};
use super::{Broken, Rule, When};
use crate::errno::*;

pub(super) static RULE: Rule = Rule {
    name: "errno-as-documented",
    promise: "A filling ioctl that is well-formed fails only for a documented reason, with the errno of that reason.",
    symptom: "a monitor that looks at errno does the wrong thing",
    when: When::Answer,
    finds: &["F01", "F25"],
};

pub(super) fn check(a: &Answer<'_>, out: &mut Vec<Broken>) {
    let Some(p) = a.failed_page() else { return };
    let fill = a.before.fill;
    match a.errno() {
        Some(e) if fill == Fill::Continue => {
            let fits = match e {
                EFAULT => p.past_eof || p.hole,
                EINVAL => p.past_eof,
                EEXIST => p.pte,
                ENOMEM => p.no_frame,
                _ => false,
            };
            // A page without any excuse belongs to continue-finds-the-page.
            if p.excused() && !fits {
                out.push(Broken::new(&RULE, format!("{fill} answered {e} at {:#x}: {p}", p.addr)));
            }
        }
        Some(EFAULT | EEXIST | ENOMEM) => {}
        Some(e) => out.push(Broken::new(&RULE, format!("{fill} answered {e} at {:#x}: {p}", p.addr))),
        None if fill != Fill::Continue && !p.excused() && a.before.source_sure => {
            out.push(Broken::new(&RULE, format!("{fill} stopped at {:#x}, which could be filled", p.addr)));
        }
        None => {}
    }
}
