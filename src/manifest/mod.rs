//! Kubernetes, Istio and Gateway API manifests as JSON → model.
//!
//! [`parse`] reads one object of a kind that [`Kind`]'s table lists;
//! [`mesh_config`] and [`mesh_networks`] read istio's mesh-wide YAML. A part of
//! an object that istio would skip is left out and told; an object that cannot
//! be used is refused with an error that names it. Nothing here panics.

mod crds;
mod error;
mod istio;
mod json;
mod kind;
mod kube;
pub mod mesh_config;
pub mod mesh_networks;
mod meta;
mod path;
mod protocol;
mod raw;
mod yaml;

use std::sync::Arc;

use crate::model::{Object, ObjectKey, ObjectKind};

pub use crds::crds;
pub use error::{ManifestError, Problem};
pub use kind::{Kind, MCS_GROUP, MCS_VERSION};
pub use meta::{Identity, identify};
pub use raw::Raw;
pub use yaml::{Document, YamlError, documents as yaml_documents, to_json as yaml_to_json};

/// What the meaning of a manifest depends on beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// DNS suffix of Kubernetes services (`--domain`).
    pub domain: Arc<str>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            domain: Arc::from("cluster.local"),
        }
    }
}

/// An object, and what was left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The object.
    pub object: Object,
    /// Parts that cannot be used, each a [`ManifestError::Field`].
    pub left_out: Vec<ManifestError>,
}

/// What conversions share: what meaning depends on, and what they leave out.
struct Scope<'d> {
    defaults: &'d Defaults,
    left_out: Vec<Problem>,
}

impl<'d> Scope<'d> {
    fn new(defaults: &'d Defaults) -> Self {
        Self {
            defaults,
            left_out: Vec::new(),
        }
    }

    /// An object that was read, with what was left out of it.
    fn parsed(self, object: Object) -> Result<Parsed, ManifestError> {
        if object.meta().name.is_empty() {
            let (kind, _) = kind::name_and_scope(object.kind());
            return Err(ManifestError::Nameless { kind });
        }
        let problems = self.left_out.into_iter();
        let told = problems.map(|problem| ManifestError::Field {
            object: object.key(),
            problem,
        });
        Ok(Parsed {
            left_out: told.collect(),
            object,
        })
    }

    /// The good items of a part; bad ones are left out and told.
    fn keep<T>(&mut self, items: impl IntoIterator<Item = Result<T, Problem>>) -> Vec<T> {
        let mut kept = Vec::new();
        for item in items {
            match item {
                Ok(item) => kept.push(item),
                Err(problem) => self.left_out.push(problem),
            }
        }
        kept
    }
}

/// Reads one object of `kind` from JSON. Fields that isthmus does not use are
/// not looked at; the API version does not matter.
///
/// ```
/// use isthmus::{manifest, model::ObjectKind};
/// let json = br#"{"metadata": {"name": "sample", "labels": {"team": "a"}}}"#;
/// let parsed = manifest::parse(ObjectKind::Namespace, json, &manifest::Defaults::default())?;
/// assert_eq!(&*parsed.object.meta().name, "sample");
/// # Ok::<(), manifest::ManifestError>(())
/// ```
pub fn parse(kind: ObjectKind, json: &[u8], defaults: &Defaults) -> Result<Parsed, ManifestError> {
    let mut scope = Scope::new(defaults);
    let object = read(kind, json, &mut scope).map_err(|p| refuse(kind, json, p))?;
    scope.parsed(object)
}

/// Whether [`parse_raw`] reads the protobuf form of a kind too. One is spelled
/// out where there are very many of it, or where it changes all the time.
pub fn reads_protobuf(kind: ObjectKind) -> bool {
    kind == ObjectKind::EndpointSlice
}

/// Reads one object of `kind` in the form in which it came.
pub fn parse_raw(
    kind: ObjectKind,
    object: Raw<'_>,
    defaults: &Defaults,
) -> Result<Parsed, ManifestError> {
    let message = match object {
        Raw::Json(text) => return parse(kind, text.as_bytes(), defaults),
        Raw::Protobuf(message) if reads_protobuf(kind) => message,
        Raw::Protobuf(_) => {
            let (kind, _) = kind::name_and_scope(kind);
            let problem = "it is in protobuf form, which is not read of this kind".to_owned();
            return Err(ManifestError::Syntax { kind, problem });
        }
    };
    let mut scope = Scope::new(defaults);
    let slice = kube::slice::read_protobuf(message, &mut scope)?;
    scope.parsed(Object::EndpointSlice(slice))
}

fn read(kind: ObjectKind, json: &[u8], scope: &mut Scope<'_>) -> Result<Object, Problem> {
    Ok(match kind {
        ObjectKind::Namespace => Object::Namespace(kube::node::namespace(json)?),
        ObjectKind::Node => Object::Node(kube::node::node(json)?),
        ObjectKind::Service => Object::Service(kube::service::read(json, scope)?),
        ObjectKind::EndpointSlice => Object::EndpointSlice(kube::slice::read(json, scope)?),
        ObjectKind::Pod => Object::Pod(kube::pod::read(json, scope)?),
        ObjectKind::KubeGateway => Object::KubeGateway(kube::gateway::read(json, scope)?),
        ObjectKind::ServiceExport => Object::ServiceExport(kube::mcs::export(json)?),
        ObjectKind::ServiceImport => Object::ServiceImport(kube::mcs::import(json, scope)?),
        ObjectKind::WorkloadEntry => {
            Object::WorkloadEntry(istio::workload_entry::read(json, scope)?)
        }
        ObjectKind::ServiceEntry => Object::ServiceEntry(istio::service_entry::read(json, scope)?),
        ObjectKind::DestinationRule => {
            Object::DestinationRule(istio::destination_rule::read(json, scope)?)
        }
        ObjectKind::PeerAuthentication => {
            Object::PeerAuthentication(istio::peer_authentication::read(json)?)
        }
        ObjectKind::Sidecar => Object::Sidecar(istio::sidecar::read(json, scope)?),
        ObjectKind::Gateway => Object::Gateway(istio::gateway::read(json)?),
        ObjectKind::VirtualService => {
            Object::VirtualService(istio::virtual_service::read(json, scope)?)
        }
    })
}

/// The error for a whole object: its name is read on its own, since the
/// object could not be.
fn refuse(kind: ObjectKind, json: &[u8], problem: Problem) -> ManifestError {
    match identify(kind, json) {
        Ok(identity) => ManifestError::Field {
            object: ObjectKey {
                kind,
                namespace: identity.meta.namespace,
                name: identity.meta.name,
            },
            problem,
        },
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests;
