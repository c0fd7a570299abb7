//! What a batch of events left to be derived again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::super::PodKey;
use crate::model::{ClusterId, Namespace, Provider, ServiceKey, ShardKey};

/// How much of a service must be made again. Rules, networks and mesh settings
/// are looked up each time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Need {
    pub(super) definition: bool,
    pub(super) endpoints: Registries,
}

/// Registries whose endpoints must be joined again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Registries {
    #[default]
    None,
    /// The slices and pods of one cluster.
    Slices(ClusterId),
    All,
}

impl Registries {
    /// Whether the registry of this shard is one of them.
    pub(super) fn have(&self, shard: &ShardKey) -> bool {
        match self {
            Self::None => false,
            Self::Slices(of) => shard.provider == Provider::Kubernetes && shard.cluster == *of,
            Self::All => true,
        }
    }

    fn add(&mut self, other: Self) {
        match (&*self, other) {
            (_, Self::None) => {}
            (Self::None, other) => *self = other,
            (known, other) if *known == other => {}
            _ => *self = Self::All,
        }
    }
}

impl Need {
    pub(super) const ALL: Self = Self {
        definition: true,
        endpoints: Registries::All,
    };
    pub(super) const ENDPOINTS: Self = Self {
        definition: false,
        endpoints: Registries::All,
    };
    /// Only what is looked up each time.
    pub(super) const LOOKUPS: Self = Self {
        definition: false,
        endpoints: Registries::None,
    };

    pub(super) fn slices(of: &ClusterId) -> Self {
        Self {
            definition: false,
            endpoints: Registries::Slices(of.clone()),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.definition |= other.definition;
        self.endpoints.add(other.endpoints);
    }
}

/// What a derivation would publish, by how long it may wait: each holds those
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pending {
    /// Nothing.
    Nothing,
    /// Configuration, which every stream has to look at.
    Config,
    /// Endpoints and nothing else.
    Endpoints,
    /// Something is gone: endpoints that get requests until proxies know.
    Removal,
}

/// What decides how long a publish may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Urgent {
    /// An object is gone, or an endpoint of one.
    pub(super) removal: bool,
    /// The definition of a service is to be made again.
    pub(super) definition: bool,
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
    /// Of all that came since the last derivation.
    pub(super) urgent: Urgent,
}

impl Dirty {
    pub(super) fn service(&mut self, key: ServiceKey, need: Need) {
        self.urgent.definition |= need.definition;
        self.services.entry(key).or_default().add(need);
    }

    pub(super) fn every_service(&mut self, need: Need) {
        self.urgent.definition |= need.definition;
        self.all_services.get_or_insert_default().add(need);
    }

    pub(super) fn pending(&self) -> Pending {
        let looked_up = !self.rules.is_empty() || !self.peers.is_empty();
        if self.is_empty() {
            Pending::Nothing
        } else if self.urgent.removal {
            Pending::Removal
        } else if self.urgent.definition || looked_up || self.gateways || self.mesh {
            Pending::Config
        } else {
            Pending::Endpoints
        }
    }

    /// Services and pods to be looked at; all there may be for what is marked
    /// by something else.
    pub(super) fn touched(&self) -> usize {
        let is_wide = self.all_services.is_some()
            || !self.clusters.is_empty()
            || !self.nodes.is_empty()
            || !self.rules.is_empty()
            || !self.peers.is_empty()
            || self.gateways
            || self.mesh;
        if is_wide {
            return usize::MAX;
        }
        self.services.len() + self.pods.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.touched() == 0
    }
}
