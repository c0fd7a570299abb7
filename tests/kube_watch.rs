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

use std::sync::Arc;

use isthmus::{
    mesh::{Change, ObjectKind},
    model::MeshConfig,
    registry::kube::{SyncState, WatchState},
};
use support::{
    kube::ApiServer,
    world::{World, options},
};

const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: serviceexports.multicluster.x-k8s.io}
spec:
  group: multicluster.x-k8s.io
  scope: Namespaced
  names: {plural: serviceexports, singular: serviceexport, kind: ServiceExport}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
}

fn export(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: multicluster.x-k8s.io/v1alpha1, kind: ServiceExport, \
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
        .until_clusters("ready without any CRD", |c| c.is_ready())
        .await;
    assert!(world.has("config", ObjectKind::Namespace, "istio-system"));
    let report = world.clusters.reports().remove(0);
    assert_eq!(report.sync, SyncState::Synced, "{report:#?}");
    assert_eq!(report.watches[EXPORTS].state, WatchState::Absent);
    assert_eq!(report.watches["pods"].state, WatchState::Synced);

    server.apply_yaml(&namespace("late")).await;
    world
        .until("a namespace", |w| {
            w.has("config", ObjectKind::Namespace, "late")
        })
        .await;

    server.apply_yaml(CRD).await;
    server.apply_yaml(&export("good", "{}")).await;
    world
        .until("a kind that was installed late", |w| {
            w.has("config", ObjectKind::ServiceExport, "good")
        })
        .await;

    // A broken rewrite keeps the last good version, a broken new object nothing;
    // neither costs the next one anything.
    server.apply_yaml(&export("good", "{broken: true}")).await;
    server.apply_yaml(&export("bad", "{broken: true}")).await;
    server.apply_yaml(&export("next", "{}")).await;
    world
        .until("the object after a broken one", |w| {
            w.has("config", ObjectKind::ServiceExport, "next")
        })
        .await;
    let names = world.names("config", ObjectKind::ServiceExport);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["good", "next"]);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
    let counter =
        format!("isthmus_invalid_objects_total{{cluster=\"config\",kind=\"{EXPORTS}\"}} 2");
    assert!(text.contains(&counter), "{text}");

    server.delete_yaml(&export("next", "{}")).await;
    world
        .until("a deletion", |w| {
            !w.has("config", ObjectKind::ServiceExport, "next")
        })
        .await;
    server.delete_yaml(CRD).await;
    world
        .until("no objects of a kind that is gone", |w| {
            w.names("config", ObjectKind::ServiceExport).is_empty()
        })
        .await;
    world
        .until_clusters("the kind is absent", |c| {
            c.reports()[0].watches[EXPORTS].state == WatchState::Absent
        })
        .await;
    assert!(world.has("config", ObjectKind::Namespace, "late"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_config_map_is_followed_and_a_malformed_one_changes_nothing() {
    install_crypto();
    let server = ApiServer::start().await;
    server.apply_yaml(&namespace("istio-system")).await;
    let mut options = options(server.kubeconfig_path());
    options.mesh = Some(Arc::new(|text: &str| match text {
        "broken" => Err("broken".to_owned()),
        text => Ok(MeshConfig {
            trust_domain: Arc::from(text),
            ..MeshConfig::default()
        }),
    }));
    let mut world = World::start(options);
    let domains = |w: &World| -> Vec<String> {
        let changes = w.others.iter().filter_map(|(_, change)| match change {
            Change::MeshConfig(mesh) => Some(mesh.trust_domain.to_string()),
            _ => None,
        });
        changes.collect()
    };
    world.until("defaults", |w| domains(w) == [""]).await;
    for mesh in ["one", "broken", "two"] {
        server.apply_yaml(&mesh_config_map(mesh)).await;
    }
    world
        .until("the newest settings", |w| {
            domains(w).last().is_some_and(|d| d == "two")
        })
        .await;
    assert!(!domains(&world).contains(&"broken".to_owned()));
    server.delete_yaml(&mesh_config_map("")).await;
    world
        .until("defaults again", |w| {
            domains(w).last().is_some_and(String::is_empty)
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
    world.until_clusters("ready", |c| c.is_ready()).await;

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
