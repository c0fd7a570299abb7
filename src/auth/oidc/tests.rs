use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, routing::get};
use serde_json::json;

use super::*;
use crate::auth::TokenIssuer;

const HOUR: Duration = Duration::from_hours(1);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

fn oidc(rule: &str) -> Oidc {
    let audiences = ["istio-ca".to_owned()];
    Oidc::new(JwtRule::parse(rule).unwrap(), &audiences, now)
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new("https://issuer").unwrap()
}

fn issue(issuer: &TokenIssuer, audience: &str, at: SystemTime) -> Token {
    let token = issuer.issue(("shop", "web"), audience, at, HOUR);
    Token::new(&token.unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_of_the_issuer_is_a_service_account() {
    let issuer = issuer();
    let oidc = oidc(&issuer.rule("istio-ca"));
    let account = oidc
        .check(&issue(&issuer, "istio-ca", now()))
        .await
        .unwrap();
    let id = account.identity("td").to_string();
    assert_eq!(id, "spiffe://td/ns/shop/sa/web");
}

#[tokio::test]
async fn a_rule_without_audiences_takes_those_of_all_tokens() {
    let issuer = issuer();
    let rule = json!({"issuer": "https://issuer", "jwks": issuer.jwks()}).to_string();
    let oidc = oidc(&rule);
    assert!(oidc.check(&issue(&issuer, "istio-ca", now())).await.is_ok());
    assert!(oidc.check(&issue(&issuer, "other", now())).await.is_err());
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told() {
    let (issuer, other) = (issuer(), TokenIssuer::new("https://other").unwrap());
    let oidc = oidc(&issuer.rule("istio-ca"));
    let check = async |token: &Token| oidc.check(token).await.unwrap_err();
    let reason = check(&issue(&issuer, "api", now())).await;
    assert_eq!(reason, Reason::Audience("istio-ca".to_owned()));
    let reason = check(&issue(&issuer, "istio-ca", now() - 2 * HOUR)).await;
    assert_eq!(reason, Reason::Expired);
    let reason = check(&issue(&other, "istio-ca", now())).await;
    let (found, wanted) = ("https://other".to_owned(), "https://issuer".to_owned());
    assert_eq!(reason, Reason::Issuer { found, wanted });
    let impostor = TokenIssuer::new("https://issuer").unwrap();
    let reason = check(&issue(&impostor, "istio-ca", now())).await;
    assert!(matches!(reason, Reason::UnknownKey(_)), "{reason}");
    for nonsense in ["abc", "a.b.c", "e30.e30.AA"] {
        let reason = check(&Token::new(nonsense).unwrap()).await;
        assert_eq!(reason, Reason::Malformed, "{nonsense}");
    }
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute() {
    let issuer = issuer();
    let oidc = oidc(&issuer.rule("istio-ca"));
    let seconds = Duration::from_secs;
    let late = issue(&issuer, "istio-ca", now() - HOUR - seconds(50));
    assert!(oidc.check(&late).await.is_ok());
    let too_late = issue(&issuer, "istio-ca", now() - HOUR - seconds(70));
    assert_eq!(oidc.check(&too_late).await, Err(Reason::Expired));
}

/// The signature of one token under the claims of another, and an algorithm
/// that needs no key.
#[tokio::test]
async fn forged_tokens_are_refused() {
    let issuer = issuer();
    let oidc = oidc(&issuer.rule("istio-ca"));
    let [good, other] = [now(), now() + HOUR].map(|at| issue(&issuer, "istio-ca", at));
    let (head, _) = good.reveal().rsplit_once('.').unwrap();
    let (_, signature) = other.reveal().rsplit_once('.').unwrap();
    let mixed = Token::new(&format!("{head}.{signature}")).unwrap();
    let wrong = Reason::Invalid("the signature is wrong".to_owned());
    assert_eq!(oidc.check(&mixed).await, Err(wrong));
    let (_, claims) = head.split_once('.').unwrap();
    // {"alg":"none"} and {"alg":"HS256"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"] {
        for signature in ["", "AAAA"] {
            let token = Token::new(&format!("{header}.{claims}.{signature}")).unwrap();
            assert!(oidc.check(&token).await.is_err(), "{header}");
        }
    }
}

#[test]
fn a_key_set_with_a_shared_secret_has_no_key() {
    let jwks = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}).to_string();
    assert!(Keys::parse(jwks.as_bytes()).is_none());
    let rule = json!({"issuer": "a", "jwks": jwks}).to_string();
    assert!(matches!(JwtRule::parse(&rule), Err(JwtRuleError::Keys)));
}

#[test]
fn unknown_keys_of_a_set_cost_themselves_only() {
    let issuer = issuer();
    let mut set: serde_json::Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.insert(0, json!({"kty": "future", "kid": "x"}));
    keys.insert(0, json!(7));
    assert!(Keys::parse(set.to_string().as_bytes()).is_some());
}

#[test]
fn a_rule_that_cannot_be_used_is_told() {
    for (rule, part) in [
        ("{", "line 1"),
        ("{}", "no issuer"),
        (r#"{"issuer": "a", "jwks_uri": "ftp://b"}"#, "ftp://b"),
        (r#"{"issuer": "a", "jwksUri": "b"}"#, "\"b\""),
        (r#"{"issuer": "a", "jwks": "{}"}"#, "jwks"),
    ] {
        let error = JwtRule::parse(rule).unwrap_err().to_string();
        assert!(error.contains(part), "{rule}: {error}");
    }
}

/// An issuer on loopback that counts how often it is asked.
struct Site {
    root: String,
    keys: Arc<parking_lot::Mutex<String>>,
    asked: Arc<AtomicUsize>,
    _server: tokio::task::JoinSet<()>,
}

impl Site {
    async fn start(jwks: String) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(parking_lot::Mutex::new(jwks));
        let asked = Arc::new(AtomicUsize::new(0));
        let document = json!({"issuer": root, "jwks_uri": format!("{root}/keys")}).to_string();
        let (served, count) = (Arc::clone(&keys), Arc::clone(&asked));
        let jwks = move || {
            count.fetch_add(1, Ordering::Relaxed);
            let keys = served.lock().clone();
            async move { keys }
        };
        let router = Router::new()
            .route("/keys", get(jwks))
            .route("/.well-known/openid-configuration", get(async || document));
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            root,
            keys,
            asked,
            _server: server,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_an_unknown_one() {
    let site = Site::start(String::new()).await;
    let issuer = TokenIssuer::new(&site.root).unwrap();
    *site.keys.lock() = issuer.jwks();
    // The place comes from the discovery document.
    let oidc = oidc(&json!({"issuer": site.root}).to_string());
    for _ in 0..3 {
        oidc.check(&issue(&issuer, "istio-ca", now()))
            .await
            .unwrap();
    }
    assert_eq!(site.asked(), 1);
    let next = TokenIssuer::new(&site.root).unwrap();
    *site.keys.lock() = next.jwks();
    let token = issue(&next, "istio-ca", now());
    // Not yet: made-up key ids must not become a storm.
    let reason = oidc.check(&token).await.unwrap_err();
    assert!(matches!(reason, Reason::UnknownKey(_)), "{reason}");
    assert_eq!(site.asked(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let (one, two) = tokio::join!(oidc.check(&token), oidc.check(&token));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(site.asked(), 2);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let issuer = issuer();
    let rule = json!({
        "issuer": "https://issuer",
        "jwks_uri": format!("file://{}", path.display()),
    });
    let oidc = oidc(&rule.to_string());
    let token = issue(&issuer, "istio-ca", now());
    let reason = oidc.check(&token).await.unwrap_err();
    assert!(
        reason.is_passing() && reason.to_string().contains("jwks.json"),
        "{reason}"
    );
    std::fs::write(&path, issuer.jwks()).unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert!(oidc.check(&token).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_hangs_is_given_up_and_told() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/keys", listener.local_addr().unwrap());
    let oidc = oidc(&json!({"issuer": "https://issuer", "jwks_uri": uri}).to_string());
    tokio::time::pause();
    let reason = oidc
        .check(&issue(&issuer(), "istio-ca", now()))
        .await
        .unwrap_err();
    assert!(reason.is_passing(), "{reason}");
    assert!(reason.to_string().contains("5 seconds"), "{reason}");
}
