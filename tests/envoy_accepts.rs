//! Upstream Envoy takes every cluster, listener and route that isthmus makes.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod edge;
}

use std::{fs, net::IpAddr, path::PathBuf, process::Command, sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    bootstrap::v3::{
        Bootstrap,
        bootstrap::{DynamicResources, StaticResources},
    },
    cluster::v3::Cluster,
    core::v3::{
        ApiConfigSource, ApiVersion, GrpcService, Node, address,
        api_config_source::ApiType,
        grpc_service::{EnvoyGrpc, TargetSpecifier},
        socket_address::PortSpecifier,
    },
    listener::v3::{Listener, filter::ConfigType},
    route::v3::RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use isthmus::mesh::{MeshState, Snapshot};
use isthmus::model::{
    ConnectionPool, ConsistentHash, Failover, HashKey, HashTable, InterceptionMode, LoadBalancer,
    LocalityLb, MtlsMode, OutlierDetection, PeerAuthentication, PersistentSession, PolicySettings,
    Protocol, Proxy, ProxyIps, Resolution, RetryBudget, TargetPort, TcpKeepalive, TlsSetting,
    TrafficDistribution, TypeUrl, Warmup, ZoneAwareLb,
};
use isthmus::testing::gateways::auto_passthrough;
use isthmus::testing::inbound::{self, ingress, listening, policy};
use isthmus::testing::snapshot::{
    ServiceBuilder, dialled_sidecar, external, router, service, sidecar, snapshot_of,
};
use isthmus::testing::virtual_services::mesh_with;
use isthmus::wire::EncodedResource;
use isthmus::xds::{Audiences, ProxyResources};
use prost::{Message, Name};
use support::edge;

/// The Envoy under test: `ISTHMUS_ENVOY`, else the one in the tool folder.
fn envoy() -> PathBuf {
    let local = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/envoy/envoy/_bin/envoy");
    let path =
        std::env::var_os("ISTHMUS_ENVOY").map_or_else(|| PathBuf::from(local), PathBuf::from);
    assert!(
        path.is_file(),
        "no Envoy at {}: run `make tools`, or set ISTHMUS_ENVOY to an Envoy binary",
        path.display()
    );
    path
}

fn algorithm(simple: &str) -> LoadBalancer {
    LoadBalancer {
        simple: Some(Arc::from(simple)),
        ..LoadBalancer::default()
    }
}

fn limits() -> ConnectionPool {
    ConnectionPool {
        max_connections: Some(1),
        connect_timeout: Some(Duration::from_millis(10)),
        max_pending_requests: Some(1),
        max_requests: Some(1),
        max_requests_per_connection: Some(1),
        max_retries: Some(1),
        idle_timeout: Some(Duration::from_secs(1)),
        tcp_idle_timeout: Some(Duration::from_secs(2)),
        max_connection_duration: Some(Duration::from_mins(1)),
        tcp_keepalive: Some(TcpKeepalive {
            probes: Some(3),
            time: Some(Duration::from_mins(1)),
            interval: Some(Duration::from_secs(10)),
        }),
        h2_upgrade: Some(true),
        use_client_protocol: false,
        max_concurrent_streams: Some(100),
        http2_keepalive: Some((Some(Duration::from_secs(30)), Some(Duration::from_secs(5)))),
    }
}

/// A policy with every part.
fn full() -> PolicySettings {
    PolicySettings {
        load_balancer: Some(LoadBalancer {
            locality: Some(LocalityLb {
                failover: vec![Failover {
                    from: Arc::from("eu"),
                    to: Arc::from("us"),
                }],
                ..LocalityLb::default()
            }),
            ..algorithm("ROUND_ROBIN")
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_5xx: Some(1),
            consecutive_gateway_errors: Some(2),
            split_local_origin: true,
            consecutive_local_origin: Some(3),
            interval: Some(Duration::from_secs(1)),
            base_ejection_time: Some(Duration::from_secs(30)),
            max_ejection_percent: 50,
            min_health_percent: 20,
            http_error_codes: vec![500, 503],
        }),
        tls: Some(Arc::new(TlsSetting::IstioMutual.into())),
        connection_pool: Some(limits()),
        retry_budget: Some(RetryBudget {
            percent: Some(25.0),
            interval: None,
            min_concurrency: 0,
        }),
    }
}

fn settings() -> [PolicySettings; 9] {
    let with = |lb| PolicySettings {
        load_balancer: Some(lb),
        ..PolicySettings::default()
    };
    let hashed = |table| LoadBalancer {
        consistent_hash: Some(ConsistentHash {
            key: Some(HashKey::Header(Arc::from("x-user"))),
            table,
        }),
        ..LoadBalancer::default()
    };
    let warm = |simple| LoadBalancer {
        warmup: Some(Warmup {
            duration: Duration::from_secs(30),
            ramp: Some((1.5, 20.0)),
        }),
        ..algorithm(simple)
    };
    let as_client = PolicySettings {
        connection_pool: Some(ConnectionPool {
            use_client_protocol: true,
            ..ConnectionPool::default()
        }),
        ..PolicySettings::default()
    };
    let zone_aware = LoadBalancer {
        zone_aware: Some(ZoneAwareLb::default()),
        ..LoadBalancer::default()
    };
    [
        full(),
        with(algorithm("PASSTHROUGH")),
        with(hashed(HashTable::Unset(0))),
        with(hashed(HashTable::Ring(64))),
        with(hashed(HashTable::Maglev(65537))),
        with(warm("ROUND_ROBIN")),
        with(warm("LEAST_REQUEST")),
        as_client,
        with(zone_aware),
    ]
}

/// Services of every protocol, resolution and policy.
fn services() -> Vec<ServiceBuilder> {
    let protocols = [
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::GrpcWeb,
        Protocol::Https,
        Protocol::Tls,
        Protocol::Tcp,
        Protocol::Auto,
    ];
    let mut all = Vec::new();
    for (n, protocol) in (0u16..).zip(protocols) {
        let [_, low] = n.to_be_bytes();
        let name = format!("s{n}");
        let plain = service(&name, "ns")
            .port("own", 6000 + n, protocol)
            .port("shared", 7000, protocol)
            .vip(IpAddr::from([10, 96, 0, low + 1]))
            .selects(
                &[("app", "web")],
                &[(6000 + n, TargetPort::Number(8000 + n))],
            );
        all.push(plain);
        for (resolution, kind) in [
            (Resolution::Dns, "dns"),
            (Resolution::DnsRoundRobin, "one"),
            (Resolution::Passthrough, "none"),
        ] {
            let host = format!("{kind}{n}.example.com");
            all.push(
                external(&host, "ns", resolution)
                    .port("p", 443 + n, protocol)
                    .endpoint(&host, 443, "p")
                    .endpoint("other.example.com", 443, "p"),
            );
        }
    }
    for (n, settings) in settings().into_iter().enumerate() {
        let name = format!("policy{n}");
        all.push(
            service(&name, "ns")
                .port("http", 80, Protocol::Http)
                .rule(settings, &["v1"]),
        );
    }
    let headless = service("headless", "ns").port("tcp", 3306, Protocol::Tcp);
    all.push(headless.with(|s| s.resolution = Resolution::Passthrough));
    let sticky = service("sticky", "ns").port("http", 80, Protocol::Http);
    all.push(sticky.with(|s| s.persistent_session = PersistentSession::Cookie));
    let near = service("near", "ns").port("http", 80, Protocol::Http);
    all.push(near.with(|s| s.distribution = TrafficDistribution::PreferSameZone));
    all
}

fn mesh() -> MeshState {
    MeshState {
        gateways: vec![auto_passthrough("eastwest")],
        ..MeshState::default()
    }
}

/// A mesh in which the workloads of `ns` have this mode, and port 8001 another.
fn under(mode: MtlsMode, other: MtlsMode) -> MeshState {
    let policy = PeerAuthentication {
        selector: [("app", "web")].into_iter().collect(),
        ports: vec![(8001, other), (9999, other)],
        ..policy("ns", mode)
    };
    MeshState {
        authentications: inbound::mesh([policy], []).authentications,
        ..mesh()
    }
}

fn decode<M: Message + Default>(resource: &EncodedResource) -> M {
    let response =
        DeltaDiscoveryResponse::decode(resource.delta_frame()).expect("a response field");
    let any = response
        .resources
        .into_iter()
        .next()
        .and_then(|r| r.resource);
    M::decode(any.expect("a resource").value.as_slice()).expect("the message")
}

fn ads_cluster() -> Cluster {
    Cluster {
        name: "xds-grpc".to_owned(),
        connect_timeout: Some(envoy_types::pb::google::protobuf::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..Cluster::default()
    }
}

/// The routes that a listener asks for.
fn route_names(listener: &Listener) -> Vec<String> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let names = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with("HttpConnectionManager") => {
            let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
            match manager.route_specifier {
                Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
                _ => None,
            }
        }
        _ => None,
    });
    names.collect()
}

/// A listener around routes: Envoy looks at them only inside of one.
fn around(routes: RouteConfiguration, template: &Listener, port: u32) -> Listener {
    let mut listener = template.clone();
    listener.name = format!("routes_{port}");
    if let Some(address::Address::SocketAddress(at)) =
        listener.address.as_mut().and_then(|a| a.address.as_mut())
    {
        // No two listeners may share an address.
        "127.99.99.99".clone_into(&mut at.address);
        at.port_specifier = Some(PortSpecifier::PortValue(port));
    }
    listener.bind_to_port = None;
    let chain = listener.filter_chains.first_mut().expect("a chain");
    chain.filter_chain_match = None;
    let Some(ConfigType::TypedConfig(any)) =
        &mut chain.filters.first_mut().expect("a filter").config_type
    else {
        panic!("a typed filter");
    };
    let mut manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
    manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
    *any = Any {
        type_url: HttpConnectionManager::type_url(),
        value: manager.encode_to_vec(),
    };
    listener.filter_chains.truncate(1);
    listener.default_filter_chain = None;
    listener.listener_filters.clear();
    listener
}

/// All that `proxy` gets, as one static configuration.
fn bootstrap(resources: &ProxyResources) -> Bootstrap {
    let mut clusters = vec![ads_cluster()];
    clusters.extend(
        resources
            .all(TypeUrl::Cluster)
            .iter()
            .map(|r| decode::<Cluster>(r)),
    );
    let mut listeners: Vec<Listener> = resources
        .all(TypeUrl::Listener)
        .iter()
        .map(|r| decode(r))
        .collect();
    let template = listeners
        .iter()
        .find(|l| !route_names(l).is_empty())
        .cloned();
    let mut names: Vec<String> = listeners.iter().flat_map(route_names).collect();
    names.push("unknown".to_owned());
    for (name, port) in names.iter().zip(1..) {
        let routes = resources.named(TypeUrl::RouteConfiguration, name);
        let routes = decode(&routes.expect("an answer"));
        listeners.extend(
            template
                .iter()
                .map(|t| around(Clone::clone(&routes), t, port)),
        );
    }
    let ads = ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "xds-grpc".to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }],
        ..ApiConfigSource::default()
    };
    Bootstrap {
        node: Some(Node {
            id: "test".to_owned(),
            cluster: "test".to_owned(),
            ..Node::default()
        }),
        static_resources: Some(StaticResources {
            clusters,
            listeners,
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(ads),
            ..DynamicResources::default()
        }),
        ..Bootstrap::default()
    }
}

fn resources_of(snapshot: Arc<Snapshot>, proxy: Proxy) -> ProxyResources {
    let audience = Audiences::default().of(&snapshot, &proxy);
    ProxyResources::new(snapshot, Arc::new(proxy), audience)
}

fn assert_accepted(proxy: Proxy) {
    assert_accepted_in(mesh(), proxy);
}

fn assert_accepted_in(mesh: MeshState, proxy: Proxy) {
    let who = format!("{:?} {:?} {:?}", proxy.kind, proxy.interception, proxy.ips);
    let world: Arc<Snapshot> = snapshot_of(mesh, services());
    let resources = resources_of(world, proxy);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bootstrap.pb");
    fs::write(&path, bootstrap(&resources).encode_to_vec()).expect("a written file");
    let checked = Command::new(envoy())
        .args([
            "--mode",
            "validate",
            "--log-level",
            "warning",
            "--config-path",
        ])
        .arg(&path)
        .output()
        .expect("Envoy starts");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{who}: {said}");
}

fn selected(proxy: Proxy) -> Proxy {
    Proxy {
        labels: [("app", "web")].into_iter().collect(),
        ..proxy
    }
}

fn with_addresses(proxy: Proxy, addresses: &[&str]) -> Proxy {
    let parse = |text: &&str| text.parse().expect("an address");
    Proxy {
        ips: ProxyIps(addresses.iter().map(parse).collect()),
        ..proxy
    }
}

#[test]
fn envoy_accepts_what_a_dialled_sidecar_gets() {
    assert_accepted(Proxy {
        http_proxy_port: Some(15080),
        ..dialled_sidecar("ns")
    });
}

#[test]
fn envoy_accepts_what_a_redirected_sidecar_gets() {
    assert_accepted(selected(sidecar("ns")));
}

#[test]
fn envoy_accepts_what_a_transparent_sidecar_gets() {
    assert_accepted(Proxy {
        interception: InterceptionMode::Tproxy,
        ..selected(sidecar("ns"))
    });
}

#[test]
fn envoy_accepts_what_sidecars_of_other_address_families_get() {
    assert_accepted(with_addresses(selected(sidecar("ns")), &["fd00::1"]));
    assert_accepted(with_addresses(dialled_sidecar("ns"), &["fd00::1"]));
    assert_accepted(with_addresses(
        selected(sidecar("ns")),
        &["10.0.0.1", "fd00::1"],
    ));
}

/// A route with every field, and routes of bytes and TLS.
const ROUTED: &str = "
metadata: {name: full, namespace: ns}
spec:
  hosts: [policy0, '*.example.com', www.example.org]
  http:
  - name: full
    match:
    - {name: m, uri: {prefix: /A}, ignoreUriCase: true, scheme: {exact: http}, method: {regex: 'GET|PUT'},
       authority: {prefix: we}, headers: {x-a: {}, x-b: {prefix: ''}}, withoutHeaders: {x-c: {exact: c}, x-d: {}},
       queryParams: {q: {exact: y}, p: {}}, statPrefix: stats}
    - {uri: {regex: '/b.*'}}
    route:
    - {destination: {host: policy0}, weight: 30,
       headers: {request: {set: {a: '1', Host: x.com}, add: {b: '2'}, remove: [c]}, response: {add: {d: '3'}}}}
    - {destination: {host: policy1, subset: v1}, weight: 70}
    headers: {request: {set: {z: '1'}}, response: {remove: [server]}}
    rewrite: {authority: new, uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/\\1'}}
    timeout: 5s
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,503,reset', retryRemoteLocalities: true, backoff: 30ms}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 0.25}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 12.5}}}
    mirror: {host: policy2}
    mirrors: [{destination: {host: policy3}, percentage: {value: 33.3}}]
    corsPolicy: {allowOrigins: [{exact: 'http://a'}, {prefix: 'http://b'}, {regex: '.*c'}], allowMethods: [GET],
      allowHeaders: [x], exposeHeaders: [z], maxAge: 24h, allowCredentials: true}
  - match: [{uri: {exact: /redirect}}]
    redirect: {uri: /x, authority: y.com, scheme: https, port: 8443, redirectCode: 307}
  - match: [{uri: {exact: /redirect2}}]
    redirect: {derivePort: FROM_REQUEST_PORT}
  - match: [{uri: {exact: /direct}}]
    directResponse: {status: 503, body: {bytes: aGk=}}
  - route: [{destination: {host: policy2}}]
---
metadata: {name: bytes, namespace: ns}
spec:
  hosts: ['*']
  tls:
  - match: [{sniHosts: [a.example.com, '*.example.org'], destinationSubnets: [10.0.0.0/8]}, {sniHosts: ['*']}]
    route: [{destination: {host: s4}, weight: 1}, {destination: {host: s5}, weight: 2}]
  tcp:
  - match: [{destinationSubnets: [10.1.0.0/16, 192.0.2.1]}]
    route: [{destination: {host: s6}}]
  - route: [{destination: {host: s6, subset: v1}, weight: 20}, {destination: {host: s7}, weight: 80}]
";

#[test]
fn envoy_accepts_every_route_of_users() {
    let routed = || MeshState {
        virtual_services: mesh_with(ROUTED).virtual_services,
        ..mesh()
    };
    let proxy = || Proxy {
        http_proxy_port: Some(15080),
        ..dialled_sidecar("ns")
    };
    assert_accepted_in(routed(), proxy());
    assert_accepted_in(routed(), selected(sidecar("ns")));
}

#[test]
fn envoy_accepts_every_mode_of_mutual_tls() {
    for (mode, other) in [
        (MtlsMode::Strict, MtlsMode::Disable),
        (MtlsMode::Disable, MtlsMode::Strict),
        (MtlsMode::Permissive, MtlsMode::Strict),
    ] {
        assert_accepted_in(under(mode, other), selected(sidecar("ns")));
    }
}

#[test]
fn envoy_accepts_what_ingress_listeners_become() {
    let endpoints = ["127.0.0.1:9", "0.0.0.0:9", "unix:///run/app", ""];
    let listeners = (9000..).zip(endpoints).map(|(port, endpoint)| {
        let bind = if port == 9000 { "127.0.0.7" } else { "" };
        ingress(port, bind, endpoint)
    });
    let sidecars = inbound::mesh([], [listening("ns", listeners.collect())]).sidecars;
    let mesh = || MeshState {
        sidecars: sidecars.clone(),
        ..mesh()
    };
    assert_accepted_in(mesh(), selected(dialled_sidecar("ns")));
    assert_accepted_in(mesh(), selected(sidecar("ns")));
}

#[test]
fn envoy_accepts_what_gateways_get() {
    assert_accepted(router("ns", "ingress"));
    assert_accepted(router("ns", "eastwest"));
}

#[test]
fn envoy_accepts_every_kind_of_gateway_server() {
    let mesh = edge::mesh("s0.ns.svc.cluster.local");
    let proxy = router("ns", "ingress");
    let resources = resources_of(snapshot_of(mesh.clone(), services()), proxy.clone());
    let listeners = resources.all(TypeUrl::Listener);
    assert_eq!(listeners.len(), 5, "{listeners:?}");
    assert_accepted_in(mesh.clone(), proxy.clone());
    assert_accepted_in(mesh, with_addresses(proxy, &["fd00::1"]));
}
