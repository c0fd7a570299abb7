//! Endpoints of one service, by the registry that reports them.

use std::{iter, sync::Arc};

use super::{Index, dirty::Registries, services::cluster_set_name};
use crate::mesh::{ServiceState, Shard, kube_endpoints::SliceJoin, service_entry};
use crate::model::{
    Address, ClusterId, Discoverability, Endpoint, PersistentSession, Provider, ServiceEntry,
    ServiceKey, ShardKey,
};

/// Endpoints by registry.
pub(super) type Shards = Vec<(ShardKey, Arc<Shard>)>;

/// The shard of `endpoints`: the known one where that says the same.
fn share(endpoints: Vec<Endpoint>, known: Option<&Arc<Shard>>) -> Arc<Shard> {
    match known {
        Some(known) if ***known == *endpoints => Arc::clone(known),
        _ => Arc::new(endpoints.into()),
    }
}

impl Index {
    /// Endpoints of all registries. What need not be joined `again` stays as it is
    /// in `old`, and so does what turns out equal: a change of one cluster costs
    /// nothing for the endpoints of the others.
    pub(super) fn endpoints(
        &self,
        key: &ServiceKey,
        again: &Registries,
        old: Option<&ServiceState>,
    ) -> Shards {
        let name = cluster_set_name(key).or_else(|| self.kube_name(key));
        let shard = |provider, cluster: &ClusterId| ShardKey {
            provider,
            cluster: cluster.clone(),
        };
        let external = iter::once(shard(Provider::External, &self.config_cluster));
        let clusters = self.clusters.keys().filter(|_| name.is_some());
        let all = external.chain(clusters.map(|id| shard(Provider::Kubernetes, id)));
        let shards = all.filter_map(|shard| {
            let known = old.and_then(|old| old.shard(&shard));
            if old.is_some() && !again.have(&shard) {
                return Some((shard, Arc::clone(known?)));
            }
            let list = match shard.provider {
                Provider::External => self.external_endpoints(key),
                Provider::Kubernetes => self.kube_endpoints(&shard.cluster, key, name?),
            };
            (!list.is_empty()).then(|| (shard, share(list, known)))
        });
        shards.collect()
    }

    fn kube_endpoints(&self, id: &ClusterId, key: &ServiceKey, name: &str) -> Vec<Endpoint> {
        let cluster = self.clusters.get(id);
        let held = cluster.and_then(|c| Some((c, c.namespace(&key.namespace)?)));
        let Some((cluster, held)) = held else {
            return Vec::new();
        };
        let service = held.services.get(name);
        let join = SliceJoin {
            namespace: held,
            sources: self.sources(id, cluster),
            session: service.map(|s| PersistentSession::of(&s.labels, &self.features)),
            discoverability: self.discoverability(key, held.exports.contains(name)),
            dual_stack: self.features.dual_stack
                && service.is_some_and(|s| s.cluster_ips.len() > 1),
            authentications: &self.config.authentications,
        };
        let mut endpoints = join.endpoints(name);
        if let Some(service) = service {
            let source = self.source(id);
            for kept in held.workload_entries.values() {
                let Some(workload) = &kept.workload else {
                    continue;
                };
                endpoints.extend(service_entry::kube_service_workload_entry_endpoints(
                    service,
                    &kept.entry,
                    workload,
                    &source,
                ));
            }
        }
        endpoints
    }

    /// MCS: other clusters see the endpoints of exported services only
    /// (split-horizon §4.5).
    fn discoverability(&self, key: &ServiceKey, exported: bool) -> Discoverability {
        let features = &self.features;
        let own_cluster = features.mcs_cluster_local && cluster_set_name(key).is_none();
        if features.mcs_discovery && (own_cluster || !exported) {
            return Discoverability::SameCluster;
        }
        Discoverability::Everywhere
    }

    /// What `ServiceEntry`s give: inline, or selected in any cluster.
    fn external_endpoints(&self, key: &ServiceKey) -> Vec<Endpoint> {
        let parts = self.config.entries.of(key).map(|entry| {
            let source = self.source(&self.config_cluster);
            let mut endpoints = service_entry::inline_endpoints(entry, &key.hostname, &source);
            if entry.workload_selector.is_some() {
                self.selected_endpoints(entry, &mut endpoints);
            }
            (&**entry, endpoints)
        });
        service_entry::join(parts)
    }

    fn selected_endpoints(&self, entry: &ServiceEntry, endpoints: &mut Vec<Endpoint>) {
        for (id, cluster) in self.in_merge_order() {
            let Some(held) = cluster.namespace(&entry.meta.namespace) else {
                continue;
            };
            let source = self.source(id);
            for kept in held.workload_entries.values() {
                if let Some(workload) = &kept.workload {
                    let of = service_entry::workload_entry_endpoints;
                    endpoints.extend(of(entry, &kept.entry, workload, &source));
                }
            }
            let serving = held.pods.iter().filter_map(|(name, slot)| {
                let pod = slot.known().filter(|pod| pod.facts.serves())?;
                let workload = pod.workload.as_ref()?;
                let address = match &*pod.facts.ips {
                    [] => return None,
                    all @ [_, _, ..] if self.features.dual_stack => Address::Ips(all.into()),
                    [first, ..] => Address::Ip(*first),
                };
                service_entry::selects(entry, workload).then_some((name, address, workload))
            });
            let mut serving: Vec<_> = serving.collect();
            serving.sort_by(|a, b| a.0.cmp(b.0));
            for (_, address, workload) in serving {
                let of = service_entry::pod_endpoints;
                endpoints.extend(of(entry, &address, workload, &source));
            }
        }
    }
}
