//! Fan-out of one endpoint change to 1,000 subscribed streams.
//!
//! In process: the real stream task, session, gRPC framing and response body
//! of each stream, but no HTTP/2 and no socket. Each stream watches 300
//! clusters and their endpoints; a change touches the endpoints of one. Time
//! runs from the publish to the last stream's message being complete.

#![allow(clippy::expect_used, missing_docs, reason = "a bench may panic")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use isthmus::model::TypeUrl;
use isthmus::server::{Config, Peer, ResponseBody, Service};
use isthmus::testing::ads_server::Published;
use isthmus::testing::ads_stream::delta;
use isthmus::testing::ads_world::{FakeWorld, endpoint_change};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

const STREAMS: usize = 1000;
const CLUSTERS: usize = 300;
const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;

fn name(n: usize) -> String {
    format!("outbound|8080||service-{n:03}.namespace.svc.cluster.local")
}

/// A request body fed by a channel.
struct RequestBody(mpsc::Receiver<Bytes>);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The client's end of a stream.
struct Client {
    requests: mpsc::Sender<Bytes>,
    responses: ResponseBody,
    unread: BytesMut,
    /// ACKs to send when time does not run.
    unanswered: VecDeque<DeltaDiscoveryRequest>,
}

impl Client {
    fn open(service: &Service) -> Self {
        let (requests, body) = mpsc::channel(8);
        let path =
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .body(RequestBody(body));
        let peer = Peer::plaintext(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let response = service.respond(&peer, request.expect("a request"));
        Self {
            requests,
            responses: response.into_body(),
            unread: BytesMut::new(),
            unanswered: VecDeque::new(),
        }
    }

    async fn send(&mut self, request: &DeltaDiscoveryRequest) {
        let body = request.encode_to_vec();
        let length = u32::try_from(body.len()).expect("small");
        let framed = [&[0][..], &length.to_be_bytes(), &body].concat();
        self.requests.send(framed.into()).await.expect("open");
    }

    /// Reads until a message is complete.
    async fn receive(&mut self) -> Bytes {
        loop {
            if let Some(mut length) = self.unread.get(1..5) {
                let length = length.get_u32() as usize;
                if self.unread.len() >= 5 + length {
                    self.unread.advance(5);
                    return self.unread.split_to(length).freeze();
                }
            }
            let frame = self.responses.frame().await.expect("open");
            let frame = frame.expect("no error").into_data().expect("data");
            self.unread.extend_from_slice(&frame);
        }
    }

    fn note(&mut self, message: Bytes) {
        let response = DeltaDiscoveryResponse::decode(message).expect("decodes");
        self.unanswered.push_back(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        });
    }

    async fn answer(&mut self) {
        while let Some(ack) = self.unanswered.pop_front() {
            self.send(&ack).await;
        }
    }

    async fn subscribe(mut self, names: Vec<String>) -> Self {
        self.send(&delta(CDS)).await;
        let message = self.receive().await;
        self.note(message);
        let endpoints = DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            ..delta(EDS)
        };
        self.send(&endpoints).await;
        let message = self.receive().await;
        self.note(message);
        self.answer().await;
        self
    }
}

async fn connect(service: &Service) -> Vec<Client> {
    let names: Vec<String> = (0..CLUSTERS).map(name).collect();
    let mut opening = JoinSet::new();
    for _ in 0..STREAMS {
        opening.spawn(Client::open(service).subscribe(names.clone()));
    }
    opening.join_all().await
}

/// Publishes a change; the time until every client has its message.
async fn round(published: &Published, clients: &mut Vec<Client>, content: u64) -> Duration {
    let mut receiving = JoinSet::new();
    for mut client in clients.drain(..) {
        receiving.spawn(async move {
            let message = client.receive().await;
            let at = Instant::now();
            client.note(message);
            client.answer().await;
            (client, at)
        });
    }
    // Every client waits, every ACK of the last round is taken.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let host = "service-007.namespace.svc.cluster.local";
    let start = Instant::now();
    published.change(endpoint_change(&[host]), |world| {
        world.set(EDS, &name(7), &format!("{content:0>900}"));
    });
    let mut last = start;
    for (client, at) in receiving.join_all().await {
        clients.push(client);
        last = last.max(at);
    }
    last - start
}

fn fanout(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut world = FakeWorld::default();
    for n in 0..CLUSTERS {
        world.set(CDS, &name(n), "cluster");
        world.set(EDS, &name(n), "endpoints");
    }
    let published = Published::new(world, Config::default());
    let service = Service::new(Arc::clone(&published.state));
    let mut clients = runtime.block_on(async { connect(&service).await });
    let mut content = 0;
    c.bench_function("one endpoint change to 1000 streams", |bench| {
        bench.iter_custom(|rounds| {
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                content += 1;
                sum += runtime.block_on(round(&published, &mut clients, content));
            }
            sum
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = fanout
}
criterion_main!(benches);
