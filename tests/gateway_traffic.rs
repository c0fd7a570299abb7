//! Connections and requests through a real Envoy as a gateway.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod mesh_tls;
    pub(crate) mod plane;
    pub(crate) mod servers;
}

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    envoy::{Envoy, Variant},
    mesh_tls,
    plane::Plane,
    servers::{Server, own_address, write},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const PORT: u16 = 15443;

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
fn front(network: &str, address: Ipv4Addr) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: eastwest
  namespace: istio-system
  labels: {{topology.istio.io/network: {network}}}
spec: {{type: LoadBalancer, ports: [{{name: tls, port: {PORT}}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}
"
    )
}

fn gateway(bind: Ipv4Addr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: cross-network, namespace: istio-system}}
spec:
  selector: {{istio: eastwestgateway}}
  servers:
  - port: {{number: {PORT}, name: tls, protocol: TLS}}
    bind: {bind}
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
    async fn set(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, PORT)).await.expect("its port");
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
    let bind = own_address(test);
    let objects = vec![
        namespaces("n1"),
        gateway(bind),
        service("web", web.port),
        service("stock", stock.port),
    ];
    let mesh = Mesh::start(&[("c1", objects)]).await;
    let envoy = mesh.envoy(&router("eastwestgateway", "n1"), variant).await;
    let address = format!("{bind}:{PORT}");
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
    let (here, there) = (own_address(3), own_address(4));
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
    let address = format!("{here}:{PORT}");
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
    assert!(!clusters.contains(&there.to_string()), "{clusters}");
    envoy.assert_all_accepted().await;
}
