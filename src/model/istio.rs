//! Istio objects that decide which endpoints a proxy gets, as the mesh sees
//! them. They are read from the config cluster only, but for `WorkloadEntry`.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{ExportTo, Labels, Namespace, NetworkId, ObjectMeta, Protocol};

/// Inside or outside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Location {
    /// `MESH_EXTERNAL`.
    #[default]
    External,
    /// `MESH_INTERNAL`.
    Internal,
}

/// `ServiceEntry.spec.resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServiceEntryResolution {
    /// Original destination.
    #[default]
    None,
    /// Addresses given as IPs.
    Static,
    /// Names resolved by Envoy, all addresses used.
    Dns,
    /// Names resolved by Envoy, one address used.
    DnsRoundRobin,
    /// Wildcard hosts resolved on demand.
    DynamicDns,
}

/// A `ServiceEntry`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Its labels, which its services carry.
    pub labels: Labels,
    /// Hosts, each a service of its own.
    pub hosts: Vec<Arc<str>>,
    /// Addresses or ranges.
    pub addresses: Vec<IpNet>,
    /// Ports.
    pub ports: Vec<ServiceEntryPort>,
    /// Inside or outside the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: ServiceEntryResolution,
    /// Inline endpoints.
    pub endpoints: Vec<WorkloadTarget>,
    /// Pods and `WorkloadEntry`s of its namespace; none where it is absent.
    pub workload_selector: Option<Labels>,
    /// Who may see it; none means the mesh's default.
    pub export_to: Option<ExportTo>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Annotation `istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT` (in any
    /// case), which asks for `LOGICAL_DNS`.
    pub logical_dns: bool,
    /// Annotation `networking.istio.io/traffic-distribution`, as written.
    pub traffic_distribution: Option<Arc<str>>,
}

/// One port of a `ServiceEntry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntryPort {
    /// Service port.
    pub number: u16,
    /// Name.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// `targetPort`; the number where it is unset.
    pub target_port: Option<u16>,
}

/// The spec of a `WorkloadEntry`, also used inline by a `ServiceEntry`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadTarget {
    /// IP, host name, `unix://` path, or empty (only its network counts).
    pub address: Arc<str>,
    /// Port name → number.
    pub ports: Vec<(Arc<str>, u16)>,
    /// `spec.labels`.
    pub labels: Labels,
    /// `spec.network`.
    pub network: Option<NetworkId>,
    /// `spec.locality`.
    pub locality: Arc<str>,
    /// `spec.weight`; 0 where unset.
    pub weight: u32,
    /// `spec.serviceAccount`.
    pub service_account: Arc<str>,
}

/// A `WorkloadEntry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Labels of the object; they win over `spec.labels`.
    pub labels: Labels,
    /// The spec.
    pub target: WorkloadTarget,
    /// False where it carries a health check and its condition is not true.
    pub healthy: bool,
    /// Annotation `istio.io/autoRegistrationGroup`, empty where absent: the
    /// workload name that telemetry shows.
    pub group: Arc<str>,
}

/// How much mTLS a `PeerAuthentication` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MtlsMode {
    /// Inherit.
    #[default]
    Unset,
    /// Off.
    Disable,
    /// Both.
    Permissive,
    /// Only mTLS.
    Strict,
}

impl MtlsMode {
    /// This mode, or `inherited` where it is unset.
    #[must_use]
    pub fn or(self, inherited: Self) -> Self {
        match self {
            Self::Unset => inherited,
            set => set,
        }
    }
}

/// A `PeerAuthentication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Workloads it applies to; empty means the namespace (or mesh).
    pub selector: Labels,
    /// Mode.
    pub mode: MtlsMode,
    /// Mode by target port.
    pub ports: Vec<(u16, MtlsMode)>,
}

/// A host pattern of a `Sidecar`: `namespace/dns name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// `*`, `.` or a namespace. Behind a `~` the pattern excludes what it
    /// matches; `~` alone stands for `~*`.
    pub namespace: Namespace,
    /// Host, `*.suffix` or `*`.
    pub host: Arc<str>,
}

/// How a `Sidecar` listener gets its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CaptureMode {
    /// As the proxy's interception mode says.
    #[default]
    Default,
    /// By iptables.
    Iptables,
    /// By dialling the listener.
    None,
}

/// One `egress` entry of a `Sidecar`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EgressListener {
    /// `port`: number, protocol, name. Without it the entry covers all ports.
    pub port: Option<(u16, Protocol, Arc<str>)>,
    /// The port's protocol is `HTTP_PROXY`: it takes requests for any port of
    /// the services it imports.
    pub http_proxy: bool,
    /// `bind`: an IP or `unix://` path; empty for the default.
    pub bind: Arc<str>,
    /// `captureMode`.
    pub capture_mode: CaptureMode,
    /// Services it imports.
    pub hosts: Vec<HostPattern>,
}

/// One `ingress` entry of a `Sidecar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressListener {
    /// `port`: number, protocol, name.
    pub port: (u16, Protocol, Arc<str>),
    /// `bind`: an IP; empty for the instance's.
    pub bind: Arc<str>,
    /// `captureMode`.
    pub capture_mode: CaptureMode,
    /// `defaultEndpoint`, as written.
    pub default_endpoint: Arc<str>,
}

/// Where traffic to unknown hosts goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OutboundPolicy {
    /// Nowhere.
    RegistryOnly,
    /// To its original destination.
    #[default]
    AllowAny,
}

/// A `Sidecar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Workloads it applies to; none means all of the namespace.
    pub workload_selector: Option<Labels>,
    /// What they may call; none means everything visible.
    pub egress: Vec<EgressListener>,
    /// What they listen on; none means the default inbound.
    pub ingress: Vec<IngressListener>,
    /// `outboundTrafficPolicy`, if set.
    pub outbound_policy: Option<OutboundPolicy>,
}

impl WorkloadTarget {
    /// The address, where it is an IP.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}
