// SPDX-License-Identifier: GPL-2.0-only
//! One scenario on several revisions, results side by side.

use super::{answer, fold};
use crate::replay::{Answer, Judgement, Replay, Row, Verdicts};
use crate::scenario::{Scenario, print};
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

/// What was made to fail in the operation of this line.
fn injected(scenario: &Scenario, line: usize) -> String {
    scenario.calls().find(|c| c.line == line).map_or(String::new(), |c| print::injected(&c.injected))
}

/// What tells a row from another: its line, and whether it is the end of an unfinished operation.
type Key = (usize, bool);

/// The keys of all runs in an order that keeps each run's own.
fn keys(runs: &[&Replay]) -> Vec<Key> {
    let mut all: Vec<Key> = Vec::new();
    for run in runs {
        let mut at = 0;
        for row in &run.rows {
            let key = (row.line, row.resumed);
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
