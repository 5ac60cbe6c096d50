// SPDX-License-Identifier: GPL-2.0-only
//! A scenario, run on a revision and watched by the rules.

use crate::event::Record;
use crate::kernel::{Injection, TaskId, TaskState};
use crate::machine::{Completed, Machine};
use crate::observe::{Difference, Moment, Observation, Observer, Subject, compare_one};
use crate::patch::Revision;
use crate::point::Pause;
use crate::rules::{self, Broken, Watch};
use crate::scenario::{Call, Expect, Look, RaceItem, Scenario, Step, Stop, TouchKind, Verdict};
use crate::syscall::{Op, Outcome};

/// How an operation stood at some line.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub enum Answer {
    /// It returned this.
    Returned(Outcome),
    /// It is blocked.
    Blocked,
    /// It was ended by a fatal signal.
    Killed,
    /// It could not be started: the thread was still in another operation, or gone.
    NotStarted(String),
    /// These calls were to fail during it, and were not made.
    NotInjected(String),
    /// Of a line that says what can be seen: this is seen instead, and differs in these facts.
    Sees {
        /// What the line would have to say.
        text: String,
        /// Fact by fact; here the kernel is what the line says.
        differs: Vec<Difference>,
    },
}

impl Answer {
    fn outcome(&self) -> Option<&Outcome> {
        match self {
            Answer::Returned(outcome) => Some(outcome),
            _ => None,
        }
    }
}

/// One line of what happened.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Row {
    /// The scenario's line.
    pub line: usize,
    /// Whose; an index into the scenario's threads.
    pub thread: usize,
    /// What.
    pub op: Op,
    /// This row is the end of an operation that began in an earlier one.
    pub resumed: bool,
    /// How it ended.
    pub answer: Answer,
}

/// A line that said what can be seen.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Looked {
    /// The scenario's line.
    pub line: usize,
    /// So many rows came before it.
    pub after: usize,
    /// What the line would have to say.
    pub text: String,
}

/// A rule that was found broken.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BrokenAt {
    /// Its name.
    pub rule: &'static str,
    /// What exactly.
    pub detail: String,
    /// The scenario's line after which it was seen; 0 is after everything has exited.
    pub line: usize,
}

/// A result that is not the promised one.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Unlike {
    /// The scenario's line.
    pub line: usize,
    /// What happened instead.
    pub got: Answer,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Replay {
    /// On this revision.
    pub revision: Revision,
    /// What happened, in order.
    pub rows: Vec<Row>,
    /// What was seen at the lines that say what can be, in order.
    pub looked: Vec<Looked>,
    /// Rules found broken, each once, in the order they were found.
    pub broken: Vec<BrokenAt>,
    /// The same with every different detail, not only the first of each rule.
    pub details: Vec<BrokenAt>,
    /// Results that are not the promised ones.
    pub unlike: Vec<Unlike>,
    /// The choices taken where C leaves the outcome undefined, with the number of alternatives.
    pub chosen: Vec<(u8, u8)>,
    /// What the primitives recorded, if asked for.
    pub trace: Vec<Record>,
    /// Names for the tasks in the trace, by task number.
    pub task_names: Vec<String>,
}

impl Replay {
    /// The broken rules' names, sorted, each once.
    pub fn rules(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.broken.iter().map(|b| b.rule).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What the claim says, what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// The claim is right.
    AsClaimed,
    /// Nothing is claimed of this revision.
    Unclaimed,
    /// Claimed to hold, but rules are broken.
    HoldsButBreaks(Vec<&'static str>),
    /// Claimed to hold, no rule is broken, but a result is not the promised one.
    HoldsButUnlike(Vec<usize>),
    /// Claimed to break other rules than were seen broken.
    BreaksOther {
        /// Claimed and not seen.
        missing: Vec<String>,
        /// Seen and not claimed.
        extra: Vec<&'static str>,
    },
}

/// A scenario on a revision, with every choice that C leaves open explored.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// The scenario's runs: the first with every choice 0.
    pub runs: Vec<Replay>,
}

impl Verdicts {
    /// Run them all. There are few choices and few alternatives; no more than 64 runs are made.
    pub fn of(scenario: &Scenario, revision: Revision, tracing: bool) -> Verdicts {
        let mut runs: Vec<Replay> = Vec::new();
        let mut next = Some(Vec::new());
        while let Some(choices) = next {
            let run = replay(scenario, revision, &choices, tracing);
            next = successor(&run.chosen);
            runs.push(run);
            if runs.len() == 64 {
                break;
            }
        }
        Verdicts { runs }
    }

    /// The run to show: the first that breaks a rule, else the first.
    pub fn telling(&self) -> &Replay {
        self.runs.iter().find(|r| !r.broken.is_empty()).unwrap_or(&self.runs[0])
    }

    /// Rules broken in some run, sorted.
    pub fn rules(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.runs.iter().flat_map(|r| r.rules()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The rule that was broken first.
    pub fn first_rule(&self) -> Option<&'static str> {
        self.telling().broken.first().map(|b| b.rule)
    }

    /// Compare with the scenario's claim.
    pub fn judge(&self, scenario: &Scenario, revision: Revision) -> Judgement {
        let seen = self.rules();
        let Some(claim) = scenario.claim(revision) else { return Judgement::Unclaimed };
        match &claim.verdict {
            Verdict::Holds if !seen.is_empty() => Judgement::HoldsButBreaks(seen),
            Verdict::Holds => {
                let mut lines: Vec<usize> = self.runs.iter().flat_map(|r| r.unlike.iter().map(|u| u.line)).collect();
                lines.sort_unstable();
                lines.dedup();
                if lines.is_empty() { Judgement::AsClaimed } else { Judgement::HoldsButUnlike(lines) }
            }
            Verdict::Breaks(words) => {
                let missing: Vec<String> = words.iter().map(|w| w.text.clone()).filter(|w| !seen.contains(&w.as_str())).collect();
                let extra: Vec<&'static str> = seen.into_iter().filter(|s| !words.iter().any(|w| w.text == *s)).collect();
                if missing.is_empty() && extra.is_empty() {
                    Judgement::AsClaimed
                } else {
                    Judgement::BreaksOther { missing, extra }
                }
            }
        }
    }
}

/// The next vector of choices in depth-first order.
fn successor(chosen: &[(u8, u8)]) -> Option<Vec<u8>> {
    let at = chosen.iter().rposition(|&(taken, of)| taken + 1 < of)?;
    let mut next: Vec<u8> = chosen[..=at].iter().map(|&(taken, _)| taken).collect();
    next[at] += 1;
    Some(next)
}

/// What each step of a scenario leads to on a revision, observation included. `choices` as in [`replay`].
pub fn moments(scenario: &Scenario, revision: Revision, choices: &[u8]) -> Vec<Moment> {
    moments_and_rules(scenario, revision, choices, 0, false).0
}

/// The same, with the rules that were found broken. Before the step `from` nothing is looked at. Threads that are woken together go
/// on in the order of their numbers, or with `last_first` the other way round.
pub fn moments_and_rules(
    scenario: &Scenario,
    revision: Revision,
    choices: &[u8],
    from: usize,
    last_first: bool,
) -> (Vec<Moment>, Vec<BrokenAt>) {
    let mut machine = Machine::new(revision, scenario.machine.config());
    machine.last_first = last_first;
    let mut player = player(scenario, machine, choices, false);
    let mut moments = Vec::with_capacity(scenario.steps.len());
    // Every other step looks anew.
    let again = scenario.steps.iter().any(|s| matches!(s, Step::Seen(_)));
    for (n, step) in scenario.steps.iter().enumerate() {
        player.looking = n >= from;
        let rows = player.replay.rows.len();
        player.step(step);
        let seen = if again { player.seen.clone() } else { std::mem::take(&mut player.seen) };
        moments.push(player.moment(step, rows, seen));
    }
    (moments, player.replay.details)
}

struct Player {
    machine: Machine,
    watch: Watch,
    replay: Replay,
    /// By thread: its task, and the operation it is in.
    threads: Vec<Option<TaskId>>,
    open: Vec<Option<Call>>,
    line: usize,
    reported: usize,
    /// Somebody asks what can be seen.
    looking: bool,
    observer: Observer,
    seen: Observation,
}

/// Run a scenario on a revision. `choices` decides what C leaves undefined; 0 when it runs out.
pub fn replay(scenario: &Scenario, revision: Revision, choices: &[u8], tracing: bool) -> Replay {
    let machine = Machine::new(revision, scenario.machine.config());
    play(scenario, machine, choices, tracing)
}

fn play(scenario: &Scenario, machine: Machine, choices: &[u8], tracing: bool) -> Replay {
    let mut player = player(scenario, machine, choices, tracing);
    for step in &scenario.steps {
        player.step(step);
    }
    player.finish(tracing)
}

/// Everything stands before the first step.
fn player(scenario: &Scenario, mut machine: Machine, choices: &[u8], tracing: bool) -> Player {
    *machine.k.run.choices.borrow_mut() = choices.to_vec();
    let has_function_stop = scenario.function_words().next().is_some();
    machine.k.run.tracing.set(tracing || has_function_stop);
    let main = machine.main_task();
    let mut threads = vec![None; scenario.threads.len()];
    threads[0] = Some(main);
    for slot in threads.iter_mut().take(scenario.initial_threads).skip(1) {
        *slot = Some(machine.spawn_thread(main));
    }
    let watch = Watch::new(&machine.k);
    let revision = machine.k.s().revision;
    let replay = Replay {
        revision,
        rows: Vec::new(),
        looked: Vec::new(),
        broken: Vec::new(),
        details: Vec::new(),
        unlike: Vec::new(),
        chosen: Vec::new(),
        trace: Vec::new(),
        task_names: scenario.threads.clone(),
    };
    let open = vec![None; threads.len()];
    let looking = scenario.steps.iter().any(|s| matches!(s, Step::Seen(_)));
    let (observer, seen) = Default::default();
    let mut p = Player { machine, watch, replay, threads, open, line: 0, reported: 0, looking, observer, seen };
    if scenario.machine.swap > 0 {
        p.quietly(main, &Op::Swapon { slots: scenario.machine.swap });
    }
    p
}

impl Player {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Op(call) => self.one(call),
            Step::Resumed { line, thread, expect } => self.resumed(*line, *thread, expect),
            Step::Race { items, .. } => self.race(items),
            Step::Seen(look) => return self.seen(look),
        }
        if self.looking {
            let subjects = self.subjects();
            self.seen = self.observer.look(&self.machine.k, &subjects);
        }
    }

    /// The living processes, each by the first of its threads.
    fn subjects(&self) -> Vec<Subject> {
        let s = self.machine.k.s();
        let mut groups = Vec::new();
        let mut subjects = Vec::new();
        for (thread, task) in self.threads.iter().enumerate() {
            let Some(task) = *task else { continue };
            let Some(t) = s.tasks.get(task) else { continue };
            if !groups.contains(&t.group) && s.procs.get(t.group).is_some_and(|p| p.mm.is_some()) {
                groups.push(t.group);
                subjects.push(Subject { who: thread as u16, task });
            }
        }
        subjects
    }

    /// A line says what can be seen now.
    fn seen(&mut self, look: &Look) {
        self.line = look.line;
        let group = |thread: usize| Some(self.machine.k.s().tasks.get(self.threads[thread]?)?.group);
        let mine = group(look.thread);
        let who = self.subjects().iter().map(|s| s.who).find(|&who| group(who.into()) == mine);
        let seen = look.of(who, &self.seen);
        let mut differs = Vec::new();
        compare_one(look.place.key(look.thread as u16), seen.as_ref(), look.seen.as_ref(), &mut differs);
        let text = crate::scenario::look::print(&Look { seen, ..look.clone() }, &self.replay.task_names);
        if !differs.is_empty() {
            self.replay.unlike.push(Unlike { line: look.line, got: Answer::Sees { text: text.clone(), differs } });
        }
        self.replay.looked.push(Looked { line: look.line, after: self.replay.rows.len(), text });
    }

    /// What the step that gave the rows `from` on has led to.
    fn moment(&self, step: &Step, from: usize, seen: Observation) -> Moment {
        let ended = |row: &Row| row.answer.outcome().map(|outcome| (row.thread, outcome.clone()));
        let rows = &self.replay.rows[from..];
        let own = |row: &&Row| matches!(step, Step::Op(_)) && !row.resumed;
        Moment {
            outcome: rows.iter().find(own).and_then(ended).map(|(_, outcome)| outcome),
            resumed: rows.iter().filter(|row| !own(row)).filter_map(ended).collect(),
            blocked: (0..self.open.len()).filter(|&thread| self.open[thread].is_some() && self.is_alive(thread)).collect(),
            seen,
        }
    }

    /// Is the thread there, and not dead?
    fn is_alive(&self, thread: usize) -> bool {
        let s = self.machine.k.s();
        self.threads[thread].and_then(|task| s.tasks.get(task)).is_some_and(|t| t.state != TaskState::Dead)
    }

    fn quietly(&mut self, task: TaskId, op: &Op) {
        self.watch.begin(&self.machine.k, task, op);
        if let Ok(Some(outcome)) = self.machine.run(task, op) {
            let broken = self.watch.end(&self.machine.k, task, op, &outcome);
            self.record(broken);
        }
        self.observe();
    }

    fn record(&mut self, broken: Vec<Broken>) {
        for b in broken {
            let at = BrokenAt { rule: b.rule, detail: b.detail, line: self.line };
            if !self.replay.broken.iter().any(|r| r.rule == at.rule) {
                self.replay.broken.push(at.clone());
            }
            if !self.replay.details.iter().any(|r| r.rule == at.rule && r.detail == at.detail) {
                self.replay.details.push(at);
            }
        }
    }

    /// What the primitives reported since the last look.
    fn observe_findings(&mut self) {
        let new: Vec<Broken> = {
            let findings = self.machine.k.run.findings.borrow();
            findings[self.reported..].iter().map(rules::from_finding).collect()
        };
        self.reported += new.len();
        self.record(new);
    }

    /// Everything has settled: the rules look at the state.
    fn observe(&mut self) {
        self.observe_findings();
        let broken = self.watch.settled(&self.machine.k);
        self.record(broken);
    }

    fn thread_of(&self, task: TaskId) -> Option<usize> {
        self.threads.iter().position(|t| *t == Some(task))
    }

    fn begin(&mut self, call: &Call) -> bool {
        self.line = call.line;
        let refused = match self.threads.get(call.thread).copied().flatten() {
            None => Some("the thread does not exist: its fork failed".to_string()),
            Some(task) => {
                let text = || crate::scenario::print::op(&call.op) + &crate::scenario::print::injected(&call.injected);
                self.machine.note(task, || crate::event::Event::OpBegin(text()));
                match self.machine.start(task, &call.op) {
                    Ok(()) => {
                        self.watch.begin(&self.machine.k, task, &call.op);
                        None
                    }
                    Err(e) => Some(e.to_string()),
                }
            }
        };
        if let Some(why) = refused {
            let answer = Answer::NotStarted(why);
            self.compare(call.line, &call.expect, &answer);
            self.replay.rows.push(Row { line: call.line, thread: call.thread, op: call.op, resumed: false, answer });
            return false;
        }
        if let Some(task) = self.threads[call.thread] {
            let injections = call.injected.iter().map(|i| Injection { task, site: i.site.clone(), skip: i.nth - 1 });
            self.machine.k.run.inject.borrow_mut().extend(injections);
        }
        self.open[call.thread] = Some(call.clone());
        true
    }

    fn compare(&mut self, line: usize, expect: &Expect, answer: &Answer) {
        let as_promised = match (expect, answer) {
            (Expect::Any, Answer::NotStarted(_)) => false,
            (_, Answer::NotStarted(_) | Answer::NotInjected(_)) => false,
            (Expect::Any, _) => true,
            (_, Answer::Killed) => false,
            (expect, answer) => expect.matches(answer.outcome()),
        };
        if !as_promised {
            self.replay.unlike.push(Unlike { line, got: answer.clone() });
        }
    }

    /// Operations that have ended: tell the watch, and give their rows.
    fn collect(&mut self) -> Vec<(usize, Answer)> {
        let mut ended = Vec::new();
        for Completed { task, op, outcome } in self.machine.take_completed() {
            if let Some(outcome) = &outcome {
                let broken = self.watch.end(&self.machine.k, task, &op, outcome);
                self.record(broken);
                let text = || crate::scenario::print::outcome(&op, outcome);
                self.machine.note(task, || crate::event::Event::OpEnd(text()));
            }
            let Some(thread) = self.thread_of(task) else { continue };
            self.not_injected(thread, task);
            if let (Op::Fork, Some(Outcome { ret: Ok(child), .. })) = (&op, &outcome) {
                self.adopt(thread, *child as u16);
            }
            ended.push((thread, outcome.map_or(Answer::Killed, Answer::Returned)));
        }
        ended
    }

    /// The thread's operation is over: what was to fail in it and was not called is not as promised.
    fn not_injected(&mut self, thread: usize, task: TaskId) {
        let mut missed = Vec::new();
        self.machine.k.run.inject.borrow_mut().retain(|i| {
            if i.task == task {
                missed.push(i.site.clone());
            }
            i.task != task
        });
        if let (false, Some(call)) = (missed.is_empty(), &self.open[thread]) {
            self.replay.unlike.push(Unlike { line: call.line, got: Answer::NotInjected(missed.join(", ")) });
        }
    }

    /// Give the child that `thread` has forked the name its fork line says.
    fn adopt(&mut self, thread: usize, task: u16) {
        if let Some(child) = self.open[thread].as_ref().and_then(|c| c.child) {
            self.threads[child] = self.machine.task(task);
        }
    }

    /// A fork that sleeps in its event has made the child already.
    fn settle_and_collect(&mut self) -> Vec<(usize, Answer)> {
        self.machine.settle();
        let ended = self.collect();
        self.observe();
        ended
    }

    fn one(&mut self, call: &Call) {
        if !self.begin(call) {
            return;
        }
        let ended = self.settle_and_collect();
        let mine = ended.iter().find(|(t, _)| *t == call.thread).map(|(_, a)| a.clone());
        let answer = mine.unwrap_or(Answer::Blocked);
        self.compare(call.line, &call.expect, &answer);
        if answer != Answer::Blocked {
            self.open[call.thread] = None;
        }
        self.replay.rows.push(Row { line: call.line, thread: call.thread, op: call.op, resumed: false, answer });
        self.late(ended.into_iter().filter(|(t, _)| *t != call.thread));
    }

    /// Operations of earlier lines that ended now.
    fn late(&mut self, ended: impl Iterator<Item = (usize, Answer)>) {
        for (thread, answer) in ended {
            if let Some(call) = self.open[thread].take() {
                self.replay.rows.push(Row { line: call.line, thread, op: call.op, resumed: true, answer });
            }
        }
    }

    fn resumed(&mut self, line: usize, thread: usize, expect: &Expect) {
        self.line = line;
        let last = self.replay.rows.iter().rev().find(|r| r.thread == thread).map(|r| (r.resumed, r.answer.clone()));
        let answer = match last {
            Some((_, answer)) => answer,
            None => Answer::NotStarted("nothing was unfinished".to_string()),
        };
        self.compare(line, expect, &answer);
    }

    fn race(&mut self, items: &[RaceItem]) {
        self.machine.k.run.preempt.set(true);
        // What the race has started, with its answer once it has one; and by thread, which of them it is in.
        let mut started: Vec<(&Call, Answer)> = Vec::new();
        let mut current = vec![None; self.threads.len()];
        for item in items {
            match item {
                RaceItem::Start(call) => {
                    if self.begin(call) {
                        current[call.thread] = Some(started.len());
                        started.push((call, Answer::Blocked));
                    }
                }
                RaceItem::Until { line, thread, stop } => {
                    self.line = *line;
                    if let Some(task) = self.threads.get(*thread).copied().flatten() {
                        self.until(task, stop);
                    }
                    self.observe_findings();
                    let ended = self.collect();
                    self.answered(ended, &mut started, &mut current);
                }
            }
        }
        self.machine.k.run.preempt.set(false);
        let ended = self.settle_and_collect();
        self.answered(ended, &mut started, &mut current);
        for (call, answer) in started {
            self.compare(call.line, &call.expect, &answer);
            self.replay.rows.push(Row { line: call.line, thread: call.thread, op: call.op, resumed: false, answer });
        }
    }

    /// Give each answer to the call of the race that its thread is in. A thread may make several, one after the other; what
    /// ends an operation of an earlier line belongs to that.
    fn answered(&mut self, ended: Vec<(usize, Answer)>, started: &mut [(&Call, Answer)], current: &mut [Option<usize>]) {
        for (thread, answer) in ended {
            match current[thread].take() {
                Some(at) => {
                    started[at].1 = answer;
                    self.open[thread] = None;
                }
                None => self.late(std::iter::once((thread, answer))),
            }
        }
    }

    fn until(&mut self, task: TaskId, stop: &Stop) {
        for step in 1.. {
            if !self.machine.runnable().contains(&task) {
                return;
            }
            self.machine.step(task);
            let pause = self.machine.pause_of(task);
            let here = match stop {
                Stop::End => false,
                Stop::Steps(n) => step >= u32::from(*n),
                Stop::Blocked => matches!(pause, Some(Pause::Lock(..) | Pause::Sleep | Pause::Spin(_))),
                Stop::Func { name, before } => {
                    let inside = self
                        .machine
                        .k
                        .run
                        .stacks
                        .borrow()
                        .get(task.number() as usize)
                        .is_some_and(|stack| stack.iter().any(|f| *f == name.text));
                    inside && pause.is_some() && before.is_none_or(|kind| pause.and_then(TouchKind::of) == Some(kind))
                }
            };
            if here || !self.machine.is_busy(task) {
                return;
            }
        }
    }

    fn finish(mut self, tracing: bool) -> Replay {
        self.line = 0;
        self.machine.exit_all();
        let ended = self.collect();
        self.late(ended.into_iter());
        self.observe_findings();
        let broken = self.watch.finish(&self.machine.k);
        self.record(broken);
        self.replay.chosen = self.machine.k.run.chosen.borrow().clone();
        if tracing {
            self.replay.trace = self.machine.k.run.trace.take();
        }
        self.replay
    }
}
