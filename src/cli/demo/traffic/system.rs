//! The running system: a control plane, and the proxies and servers of three
//! networks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use super::super::http::page;
use super::super::scenario::{Scenario, is};
use super::super::{DemoArgs, flags};
use super::loopback::{Loopback, Workload};
use super::process::{Ports, Process, isthmus};
use super::tokens::Issuer;

/// The name in the control plane's certificate.
const CONTROL_PLANE: &str = "istiod.istio-system.svc";

/// Where the control plane keeps its self-signed root, with the key.
const STATE: &str = "plane/ca/self-signed-ca.pem";
/// The root alone.
const ROOT: &str = "root-cert.pem";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// How long requests that run may take to end.
const DRAIN: Duration = Duration::from_secs(1);

/// Everything that runs. [`System::end`] ends it.
pub(super) struct System {
    pub(super) proxies: Vec<Proxy>,
    /// Workloads that are not started yet.
    waiting: Vec<Workload>,
    pub(super) place: Loopback,
    scenario: Scenario,
    plane: Process,
    secure: SocketAddr,
    folder: TempDir,
    issuer: Issuer,
    ports: Ports,
    envoy: PathBuf,
}

/// A workload with its Envoy, and its server where it is helloworld.
pub(super) struct Proxy {
    pub(super) workload: Workload,
    agent: Process,
    admin: SocketAddr,
    server: Option<Process>,
}

impl System {
    /// Starts the control plane.
    pub(super) fn start(args: &DemoArgs) -> Result<Self> {
        let scenario = Scenario::copy(&args.scenario)?;
        let place = Loopback::free()?;
        let workloads = place.take(&scenario)?;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let (issuer, mut ports) = (Issuer::new()?, Ports::new());
        let (secure, http) = (local(ports.next()?), local(ports.next()?));
        Ok(Self {
            plane: plane(&scenario, folder.path(), &issuer, (secure, http))?,
            proxies: Vec::new(),
            waiting: workloads,
            place,
            envoy: args.envoy.canonicalize()?,
            scenario,
            secure,
            folder,
            issuer,
            ports,
        })
    }

    /// Starts the workloads and waits until all are ready.
    pub(super) async fn start_workloads(&mut self) -> Result<()> {
        self.plane.ready().await?;
        self.publish_root()?;
        for workload in std::mem::take(&mut self.waiting) {
            let proxy = self.start_proxy(workload)?;
            self.proxies.push(proxy);
        }
        try_join_all(self.proxies.iter_mut().map(Proxy::ready)).await?;
        Ok(())
    }

    /// Gives the workloads what they trust, and not the key that it lies with.
    fn publish_root(&self) -> Result<()> {
        let both = fs::read_to_string(self.folder.path().join(STATE))?;
        let root = both.find(BEGIN).and_then(|at| both.get(at..));
        let root = root.and_then(|rest| rest.split_inclusive(END).next());
        let root = root.context("the control plane has no root certificate")?;
        Ok(fs::write(
            self.folder.path().join(ROOT),
            format!("{root}\n"),
        )?)
    }

    fn start_proxy(&mut self, workload: Workload) -> Result<Proxy> {
        let Workload { cluster, name, .. } = &workload;
        let folder = self.folder.path().join(cluster).join(name);
        let token = folder.join("token");
        fs::create_dir_all(&folder)?;
        fs::write(&token, self.issuer.token(&workload)?)?;
        let role = if workload.is_gateway() {
            "router"
        } else {
            "sidecar"
        };
        let (admin, status) = (local(self.ports.next()?), local(self.ports.next()?));
        let mut command = isthmus(&folder, ["agent", role])?;
        command.arg("--token-file").arg(token);
        for (flag, port) in [
            ("--admin-port", admin.port()),
            ("--status-port", status.port()),
            ("--envoy-status-port", self.ports.next()?),
            ("--envoy-prometheus-port", self.ports.next()?),
        ] {
            command.args([flag, &port.to_string()]);
        }
        command.envs(self.environment(&workload));
        Ok(Proxy {
            agent: Process::start(name, command, &folder, (status, "/healthz/ready"))?,
            server: server(&workload, self.place.server, &folder)?,
            workload,
            admin,
        })
    }

    /// What istio's injector would set.
    fn environment(&self, of: &Workload) -> Vec<(&'static str, String)> {
        let root = self.folder.path().join(ROOT).display().to_string();
        let config = json!({
            "discoveryAddress": self.secure.to_string(),
            "binaryPath": self.envoy,
            "concurrency": 1,
            "terminationDrainDuration": "1s",
        });
        vec![
            ("PROXY_CONFIG", config.to_string()),
            ("POD_NAME", of.name.clone()),
            ("POD_NAMESPACE", of.namespace.clone()),
            ("SERVICE_ACCOUNT", of.service_account.clone()),
            ("INSTANCE_IP", of.address.to_string()),
            ("ISTIOD_SAN", CONTROL_PLANE.to_owned()),
            ("XDS_ROOT_CA", root.clone()),
            ("CA_ROOT_CA", root),
            ("ISTIO_META_CLUSTER_ID", of.cluster.clone()),
            ("ISTIO_META_NETWORK", of.network.clone()),
            ("ISTIO_META_INTERCEPTION_MODE", "NONE".to_owned()),
            ("ISTIO_METAJSON_LABELS", of.labels.clone()),
        ]
    }

    /// Where the client asks.
    pub(super) fn client(&self) -> Result<SocketAddr> {
        let mut proxies = self.proxies.iter().map(|proxy| &proxy.workload);
        let client = proxies.find(|workload| workload.app == "sleep");
        let client = client.context("the scenario has no sleep")?;
        Ok((client.address, self.place.service).into())
    }

    /// Takes helloworld of a cluster away, as the end of its pod would: first
    /// its endpoint goes, then the proxy drains and ends.
    pub(super) async fn stop_helloworld(&mut self, cluster: &str) -> Result<Stopped> {
        let before = self.scenario.documents(cluster)?;
        let mut after = before.clone();
        after.retain(|d| !is(d, "EndpointSlice", "helloworld") && !is(d, "Pod", "helloworld"));
        self.scenario.write(cluster, &after)?;
        let is_it =
            |proxy: &Proxy| proxy.workload.cluster == cluster && proxy.workload.app == "helloworld";
        let found = self.proxies.iter().position(is_it);
        let place = found.context("it does not run")?;
        // It stays in the list until it has ended, so that Ctrl-C ends it too.
        if let Some(proxy) = self.proxies.get_mut(place) {
            proxy.agent.post("/drain").await?;
            sleep(DRAIN).await;
            proxy.end().await;
        }
        Ok(Stopped {
            workload: self.proxies.remove(place).workload,
            documents: before,
        })
    }

    /// Brings it back: its endpoint comes when its proxy is ready.
    pub(super) async fn start_helloworld(&mut self, stopped: Stopped) -> Result<()> {
        let cluster = stopped.workload.cluster.clone();
        let mut proxy = self.start_proxy(stopped.workload)?;
        let ready = proxy.ready().await;
        self.proxies.push(proxy);
        ready?;
        self.scenario.write(&cluster, &stopped.documents)?;
        Ok(())
    }

    /// Ends everything; agents first, which end their Envoys.
    pub(super) async fn end(mut self) {
        join_all(self.proxies.iter_mut().map(Proxy::end)).await;
        // Whatever is wrong with it, it goes.
        let _ = self.plane.kill().await;
    }
}

/// What is needed to bring a workload back.
pub(super) struct Stopped {
    workload: Workload,
    documents: Vec<yaml_serde::Value>,
}

impl Proxy {
    async fn ready(&mut self) -> Result<()> {
        self.agent.ready().await
    }

    async fn end(&mut self) {
        if let Err(error) = self.agent.end("/quitquitquit").await {
            anstream::eprintln!("{}: {error:#}", self.workload.name);
        }
        if let Some(server) = &mut self.server {
            let _ = server.kill().await;
        }
    }

    /// The identity in the certificate that Envoy uses.
    pub(super) async fn identity(&self) -> Result<String> {
        let certificates: Value = serde_json::from_slice(&page(self.admin, "/certs").await?)?;
        let chains = certificates
            .pointer("/certificates")
            .and_then(Value::as_array);
        let mut names = chains.into_iter().flatten().filter_map(|one| {
            let name = one.pointer("/cert_chain/0/subject_alt_names/0/uri")?;
            name.as_str().map(str::to_owned)
        });
        names.next_back().context("Envoy has no certificate")
    }
}

fn plane(
    scenario: &Scenario,
    folder: &Path,
    issuer: &Issuer,
    (secure, http): (SocketAddr, SocketAddr),
) -> Result<Process> {
    let folder = folder.join("plane");
    let mut command = isthmus(&folder, ["discovery", "--grpc-addr="])?;
    command
        .args(flags(scenario))
        .arg("--ca-state-dir=ca")
        .arg(format!("--secure-grpc-addr={secure}"))
        .arg(format!("--http-addr={http}"))
        .env("JWT_RULE", issuer.rule());
    Process::start("the control plane", command, &folder, (http, "/ready"))
}

/// The server of helloworld, which only its own Envoy calls.
fn server(of: &Workload, port: u16, folder: &Path) -> Result<Option<Process>> {
    if of.app != "helloworld" {
        return Ok(None);
    }
    let address = SocketAddr::from((of.address, port));
    let folder = folder.join("server");
    let mut command = isthmus(&folder, ["helloworld"])?;
    command.arg(format!("--listen={address}"));
    command.env("SERVICE_VERSION", &of.version);
    Process::start(&of.name, command, &folder, (address, "/hello")).map(Some)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
