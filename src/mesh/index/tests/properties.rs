use super::*;

/// One step of a random world: small numbers, so that steps meet.
#[derive(Debug, Clone)]
enum Step {
    Service(u8, bool),
    Slice(u8, Vec<u8>),
    Pod(u8, u8, bool),
    Node(u8),
    System(u8),
    Remove(ObjectKind, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, any::<bool>()).prop_map(|(n, headless)| Step::Service(n, headless)),
        (0..3u8, prop::collection::vec(0..5u8, 0..4)).prop_map(|(n, pods)| Step::Slice(n, pods)),
        (0..5u8, 0..3u8, any::<bool>()).prop_map(|(n, v, ready)| Step::Pod(n, v, ready)),
        (0..3u8).prop_map(Step::Node),
        (0..3u8).prop_map(Step::System),
        (kind(), 0..5u8).prop_map(|(kind, n)| Step::Remove(kind, n)),
    ]
}

fn kind() -> impl Strategy<Value = ObjectKind> {
    prop::sample::select(vec![
        ObjectKind::Service,
        ObjectKind::EndpointSlice,
        ObjectKind::Pod,
        ObjectKind::Node,
    ])
}

fn address(cluster: usize, n: u8) -> String {
    // Clusters 0 and 2 use the same addresses.
    format!("10.{}.0.{}", cluster % 2, n + 1)
}

fn change(cluster: usize, step: &Step) -> Change {
    match step {
        Step::Service(n, headless) => put(some_service(cluster, *n, *headless)),
        Step::Slice(n, pods) => put(some_slice(cluster, *n, pods)),
        Step::Pod(n, version, ready) => {
            let version = format!("v{version}");
            let labels = [("version", &*version)];
            let mut pod = pod(&format!("p{n}"), &address(cluster, *n), &labels);
            pod.ready = *ready;
            pod.node = Arc::from(format!("n{}", n % 2));
            put(pod)
        }
        Step::Node(n) => {
            let region = format!("r{n}");
            let region = [("topology.kubernetes.io/region", &*region)];
            put(node(&format!("n{}", n % 2), &region))
        }
        Step::System(n) => {
            let network = format!("n{n}");
            let network = [("topology.istio.io/network", &*network)];
            put(namespace("istio-system", &network))
        }
        Step::Remove(kind, n) => Change::Delete(some_key(*kind, *n)),
    }
}

/// Service 2 is a gateway.
fn some_service(cluster: usize, n: u8, headless: bool) -> crate::model::KubeService {
    let mut service = service(&format!("s{n}"), &[("http", 80, 8080)]);
    if headless {
        service.cluster_ips = Vec::new();
    }
    if n == 2 {
        let network = format!("n{cluster}");
        service.labels = labels(&[("topology.istio.io/network", &network)]);
        service.external_ips = vec![ip(&format!("192.0.2.{cluster}"))];
        service.ports[0].port = 15443;
    }
    service
}

/// Pod 4 is named by its address only.
fn some_slice(cluster: usize, n: u8, pods: &[u8]) -> crate::model::EndpointSlice {
    let name = |p: u8| {
        if p == 4 {
            String::new()
        } else {
            format!("p{p}")
        }
    };
    let named = pods.iter().map(|p| (name(*p), address(cluster, *p)));
    let named: Vec<_> = named.collect();
    let named: Vec<_> = named.iter().map(|(n, a)| (&**n, &**a)).collect();
    slice(&format!("s{n}"), &[("http", 8080)], &named)
}

fn some_key(kind: ObjectKind, n: u8) -> ObjectKey {
    let (namespace, name) = match kind {
        ObjectKind::Service => ("default", format!("s{n}")),
        ObjectKind::EndpointSlice => ("default", format!("s{n}-1")),
        ObjectKind::Pod => ("default", format!("p{n}")),
        _ => ("", format!("n{n}")),
    };
    ObjectKey {
        kind,
        namespace: Namespace::from(namespace),
        name: Arc::from(name),
    }
}

fn id(cluster: usize) -> ClusterId {
    ClusterId::from(format!("c{cluster}"))
}

fn event(cluster: usize, step: &Step) -> Event {
    let change = change(cluster, step);
    let cluster = id(cluster);
    Event { cluster, change }
}

/// Clusters in turn, each in its own order.
fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..3usize, step()), 0..60)
}

fn index() -> Index {
    Index::new(ClusterId::from("c0"), Features::default())
}

fn run(index: &mut Index, steps: &[(usize, Step)], batch: usize) {
    for chunk in steps.chunks(batch) {
        index.apply(chunk.iter().map(|(cluster, step)| event(*cluster, step)));
    }
}

/// Everything the index holds of Kubernetes, as a relist reports it.
fn relist(steps: &[(usize, Step)]) -> Vec<Event> {
    let mut held: BTreeMap<(usize, ObjectKey), Object> = BTreeMap::new();
    for (cluster, step) in steps {
        match change(*cluster, step) {
            Change::Upsert(object) => {
                held.insert((*cluster, object.key()), object);
            }
            Change::Delete(key) => {
                held.remove(&(*cluster, key));
            }
            other => panic!("no step makes {other:?}"),
        }
    }
    let mut events = Vec::new();
    for cluster in 0..3 {
        for kind in ObjectKind::ALL {
            let of = held
                .iter()
                .filter(|((c, k), _)| *c == cluster && k.kind == *kind);
            let objects = of.map(|(_, object)| object.clone()).collect();
            let change = Change::Reset(*kind, objects);
            let cluster = id(cluster);
            events.push(Event { cluster, change });
        }
    }
    events
}

proptest! {
    #[test]
    fn a_relist_of_an_unchanged_world_changes_nothing(steps in steps()) {
        let mut index = index();
        run(&mut index, &steps, 7);
        prop_assert!(index.apply(relist(&steps)).is_none());
    }

    #[test]
    fn a_relist_makes_the_same_world_as_the_events(steps in steps()) {
        let (mut one, mut other) = (index(), index());
        run(&mut one, &steps, 1);
        other.apply(relist(&steps));
        prop_assert_eq!(contents(one.snapshot()), contents(other.snapshot()));
        let pending = |index: &Index| index.pending_pods().into_values().sum::<usize>();
        prop_assert_eq!(pending(&one), pending(&other));
    }

    #[test]
    fn the_order_of_clusters_does_not_matter(steps in steps(), batch in 1..20usize) {
        let (mut one, mut other) = (index(), index());
        run(&mut one, &steps, 1);
        let mut by_cluster = steps;
        by_cluster.sort_by_key(|(cluster, _)| std::cmp::Reverse(*cluster));
        run(&mut other, &by_cluster, batch);
        prop_assert_eq!(contents(one.snapshot()), contents(other.snapshot()));
    }

    #[test]
    fn a_removed_cluster_leaves_nothing(steps in steps()) {
        let (mut one, mut other) = (index(), index());
        run(&mut one, &steps, 3);
        one.apply([Event { cluster: id(1), change: Change::ClusterRemoved }]);
        let without: Vec<_> = steps.into_iter().filter(|(c, _)| *c != 1).collect();
        run(&mut other, &without, 1);
        if one.snapshot().generation() > Generation(0) && other.snapshot().generation() > Generation(0) {
            prop_assert_eq!(contents(one.snapshot()), contents(other.snapshot()));
        }
    }

    #[test]
    fn what_changed_is_told(steps in steps()) {
        let mut index = index();
        for (cluster, step) in &steps {
            let before = Arc::clone(index.snapshot());
            let Some(after) = index.apply([event(*cluster, step)]) else {
                prop_assert_eq!(contents(&before), contents(index.snapshot()));
                continue;
            };
            let told = after.changes();
            for state in before.services().chain(after.services()) {
                let host = &state.service.key.hostname;
                let (old, new) = (before.host(host), after.host(host));
                let same = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.same_as(b));
                prop_assert!(same || told.all_endpoints || told.hosts.contains(host));
            }
        }
    }
}
