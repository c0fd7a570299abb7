//! What one Kubernetes cluster reports, in the compact form the index keeps.
//!
//! Objects are nested by namespace, as Kubernetes joins them: a selector, a
//! slice's pod and a discovery selector never cross a namespace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{
    intern::{Interner, Ports},
    networks::NetworkRules,
    workloads::node_locality,
};
use crate::model::{
    EndpointSlice, KubeGateway, KubeNamespace, KubeNode, KubeService, Labels, Locality, Namespace,
    Pod, ServiceImport, SlicePort, Workload, WorkloadEntry,
};

/// A map with a fixed hasher; never iterated into output.
pub(super) type Map<K, V> = HashMap<K, V, FixedState>;

/// One cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    pub(super) namespaces: Map<Namespace, NamespaceState>,
    pub(super) nodes: Map<Arc<str>, NodeFacts>,
    /// Trust domain of the cluster's own mesh settings.
    pub(super) trust_domain: Option<Arc<str>>,
    pub(super) networks: NetworkRules,
    /// Services that carry the network label.
    pub(super) gateway_services: BTreeSet<(Namespace, Arc<str>)>,
    /// Endpoints that wait for their pod.
    pub(super) pending_pods: usize,
}

/// One namespace of one cluster.
#[derive(Debug, Default)]
pub(super) struct NamespaceState {
    /// The Namespace itself, once it is known.
    pub(super) object: Option<KubeNamespace>,
    /// Whether a discovery selector selects it.
    pub(super) selected: bool,
    pub(super) services: Map<Arc<str>, Arc<KubeService>>,
    pub(super) slices: Map<Arc<str>, KeptSlice>,
    /// Names of the slices of each service, sorted.
    pub(super) slices_of: Map<Arc<str>, SmallVec<[Arc<str>; 1]>>,
    pub(super) pods: Map<Arc<str>, PodSlot>,
    pub(super) addresses: Addresses,
    pub(super) workload_entries: BTreeMap<Arc<str>, KeptEntry>,
    pub(super) gateways: BTreeMap<Arc<str>, KubeGateway>,
    pub(super) exports: BTreeSet<Arc<str>>,
    pub(super) imports: BTreeMap<Arc<str>, ServiceImport>,
}

/// A pod, or the place of one that slices name and that is not known yet.
#[derive(Debug, Default)]
pub(super) struct PodSlot {
    pub(super) pod: Option<Box<KeptPod>>,
    /// Slices that name it.
    pub(super) slices: SmallVec<[Arc<str>; 1]>,
}

/// A pod and the workload derived from it.
#[derive(Debug)]
pub(super) struct KeptPod {
    pub(super) facts: PodFacts,
    pub(super) workload: Option<Arc<Workload>>,
}

/// What is kept of a Pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) template: Arc<PodTemplate>,
    pub(super) ips: SmallVec<[IpAddr; 1]>,
    pub(super) node: Arc<str>,
    pub(super) dns_name: Arc<str>,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    pub(super) finished: bool,
}

/// What pods of one owner have in common, and share.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PodTemplate {
    pub(super) labels: Labels,
    pub(super) service_account: Arc<str>,
    pub(super) workload_name: Arc<str>,
    pub(super) ports: Ports,
}

/// What is kept of an `EndpointSlice`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeptSlice {
    pub(super) service: Arc<str>,
    pub(super) ports: Box<[SlicePort]>,
    /// One per address.
    pub(super) endpoints: Box<[KeptEndpoint]>,
}

impl KeptSlice {
    /// Whether an endpoint that is ready here is not so in `new`.
    pub(super) fn loses(&self, new: Option<&Self>) -> bool {
        let new = new.map_or(&[][..], |new| &*new.endpoints);
        let ready = |e: &KeptEndpoint, address| e.address == address && e.is_ready();
        let mut old = self.endpoints.iter().enumerate();
        old.any(|(at, old)| {
            if !old.is_ready() {
                return false;
            }
            // Mostly at the same place.
            let stays = new.get(at).is_some_and(|e| ready(e, old.address));
            !stays && !new.iter().any(|e| ready(e, old.address))
        })
    }
}

/// One address of a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeptEndpoint {
    pub(super) address: IpAddr,
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
    /// The pod it names.
    pub(super) pod: Option<Arc<str>>,
}

impl KeptEndpoint {
    fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }
}

/// What is kept of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) labels: Labels,
    pub(super) external_ip: Option<IpAddr>,
    pub(super) locality: Locality,
}

/// A `WorkloadEntry` and the workload derived from it.
#[derive(Debug)]
pub(super) struct KeptEntry {
    pub(super) entry: Arc<WorkloadEntry>,
    pub(super) workload: Option<Arc<Workload>>,
}

/// Pods by address, kept only once an address without a pod's name asked for
/// it: almost every slice names its pods.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Slices with an address that names no pod.
    pub(super) bare: Map<IpAddr, SmallVec<[Arc<str>; 1]>>,
    pods: Option<Map<IpAddr, SmallVec<[Arc<str>; 1]>>>,
}

impl PodFacts {
    pub(super) fn new(pod: &Pod, interner: &mut Interner) -> Self {
        Self {
            template: interner.template(pod),
            ips: pod.ips.iter().copied().collect(),
            node: interner.text(&pod.node),
            dns_name: interner.text(&pod.dns_name),
            ready: pod.ready,
            terminating: pod.terminating,
            finished: pod.finished,
        }
    }

    /// Whether a `ServiceEntry` or an address without a pod's name may take it
    /// (istiod: `shouldPodBeInEndpoints` and ready).
    pub(super) fn serves(&self) -> bool {
        self.ready && !self.terminating && !self.finished && !self.ips.is_empty()
    }
}

impl From<EndpointSlice> for KeptSlice {
    fn from(slice: EndpointSlice) -> Self {
        let endpoints = slice.endpoints.iter().flat_map(|endpoint| {
            let addresses = endpoint.addresses.iter();
            addresses.map(|address| KeptEndpoint {
                address: *address,
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
                pod: endpoint.pod.clone(),
            })
        });
        Self {
            service: slice.service,
            endpoints: endpoints.collect(),
            ports: slice.ports.into(),
        }
    }
}

impl NodeFacts {
    pub(super) fn new(node: &KubeNode, interner: &mut Interner) -> Self {
        Self {
            labels: interner.labels(&node.labels),
            external_ip: node.external_ip,
            locality: node_locality(&node.labels),
        }
    }
}

impl PodSlot {
    /// The pod, unless it has ended: then its address is free again.
    pub(super) fn known(&self) -> Option<&KeptPod> {
        self.pod.as_deref().filter(|pod| !pod.facts.finished)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pod.is_none() && self.slices.is_empty()
    }

    pub(super) fn is_pending(&self) -> bool {
        self.known().is_none() && !self.slices.is_empty()
    }
}

impl ClusterState {
    /// A namespace, if it is known and selected.
    pub(super) fn namespace(&self, name: &str) -> Option<&NamespaceState> {
        self.namespaces.get(name).filter(|n| n.selected)
    }
}

impl NamespaceState {
    /// The pod that serves at `ip`: the first by name where several do (host
    /// network), so that the answer does not depend on the order of events.
    pub(super) fn pod_at(&self, ip: IpAddr) -> Option<&KeptPod> {
        let names: Vec<&Arc<str>> = match &self.addresses.pods {
            Some(by_ip) => by_ip.get(&ip)?.iter().collect(),
            None => self.pods.keys().collect(),
        };
        let serving = names.into_iter().filter_map(|name| {
            let pod = self.pods.get(name)?.known()?;
            (pod.facts.serves() && pod.facts.ips.contains(&ip)).then_some((name, pod))
        });
        serving.min_by_key(|(name, _)| *name).map(|(_, pod)| pod)
    }

    /// The service a slice belongs to, if the slice is one that counts.
    pub(super) fn service_of(&self, slice: &str) -> Option<&Arc<str>> {
        self.slices.get(slice).map(|s| &s.service)
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.object.as_ref()?.labels.get(key)
    }
}

impl Addresses {
    /// Notes that `slice` has an address that names no pod.
    pub(super) fn add_bare(&mut self, ip: IpAddr, slice: &Arc<str>, pods: &Map<Arc<str>, PodSlot>) {
        add(self.bare.entry(ip).or_default(), slice);
        if self.pods.is_none() {
            let mut by_ip: Map<IpAddr, SmallVec<[Arc<str>; 1]>> = Map::default();
            for (name, slot) in pods {
                for ip in slot.pod.iter().flat_map(|pod| &pod.facts.ips) {
                    add(by_ip.entry(*ip).or_default(), name);
                }
            }
            self.pods = Some(by_ip);
        }
    }

    pub(super) fn remove_bare(&mut self, ip: IpAddr, slice: &str) {
        remove(&mut self.bare, &ip, slice);
        if self.bare.is_empty() {
            self.pods = None;
        }
    }

    /// Slices that an address of `pod` stands in without a name.
    pub(super) fn bare_slices(&self, pod: &PodFacts) -> impl Iterator<Item = &Arc<str>> {
        let lists = pod.ips.iter().filter_map(|ip| self.bare.get(ip));
        lists.flatten()
    }

    pub(super) fn add_pod(&mut self, name: &Arc<str>, pod: &PodFacts) {
        if let Some(pods) = &mut self.pods {
            for ip in &pod.ips {
                add(pods.entry(*ip).or_default(), name);
            }
        }
    }

    pub(super) fn remove_pod(&mut self, name: &str, pod: &PodFacts) {
        if let Some(pods) = &mut self.pods {
            for ip in &pod.ips {
                remove(pods, ip, name);
            }
        }
    }
}

/// Adds a name to a sorted list.
pub(super) fn add(names: &mut SmallVec<[Arc<str>; 1]>, name: &Arc<str>) {
    if let Err(at) = names.binary_search(name) {
        names.insert(at, Arc::clone(name));
    }
}

/// Removes a name from a sorted list, and the list once it is empty.
pub(super) fn remove<K: std::hash::Hash + Eq>(
    lists: &mut Map<K, SmallVec<[Arc<str>; 1]>>,
    key: &K,
    name: &str,
) {
    if let Some(names) = lists.get_mut(key) {
        names.retain(|known| **known != *name);
        if names.is_empty() {
            lists.remove(key);
        }
    }
}
