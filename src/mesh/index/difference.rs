//! What streams are told of a service that was made again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::mesh::{ChangeSet, ServiceState};
use crate::model::{
    Hostname, Labels, NetworkId, NetworkTable, Provider, Resolution, Service, ServiceKey,
};

/// Which services have endpoints on a network: those that a change of its
/// gateways touches.
#[derive(Debug, Default)]
pub(super) struct Behind(BTreeMap<NetworkId, HashSet<ServiceKey, FixedState>>);

impl Behind {
    pub(super) fn of(&self, network: &NetworkId) -> impl Iterator<Item = &ServiceKey> {
        self.0.get(network).into_iter().flatten()
    }

    pub(super) fn replace(
        &mut self,
        key: &ServiceKey,
        old: &BTreeSet<&NetworkId>,
        new: &BTreeSet<&NetworkId>,
    ) {
        for network in old.difference(new) {
            if let Some(keys) = self.0.get_mut(*network) {
                keys.remove(key);
            }
        }
        for network in new.difference(old) {
            self.0
                .entry((*network).clone())
                .or_default()
                .insert(key.clone());
        }
    }
}

/// The networks that a service has endpoints on.
pub(super) fn networks_of(state: Option<&ServiceState>) -> BTreeSet<&NetworkId> {
    let shards = state.into_iter().flat_map(|state| &state.endpoints);
    shards.flat_map(|(_, shard)| shard.networks()).collect()
}

/// What streams must look at again after one service changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    endpoints: bool,
    config: bool,
    names: bool,
}

impl Told {
    pub(super) fn add_to(self, host: &Hostname, changes: &mut ChangeSet) {
        changes.config |= self.config;
        changes.names |= self.names;
        if self.endpoints {
            changes.hosts.insert(host.clone());
        }
    }
}

pub(super) fn difference(old: Option<&ServiceState>, new: Option<&ServiceState>) -> Told {
    let (old, new) = match (old, new) {
        (None, None) => return Told::default(),
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) | (None, Some(_)) => {
            return Told {
                endpoints: true,
                config: true,
                names: true,
            };
        }
    };
    let defined = old.service != new.service || old.rules != new.rules || old.mesh != new.mesh;
    let moved = old.endpoints != new.endpoints;
    let rerouted = !agree(&old.networks, &new.networks, new);
    Told {
        endpoints: defined || moved || rerouted,
        config: defined
            || ((moved || rerouted) && carries_endpoints(&new.service))
            || peers_differ(old, new),
        // The endpoints of a headless service are its addresses.
        names: defined || (moved && new.service.resolution == Resolution::Passthrough),
    }
}

/// Whether two tables lead to the same answers for a service.
fn agree(old: &Arc<NetworkTable>, new: &Arc<NetworkTable>, of: &ServiceState) -> bool {
    if Arc::ptr_eq(old, new) {
        return true;
    }
    let changed = old.changed_networks(new);
    old.scale() == new.scale()
        && old.is_multi_network() == new.is_multi_network()
        && (changed.is_empty() || networks_of(Some(of)).iter().all(|n| !changed.contains(*n)))
}

/// Whether its endpoints stand in CDS or, for headless TCP, in LDS. Those of a
/// Service without selector say which pods it leads into.
fn carries_endpoints(service: &Service) -> bool {
    let mut selectors = service.registrations.values().map(|here| &here.selector);
    if service.provider == Provider::Kubernetes && selectors.any(Labels::is_empty) {
        return true;
    }
    match service.resolution {
        Resolution::Dns | Resolution::DnsRoundRobin => true,
        Resolution::Passthrough => service.tcp_ports().any(|p| !p.protocol.is_http()),
        Resolution::ClientSideLb | Resolution::Alias | Resolution::DynamicDns => false,
    }
}

/// Whether the endpoints as a whole differ, as CDS tells them. A service that
/// lost its last endpoint keeps its service accounts (istiod: a crash loop must
/// not touch CDS).
fn peers_differ(old: &ServiceState, new: &ServiceState) -> bool {
    new.peers != old.peers && new.all_endpoints().next().is_some()
}
