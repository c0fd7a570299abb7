//! Brings live answers into the form in which they compare.

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    core::v3::{
        HealthStatus, Locality, Metadata, SocketAddress, address::Address,
        socket_address::PortSpecifier,
    },
    endpoint::v3::{LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
};
use envoy_types::pb::google::protobuf::value::Kind;

use super::{Answers, Group, Recording, Target};

impl From<&Recording> for Answers {
    fn from(recording: &Recording) -> Self {
        let clusters = recording.clusters.iter();
        let endpoints = recording.endpoints.iter();
        let answers = Self {
            clusters: clusters.map(|(name, c)| (name.clone(), kind(c))).collect(),
            endpoints: endpoints
                .map(|(name, a)| (name.clone(), a.endpoints.iter().map(Group::from).collect()))
                .collect(),
        };
        answers.sorted()
    }
}

fn kind(cluster: &Cluster) -> String {
    match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::ClusterType(custom)) => custom.name.clone(),
        Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(*number)
            .map_or_else(|_| number.to_string(), |kind| kind.as_str_name().to_owned()),
        None => DiscoveryType::Static.as_str_name().to_owned(),
    }
}

impl From<&LocalityLbEndpoints> for Group {
    fn from(from: &LocalityLbEndpoints) -> Self {
        let Locality {
            region,
            zone,
            sub_zone,
        } = from.locality.clone().unwrap_or_default();
        Self {
            priority: from.priority,
            locality: format!("{region}/{zone}/{sub_zone}"),
            weight: from.load_balancing_weight.map(|weight| weight.value),
            targets: from.lb_endpoints.iter().map(Target::from).collect(),
        }
    }
}

impl From<&LbEndpoint> for Target {
    fn from(from: &LbEndpoint) -> Self {
        let metadata = from.metadata.as_ref();
        Self {
            address: address(from),
            weight: from.load_balancing_weight.map(|weight| weight.value),
            health: HealthStatus::try_from(from.health_status)
                .map_or_else(|n| n.to_string(), |health| health.as_str_name().to_owned()),
            tls_mode: text(metadata, "envoy.transport_socket_match", "tlsMode"),
            workload: text(metadata, "istio", "workload"),
        }
    }
}

fn address(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        return format!("{:?}", endpoint.host_identifier);
    };
    match endpoint.address.as_ref().and_then(|a| a.address.as_ref()) {
        Some(Address::SocketAddress(SocketAddress {
            address,
            port_specifier,
            ..
        })) => match port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{address}:{port}"),
            other => format!("{address}:{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn text(metadata: Option<&Metadata>, filter: &str, key: &str) -> Option<String> {
    let value = metadata?.filter_metadata.get(filter)?.fields.get(key)?;
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}
