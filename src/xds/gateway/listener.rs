//! One listener of a router while it is built.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use prost::Message;

use super::merged::ServerPort;
use crate::model::{IpFamily, TypeUrl};
use crate::wire::{EncodedResource, ReverseWriter};
use crate::xds::lds::inspectors::tls_inspector;
use crate::xds::{pb, tls};

/// Field `filter_chains` of `config.listener.v3.Listener`.
const FILTER_CHAINS: u32 = 3;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    bind: String,
    port: u16,
}

impl Address {
    pub(super) fn of(port: &ServerPort, family: IpFamily) -> Self {
        let bind = match (&*port.bind, family) {
            ("", IpFamily::V6) => "::",
            ("", IpFamily::V4 | IpFamily::Any) => "0.0.0.0",
            (bind, _) => bind,
        };
        Self {
            bind: bind.to_owned(),
            port: port.number,
        }
    }

    /// The name of its listener.
    pub(super) fn name(&self) -> String {
        format!("{}_{}", self.bind, self.port)
    }
}

/// One chain while it is built.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Names it takes; none for all.
    pub(super) server_names: Vec<String>,
    /// Protocols it takes; none for all.
    pub(super) application_protocols: Vec<String>,
    /// TLS that ends here.
    pub(super) tls: Option<DownstreamTlsContext>,
    /// What becomes of its connections.
    pub(super) filters: Vec<Filter>,
}

impl Chain {
    fn matches(&self) -> Option<FilterChainMatch> {
        let all = self.server_names.is_empty() && self.application_protocols.is_empty();
        (!all).then(|| FilterChainMatch {
            server_names: self.server_names.clone(),
            application_protocols: self.application_protocols.clone(),
            ..FilterChainMatch::default()
        })
    }

    /// Appends it as a field of a listener.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        let chain = FilterChain {
            filter_chain_match: self.matches(),
            transport_socket: self.tls.as_ref().map(tls::socket),
            filters: self.filters,
            // Bounds what half-open TLS handshakes hold.
            transport_socket_connect_timeout: pb::duration(Duration::from_secs(15)),
            ..FilterChain::default()
        };
        crate::wire::proto::put_bytes(out, FILTER_CHAINS, &chain.encode_to_vec());
    }
}

/// A listener while it is built: its chains are bytes already, since those of
/// an east-west gateway are many and mostly kept from before.
#[derive(Debug, Default)]
pub(super) struct Draft {
    chains: Vec<Bytes>,
    /// Names that have a chain; the empty one is for all others. Envoy refuses a
    /// listener with two chains for one.
    taken: HashSet<String>,
    inspects_tls: bool,
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Adds a chain. The oldest server wins what several want.
    pub(super) fn add(&mut self, chain: Chain, has_names: bool) {
        let names = match chain.server_names.as_slice() {
            [] => vec![String::new()],
            names => names.to_vec(),
        };
        if names.iter().any(|name| self.taken.contains(name)) {
            return;
        }
        self.taken.extend(names);
        // istiod looks for names even where the only one is `*`.
        self.inspects_tls |= has_names || chain.tls.is_some();
        let mut out = Vec::new();
        chain.put(&mut out);
        self.chains.push(out.into());
    }

    /// Adds encoded chains that choose by name.
    pub(super) fn add_encoded(&mut self, chains: Bytes) {
        self.inspects_tls = true;
        self.chains.push(chains);
    }

    /// The framed resource.
    pub(super) fn encode(self, address: &Address) -> EncodedResource {
        let mut listener = Listener {
            name: address.name(),
            address: pb::address(&address.bind, address.port),
            // istiod: spreads a burst of connections over the workers.
            max_connections_to_accept_per_socket_event: pb::uint(1),
            ..Listener::default()
        };
        listener.set_traffic_direction(TrafficDirection::Outbound);
        if self.inspects_tls {
            listener.listener_filters.push(tls_inspector());
        }
        let head = listener.encode_to_vec();
        let all: usize = self.chains.iter().map(Bytes::len).sum();
        let mut writer = ReverseWriter::with_capacity(head.len() + all + 128);
        for chains in self.chains.iter().rev() {
            writer.raw(chains);
        }
        writer.raw(&head);
        let kind = TypeUrl::Listener.as_str();
        EncodedResource::framed(kind, address.name().into(), writer)
    }
}
