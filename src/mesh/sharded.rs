//! Maps in copy-on-write shards: a snapshot shares all but the shards that
//! changed.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::PodKey;
use crate::model::Workload;

type Map<K, V> = HashMap<K, V, FixedState>;

/// One change at 100 k services copies a map of 400, not of 100 k.
const SHARDS: usize = 256;

/// A hash map in shards: cloning it shares all of them.
#[derive(Clone)]
pub(super) struct Sharded<K, V> {
    shards: Box<[Arc<Map<K, V>>]>,
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards.get(at(key))?.get_key_value(key)
    }

    /// Sets or, with `None`, removes the value of `key`.
    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        let Some(shard) = self.shards.get_mut(at(&key)) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match value {
            Some(value) => shard.insert(key, value),
            None => shard.remove(&key),
        };
    }

    fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(shard) = self.shards.get_mut(at(key)) {
            Arc::make_mut(shard).remove(key);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

fn at<Q: Hash + ?Sized>(key: &Q) -> usize {
    // The top bits: hashbrown uses the others for its own buckets.
    (FixedState::default().hash_one(key) >> 56) as usize % SHARDS
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Arc::new(Map::default())).collect(),
        }
    }
}

/// Workloads by [`PodKey`]. A workload holds its own key, so only the workload
/// is stored: there is one per pod of the mesh.
#[derive(Clone, Default)]
pub(super) struct Workloads(Sharded<Keyed, ()>);

#[derive(Clone)]
struct Keyed(Arc<Workload>);

/// What the key of a workload consists of.
trait Parts {
    fn parts(&self) -> (&str, &str, &str);
}

impl Workloads {
    pub(super) fn get(&self, key: &PodKey) -> Option<&Arc<Workload>> {
        let found = self.0.get_key_value(key as &dyn Parts);
        found.map(|(keyed, ())| &keyed.0)
    }

    /// Sets or, with `None`, removes the workload of `key`.
    pub(super) fn set(&mut self, key: &PodKey, workload: Option<Arc<Workload>>) {
        // A map keeps the key it has, and the key is the workload.
        self.0.remove(key as &dyn Parts);
        if let Some(workload) = workload {
            self.0.set(Keyed(workload), Some(()));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.0.iter().map(|(keyed, ())| &keyed.0)
    }
}

impl Parts for PodKey {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.cluster, &self.namespace, &self.name)
    }
}

impl Parts for Keyed {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.0.cluster, &self.0.namespace, &self.0.name)
    }
}

impl<'a> Borrow<dyn Parts + 'a> for Keyed {
    fn borrow(&self) -> &(dyn Parts + 'a) {
        self
    }
}

impl Hash for dyn Parts + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Keyed {}
