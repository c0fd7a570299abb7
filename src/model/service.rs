//! Services: what can be called, on which ports, by whom.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    ClusterId, ExportTo, Features, Hostname, Labels, Namespace, ObjectMeta, Provider, TargetPort,
    TrafficDistribution,
};

/// The identity of a service across clusters (namespace sameness).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Host name.
    pub hostname: Hostname,
    /// Namespace it is defined in.
    pub namespace: Namespace,
}

/// How Envoy finds the endpoints of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// EDS.
    ClientSideLb,
    /// `STRICT_DNS` (or `LOGICAL_DNS` with the connect-strategy annotation).
    Dns,
    /// `LOGICAL_DNS`.
    DnsRoundRobin,
    /// Headless or `resolution: NONE`: `ORIGINAL_DST` for sidecars, EDS for routers.
    Passthrough,
    /// `ExternalName`: no cluster of its own.
    Alias,
    /// `DYNAMIC_DNS`, wildcard hosts only; no cluster yet.
    DynamicDns,
}

/// Application protocol of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.x.
    Http,
    /// HTTP/2, `kubernetes.io/h2c` included.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// HTTPS: opaque TLS.
    Https,
    /// TLS: opaque.
    Tls,
    /// Plain TCP, Mongo, `MySQL` and Redis included.
    Tcp,
    /// UDP: never a cluster.
    Udp,
    /// Not declared: sniffed.
    Auto,
}

impl Protocol {
    /// Whether Envoy routes it as HTTP without sniffing.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether upstream connections speak HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Name, by which endpoints join.
    pub name: Arc<str>,
    /// Port number of the service.
    pub number: u16,
    /// Application protocol.
    pub protocol: Protocol,
}

/// Persistent sessions of a service, asked for by label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PersistentSession {
    /// None.
    #[default]
    None,
    /// By cookie (`istio.io/persistent-session`).
    Cookie,
    /// By header (`istio.io/persistent-session-header`).
    Header,
}

impl PersistentSession {
    /// What the labels of a service ask for; the cookie label wins.
    pub fn of(labels: &Labels, features: &Features) -> Self {
        let set = |name: &str| labels.get(name).is_some_and(|value| !value.is_empty());
        if set(&features.session_label) {
            Self::Cookie
        } else if set(&features.session_header_label) {
            Self::Header
        } else {
            Self::None
        }
    }
}

/// What one Kubernetes cluster says of a service: needed for VIPs and for the
/// inbound side of its own pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// Cluster IPs there; `0.0.0.0` for a headless service.
    pub vips: Vec<IpAddr>,
    /// Pods it selects; empty selects none.
    pub selector: Labels,
    /// Service port number → target port.
    pub target_ports: Vec<(u16, TargetPort)>,
}

/// A service, merged over all registries that have it: everything but its
/// endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Service {
    /// Identity.
    pub key: ServiceKey,
    /// Age and object name, for istiod's "oldest first".
    pub meta: ObjectMeta,
    /// Which kind of registry defines it.
    pub provider: Provider,
    /// Ports, in declaration order.
    pub ports: Vec<ServicePort>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Outside the mesh (`MESH_EXTERNAL`): no mTLS, no SNI-DNAT.
    pub mesh_external: bool,
    /// Who may see it.
    pub export_to: ExportTo,
    /// Its labels.
    pub labels: Labels,
    /// Addresses of a `ServiceEntry`, or of the first cluster's Service.
    pub addresses: Vec<IpNet>,
    /// What each cluster says of it.
    pub registrations: BTreeMap<ClusterId, Registration>,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// The mesh configuration keeps it inside each cluster.
    pub cluster_local: bool,
    /// Preference by distance.
    pub distribution: TrafficDistribution,
    /// Persistent sessions.
    pub persistent_session: PersistentSession,
    /// DNS clusters use `LOGICAL_DNS` (`istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT`).
    pub logical_dns: bool,
    /// Service accounts its SAN list must hold beyond those of its endpoints.
    pub subject_alt_names: Vec<Arc<str>>,
}

impl Service {
    /// The first port with this number that Envoy can have a cluster for.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.tcp_ports().find(|p| p.number == number)
    }

    /// Its ports without the UDP ones, in declaration order.
    pub fn tcp_ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.ports.iter().filter(|p| p.protocol != Protocol::Udp)
    }

    /// The addresses a proxy of `cluster` calls it at: its own cluster's VIPs,
    /// else the default ones.
    pub fn vips(&self, cluster: &ClusterId) -> Vec<IpNet> {
        match self.registrations.get(cluster) {
            Some(here) if !here.vips.is_empty() => {
                here.vips.iter().map(|ip| IpNet::from(*ip)).collect()
            }
            _ => self.addresses.clone(),
        }
    }

    /// Whether it has no address of its own.
    pub fn is_headless(&self) -> bool {
        self.provider == Provider::Kubernetes && self.resolution == Resolution::Passthrough
    }
}
