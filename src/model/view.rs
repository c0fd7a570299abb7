//! What of a proxy an endpoint answer depends on.

use std::sync::Arc;

use super::{ClusterId, Labels, Locality, NetworkId, NodeKind};

/// Address families a proxy can dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum IpFamily {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both, or unknown.
    #[default]
    Any,
}

/// The class of proxies that get the same answer for one service: the whole
/// key of an encoded answer. Fields that a service does not depend on are left
/// at their default when the view is made, so that more proxies share.
///
/// Wider than istiod's `ProxyView`: its cache key lacks the IP family, though
/// the answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NetworkView {
    /// The proxy's network.
    pub network: Option<NetworkId>,
    /// `REQUESTED_NETWORK_VIEW`, sorted; empty means every network.
    pub requested: Arc<[NetworkId]>,
    /// What it can dial.
    pub family: IpFamily,
    /// Sidecar or router.
    pub kind: NodeKind,
    /// Its cluster, where the service keeps endpoints to their cluster.
    pub cluster: Option<ClusterId>,
    /// Its locality, where the service balances by locality.
    pub locality: Option<Locality>,
    /// Values of the failover-priority labels, where the service uses them.
    pub labels: Labels,
    /// Its node, where the service is node-local.
    pub node: Option<Arc<str>>,
    /// Index into the service's rules of the `DestinationRule` that applies.
    pub rule: Option<u16>,
}
