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

use serde::Deserialize;
use serde_json::Value;
use support::kube::ApiServer;

const RBAC: &str = include_str!("../deploy/rbac.yaml");
const DEPLOYMENT: &str = include_str!("../deploy/deployment.yaml");
const NAMESPACE: &str =
    r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}"#;

fn documents(text: &str) -> Vec<Value> {
    let documents = yaml_serde::Deserializer::from_str(text);
    documents
        .map(|document| Value::deserialize(document).expect("YAML"))
        .collect()
}

#[test]
fn the_roles_grant_reading_only() {
    let documents = documents(RBAC);
    let rules = documents.iter().filter_map(|d| d.get("rules")?.as_array());
    let verbs: Vec<_> = rules
        .flatten()
        .flat_map(|rule| rule["verbs"].as_array().expect("verbs"))
        .collect();
    assert!(!verbs.is_empty());
    for verb in verbs {
        let verb = verb.as_str().expect("a verb");
        assert!(["get", "list", "watch"].contains(&verb), "{verb}");
    }
}

#[tokio::test]
async fn an_api_server_takes_the_manifests() {
    let server = ApiServer::start().await;
    server.apply_yaml(NAMESPACE).await;
    server.apply_yaml(RBAC).await;
    server.apply_yaml(DEPLOYMENT).await;
}
