//! `isthmus agent` with a real Envoy: start, certificates, rotation, readiness
//! and end.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support {
    pub(crate) mod agent;
    pub(crate) mod authority;
    pub(crate) mod envoy;
    pub(crate) mod plane;
    pub(crate) mod tls_path;
}

use std::sync::atomic::Ordering;
use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use isthmus::testing::identity::{TestCa, TestCaOptions};
use serde_json::{Value, json};
use support::agent::{Agent, Proxy};
use support::authority::ControlPlane;
use support::envoy::{binary, get};
use support::plane::free_addresses;
use support::tls_path::{CLUSTERS, LISTENERS, Traffic, cluster, listener};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// The identity that a token of a test is of.
fn identity(name: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{name}")
}

fn proxy<'a>(plane: &'a ControlPlane, roots: &'a str, name: &'a str) -> Proxy<'a> {
    plane.trust(name, &identity(name));
    Proxy {
        role: "sidecar",
        name,
        namespace: "shop",
        ip: "127.0.0.1",
        discovery: &plane.address,
        roots,
        token: name,
        variables: &[],
        settings: Value::Null,
    }
}

/// `isthmus helloworld` on a free port.
struct App {
    address: SocketAddr,
    _process: Child,
}

impl App {
    async fn start() -> Self {
        let [address] = free_addresses();
        let mut process = Command::new(env!("CARGO_BIN_EXE_isthmus"))
            .args(["helloworld", "--listen", &address, "--version", "v1"])
            .args(["--instance", "app"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("isthmus starts");
        while get(&address, "app", "/hello").await.is_none() {
            let ended = process.try_wait().expect("a status");
            assert!(ended.is_none(), "helloworld ended: {ended:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Self {
            address: address.parse().expect("an address"),
            _process: process,
        }
    }
}

/// Two proxies: plain text to `entry`, mutual TLS to `server`, plain text to the
/// application.
fn path_of_two(plane: &ControlPlane, app: &App, traffic: Traffic) -> String {
    let [entry, server] = free_addresses();
    let [entry_at, server_at] = [&entry, &server].map(|a| a.parse().expect("an address"));
    plane.serve("client", CLUSTERS, vec![cluster("server", server_at, true)]);
    let way_in = listener("entry", entry_at, "server", false, traffic);
    plane.serve("client", LISTENERS, vec![way_in]);
    plane.serve("server", CLUSTERS, vec![cluster("app", app.address, false)]);
    let way_out = listener("server", server_at, "app", true, traffic);
    plane.serve("server", LISTENERS, vec![way_out]);
    entry
}

#[tokio::test]
async fn a_proxy_starts_with_a_certificate_and_becomes_ready() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let proxy = Proxy {
        variables: &[
            ("ISTIO_META_CLUSTER_ID", "c1"),
            ("OUTPUT_CERTS", "certificates"),
        ],
        ..proxy(&plane, &roots, "web")
    };
    let mut agent = Agent::start(&proxy);
    agent.wait_ready().await;

    let direct = agent.page("/healthz/ready").await.expect("an answer");
    assert_eq!((direct.status, &*direct.body), (200, "ready\n"));
    let metrics = agent.metrics().await.expect("metrics").body;
    assert!(metrics.contains("envoy_server_live{} 1"), "{metrics}");
    let through_agent = agent.page("/stats/prometheus").await.expect("metrics");
    assert!(through_agent.body.contains("envoy_server_live"));

    let certificates = agent.admin("/certs").await.expect("certificates");
    assert!(certificates.contains(&identity("web")), "{certificates}");
    let clusters = plane.state.clusters.lock().expect("no panic").clone();
    assert_eq!(clusters.into_iter().collect::<Vec<_>>(), ["c1"]);
    let key = agent.path("certificates/key.pem");
    let mode = fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(key).expect("a key");
    assert!(!agent.log().contains(key.lines().nth(1).expect("a line")));
}

#[tokio::test]
async fn certificates_rotate_under_requests_without_a_failure() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let app = App::start().await;
    let entry = path_of_two(&plane, &app, Traffic::Tcp);
    let [mut server, mut client] = ["server", "client"].map(|name| {
        Agent::start(&Proxy {
            variables: &[("SECRET_TTL", "4s"), ("ECC_SIGNATURE_ALGORITHM", "ECDSA")],
            ..proxy(&plane, &roots, name)
        })
    });
    server.wait_ready().await;
    client.wait_ready().await;

    let serial = async |agent: &Agent| agent.admin("/certs").await.expect("certificates");
    let mut seen = std::collections::BTreeSet::new();
    let mut requests = 0_u32;
    // Each request is a new connection, so a new handshake of both sides. Past
    // the fourth certificate the first one has ended.
    while seen.len() < 4 {
        let answer = get(&entry, "app", "/hello").await.expect("an answer");
        assert_eq!(
            (answer.status, &*answer.body),
            (200, "Hello version: v1, instance: app\n"),
            "after {requests} requests\n{}\n{}",
            client.log(),
            server.log()
        );
        requests += 1;
        let all: Value = serde_json::from_str(&serial(&server).await).expect("JSON");
        for certificate in all["certificates"].as_array().expect("a list") {
            let chain = &certificate["cert_chain"][0]["serial_number"];
            chain.as_str().map(|text| seen.insert(text.to_owned()));
        }
    }
    assert!(requests > 10, "{requests}");
    for agent in [&server, &client] {
        let dropped = agent
            .stat("listener_manager.total_filter_chains_draining")
            .await;
        assert_eq!(dropped, Some(0));
    }
}

#[tokio::test]
async fn a_new_root_reaches_envoy_with_the_next_certificate() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let app = App::start().await;
    path_of_two(&plane, &app, Traffic::Tcp);
    let mut agent = Agent::start(&Proxy {
        variables: &[("SECRET_TTL", "2s")],
        ..proxy(&plane, &roots, "server")
    });
    agent.wait_ready().await;
    let next = TestCa::root(TestCaOptions::new("second root"));
    let expected = BASE64.encode(format!("{}\n", next.root_pem().trim_end()));
    *plane.state.ca.lock().expect("no panic") = next;
    agent
        .until("the new root", async |agent| {
            let path = "/config_dump?resource=dynamic_active_secrets";
            let secrets = agent.admin(path).await?;
            secrets.contains(&expected).then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_agent_whose_token_is_refused_goes_on_and_heals() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let mut agent = Agent::start(&Proxy {
        token: "unknown",
        ..proxy(&plane, &roots, "web")
    });
    let line = agent.logged("no certificate yet", 0).await;
    assert!(line.contains("Unauthenticated"), "{line}");
    assert!(!agent.log().contains("Bearer"), "{}", agent.log());
    let page = agent
        .until("a page", async |agent| agent.page("/healthz/ready").await)
        .await;
    assert_eq!(page.status, 503);
    fs::write(agent.path("token"), "web").expect("a token");
    agent.wait_ready().await;
}

#[tokio::test]
async fn an_authority_that_does_not_answer_is_asked_again() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    plane.state.silent.store(true, Ordering::Relaxed);
    let mut agent = Agent::start(&Proxy {
        variables: &[("CA_ANSWER_TIMEOUT", "300ms")],
        ..proxy(&plane, &roots, "web")
    });
    agent.logged("no answer", 0).await;
    plane.state.silent.store(false, Ordering::Relaxed);
    agent.wait_ready().await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished_when_the_pod_ends() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let app = App::start().await;
    let entry = path_of_two(&plane, &app, Traffic::Http);
    let [mut server, mut client] = ["server", "client"].map(|name| {
        Agent::start(&Proxy {
            settings: json!({"terminationDrainDuration": "3s"}),
            ..proxy(&plane, &roots, name)
        })
    });
    server.wait_ready().await;
    client.wait_ready().await;

    let slow = async { get(&entry, "app", "/hello?delay=1500ms").await };
    let end = async {
        server
            .until("a request", async |agent| {
                let active = agent.stat("http.http.downstream_rq_active").await;
                (active == Some(1)).then_some(())
            })
            .await;
        server.terminate();
        server.logged("draining", 0).await;
        let page = server.page("/healthz/ready").await.expect("an answer");
        assert_eq!(page.status, 503);
    };
    let (answer, ()) = tokio::join!(slow, end);
    assert_eq!(answer.map(|a| a.status), Some(200), "{}", server.log());
    let status = server.ended().await;
    assert!(status.success(), "{status}\n{}", server.log());
    assert!(server.log().contains("Envoy ended"), "{}", server.log());
}

#[tokio::test]
async fn a_proxy_may_wait_for_its_last_connection() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let mut agent = Agent::start(&Proxy {
        variables: &[
            ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
            ("MINIMUM_DRAIN_DURATION", "100ms"),
        ],
        settings: json!({"terminationDrainDuration": "1h"}),
        ..proxy(&plane, &roots, "web")
    });
    agent.wait_ready().await;
    agent.terminate();
    assert!(agent.ended().await.success(), "{}", agent.log());
}

#[tokio::test]
async fn quitquitquit_ends_the_proxy_at_once() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let mut agent = Agent::start(&Proxy {
        settings: json!({"terminationDrainDuration": "1h"}),
        ..proxy(&plane, &roots, "web")
    });
    agent.wait_ready().await;
    let asked = agent.page("/quitquitquit").await.expect("an answer");
    assert_eq!(asked.status, 405, "to look is not to quit");
    agent.post("/quitquitquit").await.expect("an answer");
    assert!(agent.ended().await.success(), "{}", agent.log());
}

#[tokio::test]
async fn a_drained_sidecar_ends_at_once() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let mut agent = Agent::start(&Proxy {
        settings: json!({"terminationDrainDuration": "1h"}),
        ..proxy(&plane, &roots, "web")
    });
    agent.wait_ready().await;
    let drained = agent.post("/drain").await.expect("an answer");
    assert_eq!(drained.status, 200);
    agent.terminate();
    assert!(agent.ended().await.success(), "{}", agent.log());
}

#[tokio::test]
async fn the_end_of_envoy_is_the_end_of_the_agent() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let mut agent = Agent::start(&proxy(&plane, &roots, "web"));
    agent.wait_ready().await;
    agent.admin_post("/quitquitquit").await;
    assert!(!agent.ended().await.success());
    let log = agent.log();
    assert!(log.contains("Envoy ended by itself"), "{log}");
}

#[tokio::test]
async fn two_agents_with_one_folder_do_not_share_it() {
    let plane = ControlPlane::start().await;
    let roots = plane.roots();
    let folder = tempfile::tempdir().expect("a folder");
    let config = json!({"configPath": folder.path()});
    let start = |name| {
        Agent::start(&Proxy {
            settings: config.clone(),
            ..proxy(&plane, &roots, name)
        })
    };
    let mut first = start("one");
    first.wait_ready().await;
    let mut second = start("two");
    assert!(!second.ended().await.success());
    let log = second.log();
    assert!(log.contains("SDS"), "{log}");
    assert!(log.contains("in use"), "{log}");
}

#[tokio::test]
async fn an_agent_without_roots_says_where_it_looked() {
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(["agent", "sidecar", "--name", "web", "--namespace", "shop"])
        .args(["--ip", "127.0.0.1"])
        .current_dir(std::env::temp_dir())
        .output()
        .await
        .expect("isthmus starts");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("XDS_ROOT_CA"), "{text}");
}

#[tokio::test]
async fn envoy_takes_every_kind_of_bootstrap() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = TestCa::root(TestCaOptions::new("root"));
    let root_file = folder.path().join("root.pem");
    fs::write(&root_file, roots.root_pem()).expect("roots");
    let plain = "{controlPlaneAuthPolicy: NONE, discoveryAddress: '10.9.9.9:15010', \
        runtimeValues: {a.b: 'true'}}";
    let cases: [&[&str]; 4] = [
        &[
            "sidecar",
            "--ip",
            "10.0.0.1",
            "--discovery-address",
            "istiod.x:15012",
        ],
        &[
            "router",
            "--ip",
            "fd00::1",
            "--discovery-address",
            "[fd00::9]:15012",
        ],
        &[
            "sidecar",
            "--ip",
            "10.0.0.1,fd00::1",
            "--outlier-log-path",
            "/dev/null",
        ],
        &[
            "sidecar",
            "--ip",
            "10.0.0.1",
            "--status-port",
            "0",
            "--proxy-config",
            plain,
        ],
    ];
    for (number, arguments) in cases.into_iter().enumerate() {
        let config = folder.path().join(number.to_string());
        let written = write_bootstrap(arguments, &config, &root_file).await;
        assert!(
            written.contains("cannot start Envoy"),
            "{arguments:?}: {written}"
        );
        let checked = Command::new(binary())
            .args(["--mode", "validate", "-l", "warning", "-c"])
            .arg(config.join("envoy-rev.json"))
            .output()
            .await
            .expect("Envoy starts");
        let text = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{arguments:?}: {text}");
    }
}

/// Lets an agent write its bootstrap; there is no Envoy to start with it. What
/// it prints.
async fn write_bootstrap(arguments: &[&str], folder: &Path, roots: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .arg("agent")
        .args(arguments)
        .args(["--name", "web", "--namespace", "shop", "--envoy", "/none"])
        .args(["--admin-port", "1", "--status-port", "0"])
        .arg("--config-path")
        .arg(folder)
        .env("XDS_ROOT_CA", roots)
        .env("CA_ROOT_CA", roots)
        .output()
        .await
        .expect("isthmus starts");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
