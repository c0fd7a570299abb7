//! Counters and gauges of the Kubernetes registries, under istiod's names where
//! the meaning is the same.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labels of an object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ObjectLabels {
    /// Cluster.
    pub cluster: String,
    /// Plural name and group.
    pub kind: String,
}

/// Labels of a cluster's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SyncLabels {
    /// Cluster.
    pub cluster: String,
    /// `remote`, as istiod writes it.
    pub cluster_type: String,
    /// State.
    pub status: String,
}

/// Label of a cluster's role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RoleLabel {
    /// `local` or `remote`.
    pub cluster_type: String,
}

/// Label of a change to a remote Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabel {
    /// `add`, `update` or `delete`.
    pub event: String,
}

/// Metrics of the Kubernetes registries. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct KubeMetrics {
    pub(crate) invalid_objects: Family<ObjectLabels, Counter>,
    pub(crate) clusters: Family<RoleLabel, Gauge>,
    pub(crate) sync_status: Family<SyncLabels, Gauge>,
    pub(crate) sync_timeouts: Counter,
    pub(crate) secret_events: Family<EventLabel, Counter>,
}

impl KubeMetrics {
    /// Makes them known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isthmus_invalid_objects",
            "Objects that could not be read and were left out",
            self.invalid_objects.clone(),
        );
        registry.register(
            "istiod_managed_clusters",
            "Clusters that are watched",
            self.clusters.clone(),
        );
        registry.register(
            "istiod_remote_cluster_sync_status",
            "State of each remote cluster: 1 for the state that it is in",
            self.sync_status.clone(),
        );
        registry.register(
            "remote_cluster_sync_timeouts",
            "Remote clusters that readiness stopped waiting for",
            self.sync_timeouts.clone(),
        );
        registry.register(
            "remote_cluster_secret_events",
            "Changes to the set of remote clusters",
            self.secret_events.clone(),
        );
    }

    pub(crate) fn invalid(&self, cluster: &str, kind: &str) {
        let labels = ObjectLabels {
            cluster: cluster.to_owned(),
            kind: kind.to_owned(),
        };
        self.invalid_objects.get_or_create(&labels).inc();
    }
}
