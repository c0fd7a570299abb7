//! The listeners that are there before any configuration. The control plane
//! sends none with their names or ports.

use serde_json::{Value, json};

use super::{Families, address};
use crate::config::EnvoyConfig;

/// Metrics, and readiness through Envoy: a proxy that answers it carries
/// traffic.
pub(super) fn all(envoy: &EnvoyConfig, families: Families) -> Vec<Value> {
    let metrics = Page {
        port: envoy.prometheus_port,
        stat_prefix: "stats",
        path: "/stats/prometheus",
        cluster: "prometheus_stats",
    };
    let ready = Page {
        port: envoy.ready_port,
        stat_prefix: "agent",
        path: "/healthz/ready",
        cluster: "agent",
    };
    let mut all = vec![metrics.listener(families)];
    if envoy.status_port != 0 {
        all.push(ready.listener(families));
    }
    all
}

/// One path that is passed on to one cluster.
struct Page {
    port: u16,
    stat_prefix: &'static str,
    path: &'static str,
    cluster: &'static str,
}

impl Page {
    fn listener(&self, families: Families) -> Value {
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "codec_type": "AUTO",
            "stat_prefix": self.stat_prefix,
            "route_config": {"virtual_hosts": [{
                "name": "backend",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": self.path},
                    "route": {"cluster": self.cluster},
                }],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                },
            }],
        });
        let mut listener = json!({
            "name": format!("{}_{}", families.wildcard(), self.port),
            "address": address(families.wildcard(), self.port),
            // A proxy at its limit of connections is still asked how it is.
            "ignore_global_conn_limit": true,
            // Two proxies of one machine with one port: the second is to say
            // so, and not to share the connections.
            "enable_reuse_port": false,
            "bypass_overload_manager": true,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        });
        if let (true, true, Value::Object(fields)) = (families.v4, families.v6, &mut listener) {
            let more = json!([{"address": address("::", self.port)}]);
            fields.insert("additional_addresses".to_owned(), more);
        }
        listener
    }
}
