//! The root certificate in every namespace of real API servers, under istiod's
//! lock.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
}

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use isthmus::{
    controllers::{Inputs, Metrics, Options, Pace, run},
    mesh::{MeshState, Snapshot, SnapshotReader, Update, Writer},
    model::{ClusterId, LabelSelector, MeshConfig},
    registry::kube::ApiClients,
};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use support::kube::ApiServer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(2);
const NAME: &str = "istio-ca-root-cert";
const LOCK: &str = "istio-namespace-controller-election";
const RECORD: &str = "control-plane.alpha.kubernetes.io/leader";

/// One control plane's controllers.
struct Plane {
    root: watch::Sender<Arc<str>>,
    mesh: Writer,
    snapshots: SnapshotReader,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Plane {
    fn start(options: Options, clients: ApiClients, root: &str) -> Self {
        Self::with_mesh(options, clients, root, MeshConfig::default())
    }

    fn with_mesh(options: Options, clients: ApiClients, root: &str, config: MeshConfig) -> Self {
        let (root, roots) = watch::channel(Arc::from(root));
        let (mesh, snapshots) = Writer::new();
        let snapshot = Snapshot::default().next(mesh_update(config));
        mesh.publish(Arc::new(snapshot));
        let (metrics, stop) = (options.metrics.clone(), CancellationToken::new());
        let inputs = Inputs {
            clients,
            root: roots,
            snapshots: snapshots.clone(),
        };
        let run = run(options, inputs, stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { run.await.expect("no controller panics") });
        Self {
            root,
            mesh,
            snapshots,
            metrics,
            stop,
            tasks,
        }
    }

    /// Lets it go down as at a SIGTERM.
    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("it ends");
        }
    }

    fn leads(&self, cluster: &str) -> bool {
        self.metrics.leads(&ClusterId::from(cluster))
    }
}

fn selecting(label: (&str, &str)) -> MeshConfig {
    MeshConfig {
        discovery_selectors: vec![LabelSelector {
            labels: [label].into_iter().collect(),
            ..LabelSelector::default()
        }],
        ..MeshConfig::default()
    }
}

fn mesh_update(config: MeshConfig) -> Update {
    let state = MeshState {
        config: Arc::new(config),
        ..MeshState::default()
    };
    Update {
        mesh: Some(Arc::new(state)),
        ..Update::default()
    }
}

#[allow(clippy::disallowed_methods, reason = "a test has no other clock")]
fn options(identity: &str) -> Options {
    Options {
        config_cluster: ClusterId::from("own"),
        identity: identity.to_owned(),
        revision: "default".to_owned(),
        system_namespace: Arc::from("istio-system"),
        external: false,
        elects: true,
        pace: Pace {
            lease: Duration::from_secs(4),
        },
        clock: SystemTime::now,
        config_map: Arc::from(NAME),
        metrics: Metrics::default(),
    }
}

/// Something that reads as a certificate.
fn pem(content: &str) -> String {
    let body = BASE64_STANDARD.encode(content);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
}

fn annotated(name: &str, clusters: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, annotations: \
         {{topology.istio.io/controlPlaneClusters: '{clusters}'}}}}}}"
    )
}

async fn start() -> (ApiServer, Client) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = ApiServer::start().await;
    for name in ["istio-system", "shop"] {
        server.apply_yaml(&namespace(name)).await;
    }
    let client = client(&server.kubeconfig_path()).await;
    (server, client)
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

fn clients(all: &[(&str, &Client)]) -> ApiClients {
    let all = all.iter();
    all.map(|(name, client)| (ClusterId::from(*name), (*client).clone()))
        .collect()
}

async fn maps(client: &Client) -> BTreeMap<String, ConfigMap> {
    let api: Api<ConfigMap> = Api::all(client.clone());
    let fields = format!("metadata.name={NAME}");
    let params = kube::api::ListParams::default().fields(&fields);
    let all = api.list(&params).await.expect("ConfigMaps");
    all.into_iter()
        .map(|map| (map.namespace().expect("a namespace"), map))
        .collect()
}

fn root(map: Option<&ConfigMap>) -> Option<&str> {
    map?.data.as_ref()?.get("root-cert.pem").map(String::as_str)
}

async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let end = Instant::now() + LIMIT;
    while !done().await {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the ConfigMaps of these namespaces, and no others, hold `text`.
async fn until_only(client: &Client, namespaces: &[&str], text: &str) {
    let mut held = BTreeMap::new();
    let end = Instant::now() + LIMIT;
    loop {
        let maps = maps(client).await;
        let same = maps.values().all(|map| root(Some(map)) == Some(text));
        if same && maps.keys().eq(namespaces) {
            return;
        }
        for (name, map) in maps {
            held.insert(name, root(Some(&map)).unwrap_or_default().to_owned());
        }
        assert!(Instant::now() < end, "not {namespaces:?}: {held:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn until_holds(client: &Client, namespace: &str, text: &str) {
    until(&format!("the root in {namespace}"), async || {
        root(maps(client).await.get(namespace)) == Some(text)
    })
    .await;
}

async fn holder(client: &Client) -> Option<String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "istio-system");
    let map = api.get_opt(LOCK).await.expect("an answer")?;
    let record: serde_json::Value =
        serde_json::from_str(map.annotations().get(RECORD)?).expect("a record");
    Some(record["holderIdentity"].as_str()?.to_owned())
}

fn changed_map(namespace: &str, text: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {NAME}, namespace: {namespace}}}, \
         data: {{root-cert.pem: '{text}', other: kept}}}}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_namespace_has_the_root_and_keeps_it() {
    let (server, api) = start().await;
    let first = pem("first");
    let plane = Plane::start(options("a"), clients(&[("own", &api)]), &first);
    // kube-public and kube-node-lease have none, as with istiod.
    let all = ["default", "istio-system", "kube-system", "shop"];
    until_only(&api, &all, &first).await;
    let map = &maps(&api).await["shop"];
    assert_eq!(map.labels()["istio.io/config"], "true");
    assert_eq!(map.data.as_ref().expect("data").len(), 1);

    // Edited: the key is put right, the rest is somebody's.
    server.apply_yaml(&changed_map("shop", "mine")).await;
    until_holds(&api, "shop", &first).await;
    let map = &maps(&api).await["shop"];
    assert_eq!(map.data.as_ref().expect("data")["other"], "kept");
    // Deleted.
    server.delete_yaml(&changed_map("shop", "")).await;
    until_holds(&api, "shop", &first).await;
    // A new namespace.
    server.apply_yaml(&namespace("late")).await;
    until_holds(&api, "late", &first).await;
    // Another root.
    let second = pem("first") + &pem("second");
    plane.root.send_replace(Arc::from(second.as_str()));
    let all = ["default", "istio-system", "kube-system", "late", "shop"];
    until_only(&api, &all, &second).await;

    // A process that stops gives the lock back.
    assert_eq!(holder(&api).await.as_deref(), Some("a"));
    plane.stop().await;
    assert_eq!(holder(&api).await.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_that_discovery_leaves_out_are_not_written() {
    let (server, api) = start().await;
    let text = pem("root");
    let mesh = selecting(("mesh", "yes"));
    let plane = Plane::with_mesh(options("a"), clients(&[("own", &api)]), &text, mesh);
    let labelled =
        "{apiVersion: v1, kind: Namespace, metadata: {name: mesh, labels: {mesh: 'yes'}}}";
    server.apply_yaml(labelled).await;
    until_only(&api, &["mesh"], &text).await;
    // Selected later, and told apart no more.
    let plain = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {mesh: 'yes'}}}";
    server.apply_yaml(plain).await;
    until_only(&api, &["mesh", "shop"], &text).await;
    let everything = plane
        .snapshots
        .latest()
        .next(mesh_update(MeshConfig::default()));
    plane.mesh.publish(Arc::new(everything));
    let all = ["default", "istio-system", "kube-system", "mesh", "shop"];
    until_only(&api, &all, &text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_clusters_are_written_only_where_they_ask_for_it() {
    let (_own, own) = start().await;
    let (asks, asking) = start().await;
    let (_quiet, quiet) = start().await;
    let text = pem("root");
    let all = [("own", &own), ("asks", &asking), ("quiet", &quiet)];
    asks.apply_yaml(&annotated("istio-system", "elsewhere,own"))
        .await;

    // A remote cluster that is only read is never written to.
    let plane = Plane::start(options("reader"), clients(&all), &text);
    until_holds(&own, "shop", &text).await;
    assert!(maps(&asking).await.is_empty() && holder(&asking).await.is_none());
    plane.stop().await;

    let external = Options {
        external: true,
        ..options("external")
    };
    let plane = Plane::start(external, clients(&all), &text);
    until_holds(&asking, "shop", &text).await;
    assert_eq!(holder(&asking).await.as_deref(), Some("external"));
    let api: Api<ConfigMap> = Api::namespaced(asking.clone(), "istio-system");
    let lock = api.get(LOCK).await.expect("the lock");
    assert!(lock.annotations()[RECORD].contains(r#""holderKey":"^default""#));

    // It asks no longer: the lock is given back, and nothing is repaired.
    asks.apply_yaml(&annotated("istio-system", "elsewhere"))
        .await;
    until("the lock is free", async || {
        holder(&asking).await.as_deref() == Some("")
    })
    .await;
    asks.delete_yaml(&changed_map("shop", "")).await;
    // One for all asks again.
    assert!(!plane.leads("asks"));
    assert!(root(maps(&asking).await.get("shop")).is_none());
    asks.apply_yaml(&annotated("istio-system", "*")).await;
    until_holds(&asking, "shop", &text).await;
    assert!(maps(&quiet).await.is_empty() && holder(&quiet).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_control_planes_one_writes_and_the_other_takes_over() {
    let (server, api) = start().await;
    let (ours, theirs) = (pem("ours"), pem("theirs"));
    let first = Plane::start(options("first"), clients(&[("own", &api)]), &theirs);
    until_holds(&api, "shop", &theirs).await;
    let second = Plane::start(options("second"), clients(&[("own", &api)]), &ours);

    // Its root is not ours: told, not fought over.
    let own = ClusterId::from("own");
    until("the foreign root is told", async || {
        second.metrics.has_foreign_root(&own)
    })
    .await;
    assert!(!second.leads("own"));
    server.delete_yaml(&changed_map("shop", "")).await;
    until_holds(&api, "shop", &theirs).await;
    assert_eq!(holder(&api).await.as_deref(), Some("first"));

    // Killed: it gives nothing back.
    drop(first);
    until_holds(&api, "shop", &ours).await;
    assert_eq!(holder(&api).await.as_deref(), Some("second"));
    assert!(second.leads("own") && !second.metrics.has_foreign_root(&own));
    let all = ["default", "istio-system", "kube-system", "shop"];
    until_only(&api, &all, &ours).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_istiod_that_renews_its_lock_is_left_alone() {
    let (server, api) = start().await;
    // What istiod wrote, by a clock that is hours away.
    let record = |renewed: u32| {
        let record = format!(
            r#"{{"holderIdentity":"istiod-x","holderKey":"default","leaseDurationSeconds":30,"acquireTime":"2001-01-01T00:00:00Z","renewTime":"2001-01-01T00:00:{renewed:02}Z","leaderTransitions":7}}"#
        );
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {LOCK}, namespace: istio-system, \
             annotations: {{{RECORD}: '{record}'}}}}}}"
        )
    };
    server.apply_yaml(&record(0)).await;
    let plane = Plane::start(options("isthmus"), clients(&[("own", &api)]), &pem("ours"));
    for second in 1..8 {
        sleep(Duration::from_secs(1)).await;
        server.apply_yaml(&record(second)).await;
        assert_eq!(holder(&api).await.as_deref(), Some("istiod-x"));
        assert!(!plane.leads("own") && maps(&api).await.is_empty());
    }
    // It says nothing any more.
    until_holds(&api, "shop", &pem("ours")).await;
    let api: Api<ConfigMap> = Api::namespaced(api.clone(), "istio-system");
    let lock = api.get(LOCK).await.expect("the lock");
    assert!(lock.annotations()[RECORD].contains(r#""leaderTransitions":8"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_election_the_lock_is_not_touched() {
    let (_server, api) = start().await;
    let options = Options {
        elects: false,
        ..options("only")
    };
    let text = pem("root");
    let plane = Plane::start(options, clients(&[("own", &api)]), &text);
    until_holds(&api, "shop", &text).await;
    assert!(holder(&api).await.is_none());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_of_the_deployment_are_enough() {
    let (server, admin) = start().await;
    server.apply_yaml(include_str!("../deploy/rbac.yaml")).await;
    let account =
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: istiod, namespace: istio-system}}";
    server.apply_yaml(account).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "istio-system");
    let (params, request) = (PostParams::default(), TokenRequest::default());
    let answer = accounts.create_token_request("istiod", &params, &request);
    let status = answer.await.expect("an answer").status;
    let token = status.and_then(|s| s.token).expect("a token");
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(&token)).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let client = Client::try_from(config.expect("a configuration")).expect("a client");

    let (first, second) = (pem("first"), pem("second"));
    let plane = Plane::start(self::options("a"), clients(&[("own", &client)]), &first);
    let all = ["default", "istio-system", "kube-system", "shop"];
    until_only(&admin, &all, &first).await;
    plane.root.send_replace(Arc::from(second.as_str()));
    until_only(&admin, &all, &second).await;
    plane.stop().await;
    assert_eq!(holder(&admin).await.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_revision_takes_over_from_a_living_canary() {
    let (server, api) = start().await;
    let canary = Options {
        revision: "canary".to_owned(),
        ..options("canary-0")
    };
    let (old, new) = (pem("old"), pem("new"));
    let canary = Plane::start(canary, clients(&[("own", &api)]), &old);
    until_holds(&api, "shop", &old).await;
    let default = Plane::start(options("default-0"), clients(&[("own", &api)]), &new);
    until("the foreign root is told", async || {
        default.metrics.has_foreign_root(&ClusterId::from("own"))
    })
    .await;
    let tag = "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, \
               metadata: {name: istio-revision-tag-default, labels: {istio.io/rev: default}}, \
               webhooks: []}";
    server.apply_yaml(tag).await;
    until_holds(&api, "shop", &new).await;
    until("the canary sees it", async || !canary.leads("own")).await;
    assert!(default.leads("own"));
    assert_eq!(holder(&api).await.as_deref(), Some("default-0"));
}
