// SPDX-License-Identifier: GPL-2.0-only
//! Swap slots, the swap cache and the reverse map: whatever fails on the way, nothing is lost, counted wrongly or left behind.

use faultline::event::Symptom;
use faultline::flags::*;
use faultline::kernel::{Config, TaskId};
use faultline::machine::Machine;
use faultline::patch::Revision;
use faultline::syscall::{Advice, Op};

const PRIVATE: u64 = 0x20_0000;
const SHARED: u64 = 0x40_0000;

fn mmap(addr: u64, pages: u64, flags: MapFlags, fd: Option<u8>) -> Op {
    Op::Mmap { addr, len: pages << 12, prot: PROT_READ | PROT_WRITE, flags: flags | MAP_FIXED, fd, offset: 0 }
}

fn pageout(addr: u64, pages: u64) -> Op {
    Op::Madvise { addr, len: pages << 12, advice: Advice::MADV_PAGEOUT }
}

/// Run an operation and say what it returned; None when it failed, or ended the task.
fn run(m: &mut Machine, task: TaskId, op: Op) -> Option<i64> {
    match m.run(task, &op) {
        Ok(Some(outcome)) => match outcome.out {
            faultline::syscall::Out::Byte(Some(cell)) if outcome.ret.is_ok() => Some(cell.byte() as i64),
            _ => outcome.ret.ok(),
        },
        _ => None,
    }
}

/// A private and a shared mapping, both swapped out, the private one shared with a child; in and out again, and the end.
fn story(m: &mut Machine, swapoff: bool) {
    let main = m.main_task();
    run(m, main, Op::Swapon { slots: 4 });
    run(m, main, Op::MemfdCreate { sealing: false });
    run(m, main, Op::Ftruncate { fd: 3, length: 8192 });
    run(m, main, mmap(PRIVATE, 3, MAP_PRIVATE | MAP_ANONYMOUS, None));
    run(m, main, mmap(SHARED, 2, MAP_SHARED, Some(3)));
    for (addr, value) in [(PRIVATE, 1), (PRIVATE + 0x1000, 2), (SHARED, 3)] {
        run(m, main, Op::Store { addr, value });
    }
    run(m, main, pageout(PRIVATE, 3));
    run(m, main, pageout(SHARED, 2));
    run(m, main, Op::Fork);
    if let Some(child) = m.task(1) {
        run(m, child, Op::Store { addr: PRIVATE, value: 4 });
        run(m, child, Op::Load { addr: PRIVATE + 0x1000 });
        run(m, child, pageout(PRIVATE, 3));
        run(m, child, Op::Load { addr: SHARED });
    }
    run(m, main, Op::Reclaim { fd: 3, offset: 0 });
    run(m, main, Op::Munmap { addr: PRIVATE + 0x1000, len: 4096 });
    run(m, main, Op::Store { addr: PRIVATE, value: 5 });
    if swapoff {
        run(m, main, Op::Swapoff);
    }
}

fn nothing_left(m: &mut Machine, what: &str) {
    m.exit_all();
    let s = m.k.s();
    assert!(s.anon_vmas.is_empty(), "{what}: {:?}", s.anon_vmas);
    assert!(s.swap.iter().all(|slot| slot.count == 0 && !slot.has_cache && slot.cache.is_none()), "{what}: {:?}", s.swap);
    assert!(s.mem_map.iter().all(|page| page.refcount == 0), "{what}: {:?}", s.mem_map);
    assert!(s.held.is_empty(), "{what}: {:?}", s.held);
}

#[test]
fn each_failure_leaves_everything_counted() {
    let mut m = Machine::new(Revision::Merged, Config::default());
    story(&mut m, false);
    let sites = m.k.run.fallible.get();
    assert!(sites > 30, "{sites}");
    for n in 0..sites {
        let mut m = Machine::new(Revision::Merged, Config::default());
        *m.k.run.fail_at.borrow_mut() = vec![n];
        m.k.run.tracing.set(true);
        story(&mut m, false);
        let what = format!("failure {n}: {:?}", m.k.run.fail_sites.borrow().get(n as usize));
        nothing_left(&mut m, &what);
        assert!(m.k.run.findings.borrow().is_empty(), "{what}: {:?}", m.k.run.findings.borrow());
    }
}

#[test]
fn swapoff_brings_everything_back() {
    let mut m = Machine::new(Revision::Merged, Config::default());
    story(&mut m, true);
    let (main, child) = (m.main_task(), m.task(1).unwrap());
    assert!(!m.k.s().swap_on && m.k.s().swap.is_empty());
    assert_eq!(run(&mut m, main, Op::Load { addr: PRIVATE }), Some(5));
    assert_eq!(run(&mut m, main, Op::Load { addr: SHARED }), Some(3));
    assert_eq!(run(&mut m, child, Op::Load { addr: PRIVATE }), Some(4));
    assert_eq!(run(&mut m, child, Op::Load { addr: PRIVATE + 0x1000 }), Some(2));
    assert_eq!(run(&mut m, main, Op::Swapoff), None);
    nothing_left(&mut m, "swapoff");
    assert!(m.k.run.findings.borrow().is_empty(), "{:?}", m.k.run.findings.borrow());
}

#[test]
fn a_full_device_keeps_the_rest_in_memory() {
    let mut m = Machine::new(Revision::Merged, Config::default());
    let main = m.main_task();
    run(&mut m, main, Op::Swapon { slots: 1 });
    run(&mut m, main, mmap(PRIVATE, 2, MAP_PRIVATE | MAP_ANONYMOUS, None));
    for (addr, value) in [(PRIVATE, 1), (PRIVATE + 0x1000, 2)] {
        run(&mut m, main, Op::Store { addr, value });
    }
    // A young page is kept the first time (MADV_PAGEOUT makes it old itself).
    assert_eq!(run(&mut m, main, pageout(PRIVATE, 2)), Some(0));
    assert_eq!(m.k.s().mem_map.iter().filter(|page| page.refcount > 0).count(), 1);
    assert_eq!(run(&mut m, main, Op::Load { addr: PRIVATE }), Some(1));
    assert_eq!(run(&mut m, main, Op::Load { addr: PRIVATE + 0x1000 }), Some(2));
    nothing_left(&mut m, "full");
    assert!(m.k.run.findings.borrow().is_empty(), "{:?}", m.k.run.findings.borrow());
}

#[test]
fn a_slot_that_is_freed_twice_is_reported() {
    let mut m = Machine::new(Revision::Merged, Config::default());
    let main = m.main_task();
    run(&mut m, main, Op::Swapon { slots: 1 });
    let entry = faultline::mm::swapfile::get_swap_page(&m.k).unwrap();
    assert_eq!(faultline::mm::swapfile::get_swap_page(&m.k), None);
    faultline::mm::swapfile::put_swap_page(&m.k, entry);
    assert!(m.k.run.findings.borrow().is_empty());
    faultline::mm::swapfile::swap_free(&m.k, entry);
    assert_eq!(m.k.run.findings.borrow()[0].symptom, Symptom::BadSwapCount);
}

/// Four operations at once, under schedules drawn from a seed: nothing is lost, nobody waits for ever, no lock is misused.
#[test]
fn faults_reclaim_and_swapoff_at_once() {
    for seed in 1..400u64 {
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |n: usize| {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            (rng >> 33) as usize % n
        };
        let mut m = Machine::new(Revision::Merged, Config::default());
        story(&mut m, false);
        let (main, child) = (m.main_task(), m.task(1).unwrap());
        let (second, third) = (m.spawn_thread(main), m.spawn_thread(child));
        let all = [
            Op::Store { addr: PRIVATE, value: 6 },
            Op::Load { addr: SHARED },
            pageout(PRIVATE, 3),
            pageout(SHARED, 2),
            Op::Reclaim { fd: 3, offset: 0 },
            Op::Swapoff,
            Op::Load { addr: PRIVATE + 0x2000 },
            Op::Munmap { addr: SHARED, len: 4096 },
        ];
        m.k.run.preempt.set(true);
        for task in [main, second, child, third] {
            let op = &all[draw(all.len())];
            m.start(task, op).unwrap();
        }
        for _ in 0..5000 {
            let runnable = m.runnable();
            if runnable.is_empty() {
                break;
            }
            m.step(runnable[draw(runnable.len())]);
        }
        m.k.run.preempt.set(false);
        m.settle();
        let done = m.take_completed();
        let what = format!("seed {seed}: {done:?}");
        assert_eq!(done.len(), 4, "{what}: {:?}", m.k.run.findings.borrow());
        for (task, values) in [(main, [5, 6]), (child, [4, 6])] {
            let value = run(&mut m, task, Op::Load { addr: PRIVATE });
            assert!(values.map(Some).contains(&value), "{what}: {value:?}");
        }
        assert_eq!(run(&mut m, child, Op::Load { addr: PRIVATE + 0x1000 }), Some(2), "{what}");
        nothing_left(&mut m, &what);
        assert!(m.k.run.findings.borrow().is_empty(), "{what}: {:?}", m.k.run.findings.borrow());
    }
}
