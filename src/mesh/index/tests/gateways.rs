use super::*;
use crate::model::{
    DeclaredGateway, GatewayAddress, GatewayApiListener, KubeGateway, KubeService, Labels,
};

fn east_west(address: &str) -> KubeService {
    let mut gateway = service("eastwest", &[("tls", 15443, 15443)]);
    gateway.meta = world::meta("eastwest", "istio-system");
    gateway.labels = labels(&[("topology.istio.io/network", "n-c2")]);
    gateway.kind = ServiceType::LoadBalancer;
    gateway.load_balancer = vec![Arc::from(address)];
    gateway
}

/// `address:port` of the gateways that web's endpoints of c2 have.
fn gateways(world: &World) -> Vec<String> {
    let state = world.state(WEB).expect("web is known");
    let all = state.networks.gateways(&"n-c2".into(), &"c2".into());
    all.iter()
        .map(|g| match &g.address {
            GatewayAddress::Ip(ip) => format!("{ip}:{}", g.port),
            GatewayAddress::Hostname(name) => format!("{name}:{}", g.port),
        })
        .collect()
}

#[test]
fn a_labelled_service_is_a_gateway_while_it_has_label_and_status() {
    let mut world = two_clusters();
    world.put("c2", east_west("192.0.2.1"));
    assert_eq!(gateways(&world), ["192.0.2.1:15443"]);
    let mut other = east_west("192.0.2.1");
    other.labels = labels(&[
        ("topology.istio.io/network", "n-c2"),
        ("networking.istio.io/gatewayPort", "443"),
    ]);
    other.ports[0].port = 443;
    world.put("c2", other);
    assert_eq!(gateways(&world), ["192.0.2.1:443"]);
    let mut without = east_west("192.0.2.1");
    without.load_balancer = Vec::new();
    world.put("c2", without);
    assert!(gateways(&world).is_empty());
    world.put("c2", east_west("192.0.2.1"));
    let mut unlabelled = east_west("192.0.2.1");
    unlabelled.labels = Labels::default();
    world.put("c2", unlabelled);
    assert!(gateways(&world).is_empty());
    world.put("c2", east_west("192.0.2.1"));
    world.apply("c2", Change::ClusterRemoved);
    assert!(gateways(&world).is_empty());
}

#[test]
fn a_gateway_must_have_the_port() {
    let mut world = two_clusters();
    let mut hbone = east_west("192.0.2.1");
    hbone.ports[0].port = 15008;
    world.put("c2", hbone);
    assert_eq!(gateways(&world), ["192.0.2.1:0"]);
    let mut none = east_west("192.0.2.1");
    none.ports[0].port = 80;
    world.put("c2", none);
    assert!(gateways(&world).is_empty());
}

#[test]
fn a_node_port_gateway_is_at_its_selected_nodes() {
    let mut world = two_clusters();
    let mut gateway = east_west("unused");
    gateway.kind = ServiceType::NodePort;
    gateway.ports[0].node_port = Some(31443);
    gateway.annotations = labels(&[("traffic.istio.io/nodeSelector", r#"{"edge":"yes"}"#)]);
    world.put("c2", gateway.clone());
    assert!(gateways(&world).is_empty());
    let mut edge = node("edge", &[("edge", "yes")]);
    edge.external_ip = Some(ip("192.0.2.7"));
    world.put("c2", edge.clone());
    let mut inner = node("inner", &[]);
    inner.external_ip = Some(ip("192.0.2.8"));
    world.put("c2", inner);
    assert_eq!(gateways(&world), ["192.0.2.7:31443"]);
    edge.external_ip = None;
    world.put("c2", edge);
    assert!(gateways(&world).is_empty());
    gateway.annotations = labels(&[("traffic.istio.io/nodeSelector", "not json")]);
    world.put("c2", gateway.clone());
    assert_eq!(gateways(&world), ["192.0.2.8:31443"]);
    gateway.external_ips = vec![ip("192.0.2.9")];
    world.put("c2", gateway);
    assert_eq!(gateways(&world), ["192.0.2.9:31443"]);
}

#[test]
fn host_names_wait_for_their_answer() {
    let mut world = two_clusters();
    world.put("c2", east_west("lb.example.com"));
    assert!(gateways(&world).is_empty());
    let names = world.index.hostnames_to_resolve();
    assert_eq!(
        names.iter().map(|n| &**n).collect::<Vec<_>>(),
        ["lb.example.com"]
    );
    let state = world.state(WEB).expect("web is known");
    assert!(
        state.networks.has_gateway(&"n-c2".into()),
        "known, though not resolved"
    );
    let answer = Change::Resolved(Arc::from("lb.example.com"), vec![ip("192.0.2.2")]);
    let told = told(&mut world, "c1", answer);
    assert!(told.hosts.contains(WEB));
    assert_eq!(gateways(&world), ["192.0.2.2:15443"]);
    let gone = Change::Resolved(Arc::from("lb.example.com"), Vec::new());
    world.apply("c1", gone);
    assert!(gateways(&world).is_empty());
}

#[test]
fn host_names_are_of_no_use_where_resolving_is_off() {
    let features = Features {
        resolve_hostname_gateways: false,
        ..Features::default()
    };
    let mut world = World::with_features("c1", features);
    world.put("c2", east_west("lb.example.com"));
    assert!(world.index.hostnames_to_resolve().is_empty());
}

#[test]
fn declared_gateways_come_from_address_and_registry_service() {
    let mut world = two_clusters();
    let mut gateway = east_west("192.0.2.3");
    gateway.labels = Labels::default();
    world.put("c2", gateway);
    let network = MeshNetwork {
        members: vec![NetworkMember::Registry("c2".into())],
        gateways: vec![
            DeclaredGateway::Address {
                address: Arc::from("192.0.2.1"),
                port: 443,
            },
            DeclaredGateway::Service {
                host: "eastwest.istio-system.svc.cluster.local".into(),
                port: 15443,
            },
        ],
    };
    let mut networks = MeshNetworks::default();
    networks.networks.insert("n-c2".into(), network);
    world.networks(networks);
    assert_eq!(
        gateways(&world),
        ["192.0.2.3:15443"],
        "its own before the declared"
    );
    world.remove("c2", east_west(""));
    assert_eq!(gateways(&world), ["192.0.2.1:443"]);
}

#[test]
fn gateway_api_gateways_count_by_listener_and_class() {
    let mut world = two_clusters();
    let listener = |port: u16, protocol: &str, tls: bool| GatewayApiListener {
        port,
        protocol: Arc::from(protocol),
        tls,
        listener_protocol: None,
    };
    let mut gateway = KubeGateway {
        meta: world::meta("eastwest", "istio-system"),
        labels: labels(&[("topology.istio.io/network", "n-c2")]),
        class: Arc::from("istio"),
        addresses: vec![Arc::from("192.0.2.4")],
        listeners: vec![listener(15443, "TLS", true), listener(15008, "HBONE", true)],
    };
    world.put("c2", gateway.clone());
    assert_eq!(gateways(&world), ["192.0.2.4:15443"]);
    gateway.class = Arc::from("istio-remote");
    world.put("c2", gateway.clone());
    assert!(gateways(&world).is_empty(), "only in the config cluster");
    world.put("c1", gateway);
    assert_eq!(gateways(&world), ["192.0.2.4:15443"]);
}

#[test]
fn a_gateway_touches_only_services_behind_it() {
    let mut world = two_clusters();
    world.put("c2", east_west("192.0.2.1"));
    world.put("c1", service("local", &[("http", 80, 8080)]));
    world.put(
        "c1",
        slice("local", &[("http", 8080)], &[("web-1", "10.1.0.1")]),
    );
    let local = || "local.default.svc.cluster.local";
    let before = world.state(local()).expect("it is known");
    let told = told(&mut world, "c2", put(east_west("192.0.2.2")));
    assert!(!told.all_endpoints);
    assert_eq!(told.hosts.iter().map(|h| &**h).collect::<Vec<_>>(), [WEB]);
    assert!(Arc::ptr_eq(
        &before,
        &world.state(local()).expect("it is known")
    ));
    let mut two = east_west("192.0.2.2");
    two.load_balancer.push(Arc::from("192.0.2.3"));
    let told = super::told(&mut world, "c2", put(two));
    assert!(told.all_endpoints, "the scale of all weights changed");
}
