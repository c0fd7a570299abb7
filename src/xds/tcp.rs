//! The filter that passes bytes on, with what the rule of their destination
//! says of connections.

use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
};
use envoy_types::pb::envoy::r#type::v3::{
    HashPolicy,
    hash_policy::{PolicySpecifier, SourceIp},
};

use super::http_route::Context;
use super::lds::listener::tcp_filter;
use super::pb;
use crate::model::{DestinationRule, HashKey, PolicySettings, VirtualService, WeightedDestination};

/// Passes bytes on to one cluster, which is for `subset` of the rule's host.
pub(super) fn to_cluster(cluster: String, rule: Option<&DestinationRule>, subset: &str) -> Filter {
    let stat_prefix = cluster.clone();
    let destination = ClusterSpecifier::Cluster(cluster);
    to(stat_prefix, destination, rule, subset)
}

/// Passes bytes on as a route of `service` says; none where none of several
/// destinations has a weight.
pub(super) fn forward(
    context: &Context<'_>,
    service: &VirtualService,
    route: &[WeightedDestination],
) -> Option<Filter> {
    // istiod: the rule of the first host speaks for all of them.
    let rule = context.rule(&route.first()?.destination);
    if let [only] = route {
        let to = &only.destination;
        return Some(to_cluster(context.cluster(to), rule, &to.subset));
    }
    let weighted = route.iter().filter(|to| to.weight > 0);
    let clusters: Vec<_> = weighted
        .map(|to| ClusterWeight {
            name: context.cluster(&to.destination),
            weight: to.weight,
            ..ClusterWeight::default()
        })
        .collect();
    let (name, namespace) = (&service.meta.name, &service.meta.namespace);
    (!clusters.is_empty()).then(|| {
        let clusters = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
        to(format!("{name}.{namespace}"), clusters, rule, "")
    })
}

/// The names that a chain takes, sorted; none where any name will do.
pub(super) fn server_names(hosts: &[Arc<str>]) -> Vec<String> {
    let mut names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    if names.iter().any(|name| name == "*") {
        names.clear();
    }
    names
}

/// Passes bytes on to `destination`. istiod: times are those of the whole host,
/// not of subsets or ports.
pub(super) fn to(
    stat_prefix: String,
    destination: ClusterSpecifier,
    rule: Option<&DestinationRule>,
    subset: &str,
) -> Filter {
    let pool = rule.and_then(|rule| rule.policy.base.connection_pool.as_ref());
    let by_source = rule.is_some_and(|rule| hashes_source(rule, subset));
    tcp_filter(&TcpProxy {
        stat_prefix,
        cluster_specifier: Some(destination),
        idle_timeout: pool
            .and_then(|pool| pool.tcp_idle_timeout)
            .and_then(pb::duration),
        max_downstream_connection_duration: pool
            .and_then(|pool| pool.max_connection_duration)
            .and_then(pb::duration),
        hash_policy: by_source.then(source_address).into_iter().collect(),
        ..TcpProxy::default()
    })
}

/// Whether one caller always gets one endpoint (istiod: `maybeSetHashPolicy`).
fn hashes_source(rule: &DestinationRule, subset: &str) -> bool {
    let of = |settings: &PolicySettings| {
        let balancer = settings.load_balancer.as_ref()?;
        let hash = balancer.consistent_hash.as_ref();
        let key = hash.and_then(|hash| hash.key.as_ref());
        Some(matches!(key, Some(HashKey::SourceIp(true))))
    };
    let subset = rule.subset(subset).and_then(|s| of(&s.policy.base));
    subset.or_else(|| of(&rule.policy.base)).unwrap_or(false)
}

fn source_address() -> HashPolicy {
    HashPolicy {
        policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})),
    }
}
