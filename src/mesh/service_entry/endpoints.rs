//! Endpoints of a `ServiceEntry`: given inline, or selected.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    Source,
    workload::{Names, of_target, telemetry_metadata},
};
use crate::model::{
    Address, Discoverability, Endpoint, Health, KubeService, KubeServicePort, Labels, ServiceEntry,
    ServiceEntryPort, ServiceEntryResolution, ServiceType, TargetPort, Workload, WorkloadEntry,
    WorkloadTarget, WorkloadTemplate,
};

/// The endpoints that `entry` itself gives for its `host`: its inline ones, or
/// the host name where Envoy resolves that.
pub fn inline_endpoints(entry: &ServiceEntry, host: &str, source: &Source<'_>) -> Vec<Endpoint> {
    if entry.workload_selector.is_some() {
        // istiod: services(): the selector replaces inline endpoints.
        return Vec::new();
    }
    if entry.endpoints.is_empty() && is_dns(entry) {
        return host_endpoints(entry, host, source);
    }
    let inline = entry.endpoints.iter().enumerate();
    inline
        .flat_map(|(at, target)| {
            let name = format!("{}-{at}", entry.meta.name);
            let names = Names {
                object: Arc::from(&*name),
                shown: &name,
                namespace: &entry.meta.namespace,
            };
            let workload = Arc::new(of_target(target, names, None, source));
            target_endpoints(entry, target, &workload, source)
        })
        .collect()
}

/// The endpoints of a `WorkloadEntry` under `entry`; none where it is not
/// selected or fails its health check.
pub fn workload_entry_endpoints(
    entry: &ServiceEntry,
    selected: &WorkloadEntry,
    workload: &Arc<Workload>,
    source: &Source<'_>,
) -> Vec<Endpoint> {
    if !selected.healthy || !selects(entry, workload) {
        return Vec::new();
    }
    target_endpoints(entry, &selected.target, workload, source)
}

/// The endpoints of a serving pod at `address` under `entry`; none where it is not
/// selected (istiod: `pod.go` tells `ServiceEntry`s of ready pods only).
pub fn pod_endpoints(
    entry: &ServiceEntry,
    address: &Address,
    workload: &Arc<Workload>,
    source: &Source<'_>,
) -> Vec<Endpoint> {
    if !source.features.service_entries_select_pods || !selects(entry, workload) {
        return Vec::new();
    }
    let endpoint = |port: &ServiceEntryPort| Endpoint {
        health: Health::Healthy,
        ..endpoint(
            address.clone(),
            target_port(port, &workload.template.ports),
            &port.name,
            workload,
            source,
        )
    };
    entry.ports.iter().map(endpoint).collect()
}

/// Whether the `workloadSelector` of `entry` selects a workload. It sees the
/// topology labels too; an empty one selects the namespace.
pub fn selects(entry: &ServiceEntry, workload: &Workload) -> bool {
    let selector = entry.workload_selector.as_ref();
    workload.template.namespace == entry.meta.namespace
        && selector.is_some_and(|selector| workload.labels.contains_all(selector))
}

/// All endpoints of one host and namespace, from the parts of each entry that
/// defines it, oldest entry first. `DNS_ROUND_ROBIN` takes one endpoint per
/// port: Envoy's `LOGICAL_DNS` refuses more.
pub fn join<'a>(
    parts: impl IntoIterator<Item = (&'a ServiceEntry, Vec<Endpoint>)>,
) -> Vec<Endpoint> {
    let mut all = Vec::new();
    let mut taken = BTreeSet::new();
    for (entry, endpoints) in parts {
        let number = |endpoint: &Endpoint| {
            let named = entry.ports.iter().find(|p| p.name == endpoint.port_name);
            named.map(|port| port.number)
        };
        for endpoint in endpoints {
            let fresh = taken.insert(number(&endpoint));
            if fresh || entry.resolution != ServiceEntryResolution::DnsRoundRobin {
                all.push(endpoint);
            }
        }
    }
    all
}

/// The endpoints of a `WorkloadEntry` under a Kubernetes Service of its
/// cluster; none where it is not selected, fails its health check, or is not
/// known by an IP (split-horizon §2, Ports).
pub fn kube_service_workload_entry_endpoints(
    service: &KubeService,
    selected: &WorkloadEntry,
    workload: &Arc<Workload>,
    source: &Source<'_>,
) -> Vec<Endpoint> {
    let address = address(&selected.target, false);
    let (Some(address @ (Address::Ip(_) | Address::Unknown)), true) = (address, selected.healthy)
    else {
        return Vec::new();
    };
    if !source.features.services_select_workload_entries || !service_selects(service, workload) {
        return Vec::new();
    }
    let target = &selected.target;
    let ports = service.ports.iter();
    let targets = ports.filter_map(|port| Some((port, kube_target_port(port, &target.ports)?)));
    targets
        .map(|(port, number)| Endpoint {
            weight: target.weight.max(1),
            ..endpoint(address.clone(), number, &port.name, workload, source)
        })
        .collect()
}

/// Only services with a cluster IP and a selector take them (istiod:
/// `serviceInstancesFromWorkloadInstances`).
fn service_selects(service: &KubeService, workload: &Workload) -> bool {
    workload.template.namespace == service.meta.namespace
        && service.kind != ServiceType::ExternalName
        && !service.cluster_ips.is_empty()
        && !service.selector.is_empty()
        && workload.labels.contains_all(&service.selector)
}

/// A number gives way to the entry's port of the service port's name; a name
/// must be among the entry's ports.
fn kube_target_port(port: &KubeServicePort, ports: &[(Arc<str>, u16)]) -> Option<u16> {
    match &port.target_port {
        TargetPort::Name(name) => named(ports, name),
        TargetPort::Number(number) => Some(named(ports, &port.name).unwrap_or(*number)),
    }
}

fn host_endpoints(entry: &ServiceEntry, host: &str, source: &Source<'_>) -> Vec<Endpoint> {
    let (name, namespace) = (&entry.meta.name, &entry.meta.namespace);
    let metadata = telemetry_metadata(name, namespace, &Labels::default(), source.cluster);
    let template = WorkloadTemplate {
        namespace: namespace.clone(),
        cluster: source.cluster.clone(),
        metadata,
        ..WorkloadTemplate::default()
    };
    let workload = Arc::new(Workload {
        name: Arc::clone(name),
        template: Arc::new(template),
        ..Workload::default()
    });
    let address = Address::Hostname(Arc::from(host));
    let endpoint = |port: &ServiceEntryPort| {
        let number = target_port(port, &[]);
        endpoint(address.clone(), number, &port.name, &workload, source)
    };
    entry.ports.iter().map(endpoint).collect()
}

fn target_endpoints(
    entry: &ServiceEntry,
    target: &WorkloadTarget,
    workload: &Arc<Workload>,
    source: &Source<'_>,
) -> Vec<Endpoint> {
    let Some(address) = address(target, is_dns(entry)) else {
        return Vec::new();
    };
    let endpoint = |port: &ServiceEntryPort| {
        let number = match address {
            Address::Unix(_) => 0,
            _ => target_port(port, &target.ports),
        };
        Endpoint {
            weight: target.weight.max(1),
            ..endpoint(address.clone(), number, &port.name, workload, source)
        }
    };
    entry.ports.iter().map(endpoint).collect()
}

fn endpoint(
    address: Address,
    port: u16,
    port_name: &Arc<str>,
    workload: &Arc<Workload>,
    source: &Source<'_>,
) -> Endpoint {
    let (namespace, labels) = (&workload.template.namespace, &workload.labels);
    Endpoint {
        address,
        port,
        health: Health::Unknown,
        discoverability: Discoverability::Everywhere,
        mtls_disabled: source
            .authentications
            .mtls_disabled(namespace, labels, port),
        weight: 1,
        port_name: Arc::clone(port_name),
        workload: Arc::clone(workload),
    }
}

/// Where a target listens, if Envoy can use it. Only DNS clusters resolve host
/// names, and they take no socket paths.
fn address(target: &WorkloadTarget, dns: bool) -> Option<Address> {
    let text = &target.address;
    if text.is_empty() {
        return Some(Address::Unknown);
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return (!dns).then(|| Address::Unix(Arc::from(path)));
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(Address::Ip(ip)),
        Err(_) => dns.then(|| Address::Hostname(Arc::clone(text))),
    }
}

/// The workload's port of that name, else `targetPort`, else the number.
fn target_port(port: &ServiceEntryPort, ports: &[(Arc<str>, u16)]) -> u16 {
    let fallback = port.target_port.unwrap_or(port.number);
    named(ports, &port.name).unwrap_or(fallback)
}

fn named(ports: &[(Arc<str>, u16)], name: &str) -> Option<u16> {
    let found = ports.iter().find(|(known, _)| **known == *name);
    found
        .map(|(_, number)| *number)
        .filter(|number| *number > 0)
}

fn is_dns(entry: &ServiceEntry) -> bool {
    use ServiceEntryResolution::{Dns, DnsRoundRobin};
    matches!(entry.resolution, Dns | DnsRoundRobin)
}
