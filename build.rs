// SPDX-License-Identifier: GPL-2.0-only
//! The scenarios are inside the program: a new one makes a new program.

fn main() {
    println!("cargo::rerun-if-changed=tests/scenarios");
}
