//! Runs the servers against the sink and prints what it cost.

use std::time::Duration;

use tokio::time::Instant;

use super::SIZES;
use super::process::Process;

/// A server and its clients.
struct Pair {
    server: Process,
    sink: Process,
}

/// What one round cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: Duration,
    /// Until the last stream had the message.
    last: Duration,
}

impl Pair {
    fn start(server: &str, kind: &str, size: usize, streams: usize, root: Option<&str>) -> Self {
        let (size, streams) = (size.to_string(), streams.to_string());
        let with_root = |args: &[&str]| Process::start(&[args, root.as_slice()].concat());
        let mut server = with_root(&[server, &size]);
        let address = server.hear();
        let mut sink = with_root(&["sink", kind, &address, &streams]);
        sink.expect("ready");
        server.rest();
        Self { server, sink }
    }

    fn round(&mut self) -> Cost {
        let before = self.server.rest();
        let start = Instant::now();
        self.server.tell("push");
        self.sink.expect("done");
        let last = start.elapsed();
        let cpu = self.server.rest().saturating_sub(before);
        self.sink.tell("ack");
        self.sink.expect("acked");
        Cost { cpu, last }
    }

    /// KiB at its worst since the rounds began.
    fn peak(&self) -> usize {
        self.server.memory("VmHWM")
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn megabytes(kib: usize) -> String {
    let tenths = kib * 10 / 1024;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// One line of the table.
fn compare(size: usize, streams: usize, root: Option<&str>) {
    let rounds = if size > 500_000 { 5 } else { 20 };
    let mut pairs = ["floor", "isthmus"].map(|server| {
        let mut pair = Pair::start(server, "reads", size, streams, root);
        pair.round();
        pair.server.rest();
        pair.server.forget_peak();
        pair
    });
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (pair, costs) in pairs.iter_mut().zip(&mut costs) {
            costs.push(pair.round());
        }
    }
    let of = |what: fn(&Cost) -> Duration| {
        costs
            .each_ref()
            .map(|c| median(c.iter().map(what).collect()))
    };
    let ([floor, ours], [floor_last, last]) = (of(|cost| cost.cpu), of(|cost| cost.last));
    println!(
        "{size:>9} {:>10} {:>12} {:>6.2} {:>12} {:>12} {:>11} {:>11}",
        milliseconds(floor),
        milliseconds(ours),
        ours.as_secs_f64() / floor.as_secs_f64(),
        milliseconds(floor_last),
        milliseconds(last),
        megabytes(pairs[0].peak()),
        megabytes(pairs[1].peak()),
    );
}

/// What the server holds more of once `streams` clients are stuck in a message
/// of `size` bytes, in KiB.
fn held(kind: &str, size: usize, streams: usize, root: Option<&str>) -> usize {
    let mut pair = Pair::start("isthmus", kind, size, streams, root);
    let before = pair.server.memory("RssAnon");
    pair.server.tell("push");
    pair.server.rest();
    pair.server.memory("RssAnon").saturating_sub(before)
}

fn stuck(size: usize, root: Option<&str>) {
    const MANY: usize = 101;
    println!("\nheld for clients that do not take a message of {size} bytes:");
    for (kind, how) in [
        ("withholds", "gives no window"),
        ("sleeps", "does not read its socket"),
    ] {
        let (one, many) = (held(kind, size, 1, root), held(kind, size, MANY, root));
        println!(
            "  {how}: one client {one} KiB, the message included; each of {} more {} KiB",
            MANY - 1,
            many.saturating_sub(one) / (MANY - 1),
        );
    }
}

/// Prints all of it.
pub fn print(streams: usize, secure: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root.pem");
    let root = secure.then(|| root.to_str().expect("a name"));
    let over = if secure { "TLS" } else { "plain TCP" };
    println!("one message to {streams} streams over {over}, medians");
    println!(
        "{:>9} {:>10} {:>12} {:>6} {:>12} {:>12} {:>11} {:>11}",
        "bytes",
        "floor CPU",
        "isthmus CPU",
        "ratio",
        "floor last",
        "last stream",
        "floor peak",
        "peak"
    );
    for size in SIZES {
        compare(size, streams, root);
    }
    stuck(SIZES[2], root);
}
