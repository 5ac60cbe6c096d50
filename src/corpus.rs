// SPDX-License-Identifier: GPL-2.0-only
//! Scenario files: the ones that come with faultline (they are inside the program), and the user's.

use crate::rules;
use crate::scenario::{Scenario, did_you_mean, parse};
use include_dir::{Dir, include_dir};
use std::path::{Path, PathBuf};

static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/tests/scenarios");

/// The order of the folders in reports.
const AREAS: [&str; 7] = ["review", "missed", "races", "faults", "mm", "basics", "releases"];

/// The scenarios that come with faultline.
pub fn builtin() -> Result<Vec<Scenario>, String> {
    fn walk<'d>(dir: &'d Dir<'d>, out: &mut Vec<(String, &'d str)>) {
        for file in dir.files() {
            if let (Some("scn"), Some(text)) = (file.path().extension().and_then(|e| e.to_str()), file.contents_utf8()) {
                out.push((format!("tests/scenarios/{}", file.path().display()), text));
            }
        }
        for sub in dir.dirs() {
            walk(sub, out);
        }
    }
    let mut files = Vec::new();
    walk(&BUILTIN, &mut files);
    files.sort_by_key(|(path, _)| (rank(path), path.clone()));
    files.into_iter().map(|(path, text)| parse::scenario(&path, text).map_err(|e| e.to_string())).collect()
}

fn rank(path: &str) -> usize {
    AREAS.iter().position(|area| path.contains(&format!("/{area}/"))).unwrap_or(AREAS.len())
}

/// A file, or all `.scn` files below a folder.
pub fn read(path: &Path) -> Result<Vec<Scenario>, String> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort_by_key(|p| (rank(&p.to_string_lossy()), p.clone()));
    files.into_iter().map(|file| parse::file(&file).map_err(|e| e.to_string())).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("error: {}: {e}", path.display());
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.path();
        if entry.is_dir() || entry.extension().is_some_and(|e| e == "scn") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

/// The rule names that a scenario's claims use must exist.
pub fn check_names(scenario: &Scenario) -> Result<(), String> {
    let known: Vec<&str> = rules::all().iter().map(|r| r.name).collect();
    for word in scenario.rule_words() {
        if !known.contains(&word.text.as_str()) {
            let hint =
                did_you_mean(&word.text, known.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("{}:{}:{}: error: unknown rule `{}`{hint}", scenario.path, word.line, word.column, word.text));
        }
    }
    Ok(())
}
