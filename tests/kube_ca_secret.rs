//! The certificate authority in Secrets of a real API server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
}

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use isthmus::{
    controllers::{CaSecretError, CaSecrets},
    identity::{CaPems, CertificateAuthority, Lifetimes, SelfSigned},
    model::ClusterId,
    testing::identity::{TestCa, TestCaOptions, now},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use support::kube::ApiServer;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(2);
const SYSTEM: &str = "istio-system";

async fn server() -> ApiServer {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = ApiServer::start().await;
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}";
    server.apply_yaml(namespace).await;
    server
}

async fn client(server: &ApiServer, token: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(token)).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// One replica.
struct Replica {
    authority: CertificateAuthority,
    found: Option<oneshot::Receiver<()>>,
    run: JoinSet<Result<Infallible, CaSecretError>>,
}

impl Replica {
    fn start(client: Client, own_in_cacerts: bool) -> Self {
        let authority = CertificateAuthority::new(Lifetimes::default());
        let secrets = CaSecrets {
            cluster: ClusterId::from("own"),
            client,
            namespace: Arc::from(SYSTEM),
            own_in_cacerts,
            wanted: SelfSigned {
                organization: "td.example".to_owned(),
                lifetime: Duration::from_hours(24),
                rsa_bits: 2048,
            },
            clock: now,
        };
        let (done, found) = oneshot::channel();
        let mut run = JoinSet::new();
        run.spawn(secrets.run(authority.clone(), || _ = done.send(())));
        Self {
            authority,
            found: Some(found),
            run,
        }
    }

    async fn found(mut self) -> Self {
        let found = self.found.take().expect("not yet waited for");
        let found = timeout(LIMIT, found).await.expect("in time");
        assert!(found.is_ok(), "{:?}", self.run.join_next().await);
        self
    }

    /// The error that ends it.
    async fn refused(mut self) -> String {
        let ended = timeout(LIMIT, self.run.join_next()).await.expect("in time");
        let ended = ended.expect("a task").expect("no panic");
        ended.expect_err("an error").to_string()
    }

    fn name(&self) -> String {
        let ca = self.authority.current();
        ca.map(|ca| ca.name().to_owned()).unwrap_or_default()
    }

    fn roots(&self) -> String {
        let bundle = self.authority.trust_bundle().expect("roots");
        bundle.pem().to_owned()
    }

    async fn until_named(&self, name: &str) {
        let mut changes = self.authority.subscribe();
        let wait = async {
            while !self.name().contains(name) {
                changes.changed().await.expect("changes");
            }
        };
        timeout(LIMIT, wait).await.expect(name);
    }
}

async fn secret(client: &Client, name: &str) -> Option<Secret> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    secrets.get_opt(name).await.expect("an answer")
}

fn value(secret: &Secret, key: &str) -> String {
    let value = &secret.data.as_ref().expect("data")[key];
    String::from_utf8(value.0.clone()).expect("text")
}

async fn apply(server: &ApiServer, name: &str, values: &[(&str, &str)]) {
    let data: serde_json::Map<_, _> = values
        .iter()
        .map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text).into()))
        .collect();
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM},
        "data": data,
    });
    server.apply_yaml(&secret.to_string()).await;
}

async fn delete(server: &ApiServer, name: &str) {
    let text = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {SYSTEM}}}}}"
    );
    server.delete_yaml(&text).await;
}

fn named(name: &str) -> TestCa {
    let root = TestCa::root(TestCaOptions::new("root"));
    root.intermediate(TestCaOptions::new(name))
}

async fn plug_in(server: &ApiServer, ca: &TestCa) {
    let certificate = ca.certificate();
    let values = [
        ("ca-key.pem", ca.key()),
        ("ca-cert.pem", &certificate),
        ("cert-chain.pem", ca.chain()),
        ("root-cert.pem", ca.root_pem()),
    ];
    apply(server, "cacerts", &values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_sign_under_one_root_and_later_ones_too() {
    let server = server().await;
    let admin = client(&server, "admin-token").await;
    let replicas = [(); 3].map(|()| Replica::start(admin.clone(), false).found());
    let replicas = futures::future::join_all(replicas).await;
    let late = Replica::start(admin.clone(), false).found().await;
    for replica in &replicas {
        assert_eq!(replica.roots(), late.roots());
    }
    assert_eq!(late.name(), "O=td.example");

    // istiod reads it under the same names.
    let written = secret(&admin, "istio-ca-secret").await.expect("a Secret");
    assert_eq!(written.type_.as_deref(), Some("istio.io/ca-root"));
    assert_eq!(value(&written, "ca-cert.pem"), late.roots());
    assert_eq!(value(&written, "root-cert.pem"), late.roots());
    assert!(value(&written, "ca-key.pem").contains("PRIVATE KEY"));
    assert_eq!(value(&written, "cert-chain.pem"), "");
    assert!(secret(&admin, "cacerts").await.is_none());

    // Whoever changes it, all replicas follow.
    let other = TestCa::root(TestCaOptions::new("other"));
    let certificate = other.certificate();
    let values = [("ca-key.pem", other.key()), ("ca-cert.pem", &certificate)];
    apply(&server, "istio-ca-secret", &values).await;
    for replica in replicas.iter().chain([&late]) {
        replica.until_named("other").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugged_in_secret_wins_and_is_followed() {
    let server = server().await;
    let admin = client(&server, "admin-token").await;
    plug_in(&server, &named("first")).await;
    let replica = Replica::start(admin.clone(), false).found().await;
    replica.until_named("first").await;
    assert!(secret(&admin, "istio-ca-secret").await.is_none());

    plug_in(&server, &named("second")).await;
    replica.until_named("second").await;
    // What cannot be used, or is gone, changes nothing.
    apply(
        &server,
        "cacerts",
        &[("ca-key.pem", "hush"), ("ca-cert.pem", "x")],
    )
    .await;
    delete(&server, "cacerts").await;
    assert!(replica.name().contains("second"));
    plug_in(&server, &named("third")).await;
    replica.until_named("third").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_used_is_refused_at_the_start_with_its_name() {
    let server = server().await;
    let admin = client(&server, "admin-token").await;
    let ca = named("first");
    apply(
        &server,
        "cacerts",
        &[("ca-key.pem", ca.key()), ("root-cert.pem", ca.root_pem())],
    )
    .await;
    let told = Replica::start(admin.clone(), false).refused().await;
    assert!(told.contains("Secret istio-system/cacerts has"), "{told}");
    assert!(
        told.contains("but not ca-cert.pem, cert-chain.pem"),
        "{told}"
    );

    delete(&server, "cacerts").await;
    apply(
        &server,
        "istio-ca-secret",
        &[("ca-key.pem", "hush"), ("ca-cert.pem", &ca.certificate())],
    )
    .await;
    let told = Replica::start(admin.clone(), false).refused().await;
    assert!(
        told.contains("istio-system/istio-ca-secret: ca-key.pem holds no private key"),
        "{told}"
    );
    assert!(!told.contains("hush"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_of_its_own_may_be_kept_in_cacerts() {
    let server = server().await;
    let admin = client(&server, "admin-token").await;
    let first = Replica::start(admin.clone(), true).found().await;
    let written = secret(&admin, "cacerts").await.expect("a Secret");
    assert_eq!(value(&written, "istio-generated"), "");
    assert!(secret(&admin, "istio-ca-secret").await.is_none());
    let second = Replica::start(admin.clone(), true).found().await;
    assert_eq!(first.roots(), second.roots());
    // Without the switch it counts as plugged in, and is the same root.
    let third = Replica::start(admin.clone(), false).found().await;
    assert_eq!(first.roots(), third.roots());

    // An older root is never left behind.
    let old = TestCa::root(TestCaOptions::new("old"));
    let [key, certificate, ..] = CaPems::NAMES;
    let root = old.certificate();
    apply(
        &server,
        "istio-ca-secret",
        &[(key, old.key()), (certificate, &root)],
    )
    .await;
    let fourth = Replica::start(admin, true).found().await;
    assert!(fourth.name().contains("CN=old"), "{}", fourth.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_is_asked_again() {
    let server = server().await;
    // Nothing is granted to readers yet.
    let replica = Replica::start(client(&server, "reader-token").await, false);
    let authority = replica.authority.clone();
    let grant = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ca, namespace: istio-system}
rules:
- {apiGroups: [''], resources: [secrets], verbs: [get, list, watch, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ca, namespace: istio-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ca}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'isthmus:readers'}]
";
    assert!(authority.current().is_none());
    server.apply_yaml(grant).await;
    let replica = replica.found().await;
    assert_eq!(replica.name(), "O=td.example");
}
