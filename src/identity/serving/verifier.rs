//! Client certificates: optional, but one that is presented must be good.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::metrics::counter::Counter;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tracing::warn;

use super::Inputs;
use crate::identity::certificate::{At, Facts, uri_sans};
use crate::model::SpiffeId;

/// Why a client certificate is refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerRefusal {
    /// There are no roots yet.
    #[error("there are no roots to verify it against yet")]
    NoRoots,
    /// It is none.
    #[error("it cannot be read")]
    Unreadable,
    /// It, or one in its chain, has ended.
    #[error("it, or one of its chain, ended at {0}")]
    Expired(String),
    /// It, or one in its chain, has not begun.
    #[error("it, or one of its chain, begins at {0} only; is a clock wrong?")]
    NotYetValid(String),
    /// Of another authority.
    #[error("it does not lead to a root of this mesh")]
    Foreign,
    /// Anything else that is wrong with the chain.
    #[error("{0}")]
    Chain(String),
    /// Not exactly one URI name.
    #[error("it has {0} URI names; exactly one is wanted")]
    Names(usize),
    /// No identity of a workload.
    #[error("its name {0:?} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    NotSpiffe(String),
    /// Of another trust domain.
    #[error("its name {0:?} is of a trust domain that is not this mesh's")]
    TrustDomain(String),
}

/// The sentence: rustls prints the errors of a verifier in this form.
impl fmt::Debug for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts refused client certificates, and keeps their warnings to one a
/// second: a client that is refused comes again and again.
#[derive(Clone, Default)]
pub struct Refusals {
    shared: Arc<Warned>,
    count: Counter,
}

#[derive(Default)]
struct Warned {
    second: AtomicU64,
    silent: AtomicU64,
}

impl Refusals {
    /// The counter, to be registered.
    pub fn counter(&self) -> Counter {
        self.count.clone()
    }

    fn tell(&self, certificate: &CertificateDer<'_>, refusal: &PeerRefusal, now: UnixTime) {
        self.count.inc();
        let second = now.as_secs();
        if self.shared.second.swap(second, Ordering::Relaxed) == second {
            self.shared.silent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let silent = self.shared.silent.swap(0, Ordering::Relaxed);
        let names = uri_sans(certificate).unwrap_or_default();
        let issuer = Facts::of(certificate).map(|facts| facts.issuer_name);
        warn!(
            reason = %refusal,
            ?names,
            issuer = issuer.unwrap_or_default(),
            not_told = silent,
            "a client certificate is refused"
        );
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusals").field(&self.count.get()).finish()
    }
}

/// Verifies chain, time, purpose and name (istiod: `PeerCertVerifier`).
pub(super) struct PeerVerifier {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    trust_domains: BTreeSet<Arc<str>>,
    algorithms: WebPkiSupportedAlgorithms,
    refusals: Refusals,
}

impl PeerVerifier {
    pub(super) fn new(inputs: &Inputs, refusals: Refusals, provider: &Arc<CryptoProvider>) -> Self {
        let roots = inputs.client_roots.as_ref();
        let chain = roots.and_then(|roots| {
            let (roots, provider) = (Arc::new(roots.store()), Arc::clone(provider));
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.build().ok()
        });
        Self {
            chain,
            trust_domains: inputs.trust_domains.clone(),
            algorithms: provider.signature_verification_algorithms,
            refusals,
        }
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, PeerRefusal> {
        let chain = self.chain.as_ref().ok_or(PeerRefusal::NoRoots)?;
        let verified = chain.verify_client_cert(own, others, now);
        let verified = verified.map_err(|error| chain_refusal(&error))?;
        let names = uri_sans(own).ok_or(PeerRefusal::Unreadable)?;
        let [name] = names.as_slice() else {
            return Err(PeerRefusal::Names(names.len()));
        };
        let id: Result<SpiffeId, _> = name.parse();
        let id = id.map_err(|_| PeerRefusal::NotSpiffe(name.clone()))?;
        if !self.trust_domains.contains(&id.trust_domain) {
            return Err(PeerRefusal::TrustDomain(name.clone()));
        }
        Ok(verified)
    }
}

fn chain_refusal(error: &Error) -> PeerRefusal {
    use CertificateError as E;
    let at = |time: &UnixTime| At(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)).to_string();
    match error {
        Error::InvalidCertificate(error) => match error {
            E::ExpiredContext { not_after, .. } => PeerRefusal::Expired(at(not_after)),
            E::NotValidYetContext { not_before, .. } => PeerRefusal::NotYetValid(at(not_before)),
            E::UnknownIssuer => PeerRefusal::Foreign,
            E::BadEncoding => PeerRefusal::Unreadable,
            other => PeerRefusal::Chain(other.to_string()),
        },
        other => PeerRefusal::Chain(other.to_string()),
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: clients send what they have, and are told when it is of no use.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(own, others, now).map_err(|refusal| {
            self.refusals.tell(own, &refusal, now);
            let alert = match &refusal {
                PeerRefusal::Expired(_) => CertificateError::Expired,
                PeerRefusal::NotYetValid(_) => CertificateError::NotValidYet,
                PeerRefusal::Foreign => CertificateError::UnknownIssuer,
                PeerRefusal::Unreadable => CertificateError::BadEncoding,
                _ => CertificateError::Other(OtherError(Arc::new(refusal))),
            };
            Error::InvalidCertificate(alert)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PeerVerifier");
        debug
            .field("trust_domains", &self.trust_domains)
            .finish_non_exhaustive()
    }
}
