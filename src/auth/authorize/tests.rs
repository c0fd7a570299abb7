use super::*;
use crate::auth::Via;
use crate::testing::snapshot::sidecar;

fn caller(ids: &[&str]) -> Caller {
    Caller {
        identities: ids.iter().map(|&id| id.to_owned()).collect(),
        via: Via::Kubernetes,
    }
}

fn proxy(namespace: &str, account: &str) -> Proxy {
    Proxy {
        namespace: namespace.into(),
        service_account: account.into(),
        ..sidecar(namespace)
    }
}

#[test]
fn namespace_and_service_account_must_be_the_callers() {
    let caller = caller(&["spiffe://td/ns/shop/sa/web"]);
    let verified = caller.authorize(&proxy("shop", "web")).unwrap();
    assert_eq!(verified.to_string(), "spiffe://td/ns/shop/sa/web");
    for (namespace, account) in [("other", "web"), ("shop", "other"), ("web", "shop")] {
        let error = caller.authorize(&proxy(namespace, account)).unwrap_err();
        assert_eq!(error.wanted, format!("{namespace}/{account}"));
    }
}

#[test]
fn a_proxy_without_service_account_needs_the_namespace_only() {
    let caller = caller(&["spiffe://td/ns/shop/sa/web"]);
    assert!(caller.authorize(&proxy("shop", "")).is_ok());
    assert!(caller.authorize(&proxy("other", "")).is_err());
    assert!(caller.authorize(&proxy("", "web")).is_ok());
}

#[test]
fn one_of_several_identities_is_enough_and_others_than_workloads_count_for_nothing() {
    let two = caller(&[
        "web.shop.svc",
        "spiffe://td/ns/a/sa/x",
        "spiffe://td/ns/b/sa/y",
    ]);
    assert!(two.authorize(&proxy("b", "y")).is_ok());
    // Not the namespace of one with the account of the other.
    assert!(two.authorize(&proxy("a", "y")).is_err());
    assert!(caller(&["shop"]).authorize(&proxy("shop", "")).is_err());
}

#[test]
fn a_long_claim_is_told_short_and_printable() {
    let long = format!("{}\n", "x".repeat(5000));
    let error = caller(&["a"]).authorize(&proxy(&long, "\n")).unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
}
