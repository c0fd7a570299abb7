//! Kubeconfigs: from a file to a client, and into a remote Secret.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use yaml_serde::Value;

use super::MeshError;

/// Files that a kubeconfig may name, by section and entry, and the field that
/// holds the same in place.
const FILES: [(&str, &str, &str, &str); 3] = [
    (
        "clusters",
        "cluster",
        "certificate-authority",
        "certificate-authority-data",
    ),
    (
        "users",
        "user",
        "client-certificate",
        "client-certificate-data",
    ),
    ("users", "user", "client-key", "client-key-data"),
];

/// The kubeconfig in a file was of no use.
fn refuse(path: &Path, problem: &impl ToString) -> MeshError {
    MeshError::Kubeconfig {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// A client for the current context of a kubeconfig.
pub(super) async fn client(path: &Path) -> Result<Client, MeshError> {
    let read = Kubeconfig::read_from(path);
    // The parser quotes the line, and with it a credential.
    let kubeconfig = read.map_err(|_| refuse(path, &"it is missing or not of kind Config"))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| refuse(path, &error))?;
    config.default_retry = false;
    // A watch may be silent for as long as nothing is changed.
    config.read_timeout = None;
    Client::try_from(config).map_err(|error| refuse(path, &error))
}

/// The text of a kubeconfig with the files that it names in it.
pub(super) fn self_contained(path: &Path) -> Result<String, MeshError> {
    let text = std::fs::read_to_string(path).map_err(|error| refuse(path, &error))?;
    let parsed = yaml_serde::from_str(&text);
    let mut config: Value = parsed.map_err(|_| refuse(path, &"it is not YAML"))?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    for (section, entry, file, data) in FILES {
        let entries = config.get_mut(section).and_then(Value::as_sequence_mut);
        for entry in entries
            .into_iter()
            .flatten()
            .filter_map(|e| e.get_mut(entry))
        {
            embed(entry, (file, data), &folder)?;
        }
    }
    yaml_serde::to_string(&config).map_err(|_| refuse(path, &"it cannot be written again"))
}

fn embed(entry: &mut Value, (file, data): (&str, &str), folder: &Path) -> Result<(), MeshError> {
    let Some(fields) = entry.as_mapping_mut() else {
        return Ok(());
    };
    let Some(path) = fields.remove(file) else {
        return Ok(());
    };
    let path: PathBuf = folder.join(path.as_str().unwrap_or_default());
    let bytes = std::fs::read(&path).map_err(|error| refuse(&path, &error))?;
    fields.insert(data.into(), BASE64_STANDARD.encode(bytes).into());
    Ok(())
}
