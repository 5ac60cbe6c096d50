// SPDX-License-Identifier: GPL-2.0-only
//! What the review of the series said, by number: the index that scenarios refer to by `finding:`.

/// How a remark of the review can be looked at here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A scenario replays it.
    Scenario,
    /// It is about a variant that was not posted; the text says how to try it.
    Variant,
    /// It is about headers, comments, style or process: nothing to execute.
    NotExecutable,
}

/// One remark.
#[derive(Clone, Copy, Debug)]
pub struct Remark {
    /// `F01` and so on.
    pub id: &'static str,
    /// Who raised it.
    pub by: &'static str,
    /// Where in the source.
    pub place: &'static str,
    /// What it says.
    pub says: &'static str,
    /// What came of it.
    pub outcome: &'static str,
    /// How to look at it.
    pub kind: Kind,
}

macro_rules! remarks {
    ($($id:ident $kind:ident by $by:literal, $place:literal: $says:literal => $outcome:literal;)*) => {
        /// All remarks in order of their numbers.
        pub const ALL: &[Remark] = &[$(Remark {
            id: stringify!($id), by: $by, place: $place, says: $says, outcome: $outcome, kind: Kind::$kind,
        }),*];
    };
}

remarks! {
    F01 Scenario by "Hugh Dickins", "mm/userfaultfd.c:mcontinue_atomic_pte":
        "find_lock_page() does not allow for swap: CONTINUE says -EFAULT although the data exist" => "s1 looks the page up by shmem_getpage(SGP_READ)";
    F02 Scenario by "Hugh Dickins", "mm/shmem.c:shmem_getpage_gfp":
        "the minor check stands after the early return of the swap-in path: a swapped page is mapped without an event" => "s1 moves the check behind the swap-in, s2 in front of it";
    F03 Scenario by "Hugh Dickins", "mm/memory.c:do_read_fault":
        "fault-around must be bypassed where minor faults are wanted" => "guarded from the first posting; delete the VM_UFFD_MINOR test in do_read_fault to see it";
    F04 Scenario by "Hugh Dickins", "mcopy_atomic_install_ptes":
        "nothing is more important than keeping pte_write off page cache mapped privately" => "CONTINUE on a private mapping is never writable";
    F05 Scenario by "Hugh Dickins", "mcopy_atomic_install_ptes":
        "set_page_dirty or pte_mkdirty for a PTE that is not writable?" => "either keeps the data; 9ae0f87d009c made it pte_mkdirty, always";
    F06 Scenario by "Peter Xu, Hugh Dickins", "arch pte_wrprotect, fork":
        "is a PTE that is dirty but not writable legal?" => "yes, fork makes them all the time";
    F07 Scenario by "Hugh Dickins", "mm/mprotect.c:change_pte_range":
        "it sets pte_write where it finds pte_dirty, if dirty_accountable" => "cannot happen to shmem, which does no writeback accounting";
    F08 Scenario by "Hugh Dickins", "mcontinue_atomic_pte":
        "a hole punched between the event and CONTINUE" => "-EFAULT; with SGP_CACHE it would be a new zero page";
    F09 Variant by "Hugh Dickins", "mcontinue_atomic_pte":
        "looking the page up with the vma would raise minor faults without end" => "every revision passes no vma; put Some(dst_vma) into a copy of merged.rs to see it";
    F10 NotExecutable by "Hugh Dickins", "mcopy_atomic_install_ptes":
        "five independent booleans: doing too much yet not enough" => "s1 uses the helper for shmem too";
    F11 NotExecutable by "Hugh Dickins", "mcopy_atomic_install_ptes":
        "goto contortions at the end" => "single exit from s1 on";
    F12 Scenario by "Hugh Dickins", "shmem_getpage_gfp":
        "should user space do the swap-in itself? Not a robust interface" => "the event is raised without swap-in from s2 on; CONTINUE swaps in";
    F13 NotExecutable by "Hugh Dickins", "include/linux/shmem_fs.h":
        "do not include userfaultfd_k.h there" => "s1 passes a bool instead of the enum";
    F14 NotExecutable by "Hugh Dickins", "include/uapi/linux/userfaultfd.h":
        "UFFD_FEATURE_MINOR_SHMEM lacks a comment" => "added in s1";
    F15 NotExecutable by "Hugh Dickins", "mm/shmem.c":
        "names say little; combining zeropage and copy is liked; pgoff in both checks is better" => "renamed to mfill in merged";
    F16 NotExecutable by "Hugh Dickins", "the series":
        "refactoring should have been a patch of its own" => "split in nine or ten from s1 on";
    F17 Scenario by "Axel Rasmussen", "mm/userfaultfd.c:mfill_atomic_pte":
        "shmem_mcopy_atomic_pte is called for VM_SHARED only: a minor fault in a private mapping cannot be resolved" => "v4 handles CONTINUE before the VM_SHARED test";
    F18 Scenario by "Axel Rasmussen, v1 log", "shmem_mcopy_atomic_pte":
        "CONTINUE charges a block for a page that has one already" => "v1 charges new pages only";
    F19 Scenario by "Axel Rasmussen, v1 log", "shmem_mcopy_atomic_pte":
        "a failing CONTINUE takes the page out of the page cache while it is mapped" => "v1 takes out new pages only";
    F20 Scenario by "Peter Xu", "shmem_mcopy_atomic_pte":
        "a failing CONTINUE clears PG_dirty of a page that is not its own" => "v2 remembers the bit, v3 leaves it alone";
    F21 Scenario by "Peter Xu", "shmem_mcopy_atomic_pte":
        "a private CONTINUE would get a writable PTE" => "v2 does not set the bit";
    F22 Scenario by "Peter Xu", "shmem_mcopy_atomic_pte":
        "was_dirty is uninitialised on the writable path" => "v3 drops it";
    F23 Variant by "v3 log", "shmem_mcopy_atomic_pte":
        "offset is set on the path that CONTINUE jumps over; keeping the second check would use it uninitialised" => "v3 uses pgoff; a hazard between v2 and v3, in neither";
    F24 Scenario by "v2 and v3 logs", "shmem_mcopy_atomic_pte":
        "does CONTINUE need the second i_size check?" => "v2 has none, v3 keeps it";
    F25 Scenario by "Peter Xu", "mfill_atomic_pte":
        "the private case in shmem_mcopy_atomic_pte cannot be reached" => "v4 handles it in mm/userfaultfd.c";
    F26 Scenario by "Peter Xu", "mcopy_atomic_install_ptes":
        "anonymous COPY into a read-only mapping leaves the PTE clean" => "s1 makes it dirty";
    F27 Scenario by "Peter Xu", "mcopy_atomic_install_ptes":
        "vm_file is also set for private /dev/zero, which is anonymous" => "s1 asks vma_is_shmem";
    F28 NotExecutable by "Peter Xu", "mcopy_atomic_install_ptes":
        "is the i_size check under the PTE lock needed with the page lock held?" => "the comment was reworded";
    F29 NotExecutable by "Peter Xu", "mcopy_atomic_install_ptes":
        "mode is used only to tell CONTINUE" => "newly_allocated instead, from s1 on";
    F30 Variant by "Axel Rasmussen", "shmem_mcopy_atomic_pte, first posting of the feature":
        "the page was found without its lock, and the lock bit set non-atomically on a live page" => "fixed in the second posting, before the base";
    F31 Scenario by "-fix-2", "shmem_getpage_gfp":
        "every minor fault leaks a page reference" => "fixed before the base, so every revision holds";
}

/// Look a number up.
pub fn by_id(id: &str) -> Option<&'static Remark> {
    ALL.iter().find(|r| r.id.eq_ignore_ascii_case(id))
}
