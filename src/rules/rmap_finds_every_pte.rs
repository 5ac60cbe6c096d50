// SPDX-License-Identifier: GPL-2.0-only
//! The reverse map, walked for every PTE.

use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::kernel::{PAGE_SIZE, PageMapping, State};
use crate::mm::pgtable::vm_normal_page;

pub(super) static RULE: Rule = Rule {
    name: "rmap-finds-every-pte",
    promise: "From a mapped page, the reverse map leads to every page-table entry that maps it.",
    symptom: "the page can never be unmapped: truncate loops or leaves it mapped, reclaim never frees it",
    when: When::Settled,
    finds: &["F19", "F27"],
};

pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        let (Some(id), Some(area)) = (vm_normal_page(line.pte), v.area(line)) else { continue };
        let Some(page) = live_page(s, id) else { continue };
        let why = match page.mapping {
            PageMapping::None => "page->mapping is NULL",
            PageMapping::Inode(i) => match s.inodes.get(i) {
                None => "its inode is gone",
                Some(inode) if !inode.i_mmap.contains(&area.id) => "i_mmap of its inode does not hold the VMA",
                Some(_) => "",
            },
            PageMapping::Anon(a) => match s.anon_vmas.get(a) {
                None => "its anon_vma is gone",
                Some(anon) if !anon.vmas.contains(&area.id) => "its anon_vma does not hold the VMA",
                Some(_) => "",
            },
        };
        // vma_address(), from the page's index.
        let found = page.index
            .checked_sub(area.vma.vm_pgoff)
            .map(|pages| area.vma.vm_start.wrapping_add(pages.wrapping_mul(PAGE_SIZE)));
        if !why.is_empty() {
            out.push(Broken::new(&RULE, format!("{} {:#x} maps {id}: {why}", line.mm, line.addr)));
        } else if found != Some(line.addr) {
            out.push(Broken::new(
                &RULE,
                format!("{} {:#x} maps {id}: its index {} leads elsewhere", line.mm, line.addr, page.index),
            ));
        }
    }
}
