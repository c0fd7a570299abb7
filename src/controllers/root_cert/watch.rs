//! What is watched of a cluster for its root certificates.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;

use super::{
    KEY,
    plan::{Digest, Name, NamespaceState, Plan},
};
use crate::manifest::Raw;
use crate::model::Labels;
use crate::registry::kube::{Closed, Progress, Resource, Sink};

/// A [`Plan`] that two watches fill and one writer empties. The wake-up carries
/// no data, so nothing queues up.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub plan: Mutex<Plan>,
    pub changed: Notify,
}

/// All namespaces: names and labels.
pub(super) fn namespaces() -> Resource {
    Resource {
        version: "v1".to_owned(),
        plural: "namespaces".to_owned(),
        metadata_only: true,
        ..Resource::default()
    }
}

/// The `ConfigMap`s of one name, in all namespaces or in one.
pub(super) fn config_maps(name: &str, namespace: Option<&str>) -> Resource {
    Resource {
        version: "v1".to_owned(),
        plural: "configmaps".to_owned(),
        namespace: namespace.map(str::to_owned),
        fields: Some(format!("metadata.name={name}")),
        ..Resource::default()
    }
}

#[derive(Deserialize)]
struct Namespace<'a> {
    #[serde(borrow)]
    metadata: NamespaceMeta<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceMeta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    #[serde(borrow, default)]
    deletion_timestamp: Option<Cow<'a, str>>,
}

fn namespace(json: &str) -> Option<(Name, NamespaceState)> {
    let read: Namespace<'_> = serde_json::from_str(json).ok()?;
    let labels = read.metadata.labels.unwrap_or_default();
    let labels = labels.iter().map(|(k, v)| (&**k, &**v));
    let state = NamespaceState {
        labels: labels.collect::<Labels>(),
        ending: read.metadata.deletion_timestamp.is_some(),
    };
    Some((Arc::from(&*read.metadata.name), state))
}

#[derive(Deserialize)]
struct ConfigMap<'a> {
    #[serde(borrow)]
    metadata: ConfigMapMeta<'a>,
    #[serde(borrow, default)]
    data: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Deserialize)]
struct ConfigMapMeta<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
}

/// The namespace of a `ConfigMap` and the root certificate in it; empty where
/// it has none.
pub(super) fn root_of(json: &str) -> Option<(Name, String)> {
    let read: ConfigMap<'_> = serde_json::from_str(json).ok()?;
    let mut data = read.data.unwrap_or_default();
    let text = data.remove(KEY).unwrap_or_default().into_owned();
    Some((Arc::from(&*read.metadata.namespace), text))
}

/// Keeps the namespaces of a plan.
pub(super) struct NamespaceSink {
    pub shared: Arc<Shared>,
    pub progress: Progress,
    pub list: BTreeMap<Name, NamespaceState>,
}

impl Sink for NamespaceSink {
    fn begin(&mut self) {
        self.list.clear();
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.list.extend(namespace(object.json()));
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        let list = std::mem::take(&mut self.list);
        self.progress.listed(list.len());
        self.shared.plan.lock().list_namespaces(list);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        if let Some((name, state)) = namespace(object.json()) {
            self.shared.plan.lock().set_namespace(name, state);
        }
    }

    fn deleted(&mut self, object: Raw<'_>) {
        if let Some((name, _)) = namespace(object.json()) {
            self.shared.plan.lock().remove_namespace(&name);
        }
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        self.shared.changed.notify_one();
        Ok(())
    }
}

/// Keeps what the `ConfigMap`s of a plan hold.
pub(super) struct ConfigMapSink {
    pub shared: Arc<Shared>,
    pub progress: Progress,
    pub list: BTreeMap<Name, Digest>,
}

impl Sink for ConfigMapSink {
    fn begin(&mut self) {
        self.list.clear();
    }

    fn listed(&mut self, object: Raw<'_>) {
        let read = root_of(object.json()).map(|(name, text)| (name, Digest::of(&text)));
        self.list.extend(read);
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        let list = std::mem::take(&mut self.list);
        self.progress.listed(list.len());
        self.shared.plan.lock().list_held(list);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        if let Some((name, text)) = root_of(object.json()) {
            self.shared.plan.lock().set_held(name, Digest::of(&text));
        }
    }

    fn deleted(&mut self, object: Raw<'_>) {
        if let Some((name, _)) = root_of(object.json()) {
            self.shared.plan.lock().remove_held(&name);
        }
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        self.shared.changed.notify_one();
        Ok(())
    }
}
