//! Handshakes over a pipe, with a client that trusts what proxies are given.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::identity::{CertificateAuthority, Lifetimes, SigningCa};
use crate::testing::identity::{TestCa, TestCaOptions, TestLeaf, now};

const HOST: &str = "istiod.istio-system.svc";
const ALICE: &str = "spiffe://cluster.local/ns/default/sa/alice";
const DAY: Duration = Duration::from_hours(24);

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
type Connected = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

fn names() -> BTreeSet<String> {
    serving_names("istio-system", "default", HOST, "")
}

fn domains(domains: &[&str]) -> BTreeSet<Arc<str>> {
    domains.iter().map(|domain| Arc::from(*domain)).collect()
}

/// A server of this authority that knows its mesh.
fn server_of(authority: &CertificateAuthority) -> ServerTls {
    let tls = ServerTls::new(Refusals::default());
    tls.set_trust_domains(domains(&["cluster.local"]));
    renew(&tls, authority);
    tls
}

fn renew(tls: &ServerTls, authority: &CertificateAuthority) {
    let certificate = ServingCertificate::issue(authority, &names(), DAY, now());
    tls.set_certificate(certificate.expect("a certificate"));
    tls.set_client_roots(authority.trust_bundle().expect("roots"));
}

fn client(
    roots: &TrustBundle,
    own: Option<Own>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots.store());
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a key"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Shakes hands under a name and tells what the server says of it. With TLS 1.3
/// a client is done before the server has seen its certificate.
async fn connect_as(tls: &ServerTls, client: ClientConfig, host: &str) -> io::Result<Connected> {
    let (near, far) = duplex(1 << 16);
    let host = ServerName::try_from(host.to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(tls.config());
    let (client, server) = tokio::join!(connector.connect(host, near), acceptor.accept(far));
    let server = server?;
    Ok((client?, server))
}

async fn connect(tls: &ServerTls, client: ClientConfig) -> io::Result<Connected> {
    connect_as(tls, client, HOST).await
}

fn root(name: &str) -> TestCa {
    TestCa::root(TestCaOptions::new(name))
}

fn bundle(ca: &TestCa) -> TrustBundle {
    TrustBundle::from_pem(ca.root_pem().as_bytes()).expect("roots")
}

async fn echo((client, server): &mut Connected) {
    client.write_all(b"ping").await.expect("sent");
    client.flush().await.expect("sent");
    let mut got = [0; 4];
    server.read_exact(&mut got).await.expect("received");
    assert_eq!(&got, b"ping");
}

#[tokio::test]
async fn a_client_without_certificate_is_served_in_both_versions() {
    let root = root("root");
    let tls = server_of(&root.authority());
    for version in [&TLS12, &TLS13] {
        for host in &names() {
            let client = client(&bundle(&root), None, version);
            let mut connected = connect_as(&tls, client, host).await.expect("connected");
            let (_, session) = connected.1.get_ref();
            assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
            let spoken = session
                .protocol_version()
                .map(|version| format!("{version:?}"));
            assert!(format!("{version:?}").contains(&spoken.expect("a version")));
            assert!(session.peer_certificates().is_none());
            echo(&mut connected).await;
        }
    }
}

#[tokio::test]
async fn a_verified_client_is_known_by_its_uri_name() {
    let root = root("root");
    let ca = root.intermediate(TestCaOptions::new("intermediate"));
    let tls = server_of(&ca.authority());
    for version in [&TLS12, &TLS13] {
        let own = ca.leaf(&TestLeaf::new(&[ALICE]));
        let client = client(&bundle(&root), Some(own), version);
        let connected = connect(&tls, client).await.expect("connected");
        let chain = connected
            .1
            .get_ref()
            .1
            .peer_certificates()
            .expect("a chain");
        assert_eq!(peer_identities(chain), [ALICE]);
    }
    assert_eq!(tls.shared.refusals.counter().get(), 0);
}

#[tokio::test]
async fn a_bad_client_certificate_ends_the_handshake_with_its_reason() {
    let (ours, theirs) = (root("root"), root("foreign"));
    let tls = server_of(&ours.authority());
    let hour = Duration::from_hours(1);
    let good = TestLeaf::new(&[ALICE]);
    let expired = TestLeaf {
        not_before: now() - 2 * hour,
        not_after: now() - hour,
        ..good.clone()
    };
    let early = TestLeaf {
        not_before: now() + hour,
        not_after: now() + 2 * hour,
        ..good.clone()
    };
    let server_only = TestLeaf {
        usages: &[ExtendedKeyUsagePurpose::ServerAuth],
        ..good.clone()
    };
    let cases = [
        ("expired", ours.leaf(&expired), "xpired"),
        ("early", ours.leaf(&early), "NotValidYet"),
        ("foreign", theirs.leaf(&good), "UnknownIssuer"),
        ("purpose", ours.leaf(&server_only), "server authentication"),
        ("no name", ours.leaf(&TestLeaf::new(&[])), "0 URI names"),
        (
            "two names",
            ours.leaf(&TestLeaf::new(&[ALICE, "spiffe://cluster.local/ns/a/sa/b"])),
            "2 URI names",
        ),
        (
            "no SPIFFE",
            ours.leaf(&TestLeaf::new(&["https://example.com/"])),
            "is not spiffe://",
        ),
        (
            "other mesh",
            ours.leaf(&TestLeaf::new(&[
                "spiffe://other.example/ns/default/sa/alice",
            ])),
            "trust domain",
        ),
    ];
    let count = cases.len();
    for (what, own, reason) in cases {
        for version in [&TLS12, &TLS13] {
            let own = (own.0.clone(), own.1.clone_key());
            let client = client(&bundle(&ours), Some(own), version);
            let error = connect(&tls, client).await.expect_err(what);
            assert!(error.to_string().contains(reason), "{what}: {error}");
        }
    }
    let refused = tls.shared.refusals.counter().get();
    assert_eq!(refused, 2 * u64::try_from(count).unwrap());
}

#[tokio::test]
async fn without_certificate_or_roots_nobody_is_let_in() {
    let root = root("root");
    let authority = root.authority();
    let tls = ServerTls::new(Refusals::default());
    let anonymous = || client(&bundle(&root), None, &TLS13);
    assert!(!tls.has_certificate());
    connect(&tls, anonymous())
        .await
        .expect_err("no certificate");

    let certificate = ServingCertificate::issue(&authority, &names(), DAY, now());
    tls.set_certificate(certificate.expect("a certificate"));
    connect(&tls, anonymous()).await.expect("connected");
    let own = root.leaf(&TestLeaf::new(&[ALICE]));
    let error = connect(&tls, client(&bundle(&root), Some(own), &TLS13)).await;
    let error = error.expect_err("no roots").to_string();
    assert!(error.contains("no roots"), "{error}");
}

#[tokio::test]
async fn a_new_root_counts_for_new_connections_and_drops_no_open_one() {
    let (old, new) = (root("old"), root("new"));
    let authority = old.authority();
    let tls = server_of(&authority);
    let mut published = tls.published_roots();
    published.mark_unchanged();
    let of_old = || Some(old.leaf(&TestLeaf::new(&[ALICE])));
    let mut open = connect(&tls, client(&bundle(&old), of_old(), &TLS13))
        .await
        .expect("connected");

    let ca = SigningCa::from_pem(&new.pems(), now()).expect("a CA");
    assert!(authority.install(ca));
    renew(&tls, &authority);

    echo(&mut open).await;
    assert!(published.has_changed().unwrap());
    let roots = TrustBundle::from_pem(published.borrow().as_bytes()).expect("roots");
    assert_eq!(roots.roots(), bundle(&new).roots());
    let of_new = new.leaf(&TestLeaf::new(&[ALICE]));
    connect(&tls, client(&roots, Some(of_new), &TLS13))
        .await
        .expect("connected");
    connect(&tls, client(&roots, of_old(), &TLS13))
        .await
        .expect_err("a root that is gone");
    connect(&tls, client(&bundle(&old), None, &TLS13))
        .await
        .expect_err("a new certificate");
}

#[tokio::test]
async fn while_both_roots_are_in_the_bundle_clients_of_both_are_known() {
    let (old, new) = (root("old"), root("new"));
    let mut pems = new.pems();
    pems.roots = format!("{}{}", old.certificate(), new.certificate()).into();
    let authority = CertificateAuthority::new(Lifetimes::default());
    authority.install(SigningCa::from_pem(&pems, now()).expect("a CA"));
    let tls = server_of(&authority);
    for ca in [&old, &new] {
        let own = ca.leaf(&TestLeaf::new(&[ALICE]));
        let roots = authority.trust_bundle().expect("roots");
        connect(&tls, client(&roots, Some(own), &TLS13))
            .await
            .expect("connected");
    }
}

#[tokio::test]
async fn sessions_are_not_resumed_past_a_verification() {
    let root = root("root");
    let tls = server_of(&root.authority());
    let own = root.leaf(&TestLeaf::new(&[ALICE]));
    for version in [&TLS12, &TLS13] {
        let own = (own.0.clone(), own.1.clone_key());
        let client = client(&bundle(&root), Some(own), version);
        for _ in 0..2 {
            let mut connected = connect(&tls, client.clone()).await.expect("connected");
            echo(&mut connected).await;
            let kind = connected.1.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn names_are_those_of_the_services_and_of_the_discovery_address() {
    let all = serving_names("sys", "canary", "xds.example.com", "a.example, 10.0.0.1,");
    let expected = [
        "10.0.0.1",
        "a.example",
        "istio-pilot.sys.svc",
        "istiod-canary.sys.svc",
        "istiod-remote.sys.svc",
        "istiod.sys.svc",
        "xds.example.com",
    ];
    assert_eq!(all, expected.map(str::to_owned).into());
    assert_eq!(serving_names("sys", "default", "", "").len(), 3);
}

#[test]
fn files_of_a_serving_certificate_must_fit() {
    let (root, other) = (root("root"), root("other"));
    let certificate = root.certificate();
    let read = |certificate: &str, key: &str, roots: &str| {
        ServingCertificate::from_pem(certificate.as_bytes(), key.as_bytes(), roots.as_bytes())
    };
    let roots = root.root_pem();
    assert!(read(&certificate, root.key(), roots).is_ok());
    let refused = read(&certificate, other.key(), roots).expect_err("another key");
    assert_eq!(refused, ServingError::OtherKey);
    let refused = read("", root.key(), roots).expect_err("no certificate");
    assert_eq!(refused, ServingError::Certificate);
    let refused = read(&certificate, &certificate, roots).expect_err("no key");
    assert_eq!(refused, ServingError::Key);
    let refused = read(&certificate, root.key(), "").expect_err("no roots");
    assert!(matches!(refused, ServingError::Roots(_)));
}

#[test]
fn no_key_is_in_a_debug_text() {
    let root = root("root");
    let authority = root.authority();
    let certificate = ServingCertificate::issue(&authority, &names(), DAY, now()).unwrap();
    let tls = server_of(&authority);
    let text = format!("{authority:?} {certificate:?} {tls:?} {:?}", root.pems());
    assert!(!text.contains("PRIVATE") && text.len() < 1000, "{text}");
}
