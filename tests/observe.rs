// SPDX-License-Identifier: GPL-2.0-only
//! What user space sees of the model: the projection, and the comparison of two of them.

use faultline::machine::Machine;
use faultline::observe::{self, Cached, Envelope, Key, Moment, Observer, PageSeen, Seen, Subject};
use faultline::patch::Revision;
use faultline::replay::moments;
use faultline::scenario::{self, Scenario, Step};
use std::hash::{BuildHasher, RandomState};

fn read(text: &str) -> Scenario {
    let text = format!("# SPDX-License-Identifier: GPL-2.0-only\nquestion: ?\n{text}");
    scenario::parse::scenario("test", &text).unwrap_or_else(|e| panic!("{e}"))
}

fn revision(name: &str) -> Revision {
    Revision::ALL.iter().copied().find(|r| r.name() == name).unwrap()
}

fn last(text: &str, on: &str) -> Moment {
    moments(&read(text), revision(on), &[]).pop().unwrap()
}

fn page(moment: &Moment, who: u16, addr: u64) -> PageSeen {
    match moment.seen.0.get(&Key::Page(who, addr)) {
        Some(Seen::Page(page)) => *page,
        other => panic!("{addr:#x}: {other:?}"),
    }
}

const FILE: &str = "machine: swap=8
memfd_create(\"\", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
";

#[test]
fn looking_changes_nothing() {
    let text = format!("{FILE}store(0x100000, 0x41) = 0\nload(0x101000) = 0x00\nreclaim(3, 4096)\nfork() as child = child\n");
    let scenario = read(&text);
    let mut machine = Machine::new(revision("v6_18"), scenario.machine.config());
    let main = machine.main_task();
    let hasher = RandomState::new();
    let mut observer = Observer::default();
    for step in &scenario.steps {
        let Step::Op(call) = step else { continue };
        machine.run(main, &call.op).unwrap();
        let before = (hasher.hash_one(&*machine.k), (*machine.k).clone());
        let seen = observer.look(&machine.k, &[Subject { who: 0, task: main }]);
        assert!(!seen.0.is_empty());
        assert_eq!(before.0, hasher.hash_one(&*machine.k), "after {:?}", call.op);
        assert!(before.1 == *machine.k);
        assert!(machine.k.run.findings.borrow().is_empty());
    }
}

#[test]
fn a_page_is_seen_as_pagemap_and_kpageflags_have_it() {
    let moment = last(&format!("{FILE}store(0x100000, 0x41) = 0\n"), "v6_18");
    let stored = page(&moment, 0, 0x100000);
    assert!(stored.present && stored.file && stored.exclusive && !stored.swap && !stored.uffd_wp);
    assert_eq!(stored.bytes, Envelope::Is([0x41, 0, 0, 0].into()));
    let frame = stored.frame.unwrap();
    assert_eq!((frame.mapcount, frame.anon, frame.swapbacked), (1, false, true));
    let untouched = page(&moment, 0, 0x101000);
    assert_eq!(untouched, PageSeen { mincore: Envelope::Is(false), ..PageSeen::default() });
    let Some(Seen::FilePage(file)) = moment.seen.0.get(&Key::FilePage(3, 0)) else { panic!() };
    assert_eq!((file.cached, file.data, file.mincore), (Envelope::Is(Cached::Cached), Envelope::Is(true), Envelope::Is(true)));
    let Some(Seen::File(file)) = moment.seen.0.get(&Key::File(3)) else { panic!() };
    assert_eq!((file.size, file.blocks, file.swapped), (16384, Envelope::Is(8), Envelope::Is(0)));
}

#[test]
fn swapped_shared_memory_shows_in_the_file_and_not_in_the_entry() {
    let text = format!("{FILE}store(0x100000, 0x41) = 0\nmadvise(0x100000, 4096, MADV_PAGEOUT) = 0\n");
    let moment = last(&text, "v6_18");
    assert!(!page(&moment, 0, 0x100000).swap);
    let Some(Seen::FilePage(file)) = moment.seen.0.get(&Key::FilePage(3, 0)) else { panic!() };
    assert_eq!((file.cached, file.data, file.mincore), (Envelope::Is(Cached::Swapped), Envelope::Is(true), Envelope::Is(false)));
    let Some(Seen::Vmas(vmas)) = moment.seen.0.get(&Key::Vmas(0)) else { panic!() };
    let Envelope::Is(smaps) = vmas[0].smaps else { panic!() };
    assert_eq!((smaps.rss, smaps.swap), (0, 1));
    let Some(Seen::File(file)) = moment.seen.0.get(&Key::File(3)) else { panic!() };
    assert_eq!((file.blocks, file.swapped), (Envelope::Is(8), Envelope::Is(1)));
    // Before v6.5 nobody tells a page in memory from one in swap.
    let Some(Seen::FilePage(file)) = last(&text, "v6_1").seen.0.get(&Key::FilePage(3, 0)).cloned() else { panic!() };
    assert_eq!(file.cached, Envelope::Unseen);
}

#[test]
fn markers_are_bits_of_pagemap() {
    let text = format!(
        "{FILE}userfaultfd(0) = 4
ioctl(4, UFFDIO_API, {{api=0xaa, features=0x5000}}) = 0
ioctl(4, UFFDIO_REGISTER, {{start=0x100000, len=0x4000, mode=0x3}}) = 0
ioctl(4, UFFDIO_WRITEPROTECT, {{start=0x100000, len=0x1000, mode=0x1}}) = 0
ioctl(4, UFFDIO_POISON, {{start=0x101000, len=0x1000, mode=0}}) = 0
madvise(0x102000, 4096, MADV_GUARD_INSTALL) = 0
"
    );
    let moment = last(&text, "v6_18");
    let bits = |addr| {
        let p = page(&moment, 0, addr);
        (p.present, p.swap, p.uffd_wp, p.guard)
    };
    assert_eq!(bits(0x100000), (false, true, true, false));
    assert_eq!(bits(0x101000), (false, true, false, false));
    assert_eq!(bits(0x102000), (false, true, false, true));
    assert_eq!(bits(0x103000), (false, false, false, false));
}

#[test]
fn a_file_keeps_its_first_descriptor_while_it_is_mapped() {
    let closed = last(&format!("{FILE}close(3) = 0\n"), "v6_18");
    assert!(closed.seen.0.contains_key(&Key::File(3)));
    let unmapped = last(&format!("{FILE}close(3) = 0\nmunmap(0x100000, 16384) = 0\n"), "v6_18");
    assert!(!unmapped.seen.0.contains_key(&Key::File(3)));
    let twice = last(&format!("{FILE}open(\"/proc/self/fd/3\", O_RDONLY) = 4\n"), "v6_18");
    assert!(twice.seen.0.contains_key(&Key::File(3)) && !twice.seen.0.contains_key(&Key::File(4)));
}

#[test]
fn a_child_is_seen_by_its_place_among_the_threads() {
    let moment =
        last(&format!("{FILE}store(0x100000, 0x41) = 0\nfork() as child = child\nchild: load(0x100000) = 0x41\n"), "v6_18");
    assert!(page(&moment, 1, 0x100000).present);
    assert!(!page(&moment, 1, 0x100000).exclusive);
    assert_eq!(page(&moment, 0, 0x100000).frame.unwrap().mapcount, 2);
}

#[test]
fn a_moment_tells_who_is_blocked_and_who_went_on() {
    let text = "threads: main t1
memfd_create(\"\", 0) = 3
ftruncate(3, 16384) = 0
mmap(0x100000, 16384, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x100000
userfaultfd(0) = 4
ioctl(4, UFFDIO_API, {api=0xaa, features=0}) = 0
ioctl(4, UFFDIO_REGISTER, {start=0x100000, len=0x4000, mode=0x1}) = 0
t1: load(0x100000) <unfinished ...>
ioctl(4, UFFDIO_COPY, {dst=0x100000, src=\"B\", len=0x1000, mode=0}) = 0
t1: <... resumed> = 0x42
";
    let all = moments(&read(text), revision("merged"), &[]);
    let [.., blocked, copy, resumed] = &all[..] else { panic!() };
    assert_eq!((&blocked.outcome, &blocked.blocked[..]), (&None, &[1][..]));
    assert_eq!(copy.outcome.as_ref().unwrap().ret, Ok(0));
    assert!(copy.blocked.is_empty() && copy.resumed.len() == 1 && copy.resumed[0].0 == 1);
    assert_eq!(copy.seen, resumed.seen);
    assert_eq!((&resumed.outcome, resumed.resumed.len()), (&None, 0));
}

#[test]
fn unlike_facts_are_named_with_both_values() {
    let moment = last(&format!("{FILE}store(0x100000, 0x41) = 0\n"), "v6_18");
    assert_eq!(observe::compare(&moment, &moment), []);
    let change = |key: Key, how: fn(&mut Seen)| {
        let mut other = moment.clone();
        how(other.seen.0.get_mut(&key).unwrap());
        observe::compare(&moment, &other).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let blocks = change(Key::File(3), |s| {
        if let Seen::File(f) = s {
            f.blocks = Envelope::Is(16)
        }
    });
    assert_eq!(blocks, ["file 3: st_blocks: model 8, kernel 16"]);
    let wp = change(Key::Page(0, 0x100000), |s| {
        if let Seen::Page(p) = s {
            p.uffd_wp = true
        }
    });
    assert_eq!(wp, ["page 0x100000: pagemap 57 (uffd-wp): model no, kernel yes"]);
    let rss = change(Key::Vmas(0), |s| {
        if let Seen::Vmas(v) = s
            && let Envelope::Is(smaps) = &mut v[0].smaps
        {
            smaps.rss = 3
        }
    });
    assert_eq!(rss, ["smaps 0x100000-0x104000: Rss: model 1, kernel 3"]);
    let unseen = change(Key::Vmas(0), |s| {
        if let Seen::Vmas(v) = s {
            v[0].smaps = Envelope::Unseen
        }
    });
    assert_eq!(unseen, [""; 0]);
    let rights = change(Key::Vmas(0), |s| {
        if let Seen::Vmas(v) = s {
            (v[0].smaps, v[0].shared) = (Envelope::Unseen, false)
        }
    });
    assert_eq!(rights, ["smaps 0x100000-0x104000: rights: model rw-s, kernel rw-p"]);
    let bytes = change(Key::FilePage(3, 0), |s| {
        if let Seen::FilePage(p) = s {
            p.bytes = Envelope::Is([0; 4].into())
        }
    });
    assert_eq!(bytes, ["file 3 page 0: pread: model 41 00 00 00, kernel 00 00 00 00"]);
    // What one side cannot see is no difference, and neither is what may be anything.
    for either in [Envelope::Unseen, Envelope::Any] {
        let mut other = moment.clone();
        let Some(Seen::FilePage(p)) = other.seen.0.get_mut(&Key::FilePage(3, 0)) else { panic!() };
        p.mincore = either;
        assert_eq!(observe::compare(&moment, &other), []);
        assert_eq!(observe::compare(&other, &moment), []);
    }
    let mut gone = moment.clone();
    gone.seen.0.remove(&Key::Page(0, 0x103000));
    gone.blocked = vec![2];
    let found: Vec<String> = observe::compare(&moment, &gone).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["blocked: model , kernel thread 2", "page 0x103000: there: model yes, kernel no"]);
}

#[test]
fn what_the_swap_backend_decides_may_be_anything() {
    let swapped = "machine: swap=8
mmap(0x100000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x100000
store(0x100000, 0x41) = 0
store(0x101000, 0x42) = 0
madvise(0x100000, 4096, MADV_PAGEOUT) = 0
";
    let out = page(&last(swapped, "v6_18"), 0, 0x100000);
    assert_eq!(out, PageSeen { swap: true, mincore: Envelope::Is(false), ..PageSeen::default() });
    let back = last(&format!("{swapped}load(0x100000) = 0x41\n"), "v6_18");
    let frame = page(&back, 0, 0x100000).frame.unwrap();
    assert_eq!((frame.dirty, frame.swapcache, frame.anon), (Envelope::Any, Envelope::Any, true));
    let Some(Seen::Vmas(vmas)) = back.seen.0.get(&Key::Vmas(0)) else { panic!() };
    let Envelope::Is(smaps) = vmas[0].smaps else { panic!() };
    assert_eq!((smaps.kinds, smaps.rss, smaps.swap), (Envelope::Any, 2, 0));
    // Of its neighbour, which never left, everything is known.
    let frame = page(&back, 0, 0x101000).frame.unwrap();
    assert_eq!((frame.dirty, frame.swapcache), (Envelope::Is(false), Envelope::Is(false)));
}

#[test]
fn of_something_huge_both_ends_are_looked_at() {
    let pages: Vec<u64> = observe::looked_at(0..3).collect();
    assert_eq!(pages, [0, 1, 2]);
    let edge = observe::EDGE;
    assert_eq!(observe::looked_at(0..2 * edge + 1).count() as u64, 2 * edge);
    let pages: Vec<u64> = observe::looked_at(7..1 << 40).collect();
    assert_eq!((pages[0], pages[edge as usize], pages.len() as u64), (7, (1 << 40) - edge, 2 * edge));
}
