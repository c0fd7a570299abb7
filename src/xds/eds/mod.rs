//! EDS: endpoint answers as bytes.

#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use crate::mesh::{EdsKey, ServiceState};
use crate::model::{Resolution, TypeUrl};
use crate::wire::EncodedResource;
use crate::xds::split_horizon::{self, LocalityGroup};

/// The endpoint answer for one Envoy cluster and view. Its inputs are its cache
/// key: nothing else may be read here.
pub fn encode(service: &ServiceState, key: &EdsKey) -> EncodedResource {
    // A late question about a cluster that resolves its endpoints itself by
    // now; istiod answers it with no endpoints too.
    let is_dns = matches!(
        service.service.resolution,
        Resolution::Dns | Resolution::DnsRoundRobin
    );
    let groups = if is_dns {
        Vec::new()
    } else {
        split_horizon::assign(service, key)
    };
    let name = Arc::from(key.cluster.to_string());
    frame(name, &groups, service.features.endpoint_telemetry_label)
}

/// The encoded load assignment of a DNS-type cluster, which carries its
/// endpoints itself: all of them, or the `single` one that `LOGICAL_DNS` takes.
/// None where the service has none, and so no cluster. Endpoints that this view
/// may not reach leave their localities behind, and so the cluster (istiod).
pub fn load_assignment(service: &ServiceState, key: &EdsKey, single: bool) -> Option<Vec<u8>> {
    let mut groups = split_horizon::assign(service, key);
    if single {
        groups.retain(|group| !group.members.is_empty());
        groups.truncate(1);
        for group in &mut groups {
            group.members.truncate(1);
            group.sum_weights();
        }
    }
    if groups.is_empty() {
        return None;
    }
    let name = key.cluster.to_string();
    let with_workload = service.features.endpoint_telemetry_label;
    Some(
        writer::assignment(&name, &groups, with_workload)
            .bytes()
            .to_vec(),
    )
}

/// The answer for a cluster that is not known (any more): no endpoints.
pub fn empty(name: &Arc<str>) -> EncodedResource {
    frame(Arc::clone(name), &[], false)
}

fn frame(name: Arc<str>, groups: &[LocalityGroup<'_>], with_workload: bool) -> EncodedResource {
    let body = writer::assignment(&name, groups, with_workload);
    let url = TypeUrl::ClusterLoadAssignment.as_str();
    EncodedResource::framed(url, name, body)
}
