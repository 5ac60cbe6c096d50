// SPDX-License-Identifier: GPL-2.0-only
//! A recording as scenarios, in one text that can be kept: short when compressed, readable when not.
//!
//! ```text
//! kernel: 6.18.44
//! not covered: B9 written pages | PAGEMAP_SCAN | not modelled
//!
//! question: B1 ioctl=copy kind=shared prot=rw reg=none state=hole
//! machine: swap=64 frames=512
//! threads: t0 t1 t2 t3 mon
//!
//! t0: memfd_create("", MFD_ALLOW_SEALING) = 3
//! ...
//! ```
//! First the kernel and what a scenario cannot say, then the scenarios one after the other, each from its `question:` to the next.

use super::{Case, NotCovered, Recording, convert, revision_of};
use crate::patch::Revision;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::io::{self, Read, Write};

const LICENCE: &str = "# SPDX-License-Identifier: GPL-2.0-only\n";
const KERNEL: &str = "kernel: ";
const NOT_COVERED: &str = "not covered: ";
const QUESTION: &str = "question: ";

/// A recorded sequence as a scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archived {
    /// Its name.
    pub id: String,
    /// The text, or what of it a scenario cannot say.
    pub scenario: Result<String, NotCovered>,
}

/// One kernel's answers to many sequences, as scenarios.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// The kernel's release, as uname(2) gave it; empty if the recording does not say.
    pub kernel: String,
    /// The sequences.
    pub cases: Vec<Archived>,
}

impl Archive {
    /// What a recording says, as scenarios.
    pub fn of(recording: &Recording) -> Archive {
        let archived = |case: &Case| Archived { id: case.id.clone(), scenario: convert(case) };
        Archive { kernel: recording.kernel.clone(), cases: recording.cases.iter().map(archived).collect() }
    }

    /// Read a file's content: a recording (JSON lines) or an archive, compressed by gzip or not. An error says in which line.
    pub fn read(content: &[u8]) -> Result<Archive, String> {
        let mut unpacked = Vec::new();
        let content = if content.starts_with(&[0x1f, 0x8b]) {
            GzDecoder::new(content).read_to_end(&mut unpacked).map_err(|e| format!("cannot be decompressed: {e}"))?;
            &unpacked
        } else {
            content
        };
        let text =
            std::str::from_utf8(content).map_err(|_| "neither a text nor compressed by gzip; unpack it first".to_owned())?;
        if text.trim_start().starts_with('{') { Ok(Archive::of(&Recording::parse(text)?)) } else { Archive::parse(text) }
    }

    fn parse(text: &str) -> Result<Archive, String> {
        let mut archive = Archive { kernel: String::new(), cases: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let error = |what: &str| Err(format!("line {}: {what}", number + 1));
            if let Some(id) = line.strip_prefix(QUESTION) {
                archive.cases.push(Archived { id: id.to_owned(), scenario: Ok(LICENCE.to_owned() + line + "\n") });
                continue;
            }
            match archive.cases.last_mut() {
                Some(Archived { scenario: Ok(scenario), .. }) => {
                    scenario.push_str(line);
                    scenario.push('\n');
                }
                _ if line.is_empty() || line.starts_with('#') => {}
                _ => {
                    if let Some(kernel) = line.strip_prefix(KERNEL) {
                        kernel.clone_into(&mut archive.kernel);
                    } else if let Some(rest) = line.strip_prefix(NOT_COVERED) {
                        let Some((id, (what, why))) = rest.split_once(" | ").and_then(|(id, r)| Some((id, r.split_once(" | ")?)))
                        else {
                            return error(
                                "a sequence that is not covered has a name, an operation and a reason: `ID | WHAT | WHY`",
                            );
                        };
                        let scenario = Err((what.to_owned(), why.to_owned()));
                        archive.cases.push(Archived { id: id.to_owned(), scenario });
                    } else {
                        return error("neither a recording (JSON lines) nor an archive of one");
                    }
                }
            }
        }
        for case in &mut archive.cases {
            if let Ok(text) = &mut case.scenario {
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
        }
        Ok(archive)
    }

    /// As it is kept.
    pub fn print(&self) -> String {
        let mut out = format!("{LICENCE}{KERNEL}{}\n", self.kernel);
        for case in &self.cases {
            if let Err((what, why)) = &case.scenario {
                let _ = writeln!(out, "{NOT_COVERED}{} | {what} | {why}", case.id);
            }
        }
        for scenario in self.cases.iter().filter_map(|c| c.scenario.as_ref().ok()) {
            let _ = write!(out, "\n{}", scenario.strip_prefix(LICENCE).unwrap_or(scenario));
        }
        out
    }

    /// [`print`](Archive::print), compressed by gzip.
    pub fn pack(&self) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(self.print().as_bytes())?;
        encoder.finish()
    }

    /// The revision that models this kernel: the newest release that is not newer.
    pub fn revision(&self) -> Option<Revision> {
        revision_of(&self.kernel)
    }
}
