//! Where bytes go: `VirtualService.tls` for TLS that passes through, by server
//! name, and `VirtualService.tcp` for all else.

use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
};

use super::hosts::overlap;
use super::listener::Chain;
use super::merged::Server;
use crate::model::{
    ClusterName, ConnectionMatch, Destination, GatewayName, GatewayServer, Hostname,
    VirtualService, WeightedDestination,
};
use crate::xds::client::Client;
use crate::xds::lds::listener::{tcp_filter, tcp_proxy};

/// A server, and the `VirtualService`s that may route its connections.
pub(super) struct Binding<'a> {
    client: &'a Client,
    server: &'a Server,
    spec: &'a GatewayServer,
    gateway: GatewayName,
}

impl<'a> Binding<'a> {
    pub(super) fn new(client: &'a Client, server: &'a Server, spec: &'a GatewayServer) -> Self {
        Self {
            client,
            server,
            spec,
            gateway: server.gateway_name(),
        }
    }

    /// A chain for each match of a TLS route, with whether it names servers.
    pub(super) fn passthrough(&self) -> Vec<Chain> {
        let mut chains = Vec::new();
        for service in self.virtual_services() {
            for route in service.tls.iter().filter(|route| !route.route.is_empty()) {
                for wanted in route.matches.iter().filter(|m| self.takes(&m.connection)) {
                    chains.extend(self.filter(service, &route.route).map(|filter| Chain {
                        server_names: server_names(&wanted.sni_hosts),
                        filters: vec![filter],
                        ..Chain::default()
                    }));
                }
            }
        }
        chains
    }

    /// What the first TCP route that matches does.
    pub(super) fn bytes(&self) -> Option<Filter> {
        self.virtual_services().find_map(|service| {
            let takes = |matches: &[ConnectionMatch]| {
                matches.is_empty() || matches.iter().any(|m| self.takes(m))
            };
            let mut routes = service.tcp.iter().filter(|route| takes(&route.matches));
            let route = routes.find(|route| !route.route.is_empty())?;
            self.filter(service, &route.route)
        })
    }

    /// Those that share a host with the server.
    fn virtual_services(&self) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        let all = &self.client.snapshot.mesh().virtual_services;
        let namespace = &self.client.proxy.namespace;
        let server = self.server;
        all.visible(namespace, &self.gateway)
            .filter(move |service| {
                let of = &service.meta.namespace;
                let mut usable = server.hosts.iter().filter(|host| host.admits(of));
                usable.any(|own| service.hosts.iter().any(|host| overlap(&own.host, host)))
            })
    }

    /// istiod: of a match only port and gateways count at a gateway.
    fn takes(&self, wanted: &ConnectionMatch) -> bool {
        let gateways = &wanted.source.gateways;
        wanted.port.is_none_or(|port| port == self.spec.port)
            && (gateways.is_empty() || gateways.contains(&self.gateway))
    }

    /// The filter that forwards to these destinations; none where none of
    /// several has a weight.
    fn filter(&self, service: &VirtualService, route: &[WeightedDestination]) -> Option<Filter> {
        if let [only] = route {
            return Some(tcp_proxy(&self.cluster(&only.destination)));
        }
        let weighted = route.iter().filter(|to| to.weight > 0);
        let clusters: Vec<_> = weighted
            .map(|to| ClusterWeight {
                name: self.cluster(&to.destination),
                weight: to.weight,
                ..ClusterWeight::default()
            })
            .collect();
        let (name, namespace) = (&service.meta.name, &service.meta.namespace);
        (!clusters.is_empty()).then(|| {
            tcp_filter(&TcpProxy {
                stat_prefix: format!("{name}.{namespace}"),
                cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
                    clusters,
                })),
                ..TcpProxy::default()
            })
        })
    }

    /// istiod: `GetDestinationCluster`: without a port the service's only one,
    /// else the server's.
    fn cluster(&self, to: &Destination) -> String {
        let host = Hostname::shared(Arc::clone(&to.host));
        let only_port = || {
            let state = self.client.scope.service(&self.client.snapshot, &host)?;
            match state.service.ports.as_slice() {
                [only] => Some(only.number),
                _ => None,
            }
        };
        let port = to.port.or_else(only_port).unwrap_or(self.spec.port);
        ClusterName::outbound(port, &to.subset, &host).to_string()
    }
}

/// Sorted; none where any name will do.
fn server_names(hosts: &[Arc<str>]) -> Vec<String> {
    let mut names: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
    names.sort();
    names.dedup();
    if names.iter().any(|name| name == "*") {
        names.clear();
    }
    names
}
