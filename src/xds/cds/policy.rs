//! Traffic policies: what a `DestinationRule` changes of a cluster.

mod balance;
mod outlier;
mod pool;
#[cfg(test)]
mod tests;

use envoy_types::pb::envoy::r#type::v3::Percent;
pub(super) use pool::apply_pool;

use super::draft::Draft;
use crate::mesh::{ClusterKey, ServiceState};
use crate::model::{Features, PolicySettings, Service, TrafficDistribution};

/// Applies `policy` to an outbound cluster of `state`.
pub(super) fn apply(
    draft: &mut Draft,
    state: &ServiceState,
    key: &ClusterKey,
    policy: &PolicySettings,
) {
    let port = state.service.port(key.cluster.port);
    let upgrades = pool::upgrades(policy.connection_pool.as_ref(), port, &state.mesh);
    if upgrades {
        draft.upgrade();
    }
    apply_pool(draft, &state.mesh, policy);
    if policy.outlier_detection.is_some() {
        outlier::apply(draft, state, key, policy);
    }
    let common = draft.common_lb();
    if common.healthy_panic_threshold.is_none() && sends_unready(&state.service, &state.features) {
        // In panic mode Envoy would call pods that are not ready.
        common.healthy_panic_threshold = Some(Percent { value: 0.0 });
    }
    common.locality_config_specifier = balance::locality_config(state, policy);
    balance::apply(draft, policy.load_balancer.as_ref());
}

/// istiod: `SupportsUnhealthyEndpoints`.
fn sends_unready(service: &Service, features: &Features) -> bool {
    features.auto_send_unhealthy || forces_unready(service, features)
}

/// istiod: `ForcesSupportUnhealthyEndpoints`.
fn forces_unready(service: &Service, features: &Features) -> bool {
    features.send_unhealthy || service.distribution != TrafficDistribution::Any
}
