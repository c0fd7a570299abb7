//! `isthmus agent` in a process of its own, with a real Envoy below it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::envoy::{Answer, binary, get, post};
use super::plane::free_addresses;

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// What a test says of a proxy.
pub(crate) struct Proxy<'a> {
    pub(crate) role: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) ip: &'a str,
    /// `host:port` of the control plane.
    pub(crate) discovery: &'a str,
    /// What the control plane is trusted by, as PEM.
    pub(crate) roots: &'a str,
    pub(crate) token: &'a str,
    /// More variables.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// More fields of the `ProxyConfig`.
    pub(crate) settings: Value,
}

/// A running agent. Dropping it kills it and its Envoy.
pub(crate) struct Agent {
    process: Child,
    folder: TempDir,
    admin: String,
    status: String,
    ready: String,
    metrics: String,
}

impl Agent {
    /// Starts an agent and its Envoy.
    pub(crate) fn start(proxy: &Proxy<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("root-cert.pem"), proxy.roots).expect("roots");
        fs::write(path("token"), proxy.token).expect("a token");
        let log = fs::File::create(path("log")).expect("a log");
        let [admin, status, ready, metrics] = free_addresses();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
        let settings = settings(proxy, [&admin, &status]);
        command
            .args(["agent", proxy.role])
            .arg("--token-file")
            .arg(path("token"))
            .arg("--envoy")
            .arg(binary())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("POD_NAME", proxy.name)
            .env("POD_NAMESPACE", proxy.namespace)
            .env("SERVICE_ACCOUNT", proxy.name)
            .env("INSTANCE_IP", proxy.ip)
            .env("PROXY_CONFIG", settings.to_string())
            .env("XDS_ROOT_CA", path("root-cert.pem"))
            .env("CA_ROOT_CA", path("root-cert.pem"))
            .env("ENVOY_STATUS_PORT", port(&ready))
            .env("ENVOY_PROMETHEUS_PORT", port(&metrics))
            .envs(proxy.variables.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true);
        Self {
            process: command.spawn().expect("isthmus starts"),
            folder,
            admin,
            status,
            ready,
            metrics,
        }
    }

    /// A file of the agent's working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the agent and Envoy have printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A page of Envoy's admin interface.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        let answer = get(&self.admin, "admin", path).await?;
        (answer.status == 200).then_some(answer.body)
    }

    /// Does something in Envoy's admin interface.
    pub(crate) async fn admin_post(&self, path: &str) {
        let answer = post(&self.admin, "admin", path).await;
        assert_eq!(answer.map(|a| a.status), Some(200), "{path}");
    }

    /// A page of the agent.
    pub(crate) async fn page(&self, path: &str) -> Option<Answer> {
        get(&self.status, "agent", path).await
    }

    /// Asks the agent to do something.
    pub(crate) async fn post(&self, path: &str) -> Option<Answer> {
        post(&self.status, "agent", path).await
    }

    /// Readiness through Envoy, as Kubernetes asks for it.
    pub(crate) async fn ready_through_envoy(&self) -> Option<Answer> {
        get(&self.ready, "probe", "/healthz/ready").await
    }

    /// Envoy's metrics through its own listener.
    pub(crate) async fn metrics(&self) -> Option<Answer> {
        get(&self.metrics, "prometheus", "/stats/prometheus").await
    }

    /// A counter or gauge of Envoy's.
    pub(crate) async fn stat(&self, name: &str) -> Option<u64> {
        let stats = self.admin(&format!("/stats?filter=^{name}$")).await?;
        let (_, value) = stats.trim().rsplit_once(": ")?;
        value.parse().ok()
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_ready(&mut self) {
        self.until("ready", async |agent| {
            let answer = agent.ready_through_envoy().await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Waits for a line of the output that has `part`, after `from` bytes.
    pub(crate) async fn logged(&mut self, part: &str, from: usize) -> String {
        self.until(&format!("{part:?} in the log"), async |agent| {
            let log = agent.log();
            let line = log.get(from..)?.lines().find(|line| line.contains(part));
            line.map(str::to_owned)
        })
        .await
    }

    /// Asks until `ask` has an answer.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        ask: impl AsyncFn(&Self) -> Option<T>,
    ) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(answer) = ask(self).await {
                return answer;
            }
            let ended = self.process.try_wait().expect("a status");
            assert!(
                ended.is_none(),
                "the agent ended: {ended:?}\n{}",
                self.log()
            );
            assert!(Instant::now() < end, "never: {what}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells it to end, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        signal("TERM", self.process.id().expect("it runs"));
    }

    /// Process id of its Envoy.
    pub(crate) fn envoy(&self) -> u32 {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("Envoy started"));
        let (_, rest) = line
            .expect("Envoy started")
            .split_once("pid=")
            .expect("pid");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a process id")
    }

    /// Waits until it has ended, and tells how.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(LIMIT, self.process.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it did not end\n{}", self.log()));
        status.expect("a status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Killed, the agent cannot end its Envoy.
        if let Ok(None) = self.process.try_wait()
            && self.log().contains("Envoy started")
        {
            let envoy = self.envoy();
            let _ = self.process.start_kill();
            signal("KILL", envoy);
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, process: u32) {
    let _ = std::process::Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("host:port").1
}

fn settings(proxy: &Proxy<'_>, [admin, status]: [&str; 2]) -> Value {
    let port = |address| port(address).parse::<u16>().expect("a port");
    let mut settings = json!({
        "discoveryAddress": proxy.discovery,
        "configPath": "proxy",
        "proxyAdminPort": port(admin),
        "statusPort": port(status),
        "concurrency": 1,
        "proxyStatsMatcher": {"inclusionRegexps": [".*"]},
    });
    let fields = settings.as_object_mut().expect("an object");
    if let Value::Object(more) = &proxy.settings {
        fields.extend(more.clone());
    }
    settings
}
