// SPDX-License-Identifier: GPL-2.0-only
//! Swap, and that nothing of it stays behind.
//!
//! Whatever changes the machine for everybody is done by a guard: a small process in a session of its own that no signal but
//! SIGKILL ends, and that undoes all of it when asked to, or when whoever asked for it is gone, however that came. Before it
//! changes anything it writes down how things were. If the guard itself is killed, its master undoes what is written there; if
//! both are, the next guard does, before anything else.

use super::sys::{self, Forked};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where is written down how things were; also the lock that lets one run at a time arrange swap.
const NOTES: [&str; 2] = ["/run/faultline-live", "/var/tmp/faultline-live"];
/// Where a swap file may be. Not every file system can have one.
const PLACES: [&str; 3] = ["/var/tmp", "/tmp", "."];
const PAGE_CLUSTER: &str = "/proc/sys/vm/page-cluster";
const ZSWAP: &str = "/sys/module/zswap/parameters/enabled";
const DEBUGFS: &str = "/sys/kernel/debug";
const FAULT_AROUND: &str = "/sys/kernel/debug/fault_around_bytes";
const HOT_ADD: &str = "/sys/class/zram-control/hot_add";
const HOT_REMOVE: &str = "/sys/class/zram-control/hot_remove";
/// How long to wait for another run that has swap arranged.
const QUEUE: Duration = Duration::from_secs(120);

/// The guard, from its master's side.
pub struct Guard {
    pid: u32,
    commands: Option<PipeWriter>,
    answers: BufReader<PipeReader>,
    /// What an earlier run had left and was undone.
    pub found: Vec<String>,
}

impl Guard {
    /// Start it.
    pub fn start() -> Result<Guard, String> {
        let text = |e: io::Error| e.to_string();
        let (orders, commands) = io::pipe().map_err(text)?;
        let (answers, replies) = io::pipe().map_err(text)?;
        match sys::fork().map_err(text)? {
            Forked::Child => {
                drop((commands, answers));
                guard(orders, replies)
            }
            Forked::Parent(pid) => {
                drop((orders, replies));
                let mut guard = Guard { pid, commands: Some(commands), answers: BufReader::new(answers), found: Vec::new() };
                let found = guard.answer()?;
                guard.found = found.split('\t').filter(|f| !f.is_empty()).map(str::to_owned).collect();
                Ok(guard)
            }
        }
    }

    /// Swap with exactly so many pages. 0 is none. Gives what is swapped to.
    pub fn swap(&mut self, slots: u64) -> Result<PathBuf, String> {
        self.order(&format!("swap {slots}")).map(PathBuf::from)
    }

    /// The same, but not switched on.
    pub fn prepare(&mut self, slots: u64) -> Result<PathBuf, String> {
        let path = self.swap(slots)?;
        sys::swapoff(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    /// How many bytes a read fault may map at once; None as it was.
    pub fn fault_around(&mut self, bytes: Option<u64>) -> Result<(), String> {
        self.order(&bytes.map_or("fault-around".to_owned(), |bytes| format!("fault-around {bytes}"))).map(|_| ())
    }

    /// The guard's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn order(&mut self, what: &str) -> Result<String, String> {
        let sent = self.commands.as_mut().map(|c| writeln!(c, "{what}"));
        match sent {
            Some(Ok(())) => self.answer(),
            _ => Err("the guard is gone".to_owned()),
        }
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(n) if n > 0 => match line.trim_end_matches('\n').split_once(' ') {
                Some(("ok", rest)) => Ok(rest.to_owned()),
                Some((_, rest)) => Err(rest.to_owned()),
                None => Err(line),
            },
            _ => Err("the guard is gone".to_owned()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.commands.take());
        sys::wait(self.pid as i32, true);
        // Nothing is left to do unless the guard was killed.
        if let Ok(Some(mut notes)) = Notes::open(Duration::ZERO, || true) {
            notes.undo();
        }
    }
}

/// The guard's life.
fn guard(orders: PipeReader, mut replies: PipeWriter) -> ! {
    sys::leave_session();
    sys::rename(c"faultline-guard");
    sys::without_terminal();
    let mut say = |result: Result<String, String>| {
        let line = match result {
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error {}\n", text.replace('\n', " ")),
        };
        replies.write_all(line.as_bytes()).is_ok()
    };
    // Nothing is ordered before the first answer: what can be read is the end, for the master is gone.
    let gone = || sys::readable(&[orders.as_raw_fd()], 0)[0];
    let mut notes = match Notes::open(QUEUE, gone) {
        Ok(Some(notes)) => notes,
        Ok(None) => {
            let wait = QUEUE.as_secs();
            say(Err(format!("another run of faultline has had swap arranged for {wait} s; wait for it to end")));
            sys::exit(0)
        }
        Err(e) => {
            say(Err(e));
            sys::exit(0)
        }
    };
    let found = notes.undo();
    if say(Ok(found.join("\t"))) {
        for line in BufReader::new(orders).lines() {
            let Ok(line) = line else { break };
            let mut words = line.split(' ');
            let done = match (words.next(), words.next().and_then(|n| n.parse().ok())) {
                (Some("swap"), Some(slots)) => swap(&mut notes, slots),
                (Some("fault-around"), bytes) => fault_around(&mut notes, bytes).map(|()| String::new()),
                _ => Err(format!("no such order: {line}")),
            };
            if !say(done) {
                break;
            }
        }
    }
    notes.undo();
    sys::exit(0)
}

/// How things were, in a file that outlives whoever wrote it.
struct Notes {
    file: File,
}

impl Notes {
    /// Open and lock them. None if somebody else has them for longer than this.
    fn open(patience: Duration, give_up: impl Fn() -> bool) -> Result<Option<Notes>, String> {
        let mut errors = Vec::new();
        for path in NOTES {
            match OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path) {
                Ok(file) => {
                    let since = Instant::now();
                    while !sys::lock(file.as_fd()) {
                        if since.elapsed() >= patience || give_up() {
                            return Ok(None);
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    return Ok(Some(Notes { file }));
                }
                Err(e) => errors.push(format!("{path}: {e}")),
            }
        }
        Err(errors.join("; "))
    }

    fn lines(&mut self) -> Vec<(String, String)> {
        let mut text = String::new();
        let _ = self.file.rewind().and_then(|()| self.file.read_to_string(&mut text));
        text.lines().filter_map(|l| l.split_once(' ')).map(|(what, how)| (what.to_owned(), how.to_owned())).collect()
    }

    /// Note how something was, unless that is noted already.
    fn note(&mut self, what: &str, how: &str) -> Result<(), String> {
        if self.lines().iter().any(|(w, h)| w == what && (h == how || what.starts_with('/'))) {
            return Ok(());
        }
        let at = self.file.metadata().map_or(0, |m| m.len());
        self.file.write_all_at(format!("{what} {how}\n").as_bytes(), at).map_err(|e| e.to_string())
    }

    /// Change a setting, and note how it was.
    fn set(&mut self, path: &str, value: &str) -> Result<(), String> {
        let at = |e: io::Error| format!("{path}: {e}");
        let was = fs::read_to_string(path).map_err(at)?;
        if was.trim() != value {
            self.note(path, was.trim())?;
            fs::write(path, value).map_err(at)?;
        }
        Ok(())
    }

    /// Make everything as it was. Gives what that was. What cannot be undone stays noted.
    fn undo(&mut self) -> Vec<String> {
        let mut undone = Vec::new();
        let mut left = String::new();
        for (what, how) in self.lines().into_iter().rev() {
            let done = match what.as_str() {
                "swap" => swap_file_gone(Path::new(&how)),
                "zram" => zram_gone(&how),
                path => {
                    if path == FAULT_AROUND {
                        sys::see_debugfs(Path::new(DEBUGFS));
                    }
                    fs::write(path, &how)
                }
            };
            match done {
                Ok(()) => undone.push(format!("{what} {how}")),
                Err(_) => left.insert_str(0, &format!("{what} {how}\n")),
            }
        }
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all_at(left.as_bytes(), 0));
        undone
    }

    /// Undo only swap.
    fn undo_swap(&mut self) -> Result<(), String> {
        let mut left = String::new();
        let mut failed = None;
        for (what, how) in self.lines() {
            let done = match what.as_str() {
                "swap" => swap_file_gone(Path::new(&how)),
                "zram" => zram_gone(&how),
                _ => Err(io::ErrorKind::Other.into()),
            };
            if let Err(e) = done {
                if matches!(what.as_str(), "swap" | "zram") {
                    failed = Some(format!("{what} {how}: {e}"));
                }
                left.push_str(&format!("{what} {how}\n"));
            }
        }
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all_at(left.as_bytes(), 0));
        failed.map_or(Ok(()), Err)
    }
}

/// Is this swapped to?
fn is_on(path: &Path) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let path = path.to_string_lossy();
    swaps.lines().skip(1).any(|l| l.split_ascii_whitespace().next() == Some(&path))
}

fn off(path: &Path) -> io::Result<()> {
    if is_on(path) { sys::swapoff(path) } else { Ok(()) }
}

fn swap_file_gone(path: &Path) -> io::Result<()> {
    off(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn zram_gone(number: &str) -> io::Result<()> {
    let device = PathBuf::from(format!("/dev/zram{number}"));
    off(&device)?;
    let reset = format!("/sys/block/zram{number}/reset");
    if Path::new(&reset).exists() {
        fs::write(&reset, "1")?;
        fs::write(HOT_REMOVE, number)?;
    }
    Ok(())
}

fn swap(notes: &mut Notes, slots: u64) -> Result<String, String> {
    notes.undo_swap()?;
    if slots == 0 {
        return Ok(String::new());
    }
    // Readahead would bring in neighbours.
    notes.set(PAGE_CLUSTER, "0")?;
    // A page that goes to a file stays in the swap cache until the disk is done with it; in zswap and zram it is gone at once.
    let zswap = notes.set(ZSWAP, "Y");
    let mut errors = Vec::new();
    match zswap {
        Ok(()) => {
            for place in PLACES {
                let Ok(dir) = fs::canonicalize(place) else { continue };
                let path = dir.join(format!(".faultline-swap-{}", std::process::id()));
                match swap_file(notes, &path, slots) {
                    Ok(()) => return Ok(path.to_string_lossy().into_owned()),
                    Err(e) => errors.push(format!("{}: {e}", path.display())),
                }
            }
        }
        Err(e) => errors.push(format!("no zswap ({e})")),
    }
    zram(notes, slots).map_err(|e| {
        errors.push(format!("zram: {e}"));
        format!("no swap could be arranged: {}", errors.join("; "))
    })
}

/// The header of a swap area with so many pages behind it.
fn header(slots: u64) -> [u8; 4096] {
    let mut page = [0; 4096];
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&(slots as u32).to_ne_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    page
}

fn swap_file(notes: &mut Notes, path: &Path, slots: u64) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let _ = fs::remove_file(path);
    notes.note("swap", &path.to_string_lossy())?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        // Holes are not swapped to.
        file.write_all(&header(slots))?;
        for _ in 0..slots {
            file.write_all(&[0; 4096])?;
        }
        file.sync_all()
    });
    made.and_then(|()| sys::swapon(path)).map_err(|e| {
        let _ = notes.undo_swap();
        text(e)
    })
}

fn zram(notes: &mut Notes, slots: u64) -> Result<String, String> {
    let text = |e: io::Error| e.to_string();
    let number = fs::read_to_string(HOT_ADD).map_err(text)?.trim().to_owned();
    notes.note("zram", &number)?;
    let device = PathBuf::from(format!("/dev/zram{number}"));
    let made = fs::write(format!("/sys/block/zram{number}/disksize"), ((slots + 1) * 4096).to_string())
        .and_then(|()| OpenOptions::new().write(true).open(&device)?.write_all_at(&header(slots), 0))
        .and_then(|()| sys::swapon(&device));
    made.map(|()| device.to_string_lossy().into_owned()).map_err(|e| {
        let _ = notes.undo_swap();
        text(e)
    })
}

fn fault_around(notes: &mut Notes, bytes: Option<u64>) -> Result<(), String> {
    sys::see_debugfs(Path::new(DEBUGFS));
    match bytes {
        Some(bytes) => notes.set(FAULT_AROUND, &bytes.to_string()),
        None => match notes.lines().into_iter().find(|(what, _)| what == FAULT_AROUND) {
            Some((path, was)) => fs::write(path, was).map_err(|e| e.to_string()),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What /proc/swaps says of it: kilobytes, and how many are used.
    fn kilobytes(path: &Path) -> Option<(u64, u64)> {
        let swaps = fs::read_to_string("/proc/swaps").ok()?;
        let line = swaps.lines().find(|l| l.split_ascii_whitespace().next() == path.to_str())?;
        let mut numbers = line.split_ascii_whitespace().skip(2).filter_map(|n| n.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    }

    #[test]
    fn zram_takes_a_page_at_once_and_leaves_nothing_behind() {
        if !sys::is_root() || !Path::new(HOT_ADD).exists() {
            eprintln!("skipped: not root, or a kernel without zram");
            return;
        }
        let Some(mut notes) = Notes::open(QUEUE, || false).unwrap() else {
            eprintln!("skipped: another run has swap arranged");
            return;
        };
        notes.undo();

        let device = PathBuf::from(zram(&mut notes, 8).unwrap());
        assert_eq!(kilobytes(&device), Some((32, 0)), "{} has not the pages that were asked for", device.display());
        let number = device.to_str().unwrap().trim_start_matches("/dev/zram").to_owned();
        assert_eq!(notes.lines(), [("zram".to_owned(), number.clone())]);

        let path = format!("/dev/shm/faultline-test-{}", std::process::id());
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // On one CPU: reclaim sees only pages that are on the LRU, and drains only its own CPU's batch.
        sys::pin(sys::cpus()[0]).unwrap();
        file.write_all(&[0x41; 4096]).unwrap();
        if sys::is_tmpfs(file.as_fd()) {
            assert!(sys::pageout(file.as_fd(), 0, |_| true).unwrap());
            if let Ok(seen) = sys::cachestat(file.as_fd(), 0, 4096) {
                assert_eq!(seen, (0, 1), "the page is still in the swap cache");
            }
            assert_eq!(kilobytes(&device), Some((32, 4)));
        }

        let undone = notes.undo();
        assert_eq!(undone, [format!("zram {number}")]);
        assert_eq!(kilobytes(&device), None);
        assert!(!Path::new(&format!("/sys/block/zram{number}")).exists());
        assert_eq!(notes.lines(), []);
        // swapoff has brought the page back.
        let mut byte = [0];
        file.read_exact_at(&mut byte, 4095).unwrap();
        assert_eq!(byte, [0x41]);
    }
}
