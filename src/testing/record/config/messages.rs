//! What the `Debug` form of messages leaves open: packed messages, the names of
//! enum values and which of them are defaults, messages without fields.

use std::fmt::Debug;

use envoy_types::pb::envoy::extensions::filters::{
    http::{
        cors::v3::Cors, fault::v3::HttpFault, grpc_stats::v3::FilterConfig as GrpcStats,
        router::v3::Router,
    },
    listener::{
        http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
        original_src::v3::OriginalSrc, tls_inspector::v3::TlsInspector,
    },
    network::{http_connection_manager::v3::HttpConnectionManager, tcp_proxy::v3::TcpProxy},
};
use envoy_types::pb::envoy::extensions::{
    network::dns_resolver::cares::v3::CaresDnsResolverConfig,
    retry::host::previous_hosts::v3::PreviousHostsPredicate,
    transport_sockets::{
        raw_buffer::v3::RawBuffer,
        tls::v3::{DownstreamTlsContext, UpstreamTlsContext},
    },
    upstreams::http::v3::HttpProtocolOptions,
};
use envoy_types::pb::google::protobuf::Struct;
use prost::{Message, Name};
use serde_json::{Map, Value};

use super::tree;
use crate::proto::udpa::TypedStruct;

/// istio's `FilterConfig` of `istio.alpn`.
#[derive(Clone, PartialEq, Message)]
struct Alpn {
    #[prost(message, repeated, tag = "1")]
    alpn_override: Vec<AlpnOverride>,
}

#[derive(Clone, PartialEq, Message)]
struct AlpnOverride {
    #[prost(enumeration = "AlpnProtocol", tag = "1")]
    upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    alpn_override: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum AlpnProtocol {
    Http10 = 0,
    Http11 = 1,
    Http2 = 2,
}

const ALPN: &str = "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";
const TYPED_STRUCT: &str = "type.googleapis.com/udpa.type.v1.TypedStruct";

/// The JSON of a packed message: its fields, and its type in `@type`.
pub(super) fn any(fields: &Map<String, Value>) -> Value {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = text("type_url");
    let bytes = fields.get("value").and_then(Value::as_array);
    let bytes = bytes.into_iter().flatten().filter_map(Value::as_u64);
    let bytes: Vec<u8> = bytes.filter_map(|byte| u8::try_from(byte).ok()).collect();
    let read = match kind {
        ALPN => debug::<Alpn>(&bytes),
        TYPED_STRUCT => typed_struct(&bytes),
        _ => decoded(kind, &bytes),
    };
    let mut out = match read {
        Some(Value::Object(out)) => out,
        _ => Map::from_iter([("unknown".to_owned(), Value::from(bytes))]),
    };
    out.insert("@type".to_owned(), Value::from(kind));
    Value::Object(out)
}

fn decoded(kind: &str, bytes: &[u8]) -> Option<Value> {
    macro_rules! first_of {
        ($($message:ty),+ $(,)?) => {
            $(if kind == <$message>::type_url() {
                return debug::<$message>(bytes);
            })+
        };
    }
    first_of!(
        CaresDnsResolverConfig,
        Cors,
        DownstreamTlsContext,
        GrpcStats,
        HttpConnectionManager,
        HttpFault,
        HttpInspector,
        HttpProtocolOptions,
        OriginalDst,
        OriginalSrc,
        PreviousHostsPredicate,
        RawBuffer,
        Router,
        TcpProxy,
        TlsInspector,
        UpstreamTlsContext,
    );
    None
}

fn debug<M: Message + Default + Debug>(bytes: &[u8]) -> Option<Value> {
    let message = M::decode(bytes).ok()?;
    Some(tree::json(&format!("{message:?}")))
}

fn typed_struct(bytes: &[u8]) -> Option<Value> {
    let message = TypedStruct::decode(bytes).ok()?;
    let value = Struct::decode(message.value.as_slice()).ok()?;
    let mut out = Map::new();
    out.insert("type_url".to_owned(), Value::from(message.type_url));
    out.insert("value".to_owned(), tree::json(&format!("{value:?}")));
    Some(Value::Object(out))
}

/// Messages without fields inside of others: their `Debug` form is their name
/// alone, as that of an enum value.
pub(super) fn is_empty(word: &str) -> bool {
    ["AggregatedConfigSource", "LocalityWeightedLbConfig"].contains(&word)
}

/// `LeastRequest` → `LEAST_REQUEST`.
pub(super) fn enum_value(word: &str) -> String {
    match word {
        "TlSv12" => "TLSv1_2".to_owned(),
        "TlSv13" => "TLSv1_3".to_owned(),
        _ => {
            let mut out = String::new();
            for c in word.chars() {
                if c.is_uppercase() && !out.is_empty() {
                    out.push('_');
                }
                out.extend(c.to_uppercase());
            }
            out
        }
    }
}

/// Whether an enum field has its first value, which protobuf JSON leaves out.
pub(super) fn is_default(field: &str, value: &str) -> bool {
    const FIRST: &[(&str, &str)] = &[
        ("lb_policy", "ROUND_ROBIN"),
        ("dns_lookup_family", "AUTO"),
        ("protocol_selection", "USE_CONFIGURED_PROTOCOL"),
        ("priority", "DEFAULT"),
        ("protocol", "TCP"),
        ("health_status", "UNKNOWN"),
        ("traffic_direction", "UNSPECIFIED"),
        ("drain_type", "DEFAULT"),
        ("codec_type", "AUTO"),
        ("server_header_transformation", "OVERWRITE"),
        ("forward_client_cert_details", "SANITIZE"),
        (
            "path_with_escaped_slashes_action",
            "IMPLEMENTATION_SPECIFIC_DEFAULT",
        ),
        ("headers_with_underscores_action", "ALLOW"),
        ("trust_chain_verification", "VERIFY_TRUST_CHAIN"),
        ("ocsp_staple_policy", "LENIENT_STAPLING"),
        ("upstream_protocol", "HTTP10"),
        ("cluster_not_found_response_code", "SERVICE_UNAVAILABLE"),
        ("internal_redirect_action", "PASS_THROUGH_INTERNAL_REDIRECT"),
        ("proxy_protocol_tlv_merge_policy", "ADD_IF_ABSENT"),
        ("upstream_connect_mode", "IMMEDIATE"),
        ("format", "TEXT"),
        ("require_tls", "NONE"),
        ("source_type", "ANY"),
    ];
    FIRST.contains(&(field, value))
}
