//! Which outbound listeners there are, and what shares them.
//!
//! Services that meet on one address and port share a listener. Oldest first,
//! each adds what does not contradict those before it (istiod:
//! `buildSidecarOutboundListener`).

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::{core::v3::Metadata, listener::v3::Filter};
use ipnet::IpNet;

use super::forwarding::{Chosen, Forwarding, is_tls};
use crate::model::{Protocol, Service};

/// What a listener expects of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP and nothing else.
    Http,
    /// Bytes.
    Tcp,
    /// Either: sniffed.
    Auto,
}

impl Kind {
    pub(super) fn of(protocol: Protocol) -> Self {
        match protocol {
            p if p.is_http() => Self::Http,
            Protocol::Auto => Self::Auto,
            _ => Self::Tcp,
        }
    }
}

/// Where a filter chain leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Destination {
    /// HTTP routes of this name.
    Routes(String),
    /// Wherever this filter passes bytes on to.
    Bytes(Box<Filter>),
}

/// A filter chain: what it matches and where it leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    /// Only what the HTTP inspector finds to be plain HTTP.
    pub(super) sniffed_http: bool,
    /// Only TLS for these names.
    pub(super) server_names: Vec<String>,
    /// Only these destinations.
    pub(super) ranges: Vec<IpNet>,
    /// Where it leads.
    pub(super) to: Destination,
    /// The object it comes from, where a user made it.
    pub(super) metadata: Option<Metadata>,
}

impl Chain {
    pub(super) fn matches_all(&self) -> bool {
        !self.sniffed_http && self.server_names.is_empty() && self.ranges.is_empty()
    }

    fn has_match_of(&self, other: &Self) -> bool {
        let of = |c: &Self| (c.sniffed_http, c.server_names.clone(), c.ranges.clone());
        of(self) == of(other)
    }
}

/// One listener.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) binds: bool,
    pub(super) chains: Vec<Chain>,
    locked: bool,
}

/// Listeners by address and port.
#[derive(Debug)]
pub(super) struct Entries {
    wildcard: &'static str,
    pub(super) all: BTreeMap<(String, u16), Entry>,
}

/// A service port that wants to be reachable.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) service: &'a Service,
    /// Port of the listener; 0 for a unix socket.
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// Address of the listener; `None` for the service's own addresses.
    pub(super) bind: Option<String>,
    /// Whether the listener really binds.
    pub(super) binds: bool,
    /// Addresses of the service.
    pub(super) addresses: Vec<IpNet>,
    /// Where connections that are not HTTP go.
    pub(super) forwarding: &'a Forwarding,
}

impl Entries {
    pub(super) fn new(wildcard: &'static str) -> Self {
        let all = BTreeMap::new();
        Self { wildcard, all }
    }

    /// Keeps services added later out of the listeners that exist: their
    /// `Sidecar` lists exactly who is behind them.
    pub(super) fn lock(&mut self) {
        self.all.values_mut().for_each(|entry| entry.locked = true);
    }

    /// Adds one service port.
    pub(super) fn add(&mut self, wish: &Wish<'_>) {
        let kind = Kind::of(wish.protocol);
        if let Some(bind) = &wish.bind {
            return self.add_at(wish, kind, bind.clone(), &[]);
        }
        if kind == Kind::Http || wish.addresses.is_empty() {
            return self.add_at(wish, kind, self.wildcard.to_owned(), &[]);
        }
        let is_range = |net: &IpNet| net.prefix_len() < net.max_prefix_len();
        let (mut ranges, single): (Vec<_>, Vec<_>) =
            wish.addresses.iter().copied().partition(is_range);
        for net in single {
            self.add_at(wish, kind, net.addr().to_string(), &[]);
        }
        if !ranges.is_empty() {
            ranges.sort();
            self.add_at(wish, kind, self.wildcard.to_owned(), &ranges);
        }
    }

    /// Adds one service port to the listener at `bind`, narrowed to
    /// destinations in `ranges`.
    fn add_at(&mut self, wish: &Wish<'_>, kind: Kind, bind: String, ranges: &[IpNet]) {
        let on_wildcard = bind == self.wildcard;
        let at = (bind, wish.port);
        let current = self.all.get_mut(&at);
        if current.as_ref().is_some_and(|entry| entry.locked) {
            return;
        }
        let http = |sniffed_http| http_chain(wish, kind, &at.0, on_wildcard, sniffed_http);
        let tcp = || tcp_chains(wish, ranges, on_wildcard);
        match (kind, current) {
            (Kind::Http, None) => {
                // Non-HTTP calls to other hosts meet on the wildcard address:
                // with the match they fall through.
                let kind = if on_wildcard { Kind::Auto } else { kind };
                let chains = vec![http(on_wildcard)];
                self.insert(at, kind, wish.binds, chains);
            }
            (Kind::Http, Some(entry)) if entry.kind == Kind::Tcp => {
                entry.merge(http(on_wildcard));
                entry.kind = Kind::Auto;
            }
            // Its routes lead to the younger service too. istiod lets an
            // undeclared port take the listener away from declared HTTP.
            (Kind::Http, Some(_))
            | (
                Kind::Auto,
                Some(Entry {
                    kind: Kind::Http, ..
                }),
            ) => {}
            (Kind::Tcp, None) => {
                self.insert(at, kind, wish.binds, tcp());
            }
            (Kind::Tcp, Some(entry)) => entry.merge_all(tcp()),
            (Kind::Auto, None) => {
                let mut chains = tcp();
                chains.push(http(true));
                self.insert(at, kind, wish.binds, chains);
            }
            (Kind::Auto, Some(entry)) => {
                entry.merge_all(tcp());
                if entry.kind == Kind::Tcp {
                    entry.merge(http(true));
                    entry.kind = Kind::Auto;
                }
            }
        }
    }

    fn insert(&mut self, at: (String, u16), kind: Kind, binds: bool, chains: Vec<Chain>) {
        let mut entry = Entry {
            kind,
            binds,
            chains: Vec::new(),
            locked: false,
        };
        entry.merge_all(chains);
        self.all.insert(at, entry);
    }
}

impl Entry {
    fn merge_all(&mut self, chains: Vec<Chain>) {
        for chain in chains {
            self.merge(chain);
        }
    }

    /// Adds a chain unless one with the same match stands already: Envoy
    /// refuses a listener with two, and the older service wins.
    fn merge(&mut self, chain: Chain) {
        if !self.chains.iter().any(|c| c.has_match_of(&chain)) {
            self.chains.push(chain);
        }
    }
}

fn http_chain(
    wish: &Wish<'_>,
    kind: Kind,
    bind: &str,
    on_wildcard: bool,
    sniffed_http: bool,
) -> Chain {
    let routes = match (wish.port, kind) {
        (0, _) => bind.to_owned(),
        // A sniffed port has an address of its own, and so routes of its own.
        (port, Kind::Auto) if !on_wildcard => format!("{}:{port}", wish.service.key.hostname),
        (port, _) => port.to_string(),
    };
    Chain {
        sniffed_http,
        server_names: Vec::new(),
        ranges: Vec::new(),
        to: Destination::Routes(routes),
        metadata: None,
    }
}

/// The chains for bytes, narrowed to `ranges` where users name no addresses.
fn tcp_chains(wish: &Wish<'_>, ranges: &[IpNet], on_wildcard: bool) -> Vec<Chain> {
    let Forwarding { chosen, rest } = wish.forwarding;
    let of_user = |chosen: &Chosen| Chain {
        sniffed_http: false,
        server_names: chosen.server_names.clone(),
        ranges: match chosen.subnets.as_slice() {
            [] => ranges.to_vec(),
            own => own.to_vec(),
        },
        to: Destination::Bytes(Box::new(chosen.filter.clone())),
        metadata: chosen.metadata.clone(),
    };
    // Where many services share an address only SNI tells them apart.
    let shared = !ranges.is_empty() || (on_wildcard && wish.addresses.is_empty());
    let name = (is_tls(wish.protocol) && shared).then(|| wish.service.key.hostname.to_string());
    let of_service = rest.as_ref().map(|filter| Chain {
        sniffed_http: false,
        server_names: name.into_iter().collect(),
        ranges: ranges.to_vec(),
        to: Destination::Bytes(Box::new(filter.clone())),
        metadata: None,
    });
    chosen.iter().map(of_user).chain(of_service).collect()
}
