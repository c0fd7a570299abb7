//! Nodes and Namespaces.

use serde::Deserialize;

use crate::manifest::{
    Problem,
    json::{List, Text},
    meta::{Meta, from_json},
};
use crate::model::{KubeNamespace, KubeNode, ObjectKind};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Namespace<'a> {
    metadata: Meta<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Node<'a> {
    metadata: Meta<'a>,
    status: Option<Status<'a>>,
}

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
    let Namespace { metadata } = from_json(json)?;
    Ok(KubeNamespace {
        meta: metadata.key(ObjectKind::Namespace),
        labels: metadata.labels(),
        annotations: metadata.annotations(),
    })
}

/// Reads a Node.
pub(in crate::manifest) fn node(json: &[u8]) -> Result<KubeNode, Problem> {
    let Node { metadata, status } = from_json(json)?;
    let addresses = status.unwrap_or_default().addresses;
    let mut external = addresses.iter().filter(|a| &*a.r#type == "ExternalIP");
    Ok(KubeNode {
        meta: metadata.key(ObjectKind::Node),
        labels: metadata.labels(),
        external_ip: external.find_map(|a| a.address.parse().ok()),
    })
}
