//! `ServiceEntry`s.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;

use super::{Selector, export_to, one_of, workload_entry::Target};
use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Text},
    meta::{CONNECT_STRATEGY, Manifest, TRAFFIC_DISTRIBUTION, from_json},
    protocol,
};
use crate::model::{
    Location, ObjectKind, ServiceEntry, ServiceEntryPort, ServiceEntryResolution, WorkloadTarget,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    hosts: List<Text<'a>>,
    addresses: List<Text<'a>>,
    ports: List<PortSpec<'a>>,
    location: Text<'a>,
    resolution: Text<'a>,
    endpoints: List<Target<'a>>,
    workload_selector: Option<Selector<'a>>,
    export_to: List<Text<'a>>,
    subject_alt_names: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct PortSpec<'a> {
    number: Int,
    name: Text<'a>,
    protocol: Text<'a>,
    target_port: Int,
}

const LOCATIONS: &[(&str, Location)] = &[
    ("", Location::External),
    ("MESH_EXTERNAL", Location::External),
    ("MESH_INTERNAL", Location::Internal),
];

const RESOLUTIONS: &[(&str, ServiceEntryResolution)] = &[
    ("", ServiceEntryResolution::None),
    ("NONE", ServiceEntryResolution::None),
    ("STATIC", ServiceEntryResolution::Static),
    ("DNS", ServiceEntryResolution::Dns),
    ("DNS_ROUND_ROBIN", ServiceEntryResolution::DnsRoundRobin),
    ("DYNAMIC_DNS", ServiceEntryResolution::DynamicDns),
];

/// Reads a `ServiceEntry`.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<ServiceEntry, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let meta = metadata.object(ObjectKind::ServiceEntry);
    let hosts: Vec<Arc<str>> = spec
        .hosts
        .iter()
        .filter_map(|h| h.filled().map(Arc::from))
        .collect();
    if hosts.is_empty() {
        return Err(Problem::new(
            "spec.hosts",
            "is empty; name at least one host",
        ));
    }
    let addresses = spec.addresses.iter().enumerate();
    let addresses = scope.keep(addresses.map(|(i, text)| address(i, text)));
    let ports = spec.ports.iter().enumerate();
    let ports = ports.map(|(i, p)| port(p).map_err(|e| e.below(format_args!("spec.ports[{i}]"))));
    let strategy = metadata.annotation(CONNECT_STRATEGY);
    Ok(ServiceEntry {
        labels: metadata.labels(),
        hosts,
        addresses,
        ports: ports.collect::<Result<_, _>>()?,
        location: one_of("spec.location", &spec.location, LOCATIONS)?,
        resolution: one_of("spec.resolution", &spec.resolution, RESOLUTIONS)?,
        endpoints: endpoints(&spec, scope),
        workload_selector: spec.workload_selector.as_ref().map(Selector::labels),
        export_to: export_to(&spec.export_to, &meta.namespace),
        subject_alt_names: spec.subject_alt_names.iter().map(Text::arc).collect(),
        logical_dns: strategy.is_some_and(|s| s.eq_ignore_ascii_case("RACE_FIRST_TCP_CONNECT")),
        traffic_distribution: metadata.annotation(TRAFFIC_DISTRIBUTION).map(Arc::from),
        meta,
    })
}

fn endpoints(spec: &Spec<'_>, scope: &mut Scope<'_>) -> Vec<WorkloadTarget> {
    let endpoints = spec.endpoints.iter().enumerate();
    endpoints
        .map(|(i, target)| target.read(&format!("spec.endpoints[{i}]"), scope))
        .collect()
}

/// An IP or a range; a wrong one costs itself only, as in istiod.
fn address(index: usize, text: &str) -> Result<IpNet, Problem> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single.or_else(|_| text.parse()).map_err(|_| {
        let field = format!("spec.addresses[{index}]");
        Problem::new(
            field,
            format!("{text:?} is neither an IP address nor a range"),
        )
    })
}

fn port(port: &PortSpec<'_>) -> Result<ServiceEntryPort, Problem> {
    let number = port.number.port();
    Ok(ServiceEntryPort {
        number: number.ok_or_else(|| Problem::port("number", port.number.0))?,
        name: port.name.arc(),
        protocol: protocol::parse(&port.protocol),
        target_port: match port.target_port.0 {
            None | Some(0) => None,
            Some(target) => {
                let target = port
                    .target_port
                    .port()
                    .ok_or_else(|| Problem::port("targetPort", Some(target)));
                Some(target?)
            }
        },
    })
}
