// SPDX-License-Identifier: GPL-2.0-only
//! Stores through a private mapping must fault, or they reach the file.

use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::kernel::{PageMapping, State};
use crate::mm::pgtable::{pte_write, vm_normal_page};

pub(super) static RULE: Rule = Rule {
    name: "no-writable-private-pagecache-pte",
    promise: "A page of the page cache is never mapped writable where the mapping is private.",
    symptom: "a store through MAP_PRIVATE shows up in the file and in other processes",
    when: When::Settled,
    finds: &["F04", "F21"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        if !pte_write(line.pte) {
            continue;
        }
        let (Some(id), Some(area)) = (vm_normal_page(line.pte), v.area(line)) else { continue };
        if !area.shared() && live_page(s, id).is_some_and(|p| matches!(p.mapping, PageMapping::Inode(_))) {
            out.push(Broken::new(&RULE, format!("{} {:#x} maps {id} of the page cache writable", line.mm, line.addr)));
        }
    }
}
