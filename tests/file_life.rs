//! Folders of manifests that change under the running binary, as proxies see it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod plane;
    pub(crate) mod shop;
    pub(crate) mod watcher;
}

use std::{fs, path::Path};

use support::{
    plane::Plane,
    shop::{cluster, gateway, marker, pods, service, web_slice},
    watcher::{Watcher, proxy},
};
use tempfile::TempDir;

const OWN: &str = "10.1.0.1:8080";
const FAR: &str = "10.2.0.1:8080";
const GATEWAY: &str = "198.51.100.2:15443";

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    let beside = folder.join("beside");
    fs::write(&beside, text).expect("a written file");
    fs::rename(beside, path).expect("a renamed file");
}

struct World {
    folder: TempDir,
    plane: Plane,
    watcher: Watcher,
}

impl World {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for number in [1, 2] {
            let file = format!("c{number}/all.yaml");
            write(folder.path(), &file, &cluster(number));
        }
        for (file, text) in arguments.iter().zip(arguments.iter().skip(1)) {
            if let Some(name) = file.strip_prefix("file:") {
                write(folder.path(), name, text);
            }
        }
        let flags = arguments.iter().filter(|a| a.starts_with("--"));
        let mut plane = Plane::launch(|command| {
            command.args(["--cluster-dir", "c1=c1", "--cluster-dir", "c2=c2"]);
            command.args(["--clusterID", "c1"]).args(flags);
            command.current_dir(folder.path());
        });
        plane.wait_ready().await;
        let watcher = Watcher::open(plane.ads(), &proxy("c1", "n1"), &["web", "marker"]).await;
        Self {
            folder,
            plane,
            watcher,
        }
    }

    fn write(&self, file: &str, text: &str) {
        write(self.folder.path(), file, text);
    }

    /// What is told after a change to another service: nothing of `web`.
    async fn assert_nothing_of_web(&mut self, state: u8) {
        let start = self.watcher.history.len();
        self.write(
            "c1/marker.yaml",
            &marker(1, state).replace("marker-1", "marker-2"),
        );
        let address = format!("10.1.9.{state}:8080");
        self.watcher
            .until("marker", |e| e.contains_key(&address))
            .await;
        let told = self.watcher.since(start, "web");
        assert!(told.is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn files_that_change_come_and_go_are_followed() {
    let mut world = World::start(&[]).await;
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;

    // Into a new folder, and another beside it.
    let more = [
        pods(1, &["10.1.0.2"]),
        web_slice(1, &["10.1.0.2"]).replace("name: web-1,", "name: web-2,"),
    ];
    world.write("c1/new/deep/more.yaml", &more.join("---\n"));
    world
        .watcher
        .until("web", |e| e.contains_key("10.1.0.2:8080"))
        .await;
    // Renamed, it is what it was.
    let at = |name: &str| world.folder.path().join(name);
    fs::rename(at("c1/new"), at("c1/other")).expect("renamed");
    world.assert_nothing_of_web(2).await;
    fs::remove_dir_all(world.folder.path().join("c1/other")).expect("removed");
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;

    // A broken rewrite keeps the last good one, and a bad object costs itself.
    world.write("c2/all.yaml", "apiVersion: [");
    world.plane.logged("not YAML").await;
    world.assert_nothing_of_web(3).await;
    let bad = "{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: shop}, \
               spec: {clusterIP: 999.0.0.1, ports: [{port: 1}]}}\n---\n";
    let more = [
        pods(2, &["10.2.0.2"]),
        web_slice(2, &["10.2.0.2"]).replace("name: web-1,", "name: web-2,"),
    ];
    world.write(
        "c2/all.yaml",
        &format!("{bad}{}---\n{}", cluster(2), more.join("---\n")),
    );
    world
        .watcher
        .until("web", |e| e.get(GATEWAY) == Some(&2))
        .await;
    let line = world.plane.logged("Service shop/bad").await;
    assert!(line.contains("c2/all.yaml"), "{line}");
    let refused = world.plane.metric("isthmus_invalid_manifests_total").await;
    assert!(refused >= Some(2.0), "{refused:?}");

    // Everything of a cluster goes with its file, and comes back.
    fs::remove_file(world.folder.path().join("c2/all.yaml")).expect("removed");
    world.watcher.until_is("web", &[OWN]).await;
    world.write("c2/all.yaml", &cluster(2));
    world.watcher.until_is("web", &[OWN, GATEWAY]).await;
}

fn mesh_map(mesh: &str, networks: &str) -> String {
    let data = serde_json::json!({"mesh": mesh, "meshNetworks": networks});
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, \
         data: {data}}}\n"
    )
}

/// A cluster that does not say which network it is.
fn without_label(number: usize) -> String {
    let label = format!("labels: {{topology.istio.io/network: n{number}}}");
    let text = cluster(number);
    assert!(text.contains(&label));
    text.replace(&label, "labels: {}")
}

/// Cluster `c2` as network n2, whose gateway is at an address.
fn networks(address: &str) -> String {
    format!(
        "networks: {{n2: {{endpoints: [{{fromRegistry: c2}}], \
         gateways: [{{address: {address}, port: 15443}}]}}}}"
    )
}

#[tokio::test]
async fn the_mesh_config_map_of_the_config_cluster_is_followed() {
    let mut world = World::start(&[]).await;
    world.write(
        "c2/all.yaml",
        &cluster(2).replace("labels: {topology.istio.io/network: n2}", ""),
    );
    world
        .watcher
        .until("web", |e| !e.contains_key(GATEWAY))
        .await;
    world.write("c1/mesh.yaml", &mesh_map("", &networks("203.0.113.1")));
    world
        .watcher
        .until_is("web", &[OWN, "203.0.113.1:15443"])
        .await;
    // Nonsense keeps the last good settings.
    world.write(
        "c1/mesh.yaml",
        &mesh_map("a: [", "networks: {n2: {gateways: 5}}"),
    );
    world.plane.logged("meshNetworks").await;
    world.assert_nothing_of_web(4).await;
    world.write("c1/mesh.yaml", &mesh_map("", &networks("203.0.113.2")));
    world
        .watcher
        .until_is("web", &[OWN, "203.0.113.2:15443"])
        .await;
    // That of another cluster says nothing of networks.
    world.write("c2/mesh.yaml", &mesh_map("", &networks("203.0.113.3")));
    world.assert_nothing_of_web(5).await;
    // Selectors choose namespaces, at once.
    let selectors = "discoverySelectors: [{matchLabels: {kubernetes.io/metadata.name: none}}]";
    world.write(
        "c1/mesh.yaml",
        &mesh_map(selectors, &networks("203.0.113.2")),
    );
    world.watcher.until_is("web", &[]).await;
    fs::remove_file(world.folder.path().join("c1/mesh.yaml")).expect("removed");
    world.watcher.until_is("web", &[OWN, FAR]).await;
}

#[tokio::test]
async fn settings_files_are_followed_and_win_over_the_config_map() {
    let local = "serviceSettings: [{settings: {clusterLocal: true}, hosts: ['web.shop.svc.cluster.local']}]";
    let given = networks("203.0.113.8");
    let files = [
        "--meshConfig=mesh",
        "--networksConfig=networks",
        "file:mesh",
        "{}",
        "file:networks",
        given.as_str(),
    ];
    let mut world = World::start(&files).await;
    world.write("c2/all.yaml", &without_label(2));
    world
        .watcher
        .until_is("web", &[OWN, "203.0.113.8:15443"])
        .await;
    world.write("c1/mesh.yaml", &mesh_map(local, "networks: {}"));
    world.assert_nothing_of_web(2).await;
    world.write("mesh", local);
    world.watcher.until_is("web", &[OWN]).await;
    world.write("mesh", "serviceSettings: 5");
    world.plane.logged("the last good ones stay").await;
    world.assert_nothing_of_web(3).await;
    world.write("mesh", "{}");
    world
        .watcher
        .until_is("web", &[OWN, "203.0.113.8:15443"])
        .await;
    world.write("networks", "networks: {}");
    world.watcher.until_is("web", &[OWN, FAR]).await;
    // Gone, it has said what it said.
    fs::remove_file(world.folder.path().join("networks")).expect("removed");
    world.assert_nothing_of_web(4).await;
    world.write("networks", &given);
    world
        .watcher
        .until_is("web", &[OWN, "203.0.113.8:15443"])
        .await;
}

/// Wrong shapes of every kind that is read, one file each.
#[tokio::test]
async fn objects_of_wrong_shape_never_harm_the_others() {
    const KINDS: &[&str] = &[
        "v1/Service",
        "v1/Pod",
        "v1/Node",
        "v1/Namespace",
        "v1/ConfigMap",
        "discovery.k8s.io/v1/EndpointSlice",
        "networking.istio.io/v1/DestinationRule",
        "networking.istio.io/v1/ServiceEntry",
        "networking.istio.io/v1/WorkloadEntry",
        "networking.istio.io/v1/Sidecar",
        "networking.istio.io/v1/Gateway",
        "security.istio.io/v1/PeerAuthentication",
        "gateway.networking.k8s.io/v1/Gateway",
    ];
    const SHAPES: &[&str] = &[
        "spec: 5",
        "spec: []",
        "spec: text",
        "spec: null",
        "status: 5",
        "endpoints: 5",
        "endpoints: [5, null, {addresses: 5}]",
        "ports: {a: 1}",
        "data: 5",
        "data: {mesh: 5}",
        "spec: {hosts: 5, host: [], ports: 5, egress: 5, servers: 5, selector: 5, listeners: 5}",
        "spec: {hosts: [5], ports: [5], egress: [5], servers: [5], subsets: [5], endpoints: [5]}",
        "spec: {ports: [{number: -1}], clusterIP: [], mtls: 5, trafficPolicy: 5, address: {}}",
        "spec: {host: web, trafficPolicy: {tls: {mode: [5]}, loadBalancer: 5, outlierDetection: []}}",
        "spec: {podCIDR: 5}, status: {addresses: 5, podIP: 5, conditions: 5, phase: []}",
    ];
    let mut world = World::start(&[]).await;
    let mut all = Vec::new();
    for (i, kind) in KINDS.iter().enumerate() {
        let (version, kind) = kind.rsplit_once('/').expect("a kind");
        for (j, shape) in SHAPES.iter().enumerate() {
            for meta in [
                "name: x, namespace: shop",
                "name: x, namespace: shop, labels: 5",
            ] {
                let meta = meta.replace("name: x", &format!("name: bad-{i}-{j}"));
                all.push(format!(
                    "{{apiVersion: {version}, kind: {kind}, metadata: {{{meta}}}, {shape}}}\n"
                ));
            }
        }
    }
    world.write("c1/bad.yaml", &all.join("---\n"));
    world.write("c2/bad.yaml", &all.join("---\n"));
    world.plane.logged("c2/bad.yaml").await;
    world.assert_nothing_of_web(2).await;
    world.write(
        "c2/more.yaml",
        &[service("late"), gateway(2, "{ip: 198.51.100.2}")].join("---\n"),
    );
    world.assert_nothing_of_web(3).await;
    assert!(!world.plane.log().contains("panicked"));
}
