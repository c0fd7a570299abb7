use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envoy_types::pb::envoy::config::core::v3::{
    self as core, address, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    self as endpoint_v3, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value, value::Kind};
use proptest::prelude::*;
use prost::Message;

use super::{empty, encode};
use crate::mesh::{EdsKey, ServiceState};
use crate::model::{
    Address, ClusterId, Distribute, Endpoint, Failover, GatewayAddress, Health, IpFamily,
    LoadBalancer, Locality, LocalityLb, NetworkId, NetworkView, OutlierDetection,
    PersistentSession, Resolution, TlsMode, TrafficDistribution, TypeUrl,
};
use crate::testing::state::{EndpointBuilder, endpoint, key, proxy, rule, state, view};
use crate::wire::EncodedResource;
use crate::xds::audience::Facts;
use crate::xds::split_horizon::{Host, LocalityGroup, Member, assign};
use crate::xds::view::project;

/// The message inside a frame.
fn decode(resource: &EncodedResource) -> ClusterLoadAssignment {
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
    let frame = resource.sotw_frame();
    let response = DiscoveryResponse::decode(frame).expect("a response");
    let any = &response.resources[0];
    assert_eq!(any.type_url, TypeUrl::ClusterLoadAssignment.as_str());
    ClusterLoadAssignment::decode(&*any.value).expect("an assignment")
}

/// What prost would have to encode for the structured result.
fn expected(name: &str, groups: &[LocalityGroup<'_>]) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups.iter().map(expected_group).collect(),
        ..ClusterLoadAssignment::default()
    }
}

fn wrapped(value: u32) -> UInt32Value {
    UInt32Value { value }
}

fn expected_group(group: &LocalityGroup<'_>) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(core::Locality {
            region: group.locality.region().to_owned(),
            zone: group.locality.zone().to_owned(),
            sub_zone: group.locality.subzone().to_owned(),
        }),
        lb_endpoints: group.members.iter().map(expected_member).collect(),
        load_balancing_weight: group.weight.map(wrapped),
        priority: group.priority,
        ..LocalityLbEndpoints::default()
    }
}

fn socket(address: String, port: u16) -> address::Address {
    address::Address::SocketAddress(core::SocketAddress {
        address,
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..core::SocketAddress::default()
    })
}

/// All addresses of a workload but the first.
fn additional(member: &Member<'_>) -> Vec<endpoint_v3::endpoint::AdditionalAddress> {
    let Host::Workload(e) = member.host else {
        return Vec::new();
    };
    let more = e.address.ips().iter().skip(1);
    more.map(|ip| endpoint_v3::endpoint::AdditionalAddress {
        address: Some(core::Address {
            address: Some(socket(ip.to_string(), e.port)),
        }),
    })
    .collect()
}

fn expected_member(member: &Member<'_>) -> LbEndpoint {
    let (address, workload) = match member.host {
        Host::Workload(e) => {
            let address = match &e.address {
                Address::Ip(_) | Address::Ips(_) => socket(e.address.ips()[0].to_string(), e.port),
                Address::Hostname(name) => socket(name.to_string(), e.port),
                Address::Unix(path) => address::Address::Pipe(core::Pipe {
                    path: path.to_string(),
                    mode: 0,
                }),
                Address::Unknown => panic!("an unknown address was sent"),
            };
            (address, e.workload.metadata.to_string())
        }
        Host::Gateway(g) => {
            let GatewayAddress::Ip(ip) = &g.address else {
                panic!("a host name was sent")
            };
            let cluster = g.cluster.as_deref().unwrap_or_default();
            (socket(ip.to_string(), g.port), format!(";;;;{cluster}"))
        }
    };
    let metadata = |key: &str, value: String| Struct {
        fields: HashMap::from([(
            key.to_owned(),
            Value {
                kind: Some(Kind::StringValue(value)),
            },
        )]),
    };
    let mut filters = HashMap::from([("istio".to_owned(), metadata("workload", workload))]);
    if let Some(mode) = member.tls_mode {
        let name = "envoy.transport_socket_match".to_owned();
        filters.insert(name, metadata("tlsMode", mode.to_owned()));
    }
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(
            endpoint_v3::Endpoint {
                address: Some(core::Address {
                    address: Some(address),
                }),
                additional_addresses: additional(member),
                ..endpoint_v3::Endpoint::default()
            },
        )),
        health_status: match member.health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
            Health::Draining => 3,
            Health::Terminating => panic!("a terminating endpoint was sent"),
        },
        metadata: Some(core::Metadata {
            filter_metadata: filters,
            ..core::Metadata::default()
        }),
        load_balancing_weight: Some(wrapped(member.weight)),
    }
}

#[test]
fn an_answer_decodes_to_what_was_assigned() {
    let mut builder = state()
        .gateway("n2", "c2", "2.2.2.2", 15443)
        .gateway("n3", "", "2001:db8::3", 443)
        .with(&endpoint("10.0.0.1").on("n1", "c1").at("r1/z1/s1"))
        .with(
            &endpoint("2001:db8::1")
                .on("n1", "c1")
                .at("r1/z1/s1")
                .weight(300),
        )
        .with(&endpoint("/run/app.sock").port(0).health(Health::Unknown))
        .with(&endpoint("10.0.0.2").on("n1", "c1").tls(TlsMode::Disabled))
        .with(&endpoint("10.0.0.3").health(Health::Draining))
        .with(&endpoint("10.0.0.4+2001:db8::4").on("n1", "c1"))
        .with(&endpoint("20.0.0.1").on("n2", "c2").at("r2"))
        .with(
            &endpoint("30.0.0.1")
                .on("n3", "c3")
                .at("r3")
                .health(Health::Unhealthy),
        )
        .with(
            &endpoint("40.0.0.1")
                .on("n2", "c2")
                .at("r4")
                .tls(TlsMode::Disabled),
        );
    builder.service.persistent_session = PersistentSession::Cookie;
    let state = builder.build();
    let mut key = key(view("n1"));
    for sni in [false, true] {
        if sni {
            key.cluster = key.cluster.sni_dnat();
        }
        let groups = assign(&state, &key);
        let name = key.cluster.to_string();
        let made = encode(&state, &key);
        assert_eq!(&**made.name(), name);
        assert_eq!(decode(&made), expected(&name, &groups));
    }
}

#[test]
fn an_unknown_cluster_gets_its_name_back() {
    let name = Arc::from("outbound|80||gone.ns.svc.cluster.local");
    let want = expected(&name, &[]);
    assert_eq!(decode(&empty(&name)), want);
}

#[test]
fn a_dns_service_has_no_endpoint_answer() {
    let mut builder = state().with(&endpoint("10.0.0.1"));
    builder.service.resolution = Resolution::DnsRoundRobin;
    let key = key(view(""));
    let got = decode(&encode(&builder.build(), &key));
    assert_eq!(got, expected(&key.cluster.to_string(), &[]));
}

#[test]
fn telemetry_metadata_can_be_switched_off() {
    let mut builder = state().with(&endpoint("10.0.0.1").tls(TlsMode::Disabled));
    builder.features.endpoint_telemetry_label = false;
    let got = decode(&encode(&builder.build(), &key(view(""))));
    assert_eq!(got.endpoints[0].lb_endpoints[0].metadata, None);
}

// Properties, over services of up to four networks.

const NETWORKS: [&str; 4] = ["", "n1", "n2", "n3"];
const LOCALITIES: [&str; 5] = ["", "r1/z1/s1", "r1/z2", "r2/z1", "r3"];

#[derive(Debug, Clone)]
struct World {
    endpoints: Vec<(usize, usize, usize, u8, u32, bool)>,
    gateways: Vec<(usize, usize, u8, bool)>,
    balance: u8,
    send_unready: bool,
}

fn world() -> impl Strategy<Value = World> {
    let endpoint = (
        0..4_usize,
        0..3_usize,
        0..5_usize,
        0..5_u8,
        1..9_u32,
        any::<bool>(),
    );
    let gateway = (1..4_usize, 0..3_usize, 0..4_u8, prop::bool::weighted(0.8));
    let lists = (
        prop::collection::vec(endpoint, 0..24),
        prop::collection::vec(gateway, 0..6),
    );
    (lists, 0..6_u8, any::<bool>()).prop_map(|((endpoints, gateways), balance, send_unready)| {
        World {
            endpoints,
            gateways,
            balance,
            send_unready,
        }
    })
}

impl World {
    fn endpoints(&self) -> Vec<EndpointBuilder> {
        let all = self.endpoints.iter().zip(0..);
        let one = |((network, cluster, locality, health, weight, mesh), n): (
            &(usize, usize, usize, u8, u32, bool),
            u8,
        )| {
            let health = [
                Health::Healthy,
                Health::Unhealthy,
                Health::Unknown,
                Health::Draining,
                Health::Terminating,
            ][usize::from(*health)];
            let tls = if *mesh {
                TlsMode::Istio
            } else {
                TlsMode::Disabled
            };
            // Pod ranges of networks overlap.
            let first = format!("10.0.0.{}", n / 2);
            let second = if n % 7 == 0 { "+fd00::1" } else { "" };
            endpoint(&(first + second))
                .port(8000 + u16::from(n))
                .on(NETWORKS[*network], &format!("c{cluster}"))
                .at(LOCALITIES[*locality])
                .health(health)
                .weight(*weight)
                .tls(tls)
        };
        all.map(one).collect()
    }

    fn state(&self, endpoints: &[EndpointBuilder]) -> ServiceState {
        let mut builder = state();
        for (network, cluster, host, resolves) in &self.gateways {
            let address = match resolves {
                true => format!("192.0.2.{host}"),
                false => format!("gateway-{host}.example.com"),
            };
            let cluster = ["", "c1", "c2"][*cluster];
            builder = builder.gateway(NETWORKS[*network], cluster, &address, 15443);
        }
        for one in endpoints {
            builder = builder.with(one);
        }
        builder.features.auto_send_unhealthy = self.send_unready;
        let mut rule = rule();
        let locality = match self.balance {
            1 => Some(LocalityLb::default()),
            2 => Some(LocalityLb {
                failover: vec![Failover {
                    from: Arc::from("r1"),
                    to: Arc::from("r3"),
                }],
                ..LocalityLb::default()
            }),
            3 => Some(LocalityLb {
                failover_priority: vec![
                    Arc::from("topology.istio.io/network"),
                    Arc::from("topology.kubernetes.io/region"),
                ],
                ..LocalityLb::default()
            }),
            4 => Some(LocalityLb {
                distribute: vec![Distribute {
                    from: Arc::from("*"),
                    to: vec![(Arc::from("*"), 30), (Arc::from("r1/*"), 70)],
                }],
                ..LocalityLb::default()
            }),
            _ => None,
        };
        rule.policy.base.outlier_detection = locality.is_some().then(OutlierDetection::default);
        rule.policy.base.load_balancer = Some(LoadBalancer {
            locality,
            ..LoadBalancer::default()
        });
        if self.balance == 5 {
            builder.service.distribution = TrafficDistribution::PreferSameZone;
        }
        builder.rule(rule).build()
    }
}

fn views() -> impl Strategy<Value = (usize, usize, u8)> {
    (0..4_usize, 0..5_usize, 0..3_u8)
}

/// A proxy, projected.
fn key_of(state: &ServiceState, (network, locality, family): (usize, usize, u8)) -> EdsKey {
    let mut proxy = proxy(NETWORKS[network], "c1");
    proxy.locality = Locality::parse(LOCALITIES[locality]);
    let mut key = key(NetworkView::default());
    key.view = project(&Facts::of(&proxy, None), state, &key.cluster, Some(0));
    if state.networks.is_multi_network() {
        key.view.family = [IpFamily::Any, IpFamily::V4, IpFamily::V6][usize::from(family)];
    }
    key
}

fn is_crossing(state: &ServiceState, view: &NetworkView, endpoint: &Endpoint) -> bool {
    let Some(network) = &endpoint.workload.network else {
        return false;
    };
    view.network.as_ref() != Some(network) && state.networks.has_gateway(network)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decoding_gives_what_was_assigned(world in world(), view in views()) {
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        let want = expected(&key.cluster.to_string(), &assign(&state, &key));
        prop_assert_eq!(decode(&encode(&state, &key)), want);
    }

    #[test]
    fn the_order_of_endpoints_changes_no_byte(
        (world, shuffled) in world().prop_flat_map(|world| {
            let shuffled = Just(world.endpoints()).prop_shuffle();
            (Just(world), shuffled)
        }),
        view in views(),
    ) {
        let (one, other) = (world.state(&world.endpoints()), world.state(&shuffled));
        let key = key_of(&one, view);
        prop_assert_eq!(&key, &key_of(&other, view));
        prop_assert_eq!(encode(&one, &key).delta_frame(), encode(&other, &key).delta_frame());
    }

    #[test]
    fn every_gateway_address_stands_once(world in world(), view in views()) {
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        let groups = assign(&state, &key);
        let mut seen = BTreeMap::new();
        for member in groups.iter().flat_map(|g| &g.members) {
            if let Host::Gateway(gateway) = member.host {
                *seen.entry((&gateway.address, gateway.port)).or_insert(0) += 1;
            }
        }
        prop_assert!(seen.values().all(|copies| *copies == 1), "{seen:?}");
    }

    #[test]
    fn no_raw_address_of_another_network_with_a_gateway_is_sent(world in world(), view in views()) {
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        for member in assign(&state, &key).iter().flat_map(|g| &g.members) {
            if let Host::Workload(endpoint) = member.host {
                prop_assert!(!is_crossing(&state, &key.view, endpoint));
            }
        }
    }

    #[test]
    fn ready_weight_is_kept(world in world(), view in views()) {
        // A distribution takes endpoints out on purpose.
        prop_assume!(world.balance != 4);
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        let groups = assign(&state, &key);
        let sent: u64 = groups.iter().flat_map(|g| &g.members).map(|m| u64::from(m.ready_weight())).sum();
        let scale = u64::from(if state.networks.is_multi_network() { state.networks.scale() } else { 1 });
        let mut behind = 0;
        for (_, endpoint) in state.all_endpoints().filter(|(_, e)| e.health.is_ready()) {
            let workload = &endpoint.workload;
            let arrives = match &workload.network {
                Some(network) if is_crossing(&state, &key.view, endpoint) => {
                    let mut dialled = state.networks.gateways(network, &workload.cluster).into_iter();
                    workload.tls_mode == TlsMode::Istio && key.view.family != IpFamily::V6 && dialled.next().is_some()
                }
                _ => true,
            };
            behind += u64::from(arrives) * u64::from(endpoint.weight) * scale;
        }
        prop_assert_eq!(sent, behind);
        // Groups weigh what their members do.
        for group in &groups {
            let sum: u32 = group.members.iter().map(|m| m.weight).sum();
            prop_assert_eq!(group.weight.unwrap_or(0), sum);
        }
    }

    #[test]
    fn priorities_start_at_0_and_skip_none(world in world(), view in views()) {
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        let groups = assign(&state, &key);
        let mut used: Vec<u32> = groups.iter().map(|g| g.priority).collect();
        used.sort_unstable();
        used.dedup();
        prop_assert!(used.iter().copied().eq(0..u32::try_from(used.len()).expect("few")), "{used:?}");
    }

    #[test]
    fn envoy_accepts_every_weight(world in world(), view in views()) {
        let state = world.state(&world.endpoints());
        let key = key_of(&state, view);
        for group in decode(&encode(&state, &key)).endpoints {
            prop_assert!(group.load_balancing_weight.is_none_or(|w| w.value >= 1));
            for member in group.lb_endpoints {
                prop_assert!(member.load_balancing_weight.is_some_and(|w| w.value >= 1));
            }
        }
    }

    #[test]
    fn proxies_that_differ_only_in_what_is_erased_share_an_answer(world in world(), network in 0..4_usize) {
        let state = world.state(&world.endpoints());
        let mut one = proxy(NETWORKS[network], "c1");
        one.locality = Locality::parse("r1/z1");
        let mut other = one.clone();
        other.id = Arc::from("another");
        other.node = Arc::from("node-2");
        other.kind = crate::model::NodeKind::Router;
        other.labels = [("app", "another")].into_iter().collect();
        if world.balance != 3 {
            other.cluster = ClusterId::from("c2");
        }
        if matches!(world.balance, 0 | 3) {
            other.locality = Locality::parse("r1/z9");
        }
        if !state.networks.is_multi_network() && !matches!(world.balance, 3 | 5) {
            other.network = Some(NetworkId::from("n9"));
        }
        let cluster = key(NetworkView::default()).cluster;
        prop_assert_eq!(
            project(&Facts::of(&one, None), &state, &cluster, Some(0)),
            project(&Facts::of(&other, None), &state, &cluster, Some(0))
        );
    }
}
