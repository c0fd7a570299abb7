//! Certificate signing requests: reading those of workloads, making our own.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA},
    prelude::FromDer,
};

use super::RefusedRequest;

/// A request with an 8192-bit key has 4 KiB.
const LARGEST: usize = 16 << 10;

/// What counts of a workload's request: its key. The names it asks for do not.
pub(super) struct Request {
    pub key: SubjectPublicKeyInfo,
    /// It has a common name; which one does not matter.
    pub has_common_name: bool,
}

impl Request {
    /// Reads a request and verifies that whoever made it has the key.
    pub(super) fn from_pem(pem: &str) -> Result<Self, RefusedRequest> {
        if pem.len() > LARGEST {
            return Err(RefusedRequest::TooLarge(pem.len()));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RefusedRequest::NotPem)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| RefusedRequest::NotARequest)?;
        if !rest.is_empty() {
            return Err(RefusedRequest::NotARequest);
        }
        let algorithm = &request.signature_algorithm.algorithm;
        let sha1 = *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA;
        if sha1 || request.verify_signature().is_err() {
            return Err(RefusedRequest::Signature);
        }
        let info = &request.certification_request_info;
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| RefusedRequest::UnknownKey)?;
        let mut names = info.subject.iter_common_name();
        let has_common_name = names.any(|name| !name.attr_value().data.is_empty());
        Ok(Self {
            key,
            has_common_name,
        })
    }
}

/// Which key a request is made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with 2048 bits, the default of istio's agent.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

impl KeyKind {
    fn new_key(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
    }
}

/// A private key and the request that goes with it.
pub struct KeyAndCsr {
    /// The key in PEM (PKCS#8).
    pub key_pem: String,
    /// The key for TLS.
    pub key: PrivateKeyDer<'static>,
    /// The request in PEM.
    pub csr_pem: String,
}

impl std::fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("KeyAndCsr");
        debug
            .field("csr_pem", &self.csr_pem)
            .finish_non_exhaustive()
    }
}

/// Why no request could be made.
#[derive(Debug, thiserror::Error)]
#[error("no key and certificate request for {identity:?} can be made: {problem}")]
pub struct CsrError {
    identity: String,
    problem: String,
}

/// A new key, and a request for a certificate with one URI SAN.
///
/// istio's agent sends an empty organisation besides; no server reads it.
pub fn new_key_and_csr(identity: &str, kind: KeyKind) -> Result<KeyAndCsr, CsrError> {
    let made = || {
        let key = kind.new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        let csr_pem = params.serialize_request(&key)?.pem()?;
        Ok::<_, rcgen::Error>((key, csr_pem))
    };
    let refused = |problem: String| CsrError {
        identity: identity.to_owned(),
        problem,
    };
    let (key, csr_pem) = made().map_err(|error| refused(error.to_string()))?;
    let der = PrivateKeyDer::try_from(key.serialize_der());
    Ok(KeyAndCsr {
        key_pem: key.serialize_pem(),
        key: der.map_err(|problem| refused(problem.to_owned()))?,
        csr_pem,
    })
}
