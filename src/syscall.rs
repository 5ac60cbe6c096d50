// SPDX-License-Identifier: GPL-2.0-only
//! What user space can do: one operation type for scenarios, random tests, the fuzzer and (later) the running kernel.

use crate::errno::Errno;
use crate::flags::*;
use crate::kernel::{CELLS, Cell};
use serde::{Deserialize, Serialize};
use std::cell::Cell as StdCell;

/// A descriptor number, as the process sees it. The first one is 3.
pub type Fd = u8;

/// `sizeof(struct uffd_msg)`: how much `read(fd)` asks for.
pub const MSG_SIZE: u64 = 32;

/// A user-space buffer that is handed to a system call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum UserBuf {
    /// An address in the tested memory: copying may fault, and userfault.
    Addr(u64),
    /// Memory of the program itself, always resident, every byte the same; written `"B"` in a scenario. As a destination the
    /// byte says nothing.
    Fill(u8),
}

/// A file that can be opened by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Path {
    /// `/mnt/a` to `/mnt/z`: a file on the tmpfs that was mounted on /mnt.
    Mnt(u8),
    /// `/dev/zero`.
    DevZero,
    /// `/proc/self/mem`.
    ProcSelfMem,
    /// `/proc/self/fd/N`: the same file again, with other rights.
    ProcSelfFd(Fd),
}

/// `MADV_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(non_camel_case_types)]
pub enum Advice {
    /// Drop the PTEs.
    MADV_DONTNEED,
    /// Punch a hole into the file.
    MADV_REMOVE,
    /// Reclaim the pages.
    MADV_PAGEOUT,
    /// Deactivate the pages.
    MADV_COLD,
    /// Read swapped pages into the swap cache.
    MADV_WILLNEED,
    /// Prefault for reading.
    MADV_POPULATE_READ,
    /// Prefault for writing.
    MADV_POPULATE_WRITE,
    /// Not copied on fork.
    MADV_DONTFORK,
    /// Copied on fork again.
    MADV_DOFORK,
    /// Emptied on fork.
    MADV_WIPEONFORK,
    /// Kept on fork again.
    MADV_KEEPONFORK,
    /// Drop the PTEs, of locked pages too (v5.18).
    MADV_DONTNEED_LOCKED,
    /// Accesses raise SIGSEGV from now on (v6.13).
    MADV_GUARD_INSTALL,
    /// They do not any more (v6.13).
    MADV_GUARD_REMOVE,
}

/// fallocate(2) mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(non_camel_case_types)]
pub enum FallocMode {
    /// 0.
    ALLOC,
    /// FALLOC_FL_KEEP_SIZE.
    KEEP_SIZE,
    /// FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE.
    PUNCH_HOLE,
    /// FALLOC_FL_ZERO_RANGE, which shmem refuses.
    ZERO_RANGE,
}

bitflags::bitflags! {
    /// `mode` of UFFDIO_REGISTER.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
    pub struct RegisterMode: u64 {
        /// UFFDIO_REGISTER_MODE_MISSING.
        const MISSING = 1;
        /// UFFDIO_REGISTER_MODE_WP.
        const WP = 2;
        /// UFFDIO_REGISTER_MODE_MINOR.
        const MINOR = 4;
    }
}

/// `mode` bit 0 of UFFDIO_COPY, ZEROPAGE and CONTINUE: do not wake.
pub const MODE_DONTWAKE: u64 = 1;
/// `mode` bit 1 of UFFDIO_COPY: map write-protected.
pub const COPY_MODE_WP: u64 = 2;
/// `mode` bit 0 of UFFDIO_WRITEPROTECT: protect (else resolve).
pub const WP_MODE_WP: u64 = 1;
/// `mode` bit 1 of UFFDIO_WRITEPROTECT: do not wake.
pub const WP_MODE_DONTWAKE: u64 = 2;

/// One operation of user space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Op {
    /// `memfd_create("", flags)`.
    MemfdCreate {
        /// MFD_ALLOW_SEALING.
        sealing: bool,
    },
    /// `mount("tmpfs", "/mnt", "tmpfs", 0, "size=...")`.
    Mount {
        /// Bytes; 0 is unlimited.
        size: u64,
    },
    /// `open(path, flags)`.
    Open {
        /// What.
        path: Path,
        /// O_RDONLY or O_WRONLY or O_RDWR: may it be read?
        read: bool,
        /// May it be written?
        write: bool,
        /// O_CREAT.
        creat: bool,
    },
    /// `unlink("/mnt/x")`.
    Unlink {
        /// The name's letter.
        name: u8,
    },
    /// `close(fd)`.
    Close {
        /// Which.
        fd: Fd,
    },
    /// `ftruncate(fd, length)`.
    Ftruncate {
        /// Which.
        fd: Fd,
        /// New size in bytes.
        length: u64,
    },
    /// `fallocate(fd, mode, offset, len)`.
    Fallocate {
        /// Which.
        fd: Fd,
        /// What to do.
        mode: FallocMode,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `pread64(fd, buf, count, offset)`; on /proc/self/mem the offset is an address.
    Pread {
        /// Which.
        fd: Fd,
        /// Where to.
        buf: UserBuf,
        /// Bytes.
        count: u64,
        /// From.
        offset: u64,
    },
    /// `pwrite64(fd, buf, count, offset)`; on /proc/self/mem the offset is an address, and the write is forced.
    Pwrite {
        /// Which.
        fd: Fd,
        /// Where from.
        buf: UserBuf,
        /// Bytes.
        count: u64,
        /// To.
        offset: u64,
    },
    /// `lseek(fd, offset, SEEK_DATA)` or `SEEK_HOLE`.
    Lseek {
        /// Which.
        fd: Fd,
        /// From.
        offset: u64,
        /// SEEK_DATA, else SEEK_HOLE.
        data: bool,
    },
    /// `fcntl(fd, F_ADD_SEALS, seals)`.
    AddSeals {
        /// Which.
        fd: Fd,
        /// Which seals.
        seals: Seals,
    },
    /// `fstat(fd)`: size and blocks.
    Fstat {
        /// Which.
        fd: Fd,
    },
    /// `fstatfs(fd)`: free blocks of the mount.
    Fstatfs {
        /// Which.
        fd: Fd,
    },
    /// `mmap(addr, len, prot, flags, fd, offset)`; always MAP_FIXED or MAP_FIXED_NOREPLACE.
    Mmap {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
        /// Protection.
        prot: Prot,
        /// Flags.
        flags: MapFlags,
        /// The file, None for -1.
        fd: Option<Fd>,
        /// Offset in bytes.
        offset: u64,
    },
    /// `munmap(addr, len)`.
    Munmap {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// `mprotect(addr, len, prot)`.
    Mprotect {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
        /// New protection.
        prot: Prot,
    },
    /// `mremap(old, old_len, new_len, MREMAP_MAYMOVE|MREMAP_FIXED[|MREMAP_DONTUNMAP], new)`; without a new address it resizes in place.
    Mremap {
        /// From.
        old: u64,
        /// Bytes.
        old_len: u64,
        /// Bytes.
        new_len: u64,
        /// To; None leaves it where it is.
        new: Option<u64>,
        /// MREMAP_DONTUNMAP.
        dontunmap: bool,
    },
    /// `madvise(addr, len, advice)`.
    Madvise {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
        /// What.
        advice: Advice,
    },
    /// `mlock(addr, len)`.
    Mlock {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// `munlock(addr, len)`.
    Munlock {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// `mincore(addr, len)`.
    Mincore {
        /// Where.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// A load of one byte.
    Load {
        /// From.
        addr: u64,
    },
    /// A store of one byte.
    Store {
        /// To.
        addr: u64,
        /// The byte.
        value: u8,
    },
    /// `userfaultfd(flags)`.
    Userfaultfd {
        /// O_NONBLOCK.
        nonblock: bool,
        /// UFFD_USER_MODE_ONLY.
        user_mode_only: bool,
    },
    /// `ioctl(fd, UFFDIO_API, ...)`.
    UffdApi {
        /// The userfaultfd.
        fd: Fd,
        /// 0xaa.
        api: u64,
        /// Requested features, raw bits.
        features: u64,
    },
    /// `ioctl(fd, UFFDIO_REGISTER, ...)`.
    UffdRegister {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_UNREGISTER, ...)`.
    UffdUnregister {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// `ioctl(fd, UFFDIO_WAKE, ...)`.
    UffdWake {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// `ioctl(fd, UFFDIO_COPY, ...)`.
    UffdCopy {
        /// The userfaultfd.
        fd: Fd,
        /// To.
        dst: u64,
        /// From.
        src: UserBuf,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_ZEROPAGE, ...)`.
    UffdZeropage {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_CONTINUE, ...)`.
    UffdContinue {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_POISON, ...)` (v6.6).
    UffdPoison {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_MOVE, ...)` (v6.8).
    UffdMove {
        /// The userfaultfd.
        fd: Fd,
        /// Destination.
        dst: u64,
        /// Source: an address, always.
        src: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `ioctl(fd, UFFDIO_WRITEPROTECT, ...)`.
    UffdWriteprotect {
        /// The userfaultfd.
        fd: Fd,
        /// Range.
        start: u64,
        /// Bytes.
        len: u64,
        /// Mode bits, raw.
        mode: u64,
    },
    /// `read(fd)` of one message from a userfaultfd. Of other files: so many bytes ([`MSG_SIZE`]), from where the last one ended.
    UffdRead {
        /// The userfaultfd.
        fd: Fd,
    },
    /// `poll` of a userfaultfd.
    Poll {
        /// The userfaultfd.
        fd: Fd,
    },
    /// `fork()`. The child's first thread is a new task that runs the operations with its name.
    Fork,
    /// `exit_group(0)`.
    Exit,
    /// A signal for a task (by its number in the machine): fatal (SIGKILL) or handled.
    Kill {
        /// Which task, in order of creation.
        task: u8,
        /// SIGKILL.
        fatal: bool,
    },
    /// Reclaim looks at the page that a file holds at this offset, as kswapd would under pressure (references not honoured).
    Reclaim {
        /// Which.
        fd: Fd,
        /// In bytes.
        offset: u64,
    },
    /// `swapon` a device of so many slots.
    Swapon {
        /// Pages.
        slots: u16,
    },
    /// `swapoff` it.
    Swapoff,
}

/// A signal that an access raised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(non_camel_case_types)]
pub enum Signal {
    /// SIGBUS, BUS_ADRERR.
    SIGBUS,
    /// SIGBUS, BUS_MCEERR_AR: the page is poisoned.
    SIGBUS_MCEERR_AR,
    /// SIGSEGV, SEGV_MAPERR: nothing is mapped there.
    SIGSEGV_MAPERR,
    /// SIGSEGV, SEGV_ACCERR: not with these rights.
    SIGSEGV_ACCERR,
}

/// A uffd message as read(2) gives it; tasks and descriptors by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Msg {
    /// UFFD_EVENT_PAGEFAULT.
    Pagefault {
        /// Page-aligned.
        address: u64,
        /// How and why.
        flags: UffdPagefaultFlags,
        /// With UFFD_FEATURE_THREAD_ID.
        ptid: Option<u8>,
    },
    /// UFFD_EVENT_FORK.
    Fork {
        /// The new descriptor.
        ufd: Fd,
    },
    /// UFFD_EVENT_REMAP.
    Remap {
        /// From.
        from: u64,
        /// To.
        to: u64,
        /// Bytes.
        len: u64,
    },
    /// UFFD_EVENT_REMOVE.
    Remove {
        /// First byte.
        start: u64,
        /// First byte past it.
        end: u64,
    },
    /// UFFD_EVENT_UNMAP.
    Unmap {
        /// First byte.
        start: u64,
        /// First byte past it.
        end: u64,
    },
}

/// What an operation gave besides its return value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Out {
    /// Nothing (or nothing was written to user space).
    #[default]
    None,
    /// The out field of UFFDIO_COPY (`copy`), ZEROPAGE (`zeropage`), CONTINUE (`mapped`) or POISON (`updated`): bytes done, or a negative errno.
    Done(i64),
    /// Of UFFDIO_REGISTER: the ioctls that work on the range, as a bit mask.
    Ioctls(u64),
    /// Of UFFDIO_API: features and ioctls.
    Api {
        /// Supported features.
        features: u64,
        /// Ioctls.
        ioctls: u64,
    },
    /// The byte a load got. None: a byte of the page that the model does not watch.
    Byte(Option<Cell>),
    /// The first page of what read(2) copied into the program's own memory; None past the end of what was read.
    Data([Option<Cell>; CELLS]),
    /// A message.
    Msg(Msg),
    /// poll: POLLIN, POLLERR.
    Poll {
        /// Something to read.
        pollin: bool,
        /// Not usable yet.
        pollerr: bool,
    },
    /// fstat.
    Stat {
        /// In bytes.
        size: u64,
        /// In units of 512 bytes.
        blocks: i64,
    },
    /// fstatfs: in pages.
    Statfs {
        /// All.
        blocks: i64,
        /// Free.
        bfree: i64,
    },
    /// mincore: one entry a page.
    Mincore(Vec<bool>),
    /// The access raised a signal.
    Signal {
        /// Which.
        sig: Signal,
        /// At this address.
        addr: u64,
    },
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The return value, or the errno behind -1.
    pub ret: Result<i64, Errno>,
    /// What came back by reference.
    pub out: Out,
}

impl Outcome {
    /// Success with a value.
    pub fn ok(value: i64) -> Outcome {
        Outcome { ret: Ok(value), out: Out::None }
    }
    /// Failure, nothing written.
    pub fn err(errno: Errno) -> Outcome {
        Outcome { ret: Err(errno), out: Out::None }
    }
    /// Add what came back by reference.
    pub fn with(mut self, out: Out) -> Outcome {
        self.out = out;
        self
    }
}

impl<T: Into<i64>> From<Result<T, Errno>> for Outcome {
    fn from(r: Result<T, Errno>) -> Outcome {
        Outcome { ret: r.map(Into::into), out: Out::None }
    }
}

/// Where an operation leaves its outcome. What it writes to user memory gets here from where it arises, without being handed up
/// through every function.
#[derive(Default)]
pub struct Answer {
    ret: StdCell<Option<Result<i64, Errno>>>,
    out: StdCell<Out>,
}

impl Answer {
    /// `put_user` to the out field of the call.
    #[inline]
    pub fn put_user(&self, out: Out) {
        self.out.set(out);
    }

    /// The call returns this.
    #[inline]
    pub fn ret(&self, ret: Result<i64, Errno>) {
        self.ret.set(Some(ret));
    }

    /// The call ends like this.
    pub fn give(&self, outcome: Outcome) {
        self.out.set(outcome.out);
        self.ret.set(Some(outcome.ret));
    }

    /// What the call left here, if it returned.
    #[inline]
    pub fn take(&self) -> Option<Outcome> {
        let out = self.out.take();
        self.ret.take().map(|ret| Outcome { ret, out })
    }
}
