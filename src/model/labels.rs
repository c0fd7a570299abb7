//! Label sets: sorted, shared, cheap to compare.

use std::{fmt, sync::Arc};

/// An immutable label set, sorted by key. Cloning shares it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of `key`.
    ///
    /// ```
    /// use isthmus::model::Labels;
    /// let labels: Labels = [("app", "web"), ("version", "v1")].into_iter().collect();
    /// assert_eq!(labels.get("app"), Some("web"));
    /// assert_eq!(labels.get("tier"), None);
    /// ```
    pub fn get(&self, key: &str) -> Option<&str> {
        // Not a binary search: of few labels most differ in length already,
        // which is seen without following a pointer.
        let found = self.0.iter().find(|(k, _)| **k == *key);
        found.map(|(_, value)| value.as_ref())
    }

    /// Whether every pair of `selector` stands in this set. An empty selector
    /// is contained in every set; callers decide what "selects nothing" means.
    pub fn contains_all(&self, selector: &Labels) -> bool {
        selector.0.iter().all(|(k, v)| self.get(k) == Some(v))
    }

    /// The pairs, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many holders share this set: 1 is the caller alone.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// A set with the pairs of both; those of `over` win.
    #[must_use]
    pub fn overlaid(&self, over: &Labels) -> Labels {
        self.iter()
            .filter(|(k, _)| over.get(k).is_none())
            .chain(over.iter())
            .map(|(k, v)| (Arc::clone(k), Arc::clone(v)))
            .collect()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    /// Later pairs win over earlier ones of the same key.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut all: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, kept| later.0 == kept.0);
        Self(all.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
