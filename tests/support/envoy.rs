//! A real Envoy that gets its configuration from a control plane.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// The variant of ADS that Envoy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Sotw,
    Delta,
}

/// A running Envoy. Dropping it kills it.
pub(crate) struct Envoy {
    process: Child,
    admin: String,
    folder: TempDir,
}

/// An answer to an HTTP request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Envoy {
    /// Starts an Envoy with this node, whose ADS is at `control_plane`.
    pub(crate) async fn start(node: &Value, control_plane: &str, variant: Variant) -> Self {
        Self::run(&bootstrap(node, control_plane, variant)).await
    }

    /// As [`Self::start`], with secrets from `sds`.
    pub(crate) async fn start_with_secrets(
        node: &Value,
        control_plane: &str,
        variant: Variant,
        sds: &str,
    ) -> Self {
        let mut bootstrap = bootstrap(node, control_plane, variant);
        let clusters = bootstrap.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).expect("a list");
        clusters.push(grpc_cluster("sds-grpc", sds));
        Self::run(&bootstrap).await
    }

    async fn run(bootstrap: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("bootstrap.json"), bootstrap.to_string()).expect("a written file");
        let log = fs::File::create(path("log")).expect("a log");
        let process = Command::new(binary())
            .arg("-c")
            .arg(path("bootstrap.json"))
            .arg("--admin-address-path")
            .arg(path("admin"))
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "warning",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy starts");
        let mut envoy = Self {
            process,
            admin: String::new(),
            folder,
        };
        envoy.admin = envoy.admin_address().await;
        envoy
    }

    async fn admin_address(&mut self) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let text = fs::read_to_string(self.folder.path().join("admin"));
            match text.unwrap_or_default().trim() {
                "" => {}
                address => return address.to_owned(),
            }
            let ended = self.process.try_wait().expect("a status");
            assert!(ended.is_none(), "Envoy ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < end, "no admin address\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A page of the admin interface.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let answer = get(&self.admin, "admin", path).await;
        answer.expect("the admin interface answers").body
    }

    /// A counter or gauge.
    pub(crate) async fn stat(&self, name: &str) -> Option<u64> {
        let stats = self.admin(&format!("/stats?filter=^{name}$")).await;
        let (_, value) = stats.trim().rsplit_once(": ")?;
        value.parse().ok()
    }

    /// Waits until it has all it asked for.
    pub(crate) async fn wait_live(&self) {
        self.until("LIVE", async |envoy| {
            let info = envoy.admin("/server_info").await;
            info.contains(r#""state": "LIVE""#).then_some(())
        })
        .await;
    }

    /// Asks until `ask` has an answer.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(answer) = ask(self).await {
                return answer;
            }
            let late = Instant::now() >= end;
            assert!(!late, "Envoy: never {what}\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// It took every resource it was sent, and nothing is left warming.
    pub(crate) async fn assert_all_accepted(&self) {
        self.until("nothing warming", async |envoy| {
            let clusters = envoy.stat("cluster_manager.warming_clusters").await;
            let listeners = envoy.stat("listener_manager.total_listeners_warming").await;
            (clusters == Some(0) && listeners == Some(0)).then_some(())
        })
        .await;
        let stats = self.admin("/stats").await;
        let rejected = stats
            .lines()
            .filter(|line| line.contains("rejected") || line.contains("create_failure"));
        let rejected: Vec<_> = rejected.filter(|line| !line.ends_with(": 0")).collect();
        assert!(rejected.is_empty(), "{rejected:?}\n{}", self.log());
        let dump = self.admin("/config_dump?include_eds").await;
        for left in ["warming_state", "dynamic_warming_clusters", "error_state"] {
            assert!(!dump.contains(left), "{left}: {dump}");
        }
    }
}

/// The Envoy under test: `ISTHMUS_ENVOY`, else the one in the tool folder.
pub(crate) fn binary() -> PathBuf {
    let local = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/envoy/envoy/_bin/envoy");
    let path = std::env::var_os("ISTHMUS_ENVOY").map_or_else(|| local.into(), PathBuf::from);
    let there = path.is_file();
    assert!(there, "no Envoy at {}: run `make tools`", path.display());
    path
}

/// An HTTP GET on a connection of its own, if someone answers.
pub(crate) async fn get(address: &str, host: &str, path: &str) -> Option<Answer> {
    ask(address, host, &format!("GET {path}")).await
}

/// An HTTP POST without a body, if someone answers.
pub(crate) async fn post(address: &str, host: &str, path: &str) -> Option<Answer> {
    ask(address, host, &format!("POST {path}")).await
}

async fn ask(address: &str, host: &str, what: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let head = format!("{what} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let request = format!("{head}content-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.contains("transfer-encoding: chunked");
    let body = if chunked {
        joined(body)?
    } else {
        body.to_owned()
    };
    Some(Answer { status, body })
}

/// The chunks of a body.
fn joined(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

fn socket(address: &str) -> Value {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let port: u16 = port.parse().expect("a port");
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn grpc_cluster(name: &str, address: &str) -> Value {
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2,
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{
            "lb_endpoints": [{"endpoint": {"address": socket(address)}}],
        }]},
    })
}

fn bootstrap(node: &Value, control_plane: &str, variant: Variant) -> Value {
    let api_type = match variant {
        Variant::Sotw => "GRPC",
        Variant::Delta => "DELTA_GRPC",
    };
    let ads = json!({
        "api_type": api_type,
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    });
    let source = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "node": node,
        "admin": {"address": socket("127.0.0.1:0")},
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {"clusters": [grpc_cluster("xds-grpc", control_plane)]},
    })
}
