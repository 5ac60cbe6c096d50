// SPDX-License-Identifier: GPL-2.0-only
//! Sequences that were recorded on real kernels, judged against the model of the same release.
//!
//! A recording is a text of JSON lines: the first line names the kernel, each other line is a case with its operations and
//! what they answered. [`convert()`] makes a scenario of a case, and an [`Archive`] keeps those; [`judge`] replays one and compares
//! every answer: return values, errnos, out fields, messages, signals with their address, the bytes that loads got, who was
//! blocked and when it went on.
//! It compares what could be seen as well (`| ...` lines): files, mappings, page-table entries, page flags. A case whose answers
//! are all alike may still differ in that.

mod archive;
mod convert;

pub use archive::{Archive, Archived};
pub use convert::{NotCovered, convert};

use crate::observe::Difference;
use crate::patch::Revision;
use crate::replay::{Answer, replay};
use crate::scenario::{self, Call, Expect, Step};
use crate::syscall::Op;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A recorded sequence.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// What happened, as it was recorded.
    pub steps: Vec<Value>,
    /// The kernel tells a poisoned page from other reasons for SIGBUS (CONFIG_MEMORY_FAILURE).
    pub memory_failure: bool,
}

/// A recording: one kernel's answers to many sequences.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The kernel's release, as uname(2) gave it; empty if the first line does not say.
    pub kernel: String,
    /// The sequences.
    pub cases: Vec<Case>,
}

impl Recording {
    /// Read the text of a recording. An error says in which line.
    pub fn parse(text: &str) -> Result<Recording, String> {
        let mut recording = Recording { kernel: String::new(), cases: Vec::new() };
        let memory_failure = text.contains("SIGBUS/4@");
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let at = number + 1;
            let value: Value = serde_json::from_str(line).map_err(|e| format!("line {at}: not a JSON object: {e}"))?;
            if !value["meta"].is_null() {
                value["kernel"].as_str().unwrap_or("").clone_into(&mut recording.kernel);
                continue;
            }
            let (Some(id), Some(steps)) = (value["id"].as_str(), value["steps"].as_array()) else {
                return Err(format!("line {at}: a case needs an `id` and `steps`"));
            };
            recording.cases.push(Case { id: id.to_owned(), steps: steps.clone(), memory_failure });
        }
        Ok(recording)
    }
}

/// The revision that models a kernel, by its release as uname(2) gives it: the newest release that is not newer.
pub fn revision_of(release: &str) -> Option<Revision> {
    let number = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|p| p.parse::<u32>());
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let mine = number(release)?;
    let mut releases = Revision::ALL.iter().copied().filter(|r| !Revision::series().contains(r));
    releases.rfind(|r| number(r.kernel().name()).is_some_and(|theirs| theirs <= mine))
}

/// How a case compares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Every answer is the same.
    Agrees,
    /// A scenario cannot say it.
    NotCovered(NotCovered),
    /// It differs, for a reason that has nothing to do with the model being wrong: one of [`NAMED`].
    Named(&'static str),
    /// It differs.
    Differs {
        /// The line of the scenario that does.
        line: String,
        /// What the model answered instead.
        model: String,
    },
    /// Every answer is the same, but not all that can be seen.
    Sees {
        /// The line of the scenario that says what the kernel showed.
        line: String,
        /// The same line as the model has it.
        model: String,
        /// The facts that are not the same there.
        differs: Vec<Difference>,
    },
}

/// Differences that are not errors of the model: name, and why.
pub const NAMED: &[(&str, &str)] = &[
    (
        "woken-together",
        "two threads were woken by one call, and either may come first: a load sees the other's store or does not",
    ),
    ("unwatched-bytes", "the model holds four bytes of a page, and another one was read"),
];

/// Run a case on a revision and compare.
pub fn judge(case: &Archived, revision: Revision) -> Finding {
    let text = match &case.scenario {
        Ok(text) => text,
        Err(why) => return Finding::NotCovered(why.clone()),
    };
    let scenario = match scenario::parse::scenario(&case.id, text) {
        Ok(scenario) => scenario,
        Err(errors) => return Finding::Differs { line: "(the converted text)".to_owned(), model: errors.to_string() },
    };
    let run = replay(&scenario, revision, &[], false);
    let (mut name, mut sees) = (None, None);
    for unlike in &run.unlike {
        let line = text.lines().nth(unlike.line - 1).unwrap_or("").to_owned();
        if let Answer::Sees { text, differs } = &unlike.got {
            if resumed_together(&scenario) && differs.iter().all(|d| ["load", "pread"].contains(&d.kind.as_str())) {
                name = name.or(Some("woken-together"));
            } else if name.is_none() && sees.is_none() {
                // What differed for a reason before may well have left something else behind.
                sees = Some(Finding::Sees { line, model: text.clone(), differs: differs.clone() });
            }
            continue;
        }
        // A resumed line tells of the thread's last operation.
        let thread = scenario.threads.iter().position(|t| line.split(':').next() == Some(t));
        let op = run.rows.iter().rfind(|r| Some(r.thread) == thread && r.line <= unlike.line);
        let model = match (&unlike.got, op) {
            (Answer::Returned(outcome), Some(row)) => scenario::print::outcome(&row.op, outcome),
            (answer, _) => format!("{answer:?}"),
        };
        match named(&scenario, &line, &model) {
            Some(why) => name = name.or(Some(why)),
            None => return Finding::Differs { line, model },
        }
    }
    sees.or(name.map(Finding::Named)).unwrap_or(Finding::Agrees)
}

/// Two or more operations went on after they were blocked.
fn resumed_together(scenario: &scenario::Scenario) -> bool {
    scenario.steps.windows(2).any(|pair| matches!(pair, [Step::Resumed { .. }, Step::Resumed { .. }]))
}

fn named(scenario: &scenario::Scenario, line: &str, model: &str) -> Option<&'static str> {
    let byte = line.contains("load(") || line.contains("resumed> = 0x");
    if byte && model.trim_start_matches("= ") == "?" {
        return Some("unwatched-bytes");
    }
    // One of the two bytes must be what the other thread, which was waiting too, has stored.
    let stored = scenario.steps.iter().filter_map(|s| match s {
        Step::Op(Call { op: Op::Store { value, .. }, expect: Expect::Blocked, .. }) => Some(format!("0x{value:02x}")),
        _ => None,
    });
    let other = |byte: String| line.ends_with(&byte) || model.ends_with(&byte);
    (line.contains("resumed> = 0x") && stored.into_iter().any(other)).then_some("woken-together")
}

/// All cases of a recording.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Cases that agree.
    pub agree: usize,
    /// Cases that differ for a named reason, by name.
    pub named: BTreeMap<&'static str, usize>,
    /// Cases that a scenario cannot say, by operation, with the reason.
    pub not_covered: BTreeMap<NotCovered, usize>,
    /// Cases that differ: name, line, the model's answer.
    pub differ: Vec<(String, String, String)>,
    /// Cases that differ only in what can be seen: name, line, the model's line, the kinds of facts that differ there.
    pub see: Vec<(String, String, String, Vec<String>)>,
}

impl Summary {
    /// Judge every case.
    pub fn of(archive: &Archive, revision: Revision) -> Summary {
        let mut summary = Summary::default();
        for case in &archive.cases {
            match judge(case, revision) {
                Finding::Agrees => summary.agree += 1,
                Finding::Named(name) => *summary.named.entry(name).or_default() += 1,
                Finding::NotCovered(why) => *summary.not_covered.entry(why).or_default() += 1,
                Finding::Differs { line, model } => summary.differ.push((case.id.clone(), line, model)),
                Finding::Sees { line, model, differs } => {
                    let mut kinds: Vec<String> = differs.into_iter().map(|d| d.kind).collect();
                    kinds.dedup();
                    summary.see.push((case.id.clone(), line, model, kinds));
                }
            }
        }
        summary
    }

    /// Cases that the model answered, whether alike or not.
    pub fn covered(&self) -> usize {
        self.agree + self.named.values().sum::<usize>() + self.differ.len() + self.see.len()
    }

    /// Every case.
    pub fn all(&self) -> usize {
        self.covered() + self.not_covered.values().sum::<usize>()
    }

    /// As it is printed. `every`: with each difference, not only the first of a kind of operation.
    pub fn print(&self, revision: Revision, every: bool) -> String {
        let mut out = String::new();
        let percent = |n: usize| 100.0 * n as f64 / self.all().max(1) as f64;
        let _ = writeln!(out, "{} sequences on {revision}", self.all());
        let _ = writeln!(out, "  {:6} agree in every answer and in all that can be seen", self.agree);
        for (name, why) in NAMED.iter().filter(|(name, _)| self.named.contains_key(name)) {
            let _ = writeln!(out, "  {:6} differ, {name}: {why}", self.named[name]);
        }
        let _ = writeln!(out, "  {:6} differ in an answer, without a reason", self.differ.len());
        let _ = writeln!(out, "  {:6} differ only in what can be seen, without a reason", self.see.len());
        let mut kinds: BTreeMap<&[String], usize> = BTreeMap::new();
        for (.., facts) in &self.see {
            *kinds.entry(facts).or_default() += 1;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        for (facts, n) in &kinds {
            let _ = writeln!(out, "         {n:6} {}", facts.join(", "));
        }
        let _ = writeln!(out, "  {:6} covered ({:.1} %)", self.covered(), percent(self.covered()));
        for ((what, why), n) in &self.not_covered {
            let _ = writeln!(out, "  {n:6} not covered: {what} ({why})");
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let answers = self.differ.iter().map(|(id, line, model)| {
            let kind = line.split(['(', '{']).take(2).collect::<Vec<_>>().join("(");
            (id, line, model, kind.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
        });
        let facts = self.see.iter().map(|(id, line, model, kinds)| (id, line, model, kinds.join(", ")));
        for (id, line, model, kind) in answers.chain(facts) {
            let n = seen.entry(kind).or_default();
            *n += 1;
            if every || *n <= 2 {
                let _ = writeln!(out, "\n{id}\n  kernel: {line}\n  model:  {model}");
            }
        }
        if !every && self.differ.len() + self.see.len() > seen.values().map(|n| (*n).min(2)).sum() {
            out.push_str("\nTwo of each kind are shown; --all shows every one.\n");
        }
        out
    }
}
