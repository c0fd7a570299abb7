//! The project's own definitions of the custom kinds it reads, for API servers
//! that have none (`isthmus crds`).
//!
//! Schemas say what isthmus reads; what it does not read passes unchecked, so
//! an object made for istio's own definitions is accepted here.

mod schema;

use serde_json::{Value, json};

use super::kind::Kind;
use schema::{object, open};

/// A kind that is defined but not read yet.
struct Unread {
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    name: &'static str,
    scope: &'static str,
}

/// Configurations that go along with the kinds that are read.
const UNREAD: &[Unread] = &[Unread {
    group: "gateway.networking.k8s.io",
    versions: &["v1", "v1beta1"],
    plural: "gatewayclasses",
    name: "GatewayClass",
    scope: "Cluster",
}];

const SHORT_NAMES: &[(&str, &str)] = &[
    ("destinationrules.networking.istio.io", "dr"),
    ("gatewayclasses.gateway.networking.k8s.io", "gc"),
    ("gateways.gateway.networking.k8s.io", "gtw"),
    ("gateways.networking.istio.io", "gw"),
    ("peerauthentications.security.istio.io", "pa"),
    ("serviceentries.networking.istio.io", "se"),
    ("serviceexports.multicluster.x-k8s.io", "svcex"),
    ("serviceimports.multicluster.x-k8s.io", "svcim"),
    ("virtualservices.networking.istio.io", "vs"),
    ("workloadentries.networking.istio.io", "we"),
];

/// Names of one definition.
struct Names<'n> {
    group: &'n str,
    versions: Vec<&'n str>,
    plural: &'n str,
    kind: &'n str,
    scope: &'n str,
}

/// `CustomResourceDefinition`s, as YAML documents, of all custom kinds among
/// `kinds` and of those that go along with them.
///
/// ```
/// use isthmus::manifest::{Kind, MCS_GROUP, MCS_VERSION, crds};
/// let yaml = crds(&Kind::all((MCS_GROUP, MCS_VERSION)));
/// assert!(yaml.contains("name: destinationrules.networking.istio.io"));
/// ```
pub fn crds(kinds: &[Kind]) -> String {
    let read = kinds.iter().filter(|kind| kind.crd).map(|kind| {
        let names = Names {
            group: &kind.group,
            versions: kind.versions.iter().map(|v| &**v).collect(),
            plural: kind.plural,
            kind: kind.name,
            scope: "Namespaced",
        };
        definition(&names, &schema::spec(kind.object))
    });
    let unread = UNREAD.iter().map(|kind| {
        let names = Names {
            group: kind.group,
            versions: kind.versions.to_vec(),
            plural: kind.plural,
            kind: kind.name,
            scope: kind.scope,
        };
        definition(&names, &open())
    });
    read.chain(unread).map(|crd| document(&crd)).collect()
}

fn definition(names: &Names<'_>, spec: &Value) -> Value {
    let Names {
        group,
        plural,
        kind,
        scope,
        ..
    } = names;
    let schema = object([("spec", spec.clone()), ("status", open())]);
    // The order of preference; objects are stored in the first.
    let versions = names.versions.iter().enumerate().map(|(i, version)| {
        json!({
            "name": version,
            "served": true,
            "storage": i == 0,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        })
    });
    let name = format!("{plural}.{group}");
    let short = SHORT_NAMES.iter().filter(|(of, _)| *of == name);
    let short: Vec<&str> = short.map(|(_, short)| *short).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations(group)},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
                "shortNames": short,
                "categories": categories(group),
            },
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

/// An API server refuses groups of `k8s.io` without a word on who approved them.
fn annotations(group: &str) -> Value {
    if group.ends_with(".k8s.io") {
        return json!({"api-approved.kubernetes.io": "unapproved, isthmus's own schema"});
    }
    json!({})
}

/// istio's: `kubectl get istio-io` shows all of them.
fn categories(group: &str) -> Vec<String> {
    if group.ends_with(".istio.io") {
        return vec!["istio-io".to_owned(), group.replace('.', "-")];
    }
    Vec::new()
}

fn document(crd: &Value) -> String {
    // Text, numbers, lists and maps with text keys always have a YAML form.
    format!("---\n{}", yaml_serde::to_string(crd).unwrap_or_default())
}

#[cfg(test)]
mod tests;
