//! Incremental ADS over a real connection.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use isthmus::model::TypeUrl;
use isthmus::server::Config;
use isthmus::testing::ads_server::{AdsServer, requests};
use isthmus::testing::ads_world::{FakeWorld, Response, config_change, endpoint_change, node};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const LDS: TypeUrl = TypeUrl::Listener;
const WEB: &str = "outbound|80||web.default.svc.cluster.local";
const WEB_HOST: &str = "web.default.svc.cluster.local";

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    /// Opens a stream with `first` as its first request.
    async fn open(server: &AdsServer, first: DeltaDiscoveryRequest) -> Result<Self, Status> {
        let url = format!("http://{}", server.address);
        let channel = AggregatedDiscoveryServiceClient::connect(url).await;
        let mut channel = channel
            .expect("connects")
            .max_decoding_message_size(usize::MAX);
        let (requests, stream) = requests();
        requests.send(first).await.expect("room");
        let responses = channel.delta_aggregated_resources(stream).await?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.expect("stream is open");
    }

    async fn next(&mut self) -> Result<Response, Status> {
        let message = timeout(PATIENCE, self.responses.message());
        let message = message.await.expect("an answer in time")?;
        Ok(message.expect("a response before the end").into())
    }

    /// The next response, answered by an ACK.
    async fn expect(&mut self, kind: TypeUrl) -> Response {
        let response = self.next().await.expect("a response");
        assert_eq!(response.type_url, kind.as_str());
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
        response
    }

    async fn end(&mut self) -> Status {
        loop {
            match timeout(PATIENCE, self.responses.message())
                .await
                .expect("an end in time")
            {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

fn request(kind: TypeUrl, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.as_str().to_owned(),
        resource_names_subscribe: names.iter().map(|&n| n.to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn first(kind: TypeUrl, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node()),
        ..request(kind, names)
    }
}

fn world() -> FakeWorld {
    FakeWorld::with(&[(CDS, WEB), (EDS, WEB), (LDS, "0.0.0.0_80")])
}

fn server() -> AdsServer {
    AdsServer::start(world(), Config::default()).expect("listens")
}

#[tokio::test]
async fn a_client_gets_what_exists_and_then_what_changes() {
    let server = server();
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    assert_eq!(client.expect(CDS).await.names(), [WEB]);
    client.send(request(EDS, &[WEB])).await;
    assert_eq!(client.expect(EDS).await.names(), [WEB]);

    server.change(endpoint_change(&[WEB_HOST]), |world| {
        world.set(EDS, WEB, "2");
    });
    assert_eq!(client.expect(EDS).await.contents(), [format!("{WEB}=2")]);

    server.change(config_change(), |world| world.remove(CDS, WEB));
    let removal = client.expect(CDS).await;
    assert_eq!(
        (removal.names().len(), removal.removed),
        (0, vec![WEB.to_owned()])
    );
    server.stop().await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let server = server();
    let long = "x".repeat(40_000);
    server.change(config_change(), |world| {
        for n in 0..300 {
            let content = if n % 7 == 0 { &long } else { "small" };
            world.set(CDS, &format!("cluster-{n:03}"), content);
        }
    });
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    let response = client.expect(CDS).await;
    assert_eq!(response.resources.len(), 301);
    assert_eq!(response.resources[0].content, long);
    assert_eq!(response.resources[1].content, "small");
}

#[tokio::test]
async fn bad_first_requests_end_with_a_status_that_says_why() {
    let server = server();
    let with_id = |id: &str| DeltaDiscoveryRequest {
        node: Some(Node {
            id: id.to_owned(),
            ..Node::default()
        }),
        ..request(CDS, &[])
    };
    let untyped = DeltaDiscoveryRequest {
        type_url: String::new(),
        ..first(CDS, &[])
    };
    let cases = [
        (request(CDS, &[]), Code::InvalidArgument, "node"),
        (with_id(""), Code::InvalidArgument, "node"),
        (with_id("~~~"), Code::InvalidArgument, "type"),
        (
            with_id("sidecar~10.0.0.1~a.b"),
            Code::InvalidArgument,
            "parts",
        ),
        (
            with_id("robot~10.0.0.1~a.b~b.svc"),
            Code::InvalidArgument,
            "robot",
        ),
        (
            with_id("sidecar~10.0.0.999~a.b~b.svc"),
            Code::InvalidArgument,
            "IP",
        ),
        (
            with_id("ztunnel~10.0.0.1~a.b~b.svc"),
            Code::Unimplemented,
            "ztunnel",
        ),
        (untyped, Code::InvalidArgument, "type_url"),
    ];
    for (request, code, word) in cases {
        let mut client = Client::open(&server, request).await.expect("opens");
        let status = client.end().await;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(word), "{status:?}");
    }
    assert!(server.connections().is_empty());
}

#[tokio::test]
async fn nothing_is_served_before_the_sources_are_synced() {
    let server = server();
    server.set_ready(false);
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    let status = client.end().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "server is not ready to serve discovery information"
    );
}

#[tokio::test]
async fn a_client_that_sends_no_more_ends_its_stream() {
    let server = server();
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    client.expect(CDS).await;
    let (unused, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut client.requests, unused));
    assert_eq!(client.end().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_request_over_the_limit_ends_its_own_stream_only() {
    let config = Config {
        max_request_bytes: 100_000,
        ..Config::default()
    };
    let server = AdsServer::start(world(), config).expect("listens");
    let mut other = Client::open(&server, first(CDS, &[])).await.expect("opens");
    other.expect(CDS).await;
    let mut client = Client::open(&server, first(EDS, &[&"x".repeat(200_000)]))
        .await
        .expect("opens");
    assert_eq!(client.end().await.code(), Code::ResourceExhausted);
    other.send(request(EDS, &[WEB])).await;
    assert_eq!(other.expect(EDS).await.names(), [WEB]);
}

#[tokio::test]
async fn shutdown_ends_streams_and_returns() {
    let server = server();
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    client.expect(CDS).await;
    timeout(PATIENCE, server.stop())
        .await
        .expect("stops in time");
    assert_eq!(client.end().await.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_reconnect_is_answered_with_what_changed() {
    let server = server();
    server.change(config_change(), |world| world.set(CDS, "b", "1"));
    let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
    let held = client.expect(CDS).await;
    drop(client);
    server.change(config_change(), |world| {
        world.set(CDS, "b", "2");
        world.set(CDS, "c", "1");
    });
    let mut held: HashMap<_, _> = held
        .resources
        .into_iter()
        .map(|r| (r.name, r.version))
        .collect();
    held.insert("gone".to_owned(), "0123456789abcdef".to_owned());
    let again = DeltaDiscoveryRequest {
        initial_resource_versions: held,
        ..first(CDS, &[])
    };
    let mut client = Client::open(&server, again).await.expect("opens");
    assert_eq!(client.expect(CDS).await.contents(), ["b=2", "c=1"]);
    assert_eq!(client.expect(CDS).await.removed, ["gone"]);
}

#[tokio::test]
async fn two_streams_of_one_node_live_side_by_side() {
    let server = server();
    let mut old = Client::open(&server, first(CDS, &[])).await.expect("opens");
    old.expect(CDS).await;
    let mut new = Client::open(&server, first(CDS, &[])).await.expect("opens");
    new.expect(CDS).await;
    assert_eq!(server.connections().len(), 2);
    drop(old);
    server.change(config_change(), |world| world.set(CDS, "b", "1"));
    assert_eq!(new.expect(CDS).await.names(), ["b"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_gets_the_latest() {
    let server = server();
    let open = async || {
        let mut client = Client::open(&server, first(CDS, &[])).await.expect("opens");
        client.expect(CDS).await;
        client.send(request(EDS, &[WEB])).await;
        client.expect(EDS).await;
        client
    };
    let (mut slow, mut quick) = (open().await, open().await);
    let content = |n: usize| format!("{n}{}", "x".repeat(300_000));
    for n in 0..20 {
        server.change(endpoint_change(&[WEB_HOST]), |world| {
            world.set(EDS, WEB, &content(n));
        });
        let response = quick.expect(EDS).await;
        assert_eq!(response.resources[0].content, content(n));
    }
    let mut read = 0;
    while slow.expect(EDS).await.resources[0].content != content(19) {
        read += 1;
        assert!(read < 3, "changes coalesce");
    }
}
