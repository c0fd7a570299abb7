//! CDS: which Envoy clusters a proxy gets.
//!
//! A cluster is encoded once per service, rule and kind of proxy, and kept on
//! the service; a list of them once per class of proxies, and kept until the
//! configuration changes. A change of endpoints makes neither again.

mod draft;
mod fixed;
mod inbound;
mod outbound;
mod policy;
#[cfg(test)]
mod tests;
mod upstream_tls;

use std::{collections::BTreeSet, sync::Arc};

use super::client::Client;
use super::inbound::InboundClass;
use super::resources::{ResourceList, sorted};
use super::{eds, gateway};
use crate::mesh::{ClusterKey, EdsKey, MemoKey, Scope, ServiceState, Snapshot};
use crate::model::{
    ClusterName, Hostname, IpFamily, IstioFilters, Labels, Namespace, NetworkView, NodeKind,
};
use crate::wire::EncodedResource;
use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
pub(super) use fixed::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
pub(super) use inbound::name as inbound_name;

/// Whether endpoint answers are asked for this service: not where its clusters
/// carry their endpoints themselves.
pub(super) fn uses_eds(state: &ServiceState, kind: NodeKind) -> bool {
    !outbound::resolution(state, kind).is_some_and(outbound::is_dns)
}

/// All that the list of a proxy depends on beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListKey {
    outbound: OutboundClass,
    inbound: Option<InboundClass>,
}

impl MemoKey for ListKey {
    type Value = ResourceList;
}

impl MemoKey for OutboundClass {
    type Value = ResourceList;
}

/// Proxies with the same outbound clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OutboundClass {
    scope: Arc<str>,
    kind: NodeKind,
    namespace: Namespace,
    /// Empty unless a rule selects client workloads.
    labels: Labels,
    /// Its Envoy forwards by SNI.
    sni_dnat: bool,
    filters: IstioFilters,
    /// Views of the clusters that carry their endpoints, by name.
    dns: Vec<(ClusterName, NetworkView)>,
    /// Which addresses are asked for by DNS; the default where no cluster does.
    family: IpFamily,
}

/// The clusters of a proxy, sorted by name.
pub(super) fn list(client: &Client) -> ResourceList {
    let dns = dns_views(client);
    let outbound = OutboundClass {
        scope: Arc::clone(client.scope.key()),
        kind: client.proxy.kind,
        namespace: client.proxy.namespace.clone(),
        labels: rule_labels(client),
        // istiod: its hosts choose chains, not clusters.
        sni_dnat: gateway::forwards_by_sni(client),
        filters: client.filters(),
        family: match dns.as_slice() {
            [] => IpFamily::default(),
            _ => client.proxy.ips.family(),
        },
        dns,
    };
    let inbound = InboundClass::of(client);
    let key = ListKey { outbound, inbound };
    let list = client
        .snapshot
        .memo()
        .get_or_make(key, |key| build(client, key));
    Arc::clone(&list)
}

/// Both sides of a proxy, each shared by all that have it.
fn build(client: &Client, key: &ListKey) -> ResourceList {
    let memo = client.snapshot.memo();
    let outbound = memo.get_or_make(key.outbound.clone(), |class| outbound(client, class));
    let Some(class) = &key.inbound else {
        return Arc::clone(&outbound);
    };
    let inbound = inbound::list(client, class);
    sorted(outbound.iter().chain(inbound.iter()).cloned().collect())
}

fn outbound(client: &Client, class: &OutboundClass) -> ResourceList {
    let timeout = client.snapshot.mesh().config.connect_timeout;
    let mut all = Vec::new();
    for state in client.scope.services(&client.snapshot) {
        append_service(&mut all, &state, class, &client.scope);
    }
    let mut own = vec![fixed::black_hole(timeout)];
    if class.kind == NodeKind::Sidecar {
        own.push(fixed::passthrough(timeout, class.filters));
    }
    all.extend(own.into_iter().map(Arc::new));
    sorted(all)
}

/// Appends the clusters of one service: for each port the whole service and the
/// subsets of the rule that applies, in each form.
fn append_service(
    all: &mut Vec<Arc<EncodedResource>>,
    state: &Arc<ServiceState>,
    class: &OutboundClass,
    scope: &Scope,
) {
    let rule = state.rule_for(&class.namespace, &class.labels);
    let sni_dnat = class.sni_dnat && !state.service.mesh_external;
    for name in names(state, rule, scope) {
        let dns = class.dns.binary_search_by(|(known, _)| known.cmp(&name));
        let view = dns.ok().and_then(|at| class.dns.get(at));
        let dns = view.map(|(_, view)| (view.clone(), class.family));
        let sni = sni_dnat.then(|| name.sni_dnat());
        for cluster in [Some(name), sni].into_iter().flatten() {
            let key = ClusterKey {
                cluster,
                kind: class.kind,
                rule,
                filters: class.filters,
                dns: dns.clone(),
            };
            all.extend(encoded(state, key));
        }
    }
}

/// The outbound clusters of one service, sorted by name.
pub(super) fn names(state: &ServiceState, rule: Option<u16>, scope: &Scope) -> Vec<ClusterName> {
    let host = &state.service.key.hostname;
    let rule = rule.and_then(|at| state.rules.get(usize::from(at)));
    let mut subsets: BTreeSet<&str> = BTreeSet::from([""]);
    subsets.extend(rule.iter().flat_map(|r| r.subsets.iter().map(|s| &*s.name)));
    let numbers = state.service.tcp_ports().map(|p| p.number);
    let numbers: BTreeSet<u16> = numbers
        .filter(|number| scope.includes_port(&state.service, *number))
        .collect();
    let of_port = |number: &u16| {
        let name = |subset: &&str| ClusterName::outbound(*number, subset, host);
        subsets.iter().map(name).collect::<Vec<_>>()
    };
    numbers.iter().flat_map(of_port).collect()
}

/// One cluster, encoded at most once; none for a service that has none, or has
/// to carry endpoints and has no endpoint.
fn encoded(state: &ServiceState, key: ClusterKey) -> Option<Arc<EncodedResource>> {
    let discovery = outbound::discovery(state, &key)?;
    let mut endpoints = None;
    if let Some((view, _)) = key.dns.as_ref().filter(|_| outbound::is_dns(discovery)) {
        let key = EdsKey {
            cluster: key.cluster.clone(),
            view: view.clone(),
        };
        // Envoy refuses a cluster of this type unless it has one endpoint.
        let single = discovery == DiscoveryType::LogicalDns;
        endpoints = Some(eds::load_assignment(state, &key, single)?);
    }
    let encode = |key: &ClusterKey| outbound::encode(state, key, endpoints);
    Some(state.clusters.get_or_encode(key, encode))
}

/// Hosts of a scope whose clusters carry their endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DnsHosts(Arc<str>, NodeKind);

impl MemoKey for DnsHosts {
    type Value = Vec<Hostname>;
}

fn dns_views(client: &Client) -> Vec<(ClusterName, NetworkView)> {
    let key = DnsHosts(Arc::clone(client.scope.key()), client.proxy.kind);
    let hosts = client.snapshot.memo().get_or_make(key, |key| {
        let services = client.scope.services(&client.snapshot);
        let dns = services.iter().filter(|s| !uses_eds(s, key.1));
        dns.map(|s| s.service.key.hostname.clone()).collect()
    });
    let states = hosts
        .iter()
        .filter_map(|host| client.scope.service(&client.snapshot, host));
    let views = |state: &Arc<ServiceState>| {
        let rule = state.rule_for(&client.proxy.namespace, client.labels());
        let view = |name: ClusterName| {
            let view = client.view(state, &name);
            (name, view)
        };
        let names = names(state, rule, &client.scope).into_iter();
        names.map(view).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = states.flat_map(views).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Whether some rule selects client workloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RulesSelectClients;

impl MemoKey for RulesSelectClients {
    type Value = bool;
}

/// The labels by which rules choose the client; empty where none does.
fn rule_labels(client: &Client) -> Labels {
    let select = |snapshot: &Snapshot| {
        let mut rules = snapshot.services().flat_map(|s| s.rules.iter());
        rules.any(|rule| !rule.workload_selector.is_empty())
    };
    let memo = client.snapshot.memo();
    if *memo.get_or_make(RulesSelectClients, |_| select(&client.snapshot)) {
        client.labels().clone()
    } else {
        Labels::default()
    }
}
