// SPDX-License-Identifier: GPL-2.0-only
//! A scenario in a tested process, step by step.

use super::observe::{Depth, Frames, Observer};
use super::worker::{Bench, IN_A_ROW, Stopped, Tested, may_go_on};
use super::{Seen, Swap, sys};
use crate::observe::Moment;
use crate::scenario::{Call, Scenario, Step};
use crate::syscall::Op;

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Before this step nothing is looked at.
    pub from: usize,
    /// What the last step left behind is looked at, whichever that is.
    pub end: bool,
    /// How closely; after the last step in any case at everything.
    pub depth: Depth,
    /// Reclaim that is not possible is left out.
    pub lenient: bool,
    /// In a process that nothing else has run in.
    pub new: bool,
}

impl How {
    /// Everything is looked at after each step, and must be possible.
    pub const CLOSELY: How = How { from: 0, end: false, depth: Depth::Whole, lenient: false, new: true };
}

/// Run a scenario in a tested process.
pub(super) fn carry_out(bench: &Bench, frames: &Frames, scenario: &Scenario, swap: &Swap, how: &How) -> Seen {
    let mut seen = Seen::default();
    sys::urgent(true);
    let done = steps(bench, frames, scenario, swap, how, &mut seen);
    sys::urgent(false);
    seen.stopped = done.err();
    seen
}

fn steps(bench: &Bench, frames: &Frames, scenario: &Scenario, swap: &Swap, how: &How, seen: &mut Seen) -> Result<(), Stopped> {
    let mut tested = Tested::start(bench, scenario.threads.len(), scenario.initial_threads, how.new)?;
    let observer = Observer::new(frames, scenario, &mut tested);
    let mut run = Run { scenario, swap, how, tested, observer, ranges: Vec::new(), seen };
    let mut n = 0;
    while n < scenario.steps.len() {
        let taken = run.several(n)?;
        if taken == 0 {
            run.one(n)?;
        }
        n += taken.max(1);
    }
    run.end();
    // Files that are looked through go first.
    let subject = run.observer.into_subject(run.tested.pid);
    run.tested.give_back(scenario, subject);
    Ok(())
}

struct Run<'a, 's> {
    scenario: &'a Scenario,
    swap: &'a Swap,
    how: &'a How,
    tested: Tested<'a>,
    observer: Observer<'a>,
    /// Of which mincore(2) was asked in the last look.
    ranges: Vec<(u64, u64)>,
    seen: &'s mut Seen,
}

impl Run<'_, '_> {
    /// As many of the steps from the n-th on as one thread can take without anybody looking in between, if they are more than one:
    /// nobody is blocked whom they could wake. Says how many were taken; where one blocks, it is the last.
    fn several(&mut self, n: usize) -> Result<usize, Stopped> {
        let steps = &self.scenario.steps[n..self.how.from.clamp(n, self.scenario.steps.len())];
        let calls = steps.iter().map_while(|step| match step {
            Step::Op(call) if may_go_on(&call.op) => Some(call),
            _ => None,
        });
        let thread = match steps.first() {
            Some(Step::Op(call)) if self.tested.is_ready(call.thread) && self.tested.blocked().next().is_none() => call.thread,
            _ => return Ok(0),
        };
        let ops: Vec<&Op> = calls.take(IN_A_ROW).take_while(|call| call.thread == thread).map(|call| &call.op).collect();
        if ops.len() < 2 {
            return Ok(0);
        }
        self.tested.post(thread, &ops, None, &[]);
        self.tested.settle()?;
        let ended: Vec<_> = self.tested.ended()?.into_iter().filter_map(|(_, outcome)| outcome).collect();
        let (all, mut taken) = (ops.len(), ended.len());
        self.seen.moments.extend(ended.into_iter().map(|outcome| Moment { outcome: Some(outcome), ..Moment::default() }));
        if taken < all {
            let blocked = self.tested.blocked().map(|(thread, _)| thread).collect();
            self.seen.moments.push(Moment { blocked, ..Moment::default() });
            taken += 1;
        }
        Ok(taken)
    }

    /// The n-th step.
    fn one(&mut self, n: usize) -> Result<(), Stopped> {
        let mut moment = Moment::default();
        let call = match &self.scenario.steps[n] {
            Step::Op(call) => Some(call),
            _ => None,
        };
        if let Some(call) = call
            && !self.act(call, &mut moment)?
        {
            self.seen.left_out.push(n);
            return Ok(());
        }
        moment.blocked = self.tested.blocked().map(|(thread, _)| thread).collect();
        if n >= self.how.from {
            moment.seen = match (call, self.seen.moments.last()) {
                // Nothing has happened since.
                (None, Some(last)) => last.seen.clone(),
                _ => {
                    let op = call.filter(|_| n > self.how.from).map(|call| &call.op);
                    let depth = if n + 1 < self.scenario.steps.len() { self.how.depth } else { Depth::Whole };
                    self.observer.look(&self.tested, op, &moment, depth, &mut self.ranges)
                }
            };
        }
        self.seen.moments.push(moment);
        Ok(())
    }

    /// Carry out an operation, and wait for what comes of it. False if this kernel cannot be asked for it.
    fn act(&mut self, call: &Call, moment: &mut Moment) -> Result<bool, Stopped> {
        let lenient = self.how.lenient;
        let tested = &mut self.tested;
        let by_us = match call.op {
            _ if !tested.is_ready(call.thread) => None,
            Op::Reclaim { fd, offset } => match self.observer.reclaim(tested, call.thread, fd, offset) {
                Err(Stopped::Machine(_)) if lenient => return Ok(false),
                outcome => Some(outcome?),
            },
            Op::Kill { task, .. } if lenient && !tested.blocked().any(|(thread, _)| thread == usize::from(task)) => {
                return Ok(false);
            }
            _ => self.swap.carry_out(&call.op).transpose()?,
        };
        match by_us {
            Some(outcome) => moment.outcome = Some(outcome),
            None => tested.post(call.thread, &[&call.op], call.child, &self.ranges),
        }
        tested.settle()?;
        for (thread, outcome) in tested.ended()? {
            match outcome {
                Some(outcome) if thread == call.thread => moment.outcome = Some(outcome),
                Some(outcome) => moment.resumed.push((thread, outcome)),
                None => {}
            }
        }
        Ok(true)
    }

    /// No more steps.
    fn end(&mut self) {
        if let Some(last) = self.seen.moments.last_mut().filter(|last| self.how.end && last.seen.0.is_empty()) {
            last.seen = self.observer.look(&self.tested, None, &Moment::default(), Depth::Whole, &mut self.ranges);
        }
    }
}
