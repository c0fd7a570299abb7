//! Secrets that the agent beside Envoy serves.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
    api_config_source::ApiType,
    config_source::ConfigSourceSpecifier,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;

use super::pb;

/// The certificate of the workload.
pub(super) const CERTIFICATE: &str = "default";
/// The roots of the mesh.
pub(super) const ROOTS: &str = "ROOTCA";
/// The agent's socket, in Envoy's bootstrap.
const SDS_CLUSTER: &str = "sds-grpc";

/// Where to get the secret `name`.
pub(super) fn secret(name: &str) -> SdsSecretConfig {
    let agent = EnvoyGrpc {
        cluster_name: SDS_CLUSTER.to_owned(),
        ..EnvoyGrpc::default()
    };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(agent)),
            ..GrpcService::default()
        }],
        set_node_on_first_message_only: true,
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            // A listener must not start without its certificate.
            initial_fetch_timeout: pb::duration(Duration::ZERO),
            resource_api_version: ApiVersion::V3.into(),
            ..ConfigSource::default()
        }),
    }
}
