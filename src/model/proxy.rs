//! A connected proxy.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{ClusterId, IpFamily, Labels, Locality, Namespace, NetworkId};

/// What kind of proxy connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum NodeKind {
    /// Beside a workload.
    #[default]
    Sidecar,
    /// A gateway.
    Router,
}

/// How traffic gets into a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InterceptionMode {
    /// iptables REDIRECT.
    #[default]
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Applications dial the listeners.
    None,
}

/// Which of istio's own filters a proxy's Envoy was built with. Upstream Envoy
/// refuses resources that mention them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IstioFilters {
    /// `istio.alpn`: offers what tells mesh HTTP apart, by request.
    pub alpn: bool,
    /// `istio.metadata_exchange`, for TCP.
    pub metadata_exchange: bool,
    /// Peer metadata, for HTTP.
    pub peer_metadata: bool,
}

/// Addresses of a proxy, the first one its main one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyIps(pub Vec<IpAddr>);

impl ProxyIps {
    /// What it can dial; unknown counts as both. An IPv4-mapped IPv6 address
    /// is an IPv4 one.
    pub fn family(&self) -> IpFamily {
        let v4 = |ip: &IpAddr| ip.to_canonical().is_ipv4();
        match (self.0.iter().any(v4), self.0.iter().any(|ip| !v4(ip))) {
            (true, false) => IpFamily::V4,
            (false, true) => IpFamily::V6,
            _ => IpFamily::Any,
        }
    }
}

/// A connected proxy, read from its first request. No encoder sees it: what an
/// answer depends on goes into a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `Node.id` as sent.
    pub id: Arc<str>,
    /// Kind.
    pub kind: NodeKind,
    /// Pod or workload name: third part of the id before its last dot.
    pub name: Arc<str>,
    /// Config namespace.
    pub namespace: Namespace,
    /// DNS domain, fourth part of the id.
    pub domain: Arc<str>,
    /// Addresses.
    pub ips: ProxyIps,
    /// Its Kubernetes cluster.
    pub cluster: ClusterId,
    /// Its network.
    pub network: Option<NetworkId>,
    /// Networks it wants to see, sorted; empty means all.
    pub requested_networks: Arc<[NetworkId]>,
    /// Labels from its metadata; its pod's labels win where the pod is known.
    pub labels: Labels,
    /// Locality of the node message; its pod's wins where the pod is known.
    pub locality: Locality,
    /// `NODE_NAME`; empty when unknown.
    pub node: Arc<str>,
    /// `SERVICE_ACCOUNT`; empty when unknown.
    pub service_account: Arc<str>,
    /// Interception.
    pub interception: InterceptionMode,
    /// `UNPRIVILEGED_POD`: it cannot bind ports under 1024.
    pub unprivileged: bool,
    /// `ENVOY_STATUS_PORT` and `ENVOY_PROMETHEUS_PORT`: ports it has bound itself.
    pub own_ports: BTreeSet<u16>,
    /// `POD_PORTS`: the named ports of its pod, for as long as the pod is unknown.
    pub pod_ports: Arc<[(Arc<str>, u16)]>,
    /// `HTTP_PROXY_PORT`, if set.
    pub http_proxy_port: Option<u16>,
    /// `ISTIO_VERSION`; empty when unknown.
    pub version: Arc<str>,
    /// Names of the extensions its Envoy was built with (`Node.extensions`).
    /// Envoy lists about 600: the set is shared by all proxies of one build.
    pub extensions: Arc<BTreeSet<Arc<str>>>,
}
