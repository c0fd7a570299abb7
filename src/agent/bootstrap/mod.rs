//! Envoy's bootstrap: who it is, where its configuration comes from, and the
//! listeners and clusters that the agent itself needs. Everything else comes
//! over ADS, which goes straight from Envoy to the control plane.

mod clusters;
mod listeners;
mod stats;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, path::Path};

use serde_json::{Value, json};

use crate::config::{AgentConfig, EnvoyConfig};

/// Which addresses the static listeners bind and hosts are looked up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    fn of(ips: &[IpAddr]) -> Self {
        let is_v4 = |ip: &IpAddr| ip.to_canonical().is_ipv4();
        Self {
            v4: ips.iter().any(is_v4),
            v6: ips.iter().any(|ip| !is_v4(ip)),
        }
    }

    fn loopback(self) -> &'static str {
        if self.v4 { "127.0.0.1" } else { "::1" }
    }

    fn wildcard(self) -> &'static str {
        if self.v4 { "0.0.0.0" } else { "::" }
    }

    fn lookup(self) -> &'static str {
        match (self.v4, self.v6) {
            (true, false) => "V4_ONLY",
            (false, _) => "V6_ONLY",
            (true, true) => "ALL",
        }
    }
}

/// The loopback address that Envoy and the agent meet on.
pub(super) fn loopback(config: &AgentConfig) -> &'static str {
    Families::of(&config.node.ips).loopback()
}

/// Every address of the proxy.
pub(super) fn wildcard(config: &AgentConfig) -> &'static str {
    Families::of(&config.node.ips).wildcard()
}

/// The bootstrap of a proxy whose agent serves secrets at `socket`.
pub(super) fn bootstrap(config: &AgentConfig, socket: &Path) -> Value {
    let families = Families::of(&config.node.ips);
    let envoy = &config.envoy;
    let mut bootstrap = json!({
        "node": node(config),
        "admin": {
            "address": address(families.loopback(), envoy.admin_port),
        },
        "dynamic_resources": {
            "ads_config": ads(config),
            "cds_config": ads_source(),
            "lds_config": ads_source(),
        },
        "static_resources": {
            "clusters": clusters::all(config, families, socket),
            "listeners": listeners::all(envoy, families),
        },
        "layered_runtime": {"layers": [
            {"name": "static", "static_layer": runtime(envoy)},
            {"name": "admin", "admin_layer": {}},
        ]},
        "stats_config": stats::config(config),
        // Statistics of a cluster that nothing uses cost nothing.
        "deferred_stat_options": {"enable_deferred_creation_stats": true},
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": max_connections(config),
            },
        }]},
    });
    if let (Some(path), Value::Object(fields)) = (&envoy.outlier_log, &mut bootstrap) {
        let manager = json!({"outlier_detection": {"event_log_path": path}});
        fields.insert("cluster_manager".to_owned(), manager);
    }
    bootstrap
}

fn node(config: &AgentConfig) -> Value {
    let node = &config.node;
    json!({
        "id": node.id(),
        "cluster": node.service_cluster,
        "locality": {
            "region": node.locality.region(),
            "zone": node.locality.zone(),
            "sub_zone": node.locality.subzone(),
        },
        "metadata": node.metadata,
    })
}

fn ads(config: &AgentConfig) -> Value {
    let header = |(key, value)| json!({"key": key, "value": value});
    let headers: Vec<Value> = config.discovery_headers.0.iter().map(header).collect();
    json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{
            "envoy_grpc": {
                "cluster_name": "xds-grpc",
                // Envoy waits up to 30 s after an outage. A control plane that
                // limits new streams can take its proxies back sooner.
                "retry_policy": {"retry_back_off": {
                    "base_interval": "0.5s", "max_interval": "10s",
                }},
            },
            "initial_metadata": headers,
        }],
    })
}

/// Envoy waits for its first configuration for ever: a proxy with half of it
/// would refuse traffic that it does not know.
fn ads_source() -> Value {
    json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"})
}

/// `overload.global_downstream_max_connections` is the old way to say it.
fn max_connections(config: &AgentConfig) -> i64 {
    const RUNTIME: &str = "overload.global_downstream_max_connections";
    let metadata = config
        .node
        .metadata
        .get("GLOBAL_DOWNSTREAM_MAX_CONNECTIONS");
    let text = metadata.and_then(Value::as_str);
    let text = text.or_else(|| config.envoy.runtime.get(RUNTIME).map(String::as_str));
    let given = text.and_then(|text| text.parse::<i64>().ok());
    given
        .filter(|count| *count > 0)
        .unwrap_or(i64::from(i32::MAX))
}

fn runtime(envoy: &EnvoyConfig) -> Value {
    let mut values = serde_json::Map::new();
    // Long regular expressions of routes are the mesh owner's choice.
    values.insert("re2.max_program_size.error_level".to_owned(), 32768.into());
    for (name, value) in &envoy.runtime {
        let typed = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
        values.insert(name.clone(), typed);
    }
    Value::Object(values)
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
