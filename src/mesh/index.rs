//! The only mutable state of the program.
//!
//! Written by [`Index::apply`] alone, which takes a batch of events in, derives
//! again what they touch, and makes the next [`Snapshot`]. Everything that is
//! published is a function of the objects held now, never of the order in
//! which they came: what is gone leaves nothing behind.

mod config;
mod derive;
mod difference;
mod dirty;
mod ingest;
mod kube;
mod pods;
mod services;
mod shards;
mod slices;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

pub use self::dirty::Pending;
use self::{
    config::ConfigObjects,
    difference::Behind,
    dirty::{Dirty, Urgent},
};
use super::{
    Event, Snapshot,
    intern::Interner,
    kube_state::{ClusterState, NamespaceState},
    networks::NetworkRules,
    workloads::WorkloadSources,
};
use crate::model::{
    ClusterId, Features, Hostname, MeshConfig, MeshNetworks, Namespace, NetworkGateway,
    NetworkTable, ObjectKey, ServiceKey,
};

/// Why an object is held or seen without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// Istio configuration is read from the config cluster only.
    NotTheConfigCluster,
    /// A switch turns this kind off.
    SwitchedOff,
    /// A slice of names (`addressType: FQDN`).
    NamesInSlice,
    /// A slice of an MCS controller.
    McsSlice,
    /// A slice without the service-name label.
    SliceWithoutService,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTheConfigCluster => "only the config cluster's objects of this kind count",
            Self::SwitchedOff => "a flag turns its kind off",
            Self::NamesInSlice => "its addresses are host names (addressType FQDN)",
            Self::McsSlice => "it comes from a controller of Multi-Cluster Services",
            Self::SliceWithoutService => "it has no label kubernetes.io/service-name",
        })
    }
}

/// Joins what all clusters report. See the module's head.
#[derive(Debug)]
pub struct Index {
    config_cluster: ClusterId,
    features: Arc<Features>,
    mesh: Arc<MeshConfig>,
    mesh_networks: Arc<MeshNetworks>,
    clusters: BTreeMap<ClusterId, ClusterState>,
    config: ConfigObjects,
    resolved: BTreeMap<Arc<str>, Vec<IpAddr>>,
    declared: BTreeSet<NetworkGateway>,
    hostnames: BTreeSet<Arc<str>>,
    networks: Arc<NetworkTable>,
    behind: Behind,
    ignored: BTreeMap<(ClusterId, ObjectKey), Ignored>,
    interner: Interner,
    dirty: Dirty,
    snapshot: Arc<Snapshot>,
}

impl Index {
    /// An empty index.
    pub fn new(config_cluster: ClusterId, features: Features) -> Self {
        let dirty = Dirty {
            mesh: true,
            ..Dirty::default()
        };
        Self {
            config_cluster,
            features: Arc::new(features),
            mesh: Arc::default(),
            mesh_networks: Arc::default(),
            clusters: BTreeMap::new(),
            config: ConfigObjects::default(),
            resolved: BTreeMap::new(),
            declared: BTreeSet::new(),
            hostnames: BTreeSet::new(),
            networks: Arc::default(),
            behind: Behind::default(),
            ignored: BTreeMap::new(),
            interner: Interner::default(),
            dirty,
            snapshot: Arc::default(),
        }
    }

    /// Takes a batch in. The next snapshot, or none where nothing changed.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Option<Arc<Snapshot>> {
        self.take(events);
        self.make_next()
    }

    /// Takes a batch in, to be part of the next snapshot.
    pub fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.ingest(event);
        }
    }

    /// What was taken in since the last snapshot.
    pub fn pending(&self) -> Pending {
        self.dirty.pending()
    }

    /// About how many services and pods the next snapshot looks at.
    pub fn touched(&self) -> usize {
        self.dirty.touched()
    }

    /// The next snapshot, or none where nothing changed.
    pub fn make_next(&mut self) -> Option<Arc<Snapshot>> {
        self.dirty.urgent = Urgent::default();
        if self.dirty.is_empty() {
            return None;
        }
        let update = self.derive();
        self.interner.sweep();
        if update.is_empty() {
            return None;
        }
        self.snapshot = Arc::new(self.snapshot.next(update));
        Some(Arc::clone(&self.snapshot))
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Host names of gateways that the resolver must keep answers for.
    pub fn hostnames_to_resolve(&self) -> &BTreeSet<Arc<str>> {
        &self.hostnames
    }

    /// Pods that slices name and that are not known, by cluster: their
    /// endpoints are left out (istiod: `pilot_k8s_endpoints_pending_pod`).
    pub fn pending_pods(&self) -> BTreeMap<ClusterId, usize> {
        let counts = self.clusters.iter();
        counts.map(|(id, c)| (id.clone(), c.pending_pods)).collect()
    }

    /// Objects without effect, and why.
    pub fn ignored(&self) -> &BTreeMap<(ClusterId, ObjectKey), Ignored> {
        &self.ignored
    }

    /// Clusters in merge order: the config cluster, then by name. istiod takes
    /// the others as they arrive, so that a restart may change the answer.
    fn in_merge_order(&self) -> impl Iterator<Item = (&ClusterId, &ClusterState)> {
        let first = self.clusters.get_key_value(&self.config_cluster);
        let others = self
            .clusters
            .iter()
            .filter(|(id, _)| **id != self.config_cluster);
        first.into_iter().chain(others)
    }

    fn trust_domain<'a>(&'a self, cluster: &'a ClusterState) -> &'a str {
        cluster
            .trust_domain
            .as_deref()
            .unwrap_or(&self.mesh.trust_domain)
    }

    fn sources<'a>(&'a self, id: &'a ClusterId, cluster: &'a ClusterState) -> WorkloadSources<'a> {
        WorkloadSources {
            features: &self.features,
            cluster: id,
            trust_domain: self.trust_domain(cluster),
            networks: &cluster.networks,
            nodes: &cluster.nodes,
        }
    }

    /// The network rules that `cluster` has now.
    fn network_rules(&self, id: &ClusterId, cluster: &ClusterState) -> NetworkRules {
        let system = cluster.namespaces.get(&self.features.system_namespace);
        let label = system.and_then(|n| n.label(super::networks::NETWORK_LABEL));
        NetworkRules::new(id, label, &self.mesh_networks)
    }

    fn is_selected(&self, namespace: &NamespaceState) -> bool {
        let selectors = &self.mesh.discovery_selectors;
        let none = crate::model::Labels::default();
        let labels = namespace.object.as_ref().map_or(&none, |n| &n.labels);
        selectors.is_empty() || selectors.iter().any(|s| s.matches(labels))
    }

    /// The key of a Kubernetes service: equal in all clusters (namespace
    /// sameness).
    fn kube_key(&self, namespace: &Namespace, name: &str) -> ServiceKey {
        let domain = &self.features.domain;
        ServiceKey {
            hostname: Hostname::from(format!("{name}.{namespace}.svc.{domain}")),
            namespace: namespace.clone(),
        }
    }

    /// The key under which Multi-Cluster Services know it.
    fn cluster_set_key(&self, namespace: &Namespace, name: &str) -> Option<ServiceKey> {
        self.features.mcs_host.then(|| ServiceKey {
            hostname: Hostname::from(format!("{name}.{namespace}.svc.{CLUSTER_SET}")),
            namespace: namespace.clone(),
        })
    }
}

/// Domain of Multi-Cluster Services.
const CLUSTER_SET: &str = "clusterset.local";
