//! Where connections go that `VirtualService`s route.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use prost::Message;

use crate::model::{Protocol, Proxy, Resolution, TypeUrl};
use crate::testing::snapshot::{external, service, sidecar, snapshot_of};
use crate::testing::virtual_services::mesh_with;
use crate::xds::tests::{named, resources};

fn listener(spec: &str, proxy: Proxy, name: &str) -> Listener {
    let yaml = format!("metadata: {{name: v, namespace: ns}}\nspec: {spec}");
    let vip = |n| IpAddr::from([10, 96, 0, n]);
    let db = service("db", "ns")
        .port("tcp", 3306, Protocol::Tcp)
        .port("tls", 443, Protocol::Tls)
        .vip(vip(1));
    let other = service("other", "ns")
        .port("tcp", 3306, Protocol::Tcp)
        .vip(vip(2));
    let outside =
        external("out.example.com", "ns", Resolution::Passthrough).port("tls", 8443, Protocol::Tls);
    let world = snapshot_of(mesh_with(&yaml), [db, other, outside]);
    named(&resources(&world, proxy), TypeUrl::Listener, name)
}

fn chains(spec: &str, name: &str) -> Vec<String> {
    let listener = listener(spec, sidecar("ns"), name);
    let all = listener.filter_chains.iter();
    let all = all.chain(&listener.default_filter_chain);
    all.map(summary).collect()
}

/// Names, ranges and clusters of a chain, the host of `ns` left out.
fn summary(chain: &FilterChain) -> String {
    let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("{chain:?}");
    };
    let proxy = TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy");
    let to = match proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster,
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let shares = weighted.clusters.iter();
            let shares: Vec<_> = shares.map(|c| format!("{} {}", c.weight, c.name)).collect();
            shares.join(" + ")
        }
        None => panic!("{chain:?}"),
    };
    let found = chain.filter_chain_match.clone().unwrap_or_default();
    let ranges = found.prefix_ranges.iter();
    let ranges: Vec<_> = ranges.map(|r| r.address_prefix.as_str()).collect();
    let to = to.replace(".ns.svc.cluster.local", "");
    format!("{}{} {to}", found.server_names.join(","), ranges.join(","))
}

const DB: &str = "10.96.0.1_3306";

#[test]
fn bytes_go_where_the_first_route_for_any_address_says() {
    let spec = "{hosts: [db], tcp: [
        {match: [{port: 1}], route: [{destination: {host: never}}]},
        {match: [{port: 3306, destinationSubnets: [10.1.0.0/16, 10.2.0.1]}], route: [{destination: {host: some}}]},
        {route: [{destination: {host: other, subset: v1}, weight: 20}, {destination: {host: db}, weight: 80}]},
        {route: [{destination: {host: never}}]}]}";
    let expected = [
        "10.1.0.0,10.2.0.1 outbound|3306||some",
        " 20 outbound|3306|v1|other + 80 outbound|3306||db",
    ];
    assert_eq!(chains(spec, DB), expected);
}

#[test]
fn what_no_route_takes_goes_to_the_service() {
    let spec = "{hosts: [db], tcp: [
        {match: [{sourceLabels: {app: x}}], route: [{destination: {host: other}}]},
        {match: [{destinationSubnets: [10.1.0.0/16]}], route: [{destination: {host: some}}]}]}";
    let expected = ["10.1.0.0 outbound|3306||some", " outbound|3306||db"];
    assert_eq!(chains(spec, DB), expected);
    let chosen = Proxy {
        labels: [("app", "x")].into_iter().collect(),
        ..sidecar("ns")
    };
    let listener = listener(spec, chosen, DB);
    let only = &listener.filter_chains[0];
    assert_eq!(summary(only), " outbound|3306||other");
    let origin = &only.metadata.as_ref().expect("its origin").filter_metadata;
    assert!(origin.contains_key("istio"));
}

#[test]
fn a_service_of_another_name_is_left_alone() {
    let spec = "{hosts: [db], tcp: [{route: [{destination: {host: elsewhere}}]}]}";
    assert_eq!(chains(spec, "10.96.0.2_3306"), [" outbound|3306||other"]);
    let all = "{hosts: ['*.ns.svc.cluster.local'], tcp: [{route: [{destination: {host: x}}]}]}";
    assert_eq!(chains(all, "10.96.0.2_3306"), [" outbound|3306||x"]);
}

#[test]
fn tls_goes_by_server_name_and_nothing_is_left_to_the_service() {
    let spec = "{hosts: [db, out.example.com], tls: [
        {match: [{sniHosts: [b.example.com, a.example.com], port: 443}], route: [{destination: {host: db}}]},
        {match: [{sniHosts: [a.example.com, b.example.com]}], route: [{destination: {host: never}}]},
        {match: [{sniHosts: ['*']}], route: [{destination: {host: other, port: {number: 3306}}}]}]}";
    let at_443 = [
        "a.example.com,b.example.com outbound|443||db",
        " outbound|3306||other",
    ];
    assert_eq!(chains(spec, "10.96.0.1_443"), at_443);
    let at_8443 = [
        "a.example.com,b.example.com outbound|8443||never",
        " outbound|3306||other",
    ];
    assert_eq!(chains(spec, "0.0.0.0_8443"), at_8443);
    let plain = "{hosts: [db], tcp: [{route: [{destination: {host: never}}]}]}";
    assert_eq!(chains(plain, "10.96.0.1_443"), [" outbound|443||db"]);
}

#[test]
fn beside_gateways_labels_count_for_connections() {
    let spec = |labels: &str| {
        format!(
            "{{hosts: [db], tcp: [{{match: [{{gateways: [mesh], sourceLabels: {labels}}}],
              route: [{{destination: {{host: other}}}}]}}]}}"
        )
    };
    assert_eq!(chains(&spec("{}"), DB), [" outbound|3306||other"]);
    assert_eq!(chains(&spec("{app: x}"), DB), [" outbound|3306||db"]);
}
