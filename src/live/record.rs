// SPDX-License-Identifier: GPL-2.0-only
//! What the running kernel did, as a scenario that expects just that.

use super::Seen;
use crate::observe::{Key, Observation};
use crate::scenario::{Call, Expect, Expected, ExpectedRet, Look, Place, Scenario, Step};
use crate::syscall::{Op, Outcome};

/// The scenario with the kernel's results, as far as it got, and with what could be seen: all of it where it is new or has changed.
pub fn record(scenario: &Scenario, seen: &Seen) -> Scenario {
    let mut recorded = Scenario { claims: Vec::new(), steps: Vec::new(), ..scenario.clone() };
    let mut last = Observation::default();
    let mut open: Vec<Option<&Op>> = vec![None; scenario.threads.len()];
    for (step, moment) in scenario.steps.iter().zip(&seen.moments) {
        // The lines that tell how an unfinished operation ended are made anew, as are those of what can be seen.
        let Step::Op(call) = step else { continue };
        let expect = match &moment.outcome {
            Some(outcome) => expected(&call.op, outcome),
            None if moment.blocked.contains(&call.thread) => Expect::Blocked,
            None => Expect::Any,
        };
        recorded.steps.push(Step::Op(Call { expect, ..call.clone() }));
        open[call.thread] = Some(&call.op);
        for (thread, outcome) in &moment.resumed {
            let expect = open[*thread].map_or(Expect::Any, |op| expected(op, outcome));
            recorded.steps.push(Step::Resumed { line: 0, thread: *thread, expect });
        }
        for (key, now) in &moment.seen.0 {
            let (thread, place) = match *key {
                Key::File(fd) => (0, Place::File(fd)),
                Key::FilePage(fd, index) => (0, Place::FilePage(fd, index)),
                Key::Page(who, addr) => (who.into(), Place::Page(addr)),
                Key::Vmas(who) => (who.into(), Place::Maps(None)),
                // Nothing of it is seen on a running kernel.
                Key::Rss(_) => continue,
            };
            if last.0.get(key) != Some(now) {
                recorded.steps.push(Step::Seen(Look { line: 0, thread, place, seen: Some(now.clone()) }));
            }
        }
        last = moment.seen.clone();
    }
    recorded
}

fn expected(op: &Op, outcome: &Outcome) -> Expect {
    match (op, outcome.ret) {
        (Op::Fork, Ok(_)) => Expect::Is(Expected { ret: ExpectedRet::Success, out: None }),
        _ => Expect::Is(Expected::from(outcome)),
    }
}
