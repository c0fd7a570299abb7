//! From a kubeconfig to a client.

use std::path::Path;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The file given by `--kubeconfig` is of no use.
    #[error("the kubeconfig {path} cannot be used: {error}")]
    File {
        /// Path.
        path: String,
        /// What is wrong with it.
        error: Box<KubeconfigError>,
    },
    /// No `--kubeconfig`, and not inside a cluster.
    #[error(
        "no API server to connect to: give --kubeconfig, or run inside a cluster ({0}); \
         without Kubernetes use --cluster-dir"
    )]
    Nowhere(Box<dyn std::error::Error + Send + Sync>),
    /// A kubeconfig that cannot be used.
    #[error("{0}")]
    Kubeconfig(Box<KubeconfigError>),
    /// TLS files, authentication or proxy settings that kube refuses.
    #[error("no client can be made of it: {0}")]
    Client(Box<kube::Error>),
}

impl From<KubeconfigError> for ConnectError {
    fn from(error: KubeconfigError) -> Self {
        Self::Kubeconfig(Box::new(error))
    }
}

/// The client of the config cluster: the file given, else `$KUBECONFIG` or
/// `~/.kube/config`, else the service account of the pod.
///
/// istiod's client limits (QPS, burst) have no counterpart: a watch asks once.
pub(crate) async fn own_client(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::infer()
            .await
            .map_err(|error| ConnectError::Nowhere(Box::new(error)))?,
    };
    client(config)
}

/// Whether a client of the config cluster can be made; nothing is asked of it.
pub async fn check_client(kubeconfig: Option<&Path>) -> Result<(), ConnectError> {
    own_client(kubeconfig).await.map(drop)
}

/// The client for the cluster that this process runs in.
pub(crate) fn in_cluster_client() -> Result<Client, ConnectError> {
    let config = Config::incluster().map_err(|error| ConnectError::Nowhere(Box::new(error)))?;
    client(config)
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let refuse = |error| ConnectError::File {
        path: path.display().to_string(),
        error: Box::new(error),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(refuse)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(refuse)
}

/// The client for a kubeconfig that has been checked.
pub(crate) async fn client_for(kubeconfig: Kubeconfig) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions::default();
    client(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

fn client(mut config: Config) -> Result<Client, ConnectError> {
    // One policy for pauses, and it is ours (`super::backoff`).
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
}
