//! A mesh of any size on three networks, for benches and for the guard of
//! allocations.

use std::ops::Range;

use super::world;
use crate::mesh::{Change, Event, Index};
use crate::model::{ClusterId, EndpointSlice, Features, Namespace, Object, ObjectKind, Pod};

/// The clusters, each a network.
pub const CLUSTERS: [&str; 3] = ["c1", "c2", "c3"];
/// Services of one namespace.
const CROWD: usize = 100;
/// Services that come in one batch: as a watch delivers them, in pages.
const PAGE: usize = 500;

/// How large a mesh is. Its services are called `svc-0`, `svc-1`, … and have
/// the port 80, `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeMesh {
    /// Services, each in all clusters.
    pub services: usize,
    /// Endpoints of one service in all clusters together.
    pub endpoints: usize,
}

impl LargeMesh {
    /// The index of such a mesh, all synced.
    pub fn index(self) -> Index {
        let mut index = Index::new(ClusterId::from(CLUSTERS[0]), Features::default());
        for (cluster, id) in CLUSTERS.into_iter().enumerate() {
            let network = [("topology.istio.io/network", id)];
            let system = world::namespace("istio-system", &network);
            reset(&mut index, id, ObjectKind::Namespace, vec![system.into()]);
            let nodes = (0..self.nodes()).map(node).collect();
            reset(&mut index, id, ObjectKind::Node, nodes);
            let services = (0..self.services).map(service).collect();
            reset(&mut index, id, ObjectKind::Service, services);
            for from in (0..self.services).step_by(PAGE) {
                let page = from..self.services.min(from + PAGE);
                self.fill(&mut index, cluster, page);
            }
        }
        index
    }

    fn fill(self, index: &mut Index, cluster: usize, services: Range<usize>) {
        let pods = services.clone().flat_map(|service| {
            (0..self.pods(cluster)).map(move |n| Object::from(self.pod(cluster, service, n)))
        });
        index.apply(pods.map(|pod| upsert(cluster, pod)));
        let slices = services.map(|service| self.slice(cluster, service, true));
        index.apply(slices.map(|slice| upsert(cluster, slice)));
    }

    /// All endpoints.
    pub fn size(self) -> usize {
        self.services * self.endpoints
    }

    /// Pods of one service in one cluster.
    fn pods(self, cluster: usize) -> usize {
        let all = CLUSTERS.len();
        self.endpoints / all + usize::from(cluster < self.endpoints % all)
    }

    /// Nodes of one cluster: thirty pods run on each.
    fn nodes(self) -> usize {
        (self.services * self.pods(0) / 30).max(1)
    }

    fn address(self, cluster: usize, service: usize, pod: usize) -> String {
        let n = service * self.pods(cluster) + pod;
        format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)
    }

    /// A pod of a service.
    pub fn pod(self, cluster: usize, service: usize, pod: usize) -> Pod {
        let (name, template) = (name(service), format!("{service:010x}"));
        let own = [
            ("app", &*name),
            ("version", "v1"),
            ("pod-template-hash", &*template),
            ("service.istio.io/canonical-name", &*name),
            ("service.istio.io/canonical-revision", "v1"),
        ];
        let mut made = world::pod(
            &format!("{name}-{template}-{pod:05}"),
            &self.address(cluster, service, pod),
            &own,
        );
        made.meta.namespace = namespace(service);
        made.meta.created = "".into();
        made.workload_name = name.into();
        let node = (service * self.pods(cluster) + pod) % self.nodes();
        made.node = format!("node-{node}").into();
        made
    }

    /// The slice of a service, its first endpoint ready or not.
    pub fn slice(self, cluster: usize, service: usize, ready: bool) -> EndpointSlice {
        let pods: Vec<_> = (0..self.pods(cluster))
            .map(|n| {
                let pod = self.pod(cluster, service, n);
                (pod.meta.name, self.address(cluster, service, n))
            })
            .collect();
        let pods: Vec<_> = pods.iter().map(|(n, a)| (&**n, &**a)).collect();
        let mut made = world::slice(&name(service), &[("http", 8080)], &pods);
        made.meta.namespace = namespace(service);
        if let Some(first) = made.endpoints.first_mut() {
            first.ready = Some(ready);
        }
        made
    }
}

/// The host of a service.
pub fn host(service: usize) -> String {
    let (name, namespace) = (name(service), namespace(service));
    format!("{name}.{namespace}.svc.cluster.local")
}

/// What a watch of a cluster reports of an object that is new or differs.
pub fn upsert(cluster: usize, object: impl Into<Object>) -> Event {
    let cluster = CLUSTERS.get(cluster).copied().unwrap_or_default();
    Event {
        cluster: ClusterId::from(cluster),
        change: Change::Upsert(object.into()),
    }
}

fn name(service: usize) -> String {
    format!("svc-{service}")
}

fn namespace(service: usize) -> Namespace {
    Namespace::from(format!("ns-{}", service / CROWD))
}

fn service(n: usize) -> Object {
    let mut made = world::service(&name(n), &[("http", 80, 8080)]);
    made.meta.namespace = namespace(n);
    made.into()
}

fn node(n: usize) -> Object {
    let (region, zone) = (format!("r{}", n % 3), format!("r{}-{}", n % 3, n % 9));
    let labels = [
        ("topology.kubernetes.io/region", &*region),
        ("topology.kubernetes.io/zone", &*zone),
    ];
    world::node(&format!("node-{n}"), &labels).into()
}

fn reset(index: &mut Index, cluster: &str, kind: ObjectKind, objects: Vec<Object>) {
    let cluster = ClusterId::from(cluster);
    let change = Change::Reset(kind, objects);
    index.apply([Event { cluster, change }]);
}
