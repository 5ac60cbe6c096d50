// SPDX-License-Identifier: GPL-2.0-only
//! Random programs: the merged form and the releases keep every promise, but for what is known; no revision makes the model panic.
//!
//! The programs are the same on every run: a change that breaks something fails, and nothing else does. PROPTEST_RNG_SEED gives
//! others, PROPTEST_CASES more of them. A failing one is made small and written to target/faultline.

use faultline::patch::Revision;
use faultline::random::{self, KNOWN, Run};
use faultline::replay::{BrokenAt, replay};
use faultline::scenario::generate::Program;
use faultline::scenario::{parse, print};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult};
use std::collections::BTreeSet;
use std::path::Path;

const RELEASES: &[Revision] = &[Revision::V5_19, Revision::V6_1, Revision::V6_12, Revision::V6_18];

/// `cases` programs, unless the environment asks for more.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    // Bytes need not shrink: the program they stand for is shrunk, and the scenario is what is kept.
    let default = ProptestConfig::default();
    let rng_seed = if default.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { default.rng_seed };
    ProptestConfig { cases, rng_seed, max_shrink_iters: 0, failure_persistence: None, ..default }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

fn without_schedule(bytes: &[u8]) -> Program {
    Program { schedule: Vec::new(), ..Program::from_bytes(bytes) }
}

/// A program that interleaves. Half of the byte strings say nothing of a schedule; theirs is made of the same bytes.
fn with_schedule(bytes: &[u8]) -> Program {
    let mut program = Program::from_bytes(bytes);
    if program.schedule.is_empty() {
        program.schedule = bytes.iter().rev().take(16).copied().chain([0]).collect();
    }
    program
}

/// Nothing but what is known is broken.
fn holds(program: &Program, revision: Revision) -> TestCaseResult {
    let run = random::run(program, revision);
    // Of a release alone: `guard-write-protected`.
    let guard = |b: &&BrokenAt| b.detail.starts_with("madvise, started over and over");
    let Some(broken) = run.unknown().find(|b| !guard(b)) else { return Ok(()) };
    let small = random::run(&random::shrink_to(program, revision, broken), revision);
    let path = random::save(&small, broken.rule, Path::new("target/faultline"));
    let text = print::scenario(&random::to_scenario(&small, broken.rule));
    Err(TestCaseError::fail(format!("{} is broken: {}\n{path:?}\n\n{text}", broken.rule, broken.detail)))
}

/// What happened, without where it stands in a file.
fn rows(run: &Run) -> Vec<String> {
    run.replay.rows.iter().map(|r| format!("{} {:?} {} {:?}", r.thread, r.op, r.resumed, r.answer)).collect()
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn one_after_the_other_every_rule_holds(bytes in bytes()) {
        holds(&without_schedule(&bytes), Revision::Merged)?;
    }

    #[test]
    fn interleaved_every_rule_holds(bytes in bytes()) {
        holds(&with_schedule(&bytes), Revision::Merged)?;
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn every_rule_holds_on_the_releases(bytes in bytes(), choices in prop::collection::vec(any::<u8>(), 32), release in prop::sample::select(RELEASES)) {
        let program = if choices[31] & 1 == 0 { without_schedule(&bytes) } else { with_schedule(&bytes) };
        holds(&program.of_later_kernels(release, &choices), release)?;
    }
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn no_revision_panics(bytes in bytes(), revision in prop::sample::select(Revision::ALL)) {
        random::run(&Program::from_bytes(&bytes), revision);
    }

    #[test]
    fn a_second_run_is_the_same(bytes in bytes(), revision in prop::sample::select(Revision::ALL)) {
        let program = Program::from_bytes(&bytes);
        let (first, second) = (random::run(&program, revision), random::run(&program, revision));
        prop_assert_eq!(rows(&first), rows(&second));
        prop_assert_eq!(first.replay.details, second.replay.details);
    }

    #[test]
    fn a_program_survives_being_written_down(bytes in bytes()) {
        let run = random::run(&Program::from_bytes(&bytes), Revision::Merged);
        let text = print::scenario(&run.scenario);
        let scenario = parse::scenario("random.scn", &text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let replay = replay(&scenario, Revision::Merged, &[], false);
        let again = Run { scenario, replay };
        prop_assert_eq!(rows(&run), rows(&again), "{}", text);
        prop_assert_eq!(run.replay.rules(), again.replay.rules());
    }
}

/// Whatever is excused has a scenario that shows it, and that breaks these rules only (unless all is lost after it), in the
/// excused way only.
#[test]
fn what_is_known_is_still_so() {
    for known in KNOWN {
        let scenario = known.scenario().unwrap_or_else(|| panic!("no scenario {}", known.scenario));
        let replay = replay(&scenario, Revision::Merged, &[], false);
        let excused: BTreeSet<&str> = KNOWN.iter().filter(|k| k.scenario == known.scenario).map(|k| k.rule).collect();
        let broken: BTreeSet<&str> = replay.rules().into_iter().collect();
        if known.corrupts {
            assert!(broken.is_superset(&excused), "{}", known.scenario);
        } else {
            assert_eq!(broken, excused, "{}", known.scenario);
        }
        for b in replay.details.iter().filter(|b| excused.contains(b.rule)) {
            assert!(random::known(b).is_some_and(|k| k.scenario == known.scenario), "{}: {}", known.scenario, b.detail);
        }
        let run = Run { scenario, replay };
        assert_eq!(run.unknown().next(), None, "{}", known.scenario);
    }
}

#[test]
fn shrinking_leaves_only_what_matters() {
    // All the bytes that make a program of two dozen operations with a schedule.
    let bytes: Vec<u8> = (0..400u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let program = with_schedule(&bytes);
    assert!(program.ops.len() > 10);
    let wanted = program.ops[7].1;
    let small = random::shrink(&program, |p| p.ops.iter().any(|(_, op)| *op == wanted));
    assert_eq!(small.ops, [(0, wanted)]);
    assert!(small.schedule.is_empty());
    assert_eq!(small.prologue, Default::default());
}

#[test]
fn a_saved_failure_can_be_replayed() {
    // On the base every CONTINUE breaks accounting.
    let program = without_schedule(&[0, 1, 0, 0, 0, 62, 0, 0, 0]);
    let run = random::run(&program, Revision::Base);
    let broken = run.unknown().next().expect("the base breaks a rule").clone();
    let small = random::shrink_to(&program, Revision::Base, &broken);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = random::save(&random::run(&small, Revision::Base), broken.rule, dir).unwrap();
    assert!(path.file_name().unwrap().to_str().unwrap().starts_with(broken.rule));
    let scenario = parse::file(&path).unwrap();
    let again = replay(&scenario, Revision::Base, &[], false);
    assert!(again.rules().contains(&broken.rule));
    assert!(scenario.claim(Revision::Base).is_some() && scenario.claim(Revision::Merged).is_none());
    std::fs::remove_file(path).unwrap();
}
