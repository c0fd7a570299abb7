//! `ingress` of a `Sidecar` (istiod: `buildInboundClustersFromSidecar`).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{Application, InboundClass, InboundPort, services};
use crate::mesh::Snapshot;
use crate::model::{CaptureMode, IngressListener, InterceptionMode, MtlsMode, Sidecar};

/// Whether the addresses of a proxy count for what `sidecar` makes it listen on.
pub(super) fn uses_addresses(sidecar: &Sidecar, interception: InterceptionMode) -> bool {
    sidecar.ingress.iter().any(|listener| {
        let own_bind = listener.bind.is_empty() && binds(listener, interception);
        let endpoint = listener.default_endpoint.parse::<SocketAddr>();
        own_bind || endpoint.is_ok_and(|endpoint| endpoint.ip().is_unspecified())
    })
}

fn binds(listener: &IngressListener, interception: InterceptionMode) -> bool {
    match listener.capture_mode {
        CaptureMode::Default => interception == InterceptionMode::None,
        CaptureMode::Iptables => false,
        CaptureMode::None => true,
    }
}

/// One port for each listener; of two on one port the first counts.
pub(super) fn ports(
    snapshot: &Snapshot,
    class: &InboundClass,
    sidecar: &Sidecar,
) -> Vec<InboundPort> {
    let mut targets = services::targets(snapshot, &class.workload);
    let mut ports: Vec<InboundPort> = Vec::new();
    for listener in &sidecar.ingress {
        let (number, protocol, _) = &listener.port;
        if ports.iter().any(|known| known.number == *number) {
            continue;
        }
        let leading = targets.remove(number).unwrap_or_default();
        ports.push(InboundPort {
            number: *number,
            bind: bind(listener, class),
            protocol: *protocol,
            called: *number,
            owner: Arc::from(format!("{}.{}", sidecar.meta.name, sidecar.meta.namespace)),
            services: leading.into_iter().take(1).map(|t| t.service).collect(),
            application: application(listener, class),
            mode: MtlsMode::default(),
        });
    }
    ports
}

/// The address of a listener that binds: as written, else the proxy's own.
fn bind(listener: &IngressListener, class: &InboundClass) -> Option<String> {
    if !binds(listener, class.interception) {
        return None;
    }
    if !listener.bind.is_empty() {
        return Some(listener.bind.to_string());
    }
    // istiod takes the wildcard address instead of a loopback one, which would
    // take the port from all other proxies of the machine.
    let own = class.addresses.first().map(ToString::to_string);
    Some(own.unwrap_or_else(|| class.wildcard().to_owned()))
}

fn application(listener: &IngressListener, class: &InboundClass) -> Application {
    let written = &*listener.default_endpoint;
    if let Some(path) = written.strip_prefix("unix://") {
        return Application::Socket(path.to_owned());
    }
    let Ok(endpoint) = written.parse::<SocketAddr>() else {
        return Application::Dialled;
    };
    let ip = endpoint.ip();
    let at = |ip| Application::At(ip, endpoint.port());
    if ip.is_loopback() {
        return at(class.localhost());
    }
    if !ip.is_unspecified() {
        // istio allows no other address.
        return Application::Dialled;
    }
    let mut own = class.addresses.iter().copied();
    let own = own.find(|own| own.is_ipv4() == ip.is_ipv4());
    at(own.unwrap_or(match ip {
        IpAddr::V4(_) => IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    }))
}
