use std::sync::Arc;

use super::{Host, LocalityGroup, assign};
use crate::mesh::{EdsKey, ServiceState};
use crate::model::{
    Address, ClusterId, DestinationRule, Distribute, Failover, GatewayAddress, Health, IpFamily,
    Labels, LoadBalancer, LocalityLb, NetworkId, NetworkView, NodeKind, OutlierDetection,
    PersistentSession, PolicySettings, Resolution, Subset, TlsMode, TlsSetting,
    TrafficDistribution, TrafficPolicy,
};
use crate::testing::state::{EndpointBuilder, StateBuilder, endpoint, key, rule, state, view};

/// Address, weight and state of every member.
fn members(group: &LocalityGroup<'_>) -> Vec<(String, u32, Health)> {
    let text = |host: &Host<'_>| match host {
        Host::Workload(e) => match &e.address {
            Address::Ip(_) | Address::Ips(_) => e.address.ips()[0].to_string(),
            Address::Hostname(name) | Address::Unix(name) => name.to_string(),
            Address::Unknown => String::new(),
        },
        Host::Gateway(g) => match &g.address {
            GatewayAddress::Ip(ip) => format!("gw {ip}"),
            GatewayAddress::Hostname(name) => format!("gw {name}"),
        },
    };
    let all = group.members.iter();
    all.map(|m| (text(&m.host), m.weight, m.health)).collect()
}

/// One line a group: `locality pN weight: address=weight …`; `!` marks unready
/// members, `~` draining ones.
fn lines(groups: &[LocalityGroup<'_>]) -> Vec<String> {
    let line = |group: &LocalityGroup<'_>| {
        let members = members(group).into_iter().map(|(address, weight, health)| {
            let mark = match health {
                Health::Unknown | Health::Healthy => "",
                Health::Unhealthy | Health::Terminating => "!",
                Health::Draining => "~",
            };
            format!(" {address}={weight}{mark}")
        });
        let weight = group.weight.map_or("-".to_owned(), |w| w.to_string());
        let members: String = members.collect();
        format!("{} p{} {weight}:{members}", group.locality, group.priority)
    };
    groups.iter().map(line).collect()
}

fn answer(state: &ServiceState, view: NetworkView) -> Vec<String> {
    lines(&assign(state, &key(view)))
}

fn answer_for(state: &ServiceState, key: &EdsKey) -> Vec<String> {
    lines(&assign(state, key))
}

fn sni(view: NetworkView) -> EdsKey {
    let mut key = key(view);
    key.cluster = key.cluster.sni_dnat();
    key
}

/// istio `ep_filters_test.go`: one gateway for network1, three for network2
/// (one in cluster2a, two in cluster2b), one for network3 without endpoints,
/// none for network4.
fn four_networks() -> StateBuilder {
    let on = |address: &str, network: &str, cluster: &str| endpoint(address).on(network, cluster);
    state()
        .gateway("network1", "cluster1a", "1.1.1.1", 80)
        .gateway("network2", "cluster2a", "2.2.2.2", 80)
        .gateway("network2", "cluster2b", "2.2.2.20", 80)
        .gateway("network2", "cluster2b", "2.2.2.21", 80)
        .gateway("network3", "cluster3", "3.3.3.3", 443)
        .with(&on("10.0.0.1", "network1", "cluster1a"))
        .with(&on("foo.bar", "network1", "cluster1a"))
        // istio's test has an HBONE endpoint here, which cannot cross either.
        .with(&on("10.0.0.3", "network1", "cluster1a").tls(TlsMode::Disabled))
        .with(&on("10.0.0.2", "network1", "cluster1b"))
        .with(&on("20.0.0.1", "network2", "cluster2a"))
        .with(&on("20.0.0.2", "network2", "cluster2b"))
        .with(&on("20.0.0.3", "network2", "cluster2b"))
        .with(&on("40.0.0.1", "network4", "cluster4"))
}

const FROM_NETWORK1: &str = " p0 42: 10.0.0.1=6 10.0.0.2=6 10.0.0.3=6 40.0.0.1=6 \
                             gw 2.2.2.2=6 gw 2.2.2.20=6 gw 2.2.2.21=6";
const FROM_NETWORK1_MTLS: &str = " p0 36: 10.0.0.1=6 10.0.0.2=6 40.0.0.1=6 \
                                  gw 2.2.2.2=6 gw 2.2.2.20=6 gw 2.2.2.21=6";
const FROM_NETWORK2: &str = " p0 36: 20.0.0.1=6 20.0.0.2=6 20.0.0.3=6 40.0.0.1=6 gw 1.1.1.1=12";
const FROM_ELSEWHERE: &str =
    " p0 36: 40.0.0.1=6 gw 1.1.1.1=12 gw 2.2.2.2=6 gw 2.2.2.20=6 gw 2.2.2.21=6";

#[test]
fn remote_endpoints_appear_as_their_gateways() {
    let state = four_networks().build();
    let cases = [
        ("network1", FROM_NETWORK1),
        ("network2", FROM_NETWORK2),
        ("network3", FROM_ELSEWHERE),
        ("network4", FROM_ELSEWHERE),
    ];
    for (network, want) in cases {
        for kind in [NodeKind::Sidecar, NodeKind::Router] {
            let view = NetworkView {
                kind,
                ..view(network)
            };
            assert_eq!(answer(&state, view), [want], "{network}");
        }
    }
}

fn tls_rule(
    top: Option<TlsSetting>,
    port: Option<(u16, TlsSetting)>,
    subset: Option<TlsSetting>,
) -> DestinationRule {
    let with = |tls: Option<TlsSetting>| PolicySettings {
        tls: tls.map(|mode| Arc::new(mode.into())),
        ..PolicySettings::default()
    };
    let mut rule = rule();
    rule.policy.base = with(top);
    rule.policy.ports = port
        .into_iter()
        .map(|(n, tls)| (n, with(Some(tls))))
        .collect();
    rule.subsets = vec![Subset {
        name: Arc::from("v1"),
        labels: [("app", "example")].into_iter().collect(),
        policy: TrafficPolicy {
            base: with(subset),
            ports: Vec::new(),
        },
    }];
    rule
}

/// istio `mtlsCases`: what a rule's TLS mode does to cross-network endpoints.
#[test]
fn crossing_networks_needs_mesh_mtls() {
    use TlsSetting::{Disable, IstioMutual, Mutual, Simple};
    let cases = [
        ("no mode", None, None, None, true),
        ("on", Some(IstioMutual), None, None, true),
        ("on at port", None, Some((80, IstioMutual)), None, true),
        ("off", Some(Disable), None, None, false),
        ("simple", Some(Simple), None, None, false),
        ("mutual", Some(Mutual), None, None, false),
        ("off at port", None, Some((80, Disable)), None, false),
        ("off at another port", None, Some((81, Disable)), None, true),
        (
            "off at subset",
            Some(IstioMutual),
            None,
            Some(Disable),
            false,
        ),
        ("on at subset", Some(Disable), None, Some(IstioMutual), true),
        ("subset falls back to off", Some(Disable), None, None, false),
    ];
    for (name, top, port, subset, crosses) in cases {
        let state = four_networks().rule(tls_rule(top, port, subset)).build();
        let mut key = key(NetworkView {
            rule: Some(0),
            ..view("network1")
        });
        key.cluster.subset = Arc::from("v1");
        let want = if crosses {
            FROM_NETWORK1
        } else {
            " p0 24: 10.0.0.1=6 10.0.0.2=6 10.0.0.3=6 40.0.0.1=6"
        };
        assert_eq!(answer_for(&state, &key), [want], "{name}");
        // AUTO_PASSTHROUGH forwards mTLS only.
        key.cluster = key.cluster.sni_dnat();
        let want = if crosses {
            FROM_NETWORK1_MTLS
        } else {
            " p0 -:"
        };
        assert_eq!(answer_for(&state, &key), [want], "{name}, SNI");
    }
}

#[test]
fn a_rule_wins_over_peer_authentication() {
    let state = || {
        let mut state = four_networks();
        for endpoint in state.endpoints.values_mut().flatten() {
            endpoint.mtls_disabled = true;
        }
        state
    };
    let local = " p0 24: 10.0.0.1=6 10.0.0.2=6 10.0.0.3=6 40.0.0.1=6";
    assert_eq!(answer(&state().build(), view("network1")), [local]);
    let on = tls_rule(Some(TlsSetting::IstioMutual), None, None);
    let view = NetworkView {
        rule: Some(0),
        ..view("network1")
    };
    assert_eq!(answer(&state().rule(on).build(), view), [FROM_NETWORK1]);
}

#[test]
fn a_rule_cannot_lift_an_endpoint_without_sidecar() {
    let on = tls_rule(Some(TlsSetting::IstioMutual), None, None);
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(
            &endpoint("10.0.0.1")
                .on("n1", "c1")
                .tls(TlsMode::Other("x".into())),
        )
        .with(&endpoint("20.0.0.1").on("n2", "c2").tls(TlsMode::Disabled))
        .with(
            &endpoint("20.0.0.2")
                .on("n2", "c2")
                .tls(TlsMode::Other("x".into())),
        )
        .rule(on)
        .build();
    let key = key(NetworkView {
        rule: Some(0),
        ..view("n1")
    });
    let groups = assign(&state, &key);
    assert_eq!(lines(&groups), [" p0 1: 10.0.0.1=1"]);
    // A custom mode is passed through as it is.
    assert_eq!(groups[0].members[0].tls_mode, Some("x"));
}

/// istio `TestEndpointsByNetworkFilter_ProxyWithEmptyNetwork`.
#[test]
fn a_proxy_without_network_uses_every_gateway() {
    let state = state()
        .gateway("network-1", "", "1.1.1.1", 15443)
        .gateway("network-2", "", "2.2.2.2", 15443)
        .with(&endpoint("3.3.3.3").on("network-without-gateway", "c"))
        .with(&endpoint("10.10.10.10").on("network-1", "c"))
        .with(&endpoint("").on("network-2", "c"))
        .with(&endpoint("").on("network-without-gateway", "c"))
        .with(&endpoint("9.9.9.9").on("", "c"))
        .build();
    let want = " p0 4: 3.3.3.3=1 9.9.9.9=1 gw 1.1.1.1=1 gw 2.2.2.2=1";
    assert_eq!(answer(&state, view("")), [want]);
}

#[test]
fn without_any_gateway_all_endpoints_are_direct() {
    let state = state()
        .with(&endpoint("10.0.0.1").on("n1", "c1"))
        .with(&endpoint("20.0.0.1").on("n2", "c2").tls(TlsMode::Disabled))
        .with(&endpoint("").on("n2", "c2"))
        .build();
    assert_eq!(answer(&state, view("n1")), [" p0 2: 10.0.0.1=1 20.0.0.1=1"]);
}

/// istio `TestEndpointsByNetworkFilter_GatewayIPFamily`.
#[test]
fn gateways_fit_the_address_family_of_the_proxy() {
    let both = || {
        state()
            .gateway("network1", "cluster1", "1.1.1.1", 80)
            .gateway("network2", "cluster2", "2.2.2.2", 80)
            .gateway("network2", "cluster2", "2001:db8:2::1", 80)
            .with(&endpoint("20.0.0.1").on("network2", "cluster2"))
    };
    let of = |family| NetworkView {
        family,
        ..view("network1")
    };
    let cases = [
        (IpFamily::V4, " p0 2: gw 2.2.2.2=2"),
        (IpFamily::V6, " p0 2: gw 2001:db8:2::1=2"),
        (IpFamily::Any, " p0 2: gw 2.2.2.2=1 gw 2001:db8:2::1=1"),
    ];
    for (family, want) in cases {
        assert_eq!(answer(&both().build(), of(family)), [want]);
    }
    let v6_only = state()
        .gateway("network2", "cluster2", "2001:db8:2::1", 80)
        .with(&endpoint("20.0.0.1").on("network2", "cluster2"))
        .build();
    assert_eq!(answer(&v6_only, of(IpFamily::V4)), [" p0 -:"]);
    let mapped = state()
        .gateway("network2", "cluster2", "::ffff:2.2.2.2", 80)
        .with(&endpoint("20.0.0.1").on("network2", "cluster2"))
        .build();
    assert_eq!(answer(&mapped, of(IpFamily::V4)).len(), 1);
    assert_eq!(answer(&mapped, of(IpFamily::V6)), [" p0 -:"]);
}

#[test]
fn no_weight_is_lost_when_only_some_gateways_can_be_dialled() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.1", 15443)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .gateway("n2", "c2", "2001:db8::1", 15443)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .build();
    let view = NetworkView {
        family: IpFamily::V4,
        ..view("n1")
    };
    // 1 × 3 does not divide by 2; istiod sends 1 and 1.
    assert_eq!(answer(&state, view), [" p0 3: gw 2.2.2.1=2 gw 2.2.2.2=1"]);
}

#[test]
fn a_gateway_of_the_cluster_is_preferred_to_one_of_the_network() {
    let state = state()
        .gateway("n2", "", "2.2.2.1", 15443)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .with(&endpoint("20.0.0.2").on("n2", "c3"))
        .build();
    assert_eq!(
        answer(&state, view("n1")),
        [" p0 4: gw 2.2.2.1=1 gw 2.2.2.2=3"]
    );
}

#[test]
fn a_gateway_without_mtls_port_is_used_by_nobody() {
    let two = state()
        .gateway("n2", "c2", "2.2.2.1", 0)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .build();
    // istiod: with no other gateway the network counts as reachable.
    let only = state()
        .gateway("n2", "c2", "2.2.2.1", 0)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .build();
    for kind in [NodeKind::Sidecar, NodeKind::Router] {
        let view = NetworkView { kind, ..view("n1") };
        assert_eq!(answer(&two, view.clone()), [" p0 2: gw 2.2.2.2=2"]);
        assert_eq!(answer(&only, view), [" p0 1: 20.0.0.1=1"]);
    }
}

// The differences to istiod that are on purpose.

fn remote(address: &str, locality: &str) -> EndpointBuilder {
    endpoint(address).on("n2", "c2").at(locality)
}

#[test]
fn a_remote_gateway_is_sent_once_with_the_whole_weight() {
    // Remote pods in zones a, a, a, b, b, c (istio#56355).
    let mut state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z/"));
    for (n, zone) in (0..).zip(["b", "a", "c", "a", "b", "a"]) {
        state = state.with(&remote(&format!("20.0.0.{n}"), &format!("r2/{zone}/")));
    }
    let want = ["r1/z/ p0 1: 10.0.0.1=1", "r2/a/ p0 6: gw 2.2.2.2=6"];
    assert_eq!(answer(&state.build(), view("n1")), want);
}

fn failover(from: &str, to: &str) -> DestinationRule {
    let mut rule = rule();
    rule.policy.base = PolicySettings {
        outlier_detection: Some(OutlierDetection::default()),
        load_balancer: Some(LoadBalancer {
            locality: Some(LocalityLb {
                failover: vec![Failover {
                    from: Arc::from(from),
                    to: Arc::from(to),
                }],
                ..LocalityLb::default()
            }),
            ..LoadBalancer::default()
        }),
        ..PolicySettings::default()
    };
    rule
}

fn ruled(network: &str, locality: &str) -> NetworkView {
    NetworkView {
        rule: Some(0),
        locality: Some(crate::model::Locality::parse(locality)),
        ..view(network)
    }
}

#[test]
fn a_remote_gateway_takes_its_best_priority() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&remote("20.0.0.1", "r1/z2/"))
        .with(&remote("20.0.0.2", "r2/z1/"))
        .with(&remote("20.0.0.3", "r2/z1/"))
        .with(&remote("20.0.0.4", "r3/z1/"))
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z1/"))
        .with(&endpoint("10.0.0.2").on("n1", "c1").at("r3/z1/"))
        .rule(failover("r1", "r2"))
        .build();
    let want = [
        "r1/z1/ p0 1: 10.0.0.1=1",
        "r1/z2/ p1 4: gw 2.2.2.2=4",
        // Empty now, but its priority must not be skipped.
        "r2/z1/ p2 -:",
        "r3/z1/ p3 1: 10.0.0.2=1",
    ];
    assert_eq!(answer(&state, ruled("n1", "r1/z1")), want);
}

#[test]
fn among_equal_priorities_a_gateway_goes_where_most_is_ready_behind_it() {
    let most = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&remote("20.0.0.1", "r2/a/").health(Health::Unhealthy))
        .with(&remote("20.0.0.2", "r2/a/"))
        .with(&remote("20.0.0.3", "r2/b/"))
        .with(&remote("20.0.0.4", "r2/b/"))
        .with(&remote("20.0.0.5", "r2/c/"))
        .with(&remote("20.0.0.6", "r2/c/"))
        .build();
    // b and c tie: the first by name.
    assert_eq!(answer(&most, view("n1")), ["r2/b/ p0 5: gw 2.2.2.2=5"]);
}

#[test]
fn a_priority_with_nothing_ready_behind_does_not_attract_its_gateway() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&remote("20.0.0.1", "r1/z1/").health(Health::Unhealthy))
        .with(&remote("20.0.0.2", "r1/z2/"))
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z1/"))
        .rule(failover("r1", "r2"))
        .build();
    let want = ["r1/z1/ p0 1: 10.0.0.1=1", "r1/z2/ p1 1: gw 2.2.2.2=1"];
    assert_eq!(answer(&state, ruled("n1", "r1/z1")), want);
}

fn distribute(from: &str, to: &[(&str, u32)]) -> DestinationRule {
    let mut rule = rule();
    rule.policy.base.load_balancer = Some(LoadBalancer {
        locality: Some(LocalityLb {
            distribute: vec![Distribute {
                from: Arc::from(from),
                to: to.iter().map(|(p, w)| (Arc::from(*p), *w)).collect(),
            }],
            ..LocalityLb::default()
        }),
        ..LoadBalancer::default()
    });
    rule
}

#[test]
fn a_moved_gateway_takes_its_part_of_a_distribution_along() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z1/"))
        .with(&remote("20.0.0.1", "r2/a/"))
        .with(&remote("20.0.0.2", "r2/a/"))
        .with(&remote("20.0.0.3", "r2/b/"))
        .with(&remote("20.0.0.4", "r3/c/"))
        .rule(distribute(
            "r1/*",
            &[("r1/*", 60), ("r2/a", 30), ("r2/b", 10)],
        ))
        .build();
    // r3 is not in the distribution: what is behind the gateway there does not
    // count, and the group stays empty as in istiod.
    let want = [
        "r1/z1/ p0 60: 10.0.0.1=1",
        "r2/a/ p0 40: gw 2.2.2.2=3",
        "r3/c/ p0 1:",
    ];
    assert_eq!(answer(&state, ruled("n1", "r1/z1")), want);
}

#[test]
fn a_group_keeps_what_a_moved_gateway_leaves() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&remote("20.0.0.1", "r2/a/"))
        .with(&remote("20.0.0.2", "r2/a/"))
        .with(&remote("20.0.0.3", "r2/b/"))
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r2/b/"))
        .rule(distribute("*", &[("r2/a", 20), ("r2/b", 80)]))
        .build();
    let want = ["r2/a/ p0 60: gw 2.2.2.2=3", "r2/b/ p0 40: 10.0.0.1=1"];
    assert_eq!(answer(&state, ruled("n1", "r1/z1")), want);
}

#[test]
fn unready_and_terminating_remote_pods_put_no_weight_on_their_gateway() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&remote("20.0.0.1", "").health(Health::Unhealthy))
        .with(&remote("20.0.0.2", "").health(Health::Terminating))
        .with(&remote("20.0.0.3", "").health(Health::Draining))
        .with(&remote("20.0.0.4", "").health(Health::Unknown))
        .with(&remote("20.0.0.5", ""));
    assert_eq!(answer(&state.build(), view("n1")), [" p0 2: gw 2.2.2.2=2"]);
}

#[test]
fn a_gateway_with_nothing_ready_behind_it_is_unhealthy() {
    let state = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1"))
        .with(&remote("20.0.0.1", "").health(Health::Unhealthy))
        .with(&remote("20.0.0.2", "r/").health(Health::Unhealthy));
    let want = [" p0 2: 10.0.0.1=1 gw 2.2.2.2=1!"];
    assert_eq!(answer(&state.build(), view("n1")), want);
}

#[test]
fn a_gateway_with_nothing_ready_is_left_out_where_unready_endpoints_are() {
    let unready = || {
        state()
            .gateway("n2", "c2", "2.2.2.2", 15443)
            .with(&endpoint("10.0.0.1").on("n1", "c1"))
            .with(
                &endpoint("10.0.0.2")
                    .on("n1", "c1")
                    .health(Health::Unhealthy),
            )
            .with(&remote("20.0.0.1", "").health(Health::Unhealthy))
            .with(&remote("20.0.0.2", "").health(Health::Draining))
    };
    let mut off = unready();
    off.features.auto_send_unhealthy = false;
    off.service.persistent_session = PersistentSession::Cookie;
    assert_eq!(answer(&off.build(), view("n1")), [" p0 1: 10.0.0.1=1"]);
    let mut percent = rule();
    percent.policy.base.outlier_detection = Some(OutlierDetection {
        min_health_percent: 50,
        ..OutlierDetection::default()
    });
    let ruled = NetworkView {
        rule: Some(0),
        ..view("n1")
    };
    let state = unready().rule(percent.clone()).build();
    assert_eq!(answer(&state, ruled.clone()), [" p0 1: 10.0.0.1=1"]);
    // Asked for by the service itself they are sent all the same.
    let mut forced = unready().rule(percent);
    forced.service.distribution = TrafficDistribution::PreferSameZone;
    let want = [" p0 3: 10.0.0.1=1 10.0.0.2=1! gw 2.2.2.2=1!"];
    assert_eq!(answer(&forced.build(), ruled), want);
}

#[test]
fn an_unresolved_gateway_never_turns_into_raw_pod_addresses() {
    let state = state()
        .gateway("n2", "c2", "gateway.example.com", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1"))
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .with(&endpoint("30.0.0.1").on("n3", "c3"))
        .build();
    for network in ["n1", "n3", ""] {
        let want = [" p0 2: 10.0.0.1=1 30.0.0.1=1"];
        assert_eq!(answer(&state, view(network)), want, "{network:?}");
    }
    let own = [" p0 3: 10.0.0.1=1 20.0.0.1=1 30.0.0.1=1"];
    assert_eq!(answer(&state, view("n2")), own);
}

#[test]
fn a_resolved_gateway_of_the_network_stands_in_for_an_unresolved_one() {
    let state = state()
        .gateway("n2", "c2", "gateway.example.com", 15443)
        .gateway("n2", "c3", "2.2.2.3", 15443)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .build();
    assert_eq!(answer(&state, view("n1")), [" p0 1: gw 2.2.2.3=1"]);
}

#[test]
fn a_gateway_found_in_two_ways_counts_once() {
    let state = state()
        .gateway("n2", "", "2.2.2.2", 15443)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("20.0.0.1").on("n2", "c2"))
        .with(&endpoint("20.0.0.2").on("n2", "c3"))
        .build();
    assert_eq!(answer(&state, view("n1")), [" p0 2: gw 2.2.2.2=2"]);
}

#[test]
fn one_address_for_two_networks_is_sent_once() {
    let state = |health| {
        state()
            .gateway("n2", "c2", "2.2.2.2", 15443)
            .gateway("n3", "c3", "2.2.2.2", 15443)
            .with(&endpoint("20.0.0.1").on("n2", "c2").health(health))
            .with(&endpoint("30.0.0.1").on("n3", "c3"))
            .build()
    };
    let both = answer(&state(Health::Healthy), view("n1"));
    assert_eq!(both, [" p0 2: gw 2.2.2.2=2"]);
    let one = answer(&state(Health::Unhealthy), view("n1"));
    assert_eq!(one, [" p0 1: gw 2.2.2.2=1"]);
}

#[test]
fn weights_saturate_and_never_sum_to_more_than_envoy_takes() {
    let two_gateways = || {
        state()
            .gateway("n2", "c2", "2.2.2.2", 15443)
            .gateway("n2", "c2", "2.2.2.3", 15443)
    };
    let large = |address: &str| endpoint(address).on("n1", "c1").weight(u32::MAX);
    let max = u32::MAX;
    let one = two_gateways().with(&large("10.0.0.1")).build();
    let want = format!(" p0 {max}: 10.0.0.1={max}");
    assert_eq!(answer(&one, view("n1")), [want]);
    let state = two_gateways()
        .with(&large("10.0.0.1"))
        .with(&large("10.0.0.2").at("r1"))
        .with(&endpoint("10.0.0.3").on("n1", "c1"))
        .with(&endpoint("20.0.0.1").on("n2", "c2").weight(u32::MAX / 2))
        .build();
    let seventh = max / 7;
    let groups = assign(&state, &key(view("n1")));
    let weights: Vec<u64> = groups
        .iter()
        .map(|g| g.weight.unwrap_or(0).into())
        .collect();
    assert!(weights.iter().sum::<u64>() <= u64::from(max), "{weights:?}");
    // Proportions are kept: 10.0.0.1, 10.0.0.3, two gateways of half as much.
    let members: Vec<u32> = groups[0].members.iter().map(|m| m.weight).collect();
    assert_eq!(members, [seventh, 1, seventh / 2 + 1, seventh / 2]);
}

#[test]
fn one_locality_in_two_spellings_is_one_group() {
    let state = state()
        .with(&endpoint("10.0.0.1").at("a/b"))
        .with(&endpoint("10.0.0.2").at("a/b/"))
        .build();
    assert_eq!(
        answer(&state, view("")),
        ["a/b/ p0 2: 10.0.0.1=1 10.0.0.2=1"]
    );
}

#[test]
fn draining_endpoints_are_kept_for_header_sessions_too() {
    let with = |session| {
        let mut state = state()
            .with(&endpoint("10.0.0.1").health(Health::Draining))
            .with(&endpoint("10.0.0.2").label("istio.io/draining", "true"))
            .with(&endpoint("10.0.0.3"));
        state.service.persistent_session = session;
        state.build()
    };
    let kept = [" p0 3: 10.0.0.1=1~ 10.0.0.2=1~ 10.0.0.3=1"];
    for session in [PersistentSession::Cookie, PersistentSession::Header] {
        assert_eq!(answer(&with(session), view("")), kept);
    }
    let dropped = [" p0 1: 10.0.0.3=1"];
    assert_eq!(answer(&with(PersistentSession::None), view("")), dropped);
}

// Which endpoints are kept.

#[test]
fn only_the_endpoints_of_the_port_and_subset_are_kept() {
    let mut v1 = rule();
    v1.subsets = vec![Subset {
        name: Arc::from("v1"),
        labels: [("version", "v1")].into_iter().collect(),
        policy: TrafficPolicy::default(),
    }];
    let state = state()
        .with(&endpoint("10.0.0.1").label("version", "v1"))
        .with(&endpoint("10.0.0.2").label("version", "v2"))
        .with(&endpoint("10.0.0.3").serving("grpc"))
        .with(&endpoint("/run/app").port(0))
        .rule(v1)
        .build();
    let mut key = key(NetworkView {
        rule: Some(0),
        ..view("")
    });
    let all = [" p0 3: 10.0.0.1=1 10.0.0.2=1 /run/app=1"];
    assert_eq!(answer_for(&state, &key), all);
    key.cluster.subset = Arc::from("v1");
    assert_eq!(answer_for(&state, &key), [" p0 1: 10.0.0.1=1"]);
    // istiod: a subset that is not defined filters nothing.
    key.cluster.subset = Arc::from("v9");
    assert_eq!(answer_for(&state, &key), all);
    // An unknown port, and a UDP one, have no endpoints.
    for port in [81, 53] {
        key.cluster.port = port;
        assert!(answer_for(&state, &key).is_empty());
    }
}

#[test]
fn a_requested_view_hides_other_networks() {
    let state = state()
        .gateway("n1", "c1", "1.1.1.1", 15443)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1"))
        .with(&endpoint("20.0.0.1").on("n2", "c2").at("r2"))
        .with(&endpoint("9.9.9.9").on("", "c2"))
        .build();
    let view = NetworkView {
        requested: Arc::from([NetworkId::from("n1")]),
        ..view("n1")
    };
    let want = [" p0 2: 9.9.9.9=1 10.0.0.1=1"];
    assert_eq!(answer(&state, view.clone()), want);
    assert_eq!(answer_for(&state, &sni(view)), want);
}

#[test]
fn cluster_local_services_stay_in_their_cluster() {
    let mut builder = state()
        .with(&endpoint("10.0.0.1").on("", "c1"))
        .with(&endpoint("10.0.0.2").on("", "c2"));
    builder.service.cluster_local = true;
    let state = builder.build();
    let of = |cluster: &str| NetworkView {
        cluster: Some(ClusterId::from(cluster)),
        ..view("")
    };
    assert_eq!(answer(&state, of("c2")), [" p0 1: 10.0.0.2=1"]);
    assert!(answer(&state, of("")).is_empty());
}

#[test]
fn unexported_endpoints_are_for_their_own_cluster() {
    let state = state()
        .with(&endpoint("10.0.0.1").on("", "c1").same_cluster())
        .with(&endpoint("10.0.0.2").on("", "").same_cluster())
        .with(&endpoint("10.0.0.3").on("", "c3"))
        .build();
    let of = |cluster: &str| NetworkView {
        cluster: Some(ClusterId::from(cluster)),
        ..view("")
    };
    assert_eq!(answer(&state, of("c2")), [" p0 2: 10.0.0.2=1 10.0.0.3=1"]);
    assert_eq!(answer(&state, of("")).len(), 1);
    assert_eq!(answer(&state, of("")), answer(&state, of("c1")));
}

#[test]
fn node_local_services_stay_on_their_node() {
    let mut builder = state()
        .with(&endpoint("10.0.0.1").on("", "c1").node("a"))
        .with(&endpoint("10.0.0.2").on("", "c1").node("b"))
        .with(&endpoint("10.0.0.3").on("", "c2").node("a"));
    builder.service.node_local = true;
    let view = NetworkView {
        cluster: Some(ClusterId::from("c1")),
        node: Some(Arc::from("a")),
        ..view("")
    };
    assert_eq!(answer(&builder.build(), view), [" p0 1: 10.0.0.1=1"]);
}

#[test]
fn dns_services_keep_host_names_and_declared_gateways() {
    let mut builder = state()
        .gateway("n2", "c2", "a.example.com", 15443)
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("db.example.com").on("n1", "c1"))
        .with(&endpoint("db2.example.com").on("n2", "c2"));
    builder.service.resolution = Resolution::Dns;
    let view = NetworkView {
        family: IpFamily::V4,
        ..view("n1")
    };
    let want = [" p0 4: db.example.com=2 gw 2.2.2.2=1 gw a.example.com=1"];
    assert_eq!(answer(&builder.build(), view), want);
}

#[test]
fn traffic_distribution_prefers_the_own_network_then_region_then_zone() {
    let mut builder = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z1/"))
        .with(&endpoint("10.0.0.2").on("n1", "c1").at("r1/z2/"))
        .with(&endpoint("10.0.0.3").on("n1", "c1").at("r2/z1/"))
        .with(&remote("20.0.0.1", "r1/z1/"));
    builder.service.distribution = TrafficDistribution::PreferSameZone;
    let labels: Labels = [
        ("topology.istio.io/network", "n1"),
        ("topology.kubernetes.io/region", "r1"),
        ("topology.kubernetes.io/zone", "z1"),
    ]
    .into_iter()
    .collect();
    let view = NetworkView {
        labels,
        ..view("n1")
    };
    let want = [
        "r1/z1/ p0 1: 10.0.0.1=1",
        "r1/z1/ p3 1: gw 2.2.2.2=1",
        "r1/z2/ p1 1: 10.0.0.2=1",
        "r2/z1/ p2 1: 10.0.0.3=1",
    ];
    assert_eq!(answer(&builder.build(), view), want);
}

#[test]
fn failover_priority_works_on_every_locality_of_a_dns_cluster() {
    let mut builder = state()
        .with(&endpoint("a.example.com").at("r1/z1/"))
        .with(&endpoint("b.example.com").at("r2/z1/"))
        .with(&endpoint("c.example.com").at("r3/z1/"));
    builder.service.resolution = Resolution::Dns;
    builder.service.distribution = TrafficDistribution::PreferSameZone;
    let labels = [
        ("topology.istio.io/network", ""),
        ("topology.kubernetes.io/region", "r2"),
        ("topology.kubernetes.io/zone", "z1"),
    ];
    let view = NetworkView {
        labels: labels.into_iter().collect(),
        ..view("")
    };
    let want = [
        "r1/z1/ p1 1: a.example.com=1",
        "r2/z1/ p0 1: b.example.com=1",
        "r3/z1/ p1 1: c.example.com=1",
    ];
    assert_eq!(answer(&builder.build(), view), want);
}
