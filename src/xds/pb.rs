//! Shorthands for protobuf messages.

#![allow(
    clippy::unnecessary_wraps,
    reason = "each of these fills an optional field"
)]

use std::time::Duration;

use envoy_types::pb::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress,
        TypedExtensionConfig, address, config_source::ConfigSourceSpecifier,
        socket_address::PortSpecifier,
    },
    google::protobuf::{Any, BoolValue, UInt32Value},
};
use prost::{Message, Name};

pub(super) use crate::proto::udpa::TypedStruct;

pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// `udpa.type.v1.TypedStruct`, which has no [`Name`].
pub(super) fn typed_struct(type_url: &str, value: Vec<u8>) -> Any {
    let message = TypedStruct {
        type_url: type_url.to_owned(),
        value,
    };
    Any {
        type_url: "type.googleapis.com/udpa.type.v1.TypedStruct".to_owned(),
        value: message.encode_to_vec(),
    }
}

pub(super) fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(message)),
    }
}

pub(super) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A duration; what does not fit is cut at the longest one there is.
pub(super) fn duration(value: Duration) -> Option<envoy_types::pb::google::protobuf::Duration> {
    Some(envoy_types::pb::google::protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    })
}

pub(super) fn socket_address(address: &str, port: u16) -> SocketAddress {
    SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..SocketAddress::default()
    }
}

pub(super) fn address(host: &str, port: u16) -> Option<Address> {
    let address = Some(address::Address::SocketAddress(socket_address(host, port)));
    Some(Address { address })
}

/// The aggregated stream, waited for without a limit (istiod: the time-out of
/// 15 s that is Envoy's default would start listeners with half a configuration).
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        initial_fetch_timeout: duration(Duration::ZERO),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}
