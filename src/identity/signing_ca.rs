//! The signing certificate with its key, what it rests on, and the roots.

use std::{fmt, sync::Arc, time::SystemTime};

use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls::{
    CertificateError, Error as TlsError,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{
    TrustBundle, TrustBundleError, Validity,
    certificate::{Facts, certificates, pem, seconds},
};

/// Parts of a certificate authority as they lie in a folder or a Secret, with
/// what errors call them.
#[derive(Clone, PartialEq, Eq)]
pub struct CaPems {
    /// The key of the signing certificate.
    pub key: Vec<u8>,
    /// The signing certificate.
    pub certificate: Vec<u8>,
    /// What it rests on, up to a root or not; may be empty.
    pub chain: Vec<u8>,
    /// The roots.
    pub roots: Vec<u8>,
    /// Names of the four, in this order.
    pub names: [&'static str; 4],
}

impl CaPems {
    /// istiod's names of the parts.
    pub const NAMES: [&str; 4] = [
        "ca-key.pem",
        "ca-cert.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ];

    /// A root that signs by itself.
    pub fn self_signed(key: impl Into<Vec<u8>>, root: impl Into<Vec<u8>>) -> Self {
        let root = root.into();
        Self {
            key: key.into(),
            certificate: root.clone(),
            chain: Vec::new(),
            roots: root,
            names: Self::NAMES,
        }
    }
}

impl fmt::Debug for CaPems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaPems").finish_non_exhaustive()
    }
}

/// Why parts are no certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// No key.
    #[error("{0} holds no private key that can be read (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Key(&'static str),
    /// No certificate.
    #[error("{0} holds no certificate that can be read")]
    Certificate(&'static str),
    /// No roots.
    #[error("{0}: {1}")]
    Roots(&'static str, TrustBundleError),
    /// The key is that of another certificate.
    #[error("{key} is not the key of {certificate}")]
    OtherKey {
        /// The key.
        key: &'static str,
        /// The certificate.
        certificate: &'static str,
    },
    /// Not a certificate authority's.
    #[error(
        "{name} ({subject}) may not sign certificates: basicConstraints CA or keyUsage keyCertSign is missing"
    )]
    NotACa {
        /// Where it lies.
        name: &'static str,
        /// Whose it is.
        subject: String,
    },
    /// It leads nowhere.
    #[error("{name} ({subject}) does not lead to a root of {roots}: {problem}")]
    NoPath {
        /// Where it lies.
        name: &'static str,
        /// Whose it is.
        subject: String,
        /// Where the roots lie.
        roots: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// rcgen cannot write it as an issuer.
    #[error(
        "the subject of {name} ({subject}) cannot be written into certificates: give it \
         one value per attribute"
    )]
    Subject {
        /// Where it lies.
        name: &'static str,
        /// Whose it is.
        subject: String,
    },
}

/// A signing certificate that was checked: its key fits, it may sign, and it
/// leads to a root.
pub struct SigningCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    facts: Facts,
    intermediates: Vec<String>,
    bundle: Arc<TrustBundle>,
    validity: Validity,
}

impl SigningCa {
    /// Checks the parts and puts them together. Certificates that have ended or
    /// have not begun are no error: the clock may be wrong, and a control plane
    /// that does not start helps nobody. They are told by [`Self::validity`],
    /// and nothing is signed with them.
    pub fn from_pem(parts: &CaPems, now: SystemTime) -> Result<Self, CaError> {
        let [key_name, name, chain_name, roots_name] = parts.names;
        let key = PrivateKeyDer::from_pem_slice(&parts.key).ok();
        let key = key.and_then(|der| KeyPair::try_from(&der).ok());
        let key = key.ok_or(CaError::Key(key_name))?;
        let own = certificates(&parts.certificate).map_err(|_| CaError::Certificate(name))?;
        let mut own = own.into_iter();
        let certificate = own.next().ok_or(CaError::Certificate(name))?;
        let facts = Facts::of(&certificate).ok_or(CaError::Certificate(name))?;
        let chain = certificates(&parts.chain).map_err(|_| CaError::Certificate(chain_name))?;
        let bundle = TrustBundle::from_pem(&parts.roots)
            .map_err(|problem| CaError::Roots(roots_name, problem))?;
        if facts.public_key != key.der_bytes() {
            let (key, certificate) = (key_name, name);
            return Err(CaError::OtherKey { key, certificate });
        }
        let subject = facts.name.clone();
        if !facts.is_ca {
            return Err(CaError::NotACa { name, subject });
        }
        // A file with the certificate may hold what it rests on behind it.
        let rest = own.chain(chain).filter(|other| *other != certificate);
        let intermediates = intermediates(&certificate, rest, &bundle);
        let path = path(&facts, &intermediates, &bundle);
        let validity = path.iter().fold(facts.validity, |all, next| all.and(*next));
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| CaError::Subject {
            name,
            subject: subject.clone(),
        })?;
        let ca = Self {
            issuer,
            intermediates: intermediates.iter().map(pem).collect(),
            certificate,
            bundle: Arc::new(bundle),
            validity,
            facts,
        };
        ca.prove(parts, &intermediates, now)?;
        Ok(ca)
    }

    /// Signs a certificate for nobody and verifies it as a peer would. This
    /// finds what the parts alone do not tell: signatures of the chain, key
    /// usages, name constraints, and whether the issuer's name was written as
    /// it stands in the certificate.
    fn prove(
        &self,
        parts: &CaPems,
        intermediates: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<(), CaError> {
        let [_, name, _, roots] = parts.names;
        let subject = self.facts.name.clone();
        let no_path = |problem: String| CaError::NoPath {
            name,
            subject: subject.clone(),
            roots,
            problem,
        };
        let leaf = CertificateParams::default();
        let made = KeyPair::generate().and_then(|key| leaf.signed_by(&key, &self.issuer));
        let made = made.map_err(|error| no_path(error.to_string()))?;
        let written = Facts::of(made.der()).map(|leaf| leaf.issuer);
        if written.as_ref() != Some(&self.facts.subject) {
            return Err(CaError::Subject { name, subject });
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.bundle.store()),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        );
        let verifier = verifier
            .build()
            .map_err(|error| no_path(error.to_string()))?;
        // Whether it counts now is a question of its own.
        let moment = seconds(now).clamp(
            self.validity.not_before,
            self.validity.not_after.max(self.validity.not_before),
        );
        let moment = u64::try_from(moment).unwrap_or_default();
        let moment = UnixTime::since_unix_epoch(std::time::Duration::from_secs(moment));
        match verifier.verify_client_cert(made.der(), intermediates, moment) {
            Ok(_) => Ok(()),
            Err(error) if is_of_time(&error) => Ok(()),
            Err(error) => Err(no_path(error.to_string())),
        }
    }

    /// Subject of the signing certificate, as text.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// While all of the signing certificate, what it rests on and its root count.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// While the signing certificate counts.
    pub(super) fn own_validity(&self) -> Validity {
        self.facts.validity
    }

    /// The roots.
    pub fn trust_bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What peers need beside a certificate of its own to find a root, in PEM:
    /// the signing certificate first. Empty where that is a root.
    pub fn intermediates(&self) -> &[String] {
        &self.intermediates
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The same certificates: nothing changes for anyone.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certificate == other.certificate
            && self.intermediates == other.intermediates
            && self.bundle == other.bundle
    }
}

impl fmt::Debug for SigningCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SigningCa");
        debug.field("name", &self.facts.name);
        debug
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// The signing certificate and what follows it. Roots are left out: peers have
/// them, and the file of istio's own tools ends with one.
fn intermediates(
    certificate: &CertificateDer<'static>,
    rest: impl Iterator<Item = CertificateDer<'static>>,
    bundle: &TrustBundle,
) -> Vec<CertificateDer<'static>> {
    let mut all: Vec<CertificateDer<'static>> = Vec::new();
    for next in std::iter::once(certificate.clone()).chain(rest) {
        if !bundle.roots().contains(&next) && !all.contains(&next) {
            all.push(next);
        }
    }
    all
}

/// When the certificates count that lead from the signing certificate to a
/// root. Of several with the wanted name the one that counts longest is taken;
/// whether signatures fit is verified elsewhere.
fn path(
    signing: &Facts,
    intermediates: &[CertificateDer<'static>],
    bundle: &TrustBundle,
) -> Vec<Validity> {
    let mut others: Vec<_> = intermediates
        .iter()
        .filter_map(|der| Facts::of(der))
        .collect();
    let mut path = Vec::new();
    let mut issuer = signing.issuer.clone();
    loop {
        let longest = |facts: &&Facts| facts.validity.not_after;
        let roots = bundle.facts().iter();
        if let Some(root) = roots.filter(|f| f.subject == issuer).max_by_key(longest) {
            path.push(root.validity);
            return path;
        }
        let named = others.iter().filter(|f| f.subject == issuer);
        let Some(next) = named.max_by_key(longest).cloned() else {
            return path;
        };
        others.retain(|f| f.subject != issuer);
        path.push(next.validity);
        issuer = next.issuer;
    }
}

fn is_of_time(error: &TlsError) -> bool {
    use CertificateError as E;
    let TlsError::InvalidCertificate(error) = error else {
        return false;
    };
    matches!(
        error,
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }
    )
}
