//! Guards the hot paths: their allocations, compared with
//! `tests/allocations.baseline`.
//!
//! Allocations and not times, which differ from machine to machine, nor
//! instructions, which differ from compiler to compiler. Counted are those of
//! this thread, after a warm-up, so that each run counts the same. The baseline
//! is that of the dev profile, in which tests run.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

#[path = "allocations/baseline.rs"]
mod baseline;
#[path = "allocations/streams.rs"]
mod streams;

use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Waker},
};

use isthmus::mesh::{Index, SnapshotReader, Update, Watcher, Writer};
use isthmus::model::Hostname;
use isthmus::testing::large::{self, LargeMesh, upsert};
use isthmus::testing::state;
use isthmus::xds::eds;

use self::baseline::Used;

/// Changes that the figures of one change are the mean of: how deep a map is
/// differs from key to key.
const CHANGES: u64 = 32;

/// What `act` allocates.
fn used(act: impl FnOnce()) -> Used {
    let info = allocation_counter::measure(act);
    Used {
        count: info.count_total,
        bytes: info.bytes_total,
    }
}

fn index(services: usize) -> Index {
    let mesh = LargeMesh {
        services,
        endpoints: 30,
    };
    mesh.index()
}

/// An index of 300,000 endpoints, and what it holds for 100 of them.
fn held() -> (Index, Used) {
    let mut made = None;
    let info = allocation_counter::measure(|| made = Some(index(10_000)));
    let each = |all: i64| u64::try_from(all / 3_000).expect("more than nothing");
    let used = Used {
        count: each(info.count_current),
        bytes: each(info.bytes_current),
    };
    (made.expect("made"), used)
}

/// One endpoint that stops being ready, and one pod that gets another label:
/// means over the same services at each size.
fn apply(index: &mut Index) -> [Used; 2] {
    let mesh = LargeMesh {
        services: 1_000,
        endpoints: 30,
    };
    let services = (0..CHANGES).map(|n| 29 * usize::try_from(n).expect("small"));
    let mean = |index: &mut Index, events: Vec<_>| {
        let all = used(|| {
            for event in events {
                black_box(index.apply([event]).expect("a change"));
            }
        });
        Used {
            count: all.count / CHANGES,
            bytes: all.bytes / CHANGES,
        }
    };
    let mut change = |ready, turn: &str| {
        let slices = services.clone();
        let slices = slices.map(|service| upsert(1, mesh.slice(1, service, ready)));
        let slices = mean(index, slices.collect());
        let pods = services.clone().map(|service| {
            let mut pod = mesh.pod(1, service, 0);
            pod.labels = pod.labels.overlaid(&[("turn", turn)].into_iter().collect());
            upsert(1, pod)
        });
        [slices, mean(index, pods.collect())]
    };
    change(false, "first");
    change(true, "second")
}

/// A reader that waits for news of one service.
fn waiting(reader: &SnapshotReader, service: usize) -> Watcher {
    let mut watcher = reader.watch();
    watcher.watch([&*format!("outbound|80||{}", large::host(service))]);
    let mut context = Context::from_waker(Waker::noop());
    assert!(watcher.poll_news(&mut context).is_pending());
    watcher
}

/// The next snapshot of one service that changed, published to 1,000 readers
/// that watch it and 1,000 that watch another.
fn publish(index: &Index) -> Used {
    let (writer, reader) = Writer::new();
    writer.publish(Arc::clone(index.snapshot()));
    let host = large::host(7);
    let all = (0..1_000).map(|_| [7, 8].map(|service| waiting(&reader, service)));
    let all: Vec<[Watcher; 2]> = all.collect();
    let round = || {
        let snapshot = reader.latest();
        let services = snapshot.host(&host).iter().cloned().collect();
        let mut update = Update {
            services: vec![(Hostname::from(&*host), services)],
            ..Update::default()
        };
        update.changes.hosts.insert(Hostname::from(&*host));
        let used = used(|| {
            black_box(writer.publish(Arc::new(snapshot.next(update))));
        });
        let mut context = Context::from_waker(Waker::noop());
        for [watches, other] in &all {
            assert!(watches.poll_news(&mut context).is_ready());
            assert!(watches.poll_news(&mut context).is_pending());
            assert!(other.poll_news(&mut context).is_pending());
        }
        used
    };
    round();
    round()
}

/// An answer of 1,000 endpoints: the first time, and again.
fn encode() -> [Used; 2] {
    let key = || state::key(state::view("network-0"));
    let service = state::thousand_endpoints(true);
    black_box(eds::encode(&service, &key()));
    let first = used(|| {
        black_box(eds::encode(&service, &key()));
    });
    service.eds(key(), eds::encode);
    let (again, key) = (key(), key());
    service.eds(again, eds::encode);
    let again = used(|| {
        black_box(service.eds(key, eds::encode));
    });
    [first, again]
}

#[test]
fn hot_paths_allocate_what_the_baseline_says() {
    let (mut large, held) = held();
    let mut small = index(1_000);
    let [slice, pod] = apply(&mut large);
    let [small_slice, small_pod] = apply(&mut small);
    let [first, again] = encode();
    let mut paths = vec![
        ("100 endpoints held, of 300,000", held),
        ("a slice changed, of 10,000 services", slice),
        ("a slice changed, of 1,000 services", small_slice),
        ("a pod changed, of 300,000", pod),
        ("a pod changed, of 30,000", small_pod),
        ("a change told to 1,000 of 2,000 readers", publish(&large)),
        ("1,000 endpoints encoded", first),
        ("1,000 endpoints from the memo", again),
    ];
    paths.extend(streams::paths());
    baseline::check(&paths);
    let alike = |a: Used, b: Used| !a.exceeds(b) && !b.exceeds(a);
    assert!(
        alike(slice, small_slice) && alike(pod, small_pod),
        "a change must cost the same in a small and a large mesh: \
         slice {small_slice:?} and {slice:?}, pod {small_pod:?} and {pod:?}"
    );
}
