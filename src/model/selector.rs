//! Kubernetes label selectors (`matchLabels`, `matchExpressions`).

use std::sync::Arc;

use super::Labels;

/// One `matchExpressions` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `In`.
    In(Arc<str>, Vec<Arc<str>>),
    /// `NotIn`: also true where the key is absent.
    NotIn(Arc<str>, Vec<Arc<str>>),
    /// `Exists`.
    Exists(Arc<str>),
    /// `DoesNotExist`.
    DoesNotExist(Arc<str>),
}

/// A selector; all parts must hold, an empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether `labels` are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        labels.contains_all(&self.labels) && self.requirements.iter().all(|r| r.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let listed = |key: &str, values: &[Arc<str>]| {
            labels.get(key).map(|v| values.iter().any(|w| **w == *v))
        };
        match self {
            Self::In(key, values) => listed(key, values) == Some(true),
            Self::NotIn(key, values) => listed(key, values) != Some(true),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
        }
    }
}
