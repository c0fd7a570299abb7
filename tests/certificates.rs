//! The certificate service of the running binary, asked as istio's agent asks.

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

use std::time::Duration;

use isthmus::{
    identity::serving::peer_identities,
    proto::ca::IstioCertificateRequest,
    testing::secure::{agent_request, metadata},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use support::secure::SecurePlane;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status};
use x509_parser::prelude::{FromDer, X509Certificate};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const LIMIT: Duration = Duration::from_mins(1);

async fn ask(
    secure: &SecurePlane,
    request: IstioCertificateRequest,
) -> Result<Vec<String>, Status> {
    let client = secure.with_token("web");
    client
        .create_certificate(secure.plane.secure(), request)
        .await
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().expect("certificates")
}

/// Seconds that a certificate lives, from two minutes before it was made.
fn life(certificate: &CertificateDer<'_>) -> i64 {
    let (_, read) = X509Certificate::from_der(certificate).expect("a certificate");
    let validity = read.validity();
    validity.not_after.timestamp() - validity.not_before.timestamp() - 120
}

#[tokio::test]
async fn the_answer_is_leaf_intermediates_and_last_the_root_bundle() {
    let secure = SecurePlane::start(|_| {}).await;
    // The names in the request are somebody else's.
    let (_, request) = agent_request("spiffe://cluster.local/ns/istio-system/sa/admin");
    let chain = ask(&secure, request).await.expect("a certificate");
    let [leaf, intermediate, root] = chain.as_slice() else {
        panic!("{} elements", chain.len());
    };
    assert!(chain.iter().all(|pem| pem.ends_with('\n')));
    assert_eq!(intermediate.trim(), secure.ca.certificate().trim());
    assert_eq!(root.trim(), secure.ca.root_pem().trim());
    let leaf = certificates(leaf);
    assert_eq!(leaf.len(), 1);
    assert_eq!(peer_identities(&leaf), [WEB]);
    assert_eq!(life(&leaf[0]), 86_400);
}

#[tokio::test]
async fn the_server_decides_how_long_a_certificate_lives() {
    let secure = SecurePlane::start(|command| {
        command
            .env("DEFAULT_WORKLOAD_CERT_TTL", "30m")
            .env("MAX_WORKLOAD_CERT_TTL", "2h");
    })
    .await;
    for (asked, lives) in [(0, 1800), (-5, 1800), (120, 120), (7200, 7200)] {
        let (_, mut request) = agent_request(WEB);
        request.validity_duration = asked;
        let chain = ask(&secure, request).await.expect("a certificate");
        assert_eq!(life(&certificates(&chain[0])[0]), lives, "{asked}");
    }
    let (_, mut request) = agent_request(WEB);
    request.validity_duration = 7201;
    let error = ask(&secure, request).await.expect_err("refused");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let metric = "citadel_server_csr_sign_err_count{error=\"TTL_ERROR\"}";
    assert_eq!(secure.plane.metric(metric).await, Some(1.0));
}

#[tokio::test]
async fn bad_requests_have_istiods_statuses_and_are_counted_under_its_names() {
    let secure = SecurePlane::start(|_| {}).await;
    let (_, good) = agent_request(WEB);
    let unsigned = {
        // One bit of the signature, which stands at the end.
        let lines: Vec<&str> = good.csr.trim().lines().collect();
        let (end, rest) = lines.split_last().expect("lines");
        let (last, before) = rest.split_last().expect("lines");
        let first = if last.starts_with('A') { 'B' } else { 'A' };
        let last = format!("{first}{}", &last[1..]);
        format!("{}\n{last}\n{end}\n", before.join("\n"))
    };
    let with_csr = |csr: &str| IstioCertificateRequest {
        csr: csr.to_owned(),
        ..good.clone()
    };
    let impersonating = IstioCertificateRequest {
        metadata: Some(metadata("ImpersonatedIdentity", WEB)),
        ..good.clone()
    };
    let bad = Code::InvalidArgument;
    for (request, code) in [
        (with_csr(""), bad),
        (with_csr("nonsense"), bad),
        (with_csr(&unsigned), bad),
        (
            with_csr(&format!("{}{}", good.csr, " ".repeat(20_000))),
            bad,
        ),
        (with_csr(&" ".repeat(100_000)), Code::ResourceExhausted),
        (impersonating, Code::Unauthenticated),
    ] {
        let error = ask(&secure, request).await.expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
    }
    let request = good.clone();
    let stranger = secure.client();
    let answer = stranger.create_certificate(secure.plane.secure(), request);
    let error = answer.await.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(error.message().starts_with("request authenticate failure"));
    ask(&secure, good).await.expect("a certificate");
    for (metric, value) in [
        ("citadel_server_csr_count", 8.0),
        ("citadel_server_authentication_failure_count", 2.0),
        ("citadel_server_csr_parsing_err_count", 4.0),
        (
            "citadel_server_csr_sign_err_count{error=\"CSR_ERROR\"}",
            4.0,
        ),
        ("citadel_server_success_cert_issuance_count", 1.0),
        ("isthmus_refused_callers{reason=\"invalid_argument\"}", 4.0),
    ] {
        assert_eq!(secure.plane.metric(metric).await, Some(value), "{metric}");
    }
}

#[tokio::test]
async fn a_mesh_that_starts_at_once_has_all_its_certificates_soon() {
    let secure = SecurePlane::start(|_| {}).await;
    let mut agents = JoinSet::new();
    let address = secure.plane.secure();
    for n in 0..200 {
        let client = secure.with_token(&format!("app-{n}"));
        agents.spawn(async move {
            let (_, request) = agent_request("spiffe://ignored/ns/a/sa/b");
            let chain = client.create_certificate(address, request).await;
            peer_identities(&certificates(&chain.expect("a certificate")[0]))
        });
    }
    let mut identities = timeout(LIMIT, agents.join_all()).await.expect("in time");
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), 200, "each its own");
}

#[tokio::test]
async fn without_a_ca_server_there_is_no_such_service() {
    let secure = SecurePlane::start(|command| {
        command.env("ENABLE_CA_SERVER", "false");
    })
    .await;
    let address = format!("http://{}", secure.plane.ads());
    let channel = tonic::transport::Channel::from_shared(address).expect("a URL");
    let channel = channel.connect().await.expect("a connection");
    let (_, request) = agent_request(WEB);
    let answer = secure.with_token("web").create_on(channel, request).await;
    let error = answer.expect_err("refused");
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
}
