//! How far each watch of a cluster has come: what readiness waits for and what
//! the debug views show. Written by the watches, read by everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::model::ClusterId;

/// What one watch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchState {
    /// The first list is not complete.
    #[default]
    Syncing,
    /// Listed and followed.
    Synced,
    /// The API server does not know the kind (its CRD is not installed).
    Absent,
    /// The credentials may not read the kind: taken as empty.
    Forbidden,
    /// The API server does not answer, or not well: what it said last stays.
    Failing,
}

/// State of one watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    /// State.
    pub state: WatchState,
    /// Since when.
    pub since: Instant,
    /// A list was complete once, or there is nothing to list.
    pub listed: bool,
    /// Objects held.
    pub objects: usize,
    /// Last error, while it lasts.
    pub error: Option<Arc<str>>,
}

impl WatchReport {
    fn new(now: Instant) -> Self {
        Self {
            state: WatchState::Syncing,
            since: now,
            listed: false,
            objects: 0,
            error: None,
        }
    }
}

/// State of a cluster as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    /// First lists are under way.
    Syncing,
    /// Every watch is listed and followed.
    Synced,
    /// Listed once, but some watch has failed since then: its last state is
    /// still served.
    Stale {
        /// Since when.
        since: Instant,
    },
    /// Not listed in time: readiness no longer waits.
    TimedOut,
    /// Its credentials are refused: nothing is watched.
    Refused,
}

impl SyncState {
    /// istiod's word for it (`istiod_remote_cluster_sync_status`), or ours.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Stale { .. } => "stale",
            Self::TimedOut => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// What a cluster looks like now.
#[derive(Debug, Clone)]
pub struct ClusterReport {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where its credentials come from: a Secret, a file, or the own kubeconfig.
    pub source: Arc<str>,
    /// It is the config cluster.
    pub config: bool,
    /// Overall state.
    pub sync: SyncState,
    /// Its watches, by plural name and group.
    pub watches: BTreeMap<Arc<str>, WatchReport>,
    /// The newest error.
    pub error: Option<Arc<str>>,
    /// New credentials that are not in use: being tried, or refused.
    pub rotation: Option<Arc<str>>,
}

type Watches = BTreeMap<Arc<str>, WatchReport>;

/// Shared state of one cluster and its watches.
#[derive(Debug)]
pub struct ClusterStatus {
    cluster: ClusterId,
    config: bool,
    started: Instant,
    patience: Option<Duration>,
    wake: watch::Sender<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Arc<str>,
    watches: Watches,
    rotation: Option<Arc<str>>,
    /// What was listed has been told to the index.
    joined: bool,
}

/// What a cluster's state needs to know about it.
#[derive(Debug)]
pub(crate) struct ClusterOrigin {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where its credentials come from.
    pub source: Arc<str>,
    /// It is the config cluster.
    pub config: bool,
    /// How long readiness waits for it; with none, for ever.
    pub patience: Option<Duration>,
}

impl ClusterStatus {
    /// A cluster that is being started. Each change of state wakes `wake`.
    pub(crate) fn new(origin: ClusterOrigin, wake: watch::Sender<()>) -> Arc<Self> {
        Arc::new(Self {
            cluster: origin.cluster,
            config: origin.config,
            started: Instant::now(),
            patience: origin.patience,
            wake,
            inner: Mutex::new(Inner {
                source: origin.source,
                watches: Watches::default(),
                rotation: None,
                joined: false,
            }),
        })
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Everything, for people.
    pub fn report(&self) -> ClusterReport {
        let sync = self.sync();
        let inner = self.inner.lock();
        let failing = inner.watches.values().filter(|w| w.error.is_some());
        let error = failing
            .max_by_key(|w| w.since)
            .and_then(|w| w.error.clone());
        ClusterReport {
            cluster: self.cluster.clone(),
            source: Arc::clone(&inner.source),
            config: self.config,
            sync,
            error,
            watches: inner.watches.clone(),
            rotation: inner.rotation.clone(),
        }
    }

    /// Overall state.
    pub fn sync(&self) -> SyncState {
        let inner = self.inner.lock();
        if !(inner.joined && is_listed(&inner.watches)) {
            return if self.deadline().is_some_and(|at| at <= Instant::now()) {
                SyncState::TimedOut
            } else {
                SyncState::Syncing
            };
        }
        let watches = inner.watches.values();
        let failing = watches.filter(|w| w.state == WatchState::Failing);
        match failing.map(|w| w.since).min() {
            Some(since) => SyncState::Stale { since },
            None => SyncState::Synced,
        }
    }

    /// Every watch was listed once.
    pub fn is_listed(&self) -> bool {
        is_listed(&self.inner.lock().watches)
    }

    /// What was listed has been told to the index.
    pub(crate) fn joined(&self) {
        self.inner.lock().joined = true;
        self.wake.send_replace(());
    }

    /// When readiness stops waiting for it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.patience.map(|patience| self.started + patience)
    }

    /// Kinds that the credentials may not read.
    pub(crate) fn forbidden(&self) -> BTreeSet<Arc<str>> {
        let inner = self.inner.lock();
        let watches = inner.watches.iter();
        let forbidden = watches.filter(|(_, w)| w.state == WatchState::Forbidden);
        forbidden.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Another source took over the same credentials.
    pub(crate) fn moved_to(&self, source: &Arc<str>) {
        self.inner.lock().source = Arc::clone(source);
    }

    /// Notes credentials that are not in use (yet), and why.
    pub(crate) fn note_rotation(&self, note: Option<&str>) {
        self.inner.lock().rotation = note.map(Arc::from);
    }

    /// Registers a watch; it counts as not listed from now on.
    pub(crate) fn watch(self: &Arc<Self>, name: &str) -> Progress {
        let name: Arc<str> = Arc::from(name);
        let report = WatchReport::new(Instant::now());
        let watches = &mut self.inner.lock().watches;
        watches.insert(Arc::clone(&name), report);
        Progress {
            status: Arc::clone(self),
            name,
        }
    }
}

fn is_listed(watches: &Watches) -> bool {
    !watches.is_empty() && watches.values().all(|w| w.listed)
}

/// A watch's end of its report.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    status: Arc<ClusterStatus>,
    name: Arc<str>,
}

impl Progress {
    /// For a watch beside those that readiness waits for.
    pub(crate) fn aside(cluster: ClusterId, name: &str) -> Self {
        let origin = ClusterOrigin {
            cluster,
            source: Arc::from("a controller"),
            config: false,
            patience: None,
        };
        ClusterStatus::new(origin, watch::Sender::default()).watch(name)
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &ClusterId {
        &self.status.cluster
    }

    /// Plural name and group of what is watched.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A list is complete and holds `objects`.
    pub(crate) fn listed(&self, objects: usize) {
        self.change(|w| {
            w.listed = true;
            w.objects = objects;
            enter(w, WatchState::Synced, None);
        });
    }

    /// The kind does not exist there.
    pub(crate) fn absent(&self) {
        self.change(|w| {
            w.listed = true;
            w.objects = 0;
            enter(w, WatchState::Absent, None);
        });
    }

    /// The watch works. Before the first list is complete it still counts as
    /// syncing. Tells whether it failed before.
    pub(crate) fn healthy(&self) -> bool {
        let mut recovered = false;
        self.change(|w| {
            recovered = w.state == WatchState::Failing;
            let state = if w.listed {
                WatchState::Synced
            } else {
                WatchState::Syncing
            };
            enter(w, state, None);
        });
        recovered
    }

    /// The credentials may not read it. What was read before stays. Tells
    /// whether that is news.
    pub(crate) fn forbidden(&self, error: &str) -> bool {
        let mut news = false;
        self.change(|w| {
            news = w.state != WatchState::Forbidden;
            w.listed = true;
            enter(w, WatchState::Forbidden, Some(error));
        });
        news
    }

    /// A request failed. Tells whether it is the cluster's first failing watch,
    /// which is the one worth a warning.
    pub(crate) fn failed(&self, error: &str) -> bool {
        let first = {
            let watches = &self.status.inner.lock().watches;
            watches.values().all(|w| w.state != WatchState::Failing)
        };
        self.change(|w| enter(w, WatchState::Failing, Some(error)));
        first
    }

    /// The number of objects held now.
    pub(crate) fn count(&self, objects: usize) {
        self.change(|w| w.objects = objects);
    }

    fn change(&self, change: impl FnOnce(&mut WatchReport)) {
        let mut inner = self.status.inner.lock();
        let Some(watch) = inner.watches.get_mut(&self.name) else {
            return;
        };
        let before = (watch.state, watch.listed);
        change(watch);
        let changed = before != (watch.state, watch.listed);
        drop(inner);
        if changed {
            self.status.wake.send_replace(());
        }
    }
}

fn enter(watch: &mut WatchReport, state: WatchState, error: Option<&str>) {
    if watch.state != state {
        watch.state = state;
        watch.since = Instant::now();
    }
    watch.error = error.map(Arc::from);
}
