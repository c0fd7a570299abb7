//! Which statistics Envoy keeps. All of them would cost more memory than the
//! configuration of a large mesh.

use serde_json::{Value, json};

use crate::config::AgentConfig;

/// What readiness and draining are computed from, and what operators of istio
/// look at.
const PREFIXES: [&str; 8] = [
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "reporter=",
    "component",
    "istio",
];
const SUFFIXES: [&str; 5] = [
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
    "downstream_cx_active",
];
const REGEXPS: [&str; 1] = [r"vhost\..*\.route\..*"];

/// Annotations that choose more.
const ANNOTATIONS: [&str; 3] = [
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/statsInclusionRegexps",
];

pub(super) fn config(config: &AgentConfig) -> Value {
    let [by_prefix, by_suffix, by_regexp] = ANNOTATIONS;
    let chosen = &config.envoy.stats;
    let prefixes = listed(config, by_prefix, &chosen.prefixes, &PREFIXES);
    let suffixes = listed(config, by_suffix, &chosen.suffixes, &SUFFIXES);
    let regexps = listed(config, by_regexp, &chosen.regexps, &REGEXPS);
    let patterns: Vec<Value> = prefixes
        .into_iter()
        .map(|text| json!({"prefix": text}))
        .chain(suffixes.into_iter().map(|text| json!({"suffix": text})))
        .chain(
            regexps
                .into_iter()
                .map(|text| json!({"safe_regex": {"regex": text}})),
        )
        .collect();
    json!({
        "use_all_default_tags": false,
        "stats_tags": tags(),
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    })
}

/// An annotation wins over `proxyStatsMatcher`; what is needed is always there.
fn listed(
    config: &AgentConfig,
    annotation: &str,
    chosen: &[String],
    needed: &[&str],
) -> Vec<String> {
    let annotations = config.node.metadata.get("ANNOTATIONS");
    let text = annotations.and_then(|all| all.get(annotation)?.as_str());
    let more: Vec<String> = match text {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None => chosen.to_vec(),
    };
    let with_addresses = more.into_iter().flat_map(|pattern| {
        let ips = config.node.ips.iter();
        if pattern.contains("{pod_ip}") {
            ips.map(|ip| pattern.replace("{pod_ip}", &ip.to_string()))
                .collect()
        } else {
            vec![pattern]
        }
    });
    let needed = needed.iter().map(|text| (*text).to_owned());
    with_addresses
        .filter(|p| !p.is_empty())
        .chain(needed)
        .collect()
}

/// The first group is cut out of the name, the second is the tag. Names of
/// clusters and connection managers have dots in them; istiod ends them with
/// `;`.
fn tags() -> Value {
    json!([
        {"tag_name": "cluster_name", "regex": r"^cluster\.((.+);\.)"},
        {"tag_name": "http_conn_manager_prefix", "regex": r"^http\.((.+);\.)"},
        {"tag_name": "tcp_prefix", "regex": r"^tcp\.((.+)\.)\w+$"},
        {
            "tag_name": "listener_address",
            "regex": r"^listener\.(((?:\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F_]+\])_\d+)\.)",
        },
        {"tag_name": "response_code", "regex": r"_rq(_(\d{3}))$"},
        {"tag_name": "response_code_class", "regex": r"_rq(_(\dxx))$"},
    ])
}
