//! What a batch of events left to be derived again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::super::PodKey;
use crate::model::{ClusterId, Namespace, ServiceKey};

/// How much of a service must be made again. Rules, networks and mesh settings
/// are looked up each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Need {
    pub(super) definition: bool,
    pub(super) endpoints: bool,
}

impl Need {
    pub(super) const ALL: Self = Self {
        definition: true,
        endpoints: true,
    };
    pub(super) const ENDPOINTS: Self = Self {
        definition: false,
        endpoints: true,
    };
    /// Only what is looked up each time.
    pub(super) const LOOKUPS: Self = Self {
        definition: false,
        endpoints: false,
    };
}

/// Marks collected while events are taken in; emptied by one derivation.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) services: BTreeMap<ServiceKey, Need>,
    /// Every service, besides those named.
    pub(super) all_services: Option<Need>,
    pub(super) pods: HashSet<PodKey, FixedState>,
    /// Clusters whose workloads must all be derived again.
    pub(super) clusters: BTreeSet<ClusterId>,
    /// Nodes whose pods must be derived again.
    pub(super) nodes: BTreeMap<ClusterId, HashSet<Arc<str>, FixedState>>,
    /// Host patterns whose `DestinationRule`s changed.
    pub(super) rules: BTreeSet<Arc<str>>,
    /// Namespaces whose `PeerAuthentication`s changed.
    pub(super) peers: BTreeSet<Namespace>,
    /// The table of gateways.
    pub(super) gateways: bool,
    /// Sidecars, Gateways or mesh settings.
    pub(super) mesh: bool,
}

impl Dirty {
    pub(super) fn service(&mut self, key: ServiceKey, need: Need) {
        let known = self.services.entry(key).or_default();
        known.definition |= need.definition;
        known.endpoints |= need.endpoints;
    }

    pub(super) fn every_service(&mut self, need: Need) {
        let all = self.all_services.get_or_insert(need);
        all.definition |= need.definition;
        all.endpoints |= need.endpoints;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.all_services.is_none()
            && self.pods.is_empty()
            && self.clusters.is_empty()
            && self.nodes.is_empty()
            && self.rules.is_empty()
            && self.peers.is_empty()
            && !self.gateways
            && !self.mesh
    }
}
