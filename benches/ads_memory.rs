//! Resident memory of the ADS server per connected sidecar.
//!
//! The server runs in this process, the sidecars in a child process; each has
//! an own connection over loopback, in plain text or (`tls`) with a client
//! certificate, and watches 300 clusters and their endpoints.
//! `cargo bench --bench ads_memory [-- [SIDECARS] [tls]]`. Linux only.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and prints its figure"
)]

use std::{env, fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::core::v3::{Extension, Node};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use isthmus::identity::serving::{Refusals, ServerTls, ServingCertificate, serving_names};
use isthmus::model::TypeUrl;
use isthmus::server::Config;
use isthmus::testing::ads_server::{AdsServer, Published, requests};
use isthmus::testing::ads_stream::delta;
use isthmus::testing::ads_world::{FakeWorld, node};
use isthmus::testing::identity::{TestCa, TestCaOptions, TestLeaf, now};
use isthmus::testing::secure::SecureClient;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tonic::transport::Channel;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CLUSTERS: usize = 300;
const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const LDS: TypeUrl = TypeUrl::Listener;

fn name(n: usize) -> String {
    format!("outbound|8080||service-{n:03}.namespace.svc.cluster.local")
}

/// Resident KiB of this process, without what is only mapped from files.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("a figure").parse().expect("a number")
}

/// A node as Envoy sends it: with about 600 extensions.
fn sidecar() -> Node {
    let extension = |n| Extension {
        name: format!("envoy.filters.http.some_extension_{n}"),
        category: "envoy.filters.http".to_owned(),
        type_urls: vec![format!(
            "envoy.extensions.filters.http.some_extension_{n}.v3.Config"
        )],
        ..Extension::default()
    };
    Node {
        extensions: (0..600).map(extension).collect(),
        ..node()
    }
}

/// TLS of a server, and in `folder` what a client of it needs.
fn secure(folder: &Path) -> ServerTls {
    let root = TestCa::root(TestCaOptions::new("root"));
    let ca = root.intermediate(TestCaOptions::new("intermediate"));
    let authority = ca.authority();
    let names = serving_names("istio-system", "", "", "");
    let day = Duration::from_hours(24);
    let certificate = ServingCertificate::issue(&authority, &names, day, now());
    let tls = ServerTls::new(Refusals::default());
    tls.set_trust_domains([Arc::from("cluster.local")].into());
    tls.set_client_roots(authority.trust_bundle().expect("roots"));
    tls.set_certificate(certificate.expect("a certificate"));
    let (chain, key) = ca.leaf(&TestLeaf::new(&[
        "spiffe://cluster.local/ns/default/sa/web",
    ]));
    fs::write(folder.join("root.pem"), ca.root_pem()).expect("a file");
    fs::write(folder.join("key"), key.secret_der()).expect("a file");
    for (n, certificate) in chain.iter().enumerate() {
        fs::write(folder.join(format!("chain-{n}")), certificate).expect("a file");
    }
    tls
}

/// The client of [`secure`].
fn client(folder: &Path) -> SecureClient {
    let read = |name: &str| fs::read(folder.join(name));
    let chain = (0..).map_while(|n| read(&format!("chain-{n}")).ok());
    let key = PrivateKeyDer::try_from(read("key").expect("a key")).expect("a key");
    let roots = fs::read_to_string(folder.join("root.pem")).expect("roots");
    SecureClient::new(&roots).certificate((chain.map(CertificateDer::from).collect(), key))
}

async fn channel(address: SocketAddr, folder: Option<&Path>) -> Channel {
    if let Some(folder) = folder {
        return client(folder).connect(address).await.expect("connects");
    }
    let url = format!("http://{address}");
    let channel = Channel::from_shared(url).expect("a URL").connect().await;
    channel.expect("connects")
}

/// One sidecar: subscribes, ACKs everything, stays.
async fn connect(address: SocketAddr, folder: Option<Arc<Path>>) -> (impl Sized, impl Sized) {
    let channel = channel(address, folder.as_deref()).await;
    let mut channel = AggregatedDiscoveryServiceClient::new(channel);
    let (sender, stream) = requests();
    let first = DeltaDiscoveryRequest {
        node: Some(sidecar()),
        ..delta(CDS)
    };
    sender.send(first).await.expect("room");
    let responses = channel.delta_aggregated_resources(stream).await;
    let mut responses = responses.expect("opens").into_inner();
    let names = (0..CLUSTERS).map(name).collect();
    let next = [
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            node: None,
            ..delta(EDS)
        }),
        Some(DeltaDiscoveryRequest {
            node: None,
            ..delta(LDS)
        }),
        None,
    ]
    .into_iter();
    for request in next {
        let response = responses.message().await.expect("goes on");
        let response = response.expect("a response");
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(ack).await.expect("open");
        if let Some(request) = request {
            sender.send(request).await.expect("open");
        }
    }
    (sender, responses)
}

async fn sidecars(address: SocketAddr, count: usize, folder: Option<Arc<Path>>) {
    let mut all = Vec::new();
    let mut opening = JoinSet::new();
    for _ in 0..count {
        opening.spawn(connect(address, folder.clone()));
        if opening.len() == 20 {
            all.extend(opening.join_next().await);
        }
    }
    while let Some(one) = opening.join_next().await {
        all.push(one);
    }
    println!("connected");
    std::future::pending::<()>().await;
}

async fn measure(count: usize, tls: bool) {
    let mut world = FakeWorld::default();
    for n in 0..CLUSTERS {
        world.set(CDS, &name(n), &"c".repeat(1500));
        world.set(EDS, &name(n), &"e".repeat(900));
        world.set(
            LDS,
            &format!("10.0.{}.{}_8080", n / 200, n % 200),
            &"l".repeat(2000),
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = tls.then_some(folder.path());
    let published = Published::new(world, Config::default());
    let server = AdsServer::serve(published, folder.map(secure)).expect("listens");
    let mut before = 0;
    // The first few pay for what all share.
    for (round, sidecars) in [20, count].into_iter().enumerate() {
        let child = tokio::process::Command::new(env::current_exe().expect("own path"))
            .args(["sidecars", &server.address.to_string()])
            .arg(sidecars.to_string())
            .args(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.expect("starts");
        let output = child.stdout.take().expect("a pipe");
        let line = BufReader::new(output).lines().next_line().await;
        assert_eq!(line.expect("readable").as_deref(), Some("connected"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        if round == 1 {
            let used = resident() - before;
            let each = used / u64::try_from(sidecars).expect("small");
            println!(
                "{sidecars} sidecars with {CLUSTERS} clusters each: {used} KiB, {each} KiB each"
            );
        }
        child.kill().await.expect("stops");
        while !server.connections().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        before = resident();
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let args: Vec<String> = env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [_, "sidecars", address, count, folder @ ..] = args.as_slice() {
        let (address, count) = (address.parse(), count.parse());
        let (address, count) = (address.expect("an address"), count.expect("a number"));
        let folder = folder.first().map(|folder| Arc::from(Path::new(folder)));
        runtime.block_on(sidecars(address, count, folder));
        return;
    }
    let count = args.iter().find_map(|arg| arg.parse().ok());
    runtime.block_on(measure(count.unwrap_or(500), args.contains(&"tls")));
}
