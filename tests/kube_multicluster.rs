//! Several real API servers: remote clusters join, change credentials, fail and
//! leave.

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

use std::{sync::Arc, time::Duration};

use isthmus::{
    mesh::Change,
    model::ClusterId,
    model::ObjectKind,
    registry::{
        kube::{ClusterReport, SyncState, WatchState},
        multicluster::Clusters,
    },
};
use support::{
    kube::{ApiServer, kubeconfig},
    world::{World, options},
};

/// Lets `isthmus:readers` read all but Nodes.
const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- apiGroups: ['', discovery.k8s.io, apiextensions.k8s.io]
  resources: [namespaces, services, pods, endpointslices, customresourcedefinitions, configmaps]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'isthmus:readers'}]
";

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")
}

fn trust_domain(domain: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, \
         data: {{mesh: 'trustDomain: {domain}'}}}}"
    )
}

async fn servers<const N: usize>() -> [ApiServer; N] {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let servers: Vec<_> = futures::future::join_all((0..N).map(|_| ApiServer::start())).await;
    for (index, server) in servers.iter().enumerate() {
        server.apply_yaml(&namespace("istio-system")).await;
        server.apply_yaml(&namespace(&format!("of-{index}"))).await;
    }
    servers.try_into().unwrap_or_else(|_| panic!("{N} servers"))
}

fn report(clusters: &Clusters, name: &str) -> Option<ClusterReport> {
    let mut reports = clusters.reports().into_iter();
    reports.find(|report| &*report.cluster == name)
}

fn is(clusters: &Clusters, name: &str, state: SyncState) -> bool {
    report(clusters, name).is_some_and(|report| report.sync == state)
}

fn was_removed(world: &World, name: &str) -> bool {
    world
        .others
        .contains(&(ClusterId::from(name), Change::ClusterRemoved))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_clusters_join_and_leave_with_their_secrets() {
    let [config, one, two] = servers::<3>().await;
    one.apply_yaml(&trust_domain("one.example")).await;
    let both = [
        ("one", one.kubeconfig("admin-token")),
        ("two", two.kubeconfig("admin-token")),
        ("config", "the own cluster is never remote".to_owned()),
    ];
    config.apply_remote_secret("both", &both).await;
    let mut world = World::start(options(config.kubeconfig_path()));
    world.until_clusters("ready", Clusters::is_ready).await;
    assert!(is(&world.clusters, "one", SyncState::Synced));
    assert_eq!(
        &*report(&world.clusters, "two").expect("two").source,
        "istio-system/both"
    );
    world
        .until("objects of all", |w| {
            ["config", "one", "two"]
                .iter()
                .enumerate()
                .all(|(i, c)| w.has(c, ObjectKind::Namespace, &format!("of-{i}")))
        })
        .await;
    let domain = Change::TrustDomain(Some(Arc::from("one.example")));
    assert!(world.others.contains(&(ClusterId::from("one"), domain)));

    // Hot: a key goes, a Secret comes, the other goes.
    config.apply_remote_secret("both", &both[..1]).await;
    world.until("one key gone", |w| was_removed(w, "two")).await;
    assert!(!was_removed(&world, "one"));
    config.apply_remote_secret("more", &both[1..2]).await;
    world
        .until("two again", |w| w.has("two", ObjectKind::Namespace, "of-2"))
        .await;
    config.delete_remote_secret("both").await;
    world
        .until("a Secret gone", |w| was_removed(w, "one"))
        .await;
    assert!(report(&world.clusters, "one").is_none());
    assert!(world.has("two", ObjectKind::Namespace, "of-2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_credentials_take_over_only_when_they_work() {
    let [config, remote] = servers::<2>().await;
    remote.apply_yaml(READER).await;
    let secret = |text: String| [("remote", text)];
    let good = secret(remote.kubeconfig("admin-token"));
    config.apply_remote_secret("s", &good).await;
    let mut world = World::start(options(config.kubeconfig_path()));
    world
        .until("remote objects", |w| {
            w.has("remote", ObjectKind::Namespace, "of-1")
        })
        .await;
    world
        .until_clusters("synced", |c| is(c, "remote", SyncState::Synced))
        .await;

    let rotation = |c: &Clusters, part: &str| {
        let rotation = report(c, "remote").and_then(|r| r.rotation);
        rotation.is_some_and(|text| text.contains(part))
    };
    // A wrong token, a token that may read less, nonsense: the old goes on.
    for (text, told) in [
        (remote.kubeconfig("wrong-token"), "401"),
        (remote.kubeconfig("reader-token"), "may not read nodes"),
        ("{nonsense".to_owned(), "refused"),
    ] {
        config.apply_remote_secret("s", &secret(text)).await;
        world.until_clusters(told, |c| rotation(c, told)).await;
        assert!(is(&world.clusters, "remote", SyncState::Synced));
    }
    remote.apply_yaml(&namespace("meanwhile")).await;
    world
        .until("the old credentials in use", |w| {
            w.has("remote", ObjectKind::Namespace, "meanwhile")
        })
        .await;

    // Good ones: all kinds are told anew, and nothing was gone in between.
    let resets = world.resets;
    let by_other_name = remote.url().replace("127.0.0.1", "localhost");
    let good = secret(kubeconfig(&by_other_name, "admin-token"));
    config.apply_remote_secret("s", &good).await;
    world
        .until("every kind from the new watches", |w| {
            assert!(w.has("remote", ObjectKind::Namespace, "of-1"));
            w.resets >= resets + 7
        })
        .await;
    let settled = |c: &Clusters| report(c, "remote").is_some_and(|r| r.rotation.is_none());
    world.until_clusters("no rotation any more", settled).await;
    remote.apply_yaml(&namespace("afterwards")).await;
    world
        .until("the new credentials in use", |w| {
            w.has("remote", ObjectKind::Namespace, "afterwards")
        })
        .await;
    assert!(!was_removed(&world, "remote"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_that_do_not_answer_hold_nothing_up_for_longer_than_their_time() {
    let [config, remote] = servers::<2>().await;
    remote.apply_yaml(READER).await;
    let exec = "{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
                clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], \
                users: [{name: u, user: {exec: {command: evil}}}]}";
    let clusters = [
        ("wrong-token", remote.kubeconfig("wrong-token")),
        (
            "nobody-there",
            kubeconfig("https://127.0.0.1:1", "admin-token"),
        ),
        ("runs-a-program", exec.to_owned()),
        ("reads-most", remote.kubeconfig("reader-token")),
    ];
    config.apply_remote_secret("s", &clusters).await;
    let mut options = options(config.kubeconfig_path());
    options.remote_timeout = Some(Duration::from_secs(5));
    let mut world = World::start(options);
    world
        .until("the cluster that answers", |w| {
            w.has("reads-most", ObjectKind::Namespace, "of-1")
        })
        .await;
    assert!(!world.clusters.is_ready(), "two have not answered yet");
    world
        .until_clusters("ready all the same", Clusters::is_ready)
        .await;
    let of = |name: &str| report(&world.clusters, name).expect(name);
    assert_eq!(of("wrong-token").sync, SyncState::TimedOut);
    assert!(
        of("wrong-token")
            .error
            .expect("told")
            .contains("401 Unauthorized")
    );
    assert_eq!(of("nobody-there").sync, SyncState::TimedOut);
    assert!(of("nobody-there").error.expect("told").contains("refused"));
    assert_eq!(of("runs-a-program").sync, SyncState::Refused);
    assert!(of("runs-a-program").error.expect("told").contains("exec"));
    assert_eq!(of("reads-most").sync, SyncState::Synced);
    assert_eq!(
        of("reads-most").watches["nodes"].state,
        WatchState::Forbidden
    );

    // The right token at last.
    let clusters = [("wrong-token", remote.kubeconfig("admin-token"))];
    config.apply_remote_secret("s", &clusters).await;
    world
        .until_clusters("synced with the right token", |c| {
            is(c, "wrong-token", SyncState::Synced)
        })
        .await;
    world
        .until("its objects", |w| {
            w.has("wrong-token", ObjectKind::Namespace, "of-1")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_secrets_for_one_cluster_the_other_takes_over() {
    let [config, remote] = servers::<2>().await;
    let good = [("remote", remote.kubeconfig("admin-token"))];
    config.apply_remote_secret("a", &good).await;
    let mut world = World::start(options(config.kubeconfig_path()));
    world
        .until_clusters("synced", |c| is(c, "remote", SyncState::Synced))
        .await;
    let source = |c: &Clusters| report(c, "remote").map(|r| r.source.to_string());
    config.apply_remote_secret("b", &good).await;
    config.delete_remote_secret("a").await;
    world
        .until_clusters("the other", |c| {
            source(c).as_deref() == Some("istio-system/b")
        })
        .await;
    assert!(!was_removed(&world, "remote"));
    config.delete_remote_secret("b").await;
    world.until("gone", |w| was_removed(w, "remote")).await;
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let (events, _received) = tokio::sync::mpsc::channel(1);
    let options = options("/nowhere/kubeconfig".into());
    let clusters = Arc::new(Clusters::default());
    let error = isthmus::registry::multicluster::run(options, clusters, events)
        .await
        .expect_err("no such file");
    let text = error.to_string();
    assert!(text.contains("/nowhere/kubeconfig"), "{text}");
}
