//! Pods held, and the workload behind each.

use std::{mem, sync::Arc};

use smallvec::SmallVec;

use super::{
    Index,
    dirty::Dirty,
    kube::{At, pod_key},
};
use crate::mesh::{
    PodKey, Update,
    kube_state::{KeptPod, PodFacts},
    service_entry,
};
use crate::model::{ClusterId, Pod, Workload};

impl Index {
    pub(super) fn set_pod(&mut self, at: &At, new: Option<Pod>) {
        let new = new.map(|pod| PodFacts::new(&pod, &mut self.interner));
        let held = self.place(at);
        let old = held.pods.get(&at.name).and_then(|slot| slot.pod.as_ref());
        if old.map(|pod| &pod.facts) == new.as_ref() {
            return;
        }
        let slot = held.pods.entry(Arc::clone(&at.name)).or_default();
        let (was_known, was_pending) = (slot.known().is_some(), slot.is_pending());
        let old = slot.pod.take();
        let workload = old.as_ref().and_then(|pod| pod.workload.clone());
        slot.pod = new.map(|facts| {
            let workload = workload.clone();
            KeptPod { facts, workload }
        });
        let pending = slot.is_pending();
        let mut touched: SmallVec<[Arc<str>; 2]> = SmallVec::new();
        if was_known != slot.known().is_some() {
            touched.extend(slot.slices.iter().cloned());
        }
        if let Some(old) = &old {
            held.addresses.remove_pod(&at.name, &old.facts);
            touched.extend(held.addresses.bare_slices(&old.facts).cloned());
        }
        if let Some(new) = &slot.pod {
            held.addresses.add_pod(&at.name, &new.facts);
            touched.extend(held.addresses.bare_slices(&new.facts).cloned());
        }
        if slot.is_empty() {
            held.pods.remove(&at.name);
        }
        self.count_pending(&at.cluster, was_pending, pending);
        self.touch_slices(&at.cluster, &at.namespace, &touched);
        // A change of the workload itself is marked when it is derived.
        if let Some(workload) = &workload {
            self.touch_selecting(workload);
        }
        let key = pod_key(&at.cluster, &at.namespace, &at.name);
        self.dirty.pods.insert(key);
    }

    fn count_pending(&mut self, cluster: &ClusterId, was: bool, is: bool) {
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.pending_pods += usize::from(is && !was);
            cluster.pending_pods -= usize::from(was && !is);
        }
    }

    pub(super) fn derive_workloads(&mut self, update: &mut Update) {
        for key in self.marked_workloads() {
            let old = self.snapshot.workload(&key).cloned();
            let new = self.workload(&key);
            let same = old == new;
            let new = if same { old.clone() } else { new };
            let is_entry = self.keep_workload(&key, new.as_ref());
            if same && !is_entry {
                continue;
            }
            for workload in old.iter().chain(&new) {
                self.touch_selecting(workload);
                if is_entry {
                    self.touch_selecting_services(workload);
                }
            }
            if same {
                continue;
            }
            if new.is_some() {
                update.changes.workloads.insert(key.clone());
            }
            update.workloads.push((key, new));
        }
    }

    /// Keeps a workload with its pod or `WorkloadEntry`, and marks the services
    /// whose slices lead to it where it differs. Whether it is an entry.
    fn keep_workload(&mut self, key: &PodKey, new: Option<&Arc<Workload>>) -> bool {
        let held = self.clusters.get_mut(&key.cluster);
        let Some(held) = held.and_then(|c| c.namespaces.get_mut(&key.namespace)) else {
            return false;
        };
        let mut slices: SmallVec<[Arc<str>; 2]> = SmallVec::new();
        if let Some(slot) = held.pods.get_mut(&key.name)
            && let Some(pod) = &mut slot.pod
            && pod.workload.as_ref() != new
        {
            pod.workload = new.cloned();
            slices.extend(slot.slices.iter().cloned());
            slices.extend(held.addresses.bare_slices(&pod.facts).cloned());
        }
        let entry = held.workload_entries.get_mut(&key.name);
        let is_entry = entry.is_some();
        if let Some(kept) = entry {
            kept.workload = new.cloned();
        }
        self.touch_slices(&key.cluster, &key.namespace, &slices);
        is_entry
    }

    /// Keys of the pods and `WorkloadEntry`s to derive again.
    fn marked_workloads(&mut self) -> Vec<PodKey> {
        let Dirty {
            pods,
            clusters,
            nodes,
            ..
        } = &mut self.dirty;
        let mut keys = mem::take(pods);
        let whole = mem::take(clusters);
        let nodes = mem::take(nodes);
        let on_node = |id: &ClusterId, node: &str| nodes.get(id).is_some_and(|n| n.contains(node));
        for (id, cluster) in &self.clusters {
            let whole = whole.contains(id);
            if !whole && !nodes.contains_key(id) {
                continue;
            }
            for (namespace, held) in &cluster.namespaces {
                let known = held
                    .pods
                    .iter()
                    .filter_map(|(n, slot)| Some((n, slot.pod.as_ref()?)));
                let pods = known.filter(|(_, pod)| whole || on_node(id, &pod.facts.node));
                keys.extend(pods.map(|(name, _)| pod_key(id, namespace, name)));
                let entries = held.workload_entries.keys().filter(|_| whole);
                keys.extend(entries.map(|name| pod_key(id, namespace, name)));
            }
        }
        keys.into_iter().collect()
    }

    /// The workload behind a key: a pod, else a `WorkloadEntry`.
    fn workload(&mut self, key: &PodKey) -> Option<Arc<Workload>> {
        let mut interner = mem::take(&mut self.interner);
        let cluster = self.clusters.get(&key.cluster);
        let held = cluster.and_then(|c| Some((c, c.namespace(&key.namespace)?)));
        let found = held.and_then(|(cluster, held)| {
            let slot = held.pods.get_key_value(&key.name);
            if let Some((name, pod)) = slot.and_then(|(name, slot)| Some((name, slot.known()?))) {
                let sources = self.sources(&key.cluster, cluster);
                let workload = sources.pod(&key.namespace, name, &pod.facts, &mut interner);
                return Some(Arc::new(workload));
            }
            let kept = held.workload_entries.get(&key.name)?;
            let remote = key.cluster != self.config_cluster;
            let ip = kept.entry.target.ip();
            let network = cluster.networks.network(&kept.entry.labels, ip);
            // istiod fills the network label from namespace and meshNetworks
            // for remote clusters only.
            let network = network.filter(|_| remote);
            let source = self.source(&key.cluster);
            Some(service_entry::workload(
                &kept.entry,
                network.as_ref(),
                &source,
            ))
        });
        self.interner = interner;
        found
    }
}
