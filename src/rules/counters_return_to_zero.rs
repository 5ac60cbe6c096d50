// SPDX-License-Identifier: GPL-2.0-only
//! Machine-wide counters after everybody has gone.

use super::commit_accounted::charged_to_files;
use super::view::View;
use super::{Broken, Rule, When};
use crate::kernel::State;

pub(super) static RULE: Rule = Rule {
    name: "counters-return-to-zero",
    promise: "When every process has exited and every file is closed, nothing is charged but for files that still have a name.",
    symptom: "df, Committed_AS and SwapFree do not come back to what they were",
    when: When::Exit,
    finds: &["F18"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    let files = charged_to_files(s);
    if s.vm_committed_as != files {
        out.push(Broken::new(&RULE, format!("vm_committed_as is {}, files account for {files}", s.vm_committed_as)));
    }
    for (id, sb) in s.sbs.iter() {
        let alloced: i64 = s.inodes.iter().filter(|(_, i)| i.i_sb == Some(id)).map(|(_, i)| i.info.alloced).sum();
        if sb.max_blocks > 0 && sb.used_blocks != alloced {
            out.push(Broken::new(&RULE, format!("{id}: used_blocks is {}, files account for {alloced}", sb.used_blocks)));
        }
    }
    for (n, (slot, users)) in s.swap.iter().zip(&v.users).enumerate() {
        if (slot.count != 0 || slot.has_cache) && users.slots == 0 {
            let only = if slot.count == 0 { ", only the swap cache holds it" } else { "" };
            out.push(Broken::new(&RULE, format!("swap slot {n} is still in use: count {:#x}{only}", slot.count)));
        }
    }
}
