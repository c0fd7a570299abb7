//! Istio `Gateway`s.

use std::sync::Arc;

use serde::Deserialize;

use super::{Port, one_of};
use crate::manifest::{
    Problem,
    json::{List, Map, Text},
    meta::{Manifest, from_json, labels},
    protocol,
};
use crate::model::{Gateway, GatewayServer, ObjectKind, ServerTls, ServerTlsMode, TlsVersion};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    selector: Map<'a, Text<'a>>,
    servers: List<Server<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Server<'a> {
    port: Option<Port<'a>>,
    name: Text<'a>,
    bind: Text<'a>,
    hosts: List<Text<'a>>,
    tls: Option<Tls<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Tls<'a> {
    mode: Text<'a>,
    https_redirect: Option<bool>,
    server_certificate: Text<'a>,
    private_key: Text<'a>,
    ca_certificates: Text<'a>,
    ca_crl: Text<'a>,
    credential_name: Text<'a>,
    credential_names: List<Text<'a>>,
    subject_alt_names: List<Text<'a>>,
    min_protocol_version: Text<'a>,
    max_protocol_version: Text<'a>,
    cipher_suites: List<Text<'a>>,
}

const TLS_MODES: &[(&str, ServerTlsMode)] = &[
    // Protobuf's zero value.
    ("", ServerTlsMode::Passthrough),
    ("PASSTHROUGH", ServerTlsMode::Passthrough),
    ("SIMPLE", ServerTlsMode::Simple),
    ("MUTUAL", ServerTlsMode::Mutual),
    ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
    ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
    ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
];

const TLS_VERSIONS: &[(&str, Option<TlsVersion>)] = &[
    ("", None),
    ("TLS_AUTO", None),
    ("TLSV1_0", Some(TlsVersion::V1_0)),
    ("TLSV1_1", Some(TlsVersion::V1_1)),
    ("TLSV1_2", Some(TlsVersion::V1_2)),
    ("TLSV1_3", Some(TlsVersion::V1_3)),
];

/// Reads a `Gateway`.
pub(in crate::manifest) fn read(json: &[u8]) -> Result<Gateway, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let servers = spec.servers.iter().enumerate();
    let servers =
        servers.map(|(i, s)| server(s).map_err(|e| e.below(format_args!("spec.servers[{i}]"))));
    Ok(Gateway {
        meta: metadata.object(ObjectKind::Gateway),
        selector: labels(&spec.selector),
        servers: servers.collect::<Result<_, _>>()?,
    })
}

fn server(server: &Server<'_>) -> Result<GatewayServer, Problem> {
    let Some(port) = &server.port else {
        return Err(Problem::new("port", "is missing; a server needs one"));
    };
    let number = port.number.port();
    let tls = server.tls.as_ref().map(tls);
    Ok(GatewayServer {
        port: number.ok_or_else(|| Problem::port("port.number", port.number.0))?,
        protocol: protocol::parse(&port.protocol),
        name: port.name.arc(),
        stat_prefix: server.name.arc(),
        bind: server.bind.arc(),
        hosts: server.hosts.iter().map(Text::arc).collect(),
        tls: tls.transpose().map_err(|e| e.below(format_args!("tls")))?,
    })
}

fn tls(tls: &Tls<'_>) -> Result<ServerTls, Problem> {
    let single = tls.credential_name.filled().map(Arc::from);
    let several = || tls.credential_names.iter().map(Text::arc).collect();
    Ok(ServerTls {
        mode: one_of("mode", &tls.mode, TLS_MODES)?,
        https_redirect: tls.https_redirect.unwrap_or_default(),
        certificate: tls.server_certificate.arc(),
        private_key: tls.private_key.arc(),
        roots: tls.ca_certificates.arc(),
        revoked: tls.ca_crl.arc(),
        credentials: single.map_or_else(several, |name| vec![name]),
        client_names: tls.subject_alt_names.iter().map(Text::arc).collect(),
        min_version: one_of(
            "minProtocolVersion",
            &tls.min_protocol_version,
            TLS_VERSIONS,
        )?,
        max_version: one_of(
            "maxProtocolVersion",
            &tls.max_protocol_version,
            TLS_VERSIONS,
        )?,
        cipher_suites: tls.cipher_suites.iter().map(Text::arc).collect(),
    })
}
