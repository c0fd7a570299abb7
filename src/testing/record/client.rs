//! An ADS client that asks as a sidecar does: CDS, then EDS, LDS, RDS.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{Locality, Node},
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::{Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::protobuf::{Any, ListValue, Struct, Value, value::Kind},
};
use prost::{Message, Name};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::ProxySpec;

/// All that a proxy is served, by name.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// CDS.
    pub clusters: BTreeMap<String, Cluster>,
    /// EDS of all EDS clusters.
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
    /// LDS.
    pub listeners: BTreeMap<String, Listener>,
    /// RDS of all routes that a listener names.
    pub routes: BTreeMap<String, RouteConfiguration>,
}

/// Why no recording came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the transport said.
        source: tonic::transport::Error,
    },
    /// The stream ended with a status.
    #[error("the control plane ended the stream of {proxy}: {source}")]
    Stream {
        /// Who asked.
        proxy: String,
        /// gRPC status.
        source: Box<Status>,
    },
    /// The stream ended.
    #[error("the control plane closed the stream of {proxy} before it answered {type_url}")]
    Closed {
        /// Who asked.
        proxy: String,
        /// What for.
        type_url: String,
    },
    /// Nothing came.
    #[error("no answer for {proxy} within {LIMIT:?}: {type_url} {missing:?}")]
    Timeout {
        /// Who asked.
        proxy: String,
        /// What for.
        type_url: String,
        /// The names without an answer; empty for all resources of the type.
        missing: BTreeSet<String>,
    },
    /// Not the message that the type URL promises.
    #[error("{name} for {proxy} is no {type_url}: {source}")]
    Decode {
        /// Who asked.
        proxy: String,
        /// The resource.
        name: String,
        /// Its type.
        type_url: String,
        /// What prost said.
        source: prost::DecodeError,
    },
}

/// How long one type may take to be answered in full.
const LIMIT: Duration = Duration::from_secs(20);

/// Connects to the plaintext ADS port at `address` (`host:port`) as `proxy`.
pub async fn record(address: &str, proxy: &ProxySpec) -> Result<Recording, RecordError> {
    let mut client = Client::connect(address, proxy).await?;
    let clusters = client.all::<Cluster>().await?;
    let endpoints = client
        .named(clusters.values().filter_map(eds_name).collect())
        .await?;
    let listeners = client.all::<Listener>().await?;
    let routes = client
        .named(listeners.values().flat_map(route_names).collect())
        .await?;
    Ok(Recording {
        clusters,
        endpoints,
        listeners,
        routes,
    })
}

struct Client {
    proxy: String,
    /// Sent with the first request only.
    node: Option<Node>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn connect(address: &str, proxy: &ProxySpec) -> Result<Self, RecordError> {
        let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await;
        let client = client.map_err(|source| RecordError::Connect {
            address: address.to_owned(),
            source,
        })?;
        let (requests, stream) = mpsc::channel(16);
        let responses = client
            .max_decoding_message_size(usize::MAX)
            .delta_aggregated_resources(ReceiverStream::new(stream))
            .await
            .map_err(|status| RecordError::stream(&proxy.name, status))?;
        Ok(Self {
            proxy: proxy.name.clone(),
            node: Some(node(proxy)),
            requests,
            responses: responses.into_inner(),
        })
    }

    /// All resources of a type: what its first answer has.
    async fn all<T: Message + Name + Default>(
        &mut self,
    ) -> Result<BTreeMap<String, T>, RecordError> {
        self.answered(BTreeSet::new()).await
    }

    async fn named<T: Message + Name + Default>(
        &mut self,
        names: BTreeSet<String>,
    ) -> Result<BTreeMap<String, T>, RecordError> {
        // No names would mean all of them.
        if names.is_empty() {
            Ok(BTreeMap::new())
        } else {
            self.answered(names).await
        }
    }

    async fn answered<T: Message + Name + Default>(
        &mut self,
        mut missing: BTreeSet<String>,
    ) -> Result<BTreeMap<String, T>, RecordError> {
        self.send(DeltaDiscoveryRequest {
            type_url: T::type_url(),
            resource_names_subscribe: missing.iter().cloned().collect(),
            ..DeltaDiscoveryRequest::default()
        })
        .await?;
        let mut found = BTreeMap::new();
        loop {
            let next = timeout(LIMIT, self.next(&T::type_url())).await;
            let Ok(response) = next else {
                let (proxy, type_url) = (self.proxy.clone(), T::type_url());
                return Err(RecordError::Timeout {
                    proxy,
                    type_url,
                    missing,
                });
            };
            let response = response?;
            for name in &response.removed_resources {
                missing.remove(name);
            }
            for resource in response.resources {
                missing.remove(&resource.name);
                if let Some(any) = resource.resource {
                    let message = self.decode(&resource.name, &any)?;
                    found.insert(resource.name, message);
                }
            }
            if missing.is_empty() {
                return Ok(found);
            }
        }
    }

    /// The next response of a type. Acknowledges all that come, as Envoy does.
    async fn next(&mut self, type_url: &str) -> Result<DeltaDiscoveryResponse, RecordError> {
        loop {
            let message = self.responses.message().await;
            let message = message.map_err(|status| RecordError::stream(&self.proxy, status))?;
            let Some(response) = message else {
                return Err(self.closed(type_url));
            };
            self.send(DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            })
            .await?;
            if response.type_url == type_url {
                return Ok(response);
            }
        }
    }

    async fn send(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), RecordError> {
        request.node = self.node.take();
        let type_url = request.type_url.clone();
        let sent = self.requests.send(request).await;
        sent.map_err(|_| self.closed(&type_url))
    }

    fn closed(&self, type_url: &str) -> RecordError {
        RecordError::Closed {
            proxy: self.proxy.clone(),
            type_url: type_url.to_owned(),
        }
    }

    fn decode<T: Message + Name + Default>(&self, name: &str, any: &Any) -> Result<T, RecordError> {
        T::decode(any.value.as_slice()).map_err(|source| RecordError::Decode {
            proxy: self.proxy.clone(),
            name: name.to_owned(),
            type_url: any.type_url.clone(),
            source,
        })
    }
}

impl RecordError {
    fn stream(proxy: &str, status: Status) -> Self {
        Self::Stream {
            proxy: proxy.to_owned(),
            source: Box::new(status),
        }
    }
}

fn eds_name(cluster: &Cluster) -> Option<String> {
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    if cluster.cluster_discovery_type != Some(eds) {
        return None;
    }
    let service = cluster
        .eds_cluster_config
        .as_ref()
        .map(|eds| eds.service_name.clone());
    service
        .filter(|name| !name.is_empty())
        .or_else(|| Some(cluster.name.clone()))
}

fn route_names(listener: &Listener) -> BTreeSet<String> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let configs = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => Some(any),
        _ => None,
    });
    let managers = configs
        .filter(|any| any.type_url == HttpConnectionManager::type_url())
        .filter_map(|any| HttpConnectionManager::decode(any.value.as_slice()).ok());
    managers
        .filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
            _ => None,
        })
        .collect()
}

fn node(proxy: &ProxySpec) -> Node {
    let fields = proxy.metadata.iter();
    let locality = &proxy.locality;
    Node {
        id: proxy.id.clone(),
        cluster: proxy.name.clone(),
        metadata: Some(Struct {
            fields: fields.map(|(k, v)| (k.clone(), value(v))).collect(),
        }),
        locality: Some(Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        }),
        ..Node::default()
    }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(*bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}
