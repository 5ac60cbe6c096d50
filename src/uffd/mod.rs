// SPDX-License-Identifier: GPL-2.0-only
//! `fs/userfaultfd.c`, and the parts of `mm/userfaultfd.c` that no revision touches.
//!
//! Reading order: [`handle`] (a fault queues itself and sleeps), [`ctx`] (the monitor reads it), [`ioctl`] and [`mcopy`] (the
//! monitor fills the page and wakes the fault), [`move_pages`], [`register`], [`events`].

pub mod ctx;
pub mod events;
pub mod handle;
pub mod ioctl;
pub mod mcopy;
pub mod move_pages;
pub mod register;
pub mod vma;
