// SPDX-License-Identifier: GPL-2.0-only
//! What real kernels answered to the questions of the table.
//!
//! [`gather`] looks through recordings for the sequences of the table's cells. A sequence is recognised by what it does,
//! call by call with every argument; one that goes on after it counts too. What the kernel answered is kept as text
//! ([`Confirmed::print`]) and ships with faultline; whether the model agrees is not kept, but found out whenever somebody asks.

use super::answer::{Visible, failed};
use super::{Cell, Mapping, Operation, Protection, Query, Registration, State, setup};
use crate::flags::UffdPagefaultFlags;
use crate::patch::Revision;
use crate::recorded::{Recording, convert};
use crate::scenario::{Call, Expect, Scenario, Step, parse, print};
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
            if let Some(ops) = setup::essence(&setup::scenario(&cell)) {
                cells.entry(ops).or_default().push(cell);
            }
        }
        cells
    })
}

/// Look for the table's sequences in recordings. An error if a kernel answered one of them in two ways.
pub fn gather(recordings: &[Recording]) -> Result<Confirmed, String> {
    let cells = by_essence();
    let mut confirmed = Confirmed::default();
    for recording in recordings {
        let kernel = confirmed.kernels.len();
        confirmed.kernels.push(recording.kernel.clone());
        for case in &recording.cases {
            let mut page = None;
            for step in 0..case.steps.len() {
                page = case.steps[step]["d"]["m0.1"].as_str().map(visible_page).or(page);
                // Each beginning of the sequence may be a cell's.
                let mut part = case.clone();
                part.steps.truncate(step + 1);
                let Some(scenario) = convert(&part).ok().and_then(|text| parse::scenario(&case.id, &text).ok()) else { break };
                let Some(found) = setup::essence(&scenario).and_then(|ops| cells.get(&ops)) else { continue };
                let Some(page) = &page else { continue };
                let Some(visible) = answered(&scenario, page) else { continue };
                for cell in found {
                    let before = confirmed.answers.entry(*cell).or_default().insert(kernel, visible.clone());
                    if let Some(before) = before.filter(|b| *b != visible) {
                        return Err(format!("{}: {}: {visible}, and elsewhere {before}", recording.kernel, case.id));
                    }
                }
            }
        }
    }
    Ok(confirmed)
}

/// A page as a recording describes it, as [`Mapped::visible`](super::answer::Mapped::visible) does.
fn visible_page(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let bits = words[0];
    let value = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)).unwrap_or("");
    let mut out = match () {
        () if bits.contains('p') && words.contains(&"Z") => "pz",
        () if bits.contains('p') && value("kf=").contains('a') => "pa",
        () if bits.contains('p') => "pf",
        () if bits.contains('g') => "sg",
        () if bits.contains('s') => "s",
        () => "-",
    }
    .to_owned();
    if bits.contains('w') {
        out.push('w');
    }
    if let Some(byte) = value("b=").get(..2) {
        let _ = write!(out, " {byte}");
    }
    out
}

/// What the last operation of a recorded sequence led to. None if the recording does not say.
fn answered(scenario: &Scenario, page: &str) -> Option<Visible> {
    let calls: Vec<&Call> = scenario.calls().collect();
    let last = calls.iter().rposition(|c| !matches!(c.op, Op::UffdRead { .. }))?;
    let result = |call: &Call| {
        let text = print::expect(&call.op, &call.expect);
        let text = text.strip_prefix(" = ").unwrap_or("");
        text.strip_suffix(" {}").unwrap_or(text).to_owned()
    };
    for call in calls[..last].iter().filter(|c| c.expect != Expect::Any) {
        if failed(&result(call)) {
            return Some(Visible::NoSuchState { call: print::op(&call.op), answer: result(call) });
        }
    }
    if calls[last].expect == Expect::Any || scenario.steps.iter().any(|s| matches!(s, Step::Resumed { .. })) {
        return None;
    }
    let message = calls[last + 1..].iter().find_map(|c| match &c.expect {
        Expect::Is(e) => match e.out {
            Some(Out::Msg(Msg::Pagefault { flags, .. })) => Some(flags),
            _ => None,
        },
        _ => None,
    });
    Some(Visible::Made { result: result(calls[last]), message, page: page.to_owned() })
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
        for op in setup::essence(&setup::scenario(cell)).unwrap_or_default() {
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

    /// The kernel that was recorded for a release.
    pub fn kernel_of(&self, revision: Revision) -> Option<usize> {
        self.kernels.iter().position(|name| Recording { kernel: name.clone(), cases: Vec::new() }.revision() == Some(revision))
    }

    /// What the kernel of a release answered. The model has CONFIG_MEMORY_FAILURE: of a kernel without it, the signal of a
    /// poisoned page is taken for the one that it would raise with it.
    pub fn answer(&self, cell: &Cell, revision: Revision) -> Option<Visible> {
        let kernel = self.kernel_of(revision)?;
        let mut visible = self.answers.get(cell)?.get(&kernel)?.clone();
        if let Visible::Made { result, .. } = &mut visible
            && cell.state == State::Poisoned
            && result == "SIGBUS"
        {
            "SIGBUS_MCEERR_AR".clone_into(result);
        }
        Some(visible)
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
