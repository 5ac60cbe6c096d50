// SPDX-License-Identifier: GPL-2.0-only
//! One scenario on several revisions, results side by side.

use super::{answer, fold};
use crate::replay::{Answer, Judgement, Replay, Row, Verdicts};
use crate::scenario::look::print as print_look;
use crate::scenario::{Look, Scenario, print};
use std::fmt::Write;

/// The whole report: the question, the sequence with results, the rules broken, the claims.
pub fn render(scenario: &Scenario, verdicts: &[Verdicts]) -> String {
    let runs: Vec<&Replay> = verdicts.iter().map(|v| v.telling()).collect();
    let mut out = format!("{}\n", scenario.path);
    out.push_str(&fold(&scenario.question, "  ", 100));
    if !scenario.why.is_empty() {
        out.push_str(&fold(&scenario.why, "  ", 100));
    }
    out.push('\n');
    for key in keys(&runs) {
        let rows: Vec<Option<&Row>> = runs.iter().map(|r| find(r, key)).collect();
        if let Some(look) = scenario.looks().find(|l| l.line == key.0) {
            seen(&mut out, scenario, look, &runs);
            continue;
        }
        let Some(any) = rows.iter().flatten().next() else { continue };
        let who = if scenario.threads.len() > 1 { format!("{}: ", scenario.threads[any.thread]) } else { String::new() };
        let text = if any.resumed {
            let name = print::op(&any.op);
            format!("{who}<... {} resumed>", name.split('(').next().unwrap_or(""))
        } else {
            format!("{who}{}{}", print::op(&any.op), injected(scenario, any.line))
        };
        let answers: Vec<String> =
            rows.iter().map(|r| r.map_or("(not reached)".to_string(), |r| answer(&r.op, &r.answer))).collect();
        let _ = write!(out, "{:4}  {text}", any.line);
        if answers.iter().all(|a| *a == answers[0]) {
            let _ = writeln!(out, " {}", answers[0]);
        } else {
            let _ = writeln!(out);
            for (run, a) in runs.iter().zip(&answers) {
                let _ = writeln!(out, "      | {:8} {a}", run.revision.name());
            }
        }
    }
    out.push('\n');
    for (v, run) in verdicts.iter().zip(&runs) {
        let name = run.revision.name();
        if v.rules().is_empty() {
            let _ = writeln!(out, "{name:8} every rule holds");
        }
        for b in &run.broken {
            let place = if b.line == 0 { "after exit".to_string() } else { format!("line {}", b.line) };
            let _ = writeln!(out, "{name:8} breaks {}, {place}: {}", b.rule, b.detail);
        }
        if run.chosen.iter().any(|c| c.1 > 1) {
            let bad = v.runs.iter().filter(|r| !r.broken.is_empty()).count();
            let _ =
                writeln!(out, "{name:8} depends on an uninitialised variable: {bad} of {} outcomes break a rule", v.runs.len());
        }
        for u in &run.unlike {
            if !run.broken.is_empty() {
                break;
            }
            let _ = match &u.got {
                Answer::NotInjected(sites) => writeln!(out, "{name:8} line {}: no call of {sites} could be made to fail", u.line),
                Answer::Sees { differs, .. } => {
                    let facts: Vec<String> =
                        differs.iter().map(|d| format!("{} is {}, not {}", d.what, d.model, d.kernel)).collect();
                    writeln!(out, "{name:8} line {}: {}", u.line, facts.join("; "))
                }
                _ => writeln!(out, "{name:8} line {}: the answer is not the promised one", u.line),
            };
        }
        let judgement = match v.judge(scenario, run.revision) {
            Judgement::AsClaimed => "as claimed",
            Judgement::Unclaimed => "nothing is claimed",
            _ => "NOT as claimed",
        };
        let _ = writeln!(out, "{name:8} {judgement}");
    }
    out
}

/// A line that says what can be seen, and what the revisions see that see something else.
fn seen(out: &mut String, scenario: &Scenario, look: &Look, runs: &[&Replay]) {
    let _ = writeln!(out, "{:4}  {}", look.line, print_look(look, &scenario.threads));
    for run in runs {
        let unlike = run.unlike.iter().find(|u| u.line == look.line);
        if let Some(Answer::Sees { text, .. }) = unlike.map(|u| &u.got) {
            let _ = writeln!(out, "      | {:8} {text}", run.revision.name());
        }
    }
}

/// What was made to fail in the operation of this line.
fn injected(scenario: &Scenario, line: usize) -> String {
    scenario.calls().find(|c| c.line == line).map_or(String::new(), |c| print::injected(&c.injected))
}

/// What tells a row from another: its line, and whether it is the end of an unfinished operation. Lines that say what can be seen
/// have one too.
type Key = (usize, bool);

/// The keys of all runs in an order that keeps each run's own.
fn keys(runs: &[&Replay]) -> Vec<Key> {
    let mut all: Vec<Key> = Vec::new();
    for run in runs {
        let mut at = 0;
        let mut looked = run.looked.iter().peekable();
        let mut own: Vec<Key> = Vec::new();
        for (before, row) in run.rows.iter().enumerate() {
            own.extend(std::iter::from_fn(|| looked.next_if(|l| l.after <= before)).map(|l| (l.line, false)));
            own.push((row.line, row.resumed));
        }
        own.extend(looked.map(|l| (l.line, false)));
        for key in own {
            match all.iter().position(|k| *k == key) {
                Some(found) => at = found + 1,
                None => {
                    all.insert(at, key);
                    at += 1;
                }
            }
        }
    }
    all
}

fn find<'r>(run: &&'r Replay, key: Key) -> Option<&'r Row> {
    run.rows.iter().find(|r| (r.line, r.resumed) == key)
}
