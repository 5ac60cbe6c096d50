// SPDX-License-Identifier: GPL-2.0-only
//! A tested process, and what makes it go.
//!
//! The watcher forks the tested process for one scenario. Each thread of the scenario is an executor that takes one operation
//! after the other from its [`Slot`](sys::Slot). No time is measured to find out whether an operation is blocked: an executor
//! whose job is open and whose `wchan` names a wait for a userfault sleeps there until somebody wakes it. Watcher and executors
//! share one CPU, where they take turns and go before everybody else: when the watcher has yielded, it has the CPU back as soon as
//! no executor can go on, or when one has run for very long.

use super::sys::{self, Forked, Letters, Raw, Slots};
use crate::errno::Errno;
use crate::flags::UffdPagefaultFlags;
use crate::kernel::{CELL_AT, CELLS, Cell};
use crate::syscall::{Msg, Op, Out, Outcome, Signal, UserBuf};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How many threads a scenario may have.
pub(super) const MAX_THREADS: usize = 12;
/// One more executor of the first process looks at its memory.
const EYE: usize = MAX_THREADS;
/// When nothing has come to rest for so long, the scenario is given up.
const PATIENCE: Duration = Duration::from_secs(4);
/// A thread that sleeps, waits for no userfault and does not move for so long, while another one is blocked, waits for its lock.
const LOCK_WAIT: Duration = Duration::from_millis(40);

/// Functions in which a thread waits for somebody who handles userfaults.
const WAITS: [&str; 5] =
    ["handle_userfault", "userfaultfd_event_wait_completion", "dup_userfault", "userfaultfd_ctx_read", "userfaultfd_read"];

/// Why a scenario could not be carried to its end.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Stopped {
    /// An operation neither ended nor blocked in time: what it was, and where its thread was.
    Stuck(String),
    /// The tested process died without being told to.
    Died(String),
    /// The kernel answered something that a scenario cannot say.
    Unsaid(String),
    /// The machine would not do what was needed.
    Machine(String),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Stuck(what) => write!(f, "it neither ended nor blocked: {what}"),
            Stopped::Died(what) => write!(f, "the tested process died: {what}"),
            Stopped::Unsaid(what) => write!(f, "the kernel answered what a scenario cannot say: {what}"),
            Stopped::Machine(what) => write!(f, "the machine would not do it: {what}"),
        }
    }
}

/// Lives as long as a worker: what all its tested processes use.
pub(super) struct Bench {
    slots: Slots,
    letters: Letters,
}

impl Bench {
    /// Prepare. The caller is pinned to a CPU already.
    pub fn new() -> std::io::Result<Bench> {
        Ok(Bench { slots: Slots::new(MAX_THREADS + 1)?, letters: Letters::new()? })
    }
}

/// How an executor stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// No job is open.
    Idle,
    /// Its job sleeps in a wait for a userfault.
    Blocked,
    /// Its process is gone.
    Dead,
    /// It sleeps somewhere else: for a lock, or for a moment.
    Asleep,
    /// It runs, or is about to.
    Moving,
}

struct Executor {
    op: Option<Op>,
    /// The child's place, if the operation is a fork.
    child: Option<usize>,
    /// What it names is not what it is for: it reads a file that is no userfaultfd, or asks for the room of the machine's own devtmpfs.
    beside: bool,
    wchan: Option<File>,
    alive: bool,
    tid: u32,
    pid: u32,
}

/// A process under test, with its children.
pub(super) struct Tested<'b> {
    bench: &'b Bench,
    /// The process, which leads a group.
    pub pid: u32,
    executors: Vec<Executor>,
}

fn executor(slots: &Slots, letters: Letters, mut me: usize) -> ! {
    loop {
        me = sys::work(slots, letters, me);
    }
}

fn tested(bench: &Bench, threads: usize) -> ! {
    sys::die_with_parent();
    sys::leave_group();
    sys::begin_tested();
    sys::bound_urgency(2 * PATIENCE.as_secs());
    sys::urgent(true);
    for me in (1..threads).chain([EYE]) {
        let (slots, letters) = (bench.slots.clone(), bench.letters);
        let started = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            sys::announce(&slots[me]);
            executor(&slots, letters, me)
        });
        if started.is_err() {
            sys::exit(70);
        }
    }
    sys::announce(&bench.slots[0]);
    executor(&bench.slots, bench.letters, 0)
}

impl<'b> Tested<'b> {
    /// Fork it. `threads` of the first `initial` exist from the beginning.
    pub fn start(bench: &'b Bench, threads: usize, initial: usize) -> Result<Tested<'b>, Stopped> {
        let machine = |e: std::io::Error| Stopped::Machine(format!("fork: {e}"));
        for slot in bench.slots.iter() {
            slot.reset();
        }
        let pid = match sys::fork().map_err(machine)? {
            Forked::Child => tested(bench, initial),
            Forked::Parent(pid) => pid,
        };
        let executors = (0..threads)
            .map(|_| Executor { op: None, child: None, beside: false, wchan: None, alive: false, tid: 0, pid: 0 })
            .collect();
        let mut tested = Tested { bench, pid, executors };
        let since = Instant::now();
        for me in (0..initial).chain([EYE]) {
            while bench.slots[me].tid() == 0 {
                sys::sched_yield();
                if since.elapsed() > PATIENCE || sys::wait(pid as i32, false).is_some() {
                    return Err(Stopped::Machine("the tested process did not start".to_owned()));
                }
            }
            if me != EYE {
                tested.adopt(me);
            }
        }
        Ok(tested)
    }

    fn adopt(&mut self, me: usize) {
        let slot = &self.bench.slots[me];
        let e = &mut self.executors[me];
        (e.alive, e.tid, e.pid) = (true, slot.tid(), slot.pid());
    }

    /// Is there such a thread, with nothing to do?
    pub fn is_ready(&self, thread: usize) -> bool {
        self.executors.get(thread).is_some_and(|e| e.alive && e.op.is_none())
    }

    /// Start an operation. False if the thread does not exist, or is still in another one.
    pub fn post(&mut self, thread: usize, op: &Op, child: Option<usize>) -> bool {
        if !self.is_ready(thread) {
            return false;
        }
        let target = |fd| std::fs::read_link(format!("/proc/{}/fd/{fd}", self.executors[thread].pid));
        let beside = match *op {
            Op::UffdRead { fd } => target(fd).is_ok_and(|t| !t.starts_with("anon_inode:[userfaultfd]")),
            Op::Fstatfs { fd } => target(fd).is_ok_and(|t| t.starts_with("/dev/zero")),
            _ => false,
        };
        if !self.bench.slots[thread].post(op, child.unwrap_or(0) as u32) {
            return false;
        }
        let e = &mut self.executors[thread];
        e.op = Some(*op);
        e.child = child;
        e.beside = beside;
        true
    }

    /// The process of a thread.
    pub fn pid_of(&self, thread: usize) -> u32 {
        self.executors[thread].pid
    }

    /// Processes that are alive: the first thread of each in the scenario, and its number.
    pub fn processes(&self) -> Vec<(usize, u32)> {
        let mut seen: Vec<(usize, u32)> = Vec::new();
        for (me, e) in self.executors.iter().enumerate().filter(|(_, e)| e.alive) {
            if !seen.iter().any(|(_, pid)| *pid == e.pid) {
                seen.push((me, e.pid));
            }
        }
        seen
    }

    /// Threads whose operation is open, with it.
    pub fn blocked(&self) -> impl Iterator<Item = (usize, &Op)> {
        self.executors.iter().enumerate().filter_map(|(me, e)| Some((me, e.op.as_ref().filter(|_| e.alive)?)))
    }

    /// mincore(2), called in the first process.
    pub fn mincore(&self, addr: u64, pages: usize) -> Option<Vec<bool>> {
        let slot = &self.bench.slots[EYE];
        slot.post(&Op::Mincore { addr, len: (pages as u64) << 12 }, 0);
        let since = Instant::now();
        while slot.is_busy() {
            sys::sched_yield();
            if since.elapsed() > PATIENCE {
                return None;
            }
        }
        let raw = slot.take()?;
        (raw.ret == 0).then(|| slot.data(pages).into_iter().map(|b| b & 1 != 0).collect())
    }

    fn wchan(&mut self, me: usize) -> Option<String> {
        let e = &mut self.executors[me];
        if e.wchan.is_none() {
            e.wchan = File::open(format!("/proc/{}/task/{}/wchan", e.pid, e.tid)).ok();
        }
        let mut text = [0u8; 64];
        let n = e.wchan.as_ref()?.read_at(&mut text, 0).ok()?;
        Some(String::from_utf8_lossy(&text[..n]).into_owned())
    }

    /// State letter of a thread in /proc.
    fn state(&self, me: usize) -> Option<char> {
        let e = &self.executors[me];
        let stat = std::fs::read_to_string(format!("/proc/{}/task/{}/stat", e.pid, e.tid)).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    fn standing(&mut self, me: usize) -> Standing {
        if self.executors[me].op.is_none() || !self.bench.slots[me].is_busy() {
            return Standing::Idle;
        }
        let wchan = self.wchan(me).unwrap_or_default();
        if WAITS.iter().any(|w| wchan.contains(w)) {
            return Standing::Blocked;
        }
        match self.state(me) {
            // The first thread may be dead before the others, which still have the memory.
            None | Some('Z' | 'X') if !is_gone(self.executors[me].pid) => Standing::Moving,
            None | Some('Z' | 'X') => Standing::Dead,
            Some('S' | 'D') => Standing::Asleep,
            _ => Standing::Moving,
        }
    }

    /// Wait until nothing moves any more.
    pub fn settle(&mut self) -> Result<(), Stopped> {
        let since = Instant::now();
        let mut last: Vec<Standing> = Vec::new();
        let mut still_since = Instant::now();
        sys::sched_yield();
        loop {
            let now: Vec<Standing> = (0..self.executors.len()).map(|me| self.standing(me)).collect();
            let moving = now.iter().any(|s| matches!(s, Standing::Moving));
            let asleep = now.contains(&Standing::Asleep);
            let waits_for_lock = now.contains(&Standing::Blocked) && still_since.elapsed() > LOCK_WAIT;
            if now != last {
                still_since = Instant::now();
            } else if !moving && (!asleep || waits_for_lock) {
                break;
            }
            last = now;
            if moving || asleep {
                sys::sched_yield();
                if since.elapsed() > Duration::from_millis(5) {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            if since.elapsed() > PATIENCE {
                return Err(self.stuck(&last));
            }
        }
        for (me, standing) in last.iter().enumerate() {
            if *standing == Standing::Dead {
                self.bury(me);
            }
        }
        Ok(())
    }

    /// The process of this executor is gone: so are all threads of it.
    fn bury(&mut self, me: usize) {
        let pid = self.executors[me].pid;
        for e in self.executors.iter_mut().filter(|e| e.pid == pid) {
            e.alive = false;
        }
    }

    fn stuck(&mut self, standing: &[Standing]) -> Stopped {
        let mut all = Vec::new();
        for (me, standing) in standing.iter().enumerate().filter(|(_, s)| **s != Standing::Idle) {
            let wchan = self.wchan(me).unwrap_or_default();
            let op = self.executors[me].op.as_ref().map_or(String::new(), crate::scenario::print::op);
            all.push(format!("{op} (thread {me}, state {}, in {wchan}, {standing:?})", self.state(me).unwrap_or('?')));
        }
        Stopped::Stuck(all.join("; "))
    }

    /// Operations that have ended since the last call, by thread. None: its process has ended with it.
    pub fn ended(&mut self) -> Result<Vec<(usize, Option<Outcome>)>, Stopped> {
        let mut all = Vec::new();
        for me in 0..self.executors.len() {
            let Some(op) = self.executors[me].op else { continue };
            if !self.executors[me].alive {
                self.executors[me].op = None;
                all.push((me, (op == Op::Exit).then(|| Outcome::ok(0))));
                continue;
            }
            let Some(raw) = self.bench.slots[me].take() else { continue };
            self.executors[me].op = None;
            let mut outcome = self.outcome(me, &op, &raw)?;
            if op == Op::Fork && raw.ret > 0 {
                let child = self.executors[me].child.unwrap_or(0);
                let since = Instant::now();
                while self.bench.slots[child].tid() == 0 {
                    sys::sched_yield();
                    if since.elapsed() > PATIENCE {
                        return Err(Stopped::Stuck("the child of a fork did not start".to_owned()));
                    }
                }
                self.adopt(child);
                outcome.ret = Ok(child as i64);
            }
            all.push((me, Some(outcome)));
        }
        // A process may have died while all its threads were idle, by a signal from another one.
        for (me, pid) in self.processes() {
            if is_gone(pid) {
                self.bury(me);
            }
        }
        Ok(all)
    }

    fn thread_of(&self, tid: u32) -> Option<u8> {
        self.executors.iter().position(|e| e.tid == tid && tid != 0).map(|n| n as u8)
    }

    fn outcome(&self, me: usize, op: &Op, raw: &Raw) -> Result<Outcome, Stopped> {
        let w = &raw.words;
        if raw.trap.signal != 0 {
            let sig = match (raw.trap.signal as i32, raw.trap.code) {
                (libc::SIGBUS, 2) => Signal::SIGBUS,
                (libc::SIGBUS, 4) => Signal::SIGBUS_MCEERR_AR,
                (libc::SIGSEGV, 1) => Signal::SIGSEGV_MAPERR,
                (libc::SIGSEGV, 2) => Signal::SIGSEGV_ACCERR,
                (signal, code) => return Err(Stopped::Unsaid(format!("signal {signal} with si_code {code}"))),
            };
            return Ok(Outcome::err(Errno::EFAULT).with(Out::Signal { sig, addr: raw.trap.addr }));
        }
        let ret = if raw.ret < 0 {
            let errno = Errno::ALL.iter().find(|e| e.num() == -raw.ret);
            Err(*errno.ok_or_else(|| Stopped::Unsaid(format!("errno {} from {}", -raw.ret, crate::scenario::print::op(op))))?)
        } else {
            Ok(raw.ret)
        };
        let written = |at: usize| (w[at] != sys::UNTOUCHED).then_some(w[at]);
        let ok = ret.is_ok();
        let done = |at: usize| written(at).map_or(Out::None, |n| Out::Done(n as i64));
        let (ret, out) = match op {
            Op::Load { addr } => {
                let watched = crate::kernel::cell_at(addr & 4095).is_some();
                (ret, Out::Byte(watched.then_some(Cell::new(w[0] as u8))))
            }
            Op::UffdCopy { .. } | Op::UffdMove { .. } => (ret, done(4)),
            Op::UffdZeropage { .. } | Op::UffdContinue { .. } | Op::UffdPoison { .. } => (ret, done(3)),
            Op::UffdRegister { .. } => (ret, written(3).map_or(Out::None, Out::Ioctls)),
            Op::UffdApi { .. } => (ret, written(2).map_or(Out::None, |ioctls| Out::Api { features: w[1], ioctls })),
            Op::Fstat { .. } if ok => (ret, Out::Stat { size: w[0], blocks: w[1] as i64 }),
            Op::Fstatfs { .. } if ok && self.executors[me].beside => (ret, Out::Statfs { blocks: 0, bfree: 0 }),
            Op::Fstatfs { .. } if ok => (ret, Out::Statfs { blocks: w[0] as i64, bfree: w[1] as i64 }),
            Op::Poll { .. } if ok => {
                let bit = |bit: i16| w[0] & bit as u64 != 0;
                (ret, Out::Poll { pollin: bit(libc::POLLIN), pollerr: bit(libc::POLLERR) })
            }
            Op::Mincore { len, .. } if ok => {
                let pages = len.div_ceil(4096) as usize;
                (ret, Out::Mincore(self.bench.slots[me].data(pages).into_iter().map(|b| b & 1 != 0).collect()))
            }
            // Where the scenario has its own buffer, what is in it is seen by looking at the page.
            Op::Pread { buf: UserBuf::Addr(_), .. } if ok => (ret, Out::Data([None; CELLS])),
            Op::Pread { .. } if ok => {
                let n = raw.ret as u64;
                let bytes = self.bench.slots[me].data((n as usize).min(4096));
                let mut cells = [None; CELLS];
                for (cell, at) in cells.iter_mut().zip(CELL_AT) {
                    *cell = bytes.get(at as usize).map(|&b| Cell::new(b));
                }
                (ret, Out::Data(cells))
            }
            Op::UffdRead { .. } if ok && self.executors[me].beside => (ret, Out::None),
            Op::UffdRead { .. } if ok => (ret, Out::Msg(self.message(w)?)),
            _ => (ret, Out::None),
        };
        Ok(Outcome { ret, out })
    }

    /// A `struct uffd_msg`: the event in the first byte, the rest from the second word on.
    fn message(&self, w: &[u64; 6]) -> Result<Msg, Stopped> {
        use linux_raw_sys::general as raw;
        Ok(match w[0] as u8 as u32 {
            raw::UFFD_EVENT_PAGEFAULT => Msg::Pagefault {
                address: w[2],
                flags: UffdPagefaultFlags::from_bits(w[1] as u8)
                    .ok_or_else(|| Stopped::Unsaid(format!("a page fault with flags {:#x}", w[1])))?,
                ptid: match w[3] as u32 {
                    0 => None,
                    tid => Some(self.thread_of(tid).ok_or_else(|| Stopped::Unsaid(format!("a message from thread {tid}")))?),
                },
            },
            raw::UFFD_EVENT_FORK => Msg::Fork { ufd: w[1] as u8 },
            raw::UFFD_EVENT_REMAP => Msg::Remap { from: w[1], to: w[2], len: w[3] },
            raw::UFFD_EVENT_REMOVE => Msg::Remove { start: w[1], end: w[2] },
            raw::UFFD_EVENT_UNMAP => Msg::Unmap { start: w[1], end: w[2] },
            other => return Err(Stopped::Unsaid(format!("an event of type {other:#x}"))),
        })
    }
}

/// Has the process ended, with all its threads?
fn is_gone(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let dead = stat.rsplit(") ").next().is_some_and(|s| s.starts_with(['Z', 'X']));
    dead && std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |dir| dir.count()) <= 1
}

impl Drop for Tested<'_> {
    /// Nothing of it stays behind.
    fn drop(&mut self) {
        sys::kill(-(self.pid as i32), libc::SIGKILL);
        sys::kill(self.pid as i32, libc::SIGKILL);
        sys::wait(self.pid as i32, true);
        // Its children are ours now, for this is the first process of its PID namespace.
        while sys::wait(-1, false).is_some() {}
        let children: Vec<u32> = self.executors.iter().filter(|e| e.pid != 0 && e.pid != self.pid).map(|e| e.pid).collect();
        for pid in children {
            sys::kill(pid as i32, libc::SIGKILL);
            while std::path::Path::new(&format!("/proc/{pid}")).exists() && sys::wait(-1, false).is_none() {
                sys::sched_yield();
            }
        }
    }
}
