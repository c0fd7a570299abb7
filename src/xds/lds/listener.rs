//! Listeners as Envoy takes them.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    core::v3::{Address, CidrRange, Pipe, TrafficDirection, address},
    listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter},
};
use envoy_types::pb::envoy::extensions::filters::network::{
    http_connection_manager::v3::HttpConnectionManager,
    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
};
use prost::{Message, Name};

use super::entries::{Chain, Destination, Entry};
use super::http;
use super::inspectors::{http_inspector, tls_inspector};
use super::variants::PLAIN_HTTP;
use crate::model::{IstioFilters, TypeUrl};
use crate::wire::EncodedResource;
use crate::xds::pb;

/// Bounds what half-open TLS handshakes hold.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What all listeners of a list have in common.
#[derive(Debug)]
pub(super) struct Style {
    /// istio's own HTTP filters.
    pub(super) filters: IstioFilters,
    /// Where connections go that no chain takes.
    pub(super) fallback: &'static str,
    /// How long a sniffed connection may be silent; 0 for ever.
    pub(super) detection_timeout: Duration,
}

/// A listener of services.
pub(super) fn outbound(at: &(String, u16), entry: &Entry, style: &Style) -> Listener {
    let mut listener = outbound_named(&at.0, at.1);
    let name = listener.name.clone();
    listener.continue_on_listener_filters_timeout = true;
    if entry.binds {
        // istiod: spreads a burst of connections over the workers.
        listener.max_connections_to_accept_per_socket_event = pb::uint(1);
    } else {
        listener.bind_to_port = pb::boolean(false);
    }
    inspect(&mut listener, entry, style);
    for chain in &entry.chains {
        let built = filter_chain(chain, &name, style);
        if chain.matches_all() {
            listener.default_filter_chain = Some(built);
        } else {
            listener.filter_chains.push(built);
        }
    }
    if listener.filter_chains.is_empty() {
        listener.filter_chains = listener.default_filter_chain.take().into_iter().collect();
    } else if listener.default_filter_chain.is_none() {
        listener.default_filter_chain = Some(FilterChain {
            name: "PassthroughFilterChain".to_owned(),
            filter_chain_match: Some(FilterChainMatch::default()),
            filters: vec![tcp_proxy(style.fallback)],
            ..FilterChain::default()
        });
    }
    listener
}

/// The listener that iptables redirects outbound connections to. It hands them
/// to the listener of their original destination.
pub(super) fn virtual_outbound(wildcard: &str, port: u16, style: &Style) -> Listener {
    let mut listener = outbound_named(wildcard, port);
    "virtualOutbound".clone_into(&mut listener.name);
    listener.use_original_dst = pb::boolean(true);
    listener.max_connections_to_accept_per_socket_event = pb::uint(1);
    listener.filter_chains = vec![
        // A call to the port itself would come back for ever.
        FilterChain {
            name: "virtualOutbound-blackhole".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: pb::uint(u32::from(port)),
                ..FilterChainMatch::default()
            }),
            filters: vec![tcp_proxy(crate::xds::cds::BLACK_HOLE)],
            ..FilterChain::default()
        },
        FilterChain {
            name: "virtualOutbound-catchall-tcp".to_owned(),
            filters: vec![tcp_proxy(style.fallback)],
            ..FilterChain::default()
        },
    ];
    listener
}

/// The listener for callers that use Envoy as an explicit HTTP proxy.
pub(super) fn http_proxy(localhost: &str, port: u16, style: &Style) -> Listener {
    let mut listener = outbound_named(localhost, port);
    listener.continue_on_listener_filters_timeout = true;
    listener.max_connections_to_accept_per_socket_event = pb::uint(1);
    listener.listener_filters_timeout = pb::duration(Duration::ZERO);
    let manager = http::proxy_manager(stat_prefix(&listener.name), style.filters);
    listener.filter_chains = vec![FilterChain {
        filters: vec![connection_manager(&manager)],
        transport_socket_connect_timeout: pb::duration(HANDSHAKE),
        ..FilterChain::default()
    }];
    listener
}

/// The framed resource.
pub(super) fn encode(listener: &Listener) -> Arc<EncodedResource> {
    let name = Arc::from(listener.name.as_str());
    let body = listener.encode_to_vec();
    let kind = TypeUrl::Listener.as_str();
    Arc::new(EncodedResource::new(kind, name, &body))
}

/// A listener of this address, which gives it its name.
pub(super) fn named(bind: &str, port: u16) -> Listener {
    let (name, address) = match bind.strip_prefix("unix://") {
        Some(path) => {
            let path = path.to_owned();
            let pipe = address::Address::Pipe(Pipe { path, mode: 0 });
            let address = Some(pipe);
            (bind.to_owned(), Some(Address { address }))
        }
        None => (format!("{bind}_{port}"), pb::address(bind, port)),
    };
    Listener {
        name,
        address,
        ..Listener::default()
    }
}

fn outbound_named(bind: &str, port: u16) -> Listener {
    let mut listener = named(bind, port);
    listener.set_traffic_direction(TrafficDirection::Outbound);
    listener
}

/// Adds what finds out the server name and whether it is HTTP.
fn inspect(listener: &mut Listener, entry: &Entry, style: &Style) {
    let mut timeout = Duration::ZERO;
    let filters = &mut listener.listener_filters;
    if entry.chains.iter().any(|c| !c.server_names.is_empty()) {
        filters.push(tls_inspector());
    }
    if entry.chains.iter().any(|c| c.sniffed_http) {
        filters.push(http_inspector());
        timeout = style.detection_timeout;
    }
    listener.listener_filters_timeout = pb::duration(timeout);
}

fn filter_chain(chain: &Chain, listener: &str, style: &Style) -> FilterChain {
    let filter = match &chain.to {
        Destination::Bytes(filter) => Filter::clone(filter),
        Destination::Routes(routes) => {
            let prefix = stat_prefix(listener);
            connection_manager(&http::manager(prefix, routes, style.filters))
        }
    };
    FilterChain {
        filter_chain_match: (!chain.matches_all()).then(|| chain_match(chain)),
        filters: vec![filter],
        metadata: chain.metadata.clone(),
        transport_socket_connect_timeout: pb::duration(HANDSHAKE),
        ..FilterChain::default()
    }
}

fn chain_match(chain: &Chain) -> FilterChainMatch {
    let range = |net: &ipnet::IpNet| CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: pb::uint(u32::from(net.prefix_len())),
    };
    let mut out = FilterChainMatch {
        server_names: chain.server_names.clone(),
        prefix_ranges: chain.ranges.iter().map(range).collect(),
        ..FilterChainMatch::default()
    };
    if chain.sniffed_http {
        out.application_protocols = PLAIN_HTTP.iter().map(|&name| name.to_owned()).collect();
        "raw_buffer".clone_into(&mut out.transport_protocol);
    }
    out
}

fn stat_prefix(listener: &str) -> String {
    format!("outbound_{listener};")
}

/// The filter that speaks HTTP.
pub(in crate::xds) fn connection_manager(manager: &HttpConnectionManager) -> Filter {
    network_filter("envoy.filters.network.http_connection_manager", manager)
}

/// The filter that passes bytes on to a cluster.
pub(super) fn tcp_proxy(cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    tcp_filter(&proxy)
}

/// The filter that passes bytes on as `proxy` says.
pub(in crate::xds) fn tcp_filter(proxy: &TcpProxy) -> Filter {
    network_filter("envoy.filters.network.tcp_proxy", proxy)
}

fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pb::any(config))),
    }
}
