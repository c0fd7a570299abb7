//! What a snapshot holds by name: services and workloads.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;

use super::{HostServices, PodKey, trie::Trie};
use crate::model::Workload;

/// Services by host. They hold their host themselves, so it is not stored twice.
#[derive(Clone, Default)]
pub(super) struct Services(Trie<HostServices>);

impl Services {
    pub(super) fn get(&self, host: &str) -> Option<&HostServices> {
        self.0
            .get(hash_of_host(host), |services| is(services, host))
    }

    /// Sets the services of `host`; none removes it.
    pub(super) fn set(&mut self, host: &str, services: HostServices) {
        debug_assert!(services.is_empty() || is(&services, host));
        let services = (!services.is_empty()).then_some(services);
        self.0
            .set(hash_of_host(host), &|held| is(held, host), services);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HostServices> {
        self.0.iter()
    }
}

fn is(services: &HostServices, host: &str) -> bool {
    let first = services.first();
    first.is_some_and(|state| *state.service.key.hostname == *host)
}

fn hash_of_host(host: &str) -> u64 {
    FixedState::default().hash_one(host)
}

/// Workloads by [`PodKey`]. They hold their key themselves.
#[derive(Clone, Default)]
pub(super) struct Workloads(Trie<Arc<Workload>>);

impl Workloads {
    pub(super) fn get(&self, key: &PodKey) -> Option<&Arc<Workload>> {
        self.0
            .get(hash_of_pod(key), |workload| is_of(workload, key))
    }

    /// Sets or, with `None`, removes the workload of `key`.
    pub(super) fn set(&mut self, key: &PodKey, workload: Option<Arc<Workload>>) {
        self.0
            .set(hash_of_pod(key), &|held| is_of(held, key), workload);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.0.iter()
    }
}

fn is_of(workload: &Workload, key: &PodKey) -> bool {
    // The name first: it tells most apart.
    workload.name == key.name
        && workload.template.namespace == key.namespace
        && workload.template.cluster == key.cluster
}

fn hash_of_pod(key: &PodKey) -> u64 {
    FixedState::default().hash_one((&*key.cluster, &*key.namespace, &*key.name))
}
