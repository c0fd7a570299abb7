mod virtual_services;

use std::{net::IpAddr, sync::Arc};

use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier,
};
use proptest::prelude::*;

use super::domains::Domains;
use crate::mesh::MeshState;
use crate::model::{
    EgressListener, Features, HostPattern, MeshConfig, OutboundPolicy, Protocol, Proxy, ProxyIps,
    Resolution, Service, Sidecar, TypeUrl,
};
use crate::testing::snapshot::{
    ServiceBuilder, dialled_sidecar, external, router, service, sidecar, snapshot, snapshot_of,
};
use crate::xds::tests::{named, resources};

fn web() -> ServiceBuilder {
    service("web", "ns")
        .port("http", 80, Protocol::Http)
        .vip(IpAddr::from([10, 96, 0, 1]))
}

fn routes(services: Vec<ServiceBuilder>, proxy: Proxy, name: &str) -> RouteConfiguration {
    named(
        &resources(&snapshot(services), proxy),
        TypeUrl::RouteConfiguration,
        name,
    )
}

fn hosts(routes: &RouteConfiguration) -> Vec<&str> {
    routes
        .virtual_hosts
        .iter()
        .map(|h| h.name.as_str())
        .collect()
}

fn cluster(host: &VirtualHost) -> String {
    match &host.routes[0].action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => cluster.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_has_a_virtual_host_per_service_and_a_catch_all() {
    let other = service("tcp", "ns").port("tcp", 90, Protocol::Tcp);
    let found = routes(vec![web(), other], sidecar("ns"), "80");
    assert_eq!(hosts(&found), ["web.ns.svc.cluster.local:80", "allow_any"]);
    let web = &found.virtual_hosts[0];
    let expected = [
        "web.ns.svc.cluster.local",
        "web.ns.svc.cluster.local.",
        "web",
        "web.ns.svc",
        "web.ns",
        "10.96.0.1",
    ];
    assert_eq!(web.domains, expected);
    assert_eq!(cluster(web), "outbound|80||web.ns.svc.cluster.local");
    assert_eq!(cluster(&found.virtual_hosts[1]), "PassthroughCluster");
    assert_eq!(found.validate_clusters.map(|v| v.value), Some(false));
    assert!(found.ignore_port_in_host_matching);
}

#[test]
fn from_another_namespace_the_bare_name_means_nothing() {
    let found = routes(vec![web()], sidecar("far"), "80");
    let domains = &found.virtual_hosts[0].domains;
    assert!(!domains.contains(&"web".to_owned()), "{domains:?}");
    assert!(domains.contains(&"web.ns".to_owned()), "{domains:?}");
}

#[test]
fn the_address_is_that_of_the_proxys_own_cluster() {
    let far = Proxy {
        cluster: "c2".into(),
        ..sidecar("ns")
    };
    let found = routes(vec![web()], far, "80");
    let domains = &found.virtual_hosts[0].domains;
    assert!(!domains.contains(&"10.96.0.1".to_owned()), "{domains:?}");
}

#[test]
fn pods_of_a_headless_service_are_called_by_their_own_names() {
    let db = web().with(|s| s.resolution = Resolution::Passthrough);
    let found = routes(vec![db], sidecar("ns"), "80");
    let domains = &found.virtual_hosts[0].domains;
    assert!(
        domains.contains(&"*.web.ns.svc.cluster.local".to_owned()),
        "{domains:?}"
    );
}

#[test]
fn a_sniffed_service_has_routes_of_its_own() {
    let name = "web.ns.svc.cluster.local:80";
    let found = routes(vec![web()], dialled_sidecar("ns"), name);
    assert_eq!(hosts(&found), [name]);
    assert_eq!(found.virtual_hosts[0].domains, ["*"]);
}

#[test]
fn unknown_names_are_answered_without_virtual_hosts() {
    for name in [
        "81",
        "no.such.host:80",
        "",
        "x",
        "80:x",
        "99999",
        "unix:///nowhere",
        "080",
    ] {
        let found = routes(vec![], dialled_sidecar("ns"), name);
        assert_eq!((found.name.as_str(), hosts(&found).len()), (name, 0));
    }
    let found = routes(vec![web()], router("ns", "ingress"), "80");
    assert_eq!(hosts(&found).len(), 0, "gateways have no routes yet");
}

#[test]
fn registry_only_blocks_unknown_hosts() {
    let config = MeshConfig {
        outbound_policy: OutboundPolicy::RegistryOnly,
        ..MeshConfig::default()
    };
    let mesh = MeshState {
        config: Arc::new(config),
        ..MeshState::default()
    };
    let resources = resources(&snapshot_of(mesh, [web()]), sidecar("ns"));
    let found: RouteConfiguration = named(&resources, TypeUrl::RouteConfiguration, "80");
    assert_eq!(hosts(&found)[1], "block_all");
    let blocked = &found.virtual_hosts[1].routes[0].action;
    assert!(matches!(blocked, Some(Action::DirectResponse(r)) if r.status == 502));
}

#[test]
fn a_short_name_never_takes_another_services_full_name() {
    let outside = external("web.ns", "ns", Resolution::Dns).port("http", 80, Protocol::Http);
    let found = routes(vec![web(), outside], sidecar("ns"), "80");
    let of = |name: &str| {
        let host = found.virtual_hosts.iter().find(|h| h.name == name);
        host.map(|h| h.domains.clone()).unwrap_or_default()
    };
    assert!(!of("web.ns.svc.cluster.local:80").contains(&"web.ns".to_owned()));
    assert!(of("web.ns:80").contains(&"web.ns".to_owned()));
}

#[test]
fn the_explicit_proxy_tells_services_apart_by_port() {
    let other = service("web", "far").port("http", 8080, Protocol::Http);
    let found = routes(vec![web(), other], dialled_sidecar("ns"), "http_proxy");
    assert!(!found.ignore_port_in_host_matching);
    let domains: Vec<_> = found
        .virtual_hosts
        .iter()
        .flat_map(|h| &h.domains)
        .collect();
    assert!(domains.iter().any(|d| *d == "web.ns"), "{domains:?}");
    assert!(domains.iter().any(|d| *d == "web.far:8080"), "{domains:?}");
    assert!(!domains.iter().any(|d| *d == "web.far"), "{domains:?}");
}

#[test]
fn equal_requests_share_one_answer() {
    let snapshot = snapshot([web()]);
    let get = |name| resources(&snapshot, sidecar("ns")).named(TypeUrl::RouteConfiguration, name);
    let (first, second) = (get("80").expect("routes"), get("80").expect("routes"));
    assert!(Arc::ptr_eq(&first, &second));
    let (first, second) = (get("81").expect("routes"), get("81").expect("routes"));
    assert!(!Arc::ptr_eq(&first, &second), "made-up names are not kept");
}

fn names(host: &str, client: &str) -> Vec<String> {
    let change = |s: &mut Service| s.key.hostname = host.into();
    let built = snapshot([web().with(change)]);
    let service = &built.host(host)[0].service;
    Domains::of(service, client, &[]).all
}

#[test]
fn names_outside_kubernetes_are_shortened_by_what_they_share() {
    let found = names("foo.local.campus.net", "local.campus.net");
    assert_eq!(found[2..], ["foo".to_owned()]);
    let found = names("foo.local.campus.net", "remote.campus.net");
    assert_eq!(
        found[2..],
        ["foo.local".to_owned(), "foo.local.campus".to_owned()]
    );
    assert_eq!(names("foo.local.campus.net", "example.com").len(), 2);
    assert_eq!(names("foo.example.com", "ns.svc.cluster.local").len(), 2);
}

#[test]
fn an_explicit_proxy_of_a_sidecar_has_routes_to_all_ports() {
    let listener = EgressListener {
        port: Some((8081, Protocol::Http, Arc::from("proxy"))),
        http_proxy: true,
        hosts: vec![HostPattern {
            namespace: "*".into(),
            host: Arc::from("*"),
        }],
        ..EgressListener::default()
    };
    let sidecar_object = Sidecar {
        meta: web().service.meta,
        workload_selector: None,
        egress: vec![listener],
        ingress: Vec::new(),
        outbound_policy: None,
    };
    let mesh = MeshState {
        sidecars: [("ns".into(), vec![Arc::new(sidecar_object)])].into(),
        ..MeshState::default()
    };
    let resources = resources(&snapshot_of(mesh, [web()]), sidecar("ns"));
    let found: RouteConfiguration = named(&resources, TypeUrl::RouteConfiguration, "8081");
    assert_eq!(hosts(&found), ["web.ns.svc.cluster.local:80", "allow_any"]);
    assert!(!found.ignore_port_in_host_matching);
}

proptest! {
    #[test]
    fn no_name_stands_twice_in_one_answer(
        hosts in prop::collection::vec("[a-c](\\.[a-c]){0,2}(\\.svc\\.cluster\\.local)?", 1..8),
        domain in "[a-c]\\.svc\\.cluster\\.local|[a-c]\\.[a-c]|",
    ) {
        let proxy = Proxy { domain: Arc::from(domain), ..sidecar("a") };
        let of = |host: &String| web().with(|s| s.key.hostname = host.as_str().into());
        let found = routes(hosts.iter().map(of).collect(), proxy, "80");
        let mut all: Vec<_> = found.virtual_hosts.iter().flat_map(|h| h.domains.clone()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), count);
    }
}

#[test]
fn ports_that_are_not_http_have_no_routes() {
    let bytes = service("db", "ns").port("tcp", 80, Protocol::Tcp);
    let secret = service("tls", "ns").port("https", 80, Protocol::Https);
    let unknown = service("any", "ns").port("p", 80, Protocol::Auto);
    let found = routes(vec![web(), bytes, secret, unknown], sidecar("ns"), "80");
    let expected = [
        "any.ns.svc.cluster.local:80",
        "web.ns.svc.cluster.local:80",
        "allow_any",
    ];
    assert_eq!(hosts(&found), expected);
}

#[test]
fn a_proxy_of_both_families_calls_the_first_one_and_all_with_dual_stack() {
    let both = web().vip("fd00::1".parse().expect("an address"));
    let dual = Proxy {
        ips: ProxyIps(vec![
            IpAddr::from([10, 0, 0, 1]),
            "fd00::9".parse().expect("an address"),
        ]),
        ..sidecar("ns")
    };
    let domains = |dual_stack| {
        let features = Features {
            dual_stack,
            ..Features::default()
        };
        let mesh = MeshState {
            features: Arc::new(features),
            ..MeshState::default()
        };
        let resources = resources(&snapshot_of(mesh, [both.clone()]), dual.clone());
        let found: RouteConfiguration = named(&resources, TypeUrl::RouteConfiguration, "80");
        found.virtual_hosts[0].domains.clone()
    };
    let (single, all) = (domains(false), domains(true));
    assert!(single.contains(&"10.96.0.1".to_owned()), "{single:?}");
    assert!(!single.contains(&"[fd00::1]".to_owned()), "{single:?}");
    assert!(all.contains(&"[fd00::1]".to_owned()), "{all:?}");
}

#[test]
fn an_explicit_proxy_without_services_still_passes_requests_on() {
    let found = routes(vec![], dialled_sidecar("ns"), "http_proxy");
    assert_eq!(hosts(&found), ["allow_any"]);
}
