//! The serving certificate: issued by our own authority, or read from files.

use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PublicKeyData, SanType};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::identity::{
    CertificateAuthority, IssueError, TrustBundle, TrustBundleError, Unable, Validity,
    certificate::{Facts, certificates, names},
    issue::{Subject, sign},
};

/// A certificate with its key, and the roots that clients verify it against.
#[derive(Clone)]
pub struct ServingCertificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) roots: Arc<TrustBundle>,
    validity: Validity,
    name: String,
}

/// Why there is no serving certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServingError {
    /// The authority does not sign.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No certificate.
    #[error("the certificate file holds no certificate that can be read")]
    Certificate,
    /// No key.
    #[error(
        "the key file holds no private key that can be read (PKCS#8, PKCS#1 or SEC1, not encrypted)"
    )]
    Key,
    /// The key of another certificate.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// No roots.
    #[error("the CA certificate file: {0}")]
    Roots(#[from] TrustBundleError),
}

impl ServingCertificate {
    /// Has the authority issue one for these host names and addresses, with a
    /// new P-256 key.
    pub fn issue(
        authority: &CertificateAuthority,
        names: &BTreeSet<String>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, ServingError> {
        let ca = authority.current();
        let ca = ca.ok_or(IssueError::Internal(Unable::NotReady))?;
        let key = KeyPair::generate().map_err(IssueError::from)?;
        let subject = Subject {
            names: names.iter().filter_map(|name| san(name)).collect(),
            common_name: None,
        };
        let mut chain = sign(&ca, &key, subject, (now, lifetime))?;
        for next in ca.intermediates() {
            chain.push_str(next);
        }
        let bundle = Arc::clone(ca.trust_bundle());
        Self::new(chain.as_bytes(), &key.serialize_der(), bundle)
    }

    /// Reads one from files in PEM.
    pub fn from_pem(certificate: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, ServingError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| ServingError::Key)?;
        let roots = Arc::new(TrustBundle::from_pem(roots)?);
        Self::new(certificate, key.secret_der(), roots)
    }

    fn new(chain: &[u8], key: &[u8], roots: Arc<TrustBundle>) -> Result<Self, ServingError> {
        let chain = certificates(chain).map_err(|_| ServingError::Certificate)?;
        let first = chain.first().ok_or(ServingError::Certificate)?;
        let facts = Facts::of(first).ok_or(ServingError::Certificate)?;
        let der = PrivateKeyDer::try_from(key).map_err(|_| ServingError::Key)?;
        let public = KeyPair::try_from(&der).map_err(|_| ServingError::Key)?;
        if public.der_bytes() != facts.public_key {
            return Err(ServingError::OtherKey);
        }
        let key = any_supported_type(&der).map_err(|_| ServingError::Key)?;
        Ok(Self {
            name: names(first),
            key: Arc::new(CertifiedKey::new(chain, key)),
            roots,
            validity: facts.validity,
        })
    }

    /// When it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The certificate and its chain.
    pub(super) fn chain(&self) -> &Vec<CertificateDer<'static>> {
        &self.key.cert
    }

    /// The names in it, for logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The roots that clients verify it against.
    pub fn roots(&self) -> &Arc<TrustBundle> {
        &self.roots
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ServingCertificate");
        debug.field("name", &self.name);
        debug
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// A name that cannot stand in a certificate is left out; the others count.
fn san(name: &str) -> Option<SanType> {
    match name.parse::<IpAddr>() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => Some(SanType::DnsName(name.try_into().ok()?)),
    }
}

/// Names under which proxies reach the control plane (istiod: `getDNSNames`).
pub fn serving_names(
    namespace: &str,
    revision: &str,
    discovery_host: &str,
    custom_hosts: &str,
) -> BTreeSet<String> {
    let mut services = vec!["istiod", "istiod-remote", "istio-pilot"];
    let of_revision = format!("istiod-{revision}");
    if !matches!(revision, "" | "default") {
        services.push(&of_revision);
    }
    let services = services
        .iter()
        .map(|name| format!("{name}.{namespace}.svc"));
    let custom = custom_hosts.split(',').chain([discovery_host]);
    let custom = custom.map(str::trim).filter(|host| !host.is_empty());
    services.chain(custom.map(str::to_owned)).collect()
}
