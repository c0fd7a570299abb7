//! `loadBalancer`: how endpoints are picked.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::cluster::{
            DiscoveryType, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig,
            RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
            common_lb_config::{
                LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
            },
        },
        core::v3::RuntimeDouble,
    },
    r#type::v3::Percent,
};
use envoy_types::pb::google::protobuf::UInt64Value;

use super::Draft;
use crate::mesh::ServiceState;
use crate::model::{
    HashTable, LoadBalancer, LocalityLb, PolicySettings, TrafficDistribution, Warmup,
};
use crate::xds::pb;

/// istiod's ring where the rule chooses none, so that few endpoints still
/// spread evenly.
const RING: u64 = 1024;

/// How Envoy weighs localities. Weighing by locality is asked for only where
/// endpoint answers have weights or priorities: it changes what `LEAST_REQUEST`
/// does (istiod: `LocalityLBSettings.ApplyToCluster`).
pub(super) fn locality_config(
    state: &ServiceState,
    policy: &PolicySettings,
) -> Option<LocalityConfigSpecifier> {
    let weighted =
        || LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default());
    let zone_aware = |enabled: Option<bool>| {
        let routing_enabled = (enabled == Some(false)).then_some(Percent { value: 0.0 });
        LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
            routing_enabled,
            ..ZoneAwareLbConfig::default()
        })
    };
    let lb = policy.load_balancer.as_ref();
    if let Some(setting) = lb.and_then(|lb| lb.zone_aware.as_ref()) {
        return Some(zone_aware(setting.enabled));
    }
    let has_outliers = policy.outlier_detection.is_some();
    let always = state.features.locality_weighted_lb.then(weighted);
    let by = |setting: &LocalityLb| {
        let disabled = setting.enabled == Some(false);
        let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
        let weighs = !setting.distribute.is_empty() || (has_outliers && fails_over);
        (!disabled && weighs).then(weighted)
    };
    let own = match lb.and_then(|lb| lb.locality.as_ref()) {
        Some(setting) => by(setting),
        None if state.service.distribution != TrafficDistribution::Any => Some(weighted()),
        None => match &state.mesh.zone_aware {
            Some(setting) => return Some(zone_aware(setting.enabled)),
            None => by(&state.mesh.locality_lb),
        },
    };
    own.or(always)
}

/// Sets how endpoints are picked.
pub(super) fn apply(draft: &mut Draft, lb: Option<&LoadBalancer>) {
    if draft.discovery == DiscoveryType::OriginalDst {
        draft.cluster.set_lb_policy(LbPolicy::ClusterProvided);
        return;
    }
    let slow_start = lb.and_then(|lb| lb.warmup.as_ref()).map(slow_start);
    let (algorithm, config) = match lb.and_then(|lb| lb.simple.as_deref()) {
        Some("ROUND_ROBIN") => {
            let config = slow_start.map(|slow| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow),
                })
            });
            (LbPolicy::RoundRobin, config)
        }
        Some("RANDOM") => (LbPolicy::Random, None),
        _ => {
            let config = slow_start.map(|slow| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
    };
    draft.cluster.set_lb_policy(algorithm);
    draft.cluster.lb_config = config;
    if let Some(hash) = lb.and_then(|lb| lb.consistent_hash.as_ref()) {
        let (algorithm, config) = by_hash(hash.table);
        draft.cluster.set_lb_policy(algorithm);
        // istiod leaves a warm-up's settings where the table has none of its
        // own; Envoy refuses settings of another algorithm.
        draft.cluster.lb_config = config;
    }
}

fn by_hash(table: HashTable) -> (LbPolicy, Option<LbConfig>) {
    let size = |value: u64| (value > 0).then_some(UInt64Value { value });
    let ring = |minimum_ring_size| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(minimum_ring_size),
            ..RingHashLbConfig::default()
        })
    };
    match table {
        HashTable::Maglev(cells) => {
            let config = size(cells).map(|cells| {
                LbConfig::MaglevLbConfig(MaglevLbConfig {
                    table_size: Some(cells),
                })
            });
            (LbPolicy::Maglev, config)
        }
        HashTable::Ring(least) => (LbPolicy::RingHash, size(least).map(ring)),
        HashTable::Unset(least) => {
            let least = size(least).unwrap_or(UInt64Value { value: RING });
            (LbPolicy::RingHash, Some(ring(least)))
        }
    }
}

fn slow_start(warmup: &Warmup) -> SlowStartConfig {
    let mut config = SlowStartConfig {
        slow_start_window: pb::duration(warmup.duration),
        ..SlowStartConfig::default()
    };
    if let Some((aggression, least)) = warmup.ramp {
        config.aggression = Some(RuntimeDouble {
            default_value: aggression,
            // Envoy wants a key; nobody sets this one (istiod's).
            runtime_key: "(".to_owned(),
        });
        config.min_weight_percent = Some(Percent { value: least });
    }
    config
}
