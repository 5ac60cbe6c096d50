// SPDX-License-Identifier: GPL-2.0-only
//! The same for machines.

use super::answer;
use super::matrix::Review;
use crate::replay::{Judgement, Verdicts};
use crate::scenario::{Scenario, print};
use serde_json::{Value, json};

fn judgement(j: &Judgement) -> Value {
    match j {
        Judgement::AsClaimed => json!("as claimed"),
        Judgement::Unclaimed => json!("unclaimed"),
        Judgement::HoldsButBreaks(rules) => json!({ "claimed": "holds", "breaks": rules }),
        Judgement::HoldsButUnlike(lines) => json!({ "claimed": "holds", "unlike_in_lines": lines }),
        Judgement::BreaksOther { missing, extra } => json!({ "claimed_but_holds": missing, "breaks_without_claim": extra }),
    }
}

/// One scenario on one revision.
pub fn verdicts(scenario: &Scenario, v: &Verdicts) -> Value {
    let run = v.telling();
    let steps: Vec<Value> = run
        .rows
        .iter()
        .map(|r| {
            json!({
                "line": r.line, "thread": scenario.threads[r.thread], "op": print::op(&r.op), "resumed": r.resumed,
                "result": answer(&r.op, &r.answer),
            })
        })
        .collect();
    let seen: Vec<Value> = run.looked.iter().map(|l| json!({ "line": l.line, "seen": l.text })).collect();
    json!({
        "scenario": scenario.name, "revision": run.revision.name(), "rules_broken": v.rules(), "findings": run.broken,
        "seen": seen, "outcomes_explored": v.runs.len(), "steps": steps, "judgement": judgement(&v.judge(scenario, run.revision)),
    })
}

/// The whole review.
pub fn review(review: &Review) -> Value {
    let rows: Vec<Value> = review
        .scenarios
        .iter()
        .zip(&review.cells)
        .map(|(scenario, cells)| {
            let cells: Vec<Value> = cells
                .iter()
                .map(|c| {
                    json!({
                        "revision": c.verdicts.telling().revision.name(), "rules_broken": c.verdicts.rules(),
                        "findings": c.verdicts.telling().broken, "judgement": judgement(&c.judgement),
                    })
                })
                .collect();
            json!({ "scenario": scenario.name, "path": scenario.path, "question": scenario.question, "finding": scenario.finds, "cells": cells })
        })
        .collect();
    json!({ "revisions": review.revisions.iter().map(|r| r.name()).collect::<Vec<_>>(), "scenarios": rows, "as_claimed": !review.differs_from_claims() })
}
