// SPDX-License-Identifier: GPL-2.0-only
//! The control flow of a run: an indented call trace, or two columns in the manner of kernel commit messages where two threads
//! run against each other.

use crate::event::{Event, Record};
use crate::kernel::{PteVal, SlotVal, TaskId};
use crate::mm::locking::{LockId, LockKind, LockMode};
use crate::replay::Replay;
use std::fmt::Write;

/// Width of the left column.
const COLUMN: usize = 64;

/// Render a run's trace. Empty if it was not recorded.
pub fn render(run: &Replay) -> String {
    let mut out = String::new();
    let mut depth: Vec<usize> = vec![0; run.task_names.len().max(1)];
    let two = has_company(&run.trace);
    let name =
        |task: TaskId| run.task_names.get(task.number() as usize).cloned().unwrap_or_else(|| format!("task {}", task.number()));
    if two {
        let mut seen: Vec<TaskId> = Vec::new();
        for r in &run.trace {
            if r.task != TaskId::DANGLING && !seen.contains(&r.task) {
                seen.push(r.task);
            }
        }
        seen.sort();
        let heads: Vec<String> = seen.iter().map(|&t| format!("{:COLUMN$}", name(t))).collect();
        let _ = writeln!(out, "{}", heads.join("").trim_end());
    }
    for (at, Record { task, event }) in run.trace.iter().enumerate() {
        let slot = if *task == TaskId::DANGLING { 0 } else { task.number() as usize };
        if depth.len() <= slot {
            depth.resize(slot + 1, 0);
        }
        if let Event::Exit { .. } = event {
            depth[slot] = depth[slot].saturating_sub(1);
            // `func() {` that turned out to be empty was closed at once; else close it on its own line.
            if !leaf(&run.trace, at, *task) {
                line(&mut out, two, slot, depth[slot], "}");
            }
            continue;
        }
        let mut text = describe(event);
        if let Event::Enter { .. } = event {
            text.push_str(if closes_at_once(&run.trace, at, *task) { ";" } else { " {" });
        }
        if let Event::OpBegin(op) = event {
            depth[slot] = 0;
            text = if two { op.clone() } else { format!("{}: {op}", name(*task)) };
            line(&mut out, two, slot, 0, &text);
            depth[slot] = 1;
            continue;
        }
        line(&mut out, two, slot, depth[slot], &text);
        if let Event::Enter { .. } = event {
            depth[slot] += 1;
        }
    }
    out
}

fn line(out: &mut String, two: bool, slot: usize, depth: usize, text: &str) {
    let indent = if two { slot * COLUMN } else { 0 } + depth * 2;
    let _ = writeln!(out, "{:indent$}{}", "", plain(text));
}

/// Does more than one task do something?
fn has_company(trace: &[Record]) -> bool {
    let mut tasks = trace.iter().filter(|r| matches!(r.event, Event::OpBegin(_))).map(|r| r.task);
    let first = tasks.next();
    tasks.any(|t| Some(t) != first)
}

/// Flag words as C writes them: `VmFlags(VM_READ | VM_WRITE)` is `VM_READ|VM_WRITE`.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) =
        rest.find("Flags(").map(|at| at + "Flags(".len()).or_else(|| rest.find("Prot(").map(|at| at + "Prot(".len()))
    {
        let word = rest[..at - 1].rfind(|c: char| !c.is_alphanumeric()).map_or(0, |w| w + 1);
        out.push_str(&rest[..word]);
        rest = &rest[at..];
        let end = rest.find(')').unwrap_or(rest.len());
        out.push_str(&rest[..end].replace(" | ", "|"));
        rest = rest.get(end + 1..).unwrap_or("");
    }
    out + rest
}

fn next_of(trace: &[Record], at: usize, task: TaskId) -> Option<&Event> {
    trace[at + 1..].iter().find(|r| r.task == task).map(|r| &r.event)
}

fn closes_at_once(trace: &[Record], at: usize, task: TaskId) -> bool {
    matches!(next_of(trace, at, task), Some(Event::Exit { .. }))
}

fn leaf(trace: &[Record], at: usize, task: TaskId) -> bool {
    matches!(trace[..at].iter().rev().find(|r| r.task == task).map(|r| &r.event), Some(Event::Enter { .. }))
}

fn describe(event: &Event) -> String {
    match event {
        Event::Enter { func, args } if args.is_empty() => format!("{func}()"),
        Event::Enter { func, args } => format!("{func}({args})"),
        Event::Exit { .. } => String::new(),
        Event::Branch(text) => format!("/* {text} */"),
        Event::Lock(lock, mode) => format!("lock {}", lock_name(*lock, *mode)),
        Event::LockWait(lock, mode) => format!("wait for {}", lock_name(*lock, *mode)),
        Event::Unlock(lock, mode) => format!("unlock {}", lock_name(*lock, *mode)),
        Event::Flag { page, flag, set } => {
            let names: Vec<&str> = flag.iter_names().map(|(n, _)| n).collect();
            format!("{page}: {} {}", if *set { "set" } else { "clear" }, names.join("|"))
        }
        Event::Ref { page, delta, now } => format!("{page}: refcount {delta:+} = {now}"),
        Event::Map { page, delta, now } => format!("{page}: mapcount {delta:+} = {now}"),
        Event::Pte { addr, old, new, .. } => format!("pte {addr:#x}: {} -> {}", pte(*old), pte(*new)),
        Event::Rss { counter, delta, .. } => format!("{counter:?} {delta:+}"),
        Event::Cache { inode, index, old, new } => format!("{inode} slot {index}: {} -> {}", slot(*old), slot(*new)),
        Event::Acct { what, delta, now } => format!("{what} {delta:+} = {now}"),
        Event::Size { inode, size } => format!("{inode} i_size = {size}"),
        Event::Queue { ctx, what } => format!("{ctx}: {what}"),
        Event::Sleep => "sleep".to_string(),
        Event::Wake(task) => format!("wake task {}", task.number()),
        Event::Vma { vma, what } => format!("{vma}: {what}"),
        Event::Choice { what, taken, of } => format!("/* {what} is undefined: taken as {taken} of 0..{of} */"),
        Event::Fail(site) => format!("/* {site} is made to fail */"),
        Event::Finding(symptom) => format!("*** {symptom:?} ***"),
        Event::OpBegin(op) => op.clone(),
        Event::OpEnd(text) => format!("= {text}"),
    }
}

fn lock_name(lock: LockId, mode: LockMode) -> String {
    let how = if mode == LockMode::Read { " (read)" } else { "" };
    match lock.kind() {
        LockKind::Inode(i) => format!("{i} i_rwsem{how}"),
        LockKind::Mmap(m) => format!("{m} mmap_lock{how}"),
        LockKind::Page(p) => format!("{p}"),
        LockKind::ShmemSwaplist => "shmem_swaplist_mutex".to_string(),
        LockKind::IMmap(i) => format!("{i} i_mmap_rwsem{how}"),
        LockKind::AnonVma(a) => format!("{a}{how}"),
        LockKind::Ptl(t) => format!("ptl of {t}"),
        LockKind::Info(i) => format!("{i} info->lock"),
        LockKind::ILock(i) => format!("{i} i_lock"),
        LockKind::FaultPending(c) => format!("{c} fault_pending_wqh.lock"),
    }
}

/// A PTE in a few letters: w(ritable) d(irty) y(oung) s(oft-dirty) u(ffd-wp).
pub fn pte(pte: PteVal) -> String {
    let letters = |flags: crate::flags::PteFlags| {
        use crate::flags::*;
        [
            (_PAGE_RW, 'w'),
            (_PAGE_DIRTY, 'd'),
            (_PAGE_ACCESSED, 'y'),
            (_PAGE_SOFT_DIRTY, 's'),
            (_PAGE_UFFD_WP, 'u'),
            (_PAGE_PROTNONE, 'n'),
        ]
        .iter()
        .map(|&(f, c)| if flags.contains(f) { c } else { '-' })
        .collect::<String>()
    };
    match pte {
        PteVal::None => "none".to_string(),
        PteVal::Present { page, flags } => format!("{page} {}", letters(flags)),
        PteVal::Swap { entry, flags } => format!("swap {} {}", entry.0, letters(flags)),
        PteVal::Marker(marker) => format!("marker {}", marker.iter_names().map(|(n, _)| n).collect::<Vec<_>>().join("|")),
    }
}

fn slot(slot: Option<SlotVal>) -> String {
    match slot {
        None => "empty".to_string(),
        Some(SlotVal::Page(page)) => page.to_string(),
        Some(SlotVal::Swap(entry)) => format!("swap {}", entry.0),
    }
}
