//! One outbound cluster.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{
        DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig, OriginalDstLbConfig,
    },
    core::v3::{HealthStatus, HealthStatusSet},
};
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;

use super::draft::{Draft, Upstream};
use super::{policy, upstream_tls};
use crate::mesh::{ClusterKey, ServiceState};
use crate::model::{
    DestinationRule, Direction, IpFamily, NodeKind, PersistentSession, PolicySettings, Provider,
    Resolution, Service, TargetPort, TlsSetting,
};
use crate::wire::EncodedResource;
use crate::xds::pb;
use crate::xds::value::Value;

/// How Envoy finds the endpoints of a service; none where it gets no cluster
/// (istiod: `convertResolution`).
pub(super) fn resolution(state: &ServiceState, kind: NodeKind) -> Option<DiscoveryType> {
    let service = &state.service;
    match service.resolution {
        Resolution::ClientSideLb => Some(DiscoveryType::Eds),
        Resolution::Dns if service.logical_dns => Some(DiscoveryType::LogicalDns),
        Resolution::Dns => Some(DiscoveryType::StrictDns),
        Resolution::DnsRoundRobin => Some(DiscoveryType::LogicalDns),
        Resolution::Passthrough => {
            // A gateway has no original destination to pass through to.
            let eds = kind == NodeKind::Router
                || (service.provider == Provider::Kubernetes && state.features.eds_for_headless);
            Some(if eds {
                DiscoveryType::Eds
            } else {
                DiscoveryType::OriginalDst
            })
        }
        Resolution::Alias | Resolution::DynamicDns => None,
    }
}

/// Whether the cluster carries its endpoints itself.
pub(super) fn is_dns(discovery: DiscoveryType) -> bool {
    matches!(
        discovery,
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns
    )
}

/// The discovery type of one cluster, its rule applied; none for no cluster.
pub(super) fn discovery(state: &ServiceState, key: &ClusterKey) -> Option<DiscoveryType> {
    let plain = resolution(state, key.kind)?;
    let passthrough = rule(state, key).is_some_and(|rule| {
        let port = key.cluster.port;
        // istiod: a subset's cluster starts from the type of the whole service's.
        let none = PolicySettings::default();
        rule.effective("", port, &none).is_passthrough()
            || rule
                .effective(&key.cluster.subset, port, &none)
                .is_passthrough()
    });
    Some(if passthrough {
        DiscoveryType::OriginalDst
    } else {
        plain
    })
}

/// The rule that applies.
pub(super) fn rule<'a>(
    state: &'a ServiceState,
    key: &ClusterKey,
) -> Option<&'a Arc<DestinationRule>> {
    key.rule.and_then(|at| state.rules.get(usize::from(at)))
}

/// Encodes one cluster. `endpoints` is the load assignment of a DNS cluster.
pub(super) fn encode(
    state: &ServiceState,
    key: &ClusterKey,
    endpoints: Option<Vec<u8>>,
) -> EncodedResource {
    let discovery = discovery(state, key).unwrap_or(DiscoveryType::Eds);
    let name = key.cluster.to_string();
    let mut draft = Draft::new(name.clone(), discovery, state.mesh.connect_timeout);
    if let Some(port) = state.service.port(key.cluster.port) {
        draft.upstream = Upstream::of(port.protocol, key.kind);
    }
    draft.describe([&*state.service]);
    let rule = rule(state, key);
    let default = &state.mesh.default_policy;
    let settings = rule.map_or_else(
        || default.clone(),
        |rule| rule.effective(&key.cluster.subset, key.cluster.port, default),
    );
    policy::apply(&mut draft, state, key, &settings);
    if key.cluster.subset.is_empty() && key.cluster.direction == Direction::Outbound {
        keep_draining(&mut draft, state.service.persistent_session);
    }
    if discovery == DiscoveryType::Eds {
        draft.cluster.eds_cluster_config = Some(EdsClusterConfig {
            eds_config: pb::ads(),
            service_name: name,
        });
    }
    if discovery == DiscoveryType::OriginalDst {
        override_port(&mut draft, &state.service, key.cluster.port);
    }
    if let Some((_, family)) = key.dns.as_ref().filter(|_| is_dns(discovery)) {
        resolve_by_dns(&mut draft, state, *family);
        draft.load_assignment = endpoints;
    }
    if key.filters.metadata_exchange {
        draft.exchange_metadata();
    }
    // An SNI cluster forwards what is TLS already.
    if key.cluster.direction == Direction::Outbound {
        upstream_tls::apply(&mut draft, state, key, settings.tls.as_deref());
    }
    let mode = settings.tls.as_ref().map(|tls| tls.mode);
    annotate(&mut draft, state, key, rule, mode);
    draft.encode()
}

/// Filter metadata `istio` beside the services.
fn annotate(
    draft: &mut Draft,
    state: &ServiceState,
    key: &ClusterKey,
    rule: Option<&Arc<DestinationRule>>,
    tls: Option<TlsSetting>,
) {
    let text = |text: &str| Value::Text(text.to_owned());
    let subset = &key.cluster.subset;
    if !subset.is_empty() {
        draft.metadata.insert("subset", text(subset));
    } else if state.service.mesh_external && key.cluster.direction == Direction::Outbound {
        draft.metadata.insert("external", Value::Bool(true));
    }
    if let Some(rule) = rule {
        draft
            .metadata
            .insert("config", Value::Text(rule_path(rule)));
    }
    if matches!(tls, Some(TlsSetting::Simple | TlsSetting::Mutual)) {
        // The endpoint is no mesh peer: istio's ALPN must not be offered to it.
        draft.metadata.insert("alpn_override", text("false"));
    }
}

/// API path of a rule, as istiod names it in metadata.
pub(super) fn rule_path(rule: &DestinationRule) -> String {
    let (namespace, name) = (&rule.meta.namespace, &rule.meta.name);
    format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}")
}

/// `targetPort` of a `ServiceEntry` without endpoints: the address stays the
/// one that was dialled, the port does not.
fn override_port(draft: &mut Draft, service: &Service, port: u16) {
    if service.provider != Provider::External {
        return;
    }
    let mut targets = service.registrations.values().flat_map(|r| &r.target_ports);
    let target = match targets.find(|(number, _)| *number == port) {
        Some((_, TargetPort::Number(target))) if *target != port => *target,
        _ => return,
    };
    let config = OriginalDstLbConfig {
        upstream_port_override: pb::uint(u32::from(target)),
        ..OriginalDstLbConfig::default()
    };
    draft.cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(config));
}

/// A draining endpoint takes the requests of its own sessions: without the
/// status set Envoy drops it.
fn keep_draining(draft: &mut Draft, session: PersistentSession) {
    if session == PersistentSession::None {
        return;
    }
    let statuses = [
        HealthStatus::Healthy,
        HealthStatus::Draining,
        HealthStatus::Unknown,
        HealthStatus::Degraded,
    ];
    draft.common_lb().override_host_status = Some(HealthStatusSet {
        statuses: statuses.map(i32::from).to_vec(),
    });
}

#[allow(
    deprecated,
    reason = "Envoy still takes these fields, and istiod sends them"
)]
fn resolve_by_dns(draft: &mut Draft, state: &ServiceState, family: IpFamily) {
    let cluster = &mut draft.cluster;
    let lookup = match family {
        _ if state.service.logical_dns => DnsLookupFamily::All,
        IpFamily::V6 => DnsLookupFamily::V6Only,
        IpFamily::Any if state.features.dual_stack => DnsLookupFamily::All,
        IpFamily::V4 | IpFamily::Any => DnsLookupFamily::V4Only,
    };
    cluster.set_dns_lookup_family(lookup);
    cluster.dns_refresh_rate = pb::duration(state.mesh.dns_refresh_rate);
    // istiod's jitter and query limit (`PILOT_DNS_JITTER_DURATION`,
    // `PILOT_DNS_CARES_UDP_MAX_QUERIES`).
    cluster.dns_jitter = pb::duration(Duration::from_millis(100));
    cluster.respect_dns_ttl = true;
    let resolver = CaresDnsResolverConfig {
        udp_max_queries: pb::uint(100),
        ..CaresDnsResolverConfig::default()
    };
    let name = "envoy.network.dns_resolver.cares";
    cluster.typed_dns_resolver_config = Some(pb::extension(name, &resolver));
}
