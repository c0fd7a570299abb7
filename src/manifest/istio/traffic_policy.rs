//! `trafficPolicy` of a `DestinationRule`, and the load balancing settings
//! that it shares with the mesh configuration.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, de::IgnoredAny};

use super::client_tls::Tls;
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Map, Text},
};
use crate::model::{
    ConnectionPool, Distribute, Failover, LoadBalancer, LocalityLb, OutlierDetection,
    PolicySettings, TrafficPolicy, ZoneAwareLb, parse_duration,
};

/// A policy, or one entry of its `portLevelSettings`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Policy<'a> {
    port: Option<PortSelector>,
    port_level_settings: List<Policy<'a>>,
    load_balancer: Option<Balancer<'a>>,
    outlier_detection: Option<Outlier<'a>>,
    tls: Option<Tls<'a>>,
    connection_pool: Option<Pool<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PortSelector {
    number: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Balancer<'a> {
    simple: Text<'a>,
    consistent_hash: Option<IgnoredAny>,
    locality_lb_setting: Option<Locality<'a>>,
    zone_aware_lb_setting: Option<ZoneAware<'a>>,
}

/// `localityLbSetting`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct Locality<'a> {
    enabled: Option<bool>,
    distribute: List<DistributeRule<'a>>,
    failover: List<FailoverRule<'a>>,
    failover_priority: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct DistributeRule<'a> {
    from: Text<'a>,
    to: Map<'a, Int>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct FailoverRule<'a> {
    from: Text<'a>,
    to: Text<'a>,
}

/// `zoneAwareLbSetting`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct ZoneAware<'a> {
    enabled: Option<bool>,
    failover: List<FailoverRule<'a>>,
    failover_priority: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Outlier<'a> {
    consecutive5xx_errors: Int,
    consecutive_gateway_errors: Int,
    split_external_local_origin_errors: Option<bool>,
    consecutive_local_origin_failures: Int,
    interval: Text<'a>,
    base_ejection_time: Text<'a>,
    max_ejection_percent: Int,
    min_health_percent: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Pool<'a> {
    tcp: Option<Tcp<'a>>,
    http: Option<Http<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Tcp<'a> {
    max_connections: Int,
    connect_timeout: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Http<'a> {
    http1_max_pending_requests: Int,
    http2_max_requests: Int,
    max_requests_per_connection: Int,
    max_retries: Int,
    idle_timeout: Text<'a>,
}

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
            ports.push((port?, entry.settings(&field, scope)?));
        }
        Ok(TrafficPolicy { base, ports })
    }

    fn settings(&self, field: &str, scope: &mut Scope<'_>) -> Result<PolicySettings, Problem> {
        let tls = |tls: &Tls<'_>| tls.read(&format!("{field}.tls")).map(Arc::new);
        let outlier = |o: &Outlier<'_>| o.read(&format!("{field}.outlierDetection"), scope);
        let outlier_detection = self.outlier_detection.as_ref().map(outlier);
        let pool = |p: &Pool<'_>| p.read(&format!("{field}.connectionPool"), scope);
        Ok(PolicySettings {
            outlier_detection,
            connection_pool: self.connection_pool.as_ref().map(pool),
            load_balancer: self.load_balancer.as_ref().map(Balancer::read),
            tls: self.tls.as_ref().map(tls).transpose()?,
        })
    }
}

impl Balancer<'_> {
    fn read(&self) -> LoadBalancer {
        let simple = self.simple.filled().filter(|text| *text != "UNSPECIFIED");
        LoadBalancer {
            simple: simple.map(Arc::from),
            consistent_hash: self.consistent_hash.is_some(),
            locality: self.locality_lb_setting.as_ref().map(Locality::read),
            zone_aware: self.zone_aware_lb_setting.as_ref().map(ZoneAware::read),
        }
    }
}

impl Locality<'_> {
    pub(in crate::manifest) fn read(&self) -> LocalityLb {
        let distribute = self.distribute.iter().map(|rule| {
            let to = rule.to.iter();
            let to =
                to.map(|(pattern, percent)| (pattern.arc(), percent.set().unwrap_or_default()));
            let mut to: Vec<(Arc<str>, u32)> = to.collect();
            to.sort();
            Distribute {
                from: rule.from.arc(),
                to,
            }
        });
        LocalityLb {
            enabled: self.enabled,
            distribute: distribute.collect(),
            failover: failover(&self.failover),
            failover_priority: self.failover_priority.iter().map(Text::arc).collect(),
        }
    }
}

impl ZoneAware<'_> {
    pub(in crate::manifest) fn read(&self) -> ZoneAwareLb {
        ZoneAwareLb {
            enabled: self.enabled,
            failover: failover(&self.failover),
            failover_priority: self.failover_priority.iter().map(Text::arc).collect(),
        }
    }
}

fn failover(rules: &[FailoverRule<'_>]) -> Vec<Failover> {
    let rules = rules.iter().map(|rule| Failover {
        from: rule.from.arc(),
        to: rule.to.arc(),
    });
    rules.collect()
}

impl Outlier<'_> {
    fn read(&self, field: &str, scope: &mut Scope<'_>) -> OutlierDetection {
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
        }
    }
}

impl Pool<'_> {
    fn read(&self, field: &str, scope: &mut Scope<'_>) -> ConnectionPool {
        let tcp = self.tcp.as_ref();
        let http = self.http.as_ref();
        let connect = tcp.map(|t| &*t.connect_timeout).unwrap_or_default();
        let idle = http.map(|h| &*h.idle_timeout).unwrap_or_default();
        ConnectionPool {
            max_connections: tcp.and_then(|t| t.max_connections.positive()),
            connect_timeout: span(connect, || format!("{field}.tcp.connectTimeout"), scope),
            max_pending_requests: http.and_then(|h| h.http1_max_pending_requests.positive()),
            max_requests: http.and_then(|h| h.http2_max_requests.positive()),
            max_requests_per_connection: http
                .and_then(|h| h.max_requests_per_connection.positive()),
            max_retries: http.and_then(|h| h.max_retries.positive()),
            idle_timeout: span(idle, || format!("{field}.http.idleTimeout"), scope),
        }
    }
}

/// A duration; one that cannot be read counts as unset.
fn span(text: &str, field: impl Fn() -> String, scope: &mut Scope<'_>) -> Option<Duration> {
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
