// SPDX-License-Identifier: GPL-2.0-only
//! `copy_from_user` and its family: the kernel reads and writes user memory by address.
//!
//! Only the watched bytes of a page are carried ([`CELL_AT`]). When source and destination are not aligned alike, a watched
//! byte of the destination may come from a byte that is not watched; it then gets the value of the nearest watched byte
//! before it in the same page, as if each watched byte filled the page up to the next one.
//!
//! The program's own buffers are addresses too: from [`FILL_BASE`] on, 16 MiB for each byte value, always resident, every
//! byte the same. What is written there vanishes. No scenario maps memory there.

use crate::VM_BUG_ON;
use crate::delta::Delta;
use crate::errno::*;
use crate::kernel::*;
use crate::mm::fault::{hardware_access, kernel_mode_fault, read_frame, write_frame};
use crate::point::{Touch, point, spin};
use crate::syscall::UserBuf;

/// Where the program's own buffers lie.
pub const FILL_BASE: u64 = 0x7000_0000_0000;
/// log2 of the size of one of them.
const FILL_SHIFT: u32 = 24;

/// The address of a buffer.
pub fn user_addr(buf: UserBuf) -> u64 {
    match buf {
        UserBuf::Addr(addr) => addr,
        UserBuf::Fill(byte) => FILL_BASE + ((byte as u64) << FILL_SHIFT),
    }
}

/// The byte that fills the program's own buffer at this address.
fn fill_at(addr: u64) -> Option<Cell> {
    let nr = addr.checked_sub(FILL_BASE)? >> FILL_SHIFT;
    u8::try_from(nr).ok().map(Cell::new)
}

/// The watched byte that stands for an offset of a page: the nearest one at or before it.
pub(crate) fn cell_before(offset_in_page: u64) -> usize {
    CELL_AT.iter().rposition(|&at| at <= offset_in_page).unwrap_or(0)
}

/// `access_ok`: the range lies in user space.
pub(crate) fn access_ok(addr: u64, size: u64) -> bool {
    size <= TASK_SIZE && addr <= TASK_SIZE - size
}

/// Reach a user page from the kernel, through the page tables. None: the copy ends here.
async fn reach(k: &Kernel, addr: u64, write: bool) -> Option<PageId> {
    let mm = k.current_mm()?;
    point(k, Touch::UserCopy(mm, page_align_down(addr))).await;
    let mut tries = 0;
    loop {
        if let Some(page) = hardware_access(k, mm, addr, write).await {
            return Some(page);
        }
        if !Box::pin(kernel_mode_fault(k, addr, write)).await {
            return None;
        }
        tries += 1;
        if tries > 8 {
            spin(k, "user copy").await;
        }
    }
}

/// Bytes up to the end of the page, and no more than `n`.
fn in_page(addr: u64, n: u64) -> u64 {
    n.min(PAGE_SIZE - (addr & (PAGE_SIZE - 1)))
}

/// Copy `n` bytes from user address `from` into `to` at `to_offset`. Returns how many were not copied. What would lie behind the end
/// of `to` goes to its beginning: only a buffer that is kept in step with the memory it is for goes around like that.
///
/// Kernel:   lib/usercopy.c:_copy_from_user, arch/x86/lib/copy_user_64.S @ v5.14
/// Fidelity: MODEL (watched bytes; one step per source page. The tail that could not be copied is left alone, which is right
///           for the callers that copy into the page cache, and the others drop the page)
/// Locks:    none that a fault would need, unless page faults are disabled; may sleep
/// Errors:   the count is non-zero where the source is not readable
pub async fn copy_from_user(k: &Kernel, to: PageId, to_offset: u64, from: u64, n: u64) -> u64 {
    let _f = k.enter("copy_from_user", || format!("{to}+{to_offset} from={from:#x} n={n}"));
    VM_BUG_ON!(k, n > PAGE_SIZE);
    if k.should_fail("copy_from_user") || !access_ok(from, n) {
        return n;
    }
    let mut done = 0;
    while done < n {
        let src = from + done;
        let bytes = in_page(src, n - done);
        let cells = match fill_at(src) {
            Some(byte) => [byte; CELLS],
            None => match reach(k, src, false).await {
                Some(page) => read_frame(k, page),
                None => {
                    k.branch("user copy ends short");
                    return n - done;
                }
            },
        };
        for (i, at) in CELL_AT.into_iter().enumerate() {
            let nth = at.wrapping_sub(to_offset) & (PAGE_SIZE - 1);
            if (done..done + bytes).contains(&nth) {
                k.page_mut(to).cells[i] = cells[cell_before((from + nth) & (PAGE_SIZE - 1))];
            }
        }
        done += bytes;
    }
    0
}

/// Copy `n` bytes from `from` (None: zeroes) at `from_offset`, going around as [`copy_from_user`] does, to user address `to`. Returns
/// how many were not copied.
///
/// Kernel:   lib/usercopy.c:_copy_to_user, arch/x86/lib/copy_user_64.S @ v5.14
/// Fidelity: MODEL (watched bytes; one step per destination page)
/// Locks:    none that a fault would need, unless page faults are disabled; may sleep
/// Errors:   the count is non-zero where the destination is not writable
pub async fn copy_to_user(k: &Kernel, to: u64, from: Option<PageId>, from_offset: u64, n: u64) -> u64 {
    let _f = k.enter("copy_to_user", || format!("to={to:#x} {from:?}+{from_offset} n={n}"));
    VM_BUG_ON!(k, n > PAGE_SIZE);
    if k.should_fail("copy_to_user") || !access_ok(to, n) {
        return n;
    }
    let mut done = 0;
    while done < n {
        let dst = to + done;
        let bytes = in_page(dst, n - done);
        if fill_at(dst).is_none() {
            let Some(page) = reach(k, dst, true).await else {
                k.branch("user copy ends short");
                return n - done;
            };
            // The source is read now, not when the copy began: it may change while the destination faults.
            let cells = from.map_or(ZERO_CELLS, |from| read_frame(k, from));
            let dst_in_page = dst & (PAGE_SIZE - 1);
            for (i, at) in CELL_AT.into_iter().enumerate() {
                if (dst_in_page..dst_in_page + bytes).contains(&at) {
                    let src_at = from_offset + done + (at - dst_in_page);
                    write_frame(k, page, i, cells[cell_before(src_at & (PAGE_SIZE - 1))]);
                }
            }
        }
        done += bytes;
    }
    0
}

/// Make a user range likely to be readable with page faults disabled: read a byte of each page. FAULT_IN_PARTIAL: it is enough
/// if something of it can be read.
///
/// Kernel:   include/linux/pagemap.h:fault_in_pages_readable @ v5.14, mm/gup.c:fault_in_readable @ v5.16
/// Fidelity: MIRROR
/// Locks:    none held; may sleep
/// Errors:   EFAULT a page (FAULT_IN_PARTIAL: the first page) is not readable
pub async fn fault_in_pages_readable(k: &Kernel, uaddr: u64, size: u64) -> KResult {
    let _f = k.enter("fault_in_pages_readable", || format!("uaddr={uaddr:#x} size={size}"));
    if size == 0 {
        return Ok(());
    }
    if k.has(Delta::FAULT_IN_PARTIAL) {
        return fault_in_readable(k, uaddr, size).await;
    }
    let end = uaddr.wrapping_add(size - 1);
    if uaddr > end {
        return Err(EFAULT);
    }
    let mut uaddr = uaddr;
    loop {
        if !get_user(k, uaddr).await {
            return Err(EFAULT);
        }
        uaddr += PAGE_SIZE;
        if uaddr > end {
            break;
        }
    }
    // Does the range spill into a page that was not touched?
    if page_align_down(uaddr) == page_align_down(end) && !get_user(k, end).await {
        return Err(EFAULT);
    }
    Ok(())
}

/// Read a byte of each page until one is not readable: what was reached is enough for the caller.
///
/// Kernel:   mm/gup.c:fault_in_readable @ v5.16
/// Fidelity: MIRROR (what is left is compared with the size here, not by the caller)
/// Locks:    none held; may sleep
/// Errors:   EFAULT nothing is readable
async fn fault_in_readable(k: &Kernel, start: u64, size: u64) -> KResult {
    let mut uaddr = start;
    if start.checked_add(size).is_none() {
        return Err(EFAULT);
    }
    let end = page_align(start + size);
    while uaddr < end {
        if !get_user(k, uaddr).await {
            break;
        }
        uaddr = page_align_down(uaddr) + PAGE_SIZE;
    }
    if uaddr == start { Err(EFAULT) } else { Ok(()) }
}

/// `__get_user` of one byte, for its side effect.
async fn get_user(k: &Kernel, addr: u64) -> bool {
    fill_at(addr).is_some() || reach(k, addr, false).await.is_some()
}

/// `pagefault_disable`: from here on a fault in a user copy ends the copy.
pub fn pagefault_disable(k: &Kernel) {
    k.task_mut(k.current()).pagefault_disabled += 1;
}

/// `pagefault_enable`.
pub fn pagefault_enable(k: &Kernel) {
    VM_BUG_ON!(k, k.task(k.current()).pagefault_disabled == 0);
    let mut task = k.task_mut(k.current());
    task.pagefault_disabled = task.pagefault_disabled.saturating_sub(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::*;
    use crate::mm::fault::tests::{boot, map, run};
    use crate::mm::pgtable::{lookup, pte_flags};

    const ADDR: u64 = 0x10000;

    #[test]
    fn copies_follow_the_watched_bytes() {
        let (k, mm) = boot();
        map(&k, mm, ADDR, [1, 2, 3, 4], _PAGE_RW);
        map(&k, mm, ADDR + PAGE_SIZE, [5, 6, 7, 8], _PAGE_RW);
        let to = map(&k, mm, ADDR + 8 * PAGE_SIZE, [0; 4], _PAGE_RW);
        assert_eq!(run(copy_from_user(&k, to, 0, ADDR, PAGE_SIZE)), 0);
        assert_eq!(k.page(to).cells, [1, 2, 3, 4].map(Cell::new));
        // Across two pages, not aligned: offset 0 is byte 2048 of the first, 2048 is byte 0 of the second.
        assert_eq!(run(copy_from_user(&k, to, 0, ADDR + 2048, PAGE_SIZE)), 0);
        assert_eq!(k.page(to).cells, [3, 3, 5, 6].map(Cell::new));
        // A part of a page leaves the rest alone.
        assert_eq!(run(copy_from_user(&k, to, 1024, user_addr(UserBuf::Fill(9)), 1024)), 0);
        assert_eq!(k.page(to).cells, [3, 9, 5, 6].map(Cell::new));
        // Around the end: each byte comes to where it is in its own page.
        assert_eq!(run(copy_from_user(&k, to, 1024, ADDR + 1024, PAGE_SIZE)), 0);
        assert_eq!(k.page(to).cells, [5, 2, 3, 4].map(Cell::new));
        let there = map(&k, mm, ADDR + 4 * PAGE_SIZE, [0; 4], _PAGE_RW);
        let next = map(&k, mm, ADDR + 5 * PAGE_SIZE, [0; 4], _PAGE_RW);
        assert_eq!(run(copy_to_user(&k, ADDR + 4 * PAGE_SIZE + 1024, Some(to), 1024, PAGE_SIZE)), 0);
        assert_eq!(k.page(there).cells, [0, 2, 3, 4].map(Cell::new));
        assert_eq!(k.page(next).cells, [5, 0, 0, 0].map(Cell::new));
    }

    #[test]
    fn a_copy_with_page_faults_disabled_ends_at_the_first_page_that_is_not_mapped() {
        let (k, mm) = boot();
        map(&k, mm, ADDR, [1, 2, 3, 4], _PAGE_RW);
        let to = map(&k, mm, ADDR + 8 * PAGE_SIZE, [0; 4], _PAGE_RW);
        pagefault_disable(&k);
        assert_eq!(run(copy_from_user(&k, to, 0, ADDR + 1024, PAGE_SIZE)), 1024);
        assert_eq!(k.page(to).cells, [2, 3, 3, 0].map(Cell::new));
        pagefault_enable(&k);
        assert_eq!(run(copy_from_user(&k, to, 0, TASK_SIZE, 1)), 1);
        assert_eq!(run(copy_from_user(&k, to, 0, u64::MAX - 10, PAGE_SIZE)), PAGE_SIZE);
    }

    #[test]
    fn a_copy_to_user_dirties_the_entry() {
        let (k, mm) = boot();
        let page = map(&k, mm, ADDR, [1, 2, 3, 4], _PAGE_RW);
        assert_eq!(run(copy_to_user(&k, ADDR + 1024, None, 0, 1025)), 0);
        assert_eq!(k.page(page).cells, [1, 0, 0, 4].map(Cell::new));
        assert_eq!(pte_flags(lookup(&k, mm, ADDR)), _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY);
        assert_eq!(run(copy_to_user(&k, user_addr(UserBuf::Fill(7)), Some(page), 0, PAGE_SIZE)), 0);
    }

    #[test]
    fn fault_in_touches_the_page_that_the_range_spills_into() {
        let (k, mm) = boot();
        map(&k, mm, ADDR, [0; 4], PteFlags::empty());
        map(&k, mm, ADDR + PAGE_SIZE, [0; 4], PteFlags::empty());
        assert_eq!(run(fault_in_pages_readable(&k, ADDR + 4000, 200)), Ok(()));
        assert_eq!(pte_flags(lookup(&k, mm, ADDR + PAGE_SIZE)), _PAGE_ACCESSED);
        pagefault_disable(&k);
        assert_eq!(run(fault_in_pages_readable(&k, ADDR + 4000, 2 * PAGE_SIZE)), Err(EFAULT));
        assert_eq!(run(fault_in_pages_readable(&k, u64::MAX - 1, 10)), Err(EFAULT));
    }
}
