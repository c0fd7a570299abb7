//! Schemas of specs. Every object is open: unknown fields pass and stay.

mod virtual_service;

use serde_json::{Map, Value, json};

use crate::model::ObjectKind;

/// The `spec` of a custom kind.
pub(super) fn spec(kind: ObjectKind) -> Value {
    match kind {
        ObjectKind::WorkloadEntry => workload_entry(),
        ObjectKind::ServiceEntry => service_entry(),
        ObjectKind::DestinationRule => destination_rule(),
        ObjectKind::PeerAuthentication => peer_authentication(),
        ObjectKind::Sidecar => sidecar(),
        ObjectKind::Gateway => gateway(),
        ObjectKind::VirtualService => virtual_service::spec(),
        ObjectKind::KubeGateway => kube_gateway(),
        ObjectKind::ServiceImport => service_import(),
        // No spec, or no custom kind.
        ObjectKind::ServiceExport
        | ObjectKind::Namespace
        | ObjectKind::Node
        | ObjectKind::Service
        | ObjectKind::EndpointSlice
        | ObjectKind::Pod => open(),
    }
}

/// An object with these fields, and any others.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema));
    json!({
        "type": "object",
        "properties": fields.collect::<Map<_, _>>(),
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// An object of which nothing is said.
pub(super) fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The same object with fields that must be there.
fn requiring(mut object: Value, fields: &[&str]) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.insert("required".to_owned(), json!(fields));
    }
    object
}

fn text() -> Value {
    json!({"type": "string"})
}

fn word(known: &[&str]) -> Value {
    json!({"type": "string", "enum": known})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn whole(least: i64, most: i64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

/// A port, or 0 where it is unset.
fn port() -> Value {
    whole(0, 65535)
}

fn count() -> Value {
    whole(0, i64::from(u32::MAX))
}

fn percent() -> Value {
    whole(0, 100)
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

fn map(values: &Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

fn labels() -> Value {
    map(&text())
}

fn texts() -> Value {
    list(&text())
}

fn named_port() -> Value {
    object([
        ("number", port()),
        ("name", text()),
        ("protocol", text()),
        ("targetPort", port()),
    ])
}

fn workload_entry() -> Value {
    object([
        ("address", text()),
        ("ports", map(&port())),
        ("labels", labels()),
        ("network", text()),
        ("locality", text()),
        ("weight", count()),
        ("serviceAccount", text()),
    ])
}

fn service_entry() -> Value {
    let resolutions = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"];
    let spec = object([
        ("hosts", texts()),
        ("addresses", texts()),
        ("ports", list(&requiring(named_port(), &["number", "name"]))),
        ("location", word(&["MESH_EXTERNAL", "MESH_INTERNAL"])),
        ("resolution", word(&resolutions)),
        ("endpoints", list(&workload_entry())),
        ("workloadSelector", object([("labels", labels())])),
        ("exportTo", texts()),
        ("subjectAltNames", texts()),
    ]);
    requiring(spec, &["hosts"])
}

fn destination_rule() -> Value {
    let subset = object([
        ("name", text()),
        ("labels", labels()),
        ("trafficPolicy", traffic_policy()),
    ]);
    let spec = object([
        ("host", text()),
        ("exportTo", texts()),
        ("workloadSelector", object([("matchLabels", labels())])),
        ("trafficPolicy", traffic_policy()),
        ("subsets", list(&requiring(subset, &["name"]))),
    ]);
    requiring(spec, &["host"])
}

fn traffic_policy() -> Value {
    let for_port = object([
        ("port", object([("number", port())])),
        ("loadBalancer", load_balancer()),
        ("connectionPool", connection_pool()),
        ("outlierDetection", outlier_detection()),
        ("tls", client_tls()),
    ]);
    object([
        ("loadBalancer", load_balancer()),
        ("connectionPool", connection_pool()),
        ("outlierDetection", outlier_detection()),
        ("tls", client_tls()),
        ("portLevelSettings", list(&for_port)),
    ])
}

fn load_balancer() -> Value {
    let simple = [
        "UNSPECIFIED",
        "LEAST_CONN",
        "RANDOM",
        "PASSTHROUGH",
        "ROUND_ROBIN",
        "LEAST_REQUEST",
    ];
    let from_to = list(&object([("from", text()), ("to", text())]));
    let shares = object([("from", text()), ("to", map(&count()))]);
    object([
        ("simple", word(&simple)),
        ("consistentHash", open()),
        (
            "localityLbSetting",
            object([
                ("enabled", flag()),
                ("distribute", list(&shares)),
                ("failover", from_to.clone()),
                ("failoverPriority", texts()),
            ]),
        ),
        (
            "zoneAwareLbSetting",
            object([
                ("enabled", flag()),
                ("failover", from_to),
                ("failoverPriority", texts()),
            ]),
        ),
    ])
}

fn connection_pool() -> Value {
    // Protobuf's int32: some set -1 for "no limit".
    let limit = || whole(i64::from(i32::MIN), i64::from(i32::MAX));
    object([
        (
            "tcp",
            object([("maxConnections", limit()), ("connectTimeout", text())]),
        ),
        (
            "http",
            object([
                ("http1MaxPendingRequests", limit()),
                ("http2MaxRequests", limit()),
                ("maxRequestsPerConnection", limit()),
                ("maxRetries", limit()),
                ("idleTimeout", text()),
            ]),
        ),
    ])
}

fn outlier_detection() -> Value {
    object([
        ("consecutive5xxErrors", count()),
        ("consecutiveGatewayErrors", count()),
        ("consecutiveLocalOriginFailures", count()),
        ("splitExternalLocalOriginErrors", flag()),
        ("interval", text()),
        ("baseEjectionTime", text()),
        ("maxEjectionPercent", percent()),
        ("minHealthPercent", percent()),
    ])
}

fn client_tls() -> Value {
    let modes = ["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"];
    object([("mode", word(&modes))])
}

fn peer_authentication() -> Value {
    let mtls = object([("mode", word(&["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]))]);
    object([
        ("selector", object([("matchLabels", labels())])),
        ("portLevelMtls", map(&mtls)),
        ("mtls", mtls),
    ])
}

fn sidecar() -> Value {
    let capture = word(&["DEFAULT", "IPTABLES", "NONE"]);
    let egress = object([
        ("port", named_port()),
        ("bind", text()),
        ("captureMode", capture.clone()),
        ("hosts", texts()),
    ]);
    let ingress = object([
        ("port", named_port()),
        ("bind", text()),
        ("captureMode", capture),
        ("defaultEndpoint", text()),
    ]);
    let outbound = object([("mode", word(&["REGISTRY_ONLY", "ALLOW_ANY"]))]);
    object([
        ("workloadSelector", object([("labels", labels())])),
        ("egress", list(&requiring(egress, &["hosts"]))),
        ("ingress", list(&requiring(ingress, &["port"]))),
        ("outboundTrafficPolicy", outbound),
    ])
}

fn gateway() -> Value {
    let modes = [
        "PASSTHROUGH",
        "SIMPLE",
        "MUTUAL",
        "AUTO_PASSTHROUGH",
        "ISTIO_MUTUAL",
        "OPTIONAL_MUTUAL",
    ];
    let server = object([
        ("port", named_port()),
        ("bind", text()),
        ("hosts", texts()),
        ("tls", object([("mode", word(&modes))])),
    ]);
    object([
        ("selector", labels()),
        ("servers", list(&requiring(server, &["port", "hosts"]))),
    ])
}

fn kube_gateway() -> Value {
    let address = object([
        ("type", json!({"type": "string", "default": "IPAddress"})),
        ("value", text()),
    ]);
    let listener = object([
        ("name", text()),
        ("port", whole(1, 65535)),
        ("protocol", text()),
        ("tls", object([("options", labels())])),
    ]);
    let spec = object([
        ("gatewayClassName", text()),
        ("addresses", list(&address)),
        (
            "listeners",
            list(&requiring(listener, &["name", "port", "protocol"])),
        ),
    ]);
    requiring(spec, &["gatewayClassName"])
}

fn service_import() -> Value {
    object([
        ("ips", texts()),
        ("type", word(&["ClusterSetIP", "Headless"])),
        ("ports", list(&open())),
    ])
}
