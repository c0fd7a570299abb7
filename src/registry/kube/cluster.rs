//! All watches of one cluster.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};
use tracing::{Instrument, info, info_span};

use super::{
    api::Resource,
    backoff::Backoff,
    config_map::{MeshRole, MeshSink},
    crds::{self, CrdSink, Crds},
    metrics::KubeMetrics,
    objects::{Gate, List, ObjectSink, Outlet},
    status::{ClusterStatus, Progress},
    watch::{End, Watch},
};
use crate::manifest::{self, Defaults, Kind};
use crate::mesh::Event;
use crate::model::ObjectKind;
use crate::registry::jitter::jittered;

/// Pause before asking again for a kind that should be served soon.
const SOON: Duration = Duration::from_secs(1);
/// Pause before asking again for a kind where CRDs may not be read.
const LATER: Duration = Duration::from_mins(1);

/// What is watched in a cluster.
#[derive(Clone)]
pub(crate) struct ClusterScope {
    /// Kinds.
    pub kinds: Vec<Kind>,
    /// Namespace of the mesh `ConfigMap`.
    pub system_namespace: String,
    /// Name of the mesh `ConfigMap`.
    pub config_map: String,
    /// What it is read for.
    pub mesh: MeshRole,
    /// What the meaning of objects depends on.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: KubeMetrics,
}

/// The running watches of one cluster; dropping it ends them.
pub(crate) struct ClusterWatch {
    client: Client,
    tasks: JoinSet<()>,
    gate: Gate,
    status: Arc<ClusterStatus>,
}

impl ClusterWatch {
    /// Starts all watches. With `speaks` false they sync and then wait for
    /// [`Self::speak`].
    pub(crate) fn start(
        client: &Client,
        scope: &ClusterScope,
        status: Arc<ClusterStatus>,
        events: &mpsc::Sender<Vec<Event>>,
        speaks: bool,
    ) -> Self {
        let gate = Gate::new(events.clone(), speaks);
        if speaks {
            status.joined();
        }
        let outlet = gate.outlet().clone();
        let mut tasks = JoinSet::new();
        let crds = watch_crds(&mut tasks, client, scope, &status);
        for kind in &scope.kinds {
            let progress = status.watch(&name_of(kind));
            let watch = KindWatch {
                client: client.clone(),
                progress: progress.clone(),
                sink: object_sink(kind, scope, progress, &outlet),
                kind: kind.clone(),
            };
            let span = info_span!("watch", cluster = %status.cluster(), kind = name_of(kind));
            if kind.crd {
                tasks.spawn(watch.custom(crds.subscribe()).instrument(span));
            } else {
                tasks.spawn(watch.built_in().instrument(span));
            }
        }
        watch_mesh(&mut tasks, client, scope, &status, outlet);
        Self {
            client: client.clone(),
            tasks,
            gate,
            status,
        }
    }

    /// What it is read with.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its state.
    pub(crate) fn status(&self) -> &Arc<ClusterStatus> {
        &self.status
    }

    /// Sends all that was listed, in one batch, and from now on what is seen.
    pub(crate) async fn speak(&self) {
        self.gate.open().await;
        self.status.joined();
    }

    /// Ends all watches; none sends anything after this returns.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// The next watch to end, which none does by itself but when the process
    /// goes down.
    pub(crate) fn poll_ended(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<(), JoinError>>> {
        self.tasks.poll_join_next(context)
    }
}

/// `plural.group`: the name of a kind's CRD, and of its watch in reports.
fn name_of(kind: &Kind) -> String {
    match &*kind.group {
        "" => kind.plural.to_owned(),
        group => format!("{}.{group}", kind.plural),
    }
}

/// What is left out already by the API server.
fn fields(kind: ObjectKind) -> Option<&'static str> {
    // istiod: the address of a failed pod may be another's by now.
    (kind == ObjectKind::Pod).then_some("status.phase!=Failed")
}

fn object_sink(
    kind: &Kind,
    scope: &ClusterScope,
    progress: Progress,
    outlet: &Outlet,
) -> ObjectSink {
    ObjectSink {
        kind: kind.object,
        defaults: scope.defaults.clone(),
        progress,
        metrics: scope.metrics.clone(),
        outlet: outlet.clone(),
        pending: Vec::new(),
        objects: 0,
        list: List::default(),
        known: kind.crd.then(Default::default),
    }
}

fn watch_crds(
    tasks: &mut JoinSet<()>,
    client: &Client,
    scope: &ClusterScope,
    status: &Arc<ClusterStatus>,
) -> watch::Sender<Crds> {
    let (published, _) = watch::channel(Crds::default());
    if !scope.kinds.iter().any(|kind| kind.crd) {
        return published;
    }
    let resource = crds::resource();
    let progress = status.watch(&format!("{}.{}", resource.plural, resource.group));
    let mut sink = CrdSink {
        names: std::collections::BTreeSet::default(),
        serial: 0,
        published: published.clone(),
        progress: progress.clone(),
    };
    let client = client.clone();
    tasks.spawn(async move {
        follow(&client, &resource, &progress, &mut sink).await;
    });
    published
}

fn watch_mesh(
    tasks: &mut JoinSet<()>,
    client: &Client,
    scope: &ClusterScope,
    status: &Arc<ClusterStatus>,
    outlet: Outlet,
) {
    let resource = Resource {
        version: "v1".to_owned(),
        plural: "configmaps".to_owned(),
        namespace: Some(scope.system_namespace.clone()),
        fields: Some(format!("metadata.name={}", scope.config_map)),
        ..Resource::default()
    };
    let progress = status.watch("configmaps");
    let mut sink = MeshSink {
        role: scope.mesh.clone(),
        progress: progress.clone(),
        metrics: scope.metrics.clone(),
        outlet,
        pending: Vec::new(),
        found: false,
    };
    let client = client.clone();
    tasks.spawn(async move {
        follow(&client, &resource, &progress, &mut sink).await;
    });
}

/// Watches a resource that every API server has: a 404 is one more failure.
pub(crate) async fn follow<S: super::watch::Sink>(
    client: &Client,
    resource: &Resource,
    progress: &Progress,
    sink: &mut S,
) {
    let mut backoff = Backoff::new(SOON, LATER);
    while Watch::new(client, resource, progress, sink).run().await == End::NotServed {
        progress.failed("the API server does not serve it (404)");
        sleep(backoff.next()).await;
    }
}

struct KindWatch {
    client: Client,
    kind: Kind,
    progress: Progress,
    sink: ObjectSink,
}

impl KindWatch {
    async fn built_in(mut self) {
        let version = self.kind.versions.first();
        let resource = self.resource(version.map_or_else(String::new, ToString::to_string));
        follow(&self.client, &resource, &self.progress, &mut self.sink).await;
    }

    /// Watches while the API server serves the kind.
    async fn custom(mut self, mut crds: watch::Receiver<Crds>) {
        let name = name_of(&self.kind);
        let mut backoff = Backoff::new(SOON, LATER);
        while crds.wait_for(Crds::is_known).await.is_ok() {
            if !crds.borrow_and_update().may_serve(&name) {
                if self.sink.absent().await.is_err() {
                    return;
                }
                if crds.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match crds::served_version(&self.client, &self.kind).await {
                Ok(Some(version)) => {
                    backoff.reset();
                    info!(version, "watching");
                    if self.while_served(version, &mut crds, &name).await == End::Closed {
                        return;
                    }
                    crds::news(&mut crds, SOON).await;
                }
                Ok(None) => {
                    if self.sink.absent().await.is_err() {
                        return;
                    }
                    let readable = *crds.borrow() != Crds::Unreadable;
                    let pause = if readable {
                        backoff.next()
                    } else {
                        jittered(LATER)
                    };
                    crds::news(&mut crds, pause).await;
                }
                Err(failure) => {
                    self.progress.failed(&failure.to_string());
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn while_served(
        &mut self,
        version: String,
        crds: &mut watch::Receiver<Crds>,
        name: &str,
    ) -> End {
        let resource = self.resource(version);
        let watch = Watch::new(&self.client, &resource, &self.progress, &mut self.sink);
        tokio::select! {
            end = watch.run() => end,
            gone = crds.wait_for(|crds| !crds.may_serve(name)) => match gone {
                Ok(_) => End::NotServed,
                Err(_) => End::Closed,
            },
        }
    }

    fn resource(&self, version: String) -> Resource {
        Resource {
            group: self.kind.group.to_string(),
            version,
            plural: self.kind.plural.to_owned(),
            fields: fields(self.kind.object).map(str::to_owned),
            protobuf: manifest::reads_protobuf(self.kind.object),
            ..Resource::default()
        }
    }
}
