//! Compares what a proxy is configured with, field by field, with what istiod
//! configured it with.
//!
//! A recording is protobuf JSON. The messages served are turned into the same
//! by the schemas that Envoy publishes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use isthmus::testing::record::Recording;
use prost::{Message, Name};
use protox::prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

/// Schemas whose messages stand in an `Any`, beside those of the resources.
const SCHEMAS: [&str; 20] = [
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "istio/envoy/config/filter/http/alpn/v2alpha1/config.proto",
    "udpa/type/v1/typed_struct.proto",
];

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = envoy_protos();
    let parts = std::fs::read_dir(&root).expect("the proto folder");
    let mut includes: Vec<PathBuf> = parts.map(|part| part.expect("a folder").path()).collect();
    includes.push(root.join("cel-spec/proto"));
    includes.push(root.join("client_model"));
    // What Envoy's own schemas lack.
    includes.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protos"));
    let files = protox::compile(SCHEMAS, includes).expect("Envoy's schemas");
    DescriptorPool::from_file_descriptor_set(files).expect("Envoy's schemas")
});

/// The folder of schemas in the sources of `envoy-types`.
fn envoy_protos() -> PathBuf {
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--manifest-path",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "cargo metadata: {said}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.expect("a list of packages");
    let of = packages.iter().find(|p| p["name"] == "envoy-types");
    let manifest = of.and_then(|p| p["manifest_path"].as_str());
    let manifest = Path::new(manifest.expect("envoy-types among the packages"));
    manifest.with_file_name("proto")
}

/// A message as protobuf JSON, with the fields' proto names.
pub(crate) fn json<M: Message + Name>(message: &M) -> Value {
    let name = M::full_name();
    let schema = POOL.get_message_by_name(&name);
    let schema = schema.unwrap_or_else(|| panic!("no schema of {name}"));
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(schema, bytes.as_slice()).expect("the message");
    let options = SerializeOptions::new().use_proto_field_name(true);
    let written = message.serialize_with_options(serde_json::value::Serializer, &options);
    written.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The form in which two configurations compare: kind, then name, then the
/// resource.
pub(crate) type Configuration = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// What istiod sent, as recorded in `file`.
pub(crate) fn recorded(file: &Path) -> Configuration {
    let text = std::fs::read_to_string(file).expect("a recording");
    let mut all: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(&text).expect("the JSON of a recording");
    let kinds = ["cds", "lds", "rds"];
    let of = |kind: &'static str| (kind, all.remove(kind).unwrap_or_default());
    kinds.map(of).into_iter().collect()
}

/// What was served.
pub(crate) fn served(live: &Recording) -> Configuration {
    fn all<M: Message + Name>(messages: &BTreeMap<String, M>) -> BTreeMap<String, Value> {
        let pairs = messages.iter().map(|(name, m)| (name.clone(), json(m)));
        pairs.collect()
    }
    Configuration::from([
        ("cds", all(&live.clusters)),
        ("lds", all(&live.listeners)),
        ("rds", all(&live.routes)),
    ])
}

/// Fields that differ, a line each: istiod's value, then ours.
pub(crate) fn differences(expected: &Configuration, actual: &Configuration) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, expected) in expected {
        let none = BTreeMap::new();
        let actual = actual.get(kind).unwrap_or(&none);
        let names: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
        for name in names {
            let at = format!("{kind} {name}");
            compare(&at, expected.get(name), actual.get(name), &mut found);
        }
    }
    found
}

fn compare(at: &str, expected: Option<&Value>, actual: Option<&Value>, found: &mut Vec<String>) {
    match (expected, actual) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&format!("{at}.{key}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for n in 0..a.len().max(b.len()) {
                compare(&format!("{at}[{n}]"), a.get(n), b.get(n), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let text = |v: Option<&Value>| v.map_or_else(|| "nothing".to_owned(), Value::to_string);
            found.push(format!("{at}: {} | {}", text(a), text(b)));
        }
    }
}

/// Calls `change` with every object inside of `value`, from the inside out.
pub(crate) fn each_object(value: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            fields
                .values_mut()
                .for_each(|inner| each_object(inner, change));
            change(fields);
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|inner| each_object(inner, change)),
        _ => {}
    }
}
