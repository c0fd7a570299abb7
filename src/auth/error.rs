//! Why a caller is not known.

use std::{fmt, net::IpAddr};

use super::Via;
pub(super) use crate::model::printable;

/// Why one authenticator did not succeed. Never holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The caller presents none.
    #[error("none was presented")]
    Absent,
    /// It was valid at the handshake.
    #[error("it expired while the connection was open; connect again")]
    CertificateExpired,
    /// Certificates are not issued there.
    #[error("the connection is not TLS; use the secure address")]
    Plaintext,
    /// A certificate without URI, or a forwarded one without any name.
    #[error("it names no identity")]
    NoIdentity,
    /// A token of that many bytes.
    #[error("a token of {0} bytes is too long")]
    TooLong(usize),
    /// Not a JWT.
    #[error("it is not a JWT")]
    Malformed,
    /// Another issuer than that of `JWT_RULE`.
    #[error("its issuer {found:?} is not {wanted:?}")]
    Issuer {
        /// Who it says to be from.
        found: String,
        /// Who is trusted.
        wanted: String,
    },
    /// No key of the issuer has its id.
    #[error("no key of the issuer is named {0:?}")]
    UnknownKey(String),
    /// A key that does not fit, or a signature that is wrong.
    #[error("its signature or form is not valid: {0}")]
    Invalid(String),
    /// `exp` is over.
    #[error("it has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("it is not valid yet; compare the clocks")]
    NotYet,
    /// `aud` has none of these.
    #[error("it is for another audience; accepted: {0}")]
    Audience(String),
    /// `sub` or the user name is no service account.
    #[error("{0:?} is not a service account")]
    NotServiceAccount(String),
    /// The keys of the issuer could not be had.
    #[error("the keys of the issuer could not be had: {0}")]
    Keys(String),
    /// The clusters are folders.
    #[error("there is no API server to ask; set JWT_RULE to accept tokens without one")]
    NoApiServer,
    /// A `clusterid` that nobody has.
    #[error("cluster {0:?} is not known here; check its remote Secret and the proxy's CLUSTER_ID")]
    UnknownCluster(String),
    /// The API server does not know the token.
    #[error("the API server of cluster {cluster:?} refused it: {text}")]
    Refused {
        /// Whose.
        cluster: String,
        /// Its words.
        text: String,
    },
    /// The API server is silent.
    #[error(
        "the API server of cluster {cluster:?} did not answer a TokenReview within {seconds} seconds"
    )]
    NoAnswer {
        /// Whose.
        cluster: String,
        /// The limit.
        seconds: u64,
    },
    /// The API server cannot be asked.
    #[error("the API server of cluster {cluster:?} could not be asked for a TokenReview: {text}")]
    Unasked {
        /// Whose.
        cluster: String,
        /// Why.
        text: String,
    },
    /// Too many callers wait for the API server.
    #[error("too many tokens wait for the API server of cluster {0:?}; try again later")]
    Busy(String),
    /// Not in `TRUSTED_GATEWAY_CIDR`.
    #[error("{0} is not a trusted gateway (TRUSTED_GATEWAY_CIDR)")]
    Untrusted(IpAddr),
    /// A header that does not parse.
    #[error("x-forwarded-client-cert does not parse")]
    Forwarded,
}

impl Reason {
    /// The caller may be in the right: it should try again.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Keys(_) | Self::NoAnswer { .. } | Self::Unasked { .. } | Self::Busy(_)
        )
    }
}

/// No authenticator succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthError {
    pub(super) attempts: Vec<(Via, Reason)>,
}

impl AuthError {
    /// Nothing was looked at.
    pub(super) fn plaintext() -> Self {
        let attempts = vec![(Via::Certificate, Reason::Plaintext)];
        Self { attempts }
    }

    /// Whether one of them may succeed later with the same credentials.
    pub fn is_passing(&self) -> bool {
        self.attempts.iter().any(|(_, reason)| reason.is_passing())
    }
}

impl fmt::Display for AuthError {
    /// Names what failed; kinds that were not presented only where that is all
    /// of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("request authenticate failure: ")?;
        let presented = |(_, reason): &&(Via, Reason)| *reason != Reason::Absent;
        let mut presented = self.attempts.iter().filter(presented).peekable();
        if presented.peek().is_none() {
            return f.write_str("no client certificate and no bearer token was presented");
        }
        let mut separator = "";
        for (via, reason) in presented {
            write!(f, "{separator}{via}: {reason}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for AuthError {}
