//! Whether a proxy may be who it says in its node message.

use crate::auth::Caller;
use crate::model::{Proxy, SpiffeId};

/// No identity of the caller is that of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no identity of the caller ({identities}) matched {wanted}")]
pub struct IdentityMismatch {
    /// Namespace and service account that the node message claims.
    pub wanted: String,
    /// What the caller is known as.
    pub identities: String,
}

impl Caller {
    /// The identity by which the caller may be `proxy`: of the namespace whose
    /// configuration the proxy asks for and, where the proxy names one, of its
    /// service account (istiod: `checkConnectionIdentity`).
    pub fn authorize(&self, proxy: &Proxy) -> Result<SpiffeId, IdentityMismatch> {
        let (namespace, account) = (&*proxy.namespace, &*proxy.service_account);
        let fits = |id: &SpiffeId| {
            (namespace.is_empty() || &*id.namespace == namespace)
                && (account.is_empty() || &*id.service_account == account)
        };
        let mismatch = || IdentityMismatch {
            wanted: format!("{}/{}", short(namespace), short(account)),
            identities: short(&self.identities.join(", ")),
        };
        self.workloads().find(fits).ok_or_else(mismatch)
    }
}

/// The node message is the client's own text.
fn short(text: &str) -> String {
    super::error::printable(text, 256)
}

#[cfg(test)]
mod tests;
