// SPDX-License-Identifier: GPL-2.0-only
//! An executable model of Linux userfaultfd on shmem.
#![allow(clippy::too_many_arguments)] // mirrored functions have the kernel's parameters

pub mod arena;
pub mod corpus;
pub mod entry;
pub mod errno;
pub mod event;
pub mod flags;
pub mod kernel;
pub mod labels;
pub mod machine;
pub mod mm;
pub mod patch;
pub mod point;
pub mod random;
pub mod replay;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod shmem;
pub mod spec;
pub mod syscall;
pub mod uffd;
pub mod vfs;
