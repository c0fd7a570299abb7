//! Application protocols, as istio declares them.

use crate::model::Protocol;

/// Server-first protocols break when they are sniffed: SMTP, DNS, `MySQL`,
/// `MongoDB` (istio: `wellKnownPorts`).
const NEVER_SNIFFED: &[u16] = &[25, 53, 3306, 27017];

const GRPC_WEB: &str = "grpc-web";

/// The protocol of a Service's port: `appProtocol`, else the prefix of its name.
pub(super) fn of_service_port(
    port: u16,
    name: &str,
    transport: &str,
    app_protocol: Option<&str>,
) -> Protocol {
    if transport == "UDP" {
        return Protocol::Udp;
    }
    // KEP-3726 names are for `appProtocol` only; a port name has no slash.
    match app_protocol {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http,
        Some("kubernetes.io/wss") => return Protocol::Https,
        _ => {}
    }
    let declared = app_protocol.unwrap_or(name);
    // The only protocol with a dash in it, so before the prefix is cut.
    let head = declared.get(..GRPC_WEB.len());
    if head.is_some_and(|head| head.eq_ignore_ascii_case(GRPC_WEB)) {
        return Protocol::GrpcWeb;
    }
    let prefix = declared.split('-').next().unwrap_or_default();
    match parse(prefix) {
        Protocol::Auto if NEVER_SNIFFED.contains(&port) => Protocol::Tcp,
        protocol => protocol,
    }
}

/// The protocol with this name, in any case; unknown ones are sniffed.
pub(super) fn parse(text: &str) -> Protocol {
    let known = [
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("grpc", Protocol::Grpc),
        (GRPC_WEB, Protocol::GrpcWeb),
        ("http", Protocol::Http),
        ("http_proxy", Protocol::Http),
        ("http2", Protocol::Http2),
        ("https", Protocol::Https),
        ("tls", Protocol::Tls),
        ("mongo", Protocol::Tcp),
        ("redis", Protocol::Tcp),
        ("mysql", Protocol::Tcp),
    ];
    let found = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map_or(Protocol::Auto, |(_, protocol)| *protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_tells_its_protocol_as_in_istio() {
        let cases = [
            ((80, "", "TCP", None), Protocol::Auto),
            ((80, "http", "UDP", None), Protocol::Udp),
            ((80, "http-web", "TCP", None), Protocol::Http),
            ((80, "HTTP2-web", "", None), Protocol::Http2),
            ((80, "http-web", "TCP", Some("https")), Protocol::Https),
            ((80, "http", "TCP", Some("nonsense")), Protocol::Auto),
            ((80, "grpc-web-x", "TCP", None), Protocol::GrpcWeb),
            ((80, "grpcweb-x", "TCP", None), Protocol::Auto),
            ((80, "grpc", "TCP", None), Protocol::Grpc),
            ((80, "status-port", "TCP", None), Protocol::Auto),
            ((3306, "db", "TCP", None), Protocol::Tcp),
            (
                (3306, "db", "TCP", Some("kubernetes.io/h2c")),
                Protocol::Http2,
            ),
            ((80, "", "TCP", Some("kubernetes.io/ws")), Protocol::Http),
            ((80, "", "TCP", Some("kubernetes.io/wss")), Protocol::Https),
            ((6379, "redis", "TCP", None), Protocol::Tcp),
            ((80, "grpc-wéb", "TCP", None), Protocol::Grpc),
        ];
        for ((port, name, transport, app), protocol) in cases {
            let read = of_service_port(port, name, transport, app);
            assert_eq!(read, protocol, "{port} {name:?} {transport} {app:?}");
        }
    }
}
