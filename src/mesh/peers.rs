//! What the endpoints of a service have in common, as its clusters say it.

use std::{collections::BTreeMap, sync::Arc};

use super::Shard;
use crate::model::{DestinationRule, Endpoint, Resolution, Service, ShardKey, TlsMode};

/// Facts of all endpoints of a service together. A cluster depends on them and
/// on no single endpoint, so that most changes of endpoints leave it alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// SPIFFE identities of the endpoints of all clusters, sorted.
    pub identities: Vec<Arc<str>>,
    /// Ports, by name and sorted, all of whose endpoints take mesh mTLS. Kept
    /// only where calls go to their original destination: there Envoy cannot
    /// tell endpoints apart.
    pub mtls_ports: Vec<Arc<str>>,
}

impl Peers {
    /// The facts of the endpoints of all `shards`.
    pub fn of(
        service: &Service,
        rules: &[Arc<DestinationRule>],
        shards: &[(ShardKey, Arc<Shard>)],
    ) -> Self {
        let passthrough = service.resolution == Resolution::Passthrough
            || rules.iter().any(|rule| rule.is_passthrough());
        Self {
            identities: identities(shards),
            mtls_ports: if passthrough {
                mtls_ports(shards.iter().flat_map(|(_, shard)| shard.iter()))
            } else {
                Vec::new()
            },
        }
    }
}

fn identities(shards: &[(ShardKey, Arc<Shard>)]) -> Vec<Arc<str>> {
    let all = shards.iter().flat_map(|(_, shard)| shard.identities());
    let mut found: Vec<Arc<str>> = all.cloned().collect();
    found.sort();
    found.dedup();
    found
}

/// istiod: `BestEffortInferServiceMTLSMode`, which asks for a sidecar only; here
/// a `PeerAuthentication` counts too.
fn mtls_ports<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<Arc<str>> {
    let mut ports: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
    for endpoint in endpoints {
        let takes =
            endpoint.workload.template.tls_mode == TlsMode::Istio && !endpoint.mtls_disabled;
        let all = ports.entry(&endpoint.port_name).or_insert(true);
        *all &= takes;
    }
    let all = ports.into_iter().filter(|(_, all)| *all);
    all.map(|(name, _)| Arc::clone(name)).collect()
}
