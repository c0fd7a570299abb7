//! The root certificate in every namespace: without the `ConfigMap` no pod of
//! the mesh starts, since its agent mounts it (istiod: `namespacecontroller.go`).

mod foreign;
mod plan;
mod watch;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use self::{
    plan::{Digest, Due, Name, Outcome},
    watch::{ConfigMapSink, NamespaceSink, Shared, config_maps, namespaces},
};
use super::metrics::Metrics;
use super::{Root, changed};
use crate::mesh::SnapshotReader;
use crate::model::ClusterId;
use crate::registry::kube::{Failure, Progress, follow};

/// istiod: `constants.CACertNamespaceConfigMapDataName`.
const KEY: &str = "root-cert.pem";
/// istiod: `configMapLabel`.
const LABEL: (&str, &str) = ("istio.io/config", "true");
/// Writes under way at a time, in one cluster.
const AT_ONCE: usize = 8;
/// Time for one write.
const WRITE: Duration = Duration::from_secs(30);

/// The root certificates of one cluster.
#[derive(Clone)]
pub(super) struct RootCerts {
    pub cluster: ClusterId,
    pub client: Client,
    /// Name of the `ConfigMap`s.
    pub name: Arc<str>,
    pub system_namespace: Arc<str>,
    pub root: Root,
    pub snapshots: SnapshotReader,
    pub metrics: Metrics,
    /// How long a difference under another leader may last before it counts.
    pub patience: Duration,
    /// The last write failed, and that was told.
    pub failing: Arc<AtomicBool>,
}

impl RootCerts {
    /// Writes and repairs them for as long as it is polled.
    pub(super) async fn distribute(&self) -> Infallible {
        let shared = Arc::new(Shared::default());
        tokio::select! {
            never = self.watch_namespaces(&shared) => never,
            never = self.watch_config_maps(&shared) => never,
            never = self.write(&shared) => never,
        }
    }

    async fn watch_namespaces(&self, shared: &Arc<Shared>) -> Infallible {
        let progress = Progress::aside(self.cluster.clone(), "namespaces");
        let mut sink = NamespaceSink {
            shared: Arc::clone(shared),
            progress: progress.clone(),
            list: BTreeMap::new(),
        };
        follow(&self.client, &namespaces(), &progress, &mut sink).await;
        std::future::pending().await
    }

    async fn watch_config_maps(&self, shared: &Arc<Shared>) -> Infallible {
        let progress = Progress::aside(self.cluster.clone(), "configmaps");
        let mut sink = ConfigMapSink {
            shared: Arc::clone(shared),
            progress: progress.clone(),
            list: BTreeMap::new(),
        };
        let resource = config_maps(&self.name, None);
        follow(&self.client, &resource, &progress, &mut sink).await;
        std::future::pending().await
    }

    async fn write(&self, shared: &Shared) -> Infallible {
        let (mut roots, mut generations) = (self.root.clone(), self.snapshots.config_changed());
        loop {
            let root = Arc::clone(&roots.borrow_and_update());
            let mesh = Arc::clone(&self.snapshots.latest().mesh().config);
            let digest = Digest::of(&root);
            let plan = || shared.plan.lock();
            let Due { now, next } = plan().due(digest, &mesh.discovery_selectors, Instant::now());
            if now.is_empty() {
                tokio::select! {
                    () = shared.changed.notified() => {}
                    () = changed(&mut roots) => {}
                    () = changed(&mut generations) => {}
                    () = at(next) => {}
                }
                continue;
            }
            let writes = now.into_iter().map(|name| self.bring(name, &root));
            let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
            while let Some((name, outcome)) = writes.next().await {
                let contested = plan().wrote(&name, digest, Instant::now(), outcome);
                if contested {
                    self.tell_contested(&name);
                }
            }
        }
    }

    fn tell_contested(&self, namespace: &str) {
        self.metrics.count_contested(&self.cluster);
        warn!(
            cluster = %self.cluster,
            namespace,
            config_map = %self.name,
            "somebody else writes another root certificate here without holding the lock; \
             repairs become rarer"
        );
    }

    /// Makes one namespace hold the root.
    async fn bring(&self, namespace: Name, root: &str) -> (Name, Outcome) {
        let write = timeout(WRITE, self.put(&namespace, root));
        let result = write.await.unwrap_or(Err(Failure::NoAnswer(WRITE)));
        let outcome = match &result {
            Ok(outcome) => *outcome,
            Err(error) => {
                self.tell_failure(&namespace, error);
                Outcome::Failed
            }
        };
        if outcome == Outcome::Written {
            self.failing.store(false, Ordering::Relaxed);
            info!(cluster = %self.cluster, %namespace, config_map = %self.name, "wrote the root certificate");
        }
        self.metrics.count(&self.cluster, outcome.as_str());
        (namespace, outcome)
    }

    fn tell_failure(&self, namespace: &str, error: &Failure) {
        let cluster = &self.cluster;
        // The namespace is going or gone, or somebody was faster: the watches
        // will tell. Of the rest one line is enough until a write succeeds.
        let expected = matches!(error.code(), Some(404 | 409));
        if expected || self.failing.swap(true, Ordering::Relaxed) {
            debug!(%cluster, namespace, %error, "the root certificate was not written");
        } else {
            warn!(%cluster, namespace, config_map = %self.name, %error,
                "the root certificate was not written, trying again; \
                 new pods of this namespace cannot start without it");
        }
    }

    /// Only create and update: what istiod's own roles grant.
    async fn put(&self, namespace: &str, root: &str) -> Result<Outcome, Failure> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let Some(mut map) = maps.get_opt(&self.name).await? else {
            let map = self.new_map(root);
            maps.create(&PostParams::default(), &map).await?;
            return Ok(Outcome::Written);
        };
        let data = map.data.get_or_insert_default();
        if data.get(KEY).is_some_and(|held| held == root) {
            return Ok(Outcome::Unchanged);
        }
        data.insert(KEY.to_owned(), root.to_owned());
        maps.replace(&self.name, &PostParams::default(), &map)
            .await?;
        Ok(Outcome::Written)
    }

    fn new_map(&self, root: &str) -> ConfigMap {
        let (key, value) = LABEL;
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.to_string()),
                labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), root.to_owned())])),
            ..ConfigMap::default()
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
