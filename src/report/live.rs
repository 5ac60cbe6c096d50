// SPDX-License-Identifier: GPL-2.0-only
//! A scenario on the model and on the running kernel, side by side.

use super::fold;
use crate::live::random::{Kind, Looks, Plan, Report};
use crate::live::{Host, Missing, Seen, Sides, Verdict};
use crate::observe::Moment;
use crate::patch::Revision;
use crate::scenario::{Call, Scenario, Step, print};
use crate::syscall::{Op, Outcome};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// How many differences of the first step that differs are shown.
const SHOWN: usize = 24;

/// The whole report.
pub fn render(scenario: &Scenario, host: &Host, revision: Revision, sides: &Sides) -> String {
    let Sides { model, kernel: Seen { moments: kernel, .. }, first, .. } = sides;
    let mut out = format!("{}\n", scenario.path);
    out.push_str(&fold(&scenario.question, "  ", 100));
    out.push('\n');
    let names = [revision.name(), host.release.split('-').next().unwrap_or("kernel")];
    let width = names.iter().map(|n| n.len()).max().unwrap_or(0);
    let mut open: Vec<Option<&Op>> = vec![None; scenario.threads.len()];
    for (n, step) in scenario.steps.iter().enumerate() {
        let sides = [model.get(n), kernel.get(n)];
        let Step::Op(call) = step else { continue };
        let who =
            |thread: usize| if scenario.threads.len() > 1 { format!("{}: ", scenario.threads[thread]) } else { String::new() };
        let _ = write!(out, "{:4}  {}{}", call.line, who(call.thread), print::op(&call.op));
        both(&mut out, &names, width, sides.map(|m| m.map_or("(not reached)".to_owned(), |m| answer(call, m))));
        open[call.thread] = Some(&call.op);
        let mut resumed: Vec<usize> = sides.iter().flatten().flat_map(|m| m.resumed.iter().map(|(t, _)| *t)).collect();
        resumed.sort_unstable();
        resumed.dedup();
        for thread in resumed {
            let Some(op) = open.get(thread).copied().flatten() else { continue };
            let name = print::op(op);
            let _ = write!(out, "      {}<... {} resumed>", who(thread), name.split('(').next().unwrap_or(""));
            let of = |m: &Moment| m.resumed.iter().find(|(t, _)| *t == thread).map(|(_, o)| o.clone());
            both(&mut out, &names, width, sides.map(|m| m.and_then(of).map_or("(still blocked)".to_owned(), |o| result(op, &o))));
        }
        if let Some((at, differences)) = first
            && *at == n
        {
            for d in differences.iter().take(SHOWN) {
                let _ = writeln!(out, "      ! {d}");
            }
            if differences.len() > SHOWN {
                let _ = writeln!(out, "      ! and {} more", differences.len() - SHOWN);
            }
        }
    }
    out.push('\n');
    let _ = writeln!(out, "{}", verdict(scenario, host, revision, sides));
    for b in sides.findings() {
        let _ = writeln!(out, "finding about this kernel: {}, line {}: {}", b.rule, b.line, b.detail);
    }
    out
}

/// Many scenarios, a line each, and how many there are of each sort.
#[derive(Default)]
pub struct Matrix {
    lines: String,
    agree: usize,
    findings: usize,
    differ: usize,
    not_run: BTreeMap<String, usize>,
}

impl Matrix {
    /// A scenario that was not run.
    pub fn not_run(&mut self, scenario: &Scenario, why: &str) {
        let _ = writeln!(self.lines, "{:32} not run: {why}", scenario.name);
        *self.not_run.entry(why.to_owned()).or_default() += 1;
    }

    /// One that was.
    pub fn run(&mut self, scenario: &Scenario, sides: &Sides) {
        let text = match sides.verdict() {
            Verdict::NotAsked(stopped) => return self.not_run(scenario, &stopped.to_string()),
            Verdict::Agree => {
                self.agree += 1;
                let mut rules: Vec<&str> = sides.findings().map(|b| b.rule).collect();
                rules.sort_unstable();
                rules.dedup();
                self.findings += usize::from(!rules.is_empty());
                if rules.is_empty() { "agrees".to_owned() } else { format!("agrees; the kernel breaks {}", rules.join(" ")) }
            }
            Verdict::Differ => {
                self.differ += 1;
                match (&sides.first, &sides.kernel.stopped) {
                    (Some((step, d)), _) => format!("DIFFERS after line {}: {}", line_of(scenario, *step), d[0]),
                    (None, stopped) => format!("DIFFERS: {}", stopped.as_ref().map_or(String::new(), |s| s.to_string())),
                }
            }
        };
        let _ = writeln!(self.lines, "{:32} {text}", scenario.name);
    }

    /// All lines and the totals.
    pub fn render(&self, host: &Host, revision: Revision) -> String {
        let not_run: usize = self.not_run.values().sum();
        let mut out =
            format!("{}\n{revision} and Linux {}, {} scenarios\n", self.lines, host.release, self.agree + self.differ + not_run);
        let _ = writeln!(out, "  {:4} agree ({} of them show a promise that this kernel breaks)", self.agree, self.findings);
        let _ = writeln!(out, "  {:4} differ", self.differ);
        for (why, n) in &self.not_run {
            let _ = writeln!(out, "  {n:4} not run: {why}");
        }
        out
    }

    /// Does any scenario differ?
    pub fn differs(&self) -> bool {
        self.differ > 0
    }
}

/// What random programs have shown. `saved` has the file of each kind, those of the rules first.
pub fn random(host: &Host, plan: &Plan, report: &Report, saved: &[PathBuf]) -> String {
    let mut out = String::new();
    let seconds = report.took.as_secs_f64().max(0.001);
    let rate = report.programs as f64 / seconds;
    let percent = 100.0 * report.agree as f64 / report.programs.max(1) as f64;
    let _ = writeln!(
        out,
        "{} programs (seed {}) with {} operations on {} and on Linux {}, in {seconds:.1} s: {rate:.0} a second",
        report.programs, plan.seed, report.operations, plan.revision, host.release
    );
    if report.interrupted {
        let _ = writeln!(out, "  interrupted: {} programs were to be run", plan.programs);
    }
    let _ = writeln!(
        out,
        "  {:8} agree in every answer{} ({percent:.3} %)",
        report.agree,
        match plan.looks {
            Looks::Each => " and in all that was seen",
            Looks::Last => " and in all that was seen, of most at the end",
            Looks::None => "",
        }
    );
    let _ = writeln!(out, "  {:8} differ", report.programs - report.agree);
    let once: u64 = report.once.values().sum();
    if once > 0 {
        let _ = writeln!(out, "  {once:8} of those that agree did so only when they were run again:");
        for (name, n) in &report.once {
            let _ = writeln!(out, "  {n:12} {name}");
        }
    }
    if report.left_out > 0 {
        let _ = writeln!(
            out,
            "  {:8} operations were left out on both sides: reclaim of pages mapped more than once, signals to idle threads",
            report.left_out
        );
    }
    if report.endless > 0 {
        let _ = writeln!(out, "  {:8} more programs were not run: an operation of theirs never ends", report.endless);
    }
    for (n, why) in &report.deaths {
        let _ = writeln!(out, "  program {n}: {why}");
    }
    let mut saved = saved.iter();
    for (rule, kind) in &report.findings {
        let _ = writeln!(out, "\nfinding about this kernel: {rule} ({} programs)", kind.count);
        show(&mut out, kind, saved.next());
    }
    let mut kinds: Vec<_> = report.kinds.iter().zip(saved).collect();
    kinds.sort_by_key(|((_, kind), _)| std::cmp::Reverse(kind.count));
    for ((name, kind), file) in kinds {
        let _ = writeln!(out, "\n{name} ({} programs)", kind.count);
        show(&mut out, kind, Some(file));
    }
    out
}

fn show(out: &mut String, kind: &Kind, file: Option<&PathBuf>) {
    if let Some(file) = file {
        let _ = writeln!(out, "  {}", file.display());
    }
    for (n, step) in kind.scenario.steps.iter().enumerate() {
        let Step::Op(call) = step else { continue };
        let name = &kind.scenario.threads[call.thread];
        let who = if call.thread == 0 { String::new() } else { format!("{name}: ") };
        let _ = writeln!(out, "    {who}{}", print::op(&call.op));
        if n == kind.step {
            for d in kind.differences.iter().take(6) {
                let _ = writeln!(out, "      ! {d}");
            }
            if kind.differences.len() > 6 {
                let _ = writeln!(out, "      ! and {} more", kind.differences.len() - 6);
            }
        }
    }
}

/// One line for a terminal: how far it has got.
pub fn progress(report: &Report, programs: u64) -> String {
    let rate = report.programs as f64 / report.took.as_secs_f64().max(0.001);
    let differ = report.programs - report.agree;
    let kinds = report.kinds.len();
    format!("{} of {programs} programs, {rate:.0} a second, {differ} differ in {kinds} ways", report.programs)
}

/// What stands in the way, and how to get it out of it.
pub fn missing(missing: &[Missing]) -> String {
    let mut out = String::from("The running kernel cannot be asked:\n");
    for m in missing {
        let _ = writeln!(out, "  {}\n    needed: {}", m.what, m.remedy);
    }
    out
}

/// The kernel has no model.
pub fn too_old(host: &Host) -> String {
    format!("Linux {} is older than every release that is modelled; choose one with --kernel\n", host.release)
}

/// One line: do they agree?
pub fn verdict(scenario: &Scenario, host: &Host, revision: Revision, sides: &Sides) -> String {
    let mut text = match &sides.first {
        Some((step, differences)) => {
            let line = line_of(scenario, *step);
            let more = if differences.len() > 1 { format!(" (and {} more)", differences.len() - 1) } else { String::new() };
            format!("{revision} and Linux {} differ first after line {line}: {}{more}", host.release, differences[0])
        }
        None if sides.kernel.stopped.is_some() => {
            format!("{revision} and Linux {} agree as far as the kernel was asked", host.release)
        }
        None => format!("{revision} and Linux {} agree, in {} steps", host.release, sides.kernel.moments.len()),
    };
    if let Some(stopped) = &sides.kernel.stopped {
        let line = line_of(scenario, sides.kernel.moments.len());
        let _ = write!(text, "; stopped at line {line}: {stopped}");
    }
    text
}

fn line_of(scenario: &Scenario, step: usize) -> usize {
    match scenario.steps.get(step) {
        Some(Step::Op(call)) => call.line,
        Some(Step::Resumed { line, .. } | Step::Race { line, .. }) => *line,
        Some(Step::Seen(look)) => look.line,
        None => 0,
    }
}

fn answer(call: &Call, moment: &Moment) -> String {
    match &moment.outcome {
        Some(outcome) => result(&call.op, outcome),
        None if moment.blocked.contains(&call.thread) => "<unfinished ...>".to_owned(),
        None => "(not carried out)".to_owned(),
    }
}

fn result(op: &Op, outcome: &Outcome) -> String {
    // What these hand out is long; it is shown among the differences if it is one.
    if matches!(op, Op::UffdApi { .. } | Op::UffdRegister { .. }) && outcome.ret.is_ok() {
        return "= 0".to_owned();
    }
    format!("= {}", print::outcome(op, outcome))
}

/// Behind the operation if both say the same, else a line for each.
fn both(out: &mut String, names: &[&str; 2], width: usize, answers: [String; 2]) {
    if answers[0] == answers[1] {
        let _ = writeln!(out, " {}", answers[0]);
        return;
    }
    out.push('\n');
    for (name, answer) in names.iter().zip(answers) {
        let _ = writeln!(out, "      | {name:width$}  {answer}");
    }
}
