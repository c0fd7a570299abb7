//! Marked services → [`ServiceState`]s.

use std::{collections::BTreeMap, mem, net::IpAddr, sync::Arc};

use super::{
    CLUSTER_SET, Index,
    difference::{Told, difference, networks_of},
    dirty::{Need, Registries},
};
use crate::mesh::{
    HostServices, Peers, ServiceState, Update,
    gateways::kube_name,
    kube_services::{self, Definition},
    service_entry,
};
use crate::model::{ClusterId, Hostname, Registration, Service, ServiceKey};

impl Index {
    pub(super) fn derive_services(&mut self, update: &mut Update) {
        let mut marked = mem::take(&mut self.dirty.services);
        if let Some(need) = self.dirty.all_services.take() {
            for state in self.snapshot.services() {
                let known = marked.entry(state.service.key.clone()).or_default();
                known.add(need.clone());
            }
        }
        let mut hosts: BTreeMap<Hostname, HostServices> = BTreeMap::new();
        for (key, need) in marked {
            let held = self.snapshot.host(&key.hostname);
            let old = held.iter().find(|s| s.service.key == key).cloned();
            let new = self.build(&key, &need, old.as_deref());
            let told = difference(old.as_deref(), new.as_ref());
            if told == Told::default() {
                continue;
            }
            told.add_to(&key.hostname, &mut update.changes);
            self.behind.replace(
                &key,
                &networks_of(old.as_deref()),
                &networks_of(new.as_ref()),
            );
            let services = hosts.entry(key.hostname.clone());
            let services = services.or_insert_with(|| held.iter().cloned().collect());
            services.retain(|s| s.service.key != key);
            services.extend(new.map(Arc::new));
            services.sort_by(|a, b| a.service.key.cmp(&b.service.key));
        }
        update.services.extend(hosts);
    }

    /// The state of a service now; none where nobody defines it.
    fn build(
        &self,
        key: &ServiceKey,
        need: &Need,
        old: Option<&ServiceState>,
    ) -> Option<ServiceState> {
        let service = match old {
            Some(old) if !need.definition => Arc::clone(&old.service),
            _ => {
                let new = self.define(key)?;
                match old {
                    Some(old) if *old.service == new => Arc::clone(&old.service),
                    _ => Arc::new(new),
                }
            }
        };
        let endpoints = match (&need.endpoints, old) {
            (Registries::None, Some(old)) => old.endpoints.clone(),
            (again, old) => self.endpoints(key, again, old),
        };
        let rules = self.config.merged_rules.for_host(&key.hostname);
        let peers = match old {
            Some(old)
                if need.endpoints == Registries::None
                    && old.service == service
                    && old.rules == rules =>
            {
                Arc::clone(&old.peers)
            }
            _ => Arc::new(Peers::of(&service, &rules, &endpoints)),
        };
        Some(ServiceState {
            service,
            endpoints,
            peers,
            rules,
            networks: Arc::clone(&self.networks),
            mesh: Arc::clone(&self.mesh),
            features: Arc::clone(&self.features),
            eds: crate::wire::Memo::default(),
            clusters: crate::wire::Memo::default(),
            sni_chains: crate::wire::Memo::default(),
        })
    }

    /// A Kubernetes definition wins over a `ServiceEntry`'s.
    fn define(&self, key: &ServiceKey) -> Option<Service> {
        if let Some(name) = cluster_set_name(key) {
            return self.define_cluster_set(key, name);
        }
        let kube = self.kube_name(key).and_then(|name| {
            let definitions = self.definitions(key, name);
            kube_services::merge(key, &definitions, &self.mesh, &self.features)
        });
        kube.or_else(|| self.define_external(key))
    }

    /// The name of the Kubernetes service that a key stands for.
    pub(super) fn kube_name<'a>(&self, key: &'a ServiceKey) -> Option<&'a str> {
        let (name, namespace) = kube_name(&key.hostname, &self.features.domain)?;
        (*namespace == *key.namespace).then_some(name)
    }

    fn definitions(&self, key: &ServiceKey, name: &str) -> Vec<Definition<'_>> {
        let clusters = self.in_merge_order().filter_map(|(id, cluster)| {
            let held = cluster.namespace(&key.namespace)?;
            Some(Definition {
                cluster: id,
                service: held.services.get(name)?,
                namespace: held.object.as_ref().map(|n| &n.annotations),
                trust_domain: self.trust_domain(cluster),
            })
        });
        clusters.collect()
    }

    /// MCS: a copy of the merged Service, with the imported IPs of each cluster
    /// that has a `ServiceImport`.
    fn define_cluster_set(&self, key: &ServiceKey, name: &str) -> Option<Service> {
        if !self.features.mcs_host {
            return None;
        }
        let real = self.kube_key(&key.namespace, name);
        let definitions = self.definitions(&real, name);
        let imports = self.in_merge_order().filter_map(|(id, cluster)| {
            let held = cluster.namespace(&key.namespace)?;
            let import = held.imports.get(name).filter(|i| !i.ips.is_empty())?;
            Some((id.clone(), import.ips.clone()))
        });
        let imports: Vec<(ClusterId, Vec<IpAddr>)> = imports.collect();
        let default = imports.first()?.1.first().copied();
        let service = kube_services::merge(key, &definitions, &self.mesh, &self.features)?;
        let registrations = imports.into_iter().map(|(id, vips)| {
            let known = service.registrations.get(&id).cloned();
            let known = known.unwrap_or_default();
            (id, Registration { vips, ..known })
        });
        Some(Service {
            registrations: registrations.collect(),
            addresses: default.into_iter().map(Into::into).collect(),
            ..service
        })
    }

    fn define_external(&self, key: &ServiceKey) -> Option<Service> {
        let source = self.source(&self.config_cluster);
        let namespace = self.clusters.get(&self.config_cluster);
        let namespace = namespace.and_then(|c| c.namespaces.get(&key.namespace));
        let annotations = namespace.and_then(|n| Some(&n.object.as_ref()?.annotations));
        let distribution = annotations.and_then(|a| a.get(kube_services::DISTRIBUTION));
        let entries = self.config.entries.of(key);
        let services = entries.flat_map(|e| service_entry::services(e, distribution, &source));
        service_entry::merged(services.filter(|service| service.key == *key))
    }
}

/// The name of a service under its Multi-Cluster Services host.
pub(super) fn cluster_set_name(key: &ServiceKey) -> Option<&str> {
    kube_name(&key.hostname, CLUSTER_SET).map(|(name, _)| name)
}
