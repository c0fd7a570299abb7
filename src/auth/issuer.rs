//! Issues tokens where no API server does: for demos and tests whose clusters
//! are folders.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;

/// Issues tokens of the form that API servers issue, under a key of its own.
/// [`Self::rule`] is the `JWT_RULE` by which a control plane knows them.
pub struct TokenIssuer {
    issuer: String,
    key: EncodingKey,
    /// The two coordinates of the public key.
    public: [String; 2],
}

/// No key or token could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot issue tokens: {0}")]
pub struct IssuerError(String);

impl TokenIssuer {
    /// An issuer with a new key.
    pub fn new(issuer: &str) -> Result<Self, IssuerError> {
        let pair = KeyPair::generate().map_err(|e| IssuerError(e.to_string()))?;
        // An uncompressed point of P-256: a mark and two coordinates.
        let (x, y) = pair.der_bytes().split_at_checked(33).unwrap_or_default();
        let x = x.get(1..).unwrap_or_default();
        Ok(Self {
            issuer: issuer.to_owned(),
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            public: [x, y].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)),
        })
    }

    /// The public key as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        let [x, y] = &self.public;
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": x, "x": x, "y": y,
        }]})
        .to_string()
    }

    /// `JWT_RULE` of a control plane that trusts this issuer, the key in it.
    pub fn rule(&self, audience: &str) -> String {
        json!({"issuer": self.issuer, "jwks": self.jwks(), "audiences": [audience]}).to_string()
    }

    /// A token of a service account, valid from `now` on for `life`.
    pub fn issue(
        &self,
        (namespace, account): (&str, &str),
        audience: &str,
        now: SystemTime,
        life: Duration,
    ) -> Result<String, IssuerError> {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs()
        };
        let header = Header {
            kid: self.public.first().cloned(),
            ..Header::new(Algorithm::ES256)
        };
        let claims = json!({
            "iss": self.issuer,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "aud": [audience],
            "iat": seconds(now),
            "exp": seconds(now + life),
        });
        encode(&header, &claims, &self.key).map_err(|e| IssuerError(e.to_string()))
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
