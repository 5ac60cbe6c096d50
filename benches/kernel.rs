// SPDX-License-Identifier: GPL-2.0-only
//! What one step of a search costs: boot and replay, one ioctl, one clone and hash.
//!
//! Before anything is timed, the scenario is played once and its answers are checked: a fast wrong kernel is worth nothing.

use divan::{Bencher, black_box};
use faultline::flags::*;
use faultline::kernel::{Config, PAGE_SIZE, TaskId};
use faultline::machine::Machine;
use faultline::patch::Revision;
use faultline::rules::Watch;
use faultline::syscall::{Advice, Op, Out, Outcome, RegisterMode, UserBuf};
use rustc_hash::FxHasher;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};

fn main() {
    check_scenario();
    divan::main();
}

const REVISIONS: [Revision; 2] = [Revision::Base, Revision::Merged];
/// Two mappings of one file: the program stores through A, the monitor watches B.
const A: u64 = 0x10_0000;
const B: u64 = 0x20_0000;
/// The file and the userfaultfd, in order of their making.
const MEMFD: u8 = 3;
const UFFD: u8 = 4;

fn map(addr: u64, len: u64) -> Op {
    let (prot, flags) = (PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED);
    Op::Mmap { addr, len, prot, flags, fd: Some(MEMFD), offset: 0 }
}

/// A file of `pages` written pages, mapped twice, B registered for minor faults: eight calls.
fn setup(pages: u64) -> [Op; 8] {
    let len = pages * PAGE_SIZE;
    [
        Op::MemfdCreate { sealing: false },
        Op::Ftruncate { fd: MEMFD, length: len },
        map(A, len),
        map(B, len),
        Op::Pwrite { fd: MEMFD, buf: UserBuf::Fill(0x42), count: len, offset: 0 },
        Op::Userfaultfd { nonblock: true, user_mode_only: false },
        Op::UffdApi { fd: UFFD, api: 0xaa, features: 0 },
        Op::UffdRegister { fd: UFFD, start: B, len, mode: RegisterMode::MINOR.bits() },
    ]
}

fn continue_at(start: u64) -> Op {
    Op::UffdContinue { fd: UFFD, start, len: PAGE_SIZE, mode: 0 }
}

/// A booted machine with a program thread and a monitor thread.
fn boot(revision: Revision) -> (Machine, TaskId, TaskId) {
    let mut machine = Machine::new(revision, Config::default());
    let program = machine.main_task();
    let monitor = machine.spawn_thread(program);
    (machine, program, monitor)
}

/// Run an operation that does not block.
fn run(machine: &mut Machine, task: TaskId, op: &Op) -> Outcome {
    machine.run(task, op).expect("the thread is free").expect("the operation returns")
}

/// One minor fault from end to end: set up, a load that blocks, the message, CONTINUE, and the load returns.
fn minor_fault(revision: Revision) -> Machine {
    let (mut machine, program, monitor) = boot(revision);
    for op in setup(2) {
        black_box(run(&mut machine, monitor, &op));
    }
    black_box(machine.run(program, &Op::Load { addr: B })).expect("the thread is free");
    black_box(run(&mut machine, monitor, &Op::UffdRead { fd: UFFD }));
    black_box(run(&mut machine, monitor, &continue_at(B)));
    machine
}

fn check_scenario() {
    for revision in REVISIONS {
        let mut machine = minor_fault(revision);
        let done = machine.take_completed();
        let load = done.last().and_then(|c| c.outcome.clone()).expect("the load came back");
        assert!(matches!(load.out, Out::Byte(Some(b)) if b.byte() == 0x42), "{revision}: {load:?}");
        machine.exit_all();
        assert!(machine.k.run.findings.borrow().is_empty(), "{revision}: {:?}", machine.k.run.findings.borrow());
    }
}

/// A fresh kernel and the scenario, without exit and without rules.
#[divan::bench(args = REVISIONS)]
fn replay_without_rules(revision: Revision) {
    black_box(minor_fault(revision));
}

/// A fresh kernel and the scenario, with the reference memory following each call and every rule checked at the end.
#[divan::bench(args = REVISIONS)]
fn replay_all_rules_at_the_end(revision: Revision) {
    let (machine, mut watch) = watched_minor_fault(revision, false);
    black_box(watch.settled(&machine.k));
}

/// The same with every rule checked after every call, all processes exited, and what they leave examined.
#[divan::bench(args = REVISIONS)]
fn replay_all_rules_after_every_call_and_exit(revision: Revision) {
    let (mut machine, mut watch) = watched_minor_fault(revision, true);
    machine.exit_all();
    black_box(watch.finish(&machine.k));
}

fn watched_minor_fault(revision: Revision, every: bool) -> (Machine, Watch) {
    let (mut machine, program, monitor) = boot(revision);
    let mut watch = Watch::new(&machine.k);
    let ops = setup(2).into_iter().map(|op| (monitor, op)).chain([
        (program, Op::Load { addr: B }),
        (monitor, Op::UffdRead { fd: UFFD }),
        (monitor, continue_at(B)),
    ]);
    for (task, op) in ops {
        watch.begin(&machine.k, task, &op);
        machine.start(task, &op).expect("the thread is free");
        machine.settle();
        for c in machine.take_completed() {
            if let Some(outcome) = &c.outcome {
                black_box(watch.end(&machine.k, c.task, &c.op, outcome));
            }
        }
        if every {
            black_box(watch.settled(&machine.k));
        }
    }
    (machine, watch)
}

/// One CONTINUE on a kernel that is up, without rules. The page is unmapped again outside of what is timed.
#[divan::bench(args = REVISIONS, sample_size = PAGES, sample_count = 2000)]
fn uffdio_continue(bencher: Bencher, revision: Revision) {
    let (mut machine, _, monitor) = boot(revision);
    for op in setup(PAGES as u64) {
        run(&mut machine, monitor, &op);
    }
    let machine = RefCell::new(machine);
    let mut next = 0;
    bencher
        .with_inputs(|| {
            let addr = B + next % PAGES as u64 * PAGE_SIZE;
            next += 1;
            let unmap = Op::Madvise { addr, len: PAGE_SIZE, advice: Advice::MADV_DONTNEED };
            run(&mut machine.borrow_mut(), monitor, &unmap);
            continue_at(addr)
        })
        .bench_local_refs(|op| {
            let outcome = run(&mut machine.borrow_mut(), monitor, op);
            assert_eq!(outcome.ret, Ok(0));
        });
}

/// Pages of the warm file; a sample continues each of them once.
const PAGES: u32 = 16;

/// Copy the kernel that the scenario leaves, and hash the copy: what a search pays for each state.
#[divan::bench]
fn clone_and_hash(bencher: Bencher) {
    let machine = minor_fault(Revision::Merged);
    bencher.bench_local(|| {
        let copy = (*machine.k).clone();
        let mut hasher = FxHasher::default();
        copy.hash(&mut hasher);
        black_box(hasher.finish())
    });
}
