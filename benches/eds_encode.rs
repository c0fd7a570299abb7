//! An endpoint answer of 1,000 endpoints over three networks: made for the
//! first time, and found again.

#![allow(
    missing_docs,
    reason = "the macros of criterion write undocumented items"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use isthmus::mesh::ServiceState;
use isthmus::testing::state::{endpoint, key, state, view};
use isthmus::xds::eds;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENDPOINTS: u32 = 1_000;

/// Three clusters, each a network with two gateways (none with
/// `gateways: false`), three zones each; addresses in no order.
fn service(gateways: bool) -> ServiceState {
    let mut builder = state();
    for n in 0..3 {
        let (network, cluster) = (format!("network-{n}"), format!("cluster-{n}"));
        for at in 0..2 {
            if gateways {
                let address = format!("192.0.2.{}", n * 10 + at);
                builder = builder.gateway(&network, &cluster, &address, 15443);
            }
        }
    }
    for i in 0..ENDPOINTS {
        let n = i % 3;
        let mixed = i.wrapping_mul(2_654_435_761) >> 16;
        let address = format!("10.{n}.{}.{}", (mixed >> 8) & 0xff, mixed & 0xff);
        let one = endpoint(&address)
            .on(&format!("network-{n}"), &format!("cluster-{n}"))
            .at(&format!("region-{n}/zone-{}/", i % 9 / 3))
            .node(&format!("node-{}", i % 50))
            .label("version", "v1")
            .label("pod-template-hash", "6d9f7c8b5d")
            .label("security.istio.io/tlsMode", "istio")
            .label("service.istio.io/canonical-name", "example")
            .label("service.istio.io/canonical-revision", "v1");
        builder = builder.with(&one);
    }
    builder.build()
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("eds_encode_1000_endpoints");
    for (name, gateways) in [("first/split", true), ("first/all_direct", false)] {
        let service = service(gateways);
        let key = key(view("network-0"));
        group.bench_function(name, |b| {
            b.iter(|| eds::encode(black_box(&service), black_box(&key)));
        });
    }
    let service = service(true);
    let key = key(view("network-0"));
    group.bench_function("again", |b| {
        b.iter(|| black_box(&service).eds(key.clone(), eds::encode));
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
