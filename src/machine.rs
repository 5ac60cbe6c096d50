// SPDX-License-Identifier: GPL-2.0-only
//! A machine: a kernel and the tasks that run on it.
//!
//! It decides who runs. Left alone ([`Machine::run`]) an operation goes on until it ends or sleeps, then whoever it woke goes
//! on, until nothing moves any more. For a schedule of one's own, start operations ([`Machine::start`]) and [`Machine::step`]
//! them from one preemption point to the next.

use crate::entry::{self, End};
use crate::event::{Event, Symptom};
use crate::kernel::*;
use crate::mm::locking::{self, LockId, LockMode};
use crate::patch::Revision;
use crate::point::{self, Pause};
use crate::syscall::{Answer, Op, Outcome};
use slab::Slab;
use std::cell::Cell as StdCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

/// An operation under way.
struct Running {
    task: TaskId,
    op: Op,
    runner: Runner,
    pause: Option<Pause>,
    /// How many of [`Machine::steps`] were its own.
    own: u64,
    /// How many the others had made when it began the round of a loop that it is in, and the round before.
    round: u64,
    since: u64,
}

/// No number of steps.
const NEVER: u64 = u64::MAX;

/// Why an operation could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The task is still in its last operation.
    Busy,
    /// The task has exited, or there is no such task.
    Dead,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::Busy => "the thread is still blocked in an earlier operation",
            Refused::Dead => "the thread has exited",
        })
    }
}

/// An operation that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completed {
    /// Whose.
    pub task: TaskId,
    /// Which.
    pub op: Op,
    /// How. None: killed by a fatal signal.
    pub outcome: Option<Outcome>,
}

/// What a [`Runner`] is to do.
#[derive(Clone, Copy)]
enum Job {
    /// Carry out the operation that is on the desk.
    Op,
    /// Go on with the fault that the task was parked in.
    Resume,
}

/// Where a [`Runner`] finds its job, and leaves how the job ended.
struct Desk {
    job: StdCell<Option<Job>>,
    op: StdCell<Op>,
    answer: Answer,
    end: StdCell<Option<End>>,
}

/// A stack to run operations on, one after the other: a future that never ends. An operation is over in the time that it takes to
/// allocate the future that it needs.
struct Runner {
    desk: Rc<Desk>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Runner {
    fn new(k: Rc<Kernel>) -> Runner {
        let (job, end) = (StdCell::new(None), StdCell::new(None));
        let desk = Rc::new(Desk { job, op: StdCell::new(Op::Exit), answer: Answer::default(), end });
        let shared = Rc::clone(&desk);
        let future = Box::pin(async move {
            loop {
                let end = match shared.job.take() {
                    Some(Job::Op) => {
                        let op = shared.op.get();
                        Some(entry::run_op(&k, &op, &shared.answer).await)
                    }
                    Some(Job::Resume) => Some(entry::run_resumed(&k, &shared.answer).await),
                    None => None,
                };
                shared.end.set(end);
                point::rest().await;
            }
        });
        Runner { desk, future }
    }

    /// Go on as this task. How its job ended, or why it does not go on.
    fn poll_in(&mut self, k: &Kernel, task: TaskId) -> Result<End, Option<Pause>> {
        k.run.current.set(Some(task));
        k.run.pause.set(None);
        let _ = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        k.run.current.set(None);
        self.desk.end.take().ok_or_else(|| k.run.pause.get())
    }
}

/// See the module text.
pub struct Machine {
    /// The kernel. Plain data whenever [`Kernel::is_quiescent`].
    pub k: Rc<Kernel>,
    running: Slab<Running>,
    /// Runners whose job has ended, and whose answer has been taken.
    idle: Vec<Runner>,
    completed: Vec<Completed>,
    /// Steps made, but for those round a loop that somebody else must end.
    steps: u64,
    /// Of several tasks that can go on, the one with the highest number does, not the one with the lowest.
    pub last_first: bool,
}

impl Machine {
    /// A freshly booted kernel with one privileged process of one thread, which is task 0.
    pub fn new(revision: Revision, config: Config) -> Machine {
        let state = State { revision, config, ..State::default() };
        let k = Rc::new(Kernel::new(state));
        crate::shmem::inode::shmem_kernel_mount(&k);
        let mm = crate::mm::fork::mm_alloc(&k);
        let group = k.sm().procs.insert(Process { mm: Some(mm), privileged: true, ..Process::default() });
        k.sm().tasks.insert(Task { group, ..Task::default() });
        Machine { k, running: Slab::new(), idle: Vec::new(), completed: Vec::new(), steps: 0, last_first: false }
    }

    /// Go on with a quiescent kernel.
    pub fn resume(kernel: Kernel) -> Machine {
        Machine { k: Rc::new(kernel), running: Slab::new(), idle: Vec::new(), completed: Vec::new(), steps: 0, last_first: false }
    }

    /// The first task of the first process.
    pub fn main_task(&self) -> TaskId {
        self.task(0).unwrap_or(TaskId::DANGLING)
    }

    /// The task with this number.
    pub fn task(&self, number: u16) -> Option<TaskId> {
        self.k.s().tasks.iter().map(|(id, _)| id).find(|id| id.number() == number)
    }

    /// One more thread in the process of `task` (as by `clone(CLONE_VM|CLONE_FILES|CLONE_THREAD)`).
    pub fn spawn_thread(&mut self, task: TaskId) -> TaskId {
        let group = self.k.task(task).group;
        self.k.sm().tasks.insert(Task { group, ..Task::default() })
    }

    /// Is the task in the middle of an operation (running, waiting or blocked in a fault)?
    pub fn is_busy(&self, task: TaskId) -> bool {
        self.running.iter().any(|(_, r)| r.task == task) || self.k.s().tasks.get(task).is_some_and(|t| t.blocked.is_some())
    }

    /// The operation that the task is in, if any.
    pub fn current_op(&self, task: TaskId) -> Option<Op> {
        let running = self.running.iter().find(|(_, r)| r.task == task).map(|(_, r)| r.op);
        running.or_else(|| self.k.s().tasks.get(task).and_then(|t| t.blocked.as_ref().map(|b| entry::op_of(b.access))))
    }

    /// Begin an operation without running any of it.
    pub fn start(&mut self, task: TaskId, op: &Op) -> Result<(), Refused> {
        self.can_start(task)?;
        self.spawn(task, *op);
        Ok(())
    }

    fn can_start(&self, task: TaskId) -> Result<(), Refused> {
        let s = self.k.s();
        match s.tasks.get(task) {
            None => Err(Refused::Dead),
            Some(t) if t.state == TaskState::Dead => Err(Refused::Dead),
            Some(t) if t.blocked.is_some() || self.running.iter().any(|(_, r)| r.task == task) => Err(Refused::Busy),
            Some(_) => Ok(()),
        }
    }

    /// An idle runner that is given something to do. An operation is put on its desk by the caller.
    #[inline]
    fn runner<'m>(idle: &'m mut Vec<Runner>, k: &Rc<Kernel>, job: Job) -> &'m mut Runner {
        if idle.is_empty() {
            idle.push(Runner::new(Rc::clone(k)));
        }
        let runner = idle.last_mut().expect("there is one");
        runner.desk.job.set(Some(job));
        runner
    }

    fn insert(&mut self, task: TaskId, op: Op) -> usize {
        let runner = self.idle.pop().expect("it has just been given something to do");
        self.running.insert(Running { task, op, runner, pause: None, own: 0, round: NEVER, since: NEVER })
    }

    fn spawn(&mut self, task: TaskId, op: Op) {
        Machine::runner(&mut self.idle, &self.k, Job::Op).desk.op.set(op);
        self.insert(task, op);
    }

    /// A parked fault that has been woken becomes a running operation again.
    #[inline]
    fn unpark(&mut self) {
        let any_parked = self.k.s().tasks.iter().any(|(_, t)| t.blocked.is_some());
        if any_parked {
            self.unpark_woken();
        }
    }

    fn unpark_woken(&mut self) {
        let woken: Vec<(TaskId, UserAccess)> = {
            let s = self.k.s();
            let running = s.tasks.iter().filter(|(_, t)| t.state == TaskState::Running);
            running.filter_map(|(id, t)| t.blocked.as_ref().map(|b| (id, b.access))).collect()
        };
        for (task, access) in woken {
            if self.running.iter().any(|(_, r)| r.task == task) {
                continue;
            }
            Machine::runner(&mut self.idle, &self.k, Job::Resume);
            self.insert(task, entry::op_of(access));
        }
    }

    fn can_go_on(&self, r: &Running) -> bool {
        match r.pause {
            None | Some(Pause::Point(_)) | Some(Pause::BeforeLock(..)) => true,
            Some(Pause::Lock(lock, mode)) => locking::is_free(&self.k, lock, mode, r.task),
            Some(Pause::Sleep) => self.k.task(r.task).state == TaskState::Running,
            Some(Pause::Spin(_)) => self.steps - r.own != r.since,
            Some(Pause::Dead) => false,
        }
    }

    /// The tasks that can make a step, in order of their numbers.
    pub fn runnable(&mut self) -> Vec<TaskId> {
        self.unpark();
        let mut tasks: Vec<TaskId> = self.running.iter().filter(|(_, r)| self.can_go_on(r)).map(|(_, r)| r.task).collect();
        tasks.sort();
        tasks
    }

    /// Where the task's operation stands, if it is under way.
    pub fn pause_of(&self, task: TaskId) -> Option<Pause> {
        self.running.iter().find(|(_, r)| r.task == task).and_then(|(_, r)| r.pause)
    }

    /// Run the task's operation to its next pause (its next preemption point, if `Kernel::run.preempt` is set) or to its end.
    /// False if it is not under way.
    pub fn step(&mut self, task: TaskId) -> bool {
        self.unpark();
        let Some(key) = self.running.iter().find(|(_, r)| r.task == task).map(|(key, _)| key) else {
            return false;
        };
        self.poll(key);
        true
    }

    fn poll(&mut self, key: usize) {
        let r = &mut self.running[key];
        let task = r.task;
        if let Some(Pause::Spin(_)) = r.pause {
            r.round = self.steps - r.own;
        }
        match r.runner.poll_in(&self.k, task) {
            Ok(end) => {
                let Running { op, runner, .. } = self.running.remove(key);
                let outcome = runner.desk.answer.take();
                self.idle.push(runner);
                self.ended(task, op, end, outcome);
            }
            Err(pause) => self.paused(key, pause),
        }
    }

    /// It stops. Round a loop is no step, and only what others did since its last round began can make another one worthwhile.
    fn paused(&mut self, key: usize, pause: Option<Pause>) {
        let r = &mut self.running[key];
        if let Some(Pause::Spin(_)) = pause {
            r.since = r.round;
        } else {
            r.own += 1;
            self.steps += 1;
        }
        r.pause = pause;
    }

    fn ended(&mut self, task: TaskId, op: Op, end: End, outcome: Option<Outcome>) {
        self.steps += 1;
        match end {
            End::Returned => self.completed.push(Completed { task, op, outcome }),
            End::Blocked => {}
            End::Killed => {
                self.completed.push(Completed { task, op, outcome: None });
                // The signal is delivered on the way back to user mode: the whole process goes.
                if self.k.task(task).state != TaskState::Dead {
                    self.spawn(task, Op::Exit);
                }
            }
        }
    }

    /// Let everything run that can, until nothing can go on. Afterwards a lock that nobody will ever release is reported.
    #[inline]
    pub fn settle(&mut self) {
        self.unpark();
        if !self.running.is_empty() {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        loop {
            let able = self.running.iter().filter(|(_, r)| self.can_go_on(r)).map(|(key, r)| (r.task, key));
            let next = if self.last_first { able.max_by_key(|(task, _)| *task) } else { able.min_by_key(|(task, _)| *task) };
            match next.map(|(_, key)| key) {
                Some(key) => self.poll(key),
                None => break,
            }
            self.unpark();
        }
        if !self.running.is_empty() {
            self.report_dead_waits();
        }
    }

    /// Run one operation and all that it sets in motion. Its outcome, or None if it is blocked.
    /// Other operations that ended meanwhile are in [`take_completed`](Machine::take_completed).
    pub fn run(&mut self, task: TaskId, op: &Op) -> Result<Option<Outcome>, Refused> {
        self.can_start(task)?;
        let runner = Machine::runner(&mut self.idle, &self.k, Job::Op);
        runner.desk.op.set(*op);
        // Most operations end at once: those never get into the table.
        let mut mine = None;
        match runner.poll_in(&self.k, task) {
            Ok(End::Returned) => mine = runner.desk.answer.take(),
            Ok(end) => self.ended(task, *op, end, None),
            Err(pause) => {
                let key = self.insert(task, *op);
                self.paused(key, pause);
            }
        }
        let first = self.completed.len();
        self.settle();
        if mine.is_none()
            && let Some(at) = self.completed[first..].iter().position(|c| c.task == task && c.op == *op)
        {
            mine = self.completed.remove(first + at).outcome;
        }
        Ok(mine)
    }

    /// Operations that have ended since the last call, in order, except those that [`run`](Machine::run) returned.
    pub fn take_completed(&mut self) -> Vec<Completed> {
        std::mem::take(&mut self.completed)
    }

    /// Whom does a task wait for, if it waits for a lock?
    fn waits_for(&self, task: TaskId) -> Option<(LockId, Vec<TaskId>)> {
        let (_, r) = self.running.iter().find(|(_, r)| r.task == task)?;
        let Some(Pause::Lock(lock, mode)) = r.pause else { return None };
        let s = self.k.s();
        let mut holders: Vec<TaskId> = s.held.iter().filter(|h| h.lock == lock).map(|h| h.task).collect();
        if mode == LockMode::Read {
            holders.extend(
                s.waiting.iter().filter(|w| w.lock == lock && w.mode == LockMode::Write && w.task != task).map(|w| w.task),
            );
        }
        Some((lock, holders))
    }

    fn report_dead_waits(&self) {
        for (_, r) in &self.running {
            let Some(Pause::Spin(what)) = r.pause else { continue };
            let task = r.task;
            let already = self.k.run.findings.borrow().iter().any(|f| f.symptom == Symptom::EndlessLoop && f.task == task);
            if !already {
                self.k.run.current.set(Some(task));
                self.k.report(Symptom::EndlessLoop, || format!("{what} goes round until somebody else does something"));
                self.k.run.current.set(None);
            }
        }
        let waiting: Vec<TaskId> = self.running.iter().map(|(_, r)| r.task).collect();
        for &task in &waiting {
            let Some((lock, _)) = self.waits_for(task) else { continue };
            // Follow the holders; a task that sleeps for something else than a lock can still be woken.
            let mut seen = vec![];
            let mut todo = vec![task];
            let mut dead = None;
            while let Some(t) = todo.pop() {
                if seen.contains(&t) {
                    continue;
                }
                seen.push(t);
                if let Some((l, holders)) = self.waits_for(t) {
                    for h in holders {
                        if h == task {
                            dead = Some(format!("{task} waits for {lock:?}, and so, by way of {l:?}, for itself"));
                        } else if !self.running.iter().any(|(_, r)| r.task == h) {
                            dead = Some(format!("{task} waits for {lock:?}; {l:?} is held by {h}, which has left the kernel"));
                        }
                        todo.push(h);
                    }
                }
            }
            let already = self.k.run.findings.borrow().iter().any(|f| f.symptom == Symptom::DeadWait && f.task == task);
            if let Some(detail) = dead
                && !already
            {
                self.k.run.current.set(Some(task));
                self.k.report(Symptom::DeadWait, || detail);
                self.k.run.current.set(None);
            }
        }
    }

    /// End every process, in order, as `exit_group` would. Afterwards nothing of theirs should be left.
    pub fn exit_all(&mut self) {
        self.k.run.preempt.set(false);
        let groups: Vec<ProcId> = self.k.s().procs.iter().map(|(id, _)| id).collect();
        for group in groups {
            // A process may have gone meanwhile: a fork that waited for its event may have failed.
            if self.k.s().procs.get(group).is_none_or(|p| p.mm.is_none()) {
                continue;
            }
            let tasks: Vec<TaskId> = self.k.s().tasks.iter().filter(|(_, t)| t.group == group).map(|(id, _)| id).collect();
            // A thread that is free can exit for all; if none is, a fatal signal gets the first one out.
            let free = tasks.iter().copied().find(|&t| !self.is_busy(t) && self.k.task(t).state != TaskState::Dead);
            match free {
                Some(task) => {
                    self.spawn(task, Op::Exit);
                    self.settle();
                }
                None => {
                    for &task in &tasks {
                        self.k.run.current.set(Some(task));
                        crate::uffd::handle::send_signal(&self.k, task, true);
                        self.steps += 1;
                        self.k.run.current.set(None);
                        self.settle();
                    }
                }
            }
        }
    }

    /// Tell the trace that an operation begins or ends; the text is the scenario's own line.
    pub fn note(&self, task: TaskId, event: impl FnOnce() -> Event) {
        self.k.run.current.set(Some(task));
        self.k.trace(event);
        self.k.run.current.set(None);
    }
}
