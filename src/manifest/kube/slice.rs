//! `EndpointSlice`s.

mod protobuf;

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;

use super::ip;
use crate::manifest::{
    ManifestError, Problem, Scope,
    json::{Int, List, Text},
    meta::{Meta, from_json},
};
use crate::model::{
    EndpointSlice, ObjectKey, ObjectKind, SliceAddressType, SliceEndpoint, SlicePort,
};

const SERVICE: &str = "kubernetes.io/service-name";
const MCS_SERVICE: &str = "multicluster.kubernetes.io/service-name";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Slice<'a> {
    metadata: Meta<'a>,
    address_type: Text<'a>,
    ports: List<Port<'a>>,
    endpoints: List<Endpoint<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Port<'a> {
    name: Text<'a>,
    port: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Endpoint<'a> {
    addresses: List<Text<'a>>,
    conditions: Option<Conditions>,
    target_ref: Option<TargetRef<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct TargetRef<'a> {
    kind: Text<'a>,
    name: Text<'a>,
}

/// Reads an `EndpointSlice`.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<EndpointSlice, Problem> {
    model(&from_json(json)?, scope)
}

/// Reads an `EndpointSlice` in protobuf form.
pub(in crate::manifest) fn read_protobuf(
    message: &[u8],
    scope: &mut Scope<'_>,
) -> Result<EndpointSlice, ManifestError> {
    let slice = protobuf::decode(message).map_err(|error| ManifestError::Syntax {
        kind: "EndpointSlice",
        problem: error.to_string(),
    })?;
    let kind = ObjectKind::EndpointSlice;
    model(&slice, scope).map_err(|problem| {
        let meta = slice.metadata.key(kind);
        let object = ObjectKey {
            kind,
            namespace: meta.namespace,
            name: meta.name,
        };
        ManifestError::Field { object, problem }
    })
}

fn model(slice: &Slice<'_>, scope: &mut Scope<'_>) -> Result<EndpointSlice, Problem> {
    let address_type = address_type(&slice.address_type)?;
    let endpoints = match address_type {
        // Names are ignored, so they are not kept either.
        SliceAddressType::Fqdn => Vec::new(),
        SliceAddressType::Ipv4 | SliceAddressType::Ipv6 => {
            let all = slice.endpoints.iter().enumerate();
            all.map(|(i, e)| endpoint(i, e, scope)).collect()
        }
    };
    let labels = &slice.metadata.labels;
    let label = |key: &str| labels.get(key).and_then(Text::filled);
    // A port without a number stands for all ports; no service port has one.
    let ports = slice.ports.iter().filter_map(|p| {
        p.port.port().map(|port| SlicePort {
            name: p.name.arc(),
            port,
        })
    });
    Ok(EndpointSlice {
        meta: slice.metadata.key(ObjectKind::EndpointSlice),
        service: Arc::from(label(SERVICE).unwrap_or_default()),
        mcs: label(MCS_SERVICE).is_some(),
        address_type,
        ports: ports.collect(),
        endpoints,
    })
}

fn address_type(text: &str) -> Result<SliceAddressType, Problem> {
    Ok(match text {
        "IPv4" => SliceAddressType::Ipv4,
        "IPv6" => SliceAddressType::Ipv6,
        "FQDN" => SliceAddressType::Fqdn,
        other => {
            return Err(Problem::word(
                "addressType",
                other,
                &["IPv4", "IPv6", "FQDN"],
            ));
        }
    })
}

fn endpoint(index: usize, endpoint: &Endpoint<'_>, scope: &mut Scope<'_>) -> SliceEndpoint {
    let addresses = endpoint
        .addresses
        .iter()
        .enumerate()
        .map(|(i, text)| ip(text, || format!("endpoints[{index}].addresses[{i}]")));
    let addresses: Vec<IpAddr> = scope.keep(addresses);
    let conditions = endpoint.conditions.as_ref();
    let pod = endpoint.target_ref.as_ref();
    SliceEndpoint {
        addresses,
        ready: conditions.and_then(|c| c.ready),
        serving: conditions.and_then(|c| c.serving),
        terminating: conditions.and_then(|c| c.terminating),
        pod: pod
            .filter(|target| &*target.kind == "Pod")
            .map(|target| target.name.arc()),
    }
}
