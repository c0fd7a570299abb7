//! The words of the mesh: small immutable types that parse themselves and
//! print themselves as istiod does.
//!
//! A *cluster* here is always a Kubernetes cluster ([`ClusterId`]); an Envoy
//! cluster is named by a [`ClusterName`].

mod client_tls;
mod cluster_local;
mod cluster_name;
mod connection_pool;
mod destination_rule;
mod duration;
mod endpoint;
mod export_to;
mod features;
mod gateway;
mod http_route;
mod id;
mod istio;
mod kube;
mod labels;
mod locality;
mod mesh_config;
mod network;
mod object;
mod printable;
mod proxy;
mod selector;
mod service;
mod spiffe;
mod traffic_distribution;
mod traffic_policy;
mod type_url;
mod view;
mod virtual_service;

pub use client_tls::{ClientTls, TlsSetting};
pub use cluster_local::ClusterLocalHosts;
pub use cluster_name::{ClusterName, ClusterNameError, Direction, host_of};
pub use connection_pool::{ConnectionPool, TcpKeepalive};
pub use destination_rule::{DestinationRule, Subset};
pub use duration::parse_duration;
pub use endpoint::{
    Address, Discoverability, Endpoint, Health, Provider, ShardKey, TlsMode, Workload,
};
pub use export_to::ExportTo;
pub use features::Features;
pub use gateway::{Gateway, GatewayServer, ServerTls, ServerTlsMode, TlsVersion};
pub use http_route::{
    AbortStatus, Body, CorsPolicy, Delegate, DirectResponse, Fault, HeaderChanges,
    HeaderOperations, HttpDestination, HttpMatch, HttpRoute, Mirror, Redirect, RedirectCode,
    RedirectPort, Retries, Rewrite, Share, StringMatch,
};
pub use id::{ClusterId, Hostname, Namespace, NetworkId};
pub use istio::{
    CaptureMode, EgressListener, HostPattern, IngressListener, Location, MtlsMode, OutboundPolicy,
    PeerAuthentication, ServiceEntry, ServiceEntryPort, ServiceEntryResolution, Sidecar,
    WorkloadEntry, WorkloadTarget,
};
pub use kube::{
    EndpointSlice, GatewayApiListener, KubeGateway, KubeNamespace, KubeNode, KubeService,
    KubeServicePort, Pod, ServiceExport, ServiceImport, ServiceType, SliceAddressType,
    SliceEndpoint, SlicePort, TargetPort,
};
pub use labels::Labels;
pub use locality::Locality;
pub use mesh_config::{DeclaredGateway, MeshConfig, MeshNetwork, MeshNetworks, NetworkMember};
pub use network::{GatewayAddress, NetworkGateway, NetworkTable};
pub use object::{Object, ObjectKey, ObjectKind};
pub use printable::printable;
pub use proxy::{InterceptionMode, IstioFilters, NodeKind, Proxy, ProxyIps};
pub use selector::{LabelSelector, Requirement};
pub use service::{
    PersistentSession, Protocol, Registration, Resolution, Service, ServiceKey, ServicePort,
};
pub use spiffe::{SpiffeId, SpiffeIdError};
pub use traffic_distribution::TrafficDistribution;
pub use traffic_policy::{
    ConsistentHash, Distribute, Failover, HashKey, HashTable, LoadBalancer, LocalityLb,
    OutlierDetection, PolicySettings, RetryBudget, TrafficPolicy, Warmup, ZoneAwareLb,
};
pub use type_url::TypeUrl;
pub use view::{IpFamily, NetworkView};
pub use virtual_service::{
    ConnectionMatch, Destination, GatewayName, Source, SourceMatch, TcpRoute, TlsMatch, TlsRoute,
    VirtualService, WeightedDestination,
};

/// When and where an object was made: the order in which istiod lets objects
/// win over each other (oldest first, then by name).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectMeta {
    /// RFC 3339 creation time; the text form sorts as the time does.
    pub created: std::sync::Arc<str>,
    /// `metadata.name`.
    pub name: std::sync::Arc<str>,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Namespace,
}
