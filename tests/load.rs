//! `isthmus load` against `isthmus discovery`, both as processes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod plane;
    pub(crate) mod secure;
    pub(crate) mod shop;
}

use std::{fs, path::Path, process::Stdio};

use base64::{Engine, prelude::BASE64_STANDARD};
use isthmus::testing::identity::{TestCa, TestCaOptions, TestLeaf};
use serde_json::Value;
use support::{plane::Plane, secure::plug_in};
use tempfile::TempDir;
use tokio::process::Command;

const SIDECARS: u64 = 7;

/// What every run has in common: two networks of forty services, more than a
/// run changes: a second change of one might come before the first is seen.
fn load(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command
        .args(["load", "--folders", "c1,c2", "--services", "40"])
        .args(["--endpoints", "2", "--namespaces", "2", "--gateways"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> String {
    let output = command.output().await.expect("isthmus load runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The report of a run with these flags: a few changes at seven sidecars.
async fn report(folder: &Path, address: &str, flags: &[&str]) -> Value {
    let mut command = load(folder);
    command
        .args(["--json", "--address", address, "--rate", "20"])
        .args(["--duration", "1500ms", "--sidecars", &SIDECARS.to_string()])
        .args(flags);
    serde_json::from_str(&output(command).await).expect("JSON")
}

/// Folders with the mesh in them.
async fn populated() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = load(folder.path());
    command.arg("--populate-only");
    assert_eq!(output(command).await, "");
    folder
}

async fn plane(folder: &Path) -> Plane {
    let dir = |name: &str| format!("{name}={}", folder.join(name).display());
    let flags = ["--cluster-dir", &dir("c1"), "--cluster-dir", &dir("c2")];
    Plane::start("c1", &flags).await
}

fn number(report: &Value, name: &str) -> u64 {
    let value = report[name].as_u64();
    value.unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Sidecars of the first network got each change of what they watch once, and
/// the others got nothing.
fn check(report: &Value) {
    let writes = number(report, "writes");
    assert!(writes > 0, "{report}");
    assert_eq!(
        number(report, "deliveries"),
        number(report, "expected_deliveries"),
        "{report}"
    );
    assert_eq!(report["pushes_by_network"][1], 0, "{report}");
    assert_eq!(number(report, "needless_pushes"), 0, "{report}");
    assert_eq!(number(report, "failed_writes"), 0, "{report}");
    assert!(report["latency_ms"]["p50"].is_number(), "{report}");
}

#[tokio::test]
async fn each_change_arrives_at_each_sidecar_of_its_network_and_at_no_other() {
    let folder = populated().await;
    let plane = plane(folder.path()).await;
    for flags in [
        &["--delta"][..],
        &["--sotw"],
        &["--connections", "2"],
        &["--scope", "watched"],
    ] {
        let report = report(folder.path(), plane.ads(), flags).await;
        check(&report);
        // Of seven, dealt over two networks, four are on the first.
        let all = number(&report, "writes") * 4;
        assert_eq!(number(&report, "deliveries"), all, "{flags:?}: {report}");
    }
}

#[tokio::test]
async fn a_sidecar_gets_the_changes_of_what_it_watches() {
    let folder = populated().await;
    let plane = plane(folder.path()).await;
    let pid = plane.pid().to_string();
    let flags = ["--watch", "1", "--pid", &pid];
    let report = report(folder.path(), plane.ads(), &flags).await;
    check(&report);
    let all = number(&report, "writes") * 4;
    assert!(number(&report, "deliveries") < all, "{report}");
    assert!(report["connect_cpu_s"].is_number() && report["rss_mb"].is_number());
}

#[tokio::test]
async fn sidecars_with_a_certificate_connect_over_tls() {
    let folder = populated().await;
    let path = folder.path();
    let ca = TestCa::root(TestCaOptions::new("root"));
    plug_in(&ca, &path.join("cacerts"));
    let uris = ["spiffe://cluster.local/ns/load-0/sa/default"];
    let (chain, key) = ca.leaf(&TestLeaf::new(&uris));
    let chain = chain.iter().map(|der| pem("CERTIFICATE", der));
    fs::write(path.join("cert.pem"), chain.collect::<String>()).expect("a file");
    fs::write(path.join("key.pem"), pem("PRIVATE KEY", key.secret_der())).expect("a file");
    let mut plane = Plane::launch(|command| {
        command
            .args(["--clusterID", "c1", "--cluster-dir", "c1=c1"])
            .args(["--cluster-dir", "c2=c2"])
            .current_dir(path)
            .env("ROOT_CA_DIR", path.join("cacerts"));
    });
    plane.wait_ready().await;
    let address = plane.secure().to_string();
    let own = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    for protocol in ["--delta", "--sotw"] {
        let trust = ["--tls-ca", "cacerts/root-cert.pem", protocol];
        let report = report(path, &address, &[&trust[..], &own].concat()).await;
        check(&report);
        assert_eq!(report["tls"], true);
    }
    let mut command = load(path);
    command
        .args(["--address", &address, "--patience", "1s"])
        .args(["--tls-ca", "cacerts/root-cert.pem"]);
    let refused = command.output().await.expect("it runs");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("0 of 100 sidecars were served"), "{error}");
    assert!(error.contains("Unauthenticated"), "{error}");
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[tokio::test]
async fn bad_clients_are_counted_apart() {
    let folder = populated().await;
    let plane = plane(folder.path()).await;
    let flags = [
        ["--slow", "1"],
        ["--stuck", "1"],
        ["--no-ack", "1"],
        ["--nack", "1"],
        ["--subscribe-names", "100"],
        ["--reconnect-rate", "20"],
    ];
    let report = report(folder.path(), plane.ads(), &flags.concat()).await;
    check(&report);
    let met = report["offenders"].as_object().expect("offenders");
    let kinds: Vec<_> = met.keys().map(String::as_str).collect();
    let expected = [
        "many_names",
        "nack",
        "no_ack",
        "reconnects",
        "slow",
        "stuck",
    ];
    assert_eq!(kinds, expected, "{report}");
}

#[tokio::test]
async fn a_reconnect_storm_ends_with_all_served() {
    let folder = populated().await;
    let plane = plane(folder.path()).await;
    let flags = ["--reconnect-storm", "200ms"];
    let report = report(folder.path(), plane.ads(), &flags).await;
    let storms = report["storms"].as_array().expect("storms");
    assert!(!storms.is_empty(), "{report}");
    assert!(
        storms.iter().all(|storm| storm["all_served_s"].is_number()),
        "{report}"
    );
}

#[tokio::test]
async fn without_json_the_report_is_a_table() {
    let folder = populated().await;
    let plane = plane(folder.path()).await;
    let mut command = load(folder.path());
    command
        .args(["--address", plane.ads(), "--rate", "10"])
        .args(["--duration", "200ms", "--sidecars", "2"]);
    let text = output(command).await;
    assert!(text.contains("write → sidecar"), "{text}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let [address] = support::plane::free_addresses();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = load(folder.path());
    command.args(["--address", &address]);
    let output = command.output().await.expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains(&address) && error.contains("--address"),
        "{error}"
    );
    assert!(
        fs::read_dir(folder.path())
            .expect("a folder")
            .next()
            .is_none()
    );
}
