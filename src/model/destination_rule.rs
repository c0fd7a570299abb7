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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionPool, LoadBalancer, OutlierDetection, RetryBudget};

    fn pool(max_connections: u32) -> PolicySettings {
        PolicySettings {
            connection_pool: Some(ConnectionPool {
                max_connections: Some(max_connections),
                ..ConnectionPool::default()
            }),
            ..PolicySettings::default()
        }
    }

    fn budget() -> PolicySettings {
        PolicySettings {
            retry_budget: Some(RetryBudget {
                percent: Some(1.0),
                interval: None,
                min_concurrency: 0,
            }),
            ..PolicySettings::default()
        }
    }

    fn rule(policy: TrafficPolicy, of_subset: TrafficPolicy) -> DestinationRule {
        DestinationRule {
            meta: ObjectMeta::default(),
            host: Arc::from("h"),
            export_to: None,
            workload_selector: Labels::default(),
            policy,
            subsets: vec![Subset {
                name: Arc::from("s"),
                labels: Labels::default(),
                policy: of_subset,
            }],
        }
    }

    fn policy(base: PolicySettings, ports: &[(u16, PolicySettings)]) -> TrafficPolicy {
        TrafficPolicy {
            base,
            ports: ports.to_vec(),
        }
    }

    fn connections(settings: &PolicySettings) -> Option<u32> {
        settings.connection_pool.as_ref()?.max_connections
    }

    #[test]
    fn an_entry_for_a_port_replaces_all_of_its_level() {
        let balanced = PolicySettings {
            load_balancer: Some(LoadBalancer::default()),
            ..pool(1)
        };
        let rule = rule(policy(balanced, &[(80, pool(2))]), TrafficPolicy::default());
        let none = PolicySettings::default();
        let at_80 = rule.effective("", 80, &none);
        assert_eq!((connections(&at_80), at_80.load_balancer), (Some(2), None));
        let at_90 = rule.effective("", 90, &none);
        assert_eq!(connections(&at_90), Some(1));
        assert!(at_90.load_balancer.is_some());
    }

    #[test]
    fn a_subset_wins_over_the_rules_entry_for_the_port() {
        let rule = rule(
            policy(pool(1), &[(80, pool(2))]),
            policy(pool(3), &[(90, PolicySettings::default())]),
        );
        let none = PolicySettings::default();
        let of = |subset, port| connections(&rule.effective(subset, port, &none));
        assert_eq!(of("s", 80), Some(3));
        assert_eq!(of("s", 90), None, "its entry for the port replaces all");
        assert_eq!(of("s", 70), Some(3));
        assert_eq!(of("undefined", 80), Some(2));
    }

    #[test]
    fn a_retry_budget_is_of_no_port() {
        let rule = rule(
            policy(budget(), &[(80, pool(2))]),
            policy(PolicySettings::default(), &[(90, pool(3))]),
        );
        let none = PolicySettings::default();
        let has = |subset, port| rule.effective(subset, port, &none).retry_budget.is_some();
        assert!(!has("", 80));
        assert!(has("s", 90));
    }

    #[test]
    fn the_meshs_default_fills_what_the_rules_level_leaves_out() {
        let default = PolicySettings {
            outlier_detection: Some(OutlierDetection::default()),
            ..pool(9)
        };
        let rule = rule(
            policy(pool(1), &[]),
            policy(PolicySettings::default(), &[(90, pool(3))]),
        );
        let whole = rule.effective("", 80, &default);
        assert_eq!(connections(&whole), Some(1));
        assert!(whole.outlier_detection.is_some());
        assert!(
            rule.effective("s", 80, &default)
                .outlier_detection
                .is_some()
        );
        let for_port = rule.effective("s", 90, &default);
        assert!(for_port.outlier_detection.is_none());
    }
}
