//! All scenarios through real kube-apiservers and remote Secrets: each proxy is
//! sent where istiod sends it. The control planes have only the rights that
//! `deploy/rbac.yaml` grants.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod plane;
    pub(crate) mod scenario;
}

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf, process::Command};

use futures::future::join_all;
use isthmus::testing::record::{ControlPlane, Scenario};
use support::{
    kube::ApiServer,
    plane::Plane,
    scenario::{assert_answers_as_istiod, read},
};

const RBAC: &str = include_str!("../deploy/rbac.yaml");

/// The roles of `deploy/rbac.yaml`, those of istiod's account where a control
/// plane runs and those of its reader elsewhere, for the user of
/// `kubeconfig-reader`.
fn roles(scenario: &Scenario, cluster: &str) -> String {
    let mut planes = scenario.control_planes.iter();
    let account = if planes.any(|of| of.cluster == cluster) {
        "istiod"
    } else {
        "istio-reader-service-account"
    };
    let account = format!("{{kind: ServiceAccount, name: {account}, namespace: istio-system}}");
    let user = "{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'isthmus:readers'}";
    let roles = RBAC.replace(&account, user);
    assert_ne!(roles, RBAC);
    roles
}

type Servers = BTreeMap<String, ApiServer>;

async fn compare(name: &str) {
    let scenario = read(name);
    let servers = start(&scenario).await;
    for of in &scenario.control_planes {
        for remote in &of.remote {
            let secret = remote_secret(remote, &servers[remote]);
            servers[&of.cluster].apply_yaml(&secret).await;
        }
        let plane = Plane::start(&of.cluster, &source(&scenario, of, &servers)).await;
        assert_answers_as_istiod(&scenario, of, &plane).await;
    }
}

async fn start(scenario: &Scenario) -> Servers {
    let crds = crds();
    let crds = crds.as_str();
    let started = scenario.clusters.iter().map(async |cluster| {
        let server = ApiServer::start().await;
        server.apply_yaml(crds).await;
        let objects = fs::read_to_string(scenario.manifest(cluster)).expect("manifests");
        server.apply_yaml(&objects).await;
        server.apply_yaml(&roles(scenario, cluster)).await;
        (cluster.clone(), server)
    });
    join_all(started).await.into_iter().collect()
}

fn crds() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .arg("crds")
        .output();
    let output = output.expect("isthmus crds");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("YAML")
}

fn reader(server: &ApiServer) -> PathBuf {
    server.kubeconfig_path().with_file_name("kubeconfig-reader")
}

/// As `istioctl create-remote-secret` writes it.
fn remote_secret(name: &str, of: &ApiServer) -> String {
    let kubeconfig = fs::read_to_string(reader(of)).expect("a kubeconfig");
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("istio-remote-secret-{name}"),
            "namespace": "istio-system",
            "labels": { "istio/multiCluster": "true" },
            "annotations": { "networking.istio.io/cluster": name },
        },
        "stringData": { name: kubeconfig },
    });
    secret.to_string()
}

fn source(scenario: &Scenario, of: &ControlPlane, servers: &Servers) -> Vec<OsString> {
    vec![
        "--kubeconfig".into(),
        reader(&servers[&of.cluster]).into(),
        "--meshConfig".into(),
        scenario.mesh_config().into(),
        "--networksConfig".into(),
        scenario.mesh_networks().into(),
    ]
}

#[tokio::test]
async fn flat_bookinfo_is_answered_as_by_istiod() {
    compare("flat-bookinfo").await;
}

#[tokio::test]
async fn hosted_three_networks_is_answered_as_by_istiod() {
    compare("hosted-three-networks").await;
}

#[tokio::test]
async fn multi_primary_canary_is_answered_as_by_istiod() {
    compare("multi-primary-canary").await;
}

#[tokio::test]
async fn multi_primary_discovery_only_is_answered_as_by_istiod() {
    compare("multi-primary-discovery-only").await;
}

#[tokio::test]
async fn primary_remote_is_answered_as_by_istiod() {
    compare("primary-remote").await;
}
