// SPDX-License-Identifier: GPL-2.0-only
//! The command as a newcomer meets it: what it prints for wrong input, and with which exit status it ends.

use expect_test::{Expect, expect};
use std::fs;
use std::process::{Command, Output};

fn faultline(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faultline")).args(args).output().unwrap()
}

/// Run it, and compare the exit status and what stands on standard error.
fn refuses(args: &[&str], message: Expect) {
    let out = faultline(args);
    assert_eq!(out.status.code(), Some(2), "{args:?}");
    assert!(out.stdout.is_empty(), "{args:?}");
    message.assert_eq(&String::from_utf8_lossy(&out.stderr));
}

fn succeeds(args: &[&str]) -> String {
    let out = faultline(args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A scenario file of one's own, in a folder that the test harness provides.
fn file(name: &str, text: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    refuses(
        &["review", "--patch", "v6"],
        expect![[r#"
        error: unknown revision `v6`; did you mean `v1`?
    "#]],
    );
    refuses(
        &["review", "--patch", "v4..base"],
        expect![[r#"
        error: in `v4..base`, v4 is later than base; write base..v4
    "#]],
    );
    refuses(
        &["replay", "f19-continue-twise"],
        expect![[r#"
        error: f19-continue-twise: no such file, and no scenario of that name; did you mean `f19-continue-twice`?
    "#]],
    );
    refuses(
        &["explain", "no-data-lots"],
        expect![[r#"
        error: unknown rule or remark `no-data-lots`; did you mean `no-data-lost`?
    "#]],
    );
    refuses(
        &["explain", "F99"],
        expect![[r#"
        error: unknown rule or remark `F99`; did you mean `F09`?
    "#]],
    );
    refuses(
        &["list", "rule"],
        expect![[r#"
        error: unknown list `rule`; did you mean `rules`?
    "#]],
    );
    refuses(
        &["review", "no/such/folder"],
        expect![[r#"
        error: no/such/folder: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn a_claim_that_does_not_fit_is_told_and_ends_with_status_1() {
    let path = file(
        "wrong-claim.scn",
        "question: Is the claim checked?\n\nmemfd_create(\"\", 0) = 3\nftruncate(3, 4096) = -1 EPERM\n\nclaims:\n  others holds\n",
    );
    let out = faultline(&["review", &path, "--patch", "merged"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("claimed to hold, but line 4 is not as promised"), "{text}");
}

#[test]
fn what_is_seen_instead_is_shown_and_counts_against_a_claim() {
    let text = "question: What can be seen?\n\nmemfd_create(\"\", 0) = 3\nftruncate(3, 4096) = 0\n| 3: size=4096 blocks=8 swapped=0\n\n\
                claims:\n  others holds\n";
    let path = file("wrong-sight.scn", text);
    let out = faultline(&["review", &path, "--patch", "merged"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("claimed to hold, but line 5 is not as promised"), "{text}");
    let out = faultline(&["replay", &path, "--patch", "merged"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    let line = "   5  | 3: size=4096 blocks=8 swapped=0\n      | merged   | 3: size=4096 blocks=0 swapped=0\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("merged   line 5: file 3: st_blocks is 0, not 8\n"), "{text}");
}

#[test]
fn an_unknown_rule_in_a_claim_is_an_error_with_its_place() {
    let path = file(
        "wrong-rule.scn",
        "question: Who checks rule names?\n\nmemfd_create(\"\", 0) = 3\n\nclaims:\n  base breaks no-data-lots\n",
    );
    let out = faultline(&["replay", &path]);
    assert_eq!(out.status.code(), Some(2));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.ends_with("wrong-rule.scn:6:15: error: unknown rule `no-data-lots`; did you mean `no-data-lost`?\n"), "{text}");
}

#[test]
fn v5_is_v4() {
    let v5 = succeeds(&["replay", "f01-continue-swapped", "--patch", "v5"]);
    assert_eq!(v5, succeeds(&["replay", "f01-continue-swapped", "--patch", "v4"]));
}

#[test]
fn replay_shows_results_side_by_side() {
    let text = succeeds(&["replay", "f19-continue-twice", "--patch", "base,v1"]);
    assert!(text.contains("| base "), "{text}");
    assert!(text.contains("base     breaks"), "{text}");
    assert!(text.contains("v1       every rule holds"), "{text}");
}

#[test]
fn json_is_json() {
    for args in [&["review", "--json", "--patch", "v4"][..], &["replay", "f02-minor-fault-swapped", "--json"][..]] {
        let value: serde_json::Value = serde_json::from_str(&succeeds(args)).unwrap();
        assert!(value.is_object() || value.is_array());
    }
}

#[test]
fn a_race_is_traced_in_two_columns() {
    let text = succeeds(&["replay", "copy-truncate", "--patch", "merged", "--trace"]);
    let left = text.lines().any(|l| l.trim_start().starts_with("shmem_add_to_page_cache("));
    let right = text.lines().any(|l| l.starts_with(&" ".repeat(64)) && l.contains("shmem_setattr"));
    assert!(left && right, "{text}");
}

#[test]
fn everything_is_listed() {
    let text = succeeds(&["list"]);
    for word in ["noalloc", "no-data-lost", "UFFDIO_CONTINUE", "f19-continue-twice.scn", "F31"] {
        assert!(text.contains(word), "{word}");
    }
}
