//! What routers are configured with, compared with istiod's recorded answers.

use isthmus::testing::record::{ControlPlane, Scenario, record};
use serde_json::{Map, Value, json};

use crate::support::{
    fields::{Configuration, differences, each_object, recorded, served},
    plane::Plane,
};

/// Compares all routers that `of` serves, but for what COMPATIBILITY.md names.
pub(crate) async fn assert_routers_as_istiod(
    scenario: &Scenario,
    of: &ControlPlane,
    plane: &Plane,
) {
    let mut report = Vec::new();
    let proxies = scenario.proxies_of(of);
    for proxy in proxies.filter(|proxy| proxy.id.starts_with("router~")) {
        let file = format!("istiod/{}.json", proxy.name);
        let mut expected = recorded(&scenario.folder.join(file));
        let live = record(plane.ads(), proxy).await;
        let live = live.unwrap_or_else(|error| panic!("{error}\n{}", plane.log()));
        let mut actual = served(&live);
        normalise(&mut expected);
        normalise(&mut actual);
        let found = differences(&expected, &actual);
        report.extend(found.into_iter().map(|f| format!("{}: {f}", proxy.name)));
    }
    let (name, report) = (scenario.folder.display(), report.join("\n"));
    assert!(report.is_empty(), "{name}: istiod | isthmus\n{report}");
}

/// Takes out what differs on purpose.
fn normalise(configuration: &mut Configuration) {
    for resource in configuration.values_mut().flat_map(|all| all.values_mut()) {
        each_object(resource, &mut |fields| {
            drop_istios_filters(fields);
            type_names(fields);
            keep_mesh_protocol(fields);
            drop_whole_ejection(fields);
        });
    }
    for listener in configuration.get_mut("lds").into_iter().flatten() {
        sort_chains(listener.1);
    }
}

/// Filters that only istio's Envoy has, which these proxies do not say they
/// are, and tracing.
fn drop_istios_filters(fields: &mut Map<String, Value>) {
    for list in ["filters", "http_filters"] {
        let Some(Value::Array(filters)) = fields.get_mut(list) else {
            continue;
        };
        let is_istios = |filter: &Value| {
            let name = filter["name"].as_str();
            name.is_some_and(|name| name.starts_with("istio."))
        };
        filters.retain(|filter| !is_istios(filter));
        if filters.is_empty() {
            fields.remove(list);
        }
    }
    fields.remove("tracing");
    fields.remove("request_id_extension");
}

/// istiod leaves open of which kind the names in a certificate are.
fn type_names(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(names)) = fields.remove("match_subject_alt_names") {
        let typed = |name: Value| json!({"san_type": "URI", "matcher": name});
        let typed = names.into_iter().map(typed).collect();
        fields.insert("match_typed_subject_alt_names".to_owned(), typed);
    }
}

/// Without istio's own filters HTTP is told apart from bytes by what clusters
/// offer, and the exchange of metadata is not offered.
fn keep_mesh_protocol(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(offered)) = fields.get_mut("alpn_protocols") {
        offered.retain(|protocol| protocol == "istio");
    }
}

/// With today's Envoy nothing is ejected in a small cluster unless all of it may
/// be, so that is sent where a rule wants failover and names no share.
fn drop_whole_ejection(fields: &mut Map<String, Value>) {
    if fields.get("max_ejection_percent") == Some(&json!(100)) {
        fields.remove("max_ejection_percent");
    }
}

/// Envoy takes the chain whose match is the most exact one, in whatever order
/// they stand.
fn sort_chains(listener: &mut Value) {
    if let Some(Value::Array(chains)) = listener.get_mut("filter_chains") {
        chains.sort_by_key(|chain| chain["filter_chain_match"].to_string());
    }
}
