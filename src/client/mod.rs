//! A small delta ADS client: what the demo shows without Envoy, and what tests
//! ask a control plane with.

mod node;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, metadata::MetadataMap, transport::Channel};

pub use node::{NodeError, ProxySpec, SpecLocality};

use crate::model::TypeUrl;

/// Why the client cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The control plane ended the stream with a status.
    #[error("the control plane ended the stream: {0}")]
    Status(#[from] Box<tonic::Status>),
    /// The stream ended.
    #[error("the control plane closed the stream")]
    Closed,
    /// A resource is not what its type says.
    #[error("resource {name} does not decode: {source}")]
    Decode {
        /// The resource.
        name: String,
        /// Why.
        source: prost::DecodeError,
    },
}

/// One delta stream.
#[derive(Debug)]
pub struct AdsClient {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl AdsClient {
    /// Opens a stream to `http://address` as `proxy` and asks for `first` with
    /// `names` (none: all).
    pub async fn open(
        address: &str,
        proxy: &ProxySpec,
        first: TypeUrl,
        names: Vec<String>,
    ) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect {
            address: address.to_owned(),
            source,
        };
        let endpoint =
            Channel::from_shared(format!("http://{address}")).map_err(|_| ClientError::Closed)?;
        let channel = endpoint.connect().await.map_err(connect)?;
        Self::open_on(channel, MetadataMap::new(), proxy.node(), (first, names)).await
    }

    /// Opens a stream on a connection, with these headers, and asks for a type
    /// with names (none: all).
    pub async fn open_on(
        channel: Channel,
        headers: MetadataMap,
        node: Node,
        (first, names): (TypeUrl, Vec<String>),
    ) -> Result<Self, ClientError> {
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
        let (requests, stream) = mpsc::channel(16);
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: first.as_str().to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        requests
            .send(request)
            .await
            .map_err(|_| ClientError::Closed)?;
        let mut asking = tonic::Request::new(ReceiverStream::new(stream));
        *asking.metadata_mut() = headers;
        let response = client.delta_aggregated_resources(asking).await;
        let responses = response.map_err(Box::new)?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// Subscribes to more names (none: all) of a type.
    pub async fn subscribe(&self, ty: TypeUrl, names: Vec<String>) -> Result<(), ClientError> {
        self.send(DeltaDiscoveryRequest {
            type_url: ty.as_str().to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        })
        .await
    }

    /// The next response, acknowledged.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, ClientError> {
        let next = self.responses.message().await.map_err(Box::new)?;
        let response = next.ok_or(ClientError::Closed)?;
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        })
        .await?;
        Ok(response)
    }

    /// The resources of the next response of one type, by name; responses of
    /// other types are acknowledged and passed over.
    pub async fn next_of<M: Message + Default>(
        &mut self,
        ty: TypeUrl,
    ) -> Result<BTreeMap<String, M>, ClientError> {
        loop {
            let response = self.next().await?;
            if response.type_url == ty.as_str() {
                return decode(response);
            }
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) -> Result<(), ClientError> {
        self.requests
            .send(request)
            .await
            .map_err(|_| ClientError::Closed)
    }
}

/// The resources of a response, by name.
pub fn decode<M: Message + Default>(
    response: DeltaDiscoveryResponse,
) -> Result<BTreeMap<String, M>, ClientError> {
    let resources = response.resources.into_iter().map(|resource| {
        let body = resource.resource.unwrap_or_default().value;
        match M::decode(body.as_slice()) {
            Ok(message) => Ok((resource.name, message)),
            Err(source) => Err(ClientError::Decode {
                name: resource.name,
                source,
            }),
        }
    });
    resources.collect()
}
