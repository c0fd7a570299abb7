//! ADS over TLS, for callers that show who they are, against the running
//! binary.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod plane;
    pub(crate) mod secure;
    pub(crate) mod shop;
}

use std::{fs, path::Path, time::Duration};

use isthmus::testing::{
    identity::{TestCa, TestCaOptions, TestLeaf, now},
    secure::{SecureClient, SecureStream, agent_request},
};
use support::secure::{HOUR, SecurePlane, first, plug_in};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const LIMIT: Duration = Duration::from_mins(1);

/// Opens a stream and waits for its first answer.
async fn open(secure: &SecurePlane, client: &SecureClient) -> Result<SecureStream, Status> {
    open_as(secure, client, ("shop", "web")).await
}

async fn open_as(
    secure: &SecurePlane,
    client: &SecureClient,
    (namespace, account): (&str, &str),
) -> Result<SecureStream, Status> {
    let first = first(namespace, account);
    let mut stream = client.open(secure.plane.secure(), first).await?;
    let response = stream.next().await?;
    assert!(!response.resources.is_empty());
    Ok(stream)
}

/// Adds a service, and waits until a stream is told of it.
async fn hears_of_changes(secure: &SecurePlane, stream: &mut SecureStream, name: &str) {
    let service = support::shop::service(name);
    let path = secure.folder.path().join(format!("c1/{name}.yaml"));
    fs::write(path, service).expect("a file");
    loop {
        let response = stream.next().await.expect("the stream goes on");
        let mut names = response.resources.iter().map(|resource| &resource.name);
        if names.any(|resource| resource.contains(&format!("{name}.shop"))) {
            return;
        }
    }
}

#[tokio::test]
async fn an_agent_gets_a_certificate_with_its_token_and_a_stream_with_its_certificate() {
    let secure = SecurePlane::start(|_| {}).await;
    let (key, request) = agent_request(WEB);
    let client = secure.with_token("web");
    let chain = client
        .create_certificate(secure.plane.secure(), request)
        .await;
    let chain = chain.expect("a certificate");
    // The client's certificate alone, no token.
    let client = secure.client().issued(&chain, &key);
    let mut stream = open(&secure, &client).await.expect("a stream");
    hears_of_changes(&secure, &mut stream, "new").await;
    let log = secure.plane.log();
    assert!(log.contains(WEB), "{log}");
}

#[tokio::test]
async fn a_proxy_of_another_namespace_or_service_account_is_refused_and_counted() {
    let secure = SecurePlane::start(|_| {}).await;
    let certificate = secure.ca.leaf(&TestLeaf::new(&[WEB]));
    for client in [
        secure.with_token("web"),
        secure.client().certificate(certificate),
    ] {
        for node in [("istio-system", "web"), ("shop", "admin")] {
            let error = open_as(&secure, &client, node).await.expect_err("refused");
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
            assert!(
                error.message().starts_with("authorization failed"),
                "{error}"
            );
        }
        open(&secure, &client).await.expect("itself");
        open_as(&secure, &client, ("shop", ""))
            .await
            .expect("any account");
    }
    let metric = "isthmus_refused_callers{reason=\"permission_denied\"}";
    assert_eq!(secure.plane.metric(metric).await, Some(4.0));
}

#[tokio::test]
async fn without_identity_check_a_proxy_may_be_anyone() {
    let secure = SecurePlane::start(|command| {
        command.env("PILOT_ENABLE_XDS_IDENTITY_CHECK", "false");
    })
    .await;
    let client = secure.with_token("web");
    open_as(&secure, &client, ("istio-system", "x"))
        .await
        .expect("a stream");
}

#[tokio::test]
async fn callers_that_show_nothing_good_are_refused_without_a_wait() {
    let secure = SecurePlane::start(|_| {}).await;
    let issue = |audience, at| secure.issuer.issue(("shop", "web"), audience, at, HOUR);
    let other = issue("another", now()).expect("a token");
    let old = issue("istio-ca", now() - 2 * HOUR).expect("a token");
    let started = Instant::now();
    for (client, part) in [
        (secure.client(), "no client certificate and no bearer token"),
        (secure.client().token("nonsense"), "it is not a JWT"),
        (secure.client().token(&other), "another audience"),
        (secure.client().token(&old), "it has expired"),
    ] {
        let error = open(&secure, &client).await.expect_err("refused");
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    let metric = "isthmus_refused_callers{reason=\"unauthenticated\"}";
    assert_eq!(secure.plane.metric(metric).await, Some(4.0));
}

#[tokio::test]
async fn foreign_expired_and_early_client_certificates_open_nothing() {
    let mut secure = SecurePlane::start(|_| {}).await;
    let foreign = TestCa::root(TestCaOptions::new("foreign"));
    let good = TestLeaf::new(&[WEB]);
    let expired = TestLeaf {
        not_before: now() - 2 * HOUR,
        not_after: now() - HOUR,
        ..good.clone()
    };
    let early = TestLeaf {
        not_before: now() + HOUR,
        not_after: now() + 2 * HOUR,
        ..good.clone()
    };
    for own in [
        foreign.leaf(&good),
        secure.ca.leaf(&expired),
        secure.ca.leaf(&early),
    ] {
        let client = secure.with_token("web").certificate(own);
        open(&secure, &client).await.expect_err("no connection");
    }
    secure.plane.logged("a client certificate is refused").await;
    open(&secure, &secure.with_token("web"))
        .await
        .expect("others go on");
}

#[tokio::test]
async fn plaintext_takes_anyone_for_streams_and_nobody_for_certificates() {
    use isthmus::client::{AdsClient, ProxySpec};
    use isthmus::model::TypeUrl;
    let secure = SecurePlane::start(|_| {}).await;
    let text = "- {name: a, id: sidecar~10.9.9.9~a.shop~shop.svc.cluster.local, metadata: {}}";
    let proxy = ProxySpec::parse_list(text).expect("a proxy").remove(0);
    let stream = AdsClient::open(secure.plane.ads(), &proxy, TypeUrl::Cluster, Vec::new()).await;
    stream.expect("a stream").next().await.expect("an answer");
    let address = format!("http://{}", secure.plane.ads());
    let channel = tonic::transport::Channel::from_shared(address).expect("a URL");
    let channel = channel.connect().await.expect("a connection");
    let (_, request) = agent_request(WEB);
    let answer = secure.with_token("web").create_on(channel, request).await;
    let error = answer.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn plaintext_can_be_closed_to_strangers() {
    let secure = SecurePlane::start(|command| {
        command.env("XDS_AUTH_PLAINTEXT", "true");
    })
    .await;
    let address = format!("http://{}", secure.plane.ads());
    let channel = tonic::transport::Channel::from_shared(address).expect("a URL");
    let channel = channel.connect().await.expect("a connection");
    let stream = secure
        .client()
        .stream(channel.clone(), first("shop", "web"))
        .await;
    let error = stream.expect("headers").next().await.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let client = secure.with_token("web");
    let stream = client.stream(channel, first("shop", "web")).await;
    stream.expect("headers").next().await.expect("an answer");
}

#[tokio::test]
async fn authentication_of_streams_can_be_switched_off() {
    let secure = SecurePlane::start(|command| {
        command.env("XDS_AUTH", "false");
    })
    .await;
    open(&secure, &secure.client()).await.expect("a stream");
    let (_, request) = agent_request(WEB);
    let answer = secure
        .client()
        .create_certificate(secure.plane.secure(), request)
        .await;
    assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn forwarded_certificates_count_from_trusted_gateways_only() {
    let header = || ("x-forwarded-client-cert", format!("Hash=ab;URI={WEB}"));
    let secure = SecurePlane::start(|_| {}).await;
    let mut client = secure.client();
    client.headers.push(header());
    let error = open(&secure, &client).await.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated);
    let secure = SecurePlane::start(|command| {
        command.env("TRUSTED_GATEWAY_CIDR", "10.0.0.0/8");
    })
    .await;
    // Loopback is trusted as soon as any range is.
    let mut client = secure.client();
    client.headers.push(header());
    open(&secure, &client).await.expect("a stream");
    let error = open_as(&secure, &client, ("shop", "admin"))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_new_root_and_serving_certificate_drop_no_stream() {
    let mut secure = SecurePlane::start(|_| {}).await;
    let old = secure.ca.leaf(&TestLeaf::new(&[WEB]));
    let old = secure.client().certificate(old);
    let mut stream = open(&secure, &old).await.expect("a stream");
    let root = TestCa::root(TestCaOptions::new("next root"));
    secure.ca = root.intermediate(TestCaOptions::new("next intermediate"));
    plug_in(&secure.ca, &secure.folder.path().join("cacerts"));
    // New connections: another certificate, signed by the new authority.
    let end = Instant::now() + LIMIT;
    while let Err(error) = open(&secure, &secure.with_token("web")).await {
        assert!(Instant::now() < end, "{error}\n{}", secure.plane.log());
        sleep(Duration::from_millis(100)).await;
    }
    let new = secure.ca.leaf(&TestLeaf::new(&[WEB]));
    open(&secure, &secure.client().certificate(new))
        .await
        .expect("a stream");
    open(&secure, &old).await.expect_err("a root that is gone");
    hears_of_changes(&secure, &mut stream, "new").await;
}

/// At the finest level of logs, and on every page.
#[tokio::test]
async fn tokens_and_keys_are_shown_nowhere() {
    let secure = SecurePlane::start(|command| {
        command.env("RUST_LOG", "trace");
    })
    .await;
    let (key, request) = agent_request(WEB);
    let address = secure.plane.secure();
    let good = secure.token("web");
    let bad = secure.issuer.issue(("shop", "web"), "another", now(), HOUR);
    let bad = bad.expect("a token");
    let chain = secure.client().token(&good);
    let chain = chain.create_certificate(address, request.clone()).await;
    let own = secure.client().issued(&chain.expect("a certificate"), &key);
    open(&secure, &own).await.expect("a stream");
    open(&secure, &secure.client().token(&good))
        .await
        .expect("a stream");
    open_as(&secure, &secure.client().token(&good), ("a", "b"))
        .await
        .expect_err("refused");
    open(&secure, &secure.client().token(&bad))
        .await
        .expect_err("refused");
    let refused = secure
        .client()
        .token(&bad)
        .create_certificate(address, request)
        .await;
    refused.expect_err("refused");
    let mut shown = vec![secure.plane.log()];
    assert!(shown[0].contains("TRACE"));
    for page in ["/metrics", "/ready", "/version"] {
        let (_, text) = secure.plane.page(page).await.expect("a page");
        shown.push(text);
    }
    let file = |name: &str| fs::read_to_string(secure.folder.path().join(name));
    let ca_key = file("cacerts/ca-key.pem").expect("a key");
    for (what, secret) in [
        ("a token", good),
        ("a refused token", bad),
        ("the key of the authority", ca_key),
        ("the key of the agent", key.key_pem),
    ] {
        for part in telling_parts(&secret) {
            let found = shown.iter().any(|text| text.contains(part));
            assert!(!found, "{what} is shown");
        }
    }
}

/// The parts by which a secret would be known: the parts of a token that only
/// it has, the lines of a PEM.
fn telling_parts(secret: &str) -> Vec<&str> {
    let parts = secret.lines().flat_map(|line| line.split('.').skip(1));
    let lines = secret
        .lines()
        .filter(|line| !line.starts_with("---") && !line.contains('.'));
    let parts: Vec<_> = parts.chain(lines).filter(|part| part.len() > 16).collect();
    assert!(!parts.is_empty());
    parts
}

#[tokio::test]
async fn keys_of_the_issuer_may_be_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    let rule = |path: &Path| {
        let uri = format!("file://{}", path.display());
        serde_json::json!({"issuer": "https://tokens.example", "jwks_uri": uri}).to_string()
    };
    let secure = SecurePlane::start(|command| {
        command.env("JWT_RULE", rule(&path));
    })
    .await;
    let error = open(&secure, &secure.with_token("web"))
        .await
        .expect_err("no keys yet");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    fs::write(&path, secure.issuer.jwks()).expect("a file");
    let end = Instant::now() + LIMIT;
    while let Err(error) = open(&secure, &secure.with_token("web")).await {
        assert!(Instant::now() < end, "{error}");
        sleep(Duration::from_millis(500)).await;
    }
}
