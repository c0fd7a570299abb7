//! Clusters as folders of manifests: isthmus without Kubernetes.
//!
//! [`follow_cluster`] reads every `*.yaml`, `*.yml` and `*.json` below a folder
//! and follows changes to them; [`follow_settings`] does the same for the files
//! of `--meshConfig` and `--networksConfig`. On a change the folder is read
//! again, and each kind whose objects differ is sent whole as one
//! [`Change::Reset`]; the index finds the difference. What cannot be read keeps
//! its last good state, is named in a warning, and counted.
//!
//! Writers should write beside and rename: a file that is written in place is
//! not read before it is closed, but at start it may be half of itself.

mod documents;
mod folder;
mod settings;
mod watch;

use std::{convert::Infallible, path::PathBuf};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tracing::warn;

use crate::manifest::{Defaults, Kind};
use crate::mesh::{Change, Event};
use crate::model::{ClusterId, Features, Namespace};

use folder::Folder;
use watch::Watch;

pub use settings::{SettingsFile, follow_settings};

/// A cluster that is a folder.
#[derive(Debug, Clone)]
pub struct ClusterDir {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// Its manifests.
    pub folder: PathBuf,
    /// It is the config cluster: its Istio objects and mesh settings count.
    pub is_config: bool,
    /// Its `ConfigMap` of mesh settings.
    pub mesh_map: MeshMap,
}

/// The `ConfigMap` of mesh settings of a cluster. Of a cluster that is not the
/// config cluster only the trust domain is read.
#[derive(Debug, Clone)]
pub struct MeshMap {
    /// Its namespace, istio's root namespace.
    pub namespace: Namespace,
    /// Its name: `istio`, or `istio-REVISION`.
    pub name: String,
    /// Read its key `mesh`; false where `--meshConfig` wins.
    pub mesh: bool,
    /// Read its key `meshNetworks`; false where `--networksConfig` wins.
    pub networks: bool,
}

/// What all file sources share.
#[derive(Debug, Clone)]
pub struct Output {
    /// The kinds that are known ([`Kind::all`]).
    pub kinds: Vec<Kind>,
    /// What decides which of them are read.
    pub features: Features,
    /// What the meaning of a manifest depends on.
    pub defaults: Defaults,
    /// Where events go.
    pub events: mpsc::Sender<Vec<Event>>,
    /// Counts what cannot be read.
    pub refused: Counter,
}

/// Why a file source ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileSourceError {
    /// The folder or file cannot be read at start.
    #[error("cannot read {}: {source}; check that it exists and may be read", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The folder cannot be watched.
    #[error("cannot watch {}: {source}; fs.inotify.max_user_watches may be too low", path.display())]
    Watch {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: notify::Error,
    },
    /// A settings file cannot be used at start.
    #[error("{}: {problem}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody takes events any more: the process is going down.
    #[error("the process is going down")]
    Closed,
}

impl Output {
    async fn send(&self, cluster: &ClusterId, changes: Vec<Change>) -> Result<(), FileSourceError> {
        if changes.is_empty() {
            return Ok(());
        }
        let events = changes.into_iter().map(|change| Event {
            cluster: cluster.clone(),
            change,
        });
        let sent = self.events.send(events.collect()).await;
        sent.map_err(|_| FileSourceError::Closed)
    }
}

/// Reads a cluster's folder and follows it for as long as events are taken.
/// `synced` is called once its first events are sent.
pub async fn follow_cluster(
    dir: ClusterDir,
    output: Output,
    synced: impl FnOnce() + Send,
) -> Result<Infallible, FileSourceError> {
    let watch = Watch::below(&dir.folder)?;
    let folder = Folder::new(dir, &output);
    let (mut source, first) = read(Box::new((folder, watch))).await?;
    let changes = first.map_err(|error| FileSourceError::Read {
        path: source.0.path().to_owned(),
        source: error,
    });
    output.send(source.0.cluster(), changes?).await?;
    synced();
    loop {
        source.1.changed().await;
        let result;
        (source, result) = read(source).await?;
        let folder = &source.0;
        match result {
            Ok(changes) => output.send(folder.cluster(), changes).await?,
            Err(error) => {
                let (cluster, folder) = (folder.cluster(), folder.path().display());
                warn!(%cluster, %folder, %error, "the folder cannot be read; its last good state stays");
            }
        }
    }
}

type Source = Box<(Folder, Watch)>;

/// Reads a folder beside the runtime: it may hold very many files.
async fn read(
    mut source: Source,
) -> Result<(Source, std::io::Result<Vec<Change>>), FileSourceError> {
    let read = tokio::task::spawn_blocking(move || {
        let (folder, watch) = &mut *source;
        let result = folder.read(watch);
        (source, result)
    });
    read.await.map_err(|_| FileSourceError::Closed)
}

#[cfg(test)]
mod tests;
