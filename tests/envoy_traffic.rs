//! Requests through a real Envoy: a sidecar in `INTERCEPTION_MODE=NONE` routes
//! HTTP and TCP to services by name, and follows their endpoints.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod plane;
    pub(crate) mod sds;
    pub(crate) mod servers;
}

use std::{fs, net::Ipv4Addr, ops::Deref};

use isthmus::testing::identity::{TestCa, TestCaOptions};
use serde_json::{Value, json};
use support::{
    envoy::{Answer, Envoy, Variant, get},
    plane::{Plane, free_addresses},
    sds::Secrets,
    servers::{Server, own_address, write},
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream};

// Below all ports that anybody is given, and none that people are fond of.
const HTTP_PORT: u16 = 11_080;
const TCP_PORT: u16 = 11_090;

fn service(name: &str, address: &str, port: u16, port_name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{clusterIP: {address}, ports: [{{name: {port_name}, port: {port}}}]}}}}\n"
    )
}

fn slice(of: &str, port_name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: {of}-1, namespace: shop, labels: {{kubernetes.io/service-name: {of}}}}}, \
         endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}], \
         ports: [{{name: {port_name}, port: {port}}}]}}\n"
    )
}

/// What a sidecar in namespace `shop` may call, on an address of its own.
fn sidecar_scope(bind: Ipv4Addr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec:
  egress:
  - port: {{number: {TCP_PORT}, protocol: TCP, name: tcp}}
    bind: {bind}
    captureMode: NONE
    hosts: ['shop/stock.shop.svc.cluster.local']
  - bind: {bind}
    captureMode: NONE
    hosts: ['*/*']
"
    )
}

fn node(ip: &str, mode: &str, labels: &Value) -> Value {
    json!({
        "id": format!("sidecar~{ip}~client.shop~shop.svc.cluster.local"),
        "cluster": "client.shop",
        "metadata": {
            "CLUSTER_ID": "c1", "NAMESPACE": "shop", "INTERCEPTION_MODE": mode,
            "INSTANCE_IPS": ip, "LABELS": labels,
        },
    })
}

/// An Envoy with the secrets of its pod.
struct Sidecar {
    envoy: Envoy,
    _secrets: Secrets,
}

impl Deref for Sidecar {
    type Target = Envoy;

    fn deref(&self) -> &Envoy {
        &self.envoy
    }
}

async fn sidecar(node: &Value, plane: &Plane, variant: Variant) -> Sidecar {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = TestCa::root(TestCaOptions::new("root"));
    let secrets = Secrets::start(&ca, "spiffe://cluster.local/ns/shop/sa/client").await;
    let sds = secrets.address.to_string();
    let envoy = Envoy::start_with_secrets(node, plane.ads(), variant, &sds).await;
    envoy.wait_live().await;
    Sidecar {
        envoy,
        _secrets: secrets,
    }
}

/// Two services behind one sidecar.
struct Shop {
    folder: TempDir,
    plane: Plane,
    bind: Ipv4Addr,
}

impl Shop {
    async fn open(test: u8, web: &Server, stock: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bind = own_address(test);
        let services = [
            "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n".to_owned(),
            service("web", "10.99.0.1", HTTP_PORT, "http"),
            service("stock", "10.99.0.2", TCP_PORT, "tcp"),
            sidecar_scope(bind),
        ];
        write(folder.path(), "services.yaml", &services.join("---\n"));
        write(folder.path(), "web.yaml", &slice("web", "http", web.port));
        write(
            folder.path(),
            "stock.yaml",
            &slice("stock", "tcp", stock.port),
        );
        let mut plane = Plane::launch(|command| {
            let source = format!("c1={}", folder.path().display());
            command.args(["--cluster-dir", &source]);
        });
        plane.wait_ready().await;
        Self {
            folder,
            plane,
            bind,
        }
    }

    async fn sidecar(&self, variant: Variant) -> Sidecar {
        let node = node("10.98.0.1", "NONE", &json!({"app": "client"}));
        sidecar(&node, &self.plane, variant).await
    }

    async fn ask(&self, host: &str) -> Option<Answer> {
        get(&format!("{}:{HTTP_PORT}", self.bind), host, "/").await
    }

    async fn listen_to_stock(&self) -> Option<String> {
        let mut stream = TcpStream::connect((self.bind, TCP_PORT)).await.ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.ok()?;
        Some(said)
    }
}

async fn assert_routes_by_name(test: u8, variant: Variant) {
    let (web, stock) = (Server::http("web").await, Server::tcp("stock").await);
    let shop = Shop::open(test, &web, &stock).await;
    let envoy = shop.sidecar(variant).await;
    for host in [
        "web",
        "web.shop",
        "web.shop.svc",
        "web.shop.svc.cluster.local",
        "web.shop.svc.cluster.local.",
        "web:11080",
        "web.shop.svc.cluster.local:11080",
        "10.99.0.1",
        "WEB.shop",
    ] {
        let answer = shop.ask(host).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "web"),
            "{host}"
        );
    }
    assert_eq!(shop.listen_to_stock().await.as_deref(), Some("stock"));
    envoy.assert_all_accepted().await;

    assert_follows_endpoints(&shop, &envoy, &web).await;
    envoy.assert_all_accepted().await;
}

/// Endpoints move, go and come; nothing but EDS is sent for it.
async fn assert_follows_endpoints(shop: &Shop, envoy: &Envoy, web: &Server) {
    let listeners = envoy.stat("listener_manager.lds.update_success").await;
    let clusters = envoy.stat("cluster_manager.cds.update_success").await;
    let (other_web, other_stock) = (Server::http("other").await, Server::tcp("other").await);
    write(
        shop.folder.path(),
        "web.yaml",
        &slice("web", "http", other_web.port),
    );
    write(
        shop.folder.path(),
        "stock.yaml",
        &slice("stock", "tcp", other_stock.port),
    );
    envoy
        .until("the other servers", async |_| {
            let (web, stock) = (shop.ask("web").await?, shop.listen_to_stock().await?);
            (web.body == "other" && stock == "other").then_some(())
        })
        .await;
    fs::remove_file(shop.folder.path().join("web.yaml")).expect("a removed file");
    envoy
        .until("no endpoint", async |_| {
            (shop.ask("web").await?.status == 503).then_some(())
        })
        .await;
    write(
        shop.folder.path(),
        "web.yaml",
        &slice("web", "http", web.port),
    );
    envoy
        .until("the first server again", async |_| {
            (shop.ask("web").await?.body == "web").then_some(())
        })
        .await;
    assert_eq!(
        envoy.stat("listener_manager.lds.update_success").await,
        listeners
    );
    assert_eq!(
        envoy.stat("cluster_manager.cds.update_success").await,
        clusters
    );
}

#[tokio::test]
async fn a_dialled_sidecar_routes_by_name_over_delta_ads() {
    assert_routes_by_name(1, Variant::Delta).await;
}

#[tokio::test]
async fn a_dialled_sidecar_routes_by_name_over_sotw_ads() {
    assert_routes_by_name(2, Variant::Sotw).await;
}

/// A service that appears is reached, one that goes is not, and the others
/// never fail in between.
#[tokio::test]
async fn services_come_and_go_while_others_are_served() {
    let (web, stock) = (Server::http("web").await, Server::tcp("stock").await);
    let shop = Shop::open(3, &web, &stock).await;
    let envoy = shop.sidecar(Variant::Delta).await;
    let unknown = shop.ask("late").await.expect("an answer");
    let late = Server::http("late").await;
    let more = [
        service("late", "10.99.0.3", HTTP_PORT, "http"),
        slice("late", "http", late.port),
    ];
    write(shop.folder.path(), "late.yaml", &more.join("---\n"));
    envoy
        .until("the late service", async |_| {
            assert_eq!(shop.ask("web").await.expect("an answer").body, "web");
            (shop.ask("late").await?.body == "late").then_some(())
        })
        .await;
    fs::remove_file(shop.folder.path().join("late.yaml")).expect("a removed file");
    envoy
        .until("no late service", async |_| {
            assert_eq!(shop.ask("web").await.expect("an answer").body, "web");
            (shop.ask("late").await? == unknown).then_some(())
        })
        .await;
    envoy.assert_all_accepted().await;
}

/// Envoy keeps serving without its control plane, and takes up where it was
/// when one comes back.
#[tokio::test]
async fn a_restarted_control_plane_changes_nothing() {
    let (web, stock) = (Server::http("web").await, Server::tcp("stock").await);
    let mut shop = Shop::open(4, &web, &stock).await;
    let envoy = shop.sidecar(Variant::Delta).await;
    let before = envoy.stat("listener_manager.listener_modified").await;
    shop.plane.restart().await;
    envoy
        .until("connected again", async |envoy| {
            assert_eq!(shop.ask("web").await.expect("an answer").body, "web");
            (envoy.stat("control_plane.connected_state").await? == 1).then_some(())
        })
        .await;
    let other = Server::http("other").await;
    write(
        shop.folder.path(),
        "web.yaml",
        &slice("web", "http", other.port),
    );
    envoy
        .until("the other server", async |_| {
            (shop.ask("web").await?.body == "other").then_some(())
        })
        .await;
    assert_eq!(
        envoy.stat("listener_manager.listener_modified").await,
        before
    );
    envoy.assert_all_accepted().await;
}

#[tokio::test]
async fn a_redirected_sidecar_takes_its_inbound_clusters() {
    let folder = tempfile::tempdir().expect("a folder");
    let addresses: [String; 2] = free_addresses();
    let port = |address: &String| address.rsplit_once(':').expect("a port").1.to_owned();
    let [outbound, inbound] = addresses.each_ref().map(port);
    let objects = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.99.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
status: {podIP: 10.98.0.1, phase: Running, conditions: [{type: Ready, status: 'True'}]}
";
    write(folder.path(), "objects.yaml", objects);
    write(
        folder.path(),
        "mesh",
        &format!("proxyListenPort: {outbound}\nproxyInboundListenPort: {inbound}\n"),
    );
    for variant in [Variant::Delta, Variant::Sotw] {
        let mut plane = Plane::launch(|command| {
            let source = format!("c1={}", folder.path().display());
            command.args(["--cluster-dir", &source]);
            command.arg("--meshConfig").arg(folder.path().join("mesh"));
        });
        plane.wait_ready().await;
        let node = node("10.98.0.1", "REDIRECT", &json!({"app": "web"}));
        let envoy = sidecar(&node, &plane, variant).await;
        envoy.assert_all_accepted().await;
        let listeners = envoy.admin("/listeners").await;
        assert!(listeners.contains("virtualInbound::"), "{listeners}");
        let clusters = envoy.admin("/clusters").await;
        for name in [
            "inbound|8080||::",
            "InboundPassthroughCluster::",
            "outbound|80||web.shop.svc.cluster.local::",
            "PassthroughCluster::",
            "BlackHoleCluster::",
        ] {
            assert!(clusters.contains(name), "{name}: {clusters}");
        }
    }
}
