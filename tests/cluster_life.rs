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
    watcher::{Watcher, proxy},
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
