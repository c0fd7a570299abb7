//! Which routes the virtual hosts of sidecars have.

use std::{net::IpAddr, sync::Arc};

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use proptest::prelude::*;

use crate::mesh::{MeshState, Snapshot};
use crate::model::{Protocol, Proxy, TypeUrl};
use crate::testing::snapshot::{dialled_sidecar, service, sidecar, snapshot_of};
use crate::testing::virtual_services::mesh_with;
use crate::xds::tests::{named, resources};

/// `web` at 80, `api` at 80 and 90, `db` for bytes at 80, all in `ns`.
fn world(mesh: MeshState) -> Arc<Snapshot> {
    let http = |name: &str, port| service(name, "ns").port("http", port, Protocol::Http);
    let db = service("db", "ns").port("tcp", 80, Protocol::Tcp);
    let web = http("web", 80).vip(IpAddr::from([10, 96, 0, 1]));
    let api = http("api", 80).port("more", 90, Protocol::Http);
    snapshot_of(mesh, [web, api, db])
}

fn asked(mesh: MeshState, proxy: Proxy, name: &str) -> RouteConfiguration {
    named(
        &resources(&world(mesh), proxy),
        TypeUrl::RouteConfiguration,
        name,
    )
}

fn routes(manifests: &str, name: &str) -> RouteConfiguration {
    asked(mesh_with(manifests), sidecar("ns"), name)
}

fn made(name: &str, namespace: &str, year: u16, hosts: &str) -> String {
    format!(
        "metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec: {{hosts: [{hosts}], http: [{{name: {name}, route: [{{destination: {{host: web}}}}]}}]}}
"
    )
}

/// Virtual hosts with the names of their routes.
fn summary(found: &RouteConfiguration) -> Vec<String> {
    let one = |host: &VirtualHost| {
        let routes: Vec<_> = host.routes.iter().map(|r| r.name.as_str()).collect();
        format!("{} {}", host.name, routes.join(","))
    };
    found.virtual_hosts.iter().map(one).collect()
}

fn host<'a>(found: &'a RouteConfiguration, name: &str) -> &'a VirtualHost {
    let host = found.virtual_hosts.iter().find(|host| host.name == name);
    host.unwrap_or_else(|| panic!("{name} of {:?}", summary(found)))
}

#[test]
fn a_service_keeps_its_names_and_gets_the_users_routes() {
    let found = routes(&made("v", "ns", 2020, "web"), "80");
    let expected = [
        "api.ns.svc.cluster.local:80 default",
        "web.ns.svc.cluster.local:80 v",
        "allow_any allow_any",
    ];
    assert_eq!(summary(&found), expected);
    let web = host(&found, "web.ns.svc.cluster.local:80");
    assert_eq!(web.domains.len(), 6, "{:?}", web.domains);
    assert!(web.domains.contains(&"10.96.0.1".to_owned()));
    assert!(web.include_request_attempt_count);
}

#[test]
fn of_two_for_one_host_the_oldest_has_it() {
    let young = made("young", "ns", 2024, "web");
    let old = made("old", "ns", 2020, "web");
    let found = routes(&format!("{young}---\n{old}"), "80");
    assert_eq!(summary(&found)[1], "web.ns.svc.cluster.local:80 old");
}

#[test]
fn one_whose_routes_are_all_for_others_is_as_none() {
    let for_others = "
metadata: {name: v, namespace: ns}
spec: {hosts: [web], http: [{match: [{sourceLabels: {app: x}}], route: [{destination: {host: api}}]}]}
";
    let found = routes(for_others, "80");
    assert_eq!(summary(&found)[1], "web.ns.svc.cluster.local:80 default");
    let chosen = Proxy {
        labels: [("app", "x")].into_iter().collect(),
        ..sidecar("ns")
    };
    let found = asked(mesh_with(for_others), chosen, "80");
    assert_eq!(summary(&found)[1], "web.ns.svc.cluster.local:80 ");
}

#[test]
fn proxies_share_routes_unless_a_label_that_is_looked_at_differs() {
    let by_label = "
metadata: {name: v, namespace: ns}
spec: {hosts: [web], http: [{match: [{sourceLabels: {app: x}}], route: [{destination: {host: api}}]}]}
";
    let world = world(mesh_with(by_label));
    let get = |pairs: &[(&str, &str)]| {
        let proxy = Proxy {
            labels: pairs.iter().copied().collect(),
            ..sidecar("ns")
        };
        let found = resources(&world, proxy).named(TypeUrl::RouteConfiguration, "80");
        found.expect("routes")
    };
    let plain = get(&[]);
    assert!(Arc::ptr_eq(&plain, &get(&[("pod", "1")])));
    assert!(!Arc::ptr_eq(&plain, &get(&[("app", "x")])));
}

#[test]
fn the_most_specific_wildcard_counts_and_none_beside_the_name() {
    let wide = made("wide", "ns", 2019, "'*.cluster.local'");
    let narrow = made("narrow", "ns", 2024, "'*.ns.svc.cluster.local'");
    let named = made("named", "ns", 2025, "web");
    let found = routes(&format!("{wide}---\n{narrow}---\n{named}"), "80");
    let expected = [
        "api.ns.svc.cluster.local:80 narrow",
        "web.ns.svc.cluster.local:80 named",
        "allow_any allow_any",
    ];
    assert_eq!(summary(&found), expected);
}

#[test]
fn hosts_that_are_no_services_are_known_on_port_80_and_beside_services() {
    let both = made("both", "ns", 2020, "api, www.example.com");
    let alone = made("alone", "ns", 2021, "'*.example.org'");
    let found = routes(&format!("{both}---\n{alone}"), "80");
    let expected = [
        "*.example.org:80 alone",
        "api.ns.svc.cluster.local:80 both",
        "web.ns.svc.cluster.local:80 default",
        "www.example.com:80 both",
        "allow_any allow_any",
    ];
    assert_eq!(summary(&found), expected);
    assert_eq!(
        host(&found, "www.example.com:80").domains,
        ["www.example.com"]
    );

    let found = routes(&format!("{both}---\n{alone}"), "90");
    let expected = [
        "api.ns.svc.cluster.local:90 both",
        "www.example.com:90 both",
        "allow_any allow_any",
    ];
    assert_eq!(summary(&found), expected);
}

#[test]
fn a_service_for_bytes_has_no_routes_though_it_is_named() {
    let found = routes(&made("v", "ns", 2020, "db"), "80");
    assert!(!summary(&found).iter().any(|host| host.starts_with("db.")));
}

#[test]
fn a_host_for_everything_stands_in_for_the_catch_all() {
    let all = made("all", "ns", 2020, "'*'");
    let world = snapshot_of(
        mesh_with(&all),
        [service("tcp", "ns").port("t", 9, Protocol::Tcp)],
    );
    let found: RouteConfiguration = named(
        &resources(&world, sidecar("ns")),
        TypeUrl::RouteConfiguration,
        "80",
    );
    assert_eq!(summary(&found), ["*:80 all"]);
    assert_eq!(found.virtual_hosts[0].domains, ["*"]);
}

#[test]
fn a_sniffed_service_has_the_users_routes_and_no_other_host() {
    let both = made("v", "ns", 2020, "api, www.example.com, web");
    let name = "api.ns.svc.cluster.local:90";
    let found = asked(mesh_with(&both), dialled_sidecar("ns"), name);
    assert_eq!(summary(&found), [format!("{name} v")]);
    assert_eq!(found.virtual_hosts[0].domains, ["*"]);
}

#[test]
fn the_explicit_proxy_has_the_users_routes_for_every_port() {
    let both = made("v", "ns", 2020, "api, www.example.com");
    let found = asked(mesh_with(&both), dialled_sidecar("ns"), "http_proxy");
    let expected = [
        "api.ns.svc.cluster.local:80 v",
        "api.ns.svc.cluster.local:90 v",
        "web.ns.svc.cluster.local:80 default",
        "www.example.com:80 v",
        "www.example.com:90 v",
        "allow_any allow_any",
    ];
    assert_eq!(summary(&found), expected);
    let domains = &host(&found, "www.example.com:90").domains;
    assert_eq!(*domains, ["www.example.com:90"]);
}

#[test]
fn one_of_another_namespace_counts_where_it_is_exported_to() {
    let of = |export: &str| {
        let yaml = made("v", "far", 2020, "web.ns.svc.cluster.local");
        let yaml = yaml.replace("spec: {", &format!("spec: {{exportTo: ['{export}'], "));
        summary(&routes(&yaml, "80"))[1].clone()
    };
    assert_eq!(of("*"), "web.ns.svc.cluster.local:80 v");
    assert_eq!(of("ns"), "web.ns.svc.cluster.local:80 v");
    assert_eq!(of("."), "web.ns.svc.cluster.local:80 default");
}

#[test]
fn port_80_is_answered_for_hosts_of_virtual_services_alone() {
    let world = snapshot_of(mesh_with(&made("v", "ns", 2020, "www.example.com")), []);
    let get = || resources(&world, sidecar("ns")).named(TypeUrl::RouteConfiguration, "80");
    let (first, second) = (get().expect("routes"), get().expect("routes"));
    assert!(Arc::ptr_eq(&first, &second));
}

proptest! {
    #[test]
    fn no_name_stands_twice_among_services_and_users_hosts(
        known in prop::collection::vec("[a-c](\\.ns\\.svc\\.cluster\\.local)?", 1..5),
        own in prop::collection::vec("\\*?\\.?[a-c]?(\\.(ns|com))?(\\.svc\\.cluster\\.local)?", 1..5),
        name in prop::sample::select(vec!["80", "90", "http_proxy"]),
    ) {
        let manifests = own.iter().enumerate().filter(|(_, host)| !host.is_empty());
        let manifests = manifests.map(|(n, host)| made(&format!("v{n}"), "ns", 2020, &format!("'{host}'")));
        let manifests = manifests.collect::<Vec<_>>().join("---\n");
        let mesh = if manifests.is_empty() { MeshState::default() } else { mesh_with(&manifests) };
        let named_so = |host: &String| {
            let made = service("s", "ns").port("a", 80, Protocol::Http).port("b", 90, Protocol::Auto);
            made.with(|s| s.key.hostname = host.as_str().into())
        };
        let world = snapshot_of(mesh, known.iter().map(named_so));
        let found: RouteConfiguration =
            named(&resources(&world, sidecar("ns")), TypeUrl::RouteConfiguration, name);
        let mut names: Vec<_> = found.virtual_hosts.iter().map(|h| h.name.clone()).collect();
        let mut domains: Vec<_> = found.virtual_hosts.iter().flat_map(|h| h.domains.clone()).collect();
        for all in [&mut names, &mut domains] {
            let count = all.len();
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), count);
        }
    }
}
