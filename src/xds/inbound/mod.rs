//! What a sidecar takes for its workload: on which ports, for which services,
//! with how much mTLS, and where the application listens.
//!
//! Clusters and listeners are two views of it, so that they cannot disagree.

mod ingress;
mod services;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

pub(super) use services::{WorkloadClass, target_ports};

use super::client::Client;
use crate::mesh::{MemoKey, Snapshot};
use crate::model::{
    InterceptionMode, IpFamily, MtlsMode, Namespace, NodeKind, Protocol, Service, Sidecar,
};

/// The inbound side of a sidecar.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Ports that a service or the `Sidecar` declares, sorted.
    pub(super) ports: Vec<InboundPort>,
    /// What holds for the ports without one of these: for all of them (port 0),
    /// then for those that a `PeerAuthentication` names.
    pub(super) others: Vec<(u16, MtlsMode)>,
}

/// One port of the workload.
#[derive(Debug)]
pub(super) struct InboundPort {
    /// Where callers arrive.
    pub(super) number: u16,
    /// Address of a listener of its own; none where traffic is intercepted.
    pub(super) bind: Option<String>,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// Number of the service port.
    pub(super) called: u16,
    /// Who traces name: the host of the service, or the `Sidecar`.
    pub(super) owner: Arc<str>,
    /// Services with this service port, the oldest first: its rules hold.
    pub(super) services: Vec<Arc<Service>>,
    /// Where the application listens.
    pub(super) application: Application,
    /// How much mTLS is asked for.
    pub(super) mode: MtlsMode,
}

/// Where an application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Application {
    /// Where the caller meant to go.
    Dialled,
    /// At an address.
    At(IpAddr, u16),
    /// At a unix socket.
    Socket(String),
}

/// Sidecars with the same inbound side: all that it depends on beside the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InboundClass {
    workload: WorkloadClass,
    pub(super) interception: InterceptionMode,
    pub(super) family: IpFamily,
    /// Name and namespace of the `Sidecar` that says what is listened on.
    sidecar: Option<(Arc<str>, Arc<str>)>,
    /// Its addresses, where they count.
    addresses: Vec<IpAddr>,
}

impl MemoKey for InboundClass {
    type Value = Inbound;
}

impl InboundClass {
    /// The class of a sidecar; none where nothing leads in: applications that
    /// dial their Envoy also serve beside it, unless a `Sidecar` says where.
    pub(super) fn of(client: &Client) -> Option<Self> {
        let proxy = &client.proxy;
        let sidecar = with_ingress(client);
        let dialled = proxy.interception == InterceptionMode::None;
        if proxy.kind != NodeKind::Sidecar || (dialled && sidecar.is_none()) {
            return None;
        }
        let counts = sidecar.is_some_and(|s| ingress::uses_addresses(s, proxy.interception));
        Some(Self {
            workload: WorkloadClass::of(client),
            interception: proxy.interception,
            family: proxy.ips.family(),
            sidecar: sidecar.map(|s| {
                (
                    Arc::clone(&s.meta.name),
                    Arc::clone(s.meta.namespace.as_arc()),
                )
            }),
            addresses: proxy.ips.0.iter().copied().filter(|_| counts).collect(),
        })
    }

    /// What it consists of.
    pub(super) fn inbound(&self, client: &Client) -> Arc<Inbound> {
        let memo = client.snapshot.memo();
        let sidecar = with_ingress(client);
        memo.get_or_make(self.clone(), |class| {
            class.make(&client.snapshot, sidecar.map(|s| &**s))
        })
    }

    /// Whose rules hold for it.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.workload.namespace
    }

    fn make(&self, snapshot: &Snapshot, sidecar: Option<&Sidecar>) -> Inbound {
        let mut ports = match sidecar {
            Some(sidecar) => ingress::ports(snapshot, self, sidecar),
            None => self.service_ports(snapshot),
        };
        ports.sort_by_key(|port| port.number);
        let workload = &self.workload;
        let (namespace, labels) = (&*workload.namespace, &workload.labels);
        let policies = &snapshot.mesh().authentications;
        let mode = |number: u16| policies.mode(namespace, labels, number);
        for port in &mut ports {
            port.mode = mode(port.number);
        }
        let declared: BTreeSet<u16> = ports.iter().map(|port| port.number).collect();
        let named = policies.ports(namespace, labels);
        let others = std::iter::once(0).chain(named.difference(&declared).copied());
        let others = others.map(|number| (number, mode(number))).collect();
        Inbound { ports, others }
    }

    /// One port for each that a service leads to. istiod: of two services on one
    /// port the oldest decides.
    fn service_ports(&self, snapshot: &Snapshot) -> Vec<InboundPort> {
        let localhost = snapshot.mesh().config.inbound_localhost;
        let targets = services::targets(snapshot, &self.workload).into_iter();
        let port = |(number, targets): (u16, Vec<services::Target>)| {
            let first = targets.first()?;
            let called = first.port.number;
            let same = targets.iter().filter(|t| t.port.number == called);
            Some(InboundPort {
                number,
                bind: None,
                protocol: first.port.protocol,
                called,
                owner: Arc::clone(first.service.key.hostname.as_arc()),
                services: same.map(|t| Arc::clone(&t.service)).collect(),
                application: if localhost {
                    Application::At(self.localhost(), number)
                } else {
                    Application::Dialled
                },
                mode: MtlsMode::default(),
            })
        };
        targets.filter_map(port).collect()
    }

    /// The loopback address of its family.
    fn localhost(&self) -> IpAddr {
        match self.family {
            IpFamily::V6 => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            IpFamily::V4 | IpFamily::Any => IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
        }
    }

    /// The address that stands for all of its family.
    pub(super) fn wildcard(&self) -> &'static str {
        match self.family {
            IpFamily::V6 => "::",
            IpFamily::V4 | IpFamily::Any => "0.0.0.0",
        }
    }
}

/// The client's `Sidecar`, if it says what is listened on.
fn with_ingress(client: &Client) -> Option<&Arc<Sidecar>> {
    let sidecar = client.scope.sidecar();
    sidecar.filter(|sidecar| !sidecar.ingress.is_empty())
}
