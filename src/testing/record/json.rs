//! Reads a recording of istiod: protobuf JSON with the fields' proto names.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Answers, Group, Target};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the recording is not the JSON of CDS and EDS answers: {0}")]
pub struct AnswersError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    cds: BTreeMap<String, Cluster>,
    #[serde(default)]
    eds: BTreeMap<String, Assignment>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Assignment {
    #[serde(default)]
    endpoints: Vec<LocalityEndpoints>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LocalityEndpoints {
    locality: Locality,
    priority: u32,
    load_balancing_weight: Option<u32>,
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Locality {
    region: String,
    zone: String,
    sub_zone: String,
}

#[derive(Deserialize)]
struct LbEndpoint {
    endpoint: Endpoint,
    health_status: Option<String>,
    load_balancing_weight: Option<u32>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Endpoint {
    address: Address,
}

#[derive(Deserialize)]
struct Address {
    socket_address: SocketAddress,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    #[serde(default)]
    port_value: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    filter_metadata: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

impl Metadata {
    fn text(&self, filter: &str, key: &str) -> Option<String> {
        let value = self.filter_metadata.get(filter)?.get(key)?;
        Some(value.as_str()?.to_owned())
    }
}

impl Answers {
    /// Reads a recording as it is in `tests/scenarios/*/istiod`.
    pub fn from_json(text: &str) -> Result<Self, AnswersError> {
        let document: Document = serde_json::from_str(text)?;
        let clusters = document.cds.into_iter();
        let endpoints = document.eds.into_iter();
        let answers = Self {
            clusters: clusters
                .map(|(name, c)| (name, c.kind.unwrap_or_else(static_kind)))
                .collect(),
            endpoints: endpoints.map(|(name, a)| (name, a.groups())).collect(),
        };
        Ok(answers.sorted())
    }
}

/// Protobuf JSON leaves out an enum's first value.
fn static_kind() -> String {
    "STATIC".to_owned()
}

impl Assignment {
    fn groups(self) -> Vec<Group> {
        self.endpoints.into_iter().map(Group::from).collect()
    }
}

impl From<LocalityEndpoints> for Group {
    fn from(from: LocalityEndpoints) -> Self {
        let Locality {
            region,
            zone,
            sub_zone,
        } = from.locality;
        Self {
            priority: from.priority,
            locality: format!("{region}/{zone}/{sub_zone}"),
            weight: from.load_balancing_weight,
            targets: from.lb_endpoints.into_iter().map(Target::from).collect(),
        }
    }
}

impl From<LbEndpoint> for Target {
    fn from(from: LbEndpoint) -> Self {
        let SocketAddress {
            address,
            port_value,
        } = from.endpoint.address.socket_address;
        Self {
            address: format!("{address}:{port_value}"),
            weight: from.load_balancing_weight,
            health: from.health_status.unwrap_or_else(|| "UNKNOWN".to_owned()),
            tls_mode: from
                .metadata
                .text("envoy.transport_socket_match", "tlsMode"),
            workload: from.metadata.text("istio", "workload"),
        }
    }
}
