// SPDX-License-Identifier: GPL-2.0-only
//! The same scenarios on the running kernel.
//!
//! | module | what |
//! |---|---|
//! | `plan` | which scenarios the running kernel can be asked |
//! | `crew` | workers: processes that test |
//! | `worker` | a tested process: its threads, who is blocked, how an operation ended |
//! | `observe` | what is seen of it after each operation |
//! | `guard` | swap, and that nothing of it stays behind |
//! | `random` | random programs, on both sides |
//! | `sys` | everything that is unsafe |
//!
//! [`Live::run`] gives the same [`Moment`]s that [`moments`](crate::replay::moments) gives of the model, and
//! [`compare`](crate::observe::compare) tells them apart.

mod crew;
mod guard;
mod observe;
mod plan;
pub mod random;
mod sys;
mod worker;

pub use guard::Guard;
pub use plan::{Obstacle, obstacle};
pub use worker::Stopped;

use crate::kernel::PAGE_SIZE;
use crate::observe::{Difference, Moment, compare};
use crate::patch::Revision;
use crate::recorded::revision_of;
use crate::replay::{BrokenAt, moments_and_rules};
use crate::scenario::{MachineSpec, Scenario, Step};
use crate::syscall::{Op, Out, Outcome};
use crew::{Heard, Teller};
use observe::{Frames, Observer};
use std::time::Duration;
use worker::{Bench, Tested};

/// Something that the machine lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// What, and how that was noticed.
    pub what: String,
    /// How to get it.
    pub remedy: &'static str,
}

/// The machine that faultline runs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The kernel's release, as uname(2) gives it.
    pub release: String,
    /// The revision that models it: the newest release that is not newer. None if the kernel is older than all of them.
    pub revision: Option<Revision>,
    /// CPUs that may be used.
    pub cpus: Vec<usize>,
}

impl Host {
    /// Look around. An error lists everything that stands in the way.
    pub fn look() -> Result<Host, Vec<Missing>> {
        let mut missing = Vec::new();
        let mut lacks = |what: String, remedy| missing.push(Missing { what, remedy });
        if !sys::is_root() {
            lacks("not root".to_owned(), "run it as root (sudo): frame numbers, swap and process namespaces need that");
        }
        if let Err(e) = sys::try_userfaultfd() {
            let remedy = match e.raw_os_error() {
                Some(libc::ENOSYS) => "a kernel with CONFIG_USERFAULTFD=y",
                _ => "CAP_SYS_PTRACE, and a container runtime that lets userfaultfd(2) through its seccomp filter",
            };
            lacks(format!("userfaultfd(2): {e}"), remedy);
        }
        if let Err(e) = Frames::open() {
            lacks(format!("/proc/kpageflags: {e}"), "CAP_SYS_ADMIN, and a kernel with CONFIG_PROC_PAGE_MONITOR=y");
        }
        match sys::new_pids().and_then(|own| sys::back_to_pids(&own)) {
            Ok(()) => {}
            Err(e) => lacks(
                format!("a PID namespace: {e}"),
                "CAP_SYS_ADMIN (in a container: --privileged), and a kernel with CONFIG_PID_NS=y",
            ),
        }
        if missing.is_empty() {
            let release = sys::release();
            Ok(Host { revision: revision_of(&release), release, cpus: sys::cpus() })
        } else {
            Err(missing)
        }
    }
}

/// What the running kernel did with a scenario.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Seen {
    /// Step by step, as far as it got.
    pub moments: Vec<Moment>,
    /// Why it got no further.
    pub stopped: Option<Stopped>,
    /// Steps that were left out because this kernel cannot be asked for them; they have no moments.
    pub left_out: Vec<usize>,
}

/// The two sides of a scenario.
#[derive(Clone, Debug)]
pub struct Sides {
    /// What the model of the kernel says.
    pub model: Vec<Moment>,
    /// What the kernel did.
    pub kernel: Seen,
    /// The first step after which they differ, with all differences then.
    pub first: Option<(usize, Vec<Difference>)>,
    /// Rules that the model breaks.
    pub broken: Vec<BrokenAt>,
}

impl Sides {
    /// Put them side by side. Before the step `from` nothing was looked at.
    pub fn of(scenario: &Scenario, revision: Revision, mut kernel: Seen, from: usize) -> Sides {
        let (model, broken) = moments_and_rules(scenario, revision, &[], from);
        let mut first = None;
        for (step, (m, k)) in model.iter().zip(&mut kernel.moments).enumerate() {
            excuse(m, k);
            if first.is_none() {
                let differences = compare(m, k);
                first = (!differences.is_empty()).then_some((step, differences));
            }
        }
        Sides { model, kernel, first, broken }
    }

    /// No difference, and all was seen.
    pub fn agree(&self) -> bool {
        self.first.is_none() && self.kernel.stopped.is_none()
    }
}

/// What the model does not know is no difference: bytes that it does not watch, and those that a frame's last owner left.
fn excuse(model: &Moment, kernel: &mut Moment) {
    let one = |m: &Outcome, k: &mut Outcome| match (&m.out, &mut k.out) {
        (Out::Byte(None), Out::Byte(k)) => *k = None,
        (Out::Byte(Some(m)), Out::Byte(Some(k))) if m.is_stale() => *k = *m,
        (Out::Data(m), Out::Data(k)) if k.iter().all(Option::is_none) => *k = *m,
        (Out::Data(m), Out::Data(k)) => {
            for (m, k) in m.iter().zip(k) {
                match m {
                    None => *k = None,
                    Some(cell) if cell.is_stale() => *k = Some(*cell),
                    _ => {}
                }
            }
        }
        _ => {}
    };
    if let (Some(m), Some(k)) = (&model.outcome, &mut kernel.outcome) {
        one(m, k);
    }
    for (thread, k) in &mut kernel.resumed {
        if let Some((_, m)) = model.resumed.iter().find(|(t, _)| t == thread) {
            one(m, k);
        }
    }
}

/// Runs scenarios on the running kernel, one after the other.
pub struct Live {
    host: Host,
    guard: Option<Guard>,
    swap: u64,
    fault_around: Option<u64>,
}

impl Live {
    /// Nothing is arranged yet.
    pub fn new(host: Host) -> Live {
        Live { host, guard: None, swap: 0, fault_around: None }
    }

    /// Make the machine as a scenario wants it. An error says why that is not possible.
    pub fn arrange(&mut self, machine: &MachineSpec) -> Result<(), String> {
        let swap = machine.swap.into();
        let fault_around =
            (machine.fault_around != MachineSpec::default().fault_around).then_some(machine.fault_around * PAGE_SIZE);
        if (swap, fault_around) == (self.swap, self.fault_around) {
            return Ok(());
        }
        let guard = match &mut self.guard {
            Some(guard) => guard,
            none => none.insert(Guard::start()?),
        };
        if swap != self.swap {
            guard.swap(swap)?;
            self.swap = swap;
        }
        if fault_around != self.fault_around {
            guard.fault_around(fault_around)?;
            self.fault_around = fault_around;
        }
        Ok(())
    }

    /// Run a scenario that has no [`obstacle`].
    pub fn run(&mut self, scenario: &Scenario) -> Seen {
        let machine = |why: String| Seen { stopped: Some(Stopped::Machine(why)), ..Seen::default() };
        if let Err(why) = self.arrange(&scenario.machine) {
            return machine(why);
        }
        let cpu = self.host.cpus.first().copied().unwrap_or(0);
        let worker = crew::start(cpu, |bench: &Bench, frames: &Frames, teller: &mut Teller<Seen>| {
            teller.tell(&carry_out(bench, frames, scenario, 0, false));
        });
        let mut workers = match worker {
            Ok(worker) => [worker],
            Err(e) => return machine(e.to_string()),
        };
        loop {
            match crew::listen(&mut workers, Duration::from_secs(1)) {
                Heard::Told(_, seen) => return seen,
                Heard::Over(_, why) => return machine(why.unwrap_or_else(|| "the worker died".to_owned())),
                Heard::Nothing => {}
            }
        }
    }
}

/// Run a scenario in a new tested process. Before `from` nothing is looked at. With `lenient`, reclaim that is not possible is left
/// out.
fn carry_out(bench: &Bench, frames: &Frames, scenario: &Scenario, from: usize, lenient: bool) -> Seen {
    let mut seen = Seen::default();
    if let Err(stopped) = steps(bench, frames, scenario, from, lenient, &mut seen) {
        seen.stopped = Some(stopped);
    }
    seen
}

fn steps(
    bench: &Bench,
    frames: &Frames,
    scenario: &Scenario,
    from: usize,
    lenient: bool,
    seen: &mut Seen,
) -> Result<(), Stopped> {
    let mut tested = Tested::start(bench, scenario.threads.len(), scenario.initial_threads)?;
    let mut observer = Observer::new(frames, scenario, &tested);
    for (n, step) in scenario.steps.iter().enumerate() {
        let mut moment = Moment::default();
        let mut op = None;
        if let Step::Op(call) = step {
            op = Some(&call.op);
            let by_us = match call.op {
                Op::Reclaim { fd, offset } => match observer.reclaim(&tested, fd, offset) {
                    Err(Stopped::Machine(_)) if lenient => {
                        seen.left_out.push(n);
                        continue;
                    }
                    outcome => Some(outcome?),
                },
                _ => None,
            };
            match by_us {
                Some(outcome) => moment.outcome = Some(outcome),
                None => {
                    tested.post(call.thread, &call.op, call.child);
                }
            }
            tested.settle()?;
            for (thread, outcome) in tested.ended()? {
                match outcome {
                    Some(outcome) if thread == call.thread => moment.outcome = Some(outcome),
                    Some(outcome) => moment.resumed.push((thread, outcome)),
                    None => {}
                }
            }
        }
        moment.blocked = tested.blocked().map(|(thread, _)| thread).collect();
        if n >= from {
            moment.seen = match (op, seen.moments.last()) {
                // Nothing has happened since.
                (None, Some(last)) => last.seen.clone(),
                _ => observer.look(&tested, op.filter(|_| n > from)),
            };
        }
        seen.moments.push(moment);
    }
    Ok(())
}
