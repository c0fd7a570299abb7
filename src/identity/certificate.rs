//! What is read of a certificate, and the clock of certificates.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    certificate::X509Certificate,
    prelude::{FromDer, GeneralName, ParsedExtension},
};

/// From when to when something counts, in seconds since 1970, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Validity {
    /// Where both count.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// Whether `now` is inside.
    pub fn contains(self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&seconds(now))
    }

    /// How long it goes on after `now`.
    pub fn left(self, now: SystemTime) -> Duration {
        let left = self.not_after.saturating_sub(seconds(now));
        Duration::from_secs(u64::try_from(left).unwrap_or_default())
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", At(self.not_before), At(self.not_after))
    }
}

/// A moment as text.
pub(super) struct At(pub(super) i64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = OffsetDateTime::from_unix_timestamp(self.0).ok();
        match date.and_then(|date| date.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} s since 1970", self.0),
        }
    }
}

/// Seconds since 1970, negative before it.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// A moment as X.509 writes it; far away ones become the last that can be written.
pub(super) fn date(seconds: i64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799; // The end of the year 9999 (RFC 5280 §4.1.2.5).
    let seconds = seconds.clamp(0, LAST);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// What is read of a certificate once, when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// The subject as text, for errors.
    pub name: String,
    pub issuer_name: String,
    pub validity: Validity,
    /// May sign certificates.
    pub is_ca: bool,
    /// Bits of the public key.
    pub public_key: Vec<u8>,
}

impl Facts {
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        // rcgen panics at it when it is to write it as an issuer.
        let mut parts = parsed.subject().iter();
        if parts.any(|part| part.iter().next().is_none()) {
            return None;
        }
        let validity = parsed.validity();
        Some(Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            name: parsed.subject().to_string(),
            issuer_name: parsed.issuer().to_string(),
            validity: Validity {
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            },
            is_ca: may_sign(&parsed),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage().ok().flatten();
    certificate.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// The names in a certificate, for people: `DNS:a, URI:b`.
pub(super) fn names(der: &[u8]) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return String::new();
    };
    let Some(names) = parsed.subject_alternative_name().ok().flatten() else {
        return parsed.subject().to_string();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) => format!("DNS:{host}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        other => other.to_string(),
    };
    let names: Vec<_> = names.value.general_names.iter().map(name).collect();
    names.join(", ")
}

/// URI SANs of a certificate, in their order; none if it cannot be read.
pub(super) fn uri_sans(der: &[u8]) -> Option<Vec<String>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let mut uris = Vec::new();
    for extension in parsed.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        uris.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }));
    }
    Some(uris)
}

/// The certificates of a PEM text. The error is the place of the first that is
/// none, from 1 on.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, usize> {
    let mut all = Vec::new();
    for (index, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
        all.push(read.map_err(|_| index + 1)?);
    }
    Ok(all)
}

/// One certificate in PEM, with a newline at its end.
pub(super) fn pem(der: &CertificateDer<'static>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let body = BASE64_STANDARD.encode(der);
    let mut rest = body.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
