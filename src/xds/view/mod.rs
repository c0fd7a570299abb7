//! What of a proxy the endpoint answer of one Envoy cluster depends on.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::mesh::ServiceState;
use crate::model::{
    ClusterName, IpFamily, Labels, Locality, NetworkView, NodeKind, Proxy, Workload,
};
use crate::xds::audience::Facts;
use crate::xds::endpoint_policy::{
    Balance, CLUSTER_LABEL, Distance, EndpointPolicy, HOSTNAME_LABEL, NETWORK_LABEL, REGION_LABEL,
    SUBZONE_LABEL, ZONE_LABEL,
};
use crate::xds::locality_lb::{entry, overriding};

/// The view a proxy has of one Envoy cluster: the key of its endpoint answer.
///
/// `rule` is the index among the service's rules of the `DestinationRule` that
/// the proxy uses. What the answer does not depend on stays at its default, so
/// that proxies share answers.
pub fn project(
    facts: &Facts,
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
    NetworkView {
        network: facts.network.clone().filter(|_| is_multi_network),
        requested: Arc::clone(&facts.requested),
        family: if is_multi_network {
            facts.family
        } else {
            IpFamily::Any
        },
        // Sidecars and routers get the same: both use mTLS gateways only.
        kind: NodeKind::default(),
        cluster: is_cluster_bound.then(|| facts.cluster.clone()),
        locality: relevant_locality(facts, &policy.balance),
        labels: relevant_labels(facts, &policy.balance),
        node: definition.node_local.then(|| Arc::clone(&facts.node)),
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

fn relevant_locality(facts: &Facts, balance: &Balance) -> Option<Locality> {
    let here = &facts.locality;
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

/// The values that failover compares; absent ones are empty. The set is empty
/// only for a proxy without any label, whose groups are not split.
fn relevant_labels(facts: &Facts, balance: &Balance) -> Labels {
    let Balance::Priorities { labels, .. } = balance else {
        return Labels::default();
    };
    if has_no_label(facts) {
        return Labels::default();
    }
    let names = labels.iter().map(|text| entry(text).0);
    let pairs = names.map(|name| match overriding(labels, name) {
        Some(_) => (name, ""),
        None => (name, label(facts, name)),
    });
    pairs.collect()
}

/// istio: `AugmentLabels`: what is known of the place wins over labels, but for
/// the network.
fn label<'a>(facts: &'a Facts, name: &str) -> &'a str {
    let own = facts.labels.get(name).unwrap_or_default();
    let network = facts.network.as_deref().unwrap_or_default();
    let known = match name {
        REGION_LABEL => facts.locality.region(),
        ZONE_LABEL => facts.locality.zone(),
        SUBZONE_LABEL => facts.locality.subzone(),
        CLUSTER_LABEL => &facts.cluster,
        HOSTNAME_LABEL => &facts.node,
        NETWORK_LABEL if own.is_empty() => network,
        _ => "",
    };
    if known.is_empty() { own } else { known }
}

fn has_no_label(facts: &Facts) -> bool {
    facts.labels.is_empty()
        && facts.locality.is_empty()
        && facts.cluster.is_empty()
        && facts.node.is_empty()
        && facts.network.is_none()
}

/// Where a proxy is (split-horizon §1.6, §2): by its labels, by what its
/// registry knows of its pod, by its own words.
pub(super) fn place_of(proxy: &Proxy, workload: Option<&Workload>) -> Locality {
    let labels = workload.map_or(&proxy.labels, |w| &w.labels);
    let known = workload.map(|w| w.locality.clone());
    from_labels(labels)
        .or_else(|| known.filter(|locality| !locality.is_empty()))
        .unwrap_or_else(|| proxy.locality.clone())
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
