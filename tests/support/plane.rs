//! The `isthmus` binary as a control plane in a process of its own.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    ffi::OsStr,
    fs, iter,
    net::{SocketAddr, TcpListener},
    ops::Range,
    path::Path,
    process::{self, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// A running control plane. Dropping it kills it.
pub(crate) struct Plane {
    process: Child,
    command: Command,
    ads: String,
    secure: String,
    http: String,
    monitoring: String,
    folder: TempDir,
}

impl Plane {
    /// Starts `isthmus discovery` with istiod's flags and `source`, which says
    /// where the objects come from, and waits until it is ready.
    pub(crate) async fn start<A: AsRef<OsStr>>(cluster: &str, source: &[A]) -> Self {
        let mut plane = Self::launch(|command| {
            command
                .args(["--clusterID", cluster, "--domain", "cluster.local"])
                .args(["--registries", "Kubernetes", "--ctrlz_port", "0"])
                .args(["--shutdownDuration", "10s"])
                .args(["--keepaliveMaxServerConnectionAge", "30m"])
                .args(["--log_output_level", "default:info"])
                .args(source)
                .env("CLUSTER_ID", cluster)
                .env("POD_NAMESPACE", "istio-system")
                .env("POD_NAME", "istiod-0");
        });
        plane.wait_ready().await;
        plane
    }

    /// Starts `isthmus discovery` on free ports, with what `configure` adds.
    pub(crate) fn launch(configure: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let [ads, http, secure, monitoring, webhook] = free_addresses();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
        command
            .arg("discovery")
            .args(["--grpcAddr", &ads, "--httpAddr", &http])
            .args(["--secureGRPCAddr", &secure, "--httpsAddr", &webhook])
            .arg(format!("--monitoringAddr={monitoring}"))
            .env_remove("KUBECONFIG")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true);
        configure(&mut command);
        Self {
            process: command.spawn().expect("isthmus starts"),
            command,
            ads,
            secure,
            http,
            monitoring,
            folder,
        }
    }

    /// `host:port` of plaintext ADS.
    pub(crate) fn ads(&self) -> &str {
        &self.ads
    }

    /// Where it serves over TLS.
    pub(crate) fn secure(&self) -> SocketAddr {
        self.secure.parse().expect("an address")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    /// Waits for a line of the log that has `part`.
    pub(crate) async fn logged(&mut self, part: &str) -> String {
        self.until(&format!("{part:?} in the log"), async |plane| {
            let log = plane.log();
            let line = log.lines().find(|line| line.contains(part));
            line.map(str::to_owned)
        })
        .await
    }

    /// Status and body of a page of the http address, if someone answers.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        page(&self.http, path).await
    }

    /// The value of a metric (its name with all labels), as the monitoring
    /// address tells it.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = page(&self.monitoring, "/metrics").await?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(of, _)| *of == name)?;
        value.trim().parse().ok()
    }

    /// Kills it and starts it again, on the same ports.
    pub(crate) async fn restart(&mut self) {
        self.process.kill().await.expect("killed");
        self.process = self.command.spawn().expect("isthmus starts");
        self.wait_ready().await;
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_ready(&mut self) {
        self.until("ready", async |plane| {
            let (status, _) = plane.page("/ready").await?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// Waits until it has ended by itself, and tells how.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(LIMIT, self.process.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it did not end\n{}", self.log()));
        status.expect("a status")
    }

    /// Asks until `ask` has an answer.
    async fn until<T>(&mut self, what: &str, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(answer) = ask(self).await {
                return answer;
            }
            if let Some(status) = self.process.try_wait().expect("a status") {
                panic!("isthmus discovery ended: {status}\n{}", self.log());
            }
            assert!(Instant::now() < end, "never: {what}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// Status and body of an HTTP GET, if someone answers.
async fn page(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Addresses that nobody listens on, handed out once each.
///
/// They lie below the ports that the kernel gives to clients (from 32768 on):
/// one of those could be taken by an Envoy's own connection before, or while,
/// the program it was meant for restarts.
pub(crate) fn free_addresses<const N: usize>() -> [String; N] {
    [(); N].map(|()| {
        let is_free = |address: &String| TcpListener::bind(address.as_str()).is_ok();
        let mut ports = iter::repeat_with(next_port).take(PORTS.len());
        let free = ports.find_map(|port| Some(format!("127.0.0.1:{port}")).filter(is_free));
        free.expect("a free port")
    })
}

const PORTS: Range<u32> = 16_384..32_768;

/// Processes that run at once start at ports far from each other.
fn next_port() -> u32 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    let start = process::id().wrapping_mul(1009);
    PORTS.start + start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % count
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
