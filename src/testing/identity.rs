//! Certificate authorities for tests, made when they run: no key is committed.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test may panic"
)]

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::identity::{CaPems, CertificateAuthority, Lifetimes, SigningCa};

/// A certificate authority that tests sign with.
#[derive(Debug)]
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: String,
    /// PEM of what it rests on, up to and with the root; its own without one.
    above: String,
    root: String,
}

/// What is special about a certificate authority.
#[derive(Debug, Clone, Copy)]
pub struct TestCaOptions<'a> {
    /// Common name.
    pub name: &'a str,
    /// Kind of key.
    pub algorithm: &'static SignatureAlgorithm,
    /// From when it counts.
    pub not_before: SystemTime,
    /// To when.
    pub not_after: SystemTime,
    /// It is a certificate authority.
    pub is_ca: bool,
}

/// What is special about a certificate that is no authority's.
#[derive(Debug, Clone)]
pub struct TestLeaf<'a> {
    /// URI names.
    pub uris: &'a [&'a str],
    /// Purposes; none means any.
    pub usages: &'a [ExtendedKeyUsagePurpose],
    /// From when it counts.
    pub not_before: SystemTime,
    /// To when.
    pub not_after: SystemTime,
}

impl<'a> TestLeaf<'a> {
    /// A workload's certificate that counts now.
    pub fn new(uris: &'a [&'a str]) -> Self {
        Self {
            uris,
            usages: &[
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            not_before: now() - Duration::from_hours(1),
            not_after: now() + Duration::from_hours(1),
        }
    }
}

impl<'a> TestCaOptions<'a> {
    /// A P-256 authority that counts now.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            not_before: now() - Duration::from_hours(1),
            not_after: now() + Duration::from_hours(365 * 24),
            is_ca: true,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Istio");
        params
            .distinguished_name
            .push(DnType::CommonName, self.name);
        params.not_before = self.not_before.into();
        params.not_after = self.not_after.into();
        params.is_ca = IsCa::NoCa;
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        params
    }
}

impl TestCa {
    /// A root.
    pub fn root(options: TestCaOptions<'_>) -> Self {
        let key = KeyPair::generate_for(options.algorithm).expect("a key");
        let key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(options.params(), key).expect("a root");
        Self {
            key: key_pem,
            above: issuer.pem(),
            root: issuer.pem(),
            issuer,
        }
    }

    /// An intermediate below this one.
    #[must_use]
    pub fn intermediate(&self, options: TestCaOptions<'_>) -> Self {
        let key = KeyPair::generate_for(options.algorithm).expect("a key");
        let key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::signed_by(options.params(), key, &self.issuer);
        let issuer = issuer.expect("an intermediate");
        Self {
            key: key_pem,
            above: format!("{}{}", issuer.pem(), self.above),
            root: self.root.clone(),
            issuer,
        }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The root above it.
    pub fn root_pem(&self) -> &str {
        &self.root
    }

    /// Itself and what is above it, as istio's tools write `cert-chain.pem`.
    pub fn chain(&self) -> &str {
        &self.above
    }

    /// The four files.
    pub fn pems(&self) -> CaPems {
        CaPems {
            key: self.key.clone().into(),
            certificate: self.certificate().into(),
            chain: self.above.clone().into(),
            roots: self.root.clone().into(),
            names: CaPems::NAMES,
        }
    }

    /// A certificate of a workload (or of a server) that it signed, with its
    /// chain, and the key.
    pub fn leaf(
        &self,
        options: &TestLeaf<'_>,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        params.subject_alt_names = options.uris.iter().map(uri).collect();
        params.extended_key_usages = options.usages.to_vec();
        params.not_before = options.not_before.into();
        params.not_after = options.not_after.into();
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let above = CertificateDer::pem_slice_iter(self.above.as_bytes());
        let above = above.map(|der| der.expect("a certificate"));
        let chain = std::iter::once(leaf.der().clone()).chain(above).collect();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        (chain, key)
    }

    /// An authority that signs with it.
    pub fn authority(&self) -> CertificateAuthority {
        let authority = CertificateAuthority::new(Lifetimes::default());
        let ca = SigningCa::from_pem(&self.pems(), now()).expect("a signing certificate");
        authority.install(ca);
        authority
    }
}

/// The time.
#[allow(clippy::disallowed_methods, reason = "the clock of tests")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
