//! Which network an endpoint is on (split-horizon §2).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{ClusterId, Labels, MeshNetworks, NetworkId, NetworkMember};

/// Label that names a network: of a pod, a Service, a Gateway, and of the
/// system namespace.
pub(super) const NETWORK_LABEL: &str = "topology.istio.io/network";

/// The rules of one cluster, in order: pod label, label of the cluster's own
/// system namespace, `fromRegistry`, `fromCidr`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NetworkRules {
    whole_cluster: Option<NetworkId>,
    ranges: Vec<(IpNet, NetworkId)>,
}

impl NetworkRules {
    /// The rules of `cluster`, whose system namespace carries the label
    /// `system_namespace`.
    pub(super) fn new(
        cluster: &ClusterId,
        system_namespace: Option<&str>,
        networks: &MeshNetworks,
    ) -> Self {
        let mut from_registry = None;
        let mut ranges = Vec::new();
        for (network, members) in &networks.networks {
            for member in &members.members {
                match member {
                    // istiod lets one of several networks win at random; here
                    // the first by name.
                    NetworkMember::Registry(id) if id == cluster => {
                        from_registry = from_registry.or(Some(network.clone()));
                    }
                    NetworkMember::Registry(_) => {}
                    NetworkMember::Cidr(range) => ranges.push((*range, network.clone())),
                }
            }
        }
        // Better than istiod on purpose: the most specific range wins, not the
        // least specific one.
        ranges.sort_by(|(a, an), (b, bn)| {
            b.prefix_len()
                .cmp(&a.prefix_len())
                .then_with(|| (a, an).cmp(&(b, bn)))
        });
        let labelled = system_namespace.and_then(NetworkId::from_text);
        Self {
            whole_cluster: labelled.or(from_registry),
            ranges,
        }
    }

    /// The network of a workload with these labels at this address.
    pub(super) fn network(&self, labels: &Labels, ip: Option<IpAddr>) -> Option<NetworkId> {
        let labelled = labels.get(NETWORK_LABEL).and_then(NetworkId::from_text);
        labelled
            .or_else(|| self.whole_cluster.clone())
            .or_else(|| self.by_range(ip?))
    }

    fn by_range(&self, ip: IpAddr) -> Option<NetworkId> {
        let ip = ip.to_canonical();
        let mut hits = self.ranges.iter().filter(|(range, _)| range.contains(&ip));
        hits.next().map(|(_, network)| network.clone())
    }
}
