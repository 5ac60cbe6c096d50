// SPDX-License-Identifier: GPL-2.0-only
//! Flag words, each flag under the kernel's own name.

#![allow(non_upper_case_globals)] // PG_locked, as in the kernel

use bitflags::bitflags;

macro_rules! kflags {
    ($(#[doc = $tdoc:literal])* $T:ident : $repr:ty { $($(#[doc = $doc:literal])* $N:ident = $v:expr),* $(,)? }) => {
        bitflags! {
            $(#[doc = $tdoc])*
            #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize)]
            pub struct $T: $repr { $($(#[doc = $doc])* const $N = $v;)* }
        }
        $($(#[doc = $doc])* pub const $N: $T = $T::$N;)*
    };
}

kflags! {
    /// `vm_area_struct.vm_flags`.
    VmFlags: u32 {
        /// Readable.
        VM_READ = 1,
        /// Writable.
        VM_WRITE = 1 << 1,
        /// Executable.
        VM_EXEC = 1 << 2,
        /// Shared: stores reach the file.
        VM_SHARED = 1 << 3,
        /// mprotect may add PROT_READ.
        VM_MAYREAD = 1 << 4,
        /// mprotect may add PROT_WRITE.
        VM_MAYWRITE = 1 << 5,
        /// mprotect may add PROT_EXEC.
        VM_MAYEXEC = 1 << 6,
        /// The mapping was asked for with MAP_SHARED (stays when VM_SHARED is taken away).
        VM_MAYSHARE = 1 << 7,
        /// mlocked.
        VM_LOCKED = 1 << 8,
        /// Not copied on fork.
        VM_DONTCOPY = 1 << 9,
        /// Charged against the commit limit.
        VM_ACCOUNT = 1 << 10,
        /// MAP_NORESERVE; on an inode: blocks are accounted one by one.
        VM_NORESERVE = 1 << 11,
        /// Soft-dirty tracking has not been armed since the mapping was made.
        VM_SOFTDIRTY = 1 << 12,
        /// Emptied on fork.
        VM_WIPEONFORK = 1 << 13,
        /// Registered with UFFDIO_REGISTER_MODE_MISSING.
        VM_UFFD_MISSING = 1 << 14,
        /// Registered with UFFDIO_REGISTER_MODE_WP.
        VM_UFFD_WP = 1 << 15,
        /// Registered with UFFDIO_REGISTER_MODE_MINOR.
        VM_UFFD_MINOR = 1 << 16,
        /// There are guard markers, or there once were.
        VM_MAYBE_GUARD = 1 << 17,
    }
}

kflags! {
    /// `pte_marker`: what a PTE marker says.
    PteMarker: u8 {
        /// Write-protected by userfaultfd (v5.19).
        PTE_MARKER_UFFD_WP = 1,
        /// An access raises SIGBUS (v6.6).
        PTE_MARKER_POISONED = 2,
        /// An access raises SIGSEGV (v6.13).
        PTE_MARKER_GUARD = 4,
        /// SWP_SWAPIN_ERROR (v5.19): an access raises SIGBUS. An entry of its own and no marker, until it became
        /// PTE_MARKER_POISONED: what overlooks markers does not overlook it.
        SWP_SWAPIN_ERROR = 8,
    }
}

/// Of two VMAs that merge one is enough to have it.
pub const VM_STICKY: VmFlags = VM_MAYBE_GUARD;

/// Flags that need not be alike for two VMAs to merge.
pub const VM_IGNORE_MERGE: VmFlags = VM_SOFTDIRTY.union(VM_STICKY);

/// The three userfaultfd registration flags.
pub const __VM_UFFD_FLAGS: VmFlags = VM_UFFD_MISSING.union(VM_UFFD_WP).union(VM_UFFD_MINOR);

kflags! {
    /// `struct page` flags.
    PageFlags: u32 {
        /// Under the page lock.
        PG_locked = 1,
        /// Referenced recently.
        PG_referenced = 1 << 1,
        /// Contents are valid.
        PG_uptodate = 1 << 2,
        /// Contents must be written before the frame may be dropped.
        PG_dirty = 1 << 3,
        /// On an LRU list.
        PG_lru = 1 << 4,
        /// On the active list.
        PG_active = 1 << 5,
        /// Kept off the evictable lists.
        PG_unevictable = 1 << 6,
        /// Mapped by an mlocked VMA.
        PG_mlocked = 1 << 7,
        /// Backed by swap: anonymous and shmem pages.
        PG_swapbacked = 1 << 8,
        /// In the swap cache.
        PG_swapcache = 1 << 9,
        /// Being written out.
        PG_writeback = 1 << 10,
        /// Reclaim is waiting for the writeout.
        PG_reclaim = 1 << 11,
        /// Has memory errors.
        PG_hwpoison = 1 << 12,
        /// I/O error.
        PG_error = 1 << 13,
        /// Of an anonymous page: no other address space maps it (v5.19).
        PG_anon_exclusive = 1 << 14,
    }
}

kflags! {
    /// Bits of a page-table entry, x86 names.
    PteFlags: u8 {
        /// Hardware lets stores through.
        _PAGE_RW = 1,
        /// Stored through since last cleaned.
        _PAGE_DIRTY = 1 << 1,
        /// Accessed.
        _PAGE_ACCESSED = 1 << 2,
        /// Stored through since soft-dirty tracking was armed.
        _PAGE_SOFT_DIRTY = 1 << 3,
        /// Write-protected by userfaultfd.
        _PAGE_UFFD_WP = 1 << 4,
        /// No struct page behind it (the zero page).
        _PAGE_SPECIAL = 1 << 5,
        /// Present for the kernel, but every user access traps.
        _PAGE_PROTNONE = 1 << 6,
        /// Of a swap entry: the page in the slot is this entry's alone (v5.19).
        _PAGE_SWP_EXCLUSIVE = 1 << 7,
    }
}

kflags! {
    /// `FAULT_FLAG_*`: how a fault came about.
    FaultFlags: u16 {
        /// A store.
        FAULT_FLAG_WRITE = 1,
        /// mmap_lock may be dropped and the fault retried.
        FAULT_FLAG_ALLOW_RETRY = 1 << 2,
        /// Do not wait, even when retrying.
        FAULT_FLAG_RETRY_NOWAIT = 1 << 3,
        /// A fatal signal may end the wait.
        FAULT_FLAG_KILLABLE = 1 << 4,
        /// Retried at least once.
        FAULT_FLAG_TRIED = 1 << 5,
        /// From user mode.
        FAULT_FLAG_USER = 1 << 6,
        /// For another mm than current's.
        FAULT_FLAG_REMOTE = 1 << 7,
        /// Any signal may end the wait.
        FAULT_FLAG_INTERRUPTIBLE = 1 << 9,
    }
}

kflags! {
    /// `VM_FAULT_*`: what a fault handler answers.
    VmFault: u16 {
        /// Out of memory.
        VM_FAULT_OOM = 1,
        /// Bus error.
        VM_FAULT_SIGBUS = 1 << 1,
        /// Needed I/O.
        VM_FAULT_MAJOR = 1 << 2,
        /// Copy on write was broken.
        VM_FAULT_WRITE = 1 << 3,
        /// Poisoned page.
        VM_FAULT_HWPOISON = 1 << 4,
        /// Segmentation fault.
        VM_FAULT_SIGSEGV = 1 << 6,
        /// The PTE is installed; no page is returned.
        VM_FAULT_NOPAGE = 1 << 8,
        /// The page comes back locked.
        VM_FAULT_LOCKED = 1 << 9,
        /// mmap_lock was dropped; start over.
        VM_FAULT_RETRY = 1 << 10,
        /// The COW page is filled.
        VM_FAULT_DONE_COW = 1 << 12,
    }
}

/// The results that end a fault with an error.
pub const VM_FAULT_ERROR: VmFault = VM_FAULT_OOM.union(VM_FAULT_SIGBUS).union(VM_FAULT_SIGSEGV).union(VM_FAULT_HWPOISON);

kflags! {
    /// `UFFD_FEATURE_*`, as asked for in UFFDIO_API.
    UffdFeatures: u64 {
        /// A write-protect fault is reported with UFFD_PAGEFAULT_FLAG_WP.
        UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1,
        /// Report fork.
        UFFD_FEATURE_EVENT_FORK = 1 << 1,
        /// Report mremap.
        UFFD_FEATURE_EVENT_REMAP = 1 << 2,
        /// Report MADV_DONTNEED, MADV_REMOVE and MADV_FREE.
        UFFD_FEATURE_EVENT_REMOVE = 1 << 3,
        /// MISSING works on hugetlbfs.
        UFFD_FEATURE_MISSING_HUGETLBFS = 1 << 4,
        /// MISSING works on shmem.
        UFFD_FEATURE_MISSING_SHMEM = 1 << 5,
        /// Report munmap.
        UFFD_FEATURE_EVENT_UNMAP = 1 << 6,
        /// A fault raises SIGBUS and no message.
        UFFD_FEATURE_SIGBUS = 1 << 7,
        /// Messages carry the faulting thread's id.
        UFFD_FEATURE_THREAD_ID = 1 << 8,
        /// MINOR works on hugetlbfs.
        UFFD_FEATURE_MINOR_HUGETLBFS = 1 << 9,
        /// MINOR works on shmem.
        UFFD_FEATURE_MINOR_SHMEM = 1 << 10,
        /// Messages give the address to the byte (v5.18).
        UFFD_FEATURE_EXACT_ADDRESS = 1 << 11,
        /// WP works on hugetlbfs and shmem (v5.19).
        UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12,
        /// WP of anonymous memory where no page is mapped (v6.4).
        UFFD_FEATURE_WP_UNPOPULATED = 1 << 13,
        /// UFFDIO_POISON (v6.6).
        UFFD_FEATURE_POISON = 1 << 14,
        /// Write-protect faults resolve themselves (v6.7).
        UFFD_FEATURE_WP_ASYNC = 1 << 15,
        /// UFFDIO_MOVE (v6.8).
        UFFD_FEATURE_MOVE = 1 << 16,
    }
}

kflags! {
    /// `UFFD_PAGEFAULT_FLAG_*` in a message.
    UffdPagefaultFlags: u8 {
        /// A store.
        UFFD_PAGEFAULT_FLAG_WRITE = 1,
        /// Reason: write-protected.
        UFFD_PAGEFAULT_FLAG_WP = 1 << 1,
        /// Reason: minor.
        UFFD_PAGEFAULT_FLAG_MINOR = 1 << 2,
    }
}

kflags! {
    /// File seals, `F_SEAL_*`.
    Seals: u8 {
        /// No further seals.
        F_SEAL_SEAL = 1,
        /// The file cannot shrink.
        F_SEAL_SHRINK = 1 << 1,
        /// The file cannot grow.
        F_SEAL_GROW = 1 << 2,
        /// The contents cannot change.
        F_SEAL_WRITE = 1 << 3,
        /// No new writes or writable mappings.
        F_SEAL_FUTURE_WRITE = 1 << 4,
    }
}

kflags! {
    /// `PROT_*` of mmap and mprotect.
    Prot: u8 {
        /// Loads.
        PROT_READ = 1,
        /// Stores.
        PROT_WRITE = 1 << 1,
        /// Instruction fetches.
        PROT_EXEC = 1 << 2,
    }
}

kflags! {
    /// `MAP_*` of mmap.
    MapFlags: u32 {
        /// Stores reach the file.
        MAP_SHARED = 1,
        /// Stores stay private.
        MAP_PRIVATE = 2,
        /// At this address exactly, replacing what is there.
        MAP_FIXED = 0x10,
        /// No file.
        MAP_ANONYMOUS = 0x20,
        /// Not charged.
        MAP_NORESERVE = 0x4000,
        /// mlocked.
        MAP_LOCKED = 0x2000,
        /// Populated at once.
        MAP_POPULATE = 0x8000,
        /// At this address, or EEXIST.
        MAP_FIXED_NOREPLACE = 0x100000,
    }
}
