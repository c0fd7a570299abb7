//! The name table: host names → addresses that the proxy can call them at.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::mesh::{MemoKey, ServiceState};
use crate::model::{ClusterId, Endpoint, IpFamily, NetworkId, Provider, Resolution, Service};
use crate::proto::nds::{NameTable, name_table::NameInfo};
use crate::xds::client::Client;
use crate::xds::egress;
use crate::xds::resources::ResourceList;

/// Names under which Multi-Cluster Services are reached.
const CLUSTER_SET: &str = ".clusterset.local";
/// istiod's names of its registries.
const KUBERNETES: &str = "Kubernetes";
const EXTERNAL: &str = "External";

/// What a table depends on, beside the configuration and the endpoints of
/// headless services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NameTableClass {
    scope: Arc<str>,
    cluster: ClusterId,
    network: Option<NetworkId>,
    family: IpFamily,
}

impl MemoKey for NameTableClass {
    type Value = ResourceList;
}

impl NameTableClass {
    pub(super) fn of(client: &Client) -> Self {
        Self {
            scope: Arc::clone(client.scope.key()),
            cluster: client.proxy.cluster.clone(),
            network: client.proxy.network.clone(),
            family: client.proxy.ips.family(),
        }
    }

    /// Whether the proxy reaches an endpoint without a gateway (istiod:
    /// `Proxy.InNetwork`).
    fn reaches(&self, endpoint: &Endpoint) -> bool {
        match (&self.network, &endpoint.workload.template.network) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }
}

/// istiod: `BuildNameTable`.
pub(super) fn build(client: &Client, class: &NameTableClass) -> NameTable {
    let dual_stack = client.snapshot.mesh().features.dual_stack;
    let mut names = Names::default();
    let mut seen = BTreeSet::new();
    for listener in client.scope.egress() {
        for state in listener.services(&client.snapshot) {
            if seen.insert(state.service.key.clone()) {
                names.add(&state, class, dual_stack);
            }
        }
    }
    NameTable { table: names.0 }
}

#[derive(Default)]
struct Names(BTreeMap<String, NameInfo>);

impl Names {
    fn add(&mut self, state: &ServiceState, class: &NameTableClass, dual_stack: bool) {
        let service = &*state.service;
        let dialled = egress::addresses(service, &class.cluster, class.family, dual_stack);
        // A range is matched and never dialled.
        let single = dialled
            .iter()
            .filter(|net| net.prefix_len() == net.max_prefix_len());
        let mut ips: Vec<IpAddr> = single.map(ipnet::IpNet::addr).collect();
        if dialled.is_empty() && has_own_names(service, &class.cluster) {
            self.add_pods(state, class);
            ips = reachable(state, class)
                .flat_map(|e| e.address.ips().iter().copied())
                .collect();
        }
        if ips.is_empty() {
            return;
        }
        let new = info(service, &ips);
        let host = service.key.hostname.to_string();
        match self.0.get_mut(&host) {
            None => drop(self.0.insert(host, new)),
            Some(known) if known.registry == KUBERNETES => {}
            // A Kubernetes service wins over entries that decorate it.
            Some(known) if new.registry == KUBERNETES => *known = new,
            Some(known) => known.ips.extend(new.ips),
        }
    }

    /// `mysql-0.mysql.db.svc.cluster.local`: pods that have a name below a
    /// headless service. Where several clusters have a pod of one name, the
    /// proxy's own is meant.
    fn add_pods(&mut self, state: &ServiceState, class: &NameTableClass) {
        let service = &*state.service;
        let Some((_, domain)) = service.key.hostname.split_once('.') else {
            return;
        };
        let mut pods: BTreeMap<&Arc<str>, [Vec<IpAddr>; 2]> = BTreeMap::new();
        for endpoint in reachable(state, class) {
            let workload = &endpoint.workload;
            if !workload.dns_name.is_empty() {
                let [own, other] = pods.entry(&workload.dns_name).or_default();
                let of = if workload.template.cluster == class.cluster {
                    own
                } else {
                    other
                };
                of.extend(endpoint.address.ips());
            }
        }
        for (name, [own, other]) in pods {
            let ips = if own.is_empty() { &other } else { &own };
            let pod = NameInfo {
                ips: ips.iter().map(IpAddr::to_string).collect(),
                registry: registry(service).to_owned(),
                shortname: name.to_string(),
                namespace: service.key.namespace.to_string(),
            };
            self.0.insert(format!("{name}.{domain}"), pod);
        }
    }
}

/// Whether the endpoints of a service are its addresses, as in cluster DNS.
fn has_own_names(service: &Service, cluster: &ClusterId) -> bool {
    let vips = service.vips(cluster);
    let placeholder = vips.iter().all(|net| net.addr().is_unspecified());
    service.resolution == Resolution::Passthrough && placeholder && !service.ports.is_empty()
}

/// Endpoints of all clusters on the proxy's own network, each address once: no
/// gateway stands between a proxy and an address it dials itself.
fn reachable<'a>(
    state: &'a ServiceState,
    class: &NameTableClass,
) -> impl Iterator<Item = &'a Endpoint> {
    let mut seen = BTreeSet::new();
    state
        .all_endpoints()
        .map(|(_, endpoint)| endpoint)
        .filter(|endpoint| endpoint.health.is_ready() && class.reaches(endpoint))
        .filter(move |endpoint| {
            let first = endpoint.address.ips().first();
            first.is_some_and(|ip| seen.insert(*ip))
        })
}

fn info(service: &Service, ips: &[IpAddr]) -> NameInfo {
    let mut info = NameInfo {
        ips: ips.iter().map(IpAddr::to_string).collect(),
        registry: registry(service).to_owned(),
        ..NameInfo::default()
    };
    // The agent makes the short forms of a Kubernetes name itself. Those of a
    // cluster-set name would be the same as the service's own.
    let kubernetes = service.provider == Provider::Kubernetes;
    if kubernetes && !service.key.hostname.ends_with(CLUSTER_SET) {
        info.shortname = service.meta.name.to_string();
        info.namespace = service.key.namespace.to_string();
    }
    info
}

fn registry(service: &Service) -> &'static str {
    match service.provider {
        Provider::Kubernetes => KUBERNETES,
        Provider::External => EXTERNAL,
    }
}
