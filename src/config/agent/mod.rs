//! What `isthmus agent` was told: flags, pilot-agent's environment names, the
//! `ProxyConfig` and the files of the pod.

mod args;
mod metadata;
mod pod_info;
mod proxy_config;
mod upstream;

#[cfg(test)]
pub(super) mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

pub use args::AgentArgs;
pub use upstream::{Roots, ServerCheck, Upstream};

use super::LogLevels;
use crate::model::{Locality, NodeKind, SpiffeId};

/// Everything `isthmus agent` was told, checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentConfig {
    /// Who the proxy is.
    pub node: ProxyNode,
    /// Where Envoy gets its configuration from.
    pub discovery: Upstream,
    /// Headers of every request to the control plane.
    pub discovery_headers: Headers,
    /// Where certificates come from.
    pub certificates: CertificateSource,
    /// How Envoy is run.
    pub envoy: EnvoyConfig,
    /// How the proxy ends.
    pub drain: DrainConfig,
    /// The DNS server, where it is wanted.
    pub dns: Option<DnsConfig>,
    /// Log output.
    pub log: LogLevels,
    /// Logs as JSON.
    pub log_as_json: bool,
    /// What was given and has no effect here, a sentence each.
    pub unused: Vec<String>,
}

/// Who the proxy is.
#[derive(Debug, Clone)]
pub struct ProxyNode {
    /// Sidecar or router.
    pub kind: NodeKind,
    /// Pod name.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// DNS domain: `NAMESPACE.svc.cluster.local`.
    pub domain: String,
    /// Addresses, the main one first; never empty.
    pub ips: Vec<IpAddr>,
    /// `Node.cluster`: names the workload in logs and traces.
    pub service_cluster: String,
    /// Node metadata.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Region, zone and subzone.
    pub locality: Locality,
    /// The identity that the certificate is asked for.
    pub identity: SpiffeId,
    /// Its Kubernetes cluster; empty when unknown.
    pub cluster_id: String,
}

impl ProxyNode {
    /// `type~ip~name.namespace~domain`.
    pub fn id(&self) -> String {
        let kind = match self.kind {
            NodeKind::Sidecar => "sidecar",
            NodeKind::Router => "router",
        };
        let ip = self.ips.first().map(IpAddr::to_string).unwrap_or_default();
        let Self {
            name,
            namespace,
            domain,
            ..
        } = self;
        format!("{kind}~{ip}~{name}.{namespace}~{domain}")
    }
}

/// Where the certificate of the workload comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// A certificate authority signs it.
    Authority(Box<Authority>),
    /// Files that somebody else keeps current.
    Files(CertificateFiles),
}

/// Headers of requests. A value may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its intermediates.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that peers are trusted by.
    pub roots: PathBuf,
}

impl CertificateFiles {
    /// The three files as pilot-agent names them in a folder.
    pub fn in_folder(folder: &std::path::Path) -> Self {
        Self {
            chain: folder.join("cert-chain.pem"),
            key: folder.join("key.pem"),
            roots: folder.join("root-cert.pem"),
        }
    }
}

/// How certificates are asked for.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The certificate service.
    pub upstream: Upstream,
    /// Headers of every request.
    pub headers: Headers,
    /// The token that says who asks; read again for every request.
    pub token: PathBuf,
    /// A certificate that says who asks (`PROV_CERT`).
    pub client: Option<CertificateFiles>,
    /// The life that is asked for.
    pub lifetime: Duration,
    /// The part of the life before whose end a certificate is renewed.
    pub grace_ratio: f64,
    /// How much that part may vary, so that a mesh does not renew at once.
    pub grace_jitter: f64,
    /// The kind of key.
    pub key: KeyKind,
    /// Folder that key and certificate are also written to.
    pub output: Option<PathBuf>,
    /// How long an answer may take.
    pub answer_timeout: Duration,
    /// `CertSigner` of the request.
    pub signer: String,
}

/// Kinds of private keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with this many bits.
    Rsa(u16),
}

/// How Envoy is run.
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    /// The binary.
    pub binary: PathBuf,
    /// Folder of the bootstrap and of the agent's socket.
    pub folder: PathBuf,
    /// Port of the admin interface, on loopback.
    pub admin_port: u16,
    /// Port of the agent's own pages; none where it is 0.
    pub status_port: u16,
    /// Port of Envoy's readiness listener.
    pub ready_port: u16,
    /// Port of Envoy's metrics listener.
    pub prometheus_port: u16,
    /// Worker threads; Envoy's own choice (one per core) without it.
    pub concurrency: Option<u32>,
    /// Log level.
    pub log_level: String,
    /// Log levels of components.
    pub component_log_level: String,
    /// Where ejections are logged.
    pub outlier_log: Option<PathBuf>,
    /// Statistics that are kept beside the ones the agent needs.
    pub stats: StatsSelection,
    /// Runtime values.
    pub runtime: BTreeMap<String, String>,
}

/// Names of statistics that Envoy keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSelection {
    /// Starts of names.
    pub prefixes: Vec<String>,
    /// Ends of names.
    pub suffixes: Vec<String>,
    /// Regular expressions.
    pub regexps: Vec<String>,
}

/// How the proxy ends.
#[derive(Debug, Clone)]
pub struct DrainConfig {
    /// Over what time Envoy asks its clients to go.
    pub duration: Duration,
    /// How long the agent waits for that when it is told to end.
    pub termination: Duration,
    /// Wait for the last connection in place of `termination`.
    pub until_idle: bool,
    /// The least wait before connections are counted.
    pub minimum: Duration,
}

/// The DNS server.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// `host:port` that it listens on, UDP and TCP.
    pub address: String,
    /// Where the names of other servers are, and the search domains.
    pub resolv_conf: PathBuf,
    /// How long another server may take.
    pub forward_timeout: Duration,
}

/// Why the settings make no proxy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentConfigError {
    /// No role, or one that does not exist.
    #[error("{0:?} is no role: say `isthmus agent sidecar` or `isthmus agent router`")]
    Role(String),
    /// Neither the certificate nor the node can do without it.
    #[error("{name} is not set: give {flag} or set the variable {name}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// A value does not parse.
    #[error("{name}: {value:?} is not {expected}")]
    Value {
        /// Where it was given.
        name: String,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The proxy configuration does not parse.
    #[error("{origin} is no ProxyConfig: {problem}")]
    ProxyConfig {
        /// Where it was given.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to trust the control plane by.
    #[error(
        "no root certificate to check {server} with: {looked} is missing; set {variable} to a file, or to SYSTEM"
    )]
    NoRoots {
        /// The server.
        server: String,
        /// Where one was looked for.
        looked: PathBuf,
        /// The variable that names one.
        variable: &'static str,
    },
}

/// An error about one value.
fn wrong(name: &str, value: &str, expected: &'static str) -> AgentConfigError {
    AgentConfigError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    }
}
