use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::config::core::v3::{address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::listener::v3::{
    ListenerFilterChainMatchPredicate, listener_filter_chain_match_predicate::Rule,
};
use envoy_types::pb::envoy::config::route::v3::{route::Action, route_action};
use envoy_types::pb::envoy::extensions::filters::network::{
    http_connection_manager::v3::{
        HttpConnectionManager,
        http_connection_manager::{ForwardClientCertDetails, RouteSpecifier},
    },
    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, common_tls_context::ValidationContextType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;

use super::*;
use crate::mesh::{MeshState, Snapshot};
use crate::model::{CaptureMode, Proxy};
use crate::model::{IngressListener, PeerAuthentication, ProxyIps, TargetPort, TypeUrl};
use crate::testing::inbound::{ingress, listening, mesh, policy};
use crate::testing::snapshot::{ServiceBuilder, dialled_sidecar, service, sidecar, snapshot_of};
use crate::xds::tests::{named, names, resources};

fn web(protocol: Protocol) -> ServiceBuilder {
    let web = service("web", "ns").port("p", 80, protocol);
    web.selects(&[("app", "web")], &[(80, TargetPort::Number(8080))])
}

fn own(proxy: Proxy) -> Proxy {
    Proxy {
        labels: [("app", "web")].into_iter().collect(),
        ..proxy
    }
}

fn listener(mesh: MeshState, service: ServiceBuilder, proxy: Proxy, name: &str) -> Listener {
    let snapshot = snapshot_of(mesh, [service]);
    named(&resources(&snapshot, own(proxy)), TypeUrl::Listener, name)
}

fn under(mode: MtlsMode, protocol: Protocol) -> Listener {
    let mesh = mesh([policy("ns", mode)], []);
    listener(mesh, web(protocol), sidecar("ns"), "virtualInbound")
}

fn last<M: Message + Default>(chain: &FilterChain, kind: &str) -> Option<M> {
    let filter = chain.filters.last().expect("a filter");
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    let is = any.type_url.ends_with(kind);
    is.then(|| M::decode(any.value.as_slice()).expect("the message"))
}

fn manager(chain: &FilterChain) -> Option<HttpConnectionManager> {
    last(chain, "HttpConnectionManager")
}

fn tls(chain: &FilterChain) -> Option<DownstreamTlsContext> {
    let socket = chain.transport_socket.as_ref()?;
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    Some(DownstreamTlsContext::decode(any.value.as_slice()).expect("a context"))
}

/// What a chain matches and does: `transport[alpn] -> [mtls] http|tcp`.
fn told(chain: &FilterChain) -> String {
    let matches = chain.filter_chain_match.as_ref().expect("a match");
    let alpn = matches.application_protocols.join(",");
    let mtls = if chain.transport_socket.is_some() {
        "mtls "
    } else {
        ""
    };
    let ends = if manager(chain).is_some() {
        "http"
    } else {
        "tcp"
    };
    format!("{}[{alpn}] -> {mtls}{ends}", matches.transport_protocol)
}

fn port(chain: &FilterChain) -> u32 {
    let matches = chain.filter_chain_match.as_ref().expect("a match");
    matches
        .destination_port
        .as_ref()
        .map_or(0, |port| port.value)
}

fn of_port(listener: &Listener, number: u32) -> Vec<String> {
    let chains = listener.filter_chains.iter();
    chains
        .filter(|chain| port(chain) == number)
        .map(told)
        .collect()
}

const MESH: &str = "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2";
const MESH_HTTP: &str = "istio-http/1.0,istio-http/1.1,istio-h2";

#[test]
fn a_permissive_port_takes_mesh_mtls_and_plain_text() {
    let http = [&format!("tls[{MESH}] -> mtls http"), "raw_buffer[] -> http"];
    assert_eq!(
        of_port(&under(MtlsMode::Permissive, Protocol::Http), 8080),
        http
    );
    // TLS of other callers is the application's.
    let tcp = [
        &format!("tls[{MESH}] -> mtls tcp"),
        "tls[] -> tcp",
        "raw_buffer[] -> tcp",
    ];
    assert_eq!(
        of_port(&under(MtlsMode::Permissive, Protocol::Tcp), 8080),
        tcp
    );
    let auto = [
        &format!("tls[{MESH_HTTP}] -> mtls http"),
        "raw_buffer[http/1.1,h2c] -> http",
        "tls[istio-peer-exchange,istio] -> mtls tcp",
        "raw_buffer[] -> tcp",
        "tls[] -> tcp",
    ];
    assert_eq!(
        of_port(&under(MtlsMode::Permissive, Protocol::Auto), 8080),
        auto
    );
}

#[test]
fn a_strict_port_takes_mtls_only() {
    let of = |protocol| of_port(&under(MtlsMode::Strict, protocol), 8080);
    assert_eq!(of(Protocol::Http), ["tls[] -> mtls http"]);
    assert_eq!(of(Protocol::Tcp), ["tls[] -> mtls tcp"]);
    let auto = [
        &format!("tls[{MESH_HTTP}] -> mtls http"),
        "tls[] -> mtls tcp",
    ];
    assert_eq!(of(Protocol::Auto), auto);
}

#[test]
fn a_port_without_mtls_takes_plain_text_only() {
    let of = |protocol| of_port(&under(MtlsMode::Disable, protocol), 8080);
    assert_eq!(of(Protocol::Http), ["raw_buffer[] -> http"]);
    assert_eq!(of(Protocol::Tcp), ["raw_buffer[] -> tcp"]);
    let auto = ["raw_buffer[http/1.1,h2c] -> http", "raw_buffer[] -> tcp"];
    assert_eq!(of(Protocol::Auto), auto);
}

#[test]
fn ports_of_no_service_follow_the_policy_of_the_workload() {
    let strict = PeerAuthentication {
        selector: [("app", "web")].into_iter().collect(),
        ports: vec![(9000, MtlsMode::Disable)],
        ..policy("ns", MtlsMode::Strict)
    };
    let made = mesh([strict], []);
    let made = listener(made, web(Protocol::Http), sidecar("ns"), "virtualInbound");
    let any = [
        &format!("tls[{MESH_HTTP}] -> mtls http"),
        "tls[] -> mtls tcp",
    ];
    assert_eq!(of_port(&made, 0), any);
    let named = ["raw_buffer[http/1.1,h2c] -> http", "raw_buffer[] -> tcp"];
    assert_eq!(of_port(&made, 9000), named);
    let clusters = made.filter_chains.iter().filter(|chain| port(chain) == 0);
    for chain in clusters {
        if let Some(proxy) = last::<TcpProxy>(chain, "TcpProxy") {
            let to = ClusterSpecifier::Cluster("InboundPassthroughCluster".to_owned());
            assert_eq!(proxy.cluster_specifier, Some(to));
        }
    }
    // A call to the listener itself must not come back for ever.
    assert_eq!(made.filter_chains[0].name, "virtualInbound-blackhole");
    assert_eq!(of_port(&made, 15006), ["[] -> tcp"]);
}

#[test]
fn mtls_ends_with_the_workload_certificate_and_peers_of_the_mesh() {
    let made = under(MtlsMode::Strict, Protocol::Http);
    let chain = made.filter_chains.iter().find(|chain| port(chain) == 8080);
    let context = tls(chain.expect("a chain")).expect("TLS");
    assert_eq!(
        context.require_client_certificate.map(|v| v.value),
        Some(true)
    );
    let common = context.common_tls_context.expect("set");
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
    let Some(ValidationContextType::CombinedValidationContext(both)) =
        common.validation_context_type
    else {
        panic!("both");
    };
    let names = both
        .default_validation_context
        .expect("set")
        .match_typed_subject_alt_names;
    let pattern = names[0]
        .matcher
        .as_ref()
        .and_then(|m| m.match_pattern.clone());
    let prefix = MatchPattern::Prefix("spiffe://cluster.local/".to_owned());
    assert_eq!((names.len(), pattern), (1, Some(prefix)));
    assert_eq!(common.tls_params.expect("set").cipher_suites.len(), 6);
}

#[test]
fn inbound_http_has_its_routes_inside() {
    let made = under(MtlsMode::Permissive, Protocol::Http);
    let chain = made.filter_chains.iter().find(|chain| port(chain) == 8080);
    let manager = manager(chain.expect("a chain")).expect("HTTP");
    assert_eq!(manager.stat_prefix, "inbound_0.0.0.0_8080;");
    let forwarded = manager.forward_client_cert_details();
    assert_eq!(forwarded, ForwardClientCertDetails::AppendForward);
    let Some(RouteSpecifier::RouteConfig(routes)) = manager.route_specifier else {
        panic!("inline routes");
    };
    assert_eq!(routes.name, "inbound|8080||");
    let host = &routes.virtual_hosts[0];
    assert_eq!((&*host.name, &*host.domains[0]), ("inbound|http|80", "*"));
    let Some(Action::Route(action)) = &host.routes[0].action else {
        panic!("a route");
    };
    let to = route_action::ClusterSpecifier::Cluster("inbound|8080||".to_owned());
    assert_eq!(action.cluster_specifier, Some(to));
    assert_eq!(action.timeout.map(|t| (t.seconds, t.nanos)), Some((0, 0)));
    assert!(action.retry_policy.is_some());
}

#[test]
fn grpc_is_not_sent_again() {
    let made = under(MtlsMode::Permissive, Protocol::Grpc);
    let chain = made.filter_chains.iter().find(|chain| port(chain) == 8080);
    let manager = manager(chain.expect("a chain")).expect("HTTP");
    assert!(manager.http2_protocol_options.is_some());
    let Some(RouteSpecifier::RouteConfig(routes)) = manager.route_specifier else {
        panic!("inline routes");
    };
    let Some(Action::Route(action)) = &routes.virtual_hosts[0].routes[0].action else {
        panic!("a route");
    };
    assert_eq!(action.retry_policy, None);
}

fn disabled(listener: &Listener, name: &str) -> Option<ListenerFilterChainMatchPredicate> {
    let filters = listener.listener_filters.iter();
    let mut found = filters.filter(|f| f.name == format!("envoy.filters.listener.{name}"));
    found.next().expect("the filter").filter_disabled.clone()
}

fn ports_of(predicate: Option<ListenerFilterChainMatchPredicate>) -> Vec<i32> {
    match predicate.and_then(|p| p.rule) {
        None => Vec::new(),
        Some(Rule::DestinationPortRange(range)) => vec![range.start],
        Some(Rule::OrMatch(set)) => {
            let rules = set.rules.into_iter();
            rules.flat_map(|rule| ports_of(Some(rule))).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_are_inspected_only_where_their_chains_ask_for_it() {
    let made = under(MtlsMode::Permissive, Protocol::Http);
    assert_eq!(made.use_original_dst, None);
    assert_eq!(
        made.listener_filters[0].name,
        "envoy.filters.listener.original_dst"
    );
    assert_eq!(ports_of(disabled(&made, "tls_inspector")), [15006]);
    assert_eq!(ports_of(disabled(&made, "http_inspector")), [8080, 15006]);
    // Only one port is TLS: the others are not read at all.
    let plain = PeerAuthentication {
        selector: [("app", "web")].into_iter().collect(),
        ports: vec![(8080, MtlsMode::Strict)],
        ..policy("ns", MtlsMode::Disable)
    };
    let made = mesh([plain], []);
    let made = listener(made, web(Protocol::Http), sidecar("ns"), "virtualInbound");
    let Some(Rule::NotMatch(but)) = disabled(&made, "tls_inspector").and_then(|p| p.rule) else {
        panic!("all but some");
    };
    assert_eq!(ports_of(Some(*but)), [8080]);
}

#[test]
fn tproxy_keeps_the_address_of_the_caller() {
    let proxy = Proxy {
        interception: InterceptionMode::Tproxy,
        ..sidecar("ns")
    };
    let mesh = MeshState::default();
    let made = listener(mesh, web(Protocol::Http), proxy, "virtualInbound");
    assert_eq!(made.transparent.map(|v| v.value), Some(true));
    assert_eq!(
        made.listener_filters[1].name,
        "envoy.filters.listener.original_src"
    );
    let redirect = listener(
        MeshState::default(),
        web(Protocol::Http),
        sidecar("ns"),
        "virtualInbound",
    );
    assert_eq!(redirect.transparent, None);
}

fn dialled(ingress: IngressListener) -> (Arc<Snapshot>, Proxy) {
    let mesh = mesh([], [listening("ns", vec![ingress])]);
    let snapshot = snapshot_of(mesh, [web(Protocol::Http)]);
    (snapshot, own(dialled_sidecar("ns")))
}

fn inbound_names(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Vec<String> {
    let all = names(&resources(snapshot, proxy).all(TypeUrl::Listener));
    let outbound = ["127.0.0.1_80", "0.0.0.0_80", "virtualOutbound"];
    all.into_iter()
        .filter(|n| !outbound.contains(&n.as_str()))
        .collect()
}

#[test]
fn a_dialled_sidecar_listens_where_its_ingress_says() {
    let (snapshot, proxy) = dialled(ingress(8080, "127.0.0.7", "127.0.0.1:9090"));
    assert_eq!(inbound_names(&snapshot, proxy.clone()), ["127.0.0.7_8080"]);
    let made: Listener = named(
        &resources(&snapshot, proxy),
        TypeUrl::Listener,
        "127.0.0.7_8080",
    );
    assert_eq!(made.bind_to_port, None, "a real listener");
    let Some(address::Address::SocketAddress(at)) = made.address.and_then(|a| a.address) else {
        panic!("an address");
    };
    assert_eq!(
        (&*at.address, at.port_specifier),
        ("127.0.0.7", Some(PortSpecifier::PortValue(8080)))
    );
    let filters: Vec<_> = made.listener_filters.iter().map(|f| &*f.name).collect();
    assert_eq!(
        filters,
        ["envoy.filters.listener.tls_inspector"],
        "no original destination"
    );
    let chains: Vec<_> = made.filter_chains.iter().map(told).collect();
    assert_eq!(
        chains,
        [&format!("tls[{MESH}] -> mtls http"), "raw_buffer[] -> http"]
    );
}

#[test]
fn without_ingress_a_dialled_sidecar_has_no_inbound_listener() {
    let snapshot = snapshot_of(MeshState::default(), [web(Protocol::Http)]);
    let none: [String; 0] = [];
    assert_eq!(inbound_names(&snapshot, own(dialled_sidecar("ns"))), none);
}

#[test]
fn ports_that_cannot_be_bound_are_left_out() {
    let none: [String; 0] = [];
    let (snapshot, proxy) = dialled(ingress(443, "127.0.0.7", "127.0.0.1:9090"));
    let unprivileged = Proxy {
        unprivileged: true,
        ..proxy
    };
    assert_eq!(inbound_names(&snapshot, unprivileged), none);
    let (snapshot, proxy) = dialled(ingress(15021, "0.0.0.0", "127.0.0.1:9090"));
    let taken = Proxy {
        own_ports: [15021].into(),
        ..proxy
    };
    assert_eq!(inbound_names(&snapshot, taken), none);
    // The status port of an intercepted pod stays Envoy's.
    let status = service("web", "ns").port("p", 80, Protocol::Http);
    let status = status.selects(&[("app", "web")], &[(80, TargetPort::Number(15021))]);
    let proxy = Proxy {
        own_ports: [15021].into(),
        ..sidecar("ns")
    };
    let made = listener(MeshState::default(), status, proxy, "virtualInbound");
    assert_eq!(of_port(&made, 15021), none);
}

#[test]
fn a_listener_of_its_own_stands_beside_the_intercepted_ones() {
    let apart = IngressListener {
        capture_mode: CaptureMode::None,
        ..ingress(9000, "", "127.0.0.1:9001")
    };
    let both = vec![apart, ingress(8080, "", "127.0.0.1:9090")];
    let snapshot = snapshot_of(mesh([], [listening("ns", both)]), [web(Protocol::Http)]);
    let proxy = own(sidecar("ns"));
    assert_eq!(
        inbound_names(&snapshot, proxy.clone()),
        ["10.0.0.9_9000", "virtualInbound"]
    );
    let made: Listener = named(
        &resources(&snapshot, proxy),
        TypeUrl::Listener,
        "virtualInbound",
    );
    assert_eq!(of_port(&made, 8080).len(), 2);
    assert!(of_port(&made, 9000).is_empty());
}

#[test]
fn istios_metadata_exchange_comes_first_where_envoy_has_it() {
    let proxy = Proxy {
        extensions: Arc::new([Arc::from("istio.metadata_exchange")].into()),
        ..sidecar("ns")
    };
    let mesh = MeshState::default();
    let made = listener(mesh, web(Protocol::Tcp), proxy, "virtualInbound");
    let first = |chain: &FilterChain| chain.filters[0].name.clone();
    assert!(
        made.filter_chains
            .iter()
            .all(|c| first(c) == "istio.metadata_exchange")
    );
    let chain = made.filter_chains.iter().find(|chain| port(chain) == 8080);
    let common = tls(chain.expect("a chain")).and_then(|c| c.common_tls_context);
    let offered = common.expect("TLS").alpn_protocols;
    assert_eq!(offered, ["istio-peer-exchange", "h2", "http/1.1"]);
}

#[test]
fn an_ipv6_pod_is_listened_for_at_its_wildcard() {
    let proxy = Proxy {
        ips: ProxyIps(vec!["fd00::1".parse().expect("an address")]),
        ..sidecar("ns")
    };
    let mesh = MeshState::default();
    let made = listener(mesh, web(Protocol::Http), proxy, "virtualInbound");
    let Some(address::Address::SocketAddress(at)) = made.address.and_then(|a| a.address) else {
        panic!("an address");
    };
    assert_eq!(at.address, "::");
}
