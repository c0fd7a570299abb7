mod forwarding;

use std::{net::IpAddr, sync::Arc};

use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::{
    http_connection_manager::v3::{HttpConnectionManager, http_connection_manager::RouteSpecifier},
    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
};
use prost::Message;

use super::entries::{Entries, Wish};
use super::forwarding::Forwarding;
use crate::mesh::Snapshot;
use crate::model::{InterceptionMode, Protocol, Proxy, ProxyIps, Resolution, TypeUrl};
use crate::testing::snapshot::{
    ServiceBuilder, dialled_sidecar, external, router, service, sidecar, snapshot,
};
use crate::xds::tests::{named, names, resources};

fn of(name: &str, protocol: Protocol) -> ServiceBuilder {
    service(name, "ns").port("p", 5000, protocol)
}

fn created(service: ServiceBuilder, year: u16) -> ServiceBuilder {
    service.with(|s| s.meta.created = Arc::from(format!("{year}-01-01T00:00:00Z")))
}

fn listeners(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Vec<String> {
    names(&resources(snapshot, proxy).all(TypeUrl::Listener))
}

/// The only listener of a sidecar that applications dial.
fn only(services: Vec<ServiceBuilder>) -> Listener {
    let resources = resources(&snapshot(services), dialled_sidecar("ns"));
    let names = names(&resources.all(TypeUrl::Listener));
    let [name] = names.as_slice() else {
        panic!("one listener: {names:?}");
    };
    named(&resources, TypeUrl::Listener, name)
}

/// Where a chain leads: `rds NAME` or the cluster.
fn leads_to(chain: &FilterChain) -> String {
    let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("{chain:?}");
    };
    if any.type_url.ends_with("TcpProxy") {
        let proxy = TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy");
        return match proxy.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => cluster,
            other => panic!("{other:?}"),
        };
    }
    let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
    match manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => format!("rds {}", rds.route_config_name),
        other => panic!("{other:?}"),
    }
}

fn chains(listener: &Listener) -> Vec<String> {
    listener.filter_chains.iter().map(leads_to).collect()
}

fn fallback(listener: &Listener) -> Option<String> {
    listener.default_filter_chain.as_ref().map(leads_to)
}

#[test]
fn http_services_share_one_really_bound_listener_per_port() {
    let listener = only(vec![of("a", Protocol::Http), of("b", Protocol::Grpc)]);
    assert_eq!(listener.name, "127.0.0.1_5000");
    assert_eq!(listener.bind_to_port, None);
    assert_eq!(
        (chains(&listener), fallback(&listener)),
        (vec!["rds 5000".into()], None)
    );
    assert!(listener.listener_filters.is_empty(), "nothing is sniffed");
}

#[test]
fn of_two_tcp_services_on_one_port_the_oldest_wins() {
    let young = created(of("a", Protocol::Tcp), 2024);
    let old = created(of("b", Protocol::Tls), 2020);
    let listener = only(vec![young, old]);
    let expected = "outbound|5000||b.ns.svc.cluster.local";
    assert_eq!(chains(&listener), [expected]);
}

#[test]
fn an_undeclared_port_belongs_to_its_oldest_service() {
    let young = created(of("a", Protocol::Auto), 2024);
    let old = created(of("b", Protocol::Auto), 2020);
    let listener = only(vec![young, old]);
    assert_eq!(chains(&listener), ["rds b.ns.svc.cluster.local:5000"]);
    let bytes = "outbound|5000||b.ns.svc.cluster.local";
    assert_eq!(fallback(&listener).as_deref(), Some(bytes));
    assert_eq!(listener.listener_filters.len(), 1, "the HTTP inspector");
}

#[test]
fn of_http_and_anything_else_on_one_loopback_port_the_oldest_wins() {
    for other in [Protocol::Tcp, Protocol::Auto] {
        let old = created(of("http", Protocol::Http), 2020);
        let young = created(of("other", other), 2024);
        let listener = only(vec![old, young]);
        assert_eq!(chains(&listener), ["rds 5000"], "{other:?}");
        assert_eq!(fallback(&listener), None, "{other:?}");
    }
    let old = created(of("tcp", Protocol::Tcp), 2020);
    let young = created(of("http", Protocol::Http), 2024);
    let listener = only(vec![old, young]);
    assert_eq!(
        chains(&listener),
        ["outbound|5000||tcp.ns.svc.cluster.local"]
    );
}

#[test]
fn on_the_wildcard_address_http_and_bytes_are_told_apart_by_sniffing() {
    let bytes =
        external("tcp.example.com", "ns", Resolution::Passthrough).port("p", 5000, Protocol::Tcp);
    for (first, second) in [(2020, 2024), (2024, 2020)] {
        let http = created(of("http", Protocol::Http), first);
        let snapshot = snapshot([http, created(bytes.clone(), second)]);
        let resources = resources(&snapshot, sidecar("ns"));
        let listener: Listener = named(&resources, TypeUrl::Listener, "0.0.0.0_5000");
        assert_eq!(chains(&listener), ["rds 5000"], "{first}");
        let expected = "outbound|5000||tcp.example.com";
        assert_eq!(fallback(&listener).as_deref(), Some(expected), "{first}");
    }
}

#[test]
fn an_ipv6_sidecar_listens_on_the_ipv6_loopback() {
    let v6 = Proxy {
        ips: ProxyIps(vec!["fd00::9".parse().expect("an address")]),
        ..dialled_sidecar("ns")
    };
    let snapshot = snapshot([of("a", Protocol::Http)]);
    assert_eq!(listeners(&snapshot, v6), ["::1_5000"]);
}

#[test]
fn an_unprivileged_sidecar_skips_low_ports() {
    let low = service("low", "ns").port("http", 80, Protocol::Http);
    let snapshot = snapshot([low, of("a", Protocol::Http)]);
    let proxy = |unprivileged| Proxy {
        unprivileged,
        ..dialled_sidecar("ns")
    };
    assert_eq!(listeners(&snapshot, proxy(true)), ["127.0.0.1_5000"]);
    assert_eq!(
        listeners(&snapshot, proxy(false)),
        ["127.0.0.1_5000", "127.0.0.1_80"]
    );
}

#[test]
fn alias_services_and_udp_ports_have_no_listener() {
    let alias = of("alias", Protocol::Http).with(|s| s.resolution = Resolution::Alias);
    let udp = service("dns", "ns").port("dns", 53, Protocol::Udp);
    assert_eq!(
        listeners(&snapshot([alias, udp]), dialled_sidecar("ns")),
        [] as [&str; 0]
    );
}

#[test]
fn a_router_that_no_gateway_selects_has_no_listener() {
    let snapshot = snapshot([of("a", Protocol::Http)]);
    assert!(listeners(&snapshot, router("ns", "ingress")).is_empty());
}

#[test]
fn a_sidecar_with_interception_listens_on_service_addresses() {
    let vip = |n| IpAddr::from([10, 96, 0, n]);
    let tcp = service("tcp", "ns")
        .port("tcp", 443, Protocol::Https)
        .vip(vip(1));
    let auto = service("auto", "ns")
        .port("p", 15021, Protocol::Auto)
        .vip(vip(2));
    let http = of("http", Protocol::Http).vip(vip(3));
    let headless = service("db", "ns")
        .port("tcp", 3306, Protocol::Tcp)
        .endpoint("10.0.0.7", 3306, "tcp")
        .endpoint("10.0.0.9", 3306, "tcp")
        .with(|s| s.resolution = Resolution::Passthrough);
    let snapshot = snapshot([tcp, auto, http, headless]);
    let expected = [
        "0.0.0.0_5000",
        "10.0.0.7_3306",
        "10.96.0.1_443",
        "10.96.0.2_15021",
        "virtualInbound",
        "virtualOutbound",
    ];
    assert_eq!(listeners(&snapshot, sidecar("ns")), expected);

    let resources = resources(&snapshot, sidecar("ns"));
    let get = |name| named::<Listener>(&resources, TypeUrl::Listener, name);
    let http = get("0.0.0.0_5000");
    assert_eq!(chains(&http), ["rds 5000"]);
    assert_eq!(fallback(&http).as_deref(), Some("PassthroughCluster"));
    assert_eq!(http.bind_to_port.map(|b| b.value), Some(false));
    assert_eq!(
        chains(&get("10.96.0.2_15021")),
        ["rds auto.ns.svc.cluster.local:15021"]
    );
    let redirected = get("virtualOutbound");
    assert_eq!(
        chains(&redirected),
        ["BlackHoleCluster", "PassthroughCluster"]
    );
    assert_eq!(redirected.transparent, None);
}

#[test]
fn tproxy_keeps_the_callers_address() {
    let proxy = Proxy {
        interception: InterceptionMode::Tproxy,
        ..sidecar("ns")
    };
    let resources = resources(&snapshot([]), proxy);
    let listener: Listener = named(&resources, TypeUrl::Listener, "virtualOutbound");
    assert_eq!(listener.transparent.map(|t| t.value), Some(true));
}

#[test]
fn tls_services_without_an_address_are_told_apart_by_server_name() {
    let one = |host| external(host, "ns", Resolution::Passthrough).port("tls", 443, Protocol::Tls);
    let snapshot = snapshot([one("a.example.com"), one("b.example.com")]);
    let resources = resources(&snapshot, sidecar("ns"));
    let listener: Listener = named(&resources, TypeUrl::Listener, "0.0.0.0_443");
    let names = listener.filter_chains.iter().map(|chain| {
        let found = chain.filter_chain_match.as_ref();
        found.map(|m| m.server_names.clone()).unwrap_or_default()
    });
    assert_eq!(
        names.flatten().collect::<Vec<_>>(),
        ["a.example.com", "b.example.com"]
    );
    assert_eq!(fallback(&listener).as_deref(), Some("PassthroughCluster"));
}

#[test]
fn the_http_proxy_port_adds_a_listener() {
    let proxy = Proxy {
        http_proxy_port: Some(15080),
        ..dialled_sidecar("ns")
    };
    let resources = resources(&snapshot([]), proxy);
    let listener: Listener = named(&resources, TypeUrl::Listener, "127.0.0.1_15080");
    assert_eq!(chains(&listener), ["rds http_proxy"]);
}

#[test]
fn istios_own_filters_go_only_to_an_envoy_that_has_them() {
    let snapshot = snapshot([of("a", Protocol::Http)]);
    let filters = |proxy| {
        let resources = resources(&snapshot, proxy);
        let listener: Listener = named(&resources, TypeUrl::Listener, "127.0.0.1_5000");
        let Some(ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type
        else {
            panic!("{listener:?}");
        };
        let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
        let names = manager.http_filters.into_iter().map(|f| f.name);
        names.filter(|n| n.starts_with("istio")).collect::<Vec<_>>()
    };
    assert!(filters(dialled_sidecar("ns")).is_empty());
    let istio = Proxy {
        extensions: Arc::new(
            ["istio.alpn", "envoy.filters.http.peer_metadata"]
                .map(Arc::from)
                .into(),
        ),
        ..dialled_sidecar("ns")
    };
    assert_eq!(filters(istio), ["istio.metadata_exchange", "istio.alpn"]);
}

#[test]
fn a_pod_of_a_headless_service_listens_for_all_others() {
    let peers = |name: &str, protocol| {
        let headless = service(name, "ns").port("p", 3306, protocol);
        headless
            .endpoint("10.0.0.7", 3306, "p")
            .endpoint("10.0.0.8", 3306, "p")
            .with(|s| s.resolution = Resolution::Passthrough)
    };
    let of_pods = |snapshot: &Arc<Snapshot>, last| {
        let ips = ProxyIps(vec![[10, 0, 0, last].into()]);
        let proxy = Proxy {
            ips,
            ..sidecar("ns")
        };
        let all = listeners(snapshot, proxy);
        all.into_iter()
            .filter(|n| !n.starts_with("virtual"))
            .collect::<Vec<_>>()
    };
    let tcp = snapshot([peers("db", Protocol::Tcp)]);
    assert_eq!(of_pods(&tcp, 9), ["10.0.0.7_3306", "10.0.0.8_3306"]);
    assert_eq!(of_pods(&tcp, 7), ["10.0.0.8_3306"]);
    let sniffed = snapshot([peers("db", Protocol::Auto)]);
    let resources = resources(&sniffed, sidecar("ns"));
    let pod: Listener = named(&resources, TypeUrl::Listener, "10.0.0.7_3306");
    assert_eq!(chains(&pod), ["rds db.ns.svc.cluster.local:3306"]);
    assert_eq!(
        fallback(&pod).as_deref(),
        Some("outbound|3306||db.ns.svc.cluster.local")
    );
    let http = snapshot([peers("web", Protocol::Http)]);
    assert_eq!(of_pods(&http, 9), ["0.0.0.0_3306"]);
    let none: [String; 0] = [];
    let empty = service("db", "ns").port("p", 3306, Protocol::Tcp);
    let empty = snapshot([empty.with(|s| s.resolution = Resolution::Passthrough)]);
    assert_eq!(of_pods(&empty, 9), none);
}

#[test]
fn a_listener_that_a_sidecar_lists_is_not_widened() {
    let chosen = of("a", Protocol::Http).port("q", 6000, Protocol::Http);
    let snapshot = snapshot([chosen]);
    let state = &snapshot.host("a.ns.svc.cluster.local")[0];
    let forwarding = Forwarding {
        rest: Some(super::listener::tcp_proxy("to")),
        ..Forwarding::default()
    };
    let wish = |port| Wish {
        service: &state.service,
        port,
        protocol: Protocol::Tcp,
        bind: Some("127.0.0.2".to_owned()),
        binds: true,
        addresses: Vec::new(),
        forwarding: &forwarding,
    };
    let mut entries = Entries::new("0.0.0.0");
    entries.add(&Wish {
        protocol: Protocol::Http,
        ..wish(5000)
    });
    entries.lock();
    entries.add(&wish(5000));
    entries.add(&wish(6000));
    let chains = entries.all.values().map(|entry| entry.chains.len());
    assert_eq!(chains.collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn each_single_address_of_an_entry_has_a_listener_beside_its_ranges() {
    let entry = external("db.example.com", "ns", Resolution::Passthrough)
        .port("mongo", 27018, Protocol::Tcp)
        .with(|s| {
            let parse = |net: &str| net.parse().expect("a network");
            s.addresses = ["10.200.0.0/16", "10.201.0.1/32"].map(parse).to_vec();
        });
    let snapshot = snapshot([entry]);
    let expected = ["0.0.0.0_27018", "10.201.0.1_27018"];
    let found = listeners(&snapshot, sidecar("ns"));
    assert_eq!(found[..2], expected);
    let resources = resources(&snapshot, sidecar("ns"));
    let wildcard: Listener = named(&resources, TypeUrl::Listener, "0.0.0.0_27018");
    let matched = wildcard.filter_chains[0].filter_chain_match.as_ref();
    assert_eq!(matched.map(|m| m.prefix_ranges.len()), Some(1));
}

#[test]
fn without_an_address_of_its_family_a_sidecar_listens_at_the_default_one() {
    let net = IpAddr::from([10, 96, 0, 1]);
    let db = of("db", Protocol::Tcp)
        .vip(net)
        .with(|s| s.addresses = vec![net.into()]);
    let v6 = Proxy {
        ips: ProxyIps(vec!["fd00::1".parse().expect("an address")]),
        ..sidecar("ns")
    };
    let found = listeners(&snapshot([db]), v6);
    assert_eq!(found[0], "10.96.0.1_5000");
}
