//! `WorkloadEntry`s, and the endpoints of a `ServiceEntry`, which have the
//! same form.

use std::sync::Arc;

use serde::Deserialize;

use crate::manifest::{
    Problem, Scope,
    json::{Int, List, Map, Text},
    meta::{Condition, GROUP, HEALTH_CHECKED, Manifest, Meta, from_json, labels},
};
use crate::model::{NetworkId, ObjectKind, WorkloadEntry, WorkloadTarget};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Target<'a> {
    address: Text<'a>,
    ports: Map<'a, Int>,
    labels: Map<'a, Text<'a>>,
    network: Text<'a>,
    locality: Text<'a>,
    weight: Int,
    service_account: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    conditions: List<Condition<'a>>,
}

/// Reads a `WorkloadEntry`.
pub(in crate::manifest) fn read(
    json: &[u8],
    scope: &mut Scope<'_>,
) -> Result<WorkloadEntry, Problem> {
    let Manifest {
        metadata,
        spec,
        status,
    }: Manifest<'_, Option<Target<'_>>, Status<'_>> = from_json(json)?;
    let Some(spec) = spec else {
        return Err(Problem::new(
            "spec",
            "is missing; give it an address or a network",
        ));
    };
    Ok(WorkloadEntry {
        meta: metadata.object(ObjectKind::WorkloadEntry),
        labels: metadata.labels(),
        target: spec.read("spec", scope),
        healthy: is_healthy(&metadata, &status),
        group: Arc::from(metadata.annotation(GROUP).unwrap_or_default()),
    })
}

/// istio: one whose health is checked is unhealthy until its agent says
/// otherwise.
fn is_healthy(meta: &Meta<'_>, status: &Status<'_>) -> bool {
    let checked = meta.annotation(HEALTH_CHECKED);
    if !checked.is_some_and(is_true) {
        return true;
    }
    status.conditions.iter().any(|c| c.holds("Healthy"))
}

/// What Go's `strconv.ParseBool` takes for true.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

impl Target<'_> {
    /// The target; a port that is none is left out.
    pub(super) fn read(&self, field: &str, scope: &mut Scope<'_>) -> WorkloadTarget {
        let ports = self.ports.iter().map(|(name, number)| {
            let field = || format!("{field}.ports.{}", &**name);
            let port = number
                .port()
                .ok_or_else(|| Problem::port(field(), number.0));
            port.map(|port| (name.arc(), port))
        });
        let mut ports: Vec<(Arc<str>, u16)> = scope.keep(ports);
        ports.sort();
        WorkloadTarget {
            address: self.address.arc(),
            ports,
            labels: labels(&self.labels),
            network: NetworkId::from_text(&self.network),
            locality: self.locality.arc(),
            weight: self.weight.positive().unwrap_or_default(),
            service_account: self.service_account.arc(),
        }
    }
}
