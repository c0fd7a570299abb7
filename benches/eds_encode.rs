//! An endpoint answer of 1,000 endpoints over three networks: made for the
//! first time, and found again.

#![allow(
    missing_docs,
    reason = "the macros of criterion write undocumented items"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use isthmus::testing::state::{key, thousand_endpoints, view};
use isthmus::xds::eds;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("eds_encode_1000_endpoints");
    for (name, gateways) in [("first/split", true), ("first/all_direct", false)] {
        let service = thousand_endpoints(gateways);
        let key = key(view("network-0"));
        group.bench_function(name, |b| {
            b.iter(|| eds::encode(black_box(&service), black_box(&key)));
        });
    }
    let service = thousand_endpoints(true);
    let key = key(view("network-0"));
    group.bench_function("again", |b| {
        b.iter(|| black_box(&service).eds(key.clone(), eds::encode));
    });
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
