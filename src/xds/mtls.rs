//! Whether mTLS is used to an endpoint (istio: `mtls_checker.go`,
//! split-horizon §1.5).

use crate::model::{Endpoint, TlsMode, TlsSetting};

/// The `tlsMode` sent with an endpoint: its own mode where mTLS applies.
pub(crate) fn tls_mode(rule: Option<TlsSetting>, endpoint: &Endpoint) -> Option<&str> {
    let mode = &endpoint.workload.template.tls_mode;
    let applies = match rule {
        // A rule's mode decides alone, whatever PeerAuthentication says; it
        // cannot lift an endpoint that has no sidecar.
        Some(setting) => setting == TlsSetting::IstioMutual,
        None => *mode == TlsMode::Istio && !endpoint.mtls_disabled,
    };
    mode.match_value().filter(|_| applies)
}

/// Whether a mode takes mesh mTLS: what crossing networks and
/// `AUTO_PASSTHROUGH` need.
pub(crate) fn is_mesh_mtls(tls_mode: Option<&str>) -> bool {
    tls_mode == Some("istio")
}
