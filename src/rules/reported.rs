// SPDX-License-Identifier: GPL-2.0-only
//! Rules that the primitives watch themselves: what a debug kernel would print. Here they only get their names.

use super::{Broken, Finding, Rule, When};
use crate::event::Symptom;

macro_rules! reported {
    ($($N:ident $name:literal: $promise:literal, $symptom:literal, [$($f:literal),*];)*) => { $(
        pub(super) static $N: Rule =
            Rule { name: $name, promise: $promise, symptom: $symptom, when: When::Reported, finds: &[$($f),*] };
    )* };
}

reported! {
    NO_BUG "no-bug": "No BUG_ON or VM_BUG_ON triggers.",
        "kernel BUG at mm/...; the task dies with its locks held", ["F19", "F30"];
    NO_WARNING "no-warning": "No WARN_ON triggers.", "WARNING: CPU: 0 PID: ... with a call trace", [];
    RSS_COUNTERS_BALANCE "rss-counters-balance": "The resident counters are zero when an address space is freed.",
        "BUG: Bad rss-counter state mm:... type:MM_FILEPAGES val:1", [];
    PAGE_TABLES_BALANCE "page-tables-balance": "All page tables are freed with the address space.",
        "BUG: non-zero pgtables_bytes on freeing mm", [];
    NO_BAD_PAGE_STATE "no-bad-page-state": "A page is freed unmapped, unlocked and out of every cache.",
        "BUG: Bad page state in process ...", ["F19", "F30"];
    NO_BAD_PAGE_MAP "no-bad-page-map": "A page is never unmapped more often than it was mapped.",
        "BUG: Bad page map in process ...", [];
    NO_BAD_PAGE_CACHE "no-bad-page-cache": "No page leaves the page cache while it is mapped.",
        "BUG: Bad page cache in process ... page still mapped when deleted", ["F19"];
    NO_USE_AFTER_FREE "no-use-after-free": "Nothing is used after it was freed.",
        "KASAN: use-after-free; memory corruption without it", ["F19", "F30"];
    NO_SLEEP_IN_ATOMIC "no-sleep-in-atomic": "No task sleeps while it holds a spin lock.",
        "BUG: sleeping function called from invalid context", [];
    LOCK_ORDER "lock-order": "Locks are taken in one order.",
        "lockdep: possible circular locking dependency detected", [];
    GUARDED_BY_LOCK "guarded-by-lock": "What a lock guards changes only while it is held.",
        "KCSAN: data-race; counters or page-table entries that two CPUs changed at once are wrong", [];
    NO_DEAD_WAIT "no-dead-wait": "Tasks never wait for each other in a circle.",
        "INFO: task blocked for more than 120 seconds", ["F09"];
    NO_ENDLESS_LOOP "no-endless-loop": "A system call comes to an end, and sleeps while it waits.",
        "a task uses 100% system time and cannot be killed", ["F09"];
    EVICTED_INODE_IS_EMPTY "evicted-inode-is-empty": "An inode that goes away has no blocks left.",
        "WARNING in shmem_evict_inode: WARN_ON(inode->i_blocks)", ["F18", "F19"];
    SWAP_COUNTS_VALID "swap-counts-valid": "A swap slot's count neither falls below zero nor passes its limit.",
        "swap_info_get: Bad swap offset entry; swap_free: Unused swap offset entry", [];
}

/// The rule that a reported symptom breaks.
pub fn from_finding(f: &Finding) -> Broken {
    let rule = match f.symptom {
        Symptom::BugOn | Symptom::VmBugOn => &NO_BUG,
        Symptom::WarnOn => &NO_WARNING,
        Symptom::BadRssCounter => &RSS_COUNTERS_BALANCE,
        Symptom::NonZeroPgtables => &PAGE_TABLES_BALANCE,
        Symptom::BadPageState => &NO_BAD_PAGE_STATE,
        Symptom::BadPageMap => &NO_BAD_PAGE_MAP,
        Symptom::BadPageCache => &NO_BAD_PAGE_CACHE,
        Symptom::UseAfterFree => &NO_USE_AFTER_FREE,
        Symptom::SleepInAtomic => &NO_SLEEP_IN_ATOMIC,
        Symptom::LockOrder => &LOCK_ORDER,
        Symptom::Unlocked => &GUARDED_BY_LOCK,
        Symptom::BadUnlock | Symptom::LockHeldAtReturn => &super::locks_released::RULE,
        Symptom::DeadWait => &NO_DEAD_WAIT,
        Symptom::EndlessLoop => &NO_ENDLESS_LOOP,
        Symptom::EvictBlocks => &EVICTED_INODE_IS_EMPTY,
        Symptom::BadSwapCount => &SWAP_COUNTS_VALID,
    };
    Broken::new(rule, f.detail.clone())
}
