//! The controllers of one cluster: take the lock, write, give it back.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Options, Root,
    leader::{Candidate, Lock, Standing},
    root_cert::RootCerts,
    served::{ServedSink, system_namespace},
};
use crate::mesh::SnapshotReader;
use crate::model::ClusterId;
use crate::registry::kube::{Progress, follow};

/// One cluster and what is written to it.
pub(super) struct Writer {
    options: Arc<Options>,
    cluster: ClusterId,
    client: Client,
    roots: RootCerts,
}

impl Writer {
    pub(super) fn new(
        options: &Arc<Options>,
        cluster: ClusterId,
        client: Client,
        root: Root,
        snapshots: SnapshotReader,
    ) -> Self {
        let roots = RootCerts {
            cluster: cluster.clone(),
            client: client.clone(),
            name: Arc::clone(&options.config_map),
            system_namespace: Arc::clone(&options.system_namespace),
            root,
            snapshots,
            metrics: options.metrics.clone(),
            patience: options.pace.lease,
            failing: Arc::default(),
        };
        Self {
            options: Arc::clone(options),
            cluster,
            client,
            roots,
        }
    }

    /// Writes to the config cluster until `stop`.
    pub(super) async fn run_local(self, stop: CancellationToken) {
        self.lead(&stop, false).await;
        self.options.metrics.forget(&self.cluster);
    }

    /// Writes to a remote cluster while its system namespace asks for it.
    pub(super) async fn run_remote(self, stop: CancellationToken) {
        let (served, answers) = watch::channel(false);
        tokio::select! {
            () = self.watch_served(served) => {}
            () = self.while_served(&stop, answers) => {}
        }
        self.options.metrics.forget(&self.cluster);
    }

    async fn watch_served(&self, served: watch::Sender<bool>) {
        let progress = Progress::aside(self.cluster.clone(), "namespaces");
        let mut sink = ServedSink {
            own: self.options.config_cluster.clone(),
            progress: progress.clone(),
            served,
            found: false,
        };
        let resource = system_namespace(&self.options.system_namespace);
        follow(&self.client, &resource, &progress, &mut sink).await;
    }

    async fn while_served(&self, stop: &CancellationToken, mut served: watch::Receiver<bool>) {
        loop {
            let asked = served.wait_for(|served| *served);
            if !matches!(stop.run_until_cancelled(asked).await, Some(Ok(_))) {
                return;
            }
            info!(cluster = %self.cluster, "this control plane serves the remote cluster");
            let term = stop.child_token();
            let no_longer = async {
                let _ = served.wait_for(|served| !*served).await;
                term.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.lead(&term, true) => {}
                () = no_longer => {}
            }
            self.options.metrics.forget(&self.cluster);
        }
    }

    /// Takes the lock, writes while it holds, and gives it back, until `stop`.
    async fn lead(&self, stop: &CancellationToken, remote: bool) {
        if !self.options.elects {
            self.options.metrics.set_leading(&self.cluster, true);
            stop.run_until_cancelled(self.roots.distribute()).await;
            return;
        }
        let candidate = Candidate {
            cluster: self.cluster.clone(),
            namespace: self.options.system_namespace.to_string(),
            identity: self.options.identity.clone(),
            revision: self.options.revision.clone(),
            remote,
            clock: self.options.clock,
        };
        let mut lock = Lock::new(&self.client, candidate, self.options.pace);
        while !stop.is_cancelled() {
            self.term(&mut lock, stop).await;
        }
    }

    async fn term(&self, lock: &mut Lock, stop: &CancellationToken) {
        let metrics = &self.options.metrics;
        metrics.set_leading(&self.cluster, false);
        let (tell, standing) = watch::channel(Standing::Unknown);
        tokio::select! {
            // A request under way may have taken it.
            () = stop.cancelled() => return lock.release().await,
            never = self.roots.look(standing) => match never {},
            () = lock.acquire(|standing| _ = tell.send_replace(standing)) => {}
        }
        metrics.set_foreign(&self.cluster, false);
        metrics.set_leading(&self.cluster, true);
        tokio::select! {
            () = stop.cancelled() => {}
            never = self.roots.distribute() => match never {},
            () = lock.keep() => {}
        }
        // Whoever is next may write from here on: nothing of ours does.
        metrics.set_leading(&self.cluster, false);
        lock.release().await;
    }
}
