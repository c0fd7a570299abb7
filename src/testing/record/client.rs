//! Asks as a sidecar does: CDS, then EDS, LDS and RDS of what was named.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        endpoint::v3::ClusterLoadAssignment,
        listener::v3::{Listener, filter::ConfigType},
        route::v3::RouteConfiguration,
    },
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, http_connection_manager::RouteSpecifier,
    },
};
use prost::{Message, Name};
use tokio::time::timeout;

use crate::client::{AdsClient, ClientError, ProxySpec, decode};
use crate::model::TypeUrl;

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
    /// The stream failed.
    #[error("{proxy}: {source}")]
    Client {
        /// Who asked.
        proxy: String,
        /// What happened.
        source: ClientError,
    },
    /// No or not the whole answer came.
    #[error("{proxy}: no answer within {LIMIT:?} for {ty}, names {missing:?}")]
    Timeout {
        /// Who asked.
        proxy: String,
        /// What for.
        ty: TypeUrl,
        /// The names without an answer; none where all resources were asked for.
        missing: BTreeSet<String>,
    },
}

/// How long each response may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Connects to the plaintext ADS port at `address` (`host:port`) as `proxy`.
pub async fn record(address: &str, proxy: &ProxySpec) -> Result<Recording, RecordError> {
    let failed = |source| RecordError::Client {
        proxy: proxy.name.clone(),
        source,
    };
    let first = AdsClient::open(address, proxy, TypeUrl::Cluster, Vec::new()).await;
    let mut asking = Asking {
        proxy: &proxy.name,
        client: first.map_err(failed)?,
    };
    let clusters = asking.answered(TypeUrl::Cluster, BTreeSet::new()).await?;
    let names = clusters.values().filter_map(eds_name).collect();
    let endpoints = asking.named(TypeUrl::ClusterLoadAssignment, names).await?;
    asking.subscribe(TypeUrl::Listener, Vec::new()).await?;
    let listeners = asking.answered(TypeUrl::Listener, BTreeSet::new()).await?;
    let names = listeners.values().flat_map(route_names).collect();
    let routes = asking.named(TypeUrl::RouteConfiguration, names).await?;
    Ok(Recording {
        clusters,
        endpoints,
        listeners,
        routes,
    })
}

struct Asking<'a> {
    proxy: &'a str,
    client: AdsClient,
}

impl Asking<'_> {
    async fn subscribe(&self, ty: TypeUrl, names: Vec<String>) -> Result<(), RecordError> {
        let subscribed = self.client.subscribe(ty, names).await;
        subscribed.map_err(|source| self.failed(source))
    }

    async fn named<T: Message + Default>(
        &mut self,
        ty: TypeUrl,
        names: BTreeSet<String>,
    ) -> Result<BTreeMap<String, T>, RecordError> {
        // A subscription without names would be one to all of them.
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.subscribe(ty, names.iter().cloned().collect()).await?;
        self.answered(ty, names).await
    }

    /// Takes responses until each of the names has come or is said not to exist.
    async fn answered<T: Message + Default>(
        &mut self,
        ty: TypeUrl,
        mut missing: BTreeSet<String>,
    ) -> Result<BTreeMap<String, T>, RecordError> {
        let mut found = BTreeMap::new();
        loop {
            let Ok(next) = timeout(LIMIT, self.client.next()).await else {
                let proxy = self.proxy.to_owned();
                return Err(RecordError::Timeout { proxy, ty, missing });
            };
            let response = next.map_err(|source| self.failed(source))?;
            if response.type_url != ty.as_str() {
                continue;
            }
            for name in &response.removed_resources {
                missing.remove(name);
            }
            let resources = decode(response).map_err(|source| self.failed(source))?;
            missing.retain(|name| !resources.contains_key(name));
            found.extend(resources);
            if missing.is_empty() {
                return Ok(found);
            }
        }
    }

    fn failed(&self, source: ClientError) -> RecordError {
        RecordError::Client {
            proxy: self.proxy.to_owned(),
            source,
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
