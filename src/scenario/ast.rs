// SPDX-License-Identifier: GPL-2.0-only
//! What a scenario says, once read.

use crate::errno::Errno;
use crate::kernel::Config;
use crate::mm::locking::LockKind;
use crate::observe::{Key, Observation, Seen, Who};
use crate::patch::Revision;
use crate::point::{Pause, Touch};
use crate::syscall::{Fd, Op, Out, Outcome};
use serde::{Deserialize, Serialize};

/// One question, the operations that ask it, and what each revision is said to answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// Where it was read from, as given.
    pub path: String,
    /// The file's name without directories and without `.scn`.
    pub name: String,
    /// `question:`; whitespace is folded.
    pub question: String,
    /// `why:`; empty if there is none. Whitespace is folded.
    pub why: String,
    /// `finding:`, for instance `F01`.
    pub finds: Vec<String>,
    /// `machine:`.
    pub machine: MachineSpec,
    /// `threads:`, then the children in the order of their fork lines. A thread's place in this list is its task number.
    pub threads: Vec<String>,
    /// How many of [`Scenario::threads`] exist at the start; the others are forked.
    pub initial_threads: usize,
    /// What happens.
    pub steps: Vec<Step>,
    /// `claims:`; empty if the section is missing.
    pub claims: Vec<Claim>,
}

impl Scenario {
    /// The claim that covers this revision. None if nothing is claimed of it.
    pub fn claim(&self, revision: Revision) -> Option<&Claim> {
        self.claims.iter().find(|c| c.revisions.contains(&revision))
    }

    /// Does it ask something about one of these revisions? Without any claim it asks about all.
    pub fn concerns(&self, revisions: &[Revision]) -> bool {
        self.claims.is_empty() || revisions.iter().any(|r| self.claim(*r).is_some())
    }

    /// All operations in the order of the text, those of races included.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.steps.iter().flat_map(|step| {
            let (one, many) = match step {
                Step::Op(call) => (Some(call), &[][..]),
                Step::Resumed { .. } | Step::Seen(_) => (None, &[][..]),
                Step::Race { items, .. } => (None, &items[..]),
            };
            one.into_iter().chain(many.iter().filter_map(|item| match item {
                RaceItem::Start(call) => Some(call),
                RaceItem::Until { .. } => None,
            }))
        })
    }

    /// What must be seen, in the order of the text.
    pub fn looks(&self) -> impl Iterator<Item = &Look> {
        self.steps.iter().filter_map(|step| match step {
            Step::Seen(look) => Some(look),
            _ => None,
        })
    }

    /// The rule names of all claims and the function names of all schedules are only words to this module: whoever knows the
    /// rules checks them. These are the rule names.
    pub fn rule_words(&self) -> impl Iterator<Item = &Word> {
        self.claims.iter().flat_map(|c| match &c.verdict {
            Verdict::Holds => &[][..],
            Verdict::Breaks(rules) => &rules[..],
        })
    }

    /// The function names after `until`; see [`Scenario::rule_words`].
    pub fn function_words(&self) -> impl Iterator<Item = &Word> {
        self.steps
            .iter()
            .flat_map(|step| match step {
                Step::Race { items, .. } => &items[..],
                _ => &[][..],
            })
            .filter_map(|item| match item {
                RaceItem::Until { stop: Stop::Func { name, .. }, .. } => Some(name),
                _ => None,
            })
    }

    /// The same without where it stood (path, lines, columns): two texts that differ only in layout and comments are equal then.
    pub fn without_positions(&self) -> Scenario {
        let mut s = self.clone();
        s.path.clear();
        s.name.clear();
        for step in &mut s.steps {
            match step {
                Step::Op(call) => call.line = 0,
                Step::Resumed { line, .. } => *line = 0,
                Step::Seen(look) => look.line = 0,
                Step::Race { line, items } => {
                    *line = 0;
                    for item in items {
                        match item {
                            RaceItem::Start(call) => call.line = 0,
                            RaceItem::Until { line, stop, .. } => {
                                *line = 0;
                                if let Stop::Func { name, .. } = stop {
                                    (name.line, name.column) = (0, 0);
                                }
                            }
                        }
                    }
                }
            }
        }
        for claim in &mut s.claims {
            claim.line = 0;
            if let Verdict::Breaks(rules) = &mut claim.verdict {
                for rule in rules {
                    (rule.line, rule.column) = (0, 0);
                }
            }
        }
        s
    }
}

/// `machine:`: what the machine is like when the scenario starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MachineSpec {
    /// `swap=`: slots of the swap device that is on at the start; 0 is no swap.
    pub swap: u16,
    /// `frames=`: page frames.
    pub frames: u16,
    /// `commit-limit=`: in pages.
    pub commit_limit: Option<i64>,
    /// `fault-around=`: in pages.
    pub fault_around: u64,
    /// `soft-dirty=on`.
    pub soft_dirty: bool,
    /// `memory-failure=off`.
    pub memory_failure: bool,
}

impl Default for MachineSpec {
    fn default() -> Self {
        let c = Config::default();
        MachineSpec {
            swap: 0,
            frames: c.nr_frames,
            commit_limit: c.commit_limit,
            fault_around: c.fault_around_pages,
            soft_dirty: c.soft_dirty,
            memory_failure: c.memory_failure,
        }
    }
}

impl MachineSpec {
    /// As the kernel takes it. The swap device is not part of it: it is a `swapon` before the first operation.
    pub fn config(&self) -> Config {
        Config {
            nr_frames: self.frames,
            commit_limit: self.commit_limit,
            fault_around_pages: self.fault_around,
            soft_dirty: self.soft_dirty,
            memory_failure: self.memory_failure,
        }
    }
}

/// A name that only the caller can check, with the place where it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Word {
    /// The name.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

/// A line, or a section.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Step {
    /// An operation. The next step begins when everything has settled.
    Op(Call),
    /// `NAME: <... resumed> = result`: the thread's unfinished operation must have ended by now.
    Resumed {
        /// Line, from 1.
        line: usize,
        /// Whose; an index into [`Scenario::threads`].
        thread: usize,
        /// How it ended.
        expect: Expect,
    },
    /// `| place: facts`: what can be seen now.
    Seen(Look),
    /// `race:`: operations at the same time, in a given order.
    Race {
        /// Line of `race:`, from 1.
        line: usize,
        /// What happens in it, in this order.
        items: Vec<RaceItem>,
    },
}

/// What must be seen of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Look {
    /// Line, from 1.
    pub line: usize,
    /// Of whose process; an index into [`Scenario::threads`].
    pub thread: usize,
    /// Of what.
    pub place: Place,
    /// What; None: it is not there.
    pub seen: Option<Seen>,
}

/// What a [`Look`] is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// A file, by its first descriptor in the first process.
    File(Fd),
    /// A page of it.
    FilePage(Fd, u64),
    /// A page of a process, by address.
    Page(u64),
    /// The mappings of a process: all, or those that begin in a range.
    Maps(Option<(u64, u64)>),
    /// The resident counters of a process.
    Rss,
}

impl Place {
    /// Where an observation has it, of this process.
    pub fn key(self, who: Who) -> Key {
        match self {
            Place::File(fd) => Key::File(fd),
            Place::FilePage(fd, index) => Key::FilePage(fd, index),
            Place::Page(addr) => Key::Page(who, addr),
            Place::Maps(_) => Key::Vmas(who),
            Place::Rss => Key::Rss(who),
        }
    }
}

impl Look {
    /// What an observation has of it. None as the process: it has exited.
    pub fn of(&self, who: Option<Who>, all: &Observation) -> Option<Seen> {
        let seen = all.0.get(&self.place.key(who?))?.clone();
        match (self.place, seen) {
            (Place::Maps(Some((from, to))), Seen::Vmas(vmas)) => {
                Some(Seen::Vmas(vmas.into_iter().filter(|v| (from..to).contains(&v.start)).collect()))
            }
            (_, seen) => Some(seen),
        }
    }
}

/// An operation by a thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Line, from 1.
    pub line: usize,
    /// Who; an index into [`Scenario::threads`].
    pub thread: usize,
    /// What.
    pub op: Op,
    /// Of fork only: the child's index into [`Scenario::threads`].
    pub child: Option<usize>,
    /// Calls inside the kernel that fail during this operation.
    pub injected: Vec<Injected>,
    /// How it must end.
    pub expect: Expect,
}

/// `(INJECTED: SITE#N)`: the n-th call at this site during the operation fails.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Injected {
    /// One of [`SITES`](crate::kernel::SITES).
    pub site: String,
    /// Counted from 1.
    pub nth: u16,
}

/// A line of a race.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RaceItem {
    /// The thread enters the operation; it stands before its first step.
    Start(Call),
    /// The thread runs alone until something.
    Until {
        /// Line, from 1.
        line: usize,
        /// Who; an index into [`Scenario::threads`].
        thread: usize,
        /// Until when.
        stop: Stop,
    },
}

/// Where a thread of a race stops to let another one run. Every `until` makes at least one step, so that the same line twice is
/// the second time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Stop {
    /// `until end`: the operation is over.
    End,
    /// `until blocked`: it sleeps, or waits for a lock.
    Blocked,
    /// `until step N`: it has taken so many steps from one preemption point to the next, or can take none.
    Steps(u16),
    /// `until FUNC [before WHAT]`: it is about to take a step inside this kernel function, or in what it calls.
    Func {
        /// The kernel function.
        name: Word,
        /// What the step is about to do; None for any step.
        before: Option<TouchKind>,
    },
}

macro_rules! touch_kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)?) => {
        /// What a step is about to do, without the object: the words after `before`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum TouchKind { $($(#[$doc])* $variant),* }

        impl TouchKind {
            /// All of them.
            pub const ALL: &'static [TouchKind] = &[$(TouchKind::$variant),*];
            /// As it is written in a scenario.
            pub const fn word(self) -> &'static str { match self { $(TouchKind::$variant => $word),* } }
        }
    };
}

touch_kinds! {
    /// Takes a page-table lock.
    Ptl = "ptl",
    /// Takes a page lock.
    PageLock = "page-lock",
    /// Takes mmap_lock.
    MmapLock = "mmap-lock",
    /// Takes an inode lock (`i_rwsem`).
    InodeLock = "inode-lock",
    /// Takes `info->lock`.
    InfoLock = "info-lock",
    /// Takes `i_lock`.
    ILock = "i_lock",
    /// Takes `i_mmap_rwsem`.
    IMmap = "i_mmap",
    /// Takes an anon_vma lock.
    AnonVma = "anon_vma",
    /// Takes `shmem_swaplist_mutex`.
    Swaplist = "swaplist",
    /// Takes the lock of a userfaultfd's queues.
    Waitqueue = "waitqueue",
    /// Reads or writes i_size.
    ISize = "i_size",
    /// Looks at or changes a page-cache slot.
    Slot = "slot",
    /// Looks at a PTE without its lock.
    Pte = "pte",
    /// Changes a page flag or count.
    Page = "page",
    /// Allocates.
    Alloc = "alloc",
    /// Copies from or to user memory.
    UserCopy = "user-copy",
    /// Looks at or changes a userfaultfd context.
    Ctx = "ctx",
    /// Reads or writes swap.
    SwapIo = "swap-io",
    /// Looks whether a fallocate is going on.
    Falloc = "falloc",
}

impl TouchKind {
    /// Look a word up.
    pub fn from_word(word: &str) -> Option<TouchKind> {
        TouchKind::ALL.iter().copied().find(|k| k.word() == word)
    }

    /// What a paused future is about to do. None if it sleeps or is dead.
    pub fn of(pause: Pause) -> Option<TouchKind> {
        Some(match pause {
            Pause::BeforeLock(lock, _) | Pause::Lock(lock, _) => match lock.kind() {
                LockKind::Inode(_) => TouchKind::InodeLock,
                LockKind::Mmap(_) => TouchKind::MmapLock,
                LockKind::Page(_) => TouchKind::PageLock,
                LockKind::ShmemSwaplist => TouchKind::Swaplist,
                LockKind::IMmap(_) => TouchKind::IMmap,
                LockKind::AnonVma(_) => TouchKind::AnonVma,
                LockKind::Ptl(_) => TouchKind::Ptl,
                LockKind::Info(_) => TouchKind::InfoLock,
                LockKind::ILock(_) => TouchKind::ILock,
                LockKind::FaultPending(_) => TouchKind::Waitqueue,
            },
            Pause::Point(touch) => match touch {
                Touch::ReadSize(_) | Touch::WriteSize(_) => TouchKind::ISize,
                Touch::ReadSlot(..) | Touch::ReadSlots(..) | Touch::WriteSlot(..) => TouchKind::Slot,
                Touch::ReadPte(..) => TouchKind::Pte,
                Touch::WritePage(_) => TouchKind::Page,
                Touch::Alloc => TouchKind::Alloc,
                Touch::UserCopy(..) => TouchKind::UserCopy,
                Touch::ReadCtx(_) | Touch::WriteCtx(_) => TouchKind::Ctx,
                Touch::SwapIo(_) => TouchKind::SwapIo,
                Touch::ReadFalloc(_) => TouchKind::Falloc,
            },
            Pause::Sleep | Pause::Spin(_) | Pause::Dead => return None,
        })
    }
}

/// How an operation must end. A revision claimed to hold must do it; one claimed to break is not held to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Expect {
    /// Nothing is said.
    Any,
    /// `<unfinished ...>`: it must be still blocked when everything has settled.
    Blocked,
    /// `= result`.
    Is(Expected),
}

/// What stands behind `=`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expected {
    /// The return value.
    pub ret: ExpectedRet,
    /// What comes back by reference; None is not compared. `{}` is `Some(Out::None)`: nothing may be written.
    pub out: Option<Out>,
}

/// The part of an expectation that is about the return value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExpectedRet {
    /// Not compared: what comes back by reference says it all (a load's byte, a message, a signal, poll's events).
    Any,
    /// Anything but an error (fork).
    Success,
    /// This value, or this errno.
    Is(Result<i64, Errno>),
}

impl Expect {
    /// Is this what was promised? None stands for an operation that is still blocked.
    pub fn matches(&self, got: Option<&Outcome>) -> bool {
        match (self, got) {
            (Expect::Any, _) | (Expect::Blocked, None) => true,
            (Expect::Is(expected), Some(got)) => expected.matches(got),
            (Expect::Is(_), None) | (Expect::Blocked, Some(_)) => false,
        }
    }
}

impl Expected {
    /// Is this the promised outcome?
    pub fn matches(&self, got: &Outcome) -> bool {
        let ret = match self.ret {
            ExpectedRet::Any => true,
            ExpectedRet::Success => got.ret.is_ok(),
            ExpectedRet::Is(ret) => ret == got.ret,
        };
        // A signal is never what a plain value promised, whatever the access is said to have returned.
        let out = match &self.out {
            Some(out) => *out == got.out,
            None => !matches!(got.out, Out::Signal { .. }),
        };
        ret && out
    }
}

/// So that the caller need not know which part of an outcome an expectation leaves open.
impl From<&Outcome> for Expected {
    fn from(outcome: &Outcome) -> Expected {
        let ret = match (&outcome.out, outcome.ret) {
            (Out::Signal { .. }, _) | (Out::Byte(_) | Out::Msg(_) | Out::Poll { .. }, Ok(_)) => ExpectedRet::Any,
            (_, ret) => ExpectedRet::Is(ret),
        };
        Expected { ret, out: Some(outcome.out.clone()).filter(|o| *o != Out::None) }
    }
}

/// A line of `claims:`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Line, from 1.
    pub line: usize,
    /// Of whom, oldest first; ranges and `others` are resolved.
    pub revisions: Vec<Revision>,
    /// It was said of `others`.
    pub others: bool,
    /// What.
    pub verdict: Verdict,
}

/// What is claimed of a revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// `holds`: every result is as promised and no rule is broken.
    Holds,
    /// `breaks RULE...`: exactly these rules are broken; results are not compared.
    Breaks(Vec<Word>),
}
