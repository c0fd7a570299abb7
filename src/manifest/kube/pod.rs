//! Pods.

use std::sync::Arc;

use serde::Deserialize;

use super::ip;
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Text},
    meta::{Condition, Manifest, Meta, Owner, from_json},
};
use crate::model::{ObjectKind, Pod};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    node_name: Text<'a>,
    service_account_name: Text<'a>,
    hostname: Text<'a>,
    subdomain: Text<'a>,
    containers: List<Container<'a>>,
    init_containers: List<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Container<'a> {
    restart_policy: Text<'a>,
    ports: List<PortSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct PortSpec<'a> {
    name: Text<'a>,
    container_port: Int,
    protocol: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    phase: Text<'a>,
    #[serde(rename = "podIP")]
    pod_ip: Text<'a>,
    #[serde(rename = "podIPs")]
    pod_ips: List<PodIp<'a>>,
    conditions: List<Condition<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct PodIp<'a> {
    ip: Text<'a>,
}

/// Reads a Pod.
pub(in crate::manifest) fn read(json: &[u8], scope: &mut Scope<'_>) -> Result<Pod, Problem> {
    let Manifest {
        metadata,
        spec,
        status,
    }: Manifest<'_, Spec<'_>, Status<'_>> = from_json(json)?;
    let mut texts: Vec<&str> = status.pod_ips.iter().map(|p| &*p.ip).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.filled());
    }
    let texts = texts.iter().enumerate();
    let ips = scope.keep(texts.map(|(i, text)| ip(text, || format!("status.podIPs[{i}]"))));
    Ok(Pod {
        meta: metadata.key(ObjectKind::Pod),
        labels: metadata.labels(),
        ips,
        node: spec.node_name.arc(),
        service_account: spec.service_account_name.arc(),
        dns_name: Arc::from(dns_name(&spec, &metadata.name)),
        workload_name: Arc::from(workload_name(&metadata)),
        ready: status.conditions.iter().any(|c| c.holds("Ready")),
        terminating: metadata.deletion_timestamp.is_some(),
        finished: matches!(&*status.phase, "Succeeded" | "Failed"),
        container_ports: container_ports(&spec),
    })
}

/// What cluster DNS calls a pod of a headless service, without the domain.
fn dns_name(spec: &Spec<'_>, pod: &str) -> String {
    let hostname = spec.hostname.filled().unwrap_or(pod);
    let subdomain = spec.subdomain.filled();
    subdomain.map_or_else(String::new, |name| format!("{hostname}.{name}"))
}

/// The workload a pod belongs to, guessed as istiod does
/// (`pkg/kube/util.go`): no owner is looked up.
fn workload_name<'m>(meta: &'m Meta<'_>) -> &'m str {
    let label = |key: &str| meta.labels.get(key).and_then(Text::filled);
    if let Some(name) = label("service.istio.io/workload-name") {
        return name;
    }
    let controller = meta.owner_references.iter();
    let mut controller = controller.filter(|owner| owner.controller == Some(true));
    match controller.next() {
        // A pod with a name of its own was not made from a template.
        Some(owner) if !meta.generate_name.is_empty() && !owner.name.is_empty() => {
            owner_of(owner, label)
        }
        _ => &meta.name,
    }
}

fn owner_of<'m>(controller: &'m Owner<'_>, label: impl Fn(&str) -> Option<&'m str>) -> &'m str {
    let name = &*controller.name;
    match &*controller.kind {
        "ReplicaSet" => {
            // A Deployment's, or an Argo Rollout's.
            let hashes = ["pod-template-hash", "rollouts-pod-template-hash"];
            let mut parents = hashes.iter().filter_map(|key| {
                let parent = name.strip_suffix(label(key)?)?;
                Some(parent.strip_suffix('-').unwrap_or(name))
            });
            parents.next().unwrap_or(name)
        }
        "ReplicationController" => label("deploymentconfig").unwrap_or(name),
        "Job" => cron_job(name).unwrap_or(name),
        _ => name,
    }
}

/// `backup-28123456` is a run of the `CronJob` `backup`.
fn cron_job(job: &str) -> Option<&str> {
    let (name, run) = job.rsplit_once('-')?;
    let is_run = (8..=10).contains(&run.len()) && run.bytes().all(|b| b.is_ascii_digit());
    (is_run && !name.is_empty()).then_some(name)
}

/// Named TCP ports of containers and native sidecars; the first of a name wins.
fn container_ports(spec: &Spec<'_>) -> Vec<(Arc<str>, u16)> {
    let sidecars = spec.init_containers.iter();
    let sidecars = sidecars.filter(|c| &*c.restart_policy == "Always");
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter());
    let mut named: Vec<(Arc<str>, u16)> = Vec::new();
    for port in ports.filter(|p| matches!(&*p.protocol, "" | "TCP")) {
        if let (Some(name), Some(number)) = (port.name.filled(), port.container_port.port())
            && !named.iter().any(|(known, _)| **known == *name)
        {
            named.push((Arc::from(name), number));
        }
    }
    named
}
