//! What one change costs, and what an endpoint takes in memory, as the mesh
//! grows to a hundred times its size.
//!
//! Each point is a process of its own. Changes go to services all over the mesh,
//! so that caches do not hide what a large mesh costs.
//! `cargo bench --bench growth [-- --svg docs/growth.svg]`. Linux only.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and prints its figures"
)]

mod chart;

use std::{env, fs, hint::black_box, path::PathBuf, process::Command};

use isthmus::mesh::{Event, Index, Writer};
use isthmus::testing::large::{LargeMesh, upsert};
use tokio::time::Instant;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Services and endpoints of each.
const MESHES: [(usize, usize); 6] = [
    (1_000, 30),
    (10_000, 30),
    (33_334, 30),
    (1_000, 10),
    (10_000, 10),
    (100_000, 10),
];
/// Changes that are measured at one point.
const CHANGES: usize = 5_000;
/// Coprime to all counts of services: each change goes to another service.
const STRIDE: usize = 7_919;

/// What was measured of one mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    services: usize,
    endpoints: usize,
    /// Microseconds of one change of a slice, applied and published: the median.
    slice: f64,
    /// The same of a pod's labels.
    pod: f64,
    /// Resident bytes for each endpoint: pods, slices, services, snapshot.
    resident: f64,
    /// Seconds to take the whole mesh in.
    sync: f64,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "figures are far smaller than 2^52"
)]
fn ratio(all: usize, count: usize) -> f64 {
    all as f64 / count as f64
}

/// Resident bytes of this process, without what is only mapped from files.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: usize = number.expect("a figure").parse().expect("a number");
    kib * 1024
}

/// Microseconds to publish one of `events`, which must all change something.
fn cost(index: &mut Index, writer: &Writer, events: impl Iterator<Item = Event>) -> f64 {
    let publish = |event| {
        let started = Instant::now();
        writer.publish(index.apply([event]).expect("a change"));
        started.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = events.map(publish).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn measure(mesh: LargeMesh) -> Point {
    let before = resident();
    let started = Instant::now();
    let mut index = mesh.index();
    let sync = started.elapsed().as_secs_f64();
    let held = resident().saturating_sub(before);
    let (writer, reader) = Writer::new();
    let services = || (0..CHANGES).map(move |n| (n * STRIDE) % mesh.services);
    // Where there are fewer services than changes, each turn is another change.
    let turn = |n: usize| n / mesh.services % 2 == 1;
    let slices = services().enumerate();
    let slices = slices.map(|(n, service)| upsert(1, mesh.slice(1, service, turn(n))));
    let slice = cost(&mut index, &writer, slices);
    let pods = services().enumerate().map(|(n, service)| {
        let mut pod = mesh.pod(1, service, 0);
        let turn = format!("turn-{}", n / mesh.services);
        let own = [("turn", &*turn)].into_iter().collect();
        pod.labels = pod.labels.overlaid(&own);
        upsert(1, pod)
    });
    let pod = cost(&mut index, &writer, pods);
    black_box(reader.latest());
    Point {
        services: mesh.services,
        endpoints: mesh.endpoints,
        slice,
        pod,
        resident: ratio(held, mesh.size()),
        sync,
    }
}

impl Point {
    /// The figures, as one process tells them to the other.
    fn line(&self) -> String {
        let figures = [self.slice, self.pod, self.resident, self.sync];
        figures.map(|figure| figure.to_string()).join(" ")
    }

    fn parse(mesh: LargeMesh, line: &str) -> Option<Self> {
        let mut figures = line.split_whitespace().map_while(|n| n.parse().ok());
        let mut next = || figures.next();
        Some(Self {
            services: mesh.services,
            endpoints: mesh.endpoints,
            slice: next()?,
            pod: next()?,
            resident: next()?,
            sync: next()?,
        })
    }
}

/// Measures a mesh in a process of its own.
fn point(mesh: LargeMesh) -> Point {
    let own = env::current_exe().expect("this program's path");
    let mut child = Command::new(own);
    child.arg("--point");
    child.args([mesh.services, mesh.endpoints].map(|n| n.to_string()));
    let output = child.output().expect("starts");
    let text = String::from_utf8_lossy(&output.stdout);
    Point::parse(mesh, &text).expect("figures")
}

fn print(point: &Point) {
    let size = point.services * point.endpoints;
    println!(
        "{:>8} {size:>9} {:>9.1} {:>9.1} {:>8.0} {:>7.1}",
        point.services, point.slice, point.pod, point.resident, point.sync,
    );
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1..)
    };
    let mesh = |[services, endpoints]: [usize; 2]| LargeMesh {
        services,
        endpoints,
    };
    if let Some([services, endpoints, ..]) = after("--point") {
        let size = [services, endpoints].map(|n| n.parse().expect("a number"));
        println!("{}", measure(mesh(size)).line());
        return;
    }
    println!("one change, applied and published; memory with pods, slices and snapshot");
    println!("services endpoints  slice/µs    pod/µs bytes/ep  sync/s");
    let mut points = Vec::new();
    for (services, endpoints) in MESHES {
        let point = point(mesh([services, endpoints]));
        print(&point);
        points.push(point);
    }
    if let Some([path, ..]) = after("--svg") {
        // Cargo runs a bench in the folder of its package.
        let path = PathBuf::from(path);
        fs::write(&path, chart::svg(&points)).expect("writes");
        println!("drawn in {}", path.display());
    }
}
