//! What one proxy may see: `exportTo`, narrowed by its `Sidecar`.

mod destinations;
mod imports;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use destinations::Destinations;
use imports::Imports;

use super::{HostServices, MemoKey, ServiceState, Snapshot};
use crate::model::{
    EgressListener, ExportTo, GatewayName, HostPattern, Labels, Namespace, NodeKind,
    OutboundPolicy, Provider, Service, Sidecar, VirtualService,
};

/// What the proxies of one namespace may see that share a `Sidecar`
/// (istiod: `SidecarScope`).
#[derive(Debug)]
pub struct Scope {
    key: Arc<str>,
    sidecar: Option<Arc<Sidecar>>,
    egress: Vec<EgressScope>,
    /// What is called without being imported.
    destinations: Destinations,
    outbound_policy: OutboundPolicy,
}

/// Kind, namespace and `Sidecar`: all that a scope depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ScopeKey(Arc<str>);

impl MemoKey for ScopeKey {
    type Value = Scope;
}

/// What one egress listener imports.
#[derive(Debug)]
pub struct EgressScope {
    listener: EgressListener,
    imports: Imports,
    namespace: Namespace,
    kind: NodeKind,
}

impl Scope {
    /// The scope of a proxy; made once per configuration.
    pub fn of(
        snapshot: &Snapshot,
        namespace: &Namespace,
        labels: &Labels,
        kind: NodeKind,
    ) -> Arc<Self> {
        let sidecar = match kind {
            NodeKind::Sidecar => applying(snapshot, namespace, labels),
            // istiod: gateways have no `Sidecar`.
            NodeKind::Router => None,
        };
        let (of, name) = sidecar.map_or(("", ""), |s| (&*s.meta.namespace, &*s.meta.name));
        let key = ScopeKey(Arc::from(format!("{kind:?}/{namespace}/{of}/{name}")));
        snapshot.memo().get_or_make(key, |key| {
            Self::new(&key.0, namespace, kind, sidecar, snapshot)
        })
    }

    fn new(
        key: &Arc<str>,
        namespace: &Namespace,
        kind: NodeKind,
        sidecar: Option<&Arc<Sidecar>>,
        snapshot: &Snapshot,
    ) -> Self {
        let egress = match sidecar {
            Some(sidecar) if !sidecar.egress.is_empty() => sidecar.egress.clone(),
            _ => vec![everything()],
        };
        let egress = egress.into_iter().map(|listener| EgressScope {
            imports: Imports::new(&listener, namespace),
            listener,
            namespace: namespace.clone(),
            kind,
        });
        let egress: Vec<_> = egress.collect();
        let destinations = match sidecar {
            Some(_) => Destinations::of(&egress, snapshot, namespace),
            // Everything is imported.
            None => Destinations::default(),
        };
        Self {
            key: Arc::clone(key),
            egress,
            destinations,
            outbound_policy: sidecar
                .and_then(|sidecar| sidecar.outbound_policy)
                .unwrap_or(snapshot.mesh().config.outbound_policy),
            sidecar: sidecar.map(Arc::clone),
        }
    }

    /// Names the scope within one configuration: proxies with equal keys see
    /// the same services. For keys of [`super::ConfigMemo`].
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The `Sidecar` that applies, if any.
    pub fn sidecar(&self) -> Option<&Arc<Sidecar>> {
        self.sidecar.as_ref()
    }

    /// The egress listeners, in order; one for everything where the `Sidecar`
    /// has none.
    pub fn egress(&self) -> &[EgressScope] {
        &self.egress
    }

    /// Where traffic to unknown hosts goes.
    pub fn outbound_policy(&self) -> OutboundPolicy {
        self.outbound_policy
    }

    /// Whether some egress listener imports the port: one with a port of its
    /// own imports only that port.
    pub fn includes_port(&self, service: &Service, port: u16) -> bool {
        let mut listeners = self.egress.iter();
        listeners.any(|listener| listener.includes(service) && listener.takes_port(port))
            || self.destinations.include(service, port)
    }

    /// The service that `host` means to its proxies.
    pub fn service<'a>(&self, snapshot: &'a Snapshot, host: &str) -> Option<&'a Arc<ServiceState>> {
        self.pick(snapshot.host(host))
    }

    /// All services its proxies see, by host; one per host.
    pub fn services(&self, snapshot: &Snapshot) -> Vec<Arc<ServiceState>> {
        by_host(snapshot, |services| self.pick(services))
    }

    /// istiod: `appendSidecarServices`: the first listener's choice stays,
    /// but for a Kubernetes service of a later one.
    fn pick<'a>(&self, services: &'a [Arc<ServiceState>]) -> Option<&'a Arc<ServiceState>> {
        let choices = self.egress.iter().filter_map(|one| one.pick(services));
        let imported = choices.min_by_key(|choice| choice.service.provider != Provider::Kubernetes);
        imported.or_else(|| self.destinations.pick(services))
    }
}

impl EgressScope {
    /// The listener as written.
    pub fn listener(&self) -> &EgressListener {
        &self.listener
    }

    /// The port that imported services must have; none where all their ports
    /// are imported.
    pub fn port(&self) -> Option<u16> {
        let (number, ..) = self.listener.port.as_ref()?;
        // istiod: needsPortMatch: a generic HTTP proxy takes every port, and
        // port 0 is a unix socket.
        (*number != 0 && !self.listener.http_proxy).then_some(*number)
    }

    /// Whether it imports `port` of the services it includes.
    pub fn takes_port(&self, port: u16) -> bool {
        self.port().is_none_or(|own| own == port)
    }

    /// Whether it imports `service`.
    pub fn includes(&self, service: &Service) -> bool {
        service.export_to.includes(&self.namespace)
            && self
                .port()
                .is_none_or(|own| service.ports.iter().any(|port| port.number == own))
            && self
                .imports
                .contains(&service.key.namespace, &service.key.hostname)
    }

    /// The service that `host` means at this listener.
    pub fn service<'a>(&self, snapshot: &'a Snapshot, host: &str) -> Option<&'a Arc<ServiceState>> {
        self.pick(snapshot.host(host))
    }

    /// The services it imports, by host; one per host.
    pub fn services(&self, snapshot: &Snapshot) -> Vec<Arc<ServiceState>> {
        by_host(snapshot, |services| self.pick(services))
    }

    /// The `VirtualService`s of the mesh that it imports, in the order in which
    /// they win over each other.
    pub fn virtual_services(&self, snapshot: &Snapshot) -> Vec<Arc<VirtualService>> {
        let all = &snapshot.mesh().virtual_services;
        let visible = all.visible(&self.namespace, &GatewayName::Mesh);
        let imported = visible.filter(|service| {
            let of = &service.meta.namespace;
            let mut hosts = service.hosts.iter();
            hosts.any(|host| self.imports.admits(of, host))
        });
        imported.cloned().collect()
    }

    /// istiod: `selectServices` for sidecars, `appendSidecarServices` for
    /// gateways, which do not prefer their own namespace.
    fn pick<'a>(&self, services: &'a [Arc<ServiceState>]) -> Option<&'a Arc<ServiceState>> {
        let included = services
            .iter()
            .filter(|state| self.includes(&state.service));
        included.min_by_key(|state| {
            let Service { key, meta, .. } = &*state.service;
            let foreign = self.kind == NodeKind::Router || key.namespace != self.namespace;
            let external = state.service.provider != Provider::Kubernetes;
            // Services for chosen namespaces stand before those for everybody.
            let public = state.service.export_to == ExportTo::Everyone;
            (foreign, external, public, &meta.created, &key.namespace)
        })
    }
}

/// The `Sidecar` for a workload: its namespace's, those that select workloads
/// first, else the root namespace's for everybody.
fn applying<'a>(
    snapshot: &'a Snapshot,
    namespace: &Namespace,
    labels: &Labels,
) -> Option<&'a Arc<Sidecar>> {
    let mesh = snapshot.mesh();
    let of = |name: &Namespace| mesh.sidecars.get(name).into_iter().flatten();
    let selects = |sidecar: &&Arc<Sidecar>| {
        let selector = sidecar.workload_selector.as_ref();
        selector.is_some_and(|selector| labels.contains_all(selector))
    };
    let for_all = |sidecar: &&Arc<Sidecar>| sidecar.workload_selector.is_none();
    of(namespace)
        .find(selects)
        .or_else(|| of(namespace).find(for_all))
        .or_else(|| of(&mesh.config.root_namespace).find(for_all))
}

fn everything() -> EgressListener {
    let all = HostPattern {
        namespace: Namespace::from("*"),
        host: Arc::from("*"),
    };
    EgressListener {
        hosts: vec![all],
        ..EgressListener::default()
    }
}

fn by_host<'a>(
    snapshot: &'a Snapshot,
    pick: impl Fn(&'a HostServices) -> Option<&'a Arc<ServiceState>>,
) -> Vec<Arc<ServiceState>> {
    let hosts = snapshot.services.iter();
    let mut all: Vec<_> = hosts.filter_map(pick).cloned().collect();
    all.sort_by(|a, b| a.service.key.cmp(&b.service.key));
    all
}
