//! The Kubernetes API servers of a seed system: real ones, outside the
//! namespaces; control planes reach them through relays.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    seed::{Pod, Seed},
    support::kube::ApiServer,
};

const LIMIT: Duration = Duration::from_mins(1);
const RBAC: &str = include_str!("../../deploy/rbac.yaml");

/// API servers by cluster.
pub(crate) struct Clusters {
    servers: BTreeMap<String, ApiServer>,
}

impl Clusters {
    /// Starts an API server for each cluster, with the cluster's objects.
    pub(crate) async fn start(seed: &Seed) -> Self {
        let crds = crds();
        let started = seed.clusters.iter().map(async |cluster| {
            let server = ApiServer::start().await;
            let objects = fs::read_to_string(seed.scenario.manifest(&cluster.name));
            let objects = objects.expect("manifests");
            for text in [crds.as_str(), &objects, RBAC, &bindings()] {
                server.apply_yaml(text).await;
            }
            (cluster.name.clone(), server)
        });
        let servers = join_all(started).await.into_iter().collect();
        Self { servers }
    }

    /// The loopback ports of all servers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let port = |server: &ApiServer| server.url().rsplit(':').next()?.parse().ok();
        let ports = self
            .servers
            .values()
            .map(|server| port(server).expect("a port"));
        ports.collect()
    }

    /// A kubeconfig for a control plane, which may do what `deploy/rbac.yaml`
    /// grants and no more.
    pub(crate) fn kubeconfig(&self, cluster: &str) -> PathBuf {
        let of_admin = self.servers[cluster].kubeconfig_path();
        of_admin.with_file_name("kubeconfig-reader")
    }

    /// Tells `cluster` how to read another.
    pub(crate) async fn link(&self, cluster: &str, remote: &str) {
        let kubeconfig = fs::read_to_string(self.kubeconfig(remote)).expect("a kubeconfig");
        let name = format!("istio-remote-secret-{remote}");
        let secrets = [(remote, kubeconfig)];
        self.servers[cluster]
            .apply_remote_secret(&name, &secrets)
            .await;
    }

    /// A token of a pod's service account, as the kubelet projects it.
    pub(crate) async fn token(&self, cluster: &str, pod: &Pod) -> String {
        let (namespace, account) = (&pod.namespace, &pod.service_account);
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["istio-ca"], "expirationSeconds": 43200},
        });
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request
            .body(body.to_string().into_bytes())
            .expect("a request");
        let client = self.servers[cluster].client();
        let answer = client.request::<Value>(request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{cluster}: {account}: {error}"));
        let token = answer["status"]["token"].as_str();
        token.expect("a token").to_owned()
    }

    /// The root certificate that a control plane has published in a namespace.
    pub(crate) async fn root(&self, cluster: &str, namespace: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
        let client = self.servers[cluster].client();
        let end = Instant::now() + LIMIT;
        loop {
            let request = http::Request::get(&path)
                .body(Vec::new())
                .expect("a request");
            let answer = client.request::<Value>(request).await;
            if let Ok(map) = &answer
                && let Some(root) = map["data"]["root-cert.pem"].as_str()
            {
                return root.to_owned();
            }
            let late = Instant::now() >= end;
            assert!(
                !late,
                "{cluster}: no istio-ca-root-cert in {namespace}: {answer:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Gives the user of `kubeconfig-reader` all roles of `deploy/rbac.yaml`.
fn bindings() -> String {
    let documents = yaml_serde::Deserializer::from_str(RBAC).map(Value::deserialize);
    let documents = documents.map(|document| document.expect("YAML"));
    let bindings = documents.filter_map(|role| {
        let kind = role["kind"]
            .as_str()
            .filter(|kind| kind.ends_with("Role"))?;
        let name = &role["metadata"]["name"];
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": format!("{kind}Binding"),
            "metadata": {"name": name, "namespace": role["metadata"]["namespace"]},
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "isthmus:readers"}],
        });
        Some(format!("{binding}\n---\n"))
    });
    bindings.collect()
}

fn crds() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .arg("crds")
        .output();
    String::from_utf8(output.expect("isthmus crds").stdout).expect("YAML")
}
