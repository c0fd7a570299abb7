//! Proxies to connect as, written down in a file.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{Extension, Locality, Node};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use serde::Deserialize;
use serde_json::Value as Json;

/// A proxy: what its first request says of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ProxySpec {
    /// Short name, used in output only.
    pub name: String,
    /// Node id: `type~ip~name.namespace~domain`.
    pub id: String,
    /// Region, zone, subzone.
    #[serde(default)]
    pub locality: SpecLocality,
    /// Node metadata.
    #[serde(default)]
    pub metadata: serde_json::Map<String, Json>,
    /// Names of the extensions of its Envoy.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// Locality of a [`ProxySpec`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SpecLocality {
    /// Region.
    #[serde(default)]
    pub region: String,
    /// Zone.
    #[serde(default)]
    pub zone: String,
    /// Subzone.
    #[serde(default)]
    pub sub_zone: String,
}

/// The text is no list of proxies.
#[derive(Debug, thiserror::Error)]
#[error("not a YAML list of {{name, id, locality, metadata}}: {0}")]
pub struct NodeError(#[from] yaml_serde::Error);

impl ProxySpec {
    /// Reads a YAML list of proxies.
    pub fn parse_list(yaml: &str) -> Result<Vec<Self>, NodeError> {
        Ok(yaml_serde::from_str(yaml)?)
    }

    /// A metadata value that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Json::as_str)
    }

    /// The node message.
    pub fn node(&self) -> Node {
        let SpecLocality {
            region,
            zone,
            sub_zone,
        } = self.locality.clone();
        Node {
            id: self.id.clone(),
            cluster: self.name.clone(),
            metadata: Some(to_struct(&self.metadata)),
            locality: Some(Locality {
                region,
                zone,
                sub_zone,
            }),
            extensions: self.extensions.iter().map(|name| extension(name)).collect(),
            ..Default::default()
        }
    }
}

fn extension(name: &str) -> Extension {
    Extension {
        name: name.to_owned(),
        ..Extension::default()
    }
}

fn to_struct(map: &serde_json::Map<String, Json>) -> Struct {
    let fields: HashMap<_, _> = map.iter().map(|(k, v)| (k.clone(), to_value(v))).collect();
    Struct { fields }
}

fn to_value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Json::String(s) => Kind::StringValue(s.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Json::Object(map) => Kind::StructValue(to_struct(map)),
    };
    Value { kind: Some(kind) }
}
