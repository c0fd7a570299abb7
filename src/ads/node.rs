//! From the node message of a stream's first request to a [`Proxy`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Weak},
};

use envoy_types::pb::envoy::config::core::v3::{Locality as NodeLocality, Node};
use parking_lot::Mutex;

use super::NodeError;
use super::metadata::Metadata;
use crate::model::{
    ClusterId, InterceptionMode, Locality, Namespace, NetworkId, NodeKind, Proxy, ProxyIps,
    printable,
};

#[cfg(test)]
mod tests;

/// Longer ids are an attack, not a pod name.
const MAX_ID: usize = 4096;

type Extensions = BTreeSet<Arc<str>>;

/// Reads nodes, and shares what equal proxies have in common.
#[derive(Debug, Default)]
pub struct NodeReader {
    /// `--clusterAliases`: a proxy's cluster → the name it is known by here.
    aliases: BTreeMap<ClusterId, ClusterId>,
    /// Extension sets in use. One Envoy build has one; a reconnecting mesh must
    /// not hold 600 names for each of its proxies.
    builds: Mutex<Vec<Weak<Extensions>>>,
}

impl NodeReader {
    /// A reader that renames clusters as `aliases` says.
    pub fn new(aliases: BTreeMap<ClusterId, ClusterId>) -> Self {
        let builds = Mutex::default();
        Self { aliases, builds }
    }

    /// The proxy that `node` describes.
    pub fn read(&self, node: &Node) -> Result<Proxy, NodeError> {
        let mut proxy = parse_node(node)?;
        if let Some(known) = self.aliases.get(&proxy.cluster) {
            proxy.cluster = known.clone();
        }
        proxy.extensions = self.shared(proxy.extensions);
        Ok(proxy)
    }

    fn shared(&self, set: Arc<Extensions>) -> Arc<Extensions> {
        let mut builds = self.builds.lock();
        builds.retain(|build| build.strong_count() > 0);
        let known = builds.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.into_iter().find(|known| *known == set) {
            return known;
        }
        builds.push(Arc::downgrade(&set));
        set
    }
}

/// Reads a node as istiod does (istiod: `ParseServiceNodeWithMetadata`).
///
/// ```
/// use envoy_types::pb::envoy::config::core::v3::Node;
/// let id = "sidecar~10.1.2.3~web-1.default~default.svc.cluster.local".to_owned();
/// let proxy = isthmus::ads::parse_node(&Node { id, ..Node::default() })?;
/// assert_eq!((&*proxy.name, &*proxy.namespace), ("web-1", "default"));
/// # Ok::<(), isthmus::ads::NodeError>(())
/// ```
pub fn parse_node(node: &Node) -> Result<Proxy, NodeError> {
    let parts = IdParts::split(&node.id)?;
    let meta = Metadata::new(node.metadata.as_ref());
    let text = |key| meta.text(key).map(Arc::<str>::from);
    Ok(Proxy {
        id: Arc::from(node.id.as_str()),
        kind: parts.kind,
        name: Arc::from(
            parts
                .pod
                .rsplit_once('.')
                .map_or(parts.pod, |(name, _)| name),
        ),
        namespace: namespace(meta.text("NAMESPACE")?, parts.domain),
        domain: Arc::from(parts.domain),
        ips: addresses(meta, parts.ip, &node.id)?,
        cluster: ClusterId::from(meta.text("CLUSTER_ID")?),
        network: NetworkId::from_text(meta.text("NETWORK")?),
        requested_networks: requested(meta)?,
        // istiod: a pod that is not known yet is described by LABELS; static
        // ones win in either case.
        labels: meta
            .labels("LABELS")?
            .overlaid(&meta.labels("STATIC_LABELS")?),
        locality: node.locality.as_ref().map(locality).unwrap_or_default(),
        node: text("NODE_NAME")?,
        service_account: text("SERVICE_ACCOUNT")?,
        interception: interception(meta.text("INTERCEPTION_MODE")?),
        unprivileged: meta.flag("UNPRIVILEGED_POD")?,
        own_ports: own_ports(meta)?,
        pod_ports: meta.named_ports("POD_PORTS")?,
        http_proxy_port: meta.port("HTTP_PROXY_PORT")?,
        version: text("ISTIO_VERSION")?,
        extensions: Arc::new(extensions(node)),
    })
}

/// `type~ip~pod.namespace~domain`.
struct IdParts<'a> {
    kind: NodeKind,
    ip: &'a str,
    pod: &'a str,
    domain: &'a str,
}

impl<'a> IdParts<'a> {
    fn split(id: &'a str) -> Result<Self, NodeError> {
        if id.is_empty() {
            return Err(NodeError::Missing);
        }
        if id.len() > MAX_ID {
            return Err(NodeError::TooLong(id.len()));
        }
        let mut parts = id.split('~');
        let four = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(kind), Some(ip), Some(pod), Some(domain)) = four else {
            return Err(wrong_parts(id));
        };
        if parts.next().is_some() {
            return Err(wrong_parts(id));
        }
        let kind = match kind {
            "sidecar" => NodeKind::Sidecar,
            "router" => NodeKind::Router,
            "waypoint" | "ztunnel" | "agentgateway" => {
                return Err(NodeError::Unserved(kind.to_owned()));
            }
            _ => {
                let (id, kind) = (printable(id, 256), printable(kind, 64));
                return Err(NodeError::UnknownType { id, kind });
            }
        };
        Ok(Self {
            kind,
            ip,
            pod,
            domain,
        })
    }
}

fn wrong_parts(id: &str) -> NodeError {
    let parts = id.split('~').count();
    let id = printable(id, 256);
    NodeError::Parts { id, parts }
}

/// All of `INSTANCE_IPS` if every one is an address, else the id's (istiod:
/// `hasValidIPAddresses`).
fn addresses(meta: Metadata<'_>, in_id: &str, id: &str) -> Result<ProxyIps, NodeError> {
    let listed: Result<Vec<IpAddr>, _> = meta.list("INSTANCE_IPS")?.map(str::parse).collect();
    let found = match listed {
        Ok(listed) if !listed.is_empty() => listed,
        _ => in_id.parse().into_iter().collect(),
    };
    if found.is_empty() {
        let id = printable(id, 256);
        return Err(NodeError::NoAddress { id });
    }
    Ok(ProxyIps(found))
}

/// `NAMESPACE`, else the first label of a domain that has more than one
/// (istiod: `GetProxyConfigNamespace`).
fn namespace(listed: &str, domain: &str) -> Namespace {
    if !listed.is_empty() {
        return Namespace::from(listed);
    }
    Namespace::from(domain.split_once('.').map_or("", |(first, _)| first))
}

fn requested(meta: Metadata<'_>) -> Result<Arc<[NetworkId]>, NodeError> {
    let listed = meta.list("REQUESTED_NETWORK_VIEW")?;
    let sorted: BTreeSet<NetworkId> = listed.map(NetworkId::from).collect();
    Ok(sorted.into_iter().collect())
}

fn locality(locality: &NodeLocality) -> Locality {
    Locality::new(&locality.region, &locality.zone, &locality.sub_zone)
}

/// Anything but the two other modes is the default (istiod compares with them).
fn interception(text: &str) -> InterceptionMode {
    match text {
        "NONE" => InterceptionMode::None,
        "TPROXY" => InterceptionMode::Tproxy,
        _ => InterceptionMode::Redirect,
    }
}

fn own_ports(meta: Metadata<'_>) -> Result<BTreeSet<u16>, NodeError> {
    let keys = [
        "ENVOY_STATUS_PORT",
        "ENVOY_PROMETHEUS_PORT",
        "ENVOY_SECURE_METRICS_PORT",
        "ENVOY_SECURE_MERGED_METRICS_PORT",
    ];
    let ports = keys.into_iter().map(|key| meta.port(key));
    ports.filter_map(Result::transpose).collect()
}

fn extensions(node: &Node) -> Extensions {
    let named = node.extensions.iter().filter(|e| !e.name.is_empty());
    named.map(|e| Arc::from(e.name.as_str())).collect()
}
