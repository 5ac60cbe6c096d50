// SPDX-License-Identifier: GPL-2.0-only
//! Running a cell's scenario on the model, and what is seen then.

use super::Cell;
use super::setup::{self, PAGE};
use crate::flags::*;
use crate::kernel::{Kernel, PageMapping, PteVal, ZERO_CELLS};
use crate::machine::Machine;
use crate::mm::pgtable::{lookup, pte_uffd_wp, pte_write, vm_normal_page};
use crate::patch::Revision;
use crate::scenario::{Expect, Expected, ExpectedRet, Scenario, Step, print};
use crate::syscall::{Msg, Op, Out, Outcome};
use std::fmt;

/// What the page-table entry of the page holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entry {
    /// Nothing.
    None,
    /// A page of the file.
    CachePage,
    /// A page of its own.
    AnonPage,
    /// The zero page.
    ZeroPage,
    /// A swap slot.
    Swap,
    /// A PTE marker: write-protected, or nothing, if [`Mapped::wp`] is not set either.
    Marker,
    /// A PTE marker: accesses raise SIGBUS.
    Poison,
    /// A PTE marker: accesses raise SIGSEGV.
    Guard,
}

/// What is mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mapped {
    /// What.
    pub entry: Entry,
    /// The entry may be written through.
    pub writable: bool,
    /// userfaultfd write-protects it.
    pub wp: bool,
    /// The first byte, where a page is mapped.
    pub byte: Option<u8>,
}

impl Mapped {
    /// Look at the page in question.
    fn of(k: &Kernel) -> Mapped {
        let mm = k.s().procs.iter().find_map(|(_, p)| p.mm);
        let pte = mm.map_or(PteVal::None, |mm| lookup(k, mm, PAGE));
        let mut mapped = Mapped { entry: Entry::None, writable: pte_write(pte), wp: pte_uffd_wp(pte), byte: None };
        match pte {
            PteVal::None => {}
            PteVal::Swap { .. } => mapped.entry = Entry::Swap,
            PteVal::Marker(marker) => {
                mapped.wp = marker.contains(PTE_MARKER_UFFD_WP);
                mapped.entry = if marker.contains(PTE_MARKER_POISONED) {
                    Entry::Poison
                } else if marker.contains(PTE_MARKER_GUARD) {
                    Entry::Guard
                } else {
                    Entry::Marker
                };
            }
            PteVal::Present { .. } => match vm_normal_page(pte) {
                None => (mapped.entry, mapped.byte) = (Entry::ZeroPage, Some(ZERO_CELLS[0].byte())),
                Some(page) => {
                    let page = k.page(page);
                    mapped.entry = match page.mapping {
                        PageMapping::Anon(_) => Entry::AnonPage,
                        PageMapping::None | PageMapping::Inode(_) => Entry::CachePage,
                    };
                    mapped.byte = Some(page.cells[0].byte());
                }
            },
        }
        mapped
    }

    /// A page is mapped: it can be loaded from without a fault.
    fn present(self) -> bool {
        matches!(self.entry, Entry::CachePage | Entry::AnonPage | Entry::ZeroPage)
    }

    /// In a table.
    pub fn short(self) -> String {
        let what = match self.entry {
            Entry::None => "nothing",
            Entry::CachePage => "cache page",
            Entry::AnonPage => "anon page",
            Entry::ZeroPage => "zero page",
            Entry::Swap => "swap",
            Entry::Marker => "marker",
            Entry::Poison => "poison marker",
            Entry::Guard => "guard marker",
        };
        let rights = match (self.present(), self.writable) {
            (true, true) => " rw",
            (true, false) => " ro",
            (false, _) => "",
        };
        format!("{what}{rights}{}", if self.wp { " wp" } else { "" })
    }

    /// What pagemap and kpageflags show of it, and the first byte: what can be compared with a recording.
    pub fn visible(self) -> String {
        let present = match self.entry {
            Entry::None => "-",
            Entry::CachePage => "pf",
            Entry::AnonPage => "pa",
            Entry::ZeroPage => "pz",
            Entry::Swap | Entry::Marker | Entry::Poison => "s",
            Entry::Guard => "sg",
        };
        let wp = if self.wp { "w" } else { "" };
        let byte = self.byte.map_or(String::new(), |b| format!(" {b:02x}"));
        format!("{present}{wp}{byte}")
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.entry {
            Entry::None => "nothing (the PTE is none)",
            Entry::CachePage => "the page of the page cache",
            Entry::AnonPage => "an anonymous page",
            Entry::ZeroPage => "the zero page",
            Entry::Swap => "a swap entry",
            Entry::Marker => "a PTE marker",
            Entry::Poison => "a PTE marker that says poisoned",
            Entry::Guard => "a guard marker",
        })?;
        if self.present() {
            f.write_str(if self.writable { ", writable" } else { ", read-only" })?;
        }
        if self.wp {
            f.write_str(", write-protected")?;
        }
        match self.byte {
            Some(0) => f.write_str("; it holds zeroes"),
            Some(setup::COPIED) => f.write_str("; it holds what was copied"),
            Some(setup::STORED) => f.write_str("; it holds what was stored"),
            Some(setup::DATA) => f.write_str("; it holds the data"),
            Some(other) => write!(f, "; it begins with {other:#04x}"),
            None => Ok(()),
        }
    }
}

/// How a cell is answered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Answer {
    /// The page cannot come to that state: this call failed, with this answer.
    NoSuchState {
        /// The call as it stands in the scenario.
        call: String,
        /// Its answer.
        answer: String,
    },
    /// The operation was made.
    Made(Made),
}

/// What an operation led to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Made {
    /// As it stands behind `=` in a scenario; empty while it is blocked.
    pub result: String,
    /// The flags of the page fault's message, if one was raised.
    pub message: Option<UffdPagefaultFlags>,
    /// What was mapped before.
    pub before: Mapped,
    /// What is mapped afterwards.
    pub after: Mapped,
}

impl Made {
    /// Is the thread asleep in its access?
    pub fn blocked(&self) -> bool {
        self.result.is_empty()
    }

    /// `MISSING`, `WP WRITE`: the reason of a message, and whether it is for a store.
    pub fn event(&self) -> Option<String> {
        self.message.map(event)
    }

    /// In a table: the errno alone, or 0 (of an access: ok) and what is mapped, or the message.
    pub fn short(&self, access: bool) -> String {
        let (out, done) = in_short(&self.result, self.message, access);
        if done || self.after != self.before { format!("{out}, {}", self.after.short()) } else { out }
    }
}

impl Answer {
    /// What can be compared with a recording: answer, message, page as user space sees it.
    pub fn visible(&self) -> Visible {
        match self {
            Answer::NoSuchState { call, answer } => Visible::NoSuchState { call: call.clone(), answer: answer.clone() },
            Answer::Made(made) => {
                Visible::Made { result: made.result.clone(), message: made.message, page: made.after.visible() }
            }
        }
    }
}

/// An [`Answer`] as far as user space of a real kernel can see it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Visible {
    /// As in [`Answer`].
    NoSuchState {
        /// The call.
        call: String,
        /// Its answer.
        answer: String,
    },
    /// As in [`Answer`].
    Made {
        /// As in [`Made`].
        result: String,
        /// As in [`Made`].
        message: Option<UffdPagefaultFlags>,
        /// [`Mapped::visible`].
        page: String,
    },
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Visible::NoSuchState { call, answer } => write!(f, "{call} already answers {answer}"),
            Visible::Made { result, message, page } => {
                f.write_str(if result.is_empty() { "blocked" } else { result })?;
                if let Some(message) = message {
                    write!(f, ", message {}", event(*message))?;
                }
                write!(f, ", pagemap {page}")
            }
        }
    }
}

/// The reason of a page fault, and whether it is for a store: `WP WRITE`.
pub fn event(flags: UffdPagefaultFlags) -> String {
    let reason = if flags.contains(UFFD_PAGEFAULT_FLAG_WP) {
        "WP"
    } else if flags.contains(UFFD_PAGEFAULT_FLAG_MINOR) {
        "MINOR"
    } else {
        "MISSING"
    };
    let store = if flags.contains(UFFD_PAGEFAULT_FLAG_WRITE) { " WRITE" } else { "" };
    format!("{reason}{store}")
}

/// How an operation stands, in a table; and whether it did what was asked.
pub fn in_short(result: &str, message: Option<UffdPagefaultFlags>, access: bool) -> (String, bool) {
    match (result.strip_prefix("-1 "), message) {
        (Some(failed), _) => (failed.split(' ').next().unwrap_or(failed).to_owned(), false),
        (None, Some(message)) => (format!("message {}", event(message)), false),
        (None, None) if result.starts_with("SIG") => (result.to_owned(), false),
        (None, None) if result.is_empty() => ("blocked".to_owned(), false),
        (None, None) => (if access { "ok" } else { "0" }.to_owned(), true),
    }
}

/// A call of the set-up that ends like this gives no page in the state that is wanted.
pub fn failed(result: &str) -> bool {
    result.is_empty() || result.starts_with("-1 ") || result.starts_with("SIG")
}

/// A cell on a revision: its answer, and the scenario with every answer filled in.
pub struct Asked {
    /// How it is answered.
    pub answer: Answer,
    /// What can be replayed.
    pub scenario: Scenario,
}

/// Run a cell on a revision.
pub fn ask(cell: &Cell, revision: Revision) -> Asked {
    run(setup::scenario(cell), revision)
}

/// The answers of a cell, revision by revision.
pub fn answers(cell: &Cell, revisions: &[Revision]) -> Vec<Answer> {
    let scenario = setup::scenario(cell);
    revisions.iter().map(|&r| run(scenario.clone(), r).answer).collect()
}

fn run(mut scenario: Scenario, revision: Revision) -> Asked {
    let mut machine = Machine::new(revision, scenario.machine.config());
    let main = machine.main_task();
    let tasks = [main, if scenario.threads.len() > 1 { machine.spawn_thread(main) } else { main }];
    let _ = machine.run(main, &Op::Swapon { slots: scenario.machine.swap });
    let last = scenario.steps.len() - 2;
    let mut made = Made { result: String::new(), message: None, before: Mapped::of(&machine.k), after: Mapped::of(&machine.k) };
    for at in 0..scenario.steps.len() {
        let Step::Op(call) = &mut scenario.steps[at] else { continue };
        if at == last {
            made.before = Mapped::of(&machine.k);
        }
        let ended = machine.run(tasks[call.thread], &call.op).ok().flatten();
        let result = ended.as_ref().map_or(String::new(), |outcome| print::outcome(&call.op, outcome));
        call.expect = ended.as_ref().map_or(Expect::Blocked, |outcome| Expect::Is(promised(&call.op, outcome)));
        if at < last && failed(&result) {
            let answer = Answer::NoSuchState { call: print::op(&call.op), answer: result };
            scenario.steps.truncate(at + 1);
            return Asked { answer, scenario };
        }
        if at == last {
            made.result = result;
        } else if let Some(Outcome { out: Out::Msg(Msg::Pagefault { flags, .. }), .. }) = &ended {
            made.message = Some(*flags);
        }
    }
    if made.message.is_none() {
        scenario.steps.truncate(last + 1);
    }
    made.after = Mapped::of(&machine.k);
    Asked { answer: Answer::Made(made), scenario }
}

/// What the scenario promises: everything, but for what is long and always the same.
fn promised(op: &Op, outcome: &Outcome) -> Expected {
    let out = match op {
        Op::UffdApi { .. } | Op::UffdRegister { .. } => None,
        _ if outcome.out == Out::None => None,
        _ => Some(outcome.out.clone()),
    };
    Expected { ret: ExpectedRet::Is(outcome.ret), out }
}
