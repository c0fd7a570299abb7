//! One service out of what all clusters say of it (split-horizon §4.3).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::workloads::identity;
use crate::model::{
    ClusterId, ExportTo, Features, KubeService, Labels, MeshConfig, Namespace, PersistentSession,
    Provider, Registration, Resolution, Service, ServiceKey, ServicePort, ServiceType,
    TrafficDistribution,
};

const EXPORT_TO: &str = "networking.istio.io/exportTo";
pub(super) const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
const ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const KUBE_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";

/// One cluster's Service, and the annotations of its namespace there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition<'a> {
    pub(super) cluster: &'a ClusterId,
    pub(super) service: &'a KubeService,
    pub(super) namespace: Option<&'a Labels>,
    /// Trust domain of the cluster.
    pub(super) trust_domain: &'a str,
}

/// Merges the definitions of one service, the deciding one first.
pub(super) fn merge(
    key: &ServiceKey,
    definitions: &[Definition<'_>],
    mesh: &MeshConfig,
    features: &Features,
) -> Option<Service> {
    let first = definitions.first()?;
    let service = first.service;
    let ports = service.ports.iter().map(|port| ServicePort {
        name: Arc::clone(&port.name),
        number: port.port,
        protocol: port.protocol,
    });
    let registrations: BTreeMap<_, _> = definitions
        .iter()
        .map(|d| (d.cluster.clone(), registration(d.service)))
        .collect();
    let default = vips(service).first().copied();
    let external = external_name(service).is_some();
    let accounts = definitions.iter().flat_map(accounts);
    Some(Service {
        key: key.clone(),
        meta: service.meta.clone(),
        provider: Provider::Kubernetes,
        ports: ports.collect(),
        resolution: resolution(service),
        mesh_external: external,
        export_to: export_to(service, &key.namespace, mesh),
        labels: service.labels.clone(),
        addresses: default.into_iter().map(IpNet::from).collect(),
        registrations,
        node_local: service.node_local,
        cluster_local: mesh.cluster_local.contains(&key.hostname),
        distribution: distribution(first),
        persistent_session: PersistentSession::of(&service.labels, features),
        logical_dns: false,
        subject_alt_names: distinct(accounts),
    })
}

fn external_name(service: &KubeService) -> Option<&Arc<str>> {
    let name = service.external_name.as_ref()?;
    (service.kind == ServiceType::ExternalName && !name.is_empty()).then_some(name)
}

fn resolution(service: &KubeService) -> Resolution {
    match (external_name(service), service.cluster_ips.is_empty()) {
        (Some(_), _) => Resolution::Alias,
        (None, true) => Resolution::Passthrough,
        (None, false) => Resolution::ClientSideLb,
    }
}

/// A headless service has the address `0.0.0.0`, as in istiod.
fn vips(service: &KubeService) -> Vec<IpAddr> {
    if service.cluster_ips.is_empty() {
        return vec![IpAddr::from([0, 0, 0, 0])];
    }
    service.cluster_ips.clone()
}

fn registration(service: &KubeService) -> Registration {
    let targets = service.ports.iter();
    Registration {
        vips: vips(service),
        selector: service.selector.clone(),
        target_ports: targets.map(|p| (p.port, p.target_port.clone())).collect(),
    }
}

fn export_to(service: &KubeService, own: &Namespace, mesh: &MeshConfig) -> ExportTo {
    let text = service.annotations.get(EXPORT_TO).unwrap_or_default();
    ExportTo::parse(text.split(','), own)
        .unwrap_or_else(|| mesh.default_service_export_to.in_namespace(own))
}

/// Spec field, then the Service's annotation, then the namespace's (§1.6).
fn distribution(of: &Definition<'_>) -> TrafficDistribution {
    TrafficDistribution::choose(
        of.service.traffic_distribution.as_deref(),
        of.service.annotations.get(DISTRIBUTION),
        of.namespace.and_then(|n| n.get(DISTRIBUTION)),
    )
}

fn accounts(of: &Definition<'_>) -> Vec<Arc<str>> {
    let listed = |key: &str| {
        let text = of.service.annotations.get(key).unwrap_or_default();
        text.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
    };
    let namespace = &of.service.meta.namespace;
    let kube = listed(KUBE_ACCOUNTS).map(|name| identity(of.trust_domain, namespace, name).into());
    listed(ACCOUNTS).map(Arc::from).chain(kube).collect()
}

fn distinct(names: impl Iterator<Item = Arc<str>>) -> Vec<Arc<str>> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
