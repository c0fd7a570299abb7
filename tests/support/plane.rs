//! The `isthmus` binary as a control plane in a process of its own.

use std::{ffi::OsStr, fs, net::TcpListener, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

/// A running control plane. Dropping it kills it.
pub(crate) struct Plane {
    process: Child,
    ads: String,
    http: String,
    folder: TempDir,
}

impl Plane {
    /// Starts `isthmus discovery` with istiod's flags and `source`, which says
    /// where the objects come from, and waits until it is ready.
    pub(crate) async fn start<A: AsRef<OsStr>>(cluster: &str, source: &[A]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let [ads, http, secure, monitoring, webhook] = free_addresses();
        let process = Command::new(env!("CARGO_BIN_EXE_isthmus"))
            .arg("discovery")
            .args(["--clusterID", cluster, "--domain", "cluster.local"])
            .args(["--registries", "Kubernetes", "--ctrlz_port", "0"])
            .args(["--grpcAddr", &ads, "--httpAddr", &http])
            .args(["--secureGRPCAddr", &secure, "--monitoringAddr", &monitoring])
            .args(["--httpsAddr", &webhook, "--shutdownDuration", "10s"])
            .args(["--keepaliveMaxServerConnectionAge", "30m"])
            .args(["--log_output_level", "default:info"])
            .args(source)
            .env("CLUSTER_ID", cluster)
            .env("POD_NAMESPACE", "istio-system")
            .env("POD_NAME", "istiod-0")
            .env_remove("KUBECONFIG")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("isthmus starts");
        let mut plane = Self {
            process,
            ads,
            http,
            folder,
        };
        plane.wait_ready().await;
        plane
    }

    /// `host:port` of plaintext ADS.
    pub(crate) fn ads(&self) -> &str {
        &self.ads
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    async fn wait_ready(&mut self) {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            if status(&self.http, "/ready").await == Some(200) {
                return;
            }
            if let Some(status) = self.process.try_wait().expect("a status") {
                panic!("isthmus discovery ended: {status}\n{}", self.log());
            }
            assert!(Instant::now() < end, "isthmus is not ready\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The status of an HTTP GET, if someone answers.
async fn status(address: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Addresses that nobody listens on. All are taken before one is given back, so
/// that they differ.
fn free_addresses<const N: usize>() -> [String; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    taken.map(|listener| listener.local_addr().expect("an address").to_string())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
