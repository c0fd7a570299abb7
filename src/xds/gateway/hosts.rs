//! Host patterns of `Gateway` servers: `host`, `*.suffix` or `*`, each perhaps
//! behind `namespace/`.

use std::sync::Arc;

use crate::model::Namespace;

/// A host pattern of a server (istiod: `sanitizeServerHostNamespace`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServerHost {
    /// Whose `VirtualService`s may use it; none for everybody's.
    pub(super) namespace: Option<Namespace>,
    /// The pattern itself.
    pub(super) host: Arc<str>,
}

impl ServerHost {
    /// Reads `[namespace/]host`, where `.` is `own`, the `Gateway`'s namespace.
    pub(super) fn parse(text: &str, own: &Namespace) -> Self {
        let (namespace, host) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.strip_prefix("*/").unwrap_or(text)),
            Some((".", host)) => (Some(own.clone()), host),
            Some((namespace, host)) => (Some(Namespace::from(namespace)), host),
        };
        let host = Arc::from(host);
        Self { namespace, host }
    }

    /// Whether objects of `namespace` may use it.
    pub(super) fn admits(&self, namespace: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == namespace)
    }
}

/// Whether every name that `inner` matches is matched by `outer` (istiod:
/// `Name.SubsetOf`).
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    match (outer.strip_prefix('*'), inner.strip_prefix('*')) {
        (None, None) => outer == inner,
        (None, Some(_)) => false,
        (Some(suffix), None) => inner.ends_with(suffix),
        (Some(suffix), Some(rest)) => rest.ends_with(suffix),
    }
}

/// Whether some name is matched by both.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// The narrower of each two patterns that overlap, in order, each once.
pub(super) fn intersection<'a>(
    servers: impl IntoIterator<Item = &'a str>,
    services: &[&'a str],
) -> Vec<&'a str> {
    let mut found = Vec::new();
    for server in servers {
        for service in services {
            let narrower = match () {
                () if covers(service, server) => server,
                () if covers(server, service) => service,
                () => continue,
            };
            if !found.contains(&narrower) {
                found.push(narrower);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> (Option<String>, String) {
        let host = ServerHost::parse(text, &Namespace::from("own"));
        let namespace = host.namespace.map(|n| n.to_string());
        (namespace, host.host.to_string())
    }

    #[test]
    fn a_host_may_belong_to_a_namespace() {
        let of = |namespace: &str| Some(namespace.to_owned());
        assert_eq!(parsed("*.local"), (None, "*.local".into()));
        assert_eq!(parsed("*/*"), (None, "*".into()));
        assert_eq!(parsed("*/a.com"), (None, "a.com".into()));
        assert_eq!(parsed("./a.com"), (of("own"), "a.com".into()));
        assert_eq!(parsed("ns/*"), (of("ns"), "*".into()));
    }

    #[test]
    fn patterns_cover_what_they_match() {
        assert!(covers("*", "a.com") && covers("*", "*.com") && covers("*.com", "*.a.com"));
        assert!(covers("a.com", "a.com") && covers("*.com", "a.com"));
        assert!(!covers("a.com", "*.com") && !covers("*.a.com", "a.com"));
        assert!(!covers("*.a.com", "*.com"));
    }

    #[test]
    fn an_intersection_holds_the_narrower_of_each_pair() {
        let of = |a: &[&'static str], b: &[&'static str]| intersection(a.iter().copied(), b);
        let both = ["foo.com", "bar.com"];
        assert_eq!(of(&both, &["*.com"]), both);
        assert_eq!(
            of(&["foo.com", "*.net"], &["*.com", "bar.net"]),
            ["foo.com", "bar.net"]
        );
        assert_eq!(of(&["*.net"], &["*.bar.net"]), ["*.bar.net"]);
        assert!(of(&["foo.com"], &["bar.com"]).is_empty());
    }

    proptest! {
        #[test]
        fn what_an_intersection_holds_is_covered_by_both(
            a in prop::collection::vec("\\*?\\.?[ab]{0,2}", 0..4),
            b in prop::collection::vec("\\*?\\.?[ab]{0,2}", 0..4),
        ) {
            let services: Vec<&str> = b.iter().map(|s| &**s).collect();
            for host in intersection(a.iter().map(|s| &**s), &services) {
                prop_assert!(a.iter().any(|s| covers(s, host)));
                prop_assert!(b.iter().any(|s| covers(s, host)));
            }
        }
    }
}
