//! Counters and gauges of the controllers.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::model::ClusterId;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

impl ClusterLabel {
    fn new(cluster: &ClusterId) -> Self {
        Self {
            cluster: cluster.to_string(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    cluster: String,
    result: &'static str,
}

/// Metrics of the controllers. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    leading: Family<ClusterLabel, Gauge>,
    writes: Family<WriteLabels, Counter>,
    contested: Family<ClusterLabel, Counter>,
    foreign: Family<ClusterLabel, Gauge>,
}

impl Metrics {
    /// Makes them known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isthmus_leader",
            "1 where this process writes to the cluster, 0 where it waits for the lock",
            self.leading.clone(),
        );
        registry.register(
            "isthmus_root_cert_writes",
            "Root certificate ConfigMaps written, found as they should be, or failed to write",
            self.writes.clone(),
        );
        registry.register(
            "isthmus_root_cert_contested",
            "Namespaces where somebody without the lock keeps changing the root certificate",
            self.contested.clone(),
        );
        registry.register(
            "isthmus_foreign_root",
            "1 where another leader distributes a root certificate that is not ours",
            self.foreign.clone(),
        );
    }

    /// Whether the other leader of a cluster has another root.
    pub fn has_foreign_root(&self, cluster: &ClusterId) -> bool {
        let gauge = self.foreign.get(&ClusterLabel::new(cluster));
        gauge.is_some_and(|gauge| gauge.get() == 1)
    }

    /// Whether this process writes to a cluster.
    pub fn leads(&self, cluster: &ClusterId) -> bool {
        let gauge = self.leading.get(&ClusterLabel::new(cluster));
        gauge.is_some_and(|gauge| gauge.get() == 1)
    }

    pub(super) fn set_leading(&self, cluster: &ClusterId, leading: bool) {
        let gauge = self
            .leading
            .get_or_create_owned(&ClusterLabel::new(cluster));
        gauge.set(i64::from(leading));
    }

    pub(super) fn count(&self, cluster: &ClusterId, result: &'static str) {
        let labels = WriteLabels {
            cluster: cluster.to_string(),
            result,
        };
        self.writes.get_or_create_owned(&labels).inc();
    }

    pub(super) fn count_contested(&self, cluster: &ClusterId) {
        let label = ClusterLabel::new(cluster);
        self.contested.get_or_create_owned(&label).inc();
    }

    pub(super) fn set_foreign(&self, cluster: &ClusterId, foreign: bool) {
        let gauge = self
            .foreign
            .get_or_create_owned(&ClusterLabel::new(cluster));
        gauge.set(i64::from(foreign));
    }

    /// The cluster is not written to any more.
    pub(super) fn forget(&self, cluster: &ClusterId) {
        let label = ClusterLabel::new(cluster);
        self.leading.remove(&label);
        self.foreign.remove(&label);
    }
}
