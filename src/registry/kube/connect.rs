//! From a kubeconfig to a client.

use std::{io, path::Path};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tracing::info;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The file given by `--kubeconfig` is of no use.
    #[error("the kubeconfig {path} cannot be used: {problem}")]
    File {
        /// Path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No `--kubeconfig`, and not inside a cluster.
    #[error(
        "no API server to connect to: give --kubeconfig, or run inside a cluster ({0}); \
         without Kubernetes use --cluster-dir"
    )]
    Nowhere(String),
    /// A kubeconfig that cannot be used.
    #[error("{0}")]
    Kubeconfig(String),
    /// TLS files, authentication or proxy settings that kube refuses.
    #[error("no client can be made of it: {0}")]
    Client(Box<kube::Error>),
}

impl From<KubeconfigError> for ConnectError {
    fn from(error: KubeconfigError) -> Self {
        Self::Kubeconfig(problem(&error))
    }
}

/// The client of the config cluster: the file given, else `$KUBECONFIG` or
/// `~/.kube/config`, else the service account of the pod.
///
/// istiod's client limits (QPS, burst) have no counterpart: a watch asks once.
pub(crate) async fn own_client(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => infer().await?,
    };
    info!(server = %config.cluster_url, "API server of the config cluster");
    client(config)
}

/// Whether a client of the config cluster can be made; nothing is asked of it.
pub async fn check_client(kubeconfig: Option<&Path>) -> Result<(), ConnectError> {
    own_client(kubeconfig).await.map(drop)
}

/// The client for the cluster that this process runs in.
pub(crate) fn in_cluster_client() -> Result<Client, ConnectError> {
    let config = Config::incluster().map_err(|error| ConnectError::Nowhere(error.to_string()))?;
    client(config)
}

/// A kubeconfig that is there but wrong is an error, as for kubectl; kube's own
/// `infer` would go on to the pod's credentials.
async fn infer() -> Result<Config, ConnectError> {
    let error = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    match &error {
        KubeconfigError::FindPath => {}
        KubeconfigError::ReadConfig(read, _) if read.kind() == io::ErrorKind::NotFound => {}
        _ => {
            return Err(ConnectError::File {
                path: "of $KUBECONFIG or ~/.kube/config".to_owned(),
                problem: problem(&error),
            });
        }
    }
    Config::incluster().map_err(|inside| {
        let outside = problem(&error);
        ConnectError::Nowhere(format!("{outside}; {inside}"))
    })
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let refuse = |error| ConnectError::File {
        path: path.display().to_string(),
        problem: problem(&error),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(refuse)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(refuse)
}

/// The parser quotes the line, and with it a credential: only the place is told.
fn problem(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(parse) => match parse.location() {
            Some(at) => format!("it is not YAML of kind Config (line {})", at.line()),
            None => "it is not YAML of kind Config".to_owned(),
        },
        KubeconfigError::ReadConfig(error, path) => {
            format!("cannot read {}: {error}", path.display())
        }
        other => other.to_string(),
    }
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
