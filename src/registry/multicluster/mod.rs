//! Watches the config cluster and every remote cluster that a Secret, or a
//! folder of kubeconfigs, gives access to.
//!
//! [`run`] owns all their tasks. Clusters come, go and change credentials while
//! it runs; what each is doing is in [`Clusters`].

mod claims;
mod clusters;
mod directory;
mod kubeconfig;
mod remote;
mod secrets;
mod supervisor;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use clusters::Clusters;
pub use kubeconfig::{InsecureOptions, KubeconfigError};
pub use supervisor::{RegistryError, run};

use crate::model::{ClusterId, Features};
use crate::registry::kube::KubeMetrics;

/// What to watch and how to get there.
#[derive(Clone)]
pub struct Options {
    /// The config cluster (`--clusterID`).
    pub config_cluster: ClusterId,
    /// Its kubeconfig (`--kubeconfig`); with none, as kubectl would choose, or
    /// the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the mesh `ConfigMap` and of remote Secrets (`POD_NAMESPACE`).
    pub system_namespace: String,
    /// Revision of this control plane (`REVISION`).
    pub revision: String,
    /// How long readiness waits for a remote cluster
    /// (`PILOT_REMOTE_CLUSTER_TIMEOUT`); none waits for ever, istiod's 0.
    pub remote_timeout: Option<Duration>,
    /// Remote Secrets are in the cluster that this process runs in, not in the
    /// config cluster (`EXTERNAL_ISTIOD` with `LOCAL_CLUSTER_SECRET_WATCHER`).
    pub secrets_in_own_cluster: bool,
    /// A folder of kubeconfigs instead of Secrets
    /// (`PILOT_MULTICLUSTER_KUBECONFIG_PATH`).
    pub kubeconfig_dir: Option<PathBuf>,
    /// What remote kubeconfigs may do beyond the safe.
    pub insecure: InsecureOptions,
    /// Switches that decide which kinds are read.
    pub features: Arc<Features>,
    /// Group and version of the MCS API (`MCS_API_GROUP`, `MCS_API_VERSION`).
    pub mcs: (String, String),
    /// Mesh settings come from the `ConfigMap`, not from a file (`--meshConfig`).
    pub mesh_from_cluster: bool,
    /// Networks come from the `ConfigMap`, not from a file (`--networksConfig`).
    pub networks_from_cluster: bool,
    /// Counters.
    pub metrics: KubeMetrics,
}

impl Options {
    /// The mesh `ConfigMap` (istiod: `istio`, or `istio-<revision>`).
    fn config_map(&self) -> String {
        match self.revision.as_str() {
            "" | "default" => "istio".to_owned(),
            revision => format!("istio-{revision}"),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("config_cluster", &self.config_cluster)
            .field("kubeconfig", &self.kubeconfig)
            .field("system_namespace", &self.system_namespace)
            .field("revision", &self.revision)
            .field("kubeconfig_dir", &self.kubeconfig_dir)
            .finish_non_exhaustive()
    }
}
