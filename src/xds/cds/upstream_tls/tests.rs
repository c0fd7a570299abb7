use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster,
    core::v3::{TransportSocket, config_source::ConfigSourceSpecifier, transport_socket},
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
    common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;

use crate::mesh::MeshState;
use crate::model::{
    ClientTls, MeshConfig, PolicySettings, Protocol, Proxy, Resolution, TlsSetting, TypeUrl,
};
use crate::testing::gateways::auto_passthrough;
use crate::testing::snapshot::{
    ServiceBuilder, dialled_sidecar, external, router, service, snapshot_of,
};
use crate::xds::tests::{named, resources};

const WEB: &str = "outbound|80||web.ns.svc.cluster.local";
const ACCOUNT: &str = "spiffe://cluster.local/ns/ns/sa/web";

fn web() -> ServiceBuilder {
    let web = service("web", "ns").port("http", 80, Protocol::Http);
    web.peer("10.0.0.1", 8080, "http", ACCOUNT)
}

fn cluster_of(mesh: MeshConfig, proxy: Proxy, service: ServiceBuilder, name: &str) -> Cluster {
    let mesh = MeshState {
        config: Arc::new(mesh),
        gateways: vec![auto_passthrough("eastwest")],
        ..MeshState::default()
    };
    let snapshot = snapshot_of(mesh, [service]);
    named(&resources(&snapshot, proxy), TypeUrl::Cluster, name)
}

fn cluster(service: ServiceBuilder) -> Cluster {
    let mesh = MeshConfig::default();
    cluster_of(mesh, dialled_sidecar("ns"), service, WEB)
}

fn ruled(service: ServiceBuilder, tls: ClientTls) -> Cluster {
    let settings = PolicySettings {
        tls: Some(Arc::new(tls)),
        ..PolicySettings::default()
    };
    cluster(service.rule(settings, &[]))
}

fn context(socket: &TransportSocket) -> UpstreamTlsContext {
    assert_eq!(socket.name, "envoy.transport_sockets.tls");
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    UpstreamTlsContext::decode(any.value.as_slice()).expect("a context")
}

/// The context for endpoints that take mesh mTLS.
fn automatic(cluster: &Cluster) -> UpstreamTlsContext {
    assert_eq!(cluster.transport_socket, None);
    let [mutual, plain] = cluster.transport_socket_matches.as_slice() else {
        panic!("{:?}", cluster.transport_socket_matches);
    };
    let names = (&*mutual.name, &*plain.name);
    assert_eq!(names, ("tlsMode-istio", "tlsMode-disabled"));
    let wanted = mutual.r#match.as_ref().expect("a match");
    assert!(wanted.fields.contains_key("tlsMode"), "{wanted:?}");
    assert!(plain.r#match.as_ref().is_some_and(|m| m.fields.is_empty()));
    let plain = plain.transport_socket.as_ref().expect("a socket");
    assert_eq!(plain.name, "envoy.transport_sockets.raw_buffer");
    context(mutual.transport_socket.as_ref().expect("a socket"))
}

/// The context for all endpoints.
fn fixed(cluster: &Cluster) -> UpstreamTlsContext {
    assert!(cluster.transport_socket_matches.is_empty());
    context(cluster.transport_socket.as_ref().expect("a socket"))
}

fn common(context: &UpstreamTlsContext) -> &CommonTlsContext {
    context.common_tls_context.as_ref().expect("set")
}

fn alpn(context: &UpstreamTlsContext) -> Vec<&str> {
    let names = common(context).alpn_protocols.iter();
    names.map(String::as_str).collect()
}

fn sans(context: &UpstreamTlsContext) -> Vec<(SanType, &str)> {
    let Some(ValidationContextType::CombinedValidationContext(both)) =
        &common(context).validation_context_type
    else {
        panic!("{context:?}");
    };
    let default = both.default_validation_context.as_ref().expect("set");
    let names = default.match_typed_subject_alt_names.iter().map(|name| {
        let matcher = name.matcher.as_ref().expect("set");
        match &matcher.match_pattern {
            Some(MatchPattern::Exact(text)) => (name.san_type(), text.as_str()),
            other => panic!("{other:?}"),
        }
    });
    names.collect()
}

fn certificate(context: &UpstreamTlsContext) -> Option<&SdsSecretConfig> {
    let secrets = &common(context).tls_certificate_sds_secret_configs;
    assert!(secrets.len() < 2);
    secrets.first()
}

fn roots(context: &UpstreamTlsContext) -> Option<&str> {
    match common(context).validation_context_type.as_ref()? {
        ValidationContextType::CombinedValidationContext(both) => {
            let roots = both.validation_context_sds_secret_config.as_ref()?;
            Some(&roots.name)
        }
        _ => None,
    }
}

fn mode(mode: TlsSetting) -> ClientTls {
    mode.into()
}

#[test]
fn endpoints_that_take_mtls_get_it_and_others_plain_text() {
    let made = automatic(&cluster(web()));
    assert_eq!(made.sni, "outbound_.80_._.web.ns.svc.cluster.local");
    assert_eq!(sans(&made), [(SanType::Uri, ACCOUNT)]);
    let own = certificate(&made).expect("a certificate");
    assert_eq!((&*own.name, roots(&made)), ("default", Some("ROOTCA")));
    let source = own.sds_config.as_ref().expect("a source");
    // Zero: a proxy without a certificate waits for it.
    assert!(source.initial_fetch_timeout.is_some());
    let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = &source.config_source_specifier else {
        panic!("{source:?}");
    };
    assert!(format!("{api:?}").contains("sds-grpc"));
}

#[test]
fn a_subset_has_a_server_name_of_its_own() {
    let web = web().rule(PolicySettings::default(), &["v1"]);
    let name = "outbound|80|v1|web.ns.svc.cluster.local";
    let mesh = MeshConfig::default();
    let made = automatic(&cluster_of(mesh, dialled_sidecar("ns"), web, name));
    assert_eq!(made.sni, "outbound_.80_.v1_.web.ns.svc.cluster.local");
}

#[test]
fn the_accounts_of_all_endpoints_count_under_every_name_of_the_trust_domain() {
    let web = web()
        .peer(
            "10.0.0.2",
            8080,
            "http",
            "spiffe://cluster.local/ns/ns/sa/api",
        )
        .peer("10.0.0.3", 8080, "http", ACCOUNT)
        .with(|s| s.subject_alt_names = vec!["me.example.com".into()]);
    let mesh = MeshConfig {
        trust_domain_aliases: vec!["old".into()],
        ..MeshConfig::default()
    };
    let made = automatic(&cluster_of(mesh, dialled_sidecar("ns"), web, WEB));
    let expected = [
        (SanType::Dns, "me.example.com"),
        (SanType::Uri, "spiffe://cluster.local/ns/ns/sa/api"),
        (SanType::Uri, "spiffe://cluster.local/ns/ns/sa/web"),
        (SanType::Uri, "spiffe://old/ns/ns/sa/api"),
        (SanType::Uri, "spiffe://old/ns/ns/sa/web"),
    ];
    assert_eq!(sans(&made), expected);
}

#[test]
fn http_is_offered_as_mesh_http_where_the_port_declares_it() {
    let offered = |protocol, extensions: &[&str]| {
        let service = service("web", "ns").port("p", 80, protocol);
        let proxy = Proxy {
            extensions: Arc::new(extensions.iter().map(|name| Arc::from(*name)).collect()),
            ..dialled_sidecar("ns")
        };
        let made = automatic(&cluster_of(MeshConfig::default(), proxy, service, WEB));
        alpn(&made).join(",")
    };
    for (protocol, expected) in [
        (Protocol::Http, "istio-http/1.1,istio,http/1.1"),
        (Protocol::Http2, "istio-h2,istio,h2"),
        (Protocol::Grpc, "istio-h2,istio,h2"),
        (Protocol::Tcp, "istio"),
        (Protocol::Auto, "istio"),
    ] {
        assert_eq!(offered(protocol, &[]), expected, "{protocol:?}");
    }
    let istio = ["istio.alpn", "istio.metadata_exchange"];
    for (protocol, expected) in [
        (Protocol::Http, "istio-peer-exchange,istio"),
        (Protocol::Http2, "istio-peer-exchange,istio,h2"),
        (Protocol::Tcp, "istio-peer-exchange,istio"),
        (Protocol::Auto, "istio-peer-exchange,istio"),
    ] {
        assert_eq!(offered(protocol, &istio), expected, "{protocol:?}");
    }
}

#[test]
fn services_outside_the_mesh_and_clusters_that_forward_by_sni_have_no_context() {
    let plain = |cluster: Cluster| {
        cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty()
    };
    assert!(plain(cluster(web().with(|s| s.mesh_external = true))));
    let off = MeshConfig {
        auto_mtls: false,
        ..MeshConfig::default()
    };
    let proxy = || dialled_sidecar("ns");
    assert!(plain(cluster_of(off, proxy(), web(), WEB)));
    let sni = "outbound_.80_._.web.ns.svc.cluster.local";
    let eastwest = router("ns", "eastwest");
    assert!(plain(cluster_of(
        MeshConfig::default(),
        eastwest,
        web(),
        sni
    )));
}

#[test]
fn a_headless_service_has_mtls_where_all_endpoints_take_it() {
    let headless = web().with(|s| s.resolution = Resolution::Passthrough);
    assert_eq!(sans(&fixed(&cluster(headless.clone()))).len(), 1);
    let mixed = headless.clone().endpoint("10.0.0.9", 8080, "http");
    assert_eq!(cluster(mixed.clone()).transport_socket, None);
    // A gateway gets the endpoints, and tells them apart.
    let mesh = MeshConfig::default();
    automatic(&cluster_of(mesh, router("ns", "ingress"), mixed, WEB));
    let empty = service("web", "ns").port("http", 80, Protocol::Http);
    let empty = empty.with(|s| s.resolution = Resolution::Passthrough);
    assert_eq!(cluster(empty).transport_socket, None);
}

#[test]
fn a_rule_decides_for_all_endpoints() {
    let made = ruled(web(), mode(TlsSetting::Disable));
    assert!(made.transport_socket.is_none() && made.transport_socket_matches.is_empty());
    let made = fixed(&ruled(web(), mode(TlsSetting::IstioMutual)));
    assert_eq!(made.sni, "outbound_.80_._.web.ns.svc.cluster.local");
    assert_eq!(sans(&made), [(SanType::Uri, ACCOUNT)]);
    let made = ClientTls {
        sni: "by.gateway".into(),
        subject_alt_names: vec!["spiffe://td/ns/a/sa/b".into()],
        ..mode(TlsSetting::IstioMutual)
    };
    let made = fixed(&ruled(web(), made));
    assert_eq!(made.sni, "by.gateway");
    assert_eq!(sans(&made), [(SanType::Uri, "spiffe://td/ns/a/sa/b")]);
}

#[test]
fn tls_of_the_users_takes_files_from_the_agent() {
    let simple = fixed(&ruled(web(), mode(TlsSetting::Simple)));
    assert_eq!(
        (certificate(&simple), roots(&simple)),
        (None, Some("file-root:system"))
    );
    let mutual = ClientTls {
        client_certificate: "/c.pem".into(),
        private_key: "/k.pem".into(),
        ca_certificates: "/ca.pem".into(),
        subject_alt_names: vec!["a.example.com".into(), "10.0.0.1".into()],
        sni: "a.example.com".into(),
        ..mode(TlsSetting::Mutual)
    };
    let made = ruled(web(), mutual.clone());
    // Nothing is left to the request.
    assert!(made.typed_extension_protocol_options.is_empty());
    let made = fixed(&made);
    let own = certificate(&made).map(|secret| &*secret.name);
    assert_eq!(own, Some("file-cert:/c.pem~/k.pem"));
    assert_eq!(roots(&made), Some("file-root:/ca.pem"));
    let expected = [
        (SanType::IpAddress, "10.0.0.1"),
        (SanType::Dns, "a.example.com"),
    ];
    assert_eq!(sans(&made), expected);
    let unsure = ClientTls {
        insecure_skip_verify: true,
        ..mutual
    };
    assert_eq!(roots(&fixed(&ruled(web(), unsure))), None);
}

#[test]
fn without_a_server_name_that_of_the_request_is_asked_for_and_checked() {
    let made = ruled(web(), mode(TlsSetting::Simple));
    let any = made.typed_extension_protocol_options.values().next();
    let options = HttpProtocolOptions::decode(any.expect("set").value.as_slice());
    let options = options.expect("options").upstream_http_protocol_options;
    let options = options.expect("set");
    assert!(options.auto_sni && options.auto_san_validation);
}

#[test]
fn names_of_an_entry_are_those_of_its_rules_tls() {
    let entry = external("api.example.com", "ns", Resolution::ClientSideLb)
        .port("tls", 80, Protocol::Http2)
        .with(|s| s.subject_alt_names = vec!["api.example.com".into()]);
    let settings = PolicySettings {
        tls: Some(Arc::new(mode(TlsSetting::Simple))),
        ..PolicySettings::default()
    };
    let name = "outbound|80||api.example.com";
    let (mesh, proxy) = (MeshConfig::default(), dialled_sidecar("ns"));
    let made = fixed(&cluster_of(mesh, proxy, entry.rule(settings, &[]), name));
    assert_eq!(sans(&made), [(SanType::Dns, "api.example.com")]);
    assert_eq!(alpn(&made), ["h2"]);
}

#[test]
fn a_secret_by_name_is_for_gateways_and_chosen_workloads() {
    let named = ClientTls {
        credential_name: "cert".into(),
        ..mode(TlsSetting::Mutual)
    };
    assert_eq!(ruled(web(), named.clone()).transport_socket, None);
    let settings = PolicySettings {
        tls: Some(Arc::new(named)),
        ..PolicySettings::default()
    };
    let web = web().rule(settings, &[]);
    let mesh = MeshConfig::default();
    let made = fixed(&cluster_of(mesh, router("ns", "ingress"), web.clone(), WEB));
    let own = certificate(&made).expect("a certificate");
    assert_eq!(own.name, "kubernetes://cert");
    assert_eq!(roots(&made), Some("kubernetes://cert-cacert"));
    let mut chosen = web;
    let app = [("app", "web")].into_iter().collect();
    chosen.rules[0].workload_selector = app;
    let proxy = Proxy {
        labels: [("app", "web")].into_iter().collect(),
        ..dialled_sidecar("ns")
    };
    fixed(&cluster_of(MeshConfig::default(), proxy, chosen, WEB));
}
