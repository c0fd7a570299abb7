use envoy_types::pb::envoy::config::core::v3::Extension;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use proptest::prelude::*;

use super::*;
use crate::model::{IpFamily, Labels};

const ID: &str = "sidecar~10.1.2.3~web-1.shop~default.svc.cluster.local";

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn object(pairs: Vec<(&str, Value)>) -> Struct {
    let fields = pairs.into_iter().map(|(k, v)| (k.to_owned(), v));
    Struct {
        fields: fields.collect(),
    }
}

fn node(id: &str, metadata: Vec<(&str, Value)>) -> Node {
    Node {
        id: id.to_owned(),
        metadata: Some(object(metadata)),
        ..Node::default()
    }
}

fn parse(metadata: Vec<(&str, Value)>) -> Result<Proxy, NodeError> {
    parse_node(&node(ID, metadata))
}

#[test]
fn an_id_without_metadata_is_enough() {
    let proxy = parse(vec![]).expect("a proxy");
    assert_eq!(proxy.kind, NodeKind::Sidecar);
    assert_eq!(
        (&*proxy.name, &*proxy.domain),
        ("web-1", "default.svc.cluster.local")
    );
    assert_eq!(&*proxy.namespace, "default");
    assert_eq!(
        proxy.ips.0,
        ["10.1.2.3".parse::<IpAddr>().expect("an address")]
    );
    assert_eq!((&*proxy.cluster, proxy.network), ("", None));
    assert_eq!(proxy.interception, InterceptionMode::Redirect);
}

#[test]
fn metadata_says_the_rest() {
    let labels = object(vec![("app", text("web")), ("version", text("v1"))]);
    let proxy = parse(vec![
        ("NAMESPACE", text("shop")),
        ("CLUSTER_ID", text("c1")),
        ("NETWORK", text("n1")),
        ("REQUESTED_NETWORK_VIEW", text("n2, n1,n2,")),
        ("INSTANCE_IPS", text("10.9.9.9,fd00::1")),
        ("LABELS", value(Kind::StructValue(labels))),
        (
            "STATIC_LABELS",
            value(Kind::StructValue(object(vec![("version", text("v2"))]))),
        ),
        ("INTERCEPTION_MODE", text("NONE")),
        ("NODE_NAME", text("node-1")),
        ("SERVICE_ACCOUNT", text("web")),
        ("ISTIO_VERSION", text("1.32.0")),
        ("UNPRIVILEGED_POD", text("true")),
        ("ENVOY_STATUS_PORT", value(Kind::NumberValue(15021.0))),
        ("ENVOY_PROMETHEUS_PORT", text("15090")),
        ("HTTP_PROXY_PORT", text("8001")),
    ])
    .expect("a proxy");
    assert_eq!((&*proxy.namespace, &*proxy.cluster), ("shop", "c1"));
    assert_eq!(proxy.network, NetworkId::from_text("n1"));
    let requested: Vec<&str> = proxy.requested_networks.iter().map(|n| &**n).collect();
    assert_eq!(requested, ["n1", "n2"]);
    assert_eq!((proxy.ips.0.len(), proxy.ips.family()), (2, IpFamily::Any));
    let labels: Labels = [("app", "web"), ("version", "v2")].into_iter().collect();
    assert_eq!(proxy.labels, labels);
    assert_eq!(proxy.interception, InterceptionMode::None);
    assert!(proxy.unprivileged);
    assert_eq!(proxy.own_ports, BTreeSet::from([15021, 15090]));
    assert_eq!(proxy.http_proxy_port, Some(8001));
    assert_eq!((&*proxy.node, &*proxy.service_account), ("node-1", "web"));
    assert_eq!(&*proxy.version, "1.32.0");
}

#[test]
fn booleans_are_strings_or_booleans() {
    for (given, meant) in [
        (text("true"), true),
        (text("1"), true),
        (text("false"), false),
        (text(""), false),
        (value(Kind::BoolValue(true)), true),
        (value(Kind::NullValue(0)), false),
    ] {
        let proxy = parse(vec![("UNPRIVILEGED_POD", given)]).expect("a proxy");
        assert_eq!(proxy.unprivileged, meant);
    }
    assert!(parse(vec![("UNPRIVILEGED_POD", text("yes"))]).is_err());
}

#[test]
fn instance_ips_count_only_if_all_are_addresses() {
    let proxy = parse(vec![("INSTANCE_IPS", text("10.9.9.9,nonsense"))]).expect("a proxy");
    assert_eq!(
        proxy.ips.0,
        ["10.1.2.3".parse::<IpAddr>().expect("an address")]
    );
    let id = "sidecar~~web-1.shop~shop.svc";
    let listed = vec![("INSTANCE_IPS", text("10.9.9.9"))];
    assert!(parse_node(&node(id, listed)).is_ok());
    let error = parse_node(&node(id, vec![])).expect_err("no address");
    assert!(error.to_string().contains("INSTANCE_IPS"), "{error}");
}

#[test]
fn a_value_of_the_wrong_form_is_named() {
    let list = value(Kind::ListValue(ListValue::default()));
    let numbers = object(vec![("app", value(Kind::NumberValue(1.0)))]);
    for (key, bad) in [
        ("NETWORK", value(Kind::NumberValue(5.0))),
        ("INSTANCE_IPS", list),
        ("LABELS", text("app=web")),
        ("LABELS", value(Kind::StructValue(numbers))),
        ("ENVOY_STATUS_PORT", value(Kind::NumberValue(70000.0))),
        ("HTTP_PROXY_PORT", text("80\n01")),
    ] {
        let error = parse(vec![(key, bad)]).expect_err("an error").to_string();
        assert!(error.contains(key), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn a_cluster_alias_is_applied() {
    let aliases = [(ClusterId::from("old"), ClusterId::from("new"))];
    let reader = NodeReader::new(aliases.into_iter().collect());
    let node = node(ID, vec![("CLUSTER_ID", text("old"))]);
    assert_eq!(&*reader.read(&node).expect("a proxy").cluster, "new");
}

#[test]
fn proxies_of_one_build_share_their_extensions() {
    let with = |names: &[&str]| Node {
        extensions: names
            .iter()
            .map(|&name| Extension {
                name: name.to_owned(),
                ..Extension::default()
            })
            .collect(),
        ..node(ID, vec![])
    };
    let reader = NodeReader::default();
    let one = reader.read(&with(&["a", "b"])).expect("a proxy");
    let same = reader.read(&with(&["b", "a"])).expect("a proxy");
    let other = reader.read(&with(&["a"])).expect("a proxy");
    assert!(Arc::ptr_eq(&one.extensions, &same.extensions));
    assert_eq!(other.extensions.len(), 1);
    drop((one, same));
    assert!(reader.read(&with(&["c"])).is_ok());
    assert_eq!(reader.builds.lock().len(), 2);
}

#[test]
fn errors_show_no_control_characters_and_little_text() {
    let id = format!("robot\u{1b}[31m~{}~a~b", "x".repeat(4000));
    let error = parse_node(&node(&id, vec![]))
        .expect_err("an error")
        .to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 1000, "{error:?}");
    assert!(parse_node(&node(&"x".repeat(300_000), vec![])).is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value { kind: None }),
        any::<bool>().prop_map(|b| value(Kind::BoolValue(b))),
        any::<f64>().prop_map(|n| value(Kind::NumberValue(n))),
        ".{0,12}".prop_map(|s| text(&s)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let pairs = prop::collection::hash_map(".{0,6}", inner, 0..4);
        pairs.prop_map(|fields| value(Kind::StructValue(Struct { fields })))
    })
}

proptest! {
    #[test]
    fn no_node_makes_the_reader_panic(
        id in prop_oneof![".{0,40}", "(sidecar|router)~[0-9.:]{0,9}~[a-z.]{0,9}~[a-z.]{0,9}"],
        values in prop::collection::vec(any_value(), 9),
    ) {
        let keys = [
            "INSTANCE_IPS", "LABELS", "STATIC_LABELS", "NETWORK", "NAMESPACE",
            "UNPRIVILEGED_POD", "ENVOY_STATUS_PORT", "HTTP_PROXY_PORT", "REQUESTED_NETWORK_VIEW",
        ];
        let metadata = keys.into_iter().zip(values).collect();
        if let Err(error) = parse_node(&node(&id, metadata)) {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
