//! Where a workload or a proxy runs.

use std::{fmt, sync::Arc};

/// `region/zone/subzone` with both slashes always written, or empty when
/// unknown.
///
/// istiod keys groups by the text it was given, so `a/b` and `a/b/` make two
/// groups of one Envoy locality; here they are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality(Arc<str>);

impl Locality {
    /// Reads `region[/zone[/subzone]]`; what stands behind a third slash is
    /// part of the subzone.
    ///
    /// ```
    /// use isthmus::model::Locality;
    /// let here = Locality::parse("eu/a");
    /// assert_eq!((here.region(), here.zone(), here.subzone()), ("eu", "a", ""));
    /// assert_eq!(here, Locality::parse("eu/a/"));
    /// assert!(Locality::parse("").is_empty());
    /// ```
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        Self::new(next(), next(), next())
    }

    /// The locality of the three names; empty when all are.
    pub fn new(region: &str, zone: &str, subzone: &str) -> Self {
        if region.is_empty() && zone.is_empty() && subzone.is_empty() {
            return Self(Arc::from(""));
        }
        Self(Arc::from(format!("{region}/{zone}/{subzone}")))
    }

    /// The region, empty when unknown.
    pub fn region(&self) -> &str {
        self.part(0)
    }

    /// The zone, empty when unknown.
    pub fn zone(&self) -> &str {
        self.part(1)
    }

    /// The subzone, empty when unknown.
    pub fn subzone(&self) -> &str {
        self.part(2)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, by which groups of one answer are sorted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, n: usize) -> &str {
        self.0.splitn(3, '/').nth(n).unwrap_or_default()
    }
}

impl Default for Locality {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
