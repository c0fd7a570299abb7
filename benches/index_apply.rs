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
use isthmus::mesh::Writer;
use isthmus::testing::large::{LargeMesh, upsert};

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MESH: LargeMesh = LargeMesh {
    services: 10_000,
    endpoints: 30,
};

/// Resident memory in bytes; 0 where `/proc` is missing.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

fn apply(c: &mut Criterion) {
    let before = resident();
    let mut index = MESH.index();
    let endpoints = MESH.size();
    let each = resident().saturating_sub(before) / endpoints;
    println!(
        "memory: {endpoints} endpoints, {each} bytes each (pods, slices and snapshot included)"
    );
    let (writer, reader) = Writer::new();
    let states = [false, true].map(|ready| upsert(1, MESH.slice(1, 5_000, ready)));
    let mut turn = 1;
    let mut group = c.benchmark_group("index_apply");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("one slice of 10k services x 30 endpoints, published", |b| {
        b.iter(|| {
            turn = 1 - turn;
            let event = states[turn].clone();
            writer.publish(index.apply([event]).expect("the slice differs"));
            black_box(reader.latest());
        });
    });
    group.bench_function("an equal slice", |b| {
        b.iter(|| {
            black_box(index.apply([states[turn].clone()]));
        });
    });
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
