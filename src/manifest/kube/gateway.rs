//! Gateway API Gateways.

use std::sync::Arc;

use serde::Deserialize;

use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Map, Text},
    meta::{Manifest, from_json},
};
use crate::model::{GatewayApiListener, KubeGateway, ObjectKind};

const LISTENER_PROTOCOL: &str = "gateway.istio.io/listener-protocol";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    gateway_class_name: Text<'a>,
    addresses: List<GatewayAddress<'a>>,
    listeners: List<Listener<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct GatewayAddress<'a> {
    r#type: Text<'a>,
    value: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Listener<'a> {
    port: Int,
    protocol: Text<'a>,
    tls: Option<Tls<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Tls<'a> {
    options: Map<'a, Text<'a>>,
}

/// Reads a Gateway.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<KubeGateway, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    // The API's default for an address without type is `IPAddress`.
    let addresses = spec.addresses.iter();
    let addresses = addresses.filter(|a| matches!(&*a.r#type, "" | "IPAddress" | "Hostname"));
    let listeners = spec.listeners.iter().enumerate();
    Ok(KubeGateway {
        meta: metadata.object(ObjectKind::KubeGateway),
        labels: metadata.labels(),
        class: spec.gateway_class_name.arc(),
        addresses: addresses
            .filter_map(|a| a.value.filled().map(Arc::from))
            .collect(),
        listeners: scope.keep(listeners.map(|(i, l)| listener(i, l))),
    })
}

fn listener(index: usize, listener: &Listener<'_>) -> Result<GatewayApiListener, Problem> {
    let port = listener.port.port();
    let field = || format!("spec.listeners[{index}].port");
    let options = listener.tls.as_ref().map(|tls| &tls.options);
    let protocol = options.and_then(|options| options.get(LISTENER_PROTOCOL));
    Ok(GatewayApiListener {
        port: port.ok_or_else(|| Problem::port(field(), listener.port.0))?,
        protocol: listener.protocol.arc(),
        tls: listener.tls.is_some(),
        listener_protocol: protocol.map(Text::arc),
    })
}
