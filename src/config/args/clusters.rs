//! Where clusters, mesh settings and networks come from.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use crate::config::{ConfigError, KubeSource, Source, values};
use crate::model::ClusterId;

/// istiod's defaults; a file that is not there is then no error.
const MESH_CONFIG: &str = "./etc/istio/config/mesh";
const NETWORKS_CONFIG: &str = "./etc/istio/config/meshNetworks";

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Read a cluster from a folder of Kubernetes manifests and follow its
    /// changes; repeat for each cluster. Needs no Kubernetes
    #[arg(long, value_name = "NAME=FOLDER", value_parser = values::cluster_dir)]
    cluster_dir: Vec<(ClusterId, PathBuf)>,
    /// Kubeconfig of the config cluster; without it $KUBECONFIG, ~/.kube/config,
    /// or the pod's own credentials
    #[arg(
        long, value_name = "FILE", value_parser = values::path(),
        conflicts_with = "cluster_dir"
    )]
    kubeconfig: Option<PathBuf>,
    /// Id of the config cluster, whose Istio objects are read
    #[arg(long, alias = "clusterID", env = "CLUSTER_ID", value_name = "NAME")]
    cluster_id: Option<ClusterId>,
    /// Other names that proxies may send for a cluster
    #[arg(
        long, alias = "clusterAliases", value_name = "ALIAS=CLUSTER",
        value_delimiter = ',', value_parser = values::alias
    )]
    pub(super) cluster_aliases: Vec<(ClusterId, ClusterId)>,
    /// System namespace of the mesh: remote Secrets, mesh ConfigMap, network label
    #[arg(
        short = 'n',
        long,
        aliases = ["clusterRegistriesNamespace", "cluster-registries-namespace"],
        env = "POD_NAMESPACE",
        default_value = "istio-system",
        value_name = "NAMESPACE"
    )]
    pub(super) namespace: String,
    /// Revision of this control plane
    #[arg(long, env = "REVISION", default_value = "default", value_name = "NAME")]
    pub(super) revision: String,
    /// DNS suffix of Kubernetes services
    #[arg(long, default_value = "cluster.local", value_name = "SUFFIX")]
    pub(super) domain: String,
    /// Mesh settings; where the file exists it wins over the ConfigMap
    #[arg(
        long, alias = "meshConfig", default_value = MESH_CONFIG,
        value_parser = values::path(), value_name = "FILE"
    )]
    mesh_config: PathBuf,
    /// Mesh networks; where the file exists it wins over the ConfigMap
    #[arg(
        long, alias = "networksConfig", default_value = NETWORKS_CONFIG,
        value_parser = values::path(), value_name = "FILE"
    )]
    networks_config: PathBuf,
    /// Folder of kubeconfigs of remote clusters, in place of Secrets
    #[arg(
        long,
        env = "PILOT_MULTICLUSTER_KUBECONFIG_PATH",
        value_parser = values::path(),
        value_name = "FOLDER"
    )]
    multicluster_kubeconfig_path: Option<PathBuf>,
    /// Parts of remote kubeconfigs that are allowed although unsafe: exec,
    /// clientKey, clientCertificate, tokenFile, or an auth provider's name
    #[arg(
        long,
        env = "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS",
        default_value = "",
        value_name = "NAME,…"
    )]
    insecure_kubeconfig_options: String,
    /// How long readiness waits for a remote cluster; 0 waits for ever
    #[arg(
        long, env = "PILOT_REMOTE_CLUSTER_TIMEOUT", default_value = "30s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    remote_cluster_timeout: Duration,
    /// Read remote Secrets from the cluster isthmus runs in (with EXTERNAL_ISTIOD)
    #[arg(
        long, env = "LOCAL_CLUSTER_SECRET_WATCHER", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    local_cluster_secret_watcher: bool,
    /// The control plane runs outside the clusters it serves
    #[arg(
        long, env = "EXTERNAL_ISTIOD", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    external_istiod: bool,
    /// API group of Multi-Cluster Services
    #[arg(
        long,
        env = "MCS_API_GROUP",
        default_value = "multicluster.x-k8s.io",
        value_name = "GROUP"
    )]
    pub(super) mcs_api_group: String,
    /// API version of Multi-Cluster Services
    #[arg(
        long,
        env = "MCS_API_VERSION",
        default_value = "v1alpha1",
        value_name = "VERSION"
    )]
    pub(super) mcs_api_version: String,
}

impl ClusterArgs {
    pub(super) fn source(&self) -> Result<Source, ConfigError> {
        if self.cluster_dir.is_empty() {
            return Ok(Source::Kube(Box::new(self.kube_source()?)));
        }
        let mut seen = BTreeSet::new();
        for (name, folder) in &self.cluster_dir {
            if !seen.insert(name) {
                return Err(ConfigError::DuplicateCluster(name.clone()));
            }
            folder_exists("--cluster-dir", folder)?;
        }
        Ok(Source::Files(self.cluster_dir.clone()))
    }

    fn kube_source(&self) -> Result<KubeSource, ConfigError> {
        let kubeconfig = given(self.kubeconfig.as_ref());
        if let Some(file) = kubeconfig {
            file_exists("--kubeconfig", file)?;
        }
        let folder = given(self.multicluster_kubeconfig_path.as_ref());
        if let Some(folder) = folder {
            folder_exists("--multicluster-kubeconfig-path", folder)?;
        }
        Ok(KubeSource {
            kubeconfig: kubeconfig.cloned(),
            remote_kubeconfigs: folder.cloned(),
            insecure_options: self.insecure_kubeconfig_options.clone(),
            // istiod: 0 turns the timeout off.
            remote_timeout: Some(self.remote_cluster_timeout).filter(|t| !t.is_zero()),
            external: self.external_istiod,
            local_secrets: self.external_istiod && self.local_cluster_secret_watcher,
        })
    }

    /// The config cluster's id: of folders it must name one, and a single
    /// folder is the one.
    pub(super) fn config_cluster(&self, source: &Source) -> Result<ClusterId, ConfigError> {
        let id = self.cluster_id.as_ref().filter(|id| !id.is_empty());
        let wanted = || id.cloned().unwrap_or_else(|| ClusterId::from("Kubernetes"));
        let Source::Files(folders) = source else {
            return Ok(wanted());
        };
        match (folders.as_slice(), id) {
            ([(only, _)], None) => Ok(only.clone()),
            (all, Some(id)) if all.iter().any(|(name, _)| name == id) => Ok(id.clone()),
            (all, _) => {
                let names: Vec<_> = all.iter().map(|(name, _)| &**name).collect();
                let wanted = wanted();
                Err(ConfigError::NoConfigCluster {
                    wanted,
                    given: names.join(", "),
                })
            }
        }
    }

    pub(super) fn mesh_config_file(&self) -> Result<SettingsPath, ConfigError> {
        SettingsPath::find("--mesh-config", &self.mesh_config, MESH_CONFIG)
    }

    pub(super) fn networks_config_file(&self) -> Result<SettingsPath, ConfigError> {
        SettingsPath::find("--networks-config", &self.networks_config, NETWORKS_CONFIG)
    }
}

/// A file of mesh-wide settings, which wins over the ConfigMap where it exists.
pub(super) struct SettingsPath {
    pub(super) file: Option<PathBuf>,
    /// It was asked for and is not there, as a sentence.
    pub(super) missing: Option<String>,
}

impl SettingsPath {
    /// istiod falls back to the ConfigMap without a word; here it is told,
    /// unless the path is the default one.
    fn find(flag: &'static str, path: &Path, default: &str) -> Result<Self, ConfigError> {
        let (file, missing) = (None, None);
        if path.as_os_str().is_empty() {
            return Ok(Self { file, missing });
        }
        if path.exists() {
            file_exists(flag, path)?;
            let file = Some(path.to_owned());
            return Ok(Self { file, missing });
        }
        let told = path != Path::new(default);
        let text = || {
            format!(
                "{flag} {} does not exist; the ConfigMap counts",
                path.display()
            )
        };
        let missing = told.then(text);
        Ok(Self { file, missing })
    }
}

/// An empty path is one that was not given.
fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn folder_exists(flag: &'static str, path: &Path) -> Result<(), ConfigError> {
    if path.is_dir() {
        return Ok(());
    }
    Err(ConfigError::Path {
        flag,
        path: path.to_owned(),
        problem: "is not a folder that can be read",
    })
}

fn file_exists(flag: &'static str, path: &Path) -> Result<(), ConfigError> {
    if path.is_file() {
        return Ok(());
    }
    Err(ConfigError::Path {
        flag,
        path: path.to_owned(),
        problem: "is not a file that can be read",
    })
}
