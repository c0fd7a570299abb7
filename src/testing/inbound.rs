//! What decides how a sidecar takes traffic: `PeerAuthentication`s, `Sidecar`s.

use std::sync::Arc;

use crate::mesh::{MeshState, PeerAuthentications};
use crate::model::{
    IngressListener, Labels, MtlsMode, Namespace, ObjectMeta, PeerAuthentication, Protocol, Sidecar,
};

/// A `PeerAuthentication` for all of `namespace`.
pub fn policy(namespace: &str, mode: MtlsMode) -> PeerAuthentication {
    PeerAuthentication {
        meta: meta(namespace),
        selector: Labels::default(),
        mode,
        ports: Vec::new(),
    }
}

/// An `ingress` listener for HTTP.
pub fn ingress(port: u16, bind: &str, default_endpoint: &str) -> IngressListener {
    IngressListener {
        port: (port, Protocol::Http, Arc::from("http")),
        bind: Arc::from(bind),
        capture_mode: crate::model::CaptureMode::Default,
        default_endpoint: Arc::from(default_endpoint),
    }
}

/// A `Sidecar` for all of `namespace` that listens so.
pub fn listening(namespace: &str, ingress: Vec<IngressListener>) -> Sidecar {
    Sidecar {
        meta: meta(namespace),
        workload_selector: None,
        egress: Vec::new(),
        ingress,
        outbound_policy: None,
    }
}

/// A mesh with these policies and `Sidecar`s.
pub fn mesh(
    policies: impl IntoIterator<Item = PeerAuthentication>,
    sidecars: impl IntoIterator<Item = Sidecar>,
) -> MeshState {
    let policies = policies.into_iter().map(Arc::new);
    let mut mesh = MeshState {
        authentications: Arc::new(PeerAuthentications::new(policies, "istio-system")),
        ..MeshState::default()
    };
    for sidecar in sidecars {
        let of = mesh.sidecars.entry(sidecar.meta.namespace.clone());
        of.or_default().push(Arc::new(sidecar));
    }
    mesh
}

fn meta(namespace: &str) -> ObjectMeta {
    ObjectMeta {
        created: Arc::from("2026-01-01T00:00:00Z"),
        name: Arc::from("default"),
        namespace: Namespace::from(namespace),
    }
}
