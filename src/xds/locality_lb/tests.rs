//! The tables of istio's `loadbalancer_test.go`.

use std::sync::Arc;

use super::apply;
use crate::model::{Distribute, Endpoint, Failover, Health, Labels, Locality, NetworkView};
use crate::testing::state::{endpoint, view};
use crate::xds::endpoint_policy::{Balance, Distance};
use crate::xds::split_horizon::{Host, LocalityGroup, Member};

/// The localities of istio's `buildFakeCluster`.
const FAKE: [&str; 7] = [
    "region1/zone1/subzone1",
    "region1/zone1/subzone1",
    "region1/zone1/subzone2",
    "region1/zone1/subzone3",
    "region1/zone2/",
    "region2//",
    "region3//",
];

fn localities(texts: &[&str]) -> Vec<Locality> {
    texts.iter().map(|text| Locality::parse(text)).collect()
}

/// Groups without members.
fn empty(localities: &[Locality]) -> Vec<LocalityGroup<'_>> {
    let group = |locality| LocalityGroup {
        locality,
        priority: 0,
        weight: None,
        members: Vec::new(),
    };
    localities.iter().map(group).collect()
}

/// One group for each list of endpoints.
fn groups(endpoints: &[Vec<Endpoint>]) -> Vec<LocalityGroup<'_>> {
    let member = |endpoint| Member {
        host: Host::Workload(endpoint),
        weight: 1,
        health: Health::Healthy,
        tls_mode: None,
    };
    let filled = endpoints.iter().map(|list| LocalityGroup {
        locality: &list[0].workload.locality,
        priority: 0,
        weight: u32::try_from(list.len()).ok(),
        members: list.iter().map(member).collect(),
    });
    filled.collect()
}

fn priorities(groups: &[LocalityGroup<'_>]) -> Vec<u32> {
    groups.iter().map(|g| g.priority).collect()
}

fn failovers(pairs: &[(&str, &str)]) -> Vec<Failover> {
    let one = |(from, to): &(&str, &str)| Failover {
        from: Arc::from(*from),
        to: Arc::from(*to),
    };
    pairs.iter().map(one).collect()
}

fn texts(labels: &[&str]) -> Vec<Arc<str>> {
    labels.iter().map(|l| Arc::from(*l)).collect()
}

fn from(locality: &str) -> NetworkView {
    NetworkView {
        locality: Some(Locality::parse(locality)),
        ..view("")
    }
}

fn by_distance(localities: &[Locality], distance: Distance) -> Vec<u32> {
    let mut groups = empty(localities);
    let labels = Vec::new();
    let balance = Balance::Priorities { labels, distance };
    apply(&mut groups, &balance, &from("region1/zone1/subzone1"));
    priorities(&groups)
}

fn weights_after(localities: &[Locality], rules: &[(&str, &[(&str, u32)])]) -> Vec<u32> {
    let rule = |(from, to): &(&str, &[(&str, u32)])| Distribute {
        from: Arc::from(*from),
        to: to.iter().map(|(p, w)| (Arc::from(*p), *w)).collect(),
    };
    let mut groups = empty(localities);
    let balance = Balance::Distribute(rules.iter().map(rule).collect());
    apply(&mut groups, &balance, &from("region1/zone1/subzone1"));
    groups.iter().map(|g| g.weight.unwrap_or(0)).collect()
}

#[test]
fn distribution_shares_weight_between_equal_localities() {
    let to: &[_] = &[
        ("region1/zone1/subzone1", 80),
        ("region1/zone1/subzone2", 15),
        ("region1/zone1/subzone3", 5),
    ];
    let got = weights_after(&localities(&FAKE), &[("region1/zone1/subzone1", to)]);
    assert_eq!(got, [40, 40, 15, 5, 0, 0, 0]);
}

#[test]
fn the_first_matching_distribution_counts() {
    let here = localities(&FAKE);
    let rules: &[(&str, &[(&str, u32)])] = &[
        ("region9/*", &[("*", 1)]),
        ("region1/zone1", &[("region2", 70), ("region3", 30)]),
        ("*", &[("*", 1)]),
    ];
    assert_eq!(weights_after(&here, rules), [0, 0, 0, 0, 0, 70, 30]);
    // None matches: nothing changes.
    assert_eq!(weights_after(&here, &[("", &[("*", 1)])]), [0; 7]);
}

#[test]
fn the_most_specific_pattern_takes_a_group() {
    let to: &[_] = &[
        ("*", 10),
        ("region1/*", 20),
        ("region1/zone1/subzone2", 40),
        ("region1/zone2", 30),
    ];
    let got = weights_after(&localities(&FAKE), &[("*", to)]);
    assert_eq!(got, [7, 7, 40, 7, 30, 5, 5]);
}

#[test]
fn a_large_distribution_does_not_wrap() {
    let here = localities(&["region1//", "region2//"]);
    let mut groups = empty(&here);
    for group in &mut groups {
        group.weight = Some(u32::MAX);
    }
    let rule = Distribute {
        from: Arc::from("*"),
        to: vec![(Arc::from("*"), 100)],
    };
    apply(
        &mut groups,
        &Balance::Distribute(vec![rule]),
        &from("region1"),
    );
    assert_eq!(groups[0].weight, Some(50));
}

#[test]
fn failover_orders_by_distance_and_target_region() {
    let distance = || Distance::Locality(failovers(&[("region1", "region2")]));
    let all = by_distance(&localities(&FAKE), distance());
    assert_eq!(all, [0, 0, 1, 1, 2, 3, 4]);
    let small = [
        "region1/zone1/subzone2",
        "region2/zone1/subzone2",
        "region2/zone1/subzone2",
    ];
    assert_eq!(by_distance(&localities(&small), distance()), [0, 1, 1]);
    let unknown = ["region1/zone1/subzone2", "", "region2/zone1/subzone2"];
    assert_eq!(by_distance(&localities(&unknown), distance()), [0, 2, 1]);
}

#[test]
fn only_the_first_failover_of_a_region_counts() {
    let twice = failovers(&[("region1", "region3"), ("region1", "region2")]);
    let got = by_distance(&localities(&FAKE), Distance::Locality(twice));
    assert_eq!(got, [0, 0, 1, 1, 2, 4, 3]);
}

#[test]
fn zone_aware_routing_keeps_the_region_together() {
    type Case<'a> = (&'a [(&'a str, &'a str)], [u32; 7]);
    let cases: [Case<'_>; 3] = [
        (&[], [0, 0, 0, 0, 0, 1, 1]),
        (&[("region1", "region2")], [0, 0, 0, 0, 0, 1, 2]),
        (&[("region9", "region2")], [0, 0, 0, 0, 0, 1, 1]),
    ];
    for (failover, want) in cases {
        let distance = Distance::Region(failovers(failover));
        assert_eq!(by_distance(&localities(&FAKE), distance), want);
    }
}

fn labelled(address: &str, locality: &str, network: &str, cluster: &str, key: &str) -> Endpoint {
    let mut one = endpoint(address).on(network, cluster).at(locality);
    if !key.is_empty() {
        one = one.label("key", key);
    }
    one.build()
}

/// istio's `buildWrappedLocalityLbEndpoints`.
fn three_localities() -> Vec<Vec<Endpoint>> {
    vec![
        vec![
            labelled("1.1.1.1", "region1/zone1/subzone1", "n1", "c1", ""),
            labelled("2.2.2.2", "region1/zone1/subzone1", "n2", "c2", "value"),
        ],
        vec![
            labelled("3.3.3.3", "region2/zone2/subzone2", "n1", "c3", "value"),
            labelled("4.4.4.4", "region2/zone2/subzone2", "n2", "c4", "value"),
        ],
        vec![
            labelled("1.2.3.4", "region3/zone3/subzone3", "n1", "c1", "value"),
            labelled("2.3.4.5", "region3/zone3/subzone3", "n2", "c2", "value"),
        ],
    ]
}

/// istio's `buildWrappedLocalityLbEndpointsForFailoverPriorityWithFailover`.
fn six_localities() -> Vec<Vec<Endpoint>> {
    vec![
        vec![labelled(
            "1.1.1.1",
            "region1/zone1/subzone1",
            "n1",
            "c1",
            "",
        )],
        vec![labelled(
            "2.2.2.2",
            "region1/zone2/subzone2",
            "n2",
            "c2",
            "value",
        )],
        vec![labelled(
            "3.3.3.3",
            "region2/zone2/subzone2",
            "n1",
            "c3",
            "value",
        )],
        vec![labelled(
            "4.4.4.4",
            "region3/zone3/subzone3",
            "n2",
            "c4",
            "value",
        )],
        vec![labelled(
            "5.5.5.5",
            "region2/zone2/subzone2",
            "n2",
            "c2",
            "",
        )],
        vec![labelled(
            "6.6.6.6",
            "region3/zone3/subzone3",
            "n1",
            "c6",
            "value",
        )],
    ]
}

fn split(
    endpoints: &[Vec<Endpoint>],
    labels: &[&str],
    proxy: &[(&str, &str)],
    distance: Distance,
) -> Vec<u32> {
    let labels = texts(labels);
    let balance = Balance::Priorities { labels, distance };
    let view = NetworkView {
        labels: proxy.iter().copied().collect::<Labels>(),
        ..from("region1/zone1/subzone1")
    };
    let mut groups = groups(endpoints);
    apply(&mut groups, &balance, &view);
    priorities(&groups)
}

const NETWORK: &str = "topology.istio.io/network";
const CLUSTER: &str = "topology.istio.io/cluster";

#[test]
fn failover_priority_splits_groups_by_label() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [u32]);
    let cases: [Case<'_>; 6] = [
        // No label matches.
        (
            &[NETWORK, CLUSTER],
            &[(NETWORK, "test"), (CLUSTER, "test")],
            &[0, 0, 0],
        ),
        (
            &[NETWORK, CLUSTER],
            &[(NETWORK, "n1"), (CLUSTER, "test")],
            &[0, 1, 0, 1, 0, 1],
        ),
        // The first label does not match, the second one does.
        (
            &[NETWORK, CLUSTER],
            &[(NETWORK, "test"), (CLUSTER, "c1")],
            &[0, 1, 1, 0, 1],
        ),
        (
            &["key", NETWORK, CLUSTER],
            &[("key", "value"), (NETWORK, "n2"), (CLUSTER, "c2")],
            &[0, 3, 1, 2, 0, 2],
        ),
        // A value in the list wins over the proxy's.
        (
            &["topology.istio.io/network=n1"],
            &[(NETWORK, "n2"), (CLUSTER, "test")],
            &[0, 1, 0, 1, 0, 1],
        ),
        (
            &["topology.istio.io/network=n3"],
            &[(NETWORK, "n1"), (CLUSTER, "test")],
            &[0, 0, 0],
        ),
    ];
    for (labels, proxy, want) in cases {
        let got = split(&three_localities(), labels, proxy, Distance::Ignored);
        assert_eq!(got, want, "{labels:?} {proxy:?}");
    }
}

#[test]
fn another_network_comes_after_all_of_the_own_one() {
    let labels = [
        NETWORK,
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let proxy = [
        (NETWORK, "n1"),
        (labels[1], "region2"),
        (labels[2], "zone2"),
    ];
    let got = split(&six_localities(), &labels, &proxy, Distance::Ignored);
    assert_eq!(got, [1, 3, 0, 3, 2, 1]);
}

#[test]
fn failover_is_the_finer_order_below_failover_priority() {
    let proxy = [(NETWORK, "n2"), (CLUSTER, "c2")];
    let failover = Distance::Locality(failovers(&[("region1", "region2")]));
    let got = split(&six_localities(), &[NETWORK, CLUSTER], &proxy, failover);
    assert_eq!(got, [3, 0, 4, 2, 1, 5]);
}

#[test]
fn a_proxy_without_labels_leaves_groups_whole() {
    let got = split(&three_localities(), &[NETWORK], &[], Distance::Ignored);
    assert_eq!(got, [0, 0, 0]);
}

#[test]
fn zone_aware_routing_works_below_failover_priority() {
    let proxy = [(NETWORK, "n1"), (CLUSTER, "c1")];
    let got = split(
        &three_localities(),
        &[NETWORK, CLUSTER],
        &proxy,
        Distance::Region(Vec::new()),
    );
    // Own region and labels first; labels before regions.
    assert_eq!(got[0], 0);
    assert!(got.iter().skip(1).all(|p| *p > 0), "{got:?}");
}
