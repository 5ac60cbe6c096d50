// SPDX-License-Identifier: GPL-2.0-only
//! Cells with their answers, and tables of them in which those that answer alike stand together.

use super::answer::{self, Answer, Visible, in_short};
use super::confirm::Confirmed;
use super::{Cell, KERNELS, Mapping, Operation, Query, Registration, State, kernel_name};
use crate::patch::Revision;
use std::collections::BTreeMap;

/// A cell, answered by the model, and where it was recorded by a kernel too.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The question.
    pub cell: Cell,
    /// The model's answers, by revision.
    pub answers: Vec<Answer>,
    /// The answers of kernels that the revisions model, each with the kernel's place in [`Confirmed::kernels`].
    pub recorded: Vec<Option<(usize, Visible)>>,
}

/// Everything that was asked for.
#[derive(Clone, Debug)]
pub struct Answers {
    /// On these revisions.
    pub revisions: Vec<Revision>,
    /// The cells, in the order of [`Query::cells`].
    pub cells: Vec<Answered>,
}

/// How far a cell is confirmed on one revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// A real kernel answered the same.
    Recorded,
    /// No recording holds it.
    ModelOnly,
    /// A real kernel answered something else.
    Differs,
}

impl Answered {
    /// How far its answer on the revision at this place is confirmed.
    pub fn standing(&self, at: usize) -> Standing {
        match &self.recorded[at] {
            None => Standing::ModelOnly,
            Some((_, seen)) if *seen == self.answers[at].visible() => Standing::Recorded,
            Some(_) => Standing::Differs,
        }
    }

    /// The model's answer in a table; None if the page cannot come to its state there.
    pub fn short(&self, at: usize) -> Option<String> {
        match &self.answers[at] {
            Answer::NoSuchState { .. } => None,
            Answer::Made(made) => Some(made.short(self.cell.operation.is_access())),
        }
    }

    /// The kernel's answer in a table, where it is not the model's.
    fn unlike(&self, at: usize) -> Option<String> {
        let (_, seen) = self.recorded[at].as_ref().filter(|_| self.standing(at) == Standing::Differs)?;
        let (result, message, page) = match seen {
            Visible::NoSuchState { call, answer } => return Some(format!("{} answers {answer}", name_of(call))),
            Visible::Made { result, message, page } => (result, message, page),
        };
        let (mut out, done) = in_short(result, *message, self.cell.operation.is_access());
        let model = match &self.answers[at] {
            Answer::Made(made) => made.after.visible(),
            Answer::NoSuchState { .. } => "-".to_owned(),
        };
        if done || *page != model {
            let bits = page.split(' ').next().unwrap_or("");
            let what = match bits.trim_end_matches('w') {
                "-" => "nothing",
                "pf" => "cache page",
                "pa" => "anon page",
                "pz" => "zero page",
                "sg" => "guard marker",
                _ if bits == "sw" => "marker or swap",
                _ => "poison marker or swap",
            };
            out += &format!(", {what}{}", if bits.ends_with('w') { " wp" } else { "" });
        }
        Some(out)
    }
}

/// The name of a call: `MADV_GUARD_INSTALL`, `UFFDIO_POISON`, `munmap`.
pub fn name_of(call: &str) -> &str {
    let mut words = call.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.clone().find(|w| w.starts_with("MADV_") || w.starts_with("UFFDIO_")).or(words.next()).unwrap_or(call)
}

/// Answer a query, on as many threads as the machine has.
pub fn answers(query: &Query, confirmed: &Confirmed) -> Answers {
    let cells = query.cells();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = cells.len().div_ceil(threads).max(1);
    let answered = |cell: &Cell| Answered {
        cell: *cell,
        answers: answer::answers(cell, &query.revisions),
        recorded: query.revisions.iter().map(|&r| confirmed.answer(cell, r)).collect(),
    };
    let done = parking_lot::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for (number, part) in cells.chunks(share).enumerate() {
            let (answered, done) = (&answered, &done);
            scope.spawn(move || {
                let part: Vec<Answered> = part.iter().map(answered).collect();
                done.lock().insert(number, part);
            });
        }
    });
    Answers { revisions: query.revisions.clone(), cells: done.into_inner().into_values().flatten().collect() }
}

/// A table to be printed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// The columns' names; the first is that of the rows' names.
    pub head: Vec<String>,
    /// The rows; each begins with its name.
    pub rows: Vec<Vec<String>>,
    /// What is the same in all of it, and left out.
    pub notes: Vec<String>,
}

/// What a kernel answers, by revision; None where there is no such cell.
type Text = Vec<Option<String>>;

/// Can both stand in one place?
fn fits(a: &[Option<String>], b: &[Option<String>]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none() || a == b)
}

fn fill(a: &mut [Option<String>], b: &[Option<String>]) {
    for (a, b) in a.iter_mut().zip(b) {
        if a.is_none() {
            a.clone_from(b);
        }
    }
}

/// Put neighbours together that can be: members, and what they have in common.
fn gathered<T: Copy>(all: impl Iterator<Item = (T, Vec<Text>)>) -> Vec<(Vec<T>, Vec<Text>)> {
    let mut groups: Vec<(Vec<T>, Vec<Text>)> = Vec::new();
    for (member, texts) in all {
        match groups.iter_mut().find(|(_, have)| have.iter().zip(&texts).all(|(a, b)| fits(a, b))) {
            Some((members, have)) => {
                members.push(member);
                have.iter_mut().zip(&texts).for_each(|(a, b)| fill(a, b));
            }
            None => groups.push((vec![member], texts)),
        }
    }
    groups
}

/// How many cells are confirmed, of how many.
#[derive(Clone, Copy, Default)]
struct Count {
    recorded: usize,
    of: usize,
}

impl Answers {
    /// The cells of one table.
    fn of(&self, operation: Operation, mapping: Mapping) -> impl Iterator<Item = &Answered> {
        self.cells.iter().filter(move |a| a.cell.operation == operation && a.cell.mapping == mapping)
    }

    /// Some of the revisions: `5.19-6.12`. A range holds nothing that was not asked.
    pub fn ranges(&self, revisions: &[usize]) -> String {
        let place = |at: usize| {
            let revision = self.revisions[at];
            let kernel = KERNELS.iter().position(|r| *r == revision);
            kernel.map(|k| (true, k)).or(Revision::ALL.iter().position(|r| *r == revision).map(|r| (false, r)))
        };
        let next = |a: &usize, b: &usize| match (place(*a), place(*b)) {
            (Some((of, a)), Some((also, b))) => of == also && a + 1 == b,
            _ => false,
        };
        let name = |at: usize| kernel_name(self.revisions[at]);
        let ranges = revisions.chunk_by(next).map(|run| match run {
            [one] => name(*one).to_owned(),
            run => format!("{}-{}", name(run[0]), name(run[run.len() - 1])),
        });
        ranges.collect::<Vec<_>>().join(", ")
    }

    /// What stands in a place of a table: one answer, or some with the kernels that give them.
    fn text(&self, texts: &[Option<String>]) -> String {
        let mut kinds: Vec<(&String, Vec<usize>)> = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let Some(text) = text else { continue };
            match kinds.iter_mut().find(|(kind, _)| *kind == text) {
                Some((_, where_)) => where_.push(at),
                None => kinds.push((text, vec![at])),
            }
        }
        match &kinds[..] {
            [] => "-".to_owned(),
            [(text, _)] => (*text).clone(),
            many => many.iter().map(|(text, at)| format!("{}: {text}", self.ranges(at))).collect::<Vec<_>>().join("; "),
        }
    }

    /// The table of an operation on a mapping; None if there are no such cells.
    pub fn table(&self, operation: Operation, mapping: Mapping) -> Option<Table> {
        let cells: BTreeMap<(State, Registration), &Answered> =
            self.of(operation, mapping).map(|a| ((a.cell.state, a.cell.registration), a)).collect();
        let n = self.revisions.len();
        let exists = |a: &Answered| (0..n).any(|at| a.short(at).is_some() || a.unlike(at).is_some());
        let mut states: Vec<State> = cells.values().filter(|a| exists(a)).map(|a| a.cell.state).collect();
        states.sort();
        states.dedup();
        let mut registrations: Vec<Registration> = Registration::ALL.to_vec();
        registrations.retain(|&r| cells.values().any(|a| a.cell.registration == r && exists(a)));
        if states.is_empty() {
            return None;
        }
        let mut notes = Vec::new();
        // A kernel that answers all of this in one way is told once.
        let mut hidden: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for at in (0..n).filter(|&at| n > 1 && cells.values().all(|a| a.unlike(at).is_none())) {
            let mut all: Vec<String> = cells.values().filter_map(|a| a.short(at)).collect();
            all.sort();
            all.dedup();
            if let [one] = &all[..] {
                hidden.entry(one.clone()).or_default().push(at);
            }
        }
        if hidden.values().map(Vec::len).sum::<usize>() == n {
            hidden.clear();
        }
        for (text, at) in &hidden {
            notes.push(format!("{}: always {text}.", self.ranges(at)));
        }
        let shown = |state: State, registration: Registration| -> Text {
            let visible = |at: &usize| !hidden.values().flatten().any(|h| h == at);
            let short = |a: &&Answered| (0..n).map(|at| Some(at).filter(visible).and_then(|at| a.short(at))).collect();
            cells.get(&(state, registration)).map_or(vec![None; n], short)
        };
        let columns = gathered(registrations.iter().map(|&r| (r, states.iter().map(|&s| shown(s, r)).collect())));
        // Rows with other answers of real kernels stand alone.
        let by_row = states.iter().enumerate().map(|(i, &s)| {
            let texts = columns.iter().map(|(members, texts)| {
                let unlike = members.iter().filter_map(|&r| cells.get(&(s, r)).copied());
                let mut text = texts[i].clone();
                text.push(Some(self.unlike(&unlike.collect::<Vec<_>>())));
                text
            });
            (s, texts.collect())
        });
        let rows = gathered(by_row);
        let mut table = Table { head: vec!["page".to_owned()], rows: Vec::new(), notes };
        table.head.extend(columns.iter().map(|(members, _)| label(members, &registrations)));
        for (members, texts) in rows {
            let mut row = vec![members.iter().map(|s| s.word()).collect::<Vec<_>>().join(", ")];
            for ((of, _), text) in columns.iter().zip(&texts) {
                let mut count = Count::default();
                for (&s, &r) in members.iter().flat_map(|s| of.iter().map(move |r| (s, r))) {
                    let Some(a) = cells.get(&(s, r)) else { continue };
                    for at in (0..n).filter(|&at| a.short(at).is_some() && self.could_be_recorded(at)) {
                        count.of += 1;
                        count.recorded += usize::from(a.standing(at) == Standing::Recorded);
                    }
                }
                let parts = [self.text(&text[..n]) + &mark(count), text[n].clone().unwrap_or_default()];
                let [model, kernel] = &parts;
                row.push(match (model.as_str(), kernel.as_str()) {
                    (_, "") => model.clone(),
                    ("-", kernel) => kernel.to_owned(),
                    _ => parts.join("; "),
                });
            }
            table.rows.push(row);
        }
        Some(table)
    }

    /// What real kernels answered to some cells instead, of one place of a table; empty if nothing else.
    fn unlike(&self, cells: &[&Answered]) -> String {
        let mut kinds: BTreeMap<String, (Vec<usize>, bool)> = BTreeMap::new();
        for at in 0..self.revisions.len() {
            for text in cells.iter().filter_map(|a| a.unlike(at)) {
                let alike = cells.iter().any(|a| a.standing(at) == Standing::Recorded);
                let (places, in_part) = kinds.entry(text).or_default();
                if !places.contains(&at) {
                    places.push(at);
                }
                *in_part |= alike;
            }
        }
        let part = |in_part: bool| if in_part { " in part" } else { "" };
        let texts = kinds.iter().map(|(text, (at, in_part))| format!("**kernel {}{}: {text}**", self.ranges(at), part(*in_part)));
        texts.collect::<Vec<_>>().join("; ")
    }

    /// Is there a recording of the kernel that the revision models?
    fn could_be_recorded(&self, at: usize) -> bool {
        !Confirmed::shipped().kernels_of(self.revisions[at]).is_empty()
    }

    /// Cells in which a real kernel answers something else, with their place in [`Answers::revisions`].
    pub fn differences(&self) -> impl Iterator<Item = (&Answered, usize)> {
        self.cells
            .iter()
            .flat_map(|a| (0..self.revisions.len()).map(move |at| (a, at)))
            .filter(|(a, at)| a.standing(*at) == Standing::Differs)
    }

    /// Cells that exist on the revision at this place, and of them those that were recorded with the same answer.
    pub fn counts(&self, at: usize) -> (usize, usize) {
        let exist = self.cells.iter().filter(|a| a.short(at).is_some());
        exist.fold((0, 0), |(all, recorded), a| (all + 1, recorded + usize::from(a.standing(at) == Standing::Recorded)))
    }
}

fn mark(count: Count) -> String {
    match count {
        Count { recorded: 0, .. } => String::new(),
        Count { recorded, of } if recorded == of => " ✓".to_owned(),
        Count { recorded, of } => format!(" ✓{recorded}/{of}"),
    }
}

/// Some ways of registering, of those that there are: `registered`, `WP`, `MISSING without MINOR`.
pub fn label(some: &[Registration], all: &[Registration]) -> String {
    let mut registered: Vec<Registration> = some.iter().copied().filter(|r| *r != Registration::NONE).collect();
    registered.sort();
    let unregistered = some.contains(&Registration::NONE);
    let mut universe: Vec<Registration> = all.iter().copied().filter(|r| *r != Registration::NONE).collect();
    universe.sort();
    let name = if registered.is_empty() {
        return "not registered".to_owned();
    } else if let [one] = registered[..] {
        let word = one.word().to_uppercase();
        if one.mode().bits().count_ones() == 1 && universe.len() > 1 { format!("{word} only") } else { word }
    } else if registered == universe && universe.len() > 1 {
        "registered".to_owned()
    } else {
        described(&registered, &universe).unwrap_or_else(|| {
            let words: Vec<String> = registered.iter().map(|r| r.word().to_uppercase()).collect();
            words.join(" or ")
        })
    };
    if !unregistered {
        name
    } else if registered == universe {
        "registered or not".to_owned()
    } else {
        format!("{name}; not registered")
    }
}

/// By what they have and do not have in common, if that says it all.
fn described(some: &[Registration], universe: &[Registration]) -> Option<String> {
    const NAMES: [(u64, &str); 3] = [(1, "MISSING"), (2, "WP"), (4, "MINOR")];
    let names = |bits: u64| NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, n)| *n).collect::<Vec<_>>();
    let mut best: Option<(usize, String)> = None;
    for with in 0..8 {
        for without in (0..8).filter(|w| w & with == 0) {
            let fitting: Vec<Registration> =
                universe.iter().copied().filter(|r| r.mode().bits() & with == with && r.mode().bits() & without == 0).collect();
            if fitting != some {
                continue;
            }
            let mut text = names(with).join(" and ");
            if without != 0 {
                if !text.is_empty() {
                    text.push(' ');
                }
                text += &format!("without {}", names(without).join(" and "));
            }
            // What they have says more than what they have not.
            let length = 2 * with.count_ones() as usize + 3 * without.count_ones() as usize;
            if best.as_ref().is_none_or(|(l, _)| length < *l) {
                best = Some((length, text));
            }
        }
    }
    best.map(|(_, text)| text)
}
