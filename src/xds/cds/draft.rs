//! An Envoy cluster while it is built.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        CircuitBreakers, Cluster, Filter,
        circuit_breakers::Thresholds,
        cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType},
    },
    common::matcher::v3::MatchPredicate,
    core::v3::{
        Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common,
        UpstreamHttpProtocolOptions,
    },
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, OutlierDetection, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use prost::Message;

use crate::model::{NodeKind, Protocol, Service, TypeUrl};
use crate::wire::{EncodedResource, proto};
use crate::xds::pb;
use crate::xds::value::{self, Fields, Value};

/// Field `metadata` of `config.cluster.v3.Cluster`.
const METADATA: u32 = 25;
/// Field `load_assignment`.
const LOAD_ASSIGNMENT: u32 = 33;

/// HTTP version towards the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Upstream {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the caller speaks.
    AsDownstream,
}

impl Upstream {
    /// istiod: `setUpstreamProtocol`; only sidecars sniff.
    pub(super) fn of(protocol: Protocol, kind: NodeKind) -> Self {
        match protocol {
            p if p.is_http2() => Self::Http2,
            Protocol::Auto if kind == NodeKind::Sidecar => Self::AsDownstream,
            _ => Self::Http1,
        }
    }

    fn options(self, http2: Http2ProtocolOptions) -> UpstreamProtocolOptions {
        let http1 = Http1ProtocolOptions::default;
        let explicit = |config| {
            UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        };
        match self {
            Self::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1())),
            Self::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
            Self::AsDownstream => {
                UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                    http_protocol_options: Some(http1()),
                    http2_protocol_options: Some(Http2ProtocolOptions::default()),
                    ..UseDownstreamHttpConfig::default()
                })
            }
        }
    }
}

/// An Envoy cluster, and beside it what goes into its maps.
#[derive(Debug)]
pub(super) struct Draft {
    /// The message, without the parts below.
    pub(super) cluster: Cluster,
    /// How Envoy finds the endpoints.
    pub(super) discovery: DiscoveryType,
    /// HTTP version.
    pub(super) upstream: Upstream,
    /// `common_http_protocol_options`, if any is set.
    pub(super) http: Option<Common>,
    /// `upstream_http_protocol_options`, if any is set.
    pub(super) upstream_http: Option<UpstreamHttpProtocolOptions>,
    /// Settings of an [`Upstream::Http2`].
    pub(super) http2: Http2ProtocolOptions,
    /// Which answers count as failures; none for Envoy's own choice.
    pub(super) failures: Option<MatchPredicate>,
    /// Filter metadata `istio`.
    pub(super) metadata: Fields,
    /// Encoded `load_assignment`.
    pub(super) load_assignment: Option<Vec<u8>>,
}

impl Draft {
    /// A cluster with the defaults of all.
    pub(super) fn new(name: String, discovery: DiscoveryType, connect_timeout: Duration) -> Self {
        let cluster = Cluster {
            // istiod: the delimiter keeps the stats prefix from being split.
            alt_stat_name: format!("{name};"),
            name,
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
            connect_timeout: pb::duration(connect_timeout),
            ..Cluster::default()
        };
        Self {
            cluster,
            discovery,
            upstream: Upstream::default(),
            http: None,
            upstream_http: None,
            http2: Http2ProtocolOptions::default(),
            failures: None,
            metadata: Fields::new(),
            load_assignment: None,
        }
    }

    /// Speaks HTTP/2 where it would speak HTTP/1.1.
    pub(super) fn upgrade(&mut self) {
        if self.upstream == Upstream::Http1 {
            self.upstream = Upstream::Http2;
        }
    }

    /// Balancing settings; made where there are none yet.
    pub(super) fn common_lb(&mut self) -> &mut CommonLbConfig {
        self.cluster
            .common_lb_config
            .get_or_insert_with(CommonLbConfig::default)
    }

    /// Thresholds that never open, as istiod's: Envoy's default of 1024
    /// connections and 3 retries is too small for a mesh.
    pub(super) fn unlimited() -> Thresholds {
        Thresholds {
            max_connections: pb::uint(u32::MAX),
            max_pending_requests: pb::uint(u32::MAX),
            max_requests: pb::uint(u32::MAX),
            max_retries: pb::uint(u32::MAX),
            ..Thresholds::default()
        }
    }

    /// Sets the circuit breakers.
    pub(super) fn limit(&mut self, thresholds: Thresholds) {
        self.cluster.circuit_breakers = Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        });
    }

    /// Adds istio's TCP metadata exchange, which upstream Envoy does not have.
    pub(super) fn exchange_metadata(&mut self) {
        let (name, config) = value::metadata_exchange();
        self.cluster.filters.push(Filter {
            name: name.to_owned(),
            typed_config: Some(config),
            ..Filter::default()
        });
    }

    /// Names the services behind it, for telemetry.
    pub(super) fn describe<'a>(&mut self, services: impl IntoIterator<Item = &'a Service>) {
        let list = services.into_iter().map(|service| {
            let text = |text: &str| Value::Text(text.to_owned());
            Value::Struct(Fields::from([
                ("host", text(&service.key.hostname)),
                ("name", text(&service.meta.name)),
                ("namespace", text(&service.key.namespace)),
            ]))
        });
        self.metadata
            .insert("services", Value::List(list.collect()));
    }

    /// The framed resource.
    pub(super) fn encode(mut self) -> EncodedResource {
        let is_set = self.http.is_some() || self.upstream_http.is_some() || self.failures.is_some();
        if is_set || self.upstream != Upstream::Http1 {
            let options = HttpProtocolOptions {
                common_http_protocol_options: self.http,
                upstream_http_protocol_options: self.upstream_http,
                upstream_protocol_options: Some(self.upstream.options(self.http2)),
                outlier_detection: self.failures.map(|matcher| OutlierDetection {
                    error_matcher: Some(matcher),
                }),
                ..HttpProtocolOptions::default()
            };
            let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
            // One entry: a hashed map of more would encode in random order.
            let entry = (key, pb::any(&options));
            self.cluster.typed_extension_protocol_options = [entry].into();
        }
        let mut body = self.cluster.encode_to_vec();
        if !self.metadata.is_empty() {
            let metadata = value::istio_metadata(&self.metadata);
            proto::put_bytes(&mut body, METADATA, &metadata);
        }
        if let Some(endpoints) = self.load_assignment {
            proto::put_bytes(&mut body, LOAD_ASSIGNMENT, &endpoints);
        }
        let name: Arc<str> = Arc::from(self.cluster.name.as_str());
        EncodedResource::new(TypeUrl::Cluster.as_str(), name, &body)
    }
}
