//! The mesh of a load run: replayed API servers as the registry sees them, and
//! a real one as it is filled and changed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod world;
}

use std::{net::Ipv4Addr, time::Duration};

use isthmus::{
    load::mesh::{
        Change, Floor, Mesh, MeshError, Seen, Shape, Source,
        replay::{Replay, write_kubeconfigs},
    },
    model::{ClusterId, Object, ObjectKind},
    registry::multicluster::Clusters,
};
use support::{
    kube::ApiServer,
    world::{World, options},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

const SHAPE: Shape = Shape {
    clusters: 3,
    namespaces: 4,
    services: 40,
    endpoints: 130,
    gateways: true,
};
const LIMIT: Duration = Duration::from_mins(1);

/// Replayed API servers in this process.
struct Servers {
    replay: Replay,
    mesh: Mesh,
    folder: TempDir,
    _tasks: JoinSet<()>,
}

impl Servers {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let replay = Replay::new(SHAPE, address).expect("a shape");
        let paths = write_kubeconfigs(SHAPE, address, folder.path()).expect("kubeconfigs");
        let mut tasks = JoinSet::new();
        let serving = replay.clone().serve(listener, std::future::pending());
        tasks.spawn(async move { serving.await.expect("it serves") });
        let mesh = Mesh::open(Source::Kubeconfigs(paths), SHAPE).await;
        Self {
            replay,
            mesh: mesh.expect("a mesh"),
            folder,
            _tasks: tasks,
        }
    }

    fn world(&self) -> World {
        let mut options = options(self.folder.path().join("c1.yaml"));
        options.config_cluster = ClusterId::from("c1");
        World::start(options)
    }
}

fn marked(cluster: u32, service: u32, last: u8) -> Change {
    Change {
        cluster,
        service,
        marker: Some(Ipv4Addr::new(240, 0, 0, last)),
    }
}

/// Whether a cluster has an endpoint of that address.
fn has_endpoint(world: &World, cluster: &str, change: Change) -> bool {
    let marker = change.marker.expect("a marker");
    let slices = world.objects.get(cluster).into_iter().flatten();
    slices.filter_map(|(_, object)| slice(object)).any(|slice| {
        let endpoints = slice.endpoints.iter();
        endpoints.flat_map(|e| &e.addresses).any(|a| *a == marker)
    })
}

fn slice(object: &Object) -> Option<&isthmus::model::EndpointSlice> {
    match object {
        Object::EndpointSlice(slice) => Some(slice),
        _ => None,
    }
}

async fn next(floor: &mut Floor) -> Seen {
    let next = timeout(LIMIT, floor.next()).await.expect("in time");
    next.expect("the watch lives")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_replayed_api_servers_arrives() {
    let servers = Servers::start().await;
    let mut world = servers.world();
    let all = |clusters: &Clusters| clusters.is_ready() && clusters.reports().len() == 3;
    world.until_clusters("three clusters", all).await;
    for (number, cluster) in (0..).zip(["c1", "c2", "c3"]) {
        let count = |kind| world.names(cluster, kind).len();
        assert_eq!(count(ObjectKind::Namespace), 5, "{cluster}");
        assert_eq!(count(ObjectKind::Node), 3);
        assert_eq!(count(ObjectKind::Service), 41);
        assert!(world.has(cluster, ObjectKind::Service, "istio-eastwestgateway"));
        assert_eq!(count(ObjectKind::Pod), 40 * 130);
        let slices = world.objects[cluster].values().filter_map(slice);
        let endpoints: usize = slices.map(|slice| slice.endpoints.len()).sum();
        assert_eq!(endpoints, 40 * 130);
        let last = Change {
            marker: Some(SHAPE.pod_ip(number, 39, 129)),
            ..marked(number, 39, 0)
        };
        assert!(has_endpoint(&world, cluster, last));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_arrive_while_watches_end_and_versions_expire() {
    let servers = Servers::start().await;
    // They say that they are full already.
    servers.mesh.populate(&|_| ()).await.expect("populated");
    let mut world = servers.world();
    let all = |clusters: &Clusters| clusters.is_ready() && clusters.reports().len() == 3;
    world.until_clusters("three clusters", all).await;
    let floor = servers.mesh.watch_floor().await.expect("watched");
    let mut floor = floor.expect("of API servers");

    let first = marked(2, 7, 1);
    servers.mesh.change(first).await.expect("changed");
    let seen = next(&mut floor).await;
    assert_eq!((seen.cluster, seen.service), (2, 7));
    assert_eq!(seen.marker, first.marker);
    world
        .until("a change", |w| has_endpoint(w, "c3", first))
        .await;

    let resets = world.resets;
    servers.replay.end_watches(false);
    let second = marked(1, 8, 2);
    servers.mesh.change(second).await.expect("changed");
    world
        .until("a change between two watches", |w| {
            has_endpoint(w, "c2", second)
        })
        .await;
    assert_eq!(world.resets, resets, "nothing was listed again");

    servers.replay.end_watches(true);
    let third = marked(0, 9, 3);
    servers.mesh.change(third).await.expect("changed");
    world
        .until("a change that only a new list has", |w| {
            has_endpoint(w, "c1", third)
        })
        .await;
    assert!(has_endpoint(&world, "c3", first), "it is still there");
    assert_eq!(world.names("c3", ObjectKind::Pod).len(), 40 * 130);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_is_filled_and_changed() {
    let server = ApiServer::start().await;
    let shape = Shape {
        clusters: 1,
        namespaces: 2,
        services: 3,
        endpoints: 4,
        gateways: true,
    };
    let source = || Source::Kubeconfigs(vec![server.kubeconfig_path()]);
    let mesh = Mesh::open(source(), shape).await.expect("a mesh");
    // The second time nothing is left to do.
    for _ in 0..2 {
        mesh.populate(&|_| ()).await.expect("populated");
    }
    let other = Shape {
        services: 4,
        ..shape
    };
    let other = Mesh::open(source(), other).await.expect("a mesh");
    let refused = other.populate(&|_| ()).await;
    assert!(matches!(refused, Err(MeshError::OtherShape { .. })));

    let mut options = options(server.kubeconfig_path());
    options.config_cluster = ClusterId::from("c1");
    let mut world = World::start(options);
    world.until_clusters("ready", Clusters::is_ready).await;
    let pods = world.names("c1", ObjectKind::Pod);
    assert_eq!(pods.len(), 12);
    for endpoint in 0..4 {
        let pod = Change {
            marker: Some(shape.pod_ip(0, 2, endpoint)),
            ..marked(0, 2, 0)
        };
        assert!(has_endpoint(&world, "c1", pod));
    }

    let floor = mesh.watch_floor().await.expect("watched");
    let mut floor = floor.expect("of API servers");
    let change = marked(0, 1, 1);
    for change in [
        change,
        Change {
            marker: None,
            ..change
        },
    ] {
        mesh.change(change).await.expect("changed");
        let seen = next(&mut floor).await;
        assert_eq!((seen.service, seen.marker), (1, change.marker));
        world
            .until("a change", |w| {
                has_endpoint(w, "c1", marked(0, 1, 1)) == change.marker.is_some()
            })
            .await;
    }
}
