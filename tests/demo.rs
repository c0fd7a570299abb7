//! `isthmus demo` from beginning to end: what it prints, and what it leaves.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod sockets;
}

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use support::sockets::{Listener, descendants, is_running, listeners};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// All of it, on two busy cores.
const LIMIT: Duration = Duration::from_mins(3);

struct Demo {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    printed: Vec<String>,
}

impl Demo {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_isthmus"))
            .arg("demo")
            .arg("--envoy")
            .arg(support::envoy::binary())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("isthmus starts");
        let output = process.stdout.take().expect("its output");
        Self {
            process,
            lines: BufReader::new(output).lines(),
            printed: Vec::new(),
        }
    }

    /// Reads on to the first line with `part`, or to the end.
    async fn read_to(&mut self, part: &str) -> bool {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = timeout(left, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("never {part:?}: {:#?}", self.printed));
            let Some(line) = line.expect("text") else {
                return false;
            };
            self.printed.push(line);
            if self.printed.last().is_some_and(|line| line.contains(part)) {
                return true;
            }
        }
    }

    /// The line after a heading, `skip` lines further on.
    fn after(&self, heading: &str, skip: usize) -> Vec<&str> {
        let place = self.printed.iter().position(|line| line == heading);
        let place = place.unwrap_or_else(|| panic!("{heading:?}: {:#?}", self.printed));
        self.printed[place + 1 + skip].split_whitespace().collect()
    }
}

#[tokio::test]
async fn the_demo_sends_requests_through_three_networks_and_leaves_nothing() {
    let mut demo = Demo::start();
    assert!(
        demo.read_to("Envoys are ready after").await,
        "{:#?}",
        demo.printed
    );
    let pid = demo.process.id().expect("it runs");
    let children = descendants(pid);
    assert_one_owner_each(&listeners(&children));

    assert!(!demo.read_to("no such line").await);
    let status = demo.process.wait().await.expect("a status");
    assert!(status.success(), "{status}: {:#?}", demo.printed);
    assert_story(&demo);
    let end = Instant::now() + LIMIT;
    while children.iter().any(|child| is_running(*child)) {
        assert!(Instant::now() < end, "it left processes");
        sleep(Duration::from_millis(50)).await;
    }
}

fn assert_story(demo: &Demo) {
    let all = ["vc1", "vc2", "vc3"];
    // The scenario's table at its own addresses comes first.
    for address in ["10.201.0.11:5000", "10.6.136.29:15443", "10.64.30.77:15443"] {
        let shown = demo.printed.iter().any(|line| line.contains(address));
        assert!(shown, "{address}: {:#?}", demo.printed);
    }
    let first = demo.after("sleep in network-c1 asks helloworld", 3);
    assert_eq!(first.len(), 9);
    for turn in first.chunks(3) {
        let turn: BTreeSet<_> = turn.iter().copied().collect();
        assert_eq!(turn, BTreeSet::from(all), "{first:?}");
    }
    let without = demo.after("helloworld in network-c2 stops", 1);
    assert_eq!(without.len(), 8);
    let without: BTreeSet<_> = without.into_iter().collect();
    assert_eq!(without, BTreeSet::from(["vc1", "vc3"]));
    let back: BTreeSet<_> = demo
        .after("helloworld in network-c2 is back", 1)
        .into_iter()
        .collect();
    assert_eq!(back, BTreeSet::from(all));
    let last = demo.printed.last().expect("a line");
    assert!(last.ends_with("requests, none failed"), "{last}");
}

/// Two Envoys of one user may listen at one address without an error; the
/// kernel then shares the connections out.
fn assert_one_owner_each(listeners: &[Listener]) {
    let owns = |host: &str| listeners.iter().any(|l| l.address.contains(host));
    for host in [
        ".1.11:", ".2.11:", ".3.11:", ".1.12:", ".1.13:", ".2.13:", ".3.13:",
    ] {
        assert!(owns(host), "nobody listens at {host} {listeners:#?}");
    }
    for one in listeners {
        assert_eq!(one.owners.len(), 1, "{one:?}");
        let others = listeners
            .iter()
            .filter(|other| other.address == one.address);
        assert_eq!(others.count(), 1, "{}: {listeners:#?}", one.address);
    }
}

/// A demo that is interrupted ends what it started.
#[tokio::test]
async fn an_interrupted_demo_leaves_nothing() {
    let mut demo = Demo::start();
    assert!(demo.read_to("Certificates that isthmus issued").await);
    let pid = demo.process.id().expect("it runs");
    let children = descendants(pid);
    let mut kill = Command::new("kill");
    let sent = kill.args(["-INT", &pid.to_string()]).status().await;
    assert!(sent.expect("kill").success());
    let status = timeout(LIMIT, demo.process.wait()).await.expect("an end");
    assert!(status.expect("a status").success());
    let end = Instant::now() + LIMIT;
    while children.iter().any(|child| is_running(*child)) {
        assert!(Instant::now() < end, "it left processes");
        sleep(Duration::from_millis(50)).await;
    }
}
