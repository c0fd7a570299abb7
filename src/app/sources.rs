//! Starts what the configuration names as sources of events.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use futures::{FutureExt, future::BoxFuture, future::join_all};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::{App, Synced};
use crate::config::{Config, KubeSource, Source};
use crate::manifest::{Defaults, Kind, mesh_config};
use crate::mesh::{Change, Event};
use crate::model::ClusterId;
use crate::registry::file::{
    ClusterDir, MeshMap, Output, SettingsFile, follow_cluster, follow_settings,
};
use crate::registry::kube::KubeMetrics;
use crate::registry::multicluster::{self, Clusters, InsecureOptions};

/// A folder or file that is followed.
pub(super) struct FileSource {
    /// What readiness says while it waits for it.
    pub(super) name: String,
    /// Follows it; ends only by an error.
    pub(super) run: BoxFuture<'static, Result<()>>,
    /// Resolves once what exists was sent.
    pub(super) synced: oneshot::Receiver<()>,
}

/// Starts every source as a task of `app`. The result resolves once each has
/// sent what exists.
pub(super) fn start(app: &mut App, events: mpsc::Sender<Vec<Event>>) -> Result<Synced> {
    // The queue is empty yet, so this neither waits nor fails.
    events.try_send(vec![default_mesh(&app.config)?])?;
    let refused = Counter::default();
    app.views.metrics.with(|registry| {
        let help = "Parts of manifests in files that could not be read and were left out";
        registry.register("isthmus_invalid_manifests", help, refused.clone());
    });
    let config = app.config.clone();
    let output = output(&config, events, refused);
    let mut files = settings_files(&config, &output);
    let mut synced = Vec::new();
    match &config.source {
        Source::Files(list) => files.extend(folders(&config, list, &output)),
        Source::Kube(source) => synced.push(api_servers(app, source, output.events)),
    }
    for FileSource {
        name,
        run,
        synced: sent,
    } in files
    {
        let block = app.views.readiness.block(&name);
        app.spawn_until_stop("a file source", run);
        synced.push(
            async move {
                // A source that failed ends the process; it must not count as
                // ready for the moment until then.
                match sent.await {
                    Ok(()) => drop(block),
                    Err(_) => std::future::pending().await,
                }
            }
            .boxed(),
        );
    }
    Ok(join_all(synced).map(drop).boxed())
}

/// istio's mesh settings, until a file or ConfigMap says otherwise.
pub(super) fn default_mesh(config: &Config) -> Result<Event> {
    let mesh = mesh_config::parse("", &config.features.domain)?.value;
    let change = Change::MeshConfig(Arc::new(mesh));
    Ok(Event {
        cluster: config.cluster_id.clone(),
        change,
    })
}

/// What file sources share.
pub(super) fn output(
    config: &Config,
    events: mpsc::Sender<Vec<Event>>,
    refused: Counter,
) -> Output {
    Output {
        kinds: Kind::all((&config.mcs.0, &config.mcs.1)),
        features: config.features.clone(),
        defaults: Defaults {
            domain: Arc::clone(&config.features.domain),
        },
        events,
        refused,
    }
}

/// The files of `--mesh-config` and `--networks-config`.
pub(super) fn settings_files(config: &Config, output: &Output) -> Vec<FileSource> {
    let files = [
        (SettingsFile::MeshConfig, &config.mesh_config),
        (SettingsFile::MeshNetworks, &config.networks_config),
    ];
    let given = files
        .into_iter()
        .filter_map(|(kind, path)| Some((kind, path.clone()?)));
    let source = |(kind, path): (SettingsFile, PathBuf)| {
        let (done, synced) = oneshot::channel();
        let (cluster, output) = (config.cluster_id.clone(), output.clone());
        let name = format!("file {}", path.display());
        let run = async move {
            match follow_settings(kind, &path, cluster, output, || _ = done.send(())).await? {}
        };
        FileSource {
            name,
            run: run.boxed(),
            synced,
        }
    };
    given.map(source).collect()
}

/// The folders of `--cluster-dir`.
pub(super) fn folders(
    config: &Config,
    folders: &[(ClusterId, PathBuf)],
    output: &Output,
) -> Vec<FileSource> {
    let source = |(cluster, folder): &(ClusterId, PathBuf)| {
        let (done, synced) = oneshot::channel();
        let dir = ClusterDir {
            is_config: *cluster == config.cluster_id,
            mesh_map: mesh_map(config),
            cluster: cluster.clone(),
            folder: folder.clone(),
        };
        let output = output.clone();
        let run = async move { match follow_cluster(dir, output, || _ = done.send(())).await? {} };
        FileSource {
            name: format!("cluster {cluster}"),
            run: run.boxed(),
            synced,
        }
    };
    folders.iter().map(source).collect()
}

fn mesh_map(config: &Config) -> MeshMap {
    MeshMap {
        namespace: config.namespace.clone(),
        name: match &*config.revision {
            "" | "default" => "istio".to_owned(),
            revision => format!("istio-{revision}"),
        },
        mesh: config.mesh_config.is_none(),
        networks: config.networks_config.is_none(),
    }
}

fn api_servers(app: &mut App, source: &KubeSource, events: mpsc::Sender<Vec<Event>>) -> Synced {
    let config = &app.config;
    let metrics = KubeMetrics::default();
    app.views
        .metrics
        .with(|registry| metrics.register(registry));
    let options = multicluster::Options {
        config_cluster: config.cluster_id.clone(),
        kubeconfig: source.kubeconfig.clone(),
        system_namespace: config.namespace.to_string(),
        revision: config.revision.clone(),
        remote_timeout: source.remote_timeout,
        secrets_in_own_cluster: source.local_secrets,
        kubeconfig_dir: source.remote_kubeconfigs.clone(),
        insecure: InsecureOptions::parse(&source.insecure_options),
        features: Arc::new(config.features.clone()),
        mcs: (config.mcs.0.to_string(), config.mcs.1.to_string()),
        mesh_from_cluster: config.mesh_config.is_none(),
        networks_from_cluster: config.networks_config.is_none(),
        metrics,
    };
    let clusters = Arc::new(Clusters::default());
    app.clients = clusters.clients();
    let waiting = app.views.readiness.block("clusters to sync");
    let run = multicluster::run(options, Arc::clone(&clusters), events);
    app.spawn_until_stop("the Kubernetes registry", async { Ok(run.await?) });
    async move {
        clusters.wait_ready().await;
        drop(waiting);
    }
    .boxed()
}
