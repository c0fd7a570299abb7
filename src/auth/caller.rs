//! A caller whose identity is known.

use std::fmt;

use crate::model::SpiffeId;

/// How a caller showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The certificate of its TLS connection.
    Certificate,
    /// A token of the issuer of `JWT_RULE`.
    Oidc,
    /// A token that its cluster's API server knows.
    Kubernetes,
    /// A certificate that a trusted gateway saw and forwarded.
    ForwardedCertificate,
}

impl Via {
    /// Its name in logs and statuses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "client certificate",
            Self::Oidc => "OIDC token",
            Self::Kubernetes => "Kubernetes token",
            Self::ForwardedCertificate => "forwarded certificate",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A caller whose identity is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its identities, at least one. Those of certificates are URIs, mostly of
    /// the form of [`SpiffeId`]; forwarded ones may be host names too.
    pub identities: Vec<String>,
    /// How it showed them.
    pub via: Via,
}

impl Caller {
    /// Those of its identities that are a workload's.
    pub fn workloads(&self) -> impl Iterator<Item = SpiffeId> {
        self.identities.iter().filter_map(|id| id.parse().ok())
    }
}
