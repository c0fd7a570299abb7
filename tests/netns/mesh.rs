//! A whole seed system that runs: API servers, control planes, and each pod's
//! proxy, every one in its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use futures::future::join_all;
use isthmus::testing::{
    identity::{TestCa, TestCaOptions},
    record::ControlPlane,
};

use crate::{
    clusters::Clusters,
    http::{App, Call},
    namespace::Entrance,
    plane::Plane,
    proxy::{Provision, Proxy},
    seed::{Cluster, Pod, Seed},
    topology::Topology,
    wire,
};

/// Text that every server's answer has, and that no other may see on its way.
pub(crate) const GREETING: &str = "Hello version: ";

/// A running seed system. Its processes end before its namespaces go.
pub(crate) struct Mesh {
    proxies: BTreeMap<(String, String), Proxy>,
    planes: Vec<Plane>,
    clusters: Clusters,
    pub(crate) topology: Topology,
    pub(crate) seed: Seed,
}

/// What is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System<'a> {
    /// A folder of `tests/scenarios`.
    pub(crate) seed: &'a str,
    pub(crate) planes: &'a [PlanePod],
    pub(crate) istiods: &'a [Istiod],
    /// `SECRET_TTL` of all proxies.
    pub(crate) certificate_life: &'a str,
}

/// Where the proxies of a cluster find their control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Istiod {
    pub(crate) cluster: &'static str,
    pub(crate) address: Ipv4Addr,
}

/// The pod of a control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanePod {
    pub(crate) cluster: &'static str,
    pub(crate) name: &'static str,
    /// Its address, where the seed has no such pod.
    pub(crate) added_at: Option<Ipv4Addr>,
}

impl Mesh {
    /// Starts the control planes of a seed system, and the proxies of all pods
    /// that have one. Several control planes get an intermediate certificate
    /// each under one root; a single one makes its own.
    pub(crate) async fn start(system: &System<'_>) -> Self {
        let System { seed, planes, .. } = *system;
        let seed = Seed::read(seed);
        let mut topology = Topology::build(&seed);
        topology.watch_for(&[GREETING, "GET /hello", "GET /productpage"]);
        let clusters = Clusters::start(&seed).await;
        let root = TestCa::root(TestCaOptions::new("root of the mesh"));
        for of in &seed.scenario.control_planes {
            for remote in &of.remote {
                clusters.link(&of.cluster, remote).await;
            }
        }
        for plane in planes {
            if let Some(ip) = plane.added_at {
                topology.add_pod(seed.cluster(plane.cluster), plane.name, ip);
            }
        }
        let started = planes.iter().map(|plane| {
            let namespace = topology.pod(seed.cluster(plane.cluster), plane.name);
            let ca = root.intermediate(TestCaOptions::new(plane.cluster));
            let ca = Some(ca).filter(|_| planes.len() > 1);
            Plane::start(&seed, plane.cluster, &clusters, namespace, ca.as_ref())
        });
        let mut mesh = Self {
            proxies: BTreeMap::new(),
            planes: started.collect(),
            clusters,
            topology,
            seed,
        };
        join_all(mesh.planes.iter_mut().map(Plane::wait_ready)).await;
        mesh.start_proxies(system).await;
        mesh
    }

    async fn start_proxies(&mut self, system: &System<'_>) {
        let mut started = Vec::new();
        for istiod in system.istiods {
            let cluster = self.seed.cluster(istiod.cluster);
            let hosts = format!("{} istiod.istio-system.svc", istiod.address);
            for pod in cluster.pods.iter().filter(|pod| pod.has_proxy) {
                let given = Provision {
                    token: &self.clusters.token(&cluster.name, pod).await,
                    root: &self.root(cluster, pod).await,
                    discovery: if std::env::var_os("INTERIM").is_some() {
                        "istiod.istio-system.svc:15010"
                    } else {
                        "istiod.istio-system.svc:15012"
                    },
                    hosts: &hosts,
                    certificate_life: system.certificate_life,
                };
                let namespace = self.topology.pod(cluster, &pod.name);
                let proxy = Proxy::start(cluster, pod, namespace, &given);
                started.push(((cluster.name.clone(), pod.name.clone()), proxy));
            }
        }
        self.proxies.extend(started);
        let waits = self.proxies.values_mut().map(Proxy::wait_ready);
        join_all(waits).await;
    }

    /// The root that a pod's volume has: of its own cluster where a control
    /// plane writes there, else of the one that serves it.
    async fn root(&self, cluster: &Cluster, pod: &Pod) -> String {
        let planes = &self.seed.scenario.control_planes;
        let own = planes.iter().find(|plane| plane.cluster == cluster.name);
        let serves = |plane: &&ControlPlane| plane.remote.contains(&cluster.name);
        let of = own
            .or_else(|| planes.iter().find(serves))
            .expect("a control plane");
        let of = if cluster.is_led {
            &cluster.name
        } else {
            &of.cluster
        };
        self.clusters.root(of, &pod.namespace).await
    }

    /// Starts a server in a pod; it answers with the pod's version.
    pub(crate) fn app(&self, cluster: &str, pod: &str, port: u16, calls: Vec<Call>) -> App {
        let cluster = self.seed.cluster(cluster);
        let namespace = self.topology.pod(cluster, pod);
        let text = greeting(&cluster.name, pod, cluster.pod(pod).version());
        App::start(namespace, port, &text, calls)
    }

    /// A Service as the pods of a cluster call it.
    pub(crate) fn call(&self, cluster: &str, service: &str) -> Call {
        let service = self.seed.cluster(cluster).service(service);
        Call {
            host: service.host(),
            address: service.address(),
        }
    }

    /// Where a client in a pod calls from.
    pub(crate) fn inside(&self, cluster: &str, pod: &str) -> Entrance {
        let cluster = self.seed.cluster(cluster);
        self.topology.pod(cluster, pod).entrance()
    }

    /// Whether every proxy has had a new certificate since it started.
    pub(crate) fn has_rotated(&self) -> bool {
        let mut proxies = self.proxies.values();
        proxies.all(|proxy| proxy.log().matches("certificate issued").count() > 1)
    }

    pub(crate) fn proxy(&self, cluster: &str, pod: &str) -> &Proxy {
        &self.proxies[&(cluster.to_owned(), pod.to_owned())]
    }

    /// No proxy refused anything that it was sent.
    pub(crate) async fn assert_nothing_rejected(&self) {
        for proxy in self.proxies.values() {
            proxy.assert_nothing_rejected().await;
        }
    }

    /// Each connection that left a sidecar for a gateway came in at one
    /// gateway, and went from there to a pod of the gateway's own network.
    pub(crate) async fn assert_one_gateway_each(&self) {
        let gateways = self.gateways();
        let (mut left, mut came, mut went) = (0, 0, 0);
        for ((cluster, name), proxy) in &self.proxies {
            let router = self.seed.cluster(cluster).pod(name).is_router();
            let to_gateways = proxy.connections(|to| gateways.contains(&to)).await;
            if router {
                assert_eq!(to_gateways, 0, "{cluster}/{name} calls a gateway");
                came += proxy.stat(r"listener\..*_15443\.downstream_cx_total").await;
                went += proxy.sni_routed().await;
            } else {
                left += to_gateways;
            }
        }
        assert!(left > 0, "nothing left its network");
        assert_eq!((left, left), (came, went), "left, came in, went on");
    }

    /// Nothing between the networks was readable, and who asks a gateway from
    /// there in plain text, or with no certificate, gets nothing.
    pub(crate) async fn assert_private(&self) {
        assert_eq!(self.topology.seen(), [0; 3], "packets with plain text");
        self.assert_nothing_rejected().await;
        let plane = &self.seed.scenario.control_planes[0].cluster;
        let root = self.clusters.root(plane, "istio-system").await;
        for gateway in self.gateways() {
            let said = wire::plain(&self.topology.internet, gateway).await;
            assert_eq!(said, "", "{gateway} answers plain text");
            let name = self.server_name();
            let internet = &self.topology.internet;
            let shown = wire::identities(internet, gateway, &name, &root).await;
            let shown = shown.unwrap_or_else(|error| panic!("{gateway}: {error}"));
            let of_pods = |uri: &String| uri.starts_with("spiffe://cluster.local/ns/");
            assert!(shown.len() == 1 && shown.iter().all(of_pods), "{shown:?}");
        }
    }

    /// Where the networks let others in.
    fn gateways(&self) -> BTreeSet<SocketAddrV4> {
        let services = self.seed.clusters.iter().flat_map(|c| &c.services);
        let gateways = services.flat_map(|service| {
            let addresses = service.external.iter();
            addresses.map(|ip| SocketAddrV4::new(*ip, 15443))
        });
        let is_gateway = |at: &SocketAddrV4| {
            let mut services = self.seed.clusters.iter().flat_map(|c| &c.services);
            services.any(|s| s.external.contains(at.ip()) && s.has_port(15443))
        };
        gateways.filter(is_gateway).collect()
    }

    /// The name that helloworld has for gateways.
    fn server_name(&self) -> String {
        let services = self.seed.clusters.iter().flat_map(|c| &c.services);
        let mut found = services.filter(|service| service.name == "helloworld");
        let host = found.next().expect("helloworld").host();
        format!("outbound_.5000_._.{host}")
    }
}

impl Drop for Mesh {
    /// A test that fails says what the processes have said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for plane in &self.planes {
                eprintln!("== control plane\n{}", tail(&plane.log()));
            }
            for ((cluster, name), proxy) in &self.proxies {
                eprintln!("== {cluster}/{name}\n{}", tail(&proxy.log()));
            }
        }
    }
}

/// The last lines of a log, without what Envoy says of fields that istiod
/// sends too.
fn tail(log: &str) -> String {
    let lines = log
        .lines()
        .filter(|line| !line.contains("Deprecated field"));
    let lines: Vec<_> = lines.collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// What the server of a pod answers.
pub(crate) fn greeting(cluster: &str, pod: &str, version: &str) -> String {
    format!("{GREETING}{version}, instance: {pod}, cluster: {cluster}")
}
