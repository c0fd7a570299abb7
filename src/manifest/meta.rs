//! `metadata`, and what an object says of itself before it is read whole.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::model::{Labels, Namespace, ObjectKind, ObjectMeta};

use super::{
    ManifestError, Problem,
    json::{List, Map, Text, some_of},
    kind::name_and_scope,
    path::path_at,
};

/// Annotations that isthmus reads; no other is kept.
const ANNOTATIONS: &[&str] = &[
    "alpha.istio.io/canonical-serviceaccounts",
    "alpha.istio.io/kubernetes-serviceaccounts",
    GROUP,
    CONNECT_STRATEGY,
    "networking.istio.io/exportTo",
    TRAFFIC_DISTRIBUTION,
    HEALTH_CHECKED,
    "topology.istio.io/controlPlaneClusters",
    "traffic.istio.io/nodeSelector",
];
pub(super) const GROUP: &str = "istio.io/autoRegistrationGroup";
pub(super) const CONNECT_STRATEGY: &str = "istio.io/connect-strategy";
pub(super) const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
pub(super) const HEALTH_CHECKED: &str = "proxy.istio.io/health-checks-enabled";

/// The outer form of an object. A `spec` or `status` that is absent or `null`
/// is one without fields.
#[derive(Default, Deserialize)]
#[serde(
    default,
    bound(deserialize = "'de: 'a, S: Default + Deserialize<'de>, T: Default + Deserialize<'de>")
)]
pub(super) struct Manifest<'a, S = IgnoredAny, T = IgnoredAny> {
    pub(super) metadata: Meta<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(super) spec: S,
    #[serde(deserialize_with = "or_default")]
    pub(super) status: T,
}

fn or_default<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Meta<'a> {
    pub(super) name: Text<'a>,
    pub(super) generate_name: Text<'a>,
    pub(super) namespace: Text<'a>,
    pub(super) creation_timestamp: Text<'a>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
    pub(super) labels: Map<'a, Text<'a>>,
    #[serde(deserialize_with = "annotations")]
    pub(super) annotations: Map<'a, Text<'a>>,
    pub(super) owner_references: List<Owner<'a>>,
}

/// One owner reference.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Owner<'a> {
    pub(super) kind: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) controller: Option<bool>,
}

fn annotations<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Map<'a, Text<'a>>, D::Error> {
    some_of(from, ANNOTATIONS)
}

impl Meta<'_> {
    /// Age, name and namespace of an object of `kind`. As kubectl does, an
    /// object of a namespaced kind is in `default` unless it says otherwise.
    pub(super) fn object(&self, kind: ObjectKind) -> ObjectMeta {
        ObjectMeta {
            created: self.creation_timestamp.arc(),
            ..self.key(kind)
        }
    }

    /// Name and namespace, for kinds whose age decides nothing.
    pub(super) fn key(&self, kind: ObjectKind) -> ObjectMeta {
        let namespace = match (name_and_scope(kind), self.namespace.filled()) {
            ((_, false), _) => "",
            ((_, true), Some(namespace)) => namespace,
            ((_, true), None) => "default",
        };
        ObjectMeta {
            created: Arc::default(),
            name: self.name.arc(),
            namespace: Namespace::from(namespace),
        }
    }

    /// The labels.
    pub(super) fn labels(&self) -> Labels {
        labels(&self.labels)
    }

    /// The annotations that are kept.
    pub(super) fn annotations(&self) -> Labels {
        labels(&self.annotations)
    }

    /// The value of a kept annotation, unless it is empty.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).and_then(Text::filled)
    }
}

/// One of `status.conditions`.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Condition<'a> {
    r#type: Text<'a>,
    status: Text<'a>,
}

impl Condition<'_> {
    /// Whether it is the one of this type, and true.
    pub(super) fn holds(&self, kind: &str) -> bool {
        &*self.r#type == kind && &*self.status == "True"
    }
}

/// A label set.
pub(super) fn labels(map: &Map<'_, Text<'_>>) -> Labels {
    map.iter().map(|(k, v)| (k.arc(), v.arc())).collect()
}

/// Reads the trimmed form of an object.
pub(super) fn from_json<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let path = path_at(json, line, column);
        let reason = error.to_string();
        // The place in a text that its author never saw; the path says it.
        let place = format!(" at line {line} column {column}");
        let told = reason.strip_suffix(&place).filter(|_| !path.is_empty());
        let told = told.unwrap_or(&reason);
        // serde names our own type, which says nothing to the author.
        match told.split_once("expected struct ") {
            Some((found, _)) => Problem::new(path, format!("{found}expected an object")),
            None => Problem::new(path, told),
        }
    })
}

/// Name and version of an object, which can be read where the rest cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Header<'a> {
    metadata: NameOnly<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct NameOnly<'a> {
    name: Text<'a>,
    namespace: Text<'a>,
    creation_timestamp: Text<'a>,
    resource_version: Text<'a>,
}

/// Reads nothing but the name and version of an object of `kind`.
pub fn identify(kind: ObjectKind, json: &[u8]) -> Result<Identity, ManifestError> {
    let (kind_name, _) = name_and_scope(kind);
    let header: Header<'_> = from_json(json).map_err(|problem| ManifestError::Syntax {
        kind: kind_name,
        problem: problem.to_string(),
    })?;
    let NameOnly {
        name,
        namespace,
        creation_timestamp,
        resource_version,
    } = header.metadata;
    if name.is_empty() {
        return Err(ManifestError::Nameless { kind: kind_name });
    }
    let meta = Meta {
        name,
        namespace,
        creation_timestamp,
        ..Meta::default()
    };
    Ok(Identity {
        meta: meta.object(kind),
        resource_version: resource_version.arc(),
    })
}
