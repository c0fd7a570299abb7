//! Files of the downward API: lines of `key="value"`.

use std::{collections::BTreeMap, io, path::Path};

use super::AgentConfigError;

/// The pairs of a file; none where the file is missing.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, AgentConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(AgentConfigError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The value is a quoted Go string; what JSON reads of it is all that
/// Kubernetes writes. A line that is neither is passed over.
fn parse(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.to_owned(), serde_json::from_str(value).ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_the_downward_api_are_read() {
        let text = "app=\"web\"\nnote=\"a \\\"b\\\"\\nc=d\"\nbroken\nhalf=\"x\n";
        let pairs = parse(text);
        assert_eq!(pairs["app"], "web");
        assert_eq!(pairs["note"], "a \"b\"\nc=d");
        assert_eq!(pairs.len(), 2);
    }
}
