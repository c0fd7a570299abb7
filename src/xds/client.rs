//! A proxy as an encoder of lists meets it.

use std::sync::Arc;

use super::view;
use crate::mesh::{PodKey, Scope, ServiceState, Snapshot};
use crate::model::{ClusterName, IstioFilters, Labels, NetworkView, Proxy, Workload};

/// A proxy, the pod behind it, and what it may see at one generation.
///
/// Lists are made from classes that are taken from it, never from it directly,
/// so that proxies share them.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) workload: Option<Arc<Workload>>,
    pub(super) scope: Arc<Scope>,
}

impl Client {
    pub(super) fn new(snapshot: Arc<Snapshot>, proxy: Arc<Proxy>) -> Self {
        let pod = PodKey {
            cluster: proxy.cluster.clone(),
            namespace: proxy.namespace.clone(),
            name: Arc::clone(&proxy.name),
        };
        let workload = snapshot.workload(&pod).cloned();
        let labels = workload.as_ref().map_or(&proxy.labels, |w| &w.labels);
        let scope = Scope::of(&snapshot, &proxy.namespace, labels, proxy.kind);
        Self {
            snapshot,
            proxy,
            workload,
            scope,
        }
    }

    /// Its pod's labels; its own where the pod is not known yet.
    pub(super) fn labels(&self) -> &Labels {
        let pod = self.workload.as_ref().map(|w| &w.labels);
        pod.unwrap_or(&self.proxy.labels)
    }

    /// Named ports of its pod; as it says itself where the pod is not known yet.
    pub(super) fn named_ports(&self) -> Arc<[(Arc<str>, u16)]> {
        let known = self.workload.as_ref().map(|w| &w.ports);
        Arc::clone(known.unwrap_or(&self.proxy.pod_ports))
    }

    /// Whether a `WorkloadEntry` describes its workload: it has no node.
    pub(super) fn is_by_entry(&self) -> bool {
        self.workload.as_ref().is_some_and(|w| w.node.is_empty())
    }

    /// Its view of one Envoy cluster.
    pub(super) fn view(&self, state: &ServiceState, cluster: &ClusterName) -> NetworkView {
        let rule = state.rule_for(&self.proxy.namespace, self.labels());
        view::project(&self.proxy, self.workload.as_deref(), state, cluster, rule)
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
