use std::sync::Arc;

use super::*;
use crate::model::ObjectMeta;

use MtlsMode::{Disable, Permissive, Strict, Unset};

fn policy(namespace: &str, mode: MtlsMode) -> PeerAuthentication {
    PeerAuthentication {
        meta: ObjectMeta {
            created: Arc::from("2026-01-01T00:00:09Z"),
            name: Arc::from("policy"),
            namespace: Namespace::from(namespace),
        },
        selector: Labels::default(),
        mode,
        ports: Vec::new(),
    }
}

fn labels(app: &str) -> Labels {
    [("app", app)].into_iter().collect()
}

fn selecting(namespace: &str, app: &str, mode: MtlsMode) -> PeerAuthentication {
    PeerAuthentication {
        selector: labels(app),
        ..policy(namespace, mode)
    }
}

fn older(mut policy: PeerAuthentication) -> PeerAuthentication {
    policy.meta.created = Arc::from("2026-01-01T00:00:01Z");
    policy.meta.name = Arc::from("older");
    policy
}

fn all(policies: impl IntoIterator<Item = PeerAuthentication>) -> PeerAuthentications {
    PeerAuthentications::new(policies.into_iter().map(Arc::new), "istio-system")
}

/// Mode of port 8080 of `app: web` in namespace `shop`.
fn web(policies: impl IntoIterator<Item = PeerAuthentication>) -> MtlsMode {
    all(policies).mode("shop", &labels("web"), 8080)
}

#[test]
fn without_a_policy_both_are_taken() {
    assert_eq!(web([]), Permissive);
    assert_eq!(web([policy("istio-system", Unset)]), Permissive);
}

#[test]
fn the_narrowest_policy_wins() {
    let mesh = policy("istio-system", Disable);
    let namespace = policy("shop", Strict);
    let workload = selecting("shop", "web", Permissive);
    assert_eq!(web([mesh.clone()]), Disable);
    assert_eq!(web([mesh.clone(), namespace.clone()]), Strict);
    assert_eq!(web([mesh, namespace, workload]), Permissive);
}

#[test]
fn an_unset_mode_inherits() {
    let mesh = policy("istio-system", Disable);
    let unset = [policy("shop", Unset), selecting("shop", "web", Unset)];
    assert_eq!(web([mesh].into_iter().chain(unset)), Disable);
}

#[test]
fn the_oldest_policy_of_a_scope_wins_even_unset() {
    let of =
        |scope: fn(MtlsMode) -> PeerAuthentication| web([scope(Disable), older(scope(Strict))]);
    assert_eq!(of(|mode| policy("istio-system", mode)), Strict);
    assert_eq!(of(|mode| policy("shop", mode)), Strict);
    assert_eq!(of(|mode| selecting("shop", "web", mode)), Strict);
    assert_eq!(
        web([policy("shop", Disable), older(policy("shop", Unset))]),
        Permissive
    );
}

#[test]
fn policies_of_other_workloads_and_namespaces_do_not_count() {
    assert_eq!(web([selecting("shop", "db", Disable)]), Permissive);
    assert_eq!(web([policy("bank", Disable)]), Permissive);
}

#[test]
fn a_selecting_policy_in_the_root_namespace_is_ignored() {
    let root = selecting("istio-system", "web", Disable);
    assert_eq!(web([root.clone()]), Permissive);
    let there = all([root]).mode("istio-system", &labels("web"), 80);
    assert_eq!(there, Permissive);
}

#[test]
fn a_port_counts_only_in_a_selecting_policy() {
    let with_port = |policy: PeerAuthentication| PeerAuthentication {
        ports: vec![(8080, Disable), (9090, Unset)],
        ..policy
    };
    let policies = all([with_port(selecting("shop", "web", Strict))]);
    assert!(policies.mtls_disabled("shop", &labels("web"), 8080));
    assert_eq!(policies.mode("shop", &labels("web"), 9090), Strict);
    assert_eq!(policies.mode("shop", &labels("web"), 80), Strict);
    assert_eq!(web([with_port(policy("shop", Strict))]), Strict);
}
