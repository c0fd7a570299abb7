//! TLS from a proxy to what it calls (istiod: `cluster_tls.go`).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::{
    cluster::v3::cluster::{DiscoveryType, TransportSocketMatch},
    core::v3::{
        AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, UpstreamHttpProtocolOptions,
        config_source::ConfigSourceSpecifier, data_source::Specifier,
    },
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
    common_tls_context::ValidationContextType,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use super::draft::{Draft, Upstream};
use super::outbound;
use crate::mesh::{ClusterKey, ServiceState};
use crate::model::{ClientTls, IstioFilters, NodeKind, Protocol, Provider, SpiffeId, TlsSetting};
use crate::xds::tls;

/// Sets the transport sockets of an outbound cluster: as the rule says, else
/// mesh mTLS to every endpoint that takes it.
pub(super) fn apply(
    draft: &mut Draft,
    state: &ServiceState,
    key: &ClusterKey,
    rule: Option<&ClientTls>,
) {
    match rule {
        None => apply_automatic(draft, state, key),
        Some(tls) => apply_rule(draft, state, key, tls),
    }
}

/// istiod: auto mTLS, for services of the mesh.
fn apply_automatic(draft: &mut Draft, state: &ServiceState, key: &ClusterKey) {
    if state.service.mesh_external || !state.mesh.auto_mtls {
        return;
    }
    let context = || tls::socket(&mesh(state, key, draft.upstream, &ClientTls::default()));
    if draft.discovery == DiscoveryType::OriginalDst {
        // Endpoints cannot be told apart here: all of them or none.
        let port = state.service.port(key.cluster.port);
        let takes = port.is_some_and(|port| state.peers.mtls_ports.contains(&port.name));
        draft.cluster.transport_socket = takes.then(context);
        return;
    }
    let is_istio = Value {
        kind: Some(Kind::StringValue("istio".to_owned())),
    };
    draft.cluster.transport_socket_matches = vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(Struct {
                fields: [("tlsMode".to_owned(), is_istio)].into(),
            }),
            transport_socket: Some(context()),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(tls::raw()),
        },
    ];
}

fn apply_rule(draft: &mut Draft, state: &ServiceState, key: &ClusterKey, tls: &ClientTls) {
    let context = match tls.mode {
        TlsSetting::Disable => return,
        TlsSetting::IstioMutual => mesh(state, key, draft.upstream, tls),
        // istiod: a rule for all sidecars must not hold them up for a secret
        // that only some of them may read.
        TlsSetting::Simple | TlsSetting::Mutual if names_foreign_secret(state, key, tls) => return,
        TlsSetting::Simple | TlsSetting::Mutual => {
            name_by_request(draft, tls);
            own(state, draft.upstream, tls)
        }
    };
    draft.cluster.transport_socket = Some(tls::socket(&context));
}

/// Mesh mTLS. The server name is what east-west gateways route by.
fn mesh(
    state: &ServiceState,
    key: &ClusterKey,
    upstream: Upstream,
    asked: &ClientTls,
) -> UpstreamTlsContext {
    let port = state.service.port(key.cluster.port);
    let protocol = port.map_or(Protocol::Auto, |port| port.protocol);
    let names = if asked.subject_alt_names.is_empty() {
        identities(state)
    } else {
        asked
            .subject_alt_names
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let names = tls::exactly(names.iter().map(String::as_str));
    UpstreamTlsContext {
        common_tls_context: Some(tls::mesh(names, alpn(protocol, upstream, key.filters))),
        sni: match &*asked.sni {
            "" => key.cluster.sni_dnat().to_string(),
            sni => sni.to_owned(),
        },
        ..UpstreamTlsContext::default()
    }
}

/// Who may answer for the service: the accounts of its endpoints in all
/// clusters and those it names itself, under every name of the trust domain.
fn identities(state: &ServiceState) -> BTreeSet<String> {
    let named = state.service.subject_alt_names.iter();
    let mut all = BTreeSet::new();
    for name in state.peers.identities.iter().chain(named) {
        all.insert(name.to_string());
        let Ok(id) = name.parse::<SpiffeId>() else {
            continue;
        };
        let of = |alias| SpiffeId::new(alias, &id.namespace, &id.service_account);
        let aliases = state.mesh.trust_domain_aliases.iter();
        all.extend(aliases.map(|alias| of(alias).to_string()));
    }
    all
}

/// What is offered to the peer, by which it tells mesh traffic, and HTTP in it,
/// apart. istio's Envoy sets the names for HTTP by request (`istio.alpn`).
/// Upstream Envoy offers the same list to all, where the port says what it
/// speaks; where it does not, only that it is mesh traffic.
fn alpn(protocol: Protocol, upstream: Upstream, filters: IstioFilters) -> &'static [&'static str] {
    match (upstream, filters.alpn, filters.metadata_exchange) {
        (Upstream::Http2, true, true) => &["istio-peer-exchange", "istio", "h2"],
        (Upstream::Http2, true, false) => &["istio", "h2"],
        (Upstream::Http2, false, _) => &["istio-h2", "istio", "h2"],
        (Upstream::Http1, false, _) if protocol.is_http() => {
            &["istio-http/1.1", "istio", "http/1.1"]
        }
        (_, _, true) => &["istio-peer-exchange", "istio"],
        (_, _, false) => &["istio"],
    }
}

fn names_foreign_secret(state: &ServiceState, key: &ClusterKey, tls: &ClientTls) -> bool {
    let for_all = outbound::rule(state, key).is_none_or(|rule| rule.workload_selector.is_empty());
    let name = &*tls.credential_name;
    let is_secret = !name.is_empty() && !name.starts_with("configmap://");
    is_secret && key.kind == NodeKind::Sidecar && for_all
}

/// Without a server name of the rule's, that of the request.
fn name_by_request(draft: &mut Draft, tls: &ClientTls) {
    if !tls.sni.is_empty() {
        return;
    }
    draft.upstream_http = Some(UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: tls.subject_alt_names.is_empty() && !tls.insecure_skip_verify,
        ..UpstreamHttpProtocolOptions::default()
    });
}

/// TLS with the user's certificates and roots.
fn own(state: &ServiceState, upstream: Upstream, tls: &ClientTls) -> UpstreamTlsContext {
    let is_external = state.service.provider == Provider::External;
    let names = if is_external && tls.subject_alt_names.is_empty() {
        identities(state)
    } else {
        tls.subject_alt_names
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let (certificate, roots) = secrets(tls);
    let certificate = certificate.filter(|_| tls.mode == TlsSetting::Mutual);
    let names = tls::exactly(names.iter().map(String::as_str));
    let mut validation = match roots.filter(|_| !tls.insecure_skip_verify) {
        Some(roots) => tls::validated_by(roots, names),
        None => ValidationContextType::ValidationContext(CertificateValidationContext::default()),
    };
    if let ValidationContextType::CombinedValidationContext(combined) = &mut validation
        && let Some(default) = &mut combined.default_validation_context
        && !tls.ca_crl.is_empty()
    {
        let specifier = Some(Specifier::Filename(tls.ca_crl.to_string()));
        default.crl = Some(DataSource {
            specifier,
            ..DataSource::default()
        });
    }
    let h2 = upstream == Upstream::Http2;
    let common = CommonTlsContext {
        tls_certificate_sds_secret_configs: certificate.into_iter().collect(),
        validation_context_type: Some(validation),
        alpn_protocols: h2.then(|| "h2".to_owned()).into_iter().collect(),
        ..tls::with_versions()
    };
    UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: tls.sni.to_string(),
        ..UpstreamTlsContext::default()
    }
}

/// The secrets of certificate and roots: by name from the control plane, or
/// files that the proxy's agent reads and follows.
fn secrets(tls: &ClientTls) -> (Option<SdsSecretConfig>, Option<SdsSecretConfig>) {
    if !tls.credential_name.is_empty() {
        let name = &tls.credential_name;
        let roots = format!("{name}-cacert");
        return (Some(credential(name)), Some(credential(&roots)));
    }
    let (certificate, key) = (&tls.client_certificate, &tls.private_key);
    let has_pair = !certificate.is_empty() && !key.is_empty();
    let certificate = || tls::secret(&format!("file-cert:{certificate}~{key}"));
    let roots = match &*tls.ca_certificates {
        "" => "system",
        path => path,
    };
    let roots = tls::secret(&format!("file-root:{roots}"));
    (has_pair.then(certificate), Some(roots))
}

/// istiod: `ConstructSdsSecretConfigForCredential`.
fn credential(name: &str) -> SdsSecretConfig {
    match name {
        "builtin://" => return tls::secret(tls::WORKLOAD),
        "builtin://-cacert" => return tls::secret(tls::ROOTS),
        _ => {}
    }
    let name = name.strip_prefix("sds://").unwrap_or(name);
    let typed = ["kubernetes://", "kubernetes-gateway://", "configmap://"];
    let name = if typed.iter().any(|kind| name.starts_with(kind)) {
        name.to_owned()
    } else {
        format!("kubernetes://{name}")
    };
    SdsSecretConfig {
        name,
        // With Envoy's own time-out: the secret may not exist.
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
            ..ConfigSource::default()
        }),
    }
}
