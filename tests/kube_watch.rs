//! One cluster's real API server: what it holds and how it fails.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod world;
}

use isthmus::{
    mesh::Change,
    model::ObjectKind,
    registry::{
        kube::{KubeMetrics, SyncState, WatchState},
        multicluster::Clusters,
    },
};
use support::{
    kube::ApiServer,
    world::{World, options},
};

const RULES: &str = "destinationrules.networking.istio.io";

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: destinationrules.networking.istio.io}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {plural: destinationrules, singular: destinationrule, kind: DestinationRule}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
}

fn rule(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1beta1, kind: DestinationRule, \
         metadata: {{name: {name}, namespace: default}}, spec: {spec}}}"
    )
}

fn mesh_config_map(mesh: &str) -> String {
    let mesh = serde_json::Value::from(mesh);
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, \
         data: {{mesh: {mesh}}}}}"
    )
}

/// What the counter of unreadable rules says.
fn invalid(metrics: &KubeMetrics) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
    let of = format!("isthmus_invalid_objects_total{{cluster=\"config\",kind=\"{RULES}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&of));
    line.expect("the counter").to_owned()
}

fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_come_and_go_and_so_do_their_kinds() {
    install_crypto();
    let server = ApiServer::start().await;
    server.apply_yaml(&namespace("istio-system")).await;
    let options = options(server.kubeconfig_path());
    let metrics = options.metrics.clone();
    let mut world = World::start(options);
    world
        .until_clusters("ready without any CRD", Clusters::is_ready)
        .await;
    assert!(world.has("config", ObjectKind::Namespace, "istio-system"));
    let report = world.clusters.reports().remove(0);
    assert_eq!(report.sync, SyncState::Synced, "{report:#?}");
    assert_eq!(report.watches[RULES].state, WatchState::Absent);
    assert_eq!(report.watches["pods"].state, WatchState::Synced);

    server.apply_yaml(&namespace("late")).await;
    world
        .until("a namespace", |w| {
            w.has("config", ObjectKind::Namespace, "late")
        })
        .await;

    server.apply_yaml(CRD).await;
    server.apply_yaml(&rule("good", "{host: a}")).await;
    world
        .until("a kind that was installed late", |w| {
            w.has("config", ObjectKind::DestinationRule, "good")
        })
        .await;

    // A broken rewrite keeps the last good version, a broken new object nothing;
    // neither costs the next one anything.
    server.apply_yaml(&rule("good", "{host: []}")).await;
    server.apply_yaml(&rule("bad", "{host: []}")).await;
    server.apply_yaml(&rule("next", "{host: a}")).await;
    world
        .until("the object after a broken one", |w| {
            w.has("config", ObjectKind::DestinationRule, "next")
        })
        .await;
    let names = world.names("config", ObjectKind::DestinationRule);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["good", "next"]);
    assert_eq!(invalid(&metrics), "2");

    server.delete_yaml(&rule("next", "{host: a}")).await;
    world
        .until("a deletion", |w| {
            !w.has("config", ObjectKind::DestinationRule, "next")
        })
        .await;
    server.delete_yaml(CRD).await;
    world
        .until("no objects of a kind that is gone", |w| {
            w.names("config", ObjectKind::DestinationRule).is_empty()
        })
        .await;
    world
        .until_clusters("the kind is absent", |c| {
            c.reports()[0].watches[RULES].state == WatchState::Absent
        })
        .await;
    assert!(world.has("config", ObjectKind::Namespace, "late"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_config_map_is_followed_and_a_malformed_one_changes_nothing() {
    install_crypto();
    let server = ApiServer::start().await;
    server.apply_yaml(&namespace("istio-system")).await;
    let mut world = World::start(options(server.kubeconfig_path()));
    let domains = |w: &World| -> Vec<String> {
        let changes = w.others.iter().filter_map(|(_, change)| match change {
            Change::MeshConfig(mesh) => Some(mesh.trust_domain.to_string()),
            _ => None,
        });
        changes.collect()
    };
    world
        .until("defaults", |w| domains(w) == ["cluster.local"])
        .await;
    for mesh in ["trustDomain: one", "{broken", "trustDomain: two"] {
        server.apply_yaml(&mesh_config_map(mesh)).await;
    }
    world
        .until("the newest settings", |w| {
            domains(w).last().is_some_and(|d| d == "two")
        })
        .await;
    assert!(
        domains(&world)
            .iter()
            .all(|d| d != "cluster.local" || domains(&world)[0] == *d)
    );
    server.delete_yaml(&mesh_config_map("")).await;
    world
        .until("defaults again", |w| {
            domains(w).last().is_some_and(|d| d == "cluster.local")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_crashes_keeps_its_objects_and_is_followed_again() {
    install_crypto();
    let mut server = ApiServer::start().await;
    server.apply_yaml(&namespace("before")).await;
    let kubeconfig = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(kubeconfig.path(), server.kubeconfig("admin-token")).expect("written");
    let mut world = World::start(options(kubeconfig.path().to_owned()));
    world.until_clusters("ready", Clusters::is_ready).await;

    server.stop().await;
    world
        .until_clusters("stale", |c| {
            matches!(c.reports()[0].sync, SyncState::Stale { .. })
        })
        .await;
    let report = world.clusters.reports().remove(0);
    assert!(report.error.is_some(), "{report:#?}");
    assert!(world.has("config", ObjectKind::Namespace, "before"));
    assert!(world.clusters.is_ready());

    server.start_again().await;
    server.apply_yaml(&namespace("after")).await;
    world
        .until("what happened after the crash", |w| {
            w.has("config", ObjectKind::Namespace, "after")
        })
        .await;
    assert!(world.has("config", ObjectKind::Namespace, "before"));
    world
        .until_clusters("synced again", |c| c.reports()[0].sync == SyncState::Synced)
        .await;
}
