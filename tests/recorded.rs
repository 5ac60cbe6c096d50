// SPDX-License-Identifier: GPL-2.0-only
//! Recordings of real kernels: read, converted, judged.

use faultline::patch::Revision;
use faultline::recorded::{Archive, Finding, Recording, Summary, judge};

fn archive(text: &str) -> Archive {
    Archive::read(text.as_bytes()).unwrap()
}

/// Three sequences in the form of a recording of Linux 6.18.
const RECORDED: &str = r#"{"meta":1,"kernel":"6.18.44"}
{"id":"copy into a range that is not registered","steps":[{"op":"memfd f 4","x":"t0","r":0},{"op":"uffd u wpfault,miss_shmem,minor_shmem,wp_shmem","x":"t0","r":0,"o":"features=0x1ffff ioctls=register,unregister,api"},{"op":"mmap m0 shared f 0 4 rw","x":"t0","r":0},{"op":"copy u m0.1 1","x":"t0","r":-1,"e":"ENOENT","o":"-ENOENT"}]}
{"id":"a minor fault is raised, continued and ends","steps":[{"op":"memfd f 4","x":"t0","r":0},{"op":"pwrite f 1 1 0x42","x":"t0","r":4096},{"op":"uffd u -","x":"t0","r":0,"o":"features=0x1ffff ioctls=register,unregister,api"},{"op":"mmap m0 shared f 0 4 rw","x":"t0","r":0},{"op":"register u m0.0 4 minor","x":"t0","r":0,"o":"wake,copy,zeropage,move,continue,poison"},{"op":"touch r m0.1","x":"t0","r":"BLOCKED","ev":["u:PF m0.1 MINOR"]},{"op":"continue u m0.1 1","x":"t1","r":0,"o":"1p","late":[{"x":"t0","r":0,"e":"","o":"42"}]}]}
{"id":"moved pages","steps":[{"op":"uffd u -","x":"t0","r":0,"o":"features=0x1ffff ioctls=register,unregister,api"},{"op":"move u m0.0 m1.0 1","x":"t0","r":-1,"e":"EINVAL","o":"-EINVAL"}]}
"#;

#[test]
fn a_recording_agrees_with_the_release_it_names() {
    let archive = archive(RECORDED);
    assert_eq!(archive.revision(), Some(Revision::V6_18));
    let summary = Summary::of(&archive, Revision::V6_18);
    assert_eq!(summary.differ, []);
    assert_eq!((summary.agree, summary.covered(), summary.all()), (2, 2, 3));
}

#[test]
fn every_kind_of_answer_is_compared() {
    // Each change makes a right answer wrong.
    for (right, wrong) in [
        (r#""e":"ENOENT","o":"-ENOENT""#, r#""e":"EEXIST","o":"-ENOENT""#),
        (r#""e":"ENOENT","o":"-ENOENT""#, r#""e":"ENOENT","o":"untouched""#),
        (r#""ev":["u:PF m0.1 MINOR"]"#, r#""ev":["u:PF m0.1 MINOR|WRITE"]"#),
        (r#""ev":["u:PF m0.1 MINOR"]"#, r#""ev":["u:PF m0.2 MINOR"]"#),
        (r#""r":-1,"e":"ENOENT","o":"-ENOENT""#, r#""r":"BLOCKED""#),
        (r#""o":"42"}"#, r#""o":"43"}"#),
        (r#""o":"wake,copy,zeropage,move,continue,poison""#, r#""o":"wake,copy,zeropage,move,poison""#),
        (r#""o":"1p""#, r#""o":"2p""#),
    ] {
        let text = RECORDED.replacen(right, wrong, 1);
        assert_ne!(text, RECORDED, "{right} is not in the recording");
        let summary = Summary::of(&archive(&text), Revision::V6_18);
        assert_eq!(summary.differ.len(), 1, "{wrong} goes unnoticed");
    }
}

#[test]
fn what_a_scenario_cannot_say_is_named() {
    let finding = judge(&archive(RECORDED).cases[2], Revision::V6_18);
    assert!(matches!(&finding, Finding::NotCovered((what, _)) if what == "UFFDIO_MOVE"), "{finding:?}");
}

#[test]
fn a_recording_that_is_none_says_where() {
    assert!(Recording::parse("{\"meta\":1}\nhello\n").unwrap_err().starts_with("line 2:"));
    assert!(Recording::parse("{}").unwrap_err().starts_with("line 1:"));
    assert!(Archive::read(b"hello\n").unwrap_err().starts_with("line 1:"));
    assert!(Archive::read(b"not covered: this\n").unwrap_err().starts_with("line 1:"));
    assert!(Archive::read(&[0x1f, 0x8b, 0]).unwrap_err().starts_with("cannot be decompressed:"));
    assert!(Archive::read(&[0xff]).unwrap_err().starts_with("neither a text"));
    assert_eq!(archive("").revision(), None);
}

#[test]
fn an_archive_says_what_the_recording_says() {
    let recorded = archive(RECORDED);
    let mut again = Archive::read(&recorded.pack().unwrap()).unwrap();
    // What is not covered stands first.
    again.cases.rotate_left(1);
    assert_eq!(again, recorded);
    assert_eq!(archive(&recorded.print()).print(), recorded.print());
}
