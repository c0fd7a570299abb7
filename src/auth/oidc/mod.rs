//! Tokens of an OIDC issuer that `JWT_RULE` trusts: how a control plane
//! outside Kubernetes, or one that reads folders, knows its callers.

mod fetch;
mod keys;
mod rule;
mod source;

use jsonwebtoken::{Header, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

pub use rule::{JwtRule, JwtRuleError};

use self::{keys::Keys, source::KeySource};
use super::{Clock, Reason, error::printable, kubernetes::ServiceAccount, token::Token};

#[cfg(test)]
mod tests;

/// Clocks may differ by that much, as those of API servers may.
const LEEWAY_SECONDS: u64 = 60;

/// Checks tokens of one issuer.
#[derive(Debug)]
pub(super) struct Oidc {
    issuer: String,
    audiences: Vec<String>,
    keys: KeySource,
    now: Clock,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
}

impl Oidc {
    /// Tokens of the rule's issuer, for its audiences or, where it has none,
    /// for `audiences`.
    pub(super) fn new(rule: JwtRule, audiences: &[String], now: Clock) -> Self {
        let audiences = if rule.audiences.is_empty() {
            audiences.to_vec()
        } else {
            rule.audiences
        };
        let keys = KeySource::new(rule.keys, &rule.issuer);
        Self {
            issuer: rule.issuer,
            audiences,
            keys,
            now,
        }
    }

    pub(super) async fn check(&self, token: &Token) -> Result<ServiceAccount, Reason> {
        let header = decode_header(token.reveal()).map_err(|_| Reason::Malformed)?;
        // Before anything is fetched: tokens of Kubernetes come here first.
        let found = token.claimed_issuer().ok_or(Reason::Malformed)?;
        if found != self.issuer {
            let (found, wanted) = (printable(&found, 256), self.issuer.clone());
            return Err(Reason::Issuer { found, wanted });
        }
        let keys = self.keys.having(header.kid.as_deref()).await?;
        self.verify(token, &header, &keys)
    }

    /// Without a key id every key that fits the algorithm is tried.
    fn verify(
        &self,
        token: &Token,
        header: &Header,
        keys: &Keys,
    ) -> Result<ServiceAccount, Reason> {
        let mut last = match &header.kid {
            Some(id) => Reason::UnknownKey(printable(id, 64)),
            None => Reason::Invalid("no key of the issuer fits its algorithm".to_owned()),
        };
        for key in keys.fitting(header) {
            let mut validation = Validation::new(header.alg);
            validation.leeway = LEEWAY_SECONDS;
            // Checked below, by a clock that tests can set.
            validation.validate_exp = false;
            validation.set_issuer(&[&self.issuer]);
            validation.set_audience(&self.audiences);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            match decode::<Claims>(token.reveal(), key, &validation) {
                Ok(data) => return self.account(token, &data.claims),
                Err(error) => last = self.reason(error.kind()),
            }
        }
        Err(last)
    }

    fn account(&self, token: &Token, claims: &Claims) -> Result<ServiceAccount, Reason> {
        let leeway = std::time::Duration::from_secs(LEEWAY_SECONDS);
        let now = (self.now)();
        let expiry = token.claimed_expiry().ok_or(Reason::Expired)?;
        if expiry + leeway < now {
            return Err(Reason::Expired);
        }
        if token
            .claimed_start()
            .is_some_and(|start| start > now + leeway)
        {
            return Err(Reason::NotYet);
        }
        ServiceAccount::parse(&claims.sub)
            .ok_or_else(|| Reason::NotServiceAccount(printable(&claims.sub, 256)))
    }

    /// Fixed words only: the crate's own may quote parts of the token.
    fn reason(&self, kind: &ErrorKind) -> Reason {
        let text = match kind {
            ErrorKind::InvalidAudience => return Reason::Audience(self.audiences.join(", ")),
            ErrorKind::InvalidSignature => "the signature is wrong",
            ErrorKind::MissingRequiredClaim(claim) => {
                return Reason::Invalid(format!("it has no claim {claim}"));
            }
            ErrorKind::InvalidClaimFormat(_) => "a claim has the wrong form",
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
                "its algorithm is not accepted"
            }
            _ => "it does not parse",
        };
        Reason::Invalid(text.to_owned())
    }
}
