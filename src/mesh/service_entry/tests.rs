use std::sync::Arc;

use super::*;
use crate::model::{
    Address, Endpoint, ExportTo, Health, KubeService, KubeServicePort, Labels, MtlsMode, Namespace,
    NetworkId, ObjectMeta, PeerAuthentication, Protocol, ServiceType, TlsMode, Workload,
    WorkloadEntry, WorkloadTarget, WorkloadTemplate,
};

/// Everything an object's meaning depends on.
#[derive(Default)]
struct World {
    cluster: ClusterId,
    mesh: MeshConfig,
    features: Features,
    authentications: PeerAuthentications,
}

impl World {
    fn new() -> Self {
        Self {
            cluster: ClusterId::from("c1"),
            ..Self::default()
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            cluster: &self.cluster,
            mesh: &self.mesh,
            features: &self.features,
            authentications: &self.authentications,
        }
    }
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        created: Arc::from("2026-01-01T00:00:00Z"),
        name: Arc::from(name),
        namespace: Namespace::from("shop"),
    }
}

/// A static entry for `a.com` with port 80.
fn entry(hosts: &[&str]) -> ServiceEntry {
    ServiceEntry {
        meta: meta("entry"),
        labels: Labels::default(),
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        addresses: Vec::new(),
        ports: vec![port("http", 80, None)],
        location: Location::External,
        resolution: ServiceEntryResolution::Static,
        endpoints: Vec::new(),
        workload_selector: None,
        export_to: None,
        subject_alt_names: Vec::new(),
        logical_dns: false,
        traffic_distribution: None,
    }
}

fn selecting(app: &str) -> ServiceEntry {
    ServiceEntry {
        workload_selector: Some([("app", app)].into_iter().collect()),
        ..entry(&["a.com"])
    }
}

fn port(name: &str, number: u16, target_port: Option<u16>) -> ServiceEntryPort {
    ServiceEntryPort {
        number,
        name: Arc::from(name),
        protocol: Protocol::Http,
        target_port,
    }
}

fn target(address: &str) -> WorkloadTarget {
    WorkloadTarget {
        address: Arc::from(address),
        ..WorkloadTarget::default()
    }
}

/// A healthy `WorkloadEntry` labelled `app: web`.
fn workload_entry(target: WorkloadTarget) -> WorkloadEntry {
    WorkloadEntry {
        meta: meta("vm"),
        labels: [("app", "web")].into_iter().collect(),
        target,
        healthy: true,
        group: Arc::from(""),
    }
}

fn pod_workload() -> Arc<Workload> {
    Arc::new(Workload {
        name: Arc::from("web-0"),
        labels: [("app", "web")].into_iter().collect(),
        template: Arc::new(WorkloadTemplate {
            namespace: Namespace::from("shop"),
            ports: Arc::from([(Arc::from("http"), 8080)]),
            ..WorkloadTemplate::default()
        }),
        ..Workload::default()
    })
}

/// `address:port name weight` of each endpoint.
fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    let show = |endpoint: &Endpoint| {
        let address = match &endpoint.address {
            Address::Ip(_) | Address::Ips(_) => endpoint.address.ips()[0].to_string(),
            Address::Hostname(host) => host.to_string(),
            Address::Unix(path) => format!("unix:{path}"),
            Address::Unknown => "?".to_owned(),
        };
        format!(
            "{address}:{} {} {}",
            endpoint.port, endpoint.port_name, endpoint.weight
        )
    };
    endpoints.iter().map(show).collect()
}

fn inline(entry: &ServiceEntry) -> Vec<String> {
    shown(&inline_endpoints(
        entry,
        &entry.hosts[0],
        &World::new().source(),
    ))
}

fn selected(entry: &ServiceEntry, chosen: &WorkloadEntry) -> Vec<String> {
    let world = World::new();
    let workload = workload(chosen, None, &world.source());
    shown(&workload_entry_endpoints(
        entry,
        chosen,
        &workload,
        &world.source(),
    ))
}

#[test]
fn each_host_is_a_service_of_its_own() {
    let mut entry = entry(&["a.com", "*.b.com"]);
    entry.resolution = ServiceEntryResolution::DynamicDns;
    entry.addresses = vec!["10.1.0.0/16".parse().expect("a range")];
    entry.ports.push(port("tls", 443, Some(8443)));
    entry.subject_alt_names = vec![Arc::from("spiffe://x")];
    let world = World::new();
    let services = services(&entry, None, &world.source());
    let hosts: Vec<_> = services.iter().map(|s| &*s.key.hostname).collect();
    assert_eq!(hosts, ["a.com", "*.b.com"]);
    let first = &services[0];
    assert_eq!(&*first.meta.name, "a.com", "not that of the entry");
    assert_eq!(&*first.key.namespace, "shop");
    assert_eq!(first.resolution, Resolution::DynamicDns);
    assert_eq!(
        (first.provider, first.mesh_external),
        (Provider::External, true)
    );
    assert_eq!(first.addresses, entry.addresses);
    assert_eq!(first.subject_alt_names, entry.subject_alt_names);
    let ports: Vec<_> = first.ports.iter().map(|p| (&*p.name, p.number)).collect();
    assert_eq!(ports, [("http", 80), ("tls", 443)]);
    let targets = &first.registrations[&world.cluster].target_ports;
    assert_eq!(targets[1], (443, TargetPort::Number(8443)));
}

#[test]
fn an_unset_export_is_the_meshs_default() {
    let mut world = World::new();
    let own = Namespace::from(".");
    world.mesh.default_service_export_to = ExportTo::parse(["."], &own).unwrap_or_default();
    let export = |entry: &ServiceEntry, world: &World| {
        services(entry, None, &world.source())[0].export_to.clone()
    };
    let mut entry = entry(&["a.com"]);
    assert!(export(&entry, &world).is_private_to("shop"));
    entry.export_to = Some(ExportTo::Everyone);
    assert_eq!(export(&entry, &world), ExportTo::Everyone);
}

#[test]
fn labels_and_annotations_reach_the_service() {
    let mut world = World::new();
    let settings = [(true, vec!["*.a.com"])];
    world.mesh.cluster_local = crate::model::ClusterLocalHosts::new(settings, "cluster.local", "");
    let mut entry = entry(&["x.a.com"]);
    entry.labels = [("istio.io/persistent-session", "cookie")]
        .into_iter()
        .collect();
    let from_namespace = &services(&entry, Some("PreferClose"), &world.source())[0];
    assert_eq!(
        from_namespace.distribution,
        TrafficDistribution::PreferSameZone
    );
    assert_eq!(from_namespace.persistent_session, PersistentSession::Cookie);
    assert!(from_namespace.cluster_local);
    entry.traffic_distribution = Some(Arc::from("PreferSameNode"));
    let own = &services(&entry, Some("PreferClose"), &world.source())[0];
    assert_eq!(own.distribution, TrafficDistribution::PreferSameNode);
}

#[test]
fn entries_of_one_host_are_merged_into_the_oldest() {
    let world = World::new();
    let of = |entry: &ServiceEntry| services(entry, None, &world.source()).remove(0);
    let first = entry(&["a.com"]);
    let mut second = entry(&["a.com"]);
    second.ports = vec![port("other", 80, None), port("tls", 443, Some(8443))];
    let mut alien = entry(&["a.com"]);
    alien.resolution = ServiceEntryResolution::Dns;
    alien.ports = vec![port("tcp", 9000, None)];
    let merged = merged([of(&first), of(&second), of(&alien)]).expect("one at least");
    let ports: Vec<_> = merged.ports.iter().map(|p| (&*p.name, p.number)).collect();
    assert_eq!(ports, [("http", 80), ("tls", 443)]);
    let targets = &merged.registrations[&world.cluster].target_ports;
    assert_eq!(targets[1], (443, TargetPort::Number(8443)));
}

#[test]
fn the_port_is_the_workloads_then_the_target_then_the_number() {
    let mut entry = entry(&["a.com"]);
    entry.ports = vec![
        port("own", 80, Some(8080)),
        port("target", 81, Some(8081)),
        port("plain", 82, None),
        port("zero", 83, None),
    ];
    entry.endpoints = vec![WorkloadTarget {
        ports: vec![(Arc::from("own"), 1080), (Arc::from("zero"), 0)],
        weight: 5,
        ..target("10.0.0.1")
    }];
    let wanted = [
        "10.0.0.1:1080 own 5",
        "10.0.0.1:8081 target 5",
        "10.0.0.1:82 plain 5",
    ];
    let got = inline(&entry);
    assert_eq!(got[..3], wanted);
    assert_eq!(got[3], "10.0.0.1:83 zero 5");
}

#[test]
fn a_socket_has_port_zero_and_a_host_name_needs_dns() {
    let mut entry = entry(&["a.com"]);
    entry.endpoints = vec![
        target("unix:///run/a.sock"),
        target("b.org"),
        target("fd00::1"),
        target(""),
    ];
    assert_eq!(
        inline(&entry),
        [
            "unix:/run/a.sock:0 http 1",
            "fd00::1:80 http 1",
            "?:80 http 1"
        ]
    );
    entry.resolution = ServiceEntryResolution::Dns;
    assert_eq!(
        inline(&entry),
        ["b.org:80 http 1", "fd00::1:80 http 1", "?:80 http 1"]
    );
}

#[test]
fn a_dns_entry_without_endpoints_resolves_its_host() {
    let world = World::new();
    let mut entry = entry(&["a.com", "b.com"]);
    entry.resolution = ServiceEntryResolution::Dns;
    entry.ports = vec![port("http", 80, Some(8080))];
    let endpoints = inline_endpoints(&entry, "b.com", &world.source());
    assert_eq!(shown(&endpoints), ["b.com:8080 http 1"]);
    let workload = &endpoints[0].workload;
    assert_eq!(&*workload.template.metadata, "entry;shop;entry;;c1");
    assert_eq!(
        (&workload.template.tls_mode, &workload.template.network),
        (&TlsMode::Disabled, &None)
    );
    entry.workload_selector = Some(Labels::default());
    assert!(inline(&entry).is_empty());
    entry.workload_selector = None;
    entry.resolution = ServiceEntryResolution::None;
    assert!(inline(&entry).is_empty());
}

#[test]
fn round_robin_dns_takes_one_endpoint_per_port() {
    let world = World::new();
    let mut entry = entry(&["a.com"]);
    entry.resolution = ServiceEntryResolution::DnsRoundRobin;
    entry.endpoints = vec![target("b.org"), target("c.org")];
    let part = || inline_endpoints(&entry, "a.com", &world.source());
    let joined = join([(&entry, part()), (&entry, part())]);
    assert_eq!(shown(&joined), ["b.org:80 http 1"]);
    let mut strict = entry.clone();
    strict.resolution = ServiceEntryResolution::Dns;
    let joined = join([(&strict, part()), (&strict, part())]);
    assert_eq!(joined.len(), 4);
}

#[test]
fn a_workload_entry_is_on_the_network_its_spec_names_and_no_other() {
    let world = World::new();
    let known = NetworkId::from("n1");
    let plain = workload(
        &workload_entry(target("10.0.0.1")),
        Some(&known),
        &world.source(),
    );
    assert_eq!(plain.template.network, None);
    assert_eq!(plain.labels.get("topology.istio.io/network"), Some("n1"));
    let spec = WorkloadTarget {
        network: Some(NetworkId::from("n2")),
        ..target("10.0.0.1")
    };
    let named = workload(&workload_entry(spec.clone()), Some(&known), &world.source());
    assert_eq!(named.template.network.as_deref(), Some("n2"));
    assert_eq!(named.labels.get("topology.istio.io/network"), Some("n2"));
    let mut labelled = workload_entry(spec);
    labelled.labels = [("topology.istio.io/network", "n3")].into_iter().collect();
    let labelled = workload(&labelled, None, &world.source());
    assert_eq!(labelled.template.network.as_deref(), Some("n2"));
    assert_eq!(labelled.labels.get("topology.istio.io/network"), Some("n3"));
}

#[test]
fn a_workload_entrys_locality_is_its_specs_then_its_labels() {
    let world = World::new();
    let of = |spec: &str, labels: &[(&str, &str)]| {
        let mut entry = workload_entry(WorkloadTarget {
            locality: Arc::from(spec),
            ..target("10.0.0.1")
        });
        entry.labels = labels.iter().copied().collect();
        let workload = workload(&entry, None, &world.source());
        let zone = workload.labels.get("topology.kubernetes.io/zone");
        format!("{} {}", workload.locality, zone.unwrap_or("-"))
    };
    let new = ("topology.istio.io/locality", "r2.z2");
    assert_eq!(of("r1/z1", &[new]), "r1/z1/ z1");
    assert_eq!(of("", &[new, ("istio-locality", "r3")]), "r2/z2/ z2");
    assert_eq!(of("", &[("istio-locality", "r3/z.3/s")]), "r3/z.3/s z.3");
    assert_eq!(of("", &[]), " -");
}

#[test]
fn a_workload_entry_takes_mtls_by_label_or_by_its_service_account() {
    let world = World::new();
    let of = |account: &str, label: Option<&str>| {
        let mut entry = workload_entry(WorkloadTarget {
            service_account: Arc::from(account),
            ..target("10.0.0.1")
        });
        entry.target.labels = label
            .map(|l| ("security.istio.io/tlsMode", l))
            .into_iter()
            .collect();
        let workload = workload(&entry, None, &world.source());
        (
            workload.template.tls_mode.clone(),
            workload.template.identity.to_string(),
        )
    };
    let identity = "spiffe://cluster.local/ns/shop/sa/web".to_owned();
    assert_eq!(of("", None), (TlsMode::Disabled, String::new()));
    assert_eq!(of("web", None), (TlsMode::Istio, identity.clone()));
    assert_eq!(of("web", Some("disabled")), (TlsMode::Disabled, identity));
    assert_eq!(of("", Some("istio")), (TlsMode::Istio, String::new()));
}

#[test]
fn labels_of_the_object_win_over_those_of_its_spec() {
    let world = World::new();
    let mut entry = workload_entry(target("10.0.0.1"));
    entry.target.labels = [("app", "old"), ("version", "v2")].into_iter().collect();
    let made = workload(&entry, None, &world.source());
    assert_eq!(
        (made.labels.get("app"), made.labels.get("version")),
        (Some("web"), Some("v2"))
    );
    assert_eq!(&*made.template.metadata, "vm;shop;web;v2;c1");
    entry.labels = [
        ("service.istio.io/workload-name", "fleet"),
        ("version", "latest"),
    ]
    .into_iter()
    .collect();
    assert_eq!(
        &*workload(&entry, None, &world.source()).template.metadata,
        "fleet;shop;old;;c1"
    );
    entry.group = Arc::from("group");
    assert_eq!(
        &*workload(&entry, None, &world.source()).template.metadata,
        "group;shop;old;;c1"
    );
    assert_eq!(&*workload(&entry, None, &world.source()).name, "vm");
}

#[test]
fn a_selector_takes_healthy_entries_of_its_namespace() {
    let entry = selecting("web");
    let chosen = workload_entry(target("10.0.0.1"));
    assert_eq!(selected(&entry, &chosen), ["10.0.0.1:80 http 1"]);
    let mut unhealthy = chosen.clone();
    unhealthy.healthy = false;
    assert!(selected(&entry, &unhealthy).is_empty());
    let mut elsewhere = chosen.clone();
    elsewhere.meta.namespace = Namespace::from("bank");
    assert!(selected(&entry, &elsewhere).is_empty());
    assert!(selected(&selecting("db"), &chosen).is_empty());
    assert!(selected(&selecting("web"), &workload_entry(target("vm.org"))).is_empty());
}

#[test]
fn a_selector_takes_pods_at_their_named_ports() {
    let mut world = World::new();
    let of = |host: &str, world: &World| {
        let ip = "10.0.0.7".parse().expect("an IP");
        pod_endpoints(
            &selecting(host),
            &Address::Ip(ip),
            &pod_workload(),
            &world.source(),
        )
    };
    let ready = of("web", &world);
    assert_eq!(shown(&ready), ["10.0.0.7:8080 http 1"]);
    assert_eq!(ready[0].health, Health::Healthy);
    assert!(of("db", &world).is_empty());
    world.features.service_entries_select_pods = false;
    assert!(of("web", &world).is_empty());
}

#[test]
fn a_peer_authentication_turns_mtls_off_by_target_port() {
    let mut world = World::new();
    let policy = PeerAuthentication {
        meta: meta("off"),
        selector: [("app", "web")].into_iter().collect(),
        mode: MtlsMode::Strict,
        ports: vec![(8080, MtlsMode::Disable)],
    };
    world.authentications = PeerAuthentications::new([Arc::new(policy)], "istio-system");
    let mut entry = selecting("web");
    entry.ports = vec![port("a", 80, Some(8080)), port("b", 8080, Some(80))];
    let chosen = workload_entry(target("10.0.0.1"));
    let made = workload(&chosen, None, &world.source());
    let endpoints = workload_entry_endpoints(&entry, &chosen, &made, &world.source());
    let off: Vec<_> = endpoints.iter().map(|e| e.mtls_disabled).collect();
    assert_eq!(off, [true, false]);
}

fn kube_service(ports: &[(&str, TargetPort)]) -> KubeService {
    let port = |(name, target_port): &(&str, TargetPort)| KubeServicePort {
        name: Arc::from(*name),
        port: 80,
        protocol: Protocol::Http,
        target_port: target_port.clone(),
        node_port: None,
    };
    KubeService {
        meta: meta("web"),
        labels: Labels::default(),
        annotations: Labels::default(),
        kind: ServiceType::ClusterIp,
        cluster_ips: vec!["10.96.0.1".parse().expect("an IP")],
        external_ips: Vec::new(),
        load_balancer: Vec::new(),
        ports: ports.iter().map(port).collect(),
        selector: [("app", "web")].into_iter().collect(),
        external_name: None,
        node_local: false,
        traffic_distribution: None,
        publish_not_ready: false,
    }
}

fn under(service: &KubeService, chosen: &WorkloadEntry) -> Vec<String> {
    let world = World::new();
    let workload = workload(chosen, None, &world.source());
    let source = &world.source();
    shown(&kube_service_workload_entry_endpoints(
        service, chosen, &workload, source,
    ))
}

#[test]
fn a_kubernetes_service_takes_workload_entries_by_ip() {
    let service = kube_service(&[("http", TargetPort::Number(8080))]);
    let of = |address: &str| under(&service, &workload_entry(target(address)));
    assert_eq!(of("10.0.0.1"), ["10.0.0.1:8080 http 1"]);
    assert_eq!(of(""), ["?:8080 http 1"]);
    assert!(of("vm.org").is_empty());
    assert!(of("unix:///run/a.sock").is_empty());
}

#[test]
fn a_kubernetes_services_named_port_must_be_the_workload_entrys() {
    let mut chosen = workload_entry(target("10.0.0.1"));
    chosen.target.ports = vec![(Arc::from("web"), 3000), (Arc::from("http"), 4000)];
    let named = |name: &str| TargetPort::Name(Arc::from(name));
    let service = kube_service(&[
        ("http", TargetPort::Number(8080)),
        ("grpc", TargetPort::Number(9090)),
        ("other", named("web")),
        ("lost", named("absent")),
    ]);
    assert_eq!(
        under(&service, &chosen),
        [
            "10.0.0.1:4000 http 1",
            "10.0.0.1:9090 grpc 1",
            "10.0.0.1:3000 other 1"
        ]
    );
}

#[test]
fn services_without_selector_or_cluster_ip_take_no_workload_entries() {
    let chosen = workload_entry(target("10.0.0.1"));
    let service = kube_service(&[("http", TargetPort::Number(8080))]);
    let mut unselecting = service.clone();
    unselecting.selector = Labels::default();
    assert!(under(&unselecting, &chosen).is_empty());
    let mut headless = service.clone();
    headless.cluster_ips.clear();
    assert!(under(&headless, &chosen).is_empty());
    let mut unhealthy = chosen;
    unhealthy.healthy = false;
    assert!(under(&service, &unhealthy).is_empty());
}
