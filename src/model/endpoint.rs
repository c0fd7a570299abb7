//! Endpoints of services and the workloads behind them.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{ClusterId, Labels, Locality, Namespace, NetworkId};

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// All addresses of a dual-stack pod (`ISTIO_DUAL_STACK`), the first one
    /// first: Envoy takes whichever connects.
    Ips(Arc<[IpAddr]>),
    /// A host name, only behind DNS-type services.
    Hostname(Arc<str>),
    /// A unix socket path; its endpoint has port 0.
    Unix(Arc<str>),
    /// Unknown: a workload of another network that is reached through its
    /// gateways only (`WorkloadEntry` with a network and no address).
    Unknown,
}

impl Address {
    /// Its IP addresses; none where it is something else.
    pub fn ips(&self) -> &[IpAddr] {
        match self {
            Self::Ip(ip) => std::slice::from_ref(ip),
            Self::Ips(ips) => ips,
            Self::Hostname(_) | Self::Unix(_) | Self::Unknown => &[],
        }
    }
}

/// State of an endpoint as its registry reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// `ServiceEntry` and `WorkloadEntry` endpoints say nothing of health.
    Unknown,
    /// Ready.
    Healthy,
    /// Not ready.
    Unhealthy,
    /// Going away, still serving persistent sessions.
    Draining,
    /// Going away; never sent.
    Terminating,
}

impl Health {
    /// Whether Envoy sends requests to it in normal operation.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }
}

/// What `security.istio.io/tlsMode` says of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// No sidecar: plain text only.
    #[default]
    Disabled,
    /// The workload's proxy takes mesh mTLS.
    Istio,
    /// A custom value, passed through to Envoy's transport socket match.
    Other(Arc<str>),
}

impl TlsMode {
    /// The mode of a label value; empty counts as absent.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "disabled" => Self::Disabled,
            "istio" => Self::Istio,
            other => Self::Other(Arc::from(other)),
        }
    }

    /// The value for `envoy.transport_socket_match`, if one is sent.
    pub fn match_value(&self) -> Option<&str> {
        match self {
            Self::Disabled => None,
            Self::Istio => Some("istio"),
            Self::Other(text) => Some(text),
        }
    }
}

/// Who may see an endpoint (Multi-Cluster Services).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Discoverability {
    /// Every proxy.
    #[default]
    Everywhere,
    /// Only proxies of its own cluster (no `ServiceExport` there).
    SameCluster,
}

/// A pod or `WorkloadEntry`: what all its endpoints share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// Name of the pod or `WorkloadEntry`; empty for a bare address.
    pub name: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// Its labels plus istiod's topology labels (split-horizon §2).
    pub labels: Labels,
    /// The node it runs on; empty when unknown.
    pub node: Arc<str>,
    /// Its name below the domain of a headless service; empty where it has none.
    pub dns_name: Arc<str>,
    /// What it has in common with its replicas.
    pub template: Arc<WorkloadTemplate>,
}

/// What the replicas of a workload in one cluster have in common. They share it:
/// there are far fewer templates than pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct WorkloadTemplate {
    /// Namespace; empty for a bare address.
    pub namespace: Namespace,
    /// The cluster they run in.
    pub cluster: ClusterId,
    /// The network they are on.
    pub network: Option<NetworkId>,
    /// Whether their proxies take mTLS.
    pub tls_mode: TlsMode,
    /// `spiffe://domain/ns/namespace/sa/account`; empty when unknown.
    pub identity: Arc<str>,
    /// Their labels say that they are draining (`PILOT_DRAINING_LABEL`). Told
    /// apart here, because every endpoint answer asks.
    pub draining: bool,
    /// Envoy metadata `istio.workload`:
    /// `workload;namespace;canonical name;canonical revision;cluster`.
    pub metadata: Arc<str>,
    /// Named container ports, by which a service port may name its target.
    pub ports: Arc<[(Arc<str>, u16)]>,
}

/// One address and port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Target port; 0 for a unix socket.
    pub port: u16,
    /// State.
    pub health: Health,
    /// Who may see it.
    pub discoverability: Discoverability,
    /// A `PeerAuthentication` turns mTLS off for this workload and port.
    pub mtls_disabled: bool,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Name of the service port it serves, by which the two are joined.
    pub port_name: Arc<str>,
    /// The pod or `WorkloadEntry` behind it.
    pub workload: Arc<Workload>,
}

/// Kind of registry that reported a service or an endpoint. The order is
/// istiod's shard order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// `ServiceEntry` and `WorkloadEntry`.
    External,
    /// A Kubernetes cluster's Services and `EndpointSlice`s.
    Kubernetes,
}

/// One registry's part of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The kind of registry.
    pub provider: Provider,
    /// The cluster that reported; for [`Provider::External`] the config cluster.
    pub cluster: ClusterId,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.provider, self.cluster)
    }
}
