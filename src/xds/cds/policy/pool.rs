//! `connectionPool`: limits and times.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            UpstreamConnectionOptions,
            circuit_breakers::{Thresholds, thresholds::RetryBudget as EnvoyBudget},
        },
        core::v3::{
            HttpProtocolOptions as Common, KeepaliveSettings, TcpKeepalive as EnvoyKeepalive,
        },
    },
    r#type::v3::Percent,
};

use super::Draft;
use crate::model::{
    ConnectionPool, MeshConfig, PolicySettings, RetryBudget, ServicePort, TcpKeepalive,
};
use crate::xds::cds::draft::Upstream;
use crate::xds::pb;

/// Whether a cluster that would speak HTTP/1.1 speaks HTTP/2 (istiod:
/// `shouldH2Upgrade`): the rule decides for any port, the mesh for those that
/// are declared as HTTP.
pub(super) fn upgrades(
    pool: Option<&ConnectionPool>,
    port: Option<&ServicePort>,
    mesh: &MeshConfig,
) -> bool {
    let of_mesh = || mesh.h2_upgrade && port.is_none_or(|port| port.protocol.is_http());
    match pool {
        Some(pool) if pool.use_client_protocol => false,
        Some(pool) => pool.h2_upgrade.unwrap_or_else(of_mesh),
        None => of_mesh(),
    }
}

/// Applies limits and time-outs, the part that inbound clusters take too.
pub(in crate::xds::cds) fn apply_pool(
    draft: &mut Draft,
    mesh: &MeshConfig,
    policy: &PolicySettings,
) {
    let pool = policy.connection_pool.as_ref();
    let mut thresholds = pool.map_or_else(Draft::unlimited, limits);
    thresholds.retry_budget = policy.retry_budget.as_ref().map(retry_budget);
    draft.limit(thresholds);
    keep_alive(draft, mesh.tcp_keepalive.as_ref());
    let Some(pool) = pool else {
        return;
    };
    keep_alive(draft, pool.tcp_keepalive.as_ref());
    if let Some(timeout) = pool.connect_timeout {
        draft.cluster.connect_timeout = pb::duration(timeout);
    }
    let idle_timeout = pool.idle_timeout.or(pool.tcp_idle_timeout);
    let common = Common {
        idle_timeout: idle_timeout.and_then(pb::duration),
        max_connection_duration: pool.max_connection_duration.and_then(pb::duration),
        max_requests_per_connection: limit(pool.max_requests_per_connection),
        ..Common::default()
    };
    if common != Common::default() {
        draft.http = Some(common);
    }
    if draft.upstream == Upstream::Http2 {
        draft.http2.max_concurrent_streams = limit(pool.max_concurrent_streams);
        draft.http2.connection_keepalive =
            pool.http2_keepalive
                .map(|(interval, timeout)| KeepaliveSettings {
                    interval: interval.and_then(pb::duration),
                    timeout: timeout.and_then(pb::duration),
                    ..KeepaliveSettings::default()
                });
    }
    if pool.use_client_protocol {
        draft.upstream = Upstream::AsDownstream;
    }
}

/// istiod: 0 stands for unset.
fn limit(value: Option<u32>) -> Option<envoy_types::pb::google::protobuf::UInt32Value> {
    value.filter(|v| *v > 0).and_then(pb::uint)
}

fn limits(pool: &ConnectionPool) -> Thresholds {
    let open = Draft::unlimited();
    Thresholds {
        max_connections: limit(pool.max_connections).or(open.max_connections),
        max_pending_requests: limit(pool.max_pending_requests).or(open.max_pending_requests),
        max_requests: limit(pool.max_requests).or(open.max_requests),
        max_retries: limit(pool.max_retries).or(open.max_retries),
        ..open
    }
}

fn retry_budget(budget: &RetryBudget) -> EnvoyBudget {
    // istiod's defaults: a fifth, and three at any time.
    let value = budget.percent.unwrap_or(20.0);
    let least = Some(budget.min_concurrency).filter(|n| *n > 0).unwrap_or(3);
    EnvoyBudget {
        budget_percent: Some(Percent { value }),
        budget_interval: budget.interval.and_then(pb::duration),
        min_retry_concurrency: pb::uint(least),
    }
}

/// Sets what `keepalive` names, over what the mesh set before.
fn keep_alive(draft: &mut Draft, keepalive: Option<&TcpKeepalive>) {
    let Some(keepalive) = keepalive else {
        return;
    };
    let options = &mut draft.cluster.upstream_connection_options;
    let options = options.get_or_insert_with(UpstreamConnectionOptions::default);
    // Without any field the system's own times hold.
    let set = options
        .tcp_keepalive
        .get_or_insert_with(EnvoyKeepalive::default);
    let seconds = |time: std::time::Duration| {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        pb::uint(seconds)
    };
    if let Some(probes) = keepalive.probes {
        set.keepalive_probes = pb::uint(probes);
    }
    if let Some(time) = keepalive.time {
        set.keepalive_time = seconds(time);
    }
    if let Some(interval) = keepalive.interval {
        set.keepalive_interval = seconds(interval);
    }
}
