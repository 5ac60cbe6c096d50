// SPDX-License-Identifier: GPL-2.0-only
//! Answers as they are printed: the whole table as a document, some of it, or one page of one mapping in detail; for a
//! terminal, as Markdown, as HTML.

use super::answer::{Answer, ask};
use super::confirm::Confirmed;
use super::table::{Answered, Answers, Standing, Table, answers, label, name_of};
use super::{Cell, KERNELS, Mapping, Operation, Protection, Query, Registration, State, kernel_name, setup};
use crate::patch::Revision;
use crate::replay::Verdicts;
use crate::report::fold;
use crate::scenario::print;
use comfy_table::{ContentArrangement, presets};
use std::fmt::Write;

super::words! {
    /// How a document is printed.
    Format, "format":
    Text = "text", "for a terminal";
    Markdown = "markdown" also "md", "Markdown with tables";
    Html = "html", "a page of its own";
}

/// A part of a document.
enum Block {
    /// A heading of this level.
    Heading(usize, String),
    /// A paragraph; `code` in backquotes.
    Text(String),
    /// One line each.
    Items(Vec<String>),
    /// A table.
    Table(Table),
}

/// What the marks in the tables mean.
fn marks(confirmed: &Confirmed) -> String {
    let kernels: Vec<&str> = KERNELS.iter().filter(|&&r| !confirmed.kernels_of(r).is_empty()).map(|&r| kernel_name(r)).collect();
    format!(
        "✓: recorded on every kernel of the cell of which there is a recording ({}), with the same answer, message and page. \
         ✓3/7: so many of the answers that stand together here are. No mark: by the model alone. **Bold**: a real kernel \
         answered this, and the model what stands before it; the kernel is right.",
        kernels.join(", ")
    )
}

/// How to read it.
fn legend(confirmed: &Confirmed) -> Vec<String> {
    let items = [
        "`EEXIST`: -1 with this errno; the out field of COPY, ZEROPAGE, CONTINUE and POISON is the negative errno too, unless \
         the kernel does not get that far. Nothing changes.",
        "`0, cache page ro wp`: success, and what the page table holds afterwards: a page of the page cache, an anonymous page \
         (a private copy) or the zero page, read-only or writable (ro, rw), write-protected by userfaultfd (wp); a PTE marker; \
         a swap entry; nothing. `ok, ...`: the same of an access.",
        "`message MINOR WRITE`: the thread sleeps in its access, and the monitor reads a page fault with these flags (MISSING \
         stands for neither WP nor MINOR). What is mapped meanwhile stands behind it if it changed.",
        "`SIGBUS`, `SIGSEGV_ACCERR`: the access raises the signal. SIGBUS has BUS_ADRERR; `SIGBUS_MCEERR_AR` has that code, or \
         BUS_ADRERR on a kernel without CONFIG_MEMORY_FAILURE.",
        "`5.14-6.1: EINVAL; 6.12-6.18: 0, ...`: kernels that answer differently. Without a range all answer the same, as far as the \
         page can come to that state there.",
        "`-`: there is no such page: it needs a registration that is not there, or that REGISTER refuses.",
    ];
    items.iter().map(|i| (*i).to_owned()).chain([marks(confirmed)]).collect()
}

/// Everything.
pub fn whole(query: &Query, format: Format) -> String {
    let confirmed = Confirmed::shipped();
    let all = answers(query, confirmed);
    let sigbus = (!query.sigbus).then(|| answers(&Query { sigbus: true, ..query.clone() }, confirmed));
    let mut blocks = vec![
        Block::Heading(1, "What the userfaultfd ioctls answer".to_owned()),
        Block::Text(
            "One page is looked at: how it is mapped, how the mapping is registered, what is there, and what an operation on it \
             answers. Everything is computed by running the model; `faultline ask OPERATION --mapping M --state S` says more \
             about one page, and `--scenario` shows what was run."
                .to_owned(),
        ),
        Block::Heading(2, "How to read it".to_owned()),
        Block::Items(legend(confirmed)),
        Block::Table(words("mapping", &query.mappings, |m| (m.word(), m.about()))),
        Block::Table(words("page, when the operation comes", &query.states, |s| (s.word(), s.about()))),
        Block::Heading(2, "Contents".to_owned()),
    ];
    let sections: Vec<(&Answers, Operation)> = query
        .operations
        .iter()
        .map(|&o| (&all, o))
        .chain(sigbus.iter().flat_map(|s| query.operations.iter().filter(|o| o.is_access()).map(move |&o| (s, o))))
        .collect();
    let titles: Vec<String> = sections.iter().map(|(answers, o)| title(*o, is_sigbus(answers))).collect();
    let (first, last) = ("UFFDIO_REGISTER", ["What PROT_READ changes", "How it is confirmed"]);
    let contents = [first].into_iter().chain(titles.iter().map(String::as_str)).chain(last);
    blocks.push(Block::Items(contents.map(|t| format!("[{t}](#{})", anchor(t))).collect()));
    blocks.push(Block::Heading(2, first.to_owned()));
    blocks.push(Block::Text("What it answers to each mode on each mapping.".to_owned()));
    blocks.push(Block::Table(register(query)));
    for ((answers, operation), title) in sections.into_iter().zip(titles) {
        blocks.push(Block::Heading(2, title));
        tables(answers, operation, query, 3, &mut blocks);
    }
    blocks.push(Block::Heading(2, last[0].to_owned()));
    read_only(&all, query, confirmed, &mut blocks);
    blocks.push(Block::Heading(2, last[1].to_owned()));
    let parts: Vec<&Answers> = std::iter::once(&all).chain(sigbus.as_ref()).collect();
    confirmation(&parts, confirmed, &mut blocks);
    render(&blocks, format)
}

/// Words and what they mean.
fn words<T: Copy>(what: &str, all: &[T], one: impl Fn(T) -> (&'static str, &'static str)) -> Table {
    let row = |word: &T| {
        let (word, about) = one(*word);
        vec![word.to_owned(), about.to_owned()]
    };
    Table { head: vec![what.to_owned(), String::new()], rows: all.iter().map(row).collect(), notes: Vec::new() }
}

fn is_sigbus(answers: &Answers) -> bool {
    answers.cells.first().is_some_and(|a| a.cell.sigbus)
}

/// `UFFDIO_COPY with UFFDIO_COPY_MODE_WP`.
fn title(operation: Operation, sigbus: bool) -> String {
    let about = operation.about();
    let about = if operation.is_access() { format!("A first {}", operation.word()) } else { about.to_owned() };
    if sigbus { format!("{about}, with UFFD_FEATURE_SIGBUS") } else { about }
}

/// The tables of an operation, with a heading for each mapping.
fn tables(answers: &Answers, operation: Operation, query: &Query, level: usize, blocks: &mut Vec<Block>) {
    for &mapping in &query.mappings {
        let Some(table) = answers.table(operation, mapping) else { continue };
        let sigbus = if is_sigbus(answers) { " with UFFD_FEATURE_SIGBUS" } else { "" };
        blocks.push(Block::Heading(level, format!("{operation}{sigbus}, {mapping} mapping")));
        if !table.notes.is_empty() {
            blocks.push(Block::Text(table.notes.join(" ")));
        }
        blocks.push(Block::Table(table));
    }
}

/// What UFFDIO_REGISTER answers.
fn register(query: &Query) -> Table {
    let mut table = Table { head: vec!["mode".to_owned()], ..Table::default() };
    table.head.extend(query.mappings.iter().map(|m| m.word().to_owned()));
    for &registration in query.registrations.iter().filter(|r| **r != Registration::NONE) {
        let mut row = vec![registration.word().to_uppercase()];
        for &mapping in &query.mappings {
            let cell = Cell {
                operation: Operation::Load,
                sigbus: false,
                mapping,
                protection: Protection::ReadWrite,
                registration,
                state: State::Hole,
            };
            let mut kinds: Vec<(String, Vec<usize>)> = Vec::new();
            for (at, &revision) in query.revisions.iter().enumerate() {
                let text = match ask(&cell, revision).answer {
                    Answer::NoSuchState { answer, .. } => answer.trim_start_matches("-1 ").to_owned(),
                    Answer::Made(_) => "0".to_owned(),
                };
                match kinds.iter_mut().find(|(kind, _)| *kind == text) {
                    Some((_, places)) => places.push(at),
                    None => kinds.push((text, vec![at])),
                }
            }
            let ranges = Answers { revisions: query.revisions.clone(), cells: Vec::new() };
            row.push(match &kinds[..] {
                [(text, _)] => text.clone(),
                many => many.iter().map(|(text, at)| format!("{}: {text}", ranges.ranges(at))).collect::<Vec<_>>().join("; "),
            });
        }
        table.rows.push(row);
    }
    table
}

/// Where mprotect(PROT_READ) before the operation does more than to let it map read-only.
fn read_only(all: &Answers, query: &Query, confirmed: &Confirmed, blocks: &mut Vec<Block>) {
    let read_only = answers(&Query { protection: Protection::ReadOnly, ..query.clone() }, confirmed);
    let mut table = Table { head: ["operation", "mapping", "page", "answer"].map(str::to_owned).to_vec(), ..Table::default() };
    for &operation in &query.operations {
        let mut kinds: Vec<(String, Vec<Mapping>, Vec<State>)> = Vec::new();
        let pairs = all.cells.iter().zip(&read_only.cells).filter(|(a, _)| a.cell.operation == operation);
        for (writable, protected) in pairs {
            let differs: Vec<usize> = (0..all.revisions.len())
                .filter(|&at| writable.short(at).map(|s| s.replace(" rw", " ro")) != protected.short(at))
                .collect();
            for runs in differs.chunk_by(|a, b| protected.short(*a) == protected.short(*b)) {
                let exist = (0..all.revisions.len()).filter(|&at| protected.short(at).is_some()).count();
                let kernels = if runs.len() == exist { String::new() } else { format!("{}: ", all.ranges(runs)) };
                let text = protected.short(runs[0]).map_or("-".to_owned(), |short| format!("{kernels}{short}"));
                let Cell { mapping, state, .. } = writable.cell;
                match kinds.iter_mut().find(|(kind, ..)| *kind == text) {
                    Some((_, mappings, states)) => {
                        mappings.push(mapping);
                        states.push(state);
                    }
                    None => kinds.push((text, vec![mapping], vec![state])),
                }
            }
        }
        for (text, mut mappings, mut states) in kinds {
            mappings.sort();
            mappings.dedup();
            states.sort();
            states.dedup();
            let states = if states.len() == query.states.len() {
                "every".to_owned()
            } else {
                states.iter().map(|s| s.word()).collect::<Vec<_>>().join(", ")
            };
            let mappings = mappings.iter().map(|m| m.word()).collect::<Vec<_>>().join(", ");
            table.rows.push(vec![operation.word().to_owned(), mappings, states, text]);
        }
    }
    let differ = if table.rows.is_empty() { "." } else { ", and:" };
    blocks.push(Block::Text(format!("What is mapped is read-only then{differ}")));
    if !table.rows.is_empty() {
        blocks.push(Block::Table(table));
    }
}

/// How many cells are confirmed by which kernel, and which differ.
fn confirmation(parts: &[&Answers], confirmed: &Confirmed, blocks: &mut Vec<Block>) {
    let Some(first) = parts.first() else { return };
    let mut table = Table {
        head: ["kernel", "cells", "recorded, the same", "recorded, another answer", "by the model alone", "recording"]
            .map(str::to_owned)
            .to_vec(),
        ..Table::default()
    };
    for (at, &revision) in first.revisions.iter().enumerate() {
        let counts: Vec<(usize, usize)> = parts.iter().map(|a| a.counts(at)).collect();
        let (cells, recorded): (usize, usize) = counts.iter().fold((0, 0), |(c, r), (a, b)| (c + a, r + b));
        let differ: usize = parts.iter().map(|a| a.differences().filter(|(_, i)| *i == at).count()).sum();
        let kernels: Vec<String> = confirmed
            .kernels_of(revision)
            .into_iter()
            .map(|k| {
                let without = if confirmed.lacks_memory_failure(k) { " (without CONFIG_MEMORY_FAILURE)" } else { "" };
                format!("{}{without}", confirmed.kernels[k])
            })
            .collect();
        let kernel = if kernels.is_empty() { "none".to_owned() } else { kernels.join(", ") };
        table.rows.push(vec![
            kernel_name(revision).to_owned(),
            cells.to_string(),
            recorded.to_string(),
            differ.to_string(),
            (cells - recorded - differ).to_string(),
            kernel,
        ]);
    }
    blocks.push(Block::Text(
        "A recording confirms a cell if it holds the same calls with the same arguments, and the kernel gave the same answer, the \
         same message, and the same page in pagemap and kpageflags with the same first byte. Whether a page is mapped writable \
         cannot be seen there: that is the model's word, as is everything about kernels without a recording."
            .to_owned(),
    ));
    blocks.push(Block::Table(table));
    let mut kinds: Vec<(String, Vec<String>)> = Vec::new();
    for (answered, at) in parts.iter().flat_map(|a| a.differences()) {
        let Cell { operation, mapping, registration, state, sigbus, .. } = answered.cell;
        let sigbus = if sigbus { " sigbus" } else { "" };
        let Some((_, seen)) = &answered.recorded[at] else { continue };
        let what = format!("{operation}{sigbus}, {mapping}, {state}, {}", kernel_name(first.revisions[at]));
        let text = format!("{what}: {seen}; the model: {}", answered.answers[at].visible());
        match kinds.iter_mut().find(|(kind, _)| *kind == text) {
            Some((_, registrations)) => registrations.push(registration.word()),
            None => kinds.push((text, vec![registration.word()])),
        }
    }
    if kinds.is_empty() {
        blocks.push(Block::Text("Nowhere do a recorded kernel and the model differ.".to_owned()));
    } else {
        blocks.push(Block::Text("Where kernel and model differ:".to_owned()));
        blocks.push(Block::Items(kinds.into_iter().map(|(text, r)| format!("{text} ({})", r.join(", "))).collect()));
    }
}

/// What a query is answered: in detail if it is about one page of one mapping, else as tables.
pub fn some(query: &Query, format: Format) -> String {
    let confirmed = Confirmed::shipped();
    let all = answers(query, confirmed);
    if let ([_], [mapping], [state]) = (&query.operations[..], &query.mappings[..], &query.states[..])
        && state.belongs(*mapping)
        && format == Format::Text
    {
        return detail(&all, confirmed);
    }
    let mut blocks = Vec::new();
    for &operation in &query.operations {
        tables(&all, operation, query, 1, &mut blocks);
    }
    if blocks.is_empty() {
        return "There are no such pages.\n".to_owned();
    }
    blocks.push(Block::Text(marks(confirmed)));
    render(&blocks, format)
}

/// One page of one mapping: each answer there is, with those that get it.
fn detail(all: &Answers, confirmed: &Confirmed) -> String {
    let Some(first) = all.cells.first() else { return String::new() };
    let Cell { operation, mapping, protection, state, sigbus, .. } = first.cell;
    let mut out = format!("{}\n", title(operation, sigbus));
    out += &fold(&format!("mapping: {mapping} ({}), {}", mapping.about(), protection.about()), "  ", 110);
    out += &fold(&format!("page:    {state}: {}", state.about()), "  ", 110);
    // Of a page that does not come to its state, only which call failed and how is told.
    let alike = |a: &Answer, b: &Answer| match (a, b) {
        (Answer::NoSuchState { call: a, answer: x }, Answer::NoSuchState { call: b, answer: y }) => {
            name_of(a) == name_of(b) && x == y
        }
        (a, b) => a == b,
    };
    let mut kinds: Vec<(&Answer, Vec<(&Answered, usize)>)> = Vec::new();
    for (answered, at) in all.cells.iter().flat_map(|a| (0..all.revisions.len()).map(move |at| (a, at))) {
        match kinds.iter_mut().find(|(answer, _)| alike(answer, &answered.answers[at])) {
            Some((_, members)) => members.push((answered, at)),
            None => kinds.push((&answered.answers[at], vec![(answered, at)])),
        }
    }
    // What can happen first, then what cannot.
    kinds.sort_by_key(|(answer, _)| matches!(answer, Answer::NoSuchState { .. }));
    for (answer, members) in kinds {
        let _ = writeln!(out, "\n{}", who(&members, all));
        let mut line = |name: &str, text: &str| {
            let folded = fold(text, "            ", 110);
            let _ = write!(out, "  {name:10}{}", folded.strip_prefix("            ").unwrap_or(&folded));
        };
        match answer {
            Answer::NoSuchState { call, answer } => {
                line("none", &format!("there is no such page: {} answers {answer}", name_of(call)));
            }
            Answer::Made(made) => {
                let answer = if made.blocked() { "none yet: the thread sleeps in its access" } else { &made.result };
                line("answer", answer);
                line("message", &made.event().map_or("none".to_owned(), |e| format!("page fault, {}", e.replace(' ', ", "))));
                if made.after == made.before {
                    line("mapped", &format!("as before: {}", made.after));
                } else {
                    line("mapped", &format!("{} (before: {})", made.after, made.before));
                }
                let (answered, at) = members[0];
                let scenario = ask(&answered.cell, all.revisions[at]).scenario;
                let rules = Verdicts::of(&scenario, all.revisions[at], false).rules();
                if !rules.is_empty() {
                    line("breaks", &rules.join(", "));
                }
            }
        }
        let told = standing(&members, all, confirmed);
        if told.is_empty() && matches!(answer, Answer::Made(_)) {
            line("confirmed", "by the model alone");
        }
        told.iter().for_each(|text| line("confirmed", text));
    }
    out += "\n--scenario prints what was run, to be pasted or given to `faultline replay`.\n";
    out
}

/// `registered, on 6.1-6.18; WP, on 5.19`.
fn who(members: &[(&Answered, usize)], all: &Answers) -> String {
    let asked: Vec<Registration> = all.cells.iter().map(|a| a.cell.registration).collect();
    let mut by_registrations: Vec<(Vec<Registration>, Vec<usize>)> = Vec::new();
    for at in 0..all.revisions.len() {
        let here: Vec<Registration> = members.iter().filter(|(_, i)| *i == at).map(|(a, _)| a.cell.registration).collect();
        match by_registrations.iter_mut().find(|(r, _)| *r == here) {
            Some((_, places)) => places.push(at),
            None if here.is_empty() => {}
            None => by_registrations.push((here, vec![at])),
        }
    }
    let parts = by_registrations.iter().map(|(r, at)| format!("{}, on {}", label(r, &asked), all.ranges(at)));
    parts.collect::<Vec<_>>().join("; ")
}

/// How an answer is confirmed: lines.
fn standing(members: &[(&Answered, usize)], all: &Answers, confirmed: &Confirmed) -> Vec<String> {
    // Which registrations were recorded, and on which kernels.
    let mut recorded: Vec<(String, Vec<&str>)> = Vec::new();
    let mut unlike = Vec::new();
    for at in 0..all.revisions.len() {
        let here: Vec<&Answered> = members.iter().filter(|(_, i)| *i == at).map(|(a, _)| *a).collect();
        for (kernel, name) in confirmed.kernels.iter().enumerate() {
            let by = here.iter().filter_map(|a| match &a.recorded[at] {
                Some((k, seen)) if *k == kernel => Some((a, seen)),
                _ => None,
            });
            let (like, other): (Vec<_>, Vec<_>) = by.partition(|(a, _)| a.standing(at) == Standing::Recorded);
            if !like.is_empty() {
                let words: Vec<String> = like.iter().map(|(a, _)| a.cell.registration.word()).collect();
                let which =
                    if like.len() == here.len() { String::new() } else { format!(" (registration {})", words.join(", ")) };
                match recorded.iter_mut().find(|(w, _)| *w == which) {
                    Some((_, kernels)) => kernels.push(name),
                    None => recorded.push((which, vec![name])),
                }
            }
            for (a, seen) in other {
                unlike.push(format!("NOT by {name} (registration {}), which answered: {seen}", a.cell.registration));
            }
        }
    }
    let mut lines: Vec<String> =
        recorded.iter().map(|(which, kernels)| format!("recorded on {}{which}", kernels.join(", "))).collect();
    lines.extend(unlike);
    lines
}

/// The scenarios of all cells, each with its answers on a revision.
pub fn scenarios(query: &Query) -> String {
    let mut out: Vec<String> = Vec::new();
    for cell in query.cells() {
        for &revision in &query.revisions {
            out.push(scenario(&cell, revision));
        }
    }
    out.join("\n")
}

/// A cell's scenario, with every answer.
pub fn scenario(cell: &Cell, revision: Revision) -> String {
    let asked = ask(cell, revision);
    let text = print::scenario(&asked.scenario);
    let mapped = match &asked.answer {
        Answer::Made(made) => format!("# Mapped at {:#x} afterwards: {}.\n", setup::PAGE, made.after),
        Answer::NoSuchState { .. } => "# The page does not come to that state.\n".to_owned(),
    };
    let how = format!("# Answers of the model of Linux {}: --patch {revision}\n", kernel_name(revision));
    text.replacen('\n', &format!("\n{how}{mapped}"), 1)
}

// ---- printing -----------------------------------------------------------------------------------------------------------

/// As GitHub makes them.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '_' || *c == ' ' || *c == '-').collect::<String>().replace(' ', "-")
}

fn render(blocks: &[Block], format: Format) -> String {
    match format {
        Format::Text => text(blocks),
        Format::Markdown => markdown(blocks),
        Format::Html => html(blocks),
    }
}

/// Links and emphasis, for a terminal.
fn plain(text: &str) -> String {
    let mut out = text.replace("**", "").replace('`', "");
    if let Some((title, _)) = out.strip_prefix('[').and_then(|rest| rest.split_once("](#")) {
        out = title.to_owned();
    }
    out
}

fn text(blocks: &[Block]) -> String {
    let width = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(130).max(40);
    let mut out = String::new();
    for block in blocks {
        if !out.is_empty() {
            out.push('\n');
        }
        match block {
            Block::Heading(level, title) => {
                let under = if *level < 3 { "=" } else { "-" };
                let _ = writeln!(out, "{title}\n{}", under.repeat(title.chars().count()));
            }
            Block::Text(text) => out += &fold(&plain(text), "", width.into()),
            Block::Items(items) => items.iter().for_each(|item| {
                let folded = fold(&plain(item), "  ", width.into());
                out += &folded.replacen("  ", "* ", 1);
            }),
            Block::Table(table) => {
                let mut printed = comfy_table::Table::new();
                printed.load_preset(presets::UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
                printed.set_header(&table.head);
                for row in &table.rows {
                    printed.add_row(row.iter().map(|cell| plain(cell)));
                }
                let lines = printed.to_string();
                lines.lines().for_each(|l| {
                    let _ = writeln!(out, "{}", l.trim_end());
                });
            }
        }
    }
    out
}

fn markdown(blocks: &[Block]) -> String {
    let mut out = String::from(
        "<!-- SPDX-License-Identifier: GPL-2.0-only -->\n<!-- Made by `faultline ask --format markdown`; \
         `UPDATE_EXPECT=1 cargo test --test ask` makes docs/ioctls.md again. -->\n",
    );
    for block in blocks {
        match block {
            Block::Heading(level, title) => {
                let _ = writeln!(out, "\n{} {title}", "#".repeat(*level));
            }
            Block::Text(text) => out += &format!("\n{}", fold(text, "", 120)),
            Block::Items(items) => {
                out.push('\n');
                items.iter().for_each(|item| out += &fold(item, "  ", 120).replacen("  ", "* ", 1));
            }
            Block::Table(table) => {
                let row = |cells: &[String]| {
                    let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
                    format!("| {} |\n", cells.join(" | "))
                };
                out += &format!("\n{}|{}\n", row(&table.head), "---|".repeat(table.head.len()));
                table.rows.iter().for_each(|cells| out += &row(cells));
            }
        }
    }
    out
}

/// Text in HTML, with emphasis, code and links.
fn inline(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if let Some((title, target)) = escaped.strip_prefix('[').and_then(|rest| rest.strip_suffix(')')?.split_once("](")) {
        return format!("<a href=\"{target}\">{title}</a>");
    }
    let paired = |text: String, mark: &str, tag: &str| {
        let parts: Vec<&str> = text.split(mark).collect();
        let tagged = |(i, part): (usize, &&str)| if i % 2 == 1 { format!("<{tag}>{part}</{tag}>") } else { (*part).to_owned() };
        parts.iter().enumerate().map(tagged).collect::<String>()
    };
    paired(paired(escaped, "**", "b"), "`", "code")
}

const STYLE: &str = "body{font:15px/1.4 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #999;padding:.25em .5em;text-align:left;vertical-align:top}\
th{position:sticky;top:0;background:#eee}td:first-child{font-weight:600}b{color:#b00}code{background:#f3f3f3}";

fn html(blocks: &[Block]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<!-- SPDX-License-Identifier: GPL-2.0-only -->\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>What the userfaultfd ioctls answer</title><style>{STYLE}</style></head><body>\n"
    );
    for block in blocks {
        match block {
            Block::Heading(level, title) => {
                let _ = writeln!(out, "<h{level} id=\"{}\">{}</h{level}>", anchor(title), inline(title));
            }
            Block::Text(text) => {
                let _ = writeln!(out, "<p>{}</p>", inline(text));
            }
            Block::Items(items) => {
                let items: String = items.iter().map(|i| format!("<li>{}</li>\n", inline(i))).collect();
                let _ = writeln!(out, "<ul>\n{items}</ul>");
            }
            Block::Table(table) => {
                let row = |tag: &str, cells: &[String]| {
                    let cells: String = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", inline(c))).collect();
                    format!("<tr>{cells}</tr>\n")
                };
                let rows: String = table.rows.iter().map(|r| row("td", r)).collect();
                let _ = write!(out, "<table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody></table>\n", row("th", &table.head));
            }
        }
    }
    out.push_str("</body></html>\n");
    out
}
