// SPDX-License-Identifier: GPL-2.0-only
//! What does an ioctl answer? The table for those who write monitors: each operation on each kind of mapping, for each way of
//! registering it and each state of the page, on each kernel.
//!
//! A [`Cell`] of the table is a question. [`setup`] writes the scenario that asks it, [`answer`] runs that on the model and says
//! what came back, what is mapped afterwards and which message was raised. Nothing is written down but the questions.
//! [`confirm`] says which cells a real kernel was asked as well, and what it answered: made from recordings, by comparing what
//! was done, not names. [`table`] puts cells that answer alike together, [`document`] prints all of them.

pub mod answer;
pub mod confirm;
pub mod document;

pub mod setup;
pub mod table;

use crate::patch::Revision;
use crate::scenario::unknown;
use crate::syscall::RegisterMode;
use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal: $($variant:ident = $word:literal $(also $also:literal)*, $about:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $(#[doc = $about] $variant),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// On the command line and in tables.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// What it means.
            pub const fn about(self) -> &'static str {
                match self { $($name::$variant => $about),* }
            }

            /// Look a word up. An error says which word is near.
            pub fn from_word(word: &str) -> Result<$name, String> {
                let lower = word.to_lowercase();
                match lower.as_str() {
                    $($word $(| $also)* => Ok($name::$variant),)*
                    _ => Err($crate::scenario::unknown($what, word, &[$($word),*])),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

use words;

words! {
    /// What is done to the page.
    Operation, "operation":
    Copy = "copy", "UFFDIO_COPY";
    CopyWp = "copy-wp" also "copy+wp", "UFFDIO_COPY with UFFDIO_COPY_MODE_WP";
    Zeropage = "zeropage", "UFFDIO_ZEROPAGE";
    Continue = "continue", "UFFDIO_CONTINUE";
    ContinueWp = "continue-wp" also "continue+wp", "UFFDIO_CONTINUE with UFFDIO_CONTINUE_MODE_WP";
    Poison = "poison", "UFFDIO_POISON";
    Writeprotect = "writeprotect" also "wp", "UFFDIO_WRITEPROTECT with UFFDIO_WRITEPROTECT_MODE_WP";
    Unprotect = "unprotect" also "unwp", "UFFDIO_WRITEPROTECT without UFFDIO_WRITEPROTECT_MODE_WP";
    Load = "load" also "read", "a load";
    Store = "store" also "write", "a store";
}

words! {
    /// What the page belongs to.
    Mapping, "mapping":
    Shared = "shared", "MAP_SHARED of a memfd or of another file on tmpfs";
    Private = "private", "MAP_PRIVATE of a memfd or of another file on tmpfs";
    Anonymous = "anonymous" also "anon", "MAP_PRIVATE|MAP_ANONYMOUS";
}

words! {
    /// What the page is like when the operation comes. Some states belong to some mappings only: [`State::belongs`].
    State, "page state":
    Hole = "hole" also "none", "nothing there: no page in the file, nothing mapped";
    Cached = "cached" also "dirty", "data in the page cache, not mapped here";
    Clean = "clean", "in the page cache, read from a hole and never written, not mapped here";
    Fallocated = "fallocated" also "falloc", "allocated by fallocate(2) and never written, not mapped here";
    Swapped = "swapped", "data in swap";
    Mapped = "mapped" also "present", "data, mapped: of a file after a load, anonymous after a store";
    MappedClean = "mapped-clean", "a hole of the file that was loaded from here, so a clean page in the page cache";
    MappedWritten = "mapped-written" also "mapped-w", "data in the page cache, mapped writable by a store";
    Zero = "zero", "the zero page, mapped by a load";
    Dropped = "dropped" also "dontneed", "data that was mapped, then MADV_DONTNEED";
    Punched = "punched", "data that was mapped, then FALLOC_FL_PUNCH_HOLE";
    PrivateCopy = "private-copy" also "cow", "a private copy of a cached page, made by a store";
    PrivateCopySwapped = "private-copy-swapped" also "cow-swapped", "such a copy in swap; the page of the file is still cached";
    PrivateCopyDropped = "private-copy-dropped" also "cow-dontneed", "such a copy, then MADV_DONTNEED";
    PastEof = "past-eof" also "beyond", "past the end of the file";
    Truncated = "truncated" also "trunc", "data that was mapped, then ftruncate(2) below it";
    TailHole = "tail-hole", "the hole in which the file ends, 100 bytes into the page";
    TailData = "tail-data", "the page in which the file ends, 100 bytes of data";
    HoleWp = "hole-wp" also "marker-hole", "a hole, then UFFDIO_WRITEPROTECT (a PTE marker in files, nothing in anonymous memory)";
    CachedWp = "cached-wp" also "marker-dirty", "cached and not mapped, then UFFDIO_WRITEPROTECT (a PTE marker)";
    MappedWp = "mapped-wp" also "present-wp", "mapped, then UFFDIO_WRITEPROTECT";
    ZeroWp = "zero-wp", "the zero page, then UFFDIO_WRITEPROTECT";
    SwappedWp = "swapped-wp" also "wp-swapped", "mapped, write-protected, then paged out";
    PrivateCopyWp = "private-copy-wp" also "cow-wp", "a private copy, then UFFDIO_WRITEPROTECT";
    Poisoned = "poisoned" also "poison", "a hole, then UFFDIO_POISON";
    Guard = "guard", "a hole, then MADV_GUARD_INSTALL";
}

words! {
    /// How the mapping may be accessed when the operation comes.
    Protection, "protection":
    ReadWrite = "rw", "PROT_READ|PROT_WRITE";
    ReadOnly = "r", "PROT_READ: mprotect(2) after all else";
}

impl Operation {
    /// A load or a store.
    pub const fn is_access(self) -> bool {
        matches!(self, Operation::Load | Operation::Store)
    }
}

impl State {
    /// Can a page of such a mapping be in this state?
    pub const fn belongs(self, mapping: Mapping) -> bool {
        use State::*;
        match self {
            Hole | Swapped | Mapped | HoleWp | MappedWp | SwappedWp | Poisoned | Guard => true,
            MappedWritten => matches!(mapping, Mapping::Shared),
            Dropped => !matches!(mapping, Mapping::Private),
            Zero | ZeroWp => matches!(mapping, Mapping::Anonymous),
            PrivateCopy | PrivateCopySwapped | PrivateCopyDropped | PrivateCopyWp => matches!(mapping, Mapping::Private),
            Cached | Clean | Fallocated | MappedClean | Punched | PastEof | Truncated | TailHole | TailData | CachedWp => {
                !matches!(mapping, Mapping::Anonymous)
            }
        }
    }
}

/// With which modes the mapping is registered; none: not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Registration(u8);

impl Registration {
    /// Not registered, and the seven ways of registering.
    pub const ALL: [Registration; 8] = [
        Registration::NONE,
        Registration(1),
        Registration(2),
        Registration(4),
        Registration(3),
        Registration(5),
        Registration(6),
        Registration(7),
    ];

    /// Not registered.
    pub const NONE: Registration = Registration(0);

    /// The mode bits.
    pub const fn mode(self) -> RegisterMode {
        RegisterMode::from_bits_truncate(self.0 as u64)
    }

    /// `none`, or modes joined by `+`.
    pub fn word(self) -> String {
        let names = [(1, "missing"), (2, "wp"), (4, "minor")];
        let set: Vec<&str> = names.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name).collect();
        if set.is_empty() { "none".to_owned() } else { set.join("+") }
    }

    /// Look a word up: `missing+wp`, in any order.
    pub fn from_word(word: &str) -> Result<Registration, String> {
        let mut bits = 0;
        for part in word.split(['+', '|']) {
            bits |= match part.trim().to_lowercase().as_str() {
                "none" => 0,
                "missing" | "m" => 1,
                "wp" | "w" => 2,
                "minor" | "i" => 4,
                "mw" => 3,
                "mi" => 5,
                "wi" => 6,
                "mwi" => 7,
                _ => return Err(unknown("registration", part, &["none", "missing", "wp", "minor", "missing+wp"])),
            };
        }
        Ok(Registration(bits))
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())
    }
}

/// A question: one operation on one page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cell {
    /// What is done.
    pub operation: Operation,
    /// UFFD_FEATURE_SIGBUS was asked for. Of loads and stores only.
    pub sigbus: bool,
    /// In what.
    pub mapping: Mapping,
    /// With which rights.
    pub protection: Protection,
    /// How it is registered.
    pub registration: Registration,
    /// What is there.
    pub state: State,
}

/// Which cells are asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// These operations.
    pub operations: Vec<Operation>,
    /// With UFFD_FEATURE_SIGBUS; the ioctls are left out then.
    pub sigbus: bool,
    /// On these mappings.
    pub mappings: Vec<Mapping>,
    /// With these rights.
    pub protection: Protection,
    /// Registered like this.
    pub registrations: Vec<Registration>,
    /// Of pages like this.
    pub states: Vec<State>,
    /// On these kernels.
    pub revisions: Vec<Revision>,
}

/// The kernels that are asked if none is named: those that people run, not the postings of a series.
pub const KERNELS: [Revision; 5] = [Revision::Merged, Revision::V5_19, Revision::V6_1, Revision::V6_12, Revision::V6_18];

/// `6.1`: the revision that stands for a release.
pub fn kernel_from_word(word: &str) -> Result<Revision, String> {
    let wanted = word.trim_start_matches('v');
    let known: Vec<&str> = KERNELS.iter().map(|r| r.kernel().name()).collect();
    KERNELS.iter().copied().find(|r| r.kernel().name() == wanted).ok_or_else(|| unknown("kernel", word, &known))
}

/// How a revision is called in a table: a release by its number, a posting by its name.
pub fn kernel_name(revision: Revision) -> &'static str {
    if KERNELS.contains(&revision) { revision.kernel().name() } else { revision.name() }
}

impl Default for Query {
    /// Everything, on memory that may be written.
    fn default() -> Query {
        Query {
            operations: Operation::ALL.to_vec(),
            sigbus: false,
            mappings: Mapping::ALL.to_vec(),
            protection: Protection::ReadWrite,
            registrations: Registration::ALL.to_vec(),
            states: State::ALL.to_vec(),
            revisions: KERNELS.to_vec(),
        }
    }
}

impl Query {
    /// The cells, table by table.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &operation in self.operations.iter().filter(|o| !self.sigbus || o.is_access()) {
            for &mapping in &self.mappings {
                for &state in self.states.iter().filter(|s| s.belongs(mapping)) {
                    for &registration in &self.registrations {
                        let (sigbus, protection) = (self.sigbus, self.protection);
                        cells.push(Cell { operation, sigbus, mapping, protection, registration, state });
                    }
                }
            }
        }
        cells
    }
}
