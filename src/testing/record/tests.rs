use std::path::Path;

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
        lb_endpoint::HostIdentifier,
    },
};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::{Answers, Group, Recording, Scenario, Target};

const NAME: &str = "outbound|80||web.default.svc.cluster.local";

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = folder.read_dir().expect("scenarios");
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    folders.sort();
    folders
        .iter()
        .map(|folder| Scenario::read(folder).expect("a scenario"))
        .collect()
}

fn target(address: &str, weight: u32) -> Target {
    Target {
        address: address.to_owned(),
        weight: Some(weight),
        health: "UNKNOWN".to_owned(),
        ..Target::default()
    }
}

fn group(priority: u32, zone: &str, targets: &[Target]) -> Group {
    Group {
        priority,
        locality: format!("region/{zone}/"),
        weight: Some(targets.iter().filter_map(|t| t.weight).sum()),
        targets: targets.to_vec(),
    }
}

fn answers(groups: &[Group]) -> Answers {
    Answers {
        clusters: [(NAME.to_owned(), "EDS".to_owned())].into(),
        endpoints: [(NAME.to_owned(), groups.to_vec())].into(),
    }
}

#[test]
fn every_recording_has_endpoints_for_each_of_its_eds_clusters() {
    let scenarios = scenarios();
    assert_eq!(scenarios.len(), 5);
    for scenario in &scenarios {
        for proxy in &scenario.proxies {
            let recorded = scenario.recorded(proxy).expect("a recording");
            let eds = recorded.clusters.iter().filter(|(_, kind)| *kind == "EDS");
            let named: Vec<_> = eds.map(|(name, _)| name).collect();
            let answered: Vec<_> = recorded.endpoints.keys().collect();
            assert!(!named.is_empty(), "{}", proxy.name);
            assert_eq!(named, answered, "{}", proxy.name);
        }
    }
}

#[test]
fn every_proxy_connects_to_exactly_one_control_plane() {
    for scenario in &scenarios() {
        let planes = scenario.control_planes.iter();
        let served: usize = planes.map(|plane| scenario.proxies_of(plane).count()).sum();
        assert_eq!(
            served,
            scenario.proxies.len(),
            "{}",
            scenario.folder.display()
        );
    }
}

#[test]
fn a_recording_keeps_what_decides_where_traffic_goes() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/hosted-three-networks");
    let scenario = Scenario::read(&folder).expect("a scenario");
    let recorded = scenario
        .recorded(&scenario.proxies[0])
        .expect("a recording");
    let groups = &recorded.endpoints["outbound|5000||helloworld.default.svc.cluster.local"];
    let own = Target {
        address: "10.201.0.11:5000".to_owned(),
        weight: Some(1),
        health: "HEALTHY".to_owned(),
        tls_mode: Some("istio".to_owned()),
        workload: Some("helloworld-vc1-0;default;helloworld;vc1;mdemo-cluster1".to_owned()),
    };
    assert_eq!(groups[0].targets, [own]);
    assert_eq!(groups[1].locality, "region2/zone2/subzone2");
    assert_eq!(groups[1].targets[0].address, "10.6.136.29:15443");
    assert_eq!(groups[1].targets[0].health, "UNKNOWN");
}

#[test]
fn a_recording_equals_itself_and_no_other() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/hosted-three-networks");
    let scenario = Scenario::read(&folder).expect("a scenario");
    let recorded: Vec<_> = scenario
        .proxies
        .iter()
        .map(|proxy| scenario.recorded(proxy).expect("a recording"))
        .collect();
    for (i, a) in recorded.iter().enumerate() {
        assert_eq!(Answers::differences(a, a), [""; 0]);
        for b in recorded.iter().skip(i + 1) {
            assert_eq!(Answers::differences(a, b).is_empty(), a == b);
        }
    }
    assert_ne!(recorded[0], recorded[1]);
}

#[test]
fn a_difference_says_what_is_missing_and_what_is_too_much() {
    let expected = answers(&[group(0, "a", &[target("10.0.0.1:80", 1)])]);
    let actual = answers(&[group(0, "a", &[target("10.0.0.2:80", 1)])]);
    let line = |sign, address| {
        format!(
            "{sign} eds {NAME} priority 0 region/a/ weight 1: \
             {address} weight 1 UNKNOWN tlsMode=none workload=none"
        )
    };
    let differences = Answers::differences(&expected, &actual);
    assert_eq!(
        differences,
        [line('-', "10.0.0.1:80"), line('+', "10.0.0.2:80")]
    );
}

#[test]
fn a_second_copy_of_a_target_is_a_difference() {
    let once = answers(&[group(0, "a", &[target("10.0.0.1:80", 1)])]);
    let mut twice = once.clone();
    let groups = twice.endpoints.get_mut(NAME).expect("groups");
    groups[0].targets.push(target("10.0.0.1:80", 1));
    assert_eq!(Answers::differences(&once, &twice).len(), 1);
}

#[test]
fn a_cluster_without_endpoints_differs_from_one_that_is_not_answered() {
    let empty = answers(&[]);
    let mut unanswered = empty.clone();
    unanswered.endpoints.clear();
    let differences = Answers::differences(&empty, &unanswered);
    assert_eq!(differences, [format!("- eds {NAME}")]);
}

#[test]
fn an_address_in_several_groups_stands_once_in_the_best_with_all_the_weight() {
    let gateway = |weight| target("192.0.2.1:15443", weight);
    let istiod = answers(&[
        group(2, "c", &[gateway(4)]),
        group(1, "a", &[gateway(1), target("10.0.0.1:80", 1)]),
        group(1, "b", &[gateway(3)]),
    ]);
    let better = answers(&[
        group(1, "a", &[target("10.0.0.1:80", 1)]),
        group(1, "b", &[gateway(8)]),
    ]);
    assert_eq!(istiod.with_each_address_once(), better);
}

#[test]
fn a_group_that_was_empty_before_stays() {
    let istiod = answers(&[group(0, "a", &[])]);
    assert_eq!(istiod.clone().with_each_address_once(), istiod);
}

#[test]
fn only_outbound_clusters_are_compared() {
    let mut all = answers(&[]);
    all.clusters
        .insert("inbound|80||".to_owned(), "ORIGINAL_DST".to_owned());
    all.clusters
        .insert("outbound_.80_._.web".to_owned(), "EDS".to_owned());
    let outbound = all.outbound();
    let names: Vec<_> = outbound.clusters.keys().map(String::as_str).collect();
    assert_eq!(names, ["outbound_.80_._.web", NAME]);
}

#[test]
fn a_live_answer_reads_as_its_recording() {
    let socket = SocketAddress {
        address: "10.0.0.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(80)),
        ..SocketAddress::default()
    };
    let endpoint = Endpoint {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Endpoint::default()
    };
    let lb_endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        health_status: 1,
        load_balancing_weight: Some(UInt32Value { value: 3 }),
        ..LbEndpoint::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: vec![lb_endpoint],
        load_balancing_weight: Some(UInt32Value { value: 3 }),
        priority: 1,
        ..LocalityLbEndpoints::default()
    };
    let cluster = Cluster {
        name: NAME.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Cluster::default()
    };
    let assignment = ClusterLoadAssignment {
        endpoints: vec![locality],
        ..Default::default()
    };
    let live = Recording {
        clusters: [(NAME.to_owned(), cluster)].into(),
        endpoints: [(NAME.to_owned(), assignment)].into(),
        ..Recording::default()
    };
    let json = format!(
        r#"{{"cds": {{"{NAME}": {{"type": "EDS"}}}}, "eds": {{"{NAME}": {{"endpoints": [{{
            "priority": 1, "load_balancing_weight": 3, "lb_endpoints": [{{
                "endpoint": {{"address": {{"socket_address": {{"address": "10.0.0.1", "port_value": 80}}}}}},
                "health_status": "HEALTHY", "load_balancing_weight": 3}}]}}]}}}}}}"#
    );
    let recorded = Answers::from_json(&json).expect("a recording");
    assert_eq!(Answers::from(&live), recorded);
}

mod against_a_server {
    use std::pin::Pin;

    use envoy_types::pb::envoy::{
        config::{endpoint::v3::ClusterLoadAssignment, listener::v3::Listener},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            Resource,
            aggregated_discovery_service_server::{
                AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
            },
        },
    };
    use envoy_types::util::pack_any;
    use futures::{Stream, StreamExt, stream};
    use prost::{Message, Name};
    use tokio::{net::TcpListener, task::JoinSet};
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status, Streaming, transport::Server};

    use super::{Cluster, ClusterDiscoveryType, DiscoveryType};
    use crate::testing::record::{RecordError, record};

    type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

    /// Two EDS clusters, whose endpoints come in an answer each; and a push of
    /// something else before them.
    struct Slow {
        removes: bool,
    }

    fn resource<T: Message + Name>(name: &str, message: T) -> Resource {
        Resource {
            name: name.to_owned(),
            resource: Some(pack_any(message)),
            ..Resource::default()
        }
    }

    fn response(type_url: String, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            type_url,
            resources,
            nonce: "n".to_owned(),
            ..Default::default()
        }
    }

    fn cluster(name: &str) -> Resource {
        let kind = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
        let cluster = Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(kind),
            ..Cluster::default()
        };
        resource(name, cluster)
    }

    fn answers(request: &DeltaDiscoveryRequest, removes: bool) -> Vec<DeltaDiscoveryResponse> {
        if !request.response_nonce.is_empty() {
            return Vec::new();
        }
        let url = request.type_url.clone();
        if url == Cluster::type_url() {
            return vec![response(url, vec![cluster("a"), cluster("b")])];
        }
        if url == Listener::type_url() {
            return vec![response(url, Vec::new())];
        }
        assert_eq!(request.resource_names_subscribe, ["a", "b"]);
        let endpoints = |name| vec![resource(name, ClusterLoadAssignment::default())];
        let second = if removes {
            DeltaDiscoveryResponse {
                removed_resources: vec!["b".to_owned()],
                ..response(url.clone(), Vec::new())
            }
        } else {
            response(url.clone(), endpoints("b"))
        };
        let push = response(Cluster::type_url(), vec![cluster("a")]);
        vec![push, response(url, endpoints("a")), second]
    }

    #[tonic::async_trait]
    impl AggregatedDiscoveryService for Slow {
        type StreamAggregatedResourcesStream = Answer<DiscoveryResponse>;
        type DeltaAggregatedResourcesStream = Answer<DeltaDiscoveryResponse>;

        async fn stream_aggregated_resources(
            &self,
            _: Request<Streaming<DiscoveryRequest>>,
        ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
            Err(Status::unimplemented("delta only"))
        }

        async fn delta_aggregated_resources(
            &self,
            request: Request<Streaming<DeltaDiscoveryRequest>>,
        ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
            let removes = self.removes;
            let answers = request.into_inner().flat_map(move |request| {
                let answers = request.map(|request| answers(&request, removes));
                stream::iter(answers.unwrap_or_default()).map(Ok)
            });
            Ok(Response::new(Box::pin(answers)))
        }
    }

    async fn recorded(removes: bool) -> Result<crate::testing::record::Recording, RecordError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let service = AggregatedDiscoveryServiceServer::new(Slow { removes });
        let mut tasks = JoinSet::new();
        tasks.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let proxy = &super::scenarios()[0].proxies[0];
        record(&address, proxy).await
    }

    #[tokio::test]
    async fn a_recording_waits_for_every_name_it_asked_for() {
        let recording = recorded(false).await.expect("a recording");
        let names: Vec<_> = recording.endpoints.keys().collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_removed_name_is_an_answer() {
        let recording = recorded(true).await.expect("a recording");
        let names: Vec<_> = recording.endpoints.keys().collect();
        assert_eq!(names, ["a"]);
    }
}
