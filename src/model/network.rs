//! East-west gateways: how one network is reached from another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{ClusterId, NetworkId};

/// Address of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayAddress {
    /// An IP address: given, or the answer for a host name.
    Ip(IpAddr),
    /// A host name, only in [`NetworkTable::declared`], for DNS-type clusters.
    Hostname(Arc<str>),
}

/// One address and port at which a network's gateway takes traffic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGateway {
    /// The network behind it.
    pub network: NetworkId,
    /// The cluster whose Service or Gateway it is; none when `meshNetworks` declares it.
    pub cluster: Option<ClusterId>,
    /// Address.
    pub address: GatewayAddress,
    /// mTLS port; 0 for a gateway that takes HBONE only.
    pub port: u16,
}

/// The gateways of one network, and those of each of its clusters.
type Index = BTreeMap<NetworkId, BTreeMap<Option<ClusterId>, Vec<NetworkGateway>>>;

/// All gateways of the mesh, immutable.
///
/// One address and port of one network counts once, however many ways it was
/// found (istiod counts and sends it twice).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkTable {
    resolved: Index,
    declared: Index,
    known: BTreeSet<NetworkId>,
    scale: u32,
}

impl NetworkTable {
    /// Builds the table. `resolved` holds IP gateways only; `declared` holds
    /// the same before host names were resolved. A network that is only in
    /// `declared` has a gateway that cannot be reached now: its endpoints are
    /// not sent by their own addresses.
    pub fn new(
        resolved: impl IntoIterator<Item = NetworkGateway>,
        declared: impl IntoIterator<Item = NetworkGateway>,
    ) -> Self {
        let resolved = index(resolved);
        let declared = index(declared);
        let known = resolved.keys().chain(declared.keys()).cloned().collect();
        let scale = scale(&resolved);
        Self {
            resolved,
            declared,
            known,
            scale,
        }
    }

    /// Gateways for endpoints of `network` in `cluster`: those of the cluster,
    /// else all of the network. Sorted by address and port.
    pub fn gateways(&self, network: &NetworkId, cluster: &ClusterId) -> Vec<&NetworkGateway> {
        pick(&self.resolved, network, cluster)
    }

    /// As [`Self::gateways`], host names unresolved (for DNS-type clusters).
    pub fn declared_gateways(
        &self,
        network: &NetworkId,
        cluster: &ClusterId,
    ) -> Vec<&NetworkGateway> {
        pick(&self.declared, network, cluster)
    }

    /// Whether `network` has a gateway, resolved or not.
    pub fn has_gateway(&self, network: &NetworkId) -> bool {
        self.known.contains(network)
    }

    /// Whether any network has a gateway, resolved or not. Where none has, the
    /// horizon does nothing at all.
    pub fn is_multi_network(&self) -> bool {
        !self.known.is_empty()
    }

    /// Least common multiple of the gateway counts of every network and of
    /// every (network, cluster); at least 1. Endpoint weights are multiplied by
    /// it, so that each gateway's share is whole (istiod does the same).
    pub fn scale(&self) -> u32 {
        self.scale.max(1)
    }

    /// As [`Self::scale`], of the gateways as declared (for DNS-type clusters).
    pub fn declared_scale(&self) -> u32 {
        scale(&self.declared).max(1)
    }

    /// Every resolved gateway, by network, then cluster, then address.
    pub fn iter(&self) -> impl Iterator<Item = &NetworkGateway> {
        self.resolved.values().flat_map(BTreeMap::values).flatten()
    }

    /// Networks whose gateways differ between the two tables.
    pub fn changed_networks<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a NetworkId> {
        let all = self.known.iter().chain(&other.known);
        all.filter(|n| {
            self.resolved.get(*n) != other.resolved.get(*n)
                || self.declared.get(*n) != other.declared.get(*n)
        })
        .collect()
    }
}

fn index(gateways: impl IntoIterator<Item = NetworkGateway>) -> Index {
    let all: BTreeSet<NetworkGateway> = gateways.into_iter().collect();
    let mut index = Index::new();
    for gateway in &all {
        // `None` sorts first: drop the declared twin of a discovered gateway.
        let is_twin = gateway.cluster.is_none()
            && all.iter().any(|g| {
                g.cluster.is_some()
                    && (&g.network, &g.address, g.port)
                        == (&gateway.network, &gateway.address, gateway.port)
            });
        if !is_twin {
            let of_network = index.entry(gateway.network.clone()).or_default();
            of_network
                .entry(gateway.cluster.clone())
                .or_default()
                .push(gateway.clone());
        }
    }
    for gateways in index.values_mut().flat_map(BTreeMap::values_mut) {
        gateways.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
    }
    index
}

fn pick<'a>(index: &'a Index, network: &NetworkId, cluster: &ClusterId) -> Vec<&'a NetworkGateway> {
    let Some(of_network) = index.get(network) else {
        return Vec::new();
    };
    if let Some(own) = of_network.get(&Some(cluster.clone())) {
        return own.iter().collect();
    }
    distinct(of_network)
}

/// All gateways of a network; one address and port of two clusters stands once.
fn distinct(of_network: &BTreeMap<Option<ClusterId>, Vec<NetworkGateway>>) -> Vec<&NetworkGateway> {
    let mut all: Vec<_> = of_network.values().flatten().collect();
    all.sort_by(|a, b| (&a.address, a.port, &a.cluster).cmp(&(&b.address, b.port, &b.cluster)));
    all.dedup_by(|b, a| (&a.address, a.port) == (&b.address, b.port));
    all
}

fn scale(index: &Index) -> u32 {
    let counts = index.values().flat_map(|of_network| {
        let per_cluster = of_network.iter().filter(|(cluster, _)| cluster.is_some());
        per_cluster
            .map(|(_, list)| list.len())
            .chain([distinct(of_network).len()])
    });
    counts.fold(1, |scale, count| {
        lcm(scale, u32::try_from(count).unwrap_or(u32::MAX))
    })
}

fn lcm(a: u32, b: u32) -> u32 {
    let gcd = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    match gcd(a, b) {
        0 => a.max(b),
        divisor => (a / divisor).saturating_mul(b),
    }
}
