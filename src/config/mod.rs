//! One validated [`Config`] from flags and istiod-named environment, made at
//! start and passed down. No other module reads either.

mod agent;
mod args;
mod identity;
mod listen;
mod log_levels;
mod values;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

#[cfg(test)]
pub(crate) use agent::tests::read as agent_config;
pub use agent::{
    AgentArgs, AgentConfig, AgentConfigError, Authority, CertificateFiles, CertificateSource,
    DnsConfig, DrainConfig, EnvoyConfig, Headers, KeyKind, ProxyNode, Roots, ServerCheck,
    StatsSelection, Upstream,
};
pub use args::DiscoveryArgs;
pub use identity::{CertProvider, Identity, TlsFiles};
pub use listen::{ListenAddress, ListenError};
pub use log_levels::LogLevels;

use ipnet::IpNet;

use crate::model::{ClusterId, Features, Namespace};

/// Everything `isthmus discovery` was told, checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where clusters come from.
    pub source: Source,
    /// Id of the config cluster.
    pub cluster_id: ClusterId,
    /// Names that proxies may use for a cluster: alias → id.
    pub cluster_aliases: BTreeMap<ClusterId, ClusterId>,
    /// System namespace of the mesh.
    pub namespace: Namespace,
    /// Revision: the mesh `ConfigMap` is `istio`, or `istio-REVISION`.
    pub revision: String,
    /// File that wins over the `ConfigMap`'s mesh settings.
    pub mesh_config: Option<PathBuf>,
    /// File that wins over the `ConfigMap`'s networks.
    pub networks_config: Option<PathBuf>,
    /// Certificate authority and serving certificate.
    pub identity: Identity,
    /// Addresses.
    pub listen: Listen,
    /// What is written to clusters.
    pub controllers: Controllers,
    /// Limits and keepalive of streams.
    pub streams: Streams,
    /// Who may call.
    pub auth: Auth,
    /// Least time between two publishes.
    pub debounce: Duration,
    /// API group and version of Multi-Cluster Services.
    pub mcs: (Arc<str>, Arc<str>),
    /// Switches that change answers.
    pub features: Features,
    /// Log output.
    pub log: LogLevels,
    /// Logs as JSON.
    pub log_as_json: bool,
    /// How long streams may go on after a stop was asked for.
    pub shutdown: Duration,
    /// Settings files that were asked for and are not there, a sentence each.
    pub missing: Vec<String>,
    /// Flags and variables of istiod's that were given and have no effect here.
    pub unused: Vec<String>,
}

/// Where clusters come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Folders of manifests.
    Files(Vec<(ClusterId, PathBuf)>),
    /// API servers.
    Kube(Box<KubeSource>),
}

/// How API servers are found and read.
#[derive(Debug, Clone)]
pub struct KubeSource {
    /// Kubeconfig of the config cluster; the pod's own credentials without it.
    pub kubeconfig: Option<PathBuf>,
    /// Folder of kubeconfigs of remote clusters, in place of Secrets.
    pub remote_kubeconfigs: Option<PathBuf>,
    /// Kubeconfig parts that are refused unless listed here, comma separated.
    pub insecure_options: String,
    /// How long readiness waits for a remote cluster; none waits for ever.
    pub remote_timeout: Option<Duration>,
    /// Remote Secrets are read from the cluster isthmus runs in.
    pub local_secrets: bool,
    /// The control plane runs outside the clusters it serves: remote ones may
    /// name it as theirs.
    pub external: bool,
}

/// What is written to clusters, and who of several replicas does.
#[derive(Debug, Clone)]
pub struct Controllers {
    /// Name of this process in locks; empty where none was given.
    pub identity: String,
    /// Of several replicas one writes.
    pub elects: bool,
    /// How long a leader that says nothing stays the leader.
    pub lease: Duration,
    /// `ConfigMap` of the root certificate.
    pub root_cert_map: String,
}

/// Listening addresses; none where the flag is empty.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Readiness, metrics and version.
    pub http: Option<ListenAddress>,
    /// Plain-text ADS; there is this one, the next, or both.
    pub grpc: Option<ListenAddress>,
    /// ADS and certificates over TLS.
    pub secure: Option<ListenAddress>,
    /// The same pages as `http`, on the port where istiod has its metrics.
    pub monitoring: Option<ListenAddress>,
}

/// Who may call, and how they show who they are.
#[derive(Debug, Clone)]
pub struct Auth {
    /// An OIDC issuer to trust, as JSON (`JWT_RULE`).
    pub jwt_rule: Option<String>,
    /// Audiences of tokens that are accepted.
    pub audiences: Vec<String>,
    /// Gateways whose word on certificates is believed.
    pub trusted_gateways: Vec<IpNet>,
    /// Callers of ADS over TLS must show who they are.
    pub ads: bool,
    /// Those in plain text too.
    pub plaintext: bool,
    /// A proxy may only be who its caller is.
    pub identity_check: bool,
}

/// Limits of streams.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Quiet time after which a connection is pinged.
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is asked to reconnect.
    pub max_age: Option<Duration>,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
    /// New streams per second; none is any number.
    pub max_new_per_second: Option<f64>,
    /// Concurrent streams of one connection.
    pub max_concurrent: u32,
    /// Streams that one proxy may open at once; none is any number.
    pub reconnect_burst: Option<u32>,
    /// Bytes that streams may hold of requests and responses.
    pub max_held_bytes: usize,
    /// Time after which a stream ends whose client takes nothing.
    pub send_timeout: Option<Duration>,
}

/// Why the flags and variables make no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two folders have one cluster name.
    #[error("--cluster-dir names cluster {0:?} twice; give each cluster one folder")]
    DuplicateCluster(ClusterId),
    /// No folder is the config cluster's.
    #[error(
        "no --cluster-dir is named {wanted:?}: set --cluster-id to one of {given}, whose Istio objects are then read"
    )]
    NoConfigCluster {
        /// The config cluster's id.
        wanted: ClusterId,
        /// The names given.
        given: String,
    },
    /// A path is missing.
    #[error("{flag}: {path:?} {problem}")]
    Path {
        /// The flag.
        flag: &'static str,
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No address for ADS.
    #[error("--grpc-addr and --secure-grpc-addr are empty; give one of them an address")]
    NoAds,
    /// An address does not parse or resolve.
    #[error("{flag}: {problem}")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        problem: ListenError,
    },
}
