//! Istio `Gateway`s for tests.

use std::sync::Arc;

use crate::model::{
    Gateway, GatewayName, GatewayServer, Namespace, ObjectMeta, Protocol, ServerTls, ServerTlsMode,
    VirtualService,
};

/// An Istio Gateway `name` in `namespace` for pods with the label `istio`, made
/// in the given year.
pub fn gateway(
    name: &str,
    namespace: &str,
    istio: &str,
    year: u16,
    servers: impl IntoIterator<Item = GatewayServer>,
) -> Arc<Gateway> {
    Arc::new(Gateway {
        meta: ObjectMeta {
            created: Arc::from(format!("{year}-01-01T00:00:00Z")),
            name: Arc::from(name),
            namespace: Namespace::from(namespace),
        },
        selector: [("istio", istio)].into_iter().collect(),
        servers: servers.into_iter().collect(),
    })
}

/// A plain-text server.
pub fn server(port: u16, protocol: Protocol, hosts: &[&str]) -> GatewayServer {
    GatewayServer {
        port,
        protocol,
        name: Arc::from(format!("p{port}")),
        stat_prefix: Arc::from(""),
        bind: Arc::from(""),
        hosts: hosts.iter().copied().map(Arc::from).collect(),
        tls: None,
    }
}

/// A server with TLS.
pub fn tls_server(
    port: u16,
    protocol: Protocol,
    hosts: &[&str],
    mode: ServerTlsMode,
) -> GatewayServer {
    GatewayServer {
        tls: Some(ServerTls {
            mode,
            ..ServerTls::default()
        }),
        ..server(port, protocol, hosts)
    }
}

/// An Istio Gateway that forwards by SNI, for pods with the label `istio`.
pub fn auto_passthrough(istio: &str) -> Arc<Gateway> {
    let mode = ServerTlsMode::AutoPassthrough;
    let server = tls_server(15443, Protocol::Tls, &["*.local"], mode);
    gateway("cross-network", "istio-system", istio, 2026, [server])
}

/// A `VirtualService` without routes, for these hosts at a Gateway of namespace
/// `ns`.
pub fn virtual_service(gateway: &str, hosts: &[&str]) -> VirtualService {
    let namespace = Namespace::from("ns");
    VirtualService {
        meta: ObjectMeta {
            name: Arc::from("vs"),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        hosts: hosts.iter().copied().map(Arc::from).collect(),
        gateways: vec![GatewayName::Gateway {
            namespace,
            name: Arc::from(gateway),
        }],
        export_to: None,
        http: Vec::new(),
        tls: Vec::new(),
        tcp: Vec::new(),
    }
}
