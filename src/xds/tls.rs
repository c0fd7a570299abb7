//! TLS contexts of the mesh: what goes into clusters and listeners alike.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket,
    api_config_source::ApiType,
    config_source::ConfigSourceSpecifier,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    transport_socket::ConfigType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::{
    raw_buffer::v3::RawBuffer,
    tls::v3::{
        CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
        SubjectAltNameMatcher, TlsParameters,
        common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
        subject_alt_name_matcher::SanType,
        tls_parameters::TlsProtocol,
    },
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use prost::{Message, Name};

use super::pb;
use crate::model::MeshConfig;

/// The cluster of an Envoy's bootstrap that its agent serves secrets on.
const SDS_CLUSTER: &str = "sds-grpc";
/// The workload certificate.
pub(super) const WORKLOAD: &str = "default";
/// The mesh's roots.
pub(super) const ROOTS: &str = "ROOTCA";

/// Cipher suites of TLS 1.2 between peers (istiod: `SupportedCiphers`).
const CIPHER_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// TLS 1.2 to 1.3, the workload certificate, and peers of the mesh with one of
/// these names (any, where there are none).
pub(super) fn mesh(peers: Vec<SubjectAltNameMatcher>, alpn: &[&str]) -> CommonTlsContext {
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret(WORKLOAD)],
        validation_context_type: Some(validated_by(secret(ROOTS), peers)),
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        ..with_versions()
    }
}

/// Mesh mTLS that ends here: the workload certificate, and callers of one of
/// these trust domains. TLS 1.2 with ciphers that keep secrets and no others.
pub(super) fn mesh_server(mesh: &MeshConfig, alpn: &[&str]) -> DownstreamTlsContext {
    let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
    let domains: BTreeSet<&str> = domains.map(|domain| &**domain).collect();
    let callers = domains.into_iter().map(|domain| {
        let pattern = MatchPattern::Prefix(format!("spiffe://{domain}/"));
        matching(SanType::Uri, pattern)
    });
    let mut common = self::mesh(callers.collect(), alpn);
    if let Some(params) = &mut common.tls_params {
        params.cipher_suites = CIPHER_SUITES.map(str::to_owned).to_vec();
    }
    DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: pb::boolean(true),
        ..DownstreamTlsContext::default()
    }
}

/// TLS 1.2 to 1.3. Envoy alone would let clients speak 1.2 only.
pub(super) fn with_versions() -> CommonTlsContext {
    let mut versions = TlsParameters::default();
    versions.set_tls_minimum_protocol_version(TlsProtocol::TlSv12);
    versions.set_tls_maximum_protocol_version(TlsProtocol::TlSv13);
    CommonTlsContext {
        tls_params: Some(versions),
        ..CommonTlsContext::default()
    }
}

/// Roots from a secret, and names a certificate must have one of.
pub(super) fn validated_by(
    roots: SdsSecretConfig,
    names: Vec<SubjectAltNameMatcher>,
) -> ValidationContextType {
    let default = CertificateValidationContext {
        match_typed_subject_alt_names: names,
        ..CertificateValidationContext::default()
    };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(default),
        validation_context_sds_secret_config: Some(roots),
        ..CombinedCertificateValidationContext::default()
    })
}

/// A secret that the proxy's agent serves.
pub(super) fn secret(name: &str) -> SdsSecretConfig {
    let grpc = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: SDS_CLUSTER.to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    let mut api = ApiConfigSource {
        grpc_services: vec![grpc],
        set_node_on_first_message_only: true,
        ..ApiConfigSource::default()
    };
    api.set_api_type(ApiType::Grpc);
    api.set_transport_api_version(ApiVersion::V3);
    // istiod: the workload's own secrets are waited for without a limit, the
    // user's for Envoy's 15 seconds: a missing file must not hold up the rest.
    let is_own = [WORKLOAD, ROOTS].contains(&name);
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: pb::duration(Duration::ZERO).filter(|_| is_own),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
            ..ConfigSource::default()
        }),
    }
}

/// Exactly these names. istiod leaves it open of which kind a name is; the one
/// kind it can be is more exact, and no deprecated field is needed.
pub(super) fn exactly<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<SubjectAltNameMatcher> {
    let matcher = |name: &'a str| {
        let kind = match name {
            _ if name.contains("://") => SanType::Uri,
            _ if name.parse::<IpAddr>().is_ok() => SanType::IpAddress,
            _ if name.contains('@') => SanType::Email,
            _ => SanType::Dns,
        };
        matching(kind, MatchPattern::Exact(name.to_owned()))
    };
    names.into_iter().map(matcher).collect()
}

/// One kind of name, by pattern.
pub(super) fn matching(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    let matcher = StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher),
        ..SubjectAltNameMatcher::default()
    }
}

/// A TLS transport socket.
pub(super) fn socket<M: Message + Name>(context: &M) -> TransportSocket {
    transport_socket("envoy.transport_sockets.tls", context)
}

/// Plain text.
pub(super) fn raw() -> TransportSocket {
    transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

fn transport_socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pb::any(config))),
    }
}
