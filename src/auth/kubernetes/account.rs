//! Service accounts as Kubernetes names their users.

use crate::model::{Namespace, SpiffeId};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) struct ServiceAccount {
    namespace: Namespace,
    name: String,
}

impl ServiceAccount {
    /// Reads `system:serviceaccount:NAMESPACE:NAME`. The names are those that
    /// Kubernetes allows: an issuer must not be able to put a path into an
    /// identity.
    pub(in crate::auth) fn parse(user: &str) -> Option<Self> {
        let (namespace, name) = user
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')?;
        let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
        let is_name =
            |part: &str| !part.is_empty() && part.len() <= 253 && part.bytes().all(is_allowed);
        (is_name(namespace) && is_name(name)).then(|| Self {
            namespace: namespace.into(),
            name: name.to_owned(),
        })
    }

    /// Its identity in a mesh.
    pub(in crate::auth) fn identity(&self, trust_domain: &str) -> SpiffeId {
        SpiffeId::new(trust_domain, &self.namespace, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_of_kubernetes_is_a_service_account_by_its_form() {
        let account = ServiceAccount::parse("system:serviceaccount:shop:web.v1").unwrap();
        let id = account.identity("me@td").to_string();
        assert_eq!(id, "spiffe://me.td/ns/shop/sa/web.v1");
        for other in [
            "",
            "admin",
            "system:serviceaccount:",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:",
            "system:serviceaccount::web",
            "system:serviceaccount:shop:web:more",
            "system:serviceaccount:shop:web/sa/admin",
            "system:serviceaccount:Shop:web",
            "system:serviceaccounts:shop:web",
        ] {
            assert_eq!(ServiceAccount::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_identity_reads_back_as_it_was_made(ns in ".{0,9}", name in ".{0,9}") {
            let user = format!("system:serviceaccount:{ns}:{name}");
            if let Some(account) = ServiceAccount::parse(&user) {
                let id = account.identity("td");
                prop_assert_eq!(id.to_string().parse::<SpiffeId>(), Ok(id));
            }
        }
    }
}
