//! `inbound|port||`: from a sidecar to its own application.

use std::{net::IpAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{CommonLbConfig, DiscoveryType, LbPolicy},
    core::v3::{Address, Pipe, address},
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
};

use super::draft::{Draft, Upstream};
use super::{fixed, outbound, policy};
use crate::mesh::{MemoKey, Snapshot};
use crate::model::{
    DestinationRule, InterceptionMode, Labels, NodeKind, PolicySettings, Service, TrafficPolicy,
};
use crate::wire::EncodedResource;
use crate::xds::client::Client;
use crate::xds::inbound::{Application, InboundClass, InboundPort};
use crate::xds::pb;
use crate::xds::resources::ResourceList;
use crate::xds::value::Value;

/// A time longer than any cluster lives, in seconds: original destinations of
/// inbound clusters are never forgotten (istiod: `maxSecondsValue`).
const FOREVER: u64 = 9_223_372_035;

/// Sidecars with the same inbound clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListKey(InboundClass);

impl MemoKey for ListKey {
    type Value = ResourceList;
}

/// One cluster for each port of the workload, and one for all others where
/// traffic is intercepted.
pub(super) fn list(client: &Client, class: &InboundClass) -> ResourceList {
    let snapshot = &client.snapshot;
    let list = snapshot.memo().get_or_make(ListKey(class.clone()), |_| {
        let inbound = class.inbound(client);
        let ports = inbound.ports.iter();
        let mut all: Vec<_> = ports.map(|port| encode(snapshot, port, class)).collect();
        if class.interception != InterceptionMode::None {
            let timeout = snapshot.mesh().config.connect_timeout;
            all.push(fixed::inbound_passthrough(timeout, class.family));
        }
        all.into_iter().map(Arc::new).collect()
    });
    Arc::clone(&list)
}

/// The name of the cluster of a port.
pub(in crate::xds) fn name(port: u16) -> String {
    format!("inbound|{port}||")
}

fn encode(snapshot: &Snapshot, port: &InboundPort, class: &InboundClass) -> EncodedResource {
    let name = name(port.number);
    let discovery = match port.application {
        Application::Dialled => DiscoveryType::OriginalDst,
        Application::At(..) | Application::Socket(_) => DiscoveryType::Static,
    };
    let connect_timeout = snapshot.mesh().config.connect_timeout;
    let mut draft = Draft::new(name.clone(), discovery, connect_timeout);
    draft.cluster.common_lb_config = Some(CommonLbConfig::default());
    draft.upstream = Upstream::of(port.protocol, NodeKind::Sidecar);
    if port.application == Application::Dialled {
        draft.cluster.set_lb_policy(LbPolicy::ClusterProvided);
        draft.cluster.cleanup_interval = pb::duration(Duration::from_secs(FOREVER));
    }
    draft.cluster.load_assignment = endpoints(name, &port.application);
    if passes_iptables(&port.application) {
        draft.cluster.upstream_bind_config = Some(fixed::loop_free(class.family));
    }
    if port.services.first().is_some_and(|s| !s.mesh_external) {
        draft.describe(port.services.iter().map(|service| &**service));
    }
    let oldest = port.services.first();
    let rule = oldest.and_then(|service| rule(snapshot, service, class));
    let default = PolicySettings::default();
    let pool = rule.as_ref().and_then(|rule| {
        let settings = rule.effective("", port.called, &default);
        settings.connection_pool
    });
    let limits = PolicySettings {
        connection_pool: pool,
        ..PolicySettings::default()
    };
    policy::apply_pool(&mut draft, &snapshot.mesh().config, &limits);
    if let Some(rule) = rule.filter(|rule| rule.policy != TrafficPolicy::default()) {
        let path = outbound::rule_path(&rule);
        draft.metadata.insert("config", Value::Text(path));
    }
    draft.encode()
}

/// Whether the application sees a connection that iptables would send back to
/// the proxy. A unix socket and the loopback address of the pod are out of its
/// reach.
fn passes_iptables(application: &Application) -> bool {
    match application {
        Application::Dialled => true,
        Application::At(ip, _) => !is_localhost(*ip),
        Application::Socket(_) => false,
    }
}

fn is_localhost(ip: IpAddr) -> bool {
    ip == std::net::Ipv4Addr::LOCALHOST || ip == std::net::Ipv6Addr::LOCALHOST
}

/// The rule whose connection pool the receiving side takes too. Rules that
/// select client workloads say nothing of servers.
fn rule(
    snapshot: &Snapshot,
    service: &Service,
    class: &InboundClass,
) -> Option<Arc<DestinationRule>> {
    let states = snapshot.host(&service.key.hostname);
    let state = states.iter().find(|s| s.service.key == service.key)?;
    let at = state.rule_for(class.namespace(), &Labels::default())?;
    state.rules.get(usize::from(at)).cloned()
}

fn endpoints(cluster_name: String, application: &Application) -> Option<ClusterLoadAssignment> {
    let address = match application {
        Application::Dialled => return None,
        Application::At(ip, port) => pb::address(&ip.to_string(), *port),
        Application::Socket(path) => Some(Address {
            address: Some(address::Address::Pipe(Pipe {
                path: path.clone(),
                mode: 0,
            })),
        }),
    };
    let endpoint = Endpoint {
        address,
        ..Endpoint::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    };
    let group = LocalityLbEndpoints {
        lb_endpoints: vec![endpoint],
        ..LocalityLbEndpoints::default()
    };
    Some(ClusterLoadAssignment {
        cluster_name,
        endpoints: vec![group],
        ..ClusterLoadAssignment::default()
    })
}
