//! Reads node metadata, which clients write as they like.

use std::{borrow::Cow, sync::Arc};

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use serde::Deserialize;

use super::NodeError;
use crate::model::{Labels, printable};

/// Typed access to the metadata of a node. A key that is absent, null or empty
/// counts as unset.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a>(Option<&'a Struct>);

impl<'a> Metadata<'a> {
    pub(super) fn new(fields: Option<&'a Struct>) -> Self {
        Self(fields)
    }

    fn kind(self, key: &str) -> Option<&'a Kind> {
        match self.0?.fields.get(key)?.kind.as_ref()? {
            Kind::NullValue(_) => None,
            kind => Some(kind),
        }
    }

    /// A string, empty when unset.
    pub(super) fn text(self, key: &'static str) -> Result<&'a str, NodeError> {
        match self.kind(key) {
            None => Ok(""),
            Some(Kind::StringValue(text)) => Ok(text),
            Some(other) => Err(wrong(key, "a string", other)),
        }
    }

    /// The parts of a comma list, trimmed, without empty ones.
    pub(super) fn list(
        self,
        key: &'static str,
    ) -> Result<impl Iterator<Item = &'a str>, NodeError> {
        let text = self.text(key)?;
        Ok(text.split(',').map(str::trim).filter(|s| !s.is_empty()))
    }

    /// A boolean. istio writes it as a string and refuses JSON's own; both are
    /// accepted here.
    pub(super) fn flag(self, key: &'static str) -> Result<bool, NodeError> {
        const EXPECTED: &str = "\"true\" or \"false\"";
        match self.kind(key) {
            None => Ok(false),
            Some(Kind::BoolValue(value)) => Ok(*value),
            Some(kind @ Kind::StringValue(text)) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(wrong(key, EXPECTED, kind)),
            },
            Some(other) => Err(wrong(key, EXPECTED, other)),
        }
    }

    /// A port, as a number or as digits; 0 counts as unset.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked first"
    )]
    pub(super) fn port(self, key: &'static str) -> Result<Option<u16>, NodeError> {
        let Some(kind) = self.kind(key) else {
            return Ok(None);
        };
        let number = match kind {
            Kind::NumberValue(n) if n.fract() == 0.0 && (0.0..=65535.0).contains(n) => {
                Some(*n as u16)
            }
            Kind::StringValue(text) if text.is_empty() => Some(0),
            Kind::StringValue(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(0) => Ok(None),
            Some(port) => Ok(Some(port)),
            None => Err(wrong(key, "a port number", kind)),
        }
    }

    /// The named ports of a pod: JSON inside of a string.
    pub(super) fn named_ports(self, key: &'static str) -> Result<NamedPorts, NodeError> {
        const EXPECTED: &str = "a JSON list of ports with name and containerPort";
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(Arc::default());
        }
        let Ok(ports) = serde_json::from_str::<Vec<PodPort>>(text) else {
            let found = Kind::StringValue(text.to_owned());
            return Err(wrong(key, EXPECTED, &found));
        };
        let named = ports.into_iter().filter(|port| !port.name.is_empty());
        let named = named.map(|port| (Arc::from(port.name), port.container_port));
        Ok(named.collect())
    }

    /// A map of strings.
    pub(super) fn labels(self, key: &'static str) -> Result<Labels, NodeError> {
        const EXPECTED: &str = "a map of strings";
        let fields = match self.kind(key) {
            None => return Ok(Labels::default()),
            Some(Kind::StructValue(map)) => &map.fields,
            Some(other) => return Err(wrong(key, EXPECTED, other)),
        };
        let pair = |(name, value): (&'a String, &'a Value)| match &value.kind {
            Some(Kind::StringValue(text)) => Ok((name.as_str(), text.as_str())),
            // What JSON null decodes to in istiod: an empty string.
            None | Some(Kind::NullValue(_)) => Ok((name.as_str(), "")),
            Some(other) => Err(wrong(key, EXPECTED, other)),
        };
        fields.iter().map(pair).collect()
    }
}

/// Ports by name.
type NamedPorts = Arc<[(Arc<str>, u16)]>;

/// One entry of `POD_PORTS`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodPort {
    #[serde(default)]
    name: String,
    container_port: u16,
}

fn wrong(key: &'static str, expected: &'static str, found: &Kind) -> NodeError {
    let found = match found {
        Kind::NullValue(_) => Cow::Borrowed("null"),
        Kind::NumberValue(n) => Cow::Owned(format!("the number {n}")),
        Kind::StringValue(text) => Cow::Owned(format!("\"{}\"", printable(text, 64))),
        Kind::BoolValue(value) => Cow::Owned(format!("the boolean {value}")),
        Kind::StructValue(_) => Cow::Borrowed("an object"),
        Kind::ListValue(_) => Cow::Borrowed("a list"),
    };
    let found = found.into_owned();
    NodeError::Metadata {
        key,
        expected,
        found,
    }
}
