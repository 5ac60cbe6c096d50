// SPDX-License-Identifier: GPL-2.0-only
//! A file page that is mapped is the one that the page cache holds.

use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::kernel::{PageMapping, SlotVal, State};
use crate::mm::pgtable::vm_normal_page;

pub(super) static RULE: Rule = Rule {
    name: "mapped-page-is-cached",
    promise: "A file page that is mapped is the page that the page cache holds at that index.",
    symptom: "two mappings of one file page see different bytes; BUG: Bad page cache",
    when: When::Settled,
    finds: &["F19"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        let (Some(id), Some(area)) = (vm_normal_page(line.pte), v.area(line)) else { continue };
        let Some(inode) = area.inode else { continue };
        if live_page(s, id).is_none_or(|p| matches!(p.mapping, PageMapping::Anon(_))) {
            continue;
        }
        let index = area.index(line.addr);
        let slot = s.inodes.get(inode).and_then(|i| i.i_pages.get(index as u32));
        if slot != Some(SlotVal::Page(id)) {
            let holds = match slot {
                None => "nothing".to_string(),
                Some(SlotVal::Page(p)) => p.to_string(),
                Some(SlotVal::Swap(e)) => format!("swap slot {}", e.0),
            };
            out.push(Broken::new(
                &RULE,
                format!("{} {:#x} maps {id}, but {inode} holds {holds} at page {index}", line.mm, line.addr),
            ));
        }
    }
}
