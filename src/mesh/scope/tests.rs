use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::mesh::{ChangeSet, MeshState, Update};
use crate::model::{
    Features, Hostname, MeshConfig, NetworkTable, ObjectMeta, PersistentSession, Protocol,
    Resolution, ServiceKey, ServicePort, TrafficDistribution,
};
use crate::wire::Memo;

/// A Kubernetes service at port 80, for everybody.
fn kube(namespace: &str, host: &str) -> Service {
    Service {
        key: ServiceKey {
            hostname: Hostname::from(host),
            namespace: Namespace::from(namespace),
        },
        meta: ObjectMeta::default(),
        provider: Provider::Kubernetes,
        ports: vec![port(80)],
        resolution: Resolution::ClientSideLb,
        mesh_external: false,
        export_to: ExportTo::Everyone,
        labels: Labels::default(),
        addresses: Vec::<IpNet>::new(),
        registrations: BTreeMap::new(),
        node_local: false,
        cluster_local: false,
        distribution: TrafficDistribution::Any,
        persistent_session: PersistentSession::None,
        logical_dns: false,
        subject_alt_names: Vec::new(),
    }
}

/// A service of a `ServiceEntry`, older the smaller `created` is.
fn external(namespace: &str, host: &str, created: &str) -> Service {
    Service {
        provider: Provider::External,
        meta: ObjectMeta {
            created: Arc::from(created),
            ..ObjectMeta::default()
        },
        ..kube(namespace, host)
    }
}

impl Service {
    fn exported(mut self, to: &str) -> Self {
        let export = ExportTo::parse(to.split(','), &self.key.namespace);
        self.export_to = export.unwrap_or_default();
        self
    }

    fn with_ports(mut self, numbers: &[u16]) -> Self {
        self.ports = numbers.iter().copied().map(port).collect();
        self
    }
}

fn port(number: u16) -> ServicePort {
    ServicePort {
        name: Arc::from(format!("p{number}")),
        number,
        protocol: Protocol::Http,
    }
}

fn state(service: Service) -> Arc<ServiceState> {
    Arc::new(ServiceState {
        service: Arc::new(service),
        endpoints: Vec::new(),
        peers: Arc::default(),
        rules: Arc::from([]),
        networks: Arc::new(NetworkTable::default()),
        mesh: Arc::new(MeshConfig::default()),
        features: Arc::new(Features::default()),
        eds: Memo::default(),
        clusters: Memo::default(),
        sni_chains: Memo::default(),
    })
}

fn snapshot(
    services: impl IntoIterator<Item = Service>,
    sidecars: impl IntoIterator<Item = Sidecar>,
) -> Snapshot {
    let mut hosts: BTreeMap<Hostname, HostServices> = BTreeMap::new();
    let mut services: Vec<Service> = services.into_iter().collect();
    services.sort_by(|a, b| a.key.cmp(&b.key));
    services.dedup_by(|a, b| a.key == b.key);
    for service in services {
        let host = service.key.hostname.clone();
        hosts.entry(host).or_default().push(state(service));
    }
    let mut mesh = MeshState::default();
    for sidecar in sidecars {
        let of_namespace = mesh.sidecars.entry(sidecar.meta.namespace.clone());
        of_namespace.or_default().push(Arc::new(sidecar));
    }
    Snapshot::default().next(Update {
        services: hosts.into_iter().collect(),
        mesh: Some(Arc::new(mesh)),
        changes: ChangeSet {
            config: true,
            ..ChangeSet::default()
        },
        ..Update::default()
    })
}

/// A `Sidecar` whose egress listeners have the given port and hosts.
fn sidecar(namespace: &str, name: &str, egress: &[(u16, &[&str])]) -> Sidecar {
    let listener = |(number, hosts): &(u16, &[&str])| EgressListener {
        port: (*number != 0).then(|| (*number, Protocol::Http, Arc::from("http"))),
        hosts: hosts.iter().map(|text| pattern(text)).collect(),
        ..EgressListener::default()
    };
    Sidecar {
        meta: ObjectMeta {
            name: Arc::from(name),
            namespace: Namespace::from(namespace),
            ..ObjectMeta::default()
        },
        workload_selector: None,
        egress: egress.iter().map(listener).collect(),
        ingress: Vec::new(),
        outbound_policy: None,
    }
}

fn pattern(text: &str) -> HostPattern {
    let (namespace, host) = text.split_once('/').unwrap_or(("", text));
    HostPattern {
        namespace: Namespace::from(namespace),
        host: Arc::from(host),
    }
}

fn scope(snapshot: &Snapshot, namespace: &str) -> Arc<Scope> {
    let labels = [("app", "web")].into_iter().collect();
    Scope::of(
        snapshot,
        &Namespace::from(namespace),
        &labels,
        NodeKind::Sidecar,
    )
}

fn router(snapshot: &Snapshot, namespace: &str) -> Arc<Scope> {
    Scope::of(
        snapshot,
        &Namespace::from(namespace),
        &Labels::default(),
        NodeKind::Router,
    )
}

/// `namespace/host` of all that a scope sees, joined by spaces.
fn names(services: &[Arc<ServiceState>]) -> String {
    let name = |state: &Arc<ServiceState>| {
        format!(
            "{}/{}",
            state.service.key.namespace, state.service.key.hostname
        )
    };
    services.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn seen(snapshot: &Snapshot, namespace: &str) -> String {
    names(&scope(snapshot, namespace).services(snapshot))
}

#[test]
fn without_a_sidecar_everything_exported_is_seen() {
    // istiod: TestServiceWithExportTo.
    let snapshot = snapshot(
        [
            kube("test1", "svc1").exported(".,ns1"),
            kube("test2", "svc2").exported("test1,ns1,test2"),
            kube("test3", "svc3").exported("test1,*,test2"),
            kube("test4", "svc4"),
            kube("test5", "svc5").exported("~"),
        ],
        [],
    );
    let all = "test1/svc1 test2/svc2 test3/svc3 test4/svc4";
    assert_eq!(seen(&snapshot, "test1"), all);
    assert_eq!(seen(&snapshot, "ns1"), all);
    assert_eq!(seen(&snapshot, "test2"), "test2/svc2 test3/svc3 test4/svc4");
    assert_eq!(seen(&snapshot, "test5"), "test3/svc3 test4/svc4");
}

#[test]
fn a_sidecar_imports_by_namespace_and_host() {
    let services = || {
        [
            kube("a", "one.a"),
            kube("a", "two.a"),
            kube("b", "one.b"),
            external("c", "*.wild.com", "1"),
            external("c", "x.wild.com", "1"),
            kube("me", "own.me"),
        ]
    };
    let with = |hosts: &[&str]| {
        let snapshot = snapshot(services(), [sidecar("me", "s", &[(0, hosts)])]);
        seen(&snapshot, "me")
    };
    assert_eq!(with(&["./*"]), "me/own.me");
    assert_eq!(with(&["a/*", "*/one.b"]), "a/one.a b/one.b a/two.a");
    assert_eq!(with(&["a/one.a", "b/one.a"]), "a/one.a");
    assert_eq!(with(&["*/*.a"]), "a/one.a a/two.a");
    assert_eq!(with(&["c/*.wild.com"]), "c/*.wild.com c/x.wild.com");
    assert_eq!(with(&["c/x.wild.com"]), "c/x.wild.com");
    assert_eq!(
        with(&["c/*.com", "*/own.me"]),
        "c/*.wild.com me/own.me c/x.wild.com"
    );
}

#[test]
fn an_excluded_host_is_not_imported_by_any_pattern() {
    let services = [kube("a", "one.a"), kube("a", "two.a"), kube("b", "one.b")];
    let with = |hosts: &[&str]| {
        let snapshot = snapshot(services.clone(), [sidecar("me", "s", &[(0, hosts)])]);
        seen(&snapshot, "me")
    };
    assert_eq!(with(&["~/*"]), "");
    assert_eq!(with(&["*/*", "~a/*"]), "b/one.b");
    assert_eq!(with(&["*/*", "a/one.a", "~/one.a"]), "b/one.b a/two.a");
    assert_eq!(with(&["*/*", "~*/one.b"]), "a/one.a a/two.a");
}

#[test]
fn the_sidecar_that_selects_the_workload_wins_then_the_namespaces_then_the_roots() {
    let selecting = |mut sidecar: Sidecar, app: &str| {
        sidecar.workload_selector = Some([("app", app)].into_iter().collect());
        sidecar
    };
    let root = sidecar("istio-system", "root", &[]);
    let all = sidecar("me", "all", &[]);
    let web = selecting(sidecar("me", "web", &[]), "web");
    let db = selecting(sidecar("me", "db", &[]), "db");
    let root_web = selecting(sidecar("istio-system", "root-web", &[]), "web");
    let of = |sidecars: &[&Sidecar]| {
        let snapshot = snapshot([], sidecars.iter().copied().cloned());
        let scope = scope(&snapshot, "me");
        scope.sidecar().map(|s| s.meta.name.to_string())
    };
    assert_eq!(of(&[&root, &all, &db, &web]).as_deref(), Some("web"));
    assert_eq!(of(&[&root, &db, &all]).as_deref(), Some("all"));
    assert_eq!(of(&[&root_web, &root, &db]).as_deref(), Some("root"));
    assert_eq!(of(&[&root_web, &db]), None);
}

#[test]
fn the_roots_sidecar_means_each_proxys_own_namespace_by_a_dot() {
    let services = [kube("me", "own.me"), kube("you", "own.you")];
    let root = sidecar("istio-system", "root", &[(0, &["./*"])]);
    let snapshot = snapshot(services, [root]);
    assert_eq!(seen(&snapshot, "me"), "me/own.me");
    assert_eq!(seen(&snapshot, "you"), "you/own.you");
    assert_ne!(scope(&snapshot, "me").key(), scope(&snapshot, "you").key());
}

#[test]
fn gateways_have_no_sidecar() {
    let only_own = sidecar("me", "s", &[(0, &["./*"])]);
    let snapshot = snapshot([kube("a", "one.a")], [only_own]);
    assert_eq!(
        names(&router(&snapshot, "me").services(&snapshot)),
        "a/one.a"
    );
    assert_eq!(seen(&snapshot, "me"), "");
}

#[test]
fn a_host_of_several_namespaces_is_the_own_one_then_kubernetes_then_the_oldest() {
    let host = "x.com";
    let old = || external("old", host, "1");
    let new = || external("new", host, "2");
    let pick =
        |services: &[Service], namespace: &str| seen(&snapshot(services.to_vec(), []), namespace);
    assert_eq!(pick(&[new(), old()], "me"), "old/x.com");
    assert_eq!(pick(&[new(), old()], "new"), "new/x.com");
    assert_eq!(pick(&[new(), old(), kube("zz", host)], "me"), "zz/x.com");
    assert_eq!(pick(&[new(), old(), kube("zz", host)], "new"), "new/x.com");
    assert_eq!(pick(&[new().exported("me"), old()], "me"), "new/x.com");
}

#[test]
fn a_gateway_does_not_prefer_its_own_namespace() {
    let services = [external("old", "x.com", "1"), external("new", "x.com", "2")];
    let snapshot = snapshot(services, []);
    assert_eq!(
        names(&router(&snapshot, "new").services(&snapshot)),
        "old/x.com"
    );
}

#[test]
fn the_first_listeners_choice_stays_unless_a_later_one_has_a_kubernetes_service() {
    let egress: &[(u16, &[&str])] = &[(0, &["b/*"]), (0, &["a/*"])];
    let pick = |a: Service, b: Service| seen(&snapshot([a, b], [sidecar("me", "s", egress)]), "me");
    let (a, b) = (external("a", "x.com", "1"), external("b", "x.com", "2"));
    assert_eq!(pick(a, b.clone()), "b/x.com");
    assert_eq!(pick(kube("a", "x.com"), b), "a/x.com");
}

#[test]
fn a_listener_with_a_port_imports_only_that_port() {
    let egress: &[(u16, &[&str])] = &[(80, &["a/*"]), (90, &["*/both"])];
    let services = [
        kube("a", "both").with_ports(&[80, 90, 100]),
        kube("a", "other").with_ports(&[90]),
        kube("b", "http"),
    ];
    let snapshot = snapshot(services, [sidecar("me", "s", egress)]);
    let scope = scope(&snapshot, "me");
    assert_eq!(names(&scope.services(&snapshot)), "a/both");
    let both = &scope
        .service(&snapshot, "both")
        .map(|s| Arc::clone(&s.service));
    let both = both.as_ref().expect("imported");
    let imported = [80, 90, 100].map(|port| scope.includes_port(both, port));
    assert_eq!(imported, [true, true, false]);
    let [http, tcp] = scope.egress() else {
        panic!("two listeners");
    };
    assert_eq!((http.port(), tcp.port()), (Some(80), Some(90)));
    assert!(http.takes_port(80) && !http.takes_port(90));
    assert_eq!(names(&tcp.services(&snapshot)), "a/both");
}

#[test]
fn a_generic_proxy_listener_imports_all_ports() {
    let mut sidecar = sidecar("me", "s", &[(15080, &["*/*"])]);
    sidecar.egress[0].http_proxy = true;
    let snapshot = snapshot([kube("a", "one.a")], [sidecar]);
    assert_eq!(seen(&snapshot, "me"), "a/one.a");
}

#[test]
fn the_sidecars_outbound_policy_replaces_the_meshes() {
    let mut strict = sidecar("me", "s", &[]);
    strict.outbound_policy = Some(OutboundPolicy::RegistryOnly);
    let snapshot = snapshot([], [strict]);
    let policy = |namespace| scope(&snapshot, namespace).outbound_policy();
    assert_eq!(policy("me"), OutboundPolicy::RegistryOnly);
    assert_eq!(policy("you"), OutboundPolicy::AllowAny);
}

#[test]
fn proxies_with_one_key_share_a_scope() {
    let snapshot = snapshot([], []);
    assert!(Arc::ptr_eq(
        &scope(&snapshot, "me"),
        &scope(&snapshot, "me")
    ));
}

fn any_service() -> impl Strategy<Value = Service> {
    let host = "(\\*\\.)?[xy]\\.(com|org)";
    (
        "[abm]",
        host,
        "[.*~a]",
        any::<bool>(),
        prop::sample::subsequence(vec![80, 90], 1..3),
    )
        .prop_map(|(namespace, host, export, is_kube, ports)| {
            let service = if is_kube {
                kube(&namespace, &host)
            } else {
                external(&namespace, &host, &export)
            };
            service.exported(&export).with_ports(&ports)
        })
}

fn includes(scope: &Scope, state: &ServiceState) -> bool {
    let mut egress = scope.egress().iter();
    egress.any(|listener| listener.includes(&state.service))
}

proptest! {
    #[test]
    fn what_is_included_is_what_is_listed(
        services in prop::collection::vec(any_service(), 0..8),
        hosts in prop::collection::vec("(~|~?[abm*.])/(\\*|\\*\\.com|x\\.com|y\\.org)", 0..4),
        port in prop::sample::select(vec![0u16, 80]),
    ) {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let snapshot = snapshot(services, [sidecar("m", "s", &[(port, &hosts)])]);
        for scope in [scope(&snapshot, "m"), router(&snapshot, "m")] {
            let listed = scope.services(&snapshot);
            prop_assert!(listed.windows(2).all(|w| w[0].service.key < w[1].service.key));
            for state in snapshot.services() {
                let key = &state.service.key;
                let of_host = scope.service(&snapshot, &key.hostname);
                prop_assert!(!includes(&scope, state) || of_host.is_some());
                let is_listed = listed.iter().any(|other| Arc::ptr_eq(other, state));
                prop_assert_eq!(is_listed, of_host.is_some_and(|s| Arc::ptr_eq(s, state)));
            }
            prop_assert!(listed.iter().all(|state| includes(&scope, state)));
        }
    }

    #[test]
    fn no_pattern_panics(namespace in ".*", pattern in ".*", host in ".*") {
        let listener = EgressListener {
            hosts: vec![HostPattern { namespace: Namespace::from(namespace), host: Arc::from(pattern) }],
            ..EgressListener::default()
        };
        let imports = Imports::new(&listener, &Namespace::from("m"));
        let _ = imports.contains(&Namespace::from("m"), &host);
    }
}

/// A world whose only `Sidecar` imports `a/web.com`, for which this
/// `VirtualService` of `a` is.
fn led_to(spec: &str, services: Vec<Service>) -> Snapshot {
    let made = snapshot(services, [sidecar("a", "s", &[(0, &["*/web.com"])])]);
    let yaml = format!("metadata: {{name: v, namespace: a}}\nspec: {{hosts: [web.com], {spec}}}");
    let services = crate::testing::virtual_services::mesh_with(&yaml).virtual_services;
    let mesh = MeshState {
        virtual_services: services,
        ..(**made.mesh()).clone()
    };
    made.next(Update {
        mesh: Some(Arc::new(mesh)),
        changes: ChangeSet {
            config: true,
            ..ChangeSet::default()
        },
        ..Update::default()
    })
}

#[test]
fn what_an_imported_virtual_service_leads_to_is_called_but_not_imported() {
    let all = || {
        vec![
            kube("a", "web.com"),
            kube("b", "to.com"),
            kube("c", "copy.com"),
            kube("d", "bytes.com"),
            kube("e", "other.com"),
        ]
    };
    let spec = "http: [{route: [{destination: {host: to.com}}], mirror: {host: copy.com}},
        {match: [{sourceNamespace: z}], route: [{destination: {host: other.com}}]}],
        tcp: [{route: [{destination: {host: bytes.com}}]}]";
    let world = led_to(spec, all());
    assert_eq!(
        seen(&world, "a"),
        "d/bytes.com c/copy.com b/to.com a/web.com"
    );
    let scope = scope(&world, "a");
    assert_eq!(names(&scope.egress()[0].services(&world)), "a/web.com");
    let elsewhere = led_to(&format!("exportTo: [z], {spec}"), all());
    assert_eq!(seen(&elsewhere, "a"), "a/web.com");
}

#[test]
fn of_what_a_virtual_service_leads_to_only_the_ports_it_names_are_called() {
    let to = || kube("b", "to.com").with_ports(&[80, 90]);
    let world = |ports: &str| {
        let spec = format!("http: [{{route: [{{destination: {{host: to.com{ports}}}}}]}}]");
        led_to(&spec, vec![kube("a", "web.com"), to()])
    };
    let includes = |world: &Snapshot, port| scope(world, "a").includes_port(&to(), port);
    let one = world(", port: {number: 90}");
    assert_eq!((includes(&one, 80), includes(&one, 90)), (false, true));
    let all = world("");
    assert_eq!((includes(&all, 80), includes(&all, 90)), (true, true));
    let none = world(", port: {number: 91}");
    assert_eq!(seen(&none, "a"), "a/web.com");
}

#[test]
fn a_virtual_service_leads_to_visible_services_only_the_own_first() {
    let spec = "http: [{route: [{destination: {host: to.com}}]}]";
    let of = |services: Vec<Service>| {
        let all = services.into_iter().chain([kube("a", "web.com")]);
        seen(&led_to(spec, all.collect()), "a")
    };
    assert_eq!(of(vec![kube("b", "to.com").exported("b")]), "a/web.com");
    let both = vec![external("b", "to.com", "1"), external("a", "to.com", "2")];
    assert_eq!(of(both), "a/to.com a/web.com");
    let kinds = vec![external("b", "to.com", "1"), kube("c", "to.com")];
    assert_eq!(of(kinds), "c/to.com a/web.com");
}
