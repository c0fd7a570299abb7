//! The public keys of an issuer.

use std::fmt;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header,
    jwk::{Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Keys that tokens may be signed with: public ones only. A shared secret in a
/// key set would let everyone who can read the set sign tokens.
#[derive(Default)]
pub(in crate::auth) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithm: Option<KeyAlgorithm>,
    public: DecodingKey,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a JSON Web Key Set; none where it is not one, or has no key that
    /// can be used. Keys of unknown kinds are passed over.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let set: KeySet = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().filter_map(Key::read);
        let keys: Vec<_> = keys.collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether one of them is named so; no name fits any.
    pub(super) fn have(&self, id: Option<&str>) -> bool {
        self.0.iter().any(|key| key.is_named(id))
    }

    /// Those that a token with this header may be signed with.
    pub(super) fn fitting(&self, header: &Header) -> impl Iterator<Item = &DecodingKey> {
        let fits = |key: &&Key| {
            key.is_named(header.kid.as_deref())
                && key.public.family() == header.alg.family()
                && key
                    .algorithm
                    .is_none_or(|only| Algorithm::try_from(only).ok() == Some(header.alg))
        };
        self.0.iter().filter(fits).map(|key| &key.public)
    }
}

impl Key {
    fn read(json: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let common = &jwk.common;
        let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let public = DecodingKey::from_jwk(&jwk).ok()?;
        let is_public = public.family() != AlgorithmFamily::Hmac;
        (signs && is_public).then(|| Self {
            id: common.key_id.clone(),
            algorithm: common.key_algorithm,
            public,
        })
    }

    fn is_named(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.id.as_deref() == Some(id))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(|key| key.id.as_deref().unwrap_or("?"));
        f.debug_list().entries(ids).finish()
    }
}
