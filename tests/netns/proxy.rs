//! A pod's `isthmus agent` and its Envoy, in the pod's namespace.

use std::{fs, net::SocketAddrV4, path::Path, process::Stdio, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{
    http::{Answer, Call, get},
    namespace::Namespace,
    seed::{Cluster, Pod},
    support::envoy,
    topology::intercept,
};

/// How long a proxy may take to be ready on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// What a pod is given beside its own manifest.
#[derive(Debug, Clone)]
pub(crate) struct Provision<'a> {
    pub(crate) token: &'a str,
    pub(crate) root: &'a str,
    /// `host:port` of the control plane.
    pub(crate) discovery: &'a str,
    /// Lines of `/etc/hosts`.
    pub(crate) hosts: &'a str,
    pub(crate) certificate_life: &'a str,
}

/// A running agent. Dropping the topology ends it.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Child,
    folder: TempDir,
    name: String,
    entrance: crate::namespace::Entrance,
}

impl Proxy {
    /// Starts the proxy of a pod; all TCP of a sidecar's pod goes through it.
    pub(crate) fn start(
        cluster: &Cluster,
        pod: &Pod,
        namespace: &Namespace,
        given: &Provision<'_>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        mount(folder.path(), pod, given);
        if !given.hosts.is_empty() {
            namespace.etc("hosts", &format!("127.0.0.1 localhost\n{}\n", given.hosts));
        }
        if !pod.is_router() {
            intercept(namespace);
        }
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let role = if pod.is_router() { "router" } else { "sidecar" };
        let mut command = namespace.command("setpriv");
        let process = command
            // The group that the rules of iptables let pass.
            .args(["--regid", "1337", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_isthmus"))
            .args(["agent", role])
            .args(["--domain", &format!("{}.svc.cluster.local", pod.namespace)])
            .envs(environment(cluster, pod, given))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("isthmus agent starts");
        Self {
            process,
            folder,
            name: format!("{}/{}", cluster.name, pod.name),
            entrance: namespace.entrance(),
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the agent says that its pod may be sent requests.
    pub(crate) async fn wait_ready(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let page = local(15021);
            let answer = get(&self.entrance, &page, "/healthz/ready").await;
            if answer.is_some_and(|answer| answer.status == 200) {
                return;
            }
            let ended = self.process.try_wait().expect("a status");
            let (name, log) = (&self.name, self.log());
            assert!(ended.is_none(), "{name}: agent ended: {ended:?}\n{log}");
            assert!(Instant::now() < end, "{name} is never ready\n{log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A page of Envoy's admin interface.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let answer = get(&self.entrance, &local(15000), path).await;
        let log = || panic!("{}: no admin interface\n{}", self.name, self.log());
        answer.map_or_else(log, |Answer { body, .. }| body)
    }

    /// The sum of the counters whose names match.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let stats = self.admin(&format!("/stats?filter=^{name}$")).await;
        let values = stats.lines().filter_map(|line| line.rsplit_once(": "));
        values
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }

    /// How many connections it has opened to such addresses.
    pub(crate) async fn connections(&self, to: impl Fn(SocketAddrV4) -> bool) -> u64 {
        let clusters = self.admin("/clusters").await;
        let hosts = clusters
            .lines()
            .map(|line| line.split("::").collect::<Vec<_>>());
        let opened = hosts.filter_map(|host| match host[..] {
            [_, address, "cx_total", count] if to(address.parse().ok()?) => {
                count.parse::<u64>().ok()
            }
            _ => None,
        });
        opened.sum()
    }

    /// How many connections a gateway has passed on by server name.
    pub(crate) async fn sni_routed(&self) -> u64 {
        let name = r"cluster\.outbound_\..*\.upstream_cx_total";
        self.stat(name).await
    }

    /// Envoy took all that it was sent.
    pub(crate) async fn assert_nothing_rejected(&self) {
        let stats = self.admin("/stats?filter=rejected|create_failure").await;
        let rejected: Vec<_> = stats.lines().filter(|l| !l.ends_with(": 0")).collect();
        let log = self.log();
        assert!(rejected.is_empty(), "{}: {rejected:?}\n{log}", self.name);
    }
}

fn local(port: u16) -> Call {
    Call {
        host: "localhost".to_owned(),
        address: SocketAddrV4::new([127, 0, 0, 1].into(), port),
    }
}

/// What the kubelet mounts into a pod, where pilot-agent looks for it.
fn mount(folder: &Path, pod: &Pod, given: &Provision<'_>) {
    let write = |file: &str, text: &str| {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a written file");
    };
    write("var/run/secrets/tokens/istio-token", given.token);
    write("var/run/secrets/istio/root-cert.pem", given.root);
    let labels = pod.labels.iter().map(|(k, v)| format!("{k}={v:?}\n"));
    write("etc/istio/pod/labels", &labels.collect::<String>());
    write("etc/istio/proxy/.keep", "");
}

/// What istio's injector sets.
fn environment(cluster: &Cluster, pod: &Pod, given: &Provision<'_>) -> Vec<(String, String)> {
    let config = json!({
        "discoveryAddress": given.discovery,
        "binaryPath": envoy::binary(),
        "configPath": "./etc/istio/proxy",
        "concurrency": 1,
        "terminationDrainDuration": "1s",
        "proxyStatsMatcher": {"inclusionRegexps": [".*"]},
    });
    let pairs = [
        ("PROXY_CONFIG", config.to_string()),
        ("POD_NAME", pod.name.clone()),
        ("POD_NAMESPACE", pod.namespace.clone()),
        ("SERVICE_ACCOUNT", pod.service_account.clone()),
        ("INSTANCE_IP", pod.ip.to_string()),
        ("TRUST_DOMAIN", "cluster.local".to_owned()),
        ("SECRET_TTL", given.certificate_life.to_owned()),
        ("CLOUD_PLATFORM", "none".to_owned()),
        ("ISTIOD_SAN", "istiod.istio-system.svc".to_owned()),
        ("ISTIO_META_CLUSTER_ID", cluster.name.clone()),
        ("ISTIO_META_NETWORK", cluster.network.clone()),
        ("ISTIO_META_MESH_ID", "mesh1".to_owned()),
        ("ISTIO_META_WORKLOAD_NAME", pod.app().to_owned()),
        ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT".to_owned()),
        ("ISTIO_META_DNS_CAPTURE", "true".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
