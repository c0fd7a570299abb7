//! What a registry has said, as the index would hold it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use isthmus::{
    manifest::{MCS_GROUP, MCS_VERSION},
    mesh::{Change, Event},
    model::{ClusterId, Features},
    model::{Object, ObjectKey, ObjectKind},
    registry::multicluster::{Clusters, Options, run},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(2);

/// A running registry and everything it reported.
pub(crate) struct World {
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) objects: BTreeMap<ClusterId, BTreeMap<ObjectKey, Object>>,
    /// Everything else, newest last.
    pub(crate) others: Vec<(ClusterId, Change)>,
    /// Number of `Reset`s so far.
    pub(crate) resets: usize,
    events: mpsc::Receiver<Vec<Event>>,
    _tasks: JoinSet<()>,
}

impl World {
    pub(crate) fn start(options: Options) -> Self {
        let clusters = Arc::new(Clusters::default());
        let (sender, events) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let registry = run(options, Arc::clone(&clusters), sender);
        tasks.spawn(async move {
            registry.await.expect("it does not end by itself");
        });
        Self {
            clusters,
            objects: BTreeMap::new(),
            others: Vec::new(),
            resets: 0,
            events,
            _tasks: tasks,
        }
    }

    /// Waits until the registry has said enough for `done`.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let all = async {
            while !done(self) {
                let batch = self.events.recv().await.expect("the registry runs");
                self.take(batch);
            }
        };
        if timeout(LIMIT, all).await.is_err() {
            let reports = self.clusters.reports();
            panic!(
                "never: {what}\nheld: {:?}\n{reports:#?}",
                self.objects.keys()
            );
        }
    }

    /// Waits until the clusters are `done`, taking what they say.
    pub(crate) async fn until_clusters(&mut self, what: &str, done: impl Fn(&Clusters) -> bool) {
        let all = async {
            while !done(&self.clusters) {
                let next = timeout(Duration::from_millis(20), self.events.recv()).await;
                if let Ok(Some(batch)) = next {
                    self.take(batch);
                }
            }
        };
        let met = timeout(LIMIT, all).await.is_ok();
        assert!(met, "never: {what}\n{:#?}", self.clusters.reports());
    }

    fn take(&mut self, batch: Vec<Event>) {
        for event in batch {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) {
        let held = self.objects.entry(event.cluster.clone()).or_default();
        match event.change {
            Change::Upsert(object) => _ = held.insert(object.key(), object),
            Change::Delete(key) => _ = held.remove(&key),
            Change::Reset(kind, objects) => {
                self.resets += 1;
                held.retain(|key, _| key.kind != kind);
                held.extend(objects.into_iter().map(|o| (o.key(), o)));
            }
            Change::ClusterRemoved => {
                self.objects.remove(&event.cluster);
                self.others.push((event.cluster, Change::ClusterRemoved));
            }
            other => self.others.push((event.cluster, other)),
        }
    }

    /// Names of a cluster's objects of a kind.
    pub(crate) fn names(&self, cluster: &str, kind: ObjectKind) -> BTreeSet<String> {
        let held = self.objects.get(cluster).into_iter().flatten();
        let keys = held.filter(|(key, _)| key.kind == kind);
        keys.map(|(key, _)| key.name.to_string()).collect()
    }

    pub(crate) fn has(&self, cluster: &str, kind: ObjectKind, name: &str) -> bool {
        self.names(cluster, kind).contains(name)
    }
}

/// Options for a config cluster named `config`.
pub(crate) fn options(kubeconfig: std::path::PathBuf) -> Options {
    Options {
        config_cluster: ClusterId::from("config"),
        kubeconfig: Some(kubeconfig),
        system_namespace: "istio-system".to_owned(),
        revision: String::new(),
        remote_timeout: Some(Duration::from_secs(30)),
        secrets_in_own_cluster: false,
        kubeconfig_dir: None,
        insecure: isthmus::registry::multicluster::InsecureOptions::default(),
        features: Arc::new(Features::default()),
        mcs: (MCS_GROUP.to_owned(), MCS_VERSION.to_owned()),
        mesh_from_cluster: true,
        networks_from_cluster: true,
        metrics: isthmus::registry::kube::KubeMetrics::default(),
    }
}
