//! Inbound listeners: `virtualInbound`, and those that a `Sidecar` binds.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::envoy::config::{
    core::v3::{TrafficDirection, TransportSocket},
    listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType},
};

use super::entries::Kind;
use super::inspectors::Inspectors;
use super::listener::{self, tcp_proxy};
use super::variants::{Variant, variants};
use super::{http, routes};
use crate::mesh::MemoKey;
use crate::model::{InterceptionMode, IstioFilters, MeshConfig, MtlsMode, Protocol};
use crate::xds::client::Client;
use crate::xds::inbound::{InboundClass, InboundPort};
use crate::xds::resources::ResourceList;
use crate::xds::{cds, pb, tls, value};

/// Sidecars with the same inbound listeners: all that they depend on beside the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InboundKey {
    class: InboundClass,
    unprivileged: bool,
    own_ports: BTreeSet<u16>,
    filters: IstioFilters,
}

impl MemoKey for InboundKey {
    type Value = ResourceList;
}

/// Where the connections of one chain end, and how they are told apart.
struct Ends<'a> {
    /// Number of the port; 0 for all others.
    port: u16,
    /// Names of its chains for HTTP and for bytes.
    names: [&'a str; 2],
    protocol: Protocol,
    mode: MtlsMode,
    cluster: &'a str,
    stat_prefix: String,
    /// Number of the service port, and who traces name.
    called: (u16, &'a str),
}

/// What all chains of a list have in common.
struct Builder<'a> {
    mesh: &'a MeshConfig,
    filters: IstioFilters,
}

impl InboundKey {
    /// The key of a sidecar of this class.
    pub(super) fn of(client: &Client, class: InboundClass) -> Self {
        Self {
            class,
            unprivileged: client.proxy.unprivileged,
            own_ports: client.proxy.own_ports.clone(),
            filters: client.filters(),
        }
    }

    /// The listeners.
    pub(super) fn list(&self, client: &Client) -> ResourceList {
        let memo = client.snapshot.memo();
        Arc::clone(&memo.get_or_make(self.clone(), |key| key.build(client)))
    }

    fn build(&self, client: &Client) -> ResourceList {
        let mesh = &client.snapshot.mesh().config;
        let builder = Builder {
            mesh,
            filters: self.filters,
        };
        let inbound = self.class.inbound(client);
        let mut listeners = Vec::new();
        let mut chains = vec![builder.black_hole()];
        for (port, mode) in &inbound.others {
            chains.extend(builder.others(*port, *mode));
        }
        for port in &inbound.ports {
            let made = builder.declared(port, self.class.wildcard());
            match &port.bind {
                _ if !self.may_listen(port, mesh) => {}
                Some(bind) => listeners.push(bound(bind, port.number, made, mesh)),
                None => chains.extend(made),
            }
        }
        if self.class.interception != InterceptionMode::None {
            listeners.push(self.virtual_inbound(chains, mesh));
        }
        listeners.iter().map(listener::encode).collect()
    }

    /// Whether the port can be listened on (istiod: `CanBindToPort`).
    fn may_listen(&self, port: &InboundPort, mesh: &MeshConfig) -> bool {
        let wildcard = self.class.wildcard();
        let taken = self.own_ports.contains(&port.number);
        match &port.bind {
            Some(_) if self.unprivileged && (1..1024).contains(&port.number) => false,
            Some(bind) => !(taken && bind == wildcard),
            None => !taken && ![mesh.outbound_port, mesh.inbound_port].contains(&port.number),
        }
    }

    /// The listener that iptables redirects inbound connections to. It takes them
    /// itself, by their original port.
    fn virtual_inbound(&self, chains: Vec<FilterChain>, mesh: &MeshConfig) -> Listener {
        let transparent = self.class.interception == InterceptionMode::Tproxy;
        let mut listener = inbound(self.class.wildcard(), mesh.inbound_port, mesh);
        "virtualInbound".clone_into(&mut listener.name);
        listener.transparent = pb::boolean(true).filter(|_| transparent);
        let inspectors = Inspectors::of(&chains);
        listener.listener_filters = inspectors.intercepted(transparent);
        listener.filter_chains = chains;
        listener
    }
}

/// A listener of its own.
fn bound(bind: &str, port: u16, chains: Vec<FilterChain>, mesh: &MeshConfig) -> Listener {
    let mut listener = inbound(bind, port, mesh);
    listener.listener_filters = Inspectors::of(&chains).bound();
    listener.filter_chains = chains;
    listener
}

fn inbound(bind: &str, port: u16, mesh: &MeshConfig) -> Listener {
    let mut listener = listener::named(bind, port);
    listener.set_traffic_direction(TrafficDirection::Inbound);
    listener.continue_on_listener_filters_timeout = true;
    listener.max_connections_to_accept_per_socket_event = pb::uint(1);
    listener.listener_filters_timeout = pb::duration(mesh.protocol_detection_timeout);
    listener
}

impl Builder<'_> {
    /// A call to the listener's own port would come back for ever.
    fn black_hole(&self) -> FilterChain {
        FilterChain {
            name: "virtualInbound-blackhole".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: pb::uint(u32::from(self.mesh.inbound_port)),
                ..FilterChainMatch::default()
            }),
            filters: self.network(tcp_proxy(cds::BLACK_HOLE)),
            ..FilterChain::default()
        }
    }

    /// The chains of ports that nobody declares.
    fn others(&self, port: u16, mode: MtlsMode) -> Vec<FilterChain> {
        self.chains(&Ends {
            port,
            names: ["virtualInbound-catchall-http", "virtualInbound"],
            protocol: Protocol::Auto,
            mode,
            cluster: cds::INBOUND_PASSTHROUGH,
            stat_prefix: format!("{};", cds::INBOUND_PASSTHROUGH),
            called: (0, ""),
        })
    }

    /// The chains of one port of the workload.
    fn declared(&self, port: &InboundPort, wildcard: &str) -> Vec<FilterChain> {
        let bind = port.bind.as_deref().unwrap_or(wildcard);
        let name = format!("{bind}_{}", port.number);
        self.chains(&Ends {
            port: port.number,
            names: [&name, &name],
            protocol: port.protocol,
            mode: port.mode,
            cluster: &cds::inbound_name(port.number),
            stat_prefix: format!("inbound_{name};"),
            called: (port.called, &port.owner),
        })
    }

    fn chains(&self, ends: &Ends<'_>) -> Vec<FilterChain> {
        let variants = variants(Kind::of(ends.protocol), ends.mode).iter();
        variants.map(|variant| self.chain(ends, variant)).collect()
    }

    fn chain(&self, ends: &Ends<'_>, variant: &Variant) -> FilterChain {
        let [http, tcp] = ends.names;
        let transport = if variant.tls { "tls" } else { "raw_buffer" };
        let matches = FilterChainMatch {
            destination_port: pb::uint(u32::from(ends.port)).filter(|_| ends.port > 0),
            application_protocols: variant.alpn.iter().map(|&name| name.to_owned()).collect(),
            transport_protocol: transport.to_owned(),
            ..FilterChainMatch::default()
        };
        let last = if variant.http {
            self.http(ends)
        } else {
            tcp_proxy(ends.cluster)
        };
        FilterChain {
            name: if variant.http { http } else { tcp }.to_owned(),
            filter_chain_match: Some(matches),
            filters: self.network(last),
            transport_socket: variant.terminates.then(|| self.mutual_tls(variant.http)),
            ..FilterChain::default()
        }
    }

    fn http(&self, ends: &Ends<'_>) -> Filter {
        let (called, owner) = ends.called;
        let routes = routes::inbound(ends.cluster, ends.protocol, called, owner);
        let prefix = ends.stat_prefix.clone();
        let manager = http::inbound_manager(prefix, routes, ends.protocol, self.filters);
        listener::connection_manager(&manager)
    }

    /// What is negotiated must not be one of istio's names, which would stand in
    /// the way of HTTP/2.
    fn mutual_tls(&self, http: bool) -> TransportSocket {
        let alpn: &[&str] = match (http, self.filters.metadata_exchange) {
            (false, true) => &["istio-peer-exchange", "h2", "http/1.1"],
            (true, _) | (false, false) => &["h2", "http/1.1"],
        };
        tls::socket(&tls::mesh_server(self.mesh, alpn))
    }

    /// istio's metadata exchange comes first, where Envoy has it.
    fn network(&self, last: Filter) -> Vec<Filter> {
        let exchange = self.filters.metadata_exchange.then(|| {
            let (name, config) = value::metadata_exchange();
            Filter {
                name: name.to_owned(),
                config_type: Some(ConfigType::TypedConfig(config)),
            }
        });
        exchange.into_iter().chain([last]).collect()
    }
}
