//! The life of clusters, as proxies see it: real API servers, the real binary,
//! endpoints over ADS.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod plane;
    pub(crate) mod shop;
    pub(crate) mod watcher;
}

use futures::future::join_all;
use support::{
    kube::{ApiServer, kubeconfig},
    plane::Plane,
    shop::{cluster, marker, pods, web_slice},
    watcher::{Endpoints, Watcher, proxy},
};

/// Networks and clusters are numbered alike: `c2` is `n2`, its pod 10.2.0.1,
/// its gateway 198.51.100.2.
async fn servers<const N: usize>() -> [ApiServer; N] {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let started = (1..=N).map(async |number| {
        let server = ApiServer::start().await;
        server.apply_yaml(&cluster(number)).await;
        server
    });
    let servers = join_all(started).await;
    servers.try_into().unwrap_or_else(|_| panic!("{N} servers"))
}

async fn plane(config: &ApiServer) -> Plane {
    plane_with(config, &[]).await
}

async fn plane_with(config: &ApiServer, variables: &[(&str, &str)]) -> Plane {
    let mut plane = launch(config, variables);
    plane.wait_ready().await;
    plane
}

fn launch(config: &ApiServer, variables: &[(&str, &str)]) -> Plane {
    Plane::launch(|command| {
        command.arg("--kubeconfig").arg(config.kubeconfig_path());
        command.args(["--clusterID", "c1"]);
        command.envs(variables.iter().copied());
    })
}

const OWN: &str = "10.1.0.1:8080";
const GATEWAY2: &str = "198.51.100.2:15443";
const GATEWAY3: &str = "198.51.100.3:15443";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_remote_clusters_come_and_go_with_their_secrets() {
    let [c1, c2, c3] = servers::<3>().await;
    let plane = plane(&c1).await;
    let mut watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    watcher.until_is("web", &[OWN]).await;

    let both = [
        ("c2", c2.kubeconfig("admin-token")),
        ("c3", c3.kubeconfig("admin-token")),
    ];
    c1.apply_remote_secret("s", &both).await;
    watcher.until_is("web", &[OWN, GATEWAY2, GATEWAY3]).await;

    // Rotated: the same cluster by another name of its server.
    let start = watcher.history.len();
    let url = c2.url().replace("127.0.0.1", "localhost");
    let rotated = [("c2", kubeconfig(&url, "admin-token")), both[1].clone()];
    c1.apply_remote_secret("s", &rotated).await;
    let mut plane = plane;
    plane.logged("new credentials in use").await;
    c1.apply_yaml(&marker(1, 7)).await;
    let mut beside = Watcher::open(plane.ads(), &proxy("c2", "n2"), &["web", "marker"]).await;
    c2.apply_yaml(&marker(2, 5)).await;
    beside
        .until("marker", |e| e.contains_key("10.2.9.5:8080"))
        .await;
    c3.apply_yaml(&web_slice(3, &["10.3.0.1", "10.3.0.2"]))
        .await;
    c3.apply_yaml(&pods(3, &["10.3.0.1", "10.3.0.2"])).await;
    watcher.until("web", |e| e.get(GATEWAY3) == Some(&2)).await;
    for told in watcher.since(start, "web") {
        assert!(told.contains_key(GATEWAY2), "{:#?}", watcher.history);
    }
    // A relist of an unchanged cluster is no push: only c3's change was told.
    assert_eq!(watcher.history.len(), start + 1, "{:#?}", watcher.history);

    // One key goes, then the Secret.
    c1.apply_remote_secret("s", &rotated[..1]).await;
    watcher.until_is("web", &[OWN, GATEWAY2]).await;
    c1.delete_remote_secret("s").await;
    watcher.until_is("web", &[OWN]).await;

    // No raw address of another network, at any time.
    for (_, told) in &watcher.history {
        let own = |a: &String| a.starts_with("10.1.") || a.starts_with("198.51.100.");
        assert!(told.keys().all(own), "{:#?}", watcher.history);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_dies_keeps_its_endpoints_and_comes_back_without_a_push() {
    let [c1, mut c2] = servers::<2>().await;
    c1.apply_remote_secret("s", &[("c2", c2.kubeconfig("admin-token"))])
        .await;
    let mut plane = plane(&c1).await;
    let mut here = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web", "marker"]).await;
    let mut there = Watcher::open(plane.ads(), &proxy("c2", "n2"), &["web", "marker"]).await;
    here.until_is("web", &[OWN, GATEWAY2]).await;

    c2.stop().await;
    plane.logged("cannot watch the cluster").await;
    c1.apply_yaml(&marker(1, 2)).await;
    let moved = |e: &Endpoints| e.contains_key("10.1.9.2:8080");
    here.until("marker", moved).await;
    let late = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    assert_eq!(late.of("web"), here.of("web"));

    let start = (here.history.len(), there.history.len());
    c2.start_again().await;
    plane.logged("the API server answers again").await;
    c2.apply_yaml(&marker(2, 2)).await;
    there
        .until("marker", |e| e.contains_key("10.2.9.2:8080"))
        .await;
    assert!(here.since(start.0, "web").is_empty(), "{:#?}", here.history);
    assert!(
        there.since(start.1, "web").is_empty(),
        "{:#?}",
        there.history
    );

    // The config cluster is no different.
    let mut c1 = c1;
    c1.stop().await;
    c2.apply_yaml(&web_slice(2, &["10.2.0.1", "10.2.0.2"]))
        .await;
    c2.apply_yaml(&pods(2, &["10.2.0.1", "10.2.0.2"])).await;
    here.until("web", |e| e.get(GATEWAY2) == Some(&2)).await;
    let late = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    assert_eq!(late.of("web"), here.of("web"));
}

/// A kubeconfig whose user has `user`, and whose content nobody may see.
fn secret_kubeconfig(url: &str, user: &str) -> String {
    format!(
        "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: '{url}', insecure-skip-tls-verify: true}}}}], \
         users: [{{name: u, user: {user}}}]}}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_remote_secrets_cost_only_themselves_and_are_named() {
    let [c1, c2] = servers::<2>().await;
    let url = c2.url();
    let user = |user: &str| secret_kubeconfig(url, user);
    let refused = [
        ("empty", String::new(), "empty"),
        ("nonsense", "hush-hush: [".to_owned(), "not valid YAML"),
        ("text", "hush-hush".to_owned(), "not valid YAML"),
        ("exec", user("{exec: {command: hush-hush}}"), "exec plugin"),
        (
            "provider",
            user("{auth-provider: {name: gcp}}"),
            "auth provider",
        ),
        ("token-file", user("{tokenFile: /hush-hush}"), "tokenFile"),
        ("key-file", user("{client-key: /hush-hush}"), "clientKey"),
        (
            "no-server",
            secret_kubeconfig("", "{token: hush-hush}"),
            "no server",
        ),
    ];
    let mut clusters: Vec<_> = refused
        .iter()
        .map(|(id, text, _)| (*id, text.clone()))
        .collect();
    clusters.push(("c2", c2.kubeconfig("admin-token")));
    clusters.push(("wrong-token", user("{token: hush-hush}")));
    let nobody = secret_kubeconfig("https://127.0.0.1:1", "{token: hush-hush}");
    clusters.push(("unreachable", nobody));
    c1.apply_remote_secret("many", &clusters).await;

    let mut plane = launch(&c1, &[("PILOT_REMOTE_CLUSTER_TIMEOUT", "3s")]);
    plane.logged("watching a remote cluster").await;
    let (status, page) = plane.page("/ready").await.expect("a page");
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("clusters"), "{page}");
    plane.wait_ready().await;
    let watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    assert!(watcher.of("web").contains_key(GATEWAY2), "{}", plane.log());

    let log = plane.log();
    for (id, _, words) in &refused {
        let cluster = format!("cluster={id} ");
        let told = log.lines().any(|line| {
            line.contains(&cluster) && line.contains("istio-system/many") && line.contains(words)
        });
        assert!(told, "{id}: {log}");
    }
    for id in ["wrong-token", "unreachable"] {
        let cluster = format!("cluster={id}");
        let told = log
            .lines()
            .any(|l| l.contains(&cluster) && l.contains("not synced in time"));
        assert!(told, "{id}: {log}");
    }
    assert!(!log.contains("hush-hush"), "{log}");

    // The right credentials at last, of one of each sort.
    let good = c2.kubeconfig("admin-token");
    let mut watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    c1.apply_remote_secret("many", &[("wrong-token", good.clone()), ("exec", good)])
        .await;
    watcher.until("web", |e| e.get(GATEWAY2) == Some(&2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_secrets_for_one_cluster_both_are_named_and_one_serves() {
    let [c1, c2] = servers::<2>().await;
    let good = [("c2", c2.kubeconfig("admin-token"))];
    c1.apply_remote_secret("older", &good).await;
    let mut plane = plane(&c1).await;
    let mut watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web", "marker"]).await;
    watcher.until_is("web", &[OWN, GATEWAY2]).await;
    c1.apply_remote_secret("younger", &good).await;
    let line = plane.logged("two sources of credentials").await;
    for word in ["c2", "istio-system/older", "istio-system/younger"] {
        assert!(line.contains(word), "{line}");
    }
    let start = watcher.history.len();
    c1.delete_remote_secret("older").await;
    c2.apply_yaml(&web_slice(2, &["10.2.0.1", "10.2.0.2"]))
        .await;
    c2.apply_yaml(&pods(2, &["10.2.0.1", "10.2.0.2"])).await;
    watcher.until("web", |e| e.get(GATEWAY2) == Some(&2)).await;
    assert_eq!(
        watcher.since(start, "web").len(),
        1,
        "{:#?}",
        watcher.history
    );
    c1.delete_remote_secret("younger").await;
    watcher.until_is("web", &[OWN]).await;
}

/// A kind that takes objects of any shape.
const OPEN_CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: destinationrules.networking.istio.io}
spec:
  group: networking.istio.io
  names: {kind: DestinationRule, plural: destinationrules, singular: destinationrule, listKind: DestinationRuleList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

fn rule(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: {name}, namespace: shop}}, spec: {spec}}}\n"
    )
}

/// Rules come with their CRD, while isthmus runs, and some are nonsense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_kinds_are_followed_and_wrong_shapes_keep_the_last_good_one() {
    const PLAIN: &str = "{host: web, trafficPolicy: {tls: {mode: DISABLE}}}";
    let [c1, c2] = servers::<2>().await;
    c1.apply_remote_secret("s", &[("c2", c2.kubeconfig("admin-token"))])
        .await;
    let mut plane = plane(&c1).await;
    let mut watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web", "marker"]).await;
    watcher.until_is("web", &[OWN, GATEWAY2]).await;
    c1.apply_yaml(OPEN_CRD).await;
    // Without mutual TLS no gateway can be passed.
    c1.apply_yaml(&rule("web", PLAIN)).await;
    watcher.until_is("web", &[OWN]).await;

    let start = watcher.history.len();
    c1.apply_yaml(&rule("web", "{host: 5, trafficPolicy: [1]}"))
        .await;
    c1.apply_yaml(&rule("other", "{host: [a], subsets: 7}"))
        .await;
    for name in ["shop/web", "shop/other"] {
        let line = plane.logged(&format!("DestinationRule {name}")).await;
        assert!(line.contains("cluster=c1"), "{line}");
    }
    let labels = r#"{cluster="c1",kind="destinationrules.networking.istio.io"}"#;
    let invalid = plane
        .metric(&format!("isthmus_invalid_objects_total{labels}"))
        .await;
    assert!(invalid >= Some(2.0), "{invalid:?}");
    c1.apply_yaml(&marker(1, 2)).await;
    watcher
        .until("marker", |e| e.contains_key("10.1.9.2:8080"))
        .await;
    assert!(
        watcher.since(start, "web").is_empty(),
        "{:#?}",
        watcher.history
    );

    c1.delete_yaml(&rule("web", PLAIN)).await;
    watcher.until_is("web", &[OWN, GATEWAY2]).await;
    c1.apply_yaml(&rule("web", PLAIN)).await;
    watcher.until_is("web", &[OWN]).await;
    // With the kind go its objects.
    c1.delete_yaml(OPEN_CRD).await;
    watcher.until_is("web", &[OWN, GATEWAY2]).await;
}
