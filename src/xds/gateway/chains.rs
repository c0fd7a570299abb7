//! From the servers of a port to the chains of its listener.

use super::hosts::covers;
use super::listener::{Chain, Draft};
use super::merged::{PortServers, Server};
use super::{sni_dnat, tls};
use crate::model::GatewayServer;
use crate::xds::client::Client;
use crate::xds::lds::{
    http::{self, IstioFilters},
    listener::connection_manager,
};

/// Adds the chains of one port to its listener, which is called `name`.
pub(super) fn append(
    draft: &mut Draft,
    client: &Client,
    port: &PortServers,
    name: &str,
    filters: IstioFilters,
) {
    if port.port.protocol.is_http() {
        // All of them share one connection manager and its routes.
        if let Some(first) = port.servers.first() {
            let prefix = format!("outbound_{name};");
            draft.add(http_chain(first, prefix, filters), false);
        }
        return;
    }
    let automatic = |server: &&Server| {
        server
            .spec()
            .is_some_and(GatewayServer::is_auto_passthrough)
    };
    let forwarding: Vec<&Server> = port.servers.iter().filter(automatic).collect();
    if !forwarding.is_empty() {
        append_sni_dnat(draft, client, &forwarding);
    }
    for server in &port.servers {
        let Some(spec) = server.spec() else { continue };
        if spec.is_https() {
            let prefix = match &*spec.stat_prefix {
                "" => format!("outbound_{name};"),
                prefix => prefix.to_owned(),
            };
            let Some(context) = spec.tls.as_ref().and_then(|t| tls::terminating(t, true)) else {
                continue;
            };
            let chain = Chain {
                server_names: server.server_names(),
                tls: Some(context),
                ..http_chain(server, prefix, filters)
            };
            draft.add(chain, true);
        }
    }
}

fn http_chain(server: &Server, stat_prefix: String, filters: IstioFilters) -> Chain {
    let manager = http::gateway_manager(stat_prefix, &server.routes, filters);
    Chain {
        filters: vec![connection_manager(&manager)],
        ..Chain::default()
    }
}

/// The chains of the services that some server's hosts cover. istiod: their
/// namespaces do not matter here.
fn append_sni_dnat(draft: &mut Draft, client: &Client, servers: &[&Server]) {
    let hosts: Vec<&str> = servers
        .iter()
        .flat_map(|server| &server.hosts)
        .map(|pattern| &*pattern.host)
        .collect();
    for state in client.scope.services(&client.snapshot) {
        let service = &state.service;
        let covered = hosts.iter().any(|h| covers(h, &service.key.hostname));
        if covered && !service.mesh_external {
            let rule = state.rule_for(&client.proxy.namespace, client.labels());
            draft.add_encoded(sni_dnat::chains(&state, rule, &client.scope));
        }
    }
}
