//! Handshakes over a pipe, with a client that trusts what proxies are given.

use std::{collections::BTreeSet, convert::Infallible, io, sync::Arc, time::Duration};

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

/// What keeps a certificate current, as a task.
struct Kept {
    tls: ServerTls,
    task: tokio::task::JoinHandle<Infallible>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    #[allow(clippy::disallowed_methods, reason = "the test is the parent")]
    fn start<F: Future<Output = Infallible> + Send + 'static>(
        run: impl FnOnce(ServerTls) -> F,
    ) -> Self {
        let tls = ServerTls::new(Refusals::default());
        tls.set_trust_domains(domains(&["cluster.local"]));
        let task = tokio::spawn(run(tls.clone()));
        Self { tls, task }
    }

    /// Waits until a client of these roots is served, and not with `old`.
    async fn until_served(
        &self,
        roots: &TrustBundle,
        old: Option<&CertificateDer<'_>>,
    ) -> CertificateDer<'static> {
        let wait = async {
            loop {
                if let Ok((client, _)) = connect(&self.tls, client(roots, None, &TLS13)).await {
                    let chain = client.get_ref().1.peer_certificates();
                    let own = chain
                        .and_then(|chain| chain.first())
                        .expect("a certificate");
                    if Some(own) != old {
                        return own.clone().into_owned();
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, wait)
            .await
            .expect("a certificate")
    }
}

#[tokio::test]
async fn an_issued_certificate_is_renewed_before_it_ends_and_with_its_authority() {
    let (old, new) = (root("old"), root("new"));
    let authority = CertificateAuthority::new(Lifetimes::default());
    let (_names, served) = watch::channel(names());
    let lifetime = (Duration::from_secs(4), now as fn() -> _);
    let kept = Kept::start({
        let authority = authority.clone();
        move |tls| serve_issued(authority, tls, served, lifetime)
    });
    connect(&kept.tls, client(&bundle(&old), None, &TLS13))
        .await
        .expect_err("no authority");
    authority.install(SigningCa::from_pem(&old.pems(), now()).expect("a CA"));
    let first = kept.until_served(&bundle(&old), None).await;
    let second = kept.until_served(&bundle(&old), Some(&first)).await;
    assert_ne!(first, second);
    authority.install(SigningCa::from_pem(&new.pems(), now()).expect("a CA"));
    kept.until_served(&bundle(&new), None).await;
}

#[tokio::test]
async fn a_certificate_has_the_names_of_the_mesh_as_they_change() {
    let ca = root("root");
    let (names, served) = watch::channel(names());
    let lifetime = (DAY, now as fn() -> _);
    let authority = ca.authority();
    let kept = Kept::start(move |tls| serve_issued(authority, tls, served, lifetime));
    let first = kept.until_served(&bundle(&ca), None).await;
    names.send_modify(|names| _ = names.insert("xds.example.com".to_owned()));
    kept.until_served(&bundle(&ca), Some(&first)).await;
    let anonymous = client(&bundle(&ca), None, &TLS13);
    connect_as(&kept.tls, anonymous, "xds.example.com")
        .await
        .expect("the new name");
}

/// A certificate for [`HOST`] that `ca` signed, in files.
fn write_files(folder: &std::path::Path, ca: &TestCa) {
    let authority = ca.authority();
    let (key, csr) = {
        let made = crate::identity::new_key_and_csr(HOST, crate::identity::KeyKind::P256);
        let made = made.expect("a key");
        (made.key_pem, made.csr_pem)
    };
    let identities = [HOST.to_owned()];
    let request = crate::identity::IssueRequest {
        csr_pem: &csr,
        identities: &identities,
        validity_seconds: 0,
        now: now(),
    };
    let chain = authority.issue(&request).expect("a certificate");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("tls.key", &key);
    write("ca.crt", ca.root_pem());
    write("tls.crt", &chain[..chain.len() - 1].concat());
}

#[tokio::test]
async fn a_certificate_in_files_is_followed_and_its_roots_count_beside_our_own() {
    let (own, first, second) = (root("own"), root("first"), root("second"));
    let folder = tempfile::tempdir().unwrap();
    let files = ServingFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
        roots: folder.path().join("ca.crt"),
    };
    let authority = own.authority();
    // There is nothing at first: it ends nothing.
    let kept = Kept::start(move |tls| serve_files(files, authority, tls, now));
    write_files(folder.path(), &first);
    kept.until_served(&bundle(&first), None).await;
    for ca in [&own, &first] {
        let workload = ca.leaf(&TestLeaf::new(&[ALICE]));
        let client = client(&bundle(&first), Some(workload), &TLS13);
        connect(&kept.tls, client).await.expect("connected");
    }
    std::fs::write(folder.path().join("tls.crt"), "half of a").unwrap();
    connect(&kept.tls, client(&bundle(&first), None, &TLS13))
        .await
        .expect("the last good one");
    write_files(folder.path(), &second);
    kept.until_served(&bundle(&second), None).await;
    assert_eq!(
        &**kept.tls.published_roots().borrow(),
        bundle(&second).pem()
    );
}
