// SPDX-License-Identifier: GPL-2.0-only
//! `arch/x86/mm/fault.c`: an instruction meets the page tables.
//!
//! An instruction of user space is executed again and again until the hardware lets it through ([`user_access`]): the
//! hardware looks at the entry; if that does not permit the access, the fault is handled and the instruction starts over.
//! A user-mode fault that has to wait for its monitor leaves this loop as [`AccessResult::Blocked`]; all that is needed to
//! go on is then in `task.blocked`, so that a waiting task is data and not a stack ([`resume_blocked_fault`]).

use crate::VM_BUG_ON;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::locking::{mmap_read_lock, mmap_read_unlock};
use crate::mm::memory::handle_mm_fault;
use crate::mm::mmap::find_vma;
use crate::mm::pgtable::*;
use crate::point::{Touch, die, point, spin};
use crate::syscall::Signal;
use crate::uffd::handle::finish_wait;

/// How a user-mode access ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessResult {
    /// The instruction was executed. A load gives the byte, or None if the model does not watch it; a store gives None.
    Done(Option<Cell>),
    /// It raised a signal.
    Signal(Signal),
    /// It waits in handle_userfault; `task.blocked` says where.
    Blocked,
    /// A fatal signal ended the task before the instruction was executed.
    Killed,
}

/// `FAULT_FLAG_DEFAULT`: what the fault handler of the architecture begins with.
pub const FAULT_FLAG_DEFAULT: FaultFlags = FAULT_FLAG_ALLOW_RETRY.union(FAULT_FLAG_KILLABLE).union(FAULT_FLAG_INTERRUPTIBLE);

fn walk(k: &Kernel, mm: MmId, addr: u64) -> Option<PteRef> {
    mm_find_pmd(k, mm, addr).and_then(|pmd| pte_offset_map(k, pmd, addr))
}

/// What the hardware does with a load or store before any software runs: walk the tables, check the entry, set its accessed
/// bit and for a store its dirty bit. Gives the frame that is reached, or None for a trap. The caller uses the frame at once,
/// before its next `.await`.
///
/// Kernel:   none (the MMU)
/// Fidelity: MODEL (no TLB: every access walks; a walk, its accessed and dirty bits and the access itself are one step)
/// Locks:    none; the PTE lock does not keep the hardware out
/// Errors:   None is a page fault
pub(crate) async fn hardware_access(k: &Kernel, mm: MmId, addr: u64, write: bool) -> Option<PageId> {
    if addr >= TASK_SIZE {
        return None;
    }
    if let Some(pte) = walk(k, mm, addr) {
        point(k, Touch::ReadPte(pte.table, pte.idx as u64)).await;
    }
    // The table may have been freed meanwhile: walk again from the top.
    let pte = walk(k, mm, addr)?;
    let entry = ptep_get(k, pte);
    let PteVal::Present { page, flags } = entry else { return None };
    if flags.contains(_PAGE_PROTNONE) || (write && !flags.contains(_PAGE_RW)) {
        return None;
    }
    let set = if write { _PAGE_ACCESSED | _PAGE_DIRTY } else { _PAGE_ACCESSED };
    if !flags.contains(set) {
        native_set_pte(k, mm, page_align_down(addr), pte, pte_with(entry, set, PteFlags::empty()));
    }
    Some(page)
}

/// The watched bytes of a frame that is reached through a page table; the zero page has no struct page.
pub(crate) fn read_frame(k: &Kernel, page: PageId) -> Cells {
    if page == PageId::ZERO { ZERO_CELLS } else { k.page(page).cells }
}

/// Store a watched byte into a frame that is reached through a writable entry.
pub(crate) fn write_frame(k: &Kernel, page: PageId, cell: usize, value: Cell) {
    // Nothing ever maps the zero page writable.
    VM_BUG_ON!(k, page == PageId::ZERO);
    if page != PageId::ZERO {
        k.page_mut(page).cells[cell] = value;
    }
}

/// How a fault ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FaultEnd {
    /// Resolved, or a signal has to be delivered: back to the instruction, which is executed again.
    Return,
    /// A signal for user mode, or exception fixup (a short copy) for kernel mode.
    Signal(Signal),
    /// User mode only: waits in handle_userfault.
    Blocked,
    /// A kernel-mode fault was given up because the task is dying.
    Fixup,
}

/// Do the VMA's rights forbid the access?
///
/// Kernel:   arch/x86/mm/fault.c:access_error @ v5.14
/// Fidelity: TRIMMED(protection keys, instruction fetches, SGX; a load that traps on a present entry does not occur: present
///           entries are readable, and PROT_NONE ones are not present to the hardware)
/// Locks:    mmap_lock held
/// Errors:   true is SEGV_ACCERR
fn access_error(write: bool, vm_flags: VmFlags) -> bool {
    if write {
        return !vm_flags.contains(VM_WRITE);
    }
    // vma_is_accessible
    !vm_flags.intersects(VM_READ | VM_WRITE | VM_EXEC)
}

/// Does a signal end this fault? In kernel mode only a fatal one does.
///
/// Kernel:   include/linux/sched/signal.h:fault_signal_pending @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
fn fault_signal_pending(k: &Kernel, fault: VmFault, user_mode: bool) -> bool {
    let task = k.task(k.current());
    fault.contains(VM_FAULT_RETRY) && (task.fatal_signal_pending || (user_mode && task.signal_pending))
}

/// Handle a fault at a user address: find the VMA, check its rights, let memory.c resolve it, as often as it wants to retry.
///
/// `flags` are those of the first round; a fault that waited starts over with FAULT_FLAG_TRIED.
///
/// Kernel:   arch/x86/mm/fault.c:do_user_addr_fault, mm_fault_error @ v5.14
/// Fidelity: TRIMMED(stack growth, vsyscall, error codes. The OOM killer is not modelled: where the kernel would kill a task
///           and execute the instruction again, the instruction fails with SIGBUS)
/// Locks:    takes and drops mmap_lock for reading
/// Errors:   SEGV_MAPERR no VMA; SEGV_ACCERR not with its rights; SIGBUS; see FaultEnd
async fn do_user_addr_fault(k: &Kernel, mm: MmId, address: u64, mut flags: FaultFlags) -> FaultEnd {
    let _f = k.enter("do_user_addr_fault", || format!("addr={address:#x} flags={flags:?}"));
    let user_mode = flags.contains(FAULT_FLAG_USER);
    let mut tries = 0;
    // retry:
    loop {
        mmap_read_lock(k, mm).await;
        let vma = match find_vma(k, mm, address) {
            Some(vma) if k.vma(vma).vm_start <= address => vma,
            _ => {
                mmap_read_unlock(k, mm);
                return FaultEnd::Signal(Signal::SIGSEGV_MAPERR);
            }
        };
        if access_error(flags.contains(FAULT_FLAG_WRITE), k.vma(vma).vm_flags) {
            mmap_read_unlock(k, mm);
            return FaultEnd::Signal(Signal::SIGSEGV_ACCERR);
        }

        let fault = Box::pin(handle_mm_fault(k, vma, address, flags)).await;

        let blocked = k.task(k.current()).blocked.is_some();
        if user_mode && blocked {
            // Asleep in handle_userfault, mmap_lock dropped; when woken it will have returned VM_FAULT_RETRY.
            return FaultEnd::Blocked;
        }
        if fault_signal_pending(k, fault, user_mode) {
            k.branch("a signal is pending: do not retry");
            return if user_mode { FaultEnd::Return } else { FaultEnd::Fixup };
        }
        if fault.contains(VM_FAULT_RETRY) && flags.contains(FAULT_FLAG_ALLOW_RETRY) {
            // mmap_lock has been dropped.
            flags |= FAULT_FLAG_TRIED;
            tries += 1;
            if !user_mode && k.task(k.current()).signal_pending {
                // The signal keeps handle_userfault() from sleeping, and does not end a fault of kernel mode.
                spin(k, "a kernel-mode fault with a signal pending").await;
            } else if tries > 8 && k.endless("page fault") {
                die(k).await;
            }
            continue;
        }
        mmap_read_unlock(k, mm);
        if fault.intersects(VM_FAULT_ERROR) {
            return if fault.contains(VM_FAULT_HWPOISON) && k.s().config.memory_failure {
                // do_sigbus
                FaultEnd::Signal(Signal::SIGBUS_MCEERR_AR)
            } else if fault.intersects(VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_HWPOISON) {
                FaultEnd::Signal(Signal::SIGBUS)
            } else {
                FaultEnd::Signal(Signal::SIGSEGV_MAPERR)
            };
        }
        return FaultEnd::Return;
    }
}

/// On the way back to user mode pending signals are delivered. True: a fatal one, the task does not get there.
fn deliver_signals(k: &Kernel) -> bool {
    let mut task = k.task_mut(k.current());
    if task.fatal_signal_pending {
        return true;
    }
    // A handled signal: its handler runs and returns to the instruction.
    task.signal_pending = false;
    false
}

/// Execute an instruction; `retry` are the flags of a fault of it that is to be gone on with first.
async fn execute(k: &Kernel, access: UserAccess, begin: FaultFlags, mut retry: Option<FaultFlags>) -> AccessResult {
    let Some(mm) = k.current_mm() else { return AccessResult::Signal(Signal::SIGSEGV_MAPERR) };
    let write = access.store.is_some();
    let mut flags = begin | FAULT_FLAG_DEFAULT | FAULT_FLAG_USER;
    flags.set(FAULT_FLAG_WRITE, write);
    let mut executed = 0;
    loop {
        if retry.is_none() {
            if let Some(page) = hardware_access(k, mm, access.addr, write).await {
                let cell = cell_at(access.addr & (PAGE_SIZE - 1));
                return AccessResult::Done(match (access.store, cell) {
                    (None, Some(i)) => Some(read_frame(k, page)[i]),
                    (Some(value), Some(i)) => {
                        write_frame(k, page, i, Cell::new(value));
                        None
                    }
                    (_, None) => None,
                });
            }
            executed += 1;
            if executed > 8 {
                // The fault neither maps the page nor waits: a userfaultfd is being closed, for instance.
                spin(k, "an instruction").await;
            }
            // Addresses past user space trap before any VMA is looked at.
            if access.addr >= TASK_SIZE {
                return AccessResult::Signal(Signal::SIGSEGV_MAPERR);
            }
        }
        let fault_flags = retry.take().unwrap_or(flags);
        match do_user_addr_fault(k, mm, access.addr, fault_flags).await {
            FaultEnd::Return | FaultEnd::Fixup => {
                if deliver_signals(k) {
                    return AccessResult::Killed;
                }
            }
            FaultEnd::Signal(sig) => return AccessResult::Signal(sig),
            FaultEnd::Blocked => {
                let mut task = k.task_mut(k.current());
                if let Some(blocked) = task.blocked.as_mut() {
                    blocked.access = access;
                    blocked.flags = fault_flags | FAULT_FLAG_TRIED;
                }
                return AccessResult::Blocked;
            }
        }
        // A fault of the instruction's next execution is a new one.
        flags = begin.difference(FAULT_FLAG_TRIED) | FAULT_FLAG_DEFAULT | FAULT_FLAG_USER;
        flags.set(FAULT_FLAG_WRITE, write);
    }
}

/// One load or store of user space, executed until it is done, raises a signal, or waits.
///
/// `flags` are added to what its first fault begins with (empty for a new instruction).
///
/// Kernel:   arch/x86/mm/fault.c:handle_page_fault @ v5.14
/// Fidelity: MODEL (the instruction and the hardware are part of it)
/// Locks:    none held; takes and drops mmap_lock
/// Errors:   see AccessResult
pub async fn user_access(k: &Kernel, access: UserAccess, flags: FaultFlags) -> AccessResult {
    execute(k, access, flags, None).await
}

/// The running task was woken from handle_userfault: finish the wait and go on where the fault loop was left.
///
/// Kernel:   arch/x86/mm/fault.c:do_user_addr_fault, after handle_mm_fault returned VM_FAULT_RETRY @ v5.14
/// Fidelity: MODEL (the fault that slept was data)
/// Locks:    none held; takes and drops mmap_lock
/// Errors:   see AccessResult
pub async fn resume_blocked_fault(k: &Kernel) -> AccessResult {
    let blocked = k.task_mut(k.current()).blocked.take();
    let Some(blocked) = blocked else {
        VM_BUG_ON!(k, true);
        return AccessResult::Done(None);
    };
    finish_wait(k, blocked.uwq);
    let begin = blocked.flags.difference(FAULT_FLAG_TRIED);
    if fault_signal_pending(k, VM_FAULT_RETRY, true) {
        k.branch("a signal is pending: do not retry");
        if deliver_signals(k) {
            return AccessResult::Killed;
        }
        return execute(k, blocked.access, begin, None).await;
    }
    execute(k, blocked.access, begin, Some(blocked.flags)).await
}

/// A kernel copy from or to user memory trapped. True: try again; false: exception fixup, the copy ends short.
///
/// Kernel:   arch/x86/mm/fault.c:do_user_addr_fault with a kernel-mode instruction pointer @ v5.14
/// Fidelity: TRIMMED(as do_user_addr_fault)
/// Locks:    none held unless page faults are disabled; takes and drops mmap_lock; may sleep in handle_userfault
/// Errors:   false when page faults are disabled, and wherever user mode would get a signal
pub async fn kernel_mode_fault(k: &Kernel, addr: u64, write: bool) -> bool {
    if k.task(k.current()).pagefault_disabled > 0 {
        k.branch("page faults are disabled");
        return false;
    }
    let Some(mm) = k.current_mm() else { return false };
    if addr >= TASK_SIZE {
        return false;
    }
    let mut flags = FAULT_FLAG_DEFAULT;
    flags.set(FAULT_FLAG_WRITE, write);
    do_user_addr_fault(k, mm, addr, flags).await == FaultEnd::Return
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    pub(crate) use crate::point::run_through as run;

    /// A kernel with one task in one empty address space.
    pub(crate) fn boot() -> (Kernel, MmId) {
        let mut s = State::default();
        let pgd = s.tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm = s.mms.insert(MmStruct { mm_users: 1, mm_count: 1, pgd: Some(pgd), ..MmStruct::default() });
        let group = s.procs.insert(Process { mm: Some(mm), ..Process::default() });
        let task = s.tasks.insert(Task { group, ..Task::default() });
        let k = Kernel::new(s);
        k.run.current.set(Some(task));
        (k, mm)
    }

    /// Poll once: without preemption nothing that is free waits.
    /// Map a fresh page of these bytes, with these bits.
    pub(crate) fn map(k: &Kernel, mm: MmId, addr: u64, bytes: [u8; CELLS], flags: PteFlags) -> PageId {
        run(async {
            let page = crate::mm::page_alloc::alloc_page(k, "test").await.unwrap();
            k.page_mut(page).cells = bytes.map(Cell::new);
            let pmd = mm_alloc_pmd(k, mm, addr).await.unwrap();
            assert!(pte_alloc(k, mm, pmd).await);
            let pte = pte_offset_map(k, pmd, addr).unwrap();
            native_set_pte(k, mm, addr, pte, PteVal::Present { page, flags });
            page
        })
    }

    const ADDR: u64 = 0x10000;

    #[test]
    fn hardware_sets_accessed_on_a_load_and_dirty_on_a_store() {
        let (k, mm) = boot();
        let page = map(&k, mm, ADDR, [1, 2, 3, 4], _PAGE_RW);
        let load = UserAccess { addr: ADDR + 4095, store: None };
        assert_eq!(run(user_access(&k, load, FaultFlags::empty())), AccessResult::Done(Some(Cell::new(4))));
        assert_eq!(pte_flags(lookup(&k, mm, ADDR)), _PAGE_RW | _PAGE_ACCESSED);
        let store = UserAccess { addr: ADDR + 1024, store: Some(9) };
        assert_eq!(run(user_access(&k, store, FaultFlags::empty())), AccessResult::Done(None));
        assert_eq!(pte_flags(lookup(&k, mm, ADDR)), _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY);
        assert_eq!(k.page(page).cells, [1, 9, 3, 4].map(Cell::new));
        // A byte that is not watched.
        let load = UserAccess { addr: ADDR + 1, store: None };
        assert_eq!(run(user_access(&k, load, FaultFlags::empty())), AccessResult::Done(None));
    }

    #[test]
    fn hardware_traps_where_the_entry_does_not_permit() {
        let (k, mm) = boot();
        map(&k, mm, ADDR, [0; 4], _PAGE_ACCESSED);
        map(&k, mm, ADDR + PAGE_SIZE, [0; 4], _PAGE_PROTNONE | _PAGE_RW);
        assert!(run(hardware_access(&k, mm, ADDR, false)).is_some());
        assert_eq!(run(hardware_access(&k, mm, ADDR, true)), None);
        assert_eq!(run(hardware_access(&k, mm, ADDR + PAGE_SIZE, false)), None);
        assert_eq!(run(hardware_access(&k, mm, ADDR + 2 * PAGE_SIZE, false)), None);
        assert_eq!(pte_flags(lookup(&k, mm, ADDR)), _PAGE_ACCESSED);
    }

    #[test]
    fn past_user_space_nothing_is_looked_up() {
        let (k, _) = boot();
        let load = UserAccess { addr: u64::MAX, store: None };
        assert_eq!(run(user_access(&k, load, FaultFlags::empty())), AccessResult::Signal(Signal::SIGSEGV_MAPERR));
        assert!(!run(kernel_mode_fault(&k, TASK_SIZE, false)));
    }
}
