//! Which listener filters the chains of an inbound listener need.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, ListenerFilter, ListenerFilterChainMatchPredicate as Predicate, listener_filter,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use envoy_types::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
    original_src::v3::OriginalSrc, tls_inspector::v3::TlsInspector,
};
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use prost::{Message, Name};

use super::variants::PLAIN_HTTP;
use crate::xds::pb;

/// Mark of the connections to the application, by which iptables knows them.
const MARK: u32 = 1337;

/// What one port needs to know of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Needs {
    tls: bool,
    http: bool,
}

/// What each port needs; port 0 stands for those without chains of their own.
#[derive(Debug)]
pub(super) struct Inspectors(BTreeMap<u16, Needs>);

impl Inspectors {
    /// What `chains` match.
    pub(super) fn of(chains: &[FilterChain]) -> Self {
        let mut needs: BTreeMap<u16, Needs> = BTreeMap::new();
        for matches in chains.iter().filter_map(|c| c.filter_chain_match.as_ref()) {
            let port = matches
                .destination_port
                .as_ref()
                .map_or(0, |port| port.value);
            let of = needs
                .entry(u16::try_from(port).unwrap_or_default())
                .or_default();
            of.tls |= matches.transport_protocol == "tls";
            let names = &matches.application_protocols;
            of.http |= names.iter().any(|name| PLAIN_HTTP.contains(&name.as_str()));
        }
        Self(needs)
    }

    /// The filters of a listener that iptables redirects to.
    pub(super) fn intercepted(&self, transparent: bool) -> Vec<ListenerFilter> {
        let name = "envoy.filters.listener.original_dst";
        let mut filters = vec![filter(name, &OriginalDst {})];
        if transparent {
            let keep = OriginalSrc {
                mark: MARK,
                ..OriginalSrc::default()
            };
            filters.push(filter("envoy.filters.listener.original_src", &keep));
        }
        filters.extend(self.bound());
        filters
    }

    /// The filters of a listener of its own. The HTTP inspector comes last: it
    /// leaves alone what was found to be TLS.
    pub(super) fn bound(&self) -> Vec<ListenerFilter> {
        [self.tls(), self.http()].into_iter().flatten().collect()
    }

    fn tls(&self) -> Option<ListenerFilter> {
        let by_default = self.0.get(&0).is_some_and(|needs| needs.tls);
        let differing = self.ports(|needs| needs.tls != by_default);
        if !self.0.values().any(|needs| needs.tls) {
            return None;
        }
        let ports = one_of(differing);
        let disabled = match ports {
            Some(ports) if !by_default => Some(Predicate {
                rule: Some(Rule::NotMatch(Box::new(ports))),
            }),
            ports => ports,
        };
        Some(ListenerFilter {
            filter_disabled: disabled,
            ..tls_inspector()
        })
    }

    fn http(&self) -> Option<ListenerFilter> {
        self.0
            .values()
            .any(|needs| needs.http)
            .then(|| ListenerFilter {
                filter_disabled: one_of(self.ports(|needs| !needs.http)),
                ..http_inspector()
            })
    }

    fn ports(&self, wanted: impl Fn(Needs) -> bool) -> Vec<u16> {
        let ports = self
            .0
            .iter()
            .filter(|(port, needs)| **port > 0 && wanted(**needs));
        ports.map(|(port, _)| *port).collect()
    }
}

/// The filter that tells HTTP from other plain text.
pub(super) fn http_inspector() -> ListenerFilter {
    filter(
        "envoy.filters.listener.http_inspector",
        &HttpInspector::default(),
    )
}

/// The filter that reads the server name.
pub(in crate::xds) fn tls_inspector() -> ListenerFilter {
    let inspector = TlsInspector {
        // istiod: most hellos fit; the rest make the buffer grow.
        initial_read_buffer_size: pb::uint(512),
        ..TlsInspector::default()
    };
    filter("envoy.filters.listener.tls_inspector", &inspector)
}

/// Connections to one of these ports; none for no port.
fn one_of(ports: Vec<u16>) -> Option<Predicate> {
    let range = |port: u16| {
        let start = i32::from(port);
        let rule = Rule::DestinationPortRange(Int32Range {
            start,
            end: start + 1,
        });
        Predicate { rule: Some(rule) }
    };
    let mut rules: Vec<_> = ports.into_iter().map(range).collect();
    if rules.len() < 2 {
        return rules.pop();
    }
    Some(Predicate {
        rule: Some(Rule::OrMatch(MatchSet { rules })),
    })
}

fn filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pb::any(config))),
        ..ListenerFilter::default()
    }
}
