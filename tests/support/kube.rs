//! Real Kubernetes API servers, one process each.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{ApiResource, Scope, pinned_kind},
};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// `make tools` builds it from `tests/kube-apiserver`.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/kube-apiserver");

/// How long the server or one request may take; three servers start at once on
/// two cores.
const LIMIT: Duration = Duration::from_mins(2);

/// A running API server. Dropping it kills it, and it ends by itself when this
/// process ends in any other way.
pub(crate) struct ApiServer {
    process: Child,
    url: String,
    client: Client,
    folder: TempDir,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (process, url) = spawn(folder.path(), 0).await;
        let client = client(&folder.path().join("kubeconfig")).await;
        Self {
            process,
            url,
            client,
            folder,
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Kills the server as a crash would.
    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.expect("killed");
    }

    /// Starts it again on its old port, with its old objects. Its certificate
    /// is new: only [`Self::kubeconfig`] goes on working.
    pub(crate) async fn start_again(&mut self) {
        let port = self.url.rsplit(':').next().expect("a port");
        let port = port.parse().expect("a port");
        (self.process, self.url) = spawn(self.folder.path(), port).await;
        self.client = client(&self.kubeconfig_path()).await;
    }

    /// A kubeconfig of the cluster's administrator that names no other file.
    pub(crate) fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A kubeconfig for a user's token (`admin-token`, `reader-token`) that
    /// trusts whatever certificate the server has.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        kubeconfig(&self.url, token)
    }

    /// A client of the administrator.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Makes or changes a remote Secret in `istio-system`: cluster → kubeconfig.
    pub(crate) async fn apply_remote_secret(&self, name: &str, clusters: &[(&str, String)]) {
        let data: serde_json::Map<_, _> = clusters
            .iter()
            .map(|(cluster, text)| ((*cluster).to_owned(), BASE64_STANDARD.encode(text).into()))
            .collect();
        let secret = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": "istio-system",
                "labels": {"istio/multiCluster": "true"},
            },
            "data": data,
        });
        self.apply_yaml(&secret.to_string()).await;
    }

    /// Deletes a remote Secret.
    pub(crate) async fn delete_remote_secret(&self, name: &str) {
        let metadata = format!("{{name: {name}, namespace: istio-system}}");
        let secret = format!("{{apiVersion: v1, kind: Secret, metadata: {metadata}}}");
        self.delete_yaml(&secret).await;
    }

    /// Deletes the objects; those that do not exist are no error.
    pub(crate) async fn delete_yaml(&self, text: &str) {
        for document in yaml_serde::Deserializer::from_str(text) {
            let object = DynamicObject::deserialize(document).expect("an object");
            let api = self.api(&object).await;
            let name = object.name_any();
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    /// Creates or updates the objects, their status included, in their order.
    pub(crate) async fn apply_yaml(&self, text: &str) {
        for document in yaml_serde::Deserializer::from_str(text) {
            let object = Option::<DynamicObject>::deserialize(document).expect("an object");
            if let Some(object) = object {
                self.apply(object).await;
            }
        }
    }

    async fn apply(&self, object: DynamicObject) {
        let name = object.name_any();
        let api = self.api(&object).await;
        let params = PatchParams::apply("isthmus-test").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if object.data.get("status").is_some() {
            api.patch_status(&name, &params, &Patch::Apply(&object))
                .await
                .unwrap_or_else(|error| panic!("status of {name}: {error}"));
        }
    }

    /// A kind is served some time after its CRD was created.
    async fn api(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.as_ref().expect("apiVersion and kind");
        let kind = GroupVersionKind::try_from(types).expect("apiVersion and kind");
        let end = Instant::now() + LIMIT;
        let (resource, scope) = loop {
            match pinned_kind(&self.client, &kind).await {
                Ok((resource, capabilities)) => break (resource, capabilities.scope),
                Err(error) => assert!(Instant::now() < end, "{kind:?}: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        self.scoped(&resource, &scope, object)
    }

    fn scoped(
        &self,
        of: &ApiResource,
        scope: &Scope,
        object: &DynamicObject,
    ) -> Api<DynamicObject> {
        let client = self.client.clone();
        match (scope, object.namespace()) {
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client, &namespace, of),
            (Scope::Namespaced, None) => Api::default_namespaced_with(client, of),
            (Scope::Cluster, _) => Api::all_with(client, of),
        }
    }
}

/// A kubeconfig that trusts whatever certificate the server has.
pub(crate) fn kubeconfig(url: &str, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    })
    .to_string()
}

async fn spawn(folder: &Path, port: u16) -> (Child, String) {
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut process = Command::new(PROGRAM)
        .arg("--dir")
        .arg(folder)
        .arg(format!("--port={port}"))
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{PROGRAM}: {error}: run `make tools`"));
    let mut lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
    let line = timeout(LIMIT, lines.next_line()).await;
    if let Ok(Ok(Some(text))) = &line
        && let Some(url) = text.strip_prefix("ready ")
    {
        return (process, url.to_owned());
    }
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    panic!("the API server did not start: {line:?}\n{log}");
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}
