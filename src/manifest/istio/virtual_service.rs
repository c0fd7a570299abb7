//! `VirtualService`s.

mod actions;
mod http;
mod matches;
mod regex;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, de::IgnoredAny};

pub(in crate::manifest) use actions::RetryRule;

use super::{export_to, full_name};
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Map, Text},
    meta::{Manifest, from_json, labels},
};
use crate::model::{
    ConnectionMatch, Destination, GatewayName, Namespace, ObjectKind, SourceMatch, TcpRoute,
    TlsMatch, TlsRoute, VirtualService, WeightedDestination,
};

/// Fields that are not known, by name. An object of a newer API is used all the
/// same, and what has no effect is told once.
type Unknown<'a> = Map<'a, IgnoredAny>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    hosts: List<Text<'a>>,
    gateways: List<Text<'a>>,
    http: List<http::Rule<'a>>,
    tls: List<Tls<'a>>,
    tcp: List<Tcp<'a>>,
    export_to: List<Text<'a>>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Tls<'a> {
    r#match: List<Connection<'a>>,
    route: List<Weighted<'a>>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Tcp<'a> {
    r#match: List<Connection<'a>>,
    route: List<Weighted<'a>>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

/// A match of TLS or of bytes.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Connection<'a> {
    sni_hosts: List<Text<'a>>,
    destination_subnets: List<Text<'a>>,
    port: Int,
    source_labels: Map<'a, Text<'a>>,
    source_namespace: Text<'a>,
    gateways: List<Text<'a>>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Weighted<'a> {
    destination: Target<'a>,
    weight: Int,
}

/// `destination`.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Target<'a> {
    host: Text<'a>,
    subset: Text<'a>,
    port: Option<PortSelector>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PortSelector {
    number: Int,
}

/// What short names in one object mean, and what is not known in it.
struct Reader<'r> {
    namespace: &'r Namespace,
    domain: &'r str,
    unknown: BTreeSet<String>,
}

/// Reads a `VirtualService`. A part that cannot be used costs the object: a
/// route less would send its requests to the next one.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<VirtualService, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let meta = metadata.object(ObjectKind::VirtualService);
    let mut reader = Reader {
        namespace: &meta.namespace,
        domain: &scope.defaults.domain,
        unknown: BTreeSet::new(),
    };
    reader.look_over(&spec.unknown);
    let hosts = each(&spec.hosts, "spec.hosts", |host| match host.filled() {
        Some(host) => Ok(reader.host(host)),
        None => Err(Problem::new("", "is empty; name a host")),
    })?;
    let mut gateways: Vec<_> = spec.gateways.iter().map(|g| reader.gateway(g)).collect();
    if gateways.is_empty() {
        gateways.push(GatewayName::Mesh);
    }
    let http = each(&spec.http, "spec.http", |route| reader.http_route(route))?;
    let tls = each(&spec.tls, "spec.tls", |route| reader.tls_route(route))?;
    let tcp = each(&spec.tcp, "spec.tcp", |route| reader.tcp_route(route))?;
    let unknown = reader.unknown;
    if !unknown.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
        let reason = format!("these fields are not known here and have no effect: {names}");
        scope.left_out.push(Problem::new("spec", reason));
    }
    Ok(VirtualService {
        hosts,
        gateways,
        export_to: export_to(&spec.export_to, &meta.namespace),
        http,
        tls,
        tcp,
        meta,
    })
}

/// Reads all items of a list, or says which one is wrong.
fn each<T, R>(
    items: &[T],
    field: &str,
    mut read: impl FnMut(&T) -> Result<R, Problem>,
) -> Result<Vec<R>, Problem> {
    let items = items.iter().enumerate();
    let read = items.map(|(i, item)| read(item).map_err(|e| e.below(format_args!("{field}[{i}]"))));
    read.collect()
}

impl Reader<'_> {
    fn look_over(&mut self, unknown: &Unknown<'_>) {
        let names = unknown.iter().map(|(name, _)| String::from(&**name));
        self.unknown.extend(names);
    }

    /// The full name of a host; names are compared without regard to case.
    fn host(&self, host: &str) -> Arc<str> {
        let host = host.to_ascii_lowercase();
        full_name(&host, self.namespace, self.domain)
    }

    /// istiod: `resolveGatewayName`: `name`, `namespace/name`, `./name`, or the
    /// old `name.namespace.svc…`.
    fn gateway(&self, text: &str) -> GatewayName {
        if text == "mesh" {
            return GatewayName::Mesh;
        }
        let (namespace, name) = match (text.split_once('/'), text.split_once('.')) {
            (Some((".", name)), _) => (&**self.namespace, name),
            (Some(parts), _) => parts,
            (None, Some((name, rest))) => (rest.split('.').next().unwrap_or_default(), name),
            (None, None) => (&**self.namespace, text),
        };
        GatewayName::Gateway {
            namespace: Namespace::from(namespace),
            name: Arc::from(name),
        }
    }

    fn source(
        &self,
        source_labels: &Map<'_, Text<'_>>,
        namespace: &Text<'_>,
        gateways: &[Text<'_>],
    ) -> SourceMatch {
        SourceMatch {
            labels: labels(source_labels),
            namespace: namespace.arc(),
            gateways: gateways.iter().map(|g| self.gateway(g)).collect(),
        }
    }

    fn destination(&self, target: &Target<'_>) -> Result<Destination, Problem> {
        let Some(host) = target.host.filled() else {
            let reason = "is missing; name the host that requests go to";
            return Err(Problem::new("destination.host", reason));
        };
        let port = target.port.as_ref().map(|port| {
            let number = port.number.port();
            number.ok_or_else(|| Problem::port("destination.port.number", port.number.0))
        });
        Ok(Destination {
            host: self.host(host),
            subset: target.subset.arc(),
            port: port.transpose()?,
        })
    }

    fn weighted(&self, items: &[Weighted<'_>]) -> Result<Vec<WeightedDestination>, Problem> {
        each(items, "route", |item| {
            Ok(WeightedDestination {
                destination: self.destination(&item.destination)?,
                weight: weight(item.weight)?,
            })
        })
    }

    fn tls_route(&mut self, tls: &Tls<'_>) -> Result<TlsRoute, Problem> {
        self.look_over(&tls.unknown);
        let matches = each(&tls.r#match, "match", |found| {
            let sni_hosts: Vec<_> = found.sni_hosts.iter().map(Text::arc).collect();
            if sni_hosts.is_empty() {
                let reason = "is missing; name the server names that the route takes";
                return Err(Problem::new("sniHosts", reason));
            }
            Ok(TlsMatch {
                sni_hosts,
                connection: self.connection(found)?,
            })
        });
        Ok(TlsRoute {
            matches: matches?,
            route: self.weighted(&tls.route)?,
        })
    }

    fn tcp_route(&mut self, tcp: &Tcp<'_>) -> Result<TcpRoute, Problem> {
        self.look_over(&tcp.unknown);
        let matches = each(&tcp.r#match, "match", |found| self.connection(found));
        Ok(TcpRoute {
            matches: matches?,
            route: self.weighted(&tcp.route)?,
        })
    }

    fn connection(&mut self, found: &Connection<'_>) -> Result<ConnectionMatch, Problem> {
        self.look_over(&found.unknown);
        let subnets = each(&found.destination_subnets, "destinationSubnets", |text| {
            subnet(text).ok_or_else(|| {
                let reason = format!("{:?} is no address or range; write 10.0.0.0/8", &**text);
                Problem::new("", reason)
            })
        });
        Ok(ConnectionMatch {
            destination_subnets: subnets?,
            port: port(found.port)?,
            source: self.source(
                &found.source_labels,
                &found.source_namespace,
                &found.gateways,
            ),
        })
    }
}

/// A range, or a single address.
fn subnet(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}

/// The port of a match; 0 is unset.
fn port(number: Int) -> Result<Option<u16>, Problem> {
    match number.0 {
        None | Some(0) => Ok(None),
        Some(value) => match number.port() {
            Some(port) => Ok(Some(port)),
            None => Err(Problem::port("port", Some(value))),
        },
    }
}

fn weight(weight: Int) -> Result<u32, Problem> {
    let value = weight.0.unwrap_or_default();
    u32::try_from(value).map_err(|_| {
        let reason = format!("{value} is no weight; use 0 or more");
        Problem::new("weight", reason)
    })
}
