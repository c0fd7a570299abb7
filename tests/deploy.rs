//! What `deploy/` grants and starts.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
}

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use support::kube::ApiServer;

const RBAC: &str = include_str!("../deploy/rbac.yaml");
const EXTERNAL: &str = include_str!("../deploy/rbac-external.yaml");
const DEPLOYMENT: &str = include_str!("../deploy/deployment.yaml");
const NAMESPACE: &str =
    r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}"#;

fn documents(text: &str) -> Vec<Value> {
    let documents = yaml_serde::Deserializer::from_str(text);
    documents
        .map(|document| Value::deserialize(document).expect("YAML"))
        .collect()
}

/// `role: verb resource [names]` of every rule that does not only read.
fn writes(documents: &[Value]) -> BTreeSet<String> {
    let text = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        let words: Vec<_> = words.filter_map(Value::as_str).collect();
        words.join(",")
    };
    let mut writes = BTreeSet::new();
    for document in documents {
        let role = document["metadata"]["name"].as_str().expect("a name");
        for rule in document["rules"].as_array().into_iter().flatten() {
            let (resources, names) = (text(&rule["resources"]), text(&rule["resourceNames"]));
            for verb in rule["verbs"].as_array().expect("verbs") {
                let verb = verb.as_str().expect("a verb");
                if !["get", "list", "watch"].contains(&verb) {
                    writes.insert(format!("{role}: {verb} {resources} [{names}]"));
                }
            }
        }
    }
    writes
}

#[test]
fn the_roles_grant_what_is_written_and_no_more() {
    let expected = [
        "isthmus-ca: create secrets []",
        "isthmus-lock: update configmaps [istio-namespace-controller-election]",
        "isthmus-root-cert: create configmaps []",
        "isthmus-root-cert: update configmaps [istio-ca-root-cert]",
        "isthmus-token-review: create tokenreviews []",
    ];
    let granted = writes(&documents(RBAC));
    assert_eq!(granted, expected.map(str::to_owned).into());
    assert!(writes(&documents(EXTERNAL)).is_empty(), "it binds only");
}

#[test]
fn readers_of_remote_clusters_may_write_nothing() {
    let reviews = "isthmus-token-review";
    for binding in documents(RBAC) {
        let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let reader = subjects
            .map(|subject| &subject["name"])
            .any(|name| name == "istio-reader-service-account");
        let harmless = role == "isthmus-reader" || role == reviews;
        assert!(!reader || harmless, "{role}");
    }
}

#[tokio::test]
async fn an_api_server_takes_the_manifests() {
    let server = ApiServer::start().await;
    server.apply_yaml(NAMESPACE).await;
    server.apply_yaml(RBAC).await;
    server.apply_yaml(EXTERNAL).await;
    server.apply_yaml(DEPLOYMENT).await;
}
