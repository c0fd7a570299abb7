//! Two listeners and a cluster: plain text in, mutual TLS between two proxies,
//! plain text out. Certificates come from the agent's SDS.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    core::v3::{
        Address, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, SocketAddress,
        TrafficDirection, TransportSocket, address,
        api_config_source::ApiType,
        config_source::ConfigSourceSpecifier,
        grpc_service::{EnvoyGrpc, TargetSpecifier},
        socket_address::PortSpecifier,
        transport_socket,
    },
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
    listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
    route::v3::{
        Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
        route_action::ClusterSpecifier, route_match::PathSpecifier,
    },
};
use envoy_types::pb::envoy::extensions::{
    filters::{
        http::router::v3::Router,
        network::{
            http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier,
                http_filter::ConfigType as HttpConfigType,
            },
            tcp_proxy::v3::{TcpProxy, tcp_proxy},
        },
    },
    transport_sockets::tls::v3::{
        CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
        common_tls_context::ValidationContextType,
    },
};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration};
use prost::{Message, Name};

pub(crate) const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// What a listener does with a connection.
#[derive(Clone, Copy)]
pub(crate) enum Traffic {
    /// Bytes: each connection is a connection, and a handshake, upstream.
    Tcp,
    /// Requests.
    Http,
}

/// A cluster of one address.
pub(crate) fn cluster(name: &str, to: SocketAddr, tls: bool) -> (String, Any) {
    let upstream = UpstreamTlsContext {
        common_tls_context: Some(tls_context()),
        ..Default::default()
    };
    let endpoint = Endpoint {
        address: Some(socket(to)),
        ..Default::default()
    };
    let cluster = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: Some(Duration {
            seconds: 5,
            nanos: 0,
        }),
        transport_socket: tls.then(|| transport(&upstream)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    (name.to_owned(), any(&cluster))
}

/// A listener that passes all on to one cluster.
pub(crate) fn listener(
    name: &str,
    at: SocketAddr,
    to: &str,
    tls: bool,
    traffic: Traffic,
) -> (String, Any) {
    let downstream = DownstreamTlsContext {
        common_tls_context: Some(tls_context()),
        require_client_certificate: Some(BoolValue { value: true }),
        ..Default::default()
    };
    let filter = match traffic {
        Traffic::Tcp => tcp_filter(to),
        Traffic::Http => http_filter(to),
    };
    let listener = Listener {
        name: name.to_owned(),
        address: Some(socket(at)),
        traffic_direction: TrafficDirection::Inbound.into(),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            transport_socket: tls.then(|| transport(&downstream)),
            ..Default::default()
        }],
        ..Default::default()
    };
    (name.to_owned(), any(&listener))
}

fn tcp_filter(to: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(to.to_owned())),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&proxy))),
    }
}

fn http_filter(to: &str) -> Filter {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(to.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let routes = RouteConfiguration {
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..Default::default()
        }],
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "http".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(HttpConfigType::TypedConfig(any(&Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&manager))),
    }
}

fn tls_context() -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
            secret("ROOTCA"),
        )),
        ..Default::default()
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    let agent = EnvoyGrpc {
        cluster_name: "sds-grpc".to_owned(),
        ..Default::default()
    };
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(agent)),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![service],
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: Some(Duration::default()),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..Default::default()
        }),
    }
}

fn transport<M: Message + Name>(context: &M) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(context))),
    }
}

fn socket(address: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        })),
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}
