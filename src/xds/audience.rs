//! Proxies that get the same endpoint answers for every service.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Weak},
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::eds;
use crate::mesh::{ConfigMemo, EdsKey, Lens, PodKey, Scope, ServiceState, Snapshot};
use crate::model::{
    ClusterId, ClusterName, ClusterNameRef, IpFamily, Labels, Locality, Namespace, NetworkId,
    NetworkView, NodeKind, Proxy, Workload,
};
use crate::wire::EncodedResource;
use crate::xds::{cds, view};

/// All of a proxy that its endpoint answers may depend on. `project` erases of
/// it what a service does not look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Sidecar or router.
    pub kind: NodeKind,
    /// Where its rules and its `Sidecar` are.
    pub namespace: Namespace,
    /// Kubernetes cluster.
    pub cluster: ClusterId,
    /// Network.
    pub network: Option<NetworkId>,
    /// Networks it wants to see.
    pub requested: Arc<[NetworkId]>,
    /// What it can dial.
    pub family: IpFamily,
    /// Name of its node.
    pub node: Arc<str>,
    /// Its pod's labels; its own where the pod is not known.
    pub labels: Labels,
    /// Its place.
    pub locality: Locality,
}

impl Facts {
    /// The facts of `proxy`; `workload` is the pod behind it where its registry
    /// knows it.
    pub fn of(proxy: &Proxy, workload: Option<&Workload>) -> Self {
        // istiod: the pod's labels replace those of the node metadata.
        let labels = workload.map_or(&proxy.labels, |w| &w.labels);
        Self {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            cluster: proxy.cluster.clone(),
            network: proxy.network.clone(),
            requested: Arc::clone(&proxy.requested_networks),
            family: proxy.ips.family(),
            node: Arc::clone(&proxy.node),
            labels: labels.clone(),
            locality: view::place_of(proxy, workload),
        }
    }
}

/// A class of proxies. Its scope is kept until the configuration changes, so
/// that a change of endpoints asks for it once a class and not once a stream;
/// and so are the answers that the newest publish changed.
pub struct Audience {
    facts: Facts,
    scope: Mutex<Option<(Weak<ConfigMemo>, Arc<Scope>)>>,
    changed: Mutex<Changed>,
}

/// Answers of one snapshot. It keeps neither: what is kept for long is kept by
/// the service that the answers are made from.
#[derive(Default)]
struct Changed {
    of: Weak<Snapshot>,
    answers: Vec<(Arc<str>, Weak<EncodedResource>)>,
}

impl Changed {
    fn find(&self, snapshot: &Arc<Snapshot>, name: &str) -> Option<Arc<EncodedResource>> {
        if !std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(snapshot)) {
            return None;
        }
        let mut answers = self.answers.iter();
        let (_, answer) = answers.find(|(known, _)| **known == *name)?;
        answer.upgrade()
    }

    fn put(&mut self, snapshot: &Arc<Snapshot>, name: &Arc<str>, answer: &Arc<EncodedResource>) {
        if !std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(snapshot)) {
            self.of = Arc::downgrade(snapshot);
            self.answers.clear();
        }
        self.answers
            .push((Arc::clone(name), Arc::downgrade(answer)));
    }
}

impl Audience {
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn scope(&self, snapshot: &Snapshot) -> Arc<Scope> {
        let memo = snapshot.memo();
        let mut kept = self.scope.lock();
        if let Some((of, scope)) = &*kept
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(memo))
        {
            return Arc::clone(scope);
        }
        let Facts {
            kind,
            namespace,
            labels,
            ..
        } = &self.facts;
        let scope = Scope::of(snapshot, namespace, labels, *kind);
        *kept = Some((Arc::downgrade(memo), Arc::clone(&scope)));
        scope
    }

    /// Its view of one Envoy cluster.
    pub(super) fn view(&self, state: &ServiceState, cluster: &ClusterName) -> NetworkView {
        let rule = state.rule_for(&self.facts.namespace, &self.facts.labels);
        view::project(&self.facts, state, cluster, rule)
    }

    /// The endpoints of one Envoy cluster; none where the name is not of a
    /// cluster's form. Any other name is answered, if need be with no
    /// endpoints: Envoy would wait for ever.
    pub(super) fn endpoints(
        &self,
        snapshot: &Arc<Snapshot>,
        name: &str,
    ) -> Option<Arc<EncodedResource>> {
        let changed = self.changed.lock().find(snapshot, name);
        changed.or_else(|| self.make_endpoints(snapshot, name))
    }

    fn make_endpoints(&self, snapshot: &Snapshot, name: &str) -> Option<Arc<EncodedResource>> {
        let cluster = ClusterNameRef::parse(name)?;
        let scope = self.scope(snapshot);
        let state = scope.service(snapshot, cluster.host);
        // A service may carry its endpoints in the cluster itself.
        let state = state.filter(|state| {
            let port = state.service.port(cluster.port);
            port.is_some() && cds::uses_eds(state, self.facts.kind)
        });
        let Some(state) = state else {
            return Some(Arc::new(eds::empty(&Arc::from(name))));
        };
        let cluster = cluster.with_host(&state.service.key.hostname);
        let view = self.view(state, &cluster);
        let kept = is_defined(state, &cluster);
        let key = EdsKey { cluster, view };
        Some(if kept {
            state.eds(key, eds::encode)
        } else {
            // Names that clients make up must not fill the memo.
            Arc::new(eds::encode(state, &key))
        })
    }
}

/// Whether some rule defines the subset.
fn is_defined(state: &ServiceState, cluster: &ClusterName) -> bool {
    let subset = &cluster.subset;
    subset.is_empty() || state.rules.iter().any(|rule| rule.subset(subset).is_some())
}

impl Lens for Audience {
    fn differs(&self, name: &Arc<str>, old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> bool {
        let before = self.endpoints(old, name);
        let after = self.make_endpoints(new, name);
        if let Some(after) = &after {
            self.changed.lock().put(new, name, after);
        }
        let version = |answer: Option<Arc<EncodedResource>>| answer.map(|a| a.version());
        version(before) != version(after)
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.facts, f)
    }
}

/// The audiences that some proxy belongs to, each once.
#[derive(Debug, Default)]
pub struct Audiences(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By hash of the facts.
    known: HashMap<u64, Vec<Weak<Audience>>, RandomState>,
    hasher: RandomState,
    /// Entries at which those that nobody belongs to any more are dropped.
    full: usize,
}

impl Audiences {
    /// The audience that `proxy` belongs to.
    pub fn of(&self, snapshot: &Snapshot, proxy: &Proxy) -> Arc<Audience> {
        let workload = snapshot.workload(&PodKey::of(proxy));
        let facts = Facts::of(proxy, workload.map(|w| &**w));
        let mut table = self.0.lock();
        table.sweep();
        let hash = table.hasher.hash_one(&facts);
        let known = table.known.entry(hash).or_default();
        let found = known.iter().filter_map(Weak::upgrade);
        if let Some(found) = found.into_iter().find(|known| known.facts == facts) {
            return found;
        }
        let made = Arc::new(Audience {
            facts,
            scope: Mutex::default(),
            changed: Mutex::default(),
        });
        known.push(Arc::downgrade(&made));
        made
    }
}

impl Table {
    fn sweep(&mut self) {
        if self.known.len() < self.full {
            return;
        }
        self.known.retain(|_, of| {
            of.retain(|one| one.strong_count() > 0);
            !of.is_empty()
        });
        self.full = (self.known.len() * 2).max(64);
    }
}

#[cfg(test)]
mod tests;
