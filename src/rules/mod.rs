// SPDX-License-Identifier: GPL-2.0-only
//! What must always hold, whichever revision runs. One rule a file; this is the list.
//!
//! Rules only look: at the state, and at what operations returned. None knows which revision runs, so a rule that breaks
//! says that the revision is wrong, or that the model is. Three kinds:
//!
//! * **structure**: a predicate over one state ([`When::Settled`]): counters, references, flags, the reverse map;
//! * **memory as promised**: what user space stored is what it reads back; the reference is [`crate::spec`];
//! * **faults and progress**: the monitor sees every fault, an ioctl answers what is documented, who was resolved wakes.
//!
//! What the primitives report by themselves while the kernel runs (a BUG_ON, a use after free) becomes a rule through
//! [`from_finding`]. [`Watch`] holds what has to be remembered between two looks.

use crate::event::Finding;
use crate::kernel::State;
use std::fmt;

mod reported;
pub mod view;
mod watch;

pub use reported::from_finding;
use view::View;
pub use watch::Watch;

/// When a rule is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// When nothing can go on without a new operation.
    Settled,
    /// When an operation returns.
    Answer,
    /// When every process has exited and every file is closed.
    Exit,
    /// The primitives report it where it happens.
    Reported,
}

/// Something that always holds.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Positive and short.
    pub name: &'static str,
    /// What is promised, in plain words.
    pub promise: &'static str,
    /// What a user or a kernel log would show if it did not hold.
    pub symptom: &'static str,
    /// When it is looked at.
    pub when: When,
    /// The findings of the review (F01 to F31) that it can catch.
    pub finds: &'static [&'static str],
}

/// A rule that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its name.
    pub rule: &'static str,
    /// Where and how.
    pub detail: String,
}

impl Broken {
    /// `rule` is broken: `detail`.
    pub fn new(rule: &Rule, detail: String) -> Broken {
        Broken { rule: rule.name, detail }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

macro_rules! list {
    (structure: $($s:ident),* $(,)?; watched: $($w:ident),* $(,)?; exit: $($e:ident),* $(,)?;) => {
        $(mod $s;)*
        $(mod $w;)*
        $(mod $e;)*

        static ALL: &[&Rule] = &[
            $(&$s::RULE,)*
            $(&$w::RULE,)*
            $(&$e::RULE,)*
            &reported::NO_BUG, &reported::NO_WARNING, &reported::RSS_COUNTERS_BALANCE, &reported::PAGE_TABLES_BALANCE,
            &reported::NO_BAD_PAGE_STATE, &reported::NO_BAD_PAGE_MAP, &reported::NO_BAD_PAGE_CACHE, &reported::NO_USE_AFTER_FREE,
            &reported::NO_SLEEP_IN_ATOMIC, &reported::LOCK_ORDER, &reported::GUARDED_BY_LOCK, &reported::NO_DEAD_WAIT, &reported::NO_ENDLESS_LOOP,
            &reported::EVICTED_INODE_IS_EMPTY, &reported::SWAP_COUNTS_VALID,
        ];

        /// The predicates over one state.
        pub(crate) fn check_structure(s: &State, v: &View, out: &mut Vec<Broken>) {
            $($s::check(s, v, out);)*
        }

        /// The predicates over what is left at the end.
        pub(crate) fn check_exit(s: &State, v: &View, out: &mut Vec<Broken>) {
            $($e::check(s, v, out);)*
        }
    };
}

list! {
    structure:
        mapcount_matches_ptes,
        rmap_finds_every_pte,
        references_accounted,
        rss_matches_ptes,
        no_writable_private_pagecache_pte,
        no_pte_past_eof,
        pte_inside_vma,
        mapped_page_is_cached,
        blocks_accounted,
        commit_accounted,
        swap_counts_match,
        cached_page_knows_its_place,
        cached_or_swapped,
        page_flags_legal,
        pages_reach_lru,
        written_page_is_dirty,
        locks_released,
        uffd_references_counted;
    watched:
        no_data_lost,
        no_private_leak,
        no_stale_bytes,
        failed_call_changes_nothing,
        monitor_sees_every_fault,
        continue_finds_the_page,
        continue_invents_nothing,
        efault_exactly_past_eof,
        eexist_exactly_when_populated,
        enomem_only_when_refused,
        errno_as_documented,
        out_field_matches,
        registration_keeps_mappings,
        filled_page_is_writable,
        every_resolved_waiter_wakes,
        write_protection_is_kept;
    exit:
        no_page_leaked,
        no_object_leaked,
        counters_return_to_zero;
}

mod ioctl;

/// Every rule.
pub fn all() -> &'static [&'static Rule] {
    ALL
}

/// Look a rule up.
pub fn by_name(name: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|r| r.name == name)
}
