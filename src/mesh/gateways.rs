//! East-west gateways, derived from what is there now (split-horizon §3): they
//! disappear with their Service, label, status, node address or cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    kube_state::{ClusterState, Map, NodeFacts},
    networks::NETWORK_LABEL,
};
use crate::model::{
    ClusterId, DeclaredGateway, GatewayAddress, Hostname, KubeGateway, KubeService, Labels,
    MeshNetwork, MeshNetworks, NetworkGateway, NetworkId, NetworkMember, ServiceType,
};

const GATEWAY_PORT_LABEL: &str = "networking.istio.io/gatewayPort";
/// Annotation of a `NodePort` gateway: which nodes lead to it.
const NODE_SELECTOR: &str = "traffic.istio.io/nodeSelector";
const MTLS_PORT: u16 = 15443;
const HBONE_PORT: u16 = 15008;

/// All gateways as declared, host names unresolved.
#[derive(Debug)]
pub(super) struct Discovery<'a> {
    pub(super) clusters: &'a BTreeMap<ClusterId, ClusterState>,
    pub(super) config_cluster: &'a ClusterId,
    pub(super) networks: &'a MeshNetworks,
    pub(super) domain: &'a str,
    /// Gateway API Gateways count.
    pub(super) gateway_api: bool,
}

impl Discovery<'_> {
    pub(super) fn gateways(&self) -> BTreeSet<NetworkGateway> {
        let mut found = BTreeSet::new();
        for (id, network) in &self.networks.networks {
            self.declared(id, network, &mut found);
        }
        for (id, cluster) in self.clusters {
            labelled_services(id, cluster, &mut found);
            if self.gateway_api {
                self.gateway_objects(id, cluster, &mut found);
            }
        }
        found
    }

    /// `meshNetworks`: addresses, and Services of the network's registries.
    fn declared(
        &self,
        id: &NetworkId,
        network: &MeshNetwork,
        found: &mut BTreeSet<NetworkGateway>,
    ) {
        for gateway in &network.gateways {
            match gateway {
                DeclaredGateway::Address { address, port } => {
                    found.extend(gateway_at(id, None, address, *port));
                }
                DeclaredGateway::Service { host, port } => {
                    for member in &network.members {
                        if let NetworkMember::Registry(cluster) = member {
                            self.registry_service(id, cluster, (host, *port), found);
                        }
                    }
                }
            }
        }
    }

    fn registry_service(
        &self,
        network: &NetworkId,
        id: &ClusterId,
        (host, port): (&Hostname, u16),
        found: &mut BTreeSet<NetworkGateway>,
    ) {
        let Some((cluster, (name, namespace))) =
            self.clusters.get(id).zip(kube_name(host, self.domain))
        else {
            return;
        };
        let held = cluster.namespace(namespace);
        let Some(service) = held.and_then(|n| n.services.get(name)) else {
            return;
        };
        // A labelled gateway ignores registryServiceName for itself.
        if !is_labelled(&service.labels) {
            found.extend(service_gateways(network, id, service, port, &cluster.nodes));
        }
    }

    fn gateway_objects(
        &self,
        id: &ClusterId,
        cluster: &ClusterState,
        found: &mut BTreeSet<NetworkGateway>,
    ) {
        for namespace in cluster.namespaces.values().filter(|n| n.selected) {
            for gateway in namespace.gateways.values() {
                // It stands for a gateway in a place without an API server.
                if &*gateway.class != "istio-remote" || id == self.config_cluster {
                    gateway_api(id, gateway, found);
                }
            }
        }
    }
}

/// Name and namespace of a Kubernetes service host.
pub(super) fn kube_name<'a>(host: &'a str, domain: &str) -> Option<(&'a str, &'a str)> {
    let rest = host.strip_suffix(domain)?.strip_suffix(".svc.")?;
    let (name, namespace) = rest.split_once('.')?;
    (!namespace.contains('.')).then_some((name, namespace))
}

pub(super) fn is_labelled(labels: &Labels) -> bool {
    network_of(labels).is_some()
}

fn network_of(labels: &Labels) -> Option<NetworkId> {
    labels.get(NETWORK_LABEL).and_then(NetworkId::from_text)
}

fn gateway_port(labels: &Labels) -> u16 {
    let text = labels.get(GATEWAY_PORT_LABEL).unwrap_or_default();
    text.parse().unwrap_or(MTLS_PORT)
}

/// Services with the network label, each on the port that it really has.
fn labelled_services(id: &ClusterId, cluster: &ClusterState, found: &mut BTreeSet<NetworkGateway>) {
    for (namespace, name) in &cluster.gateway_services {
        let held = cluster.namespace(namespace);
        let Some(service) = held.and_then(|n| n.services.get(name)) else {
            continue;
        };
        let Some(network) = network_of(&service.labels) else {
            continue;
        };
        let has = |port: u16| service.ports.iter().any(|p| p.port == port);
        let wanted = gateway_port(&service.labels);
        let port = match (has(wanted), has(HBONE_PORT)) {
            (true, _) => wanted,
            (false, true) => 0,
            (false, false) => continue,
        };
        found.extend(service_gateways(
            &network,
            id,
            service,
            port,
            &cluster.nodes,
        ));
    }
}

/// The gateway of a Service at each of its external addresses.
fn service_gateways(
    network: &NetworkId,
    cluster: &ClusterId,
    service: &KubeService,
    port: u16,
    nodes: &Map<Arc<str>, NodeFacts>,
) -> Vec<NetworkGateway> {
    let selector = service.annotations.get(NODE_SELECTOR);
    let by_node = service.kind == ServiceType::NodePort && selector.is_some();
    let mut addresses: Vec<String> = match service.kind {
        ServiceType::LoadBalancer => service
            .load_balancer
            .iter()
            .map(ToString::to_string)
            .collect(),
        _ => Vec::new(),
    };
    addresses.extend(service.external_ips.iter().map(IpAddr::to_string));
    if addresses.is_empty() && by_node {
        addresses = node_addresses(selector.unwrap_or_default(), nodes);
    }
    let mapped = service.ports.iter().find(|p| p.port == port);
    let port = match mapped.and_then(|p| p.node_port) {
        Some(node_port) if by_node => node_port,
        _ => port,
    };
    let at = |address: &String| gateway_at(network, Some(cluster), address, port);
    addresses.iter().filter_map(at).collect()
}

/// External addresses of the selected nodes. A selector that is no JSON object
/// selects all of them, as in istiod.
fn node_addresses(selector: &str, nodes: &Map<Arc<str>, NodeFacts>) -> Vec<String> {
    let selector: BTreeMap<String, String> = serde_json::from_str(selector).unwrap_or_default();
    let selector: Labels = selector.into_iter().collect();
    let selected = nodes.values().filter(|n| n.labels.contains_all(&selector));
    let addresses: BTreeSet<IpAddr> = selected.filter_map(|n| n.external_ip).collect();
    addresses.iter().map(IpAddr::to_string).collect()
}

/// A Gateway API Gateway: each address with each auto-passthrough listener.
fn gateway_api(id: &ClusterId, gateway: &KubeGateway, found: &mut BTreeSet<NetworkGateway>) {
    let Some(network) = network_of(&gateway.labels) else {
        return;
    };
    let wanted = gateway.labels.get(GATEWAY_PORT_LABEL);
    let wanted = wanted.map_or_else(|| MTLS_PORT.to_string(), str::to_owned);
    let passthrough = gateway.listeners.iter().filter(|l| {
        let asked = l.listener_protocol.as_deref() == Some("auto-passthrough");
        l.tls && (asked || l.port.to_string() == wanted)
    });
    let mut ports: Vec<u16> = passthrough.map(|l| l.port).collect();
    // Better than istiod on purpose: an HBONE listener takes no plain mTLS, so
    // it is a gateway only where there is no other, and then on port 0.
    if ports.is_empty() && gateway.listeners.iter().any(|l| &*l.protocol == "HBONE") {
        ports.push(0);
    }
    for address in &gateway.addresses {
        let at = |port: &u16| gateway_at(&network, Some(id), address, *port);
        found.extend(ports.iter().filter_map(at));
    }
}

fn gateway_at(
    network: &NetworkId,
    cluster: Option<&ClusterId>,
    address: &str,
    port: u16,
) -> Option<NetworkGateway> {
    let address = match address.parse::<IpAddr>() {
        Ok(ip) => GatewayAddress::Ip(ip.to_canonical()),
        Err(_) if address.is_empty() => return None,
        Err(_) => GatewayAddress::Hostname(Arc::from(address)),
    };
    Some(NetworkGateway {
        network: network.clone(),
        cluster: cluster.cloned(),
        address,
        port,
    })
}

/// The host names among the addresses of gateways.
pub(super) fn hostnames(declared: &BTreeSet<NetworkGateway>) -> BTreeSet<Arc<str>> {
    let names = declared.iter().filter_map(|g| match &g.address {
        GatewayAddress::Hostname(name) => Some(Arc::clone(name)),
        GatewayAddress::Ip(_) => None,
    });
    names.collect()
}

/// The declared gateways with host names replaced by their addresses.
pub(super) fn resolve(
    declared: &BTreeSet<NetworkGateway>,
    answers: &BTreeMap<Arc<str>, Vec<IpAddr>>,
) -> Vec<NetworkGateway> {
    let mut resolved = Vec::new();
    for gateway in declared {
        let ips: &[IpAddr] = match &gateway.address {
            GatewayAddress::Ip(_) => {
                resolved.push(gateway.clone());
                continue;
            }
            GatewayAddress::Hostname(name) => answers.get(name).map_or(&[], Vec::as_slice),
        };
        resolved.extend(ips.iter().map(|ip| NetworkGateway {
            address: GatewayAddress::Ip(ip.to_canonical()),
            ..gateway.clone()
        }));
    }
    resolved
}
