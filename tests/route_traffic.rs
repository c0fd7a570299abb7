//! Requests through a real Envoy that `VirtualService`s and `DestinationRule`s
//! route: shares, matches, time-outs, retries, and failover with ejection.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod envoy;
    pub(crate) mod plane;
    pub(crate) mod servers;
}

use std::{
    future::pending,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use support::{
    envoy::{Answer, Envoy, Variant, get},
    plane::Plane,
    servers::{Server, own_address, write},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const HTTP_PORT: u16 = 28080;
const TCP_PORT: u16 = 29090;

/// How many pods there are: they are told apart by their addresses.
static PODS: AtomicU32 = AtomicU32::new(1);

/// A pod that says its name and the path it was asked for.
struct Pod {
    name: &'static str,
    version: &'static str,
    region: &'static str,
    address: Ipv4Addr,
    state: Arc<State>,
    server: Server,
}

#[derive(Default)]
struct State {
    /// Answers 503.
    failing: AtomicBool,
    /// How many more requests for `/flaky` are answered 503.
    flaky: AtomicU32,
    /// Requests it was asked.
    asked: AtomicU32,
}

impl State {
    /// Status for a path; none for no answer at all.
    fn status(&self, path: &str) -> Option<u16> {
        self.asked.fetch_add(1, SeqCst);
        let takes_one = |left: u32| left.checked_sub(1);
        if path == "/hang" {
            return None;
        }
        let flaky = path == "/flaky" && self.flaky.fetch_update(SeqCst, SeqCst, takes_one).is_ok();
        let failing = flaky || self.failing.load(SeqCst);
        Some(if failing { 503 } else { 200 })
    }
}

impl Pod {
    async fn new(name: &'static str, version: &'static str, region: &'static str) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let [.., number] = PODS.fetch_add(1, SeqCst).to_be_bytes();
        let address = Ipv4Addr::new(127, 0, 77, number);
        let answer = move |stream| serve(stream, name, Arc::clone(&shared));
        let server = Server::start_at(address, answer).await;
        Self {
            name,
            version,
            region,
            address,
            state,
            server,
        }
    }

    /// The pod, its node, and the slice with its port.
    fn manifests(&self, service: &str) -> String {
        let Self {
            name,
            version,
            region,
            address,
            ..
        } = self;
        let port = self.server.port;
        format!(
            "apiVersion: v1
kind: Node
metadata: {{name: node-{region}, labels: {{topology.kubernetes.io/region: {region}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {service}, version: {version}}}}}
spec: {{nodeName: node-{region}, containers: [{{name: a, image: a}}]}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}], conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}
ports: [{{name: http, port: {port}}}]
endpoints:
- addresses: [{address}]
  nodeName: node-{region}
  conditions: {{ready: true}}
  targetRef: {{kind: Pod, name: {name}, namespace: shop}}
"
        )
    }
}

async fn serve(mut stream: TcpStream, name: &'static str, state: Arc<State>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let Some(status) = state.status(path) else {
            return pending().await;
        };
        let body = format!("{name} {path}");
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const SERVICES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec: {clusterIP: 10.99.0.1, ports: [{name: http, port: 28080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.99.0.2, ports: [{name: tcp, port: 29090}]}
";

/// A control plane, and an Envoy in region `here` that is configured by it.
struct World {
    _folder: TempDir,
    _plane: Plane,
    envoy: Envoy,
    bind: Ipv4Addr,
}

impl World {
    async fn open(test: u8, pods: &[&Pod], configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bind = own_address(test);
        let listens = format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec: {{egress: [{{bind: {bind}, captureMode: NONE, hosts: ['*/*']}}]}}
"
        );
        let mut all = vec![SERVICES.to_owned(), listens, configuration.to_owned()];
        all.extend(pods.iter().map(|pod| pod.manifests("hello")));
        write(folder.path(), "all.yaml", &all.join("---\n"));
        // These pods have no certificates.
        write(folder.path(), "mesh", "enableAutoMtls: false\n");
        let mut plane = Plane::launch(|command| {
            let source = format!("c1={}", folder.path().display());
            command.args(["--cluster-dir", &source, "--meshConfig"]);
            command.arg(folder.path().join("mesh"));
        });
        plane.wait_ready().await;
        let node = json!({
            "id": "sidecar~10.98.0.1~client.shop~shop.svc.cluster.local",
            "cluster": "client.shop",
            "locality": {"region": "here"},
            "metadata": {
                "CLUSTER_ID": "c1", "NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE",
                "INSTANCE_IPS": "10.98.0.1", "LABELS": {"app": "client"},
            },
        });
        let envoy = Envoy::start(&node, plane.ads(), Variant::Delta).await;
        envoy.wait_live().await;
        envoy.assert_all_accepted().await;
        Self {
            _folder: folder,
            _plane: plane,
            envoy,
            bind,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let at = format!("{}:{HTTP_PORT}", self.bind);
        get(&at, "hello", path).await.expect("an answer")
    }

    /// Status and body.
    async fn asked(&self, path: &str) -> (u16, String) {
        let Answer { status, body } = self.get(path).await;
        (status, body)
    }

    /// The name of the pod that answers a request with one more header.
    async fn asked_with(&self, header: &str) -> String {
        let mut stream = TcpStream::connect((self.bind, HTTP_PORT))
            .await
            .expect("a listener");
        let head =
            format!("GET / HTTP/1.1\r\nhost: hello\r\n{header}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (_, body) = text.rsplit_once("\r\n\r\n").expect("a body");
        body.split(' ').next().unwrap_or_default().to_owned()
    }
}

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hello, namespace: shop}
spec:
  host: hello
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello, namespace: shop}
spec:
  hosts: [hello]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: hello, subset: v2}}]
  - match: [{withoutHeaders: {cookie: {}}, headers: {beta: {regex: 'yes|true'}}}]
    route: [{destination: {host: hello, subset: v2}}]
  - match: [{uri: {prefix: /slow}}]
    rewrite: {uri: /hang}
    timeout: 0.2s
    retries: {attempts: 0}
    route: [{destination: {host: hello, subset: v1}}]
  - match: [{uri: {prefix: /flaky}}]
    retries: {attempts: 3, retryOn: '503'}
    route: [{destination: {host: hello, subset: v1}}]
  - match: [{uri: {prefix: /once}}]
    rewrite: {uri: /flaky}
    retries: {attempts: 0}
    route: [{destination: {host: hello, subset: v1}}]
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, redirectCode: 302}
  - match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {exact: /broken}}]
    fault: {abort: {httpStatus: 429, percentage: {value: 100}}}
    route: [{destination: {host: hello}}]
  - match: [{uri: {regex: '/items/[0-9]+'}}]
    rewrite: {uriRegexRewrite: {match: '^/items/(.*)$', rewrite: '/things/\\1'}}
    route: [{destination: {host: hello, subset: v1}}]
  - route:
    - {destination: {host: hello, subset: v2}, weight: 20}
    - {destination: {host: hello, subset: v1}, weight: 80}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp: [{route: [{destination: {host: hello, subset: v2, port: {number: 28080}}}]}]
";

#[tokio::test]
async fn requests_go_where_the_users_routes_say() {
    let v1 = Pod::new("one", "v1", "here").await;
    let v2 = Pod::new("two", "v2", "here").await;
    let world = World::open(1, &[&v1, &v2], ROUTES).await;

    for header in ["end-user: jason", "beta: yes"] {
        for _ in 0..20 {
            assert_eq!(world.asked_with(header).await, "two", "{header}");
        }
    }
    let started = Instant::now();
    assert_eq!(world.asked("/slow").await.0, 504);
    assert!(started.elapsed() >= Duration::from_millis(150));

    v1.state.flaky.store(2, SeqCst);
    assert_eq!(world.asked("/flaky").await, (200, "one /flaky".to_owned()));
    v1.state.flaky.store(1, SeqCst);
    assert_eq!(world.asked("/once").await.0, 503, "retries are off");

    assert_eq!(world.asked("/old").await.0, 302);
    let answer = (418, "short and stout".to_owned());
    assert_eq!(world.asked("/teapot").await, answer);
    assert_eq!(world.asked("/broken").await.0, 429);
    let rewritten = (200, "one /things/7".to_owned());
    assert_eq!(world.asked("/items/7").await, rewritten);

    let mut stream = TcpStream::connect((world.bind, TCP_PORT))
        .await
        .expect("a listener");
    stream
        .write_all(b"GET /bytes X\r\n\r\n")
        .await
        .expect("sent");
    let mut said = vec![0; 15];
    stream.read_exact(&mut said).await.expect("an answer");
    assert_eq!(
        v2.state.asked.load(SeqCst),
        41,
        "20 of each header, and the bytes"
    );
}

#[tokio::test]
async fn a_canary_gets_its_share() {
    const REQUESTS: u32 = 1000;
    let v1 = Pod::new("one", "v1", "here").await;
    let v2 = Pod::new("two", "v2", "here").await;
    let world = World::open(2, &[&v1, &v2], ROUTES).await;
    for _ in 0..REQUESTS {
        assert_eq!(world.get("/").await.status, 200);
    }
    let canary = v2.state.asked.load(SeqCst);
    assert_eq!(canary + v1.state.asked.load(SeqCst), REQUESTS);
    // Four standard deviations are 51 requests.
    assert!((140..=260).contains(&canary), "{canary} of {REQUESTS}");
}

const FAILOVER: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hello, namespace: shop}
spec:
  host: hello
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 1s}
    loadBalancer:
      localityLbSetting: {failover: [{from: here, to: there}]}
";

#[tokio::test]
async fn requests_leave_a_place_where_all_fail_and_come_back() {
    let near = [
        Pod::new("near-1", "v1", "here").await,
        Pod::new("near-2", "v1", "here").await,
    ];
    let far = Pod::new("far", "v1", "there").await;
    let world = World::open(3, &[&near[0], &near[1], &far], FAILOVER).await;
    for _ in 0..20 {
        let (status, body) = world.asked("/").await;
        assert!(status == 200 && body.starts_with("near"), "{status} {body}");
    }
    for pod in &near {
        pod.state.failing.store(true, SeqCst);
    }
    world
        .envoy
        .until("all near ones ejected", async |_| {
            let (status, body) = world.asked("/").await;
            (status == 200 && body.starts_with("far")).then_some(())
        })
        .await;
    for pod in &near {
        pod.state.failing.store(false, SeqCst);
    }
    world
        .envoy
        .until("back near", async |_| {
            let (status, body) = world.asked("/").await;
            (status == 200 && body.starts_with("near")).then_some(())
        })
        .await;
}
