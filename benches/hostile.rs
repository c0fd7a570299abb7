//! What clients with bad manners cost the others.
//!
//! A hundred sidecars on real connections watch 20 services; one of these
//! changes every 20 ms. Printed are the times from the publish to each sidecar,
//! without and with each kind of offender beside them. Offenders have a thread of
//! their own, so that no sidecar waits for one to do its work; but that thread,
//! the sidecars' and the server's share the machine's cores.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and print"
)]

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use envoy_types::pb::google::rpc;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use isthmus::model::TypeUrl;
use isthmus::server::Config;
use isthmus::testing::ads_server::AdsServer;
use isthmus::testing::ads_world::{FakeWorld, endpoint_change};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

const SIDECARS: usize = 100;
const SERVICES: usize = 300;
const WATCHED: usize = 20;
const CHANGES: usize = 500;
const GAP: Duration = Duration::from_millis(20);
const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

fn host(n: usize) -> String {
    format!("service-{n:03}.shop.svc.cluster.local")
}

fn name(n: usize) -> String {
    format!("outbound|8080||{}", host(n))
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// Times of publishes, and how long after them sidecars had the news.
#[derive(Default)]
struct Clock {
    published: Mutex<Vec<Instant>>,
    seen: Mutex<Vec<Duration>>,
}

impl Clock {
    fn see(&self, response: &DeltaDiscoveryResponse) {
        let now = Instant::now();
        for resource in &response.resources {
            let body = resource.resource.as_ref().map(|body| &*body.value);
            let body = String::from_utf8_lossy(body.unwrap_or_default());
            let number = body.rsplit('=').next().and_then(|n| n.parse().ok());
            let published = number.and_then(|n: usize| self.published.lock().get(n).copied());
            self.seen.lock().extend(published.map(|at| now - at));
        }
    }

    /// Median, 99th percentile and maximum since the last call, in milliseconds.
    fn take(&self) -> [f64; 3] {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        seen.sort();
        let at = |part: usize| {
            let index = (seen.len() * part / 100).min(seen.len().saturating_sub(1));
            seen.get(index).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        [at(50), at(99), at(100)]
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

fn first(who: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: format!("sidecar~10.9.9.9~{who}.shop~shop.svc.cluster.local"),
            ..Node::default()
        }),
        type_url: CDS.as_str().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

impl Client {
    /// A stream of `who`, with room for `window` bytes.
    async fn open(address: &str, who: &str, window: u32) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a url");
        let channel = endpoint.initial_stream_window_size(window).connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut channel = AggregatedDiscoveryServiceClient::new(channel);
        let (requests, stream) = mpsc::channel(64);
        let _ = requests.send(first(who)).await;
        let responses = channel.delta_aggregated_resources(ReceiverStream::new(stream));
        let responses = responses.await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    async fn subscribe(&self, names: Vec<String>) {
        let request = DeltaDiscoveryRequest {
            type_url: EDS.as_str().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        let _ = self.requests.send(request).await;
    }

    async fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        self.responses.message().await.ok().flatten()
    }

    async fn answer(&self, response: DeltaDiscoveryResponse, good: bool) {
        let error = rpc::Status {
            code: 3,
            message: "never".to_owned(),
            ..rpc::Status::default()
        };
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: (!good).then_some(error),
            ..DeltaDiscoveryRequest::default()
        };
        let _ = self.requests.send(request).await;
    }
}

async fn sidecar(address: String, number: usize, clock: Arc<Clock>, up: mpsc::Sender<()>) {
    let client = Client::open(&address, &format!("good-{number}"), 1 << 20).await;
    let mut client = client.expect("a stream");
    client.subscribe(names(WATCHED)).await;
    while let Some(response) = client.next().await {
        clock.see(&response);
        if response.type_url == EDS.as_str() {
            let _ = up.try_send(());
        }
        client.answer(response, true).await;
    }
}

#[derive(Debug, Clone, Copy)]
enum Offender {
    ReadsNothing,
    ReadsAByteASecond,
    AcksNothing,
    NacksEverything,
    HundredThousandNames,
    Reconnects,
    Storm,
}

const OFFENDERS: [(Offender, usize, &str); 7] = [
    (Offender::ReadsNothing, 20, "20 read nothing"),
    (Offender::ReadsAByteASecond, 20, "20 read a byte a second"),
    (Offender::AcksNothing, 20, "20 ACK nothing"),
    (
        Offender::NacksEverything,
        20,
        "20 NACK all, 100 times a second",
    ),
    (
        Offender::HundredThousandNames,
        1,
        "1 asks for 100,000 names, again and again",
    ),
    (Offender::Reconnects, 1, "1 reconnects 100 times a second"),
    (Offender::Storm, 300, "300 reconnect at once, every 2 s"),
];

impl Offender {
    async fn act(self, address: String, who: String) {
        match self {
            Self::ReadsNothing => {
                let client = Client::open(&address, &who, 1024).await;
                if let Ok(client) = &client {
                    client.subscribe(names(SERVICES)).await;
                }
                std::future::pending::<()>().await;
            }
            Self::ReadsAByteASecond => trickle(&address, &who).await,
            Self::AcksNothing => {
                let client = Client::open(&address, &who, 1 << 20).await;
                let mut client = client.expect("a stream");
                client.subscribe(names(SERVICES)).await;
                while client.next().await.is_some() {}
            }
            Self::NacksEverything => nack(&address, &who).await,
            Self::HundredThousandNames => many_names(&address, &who).await,
            Self::Reconnects => {
                let mut often = interval(Duration::from_millis(10));
                loop {
                    often.tick().await;
                    if let Ok(mut client) = Client::open(&address, &who, 1 << 20).await {
                        client.next().await;
                    }
                }
            }
            Self::Storm => loop {
                if let Ok(mut client) = Client::open(&address, &who, 1 << 20).await {
                    client.next().await;
                    client.subscribe(names(SERVICES)).await;
                    client.next().await;
                    sleep(Duration::from_secs(2)).await;
                }
            },
        }
    }
}

async fn nack(address: &str, who: &str) {
    let mut client = Client::open(address, who, 1 << 20).await.expect("a stream");
    let mut last = client.next().await.expect("a response");
    let mut often = interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            next = client.next() => match next {
                Some(next) => last = next,
                None => return,
            },
            _ = often.tick() => client.answer(last.clone(), false).await,
        }
    }
}

async fn many_names(address: &str, who: &str) {
    loop {
        let client = Client::open(address, who, 1 << 20).await;
        let Ok(mut client) = client else { continue };
        let names = (0..100_000).map(|n| format!("outbound|80||no-{n}.shop.svc.cluster.local"));
        client.subscribe(names.collect()).await;
        let mut told = 0;
        while told < 100_000
            && let Some(response) = client.next().await
        {
            if response.type_url == EDS.as_str() {
                told += response.resources.len();
            }
            client.answer(response, true).await;
        }
    }
}

async fn trickle(address: &str, who: &str) {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    let reading = async move {
        let message = first(who).encode_to_vec();
        let length = u32::try_from(message.len()).expect("small");
        let framed = [&[0][..], &length.to_be_bytes(), &message].concat();
        let framed = Ok::<_, Infallible>(Frame::data(Bytes::from(framed)));
        let body = StreamBody::new(stream::iter([framed]).chain(stream::pending()));
        let request = http::Request::post(format!("http://{address}{DELTA}"))
            .header("content-type", "application/grpc")
            .body(Box::pin(body));
        let response = sender.send_request(request.expect("a request")).await;
        let Ok(response) = response else { return };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::join!(connection, reading);
}

async fn churn(server: &AdsServer, clock: &Clock) -> [f64; 3] {
    clock.take();
    let mut ticks = interval(GAP);
    for n in 0..CHANGES {
        ticks.tick().await;
        let service = n % WATCHED;
        let number = clock.published.lock().len();
        clock.published.lock().push(Instant::now());
        let host = host(service);
        server.change(endpoint_change(&[&host]), |world| {
            world.set(EDS, &name(service), &number.to_string());
        });
    }
    sleep(Duration::from_secs(1)).await;
    clock.take()
}

fn runtime(threads: usize) -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

fn main() {
    let mut world = FakeWorld::default();
    for n in 0..SERVICES {
        world.set(CDS, &name(n), &"c".repeat(1000));
        world.set(EDS, &name(n), "endpoints");
    }
    let config = Config {
        reconnect_burst: Some(30),
        ..Config::default()
    };
    let [serving, good, bad] = [2, 1, 1].map(runtime);
    let server = {
        let _inside = serving.enter();
        AdsServer::start(world, config).expect("listens")
    };
    let address = server.address.to_string();
    let clock = Arc::new(Clock::default());
    good.block_on(async {
        let mut sidecars = JoinSet::new();
        let (up, mut is_up) = mpsc::channel(SIDECARS);
        for n in 0..SIDECARS {
            sidecars.spawn(sidecar(address.clone(), n, Arc::clone(&clock), up.clone()));
        }
        for _ in 0..SIDECARS {
            is_up.recv().await.expect("a sidecar");
        }
        println!(
            "{:40} {:>9} {:>9} {:>6} {:>9}",
            "", "p50 ms", "p99 ms", "ratio", "max ms"
        );
        let [p50, alone, max] = churn(&server, &clock).await;
        println!("{:40} {p50:9.2} {alone:9.2} {:6.2} {max:9.2}", "alone", 1.0);
        for (offender, count, what) in OFFENDERS {
            let mut acting = JoinSet::new();
            for n in 0..count {
                let act = offender.act(address.clone(), format!("bad-{n}-{offender:?}"));
                acting.spawn_on(act, bad.handle());
            }
            let [p50, p99, max] = churn(&server, &clock).await;
            let ratio = p99 / alone;
            println!("{what:40} {p50:9.2} {p99:9.2} {ratio:6.2} {max:9.2}");
            acting.shutdown().await;
        }
    });
}
