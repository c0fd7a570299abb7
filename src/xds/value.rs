//! `google.protobuf.Struct` written with sorted keys: envoy-types keeps maps
//! hashed, so that equal values would encode to different bytes.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::Any;

use super::pb;
use crate::wire::proto;

/// Fields of a `Struct`.
pub(super) type Fields = BTreeMap<&'static str, Value>;

/// A `google.protobuf.Value`, as far as it is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    Struct(Fields),
}

impl Value {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Text(text) => proto::put_bytes(&mut out, 3, text.as_bytes()),
            Self::Bool(value) => proto::put_uint(&mut out, 4, u64::from(*value)),
            Self::Struct(fields) => proto::put_bytes(&mut out, 5, &encode_struct(fields)),
            Self::List(values) => {
                let mut list = Vec::new();
                for value in values {
                    proto::put_bytes(&mut list, 1, &value.encode());
                }
                proto::put_bytes(&mut out, 6, &list);
            }
        }
        out
    }
}

/// The bytes of a `Struct`.
pub(super) fn encode_struct(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in fields {
        put_entry(&mut out, key, &value.encode());
    }
    out
}

/// The bytes of a `core.v3.Metadata` with the one filter `istio`.
pub(super) fn istio_metadata(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    put_entry(&mut out, "istio", &encode_struct(fields));
    out
}

/// Name and configuration of istio's metadata exchange for TCP, which clusters
/// and listeners carry.
pub(super) fn metadata_exchange() -> (&'static str, Any) {
    let config = Fields::from([
        ("enable_discovery", Value::Bool(true)),
        ("protocol", Value::Text("istio-peer-exchange".to_owned())),
    ]);
    let type_url = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange";
    let config = pb::typed_struct(type_url, encode_struct(&config));
    ("istio.metadata_exchange", config)
}

/// Field 1 of a message: a map entry.
fn put_entry(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let len = proto::bytes_len(1, key.len()) + proto::bytes_len(2, value.len());
    proto::put_header(out, 1, len);
    proto::put_bytes(out, 1, key.as_bytes());
    proto::put_bytes(out, 2, value);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, value::Kind};
    use prost::Message;

    use super::*;

    #[test]
    fn structs_are_read_back_as_written() {
        let inner = Fields::from([("host", Value::Text("a".into()))]);
        let fields = Fields::from([
            ("services", Value::List(vec![Value::Struct(inner)])),
            ("external", Value::Bool(true)),
        ]);
        let read = Struct::decode(encode_struct(&fields).as_slice()).expect("a Struct");
        assert_eq!(read.fields.len(), 2);
        assert_eq!(
            read.fields["external"].kind,
            Some(Kind::BoolValue(true)),
            "{read:?}"
        );
        let Some(Kind::ListValue(list)) = &read.fields["services"].kind else {
            panic!("{read:?}");
        };
        let Some(Kind::StructValue(service)) = &list.values[0].kind else {
            panic!("{list:?}");
        };
        let host = Some(Kind::StringValue("a".into()));
        assert_eq!(service.fields["host"].kind, host);
    }
}
