// SPDX-License-Identifier: GPL-2.0-only
//! The corpus: every claim agrees with the evidence, and the rules alone tell the revisions apart.

use expect_test::expect_file;
use faultline::corpus;
use faultline::patch::Revision;
use faultline::replay::{Row, Verdicts};
use faultline::report::findings::{self, Kind};
use faultline::report::matrix::Review;
use faultline::scenario::{Scenario, parse, print};

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = corpus::builtin().unwrap();
    scenarios.retain(|s| s.concerns(&Revision::series()));
    scenarios
}

#[test]
fn claims_agree_with_the_evidence() {
    let scenarios = scenarios();
    let review = Review::run(&scenarios, &Revision::series());
    expect_file!["data/review.txt"].assert_eq(&review.render());
    assert!(!review.differs_from_claims());
}

#[test]
fn verdicts_do_not_depend_on_claims() {
    let mut bare = scenarios();
    let with =
        Review::run(&scenarios(), &Revision::series()).cells.iter().flatten().map(|c| c.verdicts.rules()).collect::<Vec<_>>();
    for s in &mut bare {
        s.claims.clear();
    }
    let without = Review::run(&bare, &Revision::series()).cells.iter().flatten().map(|c| c.verdicts.rules()).collect::<Vec<_>>();
    assert_eq!(with, without);
}

/// What a revision looks like: to the rules, and in what it answers.
type Profile = (Vec<Vec<&'static str>>, Vec<Vec<Row>>);

fn profile(scenarios: &[Scenario], revision: Revision) -> Profile {
    let verdicts: Vec<_> = scenarios.iter().map(|s| Verdicts::of(s, revision, false)).collect();
    let rows = verdicts.iter().map(|v| v.telling().rows.clone()).collect();
    (verdicts.iter().map(|v| v.rules()).collect(), rows)
}

#[test]
fn rules_alone_tell_the_postings_apart() {
    let scenarios = scenarios();
    let series = Revision::series();
    let profiles: Vec<Profile> = series.iter().map(|&r| profile(&scenarios, r)).collect();
    for (i, b) in series.iter().enumerate() {
        for (j, a) in series[..i].iter().enumerate() {
            assert_ne!(profiles[i].1, profiles[j].1, "{a} and {b} answer alike");
            // s1 and s3 differ only in who reads a swapped page in, and either may.
            if (*a, *b) != (Revision::S1, Revision::S3) {
                assert_ne!(profiles[i].0, profiles[j].0, "{a} and {b} look alike to the rules");
            }
        }
    }
}

#[test]
fn every_revision_has_a_claim_in_every_scenario() {
    for s in scenarios() {
        for r in Revision::series() {
            assert!(s.claim(r).is_some(), "{} claims nothing of {r}", s.path);
        }
    }
}

#[test]
fn every_executable_remark_has_a_scenario() {
    let scenarios = scenarios();
    for remark in findings::ALL {
        let replayed = scenarios.iter().any(|s| s.finds.iter().any(|f| f == remark.id));
        if remark.kind == Kind::Scenario {
            assert!(replayed, "no scenario replays {}", remark.id);
        }
    }
    for s in &scenarios {
        for id in &s.finds {
            assert!(findings::by_id(id).is_some(), "{}: unknown remark {id}", s.path);
        }
    }
}

#[test]
fn scenario_files_survive_printing() {
    for s in scenarios() {
        let again = parse::scenario(&s.path, &print::scenario(&s)).unwrap();
        assert_eq!(again.without_positions(), s.without_positions(), "{}", s.path);
    }
}
