//! What a port takes, by protocol and mTLS mode (istiod: `filterchain_options.go`).
//!
//! The ALPN names decide: a caller of the mesh offers istio's, any other TLS is
//! the application's own.

use super::entries::Kind;
use crate::model::MtlsMode;

/// What one filter chain matches, and what it does with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// ALPN names, one of which is offered (by the HTTP inspector for plain
    /// text); any where there are none.
    pub(super) alpn: &'static [&'static str],
    /// Whether the connection is TLS.
    pub(super) tls: bool,
    /// Whether TLS ends here.
    pub(super) terminates: bool,
    /// HTTP, or bytes.
    pub(super) http: bool,
}

/// HTTP inside of mesh mTLS.
const MESH_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Bytes inside of mesh mTLS.
const MESH_TCP: &[&str] = &["istio-peer-exchange", "istio"];
/// Anything inside of mesh mTLS.
const MESH: &[&str] = &[
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// What the HTTP inspector finds.
pub(super) const PLAIN_HTTP: &[&str] = &["http/1.1", "h2c"];

/// mTLS of callers that offer one of these names.
const fn mutual(alpn: &'static [&'static str], http: bool) -> Variant {
    Variant {
        alpn,
        tls: true,
        terminates: true,
        http,
    }
}

const fn plain(alpn: &'static [&'static str], http: bool) -> Variant {
    Variant {
        alpn,
        tls: false,
        terminates: false,
        http,
    }
}

/// TLS that the application itself ends.
const PASSED_ON: Variant = Variant {
    alpn: &[],
    tls: true,
    terminates: false,
    http: false,
};

/// The chains of a port that speaks `kind` under `mode`, in istiod's order.
pub(super) fn variants(kind: Kind, mode: MtlsMode) -> &'static [Variant] {
    const ANY: &[&str] = &[];
    const HTTP: bool = true;
    const TCP: bool = false;
    match (kind, mode) {
        (Kind::Http, MtlsMode::Strict) => const { &[mutual(ANY, HTTP)] },
        (Kind::Http, MtlsMode::Permissive) => const { &[mutual(MESH, HTTP), plain(ANY, HTTP)] },
        (Kind::Http, _) => const { &[plain(ANY, HTTP)] },
        (Kind::Tcp, MtlsMode::Strict) => const { &[mutual(ANY, TCP)] },
        (Kind::Tcp, MtlsMode::Permissive) => {
            const { &[mutual(MESH, TCP), PASSED_ON, plain(ANY, TCP)] }
        }
        (Kind::Tcp, _) => const { &[plain(ANY, TCP)] },
        (Kind::Auto, MtlsMode::Strict) => const { &[mutual(MESH_HTTP, HTTP), mutual(ANY, TCP)] },
        (Kind::Auto, MtlsMode::Permissive) => {
            const {
                &[
                    mutual(MESH_HTTP, HTTP),
                    plain(PLAIN_HTTP, HTTP),
                    mutual(MESH_TCP, TCP),
                    plain(ANY, TCP),
                    PASSED_ON,
                ]
            }
        }
        (Kind::Auto, _) => const { &[plain(PLAIN_HTTP, HTTP), plain(ANY, TCP)] },
    }
}
