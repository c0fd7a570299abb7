//! Routes as bytes. Envoy-types keeps maps hashed, so that equal routes with
//! settings for two filters would encode to different bytes.

use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use prost::Message;

use super::filters::Filters;
use crate::wire::proto;

/// Field `virtual_hosts` of `RouteConfiguration`.
const VIRTUAL_HOSTS: u32 = 2;
/// Field `routes` of `VirtualHost`.
const ROUTES: u32 = 3;
/// Field `typed_per_filter_config` of `Route`.
const FILTERS: u32 = 13;

/// One route, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xds) struct BuiltRoute {
    /// The message.
    pub(in crate::xds) bytes: Vec<u8>,
    /// No request gets past it.
    pub(in crate::xds) catch_all: bool,
}

impl BuiltRoute {
    /// A route with no settings for filters that takes every request.
    pub(in crate::xds) fn of_everything(route: &Route) -> Self {
        Self {
            bytes: route.encode_to_vec(),
            catch_all: true,
        }
    }
}

/// A virtual host while it is built.
#[derive(Debug, Clone)]
pub(in crate::xds) struct HostDraft<'r> {
    /// The message, without its routes.
    pub(in crate::xds) message: VirtualHost,
    /// The routes.
    pub(in crate::xds) routes: &'r [BuiltRoute],
}

/// A configuration with these virtual hosts.
pub(in crate::xds) fn encode(
    configuration: &RouteConfiguration,
    hosts: &[HostDraft<'_>],
) -> Vec<u8> {
    let mut out = configuration.encode_to_vec();
    for host in hosts {
        let mut body = host.message.encode_to_vec();
        for route in host.routes {
            proto::put_bytes(&mut body, ROUTES, &route.bytes);
        }
        proto::put_bytes(&mut out, VIRTUAL_HOSTS, &body);
    }
    out
}

pub(super) fn route(route: &Route, filters: Filters) -> Vec<u8> {
    let mut out = route.encode_to_vec();
    for (name, config) in filters {
        let config = config.encode_to_vec();
        let len = proto::bytes_len(1, name.len()) + proto::bytes_len(2, config.len());
        proto::put_header(&mut out, FILTERS, len);
        proto::put_bytes(&mut out, 1, name.as_bytes());
        proto::put_bytes(&mut out, 2, &config);
    }
    out
}
