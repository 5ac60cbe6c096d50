// SPDX-License-Identifier: GPL-2.0-only
//! The patch series: for every revision, the functions that any revision touches, whole.
//!
//! The rest of the kernel calls two of them, [`shmem_getpage_gfp`] and [`mfill_atomic_pte`]; the others are called only by these.
//! The table below is all there is to a revision besides its file.

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
}
pub use McopyAtomicMode::*;

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
}

macro_rules! revisions {
    ($($(#[$doc:meta])* $module:ident $variant:ident { title: $title:literal, source: $source:literal, date: $date:literal, change: $change:literal $(,)? })*) => {
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
        pub async fn shmem_getpage_gfp(
            k: &Kernel, inode: InodeId, index: u64, pagep: &mut Option<PageId>, sgp: SgpType,
            vma: Option<VmaId>, vmf: Option<&mut VmFaultCtx>, fault_type: &mut VmFault,
        ) -> KResult {
            let revision = k.s().revision;
            match revision { $(Revision::$variant => {
                $module::shmem_getpage_gfp(k, inode, index, pagep, sgp, vma, vmf, fault_type).await
            }),* }
        }

        /// Fill one page of the destination for UFFDIO_COPY, ZEROPAGE or CONTINUE.
        ///
        /// Kernel:   mm/userfaultfd.c:mfill_atomic_pte (differs between revisions)
        /// Fidelity: MIRROR (dispatch)
        /// Locks:    see the revision
        /// Errors:   see the revision
        #[inline]
        pub async fn mfill_atomic_pte(
            k: &Kernel, dst_mm: MmId, dst_pmd: Pmd, dst_vma: VmaId, dst_addr: u64, src_addr: u64,
            page: &mut Option<PageId>, mode: McopyAtomicMode, wp_copy: bool,
        ) -> KResult {
            let revision = k.s().revision;
            match revision { $(Revision::$variant => {
                $module::mfill_atomic_pte(k, dst_mm, dst_pmd, dst_vma, dst_addr, src_addr, page, mode, wp_copy).await
            }),* }
        }
    };
}

revisions! {
    /// The feature as it stood in mmotm on 2021-03-31.
    base Base {
        title: "userfaultfd: support minor fault handling for shmem (with -fix and -fix-2)",
        source: "linux-next 00da60b9d0a0", date: "2021-03-31",
        change: "what the series patches: CONTINUE shares every step of shmem_mcopy_atomic_pte with COPY",
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
