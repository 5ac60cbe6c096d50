// SPDX-License-Identifier: GPL-2.0-only
//! The running kernel, where the machine allows it. Where not, each test says what is missing and is skipped.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What it answers when the machine cannot be asked.
const NOT_HERE: i32 = 3;

fn faultline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = faultline().args(args).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// Can this machine be asked? Says why not. Swap is the machine's, and so are its settings: one test after the other.
fn possible() -> Option<MutexGuard<'static, ()>> {
    static MACHINE: Mutex<()> = Mutex::new(());
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let (code, text) = output(&["live", "minor-bounce"]);
    if code == Some(NOT_HERE) {
        eprintln!("skipped: {text}");
        return None;
    }
    Some(machine)
}

#[test]
fn scenarios_agree_with_the_running_kernel() {
    let Some(_machine) = possible() else { return };
    for name in
        ["minor-bounce", "missing-copy", "fork-event", "truncate", "validation", "remap-event", "tmpfs-full", "sigbus-feature"]
    {
        let (code, text) = output(&["live", name]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(" agree, in "), "{text}");
    }
}

#[test]
fn a_difference_is_found_and_told() {
    let Some(_machine) = possible() else { return };
    // Base has neither write protection of shared memory nor CONTINUE of today.
    let (code, text) = output(&["live", "copy-write-protected", "--kernel", "base"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("differ first after line ") && text.contains("\n      ! "), "{text}");
}

#[test]
fn what_cannot_be_run_says_why() {
    let Some(_machine) = possible() else { return };
    let (code, text) = output(&["live", "copy-truncate"]);
    assert_eq!(code, Some(NOT_HERE), "{text}");
    assert!(text.contains("not run: a race"), "{text}");
}

#[test]
fn what_was_recorded_is_a_scenario_that_the_model_agrees_with() {
    let Some(_machine) = possible() else { return };
    let (code, text) = output(&["live", "--record", "minor-bounce"]);
    assert_eq!(code, Some(0), "{text}");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded.scn");
    fs::write(&path, &text).unwrap();
    let (code, replayed) = output(&["replay", path.to_str().unwrap(), "--patch", "v6_18"]);
    assert_eq!(code, Some(0), "{replayed}");
    assert!(!replayed.contains("not the promised one"), "{replayed}");
}

#[test]
fn random_programs_run() {
    let Some(_machine) = possible() else { return };
    let out = env!("CARGO_TARGET_TMPDIR");
    let (code, text) = output(&["live", "--random", "240", "--seed", "1", "--out", out]);
    if code == Some(NOT_HERE) {
        eprintln!("skipped: {text}");
        return;
    }
    assert!(text.starts_with("240 programs (seed 1)"), "{text}");
    // Which programs agree depends on the kernel; most do on any.
    let agree = text.lines().find_map(|l| l.trim().split_once(" agree in every answer")).unwrap().0;
    assert!(agree.parse::<u32>().unwrap() > 200, "{text}");
}

#[test]
fn a_process_that_is_used_again_answers_as_a_new_one() {
    let Some(_machine) = possible() else { return };
    let run = |look: &str, more: &[&str]| {
        let out = env!("CARGO_TARGET_TMPDIR");
        let (_, text) = output(&[&["live", "--random", "400", "--seed", "3", "--look", look, "--out", out], more].concat());
        // What was run and how much of it agrees, without the time that it took.
        let head = text.split(" on Linux ").next().unwrap().to_owned();
        let agree = text.lines().find(|l| l.contains(" agree in every answer")).map(str::to_owned);
        (head, agree)
    };
    for look in ["each", "last"] {
        let (again, new) = (run(look, &[]), run(look, &["--fresh"]));
        assert!(again.0.starts_with("400 programs (seed 3)"), "{}", again.0);
        assert_eq!(again, new);
    }
}

#[test]
fn what_differs_is_found_by_looking_at_the_end_and_told_where_it_began() {
    let Some(_machine) = possible() else { return };
    let out = env!("CARGO_TARGET_TMPDIR");
    let run =
        |look: &str| output(&["live", "--random", "400", "--seed", "5", "--kernel", "v6_12", "--look", look, "--out", out]).1;
    let text = run("last");
    if !text.contains(" on Linux 6.18") {
        eprintln!("skipped: this is about what 6.18 does and 6.12 does not: {}", text.lines().next().unwrap_or_default());
        return;
    }
    // Answers do not tell of it, and the operation that it began with was not the last.
    assert!(text.contains("\nst_blocks after pwrite64 ("), "{text}");
    assert!(!text.contains("after the end"), "{text}");
    assert!(!run("none").contains("\nst_blocks after"), "{text}");
}

#[test]
fn a_time_to_look_that_there_is_not_is_refused() {
    let (code, text) = output(&["live", "--random", "1", "--look", "lats"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("`lats`") && text.contains("did you mean `last`?"), "{text}");
}

/// The swap files of faultline that are on.
fn swaps() -> Vec<String> {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let names = swaps.lines().skip(1).filter_map(|l| l.split_ascii_whitespace().next());
    names.filter(|n| n.contains("faultline-swap") || n.contains("zram")).map(str::to_owned).collect()
}

/// Processes that descend from this one or name it in their command line.
fn processes(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(mut file) = fs::File::open(format!("/proc/{pid}/cmdline")) else { continue };
        let mut text = Vec::new();
        if file.read_to_end(&mut text).is_ok() && String::from_utf8_lossy(&text).contains(mark) {
            found.push(format!("{pid}: {}", String::from_utf8_lossy(&text).replace('\0', " ")));
        }
    }
    found
}

#[test]
fn killed_at_any_moment_nothing_stays_behind() {
    let Some(_machine) = possible() else { return };
    let settings = || {
        ["/proc/sys/vm/page-cluster", "/sys/module/zswap/parameters/enabled"].map(|p| fs::read_to_string(p).unwrap_or_default())
    };
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let (settings_before, mounts_before) = (settings(), mounts());
    for (round, wait) in [5, 20, 40, 60, 90, 130, 180, 260, 400, 700, 1200].into_iter().enumerate() {
        // The output folder marks the processes of this run.
        let mark = format!("{}/killed-{}-{round}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let mut run = faultline()
            .args(["live", "--random", "1000000", "--seed", "7", "--out", &mark])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        run.kill().unwrap();
        let status = run.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it ended before it was killed: {status}");
        let since = Instant::now();
        while !processes(&mark).is_empty() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(processes(&mark), Vec::<String>::new(), "after {wait} ms");
    }
    assert_eq!(mounts(), mounts_before);
    // Another run may have its own swap now.
    let since = Instant::now();
    while !(swaps().is_empty() && settings() == settings_before) && since.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((swaps(), settings()), (Vec::new(), settings_before));
}

/// A signal to a process that is ours.
fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}: {sent}");
}

/// The guard that this process has started.
fn guard_of(master: u32) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?;
        (name == "faultline-guard" && parent == master.to_string()).then_some(pid)
    })
}

/// A run that has swap arranged at the moment, its guard, and what is swapped to. None if it cannot have that here.
fn with_swap_on(mark: &str) -> Option<(Child, u32, String)> {
    // The programs that want no swap come first; they are not many of these.
    let mut run = faultline()
        .args(["live", "--random", "1200", "--seed", "7", "--out", mark])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Another run may have swap arranged, and this one waits for it.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(100) && run.try_wait().unwrap().is_none() {
        let guard = guard_of(run.id());
        let swap = guard.and_then(|guard| swaps().into_iter().find(|swap| swap.ends_with(&format!("faultline-swap-{guard}"))));
        if let (Some(guard), Some(swap)) = (guard, swap) {
            return Some((run, guard, swap));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = run.kill();
    let _ = run.wait();
    eprintln!("skipped: no swap file was arranged here");
    None
}

/// Wait until nothing of a run is left.
fn gone(mark: &str) {
    let since = Instant::now();
    while !processes(mark).is_empty() && since.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(processes(mark), Vec::<String>::new());
}

#[test]
fn killed_while_it_swaps_its_guard_takes_swap_away() {
    let Some(_machine) = possible() else { return };
    for (round, wait) in [0, 30, 300].into_iter().enumerate() {
        let mark = format!("{}/swapping-{}-{round}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let Some((mut run, guard, swap)) = with_swap_on(&mark) else { return };
        std::thread::sleep(Duration::from_millis(wait));
        run.kill().unwrap();
        run.wait().unwrap();
        // It has the time that swapoff takes.
        let since = Instant::now();
        while fs::exists(format!("/proc/{guard}")).unwrap() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!fs::exists(format!("/proc/{guard}")).unwrap(), "the guard is still there after {wait} ms");
        assert!(!swaps().contains(&swap), "{swap} is still on after {wait} ms");
        assert!(!fs::exists(&swap).unwrap(), "{swap} is still there after {wait} ms");
        gone(&mark);
    }
}

#[test]
fn what_a_killed_run_and_its_killed_guard_leave_the_next_run_undoes() {
    let Some(_machine) = possible() else { return };
    let mark = format!("{}/both-killed-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let Some((mut run, guard, swap)) = with_swap_on(&mark) else { return };
    // Stopped first, so that neither undoes anything when the other dies.
    signal("STOP", run.id());
    signal("STOP", guard);
    assert!(swaps().contains(&swap) && fs::exists(&swap).unwrap(), "{swap} is not on, with its guard stopped");
    signal("KILL", guard);
    run.kill().unwrap();
    run.wait().unwrap();
    gone(&mark);
    // Nothing but a guard undoes it; this one's comes first, unless another run's has come before.
    let (code, text) = output(&["live", "f01-continue-swapped"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!swaps().contains(&swap), "{swap} is still on: {text}");
    assert!(!fs::exists(&swap).unwrap(), "{swap} is still there: {text}");
}
