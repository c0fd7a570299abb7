//! One endpoint change in a world of 10 k services × 30 endpoints on three
//! networks, published; and what such a world costs in memory.
//!
//! `cargo bench --bench index_apply`

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench may panic"
)]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(missing_docs, reason = "criterion's macros make the items")]

use std::{fs, hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use isthmus::mesh::{Change, Event, Index, Writer};
use isthmus::model::{ClusterId, EndpointSlice, Features, Namespace, Object, ObjectKind, Pod};
use isthmus::testing::world;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: [&str; 3] = ["c1", "c2", "c3"];
const SERVICES: usize = 10_000;
/// Per cluster.
const PODS: usize = 10;
const NODES: usize = 1_000;
/// Services of one namespace.
const CROWD: usize = 100;

fn home(service: usize) -> Namespace {
    Namespace::from(format!("ns-{}", service / CROWD))
}

fn address(service: usize, pod: usize) -> String {
    let n = service * PODS + pod;
    format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)
}

fn pod(service: usize, pod: usize) -> Pod {
    let (name, template) = (format!("svc-{service}"), format!("{service:010x}"));
    let own = [
        ("app", &*name),
        ("version", "v1"),
        ("pod-template-hash", &*template),
        ("service.istio.io/canonical-name", &*name),
        ("service.istio.io/canonical-revision", "v1"),
    ];
    let mut made = world::pod(
        &format!("{name}-{template}-{pod:05}"),
        &address(service, pod),
        &own,
    );
    made.meta.namespace = home(service);
    made.meta.created = "".into();
    made.workload_name = name.into();
    made.node = format!("node-{}", (service * PODS + pod) % NODES).into();
    made
}

fn slice(service: usize, ready: bool) -> EndpointSlice {
    let names: Vec<_> = (0..PODS)
        .map(|n| (pod(service, n).meta.name, address(service, n)))
        .collect();
    let pods: Vec<_> = names.iter().map(|(n, a)| (&**n, &**a)).collect();
    let mut made = world::slice(&format!("svc-{service}"), &[("http", 8080)], &pods);
    made.meta.namespace = home(service);
    made.endpoints[0].ready = Some(ready);
    made
}

fn service(n: usize) -> Object {
    let mut made = world::service(&format!("svc-{n}"), &[("http", 80, 8080)]);
    made.meta.namespace = home(n);
    made.into()
}

fn node(n: usize) -> Object {
    let (region, zone) = (format!("r{}", n % 3), format!("r{}-{}", n % 3, n % 9));
    let labels = [
        ("topology.kubernetes.io/region", &*region),
        ("topology.kubernetes.io/zone", &*zone),
    ];
    world::node(&format!("node-{n}"), &labels).into()
}

fn reset(index: &mut Index, cluster: &str, kind: ObjectKind, objects: Vec<Object>) {
    let cluster = ClusterId::from(cluster);
    let change = Change::Reset(kind, objects);
    index.apply([Event { cluster, change }]);
}

fn full_world() -> Index {
    let mut index = Index::new(ClusterId::from(CLUSTERS[0]), Features::default());
    for cluster in CLUSTERS {
        let network = [("topology.istio.io/network", cluster)];
        let system = world::namespace("istio-system", &network);
        reset(
            &mut index,
            cluster,
            ObjectKind::Namespace,
            vec![system.into()],
        );
        reset(
            &mut index,
            cluster,
            ObjectKind::Node,
            (0..NODES).map(node).collect(),
        );
        reset(
            &mut index,
            cluster,
            ObjectKind::Service,
            (0..SERVICES).map(service).collect(),
        );
        // As a watch delivers them: in pages, not all at once.
        for from in (0..SERVICES).step_by(500) {
            let upsert = |object: Object| Event {
                cluster: ClusterId::from(cluster),
                change: Change::Upsert(object),
            };
            let of = from..from + 500;
            let pods = of
                .clone()
                .flat_map(|s| (0..PODS).map(move |p| pod(s, p).into()));
            index.apply(pods.map(upsert));
            index.apply(of.map(|s| upsert(slice(s, true).into())));
        }
    }
    index
}

/// Resident memory in bytes; 0 where `/proc` is missing.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

fn apply(c: &mut Criterion) {
    let before = resident();
    let mut index = full_world();
    let endpoints = SERVICES * PODS * CLUSTERS.len();
    let each = resident().saturating_sub(before) / endpoints;
    println!(
        "memory: {endpoints} endpoints, {each} bytes each (pods, slices and snapshot included)"
    );
    let (writer, reader) = Writer::new();
    let states = [false, true].map(|ready| Object::from(slice(5_000, ready)));
    let mut turn = 1;
    let mut group = c.benchmark_group("index_apply");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("one slice of 10k services x 30 endpoints, published", |b| {
        b.iter(|| {
            turn = 1 - turn;
            let event = Event {
                cluster: ClusterId::from(CLUSTERS[1]),
                change: Change::Upsert(states[turn].clone()),
            };
            writer.publish(index.apply([event]).expect("the slice differs"));
            black_box(reader.latest());
        });
    });
    group.bench_function("an equal slice", |b| {
        b.iter(|| {
            let event = Event {
                cluster: ClusterId::from(CLUSTERS[1]),
                change: Change::Upsert(states[turn].clone()),
            };
            black_box(index.apply([event]));
        });
    });
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
