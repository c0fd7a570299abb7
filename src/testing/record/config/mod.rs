//! Clusters, listeners and routes compared with a recording, field by field.

mod messages;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::BTreeMap, fmt::Debug};

use serde_json::{Map, Value};

use super::{AnswersError, Recording};

/// Resources of one proxy as JSON, by type and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configuration {
    /// `cds`, `lds` or `rds`, and the name.
    pub resources: BTreeMap<(&'static str, String), Value>,
}

const TYPES: [&str; 3] = ["cds", "lds", "rds"];

impl Configuration {
    /// Reads a recording of istiod.
    pub fn from_json(text: &str) -> Result<Self, AnswersError> {
        let mut document: Map<String, Value> = serde_json::from_str(text)?;
        let mut resources = BTreeMap::new();
        for kind in TYPES {
            if let Some(Value::Object(of_kind)) = document.remove(kind) {
                let named = of_kind.into_iter();
                resources.extend(named.map(|(name, value)| ((kind, name), value)));
            }
        }
        Ok(Self { resources })
    }

    /// Takes out, or brings into one form, what differs on purpose. Each rule is
    /// a row of COMPATIBILITY.md.
    #[must_use]
    pub fn without_known_differences(mut self) -> Self {
        for value in self.resources.values_mut() {
            normalise(value);
        }
        self
    }

    /// What only one of the two has, a line for each path: `-` is istiod's.
    pub fn differences(expected: &Self, actual: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let names = expected.resources.keys().chain(actual.resources.keys());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let both = [expected, actual].map(|of| of.resources.get(name));
            let path = format!("{} {}", name.0, name.1);
            differ(&path, both[0], both[1], &mut lines);
        }
        lines
    }
}

impl From<&Recording> for Configuration {
    fn from(recording: &Recording) -> Self {
        let mut resources = BTreeMap::new();
        put(&mut resources, "cds", &recording.clusters);
        put(&mut resources, "lds", &recording.listeners);
        put(&mut resources, "rds", &recording.routes);
        Self { resources }
    }
}

fn put<M: Debug>(
    resources: &mut BTreeMap<(&'static str, String), Value>,
    kind: &'static str,
    messages: &BTreeMap<String, M>,
) {
    for (name, message) in messages {
        let value = tree::json(&format!("{message:?}"));
        resources.insert((kind, name.clone()), value);
    }
}

fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Tracing and request ids are telemetry.
            for field in ["tracing", "request_id_extension"] {
                fields.remove(field);
            }
            typed_names(fields);
            fields.values_mut().for_each(normalise);
            // Envoy takes the chain that matches best, wherever it stands.
            if let Some(Value::Array(chains)) = fields.get_mut("filter_chains") {
                chains.sort_by_cached_key(Value::to_string);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// `match_typed_subject_alt_names` as the deprecated field that istiod sets.
fn typed_names(fields: &mut Map<String, Value>) {
    let Some(Value::Array(typed)) = fields.remove("match_typed_subject_alt_names") else {
        return;
    };
    let plain = typed.into_iter().filter_map(|mut name| {
        let name = name.as_object_mut()?.remove("matcher")?;
        Some(name)
    });
    fields.insert("match_subject_alt_names".to_owned(), plain.collect());
}

fn differ(path: &str, expected: Option<&Value>, actual: Option<&Value>, lines: &mut Vec<String>) {
    match (expected, actual) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differ(&format!("{path}.{key}"), a.get(key), b.get(key), lines);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for at in 0..a.len().max(b.len()) {
                differ(&format!("{path}[{at}]"), a.get(at), b.get(at), lines);
            }
        }
        (Some(a), Some(b)) if same(a, b) => {}
        (a, b) => {
            let line = |sign: &str, value: &Value| format!("{sign} {path} = {value}");
            lines.extend(a.map(|value| line("-", value)));
            lines.extend(b.map(|value| line("+", value)));
        }
    }
}

/// Numbers are equal where their values are; protobuf JSON puts those of 64
/// bits in quotes.
fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| {
        value
            .as_str()
            .map_or(value.as_f64(), |text| text.parse().ok())
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() < f64::EPSILON,
        _ => a == b,
    }
}
