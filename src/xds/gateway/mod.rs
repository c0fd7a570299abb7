//! What routers get for the Istio `Gateway`s that select them: listeners and
//! routes. Their clusters are those of [`super::cds`].

mod chains;
mod connections;
mod hosts;
mod listener;
mod merged;
mod routes;
mod sni_dnat;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use listener::Address;
use merged::Merged;

use super::client::Client;
use super::inbound;
use super::resources::{ResourceList, sorted};
use crate::mesh::MemoKey;
use crate::model::{Gateway, IpFamily, IstioFilters, Labels, Namespace, NodeKind};
use crate::wire::EncodedResource;

/// Routers that run the same servers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RouterClass {
    /// The `Gateway`s that select them, by their place among all.
    gateways: Vec<usize>,
    /// Ports of the Services in front of them, and the ports behind.
    targets: Arc<[(u16, u16)]>,
}

impl MemoKey for RouterClass {
    type Value = Merged;
}

impl RouterClass {
    fn of(client: &Client) -> Self {
        let mesh = client.snapshot.mesh();
        let near = |gateway: &Gateway| {
            !mesh.features.scope_gateways || gateway.meta.namespace == client.proxy.namespace
        };
        // istiod: a `Gateway` without a selector is for every router.
        let selects = |gateway: &Gateway| client.labels().contains_all(&gateway.selector);
        let all = mesh.gateways.iter().enumerate();
        let selecting = all.filter(|(_, gateway)| near(gateway) && selects(gateway));
        let gateways: Vec<_> = selecting.map(|(at, _)| at).collect();
        let targets = match gateways.as_slice() {
            [] => Arc::default(),
            _ => inbound::target_ports(client),
        };
        Self { gateways, targets }
    }

    fn merged(&self, client: &Client) -> Arc<Merged> {
        let memo = client.snapshot.memo();
        memo.get_or_make(self.clone(), |class| {
            let all = &client.snapshot.mesh().gateways;
            let selected = class.gateways.iter().filter_map(|at| all.get(*at));
            let selected: Vec<_> = selected.cloned().collect();
            Merged::new(&selected, &class.targets)
        })
    }
}

/// Whether the proxy forwards by SNI to `outbound_.` clusters.
pub(super) fn forwards_by_sni(client: &Client) -> bool {
    let is_router = client.proxy.kind == NodeKind::Router;
    is_router && RouterClass::of(client).merged(client).forwards_by_sni()
}

/// Routers with the same listeners: all that these depend on beside the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListKey {
    class: RouterClass,
    scope: Arc<str>,
    /// Those that some rule or match looks at.
    labels: Labels,
    family: IpFamily,
    unprivileged: bool,
    filters: IstioFilters,
}

impl MemoKey for ListKey {
    type Value = ResourceList;
}

/// The listeners of a router, sorted by name.
pub(super) fn list(client: &Client) -> ResourceList {
    let key = ListKey {
        class: RouterClass::of(client),
        scope: Arc::clone(client.scope.key()),
        labels: client.relevant_labels(),
        family: client.proxy.ips.family(),
        unprivileged: client.proxy.unprivileged,
        filters: client.filters(),
    };
    let memo = client.snapshot.memo();
    let list = memo.get_or_make(key, |key| build(client, key));
    Arc::clone(&list)
}

fn build(client: &Client, key: &ListKey) -> ResourceList {
    let merged = key.class.merged(client);
    let mut listeners: Vec<(Address, listener::Draft)> = Vec::new();
    for port in &merged.ports {
        // istiod: ports under 1024 are not for a pod without privileges.
        if key.unprivileged && port.port.number < 1024 {
            continue;
        }
        let address = Address::of(&port.port, key.family);
        // Plain text and TLS may share a port: one listener for both.
        let known = listeners.iter().position(|(known, _)| *known == address);
        let at = known.unwrap_or(listeners.len());
        if known.is_none() {
            listeners.push((address, listener::Draft::default()));
        }
        if let Some((address, draft)) = listeners.get_mut(at) {
            chains::append(draft, client, port, &address.name(), key.filters);
        }
    }
    let encoded = listeners.into_iter().filter(|(_, d)| !d.is_empty());
    sorted(
        encoded
            .map(|(address, d)| Arc::new(d.encode(&address)))
            .collect(),
    )
}

/// Names the routes of routers that have the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RouteKey {
    name: String,
    class: RouterClass,
    scope: Arc<str>,
    namespace: Namespace,
    /// Those that some rule or match looks at.
    labels: Labels,
}

impl MemoKey for RouteKey {
    type Value = Arc<EncodedResource>;
}

/// The routes called `name`; none where no server has them.
pub(super) fn route(client: &Client, name: &str) -> Option<Arc<EncodedResource>> {
    let class = RouterClass::of(client);
    let merged = class.merged(client);
    // Names that clients make up must not fill the memo.
    routes::servers(&merged, name).next()?;
    let key = RouteKey {
        name: name.to_owned(),
        class,
        scope: Arc::clone(client.scope.key()),
        namespace: client.proxy.namespace.clone(),
        labels: client.relevant_labels(),
    };
    let build = |key: &RouteKey| Arc::new(routes::configuration(client, &merged, &key.name));
    Some(Arc::clone(&client.snapshot.memo().get_or_make(key, build)))
}
