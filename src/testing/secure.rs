//! A client of the secure address: TLS, tokens, certificates.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "used by tests, which may panic"
)]

use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use http::{Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::identity::{KeyAndCsr, KeyKind, new_key_and_csr};
use crate::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// The name that agents verify.
pub const HOST: &str = "istiod.istio-system.svc";

/// A certificate chain and its key.
pub type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What a client trusts and presents.
#[derive(Debug, Default)]
pub struct SecureClient {
    /// PEM of the roots.
    pub roots: String,
    /// Client certificate.
    pub own: Option<OwnCertificate>,
    /// Headers of every call.
    pub headers: Vec<(&'static str, String)>,
}

impl SecureClient {
    /// Trusts `roots` and presents nothing.
    pub fn new(roots: &str) -> Self {
        Self {
            roots: roots.to_owned(),
            ..Self::default()
        }
    }

    /// Presents a bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.headers
            .push(("authorization", format!("Bearer {token}")));
        self
    }

    /// Calls its cluster so.
    #[must_use]
    pub fn cluster(mut self, cluster: &str) -> Self {
        self.headers.push(("clusterid", cluster.to_owned()));
        self
    }

    /// Presents a certificate.
    #[must_use]
    pub fn certificate(mut self, own: OwnCertificate) -> Self {
        self.own = Some(own);
        self
    }

    /// Presents a certificate that the service answered with.
    #[must_use]
    pub fn issued(self, chain: &[String], key: &KeyAndCsr) -> Self {
        let pem = chain.concat();
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        self.certificate((chain, key.key.clone_key()))
    }

    /// A connection. A server that refuses the certificate may say so only
    /// when it is used (TLS 1.3).
    pub async fn connect(&self, address: SocketAddr) -> Result<Channel, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.roots.as_bytes()) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let connect = service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let socket = TcpStream::connect(address).await?;
                let host = ServerName::try_from(HOST).map_err(io::Error::other)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(host, socket).await?))
            }
        });
        let endpoint = Channel::from_static("http://server");
        Ok(timeout(LIMIT, endpoint.connect_with_connector(connect)).await??)
    }

    /// Opens a stream on a connection and sends its first request. The first
    /// answer of a server that refuses is a status.
    pub async fn stream(
        &self,
        channel: Channel,
        first: DeltaDiscoveryRequest,
    ) -> Result<SecureStream, Status> {
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
        let (requests, outgoing) = mpsc::channel(16);
        requests.send(first).await.expect("room");
        let request = self.request(ReceiverStream::new(outgoing));
        let responses = timeout(LIMIT, client.delta_aggregated_resources(request));
        let responses = responses.await.expect("an answer in time")?.into_inner();
        Ok(SecureStream {
            requests,
            responses,
        })
    }

    /// The same on a connection of its own.
    pub async fn open(
        &self,
        address: SocketAddr,
        first: DeltaDiscoveryRequest,
    ) -> Result<SecureStream, Status> {
        let channel = self.connect(address).await;
        let channel = channel.map_err(|error| Status::aborted(error.to_string()))?;
        self.stream(channel, first).await
    }

    /// Asks for a certificate, on a connection of its own.
    pub async fn create_certificate(
        &self,
        address: SocketAddr,
        request: IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let channel = self.connect(address).await;
        let channel = channel.map_err(|error| Status::aborted(error.to_string()))?;
        self.create_on(channel, request).await
    }

    /// Asks for a certificate on a connection.
    pub async fn create_on(
        &self,
        channel: Channel,
        request: IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let mut client = Grpc::new(channel);
        let ready = timeout(LIMIT, client.ready()).await.expect("ready in time");
        ready.map_err(|error| Status::aborted(error.to_string()))?;
        let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let path = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
        let path = PathAndQuery::from_static(path);
        let answer = client.unary(self.request(request), path, codec);
        let answer = timeout(LIMIT, answer).await.expect("an answer in time")?;
        Ok(answer.into_inner().cert_chain)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            let value = value.parse().expect("a header");
            request.metadata_mut().insert(*name, value);
        }
        request
    }
}

/// A delta stream.
#[derive(Debug)]
pub struct SecureStream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl SecureStream {
    /// The next response, acknowledged; the status that ends the stream.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = timeout(LIMIT, self.responses.message()).await;
        let next = next.expect("an answer in time")?;
        let response = next.ok_or_else(|| Status::ok("the stream ended"))?;
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        // Fails where the stream has ended: the next call tells how.
        let _ = self.requests.send(ack).await;
        Ok(response)
    }
}

/// A key and the request of an agent.
pub fn agent_request(identity: &str) -> (KeyAndCsr, IstioCertificateRequest) {
    let key = new_key_and_csr(identity, KeyKind::P256).expect("a key");
    let request = IstioCertificateRequest {
        csr: key.csr_pem.clone(),
        validity_duration: 86_400,
        metadata: Some(metadata("CertSigner", "")),
    };
    (key, request)
}

/// One text of a request's metadata.
pub fn metadata(key: &str, value: &str) -> Struct {
    let value = Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    };
    Struct {
        fields: [(key.to_owned(), value)].into(),
    }
}
