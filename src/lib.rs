// SPDX-License-Identifier: GPL-2.0-only
//! An executable model of Linux userfaultfd on shmem, with every posted revision of the MCOPY_ATOMIC_CONTINUE fix.
//!
//! # Where things are
//! | module | what |
//! |---|---|
//! | [`kernel`] | all state that a kernel would hold, as plain data: it can be cloned, compared, hashed, written out |
//! | [`point`], [`mm::locking`] | where another CPU may run; who holds what |
//! | [`event`] | what the primitives report: calls, branches, locks, PTEs, flags, counters, and what a kernel log would show |
//! | [`labels`] | `goto` ladders, `VM_BUG_ON!`, `WARN_ON_ONCE!` |
//! | [`delta`] | what changed around the series in later kernels, by name |
//! | [`mm`], [`shmem`], [`uffd`], [`vfs`] | the mirrored functions, a file for a kernel file or a part of one |
//! | [`patch`] | the series: every function that any revision touches, whole, a file for each revision |
//! | [`syscall`], [`entry`] | what user space can do, and how that gets into the kernel |
//! | [`machine`] | tasks: who runs, until when |
//! | [`spec`], [`rules`] | what user space is promised, and the predicates that decide whether a revision keeps it |
//! | [`observe`] | what user space can see of a kernel after an operation |
//! | [`scenario`] | the text format: one question a file; and the generator of random programs |
//! | [`replay`], [`corpus`] | a scenario on a revision; the scenarios that come with faultline |
//! | [`recorded`] | sequences recorded on real kernels, as scenarios |
//! | `live` | the same on the running kernel (x86-64 Linux only) |
//! | [`report`] | what is printed |
//! | [`ask`] | what an ioctl answers: every operation on every state of a page, as a table |
//!
//! # What must never depend on what
//! A module names only modules of its own row or of rows above. `mm`, `shmem`, `uffd`, `vfs` and `patch` call each other, as in the
//! kernel, and know nothing of scheduling, searching or printing. Rules look at states and at what calls returned; never at the
//! revision, never at what a scenario claims. `tests/layers.rs` checks this.
//!
//! # How a call runs
//! Mirrored functions are `async`, and `.await` means that another CPU may run before this takes effect. [`machine::Machine`] polls
//! them by hand: right through, or from one preemption point to the next. There are no threads, no timers, no randomness. A load
//! or store that sleeps in `handle_userfault` is not a suspended stack but data in its task (it starts over from the top when it is
//! woken), so a kernel at rest is plain data.
//!
//! The unwinding from `handle_userfault` to the fault loop thus happens before the sleep instead of after it: the page that
//! `do_cow_fault` had allocated is put early. Nobody can tell but the page allocator. Faults of the kernel itself (the buffers of
//! read and write, the source of UFFDIO_COPY) really sleep where they are.
//!
//! # Reading order
//! For somebody who knows the kernel: two neighbours of [`patch`] by `diff`; [`uffd::mcopy`]; [`shmem::cache`]; [`mm::memory`];
//! then [`rules`]. `FIDELITY.md` lists every mirrored function with what was left out of it.
//!
//! # What is not modelled
//! Huge pages and hugetlb, the TLB, memcg (a charge may fail), NUMA, KSM, migration, memory errors, DAX, mmu notifiers, direct
//! reclaim inside allocations, more than one swap device, swap readahead, page_mkwrite, more than four bytes of a page
//! ([`kernel::CELL_AT`]), more than one CPU's LRU batch. Time.

#![allow(rustdoc::private_intra_doc_links)] // the documentation is built with private items: they are the kernel
#![allow(clippy::too_many_arguments)] // mirrored functions have the kernel's parameters
#![allow(clippy::question_mark)] // an exit that cannot be seen cannot be reviewed: no `?` in mirrored functions

pub mod arena;
pub mod ask;
pub mod corpus;
pub mod delta;
pub mod entry;
pub mod errno;
pub mod event;
pub mod flags;
pub mod kernel;
pub mod labels;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod live;
pub mod machine;
pub mod mm;
pub mod observe;
pub mod patch;
pub mod point;
pub mod random;
pub mod recorded;
pub mod replay;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod shmem;
pub mod spec;
pub mod syscall;
pub mod uffd;
pub mod vfs;
