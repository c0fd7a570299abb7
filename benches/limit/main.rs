//! The price of one message to 1,000 streams, beside what it costs at least.
//!
//! Two servers get the same work: `floor` writes hand-made HTTP/2 frames with
//! one `writev` a stream, and is no server otherwise; `isthmus` is the whole
//! path from a published change to the socket. Each runs in a process of its
//! own with two workers, each stream on a connection of its own over loopback.
//! A third process reads and throws away; it ACKs between the rounds, where
//! nobody counts. Rounds alternate between the two servers, so that other work
//! on the machine touches both.
//!
//! `cargo bench --bench limit [-- [STREAMS] [tls]]`. Linux only.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "a bench may panic, prints its figures and has no users"
)]

mod floor;
mod http2;
mod isthmus;
mod process;
mod sink;
mod table;
mod tls;

use std::env;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes of the resource that each round sends.
const SIZES: [usize; 3] = [900, 64 * 1024, 1_070_000];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["floor", size, root @ ..] => floor::run(number(size), root.first().copied()),
        ["isthmus", size, root @ ..] => isthmus::run(number(size), root.first().copied()),
        ["sink", kind, address, streams, root @ ..] => {
            let kind = kind.parse().expect("a kind of sink");
            let address = address.parse().expect("an address");
            sink::run(kind, address, number(streams), root.first().copied());
        }
        _ => {
            let streams = args.iter().find_map(|arg| arg.parse().ok());
            table::print(streams.unwrap_or(1000), args.contains(&"tls"));
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// A server has two workers; what it is told comes on the main thread.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}
