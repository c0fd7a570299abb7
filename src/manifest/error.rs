//! What is wrong with a manifest.

use std::fmt;

use crate::model::ObjectKey;

/// Why an object, or a part of it, is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is not JSON, or not an object.
    #[error("a {kind} cannot be read: {problem}")]
    Syntax {
        /// Kind, as its API names it.
        kind: &'static str,
        /// What the JSON reader says.
        problem: String,
    },
    /// An object without a name.
    #[error("a {kind} has no metadata.name; give it one")]
    Nameless {
        /// Kind, as its API names it.
        kind: &'static str,
    },
    /// A field has a value that cannot be used.
    #[error("{object}: {problem}")]
    Field {
        /// The object.
        object: ObjectKey,
        /// The field, its value, and what to do.
        problem: Problem,
    },
}

/// A field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path in the object, `spec.ports[0].port`.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl Problem {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A port that is no number from 1 to 65535.
    pub(super) fn port(field: impl Into<String>, value: Option<i64>) -> Self {
        let reason = match value {
            Some(value) => format!("{value} is not a port; use 1 to 65535"),
            None => "is missing; use 1 to 65535".to_owned(),
        };
        Self::new(field, reason)
    }

    /// A word that its enumeration does not have.
    pub(super) fn word(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        Self::new(
            field,
            format!("{value:?} is unknown; use one of {}", known.join(", ")),
        )
    }

    /// The same problem, of a part that stands at `parent`.
    pub(super) fn below(mut self, parent: fmt::Arguments<'_>) -> Self {
        self.field = match &*self.field {
            "" => parent.to_string(),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.field, self.reason)
    }
}
