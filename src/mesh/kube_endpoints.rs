//! Endpoints of one service in one cluster: slices × ports × pods
//! (split-horizon §2).

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    PeerAuthentications,
    kube_state::{KeptEndpoint, KeptPod, KeptSlice, NamespaceState},
    workloads::WorkloadSources,
};
use crate::model::{
    Address, Discoverability, Endpoint, EndpointSlice, Health, NetworkId, PersistentSession,
    SliceAddressType, Workload,
};

/// What the endpoints of one service in one cluster are made from.
#[derive(Debug)]
pub(super) struct SliceJoin<'a> {
    pub(super) namespace: &'a NamespaceState,
    pub(super) sources: WorkloadSources<'a>,
    /// Sessions that the cluster's own Service asks for; none where it has no
    /// such Service: then an endpoint is only ready or not.
    pub(super) session: Option<PersistentSession>,
    pub(super) discoverability: Discoverability,
    /// Both the mesh and the cluster's own Service are dual-stack.
    pub(super) dual_stack: bool,
    pub(super) authentications: &'a PeerAuthentications,
}

/// The endpoints so far: one address and port name counts once.
struct Joined {
    endpoints: Vec<Endpoint>,
    at: HashMap<(IpAddr, Arc<str>), usize, FixedState>,
    bare: BTreeMap<Option<NetworkId>, Arc<Workload>>,
}

impl SliceJoin<'_> {
    /// The endpoints that the slices of `service` report.
    pub(super) fn endpoints(&self, service: &str) -> Vec<Endpoint> {
        let names = self.namespace.slices_of.get(service).into_iter().flatten();
        let slices = names.filter_map(|name| self.namespace.slices.get(name));
        let count = |slice: &KeptSlice| slice.endpoints.len() * slice.ports.len();
        let mut joined = Joined::with_room(slices.clone().map(count).sum());
        for slice in slices {
            self.join(slice, &mut joined);
        }
        joined.endpoints
    }

    fn join(&self, slice: &KeptSlice, joined: &mut Joined) {
        for endpoint in &slice.endpoints {
            let health = self.health(endpoint);
            let Some(workload) = self.workload(endpoint, joined) else {
                continue;
            };
            let Some(address) = self.address(endpoint) else {
                continue;
            };
            for port in &slice.ports {
                joined.add(Endpoint {
                    address: address.clone(),
                    port: port.port,
                    health,
                    discoverability: self.discoverability,
                    mtls_disabled: self.mtls_disabled(&workload, port.port),
                    weight: 1,
                    port_name: Arc::clone(&port.name),
                    workload: Arc::clone(&workload),
                });
            }
        }
    }

    /// A pod that has addresses of both families is in a slice of each. With
    /// dual stack the first slice stands for it, with all its addresses.
    fn address(&self, endpoint: &KeptEndpoint) -> Option<Address> {
        let one = Address::Ip(endpoint.address);
        let Some(name) = endpoint.pod.as_ref().filter(|_| self.dual_stack) else {
            return Some(one);
        };
        let pod = self.namespace.pods.get(name)?.known()?;
        match &*pod.facts.ips {
            [] | [_] => Some(one),
            _ if endpoint.address.is_ipv6() => None,
            all => Some(Address::Ips(all.into())),
        }
    }

    fn mtls_disabled(&self, workload: &Workload, port: u16) -> bool {
        let namespace = &workload.template.namespace;
        let labels = &workload.labels;
        self.authentications.mtls_disabled(namespace, labels, port)
    }

    /// istiod: `endpointHealthStatus`. An absent `serving` or `terminating`
    /// counts as true, an absent `ready` too.
    fn health(&self, endpoint: &KeptEndpoint) -> Health {
        if endpoint.ready != Some(false) {
            return Health::Healthy;
        }
        let terminating = endpoint.terminating != Some(false);
        let serving = endpoint.serving != Some(false);
        match self.session {
            Some(PersistentSession::Cookie | PersistentSession::Header)
                if serving && terminating =>
            {
                Health::Draining
            }
            Some(_) if terminating => Health::Terminating,
            Some(_) | None => Health::Unhealthy,
        }
    }

    /// The workload at an address; none while the pod it names is unknown.
    fn workload(&self, endpoint: &KeptEndpoint, joined: &mut Joined) -> Option<Arc<Workload>> {
        let ip = endpoint.address;
        let of = |pod: &KeptPod| pod.workload.clone();
        if let Some(name) = &endpoint.pod {
            return self.namespace.pods.get(name)?.known().and_then(of);
        }
        if let Some(workload) = self.namespace.pod_at(ip).and_then(of) {
            return Some(workload);
        }
        let network = self.sources.bare_network(ip);
        let bare = joined.bare.entry(network.clone());
        let bare = bare.or_insert_with(|| Arc::new(self.sources.bare(network)));
        Some(Arc::clone(bare))
    }
}

impl Joined {
    fn with_room(count: usize) -> Self {
        Self {
            endpoints: Vec::with_capacity(count),
            at: HashMap::with_capacity_and_hasher(count, FixedState::default()),
            bare: BTreeMap::new(),
        }
    }

    /// Slices may both hold an address for a while (it moves from one to the
    /// other): the better state counts. istiod lets a random one win.
    fn add(&mut self, endpoint: Endpoint) {
        let Some(ip) = endpoint.address.ips().first().copied() else {
            return;
        };
        match self.at.entry((ip, Arc::clone(&endpoint.port_name))) {
            Entry::Vacant(free) => {
                free.insert(self.endpoints.len());
                self.endpoints.push(endpoint);
            }
            Entry::Occupied(taken) => {
                if let Some(known) = self.endpoints.get_mut(*taken.get())
                    && rank(endpoint.health) < rank(known.health)
                {
                    *known = endpoint;
                }
            }
        }
    }
}

fn rank(health: Health) -> u8 {
    match health {
        Health::Healthy | Health::Unknown => 0,
        Health::Draining => 1,
        Health::Unhealthy => 2,
        Health::Terminating => 3,
    }
}

/// Whether a slice is one that the mesh reads.
pub(super) fn counts(slice: &EndpointSlice) -> bool {
    !slice.mcs && slice.address_type != SliceAddressType::Fqdn && !slice.service.is_empty()
}
