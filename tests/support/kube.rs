//! Real Kubernetes API servers, one process each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use kube::{
    Api, Client, Config, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
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
    _process: Child,
    client: Client,
    folder: TempDir,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut process = Command::new(PROGRAM)
            .arg("--dir")
            .arg(folder.path())
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM}: {error}: run `make tools`"));
        let mut lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let line = timeout(LIMIT, lines.next_line()).await;
        if !matches!(&line, Ok(Ok(Some(text))) if text.starts_with("ready ")) {
            let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("the API server did not start: {line:?}\n{log}");
        }
        let client = client(&folder.path().join("kubeconfig")).await;
        Self {
            _process: process,
            client,
            folder,
        }
    }

    /// A kubeconfig of the cluster's administrator that names no other file.
    pub(crate) fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
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

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}
