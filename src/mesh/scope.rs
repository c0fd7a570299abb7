//! Which services a proxy may call.

use std::sync::Arc;

use super::{ServiceState, Snapshot};
use crate::model::{EgressListener, Labels, Namespace, NodeKind, OutboundPolicy, Service};

/// The services that proxies of one namespace see.
#[derive(Debug)]
pub struct Scope {
    key: Arc<str>,
    egress: [EgressScope; 1],
    outbound_policy: OutboundPolicy,
}

/// What one egress listener imports.
#[derive(Debug)]
pub struct EgressScope {
    listener: EgressListener,
    namespace: Namespace,
}

impl Scope {
    /// The scope of proxies with these labels in `namespace`.
    pub fn of(
        snapshot: &Snapshot,
        namespace: &Namespace,
        _labels: &Labels,
        _kind: NodeKind,
    ) -> Arc<Self> {
        let egress = EgressScope {
            listener: EgressListener::default(),
            namespace: namespace.clone(),
        };
        Arc::new(Self {
            key: Arc::clone(namespace.as_arc()),
            egress: [egress],
            outbound_policy: snapshot.mesh().config.outbound_policy,
        })
    }

    /// Names the scope within one configuration: proxies with equal keys see
    /// the same services.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Its egress listeners, in order.
    pub fn egress(&self) -> &[EgressScope] {
        &self.egress
    }

    /// Whether some egress listener imports the port.
    pub fn includes_port(&self, service: &Service, _port: u16) -> bool {
        self.egress.iter().any(|one| one.includes(service))
    }

    /// The service that `host` means to its proxies.
    pub fn service<'a>(&self, snapshot: &'a Snapshot, host: &str) -> Option<&'a Arc<ServiceState>> {
        self.egress.iter().find_map(|one| one.pick(snapshot, host))
    }

    /// All services its proxies see, by host; one per host.
    pub fn services(&self, snapshot: &Snapshot) -> Vec<Arc<ServiceState>> {
        let all = self.egress.iter();
        all.flat_map(|one| one.services(snapshot)).collect()
    }

    /// Where calls to unknown hosts go.
    pub fn outbound_policy(&self) -> OutboundPolicy {
        self.outbound_policy
    }
}

impl EgressScope {
    /// The listener as written.
    pub fn listener(&self) -> &EgressListener {
        &self.listener
    }

    /// The services it imports, by host; one per host.
    pub fn services(&self, snapshot: &Snapshot) -> Vec<Arc<ServiceState>> {
        let chosen = |s: &&Arc<ServiceState>| {
            let chosen = self.pick(snapshot, &s.service.key.hostname);
            chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, s))
        };
        let mut all: Vec<_> = snapshot.services().filter(chosen).cloned().collect();
        all.sort_by(|a, b| a.service.key.cmp(&b.service.key));
        all
    }

    fn includes(&self, service: &Service) -> bool {
        service.export_to.includes(&self.namespace)
    }

    fn pick<'a>(&self, snapshot: &'a Snapshot, host: &str) -> Option<&'a Arc<ServiceState>> {
        let visible = snapshot.host(host).iter();
        let visible = visible.filter(|s| self.includes(&s.service));
        visible.min_by_key(|s| s.service.key.namespace != self.namespace)
    }
}
