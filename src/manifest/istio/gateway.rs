//! Istio `Gateway`s.

use serde::Deserialize;

use super::{Port, one_of};
use crate::manifest::{
    Problem,
    json::{List, Map, Text},
    meta::{Manifest, from_json, labels},
    protocol,
};
use crate::model::{Gateway, GatewayServer, ObjectKind, ServerTlsMode};

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
    bind: Text<'a>,
    hosts: List<Text<'a>>,
    tls: Option<Tls<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Tls<'a> {
    mode: Text<'a>,
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
    let tls = server.tls.as_ref();
    Ok(GatewayServer {
        port: number.ok_or_else(|| Problem::port("port.number", port.number.0))?,
        protocol: protocol::parse(&port.protocol),
        name: port.name.arc(),
        bind: server.bind.arc(),
        hosts: server.hosts.iter().map(Text::arc).collect(),
        tls: tls
            .map(|tls| one_of("tls.mode", &tls.mode, TLS_MODES))
            .transpose()?,
    })
}
