use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::agent_config;

fn of(arguments: &[&str]) -> Value {
    bootstrap(&agent_config(arguments, &[]), Path::new("proxy/SDS"))
}

const BASE: [&str; 6] = [
    "--ip",
    "10.0.0.1",
    "--service-account",
    "web",
    "--cluster-id",
    "c1",
];

fn with(more: &[&'static str]) -> Value {
    of(&[&BASE[..], more].concat())
}

fn cluster<'a>(bootstrap: &'a Value, name: &str) -> &'a Value {
    let all = bootstrap["static_resources"]["clusters"].as_array();
    let all = all.expect("a list");
    let found = all.iter().find(|cluster| cluster["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {all:?}"))
}

fn at(cluster: &Value) -> &Value {
    &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
}

#[test]
fn the_node_carries_id_locality_and_metadata() {
    let bootstrap = with(&["--locality", "eu/a/b"]);
    let node = &bootstrap["node"];
    assert_eq!(
        node["id"],
        "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"
    );
    let locality = json!({"region": "eu", "zone": "a", "sub_zone": "b"});
    assert_eq!(node["locality"], locality);
    assert_eq!(node["metadata"]["CLUSTER_ID"], "c1");
    assert_eq!(node["metadata"]["ENVOY_STATUS_PORT"], 15021);
}

#[test]
fn the_control_plane_is_dialled_with_the_workloads_certificate() {
    let bootstrap = with(&["--discovery-address", "istiod.istio-system.svc:15012"]);
    let ads = &bootstrap["dynamic_resources"]["ads_config"];
    assert_eq!(ads["api_type"], "DELTA_GRPC");
    let cluster = cluster(&bootstrap, "xds-grpc");
    assert_eq!(cluster["type"], "STRICT_DNS");
    assert_eq!(cluster["dns_lookup_family"], "V4_ONLY");
    let socket = json!({"address": "istiod.istio-system.svc", "port_value": 15012});
    assert_eq!(at(cluster)["socket_address"], socket);
    let tls = &cluster["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "istiod.istio-system.svc");
    let common = &tls["common_tls_context"];
    assert_eq!(common["alpn_protocols"], json!(["h2"]));
    let own = &common["tls_certificate_sds_secret_configs"][0];
    assert_eq!(own["name"], "default");
    let source = &own["sds_config"]["api_config_source"];
    assert_eq!(
        source["grpc_services"][0]["envoy_grpc"]["cluster_name"],
        "sds-grpc"
    );
    let combined = &common["combined_validation_context"];
    let san = json!([{"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}]);
    let checked = &combined["default_validation_context"]["match_typed_subject_alt_names"];
    assert_eq!(checked, &san);
    let roots = &combined["validation_context_sds_secret_config"]["name"];
    assert!(roots.as_str().expect("a name").starts_with("file-root:/"));
}

#[test]
fn a_control_plane_at_an_address_is_checked_by_it() {
    let bootstrap = with(&["--discovery-address", "[fd00::9]:15012"]);
    let cluster = cluster(&bootstrap, "xds-grpc");
    assert_eq!(cluster["type"], "STATIC");
    assert_eq!(at(cluster)["socket_address"]["address"], "fd00::9");
    let tls = &cluster["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], Value::Null);
    let combined = &tls["common_tls_context"]["combined_validation_context"];
    let checked = &combined["default_validation_context"]["match_typed_subject_alt_names"];
    assert_eq!(checked[0]["san_type"], "IP_ADDRESS");
}

#[test]
fn secrets_come_from_the_agents_socket() {
    let bootstrap = with(&[]);
    let secrets = cluster(&bootstrap, "sds-grpc");
    assert_eq!(at(secrets)["pipe"]["path"], "proxy/SDS");
    let plain = with(&["--proxy-config", "controlPlaneAuthPolicy: NONE"]);
    assert_eq!(cluster(&plain, "xds-grpc")["transport_socket"], Value::Null);
}

#[test]
fn static_listeners_pass_metrics_and_readiness_on() {
    let bootstrap = with(&["--admin-port", "16000", "--status-port", "16020"]);
    let listeners = bootstrap["static_resources"]["listeners"].as_array();
    let names: Vec<_> = listeners
        .expect("a list")
        .iter()
        .map(|l| &l["name"])
        .collect();
    assert_eq!(names, ["0.0.0.0_15090", "0.0.0.0_15021"]);
    let admin = json!({"address": "127.0.0.1", "port_value": 16000});
    assert_eq!(bootstrap["admin"]["address"]["socket_address"], admin);
    let metrics = cluster(&bootstrap, "prometheus_stats");
    assert_eq!(at(metrics)["socket_address"], admin);
    let pages = at(cluster(&bootstrap, "agent"));
    assert_eq!(pages["socket_address"]["port_value"], 16020);
}

#[test]
fn a_proxy_of_both_families_listens_on_both() {
    let bootstrap = of(&["--ip", "10.0.0.1,fd00::1"]);
    let listener = &bootstrap["static_resources"]["listeners"][0];
    let more = &listener["additional_addresses"][0]["address"]["socket_address"];
    assert_eq!(more["address"], "::");
    let v6 = of(&["--ip", "fd00::1"]);
    let listener = &v6["static_resources"]["listeners"][0];
    assert_eq!(listener["address"]["socket_address"]["address"], "::");
    assert_eq!(v6["admin"]["address"]["socket_address"]["address"], "::1");
}

#[test]
fn statistics_are_those_needed_and_those_chosen() {
    let chosen = "proxyStatsMatcher: {inclusionPrefixes: ['http.{pod_ip}_']}";
    let bootstrap = with(&["--proxy-config", chosen]);
    let matcher = &bootstrap["stats_config"]["stats_matcher"];
    let patterns = matcher["inclusion_list"]["patterns"].as_array();
    let patterns = patterns.expect("a list");
    for expected in [
        json!({"prefix": "http.10.0.0.1_"}),
        json!({"prefix": "cluster_manager"}),
        json!({"suffix": "downstream_cx_active"}),
    ] {
        assert!(patterns.contains(&expected), "{expected}: {patterns:?}");
    }
}
