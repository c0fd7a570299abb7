//! What the tests of the encoders share.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use prost::Message;

use super::*;
use crate::mesh::Snapshot;
use crate::model::{Proxy, TypeUrl};
use crate::wire::EncodedResource;

/// What `proxy` gets of `snapshot`.
pub(super) fn resources(snapshot: &Arc<Snapshot>, proxy: Proxy) -> ProxyResources {
    let audience = Audiences::default().of(snapshot, &proxy);
    ProxyResources::new(Arc::clone(snapshot), Arc::new(proxy), audience)
}

/// The message inside a framed resource.
pub(super) fn decode<M: Message + Default>(resource: &EncodedResource) -> M {
    let frame = resource.delta_frame();
    let response = DeltaDiscoveryResponse::decode(frame).expect("a response field");
    let [
        Resource {
            resource: Some(any),
            ..
        },
    ] = response.resources.as_slice()
    else {
        panic!("one resource: {response:?}");
    };
    M::decode(any.value.as_slice()).expect("the message")
}

/// The names of a list.
pub(super) fn names(list: &ResourceList) -> Vec<String> {
    list.iter().map(|r| r.name().to_string()).collect()
}

/// One resource by name, decoded.
pub(super) fn named<M: Message + Default>(
    resources: &ProxyResources,
    kind: TypeUrl,
    name: &str,
) -> M {
    let found = resources.named(kind, name);
    decode(&found.unwrap_or_else(|| panic!("{name} of {:?}", names(&resources.all(kind)))))
}

mod named_resources {
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

    use super::*;
    use crate::model::{Protocol, Resolution};
    use crate::testing::snapshot::{external, service, sidecar, snapshot};

    fn world() -> Arc<Snapshot> {
        let web = service("web", "ns").port("http", 80, Protocol::Http);
        let api = external("api.example.com", "ns", Resolution::Dns)
            .port("tls", 443, Protocol::Tls)
            .endpoint("10.0.0.2", 443, "tls");
        snapshot([web.endpoint("10.0.0.1", 8080, "http"), api])
    }

    fn endpoints(name: &str) -> usize {
        let resources = resources(&world(), sidecar("ns"));
        let found: ClusterLoadAssignment = named(&resources, TypeUrl::ClusterLoadAssignment, name);
        assert_eq!(found.cluster_name, name);
        found.endpoints.iter().map(|g| g.lb_endpoints.len()).sum()
    }

    #[test]
    fn endpoints_are_answered_by_cluster_name() {
        assert_eq!(endpoints("outbound|80||web.ns.svc.cluster.local"), 1);
        assert_eq!(
            endpoints("outbound|80|undefined|web.ns.svc.cluster.local"),
            1
        );
    }

    #[test]
    fn names_of_clusters_without_endpoint_answers_are_answered_empty() {
        for name in [
            "outbound|80||no.such.host",
            "outbound|81||web.ns.svc.cluster.local",
            "outbound_.80_._.no.such.host",
            "outbound|443||api.example.com",
        ] {
            assert_eq!(endpoints(name), 0, "{name}");
        }
    }

    #[test]
    fn foreign_names_have_no_endpoint_answer() {
        let resources = resources(&world(), sidecar("ns"));
        for name in ["", "xds-grpc", "outbound|x||host", "*"] {
            assert!(
                resources
                    .named(TypeUrl::ClusterLoadAssignment, name)
                    .is_none()
            );
        }
    }

    #[test]
    fn made_up_subsets_do_not_fill_the_memo() {
        let snapshot = world();
        let resources = resources(&snapshot, sidecar("ns"));
        for subset in 0..10 {
            let name = format!("outbound|80|{subset}|web.ns.svc.cluster.local");
            let found = resources.named(TypeUrl::ClusterLoadAssignment, &name);
            assert!(found.is_some());
        }
        assert!(snapshot.host("web.ns.svc.cluster.local")[0].eds.is_empty());
    }

    #[test]
    fn clusters_and_listeners_are_found_by_name() {
        let resources = resources(&world(), sidecar("ns"));
        for kind in [TypeUrl::Cluster, TypeUrl::Listener] {
            for one in resources.all(kind).iter() {
                let found = resources.named(kind, one.name());
                assert_eq!(found.map(|f| f.version()), Some(one.version()));
            }
            assert!(resources.named(kind, "nothing").is_none());
        }
    }
}
