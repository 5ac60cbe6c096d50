// SPDX-License-Identifier: GPL-2.0-only
//! A kernel at rest is plain data: a copy, or one that was written out and read back, goes on exactly as the original.

use faultline::kernel::{Config, Kernel};
use faultline::machine::Machine;
use faultline::patch::Revision;
use faultline::scenario::generate::Program;
use faultline::syscall::{Op, Outcome};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

fn hash(k: &Kernel) -> u64 {
    let mut h = FxHasher::default();
    k.hash(&mut h);
    h.finish()
}

/// Run operations, and what they answered, late answers included.
fn go_on(machine: &mut Machine, ops: &[(u8, Op)]) -> Vec<Option<Outcome>> {
    let mut answers = Vec::new();
    for (thread, op) in ops {
        let Some(task) = machine.task(u16::from(*thread)) else { continue };
        answers.push(machine.run(task, op).unwrap_or_default());
        answers.extend(machine.take_completed().into_iter().map(|c| c.outcome));
    }
    answers
}

fn boot(program: &Program) -> Machine {
    let mut machine = Machine::new(Revision::Merged, Config::default());
    let main = machine.main_task();
    machine.spawn_thread(main);
    if program.prologue.swap > 0 {
        machine.run(main, &Op::Swapon { slots: program.prologue.swap }).unwrap();
    }
    for op in program.prologue.ops() {
        machine.run(main, &op).unwrap();
    }
    machine
}

/// Programs that differ from each other, the same on every run.
fn programs() -> impl Iterator<Item = Program> {
    (0..150u64).map(|seed| {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 32) as u8
            })
            .collect();
        Program::from_bytes(&bytes)
    })
}

#[test]
fn a_copy_goes_on_as_the_original() {
    let mut resumed = 0;
    let mut blocked = 0;
    for program in programs() {
        for at in [0, program.ops.len() / 3, program.ops.len() * 2 / 3] {
            let mut original = boot(&program);
            go_on(&mut original, &program.ops[..at]);
            if !original.k.is_quiescent() {
                continue;
            }
            resumed += 1;
            blocked += original.k.s().tasks.iter().filter(|(_, t)| t.blocked.is_some()).count();

            let copy = (*original.k).clone();
            let bytes = postcard::to_stdvec(&copy).unwrap();
            let read: Kernel = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(copy, read);
            assert_eq!(hash(&copy), hash(&read));

            let (mut a, mut b) = (Machine::resume(copy), Machine::resume(read));
            let rest = &program.ops[at..];
            let answers = go_on(&mut original, rest);
            assert_eq!(answers, go_on(&mut a, rest), "a clone went another way");
            assert_eq!(answers, go_on(&mut b, rest), "a kernel read back went another way");
            assert_eq!(*original.k, *a.k);
            assert_eq!(*original.k, *b.k);
            assert_eq!(hash(&original.k), hash(&b.k));
        }
    }
    assert!(
        resumed > 200 && blocked > 20,
        "{resumed} kernels at rest, {blocked} faults blocked in them: too few to mean anything"
    );
}

#[test]
fn the_same_program_gives_the_same_kernel() {
    for program in programs().take(30) {
        let run = || {
            let mut machine = boot(&program);
            let answers = go_on(&mut machine, &program.ops);
            (answers, hash(&machine.k))
        };
        assert_eq!(run(), run());
    }
}
