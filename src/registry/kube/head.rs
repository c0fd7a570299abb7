//! The part of any object that the watch itself needs.

use std::{borrow::Cow, fmt};

use prost::Message;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};

use super::frames::AnyKind;
use crate::manifest::Raw;

/// Name and version of an object.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head<'a> {
    /// Name.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// Namespace; empty for cluster-scoped kinds.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Version.
    #[serde(borrow, default)]
    pub resource_version: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Reads the head of an object in either form; empty where it has none.
    pub(crate) fn of(object: Raw<'a>) -> Self {
        let message = match object {
            Raw::Json(json) => return Self::of_json(json),
            Raw::Protobuf(message) => message,
        };
        let head = AnyKind::decode(message).unwrap_or_default();
        let head = head.metadata.unwrap_or_default();
        Self {
            name: head.name.into(),
            namespace: head.namespace.into(),
            resource_version: head.resource_version.into(),
        }
    }

    fn of_json(json: &'a str) -> Self {
        let mut head = Self::default();
        // Fails where more stands behind `metadata`, which is not read: API
        // servers write it first, and the endpoints of a slice behind it.
        let _ = Metadata(&mut head).deserialize(&mut serde_json::Deserializer::from_str(json));
        head
    }
}

/// Looks for `metadata`, and no further.
struct Metadata<'h, 'a>(&'h mut Head<'a>);

impl<'a> DeserializeSeed<'a> for Metadata<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Visitor<'a> for Metadata<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = fields.next_key()? {
            if key == "metadata" {
                *self.0 = fields.next_value()?;
                return Ok(());
            }
            fields.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_the_metadata_is_not_read() {
        let json = r#"{"kind": "A", "metadata": {"name": "n", "managedFields": [],
            "namespace": "s", "resourceVersion": "7"}, "spec": not JSON"#;
        let head = Head::of_json(json);
        assert_eq!((&*head.name, &*head.namespace), ("n", "s"));
        assert_eq!(head.resource_version, "7");
    }

    #[test]
    fn an_object_without_a_head_has_an_empty_one() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"metadata": 1}"#,
            r#"{"spec": {"metadata": {"name": "n"}}}"#,
        ] {
            assert_eq!(Head::of_json(json).name, "", "{json}");
        }
        let last = Head::of_json(r#"{"spec": {}, "metadata": {"name": "\u006e"}}"#);
        assert_eq!(last.name, "n");
    }
}
