// SPDX-License-Identifier: GPL-2.0-only
//! The names that both the parser and the printer need: calls with their usage, flags with their bits.

use crate::flags::{MapFlags, Prot, Seals, UffdFeatures, UffdPagefaultFlags};
use crate::syscall::{Advice, FallocMode, Signal};
use bitflags::Flags;

/// Names and bits of a flag word.
pub(super) type Table = Vec<(&'static str, u64)>;

/// Calls and how they are written.
pub(super) const CALLS: &[(&str, &str)] = &[
    ("memfd_create", r#"memfd_create("", MFD_ALLOW_SEALING) or memfd_create("", 0)"#),
    ("mount", r#"mount("tmpfs", "/mnt", "tmpfs", 0, "size=BYTES")"#),
    ("open", r#"open("/mnt/a", O_RDWR|O_CREAT)"#),
    ("unlink", r#"unlink("/mnt/a")"#),
    ("close", "close(fd)"),
    ("ftruncate", "ftruncate(fd, length)"),
    ("fallocate", "fallocate(fd, mode, offset, len)"),
    ("pread64", r#"pread64(fd, "" or address, count, offset)"#),
    ("pwrite64", r#"pwrite64(fd, "A" or address, count, offset)"#),
    ("lseek", "lseek(fd, offset, SEEK_DATA or SEEK_HOLE)"),
    ("fcntl", "fcntl(fd, F_ADD_SEALS, seals)"),
    ("fstat", "fstat(fd)"),
    ("fstatfs", "fstatfs(fd)"),
    ("mmap", "mmap(addr, len, prot, flags, fd, offset)"),
    ("munmap", "munmap(addr, len)"),
    ("mprotect", "mprotect(addr, len, prot)"),
    (
        "mremap",
        "mremap(addr, len, new_len, 0) or mremap(addr, len, new_len, MREMAP_MAYMOVE|MREMAP_FIXED[|MREMAP_DONTUNMAP], new_addr)",
    ),
    ("madvise", "madvise(addr, len, advice)"),
    ("mlock", "mlock(addr, len)"),
    ("munlock", "munlock(addr, len)"),
    ("mincore", "mincore(addr, len)"),
    ("load", "load(addr)"),
    ("store", "store(addr, byte)"),
    ("userfaultfd", "userfaultfd(O_NONBLOCK|UFFD_USER_MODE_ONLY)"),
    ("ioctl", "ioctl(fd, UFFDIO_..., {...})"),
    ("read", "read(fd)"),
    ("poll", "poll(fd)"),
    ("fork", "fork() as NAME"),
    ("exit_group", "exit_group(0)"),
    ("tkill", "tkill(thread, SIGKILL or SIGUSR1)"),
    ("reclaim", "reclaim(fd, offset)"),
    ("swapon", "swapon(slots)"),
    ("swapoff", "swapoff()"),
];

/// Requests of ioctl and how they are written.
pub(super) const IOCTLS: &[(&str, &str)] = &[
    ("UFFDIO_API", "ioctl(fd, UFFDIO_API, {api=0xaa, features=...})"),
    ("UFFDIO_REGISTER", "ioctl(fd, UFFDIO_REGISTER, {start=..., len=..., mode=UFFDIO_REGISTER_MODE_...})"),
    ("UFFDIO_UNREGISTER", "ioctl(fd, UFFDIO_UNREGISTER, {start=..., len=...})"),
    ("UFFDIO_WAKE", "ioctl(fd, UFFDIO_WAKE, {start=..., len=...})"),
    ("UFFDIO_COPY", "ioctl(fd, UFFDIO_COPY, {dst=..., src=\"A\" or address, len=..., mode=0})"),
    ("UFFDIO_ZEROPAGE", "ioctl(fd, UFFDIO_ZEROPAGE, {start=..., len=..., mode=0})"),
    ("UFFDIO_CONTINUE", "ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"),
    ("UFFDIO_POISON", "ioctl(fd, UFFDIO_POISON, {start=..., len=..., mode=0})"),
    ("UFFDIO_MOVE", "ioctl(fd, UFFDIO_MOVE, {dst=..., src=..., len=..., mode=0})"),
    ("UFFDIO_WRITEPROTECT", "ioctl(fd, UFFDIO_WRITEPROTECT, {start=..., len=..., mode=...})"),
];

/// Flags of memfd_create.
pub(super) const MFD: &[(&str, u64)] = &[("MFD_ALLOW_SEALING", 1)];
/// Flags of userfaultfd.
pub(super) const UFFD: &[(&str, u64)] = &[("O_NONBLOCK", 1), ("UFFD_USER_MODE_ONLY", 2)];
/// Flags of open; the access modes are not bits, and are told apart by the parser.
pub(super) const OPEN: &[(&str, u64)] = &[("O_RDONLY", 1), ("O_WRONLY", 2), ("O_RDWR", 4), ("O_ACCMODE", 8), ("O_CREAT", 16)];
/// Flags of mremap.
pub(super) const MREMAP: &[(&str, u64)] = &[("MREMAP_MAYMOVE", 1), ("MREMAP_FIXED", 2), ("MREMAP_DONTUNMAP", 4)];
/// Modes of fallocate.
pub(super) const FALLOC: &[(&str, u64)] =
    &[("FALLOC_FL_KEEP_SIZE", 1), ("FALLOC_FL_PUNCH_HOLE", 2), ("FALLOC_FL_ZERO_RANGE", 16)];
/// Modes of UFFDIO_REGISTER.
pub(super) const REGISTER: &[(&str, u64)] =
    &[("UFFDIO_REGISTER_MODE_MISSING", 1), ("UFFDIO_REGISTER_MODE_WP", 2), ("UFFDIO_REGISTER_MODE_MINOR", 4)];
/// Modes of UFFDIO_COPY.
pub(super) const COPY: &[(&str, u64)] = &[("UFFDIO_COPY_MODE_DONTWAKE", 1), ("UFFDIO_COPY_MODE_WP", 2)];
/// Modes of UFFDIO_ZEROPAGE.
pub(super) const ZEROPAGE: &[(&str, u64)] = &[("UFFDIO_ZEROPAGE_MODE_DONTWAKE", 1)];
/// Modes of UFFDIO_CONTINUE.
pub(super) const CONTINUE: &[(&str, u64)] = &[("UFFDIO_CONTINUE_MODE_DONTWAKE", 1), ("UFFDIO_CONTINUE_MODE_WP", 2)];
/// Modes of UFFDIO_POISON.
pub(super) const POISON: &[(&str, u64)] = &[("UFFDIO_POISON_MODE_DONTWAKE", 1)];
/// Modes of UFFDIO_MOVE.
pub(super) const MOVE: &[(&str, u64)] = &[("UFFDIO_MOVE_MODE_DONTWAKE", 1), ("UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES", 2)];
/// Modes of UFFDIO_WRITEPROTECT.
pub(super) const WRITEPROTECT: &[(&str, u64)] = &[("UFFDIO_WRITEPROTECT_MODE_WP", 1), ("UFFDIO_WRITEPROTECT_MODE_DONTWAKE", 2)];
/// Numbers of the ioctls, for the masks that UFFDIO_API and UFFDIO_REGISTER give back.
pub(super) const IOCTL_BITS: &[(&str, u64)] = &[
    ("1<<_UFFDIO_REGISTER", 1),
    ("1<<_UFFDIO_UNREGISTER", 1 << 1),
    ("1<<_UFFDIO_WAKE", 1 << 2),
    ("1<<_UFFDIO_COPY", 1 << 3),
    ("1<<_UFFDIO_ZEROPAGE", 1 << 4),
    ("1<<_UFFDIO_MOVE", 1 << 5),
    ("1<<_UFFDIO_WRITEPROTECT", 1 << 6),
    ("1<<_UFFDIO_CONTINUE", 1 << 7),
    ("1<<_UFFDIO_POISON", 1 << 8),
    ("1<<_UFFDIO_API", 1 << 63),
];
/// Events of poll.
pub(super) const POLL: &[(&str, u64)] = &[("POLLIN", 1), ("POLLERR", 2)];
/// Events of a userfaultfd, without `UFFD_EVENT_`.
pub(super) const EVENTS: [&str; 5] = ["PAGEFAULT", "FORK", "REMAP", "REMOVE", "UNMAP"];

/// All `MADV_*`.
pub(super) const ADVICE: &[Advice] = &[
    Advice::MADV_DONTNEED,
    Advice::MADV_REMOVE,
    Advice::MADV_PAGEOUT,
    Advice::MADV_COLD,
    Advice::MADV_WILLNEED,
    Advice::MADV_POPULATE_READ,
    Advice::MADV_POPULATE_WRITE,
    Advice::MADV_DONTFORK,
    Advice::MADV_DOFORK,
    Advice::MADV_WIPEONFORK,
    Advice::MADV_KEEPONFORK,
    Advice::MADV_DONTNEED_LOCKED,
    Advice::MADV_GUARD_INSTALL,
    Advice::MADV_GUARD_REMOVE,
];

/// All modes of fallocate.
pub(super) const FALLOC_MODES: &[FallocMode] =
    &[FallocMode::ALLOC, FallocMode::KEEP_SIZE, FallocMode::PUNCH_HOLE, FallocMode::ZERO_RANGE];

/// All signals that an access can raise.
pub(super) const SIGNALS: &[Signal] = &[Signal::SIGBUS, Signal::SIGBUS_MCEERR_AR, Signal::SIGSEGV_MAPERR, Signal::SIGSEGV_ACCERR];

/// The kernel's name of an advice or a signal, which is also our variant's.
pub(super) fn variant(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn table<T: Flags>() -> Table
where
    T::Bits: Into<u64>,
{
    T::FLAGS.iter().map(|f| (f.name(), f.value().bits().into())).collect()
}

pub(super) fn prot() -> Table {
    let mut t = table::<Prot>();
    t.push(("PROT_NONE", 0));
    t
}
pub(super) fn map_flags() -> Table {
    table::<MapFlags>()
}
pub(super) fn seals() -> Table {
    table::<Seals>()
}
pub(super) fn features() -> Table {
    table::<UffdFeatures>()
}
/// Without `UFFD_PAGEFAULT_FLAG_`; MINOR and WP, the reason, come first.
pub(super) fn pagefault_flags() -> Table {
    let mut t = table::<UffdPagefaultFlags>();
    for (name, _) in &mut t {
        *name = name.strip_prefix("UFFD_PAGEFAULT_FLAG_").unwrap_or(name);
    }
    t.sort_by_key(|&(name, _)| name == "WRITE");
    t
}

/// Our operations' fields as the flag words of the calls; the parser finds the fields by trying.
pub(super) mod mask_of {
    use crate::syscall::FallocMode;

    pub fn open(read: bool, write: bool, creat: bool) -> u64 {
        let access = match (read, write) {
            (true, false) => 1,
            (false, true) => 2,
            (true, true) => 4,
            (false, false) => 8,
        };
        access | if creat { 16 } else { 0 }
    }
    pub fn falloc(mode: FallocMode) -> u64 {
        match mode {
            FallocMode::ALLOC => 0,
            FallocMode::KEEP_SIZE => 1,
            FallocMode::PUNCH_HOLE => 3,
            FallocMode::ZERO_RANGE => 16,
        }
    }
    pub fn mremap(moves: bool, dontunmap: bool) -> u64 {
        (if moves { 3 } else { 0 }) | if dontunmap { 4 } else { 0 }
    }
}
