//! Holds COMPATIBILITY.md to the tests: each one it names exists, and each
//! difference names one.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::{collections::BTreeSet, fs, path::Path};

/// Names of all functions in Rust files below a folder.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("readable folder") {
        let path = entry.expect("folder entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("readable source");
            let names = text.split("fn ").skip(1).map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect()
            });
            found.extend(names);
        }
    }
}

struct Row {
    line: usize,
    state: String,
    tests: Vec<String>,
}

/// Rows of the tables: behaviour, what isthmus does, state, tests in backticks.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string("COMPATIBILITY.md").expect("COMPATIBILITY.md");
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("| "));
    let cells = lines.map(|(at, line)| {
        let line = line.replace("\\|", "/");
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        (at + 1, cells)
    });
    cells
        .filter(|(_, cells)| cells.len() == 6 && cells.get(3).is_some_and(|s| s != "state"))
        .map(|(line, cells)| Row {
            line,
            state: cells.get(3).cloned().unwrap_or_default(),
            tests: cells.get(4).map_or(Vec::new(), |cell| {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect()
            }),
        })
        .collect()
}

#[test]
fn every_test_that_the_compatibility_table_names_exists() {
    let mut known = BTreeSet::new();
    functions(Path::new("src"), &mut known);
    functions(Path::new("tests"), &mut known);
    let rows = rows();
    assert!(rows.len() > 50, "only {} rows were read", rows.len());
    let missing = rows.iter().flat_map(|row| {
        let unknown = row.tests.iter().filter(|test| {
            let name = test.rsplit("::").next().unwrap_or_default();
            !known.contains(name)
        });
        unknown.map(move |test| format!("line {}: {test}", row.line))
    });
    let missing: Vec<_> = missing.collect();
    assert!(
        missing.is_empty(),
        "COMPATIBILITY.md names tests that are not there:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_row_but_those_not_yet_there_names_a_test() {
    let untested = rows()
        .into_iter()
        .filter(|row| !row.state.starts_with("not yet") && row.tests.is_empty());
    let untested: Vec<_> = untested.map(|row| format!("line {}", row.line)).collect();
    assert!(
        untested.is_empty(),
        "rows of COMPATIBILITY.md without a test: {}",
        untested.join(", ")
    );
}
