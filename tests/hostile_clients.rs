//! Clients that send nonsense, too much, or read nothing, against the running
//! binary: each costs itself only.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod plane;
    pub(crate) mod shop;
    pub(crate) mod watcher;
}

use std::{collections::HashMap, convert::Infallible, fs, path::Path, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::{
        protobuf::{ListValue, Struct, Value, value::Kind},
        rpc,
    },
};
use futures::{StreamExt, future::join_all, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use support::{
    plane::Plane,
    shop::{cluster, marker},
    watcher::{Watcher, proxy},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

/// Longer than anything here takes, on two busy cores without optimisation.
const LIMIT: Duration = Duration::from_mins(3);
const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

struct World {
    folder: TempDir,
    plane: Plane,
    good: Watcher,
    state: u8,
}

fn write(folder: &Path, file: &str, text: &str) {
    let beside = folder.join("new");
    fs::write(&beside, text).expect("a written file");
    fs::rename(beside, folder.join(file)).expect("a renamed file");
}

impl World {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "all.yaml", &cluster(1));
        let mut plane = Plane::launch(|command| {
            command
                .args(["--cluster-dir", "c1=."])
                // A test that computes for long is no dead peer.
                .args(["--keepaliveTimeout", "3m"])
                .args(flags)
                .current_dir(folder.path());
        });
        plane.wait_ready().await;
        let good = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web", "marker"]).await;
        Self {
            folder,
            plane,
            good,
            state: 1,
        }
    }

    async fn stream(&self) -> Client {
        self.stream_with(2 << 20).await
    }

    /// A stream whose client has room for so many bytes that it did not read.
    async fn stream_with(&self, window: u32) -> Client {
        let url = format!("http://{}", self.plane.ads());
        let endpoint = Endpoint::from_shared(url).expect("a url");
        let channel = endpoint.initial_stream_window_size(window).connect().await;
        let (requests, stream) = mpsc::channel(64);
        let mut channel = AggregatedDiscoveryServiceClient::new(channel.expect("a connection"))
            .max_decoding_message_size(usize::MAX);
        let responses = channel.delta_aggregated_resources(ReceiverStream::new(stream));
        let responses = timeout(LIMIT, responses).await.expect("in time");
        Client {
            requests,
            responses: responses.expect("a stream").into_inner(),
        }
    }

    /// The good client still hears of changes.
    async fn assert_well(&mut self) {
        self.state += 1;
        let slice = marker(1, self.state).replace("marker-1", "marker-2");
        write(self.folder.path(), "marker.yaml", &slice);
        let address = format!("10.1.9.{}:8080", self.state);
        self.good
            .until("marker", |e| e.contains_key(&address))
            .await;
        let log = self.plane.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Waits until a metric is at least `least`.
    async fn until_metric(&self, name: &str, least: f64) {
        self.until(name, |value| value >= least).await;
    }

    async fn until(&self, name: &str, done: impl Fn(f64) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let value = self.plane.metric(name).await;
            if value.is_some_and(&done) {
                return;
            }
            let log = self.plane.log();
            assert!(Instant::now() < end, "{name} is {value:?}\n{log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_named(&self, reason: &str) {
        let label = format!("isthmus_offenders{{reason=\"{reason}\",proxy=\"bad.shop\"}}");
        self.until_metric(&label, 1.0).await;
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.plane.pid()));
        let status = status.expect("a status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let number = line.and_then(|l| l.trim().split(' ').next());
        number.and_then(|n| n.parse().ok()).expect("a number")
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    /// Sends, unless the stream has ended.
    async fn send(&self, request: DeltaDiscoveryRequest) {
        let _ = timeout(LIMIT, self.requests.send(request)).await;
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = timeout(LIMIT, self.responses.message()).await;
        let next = next.expect("an answer in time")?;
        next.ok_or_else(|| Status::ok("the end"))
    }
}

/// Services that nobody else watches: about a kilobyte of clusters each.
fn filler() -> String {
    let services = (0..300).map(|n| {
        let name = format!("filler-{n}");
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
             spec: {{clusterIP: 10.77.{}.{}, ports: [{{name: http, port: 80}}]}}}}\n",
            n / 200,
            n % 200 + 1
        )
    });
    services.collect::<Vec<_>>().join("---\n")
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

fn list(values: Vec<Value>) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue { values })),
    }
}

fn object(fields: HashMap<String, Value>) -> Value {
    Value {
        kind: Some(Kind::StructValue(Struct { fields })),
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(text("core"), |inner, _| list(vec![inner]))
}

const ID: &str = "sidecar~10.9.9.8~bad.shop~shop.svc.cluster.local";

fn first(id: &str, metadata: HashMap<String, Value>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: id.to_owned(),
            metadata: Some(Struct { fields: metadata }),
            ..Node::default()
        }),
        type_url: CDS.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn subscribe(type_url: &str, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    }
}

/// Metadata keys that mean something.
const KEYS: &[&str] = &[
    "CLUSTER_ID",
    "NAMESPACE",
    "NETWORK",
    "INTERCEPTION_MODE",
    "LABELS",
    "PROXY_CONFIG",
    "INSTANCE_IPS",
    "REQUESTED_NETWORK_VIEW",
    "ISTIO_VERSION",
    "NODE_NAME",
    "POD_PORTS",
    "HTTP_PROXY_PORT",
    "UNPRIVILEGED_POD",
    "MESH_ID",
    "GENERATOR",
    "DNS_CAPTURE",
    "HTTP10",
    "IDLE_TIMEOUT",
    "ROUTER_MODE",
    "OWNER",
    "WORKLOAD_NAME",
    "SERVICE_ACCOUNT",
    "NAME",
];

#[tokio::test]
async fn metadata_of_any_shape_is_served_or_refused() {
    let mut world = World::start().await;
    let number = Value {
        kind: Some(Kind::NumberValue(f64::NAN)),
    };
    let shapes = [
        Value { kind: None },
        number,
        Value {
            kind: Some(Kind::BoolValue(true)),
        },
        Value {
            kind: Some(Kind::NullValue(99)),
        },
        text(""),
        text("\u{0}\n\r\u{1b}[31m\u{202e}"),
        text(&"x".repeat(256 << 10)),
        list(vec![list(vec![]), text("a"), Value { kind: None }]),
        object(HashMap::from([("a".to_owned(), nested(5))])),
        nested(30),
    ];
    for shape in shapes {
        let all = KEYS.iter().map(|&key| (key.to_owned(), shape.clone()));
        let mut client = world.stream().await;
        client.send(first(ID, all.collect())).await;
        match client.next().await {
            Ok(response) => assert_eq!(response.type_url, CDS),
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status:?}"),
        }
    }
    world.assert_well().await;
}

#[tokio::test]
async fn bad_ids_and_messages_end_their_own_stream() {
    let mut world = World::start().await;
    let long = format!("sidecar~10.9.9.8~{}.shop~x", "x".repeat(256 << 10));
    let forged = "sidecar~10.9.9.8~bad\n2026 ERROR forged\u{1b}[2J.shop~shop.svc.cluster.local";
    for id in [
        "",
        "~~~",
        "a~b~c~d",
        "sidecar~300.1.1.1~a.b~c",
        "sidecar~~a.b~c",
        &long,
    ] {
        let mut client = world.stream().await;
        client.send(first(id, HashMap::new())).await;
        let status = client.next().await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().len() < 1000, "{}", status.message().len());
    }
    // Served or not, it writes no lines of its own into the log.
    let mut client = world.stream().await;
    client.send(first(forged, HashMap::new())).await;
    let _ = client.next().await;
    // Deeper than any decoder goes.
    let mut client = world.stream().await;
    let deep = HashMap::from([("LABELS".to_owned(), nested(120))]);
    client.send(first(ID, deep)).await;
    let status = client.next().await.expect_err("refused");
    assert_ne!(status.code(), Code::Unknown, "{status:?}");
    // Larger than any request may be.
    let mut client = world.stream().await;
    client.send(first(ID, HashMap::new())).await;
    client.next().await.expect("clusters");
    let name = "x".repeat(70 << 20);
    client.send(subscribe(EDS, vec![name])).await;
    let status = client.next().await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    world.assert_well().await;
    let log = world.plane.log();
    assert!(
        !log.lines()
            .any(|line| line.starts_with("2026 ERROR forged")),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[tokio::test]
async fn unknown_types_and_names_do_no_harm() {
    let mut world = World::start().await;
    let mut client = world.stream().await;
    client.send(first(ID, HashMap::new())).await;
    client.next().await.expect("clusters");
    for unknown in [
        "type.googleapis.com/nobody.Knows",
        "no url",
        "\u{0}",
        &"x".repeat(100_000),
    ] {
        client.send(subscribe(unknown, vec!["a".to_owned()])).await;
    }
    // 20,000 names: of clusters that are not there, and of no cluster.
    let before = world.memory();
    let shaped = (0..10_000).map(|n| format!("outbound|80||none-{n}.shop.svc.cluster.local"));
    let unshaped = (0..10_000).map(|n| format!("garbage {n}"));
    client
        .send(subscribe(EDS, shaped.chain(unshaped).collect()))
        .await;
    let mut told = 0;
    while told < 20_000 {
        let response = client.next().await.expect("an answer");
        assert_eq!(response.type_url, EDS);
        told += response.resources.len() + response.removed_resources.len();
    }
    assert_eq!(told, 20_000);
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    world.assert_well().await;
}

/// One request after another, none of which waits for an answer.
#[tokio::test]
async fn a_flood_of_requests_starves_nobody() {
    let mut world = World::start().await;
    let before = world.memory();
    let flooder = world.stream().await;
    flooder.send(first(ID, HashMap::new())).await;
    let name = "outbound|80||web.shop.svc.cluster.local".to_owned();
    for n in 0..20_000 {
        let mut request = subscribe(EDS, vec![name.clone()]);
        if n % 2 == 1 {
            request.resource_names_unsubscribe =
                std::mem::take(&mut request.resource_names_subscribe);
        }
        if timeout(Duration::from_millis(200), flooder.requests.send(request))
            .await
            .is_err()
        {
            // It is made to wait: that is as good.
            break;
        }
    }
    world.assert_well().await;
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// A client that reads nothing while a thousand changes happen.
#[tokio::test]
async fn a_client_that_does_not_read_costs_no_memory() {
    let mut world = World::start().await;
    write(world.folder.path(), "filler.yaml", &filler());
    let mut slow = Vec::new();
    for _ in 0..5 {
        let client = world.stream().await;
        client.send(first(ID, HashMap::new())).await;
        let names = (0..300).map(|n| format!("outbound|80||filler-{n}.shop.svc.cluster.local"));
        let names = names.chain(["outbound|80||marker.shop.svc.cluster.local".to_owned()]);
        client.send(subscribe(EDS, names.collect())).await;
        slow.push(client);
    }
    world.assert_well().await;
    let before = world.memory();
    for round in 0..1_000_u32 {
        let slice = marker(1, u8::try_from(round % 200 + 20).expect("small"));
        write(
            world.folder.path(),
            "many.yaml",
            &slice.replace("marker-1", "marker-3"),
        );
    }
    world.assert_well().await;
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    // It reads at last, and finds the newest.
    let mut client = slow.pop().expect("a client");
    let newest = client.next().await.expect("clusters");
    assert_eq!(newest.type_url, CDS);
}

#[tokio::test]
async fn a_reconnecting_client_hears_what_changed_while_it_was_away() {
    let mut world = World::start().await;
    let mut client = world.stream().await;
    client.send(first(ID, HashMap::new())).await;
    let clusters = client.next().await.expect("clusters");
    let held = clusters
        .resources
        .iter()
        .map(|r| (r.name.clone(), r.version.clone()));
    let mut held: HashMap<String, String> = held.collect();
    // Half-closed, the stream ends and nothing is left of it.
    let Client {
        requests,
        mut responses,
    } = client;
    drop(requests);
    while let Ok(Some(_)) = timeout(LIMIT, responses.message()).await.expect("an end") {}
    held.insert(
        "outbound|80||gone.shop.svc.cluster.local".to_owned(),
        "1".to_owned(),
    );
    let missed = "outbound|80||web.shop.svc.cluster.local";
    assert!(held.remove(missed).is_some());
    let mut client = world.stream().await;
    client
        .send(DeltaDiscoveryRequest {
            initial_resource_versions: held,
            ..first(ID, HashMap::new())
        })
        .await;
    let (mut told, mut removed) = (Vec::new(), Vec::new());
    while told.is_empty() || removed.is_empty() {
        let response = client.next().await.expect("an answer");
        assert_eq!(response.type_url, CDS);
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        client.send(ack).await;
        told.extend(response.resources.into_iter().map(|r| r.name));
        removed.extend(response.removed_resources);
    }
    assert_eq!(told, [missed]);
    assert_eq!(removed, ["outbound|80||gone.shop.svc.cluster.local"]);
    world.assert_well().await;
}

/// Times are short here: five seconds for what takes five minutes by default.
const IMPATIENT: &[&str] = &["--send-timeout", "5s"];

#[tokio::test]
async fn a_client_that_never_reads_is_named_and_closed() {
    let mut world = World::start_with(IMPATIENT).await;
    write(world.folder.path(), "filler.yaml", &filler());
    world.assert_well().await;
    let mut client = world.stream_with(1024).await;
    client.send(first(ID, HashMap::new())).await;
    world.until_metric("isthmus_slow_streams", 1.0).await;
    world.until_named("slow").await;
    world.assert_well().await;
    world.plane.logged("no response was taken for 5s").await;
    world
        .until("isthmus_slow_streams", |count| count == 0.0)
        .await;
    let status = client.next().await.expect_err("an end");
    assert_ne!(status.code(), Code::Ok, "{status:?}");
    world.assert_well().await;
}

/// A stream whose client lets itself be sent a byte each time it reads.
async fn trickle(world: &World, tasks: &mut JoinSet<()>) -> Incoming {
    let socket = TcpStream::connect(world.plane.ads()).await;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(socket.expect("a connection")))
        .await
        .expect("HTTP/2");
    tasks.spawn(async move {
        // The server ends it.
        let _ = connection.await;
    });
    let message = first(ID, HashMap::new()).encode_to_vec();
    let length = u32::try_from(message.len()).expect("small");
    let framed = [&[0][..], &length.to_be_bytes(), &message].concat();
    let framed = Ok::<_, Infallible>(Frame::data(Bytes::from(framed)));
    let body = StreamBody::new(stream::iter([framed]).chain(stream::pending()));
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let request = http::Request::post(format!("http://{}{path}", world.plane.ads()))
        .header("content-type", "application/grpc")
        .body(Box::pin(body));
    let response = sender.send_request(request.expect("a request")).await;
    response.expect("a response").into_body()
}

#[tokio::test]
async fn a_client_that_reads_a_byte_a_second_is_named_and_closed() {
    let mut world = World::start_with(IMPATIENT).await;
    write(world.folder.path(), "filler.yaml", &filler());
    world.assert_well().await;
    let mut tasks = JoinSet::new();
    let mut body = trickle(&world, &mut tasks).await;
    tasks.spawn(async move {
        while let Some(Ok(_)) = body.frame().await {
            sleep(Duration::from_secs(1)).await;
        }
    });
    world.until_named("slow").await;
    world.assert_well().await;
    // Both its tasks end when it is closed.
    let closed = timeout(LIMIT, async { while tasks.join_next().await.is_some() {} });
    closed.await.expect("closed in time");
    world.assert_well().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_with_a_status() {
    let mut world = World::start_with(IMPATIENT).await;
    let mut client = world.stream().await;
    let status = client.next().await.expect_err("an end");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let named = "isthmus_offenders{reason=\"silent\",proxy=\"127.0.0.1\"}";
    world.until_metric(named, 1.0).await;
    world.assert_well().await;
}

#[tokio::test]
async fn a_client_that_acks_nothing_is_named_and_gets_the_newest_when_it_does() {
    let mut world = World::start_with(IMPATIENT).await;
    let mut client = world.stream().await;
    let of_network = [("CLUSTER_ID", "c1"), ("NETWORK", "n1")];
    let of_network = of_network.map(|(key, value)| (key.to_owned(), text(value)));
    let marker = "outbound|80||marker.shop.svc.cluster.local".to_owned();
    client
        .send(DeltaDiscoveryRequest {
            type_url: EDS.to_owned(),
            resource_names_subscribe: vec![marker],
            ..first(ID, HashMap::from(of_network))
        })
        .await;
    let unanswered = client.next().await.expect("endpoints");
    for _ in 0..5 {
        world.assert_well().await;
    }
    world.until_named("no_ack").await;
    world.assert_well().await;
    client.send(answer(&unanswered, None)).await;
    let newest = client.next().await.expect("endpoints");
    let body = newest.resources[0].resource.as_ref().expect("a body");
    let address = format!("10.1.9.{}", world.state);
    let has = body
        .value
        .windows(address.len())
        .any(|part| part == address.as_bytes());
    assert!(has, "not {address}: {newest:?}");
    assert_eq!(newest.resources.len(), 1);
}

fn answer(response: &DeltaDiscoveryResponse, error: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: error.map(|message| rpc::Status {
            code: 3,
            message: message.to_owned(),
            ..rpc::Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_client_that_rejects_everything_is_named_and_sent_nothing_again() {
    let mut world = World::start().await;
    let mut client = world.stream().await;
    client.send(first(ID, HashMap::new())).await;
    let response = client.next().await.expect("clusters");
    let pushes = "pilot_xds_pushes{type=\"cds\"}";
    let before = world.plane.metric(pushes).await;
    for _ in 0..2_000 {
        client.send(answer(&response, Some("never"))).await;
    }
    world.until_named("nack").await;
    world
        .until_metric("pilot_total_xds_rejects{type=\"cds\"}", 2_000.0)
        .await;
    world.assert_well().await;
    assert_eq!(world.plane.metric(pushes).await, before);
    // Its words are told ten times a second, not two thousand times.
    let told = world
        .plane
        .log()
        .matches("response rejected by proxy")
        .count();
    assert!(told < 200, "{told} lines");
}

#[tokio::test]
async fn a_hundred_thousand_names_are_answered_and_more_are_refused() {
    let mut world = World::start().await;
    let mut client = world.stream().await;
    client.send(first(ID, HashMap::new())).await;
    let clusters = client.next().await.expect("clusters");
    client.send(answer(&clusters, None)).await;
    let before = world.memory();
    let name = |n: u32| format!("outbound|80||none-{n}.shop.svc.cluster.local");
    client
        .send(subscribe(EDS, (0..100_000).map(name).collect()))
        .await;
    let mut told = 0;
    while told < 100_000 {
        let response = client.next().await.expect("an answer");
        told += response.resources.len();
        client.send(answer(&response, None)).await;
    }
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 128 << 10, "{grown} KiB");
    world.assert_well().await;
    client
        .send(subscribe(EDS, (100_000..300_000).map(name).collect()))
        .await;
    let status = client.next().await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    world.until_named("too_many_names").await;
    world.assert_well().await;
}

#[tokio::test]
async fn a_client_that_reconnects_all_the_time_is_named_and_held_off() {
    let mut world = World::start().await;
    let (mut served, mut refused) = (0, 0);
    for _ in 0..100 {
        let mut client = world.stream().await;
        client.send(first(ID, HashMap::new())).await;
        match client.next().await {
            Ok(_) => served += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(status.message().contains("wait a second"), "{status:?}");
                refused += 1;
            }
        }
    }
    // A slow machine gives it one more each second.
    assert!(served >= 30, "{served} served, {refused} refused");
    if refused > 0 {
        world.until_named("reconnects").await;
    }
    world.assert_well().await;
}

#[tokio::test]
async fn a_mesh_that_reconnects_at_once_is_served_and_nobody_refused() {
    let mut world = World::start().await;
    let coming = (0..100).map(async |n| {
        let mut client = world.stream().await;
        let id = format!(
            "sidecar~10.9.{}.{}~web-{n}.shop~shop.svc.cluster.local",
            n / 50,
            n % 50
        );
        client.send(first(&id, HashMap::new())).await;
        let clusters = client.next().await.expect("clusters");
        client.send(answer(&clusters, None)).await;
        let names = clusters.resources.into_iter().map(|cluster| cluster.name);
        client
            .send(subscribe(
                EDS,
                names.filter(|n| n.starts_with("outbound")).collect(),
            ))
            .await;
        let endpoints = client.next().await.expect("endpoints");
        assert!(!endpoints.resources.is_empty(), "{endpoints:?}");
        client
    });
    let clients = join_all(coming).await;
    assert_eq!(clients.len(), 100);
    world.assert_well().await;
}
