//! `EndpointSlice`s held, joined with their services and pods.

use std::sync::Arc;

use super::{Ignored, Index, dirty::Need, kube::At};
use crate::mesh::{
    kube_endpoints,
    kube_state::{KeptSlice, add, remove},
};
use crate::model::{ClusterId, EndpointSlice, Namespace, ObjectKey, ObjectKind, SliceAddressType};

impl Index {
    pub(super) fn set_slice(&mut self, at: &At, new: Option<EndpointSlice>) {
        let new = new.and_then(|slice| self.counted(at, slice));
        let new = new.map(KeptSlice::from);
        let held = self.place(at).slices.get(&at.name);
        if held == new.as_ref() {
            return;
        }
        if let Some(old) = self.place(at).slices.remove(&at.name) {
            self.dirty.urgent.removal |= old.loses(new.as_ref());
            self.unlink(at, &old);
            self.touch_kube(&at.namespace, &old.service, Need::slices(&at.cluster));
        }
        if let Some(mut new) = new {
            self.touch_kube(&at.namespace, &new.service, Need::slices(&at.cluster));
            self.link(at, &mut new);
            self.place(at).slices.insert(Arc::clone(&at.name), new);
        }
    }

    /// The slice, if it is one that the mesh reads.
    fn counted(&mut self, at: &At, slice: EndpointSlice) -> Option<EndpointSlice> {
        if kube_endpoints::counts(&slice) {
            return Some(slice);
        }
        let why = match slice.address_type {
            _ if slice.mcs => Ignored::McsSlice,
            SliceAddressType::Fqdn => Ignored::NamesInSlice,
            SliceAddressType::Ipv4 | SliceAddressType::Ipv6 => Ignored::SliceWithoutService,
        };
        let key = ObjectKey {
            kind: ObjectKind::EndpointSlice,
            namespace: at.namespace.clone(),
            name: Arc::clone(&at.name),
        };
        self.ignore(&at.cluster, &key, why);
        None
    }

    /// Joins a new slice with its service and its pods, sharing their names.
    fn link(&mut self, at: &At, slice: &mut KeptSlice) {
        slice.service = self.interner.text(&slice.service);
        for port in &mut slice.ports {
            port.name = self.interner.text(&port.name);
        }
        let mut pending = 0;
        let held = self.place(at);
        add(
            held.slices_of
                .entry(Arc::clone(&slice.service))
                .or_default(),
            &at.name,
        );
        for endpoint in &mut slice.endpoints {
            let Some(name) = &mut endpoint.pod else {
                let ip = endpoint.address;
                held.addresses.add_bare(ip, &at.name, &held.pods);
                continue;
            };
            if let Some((shared, _)) = held.pods.get_key_value(name) {
                *name = Arc::clone(shared);
            }
            let slot = held.pods.entry(Arc::clone(name)).or_default();
            let was = slot.is_pending();
            add(&mut slot.slices, &at.name);
            pending += usize::from(slot.is_pending() && !was);
        }
        if let Some(cluster) = self.clusters.get_mut(&at.cluster) {
            cluster.pending_pods += pending;
        }
    }

    fn unlink(&mut self, at: &At, slice: &KeptSlice) {
        let mut settled = 0;
        let held = self.place(at);
        remove(&mut held.slices_of, &slice.service, &at.name);
        for endpoint in &slice.endpoints {
            let Some(name) = &endpoint.pod else {
                held.addresses.remove_bare(endpoint.address, &at.name);
                continue;
            };
            if let Some(slot) = held.pods.get_mut(name) {
                let was = slot.is_pending();
                slot.slices.retain(|known| *known != at.name);
                settled += usize::from(was && !slot.is_pending());
                if slot.is_empty() {
                    held.pods.remove(name);
                }
            }
        }
        if let Some(cluster) = self.clusters.get_mut(&at.cluster) {
            cluster.pending_pods -= settled;
        }
    }

    /// Marks the services of slices.
    pub(super) fn touch_slices(
        &mut self,
        cluster: &ClusterId,
        namespace: &Namespace,
        slices: &[Arc<str>],
    ) {
        let held = self.clusters.get(cluster);
        let Some(held) = held.and_then(|c| c.namespaces.get(namespace)) else {
            return;
        };
        let services = slices.iter().filter_map(|slice| held.service_of(slice));
        let services: Vec<Arc<str>> = services.cloned().collect();
        for service in services {
            self.touch_kube(namespace, &service, Need::slices(cluster));
        }
    }
}
