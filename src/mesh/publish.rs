//! The two ends of publishing: one [`Writer`], any number of
//! [`SnapshotReader`]s.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use super::{
    Generation, Snapshot,
    watchers::{Told, Watcher, Watchers},
};

/// The publishing end. Not `Clone`: there is one writer, and the compiler
/// keeps it so.
pub struct Writer {
    current: Arc<ArcSwap<Snapshot>>,
    watchers: Arc<Watchers>,
    /// Of the last change of configuration.
    config: watch::Sender<Generation>,
}

/// The reading end: the newest snapshot, and a wake-up when there is a newer
/// one. The wake-up carries no data, so a slow reader misses nothing.
#[derive(Clone)]
pub struct SnapshotReader {
    current: Arc<ArcSwap<Snapshot>>,
    watchers: Arc<Watchers>,
    config: watch::Receiver<Generation>,
}

/// Each reader that was told of a publish holds this until it has looked.
#[derive(Debug)]
pub(super) struct Unread {
    _last: oneshot::Sender<()>,
}

/// Resolves, with an error, when everyone who was told of a publish has looked:
/// a storm of changes then costs one round of all readers after the other, and
/// a single change waits for nobody.
pub type Read = oneshot::Receiver<()>;

impl Writer {
    /// Both ends, the empty snapshot published.
    pub fn new() -> (Self, SnapshotReader) {
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let watchers = Arc::<Watchers>::default();
        let (config, configured) = watch::channel(Generation::default());
        let reader = SnapshotReader {
            current: Arc::clone(&current),
            watchers: Arc::clone(&watchers),
            config: configured,
        };
        let writer = Self {
            current,
            watchers,
            config,
        };
        (writer, reader)
    }

    /// Makes `snapshot` the newest one, then tells the readers whom its changes
    /// concern. An older generation than the published one is refused.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Read {
        let (last, read) = oneshot::channel();
        let unread = Arc::new(Unread { _last: last });
        let (before, now) = (self.current.load().generation(), snapshot.generation());
        if now < before {
            return read;
        }
        // Generations were left out, and what they changed with them.
        let skipped = now.0 > before.0 + 1;
        let config = skipped || snapshot.changes().config;
        // First what is new, then who is to look.
        let old = self.current.swap(Arc::clone(&snapshot));
        if skipped {
            self.watchers.tell_everything(&unread);
        } else {
            self.watchers.tell(&Told {
                unread,
                old,
                new: snapshot,
            });
        }
        if config {
            self.config.send_replace(now);
        }
        read
    }
}

impl SnapshotReader {
    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Wakes when a newer generation changes configuration. Who needs no
    /// endpoints must not cost anything when one changes.
    pub fn config_changed(&self) -> watch::Receiver<Generation> {
        self.config.clone()
    }

    /// Tells of what changes, as far as it is watched.
    pub fn watch(&self) -> Watcher {
        self.watchers.join()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").finish_non_exhaustive()
    }
}
