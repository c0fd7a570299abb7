//! `trafficPolicy` of a `DestinationRule`, and the load balancing settings
//! that it shares with the mesh configuration.

use std::{sync::Arc, time::Duration};

mod load_balancer;

use serde::Deserialize;

use super::{client_tls::Tls, one_of};
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Text},
};
use crate::model::{
    ConnectionPool, OutlierDetection, PolicySettings, RetryBudget, TcpKeepalive, TrafficPolicy,
    parse_duration,
};
use load_balancer::Balancer;
pub(in crate::manifest) use load_balancer::{Locality, ZoneAware};

/// A policy, or one entry of its `portLevelSettings`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Policy<'a> {
    port: Option<PortSelector>,
    port_level_settings: List<Policy<'a>>,
    load_balancer: Option<Balancer<'a>>,
    outlier_detection: Option<Ejection<'a>>,
    tls: Option<Tls<'a>>,
    connection_pool: Option<Pool<'a>>,
    retry_budget: Option<RetryRule<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PortSelector {
    number: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct Ejection<'a> {
    consecutive5xx_errors: Int,
    consecutive_gateway_errors: Int,
    split_external_local_origin_errors: Option<bool>,
    consecutive_local_origin_failures: Int,
    interval: Text<'a>,
    base_ejection_time: Text<'a>,
    max_ejection_percent: Int,
    min_health_percent: Int,
    outlier_detection_http_error_codes: List<Int>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct RetryRule<'a> {
    percent: Option<f64>,
    budget_interval: Text<'a>,
    min_retry_concurrency: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct Pool<'a> {
    tcp: Option<OfBytes<'a>>,
    http: Option<OfRequests<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct OfBytes<'a> {
    max_connections: Int,
    connect_timeout: Text<'a>,
    idle_timeout: Text<'a>,
    max_connection_duration: Text<'a>,
    tcp_keepalive: Option<Keepalive<'a>>,
}

/// `tcpKeepalive`, of a rule or of the mesh.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct Keepalive<'a> {
    probes: Int,
    time: Text<'a>,
    interval: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Pings<'a> {
    interval: Text<'a>,
    timeout: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct OfRequests<'a> {
    http1_max_pending_requests: Int,
    http2_max_requests: Int,
    max_requests_per_connection: Int,
    max_retries: Int,
    idle_timeout: Text<'a>,
    h2_upgrade_policy: Text<'a>,
    use_client_protocol: Option<bool>,
    max_concurrent_streams: Int,
    #[serde(rename = "http2KeepAlive")]
    http2_keepalive: Option<Pings<'a>>,
}

/// `h2UpgradePolicy`; none leaves it to the level above.
pub(in crate::manifest) const H2_UPGRADES: &[(&str, Option<bool>)] = &[
    ("", None),
    ("DEFAULT", None),
    ("DO_NOT_UPGRADE", Some(false)),
    ("UPGRADE", Some(true)),
];

impl Policy<'_> {
    pub(super) fn read(
        &self,
        field: &str,
        scope: &mut Scope<'_>,
    ) -> Result<TrafficPolicy, Problem> {
        let base = self.settings(field, scope)?;
        let mut ports = Vec::new();
        for (i, entry) in self.port_level_settings.iter().enumerate() {
            let field = format!("{field}.portLevelSettings[{i}]");
            let number = entry.port.as_ref().map(|p| p.number).unwrap_or_default();
            let port = number.port();
            let port = port.ok_or_else(|| Problem::port(format!("{field}.port.number"), number.0));
            let settings = PolicySettings {
                // istiod: a port has none of its own.
                retry_budget: None,
                ..entry.settings(&field, scope)?
            };
            ports.push((port?, settings));
        }
        Ok(TrafficPolicy { base, ports })
    }

    fn settings(&self, field: &str, scope: &mut Scope<'_>) -> Result<PolicySettings, Problem> {
        let tls = |tls: &Tls<'_>| tls.read(&format!("{field}.tls")).map(Arc::new);
        let outlier = |o: &Ejection<'_>| o.read(&format!("{field}.outlierDetection"), scope);
        let outlier_detection = self.outlier_detection.as_ref().map(outlier);
        let pool = self.connection_pool.as_ref();
        let pool = pool.map(|p| p.read(&format!("{field}.connectionPool"), scope));
        let balancer = self.load_balancer.as_ref();
        let balancer = balancer.map(|b| b.read(&format!("{field}.loadBalancer"), scope));
        let retry_budget = self.retry_budget.as_ref();
        Ok(PolicySettings {
            outlier_detection,
            connection_pool: pool.transpose()?,
            load_balancer: balancer.transpose()?,
            tls: self.tls.as_ref().map(tls).transpose()?,
            retry_budget: retry_budget.map(|b| b.read(&format!("{field}.retryBudget"), scope)),
        })
    }
}

impl Ejection<'_> {
    pub(in crate::manifest) fn read(&self, field: &str, scope: &mut Scope<'_>) -> OutlierDetection {
        let codes = self.outlier_detection_http_error_codes.iter();
        OutlierDetection {
            consecutive_5xx: self.consecutive5xx_errors.set(),
            consecutive_gateway_errors: self.consecutive_gateway_errors.set(),
            split_local_origin: self.split_external_local_origin_errors.unwrap_or_default(),
            consecutive_local_origin: self.consecutive_local_origin_failures.set(),
            interval: span(&self.interval, || format!("{field}.interval"), scope),
            base_ejection_time: span(
                &self.base_ejection_time,
                || format!("{field}.baseEjectionTime"),
                scope,
            ),
            max_ejection_percent: self.max_ejection_percent.positive().unwrap_or_default(),
            min_health_percent: self.min_health_percent.positive().unwrap_or_default(),
            http_error_codes: codes.filter_map(|code| code.positive()).collect(),
        }
    }
}

impl Pool<'_> {
    pub(in crate::manifest) fn read(
        &self,
        field: &str,
        scope: &mut Scope<'_>,
    ) -> Result<ConnectionPool, Problem> {
        let mut pool = ConnectionPool::default();
        if let Some(tcp) = &self.tcp {
            tcp.fill(&mut pool, &format!("{field}.tcp"), scope);
        }
        if let Some(http) = &self.http {
            http.fill(&mut pool, &format!("{field}.http"), scope)?;
        }
        Ok(pool)
    }
}

impl OfBytes<'_> {
    fn fill(&self, pool: &mut ConnectionPool, field: &str, scope: &mut Scope<'_>) {
        let mut time =
            |name: &str, text: &Text<'_>| span(text, || format!("{field}.{name}"), scope);
        pool.connect_timeout = time("connectTimeout", &self.connect_timeout);
        pool.tcp_idle_timeout = time("idleTimeout", &self.idle_timeout);
        pool.max_connection_duration = time("maxConnectionDuration", &self.max_connection_duration);
        pool.max_connections = self.max_connections.positive();
        let keepalive = self.tcp_keepalive.as_ref();
        pool.tcp_keepalive = keepalive.map(|k| k.read(&format!("{field}.tcpKeepalive"), scope));
    }
}

impl Keepalive<'_> {
    pub(in crate::manifest) fn read(&self, field: &str, scope: &mut Scope<'_>) -> TcpKeepalive {
        TcpKeepalive {
            probes: self.probes.positive(),
            time: span(&self.time, || format!("{field}.time"), scope),
            interval: span(&self.interval, || format!("{field}.interval"), scope),
        }
    }
}

impl OfRequests<'_> {
    fn fill(
        &self,
        pool: &mut ConnectionPool,
        field: &str,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let upgrade = format!("{field}.h2UpgradePolicy");
        pool.max_pending_requests = self.http1_max_pending_requests.positive();
        pool.max_requests = self.http2_max_requests.positive();
        pool.max_requests_per_connection = self.max_requests_per_connection.positive();
        pool.max_retries = self.max_retries.positive();
        pool.h2_upgrade = one_of(&upgrade, &self.h2_upgrade_policy, H2_UPGRADES)?;
        pool.use_client_protocol = self.use_client_protocol.unwrap_or_default();
        pool.max_concurrent_streams = self.max_concurrent_streams.positive();
        let mut time =
            |name: &str, text: &Text<'_>| span(text, || format!("{field}.{name}"), scope);
        pool.idle_timeout = time("idleTimeout", &self.idle_timeout);
        pool.http2_keepalive = self.http2_keepalive.as_ref().map(|pings| {
            let interval = time("http2KeepAlive.interval", &pings.interval);
            (interval, time("http2KeepAlive.timeout", &pings.timeout))
        });
        Ok(())
    }
}

impl RetryRule<'_> {
    fn read(&self, field: &str, scope: &mut Scope<'_>) -> RetryBudget {
        RetryBudget {
            percent: self.percent,
            interval: span(
                &self.budget_interval,
                || format!("{field}.budgetInterval"),
                scope,
            ),
            min_concurrency: self.min_retry_concurrency.positive().unwrap_or_default(),
        }
    }
}

/// A duration; one that cannot be read counts as unset.
pub(super) fn span(
    text: &str,
    field: impl Fn() -> String,
    scope: &mut Scope<'_>,
) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let read = parse_duration(text);
    if read.is_none() {
        let reason = format!("{text:?} is not a duration; write it as 1.5s or 1m");
        scope.left_out.push(Problem::new(field(), reason));
    }
    read
}
