//! Marks → what is published: rules, gateways, workloads, mesh settings. Each
//! step may mark services, which come last.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{Index, dirty::Need};
use crate::mesh::{
    MeshState, PeerAuthentications, Update, VirtualServices, gateways, rules, service_entry::Source,
};
use crate::model::{ClusterId, Namespace, NetworkTable, ServiceKey};

impl Index {
    /// Derives again what is marked.
    pub(super) fn derive(&mut self) -> Update {
        let mut update = Update::default();
        self.derive_rules();
        self.derive_authentications();
        self.derive_gateways(&mut update);
        self.derive_workloads(&mut update);
        self.derive_mesh(&mut update);
        self.derive_services(&mut update);
        debug_assert!(self.dirty.is_empty(), "every mark is used up");
        update
    }

    fn derive_rules(&mut self) {
        let patterns = mem::take(&mut self.dirty.rules);
        if patterns.is_empty() {
            return;
        }
        let mut by_pattern: BTreeMap<_, Vec<_>> = patterns
            .iter()
            .map(|p| (Arc::clone(p), Vec::new()))
            .collect();
        for rule in self.config.rules.values() {
            if let Some(of_pattern) = by_pattern.get_mut(&rule.host)
                && self.reads_config_of(&rule.meta.namespace)
            {
                of_pattern.push(Arc::clone(rule));
            }
        }
        for (pattern, of_pattern) in by_pattern {
            let default = &self.mesh.default_rule_export_to;
            self.config.merged_rules.set(&pattern, of_pattern, default);
        }
        let touched = |key: &ServiceKey| {
            let host: &str = &key.hostname;
            patterns.contains(host) || patterns.iter().any(|p| rules::applies_to(p, host))
        };
        let wildcards = patterns.iter().any(|p| p.starts_with('*'));
        if wildcards {
            for key in self
                .known_services()
                .filter(|k| touched(k))
                .collect::<Vec<_>>()
            {
                self.dirty.service(key, Need::LOOKUPS);
            }
            return;
        }
        for pattern in &patterns {
            let states = self.snapshot.host(pattern).iter();
            let keys: Vec<_> = states.map(|s| s.service.key.clone()).collect();
            for key in keys {
                self.dirty.service(key, Need::LOOKUPS);
            }
        }
    }

    fn derive_authentications(&mut self) {
        let namespaces = mem::take(&mut self.dirty.peers);
        if namespaces.is_empty() {
            return;
        }
        let policies = self.config.peers.values();
        let policies = policies.filter(|p| self.reads_config_of(&p.meta.namespace));
        let root = &self.mesh.root_namespace;
        let new = PeerAuthentications::new(policies.cloned(), root);
        if new == *self.config.authentications {
            return;
        }
        self.config.authentications = Arc::new(new);
        self.dirty.mesh = true;
        if namespaces.contains(root) {
            self.dirty.every_service(Need::ENDPOINTS);
            return;
        }
        // Endpoints are in the namespace of their service.
        let touched = self
            .known_services()
            .filter(|k| namespaces.contains(&k.namespace));
        for key in touched.collect::<Vec<_>>() {
            self.dirty.service(key, Need::ENDPOINTS);
        }
    }

    fn known_services(&self) -> impl Iterator<Item = ServiceKey> {
        self.snapshot.services().map(|s| s.service.key.clone())
    }

    fn derive_gateways(&mut self, update: &mut Update) {
        if !mem::take(&mut self.dirty.gateways) {
            return;
        }
        let discovery = gateways::Discovery {
            clusters: &self.clusters,
            config_cluster: &self.config_cluster,
            networks: &self.mesh_networks,
            domain: &self.features.domain,
            gateway_api: self.features.discover_gateway_api,
        };
        self.declared = discovery.gateways();
        let none = BTreeMap::new();
        let answers = if self.features.resolve_hostname_gateways {
            self.hostnames = gateways::hostnames(&self.declared);
            &self.resolved
        } else {
            &none
        };
        let resolved = gateways::resolve(&self.declared, answers);
        let table = NetworkTable::new(resolved, self.declared.iter().cloned());
        if table == *self.networks {
            return;
        }
        let old = mem::replace(&mut self.networks, Arc::new(table));
        if old.scale() != self.networks.scale()
            || old.is_multi_network() != self.networks.is_multi_network()
        {
            update.changes.all_endpoints = true;
            self.dirty.every_service(Need::LOOKUPS);
            return;
        }
        // Only services with endpoints behind a changed gateway.
        for network in old.changed_networks(&self.networks) {
            for key in self.behind.of(network) {
                self.dirty.service(key.clone(), Need::LOOKUPS);
            }
        }
    }

    fn derive_mesh(&mut self, update: &mut Update) {
        if !mem::take(&mut self.dirty.mesh) {
            return;
        }
        let objects = &self.config;
        let mut sidecars: BTreeMap<Namespace, Vec<_>> = BTreeMap::new();
        for sidecar in objects.sidecars.values() {
            if self.reads_config_of(&sidecar.meta.namespace) {
                let of = sidecars.entry(sidecar.meta.namespace.clone()).or_default();
                of.push(Arc::clone(sidecar));
            }
        }
        for of in sidecars.values_mut() {
            of.sort_by(|a, b| a.meta.cmp(&b.meta));
        }
        let gateways = objects.gateways.values();
        let gateways = gateways.filter(|g| self.reads_config_of(&g.meta.namespace));
        let mut gateways: Vec<_> = gateways.cloned().collect();
        gateways.sort_by(|a, b| a.meta.cmp(&b.meta));
        let new = MeshState {
            config: Arc::clone(&self.mesh),
            features: Arc::clone(&self.features),
            sidecars,
            gateways,
            authentications: Arc::clone(&self.config.authentications),
            virtual_services: self.virtual_services(),
        };
        let old = self.snapshot.mesh();
        if **old == new {
            return;
        }
        update.changes.config = true;
        // A `Sidecar` hides services, and decides which of several of one host
        // a proxy means.
        // So does where a `VirtualService` leads that a `Sidecar` imports.
        let rescoped = old.config != new.config
            || old.sidecars != new.sidecars
            || (!new.sidecars.is_empty() && old.virtual_services != new.virtual_services);
        update.changes.all_endpoints |= rescoped;
        update.mesh = Some(Arc::new(new));
    }

    fn virtual_services(&self) -> VirtualServices {
        let all = self.config.virtual_services.values();
        let read = all.filter(|v| self.reads_config_of(&v.meta.namespace));
        let default = &self.mesh.default_virtual_service_export_to;
        VirtualServices::new(read.cloned(), default)
    }

    pub(super) fn source<'a>(&'a self, cluster: &'a ClusterId) -> Source<'a> {
        Source {
            cluster,
            mesh: &self.mesh,
            features: &self.features,
            authentications: &self.config.authentications,
        }
    }
}
