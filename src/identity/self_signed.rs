//! A root of our own.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};

use super::{
    CaPems,
    certificate::{date, seconds},
    issue::serial_number,
};

/// A root counts from an hour before it was made: what is signed with it counts
/// from before then, and clocks differ.
const CLOCK_SKEW: i64 = 3600;

/// How a root is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// Its organisation, which is the trust domain (istiod: `caOptions.TrustDomain`).
    pub organization: String,
    /// How long it counts.
    pub lifetime: Duration,
    /// Bits of its RSA key: 2048, 3072 or 4096.
    pub rsa_bits: u32,
}

/// Why no root can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelfSignedError {
    /// Another size.
    #[error("an RSA key of {0} bits cannot be made; 2048, 3072 and 4096 can")]
    KeySize(u32),
    /// The library refused.
    #[error("no self-signed root can be made: {0}")]
    Making(String),
}

impl SelfSigned {
    /// Makes a root with a new key. Takes up to seconds of one core.
    pub fn make(&self, now: SystemTime) -> Result<CaPems, SelfSignedError> {
        let size = match self.rsa_bits {
            2048 => RsaKeySize::_2048,
            3072 => RsaKeySize::_3072,
            4096 => RsaKeySize::_4096,
            other => return Err(SelfSignedError::KeySize(other)),
        };
        let made = || {
            let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size)?;
            let mut params = self.params(now);
            params.serial_number = serial_number().ok();
            Ok((params.self_signed(&key)?, key))
        };
        let (root, key) =
            made().map_err(|error: rcgen::Error| SelfSignedError::Making(error.to_string()))?;
        Ok(CaPems::self_signed(key.serialize_pem(), root.pem()))
    }

    fn params(&self, now: SystemTime) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, self.organization.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        params.not_before = date(seconds(now) - CLOCK_SKEW);
        params.not_after = date(seconds(now).saturating_add(lifetime));
        params
    }
}
