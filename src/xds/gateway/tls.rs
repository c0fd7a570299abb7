//! TLS that ends at a router (istiod: `BuildListenerTLSContext`).

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, TlsParameters,
    common_tls_context::ValidationContextType, tls_parameters::TlsProtocol,
};

use crate::model::{ServerTls, ServerTlsMode, TlsVersion};
use crate::xds::{pb, tls as mesh};

/// Cipher suites that Envoy knows; it refuses a listener that names another.
const CIPHER_SUITES: [&str; 14] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// The TLS of a server that ends it; none where its certificate cannot be
/// served. `http` says whether HTTP stands behind it.
pub(super) fn terminating(tls: &ServerTls, http: bool) -> Option<DownstreamTlsContext> {
    // A Secret that nobody serves would keep the whole listener from starting.
    if !tls.credentials.is_empty() && tls.mode != ServerTlsMode::IstioMutual {
        return None;
    }
    let requires = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
    let is_mesh = tls.mode == ServerTlsMode::IstioMutual;
    let validates = requires || tls.mode == ServerTlsMode::OptionalMutual;
    let protocols: &[&str] = if is_mesh && !http {
        &["istio-peer-exchange", "h2", "http/1.1"]
    } else {
        &["h2", "http/1.1"]
    };
    let common = CommonTlsContext {
        tls_params: parameters(tls).filter(|_| !is_mesh),
        alpn_protocols: protocols.iter().map(|&p| p.to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![mesh::secret(&certificate(tls))],
        validation_context_type: validates.then(|| validation(tls)),
        ..CommonTlsContext::default()
    };
    Some(DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: pb::boolean(requires),
        ..DownstreamTlsContext::default()
    })
}

/// Under which name the agent serves the certificate: files too, so that they
/// can be rotated.
fn certificate(tls: &ServerTls) -> String {
    let (chain, key) = (&tls.certificate, &tls.private_key);
    if tls.mode == ServerTlsMode::IstioMutual || chain.is_empty() || key.is_empty() {
        return mesh::WORKLOAD.to_owned();
    }
    format!("file-cert:{chain}~{key}")
}

fn roots(tls: &ServerTls) -> String {
    match &*tls.roots {
        path if !path.is_empty() && tls.mode != ServerTlsMode::IstioMutual => {
            format!("file-root:{path}")
        }
        _ => mesh::ROOTS.to_owned(),
    }
}

/// Who may call.
fn validation(tls: &ServerTls) -> ValidationContextType {
    let names = mesh::exactly(tls.client_names.iter().map(|name| &**name));
    let mut context = mesh::validated_by(mesh::secret(&roots(tls)), names);
    if let ValidationContextType::CombinedValidationContext(combined) = &mut context
        && let Some(default) = &mut combined.default_validation_context
        && !tls.revoked.is_empty()
    {
        default.crl = Some(DataSource {
            specifier: Some(Specifier::Filename(tls.revoked.to_string())),
            ..DataSource::default()
        });
    }
    context
}

/// Versions and ciphers, where any is set.
fn parameters(tls: &ServerTls) -> Option<TlsParameters> {
    let mut seen = BTreeSet::new();
    let known = |suite: &&str| CIPHER_SUITES.contains(suite);
    let suites = tls.cipher_suites.iter().map(|s| &**s).filter(known);
    let parameters = TlsParameters {
        tls_minimum_protocol_version: version(tls.min_version).into(),
        tls_maximum_protocol_version: version(tls.max_version).into(),
        cipher_suites: suites
            .filter(|suite| seen.insert(*suite))
            .map(str::to_owned)
            .collect(),
        ..TlsParameters::default()
    };
    (parameters != TlsParameters::default()).then_some(parameters)
}

fn version(version: Option<TlsVersion>) -> TlsProtocol {
    match version {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::V1_0) => TlsProtocol::TlSv10,
        Some(TlsVersion::V1_1) => TlsProtocol::TlSv11,
        Some(TlsVersion::V1_2) => TlsProtocol::TlSv12,
        Some(TlsVersion::V1_3) => TlsProtocol::TlSv13,
    }
}
