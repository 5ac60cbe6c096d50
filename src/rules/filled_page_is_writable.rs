// SPDX-License-Identifier: GPL-2.0-only
//! One fault is enough.

use super::ioctl::{Answer, Before, Fill};
use super::view::{View, live_page};
use super::{Broken, Rule, When};
use crate::flags::*;
use crate::kernel::{PageMapping, State};
use crate::mm::pgtable::{pte_present, pte_write, vm_normal_page};
use crate::spec::visible::vma_at;

pub(super) static RULE: Rule = Rule {
    name: "filled-page-is-writable",
    promise: "A page filled in a writable mapping can be written at once, unless it is to be copied or watched first.",
    symptom: "the first store to every filled page takes one more fault (min_flt)",
    when: When::Answer,
    finds: &[],
};

pub(super) fn check(before: &Before, a: &Answer<'_>, s: &State, v: &View, out: &mut Vec<Broken>) {
    if before.write_protect {
        return;
    }
    for p in a.filled() {
        let Some(vma) = vma_at(s, before.mm, p.addr).filter(|v| v.vm_flags.contains(VM_WRITE)) else { continue };
        let pte = v.pte_at(before.mm, p.addr);
        let Some(page) = vm_normal_page(pte).and_then(|id| live_page(s, id)) else { continue };
        let own = vma.vm_flags.contains(VM_SHARED) || matches!(page.mapping, PageMapping::Anon(_));
        // Only what this call has just made; the source of a COPY may have been faulted in for reading meanwhile.
        let made = before.fill == Fill::Continue || before.source_sure;
        if own && made && pte_present(pte) && !pte_write(pte) {
            out.push(Broken::new(&RULE, format!("{} left {:#x} write-protected in a writable mapping", before.fill, p.addr)));
        }
    }
}
