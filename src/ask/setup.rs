// SPDX-License-Identifier: GPL-2.0-only
//! A cell as a scenario: how its page gets into its state, and the operation.

use super::{Cell, Mapping, Operation, Protection, Registration, State};
use crate::scenario::{Scenario, Step, parse};
use crate::syscall::Op;
use std::fmt::Write;

/// Where the mapping stands; it has four pages, and the second is the one in question.
const AREA: u64 = 0x1000_0000;
/// The page in question.
pub const PAGE: u64 = AREA + 4096;
/// A second mapping of the same file, where one is needed.
const ELSEWHERE: u64 = 0x1400_0000;
/// Where the page is mapped for the moment that it takes to swap it out.
const SCRATCH: u64 = 0x5800_0000;
/// The byte that is the page's data before the operation.
pub const DATA: u8 = 0x42;
/// The byte that stores write, unless they make the data.
pub const STORED: u8 = 0x77;
/// The byte that UFFDIO_COPY brings.
pub const COPIED: u8 = 0xc0;
/// The userfaultfd, after a file and without.
const fn uffd(mapping: Mapping) -> u8 {
    if matches!(mapping, Mapping::Anonymous) { 3 } else { 4 }
}

/// What is done before the mapping is there, between that and its registration, and after its registration.
#[derive(Default)]
struct Way {
    size: u64,
    file: Vec<String>,
    mapped: Vec<String>,
    registered: Vec<String>,
}

fn way(cell: &Cell) -> Way {
    use State::*;
    let mut way = Way { size: 4 * 4096, ..Way::default() };
    let fd = uffd(cell.mapping);
    let data = format!("pwrite64(3, \"\\x{DATA:02x}\", 4096, 4096) = 4096");
    let load = format!("load({PAGE:#x})");
    let store = |byte: u8| format!("store({PAGE:#x}, {byte:#04x})");
    let advise = |advice: &str| format!("madvise({PAGE:#x}, 4096, MADV_{advice})");
    let protect = format!("ioctl({fd}, UFFDIO_WRITEPROTECT, {{start={PAGE:#x}, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP}})");
    if cell.mapping == Mapping::Anonymous {
        match cell.state {
            Mapped | MappedWp | SwappedWp => way.mapped.push(store(DATA)),
            Swapped => way.mapped.extend([store(DATA), advise("PAGEOUT")]),
            Dropped => way.mapped.extend([store(DATA), advise("DONTNEED")]),
            Zero | ZeroWp => way.mapped.push(load),
            _ => {}
        }
    } else {
        match cell.state {
            Cached | CachedWp => way.file.push(data),
            Swapped => {
                way.file.push(data);
                way.file.extend([
                    format!("mmap({SCRATCH:#x}, 4096, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 4096) = {SCRATCH:#x}"),
                    format!("madvise({SCRATCH:#x}, 4096, MADV_POPULATE_READ)"),
                    format!("madvise({SCRATCH:#x}, 4096, MADV_PAGEOUT)"),
                    format!("munmap({SCRATCH:#x}, 4096) = 0"),
                ]);
            }
            Clean => way.file.extend([
                format!("mmap({ELSEWHERE:#x}, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = {ELSEWHERE:#x}"),
                format!("load({:#x})", ELSEWHERE + 4096),
                format!("munmap({ELSEWHERE:#x}, 16384) = 0"),
            ]),
            Fallocated => way.file.push("fallocate(3, 0, 4096, 4096) = 0".to_owned()),
            Mapped | MappedWp | SwappedWp => {
                way.file.push(data);
                way.mapped.push(load);
            }
            MappedClean => way.mapped.push(load),
            MappedWritten | PrivateCopy | PrivateCopyWp => {
                way.file.push(data);
                way.mapped.push(store(STORED));
            }
            PrivateCopySwapped => {
                way.file.push(data);
                way.mapped.extend([store(STORED), advise("PAGEOUT")]);
            }
            PrivateCopyDropped => {
                way.file.push(data);
                way.mapped.extend([store(STORED), advise("DONTNEED")]);
            }
            Dropped => {
                way.file.push(data);
                way.mapped.extend([load, advise("DONTNEED")]);
            }
            Punched => {
                way.file.push(data);
                way.mapped.push(load);
                way.mapped.push("fallocate(3, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE, 4096, 4096) = 0".to_owned());
            }
            PastEof => way.size = 4096,
            Truncated => {
                way.file.push(format!("pwrite64(3, \"\\x{DATA:02x}\", 16384, 0) = 16384"));
                way.mapped.extend([load, "ftruncate(3, 4096) = 0".to_owned()]);
            }
            TailHole => way.size = 4096 + 100,
            TailData => {
                way.size = 4096;
                way.file.push(format!("pwrite64(3, \"\\x{DATA:02x}\", 100, 4096) = 100"));
            }
            Hole | HoleWp | Poisoned | Guard | Zero | ZeroWp => {}
        }
    }
    match cell.state {
        HoleWp | CachedWp | MappedWp | ZeroWp | PrivateCopyWp => way.registered.push(protect),
        SwappedWp => way.registered.extend([protect, advise("PAGEOUT")]),
        Poisoned => way.registered.push(format!("ioctl({fd}, UFFDIO_POISON, {{start={PAGE:#x}, len=4096, mode=0}})")),
        Guard => way.mapped.push(advise("GUARD_INSTALL")),
        _ => {}
    }
    way
}

/// The operation itself.
fn operation(cell: &Cell) -> String {
    let fd = uffd(cell.mapping);
    let ranged = |name: &str, mode: u8| format!("ioctl({fd}, UFFDIO_{name}, {{start={PAGE:#x}, len=4096, mode={mode}}})");
    let copy = |mode: u8| format!("ioctl({fd}, UFFDIO_COPY, {{dst={PAGE:#x}, src=\"\\x{COPIED:02x}\", len=4096, mode={mode}}})");
    match cell.operation {
        Operation::Copy => copy(0),
        Operation::CopyWp => copy(2),
        Operation::Zeropage => ranged("ZEROPAGE", 0),
        Operation::Continue => ranged("CONTINUE", 0),
        Operation::ContinueWp => ranged("CONTINUE", 2),
        Operation::Poison => ranged("POISON", 0),
        Operation::Writeprotect => ranged("WRITEPROTECT", 1),
        Operation::Unprotect => ranged("WRITEPROTECT", 0),
        Operation::Load => format!("vcpu: load({PAGE:#x})"),
        Operation::Store => format!("vcpu: store({PAGE:#x}, {STORED:#04x})"),
    }
}

/// `load of a hole page, shared, registered for missing`.
pub fn question(cell: &Cell) -> String {
    let what = cell.operation.about();
    let sigbus = if cell.sigbus { ", with UFFD_FEATURE_SIGBUS" } else { "" };
    let Cell { mapping, protection, state, .. } = cell;
    let registered = match cell.registration {
        Registration::NONE => "not registered".to_owned(),
        r => format!("registered for {r}"),
    };
    format!("What does {what} answer{sigbus}? ({mapping} mapping, {protection}, {registered}, page {state})")
}

/// The scenario, without promised answers, but for those of set-up calls that cannot fail. The last step is
/// `read(2)` of a message that the operation may have raised; the operation itself stands before it.
pub fn scenario(cell: &Cell) -> Scenario {
    let way = way(cell);
    let mut text = format!("question: {}\nmachine: swap=4\n", question(cell));
    text += if cell.operation.is_access() { "threads: main vcpu\n\n" } else { "\n" };
    let mut line = |l: &str| {
        let _ = writeln!(text, "{l}");
    };
    let file = cell.mapping != Mapping::Anonymous;
    let fd = uffd(cell.mapping);
    if file {
        line("memfd_create(\"\", 0) = 3");
        line(&format!("ftruncate(3, {}) = 0", way.size));
    }
    way.file.iter().for_each(|l| line(l));
    let features = if cell.sigbus { "UFFD_FEATURE_SIGBUS" } else { "0" };
    line(&format!("userfaultfd(O_NONBLOCK) = {fd}"));
    line(&format!("ioctl({fd}, UFFDIO_API, {{api=0xaa, features={features}}}) = 0"));
    let (flags, of) = match cell.mapping {
        Mapping::Shared => ("MAP_SHARED", "3"),
        Mapping::Private => ("MAP_PRIVATE", "3"),
        Mapping::Anonymous => ("MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    };
    line(&format!("mmap({AREA:#x}, 16384, PROT_READ|PROT_WRITE, {flags}|MAP_FIXED, {of}, 0) = {AREA:#x}"));
    way.mapped.iter().for_each(|l| line(l));
    let mode = cell.registration.mode().bits();
    if mode != 0 {
        line(&format!("ioctl({fd}, UFFDIO_REGISTER, {{start={AREA:#x}, len=16384, mode={mode}}})"));
    }
    way.registered.iter().for_each(|l| line(l));
    if cell.protection == Protection::ReadOnly {
        line(&format!("mprotect({AREA:#x}, 16384, PROT_READ) = 0"));
    }
    line(&operation(cell));
    line(&format!("read({fd})"));
    parse::scenario("ask", &text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Features that only say what the caller knows: asking for them changes nothing.
const SAYS_NOTHING: u64 = {
    use crate::flags::UffdFeatures as F;
    F::UFFD_FEATURE_PAGEFAULT_FLAG_WP.bits()
        | F::UFFD_FEATURE_MISSING_SHMEM.bits()
        | F::UFFD_FEATURE_MINOR_SHMEM.bits()
        | F::UFFD_FEATURE_WP_HUGETLBFS_SHMEM.bits()
};

/// What a sequence does, in a form in which two that do the same are equal: who does it (all threads are of one process),
/// reading messages, and what changes nothing, are left out. None if it does more than one thing at a time.
pub fn essence(steps: &[Step]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    for step in steps {
        match step {
            Step::Op(call) => match &call.op {
                Op::UffdRead { .. } => {}
                Op::MemfdCreate { .. } => ops.push(Op::MemfdCreate { sealing: true }),
                Op::UffdApi { fd, api, features } => {
                    ops.push(Op::UffdApi { fd: *fd, api: *api, features: features & !SAYS_NOTHING });
                }
                op => ops.push(*op),
            },
            Step::Resumed { .. } | Step::Seen(_) => {}
            Step::Race { .. } => return None,
        }
    }
    Some(ops)
}
