//! Mesh-wide settings: `MeshConfig` and `MeshNetworks`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    ClusterId, ClusterLocalHosts, ExportTo, Hostname, LabelSelector, LocalityLb, Namespace,
    NetworkId, OutboundPolicy, PolicySettings, Retries, TcpKeepalive, ZoneAwareLb,
};

/// What isthmus reads of `MeshConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfig {
    /// Trust domain of the mesh.
    pub trust_domain: Arc<str>,
    /// `trustDomainAliases`: its former names, and those of meshes it trusts.
    pub trust_domain_aliases: Vec<Arc<str>>,
    /// `enableAutoMtls`: mTLS to every endpoint that takes it.
    pub auto_mtls: bool,
    /// Namespace of mesh-wide objects.
    pub root_namespace: Namespace,
    /// `localityLbSetting`; none means enabled with no rules.
    pub locality_lb: LocalityLb,
    /// Mesh-wide zone-aware routing.
    pub zone_aware: Option<ZoneAwareLb>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound_policy: OutboundPolicy,
    /// `serviceSettings`: which hosts stay inside each cluster.
    pub cluster_local: ClusterLocalHosts,
    /// Namespaces that are read; empty means all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// `defaultServiceExportTo`.
    pub default_service_export_to: ExportTo,
    /// `defaultDestinationRuleExportTo`.
    pub default_rule_export_to: ExportTo,
    /// `defaultVirtualServiceExportTo`.
    pub default_virtual_service_export_to: ExportTo,
    /// `defaultTrafficPolicy`: limits and ejection for hosts whose rules set
    /// none.
    pub default_policy: PolicySettings,
    /// `defaultHttpRetryPolicy`.
    pub default_retries: Option<Retries>,
    /// `tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `h2UpgradePolicy` is `UPGRADE`.
    pub h2_upgrade: bool,
    /// `connectTimeout`.
    pub connect_timeout: Duration,
    /// `dnsRefreshRate`.
    pub dns_refresh_rate: Duration,
    /// `proxyListenPort`.
    pub outbound_port: u16,
    /// `proxyInboundListenPort`.
    pub inbound_port: u16,
    /// `proxyHttpPort`; 0 for none.
    pub http_proxy_port: u16,
    /// `protocolDetectionTimeout`.
    pub protocol_detection_timeout: Duration,
    /// `inboundTrafficPolicy.mode` is `LOCALHOST`.
    pub inbound_localhost: bool,
    /// Host of `defaultConfig.discoveryAddress`, which is cluster-local.
    pub discovery_host: Arc<str>,
}

impl Default for MeshConfig {
    /// istio's defaults (`pkg/config/mesh`).
    fn default() -> Self {
        Self {
            trust_domain: Arc::from("cluster.local"),
            trust_domain_aliases: Vec::new(),
            auto_mtls: true,
            root_namespace: Namespace::from("istio-system"),
            locality_lb: LocalityLb::default(),
            zone_aware: None,
            outbound_policy: OutboundPolicy::AllowAny,
            cluster_local: ClusterLocalHosts::default(),
            discovery_selectors: Vec::new(),
            default_service_export_to: ExportTo::Everyone,
            default_rule_export_to: ExportTo::Everyone,
            default_virtual_service_export_to: ExportTo::Everyone,
            default_policy: PolicySettings::default(),
            default_retries: None,
            tcp_keepalive: None,
            h2_upgrade: false,
            connect_timeout: Duration::from_secs(10),
            dns_refresh_rate: Duration::from_mins(1),
            outbound_port: 15001,
            inbound_port: 15006,
            http_proxy_port: 0,
            protocol_detection_timeout: Duration::ZERO,
            inbound_localhost: false,
            discovery_host: Arc::from("istiod.istio-system.svc"),
        }
    }
}

/// What a network of `MeshNetworks` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMember {
    /// All endpoints of a cluster (`fromRegistry`).
    Registry(ClusterId),
    /// All endpoints in a range (`fromCidr`).
    Cidr(IpNet),
}

/// A gateway declared in `MeshNetworks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredGateway {
    /// `address`: an IP or host name.
    Address {
        /// The address.
        address: Arc<str>,
        /// The port.
        port: u16,
    },
    /// `registryServiceName`: the Service with this host in the network's registries.
    Service {
        /// Full host name.
        host: Hostname,
        /// The port.
        port: u16,
    },
}

/// One network of `MeshNetworks`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshNetwork {
    /// Who is on it.
    pub members: Vec<NetworkMember>,
    /// How others reach it.
    pub gateways: Vec<DeclaredGateway>,
}

/// `MeshNetworks`, by network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshNetworks {
    /// The networks.
    pub networks: BTreeMap<NetworkId, MeshNetwork>,
}
