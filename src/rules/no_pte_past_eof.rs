// SPDX-License-Identifier: GPL-2.0-only
//! Truncation takes the mappings away, and nothing may bring them back.

use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::kernel::{PageMapping, State, max_off};
use crate::mm::pgtable::vm_normal_page;

pub(super) static RULE: Rule = Rule {
    name: "no-pte-past-eof",
    promise: "No page of a file is mapped past the last page of its size.",
    symptom: "an access past the end of the file succeeds instead of raising SIGBUS",
    when: When::Settled,
    finds: &["F23", "F24", "F28"],
};

// Private copies past the end may stay: an entry that was in swap when the file was truncated is skipped by the truncation
// (zap_pte_range with details, before v5.18) and may be read back in later.
pub(super) fn check(s: &State, v: &View, out: &mut Vec<Broken>) {
    for line in &v.lines {
        let Some(area) = v.area(line) else { continue };
        let (Some(inode), Some(id)) = (area.inode.and_then(|i| s.inodes.get(i)), vm_normal_page(line.pte)) else { continue };
        let index = area.index(line.addr);
        if index >= max_off(inode.i_size) && live_page(s, id).is_some_and(|p| !matches!(p.mapping, PageMapping::Anon(_))) {
            out.push(Broken::new(
                &RULE,
                format!("{} {:#x} maps page {index} of a file of {} bytes", line.mm, line.addr, inode.i_size),
            ));
        }
    }
}
