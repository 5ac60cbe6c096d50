// SPDX-License-Identifier: GPL-2.0-only
//! The corpus: every claim agrees with the evidence, and the rules alone tell the revisions apart.

use expect_test::expect_file;
use faultline::corpus;
use faultline::patch::Revision;
use faultline::replay::Verdicts;
use faultline::report::findings::{self, Kind};
use faultline::report::matrix::Review;
use faultline::scenario::{Scenario, parse, print};

fn scenarios() -> Vec<Scenario> {
    corpus::builtin().unwrap()
}

#[test]
fn claims_agree_with_the_evidence() {
    let scenarios = scenarios();
    let review = Review::run(&scenarios, Revision::ALL);
    expect_file!["data/review.txt"].assert_eq(&review.render());
    assert!(!review.differs_from_claims());
}

#[test]
fn verdicts_do_not_depend_on_claims() {
    let mut bare = scenarios();
    let with = Review::run(&scenarios(), Revision::ALL).cells.iter().flatten().map(|c| c.verdicts.rules()).collect::<Vec<_>>();
    for s in &mut bare {
        s.claims.clear();
    }
    let without = Review::run(&bare, Revision::ALL).cells.iter().flatten().map(|c| c.verdicts.rules()).collect::<Vec<_>>();
    assert_eq!(with, without);
}

/// What a revision looks like to the rules.
fn profile(scenarios: &[Scenario], revision: Revision) -> Vec<Vec<&'static str>> {
    scenarios.iter().map(|s| Verdicts::of(s, revision, false).rules()).collect()
}

#[test]
fn rules_alone_tell_the_postings_apart() {
    let scenarios = scenarios();
    let postings = Revision::ALL;
    let profiles: Vec<_> = postings.iter().map(|&r| profile(&scenarios, r)).collect();
    for i in 0..postings.len() {
        for j in 0..i {
            assert_ne!(profiles[i], profiles[j], "{} and {} look alike", postings[j], postings[i]);
        }
    }
}

#[test]
fn every_revision_has_a_claim_in_every_scenario() {
    for s in scenarios() {
        for &r in Revision::ALL {
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
