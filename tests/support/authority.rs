//! A control plane for one test: a certificate authority and a fixed
//! configuration for each proxy, behind TLS as istiod has it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    },
};
use envoy_types::pb::google::protobuf::Any;
use futures::{Stream, StreamExt};
use isthmus::identity::{IssueError, IssueRequest, serving};
use isthmus::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use isthmus::testing::identity::{TestCa, TestCaOptions, now};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use tonic_prost::ProstCodec;

/// The name in its serving certificate.
pub(crate) const NAME: &str = "istiod.istio-system.svc";

/// A running control plane. Dropping it stops it.
pub(crate) struct ControlPlane {
    pub(crate) address: String,
    pub(crate) state: Arc<State>,
    _tasks: JoinSet<()>,
}

/// Names and bodies by type URL.
type ByType = BTreeMap<String, Vec<(String, Any)>>;

/// What it serves, and what it has seen.
pub(crate) struct State {
    /// The authority that signs.
    pub(crate) ca: Mutex<TestCa>,
    /// The one token that is taken; it is of `spiffe://cluster.local/ns/…`.
    pub(crate) tokens: Mutex<BTreeMap<String, String>>,
    /// Resources by the name of the proxy, then by type URL.
    pub(crate) resources: Mutex<BTreeMap<String, ByType>>,
    /// It takes requests for certificates and does not answer.
    pub(crate) silent: AtomicBool,
    pub(crate) issued: AtomicU64,
    /// `clusterid` of requests for certificates.
    pub(crate) clusters: Mutex<BTreeSet<String>>,
}

impl ControlPlane {
    /// Starts on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = TestCa::root(TestCaOptions::new("root"));
        let tls = serving_tls(&ca);
        let state = Arc::new(State {
            ca: Mutex::new(ca),
            tokens: Mutex::default(),
            resources: Mutex::default(),
            silent: AtomicBool::new(false),
            issued: AtomicU64::new(0),
            clusters: Mutex::default(),
        });
        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = inner.local_addr().expect("an address");
        let outer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = outer.local_addr().expect("an address").to_string();
        let mut tasks = JoinSet::new();
        let services = Server::builder()
            .add_service(Signer(Arc::clone(&state)))
            .add_service(AggregatedDiscoveryServiceServer::new(Fixed(Arc::clone(
                &state,
            ))));
        tasks.spawn(async move {
            let served = services.serve_with_incoming(TcpListenerStream::new(inner));
            served.await.expect("it serves");
        });
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = outer.accept().await {
                let acceptor = TlsAcceptor::from(tls.config());
                connections.spawn(async move {
                    let Ok(mut socket) = acceptor.accept(socket).await else {
                        return;
                    };
                    let mut plain = TcpStream::connect(target).await.expect("it listens");
                    let _ = copy_bidirectional(&mut socket, &mut plain).await;
                });
            }
        });
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// The root, as PEM.
    pub(crate) fn roots(&self) -> String {
        self.state
            .ca
            .lock()
            .expect("no panic")
            .root_pem()
            .to_owned()
    }

    /// Takes `token` as that of `identity`.
    pub(crate) fn trust(&self, token: &str, identity: &str) {
        let mut tokens = self.state.tokens.lock().expect("no panic");
        tokens.insert(token.to_owned(), identity.to_owned());
    }

    /// Serves these resources to the proxy of a pod.
    pub(crate) fn serve(&self, pod: &str, type_url: &str, resources: Vec<(String, Any)>) {
        let mut all = self.state.resources.lock().expect("no panic");
        let of_pod = all.entry(pod.to_owned()).or_default();
        of_pod.insert(type_url.to_owned(), resources);
    }

    /// Certificates issued so far.
    pub(crate) fn issued(&self) -> u64 {
        self.state.issued.load(Ordering::Relaxed)
    }
}

fn serving_tls(ca: &TestCa) -> serving::ServerTls {
    let authority = ca.authority();
    let names = BTreeSet::from([NAME.to_owned(), "127.0.0.1".to_owned()]);
    let lifetime = Duration::from_hours(24);
    let certificate = serving::ServingCertificate::issue(&authority, &names, lifetime, now());
    let tls = serving::ServerTls::new(serving::Refusals::default());
    tls.set_certificate(certificate.expect("a certificate"));
    tls.set_client_roots(authority.trust_bundle().expect("roots"));
    tls.set_trust_domains(BTreeSet::from(["cluster.local".into()]));
    tls
}

/// `CreateCertificate`.
#[derive(Clone)]
struct Signer(Arc<State>);

impl Signer {
    async fn sign(
        self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name| request.metadata().get(name)?.to_str().ok();
        let token = header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        let tokens = self.0.tokens.lock().expect("no panic").clone();
        let identity = token.and_then(|token| tokens.get(token)).cloned();
        let refused = || Status::unauthenticated("request authenticate failure");
        let identities = [identity.ok_or_else(refused)?];
        let cluster = header("clusterid").unwrap_or_default().to_owned();
        self.0.clusters.lock().expect("no panic").insert(cluster);
        if self.0.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let request = request.into_inner();
        let authority = self.0.ca.lock().expect("no panic").authority();
        let issued = authority.issue(&IssueRequest {
            csr_pem: &request.csr,
            identities: &identities,
            validity_seconds: request.validity_duration,
            now: now(),
        });
        let cert_chain = issued.map_err(|error| match error {
            IssueError::InvalidRequest(error) => Status::invalid_argument(error.to_string()),
            other => Status::internal(other.to_string()),
        })?;
        self.0.issued.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl tonic::server::NamedService for Signer {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tonic::server::UnaryService<IstioCertificateRequest> for Signer {
    type Response = IstioCertificateResponse;
    type Future = Later<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        Box::pin(self.clone().sign(request))
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Signer {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec)
                .unary(service, request)
                .await)
        })
    }
}

/// Delta ADS with one answer for each type.
struct Fixed(Arc<State>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Fixed {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let state = Arc::clone(&self.0);
        let mut pod = None;
        let answers = request.into_inner().filter_map(move |request| {
            let answer = request.map(|request| {
                if let Some(node) = &request.node {
                    let third = node.id.split('~').nth(2).unwrap_or_default();
                    pod = third.split('.').next().map(str::to_owned);
                }
                let pod = pod.as_deref().unwrap_or_default();
                // The rest acknowledges.
                let asks = request.response_nonce.is_empty();
                asks.then(|| state.answer(pod, &request.type_url))
            });
            std::future::ready(answer.transpose())
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl State {
    fn answer(&self, pod: &str, type_url: &str) -> DeltaDiscoveryResponse {
        let all = self.resources.lock().expect("no panic");
        let found = all.get(pod).and_then(|types| types.get(type_url));
        let resource = |(name, body): &(String, Any)| Resource {
            name: name.clone(),
            version: "1".to_owned(),
            resource: Some(body.clone()),
            ..Default::default()
        };
        DeltaDiscoveryResponse {
            system_version_info: "1".to_owned(),
            resources: found.into_iter().flatten().map(resource).collect(),
            type_url: type_url.to_owned(),
            nonce: "1".to_owned(),
            ..Default::default()
        }
    }
}
