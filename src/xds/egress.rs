//! What a proxy may call, by egress listener.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::client::Client;
use crate::mesh::{EgressScope, MemoKey};
use crate::model::{
    CaptureMode, ClusterId, Hostname, IpFamily, Protocol, Provider, Resolution, Service,
    VirtualService,
};

/// One egress listener and the services it imports.
#[derive(Debug)]
pub(super) struct Egress {
    /// Its own port; none for all ports of its services.
    pub(super) port: Option<(u16, Protocol)>,
    /// Whether it takes requests for any port, as an explicit proxy.
    pub(super) http_proxy: bool,
    /// Its own address; empty for the usual one.
    pub(super) bind: Arc<str>,
    /// How it gets its traffic.
    pub(super) capture: CaptureMode,
    /// Services, oldest first: the order in which they win over each other.
    pub(super) services: Vec<Arc<Service>>,
    /// What users say of them.
    pub(super) overrides: Overrides,
}

/// The `VirtualService`s of one egress listener, and which services they are
/// for.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// In the order in which they win over each other.
    pub(super) all: Vec<Arc<VirtualService>>,
    /// Indexes into `all` of those that may have a service's routes, by host.
    by_service: HashMap<Hostname, Vec<usize>, FixedState>,
    /// Indexes into `all` of those with routes for connections.
    of_connections: Vec<usize>,
}

impl Overrides {
    fn new(all: Vec<Arc<VirtualService>>, services: &[Arc<Service>]) -> Self {
        let mut exact: HashMap<&str, Vec<usize>, FixedState> = HashMap::default();
        let mut wildcard: HashMap<&str, usize, FixedState> = HashMap::default();
        for (at, service) in all.iter().enumerate() {
            for host in &service.hosts {
                match host.strip_prefix('*') {
                    Some(suffix) => drop(wildcard.entry(suffix).or_insert(at)),
                    None => exact.entry(host).or_default().push(at),
                }
            }
        }
        let mut by_service = HashMap::default();
        for service in services {
            let host = &service.key.hostname;
            let named = exact.get(&**host).cloned();
            // istiod: of wildcards only the most specific one counts, and none
            // beside the name itself.
            let found = named.or_else(|| longest(&wildcard, host).map(|at| vec![at]));
            if let Some(found) = found {
                by_service.insert(host.clone(), found);
            }
        }
        let of_connections = all.iter().enumerate();
        let of_connections = of_connections
            .filter(|(_, service)| !service.tls.is_empty() || !service.tcp.is_empty())
            .map(|(at, _)| at);
        Self {
            of_connections: of_connections.collect(),
            all,
            by_service,
        }
    }

    /// Those that may have the routes of a service, as indexes.
    pub(super) fn of(&self, host: &Hostname) -> &[usize] {
        self.by_service.get(host).map_or(&[], Vec::as_slice)
    }

    /// Those that may route connections to a service, in order: all that name
    /// it, wildcards too.
    pub(super) fn of_connections<'a>(
        &'a self,
        host: &'a Hostname,
    ) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        let all = self
            .of_connections
            .iter()
            .filter_map(|at| self.all.get(*at));
        all.filter(move |service| service.hosts.iter().any(|name| overlap(name, host)))
    }
}

/// Whether two host patterns may mean one host (istiod: `Name.Matches`).
fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(a), None) => b.ends_with(a),
        (None, Some(b)) => a.ends_with(b),
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
    }
}

/// The value of the longest suffix of `host`.
fn longest(wildcard: &HashMap<&str, usize, FixedState>, host: &str) -> Option<usize> {
    if wildcard.is_empty() {
        return None;
    }
    let host = host.strip_prefix('*').unwrap_or(host);
    let starts = host.char_indices().map(|(at, _)| at).chain([host.len()]);
    let mut suffixes = starts.filter_map(|at| host.get(at..));
    suffixes.find_map(|suffix| wildcard.get(suffix).copied())
}

/// Names the egress listeners of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EgressKey(Arc<str>);

impl MemoKey for EgressKey {
    type Value = Vec<Egress>;
}

/// The egress listeners of a proxy, in order: those with a port, then at most
/// one for all other ports.
pub(super) fn listeners(client: &Client) -> Arc<Vec<Egress>> {
    let key = EgressKey(Arc::clone(client.scope.key()));
    client.snapshot.memo().get_or_make(key, |_| make(client))
}

fn make(client: &Client) -> Vec<Egress> {
    let egress = |scope: &EgressScope| {
        let services = scope.services(&client.snapshot);
        let services = services.iter().map(|s| Arc::clone(&s.service));
        let mut services: Vec<_> = services.filter(|s| has_clusters(s)).collect();
        services.sort_by(|a, b| (&a.meta, &a.key).cmp(&(&b.meta, &b.key)));
        let listener = scope.listener();
        let port = listener.port.as_ref();
        let overrides = Overrides::new(scope.virtual_services(&client.snapshot), &services);
        Egress {
            port: port.map(|(number, protocol, _)| (*number, *protocol)),
            http_proxy: listener.http_proxy,
            bind: Arc::clone(&listener.bind),
            capture: listener.capture_mode,
            services,
            overrides,
        }
    };
    client.scope.egress().iter().map(egress).collect()
}

/// Services that are reached in another way have neither listeners nor routes.
fn has_clusters(service: &Service) -> bool {
    !matches!(
        service.resolution,
        Resolution::Alias | Resolution::DynamicDns
    )
}

/// The addresses a proxy of `cluster` dials a service at: those of its family,
/// without the placeholder of services that have none. A proxy of both families
/// uses that of the first address, and all with dual stack. An address of a
/// `ServiceEntry` is only matched, never dialled: any family will do.
pub(super) fn addresses(
    service: &Service,
    cluster: &ClusterId,
    family: IpFamily,
    dual_stack: bool,
) -> Vec<IpNet> {
    let mut all = service.vips(cluster);
    all.retain(|net| !net.addr().is_unspecified());
    let all_families = dual_stack && family == IpFamily::Any;
    if service.provider == Provider::External || all_families {
        return all;
    }
    let first_is_v4 = all.first().is_some_and(|net| net.addr().is_ipv4());
    let v4 = match family {
        IpFamily::V4 => true,
        IpFamily::V6 => false,
        IpFamily::Any => first_is_v4,
    };
    all.retain(|net| net.addr().is_ipv4() == v4);
    all
}

/// The addresses a service is listened for at: without one of the proxy's
/// family its default one (istiod: `GetAddressForProxy`). At the wildcard
/// address it would take what is meant for others.
pub(super) fn listened(service: &Service, cluster: &ClusterId, family: IpFamily) -> Vec<IpNet> {
    let dialled = addresses(service, cluster, family, false);
    if !dialled.is_empty() {
        return dialled;
    }
    let mut default = service.addresses.clone();
    default.retain(|net| !net.addr().is_unspecified());
    default
}
