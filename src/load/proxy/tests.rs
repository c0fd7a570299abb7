use std::time::Duration;

use envoy_types::pb::envoy::{
    config::core::v3::SocketAddress,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
};
use envoy_types::pb::google::protobuf::Any;

use super::*;
use crate::load::grpc::Messages;

/// A sidecar and all that it writes into.
struct Bench {
    ledger: Arc<Ledger>,
    markers: Arc<Markers>,
    proxy: Proxy,
    out: BytesMut,
    start: Instant,
}

impl Bench {
    fn new(watch: usize, scope: Scope, offence: Option<Offence>) -> Self {
        let kind = Arc::new(Kind {
            variant: Variant::Delta,
            scope,
            watch,
            namespace: "load-0".to_owned(),
            service_account: "default".to_owned(),
        });
        let ledger = Arc::new(Ledger::new(1, 3));
        let markers = Arc::new(Markers::new(9));
        let place = Place {
            index: 4,
            network: 1,
            offence,
        };
        Self {
            proxy: Proxy::new(&kind, &ledger, &markers, place),
            ledger,
            markers,
            out: BytesMut::new(),
            start: Instant::now(),
        }
    }

    fn good(watch: usize) -> Self {
        Self::new(watch, Scope::Sent(".load-".into()), None)
    }

    fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.proxy.open(&mut self.out);
        self.sent()
    }

    /// A response `ms` after the start, and what it is answered with.
    fn respond(
        &mut self,
        ms: u64,
        response: &DeltaDiscoveryResponse,
    ) -> Vec<DeltaDiscoveryRequest> {
        let now = self.start + Duration::from_millis(ms);
        let message = response.encode_to_vec();
        let taken = self.proxy.on_response(&message, now, &mut self.out);
        taken.expect("a message");
        self.sent()
    }

    fn sent(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let mut sent = Vec::new();
        let data = self.out.split();
        let each = |body: &[u8]| sent.push(DeltaDiscoveryRequest::decode(body).unwrap());
        Messages::default().feed(&data, each).unwrap();
        sent
    }

    /// Is sent the clusters of three services, and then their endpoints.
    fn serve(&mut self) {
        self.open();
        self.respond(0, &clusters());
        self.respond(0, &endpoints(&["a", "b", "c"], &[]));
        assert_eq!(self.ledger.count_served(), 1);
        self.ledger.set_steady();
    }
}

fn cluster(service: &str) -> String {
    format!("outbound|80||{service}.load-1.svc.cluster.local")
}

fn response(type_url: TypeUrl, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.as_str().to_owned(),
        nonce: "n".to_owned(),
        resources,
        ..DeltaDiscoveryResponse::default()
    }
}

/// Clusters of the services `a`, `b` and `c`, and two of no service.
fn clusters() -> DeltaDiscoveryResponse {
    let names = ["BlackHoleCluster".to_owned(), "inbound|80||".to_owned()];
    let names = names.into_iter().chain(["c", "a", "b"].map(cluster));
    let resource = |name| Resource {
        name,
        ..Resource::default()
    };
    response(TypeUrl::Cluster, names.map(resource).collect())
}

/// Endpoints of services; the first has the addresses.
fn endpoints(services: &[&str], addresses: &[Ipv4Addr]) -> DeltaDiscoveryResponse {
    let value = addresses.iter().flat_map(|address| {
        let address = SocketAddress {
            address: address.to_string(),
            ..SocketAddress::default()
        };
        address.encode_to_vec()
    });
    let mut value = Some(Any {
        value: value.collect(),
        ..Any::default()
    });
    let resources = services.iter().map(|service| Resource {
        name: cluster(service),
        resource: value.take(),
        ..Resource::default()
    });
    response(TypeUrl::ClusterLoadAssignment, resources.collect())
}

#[test]
fn a_sidecar_says_what_istios_do() {
    let mut bench = Bench::good(0);
    let [first] = &bench.open()[..] else {
        panic!("one request");
    };
    let node = first.node.as_ref().unwrap();
    assert_eq!(
        node.id,
        "sidecar~100.64.0.4~client-4.load-0~load-0.svc.cluster.local"
    );
    let metadata = &node.metadata.as_ref().unwrap().fields;
    for (key, value) in [
        ("CLUSTER_ID", "c2"),
        ("NETWORK", "n2"),
        ("NAMESPACE", "load-0"),
    ] {
        let text = format!("{:?}", metadata[key]);
        assert!(text.contains(value), "{key}: {text}");
    }
    assert_eq!(node.locality.as_ref().unwrap().region, "region-1");
    assert_eq!(first.type_url, TypeUrl::Cluster.as_str());
    assert!(first.resource_names_subscribe.is_empty());
}

#[test]
fn clusters_are_acknowledged_and_those_of_services_watched() {
    let mut bench = Bench::good(0);
    bench.open();
    let [ack, subscription] = &bench.respond(0, &clusters())[..] else {
        panic!("two requests");
    };
    assert_eq!(
        (ack.response_nonce.as_str(), ack.error_detail.is_none()),
        ("n", true)
    );
    assert_eq!(
        subscription.type_url,
        TypeUrl::ClusterLoadAssignment.as_str()
    );
    assert_eq!(
        subscription.resource_names_subscribe,
        ["a", "b", "c"].map(cluster)
    );
    // The same list again subscribes to nothing.
    assert_eq!(bench.respond(0, &clusters()).len(), 1);
}

#[test]
fn a_sidecar_watches_no_more_than_it_was_told() {
    let mut bench = Bench::good(2);
    bench.open();
    let answers = bench.respond(0, &clusters());
    // From the fifth of three on, as the fifth sidecar.
    assert_eq!(answers[1].resource_names_subscribe, ["b", "c"].map(cluster));
    assert_eq!(bench.respond(0, &clusters()).len(), 1);
}

#[test]
fn a_sidecar_is_served_when_all_it_watches_was_sent() {
    let mut bench = Bench::good(0);
    bench.open();
    bench.respond(0, &clusters());
    bench.respond(0, &endpoints(&["a", "b"], &[]));
    assert_eq!(bench.ledger.count_served(), 0);
    bench.respond(0, &endpoints(&["c"], &[]));
    assert_eq!(bench.ledger.count_served(), 1);
    assert!(bench.proxy.on_end());
    assert_eq!(bench.ledger.count_served(), 0);
}

#[test]
fn a_change_is_delivered_once_and_what_repeats_it_is_needless() {
    let mut bench = Bench::good(0);
    bench.serve();
    let number = bench.ledger.writes(bench.start);
    let marker = bench.markers.address(number);
    bench.respond(30, &endpoints(&["b"], &[marker]));
    bench.respond(40, &endpoints(&["b"], &[marker]));
    let latency = bench.ledger.latencies().percentiles().unwrap();
    assert_eq!(bench.ledger.deliveries(), 1);
    assert!((latency.max - 30.0).abs() < 1e-9);
    assert_eq!(bench.ledger.responses.load(Relaxed), 2);
    assert_eq!(bench.ledger.needless.load(Relaxed), 1);
    assert_eq!(bench.ledger.by_network(), [0, 2, 0]);
}

#[test]
fn markers_of_another_run_are_no_delivery() {
    let mut bench = Bench::good(0);
    bench.serve();
    bench.ledger.writes(bench.start);
    let other = Markers::new(8).address(0);
    bench.respond(1, &endpoints(&["a"], &[other, bench.markers.address(7)]));
    assert_eq!(bench.ledger.deliveries(), 0);
    assert_eq!(bench.ledger.needless.load(Relaxed), 1);
}

#[test]
fn what_a_sidecar_finds_when_it_comes_back_is_no_delivery() {
    let mut bench = Bench::good(0);
    bench.serve();
    bench.proxy.on_end();
    let number = bench.ledger.writes(bench.start);
    let marker = bench.markers.address(number);
    bench.open();
    bench.respond(5, &clusters());
    bench.respond(5, &endpoints(&["a", "b", "c"], &[marker]));
    bench.respond(6, &endpoints(&["a"], &[marker]));
    assert_eq!(bench.ledger.deliveries(), 0);
    assert_eq!(
        bench
            .ledger
            .watching(1, crate::load::watch_set::id(cluster("a").as_bytes())),
        1
    );
}

#[test]
fn a_sidecar_that_knows_its_services_asks_for_no_clusters() {
    let names = ["a", "b", "c"].map(|name| cluster(name).into_bytes().into_boxed_slice());
    let mut bench = Bench::new(1, Scope::Known(names.into()), None);
    let [only] = &bench.open()[..] else {
        panic!("one request");
    };
    assert!(only.node.is_some());
    assert_eq!(only.resource_names_subscribe, [cluster("b")]);
}

#[test]
fn a_bad_client_rejects_or_is_silent_and_is_not_counted() {
    for (offence, answers) in [(Offence::Nack, 1), (Offence::NoAck, 0)] {
        let mut bench = Bench::new(0, Scope::Known(Arc::default()), Some(offence));
        bench.open();
        let sent = bench.respond(0, &endpoints(&["a"], &[]));
        assert_eq!(sent.len(), answers);
        assert!(sent.iter().all(|request| request.error_detail.is_some()));
        assert_eq!(bench.ledger.received.load(Relaxed), 0);
        assert_eq!(bench.ledger.offences()[&offence].pushes, 1);
    }
}
