//! `PeerAuthentication`: the mTLS mode of a workload's port.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use crate::model::{Labels, MtlsMode, Namespace, PeerAuthentication};

/// Policies of one namespace.
#[derive(Debug, Clone, Default)]
struct Policies {
    /// Mode of its oldest policy without selector.
    mode: Option<MtlsMode>,
    /// Policies with a selector, oldest first.
    selecting: Vec<Arc<PeerAuthentication>>,
}

/// All `PeerAuthentication`s of the mesh.
#[derive(Debug, Clone, Default)]
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
        let selecting = policies.selecting.iter();
        let mut selecting = selecting.filter(|policy| labels.contains_all(&policy.selector));
        let Some(policy) = selecting.next() else {
            return inherited;
        };
        let for_port = policy.ports.iter().find(|(number, _)| *number == port);
        let for_port = for_port.map_or(MtlsMode::Unset, |(_, mode)| *mode);
        for_port.or(policy.mode).or(inherited)
    }

    /// Whether mTLS is off for `target_port` of a workload (split-horizon §1.5).
    pub fn mtls_disabled(&self, namespace: &str, labels: &Labels, target_port: u16) -> bool {
        self.mode(namespace, labels, target_port) == MtlsMode::Disable
    }
}
