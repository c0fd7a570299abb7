//! The immutable world at one generation.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::Arc,
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    ChangeSet, PeerAuthentications, ServiceState, VirtualServices,
    sharded::{Sharded, Workloads},
};
use crate::model::{
    ClusterId, Features, Gateway, Hostname, MeshConfig, Namespace, Proxy, Sidecar, Workload,
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

impl PodKey {
    /// What a proxy says it runs beside.
    pub fn of(proxy: &Proxy) -> Self {
        Self {
            cluster: proxy.cluster.clone(),
            namespace: proxy.namespace.clone(),
            name: Arc::clone(&proxy.name),
        }
    }
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
    /// `PeerAuthentication`s.
    pub authentications: Arc<PeerAuthentications>,
    /// `VirtualService`s.
    pub virtual_services: VirtualServices,
}

/// Services of one host name; more than one where several namespaces define it.
pub type HostServices = SmallVec<[Arc<ServiceState>; 1]>;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Names a value derived from the configuration, and says of which type it is.
/// It must hold everything beside the configuration that the value depends on.
pub trait MemoKey: Any + Clone + Eq + Hash + Send {
    /// What is derived.
    type Value: Any + Send + Sync;
}

/// Values of one type of key.
type Table<K> = Map<K, Arc<<K as MemoKey>::Value>>;

/// What encoders derive from the whole configuration (lists, routes,
/// listeners), kept until the configuration changes.
#[derive(Default)]
pub struct ConfigMemo {
    tables: Mutex<Map<TypeId, Box<dyn Any + Send>>>,
}

impl ConfigMemo {
    /// The value for `key`. Two that ask for it at once may both make it, and
    /// share the first: it is made outside the lock, since one derived value
    /// may need another.
    pub fn get_or_make<K: MemoKey>(
        &self,
        key: K,
        make: impl FnOnce(&K) -> K::Value,
    ) -> Arc<K::Value> {
        let found = self.with_table(|table: &mut Table<K>| table.get(&key).cloned());
        if let Some(found) = found.flatten() {
            return found;
        }
        let made = Arc::new(make(&key));
        let kept = self.with_table(|table| {
            let first = table.entry(key).or_insert_with(|| Arc::clone(&made));
            Arc::clone(first)
        });
        kept.unwrap_or(made)
    }

    /// `None` never happens: the table was made for this very type of key.
    fn with_table<K: MemoKey, R>(&self, act: impl FnOnce(&mut Table<K>) -> R) -> Option<R> {
        let mut tables = self.tables.lock();
        let table = tables
            .entry(TypeId::of::<K>())
            .or_insert_with(|| Box::<Table<K>>::default());
        table.downcast_mut().map(act)
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
    pub(super) workloads: Workloads,
    pub(super) mesh: Arc<MeshState>,
    pub(super) memo: Arc<ConfigMemo>,
    pub(super) names: Arc<ConfigMemo>,
    pub(super) changes: Arc<ChangeSet>,
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
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// Mesh-wide configuration.
    pub fn mesh(&self) -> &Arc<MeshState> {
        &self.mesh
    }

    /// Values derived from the configuration of this snapshot.
    pub fn memo(&self) -> &Arc<ConfigMemo> {
        &self.memo
    }

    /// Values derived from the configuration and from the endpoints of services
    /// that have no address of their own.
    pub fn names(&self) -> &ConfigMemo {
        &self.names
    }

    /// What changed since the generation before this one.
    pub fn changes(&self) -> &ChangeSet {
        &self.changes
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
            next.workloads.set(&key, workload);
        }
        if let Some(mesh) = update.mesh {
            next.mesh = mesh;
        }
        if update.changes.config {
            next.memo = Arc::default();
        }
        if update.changes.config || update.changes.names {
            next.names = Arc::default();
        }
        next.changes = Arc::new(update.changes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Length(&'static str);

    impl MemoKey for Length {
        type Value = usize;
    }

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Upper(&'static str);

    impl MemoKey for Upper {
        type Value = String;
    }

    #[test]
    fn a_derived_value_is_made_once_per_key_and_type_of_key() {
        let memo = ConfigMemo::default();
        let first = memo.get_or_make(Length("abc"), |key| key.0.len());
        let again = memo.get_or_make(Length("abc"), |_| unreachable!("kept"));
        let other = memo.get_or_make(Upper("abc"), |key| key.0.to_uppercase());
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((*first, other.as_str()), (3, "ABC"));
    }

    #[test]
    fn only_a_change_of_configuration_forgets_derived_values() {
        let before = Snapshot::default();
        let made = before.memo().get_or_make(Length("abc"), |key| key.0.len());
        let kept = before.next(Update::default());
        let forgot = before.next(Update {
            changes: ChangeSet {
                config: true,
                ..ChangeSet::default()
            },
            ..Update::default()
        });
        let of = |snapshot: &Snapshot| snapshot.memo().get_or_make(Length("abc"), |_| 0);
        assert!(Arc::ptr_eq(&made, &of(&kept)));
        assert_eq!(*of(&forgot), 0);
    }
}
