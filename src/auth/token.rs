//! Bearer tokens, kept from sight.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::Deserialize;

use super::Reason;

/// Longer tokens are an attack: those of Kubernetes have about one kilobyte.
const LONGEST: usize = 16 * 1024;

/// A bearer token.
#[derive(Clone)]
pub(super) struct Token(Box<str>);

/// Stands for a token where one is remembered.
pub(super) type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// What a token says of itself, with nothing verified.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
}

impl Token {
    pub(super) fn new(text: &str) -> Result<Self, Reason> {
        match text.len() {
            0 => Err(Reason::Absent),
            1..=LONGEST => Ok(Self(text.into())),
            length => Err(Reason::TooLong(length)),
        }
    }

    /// The token itself, for those who check it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn hash(&self) -> TokenHash {
        let mut hash = TokenHash::default();
        hash.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        hash
    }

    /// Who says to have issued it; none where it is no JWT.
    pub(super) fn claimed_issuer(&self) -> Option<String> {
        self.claims()?.iss
    }

    /// When it says to expire; none where it is no JWT.
    pub(super) fn claimed_expiry(&self) -> Option<SystemTime> {
        time(self.claims()?.exp?)
    }

    /// From when on it says to be valid; none where it does not say.
    pub(super) fn claimed_start(&self) -> Option<SystemTime> {
        time(self.claims()?.nbf?)
    }

    fn claims(&self) -> Option<Claims> {
        jsonwebtoken::dangerous::insecure_decode_claims(&*self.0).ok()
    }
}

/// A time that is out of all bounds is none.
fn time(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `{"iss":"me","exp":1700000000}` between two other parts.
    const JWT: &str = "e30.eyJpc3MiOiJtZSIsImV4cCI6MTcwMDAwMDAwMH0.AA";

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new("secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn unverified_claims_are_read_from_jwts_only() {
        let token = Token::new(JWT).unwrap();
        assert_eq!(token.claimed_issuer().as_deref(), Some("me"));
        let expiry = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(token.claimed_expiry(), Some(expiry));
        let opaque = Token::new("0123456789").unwrap();
        assert_eq!(
            (opaque.claimed_issuer(), opaque.claimed_expiry()),
            (None, None)
        );
    }

    #[test]
    fn empty_and_overlong_tokens_are_refused() {
        assert_eq!(Token::new("").err(), Some(Reason::Absent));
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(Token::new(&long).err(), Some(Reason::TooLong(LONGEST + 1)));
    }

    #[test]
    fn other_tokens_have_other_hashes() {
        let hash = |text| Token::new(text).unwrap().hash();
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reading_of_claims(text in ".{1,200}", exp: f64) {
            let token = Token::new(&text).unwrap();
            token.claimed_issuer();
            token.claimed_expiry();
            let claims = format!("{{\"exp\":{exp}}}");
            let claims = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims);
            Token::new(&format!("e30.{claims}.AA")).unwrap().claimed_expiry();
        }
    }
}
