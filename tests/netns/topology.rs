//! The networks of a seed system: pods behind a router each, routers joined by
//! an internet that knows their load balancers and none of their pods.
//!
//! ```text
//!  pod ── router of network 1 ──┐             ┌── router of network 2 ── pod
//!  pod ──┘  Services, load      internet       └ ...                    ── pod
//!           balancers, NAT      (nothing but the load balancers' addresses)
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::{
    namespace::Namespace,
    seed::{Cluster, Pod, Seed, Service},
};

/// The next hop of all pods; on each of their links alone.
const NEXT_HOP: &str = "169.254.1.1";
/// The next hop of all routers.
const INTERNET: &str = "203.0.113.254";

/// A group of iptables rules for a pod with a sidecar, as the init container
/// of istio sets them: all TCP but the proxy's own goes through Envoy.
const REDIRECT: &str = "\
*nat
:IN - [0:0]
:TO_INBOUND - [0:0]
:OUT - [0:0]
:TO_OUTBOUND - [0:0]
-A PREROUTING -p tcp -j IN
-A IN -p tcp -m multiport --dports 15008,15020,15021,15090 -j RETURN
-A IN -p tcp -j TO_INBOUND
-A TO_INBOUND -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -p tcp -j OUT
-A OUT -s 127.0.0.6/32 -o lo -j RETURN
-A OUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j TO_INBOUND
-A OUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A OUT -m owner --uid-owner 1337 -j RETURN
-A OUT -m owner --gid-owner 1337 -j RETURN
-A OUT -d 127.0.0.1/32 -j RETURN
-A OUT -j TO_OUTBOUND
-A TO_OUTBOUND -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -p udp --dport 53 -m owner --gid-owner 1337 -j RETURN
-A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 15053
COMMIT
";

/// Namespaces of a seed system. Dropping it ends all that runs in them.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) internet: Namespace,
    pub(crate) networks: BTreeMap<String, Network>,
}

/// One network: its router, and its pods by cluster and name.
#[derive(Debug)]
pub(crate) struct Network {
    router: Namespace,
    pods: BTreeMap<(String, String), Namespace>,
    links: u16,
}

impl Topology {
    pub(crate) fn build(seed: &Seed) -> Self {
        let internet = Namespace::create("internet");
        internet.forward();
        let networks = seed.networks().into_iter();
        let networks = networks.zip(1..).map(|((name, clusters), number)| {
            (
                name.to_owned(),
                Network::build(&internet, &clusters, number),
            )
        });
        let networks = networks.collect();
        Self { internet, networks }
    }

    /// The namespace of a pod.
    pub(crate) fn pod(&self, cluster: &Cluster, name: &str) -> &Namespace {
        let key = (cluster.name.clone(), name.to_owned());
        &self.networks[&cluster.network].pods[&key]
    }

    /// One more pod, as a control plane that the seed gives no pod.
    pub(crate) fn add_pod(&mut self, cluster: &Cluster, name: &str, ip: Ipv4Addr) {
        let network = self.networks.get_mut(&cluster.network).expect("a network");
        network.add(&cluster.name, name, ip);
    }

    /// Counts the packets between networks that carry one of these texts.
    pub(crate) fn watch_for(&self, texts: &[&str]) {
        let mut rules = "*filter\n".to_owned();
        for text in texts {
            writeln!(rules, "-A FORWARD -m string --algo bm --string \"{text}\"").expect("text");
        }
        self.internet.iptables(&(rules + "COMMIT\n"));
    }

    /// How often each text of [`Self::watch_for`] was seen.
    pub(crate) fn seen(&self) -> Vec<u64> {
        self.internet.counted("FORWARD")
    }
}

impl Network {
    fn build(internet: &Namespace, clusters: &[&Cluster], number: u8) -> Self {
        let router = Namespace::create("router");
        router.forward();
        let mut network = Self {
            router,
            pods: BTreeMap::new(),
            links: 0,
        };
        let services = clusters.iter().flat_map(|cluster| &cluster.services);
        let services: Vec<_> = services.collect();
        network.join(internet, number, &services);
        network.router.iptables(&routed(&services));
        for cluster in clusters {
            for Pod { name, ip, .. } in &cluster.pods {
                network.add(&cluster.name, name, *ip);
            }
        }
        network
    }

    /// Joins the router to the internet, which learns its load balancers.
    fn join(&self, internet: &Namespace, number: u8, services: &[&Service]) {
        let (router, own) = (self.router.name(), format!("203.0.113.{number}"));
        internet.ip(&format!(
            "link add net{number} type veth peer name wan netns {router}
             addr add {INTERNET}/32 dev net{number}
             link set net{number} up
             route add {own}/32 dev net{number}"
        ));
        self.router.ip(&format!(
            "addr add {own}/32 dev wan
             link set wan up
             route add {INTERNET}/32 dev wan
             route add default via {INTERNET} dev wan"
        ));
        for address in services.iter().flat_map(|service| &service.external) {
            internet.ip(&format!(
                "route add {address}/32 via {own} dev net{number} onlink"
            ));
        }
    }

    fn add(&mut self, cluster: &str, name: &str, ip: Ipv4Addr) {
        let pod = Namespace::create(name);
        self.links += 1;
        let link = format!("pod{}", self.links);
        self.router.ip(&format!(
            "link add {link} type veth peer name eth0 netns {}
             addr add {NEXT_HOP}/32 dev {link}
             link set {link} up
             route add {ip}/32 dev {link}",
            pod.name()
        ));
        pod.ip(&format!(
            "addr add {ip}/32 dev eth0
             link set eth0 up
             route add {NEXT_HOP}/32 dev eth0
             route add default via {NEXT_HOP} dev eth0"
        ));
        self.pods.insert((cluster.to_owned(), name.to_owned()), pod);
    }
}

/// Sends what a pod sends and receives through its sidecar.
pub(crate) fn intercept(pod: &Namespace) {
    pod.iptables(REDIRECT);
}

/// What kube-proxy and the load balancers do, and the network's own address
/// towards the internet.
fn routed(services: &[&Service]) -> String {
    let mut rules = "*nat\n".to_owned();
    for service in services {
        let addresses = service.cluster_ip.iter().chain(&service.external);
        for address in addresses {
            for port in &service.ports {
                let front = SocketAddrV4::new(*address, port.number);
                rules += &balanced(front, &port.backends);
            }
        }
    }
    // Only what a load balancer lets in comes in from the internet.
    rules
        + "\
-A POSTROUTING -o wan -j MASQUERADE
COMMIT
*filter
-A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i wan -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD -i wan -j REJECT
COMMIT
"
}

/// Each backend gets the same share of the connections.
fn balanced(front: SocketAddrV4, backends: &[SocketAddrV4]) -> String {
    let (ip, port) = (front.ip(), front.port());
    let rules = backends.iter().enumerate().map(|(n, backend)| {
        let left = backends.len() - n;
        let turn = format!("-m statistic --mode nth --every {left} --packet 0");
        let turn = if left > 1 { turn } else { String::new() };
        format!("-A PREROUTING -d {ip}/32 -p tcp --dport {port} {turn} -j DNAT --to-destination {backend}\n")
    });
    rules.collect()
}
