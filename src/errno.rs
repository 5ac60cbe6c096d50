// SPDX-License-Identifier: GPL-2.0-only
//! Error numbers, named as in `include/uapi/asm-generic/errno*.h`.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $num:literal),* $(,)?) => {
        /// An errno. User space sees the positive number in `errno`, or the negative one in an ioctl's out field.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Errno { $($(#[$doc])* $name = $num),* }

        $($(#[$doc])* pub const $name: Errno = Errno::$name;)*

        impl Errno {
            /// Every errno that the model can return.
            pub const ALL: &'static [Errno] = &[$(Errno::$name),*];
            /// The kernel's name, for instance `"EFAULT"`.
            pub const fn name(self) -> &'static str { match self { $(Errno::$name => stringify!($name)),* } }
        }
    };
}

errnos! {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file, mapping or registration.
    ENOENT = 2,
    /// No such process (the mm is gone).
    ESRCH = 3,
    /// Interrupted by a signal.
    EINTR = 4,
    /// I/O error.
    EIO = 5,
    /// No such address or offset (`SEEK_DATA` past the last byte).
    ENXIO = 6,
    /// Bad file descriptor.
    EBADF = 9,
    /// Try again (non-blocking, or an ioctl that stopped part way).
    EAGAIN = 11,
    /// Out of memory, or no mapping covers the range.
    ENOMEM = 12,
    /// Access denied.
    EACCES = 13,
    /// Bad address.
    EFAULT = 14,
    /// Busy.
    EBUSY = 16,
    /// Exists already.
    EEXIST = 17,
    /// No such device.
    ENODEV = 19,
    /// Invalid argument.
    EINVAL = 22,
    /// Too many open files.
    EMFILE = 24,
    /// The descriptor does not know this ioctl.
    ENOTTY = 25,
    /// File too large.
    EFBIG = 27,
    /// No space left on the mount.
    ENOSPC = 28,
    /// Illegal seek.
    ESPIPE = 29,
    /// Function not implemented.
    ENOSYS = 38,
    /// Value too large for defined data type (an offset that wraps).
    EOVERFLOW = 75,
    /// Operation not supported.
    EOPNOTSUPP = 95,
    /// Restart the system call after the signal (kernel internal; user space sees EINTR).
    ERESTARTSYS = 200,
    /// Restart the system call at once (kernel internal; user space does not see it).
    ERESTARTNOINTR = 201,
}

impl Errno {
    /// The positive number, as in `errno`.
    pub const fn num(self) -> i64 {
        match self {
            Errno::ERESTARTSYS => 512,
            Errno::ERESTARTNOINTR => 513,
            e => e as i64,
        }
    }

    /// Look a name up.
    pub fn from_name(name: &str) -> Option<Errno> {
        Errno::ALL.iter().copied().find(|e| e.name() == name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a mirrored function that returns `0 or -errno` (or a count) returns here.
pub type KResult<T = ()> = Result<T, Errno>;
