//! Whether a remote cluster is this control plane's to write to.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use tokio::sync::watch;

use crate::manifest::Raw;
use crate::model::ClusterId;
use crate::registry::kube::{Closed, Progress, Resource, Sink};

/// On the system namespace of a remote cluster: the config clusters of the
/// control planes that it takes its identities from.
const ANNOTATION: &str = "topology.istio.io/controlPlaneClusters";

#[derive(Deserialize)]
struct Namespace<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    annotations: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// Whether the namespace names `own`, or `*` (istiod: `checkShouldLead`, which
/// compares without trimming).
fn names(json: &str, own: &str) -> bool {
    let read = serde_json::from_str::<Namespace<'_>>(json).ok();
    let annotations = read
        .and_then(|n| n.metadata.annotations)
        .unwrap_or_default();
    let list = annotations.get(ANNOTATION).map_or("", |list| &**list);
    list.split(',')
        .any(|cluster| cluster == "*" || cluster == own)
}

/// The system namespace, by name.
pub(super) fn system_namespace(name: &str) -> Resource {
    Resource {
        version: "v1".to_owned(),
        plural: "namespaces".to_owned(),
        fields: Some(format!("metadata.name={name}")),
        metadata_only: true,
        ..Resource::default()
    }
}

/// Tells whether the namespace names the control plane, and when that changes
/// (istiod looks once, when the cluster is added).
pub(super) struct ServedSink {
    pub own: ClusterId,
    pub progress: Progress,
    pub served: watch::Sender<bool>,
    pub found: bool,
}

impl ServedSink {
    fn set(&self, served: bool) {
        self.served.send_if_modified(|now| {
            let differs = *now != served;
            *now = served;
            differs
        });
    }
}

impl Sink for ServedSink {
    fn begin(&mut self) {
        self.found = false;
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.found = names(object.json(), &self.own);
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        self.progress.listed(1);
        self.set(self.found);
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.set(names(object.json(), &self.own));
    }

    fn deleted(&mut self, _object: Raw<'_>) {
        self.set(false);
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_control_planes() {
        let annotated = |list: &str| {
            format!(r#"{{"metadata": {{"annotations": {{"{ANNOTATION}": "{list}"}}}}}}"#)
        };
        for (list, expected) in [
            ("c1", true),
            ("c2,c1", true),
            ("*", true),
            ("c2", false),
            ("c10", false),
            ("", false),
        ] {
            assert_eq!(names(&annotated(list), "c1"), expected, "{list:?}");
        }
        assert!(!names(r#"{"metadata": {}}"#, "c1"));
        assert!(!names(r#"{"metadata": {"annotations": null}}"#, "c1"));
    }
}
