//! YAML as JSON: what kubectl does before it sends a manifest.

use serde_json::Value;

/// Why a text is not YAML, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct YamlError {
    /// Line of the text, from 1; 0 where it is unknown.
    pub line: usize,
    /// What the YAML reader says.
    pub problem: String,
}

/// One document of a YAML text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'t> {
    /// Line of the text that it begins at, from 1.
    pub line: usize,
    /// Its text.
    pub text: &'t str,
}

/// The documents of a YAML text that are not blank. They are told apart before
/// they are read, so that a broken one costs itself only.
///
/// ```
/// use isthmus::manifest::yaml_documents;
/// let documents = yaml_documents("# empty\n---\na: 1\n--- # next\n{b: \n");
/// let starts: Vec<_> = documents.map(|document| document.line).collect();
/// assert_eq!(starts, [2, 4]);
/// ```
pub fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    let mut line = 1;
    let pieces = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let lines = rest.split_inclusive('\n');
        let length: usize = lines
            .enumerate()
            .take_while(|(i, line)| *i == 0 || !is_marker(line))
            .map(|(_, line)| line.len())
            .sum();
        let (text, tail) = rest.split_at_checked(length)?;
        let document = Document { line, text };
        line += text.split_inclusive('\n').count();
        rest = tail;
        Some(document)
    });
    pieces.filter(|document| !is_blank(document.text))
}

/// Reads one YAML document; a blank one is `null`.
pub fn to_json(text: &str) -> Result<Value, YamlError> {
    if is_blank(text) {
        return Ok(Value::Null);
    }
    yaml_serde::from_str(text).map_err(|error| YamlError {
        line: error.location().map_or(0, |at| at.line()),
        problem: error.to_string(),
    })
}

/// Whether a line begins a document.
fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is nothing but comments.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        line.is_empty() || line.starts_with('#')
    })
}
