//! Chains of an east-west gateway: one for each name that sidecars of other
//! networks call, `outbound_.port_.subset_.host`. TLS goes through as it comes.

use bytes::Bytes;

use super::listener::Chain;
use crate::mesh::{Scope, ServiceState};
use crate::model::{ClusterName, DestinationRule};
use crate::xds::{cds, tcp};

/// What mesh mTLS offers. Together with endpoints that all take mTLS it makes
/// sure that nobody gets in without (istiod: `allIstioMtlsALPNs`).
const MESH_PROTOCOLS: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// The chains of one service, for clients with the rule `rule`, as fields of a
/// listener. They are made once and kept with the service: a mesh has many, in
/// a single listener, and one change must not encode them all again.
pub(super) fn chains(state: &ServiceState, rule: Option<u16>, scope: &Scope) -> Bytes {
    let make = |rule: &Option<u16>| {
        let mut out = Vec::new();
        let found = rule.and_then(|at| state.rules.get(usize::from(at)));
        for name in cds::names(state, *rule, scope) {
            chain(&name.sni_dnat(), found.map(|rule| &**rule)).put(&mut out);
        }
        Bytes::from(out)
    };
    let made = state.sni_chains.get_or_encode(rule, make);
    Bytes::clone(&made)
}

fn chain(cluster: &ClusterName, rule: Option<&DestinationRule>) -> Chain {
    let name = cluster.to_string();
    Chain {
        application_protocols: MESH_PROTOCOLS.map(str::to_owned).to_vec(),
        filters: vec![tcp::to_cluster(name.clone(), rule, &cluster.subset)],
        server_names: vec![name],
        ..Chain::default()
    }
}
