//! What a verified client certificate says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::*};

use super::{Caller, Reason, Via};

/// The certificate of a TLS client, which the handshake has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    identities: Vec<String>,
    not_after: SystemTime,
}

impl PeerCertificate {
    /// Reads the first certificate of a verified chain; none where there is no
    /// certificate, or none that can be read.
    pub fn of_verified(chain: Option<&[CertificateDer<'_>]>) -> Option<Arc<Self>> {
        let leaf = chain?.first()?;
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let uris = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
        Some(Arc::new(Self {
            identities: uris.collect(),
            not_after: UNIX_EPOCH + Duration::from_secs(seconds),
        }))
    }

    /// The caller it stands for. istiod looks at the handshake only; here a
    /// connection that outlives its certificate opens no further stream.
    pub(super) fn caller(&self, now: SystemTime) -> Result<Caller, Reason> {
        if now > self.not_after {
            return Err(Reason::CertificateExpired);
        }
        if self.identities.is_empty() {
            return Err(Reason::NoIdentity);
        }
        Ok(Caller {
            identities: self.identities.clone(),
            via: Via::Certificate,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(uris: &[&str]) -> Arc<PeerCertificate> {
        let mut params = CertificateParams::new(vec!["a.host".to_owned()]).unwrap();
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::of_verified(Some(&[made.der().clone()])).unwrap()
    }

    fn year(year: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_hours((year - 1970) * 8766)
    }

    #[test]
    fn the_uris_of_a_certificate_are_its_identities() {
        let id = "spiffe://td/ns/a/sa/b";
        let caller = certificate(&[id]).caller(year(2025)).unwrap();
        assert_eq!(caller.identities, [id]);
        assert_eq!(caller.via, Via::Certificate);
        let none = certificate(&[]).caller(year(2025));
        assert_eq!(none, Err(Reason::NoIdentity));
    }

    #[test]
    fn a_connection_that_outlives_its_certificate_opens_no_stream() {
        let certificate = certificate(&["spiffe://td/ns/a/sa/b"]);
        let late = certificate.caller(year(2031));
        assert_eq!(late, Err(Reason::CertificateExpired));
    }

    #[test]
    fn no_certificate_and_one_that_cannot_be_read_are_none() {
        assert_eq!(PeerCertificate::of_verified(None), None);
        assert_eq!(PeerCertificate::of_verified(Some(&[])), None);
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(PeerCertificate::of_verified(Some(&[nonsense])), None);
    }
}
