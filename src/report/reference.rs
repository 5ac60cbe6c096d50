// SPDX-License-Identifier: GPL-2.0-only
//! `faultline list` and `faultline explain`.

use super::findings::{self, Kind, Remark};
use super::fold;
use crate::patch::Revision;
use crate::replay::Verdicts;
use crate::rules::{self, Rule, When};
use crate::scenario::Scenario;
use std::fmt::Write;

/// The revisions, oldest first.
pub fn revisions() -> String {
    let mut out = String::new();
    for &r in Revision::ALL {
        let p = r.provenance();
        let _ = writeln!(out, "{:8} {}  {}", p.name, p.date, p.title);
        let _ = writeln!(out, "         {}", p.source);
        out.push_str(&fold(p.change, "         ", 100));
    }
    out.push_str("v5       is v4: it differs in the selftest only\n");
    out
}

fn when(rule: &Rule) -> &'static str {
    match rule.when {
        When::Settled => "after every step",
        When::Answer => "when an operation returns",
        When::Exit => "after everything has exited",
        When::Reported => "as it happens",
    }
}

/// The rules.
pub fn rules() -> String {
    let mut out = String::new();
    for rule in rules::all() {
        let _ = writeln!(out, "{:36} {}", rule.name, when(rule));
        out.push_str(&fold(rule.promise, "    ", 100));
    }
    out
}

/// The operations, each with the form it has in a scenario.
pub fn operations() -> String {
    let mut out = String::new();
    for usage in crate::scenario::operations() {
        let _ = writeln!(out, "{usage}");
    }
    out
}

/// The scenarios and their questions.
pub fn scenarios(all: &[Scenario]) -> String {
    let mut out = String::new();
    for s in all {
        let finds = if s.finds.is_empty() { String::new() } else { format!("  [{}]", s.finds.join(" ")) };
        let _ = writeln!(out, "{}{finds}", s.path);
        out.push_str(&fold(&s.question, "    ", 100));
    }
    out
}

/// The remarks of the review.
pub fn remarks() -> String {
    let mut out = String::new();
    for r in findings::ALL {
        let _ = writeln!(out, "{}  {:13} {} ({})", r.id, kind(r), r.says, r.by);
    }
    out
}

fn kind(r: &Remark) -> &'static str {
    match r.kind {
        Kind::Scenario => "scenario",
        Kind::Variant => "variant",
        Kind::NotExecutable => "not executable",
    }
}

/// A rule in full, with the scenarios that break it.
pub fn explain_rule(rule: &Rule, all: &[Scenario]) -> String {
    let mut out = format!("{}\n", rule.name);
    out.push_str(&fold(rule.promise, "  Promise:  ", 100));
    out.push_str(&fold(rule.symptom, "  Symptom:  ", 100));
    let _ = writeln!(out, "  Checked:  {}", when(rule));
    if !rule.finds.is_empty() {
        let _ = writeln!(out, "  Remarks:  {}", rule.finds.join(" "));
    }
    let mut any = false;
    for s in all {
        let by: Vec<&str> =
            Revision::ALL.iter().filter(|&&r| Verdicts::of(s, r, false).rules().contains(&rule.name)).map(|r| r.name()).collect();
        if !by.is_empty() {
            any = true;
            let _ = writeln!(out, "  Broken by {} in {}", by.join(" "), s.path);
        }
    }
    if !any {
        let _ = writeln!(out, "  No scenario breaks it on any revision.");
    }
    out
}

/// A remark of the review in full, with the scenarios that replay it.
pub fn explain_remark(r: &Remark, all: &[Scenario]) -> String {
    let mut out = format!("{} ({})\n  Raised by {}, on {}\n", r.id, kind(r), r.by, r.place);
    out.push_str(&fold(r.says, "  Says:     ", 100));
    out.push_str(&fold(r.outcome, "  Outcome:  ", 100));
    for s in all.iter().filter(|s| s.finds.iter().any(|f| f == r.id)) {
        let _ = writeln!(out, "  Replayed by {}", s.path);
        for &revision in Revision::ALL {
            let rules = Verdicts::of(s, revision, false).rules();
            if !rules.is_empty() {
                let _ = writeln!(out, "    {:8} breaks {}", revision.name(), rules.join(" "));
            }
        }
    }
    out
}
