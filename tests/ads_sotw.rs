//! State-of-the-world ADS over a real connection.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use isthmus::model::TypeUrl;
use isthmus::server::Config;
use isthmus::testing::ads_server::{AdsServer, requests};
use isthmus::testing::ads_stream::{rejection, sotw};
use isthmus::testing::ads_world::{FakeWorld, Response, config_change, endpoint_change};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::RouteConfiguration;
const WEB: &str = "outbound|80||web.ns";
const NEW: &str = "outbound|80||new.ns";

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn open(server: &AdsServer, first: DiscoveryRequest) -> Self {
        let url = format!("http://{}", server.address);
        let channel = AggregatedDiscoveryServiceClient::connect(url).await;
        let mut channel = channel.expect("connects");
        let (requests, stream) = requests();
        requests.send(first).await.expect("room");
        let responses = channel.stream_aggregated_resources(stream);
        let responses = responses.await.expect("opens").into_inner();
        Self {
            requests,
            responses,
        }
    }

    async fn next(&mut self) -> Result<Response, Status> {
        let message = timeout(PATIENCE, self.responses.message());
        let message = message.await.expect("an answer in time")?;
        Ok(message.expect("a response before the end").into())
    }

    async fn reply(&self, request: DiscoveryRequest, last: &Response) {
        let request = DiscoveryRequest {
            node: None,
            response_nonce: last.nonce.clone(),
            version_info: last.version.clone(),
            ..request
        };
        self.requests.send(request).await.expect("stream is open");
    }

    /// The next response, answered by an ACK with `names`.
    async fn expect(&mut self, kind: TypeUrl, names: &[&str]) -> Response {
        let response = self.next().await.expect("a response");
        assert_eq!(response.type_url, kind.as_str());
        self.reply(sotw(kind, names), &response).await;
        response
    }
}

fn server() -> AdsServer {
    let world = FakeWorld::with(&[(CDS, WEB), (EDS, WEB), (LDS, "l"), (RDS, "80")]);
    AdsServer::start(world, Config::default()).expect("listens")
}

#[tokio::test]
async fn a_client_gets_what_exists_and_then_what_changes_in_order() {
    let server = server();
    let mut client = Client::open(&server, sotw(CDS, &[])).await;
    client.expect(CDS, &[]).await;
    client.requests.send(sotw(EDS, &[WEB])).await.expect("open");
    client.expect(EDS, &[WEB]).await;
    client.requests.send(sotw(LDS, &[])).await.expect("open");
    client.expect(LDS, &[]).await;
    client
        .requests
        .send(sotw(RDS, &["80"]))
        .await
        .expect("open");
    client.expect(RDS, &["80"]).await;

    server.change(config_change(), |world| {
        world.set(CDS, NEW, "1");
        world.set(RDS, "80", "to new");
        world.set(LDS, "l", "2");
    });
    assert_eq!(client.expect(CDS, &[]).await.names(), [NEW, WEB]);
    assert_eq!(client.expect(LDS, &[]).await.contents(), ["l=2"]);
    assert_eq!(client.expect(RDS, &["80"]).await.contents(), ["80=to new"]);
    server.change(endpoint_change(&["web.ns"]), |world| {
        world.set(EDS, WEB, "2");
    });
    assert_eq!(
        client.expect(EDS, &[WEB]).await.contents(),
        [format!("{WEB}=2")]
    );
}

#[tokio::test]
async fn a_rejection_is_recorded_and_the_stream_goes_on() {
    let server = server();
    let mut client = Client::open(&server, sotw(CDS, &[])).await;
    let response = client.next().await.expect("a response");
    let nack = DiscoveryRequest {
        error_detail: rejection(),
        ..sotw(CDS, &[])
    };
    client.reply(nack, &response).await;
    server.change(config_change(), |world| world.set(CDS, NEW, "1"));
    // One answer may cross the rejection; the next one shows it was taken.
    let response = client.next().await.expect("a response");
    assert_eq!(response.names(), [NEW, WEB]);
    let open = server.connections().list();
    let (_, status) = open[0].status().remove(0);
    assert_eq!(status.error.as_deref(), Some("13: no\\nthanks"));
    assert_eq!(&*open[0].proxy.name, "web-1");
    client.reply(sotw(CDS, &[]), &response).await;
}

#[tokio::test]
async fn a_health_report_before_the_first_request_does_no_harm() {
    let server = server();
    let report = DiscoveryRequest {
        type_url: "type.googleapis.com/istio.v1.HealthInformation".to_owned(),
        ..DiscoveryRequest::default()
    };
    let mut client = Client::open(&server, report).await;
    client.requests.send(sotw(CDS, &[])).await.expect("open");
    assert_eq!(client.expect(CDS, &[]).await.names(), [WEB]);
}

#[tokio::test]
async fn an_unknown_type_is_met_with_silence() {
    let server = server();
    let unknown = DiscoveryRequest {
        type_url: "istio.io/connect".to_owned(),
        ..sotw(CDS, &[])
    };
    let mut client = Client::open(&server, unknown).await;
    client.requests.send(sotw(CDS, &[])).await.expect("open");
    assert_eq!(client.expect(CDS, &[]).await.names(), [WEB]);
}

#[tokio::test]
async fn connections_that_are_too_old_are_told_to_go() {
    let config = Config {
        max_age: Some(Duration::from_millis(50)),
        grace: Duration::from_millis(50),
        ..Config::default()
    };
    let world = FakeWorld::with(&[(CDS, WEB)]);
    let server = AdsServer::start(world, config).expect("listens");
    let mut client = Client::open(&server, sotw(CDS, &[])).await;
    client.expect(CDS, &[]).await;
    assert!(client.next().await.is_err());
    let mut client = Client::open(&server, sotw(CDS, &[])).await;
    client.expect(CDS, &[]).await;
}

#[tokio::test]
async fn too_many_new_streams_are_refused() {
    let config = Config {
        streams_per_second: Some(2.0),
        ..Config::default()
    };
    let world = FakeWorld::with(&[(CDS, WEB)]);
    let server = AdsServer::start(world, config).expect("listens");
    let mut refused = 0;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Client::open(&server, sotw(CDS, &[])).await);
    }
    for client in &mut open {
        if let Err(status) = client.next().await {
            assert_eq!(status.code(), Code::ResourceExhausted);
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused} refused");
}
