//! TLS of the control plane itself: the certificate that it serves with, and
//! how client certificates are verified.
//!
//! [`ServerTls::config`] is a new value after every change. A stream that is
//! open keeps the one it was accepted with, so a rotation drops nothing.

mod certificate;
mod peer;
mod renewal;
mod verifier;

use std::{collections::BTreeSet, fmt, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

pub use certificate::{ServingCertificate, ServingError, serving_names};
pub use peer::peer_identities;
pub use renewal::{ServingFiles, serve_files, serve_issued};
pub use verifier::{PeerRefusal, Refusals};

use self::verifier::PeerVerifier;
use super::TrustBundle;

/// The protocol that is served.
const HTTP2: &[u8] = b"h2";

/// The current TLS configuration of the control plane. Clones are handles on
/// one configuration.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: Mutex<Inputs>,
    config: ArcSwap<ServerConfig>,
    published: watch::Sender<Arc<str>>,
    refusals: Refusals,
}

/// All that a configuration is made of.
#[derive(Clone, Default)]
struct Inputs {
    certificate: Option<Arc<CertifiedKey>>,
    client_roots: Option<Arc<TrustBundle>>,
    trust_domains: BTreeSet<Arc<str>>,
}

impl Inputs {
    fn is_same(&self, other: &Self) -> bool {
        let chain = |inputs: &Self| inputs.certificate.as_ref().map(|key| key.cert.clone());
        chain(self) == chain(other)
            && self.client_roots == other.client_roots
            && self.trust_domains == other.trust_domains
    }
}

impl ServerTls {
    /// A configuration that has no certificate yet, so that handshakes fail,
    /// and trusts nobody.
    pub fn new(refusals: Refusals) -> Self {
        let inputs = Inputs::default();
        Self {
            shared: Arc::new(Shared {
                config: ArcSwap::from_pointee(config(&inputs, &refusals)),
                inputs: Mutex::new(inputs),
                published: watch::Sender::new(Arc::from("")),
                refusals,
            }),
        }
    }

    /// What the next connection is to be accepted with. Ask for each one.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.shared.config.load_full()
    }

    /// Whether there is a certificate to serve with.
    pub fn has_certificate(&self) -> bool {
        self.shared.inputs.lock().certificate.is_some()
    }

    /// The roots that clients verify this server against, in PEM: what proxies
    /// are to be given. Empty before the first certificate.
    pub fn published_roots(&self) -> watch::Receiver<Arc<str>> {
        self.shared.published.subscribe()
    }

    /// Serves with another certificate from now on.
    pub fn set_certificate(&self, certificate: ServingCertificate) {
        let ServingCertificate { key, roots, .. } = certificate;
        self.change(|inputs| inputs.certificate = Some(key));
        self.shared.published.send_if_modified(|published| {
            let changed = **published != *roots.pem();
            *published = Arc::from(roots.pem());
            changed
        });
    }

    /// Verifies client certificates against these roots from now on.
    pub fn set_client_roots(&self, roots: Arc<TrustBundle>) {
        self.change(|inputs| inputs.client_roots = Some(roots));
    }

    /// Takes client certificates of these trust domains only. A root may be
    /// shared by meshes whose service accounts have the same names.
    pub fn set_trust_domains(&self, domains: BTreeSet<Arc<str>>) {
        self.change(|inputs| inputs.trust_domains = domains);
    }

    fn change(&self, change: impl FnOnce(&mut Inputs)) {
        let mut inputs = self.shared.inputs.lock();
        let before = inputs.clone();
        change(&mut inputs);
        if inputs.is_same(&before) {
            return;
        }
        // Stored under the lock, or of two changes the older could win.
        let config = config(&inputs, &self.shared.refusals);
        self.shared.config.store(Arc::new(config));
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ServerTls");
        let debug = debug.field("has_certificate", &self.has_certificate());
        debug.finish_non_exhaustive()
    }
}

/// rustls has TLS 1.2 and 1.3 only.
fn config(inputs: &Inputs, refusals: &Refusals) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = PeerVerifier::new(inputs, refusals.clone(), &provider);
    let certificate = Certificate(inputs.certificate.clone());
    let mut config = server_config(provider)
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed session would bring a client certificate that is not verified
    // again: it may have ended, or its root may be gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

fn server_config(
    provider: Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(provider);
    // It fails only for a provider without cipher suites of these versions.
    builder
        .with_protocol_versions(&versions)
        .unwrap_or_else(|_| ServerConfig::builder())
}

/// One certificate for every client, whatever name it asks for (istiod:
/// `getIstiodCertificate`).
#[derive(Debug)]
struct Certificate(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests;
