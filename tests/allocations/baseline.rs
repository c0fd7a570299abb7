//! The table of what was counted before.

use std::{collections::BTreeMap, env, fmt::Write, fs, path::PathBuf};

/// Set to `write`, it makes a run write the baseline in place of holding it.
const SWITCH: &str = "ISTHMUS_ALLOCATIONS";
/// Growth that fails: more than this many percent.
const ALLOWED: u64 = 10;

/// Allocations of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Used {
    /// Whether it is more than what is allowed above `before`.
    pub(super) fn exceeds(self, before: Self) -> bool {
        let more = |now: u64, before: u64| now * 100 > before * (100 + ALLOWED);
        more(self.count, before.count) || more(self.bytes, before.bytes)
    }
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/allocations.baseline")
}

fn table(paths: &[(&str, Used)]) -> String {
    let mut text = format!(
        "# Allocations and bytes of the hot paths in the dev profile: tests/allocations.rs.\n\
         # Written by `{SWITCH}=write cargo test --test allocations`.\n\
         # allocations, bytes, path\n"
    );
    for (path, used) in paths {
        let _ = writeln!(text, "{:>7} {:>9}  {path}", used.count, used.bytes);
    }
    text
}

fn parse(text: &str) -> BTreeMap<String, Used> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entry = |line: &str| {
        let (count, rest) = line.trim_start().split_once(' ')?;
        let (bytes, path) = rest.trim_start().split_once(' ')?;
        let count = count.parse().ok()?;
        let bytes = bytes.parse().ok()?;
        Some((path.trim().to_owned(), Used { count, bytes }))
    };
    let known = lines.map(|line| entry(line).expect("a line is: allocations bytes path"));
    known.collect()
}

/// Holds the baseline, or writes it where that is asked for.
pub(super) fn check(paths: &[(&str, Used)]) {
    if env::var(SWITCH).is_ok_and(|value| value == "write") {
        fs::write(file(), table(paths)).expect("writes");
        return;
    }
    let before = parse(&fs::read_to_string(file()).expect("the baseline"));
    let mut complaints = String::new();
    for (path, now) in paths {
        let Some(before) = before.get(*path) else {
            let _ = writeln!(complaints, "{path}: the baseline lacks it");
            continue;
        };
        if now.exceeds(*before) {
            let _ = writeln!(
                complaints,
                "{path}: {} allocations and {} bytes, before {} and {}",
                now.count, now.bytes, before.count, before.bytes
            );
        }
    }
    let known = |path: &&String| !paths.iter().any(|(name, _)| name == path);
    for gone in before.keys().filter(known) {
        let _ = writeln!(complaints, "{gone}: stands in the baseline only");
    }
    assert!(
        complaints.is_empty(),
        "hot paths allocate more than {ALLOWED} % above the baseline:\n{complaints}\
         Where that is meant, say why in the commit, and write the baseline anew:\n\
         {SWITCH}=write cargo test --test allocations\n"
    );
}
