// SPDX-License-Identifier: GPL-2.0-only
//! `mm/shmem.c`, cut at its own sections.

pub mod acct;
pub mod cache;
pub mod fallocate;
pub mod fault;
pub mod file;
pub mod inode;
pub mod truncate;

#[cfg(test)]
mod tests;
