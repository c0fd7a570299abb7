//! What was encoded, kept on the immutable value it was made from.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::EncodedResource;

/// A memo `key → encoded resource`, or a part of one. It lives in the value that
/// the encoder reads, so it needs no invalidation: it dies with its input.
pub struct Memo<K, V = EncodedResource> {
    entries: Mutex<HashMap<K, Arc<V>, FixedState>>,
}

impl<K: Hash + Eq, V> Memo<K, V> {
    /// The resource for `key`, encoded at most once; a second caller waits for
    /// the first instead of encoding the same bytes again.
    pub fn get_or_encode(&self, key: K, encode: impl FnOnce(&K) -> V) -> Arc<V> {
        let mut entries = self.entries.lock();
        if let Some(found) = entries.get(&key) {
            return Arc::clone(found);
        }
        let made = Arc::new(encode(&key));
        entries.insert(key, Arc::clone(&made));
        made
    }

    /// How many resources are kept.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(HashMap::with_hasher(FixedState::default())),
        }
    }
}

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}
