//! Nodes and Namespaces.

use serde::{Deserialize, de::IgnoredAny};

use crate::manifest::{
    Problem,
    json::{List, Text},
    meta::{Manifest, from_json},
};
use crate::model::{KubeNamespace, KubeNode, ObjectKind};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    addresses: List<NodeAddress<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct NodeAddress<'a> {
    r#type: Text<'a>,
    address: Text<'a>,
}

/// Reads a Namespace.
pub(in crate::manifest) fn namespace(json: &[u8]) -> Result<KubeNamespace, Problem> {
    let Manifest { metadata, .. }: Manifest<'_> = from_json(json)?;
    Ok(KubeNamespace {
        meta: metadata.key(ObjectKind::Namespace),
        labels: metadata.labels(),
        annotations: metadata.annotations(),
    })
}

/// Reads a Node.
pub(in crate::manifest) fn node(json: &[u8]) -> Result<KubeNode, Problem> {
    let Manifest {
        metadata, status, ..
    }: Manifest<'_, IgnoredAny, Status<'_>> = from_json(json)?;
    let mut external = status
        .addresses
        .iter()
        .filter(|a| &*a.r#type == "ExternalIP");
    Ok(KubeNode {
        meta: metadata.key(ObjectKind::Node),
        labels: metadata.labels(),
        external_ip: external.find_map(|a| a.address.parse().ok()),
    })
}
