// SPDX-License-Identifier: GPL-2.0-only
//! A lower layer never names a higher one.

use std::fs;
use std::path::Path;

/// From the bottom: modules of a row may name those of their own row and of the rows above it in this list.
const LAYERS: [&[&str]; 7] = [
    &[
        "arena", "errno", "event", "flags", "kernel", "labels", "point", "syscall", "delta", "patch", "mm", "shmem", "uffd",
        "vfs", "entry",
    ],
    &["machine"],
    &["spec", "rules", "observe"],
    &["scenario"],
    &["corpus", "replay", "random", "recorded"],
    &["live"],
    &["report", "ask"],
];

/// The state names the revision it runs and the locks it holds; nothing else of the mirrored code may appear below it.
const MIRRORED: [&str; 5] = ["mm", "shmem", "uffd", "patch", "vfs"];
const PRIMITIVE: [&str; 5] = ["arena", "errno", "event", "flags", "labels"];

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn check(path: &Path, module: &str, wrong: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check(&entry.unwrap().path(), module, wrong);
        }
        return;
    }
    let text = fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap();
        for part in code.split("crate::").skip(1) {
            let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let (Some(mine), Some(theirs)) = (rank(module), rank(&named)) else { continue };
            let upward = theirs > mine;
            let primitive = PRIMITIVE.contains(&module) && MIRRORED.contains(&named.as_str()) && !part.starts_with("mm::locking");
            let scheduling = MIRRORED.contains(&module) && named == "machine";
            if upward || primitive || scheduling {
                wrong.push(format!("{}:{}: {module} names {named}", path.display(), number + 1));
            }
        }
    }
}

#[test]
fn lower_layers_do_not_name_higher_ones() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        assert!(rank(&module).is_some(), "src/{module} has no place among the layers");
        seen += 1;
        check(&path, &module, &mut wrong);
    }
    assert!(seen > 10);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
