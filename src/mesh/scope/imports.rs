//! The `hosts` of an egress listener, ready for lookup.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::model::{EgressListener, Namespace};

/// Patterns of one namespace, or of all (`*`).
#[derive(Debug, Default)]
struct Hosts {
    exact: HashSet<Arc<str>, FixedState>,
    /// What stands behind each `*`.
    suffixes: Vec<Arc<str>>,
    /// Patterns behind a `~`.
    excluded: Vec<Arc<str>>,
}

/// All patterns of one listener.
#[derive(Debug, Default)]
pub(super) struct Imports {
    any_namespace: Hosts,
    by_namespace: HashMap<Namespace, Hosts, FixedState>,
}

impl Imports {
    /// `own` is the namespace that `.` stands for.
    pub(super) fn new(listener: &EgressListener, own: &Namespace) -> Self {
        let mut imports = Self::default();
        for pattern in &listener.hosts {
            let (excluded, namespace) = match pattern.namespace.strip_prefix('~') {
                Some("") => (true, "*"),
                Some(namespace) => (true, namespace),
                None => (false, &*pattern.namespace),
            };
            let hosts = match namespace {
                "*" => &mut imports.any_namespace,
                "." => imports.by_namespace.entry(own.clone()).or_default(),
                other => imports.by_namespace.entry(other.into()).or_default(),
            };
            hosts.add(&pattern.host, excluded);
        }
        imports
    }

    /// Whether `host` of `namespace` is imported and not excluded.
    pub(super) fn contains(&self, namespace: &Namespace, host: &str) -> bool {
        let own = self.by_namespace.get(namespace);
        let mut both = own.into_iter().chain([&self.any_namespace]);
        // istiod: selectServices: an exclusion of either kind wins.
        both.clone().all(|hosts| !hosts.excludes(host)) && both.any(|hosts| hosts.contains(host))
    }

    /// Whether a `VirtualService` of `namespace` with this host is imported:
    /// where the host may stand for an imported one or the other way round
    /// (istiod: `VSMatches`), and is not excluded.
    pub(super) fn admits(&self, namespace: &Namespace, host: &str) -> bool {
        let own = self.by_namespace.get(namespace);
        let mut both = own.into_iter().chain([&self.any_namespace]);
        both.clone().all(|hosts| !hosts.excludes(host)) && both.any(|hosts| hosts.overlaps(host))
    }
}

impl Hosts {
    fn add(&mut self, host: &Arc<str>, excluded: bool) {
        if excluded {
            self.excluded.push(Arc::clone(host));
        } else if let Some(suffix) = host.strip_prefix('*') {
            self.suffixes.push(Arc::from(suffix));
        } else {
            self.exact.insert(Arc::clone(host));
        }
    }

    fn contains(&self, host: &str) -> bool {
        self.exact.contains(host) || self.suffixes.iter().any(|suffix| below(host, suffix))
    }

    fn overlaps(&self, host: &str) -> bool {
        let Some(suffix) = host.strip_prefix('*') else {
            return self.contains(host);
        };
        let exact = || self.exact.iter().any(|name| below(name, suffix));
        let wide = |known: &Arc<str>| known.ends_with(suffix) || suffix.ends_with(&**known);
        exact() || self.suffixes.iter().any(wide)
    }

    fn excludes(&self, host: &str) -> bool {
        self.excluded
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(suffix) => below(host, suffix),
                None => **pattern == *host,
            })
    }
}

/// Whether all that `host` stands for ends with `suffix` (istiod:
/// `Name.SubsetOf`).
fn below(host: &str, suffix: &str) -> bool {
    host.strip_prefix('*').unwrap_or(host).ends_with(suffix)
}
