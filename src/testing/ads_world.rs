//! A hand-made world for tests of sessions and streams.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::ads::{Outgoing, Resources, Variant};
use crate::mesh::ChangeSet;
use crate::model::{ClusterName, Hostname, TypeUrl};
use crate::wire::EncodedResource;

/// Resources by type and name; the body of each is `name=content`.
#[derive(Debug, Clone, Default)]
pub struct FakeWorld {
    resources: BTreeMap<(TypeUrl, String), Arc<EncodedResource>>,
}

fn encode(kind: TypeUrl, name: &str, content: &str) -> Arc<EncodedResource> {
    let body = format!("{name}={content}");
    let made = EncodedResource::new(kind.as_str(), Arc::from(name), body.as_bytes());
    Arc::new(made)
}

impl FakeWorld {
    /// A world with the given resources, the content of each `1`.
    pub fn with(names: &[(TypeUrl, &str)]) -> Self {
        let mut world = Self::default();
        for (kind, name) in names {
            world.set(*kind, name, "1");
        }
        world
    }

    /// Sets the content of a resource.
    pub fn set(&mut self, kind: TypeUrl, name: &str, content: &str) {
        let made = encode(kind, name, content);
        self.resources.insert((kind, name.to_owned()), made);
    }

    /// Removes a resource.
    pub fn remove(&mut self, kind: TypeUrl, name: &str) {
        self.resources.remove(&(kind, name.to_owned()));
    }

    /// Content by name of what exists.
    pub fn contents(&self, kind: TypeUrl) -> BTreeMap<String, String> {
        let all = self.resources.iter().filter(|((k, _), _)| *k == kind);
        all.map(|((_, name), r)| (name.clone(), content_of(&r.delta_frame(), name)))
            .collect()
    }
}

/// The content in a framed resource.
fn content_of(frame: &[u8], name: &str) -> String {
    let response = DeltaDiscoveryResponse::decode(frame).unwrap_or_default();
    let body = response.resources.into_iter().next().unwrap_or_default();
    let held = Held::from(body);
    debug_assert_eq!(held.name, name);
    held.content
}

impl Resources for FakeWorld {
    fn all(&self, kind: TypeUrl) -> Arc<[Arc<EncodedResource>]> {
        let all = self.resources.iter().filter(|((k, _), _)| *k == kind);
        all.map(|(_, resource)| Arc::clone(resource)).collect()
    }

    fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>> {
        let known = self.resources.get(&(kind, name.to_owned()));
        let empty = || match kind {
            TypeUrl::ClusterLoadAssignment => name.parse::<ClusterName>().is_ok(),
            TypeUrl::RouteConfiguration => true,
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::NameTable => false,
        };
        known
            .map(Arc::clone)
            .or_else(|| empty().then(|| encode(kind, name, "")))
    }
}

/// The change of everything that is configuration.
pub fn config_change() -> ChangeSet {
    ChangeSet {
        config: true,
        ..ChangeSet::default()
    }
}

/// The change of the endpoints of `hosts`.
pub fn endpoint_change(hosts: &[&str]) -> ChangeSet {
    ChangeSet {
        hosts: hosts.iter().map(|host| Hostname::from(*host)).collect(),
        ..ChangeSet::default()
    }
}

/// The node message of a sidecar.
pub fn node() -> Node {
    Node {
        id: "sidecar~10.1.2.3~web-1.default~default.svc.cluster.local".to_owned(),
        ..Node::default()
    }
}

/// A resource as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Name.
    pub name: String,
    /// Delta version; empty in `SotW`.
    pub version: String,
    /// What stands behind `name=` in its body.
    pub content: String,
}

impl From<Any> for Held {
    fn from(any: Any) -> Self {
        let body = String::from_utf8_lossy(&any.value).into_owned();
        let (name, content) = body.split_once('=').unwrap_or((&body, ""));
        Self {
            name: name.to_owned(),
            version: String::new(),
            content: content.to_owned(),
        }
    }
}

impl From<Resource> for Held {
    fn from(resource: Resource) -> Self {
        let held = Self::from(resource.resource.unwrap_or_default());
        Self {
            version: resource.version,
            name: resource.name,
            ..held
        }
    }
}

/// A response of either variant as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Type URL.
    pub type_url: String,
    /// Nonce.
    pub nonce: String,
    /// Version of all resources of the type.
    pub version: String,
    /// Resources in their order.
    pub resources: Vec<Held>,
    /// Names removed.
    pub removed: Vec<String>,
}

impl Response {
    /// The names of its resources.
    pub fn names(&self) -> Vec<&str> {
        self.resources.iter().map(|r| r.name.as_str()).collect()
    }

    /// `name=content` of its resources.
    pub fn contents(&self) -> Vec<String> {
        let text = |r: &Held| format!("{}={}", r.name, r.content);
        self.resources.iter().map(text).collect()
    }
}

impl From<DeltaDiscoveryResponse> for Response {
    fn from(response: DeltaDiscoveryResponse) -> Self {
        Self {
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.system_version_info,
            resources: response.resources.into_iter().map(Held::from).collect(),
            removed: response.removed_resources,
        }
    }
}

impl From<DiscoveryResponse> for Response {
    fn from(response: DiscoveryResponse) -> Self {
        Self {
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.version_info,
            resources: response.resources.into_iter().map(Held::from).collect(),
            removed: Vec::new(),
        }
    }
}

impl From<Outgoing> for Response {
    fn from(outgoing: Outgoing) -> Self {
        let mut bytes = outgoing.head();
        for frame in &outgoing.frames {
            bytes.extend_from_slice(frame);
        }
        match outgoing.variant {
            Variant::Delta => DeltaDiscoveryResponse::decode(&*bytes)
                .unwrap_or_default()
                .into(),
            Variant::Sotw => DiscoveryResponse::decode(&*bytes)
                .unwrap_or_default()
                .into(),
        }
    }
}
