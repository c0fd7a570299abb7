//! A service with all its endpoints: the whole input of an EDS answer.

use std::sync::Arc;

use bytes::Bytes;

use super::rules::{self, RuleClient};
use super::{Peers, Shard};
use crate::model::{
    ClusterName, DestinationRule, Endpoint, Features, IpFamily, IstioFilters, Labels, MeshConfig,
    Namespace, NetworkTable, NetworkView, NodeKind, Service, ShardKey,
};
use crate::wire::{EncodedResource, Memo};

/// Key of an encoded endpoint answer: the encoder's whole input beside the
/// service itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdsKey {
    /// Port, subset and form of the Envoy cluster.
    pub cluster: ClusterName,
    /// The class of proxies.
    pub view: NetworkView,
}

/// Key of an encoded outbound Envoy cluster: the encoder's whole input beside
/// the service itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterKey {
    /// Port, subset and form of the Envoy cluster.
    pub cluster: ClusterName,
    /// Sidecar or router.
    pub kind: NodeKind,
    /// Index into the service's rules of the `DestinationRule` that applies.
    pub rule: Option<u16>,
    /// istio's own filters in the proxy's Envoy.
    pub filters: IstioFilters,
    /// For a cluster that carries its endpoints: the view of them, and which
    /// addresses the names in it are resolved to.
    pub dns: Option<(NetworkView, IpFamily)>,
}

/// An immutable service: definition, endpoints, and everything else that an
/// endpoint answer depends on, so that its encoder needs no further input.
///
/// Written by [`super::Index`]; read by the encoders of `xds`.
#[derive(Debug)]
pub struct ServiceState {
    /// Definition.
    pub service: Arc<Service>,
    /// Endpoints by registry, in shard order.
    pub endpoints: Vec<(ShardKey, Arc<Shard>)>,
    /// What of the endpoints its clusters depend on.
    pub peers: Arc<Peers>,
    /// `DestinationRule`s that some proxy may use for this host, each already
    /// merged with others of the same host and namespace.
    pub rules: Arc<[Arc<DestinationRule>]>,
    /// Gateways of all networks. Its parts for networks that this service has
    /// no endpoint on may be out of date.
    pub networks: Arc<NetworkTable>,
    /// Mesh settings.
    pub mesh: Arc<MeshConfig>,
    /// Switches.
    pub features: Arc<Features>,
    /// Encoded endpoint answers.
    pub eds: Memo<EdsKey>,
    /// Encoded Envoy clusters.
    pub clusters: Memo<ClusterKey>,
    /// Encoded filter chains of east-west gateways, by the index of the rule
    /// that applies: parts of listeners that hold those of all services.
    pub sni_chains: Memo<Option<u16>, Bytes>,
}

impl ServiceState {
    /// The endpoint answer for `key`, encoded at most once.
    pub fn eds(
        &self,
        key: EdsKey,
        encode: impl FnOnce(&Self, &EdsKey) -> EncodedResource,
    ) -> Arc<EncodedResource> {
        self.eds.get_or_encode(key, |key| encode(self, key))
    }

    /// The rule that holds for clients of `namespace` with these labels, as an
    /// index into [`Self::rules`].
    pub fn rule_for(&self, namespace: &Namespace, labels: &Labels) -> Option<u16> {
        let root_namespace = &self.mesh.root_namespace;
        let client = RuleClient {
            namespace,
            root_namespace,
            labels,
        };
        rules::select(&self.rules, &client, &self.service.key.namespace)
    }

    /// The rule a view names.
    pub fn rule(&self, view: &NetworkView) -> Option<&Arc<DestinationRule>> {
        view.rule.and_then(|at| self.rules.get(usize::from(at)))
    }

    /// The endpoints that one registry reports.
    pub fn shard(&self, key: &ShardKey) -> Option<&Arc<Shard>> {
        let at = self.endpoints.binary_search_by(|(known, _)| known.cmp(key));
        let (_, shard) = self.endpoints.get(at.ok()?)?;
        Some(shard)
    }

    /// All endpoints, in shard order.
    pub fn all_endpoints(&self) -> impl Iterator<Item = (&ShardKey, &Endpoint)> {
        self.endpoints
            .iter()
            .flat_map(|(shard, list)| list.iter().map(move |e| (shard, e)))
    }

    /// Whether it says the same as `other`: a publish of it would change
    /// nothing.
    pub fn same_as(&self, other: &ServiceState) -> bool {
        self.service == other.service
            && self.endpoints == other.endpoints
            && self.rules == other.rules
            && self.networks == other.networks
            && self.mesh == other.mesh
    }
}
