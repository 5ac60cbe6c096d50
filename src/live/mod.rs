// SPDX-License-Identifier: GPL-2.0-only
//! The same scenarios on the running kernel.
//!
//! | module | what |
//! |---|---|
//! | `plan` | which scenarios the running kernel can be asked |
//! | `crew` | workers: processes that test |
//! | `worker` | a tested process: its threads, who is blocked, how an operation ended |
//! | `observe` | what is seen of it after each operation |
//! | `run` | a scenario in it, step by step |
//! | `guard` | swap, and that nothing of it stays behind |
//! | `random` | random programs, on both sides |
//! | `sys` | everything that is unsafe |
//!
//! [`Live::run`] gives the same [`Moment`]s that [`moments`](crate::replay::moments) gives of the model, and
//! [`compare()`] tells them apart.

mod crew;
mod guard;
mod observe;
mod plan;
pub mod random;
mod record;
mod run;
mod sys;
mod worker;

pub use guard::Guard;
pub use plan::{Obstacle, obstacle};
pub use record::record;
pub use worker::Stopped;

use crate::errno::Errno;
use crate::kernel::PAGE_SIZE;
use crate::observe::{self as seen_by, Difference, Moment, compare};
use crate::patch::Revision;
use crate::recorded::revision_of;
use crate::replay::{BrokenAt, moments_and_rules};
use crate::scenario::{MachineSpec, Scenario, Step};
use crate::syscall::{Op, Out, Outcome, Signal};
use crew::{Heard, Teller};
use observe::Frames;
use run::{How, carry_out};
use std::path::PathBuf;
use std::time::Duration;
use worker::Bench;

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
    pub fn of(scenario: &Scenario, revision: Revision, kernel: Seen, from: usize) -> Sides {
        let (model, broken) = moments_and_rules(scenario, revision, &[], from, false);
        Sides::beside(scenario, revision, (model, broken), kernel, from)
    }

    /// The same, where the model's side is known already. Which of several threads that one call wakes comes first is not for either
    /// side to decide: the model may take them the other way round.
    fn beside(scenario: &Scenario, revision: Revision, model: (Vec<Moment>, Vec<BrokenAt>), kernel: Seen, from: usize) -> Sides {
        let sides = Sides::in_order(scenario, model, kernel);
        if sides.verdict() != Verdict::Differ {
            return sides;
        }
        let model = moments_and_rules(scenario, revision, &[], from, true);
        let other = Sides::in_order(scenario, model, sides.kernel.clone());
        if other.verdict() == Verdict::Agree { other } else { sides }
    }

    fn in_order(scenario: &Scenario, (model, broken): (Vec<Moment>, Vec<BrokenAt>), mut kernel: Seen) -> Sides {
        let mut first = None;
        for (step, (m, k)) in model.iter().zip(&mut kernel.moments).enumerate() {
            excuse(m, k);
            if let Some(Step::Op(call)) = scenario.steps.get(step) {
                excuse_stack(&call.op, m, k);
            }
            if first.is_none() {
                let differences = compare(m, k);
                first = (!differences.is_empty()).then_some((step, differences));
            }
        }
        Sides { model, kernel, first, broken }
    }

    /// In a word.
    pub fn verdict(&self) -> Verdict<'_> {
        match (&self.first, &self.kernel.stopped) {
            (Some(_), _) => Verdict::Differ,
            // An operation that never ends, as the model says that it does not.
            (None, Some(Stopped::Stuck(_))) if self.broken.iter().any(|b| b.rule == ENDLESS) => Verdict::Agree,
            (None, Some(stopped @ Stopped::Machine(_))) => Verdict::NotAsked(stopped),
            (None, Some(_)) => Verdict::Differ,
            (None, None) => Verdict::Agree,
        }
    }

    /// Rules that the kernel breaks: the model says so, and the kernel does what the model does.
    pub fn findings(&self) -> impl Iterator<Item = &BrokenAt> {
        let agree = self.verdict() == Verdict::Agree;
        // A loop without an end has no answer to compare: the kernel must have been seen in it.
        let stuck = matches!(self.kernel.stopped, Some(Stopped::Stuck(_)));
        self.broken.iter().filter(move |b| agree && (stuck || b.rule != ENDLESS))
    }
}

/// The rule against operations that never end.
const ENDLESS: &str = "no-endless-loop";

/// How the two sides compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'s> {
    /// In all that was seen.
    Agree,
    /// In something.
    Differ,
    /// They agree as far as the kernel could be asked.
    NotAsked(&'s Stopped),
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
        // Without CONFIG_MEMORY_FAILURE the kernel has no other signal for poison.
        (Out::Signal { sig: Signal::SIGBUS_MCEERR_AR, addr: m }, Out::Signal { sig: sig @ Signal::SIGBUS, addr: k })
            if m == k =>
        {
            *sig = Signal::SIGBUS_MCEERR_AR;
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
    swap: Swap,
    fault_around: Option<u64>,
}

/// The swap device of a scenario.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Swap {
    /// Its pages; 0 if there is none.
    slots: u64,
    /// It is on when the scenario begins.
    on: bool,
    /// Where it is.
    path: PathBuf,
}

impl Swap {
    fn of(scenario: &Scenario) -> (u64, bool) {
        let later = scenario.calls().find_map(|c| match c.op {
            Op::Swapon { slots } => Some(slots.into()),
            _ => None,
        });
        match u64::from(scenario.machine.swap) {
            0 => (later.unwrap_or(0), false),
            slots => (slots, true),
        }
    }

    /// swapon and swapoff, which the watcher does: only this device is a scenario's business.
    fn carry_out(&self, op: &Op) -> Option<Result<Outcome, Stopped>> {
        let done = match *op {
            Op::Swapon { slots } if u64::from(slots) == self.slots => sys::swapon(&self.path),
            Op::Swapon { .. } => {
                return Some(Err(Stopped::Machine("swap devices of several sizes in one scenario".to_owned())));
            }
            // Without a device there is nothing to switch off.
            Op::Swapoff if self.slots == 0 => return Some(Ok(Outcome::err(Errno::EINVAL))),
            Op::Swapoff => sys::swapoff(&self.path),
            _ => return None,
        };
        Some(match done.map_err(|e| e.raw_os_error().unwrap_or(0)) {
            Ok(()) => Ok(Outcome::ok(0)),
            Err(number) => match Errno::ALL.iter().find(|e| e.num() == i64::from(number)) {
                Some(errno) => Ok(Outcome::err(*errno)),
                None => Err(Stopped::Unsaid(format!("errno {number} from swapon or swapoff"))),
            },
        })
    }
}

impl Live {
    /// Nothing is arranged yet.
    pub fn new(host: Host) -> Live {
        Live { host, guard: None, swap: Swap::default(), fault_around: None }
    }

    /// Make the machine as a scenario wants it. An error says why that is not possible.
    pub fn arrange(&mut self, scenario: &Scenario) -> Result<(), String> {
        let machine = &scenario.machine;
        let (slots, on) = Swap::of(scenario);
        let fault_around =
            (machine.fault_around != MachineSpec::default().fault_around).then_some(machine.fault_around * PAGE_SIZE);
        // A scenario may have left the device off.
        let switched = scenario.calls().any(|c| matches!(c.op, Op::Swapon { .. } | Op::Swapoff));
        let as_it_is = (slots, on) == (self.swap.slots, self.swap.on) && !(switched && slots > 0);
        if as_it_is && fault_around == self.fault_around {
            return Ok(());
        }
        let guard = match &mut self.guard {
            Some(guard) => guard,
            none => none.insert(Guard::start()?),
        };
        if !as_it_is {
            self.swap = Swap::default();
            let path = if on || slots == 0 { guard.swap(slots)? } else { guard.prepare(slots)? };
            // What was switched in the middle is not trusted again.
            self.swap = Swap { slots, on: on && !switched, path };
        }
        if fault_around != self.fault_around {
            guard.fault_around(fault_around)?;
            self.fault_around = fault_around;
        }
        Ok(())
    }

    /// A scenario that has no [`obstacle`] on both sides. If they differ it is run once more: what is not seen a second time says
    /// nothing of the model.
    pub fn compare(&mut self, scenario: &Scenario, revision: Revision) -> Sides {
        let sides = Sides::of(scenario, revision, self.run(scenario), 0);
        if sides.verdict() == Verdict::Agree {
            return sides;
        }
        let again = Sides::of(scenario, revision, self.run(scenario), 0);
        if again.verdict() == Verdict::Agree { again } else { sides }
    }

    /// Run a scenario that has no [`obstacle`].
    pub fn run(&mut self, scenario: &Scenario) -> Seen {
        let machine = |why: String| Seen { stopped: Some(Stopped::Machine(why)), ..Seen::default() };
        if let Err(why) = self.arrange(scenario) {
            return machine(why);
        }
        let cpu = self.host.cpus.first().copied().unwrap_or(0);
        let swap = &self.swap;
        let worker = crew::start(cpu, |bench: &Bench, frames: &Frames, teller: &mut Teller<Seen>| {
            teller.tell(&carry_out(bench, frames, scenario, swap, &How::CLOSELY));
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

/// A running process has its stack above everything; a scenario's has nothing there unless it is mapped. Whose memory the
/// userfaultfd is for cannot be seen here: it is enough that one process has nothing there.
fn excuse_stack(op: &Op, model: &Moment, kernel: &mut Moment) {
    let (Op::UffdRegister { start, .. } | Op::UffdUnregister { start, .. }) = op else { return };
    let mut mappings = model.seen.0.values().filter_map(|s| match s {
        seen_by::Seen::Vmas(all) => Some(all),
        _ => None,
    });
    let nothing = mappings.clone().next().is_none() || mappings.any(|all| all.iter().all(|v| v.end <= *start));
    let no_memory = Some(Outcome::err(Errno::ENOMEM));
    if nothing && model.outcome == no_memory && kernel.outcome == Some(Outcome::err(Errno::EINVAL)) {
        kernel.outcome = no_memory;
    }
}
