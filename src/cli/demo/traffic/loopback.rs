//! The scenario moved to loopback addresses, where an ordinary user can run it:
//! `127.N.1.x` is the first network, `127.N.2.x` the second.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};
use yaml_serde::Value;

use super::super::scenario::{Scenario, is, text_at};

/// Port of helloworld in the scenario.
const SERVICE_PORT: u64 = 5000;
/// Port of the scenario's gateways.
const GATEWAY_PORT: u64 = 15443;
/// How many ports after the usual one are tried.
const TRIED: u16 = 100;

/// Addresses and ports that nobody else uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loopback {
    /// All addresses are `127.PART.NETWORK.HOST`.
    part: u8,
    /// Port of helloworld, as its callers know it.
    pub(super) service: u16,
    /// Port of a helloworld server behind its Envoy.
    pub(super) server: u16,
    /// Port of all gateways.
    pub(super) gateway: u16,
}

/// A workload of the scenario that runs.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) cluster: String,
    pub(super) network: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) app: String,
    pub(super) version: String,
    /// `metadata.labels`, as JSON.
    pub(super) labels: String,
    pub(super) address: Ipv4Addr,
}

impl Loopback {
    /// A free part of `127.0.0.0/8`. Two Envoys of one user may listen on one
    /// address and port, and the kernel then shares connections out: so another
    /// demo must have other addresses. Who listens on all addresses takes the
    /// port: another one is tried.
    pub(super) fn free() -> Result<Self> {
        let start = std::process::id() % 250;
        let parts = (0..250).filter_map(|n| u8::try_from(2 + (start + n) % 250).ok());
        let mut free = parts.filter_map(|part| {
            Some(Self {
                part,
                service: free_port(part, &[11, 12], 5000)?,
                server: free_port(part, &[11], 8080)?,
                gateway: free_port(part, &[13], 15443)?,
            })
        });
        free.next().context("all of 127.0.0.0/8 is in use")
    }

    fn address(self, network: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.part, network, host)
    }

    /// Moves all pods and gateways here, and gives every proxy an address of
    /// its own to bind. The workloads that run.
    pub(super) fn take(self, scenario: &Scenario) -> Result<Vec<Workload>> {
        let mut workloads = Vec::new();
        let mut gateways = Vec::new();
        let mut all = Vec::new();
        for (cluster, number) in scenario.clusters.iter().zip(1..) {
            let mut documents = scenario.documents(cluster)?;
            let moved = |old: Ipv4Addr| self.address(number, old.octets()[3]);
            for pod in documents.iter().filter(|d| is(d, "Pod", "")) {
                workloads.extend(workload(cluster, pod, moved));
            }
            let pods: Vec<String> = documents.iter().filter_map(pod_address).collect();
            for document in &mut documents {
                replace(document, &|scalar| match scalar {
                    Value::String(text) if pods.contains(text) => {
                        Some(moved(text.parse().ok()?).to_string().into())
                    }
                    other => self.port(other.as_u64()?).map(Value::from),
                });
            }
            documents.retain(|d| !is(d, "Gateway", ""));
            all.push((cluster, documents));
        }
        for workload in workloads.iter().filter(|w| w.is_gateway()) {
            gateways.push((workload.network.clone(), workload.address));
        }
        let [(_, config), ..] = all.as_mut_slice() else {
            bail!("the scenario has no cluster");
        };
        config.extend(self.rules(&workloads)?);
        for (cluster, documents) in &all {
            scenario.write(cluster, documents)?;
        }
        scenario.set_gateways(&gateways, self.gateway)?;
        workloads.retain(|w| w.is_gateway() || w.app == "helloworld" || w.is_client(scenario));
        Ok(workloads)
    }

    /// Where a port of the scenario is here.
    fn port(self, usual: u64) -> Option<u16> {
        match usual {
            SERVICE_PORT => Some(self.service),
            GATEWAY_PORT => Some(self.gateway),
            _ => None,
        }
    }

    /// What the scenario's manifests do not say since pods have all ports to
    /// themselves: which address each proxy binds. And round robin, so that the
    /// versions answer in turn.
    fn rules(self, workloads: &[Workload]) -> Result<Vec<Value>> {
        let Self {
            service,
            server,
            gateway,
            ..
        } = self;
        let mut texts = vec![format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: helloworld, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: helloworld}}}}
  ingress:
  - port: {{number: {service}, protocol: HTTP, name: http}}
    captureMode: NONE
    defaultEndpoint: 0.0.0.0:{server}
  egress:
  - hosts: ['~/*']
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: helloworld, namespace: default}}
spec:
  host: helloworld.default.svc.cluster.local
  trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}
"
        )];
        for Workload {
            network,
            app,
            address,
            ..
        } in workloads
        {
            match app.as_str() {
                "sleep" => texts.push(format!(
                    "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: sleep-{network}, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: sleep, topology.istio.io/network: {network}}}}}
  egress:
  - bind: {address}
    captureMode: NONE
    hosts: ['default/helloworld.default.svc.cluster.local']
"
                )),
                "istio-eastwestgateway" => texts.push(format!(
                    "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: cross-network-{network}, namespace: istio-system}}
spec:
  selector: {{istio: eastwestgateway, topology.istio.io/network: {network}}}
  servers:
  - port: {{number: {gateway}, protocol: TLS, name: tls}}
    bind: {address}
    tls: {{mode: AUTO_PASSTHROUGH}}
    hosts: ['*.local']
"
                )),
                _ => {}
            }
        }
        super::super::scenario::parse(&texts.join("---\n"))
    }
}

impl Workload {
    pub(super) fn is_gateway(&self) -> bool {
        self.app == "istio-eastwestgateway"
    }

    /// The client is in the first network.
    pub(super) fn is_client(&self, scenario: &Scenario) -> bool {
        self.app == "sleep" && self.cluster == scenario.config_cluster
    }

    /// As certificates name it.
    pub(super) fn identity(&self) -> String {
        let Self {
            namespace,
            service_account,
            ..
        } = self;
        format!("spiffe://cluster.local/ns/{namespace}/sa/{service_account}")
    }
}

fn pod_address(document: &Value) -> Option<String> {
    let is_pod = is(document, "Pod", "");
    is_pod.then(|| text_at(document, &["status", "podIP"]))?
}

fn workload(cluster: &str, pod: &Value, moved: impl Fn(Ipv4Addr) -> Ipv4Addr) -> Option<Workload> {
    let labels = pod.get("metadata")?.get("labels")?;
    let label = |key| text_at(labels, &[key]);
    Some(Workload {
        cluster: cluster.to_owned(),
        network: label("topology.istio.io/network")?,
        name: text_at(pod, &["metadata", "name"])?,
        namespace: text_at(pod, &["metadata", "namespace"])?,
        service_account: text_at(pod, &["spec", "serviceAccountName"])?,
        app: label("app")?,
        version: label("version")?,
        labels: serde_json::to_string(labels).ok()?,
        address: moved(pod_address(pod)?.parse().ok()?),
    })
}

/// A port that is free at these hosts of all networks, the usual one or one
/// soon after it.
fn free_port(part: u8, hosts: &[u8], usual: u16) -> Option<u16> {
    let is_free = |port: &u16| {
        let networks = (1..=3).flat_map(|network| hosts.iter().map(move |host| (network, *host)));
        let mut addresses = networks.map(|(network, host)| Ipv4Addr::new(127, part, network, host));
        addresses.all(|address| TcpListener::bind((address, *port)).is_ok())
    };
    (usual..usual + TRIED).find(is_free)
}

/// Replaces texts and numbers, however deep.
fn replace(value: &mut Value, with: &impl Fn(&Value) -> Option<Value>) {
    match value {
        Value::Sequence(all) => all.iter_mut().for_each(|one| replace(one, with)),
        Value::Mapping(all) => all.iter_mut().for_each(|(_, one)| replace(one, with)),
        scalar => {
            if let Some(new) = with(scalar) {
                *scalar = new;
            }
        }
    }
}
