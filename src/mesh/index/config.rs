//! Istio objects held: those of the config cluster, and `WorkloadEntry`s of
//! every cluster.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Ignored, Index,
    dirty::Need,
    kube::{At, pod_key},
};
use crate::mesh::{
    PeerAuthentications, Rules,
    kube_state::{KeptEntry, NamespaceState},
    service_entry,
};
use crate::model::{
    DestinationRule, Gateway, Hostname, Namespace, Object, ObjectKey, ObjectKind, ObjectMeta,
    PeerAuthentication, ServiceEntry, ServiceKey, Sidecar, VirtualService, Workload, WorkloadEntry,
};

/// Objects of one kind, by namespace and name.
pub(super) type Store<T> = BTreeMap<(Namespace, Arc<str>), Arc<T>>;

/// Istio objects of the config cluster, and what is derived from them alone.
#[derive(Debug, Default)]
pub(super) struct ConfigObjects {
    pub(super) service_entries: Store<ServiceEntry>,
    pub(super) rules: Store<DestinationRule>,
    pub(super) peers: Store<PeerAuthentication>,
    pub(super) sidecars: Store<Sidecar>,
    pub(super) gateways: Store<Gateway>,
    pub(super) virtual_services: Store<VirtualService>,
    pub(super) merged_rules: Rules,
    pub(super) authentications: Arc<PeerAuthentications>,
    pub(super) entries: Entries,
}

/// `ServiceEntry`s by what leads to them.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Oldest first: by [`ObjectMeta`].
    by_key: BTreeMap<ServiceKey, BTreeMap<ObjectMeta, Arc<ServiceEntry>>>,
    /// Those with a workload selector.
    selecting: BTreeMap<Namespace, BTreeMap<Arc<str>, Arc<ServiceEntry>>>,
}

impl Entries {
    /// The entries that define a service, oldest first.
    pub(super) fn of(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.by_key.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Hosts and namespaces of the entries of one namespace.
    fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ServiceKey> {
        let keys = self.by_key.keys();
        keys.filter(move |key| *key.namespace == *namespace)
    }

    fn insert(&mut self, entry: &Arc<ServiceEntry>) {
        for key in keys_of(entry) {
            let of_key = self.by_key.entry(key).or_default();
            of_key.insert(entry.meta.clone(), Arc::clone(entry));
        }
        if entry.workload_selector.is_some() {
            let of = self.selecting.entry(entry.meta.namespace.clone());
            let name = Arc::clone(&entry.meta.name);
            of.or_default().insert(name, Arc::clone(entry));
        }
    }

    fn remove(&mut self, entry: &ServiceEntry) {
        for key in keys_of(entry) {
            if let Some(of_key) = self.by_key.get_mut(&key) {
                of_key.remove(&entry.meta);
                if of_key.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        if let Some(of) = self.selecting.get_mut(&entry.meta.namespace) {
            of.remove(&entry.meta.name);
        }
    }
}

/// The services that an entry defines a part of.
fn keys_of(entry: &ServiceEntry) -> impl Iterator<Item = ServiceKey> {
    entry.hosts.iter().map(|host| ServiceKey {
        hostname: Hostname::shared(Arc::clone(host)),
        namespace: entry.meta.namespace.clone(),
    })
}

impl ConfigObjects {
    /// Keys of all objects of a kind.
    pub(super) fn keys(&self, kind: ObjectKind) -> Vec<ObjectKey> {
        fn of<T>(store: &Store<T>, kind: ObjectKind) -> Vec<ObjectKey> {
            let keys = store.keys().map(|(namespace, name)| ObjectKey {
                kind,
                namespace: namespace.clone(),
                name: Arc::clone(name),
            });
            keys.collect()
        }
        match kind {
            ObjectKind::ServiceEntry => of(&self.service_entries, kind),
            ObjectKind::DestinationRule => of(&self.rules, kind),
            ObjectKind::PeerAuthentication => of(&self.peers, kind),
            ObjectKind::Sidecar => of(&self.sidecars, kind),
            ObjectKind::Gateway => of(&self.gateways, kind),
            ObjectKind::VirtualService => of(&self.virtual_services, kind),
            _ => Vec::new(),
        }
    }
}

/// What was held and what is held now; nothing of both where that is no change.
type Replaced<T> = (Option<Arc<T>>, Option<Arc<T>>);

/// Sets or, with `None`, removes.
fn put<T: PartialEq>(store: &mut Store<T>, at: &At, new: Option<T>) -> Option<Replaced<T>> {
    let key = (at.namespace.clone(), Arc::clone(&at.name));
    if store.get(&key).map(|old| &**old) == new.as_ref() {
        return None;
    }
    let new = new.map(Arc::new);
    let old = match &new {
        Some(new) => store.insert(key, Arc::clone(new)),
        None => store.remove(&key),
    };
    Some((old, new))
}

impl Index {
    pub(super) fn set_config(&mut self, at: &At, key: &ObjectKey, object: Option<Object>) {
        if at.cluster != self.config_cluster {
            if object.is_some() {
                self.ignore(&at.cluster, key, Ignored::NotTheConfigCluster);
            }
            return;
        }
        macro_rules! put {
            ($store:ident, $kind:ident) => {{
                let new = match object {
                    Some(Object::$kind(object)) => Some(object),
                    _ => None,
                };
                put(&mut self.config.$store, at, new)
            }};
        }
        match key.kind {
            ObjectKind::Sidecar => self.dirty.mesh |= put!(sidecars, Sidecar).is_some(),
            ObjectKind::Gateway => self.dirty.mesh |= put!(gateways, Gateway).is_some(),
            ObjectKind::VirtualService => {
                self.dirty.mesh |= put!(virtual_services, VirtualService).is_some();
            }
            ObjectKind::DestinationRule => {
                if let Some((old, new)) = put!(rules, DestinationRule) {
                    let hosts = old.iter().chain(&new).map(|rule| Arc::clone(&rule.host));
                    self.dirty.rules.extend(hosts);
                }
            }
            ObjectKind::PeerAuthentication => {
                let changed = put!(peers, PeerAuthentication).map(|_| at.namespace.clone());
                self.dirty.peers.extend(changed);
            }
            ObjectKind::ServiceEntry => {
                if let Some((old, new)) = put!(service_entries, ServiceEntry) {
                    self.replace_entry(old, new);
                }
            }
            _ => {}
        }
    }

    fn replace_entry(&mut self, old: Option<Arc<ServiceEntry>>, new: Option<Arc<ServiceEntry>>) {
        for entry in old.iter().chain(&new) {
            for key in keys_of(entry) {
                self.dirty.service(key, Need::ALL);
            }
        }
        if let Some(old) = old {
            self.config.entries.remove(&old);
        }
        if let Some(new) = new
            && self.reads_config_of(&new.meta.namespace)
        {
            self.config.entries.insert(&new);
        }
    }

    /// Whether objects of a namespace of the config cluster count (istiod
    /// filters its configuration by the discovery selectors too).
    pub(super) fn reads_config_of(&self, namespace: &str) -> bool {
        let cluster = self.clusters.get(&self.config_cluster);
        let held = cluster.and_then(|c| c.namespaces.get(namespace));
        held.map_or_else(
            || self.is_selected(&NamespaceState::default()),
            |held| held.selected,
        )
    }

    /// Looks again at all that is derived from the configuration.
    pub(super) fn refresh_config(&mut self) {
        self.dirty.mesh = true;
        let hosts = self
            .config
            .rules
            .values()
            .map(|rule| Arc::clone(&rule.host));
        self.dirty.rules.extend(hosts);
        let namespaces = self
            .config
            .peers
            .keys()
            .map(|(namespace, _)| namespace.clone());
        self.dirty.peers.extend(namespaces);
        let entries: Vec<_> = self.config.service_entries.values().cloned().collect();
        for entry in entries {
            self.replace_entry(Some(Arc::clone(&entry)), Some(entry));
        }
    }

    pub(super) fn clear_config(&mut self) {
        self.refresh_config();
        self.config.rules.clear();
        self.config.peers.clear();
        self.config.sidecars.clear();
        self.config.gateways.clear();
        self.config.virtual_services.clear();
        for entry in std::mem::take(&mut self.config.service_entries).into_values() {
            self.replace_entry(Some(entry), None);
        }
    }

    pub(super) fn set_entry(&mut self, at: &At, new: Option<WorkloadEntry>) {
        if at.cluster != self.config_cluster && !self.features.cross_cluster_workload_entry {
            if new.is_some() {
                let key = ObjectKey {
                    kind: ObjectKind::WorkloadEntry,
                    namespace: at.namespace.clone(),
                    name: Arc::clone(&at.name),
                };
                self.ignore(&at.cluster, &key, Ignored::SwitchedOff);
            }
            return;
        }
        let held = &mut self.place(at).workload_entries;
        let old = held.get(&at.name);
        if old.map(|kept| &*kept.entry) == new.as_ref() {
            return;
        }
        let workload = old.and_then(|kept| kept.workload.clone());
        match new {
            Some(entry) => {
                let (entry, workload) = (Arc::new(entry), workload.clone());
                held.insert(Arc::clone(&at.name), KeptEntry { entry, workload });
            }
            None => {
                held.remove(&at.name);
            }
        }
        if let Some(workload) = workload {
            self.touch_selecting(&workload);
            self.touch_selecting_services(&workload);
        }
        let key = pod_key(&at.cluster, &at.namespace, &at.name);
        self.dirty.pods.insert(key);
    }

    /// Marks the `ServiceEntry`s that select a workload.
    pub(super) fn touch_selecting(&mut self, workload: &Workload) {
        let Some(entries) = self
            .config
            .entries
            .selecting
            .get(&workload.template.namespace)
        else {
            return;
        };
        for entry in entries.values() {
            if service_entry::selects(entry, workload) {
                for key in keys_of(entry) {
                    self.dirty.service(key, Need::ENDPOINTS);
                }
            }
        }
    }

    /// Marks the Services of its cluster that select a `WorkloadEntry`.
    pub(super) fn touch_selecting_services(&mut self, workload: &Workload) {
        let cluster = self.clusters.get(&workload.template.cluster);
        let Some(held) = cluster.and_then(|c| c.namespaces.get(&workload.template.namespace))
        else {
            return;
        };
        let selecting = held.services.iter().filter(|(_, service)| {
            !service.selector.is_empty() && workload.labels.contains_all(&service.selector)
        });
        let names: Vec<_> = selecting.map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.touch_kube(&workload.template.namespace, &name, Need::ENDPOINTS);
        }
    }

    /// Marks the services that `ServiceEntry`s of a namespace define.
    pub(super) fn touch_entries_of(&mut self, namespace: &Namespace) {
        let keys = self.config.entries.in_namespace(namespace);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.dirty.service(key, Need::ALL);
        }
    }
}
