//! The protobuf form of `EndpointSlice`s: those fields of k8s.io/api/discovery/v1
//! that the JSON form is read for.

use std::collections::BTreeMap;

use prost::{DecodeError, Message};

use super::{Conditions, Endpoint, Port, Slice, TargetRef};
use crate::manifest::{
    json::{Int, List, Map},
    meta::Meta,
};

#[derive(Message)]
struct SliceMessage {
    #[prost(message, optional, tag = "1")]
    metadata: Option<MetaMessage>,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<EndpointMessage>,
    #[prost(message, repeated, tag = "3")]
    ports: Vec<PortMessage>,
    #[prost(string, tag = "4")]
    address_type: String,
}

#[derive(Message)]
struct MetaMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
}

#[derive(Message)]
struct EndpointMessage {
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    conditions: Option<ConditionsMessage>,
    #[prost(message, optional, tag = "4")]
    target: Option<TargetMessage>,
}

#[derive(Clone, Copy, Message)]
struct ConditionsMessage {
    #[prost(bool, optional, tag = "1")]
    ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    terminating: Option<bool>,
}

#[derive(Message)]
struct TargetMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Message)]
struct PortMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, optional, tag = "3")]
    port: Option<i32>,
}

/// The same as the JSON of the same object.
pub(super) fn decode(message: &[u8]) -> Result<Slice<'static>, DecodeError> {
    let SliceMessage {
        metadata,
        endpoints,
        ports,
        address_type,
    } = SliceMessage::decode(message)?;
    let metadata = metadata.unwrap_or_default();
    let labels = metadata.labels.into_iter();
    Ok(Slice {
        metadata: Meta {
            name: metadata.name.into(),
            namespace: metadata.namespace.into(),
            labels: Map(labels
                .map(|(key, value)| (key.into(), value.into()))
                .collect()),
            ..Meta::default()
        },
        address_type: address_type.into(),
        ports: List(ports.into_iter().map(Port::from).collect()),
        endpoints: List(endpoints.into_iter().map(Endpoint::from).collect()),
    })
}

impl From<PortMessage> for Port<'_> {
    fn from(message: PortMessage) -> Self {
        Self {
            name: message.name.into(),
            port: Int(message.port.map(i64::from)),
        }
    }
}

impl From<EndpointMessage> for Endpoint<'_> {
    fn from(message: EndpointMessage) -> Self {
        let addresses = message.addresses.into_iter();
        Self {
            addresses: List(addresses.map(Into::into).collect()),
            conditions: message.conditions.map(|conditions| Conditions {
                ready: conditions.ready,
                serving: conditions.serving,
                terminating: conditions.terminating,
            }),
            target_ref: message.target.map(|target| TargetRef {
                kind: target.kind.into(),
                name: target.name.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Defaults, Raw};
    use crate::model::ObjectKind;

    const SERVICE: &str = "kubernetes.io/service-name";

    fn message() -> SliceMessage {
        let endpoint = |address: &str, pod: Option<&str>| EndpointMessage {
            addresses: vec![address.to_owned()],
            conditions: Some(ConditionsMessage {
                ready: Some(true),
                serving: None,
                terminating: Some(false),
            }),
            target: pod.map(|name| TargetMessage {
                kind: "Pod".to_owned(),
                name: name.to_owned(),
            }),
        };
        SliceMessage {
            metadata: Some(MetaMessage {
                name: "web-1".to_owned(),
                namespace: "shop".to_owned(),
                labels: [(SERVICE.to_owned(), "web".to_owned())].into(),
            }),
            endpoints: vec![
                endpoint("10.0.0.1", Some("web-a")),
                endpoint("10.0.0.2", None),
            ],
            ports: vec![PortMessage {
                name: "http".to_owned(),
                port: Some(8080),
            }],
            address_type: "IPv4".to_owned(),
        }
    }

    fn parse(raw: Raw<'_>) -> Result<manifest::Parsed, manifest::ManifestError> {
        manifest::parse_raw(ObjectKind::EndpointSlice, raw, &Defaults::default())
    }

    #[test]
    fn both_forms_of_a_slice_say_the_same() {
        let json = r#"{
            "metadata": {"name": "web-1", "namespace": "shop",
                         "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "web-a"},
                 "conditions": {"ready": true, "terminating": false}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true, "terminating": false}}
            ]}"#;
        let bytes = message().encode_to_vec();
        assert_eq!(parse(Raw::Protobuf(&bytes)), parse(Raw::Json(json)));
        assert!(parse(Raw::Json(json)).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let mut bad = message();
        bad.address_type = "IPX".to_owned();
        let error = parse(Raw::Protobuf(&bad.encode_to_vec())).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("web-1") && text.contains("IPX"), "{text}");

        let mut half = message();
        half.endpoints[0].addresses = vec!["nowhere".to_owned()];
        let parsed = parse(Raw::Protobuf(&half.encode_to_vec())).expect("the rest");
        assert_eq!(parsed.left_out.len(), 1);

        assert!(parse(Raw::Protobuf(&[0xff])).is_err());
        assert!(parse(Raw::Protobuf(&[])).is_err(), "it has no name");
    }

    #[test]
    fn a_kind_that_is_not_spelled_out_is_refused() {
        let raw = Raw::Protobuf(&[]);
        let read = manifest::parse_raw(ObjectKind::Pod, raw, &Defaults::default());
        assert!(read.is_err() && !manifest::reads_protobuf(ObjectKind::Pod));
    }
}
