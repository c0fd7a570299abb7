//! The JSON forms of objects. Only the kinds that a mesh has many of have forms
//! of their own: a replayed API server makes them for each list anew.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::LazyLock};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, value::RawValue};

/// The JSON of an object. The forms have text as keys, so none fails.
pub(super) fn encode(object: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_default()
}

/// A constant part of an object.
type Fixed = LazyLock<Option<&'static RawValue>>;

const fn fixed(read: fn() -> Option<&'static RawValue>) -> Fixed {
    LazyLock::new(read)
}

/// What server-side apply notes of every object. isthmus reads none of it, but
/// it is most of what an API server sends.
static POD_FIELDS: Fixed = fixed(|| serde_json::from_str(include_str!("fields/pod.json")).ok());
static SLICE_FIELDS: Fixed = fixed(|| serde_json::from_str(include_str!("fields/slice.json")).ok());
static SERVICE_FIELDS: Fixed =
    fixed(|| serde_json::from_str(include_str!("fields/service.json")).ok());
static CONTAINERS: Fixed =
    fixed(|| serde_json::from_str(include_str!("fields/containers.json")).ok());
static TOLERATIONS: Fixed =
    fixed(|| serde_json::from_str(include_str!("fields/tolerations.json")).ok());

/// The managed fields of a kind.
pub(super) fn managed_fields(kind: &str) -> Option<&'static RawValue> {
    match kind {
        "Pod" => *POD_FIELDS,
        "EndpointSlice" => *SLICE_FIELDS,
        "Service" => *SERVICE_FIELDS,
        _ => None,
    }
}

/// Labels, written as a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a>(pub(super) &'a [(&'a str, &'a str)]);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// `metadata`, with what only an API server writes last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<&'a str>,
    pub(super) labels: Labels<'a>,
    #[serde(flatten)]
    pub(super) stored: Option<Stored>,
}

/// What an API server adds to `metadata`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub(super) uid: &'static str,
    pub(super) resource_version: String,
    pub(super) creation_timestamp: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) managed_fields: Option<&'static RawValue>,
}

/// An object of a kind that there are few of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plain<'a> {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) metadata: Meta<'a>,
    pub(super) spec: Value,
    pub(super) status: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret<'a> {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) metadata: Meta<'a>,
    pub(super) data: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod<'a> {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) metadata: Meta<'a>,
    pub(super) spec: PodSpec<'a>,
    pub(super) status: PodStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec<'a> {
    containers: Option<&'static RawValue>,
    dns_policy: &'static str,
    enable_service_links: bool,
    node_name: &'a str,
    restart_policy: &'static str,
    scheduler_name: &'static str,
    service_account_name: &'static str,
    termination_grace_period_seconds: u32,
    tolerations: Option<&'static RawValue>,
}

impl<'a> PodSpec<'a> {
    /// What every API server makes of one container on a node.
    pub(super) fn on(node: &'a str) -> Self {
        Self {
            containers: *CONTAINERS,
            dns_policy: "ClusterFirst",
            enable_service_links: true,
            node_name: node,
            restart_policy: "Always",
            scheduler_name: "default-scheduler",
            service_account_name: "default",
            termination_grace_period_seconds: 30,
            tolerations: *TOLERATIONS,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    conditions: [PodCondition; 1],
    phase: &'static str,
    #[serde(rename = "podIP")]
    pod_ip: Ipv4Addr,
    #[serde(rename = "podIPs")]
    pod_ips: [PodIp; 1],
    qos_class: &'static str,
}

#[derive(Debug, Serialize)]
struct PodIp {
    ip: Ipv4Addr,
}

#[derive(Debug, Serialize)]
struct PodCondition {
    status: &'static str,
    r#type: &'static str,
}

impl PodStatus {
    /// Running and ready.
    pub(super) fn ready_at(ip: Ipv4Addr) -> Self {
        Self {
            conditions: [PodCondition {
                status: "True",
                r#type: "Ready",
            }],
            phase: "Running",
            pod_ip: ip,
            pod_ips: [PodIp { ip }],
            qos_class: "BestEffort",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice<'a> {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) metadata: Meta<'a>,
    pub(super) address_type: &'static str,
    pub(super) endpoints: Vec<SliceEndpoint<'a>>,
    pub(super) ports: [SlicePort; 1],
}

#[derive(Debug, Serialize)]
pub(super) struct SlicePort {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) protocol: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceEndpoint<'a> {
    addresses: [Ipv4Addr; 1],
    conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<TargetRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl<'a> SliceEndpoint<'a> {
    /// An endpoint that no pod stands behind.
    pub(super) fn bare(address: Ipv4Addr) -> Self {
        Self {
            addresses: [address],
            conditions: Conditions {
                ready: true,
                serving: true,
                terminating: false,
            },
            node_name: None,
            target_ref: None,
            zone: None,
        }
    }

    /// The endpoint of a pod.
    pub(super) fn of(
        address: Ipv4Addr,
        pod: TargetRef<'a>,
        (node, zone): (String, String),
    ) -> Self {
        Self {
            node_name: Some(node),
            target_ref: Some(pod),
            zone: Some(zone),
            ..Self::bare(address)
        }
    }
}

#[derive(Debug, Serialize)]
struct Conditions {
    ready: bool,
    serving: bool,
    terminating: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct TargetRef<'a> {
    kind: &'static str,
    name: String,
    namespace: &'a str,
}

impl<'a> TargetRef<'a> {
    pub(super) fn pod(name: String, namespace: &'a str) -> Self {
        Self {
            kind: "Pod",
            name,
            namespace,
        }
    }
}
