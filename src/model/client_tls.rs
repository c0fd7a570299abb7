//! TLS to a host, as a `DestinationRule` asks for it.

use std::sync::Arc;

/// `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsSetting {
    /// Plain text.
    #[default]
    Disable,
    /// TLS with the user's settings.
    Simple,
    /// Mutual TLS with the user's certificates.
    Mutual,
    /// Mesh mTLS.
    IstioMutual,
}

/// `tls` of a traffic policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClientTls {
    /// Mode.
    pub mode: TlsSetting,
    /// Server name; empty for the usual one.
    pub sni: Arc<str>,
    /// Names that the server's certificate may have; empty for the usual ones.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Path of the client certificate.
    pub client_certificate: Arc<str>,
    /// Path of its private key.
    pub private_key: Arc<str>,
    /// Path of the roots; empty or `system` for those of the system.
    pub ca_certificates: Arc<str>,
    /// Path of a revocation list.
    pub ca_crl: Arc<str>,
    /// Name of a secret, instead of paths.
    pub credential_name: Arc<str>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

impl From<TlsSetting> for ClientTls {
    fn from(mode: TlsSetting) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}
