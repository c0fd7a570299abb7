//! What the settings say of who has to show who it is, and where.

use super::{AuthError, Authenticators, Caller, Credentials};

/// Settings of istiod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// `XDS_AUTH`: callers of ADS must show who they are.
    pub ads: bool,
    /// `XDS_AUTH_PLAINTEXT`: also those on the plaintext listener.
    pub plaintext: bool,
    /// `PILOT_ENABLE_XDS_IDENTITY_CHECK`: a proxy may only be who its caller is.
    pub identity_check: bool,
}

impl Default for Policy {
    /// istiod's.
    fn default() -> Self {
        Self {
            ads: true,
            plaintext: false,
            identity_check: true,
        }
    }
}

/// Lets callers in, or not.
#[derive(Debug)]
pub struct Gate {
    /// What of it is asked.
    pub policy: Policy,
    /// Who knows the callers.
    pub authenticators: Authenticators,
}

impl Gate {
    /// The caller of an ADS stream; none where it need not say who it is.
    pub async fn for_ads(&self, credentials: &Credentials) -> Result<Option<Caller>, AuthError> {
        let Policy { ads, plaintext, .. } = self.policy;
        if !ads || !(credentials.secure || plaintext) {
            return Ok(None);
        }
        self.authenticators
            .authenticate(credentials)
            .await
            .map(Some)
    }

    /// The caller that asks for a certificate. It always has to say who it is;
    /// in plaintext, where anyone could read its token and ask in its place,
    /// only a setting makes it heard.
    pub async fn for_certificates(&self, credentials: &Credentials) -> Result<Caller, AuthError> {
        if !credentials.secure && !self.policy.plaintext {
            return Err(AuthError::plaintext());
        }
        self.authenticators.authenticate(credentials).await
    }
}
