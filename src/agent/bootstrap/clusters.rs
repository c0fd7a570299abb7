//! The clusters that are there before any configuration.

use std::{net::IpAddr, path::Path};

use serde_json::{Value, json};

use super::{Families, address};
use crate::config::{AgentConfig, CertificateSource, ServerCheck};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// In this order: a cluster whose certificate comes over SDS has to find
/// `sds-grpc`.
pub(super) fn all(config: &AgentConfig, families: Families, socket: &Path) -> Vec<Value> {
    let envoy = &config.envoy;
    let loopback = |name, port| fixed(name, &address(families.loopback(), port));
    let mut all = vec![
        loopback("prometheus_stats", envoy.admin_port),
        sds(socket),
        discovery(config, families),
    ];
    if envoy.status_port != 0 {
        all.push(loopback("agent", envoy.status_port));
    }
    all
}

/// A cluster with one address.
fn fixed(name: &str, address: &Value) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{
            "lb_endpoints": [{"endpoint": {"address": address}}],
        }]},
    })
}

fn with(mut cluster: Value, fields: Value) -> Value {
    if let (Value::Object(cluster), Value::Object(fields)) = (&mut cluster, fields) {
        cluster.extend(fields);
    }
    cluster
}

fn http2(common: &Value, options: &Value) -> Value {
    json!({HTTP_OPTIONS: {
        "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
        "common_http_protocol_options": common,
        "explicit_http_config": {"http2_protocol_options": options},
    }})
}

fn sds(socket: &Path) -> Value {
    let cluster = fixed("sds-grpc", &json!({"pipe": {"path": socket}}));
    let options = http2(&json!({}), &json!({}));
    with(
        cluster,
        json!({"typed_extension_protocol_options": options}),
    )
}

fn discovery(config: &AgentConfig, families: Families) -> Value {
    let upstream = &config.discovery;
    let cluster = fixed("xds-grpc", &address(&upstream.host, upstream.port));
    // istiod and pilot-agent ping a quiet connection as often; a control plane
    // that is gone without a word is noticed within 40 s.
    let keepalive = json!({"connection_keepalive": {"interval": "30s", "timeout": "10s"}});
    // Each stream on a connection of its own: a reconnect may reach another
    // replica.
    let one_stream = json!({"max_requests_per_connection": 1});
    let limits = |priority: &str| {
        json!({
            "priority": priority, "max_connections": 100_000,
            "max_pending_requests": 100_000, "max_requests": 100_000,
        })
    };
    let mut cluster = with(
        cluster,
        json!({
            "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [limits("DEFAULT"), limits("HIGH")]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
            "typed_extension_protocol_options": http2(&one_stream, &keepalive),
        }),
    );
    if upstream.host.parse::<IpAddr>().is_err() {
        let by_name = json!({
            "type": "STRICT_DNS",
            "dns_lookup_family": families.lookup(),
            "respect_dns_ttl": true,
        });
        cluster = with(cluster, by_name);
    }
    match &upstream.tls {
        Some(check) => with(cluster, json!({"transport_socket": tls(config, check)})),
        None => cluster,
    }
}

/// TLS to the control plane, with the certificate of the workload: Envoy dials
/// it itself, and has no token to show.
fn tls(config: &AgentConfig, check: &ServerCheck) -> Value {
    let certificate = match &config.certificates {
        CertificateSource::Authority(_) => "default".to_owned(),
        CertificateSource::Files(files) => {
            format!(
                "file-cert:{}~{}",
                files.chain.display(),
                files.key.display()
            )
        }
    };
    let roots = format!("file-root:{}", check.roots.path().display());
    let is_address = check.name.parse::<IpAddr>().is_ok();
    let san_type = if is_address { "IP_ADDRESS" } else { "DNS" };
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [secret(&certificate)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{
                        "san_type": san_type, "matcher": {"exact": check.name},
                    }],
                },
                "validation_context_sds_secret_config": secret(&roots),
            },
        },
    });
    if let (false, Value::Object(fields)) = (is_address, &mut context) {
        fields.insert("sni".to_owned(), check.name.as_str().into());
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// A secret that the agent serves.
fn secret(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            },
            "initial_fetch_timeout": "0s",
            "resource_api_version": "V3",
        },
    })
}
