//! What the mesh settings, the service and one `DestinationRule` together say
//! of the endpoints of one Envoy cluster.

use std::sync::Arc;

use crate::mesh::ServiceState;
use crate::model::{
    ClusterName, DestinationRule, Distribute, Failover, Labels, LocalityLb, PolicySettings,
    TlsSetting, TrafficDistribution, ZoneAwareLb,
};

/// Label of the network an endpoint is on.
pub(crate) const NETWORK_LABEL: &str = "topology.istio.io/network";
/// Label of the Kubernetes cluster an endpoint is in.
pub(crate) const CLUSTER_LABEL: &str = "topology.istio.io/cluster";
/// Label of the node a workload is on.
pub(crate) const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// Labels of region, zone and subzone.
pub(crate) const REGION_LABEL: &str = "topology.kubernetes.io/region";
pub(crate) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
pub(crate) const SUBZONE_LABEL: &str = "topology.istio.io/subzone";

/// The settings that shape one endpoint answer.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointPolicy {
    /// TLS mode that the rule sets for this subset and port.
    pub tls: Option<TlsSetting>,
    /// Labels an endpoint must carry; empty for all.
    pub subset: Labels,
    /// Whether unready endpoints are sent.
    pub send_unready: bool,
    /// Balancing over localities.
    pub balance: Balance,
}

/// Balancing over localities (split-horizon §1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// All groups stay as they are.
    Even,
    /// Weights by locality.
    Distribute(Vec<Distribute>),
    /// Priorities: first by labels (if any), then by distance.
    Priorities {
        /// Labels or `label=value`, in order of importance.
        labels: Vec<Arc<str>>,
        /// What orders groups of equal labels.
        distance: Distance,
    },
}

/// How far a group is from the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distance {
    /// Not considered.
    Ignored,
    /// Same subzone, zone, region, region to fail over to, others.
    Locality(Vec<Failover>),
    /// Same region, region to fail over to, others (zone-aware routing).
    Region(Vec<Failover>),
}

impl EndpointPolicy {
    /// The policy for one Envoy cluster of `service`, `rule` being the
    /// `DestinationRule` that the proxy uses.
    pub fn new(
        service: &ServiceState,
        rule: Option<&DestinationRule>,
        cluster: &ClusterName,
    ) -> Self {
        let (name, port) = (&*cluster.subset, cluster.port);
        // istiod: EDS reads the rule only, not the mesh's default policy.
        let none = PolicySettings::default();
        let settings = rule.map_or_else(|| none.clone(), |r| r.effective(name, port, &none));
        // istio: a subset that the rule does not define filters nothing.
        let subset = rule.and_then(|r| r.subset(name)).map(|s| s.labels.clone());
        Self {
            tls: rule.and_then(|r| r.tls_mode(name, port)),
            subset: subset.unwrap_or_default(),
            send_unready: sends_unready(service, &settings),
            balance: balance(service, settings),
        }
    }
}

/// istio: `ForcesSupportUnhealthyEndpoints`, `supportsUnhealthyEndpoints`.
fn sends_unready(service: &ServiceState, settings: &PolicySettings) -> bool {
    let features = &service.features;
    let outlier = settings.outlier_detection.as_ref();
    let percent = outlier.map_or(0, |o| o.min_health_percent);
    features.send_unhealthy
        || service.service.distribution != TrafficDistribution::Any
        || (features.auto_send_unhealthy && percent == 0)
}

/// istio: `GetEffectiveLbSetting`: the rule, then the service, then the mesh;
/// zone-aware before locality at each level.
fn balance(service: &ServiceState, settings: PolicySettings) -> Balance {
    // istio: EDS reads the rule only; a mesh-wide default outlier detection
    // does not switch priorities on.
    let failover = settings.outlier_detection.is_some();
    let of_rule = settings.load_balancer.unwrap_or_default();
    if let Some(zone_aware) = of_rule.zone_aware {
        return by_region(zone_aware);
    }
    if let Some(locality) = of_rule.locality {
        return by_locality(locality, failover);
    }
    if let Some(labels) = distribution_labels(service.service.distribution) {
        let labels = labels.iter().map(|l| Arc::from(*l)).collect();
        let distance = Distance::Ignored;
        return Balance::Priorities { labels, distance };
    }
    match &service.mesh.zone_aware {
        Some(zone_aware) => by_region(zone_aware.clone()),
        None => by_locality(service.mesh.locality_lb.clone(), failover),
    }
}

fn by_region(setting: ZoneAwareLb) -> Balance {
    if setting.enabled == Some(false) {
        return Balance::Even;
    }
    Balance::Priorities {
        labels: setting.failover_priority,
        distance: Distance::Region(setting.failover),
    }
}

fn by_locality(setting: LocalityLb, failover: bool) -> Balance {
    if setting.enabled == Some(false) {
        return Balance::Even;
    }
    if !setting.distribute.is_empty() {
        return Balance::Distribute(setting.distribute);
    }
    if !failover {
        return Balance::Even;
    }
    let labels = setting.failover_priority;
    let distance = if labels.is_empty() || !setting.failover.is_empty() {
        Distance::Locality(setting.failover)
    } else {
        Distance::Ignored
    };
    Balance::Priorities { labels, distance }
}

fn distribution_labels(distribution: TrafficDistribution) -> Option<&'static [&'static str]> {
    const NODE: [&str; 5] = [
        NETWORK_LABEL,
        REGION_LABEL,
        ZONE_LABEL,
        SUBZONE_LABEL,
        HOSTNAME_LABEL,
    ];
    match distribution {
        TrafficDistribution::Any => None,
        TrafficDistribution::PreferSameZone => NODE.get(..3),
        TrafficDistribution::PreferSameNode => Some(&NODE),
    }
}
