//! Where bytes go: `VirtualService.tls` for TLS that passes through, by server
//! name, and `VirtualService.tcp` for all else.

use std::{slice, sync::Arc};

use envoy_types::pb::envoy::config::listener::v3::Filter;

use super::hosts::overlap;
use super::listener::Chain;
use super::merged::Server;
use crate::model::{
    ConnectionMatch, GatewayName, GatewayServer, Source, VirtualService, WeightedDestination,
};
use crate::xds::client::Client;
use crate::xds::http_route::Context;
use crate::xds::tcp;

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
                        server_names: tcp::server_names(&wanted.sni_hosts),
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

    /// The filter that forwards to these destinations.
    fn filter(&self, service: &VirtualService, route: &[WeightedDestination]) -> Option<Filter> {
        tcp::forward(&self.context(), service, route)
    }

    /// How destinations are looked up.
    fn context(&self) -> Context<'_> {
        context(self.client, self.spec, &self.gateway)
    }
}

/// For whom a server routes.
pub(super) fn context<'a>(
    client: &'a Client,
    spec: &GatewayServer,
    gateway: &'a GatewayName,
) -> Context<'a> {
    Context {
        snapshot: &client.snapshot,
        scope: &client.scope,
        source: Source {
            labels: client.labels(),
            namespace: &client.proxy.namespace,
            gateways: slice::from_ref(gateway),
        },
        port: spec.port,
        is_tls: spec.tls.is_some(),
    }
}
