//! The tokens that Kubernetes would project into the pods: folders have no API
//! server, so the demo is the issuer, and the control plane is told of its key
//! by `JWT_RULE`.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::json;

use super::loopback::Workload;

const ISSUER: &str = "https://demo.invalid";
const AUDIENCE: &str = "istio-ca";
/// The demo is over long before.
const LIFE_SECONDS: u64 = 3600;

/// Signs tokens of service accounts.
pub(super) struct Issuer {
    key: EncodingKey,
    rule: String,
}

impl Issuer {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // 4, x, y: an uncompressed point.
        let point = key.der_bytes().get(1..).context("a key has no point")?;
        let (x, y) = point.split_at(point.len() / 2);
        let key_set = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "demo",
            "x": BASE64_URL_SAFE_NO_PAD.encode(x),
            "y": BASE64_URL_SAFE_NO_PAD.encode(y),
        }]});
        let rule = json!({
            "issuer": ISSUER, "audiences": [AUDIENCE], "jwks": key_set.to_string(),
        });
        Ok(Self {
            key: EncodingKey::from_ec_der(&key.serialize_der()),
            rule: rule.to_string(),
        })
    }

    /// `JWT_RULE` of a control plane that takes the tokens.
    pub(super) fn rule(&self) -> &str {
        &self.rule
    }

    /// The token of a workload.
    pub(super) fn token(&self, of: &Workload) -> Result<String> {
        let Workload {
            namespace,
            service_account,
            ..
        } = of;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("demo".to_owned());
        let claims = json!({
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "exp": get_current_timestamp() + LIFE_SECONDS,
        });
        Ok(encode(&header, &claims, &self.key)?)
    }
}
