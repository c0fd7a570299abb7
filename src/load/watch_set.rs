//! Which clusters' endpoints a sidecar watches.

use foldhash::HashSet;
use xxhash_rust::xxh3::xxh3_64;

use super::request::Names;

/// A name where only its identity matters.
pub(super) fn id(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// The watch set of one sidecar: it grows by what a list of clusters has that
/// was not there before.
#[derive(Debug, Default)]
pub(super) struct WatchSet {
    ids: HashSet<u64>,
    names: Names,
}

impl WatchSet {
    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All names, as requests have them.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Ids of the names.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.ids.iter().copied()
    }

    /// Adds those of `names` that are new; they are what is to be subscribed.
    pub(super) fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a [u8]>) -> Names {
        let mut fresh = Names::default();
        for name in names {
            if self.ids.insert(id(name)) {
                fresh.push(name);
                self.names.push(name);
            }
        }
        fresh
    }
}

/// Whether a cluster is that of a service, without a subset, whose host has
/// this text in it.
pub(super) fn is_of_mesh(cluster: &[u8], host_part: &[u8]) -> bool {
    let mut parts = cluster.splitn(4, |byte| *byte == b'|');
    let is_outbound = parts.next() == Some(b"outbound");
    let _port = parts.next();
    let no_subset = parts.next() == Some(b"");
    let host = parts.next().unwrap_or_default();
    is_outbound && no_subset && memchr::memmem::find(host, host_part).is_some()
}

/// `count` of `total` positions, spread evenly; each sidecar starts at its own,
/// so that every service is watched by about as many. All where `count` is 0.
pub(super) fn spread(total: usize, count: usize, sidecar: usize) -> impl Iterator<Item = usize> {
    let count = if count == 0 { total } else { count.min(total) };
    let step = total.checked_div(count).unwrap_or_default();
    (0..count).map(move |i| (i * step + sidecar) % total)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clusters_of_services_are_told_from_others() {
        let is = |cluster: &str| is_of_mesh(cluster.as_bytes(), b".load-");
        assert!(is("outbound|80||svc-1.load-3.svc.cluster.local"));
        assert!(!is("outbound|80|v1|svc-1.load-3.svc.cluster.local"));
        assert!(!is("outbound|443||kubernetes.default.svc.cluster.local"));
        assert!(!is("inbound|80||") && !is("BlackHoleCluster") && !is(""));
    }

    #[test]
    fn only_new_names_are_subscribed() {
        let mut set = WatchSet::default();
        let fresh = set.add([&b"a"[..], b"b", b"a"]);
        assert_eq!(fresh, [&b"a"[..], b"b"].into_iter().collect());
        let fresh = set.add([&b"b"[..], b"c"]);
        assert_eq!(fresh, [&b"c"[..]].into_iter().collect());
        assert_eq!(set.len(), 3);
        assert_eq!(*set.names(), [&b"a"[..], b"b", b"c"].into_iter().collect());
    }

    #[test]
    fn no_services_are_no_watch_set() {
        assert_eq!(spread(0, 20, 3).count(), 0);
    }

    proptest! {
        #[test]
        fn a_sidecar_watches_as_many_services_as_it_was_told(
            total in 1_usize..400, count in 0_usize..500, sidecar in 0_usize..1000,
        ) {
            let picked: BTreeSet<_> = spread(total, count, sidecar).collect();
            let wanted = if count == 0 { total } else { count.min(total) };
            prop_assert_eq!(picked.len(), wanted);
            prop_assert!(picked.iter().all(|service| *service < total));
        }
    }
}
