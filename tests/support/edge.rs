//! A Gateway with a server of each kind, and what it leads to.

use std::sync::Arc;

use isthmus::mesh::{MeshState, VirtualServices};
use isthmus::model::{
    Destination, ExportTo, Gateway, HttpDestination, HttpRoute, Protocol, ServerTls, ServerTlsMode,
    TcpRoute, TlsMatch, TlsRoute, TlsVersion, VirtualService, WeightedDestination,
};
use isthmus::testing::gateways::{gateway, server, tls_server, virtual_service};

/// All suites that may be named.
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

/// A mesh whose routers with the label `istio: ingress` lead to `host`.
pub(crate) fn mesh(host: &str) -> MeshState {
    MeshState {
        gateways: vec![every_kind()],
        virtual_services: VirtualServices::new([Arc::new(bound(host))], &ExportTo::Everyone),
        ..MeshState::default()
    }
}

fn every_kind() -> Arc<Gateway> {
    let tls = |port, protocol, host: &str, mode| tls_server(port, protocol, &[host], mode);
    let mut files = tls(443, Protocol::Https, "files.com", ServerTlsMode::Mutual);
    files.name = Arc::from("files");
    files.tls = Some(ServerTls {
        mode: ServerTlsMode::OptionalMutual,
        certificate: Arc::from("/tls.crt"),
        private_key: Arc::from("/tls.key"),
        roots: Arc::from("/ca.crt"),
        client_names: vec![Arc::from("client.com"), Arc::from("spiffe://a/b")],
        min_version: Some(TlsVersion::V1_2),
        max_version: Some(TlsVersion::V1_3),
        cipher_suites: CIPHER_SUITES.map(Arc::from).to_vec(),
        ..ServerTls::default()
    });
    let mut redirecting = server(80, Protocol::Http, &["files.com"]);
    redirecting.tls = Some(ServerTls {
        https_redirect: true,
        ..ServerTls::default()
    });
    let servers = [
        server(80, Protocol::Http, &["*"]),
        redirecting,
        files,
        tls(443, Protocol::Https, "mesh.com", ServerTlsMode::IstioMutual),
        tls(443, Protocol::Tls, "pass.com", ServerTlsMode::Passthrough),
        tls(443, Protocol::Tls, "ended.com", ServerTlsMode::IstioMutual),
        tls(
            15443,
            Protocol::Tls,
            "*.local",
            ServerTlsMode::AutoPassthrough,
        ),
        server(3306, Protocol::Tcp, &["*"]),
        server(9999, Protocol::Http, &["unbound.com"]),
    ];
    gateway("public", "ns", "ingress", 2026, servers)
}

fn bound(host: &str) -> VirtualService {
    let to = |weight| WeightedDestination {
        destination: Destination {
            host: Arc::from(host),
            ..Destination::default()
        },
        weight,
    };
    let hosts = ["*", "mesh.com", "files.com", "pass.com", "ended.com"];
    VirtualService {
        http: vec![HttpRoute {
            destinations: vec![HttpDestination {
                destination: to(0).destination,
                ..HttpDestination::default()
            }],
            ..HttpRoute::default()
        }],
        tls: vec![TlsRoute {
            matches: vec![TlsMatch {
                sni_hosts: vec![Arc::from("pass.com"), Arc::from("*.pass.com")],
                ..TlsMatch::default()
            }],
            route: vec![to(1), to(2)],
        }],
        tcp: vec![TcpRoute {
            matches: Vec::new(),
            route: vec![to(0)],
        }],
        ..virtual_service("public", &hosts)
    }
}
