//! One certificate for one request.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use x509_parser::{
    certificate::X509Certificate, oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME, prelude::FromDer,
};

use super::{
    SigningCa,
    certificate::{At, date, seconds},
    csr::Request,
};

/// Certificates count from a little before they were made, for peers whose
/// clock is behind (istiod: `ClockSkewGracePeriod`).
const CLOCK_SKEW: Duration = Duration::from_mins(2);

/// The longest common name (RFC 5280, ub-common-name).
const COMMON_NAME: usize = 64;

/// How long certificates live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Where the request names none.
    pub default: Duration,
    /// The most that a request may name.
    pub max: Duration,
}

impl Default for Lifetimes {
    /// istiod's: a day, and 90 days.
    fn default() -> Self {
        Self {
            default: Duration::from_hours(24),
            max: Duration::from_hours(90 * 24),
        }
    }
}

/// What a caller that was authenticated asks for.
#[derive(Debug, Clone, Copy)]
pub struct IssueRequest<'a> {
    /// PKCS#10 in PEM. Only its key counts; the names in it are ignored.
    pub csr_pem: &'a str,
    /// Who the caller is: these become the names of the certificate.
    pub identities: &'a [String],
    /// Wanted lifetime; 0 or less for the default.
    pub validity_seconds: i64,
    /// The time.
    pub now: SystemTime,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The request is wrong, and will be if it is sent again.
    #[error(transparent)]
    InvalidRequest(RefusedRequest),
    /// The authority cannot sign now.
    #[error(transparent)]
    Internal(Unable),
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedRequest {
    /// Too many bytes.
    #[error("the certificate request has {0} bytes; a request has less than 16384")]
    TooLarge(usize),
    /// Not PEM.
    #[error("the certificate request is not PEM with a block CERTIFICATE REQUEST")]
    NotPem,
    /// Not PKCS#10.
    #[error("the certificate request is not PKCS#10")]
    NotARequest,
    /// Signed with another key than its own, or not in a way that counts.
    #[error(
        "the signature of the certificate request does not verify with its own key \
         (RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519, and no SHA-1)"
    )]
    Signature,
    /// A key that no certificate can be made for.
    #[error("the key of the certificate request is of no kind that can be certified")]
    UnknownKey,
    /// Too long.
    #[error("the requested lifetime of {requested} s is more than the {max} s that are allowed")]
    Lifetime {
        /// Seconds asked for.
        requested: i64,
        /// Seconds allowed.
        max: u64,
    },
    /// Nobody to certify.
    #[error("the caller has no identity to certify")]
    NoIdentity,
    /// A name that cannot stand in a certificate.
    #[error("the identity {0:?} cannot stand in a certificate")]
    Identity(String),
}

/// Why the authority cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unable {
    /// It has no signing certificate yet.
    #[error("the certificate authority has no signing certificate yet")]
    NotReady,
    /// Its certificates have ended, or have not begun.
    #[error(
        "the signing certificate {name:?}, or one that it rests on, counts from {from} to {to}, \
         and it is {now}: replace it, or set the clock"
    )]
    OutOfTime {
        /// Subject of the signing certificate.
        name: String,
        /// First moment.
        from: String,
        /// Last moment.
        to: String,
        /// The time.
        now: String,
    },
    /// The library refused.
    #[error("the certificate could not be made: {0}")]
    Signing(String),
}

impl IssueError {
    /// istiod's label of it in `citadel_server_csr_sign_err_count`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::InvalidRequest(RefusedRequest::Lifetime { .. }) => "TTL_ERROR",
            Self::InvalidRequest(_) => "CSR_ERROR",
            Self::Internal(Unable::NotReady) => "CA_NOT_READY",
            Self::Internal(_) => "CERT_GEN_ERROR",
        }
    }
}

impl From<RefusedRequest> for IssueError {
    fn from(refused: RefusedRequest) -> Self {
        Self::InvalidRequest(refused)
    }
}

impl From<Unable> for IssueError {
    fn from(unable: Unable) -> Self {
        Self::Internal(unable)
    }
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Internal(Unable::Signing(error.to_string()))
    }
}

/// Signs a request; see [`super::CertificateAuthority::issue`].
pub(super) fn issue(
    ca: &SigningCa,
    lifetimes: &Lifetimes,
    request: &IssueRequest<'_>,
) -> Result<Vec<String>, IssueError> {
    let lifetime = lifetime(request.validity_seconds, lifetimes)?;
    let csr = Request::from_pem(request.csr_pem)?;
    let names = subject_alt_names(request.identities)?;
    let common_name = request.identities.first();
    let common_name = common_name.filter(|_| csr.has_common_name);
    let subject = Subject {
        names,
        common_name: common_name.map(String::as_str),
    };
    let leaf = sign(ca, &csr.key, subject, (request.now, lifetime))?;
    let mut answer = vec![leaf];
    answer.extend(ca.intermediates().iter().cloned());
    answer.push(ca.trust_bundle().pem().to_owned());
    Ok(answer)
}

fn lifetime(requested: i64, lifetimes: &Lifetimes) -> Result<Duration, RefusedRequest> {
    let max = lifetimes.max.as_secs();
    match u64::try_from(requested) {
        Err(_) | Ok(0) => Ok(lifetimes.default),
        Ok(wanted) if wanted > max => Err(RefusedRequest::Lifetime { requested, max }),
        Ok(wanted) => Ok(Duration::from_secs(wanted)),
    }
}

/// istiod: an address is an IP SAN, `spiffe://` a URI, and anything else, which
/// only a forwarded certificate has, a DNS name.
fn subject_alt_names(identities: &[String]) -> Result<Vec<SanType>, RefusedRequest> {
    if identities.is_empty() {
        return Err(RefusedRequest::NoIdentity);
    }
    let name = |identity: &String| {
        let refused = |_| RefusedRequest::Identity(identity.clone());
        if let Ok(address) = identity.parse() {
            return Ok(SanType::IpAddress(address));
        }
        if identity.is_empty() {
            return Err(RefusedRequest::Identity(identity.clone()));
        }
        let text = identity.as_str().try_into().map_err(refused)?;
        let is_uri = identity.starts_with("spiffe://");
        Ok(if is_uri {
            SanType::URI(text)
        } else {
            SanType::DnsName(text)
        })
    };
    identities.iter().map(name).collect()
}

/// Whom a certificate is for.
pub(super) struct Subject<'a> {
    pub names: Vec<SanType>,
    pub common_name: Option<&'a str>,
}

/// Makes a certificate; its lifetime ends with that of the signing certificate
/// at the latest.
pub(super) fn sign(
    ca: &SigningCa,
    key: &impl PublicKeyData,
    subject: Subject<'_>,
    (now, lifetime): (SystemTime, Duration),
) -> Result<String, IssueError> {
    let validity = ca.validity();
    if !validity.contains(now) {
        return Err(IssueError::Internal(Unable::OutOfTime {
            name: ca.name().to_owned(),
            from: At(validity.not_before).to_string(),
            to: At(validity.not_after).to_string(),
            now: At(seconds(now)).to_string(),
        }));
    }
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let not_after = seconds(now)
        .saturating_add(lifetime)
        .min(validity.not_after);
    let mut params = leaf();
    params.not_before = date(seconds(now) - i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or(0));
    params.not_after = date(not_after);
    params.serial_number = Some(serial_number()?);
    name(&mut params, subject)?;
    Ok(params.signed_by(key, ca.issuer())?.pem())
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

/// istiod: the common name, where one was asked for, is the first identity, and
/// is left out where that is too long for one.
fn name(params: &mut CertificateParams, subject: Subject<'_>) -> Result<(), IssueError> {
    let Subject { names, common_name } = subject;
    params.subject_alt_names = names;
    let Some(common_name) = common_name.filter(|name| name.len() <= COMMON_NAME) else {
        return Ok(());
    };
    // rcgen marks the extension as critical only where the subject is empty.
    let extension = critical_names(params)?;
    params.custom_extensions.push(extension);
    params.subject_alt_names.clear();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(())
}

/// The names as a critical extension: rcgen writes them into a certificate whose
/// key is then forgotten, and they are taken from there.
fn critical_names(params: &CertificateParams) -> Result<CustomExtension, IssueError> {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = DistinguishedName::new();
    wanted
        .subject_alt_names
        .clone_from(&params.subject_alt_names);
    let written = wanted.self_signed(&KeyPair::generate()?)?;
    let unable = || IssueError::Internal(Unable::Signing("the names cannot be written".to_owned()));
    let (_, parsed) = X509Certificate::from_der(written.der()).map_err(|_| unable())?;
    let mut extensions = parsed.extensions().iter();
    let names = extensions.find(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
    let content = names.ok_or_else(unable)?.value.to_vec();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    extension.set_criticality(true);
    Ok(extension)
}

/// 127 random bits: positive, and never the same twice.
pub(super) fn serial_number() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    let filled = random.fill(&mut bytes);
    filled.map_err(|_| Unable::Signing("no randomness".to_owned()))?;
    let [first, ..] = &mut bytes;
    *first &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}
