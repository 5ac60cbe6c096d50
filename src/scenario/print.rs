// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios, operations and outcomes as text.

use super::ast::*;
use super::names;
use crate::errno::Errno;
use crate::flags::Prot;
use crate::kernel::{CELLS, Cell};
use crate::patch::Revision;
use crate::syscall::{Msg, Op, Out, Outcome, Path, Signal, UserBuf};
use std::fmt::Write;

/// Where the text of a heading is folded.
const WIDTH: usize = 80;
/// How wide the column of a thread is in a race.
const COLUMN: usize = 48;

/// A whole scenario in its normal form. Comments of the original are not kept.
pub fn scenario(s: &Scenario) -> String {
    let mut out = String::from("# SPDX-License-Identifier: GPL-2.0-only\n");
    folded(&mut out, "question: ", &s.question);
    if !s.why.is_empty() {
        folded(&mut out, "why: ", &s.why);
    }
    if !s.finds.is_empty() {
        let _ = writeln!(out, "finding: {}", s.finds.join(" "));
    }
    let machine = machine(&s.machine);
    if !machine.is_empty() {
        let _ = writeln!(out, "machine: {machine}");
    }
    let initial = &s.threads[..s.initial_threads];
    if initial != ["main"] {
        let _ = writeln!(out, "threads: {}", initial.join(" "));
    }
    out.push('\n');
    let mut in_race = false;
    let mut last: Vec<Option<&Call>> = vec![None; s.threads.len()];
    // A child can be named only after its fork.
    let mut known = s.initial_threads;
    for step in &s.steps {
        if std::mem::replace(&mut in_race, matches!(step, Step::Race { .. })) && !in_race {
            out.push('\n');
        }
        match step {
            Step::Op(c) => {
                let prefix = if c.thread == 0 { String::new() } else { format!("{}: ", thread_name(c.thread, &s.threads)) };
                let _ = writeln!(out, "{prefix}{}", call(c, &s.threads, known));
                remember(&mut last, &mut known, c);
            }
            Step::Resumed { thread, expect, .. } => {
                let call = last.get(*thread).copied().flatten();
                let child = call.and_then(|c| c.child).map(|i| thread_name(i, &s.threads));
                let expect = expectation(call.map(|c| &c.op), expect, child.as_deref());
                let _ = writeln!(out, "{}: <... resumed>{expect}", thread_name(*thread, &s.threads));
            }
            Step::Seen(look) => {
                let _ = writeln!(out, "{}", super::look::print(look, &s.threads));
            }
            Step::Race { items, .. } => {
                out.push_str("\nrace:\n");
                // One column a thread, in the order in which they come.
                let mut columns: Vec<usize> = Vec::new();
                for item in items {
                    let (thread, text) = match item {
                        RaceItem::Start(c) => {
                            let text = call(c, &s.threads, known);
                            remember(&mut last, &mut known, c);
                            (c.thread, text)
                        }
                        RaceItem::Until { thread, stop, .. } => (*thread, until(stop)),
                    };
                    if !columns.contains(&thread) {
                        columns.push(thread);
                    }
                    let indent = 4 + COLUMN * columns.iter().position(|&t| t == thread).unwrap_or(0);
                    let _ = writeln!(out, "{:indent$}{}: {text}", "", thread_name(thread, &s.threads));
                }
            }
        }
    }
    if !s.claims.is_empty() {
        out.push_str("\nclaims:\n");
        let who: Vec<String> =
            s.claims.iter().map(|c| if c.others { "others".to_owned() } else { revisions(&c.revisions) }).collect();
        let width = who.iter().map(String::len).max().unwrap_or(0);
        for (claim, who) in s.claims.iter().zip(who) {
            let _ = write!(out, "  {who:width$}  ");
            match &claim.verdict {
                Verdict::Holds => out.push_str("holds\n"),
                Verdict::Breaks(rules) => {
                    out.push_str("breaks");
                    for rule in rules {
                        let _ = write!(out, " {}", rule.text);
                    }
                    out.push('\n');
                }
            }
        }
    }
    out
}

/// An operation as it stands in a scenario. Threads are numbers here, and a fork's child has no name.
pub fn op(op: &Op) -> String {
    op_with(op, &[])
}

/// The text after `= ` for what an operation gave.
pub fn outcome(op: &Op, outcome: &Outcome) -> String {
    result(Some(op), ExpectedRet::Is(outcome.ret), Some(&outcome.out).filter(|&o| *o != Out::None), None)
}

/// The text that follows an operation: ` = result`, ` <unfinished ...>`, or nothing.
pub fn expect(op: &Op, expect: &Expect) -> String {
    expectation(Some(op), expect, None)
}

/// A call with all that belongs to it, without the thread's name.
fn call(c: &Call, threads: &[String], known: usize) -> String {
    let mut out = op_with(&c.op, &threads[..known.min(threads.len())]);
    let child = c.child.map(|i| thread_name(i, threads));
    if let Some(child) = &child {
        let _ = write!(out, " as {child}");
    }
    out.push_str(&injected(&c.injected));
    out.push_str(&expectation(Some(&c.op), &c.expect, child.as_deref()));
    out
}

/// ` (INJECTED: SITE, SITE#2)`, or nothing.
pub fn injected(all: &[Injected]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let one = |i: &Injected| if i.nth == 1 { i.site.clone() } else { format!("{}#{}", i.site, i.nth) };
    format!(" (INJECTED: {})", all.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A resumed line is written as its operation has it.
fn remember<'a>(last: &mut [Option<&'a Call>], known: &mut usize, call: &'a Call) {
    *known += call.child.is_some() as usize;
    if let Some(slot) = last.get_mut(call.thread) {
        *slot = Some(call);
    }
}

/// The text after `NAME: ` for a line of a schedule.
pub fn until(stop: &Stop) -> String {
    match stop {
        Stop::End => "until end".to_owned(),
        Stop::Blocked => "until blocked".to_owned(),
        Stop::Steps(n) => format!("until step {n}"),
        Stop::Func { name, before: None } => format!("until {}", name.text),
        Stop::Func { name, before: Some(kind) } => format!("until {} before {}", name.text, kind.word()),
    }
}

pub(super) fn thread_name(thread: usize, threads: &[String]) -> String {
    threads.get(thread).cloned().unwrap_or_else(|| thread.to_string())
}

fn expectation(op: Option<&Op>, expect: &Expect, child: Option<&str>) -> String {
    match expect {
        Expect::Any => String::new(),
        Expect::Blocked => " <unfinished ...>".to_owned(),
        Expect::Is(e) => format!(" = {}", result(op, e.ret, e.out.as_ref(), child)),
    }
}

/// A heading, folded over indented lines.
fn folded(out: &mut String, heading: &str, text: &str) {
    let mut line = heading.trim_end().to_owned();
    let mut first = true;
    for word in text.split_whitespace() {
        // A line that begins with # would be a comment.
        if !first && line.chars().count() + 1 + word.chars().count() > WIDTH && !word.starts_with('#') {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(heading.len() - 1);
        }
        line.push(' ');
        line.push_str(word);
        first = false;
    }
    out.push_str(&line);
    out.push('\n');
}

fn machine(m: &MachineSpec) -> String {
    let d = MachineSpec::default();
    let mut out = Vec::new();
    if m.swap != d.swap {
        out.push(format!("swap={}", m.swap));
    }
    if m.frames != d.frames {
        out.push(format!("frames={}", m.frames));
    }
    if let Some(limit) = m.commit_limit {
        out.push(format!("commit-limit={limit}"));
    }
    if m.fault_around != d.fault_around {
        out.push(format!("fault-around={}", m.fault_around));
    }
    if m.soft_dirty != d.soft_dirty {
        out.push(format!("soft-dirty={}", if m.soft_dirty { "on" } else { "off" }));
    }
    if m.memory_failure != d.memory_failure {
        out.push(format!("memory-failure={}", if m.memory_failure { "on" } else { "off" }));
    }
    out.join(" ")
}

/// Revisions, with three or more neighbours as a range.
pub fn revisions(revisions: &[Revision]) -> String {
    let place = |r: &Revision| Revision::ALL.iter().position(|a| a == r).unwrap_or(0);
    let mut out = Vec::new();
    let mut rest = revisions;
    while let [first, ..] = rest {
        let run = rest.iter().enumerate().take_while(|&(i, r)| place(r) == place(first) + i).count();
        if run >= 3 {
            out.push(format!("{first}..{}", rest[run - 1]));
            rest = &rest[run..];
        } else {
            out.push(first.to_string());
            rest = &rest[1..];
        }
    }
    out.join(" ")
}

/// A size or an offset: decimal unless it would be long.
fn amount(n: u64) -> String {
    if n < 1 << 20 { n.to_string() } else { format!("{n:#x}") }
}

/// Names of the bits, and what is left over as a number.
fn mask(bits: u64, table: &[(&'static str, u64)]) -> String {
    let mut left = bits;
    let mut out: Vec<String> = Vec::new();
    for &(name, value) in table {
        if value == bits || (value != 0 && left & value == value) {
            out.push(name.to_owned());
            left &= !value;
            if value == bits {
                break;
            }
        }
    }
    if left != 0 || out.is_empty() {
        out.push(if left == 0 { "0".to_owned() } else { format!("{left:#x}") });
    }
    out.join("|")
}

/// A byte as a string of length one.
fn quoted(byte: u8) -> String {
    match byte {
        0 => r#""\0""#.to_owned(),
        b'"' => r#""\"""#.to_owned(),
        b'\\' => r#""\\""#.to_owned(),
        b'\n' => r#""\n""#.to_owned(),
        b' '..=b'~' => format!("\"{}\"", byte as char),
        _ => format!("\"\\x{byte:02x}\""),
    }
}

fn buffer(buf: UserBuf) -> String {
    match buf {
        UserBuf::Addr(addr) => format!("{addr:#x}"),
        UserBuf::Fill(byte) => quoted(byte),
    }
}

fn cell(c: Cell) -> String {
    if c.is_stale() { format!("stale:{:#04x}", c.byte()) } else { format!("{:#04x}", c.byte()) }
}

fn op_with(op: &Op, threads: &[String]) -> String {
    use names::mask_of;
    match *op {
        Op::MemfdCreate { sealing } => format!("memfd_create(\"\", {})", mask(sealing as u64, names::MFD)),
        Op::Mount { size } => format!("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, \"size={size}\")"),
        Op::Open { path, read, write, creat } => {
            let path = match path {
                Path::Mnt(name) => format!("/mnt/{}", name as char),
                Path::DevZero => "/dev/zero".to_owned(),
                Path::ProcSelfMem => "/proc/self/mem".to_owned(),
                Path::ProcSelfFd(fd) => format!("/proc/self/fd/{fd}"),
            };
            format!("open(\"{path}\", {})", mask(mask_of::open(read, write, creat), names::OPEN))
        }
        Op::Unlink { name } => format!("unlink(\"/mnt/{}\")", name as char),
        Op::Close { fd } => format!("close({fd})"),
        Op::Ftruncate { fd, length } => format!("ftruncate({fd}, {})", amount(length)),
        Op::Fallocate { fd, mode, offset, len } => {
            format!("fallocate({fd}, {}, {}, {})", mask(mask_of::falloc(mode), names::FALLOC), amount(offset), amount(len))
        }
        Op::Pread { fd, buf, count, offset } => {
            let buf = if let UserBuf::Fill(_) = buf { "\"\"".to_owned() } else { buffer(buf) };
            format!("pread64({fd}, {buf}, {}, {})", amount(count), amount(offset))
        }
        Op::Pwrite { fd, buf, count, offset } => {
            format!("pwrite64({fd}, {}, {}, {})", buffer(buf), amount(count), amount(offset))
        }
        Op::Lseek { fd, offset, data } => {
            format!("lseek({fd}, {}, {})", amount(offset), if data { "SEEK_DATA" } else { "SEEK_HOLE" })
        }
        Op::AddSeals { fd, seals } => format!("fcntl({fd}, F_ADD_SEALS, {})", mask(seals.bits().into(), &names::seals())),
        Op::Fstat { fd } => format!("fstat({fd})"),
        Op::Fstatfs { fd } => format!("fstatfs({fd})"),
        Op::Mmap { addr, len, prot, flags, fd, offset } => format!(
            "mmap({addr:#x}, {}, {}, {}, {}, {})",
            amount(len),
            protection(prot),
            mask(flags.bits().into(), &names::map_flags()),
            fd.map_or("-1".to_owned(), |fd| fd.to_string()),
            amount(offset)
        ),
        Op::Munmap { addr, len } => format!("munmap({addr:#x}, {})", amount(len)),
        Op::Mprotect { addr, len, prot } => format!("mprotect({addr:#x}, {}, {})", amount(len), protection(prot)),
        Op::Mremap { old, old_len, new_len, new, dontunmap } => {
            let flags = mask(mask_of::mremap(new.is_some(), dontunmap), names::MREMAP);
            let new = new.map_or(String::new(), |new| format!(", {new:#x}"));
            format!("mremap({old:#x}, {}, {}, {flags}{new})", amount(old_len), amount(new_len))
        }
        Op::Madvise { addr, len, advice } => format!("madvise({addr:#x}, {}, {})", amount(len), names::variant(advice)),
        Op::Mlock { addr, len } => format!("mlock({addr:#x}, {})", amount(len)),
        Op::Munlock { addr, len } => format!("munlock({addr:#x}, {})", amount(len)),
        Op::Mincore { addr, len } => format!("mincore({addr:#x}, {})", amount(len)),
        Op::Load { addr } => format!("load({addr:#x})"),
        Op::Store { addr, value } => format!("store({addr:#x}, {value:#04x})"),
        Op::Userfaultfd { nonblock, user_mode_only } => {
            format!("userfaultfd({})", mask(nonblock as u64 | (user_mode_only as u64) << 1, names::UFFD))
        }
        Op::UffdApi { fd, api, features } => {
            format!("ioctl({fd}, UFFDIO_API, {{api={api:#x}, features={}}})", mask(features, &names::features()))
        }
        Op::UffdRegister { fd, start, len, mode } => ranged(fd, "UFFDIO_REGISTER", start, len, Some(mask(mode, names::REGISTER))),
        Op::UffdUnregister { fd, start, len } => ranged(fd, "UFFDIO_UNREGISTER", start, len, None),
        Op::UffdWake { fd, start, len } => ranged(fd, "UFFDIO_WAKE", start, len, None),
        Op::UffdCopy { fd, dst, src, len, mode } => format!(
            "ioctl({fd}, UFFDIO_COPY, {{dst={dst:#x}, src={}, len={}, mode={}}})",
            buffer(src),
            amount(len),
            mask(mode, names::COPY)
        ),
        Op::UffdZeropage { fd, start, len, mode } => ranged(fd, "UFFDIO_ZEROPAGE", start, len, Some(mask(mode, names::ZEROPAGE))),
        Op::UffdContinue { fd, start, len, mode } => ranged(fd, "UFFDIO_CONTINUE", start, len, Some(mask(mode, names::CONTINUE))),
        Op::UffdPoison { fd, start, len, mode } => ranged(fd, "UFFDIO_POISON", start, len, Some(mask(mode, names::POISON))),
        Op::UffdMove { fd, dst, src, len, mode } => format!(
            "ioctl({fd}, UFFDIO_MOVE, {{dst={dst:#x}, src={src:#x}, len={}, mode={}}})",
            amount(len),
            mask(mode, names::MOVE)
        ),
        Op::UffdWriteprotect { fd, start, len, mode } => {
            ranged(fd, "UFFDIO_WRITEPROTECT", start, len, Some(mask(mode, names::WRITEPROTECT)))
        }
        Op::UffdRead { fd } => format!("read({fd})"),
        Op::Poll { fd } => format!("poll({fd})"),
        Op::Fork => "fork()".to_owned(),
        Op::Exit => "exit_group(0)".to_owned(),
        Op::Kill { task, fatal } => {
            format!("tkill({}, {})", thread_name(task.into(), threads), if fatal { "SIGKILL" } else { "SIGUSR1" })
        }
        Op::Reclaim { fd, offset } => format!("reclaim({fd}, {})", amount(offset)),
        Op::Swapon { slots } => format!("swapon({slots})"),
        Op::Swapoff => "swapoff()".to_owned(),
    }
}

fn protection(prot: Prot) -> String {
    mask(prot.bits().into(), &names::prot())
}

fn ranged(fd: u8, request: &str, start: u64, len: u64, mode: Option<String>) -> String {
    let mode = mode.map_or(String::new(), |m| format!(", mode={m}"));
    format!("ioctl({fd}, {request}, {{start={start:#x}, len={}{mode}}})", amount(len))
}

/// The text after `= `. A resumed line without an operation before it has None; the parser makes none such.
fn result(op: Option<&Op>, ret: ExpectedRet, out: Option<&Out>, child: Option<&str>) -> String {
    match out {
        Some(Out::Signal { sig, addr }) => return signal(op, *sig, *addr),
        Some(Out::Byte(byte)) if !matches!(ret, ExpectedRet::Is(Err(_))) => return byte.map_or("?".to_owned(), cell),
        Some(Out::Msg(msg)) if !matches!(ret, ExpectedRet::Is(Err(_))) => return message(msg),
        Some(&Out::Poll { pollin, pollerr }) if !matches!(ret, ExpectedRet::Is(Err(_))) => {
            return mask(pollin as u64 | (pollerr as u64) << 1, names::POLL);
        }
        _ => {}
    }
    let ret = match ret {
        ExpectedRet::Is(Err(e)) => format!("-1 {e}"),
        ExpectedRet::Is(Ok(n)) => match op {
            Some(Op::Mmap { .. } | Op::Mremap { .. }) => format!("{n:#x}"),
            _ if n < 0 => n.to_string(),
            _ => amount(n as u64),
        },
        ExpectedRet::Any | ExpectedRet::Success => child.unwrap_or("0").to_owned(),
    };
    match out {
        Some(out) => format!("{ret} {}", by_reference(op, out)),
        None => ret,
    }
}

fn signal(op: Option<&Op>, sig: Signal, addr: u64) -> String {
    let sig = names::variant(sig);
    match op {
        Some(Op::Load { addr: a } | Op::Store { addr: a, .. }) if *a == addr => sig,
        _ => format!("{sig} {{si_addr={addr:#x}}}"),
    }
}

fn message(msg: &Msg) -> String {
    match *msg {
        Msg::Pagefault { address, flags, ptid } => {
            let flags = mask(flags.bits().into(), &names::pagefault_flags());
            let ptid = ptid.map_or(String::new(), |ptid| format!(", ptid={ptid}"));
            format!("{{PAGEFAULT, address={address:#x}, flags={flags}{ptid}}}")
        }
        Msg::Fork { ufd } => format!("{{FORK, ufd={ufd}}}"),
        Msg::Remap { from, to, len } => format!("{{REMAP, from={from:#x}, to={to:#x}, len={}}}", amount(len)),
        Msg::Remove { start, end } => format!("{{REMOVE, start={start:#x}, end={end:#x}}}"),
        Msg::Unmap { start, end } => format!("{{UNMAP, start={start:#x}, end={end:#x}}}"),
    }
}

fn by_reference(op: Option<&Op>, out: &Out) -> String {
    match out {
        Out::None => "{}".to_owned(),
        Out::Done(n) => {
            let field = match op {
                Some(Op::UffdCopy { .. }) => "copy",
                Some(Op::UffdZeropage { .. }) => "zeropage",
                Some(Op::UffdPoison { .. }) => "updated",
                Some(Op::UffdMove { .. }) => "move",
                _ => "mapped",
            };
            let errno = Errno::ALL.iter().find(|e| n.checked_neg() == Some(e.num()));
            match errno {
                Some(e) => format!("{{{field}=-{e}}}"),
                None if *n < 0 => format!("{{{field}={n}}}"),
                None => format!("{{{field}={}}}", amount(*n as u64)),
            }
        }
        Out::Ioctls(bits) => format!("{{ioctls={}}}", mask(*bits, names::IOCTL_BITS)),
        Out::Api { features, ioctls } => {
            format!("{{features={}, ioctls={}}}", mask(*features, &names::features()), mask(*ioctls, names::IOCTL_BITS))
        }
        Out::Data(cells) => data(cells),
        Out::Stat { size, blocks } => format!("{{st_size={}, st_blocks={blocks}}}", amount(*size)),
        Out::Statfs { blocks, bfree } => format!("{{f_blocks={blocks}, f_bfree={bfree}}}"),
        Out::Mincore(pages) => {
            format!("[{}]", pages.iter().map(|&p| if p { "1" } else { "0" }).collect::<Vec<_>>().join(" "))
        }
        // With an error these are not results of their own; no call gives that.
        Out::Byte(byte) => byte.map_or("?".to_owned(), cell),
        Out::Msg(msg) => message(msg),
        Out::Poll { pollin, pollerr } => mask(*pollin as u64 | (*pollerr as u64) << 1, names::POLL),
        Out::Signal { sig, addr } => signal(op, *sig, *addr),
    }
}

pub(super) fn data(cells: &[Option<Cell>; CELLS]) -> String {
    if let [Some(first), rest @ ..] = cells
        && !first.is_stale()
        && rest.iter().all(|c| c.as_ref() == Some(first))
    {
        return quoted(first.byte());
    }
    format!("[{}]", cells.iter().map(|c| c.map_or("-".to_owned(), cell)).collect::<Vec<_>>().join(" "))
}
