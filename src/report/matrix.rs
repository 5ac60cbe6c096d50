// SPDX-License-Identifier: GPL-2.0-only
//! The review: every scenario on every revision, and what each revision fixed and broke against the one before it.

use super::fold;
use crate::patch::Revision;
use crate::replay::{Answer, Judgement, Row, Verdicts};
use crate::scenario::Scenario;
use crate::syscall::Out;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One cell.
pub struct Cell {
    /// The runs.
    pub verdicts: Verdicts,
    /// Against the claim.
    pub judgement: Judgement,
}

/// Every scenario on every revision that was asked for.
pub struct Review<'s> {
    /// Rows, in this order.
    pub scenarios: &'s [Scenario],
    /// Columns, in this order.
    pub revisions: Vec<Revision>,
    /// `cells[row][column]`.
    pub cells: Vec<Vec<Cell>>,
}

impl<'s> Review<'s> {
    /// Run it, on as many threads as the machine has. The kernel of each run is private to it; only rows are shared out.
    pub fn run(scenarios: &'s [Scenario], revisions: &[Revision]) -> Review<'s> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(scenarios.len().max(1));
        let next = parking_lot::Mutex::new(0..scenarios.len());
        let done = parking_lot::Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let Some(row) = next.lock().next() else { break };
                        let cells: Vec<Cell> = revisions
                            .iter()
                            .map(|&revision| {
                                let verdicts = Verdicts::of(&scenarios[row], revision, false);
                                let judgement = verdicts.judge(&scenarios[row], revision);
                                Cell { verdicts, judgement }
                            })
                            .collect();
                        done.lock().insert(row, cells);
                    }
                });
            }
        });
        Review { scenarios, revisions: revisions.to_vec(), cells: done.into_inner().into_values().collect() }
    }

    /// Does any cell differ from its claim?
    pub fn differs_from_claims(&self) -> bool {
        self.cells.iter().flatten().any(|c| !matches!(c.judgement, Judgement::AsClaimed | Judgement::Unclaimed))
    }

    /// The whole report as text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_matrix(&mut out);
        self.render_legend(&mut out);
        self.render_summary(&mut out);
        self.render_judgements(&mut out);
        out
    }

    /// A letter for every rule that is broken anywhere.
    fn letters(&self) -> BTreeMap<&'static str, char> {
        let rules: BTreeSet<&'static str> = self.cells.iter().flatten().flat_map(|c| c.verdicts.rules()).collect();
        rules.into_iter().zip(('A'..='Z').chain('a'..='z')).collect()
    }

    fn render_matrix(&self, out: &mut String) {
        let letters = self.letters();
        let width = self.scenarios.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).max(8);
        let columns: Vec<usize> = self.revisions.iter().map(|r| r.name().len().max(2)).collect();
        let head: Vec<String> = self.revisions.iter().zip(&columns).map(|(r, w)| format!("{:>w$}", r.name(), w = w)).collect();
        let _ = writeln!(out, "{:width$}  {}", "", head.join(" "));
        let mut area = None;
        for (scenario, cells) in self.scenarios.iter().zip(&self.cells) {
            let here = area_of(&scenario.path);
            if area.as_ref() != Some(&here) {
                let _ = writeln!(out, "{here}");
                area = Some(here);
            }
            let marks: Vec<String> = cells
                .iter()
                .zip(&columns)
                .map(|(cell, w)| {
                    let rules = cell.verdicts.rules();
                    let mark = match (cell.verdicts.first_rule(), &cell.judgement) {
                        (Some(rule), _) if rules.len() > 1 => format!("{}+", letters[rule]),
                        (Some(rule), _) => letters[rule].to_string(),
                        (None, Judgement::HoldsButUnlike(_)) => "~".to_string(),
                        (None, _) => "✓".to_string(),
                    };
                    format!("{mark:>w$}", w = w)
                })
                .collect();
            let mut names: Vec<&'static str> = cells.iter().filter_map(|c| c.verdicts.first_rule()).collect();
            names.sort_unstable();
            names.dedup();
            let names: Vec<String> = names.iter().map(|n| format!("{} {n}", letters[n])).collect();
            let line = format!("{:width$}  {}  {}", scenario.name, marks.join(" "), names.join(", "));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }

    fn render_legend(&self, out: &mut String) {
        let letters = self.letters();
        let _ = writeln!(out, "\n✓ every rule holds and every answer is the promised one   ~ rules hold, an answer differs");
        let _ =
            writeln!(out, "A letter is the first rule found broken, + that others follow. `faultline explain RULE` says more.\n");
        for (rule, letter) in letters {
            let promise = crate::rules::by_name(rule).map_or("", |r| r.promise);
            let _ = writeln!(out, "  {letter} {rule:34} {promise}");
        }
        let _ = writeln!(out);
    }

    /// Per revision: what it fixed and what it broke against the one before it.
    fn render_summary(&self, out: &mut String) {
        for column in 0..self.revisions.len() {
            let revision = self.revisions[column];
            let broken: usize = self.cells.iter().filter(|row| !row[column].verdicts.rules().is_empty()).count();
            let total = self.scenarios.len();
            let _ = write!(out, "{:8} breaks a rule in {broken} of {total} scenarios", revision.name());
            if column == 0 {
                let _ = writeln!(out);
                continue;
            }
            let before = column - 1;
            let mut fixed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            let mut broke: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            let mut unlike = Vec::new();
            for (scenario, row) in self.scenarios.iter().zip(&self.cells) {
                let (was, is) = (row[before].verdicts.rules(), row[column].verdicts.rules());
                for rule in was.iter().filter(|r| !is.contains(r)) {
                    fixed.entry(rule).or_default().push(&scenario.name);
                }
                for rule in is.iter().filter(|r| !was.contains(r)) {
                    broke.entry(rule).or_default().push(&scenario.name);
                }
                if was == is && !alike(&row[before].verdicts.telling().rows, &row[column].verdicts.telling().rows) {
                    unlike.push(scenario.name.as_str());
                }
            }
            let _ = writeln!(out, "; against {}:", self.revisions[before]);
            for (word, rules) in [("fixes", &fixed), ("breaks", &broke)] {
                for (rule, scenarios) in rules {
                    out.push_str(&fold(&format!("{word} {rule} ({})", scenarios.join(", ")), "         ", 120));
                }
            }
            if !unlike.is_empty() {
                out.push_str(&fold(&format!("answers differently in {}", unlike.join(", ")), "         ", 120));
            }
            if fixed.is_empty() && broke.is_empty() && unlike.is_empty() {
                let _ = writeln!(out, "         nothing that these scenarios see");
            }
        }
        let _ = writeln!(out);
    }

    fn render_judgements(&self, out: &mut String) {
        let mut differ = 0;
        let mut unclaimed = 0;
        for (scenario, row) in self.scenarios.iter().zip(&self.cells) {
            for (&revision, cell) in self.revisions.iter().zip(row) {
                let what = match &cell.judgement {
                    Judgement::AsClaimed => continue,
                    Judgement::Unclaimed => {
                        unclaimed += 1;
                        continue;
                    }
                    Judgement::HoldsButBreaks(rules) => format!("claimed to hold, breaks {}", rules.join(" ")),
                    Judgement::HoldsButUnlike(lines) => {
                        let lines: Vec<String> = lines.iter().map(|l| l.to_string()).collect();
                        format!("claimed to hold, but line {} is not as promised", lines.join(", "))
                    }
                    Judgement::BreaksOther { missing, extra } => {
                        let mut parts = Vec::new();
                        if !missing.is_empty() {
                            parts.push(format!("claimed to break {}, which holds", missing.join(" ")));
                        }
                        if !extra.is_empty() {
                            parts.push(format!("breaks {} without a claim", extra.join(" ")));
                        }
                        parts.join("; ")
                    }
                };
                differ += 1;
                let _ = writeln!(out, "{}: {revision}: {what}", scenario.path);
            }
        }
        let cells = self.scenarios.len() * self.revisions.len();
        let _ = write!(out, "{} claims agree with the evidence, {differ} do not", cells - differ - unclaimed);
        let _ = if unclaimed > 0 { writeln!(out, ", {unclaimed} without a claim") } else { writeln!(out) };
    }
}

/// Did two runs answer alike? Which features and ioctls a kernel reports is left out: every release reports more, in every
/// scenario, and `list revisions` says what is new.
fn alike(a: &[Row], b: &[Row]) -> bool {
    let told = |row: &Row| {
        let mut row = row.clone();
        if let Answer::Returned(outcome) = &mut row.answer
            && matches!(outcome.out, Out::Api { .. } | Out::Ioctls(_))
        {
            outcome.out = Out::None;
        }
        row
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| told(a) == told(b))
}

/// The folder a scenario stands in: the matrix is grouped by it.
fn area_of(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    parts.pop().unwrap_or("").to_string()
}
