//! HTTP connection managers.

use std::time::Duration;

use envoy_types::pb::envoy::config::{
    core::v3::{Http1ProtocolOptions, Http2ProtocolOptions},
    route::v3::RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::filters::{
    http::{
        cors::v3::Cors,
        fault::v3::HttpFault,
        grpc_stats::v3::{
            FilterConfig as GrpcStats, filter_config::PerMethodStatSpecifier::StatsForAllMethods,
        },
        router::v3::Router,
    },
    network::http_connection_manager::v3::{
        HttpConnectionManager, HttpFilter, Rds,
        http_connection_manager::{
            ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
            SetCurrentClientCertDetails, UpgradeConfig,
        },
        http_filter::ConfigType,
    },
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use crate::model::{IstioFilters, Protocol};
use crate::wire::proto;
use crate::xds::pb;
use crate::xds::value::{Fields, Value, encode_struct};

/// What the `server` header says.
const SERVER_NAME: &str = "istio-envoy";

/// Which way the requests of a connection manager go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Outbound,
    Inbound,
}

/// A connection manager that routes by the RDS resource `routes`.
pub(super) fn manager(
    stat_prefix: String,
    routes: &str,
    filters: IstioFilters,
) -> HttpConnectionManager {
    let routes = RouteSpecifier::Rds(Rds {
        config_source: pb::ads(),
        route_config_name: routes.to_owned(),
    });
    let filters = http_filters(filters, Direction::Outbound);
    common(stat_prefix, routes, filters)
}

/// A connection manager for requests to the workload.
pub(super) fn inbound_manager(
    stat_prefix: String,
    routes: RouteConfiguration,
    protocol: Protocol,
    filters: IstioFilters,
) -> HttpConnectionManager {
    let filters = http_filters(filters, Direction::Inbound);
    let http2 = protocol.is_http2().then(Http2ProtocolOptions::default);
    let mut manager = HttpConnectionManager {
        http2_protocol_options: http2,
        server_name: SERVER_NAME.to_owned(),
        // The application learns who calls it.
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            subject: pb::boolean(true),
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        ..common(stat_prefix, RouteSpecifier::RouteConfig(routes), filters)
    };
    manager.set_forward_client_cert_details(ForwardClientCertDetails::AppendForward);
    manager
}

fn common(
    stat_prefix: String,
    routes: RouteSpecifier,
    http_filters: Vec<HttpFilter>,
) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        stat_prefix,
        http_filters,
        route_specifier: Some(routes),
        // The application is the only caller: its headers are trusted.
        use_remote_address: pb::boolean(false),
        normalize_path: pb::boolean(true),
        proxy_100_continue: true,
        // Streams may be quiet for as long as they like.
        stream_idle_timeout: pb::duration(Duration::ZERO),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        ..HttpConnectionManager::default()
    };
    manager.set_path_with_escaped_slashes_action(PathWithEscapedSlashesAction::KeepUnchanged);
    manager
}

/// As [`manager`], for callers from outside the mesh.
pub(in crate::xds) fn gateway_manager(
    stat_prefix: String,
    routes: &str,
    filters: IstioFilters,
) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager {
        // Who calls is who connects: anybody can write a header.
        use_remote_address: pb::boolean(true),
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        server_name: SERVER_NAME.to_owned(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            subject: pb::boolean(true),
            cert: true,
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        ..manager(stat_prefix, routes, filters)
    };
    manager.set_forward_client_cert_details(ForwardClientCertDetails::SanitizeSet);
    manager
}

/// As [`manager`], for callers that use it as an explicit HTTP proxy.
pub(super) fn proxy_manager(stat_prefix: String, filters: IstioFilters) -> HttpConnectionManager {
    HttpConnectionManager {
        http_protocol_options: Some(Http1ProtocolOptions {
            allow_absolute_url: pb::boolean(true),
            ..Http1ProtocolOptions::default()
        }),
        ..manager(stat_prefix, crate::xds::rds::HTTP_PROXY, filters)
    }
}

fn http_filters(istio: IstioFilters, direction: Direction) -> Vec<HttpFilter> {
    let grpc_stats = GrpcStats {
        emit_filter_state: true,
        // Unset, Envoy takes a deprecated runtime flag's word for it.
        per_method_stat_specifier: pb::boolean(false).map(StatsForAllMethods),
        ..GrpcStats::default()
    };
    let mut filters = Vec::new();
    if istio.peer_metadata {
        filters.push(filter("istio.metadata_exchange", peer_metadata(direction)));
    }
    filters.push(upstream("envoy.filters.http.grpc_stats", &grpc_stats));
    if istio.alpn && direction == Direction::Outbound {
        filters.push(filter("istio.alpn", alpn()));
    }
    filters.push(upstream("envoy.filters.http.fault", &HttpFault::default()));
    filters.push(upstream("envoy.filters.http.cors", &Cors::default()));
    filters.push(upstream("envoy.filters.http.router", &Router::default()));
    filters
}

fn upstream<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    filter(name, pb::any(config))
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

fn peer_metadata(direction: Direction) -> Any {
    let [discovery, propagation] = match direction {
        Direction::Outbound => ["upstream_discovery", "upstream_propagation"],
        Direction::Inbound => ["downstream_discovery", "downstream_propagation"],
    };
    let method = |name| Value::Struct(Fields::from([(name, Value::Struct(Fields::new()))]));
    let config = Fields::from([
        (
            discovery,
            Value::List(vec![method("istio_headers"), method("workload_discovery")]),
        ),
        (propagation, Value::List(vec![method("istio_headers")])),
    ]);
    let type_url = "type.googleapis.com/io.istio.http.peer_metadata.Config";
    pb::typed_struct(type_url, encode_struct(&config))
}

/// `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`: what is offered
/// upstream for HTTP/1.0, 1.1 and 2, so that the receiver tells mesh HTTP apart.
fn alpn() -> Any {
    let protocols = [
        (0, ["istio-http/1.0", "istio", "http/1.0"]),
        (1, ["istio-http/1.1", "istio", "http/1.1"]),
        (2, ["istio-h2", "istio", "h2"]),
    ];
    let mut value = Vec::new();
    for (upstream_protocol, names) in protocols {
        let mut entry = Vec::new();
        if upstream_protocol > 0 {
            proto::put_uint(&mut entry, 1, upstream_protocol);
        }
        for name in names {
            proto::put_bytes(&mut entry, 2, name.as_bytes());
        }
        proto::put_bytes(&mut value, 1, &entry);
    }
    let name = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    }
}
