// SPDX-License-Identifier: GPL-2.0-only
//! The patch series: for every revision, the functions that any revision touches, whole.
//!
//! The rest of the kernel calls two of them, [`shmem_getpage_gfp`] and [`mfill_atomic_pte`]; the others are called only by these.
//! The table below is all there is to a revision besides its file.

use crate::delta::Version;
use crate::errno::KResult;
use crate::flags::VmFault;
use crate::kernel::{InodeId, Kernel, MmId, PageId, VmaId};
use crate::mm::memory::VmFaultCtx;
use crate::mm::pgtable::Pmd;
use serde::{Deserialize, Serialize};

/// Who wants a page of a shmem file, and for what (`enum sgp_type`). The order matters: up to `SGP_CACHE` i_size bounds the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(non_camel_case_types)]
pub enum SgpType {
    /// Don't exceed i_size, don't allocate the page.
    SGP_READ,
    /// Don't exceed i_size, fail on a hole, clear a fallocated page (v5.19).
    SGP_NOALLOC,
    /// Don't exceed i_size, may allocate the page.
    SGP_CACHE,
    /// May exceed i_size, may allocate a page that is not Uptodate.
    SGP_WRITE,
    /// As SGP_WRITE, but make an existing page Uptodate.
    SGP_FALLOC,
}
pub use SgpType::*;

/// What mfill is asked to do (`enum mcopy_atomic_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(non_camel_case_types)]
pub enum McopyAtomicMode {
    /// UFFDIO_COPY.
    MCOPY_ATOMIC_NORMAL,
    /// UFFDIO_ZEROPAGE.
    MCOPY_ATOMIC_ZEROPAGE,
    /// UFFDIO_CONTINUE.
    MCOPY_ATOMIC_CONTINUE,
    /// UFFDIO_POISON (v6.6), which no revision before v6_12 is asked for.
    MCOPY_ATOMIC_POISON,
}
pub use McopyAtomicMode::*;

/// `uffd_flags_t` (v6.4): what mfill is asked to do, and how. The modes are called `MFILL_ATOMIC_COPY` and so on there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UffdFlags {
    /// The mode.
    pub mode: McopyAtomicMode,
    /// `MFILL_ATOMIC_WP`: map write-protected.
    pub wp: bool,
}

/// `uffd_flags_mode_is`.
pub fn uffd_flags_mode_is(flags: UffdFlags, expected: McopyAtomicMode) -> bool {
    flags.mode == expected
}

/// Where a revision comes from.
#[derive(Clone, Copy, Debug)]
pub struct Provenance {
    /// The name on the command line.
    pub name: &'static str,
    /// Its subject line, or a description.
    pub title: &'static str,
    /// Message-Id of the posting, or commit.
    pub source: &'static str,
    /// When it was posted or merged, YYYY-MM-DD.
    pub date: &'static str,
    /// What it changed against the one before it in this table, in one sentence.
    pub change: &'static str,
    /// The kernel around it.
    pub kernel: Version,
}

/// Without `kernel:` in the table below, v5.14.
macro_rules! kernel_or_5_14 {
    () => {
        Version::V5_14
    };
    ($kernel:ident) => {
        Version::$kernel
    };
}

pub(crate) mod prelude;

macro_rules! revisions {
    ($($(#[$doc:meta])* $module:ident $variant:ident { title: $title:literal, source: $source:literal, date: $date:literal, change: $change:literal $(, kernel: $kernel:ident)? $(,)? })*) => {
        $($(#[$doc])* pub mod $module;)*

        /// A revision of the series.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Revision { $($(#[$doc])* $variant),* }

        impl Revision {
            /// All of them, oldest first.
            pub const ALL: &'static [Revision] = &[$(Revision::$variant),*];

            /// Where it comes from.
            pub const fn provenance(self) -> Provenance {
                match self { $(Revision::$variant => Provenance {
                    name: stringify!($module), title: $title, source: $source, date: $date, change: $change,
                    kernel: kernel_or_5_14!($($kernel)?),
                }),* }
            }
        }

        /// The page of a shmem file at `index`: locked and with a reference, or None where the mode allows that.
        ///
        /// Kernel:   mm/shmem.c:shmem_getpage_gfp (differs between revisions)
        /// Fidelity: MIRROR (dispatch)
        /// Locks:    see the revision
        /// Errors:   see the revision
        #[inline]
        pub fn shmem_getpage_gfp(
            k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, sgp: SgpType,
            vma: Option<VmaId>, vmf: Option<&mut VmFaultCtx>, fault_type: &mut VmFault,
        ) -> impl Future<Output = KResult> {
            async move {
                match k.revision() { $(Revision::$variant => {
                    $module::shmem_getpage_gfp(k, inode, index, pagep, sgp, vma, vmf, fault_type).await
                }),* }
            }
        }

        /// Fill one page of the destination for UFFDIO_COPY, ZEROPAGE or CONTINUE.
        ///
        /// Kernel:   mm/userfaultfd.c:mfill_atomic_pte (differs between revisions)
        /// Fidelity: MIRROR (dispatch)
        /// Locks:    see the revision
        /// Errors:   see the revision
        #[inline]
        pub fn mfill_atomic_pte(
            k: &Kernel, dst_mm: MmId, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64, src_addr: u64,
            page: &mut Option<PageId>, mode: McopyAtomicMode, wp_copy: bool,
        ) -> impl Future<Output = KResult> {
            async move {
                match k.revision() { $(Revision::$variant => {
                    $module::mfill_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, src_addr, page, mode, wp_copy).await
                }),* }
            }
        }
    };
}

revisions! {
    /// The feature as it stood in mmotm on 2021-03-31: what the series patches.
    base Base {
        title: "userfaultfd: support minor fault handling for shmem (with -fix and -fix-2)",
        source: "linux-next 00da60b9d0a0",
        date: "2021-03-31",
        change: "CONTINUE shares every step of shmem_mcopy_atomic_pte with COPY, the error path too",
    }
    /// The first posting.
    v1 V1 {
        title: "[PATCH] userfaultfd/shmem: fix MCOPY_ATOMIC_CONTNUE error handling + accounting",
        source: "20210325231027.3402321-1-axelrasmussen@google.com",
        date: "2021-03-25",
        change: "no accounting for CONTINUE, and its error path leaves the page in the cache",
    }
    /// The second posting.
    v2 V2 {
        title: "[PATCH v2] userfaultfd/shmem: fix MCOPY_ATOMIC_CONTNUE behavior",
        source: "20210329200659.65971-1-axelrasmussen@google.com",
        date: "2021-03-29",
        change: "CONTINUE jumps over what is for new pages; remembers whether the page was dirty; private is not made writable",
    }
    /// The third posting.
    v3 V3 {
        title: "[PATCH v3] userfaultfd/shmem: fix MCOPY_ATOMIC_CONTINUE behavior",
        source: "20210329234131.304999-1-axelrasmussen@google.com",
        date: "2021-03-29",
        change: "drops ClearPageDirty altogether; keeps the second i_size check for CONTINUE",
    }
    /// The fourth posting, which the review thread is about; v5 adds a selftest to it and nothing else.
    v4 V4 {
        title: "[PATCH v4] userfaultfd/shmem: fix MCOPY_ATOMIC_CONTINUE behavior",
        source: "20210401183701.1774159-1-axelrasmussen@google.com",
        date: "2021-04-01",
        change: "CONTINUE moves to mm/userfaultfd.c, shared and private, with a helper that installs the PTE",
    }
    /// The squashed series, first posting.
    s1 S1 {
        title: "[PATCH 0/9] userfaultfd: add minor fault handling for shmem",
        source: "20210408234327.624367-1-axelrasmussen@google.com",
        date: "2021-04-08",
        change: "CONTINUE by shmem_getpage(SGP_READ); minor faults for swapped pages; shmem COPY uses the helper too",
    }
    /// The squashed series, second posting.
    s2 S2 {
        title: "[PATCH v2 0/9] userfaultfd: add minor fault handling for shmem",
        source: "20210413051721.2896915-1-axelrasmussen@google.com",
        date: "2021-04-13",
        change: "the minor hook moves in front of the swap branch",
    }
    /// The squashed series, third posting.
    s3 S3 {
        title: "[PATCH v3 00/10] userfaultfd: add minor fault handling for shmem",
        source: "between S2 and S4; no Message-Id on record",
        date: "2021-04-15",
        change: "the minor hook tells a swap value from a page",
    }
    /// The squashed series, fourth posting.
    s4 S4 {
        title: "[PATCH v4 00/10] userfaultfd: add minor fault handling for shmem",
        source: "20210420220804.486803-1-axelrasmussen@google.com",
        date: "2021-04-20",
        change: "the helper decides by page_in_cache; rmap before rss; shmem marks its new page dirty itself",
    }
    /// The squashed series, fifth posting.
    s5 S5 {
        title: "[PATCH v5 00/10] userfaultfd: add minor fault handling for shmem",
        source: "20210427225244.4326-1-axelrasmussen@google.com",
        date: "2021-04-27",
        change: "accounting after the helper; its failure no longer takes the page out of the cache",
    }
    /// What v5.14 has (the sixth posting of the series).
    merged Merged {
        title: "[PATCH v6 00/10], commits c949b097ef2e 153132571f02 7d64ae3ab648, with 7ed9d238c7db",
        source: "20210503180737.2487560-1-axelrasmussen@google.com",
        date: "2021-05-03",
        change: "the helper's failure takes the page out of the cache again; a kept page is put when accounting fails on the retry",
    }
    /// v5.16: the PTE is dirty, always.
    dirty Dirty {
        title: "mm/shmem: unconditionally set pte dirty in mfill_atomic_install_pte",
        source: "commit 9ae0f87d009c",
        date: "2021-11-05",
        change: "every installed PTE is dirty; shmem does not set PG_dirty any more",
    }
    /// v5.19: CONTINUE finds fallocated pages.
    noalloc Noalloc {
        title: "mm: userfaultfd: fix UFFDIO_CONTINUE on fallocated shmem pages",
        source: "commit 73f37dbcfe17",
        date: "2022-06-10",
        change: "SGP_NOALLOC: a fallocated page is cleared and mapped",
    }
    /// The release v5.19 with its surroundings.
    v5_19 V5_19 {
        title: "Linux 5.19",
        source: "v5.19",
        date: "2022-07-31",
        change: "the surroundings are those of the release; COPY takes WP for shmem, markers count as none",
        kernel: V5_19,
    }
    /// The release v6.1 with its surroundings.
    v6_1 V6_1 {
        title: "Linux 6.1",
        source: "v6.1",
        date: "2022-12-11",
        change: "page_in_cache is asked of the page's mapping",
        kernel: V6_1,
    }
    /// The release v6.12 with its surroundings.
    v6_12 V6_12 {
        title: "Linux 6.12",
        source: "v6.12",
        date: "2024-11-17",
        change: "CONTINUE takes WP; POISON; any file bounds a fill; minor hook without the page lock; a page is charged once it is in the cache",
        kernel: V6_12,
    }
    /// The release v6.18 with its surroundings.
    v6_18 V6_18 {
        title: "Linux 6.18",
        source: "v6.18",
        date: "2025-11-30",
        change: "nothing in these functions",
        kernel: V6_18,
    }
}

impl Default for Revision {
    fn default() -> Self {
        Revision::ALL[0]
    }
}

impl Revision {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        self.provenance().name
    }

    /// The kernel that surrounds it: which of the [deltas](crate::delta) are there.
    #[inline]
    pub const fn kernel(self) -> Version {
        self.provenance().kernel
    }

    /// The postings and commits of the series, without whole releases.
    pub fn series() -> Vec<Revision> {
        Revision::ALL.iter().copied().filter(|r| r.kernel() == Version::V5_14).collect()
    }

    /// Look a name up (`v5` is `v4`: it differs in the selftest only).
    pub fn from_name(name: &str) -> Option<Revision> {
        let name = if name == "v5" { "v4" } else { name };
        Revision::ALL.iter().copied().find(|r| r.name() == name)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
