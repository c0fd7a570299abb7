//! Streams without a network, whose clients have bad manners.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use futures::{FutureExt, future::poll_fn};
use http_body::{Body, Frame};
use prost::Message;
use tokio::{sync::mpsc, task::yield_now, time::advance};
use tonic::Code;

use super::*;
use crate::model::TypeUrl;
use crate::server::{Config, ResponseBody, Service};
use crate::testing::ads_server::Published;
use crate::testing::ads_stream::delta;
use crate::testing::ads_world::{FakeWorld, config_change, node};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const LIMIT: Duration = Duration::from_secs(100);

struct Requests(mpsc::Receiver<Bytes>);

impl Body for Requests {
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

struct World {
    published: Published,
    service: Service,
}

struct Client {
    requests: mpsc::Sender<Bytes>,
    body: ResponseBody,
    peer: Peer,
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = FakeWorld::default();
        world.set(CDS, "web", &"x".repeat(100_000));
        let published = Published::new(world, config);
        let service = Service::new(Arc::clone(&published.state));
        Self { published, service }
    }

    fn limited() -> Self {
        Self::new(Config {
            send_timeout: Some(LIMIT),
            ..Config::default()
        })
    }

    fn open(&self) -> Client {
        let (requests, body) = mpsc::channel(8);
        let request = http::Request::post(DELTA).header("content-type", "application/grpc");
        let peer = Peer::plaintext(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let request = request.body(Requests(body)).unwrap();
        let body = self.service.respond(&peer, request).into_body();
        Client {
            requests,
            body,
            peer,
        }
    }

    fn look(&self) {
        self.service.limits.monitor.look(Instant::now());
    }

    async fn look_after(&self, time: Duration) {
        advance(time).await;
        self.look();
    }

    fn count(&self, offence: Offence) -> i64 {
        self.published.state.metrics.offenders.count(offence)
    }

    fn slow(&self) -> i64 {
        self.published.state.metrics.slow_streams.value()
    }

    fn change(&self, content: &str) {
        self.published
            .change(config_change(), |world| world.set(CDS, "web", content));
    }
}

enum End {
    Data(Bytes),
    Status(Status),
}

impl Client {
    async fn send(&self, request: DeltaDiscoveryRequest) {
        let body = request.encode_to_vec();
        let length = u32::try_from(body.len()).unwrap();
        let framed = [&[0][..], &length.to_be_bytes(), &body].concat();
        self.requests.send(framed.into()).await.unwrap();
        // A task that never waits is made to.
        yield_now().await;
    }

    /// What the body has next, if it has anything.
    fn take(&mut self) -> Option<End> {
        let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.now_or_never()?.unwrap().unwrap();
        Some(match frame.into_data() {
            Ok(data) => End::Data(data),
            Err(trailers) => {
                let trailers = trailers.into_trailers().unwrap();
                End::Status(Status::from_header_map(&trailers).unwrap())
            }
        })
    }

    /// Takes what is there, which begins within a response; its bytes.
    fn drain(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(End::Data(data)) = self.take() {
            bytes += data.len();
        }
        bytes
    }

    /// The responses that are there.
    fn responses(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let mut bytes = Vec::new();
        while let Some(End::Data(data)) = self.take() {
            bytes.extend_from_slice(&data);
        }
        let mut rest = bytes.as_slice();
        let mut all = Vec::new();
        while let Some((head, tail)) = rest.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            all.push(DeltaDiscoveryResponse::decode(&tail[..length]).unwrap());
            rest = &tail[length..];
        }
        all
    }

    /// The status it ended with; what comes before is passed over.
    fn status(&mut self) -> Status {
        loop {
            match self.take().expect("an end") {
                End::Data(_) => {}
                End::Status(status) => return status,
            }
        }
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| RpcStatus {
                code: 3,
                message: message.to_owned(),
                ..RpcStatus::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_named_then_told_then_cut_off() {
    let world = World::limited();
    let mut client = world.open();
    client.send(delta(CDS)).await;
    // It takes the first bytes and no more.
    assert!(matches!(client.take(), Some(End::Data(_))));
    world.look_after(Duration::from_secs(19)).await;
    assert_eq!((world.slow(), world.count(Offence::Slow)), (0, 0));
    world.look_after(Duration::from_secs(2)).await;
    world.look_after(Duration::from_secs(1)).await;
    assert_eq!((world.slow(), world.count(Offence::Slow)), (1, 1));
    world.look_after(LIMIT).await;
    assert!(!client.peer.cut.is_cancelled());
    world.look_after(GRACE).await;
    assert!(client.peer.cut.is_cancelled());
    let status = client.status();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("does not read"), "{status}");
    drop(client);
    world.look();
    assert_eq!(world.slow(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_now_and_then_is_let_be() {
    let world = World::limited();
    world.change(&"y".repeat(1 << 20));
    world.published.change(config_change(), |world| {
        for n in 0..200 {
            world.set(CDS, &format!("web-{n}"), &"z".repeat(10_000));
        }
    });
    let mut client = world.open();
    client.send(delta(CDS)).await;
    for _ in 0..20 {
        assert!(matches!(client.take(), Some(End::Data(_))));
        world.look_after(LIMIT / 2).await;
    }
    assert!(client.drain() > 0);
    assert_eq!(world.count(Offence::Slow), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_no_slow_stream() {
    let world = World::limited();
    let mut client = world.open();
    client.send(delta(CDS)).await;
    let responses = client.responses();
    client.answer(&responses[0], None).await;
    assert!(client.responses().is_empty());
    for _ in 0..10 {
        world.look_after(LIMIT).await;
    }
    assert_eq!((world.slow(), world.count(Offence::Slow)), (0, 0));
    assert_eq!(world.count(Offence::NoAck), 0);
    assert!(client.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_says_not_who_it_is_must_go() {
    let world = World::limited();
    let mut client = world.open();
    assert!(client.take().is_none());
    world.look_after(LIMIT).await;
    assert_eq!(world.count(Offence::Silent), 1);
    assert_eq!(client.status().code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_nothing_is_named_and_waits_for_its_changes() {
    let world = World::limited();
    let mut client = world.open();
    client.send(delta(CDS)).await;
    let first = client.responses();
    assert_eq!(first.len(), 1);
    for n in 0..10 {
        world.change(&n.to_string());
        assert!(client.responses().is_empty());
        world.look_after(Duration::from_secs(5)).await;
    }
    assert_eq!(world.count(Offence::NoAck), 1);
    // It answers at last, and gets the newest.
    client.answer(&first[0], None).await;
    let next = client.responses();
    assert_eq!(next.len(), 1);
    world.look_after(Duration::from_secs(1)).await;
    client.answer(&next[0], None).await;
    assert!(client.responses().is_empty());
    world.look_after(LIMIT).await;
    assert_eq!(world.count(Offence::NoAck), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_rejects_everything_is_named_and_sent_nothing_twice() {
    let world = World::limited();
    let mut client = world.open();
    client.send(delta(CDS)).await;
    for n in 1..=7 {
        let responses = client.responses();
        assert_eq!(responses.len(), 1, "after {n} changes");
        for _ in 0..3 {
            client.answer(&responses[0], Some("no")).await;
            assert!(client.responses().is_empty());
        }
        let expected = (n * 3 - 4_i64).max(0);
        assert_eq!(world.count(Offence::Nack), expected);
        world.change(&n.to_string());
    }
    // One good answer makes it a good client again.
    let responses = client.responses();
    client.answer(&responses[0], None).await;
    world.change("good");
    let responses = client.responses();
    let before = world.count(Offence::Nack);
    client.answer(&responses[0], Some("no")).await;
    assert!(client.responses().is_empty());
    assert_eq!(world.count(Offence::Nack), before);
}

#[tokio::test(start_paused = true)]
async fn too_many_names_end_their_stream_and_name_its_proxy() {
    let world = World::limited();
    let mut client = world.open();
    client.send(delta(CDS)).await;
    assert_eq!(client.responses().len(), 1);
    let names = (0..200_000).map(|n| format!("outbound|80||service-{n}.shop.svc.cluster.local"));
    client
        .send(DeltaDiscoveryRequest {
            resource_names_subscribe: names.collect(),
            ..delta(EDS)
        })
        .await;
    assert_eq!(client.status().code(), Code::ResourceExhausted);
    assert_eq!(world.count(Offence::TooManyNames), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_comes_again_and_again_is_refused_and_others_are_not() {
    let world = World::new(Config {
        reconnect_burst: Some(30),
        ..Config::default()
    });
    for n in 0..40 {
        let mut client = world.open();
        client.send(delta(CDS)).await;
        if n < 30 {
            assert_eq!(client.responses().len(), 1);
        } else {
            assert_eq!(client.status().code(), Code::ResourceExhausted);
        }
    }
    assert_eq!(world.count(Offence::Reconnects), 10);
    let mut other = world.open();
    let mut first = delta(CDS);
    first.node.as_mut().unwrap().id = node().id.replace("web-1", "web-2");
    other.send(first).await;
    assert_eq!(other.responses().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_short_newcomers_wait_and_the_slowest_go_first() {
    let world = World::new(Config {
        max_held_bytes: 450_000,
        send_timeout: Some(LIMIT),
        ..Config::default()
    });
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut client = world.open();
        client.send(delta(CDS)).await;
        assert!(matches!(client.take(), Some(End::Data(_))));
        stuck.push(client);
        world.look_after(Duration::from_secs(1)).await;
    }
    // Three responses of 100 KB, which others may share.
    assert_eq!(world.slow(), 0);
    world.open().take();
    world.look_after(LIMIT / 4).await;
    // Their last holders: twice as much.
    assert_eq!(world.slow(), 3);
    let mut late = world.open();
    let status = late.status();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("try again later"), "{status}");
    let [first, second, third] = stuck.try_into().ok().unwrap();
    let mut gone = first;
    assert_eq!(gone.status().code(), Code::ResourceExhausted);
    for mut stays in [second, third] {
        assert!(stays.drain() > 0);
        assert!(stays.take().is_none());
    }
    world.look();
    let mut next = world.open();
    next.send(delta(CDS)).await;
    assert_eq!(next.responses().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_close_streams_end_and_none_begins() {
    let world = World::limited();
    let mut open = world.open();
    world.service.limits.monitor.close();
    assert_eq!(open.status().code(), Code::Unavailable);
    assert_eq!(world.open().status().code(), Code::Unavailable);
}
