//! What a caller presents.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, header::AUTHORIZATION};

use super::{PeerCertificate, Reason, token::Token};

/// `x-forwarded-client-cert`, as Envoy writes it.
const FORWARDED: &str = "x-forwarded-client-cert";
/// The cluster whose API server knows the token.
const CLUSTER: &str = "clusterid";
/// Longer cluster names than Kubernetes has names for anything.
const LONGEST_CLUSTER: usize = 1024;

/// What a connection is carried by.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Anyone may read and write along.
    Plaintext,
    /// TLS, with the client's certificate if it gave one.
    Tls(Option<Arc<PeerCertificate>>),
}

/// What a caller presents to show who it is.
pub struct Credentials {
    pub(super) peer: SocketAddr,
    pub(super) secure: bool,
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    pub(super) token: Result<Token, Reason>,
    /// Empty where none, or more than one, is named.
    pub(super) cluster: String,
    pub(super) forwarded: Option<Box<str>>,
}

impl Credentials {
    /// Those of a request with `headers`, on a connection from `peer`.
    pub fn new(peer: SocketAddr, channel: &Channel, headers: &HeaderMap) -> Self {
        let (secure, certificate) = match channel {
            Channel::Plaintext => (false, None),
            Channel::Tls(certificate) => (true, certificate.clone()),
        };
        let forwarded = headers.get(FORWARDED).and_then(|value| value.to_str().ok());
        Self {
            peer,
            secure,
            certificate,
            token: bearer(headers),
            cluster: cluster(headers),
            forwarded: forwarded.map(Into::into),
        }
    }
}

/// The first bearer token (istiod: `ExtractBearerToken`).
fn bearer(headers: &HeaderMap) -> Result<Token, Reason> {
    let values = headers.get_all(AUTHORIZATION).into_iter();
    let mut values = values.filter_map(|value| value.to_str().ok());
    let token = values.find_map(|value| value.strip_prefix("Bearer "));
    Token::new(token.unwrap_or_default())
}

/// istiod: `ExtractClusterID`, for which two names are none.
fn cluster(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(CLUSTER).into_iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return String::new();
    };
    let mut name = String::from_utf8_lossy(only.as_bytes()).into_owned();
    if name.len() > LONGEST_CLUSTER {
        name = super::error::printable(&name, 64);
    }
    name
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("peer", &self.peer)
            .field("secure", &self.secure)
            .field("certificate", &self.certificate)
            .field("token", &self.token)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(headers: &[(&'static str, &str)]) -> Credentials {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Credentials::new(([10, 0, 0, 1], 1).into(), &Channel::Plaintext, &headers)
    }

    #[test]
    fn the_first_bearer_token_counts() {
        let found = credentials(&[
            ("authorization", "Basic abc"),
            ("authorization", "Bearer one"),
            ("authorization", "Bearer two"),
        ]);
        assert_eq!(found.token.unwrap().reveal(), "one");
        for other in ["Basic abc", "Bearer", "one", ""] {
            let found = credentials(&[("authorization", other)]);
            assert_eq!(found.token.err(), Some(Reason::Absent), "{other:?}");
        }
    }

    #[test]
    fn two_cluster_names_are_none() {
        assert_eq!(credentials(&[("clusterid", "c1")]).cluster, "c1");
        assert_eq!(credentials(&[("clusterid", "")]).cluster, "");
        let two = credentials(&[("clusterid", "c1"), ("clusterid", "c2")]);
        assert_eq!(two.cluster, "");
    }

    #[test]
    fn debug_output_shows_no_token() {
        let found = credentials(&[("authorization", "Bearer secret")]);
        assert!(!format!("{found:?}").contains("secret"));
    }
}
