use std::sync::Arc;

use super::project;
use crate::mesh::ServiceState;
use crate::model::{
    ClusterId, Failover, Hostname, IpFamily, Labels, LoadBalancer, Locality, LocalityLb, NetworkId,
    NetworkView, NodeKind, OutlierDetection, Proxy, ProxyIps, Subset, TrafficDistribution,
    TrafficPolicy, Workload, ZoneAwareLb,
};
use crate::testing::state::{HOST, StateBuilder, endpoint, proxy, rule, state};
use crate::xds::audience::Facts;

fn cluster() -> crate::model::ClusterName {
    crate::model::ClusterName::outbound(80, "", &Hostname::from(HOST))
}

fn of(proxy: &Proxy, state: &ServiceState) -> NetworkView {
    project(&Facts::of(proxy, None), state, &cluster(), None)
}

/// A proxy of which everything is set.
fn full() -> Proxy {
    Proxy {
        kind: NodeKind::Router,
        locality: Locality::parse("r1/z1/s1"),
        labels: [("app", "client")].into_iter().collect(),
        node: Arc::from("node-1"),
        ..proxy("n1", "c1")
    }
}

fn two_networks() -> StateBuilder {
    state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1"))
}

#[test]
fn a_plain_service_does_not_tell_proxies_apart() {
    assert_eq!(of(&full(), &state().build()), NetworkView::default());
    let mut other = full();
    other.ips = ProxyIps(vec!["2001:db8::1".parse().expect("an address")]);
    other.network = None;
    assert_eq!(of(&other, &state().build()), NetworkView::default());
}

#[test]
fn gateways_make_network_and_family_count() {
    let want = NetworkView {
        network: Some(NetworkId::from("n1")),
        family: IpFamily::V4,
        ..NetworkView::default()
    };
    assert_eq!(of(&full(), &two_networks().build()), want);
}

#[test]
fn the_requested_view_counts() {
    let mut router = full();
    router.requested_networks = Arc::from([NetworkId::from("n1")]);
    let view = of(&router, &state().build());
    assert_eq!(&*view.requested, [NetworkId::from("n1")]);
}

#[test]
fn services_bound_to_a_cluster_or_node_make_them_count() {
    let mut local = state();
    local.service.cluster_local = true;
    let view = of(&full(), &local.build());
    assert_eq!(
        (view.cluster, view.node),
        (Some(ClusterId::from("c1")), None)
    );
    let mut node = state();
    node.service.node_local = true;
    let view = of(&full(), &node.build());
    assert_eq!(view.cluster, Some(ClusterId::from("c1")));
    assert_eq!(view.node.as_deref(), Some("node-1"));
    let mut exported = state();
    exported.features.mcs_discovery = true;
    assert!(of(&full(), &exported.build()).cluster.is_some());
}

fn with_rule(
    locality: Option<LocalityLb>,
    zone_aware: Option<ZoneAwareLb>,
    outlier: bool,
) -> ServiceState {
    let mut rule = rule();
    rule.policy.base.outlier_detection = outlier.then(OutlierDetection::default);
    rule.policy.base.load_balancer = Some(LoadBalancer {
        locality,
        zone_aware,
        ..LoadBalancer::default()
    });
    state().rule(rule).build()
}

fn ruled(proxy: &Proxy, workload: Option<&Workload>, state: &ServiceState) -> NetworkView {
    project(&Facts::of(proxy, workload), state, &cluster(), Some(0))
}

#[test]
fn locality_counts_where_priorities_depend_on_it() {
    let state = with_rule(None, None, true);
    let view = ruled(&full(), None, &state);
    assert_eq!(view.locality, Some(Locality::parse("r1/z1/s1")));
    assert_eq!((view.rule, view.labels.is_empty()), (Some(0), true));
    // Zone-aware routing looks at the region only.
    let state = with_rule(None, Some(ZoneAwareLb::default()), false);
    assert_eq!(
        ruled(&full(), None, &state).locality,
        Some(Locality::parse("r1"))
    );
    let off = LocalityLb {
        enabled: Some(false),
        ..LocalityLb::default()
    };
    assert_eq!(
        ruled(&full(), None, &with_rule(Some(off), None, true)).locality,
        None
    );
}

#[test]
fn failover_labels_count_with_the_place_of_the_proxy() {
    let priority = LocalityLb {
        failover_priority: [
            "topology.kubernetes.io/region",
            "kubernetes.io/hostname",
            "tier",
            "app=x",
        ]
        .map(Arc::from)
        .to_vec(),
        ..LocalityLb::default()
    };
    let state = with_rule(Some(priority), None, true);
    let want: Labels = [
        ("topology.kubernetes.io/region", "r1"),
        ("kubernetes.io/hostname", "node-1"),
        ("tier", ""),
        // The rule's own value is compared, not the proxy's.
        ("app", ""),
    ]
    .into_iter()
    .collect();
    let view = ruled(&full(), None, &state);
    assert_eq!((view.labels, view.locality), (want, None));
    let mut bare = proxy("", "");
    bare.node = Arc::from("");
    assert!(ruled(&bare, None, &state).labels.is_empty());
}

#[test]
fn failover_beside_failover_labels_makes_locality_count_too() {
    let both = LocalityLb {
        failover_priority: vec![Arc::from("app")],
        failover: vec![Failover {
            from: Arc::from("r1"),
            to: Arc::from("r2"),
        }],
        ..LocalityLb::default()
    };
    let view = ruled(&full(), None, &with_rule(Some(both), None, true));
    assert_eq!(view.labels.get("app"), Some("client"));
    assert_eq!(view.locality, Some(Locality::parse("r1/z1/s1")));
}

#[test]
fn the_pod_behind_a_proxy_wins_over_its_node_message() {
    let mut builder = state();
    builder.service.distribution = TrafficDistribution::PreferSameNode;
    let state = builder.build();
    let pod = endpoint("10.0.0.9")
        .on("pod-net", "c1")
        .at("r9/z9/")
        .build();
    let view = ruled(&full(), Some(&pod.workload), &state);
    let want: Labels = [
        ("topology.istio.io/network", "pod-net"),
        ("topology.kubernetes.io/region", "r9"),
        ("topology.kubernetes.io/zone", "z9"),
        ("topology.istio.io/subzone", ""),
        ("kubernetes.io/hostname", "node-1"),
    ]
    .into_iter()
    .collect();
    assert_eq!(view.labels, want);
    // NETWORK only fills a missing label.
    let view = ruled(&full(), None, &state);
    assert_eq!(view.labels.get("topology.istio.io/network"), Some("n1"));
}

#[test]
fn locality_labels_win_over_the_node_message() {
    let state = with_rule(None, None, true);
    let of = |labels: &[(&str, &str)]| {
        let mut proxy = full();
        proxy.labels = labels.iter().copied().collect();
        ruled(&proxy, None, &state)
            .locality
            .expect("a locality")
            .to_string()
    };
    assert_eq!(of(&[("topology.kubernetes.io/zone", "z7")]), "/z7/");
    assert_eq!(of(&[("topology.istio.io/locality", "a/b")]), "a/b/");
    assert_eq!(of(&[("istio-locality", "a.b.c")]), "a/b/c");
    assert_eq!(of(&[("istio-locality", "a/b.c")]), "a/b.c/");
}

#[test]
fn a_rule_that_says_nothing_here_is_erased() {
    let mut quiet = rule();
    quiet.subsets = vec![Subset {
        name: Arc::from("v1"),
        labels: [("version", "v1")].into_iter().collect(),
        policy: TrafficPolicy::default(),
    }];
    let state = state().rule(quiet).build();
    assert_eq!(ruled(&full(), None, &state), NetworkView::default());
    let mut subset = cluster();
    subset.subset = Arc::from("v1");
    assert_eq!(
        project(&Facts::of(&full(), None), &state, &subset, Some(0)).rule,
        Some(0)
    );
    // A number that is not there (any more) is no rule.
    assert_eq!(
        project(&Facts::of(&full(), None), &state, &subset, Some(7)).rule,
        None
    );
}

#[test]
fn a_port_that_is_not_there_has_one_answer() {
    let mut cluster = cluster();
    cluster.port = 81;
    let view = project(
        &Facts::of(&full(), None),
        &two_networks().build(),
        &cluster,
        None,
    );
    assert_eq!(view, NetworkView::default());
}
