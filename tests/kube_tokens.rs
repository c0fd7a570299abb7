//! Tokens of real API servers, one of the config cluster and one of a remote.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod plane;
}

use std::{fs, process, time::Duration};

use envoy_types::pb::envoy::{
    config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest,
};
use isthmus::testing::{
    identity::{TestCa, TestCaOptions},
    secure::{SecureClient, agent_request},
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use support::{kube::ApiServer, plane::Plane};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(2);

struct World {
    own: ApiServer,
    remote: ApiServer,
    plane: Plane,
    ca: TestCa,
    _folder: TempDir,
}

const OBJECTS: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
";

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, remote) = tokio::join!(ApiServer::start(), ApiServer::start());
        for server in [&own, &remote] {
            server.apply_yaml(OBJECTS).await;
        }
        let admin = remote.kubeconfig("admin-token");
        own.apply_remote_secret("istio-remote-secret-c2", &[("c2", admin)])
            .await;
        let ca = TestCa::root(TestCaOptions::new("root"));
        for (name, text) in [
            ("ca-key.pem", ca.key()),
            ("ca-cert.pem", &ca.certificate()),
            ("cert-chain.pem", ca.chain()),
            ("root-cert.pem", ca.root_pem()),
        ] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut plane = Plane::launch(|command| {
            command
                .args(["--clusterID", "c1", "--clusterAliases", "other=c1"])
                .arg("--kubeconfig")
                .arg(own.kubeconfig_path())
                .env("ROOT_CA_DIR", folder.path())
                .env("PILOT_REMOTE_CLUSTER_TIMEOUT", "60s");
        });
        plane.wait_ready().await;
        Self {
            own,
            remote,
            plane,
            ca,
            _folder: folder,
        }
    }

    fn client(&self, token: &str, cluster: &str) -> SecureClient {
        let client = SecureClient::new(self.ca.root_pem());
        client.token(token).cluster(cluster)
    }

    async fn ask(&self, token: &str, cluster: &str) -> Result<(), Status> {
        let (_, request) = agent_request("spiffe://ignored/ns/a/sa/b");
        let client = self.client(token, cluster);
        let answer = client.create_certificate(self.plane.secure(), request);
        answer.await.map(drop)
    }

    /// Opens a stream and waits for its first answer.
    async fn open(&self, token: &str, cluster: &str) -> Result<(), Status> {
        let client = self.client(token, cluster);
        let first = DeltaDiscoveryRequest {
            node: Some(Node {
                id: "sidecar~10.9.9.9~web-1.shop~shop.svc.cluster.local".to_owned(),
                ..Node::default()
            }),
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let mut stream = client.open(self.plane.secure(), first).await?;
        stream.next().await.map(drop)
    }
}

/// A token as the kubelet projects them into pods.
async fn token_of(server: &ApiServer, account: &str, audience: &str) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(server.client().clone(), "shop");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]),
            expiration_seconds: Some(3600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let made = accounts.create_token_request(account, &params, &request);
    let made = made.await.expect("a token");
    let token = made.status.and_then(|status| status.token);
    token.expect("a token")
}

fn refused(outcome: Result<(), Status>, code: Code, part: &str) {
    let error = outcome.expect_err("refused");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(part), "{error}");
}

/// Stops or continues a process that this test started.
fn signal(pid: u32, name: &str) {
    let mut kill = process::Command::new("kill");
    let status = kill.arg(name).arg(pid.to_string()).status();
    assert!(status.expect("kill runs").success());
}

#[tokio::test]
async fn the_api_server_of_the_callers_cluster_knows_its_tokens() {
    let world = World::start().await;
    let ours = token_of(&world.own, "web", "istio-ca").await;
    let theirs = token_of(&world.remote, "web", "istio-ca").await;
    for (token, cluster) in [
        (&ours, ""),
        (&ours, "c1"),
        (&ours, "other"),
        (&theirs, "c2"),
    ] {
        world.ask(token, cluster).await.expect(cluster);
        world.open(token, cluster).await.expect(cluster);
    }
    let unknown = Code::Unauthenticated;
    refused(
        world.ask(&theirs, "c1").await,
        unknown,
        "cluster \"c1\" refused it",
    );
    refused(
        world.open(&ours, "c2").await,
        unknown,
        "cluster \"c2\" refused it",
    );
    refused(
        world.open(&ours, "c9").await,
        unknown,
        "cluster \"c9\" is not known",
    );
    // For another audience, and of an account that is gone.
    let other = token_of(&world.own, "web", "https://kubernetes.default.svc").await;
    refused(world.ask(&other, "c1").await, unknown, "refused it");
    refused(world.open(&other, "c1").await, unknown, "refused it");
    world
        .own
        .apply_yaml(
            "{apiVersion: v1, kind: ServiceAccount, metadata: {name: gone, namespace: shop}}",
        )
        .await;
    let gone = token_of(&world.own, "gone", "istio-ca").await;
    world
        .own
        .delete_yaml(
            "{apiVersion: v1, kind: ServiceAccount, metadata: {name: gone, namespace: shop}}",
        )
        .await;
    refused(world.ask(&gone, "c1").await, unknown, "refused it");
    // A user of the API server that is no service account.
    refused(world.ask("admin-token", "c1").await, unknown, "refused it");
    let log = world.plane.log();
    for token in [&ours, &theirs, &other, &gone] {
        let (_, signature) = token.rsplit_once('.').expect("a JWT");
        assert!(!log.contains(signature), "a token is in the log");
    }
}

#[tokio::test]
async fn an_api_server_that_hangs_holds_up_only_its_own_cluster_and_only_for_a_while() {
    let world = World::start().await;
    let ours = token_of(&world.own, "web", "istio-ca").await;
    let theirs = token_of(&world.remote, "web", "istio-ca").await;
    let pid = world.remote.pid();
    signal(pid, "-STOP");
    let started = Instant::now();
    let hanging = world.open(&theirs, "c2");
    let other = async {
        world.open(&ours, "c1").await.expect("another cluster");
        started.elapsed()
    };
    let (hung, took) = tokio::join!(hanging, other);
    refused(
        hung,
        Code::Unavailable,
        "did not answer a TokenReview within 5 seconds",
    );
    assert!(took < started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(30));
    signal(pid, "-CONT");
    let end = Instant::now() + LIMIT;
    while let Err(error) = world.open(&theirs, "c2").await {
        assert!(Instant::now() < end, "{error}");
        sleep(Duration::from_millis(200)).await;
    }
    let metric = "isthmus_token_reviews_total{outcome=\"unanswered\"}";
    assert!(world.plane.metric(metric).await >= Some(1.0));
}

#[tokio::test]
async fn a_cluster_whose_credentials_are_withdrawn_vouches_for_nobody() {
    let world = World::start().await;
    let theirs = token_of(&world.remote, "web", "istio-ca").await;
    world.open(&theirs, "c2").await.expect("a stream");
    world
        .own
        .delete_remote_secret("istio-remote-secret-c2")
        .await;
    let end = Instant::now() + LIMIT;
    loop {
        match world.open(&theirs, "c2").await {
            Err(error) if error.message().contains("is not known here") => break,
            other => assert!(Instant::now() < end, "{other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}
