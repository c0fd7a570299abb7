//! LDS: the listeners of sidecars. Those of routers are in [`super::gateway`].

mod entries;
pub(super) mod http;
pub(super) mod listener;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use entries::{Entries, Kind, Wish};
use listener::Style;

use super::client::Client;
use super::egress::{self, Egress};
use super::resources::{ResourceList, sorted};
use super::{cds, gateway, pb};
use crate::mesh::MemoKey;
use crate::model::{
    CaptureMode, ClusterId, InterceptionMode, IpFamily, IstioFilters, MeshConfig, NodeKind,
    OutboundPolicy, Protocol, Service,
};

/// Proxies with the same listeners: all that they depend on beside the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListKey {
    scope: Arc<str>,
    interception: InterceptionMode,
    cluster: ClusterId,
    family: IpFamily,
    unprivileged: bool,
    own_ports: BTreeSet<u16>,
    http_proxy_port: Option<u16>,
    filters: IstioFilters,
}

impl MemoKey for ListKey {
    type Value = ResourceList;
}

/// The listeners of a proxy, sorted by name.
pub(super) fn list(client: &Client) -> ResourceList {
    let proxy = &client.proxy;
    if proxy.kind == NodeKind::Router {
        return gateway::list(client);
    }
    let key = ListKey {
        scope: Arc::clone(client.scope.key()),
        interception: proxy.interception,
        cluster: proxy.cluster.clone(),
        family: proxy.ips.family(),
        unprivileged: proxy.unprivileged,
        own_ports: proxy.own_ports.clone(),
        http_proxy_port: proxy.http_proxy_port,
        filters: client.filters(),
    };
    let memo = client.snapshot.memo();
    let list = memo.get_or_make(key, |key| build(client, key));
    Arc::clone(&list)
}

fn build(client: &Client, key: &ListKey) -> ResourceList {
    let mesh = &client.snapshot.mesh().config;
    let style = Style {
        filters: key.filters,
        fallback: match client.scope.outbound_policy() {
            OutboundPolicy::AllowAny => cds::PASSTHROUGH,
            OutboundPolicy::RegistryOnly => cds::BLACK_HOLE,
        },
        detection_timeout: mesh.protocol_detection_timeout,
    };
    let mut entries = Entries::new(key.wildcard());
    for egress in egress::listeners(client).iter() {
        key.add(&mut entries, egress, mesh);
    }
    let outbound = entries.all.iter();
    let mut all: Vec<_> = outbound
        .map(|(at, entry)| listener::outbound(at, entry, &style))
        .collect();
    if key.interception != InterceptionMode::None {
        let port = mesh.outbound_port;
        let mut redirected = listener::virtual_outbound(key.wildcard(), port, &style);
        redirected.transparent = match key.interception {
            InterceptionMode::Tproxy => pb::boolean(true),
            InterceptionMode::Redirect | InterceptionMode::None => None,
        };
        all.push(redirected);
    }
    let port = key.http_proxy_port.unwrap_or(mesh.http_proxy_port);
    if port > 0 {
        all.push(listener::http_proxy(key.localhost(), port, &style));
    }
    sorted(all.iter().map(listener::encode).collect())
}

impl ListKey {
    fn wildcard(&self) -> &'static str {
        match self.family {
            IpFamily::V6 => "::",
            IpFamily::V4 | IpFamily::Any => "0.0.0.0",
        }
    }

    fn localhost(&self) -> &'static str {
        match self.family {
            IpFamily::V6 => "::1",
            IpFamily::V4 | IpFamily::Any => "127.0.0.1",
        }
    }

    /// Adds the listeners of one egress entry.
    fn add(&self, entries: &mut Entries, egress: &Egress, mesh: &MeshConfig) {
        let binds = self.interception == InterceptionMode::None
            || egress.capture == CaptureMode::None
            || egress.bind.starts_with("unix://");
        let bind = match &*egress.bind {
            "" => binds.then(|| self.localhost().to_owned()),
            bind => Some(bind.to_owned()),
        };
        if egress.port.is_none() {
            entries.lock();
        }
        for service in &egress.services {
            let ports: Vec<_> = match egress.port {
                Some(port) => vec![port],
                None => service
                    .tcp_ports()
                    .map(|p| (p.number, p.protocol))
                    .collect(),
            };
            for (port, protocol) in ports {
                let wish = Wish {
                    service,
                    port,
                    protocol,
                    bind: bind.clone(),
                    binds,
                    addresses: egress::listened(service, &self.cluster, self.family),
                };
                if protocol != Protocol::Udp && self.may_listen(&wish, mesh) {
                    entries.add(&wish);
                }
            }
        }
    }

    /// Whether the listener can exist (istiod: `CanBindToPort`).
    fn may_listen(&self, wish: &Wish<'_>, mesh: &MeshConfig) -> bool {
        let http = Kind::of(wish.protocol) == Kind::Http;
        let privileged = (1..1024).contains(&wish.port);
        if wish.binds && privileged && self.unprivileged {
            return false;
        }
        if wish.bind.is_none() && !http && is_reached_by_pod(wish.service) {
            return false;
        }
        let on_wildcard = match &wish.bind {
            Some(bind) => bind == self.wildcard(),
            None => http,
        };
        let taken = self.own_ports.contains(&wish.port)
            || [mesh.outbound_port, mesh.inbound_port].contains(&wish.port);
        !(on_wildcard && taken)
    }
}

/// A headless service has no address of its own: its bytes go to the address
/// of a pod, which the catch-all listener passes on.
fn is_reached_by_pod(service: &Service) -> bool {
    service.is_headless()
}
