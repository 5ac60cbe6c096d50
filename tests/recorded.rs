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
{"id":"written pages","steps":[{"op":"uffd u -","x":"t0","r":0,"o":"features=0x1ffff ioctls=register,unregister,api"},{"op":"pmscan m0.0 1","x":"t0","r":0,"e":""}]}
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

/// What could be seen after each operation, as it is recorded.
const SEEN: &str = r#"{"meta":1,"kernel":"6.18.44"}
{"id":"seen","steps":[{"op":"memfd f 2","x":"t0","r":0,"d":{"f":"size=8192 blk=0 swp=0k","f.0":"mi=0 cs=. sk=h","f.1":"mi=0 cs=. sk=h","~m0":"noise","~st":"shm=0 file=0 anon=9 swap=0"}},{"op":"mmap m0 shared f 0 2 rw","x":"t0","r":0,"d":{"m0":"[0-2 rw-s u=- rss=0 an=0 sc=0 sd=0 pc=0 pd=0 sw=0]","m0.0":"- mi=0","m0.1":"- mi=0"}},{"op":"touch w m0.0 0x42","x":"t0","r":0,"d":{"f":"size=8192 blk=8 swp=0k","f.0":"mi=1 cs=c sk=D b=42~00","m0":"[0-2 rw-s u=- rss=1 an=0 sc=0 sd=0 pc=0 pd=1 sw=0]","m0.0":"pfx mc=1 kf=UDMB b=42~ mi=1","~st":"shm=1 file=0 anon=9 swap=0"}},{"op":"mlock m0.0 1","x":"t0","r":0,"d":{"m0":"[0-1 rw-s u=L rss=1 an=0 sc=0 sd=0 pc=0 pd=1 sw=0] [1-2 rw-s u=- rss=0 an=0 sc=0 sd=0 pc=0 pd=0 sw=0]","m0.0":"pfx mc=1 kf=UDMBuk b=42~ mi=1"}},{"op":"munlock m0.0 1","x":"t0","r":0},{"op":"madvise m0.0 1 pageout","x":"t0","r":0,"d":{"f":"size=8192 blk=8 swp=4k","f.0":"mi=0 cs=s sk=D","m0":"[0-2 rw-s u=- rss=0 an=0 sc=0 sd=0 pc=0 pd=0 sw=1]","m0.0":"- mi=0"}},{"op":"munmap m0.1 1","x":"t0","r":0,"d":{"m0":"[0-1 rw-s u=- rss=0 an=0 sc=0 sd=0 pc=0 pd=0 sw=1]","m0.1":"unmapped"}}]}
"#;

#[test]
fn all_that_can_be_seen_is_compared() {
    let summary = Summary::of(&archive(SEEN), Revision::V6_18);
    assert_eq!((summary.agree, &summary.differ[..], &summary.see[..]), (1, &[][..], &[][..]));
    for (right, wrong, kind) in [
        ("size=8192 blk=0", "size=4096 blk=0", "st_size"),
        ("blk=8", "blk=16", "st_blocks"),
        ("swp=4k", "swp=0k", "Swap"),
        ("cs=c", "cs=s", "cachestat"),
        ("sk=D b=42~00", "sk=h b=42~00", "SEEK_DATA"),
        ("mi=1 cs=c", "mi=0 cs=c", "mincore"),
        ("b=42~00", "b=42~01", "pread"),
        ("rw-s u=L", "r--s u=L", "rights"),
        ("rw-s u=L", "rw-s u=-", "VmFlags lo"),
        ("u=-", "u=m", "VmFlags um"),
        ("u=-", "u=w", "VmFlags uw"),
        ("u=-", "u=i", "VmFlags ui"),
        ("u=-", "u=A", "VmFlags ac"),
        ("rss=1", "rss=2", "Rss"),
        ("an=0", "an=1", "Anonymous"),
        ("pd=1", "pd=0", "Shared_Clean/Shared_Dirty/Private_Clean/Private_Dirty"),
        ("sw=1", "sw=0", "Swap"),
        ("[0-2", "[0-1", "mappings"),
        ("- mi=0", "s mi=0", "pagemap 62 (swap)"),
        ("- mi=0", "w mi=0", "pagemap 57 (uffd-wp)"),
        ("- mi=0", "g mi=0", "pagemap 58 (guard)"),
        ("pfx mc", "pf mc", "pagemap 56 (exclusive)"),
        ("pfx mc", "px mc", "pagemap 61 (file)"),
        ("mc=1", "mc=2", "kpagecount"),
        ("kf=UDMB", "kf=DMB", "KPF_UPTODATE"),
        ("kf=UDMB", "kf=UMB", "KPF_DIRTY"),
        ("kf=UDMB", "kf=UDB", "KPF_MMAP"),
        ("kf=UDMB", "kf=UDMaB", "KPF_ANON"),
        ("kf=UDMB", "kf=UDMCB", "KPF_SWAPCACHE"),
        ("kf=UDMB", "kf=UDM", "KPF_SWAPBACKED"),
        ("kf=UDMBuk", "kf=UDMBu", "KPF_MLOCKED"),
        ("kf=UDMB b", "kf=UDMBu b", "KPF_UNEVICTABLE"),
        ("kf=UDMB", "kf=Z", "KPF_ZERO_PAGE"),
        ("b=42~ mi", "b=43~ mi", "load"),
        ("unmapped", "- mi=0", "there"),
        ("shm=1", "shm=2", "RssShmem"),
        ("swap=0", "swap=1", "VmSwap"),
    ] {
        let text = SEEN.replacen(right, wrong, 1);
        assert_ne!(text, SEEN, "{right} is not in the recording");
        let summary = Summary::of(&archive(&text), Revision::V6_18);
        let [(_, line, _, kinds)] = &summary.see[..] else { panic!("{wrong} goes unnoticed: {summary:?}") };
        assert_eq!(kinds[..], [kind], "{line}");
    }
}

#[test]
fn what_a_scenario_cannot_say_is_named() {
    let finding = judge(&archive(RECORDED).cases[2], Revision::V6_18);
    assert!(matches!(&finding, Finding::NotCovered((what, _)) if what == "PAGEMAP_SCAN"), "{finding:?}");
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

/// The recordings that come with faultline: every answer and all that could be seen is what the model of the release has, but
/// for what is named. `faultline recorded --pack` makes the files, UPDATE_EXPECT=1 the expected summary.
fn shipped(release: &str) {
    let path = format!("{}/tests/data/recorded/linux-{release}.scn.gz", env!("CARGO_MANIFEST_DIR"));
    let archive = Archive::read(&std::fs::read(&path).unwrap()).unwrap();
    let revision = archive.revision().unwrap();
    assert_eq!(revision.kernel().name(), release);
    let summary = Summary::of(&archive, revision);
    let text = format!("Linux {}, {}", archive.kernel, summary.print(revision, true));
    expect_test::expect_file![format!("data/recorded/linux-{release}.txt")].assert_eq(&text);
    assert_eq!(summary.differ, []);
    assert_eq!(summary.see, []);
    assert!(summary.covered() * 100 >= summary.all() * 95, "{text}");
}

#[test]
fn linux_6_1_answers_as_its_model() {
    shipped("6.1");
}

#[test]
fn linux_6_12_answers_as_its_model() {
    shipped("6.12");
}

#[test]
fn linux_6_18_answers_as_its_model() {
    shipped("6.18");
}
