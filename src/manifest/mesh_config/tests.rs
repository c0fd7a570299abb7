use std::time::Duration;

use super::*;
use crate::model::{Hostname, Labels, OutboundPolicy};

fn read(yaml: &str) -> MeshConfig {
    parse(yaml, "cluster.local").expect("readable").value
}

fn refused(yaml: &str) -> String {
    parse(yaml, "cluster.local")
        .expect_err("refused")
        .to_string()
}

#[test]
fn an_empty_mesh_has_istios_defaults() {
    let mut mesh = read("# nothing set\n");
    let local: Vec<String> = mesh
        .cluster_local
        .hosts
        .keys()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "*.kube-system.svc.cluster.local",
        "istiod.istio-system.svc.cluster.local",
        "kubernetes.default.svc.cluster.local",
    ];
    assert_eq!(local, expected);
    mesh.cluster_local = ClusterLocalHosts::default();
    assert_eq!(mesh, MeshConfig::default());
}

#[test]
fn settings_are_read() {
    let mesh = read(
        "
trustDomain: td
rootNamespace: root
connectTimeout: 5s
proxyListenPort: 16001
proxyHttpPort: 15007
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
inboundTrafficPolicy: {mode: LOCALHOST}
defaultServiceExportTo: ['.']
localityLbSetting: {enabled: false}
zoneAwareLbSetting: {enabled: true, failoverPriority: [a]}
defaultConfig: {discoveryAddress: 'istiod-rev.istio-system.svc:15012', proxyMetadata: {A: b}}
discoverySelectors:
- matchLabels: {mesh: 'on'}
- matchExpressions: [{key: env, operator: In, values: [prod]}, {key: x, operator: DoesNotExist}]
",
    );
    assert_eq!((&*mesh.trust_domain, &*mesh.root_namespace), ("td", "root"));
    assert_eq!(mesh.connect_timeout, Duration::from_secs(5));
    assert_eq!(
        (mesh.outbound_port, mesh.inbound_port, mesh.http_proxy_port),
        (16001, 15006, 15007)
    );
    assert_eq!(mesh.outbound_policy, OutboundPolicy::RegistryOnly);
    assert!(mesh.inbound_localhost);
    assert_eq!(mesh.locality_lb.enabled, Some(false));
    assert!(mesh.zone_aware.is_some());
    let own = mesh
        .default_service_export_to
        .in_namespace(&Namespace::from("a"));
    assert!(own.includes("a") && !own.includes("b"));
    let selected = |labels: &[(&str, &str)]| {
        let labels: Labels = labels.iter().copied().collect();
        mesh.discovery_selectors.iter().any(|s| s.matches(&labels))
    };
    assert!(selected(&[("mesh", "on")]) && selected(&[("env", "prod")]));
    assert!(!selected(&[("env", "prod"), ("x", "")]));
    assert_eq!(&*mesh.discovery_host, "istiod-rev.istio-system.svc");
    let host = Hostname::from("istiod-rev.istio-system.svc.cluster.local");
    assert!(mesh.cluster_local.contains(&host));
}

#[test]
fn hosts_are_cluster_local_as_the_service_settings_say() {
    let mesh = read(
        "
serviceSettings:
- settings: {clusterLocal: true}
  hosts: ['*.mine.svc.cluster.local']
- settings: {clusterLocal: false}
  hosts: [kubernetes.default.svc.cluster.local]
- hosts: [two.mine.svc.cluster.local]
",
    );
    let local = |host: &str| mesh.cluster_local.contains(&Hostname::from(host));
    assert!(local("a.mine.svc.cluster.local") && !local("two.mine.svc.cluster.local"));
    assert!(!local("kubernetes.default.svc.cluster.local"));
}

#[test]
fn unknown_fields_are_told_and_known_ones_are_not() {
    let mesh = parse(
        "{enableTracing: true, extensionProviders: [], trustDomian: x}",
        "d",
    );
    assert_eq!(
        mesh.expect("read").warnings,
        ["unknown field trustDomian is ignored"]
    );
}

#[test]
fn the_lists_of_field_names_are_sorted_and_apart() {
    assert!(READ.is_sorted() && UNREAD.is_sorted());
    assert!(READ.iter().all(|field| !UNREAD.contains(field)));
}

#[test]
fn errors_say_which_field_is_wrong() {
    assert_eq!(
        refused("connectTimeout: soon"),
        "connectTimeout: \"soon\" is not a duration; write it as 10s"
    );
    assert_eq!(
        refused("proxyListenPort: 99999"),
        "proxyListenPort: 99999 is not a port; use 1 to 65535"
    );
    assert!(
        refused("discoverySelectors: [{matchExpressions: [{key: a, operator: Is}]}]")
            .starts_with("discoverySelectors[0].matchExpressions[0].operator: \"Is\" is unknown")
    );
    assert!(refused("rootNamespace: {}").starts_with("rootNamespace: invalid type: map"));
    assert!(refused("a: [").starts_with("not YAML: "));
}
