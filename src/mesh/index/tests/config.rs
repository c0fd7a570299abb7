use super::*;
use crate::model::{
    DestinationRule, Location, MtlsMode, PeerAuthentication, Protocol, ServiceEntry,
    ServiceEntryPort, ServiceEntryResolution, Sidecar, TrafficPolicy, WorkloadEntry,
    WorkloadTarget,
};

fn entry(name: &str, host: &str, selector: Option<&str>) -> ServiceEntry {
    ServiceEntry {
        meta: world::meta(name, "default"),
        labels: crate::model::Labels::default(),
        hosts: vec![Arc::from(host)],
        addresses: Vec::new(),
        ports: vec![ServiceEntryPort {
            number: 80,
            name: Arc::from("http"),
            protocol: Protocol::Http,
            target_port: Some(8080),
        }],
        location: Location::Internal,
        resolution: ServiceEntryResolution::Static,
        endpoints: Vec::new(),
        workload_selector: selector.map(|app| labels(&[("app", app)])),
        export_to: None,
        subject_alt_names: Vec::new(),
        logical_dns: false,
        traffic_distribution: None,
    }
}

/// An entry in `default` that selects pods of `app`.
pub(super) fn selecting(name: &str, host: &str, app: &str) -> ServiceEntry {
    entry(name, host, Some(app))
}

fn target(address: &str) -> WorkloadTarget {
    WorkloadTarget {
        address: Arc::from(address),
        weight: 3,
        service_account: Arc::from("vm"),
        ..WorkloadTarget::default()
    }
}

fn workload_entry(name: &str, address: &str) -> WorkloadEntry {
    WorkloadEntry {
        meta: world::meta(name, "default"),
        labels: labels(&[("app", "web")]),
        target: target(address),
        healthy: true,
        group: Arc::from(""),
    }
}

fn rule(host: &str) -> DestinationRule {
    DestinationRule {
        meta: world::meta("rule", "default"),
        host: Arc::from(host),
        export_to: None,
        workload_selector: crate::model::Labels::default(),
        policy: TrafficPolicy::default(),
        subsets: Vec::new(),
    }
}

#[test]
fn a_service_entry_selects_ready_pods_and_entries_of_all_clusters() {
    let mut world = two_clusters();
    world.put("c1", entry("se", "vm.example.com", Some("web")));
    world.put("c2", workload_entry("vm", "10.9.0.1"));
    let host = "vm.example.com";
    let all = ["c1 10.1.0.1:8080", "c1 10.9.0.1:8080", "c1 10.2.0.1:8080"];
    assert_eq!(world.addresses(host), all);
    let mut unready = pod("web-1", "10.2.0.1", &[("app", "web")]);
    unready.ready = false;
    world.put("c2", unready);
    assert_eq!(world.addresses(host), all[..2]);
    world.put("c1", pod("web-1", "10.1.0.1", &[("app", "other")]));
    assert_eq!(world.addresses(host), all[1..2]);
    let mut sick = workload_entry("vm", "10.9.0.1");
    sick.healthy = false;
    world.put("c2", sick);
    assert!(world.addresses(host).is_empty());
    world.remove("c1", entry("se", "", None));
    assert!(world.state(host).is_none());
}

#[test]
fn a_removed_cluster_retracts_what_service_entries_selected() {
    let mut world = two_clusters();
    world.put("c1", entry("se", "vm.example.com", Some("web")));
    world.put("c2", workload_entry("vm", "10.9.0.1"));
    world.apply("c2", Change::ClusterRemoved);
    assert_eq!(world.addresses("vm.example.com"), ["c1 10.1.0.1:8080"]);
}

#[test]
fn a_service_entry_of_the_same_host_adds_endpoints_to_the_service() {
    let mut world = two_clusters();
    let mut same = entry("se", WEB, None);
    same.endpoints = vec![target("10.8.0.1")];
    world.put("c1", same);
    let all = ["c1 10.8.0.1:8080", "c1 10.1.0.1:8080", "c2 10.2.0.1:8080"];
    assert_eq!(world.addresses(WEB), all);
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.service.provider, crate::model::Provider::Kubernetes);
    for cluster in ["c1", "c2"] {
        world.remove(cluster, service("web", &[]));
    }
    let state = world.state(WEB).expect("the ServiceEntry defines it now");
    assert_eq!(state.service.provider, crate::model::Provider::External);
}

#[test]
fn a_service_selects_workload_entries_of_its_cluster() {
    let mut world = two_clusters();
    world.put("c2", workload_entry("vm", "10.9.0.1"));
    let all = ["c1 10.1.0.1:8080", "c2 10.2.0.1:8080", "c2 10.9.0.1:8080"];
    assert_eq!(world.addresses(WEB), all);
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.endpoints[1].1[1].weight, 3);
    world.remove("c2", workload_entry("vm", ""));
    assert_eq!(world.addresses(WEB), all[..2]);
}

#[test]
fn entries_of_remote_clusters_can_be_switched_off() {
    let features = Features {
        cross_cluster_workload_entry: false,
        ..Features::default()
    };
    let mut world = World::with_features("c1", features);
    world.put("c1", entry("se", "vm.example.com", Some("web")));
    world.put("c2", workload_entry("vm", "10.9.0.1"));
    assert!(world.addresses("vm.example.com").is_empty());
    assert_eq!(world.index.ignored().len(), 1);
}

#[test]
fn a_rule_tells_the_hosts_it_is_for() {
    let mut world = two_clusters();
    world.put("c1", service("other", &[("http", 80, 8080)]));
    let exact = told(&mut world, "c1", put(rule(WEB)));
    assert!(exact.config);
    assert_eq!(exact.hosts.len(), 1);
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.rules.len(), 1);
    let wide = told(&mut world, "c1", put(rule("*.svc.cluster.local")));
    assert_eq!(wide.hosts.len(), 2);
    world.remove("c1", rule(""));
    let state = world.state(WEB).expect("web is known");
    assert!(state.rules.is_empty());
}

#[test]
fn a_rule_that_comes_before_its_service_is_found() {
    let mut world = World::new("c1");
    world.put("c1", rule(WEB));
    world.put("c1", service("web", &[("http", 80, 8080)]));
    assert_eq!(world.state(WEB).expect("web is known").rules.len(), 1);
}

#[test]
fn a_peer_authentication_switches_mtls_off_for_its_namespace() {
    let mut world = two_clusters();
    let off = |namespace: &str| PeerAuthentication {
        meta: world::meta("off", namespace),
        selector: crate::model::Labels::default(),
        mode: MtlsMode::Disable,
        ports: Vec::new(),
    };
    let disabled = |world: &World| {
        let state = world.state(WEB).expect("web is known");
        state
            .all_endpoints()
            .filter(|(_, e)| e.mtls_disabled)
            .count()
    };
    world.put("c1", off("other"));
    assert_eq!(disabled(&world), 0);
    world.put("c1", off("default"));
    assert_eq!(disabled(&world), 2);
    world.remove("c1", off("default"));
    world.put("c1", off("istio-system"));
    assert_eq!(disabled(&world), 2);
    world.remove("c1", off("istio-system"));
    assert_eq!(disabled(&world), 0);
}

#[test]
fn the_oldest_entry_defines_a_host() {
    let mut world = World::new("c1");
    let mut young = entry("young", "a.example.com", None);
    young.meta.created = Arc::from("2026-02-01T00:00:00Z");
    young.resolution = ServiceEntryResolution::Dns;
    world.put("c1", young);
    let host = "a.example.com";
    let resolution = |world: &World| world.state(host).expect("it is known").service.resolution;
    assert_eq!(resolution(&world), Resolution::Dns);
    world.put("c1", entry("old", host, None));
    assert_eq!(resolution(&world), Resolution::ClientSideLb);
}

#[test]
fn a_sidecar_makes_every_endpoint_answer_due() {
    let mut world = World::new("c1");
    world.put("c1", service("web", &[("http", 80, 8080)]));
    let sidecar = Sidecar {
        meta: world::meta("own", "default"),
        workload_selector: None,
        egress: Vec::new(),
        ingress: Vec::new(),
        outbound_policy: None,
    };
    let next = world.put("c1", sidecar).expect("a snapshot");
    let told = next.changes();
    assert!(told.config && told.all_endpoints);
}

#[test]
fn virtual_services_are_those_of_the_config_cluster() {
    let made = || {
        let yaml = "metadata: {name: v, namespace: default}\nspec: {hosts: [web]}";
        crate::testing::virtual_services::virtual_service(yaml)
    };
    let held = |world: &World| !world.snapshot().mesh().virtual_services.is_empty();
    let mut world = two_clusters();
    assert!(told(&mut world, "c2", put(made())).is_empty());
    assert!(!held(&world));
    let set = told(&mut world, "c1", put(made()));
    assert!(set.config && !set.all_endpoints && held(&world));
    assert!(told(&mut world, "c1", put(made())).is_empty());
    let gone = Change::Reset(ObjectKind::VirtualService, Vec::new());
    assert!(told(&mut world, "c1", gone).config);
    assert!(!held(&world));
}
