//! Rules of one host become one per namespace and audience.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{DestinationRule, ExportTo, Namespace, TrafficPolicy};

/// Merges rules of one host pattern, namespace by namespace. Within one, rules
/// for chosen workloads come first; among the rules for all, a client uses the
/// last it may use.
pub(super) fn merge(
    mut rules: Vec<Arc<DestinationRule>>,
    default_export: &ExportTo,
) -> Vec<Arc<DestinationRule>> {
    // istiod: sortConfigBySelectorAndCreationTime. The oldest rule wins.
    rules.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut by_namespace: BTreeMap<Namespace, Vec<DestinationRule>> = BTreeMap::new();
    for rule in &rules {
        let mut rule = DestinationRule::clone(rule);
        rule.export_to = Some(audience(&rule, default_export));
        let merged = by_namespace.entry(rule.meta.namespace.clone()).or_default();
        add(merged, rule);
    }
    by_namespace.into_values().flatten().map(Arc::new).collect()
}

fn order(rule: &DestinationRule) -> impl Ord {
    (rule.workload_selector.is_empty(), rule.meta.clone())
}

/// A rule for chosen workloads stays in its namespace, whatever it says.
fn audience(rule: &DestinationRule, default_export: &ExportTo) -> ExportTo {
    let own = &rule.meta.namespace;
    if !rule.workload_selector.is_empty() {
        return ExportTo::Namespaces([own.clone()].into());
    }
    let given = rule.export_to.clone();
    given.unwrap_or_else(|| default_export.in_namespace(own))
}

/// Adds `rule` to what is merged so far in its namespace
/// (istiod: `mergeDestinationRule`).
fn add(merged: &mut Vec<DestinationRule>, rule: DestinationRule) {
    let same_audience = |other: &DestinationRule| {
        other.workload_selector == rule.workload_selector && other.export_to == rule.export_to
    };
    let known = merged.iter().any(same_audience);
    let first_narrower = merged
        .iter()
        .position(|other| other.workload_selector.is_empty() && narrower(other, &rule));
    for other in merged.iter_mut() {
        if same_audience(other) || adopts(other, &rule) {
            absorb(other, &rule);
        }
    }
    if known {
        return;
    }
    // Clients of the narrower rule use that one, so it stands behind. istiod
    // drops the wider one, and the rest of its audience has no rule at all.
    merged.insert(first_narrower.unwrap_or(merged.len()), rule);
}

/// Whether `other` takes in a rule of a wider audience: one for all workloads,
/// or one of the same.
fn adopts(other: &DestinationRule, rule: &DestinationRule) -> bool {
    let workloads =
        rule.workload_selector.is_empty() || rule.workload_selector == other.workload_selector;
    workloads && (narrower(other, rule) || other.export_to == rule.export_to)
}

/// istiod compares the lists as written, in which `*` is no superset.
fn narrower(narrow: &DestinationRule, wide: &DestinationRule) -> bool {
    match (&narrow.export_to, &wide.export_to) {
        (Some(ExportTo::Namespaces(narrow)), Some(ExportTo::Namespaces(wide))) => {
            narrow != wide && narrow.is_subset(wide)
        }
        _ => false,
    }
}

/// Adds the subsets that `rule` does not have yet, and the policy where it has
/// none.
fn absorb(rule: &mut DestinationRule, newer: &DestinationRule) {
    for subset in &newer.subsets {
        if rule.subset(&subset.name).is_none() {
            rule.subsets.push(subset.clone());
        }
    }
    if rule.policy == TrafficPolicy::default() {
        rule.policy = newer.policy.clone();
    }
}
