//! `VirtualService`: where calls for a host go.

use std::sync::Arc;

use ipnet::IpNet;

use super::{ExportTo, HttpRoute, Labels, Namespace, ObjectMeta};

/// A `VirtualService`, all its hosts and gateways made fully qualified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Full host names and wildcards, in lower case.
    pub hosts: Vec<Arc<str>>,
    /// Which proxies take it; [`GatewayName::Mesh`] alone where none is named.
    pub gateways: Vec<GatewayName>,
    /// Which namespaces may use it; none means the mesh's default.
    pub export_to: Option<ExportTo>,
    /// Routes of HTTP requests, the first that matches is taken.
    pub http: Vec<HttpRoute>,
    /// Routes of TLS connections that pass through, by server name.
    pub tls: Vec<TlsRoute>,
    /// Routes of bytes.
    pub tcp: Vec<TcpRoute>,
}

/// Whose traffic a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayName {
    /// `mesh`: sidecars.
    Mesh,
    /// A `Gateway`.
    Gateway {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: Arc<str>,
    },
}

/// Which clients a part of a `VirtualService` is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceMatch {
    /// `sourceLabels`.
    pub labels: Labels,
    /// `sourceNamespace`; empty for all.
    pub namespace: Arc<str>,
    /// `gateways`; empty for all of the `VirtualService`.
    pub gateways: Vec<GatewayName>,
}

/// A proxy, as a [`SourceMatch`] looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Labels of its workload.
    pub labels: &'a Labels,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// What it is configured for: the mesh, or some gateways.
    pub gateways: &'a [GatewayName],
}

/// A host, and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destination {
    /// Full host name.
    pub host: Arc<str>,
    /// Subset; empty for the whole host.
    pub subset: Arc<str>,
    /// Service port.
    pub port: Option<u16>,
}

/// A destination of connections, with its share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Its share among the route's destinations.
    pub weight: u32,
}

/// A route for TLS connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRoute {
    /// Alternatives; a route without one takes nothing.
    pub matches: Vec<TlsMatch>,
    /// Where to.
    pub route: Vec<WeightedDestination>,
}

/// Which TLS connections a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsMatch {
    /// Server names and wildcards.
    pub sni_hosts: Vec<Arc<str>>,
    /// Which connections beside.
    pub connection: ConnectionMatch,
}

/// A route for bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRoute {
    /// Alternatives; empty takes all.
    pub matches: Vec<ConnectionMatch>,
    /// Where to.
    pub route: Vec<WeightedDestination>,
}

/// Which connections a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionMatch {
    /// Addresses that are dialled; empty for all.
    pub destination_subnets: Vec<IpNet>,
    /// Port that is dialled.
    pub port: Option<u16>,
    /// Who dials.
    pub source: SourceMatch,
}

impl VirtualService {
    /// Whether proxies that are configured for `gateway` take it.
    pub fn is_for(&self, gateway: &GatewayName) -> bool {
        self.gateways.contains(gateway)
    }

    /// Who its routes are for, one entry for each alternative of each route.
    pub fn sources(&self) -> impl Iterator<Item = &SourceMatch> {
        let http = self.http.iter().flat_map(|route| &route.matches);
        let tls = self.tls.iter().flat_map(|route| &route.matches);
        let tcp = self.tcp.iter().flat_map(|route| &route.matches);
        http.map(|found| &found.source)
            .chain(tls.map(|found| &found.connection.source))
            .chain(tcp.map(|found| &found.source))
    }
}

impl ConnectionMatch {
    /// Whether connections of this proxy to `port` are meant. Beside gateways
    /// labels and namespace count too, other than for HTTP (istiod: `matchTCP`).
    pub fn admits(&self, source: &Source<'_>, port: u16) -> bool {
        let SourceMatch {
            labels,
            namespace,
            gateways,
        } = &self.source;
        self.port.is_none_or(|wanted| wanted == port)
            && (gateways.is_empty() || gateways.iter().any(|g| source.gateways.contains(g)))
            && source.labels.contains_all(labels)
            && (namespace.is_empty() || **namespace == **source.namespace)
    }
}

impl SourceMatch {
    /// Whether it is for this proxy. istiod: named gateways alone decide,
    /// labels and namespace do not count beside them.
    pub fn admits(&self, source: &Source<'_>) -> bool {
        if !self.gateways.is_empty() {
            return self.gateways.iter().any(|g| source.gateways.contains(g));
        }
        source.labels.contains_all(&self.labels)
            && (self.namespace.is_empty() || *self.namespace == **source.namespace)
    }
}
