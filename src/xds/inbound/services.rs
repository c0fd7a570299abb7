//! Which services lead to a workload, and to which of its ports.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::mesh::{MemoKey, Snapshot};
use crate::model::{
    ClusterId, Labels, Namespace, Provider, Registration, Service, ServicePort, TargetPort,
};
use crate::xds::client::Client;

/// Services that may lead to the workloads of one namespace.
#[derive(Debug, Default)]
struct Candidates {
    /// Oldest first: the order in which they win over each other.
    services: Vec<Arc<Service>>,
    /// The labels that selectors ask for. Pods that differ in others only (the
    /// hash of their template, their node) are alike.
    labels: BTreeSet<Arc<str>>,
}

/// [`Candidates`] by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ByNamespace;

impl MemoKey for ByNamespace {
    type Value = HashMap<Namespace, Candidates, FixedState>;
}

fn by_namespace(snapshot: &Snapshot) -> Arc<HashMap<Namespace, Candidates, FixedState>> {
    snapshot.memo().get_or_make(ByNamespace, |_| {
        let mut all: HashMap<Namespace, Candidates, FixedState> = HashMap::default();
        for state in snapshot.services() {
            let of = all.entry(state.service.key.namespace.clone()).or_default();
            of.services.push(Arc::clone(&state.service));
            let selectors = state.service.registrations.values().map(|r| &r.selector);
            let names = selectors.flat_map(|selector| selector.iter().map(|(name, _)| name));
            of.labels.extend(names.cloned());
        }
        for (namespace, of) in &mut all {
            of.services
                .sort_by(|a, b| (&a.meta, &a.key).cmp(&(&b.meta, &b.key)));
            let policies = &snapshot.mesh().authentications;
            let names = policies.selecting_labels(namespace);
            of.labels.extend(names.map(Arc::<str>::from));
        }
        all
    })
}

/// Workloads that the same services lead to, and the same policies hold for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::xds) struct WorkloadClass {
    /// Its cluster.
    pub(super) cluster: ClusterId,
    /// Its namespace.
    pub(super) namespace: Namespace,
    /// Those of its labels that some selector asks for.
    pub(super) labels: Labels,
    /// Its named ports.
    ports: Arc<[(Arc<str>, u16)]>,
    /// Whether a `WorkloadEntry` describes it, not a pod.
    by_entry: bool,
    /// Its address, where no selector leads to it.
    address: Option<IpAddr>,
}

impl WorkloadClass {
    /// The class of the workload beside a proxy.
    pub(in crate::xds) fn of(client: &Client) -> Self {
        let proxy = &client.proxy;
        let namespaces = by_namespace(&client.snapshot);
        let candidates = namespaces.get(&proxy.namespace);
        let asked = |name: &Arc<str>| {
            let policies = &client.snapshot.mesh().authentications;
            match candidates {
                Some(of) => of.labels.contains(name),
                // No service: few look here.
                None => policies
                    .selecting_labels(&proxy.namespace)
                    .any(|label| *label == **name),
            }
        };
        let labels = client.labels().iter().filter(|(name, _)| asked(name));
        let mut class = Self {
            cluster: proxy.cluster.clone(),
            namespace: proxy.namespace.clone(),
            labels: labels
                .map(|(name, value)| (Arc::clone(name), Arc::clone(value)))
                .collect(),
            ports: client.named_ports(),
            by_entry: client.is_by_entry(),
            address: None,
        };
        let mut services = candidates.into_iter().flat_map(|of| &of.services);
        if !services.any(|service| class.registration(service).is_some()) {
            class.address = proxy.ips.0.first().copied();
        }
        class
    }

    /// What the workload's own cluster says of a service that selects it; a
    /// `ServiceEntry` is read from the config cluster and selects everywhere.
    fn registration<'a>(&self, service: &'a Service) -> Option<&'a Registration> {
        let here = match service.provider {
            Provider::Kubernetes => service.registrations.get(&self.cluster),
            Provider::External => service.registrations.values().next(),
        };
        // istiod: a headless Service takes no WorkloadEntries.
        let takes = !(self.by_entry && service.is_headless());
        let here = here.filter(|_| takes);
        here.filter(|r| !r.selector.is_empty() && self.labels.contains_all(&r.selector))
    }

    /// The service's ports, each behind the port of the workload it leads to.
    fn ports<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = (u16, &'a ServicePort)> {
        let here = self.registration(service);
        service.tcp_ports().filter_map(move |port| {
            let mut targets = here?.target_ports.iter();
            let (_, target) = targets.find(|(number, _)| *number == port.number)?;
            let named = |name: &str| self.ports.iter().find(|(n, _)| **n == *name).map(|p| p.1);
            // Workloads say themselves where they serve, except pods to Services.
            let by_workload = self.by_entry || service.provider == Provider::External;
            let number = match target {
                TargetPort::Number(number) => {
                    let own = by_workload.then(|| named(&port.name)).flatten();
                    own.unwrap_or(*number)
                }
                TargetPort::Name(name) => named(name)?,
            };
            Some((number, port))
        })
    }
}

/// A service port that ends at a port of the workload.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) service: Arc<Service>,
    pub(super) port: ServicePort,
}

/// By port of the workload, the services that lead there, oldest first.
pub(super) fn targets(snapshot: &Snapshot, class: &WorkloadClass) -> BTreeMap<u16, Vec<Target>> {
    let namespaces = by_namespace(snapshot);
    let candidates = namespaces.get(&class.namespace);
    let candidates = candidates.map_or(&[][..], |of| &of.services);
    let select_pods = snapshot.mesh().features.service_entries_select_pods;
    let mut found: BTreeMap<u16, Vec<Target>> = BTreeMap::new();
    for service in candidates {
        let is_entry = service.provider == Provider::External;
        if is_entry && !class.by_entry && !select_pods {
            continue;
        }
        let by_address = class.address.map(|ip| addressed(snapshot, service, ip));
        let by_address = by_address.unwrap_or_default().into_iter();
        let selected = class
            .ports(service)
            .map(|(number, port)| (number, port.clone()));
        for (number, port) in selected.chain(by_address) {
            let service = Arc::clone(service);
            found
                .entry(number)
                .or_default()
                .push(Target { service, port });
        }
    }
    found
}

/// The ports of a Service without selector that lists `ip` itself (istiod:
/// `endpointSliceController.GetProxyServiceTargets`).
fn addressed(snapshot: &Snapshot, service: &Service, ip: IpAddr) -> Vec<(u16, ServicePort)> {
    let has_selector = |r: &Registration| !r.selector.is_empty();
    if service.provider != Provider::Kubernetes || service.registrations.values().any(has_selector)
    {
        return Vec::new();
    }
    let states = snapshot.host(&service.key.hostname);
    let state = states.iter().find(|state| state.service.key == service.key);
    let endpoints = state.into_iter().flat_map(|state| state.all_endpoints());
    let own = endpoints.filter(|(_, endpoint)| endpoint.address.ips().first() == Some(&ip));
    let port = |name: &str| service.tcp_ports().find(|port| *port.name == *name);
    own.filter_map(|(_, endpoint)| Some((endpoint.port, port(&endpoint.port_name)?.clone())))
        .collect()
}

/// Pairs of a service port that leads to the workload, and its port behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TargetPorts(WorkloadClass);

impl MemoKey for TargetPorts {
    type Value = Arc<[(u16, u16)]>;
}

/// Service ports that lead to the proxy, and its port behind each. Services may
/// keep out (istiod: `DisableGatewayPortTranslationLabel`).
pub(in crate::xds) fn target_ports(client: &Client) -> Arc<[(u16, u16)]> {
    const OPT_OUT: &str = "experimental.istio.io/disable-gateway-port-translation";
    let find = |key: &TargetPorts| {
        let namespaces = by_namespace(&client.snapshot);
        let candidates = namespaces.get(&key.0.namespace);
        let candidates = candidates.into_iter().flat_map(|of| &of.services);
        let taken = candidates.filter(|service| service.labels.get(OPT_OUT).is_none());
        let ports = taken.flat_map(|service| key.0.ports(service));
        ports.map(|(target, port)| (port.number, target)).collect()
    };
    let key = TargetPorts(WorkloadClass::of(client));
    Arc::clone(&client.snapshot.memo().get_or_make(key, find))
}
