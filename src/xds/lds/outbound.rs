//! Outbound listeners: which there are, and for whom.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::entries::{Entries, Kind, Wish};
use super::forwarding::Forwarding;
use super::headless;
use super::listener::{self, Style};
use crate::mesh::MemoKey;
use crate::model::{
    CaptureMode, ClusterId, GatewayName, InterceptionMode, IpFamily, IstioFilters, Labels,
    MeshConfig, Namespace, OutboundPolicy, Protocol, Source,
};
use crate::xds::client::Client;
use crate::xds::egress::{self, Egress};
use crate::xds::http_route::Context;
use crate::xds::resources::{ResourceList, sorted};
use crate::xds::{cds, pb};

/// Proxies with the same listeners: all that they depend on beside the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OutboundKey {
    scope: Arc<str>,
    namespace: Namespace,
    /// Those that some rule or match looks at.
    labels: Labels,
    interception: InterceptionMode,
    cluster: ClusterId,
    family: IpFamily,
    unprivileged: bool,
    own_ports: BTreeSet<u16>,
    http_proxy_port: Option<u16>,
    /// Its address, where it is one of a headless service.
    own_pod: Option<IpAddr>,
    filters: IstioFilters,
}

impl MemoKey for OutboundKey {
    type Value = ResourceList;
}

impl OutboundKey {
    /// The key of a sidecar.
    pub(super) fn of(client: &Client) -> Self {
        let proxy = &client.proxy;
        Self {
            scope: Arc::clone(client.scope.key()),
            namespace: proxy.namespace.clone(),
            labels: client.relevant_labels(),
            interception: proxy.interception,
            cluster: proxy.cluster.clone(),
            family: proxy.ips.family(),
            unprivileged: proxy.unprivileged,
            own_ports: proxy.own_ports.clone(),
            http_proxy_port: proxy.http_proxy_port,
            own_pod: headless::own_pod(client),
            filters: client.filters(),
        }
    }

    /// The listeners, sorted by name.
    pub(super) fn list(&self, client: &Client) -> ResourceList {
        let memo = client.snapshot.memo();
        Arc::clone(&memo.get_or_make(self.clone(), |key| build(client, key)))
    }
}

fn build(client: &Client, key: &OutboundKey) -> ResourceList {
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
        key.add(&mut entries, egress, client);
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

impl OutboundKey {
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
    fn add(&self, entries: &mut Entries, egress: &Egress, client: &Client) {
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
                let context = self.context(client, port);
                let forwarding = Forwarding::of(service, protocol, &egress.overrides, &context);
                let wish = Wish {
                    service,
                    port,
                    protocol,
                    bind: bind.clone(),
                    binds,
                    addresses: egress::listened(service, &self.cluster, self.family),
                    forwarding: &forwarding,
                };
                let mesh = &client.snapshot.mesh().config;
                if protocol == Protocol::Udp || !self.may_listen(&wish, mesh) {
                    continue;
                }
                match headless::pods(client, &wish) {
                    Some(pods) if egress.port.is_none() => self.add_pods(entries, &wish, pods),
                    _ => entries.add(&wish),
                }
            }
        }
    }

    fn context<'a>(&'a self, client: &'a Client, port: u16) -> Context<'a> {
        static MESH: [GatewayName; 1] = [GatewayName::Mesh];
        Context {
            snapshot: &client.snapshot,
            scope: &client.scope,
            source: Source {
                labels: &self.labels,
                namespace: &self.namespace,
                gateways: &MESH,
            },
            port,
            is_tls: false,
        }
    }

    /// Adds a listener for each pod but the own one, to which nothing goes out.
    fn add_pods(&self, entries: &mut Entries, wish: &Wish<'_>, pods: Vec<IpAddr>) {
        let others = pods.into_iter().filter(|pod| self.own_pod != Some(*pod));
        for pod in others {
            entries.add(&Wish {
                bind: Some(pod.to_string()),
                addresses: wish.addresses.clone(),
                ..*wish
            });
        }
    }

    /// Whether the listener can exist (istiod: `CanBindToPort`).
    fn may_listen(&self, wish: &Wish<'_>, mesh: &MeshConfig) -> bool {
        let http = Kind::of(wish.protocol) == Kind::Http;
        let privileged = (1..1024).contains(&wish.port);
        if wish.binds && privileged && self.unprivileged {
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
