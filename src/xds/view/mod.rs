//! What of a proxy the endpoint answer of one Envoy cluster depends on.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::mesh::ServiceState;
use crate::model::{
    ClusterName, IpFamily, Labels, Locality, NetworkView, NodeKind, Proxy, Workload,
};
use crate::xds::endpoint_policy::{
    Balance, CLUSTER_LABEL, Distance, EndpointPolicy, HOSTNAME_LABEL, NETWORK_LABEL, REGION_LABEL,
    SUBZONE_LABEL, ZONE_LABEL,
};
use crate::xds::locality_lb::{entry, overriding};

/// The view a proxy has of one Envoy cluster: the key of its endpoint answer.
///
/// `workload` is the pod behind the proxy where its registry knows it; `rule`
/// is the index among the service's rules of the `DestinationRule` that the
/// proxy uses. What the answer does not depend on stays at its default, so that
/// proxies share answers.
pub fn project(
    proxy: &Proxy,
    workload: Option<&Workload>,
    service: &ServiceState,
    cluster: &ClusterName,
    rule: Option<u16>,
) -> NetworkView {
    let definition = &service.service;
    if definition.port(cluster.port).is_none() {
        return NetworkView::default();
    }
    let (rule, policy) = effective_rule(service, cluster, rule);
    let is_multi_network = service.networks.is_multi_network();
    let is_cluster_bound =
        definition.cluster_local || definition.node_local || service.features.mcs_discovery;
    let place = Place::new(proxy, workload);
    NetworkView {
        network: proxy.network.clone().filter(|_| is_multi_network),
        requested: Arc::clone(&proxy.requested_networks),
        family: if is_multi_network {
            proxy.ips.family()
        } else {
            IpFamily::Any
        },
        // Sidecars and routers get the same: both use mTLS gateways only.
        kind: NodeKind::default(),
        cluster: is_cluster_bound.then(|| proxy.cluster.clone()),
        locality: place.relevant_locality(&policy.balance),
        labels: place.relevant_labels(&policy.balance),
        node: definition.node_local.then(|| Arc::clone(&proxy.node)),
        rule,
    }
}

/// A rule that changes nothing for this cluster is the same as none.
fn effective_rule(
    service: &ServiceState,
    cluster: &ClusterName,
    rule: Option<u16>,
) -> (Option<u16>, EndpointPolicy) {
    let without = EndpointPolicy::new(service, None, cluster);
    let Some((at, found)) = rule.and_then(|at| Some((at, service.rules.get(usize::from(at))?)))
    else {
        return (None, without);
    };
    let with = EndpointPolicy::new(service, Some(found), cluster);
    ((with != without).then_some(at), with)
}

/// Where a proxy is and how it is labelled (split-horizon §1.6, §2).
struct Place<'a> {
    proxy: &'a Proxy,
    labels: &'a Labels,
    locality: Locality,
}

impl<'a> Place<'a> {
    fn new(proxy: &'a Proxy, workload: Option<&'a Workload>) -> Self {
        // istiod: the pod's labels replace those of the node metadata.
        let labels = workload.map_or(&proxy.labels, |w| &w.labels);
        let locality = from_labels(labels)
            .or_else(|| {
                workload
                    .map(|w| w.locality.clone())
                    .filter(|l| !l.is_empty())
            })
            .unwrap_or_else(|| proxy.locality.clone());
        Self {
            proxy,
            labels,
            locality,
        }
    }

    fn relevant_locality(&self, balance: &Balance) -> Option<Locality> {
        let here = &self.locality;
        match balance {
            Balance::Distribute(_)
            | Balance::Priorities {
                distance: Distance::Locality(_),
                ..
            } => Some(here.clone()),
            Balance::Priorities {
                distance: Distance::Region(_),
                ..
            } => Some(Locality::new(here.region(), "", "")),
            _ => None,
        }
    }

    /// The values that failover compares; absent ones are empty. The set is
    /// empty only for a proxy without any label, whose groups are not split.
    fn relevant_labels(&self, balance: &Balance) -> Labels {
        let Balance::Priorities { labels, .. } = balance else {
            return Labels::default();
        };
        if self.has_no_label() {
            return Labels::default();
        }
        let names = labels.iter().map(|text| entry(text).0);
        let pairs = names.map(|name| match overriding(labels, name) {
            Some(_) => (name, ""),
            None => (name, self.label(name)),
        });
        pairs.collect()
    }

    /// istio: `AugmentLabels`: what is known of the place wins over labels, but
    /// for the network.
    fn label(&self, name: &str) -> &str {
        let own = self.labels.get(name).unwrap_or_default();
        let network = self.proxy.network.as_deref().unwrap_or_default();
        let known = match name {
            REGION_LABEL => self.locality.region(),
            ZONE_LABEL => self.locality.zone(),
            SUBZONE_LABEL => self.locality.subzone(),
            CLUSTER_LABEL => &self.proxy.cluster,
            HOSTNAME_LABEL => &self.proxy.node,
            NETWORK_LABEL if own.is_empty() => network,
            _ => "",
        };
        if known.is_empty() { own } else { known }
    }

    fn has_no_label(&self) -> bool {
        let proxy = self.proxy;
        self.labels.is_empty()
            && self.locality.is_empty()
            && proxy.cluster.is_empty()
            && proxy.node.is_empty()
            && proxy.network.is_none()
    }
}

/// istio: `localityFromProxyLabels`.
fn from_labels(labels: &Labels) -> Option<Locality> {
    let parts = [REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL].map(|name| labels.get(name));
    if parts.iter().any(Option::is_some) {
        let [region, zone, subzone] = parts.map(Option::unwrap_or_default);
        return Some(Locality::new(region, zone, subzone));
    }
    let set = |name| labels.get(name).filter(|text| !text.is_empty());
    if let Some(text) = set("topology.istio.io/locality") {
        return Some(Locality::parse(text));
    }
    // The old label cannot hold slashes, so dots stand for them.
    let old = set("istio-locality")?;
    if old.contains('/') {
        return Some(Locality::parse(old));
    }
    Some(Locality::parse(&old.replace('.', "/")))
}
