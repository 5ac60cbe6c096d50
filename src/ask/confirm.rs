// SPDX-License-Identifier: GPL-2.0-only
//! What real kernels answered to the questions of the table.
//!
//! [`gather`] looks through recordings for the sequences of the table's cells. A sequence is recognised by what it does,
//! call by call with every argument; one that goes on after it counts too. What the kernel answered is kept as text
//! ([`Confirmed::print`]) and ships with faultline as `src/ask/confirmed.txt`; whether the model agrees is not kept, but found out whenever somebody asks.

use super::answer::{Visible, failed};
use super::{Cell, Mapping, Operation, Protection, Query, Registration, State, setup};
use crate::flags::UffdPagefaultFlags;
use crate::observe::{Envelope, PageSeen, Seen};
use crate::patch::Revision;
use crate::recorded::{Archive, revision_of};
use crate::scenario::{Call, Expect, Expected, Look, Place, Step, parse, print};
use crate::syscall::{Msg, Op, Out};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::OnceLock;

/// Answers of real kernels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Confirmed {
    /// The kernels that were recorded, as uname(2) gives their release.
    pub kernels: Vec<String>,
    /// By cell: the answers of the kernels that were asked, by their place in the list.
    answers: BTreeMap<Cell, BTreeMap<usize, Visible>>,
}

/// Every cell that can be asked for.
fn all_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for &protection in Protection::ALL {
        for sigbus in [false, true] {
            cells.extend(Query { protection, sigbus, ..Query::default() }.cells());
        }
    }
    cells
}

/// The cells by what they do.
fn by_essence() -> &'static HashMap<Vec<Op>, Vec<Cell>> {
    static CELLS: OnceLock<HashMap<Vec<Op>, Vec<Cell>>> = OnceLock::new();
    CELLS.get_or_init(|| {
        let mut cells: HashMap<Vec<Op>, Vec<Cell>> = HashMap::new();
        for cell in all_cells() {
            if let Some(ops) = setup::essence(&setup::scenario(&cell).steps) {
                cells.entry(ops).or_default().push(cell);
            }
        }
        cells
    })
}

impl Confirmed {
    /// The place of a kernel in the list; it may have been there before.
    fn place(&mut self, name: &str) -> usize {
        self.kernels.iter().position(|k| k == name).unwrap_or_else(|| {
            self.kernels.push(name.to_owned());
            self.kernels.len() - 1
        })
    }

    /// Take an answer in. An error if the kernel has answered otherwise before.
    fn insert(&mut self, cell: &Cell, kernel: usize, visible: Visible) -> Result<(), String> {
        match self.answers.entry(*cell).or_default().insert(kernel, visible.clone()) {
            Some(before) if before != visible => {
                let question = setup::question(cell);
                Err(format!("{} gave two answers: {visible}, and before {before}\n{question}", self.kernels[kernel]))
            }
            _ => Ok(()),
        }
    }
}

/// Look for the table's sequences in recordings. An error if a kernel answered one of them in two ways.
pub fn gather(recordings: &[Archive]) -> Result<Confirmed, String> {
    let cells = by_essence();
    let mut confirmed = Confirmed::default();
    for recording in recordings {
        let kernel = confirmed.place(&recording.kernel);
        for case in &recording.cases {
            let Some(scenario) = case.scenario.as_ref().ok().and_then(|text| parse::scenario(&case.id, text).ok()) else {
                continue;
            };
            // Each beginning of the sequence may be a cell's: it ends before the next operation that is not reading a message.
            let goes_on = |s: &Step| !matches!(s, Step::Seen(_) | Step::Op(Call { op: Op::UffdRead { .. }, .. }));
            for (at, step) in scenario.steps.iter().enumerate() {
                if !goes_on(step) {
                    continue;
                }
                let end = scenario.steps[at + 1..].iter().position(goes_on).map_or(scenario.steps.len(), |n| at + 1 + n);
                let part = &scenario.steps[..end];
                let Some(ops) = setup::essence(part) else { break };
                let Some(visible) = cells.get(&ops).and_then(|_| answered(part)) else { continue };
                for cell in &cells[&ops] {
                    confirmed.insert(cell, kernel, visible.clone()).map_err(|e| format!("{}: {e}", case.id))?;
                }
            }
        }
    }
    Ok(confirmed)
}

/// A page as [`Mapped::visible`](super::answer::Mapped::visible) has it.
fn visible_page(page: &PageSeen) -> String {
    let frame = page.frame.unwrap_or_default();
    let mut out = match () {
        () if page.present && frame.zero_page => "pz",
        () if page.present && frame.anon => "pa",
        () if page.present => "pf",
        () if page.guard => "sg",
        () if page.swap => "s",
        () => "-",
    }
    .to_owned();
    if page.uffd_wp {
        out.push('w');
    }
    if let Envelope::Is(bytes) = page.bytes
        && let Some(byte) = bytes.0[0]
    {
        let _ = write!(out, " {byte:02x}");
    }
    out
}

/// What the last operation of a recorded sequence led to. None if the recording does not say.
fn answered(steps: &[Step]) -> Option<Visible> {
    let result = |call: &Call| {
        let text = print::expect(&call.op, &call.expect);
        let text = text.strip_prefix(" = ").unwrap_or("");
        text.strip_suffix(" {}").unwrap_or(text).to_owned()
    };
    let mut page = None;
    let mut last: Option<&Call> = None;
    let mut message = None;
    for step in steps {
        match step {
            Step::Seen(Look { place: Place::Page(setup::PAGE), seen, .. }) => {
                page = match seen {
                    Some(Seen::Page(page)) => Some(visible_page(page)),
                    _ => None,
                };
            }
            Step::Seen(_) => {}
            Step::Op(call) if matches!(call.op, Op::UffdRead { .. }) => {
                if let Expect::Is(Expected { out: Some(Out::Msg(Msg::Pagefault { flags, .. })), .. }) = &call.expect {
                    message = Some(*flags);
                }
            }
            Step::Op(call) => {
                if let Some(before) = last.filter(|before| before.expect != Expect::Any && failed(&result(before))) {
                    return Some(Visible::NoSuchState { call: print::op(&before.op), answer: result(before) });
                }
                (last, message) = (Some(call), None);
            }
            Step::Resumed { .. } | Step::Race { .. } => return None,
        }
    }
    let last = last.filter(|call| call.expect != Expect::Any)?;
    Some(Visible::Made { result: result(last), message, page: page? })
}

/// Cells that differ in the registration and in the state of the page alone.
type Row = (Operation, bool, Mapping, Protection);

fn row(cell: &Cell) -> Row {
    (cell.operation, cell.sigbus, cell.mapping, cell.protection)
}

/// A number that changes when one of the cells' sequences does, or which cells there are (FNV-1a).
fn fingerprint<'c>(cells: impl Iterator<Item = &'c Cell>) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for cell in cells {
        for op in setup::essence(&setup::scenario(cell).steps).unwrap_or_default() {
            for byte in print::op(&op).bytes() {
                hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
    }
    hash
}

const HEAD: &str = "\
# SPDX-License-Identifier: GPL-2.0-only
# What real kernels answered to the questions of `faultline ask`.
# Made by `faultline ask --confirm RECORDING... > src/ask/confirmed.txt`.
# Cells of an operation, a mapping and a protection, with the fingerprint of what is done; and of the kernels that answered
# alike: their numbers; answer; message; page table entry and first byte; registrations, each with states of the page.
";

impl Confirmed {
    /// What ships with faultline.
    pub fn shipped() -> &'static Confirmed {
        static SHIPPED: OnceLock<Confirmed> = OnceLock::new();
        SHIPPED.get_or_init(|| match Confirmed::read(include_str!("confirmed.txt")) {
            Ok(confirmed) => confirmed,
            Err(e) => panic!("src/ask/confirmed.txt: {e}"),
        })
    }

    /// The kernels of a release that were asked.
    pub fn kernels_of(&self, revision: Revision) -> Vec<usize> {
        (0..self.kernels.len()).filter(|&k| revision_of(&self.kernels[k]) == Some(revision)).collect()
    }

    /// What a kernel of a release answered: the first that was asked. The model has CONFIG_MEMORY_FAILURE: of a kernel without
    /// it, the signal of a poisoned page is taken for the one that it would raise with it.
    pub fn answer(&self, cell: &Cell, revision: Revision) -> Option<(usize, Visible)> {
        let answers = self.answers.get(cell)?;
        let kernel = self.kernels_of(revision).into_iter().find(|k| answers.contains_key(k))?;
        let mut visible = answers.get(&kernel)?.clone();
        if let Visible::Made { result, .. } = &mut visible
            && cell.state == State::Poisoned
            && result == "SIGBUS"
        {
            "SIGBUS_MCEERR_AR".clone_into(result);
        }
        Some((kernel, visible))
    }

    /// Was the kernel built without CONFIG_MEMORY_FAILURE? Then a poisoned page raises SIGBUS with BUS_ADRERR, else with
    /// BUS_MCEERR_AR.
    pub fn lacks_memory_failure(&self, kernel: usize) -> bool {
        let poisoned = self.answers.iter().filter(|(cell, _)| cell.state == State::Poisoned);
        poisoned
            .filter_map(|(_, seen)| seen.get(&kernel))
            .any(|seen| matches!(seen, Visible::Made { result, .. } if result == "SIGBUS"))
    }

    /// How many cells each kernel was asked.
    pub fn counts(&self) -> Vec<usize> {
        (0..self.kernels.len()).map(|k| self.answers.values().filter(|a| a.contains_key(&k)).count()).collect()
    }

    /// As text.
    pub fn print(&self) -> String {
        let mut out = HEAD.to_owned();
        for (number, name) in self.kernels.iter().enumerate() {
            let _ = writeln!(out, "kernel {number} {name}");
        }
        let mut rows: BTreeMap<Row, Vec<Cell>> = BTreeMap::new();
        for cell in self.answers.keys() {
            rows.entry(row(cell)).or_default().push(*cell);
        }
        for ((operation, sigbus, mapping, protection), cells) in rows {
            let sigbus = if sigbus { " sigbus" } else { "" };
            let _ = writeln!(out, "{operation}{sigbus} {mapping} {protection} {:08x}", fingerprint(cells.iter()));
            let mut alike: BTreeMap<(String, String), BTreeMap<Registration, Vec<&str>>> = BTreeMap::new();
            for cell in &cells {
                let mut by_answer: BTreeMap<&Visible, String> = BTreeMap::new();
                for (kernel, visible) in &self.answers[cell] {
                    let _ = write!(by_answer.entry(visible).or_default(), "{kernel}");
                }
                for (visible, kernels) in by_answer {
                    let cells = alike.entry((kernels, line(visible))).or_default();
                    cells.entry(cell.registration).or_default().push(cell.state.word());
                }
            }
            for ((kernels, line), cells) in alike {
                let cells: Vec<String> = cells.iter().map(|(r, states)| format!("{r}: {}", states.join(" "))).collect();
                let _ = writeln!(out, "  {kernels}; {line}; {}", cells.join("; "));
            }
        }
        out
    }

    /// Read it again.
    pub fn read(text: &str) -> Result<Confirmed, String> {
        rows_of(text).map(|(confirmed, _)| confirmed)
    }

    /// The rows of a text whose sequences are no longer those that were recorded.
    pub fn stale(text: &str) -> Result<Vec<String>, String> {
        let (confirmed, rows) = rows_of(text)?;
        let of = |key: Row| fingerprint(confirmed.answers.keys().filter(|c| row(c) == key));
        Ok(rows.into_iter().filter(|(key, print, _)| of(*key) != *print).map(|(_, _, text)| text).collect())
    }
}

/// Rows with their fingerprints, as they stand in a text.
type Rows = Vec<(Row, u32, String)>;

/// What a text says, and its rows.
fn rows_of(text: &str) -> Result<(Confirmed, Rows), String> {
    let mut confirmed = Confirmed::default();
    let mut rows: Rows = Vec::new();
    for (number, text) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.is_empty()) {
        let wrong = || format!("line {}: not understood: {text}", number + 1);
        if let Some(rest) = text.strip_prefix("kernel ") {
            confirmed.kernels.push(rest.split_once(' ').ok_or_else(wrong)?.1.to_owned());
        } else if let Some(rest) = text.strip_prefix("  ") {
            let ((operation, sigbus, mapping, protection), ..) = rows.last().ok_or_else(wrong)?.clone();
            let parts: Vec<&str> = rest.split("; ").collect();
            let [kernels, result, message, page, cells @ ..] = &parts[..] else { return Err(wrong()) };
            let visible = visible(result, message, page).ok_or_else(wrong)?;
            for cells in cells {
                let (registration, states) = cells.split_once(": ").ok_or_else(wrong)?;
                let registration = Registration::from_word(registration)?;
                for state in states.split(' ') {
                    let state = State::from_word(state)?;
                    let cell = Cell { operation, sigbus, mapping, protection, registration, state };
                    for kernel in kernels.chars() {
                        let kernel = kernel.to_digit(10).ok_or_else(wrong)? as usize;
                        confirmed.answers.entry(cell).or_default().insert(kernel, visible.clone());
                    }
                }
            }
        } else {
            let sigbus = text.contains(" sigbus ");
            let words: Vec<&str> = text.split(' ').filter(|w| *w != "sigbus").collect();
            let [operation, mapping, protection, print] = words[..] else { return Err(wrong()) };
            let row =
                (Operation::from_word(operation)?, sigbus, Mapping::from_word(mapping)?, Protection::from_word(protection)?);
            rows.push((row, u32::from_str_radix(print, 16).map_err(|_| wrong())?, text.to_owned()));
        }
    }
    Ok((confirmed, rows))
}

/// An answer in the file; `;` stands in no part of it.
fn line(visible: &Visible) -> String {
    match visible {
        Visible::NoSuchState { call, answer } => format!("{answer}; !; {call}"),
        Visible::Made { result, message, page } => {
            let message = message.map_or("-".to_owned(), |m| m.bits().to_string());
            let result = if result.is_empty() { "blocked" } else { result };
            format!("{result}; {message}; {page}")
        }
    }
}

fn visible(result: &str, message: &str, page: &str) -> Option<Visible> {
    if message == "!" {
        return Some(Visible::NoSuchState { call: page.to_owned(), answer: result.to_owned() });
    }
    let message = match message {
        "-" => None,
        bits => Some(UffdPagefaultFlags::from_bits(bits.parse().ok()?)?),
    };
    let result = if result == "blocked" { String::new() } else { result.to_owned() };
    Some(Visible::Made { result, message, page: page.to_owned() })
}
