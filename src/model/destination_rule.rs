//! `DestinationRule`: subsets, and how to talk to a host.

use std::sync::Arc;

use super::{ExportTo, Labels, ObjectMeta, PolicySettings, TlsSetting, TrafficPolicy};

/// A `DestinationRule`, its host made fully qualified.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// Age, name, namespace.
    pub meta: ObjectMeta,
    /// Full host name or wildcard (`*.example.com`, `*`).
    pub host: Arc<str>,
    /// Which namespaces may use it; none means the mesh's default.
    pub export_to: Option<ExportTo>,
    /// Client workloads it applies to; empty means all that see it.
    pub workload_selector: Labels,
    /// Policy for all subsets.
    pub policy: TrafficPolicy,
    /// Named parts of the host.
    pub subsets: Vec<Subset>,
}

/// A named part of a host's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// Name.
    pub name: Arc<str>,
    /// Labels its endpoints carry; empty selects all of them.
    pub labels: Labels,
    /// Policy that wins over the rule's.
    pub policy: TrafficPolicy,
}

impl DestinationRule {
    /// The subset called `name`.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|s| &*s.name == name)
    }

    /// The settings that hold for one subset and service port, where `default`
    /// is the mesh's own for all hosts.
    ///
    /// istiod: an entry for the port replaces the whole of its level, so it does
    /// not inherit outlier detection; then the subset's level replaces the
    /// rule's, part by part, or as a whole where it has an entry for the port.
    pub fn effective(&self, subset: &str, port: u16, default: &PolicySettings) -> PolicySettings {
        let (of_rule, _) = self.policy.for_port(port);
        let merged = of_rule.clone().or(default);
        let Some(subset) = self.subset(subset) else {
            return merged;
        };
        match subset.policy.for_port(port) {
            (of_port, true) => PolicySettings {
                retry_budget: merged.retry_budget,
                ..of_port.clone()
            },
            (all, false) => all.clone().or(&merged),
        }
    }

    /// The TLS mode that some level sets for one subset and port: the subset's
    /// port, the subset, the rule's port, the rule (istio: `mtls_checker.go`).
    pub fn tls_mode(&self, subset: &str, port: u16) -> Option<TlsSetting> {
        let of = |policy: &TrafficPolicy| {
            let for_port = policy.ports.iter().find(|(number, _)| *number == port);
            for_port
                .and_then(|(_, settings)| settings.tls.as_ref())
                .or(policy.base.tls.as_ref())
                .map(|tls| tls.mode)
        };
        // istio: a subset that the rule does not define has no mode at all.
        match (subset.is_empty(), self.subset(subset)) {
            (true, _) => of(&self.policy),
            (false, Some(subset)) => of(&subset.policy).or_else(|| of(&self.policy)),
            (false, None) => None,
        }
    }
}

impl DestinationRule {
    /// Whether some part of it sends calls to their original destination.
    pub fn is_passthrough(&self) -> bool {
        let policies = self.subsets.iter().map(|subset| &subset.policy);
        policies.chain([&self.policy]).any(|policy| {
            let ports = policy.ports.iter().map(|(_, settings)| settings);
            ports
                .chain([&policy.base])
                .any(PolicySettings::is_passthrough)
        })
    }
}
