use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{
        ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy,
        common_lb_config::LocalityConfigSpecifier,
    },
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options::UpstreamProtocolOptions,
};
use prost::Message;

use crate::mesh::{MeshState, Snapshot, Update};
use crate::model::{
    ConnectionPool, Failover, Features, InterceptionMode, LoadBalancer, LocalityLb, MeshConfig,
    OutlierDetection, PersistentSession, PolicySettings, Protocol, Proxy, Resolution, TargetPort,
    TlsSetting, TrafficDistribution, TypeUrl,
};
use crate::testing::gateways::auto_passthrough;
use crate::testing::snapshot::{
    ServiceBuilder, dialled_sidecar, external, router, service, sidecar, snapshot, snapshot_of,
};
use crate::xds::tests::{decode, named, names, resources};
use std::sync::Arc;

fn web() -> ServiceBuilder {
    service("web", "ns").port("http", 80, Protocol::Http)
}

const WEB: &str = "outbound|80||web.ns.svc.cluster.local";

fn cluster(service: ServiceBuilder, name: &str) -> Cluster {
    let snapshot = snapshot([service]);
    named(&resources(&snapshot, sidecar("ns")), TypeUrl::Cluster, name)
}

fn kind(cluster: &Cluster) -> DiscoveryType {
    match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind).expect("known"),
        other => panic!("{other:?}"),
    }
}

fn http(cluster: &Cluster) -> Option<HttpProtocolOptions> {
    let any = cluster.typed_extension_protocol_options.values().next()?;
    Some(HttpProtocolOptions::decode(any.value.as_slice()).expect("options"))
}

fn list(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Vec<String> {
    names(&resources(snapshot, proxy).all(TypeUrl::Cluster))
}

#[test]
fn a_service_has_one_eds_cluster_per_tcp_port() {
    let web = web()
        .port("dns", 53, Protocol::Udp)
        .port("tcp", 90, Protocol::Tcp);
    let list = list(&snapshot([web]), dialled_sidecar("ns"));
    assert_eq!(
        list,
        [
            "BlackHoleCluster",
            "PassthroughCluster",
            WEB,
            "outbound|90||web.ns.svc.cluster.local"
        ]
    );
    let web = cluster(service("web", "ns").port("http", 80, Protocol::Http), WEB);
    let eds = web.eds_cluster_config.as_ref().expect("EDS");
    assert_eq!((kind(&web), &*eds.service_name), (DiscoveryType::Eds, WEB));
    assert_eq!(web.lb_policy(), LbPolicy::LeastRequest);
    assert_eq!(web.alt_stat_name, format!("{WEB};"));
    assert_eq!(http(&web), None);
}

#[test]
fn every_subset_of_the_rule_has_a_cluster_of_its_own() {
    let rule = PolicySettings::default();
    let list = list(
        &snapshot([web().rule(rule, &["v2", "v1"])]),
        dialled_sidecar("ns"),
    );
    let expected = [
        "BlackHoleCluster",
        "PassthroughCluster",
        "outbound|80|v1|web.ns.svc.cluster.local",
        "outbound|80|v2|web.ns.svc.cluster.local",
        WEB,
    ];
    assert_eq!(list, expected);
}

#[test]
fn a_headless_service_goes_to_its_original_destination_from_sidecars_only() {
    let headless = web().with(|s| s.resolution = Resolution::Passthrough);
    let made = cluster(headless.clone(), WEB);
    assert_eq!(kind(&made), DiscoveryType::OriginalDst);
    assert_eq!(made.lb_policy(), LbPolicy::ClusterProvided);

    let for_router = resources(&snapshot([headless.clone()]), router("ns", "ingress"));
    let made: Cluster = named(&for_router, TypeUrl::Cluster, WEB);
    assert_eq!(kind(&made), DiscoveryType::Eds);

    let features = Features {
        eds_for_headless: true,
        ..Features::default()
    };
    let mesh = MeshState {
        features: Arc::new(features),
        ..MeshState::default()
    };
    let by_flag = resources(&snapshot_of(mesh, [headless]), sidecar("ns"));
    let made: Cluster = named(&by_flag, TypeUrl::Cluster, WEB);
    assert_eq!(kind(&made), DiscoveryType::Eds);
}

#[test]
fn a_passthrough_rule_turns_a_cluster_and_its_subsets_to_the_original_destination() {
    let passthrough = PolicySettings {
        load_balancer: Some(LoadBalancer {
            simple: Some(Arc::from("PASSTHROUGH")),
            ..LoadBalancer::default()
        }),
        ..PolicySettings::default()
    };
    let web = web().rule(passthrough, &["v1"]);
    for name in [WEB, "outbound|80|v1|web.ns.svc.cluster.local"] {
        let made = cluster(web.clone(), name);
        assert_eq!(kind(&made), DiscoveryType::OriginalDst, "{name}");
        assert_eq!(made.eds_cluster_config, None, "{name}");
    }
}

#[test]
fn a_dns_cluster_carries_its_endpoints_and_is_left_out_without_any() {
    let name = "outbound|443||api.example.com";
    let api = external("api.example.com", "ns", Resolution::Dns).port("tls", 443, Protocol::Tls);
    assert!(!list(&snapshot([api.clone()]), sidecar("ns")).contains(&name.to_owned()));

    let api = api
        .endpoint("a.example.com", 443, "tls")
        .endpoint("b.example.com", 443, "tls");
    let made = cluster(api, name);
    assert_eq!(kind(&made), DiscoveryType::StrictDns);
    let endpoints = made.load_assignment.expect("endpoints").endpoints;
    assert_eq!(endpoints[0].lb_endpoints.len(), 2);
    assert_eq!(made.eds_cluster_config, None);
}

#[test]
fn a_logical_dns_cluster_has_exactly_one_endpoint() {
    let name = "outbound|443||api.example.com";
    let api = external("api.example.com", "ns", Resolution::DnsRoundRobin)
        .port("tls", 443, Protocol::Tls)
        .endpoint("a.example.com", 443, "tls")
        .endpoint("b.example.com", 443, "tls");
    let made = cluster(api, name);
    assert_eq!(kind(&made), DiscoveryType::LogicalDns);
    let endpoints = made.load_assignment.expect("endpoints").endpoints;
    assert_eq!((endpoints.len(), endpoints[0].lb_endpoints.len()), (1, 1));
}

#[test]
fn alias_and_wildcard_services_have_no_cluster() {
    let alias = web().with(|s| s.resolution = Resolution::Alias);
    let wildcard =
        external("*.example.com", "ns", Resolution::DynamicDns).port("http", 80, Protocol::Http);
    let list = list(&snapshot([alias, wildcard]), dialled_sidecar("ns"));
    assert_eq!(list, ["BlackHoleCluster", "PassthroughCluster"]);
}

#[test]
fn the_http_version_follows_the_declared_protocol() {
    let of = |protocol| {
        let options = http(&cluster(service("web", "ns").port("p", 80, protocol), WEB));
        options.and_then(|o| o.upstream_protocol_options)
    };
    assert_eq!(of(Protocol::Tcp), None);
    let explicit = |options: &_| matches!(options, UpstreamProtocolOptions::ExplicitHttpConfig(_));
    assert!(of(Protocol::Grpc).is_some_and(|o| explicit(&o)));
    assert!(of(Protocol::Auto).is_some_and(|o| !explicit(&o)), "sniffed");

    let sniffed = snapshot([service("web", "ns").port("p", 80, Protocol::Auto)]);
    let for_router = resources(&sniffed, router("ns", "ingress"));
    let made: Cluster = named(&for_router, TypeUrl::Cluster, WEB);
    assert_eq!(http(&made), None, "gateways do not sniff");
}

#[test]
fn limits_of_the_rule_replace_the_open_ones() {
    let pool = ConnectionPool {
        max_connections: Some(10),
        max_requests: Some(0),
        connect_timeout: Some(Duration::from_millis(1500)),
        max_requests_per_connection: Some(1),
        ..ConnectionPool::default()
    };
    let settings = PolicySettings {
        connection_pool: Some(pool),
        ..PolicySettings::default()
    };
    let made = cluster(web().rule(settings, &[]), WEB);
    let thresholds = &made.circuit_breakers.as_ref().expect("limits").thresholds[0];
    assert_eq!(thresholds.max_connections.map(|v| v.value), Some(10));
    assert_eq!(
        thresholds.max_requests.map(|v| v.value),
        Some(u32::MAX),
        "0 is unset"
    );
    let timeout = made.connect_timeout.expect("a timeout");
    assert_eq!((timeout.seconds, timeout.nanos), (1, 500_000_000));
    let common = http(&made).and_then(|o| o.common_http_protocol_options);
    let per_connection = common.and_then(|c| c.max_requests_per_connection);
    assert_eq!(per_connection.map(|v| v.value), Some(1));
}

#[test]
fn outlier_detection_with_failover_weighs_by_locality_and_never_panics() {
    let failover = LocalityLb {
        failover: vec![Failover {
            from: Arc::from("eu"),
            to: Arc::from("us"),
        }],
        ..LocalityLb::default()
    };
    let settings = |outlier: bool| PolicySettings {
        load_balancer: Some(LoadBalancer {
            locality: Some(failover.clone()),
            ..LoadBalancer::default()
        }),
        outlier_detection: outlier.then(|| OutlierDetection {
            consecutive_5xx: Some(1),
            min_health_percent: 20,
            ..OutlierDetection::default()
        }),
        ..PolicySettings::default()
    };
    let of = |outlier| {
        let made = cluster(web().rule(settings(outlier), &[]), WEB);
        let common = made.common_lb_config.expect("settings");
        let panic = common.healthy_panic_threshold.expect("a threshold").value;
        (
            panic,
            common.locality_config_specifier,
            made.outlier_detection,
        )
    };
    let (panic, locality, outlier) = of(true);
    let weighted = |l| {
        matches!(
            l,
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
        )
    };
    assert!((panic - 20.0).abs() < f64::EPSILON && weighted(locality));
    let outlier = outlier.expect("outlier detection");
    assert_eq!(
        outlier.enforcing_consecutive_5xx.map(|v| v.value),
        Some(100)
    );
    assert_eq!(outlier.enforcing_success_rate.map(|v| v.value), Some(0));
    let (panic, locality, outlier) = of(false);
    assert!(panic.abs() < f64::EPSILON && locality.is_none() && outlier.is_none());
}

#[test]
fn traffic_distribution_weighs_by_locality_without_outlier_detection() {
    let near = web().with(|s| s.distribution = TrafficDistribution::PreferSameZone);
    let common = cluster(near, WEB).common_lb_config.expect("settings");
    assert!(common.locality_config_specifier.is_some());
}

#[test]
fn persistent_sessions_keep_draining_endpoints() {
    let sticky = web().with(|s| s.persistent_session = PersistentSession::Header);
    let common = cluster(sticky, WEB).common_lb_config.expect("settings");
    assert_eq!(
        common.override_host_status.map(|s| s.statuses.len()),
        Some(4)
    );
}

#[test]
fn metadata_names_service_rule_and_subset() {
    let settings = PolicySettings {
        tls: Some(Arc::new(TlsSetting::Simple.into())),
        ..PolicySettings::default()
    };
    let web = web().rule(settings, &["v1"]);
    let made = cluster(web, "outbound|80|v1|web.ns.svc.cluster.local");
    let metadata = made.metadata.expect("metadata");
    let mut fields: Vec<_> = metadata.filter_metadata["istio"].fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["alpn_override", "config", "services", "subset"]);
}

#[test]
fn gateways_that_forward_by_sni_get_a_second_cluster_for_mesh_services() {
    let mesh = MeshState {
        gateways: vec![auto_passthrough("eastwest")],
        ..MeshState::default()
    };
    let outside =
        external("api.example.com", "ns", Resolution::ClientSideLb).port("tls", 443, Protocol::Tls);
    let services = [web().rule(PolicySettings::default(), &["v1"]), outside];
    let snapshot = snapshot_of(mesh, services);
    let expected = [
        "BlackHoleCluster",
        "outbound_.80_._.web.ns.svc.cluster.local",
        "outbound_.80_.v1_.web.ns.svc.cluster.local",
        "outbound|443||api.example.com",
        "outbound|80|v1|web.ns.svc.cluster.local",
        WEB,
    ];
    assert_eq!(list(&snapshot, router("ns", "eastwest")), expected);
    let plain = list(&snapshot, router("ns", "ingress"));
    assert_eq!(plain.len(), 4, "not selected by the Gateway: {plain:?}");
}

#[test]
fn a_sidecar_with_interception_has_a_cluster_per_own_port() {
    let selector = [("app", "web")];
    let web = web().port("admin", 81, Protocol::Tcp).selects(
        &selector,
        &[
            (80, TargetPort::Number(8080)),
            (81, TargetPort::Name(Arc::from("unknown"))),
        ],
    );
    let older = service("old", "ns")
        .port("grpc", 90, Protocol::Grpc)
        .selects(&selector, &[(90, TargetPort::Number(8080))])
        .with(|s| s.meta.created = Arc::from("2020-01-01T00:00:00Z"));
    let elsewhere = service("web", "other")
        .port("http", 80, Protocol::Http)
        .selects(&selector, &[(80, TargetPort::Number(9090))]);
    let snapshot = snapshot([web, older, elsewhere]);
    let own = Proxy {
        labels: selector.into_iter().collect(),
        ..sidecar("ns")
    };
    let names = list(&snapshot, own.clone());
    let inbound: Vec<_> = names.iter().filter(|n| n.starts_with("inbound")).collect();
    assert_eq!(inbound, ["inbound|8080||"]);
    assert!(names.contains(&"InboundPassthroughCluster".to_owned()));

    let made: Cluster = named(
        &resources(&snapshot, own.clone()),
        TypeUrl::Cluster,
        "inbound|8080||",
    );
    let bind = made
        .upstream_bind_config
        .as_ref()
        .and_then(|b| b.source_address.as_ref());
    assert_eq!(bind.map(|a| a.address.as_str()), Some("127.0.0.6"));
    assert!(http(&made).is_some(), "HTTP/2 of the older service");

    let none = Proxy {
        interception: InterceptionMode::None,
        ..own
    };
    let names = list(&snapshot, none);
    assert!(
        !names
            .iter()
            .any(|n| n.to_lowercase().starts_with("inbound")),
        "{names:?}"
    );
}

#[test]
fn istios_own_filter_goes_only_to_an_envoy_that_has_it() {
    let snapshot = snapshot([web()]);
    let made: Cluster = named(&resources(&snapshot, sidecar("ns")), TypeUrl::Cluster, WEB);
    assert!(made.filters.is_empty());
    let istio = Proxy {
        extensions: Arc::new(
            [Arc::from(
                "envoy.filters.network.upstream.metadata_exchange",
            )]
            .into(),
        ),
        ..sidecar("ns")
    };
    let made: Cluster = named(&resources(&snapshot, istio), TypeUrl::Cluster, WEB);
    assert_eq!(made.filters.len(), 1);
}

#[test]
fn proxies_of_a_class_share_the_list_and_others_share_the_clusters() {
    let snapshot = snapshot([web()]);
    let list = |proxy| resources(&snapshot, proxy).all(TypeUrl::Cluster);
    let first = list(sidecar("ns"));
    let named = Proxy {
        name: Arc::from("other"),
        ..sidecar("ns")
    };
    assert!(Arc::ptr_eq(&first, &list(named)));
    let of = |list: &[Arc<_>]| list.last().cloned().expect("the service's cluster");
    let elsewhere = list(sidecar("far"));
    assert!(!Arc::ptr_eq(&first, &elsewhere));
    assert!(Arc::ptr_eq(&of(&first), &of(&elsewhere)));
}

#[test]
fn a_change_of_endpoints_keeps_the_list() {
    let before = snapshot([web()]);
    let list = |snapshot: &Arc<Snapshot>| resources(snapshot, sidecar("ns")).all(TypeUrl::Cluster);
    let first = list(&before);
    let changed = snapshot([web().endpoint("10.0.0.1", 80, "http")]);
    let host = "web.ns.svc.cluster.local";
    let update = Update {
        services: vec![(host.into(), changed.host(host).iter().cloned().collect())],
        ..Update::default()
    };
    assert!(Arc::ptr_eq(&first, &list(&Arc::new(before.next(update)))));
}

#[test]
fn equal_input_makes_equal_bytes() {
    let made = || {
        let settings = PolicySettings {
            tls: Some(Arc::new(TlsSetting::Mutual.into())),
            ..PolicySettings::default()
        };
        let snapshot = snapshot([web().rule(settings, &["v1"])]);
        let istio = Proxy {
            extensions: Arc::new([Arc::from("istio.metadata_exchange")].into()),
            ..sidecar("ns")
        };
        let list = resources(&snapshot, istio).all(TypeUrl::Cluster);
        list.iter().map(|r| r.delta_frame()).collect::<Vec<_>>()
    };
    let first = made();
    for _ in 0..20 {
        assert_eq!(made(), first);
    }
}

#[test]
fn connect_timeout_is_the_meshs() {
    let config = MeshConfig {
        connect_timeout: Duration::from_secs(3),
        ..MeshConfig::default()
    };
    let mesh = MeshState {
        config: Arc::new(config),
        ..MeshState::default()
    };
    let snapshot = snapshot_of(mesh, [web()]);
    let all = resources(&snapshot, sidecar("ns")).all(TypeUrl::Cluster);
    for one in all.iter() {
        let made: Cluster = decode(one);
        assert_eq!(
            made.connect_timeout.map(|t| t.seconds),
            Some(3),
            "{}",
            made.name
        );
    }
}

#[test]
fn a_target_port_replaces_the_port_of_the_original_destination() {
    let name = "outbound|80||db.example.com";
    let db = external("db.example.com", "ns", Resolution::Passthrough)
        .port("http", 80, Protocol::Http)
        .port("tcp", 90, Protocol::Tcp)
        .selects(
            &[],
            &[(80, TargetPort::Number(8080)), (90, TargetPort::Number(90))],
        );
    let port = |name: &str| match cluster(db.clone(), name).lb_config {
        Some(LbConfig::OriginalDstLbConfig(c)) => c.upstream_port_override.map(|p| p.value),
        _ => None,
    };
    assert_eq!(port(name), Some(8080));
    assert_eq!(port("outbound|90||db.example.com"), None);
}

#[test]
fn a_dns_cluster_whose_endpoints_are_out_of_reach_stays_without_them() {
    // Behind SNI only endpoints that take mesh mTLS can be reached.
    let dns = |resolution| {
        let made = external("api.example.com", "ns", resolution).port("tls", 443, Protocol::Tls);
        made.endpoint("a.example.com", 443, "tls")
            .with(|s| s.mesh_external = false)
    };
    let name = "outbound_.443_._.api.example.com";
    let gateway = || router("ns", "ingress");
    let mesh = || MeshState {
        gateways: vec![auto_passthrough("ingress")],
        ..MeshState::default()
    };
    let strict = resources(&snapshot_of(mesh(), [dns(Resolution::Dns)]), gateway());
    let strict: Cluster = named(&strict, TypeUrl::Cluster, name);
    let groups = strict.load_assignment.expect("localities").endpoints;
    assert_eq!((groups.len(), groups[0].lb_endpoints.len()), (1, 0));
    // Envoy takes no LOGICAL_DNS cluster without its one endpoint.
    let logical = list(
        &snapshot_of(mesh(), [dns(Resolution::DnsRoundRobin)]),
        gateway(),
    );
    assert!(!logical.contains(&name.to_owned()), "{logical:?}");
}
