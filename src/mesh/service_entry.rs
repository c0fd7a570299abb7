//! What `ServiceEntry` and `WorkloadEntry` mean: services, workloads and
//! endpoints.

mod endpoints;
#[cfg(test)]
mod tests;
mod workload;

pub use endpoints::{
    inline_endpoints, join, kube_service_workload_entry_endpoints, pod_endpoints, selects,
    workload_entry_endpoints,
};
pub use workload::{telemetry_metadata, topology_labels, workload};

use std::{collections::BTreeMap, sync::Arc};

use super::PeerAuthentications;
use crate::model::{
    ClusterId, Features, Hostname, Location, MeshConfig, ObjectMeta, PersistentSession, Provider,
    Registration, Resolution, Service, ServiceEntry, ServiceEntryPort, ServiceEntryResolution,
    ServiceKey, ServicePort, TargetPort, TrafficDistribution,
};

/// What the meaning of an object depends on, beside the object.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The cluster that reports the object.
    pub cluster: &'a ClusterId,
    /// Mesh settings.
    pub mesh: &'a MeshConfig,
    /// Switches.
    pub features: &'a Features,
    /// mTLS modes.
    pub authentications: &'a PeerAuthentications,
}

/// The services of `entry`, one per host. `namespace_distribution` is the
/// traffic distribution annotation of its namespace.
pub fn services(
    entry: &ServiceEntry,
    namespace_distribution: Option<&str>,
    source: &Source<'_>,
) -> Vec<Service> {
    let hosts = entry.hosts.iter();
    hosts
        .map(|host| service(entry, Arc::clone(host), namespace_distribution, source))
        .collect()
}

fn service(
    entry: &ServiceEntry,
    host: Arc<str>,
    namespace_distribution: Option<&str>,
    source: &Source<'_>,
) -> Service {
    let Source { mesh, features, .. } = source;
    let namespace = &entry.meta.namespace;
    let hostname = Hostname::shared(host);
    let default_export = || mesh.default_service_export_to.in_namespace(namespace);
    Service {
        cluster_local: mesh.cluster_local.contains(&hostname),
        // istiod: a service of an entry is called by its host, which also
        // decides between services of one age.
        meta: ObjectMeta {
            name: Arc::clone(hostname.as_arc()),
            ..entry.meta.clone()
        },
        key: ServiceKey {
            hostname,
            namespace: namespace.clone(),
        },
        provider: Provider::External,
        ports: ports(entry),
        resolution: resolution(entry.resolution),
        mesh_external: entry.location == Location::External,
        export_to: entry.export_to.clone().unwrap_or_else(default_export),
        labels: entry.labels.clone(),
        addresses: entry.addresses.clone(),
        registrations: BTreeMap::from([(source.cluster.clone(), registration(entry))]),
        node_local: false,
        distribution: TrafficDistribution::choose(
            None,
            entry.traffic_distribution.as_deref(),
            namespace_distribution,
        ),
        persistent_session: PersistentSession::of(&entry.labels, features),
        logical_dns: entry.logical_dns,
        subject_alt_names: entry.subject_alt_names.clone(),
    }
}

fn ports(entry: &ServiceEntry) -> Vec<ServicePort> {
    let port = |port: &ServiceEntryPort| ServicePort {
        name: Arc::clone(&port.name),
        number: port.number,
        protocol: port.protocol,
    };
    entry.ports.iter().map(port).collect()
}

/// Its workloads may be in any cluster: the one key is the cluster that the
/// entry was read from.
fn registration(entry: &ServiceEntry) -> Registration {
    let target = |port: &ServiceEntryPort| {
        let number = port.target_port.unwrap_or(port.number);
        (port.number, TargetPort::Number(number))
    };
    Registration {
        vips: Vec::new(),
        selector: entry.workload_selector.clone().unwrap_or_default(),
        target_ports: entry.ports.iter().map(target).collect(),
    }
}

fn resolution(resolution: ServiceEntryResolution) -> Resolution {
    match resolution {
        ServiceEntryResolution::None => Resolution::Passthrough,
        ServiceEntryResolution::Static => Resolution::ClientSideLb,
        ServiceEntryResolution::Dns => Resolution::Dns,
        ServiceEntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        ServiceEntryResolution::DynamicDns => Resolution::DynamicDns,
    }
}

/// One service of several entries of one namespace that name the same host,
/// oldest first. The oldest defines it; the others add their ports where they
/// agree with it otherwise (istiod: `canMergeServices`).
pub fn merged(services: impl IntoIterator<Item = Service>) -> Option<Service> {
    let mut services = services.into_iter();
    let mut merged = services.next()?;
    for other in services {
        if !agree(&merged, &other) {
            continue;
        }
        for address in &other.addresses {
            if !merged.addresses.contains(address) {
                merged.addresses.push(*address);
            }
        }
        for port in &other.ports {
            if merged.ports.iter().all(|own| own.number != port.number) {
                merged.ports.push(port.clone());
                add_target(&mut merged, &other, port.number);
            }
        }
    }
    Some(merged)
}

fn agree(a: &Service, b: &Service) -> bool {
    let selectors = |service: &Service| -> Vec<_> {
        let all = service.registrations.values();
        all.map(|here| here.selector.clone()).collect()
    };
    a.resolution == b.resolution
        && a.labels == b.labels
        && a.export_to == b.export_to
        && selectors(a) == selectors(b)
}

fn add_target(merged: &mut Service, other: &Service, port: u16) {
    for (cluster, registration) in &mut merged.registrations {
        let theirs = other.registrations.get(cluster).into_iter();
        let targets = theirs.flat_map(|here| &here.target_ports);
        let of_port = targets.filter(|(number, _)| *number == port);
        registration.target_ports.extend(of_port.cloned());
    }
}
