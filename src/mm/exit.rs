// SPDX-License-Identifier: GPL-2.0-only
//! `kernel/exit.c`, `mm/mmap.c:exit_mmap`, `kernel/fork.c:mmput, mmdrop`: the end of a task and of an address space.

use crate::event::Symptom;
use crate::flags::*;
use crate::kernel::*;
use crate::mm::mmap::{free_pgtables, mm_unacct_memory, remove_vma, unlock_range};
use crate::mm::page::lru_add_drain;
use crate::mm::vma_merge::vma_pages;
use crate::mm::zap::unmap_vmas;
use crate::point::if_any;
use crate::uffd::handle::{finish_wait, send_signal};
use crate::vfs::fput;

/// Become a user of an address space, unless its last user has gone.
///
/// Kernel:   include/linux/sched/mm.h:mmget_not_zero @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; false when nobody uses it any more
pub fn mmget_not_zero(k: &Kernel, mm: MmId) -> bool {
    let mut m = k.mm_mut(mm);
    if m.mm_users == 0 {
        return false;
    }
    m.mm_users += 1;
    true
}

/// Keep the struct, not the address space.
///
/// Kernel:   include/linux/sched/mm.h:mmgrab @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none
pub fn mmgrab(k: &Kernel, mm: MmId) {
    k.mm_mut(mm).mm_count += 1;
}

/// One user less; the last one tears the address space down.
///
/// Kernel:   kernel/fork.c:mmput @ v5.14
/// Fidelity: MIRROR
/// Locks:    mmap_lock not held
/// Errors:   none
#[inline]
pub fn mmput(k: &Kernel, mm: MmId) -> impl Future<Output = ()> {
    let now = {
        let mut m = k.mm_mut(mm);
        m.mm_users -= 1;
        m.mm_users
    };
    crate::VM_BUG_ON!(k, now < 0);
    // Boxed, as is all that is rare and large, so that the futures of common calls stay small.
    if_any((now == 0).then(|| Box::pin(__mmput(k, mm))))
}

/// Nobody uses the address space any more.
///
/// Kernel:   kernel/fork.c:__mmput @ v5.14
/// Fidelity: TRIMMED(aio, KSM, khugepaged, exe_file)
/// Locks:    mmap_lock not held
/// Errors:   none
async fn __mmput(k: &Kernel, mm: MmId) {
    exit_mmap(k, mm).await;
    mmdrop(k, mm);
}

/// One reference to the struct less; the last one frees it.
///
/// Kernel:   kernel/fork.c:mmdrop, __mmdrop @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; check_mm reports what was left behind
pub fn mmdrop(k: &Kernel, mm: MmId) {
    let now = {
        let mut m = k.mm_mut(mm);
        m.mm_count -= 1;
        m.mm_count
    };
    crate::VM_BUG_ON!(k, now < 0);
    if now == 0 {
        // mm_free_pgd
        let pgd = k.mm_mut(mm).pgd.take();
        if let Some(pgd) = pgd {
            k.sm().tables.remove(pgd);
        }
        check_mm(k, mm);
        k.sm().mms.remove(mm);
    }
}

/// Say what a dying mm has left behind.
///
/// Kernel:   kernel/fork.c:check_mm @ v5.14
/// Fidelity: MIRROR
/// Locks:    none
/// Errors:   none; reports "Bad rss-counter state" and "non-zero pgtables_bytes"
fn check_mm(k: &Kernel, mm: MmId) {
    let rss_stat = k.mm(mm).rss_stat;
    let counters = [MmCounter::MM_FILEPAGES, MmCounter::MM_ANONPAGES, MmCounter::MM_SWAPENTS, MmCounter::MM_SHMEMPAGES];
    for counter in counters {
        let x = rss_stat[counter as usize];
        if x != 0 {
            k.report(Symptom::BadRssCounter, || format!("BUG: Bad rss-counter state {mm} type:{counter:?} val:{x}"));
        }
    }
    let pgtables = k.mm(mm).pgtables;
    if pgtables != 0 {
        k.report(Symptom::NonZeroPgtables, || {
            format!("BUG: non-zero pgtables_bytes on freeing {mm}: {}", i64::from(pgtables) * PAGE_SIZE as i64)
        });
    }
}

/// Unmap everything. Nobody looks this mm up any more; the reverse map still may, until its VMAs are unlinked.
///
/// Kernel:   mm/mmap.c:exit_mmap @ v5.14
/// Fidelity: TRIMMED(oom reaper, TLB gathering, mmu notifiers)
/// Locks:    none: mm_users is 0; takes and drops PTE, anon_vma and i_mmap locks
/// Errors:   none
pub async fn exit_mmap(k: &Kernel, mm: MmId) {
    let _f = k.enter("exit_mmap", || format!("{mm}"));
    let vmas = k.mm(mm).mmap.clone();
    unlock_range(k, &vmas).await;
    if vmas.is_empty() {
        return;
    }
    lru_add_drain(k);
    unmap_vmas(k, &vmas, 0, u64::MAX).await;
    free_pgtables(k, mm, &vmas, 0, 0).await;
    k.mm_mut(mm).mmap.clear();
    let mut nr_accounted = 0;
    for &vma in &vmas {
        let v = k.vma(vma);
        if v.vm_flags.contains(VM_ACCOUNT) {
            nr_accounted += vma_pages(&v) as i64;
        }
        remove_vma(k, vma).await;
    }
    mm_unacct_memory(k, mm, nr_accounted);
}

/// Is the task between entry to the kernel and return to user mode?
fn in_kernel(k: &Kernel, task: TaskId) -> bool {
    let s = k.s();
    k.task(task).in_syscall || s.held.iter().any(|h| h.task == task) || s.waiting.iter().any(|w| w.task == task)
}

fn other_threads(k: &Kernel, task: TaskId) -> Vec<TaskId> {
    let group = k.task(task).group;
    let s = k.s();
    s.tasks
        .iter()
        .filter(|(t, other)| *t != task && other.group == group && other.state != TaskState::Dead)
        .map(|(t, _)| t)
        .collect()
}

/// Kill the other threads of a process. One that is in user mode, or asleep in a userfault there, is gone at once; one inside a
/// system call gets SIGKILL and comes to [`do_exit`] when that call returns.
///
/// Kernel:   kernel/signal.c:zap_other_threads @ v5.14
/// Fidelity: MODEL (there is no time between the signal and the death of a thread that runs no kernel code)
/// Locks:    none
/// Errors:   none
fn zap_other_threads(k: &Kernel) {
    for t in other_threads(k, k.current()) {
        let blocked = k.task(t).blocked;
        if let Some(blocked) = blocked {
            // SIGKILL ends the wait; the retried fault sees it and does not start over.
            finish_wait(k, blocked.uwq);
            let mut task = k.task_mut(t);
            task.blocked = None;
            task.exiting = true;
            task.state = TaskState::Dead;
        } else if in_kernel(k, t) {
            send_signal(k, t, true);
        } else {
            let mut task = k.task_mut(t);
            task.exiting = true;
            task.state = TaskState::Dead;
        }
    }
}

/// The running task ends; with the last thread go the address space and then the open files.
///
/// Kernel:   kernel/exit.c:do_exit, exit_mm; fs/file.c:exit_files @ v5.14
/// Fidelity: MODEL (a process holds one mm_users for all its threads)
/// Locks:    none held
/// Errors:   none
pub async fn do_exit(k: &Kernel) {
    let _f = k.enter("do_exit", String::new);
    let task = k.current();
    let group = k.task(task).group;
    k.task_mut(task).exiting = true;
    if other_threads(k, task).is_empty() {
        let mm = k.process_mut(group).mm.take();
        if let Some(mm) = mm {
            mmput(k, mm).await;
        }
        // close_files
        loop {
            let file = k.process_mut(group).fds.iter_mut().find_map(|fd| fd.take());
            let Some(file) = file else {
                break;
            };
            fput(k, file).await;
        }
        k.process_mut(group).fds.clear();
    }
    k.task_mut(task).state = TaskState::Dead;
}

/// exit_group(2).
///
/// Kernel:   kernel/exit.c:do_group_exit @ v5.14
/// Fidelity: TRIMMED(exit codes, zombies)
/// Locks:    none held
/// Errors:   none
pub async fn sys_exit_group(k: &Kernel) {
    zap_other_threads(k);
    do_exit(k).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dying_mm_says_what_it_leaves_behind() {
        let mut s = State::default();
        let pgd = s.tables.insert(PageTable { level: 4, ..PageTable::default() });
        let mm =
            s.mms.insert(MmStruct { mm_count: 2, pgd: Some(pgd), pgtables: 1, rss_stat: [0, 0, 0, -1], ..MmStruct::default() });
        let k = Kernel::new(s);
        assert!(!mmget_not_zero(&k, mm));
        mmdrop(&k, mm);
        assert!(k.run.findings.borrow().is_empty());
        mmdrop(&k, mm);
        let symptoms: Vec<_> = k.run.findings.borrow().iter().map(|f| f.symptom).collect();
        assert_eq!(symptoms, [Symptom::BadRssCounter, Symptom::NonZeroPgtables]);
        assert!(k.s().mms.is_empty() && k.s().tables.is_empty());
    }
}
