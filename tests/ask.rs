// SPDX-License-Identifier: GPL-2.0-only
//! The table of answers: what is known by heart of it, that it can be replayed, and that docs/ioctls.md is what it says now.

use expect_test::{Expect, expect, expect_file};
use faultline::ask::answer::{Answer, Made, ask};
use faultline::ask::confirm::{Confirmed, gather};
use faultline::ask::document::{self, Format};
use faultline::ask::table::label;
use faultline::ask::{Cell, KERNELS, Mapping, Operation, Protection, Query, Registration, State, kernel_from_word};
use faultline::patch::Revision;
use faultline::recorded::Archive;
use faultline::replay::replay;
use faultline::scenario::parse;
use std::process::Command;

fn cell(words: &str) -> Cell {
    let words: Vec<&str> = words.split(' ').collect();
    let [operation, mapping, registration, state] = words[..] else { panic!("{words:?}") };
    Cell {
        operation: Operation::from_word(operation.trim_end_matches("/sigbus")).unwrap(),
        sigbus: operation.ends_with("/sigbus"),
        mapping: Mapping::from_word(mapping).unwrap(),
        protection: Protection::ReadWrite,
        registration: Registration::from_word(registration).unwrap(),
        state: State::from_word(state).unwrap(),
    }
}

fn made(words: &str, revision: Revision) -> Made {
    match ask(&cell(words), revision).answer {
        Answer::Made(made) => made,
        Answer::NoSuchState { call, answer } => panic!("{words} on {revision}: {call} = {answer}"),
    }
}

/// The result, the message and what is mapped, on some kernels.
#[track_caller]
fn answers(words: &str, kernels: &str, result: &str, message: &str, mapped: &str) {
    for kernel in kernels.split(' ') {
        let made = made(words, kernel_from_word(kernel).unwrap());
        let message_is = made.event().unwrap_or_default();
        let got = (made.result.as_str(), message_is.as_str(), made.after.short());
        assert_eq!(got, (result, message, mapped.to_owned()), "{words} on {kernel}");
    }
}

const ALL: &str = "5.14 5.19 6.1 6.12 6.18";

#[test]
fn continue_maps_what_the_file_has() {
    answers("continue private minor swapped", ALL, "0 {mapped=4096}", "", "cache page ro");
    answers("continue shared minor cached", ALL, "0 {mapped=4096}", "", "cache page rw");
    answers("continue shared minor hole", ALL, "-1 EFAULT {mapped=-EFAULT}", "", "nothing");
    answers("continue shared minor past-eof", "6.1 6.12 6.18", "-1 EINVAL {mapped=-EINVAL}", "", "nothing");
    answers("continue shared missing mapped", ALL, "-1 EEXIST {mapped=-EEXIST}", "", "cache page rw");
    answers("continue anonymous missing hole", ALL, "-1 EINVAL {mapped=-EINVAL}", "", "nothing");
    answers("continue shared minor fallocated", "5.14", "-1 EFAULT {mapped=-EFAULT}", "", "nothing");
    answers("continue shared minor fallocated", "5.19 6.1 6.12 6.18", "0 {mapped=4096}", "", "cache page rw");
    assert_eq!(made("continue shared minor fallocated", Revision::V6_1).after.byte, Some(0));
}

#[test]
fn copy_fills_the_file_or_a_page_of_its_own() {
    answers("copy shared missing hole", ALL, "0 {copy=4096}", "", "cache page rw");
    answers("copy shared missing swapped", ALL, "-1 EEXIST {copy=-EEXIST}", "", "nothing");
    answers("copy shared missing past-eof", ALL, "-1 EFAULT {copy=-EFAULT}", "", "nothing");
    // The page of the file does not matter in a private mapping.
    answers("copy private missing cached", ALL, "0 {copy=4096}", "", "anon page rw");
    answers("copy private missing mapped", ALL, "-1 EEXIST {copy=-EEXIST}", "", "cache page ro");
    answers("copy shared none hole", ALL, "-1 ENOENT {copy=-ENOENT}", "", "nothing");
    // How it is registered does not matter either, only that it is.
    for registration in &Registration::ALL[1..] {
        answers(&format!("copy shared {registration} hole"), "5.19 6.1 6.12 6.18", "0 {copy=4096}", "", "cache page rw");
    }
    answers("zeropage private missing hole", ALL, "0 {zeropage=4096}", "", "zero page ro");
    answers("zeropage shared missing hole", ALL, "0 {zeropage=4096}", "", "cache page rw");
}

#[test]
fn poison_and_write_protection() {
    answers("poison shared missing cached", "5.14 5.19 6.1", "-1 EINVAL", "", "nothing");
    answers("poison shared missing cached", "6.12 6.18", "0 {updated=4096}", "", "poison marker");
    answers("continue-wp shared wp cached", "6.1", "-1 EINVAL", "", "nothing");
    answers("continue-wp shared wp cached", "6.12 6.18", "0 {mapped=4096}", "", "cache page ro wp");
    answers("writeprotect anonymous wp mapped", ALL, "0", "", "anon page ro wp");
    answers("writeprotect shared minor mapped", ALL, "-1 ENOENT", "", "cache page rw");
    answers("store anonymous wp mapped-wp", ALL, "", "WP WRITE", "anon page ro wp");
}

#[test]
fn first_touches() {
    answers("load shared missing hole", ALL, "", "MISSING", "nothing");
    answers("store shared missing+minor hole", ALL, "", "MISSING WRITE", "nothing");
    answers("store shared minor swapped", ALL, "", "MINOR WRITE", "nothing");
    answers("load private missing cached", ALL, "0x42", "", "cache page ro");
    answers("load shared missing+minor past-eof", ALL, "SIGBUS", "", "nothing");
    answers("load/sigbus shared missing hole", ALL, "SIGBUS", "", "nothing");
    answers("store private none cached", ALL, "0", "", "anon page rw");
    answers("store shared wp hole-wp", "5.19 6.1 6.12 6.18", "", "WP WRITE", "cache page ro wp");
    answers("load shared missing poisoned", "6.12 6.18", "SIGBUS_MCEERR_AR", "", "poison marker");
    answers("load anonymous none guard", "6.18", "SIGSEGV_MAPERR", "", "guard marker");
}

#[test]
fn a_mode_that_register_refuses_has_no_cells() {
    let refused = |words: &str, revision| matches!(ask(&cell(words), revision).answer, Answer::NoSuchState { .. });
    assert!(refused("copy anonymous minor hole", Revision::V6_18));
    assert!(refused("copy shared wp hole", Revision::Merged));
    assert!(!refused("copy shared wp hole", Revision::V5_19));
    assert!(refused("copy shared missing mapped-wp", Revision::V6_18));
    assert!(refused("copy shared missing poisoned", Revision::V6_1));
}

#[test]
fn each_cell_can_be_replayed_from_its_scenario() {
    let cells = [false, true].map(|sigbus| Query { sigbus, ..Query::default() }.cells()).concat();
    assert!(cells.len() > 4000, "{}", cells.len());
    // Each on one of the kernels; neighbours on others.
    let replayed = |(i, cell): (usize, &Cell)| {
        let revision = KERNELS[i % KERNELS.len()];
        let text = document::scenario(cell, revision);
        let scenario = parse::scenario("asked", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let run = replay(&scenario, revision, &[], false);
        assert!(run.unlike.is_empty(), "{cell:?} on {revision}: {:?}\n{text}", run.unlike);
        usize::from(text.contains("PAGEFAULT"))
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = &|t: usize| cells.iter().enumerate().skip(t).step_by(threads).map(replayed).sum::<usize>();
    let messages: usize = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads).map(|t| scope.spawn(move || share(t))).collect();
        shares.into_iter().map(|s| s.join().unwrap()).sum()
    });
    assert!(messages > 100, "{messages}");
}

#[test]
fn the_document_is_what_the_model_answers() {
    let text = document::whole(&Query::default(), Format::Markdown);
    assert!(text.len() < 400_000, "{}", text.len());
    expect_file!["../docs/ioctls.md"].assert_eq(&text);
}

#[test]
fn columns_are_called_by_what_they_have_in_common() {
    let of = |words: &str| -> Vec<Registration> { words.split(' ').map(|w| Registration::from_word(w).unwrap()).collect() };
    let named = |words: &str| label(&of(words), &Registration::ALL);
    assert_eq!(named("none"), "not registered");
    assert_eq!(named("wp"), "WP only");
    assert_eq!(named("wp missing+wp wp+minor missing+wp+minor"), "WP");
    assert_eq!(named("missing minor missing+minor"), "without WP");
    assert_eq!(named("none missing minor missing+minor"), "without WP; not registered");
    assert_eq!(named("missing missing+wp"), "MISSING without MINOR");
    assert_eq!(named("missing wp"), "MISSING or WP");
    assert_eq!(label(&Registration::ALL, &Registration::ALL), "registered or not");
    assert_eq!(label(&of("minor"), &of("minor")), "MINOR");
}

#[test]
fn what_kernels_answered_belongs_to_the_cells_of_today() {
    let text = include_str!("../src/ask/confirmed.txt");
    assert_eq!(Confirmed::stale(text).unwrap(), Vec::<String>::new());
    let confirmed = Confirmed::read(text).unwrap();
    assert_eq!(confirmed.print(), text);
    assert!(confirmed.counts().iter().filter(|n| **n > 4000).count() >= 3, "{:?}", confirmed.counts());
    // A cell that is done otherwise is noticed.
    let changed = text.replacen("copy shared rw ", "copy private rw ", 1);
    assert!(!Confirmed::stale(&changed).unwrap().is_empty());
}

/// A page that is there is continued, and looked at afterwards.
const RECORDED: &str = r#"{"meta":1,"kernel":"6.18.44"}
{"id":"named as it likes","steps":[{"op":"memfd f 4","x":"t0","r":0},{"op":"pwrite f 1 1 0x42","x":"t0","r":4096},{"op":"uffd u wpfault,miss_shmem,minor_shmem,wp_shmem","x":"t0","r":0,"o":"features=0x1ffff ioctls=register,unregister,api"},{"op":"mmap m0 shared f 0 4 rw","x":"t0","r":0,"d":{"m0.1":"- mi=1"}},{"op":"register u m0.0 4 minor","x":"t0","r":0,"o":"wake,copy,zeropage,move,continue,poison"},{"op":"continue u m0.1 1","x":"t0","r":0,"o":"1p","d":{"m0.1":"pfx mc=1 kf=UDMB b=42 mi=1"}},{"op":"touch r m0.1","x":"t0","r":0,"o":"42"}]}
"#;

#[test]
fn a_recording_confirms_what_it_does_and_not_what_it_is_called() {
    let continued = cell("continue shared minor cached");
    let seen = |text: &str| {
        let confirmed = gather(&[Archive::read(text.as_bytes()).unwrap()]).unwrap();
        confirmed.answer(&continued, Revision::V6_18).map(|(_, seen)| seen)
    };
    let model = ask(&continued, Revision::V6_18).answer.visible();
    assert_eq!(seen(RECORDED), Some(model.clone()));
    // Another page, another mode, other data: another question.
    for (this, other) in [("continue u m0.1", "continue u m0.2"), ("4 minor", "4 missing,minor"), ("0x42", "0x43")] {
        assert_eq!(seen(&RECORDED.replace(this, other)), None, "{other}");
    }
    // The same question, another answer.
    for (this, other) in [
        (r#""r":0,"o":"1p""#, r#""r":-1,"e":"EEXIST","o":"-EEXIST""#),
        ("pfx mc=1 kf=UDMB b=42", "px mc=1 kf=UMaB b=42"),
        ("pfx mc", "pfwx mc"),
        ("b=42 mi", "b=00 mi"),
    ] {
        let seen = seen(&RECORDED.replace(this, other));
        assert!(seen.is_some() && seen != Some(model.clone()), "{other}: {seen:?}");
    }
}

fn faultline(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_faultline")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[track_caller]
fn refuses(args: &[&str], message: Expect) {
    let (code, out, err) = faultline(args);
    assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
    message.assert_eq(&err);
}

#[test]
fn unknown_words_are_answered_with_the_nearest() {
    refuses(
        &["ask", "contineu"],
        expect![[r#"
            error: unknown operation `contineu`; did you mean `continue`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--state", "hole,swaped"],
        expect![[r#"
            error: unknown page state `swaped`; did you mean `swapped`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--mapping", "privat"],
        expect![[r#"
            error: unknown mapping `privat`; did you mean `private`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--registration", "missing+mino"],
        expect![[r#"
            error: unknown registration `mino`; did you mean `minor`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--kernel", "6.11"],
        expect![[r#"
            error: unknown kernel `6.11`; did you mean `6.12`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--patch", "v6"],
        expect![[r#"
            error: unknown revision `v6`; did you mean `v1`?
        "#]],
    );
    refuses(
        &["ask", "copy", "--mapping", "anonymous", "--state", "fallocated"],
        expect![[r#"
            error: there is no such page: not every page state belongs to every mapping, and UFFD_FEATURE_SIGBUS is of loads and stores; `faultline ask` without arguments shows all there are
        "#]],
    );
}

#[test]
fn one_page_is_told_in_detail() {
    let (code, out, _) = faultline(&["ask", "continue", "--state", "swapped", "--mapping", "private", "--kernel", "6.1"]);
    assert_eq!(code, 0);
    expect![[r#"
        UFFDIO_CONTINUE
          mapping: private (MAP_PRIVATE of a memfd or of another file on tmpfs), PROT_READ|PROT_WRITE
          page: swapped: data in swap

        not registered, on 6.1
          answer    -1 ENOENT {mapped=-ENOENT}
          message   none
          mapped    as before: nothing (the PTE is none)
          confirmed recorded on 6.1.0-56-cloud-amd64

        registered, on 6.1
          answer    0 {mapped=4096}
          message   none
          mapped    the page of the page cache, read-only; it holds the data (before: nothing (the PTE is none))
          confirmed recorded on 6.1.0-56-cloud-amd64 (registration missing, wp)

        --scenario prints what was run, to be pasted or given to `faultline replay`.
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_scenario_is_printed_to_be_replayed() {
    let ask = ["ask", "load", "--state", "cached", "--mapping", "shared", "--kernel", "6.12", "--registration", "minor"];
    let (_, text, _) = faultline(&[&ask[..], &["--scenario"]].concat());
    let path = format!("{}/asked.scn", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, &text).unwrap();
    let (code, out, err) = faultline(&["replay", &path, "--patch", "v6_12"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("MINOR"), "{out}");
}

#[test]
fn some_cells_are_a_table_in_each_format() {
    let ask = ["ask", "continue", "--state", "hole,fallocated", "--mapping", "shared", "--kernel", "5.14,6.18"];
    for (format, mark) in [("text", "│ fallocated "), ("markdown", "| fallocated |"), ("html", "<td>fallocated</td>")] {
        let (code, out, _) = faultline(&[&ask[..], &["--format", format]].concat());
        assert_eq!(code, 0);
        assert!(out.contains(mark) && out.contains("5.14: EFAULT; 6.18: 0, cache page rw"), "{out}");
    }
}
