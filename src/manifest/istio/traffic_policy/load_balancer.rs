//! `loadBalancer`.

use std::sync::Arc;

use serde::Deserialize;

use super::span;
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Map, Text},
};
use crate::model::{
    ConsistentHash, Distribute, Failover, HashKey, HashTable, LoadBalancer, LocalityLb, Warmup,
    ZoneAwareLb,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Balancer<'a> {
    simple: Text<'a>,
    consistent_hash: Option<HashRule<'a>>,
    warmup: Option<WarmupRule<'a>>,
    warmup_duration_secs: Text<'a>,
    locality_lb_setting: Option<Locality<'a>>,
    zone_aware_lb_setting: Option<ZoneAware<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct HashRule<'a> {
    http_header_name: Text<'a>,
    http_cookie: Option<Cookie<'a>>,
    use_source_ip: Option<bool>,
    http_query_parameter_name: Text<'a>,
    minimum_ring_size: Int,
    ring_hash: Option<Ring>,
    maglev: Option<Maglev>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Cookie<'a> {
    name: Text<'a>,
    path: Text<'a>,
    ttl: Text<'a>,
    attributes: List<Attribute<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Attribute<'a> {
    name: Text<'a>,
    value: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ring {
    minimum_ring_size: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Maglev {
    table_size: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct WarmupRule<'a> {
    duration: Text<'a>,
    minimum_percent: Option<f64>,
    aggression: Option<f64>,
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

impl Balancer<'_> {
    pub(super) fn read(&self, field: &str, scope: &mut Scope<'_>) -> Result<LoadBalancer, Problem> {
        let simple = self.simple.filled().filter(|text| *text != "UNSPECIFIED");
        let hash = self.consistent_hash.as_ref();
        let hash = hash.map(|hash| hash.read(&format!("{field}.consistentHash"), scope));
        Ok(LoadBalancer {
            simple: simple.map(Arc::from),
            consistent_hash: hash.transpose()?,
            warmup: self.warmup(field, scope),
            locality: self.locality_lb_setting.as_ref().map(Locality::read),
            zone_aware: self.zone_aware_lb_setting.as_ref().map(ZoneAware::read),
        })
    }

    fn warmup(&self, field: &str, scope: &mut Scope<'_>) -> Option<Warmup> {
        let (text, name, ramp) = match &self.warmup {
            Some(rule) => {
                // istiod: linear, from Envoy's own least share.
                let ramp = (
                    rule.aggression.unwrap_or(1.0),
                    rule.minimum_percent.unwrap_or(10.0),
                );
                (&rule.duration, "warmup.duration", Some(ramp))
            }
            None => (&self.warmup_duration_secs, "warmupDurationSecs", None),
        };
        let duration = span(text, || format!("{field}.{name}"), scope)?;
        Some(Warmup { duration, ramp })
    }
}

impl HashRule<'_> {
    fn read(&self, field: &str, scope: &mut Scope<'_>) -> Result<ConsistentHash, Problem> {
        let key = if let Some(name) = self.http_header_name.filled() {
            Some(HashKey::Header(Arc::from(name)))
        } else if let Some(cookie) = &self.http_cookie {
            Some(cookie.read(&format!("{field}.httpCookie"), scope)?)
        } else if let Some(used) = self.use_source_ip {
            Some(HashKey::SourceIp(used))
        } else {
            let name = self.http_query_parameter_name.filled();
            name.map(|name| HashKey::Query(Arc::from(name)))
        };
        let size = |size: Int| {
            let size = size.0.and_then(|n| u64::try_from(n).ok());
            size.unwrap_or_default()
        };
        let table = match (&self.maglev, &self.ring_hash) {
            (Some(maglev), _) => HashTable::Maglev(size(maglev.table_size)),
            (None, Some(ring)) => HashTable::Ring(size(ring.minimum_ring_size)),
            (None, None) => HashTable::Unset(size(self.minimum_ring_size)),
        };
        Ok(ConsistentHash { key, table })
    }
}

impl Cookie<'_> {
    fn read(&self, field: &str, scope: &mut Scope<'_>) -> Result<HashKey, Problem> {
        if self.name.is_empty() {
            let reason = "is missing; name the cookie that is hashed";
            return Err(Problem::new(format!("{field}.name"), reason));
        }
        let attribute = |a: &Attribute<'_>| (a.name.arc(), a.value.arc());
        Ok(HashKey::Cookie {
            name: self.name.arc(),
            path: self.path.arc(),
            ttl: span(&self.ttl, || format!("{field}.ttl"), scope),
            attributes: self.attributes.iter().map(attribute).collect(),
        })
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
