//! A proxy as an encoder of lists meets it.

use std::{collections::BTreeSet, sync::Arc};

use super::audience::Audience;
use crate::mesh::{MemoKey, PodKey, Scope, ServiceState, Snapshot};
use crate::model::{ClusterName, IstioFilters, Labels, NetworkView, Proxy, Workload};

/// A proxy, its audience, and what it may see at one generation.
///
/// Lists are made from classes that are taken from it, never from it directly,
/// so that proxies share them.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) audience: Arc<Audience>,
    pub(super) scope: Arc<Scope>,
}

impl Client {
    pub(super) fn new(snapshot: Arc<Snapshot>, proxy: Arc<Proxy>, audience: Arc<Audience>) -> Self {
        let scope = audience.scope(&snapshot);
        Self {
            snapshot,
            proxy,
            audience,
            scope,
        }
    }

    /// The pod behind it, where its registry knows it.
    fn workload(&self) -> Option<&Arc<Workload>> {
        self.snapshot.workload(&PodKey::of(&self.proxy))
    }

    /// Its pod's labels; its own where the pod is not known yet.
    pub(super) fn labels(&self) -> &Labels {
        &self.audience.facts().labels
    }

    /// Its labels, as far as some rule or `VirtualService` looks at them:
    /// proxies that differ in others share what is made of these.
    pub(super) fn relevant_labels(&self) -> Labels {
        let of = |_: &_| looked_at(&self.snapshot);
        let keys = self.snapshot.memo().get_or_make(LookedAt, of);
        if keys.is_empty() {
            return Labels::default();
        }
        let pairs = self.labels().iter();
        let pairs = pairs.filter(|(key, _)| keys.contains(*key));
        pairs.map(|(k, v)| (Arc::clone(k), Arc::clone(v))).collect()
    }

    /// Named ports of its pod; as it says itself where the pod is not known yet.
    pub(super) fn named_ports(&self) -> Arc<[(Arc<str>, u16)]> {
        let known = self.workload().map(|w| &w.ports);
        Arc::clone(known.unwrap_or(&self.proxy.pod_ports))
    }

    /// Whether a `WorkloadEntry` describes its workload: it has no node.
    pub(super) fn is_by_entry(&self) -> bool {
        self.workload().is_some_and(|w| w.node.is_empty())
    }

    /// Its view of one Envoy cluster.
    pub(super) fn view(&self, state: &ServiceState, cluster: &ClusterName) -> NetworkView {
        self.audience.view(state, cluster)
    }

    /// istio's own filters in its Envoy.
    pub(super) fn filters(&self) -> IstioFilters {
        IstioFilters {
            alpn: self.has_extension("istio.alpn"),
            metadata_exchange: self.has_extension("metadata_exchange"),
            peer_metadata: self.has_extension("peer_metadata"),
        }
    }

    /// Whether its Envoy was built with an extension: a name that is `suffix` or
    /// ends with it as a dotted part.
    fn has_extension(&self, suffix: &str) -> bool {
        let ends = |name: &str| {
            let before = name.strip_suffix(suffix);
            before.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.proxy.extensions.iter().any(|name| ends(name))
    }
}

/// Keys of the labels by which clients are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LookedAt;

impl MemoKey for LookedAt {
    type Value = BTreeSet<Arc<str>>;
}

fn looked_at(snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
    let rules = snapshot.services().flat_map(|state| state.rules.iter());
    let of_rules = rules.flat_map(|rule| rule.workload_selector.iter());
    let services = snapshot.mesh().virtual_services.iter();
    let matches = services.flat_map(|service| service.sources());
    let of_matches = matches.flat_map(|source| source.labels.iter());
    of_rules
        .chain(of_matches)
        .map(|(key, _)| Arc::clone(key))
        .collect()
}
