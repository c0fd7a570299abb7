//! Istio `Gateway`s: which ports a router opens, and for which hosts.

use std::sync::Arc;

use super::{Labels, ObjectMeta, Protocol};

/// An Istio `Gateway`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Workloads it applies to; empty means all of them.
    pub selector: Labels,
    /// Servers.
    pub servers: Vec<GatewayServer>,
}

/// One server of a `Gateway`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayServer {
    /// Port number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Port name.
    pub name: Arc<str>,
    /// `name` of the server itself: the prefix of its statistics.
    pub stat_prefix: Arc<str>,
    /// `bind`; empty for all addresses.
    pub bind: Arc<str>,
    /// `[namespace/]host` patterns, as written.
    pub hosts: Vec<Arc<str>>,
    /// TLS settings; none for plain text.
    pub tls: Option<ServerTls>,
}

/// TLS settings of a `Gateway` server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerTls {
    /// Who ends TLS, and where the certificate comes from.
    pub mode: ServerTlsMode,
    /// `httpsRedirect`: plain requests are told to come back with HTTPS.
    pub https_redirect: bool,
    /// Path of the certificate chain in the proxy's file system.
    pub certificate: Arc<str>,
    /// Path of its key.
    pub private_key: Arc<str>,
    /// Path of the roots that client certificates are checked with.
    pub roots: Arc<str>,
    /// Path of the revocation list for client certificates.
    pub revoked: Arc<str>,
    /// `credentialName` or `credentialNames`: Secrets.
    pub credentials: Vec<Arc<str>>,
    /// Names of which a client certificate must have one; none for any.
    pub client_names: Vec<Arc<str>>,
    /// Oldest version; none for Envoy's default.
    pub min_version: Option<TlsVersion>,
    /// Newest version; none for Envoy's default.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites; none for Envoy's default.
    pub cipher_suites: Vec<Arc<str>>,
}

/// TLS mode of a `Gateway` server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerTlsMode {
    /// SNI to a `VirtualService.tls` route. Protobuf's zero value.
    #[default]
    Passthrough,
    /// One-way TLS.
    Simple,
    /// Mutual TLS.
    Mutual,
    /// SNI names an `outbound_.` cluster.
    AutoPassthrough,
    /// Mesh mTLS.
    IstioMutual,
    /// Mutual, certificate not required.
    OptionalMutual,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// 1.0.
    V1_0,
    /// 1.1.
    V1_1,
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

impl GatewayServer {
    /// Whether TLS goes through to the workload as it comes.
    pub fn is_passthrough(&self) -> bool {
        use ServerTlsMode::{AutoPassthrough, Passthrough};
        let mode = self.tls.as_ref().map(|tls| tls.mode);
        matches!(mode, Some(Passthrough | AutoPassthrough))
    }

    /// Whether it speaks HTTP behind TLS that ends here.
    pub fn is_https(&self) -> bool {
        self.protocol == Protocol::Https && self.tls.is_some() && !self.is_passthrough()
    }

    /// Whether it forwards by SNI to `outbound_.` clusters.
    pub fn is_auto_passthrough(&self) -> bool {
        let mode = self.tls.as_ref().map(|tls| tls.mode);
        mode == Some(ServerTlsMode::AutoPassthrough)
    }
}
