//! `Sidecar`s.

use std::sync::Arc;

use serde::Deserialize;

use super::{Port, Selector, one_of};
use crate::manifest::{
    Problem, Scope,
    json::{List, Text},
    meta::{Manifest, from_json},
    protocol,
};
use crate::model::{
    CaptureMode, EgressListener, HostPattern, IngressListener, Namespace, ObjectKind,
    OutboundPolicy, Protocol, Sidecar,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    workload_selector: Option<Selector<'a>>,
    egress: List<Listener<'a>>,
    ingress: List<Listener<'a>>,
    outbound_traffic_policy: Option<Outbound<'a>>,
}

/// A listener of either direction.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Listener<'a> {
    port: Option<Port<'a>>,
    bind: Text<'a>,
    capture_mode: Text<'a>,
    hosts: List<Text<'a>>,
    default_endpoint: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct Outbound<'a> {
    pub(in crate::manifest) mode: Text<'a>,
}

const CAPTURE_MODES: &[(&str, CaptureMode)] = &[
    ("", CaptureMode::Default),
    ("DEFAULT", CaptureMode::Default),
    ("IPTABLES", CaptureMode::Iptables),
    ("NONE", CaptureMode::None),
];

const OUTBOUND_MODES: &[(&str, OutboundPolicy)] = &[
    // Protobuf's zero value.
    ("", OutboundPolicy::RegistryOnly),
    ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
    ("ALLOW_ANY", OutboundPolicy::AllowAny),
];

/// Reads a `Sidecar`.
pub(in crate::manifest) fn read(json: &[u8], scope: &mut Scope<'_>) -> Result<Sidecar, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let egress = spec.egress.iter().enumerate();
    let egress = egress.map(|(i, l)| l.egress(&format!("spec.egress[{i}]"), scope));
    let egress = egress.collect::<Result<_, _>>()?;
    let ingress = spec.ingress.iter().enumerate();
    let ingress = ingress.map(|(i, l)| l.ingress(&format!("spec.ingress[{i}]")));
    let outbound = spec.outbound_traffic_policy.as_ref();
    let outbound = outbound.map(|policy| outbound_mode("spec.outboundTrafficPolicy.mode", policy));
    Ok(Sidecar {
        meta: metadata.object(ObjectKind::Sidecar),
        workload_selector: spec.workload_selector.as_ref().map(Selector::labels),
        egress,
        ingress: ingress.collect::<Result<_, _>>()?,
        outbound_policy: outbound.transpose()?,
    })
}

/// `outboundTrafficPolicy`, of a `Sidecar` or of the mesh.
pub(in crate::manifest) fn outbound_mode(
    field: &str,
    policy: &Outbound<'_>,
) -> Result<OutboundPolicy, Problem> {
    one_of(field, &policy.mode, OUTBOUND_MODES)
}

impl Listener<'_> {
    fn egress(&self, field: &str, scope: &mut Scope<'_>) -> Result<EgressListener, Problem> {
        let port = match &self.port {
            Some(port) if self.bind.starts_with("unix://") => Some(port.at_any(field)?),
            Some(port) => Some(port.read(field)?),
            None => None,
        };
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts.map(|(i, host)| pattern(host, || format!("{field}.hosts[{i}]")));
        let protocol = self.port.as_ref().map(|p| &*p.protocol).unwrap_or_default();
        Ok(EgressListener {
            port,
            http_proxy: protocol.eq_ignore_ascii_case("HTTP_PROXY"),
            bind: self.bind.arc(),
            capture_mode: self.capture_mode(field)?,
            hosts: scope.keep(hosts),
        })
    }

    fn ingress(&self, field: &str) -> Result<IngressListener, Problem> {
        let port = self.port.as_ref().ok_or_else(|| {
            Problem::new(
                format!("{field}.port"),
                "is missing; an ingress listener needs one",
            )
        })?;
        Ok(IngressListener {
            port: port.read(field)?,
            bind: self.bind.arc(),
            capture_mode: self.capture_mode(field)?,
            default_endpoint: self.default_endpoint.arc(),
        })
    }

    fn capture_mode(&self, field: &str) -> Result<CaptureMode, Problem> {
        one_of(
            &format!("{field}.captureMode"),
            &self.capture_mode,
            CAPTURE_MODES,
        )
    }
}

impl Port<'_> {
    fn read(&self, listener: &str) -> Result<(u16, Protocol, Arc<str>), Problem> {
        let number = self.number.port();
        let field = || format!("{listener}.port.number");
        let number = number.ok_or_else(|| Problem::port(field(), self.number.0));
        Ok((number?, protocol::parse(&self.protocol), self.name.arc()))
    }

    /// A unix socket's port may have the number 0.
    fn at_any(&self, listener: &str) -> Result<(u16, Protocol, Arc<str>), Problem> {
        if self.number.0.unwrap_or_default() == 0 {
            return Ok((0, protocol::parse(&self.protocol), self.name.arc()));
        }
        self.read(listener)
    }
}

/// `namespace/host`; istiod skips one that is not, and so it is skipped here.
fn pattern(text: &str, field: impl FnOnce() -> String) -> Result<HostPattern, Problem> {
    let parts = text.split_once('/').filter(|(_, host)| !host.contains('/'));
    let Some((namespace, host)) = parts else {
        let reason =
            format!("{text:?} is not NAMESPACE/HOST; every host of a namespace is NAMESPACE/*");
        return Err(Problem::new(field(), reason));
    };
    Ok(HostPattern {
        namespace: Namespace::from(namespace),
        host: Arc::from(host),
    })
}
