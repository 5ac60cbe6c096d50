// SPDX-License-Identifier: GPL-2.0-only
//! The page allocator: lowest free frame first, so that a freed frame is reused soon and a stale use is seen.

use crate::flags::*;
use crate::kernel::{CELLS, Cell, Kernel, Page, PageId, PageMapping};
use crate::mm::page::bad_page;
use crate::point::{Touch, point};

/// What a frame holds before anybody has used it.
const BOOT_CELLS: [Cell; CELLS] = [Cell::new(0xaa).stale(); CELLS];

/// Allocate one page: refcount 1, no flags, contents of the previous owner. None when memory is out or the call shall fail.
///
/// Kernel:   mm/page_alloc.c:alloc_pages @ v5.14
/// Fidelity: MODEL (no zones, no direct reclaim)
/// Locks:    none; may sleep
/// Errors:   None is -ENOMEM or VM_FAULT_OOM at the caller
pub async fn alloc_page(k: &Kernel, site: &'static str) -> Option<PageId> {
    point(k, Touch::Alloc).await;
    if k.should_fail(site) {
        return None;
    }
    let nr_frames = k.s().config.nr_frames as usize;
    let free = k.s().mem_map.iter().position(|p| p.refcount == 0);
    let pfn = match free {
        Some(pfn) => pfn,
        None if k.s().mem_map.len() < nr_frames => {
            k.sm().mem_map.push(Page {
                flags: PageFlags::empty(),
                refcount: 0,
                mapcount: 0,
                mapping: PageMapping::None,
                index: 0,
                private: None,
                cells: BOOT_CELLS,
                generation: 0,
            });
            k.s().mem_map.len() - 1
        }
        None => return None,
    };
    let mut s = k.sm();
    let p = &mut s.mem_map[pfn];
    p.refcount = 1;
    p.flags = PageFlags::empty();
    p.mapcount = 0;
    p.mapping = PageMapping::None;
    p.index = 0;
    p.private = None;
    let page = PageId { pfn: pfn as u16, generation: p.generation };
    drop(s);
    k.trace(|| crate::event::Event::Ref { page, delta: 1, now: 1 });
    Some(page)
}

/// `alloc_page` and fill with zeroes (`alloc_zeroed_user_highpage_movable`).
pub async fn alloc_zeroed_page(k: &Kernel, site: &'static str) -> Option<PageId> {
    let page = alloc_page(k, site).await?;
    k.page_mut(page).cells = crate::kernel::ZERO_CELLS;
    Some(page)
}

/// Give a frame back, after the checks that print "Bad page state".
///
/// Kernel:   mm/page_alloc.c:free_pages_prepare, check_free_page @ v5.14
/// Fidelity: TRIMMED(memcg, compound)
/// Locks:    none
/// Errors:   reports "Bad page state"
pub fn free_unref_page(k: &Kernel, page: PageId) {
    let Some(p) = k.s().mem_map.get(page.pfn as usize).copied() else { return };
    if p.mapcount != 0 {
        bad_page(k, page, "nonzero mapcount");
    }
    if matches!(p.mapping, PageMapping::Inode(_)) {
        bad_page(k, page, "non-NULL mapping");
    }
    let not_allowed = PG_lru | PG_locked | PG_writeback | PG_active | PG_unevictable | PG_mlocked | PG_swapcache;
    if p.flags.intersects(not_allowed) {
        bad_page(k, page, "PAGE_FLAGS_CHECK_AT_FREE flag(s) set");
    }
    let mut s = k.sm();
    let p = &mut s.mem_map[page.pfn as usize];
    p.refcount = 0;
    p.flags = PageFlags::empty();
    p.mapping = PageMapping::None;
    p.index = 0;
    p.private = None;
    p.generation = p.generation.wrapping_add(1);
    for c in &mut p.cells {
        *c = c.stale();
    }
}
