//! Requests between two real sidecars: mutual TLS, plain text, and what a
//! `PeerAuthentication` makes of both.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod plane;
    pub(crate) mod sds;
    pub(crate) mod servers;
}

use std::{net::Ipv4Addr, time::Duration};

use isthmus::testing::identity::{TestCa, TestCaOptions};
use serde_json::{Value, json};
use support::{
    envoy::{Answer, Envoy, Variant, get},
    plane::Plane,
    sds::Secrets,
    servers::{Server, own_address, write},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Service ports: declared HTTP, declared TCP, undeclared.
const HTTP: u16 = 11_800;
const TCP: u16 = 11_900;
const ANY: u16 = 11_700;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

/// A server and a client, each with an Envoy on an address of its own.
struct Mesh {
    folder: TempDir,
    plane: Plane,
    ca: TestCa,
    web: Ipv4Addr,
    client: Ipv4Addr,
    _apps: [Server; 2],
}

fn pod(name: &str, ip: Ipv4Addr) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: shop
  labels: {{app: {name}, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: {name}, containers: [{{name: app, image: app}}]}}
status:
  phase: Running
  podIP: {ip}
  podIPs: [{{ip: {ip}}}]
  conditions: [{{type: Ready, status: 'True'}}]
"
    )
}

/// A service of the ports, each served by `web` at the same number.
fn service(ip: Ipv4Addr) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  clusterIP: 10.99.0.1
  selector: {{app: web}}
  ports:
  - {{name: http, port: {HTTP}}}
  - {{name: tcp, port: {TCP}}}
  - {{name: any, port: {ANY}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
endpoints:
- addresses: [{ip}]
  conditions: {{ready: true}}
  targetRef: {{kind: Pod, name: web, namespace: shop}}
ports:
- {{name: http, port: {HTTP}}}
- {{name: tcp, port: {TCP}}}
- {{name: any, port: {ANY}}}
"
    )
}

/// The server listens where its `Sidecar` says, the client on its own address.
fn sidecars(client: Ipv4Addr, http: &Server, tcp: &Server) -> String {
    let (http, tcp) = (http.port, tcp.port);
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: web, namespace: shop}}
spec:
  workloadSelector: {{labels: {{app: web}}}}
  ingress:
  - {{port: {{number: {HTTP}, protocol: HTTP, name: http}}, defaultEndpoint: '127.0.0.1:{http}'}}
  - {{port: {{number: {TCP}, protocol: TCP, name: tcp}}, defaultEndpoint: '127.0.0.1:{tcp}'}}
  - {{port: {{number: {ANY}, protocol: '', name: any}}, defaultEndpoint: '127.0.0.1:{http}'}}
  egress: [{{hosts: ['~/*']}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client, namespace: shop}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - {{bind: {client}, captureMode: NONE, hosts: ['./*']}}
"
    )
}

fn node(name: &str, ip: Ipv4Addr) -> Value {
    json!({
        "id": format!("sidecar~{ip}~{name}.shop~shop.svc.cluster.local"),
        "cluster": name,
        "metadata": {
            "CLUSTER_ID": "c1", "NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE",
            "INSTANCE_IPS": ip.to_string(),
        },
    })
}

impl Mesh {
    async fn open(test: u8) -> Self {
        let (http, tcp) = (Server::http("web").await, stock().await);
        let folder = tempfile::tempdir().expect("a folder");
        let (web, client) = (own_address(2 * test), own_address(2 * test + 1));
        let objects = [
            "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n".to_owned(),
            pod("web", web),
            pod("client", client),
            service(web),
            sidecars(client, &http, &tcp),
        ];
        write(folder.path(), "objects.yaml", &objects.join("---\n"));
        let mut plane = Plane::launch(|command| {
            let source = format!("c1={}", folder.path().display());
            command.args(["--cluster-dir", &source]);
        });
        plane.wait_ready().await;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            folder,
            plane,
            ca: TestCa::root(TestCaOptions::new("root")),
            web,
            client,
            _apps: [http, tcp],
        }
    }

    /// The Envoy of a pod, with a certificate of `identity`.
    async fn envoy(&self, pod: &str, ip: Ipv4Addr, identity: &str) -> (Envoy, Secrets) {
        let secrets = Secrets::start(&self.ca, identity).await;
        let sds = secrets.address.to_string();
        let envoy =
            Envoy::start_with_secrets(&node(pod, ip), self.plane.ads(), Variant::Delta, &sds).await;
        envoy.wait_live().await;
        (envoy, secrets)
    }

    async fn server(&self) -> (Envoy, Secrets) {
        self.envoy("web", self.web, WEB).await
    }

    async fn caller(&self) -> (Envoy, Secrets) {
        self.envoy("client", self.client, CLIENT).await
    }

    /// A request through the client's Envoy.
    async fn ask(&self, port: u16) -> Option<Answer> {
        get(&format!("{}:{port}", self.client), "web.shop", "/").await
    }

    /// A request in plain text straight to the server's Envoy.
    async fn ask_plainly(&self, port: u16) -> Option<Answer> {
        get(&format!("{}:{port}", self.web), "web.shop", "/").await
    }

    fn policy(&self, mode: &str) {
        let policy = format!(
            "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: shop}}
spec: {{mtls: {{mode: {mode}}}}}
"
        );
        write(self.folder.path(), "policy.yaml", &policy);
    }
}

/// An application that hears a word, answers and closes.
async fn stock() -> Server {
    Server::start(|mut stream: TcpStream| async move {
        let mut word = [0; 5];
        // The caller may be gone.
        if stream.read_exact(&mut word).await.is_ok() {
            let _ = stream.write_all(b"stock").await;
        }
    })
    .await
}

/// What the application says to a connection on which the caller spoke first.
async fn listen(ip: Ipv4Addr) -> Option<String> {
    let mut stream = TcpStream::connect((ip, TCP)).await.ok()?;
    stream.write_all(b"hello").await.ok()?;
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    // A connection that is not taken may be reset.
    let _ = timeout(Duration::from_secs(20), read).await;
    let said = String::from_utf8(said).ok()?;
    (!said.is_empty()).then_some(said)
}

/// Handshakes that an Envoy counts, of which the name of the counter has `part`.
async fn handshakes(envoy: &Envoy, part: &str) -> u64 {
    let stats = envoy.admin("/stats").await;
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    let counted = lines.filter(|(name, _)| name.contains(part) && name.ends_with("ssl.handshake"));
    counted
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

fn assert_answered(answer: Option<Answer>) {
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (200, "web"));
}

/// Asks until the answer is as `wanted` says.
async fn until<T>(what: &str, ask: impl AsyncFn() -> T, wanted: impl Fn(&T) -> bool) {
    for _ in 0..3000 {
        if wanted(&ask().await) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_permissive_server_answers_peers_by_mtls_and_others_in_plain_text() {
    let mesh = Mesh::open(0).await;
    let (server, _server_secrets) = mesh.server().await;
    let (client, _client_secrets) = mesh.caller().await;
    for port in [HTTP, ANY] {
        let before = handshakes(&client, &format!("outbound|{port}|")).await;
        assert_answered(mesh.ask(port).await);
        let after = handshakes(&client, &format!("outbound|{port}|")).await;
        assert_eq!(after, before + 1, "mutual TLS to port {port}");
        assert_answered(mesh.ask_plainly(port).await);
    }
    assert_eq!(listen(mesh.client).await.as_deref(), Some("stock"));
    assert_eq!(listen(mesh.web).await.as_deref(), Some("stock"));
    assert_eq!(handshakes(&client, "outbound|11900|").await, 1);
    assert_eq!(handshakes(&server, "listener.").await, 3);
    server.assert_all_accepted().await;
    client.assert_all_accepted().await;
}

#[tokio::test]
async fn a_strict_server_refuses_plain_text_and_no_peer() {
    let mesh = Mesh::open(1).await;
    mesh.policy("STRICT");
    let (server, _server_secrets) = mesh.server().await;
    let (client, _client_secrets) = mesh.caller().await;
    until(
        "plain text refused",
        async || mesh.ask_plainly(HTTP).await,
        Option::is_none,
    )
    .await;
    for port in [HTTP, ANY] {
        assert_answered(mesh.ask(port).await);
        assert_eq!(mesh.ask_plainly(port).await, None, "port {port}");
    }
    assert_eq!(listen(mesh.client).await.as_deref(), Some("stock"));
    assert_eq!(listen(mesh.web).await, None);
    server.assert_all_accepted().await;
    client.assert_all_accepted().await;
}

#[tokio::test]
async fn a_policy_that_changes_under_requests_fails_none_of_a_peer() {
    let mesh = Mesh::open(2).await;
    let (server, _server_secrets) = mesh.server().await;
    let (client, _client_secrets) = mesh.caller().await;
    let refuses = async || mesh.ask_plainly(HTTP).await.is_none();
    assert_answered(mesh.ask(HTTP).await);
    mesh.policy("STRICT");
    until(
        "strict",
        async || {
            assert_answered(mesh.ask(HTTP).await);
            refuses().await
        },
        |refused| *refused,
    )
    .await;
    mesh.policy("PERMISSIVE");
    until(
        "permissive",
        async || {
            assert_answered(mesh.ask(HTTP).await);
            refuses().await
        },
        |refused| !refused,
    )
    .await;
    server.assert_all_accepted().await;
    client.assert_all_accepted().await;
}

#[tokio::test]
async fn a_server_without_mtls_is_called_in_plain_text() {
    let mesh = Mesh::open(3).await;
    mesh.policy("DISABLE");
    let (server, _server_secrets) = mesh.server().await;
    let (client, _client_secrets) = mesh.caller().await;
    until(
        "an answer",
        async || mesh.ask(HTTP).await,
        |answer| answer.as_ref().is_some_and(|answer| answer.status == 200),
    )
    .await;
    let before = handshakes(&client, "outbound|11800|").await;
    assert_answered(mesh.ask(HTTP).await);
    assert_answered(mesh.ask(ANY).await);
    assert_eq!(listen(mesh.client).await.as_deref(), Some("stock"));
    assert_eq!(handshakes(&client, "outbound|11800|").await, before);
    server.assert_all_accepted().await;
    client.assert_all_accepted().await;
}

#[tokio::test]
async fn a_server_of_another_account_is_not_trusted() {
    let mesh = Mesh::open(4).await;
    let thief = "spiffe://cluster.local/ns/shop/sa/thief";
    let (_server, _server_secrets) = mesh.envoy("web", mesh.web, thief).await;
    let (client, _client_secrets) = mesh.caller().await;
    let answer = mesh
        .ask(HTTP)
        .await
        .expect("an answer of the client's Envoy");
    assert_eq!(answer.status, 503, "{}", answer.body);
    let stats = client.admin("/stats").await;
    let failed = stats
        .lines()
        .find(|line| line.contains("outbound|11800|") && line.contains("fail_verify_san"));
    assert!(
        failed.is_some_and(|line| !line.ends_with(": 0")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_caller_of_another_trust_domain_is_not_let_in() {
    let mesh = Mesh::open(5).await;
    let (server, _server_secrets) = mesh.server().await;
    let foreign = "spiffe://elsewhere/ns/shop/sa/client";
    let (_client, _client_secrets) = mesh.envoy("client", mesh.client, foreign).await;
    let answer = mesh
        .ask(HTTP)
        .await
        .expect("an answer of the client's Envoy");
    assert_eq!(answer.status, 503, "{}", answer.body);
    let stats = server.admin("/stats").await;
    let failed = stats
        .lines()
        .find(|line| line.contains("fail_verify_san") && !line.ends_with(": 0"));
    assert!(failed.is_some(), "the server looked at the name");
}
