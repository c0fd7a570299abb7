//! Services.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::Deserialize;

use super::ip;
use crate::manifest::{
    Problem, Scope,
    json::{Int, IntOrText, List, Map, Text},
    meta::{Manifest, from_json, labels},
    protocol,
};
use crate::model::{KubeService, KubeServicePort, ObjectKind, ServiceType, TargetPort};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    r#type: Text<'a>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Text<'a>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: List<Text<'a>>,
    #[serde(rename = "externalIPs")]
    external_ips: List<Text<'a>>,
    external_name: Text<'a>,
    internal_traffic_policy: Text<'a>,
    ports: List<PortSpec<'a>>,
    publish_not_ready_addresses: Option<bool>,
    selector: Map<'a, Text<'a>>,
    traffic_distribution: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct PortSpec<'a> {
    name: Text<'a>,
    port: Int,
    protocol: Text<'a>,
    app_protocol: Option<Text<'a>>,
    target_port: IntOrText<'a>,
    node_port: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct LoadBalancer<'a> {
    ingress: List<Ingress<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Ingress<'a> {
    ip: Text<'a>,
    hostname: Text<'a>,
}

/// Reads a Service.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<KubeService, Problem> {
    let Manifest {
        metadata,
        spec,
        status,
    }: Manifest<'_, Spec<'_>, Status<'_>> = from_json(json)?;
    let kind = service_type(&spec.r#type)?;
    let external = spec.external_ips.iter().enumerate();
    let external_ips =
        scope.keep(external.map(|(i, text)| ip(text, || format!("spec.externalIPs[{i}]"))));
    let ports = spec.ports.iter().enumerate();
    let ports = ports.map(|(i, p)| port(p).map_err(|e| e.below(format_args!("spec.ports[{i}]"))));
    Ok(KubeService {
        meta: metadata.object(ObjectKind::Service),
        labels: metadata.labels(),
        annotations: metadata.annotations(),
        kind,
        cluster_ips: cluster_ips(&spec, kind)?,
        external_ips,
        load_balancer: load_balancer(&status),
        ports: ports.collect::<Result<_, _>>()?,
        selector: labels(&spec.selector),
        external_name: (kind == ServiceType::ExternalName)
            .then(|| spec.external_name.filled().map(Arc::from))
            .flatten(),
        node_local: &*spec.internal_traffic_policy == "Local",
        traffic_distribution: spec.traffic_distribution.filled().map(Arc::from),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
    })
}

fn service_type(text: &str) -> Result<ServiceType, Problem> {
    Ok(match text {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName,
        other => {
            let known = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
            return Err(Problem::word("spec.type", other, &known));
        }
    })
}

/// The addresses; none for a headless service and for `ExternalName`. One that
/// has none yet gets `0.0.0.0`, as in istiod: it is not headless.
fn cluster_ips(spec: &Spec<'_>, kind: ServiceType) -> Result<Vec<IpAddr>, Problem> {
    let several = spec.cluster_ips.len() > 1 || spec.cluster_ip.is_empty();
    let texts: Vec<&str> = if several {
        spec.cluster_ips.iter().map(|text| &**text).collect()
    } else {
        vec![&*spec.cluster_ip]
    };
    if texts.contains(&"None") || kind == ServiceType::ExternalName {
        return Ok(Vec::new());
    }
    if texts.is_empty() {
        return Ok(vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    }
    let texts = texts.iter().enumerate();
    texts
        .map(|(i, text)| ip(text, || format!("spec.clusterIPs[{i}]")))
        .collect()
}

fn port(port: &PortSpec<'_>) -> Result<KubeServicePort, Problem> {
    let number = port.port.port();
    let number = number.ok_or_else(|| Problem::port("port", port.port.0))?;
    let app_protocol = port.app_protocol.as_deref();
    Ok(KubeServicePort {
        name: port.name.arc(),
        port: number,
        protocol: protocol::of_service_port(number, &port.name, &port.protocol, app_protocol),
        target_port: target_port(&port.target_port, number)?,
        node_port: port.node_port.port(),
    })
}

fn target_port(target: &IntOrText<'_>, port: u16) -> Result<TargetPort, Problem> {
    let number = match target {
        IntOrText::Unset | IntOrText::Int(0) => return Ok(TargetPort::Number(port)),
        IntOrText::Int(number) => *number,
        IntOrText::Text(name) => match (name.filled(), name.parse()) {
            (None, _) => return Ok(TargetPort::Number(port)),
            (Some(_), Ok(number)) => number,
            (Some(name), Err(_)) => return Ok(TargetPort::Name(Arc::from(name))),
        },
    };
    let target = Int(Some(number)).port().map(TargetPort::Number);
    target.ok_or_else(|| Problem::port("targetPort", Some(number)))
}

fn load_balancer(status: &Status<'_>) -> Vec<Arc<str>> {
    let addresses = status.load_balancer.iter().flat_map(|l| l.ingress.iter());
    // istiod: the IP where an entry has both.
    let addresses = addresses.filter_map(|i| i.ip.filled().or_else(|| i.hostname.filled()));
    addresses.map(Arc::from).collect()
}
