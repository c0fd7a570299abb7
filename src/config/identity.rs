//! What the certificate authority and the serving certificate are made of.

use std::{path::PathBuf, time::Duration};

/// The certificate authority and the serving certificate.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Workload certificates are signed.
    pub ca_server: bool,
    /// Folder of a plugged-in authority.
    pub root_ca_dir: Option<PathBuf>,
    /// Folder that keeps a self-signed root where there is no Kubernetes.
    pub ca_state_dir: Option<PathBuf>,
    /// Life of certificates that ask for none.
    pub default_lifetime: Duration,
    /// The longest life that may be asked for.
    pub max_lifetime: Duration,
    /// Life of a self-signed root.
    pub self_signed_lifetime: Duration,
    /// Bits of its key.
    pub self_signed_rsa_bits: u32,
    /// A self-signed root is kept in Secret `cacerts`, not `istio-ca-secret`.
    pub use_cacerts: bool,
    /// Who issues the serving certificate.
    pub cert_provider: CertProvider,
    /// More names in it, comma separated.
    pub custom_hosts: String,
    /// A serving certificate in files, which wins.
    pub tls_files: Option<TlsFiles>,
}

/// Who issues the serving certificate (`PILOT_CERT_PROVIDER`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertProvider {
    /// The own authority.
    Istiod,
    /// Nobody: there is no TLS listener.
    None,
    /// One that isthmus does not have.
    Other(String),
}

/// Files of a serving certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The roots that clients verify it against.
    pub roots: PathBuf,
}
