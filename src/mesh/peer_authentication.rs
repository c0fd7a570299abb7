//! `PeerAuthentication`: the mTLS mode of a workload's port.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::model::{Labels, MtlsMode, Namespace, PeerAuthentication};

/// Policies of one namespace.
#[derive(Debug, Clone, PartialEq, Default)]
struct Policies {
    /// Mode of its oldest policy without selector.
    mode: Option<MtlsMode>,
    /// Policies with a selector, oldest first.
    selecting: Vec<Arc<PeerAuthentication>>,
}

impl Policies {
    /// The oldest policy that selects a workload with these labels.
    fn for_workload(&self, labels: &Labels) -> Option<&Arc<PeerAuthentication>> {
        let mut selecting = self.selecting.iter();
        selecting.find(|policy| labels.contains_all(&policy.selector))
    }
}

/// All `PeerAuthentication`s of the mesh.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeerAuthentications {
    mesh: MtlsMode,
    namespaces: HashMap<Namespace, Policies, FixedState>,
}

impl PeerAuthentications {
    /// Sorts `policies` by scope: mesh (root namespace), namespace, workloads.
    pub fn new(
        policies: impl IntoIterator<Item = Arc<PeerAuthentication>>,
        root_namespace: &str,
    ) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        // istiod: policy_applier.go: the oldest of a scope wins.
        policies.sort_by(|a, b| a.meta.cmp(&b.meta));
        let mut namespaces: HashMap<Namespace, Policies, FixedState> = HashMap::default();
        for policy in policies {
            let of_namespace = namespaces.entry(policy.meta.namespace.clone()).or_default();
            if policy.selector.is_empty() {
                of_namespace.mode.get_or_insert(policy.mode);
            } else {
                of_namespace.selecting.push(policy);
            }
        }
        // istiod: selector policies in the root namespace are ignored.
        let root = namespaces.remove(root_namespace);
        let mesh = root.and_then(|root| root.mode).unwrap_or_default();
        Self { mesh, namespaces }
    }

    /// The mode that holds for `port` (target port) of a workload. Never
    /// [`MtlsMode::Unset`].
    pub fn mode(&self, namespace: &str, labels: &Labels, port: u16) -> MtlsMode {
        let inherited = self.mesh.or(MtlsMode::Permissive);
        let Some(policies) = self.namespaces.get(namespace) else {
            return inherited;
        };
        let inherited = policies.mode.unwrap_or_default().or(inherited);
        let Some(policy) = policies.for_workload(labels) else {
            return inherited;
        };
        let for_port = policy.ports.iter().find(|(number, _)| *number == port);
        let for_port = for_port.map_or(MtlsMode::Unset, |(_, mode)| *mode);
        for_port.or(policy.mode).or(inherited)
    }

    /// The ports that a workload's policy names, sorted.
    pub fn ports(&self, namespace: &str, labels: &Labels) -> BTreeSet<u16> {
        let of_namespace = self.namespaces.get(namespace);
        let policy = of_namespace.and_then(|policies| policies.for_workload(labels));
        let ports = policy.into_iter().flat_map(|policy| &policy.ports);
        ports.map(|(number, _)| *number).collect()
    }

    /// The labels by which policies of a namespace select workloads.
    pub fn selecting_labels(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let policies = self.namespaces.get(namespace).into_iter();
        let selecting = policies.flat_map(|policies| &policies.selecting);
        selecting.flat_map(|policy| policy.selector.iter().map(|(name, _)| &**name))
    }

    /// Whether mTLS is off for `target_port` of a workload (split-horizon §1.5).
    pub fn mtls_disabled(&self, namespace: &str, labels: &Labels, target_port: u16) -> bool {
        self.mode(namespace, labels, target_port) == MtlsMode::Disable
    }
}
