// SPDX-License-Identifier: GPL-2.0-only
//! Random programs under all rules: run one, make a failing one small, keep it as a scenario.
//!
//! Property tests and the fuzzer share this, and [`KNOWN`]: what is broken in the merged form and was found to be true of the
//! kernel. Nothing gets in there without a scenario of its own that shows it.

use crate::corpus;
use crate::patch::Revision;
use crate::replay::{BrokenAt, Replay, replay};
use crate::scenario::generate::{Program, Prologue};
use crate::scenario::{Claim, Scenario, Verdict, Word, print};
use crate::syscall::Op;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A program that was run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program as a scenario.
    pub scenario: Scenario,
    /// What came of it.
    pub replay: Replay,
}

impl Run {
    /// What is broken and not [`known`].
    pub fn unknown(&self) -> impl Iterator<Item = &BrokenAt> {
        let sound = |b: &&BrokenAt| known(b).is_none_or(|k| !k.corrupts);
        self.replay.details.iter().take_while(sound).filter(|b| known(b).is_none())
    }
}

/// Run a program on a revision.
pub fn run(program: &Program, revision: Revision) -> Run {
    let scenario = program.to_scenario();
    let replay = replay(&scenario, revision, &[], false);
    Run { scenario, replay }
}

/// Something that is broken in the merged form, and that the kernel had.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The rule.
    pub rule: &'static str,
    /// The scenario that shows it: the file's name without `.scn`.
    pub scenario: &'static str,
    /// Why it is not a mistake of the model or of the rule.
    pub why: &'static str,
    /// From here on the kernel's state is wrong, and what else is found broken in the same run says nothing.
    pub corrupts: bool,
    /// Is it this?
    fits: fn(&str) -> bool,
}

/// All of it.
pub static KNOWN: &[Known] = &[
    Known {
        rule: "continue-finds-the-page",
        scenario: "fallocated-page",
        why: "SGP_READ gives no page where the cached one is not Uptodate. v5.19 took SGP_NOALLOC for it.",
        corrupts: false,
        fits: |detail| detail.ends_with("the file holds that page, fallocated and not written to"),
    },
    Known {
        rule: "errno-as-documented",
        scenario: "fallocated-page-covered",
        why: "The same, where a private page is mapped already: EFAULT before the entry is looked at.",
        corrupts: false,
        fits: |detail| {
            detail.starts_with("UFFDIO_CONTINUE answered EFAULT")
                && detail.ends_with("fallocated and not written to, mapped already")
        },
    },
    Known {
        rule: "no-endless-loop",
        scenario: "signal-before-kernel-fault",
        why: "Since v5.7 (c270a7eedcf2) a kernel-mode userfault sleeps interruptibly, but goes back to sleep after a signal.",
        corrupts: false,
        fits: |detail| detail.starts_with("a kernel-mode fault with a signal pending"),
    },
    Known {
        rule: "no-data-lost",
        scenario: "punch-in-first-page",
        why: "shmem_fallocate() compares the range to unmap as u64: when the hole ends inside page 0, its end is -1, and \
              everything from page 1 on is unmapped. Only the zero page over a private mapping does not come back.",
        corrupts: false,
        fits: |detail| detail.ends_with(": the zero page that covered the file is gone"),
    },
    Known {
        rule: "no-page-leaked",
        scenario: "swap-cache-left-behind",
        why: "free_swap_and_cache() only tries the page lock: while a reader swaps the page in, it stays in the swap cache, \
              to be found by reclaim or swapoff.",
        corrupts: false,
        fits: |detail| detail.ends_with(", only the swap cache holds it"),
    },
    Known {
        rule: "counters-return-to-zero",
        scenario: "swap-cache-left-behind",
        why: "The slot of that page.",
        corrupts: false,
        fits: |detail| detail.ends_with("count 0x0, only the swap cache holds it"),
    },
    Known {
        rule: "write-protection-is-kept",
        scenario: "swapoff-loses-wp",
        why: "unuse_pte() makes the entry anew, without the bits of the swap entry (until v5.19, 14a762dd1977).",
        corrupts: false,
        fits: |detail| detail.ends_with(", brought back by swapoff"),
    },
    Known {
        rule: "registration-keeps-mappings",
        scenario: "unregister-moves-mapping",
        why: "userfaultfd_register() and unregister() pass vm_pgoff of the whole VMA to vma_merge() also when they begin \
              inside it (until v6.4, 5543d3c43c41): a neighbour that fits the wrong offset is merged with.",
        corrupts: true,
        fits: |_| true,
    },
];

/// Does [`KNOWN`] hold this?
pub fn known(broken: &BrokenAt) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.rule == broken.rule && (k.fits)(&broken.detail))
}

impl Known {
    /// The scenario that comes with faultline.
    pub fn scenario(&self) -> Option<Scenario> {
        corpus::builtin().ok()?.into_iter().find(|s| s.name == self.scenario)
    }
}

/// A smaller program of which `fails` still says yes: without a schedule, with fewer operations, with a plainer beginning. Of
/// what is left nothing can be taken away.
pub fn shrink(program: &Program, mut fails: impl FnMut(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut attempt = |best: &mut Program, smaller: Program| -> bool {
        let smaller = without_orphans(smaller);
        let better = smaller != *best && fails(&smaller);
        if better {
            *best = smaller;
        }
        better
    };
    loop {
        let mut progress = false;
        let unscheduled = Program { schedule: Vec::new(), ..best.clone() };
        progress |= attempt(&mut best, unscheduled);
        // Halves first, then smaller and smaller parts.
        let mut part = best.ops.len();
        while part > 0 {
            let mut at = 0;
            while at < best.ops.len() {
                let mut smaller = best.clone();
                smaller.ops.drain(at..(at + part).min(best.ops.len()));
                if attempt(&mut best, smaller) {
                    progress = true;
                } else {
                    at += part;
                }
            }
            part /= 2;
        }
        for at in 0..best.ops.len() {
            let mut smaller = best.clone();
            smaller.ops[at].0 = 0;
            progress |= attempt(&mut best, smaller);
        }
        for at in (0..best.schedule.len()).rev() {
            let mut smaller = best.clone();
            smaller.schedule.remove(at);
            if smaller.schedule.is_empty() || !attempt(&mut best, smaller) {
                let mut smaller = best.clone();
                smaller.schedule[at] = 0;
                progress |= attempt(&mut best, smaller);
            } else {
                progress = true;
            }
        }
        for change in PLAINER {
            let mut smaller = best.clone();
            change(&mut smaller.prologue, &Prologue::default());
            progress |= attempt(&mut best, smaller);
        }
        for bit in 0..8 {
            let mut smaller = best.clone();
            smaller.prologue.filled &= !(1 << bit);
            progress |= attempt(&mut best, smaller);
        }
        if !progress {
            return best;
        }
    }
}

/// What only the child of a fork does goes with the fork.
fn without_orphans(mut program: Program) -> Program {
    let mut threads = 2;
    program.ops.retain(|(thread, op)| {
        let kept = *thread < threads;
        threads += (kept && *op == Op::Fork) as u8;
        kept
    });
    program
}

/// Ways to make a prologue more like the default one.
const PLAINER: [fn(&mut Prologue, &Prologue); 8] = [
    |p, plain| *p = *plain,
    |p, plain| p.tmpfs = plain.tmpfs,
    |p, plain| p.file_pages = plain.file_pages,
    |p, plain| p.private = plain.private,
    |p, plain| p.register = plain.register,
    |p, plain| p.register_anon = plain.register_anon,
    |p, plain| p.features = plain.features,
    |p, plain| p.swap = plain.swap,
];

/// [`shrink`] a program to what still breaks the rule of `broken` on this revision in an unknown way. What is still to be
/// explained comes first: a failure that is known already is not what it is shrunk to.
pub fn shrink_to(program: &Program, revision: Revision, broken: &BrokenAt) -> Program {
    let still = |p: &Program| run(p, revision).unknown().any(|b| b.rule == broken.rule);
    shrink(program, still)
}

/// The run as a scenario with the question, the rule, and the claim that its revision breaks what it was seen to break.
pub fn to_scenario(run: &Run, rule: &str) -> Scenario {
    let mut scenario = run.scenario.clone();
    let detail = run.replay.details.iter().find(|b| b.rule == rule).map_or("", |b| b.detail.as_str());
    scenario.question = format!("Why does this random program break {rule} on {}?", run.replay.revision.name());
    scenario.why = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let word = |rule: &&str| Word { text: (*rule).to_owned(), line: 0, column: 0 };
    let rules = run.replay.rules();
    scenario.claims = vec![Claim {
        line: 0,
        revisions: vec![run.replay.revision],
        others: false,
        verdict: if rules.is_empty() { Verdict::Holds } else { Verdict::Breaks(rules.iter().map(word).collect()) },
    }];
    scenario
}

/// Write [`to_scenario`] to `dir/RULE-HASH.scn`.
pub fn save(run: &Run, rule: &str, dir: &Path) -> io::Result<PathBuf> {
    let text = print::scenario(&to_scenario(run, rule));
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{rule}-{:08x}.scn", hasher.finish() as u32));
    fs::write(&path, text)?;
    Ok(path)
}
