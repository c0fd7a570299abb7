//! A seed system as machines and addresses: its pods, and where its Services
//! and load balancers lead.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use isthmus::testing::record::Scenario;
use serde_json::Value;

/// A folder of `tests/scenarios`.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(crate) scenario: Scenario,
    pub(crate) clusters: Vec<Cluster>,
}

/// One Kubernetes cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// Empty where no network is named.
    pub(crate) network: String,
    /// A control plane of another cluster leads it, as its system namespace says.
    pub(crate) is_led: bool,
    pub(crate) pods: Vec<Pod>,
    pub(crate) services: Vec<Service>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) has_proxy: bool,
}

/// Addresses that lead to pods.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) cluster_ip: Option<Ipv4Addr>,
    /// Those that other networks reach too.
    pub(crate) external: Vec<Ipv4Addr>,
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) backends: Vec<SocketAddrV4>,
}

impl Seed {
    pub(crate) fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scenario = Scenario::read(&folder.join("tests/scenarios").join(name));
        let scenario = scenario.expect("a scenario");
        let clusters = scenario.clusters.iter();
        let mut clusters: Vec<_> = clusters.map(|name| cluster(&scenario, name)).collect();
        for cluster in &mut clusters {
            cluster
                .services
                .extend(declared_gateway(&scenario, cluster));
        }
        Self { scenario, clusters }
    }

    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.unwrap_or_else(|| panic!("no cluster {name}"))
    }

    /// The networks and their clusters.
    pub(crate) fn networks(&self) -> BTreeMap<&str, Vec<&Cluster>> {
        let mut networks = BTreeMap::<_, Vec<_>>::new();
        for cluster in &self.clusters {
            networks
                .entry(cluster.network.as_str())
                .or_default()
                .push(cluster);
        }
        networks
    }
}

impl Cluster {
    pub(crate) fn service(&self, name: &str) -> &Service {
        let found = self.services.iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no Service {name} in {}", self.name))
    }

    pub(crate) fn pod(&self, name: &str) -> &Pod {
        let found = self.pods.iter().find(|pod| pod.name == name);
        found.unwrap_or_else(|| panic!("no pod {name} in {}", self.name))
    }
}

impl Pod {
    /// The `app` of its labels.
    pub(crate) fn app(&self) -> &str {
        self.labels.get("app").map_or("", String::as_str)
    }

    pub(crate) fn version(&self) -> &str {
        self.labels.get("version").map_or("", String::as_str)
    }

    /// Gateways have a label `istio` that says which.
    pub(crate) fn is_router(&self) -> bool {
        self.labels.contains_key("istio")
    }
}

impl Service {
    pub(crate) fn has_port(&self, number: u16) -> bool {
        self.ports.iter().any(|port| port.number == number)
    }

    pub(crate) fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// Where a pod of its cluster calls it.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        let ip = self.cluster_ip.expect("a clusterIP");
        SocketAddrV4::new(ip, self.ports[0].number)
    }
}

fn cluster(scenario: &Scenario, name: &str) -> Cluster {
    let documents = documents(&scenario.manifest(name));
    let of_kind = |kind: &'static str| documents.iter().filter(move |d| d["kind"] == kind);
    let system = of_kind("Namespace").find(|d| d["metadata"]["name"] == "istio-system");
    let leader = "topology.istio.io/controlPlaneClusters";
    let label = |d: &Value| {
        Some(
            d["metadata"]["labels"]["topology.istio.io/network"]
                .as_str()?
                .to_owned(),
        )
    };
    let slices: Vec<_> = of_kind("EndpointSlice").collect();
    Cluster {
        name: name.to_owned(),
        network: system.and_then(label).unwrap_or_default(),
        is_led: system.is_some_and(|d| d["metadata"]["annotations"][leader].is_string()),
        pods: of_kind("Pod").map(pod).collect(),
        services: of_kind("Service").map(|of| service(of, &slices)).collect(),
    }
}

fn pod(document: &Value) -> Pod {
    let labels = document["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    let containers = list(&document["spec"]["containers"]);
    Pod {
        name: text(&document["metadata"]["name"]),
        namespace: text(&document["metadata"]["namespace"]),
        ip: ip(&document["status"]["podIP"]).expect("a pod IP"),
        service_account: text(&document["spec"]["serviceAccountName"]),
        labels: labels
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        has_proxy: containers.iter().any(|c| c["name"] == "istio-proxy"),
    }
}

fn service(document: &Value, slices: &[&Value]) -> Service {
    let metadata = &document["metadata"];
    let is_own = |slice: &&&Value| {
        let of = &slice["metadata"];
        of["labels"]["kubernetes.io/service-name"] == metadata["name"]
            && of["namespace"] == metadata["namespace"]
    };
    let slices: Vec<_> = slices.iter().filter(is_own).copied().collect();
    let ports = list(&document["spec"]["ports"]).iter().map(|port| Port {
        number: number(&port["port"]),
        backends: slices
            .iter()
            .flat_map(|slice| backends(slice, &port["name"]))
            .collect(),
    });
    let ingress = list(&document["status"]["loadBalancer"]["ingress"]);
    Service {
        name: text(&metadata["name"]),
        namespace: text(&metadata["namespace"]),
        cluster_ip: ip(&document["spec"]["clusterIP"]),
        external: ingress
            .iter()
            .filter_map(|entry| ip(&entry["ip"]))
            .collect(),
        ports: ports.collect(),
    }
}

/// The endpoints of a slice at its port of that name.
fn backends(slice: &Value, port: &Value) -> Vec<SocketAddrV4> {
    let port = list(&slice["ports"]).iter().find(|p| p["name"] == *port);
    let addresses = list(&slice["endpoints"])
        .iter()
        .flat_map(|e| list(&e["addresses"]));
    let sockets = addresses.filter_map(|a| Some(SocketAddrV4::new(ip(a)?, number(&port?["port"]))));
    sockets.collect()
}

/// The address that `meshNetworks` gives the cluster's east-west gateway: the
/// load balancer is no Service of the cluster then.
fn declared_gateway(scenario: &Scenario, of: &Cluster) -> Option<Service> {
    let text = fs::read_to_string(scenario.mesh_networks()).expect("meshNetworks");
    let networks: Value = yaml_serde::from_str(&text).expect("meshNetworks");
    let network = &networks["networks"][&of.network];
    let gateway = list(&network["gateways"]).first()?;
    let pods = of.pods.iter().filter(|pod| pod.is_router());
    let port = number(&gateway["port"]);
    Some(Service {
        name: "declared-gateway".to_owned(),
        namespace: "istio-system".to_owned(),
        cluster_ip: None,
        external: vec![ip(&gateway["address"]).expect("an address")],
        ports: vec![Port {
            number: port,
            backends: pods.map(|pod| SocketAddrV4::new(pod.ip, port)).collect(),
        }],
    })
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("manifests");
    let documents = yaml_serde::Deserializer::from_str(&text);
    let read = documents.map(|d| serde::Deserialize::deserialize(d).expect("YAML"));
    read.collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ip(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}

fn number(value: &Value) -> u16 {
    value
        .as_u64()
        .and_then(|n| n.try_into().ok())
        .expect("a port")
}
