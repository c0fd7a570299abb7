//! The whole control plane behind `isthmus agent`: certificate by token, ADS of
//! a real Envoy by certificate, names of other clusters by DNS.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod agent;
    pub(crate) mod authority;
    pub(crate) mod envoy;
    pub(crate) mod plane;
    pub(crate) mod secure;
    pub(crate) mod shop;
}

use std::{fs, net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
};
use serde_json::Value;
use support::agent::{Agent, Proxy};
use support::authority::ControlPlane;
use support::plane::free_addresses;
use support::secure::SecurePlane;
use support::shop::cluster;
use tempfile::TempDir;

/// A service that only cluster `c2` has.
const ELSEWHERE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec:
  clusterIP: 10.2.9.9
  clusterIPs: [10.2.9.9]
  selector: {app: elsewhere}
  ports: [{name: http, port: 80}]
";

async fn two_clusters(folder: &TempDir) -> SecurePlane {
    let there = folder.path().join("c2");
    fs::create_dir(&there).expect("a folder");
    let objects = format!("{}{ELSEWHERE}", cluster(2));
    fs::write(there.join("all.yaml"), objects).expect("a file");
    SecurePlane::start(|command| {
        let named = format!("c2={}", there.display());
        command.args(["--cluster-dir", &named, "--clusterID", "c1"]);
    })
    .await
}

/// Addresses of a name, over UDP or TCP.
async fn resolve(server: SocketAddr, name: &str, tcp: bool) -> Vec<String> {
    let mut connection = if tcp {
        ConnectionConfig::tcp()
    } else {
        ConnectionConfig::udp()
    };
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.attempts = 1;
    options.timeout = Duration::from_secs(10);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .expect("a resolver");
    let found = resolver.ipv4_lookup(name).await.expect("an answer");
    let mut texts: Vec<_> = found.answers().iter().map(|r| r.data.to_string()).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn a_service_that_only_another_cluster_has_resolves() {
    let folder = tempfile::tempdir().expect("a folder");
    let plane = two_clusters(&folder).await;
    let [dns] = free_addresses();
    let token = plane.token("web");
    let mut agent = Agent::start(&Proxy {
        role: "sidecar",
        name: "web",
        namespace: "shop",
        ip: "10.1.0.77",
        discovery: &plane.plane.secure().to_string(),
        roots: plane.ca.root_pem(),
        token: &token,
        variables: &[
            ("ISTIOD_SAN", "istiod.istio-system.svc"),
            ("ISTIO_META_CLUSTER_ID", "c1"),
            ("ISTIO_META_NETWORK", "n1"),
            ("ISTIO_META_DNS_CAPTURE", "true"),
            ("ISTIO_META_INTERCEPTION_MODE", "NONE"),
            ("DNS_PROXY_ADDR", &dns),
        ],
        settings: Value::Null,
    });
    agent.wait_ready().await;
    let server = dns.parse().expect("an address");
    for name in ["elsewhere.shop.svc.cluster.local.", "elsewhere."] {
        for tcp in [false, true] {
            assert_eq!(resolve(server, name, tcp).await, ["10.2.9.9"], "{name}");
        }
    }
    let page = agent.page("/debug/ndsz").await.expect("a page").body;
    assert!(page.contains("elsewhere.shop.svc.cluster.local"), "{page}");

    let before = agent.log().len();
    drop(plane);
    agent.logged("those known stay", before).await;
    let name = "elsewhere.shop.svc.cluster.local.";
    assert_eq!(resolve(server, name, false).await, ["10.2.9.9"]);
}

#[tokio::test]
async fn a_proxy_with_dns_is_not_ready_before_its_names() {
    let plane = ControlPlane::start().await;
    plane.trust("web", "spiffe://cluster.local/ns/shop/sa/web");
    let [dns] = free_addresses();
    let mut agent = Agent::start(&Proxy {
        role: "sidecar",
        name: "web",
        namespace: "shop",
        ip: "127.0.0.1",
        discovery: &plane.address,
        roots: &plane.roots(),
        token: "web",
        variables: &[("ISTIO_META_DNS_CAPTURE", "true"), ("DNS_PROXY_ADDR", &dns)],
        settings: Value::Null,
    });
    // Envoy has all it needs: this control plane has no names.
    agent
        .until("live", async |agent| {
            (agent.stat("listener_manager.lds.update_success").await? > 0).then_some(())
        })
        .await;
    let page = agent.page("/healthz/ready").await.expect("an answer");
    assert_eq!(page.status, 503);
    assert!(page.body.contains("no names"), "{}", page.body);
}
