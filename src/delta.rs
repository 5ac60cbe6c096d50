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
    /// The release in which it came, and the stable series where those have it too: by their history, or, where that could not be
    /// had, because the kernel of the recordings behaves so.
    pub merged: &'static str,
    /// The commit.
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
    MMAP_CHANGING_ATOMIC {
        since: V5_19, merged: "v5.15", commit: "a759a909d42d",
        notice: "of two events that wait to be read, reading one does not let the filling ioctls in before the other is read",
    }
    UFFDIO_WRITEPROTECT_MMGET {
        since: V5_19, merged: "v5.15", commit: "cb185d5f1ebf",
        notice: "UFFDIO_WRITEPROTECT of an address space that is gone answers ESRCH",
    }
    UFFDIO_API_CMPXCHG {
        since: V5_19, merged: "v5.15", commit: "22e5fe2a2a27",
        notice: "a second UFFDIO_API zeroes the structure",
    }
    FAULT_IN_PARTIAL {
        since: V5_19, merged: "v5.16", commit: "a6294593e8a1",
        notice: "write(2) from memory that ends inside the page to be written writes what there is, and does not answer EFAULT",
    }
    UFFD_FEATURE_EXACT_ADDRESS {
        since: V5_19, merged: "v5.18", commit: "824ddc601adc",
        notice: "messages can give the address to the byte",
    }
    MREMAP_LOOKS_FIRST {
        since: V5_19, merged: "v5.16", commit: "550a7d60bd5e",
        notice: "mremap of an address where nothing is mapped answers EFAULT, whatever else it is given, and unmaps nothing",
    }
    MADV_DONTNEED_LOCKED {
        since: V5_19, merged: "v5.18", commit: "9457056ac426",
        notice: "MADV_DONTNEED_LOCKED drops the entries of a locked mapping too",
    }
    ZAP_EVEN_COWS {
        since: V5_19, merged: "v5.18", commit: "5abfd71d936a",
        notice: "truncation frees the private copies behind the new end that were swapped out; before it left them",
    }
    MLOCK_RMAP {
        since: V5_19, merged: "v5.18", commit: "cea86fe246b6",
        notice: "mlock(2) marks the pages that are mapped at once, and whatever is mapped into or out of locked memory is marked then",
    }
    PTE_MARKER_UFFD_WP {
        since: V5_19, merged: "v5.19", commit: "1db9dbc2ef05",
        notice: "UFFDIO_REGISTER_MODE_WP works on shmem; a PTE marker keeps write protection where no page is mapped",
    }
    PG_ANON_EXCLUSIVE {
        since: V5_19, merged: "v5.19", commit: "6c287605fd56",
        notice: "whether an anonymous page is the faulter's alone is noted when it is made, forked and swapped, not counted at the store",
    }
    UNUSE_PTE_KEEPS_BITS {
        since: V5_19, merged: "v5.19", commit: "14a762dd1977",
        notice: "swapoff keeps the soft-dirty and the uffd-wp bit of the entries that it brings back",
    }
    SWAPIN_ERROR {
        since: V5_19, merged: "v5.19", commit: "9f186f9e5fa9",
        notice: "swapoff leaves an entry that raises SIGBUS where a private page cannot be read; before, it mapped what the frame held",
    }
    MM_CP_TRY_CHANGE_WRITABLE {
        since: V6_1, merged: "v6.0", commit: "64fe24a3e05e",
        notice: "mprotect makes private pages writable that nobody else maps, instead of leaving that to a fault",
    }
    FMODE_LSEEK_BY_METHOD {
        since: V6_1, merged: "v6.0", commit: "e7478158e137",
        notice: "lseek(2) of a userfaultfd answers 0 instead of ESPIPE",
    }
    UFFD_RDONLY {
        since: V6_1, merged: "v6.1", commit: "abec3d015fdf",
        notice: "a userfaultfd is open for reading only",
    }
    UFFD_WP_RESET_ON_UNREGISTER {
        since: V6_1, merged: "v6.0", commit: "f369b07c8614",
        notice: "UFFDIO_UNREGISTER takes the write protection off the pages",
    }
    FOLL_FORCE_EXCLUSIVE {
        since: V6_1, merged: "v6.0", commit: "5535be309971",
        notice: "a forced write through a read-only mapping takes an exclusive page for its own, not a dirty one (CVE-2022-2590)",
    }
    UFFD_WP_WRITENOTIFY {
        since: V6_1, merged: "v6.2, and v6.1 stable", commit: "51d3d5eb74ff",
        notice: "mprotect of shared memory that is registered for WP does not let stores through to pages that are write-protected",
    }
    MREMAP_EXTEND_MERGES {
        since: V6_1, merged: "v6.1", commit: "ca3d76b0aa80",
        notice: "a mapping that mremap lets grow up to the next one becomes one with it",
    }
    UFFD_WP_RESET_ON_CLOSE {
        since: V6_1, merged: "v6.9, and observed on v6.1.192", commit: "c88033efe9a3",
        notice: "closing a userfaultfd takes the write protection off the pages",
    }
    UFFD_BELOW_MMAP_MIN_ADDR {
        since: V6_1, merged: "after v6.18, and v6.1, v6.12 and v6.18 stable", commit: "161ce69c2c89",
        notice: "the ioctls take ranges below vm.mmap_min_addr, where something may have been mapped; before EINVAL",
    }
    UFFD_WP_RESET_ON_MREMAP {
        since: V6_1, merged: "v6.13, and observed on v6.1.192", commit: "0cef0bb836e3",
        notice: "mremap without UFFD_FEATURE_EVENT_REMAP takes the write protection off the pages that it moves",
    }
    MADV_REMOVE_MAYWRITE {
        since: V6_1, merged: "v6.7, and v6.1 stable as what MEMFD_SEALED_READONLY builds on", commit: "e8e17ee90eaf",
        notice: "MADV_REMOVE works on a shared mapping that is read-only for the moment",
    }
    MEMFD_SEALED_READONLY {
        since: V6_1, merged: "v6.13, and observed on v6.1.192", commit: "8ec396d05d1b",
        notice: "a memfd sealed against writing can be mapped shared and read-only; UFFDIO_REGISTER of that answers EPERM",
    }
    UFFD_WP_RANGE_PROT {
        since: V6_12, merged: "v6.3", commit: "931298e103c2",
        notice: "the first store to a shared page after its write protection was taken off faults, and sets PG_dirty; to a private one not",
    }
    CHANGE_CLEAN_WRITABLE {
        since: V6_12, merged: "v6.2", commit: "d84887739d5c",
        notice: "mprotect makes an exclusive private page writable although it is clean",
    }
    SHMEM_SWAPIN_RANGE {
        since: V6_12, merged: "v6.5", commit: "179d3e4f3bfa",
        notice: "MADV_WILLNEED of shmem reads no page behind the range",
    }
    UFFD_WP_ENOMEM {
        since: V6_12, merged: "v6.3", commit: "d1751118c886",
        notice: "UFFDIO_WRITEPROTECT answers ENOMEM without memory for the page tables that its markers need; before it did less",
    }
    UFFDIO_WRITEPROTECT_VMAS {
        since: V6_12, merged: "v6.4", commit: "a1b92a3f1498",
        notice: "UFFDIO_WRITEPROTECT goes over several VMAs and over holes",
    }
    UFFD_FEATURE_WP_UNPOPULATED {
        since: V6_12, merged: "v6.4", commit: "2bad466cc9d9",
        notice: "with the feature, UFFDIO_WRITEPROTECT marks anonymous memory where no page is mapped",
    }
    UFFD_MERGE_PGOFF {
        since: V6_12, merged: "v6.4", commit: "5543d3c43c41",
        notice: "UFFDIO_REGISTER and UFFDIO_UNREGISTER of the tail of a mapping leave it where it is in its file",
    }
    UFFDIO_CONTINUE_MODE_WP {
        since: V6_12, merged: "v6.4", commit: "0289184475c8",
        notice: "UFFDIO_CONTINUE can map write-protected",
    }
    CACHESTAT {
        since: V6_12, merged: "v6.5", commit: "cf264e1329fb",
        notice: "cachestat(2) tells whether a page of a file is in memory or in swap",
    }
    MADV_POPULATE_WHOLE {
        since: V6_12, merged: "v6.9", commit: "631426ba1d45",
        notice: "MADV_POPULATE stops at the first hole of the range and answers ENOMEM",
    }
    UFFDIO_POISON {
        since: V6_12, merged: "v6.6", commit: "fc71884a5f59",
        notice: "UFFDIO_POISON makes accesses to a page raise SIGBUS",
    }
    UFFDIO_COPY_SRC {
        since: V6_12, merged: "v6.6", commit: "2ef5d7245d9c",
        notice: "UFFDIO_COPY from past the end of user space answers EINVAL, not EFAULT",
    }
    UFFD_FEATURE_WP_ASYNC {
        since: V6_12, merged: "v6.7", commit: "d61ea1cb0095",
        notice: "with the feature, write-protect faults resolve themselves, and any memory can be registered for WP",
    }
    MPROTECT_UNACCOUNT {
        since: V6_12, merged: "v6.7", commit: "9b9143298585",
        notice: "mprotect(2) that takes the right to write from anonymous memory without pages gives its commit charge back",
    }
    UFFD_FEATURE_MOVE {
        since: V6_12, merged: "v6.8", commit: "adef440691ba",
        notice: "UFFDIO_MOVE moves pages of private anonymous memory to where they are missing",
    }
    UFFD_MFILL_LOCK {
        since: V6_12, merged: "v6.9", commit: "867a43a34ff8",
        notice: "the filling ioctls give a private mapping an anon_vma even where they are refused; one that is gone is ENOENT, not EAGAIN",
    }
    SWAPIN_WRITABLE {
        since: V6_12, merged: "v6.11", commit: "20dfa5b7adc5",
        notice: "a load that brings an exclusive page back from swap maps it writable",
    }
    SWAPIN_NEW_RMAP {
        since: V6_12, merged: "v6.11", commit: "9ae2feacedde",
        notice: "an anonymous page that is read back from swap into locked memory is not marked as mlocked",
    }
    RSS_SUMMED {
        since: V6_12, merged: "v6.17, and v6.12 stable", commit: "82241a83cd15",
        notice: "/proc/PID/status gives the resident counters exactly, without what single CPUs or threads have not added yet",
    }
    DUP_USERFAULTFD_FAIL {
        since: V6_12, merged: "v6.12", commit: "f64e67e5d3a4",
        notice: "a fork that fails raises no UFFD_EVENT_FORK; before, the monitor was told of a child that will not be",
    }
    UFFDIO_EAGAIN_OUT {
        since: V6_12, merged: "v6.15, and v6.12 stable", commit: "95567729173e",
        notice: "while an event waits to be read, EAGAIN is written to the out field too",
    }
    MADV_GUARD {
        since: V6_18, merged: "v6.13", commit: "662df3e5c376",
        notice: "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE; on files from v6.15",
    }
    VMA_MERGE_UNFAULTED {
        since: V6_18, merged: "v6.16", commit: "879bca0a2c4f",
        notice: "a mapping with private pages merges with a neighbour that has none yet, on either side",
    }
    WRITE_FAULTS_IN_AFTER {
        since: V6_18, merged: "v6.15", commit: "665575cff098",
        notice: "write(2) takes its page before it looks at the source: written from a hole of that same page it raises no event",
    }
    MREMAP_SEVERAL {
        since: V6_18, merged: "v6.17", commit: "d23cb648e365",
        notice: "mremap moves several VMAs at once, unless they are registered, and unmaps nothing before it has checked the rest",
    }
    MADV_DONTNEED_REST {
        since: V6_18, merged: "v6.17", commit: "946fc11af061",
        notice: "MADV_DONTNEED goes on with the rest of a mapping that was split while the monitor read the event: REMOVE comes again",
    }
    UFFDIO_UNREGISTER_OWN {
        since: V6_18, merged: "v6.17", commit: "23ec90eb122f",
        notice: "UFFDIO_UNREGISTER through a userfaultfd that has not registered the memory answers EINVAL",
    }
    VM_MAYBE_GUARD {
        since: V6_18, merged: "v6.19, and v6.18.37", commit: "49e14dabed7a",
        notice: "MADV_GUARD_INSTALL on a file keeps no neighbours from merging; what fork(2) copies it decides for good",
    }
}

impl Kernel {
    /// Has the kernel that surrounds the revision this?
    #[inline]
    pub fn has(&self, delta: Delta) -> bool {
        self.revision().kernel() >= delta.about().since
    }
}
