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

/// The answer for a cluster that is not known (any more): no endpoints.
pub fn empty(name: &Arc<str>) -> EncodedResource {
    frame(Arc::clone(name), &[], false)
}

fn frame(name: Arc<str>, groups: &[LocalityGroup<'_>], with_workload: bool) -> EncodedResource {
    let body = writer::assignment(&name, groups, with_workload);
    let url = TypeUrl::ClusterLoadAssignment.as_str();
    EncodedResource::new(url, name, body.bytes())
}
