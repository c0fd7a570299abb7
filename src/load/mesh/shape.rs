//! How large a mesh is, and what its parts are called.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Endpoints of one `EndpointSlice`; the limit of Kubernetes' own controller.
const PER_SLICE: u32 = 100;
/// Nodes of each cluster, a zone each.
pub(super) const NODES: u32 = 3;
/// Pods from here on: 10.16.0.0.
const PODS: u32 = 0x0a10_0000;
/// Services from here on: 172.16.0.0/12.
const SERVICES: u32 = 0xac10_0000;
/// East-west gateways from here on: 198.18.0.1.
const GATEWAYS: u32 = 0xc612_0001;
/// Endpoints that have an address of their own: 10.16.0.0 to 10.255.255.255.
pub const MAX_ENDPOINTS: u64 = 240 << 16;
/// Services of all clusters that have an address of their own.
const MAX_SERVICES: u64 = 1 << 20;
/// Every cluster is a network, and its gateway has an address.
const MAX_CLUSTERS: u32 = 1 << 15;

/// How large a mesh is. Every cluster is a network of its own and has the same
/// services, with endpoints of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Clusters, a network each.
    pub clusters: u32,
    /// Namespaces that the services are spread over.
    pub namespaces: u32,
    /// Services, the same in each cluster.
    pub services: u32,
    /// Endpoints of each service in each cluster, a pod each.
    pub endpoints: u32,
    /// Whether each network has an east-west gateway.
    pub gateways: bool,
}

/// Why there cannot be such a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No clusters, namespaces or services.
    #[error("a mesh needs at least one cluster, namespace and service")]
    Empty,
    /// Addresses would be given twice.
    #[error("{count} {what} are too many: at most {most} have an address of their own")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many there may be.
        most: u64,
    },
}

/// Name of a cluster, as in its remote Secret: `c1` is the first.
pub fn cluster_name(cluster: u32) -> String {
    format!("c{}", u64::from(cluster) + 1)
}

/// Name of a cluster's network.
pub fn network_name(cluster: u32) -> String {
    format!("n{}", u64::from(cluster) + 1)
}

/// Name of a service.
pub fn service_name(service: u32) -> String {
    format!("svc-{service}")
}

impl Shape {
    /// Endpoints of all clusters, without markers.
    pub fn total_endpoints(&self) -> u64 {
        self.total_services()
            .saturating_mul(u64::from(self.endpoints))
    }

    /// Services of all clusters, one that is in several counted for each.
    pub fn total_services(&self) -> u64 {
        u64::from(self.clusters).saturating_mul(u64::from(self.services))
    }

    /// Whether there can be such a mesh.
    pub fn check(&self) -> Result<(), ShapeError> {
        if self.clusters == 0 || self.namespaces == 0 || self.services == 0 {
            return Err(ShapeError::Empty);
        }
        let counts = [
            (
                "clusters",
                u64::from(self.clusters),
                u64::from(MAX_CLUSTERS),
            ),
            ("services", self.total_services(), MAX_SERVICES),
            ("endpoints", self.total_endpoints(), MAX_ENDPOINTS),
        ];
        for (what, count, most) in counts {
            if count > most {
                return Err(ShapeError::TooMany { what, count, most });
            }
        }
        Ok(())
    }

    /// Namespace of a service.
    pub fn namespace_of(&self, service: u32) -> String {
        load_namespace(service % self.namespaces.max(1))
    }

    /// DNS name of a service.
    pub fn host(&self, service: u32, domain: &str) -> String {
        let namespace = self.namespace_of(service);
        format!("{}.{namespace}.svc.{domain}", service_name(service))
    }

    /// Address of a pod; no two of a mesh are alike.
    pub fn pod_ip(&self, cluster: u32, service: u32, endpoint: u32) -> Ipv4Addr {
        let service = self.ordinal(cluster, service);
        let pod = service.wrapping_mul(self.endpoints).wrapping_add(endpoint);
        Ipv4Addr::from_bits(PODS.wrapping_add(pod))
    }

    /// Virtual address of a service, where no API server gives it one.
    pub fn service_ip(&self, cluster: u32, service: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(SERVICES.wrapping_add(self.ordinal(cluster, service)))
    }

    /// Address of a network's east-west gateway.
    pub fn gateway_ip(&self, cluster: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(GATEWAYS.wrapping_add(cluster))
    }

    /// `EndpointSlice`s of each service in each cluster; never none, since a
    /// marker needs one.
    pub fn slices(&self) -> u32 {
        self.endpoints.div_ceil(PER_SLICE).max(1)
    }

    /// The slice that a marker is put into.
    pub(super) fn marked_slice(&self) -> u32 {
        self.slices().saturating_sub(1)
    }

    /// Endpoints of a slice of a service, by their numbers.
    pub(super) fn endpoints_of(&self, slice: u32) -> std::ops::Range<u32> {
        let first = slice.saturating_mul(PER_SLICE).min(self.endpoints);
        first..first.saturating_add(PER_SLICE).min(self.endpoints)
    }

    /// Number of a service of a cluster among those of all clusters.
    fn ordinal(&self, cluster: u32, service: u32) -> u32 {
        cluster.wrapping_mul(self.services).wrapping_add(service)
    }
}

/// Name of one of the namespaces that hold services.
pub(super) fn load_namespace(number: u32) -> String {
    format!("load-{number}")
}
