//! An unmodified peer: the binary against a client that does what istio's
//! pilot-agent does, with tokens and ConfigMaps of a real API server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod support {
    pub(crate) mod kube;
    pub(crate) mod peer;
    pub(crate) mod plane;
}

use std::{fs, time::Duration};

use envoy_types::pb::{
    envoy::config::{core::v3::Node, endpoint::v3::ClusterLoadAssignment},
    google::protobuf::{Struct, Value, value::Kind},
};
use isthmus::proto::nds::NameTable;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use support::{
    kube::ApiServer,
    peer::{Agent, CDS, EDS, LDS, Stream, certificates, decode, names},
    plane::Plane,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::Code;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/client";

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: istiod, namespace: istio-system}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.96.7.2, ports: [{name: tcp, port: 9000}]}
";

/// Endpoints of `web`.
fn slice(addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| format!("{{addresses: [{address}], conditions: {{ready: true}}}}"))
        .collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
         {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}, \
         endpoints: [{}], ports: [{{name: http, port: 8080}}]}}",
        endpoints.join(", ")
    )
}

/// A control plane on a real API server, and what a pod would find mounted.
struct World {
    server: ApiServer,
    client: Client,
    plane: Plane,
    roots: String,
    /// Where its kubeconfig is.
    _folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ApiServer::start().await;
        server.apply_yaml(OBJECTS).await;
        server.apply_yaml(include_str!("../deploy/rbac.yaml")).await;
        server.apply_yaml(&slice(&["10.1.0.1"])).await;
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig_path()).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        // With no more than what the deployment's roles grant.
        let own = token(&client, ("istio-system", "istiod"), None).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        fs::write(&path, server.kubeconfig(&own)).expect("a kubeconfig");
        let mut plane = Plane::launch(|command| {
            command
                .arg("--kubeconfig")
                .arg(&path)
                .env("CLUSTER_ID", "c1")
                .env("POD_NAME", "istiod-0")
                .env("POD_NAMESPACE", "istio-system");
        });
        plane.wait_ready().await;
        let roots = mounted_root(&client).await;
        Self {
            server,
            client,
            plane,
            roots,
            _folder: folder,
        }
    }

    /// An agent of a pod of account `client`.
    async fn agent(&self) -> Agent {
        self.agent_with(Some(self.token("istio-ca").await))
    }

    fn agent_with(&self, token: Option<String>) -> Agent {
        Agent {
            address: self.plane.secure().to_string(),
            roots: self.roots.clone(),
            token,
            identity: None,
            cluster: "c1".to_owned(),
        }
    }

    /// A projected token of account `client`.
    async fn token(&self, audience: &str) -> String {
        token(&self.client, ("shop", "client"), Some(audience)).await
    }
}

/// A token of a service account, for an audience or for the API server.
async fn token(client: &Client, of: (&str, &str), audience: Option<&str>) -> String {
    let (namespace, account) = of;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience.map(|audience| vec![audience.to_owned()]),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let answer = accounts.create_token_request(account, &params, &request);
    let status = answer.await.expect("an answer").status;
    status.and_then(|status| status.token).expect("a token")
}

/// What the control plane put where pods mount it.
async fn mounted_root(client: &Client) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let end = Instant::now() + LIMIT;
    loop {
        let map = maps.get_opt("istio-ca-root-cert").await.expect("an answer");
        if let Some(root) = map.and_then(|map| map.data?.remove("root-cert.pem")) {
            return root;
        }
        assert!(Instant::now() < end, "no root certificate in the namespace");
        sleep(Duration::from_millis(50)).await;
    }
}

fn node(namespace: &str) -> Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let metadata = [
        ("CLUSTER_ID", "c1"),
        ("NAMESPACE", namespace),
        ("SERVICE_ACCOUNT", "client"),
        ("INSTANCE_IPS", "10.1.0.9"),
        ("INTERCEPTION_MODE", "REDIRECT"),
        ("DNS_CAPTURE", "true"),
        ("ISTIO_VERSION", "1.31.0"),
    ];
    let fields = metadata.map(|(key, value)| (key.to_owned(), text(value)));
    Node {
        id: format!("sidecar~10.1.0.9~client-1.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("client.{namespace}"),
        metadata: Some(Struct {
            fields: fields.into(),
        }),
        ..Node::default()
    }
}

/// URI names of a certificate.
fn uris(pem: &str) -> Vec<String> {
    let der = certificates(pem).remove(0);
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(&der).expect("a certificate");
    let names = certificate.subject_alternative_name().expect("readable");
    let names = names.expect("names").value.general_names.iter();
    names
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            other => panic!("not a URI: {other:?}"),
        })
        .collect()
}

fn assignment(stream: &[envoy_types::pb::envoy::service::discovery::v3::Resource]) -> usize {
    let assignments = stream.iter().map(decode::<ClusterLoadAssignment>);
    assignments
        .flat_map(|assignment| assignment.endpoints)
        .map(|locality| locality.lb_endpoints.len())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_its_certificate_and_all_that_envoy_waits_for() {
    let world = World::start().await;
    let agent = world.agent().await;

    let issued = agent.certificate().await.expect("a certificate");
    let (leaf, root) = (issued.elements.first(), issued.elements.last());
    assert!(issued.elements.len() >= 2, "the agent asks for two");
    // The whole chain goes to Envoy as one text, and the last is its root.
    assert!(issued.elements.iter().all(|e| e.ends_with('\n')));
    assert_eq!(root, Some(&world.roots));
    assert_eq!(uris(leaf.expect("a leaf")), [IDENTITY]);

    let mut stream = agent.stream(node("shop"), &[]).await.expect("a stream");
    let held = stream.start().await;
    let clusters = names(&held.clusters);
    assert!(clusters.contains(&"outbound|80||web.shop.svc.cluster.local".to_owned()));
    assert_eq!(assignment(&held.endpoints), 1);
    assert!(names(&held.listeners).contains(&"virtualInbound".to_owned()));
    assert!(names(&held.routes).contains(&"80".to_owned()));
    let table: NameTable = decode(&held.table[0]);
    assert_eq!(table.table["web.shop.svc.cluster.local"].ips, ["10.96.7.1"]);
    // Its health is not answered, and everything is said.
    stream.is_quiet(Duration::from_secs(1)).await;

    // An endpoint more is one endpoint resource, and nothing else.
    world
        .server
        .apply_yaml(&slice(&["10.1.0.1", "10.1.0.2"]))
        .await;
    let changed = stream.expect(EDS).await;
    assert_eq!(
        names(&changed.resources),
        ["outbound|80||web.shop.svc.cluster.local"]
    );
    assert_eq!(assignment(&changed.resources), 2);
    stream.is_quiet(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_warms_everything_again() {
    let mut world = World::start().await;
    let mut agent = world.agent().await;
    let issued = agent.certificate().await.expect("a certificate");
    let mut stream = agent.stream(node("shop"), &[]).await.expect("a stream");
    let held = stream.start().await;
    world.plane.restart().await;
    assert!(stream.next().await.is_err(), "the old stream is gone");

    // It now shows its certificate alone; the authority is the same as before.
    agent.token = None;
    agent.identity = Some((issued.elements.concat(), issued.key));
    let stream = agent.stream(node("shop"), &names(&held.clusters)).await;
    let mut stream = stream.expect("a stream");
    let clusters = stream.expect(CDS).await;
    assert!(clusters.removed_resources.is_empty());
    let endpoints = names(&held.endpoints);
    stream.ask(EDS, &endpoints, &endpoints).await;
    let mut answered = Vec::new();
    // Every name, so that no cluster goes on warming.
    while answered.len() < endpoints.len() {
        answered.extend(names(&stream.expect(EDS).await.resources));
    }
    stream.ask(LDS, &[], &names(&held.listeners)).await;
    assert!(stream.expect(LDS).await.removed_resources.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_show_nothing_or_somebody_else_are_refused() {
    let world = World::start().await;
    let refused = async |agent: Agent, code: Code| {
        let status = agent.certificate().await.err().expect("refused");
        assert_eq!(status.code(), code, "{status:?}");
        let status = end_of(agent.stream(node("shop"), &[]).await).await;
        assert_eq!(status.code(), code, "{status:?}");
    };
    refused(world.agent_with(None), Code::Unauthenticated).await;
    let garbage = Some("garbage".to_owned());
    refused(world.agent_with(garbage), Code::Unauthenticated).await;
    let foreign = Some(world.token("elsewhere").await);
    refused(world.agent_with(foreign), Code::Unauthenticated).await;
    let mut lost = world.agent().await;
    lost.cluster = "unknown".to_owned();
    refused(lost, Code::Unauthenticated).await;

    // Somebody, but not of the namespace that the proxy says it is of.
    let agent = world.agent().await;
    let status = end_of(agent.stream(node("bank"), &[]).await).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let log = world.plane.log();
    let token = agent.token.expect("a token");
    assert!(!log.contains(&token), "no token in a log");
}

/// The status with which a stream ended, at once or at its first answer.
async fn end_of(stream: Result<Stream, tonic::Status>) -> tonic::Status {
    match stream {
        Err(status) => status,
        Ok(mut stream) => stream.next().await.expect_err("refused"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_response_is_not_sent_again() {
    let world = World::start().await;
    let agent = world.agent().await;
    let mut stream = agent.stream(node("shop"), &[]).await.expect("a stream");
    let clusters = stream.next().await.expect("clusters");
    stream.reply(&clusters, Some("cannot be used")).await;
    stream.is_quiet(Duration::from_secs(2)).await;
    // The next change is.
    let more = OBJECTS
        .replace("name: stock", "name: more")
        .replace("10.96.7.2", "10.96.7.3");
    world.server.apply_yaml(&more).await;
    stream.expect(CDS).await;
}
