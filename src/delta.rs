// SPDX-License-Identifier: GPL-2.0-only
//! What changed around the series after v5.14, by name.
//!
//! A revision says which kernel surrounds it ([`Revision::kernel`](crate::patch::Revision::kernel)): v5.14 for the series and
//! the two later patches that are shown alone, its own version for `v5_19` and later. A mirrored function outside `patch` that
//! differs between those kernels asks `k.has(Delta::NAME)` at the place where it differs, and nowhere is a version compared.

use crate::kernel::Kernel;

/// A kernel that a revision can be surrounded by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(non_camel_case_types)]
pub enum Version {
    /// v5.14: the first release with the series.
    V5_14,
    /// v5.19: the first with uffd-wp on shmem.
    V5_19,
    /// v6.1.
    V6_1,
    /// v6.12.
    V6_12,
    /// v6.18.
    V6_18,
}

impl Version {
    /// As people write it: `6.18`.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V5_14 => "5.14",
            Version::V5_19 => "5.19",
            Version::V6_1 => "6.1",
            Version::V6_12 => "6.12",
            Version::V6_18 => "6.18",
        }
    }
}

/// A row of the table, for those who print it.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name in the code.
    pub name: &'static str,
    /// The first of the modelled kernels that has it.
    pub since: Version,
    /// The release or range of releases in which it came.
    pub merged: &'static str,
    /// The commit; empty where it is not on record and the difference was only observed.
    pub commit: &'static str,
    /// What user space notices.
    pub notice: &'static str,
}

macro_rules! deltas {
    ($($name:ident { since: $since:ident, merged: $merged:literal, commit: $commit:literal, notice: $notice:literal $(,)? })*) => {
        /// A named difference between the modelled kernels. [`Delta::about`] says which.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types)]
        pub enum Delta { $(#[doc = $notice] $name),* }

        impl Delta {
            /// All of them, in the order of the releases.
            pub const ALL: &'static [Delta] = &[$(Delta::$name),*];

            /// Its row.
            pub const fn about(self) -> About {
                match self { $(Delta::$name => About {
                    name: stringify!($name), since: Version::$since, merged: $merged, commit: $commit, notice: $notice,
                }),* }
            }
        }
    };
}

deltas! {
    PTE_MARKER_UFFD_WP {
        since: V5_19, merged: "v5.19", commit: "1db9dbc2ef05",
        notice: "UFFDIO_REGISTER_MODE_WP works on shmem; a PTE marker keeps write protection where no page is mapped",
    }
    UFFDIO_POISON {
        since: V6_12, merged: "v6.6", commit: "fc71884a5f59",
        notice: "UFFDIO_POISON makes accesses to a page raise SIGBUS",
    }
    MADV_GUARD {
        since: V6_18, merged: "v6.13", commit: "662df3e5c376",
        notice: "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE; on files from v6.15",
    }
}

impl Kernel {
    /// Has the kernel that surrounds the revision this?
    #[inline]
    pub fn has(&self, delta: Delta) -> bool {
        self.s().revision.kernel() >= delta.about().since
    }
}
