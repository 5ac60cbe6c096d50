// SPDX-License-Identifier: GPL-2.0-only
//! A tested process, and what makes it go.
//!
//! The watcher forks the tested process. Each thread of the scenario is an executor that takes one operation after the other from
//! its [`Slot`](sys::Slot). No time is measured to find out whether an operation is blocked: an executor whose job is open and
//! whose `wchan` names a wait for a userfault sleeps there until somebody wakes it, and one that waits for the lock of an inode until
//! its holder goes on. Watcher and executors share one CPU, where they take turns and go before everybody else: when the watcher has
//! yielded, it has the CPU back as soon as no executor can go on, or when one has run for very long.
//!
//! An executor may be given several operations at once ([`may_go_on`]) while nobody is blocked whom one of them could wake. If one
//! blocks, those behind it are taken back: their thread was not ready for them.
//!
//! # One process for many scenarios
//! To fork a process, start its threads, fault in what it touches and end it costs more than to run a scenario in it. So a process
//! is used again ([`Tested::give_back`]) if a scenario cannot have left anything in it:
//!
//! * no operation named memory that is not the scenario's ([`is_tame`]), none ended the process, and none is still in a fork; the
//!   children of earlier forks are ended;
//! * every descriptor but the standard three is closed and everything below [`END`] is unmapped; whoever was blocked
//!   there has woken, for closing a userfaultfd wakes all who wait for its reader. Where that does not suffice (a read of a
//!   userfaultfd, an ioctl on one: they keep the file open) the process is ended instead;
//! * after that `/proc/PID/maps` is, byte for byte, what it was before the first scenario, no other descriptor is open, and every
//!   executor is idle.
//!
//! What then is left of the scenario is nothing that the next one can see. Registrations, protection, locking and accounting are in
//! the mappings and gone with them; the counters of the process are not looked at (`RssSeen` is unseen), or are those of a mapping
//! or a file. The table of descriptors may have become larger; the lowest free one is still 3. Pages, swap slots and inodes are
//! freed when their last user is gone, which is before the system calls return, as it is before an ended process can be waited for.
//! The CPU's batches of pages on their way to the LRU are the CPU's, not the process's: there they are what they would have been
//! after a process that has ended. A signal that was pending was delivered when its thread woke. Numbers of threads stay the
//! same, but a scenario calls its threads by its own.
//!
//! A difference is believed only if a second run, in a new process, has it too, and it is made small in new processes.

use super::observe::{END, Subject};
use super::sys::{self, Forked, Job, Letters, QUEUE, RANGES, Raw, Slots, UNKNOWN};
use crate::errno::Errno;
use crate::flags::UffdPagefaultFlags;
use crate::kernel::{CELL_AT, CELLS, Cell, FIRST_FD};
use crate::scenario::Scenario;
use crate::spec::fd_of;
use crate::syscall::{Msg, Op, Out, Outcome, Signal, UserBuf};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How many threads a scenario may have.
pub(super) const MAX_THREADS: usize = 12;
/// One more executor of the first process looks at its memory.
const EYE: usize = MAX_THREADS;
/// How many operations a thread may be given at once: there may be a job before them, and one behind.
pub(super) const IN_A_ROW: usize = QUEUE - 2;
/// When nothing has come to rest for so long, the scenario is given up.
const PATIENCE: Duration = Duration::from_secs(4);
/// A process that is not as it was after so long is not used again.
const TIDYING: Duration = Duration::from_millis(200);
/// A thread that sleeps, waits for no userfault and does not move for so long, while another one is blocked, waits for its lock.
/// Only where its `wchan` does not say so.
const LOCK_WAIT: Duration = Duration::from_millis(40);

/// Functions in which a thread waits for somebody who handles userfaults.
const WAITS: [&str; 5] =
    ["handle_userfault", "userfaultfd_event_wait_completion", "dup_userfault", "userfaultfd_ctx_read", "userfaultfd_read"];

/// Functions in which a thread that sleeps waits for the lock of an inode: `wchan` names who asked for the lock. Only the scenario's
/// threads take it, and they give it up before they have done. (Not `memfd_fcntl`, which also waits for pins to go.)
const LOCKS: [&str; 5] =
    ["do_truncate", "shmem_fallocate", "shmem_file_write_iter", "generic_file_write_iter", "shmem_file_llseek"];

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
    /// A process that can be used again.
    standby: RefCell<Option<Process>>,
}

impl Bench {
    /// Prepare. The caller is pinned to a CPU already.
    pub fn new() -> std::io::Result<Bench> {
        Ok(Bench { slots: Slots::new(MAX_THREADS + 1)?, letters: Letters::new()?, standby: RefCell::new(None) })
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
    /// Its job sleeps until somebody gives up the lock of an inode.
    LockedOut,
    /// It sleeps somewhere else, for a moment perhaps.
    Asleep,
    /// It runs, or is about to.
    Moving,
}

#[derive(Default)]
struct Executor {
    /// Operations that it was given and that nobody knows yet to have ended, in their order.
    ops: VecDeque<Op>,
    /// Number of the newest job whose end is known.
    known: u32,
    /// The child's place, if the operation is a fork.
    child: Option<usize>,
    /// What it names is not what it is for: it reads a file that is no userfaultfd, or asks for the room of the machine's own devtmpfs.
    beside: bool,
    /// Behind its last operation it was asked what mincore(2) says of these.
    asked: Option<Vec<(u64, u64)>>,
    wchan: Option<File>,
    stat: Option<File>,
    alive: bool,
    tid: u32,
    pid: u32,
}

/// A process that leads a group, with its threads. It ends when this is dropped.
struct Process {
    pid: u32,
    /// Readable when it has ended.
    pidfd: OwnedFd,
    /// Those that it began with.
    executors: Vec<Executor>,
    /// What it is looked at through.
    subject: Option<Subject>,
    maps: File,
    /// Its descriptors.
    fds: File,
    /// What `maps` said before it was used.
    own: Vec<u8>,
}

/// A process under test, with its children.
pub(super) struct Tested<'b> {
    bench: &'b Bench,
    /// The process, which leads a group.
    pub pid: u32,
    process: Option<Process>,
    executors: Vec<Executor>,
    /// Children, to see that they end.
    children: Vec<(u32, OwnedFd)>,
    /// Executors that exist from the beginning.
    initial: usize,
    /// An operation was started that ends a process.
    mortal: bool,
    /// An operation was started that ends the first process.
    spoiled: bool,
    /// Asked behind the operation that has ended last.
    incore: Option<Incore>,
}

/// What mincore(2) said of some ranges, a byte a page.
struct Incore {
    ranges: Vec<(u64, u64)>,
    said: Vec<u8>,
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

/// Is the scenario's memory all that this operation can reach, and does it leave the standard descriptors alone?
fn is_tame(op: &Op) -> bool {
    let below = |addr: u64, len: u64| addr.checked_add(len).is_some_and(|end| end <= END);
    // A range that ends outside of user space is refused, or gone through up to the first hole, which is below END.
    let range = |addr: u64, len: u64| below(addr, len) || addr < END && addr.checked_add(len).is_none_or(|end| end > 1 << 47);
    let buffer = |buf: UserBuf, len: u64| match buf {
        UserBuf::Addr(addr) => range(addr, len),
        UserBuf::Fill(_) => true,
    };
    let in_range = match *op {
        Op::Pread { buf, count, offset, .. } | Op::Pwrite { buf, count, offset, .. } => {
            // The offset is an address if the file is /proc/self/mem.
            buffer(buf, count) && range(offset, count)
        }
        Op::Mmap { addr, len, .. }
        | Op::Munmap { addr, len }
        | Op::Mprotect { addr, len, .. }
        | Op::Mlock { addr, len }
        | Op::Munlock { addr, len }
        | Op::Mincore { addr, len } => range(addr, len),
        // This goes on behind holes.
        Op::Madvise { addr, len, .. } => below(addr, len) || addr.checked_add(len).is_none(),
        Op::Mremap { old, old_len, new_len, new, .. } => {
            range(old, old_len) && range(old, new_len) && new.is_none_or(|new| range(new, new_len))
        }
        Op::Load { addr } | Op::Store { addr, .. } => below(addr, 1),
        Op::UffdRegister { start, len, .. }
        | Op::UffdUnregister { start, len, .. }
        | Op::UffdZeropage { start, len, .. }
        | Op::UffdContinue { start, len, .. }
        | Op::UffdPoison { start, len, .. }
        | Op::UffdWriteprotect { start, len, .. } => range(start, len),
        Op::UffdCopy { dst, src, len, .. } => range(dst, len) && buffer(src, len),
        Op::UffdMove { dst, src, len, .. } => range(dst, len) && range(src, len),
        // These name no memory, or only who waits for it.
        Op::Mount { .. }
        | Op::MemfdCreate { .. }
        | Op::Open { .. }
        | Op::Unlink { .. }
        | Op::Close { .. }
        | Op::Ftruncate { .. }
        | Op::Fallocate { .. }
        | Op::Lseek { .. }
        | Op::AddSeals { .. }
        | Op::Fstat { .. }
        | Op::Fstatfs { .. }
        | Op::Userfaultfd { .. }
        | Op::UffdApi { .. }
        | Op::UffdWake { .. }
        | Op::UffdRead { .. }
        | Op::Poll { .. }
        | Op::Fork
        | Op::Exit
        | Op::Kill { .. }
        | Op::Reclaim { .. }
        | Op::Swapon { .. }
        | Op::Swapoff => true,
    };
    in_range && fd_of(op).is_none_or(|fd| fd >= FIRST_FD)
}

/// Can the thread be given its next operation before it is known how this one has ended? Not where that needs the watcher, or
/// where both would leave something in the same place.
pub(super) fn may_go_on(op: &Op) -> bool {
    !matches!(
        op,
        Op::Fork
            | Op::Exit
            | Op::Kill { .. }
            | Op::Reclaim { .. }
            | Op::Swapon { .. }
            | Op::Swapoff
            | Op::UffdRead { .. }
            | Op::Fstatfs { .. }
            | Op::Mincore { .. }
            | Op::Pread { buf: UserBuf::Fill(_), .. }
    )
}

impl Process {
    fn start(bench: &Bench, initial: usize) -> Result<Process, Stopped> {
        let machine = |e: std::io::Error| Stopped::Machine(format!("fork: {e}"));
        for slot in bench.slots.iter() {
            slot.reset();
        }
        let pid = match sys::fork().map_err(machine)? {
            Forked::Child => tested(bench, initial),
            Forked::Parent(pid) => pid,
        };
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
        let opened = sys::pidfd(pid).and_then(|pidfd| Ok((pidfd, open("maps")?, open("fd")?)));
        let (pidfd, maps, fds) = opened.map_err(|e| {
            end(pid);
            machine(e)
        })?;
        let mut process = Process { pid, pidfd, executors: Vec::new(), subject: None, maps, fds, own: Vec::new() };
        let since = Instant::now();
        for me in (0..initial).chain([EYE]) {
            let slot = &bench.slots[me];
            while slot.tid() == 0 {
                sys::sched_yield();
                if since.elapsed() > PATIENCE || sys::ended(&[process.pidfd.as_fd()])[0] {
                    return Err(Stopped::Machine("the tested process did not start".to_owned()));
                }
            }
            if me != EYE {
                process.executors.push(Executor { alive: true, tid: slot.tid(), pid: slot.pid(), ..Executor::default() });
            }
        }
        process.own = process.mappings().unwrap_or_default();
        Ok(process)
    }

    /// What `maps` says.
    fn mappings(&self) -> Option<Vec<u8>> {
        let mut text = vec![0; 16 << 10];
        let mut len = 0;
        loop {
            match self.maps.read_at(&mut text[len..], len as u64).ok()? {
                0 => break,
                n => len += n,
            }
            if len == text.len() {
                text.resize(2 * len, 0);
            }
        }
        text.truncate(len);
        Some(text)
    }

    /// Has it the mappings that it began with, and no descriptor but the standard ones?
    fn is_as_it_was(&self) -> bool {
        // Since 6.2 the size of the folder is their number.
        let descriptors = || match self.fds.metadata().ok()?.len() {
            0 => Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count() as u64),
            n => Some(n),
        };
        self.mappings().is_some_and(|now| now == self.own) && descriptors() == Some(3)
    }
}

/// End a process that leads a group, and the group.
fn end(pid: u32) {
    sys::kill(-(pid as i32), libc::SIGKILL);
    sys::kill(pid as i32, libc::SIGKILL);
    sys::wait(pid as i32, true);
    // Its children are ours now, for this is the first process of its PID namespace.
    while sys::wait(-1, false).is_some() {}
}

impl Drop for Process {
    /// Nothing of it stays behind.
    fn drop(&mut self) {
        end(self.pid);
    }
}

impl<'b> Tested<'b> {
    /// Begin with `threads`, of which the first `initial` exist from the beginning. A process is forked if there is none to be used
    /// again, or if it must be `new`.
    pub fn start(bench: &'b Bench, threads: usize, initial: usize, new: bool) -> Result<Tested<'b>, Stopped> {
        let again = bench.standby.take().filter(|p| !new && p.executors.len() == initial);
        let mut process = match again {
            Some(process) => process,
            None => Process::start(bench, initial)?,
        };
        let mut executors = std::mem::take(&mut process.executors);
        executors.resize_with(threads, Executor::default);
        let pid = process.pid;
        Ok(Tested {
            bench,
            pid,
            process: Some(process),
            executors,
            children: Vec::new(),
            initial,
            mortal: false,
            spoiled: false,
            incore: None,
        })
    }

    /// Use the process again, if nothing of this scenario is left in it.
    pub fn give_back(mut self, scenario: &Scenario, subject: Option<Subject>) {
        // Whoever is in one of these gets out of it when the userfaultfd is closed, or when the lock of the inode is given up; by
        // then it has mapped and unmapped what it was to.
        let wakes = |op: &Op| {
            matches!(
                op,
                Op::Load { .. }
                    | Op::Store { .. }
                    | Op::Pread { .. }
                    | Op::Pwrite { .. }
                    | Op::Ftruncate { .. }
                    | Op::Fallocate { .. }
                    | Op::Mmap { .. }
                    | Op::Munmap { .. }
                    | Op::Mremap { .. }
                    | Op::Mlock { .. }
                    | Op::Madvise { .. }
            )
        };
        let (own, others) = self.executors.split_at(self.initial);
        let sound =
            !self.spoiled && own.iter().all(|e| e.ops.front().is_none_or(wakes)) && scenario.calls().all(|c| is_tame(&c.op));
        let eye = &self.bench.slots[EYE];
        if !sound {
            return;
        }
        for (pid, _) in &self.children {
            sys::kill(*pid as i32, libc::SIGKILL);
        }
        if !eye.post(&[Job::Tidy]) {
            return;
        }
        let busy = |me: usize| !self.executors[me].ops.is_empty() && self.bench.slots[me].is_busy();
        let is_there = |(pid, pidfd): &(u32, OwnedFd)| {
            !sys::ended(&[pidfd.as_fd()])[0] || std::path::Path::new(&format!("/proc/{pid}")).exists()
        };
        let since = Instant::now();
        sys::sched_yield();
        while eye.is_busy() || (0..self.initial).any(busy) || self.children.iter().any(is_there) {
            match since.elapsed() {
                waited if waited > TIDYING => return,
                // To unmount a file system takes the kernel's own threads, which are not urgent.
                waited if waited > Duration::from_micros(100) => std::thread::sleep(Duration::from_micros(100)),
                _ => sys::sched_yield(),
            }
        }
        for me in self.initial..self.initial + others.len() {
            self.bench.slots[me].reset();
        }
        self.children.clear();
        let Some(mut process) = self.process.take() else { return };
        self.executors.truncate(self.initial);
        for (me, e) in self.executors.iter_mut().enumerate() {
            e.ops.clear();
            (e.child, e.asked, e.known) = (None, None, self.bench.slots[me].done());
        }
        process.executors = std::mem::take(&mut self.executors);
        process.subject = subject;
        if process.is_as_it_was() {
            *self.bench.standby.borrow_mut() = Some(process);
        }
    }

    /// What the process is looked at through, if that is at hand.
    pub fn subject(&mut self) -> Option<Subject> {
        self.process.as_mut()?.subject.take()
    }

    fn adopt(&mut self, me: usize) {
        let slot = &self.bench.slots[me];
        let e = &mut self.executors[me];
        (e.alive, e.tid, e.pid, e.known) = (true, slot.tid(), slot.pid(), 0);
        match sys::pidfd(e.pid) {
            Ok(pidfd) => self.children.push((e.pid, pidfd)),
            // It cannot be seen to end.
            Err(_) => self.spoiled = true,
        }
    }

    /// Is there such a thread, with nothing to do?
    pub fn is_ready(&self, thread: usize) -> bool {
        self.executors.get(thread).is_some_and(|e| e.alive && e.ops.is_empty())
    }

    /// Start operations, one after the other; of several all must be such that the thread [may go on](may_go_on). They are not
    /// begun behind one that blocks. Behind the last one mincore(2) may be asked for ranges. Nothing happens if the thread does not
    /// exist, or is still in another one.
    pub fn post(&mut self, thread: usize, ops: &[&Op], child: Option<usize>, ranges: &[(u64, u64)]) {
        let (true, Some(op)) = (self.is_ready(thread), ops.last()) else { return };
        let target = |fd| std::fs::read_link(format!("/proc/{}/fd/{fd}", self.executors[thread].pid));
        let beside = match **op {
            Op::UffdRead { fd } => target(fd).is_ok_and(|t| !t.starts_with("anon_inode:[userfaultfd]")),
            Op::Fstatfs { fd } => target(fd).is_ok_and(|t| t.starts_with("/dev/zero")),
            _ => false,
        };
        let slot = &self.bench.slots[thread];
        // While it waits for its event to be read, madvise has not flushed the TLB of the mappings that it has been through (6.16): a
        // store there may or may not find its page, which depends on what else ran on this CPU.
        let forget = self.blocked().any(|(_, op)| matches!(op, Op::Madvise { .. }));
        let mut jobs: Vec<Job> = forget.then_some(Job::FlushTlb).into_iter().collect();
        jobs.extend(ops.iter().map(|op| Job::Op(**op, child.unwrap_or(0))));
        // Others may be woken, and would move behind the answer.
        let alone = thread < self.initial && self.blocked().next().is_none();
        let asks = alone && may_go_on(op) && !ranges.is_empty() && ranges.len() <= RANGES;
        if asks {
            jobs.push(slot.put_ranges(ranges));
        }
        if !slot.post(&jobs) {
            return;
        }
        let e = &mut self.executors[thread];
        e.ops.extend(ops.iter().map(|op| **op));
        e.known += u32::from(forget);
        e.child = child;
        e.beside = beside;
        e.asked = asks.then(|| ranges.to_vec());
        self.mortal |= matches!(op, Op::Exit | Op::Kill { fatal: true, .. });
        self.spoiled |= match op {
            Op::Exit => thread < self.initial,
            Op::Kill { fatal, .. } => *fatal,
            _ => false,
        };
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
        self.executors.iter().enumerate().filter_map(|(me, e)| Some((me, e.ops.front().filter(|_| e.alive)?)))
    }

    /// mincore(2), called in the first process, of ranges of so many pages: a byte a page, [`UNKNOWN`] where it says nothing.
    pub fn mincore(&self, ranges: &[(u64, u64)]) -> Vec<u8> {
        if let Some(known) = self.incore.as_ref().filter(|known| known.ranges == ranges) {
            return known.said.clone();
        }
        let slot = &self.bench.slots[EYE];
        let mut all = Vec::new();
        for ranges in ranges.chunks(RANGES) {
            let pages: usize = ranges.iter().map(|&(_, pages)| pages as usize).sum();
            let since = Instant::now();
            let mut posted = slot.post_incore(ranges);
            while posted && slot.is_busy() {
                sys::sched_yield();
                posted = since.elapsed() < PATIENCE;
            }
            let said = if posted { slot.data(pages) } else { Vec::new() };
            let unknown = pages - said.len();
            all.extend(said);
            all.extend(std::iter::repeat_n(UNKNOWN, unknown));
        }
        all
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
    fn state(&mut self, me: usize) -> Option<char> {
        let e = &mut self.executors[me];
        if e.stat.is_none() {
            e.stat = File::open(format!("/proc/{}/task/{}/stat", e.pid, e.tid)).ok();
        }
        let mut text = [0u8; 512];
        let n = e.stat.as_ref()?.read_at(&mut text, 0).ok()?;
        let name = text[..n].iter().rposition(|b| *b == b')')?;
        text[..n].get(name + 2).map(|b| char::from(*b))
    }

    fn standing(&mut self, me: usize) -> Standing {
        if self.executors[me].ops.is_empty() || !self.bench.slots[me].is_busy() {
            return Standing::Idle;
        }
        let wchan = self.wchan(me).unwrap_or_default();
        if WAITS.iter().any(|w| wchan.contains(w)) {
            return Standing::Blocked;
        }
        match self.state(me) {
            // The first thread may be dead before the others, which still have the memory.
            None | Some('Z' | 'X') if !self.is_gone(self.executors[me].pid) => Standing::Moving,
            None | Some('Z' | 'X') => Standing::Dead,
            Some('S' | 'D') if LOCKS.iter().any(|l| wchan == *l) => Standing::LockedOut,
            Some('S' | 'D') => Standing::Asleep,
            _ => Standing::Moving,
        }
    }

    /// Wait until nothing moves any more.
    pub fn settle(&mut self) -> Result<(), Stopped> {
        sys::sched_yield();
        // Who has no job only waits for one.
        if (0..self.executors.len()).all(|me| self.executors[me].ops.is_empty() || !self.bench.slots[me].is_busy()) {
            return Ok(());
        }
        let since = Instant::now();
        let mut last: Vec<Standing> = Vec::new();
        let mut still_since = Instant::now();
        loop {
            let now: Vec<Standing> = (0..self.executors.len()).map(|me| self.standing(me)).collect();
            let moving = now.iter().any(|s| matches!(s, Standing::Moving));
            // Who holds the lock is one of those that are blocked. Where nobody is, it is about to be given up.
            let held = now.contains(&Standing::Blocked);
            let asleep = now.iter().any(|s| *s == Standing::Asleep || *s == Standing::LockedOut && !held);
            if now != last {
                still_since = Instant::now();
            } else if !moving && (!asleep || held && still_since.elapsed() > LOCK_WAIT) {
                break;
            }
            last = now;
            if moving || asleep {
                sys::sched_yield();
                match since.elapsed() {
                    waited if waited > Duration::from_millis(5) => std::thread::sleep(Duration::from_micros(500)),
                    // What it sleeps for may take the kernel's own threads, which are not urgent.
                    waited if !moving && waited > Duration::from_micros(50) => {
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    _ => {}
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
            let e = &self.executors[me];
            let ended = self.bench.slots[me].done().saturating_sub(e.known) as usize;
            let op = e.ops.get(ended).map_or(String::new(), crate::scenario::print::op);
            all.push(format!("{op} (thread {me}, state {}, in {wchan}, {standing:?})", self.state(me).unwrap_or('?')));
        }
        Stopped::Stuck(all.join("; "))
    }

    /// Operations that have ended since the last call, by thread. None: its process has ended with it.
    pub fn ended(&mut self) -> Result<Vec<(usize, Option<Outcome>)>, Stopped> {
        let mut all = Vec::new();
        self.incore = None;
        for me in 0..self.executors.len() {
            if !self.executors[me].alive {
                if let Some(op) = self.executors[me].ops.front() {
                    all.push((me, (*op == Op::Exit).then(|| Outcome::ok(0))));
                }
                self.executors[me].ops.clear();
                continue;
            }
            let slot = &self.bench.slots[me];
            while let (Some(&op), Some(raw)) = (self.executors[me].ops.front(), slot.raw(self.executors[me].known + 1)) {
                let mut outcome = self.outcome(me, &op, &raw)?;
                self.executors[me].known += 1;
                self.executors[me].ops.pop_front();
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
            let e = &mut self.executors[me];
            let asked = e.asked.take();
            if !e.ops.is_empty() {
                // It is blocked. What is behind this operation is not begun.
                slot.retract();
                e.ops.truncate(1);
            } else if let Some(ranges) = asked {
                e.known += 1;
                let said = slot.data(ranges.iter().map(|&(_, pages)| pages as usize).sum());
                self.incore = Some(Incore { ranges, said });
            }
        }
        // A process may have died while all its threads were idle, by a signal from another one.
        if self.mortal {
            let (pids, pidfds): (Vec<u32>, Vec<_>) = self.pidfds().unzip();
            for (pid, _) in pids.into_iter().zip(sys::ended(&pidfds)).filter(|(_, ended)| *ended) {
                self.executors.iter_mut().filter(|e| e.pid == pid).for_each(|e| e.alive = false);
            }
        }
        Ok(all)
    }

    fn pidfds(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let first = self.process.iter().map(|p| (p.pid, p.pidfd.as_fd()));
        first.chain(self.children.iter().map(|(pid, fd)| (*pid, fd.as_fd())))
    }

    /// Has the process ended, with all its threads?
    fn is_gone(&self, pid: u32) -> bool {
        self.pidfds().find(|(of, _)| *of == pid).is_none_or(|(_, fd)| sys::ended(&[fd])[0])
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

impl Drop for Tested<'_> {
    /// Nothing of it stays behind.
    fn drop(&mut self) {
        self.process = None;
        for (pid, _) in &self.children {
            sys::kill(*pid as i32, libc::SIGKILL);
            while std::path::Path::new(&format!("/proc/{pid}")).exists() && sys::wait(-1, false).is_none() {
                sys::sched_yield();
            }
        }
    }
}
