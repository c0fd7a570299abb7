//! Traffic policies: what a `DestinationRule` changes of a cluster.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            OutlierDetection as EnvoyOutlierDetection,
            cluster::{
                DiscoveryType, LbConfig, LbPolicy, RingHashLbConfig,
                common_lb_config::{
                    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
                },
            },
        },
        core::v3::HttpProtocolOptions as Common,
    },
    r#type::v3::Percent,
};
use envoy_types::pb::google::protobuf::UInt64Value;

use super::draft::Draft;
use crate::mesh::ServiceState;
use crate::model::{
    ConnectionPool, Features, LocalityLb, OutlierDetection, PolicySettings, Service,
    TrafficDistribution,
};
use crate::xds::pb;

/// Applies `policy` to an outbound cluster of `state`.
pub(super) fn apply(draft: &mut Draft, state: &ServiceState, policy: &PolicySettings) {
    apply_pool(draft, policy.connection_pool.as_ref());
    if let Some(outlier) = &policy.outlier_detection {
        apply_outlier(draft, state, outlier);
    }
    let common = draft.common_lb();
    if common.healthy_panic_threshold.is_none() && sends_unready(&state.service, &state.features) {
        // In panic mode Envoy would call pods that are not ready.
        common.healthy_panic_threshold = Some(Percent { value: 0.0 });
    }
    common.locality_config_specifier = locality_config(state, policy);
    apply_algorithm(draft, policy);
}

/// Applies limits and time-outs, the part that inbound clusters take too.
pub(super) fn apply_pool(draft: &mut Draft, pool: Option<&ConnectionPool>) {
    let mut thresholds = Draft::unlimited();
    let Some(pool) = pool else {
        return draft.limit(thresholds);
    };
    // istiod: 0 stands for unset.
    let set = |to: &mut Option<_>, from: Option<u32>| {
        if let Some(value) = from.filter(|v| *v > 0) {
            *to = pb::uint(value);
        }
    };
    set(&mut thresholds.max_connections, pool.max_connections);
    set(
        &mut thresholds.max_pending_requests,
        pool.max_pending_requests,
    );
    set(&mut thresholds.max_requests, pool.max_requests);
    set(&mut thresholds.max_retries, pool.max_retries);
    draft.limit(thresholds);
    if let Some(timeout) = pool.connect_timeout {
        draft.cluster.connect_timeout = pb::duration(timeout);
    }
    let mut common = Common {
        idle_timeout: pool.idle_timeout.and_then(pb::duration),
        ..Common::default()
    };
    set(
        &mut common.max_requests_per_connection,
        pool.max_requests_per_connection,
    );
    if common != Common::default() {
        draft.http = Some(common);
    }
}

fn apply_outlier(draft: &mut Draft, state: &ServiceState, outlier: &OutlierDetection) {
    let enforce = |count: Option<u32>| count.and_then(|n| pb::uint(if n > 0 { 100 } else { 0 }));
    let count = |count: Option<u32>| count.and_then(pb::uint);
    let time = |time: Option<Duration>| time.and_then(pb::duration);
    let mut out = EnvoyOutlierDetection {
        // istiod never ejects by success rate.
        enforcing_success_rate: pb::uint(0),
        consecutive_5xx: count(outlier.consecutive_5xx),
        enforcing_consecutive_5xx: enforce(outlier.consecutive_5xx),
        consecutive_gateway_failure: count(outlier.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: enforce(outlier.consecutive_gateway_errors),
        interval: time(outlier.interval),
        base_ejection_time: time(outlier.base_ejection_time),
        max_ejection_percent: Some(outlier.max_ejection_percent)
            .filter(|p| *p > 0)
            .and_then(pb::uint),
        ..EnvoyOutlierDetection::default()
    };
    if outlier.split_local_origin {
        let failures = outlier.consecutive_local_origin.filter(|n| *n > 0);
        out.split_external_local_origin_errors = true;
        out.consecutive_local_origin_failure = count(failures);
        out.enforcing_consecutive_local_origin_failure = enforce(failures);
        out.enforcing_local_origin_success_rate = pb::uint(0);
    }
    draft.cluster.outlier_detection = Some(out);
    let percent = if forces_unready(&state.service, &state.features) {
        0
    } else {
        outlier.min_health_percent
    };
    let value = f64::from(percent);
    draft.common_lb().healthy_panic_threshold = Some(Percent { value });
}

/// istiod: `SupportsUnhealthyEndpoints`.
fn sends_unready(service: &Service, features: &Features) -> bool {
    features.auto_send_unhealthy || forces_unready(service, features)
}

/// istiod: `ForcesSupportUnhealthyEndpoints`.
fn forces_unready(service: &Service, features: &Features) -> bool {
    features.send_unhealthy || service.distribution != TrafficDistribution::Any
}

/// How Envoy weighs localities. Weighing by locality is asked for only where
/// endpoint answers have weights or priorities: it changes what `LEAST_REQUEST`
/// does (istiod: `LocalityLBSettings.ApplyToCluster`).
fn locality_config(
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

fn apply_algorithm(draft: &mut Draft, policy: &PolicySettings) {
    if draft.discovery == DiscoveryType::OriginalDst {
        draft.cluster.set_lb_policy(LbPolicy::ClusterProvided);
        return;
    }
    let lb = policy.load_balancer.as_ref();
    let algorithm = match lb.and_then(|lb| lb.simple.as_deref()) {
        Some("ROUND_ROBIN") => LbPolicy::RoundRobin,
        Some("RANDOM") => LbPolicy::Random,
        _ => LbPolicy::LeastRequest,
    };
    draft.cluster.set_lb_policy(algorithm);
    if lb.is_some_and(|lb| lb.consistent_hash) {
        draft.cluster.set_lb_policy(LbPolicy::RingHash);
        let ring = RingHashLbConfig {
            // istiod's floor, so that few endpoints still spread evenly.
            minimum_ring_size: Some(UInt64Value { value: 1024 }),
            ..RingHashLbConfig::default()
        };
        draft.cluster.lb_config = Some(LbConfig::RingHashLbConfig(ring));
    }
}
