//! `DestinationRule`: subsets, and how to talk to a host.

use std::{sync::Arc, time::Duration};

use super::{ClientTls, ExportTo, Labels, ObjectMeta, TlsSetting};

/// A `DestinationRule`, its host made fully qualified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Full host name or wildcard (`*.example.com`, `*`).
    pub host: Arc<str>,
    /// Which namespaces may use it; none means the mesh's default.
    pub export_to: Option<ExportTo>,
    /// Client workloads it applies to; empty means all that see it.
    pub workload_selector: Labels,
    /// Policy for all subsets.
    pub policy: TrafficPolicy,
    /// Named parts of the host.
    pub subsets: Vec<Subset>,
}

/// A named part of a host's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Name.
    pub name: Arc<str>,
    /// Labels its endpoints carry; empty selects all of them.
    pub labels: Labels,
    /// Policy that wins over the rule's.
    pub policy: TrafficPolicy,
}

/// Settings, with those of single ports beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficPolicy {
    /// For ports without an entry of their own.
    pub base: PolicySettings,
    /// `portLevelSettings`, by service port number.
    pub ports: Vec<(u16, PolicySettings)>,
}

/// What a traffic policy may set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySettings {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Ejection of failing hosts.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the host.
    pub tls: Option<Arc<ClientTls>>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
}

/// `loadBalancer`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancer {
    /// `simple`, as written (`ROUND_ROBIN`, `PASSTHROUGH` …).
    pub simple: Option<Arc<str>>,
    /// A `consistentHash` is set.
    pub consistent_hash: bool,
    /// `localityLbSetting`.
    pub locality: Option<LocalityLb>,
    /// `zoneAwareLbSetting`.
    pub zone_aware: Option<ZoneAwareLb>,
}

/// `localityLbSetting`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LocalityLb {
    /// Unset means enabled.
    pub enabled: Option<bool>,
    /// Weights by locality.
    pub distribute: Vec<Distribute>,
    /// Region to region.
    pub failover: Vec<Failover>,
    /// Labels (or `label=value`) in order of importance.
    pub failover_priority: Vec<Arc<str>>,
}

/// One `distribute` entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Distribute {
    /// Locality of the client, `*` for any part.
    pub from: Arc<str>,
    /// Locality pattern → percent, sorted by pattern.
    pub to: Vec<(Arc<str>, u32)>,
}

/// One `failover` entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failover {
    /// Region of the client.
    pub from: Arc<str>,
    /// Region to fail over to.
    pub to: Arc<str>,
}

/// `zoneAwareLbSetting`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ZoneAwareLb {
    /// Unset means enabled.
    pub enabled: Option<bool>,
    /// Region to region.
    pub failover: Vec<Failover>,
    /// Labels in order of importance.
    pub failover_priority: Vec<Arc<str>>,
}

/// `outlierDetection`; absent fields keep Envoy's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`.
    pub consecutive_5xx: Option<u32>,
    /// `consecutiveGatewayErrors`.
    pub consecutive_gateway_errors: Option<u32>,
    /// `splitExternalLocalOriginErrors`.
    pub split_local_origin: bool,
    /// `consecutiveLocalOriginFailures`.
    pub consecutive_local_origin: Option<u32>,
    /// `interval`.
    pub interval: Option<Duration>,
    /// `baseEjectionTime`.
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`; 0 is unset.
    pub max_ejection_percent: u32,
    /// `minHealthPercent`; over 0 keeps unready endpoints out of EDS.
    pub min_health_percent: u32,
}

/// `connectionPool`; what CDS needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`.
    pub max_pending_requests: Option<u32>,
    /// `http.http2MaxRequests`.
    pub max_requests: Option<u32>,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
    /// `http.maxRetries`.
    pub max_retries: Option<u32>,
    /// `http.idleTimeout`.
    pub idle_timeout: Option<Duration>,
}

impl DestinationRule {
    /// The subset called `name`.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|s| &*s.name == name)
    }

    /// The settings that hold for one subset and service port.
    ///
    /// istio: a subset's policy replaces the rule's field by field; an entry
    /// for the port replaces the whole of what stands above it, so it does not
    /// inherit outlier detection (split-horizon §1.6).
    pub fn effective(&self, subset: &str, port: u16) -> PolicySettings {
        let mut merged = self.policy.clone();
        if let Some(subset) = self.subset(subset) {
            merged.overlay(&subset.policy);
        }
        let for_port = merged.ports.iter().find(|(number, _)| *number == port);
        for_port.map_or(merged.base, |(_, settings)| settings.clone())
    }

    /// The TLS mode that some level sets for one subset and port: the subset's
    /// port, the subset, the rule's port, the rule (istio: `mtls_checker.go`).
    pub fn tls_mode(&self, subset: &str, port: u16) -> Option<TlsSetting> {
        let of = |policy: &TrafficPolicy| {
            let for_port = policy.ports.iter().find(|(number, _)| *number == port);
            for_port
                .and_then(|(_, settings)| settings.tls.as_ref())
                .or(policy.base.tls.as_ref())
                .map(|tls| tls.mode)
        };
        // istio: a subset that the rule does not define has no mode at all.
        match (subset.is_empty(), self.subset(subset)) {
            (true, _) => of(&self.policy),
            (false, Some(subset)) => of(&subset.policy).or_else(|| of(&self.policy)),
            (false, None) => None,
        }
    }
}

impl DestinationRule {
    /// Whether some part of it sends calls to their original destination.
    pub fn is_passthrough(&self) -> bool {
        let policies = self.subsets.iter().map(|subset| &subset.policy);
        policies.chain([&self.policy]).any(|policy| {
            let ports = policy.ports.iter().map(|(_, settings)| settings);
            ports
                .chain([&policy.base])
                .any(PolicySettings::is_passthrough)
        })
    }
}

impl PolicySettings {
    /// Whether calls go to their original destination.
    pub fn is_passthrough(&self) -> bool {
        let lb = self.load_balancer.as_ref();
        lb.and_then(|lb| lb.simple.as_deref()) == Some("PASSTHROUGH")
    }
}

impl TrafficPolicy {
    fn overlay(&mut self, over: &TrafficPolicy) {
        let base = &mut self.base;
        let from = over.base.clone();
        base.load_balancer = from.load_balancer.or(base.load_balancer.take());
        base.outlier_detection = from.outlier_detection.or(base.outlier_detection.take());
        base.tls = from.tls.or(base.tls.take());
        base.connection_pool = from.connection_pool.or(base.connection_pool.take());
        if !over.ports.is_empty() {
            self.ports.clone_from(&over.ports);
        }
    }
}
