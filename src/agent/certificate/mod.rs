//! The certificate of the workload: asked for, renewed, handed to Envoy.

mod output;
mod renew;
mod request;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub(super) use renew::{Renewal, renew};
pub(super) use request::bearer;

use super::dial::ClientCertificate;

/// A certificate with its key, and what peers are trusted by.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct WorkloadCertificate {
    /// The certificate and its intermediates, as PEM. Not the roots, which
    /// pilot-agent adds: a peer has its own, and each handshake would carry them.
    pub(super) chain: String,
    /// Its private key, as PEM.
    pub(super) key: String,
    /// The roots, as PEM.
    pub(super) roots: String,
    /// When it ends.
    pub(super) not_after: SystemTime,
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl WorkloadCertificate {
    /// What is left of its life.
    pub(super) fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// The certificate as the agent's own connections present it; none once it
    /// has ended, since a server refuses that where it takes a token.
    pub(super) fn as_client(&self, now: SystemTime) -> Option<ClientCertificate> {
        if self.remaining(now).is_zero() {
            return None;
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        Some(ClientCertificate {
            chain: chain.ok()?,
            key: key.ok()?,
        })
    }
}
