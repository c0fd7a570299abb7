//! The files of `--meshConfig` and `--networksConfig`.

use std::{convert::Infallible, fmt::Display, fs, path::Path, sync::Arc};

use tracing::warn;

use super::{FileSourceError, Output, watch::Watch};
use crate::manifest::{
    mesh_config::{self, MeshError, Settings},
    mesh_networks,
};
use crate::mesh::Change;
use crate::model::ClusterId;

/// Which mesh-wide settings a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsFile {
    /// `--meshConfig`.
    MeshConfig,
    /// `--networksConfig`.
    MeshNetworks,
}

impl SettingsFile {
    /// Reads the settings; what cannot be used of them is told, with the `place`
    /// where they stand.
    pub(super) fn read(
        self,
        text: &str,
        domain: &str,
        place: &dyn Display,
    ) -> Result<Change, String> {
        let change = match self {
            Self::MeshConfig => {
                let read = mesh_config::parse(text, domain);
                told(read, place).map(|mesh| Change::MeshConfig(Arc::new(mesh)))
            }
            Self::MeshNetworks => {
                let read = mesh_networks::parse(text);
                told(read, place).map(|networks| Change::MeshNetworks(Arc::new(networks)))
            }
        };
        change.map_err(|error| error.to_string())
    }
}

fn told<T>(read: Result<Settings<T>, MeshError>, place: &dyn Display) -> Result<T, MeshError> {
    let Settings { value, warnings } = read?;
    for warning in &warnings {
        warn!(%place, %warning, "a part of the mesh settings is not used");
    }
    Ok(value)
}

/// Reads a settings file and follows it for as long as events are taken.
/// `synced` is called once its settings are sent. It must be good at start;
/// later its last good state stays.
pub async fn follow_settings(
    file: SettingsFile,
    path: &Path,
    cluster: ClusterId,
    output: Output,
    synced: impl FnOnce() + Send,
) -> Result<Infallible, FileSourceError> {
    let mut watch = Watch::beside(path)?;
    let mut text = fs::read_to_string(path).map_err(|source| FileSourceError::Read {
        path: path.to_owned(),
        source,
    })?;
    let change = file.read(&text, &output.defaults.domain, &path.display());
    let change = change.map_err(|problem| FileSourceError::Settings {
        path: path.to_owned(),
        problem,
    })?;
    output.send(&cluster, vec![change]).await?;
    synced();
    loop {
        watch.changed().await;
        watch.renew();
        if watch.is_writing(path) {
            continue;
        }
        let read = fs::read_to_string(path);
        if read.as_ref().is_ok_and(|new| *new == text) {
            continue;
        }
        let change = read.map_err(|error| error.to_string()).and_then(|new| {
            text = new;
            file.read(&text, &output.defaults.domain, &path.display())
        });
        match change {
            Ok(change) => output.send(&cluster, vec![change]).await?,
            Err(problem) => {
                output.refused.inc();
                let file = path.display();
                warn!(%file, %problem, "the settings cannot be used; the last good ones stay");
            }
        }
    }
}
