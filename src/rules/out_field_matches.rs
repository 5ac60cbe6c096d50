// SPDX-License-Identifier: GPL-2.0-only
//! `copy`, `zeropage` and `mapped`.

use super::ioctl::fill_of;
use super::{Broken, Rule, When};
use crate::errno::EAGAIN;
use crate::kernel::PAGE_SIZE;
use crate::syscall::{Op, Out, Outcome};

pub(super) static RULE: Rule = Rule {
    name: "out-field-matches",
    promise: "All done: 0 and len. A part: EAGAIN and its bytes. Nothing: the errno, and its negative in the out field.",
    symptom: "the monitor resumes at the wrong page, or fills a page twice",
    when: When::Answer,
    finds: &[],
};

pub(super) fn check(op: &Op, outcome: &Outcome, out: &mut Vec<Broken>) {
    let len = match (fill_of(op), op) {
        (Some((_, _, len, _)), _) => len,
        (None, &Op::UffdMove { len, .. }) => len,
        _ => return,
    };
    let fits = match (&outcome.ret, &outcome.out) {
        (Ok(_), Out::Done(n)) => *n == len as i64,
        (Ok(_), _) => false,
        (Err(e), Out::Done(n)) if *n > 0 => *e == EAGAIN && *n < len as i64 && *n % PAGE_SIZE as i64 == 0,
        (Err(e), Out::Done(n)) => *n == -e.num(),
        // Turned down before anything was tried, or the field could not be written.
        (Err(_), _) => true,
    };
    if !fits {
        let fill = fill_of(op).map_or("MOVE".to_owned(), |(fill, ..)| fill.to_string());
        out.push(Broken::new(&RULE, format!("{fill} of {len:#x} bytes returned {:?} with {:?}", outcome.ret, outcome.out)));
    }
}
