//! What `build.rs` compiles from `proto/`: messages that envoy-types lacks.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code"
)]

/// `istio.v1.auth`: the certificate service.
pub mod ca {
    tonic::include_proto!("istio.v1.auth");
}

/// `istio.networking.nds.v1`: the name table.
pub mod nds {
    tonic::include_proto!("istio.networking.nds.v1");
}

/// `udpa.type.v1`: extensions that only istio's Envoy knows.
pub mod udpa {
    tonic::include_proto!("udpa.r#type.v1");
}
