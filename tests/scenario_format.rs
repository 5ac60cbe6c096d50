// SPDX-License-Identifier: GPL-2.0-only
//! The scenario text: what is read is what is printed, and what is wrong is said precisely.

use arbitrary::{Arbitrary, Unstructured};
use expect_test::{Expect, expect};
use faultline::errno::*;
use faultline::kernel::Cell;
use faultline::patch::Revision;
use faultline::scenario::generate::{self, Program};
use faultline::scenario::*;
use faultline::syscall::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const HEAD: &str = "question: Why?\nthreads: main vcpu\n\n";

/// What texts that look like scenarios are made of.
const PIECES: &str = "question: q\n~why: w\n~machine: swap=4\n~threads: a b\n~race:\n~claims:\n~\n~\n~  ~\t~a: ~b: ~base~..~others~ holds~ breaks\
~until ~end~blocked~before~é~mmap(~ioctl(~fork()~ as c~fstat(3)~UFFDIO_COPY~start=~3~-1~0x10~, ~)~ = ~{~}~[~]~|~<<~1<<~\"~'~\\x~#~?\
~<unfinished ...>~<... resumed>~<~>~(INJECTED:~ swap read~#2";

fn parsed(text: &str) -> Scenario {
    parse::scenario("t.scn", text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The message for a body that is wrong.
#[track_caller]
fn wrong(body: &str, expect: Expect) {
    wrong_file(&format!("{HEAD}{body}"), expect);
}

#[track_caller]
fn wrong_file(text: &str, expect: Expect) {
    match parse::scenario("t.scn", text) {
        Ok(s) => panic!("this was understood:\n{}", print::scenario(&s)),
        Err(e) => expect.assert_eq(&e.to_string()),
    }
}

fn round_trip(s: &Scenario) {
    let text = print::scenario(s);
    let again = parse::scenario("again", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(s.without_positions(), again.without_positions(), "{text}");
    assert_eq!(text, print::scenario(&again));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_survives_print_and_parse(bytes in vec(any::<u8>(), 0..64)) {
        let op = Op::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
        let text = print::op(&op);
        prop_assert_eq!(parse::op(&text).map_err(|e| TestCaseError::fail(e.to_string()))?, op);
    }

    #[test]
    fn every_outcome_is_what_its_text_promises(bytes in vec(any::<u8>(), 0..96)) {
        let mut u = Unstructured::new(&bytes);
        let op = Op::arbitrary(&mut u).unwrap();
        let outcome = generate::outcome_for(&mut u, &op).unwrap();
        let text = print::outcome(&op, &outcome);
        let expected = parse::expected(&op, &text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(expected.matches(&outcome), "{op:?} = {text}: {expected:?} does not match {outcome:?}");
        if op != Op::Fork {
            prop_assert_eq!(expected, Expected::from(&outcome), "{}", text);
        }
    }

    #[test]
    fn every_scenario_survives_print_and_parse(bytes in vec(any::<u8>(), 0..1024)) {
        round_trip(&Scenario::arbitrary(&mut Unstructured::new(&bytes)).unwrap());
    }

    #[test]
    fn every_program_is_a_scenario(bytes in vec(any::<u8>(), 0..200)) {
        let program = Program::from_bytes(&bytes);
        prop_assert!(program.ops.len() <= generate::MAX_OPS);
        round_trip(&program.to_scenario());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in vec(prop_oneof![
        prop::sample::select(PIECES.split('~').collect::<Vec<_>>()).prop_map(str::to_owned),
        "[ -~]{0,8}",
    ], 0..40)) {
        let text = text.concat();
        if let Err(e) = parse::scenario("t.scn", &text) {
            prop_assert!(!e.to_string().is_empty());
        }
    }

    #[test]
    fn a_damaged_line_is_refused_or_still_means_something(
        bytes in vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        c in any::<char>(),
    ) {
        let op = Op::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
        let mut text: Vec<char> = print::op(&op).chars().collect();
        let at = at.index(text.len());
        text[at] = c;
        let text: String = text.into_iter().collect();
        if let Ok(op) = parse::op(&text) {
            prop_assert_eq!(parse::op(&print::op(&op)).unwrap(), op);
        }
    }
}

#[test]
fn the_corpus_is_well_formed() {
    let mut files = Vec::new();
    let mut dirs = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"))];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "scn") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 3);
    for path in files {
        let s = parse::file(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(s.question.ends_with('?'), "{}: a question ends with a question mark", s.path);
        round_trip(&s);
    }
}

#[test]
fn the_documentation_can_be_parsed() {
    let source = include_str!("../src/scenario/mod.rs");
    let doc: String =
        source.lines().filter_map(|l| l.strip_prefix("//!")).map(|l| format!("{}\n", l.strip_prefix(' ').unwrap_or(l))).collect();
    let blocks: Vec<&str> = doc.split("```").skip(1).step_by(2).map(|b| b.trim_start_matches("text\n")).collect();
    round_trip(&parsed(blocks[0]));
    let mut calls = 0;
    // Two columns, of which the second one may be a remark.
    for part in blocks[2].lines().flat_map(|l| l.split("   ")).map(str::trim) {
        let name = part.split('(').next().unwrap_or_default();
        if part.contains('(') && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            let part = part.replace("ioctls=...", "ioctls=0");
            parsed(&format!("{HEAD}{part}\n"));
            calls += 1;
        }
    }
    assert!(calls >= 40, "{calls}");
}

#[test]
fn everything_at_once() {
    let first = Revision::ALL[0];
    let last = Revision::ALL[Revision::ALL.len() - 1];
    let text = format!(
        r#"# SPDX-License-Identifier: GPL-2.0-only
question: Is everything
          read as it is meant?
why: it has    spaces,
  # a comment,
  and a second line: with a colon, and #12
finding: F01 F12
machine: swap=4 frames=64 commit-limit=100 fault-around=1 soft-dirty=on memory-failure=off   # small
threads: main vcpu

memfd_create("", MFD_ALLOW_SEALING) = 3 # the memory
vcpu: load(0x100000) <unfinished ...>
read(4) = {{UFFD_EVENT_PAGEFAULT, flags=UFFD_PAGEFAULT_FLAG_MINOR|WRITE, address=0x100000, ptid=vcpu}}
ioctl(4, UFFDIO_CONTINUE, {{len=4096, start=0x100000}}) = 0 {{mapped=4096}}
vcpu: <... resumed> = stale:0x41
store(0x100000, 'B')
load(0x104000) = SIGBUS
ioctl(4, UFFDIO_API, {{api=0xaa, features=UFFD_FEATURE_SIGBUS|0x80000000}}) = 0 {{features=0, ioctls=1<<_UFFDIO_API|1<<_UFFDIO_REGISTER}}
open("/mnt/a", O_CREAT|O_RDWR) = -1 ENOENT
pread64(3, "", 3000, 0) = 3000 [0x41 0x41 0x00 -]
fork() as child = child
child: tkill(main, SIGKILL)

race:
    main: ioctl(4, UFFDIO_COPY, {{dst=0x100000, src="\0", len=4096, mode=UFFDIO_COPY_MODE_DONTWAKE}}) = -1 EFAULT {{copy=-EFAULT}}
    main: until shmem_add_to_page_cache
                                              vcpu: ftruncate(3, 0) = 0

                                              vcpu: until zap_pte_range before ptl # comment
    main: until blocked
    main: until end

claims:
  {first}..{last}   breaks blocks-accounted page-cache-intact
  others            holds
"#
    );
    let s = parsed(&text);
    assert_eq!(s.name, "t");
    assert_eq!(s.threads, ["main", "vcpu", "child"]);
    assert_eq!(s.initial_threads, 2);
    assert_eq!(s.claim(first).unwrap().revisions, Revision::ALL);
    assert_eq!(
        s.rule_words().map(|w| (w.text.as_str(), w.line)).collect::<Vec<_>>(),
        [("blocks-accounted", 34), ("page-cache-intact", 34)]
    );
    assert_eq!(s.function_words().map(|w| (w.line, w.column)).collect::<Vec<_>>(), [(26, 17), (29, 59)]);
    assert_eq!(s.calls().count(), 13);
    round_trip(&s);
    let printed = print::scenario(&s);
    expect![[r##"
        # SPDX-License-Identifier: GPL-2.0-only
        question: Is everything read as it is meant?
        why: it has spaces, and a second line: with a colon, and #12
        finding: F01 F12
        machine: swap=4 frames=64 commit-limit=100 fault-around=1 soft-dirty=on memory-failure=off
        threads: main vcpu
    "##]]
    .assert_eq(&printed[..printed.find("\n\n").unwrap() + 1]);
}

#[test]
fn expectations() {
    let load = Op::Load { addr: 0x1000 };
    let copy = parse::op(r#"ioctl(4, UFFDIO_COPY, {dst=0x100000, src="B", len=4096})"#).unwrap();
    let is = |op: &Op, text: &str, got: &Outcome| parse::expected(op, text).unwrap().matches(got);
    let byte = |c: Cell| Outcome::ok(0).with(Out::Byte(Some(c)));
    let bus = Outcome::err(EFAULT).with(Out::Signal { sig: Signal::SIGBUS, addr: 0x1000 });

    assert!(is(&load, "0x41", &byte(Cell::new(0x41))));
    assert!(!is(&load, "0x41", &byte(Cell::new(0x41).stale())));
    assert!(!is(&load, "0x41", &bus));
    assert!(is(&load, "SIGBUS", &bus));
    assert!(!is(&load, "SIGBUS {si_addr=0x2000}", &bus));
    assert!(!is(&Op::Store { addr: 0x1000, value: 1 }, "0", &Outcome { ret: Ok(0), ..bus }));

    let nothing = Outcome::err(EEXIST);
    let field = Outcome::err(EEXIST).with(Out::Done(-17));
    assert!(is(&copy, "-1 EEXIST", &nothing) && is(&copy, "-1 EEXIST", &field));
    assert!(is(&copy, "-1 EEXIST {copy=-EEXIST}", &field) && !is(&copy, "-1 EEXIST {copy=-EEXIST}", &nothing));
    assert!(is(&copy, "-1 EEXIST {}", &nothing) && !is(&copy, "-1 EEXIST {}", &field));
    assert_eq!(print::outcome(&copy, &field), "-1 EEXIST {copy=-EEXIST}");
    assert_eq!(print::outcome(&copy, &nothing), "-1 EEXIST");

    let any = faultline::scenario::Expect::Any;
    let blocked = faultline::scenario::Expect::Blocked;
    assert!(any.matches(None) && any.matches(Some(&nothing)));
    assert!(blocked.matches(None) && !blocked.matches(Some(&nothing)));
}

#[test]
fn nearest_names() {
    assert_eq!(did_you_mean("UFFDIO_CONTINE", ["UFFDIO_COPY", "UFFDIO_CONTINUE"]), Some("UFFDIO_CONTINUE"));
    assert_eq!(
        did_you_mean("MINOR", ["UFFDIO_REGISTER_MODE_WP", "UFFDIO_REGISTER_MODE_MINOR"]),
        Some("UFFDIO_REGISTER_MODE_MINOR")
    );
    assert_eq!(did_you_mean("blocks-acounted", ["page-cache-intact", "blocks-accounted"]), Some("blocks-accounted"));
    assert_eq!(did_you_mean("elephant", ["mmap", "munmap"]), None);
}

#[test]
fn a_caller_can_show_a_name_that_only_he_knows() {
    let text = format!("{HEAD}fstat(3)\nclaims:\n  others breaks blocks-acounted\n");
    let s = parsed(&text);
    let word = s.rule_words().next().unwrap();
    let note = did_you_mean(&word.text, ["blocks-accounted"]).map(|w| format!("did you mean `{w}`?"));
    expect![[r#"
        error: unknown rule `blocks-acounted`
          --> t.scn:6:17
           |
         6 |   others breaks blocks-acounted
           |                 ^^^^^^^^^^^^^^^ did you mean `blocks-accounted`?"#]]
    .assert_eq(&Error::at(&s.path, &text, word, format!("unknown rule `{}`", word.text), note).to_string());
}

#[test]
fn malformed_operations() {
    wrong(
        "ftruncat(3, 8192) = 0",
        expect![[r#"
        error: unknown system call `ftruncat`
          --> t.scn:4:1
           |
         4 | ftruncat(3, 8192) = 0
           | ^^^^^^^^ did you mean `ftruncate`?"#]],
    );
    wrong(
        "kill(vcpu, SIGKILL)",
        expect![[r#"
        error: unknown system call `kill`
          --> t.scn:4:1
           |
         4 | kill(vcpu, SIGKILL)
           | ^^^^ did you mean `tkill`?"#]],
    );
    wrong(
        "ftruncate(3 8192) = 0",
        expect![[r#"
        error: expected `,`, found `8192`
          --> t.scn:4:13
           |
         4 | ftruncate(3 8192) = 0
           |             ^^^^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, ) = 0",
        expect![[r#"
        error: expected a length, found `)`
          --> t.scn:4:14
           |
         4 | ftruncate(3, ) = 0
           |              ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3) = 0",
        expect![[r#"
        error: an argument is missing
          --> t.scn:4:12
           |
         4 | ftruncate(3) = 0
           |            ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, 8192, 1) = 0",
        expect![[r#"
        error: an argument too many
          --> t.scn:4:18
           |
         4 | ftruncate(3, 8192, 1) = 0
           |                  ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, 8192 = 0",
        expect![[r#"
        error: expected `)`, found `=`
          --> t.scn:4:19
           |
         4 | ftruncate(3, 8192 = 0
           |                   ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate 3, 8192",
        expect![[r#"
        error: expected `(`, found `3`
          --> t.scn:4:11
           |
         4 | ftruncate 3, 8192
           |           ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, 8192) 0",
        expect![[r#"
        error: expected `= result` or `<unfinished ...>`, found `0`
          --> t.scn:4:20
           |
         4 | ftruncate(3, 8192) 0
           |                    ^"#]],
    );
    wrong(
        "ftruncate(3, 8192) =",
        expect![[r#"
        error: expected a result, found the end of the line
          --> t.scn:4:21
           |
         4 | ftruncate(3, 8192) =
           |                     ^"#]],
    );
    wrong(
        "ftruncate(3, 8192) = 0 {}  0",
        expect![[r#"
        error: `0` follows the result
          --> t.scn:4:28
           |
         4 | ftruncate(3, 8192) = 0 {}  0
           |                            ^"#]],
    );
    wrong(
        "ftruncate(300, 8192)",
        expect![[r#"
        error: 300 is too large for a descriptor
          --> t.scn:4:11
           |
         4 | ftruncate(300, 8192)
           |           ^^^ at most 255
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, -1)",
        expect![[r#"
        error: a length cannot be negative
          --> t.scn:4:14
           |
         4 | ftruncate(3, -1)
           |              ^
           = usage: ftruncate(fd, length)"#]],
    );
    wrong(
        "ftruncate(3, 0x10000000000000000)",
        expect![[r#"
        error: `0x10000000000000000` does not fit into 64 bits
          --> t.scn:4:14
           |
         4 | ftruncate(3, 0x10000000000000000)
           |              ^^^^^^^^^^^^^^^^^^^"#]],
    );
    wrong(
        "ftruncate(3, 0xfg)",
        expect![[r#"
        error: `0xfg` is not a number
          --> t.scn:4:14
           |
         4 | ftruncate(3, 0xfg)
           |              ^^^^ decimal, or hexadecimal with 0x"#]],
    );
    wrong(
        "ftruncate(3, 0777)",
        expect![[r#"
        error: octal numbers are not used here
          --> t.scn:4:14
           |
         4 | ftruncate(3, 0777)
           |              ^^^^ write 777, or 511 if octal was meant"#]],
    );
    wrong(
        "store(0x100000, 256)",
        expect![[r#"
        error: 256 is too large for a byte
          --> t.scn:4:17
           |
         4 | store(0x100000, 256)
           |                 ^^^ at most 255
           = usage: store(addr, byte)"#]],
    );
    wrong(
        "store(0x100000, 'AB')",
        expect![[r#"
        error: single quotes hold one byte
          --> t.scn:4:17
           |
         4 | store(0x100000, 'AB')
           |                 ^^^^"#]],
    );
    wrong(
        "pwrite64(3, \"A, 4096, 0)",
        expect![[r#"
        error: the closing quote is missing
          --> t.scn:4:13
           |
         4 | pwrite64(3, "A, 4096, 0)
           |             ^^^^^^^^^^^^"#]],
    );
    wrong(
        "pwrite64(3, \"AB\", 4096, 0)",
        expect![[r#"
        error: the source is one byte, which is repeated
          --> t.scn:4:13
           |
         4 | pwrite64(3, "AB", 4096, 0)
           |             ^^^^ for instance "A"
           = usage: pwrite64(fd, "A" or address, count, offset)"#]],
    );
    wrong(
        "pwrite64(3, \"\\q\", 4096, 0)",
        expect![[r#"
        error: unknown escape
          --> t.scn:4:14
           |
         4 | pwrite64(3, "\q", 4096, 0)
           |              ^ known are \0 \n \t \r \\ \" \' \xHH"#]],
    );
    wrong(
        "pread64(3, \"A\", 4096, 0)",
        expect![[r#"
        error: the destination says nothing
          --> t.scn:4:12
           |
         4 | pread64(3, "A", 4096, 0)
           |            ^^^ write ""; what was read stands behind `=`
           = usage: pread64(fd, "" or address, count, offset)"#]],
    );
    wrong(
        "mmap(0x100000, 8192, PROT_REED, MAP_SHARED|MAP_FIXED, 3, 0)",
        expect![[r#"
        error: `PROT_REED` is not a protection
          --> t.scn:4:22
           |
         4 | mmap(0x100000, 8192, PROT_REED, MAP_SHARED|MAP_FIXED, 3, 0)
           |                      ^^^^^^^^^ did you mean `PROT_READ`?
           = usage: mmap(addr, len, prot, flags, fd, offset)"#]],
    );
    wrong(
        "mmap(0x100000, 8192, PROT_READ|, MAP_SHARED|MAP_FIXED, 3, 0)",
        expect![[r#"
        error: expected a protection, found `,`
          --> t.scn:4:32
           |
         4 | mmap(0x100000, 8192, PROT_READ|, MAP_SHARED|MAP_FIXED, 3, 0)
           |                                ^
           = usage: mmap(addr, len, prot, flags, fd, offset)"#]],
    );
    wrong(
        "mmap(0x100000, 8192, PROT_READ, MAP_SHARED|MAP_FIXED, -2, 0)",
        expect![[r#"
        error: a descriptor cannot be negative
          --> t.scn:4:56
           |
         4 | mmap(0x100000, 8192, PROT_READ, MAP_SHARED|MAP_FIXED, -2, 0)
           |                                                        ^ -1 is no file
           = usage: mmap(addr, len, prot, flags, fd, offset)"#]],
    );
    wrong(
        "mmap(0x100000, 8192, PROT_READ, 0x400, 3, 0)",
        expect![[r#"
        error: 0x400 is not a flag of mmap
          --> t.scn:4:33
           |
         4 | mmap(0x100000, 8192, PROT_READ, 0x400, 3, 0)
           |                                 ^^^^^
           = usage: mmap(addr, len, prot, flags, fd, offset)"#]],
    );
    wrong(
        "mremap(0x100000, 4096, 4096, MREMAP_MAYMOVE, 0x200000)",
        expect![[r#"
        error: MREMAP_MAYMOVE|MREMAP_FIXED and a new address come together, or not at all
          --> t.scn:4:30
           |
         4 | mremap(0x100000, 4096, 4096, MREMAP_MAYMOVE, 0x200000)
           |                              ^^^^^^^^^^^^^^
           = usage: mremap(addr, len, new_len, 0) or mremap(addr, len, new_len, MREMAP_MAYMOVE|MREMAP_FIXED[|MREMAP_DONTUNMAP], new_addr)"#]],
    );
    wrong(
        "madvise(0x100000, 4096, PAGEOUT)",
        expect![[r#"
        error: `PAGEOUT` is not an advice
          --> t.scn:4:25
           |
         4 | madvise(0x100000, 4096, PAGEOUT)
           |                         ^^^^^^^ did you mean `MADV_PAGEOUT`?
           = usage: madvise(addr, len, advice)"#]],
    );
    wrong(
        "fallocate(3, FALLOC_FL_PUNCH_HOLE, 0, 4096)",
        expect![[r#"
        error: this mode of fallocate is not modelled
          --> t.scn:4:14
           |
         4 | fallocate(3, FALLOC_FL_PUNCH_HOLE, 0, 4096)
           |              ^^^^^^^^^^^^^^^^^^^^ 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE or FALLOC_FL_ZERO_RANGE
           = usage: fallocate(fd, mode, offset, len)"#]],
    );
    wrong(
        "open(\"/mnt/aa\", O_RDWR)",
        expect![[r#"
        error: no such file
          --> t.scn:4:6
           |
         4 | open("/mnt/aa", O_RDWR)
           |      ^^^^^^^^^ files on /mnt are called a to z
           = usage: open("/mnt/a", O_RDWR|O_CREAT)"#]],
    );
    wrong(
        "open(\"/mnt/a\", O_CREAT)",
        expect![[r#"
        error: one of O_RDONLY, O_WRONLY and O_RDWR is needed
          --> t.scn:4:16
           |
         4 | open("/mnt/a", O_CREAT)
           |                ^^^^^^^
           = usage: open("/mnt/a", O_RDWR|O_CREAT)"#]],
    );
    wrong(
        "mount(\"tmpfs\", \"/mnt\", \"ext4\", 0, \"size=0\")",
        expect![[r#"
        error: only "tmpfs" can stand here
          --> t.scn:4:24
           |
         4 | mount("tmpfs", "/mnt", "ext4", 0, "size=0")
           |                        ^^^^^^
           = usage: mount("tmpfs", "/mnt", "tmpfs", 0, "size=BYTES")"#]],
    );
    wrong(
        "mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, \"nr_blocks=2\")",
        expect![[r#"
        error: the only mount option is size
          --> t.scn:4:36
           |
         4 | mount("tmpfs", "/mnt", "tmpfs", 0, "nr_blocks=2")
           |                                    ^^^^^^^^^^^^^ "size=8192", "size=8k"; size=0 is unlimited
           = usage: mount("tmpfs", "/mnt", "tmpfs", 0, "size=BYTES")"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINU, {start=0x100000, len=4096})",
        expect![[r#"
        error: `UFFDIO_CONTINU` is not a request of userfaultfd
          --> t.scn:4:10
           |
         4 | ioctl(4, UFFDIO_CONTINU, {start=0x100000, len=4096})
           |          ^^^^^^^^^^^^^^ did you mean `UFFDIO_CONTINUE`?
           = usage: ioctl(fd, UFFDIO_..., {...})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096)",
        expect![[r#"
        error: expected `,` or `}`, found `)`
          --> t.scn:4:52
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096)
           |                                                    ^
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, lenght=4096})",
        expect![[r#"
        error: UFFDIO_CONTINUE has no field `lenght`
          --> t.scn:4:44
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, lenght=4096})
           |                                            ^^^^^^ did you mean `len`?
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000})",
        expect![[r#"
        error: UFFDIO_CONTINUE lacks `len=`
          --> t.scn:4:42
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000})
           |                                          ^
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, start=0, len=4096})",
        expect![[r#"
        error: `start` is given twice
          --> t.scn:4:44
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, start=0, len=4096})
           |                                            ^^^^^
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096,})",
        expect![[r#"
        error: a field is missing after the comma
          --> t.scn:4:53
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096,})
           |                                                     ^
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000 len=4096})",
        expect![[r#"
        error: expected `,` or `}`, found `len`
          --> t.scn:4:43
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000 len=4096})
           |                                           ^^^
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096, mode=UFFDIO_COPY_MODE_DONTWAKE})",
        expect![[r#"
        error: `UFFDIO_COPY_MODE_DONTWAKE` is not a mode of UFFDIO_CONTINUE
          --> t.scn:4:59
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096, mode=UFFDIO_COPY_MODE_DONTWAKE})
           |                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^ did you mean `UFFDIO_CONTINUE_MODE_DONTWAKE`?
           = usage: ioctl(fd, UFFDIO_CONTINUE, {start=..., len=..., mode=0})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=4096, mode=MINOR})",
        expect![[r#"
        error: `MINOR` is not a mode of UFFDIO_REGISTER
          --> t.scn:4:59
           |
         4 | ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=4096, mode=MINOR})
           |                                                           ^^^^^ did you mean `UFFDIO_REGISTER_MODE_MINOR`?
           = usage: ioctl(fd, UFFDIO_REGISTER, {start=..., len=..., mode=UFFDIO_REGISTER_MODE_...})"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_API, {api=0xaa, features=1<<_UFFDIO_COPY})",
        expect![[r#"
        error: a shift is not a feature
          --> t.scn:4:42
           |
         4 | ioctl(4, UFFDIO_API, {api=0xaa, features=1<<_UFFDIO_COPY})
           |                                          ^^^ only masks of ioctls are written so
           = usage: ioctl(fd, UFFDIO_API, {api=0xaa, features=...})"#]],
    );
    wrong(
        "UFFDIO_COPY(4)",
        expect![[r#"
        error: unknown system call `UFFDIO_COPY`
          --> t.scn:4:1
           |
         4 | UFFDIO_COPY(4)
           | ^^^^^^^^^^^ write `ioctl(fd, UFFDIO_COPY, ...)`"#]],
    );
    wrong(
        "tkill(vcqu, SIGKILL)",
        expect![[r#"
        error: there is no thread `vcqu`
          --> t.scn:4:7
           |
         4 | tkill(vcqu, SIGKILL)
           |       ^^^^ did you mean `vcpu`?
           = usage: tkill(thread, SIGKILL or SIGUSR1)"#]],
    );
    wrong(
        "fork() = 1",
        expect![[r#"
        error: the child has no name
          --> t.scn:4:8
           |
         4 | fork() = 1
           |        ^ for instance `fork() as child`
           = usage: fork() as NAME = NAME"#]],
    );
    wrong(
        "fork() as main",
        expect![[r#"
        error: there is a thread `main` already
          --> t.scn:4:11
           |
         4 | fork() as main
           |           ^^^^"#]],
    );
    wrong(
        "fork() as child = 1",
        expect![[r#"
        error: expected `child` or `-1` and an errno, found `1`
          --> t.scn:4:19
           |
         4 | fork() as child = 1
           |                   ^"#]],
    );
    wrong(
        "swapon(100000)",
        expect![[r#"
        error: 100000 is too large for a number of slots
          --> t.scn:4:8
           |
         4 | swapon(100000)
           |        ^^^^^^ at most 65535
           = usage: swapon(slots)"#]],
    );
    wrong(
        "load(0x100000) ; load(0x101000)",
        expect![[r#"
        error: `;` has no meaning here
          --> t.scn:4:16
           |
         4 | load(0x100000) ; load(0x101000)
           |                ^"#]],
    );
}

#[test]
fn malformed_results() {
    wrong(
        "ftruncate(3, 0) = EINVAL",
        expect![[r#"
        error: expected a number, or `-1` and an errno, found `EINVAL`
          --> t.scn:4:19
           |
         4 | ftruncate(3, 0) = EINVAL
           |                   ^^^^^^ write `-1 EINVAL`"#]],
    );
    wrong(
        "ftruncate(3, 0) = -EINVAL",
        expect![[r#"
        error: an error is written as user space sees it
          --> t.scn:4:19
           |
         4 | ftruncate(3, 0) = -EINVAL
           |                   ^^^^^^^ write `-1 EINVAL`"#]],
    );
    wrong(
        "ftruncate(3, 0) = -1",
        expect![[r#"
        error: expected an errno, found the end of the line
          --> t.scn:4:21
           |
         4 | ftruncate(3, 0) = -1
           |                     ^"#]],
    );
    wrong(
        "ftruncate(3, 0) = -1 EINVALID",
        expect![[r#"
        error: `EINVALID` is not an errno
          --> t.scn:4:22
           |
         4 | ftruncate(3, 0) = -1 EINVALID
           |                      ^^^^^^^^ did you mean `EINVAL`?"#]],
    );
    wrong(
        "ftruncate(3, 0) = -2",
        expect![[r#"
        error: a result cannot be negative, but for -1 with an errno
          --> t.scn:4:19
           |
         4 | ftruncate(3, 0) = -2
           |                   ^"#]],
    );
    wrong(
        "ftruncate(3, 0) = 0xffffffffffffffff",
        expect![[r#"
        error: 18446744073709551615 is too large for a result
          --> t.scn:4:19
           |
         4 | ftruncate(3, 0) = 0xffffffffffffffff
           |                   ^^^^^^^^^^^^^^^^^^ at most 9223372036854775807"#]],
    );
    wrong(
        "ftruncate(3, 0) = 0 {copy=0}",
        expect![[r#"
        error: `{` follows the result
          --> t.scn:4:21
           |
         4 | ftruncate(3, 0) = 0 {copy=0}
           |                     ^"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096}) = 0 {copy=4096}",
        expect![[r#"
        error: UFFDIO_CONTINUE has no field `copy`
          --> t.scn:4:60
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096}) = 0 {copy=4096}
           |                                                            ^^^^ the fields are mapped"#]],
    );
    wrong(
        "ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096}) = -1 EFAULT {mapped=-EFALT}",
        expect![[r#"
        error: `EFALT` is not an errno
          --> t.scn:4:76
           |
         4 | ioctl(4, UFFDIO_CONTINUE, {start=0x100000, len=4096}) = -1 EFAULT {mapped=-EFALT}
           |                                                                            ^^^^^ did you mean `EFAULT`?"#]],
    );
    wrong(
        "load(0x100000) = 0x1000",
        expect![[r#"
        error: 4096 is too large for a byte
          --> t.scn:4:18
           |
         4 | load(0x100000) = 0x1000
           |                  ^^^^^^ at most 255"#]],
    );
    wrong(
        "load(0x100000) = SIGSEGV",
        expect![[r#"
        error: which SIGSEGV?
          --> t.scn:4:18
           |
         4 | load(0x100000) = SIGSEGV
           |                  ^^^^^^^ SIGSEGV_MAPERR: nothing is mapped; SIGSEGV_ACCERR: the mapping forbids it"#]],
    );
    wrong(
        "load(0x100000) = SIGBSU",
        expect![[r#"
        error: expected a value or a signal, found `SIGBSU`
          --> t.scn:4:18
           |
         4 | load(0x100000) = SIGBSU
           |                  ^^^^^^ did you mean `SIGBUS`?"#]],
    );
    wrong(
        "store(0x100000, 1) = 1",
        expect![[r#"
        error: a store gives 0 or a signal
          --> t.scn:4:22
           |
         4 | store(0x100000, 1) = 1
           |                      ^"#]],
    );
    wrong(
        "read(4) = PAGEFAULT",
        expect![[r#"
        error: expected a message like {PAGEFAULT, ...}, found `PAGEFAULT`
          --> t.scn:4:11
           |
         4 | read(4) = PAGEFAULT
           |           ^^^^^^^^^"#]],
    );
    wrong(
        "read(4) = {PAGE_FAULT, address=0x100000, flags=MINOR}",
        expect![[r#"
        error: `PAGE_FAULT` is not an event
          --> t.scn:4:12
           |
         4 | read(4) = {PAGE_FAULT, address=0x100000, flags=MINOR}
           |            ^^^^^^^^^^ did you mean `PAGEFAULT`?"#]],
    );
    wrong(
        "read(4) = {PAGEFAULT, address=0x100000}",
        expect![[r#"
        error: PAGEFAULT lacks `flags=`
          --> t.scn:4:39
           |
         4 | read(4) = {PAGEFAULT, address=0x100000}
           |                                       ^"#]],
    );
    wrong(
        "read(4) = {PAGEFAULT, address=0x100000, flags=MINER}",
        expect![[r#"
        error: `MINER` is not a flag of a page fault
          --> t.scn:4:47
           |
         4 | read(4) = {PAGEFAULT, address=0x100000, flags=MINER}
           |                                               ^^^^^ did you mean `MINOR`?"#]],
    );
    wrong(
        "pread64(3, \"\", 4096, 0) = 4096 [0x41 0x41]",
        expect![[r#"
        error: 2 bytes, but 4 of a page are watched
          --> t.scn:4:32
           |
         4 | pread64(3, "", 4096, 0) = 4096 [0x41 0x41]
           |                                ^^^^^^^^^^^"#]],
    );
    wrong(
        "pread64(3, \"\", 4096, 0) = 4096 \"AA\"",
        expect![[r#"
        error: contents are one byte, or a list
          --> t.scn:4:32
           |
         4 | pread64(3, "", 4096, 0) = 4096 "AA"
           |                                ^^^^ "A", or [0x41 0x41 0x00 0x00]"#]],
    );
    wrong(
        "mincore(0x100000, 8192) = 0 [1 2]",
        expect![[r#"
        error: a page is in core (1) or not (0)
          --> t.scn:4:32
           |
         4 | mincore(0x100000, 8192) = 0 [1 2]
           |                                ^"#]],
    );
    wrong(
        "fstat(3) = 0 {st_size=0}",
        expect![[r#"
        error: fstat lacks `st_blocks=`
          --> t.scn:4:24
           |
         4 | fstat(3) = 0 {st_size=0}
           |                        ^"#]],
    );
    wrong(
        "load(0x100000) <unfinished>",
        expect![[r#"
        error: `<unfinished>` means nothing
          --> t.scn:4:16
           |
         4 | load(0x100000) <unfinished>
           |                ^^^^^^^^^^^^ write `<unfinished ...>` or `<... resumed>`"#]],
    );
    wrong(
        "load(0x100000) <unfinished ...",
        expect![[r#"
        error: `<unfinished ...` means nothing
          --> t.scn:4:16
           |
         4 | load(0x100000) <unfinished ...
           |                ^^^^^^^^^^^^^^^ write `<unfinished ...>` or `<... resumed>`"#]],
    );
}

#[test]
fn malformed_headings() {
    wrong_file(
        "",
        expect![[r#"
        error: the scenario has no `question:`
          --> t.scn
           = a scenario begins with `question: ...?`"#]],
    );
    wrong_file(
        "question:\nfstat(3)\n",
        expect![[r#"
        error: the question is empty
          --> t.scn:1:1
           |
         1 | question:
           | ^^^^^^^^^"#]],
    );
    wrong_file(
        "fstat(3)\n",
        expect![[r#"
        error: the scenario has no `question:`
          --> t.scn
           = a scenario begins with `question: ...?`"#]],
    );
    wrong_file(
        "question: Why?\n",
        expect![[r#"
        error: the scenario does nothing
          --> t.scn
           = after the headings comes one operation a line"#]],
    );
    wrong_file(
        "qestion: Why?\nfstat(3)\n",
        expect![[r#"
        error: `qestion` is neither a thread nor a heading
          --> t.scn:1:1
           |
         1 | qestion: Why?
           | ^^^^^^^ did you mean `question`?"#]],
    );
    wrong_file(
        "question: Why?\nquestion: Why not?\nfstat(3)\n",
        expect![[r#"
        error: a second `question:`
          --> t.scn:2:1
           |
         2 | question: Why not?
           | ^^^^^^^^ the first is in line 1"#]],
    );
    wrong_file(
        "question: Why?\nfstat(3)\nwhy: because\n",
        expect![[r#"
        error: `why:` comes after the first operation
          --> t.scn:3:1
           |
         3 | why: because
           | ^^^ headings come first"#]],
    );
    wrong_file(
        "question: Why?\n\n  because\nfstat(3)\n",
        expect![[r#"
        error: this line is indented, but continues nothing
          --> t.scn:3:1
           |
         3 |   because
           | ^^ indented lines belong to a heading above them, to race: or to claims:"#]],
    );
    wrong_file(
        "question: Why?\nfinding: F1 G2\nfstat(3)\n",
        expect![[r#"
        error: `G2` is not a finding
          --> t.scn:2:13
           |
         2 | finding: F1 G2
           |             ^^ for instance F01"#]],
    );
    wrong_file(
        "question: Why?\nmachine: swp=4\nfstat(3)\n",
        expect![[r#"
        error: the machine has no setting `swp`
          --> t.scn:2:10
           |
         2 | machine: swp=4
           |          ^^^ did you mean `swap`?"#]],
    );
    wrong_file(
        "question: Why?\nmachine: swap = 4\nfstat(3)\n",
        expect![[r#"
        error: `swap` has no value
          --> t.scn:2:10
           |
         2 | machine: swap = 4
           |          ^^^^ write swap=... without spaces"#]],
    );
    wrong_file(
        "question: Why?\nmachine: swap=70000\nfstat(3)\n",
        expect![[r#"
        error: 70000 swap slots are too many
          --> t.scn:2:15
           |
         2 | machine: swap=70000
           |               ^^^^^ at most 65535"#]],
    );
    wrong_file(
        "question: Why?\nmachine: swap=many\nfstat(3)\n",
        expect![[r#"
        error: `many` is not a number
          --> t.scn:2:15
           |
         2 | machine: swap=many
           |               ^^^^ decimal, or hexadecimal with 0x"#]],
    );
    wrong_file(
        "question: Why?\nmachine: soft-dirty=yes\nfstat(3)\n",
        expect![[r#"
        error: soft-dirty is `on` or `off`
          --> t.scn:2:21
           |
         2 | machine: soft-dirty=yes
           |                     ^^^"#]],
    );
    wrong_file(
        "question: Why?\nthreads: main vcpu-0\nfstat(3)\n",
        expect![[r#"
        error: `vcpu-0` cannot name a thread
          --> t.scn:2:15
           |
         2 | threads: main vcpu-0
           |               ^^^^^^ letters, digits and _ can"#]],
    );
    wrong_file(
        "question: Why?\nthreads: main main\nfstat(3)\n",
        expect![[r#"
        error: there is a thread `main` already
          --> t.scn:2:15
           |
         2 | threads: main main
           |               ^^^^"#]],
    );
    wrong_file(
        "question: Why?\nthreads: main claims\nfstat(3)\n",
        expect![[r#"
        error: `claims` cannot name a thread
          --> t.scn:2:15
           |
         2 | threads: main claims
           |               ^^^^^^ it begins a heading"#]],
    );
}

#[test]
fn malformed_threads_and_races() {
    wrong(
        "vcpv: load(0x100000)",
        expect![[r#"
        error: `vcpv` is neither a thread nor a heading
          --> t.scn:4:1
           |
         4 | vcpv: load(0x100000)
           | ^^^^ did you mean `vcpu`?"#]],
    );
    wrong(
        "child: load(0x100000)\nfork() as child",
        expect![[r#"
        error: `child` is neither a thread nor a heading
          --> t.scn:4:1
           |
         4 | child: load(0x100000)
           | ^^^^^ the threads are main, vcpu"#]],
    );
    wrong(
        "vcpu:",
        expect![[r#"
        error: an operation is missing here
          --> t.scn:4:6
           |
         4 | vcpu:
           |      ^"#]],
    );
    wrong(
        "vcpu: <... resumed> = 0x41",
        expect![[r#"
        error: vcpu has not begun anything
          --> t.scn:4:7
           |
         4 | vcpu: <... resumed> = 0x41
           |       ^^^^^^^^^^^^^"#]],
    );
    wrong(
        "vcpu: load(0x100000) = 0x41\nvcpu: <... resumed> = 0x41",
        expect![[r#"
        error: vcpu has nothing unfinished
          --> t.scn:5:7
           |
         5 | vcpu: <... resumed> = 0x41
           |       ^^^^^^^^^^^^^ line 4 says how its operation ended"#]],
    );
    wrong(
        "vcpu: load(0x100000) <unfinished ...>\nvcpu: load(0x101000)",
        expect![[r#"
        error: vcpu is still in the unfinished operation of line 4
          --> t.scn:5:7
           |
         5 | vcpu: load(0x101000)
           |       ^^^^ `vcpu: <... resumed>` must come first"#]],
    );
    wrong(
        "load(0x100000) <unfinished ...>\nmain: <... resumed> <unfinished ...>",
        expect![[r#"
        error: resumed and unfinished at once
          --> t.scn:5:21
           |
         5 | main: <... resumed> <unfinished ...>
           |                     ^^^^^^^^^^^^^^^^"#]],
    );
    wrong(
        "vcpu: lod(0x100000) <unfinished ...>\nvcpu: <... resumed> = 0x41",
        expect![[r#"
        error: unknown system call `lod`
          --> t.scn:4:7
           |
         4 | vcpu: lod(0x100000) <unfinished ...>
           |       ^^^ did you mean `load`?"#]],
    );
    wrong(
        "until end",
        expect![[r#"
        error: `until` outside of a race
          --> t.scn:4:1
           |
         4 | until end
           | ^^^^^ it belongs into the indented lines after `race:`"#]],
    );
    wrong(
        "race:\nload(0x100000)",
        expect![[r#"
        error: the race is empty
          --> t.scn:4:1
           |
         4 | race:
           | ^^^^^ its lines are indented"#]],
    );
    wrong(
        "race: main\n  main: until end",
        expect![[r#"
        error: the lines of a race stand in lines of their own
          --> t.scn:4:7
           |
         4 | race: main
           |       ^^^^ put it into the next line and indent it"#]],
    );
    wrong(
        "race:\n  load(0x100000)",
        expect![[r#"
        error: who does this?
          --> t.scn:5:3
           |
         5 |   load(0x100000)
           |   ^^^^^^^^^^^^^^ each line of a race begins with a thread: `main: ...`"#]],
    );
    wrong(
        "race:\n  vcpi: load(0x100000)",
        expect![[r#"
        error: there is no thread `vcpi`
          --> t.scn:5:3
           |
         5 |   vcpi: load(0x100000)
           |   ^^^^ did you mean `vcpu`?"#]],
    );
    wrong(
        "race:\n  vcpu: until",
        expect![[r#"
        error: until when?
          --> t.scn:5:14
           |
         5 |   vcpu: until
           |              ^ `end`, `blocked`, `step N`, or a kernel function"#]],
    );
    wrong(
        "race:\n  vcpu: until shmem-fault",
        expect![[r#"
        error: `shmem-fault` is not the name of a kernel function
          --> t.scn:5:15
           |
         5 |   vcpu: until shmem-fault
           |               ^^^^^^^^^^^"#]],
    );
    wrong(
        "race:\n  vcpu: until shmem_fault before",
        expect![[r#"
        error: before what?
          --> t.scn:5:33
           |
         5 |   vcpu: until shmem_fault before
           |                                 ^ ptl page-lock mmap-lock inode-lock info-lock i_lock i_mmap anon_vma swaplist waitqueue i_size slot pte page alloc user-copy ctx swap-io falloc"#]],
    );
    wrong(
        "race:\n  vcpu: until shmem_fault before page_lock",
        expect![[r#"
        error: `page_lock` is not a kind of step
          --> t.scn:5:34
           |
         5 |   vcpu: until shmem_fault before page_lock
           |                                  ^^^^^^^^^ did you mean `page-lock`?"#]],
    );
    wrong(
        "race:\n  vcpu: until shmem_fault after ptl",
        expect![[r#"
        error: `after` is too much here
          --> t.scn:5:27
           |
         5 |   vcpu: until shmem_fault after ptl
           |                           ^^^^^ `before WHAT` may follow the function"#]],
    );
    wrong(
        "race:\n  vcpu: until end now",
        expect![[r#"
        error: `now` is too much here
          --> t.scn:5:19
           |
         5 |   vcpu: until end now
           |                   ^^^"#]],
    );
    wrong(
        "race:\n  vcpu: load(0x1) <unfinished ...>\n  vcpu: <... resumed>",
        expect![[r#"
        error: resumed inside of a race
          --> t.scn:6:9
           |
         6 |   vcpu: <... resumed>
           |         ^^^^^^^^^^^^^ say it after the race; `until end` runs a thread to its end"#]],
    );
    wrong(
        "  load(0x100000)",
        expect![[r#"
        error: this line is indented, but continues nothing
          --> t.scn:4:1
           |
         4 |   load(0x100000)
           | ^^ indented lines belong to a heading above them, to race: or to claims:"#]],
    );
}

#[test]
fn malformed_claims() {
    wrong(
        "fstat(3)\nclaims:\n",
        expect![[r#"
        error: no claim follows
          --> t.scn:5:1
           |
         5 | claims:
           | ^^^^^^^ for instance `  others holds`; claims are indented"#]],
    );
    wrong(
        "fstat(3)\nclaims: base holds\n",
        expect![[r#"
        error: claims stand in lines of their own
          --> t.scn:5:9
           |
         5 | claims: base holds
           |         ^^^^^^^^^^ put it into the next line and indent it"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  base\n",
        expect![[r#"
        error: what is claimed?
          --> t.scn:6:7
           |
         6 |   base
           |       ^ `holds`, or `breaks` and names of rules"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  holds\n",
        expect![[r#"
        error: of whom is it claimed?
          --> t.scn:6:3
           |
         6 |   holds
           |   ^^^^^ revisions, ranges of them, or `others`, come first"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  base breaks\n",
        expect![[r#"
        error: `breaks` needs the name of a rule
          --> t.scn:6:8
           |
         6 |   base breaks
           |        ^^^^^^"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  base holds water\n",
        expect![[r#"
        error: `holds` is followed by nothing
          --> t.scn:6:14
           |
         6 |   base holds water
           |              ^^^^^"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  bas holds\n",
        expect![[r#"
        error: unknown revision `bas`
          --> t.scn:6:3
           |
         6 |   bas holds
           |   ^^^ did you mean `base`?"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  base..bsae holds\n",
        expect![[r#"
            error: unknown revision `bsae`
              --> t.scn:6:9
               |
             6 |   base..bsae holds
               |         ^^^^ did you mean `base`?"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  base holds\n  base breaks no-data-lost\n",
        expect![[r#"
        error: base is claimed twice
          --> t.scn:7:3
           |
         7 |   base breaks no-data-lost
           |   ^^^^"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  others holds\n  others holds\n",
        expect![[r#"
        error: `others` is claimed twice
          --> t.scn:7:3
           |
         7 |   others holds
           |   ^^^^^^"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  others holds\nfstat(3)\n",
        expect![[r#"
        error: an operation after `claims:`
          --> t.scn:7:1
           |
         7 | fstat(3)
           | ^^^^^^^^ claims come last; they begin in line 5, and each of them is indented"#]],
    );
    wrong(
        "fstat(3)\nclaims:\n  others holds\nclaims:\n",
        expect![[r#"
        error: a second `claims:`
          --> t.scn:7:1
           |
         7 | claims:
           | ^^^^^^ the first is in line 5"#]],
    );
}

#[test]
fn programs_touch_what_they_start_with() {
    // A generator that drifts away from its world finds nothing; this pins roughly how often its operations can do something.
    let mut bytes = vec![0u8; 200];
    let (mut ops, mut fitting, mut threads, mut forks) = (0, 0, [0; 3], 0);
    let mut x = 1u64;
    for _ in 0..2000 {
        for b in &mut bytes {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *b = (x >> 56) as u8;
        }
        let program = Program::from_bytes(&bytes);
        for (thread, op) in &program.ops {
            ops += 1;
            threads[*thread as usize] += 1;
            forks += (*op == Op::Fork) as usize;
            fitting += match *op {
                Op::UffdContinue { start, len, .. } | Op::UffdCopy { dst: start, len, .. } => {
                    ([generate::FIRST, generate::SECOND, generate::ANON].contains(&(start & !0xffff))
                        && len.is_multiple_of(4096)
                        && (4096..=4 * 4096).contains(&len)) as usize
                }
                _ => 1,
            };
        }
    }
    assert!(ops > 2000 * 20, "{ops}");
    assert!(fitting * 100 > ops * 90, "{fitting} of {ops}");
    assert!(threads.iter().all(|&n| n > 1000), "{threads:?}");
    assert!((100..2000).contains(&forks), "{forks}");
}

#[test]
fn injected_failures() {
    let s = parsed(&format!(
        "{HEAD}pread64(3, \"\", 1, 0) (INJECTED: swap read) = -1 EIO\n\
         vcpu: fork() as c (INJECTED: vm_area_dup#2,allocate_mm ) <unfinished ...>\n"
    ));
    round_trip(&s);
    let calls: Vec<_> = s.calls().map(|c| print::injected(&c.injected)).collect();
    assert_eq!(calls, [" (INJECTED: swap read)", " (INJECTED: vm_area_dup#2, allocate_mm)"]);

    wrong(
        "load(0x1000) (INJECTED: shmem_aloc_page) = SIGBUS\n",
        expect![[r#"
        error: `shmem_aloc_page` is not a call that may fail
          --> t.scn:4:25
           |
         4 | load(0x1000) (INJECTED: shmem_aloc_page) = SIGBUS
           |                         ^^^^^^^^^^^^^^^ did you mean `shmem_alloc_page`?"#]],
    );
    wrong(
        "load(0x1000) (INJECTED: swap read#0) = SIGBUS\n",
        expect![[r#"
        error: which call of it? 1 is the first
          --> t.scn:4:25
           |
         4 | load(0x1000) (INJECTED: swap read#0) = SIGBUS
           |                         ^^^^^^^^^^^ swap read#2"#]],
    );
    wrong(
        "load(0x1000) (INJECTED) = SIGBUS\n",
        expect![[r#"
        error: which call fails?
          --> t.scn:4:14
           |
         4 | load(0x1000) (INJECTED) = SIGBUS
           |              ^^^^^^^^^^ write `(INJECTED: SITE)`, for instance (INJECTED: shmem_alloc_page)"#]],
    );
    wrong(
        "load(0x1000) = SIGBUS (INJECTED: swap read)\n",
        expect![[r#"
        error: `(INJECTED: swap read)` follows the result
          --> t.scn:4:23
           |
         4 | load(0x1000) = SIGBUS (INJECTED: swap read)
           |                       ^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    wrong(
        "load(0x1000) (INJECTED: swap read, swap read) = SIGBUS\n",
        expect![[r#"
        error: `swap read` is named twice
          --> t.scn:4:36
           |
         4 | load(0x1000) (INJECTED: swap read, swap read) = SIGBUS
           |                                    ^^^^^^^^^"#]],
    );
}

/// Every site that the source names can be made to fail by a scenario, and no other.
#[test]
fn all_fallible_sites_are_listed() {
    let mut found = std::collections::BTreeSet::new();
    let mut dirs = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
                for call in ["should_fail(\"", "alloc_page(k, \"", "alloc_page(&k, \"", "alloc_zeroed_page(k, \"", "alloc_table("]
                {
                    if let Some((_, rest)) = line.split_once(call)
                        && let Some(site) = rest.split('"').nth(call.ends_with('(') as usize)
                        && site != "test"
                        && !line.contains("fn ")
                    {
                        found.insert(site.to_owned());
                    }
                }
            }
        }
    }
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), faultline::kernel::SITES);
}

#[test]
fn what_can_be_seen_is_written_as_the_field_calls_it() {
    let body = "\
# SPDX-License-Identifier: GPL-2.0-only
question: Why?
threads: main vcpu

fork() as child
| 3: size=8192 blocks=8 swapped=0
| 3[1]: cachestat=cached seek_data=1 mincore=1 \"B\"
| 3[2]: cachestat=hole mincore=? [0x41 - - 0x00]
| 0x100000: present file exclusive kpf=UD?Mb count=1 mincore=1 \"B\"
| 0x101000: swap uffd_wp mincore=0
| 0x102000: none
| 0x103000: present kpf=z
| maps: 0x100000-0x102000 rw-s um ui rss=1 private_dirty=1, 0x200000-0x201000 ---p ac lo, 0x300000-0x301000 rw-p smaps=?
| maps 0x300000-0x400000: none
| vcpu rss: anon=2 shmem=-1 swap=?
| child 0x100000: gone
";
    let s = parsed(body);
    assert_eq!(print::scenario(&s), body.replace("ac lo", "lo ac"));
    let looks: Vec<&Look> = s.looks().collect();
    assert_eq!((looks.len(), looks[0].line, looks[10].thread, looks[10].seen.is_none()), (11, 6, 2, true));
}

#[test]
fn what_is_wrong_with_what_can_be_seen_is_said_where_it_stands() {
    let wrong = |line: &str, expect| wrong(&format!("close(3)\n{line}\n"), expect);
    wrong(
        "| 3: size=8192 blocks=8 swaped=0",
        expect![[r#"
        error: `swaped` cannot be seen here
          --> t.scn:5:25
           |
         5 | | 3: size=8192 blocks=8 swaped=0
           |                         ^^^^^^ did you mean `swapped`?"#]],
    );
    wrong(
        "| 3: blocks=8",
        expect![[r#"
            error: expected `size=`, found the end of the line
              --> t.scn:5:14
               |
             5 | | 3: blocks=8
               |              ^"#]],
    );
    wrong(
        "| 0x100010: none",
        expect![[r#"
        error: pages begin at multiples of 4096
          --> t.scn:5:3
           |
         5 | | 0x100010: none
           |   ^^^^^^^^"#]],
    );
    wrong(
        "| 0x100000: mincore=1",
        expect![[r#"
        error: the entry is none, or it is not
          --> t.scn:5:13
           |
         5 | | 0x100000: mincore=1
           |             ^^^^^^^ `none`, or some of present swap file guard uffd_wp exclusive"#]],
    );
    wrong(
        "| 0x100000: none file",
        expect![[r#"
        error: the entry is none, or it is not
          --> t.scn:5:13
           |
         5 | | 0x100000: none file
           |             ^^^^ `none`, or some of present swap file guard uffd_wp exclusive"#]],
    );
    wrong(
        "| 0x100000: present kpf=UX",
        expect![[r#"
        error: `X` is no page flag
          --> t.scn:5:26
           |
         5 | | 0x100000: present kpf=UX
           |                          ^ U UPTODATE, D DIRTY, M MMAP, a ANON, s SWAPCACHE, b SWAPBACKED, u UNEVICTABLE, m MLOCKED, z ZERO_PAGE"#]],
    );
    wrong(
        "| 0x100000: present kpf=U?",
        expect![[r#"
            error: UPTODATE is always one or the other
              --> t.scn:5:25
               |
             5 | | 0x100000: present kpf=U?
               |                         ^ only D, s, u and m may be anything"#]],
    );
    wrong(
        "| 0x100000: present present",
        expect![[r#"
        error: `present` is said twice
          --> t.scn:5:21
           |
         5 | | 0x100000: present present
           |                     ^^^^^^^"#]],
    );
    wrong(
        "| 3[1]: cachestat=gone",
        expect![[r#"
        error: `gone` is not hole, cached or swapped
          --> t.scn:5:19
           |
         5 | | 3[1]: cachestat=gone
           |                   ^^^^ there are hole cached swapped"#]],
    );
    wrong(
        "| maps: 0x100000-0x101000 rws",
        expect![[r#"
        error: `rws` are no rights
          --> t.scn:5:27
           |
         5 | | maps: 0x100000-0x101000 rws
           |                           ^^^ for instance rw-s or r--p"#]],
    );
    wrong(
        "| maps: 0x100000-0x101000 rw-s um smaps=?",
        expect![[r#"
            error: `smaps=?` says that nothing else was seen of this mapping
              --> t.scn:5:42
               |
             5 | | maps: 0x100000-0x101000 rw-s um smaps=?
               |                                          ^"#]],
    );
    wrong(
        "| vcup 0x100000: gone",
        expect![[r#"
        error: `vcup` is neither a thread nor something to look at
          --> t.scn:5:3
           |
         5 | | vcup 0x100000: gone
           |   ^^^^ did you mean `vcpu`?"#]],
    );
    wrong(
        "| vcpu 3: gone",
        expect![[r#"
        error: files are seen by the first process
          --> t.scn:5:3
           |
         5 | | vcpu 3: gone
           |   ^^^^ leave the name out"#]],
    );
    wrong(
        "| 300: gone",
        expect![[r#"
        error: 300 is too large for a descriptor
          --> t.scn:5:3
           |
         5 | | 300: gone
           |   ^^^ addresses are written with 0x"#]],
    );
    wrong(
        "| rss: anon=1 \"B\"",
        expect![[r#"
        error: `"B"` follows what is seen
          --> t.scn:5:15
           |
         5 | | rss: anon=1 "B"
           |               ^^^"#]],
    );
    wrong_file(
        "question: Why?\n| 3: gone\n",
        expect![[r#"
        error: seen before anything has happened
          --> t.scn:2:1
           |
         2 | | 3: gone
           | ^ it stands after the operation that led to it"#]],
    );
}
