//! Gateways of a network come and go with what they are derived from, on real
//! API servers.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod kube;
    pub(crate) mod plane;
    pub(crate) mod shop;
    pub(crate) mod watcher;
}

use std::process::Command;

use support::{
    kube::ApiServer,
    plane::Plane,
    shop::{cluster, gateway, namespaces, pods, service, web_slice},
    watcher::{Endpoints, Watcher, proxy},
};

const OWN: &str = "10.1.0.1:8080";
/// What a network without a gateway is reached at.
const FAR: &str = "10.2.0.1:8080";
const GATEWAY: &str = "198.51.100.2:15443";

struct World {
    c2: ApiServer,
    c1: ApiServer,
    plane: Plane,
    watcher: Watcher,
}

async fn world() -> World {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (c1, c2) = tokio::join!(ApiServer::start(), ApiServer::start());
    c1.apply_yaml(&cluster(1)).await;
    c2.apply_yaml(&cluster(2)).await;
    c1.apply_remote_secret("s", &[("c2", c2.kubeconfig("admin-token"))])
        .await;
    let mut plane = Plane::launch(|command| {
        command.arg("--kubeconfig").arg(c1.kubeconfig_path());
        command.args(["--clusterID", "c1"]);
    });
    plane.wait_ready().await;
    let watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web"]).await;
    assert_eq!(watcher.of("web").len(), 2, "{}", plane.log());
    World {
        c2,
        c1,
        plane,
        watcher,
    }
}

impl World {
    async fn apply_and_see(&mut self, change: &str, addresses: &[&str]) {
        self.c2.apply_yaml(change).await;
        self.watcher.until_is("web", addresses).await;
    }
}

/// The gateway's Service with other parts.
fn other_gateway(metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, \
         metadata: {{name: eastwest, namespace: istio-system, {metadata}}}, \
         spec: {{ports: [{{name: tls, port: 15443, nodePort: 31443}}], {spec}}}, \
         status: {{loadBalancer: {status}}}}}\n"
    )
}

const LABEL: &str = "labels: {topology.istio.io/network: n2}";
const BALANCED: &str = "type: LoadBalancer";
const INGRESS: &str = "{ingress: [{ip: 198.51.100.2}]}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_goes_with_its_label_status_and_service() {
    let mut world = world().await;
    let good = gateway(2, "{ip: 198.51.100.2}");
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;

    let unlabelled = other_gateway("labels: {}", BALANCED, INGRESS);
    world.apply_and_see(&unlabelled, &[OWN, FAR]).await;
    world.apply_and_see(&good, &[OWN, GATEWAY]).await;

    let cleared = other_gateway(LABEL, BALANCED, "{}");
    world.apply_and_see(&cleared, &[OWN, FAR]).await;
    let more = gateway(2, "{ip: 198.51.100.2}, {ip: 198.51.100.22}");
    world
        .apply_and_see(&more, &[OWN, GATEWAY, "198.51.100.22:15443"])
        .await;
    world.apply_and_see(&good, &[OWN, GATEWAY]).await;

    let external = other_gateway(LABEL, "type: ClusterIP, externalIPs: [203.0.113.9]", "{}");
    world
        .apply_and_see(&external, &[OWN, "203.0.113.9:15443"])
        .await;

    world.c2.delete_yaml(&external).await;
    world.watcher.until_is("web", &[OWN, FAR]).await;
    world.apply_and_see(&good, &[OWN, GATEWAY]).await;
}

/// The name's network is there but cannot be reached: never by its pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_name_does_not_resolve_hides_its_network() {
    let mut world = world().await;
    let unknown = gateway(2, "{hostname: gateway.invalid}");
    world.apply_and_see(&unknown, &[OWN]).await;
    let log = world.plane.logged("does not resolve").await;
    assert!(log.contains("gateway.invalid"), "{log}");
    world
        .apply_and_see(
            &gateway(2, "{hostname: localhost}"),
            &["127.0.0.1:15443", OWN],
        )
        .await;
    let raw = world
        .watcher
        .since(0, "web")
        .into_iter()
        .any(|e| e.contains_key(FAR));
    assert!(!raw, "{:#?}", world.watcher.history);
}

fn node(addresses: &str, labels: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: node-2, labels: {{{labels}}}}}, \
         status: {{addresses: [{addresses}]}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_port_gateway_follows_the_nodes() {
    let mut world = world().await;
    let external =
        "{type: ExternalIP, address: 203.0.113.2}, {type: InternalIP, address: 10.0.0.2}";
    world.c2.apply_yaml(&node(external, "edge: 'yes'")).await;
    let selected = r#"annotations: {traffic.istio.io/nodeSelector: '{"edge": "yes"}'}"#;
    let by_node = other_gateway(&format!("{LABEL}, {selected}"), "type: NodePort", "{}");
    world
        .apply_and_see(&by_node, &[OWN, "203.0.113.2:31443"])
        .await;
    world
        .apply_and_see(&node(external, "edge: 'no'"), &[OWN, FAR])
        .await;
    world
        .apply_and_see(&node(external, "edge: 'yes'"), &[OWN, "203.0.113.2:31443"])
        .await;
    let internal = "{type: InternalIP, address: 10.0.0.2}";
    world
        .apply_and_see(&node(internal, "edge: 'yes'"), &[OWN, FAR])
        .await;
    world
        .apply_and_see(&node(external, "edge: 'yes'"), &[OWN, "203.0.113.2:31443"])
        .await;
    world.c2.delete_yaml(&node(external, "")).await;
    world.watcher.until_is("web", &[OWN, FAR]).await;
}

fn gateway_object(labels: &str, address: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: eastwest, namespace: istio-system, labels: {{{labels}}}}}
spec:
  gatewayClassName: istio
  addresses: [{{type: IPAddress, value: {address}}}]
  listeners:
  - {{name: tls, port: 15443, protocol: TLS, tls: {{mode: Passthrough, options: {{gateway.istio.io/listener-protocol: auto-passthrough}}}}}}
"
    )
}

/// The CRDs come while isthmus runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_object_counts_while_it_has_its_label() {
    let mut world = world().await;
    let old = other_gateway("labels: {}", BALANCED, INGRESS);
    world.apply_and_see(&old, &[OWN, FAR]).await;
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .arg("crds")
        .output();
    let crds = String::from_utf8(output.expect("isthmus crds").stdout).expect("YAML");
    world.c2.apply_yaml(&crds).await;
    let label = "topology.istio.io/network: n2";
    let good = gateway_object(label, "203.0.113.5");
    world
        .apply_and_see(&good, &[OWN, "203.0.113.5:15443"])
        .await;
    world
        .apply_and_see(&gateway_object("", "203.0.113.5"), &[OWN, FAR])
        .await;
    world
        .apply_and_see(
            &gateway_object(label, "203.0.113.6"),
            &[OWN, "203.0.113.6:15443"],
        )
        .await;
    world.c2.delete_yaml(&good).await;
    world.watcher.until_is("web", &[OWN, FAR]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_of_services_and_namespaces_are_followed() {
    let mut world = world().await;
    // The network of a whole cluster.
    let relabelled = namespaces(2).replace("network: n2", "network: n1");
    world.apply_and_see(&relabelled, &[OWN, FAR]).await;
    world.apply_and_see(&namespaces(2), &[OWN, GATEWAY]).await;
    // The port of a gateway.
    let port = "labels: {topology.istio.io/network: n2, networking.istio.io/gatewayPort: '15443'}";
    world
        .c2
        .apply_yaml(&other_gateway(port, BALANCED, INGRESS))
        .await;
    // The selector and visibility of a service.
    let hidden = service("web").replace(
        "namespace: shop",
        "namespace: shop, annotations: {networking.istio.io/exportTo: '~'}",
    );
    world.c1.apply_yaml(&hidden).await;
    world.watcher.until_is("web", &[]).await;
    world.c1.apply_yaml(&service("web")).await;
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;
}

/// One address in two pods, and in two clusters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_collide_are_kept_apart() {
    let mut world = world().await;
    // The pod range of c1, in c2, which is another network.
    world
        .c2
        .apply_yaml(&pods(2, &["10.1.0.1", "10.1.0.2"]))
        .await;
    world
        .c2
        .apply_yaml(&web_slice(2, &["10.1.0.1", "10.1.0.2"]))
        .await;
    let both = |e: &Endpoints| e.get(OWN) == Some(&1) && e.get(GATEWAY) == Some(&2);
    world.watcher.until("web", both).await;

    // Two pods with one address in one cluster: one endpoint.
    let twin = pods(1, &["10.1.0.1"]).replace("name: web-10-1-0-1", "name: twin");
    world.c1.apply_yaml(&twin).await;
    let slice = web_slice(1, &["10.1.0.1", "10.1.0.2"]).replace("name: web-10-1-0-2", "name: twin");
    world.c1.apply_yaml(&pods(1, &["10.1.0.2"])).await;
    world.c1.apply_yaml(&slice).await;
    world
        .watcher
        .until("web", |e| e.contains_key("10.1.0.2:8080"))
        .await;
    world.c1.delete_yaml(&twin).await;
    world.c1.apply_yaml(&web_slice(1, &["10.1.0.1"])).await;
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;
}
