use super::*;

#[test]
fn an_equal_object_changes_nothing() {
    let mut world = two_clusters();
    let before = world.snapshot().generation();
    assert!(
        world
            .put("c1", service("web", &[("http", 80, 8080)]))
            .is_none()
    );
    assert!(
        world
            .put("c1", pod("web-1", "10.1.0.1", &[("app", "web")]))
            .is_none()
    );
    assert_eq!(world.snapshot().generation(), before);
}

#[test]
fn a_slice_change_tells_only_its_host() {
    let mut world = two_clusters();
    world.put("c1", pod("web-2", "10.1.0.2", &[]));
    let grown = slice(
        "web",
        &[("http", 8080)],
        &[("web-1", "10.1.0.1"), ("web-2", "10.1.0.2")],
    );
    let told = told(&mut world, "c1", put(grown));
    assert!(!told.config && !told.all_endpoints && told.workloads.is_empty());
    assert_eq!(told.hosts.iter().map(|h| &**h).collect::<Vec<_>>(), [WEB]);
}

#[test]
fn a_new_service_account_tells_config_too() {
    let mut world = two_clusters();
    let mut other = pod("web-1", "10.1.0.1", &[("app", "web")]);
    other.service_account = Arc::from("other");
    let told = told(&mut world, "c1", put(other));
    assert!(told.config);
    assert_eq!(told.workloads.len(), 1);
    let snapshot = world.snapshot();
    let known = &snapshot.host(WEB)[0].peers.identities;
    let accounts: Vec<_> = known.iter().map(|id| &**id).collect();
    assert_eq!(accounts.len(), 2, "of both clusters: {accounts:?}");
    assert!(accounts.iter().any(|id| id.ends_with("/sa/other")));
}

#[test]
fn a_pod_whose_readiness_alone_changes_tells_nothing() {
    let mut world = two_clusters();
    let mut unready = pod("web-1", "10.1.0.1", &[("app", "web")]);
    unready.ready = false;
    assert_eq!(told(&mut world, "c1", put(unready)), ChangeSet::default());
}

#[test]
fn a_moved_service_is_told_as_config() {
    let mut world = two_clusters();
    let told = told(&mut world, "c1", put(service("web", &[("http", 90, 8080)])));
    assert!(told.config);
}

#[test]
fn headless_tcp_tells_its_endpoints_to_listeners() {
    let mut world = two_clusters();
    for cluster in ["c1", "c2"] {
        let mut headless = service("web", &[("tcp", 80, 8080)]);
        headless.cluster_ips = Vec::new();
        world.put(cluster, headless);
    }
    world.put("c1", pod("web-2", "10.1.0.2", &[("app", "web")]));
    let pods = [("web-1", "10.1.0.1"), ("web-2", "10.1.0.2")];
    let grown = slice("web", &[("tcp", 8080)], &pods);
    assert!(told(&mut world, "c1", put(grown)).config);
}

#[test]
fn a_service_without_selector_tells_whom_it_lists_to_listeners() {
    let mut world = two_clusters();
    let mut open = service("listed", &[("http", 80, 8080)]);
    open.selector = crate::model::Labels::default();
    world.put("c1", open);
    let listed = slice("listed", &[("http", 8080)], &[("web-1", "10.1.0.1")]);
    assert!(told(&mut world, "c1", put(listed)).config);
}

#[test]
fn a_removed_cluster_goes_in_one_step() {
    let mut world = two_clusters();
    let told = told(&mut world, "c2", Change::ClusterRemoved);
    assert!(told.config && told.hosts.len() == 1);
    assert_eq!(world.addresses(WEB), ["c1 10.1.0.1:8080"]);
    let state = world.state(WEB).expect("c1 has it");
    assert_eq!(state.service.registrations.len(), 1);
    assert_eq!(world.snapshot().workloads().count(), 1);
}

#[test]
fn a_reset_drops_what_is_not_listed() {
    let mut world = two_clusters();
    let kept = pod("web-2", "10.1.0.2", &[]);
    let reset = Change::Reset(ObjectKind::Pod, vec![kept.into()]);
    world.apply("c1", reset);
    assert_eq!(world.addresses(WEB), ["c2 10.2.0.1:8080"]);
    let known = world.snapshot().workloads().count();
    assert_eq!(known, 2);
}

#[test]
fn istio_objects_of_remote_clusters_are_ignored() {
    let mut world = two_clusters();
    let sidecar = crate::model::Sidecar {
        meta: world::meta("all", "default"),
        workload_selector: None,
        egress: Vec::new(),
        ingress: Vec::new(),
        outbound_policy: None,
    };
    assert!(world.put("c2", sidecar.clone()).is_none());
    let ignored: Vec<_> = world.index.ignored().iter().collect();
    assert_eq!(ignored[0].1, &Ignored::NotTheConfigCluster);
    let reset = Change::Reset(ObjectKind::Sidecar, Vec::new());
    world.apply("c2", reset);
    assert!(world.index.ignored().is_empty());
    assert!(world.put("c1", sidecar).is_some());
    assert_eq!(world.snapshot().mesh().sidecars.len(), 1);
}

#[test]
fn the_trust_domain_is_the_clusters_own_where_it_has_one() {
    let mut world = two_clusters();
    world.apply("c2", Change::TrustDomain(Some(Arc::from("far.example"))));
    let identity = |world: &World, shard: usize| {
        let state = world.state(WEB).expect("web is known");
        state.endpoints[shard].1[0]
            .workload
            .template
            .identity
            .to_string()
    };
    assert_eq!(
        identity(&world, 1),
        "spiffe://far.example/ns/default/sa/default"
    );
    world.mesh(MeshConfig {
        trust_domain: Arc::from("near.example"),
        ..MeshConfig::default()
    });
    assert_eq!(
        identity(&world, 0),
        "spiffe://near.example/ns/default/sa/default"
    );
    assert_eq!(
        identity(&world, 1),
        "spiffe://far.example/ns/default/sa/default"
    );
}

#[test]
fn generations_only_grow() {
    let world = two_clusters();
    assert!(world.snapshot().generation() > Generation(0));
}

#[test]
fn endpoints_of_headless_services_are_names() {
    let mut world = two_clusters();
    let mut headless = service("db", &[("http", 80, 8080)]);
    headless.cluster_ips.clear();
    world.put("c1", headless);
    let mut db = pod("db-0", "10.1.0.5", &[]);
    db.dns_name = Arc::from("db-0.db");
    world.put("c1", db);
    let named = slice("db", &[("http", 8080)], &[("db-0", "10.1.0.5")]);
    assert!(told(&mut world, "c1", put(named)).names);
    let state = world.state("db.default.svc.cluster.local").expect("db");
    let (_, endpoint) = state.all_endpoints().next().expect("an endpoint");
    assert_eq!(&*endpoint.workload.dns_name, "db-0.db");

    world.put("c1", pod("web-2", "10.1.0.2", &[("app", "web")]));
    let pods = [("web-1", "10.1.0.1"), ("web-2", "10.1.0.2")];
    let change = told(
        &mut world,
        "c1",
        put(slice("web", &[("http", 8080)], &pods)),
    );
    assert!(!change.names && !change.hosts.is_empty());
}
