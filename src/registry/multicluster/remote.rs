//! One remote cluster and its change of credentials.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    claims::Claim,
    clusters::Clusters,
    kubeconfig::{InsecureOptions, check},
};
use crate::mesh::{Change, Event};
use crate::model::ClusterId;
use crate::registry::kube::{
    ClusterOrigin, ClusterScope, ClusterStatus, ClusterWatch, SyncState, client_for,
};

/// What starting a remote cluster takes.
pub(super) struct Starter {
    pub scope: ClusterScope,
    pub insecure: InsecureOptions,
    pub patience: Option<Duration>,
    pub events: mpsc::Sender<Vec<Event>>,
    pub clusters: Arc<Clusters>,
}

impl Starter {
    async fn start(&self, cluster: &ClusterId, claim: &Claim) -> Result<ClusterWatch, String> {
        let kubeconfig = check(&claim.kubeconfig, &self.insecure).map_err(|e| e.to_string())?;
        let client = client_for(kubeconfig).await.map_err(|e| e.to_string())?;
        let origin = ClusterOrigin {
            cluster: cluster.clone(),
            source: Arc::clone(&claim.source),
            config: false,
            patience: self.patience,
        };
        let status = ClusterStatus::new(origin, self.clusters.waker());
        let events = &self.events;
        let speaks = false;
        Ok(ClusterWatch::start(
            &client,
            &self.scope,
            status,
            events,
            speaks,
        ))
    }
}

/// A remote cluster. With new credentials a second set of watches is started
/// beside the first; it takes over once it has listed everything, and until
/// then, or for ever if it never does, the first goes on. So endpoints never
/// disappear in between (split-horizon §4.1).
pub(super) struct Remote {
    cluster: ClusterId,
    claim: Claim,
    running: Option<ClusterWatch>,
    candidate: Option<ClusterWatch>,
    /// It has told what it listed.
    joined: bool,
    /// Its time was up while it was still syncing; counted once.
    pub timed_out: bool,
}

impl Remote {
    /// Starts watching a cluster.
    pub(super) async fn new(cluster: ClusterId, claim: Claim, starter: &Starter) -> Self {
        let mut remote = Self {
            cluster,
            claim,
            running: None,
            candidate: None,
            joined: false,
            timed_out: false,
        };
        remote.begin(starter).await;
        remote
    }

    async fn begin(&mut self, starter: &Starter) {
        let (cluster, source) = (&self.cluster, &self.claim.source);
        match starter.start(cluster, &self.claim).await {
            Ok(watch) => {
                info!(%cluster, source = %source, "watching a remote cluster");
                starter.clusters.set_remote(&watch);
                self.running = Some(watch);
            }
            Err(error) => {
                warn!(%cluster, source = %source, error, "the remote cluster is not watched");
                starter.clusters.refuse(cluster, source, &error);
            }
        }
    }

    /// Takes the claim that counts now. Tells whether anything is different.
    pub(super) async fn claim(&mut self, claim: Claim, starter: &Starter) -> bool {
        if self.claim == claim {
            return false;
        }
        let same = self.claim.kubeconfig == claim.kubeconfig;
        self.claim = claim;
        if same {
            if let Some(running) = &self.running {
                running.status().moved_to(&self.claim.source);
            }
            return false;
        }
        if self.running.is_none() {
            self.begin(starter).await;
        } else {
            self.rotate(starter).await;
        }
        true
    }

    async fn rotate(&mut self, starter: &Starter) {
        // Credentials that were being tried are outdated themselves.
        self.candidate = None;
        let (cluster, source) = (&self.cluster, &self.claim.source);
        let note = match starter.start(cluster, &self.claim).await {
            Ok(candidate) => {
                info!(%cluster, source = %source, "trying new credentials");
                self.candidate = Some(candidate);
                "trying new credentials".to_owned()
            }
            Err(error) => {
                warn!(%cluster, source = %source, error, "new credentials refused; the old stay in use");
                format!("new credentials refused: {error}")
            }
        };
        if let Some(running) = &self.running {
            running.status().note_rotation(Some(&note));
        }
    }

    /// Lets the cluster join once all of it is listed, and new credentials take
    /// over if they are fit to.
    pub(super) async fn settle(&mut self, clusters: &Clusters) {
        if let Some(running) = &self.running
            && !self.joined
            && running.status().is_listed()
        {
            running.speak().await;
            self.joined = true;
        }
        let (Some(running), Some(candidate)) = (&self.running, &self.candidate) else {
            return;
        };
        let (old, new) = (running.status(), candidate.status());
        if !new.is_listed() {
            let error = new.report().error;
            let error = error
                .as_deref()
                .map(|e| format!("trying new credentials: {e}"));
            old.note_rotation(error.as_deref().or(Some("trying new credentials")));
            return;
        }
        // New credentials that may read less do not replace old ones that work.
        let lost: Vec<_> = new
            .forbidden()
            .difference(&old.forbidden())
            .cloned()
            .collect();
        if !lost.is_empty() && old.sync() == SyncState::Synced {
            let lost = lost.join(", ");
            old.note_rotation(Some(&format!("new credentials may not read {lost}")));
            return;
        }
        let (Some(running), Some(candidate)) = (self.running.take(), self.candidate.take()) else {
            return;
        };
        // The old must have sent its last word before the new says its first.
        running.stop().await;
        candidate.speak().await;
        self.joined = true;
        clusters.set_remote(&candidate);
        info!(cluster = %self.cluster, source = %self.claim.source, "new credentials in use");
        self.running = Some(candidate);
    }

    /// Ends it; everything it reported goes in one step.
    pub(super) async fn remove(mut self, starter: &Starter) {
        if let Some(candidate) = self.candidate.take() {
            candidate.stop().await;
        }
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        starter.clusters.remove(&self.cluster);
        info!(cluster = %self.cluster, source = %self.claim.source, "remote cluster removed");
        let removed = Event {
            cluster: self.cluster,
            change: Change::ClusterRemoved,
        };
        // A closed channel means that the process is going down.
        let _ = starter.events.send(vec![removed]).await;
    }

    /// Its state, if it is watched.
    pub(super) fn sync(&self) -> Option<SyncState> {
        self.running.as_ref().map(|watch| watch.status().sync())
    }

    /// Its watches, old and new.
    pub(super) fn watches(&mut self) -> impl Iterator<Item = &mut ClusterWatch> {
        self.running.iter_mut().chain(self.candidate.iter_mut())
    }
}
