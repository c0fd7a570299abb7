mod routes;

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::{
    filters::network::{
        http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
        tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
    },
    transport_sockets::tls::v3::{DownstreamTlsContext, common_tls_context::ValidationContextType},
};
use prost::Message;

use crate::mesh::{MeshState, Snapshot, Update, VirtualServices};
use crate::model::{
    ConnectionMatch, ConnectionPool, ConsistentHash, Destination, ExportTo, Features, Gateway,
    GatewayName, HashKey, HashTable, LoadBalancer, PolicySettings, Protocol, Proxy, ProxyIps,
    Resolution, ServerTls, ServerTlsMode, TargetPort, TcpRoute, TlsMatch, TlsRoute, TypeUrl,
    VirtualService, WeightedDestination,
};
use crate::testing::gateways::{auto_passthrough, gateway, server, tls_server, virtual_service};
use crate::testing::snapshot::{ServiceBuilder, external, router, service, snapshot_of};
use crate::xds::tests::{named, names, resources};

const WEB: &str = "outbound_.80_._.web.ns.svc.cluster.local";

fn web() -> ServiceBuilder {
    service("web", "ns").port("http", 80, Protocol::Http)
}

fn world(
    gateways: impl IntoIterator<Item = Arc<Gateway>>,
    services: impl IntoIterator<Item = ServiceBuilder>,
) -> Arc<Snapshot> {
    let mesh = MeshState {
        gateways: gateways.into_iter().collect(),
        ..MeshState::default()
    };
    snapshot_of(mesh, services)
}

fn listeners(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Vec<String> {
    names(&resources(snapshot, proxy).all(TypeUrl::Listener))
}

fn listener(snapshot: &Arc<Snapshot>, proxy: Proxy, name: &str) -> Listener {
    named(&resources(snapshot, proxy), TypeUrl::Listener, name)
}

/// Where a chain leads: `rds NAME` or the cluster.
fn leads_to(chain: &FilterChain) -> String {
    let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
        panic!("{chain:?}");
    };
    if any.type_url.ends_with("TcpProxy") {
        let proxy = TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy");
        return match proxy.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => cluster,
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                let parts = all.clusters.iter();
                let parts = parts.map(|c| format!(" {}={}", c.name, c.weight));
                proxy.stat_prefix + &parts.collect::<String>()
            }
            other => panic!("{other:?}"),
        };
    }
    let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
    match manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => format!("rds {}", rds.route_config_name),
        other => panic!("{other:?}"),
    }
}

/// Names and destination of each chain.
fn chains(listener: &Listener) -> Vec<(Vec<String>, String)> {
    let chain = |chain: &FilterChain| {
        let wanted = chain.filter_chain_match.clone().unwrap_or_default();
        (wanted.server_names, leads_to(chain))
    };
    listener.filter_chains.iter().map(chain).collect()
}

fn tls_of(chain: &FilterChain) -> Option<DownstreamTlsContext> {
    use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
    let socket = chain.transport_socket.as_ref()?;
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    Some(DownstreamTlsContext::decode(any.value.as_slice()).expect("a TLS context"))
}

#[test]
fn an_east_west_gateway_has_a_chain_per_service_port_and_subset() {
    let services = [
        web().rule(PolicySettings::default(), &["v1"]),
        service("dns", "ns").port("dns", 53, Protocol::Udp),
        external("api.local", "ns", Resolution::ClientSideLb).port("tls", 443, Protocol::Tls),
        external("api.example.com", "ns", Resolution::ClientSideLb)
            .with(|s| s.mesh_external = false)
            .port("tls", 443, Protocol::Tls),
    ];
    let snapshot = world([auto_passthrough("eastwest")], services);
    let listener = listener(&snapshot, router("ns", "eastwest"), "0.0.0.0_15443");
    let subset = "outbound_.80_.v1_.web.ns.svc.cluster.local";
    let own = |name: &str| (vec![name.to_owned()], name.to_owned());
    assert_eq!(chains(&listener), [own(WEB), own(subset)]);
    for chain in &listener.filter_chains {
        let wanted = chain.filter_chain_match.as_ref().expect("a match");
        let mesh = [
            "istio",
            "istio-peer-exchange",
            "istio-http/1.0",
            "istio-http/1.1",
            "istio-h2",
        ];
        assert_eq!(wanted.application_protocols, mesh);
        assert!(chain.transport_socket.is_none(), "TLS goes through");
    }
    assert!(
        listener.default_filter_chain.is_none(),
        "all else is closed"
    );
    assert_eq!(listener.listener_filters.len(), 1, "the TLS inspector");
    assert_eq!(listener.bind_to_port, None);
}

#[test]
fn servers_of_one_port_share_the_chains_of_a_service() {
    let mode = ServerTlsMode::AutoPassthrough;
    let servers = [
        tls_server(15443, Protocol::Tls, &["*.local"], mode),
        tls_server(15443, Protocol::Tls, &["other/*.cluster.local"], mode),
    ];
    let both = gateway("g", "istio-system", "eastwest", 2024, servers);
    let snapshot = world([both], [web()]);
    let listener = listener(&snapshot, router("ns", "eastwest"), "0.0.0.0_15443");
    assert_eq!(chains(&listener).len(), 1);
}

#[test]
fn chains_of_unchanged_services_are_kept() {
    let snapshot = world([auto_passthrough("eastwest")], [web()]);
    let before = resources(&snapshot, router("ns", "eastwest")).all(TypeUrl::Listener);
    let kept = |snapshot: &Snapshot| {
        let state = &snapshot.host("web.ns.svc.cluster.local")[0];
        state.sni_chains.len()
    };
    assert_eq!(kept(&snapshot), 1);
    let mut update = Update::default();
    update.changes.config = true;
    let next = Arc::new(snapshot.next(update));
    assert_eq!(kept(&next), 1, "the service is the same one");
    let after = resources(&next, router("ns", "eastwest")).all(TypeUrl::Listener);
    assert_eq!(before[0].version(), after[0].version());
}

#[test]
fn the_service_in_front_of_a_router_maps_its_ports() {
    let targets = [
        (80, TargetPort::Number(8080)),
        (15443, TargetPort::Number(15443)),
    ];
    let front = service("ingress", "ns")
        .port("http", 80, Protocol::Http)
        .port("tls", 15443, Protocol::Tls)
        .selects(&[("istio", "ingress")], &targets);
    let open = |port| server(port, Protocol::Http, &["*"]);
    let gateways = [gateway("g", "ns", "ingress", 2024, [open(80), open(9000)])];
    let snapshot = world(gateways, [front]);
    let expected = ["0.0.0.0_8080", "0.0.0.0_9000"];
    assert_eq!(listeners(&snapshot, router("ns", "ingress")), expected);
}

#[test]
fn a_service_may_opt_out_of_the_mapping_of_ports() {
    let front = service("ingress", "ns")
        .port("http", 80, Protocol::Http)
        .selects(&[("istio", "ingress")], &[(80, TargetPort::Number(8080))])
        .with(|s| {
            let label = "experimental.istio.io/disable-gateway-port-translation";
            s.labels = [(label, "true")].into_iter().collect();
        });
    let open = server(80, Protocol::Http, &["*"]);
    let snapshot = world([gateway("g", "ns", "ingress", 2024, [open])], [front]);
    assert_eq!(
        listeners(&snapshot, router("ns", "ingress")),
        ["0.0.0.0_80"]
    );
}

#[test]
fn gateways_may_be_kept_to_their_namespace() {
    let open = |port| server(port, Protocol::Http, &["*"]);
    let gateways = ["ns", "other"].map(|namespace| {
        let port = if namespace == "ns" { 80 } else { 81 };
        gateway("g", namespace, "ingress", 2024, [open(port)])
    });
    for (scope_gateways, expected) in [(false, 2), (true, 1)] {
        let mesh = MeshState {
            gateways: gateways.to_vec(),
            features: Arc::new(Features {
                scope_gateways,
                ..Features::default()
            }),
            ..MeshState::default()
        };
        let found = listeners(&snapshot_of(mesh, []), router("ns", "ingress"));
        assert_eq!(found.len(), expected, "{found:?}");
    }
}

#[test]
fn a_router_without_privileges_opens_no_port_under_1024() {
    let open = |port| server(port, Protocol::Http, &["*"]);
    let snapshot = world(
        [gateway("g", "ns", "ingress", 2024, [open(80), open(8080)])],
        [],
    );
    let proxy = Proxy {
        unprivileged: true,
        ..router("ns", "ingress")
    };
    assert_eq!(listeners(&snapshot, proxy), ["0.0.0.0_8080"]);
}

#[test]
fn http_servers_of_one_port_share_one_manager() {
    let a = gateway(
        "a",
        "ns",
        "ingress",
        2023,
        [server(80, Protocol::Http, &["a.com"])],
    );
    let b = gateway(
        "b",
        "ns",
        "ingress",
        2024,
        [server(80, Protocol::Http2, &["b.com"])],
    );
    let snapshot = world([a, b], []);
    let listener = listener(&snapshot, router("ns", "ingress"), "0.0.0.0_80");
    assert_eq!(chains(&listener), [(vec![], "rds http.80".to_owned())]);
    assert!(listener.listener_filters.is_empty());
}

#[test]
fn an_ipv6_router_listens_on_all_ipv6_addresses() {
    let open = server(80, Protocol::Http, &["*"]);
    let mut bound = server(81, Protocol::Http, &["*"]);
    bound.bind = Arc::from("10.0.0.1");
    let snapshot = world([gateway("g", "ns", "ingress", 2024, [open, bound])], []);
    let proxy = Proxy {
        ips: ProxyIps(vec!["fd00::1".parse().expect("an address")]),
        ..router("ns", "ingress")
    };
    assert_eq!(listeners(&snapshot, proxy), ["10.0.0.1_81", "::_80"]);
}

#[test]
fn https_servers_have_a_chain_for_their_names_each() {
    let mut files = tls_server(
        443,
        Protocol::Https,
        &["ns/b.com", "a.com"],
        ServerTlsMode::Mutual,
    );
    files.name = Arc::from("files");
    let tls = files.tls.as_mut().expect("TLS");
    tls.certificate = Arc::from("/tls.crt");
    tls.private_key = Arc::from("/tls.key");
    tls.roots = Arc::from("/ca.crt");
    tls.cipher_suites = vec![Arc::from("AES128-SHA"), Arc::from("NONSENSE")];
    let mut mesh = tls_server(443, Protocol::Https, &["*"], ServerTlsMode::IstioMutual);
    mesh.name = Arc::from("mesh");
    let snapshot = world([gateway("g", "ns", "ingress", 2024, [files, mesh])], []);
    let listener = listener(&snapshot, router("ns", "ingress"), "0.0.0.0_443");
    let expected = [
        (
            vec!["a.com".into(), "b.com".into()],
            "rds https.443.files.g.ns".into(),
        ),
        (vec![], "rds https.443.mesh.g.ns".into()),
    ];
    assert_eq!(chains(&listener), expected);
    let secrets = |chain: &FilterChain| {
        let common = tls_of(chain)
            .and_then(|t| t.common_tls_context)
            .expect("TLS");
        let Some(ValidationContextType::CombinedValidationContext(validation)) =
            common.validation_context_type
        else {
            panic!("{common:?}");
        };
        let roots = validation.validation_context_sds_secret_config;
        let certificate = common.tls_certificate_sds_secret_configs[0].name.clone();
        let suites = common
            .tls_params
            .map(|p| p.cipher_suites)
            .unwrap_or_default();
        (certificate, roots.expect("roots").name, suites)
    };
    let [files, mesh] = listener.filter_chains.as_slice() else {
        panic!("{listener:?}");
    };
    let suites = vec!["AES128-SHA".to_owned()];
    let expected = (
        "file-cert:/tls.crt~/tls.key".into(),
        "file-root:/ca.crt".into(),
        suites,
    );
    assert_eq!(secrets(files), expected);
    assert_eq!(secrets(mesh), ("default".into(), "ROOTCA".into(), vec![]));
    let requires = |c| tls_of(c).and_then(|t| t.require_client_certificate);
    assert!(requires(files).is_some_and(|r| r.value) && requires(mesh).is_some_and(|r| r.value));
}

#[test]
fn a_server_whose_secret_nobody_serves_does_not_hold_up_the_others() {
    let mut secret = tls_server(443, Protocol::Https, &["a.com"], ServerTlsMode::Simple);
    secret.tls.as_mut().expect("TLS").credentials = vec![Arc::from("a-cert")];
    let mut other = tls_server(443, Protocol::Https, &["b.com"], ServerTlsMode::IstioMutual);
    other.name = Arc::from("other");
    let snapshot = world([gateway("g", "ns", "ingress", 2024, [secret, other])], []);
    let listener = listener(&snapshot, router("ns", "ingress"), "0.0.0.0_443");
    let expected = (
        vec!["b.com".to_owned()],
        "rds https.443.other.g.ns".to_owned(),
    );
    assert_eq!(chains(&listener), [expected]);
}

#[test]
fn of_servers_that_contradict_each_other_the_oldest_stays() {
    let http = gateway(
        "a",
        "ns",
        "ingress",
        2020,
        [server(80, Protocol::Http, &["*"])],
    );
    let tcp = gateway(
        "b",
        "ns",
        "ingress",
        2021,
        [server(80, Protocol::Tcp, &["*"])],
    );
    let tls = |name, year| {
        let mode = ServerTlsMode::IstioMutual;
        let server = tls_server(443, Protocol::Https, &["a.com"], mode);
        gateway(name, "ns", "ingress", year, [server])
    };
    let snapshot = world([http, tcp, tls("c", 2022), tls("d", 2023)], []);
    let leads = |name| chains(&listener(&snapshot, router("ns", "ingress"), name));
    assert_eq!(leads("0.0.0.0_80"), [(vec![], "rds http.80".to_owned())]);
    let oldest = (
        vec!["a.com".to_owned()],
        "rds https.443.p443.c.ns".to_owned(),
    );
    assert_eq!(leads("0.0.0.0_443"), [oldest]);
}

fn to(host: &str, port: Option<u16>, weight: u32) -> WeightedDestination {
    WeightedDestination {
        destination: Destination {
            host: Arc::from(host),
            subset: Arc::from(""),
            port,
        },
        weight,
    }
}

fn bound_world(
    gateways: impl IntoIterator<Item = Arc<Gateway>>,
    virtual_services: impl IntoIterator<Item = VirtualService>,
    services: impl IntoIterator<Item = ServiceBuilder>,
) -> Arc<Snapshot> {
    let all = virtual_services.into_iter().map(Arc::new);
    let mesh = MeshState {
        gateways: gateways.into_iter().collect(),
        virtual_services: VirtualServices::new(all, &ExportTo::Everyone),
        ..MeshState::default()
    };
    snapshot_of(mesh, services)
}

fn by_name(names: &[&str], port: Option<u16>, route: Vec<WeightedDestination>) -> TlsRoute {
    TlsRoute {
        matches: vec![TlsMatch {
            sni_hosts: names.iter().copied().map(Arc::from).collect(),
            connection: ConnectionMatch {
                port,
                ..ConnectionMatch::default()
            },
        }],
        route,
    }
}

#[test]
fn tls_that_passes_through_goes_by_name_where_a_virtual_service_says() {
    let server = tls_server(
        443,
        Protocol::Tls,
        &["*.example.com"],
        ServerTlsMode::Passthrough,
    );
    let mut bound = virtual_service("g", &["a.example.com", "b.example.com"]);
    bound.tls = vec![
        by_name(
            &["b.example.com", "a.example.com"],
            None,
            vec![to("a", None, 0)],
        ),
        by_name(&["other.example.com"], Some(444), vec![to("a", None, 0)]),
        by_name(&["a.example.com"], None, vec![to("again", None, 0)]),
        by_name(
            &["c.example.com"],
            None,
            vec![to("a", Some(1), 1), to("b", None, 3)],
        ),
    ];
    let mut foreign = virtual_service("g", &["a.other.com"]);
    foreign.tls = vec![by_name(&["d.example.com"], None, vec![to("a", None, 0)])];
    let one_port = external("a", "ns", Resolution::ClientSideLb).port("p", 8443, Protocol::Tls);
    let gateways = [gateway("g", "ns", "ingress", 2024, [server])];
    let snapshot = bound_world(gateways, [bound, foreign], [one_port]);
    let listener = listener(&snapshot, router("ns", "ingress"), "0.0.0.0_443");
    let [first, second] = listener.filter_chains.as_slice() else {
        panic!("{listener:?}");
    };
    let names = |c: &FilterChain| c.filter_chain_match.clone().expect("a match").server_names;
    assert_eq!(names(first), ["a.example.com", "b.example.com"]);
    assert_eq!(leads_to(first), "outbound|8443||a");
    assert_eq!(names(second), ["c.example.com"]);
    assert_eq!(leads_to(second), "vs.ns outbound|1||a=1 outbound|443||b=3");
    assert_eq!(listener.listener_filters.len(), 1, "the TLS inspector");
}

#[test]
fn any_name_will_do_for_a_star() {
    let server = tls_server(15012, Protocol::Tls, &["*"], ServerTlsMode::Passthrough);
    let mut bound = virtual_service("g", &["*"]);
    bound.tls = vec![by_name(
        &["*"],
        Some(15012),
        vec![to("istiod", Some(15012), 0)],
    )];
    let snapshot = bound_world([gateway("g", "ns", "ingress", 2024, [server])], [bound], []);
    let listener = listener(&snapshot, router("ns", "ingress"), "0.0.0.0_15012");
    assert_eq!(
        chains(&listener),
        [(vec![], "outbound|15012||istiod".to_owned())]
    );
    assert_eq!(
        listener.listener_filters.len(),
        1,
        "istiod inspects all the same"
    );
}

#[test]
fn a_host_of_another_namespace_is_not_routed() {
    let server = tls_server(443, Protocol::Tls, &["other/*"], ServerTlsMode::Passthrough);
    let mut bound = virtual_service("g", &["a.example.com"]);
    bound.tls = vec![by_name(&["a.example.com"], None, vec![to("a", None, 0)])];
    let snapshot = bound_world([gateway("g", "ns", "ingress", 2024, [server])], [bound], []);
    assert!(listeners(&snapshot, router("ns", "ingress")).is_empty());
}

#[test]
fn bytes_go_by_the_first_tcp_route_that_matches() {
    let plain = server(3306, Protocol::Tcp, &["*"]);
    let ended = tls_server(
        3307,
        Protocol::Tls,
        &["db.example.com"],
        ServerTlsMode::IstioMutual,
    );
    let unbound = server(3308, Protocol::Tcp, &["*"]);
    let mut bound = virtual_service("g", &["db.example.com"]);
    let route = |port, host| TcpRoute {
        matches: vec![ConnectionMatch {
            port: Some(port),
            ..ConnectionMatch::default()
        }],
        route: vec![to(host, Some(3306), 0)],
    };
    bound.tcp = vec![
        route(3306, "plain"),
        route(3307, "ended"),
        route(3306, "late"),
    ];
    let servers = [plain, ended, unbound];
    let snapshot = bound_world([gateway("g", "ns", "ingress", 2024, servers)], [bound], []);
    let proxy = || router("ns", "ingress");
    assert_eq!(
        listeners(&snapshot, proxy()),
        ["0.0.0.0_3306", "0.0.0.0_3307"]
    );
    let plain = listener(&snapshot, proxy(), "0.0.0.0_3306");
    assert_eq!(
        chains(&plain),
        [(vec![], "outbound|3306||plain".to_owned())]
    );
    assert!(tls_of(&plain.filter_chains[0]).is_none() && plain.listener_filters.is_empty());
    let ended = listener(&snapshot, proxy(), "0.0.0.0_3307");
    let names = vec!["db.example.com".to_owned()];
    assert_eq!(chains(&ended), [(names, "outbound|3306||ended".to_owned())]);
    let tls = tls_of(&ended.filter_chains[0]).and_then(|t| t.common_tls_context);
    let protocols = tls.expect("TLS").alpn_protocols;
    assert_eq!(protocols, ["istio-peer-exchange", "h2", "http/1.1"]);
}

#[test]
fn connections_are_kept_as_the_rule_of_their_destination_says() {
    let hashed = |by_source| LoadBalancer {
        consistent_hash: Some(ConsistentHash {
            key: Some(HashKey::SourceIp(by_source)),
            table: HashTable::Unset(0),
        }),
        ..LoadBalancer::default()
    };
    let settings = PolicySettings {
        load_balancer: Some(hashed(true)),
        connection_pool: Some(ConnectionPool {
            tcp_idle_timeout: Some(Duration::from_secs(30)),
            max_connection_duration: Some(Duration::from_mins(1)),
            ..ConnectionPool::default()
        }),
        ..PolicySettings::default()
    };
    let mut web = web().rule(settings, &["v1", "v2"]);
    web.rules[0].subsets[1].policy.base.load_balancer = Some(LoadBalancer::default());
    let snapshot = world([auto_passthrough("eastwest")], [web]);
    let listener = listener(&snapshot, router("ns", "eastwest"), "0.0.0.0_15443");
    let proxies = listener.filter_chains.iter().map(|chain| {
        let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else {
            panic!("{chain:?}");
        };
        TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy")
    });
    let proxies: Vec<_> = proxies.collect();
    let hashing: Vec<_> = proxies.iter().map(|p| p.hash_policy.len()).collect();
    assert_eq!(hashing, [1, 1, 0], "the second subset balances otherwise");
    for proxy in proxies {
        assert_eq!(proxy.idle_timeout.map(|d| d.seconds), Some(30));
        let longest = proxy.max_downstream_connection_duration;
        assert_eq!(longest.map(|d| d.seconds), Some(60));
    }
}
