//! The immutable world at one generation.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{ChangeLog, ChangeSet, Changes, ServiceState};
use crate::model::{
    ClusterId, Features, Gateway, Hostname, MeshConfig, Namespace, Sidecar, Workload,
};

/// Number of a published snapshot; only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// Names the pod (or `WorkloadEntry`) behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Cluster.
    pub cluster: ClusterId,
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Arc<str>,
}

/// Mesh-wide configuration: all that scopes and gateways depend on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeshState {
    /// Mesh settings.
    pub config: Arc<MeshConfig>,
    /// Switches.
    pub features: Arc<Features>,
    /// `Sidecar`s by namespace, oldest first.
    pub sidecars: BTreeMap<Namespace, Vec<Arc<Sidecar>>>,
    /// Istio `Gateway`s, oldest first.
    pub gateways: Vec<Arc<Gateway>>,
}

/// Services of one host name; more than one where several namespaces define it.
pub type HostServices = SmallVec<[Arc<ServiceState>; 1]>;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Number of copy-on-write shards: one change at 100 k services copies a map
/// of 400, not of 100 k.
const SHARDS: usize = 256;

/// A hash map in copy-on-write shards: cloning it shares all of them.
#[derive(Clone)]
pub(super) struct Sharded<K, V> {
    shards: Box<[Arc<Map<K, V>>]>,
}

impl<K: std::hash::Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.shards.get(Self::at(key))?.get(key)
    }

    /// Sets or, with `None`, removes the value of `key`.
    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        let Some(shard) = self.shards.get_mut(Self::at(&key)) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match value {
            Some(value) => shard.insert(key, value),
            None => shard.remove(&key),
        };
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    fn at<Q: std::hash::Hash + ?Sized>(key: &Q) -> usize {
        use std::hash::BuildHasher;
        // The top bits: hashbrown uses the others for its own buckets.
        (FixedState::default().hash_one(key) >> 56) as usize % SHARDS
    }
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Arc::new(Map::default())).collect(),
        }
    }
}

/// What encoders derive from the whole configuration (lists, routes,
/// listeners), kept until the configuration changes.
#[derive(Default)]
pub struct ConfigMemo {
    entries: Mutex<Map<String, Arc<dyn Any + Send + Sync>>>,
}

impl ConfigMemo {
    /// The value for `key`, made at most once. `key` must name everything
    /// beside the snapshot's configuration that `make` reads, and its type.
    pub fn get_or_make<T: Send + Sync + 'static>(
        &self,
        key: &str,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let found = self.entries.lock().get(key).cloned();
        if let Some(found) = found.and_then(|any| any.downcast::<T>().ok()) {
            return found;
        }
        // Made outside the lock: one derived value may need another.
        let made = Arc::new(make());
        let mut entries = self.entries.lock();
        entries.insert(
            key.to_owned(),
            Arc::clone(&made) as Arc<dyn Any + Send + Sync>,
        );
        made
    }
}

impl fmt::Debug for ConfigMemo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigMemo").finish_non_exhaustive()
    }
}

/// The world at one generation (istiod: `PushContext`). Cloning shares
/// everything.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) generation: Generation,
    pub(super) services: Sharded<Hostname, HostServices>,
    pub(super) workloads: Sharded<PodKey, Arc<Workload>>,
    pub(super) mesh: Arc<MeshState>,
    pub(super) memo: Arc<ConfigMemo>,
    pub(super) log: ChangeLog,
}

impl Snapshot {
    /// Its number.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The services of one host, in namespace order.
    pub fn host(&self, host: &str) -> &[Arc<ServiceState>] {
        self.services.get(host).map_or(&[], SmallVec::as_slice)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceState>> {
        self.services.iter().flat_map(|(_, services)| services)
    }

    /// The workload behind a proxy, if its registry knows it.
    pub fn workload(&self, key: &PodKey) -> Option<&Arc<Workload>> {
        self.workloads.get(key)
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = (&PodKey, &Arc<Workload>)> {
        self.workloads.iter()
    }

    /// Mesh-wide configuration.
    pub fn mesh(&self) -> &Arc<MeshState> {
        &self.mesh
    }

    /// Values derived from the configuration of this snapshot.
    pub fn memo(&self) -> &ConfigMemo {
        &self.memo
    }

    /// What changed after `seen`.
    pub fn changes_since(&self, seen: Generation) -> Changes {
        self.log.since(seen, self.generation)
    }

    /// The next generation: the given services and workloads replaced (or
    /// removed), everything else shared with this one.
    #[must_use]
    pub fn next(&self, update: Update) -> Self {
        let mut next = self.clone();
        next.generation = Generation(self.generation.0 + 1);
        for (host, services) in update.services {
            next.services
                .set(host, (!services.is_empty()).then_some(services));
        }
        for (key, workload) in update.workloads {
            next.workloads.set(key, workload);
        }
        if let Some(mesh) = update.mesh {
            next.mesh = mesh;
        }
        if update.changes.config {
            next.memo = Arc::default();
        }
        next.log = self.log.with(next.generation, update.changes);
        next
    }
}

/// What one publish replaces.
#[derive(Debug, Default)]
pub struct Update {
    /// Hosts and their services; none removes the host.
    pub services: Vec<(Hostname, HostServices)>,
    /// Workloads; `None` removes.
    pub workloads: Vec<(PodKey, Option<Arc<Workload>>)>,
    /// New mesh-wide configuration.
    pub mesh: Option<Arc<MeshState>>,
    /// What streams are told.
    pub changes: ChangeSet,
}

impl Update {
    /// Whether nothing changes: no publish is due.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.workloads.is_empty()
            && self.mesh.is_none()
            && self.changes.is_empty()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
