//! `DestinationRule`s.

use serde::Deserialize;

use super::{Selector, export_to, full_name, traffic_policy::Policy};
use crate::manifest::{
    Problem, Scope,
    json::{List, Map, Text},
    meta::{Manifest, from_json, labels},
};
use crate::model::{DestinationRule, ExportTo, ObjectKind, Subset, TrafficPolicy};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    host: Text<'a>,
    export_to: List<Text<'a>>,
    workload_selector: Option<Selector<'a>>,
    traffic_policy: Option<Policy<'a>>,
    subsets: List<SubsetSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct SubsetSpec<'a> {
    name: Text<'a>,
    labels: Map<'a, Text<'a>>,
    traffic_policy: Option<Policy<'a>>,
}

/// Reads a `DestinationRule`.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<DestinationRule, Problem> {
    let Manifest { metadata, spec, .. }: Manifest<'_, Spec<'_>> = from_json(json)?;
    let meta = metadata.object(ObjectKind::DestinationRule);
    let Some(host) = spec.host.filled() else {
        return Err(Problem::new(
            "spec.host",
            "is missing; name the host the rule is for",
        ));
    };
    let selector = spec.workload_selector.as_ref();
    let export_to = match selector {
        // istiod: a rule for some workloads stays in its namespace.
        Some(_) => Some(ExportTo::Namespaces([meta.namespace.clone()].into())),
        None => export_to(&spec.export_to, &meta.namespace),
    };
    Ok(DestinationRule {
        host: full_name(host, &meta.namespace, &scope.defaults.domain),
        export_to,
        workload_selector: selector.map(Selector::match_labels).unwrap_or_default(),
        policy: policy(spec.traffic_policy.as_ref(), "spec.trafficPolicy", scope)?,
        subsets: subsets(&spec.subsets, scope)?,
        meta,
    })
}

fn policy(
    policy: Option<&Policy<'_>>,
    field: &str,
    scope: &mut Scope<'_>,
) -> Result<TrafficPolicy, Problem> {
    let read = policy.map(|policy| policy.read(field, scope)).transpose()?;
    Ok(read.unwrap_or_default())
}

fn subsets(specs: &[SubsetSpec<'_>], scope: &mut Scope<'_>) -> Result<Vec<Subset>, Problem> {
    let read = specs.iter().enumerate().map(|(i, spec)| {
        let field = format!("spec.subsets[{i}]");
        if spec.name.is_empty() {
            let field = format!("{field}.name");
            return Err(Problem::new(field, "is missing; a subset needs a name"));
        }
        Ok(Subset {
            name: spec.name.arc(),
            labels: labels(&spec.labels),
            policy: policy(
                spec.traffic_policy.as_ref(),
                &format!("{field}.trafficPolicy"),
                scope,
            )?,
        })
    });
    read.collect()
}
