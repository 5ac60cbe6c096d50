// SPDX-License-Identifier: GPL-2.0-only
//! `page->mapping` and `page->index` of pages in the page cache.

use super::view::{View, live_page, used_pages};
use super::{Broken, Rule, When};
use crate::kernel::{PageMapping, SlotVal, State};

pub(super) static RULE: Rule = Rule {
    name: "cached-page-knows-its-place",
    promise: "A page in the page cache names its file and its index, and is there only once.",
    symptom: "truncate and reclaim miss the page; another file's pages are freed instead",
    when: When::Settled,
    finds: &["F19"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for (id, inode) in s.inodes.iter() {
        for (index, slot) in inode.i_pages.iter() {
            let SlotVal::Page(page) = slot else { continue };
            match live_page(s, page) {
                None => out.push(Broken::new(&RULE, format!("{id} page {index}: {page} was freed"))),
                Some(p) if p.mapping != PageMapping::Inode(id) || p.index != index as u64 => {
                    out.push(Broken::new(&RULE, format!("{id} page {index}: {page} says {:?} index {}", p.mapping, p.index)));
                }
                Some(_) => {}
            }
        }
    }
    for (id, page, h) in used_pages(s, v) {
        if h.slots > 1 {
            out.push(Broken::new(&RULE, format!("{id} is in {} slots of the page cache", h.slots)));
        }
        if h.slots == 0 && matches!(page.mapping, PageMapping::Inode(_)) {
            out.push(Broken::new(&RULE, format!("{id} says {:?}, which does not hold it", page.mapping)));
        }
    }
}
