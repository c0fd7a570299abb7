//! What all streams of a server share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Certificates, Config, Connections, Metrics};
use crate::ads::{Options, Resources};
use crate::auth::Gate;
use crate::mesh::{Lens, Snapshot, SnapshotReader};
use crate::model::Proxy;

/// The proxies that get the same endpoint answers.
pub trait Class: Lens {
    /// What `proxy`, one of them, can be told of one snapshot.
    fn resources(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        proxy: Arc<Proxy>,
    ) -> Box<dyn Resources + Send>;
}

/// Finds the class of a proxy in one snapshot.
pub type Classify = dyn Fn(&Snapshot, &Proxy) -> Arc<dyn Class> + Send + Sync;

/// What a server reads and what it counts in.
pub struct State {
    /// Settings.
    pub config: Config,
    /// Settings of sessions.
    pub sessions: Arc<Options>,
    /// The published world.
    pub snapshots: SnapshotReader,
    /// How proxies see it.
    pub classify: Box<Classify>,
    /// Whether all sources are synced. Before that no stream is served: an
    /// empty answer would delete what proxies hold (xDS rule 44).
    pub ready: Arc<AtomicBool>,
    /// Who is let in; without one, everyone, and nobody gets a certificate.
    pub gate: Option<Gate>,
    /// Signs certificates, if anyone here does.
    pub certificates: Option<Certificates>,
    /// Open streams.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Metrics,
}

impl State {
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
