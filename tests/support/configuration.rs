//! What proxies are configured with, compared with istiod's recorded answers.
//! Each difference that is taken out here is a row of COMPATIBILITY.md.

use std::collections::BTreeSet;

use isthmus::client::ProxySpec;
use isthmus::testing::record::{ControlPlane, Scenario, record};
use serde_json::{Map, Value, json};

use crate::support::{
    fields::{Configuration, differences, each_object, recorded, served},
    plane::Plane,
};

/// Compares clusters, listeners and routes of all proxies that `of` serves.
pub(crate) async fn assert_configured_as_istiod(
    scenario: &Scenario,
    of: &ControlPlane,
    plane: &Plane,
) {
    let mut report = Vec::new();
    for proxy in scenario.proxies_of(of) {
        let file = format!("istiod/{}.json", proxy.name);
        let mut expected = recorded(&scenario.folder.join(file));
        let live = record(plane.ads(), &with_istios_envoy(proxy)).await;
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

/// istiod takes every Envoy for istio's, and sends it istio's own filters.
fn with_istios_envoy(proxy: &ProxySpec) -> ProxySpec {
    let names = [
        "istio.alpn",
        "istio.metadata_exchange",
        "envoy.filters.http.peer_metadata",
    ];
    ProxySpec {
        extensions: names.map(str::to_owned).to_vec(),
        ..proxy.clone()
    }
}

fn normalise(configuration: &mut Configuration) {
    let clusters: BTreeSet<String> = configuration["cds"].keys().cloned().collect();
    for resource in configuration.values_mut().flat_map(|all| all.values_mut()) {
        each_object(resource, &mut |fields| {
            drop_tracing(fields);
            type_names(fields);
            drop_full_ejection(fields);
            lead_somewhere(fields, &clusters);
        });
    }
    for listener in configuration.get_mut("lds").into_iter().flatten() {
        sort_chains(listener.1);
    }
}

fn drop_tracing(fields: &mut Map<String, Value>) {
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

/// With today's Envoy nothing is ejected in a small cluster unless all of it may
/// be, so that is sent where a rule wants failover and names no share.
fn drop_full_ejection(fields: &mut Map<String, Value>) {
    if fields.get("max_ejection_percent") == Some(&json!(100)) {
        fields.remove("max_ejection_percent");
    }
}

/// istiod routes requests on a port that their service does not have to a
/// cluster that does not exist.
fn lead_somewhere(fields: &mut Map<String, Value>, clusters: &BTreeSet<String>) {
    let Some(Value::String(name)) = fields.get_mut("name") else {
        return;
    };
    let parts: Vec<&str> = name.split('|').collect();
    let ["outbound", _, subset, host] = parts.as_slice() else {
        return;
    };
    let behind = format!("|{subset}|{host}");
    let mut same = clusters.iter().filter(|known| known.ends_with(&behind));
    if let (Some(only), None) = (same.next(), same.next()) {
        only.clone_into(name);
    }
}

/// Envoy takes the chain whose match is the most exact one, in whatever order
/// they stand.
fn sort_chains(listener: &mut Value) {
    if let Some(Value::Array(chains)) = listener.get_mut("filter_chains") {
        chains.sort_by_key(|chain| chain["filter_chain_match"].to_string());
    }
}
