//! Events → objects held and marks of what to derive.

use std::{collections::BTreeSet, sync::Arc};

use super::{Ignored, Index, dirty::Need, kube::At};
use crate::mesh::{Change, Event};
use crate::model::{ClusterId, MeshConfig, MeshNetworks, Namespace, Object, ObjectKey, ObjectKind};

/// The object of an upsert; none of a delete.
macro_rules! only {
    ($object:expr, $kind:ident) => {
        match $object {
            Some(Object::$kind(object)) => Some(object),
            _ => None,
        }
    };
}

impl Index {
    pub(super) fn ingest(&mut self, event: Event) {
        let Event { cluster, change } = event;
        match change {
            Change::Upsert(object) => self.set(&cluster, &object.key(), Some(object)),
            Change::Delete(key) => self.set(&cluster, &key, None),
            Change::Reset(kind, objects) => self.reset(&cluster, kind, objects),
            Change::ClusterRemoved => {
                self.dirty.urgent.removal = true;
                self.remove_cluster(&cluster);
            }
            Change::MeshConfig(mesh) => self.set_mesh(mesh),
            Change::MeshNetworks(networks) => self.set_mesh_networks(networks),
            Change::TrustDomain(domain) => self.set_trust_domain(&cluster, domain),
            Change::Resolved(name, ips) => {
                let known = self.resolved.get(&name);
                if known.map_or(ips.is_empty(), |known| *known == ips) {
                    return;
                }
                self.resolved.insert(name, ips);
                self.dirty.gateways = true;
            }
        }
    }

    /// What is listed replaces what is held; equal objects cause nothing.
    fn reset(&mut self, cluster: &ClusterId, kind: ObjectKind, objects: Vec<Object>) {
        let objects = objects.into_iter().filter(|o| o.kind() == kind);
        let objects: Vec<_> = objects.map(|o| (o.key(), o)).collect();
        let listed: BTreeSet<&ObjectKey> = objects.iter().map(|(key, _)| key).collect();
        let held = self.held_keys(cluster, kind);
        let gone: Vec<_> = held.into_iter().filter(|k| !listed.contains(k)).collect();
        for key in gone {
            self.set(cluster, &key, None);
        }
        for (key, object) in objects {
            self.set(cluster, &key, Some(object));
        }
    }

    fn held_keys(&self, cluster: &ClusterId, kind: ObjectKind) -> Vec<ObjectKey> {
        let ignored = self
            .ignored
            .keys()
            .filter(|(c, k)| c == cluster && k.kind == kind);
        let mut keys: Vec<ObjectKey> = ignored.map(|(_, key)| key.clone()).collect();
        if let Some(of) = self.clusters.get(cluster) {
            keys.extend(of.keys(kind));
        }
        if *cluster == self.config_cluster {
            keys.extend(self.config.keys(kind));
        }
        keys
    }

    /// Holds `object` under `key`, or nothing any more.
    fn set(&mut self, cluster: &ClusterId, key: &ObjectKey, object: Option<Object>) {
        self.ignored.remove(&(cluster.clone(), key.clone()));
        self.dirty.urgent.removal |= object.is_none();
        let at = At {
            cluster: ClusterId::shared(self.interner.text(cluster)),
            namespace: Namespace::shared(self.interner.text(&key.namespace)),
            name: Arc::clone(&key.name),
        };
        match key.kind {
            ObjectKind::Namespace => self.set_namespace(&at, only!(object, Namespace)),
            ObjectKind::Node => self.set_node(&at, only!(object, Node)),
            ObjectKind::Service => self.set_service(&at, only!(object, Service)),
            ObjectKind::EndpointSlice => self.set_slice(&at, only!(object, EndpointSlice)),
            ObjectKind::Pod => self.set_pod(&at, only!(object, Pod)),
            ObjectKind::KubeGateway => self.set_kube_gateway(&at, only!(object, KubeGateway)),
            ObjectKind::WorkloadEntry => self.set_entry(&at, only!(object, WorkloadEntry)),
            ObjectKind::ServiceExport => self.set_export(&at, object.is_some()),
            ObjectKind::ServiceImport => self.set_import(&at, only!(object, ServiceImport)),
            ObjectKind::ServiceEntry
            | ObjectKind::DestinationRule
            | ObjectKind::PeerAuthentication
            | ObjectKind::Sidecar
            | ObjectKind::Gateway
            | ObjectKind::VirtualService => self.set_config(&at, key, object),
        }
    }

    /// Notes that an object has no effect, or has one again.
    pub(super) fn ignore(&mut self, cluster: &ClusterId, key: &ObjectKey, why: Ignored) {
        self.ignored.insert((cluster.clone(), key.clone()), why);
    }

    fn set_mesh(&mut self, mesh: Arc<MeshConfig>) {
        if mesh == self.mesh {
            return;
        }
        let selectors = mesh.discovery_selectors != self.mesh.discovery_selectors;
        let trust = mesh.trust_domain != self.mesh.trust_domain;
        self.mesh = mesh;
        self.dirty.mesh = true;
        self.dirty.every_service(Need::ALL);
        if selectors {
            self.select_namespaces();
        }
        if trust {
            let own = self
                .clusters
                .iter()
                .filter(|(_, c)| c.trust_domain.is_none());
            self.dirty.clusters.extend(own.map(|(id, _)| id.clone()));
        }
        self.refresh_config();
    }

    fn set_mesh_networks(&mut self, networks: Arc<MeshNetworks>) {
        if networks == self.mesh_networks {
            return;
        }
        self.mesh_networks = networks;
        self.dirty.gateways = true;
        let ids: Vec<ClusterId> = self.clusters.keys().cloned().collect();
        for id in ids {
            self.refresh_networks(&id);
        }
    }

    fn set_trust_domain(&mut self, cluster: &ClusterId, domain: Option<Arc<str>>) {
        let of = self.clusters.entry(cluster.clone()).or_default();
        if of.trust_domain != domain {
            of.trust_domain = domain;
            self.dirty.clusters.insert(cluster.clone());
        }
    }
}
