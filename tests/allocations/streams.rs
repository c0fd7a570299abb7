//! The paths of streams: connecting, a change for many, requests.

use std::{hint::black_box, sync::Arc};

use envoy_types::pb::envoy::config::core::v3::{Extension, Node};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use isthmus::ads::{Options, Outgoing, Request, Resources, Session, Variant};
use isthmus::mesh::{Index, Snapshot};
use isthmus::model::TypeUrl;
use isthmus::testing::ads_stream::delta;
use isthmus::testing::ads_world::{endpoint_change, since};
use isthmus::testing::large::{self, LargeMesh, upsert};
use isthmus::xds::ProxyResources;
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

fn take(session: &mut Session, request: DeltaDiscoveryRequest) {
    let received = session.on_request(Request::Delta(request));
    received.expect("the stream goes on");
}

fn resources(session: &Session, snapshot: &Arc<Snapshot>) -> impl Resources + use<> {
    let proxy = session.proxy().expect("identified");
    ProxyResources::new(Arc::clone(snapshot), Arc::clone(proxy))
}

/// The next response, which must hold `count` resources, and its ACK.
fn answer(session: &mut Session, resources: &dyn Resources, count: usize) {
    let outgoing = session.poll(resources).expect("a response");
    black_box(outgoing.head());
    assert!(outgoing.frames.len() >= count);
    take(session, ack(&outgoing));
}

fn connect(
    options: &Arc<Options>,
    snapshot: &Arc<Snapshot>,
    requests: [DeltaDiscoveryRequest; 2],
) -> Session {
    let mut session = Session::new(Variant::Delta, Arc::clone(options));
    for request in requests {
        take(&mut session, request);
        let resources = resources(&session, snapshot);
        answer(&mut session, &resources, MESH.services);
    }
    session
}

/// One stream that connects; then one change for many streams.
fn fan_out(index: &mut Index) -> [Used; 2] {
    let options = Arc::new(Options::default());
    let requests = || [first_request(), endpoints_request()];
    let first = Arc::clone(index.snapshot());
    let streams = (0..STREAMS).map(|_| connect(&options, &first, requests()));
    let mut streams: Vec<Session> = streams.collect();
    let (next, mut last) = (requests(), None);
    let connected = used(|| last = Some(connect(&options, &first, next)));
    drop(last);
    let mut change = |ready| {
        let next = index.apply([upsert(1, MESH.slice(1, 7, ready))]);
        let next = next.expect("a change");
        let changes = since(endpoint_change(&[&large::host(7)]));
        used(|| {
            for session in &mut streams {
                session.on_changes(&changes);
                let resources = resources(session, &next);
                answer(session, &resources, 1);
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
