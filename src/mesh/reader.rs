//! The two ends of publishing: one [`Writer`], any number of
//! [`SnapshotReader`]s.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Generation, Snapshot};

/// The publishing end. Not `Clone`: there is one writer, and the compiler
/// keeps it so.
pub struct Writer {
    current: Arc<ArcSwap<Snapshot>>,
    wake: watch::Sender<Generation>,
}

/// The reading end: the newest snapshot, and a wake-up when there is a newer
/// one. The wake-up carries no data, so a slow reader misses nothing.
#[derive(Clone)]
pub struct SnapshotReader {
    current: Arc<ArcSwap<Snapshot>>,
    wake: watch::Receiver<Generation>,
}

impl Writer {
    /// Both ends, the empty snapshot published.
    pub fn new() -> (Self, SnapshotReader) {
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let (sender, receiver) = watch::channel(Generation::default());
        let reader = SnapshotReader {
            current: Arc::clone(&current),
            wake: receiver,
        };
        let wake = sender;
        (Self { current, wake }, reader)
    }

    /// Makes `snapshot` the newest one, then wakes the readers. An older
    /// generation than the published one is refused.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation();
        if generation < *self.wake.borrow() {
            return;
        }
        self.current.store(snapshot);
        self.wake.send_replace(generation);
    }
}

impl SnapshotReader {
    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Wakes when a newer generation is published.
    pub fn changed(&self) -> watch::Receiver<Generation> {
        self.wake.clone()
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
