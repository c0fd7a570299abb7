//! What istio's pilot-agent says to a control plane, said by hand: a token and
//! a signing request, then Envoy's delta stream with the agent's own requests
//! in between.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::config::{
        cluster::v3::{Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType},
        core::v3::Node,
        listener::v3::{Listener, filter::ConfigType},
    },
    envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, http_connection_manager::RouteSpecifier,
    },
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    google::rpc,
};
use hyper_util::rt::TokioIo;
use isthmus::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

pub(crate) const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const LDS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub(crate) const RDS: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
pub(crate) const NDS: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
pub(crate) const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

/// The name that the agent checks where it dials `localhost`.
const SERVER: &str = "istiod.istio-system.svc";
/// How long one answer may take on two busy cores.
const ANSWER: Duration = Duration::from_secs(30);

/// One agent: how it reaches the control plane and what it shows there.
#[derive(Clone)]
pub(crate) struct Agent {
    /// `host:port` of the secure address.
    pub(crate) address: String,
    /// The mounted root certificate, PEM.
    pub(crate) roots: String,
    /// The mounted token.
    pub(crate) token: Option<String>,
    /// Certificate chain and key, where it has some to show.
    pub(crate) identity: Option<(String, String)>,
    pub(crate) cluster: String,
}

/// What the agent keeps of its certificate.
pub(crate) struct Issued {
    /// As answered, element by element.
    pub(crate) elements: Vec<String>,
    pub(crate) key: String,
}

impl Agent {
    async fn connect(&self) -> Channel {
        let tls = self.tls();
        let name = ServerName::try_from(SERVER).expect("a name");
        let address = self.address.clone();
        let connect = service_fn(move |_| {
            let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
            async move {
                let socket = TcpStream::connect(address).await?;
                Ok::<_, io::Error>(TokioIo::new(tls.connect(name, socket).await?))
            }
        });
        let endpoint = Endpoint::from_static("http://localhost:15012");
        let channel = endpoint.connect_with_connector(connect).await;
        channel.expect("a secure connection that the mounted root vouches for")
    }

    fn tls(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.roots) {
            roots.add(root).expect("a root");
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                let own = config.with_client_auth_cert(certificates(chain), key);
                own.expect("a client certificate")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// A request with the agent's headers.
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let ascii = |text: &str| text.parse::<MetadataValue<Ascii>>().expect("ASCII");
        if let Some(token) = &self.token {
            let bearer = ascii(&format!("Bearer {token}"));
            request.metadata_mut().insert("authorization", bearer);
        }
        let cluster = ascii(&self.cluster);
        request.metadata_mut().insert("clusterid", cluster);
        request
    }

    /// Asks for a certificate, with a name that the server is to ignore.
    pub(crate) async fn certificate(&self) -> Result<Issued, Status> {
        // The agent's default is RSA with 2048 bits.
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        let mut params = rcgen::CertificateParams::default();
        let wish = "spiffe://cluster.local/ns/kube-system/sa/wish";
        let wish = rcgen::SanType::URI(wish.try_into().expect("a URI"));
        params.subject_alt_names = vec![wish];
        let csr = params.serialize_request(&key).and_then(|csr| csr.pem());
        let request = self.request(IstioCertificateRequest {
            csr: csr.expect("a request"),
            validity_duration: 86_400,
            metadata: None,
        });
        let mut client = tonic::client::Grpc::new(self.connect().await);
        client.ready().await.expect("a connection");
        let path = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let answer = timeout(ANSWER, client.unary(request, path, codec)).await;
        let answer = answer.expect("an answer in time")?;
        Ok(Issued {
            elements: answer.into_inner().cert_chain,
            key: key.serialize_pem(),
        })
    }

    /// Opens the stream that carries Envoy's requests and the agent's own.
    pub(crate) async fn stream(&self, node: Node, held: &[String]) -> Result<Stream, Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(self.connect().await);
        let (requests, stream) = mpsc::channel(16);
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: CDS.to_owned(),
            initial_resource_versions: versions(held),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.expect("room");
        let request = self.request(ReceiverStream::new(stream));
        let opened = timeout(ANSWER, client.delta_aggregated_resources(request)).await;
        let responses = opened.expect("an answer in time")?.into_inner();
        Ok(Stream {
            requests,
            responses,
        })
    }
}

/// Envoy behind istiod holds resources without versions.
fn versions(names: &[String]) -> std::collections::HashMap<String, String> {
    let names = names.iter().map(|name| (name.clone(), String::new()));
    names.collect()
}

pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.map(|one| one.expect("a certificate")).collect()
}

/// One delta stream.
pub(crate) struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    /// Asks for names of a type, as the holder of `held`.
    pub(crate) async fn ask(&self, type_url: &str, names: &[String], held: &[String]) {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.to_vec(),
            initial_resource_versions: versions(held),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        // A stream that ended tells why when it is read.
        let _ = self.requests.send(request).await;
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = timeout(ANSWER, self.responses.message()).await;
        let next = next.unwrap_or_else(|_| panic!("no answer in {ANSWER:?}"));
        Ok(next?.expect("the stream goes on"))
    }

    /// The next response, which must be of this type, acknowledged.
    pub(crate) async fn expect(&mut self, type_url: &str) -> DeltaDiscoveryResponse {
        let response = self.next().await.expect("the stream goes on");
        assert_eq!(response.type_url, type_url);
        self.reply(&response, None).await;
        response
    }

    /// Acknowledges a response, or refuses it.
    pub(crate) async fn reply(&self, to: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: to.type_url.clone(),
            response_nonce: to.nonce.clone(),
            error_detail: error.map(|message| rpc::Status {
                code: 13,
                message: message.to_owned(),
                ..rpc::Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// That nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self, time: Duration) {
        if let Ok(next) = timeout(time, self.responses.message()).await {
            panic!("not quiet: {next:?}");
        }
    }

    /// Everything in the order in which Envoy and the agent ask on one stream.
    pub(crate) async fn start(&mut self) -> Held {
        let clusters = self.expect(CDS).await.resources;
        let mut names = eds_names(&clusters);
        names.push("outbound|1||no.such.host".to_owned());
        self.ask(EDS, &names, &[]).await;
        let mut endpoints = self.expect(EDS).await.resources;
        while endpoints.len() < names.len() {
            endpoints.extend(self.expect(EDS).await.resources);
        }
        // Only now, and when the agent sees it pass by it asks for its own.
        self.ask(LDS, &[], &[]).await;
        self.ask(NDS, &[], &[]).await;
        self.ask(HEALTH, &[], &[]).await;
        let listeners = self.expect(LDS).await.resources;
        let table = self.expect(NDS).await.resources;
        let routes = rds_names(&listeners);
        self.ask(RDS, &routes, &[]).await;
        let mut answered = self.expect(RDS).await.resources;
        while answered.len() < routes.len() {
            answered.extend(self.expect(RDS).await.resources);
        }
        Held {
            clusters,
            endpoints,
            listeners,
            routes: answered,
            table,
        }
    }
}

/// What a proxy holds.
pub(crate) struct Held {
    pub(crate) clusters: Vec<Resource>,
    pub(crate) endpoints: Vec<Resource>,
    pub(crate) listeners: Vec<Resource>,
    pub(crate) routes: Vec<Resource>,
    pub(crate) table: Vec<Resource>,
}

/// Names of resources.
pub(crate) fn names(resources: &[Resource]) -> Vec<String> {
    resources.iter().map(|r| r.name.clone()).collect()
}

/// The resource of a name, decoded.
pub(crate) fn decode<M: Message + Default>(resource: &Resource) -> M {
    let any = resource.resource.as_ref().expect("a resource");
    M::decode(&*any.value).expect("what its type says")
}

/// Names that Envoy asks EDS for.
fn eds_names(clusters: &[Resource]) -> Vec<String> {
    let eds = |resource: &&Resource| {
        let kind = decode::<Cluster>(resource).cluster_discovery_type;
        kind == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
    };
    clusters
        .iter()
        .filter(eds)
        .map(|r| r.name.clone())
        .collect()
}

/// Names that Envoy asks RDS for.
fn rds_names(listeners: &[Resource]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for listener in listeners.iter().map(decode::<Listener>) {
        let chains = listener.filter_chains.iter();
        let filters = chains
            .chain(&listener.default_filter_chain)
            .flat_map(|chain| &chain.filters);
        for filter in filters {
            let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
                continue;
            };
            if !any.type_url.ends_with(".HttpConnectionManager") {
                continue;
            }
            let manager = HttpConnectionManager::decode(&*any.value).expect("a manager");
            if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
                names.insert(rds.route_config_name);
            }
        }
    }
    names.into_iter().collect()
}
