// SPDX-License-Identifier: GPL-2.0-only
//! The one generator of operations, programs and scenarios: property tests, the fuzzer and random conformance runs all turn
//! bytes into them here.
//!
//! There are two kinds. [`op_from`] and [`Program`] make operations that have a chance to do something: a small world of two
//! descriptors and three mappings, and ranges that mostly fit. `Op`'s own [`Arbitrary`] makes everything that the type can
//! say; it is for those who only handle operations, such as the parser. All-zero bytes, and bytes that have run out, give the
//! plainest choice everywhere, so that shrinking bytes shrinks what they mean.

use super::ast::*;
use crate::delta::Delta;
use crate::errno::Errno;
use crate::flags::*;
use crate::kernel::{CELL_AT, CELLS, Cell, PAGE_SIZE, SITES};
use crate::observe::*;
use crate::patch::Revision;
use crate::syscall::*;
use arbitrary::{Arbitrary, Result, Unstructured};

/// A mapping that a program starts with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// First byte.
    pub addr: u64,
    /// Length.
    pub pages: u64,
    /// The file; None for anonymous memory.
    pub fd: Option<Fd>,
    /// MAP_SHARED.
    pub shared: bool,
}

/// What the operations of a program act on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    /// The file.
    pub file: Fd,
    /// Its length at most, in pages.
    pub file_pages: u64,
    /// The userfaultfd.
    pub uffd: Fd,
    /// The mappings; the first is hit most.
    pub windows: Vec<Window>,
    /// There is swap: swapoff makes sense.
    pub swap: bool,
    /// The file is on /mnt, and can be unlinked and opened again.
    pub named: bool,
    /// fork may happen.
    pub fork: bool,
    /// Tasks that a signal may hit.
    pub tasks: u8,
}

/// The descriptor of the file in every program.
pub const FILE: Fd = 3;
/// The userfaultfd in every program.
pub const UFFD: Fd = 4;
/// Where the first mapping of the file is.
pub const FIRST: u64 = 0x100000;
/// Where the second one is: shared, and usually not registered.
pub const SECOND: u64 = 0x200000;
/// Where anonymous memory is.
pub const ANON: u64 = 0x300000;
/// The pages of each mapping, and of the file at most.
pub const PAGES: u64 = 4;
/// The longest program.
pub const MAX_OPS: usize = 24;

impl Default for Scope {
    fn default() -> Self {
        Prologue::default().scope()
    }
}

/// How a program starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prologue {
    /// Limit of the tmpfs that the file is on, in pages (0: none); None for a memfd.
    pub tmpfs: Option<u8>,
    /// Length of the file in pages.
    pub file_pages: u8,
    /// Which pages of the file hold data: bit 0 is the first; page n holds the letter A + n.
    pub filled: u8,
    /// The first mapping is private.
    pub private: bool,
    /// Mode bits that the first mapping is registered with; 0 is not at all.
    pub register: u64,
    /// Mode bits for the anonymous mapping.
    pub register_anon: u64,
    /// UFFDIO_API features.
    pub features: UffdFeatures,
    /// Swap slots.
    pub swap: u16,
}

impl Default for Prologue {
    fn default() -> Self {
        Prologue {
            tmpfs: None,
            file_pages: PAGES as u8,
            filled: 0,
            private: false,
            register: RegisterMode::MINOR.bits(),
            register_anon: 0,
            features: UffdFeatures::empty(),
            swap: 0,
        }
    }
}

impl Prologue {
    /// The operations, all by the first thread, all of which succeed (but for data that does not fit into a small tmpfs).
    pub fn ops(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        match self.tmpfs {
            None => ops.push(Op::MemfdCreate { sealing: true }),
            Some(pages) => {
                ops.push(Op::Mount { size: pages as u64 * PAGE_SIZE });
                ops.push(Op::Open { path: Path::Mnt(b'a'), read: true, write: true, creat: true });
            }
        }
        ops.push(Op::Ftruncate { fd: FILE, length: self.file_pages as u64 * PAGE_SIZE });
        for page in (0..self.file_pages).filter(|&n| self.filled & (1 << n) != 0) {
            ops.push(Op::Pwrite { fd: FILE, buf: UserBuf::Fill(b'A' + page), count: PAGE_SIZE, offset: page as u64 * PAGE_SIZE });
        }
        ops.push(Op::Userfaultfd { nonblock: true, user_mode_only: false });
        ops.push(Op::UffdApi { fd: UFFD, api: 0xaa, features: self.features.bits() });
        for w in self.scope().windows {
            let kind =
                if w.shared { MAP_SHARED } else { MAP_PRIVATE } | if w.fd.is_none() { MAP_ANONYMOUS } else { MapFlags::empty() };
            ops.push(Op::Mmap {
                addr: w.addr,
                len: w.pages * PAGE_SIZE,
                prot: PROT_READ | PROT_WRITE,
                flags: kind | MAP_FIXED,
                fd: w.fd,
                offset: 0,
            });
        }
        for (start, mode) in [(FIRST, self.register), (ANON, self.register_anon)] {
            if mode != 0 {
                ops.push(Op::UffdRegister { fd: UFFD, start, len: PAGES * PAGE_SIZE, mode });
            }
        }
        ops
    }

    /// What comes after it can act on this.
    pub fn scope(&self) -> Scope {
        Scope {
            file: FILE,
            file_pages: PAGES,
            uffd: UFFD,
            windows: vec![
                Window { addr: FIRST, pages: PAGES, fd: Some(FILE), shared: !self.private },
                Window { addr: SECOND, pages: PAGES, fd: Some(FILE), shared: true },
                Window { addr: ANON, pages: PAGES, fd: None, shared: false },
            ],
            swap: self.swap > 0,
            named: self.tmpfs.is_some(),
            fork: true,
            tasks: 2,
        }
    }
}

impl<'a> Arbitrary<'a> for Prologue {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Prologue> {
        let kind = byte(u)?;
        let filled = byte(u)?;
        let more = byte(u)?;
        let minor = RegisterMode::MINOR.bits();
        let missing = RegisterMode::MISSING.bits();
        Ok(Prologue {
            tmpfs: match kind & 7 {
                6 => Some(2),
                7 => Some(0),
                _ => None,
            },
            // Usually as long as the mappings, so that all of them can be touched.
            file_pages: [4, 4, 4, 3, 2, 1, 0, 4][(kind >> 3 & 7) as usize],
            private: kind & 64 != 0,
            filled: filled & 15,
            register: [minor, minor, missing, minor | missing, minor, missing, 0, minor | missing][(filled >> 4 & 7) as usize],
            register_anon: [0, missing, RegisterMode::WP.bits(), missing | RegisterMode::WP.bits()][(more & 3) as usize],
            features: match more >> 2 & 7 {
                4 => UFFD_FEATURE_SIGBUS,
                5 => UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP,
                6 => UFFD_FEATURE_EVENT_FORK,
                7 => UFFD_FEATURE_THREAD_ID,
                _ => UffdFeatures::empty(),
            },
            swap: [0, 8, 4, 1][(more >> 5 & 3) as usize],
        })
    }
}

/// A prologue, operations by two threads (0 and 1, and 2 for the child of a fork), and who shall run when both can.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Program {
    /// How it starts.
    pub prologue: Prologue,
    /// The thread and what it does.
    pub ops: Vec<(u8, Op)>,
    /// For runs that interleave: at the n-th preemption point byte n says who goes on. Runs that do not interleave ignore it.
    pub schedule: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Program> {
        let prologue = Prologue::arbitrary(u)?;
        let schedule = match byte(u)? as usize % 33 {
            n if n < 17 => Vec::new(),
            n => u.bytes((n - 16).min(u.len()))?.to_vec(),
        };
        let mut scope = prologue.scope();
        let mut ops = Vec::new();
        while !u.is_empty() && ops.len() < MAX_OPS {
            let thread = byte(u)?;
            let op = op_from(u, &scope)?;
            let thread = if scope.tasks > 2 && thread >= 0xc0 { 2 } else { thread & 1 };
            if op == Op::Fork {
                scope.fork = false;
                scope.tasks += 1;
            }
            ops.push((thread, op));
        }
        Ok(Program { prologue, ops, schedule })
    }
}

impl Program {
    /// The program that these bytes stand for. Every byte string stands for one.
    pub fn from_bytes(bytes: &[u8]) -> Program {
        match Program::arbitrary(&mut Unstructured::new(bytes)) {
            Ok(program) => program,
            Err(_) => Program { prologue: Prologue::default(), ops: Vec::new(), schedule: Vec::new() },
        }
    }

    /// The program with what only later kernels know, as far as this revision's kernel does: write protection of files and of
    /// memory without pages, poison, pages that are moved, guards. `choices` says where.
    pub fn of_later_kernels(mut self, revision: Revision, choices: &[u8]) -> Program {
        let has = |delta: Delta| revision.kernel() >= delta.about().since;
        let wp = has(Delta::PTE_MARKER_UFFD_WP);
        let (first, second) = (choices.first().copied().unwrap_or(255), choices.get(1).copied().unwrap_or(255));
        if wp && first & 3 == 0 {
            self.prologue.register |= RegisterMode::WP.bits();
        }
        if has(Delta::UFFD_FEATURE_EXACT_ADDRESS) && second & 15 == 0 {
            self.prologue.features |= UFFD_FEATURE_EXACT_ADDRESS;
        }
        if has(Delta::UFFD_FEATURE_WP_UNPOPULATED) && second & 15 == 1 {
            self.prologue.features |= UFFD_FEATURE_WP_UNPOPULATED;
        }
        for ((_, op), choice) in self.ops.iter_mut().zip(choices.iter().skip(2)) {
            match op {
                Op::UffdRegister { mode, .. } if wp && choice & 1 == 0 => *mode |= RegisterMode::WP.bits(),
                Op::UffdCopy { mode, .. } if wp && choice & 3 == 0 => *mode |= COPY_MODE_WP,
                Op::UffdContinue { mode, .. } if has(Delta::UFFDIO_CONTINUE_MODE_WP) && choice & 7 == 1 => *mode |= COPY_MODE_WP,
                &mut Op::UffdContinue { fd, start, len, .. } if wp && choice & 3 == 0 => {
                    *op = Op::UffdWriteprotect { fd, start, len, mode: (choice >> 2 & 1).into() };
                }
                &mut Op::UffdCopy { fd, dst, src: UserBuf::Addr(src), len, .. }
                    if has(Delta::UFFD_FEATURE_MOVE) && choice & 1 == 1 =>
                {
                    *op = Op::UffdMove { fd, dst, src, len, mode: (choice & 2).into() };
                }
                &mut Op::UffdZeropage { fd, start, len, .. } if has(Delta::UFFD_FEATURE_MOVE) && choice & 1 == 1 => {
                    // From the pages behind.
                    *op = Op::UffdMove { fd, dst: start, src: start.wrapping_add(len), len, mode: (choice & 2).into() };
                }
                &mut Op::UffdWake { fd, start, len } if has(Delta::UFFDIO_POISON) && choice & 1 == 0 => {
                    *op = Op::UffdPoison { fd, start, len, mode: 0 };
                }
                Op::Madvise { advice, .. } => match choice & 7 {
                    0 if has(Delta::MADV_GUARD) => *advice = Advice::MADV_GUARD_INSTALL,
                    1 if has(Delta::MADV_GUARD) => *advice = Advice::MADV_GUARD_REMOVE,
                    2 if wp => *advice = Advice::MADV_DONTNEED_LOCKED,
                    _ => {}
                },
                _ => {}
            }
        }
        self
    }

    /// As a scenario that expects nothing in particular. Without a schedule one operation follows the other; with one, two
    /// operations in a row by different threads become a race in which the schedule says who takes how many steps.
    pub fn to_scenario(&self) -> Scenario {
        let mut threads = vec!["main".to_owned(), "vcpu".to_owned()];
        let mut steps = Vec::new();
        let mut schedule = self.schedule.iter().cycle();
        let prologue = self.prologue.ops();
        let begun = prologue.len();
        let all: Vec<(u8, Op)> = prologue.into_iter().map(|op| (0, op)).chain(self.ops.iter().cloned()).collect();
        let mut at = 0;
        while let Some((thread, op)) = all.get(at) {
            let child = (*op == Op::Fork).then(|| {
                threads.push(if threads.len() == 2 { "child".to_owned() } else { format!("child{}", threads.len() - 1) });
                threads.len() - 1
            });
            let call = |thread: u8, op: &Op, child| Call {
                line: 0,
                thread: thread.into(),
                op: *op,
                child,
                injected: Vec::new(),
                expect: Expect::Any,
            };
            at += 1;
            match all.get(at) {
                Some((other, next))
                    if at > begun && !self.schedule.is_empty() && other != thread && can_race(op) && can_race(next) =>
                {
                    at += 1;
                    let mut items = vec![RaceItem::Start(call(*thread, op, None)), RaceItem::Start(call(*other, next, None))];
                    for byte in schedule.by_ref().take(6) {
                        let who = if byte & 1 == 0 { *thread } else { *other };
                        let stop = Stop::Steps(1 + (byte >> 1) as u16 % 24);
                        items.push(RaceItem::Until { line: 0, thread: who.into(), stop });
                    }
                    steps.push(Step::Race { line: 0, items });
                }
                _ => steps.push(Step::Op(call(*thread, op, child))),
            }
        }
        Scenario {
            path: String::new(),
            name: String::new(),
            question: "Is anything wrong with this random program?".to_owned(),
            why: String::new(),
            finds: Vec::new(),
            machine: MachineSpec { swap: self.prologue.swap, ..MachineSpec::default() },
            threads,
            initial_threads: 2,
            steps,
            claims: Vec::new(),
        }
    }
}

/// May the operation stand in a generated race? Those that make or end tasks stand alone, so that thread numbers stay true.
fn can_race(op: &Op) -> bool {
    !matches!(op, Op::Fork | Op::Exit | Op::Kill { .. })
}

/// One byte, 0 when they have run out.
fn byte(u: &mut Unstructured) -> Result<u8> {
    u.arbitrary()
}

/// A page of a window.
fn place<'s>(u: &mut Unstructured, scope: &'s Scope) -> Result<(&'s Window, u64)> {
    let b = byte(u)?;
    // The first window gets half, the others share the rest.
    let w = match scope.windows.len() {
        1 => 0,
        n => [0, 0, 1, 2][(b & 3) as usize] % n,
    };
    let w = &scope.windows[w];
    Ok((w, (b >> 2) as u64 % w.pages))
}

/// The address of a watched byte, rarely past the window.
fn address(u: &mut Unstructured, scope: &Scope) -> Result<u64> {
    let (w, page) = place(u, scope)?;
    let b = byte(u)?;
    let page = if b >= 0xf8 { w.pages } else { page };
    // Mostly the first byte; the others tell where a partial page begins and ends.
    Ok(w.addr + page * PAGE_SIZE + CELL_AT[if b & 4 == 0 { 0 } else { (b & 3) as usize }])
}

/// A range of a window: pages of it as a rule, else crooked.
fn range(u: &mut Unstructured, scope: &Scope) -> Result<(u64, u64)> {
    let (w, page) = place(u, scope)?;
    let b = byte(u)?;
    let start = w.addr + page * PAGE_SIZE;
    let len = [1, 1, 2, w.pages - page][(b & 3) as usize].min(w.pages - page) * PAGE_SIZE;
    Ok(crooked(b >> 3, start, len))
}

/// Pages of the file.
fn extent(u: &mut Unstructured, scope: &Scope) -> Result<(u64, u64)> {
    let b = byte(u)?;
    let page = (b & 7) as u64 % (scope.file_pages + 1);
    let len = [1, 1, 2, scope.file_pages][(b >> 3 & 3) as usize] * PAGE_SIZE;
    Ok(crooked(b >> 5 << 2, page * PAGE_SIZE, len))
}

fn crooked(how: u8, start: u64, len: u64) -> (u64, u64) {
    match how {
        24 => (start, len + PAGE_SIZE * PAGES),
        25 => (start + 1024, len),
        26 => (start, len + 1024),
        27 => (start, 1024),
        28 => (start + 1024, 2048),
        29 => (start, 0),
        30 => (start, u64::MAX - start - 4095),
        31 => (start + len, u64::MAX - 4095),
        _ => (start, len),
    }
}

fn mode(u: &mut Unstructured) -> Result<u64> {
    Ok(match byte(u)? {
        0..0xc0 => 0,
        0xc0..0xf0 => MODE_DONTWAKE,
        0xf0..0xf8 => COPY_MODE_WP,
        0xf8..0xfc => MODE_DONTWAKE | COPY_MODE_WP,
        _ => 4,
    })
}

/// A letter, so that traces can be read.
fn letter(u: &mut Unstructured) -> Result<u8> {
    Ok(b'a' + byte(u)? % 26)
}

fn source(u: &mut Unstructured, scope: &Scope) -> Result<UserBuf> {
    let b = byte(u)?;
    if b < 0xd0 { Ok(UserBuf::Fill(b'a' + b % 26)) } else { Ok(UserBuf::Addr(range(u, scope)?.0)) }
}

/// An operation that may well do something in this scope. Takes three to six bytes.
pub fn op_from(u: &mut Unstructured, scope: &Scope) -> Result<Op> {
    let (file, fd) = (scope.file, scope.uffd);
    // Weights in 256ths; the order is from plain to strange.
    Ok(match byte(u)? {
        0..32 => Op::Load { addr: address(u, scope)? },
        32..62 => Op::Store { addr: address(u, scope)?, value: letter(u)? },
        62..86 => {
            let ((start, len), mode) = (range(u, scope)?, mode(u)?);
            Op::UffdContinue { fd, start, len, mode }
        }
        86..102 => {
            let ((dst, len), mode) = (range(u, scope)?, mode(u)?);
            Op::UffdCopy { fd, dst, src: source(u, scope)?, len, mode }
        }
        102..110 => {
            let ((start, len), mode) = (range(u, scope)?, mode(u)?);
            Op::UffdZeropage { fd, start, len, mode: mode & !COPY_MODE_WP }
        }
        110..122 => Op::UffdRead { fd },
        122..134 => {
            let (addr, len) = range(u, scope)?;
            Op::Madvise { addr, len, advice: Advice::MADV_PAGEOUT }
        }
        134..142 => {
            let (addr, len) = range(u, scope)?;
            Op::Madvise { addr, len, advice: Advice::MADV_DONTNEED }
        }
        142..148 => {
            let (addr, len) = range(u, scope)?;
            Op::Madvise { addr, len, advice: Advice::MADV_REMOVE }
        }
        148..154 => {
            let (addr, len) = range(u, scope)?;
            use Advice::*;
            let rest = [
                MADV_COLD,
                MADV_WILLNEED,
                MADV_POPULATE_READ,
                MADV_POPULATE_WRITE,
                MADV_DONTFORK,
                MADV_DOFORK,
                MADV_WIPEONFORK,
                MADV_KEEPONFORK,
            ];
            Op::Madvise { addr, len, advice: rest[byte(u)? as usize % rest.len()] }
        }
        154..164 => {
            let b = byte(u)?;
            let length = (b & 7) as u64 % (scope.file_pages + 1) * PAGE_SIZE;
            Op::Ftruncate { fd: file, length: if b >= 0xc0 { length + 1024 } else { length } }
        }
        164..172 => {
            let (offset, len) = extent(u, scope)?;
            use FallocMode::*;
            let mode = [PUNCH_HOLE, PUNCH_HOLE, ALLOC, KEEP_SIZE][byte(u)? as usize & 3];
            Op::Fallocate { fd: file, mode, offset, len }
        }
        172..180 => {
            let (offset, count) = extent(u, scope)?;
            Op::Pread { fd: file, buf: UserBuf::Fill(0), count, offset }
        }
        180..190 => {
            let (offset, count) = extent(u, scope)?;
            Op::Pwrite { fd: file, buf: source(u, scope)?, count, offset }
        }
        190..198 => {
            let ((start, len), m) = (range(u, scope)?, byte(u)?);
            let mode = [4, 4, 1, 5, 2, 4, 1, 7][(m & 7) as usize];
            Op::UffdRegister { fd, start, len, mode }
        }
        198..202 => {
            let (start, len) = range(u, scope)?;
            Op::UffdUnregister { fd, start, len }
        }
        202..206 => {
            let (start, len) = range(u, scope)?;
            Op::UffdWake { fd, start, len }
        }
        206..210 => {
            let (start, len) = range(u, scope)?;
            Op::UffdWriteprotect { fd, start, len, mode: [1, 0, 2, 1][(byte(u)? & 3) as usize] }
        }
        210..220 => {
            let (addr, len) = range(u, scope)?;
            let prot = [PROT_READ, PROT_READ | PROT_WRITE, Prot::empty(), PROT_READ][(byte(u)? & 3) as usize];
            Op::Mprotect { addr, len, prot }
        }
        220..226 => {
            let ((addr, len), b) = (range(u, scope)?, byte(u)?);
            let kind = if b & 1 == 0 { MAP_SHARED } else { MAP_PRIVATE };
            let mapped = if b & 2 == 0 { Some(file) } else { None };
            let anon = if mapped.is_none() { MAP_ANONYMOUS } else { MapFlags::empty() };
            let offset = if mapped.is_some() { (b >> 2 & 3) as u64 % scope.file_pages * PAGE_SIZE } else { 0 };
            Op::Mmap { addr, len, prot: PROT_READ | PROT_WRITE, flags: kind | anon | MAP_FIXED, fd: mapped, offset }
        }
        226..229 => {
            let (addr, len) = range(u, scope)?;
            Op::Munmap { addr, len }
        }
        229..233 => {
            let ((old, old_len), b) = (range(u, scope)?, byte(u)?);
            let new = if b & 1 == 0 { Some(0x400000 + (b >> 2 & 3) as u64 * PAGE_SIZE) } else { None };
            let new_len = if b & 0x30 == 0x30 { old_len.saturating_add(PAGE_SIZE) } else { old_len };
            Op::Mremap { old, old_len, new_len, new, dontunmap: b & 2 != 0 && new.is_some() }
        }
        233..238 => Op::Reclaim { fd: file, offset: byte(u)? as u64 % scope.file_pages * PAGE_SIZE },
        238..241 => {
            let (addr, len) = range(u, scope)?;
            if byte(u)? & 1 == 0 { Op::Mlock { addr, len } } else { Op::Munlock { addr, len } }
        }
        241..244 => match byte(u)? & 3 {
            0 => Op::Poll { fd },
            1 => Op::Fstat { fd: file },
            2 => Op::Fstatfs { fd: file },
            _ => {
                let (addr, len) = range(u, scope)?;
                Op::Mincore { addr, len: len.min(PAGES * 2 * PAGE_SIZE) }
            }
        },
        244..247 if scope.fork => Op::Fork,
        247..250 if scope.swap => {
            if byte(u)? & 3 == 0 {
                Op::Swapon { slots: 4 }
            } else {
                Op::Swapoff
            }
        }
        250 => Op::Lseek { fd: file, offset: extent(u, scope)?.0, data: byte(u)? & 1 == 0 },
        251 => Op::AddSeals {
            fd: file,
            seals: [F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE, F_SEAL_WRITE][(byte(u)? & 3) as usize],
        },
        252 => Op::Kill { task: byte(u)? % scope.tasks.max(1), fatal: false },
        253 => match byte(u)? & 7 {
            0 => Op::Kill { task: 1, fatal: true },
            1 => Op::Close { fd },
            2 => Op::Close { fd: file },
            3 => Op::Exit,
            _ => Op::UffdRead { fd },
        },
        254 => match byte(u)? & 3 {
            0 if scope.named => Op::Unlink { name: b'a' },
            1 if scope.named => Op::Open { path: Path::Mnt(b'a'), read: true, write: true, creat: false },
            2 => Op::Open { path: Path::ProcSelfMem, read: true, write: true, creat: false },
            _ => Op::Open { path: Path::ProcSelfFd(file), read: true, write: false, creat: false },
        },
        // Into what 254 may have opened: /proc/self/mem takes addresses for offsets.
        255 => {
            let ((offset, count), fd) = (range(u, scope)?, 5 + (byte(u)? & 1));
            if byte(u)? & 1 == 0 {
                Op::Pwrite { fd, buf: source(u, scope)?, count, offset }
            } else {
                Op::Pread { fd, buf: UserBuf::Fill(0), count, offset }
            }
        }
        _ => Op::Load { addr: address(u, scope)? },
    })
}

// Everything that the types can say.

fn any_amount(u: &mut Unstructured) -> Result<u64> {
    Ok(match byte(u)? {
        b @ 0..128 => (b & 15) as u64 * PAGE_SIZE,
        b @ 128..192 => FIRST + (b & 63) as u64 * 1024,
        192..224 => u.arbitrary::<u16>()?.into(),
        _ => u.arbitrary()?,
    })
}

fn any_bits(u: &mut Unstructured) -> Result<u64> {
    let b = byte(u)?;
    if b < 224 { Ok((b & 15).into()) } else { u.arbitrary() }
}

fn any_buf(u: &mut Unstructured) -> Result<UserBuf> {
    Ok(if byte(u)? & 1 == 0 { UserBuf::Fill(byte(u)?) } else { UserBuf::Addr(any_amount(u)?) })
}

fn any_of<T: Copy>(u: &mut Unstructured, all: &[T]) -> Result<T> {
    Ok(all[byte(u)? as usize % all.len()])
}

fn any_cell(u: &mut Unstructured) -> Result<Cell> {
    let cell = Cell::new(byte(u)?);
    Ok(if byte(u)? & 3 == 3 { cell.stale() } else { cell })
}

fn any_flags<T: bitflags::Flags<Bits: From<u8> + TryFrom<u64>>>(u: &mut Unstructured) -> Result<T> {
    let bits: u32 = u.arbitrary()?;
    Ok(T::from_bits_truncate(T::Bits::try_from(bits as u64).unwrap_or_else(|_| T::Bits::from(bits as u8))))
}

/// Any operation at all. A destination buffer of the program's own is `Fill(0)`, for its byte says nothing.
impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Op> {
        let fd = byte(u)?;
        Ok(match byte(u)? % 42 {
            0 => Op::Load { addr: any_amount(u)? },
            1 => Op::Store { addr: any_amount(u)?, value: byte(u)? },
            2 => Op::MemfdCreate { sealing: u.arbitrary()? },
            3 => Op::Mount { size: any_amount(u)? },
            4 => {
                let path = match byte(u)? & 3 {
                    0 => Path::Mnt(letter(u)?),
                    1 => Path::DevZero,
                    2 => Path::ProcSelfMem,
                    _ => Path::ProcSelfFd(byte(u)?),
                };
                Op::Open { path, read: u.arbitrary()?, write: u.arbitrary()?, creat: u.arbitrary()? }
            }
            5 => Op::Unlink { name: letter(u)? },
            6 => Op::Close { fd },
            7 => Op::Ftruncate { fd, length: any_amount(u)? },
            8 => {
                use FallocMode::*;
                let mode = any_of(u, &[ALLOC, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE])?;
                Op::Fallocate { fd, mode, offset: any_amount(u)?, len: any_amount(u)? }
            }
            9 => {
                let buf = match any_buf(u)? {
                    UserBuf::Fill(_) => UserBuf::Fill(0),
                    addr => addr,
                };
                Op::Pread { fd, buf, count: any_amount(u)?, offset: any_amount(u)? }
            }
            10 => Op::Pwrite { fd, buf: any_buf(u)?, count: any_amount(u)?, offset: any_amount(u)? },
            11 => Op::Lseek { fd, offset: any_amount(u)?, data: u.arbitrary()? },
            12 => Op::AddSeals { fd, seals: any_flags(u)? },
            13 => Op::Fstat { fd },
            14 => Op::Fstatfs { fd },
            15 => Op::Mmap {
                addr: any_amount(u)?,
                len: any_amount(u)?,
                prot: any_flags(u)?,
                flags: any_flags(u)?,
                fd: u.arbitrary::<bool>()?.then_some(fd),
                offset: any_amount(u)?,
            },
            16 => Op::Munmap { addr: any_amount(u)?, len: any_amount(u)? },
            17 => Op::Mprotect { addr: any_amount(u)?, len: any_amount(u)?, prot: any_flags(u)? },
            18 => Op::Mremap {
                old: any_amount(u)?,
                old_len: any_amount(u)?,
                new_len: any_amount(u)?,
                new: if u.arbitrary()? { Some(any_amount(u)?) } else { None },
                dontunmap: u.arbitrary()?,
            },
            19 => Op::Madvise { addr: any_amount(u)?, len: any_amount(u)?, advice: any_of(u, super::names::ADVICE)? },
            20 => Op::Mlock { addr: any_amount(u)?, len: any_amount(u)? },
            21 => Op::Munlock { addr: any_amount(u)?, len: any_amount(u)? },
            22 => Op::Mincore { addr: any_amount(u)?, len: any_amount(u)? },
            23 => Op::Userfaultfd { nonblock: u.arbitrary()?, user_mode_only: u.arbitrary()? },
            24 => Op::UffdApi { fd, api: any_bits(u)?, features: any_bits(u)? },
            25 => Op::UffdRegister { fd, start: any_amount(u)?, len: any_amount(u)?, mode: any_bits(u)? },
            26 => Op::UffdUnregister { fd, start: any_amount(u)?, len: any_amount(u)? },
            27 => Op::UffdWake { fd, start: any_amount(u)?, len: any_amount(u)? },
            28 => Op::UffdCopy { fd, dst: any_amount(u)?, src: any_buf(u)?, len: any_amount(u)?, mode: any_bits(u)? },
            29 => Op::UffdZeropage { fd, start: any_amount(u)?, len: any_amount(u)?, mode: any_bits(u)? },
            30 => Op::UffdContinue { fd, start: any_amount(u)?, len: any_amount(u)?, mode: any_bits(u)? },
            31 => Op::UffdWriteprotect { fd, start: any_amount(u)?, len: any_amount(u)?, mode: any_bits(u)? },
            32 => Op::UffdRead { fd },
            33 => Op::Poll { fd },
            34 => Op::Fork,
            35 => Op::Exit,
            36 => Op::Kill { task: byte(u)?, fatal: u.arbitrary()? },
            37 => Op::Reclaim { fd, offset: any_amount(u)? },
            38 => Op::Swapon { slots: u.arbitrary()? },
            39 => Op::Swapoff,
            40 => op_from(u, &Scope::default())?,
            _ => Op::UffdContinue { fd, start: any_amount(u)?, len: PAGE_SIZE, mode: 0 },
        })
    }
}

/// Any outcome that this operation can have.
pub fn outcome_for(u: &mut Unstructured, op: &Op) -> Result<Outcome> {
    let failed = byte(u)? & 3 == 3;
    let ret = if failed { Err(any_of(u, Errno::ALL)?) } else { Ok((any_amount(u)? >> 1) as i64) };
    // Of most calls nothing comes back when they fail; of mfill the number of bytes does.
    let done = |u: &mut Unstructured| -> Result<Out> {
        Ok(match byte(u)? & 3 {
            0 => Out::None,
            1 => Out::Done(-any_of(u, Errno::ALL)?.num()),
            _ => Out::Done((any_amount(u)? >> 1) as i64),
        })
    };
    let out = match op {
        Op::UffdCopy { .. } | Op::UffdZeropage { .. } | Op::UffdContinue { .. } => done(u)?,
        Op::UffdApi { .. } => Out::Api { features: any_bits(u)?, ioctls: any_bits(u)? },
        Op::Load { addr } | Op::Store { addr, .. } if failed => {
            let sig = any_of(u, &[Signal::SIGBUS, Signal::SIGSEGV_MAPERR, Signal::SIGSEGV_ACCERR])?;
            let addr = if byte(u)? & 1 == 0 { *addr } else { any_amount(u)? };
            return Ok(Outcome { ret: Err(Errno::EFAULT), out: Out::Signal { sig, addr } });
        }
        Op::Load { .. } => return Ok(Outcome::ok(0).with(Out::Byte(if u.arbitrary()? { Some(any_cell(u)?) } else { None }))),
        Op::Store { .. } => return Ok(Outcome::ok(0)),
        _ if failed => Out::None,
        Op::UffdRegister { .. } => Out::Ioctls(any_bits(u)?),
        Op::Pread { .. } => {
            let mut cells = [None; CELLS];
            let uniform = any_cell(u)?;
            let kind = byte(u)?;
            for cell in &mut cells {
                *cell = match kind & 3 {
                    0 => Some(uniform),
                    1 => Some(any_cell(u)?),
                    _ if u.arbitrary()? => Some(any_cell(u)?),
                    _ => None,
                };
            }
            Out::Data(cells)
        }
        Op::UffdRead { .. } => Out::Msg(match byte(u)? % 5 {
            0 => Msg::Pagefault {
                address: any_amount(u)?,
                flags: any_flags(u)?,
                ptid: if u.arbitrary()? { Some(byte(u)?) } else { None },
            },
            1 => Msg::Fork { ufd: byte(u)? },
            2 => Msg::Remap { from: any_amount(u)?, to: any_amount(u)?, len: any_amount(u)? },
            3 => Msg::Remove { start: any_amount(u)?, end: any_amount(u)? },
            _ => Msg::Unmap { start: any_amount(u)?, end: any_amount(u)? },
        }),
        Op::Poll { .. } => Out::Poll { pollin: u.arbitrary()?, pollerr: u.arbitrary()? },
        Op::Fstat { .. } => Out::Stat { size: any_amount(u)?, blocks: u.arbitrary::<i16>()?.into() },
        Op::Fstatfs { .. } => Out::Statfs { blocks: u.arbitrary::<i16>()?.into(), bfree: u.arbitrary::<i16>()?.into() },
        Op::Mincore { .. } => Out::Mincore((0..byte(u)? & 7).map(|_| u.arbitrary()).collect::<Result<_>>()?),
        _ => Out::None,
    };
    Ok(Outcome { ret, out })
}

fn any_expect(u: &mut Unstructured, op: &Op) -> Result<Expect> {
    if *op == Op::Fork {
        return Ok(Expect::Is(Expected { ret: ExpectedRet::Success, out: None }));
    }
    Ok(match byte(u)? & 3 {
        0 => Expect::Any,
        _ => {
            let mut expected = Expected::from(&outcome_for(u, op)?);
            if expected.out.is_none()
                && matches!(op, Op::UffdCopy { .. } | Op::UffdContinue { .. } | Op::UffdApi { .. } | Op::UffdRegister { .. })
                && u.arbitrary()?
            {
                expected.out = Some(Out::None);
            }
            Expect::Is(expected)
        }
    })
}

fn any_text(u: &mut Unstructured) -> Result<String> {
    const WORDS: [&str; 12] =
        ["Does", "UFFDIO_CONTINUE", "find", "a", "page", "that", "was", "reclaimed", "#12", "race:", "(as", "swap_out()'s)"];
    let n = 1 + byte(u)? % 40;
    Ok((0..n).map(|_| any_of(u, &WORDS)).collect::<Result<Vec<_>>>()?.join(" "))
}

fn any_word(u: &mut Unstructured, words: &[&str]) -> Result<Word> {
    Ok(Word { text: any_of(u, words)?.to_owned(), line: 0, column: 0 })
}

/// Any scenario that can be written down. Line numbers are 0.
fn any_envelope<'a, T>(u: &mut Unstructured<'a>, value: impl FnOnce(&mut Unstructured<'a>) -> Result<T>) -> Result<Envelope<T>> {
    Ok(match byte(u)? & 3 {
        0 => Envelope::Unseen,
        1 => Envelope::Any,
        _ => Envelope::Is(value(u)?),
    })
}

fn any_bytes(u: &mut Unstructured<'_>) -> Result<Envelope<Bytes>> {
    let bytes: [Option<u8>; CELLS] = u.arbitrary()?;
    Ok(if u.arbitrary()? { Envelope::Is(Bytes(bytes)) } else { Envelope::Unseen })
}

fn any_page(u: &mut Unstructured<'_>) -> Result<PageSeen> {
    let mut page = PageSeen {
        present: u.arbitrary()?,
        swap: u.arbitrary()?,
        file: u.arbitrary()?,
        guard: u.arbitrary()?,
        uffd_wp: u.arbitrary()?,
        exclusive: u.arbitrary()?,
        frame: None,
        mincore: any_envelope(u, |u| u.arbitrary())?,
        bytes: any_bytes(u)?,
    };
    if u.arbitrary()? {
        let either = |u: &mut Unstructured<'_>| Ok(if u.arbitrary()? { Envelope::Any } else { Envelope::Is(u.arbitrary()?) });
        let zero_page = u.arbitrary()?;
        page.frame = Some(FrameSeen {
            uptodate: u.arbitrary()?,
            dirty: either(u)?,
            mmap: u.arbitrary()?,
            anon: u.arbitrary()?,
            swapcache: either(u)?,
            swapbacked: u.arbitrary()?,
            unevictable: either(u)?,
            mlocked: either(u)?,
            zero_page,
            mapcount: if zero_page { 0 } else { byte(u)?.into() },
        });
    }
    Ok(page)
}

fn any_vma(u: &mut Unstructured<'_>) -> Result<VmaSeen> {
    Ok(VmaSeen {
        start: any_amount(u)?,
        end: any_amount(u)?,
        prot: any_flags(u)?,
        shared: u.arbitrary()?,
        smaps: if u.arbitrary()? { Envelope::Unseen } else { Envelope::Is(any_smaps(u)?) },
    })
}

fn any_smaps(u: &mut Unstructured<'_>) -> Result<SmapsSeen> {
    Ok(SmapsSeen {
        missing: u.arbitrary()?,
        wp: u.arbitrary()?,
        minor: u.arbitrary()?,
        locked: u.arbitrary()?,
        accounted: u.arbitrary()?,
        rss: byte(u)?.into(),
        anonymous: byte(u)?.into(),
        kinds: if u.arbitrary()? { Envelope::Any } else { Envelope::Is([0; 4].map(|_| byte(u).unwrap_or(0).into())) },
        swap: byte(u)?.into(),
    })
}

fn any_look(u: &mut Unstructured<'_>, threads: usize) -> Result<Look> {
    let small = |u: &mut Unstructured<'_>| Ok(i64::from(u.arbitrary::<i16>()?));
    let mut thread = byte(u)? as usize % threads;
    let (place, seen) = match byte(u)? % 5 {
        0 => {
            let swapped = any_envelope(u, |u| Ok(byte(u)?.into()))?;
            let file = FileSeen { size: any_amount(u)?, blocks: any_envelope(u, small)?, swapped };
            (Place::File(byte(u)?), Seen::File(file))
        }
        1 => {
            let page = FilePageSeen {
                cached: any_envelope(u, |u| any_of(u, &[Cached::Hole, Cached::Cached, Cached::Swapped]))?,
                data: any_envelope(u, |u| u.arbitrary())?,
                mincore: any_envelope(u, |u| u.arbitrary())?,
                bytes: any_bytes(u)?,
            };
            (Place::FilePage(byte(u)?, any_amount(u)?), Seen::FilePage(page))
        }
        2 => (Place::Page(any_amount(u)? & !(PAGE_SIZE - 1)), Seen::Page(any_page(u)?)),
        3 => {
            let range = if u.arbitrary()? { Some((any_amount(u)?, any_amount(u)?)) } else { None };
            let vmas = (0..byte(u)? & 3).map(|_| any_vma(u)).collect::<Result<_>>()?;
            (Place::Maps(range), Seen::Vmas(vmas))
        }
        _ => {
            let rss = RssSeen { anon: any_envelope(u, small)?, shmem: any_envelope(u, small)?, swap: any_envelope(u, small)? };
            (Place::Rss, Seen::Rss(rss))
        }
    };
    if let Place::File(_) | Place::FilePage(..) = place {
        thread = 0;
    }
    Ok(Look { line: 0, thread, place, seen: if u.arbitrary()? { Some(seen) } else { None } })
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Scenario> {
        let mut threads = vec!["main".to_owned(), "vcpu".to_owned(), "monitor".to_owned()];
        threads.truncate(1 + byte(u)? as usize % 3);
        let initial_threads = threads.len();
        let machine = MachineSpec {
            swap: (byte(u)? & 15).into(),
            frames: if u.arbitrary()? { u.arbitrary()? } else { MachineSpec::default().frames },
            commit_limit: if u.arbitrary()? { Some((any_amount(u)? >> 1) as i64) } else { None },
            fault_around: if u.arbitrary()? { byte(u)?.into() } else { MachineSpec::default().fault_around },
            soft_dirty: u.arbitrary()?,
            memory_failure: u.arbitrary()?,
        };
        let mut s = Scenario {
            path: String::new(),
            name: String::new(),
            question: any_text(u)?,
            why: if u.arbitrary()? { any_text(u)? } else { String::new() },
            finds: (1..=byte(u)? & 3).map(|n| format!("F0{n}")).collect(),
            machine,
            threads,
            initial_threads,
            steps: Vec::new(),
            claims: Vec::new(),
        };
        fn any_call(u: &mut Unstructured, threads: &mut Vec<String>) -> Result<Call> {
            let thread = byte(u)? as usize % threads.len();
            let mut op: Op = u.arbitrary()?;
            if op == Op::Fork && threads.len() > 8 {
                op = Op::Exit;
            }
            let child = (op == Op::Fork).then(|| {
                threads.push(format!("child{}", threads.len()));
                threads.len() - 1
            });
            let injected = if byte(u)? & 15 == 0 {
                vec![Injected { site: any_of(u, SITES)?.to_owned(), nth: 1 + u16::from(byte(u)? & 3) }]
            } else {
                Vec::new()
            };
            let expect = any_expect(u, &op)?;
            Ok(Call { line: 0, thread, op, child, injected, expect })
        }
        for _ in 0..1 + byte(u)? % 12 {
            match byte(u)? & 7 {
                5 if !s.steps.is_empty() => s.steps.push(Step::Seen(any_look(u, s.threads.len())?)),
                6 => {
                    let mut call = any_call(u, &mut s.threads)?;
                    call.expect = Expect::Blocked;
                    let (thread, op) = (call.thread, call.op);
                    s.steps.push(Step::Op(call));
                    let expect = any_expect(u, &op)?;
                    s.steps.push(Step::Resumed { line: 0, thread, expect });
                }
                7 => {
                    let mut items = Vec::new();
                    for _ in 0..1 + byte(u)? % 6 {
                        if u.arbitrary()? {
                            items.push(RaceItem::Start(any_call(u, &mut s.threads)?));
                            continue;
                        }
                        let thread = byte(u)? as usize % s.threads.len();
                        let stop = match byte(u)? & 3 {
                            0 => Stop::End,
                            1 => Stop::Blocked,
                            2 => Stop::Steps(u.int_in_range(1..=99)?),
                            _ => Stop::Func {
                                name: any_word(u, &["shmem_fault", "shmem_add_to_page_cache", "zap_pte_range"])?,
                                before: if u.arbitrary()? { Some(any_of(u, TouchKind::ALL)?) } else { None },
                            },
                        };
                        items.push(RaceItem::Until { line: 0, thread, stop });
                    }
                    s.steps.push(Step::Race { line: 0, items });
                }
                _ => s.steps.push(Step::Op(any_call(u, &mut s.threads)?)),
            }
        }
        let mut left = Revision::ALL.to_vec();
        while !left.is_empty() && byte(u)? & 3 != 0 {
            let others = u.arbitrary()?;
            let revisions = if others {
                std::mem::take(&mut left)
            } else {
                let from = byte(u)? as usize % left.len();
                let to = from + 1 + byte(u)? as usize % (left.len() - from);
                left.drain(from..to).collect()
            };
            let verdict = if u.arbitrary()? {
                Verdict::Holds
            } else {
                let rules = ["blocks-accounted", "page-cache-intact", "no-data-lost"];
                Verdict::Breaks((0..1 + byte(u)? % 3).map(|_| any_word(u, &rules)).collect::<Result<_>>()?)
            };
            s.claims.push(Claim { line: 0, revisions, others, verdict });
        }
        Ok(s)
    }
}
