// SPDX-License-Identifier: GPL-2.0-only
//! Any bytes as a program, on the merged form, under all rules.
#![no_main]

use faultline::patch::Revision;
use faultline::random;
use faultline::scenario::generate::Program;
use faultline::scenario::print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let program = Program::from_bytes(bytes);
    let run = random::run(&program, Revision::Merged);
    if let Some(broken) = run.unknown().next() {
        let small = random::run(&random::shrink_to(&program, Revision::Merged, broken), Revision::Merged);
        let text = print::scenario(&random::to_scenario(&small, broken.rule));
        panic!("{} is broken: {}\n\n{text}", broken.rule, broken.detail);
    }
});
