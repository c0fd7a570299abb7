//! `trafficPolicy`: how to talk to a host.

use std::{sync::Arc, time::Duration};

use super::{ClientTls, ConnectionPool};

/// Settings, with those of single ports beside them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrafficPolicy {
    /// For ports without an entry of their own.
    pub base: PolicySettings,
    /// `portLevelSettings`, by service port number.
    pub ports: Vec<(u16, PolicySettings)>,
}

/// What a traffic policy may set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicySettings {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Ejection of failing hosts.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the host.
    pub tls: Option<Arc<ClientTls>>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// `retryBudget`, which single ports cannot set.
    pub retry_budget: Option<RetryBudget>,
}

/// `loadBalancer`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadBalancer {
    /// `simple`, as written (`ROUND_ROBIN`, `PASSTHROUGH` …).
    pub simple: Option<Arc<str>>,
    /// `consistentHash`.
    pub consistent_hash: Option<ConsistentHash>,
    /// `warmup` (or `warmupDurationSecs`).
    pub warmup: Option<Warmup>,
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
    /// `outlierDetectionHttpErrorCodes`: which answers count as failures; empty
    /// for those of 500 and more.
    pub http_error_codes: Vec<u32>,
}

/// `consistentHash`: requests with one key go to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    /// What is hashed; without it Envoy picks at random.
    pub key: Option<HashKey>,
    /// How endpoints are found by the hash.
    pub table: HashTable,
}

/// What of a request is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// `httpHeaderName`.
    Header(Arc<str>),
    /// `httpCookie`.
    Cookie {
        /// Name.
        name: Arc<str>,
        /// Path of a cookie that Envoy makes.
        path: Arc<str>,
        /// Life of a cookie that Envoy makes; none makes no cookie.
        ttl: Option<Duration>,
        /// Attributes of a cookie that Envoy makes.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// `useSourceIp`.
    SourceIp(bool),
    /// `httpQueryParameterName`.
    Query(Arc<str>),
}

/// How an endpoint is found by a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashTable {
    /// Not chosen: a ring, of `minimumRingSize` where that is not 0.
    Unset(u64),
    /// `ringHash`, of this `minimumRingSize` where that is not 0.
    Ring(u64),
    /// `maglev`, of this `tableSize` where that is not 0.
    Maglev(u64),
}

/// `warmup`: new endpoints get their share of requests slowly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    /// How long.
    pub duration: Duration,
    /// Aggression and least percentage; none for the old `warmupDurationSecs`,
    /// which leaves them to Envoy.
    pub ramp: Option<(f64, f64)>,
}

/// `retryBudget`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Share of requests that may be retries.
    pub percent: Option<f64>,
    /// Time over which requests are counted.
    pub interval: Option<Duration>,
    /// Retries that are always allowed; 0 for the default.
    pub min_concurrency: u32,
}

impl TrafficPolicy {
    /// What this level says of one port, and whether it has an entry for it.
    pub fn for_port(&self, port: u16) -> (&PolicySettings, bool) {
        let mut ports = self.ports.iter();
        let entry = ports.find(|(number, _)| *number == port);
        entry.map_or((&self.base, false), |(_, settings)| (settings, true))
    }
}

impl PolicySettings {
    /// Whether calls go to their original destination.
    pub fn is_passthrough(&self) -> bool {
        let lb = self.load_balancer.as_ref();
        lb.and_then(|lb| lb.simple.as_deref()) == Some("PASSTHROUGH")
    }

    /// These settings, and `below` in the parts they leave out.
    #[must_use]
    pub fn or(self, below: &Self) -> Self {
        Self {
            load_balancer: self.load_balancer.or_else(|| below.load_balancer.clone()),
            outlier_detection: self
                .outlier_detection
                .or_else(|| below.outlier_detection.clone()),
            tls: self.tls.or_else(|| below.tls.clone()),
            connection_pool: self
                .connection_pool
                .or_else(|| below.connection_pool.clone()),
            retry_budget: self.retry_budget.or(below.retry_budget),
        }
    }
}
