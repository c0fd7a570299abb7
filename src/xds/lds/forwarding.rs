//! Where connections to one service port go: what `VirtualService.tls` and
//! `.tcp` say, else to the service itself.

use std::sync::Arc;

use envoy_types::pb::envoy::config::{core::v3::Metadata, listener::v3::Filter};
use ipnet::IpNet;

use crate::model::{
    ClusterName, ConnectionMatch, Destination, Protocol, Service, VirtualService,
    WeightedDestination,
};
use crate::xds::egress::Overrides;
use crate::xds::http_route::{self, Context};
use crate::xds::tcp;

/// Where connections go.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// Chains of users, in order.
    pub(super) chosen: Vec<Chosen>,
    /// For all others; none where nothing is left.
    pub(super) rest: Option<Filter>,
}

/// What one route takes, and where it leads.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// TLS for these names; empty for any.
    pub(super) server_names: Vec<String>,
    /// Calls to these addresses; empty for all of the service's.
    pub(super) subnets: Vec<IpNet>,
    pub(super) filter: Filter,
    /// The object it comes from; istiod names none beside addresses.
    pub(super) metadata: Option<Metadata>,
}

impl Forwarding {
    /// What is known of connections to a service port, which may be HTTP and
    /// then has its routes.
    pub(super) fn of(
        service: &Service,
        protocol: Protocol,
        overrides: &Overrides,
        context: &Context<'_>,
    ) -> Self {
        if protocol.is_http() {
            return Self::default();
        }
        let found = overrides.of_connections(&service.key.hostname);
        let found: Vec<_> = found.collect();
        let (chosen, is_closed) = if is_tls(protocol) {
            by_name(&found, context)
        } else {
            by_address(&found, context)
        };
        Self {
            chosen,
            rest: (!is_closed).then(|| to_service(service, context)),
        }
    }
}

/// Whether the port carries TLS of the applications.
pub(super) fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

fn to_service(service: &Service, context: &Context<'_>) -> Filter {
    let host = &service.key.hostname;
    // A Sidecar may listen on a port that the service does not have.
    let port = match service.ports.as_slice() {
        [only] => only.number,
        _ => context.port,
    };
    let to = Destination {
        host: Arc::clone(host.as_arc()),
        ..Destination::default()
    };
    let cluster = ClusterName::outbound(port, "", host).to_string();
    tcp::to_cluster(cluster, context.rule(&to), "")
}

/// The chains for TLS. With one the others are closed: no name is left to the
/// service (istiod: `buildSidecarOutboundTLSFilterChainOpts`).
fn by_name(found: &[&Arc<VirtualService>], context: &Context<'_>) -> (Vec<Chosen>, bool) {
    let mut chosen: Vec<Chosen> = Vec::new();
    for service in found {
        for route in &service.tls {
            for wanted in &route.matches {
                if !wanted.connection.admits(&context.source, context.port) {
                    continue;
                }
                let subnets = subnets(&wanted.connection, context);
                let made = one(service, &route.route, subnets, context);
                chosen.extend(made.map(|made| Chosen {
                    metadata: Some(http_route::origin(service)),
                    server_names: tcp::server_names(&wanted.sni_hosts),
                    ..made
                }));
            }
        }
    }
    let is_closed = !chosen.is_empty();
    (chosen, is_closed)
}

/// The chains for bytes; a route for any address leaves nothing to those after
/// it (istiod: `buildSidecarOutboundTCPFilterChainOpts`).
fn by_address(found: &[&Arc<VirtualService>], context: &Context<'_>) -> (Vec<Chosen>, bool) {
    let mut chosen = Vec::new();
    for service in found {
        for route in &service.tcp {
            let mut all = Vec::new();
            let matching = route.matches.iter();
            let mut matching = matching.filter(|m| m.admits(&context.source, context.port));
            let takes_any = route.matches.is_empty()
                || matching.any(|wanted| {
                    let wanted = subnets(wanted, context);
                    all.extend_from_slice(&wanted);
                    wanted.is_empty()
                });
            if takes_any {
                let made = one(service, &route.route, Vec::new(), context);
                if let Some(made) = made {
                    chosen.push(made);
                    return (chosen, true);
                }
            } else if !all.is_empty() {
                chosen.extend(one(service, &route.route, all, context));
            }
        }
    }
    (chosen, false)
}

/// The addresses that a match names; a unix socket is called at none.
fn subnets(wanted: &ConnectionMatch, context: &Context<'_>) -> Vec<IpNet> {
    if context.port == 0 {
        return Vec::new();
    }
    let mut all = wanted.destination_subnets.clone();
    all.sort();
    all.dedup();
    all
}

fn one(
    service: &VirtualService,
    route: &[WeightedDestination],
    subnets: Vec<IpNet>,
    context: &Context<'_>,
) -> Option<Chosen> {
    let by_address = !subnets.is_empty();
    Some(Chosen {
        server_names: Vec::new(),
        subnets,
        filter: tcp::forward(context, service, route)?,
        metadata: (!by_address).then(|| http_route::origin(service)),
    })
}
