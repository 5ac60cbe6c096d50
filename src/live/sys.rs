// SPDX-License-Identifier: GPL-2.0-only
//! The only unsafe code of faultline: system calls on tested memory, loads and stores that may trap, and memory that processes
//! share.
//!
//! Whatever an operation does to the tested process, it does to a process that exists for nothing else, that shares one anonymous
//! mapping with the process that watches it, and that is thrown away as soon as anything is left of what it was used for.

#![allow(unsafe_code)]

use crate::flags::MapFlags;
use crate::syscall::{Advice, FallocMode, Op, Path, UserBuf};
use libc::c_long;
use linux_raw_sys::general as raw;
use linux_raw_sys::ioctl;
use std::cell::UnsafeCell;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many bytes each letter has in [`Letters`], and how much room a call has for what it copies out.
pub(super) const ROOM: usize = 64 << 10;
/// Descriptors from here on are not the scenario's.
pub(super) const OURS: RawFd = 512;
/// The mount that `mount("tmpfs", "/mnt", ...)` made, in the tested process. It is never attached to a directory: nobody else sees
/// it, and it is gone with its last descriptor.
const MNT: RawFd = 600;
/// What an out field holds before the call, to tell whether the kernel wrote to it.
pub(super) const UNTOUCHED: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// `-errno` for a failed call, as the kernel has it.
fn result(ret: c_long) -> i64 {
    if ret == -1 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { ret }
}

fn checked(ret: impl Into<i64>) -> io::Result<i64> {
    match ret.into() {
        -1 => Err(io::Error::last_os_error()),
        ret => Ok(ret),
    }
}

/// What a call left behind, as the executor saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    /// The return value, or -errno.
    pub ret: i64,
    /// The argument structure after the call, as words; of a load the byte.
    pub words: [u64; 6],
    /// Signal, si_code and si_addr if the access trapped.
    pub trap: Trap,
}

/// A signal that an access raised.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct Trap {
    pub signal: u64,
    pub code: u64,
    pub addr: u64,
}

/// What an executor is given to do.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// An operation of a scenario. The slot of the child, if it is a fork.
    Op(Op, usize),
    /// mincore(2) of so many ranges, which are in `data`, where the answers are put, a byte a page.
    Incore(usize),
    /// Let the CPU forget what it knows of page tables.
    FlushTlb,
    /// Give up every descriptor and every mapping that a scenario may have left.
    Tidy,
}

/// Of so many ranges at once.
pub(super) const RANGES: usize = 64;
/// What mincore said of a page is unknown.
pub(super) const UNKNOWN: u8 = 0xff;

/// How many jobs an executor can be given at once.
pub(super) const QUEUE: usize = 32;

/// Where one executor gets its work from, and leaves what came of it. Jobs are numbered from 1 on.
pub(super) struct Slot {
    /// Number of the newest job. The executor sleeps on it.
    job: AtomicU32,
    /// Number of the newest job that is done.
    done: AtomicU32,
    tid: AtomicU32,
    pid: AtomicU32,
    /// By the number of the job, round and round.
    given: [UnsafeCell<MaybeUninit<Job>>; QUEUE],
    raw: [UnsafeCell<MaybeUninit<Raw>>; QUEUE],
    data: UnsafeCell<[u8; ROOM]>,
}

// SAFETY: `given` is written only by the watcher, and only while no job is open; it is read only by the executor, after it has seen
// the new job number. `raw` goes the other way, with `done`; `data` goes both ways. The numbers are stored with Release and loaded
// with Acquire.
unsafe impl Sync for Slot {}

impl Slot {
    /// Give the executor something to do, not more than [`QUEUE`] jobs. False if it is still busy.
    pub fn post(&self, jobs: &[Job]) -> bool {
        if self.is_busy() {
            return false;
        }
        let last = self.job.load(Ordering::Relaxed);
        for (n, job) in (last.wrapping_add(1)..).zip(jobs.iter().take(QUEUE)) {
            // SAFETY: no job is open, so the executor does not look at it; Job owns no memory, so a copy in another process is
            // whole.
            unsafe { (*self.given[n as usize % QUEUE].get()).write(job.clone()) };
        }
        self.job.fetch_add(jobs.len().min(QUEUE) as u32, Ordering::Release);
        futex(&self.job, libc::FUTEX_WAKE, 1);
        true
    }

    /// Take back the jobs that the executor has not begun. It must be known not to run: it reads the number of the newest job only
    /// between jobs.
    pub fn retract(&self) {
        if self.is_busy() {
            self.job.store(self.done.load(Ordering::Acquire).wrapping_add(1), Ordering::Release);
        }
    }

    /// Is a job open?
    pub fn is_busy(&self) -> bool {
        self.done.load(Ordering::Acquire) != self.job.load(Ordering::Acquire)
    }

    /// Number of the newest job that is done.
    pub fn done(&self) -> u32 {
        self.done.load(Ordering::Acquire)
    }

    /// What came of a job that is done, one of the last [`QUEUE`].
    pub fn raw(&self, job: u32) -> Option<Raw> {
        let done = self.done();
        // SAFETY: the job was done, so `raw` was written, and it is not being written: a job of the same place would have to be
        // open, and the watcher, who asks, has not posted one.
        (job > 0 && job <= done && done - job < QUEUE as u32)
            .then(|| unsafe { (*self.raw[job as usize % QUEUE].get()).assume_init() })
    }

    /// The first `n` bytes that the last job copied out.
    pub fn data(&self, n: usize) -> Vec<u8> {
        // SAFETY: as for `take`; bytes have no invalid values.
        unsafe { (&(*self.data.get()))[..n.min(ROOM)].to_vec() }
    }

    /// Have mincore(2) called for some ranges, not more than [`RANGES`], of not more than [`ROOM`] pages. What it says comes in
    /// [`data`](Slot::data), a byte a page. False if the executor is still busy.
    pub fn post_incore(&self, ranges: &[(u64, u64)]) -> bool {
        self.post(&[self.put_ranges(ranges)])
    }

    /// The job that asks for these, not more than [`RANGES`]; to be posted only if the executor is idle.
    pub fn put_ranges(&self, ranges: &[(u64, u64)]) -> Job {
        let n = ranges.len().min(RANGES);
        if !self.is_busy() {
            // SAFETY: no job is open, so the executor does not look at it; the ranges fit, byte by byte.
            unsafe {
                std::ptr::copy_nonoverlapping(ranges.as_ptr().cast::<u8>(), self.data.get().cast(), n * size_of::<(u64, u64)>())
            };
        }
        Job::Incore(n)
    }

    /// The executor's thread number; 0 while there is none.
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Acquire)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Acquire)
    }

    /// Forget who worked here.
    pub fn reset(&self) {
        for word in [&self.job, &self.done, &self.tid, &self.pid] {
            word.store(0, Ordering::Release);
        }
    }
}

fn futex(word: &AtomicU32, op: i32, value: u32) {
    // SAFETY: the word lives as long as the call; the kernel only reads it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, value, 0usize) };
}

/// The slots, in memory that all processes share.
pub(super) struct Slots(&'static [Slot]);

impl Clone for Slots {
    fn clone(&self) -> Slots {
        Slots(self.0)
    }
}

impl Slots {
    /// So many. They are never freed: there is one set a worker.
    pub fn new(n: usize) -> io::Result<Slots> {
        let len = n * size_of::<Slot>();
        // SAFETY: a new anonymous mapping; all-zero bytes are a valid Slot.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // Resident for good: the tested process must not fault on it in the middle of a measurement.
            libc::madvise(at, len, libc::MADV_POPULATE_WRITE);
            Ok(Slots(std::slice::from_raw_parts(at.cast(), n)))
        }
    }
}

impl std::ops::Deref for Slots {
    type Target = [Slot];
    fn deref(&self) -> &[Slot] {
        self.0
    }
}

/// Memory of the program itself, [`ROOM`] bytes of each letter: what a `"B"` in a scenario stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letters(u64);

impl Letters {
    /// Map it. A file in memory is behind it, so that a fork copies no page tables.
    pub fn new() -> io::Result<Letters> {
        let len = ROOM * 256;
        // SAFETY: a new mapping of a new file, written only here.
        unsafe {
            let fd = checked(libc::memfd_create(c"letters".as_ptr(), libc::MFD_CLOEXEC))? as RawFd;
            let file = OwnedFd::from_raw_fd(fd);
            checked(libc::ftruncate(file.as_raw_fd(), len as i64))?;
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
            let at = libc::mmap(std::ptr::null_mut(), len, prot, flags, file.as_raw_fd(), 0);
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            for letter in 0..256 {
                std::ptr::write_bytes(at.cast::<u8>().add(letter * ROOM), letter as u8, ROOM);
            }
            Ok(Letters(at as u64))
        }
    }
}

/// Close every descriptor above the standard ones but this one, which moves to [`OURS`].
pub(super) fn keep_only(fd: OwnedFd) -> io::Result<OwnedFd> {
    let kept = aside(fd)?;
    let kept_fd = kept.as_raw_fd() as u32;
    // SAFETY: nothing in this process uses the others any more: it was just forked.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, kept_fd - 1, 0u32);
        libc::syscall(libc::SYS_close_range, kept_fd + 1, u32::MAX, 0u32);
    }
    Ok(kept)
}

/// Wait until one of these can be read or its other end is gone, but not longer. True where that is so.
pub(super) fn readable(fds: &[RawFd], timeout_ms: i32) -> Vec<bool> {
    let mut polled: Vec<libc::pollfd> = fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: the vector has as many entries as are said.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, timeout_ms) };
    polled.iter().map(|p| p.revents != 0).collect()
}

/// A process after fork.
pub(super) enum Forked {
    Parent(u32),
    Child,
}

/// fork(2).
pub(super) fn fork() -> io::Result<Forked> {
    // SAFETY: whoever calls this has one thread, or goes on in the child with nothing but its own executor's loop.
    match checked(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// End at once, without destructors.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// Die with the parent.
pub(super) fn die_with_parent() {
    // SAFETY: only sets a flag of the process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// A process group of its own: a terminal's ^C does not reach it.
pub(super) fn leave_group() {
    // SAFETY: only numbers.
    unsafe { libc::setpgid(0, 0) };
}

/// A session of its own, and no signal but SIGKILL ends it.
pub(super) fn leave_session() {
    // SAFETY: only numbers; SIG_IGN is no handler.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// The name in process lists.
pub(super) fn rename(name: &std::ffi::CStr) {
    // SAFETY: the string lives long enough.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Standard input, output and error go nowhere: nobody waits for this process to let go of them.
pub(super) fn without_terminal() {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for fd in 0..3 {
            // SAFETY: only numbers.
            unsafe { libc::dup2(null.as_raw_fd(), fd) };
        }
    }
}

/// Take the lock of a file, if nobody else has it. It is given up with the last descriptor.
pub(super) fn lock(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: only numbers.
    unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Make debugfs visible at its usual place, to this process only, if it is not.
pub(super) fn see_debugfs(at: &std::path::Path) {
    if std::fs::read_dir(at).is_ok_and(|mut dir| dir.next().is_some()) {
        return;
    }
    let Ok(at) = c_path(at) else { return };
    // SAFETY: constant strings; the tree is made private first. If it does not work, whoever wants to see it will say so.
    unsafe {
        let none = std::ptr::null();
        if libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
        {
            libc::mount(c"debugfs".as_ptr(), at.as_ptr(), c"debugfs".as_ptr(), 0, none.cast());
        }
    }
}

static INTERRUPTED: AtomicU32 = AtomicU32::new(0);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(1, Ordering::Relaxed);
}

/// SIGINT is noticed from now on, and ends nothing by itself.
pub(super) fn notice_interrupts() {
    // SAFETY: the handler only sets a flag.
    unsafe { libc::signal(libc::SIGINT, interrupt as *const () as usize) };
}

/// Has there been one?
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) != 0
}

/// From now on children live in a PID namespace of their own, whose first process takes all others along when it dies. Gives what
/// [`back_to_pids`] needs.
pub(super) fn new_pids() -> io::Result<std::fs::File> {
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    // SAFETY: only numbers.
    checked(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
    Ok(own)
}

/// Children live in this process's own PID namespace again.
pub(super) fn back_to_pids(own: &std::fs::File) -> io::Result<()> {
    // SAFETY: only numbers.
    checked(unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWPID) }).map(|_| ())
}

/// A mount namespace of its own, with the /proc of this process's PID namespace.
pub(super) fn own_proc() -> io::Result<()> {
    // SAFETY: constant strings; nothing is mounted in anybody else's namespace, for the tree is made private first.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        checked(libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        checked(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, none.cast()))?;
    }
    Ok(())
}

/// Send a signal to a process, or with a negative number to a group.
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: only numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Wait for a child. With `block` until it has ended; else None if it has not. -1 is any child.
pub(super) fn wait(pid: i32, block: bool) -> Option<u32> {
    // SAFETY: no status is asked for.
    let got = unsafe { libc::waitpid(pid, std::ptr::null_mut(), if block { 0 } else { libc::WNOHANG }) };
    (got > 0).then_some(got as u32)
}

/// Stay on one CPU.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is initialised, and its size is given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        checked(libc::sched_setaffinity(0, size_of_val(&set), &set)).map(|_| ())
    }
}

/// The CPUs that may be used.
pub(super) fn cpus() -> Vec<usize> {
    // SAFETY: the set is initialised, and its size is given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
            return vec![0];
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Run before everything that is not urgent, taking turns with whatever else is; or like everybody else again. Where that is not
/// allowed, nothing changes.
pub(super) fn urgent(urgent: bool) {
    let param = libc::sched_param { sched_priority: i32::from(urgent) };
    // SAFETY: the structure is initialised.
    unsafe { libc::sched_setscheduler(0, if urgent { libc::SCHED_RR } else { libc::SCHED_OTHER }, &param) };
}

/// The process is killed when it has been urgent for so long without ever waiting.
pub(super) fn bound_urgency(seconds: u64) {
    let limit = libc::rlimit { rlim_cur: seconds * 1_000_000, rlim_max: seconds * 1_000_000 };
    // SAFETY: the structure is initialised.
    unsafe { libc::setrlimit(libc::RLIMIT_RTTIME, &limit) };
}

/// Let others run.
pub(super) fn sched_yield() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// The effective user is root.
pub(super) fn is_root() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() == 0 }
}

/// The release of the running kernel.
pub(super) fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// The tested process begins: no descriptors but the standard ones, and traps are caught.
pub(super) fn begin_tested() {
    // SAFETY: descriptors that the watcher uses are its own copies; the handlers only change registers of the tiny functions below,
    // or do nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = trapped as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        action.sa_sigaction = signalled as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        // Nobody waits for the children of forks: they are gone when they have ended.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
}

extern "C" fn signalled(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {}

/// An access trapped: say how, and go on behind it. Any other trap is a mistake of ours, and ends the process.
extern "C" fn trapped(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives valid pointers. At the first instruction of either function the second argument is still in RSI,
    // and it points to a Trap of the caller; `landing` returns to that caller, for the functions have not touched the stack.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as u64;
        if at != load_byte as *const () as u64 && at != store_byte as *const () as u64 {
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        let trap = registers[libc::REG_RSI as usize] as *mut Trap;
        *trap = Trap { signal: signal as u64, code: (*info).si_code as u64, addr: (*info).si_addr() as u64 };
        registers[libc::REG_RIP as usize] = landing as *const () as i64;
    }
}

/// A load. Nothing else is in the function: a trap in its first instruction is a trap of the access.
#[unsafe(naked)]
unsafe extern "C" fn load_byte(addr: u64, trap: *mut Trap) -> u64 {
    std::arch::naked_asm!("movzx eax, byte ptr [rdi]", "ret")
}

/// A store.
#[unsafe(naked)]
unsafe extern "C" fn store_byte(addr: u64, trap: *mut Trap, value: u64) -> u64 {
    std::arch::naked_asm!("mov byte ptr [rdi], dl", "ret")
}

/// Where an access goes on that trapped.
#[unsafe(naked)]
unsafe extern "C" fn landing() {
    std::arch::naked_asm!("ret")
}

/// Wait for the next job in this slot, do it. Gives the slot to go on with: another one in the child of a fork.
pub(super) fn work(slots: &Slots, letters: Letters, me: usize) -> usize {
    let slot = &slots[me];
    loop {
        let job = slot.job.load(Ordering::Acquire);
        if job != slot.done.load(Ordering::Relaxed) {
            break;
        }
        futex(&slot.job, libc::FUTEX_WAIT, job);
    }
    let n = slot.done.load(Ordering::Relaxed).wrapping_add(1) as usize % QUEUE;
    // SAFETY: a job is open: the watcher has written `given`, and leaves `given`, `raw` and `data` alone until it is done.
    let (job, data) = unsafe { ((*slot.given[n].get()).assume_init_ref().clone(), (*slot.data.get()).as_mut_ptr()) };
    let raw = match job {
        Job::Op(op, child) => {
            let tid_of = |task: u8| slots.get(task as usize).map_or(0, Slot::tid);
            let raw = perform(&op, letters, data as u64, tid_of);
            if op == Op::Fork && raw.ret == 0 {
                die_with_parent_not();
                announce(&slots[child]);
                return child;
            }
            drain_batches();
            raw
        }
        Job::Incore(n) => incore(n, data),
        Job::FlushTlb => flush_tlb(),
        Job::Tidy => tidy(),
    };
    // SAFETY: as above.
    unsafe { (*slot.raw[n].get()).write(raw) };
    slot.done.fetch_add(1, Ordering::Release);
    me
}

/// mincore(2) of the first `n` ranges in `data`. What it says is put there, a byte a page.
fn incore(n: usize, data: *mut u8) -> Raw {
    let mut ranges = [(0u64, 0u64); RANGES];
    let n = n.min(RANGES);
    // SAFETY: `data` is this executor's while the job is open, and has ROOM bytes; mincore writes a byte a page.
    unsafe {
        std::ptr::copy_nonoverlapping(data, ranges.as_mut_ptr().cast::<u8>(), n * size_of_val(&ranges[0]));
        let mut at = 0;
        for &(addr, pages) in &ranges[..n] {
            let pages = (pages as usize).min(ROOM - at);
            std::ptr::write_bytes(data.add(at), UNKNOWN, pages);
            libc::syscall(libc::SYS_mincore, addr, pages << 12, data.add(at));
            at += pages;
        }
    }
    Raw { ret: 0, words: [0; 6], trap: Trap::default() }
}

/// Descriptors first: what waits for somebody to read an event waits no more when that descriptor is closed.
fn tidy() -> Raw {
    // SAFETY: everything below END and every descriptor above the standard ones is the scenario's; nothing of the program itself
    // is there.
    let ret = unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
        result(libc::syscall(libc::SYS_munmap, 0usize, super::observe::END))
    };
    Raw { ret, words: [0; 6], trap: Trap::default() }
}

/// The child of a fork outlives the thread that forked it, as in any scenario: the process group and the PID namespace end it.
fn die_with_parent_not() {
    // SAFETY: only sets a flag of the process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
}

/// Say who works in this slot.
pub(super) fn announce(slot: &Slot) {
    // SAFETY: no arguments.
    let (pid, tid) = unsafe { (libc::getpid() as u32, libc::gettid() as u32) };
    slot.pid.store(pid, Ordering::Release);
    slot.tid.store(tid, Ordering::Release);
}

fn advice(advice: Advice) -> i64 {
    use Advice::*;
    match advice {
        MADV_DONTNEED => 4,
        MADV_REMOVE => 9,
        MADV_PAGEOUT => 21,
        MADV_COLD => 20,
        MADV_WILLNEED => 3,
        MADV_POPULATE_READ => 22,
        MADV_POPULATE_WRITE => 23,
        MADV_DONTFORK => 10,
        MADV_DOFORK => 11,
        MADV_WIPEONFORK => 18,
        MADV_KEEPONFORK => 19,
        MADV_DONTNEED_LOCKED => 24,
        MADV_GUARD_INSTALL => 102,
        MADV_GUARD_REMOVE => 103,
    }
}

/// Carry out one operation in the calling thread. `data` is [`ROOM`] bytes for what is copied out.
fn perform(op: &Op, letters: Letters, data: u64, tid_of: impl Fn(u8) -> u32) -> Raw {
    let from = |buf: UserBuf| match buf {
        UserBuf::Addr(addr) => addr,
        UserBuf::Fill(letter) => letters.0 + letter as u64 * ROOM as u64,
    };
    let to = |buf: UserBuf| match buf {
        UserBuf::Addr(addr) => addr,
        UserBuf::Fill(_) => data,
    };
    let mut out = Raw { ret: 0, words: [UNTOUCHED; 6], trap: Trap::default() };
    let w = &mut out.words;
    // SAFETY: the calls act on tested memory and on descriptors of the tested process, with whatever arguments the scenario has;
    // the structures and buffers that are ours are large enough for what each call writes.
    out.ret = unsafe {
        let call = |nr: c_long, a: u64, b: u64, c: u64, d: u64| result(libc::syscall(nr, a, b, c, d, 0u64, 0u64));
        let ioctl = |fd: u8, nr: u32, words: &mut [u64; 6]| {
            result(libc::syscall(libc::SYS_ioctl, fd as u64, nr as u64, words.as_mut_ptr(), 0u64, 0u64, 0u64))
        };
        match *op {
            Op::Load { addr } => {
                w[0] = load_byte(addr, &mut out.trap);
                0
            }
            Op::Store { addr, value } => {
                store_byte(addr, &mut out.trap, value as u64);
                0
            }
            Op::MemfdCreate { sealing } => {
                call(libc::SYS_memfd_create, c"".as_ptr() as u64, if sealing { libc::MFD_ALLOW_SEALING as u64 } else { 0 }, 0, 0)
            }
            Op::Mount { size } => mount_tmpfs(size),
            Op::Open { path, read, write, creat } => {
                let mut flags = match (read, write) {
                    (true, true) => libc::O_RDWR,
                    (false, true) => libc::O_WRONLY,
                    _ => libc::O_RDONLY,
                };
                if creat {
                    flags |= libc::O_CREAT;
                }
                // No memory is allocated here: another thread may be in a fork that lasts.
                let (dir, name) = match path {
                    Path::Mnt(letter) => (MNT, on_stack(format_args!("{}", letter as char))),
                    Path::DevZero => (libc::AT_FDCWD, on_stack(format_args!("/dev/zero"))),
                    Path::ProcSelfMem => (libc::AT_FDCWD, on_stack(format_args!("/proc/self/mem"))),
                    Path::ProcSelfFd(fd) => (libc::AT_FDCWD, on_stack(format_args!("/proc/self/fd/{fd}"))),
                };
                match call(libc::SYS_openat, dir as u64, name.as_ptr() as u64, flags as u64, 0o600) {
                    // There is no /mnt to look in.
                    e if e == -i64::from(libc::EBADF) && dir == MNT => -i64::from(libc::ENOENT),
                    ret => ret,
                }
            }
            Op::Unlink { name } => {
                let name = [name, 0];
                match call(libc::SYS_unlinkat, MNT as u64, name.as_ptr() as u64, 0, 0) {
                    e if e == -i64::from(libc::EBADF) => -i64::from(libc::ENOENT),
                    ret => ret,
                }
            }
            Op::Close { fd } => call(libc::SYS_close, fd.into(), 0, 0, 0),
            Op::Ftruncate { fd, length } => call(libc::SYS_ftruncate, fd.into(), length, 0, 0),
            Op::Fallocate { fd, mode, offset, len } => {
                let mode = match mode {
                    FallocMode::ALLOC => 0,
                    FallocMode::KEEP_SIZE => libc::FALLOC_FL_KEEP_SIZE,
                    FallocMode::PUNCH_HOLE => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    FallocMode::ZERO_RANGE => libc::FALLOC_FL_ZERO_RANGE,
                };
                call(libc::SYS_fallocate, fd.into(), mode as u64, offset, len)
            }
            Op::Pread { fd, buf, count, offset } => call(libc::SYS_pread64, fd.into(), to(buf), count, offset),
            Op::Pwrite { fd, buf, count, offset } => call(libc::SYS_pwrite64, fd.into(), from(buf), count, offset),
            Op::Lseek { fd, offset, data } => {
                let whence = if data { libc::SEEK_DATA } else { libc::SEEK_HOLE };
                call(libc::SYS_lseek, fd.into(), offset, whence as u64, 0)
            }
            Op::AddSeals { fd, seals } => call(libc::SYS_fcntl, fd.into(), libc::F_ADD_SEALS as u64, seals.bits().into(), 0),
            Op::Fstat { fd } => {
                let mut stat: libc::stat = std::mem::zeroed();
                let ret = result(libc::fstat(fd.into(), &mut stat).into());
                (w[0], w[1]) = (stat.st_size as u64, stat.st_blocks as u64);
                ret
            }
            Op::Fstatfs { fd } => {
                let mut stat: libc::statfs = std::mem::zeroed();
                let ret = result(libc::fstatfs(fd.into(), &mut stat).into());
                (w[0], w[1]) = (stat.f_blocks, stat.f_bfree);
                ret
            }
            Op::Mmap { addr, len, prot, flags, fd, offset } => {
                let fd = fd.map_or(-1i64, i64::from);
                let (prot, flags) = (u64::from(prot.bits()), map_flags(flags));
                result(libc::syscall(libc::SYS_mmap, addr, len, prot, flags, fd, offset))
            }
            Op::Munmap { addr, len } => call(libc::SYS_munmap, addr, len, 0, 0),
            Op::Mprotect { addr, len, prot } => call(libc::SYS_mprotect, addr, len, prot.bits().into(), 0),
            Op::Mremap { old, old_len, new_len, new, dontunmap } => {
                let flags = match (new, dontunmap) {
                    (None, _) => 0,
                    (Some(_), false) => libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    (Some(_), true) => libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP,
                };
                result(libc::syscall(libc::SYS_mremap, old, old_len, new_len, flags as u64, new.unwrap_or(0), 0u64))
            }
            Op::Madvise { addr, len, advice: what } => call(libc::SYS_madvise, addr, len, advice(what) as u64, 0),
            Op::Mlock { addr, len } => call(libc::SYS_mlock, addr, len, 0, 0),
            Op::Munlock { addr, len } => call(libc::SYS_munlock, addr, len, 0, 0),
            Op::Mincore { addr, len } => call(libc::SYS_mincore, addr, len, data, 0),
            Op::Userfaultfd { nonblock, user_mode_only } => {
                let flags = if nonblock { libc::O_NONBLOCK as u64 } else { 0 } | u64::from(user_mode_only);
                call(libc::SYS_userfaultfd, flags, 0, 0, 0)
            }
            Op::UffdApi { fd, api, features } => {
                (w[0], w[1]) = (api, features);
                ioctl(fd, ioctl::UFFDIO_API, w)
            }
            Op::UffdRegister { fd, start, len, mode } => {
                (w[0], w[1], w[2]) = (start, len, mode);
                ioctl(fd, ioctl::UFFDIO_REGISTER, w)
            }
            Op::UffdUnregister { fd, start, len } => {
                (w[0], w[1]) = (start, len);
                ioctl(fd, ioctl::UFFDIO_UNREGISTER, w)
            }
            Op::UffdWake { fd, start, len } => {
                (w[0], w[1]) = (start, len);
                ioctl(fd, ioctl::UFFDIO_WAKE, w)
            }
            Op::UffdCopy { fd, dst, src, len, mode } => {
                (w[0], w[1], w[2], w[3]) = (dst, from(src), len, mode);
                ioctl(fd, ioctl::UFFDIO_COPY, w)
            }
            Op::UffdZeropage { fd, start, len, mode } => {
                (w[0], w[1], w[2]) = (start, len, mode);
                ioctl(fd, ioctl::UFFDIO_ZEROPAGE, w)
            }
            Op::UffdContinue { fd, start, len, mode } => {
                (w[0], w[1], w[2]) = (start, len, mode);
                ioctl(fd, ioctl::UFFDIO_CONTINUE, w)
            }
            Op::UffdPoison { fd, start, len, mode } => {
                (w[0], w[1], w[2]) = (start, len, mode);
                ioctl(fd, UFFDIO_POISON, w)
            }
            Op::UffdMove { fd, dst, src, len, mode } => {
                (w[0], w[1], w[2], w[3]) = (dst, src, len, mode);
                ioctl(fd, UFFDIO_MOVE, w)
            }
            Op::UffdWriteprotect { fd, start, len, mode } => {
                (w[0], w[1], w[2]) = (start, len, mode);
                ioctl(fd, ioctl::UFFDIO_WRITEPROTECT, w)
            }
            Op::UffdRead { fd } => call(libc::SYS_read, fd.into(), w.as_mut_ptr() as u64, size_of::<raw::uffd_msg>() as u64, 0),
            Op::Poll { fd } => {
                let mut poll = libc::pollfd { fd: fd.into(), events: libc::POLLIN, revents: 0 };
                let ret = result(libc::poll(&mut poll, 1, 0).into());
                w[0] = poll.revents as u64;
                // poll itself does not know a closed descriptor as an error.
                if poll.revents & libc::POLLNVAL != 0 { -i64::from(libc::EBADF) } else { ret }
            }
            // Not the library's fork: it takes the locks of malloc, and keeps them while an event waits to be read.
            Op::Fork => call(libc::SYS_fork, 0, 0, 0, 0),
            Op::Exit => libc::_exit(0),
            Op::Kill { task, fatal } => {
                let signal = if fatal { libc::SIGKILL } else { libc::SIGUSR1 };
                match tid_of(task) {
                    0 => -i64::from(libc::ESRCH),
                    tid => call(libc::SYS_tkill, tid.into(), signal as u64, 0, 0),
                }
            }
            // Not by the tested process: the watcher does these.
            Op::Reclaim { .. } | Op::Swapon { .. } | Op::Swapoff => -i64::from(libc::ENOSYS),
        }
    };
    out
}

/// `_IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)`, which linux-raw-sys does not have.
const UFFDIO_POISON: u32 = 3 << 30 | (size_of::<raw::uffdio_poison>() as u32) << 16 | raw::UFFDIO << 8 | raw::_UFFDIO_POISON;

/// `_IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)`, which it has not either.
const UFFDIO_MOVE: u32 = 3 << 30 | (size_of::<raw::uffdio_move>() as u32) << 16 | raw::UFFDIO << 8 | raw::_UFFDIO_MOVE;

/// A short string that ends with a zero byte.
fn on_stack(text: std::fmt::Arguments<'_>) -> [u8; 48] {
    let mut out = [0; 48];
    // What does not fit is cut off; the last byte stays zero.
    let _ = io::Write::write_fmt(&mut &mut out[..47], text);
    out
}

fn map_flags(flags: MapFlags) -> u64 {
    flags.bits().into()
}

/// A tmpfs that is attached nowhere, under the descriptor [`MNT`].
fn mount_tmpfs(size: u64) -> i64 {
    // SAFETY: strings that live long enough; descriptors made here.
    unsafe {
        if libc::fcntl(MNT, libc::F_GETFD) != -1 {
            return -i64::from(libc::EBUSY);
        }
        let fs = result(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1));
        if fs < 0 {
            return fs;
        }
        let size = on_stack(format_args!("{size}"));
        // FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE.
        let mut ret = result(libc::syscall(libc::SYS_fsconfig, fs, 1, c"size".as_ptr(), size.as_ptr(), 0));
        if ret >= 0 {
            ret = result(libc::syscall(libc::SYS_fsconfig, fs, 6, 0usize, 0usize, 0));
        }
        if ret >= 0 {
            ret = result(libc::syscall(libc::SYS_fsmount, fs, 1, 0));
        }
        if ret >= 0 {
            let mnt = ret as RawFd;
            ret = result(libc::dup3(mnt, MNT, libc::O_CLOEXEC).into()).min(0);
            libc::close(mnt);
        }
        libc::close(fs as RawFd);
        ret
    }
}

/// `PROCMAP_QUERY` (6.11): the mapping of a process that covers this address or is the first one above, by its `/proc/PID/maps`.
pub(super) fn mapping_from(maps: BorrowedFd<'_>, addr: u64) -> io::Result<Option<raw::procmap_query>> {
    // SAFETY: all-zero is a valid query, which asks for no name; its size is given.
    unsafe {
        let mut query: raw::procmap_query = std::mem::zeroed();
        query.size = size_of::<raw::procmap_query>() as u64;
        query.query_flags = raw::procmap_query_flags::PROCMAP_QUERY_COVERING_OR_NEXT_VMA as u64;
        query.query_addr = addr;
        match checked(libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &mut query)) {
            Ok(_) => Ok(Some(query)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::Ioctl =
    (3 << 30 | (size_of::<raw::procmap_query>() as libc::Ioctl) << 16) | (b'f' as libc::Ioctl) << 8 | 17;

/// A mapping that is looked through and never touched.
#[derive(Debug)]
pub(super) struct Eye {
    at: u64,
    len: u64,
}

impl Eye {
    /// Map a file read-only at a place where nothing else is.
    pub fn open(fd: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<Eye> {
        // SAFETY: a new mapping, at a place where nothing is; no reference to it is ever made.
        let got = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
            libc::mmap(at as *mut libc::c_void, len as usize, libc::PROT_READ, flags, fd.as_raw_fd(), 0)
        };
        if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Eye { at, len }) }
    }

    /// First byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// mincore(2) of the first `pages` pages.
    pub fn mincore(&self, pages: usize) -> io::Result<Vec<bool>> {
        let mut out = vec![0u8; pages];
        // SAFETY: the mapping is ours; the vector has a byte for each page.
        checked(unsafe { libc::mincore(self.at as *mut libc::c_void, pages << 12, out.as_mut_ptr()) })?;
        Ok(out.into_iter().map(|b| b & 1 != 0).collect())
    }
}

/// Swap one page of a file out: map it alone, so that no fault maps its neighbours, and give it up. False if somebody else has it
/// mapped, which `alone` finds out by the address here.
pub(super) fn pageout(fd: BorrowedFd<'_>, index: u64, alone: impl FnOnce(u64) -> bool) -> io::Result<bool> {
    // SAFETY: a new mapping, which is gone before this returns.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), (index << 12) as i64);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let done = checked(libc::madvise(at, 4096, libc::MADV_POPULATE_READ)).and_then(|_| match alone(at as u64) {
            true => checked(libc::madvise(at, 4096, libc::MADV_PAGEOUT)).map(|_| true),
            false => Ok(false),
        });
        libc::munmap(at, 4096);
        done
    }
}

impl Drop for Eye {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it.
        unsafe { libc::munmap(self.at as *mut libc::c_void, self.len as usize) };
    }
}

/// cachestat(2): pages in the cache, and pages evicted. For shared memory the latter are in swap.
pub(super) fn cachestat(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<(u64, u64)> {
    let range = raw::cachestat_range { off: offset, len };
    // SAFETY: both structures are whole; all-zero is a valid cachestat.
    unsafe {
        let mut stat: raw::cachestat = std::mem::zeroed();
        checked(libc::syscall(raw::__NR_cachestat as c_long, fd.as_raw_fd(), &range, &mut stat, 0u32))?;
        Ok((stat.nr_cache, stat.nr_evicted))
    }
}

/// Is the file on a tmpfs?
pub(super) fn is_tmpfs(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: the structure is whole; all-zero is valid.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        libc::fstatfs(fd.as_raw_fd(), &mut stat) == 0 && stat.f_type == libc::TMPFS_MAGIC
    }
}

/// Which of these processes have ended, with all their threads?
pub(super) fn ended(pidfds: &[BorrowedFd<'_>]) -> Vec<bool> {
    let fds: Vec<RawFd> = pidfds.iter().map(AsRawFd::as_raw_fd).collect();
    readable(&fds, 0)
}

/// The size of a file, without fstat.
pub(super) fn size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: only numbers.
    checked(unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_END) }).map(|at| at as u64)
}

/// lseek(2) with SEEK_DATA: the next offset with data.
pub(super) fn seek_data(fd: BorrowedFd<'_>, offset: u64) -> io::Result<u64> {
    // SAFETY: only numbers.
    checked(unsafe { libc::lseek(fd.as_raw_fd(), offset as i64, libc::SEEK_DATA) }).map(|at| at as u64)
}

/// A descriptor for a process, to give advice on its memory and to wait for its end.
pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: only numbers; the descriptor is new, and ours.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::syscall(libc::SYS_pidfd_open, pid, 0u32))? as RawFd)) }
}

/// What [`flush_tlb`] works on, and how long it is: the kernel flushes more than 33 pages as a whole.
const FORGOTTEN: u64 = super::observe::END + (1 << 20);
const FORGOTTEN_LEN: usize = 64 << 12;

/// Map what this module needs in a tested process: a page without contents at [`END`](super::observe::END), for [`drain_batches`], and
/// memory for [`flush_tlb`].
pub(super) fn map_helpers() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let map = |at: u64, len: usize, prot: i32| {
        // SAFETY: a new mapping where nothing is.
        unsafe { libc::mmap(at as *mut libc::c_void, len, prot, flags, -1, 0) };
    };
    map(super::observe::END, 4096, libc::PROT_NONE);
    map(FORGOTTEN, FORGOTTEN_LEN, libc::PROT_READ | libc::PROT_WRITE);
}

/// Make the CPU forget what it knows of this process's page tables: take the right to write away from two pages that are far apart.
fn flush_tlb() -> Raw {
    let at = FORGOTTEN as *mut u8;
    // SAFETY: the mapping is ours, and nothing refers to it.
    let ret = unsafe {
        at.write_volatile(1);
        at.add(FORGOTTEN_LEN - 1).write_volatile(1);
        let ret = libc::mprotect(at.cast(), FORGOTTEN_LEN, libc::PROT_READ);
        libc::mprotect(at.cast(), FORGOTTEN_LEN, libc::PROT_READ | libc::PROT_WRITE);
        result(ret.into())
    };
    Raw { ret, words: [0; 6], trap: Trap::default() }
}

/// Let this CPU do what it has put off: pages on their way to the LRU, and what mlock counts. (lru_add_drain(), which MADV_COLD
/// begins with, also where there is nothing to cool.) What is put off is done in another order than it was asked for: a page that is
/// unmapped from locked memory and mapped there again is no longer PG_mlocked if that was never done in between.
pub(super) fn drain_batches() {
    // SAFETY: only numbers; the page there has no contents.
    unsafe { libc::madvise(super::observe::END as *mut libc::c_void, 4096, libc::MADV_COLD) };
}

/// MADV_PAGEOUT on a page of another process.
pub(super) fn pageout_of(pidfd: BorrowedFd<'_>, addr: u64) -> io::Result<()> {
    let range = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: 4096 };
    // SAFETY: the range is only an address in the other process.
    let nr = libc::SYS_process_madvise;
    checked(unsafe { libc::syscall(nr, pidfd.as_raw_fd(), &range, 1usize, libc::MADV_PAGEOUT, 0u32) }).map(|_| ())
}

/// swapon(2), before every other swap device (SWAP_FLAG_PREFER and the highest priority).
pub(super) fn swapon(path: &std::path::Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the string lives long enough.
    checked(unsafe { libc::swapon(path.as_ptr(), 0x8000 | 0x7fff) }).map(|_| ())
}

/// swapoff(2).
pub(super) fn swapoff(path: &std::path::Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the string lives long enough.
    checked(unsafe { libc::swapoff(path.as_ptr()) }).map(|_| ())
}

fn c_path(path: &std::path::Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Move a descriptor to [`OURS`] or above, where it is not in a scenario's way.
pub(super) fn aside(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: only numbers; the descriptor is new, and ours.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, OURS))? as RawFd)) }
}

/// Is a userfaultfd to be had? The error says why not.
pub(super) fn try_userfaultfd() -> io::Result<()> {
    // SAFETY: only numbers; the descriptor is new, and closed again.
    unsafe {
        let fd = checked(libc::syscall(libc::SYS_userfaultfd, libc::O_NONBLOCK))?;
        drop(OwnedFd::from_raw_fd(fd as RawFd));
    }
    Ok(())
}
