use std::{collections::BTreeSet, fs};

use proptest::prelude::*;

use super::{forms::managed_fields, shape::NODES, *};
use crate::manifest::{self, Defaults};
use crate::model::{EndpointSlice, Object, ObjectKind};

const SHAPE: Shape = Shape {
    clusters: 3,
    namespaces: 2,
    services: 5,
    endpoints: 205,
    gateways: true,
};

fn parsed(kind: ObjectKind, json: &[u8]) -> Object {
    let parsed = manifest::parse(kind, json, &Defaults::default()).expect("an object");
    assert_eq!(parsed.left_out, []);
    parsed.object
}

fn slice(json: &[u8]) -> EndpointSlice {
    match parsed(ObjectKind::EndpointSlice, json) {
        Object::EndpointSlice(slice) => slice,
        other => panic!("{other:?}"),
    }
}

fn addresses(slice: &EndpointSlice) -> Vec<String> {
    let endpoints = slice.endpoints.iter();
    endpoints.map(|e| e.addresses[0].to_string()).collect()
}

#[test]
fn isthmus_reads_every_object_whole() {
    for objects in [Objects::manifests(SHAPE, 1), Objects::stored(SHAPE, 1)] {
        for number in 0..objects.namespaces() {
            parsed(ObjectKind::Namespace, &objects.namespace(number));
        }
        for number in 0..NODES {
            parsed(ObjectKind::Node, &objects.node(number));
        }
        let Object::Service(service) = parsed(ObjectKind::Service, &objects.service(3)) else {
            panic!("a Service");
        };
        assert_eq!(&*service.meta.name, "svc-3");
        assert_eq!(&*service.meta.namespace, "load-1");
        let Object::Service(gateway) = parsed(ObjectKind::Service, &objects.gateway()) else {
            panic!("a Service");
        };
        assert_eq!(&*gateway.load_balancer[0], "198.18.0.2");
        let Object::Pod(pod) = parsed(ObjectKind::Pod, &objects.pod(3, 204)) else {
            panic!("a Pod");
        };
        assert_eq!(&*pod.meta.name, "svc-3-204");
    }
}

#[test]
fn the_slices_of_a_service_hold_each_endpoint_once() {
    let objects = Objects::manifests(SHAPE, 2);
    let marker = Ipv4Addr::new(240, 0, 0, 7);
    let slices: Vec<_> = (0..SHAPE.slices())
        .map(|n| slice(&objects.slice(4, n, (n == SHAPE.marked_slice()).then_some(marker))))
        .collect();
    let sizes: Vec<_> = slices.iter().map(|s| s.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 6]);
    let mut held: Vec<String> = slices.iter().flat_map(addresses).collect();
    assert_eq!(held.pop(), Some(marker.to_string()));
    let pods = (0..SHAPE.endpoints).map(|e| SHAPE.pod_ip(2, 4, e).to_string());
    assert_eq!(held, pods.collect::<Vec<_>>());
}

#[test]
fn what_an_api_server_adds_is_in_stored_objects_only() {
    for kind in ["Pod", "Service", "EndpointSlice"] {
        assert!(managed_fields(kind).is_some(), "{kind}");
    }
    let added = |objects: Objects| {
        let pod: serde_json::Value = serde_json::from_slice(&objects.pod(0, 0)).expect("JSON");
        pod["metadata"]["managedFields"].is_array() && pod["metadata"]["resourceVersion"] == "1000"
    };
    assert!(added(Objects::stored(SHAPE, 0)));
    assert!(!added(Objects::manifests(SHAPE, 0)));
}

#[test]
fn a_mesh_of_two_million_endpoints_can_be_made_and_one_without_addresses_not() {
    let shape = Shape {
        services: 6667,
        endpoints: 100,
        ..SHAPE
    };
    assert_eq!(shape.check(), Ok(()));
    assert!(shape.total_endpoints() > 2_000_000);
    let large = Shape {
        endpoints: 1000,
        ..shape
    };
    assert!(matches!(large.check(), Err(ShapeError::TooMany { .. })));
    let none = Shape {
        services: 0,
        ..shape
    };
    assert_eq!(none.check(), Err(ShapeError::Empty));
}

proptest! {
    #[test]
    fn no_two_pods_share_an_address(
        clusters in 1_u32..5,
        services in 1_u32..2000,
        endpoints in 1_u32..500,
        places in prop::collection::vec((0_u32..5, 0_u32..2000, 0_u32..500), 1..50),
    ) {
        let shape = Shape { clusters, services, endpoints, ..SHAPE };
        prop_assume!(shape.check().is_ok());
        let places = places.into_iter();
        let places: BTreeSet<_> = places
            .map(|(c, s, e)| (c % clusters, s % services, e % endpoints))
            .collect();
        let addresses: BTreeSet<_> = places.iter().map(|(c, s, e)| shape.pod_ip(*c, *s, *e)).collect();
        prop_assert_eq!(addresses.len(), places.len());
        let in_range = addresses.iter().all(|a| a.octets()[0] == 10 && a.octets()[1] >= 16);
        prop_assert!(in_range);
    }
}

#[tokio::test]
async fn folders_get_a_mesh_and_its_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<_> = ["c1", "c2", "c3"].map(|c| folder.path().join(c)).into();
    let mesh = Mesh::open(Source::Folders(paths.clone()), SHAPE).await;
    let mesh = mesh.expect("a mesh");
    let last = parking_lot::Mutex::new(None);
    let told = |progress| *last.lock() = Some(progress);
    mesh.populate(&told).await.expect("populated");
    assert_eq!(
        *last.lock(),
        Some(Progress {
            done: 15,
            total: 15
        })
    );
    assert!(mesh.watch_floor().await.expect("none").is_none());

    let read = || fs::read_to_string(paths[1].join("svc-4-slices.json")).expect("a file");
    assert_eq!(read().lines().count(), 3);
    let marker = Ipv4Addr::new(240, 0, 0, 1);
    for marker in [Some(marker), None] {
        let (cluster, service) = (1, 4);
        let change = Change {
            cluster,
            service,
            marker,
        };
        mesh.change(change).await.expect("changed");
        assert_eq!(read().contains("240.0.0.1"), marker.is_some());
    }
    let names = fs::read_dir(&paths[1]).expect("a folder");
    let mut names = names.map(|entry| entry.expect("an entry").file_name());
    assert!(names.all(|name| !name.as_encoded_bytes().starts_with(b".")));
}

#[tokio::test]
async fn a_change_of_what_is_not_there_is_refused() {
    let paths = vec![PathBuf::from("a"), PathBuf::from("b"), PathBuf::from("c")];
    let open = |paths: &[PathBuf]| Mesh::open(Source::Folders(paths.to_vec()), SHAPE);
    let error = open(&paths[..2])
        .await
        .expect_err("a cluster without a folder");
    assert!(
        matches!(error, MeshError::Sources { sources: 2, .. }),
        "{error}"
    );
    let mesh = open(&paths).await.expect("a mesh");
    for (cluster, service) in [(3, 0), (0, 5)] {
        let marker = None;
        let change = Change {
            cluster,
            service,
            marker,
        };
        let refused = mesh.change(change).await;
        assert!(matches!(refused, Err(MeshError::NotThere { .. })));
    }
}

#[test]
fn a_kubeconfig_is_sent_with_the_files_that_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("ca.pem"), "root").expect("written");
    let path = folder.path().join("kubeconfig");
    let text = "clusters: [{name: a, cluster: {server: 'https://a', certificate-authority: ca.pem}}]\n\
        users: [{name: u, user: {token: t}}]\n";
    fs::write(&path, text).expect("written");
    let sent = kubeconfig::self_contained(&path).expect("a kubeconfig");
    assert!(
        sent.contains("certificate-authority-data: cm9vdA=="),
        "{sent}"
    );
    assert!(
        !sent.contains("ca.pem") && sent.contains("token: t"),
        "{sent}"
    );
}
