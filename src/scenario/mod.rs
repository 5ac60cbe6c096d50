// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios: one question, and the operations that ask it, as text.
//!
//! ```text
//! # SPDX-License-Identifier: GPL-2.0-only
//! question: Does UFFDIO_CONTINUE find a page that was reclaimed to swap?
//! why: find_lock_page() does not see swap values; the monitor gets -EFAULT
//!      although the data exist, and a guest waits for ever.
//! machine: swap=4
//! threads: main vcpu
//!
//! memfd_create("", 0) = 3
//! ftruncate(3, 8192) = 0
//! vcpu: load(0x100000) <unfinished ...>
//! read(4) = {PAGEFAULT, address=0x100000, flags=MINOR}
//! ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096}) = 0 {mapped=4096}
//! vcpu: <... resumed> = 0x41
//!
//! claims:
//!   base    breaks no-data-lost
//!   others  holds
//! ```
//!
//! # The format
//! It has lines, not statements: nothing but the text of a heading, a race and the claims goes on in the next line, and there
//! the lines that go on are indented. Empty lines are for the eye. `#` begins a comment, except in the text of `question:` and
//! `why:`, where only a line that begins with it is one. In the grammar `word...` repeats, `[...]` may be missing.
//! ```text
//! scenario  = headings  step...  [claims]
//! headings  = question: TEXT                     required
//!             why: TEXT
//!             finding: F01...
//!             machine: [swap=SLOTS] [frames=N] [commit-limit=PAGES] [fault-around=PAGES] [soft-dirty=on|off] [memory-failure=on|off]
//!             threads: NAME...                   `main` if missing
//! step      = [NAME:] call [as NAME] [fail] [end]  without NAME: the first thread; `as` names the child of fork()
//!           | NAME: <... resumed> [= result]     how the thread's unfinished call ended
//!           | race:  and indented:  item...
//!           | | [NAME] place: facts              what can be seen now; NAME: of that thread's process
//! end       = = result                           the promised answer
//!           | <unfinished ...>                   it must be blocked when everything has settled
//!                                                without either: anything
//! fail      = (INJECTED: SITE[#N], ...)          the first (the N-th) call at SITE fails during this operation
//! item      = NAME: call [as NAME] [fail] [end]  enter the call
//!           | NAME: until end                    run this thread alone until its call is over,
//!           | NAME: until blocked                until it sleeps or waits for a lock,
//!           | NAME: until step N                 for N steps between preemption points,
//!           | NAME: until FUNCTION [before WHAT] until its next step is in that kernel function (and is of that kind)
//! claims    = claims:  and indented:  who... holds
//!                                     who... breaks RULE...
//! who       = REVISION | REVISION..REVISION | others
//! ```
//! An `until` makes one step at least, so the same line twice is the second time. WHAT is one of [`TouchKind`]. A revision that
//! is claimed to hold must give every promised result; one that is claimed to break rules is not held to results. `others`
//! are all revisions that no line before it names; ranges go by [`Revision::ALL`](crate::patch::Revision::ALL).
//!
//! SITE is one of [`SITES`](crate::kernel::SITES): allocations, charges, user copies, swap I/O. For instance
//! `ioctl(4, UFFDIO_COPY, {...}) (INJECTED: shmem_alloc_page) = -1 ENOMEM {copy=-ENOMEM}`. An operation that does not come to
//! that call has not kept its promise.
//!
//! # Calls and results
//! They are written as strace prints them, and a wrong one is answered with how it should look. Numbers are decimal or 0x;
//! flags are joined by `|` and may be numbers. Fields of a struct stand in any order; `mode` and `features` are 0 if missing.
//! ```text
//! memfd_create("", MFD_ALLOW_SEALING) = 3                      mount("tmpfs", "/mnt", "tmpfs", 0, "size=8192") = 0
//! open("/mnt/a", O_RDWR|O_CREAT) = 3                           /mnt/a to z, /dev/zero, /proc/self/mem, /proc/self/fd/N
//! unlink("/mnt/a") = 0                                         close(3) = 0
//! ftruncate(3, 8192) = 0
//! fallocate(3, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE, 0, 4096) = 0
//! pwrite64(3, "A", 4096, 0) = 4096                             "A": all bytes alike; or an address
//! pread64(3, "", 4096, 0) = 4096 "A"
//!     or the watched bytes: 4096 [0x41 0x41 0x00 0x00]; `-` is past the end
//! lseek(3, 0, SEEK_DATA) = 0                                   fcntl(3, F_ADD_SEALS, F_SEAL_GROW) = 0
//! fstat(3) = 0 {st_size=8192, st_blocks=8}                     fstatfs(3) = 0 {f_blocks=4, f_bfree=3}
//! mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
//! munmap(0x100000, 4096) = 0                                   mprotect(0x100000, 4096, PROT_READ) = 0
//! mremap(0x100000, 4096, 8192, 0) = 0x100000
//! mremap(0x100000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000) = 0x400000
//! madvise(0x100000, 4096, MADV_PAGEOUT) = 0                    mincore(0x100000, 8192) = 0 [1 0]
//! mlock(0x100000, 4096) = 0                                    munlock(0x100000, 4096) = 0
//! load(0x100000) = 0x41
//!     `?`: a byte that is not watched; stale:0x41: of a frame's last owner
//! store(0x100000, 0x42) = 0                                    'B' is 0x42
//! load(0x104000) = SIGBUS                                      SIGSEGV_MAPERR, SIGSEGV_ACCERR; {si_addr=...} if not the address
//! userfaultfd(O_NONBLOCK) = 4                                  UFFD_USER_MODE_ONLY
//! ioctl(4, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_SIGBUS}) = 0
//! ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=8192, mode=UFFDIO_REGISTER_MODE_MINOR}) = 0 {ioctls=...}
//! ioctl(4, UFFDIO_COPY, {dst=0x100000, src="B", len=4096, mode=0}) = -1 EEXIST {copy=-EEXIST}
//! ioctl(4, UFFDIO_ZEROPAGE, {start=0x100000, len=4096, mode=0}) = 0 {zeropage=4096}
//! ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096, mode=0}) = 0 {mapped=4096}
//! ioctl(4, UFFDIO_WRITEPROTECT, {start=0x100000, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP}) = 0
//! ioctl(4, UFFDIO_POISON, {start=0x100000, len=4096, mode=0}) = 0 {updated=4096}
//! ioctl(4, UFFDIO_MOVE, {dst=0x100000, src=0x200000, len=4096, mode=0}) = 0 {move=4096}
//! ioctl(4, UFFDIO_WAKE, {start=0x100000, len=4096}) = 0        UFFDIO_UNREGISTER alike
//! read(4) = {PAGEFAULT, address=0x100000, flags=MINOR|WRITE}
//!     {FORK, ufd=} {REMAP, from=, to=, len=} {REMOVE, start=, end=} {UNMAP, ..}
//! poll(4) = POLLIN                                             0: nothing
//! fork() as child = child                                      exit_group(0)
//! tkill(vcpu, SIGKILL) = 0                                     SIGUSR1: has a handler
//! reclaim(3, 0)                                                what kswapd does to the page at this offset
//! swapon(4) = 0                                                a device of 4 slots; swapoff() = 0
//! ```
//! What stands behind the return value is compared if it is written, and `{}` means that nothing is written to user space.
//!
//! # What can be seen
//! A line that begins with `|` says what user space sees of one thing when everything has settled, apart from answers. It states
//! that thing whole: a fact that is not written is false, or 0. Where something cannot be seen ([`Envelope::Unseen`](crate::observe::Envelope)) it is left
//! out, and `?` is any value; neither is compared. What no line speaks of is not compared either, so a thing needs a new line only
//! when it changes.
//! ```text
//! | 3: size=8192 blocks=8 swapped=0                  fstat(2), and Swap: of an untouched mapping; by the first descriptor
//! | 3[1]: cachestat=cached seek_data=1 mincore=1 "B"   hole, cached, swapped; contents as of pread64, `-` is not looked at
//! | 0x100000: present file exclusive kpf=UDMb count=1 mincore=1 "B"
//! | 0x101000: swap uffd_wp mincore=0                 /proc/PID/pagemap: present swap file guard uffd_wp exclusive, or none
//! | maps: 0x100000-0x102000 rw-s um ui rss=1 private_dirty=1, 0x200000-0x201000 rw-p ac
//! | maps 0x100000-0x200000: none                     /proc/PID/smaps, in pages; with a range, of the mappings in it
//! | rss: anon=2 shmem=1 swap=0                       RssAnon, RssShmem, VmSwap of /proc/PID/status, in pages
//! | child 0x100000: gone                             it is not there: not mapped, not open, the process has exited
//! ```
//! `kpf` are the flags of /proc/kpageflags in the letters of page-types: U uptodate, D dirty, M mmap, a anon, s swapcache,
//! b swapbacked, u unevictable, m mlocked, z zero page. `count` is /proc/kpagecount. VMAs have `um uw ui lo ac` of VmFlags, `rss`,
//! `anonymous`, `swap`, `shared_clean` to `private_dirty`; `kinds=?`: these four may be anything.
//!
//! [`parse`] reads this, [`mod@print`] writes it in one normal form, [`generate`] makes it up.

mod ast;
mod error;
pub mod generate;
mod lex;
mod line;
pub mod look;
mod names;
pub mod parse;
pub mod print;

pub use ast::*;
pub use error::{Error, Errors, did_you_mean, unknown};

/// Every operation as it is written, for reference pages. Requests of ioctl stand on their own.
pub fn operations() -> impl Iterator<Item = &'static str> {
    let calls = names::CALLS.iter().filter(|(name, _)| *name != "ioctl");
    calls.chain(names::IOCTLS).map(|(_, usage)| *usage)
}
