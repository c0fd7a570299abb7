//! A whole mesh in a few lines: objects go in by cluster, the index joins them.
//!
//! ```
//! use isthmus::testing::world::{self, World};
//! let mut world = World::new("c1");
//! world.put("c1", world::service("web", &[("http", 80, 8080)]));
//! world.put("c1", world::pod("web-1", "10.1.0.1", &[("app", "web")]));
//! world.put("c1", world::slice("web", &[("http", 8080)], &[("web-1", "10.1.0.1")]));
//! assert_eq!(world.addresses("web.default.svc.cluster.local"), ["c1 10.1.0.1:8080"]);
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::mesh::{Change, Event, Index, ServiceState, Snapshot};
use crate::model::{
    Address, ClusterId, EndpointSlice, Features, KubeNamespace, KubeNode, KubeService,
    KubeServicePort, Labels, MeshConfig, MeshNetworks, Namespace, Object, ObjectKey, ObjectMeta,
    Pod, Protocol, ServiceType, SliceAddressType, SliceEndpoint, SlicePort, TargetPort, Workload,
};

/// An index that takes events one by one.
#[derive(Debug)]
pub struct World {
    /// The index itself.
    pub index: Index,
    config_cluster: ClusterId,
}

impl World {
    /// An empty world with istiod's default switches.
    pub fn new(config_cluster: &str) -> Self {
        Self::with_features(config_cluster, Features::default())
    }

    /// An empty world.
    pub fn with_features(config_cluster: &str, features: Features) -> Self {
        let config_cluster = ClusterId::from(config_cluster);
        Self {
            index: Index::new(config_cluster.clone(), features),
            config_cluster,
        }
    }

    /// Applies one change; the next snapshot, if there is one.
    pub fn apply(&mut self, cluster: &str, change: Change) -> Option<Arc<Snapshot>> {
        let cluster = ClusterId::from(cluster);
        self.index.apply([Event { cluster, change }])
    }

    /// Adds or replaces an object.
    pub fn put(&mut self, cluster: &str, object: impl Into<Object>) -> Option<Arc<Snapshot>> {
        self.apply(cluster, Change::Upsert(object.into()))
    }

    /// Removes an object.
    pub fn remove(&mut self, cluster: &str, object: impl Into<Object>) -> Option<Arc<Snapshot>> {
        let key: ObjectKey = object.into().key();
        self.apply(cluster, Change::Delete(key))
    }

    /// Sets the mesh settings.
    pub fn mesh(&mut self, mesh: MeshConfig) -> Option<Arc<Snapshot>> {
        let cluster = self.config_cluster.clone();
        self.apply(&cluster, Change::MeshConfig(Arc::new(mesh)))
    }

    /// Sets the declared networks.
    pub fn networks(&mut self, networks: MeshNetworks) -> Option<Arc<Snapshot>> {
        let cluster = self.config_cluster.clone();
        self.apply(&cluster, Change::MeshNetworks(Arc::new(networks)))
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.index.snapshot())
    }

    /// The service of a host; the first one where several namespaces define it.
    pub fn state(&self, host: &str) -> Option<Arc<ServiceState>> {
        self.index.snapshot().host(host).first().cloned()
    }

    /// `cluster address:port` of each endpoint of a host, in order.
    pub fn addresses(&self, host: &str) -> Vec<String> {
        let states = self.index.snapshot().host(host);
        let endpoints = states.iter().flat_map(|state| state.all_endpoints());
        let shown = endpoints.map(|(shard, endpoint)| {
            let address = match &endpoint.address {
                Address::Ip(ip) => ip.to_string(),
                Address::Ips(ips) => {
                    let all: Vec<_> = ips.iter().map(ToString::to_string).collect();
                    all.join("+")
                }
                Address::Hostname(text) | Address::Unix(text) => text.to_string(),
                Address::Unknown => String::new(),
            };
            format!("{} {address}:{}", shard.cluster, endpoint.port)
        });
        shown.collect()
    }
}

/// All that a snapshot says, as text by what it is about: equal for equal
/// worlds, however they came about.
pub fn contents(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for state in snapshot.services() {
        let key = &state.service.key;
        let mut text = format!("{:#?}\n{:#?}\n", state.service, state.rules);
        for (shard, endpoint) in state.all_endpoints() {
            let _ = writeln!(text, "{shard} {endpoint:?}");
            if let Some(network) = &endpoint.workload.template.network {
                let gateways = state
                    .networks
                    .gateways(network, &endpoint.workload.template.cluster);
                let _ = writeln!(text, "  via {gateways:?}");
            }
        }
        let _ = writeln!(text, "scale {}", state.networks.scale());
        all.insert(format!("{} {}", key.hostname, key.namespace), text);
    }
    for workload in snapshot.workloads() {
        let Workload { name, template, .. } = &**workload;
        let (cluster, namespace) = (&template.cluster, &template.namespace);
        let key = format!("{cluster} {namespace} {name}");
        all.insert(key, format!("{workload:?}"));
    }
    all.insert("mesh".to_owned(), format!("{:?}", snapshot.mesh()));
    all
}

/// Name and namespace.
pub fn meta(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        created: Arc::from("2026-01-01T00:00:00Z"),
        name: Arc::from(name),
        namespace: Namespace::from(namespace),
    }
}

/// Labels out of pairs.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

/// A Service of namespace `default` that selects `app: name`; ports are name,
/// number and target.
pub fn service(name: &str, ports: &[(&str, u16, u16)]) -> KubeService {
    let ports = ports.iter().map(|(name, port, target)| KubeServicePort {
        name: Arc::from(*name),
        port: *port,
        protocol: match *name {
            "http" => Protocol::Http,
            "grpc" => Protocol::Grpc,
            _ => Protocol::Tcp,
        },
        target_port: TargetPort::Number(*target),
        node_port: None,
    });
    KubeService {
        meta: meta(name, "default"),
        labels: Labels::default(),
        annotations: Labels::default(),
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))],
        external_ips: Vec::new(),
        load_balancer: Vec::new(),
        ports: ports.collect(),
        selector: labels(&[("app", name)]),
        external_name: None,
        node_local: false,
        traffic_distribution: None,
        publish_not_ready: false,
    }
}

/// A ready Pod of namespace `default` that takes mesh mTLS, on node `node-1`.
///
/// # Panics
/// Where `ip` is no IP address.
#[allow(clippy::expect_used, reason = "a test's own text")]
pub fn pod(name: &str, ip: &str, own: &[(&str, &str)]) -> Pod {
    let mesh = labels(&[("security.istio.io/tlsMode", "istio")]);
    Pod {
        meta: meta(name, "default"),
        labels: mesh.overlaid(&labels(own)),
        ips: vec![ip.parse().expect("an IP address")],
        node: Arc::from("node-1"),
        service_account: Arc::from("default"),
        dns_name: Arc::from(""),
        workload_name: Arc::from(name.rsplit_once('-').map_or(name, |(owner, _)| owner)),
        ready: true,
        terminating: false,
        finished: false,
        container_ports: Vec::new(),
    }
}

/// A slice `<service>-1` of namespace `default`: its ports, and the pods with
/// their addresses, all ready. A pod without a name is a bare address.
///
/// # Panics
/// Where an address is no IP address.
#[allow(clippy::expect_used, reason = "a test's own text")]
pub fn slice(service: &str, ports: &[(&str, u16)], pods: &[(&str, &str)]) -> EndpointSlice {
    let ports = ports.iter().map(|(name, port)| SlicePort {
        name: Arc::from(*name),
        port: *port,
    });
    let endpoints = pods.iter().map(|(pod, ip)| SliceEndpoint {
        addresses: vec![ip.parse().expect("an IP address")],
        ready: Some(true),
        serving: Some(true),
        terminating: Some(false),
        pod: (!pod.is_empty()).then(|| Arc::from(*pod)),
    });
    EndpointSlice {
        meta: meta(&format!("{service}-1"), "default"),
        service: Arc::from(service),
        mcs: false,
        address_type: SliceAddressType::Ipv4,
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    }
}

/// A Node with labels.
pub fn node(name: &str, own: &[(&str, &str)]) -> KubeNode {
    KubeNode {
        meta: meta(name, ""),
        labels: labels(own),
        external_ip: None,
    }
}

/// A Namespace with labels.
pub fn namespace(name: &str, own: &[(&str, &str)]) -> KubeNamespace {
    KubeNamespace {
        meta: meta(name, ""),
        labels: labels(own),
        annotations: Labels::default(),
    }
}
