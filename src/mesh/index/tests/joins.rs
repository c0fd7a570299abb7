use super::*;

#[test]
fn endpoints_of_all_clusters_are_one_service() {
    let world = two_clusters();
    assert_eq!(
        world.addresses(WEB),
        ["c1 10.1.0.1:8080", "c2 10.2.0.1:8080"]
    );
    let state = world.state(WEB).expect("web is known");
    let workload = |n: usize| &state.endpoints[n].1[0].workload;
    assert_eq!(workload(1).template.network, Some(NetworkId::from("n-c2")));
    assert_eq!(&*workload(0).template.metadata, "web;default;web;;c1");
    assert_eq!(
        &*workload(0).template.identity,
        "spiffe://cluster.local/ns/default/sa/default"
    );
    assert_eq!(workload(0).template.tls_mode, TlsMode::Istio);
    assert_eq!(
        workload(0).labels.get("topology.istio.io/cluster"),
        Some("c1")
    );
    assert_eq!(
        workload(0).labels.get("topology.istio.io/network"),
        Some("n-c1")
    );
    assert_eq!(
        workload(0).labels.get("kubernetes.io/hostname"),
        Some("node-1")
    );
    assert_eq!(state.service.registrations.len(), 2);
}

#[test]
fn the_config_cluster_decides_the_definition() {
    let mut world = two_clusters();
    let mut other = service("web", &[("http", 81, 8080)]);
    other.cluster_ips = Vec::new();
    world.put("a-first-by-name", other.clone());
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.service.ports[0].number, 80);
    assert_eq!(state.service.resolution, Resolution::ClientSideLb);
    world.remove("c1", service("web", &[]));
    let state = world.state(WEB).expect("two clusters still have it");
    assert_eq!(state.service.ports[0].number, 81);
    assert!(state.service.is_headless());
    assert_eq!(
        state.service.vips(&"a-first-by-name".into()),
        [IpAddr::from([0, 0, 0, 0]).into()]
    );
}

#[test]
fn a_slice_counts_without_a_service_of_its_own_cluster() {
    let mut world = two_clusters();
    world.remove("c2", service("web", &[]));
    assert_eq!(
        world.addresses(WEB),
        ["c1 10.1.0.1:8080", "c2 10.2.0.1:8080"]
    );
    world.remove("c1", service("web", &[]));
    assert!(world.state(WEB).is_none());
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let mut world = World::new("c1");
    world.put("c1", service("web", &[("http", 80, 8080)]));
    world.put(
        "c1",
        slice("web", &[("http", 8080)], &[("web-1", "10.1.0.1")]),
    );
    assert!(world.addresses(WEB).is_empty());
    assert_eq!(world.index.pending_pods()[&ClusterId::from("c1")], 1);
    world.put("c1", pod("web-1", "10.1.0.1", &[]));
    assert_eq!(world.addresses(WEB), ["c1 10.1.0.1:8080"]);
    assert_eq!(world.index.pending_pods()[&ClusterId::from("c1")], 0);
    let mut ended = pod("web-1", "10.1.0.1", &[]);
    ended.finished = true;
    world.put("c1", ended);
    assert!(world.addresses(WEB).is_empty());
    assert_eq!(world.index.pending_pods()[&ClusterId::from("c1")], 1);
    world.remove("c1", slice("web", &[], &[]));
    assert_eq!(world.index.pending_pods()[&ClusterId::from("c1")], 0);
}

#[test]
fn a_bare_address_takes_the_serving_pod_of_its_namespace() {
    let mut world = World::new("c1");
    world.put("c1", service("web", &[("http", 80, 8080)]));
    world.put("c1", slice("web", &[("http", 8080)], &[("", "10.1.0.1")]));
    let bare = world.state(WEB).expect("web is known");
    assert_eq!(
        &*bare.endpoints[0].1[0].workload.template.metadata,
        ";;;;c1"
    );
    assert_eq!(
        bare.endpoints[0].1[0].workload.template.tls_mode,
        TlsMode::Disabled
    );
    world.put("c2", pod("web-1", "10.1.0.1", &[]));
    let other = world.state(WEB).expect("web is known");
    assert_eq!(
        &*other.endpoints[0].1[0].workload.name, "",
        "of another cluster"
    );
    world.put("c1", pod("web-1", "10.1.0.1", &[]));
    let found = world.state(WEB).expect("web is known");
    assert_eq!(&*found.endpoints[0].1[0].workload.name, "web-1");
    let mut unready = pod("web-1", "10.1.0.1", &[]);
    unready.ready = false;
    world.put("c1", unready);
    let lost = world.state(WEB).expect("web is known");
    assert_eq!(&*lost.endpoints[0].1[0].workload.name, "");
}

#[test]
fn slice_conditions_become_health() {
    let health = |session: bool, own_service: bool, conditions: [Option<bool>; 3]| {
        let mut world = World::new("c1");
        let mut web = service("web", &[("http", 80, 8080)]);
        if session {
            web.labels = labels(&[("istio.io/persistent-session-header", "x")]);
        }
        world.put("c1", web.clone());
        let cluster = if own_service { "c1" } else { "c2" };
        world.put(cluster, pod("web-1", "10.1.0.1", &[]));
        let mut slice = slice("web", &[("http", 8080)], &[("web-1", "10.1.0.1")]);
        let [ready, serving, terminating] = conditions;
        let endpoint = &mut slice.endpoints[0];
        (endpoint.ready, endpoint.serving, endpoint.terminating) = (ready, serving, terminating);
        world.put(cluster, slice);
        world.state(WEB).expect("web is known").endpoints[0].1[0].health
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(health(false, true, [None, None, None]), Health::Healthy);
    assert_eq!(health(false, true, [yes, yes, no]), Health::Healthy);
    assert_eq!(health(false, true, [no, yes, no]), Health::Unhealthy);
    assert_eq!(health(false, true, [no, yes, yes]), Health::Terminating);
    assert_eq!(health(false, true, [no, None, None]), Health::Terminating);
    assert_eq!(health(true, true, [no, yes, yes]), Health::Draining);
    assert_eq!(health(true, true, [no, no, yes]), Health::Terminating);
    assert_eq!(health(true, false, [no, yes, yes]), Health::Unhealthy);
}

#[test]
fn an_address_in_two_slices_counts_once_in_its_better_state() {
    let mut world = two_clusters();
    let mut second = slice("web", &[("http", 8080)], &[("web-1", "10.1.0.1")]);
    second.meta = world::meta("web-0", "default");
    second.endpoints[0].ready = Some(false);
    world.put("c1", second);
    assert_eq!(
        world.addresses(WEB),
        ["c1 10.1.0.1:8080", "c2 10.2.0.1:8080"]
    );
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.endpoints[0].1[0].health, Health::Healthy);
}

#[test]
fn slices_of_names_and_of_mcs_are_ignored() {
    let mut world = two_clusters();
    let mut names = slice("web", &[("http", 8080)], &[("", "10.9.9.9")]);
    names.meta = world::meta("names", "default");
    names.address_type = crate::model::SliceAddressType::Fqdn;
    world.put("c1", names.clone());
    names.meta = world::meta("mcs", "default");
    names.mcs = true;
    world.put("c1", names.clone());
    assert_eq!(world.addresses(WEB).len(), 2);
    let why: Vec<_> = world.index.ignored().values().copied().collect();
    assert_eq!(why, [Ignored::McsSlice, Ignored::NamesInSlice]);
    world.remove("c1", names);
    assert_eq!(world.index.ignored().len(), 1);
}

#[test]
fn locality_comes_from_the_pod_label_else_from_the_node() {
    let mut world = two_clusters();
    let locality = |world: &World| {
        let state = world.state(WEB).expect("web is known");
        state.endpoints[0].1[0].workload.locality.to_string()
    };
    assert_eq!(locality(&world), "");
    let beta = "failure-domain.beta.kubernetes.io/zone";
    let region = ("topology.kubernetes.io/region", "eu");
    world.put("c1", node("node-1", &[region, (beta, "eu-a")]));
    assert_eq!(locality(&world), "eu/eu-a/");
    world.put(
        "c1",
        pod("web-1", "10.1.0.1", &[("istio-locality", "us.a.rack")]),
    );
    assert_eq!(locality(&world), "us/a/rack");
    world.put("c1", pod("web-1", "10.1.0.1", &[]));
    world.remove("c1", node("node-1", &[]));
    assert_eq!(locality(&world), "");
}

#[test]
fn networks_follow_pod_label_system_namespace_registry_and_range() {
    let mut world = World::new("c1");
    world.put("c1", service("web", &[("http", 80, 8080)]));
    world.put("c1", pod("web-1", "10.1.0.1", &[]));
    world.put(
        "c1",
        slice("web", &[("http", 8080)], &[("web-1", "10.1.0.1")]),
    );
    let network = |world: &World| {
        let state = world.state(WEB).expect("web is known");
        state.endpoints[0].1[0]
            .workload
            .template
            .network
            .as_ref()
            .map(ToString::to_string)
    };
    assert_eq!(network(&world), None);
    let member = |m: NetworkMember| MeshNetwork {
        members: vec![m],
        gateways: Vec::new(),
    };
    let range = |text: &str| member(NetworkMember::Cidr(text.parse().expect("a range")));
    let mut networks = MeshNetworks::default();
    networks.networks.insert("wide".into(), range("10.0.0.0/8"));
    networks
        .networks
        .insert("narrow".into(), range("10.1.0.0/16"));
    world.networks(networks.clone());
    assert_eq!(network(&world).as_deref(), Some("narrow"));
    let registry = member(NetworkMember::Registry("c1".into()));
    networks.networks.insert("registry".into(), registry);
    world.networks(networks);
    assert_eq!(network(&world).as_deref(), Some("registry"));
    let labelled = [("topology.istio.io/network", "system")];
    world.put("c1", namespace("istio-system", &labelled));
    assert_eq!(network(&world).as_deref(), Some("system"));
    world.put(
        "c1",
        pod("web-1", "10.1.0.1", &[("topology.istio.io/network", "own")]),
    );
    assert_eq!(network(&world).as_deref(), Some("own"));
    world.remove("c1", namespace("istio-system", &[]));
    world.put("c1", pod("web-1", "10.1.0.1", &[]));
    assert_eq!(network(&world).as_deref(), Some("registry"));
}

#[test]
fn traffic_distribution_goes_from_spec_to_service_to_namespace() {
    let key = "networking.istio.io/traffic-distribution";
    let mut world = two_clusters();
    let of = |world: &World| world.state(WEB).expect("web is known").service.distribution;
    let mut home = namespace("default", &[]);
    home.annotations = labels(&[(key, "preferclose")]);
    world.put("c1", home);
    assert_eq!(of(&world), TrafficDistribution::PreferSameZone);
    let mut web = service("web", &[("http", 80, 8080)]);
    web.annotations = labels(&[(key, "nonsense")]);
    world.put("c1", web.clone());
    assert_eq!(of(&world), TrafficDistribution::Any);
    web.traffic_distribution = Some(Arc::from("PreferSameNode"));
    world.put("c1", web);
    assert_eq!(of(&world), TrafficDistribution::PreferSameNode);
}

#[test]
fn discovery_selectors_hide_a_namespace_with_all_in_it() {
    let mut world = two_clusters();
    let selector = crate::model::LabelSelector {
        labels: labels(&[("mesh", "yes")]),
        requirements: Vec::new(),
    };
    let mesh = MeshConfig {
        discovery_selectors: vec![selector],
        ..MeshConfig::default()
    };
    world.mesh(mesh);
    assert!(world.state(WEB).is_none());
    let key = PodKey {
        cluster: "c2".into(),
        namespace: "default".into(),
        name: Arc::from("web-1"),
    };
    assert!(world.snapshot().workload(&key).is_none());
    world.put("c2", namespace("default", &[("mesh", "yes")]));
    assert_eq!(world.addresses(WEB), ["c2 10.2.0.1:8080"]);
    assert!(world.snapshot().workload(&key).is_some());
    world.mesh(MeshConfig::default());
    assert_eq!(world.addresses(WEB).len(), 2);
}

#[test]
fn an_external_name_is_an_alias() {
    let mut world = World::new("c1");
    let mut web = service("web", &[("http", 80, 80)]);
    web.kind = ServiceType::ExternalName;
    web.external_name = Some(Arc::from("example.com"));
    web.cluster_ips = Vec::new();
    world.put("c1", web);
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.service.resolution, Resolution::Alias);
    assert!(state.service.mesh_external);
}

#[test]
fn mcs_hides_what_is_not_exported_and_adds_the_imported_host() {
    let features = Features {
        mcs_discovery: true,
        mcs_host: true,
        mcs_cluster_local: true,
        ..Features::default()
    };
    let mut world = World::with_features("c1", features);
    for (cluster, address) in [("c1", "10.1.0.1"), ("c2", "10.2.0.1")] {
        world.put(cluster, service("web", &[("http", 80, 8080)]));
        world.put(cluster, pod("web-1", address, &[]));
        world.put(
            cluster,
            slice("web", &[("http", 8080)], &[("web-1", address)]),
        );
    }
    let set = "web.default.svc.clusterset.local";
    assert!(world.state(set).is_none());
    let import = crate::model::ServiceImport {
        meta: world::meta("web", "default"),
        ips: vec![ip("240.0.0.1")],
    };
    world.put("c2", import.clone());
    let export = crate::model::ServiceExport {
        meta: world::meta("web", "default"),
    };
    world.put("c1", export);
    let seen = |host: &str| -> Vec<Discoverability> {
        let state = world.state(host).expect("it is known");
        state
            .all_endpoints()
            .map(|(_, e)| e.discoverability)
            .collect()
    };
    let (everywhere, same_cluster) = (Discoverability::Everywhere, Discoverability::SameCluster);
    assert_eq!(seen(WEB), [same_cluster, same_cluster]);
    assert_eq!(seen(set), [everywhere, same_cluster]);
    let state = world.state(set).expect("it is imported");
    assert_eq!(state.service.vips(&"c2".into()), [ip("240.0.0.1").into()]);
    assert_eq!(state.service.vips(&"c1".into()), [ip("240.0.0.1").into()]);
    world.remove("c2", import);
    assert!(world.state(set).is_none());
}

#[test]
fn session_labels_and_cluster_local_hosts_are_part_of_the_service() {
    let mut world = two_clusters();
    let mut web = service("web", &[("http", 80, 8080)]);
    web.labels = labels(&[("istio.io/persistent-session", "cookie:/")]);
    world.put("c1", web);
    let mut mesh = MeshConfig::default();
    mesh.cluster_local
        .hosts
        .insert("*.default.svc.cluster.local".into(), true);
    world.mesh(mesh);
    let state = world.state(WEB).expect("web is known");
    assert_eq!(state.service.persistent_session, PersistentSession::Cookie);
    assert!(state.service.cluster_local);
}

#[test]
fn a_dual_stack_pod_is_one_endpoint_with_all_its_addresses() {
    let addresses = |dual_stack, cluster_ips: &[&str]| {
        let features = Features {
            dual_stack,
            ..Features::default()
        };
        let mut world = World::with_features("c1", features);
        let mut web = service("web", &[("http", 80, 8080)]);
        web.cluster_ips = cluster_ips.iter().map(|text| ip(text)).collect();
        world.put("c1", web);
        let mut pod = pod("web-1", "10.1.0.1", &[("app", "web")]);
        pod.ips.push(ip("fd00::1"));
        world.put("c1", pod);
        let of = |at: &str| slice("web", &[("http", 8080)], &[("web-1", at)]);
        world.put("c1", of("10.1.0.1"));
        let mut v6 = of("fd00::1");
        v6.meta.name = Arc::from("web-6");
        v6.address_type = crate::model::SliceAddressType::Ipv6;
        world.put("c1", v6);
        world.put(
            "c1",
            super::config::selecting("se", "se.example.com", "web"),
        );
        (world.addresses(WEB), world.addresses("se.example.com"))
    };
    let both = ["10.96.0.1", "fd00:10::1"];
    let one = vec!["c1 10.1.0.1+fd00::1:8080".to_owned()];
    assert_eq!(addresses(true, &both), (one.clone(), one.clone()));
    let apart = ["c1 10.1.0.1:8080", "c1 fd00::1:8080"].map(String::from);
    assert_eq!(addresses(true, &both[..1]), (apart.to_vec(), one));
    let first = vec!["c1 10.1.0.1:8080".to_owned()];
    assert_eq!(addresses(false, &both), (apart.to_vec(), first));
}

#[test]
fn a_slice_is_joined_again_in_its_own_cluster_only() {
    let bare = |address| put(slice("web", &[("http", 8080)], &[("", address)]));
    let mut world = two_clusters();
    let shards = |world: &World| world.state(WEB).expect("web is known").endpoints.clone();
    let before = shards(&world);
    world.apply("c2", bare("10.2.0.7"));
    let after = shards(&world);
    assert!(Arc::ptr_eq(&before[0].1, &after[0].1));
    assert_eq!(
        world.addresses(WEB),
        ["c1 10.1.0.1:8080", "c2 10.2.0.7:8080"]
    );

    // In one batch, of both.
    let changes = [("c1", bare("10.1.0.8")), ("c2", bare("10.2.0.8"))];
    let events = changes.map(|(cluster, change)| crate::mesh::Event {
        cluster: ClusterId::from(cluster),
        change,
    });
    world.index.apply(events);
    assert_eq!(
        world.addresses(WEB),
        ["c1 10.1.0.8:8080", "c2 10.2.0.8:8080"]
    );

    // The last endpoint of a cluster takes its part along, and brings it back.
    for cluster in ["c1", "c2"] {
        world.remove(cluster, slice("web", &[], &[]));
        assert_eq!(world.addresses(WEB).len(), 1);
        world.apply(cluster, bare("10.9.0.1"));
        assert_eq!(world.addresses(WEB).len(), 2);
    }
}
