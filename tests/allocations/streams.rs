//! The paths of streams: connecting, a change for many, requests.

use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use envoy_types::pb::envoy::config::core::v3::{Extension, Node};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use isthmus::ads::{Options, Outgoing, Request, Session, Variant};
use isthmus::mesh::{Index, SnapshotReader, Watcher, Writer};
use isthmus::model::TypeUrl;
use isthmus::testing::ads_stream::delta;
use isthmus::testing::large::{self, LargeMesh, upsert};
use isthmus::xds::{Audience, Audiences, ProxyResources};
use prost::Message;

use super::{baseline::Used, used};

const STREAMS: usize = 100;
const MESH: LargeMesh = LargeMesh {
    services: 300,
    endpoints: 30,
};
const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;

/// The first request of an Envoy: its node lists about 600 extensions.
fn first_request() -> DeltaDiscoveryRequest {
    let extension = |n| Extension {
        name: format!("envoy.filters.http.some_extension_{n}"),
        category: "envoy.filters.http".to_owned(),
        type_urls: vec![format!(
            "envoy.extensions.filters.http.some_extension_{n}.v3.Config"
        )],
        ..Extension::default()
    };
    let node = Node {
        id: "sidecar~10.1.2.3~web-1.ns-0~ns-0.svc.cluster.local".to_owned(),
        extensions: (0..600).map(extension).collect(),
        ..Node::default()
    };
    DeltaDiscoveryRequest {
        node: Some(node),
        ..delta(CDS)
    }
}

fn endpoints_request() -> DeltaDiscoveryRequest {
    let name = |service| format!("outbound|80||{}", large::host(service));
    DeltaDiscoveryRequest {
        node: None,
        resource_names_subscribe: (0..MESH.services).map(name).collect(),
        ..delta(EDS)
    }
}

fn ack(outgoing: &Outgoing) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: outgoing.kind.as_str().to_owned(),
        response_nonce: outgoing.nonce.to_string(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A stream without its socket.
struct Stream {
    session: Session,
    watcher: Watcher,
    audience: Option<Arc<Audience>>,
}

/// What streams share.
struct Shared {
    reader: SnapshotReader,
    options: Arc<Options>,
    audiences: Audiences,
}

impl Stream {
    fn take(&mut self, request: DeltaDiscoveryRequest) {
        let received = self.session.on_request(Request::Delta(request));
        received.expect("the stream goes on");
        let watches = self.session.take_watches();
        let on = watches.iter().filter(|watch| watch.on);
        self.watcher.watch(on.map(|watch| &*watch.name));
    }

    /// The next response, which must hold `count` resources, and its ACK.
    fn answer(&mut self, shared: &Shared, count: usize) {
        let snapshot = shared.reader.latest();
        let proxy = Arc::clone(self.session.proxy().expect("identified"));
        let audience = self.audience.get_or_insert_with(|| {
            let audience = shared.audiences.of(&snapshot, &proxy);
            self.watcher.look_through(Arc::<Audience>::clone(&audience));
            audience
        });
        let resources = ProxyResources::new(snapshot, proxy, Arc::clone(audience));
        let outgoing = self.session.poll(&resources).expect("a response");
        let mut head = Vec::with_capacity(128);
        outgoing.write_head(&mut head);
        black_box(head);
        assert!(outgoing.frames.len() >= count);
        self.take(ack(&outgoing));
    }

    fn connect(shared: &Shared, requests: [DeltaDiscoveryRequest; 2]) -> Self {
        let mut stream = Self {
            session: Session::new(Variant::Delta, Arc::clone(&shared.options)),
            watcher: shared.reader.watch(),
            audience: None,
        };
        for request in requests {
            stream.take(request);
            stream.answer(shared, MESH.services);
        }
        stream
    }

    /// Looks at what was published: one resource differs.
    fn wake(&mut self, shared: &Shared) {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(news) = self.watcher.poll_news(&mut context) else {
            panic!("a change was published");
        };
        self.session.on_news(&news);
        self.answer(shared, 1);
    }
}

/// One stream that connects; then one change for many streams.
fn fan_out(index: &mut Index) -> [Used; 2] {
    let (writer, reader) = Writer::new();
    writer.publish(Arc::clone(index.snapshot()));
    let shared = Shared {
        reader,
        options: Arc::default(),
        audiences: Audiences::default(),
    };
    let requests = || [first_request(), endpoints_request()];
    let streams = (0..STREAMS).map(|_| Stream::connect(&shared, requests()));
    let mut streams: Vec<Stream> = streams.collect();
    let (next, mut last) = (requests(), None);
    let connected = used(|| last = Some(Stream::connect(&shared, next)));
    drop(last);
    let mut change = |ready| {
        let next = index.apply([upsert(1, MESH.slice(1, 7, ready))]);
        let next = next.expect("a change");
        used(|| {
            black_box(writer.publish(next));
            for stream in &mut streams {
                stream.wake(&shared);
            }
        })
    };
    change(false);
    [connected, change(true)]
}

/// A request as it comes in.
fn decode(request: &DeltaDiscoveryRequest) -> Used {
    let bytes = bytes::Bytes::from(request.encode_to_vec());
    used(|| {
        black_box(DeltaDiscoveryRequest::decode(bytes).expect("decodes"));
    })
}

pub(super) fn paths() -> Vec<(&'static str, Used)> {
    let mut index = MESH.index();
    let [connected, changed] = fan_out(&mut index);
    let ack = DeltaDiscoveryRequest {
        node: None,
        response_nonce: "0000000000000001".to_owned(),
        ..delta(EDS)
    };
    vec![
        ("a stream connected, 300 clusters and endpoints", connected),
        ("a change sent to 100 streams and ACKed", changed),
        (
            "a first request decoded, 600 extensions",
            decode(&first_request()),
        ),
        (
            "a request for 300 names decoded",
            decode(&endpoints_request()),
        ),
        ("an ACK decoded", decode(&ack)),
    ]
}
