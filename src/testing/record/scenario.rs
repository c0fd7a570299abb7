//! The files of one folder of `tests/scenarios`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{Answers, AnswersError};
use crate::client::ProxySpec;

/// A seed system: clusters, control planes, and proxies with istiod's answers.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The folder it was read from.
    pub folder: PathBuf,
    /// Names of the Kubernetes clusters.
    pub clusters: Vec<String>,
    /// Who serves whom.
    pub control_planes: Vec<ControlPlane>,
    /// Who connects.
    pub proxies: Vec<ProxySpec>,
}

/// A control plane and what it watches.
#[derive(Debug, Clone, Deserialize)]
pub struct ControlPlane {
    /// The cluster it runs in, whose Istio objects it reads.
    pub cluster: String,
    /// The clusters that it has a remote Secret of.
    #[serde(default)]
    pub remote: Vec<String>,
}

/// Why a scenario cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// No such file, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not the expected YAML.
    #[error("{}: {source}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: yaml_serde::Error,
    },
    /// Not the expected JSON.
    #[error("{}: {source}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: AnswersError,
    },
}

#[derive(Deserialize)]
struct Document {
    clusters: Vec<String>,
    control_planes: Vec<ControlPlane>,
}

impl Scenario {
    /// Reads `scenario.yaml` and `proxies.yaml` of a folder.
    pub fn read(folder: &Path) -> Result<Self, ScenarioError> {
        let document: Document = yaml(&folder.join("scenario.yaml"))?;
        Ok(Self {
            folder: folder.to_owned(),
            clusters: document.clusters,
            control_planes: document.control_planes,
            proxies: yaml(&folder.join("proxies.yaml"))?,
        })
    }

    /// `MeshConfig` for `--meshConfig`.
    pub fn mesh_config(&self) -> PathBuf {
        self.folder.join("mesh.yaml")
    }

    /// `MeshNetworks` for `--networksConfig`.
    pub fn mesh_networks(&self) -> PathBuf {
        self.folder.join("meshnetworks.yaml")
    }

    /// The Kubernetes objects of one cluster.
    pub fn manifest(&self, cluster: &str) -> PathBuf {
        self.folder.join("clusters").join(format!("{cluster}.yaml"))
    }

    /// The proxies that connect to a control plane: those of its own cluster,
    /// or all where there is no other.
    pub fn proxies_of(&self, plane: &ControlPlane) -> impl Iterator<Item = &ProxySpec> {
        let only = self.control_planes.len() == 1;
        let proxies = self.proxies.iter();
        proxies.filter(move |proxy| only || proxy.text("CLUSTER_ID") == Some(&plane.cluster))
    }

    /// What istiod answered a proxy.
    pub fn recorded(&self, proxy: &ProxySpec) -> Result<Answers, ScenarioError> {
        let path = self
            .folder
            .join("istiod")
            .join(format!("{}.json", proxy.name));
        let recorded = Answers::from_json(&read(&path)?);
        recorded.map_err(|source| ScenarioError::Recording { path, source })
    }
}

fn read(path: &Path) -> Result<String, ScenarioError> {
    fs::read_to_string(path).map_err(|source| ScenarioError::Read {
        path: path.to_owned(),
        source,
    })
}

fn yaml<T: DeserializeOwned>(path: &Path) -> Result<T, ScenarioError> {
    let parsed = yaml_serde::from_str(&read(path)?);
    parsed.map_err(|source| ScenarioError::Yaml {
        path: path.to_owned(),
        source,
    })
}
