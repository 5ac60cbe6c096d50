// SPDX-License-Identifier: GPL-2.0-only
//! Two moments side by side: of the model, and of the running kernel.

use super::*;
use std::fmt;

/// Something that is not the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// What: a thing and a fact of it, as the field calls them (`page 0x100000 of 0: PG_dirty`).
    pub what: String,
    /// The kind of fact alone (`PG_dirty`), to count by.
    pub kind: String,
    /// What the model sees.
    pub model: String,
    /// What the kernel shows.
    pub kernel: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: model {}, kernel {}", self.what, self.model, self.kernel)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |f: &mut fmt::Formatter<'_>, who: Who| if who == 0 { Ok(()) } else { write!(f, " of process {who}") };
        match *self {
            Key::File(fd) => write!(f, "file {fd}"),
            Key::FilePage(fd, index) => write!(f, "file {fd} page {index}"),
            Key::Vmas(who) => write!(f, "smaps").and_then(|()| of(f, who)),
            Key::Page(who, addr) => write!(f, "page {addr:#x}").and_then(|()| of(f, who)),
            Key::Rss(who) => write!(f, "status").and_then(|()| of(f, who)),
        }
    }
}

/// The differences of one thing.
struct Facts<'a> {
    /// The thing; a whole moment has none.
    of: Option<Key>,
    /// One of its mappings.
    range: Option<(u64, u64)>,
    found: &'a mut Vec<Difference>,
}

impl Facts<'_> {
    fn push(&mut self, kind: &str, model: String, kernel: String) {
        let what = match (self.of, self.range) {
            (None, _) => kind.to_owned(),
            (Some(of), None) => format!("{of}: {kind}"),
            (Some(of), Some((start, end))) => format!("{of} {start:#x}-{end:#x}: {kind}"),
        };
        self.found.push(Difference { what, kind: kind.to_owned(), model, kernel });
    }

    fn exact<T: PartialEq + Fact>(&mut self, kind: &str, model: &T, kernel: &T) {
        if model != kernel {
            self.push(kind, model.text(), kernel.text());
        }
    }

    fn envelope<T: PartialEq + Fact>(&mut self, kind: &str, model: &Envelope<T>, kernel: &Envelope<T>) {
        if let (Envelope::Is(m), Envelope::Is(k)) = (model, kernel)
            && m != k
        {
            self.push(kind, m.text(), k.text());
        }
    }

    fn bytes(&mut self, kind: &str, model: &Envelope<Bytes>, kernel: &Envelope<Bytes>) {
        if let (Envelope::Is(m), Envelope::Is(k)) = (model, kernel)
            && !m.agrees(k)
        {
            self.push(kind, m.text(), k.text());
        }
    }
}

/// A value, as it is printed.
trait Fact {
    fn text(&self) -> String;
}

impl Fact for bool {
    fn text(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}
impl Fact for u64 {
    fn text(&self) -> String {
        self.to_string()
    }
}
impl Fact for i64 {
    fn text(&self) -> String {
        self.to_string()
    }
}
impl Fact for [u64; 4] {
    fn text(&self) -> String {
        self.map(|n| n.to_string()).join("/")
    }
}
impl Fact for Cached {
    fn text(&self) -> String {
        match self {
            Cached::Hole => "hole",
            Cached::Cached => "cached",
            Cached::Swapped => "swapped",
        }
        .to_owned()
    }
}
impl Fact for Bytes {
    fn text(&self) -> String {
        self.0.map(|b| b.map_or("-".to_owned(), |b| format!("{b:02x}"))).join(" ")
    }
}
impl Fact for String {
    fn text(&self) -> String {
        self.clone()
    }
}

/// What differs between two moments of the same step. Facts that only one side can see, or that may be anything, do not.
pub fn compare(model: &Moment, kernel: &Moment) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut facts = Facts { of: None, range: None, found: &mut found };
    let outcome = |o: &Option<Outcome>| o.as_ref().map_or("none".to_owned(), |o| format!("{o:?}"));
    if model.outcome != kernel.outcome {
        facts.push("outcome", outcome(&model.outcome), outcome(&kernel.outcome));
    }
    // Which of several threads comes first is not for either side to decide.
    if model.resumed != kernel.resumed {
        let sorted = |m: &Moment| {
            let mut all: Vec<(usize, String)> = m.resumed.iter().map(|(t, o)| (*t, format!("{o:?}"))).collect();
            all.sort();
            all.iter().map(|(t, o)| format!("thread {t} {o}")).collect::<Vec<_>>().join(", ")
        };
        facts.exact("resumed", &sorted(model), &sorted(kernel));
    }
    if model.blocked != kernel.blocked {
        let blocked = |m: &Moment| {
            let mut all = m.blocked.clone();
            all.sort_unstable();
            all.iter().map(|t| format!("thread {t}")).collect::<Vec<_>>().join(", ")
        };
        facts.exact("blocked", &blocked(model), &blocked(kernel));
    }
    find(&model.seen, &kernel.seen, &mut found);
    found
}

/// What differs between two observations.
pub fn compare_seen(model: &Observation, kernel: &Observation) -> Vec<Difference> {
    let mut found = Vec::new();
    find(model, kernel, &mut found);
    found
}

fn find(model: &Observation, kernel: &Observation, found: &mut Vec<Difference>) {
    let (mut models, mut kernels) = (model.0.iter().peekable(), kernel.0.iter().peekable());
    loop {
        // The lower key first: both are sorted.
        let key = match (models.peek(), kernels.peek()) {
            (Some((m, _)), Some((k, _))) => **m.min(k),
            (Some((key, _)), None) | (None, Some((key, _))) => **key,
            (None, None) => return,
        };
        let m = models.next_if(|(k, _)| **k == key).map(|(_, seen)| seen);
        let k = kernels.next_if(|(k, _)| **k == key).map(|(_, seen)| seen);
        compare_one(key, m, k, found);
    }
}

/// What differs of one thing. None: it is not there.
pub fn compare_one(key: Key, model: Option<&Seen>, kernel: Option<&Seen>, found: &mut Vec<Difference>) {
    if model == kernel {
        return;
    }
    let mut facts = Facts { of: Some(key), range: None, found };
    match (model, kernel) {
        (Some(Seen::File(m)), Some(Seen::File(k))) => file(&mut facts, m, k),
        (Some(Seen::FilePage(m)), Some(Seen::FilePage(k))) => file_page(&mut facts, m, k),
        (Some(Seen::Vmas(m)), Some(Seen::Vmas(k))) => vmas(&mut facts, m, k),
        (Some(Seen::Page(m)), Some(Seen::Page(k))) => page(&mut facts, m, k),
        (Some(Seen::Rss(m)), Some(Seen::Rss(k))) => {
            facts.envelope("RssAnon", &m.anon, &k.anon);
            facts.envelope("RssShmem", &m.shmem, &k.shmem);
            facts.envelope("VmSwap", &m.swap, &k.swap);
        }
        // Pages come and go with their mapping, which is named itself.
        _ => facts.exact("there", &model.is_some(), &kernel.is_some()),
    }
}

fn file(facts: &mut Facts<'_>, m: &FileSeen, k: &FileSeen) {
    facts.exact("st_size", &m.size, &k.size);
    facts.envelope("st_blocks", &m.blocks, &k.blocks);
    facts.envelope("Swap", &m.swapped, &k.swapped);
}

fn file_page(facts: &mut Facts<'_>, m: &FilePageSeen, k: &FilePageSeen) {
    facts.envelope("cachestat", &m.cached, &k.cached);
    facts.envelope("SEEK_DATA", &m.data, &k.data);
    facts.envelope("mincore", &m.mincore, &k.mincore);
    facts.bytes("pread", &m.bytes, &k.bytes);
}

fn page(facts: &mut Facts<'_>, m: &PageSeen, k: &PageSeen) {
    facts.exact("pagemap 63 (present)", &m.present, &k.present);
    facts.exact("pagemap 62 (swap)", &m.swap, &k.swap);
    facts.exact("pagemap 61 (file)", &m.file, &k.file);
    facts.exact("pagemap 58 (guard)", &m.guard, &k.guard);
    facts.exact("pagemap 57 (uffd-wp)", &m.uffd_wp, &k.uffd_wp);
    facts.exact("pagemap 56 (exclusive)", &m.exclusive, &k.exclusive);
    facts.envelope("mincore", &m.mincore, &k.mincore);
    facts.bytes("load", &m.bytes, &k.bytes);
    // One side alone has it: the entry differs, or nobody looked.
    let (Some(m), Some(k)) = (&m.frame, &k.frame) else { return };
    facts.exact("KPF_ZERO_PAGE", &m.zero_page, &k.zero_page);
    if m.zero_page || k.zero_page {
        return;
    }
    facts.exact("KPF_UPTODATE", &m.uptodate, &k.uptodate);
    facts.envelope("KPF_DIRTY", &m.dirty, &k.dirty);
    facts.exact("KPF_MMAP", &m.mmap, &k.mmap);
    facts.exact("KPF_ANON", &m.anon, &k.anon);
    facts.envelope("KPF_SWAPCACHE", &m.swapcache, &k.swapcache);
    facts.exact("KPF_SWAPBACKED", &m.swapbacked, &k.swapbacked);
    facts.envelope("KPF_UNEVICTABLE", &m.unevictable, &k.unevictable);
    facts.envelope("KPF_MLOCKED", &m.mlocked, &k.mlocked);
    facts.exact("kpagecount", &m.mapcount, &k.mapcount);
}

fn vmas(facts: &mut Facts<'_>, m: &[VmaSeen], k: &[VmaSeen]) {
    if !m.iter().map(|v| (v.start, v.end)).eq(k.iter().map(|v| (v.start, v.end))) {
        let ranges = |all: &[VmaSeen]| all.iter().map(|v| format!("{:#x}-{:#x}", v.start, v.end)).collect::<Vec<_>>().join(" ");
        facts.push("mappings", ranges(m), ranges(k));
        return;
    }
    for (m, k) in m.iter().zip(k) {
        facts.range = Some((m.start, m.end));
        if (m.prot, m.shared) != (k.prot, k.shared) {
            facts.exact("rights", &rights(m), &rights(k));
        }
        let (Envelope::Is(m), Envelope::Is(k)) = (&m.smaps, &k.smaps) else { continue };
        facts.exact("VmFlags um", &m.missing, &k.missing);
        facts.exact("VmFlags uw", &m.wp, &k.wp);
        facts.exact("VmFlags ui", &m.minor, &k.minor);
        facts.exact("VmFlags lo", &m.locked, &k.locked);
        facts.exact("VmFlags ac", &m.accounted, &k.accounted);
        facts.exact("Rss", &m.rss, &k.rss);
        facts.exact("Anonymous", &m.anonymous, &k.anonymous);
        facts.envelope("Shared_Clean/Shared_Dirty/Private_Clean/Private_Dirty", &m.kinds, &k.kinds);
        facts.exact("Swap", &m.swap, &k.swap);
    }
}

/// `rw-s`.
fn rights(v: &VmaSeen) -> String {
    crate::observe::rights(v.prot, v.shared)
}
