//! Which endpoints an Envoy cluster keeps at all (split-horizon §1.1, §1.2).

use crate::mesh::{EdsKey, ServiceState};
use crate::model::{
    Address, Discoverability, Endpoint, Health, PersistentSession, Resolution, Service,
    ServicePort, ShardKey,
};
use crate::xds::endpoint_policy::EndpointPolicy;

/// The endpoint filter of one Envoy cluster and view.
pub(super) struct Filter<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    key: &'a EdsKey,
    policy: &'a EndpointPolicy,
    is_dns: bool,
}

impl<'a> Filter<'a> {
    /// None where the service has no such port.
    pub(super) fn new(
        state: &'a ServiceState,
        key: &'a EdsKey,
        policy: &'a EndpointPolicy,
    ) -> Option<Self> {
        Some(Self {
            service: &state.service,
            port: state.service.port(key.cluster.port)?,
            key,
            policy,
            is_dns: is_dns(&state.service),
        })
    }

    /// Whether a shard is looked at: what stays inside its cluster is not
    /// offered to others.
    pub(super) fn keeps_shard(&self, shard: &ShardKey) -> bool {
        let is_local = self.service.cluster_local || self.service.node_local;
        !is_local || self.key.view.cluster.as_ref() == Some(&shard.cluster)
    }

    /// The state to send for an endpoint, or none where it is not sent.
    pub(super) fn health(&self, endpoint: &Endpoint) -> Option<Health> {
        let serves = endpoint.port_name == self.port.name
            && self.has_usable_address(endpoint)
            && endpoint.workload.labels.contains_all(&self.policy.subset);
        if !serves || !self.is_visible(endpoint) {
            return None;
        }
        match endpoint.health {
            Health::Unhealthy if !self.policy.send_unready => return None,
            Health::Terminating => return None,
            _ => {}
        }
        if endpoint.health != Health::Draining && !endpoint.workload.template.draining {
            return Some(endpoint.health);
        }
        // istiod looks at the cookie label only and so drops the draining
        // endpoints of header sessions: they lose their host at once.
        let keeps = self.service.persistent_session != PersistentSession::None;
        keeps.then_some(Health::Draining)
    }

    /// EDS carries no host names; DNS-type clusters are made of them.
    fn has_usable_address(&self, endpoint: &Endpoint) -> bool {
        self.is_dns || !matches!(endpoint.address, Address::Hostname(_))
    }

    fn is_visible(&self, endpoint: &Endpoint) -> bool {
        let view = &self.key.view;
        let workload = &endpoint.workload;
        if self.service.node_local && view.node.as_ref() != Some(&workload.node) {
            return false;
        }
        if let Some(network) = &workload.template.network {
            // The empty network is always visible.
            if !view.requested.is_empty() && !view.requested.contains(network) {
                return false;
            }
        }
        if self.service.cluster_local && view.cluster.as_ref() != Some(&workload.template.cluster) {
            return false;
        }
        endpoint.discoverability == Discoverability::Everywhere
            || view.cluster.as_ref().is_none_or(|own| {
                own.is_empty()
                    || workload.template.cluster.is_empty()
                    || *own == workload.template.cluster
            })
    }
}

/// Whether the Envoy clusters of a service resolve their endpoints themselves.
pub(super) fn is_dns(service: &Service) -> bool {
    matches!(
        service.resolution,
        Resolution::Dns | Resolution::DnsRoundRobin
    )
}
