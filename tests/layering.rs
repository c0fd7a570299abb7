//! Holds the one-way module order of `src/` (docs/ARCHITECTURE.md): a module may
//! only use modules of a strictly lower level.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::{fs, path::Path};

const LEVELS: &[(&str, u8)] = &[
    ("model", 0),
    ("proto", 0),
    ("wire", 0),
    ("telemetry", 0),
    ("client", 1),
    ("manifest", 1),
    ("config", 1),
    ("mesh", 1),
    ("identity", 2),
    ("registry", 2),
    ("xds", 2),
    ("ads", 3),
    ("auth", 3),
    ("controllers", 3),
    ("server", 4),
    ("admin", 5),
    ("agent", 5),
    ("load", 5),
    ("app", 6),
    ("cli", 7),
];

fn level(module: &str) -> Option<u8> {
    LEVELS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, level)| *level)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A braced list behind `crate::` shows up as a module with an empty name, which
/// is wanted: one line per module keeps the edges greppable.
fn check(file: &Path, own: &str, bad: &mut Vec<String>) {
    let text = fs::read_to_string(file).expect("readable source");
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    for (number, code) in lines.enumerate() {
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| is_name(*c)).collect();
            let lower = matches!((level(&used), level(own)), (Some(u), Some(o)) if u < o);
            if used != own && !lower {
                let at = format!("{}:{}", file.display(), number + 1);
                bad.push(format!("{at}: `{own}` may not use `crate::{used}`"));
            }
        }
    }
}

fn walk(dir: &Path, root: &Path, bad: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("readable folder") {
        let path = entry.expect("folder entry").path();
        if path.is_dir() {
            walk(&path, root, bad);
            continue;
        }
        let below = path.strip_prefix(root).expect("under src");
        let top = below.iter().next().map(Path::new);
        let own = top
            .and_then(Path::file_stem)
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        let is_test = below.ends_with("tests.rs") || below.iter().any(|part| part == "tests");
        let skipped = matches!(own, "lib" | "main" | "testing") || is_test;
        if path.extension().is_some_and(|e| e == "rs") && !skipped {
            check(&path, own, bad);
        }
    }
}

#[test]
fn modules_only_use_lower_levels() {
    let mut bad = Vec::new();
    walk(Path::new("src"), Path::new("src"), &mut bad);
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
