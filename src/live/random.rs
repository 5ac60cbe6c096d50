// SPDX-License-Identifier: GPL-2.0-only
//! Random programs on the model and on the running kernel.
//!
//! The programs are those of the property tests, one operation after the other. They run in a process that is used again where
//! nothing can be left in it, a difference once more in one of its own (see [`worker`](super::worker)), with a look after each
//! operation ([`Looks`]); workers on each CPU do the work, the model's side and the shrinking included. One program in eight runs
//! without swap.

use super::crew::{self, Heard, Teller, Worker};
use super::observe::{Depth, Frames};
use super::plan::of_op;
use super::run::{How, carry_out};
use super::worker::{Bench, Stopped};
use super::{ENDLESS, Guard, Host, Live, Seen, Sides, Swap, sys};
use crate::kernel::PAGE_SIZE;
use crate::observe::Difference;
use crate::patch::Revision;
use crate::random::{known, shrink};
use crate::replay::moments_and_rules;
use crate::scenario::generate::Program;
use crate::scenario::{Call, Scenario, Step, print};
use crate::syscall::{Advice, Op, UserBuf};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Pages of swap. All tested processes share it, so that no program can fill it.
const SWAP: u16 = 64;
/// Workers on each CPU. One waits for locks, wake-ups and unmounts much of the time.
const PER_CPU: usize = 3;
/// How many of a kind a worker makes small.
const SHRUNK: u64 = 1;

/// What the programs are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// What v5.14 knows.
    Series,
    /// What only later kernels know as well, as far as this one does.
    Later,
    /// Half of each.
    All,
}

impl Scope {
    /// Each with its name on the command line.
    pub const NAMES: [(&str, Scope); 3] = [("series", Scope::Series), ("later", Scope::Later), ("all", Scope::All)];
}

/// When memory is looked at. Looks cost more than what they look at, and what differs mostly stays so: of the differences that the
/// releases have among each other nearly all are there at the end, and looking only there finds them in half the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looks {
    /// After each operation.
    Each,
    /// After the last operation of a program; in one program of eight after each operation.
    Last,
    /// Never: only answers are compared.
    None,
}

impl Looks {
    /// Each with its name on the command line.
    pub const NAMES: [(&str, Looks); 3] = [("each", Looks::Each), ("last", Looks::Last), ("none", Looks::None)];

    /// Those of this program. Whether it has swap is another matter.
    fn of(self, n: u64) -> Looks {
        if self == Looks::Last && n / 8 % 8 == 3 { Looks::Each } else { self }
    }
}

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many programs.
    pub programs: u64,
    /// Which ones.
    pub seed: u64,
    /// The model.
    pub revision: Revision,
    /// What they are made of.
    pub scope: Scope,
    /// When memory is looked at, besides comparing what every operation answered.
    pub looks: Looks,
    /// Each in a process of its own: slower, and the same.
    pub fresh: bool,
}

/// A kind of difference, or a rule that the kernel breaks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Kind {
    /// How often it was met.
    pub count: u64,
    /// The smallest program that shows it.
    pub scenario: Scenario,
    /// After which of its steps.
    pub step: usize,
    /// What is not the same there, or how the rule is broken.
    pub differences: Vec<String>,
}

/// What came of it.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Programs run.
    pub programs: u64,
    /// Those that agree.
    pub agree: u64,
    /// Operations carried out, those that set the scene included.
    pub operations: u64,
    /// Operations that were left out on both sides: reclaim of pages that are mapped more than once, signals to threads that do
    /// nothing (these take them at once; in the model they wait for the thread's next operation).
    pub left_out: u64,
    /// Programs that were not run, for the model says that one of their operations never ends.
    pub endless: u64,
    /// Differences that were there once, and not when the program was run again.
    pub once: BTreeMap<String, u64>,
    /// Differences, by kind.
    pub kinds: BTreeMap<String, Kind>,
    /// Rules that the model of this kernel breaks while the kernel does the same, by rule.
    pub findings: BTreeMap<String, Kind>,
    /// Workers that died, with the number of the program.
    pub deaths: Vec<(u64, String)>,
    /// How long it took.
    pub took: Duration,
    /// It was interrupted.
    pub interrupted: bool,
}

#[derive(Serialize, Deserialize)]
enum Told {
    Begun(u64),
    /// Still at it: making a program small takes many runs.
    Alive,
    Done {
        agree: bool,
        operations: u64,
        left_out: u64,
        endless: bool,
        once: Option<String>,
    },
    Kind {
        name: String,
        finding: bool,
        kind: Box<Kind>,
    },
    Again {
        name: String,
        finding: bool,
    },
}

/// The n-th program of a seed.
pub fn program(seed: u64, n: u64, revision: Revision, scope: Scope) -> Program {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n);
    // The first numbers of neighbouring seeds are alike.
    for _ in 0..4 {
        rng.u64(..);
    }
    let mut bytes = vec![0; rng.usize(..400)];
    rng.fill(&mut bytes);
    let choices: [u8; 32] = std::array::from_fn(|_| rng.u8(..));
    let mut program = Program::from_bytes(&bytes);
    let later = rng.bool();
    if scope == Scope::Later || scope == Scope::All && later {
        program = program.of_later_kernels(revision, &choices);
    }
    program.schedule.clear();
    program.prologue.swap = if without_swap(n) { 0 } else { SWAP };
    adapt(program)
}

/// What this kernel cannot be asked is left out of a program.
fn adapt(mut program: Program) -> Program {
    // The tested processes share swap, and a fatal signal ends more than the one task that the model's programs mean.
    let not_here = |op: &Op| matches!(op, Op::Swapon { .. } | Op::Swapoff | Op::Kill { fatal: true, .. });
    program.ops.retain(|(_, op)| of_op(op).is_none() && !not_here(op));
    for (_, op) in &mut program.ops {
        align(op);
    }
    program
}

/// Let a source begin at the same place in its page as the destination: the model has four bytes of each page, and what they
/// become where the two are not aligned alike it can only guess.
fn align(op: &mut Op) {
    let (from, to) = match op {
        Op::Pwrite { buf: UserBuf::Addr(from), offset, .. } => (from, *offset),
        Op::UffdCopy { src: UserBuf::Addr(from), dst, .. } => (from, *dst),
        _ => return,
    };
    *from = *from & !(PAGE_SIZE - 1) | to & (PAGE_SIZE - 1);
}

fn without_swap(n: u64) -> bool {
    n % 8 == 7
}

/// A program on both sides.
struct Case {
    scenario: Scenario,
    sides: Sides,
    left_out: u64,
    endless: bool,
}

/// How a program is run on the kernel.
#[derive(Clone, Copy)]
struct Manner {
    /// There is no swap.
    dry: bool,
    /// In a process that nothing else has run in.
    new: bool,
    looks: Looks,
}

fn case(bench: &Bench, frames: &Frames, plan: &Plan, program: &Program, manner: Manner) -> Case {
    let Manner { dry, new, looks } = manner;
    // What is left of a program that was made small may have to be adapted again.
    let program = adapt(program.clone());
    let mut scenario = program.to_scenario();
    // Shrinking would take it away, but it is there.
    scenario.machine.swap = if dry { 0 } else { SWAP };
    let begun = program.prologue.ops().len();
    let from = |scenario: &Scenario| match looks {
        Looks::Each => begun - 1,
        Looks::Last => scenario.steps.len() - 1,
        Looks::None => usize::MAX,
    };
    let (model, broken) = moments_and_rules(&scenario, plan.revision, &[], from(&scenario), false);
    // An operation that never ends is not worth waiting for a thousand times: its scenario shows it.
    let may = |c: &Call| matches!(c.op, Op::Madvise { advice: Advice::MADV_GUARD_INSTALL, .. } | Op::Kill { .. });
    if broken.iter().any(|b| b.rule == ENDLESS) && scenario.calls().any(may) {
        let kernel = Seen { moments: model.clone(), ..Seen::default() };
        let sides = Sides { model, kernel, first: None, broken: Vec::new() };
        return Case { scenario, sides, left_out: 0, endless: true };
    }
    let depth = if new { Depth::Whole } else { Depth::Pages };
    let begin = if looks == Looks::Each { begun - 1 } else { usize::MAX };
    let how = How { from: begin, end: looks == Looks::Last, depth, lenient: true, new };
    let Seen { moments, stopped, left_out } = carry_out(bench, frames, &scenario, &Swap::default(), &how);
    let kernel = Seen { moments, stopped, left_out: Vec::new() };
    if left_out.is_empty() {
        let sides = Sides::beside(&scenario, plan.revision, (model, broken), kernel, from(&scenario));
        return Case { scenario, sides, left_out: 0, endless: false };
    }
    let mut n = 0;
    scenario.steps.retain(|_| {
        n += 1;
        !left_out.contains(&(n - 1))
    });
    let sides = Sides::of(&scenario, plan.revision, kernel, from(&scenario));
    Case { scenario, sides, left_out: left_out.len() as u64, endless: false }
}

impl Case {
    /// What a difference is counted by: the operation after which it is seen, and what is seen first.
    fn kind(&self) -> Option<(String, usize, Vec<String>)> {
        let name = |step: usize| match self.scenario.steps.get(step) {
            Some(Step::Op(call)) => short(&call.op),
            _ => "the end".to_owned(),
        };
        if let Some((step, differences)) = &self.sides.first {
            let first = differences.first().map_or("", |d| d.kind.as_str());
            return Some((
                format!("{first} after {}", name(*step)),
                *step,
                differences.iter().map(Difference::to_string).collect(),
            ));
        }
        let stopped = self.sides.kernel.stopped.as_ref()?;
        let what = match stopped {
            Stopped::Stuck(_) => "it never ends",
            Stopped::Died(_) => "the tested process died",
            Stopped::Unsaid(_) => "an answer that cannot be said",
            Stopped::Machine(_) => "the machine",
        };
        let step = self.sides.kernel.moments.len();
        Some((format!("{what} in {}", name(step)), step, vec![stopped.to_string()]))
    }
}

/// The operation without its arguments, but for what tells it from its like.
fn short(op: &Op) -> String {
    let text = print::op(op);
    let words = text.split(['(', ',', ' ', ')']).filter(|w| w.starts_with("UFFDIO_") || w.starts_with("MADV_"));
    let mut name = text.split('(').next().unwrap_or("").to_owned();
    for word in words.take(1) {
        name = word.to_owned();
    }
    name
}

/// What came of a program.
struct Judged {
    case: Case,
    /// How it was run in the end; whoever wants to see it again takes a new process.
    manner: Manner,
    /// A difference that was there the first time only.
    once: Option<String>,
}

/// Run a program; again, and more closely, if it differs or a promise is broken.
fn judge(bench: &Bench, frames: &Frames, plan: &Plan, n: u64, program: &Program) -> Judged {
    let looks = plan.looks.of(n);
    let manner = Manner { dry: without_swap(n), new: plan.fresh, looks };
    let first = case(bench, frames, plan, program, manner);
    let again = |looks| {
        let manner = Manner { new: true, looks, ..manner };
        Judged { case: case(bench, frames, plan, program, manner), manner, once: None }
    };
    match first.kind() {
        Some((name, ..)) => {
            let closely = (looks == Looks::Last).then(|| again(Looks::Each)).filter(|judged| judged.case.kind().is_some());
            let mut judged = closely.unwrap_or_else(|| again(looks));
            // What is not seen a second time says nothing of the model.
            judged.once = judged.case.kind().is_none().then_some(name);
            judged
        }
        // Does the kernel do the same on the way, too?
        None if looks == Looks::Last && !unknown(&first).is_empty() => again(Looks::Each),
        None => Judged { case: first, manner: Manner { new: true, ..manner }, once: None },
    }
}

fn work(bench: &Bench, frames: &Frames, teller: &mut Teller<Told>, plan: &Plan, numbers: impl Iterator<Item = u64>) {
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for n in numbers {
        teller.tell(&Told::Begun(n));
        let program = program(plan.seed, n, plan.revision, plan.scope);
        let Judged { case: this, manner, once } = judge(bench, frames, plan, n, &program);
        let (left_out, endless, kind) = (this.left_out, this.endless, this.kind());
        let operations = this.sides.kernel.moments.len() as u64;
        teller.tell_later(&Told::Done { agree: kind.is_none(), operations, left_out, endless, once });
        match kind {
            Some((name, ..)) => {
                let met = met.entry(name.clone()).or_default();
                *met += 1;
                if *met > SHRUNK {
                    teller.tell(&Told::Again { name, finding: false });
                    continue;
                }
                let same = |p: &Program| {
                    teller.tell(&Told::Alive);
                    case(bench, frames, plan, p, manner).kind().is_some_and(|(this, ..)| this == name)
                };
                let small = case(bench, frames, plan, &shrink(&program, same), manner);
                let Some((_, step, differences)) = small.kind() else {
                    teller.tell(&Told::Kind {
                        name: format!("not again: {name}"),
                        finding: false,
                        kind: Box::new(Kind { count: 1, scenario: this.scenario, step: 0, differences: Vec::new() }),
                    });
                    continue;
                };
                let kind = Box::new(Kind { count: 1, scenario: small.scenario, step, differences });
                teller.tell(&Told::Kind { name, finding: false, kind });
            }
            None => {
                // Both do the same; does the model say that a promise is broken?
                for rule in unknown(&this) {
                    let name = rule.to_owned();
                    let met = met.entry(format!("rule {name}")).or_default();
                    *met += 1;
                    if *met > SHRUNK {
                        teller.tell(&Told::Again { name, finding: true });
                        continue;
                    }
                    let same = |p: &Program| {
                        teller.tell(&Told::Alive);
                        let this = case(bench, frames, plan, p, manner);
                        this.kind().is_none() && unknown(&this).contains(&rule)
                    };
                    let small = case(bench, frames, plan, &shrink(&program, same), manner);
                    let broken = small.sides.broken.iter().filter(|b| b.rule == rule).map(|b| b.detail.clone()).collect();
                    let step = small.scenario.steps.len().saturating_sub(1);
                    let kind = Box::new(Kind { count: 1, scenario: small.scenario, step, differences: broken });
                    teller.tell(&Told::Kind { name, finding: true, kind });
                }
            }
        }
    }
    teller.flush();
}

/// Rules that are broken in a way that is not on record.
fn unknown(case: &Case) -> Vec<&'static str> {
    let mut rules: Vec<&'static str> = case.sides.broken.iter().filter(|b| known(b).is_none()).map(|b| b.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

impl Kind {
    /// As a scenario of its own, with the question that it asks.
    pub fn to_scenario(&self, question: &str) -> Scenario {
        let mut scenario = self.scenario.clone();
        scenario.question = question.to_owned();
        scenario.why = self.differences.iter().take(4).cloned().collect::<Vec<_>>().join("; ");
        scenario
    }
}

/// Write the scenarios of a report to `dir`: rules first, then the other kinds, in the order of the report.
pub fn save(host: &Host, plan: &Plan, report: &Report, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut saved = Vec::new();
    let rules = report.findings.iter().map(|(rule, kind)| {
        (format!("rule-{rule}"), kind, format!("Does Linux {} break {rule}, as {} says?", host.release, plan.revision))
    });
    let kinds = report
        .kinds
        .iter()
        .map(|(name, kind)| (name.clone(), kind, format!("Why do {} and Linux {} differ: {name}?", plan.revision, host.release)));
    for (name, kind, question) in rules.chain(kinds) {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let name = name.split('-').filter(|w| !w.is_empty()).collect::<Vec<_>>().join("-");
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("live-{name}.scn"));
        fs::write(&path, print::scenario(&kind.to_scenario(&question)))?;
        saved.push(path);
    }
    Ok(saved)
}

impl Report {
    fn hear(&mut self, told: Told) {
        match told {
            Told::Begun(_) | Told::Alive => {}
            Told::Done { agree, operations, left_out, endless, once } => {
                if endless {
                    self.endless += 1;
                    return;
                }
                if let Some(name) = once {
                    *self.once.entry(name).or_default() += 1;
                }
                self.programs += 1;
                self.agree += u64::from(agree);
                self.operations += operations;
                self.left_out += left_out;
            }
            Told::Again { name, finding } => {
                if let Some(kind) = self.table(finding).get_mut(&name) {
                    kind.count += 1;
                }
            }
            Told::Kind { name, finding, kind } => match self.table(finding).get_mut(&name) {
                None => {
                    self.table(finding).insert(name, *kind);
                }
                Some(known) => {
                    let count = known.count + 1;
                    if kind.scenario.steps.len() < known.scenario.steps.len() {
                        *known = *kind;
                    }
                    known.count = count;
                }
            },
        }
    }

    fn table(&mut self, finding: bool) -> &mut BTreeMap<String, Kind> {
        if finding { &mut self.findings } else { &mut self.kinds }
    }
}

/// Run them. `progress` is called now and then.
pub fn run(host: &Host, plan: &Plan, mut progress: impl FnMut(&Report)) -> Result<Report, String> {
    let since = Instant::now();
    let mut report = Report::default();
    let mut live = Live::new(host.clone());
    sys::notice_interrupts();
    // Without swap means without anybody else's: the guard waits for those who have some.
    live.guard = Some(Guard::start()?);
    for dry in [true, false] {
        let mut scenario = Program::from_bytes(&[]).to_scenario();
        scenario.machine.swap = if dry { 0 } else { SWAP };
        live.arrange(&scenario)?;
        phase(host, plan, dry, &mut report, since, &mut progress)?;
        if sys::interrupted() {
            report.interrupted = true;
            break;
        }
    }
    report.took = since.elapsed();
    Ok(report)
}

fn phase(
    host: &Host,
    plan: &Plan,
    dry: bool,
    report: &mut Report,
    since: Instant,
    progress: &mut impl FnMut(&Report),
) -> Result<(), String> {
    let workers = (host.cpus.len() * PER_CPU) as u64;
    let numbers: Vec<u64> = (0..plan.programs).filter(|&n| without_swap(n) == dry).collect();
    let share = |w: u64, after: Option<u64>| -> Vec<u64> {
        let mine = numbers.iter().copied().enumerate().filter(|(at, _)| *at as u64 % workers == w).map(|(_, n)| n);
        mine.filter(|n| after.is_none_or(|after| *n > after)).collect()
    };
    let start = |w: u64, after: Option<u64>| -> Result<Worker<Told>, String> {
        let mine = share(w, after);
        let cpu = host.cpus[w as usize % host.cpus.len()];
        crew::start(cpu, |bench: &Bench, frames: &Frames, teller: &mut Teller<Told>| {
            work(bench, frames, teller, plan, mine.into_iter());
        })
        .map_err(|e| format!("a worker could not start: {e}"))
    };
    let mut crew = (0..workers).map(|w| start(w, None)).collect::<Result<Vec<_>, _>>()?;
    let mut at: Vec<Option<u64>> = vec![None; crew.len()];
    let mut shown = Instant::now();
    while crew.iter().any(|w| !w.over) && !sys::interrupted() {
        match crew::listen(&mut crew, Duration::from_millis(200)) {
            Heard::Told(w, Told::Begun(n)) => at[w] = Some(n),
            Heard::Told(_, told) => report.hear(told),
            Heard::Over(w, why) => {
                // Done, or dead in the middle of its share?
                let rest = share(w as u64, at[w]);
                let why = why.or_else(|| (!rest.is_empty()).then(|| "the worker died".to_owned()));
                if let Some(why) = why {
                    report.deaths.push((at[w].unwrap_or(0), why));
                    if !rest.is_empty() && report.deaths.len() < 50 {
                        crew[w] = start(w as u64, at[w])?;
                    }
                }
            }
            Heard::Nothing => {}
        }
        if shown.elapsed() > Duration::from_millis(300) {
            shown = Instant::now();
            report.took = since.elapsed();
            progress(report);
        }
    }
    Ok(())
}
