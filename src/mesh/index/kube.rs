//! Kubernetes objects held, and what each change of one touches.

use std::{collections::hash_map::Entry, hash::Hash, mem, sync::Arc};

use super::{Index, dirty::Need};
use crate::mesh::{
    PodKey, gateways,
    kube_state::{ClusterState, Map, NamespaceState, NodeFacts},
};
use crate::model::{
    ClusterId, KubeGateway, KubeNamespace, KubeNode, KubeService, Namespace, ObjectKey, ObjectKind,
    ServiceImport, ServiceKey,
};

/// Where an object is.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) cluster: ClusterId,
    pub(super) namespace: Namespace,
    pub(super) name: Arc<str>,
}

/// Outcome of holding an object: nothing new, or what was held before.
enum Put<T> {
    Same,
    Was(Option<T>),
}

/// Sets or, with `None`, removes `key`.
fn put<K: Hash + Eq, T: PartialEq>(held: &mut Map<K, T>, key: K, new: Option<T>) -> Put<T> {
    match (held.entry(key), new) {
        (Entry::Vacant(_), None) => Put::Same,
        (Entry::Vacant(free), Some(new)) => {
            free.insert(new);
            Put::Was(None)
        }
        (Entry::Occupied(old), None) => Put::Was(Some(old.remove())),
        (Entry::Occupied(old), Some(new)) if *old.get() == new => Put::Same,
        (Entry::Occupied(mut old), Some(new)) => Put::Was(Some(old.insert(new))),
    }
}

impl ClusterState {
    /// Keys of all objects of a kind.
    pub(super) fn keys(&self, kind: ObjectKind) -> Vec<ObjectKey> {
        let key = |namespace: &Namespace, name: &Arc<str>| ObjectKey {
            kind,
            namespace: namespace.clone(),
            name: Arc::clone(name),
        };
        if kind == ObjectKind::Node {
            let none = Namespace::default();
            return self.nodes.keys().map(|name| key(&none, name)).collect();
        }
        let mut keys = Vec::new();
        for (namespace, held) in &self.namespaces {
            if kind == ObjectKind::Namespace && held.object.is_some() {
                keys.push(key(&Namespace::default(), namespace.as_arc()));
            }
            keys.extend(held.names(kind).iter().map(|name| key(namespace, name)));
        }
        keys
    }
}

impl NamespaceState {
    fn names(&self, kind: ObjectKind) -> Vec<Arc<str>> {
        match kind {
            ObjectKind::Service => self.services.keys().cloned().collect(),
            ObjectKind::EndpointSlice => self.slices.keys().cloned().collect(),
            ObjectKind::Pod => {
                let known = self.pods.iter().filter(|(_, slot)| slot.pod.is_some());
                known.map(|(name, _)| Arc::clone(name)).collect()
            }
            ObjectKind::KubeGateway => self.gateways.keys().cloned().collect(),
            ObjectKind::WorkloadEntry => self.workload_entries.keys().cloned().collect(),
            ObjectKind::ServiceExport => self.exports.iter().cloned().collect(),
            ObjectKind::ServiceImport => self.imports.keys().cloned().collect(),
            ObjectKind::Namespace
            | ObjectKind::Node
            | ObjectKind::ServiceEntry
            | ObjectKind::DestinationRule
            | ObjectKind::PeerAuthentication
            | ObjectKind::Sidecar
            | ObjectKind::Gateway
            | ObjectKind::VirtualService => Vec::new(),
        }
    }
}

impl Index {
    /// The namespace that an object is or was in.
    pub(super) fn place(&mut self, at: &At) -> &mut NamespaceState {
        let unlabelled = NamespaceState::default();
        let selected = self.is_selected(&unlabelled);
        let cluster = self.clusters.entry(at.cluster.clone()).or_default();
        let held = cluster.namespaces.entry(at.namespace.clone());
        held.or_insert(NamespaceState {
            selected,
            ..unlabelled
        })
    }

    pub(super) fn set_namespace(&mut self, at: &At, new: Option<KubeNamespace>) {
        // A Namespace is not in a namespace: it is one.
        let at = At {
            cluster: at.cluster.clone(),
            namespace: Namespace::shared(Arc::clone(&at.name)),
            name: Arc::clone(&at.name),
        };
        let held = self.place(&at);
        if held.object == new {
            return;
        }
        let old = mem::replace(&mut held.object, new);
        let annotations = |n: &Option<KubeNamespace>| n.as_ref().map(|n| n.annotations.clone());
        let reannotated = annotations(&old) != annotations(&held.object);
        if reannotated {
            self.touch_services(&at.cluster, &at.namespace);
        }
        self.select_namespace(&at.cluster, &at.namespace);
        if at.namespace == self.features.system_namespace {
            self.refresh_networks(&at.cluster);
        }
    }

    /// Looks again at what the discovery selectors select.
    pub(super) fn select_namespaces(&mut self) {
        let all = self.clusters.iter().flat_map(|(id, cluster)| {
            let names = cluster.namespaces.keys();
            names.map(|name| (id.clone(), name.clone()))
        });
        for (cluster, namespace) in all.collect::<Vec<_>>() {
            self.select_namespace(&cluster, &namespace);
        }
    }

    fn select_namespace(&mut self, cluster: &ClusterId, namespace: &Namespace) {
        let held = self.clusters.get(cluster);
        let Some(held) = held.and_then(|c| c.namespaces.get(namespace)) else {
            return;
        };
        let selected = self.is_selected(held);
        if selected == held.selected {
            return;
        }
        for name in held.pods.keys() {
            self.dirty.pods.insert(pod_key(cluster, namespace, name));
        }
        for name in held.workload_entries.keys() {
            self.dirty.pods.insert(pod_key(cluster, namespace, name));
        }
        self.dirty.gateways = true;
        self.dirty.mesh = true;
        self.touch_services(cluster, namespace);
        let held = self.clusters.get_mut(cluster);
        if let Some(held) = held.and_then(|c| c.namespaces.get_mut(namespace)) {
            held.selected = selected;
        }
        if *cluster == self.config_cluster {
            self.refresh_config();
        }
    }

    /// Looks again at the network rules of a cluster.
    pub(super) fn refresh_networks(&mut self, id: &ClusterId) {
        let Some(cluster) = self.clusters.get(id) else {
            return;
        };
        let rules = self.network_rules(id, cluster);
        if let Some(cluster) = self.clusters.get_mut(id)
            && cluster.networks != rules
        {
            cluster.networks = rules;
            self.dirty.clusters.insert(id.clone());
            // Addresses without a pod, and with them any service.
            self.dirty.every_service(Need::ENDPOINTS);
        }
    }

    pub(super) fn set_node(&mut self, at: &At, new: Option<KubeNode>) {
        let new = new.map(|node| NodeFacts::new(&node, &mut self.interner));
        let cluster = self.clusters.entry(at.cluster.clone()).or_default();
        let locality = new.as_ref().map(|n| n.locality.clone());
        let Put::Was(old) = put(&mut cluster.nodes, Arc::clone(&at.name), new) else {
            return;
        };
        if old.map(|n| n.locality).unwrap_or_default() != locality.unwrap_or_default() {
            let nodes = self.dirty.nodes.entry(at.cluster.clone()).or_default();
            nodes.insert(Arc::clone(&at.name));
        }
        // Its addresses may lead to NodePort gateways.
        self.dirty.gateways = true;
    }

    pub(super) fn set_service(&mut self, at: &At, new: Option<KubeService>) {
        let new = new.map(|service| Arc::new(self.interner.service(service)));
        let labelled = new
            .as_ref()
            .is_some_and(|s| gateways::is_labelled(&s.labels));
        let Put::Was(old) = put(&mut self.place(at).services, Arc::clone(&at.name), new) else {
            return;
        };
        let key = self.kube_key(&at.namespace, &at.name);
        let was_labelled = old.is_some_and(|s| gateways::is_labelled(&s.labels));
        let declared = self.declares(&key);
        self.dirty.gateways |= labelled || was_labelled || declared;
        if labelled != was_labelled
            && let Some(cluster) = self.clusters.get_mut(&at.cluster)
        {
            let name = (at.namespace.clone(), Arc::clone(&at.name));
            if labelled {
                cluster.gateway_services.insert(name);
            } else {
                cluster.gateway_services.remove(&name);
            }
        }
        self.touch_kube(&at.namespace, &at.name, Need::ALL);
    }

    /// Whether `meshNetworks` names this Service as a gateway.
    fn declares(&self, key: &ServiceKey) -> bool {
        let gateways = self
            .mesh_networks
            .networks
            .values()
            .flat_map(|n| &n.gateways);
        gateways.into_iter().any(|g| {
            matches!(g, crate::model::DeclaredGateway::Service { host, .. } if *host == key.hostname)
        })
    }

    pub(super) fn set_kube_gateway(&mut self, at: &At, new: Option<KubeGateway>) {
        let held = &mut self.place(at).gateways;
        let old = held.get(&at.name);
        if old == new.as_ref() {
            return;
        }
        match new {
            Some(new) => held.insert(Arc::clone(&at.name), new),
            None => held.remove(&at.name),
        };
        self.dirty.gateways = true;
    }

    pub(super) fn set_export(&mut self, at: &At, there: bool) {
        let held = &mut self.place(at).exports;
        let changed = if there {
            held.insert(Arc::clone(&at.name))
        } else {
            held.remove(&at.name)
        };
        if changed {
            self.touch_kube(&at.namespace, &at.name, Need::ENDPOINTS);
        }
    }

    pub(super) fn set_import(&mut self, at: &At, new: Option<ServiceImport>) {
        let held = &mut self.place(at).imports;
        if held.get(&at.name) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => held.insert(Arc::clone(&at.name), new),
            None => held.remove(&at.name),
        };
        self.touch_kube(&at.namespace, &at.name, Need::ALL);
    }

    /// Marks a Kubernetes service under all its hosts.
    pub(super) fn touch_kube(&mut self, namespace: &Namespace, name: &str, need: Need) {
        let key = self.kube_key(namespace, name);
        self.dirty.service(key, need.clone());
        if let Some(key) = self.cluster_set_key(namespace, name) {
            self.dirty.service(key, need);
        }
    }

    /// Marks every service of a namespace that one cluster has a part in, as a
    /// whole.
    fn touch_services(&mut self, cluster: &ClusterId, namespace: &Namespace) {
        let held = self.clusters.get(cluster);
        let Some(held) = held.and_then(|c| c.namespaces.get(namespace)) else {
            return;
        };
        let names = held.services.keys().chain(held.slices_of.keys());
        let names: Vec<Arc<str>> = names.cloned().collect();
        for name in names {
            self.touch_kube(namespace, &name, Need::ALL);
        }
    }

    /// The cluster's Secret is gone: so is all it reported, in one step.
    pub(super) fn remove_cluster(&mut self, id: &ClusterId) {
        let Some(cluster) = self.clusters.get(id) else {
            return;
        };
        let namespaces: Vec<Namespace> = cluster.namespaces.keys().cloned().collect();
        for (namespace, held) in &cluster.namespaces {
            let names = held.pods.keys().chain(held.workload_entries.keys());
            let keys = names.map(|name| pod_key(id, namespace, name));
            self.dirty.pods.extend(keys);
        }
        for namespace in &namespaces {
            self.touch_services(id, namespace);
            self.touch_entries_of(namespace);
        }
        self.dirty.gateways = true;
        self.clusters.remove(id);
        self.ignored.retain(|(cluster, _), _| cluster != id);
        if *id == self.config_cluster {
            self.clear_config();
        }
    }
}

pub(super) fn pod_key(cluster: &ClusterId, namespace: &Namespace, name: &Arc<str>) -> PodKey {
    PodKey {
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        name: Arc::clone(name),
    }
}
