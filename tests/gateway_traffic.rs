//! Connections and requests through a real Envoy as a gateway.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod mesh_tls;
    pub(crate) mod plane;
    pub(crate) mod servers;
}

use std::{
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    envoy::{Envoy, Variant, get},
    mesh_tls,
    plane::{Plane, free_addresses},
    servers::{Server, own_address, write},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// An address of its own, with a port that no other program listens on at all
/// addresses.
fn free_address(test: u8) -> SocketAddrV4 {
    let [free] = free_addresses();
    let free: SocketAddrV4 = free.parse().expect("an address");
    SocketAddrV4::new(own_address(test), free.port())
}

fn namespaces(network: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: istio-system, \
         labels: {{topology.istio.io/network: {network}}}}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}
"
    )
}

/// A service with one pod that takes mesh TLS at a port of this machine.
fn service(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{selector: {{app: {name}}}, ports: [{{name: tcp, port: 80}}]}}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {name}-1
  namespace: shop
  labels: {{app: {name}, version: v1, security.istio.io/tlsMode: istio}}
status: {{podIP: 127.0.0.1, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
ports: [{{name: tcp, port: {port}}}]
endpoints:
- addresses: [127.0.0.1]
  conditions: {{ready: true}}
  targetRef: {{kind: Pod, name: {name}-1, namespace: shop}}
"
    )
}

/// How other networks reach this one.
fn front(network: &str, address: SocketAddrV4) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: eastwest
  namespace: istio-system
  labels: {{topology.istio.io/network: {network}, networking.istio.io/gatewayPort: '{port}'}}
spec: {{type: LoadBalancer, ports: [{{name: tls, port: {port}}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {ip}}}]}}}}
"
    )
}

fn gateway(address: SocketAddrV4) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: cross-network, namespace: istio-system}}
spec:
  selector: {{istio: eastwestgateway}}
  servers:
  - port: {{number: {port}, name: tls, protocol: TLS}}
    bind: {ip}
    tls: {{mode: AUTO_PASSTHROUGH}}
    hosts: ['*.local']
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec:
  host: web.shop.svc.cluster.local
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
"
    )
}

/// A router on network `n1`. Without mutual TLS of its own it needs no agent.
fn router(istio: &str, view: &str) -> Value {
    let name = "router-1";
    json!({
        "id": format!("router~10.98.0.1~{name}.istio-system~istio-system.svc.cluster.local"),
        "cluster": "router",
        "metadata": {
            "CLUSTER_ID": "c1", "NAMESPACE": "istio-system", "INSTANCE_IPS": "10.98.0.1",
            "LABELS": {"istio": istio}, "NETWORK": "n1", "REQUESTED_NETWORK_VIEW": view,
        },
    })
}

/// Clusters as folders, and a control plane over them.
struct Mesh {
    folder: TempDir,
    plane: Plane,
}

impl Mesh {
    async fn start(clusters: &[(&str, Vec<String>)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "mesh", "enableAutoMtls: false\n");
        for (name, objects) in clusters {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("a folder");
            write(&path, "objects.yaml", &objects.join("---\n"));
        }
        let mut plane = Plane::launch(|command| {
            for (name, _) in clusters {
                let source = format!("{name}={}", folder.path().join(name).display());
                command.args(["--cluster-dir", &source]);
            }
            command.args(["--clusterID", "c1", "--meshConfig"]);
            command.arg(folder.path().join("mesh"));
        });
        plane.wait_ready().await;
        Self { folder, plane }
    }

    fn cluster(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn envoy(&self, node: &Value, variant: Variant) -> Envoy {
        let envoy = Envoy::start(node, self.plane.ads(), variant).await;
        envoy.wait_live().await;
        envoy
    }
}

/// Counts connections to a gateway that must not be used.
struct Trap {
    count: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Trap {
    async fn set(address: SocketAddrV4) -> Self {
        let listener = TcpListener::bind(address).await.expect("its port");
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while listener.accept().await.is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            count,
            _tasks: tasks,
        }
    }
}

fn sni(subset: &str, service: &str) -> String {
    format!("outbound_.80_.{subset}_.{service}.shop.svc.cluster.local")
}

async fn assert_forwards_by_name(test: u8, variant: Variant) {
    let (web, stock) = (
        mesh_tls::server("web").await,
        mesh_tls::server("stock").await,
    );
    let address = free_address(test);
    let objects = vec![
        namespaces("n1"),
        gateway(address),
        service("web", web.port),
        service("stock", stock.port),
    ];
    let mesh = Mesh::start(&[("c1", objects)]).await;
    let envoy = mesh.envoy(&router("eastwestgateway", "n1"), variant).await;
    let address = address.to_string();
    let call = async |name: &str, protocol: &str| mesh_tls::call(&address, name, protocol).await;
    for (subset, service) in [("", "web"), ("", "stock"), ("v1", "web")] {
        let name = sni(subset, service);
        assert_eq!(
            call(&name, "istio").await.as_deref(),
            Some(service),
            "{name}"
        );
    }
    for (name, protocol) in [
        (sni("", "unknown"), "istio"),
        (sni("v2", "web"), "istio"),
        (sni("v3", "web"), "istio"),
        ("web.shop.svc.cluster.local".to_owned(), "istio"),
        (sni("", "web"), "h2"),
        (sni("", "web"), "http/1.1"),
    ] {
        assert_eq!(call(&name, protocol).await, None, "{name} {protocol}");
    }
    assert_eq!(plain_text(&address).await, "", "nobody answers plain text");
    envoy.assert_all_accepted().await;
    assert_follows_services(&mesh, &envoy, &address).await;
}

/// What is said to a caller that speaks no TLS.
async fn plain_text(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n";
    stream.write_all(request).await.expect("a written request");
    let mut said = Vec::new();
    // It may be reset with the request unread.
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// A service that appears is reached, while the others stay so.
async fn assert_follows_services(mesh: &Mesh, envoy: &Envoy, address: &str) {
    let late = mesh_tls::server("late").await;
    write(
        &mesh.cluster("c1"),
        "late.yaml",
        &service("late", late.port),
    );
    let (name, other) = (sni("", "late"), sni("", "web"));
    envoy
        .until("the late service", async |_| {
            let web = mesh_tls::call(address, &other, "istio").await;
            assert_eq!(web.as_deref(), Some("web"));
            mesh_tls::call(address, &name, "istio").await
        })
        .await;
}

#[tokio::test]
async fn an_east_west_gateway_forwards_by_name_over_delta_ads() {
    assert_forwards_by_name(1, Variant::Delta).await;
}

#[tokio::test]
async fn an_east_west_gateway_forwards_by_name_over_sotw_ads() {
    assert_forwards_by_name(2, Variant::Sotw).await;
}

/// Two hops would be a loop as soon as the other side did the same.
#[tokio::test]
async fn a_gateway_with_a_network_view_never_forwards_to_another_gateway() {
    let (here, there) = (free_address(3), free_address(4));
    let (trap, web) = (Trap::set(there).await, mesh_tls::server("web").await);
    let near = vec![
        namespaces("n1"),
        gateway(here),
        front("n1", here),
        service("web", web.port),
    ];
    let remote = Server::tcp("unused").await;
    let far = vec![
        namespaces("n2"),
        front("n2", there),
        service("web", remote.port),
        service("far", remote.port),
    ];
    let mesh = Mesh::start(&[("c1", near), ("c2", far)]).await;
    let address = here.to_string();
    // A router that looks at all networks would go that way.
    let open = mesh.envoy(&router("other", ""), Variant::Delta).await;
    let clusters = open.admin("/clusters").await;
    assert!(clusters.contains(&there.to_string()), "{clusters}");
    let envoy = mesh
        .envoy(&router("eastwestgateway", "n1"), Variant::Delta)
        .await;
    for _ in 0..20 {
        let answer = mesh_tls::call(&address, &sni("", "web"), "istio").await;
        assert_eq!(answer.as_deref(), Some("web"));
        assert_eq!(
            mesh_tls::call(&address, &sni("", "far"), "istio").await,
            None
        );
    }
    assert_eq!(trap.count.load(Ordering::Relaxed), 0);
    let clusters = envoy.admin("/clusters").await;
    assert!(!clusters.contains(&there.ip().to_string()), "{clusters}");
    envoy.assert_all_accepted().await;
}

/// An HTTP service whose pod takes plain text.
fn plain_service(name: &str, port: u16) -> String {
    service(name, port)
        .replace("name: tcp", "name: http")
        .replace(", security.istio.io/tlsMode: istio", "")
}

fn ingress(http: SocketAddrV4, tls: SocketAddrV4) -> String {
    let ports = [http.port(), tls.port()];
    let ([http_port, tls_port], ip) = (ports, http.ip());
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: public, namespace: shop}}
spec:
  selector: {{istio: ingress}}
  servers:
  - port: {{number: {http_port}, name: http, protocol: HTTP}}
    bind: {ip}
    hosts: ['*.example.com']
  - port: {{number: {tls_port}, name: tls, protocol: TLS}}
    bind: {ip}
    hosts: ['*']
    tls: {{mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [shop.example.com]
  gateways: [public]
  http:
  - match: [{{uri: {{prefix: /stock}}}}]
    route: [{{destination: {{host: stock}}}}]
  - match: [{{uri: {{exact: /}}}}]
    route: [{{destination: {{host: web}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: tls, namespace: shop}}
spec:
  hosts: ['*']
  gateways: [public]
  tls:
  - match: [{{sniHosts: [safe.example.com]}}]
    route: [{{destination: {{host: safe}}}}]
"
    )
}

#[tokio::test]
async fn an_ingress_routes_requests_by_host_and_path_and_tls_by_name() {
    let (web, stock) = (Server::http("web").await, Server::http("stock").await);
    let safe = mesh_tls::server("safe").await;
    let (http, tls) = (free_address(5), free_address(5));
    let objects = vec![
        namespaces("n1"),
        ingress(http, tls),
        plain_service("web", web.port),
        plain_service("stock", stock.port),
        service("safe", safe.port),
    ];
    let mesh = Mesh::start(&[("c1", objects)]).await;
    let envoy = mesh.envoy(&router("ingress", ""), Variant::Delta).await;
    let (http, tls) = (http.to_string(), tls.to_string());
    let ask = async |host: &str, path: &str| get(&http, host, path).await.expect("an answer");
    for (host, path, name) in [
        ("shop.example.com", "/", "web"),
        ("SHOP.example.com:8080", "/", "web"),
        ("shop.example.com", "/stock/1", "stock"),
    ] {
        let answer = ask(host, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, name), "{path}");
    }
    for (host, path) in [("shop.example.com", "/other"), ("other.example.com", "/")] {
        assert_eq!(ask(host, path).await.status, 404, "{host} {path}");
    }
    let call = async |name: &str| mesh_tls::call(&tls, name, "istio").await;
    assert_eq!(call("safe.example.com").await.as_deref(), Some("safe"));
    assert_eq!(call("other.example.com").await, None);
    envoy.assert_all_accepted().await;
}
