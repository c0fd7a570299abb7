//! The roots that peers are verified against.

use std::sync::Arc;

use rustls::{RootCertStore, pki_types::CertificateDer};

use super::certificate::{Facts, Validity, certificates};

/// One or more root certificates, as proxies get them and as they are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    pem: Arc<str>,
    roots: Arc<[CertificateDer<'static>]>,
    facts: Arc<[Facts]>,
}

/// Why a text is no bundle of roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustBundleError {
    /// Not text.
    #[error("it is not PEM text")]
    NotText,
    /// A key, which would be sent to every proxy.
    #[error("it holds a private key; give the roots without it")]
    Key,
    /// No certificate.
    #[error("it holds no certificate; one PEM block CERTIFICATE or more are wanted")]
    Empty,
    /// A block that is no certificate.
    #[error("block {0} is not a certificate that can be read")]
    Certificate(usize),
}

impl TrustBundle {
    /// Reads PEM text. One bad block refuses all of it: the text goes to proxies
    /// as it is, and Envoy refuses a bundle with one bad block in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustBundleError> {
        let text = std::str::from_utf8(pem).map_err(|_| TrustBundleError::NotText)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(TrustBundleError::Key);
        }
        let read = certificates(pem).map_err(TrustBundleError::Certificate)?;
        let mut facts = Vec::with_capacity(read.len());
        let mut store = RootCertStore::empty();
        for (index, der) in read.iter().enumerate() {
            let refused = TrustBundleError::Certificate(index + 1);
            store.add(der.clone()).map_err(|_| refused.clone())?;
            facts.push(Facts::of(der).ok_or(refused)?);
        }
        if read.is_empty() {
            return Err(TrustBundleError::Empty);
        }
        // Proxies concatenate it with what follows.
        let end = if text.ends_with('\n') { "" } else { "\n" };
        Ok(Self {
            pem: format!("{text}{end}").into(),
            roots: read.into(),
            facts: facts.into(),
        })
    }

    /// PEM text, with a newline at its end.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The roots, in their order.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// When each root counts, in their order.
    pub fn validities(&self) -> impl Iterator<Item = Validity> {
        self.facts.iter().map(|facts| facts.validity)
    }

    /// Whether one of the roots is in both.
    pub fn shares_a_root_with(&self, other: &Self) -> bool {
        self.roots.iter().any(|root| other.roots.contains(root))
    }

    /// The roots of both: those of `self`, then what `other` adds.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        let both = other.roots.iter().zip(other.facts.iter());
        let new: Vec<_> = both
            .filter(|(root, _)| !self.roots.contains(root))
            .collect();
        if !new.is_empty() {
            joined.pem = format!("{}{}", self.pem, other.pem).into();
            let roots = new.iter().map(|(root, _)| (*root).clone());
            joined.roots = self.roots.iter().cloned().chain(roots).collect();
            let facts = new.iter().map(|(_, facts)| (*facts).clone());
            joined.facts = self.facts.iter().cloned().chain(facts).collect();
        }
        joined
    }

    pub(super) fn facts(&self) -> &[Facts] {
        &self.facts
    }

    pub(super) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        store
    }
}
