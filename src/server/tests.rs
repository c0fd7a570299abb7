//! ADS and certificates over TLS, in one process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest,
};
use envoy_types::pb::google::protobuf::Struct;
use http_body_util::{BodyExt, StreamBody};
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use super::{Certificates, Config, Peer, Service, State, certificates};
use crate::auth::{Authenticators, Gate, JwtRule, Options, PeerCertificate, Policy, TokenIssuer};
use crate::identity::{
    CertificateAuthority, Lifetimes, SigningCa,
    serving::{Refusals, ServerTls, ServingCertificate, serving_names},
};
use crate::mesh::ChangeSet;
use crate::model::TypeUrl;
use crate::testing::{
    ads_server::{AdsServer, Published},
    ads_world::{FakeWorld, node},
    identity::{TestCa, TestCaOptions, TestLeaf, now},
    secure::{SecureClient, SecureStream, agent_request, metadata},
};

const CDS: TypeUrl = TypeUrl::Cluster;
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const HOUR: Duration = Duration::from_hours(1);

/// A server whose authority is `ca`, and an issuer of tokens that it trusts.
struct Secure {
    ca: TestCa,
    issuer: TokenIssuer,
    tls: ServerTls,
    authority: CertificateAuthority,
    server: AdsServer,
}

fn published(issuer: &TokenIssuer, authority: CertificateAuthority, config: Config) -> Published {
    let published = Published::new(FakeWorld::with(&[(CDS, "web")]), config);
    let options = Options {
        rule: Some(JwtRule::parse(&issuer.rule("istio-ca")).unwrap()),
        audiences: vec!["istio-ca".to_owned()],
        reviews: None,
        trusted_gateways: Vec::new(),
    };
    let gate = Gate {
        policy: Policy::default(),
        authenticators: Authenticators::new(options, published.snapshots().clone(), now),
    };
    let certificates = Certificates::new(authority, now, &mut Registry::default());
    published.guarded(gate, certificates)
}

fn serving(authority: &CertificateAuthority) -> ServingCertificate {
    let names = serving_names("istio-system", "", "", "");
    ServingCertificate::issue(authority, &names, HOUR, now()).unwrap()
}

impl Secure {
    fn start() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let ca = TestCa::root(TestCaOptions::new("root"));
        let authority = ca.authority();
        let tls = ServerTls::new(Refusals::default());
        tls.set_trust_domains([Arc::from("cluster.local")].into());
        tls.set_client_roots(authority.trust_bundle().unwrap());
        tls.set_certificate(serving(&authority));
        let issuer = TokenIssuer::new("https://issuer").unwrap();
        let published = published(&issuer, authority.clone(), config);
        let server = AdsServer::serve(published, Some(tls.clone())).unwrap();
        Self {
            ca,
            issuer,
            tls,
            authority,
            server,
        }
    }

    fn client(&self) -> SecureClient {
        SecureClient::new(self.ca.root_pem())
    }

    fn token(&self, audience: &str) -> String {
        let token = self.issuer.issue(("default", "web"), audience, now(), HOUR);
        token.unwrap()
    }

    fn with_token(&self) -> SecureClient {
        self.client().token(&self.token("istio-ca"))
    }

    async fn open(&self, client: &SecureClient) -> Result<SecureStream, tonic::Status> {
        let mut stream = client.open(self.server.address, first(node())).await?;
        stream.next().await.map(|_| stream)
    }

    async fn create(&self, client: &SecureClient) -> Result<Vec<String>, tonic::Status> {
        let (_, request) = agent_request(WEB);
        client
            .create_certificate(self.server.address, request)
            .await
    }
}

fn first(node: Node) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: CDS.as_str().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn node_of(key: &str, value: &str) -> Node {
    Node {
        metadata: Some(metadata(key, value)),
        ..node()
    }
}

#[tokio::test]
async fn a_token_gets_a_certificate_and_the_certificate_a_stream() {
    let secure = Secure::start();
    let (key, request) = agent_request(WEB);
    let client = secure.with_token();
    let chain = client
        .create_certificate(secure.server.address, request)
        .await;
    let chain = chain.unwrap();
    assert!(chain.len() >= 2 && chain.iter().all(|pem| pem.ends_with('\n')));
    assert_eq!(chain.last().unwrap(), secure.ca.root_pem());
    let client = secure.client().issued(&chain, &key);
    let mut stream = secure.open(&client).await.unwrap();
    let [connection] = secure.server.connections().list().try_into().unwrap();
    let identity = connection.identity.as_ref().unwrap();
    assert_eq!(identity.to_string(), WEB);
    // It is served as any other.
    let changes = ChangeSet {
        config: true,
        ..ChangeSet::default()
    };
    secure
        .server
        .change(changes, |world| world.remove(CDS, "web"));
    assert_eq!(stream.next().await.unwrap().removed_resources, ["web"]);
}

#[tokio::test]
async fn names_in_a_request_count_for_nothing() {
    let secure = Secure::start();
    let (_, request) = agent_request("spiffe://cluster.local/ns/istio-system/sa/admin");
    let chain = secure.with_token();
    let chain = chain
        .create_certificate(secure.server.address, request)
        .await;
    let chain = chain.unwrap();
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let names = crate::identity::serving::peer_identities(&[leaf]);
    assert_eq!(names, [WEB]);
}

#[tokio::test]
async fn a_token_opens_a_stream_too() {
    let secure = Secure::start();
    secure.open(&secure.with_token()).await.unwrap();
}

#[tokio::test]
async fn callers_without_credentials_are_refused_at_once() {
    let secure = Secure::start();
    for client in [
        secure.client(),
        secure.client().token("nonsense"),
        secure.client().token(&secure.token("another-audience")),
    ] {
        let error = secure.open(&client).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        let error = secure.create(&client).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        assert!(error.message().starts_with("request authenticate failure"));
    }
    assert!(secure.server.connections().is_empty());
}

#[tokio::test]
async fn strangers_use_up_no_turns_of_new_streams() {
    let secure = Secure::with(Config {
        streams_per_second: Some(0.1),
        ..Config::default()
    });
    let stranger = secure.client();
    let strangers = (0..5).map(|_| secure.open(&stranger));
    for outcome in futures::future::join_all(strangers).await {
        assert_eq!(outcome.unwrap_err().code(), Code::Unauthenticated);
    }
    secure.open(&secure.with_token()).await.unwrap();
    let next = secure.open(&secure.with_token()).await;
    assert_eq!(next.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_proxy_may_only_be_who_its_caller_is() {
    let secure = Secure::start();
    let certificate = secure.ca.leaf(&TestLeaf::new(&[WEB]));
    for client in [
        secure.with_token(),
        secure.client().certificate(certificate),
    ] {
        for node in [
            node_of("NAMESPACE", "istio-system"),
            node_of("SERVICE_ACCOUNT", "admin"),
        ] {
            let stream = client.open(secure.server.address, first(node)).await;
            let error = stream.unwrap().next().await.unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
            assert!(
                error.message().starts_with("authorization failed: "),
                "{error}"
            );
        }
        let node = node_of("SERVICE_ACCOUNT", "web");
        let stream = client.open(secure.server.address, first(node)).await;
        stream.unwrap().next().await.unwrap();
    }
    let metrics = &secure.server.state.metrics;
    assert_eq!(metrics.refusals.count("permission_denied"), 4);
}

#[tokio::test]
async fn foreign_and_expired_certificates_get_no_connection() {
    let secure = Secure::start();
    let foreign = TestCa::root(TestCaOptions::new("foreign"));
    let expired = TestLeaf {
        not_before: now() - 2 * HOUR,
        not_after: now() - HOUR,
        ..TestLeaf::new(&[WEB])
    };
    for own in [
        foreign.leaf(&TestLeaf::new(&[WEB])),
        secure.ca.leaf(&expired),
    ] {
        // Not even with a good token besides.
        let client = secure.with_token().certificate(own);
        secure.open(&client).await.unwrap_err();
        secure.create(&client).await.unwrap_err();
    }
    assert!(secure.server.connections().is_empty());
    let metrics = &secure.server.state.metrics;
    assert_eq!(metrics.refusals.count("handshake"), 4);
}

#[tokio::test]
async fn a_new_root_and_serving_certificate_keep_open_streams() {
    let mut secure = Secure::start();
    let own = secure.ca.leaf(&TestLeaf::new(&[WEB]));
    let old = secure.client().certificate(own);
    let mut stream = secure.open(&old).await.unwrap();
    let next = TestCa::root(TestCaOptions::new("next"));
    let signing = SigningCa::from_pem(&next.pems(), now()).unwrap();
    assert!(secure.authority.install(signing));
    secure
        .tls
        .set_client_roots(secure.authority.trust_bundle().unwrap());
    secure.tls.set_certificate(serving(&secure.authority));
    // New connections see the new certificate, and no old client.
    secure.open(&old).await.unwrap_err();
    secure.ca = next;
    secure.open(&secure.with_token()).await.unwrap();
    let chain = secure.create(&secure.with_token()).await.unwrap();
    assert_eq!(chain.last().unwrap(), secure.ca.root_pem());
    let changes = ChangeSet {
        config: true,
        ..ChangeSet::default()
    };
    secure
        .server
        .change(changes, |world| world.set(CDS, "web", "new"));
    assert_eq!(stream.next().await.unwrap().resources.len(), 1);
}

#[tokio::test]
async fn who_connects_and_says_nothing_holds_up_nobody() {
    let secure = Secure::start();
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(secure.server.address).await.unwrap());
    }
    let client = secure.with_token();
    let open = secure.open(&client);
    timeout(Duration::from_secs(10), open)
        .await
        .unwrap()
        .unwrap();
    // What cannot be TLS is ended at once.
    let mut other = silent.pop().unwrap();
    other.write_all(&[0xff; 100]).await.unwrap();
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() < 20);
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_request_is_its_status() {
    let secure = Secure::start();
    let client = secure.with_token();
    let (_, good) = agent_request(WEB);
    let mut nonsense = good.clone();
    nonsense.csr = "nonsense".to_owned();
    let mut eternal = good.clone();
    eternal.validity_duration = 100 * 365 * 86_400;
    let mut large = good.clone();
    large.csr.push_str(&" ".repeat(certificates::LARGEST));
    let mut others = good.clone();
    others.metadata = Some(metadata("ImpersonatedIdentity", WEB));
    for (request, code, text) in [
        (nonsense, Code::InvalidArgument, "CSR signing error"),
        (eternal, Code::InvalidArgument, "CSR signing error"),
        (large, Code::ResourceExhausted, "at most 65536"),
        (
            others,
            Code::Unauthenticated,
            "request impersonation authentication failure",
        ),
    ] {
        let answer = client
            .create_certificate(secure.server.address, request)
            .await;
        let error = answer.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(text), "{error}");
    }
    let mut plain = good;
    plain.metadata = Some(Struct::default());
    plain.validity_duration = 0;
    let answer = client
        .create_certificate(secure.server.address, plain)
        .await;
    answer.unwrap();
}

/// A call without a network, for the paused clock.
async fn call(state: &Arc<State>, token: &str, body: Vec<Bytes>) -> tonic::Status {
    let service = Service::new(Arc::clone(state));
    let frames = body
        .into_iter()
        .map(|data| Ok::<_, tonic::Status>(http_body::Frame::data(data)));
    let never = futures::stream::pending();
    let body = StreamBody::new(futures::StreamExt::chain(
        futures::stream::iter(frames),
        never,
    ));
    let request = http::Request::post(certificates::CREATE)
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap();
    let channel = crate::auth::Channel::Tls(None);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let response = service.respond(&Peer::new(address, channel), request);
    let body = response.into_body().collect().await.unwrap();
    tonic::Status::from_header_map(body.trailers().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_given_up() {
    let issuer = TokenIssuer::new("https://issuer").unwrap();
    let authority = TestCa::root(TestCaOptions::new("root")).authority();
    let state = published(&issuer, authority, Config::default()).state;
    let token = issuer
        .issue(("default", "web"), "istio-ca", now(), HOUR)
        .unwrap();
    let status = call(
        &state,
        &token,
        vec![Bytes::from_static(&[0, 0, 0, 1, 0, 1])],
    )
    .await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn before_it_is_ready_nothing_is_signed() {
    let issuer = TokenIssuer::new("https://issuer").unwrap();
    let state = {
        let authority = CertificateAuthority::new(Lifetimes::default());
        published(&issuer, authority, Config::default()).state
    };
    let token = issuer
        .issue(("default", "web"), "istio-ca", now(), HOUR)
        .unwrap();
    let (_, request) = agent_request(WEB);
    let body = prost::Message::encode_to_vec(&request);
    let mut framed = vec![0; 3];
    framed.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&body);
    let framed = Bytes::from(framed);
    // The authority has no certificate yet.
    let status = call(&state, &token, vec![framed.clone()]).await;
    assert_eq!(status.code(), Code::Internal);
    state
        .ready
        .store(false, std::sync::atomic::Ordering::Relaxed);
    let status = call(&state, &token, vec![framed]).await;
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_connection_whose_certificate_has_ended_opens_no_further_stream() {
    let secure = Secure::start();
    let expired = TestLeaf {
        not_after: now() - HOUR,
        ..TestLeaf::new(&[WEB])
    };
    let (chain, _) = secure.ca.leaf(&expired);
    let certificate = PeerCertificate::of_verified(Some(&chain));
    let channel = crate::auth::Channel::Tls(certificate);
    let headers = http::HeaderMap::new();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let credentials = crate::auth::Credentials::new(peer, &channel, &headers);
    let gate = secure.server.state.gate.as_ref().unwrap();
    let error = gate.for_ads(&credentials).await.unwrap_err().to_string();
    assert!(
        error.contains("expired while the connection was open"),
        "{error}"
    );
}
