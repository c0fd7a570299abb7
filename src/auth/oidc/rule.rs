//! `JWT_RULE`.

use serde::Deserialize;

use super::keys::Keys;

/// Which issuer's tokens count, read from `JWT_RULE`.
#[derive(Debug)]
pub struct JwtRule {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) keys: RuleKeys,
}

/// Where the keys of an issuer are.
#[derive(Debug)]
pub(super) enum RuleKeys {
    /// In the rule (`jwks`).
    Given(Keys),
    /// At `jwks_uri`: `https`, `http` or `file`.
    At(String),
    /// Where the issuer's discovery document says.
    Discovered,
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwtRuleError {
    /// Not JSON, or not an object with these fields.
    #[error(
        "JWT_RULE is not JSON such as {{\"issuer\": \"https://…\", \"jwks_uri\": \"https://…\", \
         \"audiences\": [\"istio-ca\"]}} (line {line} column {column})"
    )]
    Form {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// Nobody is trusted.
    #[error("JWT_RULE names no issuer")]
    NoIssuer,
    /// The keys given in it are of no use.
    #[error("JWT_RULE: jwks is not a JSON Web Key Set with a usable public key")]
    Keys,
    /// Nothing that can be fetched.
    #[error("JWT_RULE: jwks_uri {0:?} is neither https://, http:// nor file://")]
    Scheme(String),
}

/// The fields of istio's `JWTRule` that count here, in both of its spellings.
#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default, alias = "jwksUri")]
    jwks_uri: String,
    #[serde(default)]
    jwks: String,
}

impl JwtRule {
    /// Reads the rule.
    pub fn parse(text: &str) -> Result<Self, JwtRuleError> {
        let fields: Fields = serde_json::from_str(text).map_err(|error| JwtRuleError::Form {
            line: error.line(),
            column: error.column(),
        })?;
        if fields.issuer.is_empty() {
            return Err(JwtRuleError::NoIssuer);
        }
        let scheme = ["https://", "http://", "file://"];
        let keys = match (&*fields.jwks, &*fields.jwks_uri) {
            ("", "") => RuleKeys::Discovered,
            ("", uri) if scheme.iter().any(|scheme| uri.starts_with(scheme)) => {
                RuleKeys::At(uri.to_owned())
            }
            ("", uri) => return Err(JwtRuleError::Scheme(uri.to_owned())),
            (jwks, _) => RuleKeys::Given(Keys::parse(jwks.as_bytes()).ok_or(JwtRuleError::Keys)?),
        };
        Ok(Self {
            issuer: fields.issuer,
            audiences: fields.audiences,
            keys,
        })
    }
}
