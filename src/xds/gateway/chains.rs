//! From the servers of a port to the chains of its listener.

use super::connections::Binding;
use super::hosts::covers;
use super::listener::{Chain, Draft};
use super::merged::{PortServers, Server};
use super::{sni_dnat, tls};
use crate::model::{GatewayServer, IstioFilters};
use crate::xds::client::Client;
use crate::xds::lds::{http, listener::connection_manager};

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
        if let Some(spec) = server.spec() {
            append_server(draft, client, (server, spec), name, filters);
        }
    }
}

/// Adds the chains of one server that is not plain HTTP.
fn append_server(
    draft: &mut Draft,
    client: &Client,
    (server, spec): (&Server, &GatewayServer),
    name: &str,
    filters: IstioFilters,
) {
    let binding = Binding::new(client, server, spec);
    if spec.is_passthrough() {
        // Those that forward by SNI to every service have their chains already.
        if !spec.is_auto_passthrough() {
            for chain in binding.passthrough() {
                draft.add(chain, true);
            }
        }
        return;
    }
    let https = spec.is_https();
    let context = match &spec.tls {
        None => None,
        Some(settings) => match tls::terminating(settings, https) {
            None => return,
            some => some,
        },
    };
    let chain = if https {
        let prefix = match &*spec.stat_prefix {
            "" => format!("outbound_{name};"),
            prefix => prefix.to_owned(),
        };
        http_chain(server, prefix, filters)
    } else if let Some(filter) = binding.bytes() {
        Chain {
            filters: vec![filter],
            ..Chain::default()
        }
    } else {
        return;
    };
    let is_tls = context.is_some();
    let chain = Chain {
        server_names: server.server_names(),
        tls: context,
        ..chain
    };
    draft.add(chain, is_tls);
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
