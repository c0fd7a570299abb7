//! Services that `VirtualService`s lead to: a `Sidecar` that imports the one
//! imports the other too, for clusters and endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{EgressScope, ServiceState, Snapshot};
use crate::model::{Destination, Namespace, Provider, Service, VirtualService};

/// Ports by host; none where all ports are meant.
type Ports = Option<BTreeSet<u16>>;

/// Hosts that are called, whether or not they are imported.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    namespace: Namespace,
    hosts: BTreeMap<Arc<str>, Ports>,
}

impl Destinations {
    /// Where the `VirtualService`s lead that the listeners import.
    pub(super) fn of(egress: &[EgressScope], snapshot: &Snapshot, namespace: &Namespace) -> Self {
        let mut all = Self {
            namespace: namespace.clone(),
            hosts: BTreeMap::new(),
        };
        for listener in egress {
            for service in listener.virtual_services(snapshot) {
                for destination in leads_to(&service, namespace) {
                    // A listener with a port of its own has only that.
                    all.add(&destination.host, listener.port().or(destination.port));
                }
            }
        }
        all
    }

    fn add(&mut self, host: &Arc<str>, port: Option<u16>) {
        let held = self.hosts.entry(Arc::clone(host));
        let held = held.or_insert_with(|| Some(BTreeSet::new()));
        match (held.as_mut(), port) {
            (Some(ports), Some(port)) => drop(ports.insert(port)),
            _ => *held = None,
        }
    }

    /// Whether some route leads to a port of the service.
    pub(super) fn include(&self, service: &Service, port: u16) -> bool {
        let ports = self.hosts.get(&*service.key.hostname);
        let takes = |ports: &Ports| ports.as_ref().is_none_or(|ports| ports.contains(&port));
        service.export_to.includes(&self.namespace) && ports.is_some_and(takes)
    }

    /// The one of a host's services that is meant: the namespace's own, a
    /// Kubernetes one, the oldest (istiod: `pickBestVisibleNamespace`).
    pub(super) fn pick<'a>(
        &self,
        services: &'a [Arc<ServiceState>],
    ) -> Option<&'a Arc<ServiceState>> {
        let any_port = |service: &Service| {
            let mut ports = service.ports.iter();
            ports.any(|port| self.include(service, port.number))
        };
        let called = services.iter().filter(|state| any_port(&state.service));
        called.min_by_key(|state| {
            let Service { key, meta, .. } = &*state.service;
            let foreign = key.namespace != self.namespace;
            let external = state.service.provider != Provider::Kubernetes;
            (foreign, external, &meta.created, &key.namespace)
        })
    }
}

/// Where a `VirtualService` leads clients of `namespace`.
fn leads_to<'a>(
    service: &'a VirtualService,
    namespace: &'a Namespace,
) -> impl Iterator<Item = &'a Destination> {
    let is_for = move |of: &Arc<str>| of.is_empty() || **of == **namespace;
    let http = service.http.iter().filter(move |route| {
        let mut matches = route.matches.iter();
        route.matches.is_empty() || matches.any(|found| is_for(&found.source.namespace))
    });
    let http = http.flat_map(|route| {
        let all = route.destinations.iter().map(|d| &d.destination);
        all.chain(route.mirrors.iter().map(|m| &m.destination))
    });
    let tcp = service.tcp.iter().flat_map(|route| &route.route);
    let tls = service.tls.iter().flat_map(|route| &route.route);
    http.chain(tcp.chain(tls).map(|d| &d.destination))
}
