//! Owns the watches of all clusters.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    path::PathBuf,
    sync::Arc,
    task::Poll,
};

use kube::Client;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tracing::warn;

use super::{
    Clusters, Options,
    claims::{ClaimChange, Claims, Conflict},
    directory::Directory,
    remote::{Remote, Starter},
    secrets::{self, SecretSink},
};
use crate::manifest::{Defaults, Kind};
use crate::mesh::Event;
use crate::model::ClusterId;
use crate::registry::kube::{
    ClusterOrigin, ClusterScope, ClusterStatus, ClusterWatch, ConnectError, EventLabel, MeshRole,
    RoleLabel, SyncLabels, SyncState, follow, in_cluster_client, own_client,
};

/// Why the registry ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no way to the config cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A task ended that should not.
    #[error("a watch ended: {0}")]
    Task(#[from] JoinError),
}

/// Watches the config cluster and all remote ones until `events` is closed.
/// Dropping the future ends every watch.
pub async fn run(
    options: Options,
    clusters: Arc<Clusters>,
    events: mpsc::Sender<Vec<Event>>,
) -> Result<(), RegistryError> {
    let client = own_client(options.kubeconfig.as_deref()).await?;
    let (changes, mut changed) = mpsc::channel(16);
    let mut supervisor = Supervisor::start(&options, &client, clusters, events);
    supervisor.start_source(&options, &client, changes)?;
    let mut states = supervisor.starter.clusters.waker().subscribe();
    let clusters = Arc::clone(&supervisor.starter.clusters);
    loop {
        tokio::select! {
            Some(change) = changed.recv() => supervisor.apply(change).await,
            () = clusters.changed(&mut states) => supervisor.settle().await,
            ended = poll_fn(|context| supervisor.poll_ended(context)) => {
                return Ok(ended?);
            }
        }
    }
}

struct Supervisor {
    own: ClusterId,
    config: ClusterWatch,
    /// The watch of Secrets or of a folder.
    source: JoinSet<()>,
    claims: Claims,
    conflicts: BTreeSet<Conflict>,
    remotes: BTreeMap<ClusterId, Remote>,
    starter: Starter,
}

impl Supervisor {
    fn start(
        options: &Options,
        client: &Client,
        clusters: Arc<Clusters>,
        events: mpsc::Sender<Vec<Event>>,
    ) -> Self {
        let own = options.config_cluster.clone();
        let origin = ClusterOrigin {
            cluster: own.clone(),
            source: own_source(options.kubeconfig.as_ref()),
            config: true,
            // istiod: never ready without its config cluster.
            patience: None,
        };
        let status = ClusterStatus::new(origin, clusters.waker());
        let scope = scope(options, true);
        let config = ClusterWatch::start(client, &scope, status, &events, true);
        clusters.set_config(&config);
        let starter = Starter {
            scope: self::scope(options, false),
            insecure: options.insecure.clone(),
            patience: options.remote_timeout,
            events,
            clusters,
        };
        Self {
            own,
            config,
            source: JoinSet::new(),
            claims: Claims::default(),
            conflicts: BTreeSet::new(),
            remotes: BTreeMap::new(),
            starter,
        }
    }

    fn start_source(
        &mut self,
        options: &Options,
        client: &Client,
        changes: mpsc::Sender<ClaimChange>,
    ) -> Result<(), ConnectError> {
        // istiod: the folder wins over Secrets.
        if let Some(path) = &options.kubeconfig_dir {
            let folder = Directory::new(path.clone(), changes);
            self.source.spawn(folder.follow());
            return Ok(());
        }
        let client = if options.secrets_in_own_cluster {
            in_cluster_client()?
        } else {
            client.clone()
        };
        let resource = secrets::resource(&options.system_namespace);
        let progress = self.config.status().watch("secrets");
        let mut sink = SecretSink::new(changes, progress.clone());
        self.source.spawn(async move {
            follow(&client, &resource, &progress, &mut sink).await;
        });
        Ok(())
    }

    /// Brings the clusters in line with what is claimed now.
    async fn apply(&mut self, change: ClaimChange) {
        let first = matches!(change, ClaimChange::All(_));
        self.claims.apply(change);
        self.tell_conflicts();
        let owners = self.claims.owners(&self.own);
        let gone = self
            .remotes
            .extract_if(.., |cluster, _| !owners.contains_key(cluster));
        for (_, remote) in gone.collect::<Vec<_>>() {
            remote.remove(&self.starter).await;
            self.count_event("delete");
        }
        for (cluster, claim) in owners {
            if let Some(remote) = self.remotes.get_mut(&cluster) {
                if remote.claim(claim, &self.starter).await {
                    self.count_event("update");
                }
                continue;
            }
            let remote = Remote::new(cluster.clone(), claim, &self.starter).await;
            self.remotes.insert(cluster, remote);
            self.count_event("add");
        }
        if first {
            self.starter.clusters.set_listed();
        }
        self.measure();
    }

    fn tell_conflicts(&mut self) {
        let conflicts = self.claims.conflicts(&self.own);
        for (cluster, owner, other) in conflicts.difference(&self.conflicts) {
            warn!(
                %cluster,
                used = %owner,
                ignored = %other,
                "two sources of credentials for one cluster: the older is used; remove one"
            );
        }
        self.conflicts = conflicts;
    }

    /// A cluster's state changed.
    async fn settle(&mut self) {
        for (cluster, remote) in &mut self.remotes {
            remote.settle(&self.starter.clusters).await;
            if remote.sync() == Some(SyncState::TimedOut) && !remote.timed_out {
                remote.timed_out = true;
                self.starter.scope.metrics.sync_timeouts.inc();
                warn!(%cluster, "not synced in time: serving without it until it is");
            }
        }
        self.measure();
    }

    fn count_event(&self, event: &str) {
        let label = EventLabel {
            event: event.to_owned(),
        };
        let events = &self.starter.scope.metrics.secret_events;
        events.get_or_create(&label).inc();
    }

    fn measure(&self) {
        let metrics = &self.starter.scope.metrics;
        let remotes = i64::try_from(self.remotes.len()).unwrap_or(i64::MAX);
        for (role, count) in [("local", 1), ("remote", remotes)] {
            let cluster_type = role.to_owned();
            metrics
                .clusters
                .get_or_create(&RoleLabel { cluster_type })
                .set(count);
        }
        metrics.sync_status.clear();
        for (cluster, remote) in &self.remotes {
            let labels = SyncLabels {
                cluster: cluster.to_string(),
                cluster_type: "remote".to_owned(),
                status: remote
                    .sync()
                    .unwrap_or(SyncState::Refused)
                    .as_str()
                    .to_owned(),
            };
            metrics.sync_status.get_or_create(&labels).set(1);
        }
    }

    /// The first task that ends.
    fn poll_ended(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), JoinError>> {
        if let Poll::Ready(Some(ended)) = self.source.poll_join_next(context) {
            return Poll::Ready(ended);
        }
        let remotes = self.remotes.values_mut().flat_map(Remote::watches);
        for watch in remotes.chain([&mut self.config]) {
            if let Poll::Ready(Some(ended)) = watch.poll_ended(context) {
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}

fn own_source(kubeconfig: Option<&PathBuf>) -> Arc<str> {
    kubeconfig.map_or_else(
        || Arc::from("the environment"),
        |path| Arc::from(path.display().to_string()),
    )
}

fn scope(options: &Options, config: bool) -> ClusterScope {
    let mesh = if config {
        MeshRole::Config {
            mesh: options.mesh_from_cluster,
            networks: options.networks_from_cluster,
            domain: Arc::clone(&options.features.domain),
        }
    } else {
        MeshRole::Remote
    };
    let all = Kind::all((&options.mcs.0, &options.mcs.1)).into_iter();
    let kinds = all.filter(|kind| kind.is_read(config, &options.features));
    ClusterScope {
        kinds: kinds.collect(),
        system_namespace: options.system_namespace.clone(),
        config_map: options.config_map(),
        mesh,
        defaults: Defaults {
            domain: Arc::clone(&options.features.domain),
        },
        metrics: options.metrics.clone(),
    }
}
