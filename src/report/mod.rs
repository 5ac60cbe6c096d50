// SPDX-License-Identifier: GPL-2.0-only
//! What a person or a program reads: the matrix, results side by side, traces, JSON, reference pages. Nothing here decides.

pub mod findings;
pub mod json;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod live;
pub mod matrix;
pub mod reference;
pub mod side;
pub mod trace;

use crate::replay::Answer;
use crate::scenario::print;
use crate::syscall::{Op, Outcome};

/// The text behind an operation: ` = 0 {mapped=4096}`, ` <unfinished ...>`.
pub fn answer(op: &Op, answer: &Answer) -> String {
    match answer {
        // What these hand out is long and always the same.
        Answer::Returned(Outcome { ret: Ok(0), .. }) if matches!(op, Op::UffdApi { .. } | Op::UffdRegister { .. }) => {
            "= 0".to_string()
        }
        Answer::Returned(outcome) => format!("= {}", print::outcome(op, outcome)),
        Answer::Blocked => "<unfinished ...>".to_string(),
        Answer::Killed => "+++ killed +++".to_string(),
        Answer::NotStarted(why) => format!("? {why}"),
        Answer::NotInjected(sites) => format!("? not called: {sites}"),
        Answer::Sees { text, .. } => text.clone(),
    }
}

/// Fold a text to lines of at most `width` columns, each behind `indent`.
pub fn fold(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if column > 0 && column + 1 + long > width {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(indent);
            column = indent.chars().count() + long;
        } else {
            out.push(' ');
            column += 1 + long;
        }
        out.push_str(word);
    }
    out.push('\n');
    out
}
