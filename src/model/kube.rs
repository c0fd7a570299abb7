//! Kubernetes and Gateway API objects, cut down to what the mesh uses.

use std::{net::IpAddr, sync::Arc};

use super::{Labels, ObjectMeta, Protocol};

/// Which field of a container a service port leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A container port's name.
    Name(Arc<str>),
}

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServiceType {
    /// `ClusterIP`.
    #[default]
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`.
    ExternalName,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeServicePort {
    /// Name; empty where there is one port only.
    pub name: Arc<str>,
    /// Port number.
    pub port: u16,
    /// Protocol, from `protocol`, `appProtocol` and the name's prefix.
    pub protocol: Protocol,
    /// `targetPort`; the port where it is unset.
    pub target_port: TargetPort,
    /// `nodePort`, if allocated.
    pub node_port: Option<u16>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeService {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Labels.
    pub labels: Labels,
    /// Those annotations that isthmus reads, sorted.
    pub annotations: Labels,
    /// `spec.type`.
    pub kind: ServiceType,
    /// Cluster IPs; empty for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`: IP or host name, in order.
    pub load_balancer: Vec<Arc<str>>,
    /// Ports.
    pub ports: Vec<KubeServicePort>,
    /// Selector.
    pub selector: Labels,
    /// `spec.externalName`, for that type.
    pub external_name: Option<Arc<str>>,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// `spec.trafficDistribution`, as written.
    pub traffic_distribution: Option<Arc<str>>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
}

/// Address type of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SliceAddressType {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Names: ignored, as by istiod.
    Fqdn,
}

/// One port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Name, equal to the service port's.
    pub name: Arc<str>,
    /// Target port.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Addresses; more than one is one endpoint each.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; unset counts as true.
    pub ready: Option<bool>,
    /// `conditions.serving`.
    pub serving: Option<bool>,
    /// `conditions.terminating`.
    pub terminating: Option<bool>,
    /// Pod named by `targetRef`; none for a bare address.
    pub pod: Option<Arc<str>>,
}

/// An `EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name and namespace (age unused).
    pub meta: ObjectMeta,
    /// `kubernetes.io/service-name`; empty where it is missing.
    pub service: Arc<str>,
    /// Made by an MCS controller (`multicluster.kubernetes.io/service-name`): ignored.
    pub mcs: bool,
    /// Address type.
    pub address_type: SliceAddressType,
    /// Ports.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Name and namespace (age unused).
    pub meta: ObjectMeta,
    /// Labels.
    pub labels: Labels,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: Arc<str>,
    /// `spec.serviceAccountName`.
    pub service_account: Arc<str>,
    /// Its name below the domain of its service: `hostname.subdomain`; empty
    /// where it has none.
    pub dns_name: Arc<str>,
    /// Owning workload's name where an owner reference tells it, else the pod's.
    pub workload_name: Arc<str>,
    /// Condition `Ready`.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    /// `Succeeded` or `Failed`: its address is free again.
    pub finished: bool,
    /// Named container ports: name → number.
    pub container_ports: Vec<(Arc<str>, u16)>,
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeNode {
    /// Name.
    pub meta: ObjectMeta,
    /// Labels.
    pub labels: Labels,
    /// First address of type `ExternalIP`.
    pub external_ip: Option<IpAddr>,
}

/// A Namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeNamespace {
    /// Name.
    pub meta: ObjectMeta,
    /// Labels.
    pub labels: Labels,
    /// Those annotations that isthmus reads, sorted.
    pub annotations: Labels,
}

/// One listener of a Gateway API Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayApiListener {
    /// Port.
    pub port: u16,
    /// Protocol, as written.
    pub protocol: Arc<str>,
    /// It has a `tls` part.
    pub tls: bool,
    /// TLS option `gateway.istio.io/listener-protocol`.
    pub listener_protocol: Option<Arc<str>>,
}

/// A Gateway API Gateway (`gateway.networking.k8s.io`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeGateway {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Labels.
    pub labels: Labels,
    /// `spec.gatewayClassName`.
    pub class: Arc<str>,
    /// `spec.addresses` of type `IPAddress` or `Hostname`.
    pub addresses: Vec<Arc<str>>,
    /// Listeners.
    pub listeners: Vec<GatewayApiListener>,
}

/// An MCS `ServiceExport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceExport {
    /// Name and namespace of the exported Service.
    pub meta: ObjectMeta,
}

/// An MCS `ServiceImport`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceImport {
    /// Name and namespace of the imported Service.
    pub meta: ObjectMeta,
    /// Valid `spec.ips`, sorted.
    pub ips: Vec<IpAddr>,
}
