//! The state of all clusters, for readiness and the debug views.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::model::ClusterId;
use crate::registry::kube::{ApiClients, ClusterReport, ClusterStatus, ClusterWatch, SyncState};

#[derive(Debug, Default)]
struct Inner {
    config: Option<Arc<ClusterStatus>>,
    /// Which remote clusters there are is known.
    listed: bool,
    remotes: BTreeMap<ClusterId, Arc<ClusterStatus>>,
    refused: BTreeMap<ClusterId, ClusterReport>,
}

/// What is known about every cluster. Written by the registry's tasks, read by
/// anybody, at any time.
#[derive(Debug, Default)]
pub struct Clusters {
    inner: Mutex<Inner>,
    clients: ApiClients,
    ready: AtomicBool,
    wake: watch::Sender<()>,
}

impl Clusters {
    /// A report of each cluster, the config cluster first.
    pub fn reports(&self) -> Vec<ClusterReport> {
        let inner = self.inner.lock();
        let config = inner.config.iter().map(|status| status.report());
        let remotes = inner.remotes.values().map(|status| status.report());
        let refused = inner.refused.values().cloned();
        config.chain(remotes).chain(refused).collect()
    }

    /// Whether clients may be served: the config cluster is listed, the remote
    /// clusters are known, and each is listed or has used up its time. Once
    /// true it stays so: a cluster that joins later is served as it comes.
    pub fn is_ready(&self) -> bool {
        if self.ready.load(Ordering::Acquire) {
            return true;
        }
        let ready = self.inner.lock().is_ready();
        if ready {
            self.ready.store(true, Ordering::Release);
        }
        ready
    }

    /// Waits until [`Self::is_ready`].
    pub async fn wait_ready(&self) {
        let mut changes = self.wake.subscribe();
        while !self.is_ready() {
            self.changed(&mut changes).await;
        }
    }

    /// Waits for a change of any cluster's state, or until the time of one that
    /// is still syncing is used up.
    pub(super) async fn changed(&self, changes: &mut watch::Receiver<()>) {
        let deadline = self.inner.lock().next_deadline(Instant::now());
        let timed_out = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives in `self`.
            _ = changes.changed() => {}
            () = timed_out => {}
        }
    }

    /// The API client of each cluster.
    pub fn clients(&self) -> ApiClients {
        self.clients.clone()
    }

    pub(super) fn waker(&self) -> watch::Sender<()> {
        self.wake.clone()
    }

    pub(super) fn set_config(&self, watch: &ClusterWatch) {
        let status = Arc::clone(watch.status());
        let cluster = status.cluster().clone();
        self.inner.lock().config = Some(status);
        self.clients.set(cluster, watch.client().clone());
    }

    pub(super) fn set_listed(&self) {
        self.inner.lock().listed = true;
        self.wake.send_replace(());
    }

    pub(super) fn set_remote(&self, watch: &ClusterWatch) {
        let status = Arc::clone(watch.status());
        let cluster = status.cluster().clone();
        let mut inner = self.inner.lock();
        inner.refused.remove(&cluster);
        inner.remotes.insert(cluster.clone(), status);
        drop(inner);
        self.clients.set(cluster, watch.client().clone());
    }

    pub(super) fn refuse(&self, cluster: &ClusterId, source: &Arc<str>, error: &str) {
        let report = ClusterReport {
            cluster: cluster.clone(),
            source: Arc::clone(source),
            config: false,
            sync: SyncState::Refused,
            watches: BTreeMap::new(),
            error: Some(Arc::from(error)),
            rotation: None,
        };
        self.inner.lock().refused.insert(cluster.clone(), report);
    }

    pub(super) fn remove(&self, cluster: &ClusterId) {
        let mut inner = self.inner.lock();
        inner.remotes.remove(cluster);
        inner.refused.remove(cluster);
        drop(inner);
        self.clients.remove(cluster);
        self.wake.send_replace(());
    }
}

impl Inner {
    fn is_ready(&self) -> bool {
        let settled = |status: &Arc<ClusterStatus>| !matches!(status.sync(), SyncState::Syncing);
        let config = self
            .config
            .as_ref()
            .is_some_and(|status| status.is_listed());
        config && self.listed && self.remotes.values().all(settled)
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let is_syncing = |status: &&Arc<ClusterStatus>| matches!(status.sync(), SyncState::Syncing);
        let syncing = self.remotes.values().filter(is_syncing);
        let deadlines = syncing.filter_map(|status| status.deadline());
        deadlines.filter(|at| *at > now).min()
    }
}
