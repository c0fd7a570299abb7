//! A real Envoy as the sidecar of one proxy, read through its admin interface.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

use crate::client::ProxySpec;

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    admin: SocketAddr,
    _process: Child,
}

impl Envoy {
    /// Starts Envoy as `proxy`, its files in `folder`, and waits for its admin
    /// interface.
    pub(super) async fn start(
        binary: &Path,
        proxy: &ProxySpec,
        control_plane: SocketAddr,
        folder: &Path,
    ) -> Result<Self> {
        let file = |kind: &str| -> PathBuf { folder.join(format!("{}.{kind}", proxy.name)) };
        std::fs::write(file("json"), bootstrap(proxy, control_plane).to_string())?;
        let log = std::fs::File::create(file("log"))?;
        let mut process = Command::new(binary)
            .arg("-c")
            .arg(file("json"))
            .arg("--admin-address-path")
            .arg(file("admin"))
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
            // Ctrl-C is for the demo, which then ends its Envoys.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let admin = loop {
            let text = std::fs::read_to_string(file("admin")).unwrap_or_default();
            if let Ok(address) = text.trim().parse() {
                break address;
            }
            if let Some(status) = process.try_wait()? {
                let log = std::fs::read_to_string(file("log")).unwrap_or_default();
                bail!("Envoy ended with {status}: {log}");
            }
            sleep(Duration::from_millis(20)).await;
        };
        Ok(Self {
            admin,
            _process: process,
        })
    }

    /// Address and weight of each endpoint of an Envoy cluster.
    pub(super) async fn endpoints(&self, cluster: &str) -> Result<Vec<(String, u32)>> {
        let text = fetch(self.admin, "/clusters?format=json").await?;
        let clusters: Value = serde_json::from_slice(&text)?;
        let all = clusters.get("cluster_statuses").and_then(Value::as_array);
        let found = all
            .into_iter()
            .flatten()
            .find(|c| c.get("name") == Some(&json!(cluster)));
        let hosts = found
            .and_then(|c| c.get("host_statuses"))
            .and_then(Value::as_array);
        Ok(hosts.into_iter().flatten().filter_map(host).collect())
    }
}

fn host(status: &Value) -> Option<(String, u32)> {
    let socket = status.get("address")?.get("socket_address")?;
    let address = socket.get("address")?.as_str()?;
    let port = socket.get("port_value")?.as_u64()?;
    let weight = status.get("weight").and_then(Value::as_u64).unwrap_or(1);
    Some((format!("{address}:{port}"), u32::try_from(weight).ok()?))
}

async fn fetch(address: SocketAddr, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", "envoy")
        .body(Empty::<Bytes>::new())?;
    let exchange = async { sender.send_request(request).await?.collect().await };
    tokio::select! {
        body = exchange => Ok(body?.to_bytes()),
        ended = connection => match ended {
            Ok(()) => bail!("Envoy's admin interface closed the connection"),
            Err(error) => Err(error.into()),
        },
    }
}

fn bootstrap(proxy: &ProxySpec, control_plane: SocketAddr) -> Value {
    let ads = json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    });
    let source = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let address = |a: SocketAddr| json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}});
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    json!({
        "node": {
            "id": proxy.id, "cluster": proxy.name, "metadata": proxy.metadata,
            "locality": {
                "region": proxy.locality.region, "zone": proxy.locality.zone,
                "sub_zone": proxy.locality.sub_zone,
            },
        },
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {"clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2,
            },
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": address(control_plane)}}],
            }]},
        }]},
    })
}
