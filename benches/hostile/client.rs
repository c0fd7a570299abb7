//! A client of the delta protocol, and what there is to ask for.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use envoy_types::pb::google::rpc;
use isthmus::model::TypeUrl;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

pub(crate) const SERVICES: usize = 300;
pub(crate) const CDS: TypeUrl = TypeUrl::Cluster;
pub(crate) const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;

pub(crate) fn host(n: usize) -> String {
    format!("service-{n:03}.shop.svc.cluster.local")
}

pub(crate) fn name(n: usize) -> String {
    format!("outbound|8080||{}", host(n))
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// A stream of a client that speaks as Envoy does, or worse.
pub(crate) struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

/// The first request of `who`.
pub(crate) fn first(who: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: format!("sidecar~10.9.9.9~{who}.shop~shop.svc.cluster.local"),
            ..Node::default()
        }),
        type_url: CDS.as_str().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

impl Client {
    /// A stream of `who`, with room for `window` bytes.
    pub(crate) async fn open(address: &str, who: &str, window: u32) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a url");
        let channel = endpoint.initial_stream_window_size(window).connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut channel = AggregatedDiscoveryServiceClient::new(channel);
        let (requests, stream) = mpsc::channel(64);
        let _ = requests.send(first(who)).await;
        let responses = channel.delta_aggregated_resources(ReceiverStream::new(stream));
        let responses = responses.await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    pub(crate) async fn subscribe(&self, names: Vec<String>) {
        let request = DeltaDiscoveryRequest {
            type_url: EDS.as_str().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        let _ = self.requests.send(request).await;
    }

    pub(crate) async fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        self.responses.message().await.ok().flatten()
    }

    pub(crate) async fn answer(&self, response: DeltaDiscoveryResponse, good: bool) {
        let error = rpc::Status {
            code: 3,
            message: "never".to_owned(),
            ..rpc::Status::default()
        };
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: (!good).then_some(error),
            ..DeltaDiscoveryRequest::default()
        };
        let _ = self.requests.send(request).await;
    }
}
