// SPDX-License-Identifier: GPL-2.0-only
//! From text to scenario. The line is the unit: an error in one does not hide those in the next.

use super::ast::*;
use super::error::{Bad, Error, Errors, Span, meant};
use super::lex::{self, Tok};
use super::line::Line;
use super::look;
use crate::patch::Revision;
use crate::syscall::Op;
use std::collections::{BTreeMap, BTreeSet};

/// Words that begin a heading or a section, and so cannot name a thread.
const HEADINGS: [&str; 7] = ["question", "why", "finding", "machine", "threads", "race", "claims"];
/// Settings of `machine:`.
const SETTINGS: [&str; 6] = ["swap", "frames", "commit-limit", "fault-around", "soft-dirty", "memory-failure"];
/// So many threads are enough for anybody, and fit the numbers of tasks.
const MAX_THREADS: usize = 32;

/// Read a scenario. `path` is only for messages.
pub fn scenario(path: &str, text: &str) -> Result<Scenario, Errors> {
    let mut reader = Reader::new(path);
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if let Err(bad) = reader.line(i + 1, line) {
            reader.errors.push(bad.within(path, i + 1, line));
        }
    }
    reader.finish(&lines)
}

/// Read a scenario from a file.
pub fn file(path: &std::path::Path) -> Result<Scenario, Errors> {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => scenario(&shown, &text),
        Err(e) => Err(Errors(vec![whole(&shown, format!("cannot read the file: {e}"), None)])),
    }
}

/// Read one operation, for instance `ftruncate(3, 0)`. Threads are numbers here, and a fork's child has no name.
pub fn op(text: &str) -> Result<Op, Errors> {
    let read = |text| {
        let mut line = Line::new(text, 0, &[])?;
        let op = line.call()?;
        line.end("the operation")?;
        Ok(op)
    };
    read(text).map_err(|bad: Bad| Errors(vec![bad.within("operation", 1, text)]))
}

/// Read a result of `op` as it stands after `= `.
pub fn expected(op: &Op, text: &str) -> Result<Expected, Errors> {
    let read = |text| {
        let mut line = Line::new(text, 0, &[])?;
        let expected = line.result(op, None)?;
        line.end("the result")?;
        Ok(expected)
    };
    read(text).map_err(|bad: Bad| Errors(vec![bad.within("result", 1, text)]))
}

/// An error that belongs to no line.
fn whole(path: &str, message: String, note: Option<String>) -> Error {
    Error { path: path.to_owned(), line: 0, column: 0, width: 0, text: String::new(), message, note, usage: None }
}

/// What an indented line continues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Nothing,
    Heading(&'static str),
    Race,
    Claims,
}

/// The last operation of a thread.
struct Last {
    line: usize,
    op: Op,
    child: Option<usize>,
    state: Progress,
}

#[derive(PartialEq, Eq)]
enum Progress {
    Unknown,
    Unfinished,
    Over,
}

struct Reader {
    scenario: Scenario,
    errors: Vec<Error>,
    section: Section,
    /// Headings and sections seen, and where.
    seen: BTreeMap<&'static str, usize>,
    threads_given: bool,
    last: BTreeMap<usize, Last>,
    /// A claim of `others` came.
    others: bool,
    /// Lines of the sections that something, right or wrong, stands in.
    filled: BTreeSet<usize>,
    /// Threads whose last operation could not be read: what is said of its end is not judged.
    unclear: BTreeSet<usize>,
}

impl Reader {
    fn new(path: &str) -> Reader {
        let name = path.rsplit('/').next().unwrap_or(path);
        Reader {
            scenario: Scenario {
                path: path.to_owned(),
                name: name.strip_suffix(".scn").unwrap_or(name).to_owned(),
                question: String::new(),
                why: String::new(),
                finds: Vec::new(),
                machine: MachineSpec::default(),
                threads: vec!["main".to_owned()],
                initial_threads: 1,
                steps: Vec::new(),
                claims: Vec::new(),
            },
            errors: Vec::new(),
            section: Section::Nothing,
            seen: BTreeMap::new(),
            threads_given: false,
            last: BTreeMap::new(),
            others: false,
            filled: BTreeSet::new(),
            unclear: BTreeSet::new(),
        }
    }

    fn line(&mut self, number: usize, text: &str) -> Result<(), Bad> {
        let text = text.trim_end();
        let start = text.len() - text.trim_start().len();
        if text.is_empty() {
            // A text ends at an empty line; races and claims may be spaced out.
            if let Section::Heading(_) = self.section {
                self.section = Section::Nothing;
            }
            return Ok(());
        }
        if text[start..].starts_with('#') {
            return Ok(());
        }
        if start > 0 {
            return match self.section {
                Section::Heading(heading) => self.heading(heading, number, text, start),
                Section::Race => {
                    self.filled.extend(self.seen.get("race"));
                    self.race_item(number, text, start)
                }
                Section::Claims => {
                    self.filled.extend(self.seen.get("claims"));
                    self.claim(number, text, start)
                }
                Section::Nothing => Err(Bad::new(Span { at: 0, len: start }, "this line is indented, but continues nothing")
                    .note("indented lines belong to a heading above them, to race: or to claims:".to_owned())),
            };
        }
        self.section = Section::Nothing;
        if text.starts_with('|') {
            self.not_after_claims(Span { at: 0, len: text.len() })?;
            return self.look(number, text);
        }
        let prefix = prefix(text, 0);
        let Some((word, rest)) = prefix else {
            self.not_after_claims(Span { at: 0, len: text.len() })?;
            return self.step(number, text, 0, 0);
        };
        let span = Span { at: 0, len: word.len() };
        match HEADINGS.into_iter().find(|&h| h == word) {
            Some("race") => {
                self.not_after_claims(span)?;
                self.section = Section::Race;
                self.seen.insert("race", number);
                self.scenario.steps.push(Step::Race { line: number, items: Vec::new() });
                nothing_more(text, rest, "the lines of a race").inspect_err(|_| {
                    self.filled.insert(number);
                })
            }
            Some("claims") => {
                self.section = Section::Claims;
                self.once("claims", number, span).and_then(|()| nothing_more(text, rest, "claims")).inspect_err(|_| {
                    self.filled.insert(number);
                })
            }
            Some(heading) => {
                self.section = Section::Heading(heading);
                if !self.scenario.steps.is_empty() || !self.scenario.claims.is_empty() {
                    return Err(Bad::new(span, format!("`{word}:` comes after the first operation"))
                        .note("headings come first".to_owned()));
                }
                self.once(heading, number, span)?;
                self.heading(heading, number, text, rest)
            }
            None => {
                let Some(thread) = self.scenario.threads.iter().position(|t| t == word) else {
                    let known = self.scenario.threads.iter().map(String::as_str);
                    let note = meant(word, HEADINGS.into_iter().chain(known))
                        .unwrap_or_else(|| format!("the threads are {}", self.scenario.threads.join(", ")));
                    return Err(Bad::new(span, format!("`{word}` is neither a thread nor a heading")).note(note));
                };
                self.not_after_claims(span)?;
                self.step(number, text, rest, thread)
            }
        }
    }

    fn once(&mut self, heading: &'static str, number: usize, span: Span) -> Result<(), Bad> {
        match self.seen.insert(heading, number) {
            Some(before) => Err(Bad::new(span, format!("a second `{heading}:`")).note(format!("the first is in line {before}"))),
            None => Ok(()),
        }
    }

    fn not_after_claims(&self, span: Span) -> Result<(), Bad> {
        match self.seen.get("claims") {
            Some(line) => Err(Bad::new(span, "an operation after `claims:`")
                .note(format!("claims come last; they begin in line {line}, and each of them is indented"))),
            None => Ok(()),
        }
    }

    fn heading(&mut self, heading: &str, number: usize, text: &str, from: usize) -> Result<(), Bad> {
        let s = &mut self.scenario;
        match heading {
            "question" | "why" => {
                let field = if heading == "why" { &mut s.why } else { &mut s.question };
                for word in text[from..].split_whitespace() {
                    if !field.is_empty() {
                        field.push(' ');
                    }
                    field.push_str(word);
                }
                if field.is_empty() && self.seen.get(heading) == Some(&number) && heading == "question" {
                    return Err(Bad::new(Span { at: 0, len: text.len() }, "the question is empty"));
                }
            }
            "finding" => {
                for (word, span) in lex::words(text, from) {
                    let digits = word.strip_prefix('F').unwrap_or("");
                    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                        return Err(Bad::new(span, format!("`{word}` is not a finding")).note("for instance F01".to_owned()));
                    }
                    if s.finds.iter().any(|f| f == word) {
                        return Err(Bad::new(span, format!("`{word}` is named twice")));
                    }
                    s.finds.push(word.to_owned());
                }
            }
            "machine" => {
                for (word, span) in lex::words(text, from) {
                    setting(&mut s.machine, word, span)?;
                }
            }
            "threads" => {
                for (word, span) in lex::words(text, from) {
                    if !self.threads_given {
                        // The default goes when the first name comes.
                        self.threads_given = true;
                        s.threads.clear();
                        s.initial_threads = 0;
                    }
                    new_thread(&mut s.threads, word, span)?;
                    s.initial_threads += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn step(&mut self, number: usize, text: &str, from: usize, thread: usize) -> Result<(), Bad> {
        if let [(word, span), ..] = lex::words(text, from)[..]
            && word == "until"
        {
            return Err(
                Bad::new(span, "`until` outside of a race").note("it belongs into the indented lines after `race:`".to_owned())
            );
        }
        let mut line = Line::new(text, from, &self.scenario.threads)?;
        if line.eat(&Tok::Resumed) {
            if self.unclear.contains(&thread) {
                return Ok(());
            }
            let span = line.toks[0].1;
            let step = self.resumed(number, line, span, thread)?;
            if let Some(last) = self.last.get_mut(&thread) {
                (last.line, last.state) = (number, Progress::Over);
            }
            self.scenario.steps.push(step);
            return Ok(());
        }
        let call = self.call(number, text, from, thread)?;
        self.scenario.steps.push(Step::Op(call));
        Ok(())
    }

    fn look(&mut self, number: usize, text: &str) -> Result<(), Bad> {
        if self.scenario.steps.is_empty() {
            return Err(Bad::new(Span { at: 0, len: 1 }, "seen before anything has happened")
                .note("it stands after the operation that led to it".to_owned()));
        }
        let mut line = Line::new(text, 1, &self.scenario.threads)?;
        let look = look::parse(&mut line, number, &self.scenario.threads)?;
        self.scenario.steps.push(Step::Seen(look));
        Ok(())
    }

    fn resumed(&self, number: usize, mut line: Line<'_>, span: Span, thread: usize) -> Result<Step, Bad> {
        let name = &self.scenario.threads[thread];
        let last = match self.last.get(&thread) {
            None => return Err(Bad::new(span, format!("{name} has not begun anything"))),
            Some(last) if last.state == Progress::Over => {
                return Err(Bad::new(span, format!("{name} has nothing unfinished"))
                    .note(format!("line {} says how its operation ended", last.line)));
            }
            Some(last) => last,
        };
        let child = last.child.map(|c| self.scenario.threads[c].as_str());
        let expect = line.expectation(&last.op, child)?;
        if expect == Expect::Blocked {
            return Err(Bad::new(line.toks[line.at - 1].1, "resumed and unfinished at once"));
        }
        Ok(Step::Resumed { line: number, thread, expect })
    }

    fn call(&mut self, number: usize, text: &str, from: usize, thread: usize) -> Result<Call, Bad> {
        let call = self.try_call(number, text, from, thread);
        if call.is_ok() {
            self.unclear.remove(&thread);
        } else {
            self.unclear.insert(thread);
            self.last.remove(&thread);
        }
        call
    }

    fn try_call(&mut self, number: usize, text: &str, from: usize, thread: usize) -> Result<Call, Bad> {
        let threads = self.scenario.threads.clone();
        let mut line = Line::new(text, from, &threads)?;
        let op = line.call()?;
        let mut child = None;
        if op == Op::Fork {
            let usage = |b: Bad| Bad { usage: Some("fork() as NAME = NAME"), ..b };
            if !line.eat(&Tok::Word("as")) {
                return Err(usage(
                    Bad::new(line.here(), "the child has no name").note("for instance `fork() as child`".to_owned()),
                ));
            }
            let span = line.here();
            let word = line.word("a name for the child").map_err(usage)?;
            child = Some(self.scenario.threads.len());
            new_thread(&mut self.scenario.threads, word, span)?;
        }
        let injected = line.injected()?;
        let expect = line.expectation(&op, child.map(|c| self.scenario.threads[c].as_str()))?;
        if let Some(last) = self.last.get(&thread)
            && last.state == Progress::Unfinished
        {
            let name = &self.scenario.threads[thread];
            return Err(Bad::new(line.toks[0].1, format!("{name} is still in the unfinished operation of line {}", last.line))
                .note(format!("`{name}: <... resumed>` must come first")));
        }
        let state = match &expect {
            Expect::Any => Progress::Unknown,
            Expect::Blocked => Progress::Unfinished,
            Expect::Is(_) => Progress::Over,
        };
        self.last.insert(thread, Last { line: number, op, child, state });
        Ok(Call { line: number, thread, op, child, injected, expect })
    }

    fn race_item(&mut self, number: usize, text: &str, start: usize) -> Result<(), Bad> {
        let Some((word, rest)) = prefix(text, start) else {
            return Err(Bad::new(Span { at: start, len: text.len() - start }, "who does this?")
                .note("each line of a race begins with a thread: `main: ...`".to_owned()));
        };
        let Some(thread) = self.scenario.threads.iter().position(|t| t == word) else {
            let note = meant(word, self.scenario.threads.iter().map(String::as_str))
                .unwrap_or_else(|| format!("the threads are {}", self.scenario.threads.join(", ")));
            return Err(Bad::new(Span { at: start, len: word.len() }, format!("there is no thread `{word}`")).note(note));
        };
        let words = lex::words(text, rest);
        let item = if words.first().is_some_and(|w| w.0 == "until") {
            RaceItem::Until { line: number, thread, stop: until(text, number, &words)? }
        } else if text[rest..].trim_start().starts_with("<...") {
            let at = text.len() - text[rest..].trim_start().len();
            return Err(Bad::new(Span { at, len: text.len() - at }, "resumed inside of a race")
                .note("say it after the race; `until end` runs a thread to its end".to_owned()));
        } else {
            RaceItem::Start(self.call(number, text, rest, thread)?)
        };
        if let Some(Step::Race { items, .. }) = self.scenario.steps.last_mut() {
            items.push(item);
        }
        Ok(())
    }

    fn claim(&mut self, number: usize, text: &str, start: usize) -> Result<(), Bad> {
        let words = lex::words(text, start);
        let taken: Vec<Revision> = self.scenario.claims.iter().flat_map(|c| c.revisions.clone()).collect();
        let mut revisions: Vec<Revision> = Vec::new();
        let (mut others, mut verdict) = (false, None);
        let mut at = 0;
        while let Some(&(word, span)) = words.get(at) {
            at += 1;
            if word == "holds" || word == "breaks" {
                verdict = Some((word, span));
                break;
            }
            if word == "others" {
                if self.others || others {
                    return Err(Bad::new(span, "`others` is claimed twice"));
                }
                others = true;
                continue;
            }
            for revision in revision_or_range(word, span)? {
                if taken.contains(&revision) || revisions.contains(&revision) {
                    let message = match revision.name() == word || word.contains("..") {
                        true => format!("{revision} is claimed twice"),
                        false => format!("{revision} is claimed twice ({word} is the same)"),
                    };
                    return Err(Bad::new(span, message));
                }
                if self.others {
                    return Err(Bad::new(span, format!("`others` has claimed {revision} already"))
                        .note("the line of `others` comes last".to_owned()));
                }
                revisions.push(revision);
            }
        }
        let Some((verb, span)) = verdict else {
            let Span { at, len } = words[words.len() - 1].1;
            return Err(Bad::new(Span { at: at + len, len: 1 }, "what is claimed?")
                .note("`holds`, or `breaks` and names of rules".to_owned()));
        };
        if at == 1 {
            return Err(
                Bad::new(span, "of whom is it claimed?").note("revisions, ranges of them, or `others`, come first".to_owned())
            );
        }
        let rules: Vec<Word> = words[at..]
            .iter()
            .map(|&(word, span)| Word { text: word.to_owned(), line: number, column: text[..span.at].chars().count() + 1 })
            .collect();
        let verdict = match (verb, rules.is_empty()) {
            ("holds", true) => Verdict::Holds,
            ("holds", false) => return Err(Bad::new(words[at].1, "`holds` is followed by nothing")),
            (_, true) => return Err(Bad::new(span, "`breaks` needs the name of a rule")),
            (_, false) => Verdict::Breaks(rules),
        };
        if others {
            self.others = true;
            revisions.extend(Revision::ALL.iter().filter(|r| !taken.contains(r)));
        }
        revisions.sort();
        revisions.dedup();
        self.scenario.claims.push(Claim { line: number, revisions, others, verdict });
        Ok(())
    }

    fn finish(mut self, lines: &[&str]) -> Result<Scenario, Errors> {
        let path = self.scenario.path.clone();
        let mut add = |line: usize, message: &str, note: &str| {
            let text = lines[line - 1];
            let len = text.find(':').map_or(text.len(), |i| i + 1);
            self.errors.push(Bad::new(Span { at: 0, len }, message).note(note.to_owned()).within(&path, line, text));
        };
        for step in &self.scenario.steps {
            if let Step::Race { line, items } = step
                && items.is_empty()
                && !self.filled.contains(line)
            {
                add(*line, "the race is empty", "its lines are indented");
            }
        }
        if let Some(&line) = self.seen.get("claims")
            && !self.filled.contains(&line)
        {
            add(line, "no claim follows", "for instance `  others holds`; claims are indented");
        }
        if !self.seen.contains_key("question") && self.errors.is_empty() {
            let note = "a scenario begins with `question: ...?`".to_owned();
            self.errors.push(whole(&path, "the scenario has no `question:`".to_owned(), Some(note)));
        }
        if self.scenario.steps.is_empty() && self.errors.is_empty() {
            let note = "after the headings comes one operation a line".to_owned();
            self.errors.push(whole(&path, "the scenario does nothing".to_owned(), Some(note)));
        }
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|e| (e.line, e.column));
            return Err(Errors(self.errors));
        }
        Ok(self.scenario)
    }
}

/// `NAME:` at byte `from`; gives the name and where the rest begins.
fn prefix(text: &str, from: usize) -> Option<(&str, usize)> {
    let rest = &text[from..];
    let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))?;
    (len > 0 && rest[len..].starts_with(':')).then(|| (&rest[..len], from + len + 1))
}

fn nothing_more(text: &str, from: usize, what: &str) -> Result<(), Bad> {
    match lex::words(text, from).first() {
        Some(&(_, span)) => {
            Err(Bad::new(Span { at: span.at, len: text.len() - span.at }, format!("{what} stand in lines of their own"))
                .note("put it into the next line and indent it".to_owned()))
        }
        None => Ok(()),
    }
}

fn new_thread(threads: &mut Vec<String>, word: &str, span: Span) -> Result<(), Bad> {
    let legal =
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !legal {
        return Err(Bad::new(span, format!("`{word}` cannot name a thread")).note("letters, digits and _ can".to_owned()));
    }
    if HEADINGS.contains(&word) {
        return Err(Bad::new(span, format!("`{word}` cannot name a thread")).note("it begins a heading".to_owned()));
    }
    if look::WORDS.contains(&word) {
        return Err(Bad::new(span, format!("`{word}` cannot name a thread")).note("it is something to look at".to_owned()));
    }
    if threads.iter().any(|t| t == word) {
        return Err(Bad::new(span, format!("there is a thread `{word}` already")));
    }
    if threads.len() == MAX_THREADS {
        return Err(Bad::new(span, format!("more than {MAX_THREADS} threads")));
    }
    threads.push(word.to_owned());
    Ok(())
}

fn setting(machine: &mut MachineSpec, word: &str, span: Span) -> Result<(), Bad> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    if !SETTINGS.contains(&key) {
        let note = meant(key, SETTINGS).unwrap_or_else(|| format!("there are {}", SETTINGS.join(", ")));
        return Err(Bad::new(Span { at: span.at, len: key.len() }, format!("the machine has no setting `{key}`")).note(note));
    }
    if value.is_empty() {
        return Err(Bad::new(span, format!("`{key}` has no value")).note(format!("write {key}=... without spaces")));
    }
    let span = Span { at: span.at + key.len() + 1, len: value.len() };
    let switch = match key {
        "soft-dirty" => Some(&mut machine.soft_dirty),
        "memory-failure" => Some(&mut machine.memory_failure),
        _ => None,
    };
    if let Some(switch) = switch {
        *switch = match value {
            "on" => true,
            "off" => false,
            _ => return Err(Bad::new(span, format!("{key} is `on` or `off`"))),
        };
        return Ok(());
    }
    let n = lex::number(value, span)?;
    let small = |what: &str| match u16::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => Err(Bad::new(span, format!("{n} {what} are too many")).note(format!("at most {}", u16::MAX))),
    };
    match key {
        "swap" => machine.swap = small("swap slots")?,
        "frames" => machine.frames = small("frames")?,
        "commit-limit" => machine.commit_limit = Some(i64::try_from(n).map_err(|_| Bad::new(span, "the limit is too large"))?),
        _ => machine.fault_around = n,
    }
    Ok(())
}

fn until(text: &str, number: usize, words: &[(&str, Span)]) -> Result<Stop, Bad> {
    let Span { at, len } = words[0].1;
    let Some(&(word, span)) = words.get(1) else {
        return Err(Bad::new(Span { at: at + len, len: 1 }, "until when?")
            .note("`end`, `blocked`, `step N`, or a kernel function".to_owned()));
    };
    let extra = |n: usize| match words.get(n) {
        Some(&(more, span)) => Err(Bad::new(span, format!("`{more}` is too much here"))),
        None => Ok(()),
    };
    match word {
        "end" => return extra(2).map(|()| Stop::End),
        "blocked" => return extra(2).map(|()| Stop::Blocked),
        "step" => {
            let Some(&(count, span)) = words.get(2) else {
                return Err(
                    Bad::new(Span { at: span.at + span.len, len: 1 }, "until which step?").note("`until step 3`".to_owned())
                );
            };
            return match count.parse() {
                Ok(n) if n > 0 => extra(3).map(|()| Stop::Steps(n)),
                _ => Err(Bad::new(span, format!("`{count}` is not a number of steps")).note("1 to 65535".to_owned())),
            };
        }
        _ => {}
    }
    if !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || word.as_bytes()[0].is_ascii_digit() {
        return Err(Bad::new(span, format!("`{word}` is not the name of a kernel function")));
    }
    let name = Word { text: word.to_owned(), line: number, column: text[..span.at].chars().count() + 1 };
    let before = match words.get(2) {
        None => None,
        Some(&("before", span)) => {
            let all = TouchKind::ALL.iter().map(|k| k.word());
            let Some(&(what, span)) = words.get(3) else {
                return Err(
                    Bad::new(Span { at: span.at + span.len, len: 1 }, "before what?").note(all.collect::<Vec<_>>().join(" "))
                );
            };
            match TouchKind::from_word(what) {
                Some(kind) => Some(kind),
                None => {
                    let note = meant(what, all.clone()).unwrap_or_else(|| all.collect::<Vec<_>>().join(" "));
                    return Err(Bad::new(span, format!("`{what}` is not a kind of step")).note(note));
                }
            }
        }
        Some(&(more, span)) => {
            return Err(
                Bad::new(span, format!("`{more}` is too much here")).note("`before WHAT` may follow the function".to_owned())
            );
        }
    };
    extra(4)?;
    Ok(Stop::Func { name, before })
}

fn revision_or_range(word: &str, span: Span) -> Result<Vec<Revision>, Bad> {
    let one = |name: &str, at: usize| match Revision::from_name(name) {
        Some(revision) => Ok(revision),
        None => {
            let names = Revision::ALL.iter().map(|r| r.name());
            let note = meant(name, names.clone().chain(["others", "holds", "breaks"]))
                .unwrap_or_else(|| format!("there are {}", names.collect::<Vec<_>>().join(" ")));
            Err(Bad::new(Span { at, len: name.len().max(1) }, format!("unknown revision `{name}`")).note(note))
        }
    };
    let Some((first, last)) = word.split_once("..") else {
        return Ok(vec![one(word, span.at)?]);
    };
    let from = one(first, span.at)?;
    let to = one(last, span.at + first.len() + 2)?;
    let place = |r| Revision::ALL.iter().position(|&a| a == r).unwrap_or(0);
    if place(from) > place(to) {
        return Err(Bad::new(span, format!("{from} is newer than {to}")).note(format!("write `{to}..{from}`")));
    }
    Ok(Revision::ALL[place(from)..=place(to)].to_vec())
}
