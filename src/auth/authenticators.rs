//! All ways to show who one is, in istiod's order.

use ipnet::IpNet;

use super::{
    AuthError, Caller, Clock, Credentials, JwtRule, Reason, TokenReviews, Via,
    forwarded::TrustedGateways, kubernetes::ServiceAccount, oidc::Oidc,
};
use crate::mesh::SnapshotReader;

/// Which ways there are beside client certificates.
#[derive(Debug)]
pub struct Options {
    /// `JWT_RULE`.
    pub rule: Option<JwtRule>,
    /// `TOKEN_AUDIENCES`.
    pub audiences: Vec<String>,
    /// Kubernetes tokens; none where clusters are folders.
    pub reviews: Option<TokenReviews>,
    /// `TRUSTED_GATEWAY_CIDR`; with none nobody's word is taken.
    pub trusted_gateways: Vec<IpNet>,
}

/// All ways to show who one is, in istiod's order; the first that succeeds
/// decides (istiod: `authenticationManager`).
#[derive(Debug)]
pub struct Authenticators {
    oidc: Option<Oidc>,
    reviews: Option<TokenReviews>,
    gateways: Option<TrustedGateways>,
    /// For the mesh's trust domain, which may change at any time.
    snapshots: SnapshotReader,
    now: Clock,
}

impl Authenticators {
    /// Those that `options` name, and client certificates.
    pub fn new(options: Options, snapshots: SnapshotReader, now: Clock) -> Self {
        let Options {
            rule,
            audiences,
            reviews,
            trusted_gateways,
        } = options;
        let trusted = !trusted_gateways.is_empty();
        Self {
            oidc: rule.map(|rule| Oidc::new(rule, &audiences, now)),
            reviews,
            gateways: trusted.then_some(TrustedGateways(trusted_gateways)),
            snapshots,
            now,
        }
    }

    /// Who presents these. What costs least is tried first; only a token may
    /// take time, and that is bounded.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, AuthError> {
        let mut error = AuthError::default();
        match self.certificate(credentials) {
            Ok(caller) => return Ok(caller),
            Err(reason) => error.attempts.push((Via::Certificate, reason)),
        }
        if let Some(oidc) = &self.oidc {
            let account = match &credentials.token {
                Ok(token) => oidc.check(token).await,
                Err(reason) => Err(reason.clone()),
            };
            match account {
                Ok(account) => return Ok(self.caller(&account, Via::Oidc)),
                Err(reason) => error.attempts.push((Via::Oidc, reason)),
            }
        }
        match self.kubernetes(credentials).await {
            Ok(account) => return Ok(self.caller(&account, Via::Kubernetes)),
            // Where another authenticator speaks for tokens, the lack of an
            // API server explains nothing.
            Err(Reason::NoApiServer) if self.oidc.is_some() => {}
            Err(reason) => error.attempts.push((Via::Kubernetes, reason)),
        }
        if let Some(gateways) = &self.gateways {
            match gateways.check(credentials) {
                Ok(caller) => return Ok(caller),
                Err(reason) => error.attempts.push((Via::ForwardedCertificate, reason)),
            }
        }
        Err(error)
    }

    fn certificate(&self, credentials: &Credentials) -> Result<Caller, Reason> {
        let certificate = credentials.certificate.as_ref().ok_or(Reason::Absent)?;
        certificate.caller((self.now)())
    }

    async fn kubernetes(&self, credentials: &Credentials) -> Result<ServiceAccount, Reason> {
        let token = credentials.token.as_ref().map_err(Reason::clone)?;
        let reviews = self.reviews.as_ref().ok_or(Reason::NoApiServer)?;
        reviews.check(token, &credentials.cluster).await
    }

    fn caller(&self, account: &ServiceAccount, via: Via) -> Caller {
        let snapshot = self.snapshots.latest();
        let identity = account.identity(&snapshot.mesh().config.trust_domain);
        Caller {
            identities: vec![identity.to_string()],
            via,
        }
    }
}

#[cfg(test)]
mod tests;
