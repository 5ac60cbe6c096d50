// SPDX-License-Identifier: GPL-2.0-only
//! Every mirrored function says where it comes from and how true it is. The table in FIDELITY.md is made from these lines.

use expect_test::expect_file;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const ROOTS: [&str; 5] = ["src/mm", "src/shmem", "src/uffd", "src/patch", "src/entry.rs"];
const MUST: [&str; 4] = ["Kernel:", "Fidelity:", "Locks:", "Errors:"];
const GRADES: [&str; 4] = ["MIRROR", "TRIMMED(", "STUB(", "MODEL"];

struct Mirrored {
    file: String,
    function: String,
    lines: Vec<String>,
    traced: bool,
}

fn sources(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|e| sources(e, out));
    } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
        out.push(path.to_path_buf());
    }
}

/// The functions of a file with the doc lines in front of them.
fn functions(path: &Path) -> Vec<Mirrored> {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    let mut docs: Vec<String> = Vec::new();
    let mut found: Vec<Mirrored> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim().to_string());
        } else if let Some(name) = function_name(line) {
            found.push(Mirrored {
                file: path.to_string_lossy().into_owned(),
                function: name,
                lines: std::mem::take(&mut docs),
                traced: false,
            });
        } else if line.contains("k.enter(\"") {
            if let Some(last) = found.last_mut() {
                last.traced = true;
            }
        } else if !line.starts_with("#[") {
            docs.clear();
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line;
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    Some(name.split(['(', '<']).next()?.to_string())
}

fn field<'m>(m: &'m Mirrored, key: &str) -> Option<&'m str> {
    m.lines.iter().find_map(|l| l.strip_prefix(key)).map(str::trim)
}

#[test]
fn every_mirrored_function_says_where_it_comes_from() {
    let mut files = Vec::new();
    ROOTS.iter().for_each(|r| sources(Path::new(r), &mut files));
    let mut wrong = String::new();
    let mut table = String::from(
        "<!-- SPDX-License-Identifier: GPL-2.0-only -->\n<!-- Made by `UPDATE_EXPECT=1 cargo test --test fidelity` from the comments in the source. -->\n\
         # How true each function is\n\n\
         MIRROR: the same branches in the same order. TRIMMED: a mirror without what is named. MODEL: the same answer by other means.\n\n\
         | function | kernel | fidelity |\n|---|---|---|\n",
    );
    let mut rows = 0;
    for m in files.iter().flat_map(|f| functions(f)) {
        let cites = MUST.iter().filter(|k| field(&m, k).is_some()).count();
        if cites == 0 && !m.traced {
            continue;
        }
        for key in MUST {
            if field(&m, key).is_none_or(str::is_empty) {
                let _ = writeln!(wrong, "{}: {} has no `{key}` line", m.file, m.function);
            }
        }
        let fidelity = field(&m, "Fidelity:").unwrap_or("");
        if !GRADES.iter().any(|g| fidelity.starts_with(g)) {
            let _ = writeln!(wrong, "{}: {}: `{fidelity}` is no grade", m.file, m.function);
        }
        // The revisions are many and alike: one row for each function and grade is enough.
        let kernel = field(&m, "Kernel:").unwrap_or("");
        let row = format!("| `{}` | {} | {} |\n", m.function, kernel, fidelity.replace('|', "\\|"));
        if !table.contains(&row) {
            table.push_str(&row);
            rows += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(rows > 100, "only {rows} mirrored functions found: does the test still look in the right place?");
    expect_file!["../FIDELITY.md"].assert_eq(&table);
}
