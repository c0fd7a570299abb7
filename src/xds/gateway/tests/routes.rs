//! Which virtual hosts an HTTP server has.

use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier,
    virtual_host::TlsRequirementType,
};

use super::*;
use crate::model::{HttpDestination, HttpMatch, HttpRoute, SourceMatch, StringMatch};

fn http(path: &str, host: &str) -> HttpRoute {
    let uri = (!path.is_empty()).then(|| StringMatch::Prefix(Arc::from(path)));
    let matches = uri.map(|uri| HttpMatch {
        uri: Some(uri),
        ..HttpMatch::default()
    });
    HttpRoute {
        matches: matches.into_iter().collect(),
        destinations: vec![HttpDestination {
            destination: to(host, Some(80), 0).destination,
            ..HttpDestination::default()
        }],
        ..HttpRoute::default()
    }
}

fn bound(name: &str, hosts: &[&str], http: Vec<HttpRoute>) -> VirtualService {
    let mut made = virtual_service("g", hosts);
    made.meta.name = Arc::from(name);
    made.http = http;
    made
}

fn http_server(hosts: &[&str]) -> Arc<Gateway> {
    gateway(
        "g",
        "ns",
        "ingress",
        2024,
        [server(80, Protocol::Http, hosts)],
    )
}

fn routes(snapshot: &Arc<Snapshot>, name: &str) -> RouteConfiguration {
    let resources = resources(snapshot, router("ns", "ingress"));
    named(&resources, TypeUrl::RouteConfiguration, name)
}

/// Name, domains and the clusters of the routes of each virtual host.
fn hosts(routes: &RouteConfiguration) -> Vec<(String, Vec<String>, Vec<String>)> {
    let clusters = |host: &VirtualHost| {
        let actions = host.routes.iter().filter_map(|r| r.action.as_ref());
        let cluster = actions.map(|action| match action {
            Action::Route(to) => match &to.cluster_specifier {
                Some(ClusterSpecifier::Cluster(cluster)) => cluster.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        cluster.collect()
    };
    let host = |host: &VirtualHost| (host.name.clone(), host.domains.clone(), clusters(host));
    routes.virtual_hosts.iter().map(host).collect()
}

fn one(name: &str, domains: &[&str], clusters: &[&str]) -> (String, Vec<String>, Vec<String>) {
    let all = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    (name.to_owned(), all(domains), all(clusters))
}

#[test]
fn a_server_without_virtual_service_answers_nothing() {
    let snapshot = bound_world([http_server(&["*"])], [], []);
    let found = routes(&snapshot, "http.80");
    assert_eq!(hosts(&found), [one("blackhole:80", &["*"], &[])]);
    assert!(found.ignore_port_in_host_matching);
    let unknown = routes(&snapshot, "http.81");
    assert!(unknown.virtual_hosts.is_empty());
}

#[test]
fn a_virtual_host_is_what_server_and_virtual_service_share() {
    let wide = bound("wide", &["*.a.com", "b.com", "c.org"], vec![http("", "x")]);
    let other = bound("other", &["nothing.com"], vec![http("", "y")]);
    let server = http_server(&["One.a.com", "*.com", "other/c.org"]);
    let snapshot = bound_world([server], [wide, other], []);
    let expected = [
        one("b.com:80", &["b.com"], &["outbound|80||x"]),
        one("nothing.com:80", &["nothing.com"], &["outbound|80||y"]),
    ];
    let found = hosts(&routes(&snapshot, "http.80"));
    let merged = one(
        "one.a.com:80",
        &["one.a.com", "b.com", "*.a.com"],
        &["outbound|80||x"],
    );
    assert_eq!(found, [expected[1].clone(), merged]);
}

#[test]
fn virtual_services_of_one_host_follow_each_other_with_what_takes_all_last() {
    let first = bound("first", &["a.com"], vec![http("/x", "x"), http("", "all")]);
    let second = bound("second", &["a.com", "b.com"], vec![http("/y", "y")]);
    let snapshot = bound_world([http_server(&["*"])], [first, second], []);
    let to = |name: &str| format!("outbound|80||{name}");
    let [x, y, all] = [to("x"), to("y"), to("all")];
    let expected = [
        one("a.com:80", &["a.com"], &[&x, &y, &all]),
        one("b.com:80", &["b.com"], &[&y]),
    ];
    assert_eq!(hosts(&routes(&snapshot, "http.80")), expected);
}

#[test]
fn a_host_that_two_servers_admit_has_its_routes_once() {
    let servers = ["*", "a.com"].map(|host| server(80, Protocol::Http, &[host]));
    let gateways = [gateway("g", "ns", "ingress", 2024, servers)];
    let services = [bound("vs", &["a.com"], vec![http("/x", "x")])];
    let snapshot = bound_world(gateways, services, []);
    let expected = [one("a.com:80", &["a.com"], &["outbound|80||x"])];
    assert_eq!(hosts(&routes(&snapshot, "http.80")), expected);
}

#[test]
fn routes_for_other_gateways_make_no_virtual_host() {
    let mut elsewhere = http("/x", "x");
    elsewhere.matches[0].source = SourceMatch {
        gateways: vec![GatewayName::Mesh],
        ..SourceMatch::default()
    };
    let snapshot = bound_world(
        [http_server(&["*"])],
        [bound("vs", &["a.com"], vec![elsewhere])],
        [],
    );
    let expected = [one("blackhole:80", &["*"], &[])];
    assert_eq!(hosts(&routes(&snapshot, "http.80")), expected);
}

#[test]
fn a_server_that_redirects_to_https_does_so_for_all_its_hosts() {
    let mut redirecting = server(80, Protocol::Http, &["a.com", "other/b.com"]);
    redirecting.tls = Some(ServerTls {
        https_redirect: true,
        ..ServerTls::default()
    });
    let plain = server(80, Protocol::Http, &["c.com"]);
    let gateways = [gateway("g", "ns", "ingress", 2024, [redirecting, plain])];
    let services = [bound("vs", &["a.com", "c.com"], vec![http("", "x")])];
    let found = routes(&bound_world(gateways, services, []), "http.80");
    let redirects: Vec<_> = found
        .virtual_hosts
        .iter()
        .map(|host| (host.name.as_str(), host.require_tls()))
        .collect();
    let (all, none) = (TlsRequirementType::All, TlsRequirementType::None);
    assert_eq!(
        redirects,
        [("a.com:80", all), ("b.com:80", all), ("c.com:80", none)]
    );
}

#[test]
fn https_servers_have_routes_of_their_own() {
    let mode = ServerTlsMode::IstioMutual;
    let mut a = tls_server(443, Protocol::Https, &["a.com"], mode);
    a.name = Arc::from("a");
    let mut b = tls_server(443, Protocol::Https, &["b.com"], mode);
    b.name = Arc::from("b");
    let gateways = [gateway("g", "ns", "ingress", 2024, [a, b])];
    let services = [bound("vs", &["a.com", "b.com"], vec![http("", "x")])];
    let snapshot = bound_world(gateways, services, []);
    let expected = [one("b.com:443", &["b.com"], &["outbound|80||x"])];
    assert_eq!(hosts(&routes(&snapshot, "https.443.b.g.ns")), expected);
}
