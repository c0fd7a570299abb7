//! Who a workload is.

use std::{fmt, str::FromStr, sync::Arc};

use super::Namespace;

/// A workload identity: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Trust domain.
    pub trust_domain: Arc<str>,
    /// Namespace of the service account.
    pub namespace: Namespace,
    /// Service account.
    pub service_account: Arc<str>,
}

/// Text that is not the identity of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
pub struct SpiffeIdError(pub String);

impl SpiffeId {
    /// The identity of a service account. An `@` in the trust domain, which is
    /// no host name, becomes a dot (istiod: `spiffe.GenSpiffeURI`).
    pub fn new(trust_domain: &str, namespace: &Namespace, service_account: &str) -> Self {
        Self {
            trust_domain: trust_domain.replace('@', ".").into(),
            namespace: namespace.clone(),
            service_account: service_account.into(),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (trust_domain, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
            let (namespace, account) = path.strip_prefix("ns/")?.split_once("/sa/")?;
            let parts = [trust_domain, namespace, account];
            let is_part = |part: &&str| !part.is_empty() && !part.contains('/');
            parts.iter().all(is_part).then_some(parts)
        };
        let [trust_domain, namespace, account] =
            parts().ok_or_else(|| SpiffeIdError(text.to_owned()))?;
        Ok(Self {
            trust_domain: trust_domain.into(),
            namespace: Namespace::from(namespace),
            service_account: account.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_prints_as_it_is_read() {
        let text = "spiffe://cluster.local/ns/default/sa/sleep";
        let id: SpiffeId = text.parse().expect("an identity");
        assert_eq!(id.to_string(), text);
        assert_eq!(
            id,
            SpiffeId::new("cluster.local", &Namespace::from("default"), "sleep")
        );
    }

    #[test]
    fn other_uris_are_no_identities() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns/a/b/sa/c",
            "spiffe://td/ns/a/sa/b/c",
            "https://td/ns/a/sa/b",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_trust_domain_with_an_at_sign_becomes_a_host_name() {
        let id = SpiffeId::new("me@corp.com", &Namespace::from("ns"), "sa");
        assert_eq!(id.to_string(), "spiffe://me.corp.com/ns/ns/sa/sa");
    }
}
