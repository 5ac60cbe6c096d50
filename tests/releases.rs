// SPDX-License-Identifier: GPL-2.0-only
//! What the userfaultfd ioctls, and what touches them, answer from release to release: a few lines of a scenario, and how the
//! last one ends on v5.14 with the series and on the releases after it.

use faultline::corpus;
use faultline::delta::Delta;
use faultline::patch::Revision::{self, *};
use faultline::replay::{Answer, Verdicts, replay};
use faultline::report::matrix::Review;
use faultline::scenario::{parse, print};
use faultline::syscall::Out;

const KERNELS: [Revision; 5] = [Noalloc, V5_19, V6_1, V6_12, V6_18];

/// How the operations stand when nothing moves any more after them.
fn answers(revision: Revision, lines: &str) -> Vec<String> {
    told(revision, lines, false)
}

/// How those that were blocked ended.
fn resumed(revision: Revision, lines: &str) -> Vec<String> {
    told(revision, lines, true)
}

fn told(revision: Revision, lines: &str, resumed: bool) -> Vec<String> {
    let text = format!("question: what is the answer?\nmachine: swap=4\nthreads: main vcpu other\n\n{lines}\n");
    let scenario = parse::scenario("here", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let replay = replay(&scenario, revision, &[], false);
    assert!(replay.unlike.is_empty(), "{revision}: {:?}", replay.unlike);
    let said = |answer: &Answer, op| match answer {
        Answer::Returned(outcome) => print::outcome(op, outcome),
        other => format!("{other:?}"),
    };
    replay.rows.iter().filter(|row| row.resumed == resumed).map(|row| said(&row.answer, &row.op)).collect()
}

/// The last answer on each of [`KERNELS`].
#[track_caller]
fn last_answers(lines: &str, expected: [&str; 5]) {
    for (revision, expected) in KERNELS.into_iter().zip(expected) {
        let all = answers(revision, lines);
        assert_eq!(all.last().map_or("", |a| a.as_str()), expected, "on {revision}, after {all:#?}");
    }
}

/// A memfd of four pages at 0x100000, shared, and a userfaultfd 4 that watches it.
fn watched(mode: &str, then: &str) -> String {
    format!(
        r#"memfd_create("", MFD_ALLOW_SEALING) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {{api=0xaa, features=0}})
ioctl(4, UFFDIO_REGISTER, {{start=0x100000, len=16384, mode={mode}}})
{then}"#
    )
}

const MISSING: &str = "UFFDIO_REGISTER_MODE_MISSING";
const MINOR: &str = "UFFDIO_REGISTER_MODE_MINOR";

#[test]
fn poison_is_known_from_6_6_on() {
    let poison = "ioctl(4, UFFDIO_POISON, {start=0x101000, len=4096, mode=0})";
    let unknown = "-1 EINVAL";
    let done = "0 {updated=4096}";
    last_answers(&watched(MISSING, poison), [unknown, unknown, unknown, done, done]);
    let again = "-1 EEXIST {updated=-EEXIST}";
    last_answers(&watched(MISSING, &[poison, poison].join("\n")), [unknown, unknown, unknown, again, again]);
    // What the file holds does not matter, where it ends does.
    let written = "pwrite64(3, \"A\", 4096, 4096) = 4096";
    last_answers(&watched(MISSING, &[written, poison].join("\n")), [unknown, unknown, unknown, done, done]);
    let past = "-1 EFAULT {updated=-EFAULT}";
    last_answers(&watched(MISSING, &["ftruncate(3, 4096) = 0", poison].join("\n")), [unknown, unknown, unknown, past, past]);
    // The content that is copied there wakes nobody from the marker: it is written over.
    let copy = "ioctl(4, UFFDIO_COPY, {dst=0x101000, src=\"B\", len=4096, mode=0})";
    last_answers(&watched(MISSING, &[poison, copy].join("\n")), ["0 {copy=4096}"; 5]);
}

#[test]
fn private_zeropage_does_not_write_over_a_marker() {
    let lines = r#"mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {api=0xaa, features=0})
ioctl(3, UFFDIO_REGISTER, {start=0x100000, len=8192, mode=UFFDIO_REGISTER_MODE_MISSING})
ioctl(3, UFFDIO_POISON, {start=0x100000, len=4096, mode=0})
ioctl(3, UFFDIO_ZEROPAGE, {start=0x100000, len=4096, mode=0})"#;
    let done = "0 {zeropage=4096}";
    let there = "-1 EEXIST {zeropage=-EEXIST}";
    last_answers(lines, [done, done, done, there, there]);
}

#[test]
fn a_private_mapping_of_dev_zero_can_be_registered_and_then_not_be_filled() {
    let lines = r#"open("/dev/zero", O_RDWR) = 3
mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=0})
ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=8192, mode=UFFDIO_REGISTER_MODE_MISSING})
ioctl(4, UFFDIO_COPY, {dst=0x100000, src="B", len=4096, mode=0})"#;
    let done = "0 {copy=4096}";
    let past = "-1 EFAULT {copy=-EFAULT}";
    last_answers(lines, [done, done, done, past, past]);
}

#[test]
fn continue_maps_write_protected_from_6_4_on() {
    let lines = "pwrite64(3, \"A\", 4096, 0) = 4096\nioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096, mode=2})";
    let unknown = "-1 EINVAL";
    let unregistered = "-1 EINVAL {mapped=-EINVAL}";
    last_answers(&watched(MINOR, lines), [unknown, unknown, unknown, unregistered, unregistered]);
    let both = "UFFDIO_REGISTER_MODE_MINOR|UFFDIO_REGISTER_MODE_WP";
    let done = "0 {mapped=4096}";
    last_answers(&watched(both, lines), [unknown, unknown, unknown, done, done]);
}

#[test]
fn copy_takes_no_source_past_the_end_of_user_space() {
    let copy = "ioctl(4, UFFDIO_COPY, {dst=0x100000, src=0x7ffffffff000, len=4096, mode=0})";
    let unreadable = "-1 EFAULT {copy=-EFAULT}";
    let wrong = "-1 EINVAL";
    last_answers(&watched(MISSING, copy), [unreadable, unreadable, unreadable, wrong, wrong]);
}

#[test]
fn the_features_grow() {
    let lines = "userfaultfd(O_NONBLOCK) = 3\nioctl(3, UFFDIO_API, {api=0xaa, features=0})";
    let features = [0x7ff, 0x1fff, 0x1fff, 0x1ffff, 0x1ffff];
    for (revision, features) in KERNELS.into_iter().zip(features) {
        let scenario = parse::scenario("here", &format!("question: which?\n\n{lines}\n")).unwrap();
        let replay = replay(&scenario, revision, &[], false);
        let Answer::Returned(outcome) = &replay.rows[1].answer else { panic!() };
        assert!(matches!(outcome.out, Out::Api { features: f, .. } if f == features), "{revision}: {outcome:?}");
    }
}

#[test]
fn what_is_not_known_yet_is_refused() {
    let lines = "userfaultfd(O_NONBLOCK) = 3\nioctl(3, UFFDIO_API, {api=0xaa, features=0x4000})";
    let zeroed = "-1 EINVAL {features=0, ioctls=0}";
    for (revision, known) in KERNELS.into_iter().zip([false, false, false, true, true]) {
        assert_eq!(answers(revision, lines)[1] != zeroed, known, "{revision}");
    }
}

#[test]
fn write_protection_of_shmem_is_registered_from_5_19_on() {
    let lines = "ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=16384, mode=UFFDIO_REGISTER_MODE_WP})";
    for (revision, works) in KERNELS.into_iter().zip([false, true, true, true, true]) {
        let all = answers(revision, &watched(MISSING, lines));
        assert_eq!(all.last().is_some_and(|a| a.starts_with("0")), works, "{revision}: {all:?}");
    }
}

#[test]
fn writeprotect_goes_over_several_mappings_from_6_4_on() {
    let wp = "UFFDIO_REGISTER_MODE_MISSING|UFFDIO_REGISTER_MODE_WP";
    let lines = r#"munmap(0x102000, 4096) = 0
ioctl(4, UFFDIO_WRITEPROTECT, {start=0x100000, len=16384, mode=UFFDIO_WRITEPROTECT_MODE_WP})"#;
    // Of v5.14 nothing was registered.
    let one = "-1 ENOENT";
    last_answers(&watched(wp, lines), [one, one, one, "0", "0"]);
    let hole = r#"munmap(0x100000, 16384) = 0
ioctl(4, UFFDIO_WRITEPROTECT, {start=0x100000, len=16384, mode=UFFDIO_WRITEPROTECT_MODE_WP})"#;
    last_answers(&watched(wp, hole), ["-1 ENOENT"; 5]);
}

#[test]
fn writeprotect_that_meets_an_unregistered_mapping_has_done_those_before_it() {
    let lines = r#"mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x100000, 'A') = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {api=0xaa, features=0})
ioctl(3, UFFDIO_REGISTER, {start=0x100000, len=4096, mode=UFFDIO_REGISTER_MODE_WP})
ioctl(3, UFFDIO_WRITEPROTECT, {start=0x100000, len=16384, mode=UFFDIO_WRITEPROTECT_MODE_WP}) = -1 ENOENT
vcpu: store(0x100000, 'B')"#;
    last_answers(lines, ["0", "0", "0", "Blocked", "Blocked"]);
}

#[test]
fn unregister_through_another_userfaultfd_is_refused_from_6_17_on() {
    let lines = r#"userfaultfd(O_NONBLOCK) = 5
ioctl(5, UFFDIO_API, {api=0xaa, features=0})
ioctl(5, UFFDIO_UNREGISTER, {start=0x100000, len=16384})"#;
    last_answers(&watched(MISSING, lines), ["0", "0", "0", "0", "-1 EINVAL"]);
}

#[test]
fn an_unread_event_is_told_in_the_out_field() {
    let lines = r#"memfd_create("", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_EVENT_REMOVE})
ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=16384, mode=UFFDIO_REGISTER_MODE_MISSING})
vcpu: madvise(0x100000, 4096, MADV_DONTNEED) <unfinished ...>
ioctl(4, UFFDIO_COPY, {dst=0x100000, src="B", len=4096, mode=0})"#;
    let untouched = "-1 EAGAIN";
    let told = "-1 EAGAIN {copy=-EAGAIN}";
    for (revision, expected) in KERNELS.into_iter().zip([untouched, untouched, untouched, told, told]) {
        // The madvise ends when everybody exits.
        assert!(answers(revision, lines).iter().any(|a| a == expected), "{revision}");
    }
}

#[test]
fn a_memfd_sealed_against_writing_is_mapped_for_reading_and_not_watched() {
    let lines = r#"memfd_create("", MFD_ALLOW_SEALING) = 3
ftruncate(3, 16384) = 0
fcntl(3, F_ADD_SEALS, F_SEAL_WRITE) = 0
mmap(0x100000, 16384, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0)"#;
    let mapped = "0x100000";
    last_answers(lines, ["-1 EPERM", "-1 EPERM", mapped, mapped, mapped]);
    let register = r#"userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=0})
ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=16384, mode=UFFDIO_REGISTER_MODE_MISSING})"#;
    let none = "-1 ENOMEM";
    let never = "-1 EPERM";
    last_answers(&[lines, register].join("\n"), [none, none, never, never, never]);
    // It may be sealed while such a mapping is there, and by nobody made writable.
    let protect = "mprotect(0x100000, 4096, PROT_READ|PROT_WRITE)";
    last_answers(&[lines, protect].join("\n"), ["-1 ENOMEM", "-1 ENOMEM", "-1 EACCES", "-1 EACCES", "-1 EACCES"]);
}

#[test]
fn a_write_from_a_hole_of_its_own_page_raises_no_event_from_6_15_on() {
    let lines = "vcpu: pwrite64(3, 0x101000, 4096, 4096)";
    last_answers(&watched(MISSING, lines), ["Blocked", "Blocked", "Blocked", "Blocked", "4096"]);
}

#[test]
fn the_address_to_the_byte_is_told_to_who_asks() {
    let lines = |features: &str| {
        format!(
            r#"memfd_create("", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {{api=0xaa, features={features}}})
ioctl(4, UFFDIO_REGISTER, {{start=0x100000, len=16384, mode=UFFDIO_REGISTER_MODE_MISSING}})
vcpu: load(0x101123) <unfinished ...>
read(4)"#
        )
    };
    let page = "{PAGEFAULT, address=0x101000, flags=0}";
    let byte = "{PAGEFAULT, address=0x101123, flags=0}";
    for revision in KERNELS {
        assert!(answers(revision, &lines("0")).iter().any(|a| a == page), "{revision}: {:?}", answers(revision, &lines("0")));
    }
    for revision in &KERNELS[1..] {
        let all = answers(*revision, &lines("0x800"));
        assert!(all.iter().any(|a| a == byte), "{revision}: {all:?}");
    }
}

#[test]
fn write_protection_goes_with_the_registration() {
    let lines = |drop: &str| {
        format!(
            r#"mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x100000, 'A') = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {{api=0xaa, features=0}})
ioctl(3, UFFDIO_REGISTER, {{start=0x100000, len=4096, mode=UFFDIO_REGISTER_MODE_WP}})
ioctl(3, UFFDIO_WRITEPROTECT, {{start=0x100000, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP}}) = 0
{drop}
userfaultfd(O_NONBLOCK)
ioctl(NEW, UFFDIO_API, {{api=0xaa, features=0}})
ioctl(NEW, UFFDIO_REGISTER, {{start=0x100000, len=4096, mode=UFFDIO_REGISTER_MODE_WP}})
vcpu: store(0x100000, 'B')"#
        )
    };
    // Registered again, a bit that was left behind is asked about.
    let unregister = lines("ioctl(3, UFFDIO_UNREGISTER, {start=0x100000, len=4096}) = 0").replace("NEW", "4");
    last_answers(&unregister, ["Blocked", "Blocked", "0", "0", "0"]);
    let close = lines("close(3) = 0").replace("NEW", "3");
    last_answers(&close, ["Blocked", "Blocked", "0", "0", "0"]);
}

const WP: &str = "UFFDIO_REGISTER_MODE_WP";
const PROTECT: &str = "ioctl(4, UFFDIO_WRITEPROTECT, {start=0x100000, len=16384, mode=UFFDIO_WRITEPROTECT_MODE_WP})";

#[test]
fn a_marker_keeps_the_protection_of_an_empty_page_of_a_file() {
    let lines = |drop: &str| watched(WP, &[drop, PROTECT, "vcpu: store(0x101000, 'B')"].join("\n"));
    // v5.14 registers no file for WP.
    for (drop, last) in [("fstat(3)", "Blocked"), ("munmap(0x100000, 4096) = 0", "Blocked")] {
        for (revision, spans) in KERNELS.into_iter().zip([false, false, false, true, true]) {
            let all = answers(revision, &lines(drop));
            // A hole in the range is passed over from v6.3 on.
            let protected = revision != Noalloc && (spans || !drop.starts_with("munmap"));
            assert_eq!(all.last().is_some_and(|a| a == last), protected, "{revision}: {all:?}");
        }
    }
}

#[test]
fn anonymous_memory_is_marked_from_6_4_on_for_who_asks() {
    let lines = |features: &str| {
        format!(
            r#"mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 3
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {{api=0xaa, features={features}}})
ioctl(4, UFFDIO_REGISTER, {{start=0x100000, len=16384, mode={WP}}})
{PROTECT}
vcpu: store(0x101000, 'B')"#
        )
    };
    last_answers(&lines("0"), ["0"; 5]);
    last_answers(&lines("UFFD_FEATURE_WP_UNPOPULATED"), ["0", "0", "0", "Blocked", "Blocked"]);
}

#[test]
fn a_moved_mapping_takes_no_protection_along_unless_its_monitor_is_told() {
    let lines = |then: &str| {
        format!(
            r#"mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x100000, 'A') = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {{api=0xaa, features=0}})
ioctl(3, UFFDIO_REGISTER, {{start=0x100000, len=4096, mode={WP}}}) = 0
ioctl(3, UFFDIO_WRITEPROTECT, {{start=0x100000, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP}}) = 0
mremap(0x100000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000) = 0x200000
ioctl(3, UFFDIO_REGISTER, {{start=0x200000, len=4096, mode={WP}}}) = 0
{then}"#
        )
    };
    last_answers(&lines("vcpu: store(0x200000, 'B')"), ["Blocked", "Blocked", "0", "0", "0"]);
}

#[test]
fn mprotect_lets_no_store_through_to_a_protected_page_of_a_file_from_6_2_on() {
    let lines = "store(0x101000, 'A') = 0\n".to_owned()
        + PROTECT
        + "\nmprotect(0x100000, 16384, PROT_READ) = 0\nmprotect(0x100000, 16384, PROT_READ|PROT_WRITE) = 0\nvcpu: store(0x101000, 'B')";
    last_answers(&watched(WP, &lines), ["0", "0", "Blocked", "Blocked", "Blocked"]);
}

#[test]
fn poison_raises_sigbus_and_populates_as_a_broken_page_does() {
    let poison = "ioctl(4, UFFDIO_POISON, {start=0x101000, len=4096, mode=0})";
    let missing = "Blocked";
    let sigbus = "SIGBUS_MCEERR_AR";
    let lines = |then: &str| watched(MISSING, &[poison, then].join("\n"));
    last_answers(&lines("vcpu: load(0x101000)"), [missing, missing, missing, sigbus, sigbus]);
    let broken = "-1 EHWPOISON";
    last_answers(&lines("vcpu: madvise(0x101000, 4096, MADV_POPULATE_READ)"), [missing, missing, missing, broken, broken]);
}

#[test]
fn guards_came_with_6_13_and_to_files_with_6_15() {
    let install = "madvise(0x101000, 4096, MADV_GUARD_INSTALL)";
    let unknown = "-1 EINVAL";
    last_answers(&watched(MISSING, install), [unknown, unknown, unknown, unknown, "0"]);
    let lines = [install, "vcpu: load(0x101000)"].join("\n");
    last_answers(&watched(MISSING, &lines), ["Blocked", "Blocked", "Blocked", "Blocked", "SIGSEGV_MAPERR"]);
    // COPY does not ask what a marker says.
    let lines = [install, "ioctl(4, UFFDIO_COPY, {dst=0x101000, src=\"B\", len=4096, mode=0})"].join("\n");
    last_answers(&watched(MISSING, &lines), ["0 {copy=4096}"; 5]);
}

#[test]
fn guards_keep_no_neighbours_apart_and_decide_what_a_child_gets() {
    let file = r#"memfd_create("", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
madvise(0x100000, 4096, MADV_DONTFORK) = 0
madvise(0x100000, 8192, MADV_GUARD_INSTALL)
madvise(0x100000, 4096, MADV_DOFORK) = 0
"#;
    last_seen(file, "maps", ["0x100000-0x104000 rw-s"; 5]);
    // Where the guards were nobody knows any more: the child gets all that is mapped.
    let lines = format!(
        "{file}madvise(0x100000, 8192, MADV_GUARD_REMOVE)
store(0x103000, 'A') = 0
fork() as child"
    );
    let page =
        |exclusive: &str, count: u64| format!("present file{exclusive} kpf=UDMb count={count} mincore=1 [0x41 0x00 0x00 0x00]");
    let (alone, twice) = (page(" exclusive", 1), page("", 2));
    last_seen(&lines, "0x103000", [&alone, &alone, &alone, &alone, &twice]);
}

#[test]
fn the_monitor_is_told_again_of_what_was_split_off_meanwhile_from_6_17_on() {
    let lines = format!(
        r#"memfd_create("", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {{api=0xaa, features=UFFD_FEATURE_EVENT_REMOVE}})
ioctl(4, UFFDIO_REGISTER, {{start=0x100000, len=16384, mode={MISSING}}})
vcpu: madvise(0x100000, 16384, MADV_DONTNEED) <unfinished ...>
mprotect(0x102000, 4096, PROT_READ) = 0
read(4) = {{REMOVE, start=0x100000, end=0x104000}}
read(4)"#
    );
    let nothing = "-1 EAGAIN";
    last_answers(&lines, [nothing, nothing, nothing, nothing, "{REMOVE, start=0x102000, end=0x103000}"]);
}

#[test]
fn read_of_what_is_no_userfaultfd_gives_its_bytes() {
    let lines = |file: &str| format!("{file}\nread(3)");
    let memfd = "memfd_create(\"\", 0) = 3\nftruncate(3, 40) = 0";
    last_answers(&lines(memfd), ["32"; 5]);
    last_answers(&lines(&lines(memfd)), ["8"; 5]);
    last_answers(&lines(&lines(&lines(memfd))), ["0"; 5]);
    last_answers(&lines("open(\"/dev/zero\", O_RDWR) = 3"), ["32"; 5]);
    last_answers(&lines("open(\"/dev/zero\", O_WRONLY) = 3"), ["-1 EBADF"; 5]);
    last_answers(&lines("open(\"/proc/self/mem\", O_RDWR) = 3"), ["-1 EIO"; 5]);
    last_answers("userfaultfd(O_NONBLOCK) = 3\npread64(3, \"\", 4096, 0)", ["-1 ESPIPE"; 5]);
    last_answers("open(\"/dev/zero\", O_RDWR) = 3\npread64(3, 0xffff800000000000, 4096, 0)", ["-1 EFAULT"; 5]);
}

#[test]
fn files_without_a_method_answer_what_the_kernel_has_for_them() {
    let answers = |file: &str, op: &str, all: [&str; 5]| last_answers(&format!("{file} = 3\n{op}"), all);
    let (uffd, mem) = ("userfaultfd(O_NONBLOCK)", "open(\"/proc/self/mem\", O_RDWR)");
    let (zero, read_only) = ("open(\"/dev/zero\", O_RDWR)", "open(\"/dev/zero\", O_RDONLY)");
    let fallocate = "fallocate(3, 0, 0, 4096)";
    answers(uffd, fallocate, ["-1 ENODEV", "-1 ENODEV", "-1 EBADF", "-1 EBADF", "-1 EBADF"]);
    answers(mem, fallocate, ["-1 EOPNOTSUPP"; 5]);
    answers(zero, fallocate, ["-1 ENODEV"; 5]);
    answers(read_only, fallocate, ["-1 EBADF"; 5]);
    let lseek = "lseek(3, 0, SEEK_DATA)";
    answers(uffd, lseek, ["-1 ESPIPE", "-1 ESPIPE", "0", "0", "0"]);
    answers(mem, lseek, ["-1 EINVAL"; 5]);
    answers(zero, lseek, ["0"; 5]);
    answers(read_only, "fcntl(3, F_ADD_SEALS, F_SEAL_SHRINK)", ["-1 EPERM"; 5]);
    answers(mem, "ftruncate(3, 4096)", ["0"; 5]);
    answers(mem, "ftruncate(3, 0x80000000)", ["-1 EFBIG"; 5]);
    answers(uffd, "ftruncate(3, 4096)", ["-1 EINVAL"; 5]);
    answers(zero, "poll(3)", ["POLLIN"; 5]);
}

#[test]
fn madvise_drops_locked_pages_from_5_18_on_for_who_asks() {
    let lines = "store(0x101000, 'A') = 0\nmlock(0x100000, 16384) = 0\nmadvise(0x101000, 4096, MADV_DONTNEED_LOCKED)";
    last_answers(
        &watched(WP, &lines.replace("mlock(0x100000, 16384)", "mlock(0x101000, 4096)")),
        ["-1 EINVAL", "0", "0", "0", "0"],
    );
}

#[test]
fn truncation_frees_private_copies_in_swap_from_5_18_on() {
    let lines = r#"memfd_create("", 0) = 3
ftruncate(3, 4096) = 0
mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, 3, 0) = 0x100000
store(0x100000, 'A') = 0
madvise(0x100000, 4096, MADV_PAGEOUT) = 0
ftruncate(3, 0) = 0
ftruncate(3, 4096) = 0
load(0x100000)"#;
    // In memory the copy went with the end of the file all along.
    last_answers(lines, ["0x41", "0x00", "0x00", "0x00", "0x00"]);
}

#[test]
fn willneed_of_shmem_stops_at_the_end_of_the_range() {
    let lines = r#"memfd_create("", 0) = 3
ftruncate(3, 16384) = 0
pwrite64(3, "A", 16384, 0) = 16384
mmap(0x100000, 16384, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
madvise(0x100000, 16384, MADV_POPULATE_READ) = 0
madvise(0x100000, 16384, MADV_PAGEOUT) = 0
madvise(0x100000, 8192, MADV_WILLNEED) = 0
mincore(0x100000, 16384)"#;
    let too_many = "0 [1 1 1 0]";
    let asked_for = "0 [1 1 0 0]";
    last_answers(lines, [too_many, too_many, too_many, asked_for, asked_for]);
}

#[test]
fn mremap_looks_before_it_unmaps_and_moves_several_mappings_from_6_17_on() {
    let two = r#"mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x101000, 'A') = 0
mprotect(0x101000, 4096, PROT_READ) = 0
mmap(0x200000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x200000"#;
    let lines = |then: &[&str]| [&[two], then].concat().join("\n");
    let both = "mremap(0x100000, 8192, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x300000)";
    last_answers(&lines(&[both]), ["-1 EFAULT", "-1 EFAULT", "-1 EFAULT", "-1 EFAULT", "0x300000"]);
    last_answers(
        &lines(&[both, "load(0x301000)"]),
        ["SIGSEGV_MAPERR", "SIGSEGV_MAPERR", "SIGSEGV_MAPERR", "SIGSEGV_MAPERR", "0x41"],
    );
    // What cannot be grown, or is not there, was found out after the new place had been unmapped.
    let grow = "mremap(0x100000, 8192, 12288, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000) = -1 EFAULT";
    let gone = "SIGSEGV_MAPERR";
    last_answers(&lines(&[grow, "load(0x200000)"]), [gone, gone, gone, gone, "0x00"]);
    let nothing = "mremap(0x500000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000) = -1 EFAULT";
    last_answers(&lines(&[nothing, "load(0x200000)"]), [gone, "0x00", "0x00", "0x00", "0x00"]);
    let none = "-1 EFAULT";
    last_answers("mremap(0x500000, 8192, 4096, 0)", ["0x500000", none, none, none, none]);
}

#[test]
fn a_watched_mapping_is_not_moved_together_with_others() {
    let lines = r#"mmap(0x104000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x104000
mremap(0x100000, 20480, 20480, MREMAP_MAYMOVE|MREMAP_FIXED, 0x300000)"#;
    last_answers(&watched(MISSING, lines), ["-1 EFAULT"; 5]);
}

#[test]
fn a_mapping_with_private_pages_merges_with_one_without_from_6_16_on() {
    // CONTINUE and COPY work inside of one mapping.
    let lines = r#"mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
mlock(0x101000, 4096) = 0
munlock(0x101000, 4096) = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {api=0xaa, features=0})
ioctl(3, UFFDIO_REGISTER, {start=0x100000, len=8192, mode=UFFDIO_REGISTER_MODE_MISSING}) = 0
madvise(0x100000, 8192, MADV_DONTNEED) = 0
ioctl(3, UFFDIO_COPY, {dst=0x100000, src="C", len=8192, mode=0})"#;
    let apart = "-1 ENOENT {copy=-ENOENT}";
    last_answers(lines, [apart, apart, apart, apart, "0 {copy=8192}"]);
}

#[test]
fn memory_that_was_never_touched_and_becomes_read_only_is_not_charged_from_6_5_on() {
    for (revision, refused) in KERNELS.into_iter().zip([true, true, true, false, false]) {
        let text = r#"question: is there room?
machine: commit-limit=2

mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
mprotect(0x100000, 8192, PROT_READ) = 0
mmap(0x200000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
"#;
        let scenario = parse::scenario("here", text).unwrap();
        let run = replay(&scenario, revision, &[], false);
        assert!(run.broken.is_empty(), "{revision}: {:?}", run.broken);
        let Answer::Returned(outcome) = &run.rows[2].answer else { panic!() };
        assert_eq!(outcome.ret.is_err(), refused, "{revision}");
    }
}

#[test]
fn a_mapping_that_is_gone_is_told_as_that_from_6_9_on() {
    let lines = r#"memfd_create("", 0) = 3
ftruncate(3, 4096) = 0
mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
mmap(0x300000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x300000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_EVENT_UNMAP})
ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=4096, mode=UFFDIO_REGISTER_MODE_MISSING})
userfaultfd(O_NONBLOCK) = 5
ioctl(5, UFFDIO_API, {api=0xaa, features=0})
ioctl(5, UFFDIO_REGISTER, {start=0x300000, len=4096, mode=UFFDIO_REGISTER_MODE_MISSING})
vcpu: ioctl(4, UFFDIO_COPY, {dst=0x100000, src=0x300000, len=4096, mode=0}) <unfinished ...>
other: munmap(0x100000, 4096) <unfinished ...>
ioctl(5, UFFDIO_ZEROPAGE, {start=0x300000, len=4096, mode=0})
vcpu: <... resumed>"#;
    let (busy, gone) = ("-1 EAGAIN {copy=-EAGAIN}", "-1 ENOENT {copy=-ENOENT}");
    // munmap sleeps until the end: nobody reads its event.
    assert_eq!(KERNELS.map(|revision| resumed(revision, lines)), [busy, busy, busy, gone, gone].map(|a| [a, "Killed"]));
}

#[test]
fn a_fork_that_fails_is_told_to_nobody_from_6_12_on() {
    let lines = r#"memfd_create("", 0) = 3
ftruncate(3, 4096) = 0
mmap(0x200000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x200000
mmap(0x300000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x300000
userfaultfd(O_NONBLOCK) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_EVENT_FORK})
ioctl(4, UFFDIO_REGISTER, {start=0x200000, len=4096, mode=UFFDIO_REGISTER_MODE_MISSING})
vcpu: fork() as nobody (INJECTED: vm_area_dup#2)
read(4)"#;
    let told = "{FORK, ufd=5}";
    last_answers(lines, [told, told, told, "-1 EAGAIN", "-1 EAGAIN"]);
}

#[test]
fn a_private_page_that_swapoff_cannot_read_raises_sigbus_from_5_19_on() {
    let lost = |then: &str| {
        format!(
            r#"mmap(0x200000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x200000
store(0x200000, 'A') = 0
madvise(0x200000, 4096, MADV_PAGEOUT) = 0
swapoff() (INJECTED: swap read) = 0
{then}"#
        )
    };
    let (sigbus, poison) = ("SIGBUS", "SIGBUS_MCEERR_AR");
    last_answers(&lost("load(0x200000)"), ["stale:0x41", sigbus, sigbus, poison, poison]);
    let child = "vcpu: fork() as child = child\nchild: load(0x200000)";
    last_answers(&lost(child), ["stale:0x41", sigbus, sigbus, poison, poison]);
    // A marker counts as none, and what came before it did not.
    last_answers(&lost("mincore(0x200000, 4096)"), ["0 [1]", "0 [1]", "0 [1]", "0 [0]", "0 [0]"]);
    let copy = r#"userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {api=0xaa, features=0})
ioctl(3, UFFDIO_REGISTER, {start=0x200000, len=4096, mode=UFFDIO_REGISTER_MODE_MISSING})
ioctl(3, UFFDIO_COPY, {dst=0x200000, src="C", len=4096, mode=0})"#;
    let (exists, done) = ("-1 EEXIST {copy=-EEXIST}", "0 {copy=4096}");
    last_answers(&lost(copy), [exists, exists, exists, done, done]);
}

/// Anonymous memory at 0x100000 that a userfaultfd 3 watches, and some at 0x200000 with a page that is stored to.
fn to_move(then: &str) -> String {
    format!(
        r#"mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
mmap(0x200000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x200000
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {{api=0xaa, features=0}})
ioctl(3, UFFDIO_REGISTER, {{start=0x100000, len=8192, mode=UFFDIO_REGISTER_MODE_MISSING|UFFDIO_REGISTER_MODE_WP}})
store(0x200000, 'A') = 0
{then}"#
    )
}

const MOVE: &str = "ioctl(3, UFFDIO_MOVE, {dst=0x100000, src=0x200000, len=4096, mode=0})";

#[test]
fn pages_are_moved_from_6_8_on() {
    let unknown = "-1 EINVAL";
    let done = "0 {move=4096}";
    last_answers(&to_move(MOVE), [unknown, unknown, unknown, done, done]);
    // Not what somebody else may have too, until it is this process's alone again.
    let fork = "vcpu: fork() as child = child";
    let busy = "-1 EBUSY {move=-EBUSY}";
    last_answers(&to_move(&[fork, MOVE].join("\n")), [unknown, unknown, unknown, busy, busy]);
    let swapped = "madvise(0x200000, 4096, MADV_PAGEOUT) = 0";
    last_answers(&to_move(&[swapped, fork, MOVE].join("\n")), [unknown, unknown, unknown, busy, busy]);
    let stored = "store(0x200000, 'B') = 0";
    last_answers(&to_move(&[fork, stored, MOVE].join("\n")), [unknown, unknown, unknown, done, done]);
    // A marker is neither a page nor a hole.
    let poison = "ioctl(3, UFFDIO_POISON, {start=0x101000, len=4096, mode=0})";
    let from = "ioctl(3, UFFDIO_MOVE, {dst=0x100000, src=0x101000, len=4096, mode=UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES})";
    let fault = "-1 EFAULT {move=-EFAULT}";
    last_answers(&to_move(&[poison, from].join("\n")), [unknown, unknown, unknown, fault, fault]);
    let onto = "ioctl(3, UFFDIO_MOVE, {dst=0x101000, src=0x200000, len=4096, mode=0})";
    let exists = "-1 EEXIST {move=-EEXIST}";
    last_answers(&to_move(&[poison, onto].join("\n")), [unknown, unknown, unknown, exists, exists]);
}

#[test]
fn a_page_is_moved_without_its_write_protection_unless_it_is_in_swap() {
    let protect = "ioctl(3, UFFDIO_WRITEPROTECT, {start=0x101000, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP})";
    let fill = "ioctl(3, UFFDIO_ZEROPAGE, {start=0x101000, len=4096, mode=0})\nioctl(3, UFFDIO_WRITEPROTECT, {start=0x101000, len=4096, mode=0})";
    let own = "other: store(0x101000, 'B')";
    let moved = "ioctl(3, UFFDIO_MOVE, {dst=0x100000, src=0x101000, len=4096, mode=0})";
    let store = "vcpu: store(0x100000, 'C')";
    let told = |lines: &[&str]| answers(V6_18, &to_move(&lines.join("\n"))).pop().unwrap();
    assert_eq!(told(&[fill, own, protect, moved, store]), "0");
    let swapped = "madvise(0x101000, 4096, MADV_PAGEOUT)";
    assert_eq!(told(&[fill, own, protect, swapped, moved, store]), "Blocked");
}

#[test]
fn ranges_below_mmap_min_addr_are_taken_as_any_other() {
    let wake = "userfaultfd(O_NONBLOCK) = 3\nioctl(3, UFFDIO_API, {api=0xaa, features=0})\nioctl(3, UFFDIO_WAKE, {start=0x1000, len=4096})";
    last_answers(wake, ["-1 EINVAL", "-1 EINVAL", "0", "0", "0"]);
}

#[test]
fn a_delta_is_there_from_its_kernel_on() {
    for delta in Delta::ALL {
        let about = delta.about();
        assert!(!about.notice.is_empty() && about.merged.starts_with(['v', 'a']), "{}", about.name);
        assert!(about.commit.len() == 12 && about.commit.chars().all(|c| c.is_ascii_hexdigit()), "{}", about.name);
    }
    // The table goes by the releases in which they came to the modelled kernels.
    let order: Vec<_> = Delta::ALL.iter().map(|d| d.about().since).collect();
    assert!(order.is_sorted(), "{order:?}");
}

/// Scenarios of the series in which a release differs from the merged series with SGP_NOALLOC, and why.
const DIFFERENT: [(&str, Revision, &str); 7] = [
    ("missed/unregister-moves-mapping.scn", V6_12, "vma_merge() is given the offset of the part"),
    ("races/forced-write-continue.scn", V6_1, "a forced write needs an exclusive page, not a dirty one"),
    ("mm/swapoff-loses-wp.scn", V5_19, "swapoff keeps the uffd-wp bit"),
    ("review/f27-dev-zero-copy.scn", V6_12, "every file behind a VMA is asked for its size"),
    ("basics/copy-write-protected-read-only.scn", V5_19, "COPY with WP protects in a read-only mapping too"),
    ("basics/register-pieces.scn", V6_18, "only the userfaultfd that has registered may unregister"),
    ("basics/validation.scn", V5_19, "shmem can be registered for WP"),
];

#[test]
fn the_scenarios_of_the_series_end_as_they_do_on_the_series_unless_a_delta_says_otherwise() {
    let mut wrong = Vec::new();
    for scenario in corpus::builtin().unwrap().iter().filter(|s| s.concerns(&Revision::series())) {
        let of = |revision| {
            let verdicts = Verdicts::of(scenario, revision, false);
            (verdicts.rules(), verdicts.telling().unlike.clone())
        };
        let series = of(Noalloc);
        for release in &KERNELS[1..] {
            let why = DIFFERENT.iter().find(|d| scenario.path.ends_with(d.0) && *release >= d.1);
            let now = of(*release);
            if (now != series) != why.is_some() {
                wrong.push(format!("{} on {release}: {why:?}, {series:?} {now:?}", scenario.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_scenarios_of_the_releases_end_as_they_claim() {
    let mut scenarios = corpus::builtin().unwrap();
    scenarios.retain(|s| s.path.contains("/releases/"));
    assert!(!scenarios.is_empty());
    let review = Review::run(&scenarios, &KERNELS[1..]);
    assert!(!review.differs_from_claims(), "{}", review.render());
    for s in &scenarios {
        assert!(!s.concerns(&Revision::series()) && s.concerns(&KERNELS[1..]), "{} asks about another kernel", s.path);
    }
}

#[test]
fn write_protect_faults_resolve_themselves_if_that_was_asked_for() {
    let lines = |features: &str| {
        format!(
            r#"mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x100000, 'A') = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {{api=0xaa, features={features}}}) = 0
ioctl(3, UFFDIO_REGISTER, {{start=0x100000, len=4096, mode=UFFDIO_REGISTER_MODE_WP}}) = 0
ioctl(3, UFFDIO_WRITEPROTECT, {{start=0x100000, len=4096, mode=UFFDIO_WRITEPROTECT_MODE_WP}}) = 0
vcpu: store(0x100000, 'B')"#
        )
    };
    last_answers(&lines("0"), ["Blocked"; 5]);
    for revision in [V6_12, V6_18] {
        assert_eq!(answers(revision, &lines("UFFD_FEATURE_WP_ASYNC")).last().map(String::as_str), Some("0"), "{revision}");
    }
}

#[test]
fn of_two_events_both_must_be_read_before_a_page_can_be_filled() {
    // Two threads drop a page each; the first message is read while the second one waits.
    let lines = r#"mmap(0x100000, 12288, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_EVENT_REMOVE})
ioctl(3, UFFDIO_REGISTER, {start=0x100000, len=12288, mode=UFFDIO_REGISTER_MODE_MISSING})
vcpu: madvise(0x100000, 4096, MADV_DONTNEED) <unfinished ...>
other: madvise(0x101000, 4096, MADV_DONTNEED) <unfinished ...>
read(3) = {REMOVE, start=0x100000, end=0x101000}
ioctl(3, UFFDIO_ZEROPAGE, {start=0x102000, len=4096, mode=0})"#;
    let done = "0 {zeropage=4096}";
    let (again, told) = ("-1 EAGAIN", "-1 EAGAIN {zeropage=-EAGAIN}");
    last_answers(lines, [done, again, again, told, told]);
}

/// What the last line asks to be seen, on each of [`KERNELS`]: `| place: facts` with the fact that differs left to each.
#[track_caller]
fn last_seen(lines: &str, place: &str, expected: [&str; 5]) {
    for (revision, expected) in KERNELS.into_iter().zip(expected) {
        let text = format!("question: what is seen?\nmachine: swap=4\nthreads: main vcpu\n\n{lines}\n| {place}: gone\n");
        let scenario = parse::scenario("here", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let run = replay(&scenario, revision, &[], false);
        let seen = run.looked.last().map_or("", |l| l.text.as_str());
        assert_eq!(seen, format!("| {place}: {expected}"), "on {revision}");
        assert_eq!(run.unlike.len(), 1, "{revision}: {:?}", run.unlike);
    }
}

const ANON: &str = "mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000\n";

#[test]
fn untouched_memory_that_becomes_read_only_is_not_charged_from_6_7_on() {
    let charged = "0x100000-0x104000 r--p ac";
    let free = "0x100000-0x104000 r--p";
    let lines = format!("{ANON}mprotect(0x100000, 16384, PROT_READ) = 0");
    last_seen(&lines, "maps", [charged, charged, charged, free, free]);
    let touched = "0x100000-0x104000 r--p ac rss=1 anonymous=1 private_dirty=1";
    let lines = format!("{ANON}store(0x100000, 1) = 0\nmprotect(0x100000, 16384, PROT_READ) = 0");
    last_seen(&lines, "maps", [touched; 5]);
}

#[test]
fn touched_memory_takes_untouched_in_from_6_16_on() {
    let apart = "0x100000-0x101000 rw-p ac rss=1 anonymous=1 private_dirty=1, 0x101000-0x104000 rw-p ac";
    let one = "0x100000-0x104000 rw-p ac rss=1 anonymous=1 private_dirty=1";
    let split = format!("{ANON}madvise(0x100000, 4096, MADV_DONTFORK) = 0\n");
    let lines = format!("{split}store(0x100000, 1) = 0\nmadvise(0x100000, 4096, MADV_DOFORK) = 0");
    last_seen(&lines, "maps", [apart, apart, apart, apart, one]);
    // The other way round it always could.
    let lines = format!("{split}store(0x101000, 1) = 0\nmadvise(0x100000, 4096, MADV_DOFORK) = 0");
    last_seen(&lines, "maps", [one; 5]);
}

#[test]
fn what_is_moved_into_a_mapping_without_pages_is_still_private() {
    let map = |addr| format!("mmap({addr}, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = {addr}");
    let lines = format!(
        "{}
store(0x100000, 1) = 0
mremap(0x100000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000) = 0x400000
{}
mremap(0x400000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x100000) = 0x100000",
        map("0x100000"),
        map("0x101000")
    );
    let apart = "0x100000-0x101000 rw-p ac rss=1 anonymous=1 private_dirty=1, 0x101000-0x102000 rw-p ac";
    let one = "0x100000-0x102000 rw-p ac rss=1 anonymous=1 private_dirty=1";
    last_seen(&lines, "maps", [apart, apart, apart, apart, one]);
    let shared = "present kpf=UMab count=2 mincore=1 [0x01 0x00 0x00 0x00]";
    last_seen(&format!("{lines}\nfork() as child"), "0x100000", [shared; 5]);
}

#[test]
fn mlock_marks_what_is_mapped_from_5_18_on() {
    // The first page is missing, and mlock waits for it.
    let lines = format!(
        "{ANON}store(0x101000, 1) = 0
userfaultfd(O_NONBLOCK) = 3
ioctl(3, UFFDIO_API, {{api=0xaa, features=0}}) = 0
ioctl(3, UFFDIO_REGISTER, {{start=0x100000, len=16384, mode={MISSING}}}) = 0
vcpu: mlock(0x100000, 8192) <unfinished ...>"
    );
    let page = |kpf: &str| format!("present exclusive kpf={kpf} count=1 mincore=1 [0x01 0x00 0x00 0x00]");
    let (marked, not_yet) = (page("UMabum"), page("UMab"));
    last_seen(&lines, "0x101000", [&not_yet, &marked, &marked, &marked, &marked]);
}

#[test]
fn whatever_is_mapped_into_locked_memory_is_marked_and_unmarked_with_it() {
    let mapped = "memfd_create(\"\", 0) = 3
ftruncate(3, 8192) = 0
mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
mmap(0x200000, 4096, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0) = 0x200000
mlock(0x100000, 4096) = 0
madvise(0x100000, 4096, MADV_DONTNEED_LOCKED)
store(0x100000, 1) = 0
load(0x200000) = 0x01
";
    let page = |kpf: &str| format!("present file {kpf} mincore=1 [0x01 0x00 0x00 0x00]");
    // Before v5.18 nothing is unmapped from locked memory: the store meets the page that mlock mapped, and does not fault.
    let (stays, again) = (page("kpf=UMbu?m count=2"), page("kpf=UDMbu?m count=2"));
    last_seen(mapped, "0x200000", [&stays, &again, &again, &again, &again]);
    // A page that stays mapped elsewhere is marked no longer.
    let alone = page("exclusive kpf=UDMb count=1");
    last_seen(&format!("{mapped}munmap(0x100000, 4096) = 0"), "0x200000", [&alone; 5]);
    let once = "memfd_create(\"\", 0) = 3
ftruncate(3, 4096) = 0
mmap(0x100000, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
mlock(0x100000, 4096) = 0
store(0x100000, 1) = 0
munmap(0x100000, 4096) = 0
mmap(0x200000, 4096, PROT_READ, MAP_SHARED|MAP_FIXED, 3, 0) = 0x200000
load(0x200000) = 0x01";
    let free = page("exclusive kpf=UDMb count=1");
    last_seen(once, "0x200000", [&free; 5]);
}

#[test]
fn a_child_that_is_not_watched_stores_without_a_fault() {
    let lines = watched(
        "UFFDIO_REGISTER_MODE_MISSING|UFFDIO_REGISTER_MODE_WP",
        "fork() as child = child\nchild: load(0x100000) = 0x00\nchild: store(0x100000, 1) = 0",
    );
    for revision in [V5_19, V6_1, V6_12, V6_18] {
        let text = format!(
            "question: is PG_dirty set?\n\n{lines}\n| child 0x100000: present file exclusive kpf=UMb count=1 mincore=1\n"
        );
        let run = replay(&parse::scenario("here", &text).unwrap(), revision, &[], false);
        assert_eq!(run.unlike, [], "on {revision}");
    }
}
