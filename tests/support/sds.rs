//! Secrets for one Envoy, as its agent would serve them: a certificate of one
//! identity, and the roots it trusts.

use std::{net::SocketAddr, pin::Pin};

use base64::{Engine, engine::general_purpose::STANDARD};
use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret,
    },
    service::{
        discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        },
        secret::v3::secret_discovery_service_server::{
            SecretDiscoveryService, SecretDiscoveryServiceServer,
        },
    },
};
use envoy_types::pb::google::protobuf::Any;
use futures::{Stream, StreamExt};
use isthmus::testing::identity::{TestCa, TestLeaf};
use prost::{Message, Name};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// A running server. Dropping it stops it.
pub(crate) struct Secrets {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Secrets {
    /// Serves a certificate of `identity` that `ca` signed.
    pub(crate) async fn start(ca: &TestCa, identity: &str) -> Self {
        let (chain, key) = ca.leaf(&TestLeaf::new(&[identity]));
        let chain = chain.iter().map(|der| pem("CERTIFICATE", der));
        let served = Served {
            chain: chain.collect(),
            key: pem("PRIVATE KEY", key.secret_der()),
            roots: ca.root_pem().to_owned(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let service = SecretDiscoveryServiceServer::new(served);
            let server = Server::builder().add_service(service);
            let served = server.serve_with_incoming(TcpListenerStream::new(listener));
            served.await.expect("it serves");
        });
        Self {
            address,
            _task: task,
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[derive(Clone)]
struct Served {
    chain: String,
    key: String,
    roots: String,
}

impl Served {
    fn secret(&self, name: &str) -> Secret {
        let inline = |text: &str| {
            Some(DataSource {
                specifier: Some(Specifier::InlineString(text.to_owned())),
                ..DataSource::default()
            })
        };
        let kind = match name {
            "ROOTCA" => secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: inline(&self.roots),
                ..CertificateValidationContext::default()
            }),
            _ => secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: inline(&self.chain),
                private_key: inline(&self.key),
                ..TlsCertificate::default()
            }),
        };
        Secret {
            name: name.to_owned(),
            r#type: Some(kind),
        }
    }

    /// The answer to a request; none to one that acknowledges.
    fn answer(&self, request: &DiscoveryRequest) -> Option<DiscoveryResponse> {
        if !request.response_nonce.is_empty() {
            return None;
        }
        let names = request.resource_names.iter();
        let packed = names.map(|name| Any {
            type_url: Secret::type_url(),
            value: self.secret(name).encode_to_vec(),
        });
        Some(DiscoveryResponse {
            version_info: "1".to_owned(),
            nonce: "1".to_owned(),
            type_url: Secret::type_url(),
            resources: packed.collect(),
            ..DiscoveryResponse::default()
        })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Served {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let served = self.clone();
        let answers = request.into_inner().filter_map(move |request| {
            let answer = request.map(|request| served.answer(&request));
            std::future::ready(answer.transpose())
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("asked for by nobody"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("asked for by nobody"))
    }
}
