//! The servers of all `Gateway`s of one class of routers, merged by port
//! (istiod: `mergeGateways`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::hosts::ServerHost;
use crate::model::{Gateway, GatewayName, GatewayServer, ObjectMeta, Protocol};

/// Which server a listener is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ServerPort {
    /// The port that is listened on: the target port where a Service maps it.
    pub(super) number: u16,
    /// Protocol of the servers.
    pub(super) protocol: Protocol,
    /// Address that is listened on; empty for all.
    pub(super) bind: Arc<str>,
}

/// One server as the router runs it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    gateway: Arc<Gateway>,
    at: usize,
    /// Its host patterns.
    pub(super) hosts: Vec<ServerHost>,
    /// Its HTTP routes; empty where it has none.
    pub(super) routes: String,
}

/// The servers of one port.
#[derive(Debug, Clone)]
pub(super) struct PortServers {
    pub(super) port: ServerPort,
    pub(super) servers: Vec<Server>,
}

/// All servers, by port in the order of the oldest server.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) ports: Vec<PortServers>,
}

impl Server {
    /// The server as written.
    pub(super) fn spec(&self) -> Option<&GatewayServer> {
        self.gateway.servers.get(self.at)
    }

    /// The `Gateway` it stands in, as `VirtualService`s name it.
    pub(super) fn gateway_name(&self) -> GatewayName {
        GatewayName::Gateway {
            namespace: self.gateway.meta.namespace.clone(),
            name: Arc::clone(&self.gateway.meta.name),
        }
    }

    /// The names that connections to it ask for, sorted; empty for plain text
    /// and where every name will do.
    pub(super) fn server_names(&self) -> Vec<String> {
        let is_tls = self.spec().is_some_and(|spec| spec.tls.is_some());
        let names: BTreeSet<_> = self.hosts.iter().map(|h| h.host.to_string()).collect();
        if !is_tls || names.contains("*") {
            return Vec::new();
        }
        names.into_iter().collect()
    }
}

impl Merged {
    /// Merges `gateways`, oldest first. `targets` maps ports of the Services in
    /// front of the router to its own; the first pair of a port counts.
    pub(super) fn new(gateways: &[Arc<Gateway>], targets: &[(u16, u16)]) -> Self {
        let mut merging = Merging::default();
        for gateway in gateways {
            for (at, spec) in gateway.servers.iter().enumerate() {
                let target = targets.iter().find(|(port, _)| *port == spec.port);
                let number = target.map_or(spec.port, |(_, target)| *target);
                let own = &gateway.meta.namespace;
                let server = Server {
                    gateway: Arc::clone(gateway),
                    at,
                    hosts: spec
                        .hosts
                        .iter()
                        .map(|h| ServerHost::parse(h, own))
                        .collect(),
                    routes: route_name(spec, number, &gateway.meta),
                };
                merging.add(number, spec, server);
            }
        }
        Self {
            ports: merging.ports,
        }
    }

    /// All servers.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.ports.iter().flat_map(|port| &port.servers)
    }

    /// Whether connections are forwarded by SNI to `outbound_.` clusters.
    pub(super) fn forwards_by_sni(&self) -> bool {
        let mut specs = self.servers().filter_map(Server::spec);
        specs.any(GatewayServer::is_auto_passthrough)
    }
}

/// The RDS name of an HTTP server; empty for others (istiod:
/// `gatewayRDSRouteName`).
fn route_name(spec: &GatewayServer, number: u16, gateway: &ObjectMeta) -> String {
    let bind = match &*spec.bind {
        "" => String::new(),
        bind => format!(".{bind}"),
    };
    if spec.protocol.is_http() {
        return format!("http.{number}{bind}");
    }
    if spec.is_https() {
        let (port, name) = (spec.port, &spec.name);
        let ObjectMeta {
            name: gateway,
            namespace,
            ..
        } = gateway;
        return format!("https.{port}.{name}.{gateway}.{namespace}{bind}");
    }
    String::new()
}

#[derive(Default)]
struct Merging {
    ports: Vec<PortServers>,
    /// The plain-text port that came last, by number.
    plain: BTreeMap<u16, ServerPort>,
    /// Port, address and host of each TLS server.
    tls_hosts: BTreeSet<(u16, Arc<str>, ServerHost)>,
}

impl Merging {
    /// Adds one server, unless it contradicts an older one.
    fn add(&mut self, number: u16, spec: &GatewayServer, server: Server) {
        if spec.tls.is_some() && !self.claim_hosts(number, spec, &server) {
            return;
        }
        let port = ServerPort {
            number,
            protocol: spec.protocol,
            bind: Arc::clone(&spec.bind),
        };
        // `tls` of an HTTP server can only ask for a redirect.
        let is_plain = spec.tls.is_none() || spec.protocol.is_http();
        match self.plain.get(&number).cloned() {
            Some(current) if current.bind == port.bind => {
                // One connection manager serves them all; bytes cannot be shared.
                if port.protocol.is_http() && current.protocol.is_http() {
                    self.push(current, server);
                }
            }
            // TLS servers share a port, each with its own names.
            _ if !is_plain => {
                let taken = |other: &Server| other.routes == server.routes;
                if server.routes.is_empty() || !self.servers().any(taken) {
                    self.push(port, server);
                }
            }
            _ => {
                self.plain.insert(number, port.clone());
                self.push(port, server);
            }
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.ports.iter().flat_map(|port| &port.servers)
    }

    fn push(&mut self, port: ServerPort, server: Server) {
        match self.ports.iter_mut().find(|known| known.port == port) {
            Some(known) => known.servers.push(server),
            None => self.ports.push(PortServers {
                port,
                servers: vec![server],
            }),
        }
    }

    /// Two servers of one address and port cannot both have a host (istiod:
    /// `CheckDuplicates`).
    fn claim_hosts(&mut self, number: u16, spec: &GatewayServer, server: &Server) -> bool {
        let claim = |host: &ServerHost| (number, Arc::clone(&spec.bind), host.clone());
        let claims: BTreeSet<_> = server.hosts.iter().map(claim).collect();
        if !self.tls_hosts.is_disjoint(&claims) {
            return false;
        }
        self.tls_hosts.extend(claims);
        true
    }
}
