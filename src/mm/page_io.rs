// SPDX-License-Identifier: GPL-2.0-only
//! `mm/page_io.c`: reading and writing swap.
//!
//! The device is synchronous: I/O is over when the function returns. Another CPU may run between the start of an I/O and its end.

use crate::VM_BUG_ON;
use crate::errno::*;
use crate::event::{Event, Symptom};
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::unlock_page;
use crate::mm::page::*;
use crate::mm::swapfile::try_to_free_swap;
use crate::point::{Touch, point};

/// What a slot holds that nothing has been written to.
const UNWRITTEN: Cells = [Cell::new(0xaa).stale(); CELLS];

/// `end_page_writeback`: the I/O is over; reclaim need not wait for it any more.
///
/// Kernel:   mm/filemap.c:end_page_writeback @ v5.14
/// Fidelity: TRIMMED(rotation to the tail of the inactive list; waiters look again by themselves)
/// Locks:    none
/// Errors:   none
pub(crate) fn end_page_writeback(k: &Kernel, page: PageId) {
    let reclaim = k.page(page).flags.contains(PG_reclaim);
    if reclaim {
        k.page_mut(page).flags.remove(PG_reclaim);
        k.trace(|| Event::Flag { page, flag: PG_reclaim, set: false });
    }
    VM_BUG_ON!(k, !PageWriteback(k, page));
    ClearPageWriteback(k, page);
}

/// Write a page of the swap cache to its slot. The page comes back unlocked.
///
/// Kernel:   mm/page_io.c:swap_writepage, __swap_writepage, end_swap_bio_write @ v5.14
/// Fidelity: TRIMMED(frontswap, swap files, bios)
/// Locks:    page lock held on entry, dropped before the I/O
/// Errors:   none; a failed write leaves PG_error and PG_dirty behind
pub async fn swap_writepage(k: &Kernel, page: PageId) -> KResult {
    let _f = k.enter("swap_writepage", || format!("{page}"));
    // The last user of the slot may be gone meanwhile: then there is nothing to write it for.
    if try_to_free_swap(k, page) {
        unlock_page(k, page);
        return Ok(());
    }
    VM_BUG_ON!(k, !PageSwapCache(k, page));
    let Some(entry) = k.page(page).private else {
        unlock_page(k, page);
        return Ok(());
    };

    SetPageWriteback(k, page);
    unlock_page(k, page);

    // submit_bio .. end_swap_bio_write
    point(k, Touch::SwapIo(entry)).await;
    if k.should_fail("swap write") {
        SetPageError(k, page);
        // Reclaim must not drop the page: what is in memory is all there is. The error itself is told to nobody.
        set_page_dirty(k, page);
        let mut p = k.page_mut(page);
        p.flags.remove(PG_reclaim);
    } else {
        let cells = k.page(page).cells;
        if let Some(slot) = k.sm().swap.get_mut(entry.0 as usize) {
            slot.disk = Some(cells);
        }
    }
    end_page_writeback(k, page);
    Ok(())
}

/// Read a slot into a locked page. The page comes back unlocked, and Uptodate unless the read failed.
///
/// Kernel:   mm/page_io.c:swap_readpage, end_swap_bio_read @ v5.14
/// Fidelity: TRIMMED(frontswap, swap files, bios)
/// Locks:    page lock held on entry, dropped when the I/O is over
/// Errors:   none; a failed read leaves PG_error and the page not Uptodate
pub async fn swap_readpage(k: &Kernel, page: PageId) {
    let _f = k.enter("swap_readpage", || format!("{page}"));
    VM_BUG_ON!(k, !PageLocked(k, page));
    VM_BUG_ON!(k, PageUptodate(k, page));
    let Some(entry) = k.page(page).private else {
        k.report(Symptom::BadSwapCount, || format!("swap_readpage of {page}, which names no slot"));
        SetPageError(k, page);
        unlock_page(k, page);
        return;
    };

    point(k, Touch::SwapIo(entry)).await;
    if k.should_fail("swap read") {
        SetPageError(k, page);
        ClearPageUptodate(k, page);
    } else {
        let disk = k.s().swap.get(entry.0 as usize).and_then(|slot| slot.disk);
        k.page_mut(page).cells = disk.unwrap_or(UNWRITTEN);
        SetPageUptodate(k, page);
    }
    unlock_page(k, page);
}
