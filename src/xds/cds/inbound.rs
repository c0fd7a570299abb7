//! `inbound|port||`: from a sidecar to its own application.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{CommonLbConfig, DiscoveryType, LbPolicy},
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
};

use super::draft::{Draft, Upstream};
use super::{fixed, outbound, policy};
use crate::mesh::{ServiceState, Snapshot};
use crate::model::{
    ClusterId, DestinationRule, IpFamily, Labels, Namespace, NodeKind, PolicySettings, Provider,
    Registration, Service, ServicePort, TargetPort, TrafficPolicy,
};
use crate::wire::EncodedResource;
use crate::xds::client::Client;
use crate::xds::pb;

/// A time longer than any cluster lives, in seconds: original destinations of
/// inbound clusters are never forgotten (istiod: `maxSecondsValue`).
const FOREVER: u64 = 9_223_372_035;

/// The workload behind a sidecar, as far as its inbound side depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InboundClass {
    /// Its cluster.
    pub(super) cluster: ClusterId,
    /// Its namespace.
    pub(super) namespace: Namespace,
    /// Its labels, by which services select it.
    pub(super) labels: Labels,
    /// Its named ports.
    pub(super) ports: Arc<[(Arc<str>, u16)]>,
    /// Whether a `WorkloadEntry` describes it, not a pod.
    pub(super) by_entry: bool,
    /// What it can be dialled at.
    pub(super) family: IpFamily,
}

impl InboundClass {
    pub(super) fn of(client: &Client) -> Self {
        let proxy = &client.proxy;
        Self {
            cluster: proxy.cluster.clone(),
            namespace: proxy.namespace.clone(),
            labels: client.labels().clone(),
            ports: client.named_ports(),
            by_entry: client.is_by_entry(),
            family: proxy.ips.family(),
        }
    }
}

/// A service port that ends at a port of the workload.
struct Target<'a> {
    state: &'a Arc<ServiceState>,
    port: &'a ServicePort,
}

/// The services that lead to the workload, oldest first.
fn selecting<'a>(snapshot: &'a Snapshot, class: &InboundClass) -> Vec<&'a Arc<ServiceState>> {
    let mut selecting: Vec<_> = snapshot
        .services()
        .filter(|state| state.service.key.namespace == class.namespace)
        .filter(|state| {
            let entry = state.service.provider == Provider::External;
            class.by_entry || !entry || state.features.service_entries_select_pods
        })
        .filter(|state| registration(&state.service, class).is_some())
        .collect();
    // istiod: of two services on one port the oldest decides.
    selecting.sort_by(|a, b| {
        let key = |s: &Service| (s.meta.clone(), s.key.clone());
        key(&a.service).cmp(&key(&b.service))
    });
    selecting
}

/// Service ports that lead to the workload, and its port behind each. Services
/// may keep out (istiod: `DisableGatewayPortTranslationLabel`).
pub(super) fn target_ports(snapshot: &Snapshot, class: &InboundClass) -> Arc<[(u16, u16)]> {
    const OPT_OUT: &str = "experimental.istio.io/disable-gateway-port-translation";
    let selecting = selecting(snapshot, class).into_iter();
    selecting
        .filter(|state| state.service.labels.get(OPT_OUT).is_none())
        .flat_map(|state| ports(&state.service, class))
        .map(|(target, port)| (port.number, target))
        .collect()
}

/// One cluster for each port of the workload that a service leads to.
pub(super) fn clusters(snapshot: &Snapshot, class: &InboundClass) -> Vec<EncodedResource> {
    let mut targets: BTreeMap<u16, Vec<Target<'_>>> = BTreeMap::new();
    for state in selecting(snapshot, class) {
        for (target, port) in ports(&state.service, class) {
            targets
                .entry(target)
                .or_default()
                .push(Target { state, port });
        }
    }
    let encode = |(port, targets): (u16, Vec<Target<'_>>)| encode(port, &targets, class);
    targets.into_iter().filter_map(encode).collect()
}

/// What the workload's own cluster says of a service that selects it; a
/// `ServiceEntry` is read from the config cluster and selects everywhere.
fn registration<'a>(service: &'a Service, class: &InboundClass) -> Option<&'a Registration> {
    let here = match service.provider {
        Provider::Kubernetes => service.registrations.get(&class.cluster),
        Provider::External => service.registrations.values().next(),
    };
    // istiod: a headless Service takes no WorkloadEntries.
    let takes = !(class.by_entry && service.is_headless());
    let here = here.filter(|_| takes);
    here.filter(|r| !r.selector.is_empty() && class.labels.contains_all(&r.selector))
}

/// The service's ports, each behind the port of the workload it leads to.
fn ports<'a>(
    service: &'a Service,
    class: &'a InboundClass,
) -> impl Iterator<Item = (u16, &'a ServicePort)> {
    let here = registration(service, class);
    service.tcp_ports().filter_map(move |port| {
        let mut targets = here?.target_ports.iter();
        let (_, target) = targets.find(|(number, _)| *number == port.number)?;
        let named = |name: &str| class.ports.iter().find(|(n, _)| **n == *name).map(|p| p.1);
        // Workloads say themselves where they serve, except pods to Services.
        let by_workload = class.by_entry || service.provider == Provider::External;
        let number = match target {
            TargetPort::Number(number) => {
                let own = by_workload.then(|| named(&port.name)).flatten();
                own.unwrap_or(*number)
            }
            TargetPort::Name(name) => named(name)?,
        };
        Some((number, port))
    })
}

fn encode(port: u16, targets: &[Target<'_>], class: &InboundClass) -> Option<EncodedResource> {
    let first = targets.first()?;
    let mesh = &first.state.mesh;
    let discovery = if mesh.inbound_localhost {
        DiscoveryType::Static
    } else {
        DiscoveryType::OriginalDst
    };
    let name = format!("inbound|{port}||");
    let mut draft = Draft::new(name.clone(), discovery, mesh.connect_timeout);
    draft.cluster.common_lb_config = Some(CommonLbConfig::default());
    draft.upstream = Upstream::of(first.port.protocol, NodeKind::Sidecar);
    if mesh.inbound_localhost {
        let endpoints = loopback(name.clone(), port, class.family);
        draft.cluster.load_assignment = Some(endpoints);
    } else {
        draft.cluster.set_lb_policy(LbPolicy::ClusterProvided);
        draft.cluster.cleanup_interval = pb::duration(Duration::from_secs(FOREVER));
        draft.cluster.upstream_bind_config = Some(fixed::loop_free(class.family));
    }
    describe(&mut draft, targets, first.port.number);
    let rule = rule(first.state, &class.namespace);
    let default = PolicySettings::default();
    let pool = rule.and_then(|rule| {
        let settings = rule.effective("", first.port.number, &default);
        settings.connection_pool
    });
    let limits = PolicySettings {
        connection_pool: pool,
        ..PolicySettings::default()
    };
    policy::apply_pool(&mut draft, mesh, &limits);
    if let Some(rule) = rule.filter(|rule| rule.policy != TrafficPolicy::default()) {
        let path = outbound::rule_path(rule);
        draft
            .metadata
            .insert("config", crate::xds::value::Value::Text(path));
    }
    Some(draft.encode())
}

/// Names the services of one service port, each once.
fn describe(draft: &mut Draft, targets: &[Target<'_>], number: u16) {
    if targets
        .first()
        .is_some_and(|t| t.state.service.mesh_external)
    {
        return;
    }
    let same_port = targets.iter().filter(|t| t.port.number == number);
    draft.describe(same_port.map(|t| &*t.state.service));
}

/// The rule whose connection pool the receiving side takes too. Rules that
/// select client workloads say nothing of servers.
fn rule<'a>(state: &'a ServiceState, namespace: &Namespace) -> Option<&'a Arc<DestinationRule>> {
    let at = state.rule_for(namespace, &Labels::default())?;
    state.rules.get(usize::from(at))
}

fn loopback(cluster_name: String, port: u16, family: IpFamily) -> ClusterLoadAssignment {
    let host = match family {
        IpFamily::V6 => "::1",
        IpFamily::V4 | IpFamily::Any => "127.0.0.1",
    };
    let endpoint = Endpoint {
        address: pb::address(host, port),
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
    ClusterLoadAssignment {
        cluster_name,
        endpoints: vec![group],
        ..ClusterLoadAssignment::default()
    }
}
