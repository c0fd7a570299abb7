use super::*;
use crate::manifest::{MCS_GROUP, MCS_VERSION, yaml_documents, yaml_to_json};

fn definitions() -> Vec<Value> {
    let yaml = crds(&Kind::all((MCS_GROUP, MCS_VERSION)));
    let read = yaml_documents(&yaml).map(|d| yaml_to_json(d.text).expect("YAML"));
    read.collect()
}

/// Walks every schema of an object in `value`.
fn objects<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    if value["type"] == "object" && value.get("additionalProperties").is_none() {
        found.push(value);
    }
    let children = value.as_object().into_iter().flatten().map(|(_, v)| v);
    for child in children.chain(value.as_array().into_iter().flatten()) {
        objects(child, found);
    }
}

#[test]
fn every_custom_kind_is_defined_once() {
    let definitions = definitions();
    let names: Vec<_> = definitions
        .iter()
        .map(|d| d["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), 11);
    for kind in Kind::all((MCS_GROUP, MCS_VERSION)).iter().filter(|k| k.crd) {
        let name = format!("{}.{}", kind.plural, kind.group);
        assert_eq!(
            names.iter().filter(|n| **n == Some(&name)).count(),
            1,
            "{name}"
        );
    }
}

#[test]
fn one_version_is_stored_and_all_are_served() {
    for definition in definitions() {
        let versions = definition["spec"]["versions"].as_array().expect("versions");
        let stored = versions.iter().filter(|v| v["storage"] == true);
        assert_eq!(stored.count(), 1);
        assert!(versions.iter().all(|v| v["served"] == true));
    }
}

#[test]
fn unknown_fields_pass_everywhere() {
    for definition in definitions() {
        let mut found = Vec::new();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        objects(schema, &mut found);
        assert!(!found.is_empty());
        for object in found {
            assert_eq!(
                object["x-kubernetes-preserve-unknown-fields"], true,
                "{object}"
            );
        }
    }
}

#[test]
fn definitions_are_the_same_each_time() {
    let kinds = Kind::all((MCS_GROUP, MCS_VERSION));
    assert_eq!(crds(&kinds), crds(&kinds));
}
