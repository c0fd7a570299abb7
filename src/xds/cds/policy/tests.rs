use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{LbConfig, LbPolicy},
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options::UpstreamProtocolOptions,
    http_protocol_options::explicit_http_config::ProtocolConfig,
};
use prost::Message;

use crate::mesh::MeshState;
use crate::model::{
    ConnectionPool, ConsistentHash, HashKey, HashTable, LoadBalancer, LocalityLb, MeshConfig,
    OutlierDetection, PolicySettings, Protocol, RetryBudget, TcpKeepalive, TrafficDistribution,
    TypeUrl, Warmup,
};
use crate::testing::snapshot::{ServiceBuilder, service, sidecar, snapshot_of};
use crate::xds::tests::{named, resources};

const WEB: &str = "outbound|80||web.ns.svc.cluster.local";

fn web(protocol: Protocol) -> ServiceBuilder {
    service("web", "ns").port("p", 80, protocol)
}

fn built(mesh: MeshConfig, service: ServiceBuilder) -> Cluster {
    let mesh = MeshState {
        config: Arc::new(mesh),
        ..MeshState::default()
    };
    let snapshot = snapshot_of(mesh, [service]);
    named(&resources(&snapshot, sidecar("ns")), TypeUrl::Cluster, WEB)
}

/// The cluster of an HTTP service with this policy.
fn with(settings: PolicySettings) -> Cluster {
    built(
        MeshConfig::default(),
        web(Protocol::Http).rule(settings, &[]),
    )
}

fn pool(pool: ConnectionPool) -> PolicySettings {
    PolicySettings {
        connection_pool: Some(pool),
        ..PolicySettings::default()
    }
}

fn balanced(lb: LoadBalancer) -> PolicySettings {
    PolicySettings {
        load_balancer: Some(lb),
        ..PolicySettings::default()
    }
}

fn ejecting(outlier: OutlierDetection) -> PolicySettings {
    PolicySettings {
        outlier_detection: Some(outlier),
        ..PolicySettings::default()
    }
}

fn options(cluster: &Cluster) -> Option<HttpProtocolOptions> {
    let all = &cluster.typed_extension_protocol_options;
    let any = all.get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")?;
    Some(HttpProtocolOptions::decode(any.value.as_slice()).expect("options"))
}

/// `1`, `2` or `as downstream`.
fn version(cluster: &Cluster) -> &'static str {
    match options(cluster).and_then(|o| o.upstream_protocol_options) {
        None => "1",
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => "2",
            _ => "1",
        },
        Some(_) => "as downstream",
    }
}

#[test]
fn times_of_connections_are_kept() {
    let seconds = |n| Some(Duration::from_secs(n));
    let of = |http, tcp| {
        let made = with(pool(ConnectionPool {
            idle_timeout: http,
            tcp_idle_timeout: tcp,
            max_connection_duration: seconds(60),
            ..ConnectionPool::default()
        }));
        let common = options(&made).and_then(|o| o.common_http_protocol_options);
        let common = common.expect("times");
        assert_eq!(common.max_connection_duration.map(|d| d.seconds), Some(60));
        common.idle_timeout.map(|d| d.seconds)
    };
    assert_eq!(of(seconds(5), seconds(7)), Some(5));
    assert_eq!(of(None, seconds(7)), Some(7));
    assert_eq!(of(None, None), None);
}

#[test]
fn keepalive_of_the_rule_stands_over_the_meshs_field_by_field() {
    let keepalive = |probes, time| TcpKeepalive {
        probes,
        time,
        interval: None,
    };
    let mesh = |set| MeshConfig {
        tcp_keepalive: set,
        ..MeshConfig::default()
    };
    let of_mesh = Some(keepalive(Some(3), Some(Duration::from_secs(10))));
    let plain = built(mesh(of_mesh.clone()), web(Protocol::Tcp));
    let set = plain
        .upstream_connection_options
        .and_then(|o| o.tcp_keepalive);
    let set = set.expect("keepalive");
    assert_eq!(set.keepalive_probes.map(|n| n.value), Some(3));

    let rule = pool(ConnectionPool {
        tcp_keepalive: Some(keepalive(None, Some(Duration::from_secs(20)))),
        ..ConnectionPool::default()
    });
    let both = built(mesh(of_mesh), web(Protocol::Tcp).rule(rule, &[]));
    let set = both
        .upstream_connection_options
        .and_then(|o| o.tcp_keepalive);
    let set = set.expect("keepalive");
    assert_eq!(set.keepalive_probes.map(|n| n.value), Some(3));
    assert_eq!(set.keepalive_time.map(|n| n.value), Some(20));
    let none = built(mesh(None), web(Protocol::Tcp));
    assert_eq!(none.upstream_connection_options, None);
}

#[test]
fn http2_is_spoken_where_the_rule_or_the_mesh_says() {
    let of = |mesh, rule: Option<bool>, client, protocol| {
        let settings = pool(ConnectionPool {
            h2_upgrade: rule,
            use_client_protocol: client,
            ..ConnectionPool::default()
        });
        let mesh = MeshConfig {
            h2_upgrade: mesh,
            ..MeshConfig::default()
        };
        version(&built(mesh, web(protocol).rule(settings, &[])))
    };
    assert_eq!(of(false, None, false, Protocol::Http), "1");
    assert_eq!(of(false, Some(true), false, Protocol::Http), "2");
    assert_eq!(of(false, Some(true), false, Protocol::Tcp), "2");
    assert_eq!(of(true, None, false, Protocol::Http), "2");
    assert_eq!(of(true, None, false, Protocol::Tcp), "1");
    assert_eq!(of(true, Some(false), false, Protocol::Http), "1");
    assert_eq!(of(true, Some(true), true, Protocol::Http), "as downstream");
    assert_eq!(of(true, Some(true), false, Protocol::Auto), "as downstream");
}

#[test]
fn streams_and_pings_are_settings_of_http2_alone() {
    let of = |protocol| {
        let settings = pool(ConnectionPool {
            max_concurrent_streams: Some(7),
            http2_keepalive: Some((Some(Duration::from_secs(30)), None)),
            ..ConnectionPool::default()
        });
        let made = built(MeshConfig::default(), web(protocol).rule(settings, &[]));
        match options(&made).and_then(|o| o.upstream_protocol_options) {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => {
                match config.protocol_config {
                    Some(ProtocolConfig::Http2ProtocolOptions(http2)) => Some(http2),
                    _ => None,
                }
            }
            _ => None,
        }
    };
    let http2 = of(Protocol::Grpc).expect("HTTP/2");
    assert_eq!(http2.max_concurrent_streams.map(|n| n.value), Some(7));
    let pings = http2.connection_keepalive.and_then(|k| k.interval);
    assert_eq!(pings.map(|i| i.seconds), Some(30));
    assert_eq!(of(Protocol::Http), None);
}

#[test]
fn a_retry_budget_has_istios_defaults() {
    let made = with(PolicySettings {
        retry_budget: Some(RetryBudget {
            percent: None,
            interval: None,
            min_concurrency: 0,
        }),
        ..PolicySettings::default()
    });
    let limits = made.circuit_breakers.expect("limits");
    let budget = limits.thresholds[0]
        .retry_budget
        .as_ref()
        .expect("a budget");
    let percent = budget.budget_percent.map(|p| p.value);
    assert_eq!(percent, Some(20.0));
    assert_eq!(budget.min_retry_concurrency.map(|n| n.value), Some(3));
}

#[test]
fn the_meshs_default_policy_holds_without_a_rule() {
    let default_policy = PolicySettings {
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: Some(9),
            ..OutlierDetection::default()
        }),
        ..pool(ConnectionPool {
            max_retries: Some(7),
            ..ConnectionPool::default()
        })
    };
    let mesh = MeshConfig {
        default_policy,
        ..MeshConfig::default()
    };
    let made = built(mesh, web(Protocol::Http));
    let limits = made.circuit_breakers.expect("limits");
    assert_eq!(limits.thresholds[0].max_retries.map(|n| n.value), Some(7));
    let outlier = made.outlier_detection.expect("ejection");
    assert_eq!(outlier.consecutive_5xx.map(|n| n.value), Some(9));
    // EDS knows no default policy, so there is nowhere to fail over to.
    assert_eq!(outlier.max_ejection_percent, None);
}

#[test]
fn hashing_has_the_table_that_the_rule_chooses() {
    let of = |table| {
        let made = with(balanced(LoadBalancer {
            consistent_hash: Some(ConsistentHash {
                key: Some(HashKey::SourceIp(true)),
                table,
            }),
            ..LoadBalancer::default()
        }));
        let size = match &made.lb_config {
            None => None,
            Some(LbConfig::RingHashLbConfig(ring)) => ring.minimum_ring_size,
            Some(LbConfig::MaglevLbConfig(maglev)) => maglev.table_size,
            other => panic!("{other:?}"),
        };
        (made.lb_policy(), size.map(|s| s.value))
    };
    assert_eq!(of(HashTable::Unset(0)), (LbPolicy::RingHash, Some(1024)));
    assert_eq!(of(HashTable::Unset(5)), (LbPolicy::RingHash, Some(5)));
    assert_eq!(of(HashTable::Ring(0)), (LbPolicy::RingHash, None));
    assert_eq!(of(HashTable::Ring(64)), (LbPolicy::RingHash, Some(64)));
    assert_eq!(of(HashTable::Maglev(0)), (LbPolicy::Maglev, None));
    assert_eq!(of(HashTable::Maglev(7)), (LbPolicy::Maglev, Some(7)));
}

#[test]
fn new_endpoints_warm_up_where_shares_are_even() {
    let of = |simple: &str, ramp| {
        let made = with(balanced(LoadBalancer {
            simple: Some(Arc::from(simple)),
            warmup: Some(Warmup {
                duration: Duration::from_secs(30),
                ramp,
            }),
            ..LoadBalancer::default()
        }));
        match made.lb_config {
            Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config,
            Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config,
            _ => None,
        }
    };
    for simple in ["ROUND_ROBIN", "LEAST_REQUEST"] {
        let slow = of(simple, Some((2.0, 10.0))).expect("a slow start");
        assert_eq!(slow.slow_start_window.map(|w| w.seconds), Some(30));
        assert_eq!(slow.aggression.map(|a| a.default_value), Some(2.0));
        assert_eq!(slow.min_weight_percent.map(|p| p.value), Some(10.0));
    }
    let old = of("ROUND_ROBIN", None).expect("a slow start");
    assert_eq!((old.aggression, old.min_weight_percent), (None, None));
    assert_eq!(of("RANDOM", None), None);
}

#[test]
fn where_ejection_serves_failover_all_endpoints_may_be_ejected() {
    let percent = |settings, change: fn(ServiceBuilder) -> ServiceBuilder| {
        let service = change(web(Protocol::Http).rule(settings, &[]));
        let made = built(MeshConfig::default(), service);
        let outlier = made.outlier_detection.expect("ejection");
        outlier.max_ejection_percent.map(|p| p.value)
    };
    let same = |service: ServiceBuilder| service;
    let plain = || ejecting(OutlierDetection::default());
    assert_eq!(percent(plain(), same), Some(100));
    let chosen = ejecting(OutlierDetection {
        max_ejection_percent: 30,
        ..OutlierDetection::default()
    });
    assert_eq!(percent(chosen, same), Some(30), "what the user sets stays");
    let off = PolicySettings {
        load_balancer: Some(LoadBalancer {
            locality: Some(LocalityLb {
                enabled: Some(false),
                ..LocalityLb::default()
            }),
            ..LoadBalancer::default()
        }),
        ..plain()
    };
    assert_eq!(
        percent(off.clone(), same),
        None,
        "no other locality is tried"
    );
    let near = |service: ServiceBuilder| {
        service.with(|s| s.distribution = TrafficDistribution::PreferSameZone)
    };
    assert_eq!(percent(plain(), near), Some(100));
}

#[test]
fn chosen_answers_count_as_failures() {
    let of = |codes: &[u32]| {
        let made = with(ejecting(OutlierDetection {
            http_error_codes: codes.to_vec(),
            ..OutlierDetection::default()
        }));
        let outlier = options(&made).and_then(|o| o.outlier_detection);
        outlier
            .and_then(|o| o.error_matcher)
            .map(|m| format!("{m:?}"))
    };
    assert_eq!(of(&[]), None);
    assert!(of(&[503]).is_some_and(|m| m.contains("503") && !m.contains("OrMatch")));
    assert!(of(&[500, 429]).is_some_and(|m| m.contains("429") && m.contains("OrMatch")));
}
