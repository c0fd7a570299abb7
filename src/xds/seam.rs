//! Where lists meet endpoint answers.

use std::sync::Arc;

use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use prost::Message;

use crate::mesh::{EdsKey, ServiceState};
use crate::model::{
    Address, ClusterName, Labels, Namespace, NetworkView, Proxy, TypeUrl, Workload,
};
use crate::wire::EncodedResource;
use crate::xds::pb;

/// The view of `proxy` on one cluster.
pub(super) fn project(
    proxy: &Proxy,
    _workload: Option<&Workload>,
    _state: &ServiceState,
    _cluster: &ClusterName,
    rule: Option<u16>,
) -> NetworkView {
    NetworkView {
        network: proxy.network.clone(),
        rule,
        ..NetworkView::default()
    }
}

/// The encoded load assignment of a cluster that carries its endpoints, or
/// `single` of them; none where there is none.
pub(super) fn load_assignment(state: &ServiceState, key: &EdsKey, single: bool) -> Option<Vec<u8>> {
    let mut groups = groups(state, key);
    if single {
        groups.truncate(1);
        for group in &mut groups {
            group.lb_endpoints.truncate(1);
        }
    }
    let any = groups.iter().any(|g| !g.lb_endpoints.is_empty());
    any.then(|| assignment(&key.cluster.to_string(), groups))
}

/// Encodes one endpoint answer.
pub(super) fn encode(state: &ServiceState, key: &EdsKey) -> EncodedResource {
    let name: Arc<str> = key.cluster.to_string().into();
    let body = assignment(&name, groups(state, key));
    EncodedResource::new(TypeUrl::ClusterLoadAssignment.as_str(), name, &body)
}

/// The answer for a name with no endpoints.
pub(super) fn empty(name: &Arc<str>) -> EncodedResource {
    let body = assignment(name, Vec::new());
    EncodedResource::new(
        TypeUrl::ClusterLoadAssignment.as_str(),
        Arc::clone(name),
        &body,
    )
}

fn groups(state: &ServiceState, key: &EdsKey) -> Vec<LocalityLbEndpoints> {
    let port = state.service.port(key.cluster.port).map(|p| &p.name);
    let all = state.all_endpoints().map(|(_, e)| e);
    let lb_endpoints: Vec<_> = all
        .filter(|e| Some(&e.port_name) == port)
        .map(endpoint)
        .collect();
    let weight: u32 = lb_endpoints.len().try_into().unwrap_or(u32::MAX);
    vec![LocalityLbEndpoints {
        lb_endpoints,
        load_balancing_weight: pb::uint(weight.max(1)),
        ..LocalityLbEndpoints::default()
    }]
}

fn endpoint(endpoint: &crate::model::Endpoint) -> LbEndpoint {
    let host = match &endpoint.address {
        Address::Ip(ip) => ip.to_string(),
        Address::Hostname(name) | Address::Unix(name) => name.to_string(),
        Address::Unknown => String::new(),
    };
    let address = Endpoint {
        address: pb::address(&host, endpoint.port),
        ..Endpoint::default()
    };
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(address)),
        load_balancing_weight: pb::uint(endpoint.weight),
        ..LbEndpoint::default()
    }
}

fn assignment(name: &str, endpoints: Vec<LocalityLbEndpoints>) -> Vec<u8> {
    let body = ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints,
        ..ClusterLoadAssignment::default()
    };
    body.encode_to_vec()
}
