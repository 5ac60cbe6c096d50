// SPDX-License-Identifier: GPL-2.0-only
//! Which scenarios the running kernel can be asked.

use super::observe::END;
use super::sys::ROOM;
use super::worker::MAX_THREADS;
use crate::scenario::{MachineSpec, Scenario, Step};
use crate::syscall::{Op, UserBuf};

/// Why a scenario cannot be run on the running kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Obstacle {
    /// It says in which order two calls take their steps inside the kernel.
    Race,
    /// It makes calls inside the kernel fail.
    Injected,
    /// `machine: frames=`.
    Frames,
    /// `machine: commit-limit=`.
    CommitLimit,
    /// `machine: soft-dirty=on`.
    SoftDirty,
    /// More threads than are provided for.
    Threads,
    /// A buffer of the program's own that is longer than is provided for.
    Buffer,
    /// madvise over most of the address space, holes and all.
    Everywhere,
}

impl Obstacle {
    /// In words.
    pub fn why(self) -> &'static str {
        match self {
            Obstacle::Race => "a race: nobody can make a running kernel take its steps in a given order",
            Obstacle::Injected => "INJECTED: calls inside the running kernel cannot be made to fail",
            Obstacle::Frames => "machine: frames= would need a kernel that is short of memory",
            Obstacle::CommitLimit => "machine: commit-limit= would change the limit for everybody on this machine",
            Obstacle::SoftDirty => "machine: soft-dirty=on depends on how the kernel is configured",
            Obstacle::Threads => "too many threads",
            Obstacle::Buffer => "a buffer of more than 64 KiB",
            Obstacle::Everywhere => "madvise goes on behind holes, and would reach the memory of the program that tests",
        }
    }
}

/// What stands in the way of running this scenario, if anything does.
pub fn obstacle(scenario: &Scenario) -> Option<Obstacle> {
    let default = MachineSpec::default();
    let m = &scenario.machine;
    if scenario.steps.iter().any(|s| matches!(s, Step::Race { .. })) {
        return Some(Obstacle::Race);
    }
    if scenario.calls().any(|c| !c.injected.is_empty()) {
        return Some(Obstacle::Injected);
    }
    if m.frames != default.frames {
        return Some(Obstacle::Frames);
    }
    if m.commit_limit != default.commit_limit {
        return Some(Obstacle::CommitLimit);
    }
    if m.soft_dirty != default.soft_dirty {
        return Some(Obstacle::SoftDirty);
    }
    if scenario.threads.len() > MAX_THREADS {
        return Some(Obstacle::Threads);
    }
    scenario.calls().find_map(|c| of_op(&c.op))
}

/// What stands in the way of this operation anywhere.
pub(super) fn of_op(op: &Op) -> Option<Obstacle> {
    match *op {
        Op::UffdCopy { src: UserBuf::Fill(_), len: n, .. } | Op::Pwrite { buf: UserBuf::Fill(_), count: n, .. }
            // Lengths that no kernel takes are refused before anything is copied.
            if n > ROOM as u64 && n < 1 << 46 =>
        {
            Some(Obstacle::Buffer)
        }
        Op::Madvise { addr, len, .. } if addr < END && addr.checked_add(len).is_some_and(|end| end > END) => {
            Some(Obstacle::Everywhere)
        }
        _ => None,
    }
}
